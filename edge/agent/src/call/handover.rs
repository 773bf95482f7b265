//! Handing the call to a person: the network is asked first (REFER), and where it refuses, we call the person and
//! join the two calls ourselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tracing::{info, warn};
use trunkline_audio::tone::{ToneGenerator, ringback};
use trunkline_call::{TransferFailure, TransferNews, TransferWay};
use trunkline_line::trunks::{CallRequest, LineNews, LineOrder, PlacedCall, Target};
use trunkline_line::{Attached, Bridge, Command, MediaNews, MediaTerms, TraceName};
use trunkline_sip::message::Uri;
use trunkline_sip::{Failure, FailureCause, TransferStep};

use super::Driver;
use super::phone::resolve;

/// The number of the ringback tone among prompts: no prompt of a script gets so far.
pub(super) const RINGBACK: u32 = u32::MAX;

/// `[transfer]`: whom the names in scripts mean.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Persons(BTreeMap<String, Person>);

impl Persons {
    fn get(&self, name: &str) -> Option<&Person> {
        self.0.get(name)
    }
}

/// Somebody to hand calls to: a number on the trunk, or a `sip:` address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
enum Person {
    Number(String),
    Address(Box<Uri>),
}

impl TryFrom<String> for Person {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with("sip:") || text.starts_with("sips:") {
            let uri = Uri::parse(&text).map_err(|error| format!("`{text}`: {error}"))?;
            return Ok(Self::Address(Box::new(uri)));
        }
        let digits = text.strip_prefix('+').unwrap_or(&text);
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '*' | '#')) {
            return Err(format!("`{text}` is neither a number nor a sip: address"));
        }
        Ok(Self::Number(text))
    }
}

/// A hand-over under way.
pub(super) struct Handover {
    person: Person,
    timeout: Duration,
    /// Our own call to the person, where the network does not make one.
    pub(super) leg: Option<PlacedCall>,
    sound: Option<Attached>,
    joined: bool,
}

impl Driver {
    /// Does what the script's hand-over asks for.
    pub(super) fn transfer(&mut self, to: &str, timeout: Duration) {
        let now = Instant::now();
        let Some(person) = self.shared.config.transfer.get(to).cloned() else {
            warn!(to, "Nobody to hand over to: [transfer] does not know this name");
            return self.not_handed_over(now, TransferFailure::Refused, None);
        };
        let uri = match &person {
            Person::Address(uri) => Ok((**uri).clone()),
            Person::Number(number) => {
                let setups = self.shared.trunks.setup(&self.trunk).or_else(|| self.shared.trunks.first());
                let domain = setups.map(|setup| setup.domain()).unwrap_or_default();
                Uri::sip(number, &domain)
            }
        };
        self.handover = Some(Handover { person, timeout, leg: None, sound: None, joined: false });
        let asked = match uri {
            Ok(uri) => self.line.as_ref().is_some_and(|line| line.order(LineOrder::Refer(Box::new(uri)))),
            Err(_) => false,
        };
        if !asked {
            return self.not_handed_over(now, TransferFailure::Refused, None);
        }
        info!(to, "Handing over");
        self.core.handle_transfer(now, TransferNews::Trying(TransferWay::Refer));
    }

    /// The network told how its call to the person goes.
    pub(super) async fn on_transfer(&mut self, now: Instant, step: TransferStep) {
        match step {
            TransferStep::Accepted | TransferStep::Progress(_) => {}
            TransferStep::Done(code) => {
                self.core.handle_transfer(now, TransferNews::Done { sip_code: Some(code) });
            }
            TransferStep::Failed(code) => {
                let reason = code.map_or(TransferFailure::Refused, reason_of_code);
                self.not_handed_over(now, reason, code);
            }
            TransferStep::Refused(code) => {
                info!(code, "The network does not hand over; the box calls and joins");
                if let Err(reason) = self.call_person().await {
                    warn!("Cannot call the person: {reason}");
                    self.not_handed_over(now, TransferFailure::Refused, code);
                }
            }
        }
    }

    async fn call_person(&mut self) -> Result<(), String> {
        let Some(handover) = &mut self.handover else { return Ok(()) };
        let target = match &handover.person {
            Person::Number(number) => Target::Number(number.clone()),
            Person::Address(uri) => {
                let port = uri.port.unwrap_or(5060);
                let host = uri.host.to_string();
                let next_hop = resolve(&format!("{host}:{port}")).await?;
                Target::Direct(uri.clone(), next_hop)
            }
        };
        let request = CallRequest { target, from: None, ring: handover.timeout };
        let trace = TraceName { call: self.command.call.to_string(), leg: "person" };
        handover.leg = Some(self.shared.trunks.place_as(request, trace));
        self.core.handle_transfer(Instant::now(), TransferNews::Trying(TransferWay::Bridge));
        // The customer hears that somebody is being called.
        let seconds = handover.timeout.as_secs().clamp(1, 60) as usize;
        let mut tone = vec![0; seconds * 8_000];
        ToneGenerator::new(8_000, ringback(self.shared.config.country.country())).fill(&mut tone);
        self.order(Command::Play { say: RINGBACK, clip: tone.into(), last: true });
        Ok(())
    }

