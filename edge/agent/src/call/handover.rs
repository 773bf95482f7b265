//! Handing the call to a person: the network is asked first where the configuration says so (REFER), and where it
//! refuses, we call the persons and join one ([`trunkline_line::HandOver`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};
use trunkline_audio::music::hold_music;
use trunkline_audio::tone::{Country, ToneGenerator, ringback};
use trunkline_call::{TransferFailure, TransferNews, TransferWay};
use trunkline_dialogue::action::Waiting;
use trunkline_line::trunks::{CallRequest, LineNews, LineOrder, PlacedCall, Standing, Target, Trunks};
use trunkline_line::{Clip, Command, HandOver, HandOverNews, HandOverRequest, TraceName};
use trunkline_sip::hunt::{ACCEPT, DECLINE, HuntPlan};
use trunkline_sip::message::Uri;
use trunkline_sip::{Failure, FailureCause, TransferStep};
use trunkline_speech::synth::{Locale, SpeechRequest};

use super::desks::{Desk, Person};
use super::phone::resolve;
use super::{Driver, Message};
use crate::speech::sentences;

/// The number of what a waiting customer hears among prompts: no prompt of a script gets so far.
pub(super) const RINGBACK: u32 = u32::MAX;
/// What a player holds.
const MAX_CLIPS: usize = 30;
/// Sound between two sayings of the script's words for waiting.
const BETWEEN: Duration = Duration::from_secs(12);
/// Level of the music.
const MUSIC_DBFS: f32 = -24.0;
/// The signalling may take a little longer than the telephones ring.
const SLACK: Duration = Duration::from_secs(3);

/// A hand-over under way.
pub(super) struct Handover {
    /// Tells it from earlier ones of the call.
    number: u32,
    desk: Desk,
    timeout: Duration,
    waiting: Waiting,
    summary: String,
    /// Our own calls to the persons, where the network does not make one.
    pub(super) line: Option<HandOver>,
    /// Who is called, as the configuration names them.
    names: Vec<String>,
    joined: bool,
}

/// Sound that was made ready for a hand-over.
#[derive(Debug)]
pub(crate) enum Ready {
    /// For the customer who waits.
    Waiting(Vec<Clip>),
    /// For the person; `None` when it could not be spoken.
    Summary(Option<Vec<Clip>>),
}

impl Driver {
    /// Does what the script's hand-over asks for.
    pub(super) async fn transfer(&mut self, to: &str, timeout: Duration, waiting: Waiting, summary: String) {
        let now = Instant::now();
        let Some(desk) = self.shared.config.transfer.get(to).cloned() else {
            warn!(to, "Nobody to hand over to: [transfer] does not know this name");
            return self.not_handed_over(now, TransferFailure::Refused, None);
        };
        self.handovers += 1;
        let asked = desk.refers.then(|| self.address_of(&desk)).flatten();
        self.handover = Some(Handover {
            number: self.handovers,
            desk,
            timeout,
            waiting,
            summary,
            line: None,
            names: Vec::new(),
            joined: false,
        });
        info!(to, "Handing over");
        match asked {
            Some(uri) => {
                let order = LineOrder::Refer(Box::new(uri));
                if !self.line.as_ref().is_some_and(|line| line.order(order)) {
                    return self.not_handed_over(now, TransferFailure::Refused, None);
                }
                self.core.handle_transfer(now, TransferNews::Trying(TransferWay::Refer));
            }
            None => self.call_persons(None).await,
        }
    }

    /// Returns the address that the network is asked to call.
    fn address_of(&self, desk: &Desk) -> Option<Uri> {
        match &desk.persons.first()?.person {
            Person::Address(uri) => Some((**uri).clone()),
            Person::Number(number) => {
                let setups = self.shared.trunks.setup(&self.trunk).or_else(|| self.shared.trunks.first());
                let domain = setups.map(|setup| setup.domain()).unwrap_or_default();
                Uri::sip(number, &domain).ok()
            }
            Person::Phone(_) => None,
        }
    }