    /// Our call to the person got on.
    pub(super) fn on_leg(&mut self, news: Option<LineNews>) {
        let now = Instant::now();
        let lost_after = self.shared.config.rtp.lost_after;
        let Some(handover) = &mut self.handover else { return };
        match news {
            Some(LineNews::Ringing { early }) => {
                if let Some((media, Some(sockets))) = early {
                    // Their early media are not joined: the customer hears our ringback until somebody is there.
                    let config = MediaTerms::agreed(&media, lost_after);
                    handover.sound = Some(self.shared.media.attach(sockets, config, None, None));
                }
            }
            Some(LineNews::Answered { media, sockets }) => {
                let config = MediaTerms::agreed(&media, lost_after);
                match (sockets, &mut handover.sound) {
                    (Some(sockets), sound) => {
                        *sound = Some(self.shared.media.attach(sockets, config, None, None));
                    }
                    (None, Some(sound)) => drop(sound.commands.push(Command::Change(config))),
                    (None, None) => {}
                }
                let (ours, theirs) = Bridge::pair();
                if let Some(sound) = &mut handover.sound {
                    let _ = sound.commands.push(Command::Bridge(theirs));
                }
                handover.joined = true;
                self.order(Command::Bridge(ours));
                info!("The person is joined to the call");
                self.core.handle_transfer(now, TransferNews::Joined);
            }
            Some(LineNews::MediaChanged(media)) => {
                if let Some(sound) = &mut handover.sound {
                    let _ = sound.commands.push(Command::Change(MediaTerms::agreed(&media, lost_after)));
                }
            }
            Some(LineNews::Failed(failure)) => {
                let (reason, code) = (reason_of_failure(&failure), failure.sip_code);
                self.not_handed_over(now, reason, code);
            }
            Some(LineNews::PeerHungUp(_) | LineNews::Ended) | None => {
                let joined = handover.joined;
                self.let_go();
                if joined {
                    self.core.handle_transfer(now, TransferNews::PersonHungUp);
                }
            }
            Some(
                LineNews::Dialing { .. }
                | LineNews::TrunkFailed(_)
                | LineNews::Digit(_)
                | LineNews::Transfer(_),
            ) => {}
        }
    }

    /// Passes keys that the person presses on, and takes in that the person's sound is gone.
    pub(super) fn on_leg_media(&mut self) {
        let mut digits = Vec::new();
        let mut lost = false;
        if let Some(sound) = self.handover.as_mut().and_then(|handover| handover.sound.as_mut()) {
            while sound.frames.pop().is_ok() {}
            while let Ok(news) = sound.news.pop() {
                match news {
                    MediaNews::Digit(digit) => digits.push(digit),
                    MediaNews::Lost => lost = true,
                    MediaNews::Started { .. }
                    | MediaNews::Finished { .. }
                    | MediaNews::Held { .. }
                    | MediaNews::Closed(_) => {}
                }
            }
        }
        for digit in digits {
            self.order(Command::Digit(digit));
        }
        if lost {
            self.let_go();
            self.core.handle_transfer(Instant::now(), TransferNews::PersonHungUp);
        }
    }

    /// Passes a key of the customer on to the person.
    pub(super) fn pass_digit(&mut self, digit: char) {
        if let Some(handover) = self.handover.as_mut().filter(|handover| handover.joined)
            && let Some(sound) = &mut handover.sound
        {
            let _ = sound.commands.push(Command::Digit(digit));
        }
    }

    /// Lets go of whoever is being called or was joined.
    pub(super) fn let_go(&mut self) {
        let Some(handover) = self.handover.take() else { return };
        if handover.leg.is_some() {
            // The leg is hung up by being dropped, its sound ends with its rings.
            self.order(Command::Unbridge);
            self.order(Command::Stop);
        }
    }

    fn not_handed_over(&mut self, now: Instant, reason: TransferFailure, sip_code: Option<u16>) {
        self.let_go();
        info!(reason = reason.as_str(), sip_code, "Not handed over");
        self.core.handle_transfer(now, TransferNews::Failed { reason, sip_code });
    }
}

fn reason_of_code(code: u16) -> TransferFailure {
    match code {
        486 | 600 => TransferFailure::Busy,
        408 | 480 | 487 => TransferFailure::NoAnswer,
        603 | 607 | 608 => TransferFailure::Declined,
        _ => TransferFailure::Refused,
    }
}

fn reason_of_failure(failure: &Failure) -> TransferFailure {
    match failure.cause {
        FailureCause::Busy => TransferFailure::Busy,
        FailureCause::NoAnswer => TransferFailure::NoAnswer,
        FailureCause::Declined => TransferFailure::Declined,
        FailureCause::NotFound
        | FailureCause::Unauthorized
        | FailureCause::Forbidden
        | FailureCause::NotAcceptable
        | FailureCause::Unreachable
        | FailureCause::ServerError
        | FailureCause::Cancelled
        | FailureCause::Protocol => TransferFailure::Refused,
    }
}

/// Waits for news of a call that may not be there.
pub(super) async fn news_of(line: Option<&mut PlacedCall>) -> Option<LineNews> {
    match line {
        Some(line) => line.news.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits until the media thread has something, if there is sound.
pub(super) async fn woken(notify: Option<&Arc<tokio::sync::Notify>>) {
    match notify {
        Some(notify) => notify.notified().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_a_number_or_an_address_and_nothing_else() {
        let read = |text: &str| Person::try_from(text.to_owned());
        assert_eq!(read("8001").unwrap(), Person::Number("8001".to_owned()));
        assert!(matches!(read("sip:desk@192.0.2.7:5070").unwrap(), Person::Address(_)));
        for wrong in ["", "+", "desk", "80 01", "sip:"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_the_network_said_of_the_person_is_told_apart() {
        assert_eq!(reason_of_code(486), TransferFailure::Busy);
        assert_eq!(reason_of_code(480), TransferFailure::NoAnswer);
        assert_eq!(reason_of_code(603), TransferFailure::Declined);
        assert_eq!(reason_of_code(503), TransferFailure::Refused);
    }
}