    /// The network told how its call to the person goes.
    pub(super) async fn on_transfer(&mut self, now: Instant, step: TransferStep) {
        if self.taking {
            return self.on_taking(now, step);
        }
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
                self.call_persons(code).await;
            }
        }
    }

    /// The network told whether it joins customer and person without us, who talk through us meanwhile.
    fn on_taking(&mut self, now: Instant, step: TransferStep) {
        match step {
            TransferStep::Accepted | TransferStep::Progress(_) => {}
            TransferStep::Done(code) => {
                self.taking = false;
                info!("The network joined customer and person; the box leaves");
                self.core.handle_transfer(now, TransferNews::Done { sip_code: Some(code) });
            }
            TransferStep::Failed(code) | TransferStep::Refused(code) => {
                self.taking = false;
                info!(code, "The network does not take the call over; the box stays in it");
                self.core.handle_transfer(now, TransferNews::NotTaken);
            }
        }
    }

    /// Asks the network to join the customer and this person by itself, where trunk and desk want that.
    fn ask_to_take_over(&mut self, now: Instant, person: Option<Standing>) {
        let trunk = self.shared.trunks.setup(&self.trunk).is_some_and(|setup| setup.takes_over);
        let stays = self.handover.as_ref().is_none_or(|handover| handover.desk.stays());
        // A supervisor would be left behind in a call that is not there any more.
        let stays = stays || self.supervision.is_some();
        let (Some(person), true, false) = (person, trunk, stays) else { return };
        if self.line.as_ref().is_some_and(|line| line.order(LineOrder::TakeOver(person))) {
            self.taking = true;
            self.core.handle_transfer(now, TransferNews::Taking);
        }
    }

    /// Calls the persons ourselves; `refused` is what the network said, if it was asked.
    async fn call_persons(&mut self, refused: Option<u16>) {
        let now = Instant::now();
        let Some(desk) = self.handover.as_ref().map(|handover| handover.desk.clone()) else { return };
        let shared = Arc::clone(&self.shared);
        let (mut persons, mut names, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for named in &desk.persons {
            let targets = match targets(&shared.trunks, &named.person).await {
                Ok(targets) => targets,
                Err(reason) => {
                    warn!("Cannot call a person: {reason}");
                    Vec::new()
                }
            };
            places.push((persons.len()..persons.len() + targets.len()).collect());
            for target in targets {
                persons.push(CallRequest { target, from: None, ring: Duration::from_secs(180) });
                names.push(named.name.clone());
            }
        }
        if persons.is_empty() {
            let phones = desk.persons.iter().any(|named| matches!(named.person, Person::Phone(_)));
            let reason = if phones { TransferFailure::NoAnswer } else { TransferFailure::Refused };
            return self.not_handed_over(now, reason, refused);
        }
        let (number, text) = (self.handovers, self.words_for_person(&desk));
        let Some(handover) = &mut self.handover else { return };
        let plan = desk.plan(places, handover.timeout, !text.is_empty());
        let ringing = plan.longest_ringing() + SLACK;
        let lost_after = self.shared.config.rtp.lost_after;
        let trace = Some(TraceName { call: self.command.call.to_string(), leg: "person" });
        let request = HandOverRequest { persons, plan, lost_after, trace };
        handover.line = Some(HandOver::begin(self.shared.trunks.clone(), self.shared.media.clone(), request));
        handover.names = names;
        let waiting = handover.waiting.clone();
        self.core.handle_transfer(now, TransferNews::Trying(TransferWay::Bridge));
        self.core.handle_transfer(now, TransferNews::Within(ringing));
        self.make_ready(number, &waiting, &text, ringing);
    }

    /// Returns what the person hears before she is joined; empty for nothing.
    fn words_for_person(&self, desk: &Desk) -> String {
        let summary = self.handover.as_ref().filter(|_| desk.announces()).map(|h| h.summary.as_str());
        let keys = match self.voice.as_ref().map(|voice| voice.locale()) {
            Some(Locale::ZhCn) => format!("按{ACCEPT}接听，按{DECLINE}拒接。"),
            Some(Locale::EnUs | Locale::EnGb) | None => {
                format!("Press {ACCEPT} to take the call, or {DECLINE} to turn it away.")
            }
        };
        let parts = [summary.unwrap_or_default(), if desk.confirm { keys.as_str() } else { "" }];
        parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ")
    }

    /// Has what customer and person hear made ready; [`Message::HandOverSound`] brings it.
    fn make_ready(&self, number: u32, waiting: &Waiting, summary: &str, longest: Duration) {
        let Some(voice) = &self.voice else { return };
        let requests =
            |text: &str| -> Vec<_> { sentences(text).iter().map(|piece| voice.request(piece)).collect() };
        let (wait, summary) = (requests(&waiting.say), requests(summary));
        let (music, country) = (waiting.music, self.shared.config.country.country());
        let prompts = Arc::clone(&self.shared.speech.prompts);
        let spoken = move |requests: &[SpeechRequest]| -> Result<Vec<Clip>, _> {
            requests
                .iter()
                .map(|request| prompts.get_or_render(request).map(|prompt| Arc::clone(&prompt.samples)))
                .collect()
        };
        let own = self.own.clone();
        tokio::task::spawn_blocking(move || {
            let tell = |ready| drop(own.send(Message::HandOverSound { number, ready }));
            let say =
                spoken(&wait).inspect_err(|error| warn!(%error, "The words for waiting are not spoken"));
            tell(Ready::Waiting(waiting_sound(&say.unwrap_or_default(), music, country, longest)));
            if !summary.is_empty() {
                let summary = spoken(&summary).inspect_err(|error| warn!(%error, "No summary is spoken"));
                tell(Ready::Summary(summary.ok()));
            }
        });
    }

    /// Takes in sound that was made ready.
    pub(super) fn on_ready(&mut self, number: u32, ready: Ready) {
        let Some(handover) = self.handover.as_ref().filter(|handover| handover.number == number) else {
            return;
        };
        match ready {
            Ready::Summary(clips) => {
                if let Some(line) = &handover.line {
                    line.give_summary(clips);
                }
            }
            Ready::Waiting(_) if handover.joined => {}
            Ready::Waiting(clips) => {
                let last = clips.len().saturating_sub(1);
                for (at, clip) in clips.into_iter().enumerate() {
                    let (say, last) = (RINGBACK, at == last);
                    self.order(if at == 0 {
                        Command::Play { say, clip, last }
                    } else {
                        Command::Append { say, clip, last }
                    });
                }
            }
        }
    }

    /// Our calls to the persons got on.
    pub(super) fn on_hand_over(&mut self, news: Option<HandOverNews>) {
        let now = Instant::now();
        let Some(handover) = &mut self.handover else { return };
        match news {
            Some(HandOverNews::Answered { .. }) => {
                let time = HuntPlan::longest_asking() + handover.desk.time_after_refusal() + SLACK;
                self.core.handle_transfer(now, TransferNews::Within(time));
            }
            Some(HandOverNews::Joined { who, bridge, standing }) => {
                handover.joined = true;
                let who = handover.names.get(who).cloned().unwrap_or_default();
                self.order(Command::Bridge(bridge));
                info!("The person is joined to the call");
                self.core.handle_transfer(now, TransferNews::Joined { who });
                self.ask_to_take_over(now, standing);
            }
            Some(HandOverNews::Digit(digit)) => {
                if let Some(order) = self.line.as_ref().and_then(|line| line.press(digit)) {
                    self.order(order);
                }
            }
            Some(HandOverNews::Failed(failure)) => {
                let (reason, code) = (reason_of_failure(&failure), failure.sip_code);
                self.not_handed_over(now, reason, code);
            }
            Some(HandOverNews::HungUp) | None => {
                let joined = handover.joined;
                self.let_go();
                if joined {
                    self.core.handle_transfer(now, TransferNews::PersonHungUp);
                }
            }
        }
    }

    /// Passes a key of the customer on to the person.
    pub(super) fn pass_digit(&mut self, digit: char) {
        if let Some(line) = self.handover.as_ref().and_then(|handover| handover.line.as_ref()) {
            line.pass_digit(digit);
        }
    }

    /// Lets go of whoever is being called or was joined.
    pub(super) fn let_go(&mut self) {
        let Some(handover) = self.handover.take() else { return };
        if handover.line.is_some() {
            // Every call to a person is hung up by being dropped.
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

/// Returns where a person is called: at all of these at the same time.
pub(super) async fn targets(trunks: &Trunks, person: &Person) -> Result<Vec<Target>, String> {
    match person {
        Person::Number(number) => Ok(vec![Target::Number(number.clone())]),
        Person::Address(uri) => {
            let next_hop = resolve(&format!("{}:{}", uri.host, uri.port.unwrap_or(5060))).await?;
            Ok(vec![Target::Direct(uri.clone(), next_hop)])
        }
        Person::Phone(user) => {
            let found = trunks.phone(user).await;
            if found.is_empty() {
                info!(user, "No telephone is registered");
            }
            Ok(found)
        }
    }
}

/// Puts together what a customer hears while persons are called: the words, and ringback or music between, until
/// `longest` or as much as a player holds.
fn waiting_sound(say: &[Clip], music: bool, country: Country, longest: Duration) -> Vec<Clip> {
    let longest = longest.as_secs().clamp(1, 600) as usize * 8_000;
    // Without words the tone goes on in one piece, so that its cadence is not broken.
    let between = if say.is_empty() && !music { longest } else { BETWEEN.as_secs() as usize * 8_000 };
    let between: Clip = if music {
        hold_music(between, MUSIC_DBFS, 1).into()
    } else {
        let mut tone = vec![0; between];
        ToneGenerator::new(8_000, ringback(country)).fill(&mut tone);
        tone.into()
    };
    let round = say.iter().map(|clip| clip.len()).sum::<usize>() + between.len();
    let rounds = longest.div_ceil(round.max(1)).min(MAX_CLIPS / (say.len() + 1)).max(1);
    let one = || say.iter().chain([&between]).cloned();
    (0..rounds).flat_map(|_| one()).take(MAX_CLIPS).collect()
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

/// Waits for news of our calls to persons, if there are any.
pub(super) async fn hand_over_news(handover: Option<&mut Handover>) -> Option<HandOverNews> {
    match handover.and_then(|handover| handover.line.as_mut()) {
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
    fn what_the_network_said_of_the_person_is_told_apart() {
        assert_eq!(reason_of_code(486), TransferFailure::Busy);
        assert_eq!(reason_of_code(480), TransferFailure::NoAnswer);
        assert_eq!(reason_of_code(603), TransferFailure::Declined);
        assert_eq!(reason_of_code(503), TransferFailure::Refused);
    }

    #[test]
    fn what_the_customer_hears_lasts_until_somebody_is_there() {
        let say: [Clip; 2] = [vec![1i16; 8_000].into(), vec![2i16; 4_000].into()];
        let clips = waiting_sound(&say, true, Country::Cn, Duration::from_secs(50));
        assert_eq!(clips[0][0], 1);
        assert_eq!(clips[1][0], 2);
        let samples = |clips: &[Clip]| clips.iter().map(|clip| clip.len()).sum::<usize>();
        assert!(samples(&clips) >= 50 * 8_000, "{}", samples(&clips));
        assert!(clips.len() <= MAX_CLIPS);
        let plain = waiting_sound(&[], false, Country::Cn, Duration::from_secs(20));
        assert!(samples(&plain) >= 20 * 8_000);
        assert!(plain[0].iter().any(|sample| sample.unsigned_abs() > 500), "ringback is heard");
        let long = waiting_sound(&say, false, Country::Us, Duration::from_secs(3_600));
        assert!(long.len() <= MAX_CLIPS, "{}", long.len());
    }
}
