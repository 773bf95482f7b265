//! A supervisor's telephone on a call: whom the configuration allows, her call, and who hears her.

use serde::Deserialize;
use tracing::{info, warn};
use trunkline_line::trunks::CallRequest;
use trunkline_line::{Command, HandOver, HandOverNews, HandOverRequest, SuperviseMode};
use trunkline_sip::hunt::HuntPlan;
use trunkline_wire::{ProgressStage, SuperviseCommand, SuperviseWish};

use super::Driver;
use super::desks::Named;
use super::handover::targets;

/// How long a supervisor's telephone rings.
const RING: std::time::Duration = std::time::Duration::from_secs(30);
/// The keys by which she changes the mode herself.
const KEYS: [(char, SuperviseMode); 3] =
    [('4', SuperviseMode::Listen), ('5', SuperviseMode::Whisper), ('6', SuperviseMode::Barge)];
/// Supervisors that one box knows at most.
const MAX_SUPERVISORS: usize = 32;

/// `[supervise]`: who may listen to calls. Nobody else is called for it, whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Supervisors(Vec<Named>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Numbers, telephones of the office, addresses.
    to: Vec<String>,
}

impl<'de> Deserialize<'de> for Supervisors {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;

        let table = Table::deserialize(deserializer)?;
        if !(1..=MAX_SUPERVISORS).contains(&table.to.len()) {
            let said = format!("to names {} supervisors: write 1 to {MAX_SUPERVISORS}", table.to.len());
            return Err(D::Error::custom(said));
        }
        let named: Result<_, String> = table.to.iter().map(|text| Named::parse(text)).collect();
        named.map(Self).map_err(D::Error::custom)
    }
}

impl Supervisors {
    /// Settles which of them are telephones that register here.
    ///
    /// # Errors
    /// When a telephone is named that there is not; the text names it.
    pub(crate) fn settle<'a>(&mut self, users: impl Iterator<Item = &'a str>) -> Result<(), String> {
        let users: std::collections::BTreeSet<&str> = users.collect();
        for named in &mut self.0 {
            named.settle(&users).map_err(|why| format!("[supervise] {why}"))?;
        }
        Ok(())
    }

    /// Returns the supervisor of that name, or the first one where none is asked for.
    fn get(&self, name: Option<&str>) -> Option<&Named> {
        match name {
            Some(name) => self.0.iter().find(|named| named.name == name),
            None => self.0.first(),
        }
    }
}

/// A supervisor on a call, or on her way to it.
pub(super) struct Supervision {
    who: String,
    mode: SuperviseMode,
    pub(super) line: HandOver,
    joined: bool,
}

impl Driver {
    /// Does what somebody outside wishes; each wish once.
    pub(super) async fn supervise(&mut self, command: SuperviseCommand) {
        if command.wish <= self.supervise_wish {
            return;
        }
        self.supervise_wish = command.wish;
        let mode = match command.mode {
            SuperviseWish::Listen => SuperviseMode::Listen,
            SuperviseWish::Whisper => SuperviseMode::Whisper,
            SuperviseWish::Barge => SuperviseMode::Barge,
            SuperviseWish::Leave => return self.end_supervision("supervisor left"),
        };
        if !self.answered || self.attached.is_none() {
            return self.no_supervisor("the call is not answered");
        }
        if self.taking {
            return self.no_supervisor("the network is taking the call over");
        }
        let Some(named) = self.shared.config.supervise.get(command.to.as_deref()).cloned() else {
            warn!("A supervisor was asked for whom [supervise] does not name");
            return self.no_supervisor("not among [supervise] to");
        };
        if let Some(supervision) = self.supervision.as_ref().filter(|there| there.who == named.name) {
            let joined = supervision.joined;
            self.change_supervision(mode, joined);
            return;
        }
        self.end_supervision("supervisor left");
        self.call_supervisor(&named, mode).await;
    }

    async fn call_supervisor(&mut self, named: &Named, mode: SuperviseMode) {
        let places = match targets(&self.shared.trunks, &named.person).await {
            Ok(places) if places.is_empty() => return self.no_supervisor("no telephone is registered"),
            Ok(places) => places,
            Err(reason) => {
                warn!("Cannot call a supervisor: {reason}");
                return self.no_supervisor("she cannot be called");
            }
        };
        let steps = vec![(0..places.len()).collect()];
        let call = |target| CallRequest { target, from: None, ring: RING };
        let request = HandOverRequest {
            persons: places.into_iter().map(call).collect(),
            plan: HuntPlan { steps, each: RING, announce: false, confirm: false },
            lost_after: self.shared.config.rtp.lost_after,
            trace: Some(self.trace_name("supervisor")),
        };
        info!(?mode, "A supervisor is called");
        let line = HandOver::begin(self.shared.trunks.clone(), self.shared.media.clone(), request);
        self.supervision = Some(Supervision { who: named.name.clone(), mode, line, joined: false });
    }

    /// The call to the supervisor got on.
    pub(super) fn on_supervisor(&mut self, news: Option<HandOverNews>) {
        let Some(supervision) = &mut self.supervision else { return };
        match news {
            Some(HandOverNews::Answered { .. }) => {}
            Some(HandOverNews::Joined { bridge, .. }) => {
                supervision.joined = true;
                let mode = supervision.mode;
                self.order(Command::Supervise(bridge, mode));
                self.tell_supervision(mode);
            }
            Some(HandOverNews::Digit(digit)) => {
                if let Some((_, mode)) = KEYS.iter().find(|(key, _)| *key == digit) {
                    self.change_supervision(*mode, true);
                }
            }
            Some(HandOverNews::Failed(failure)) => {
                self.supervision = None;
                info!("No supervisor: {failure}");
                self.no_supervisor(&failure.cause.to_string());
            }
            Some(HandOverNews::HungUp) | None => self.end_supervision("supervisor left"),
        }
    }

    fn change_supervision(&mut self, mode: SuperviseMode, joined: bool) {
        let Some(supervision) = &mut self.supervision else { return };
        if supervision.mode == mode {
            return;
        }
        supervision.mode = mode;
        if joined {
            self.order(Command::SuperviseAs(mode));
            self.tell_supervision(mode);
        }
    }

    /// Lets the supervisor go, if there is one.
    pub(super) fn end_supervision(&mut self, why: &str) {
        let Some(supervision) = self.supervision.take() else { return };
        if supervision.joined {
            self.order(Command::Unsupervise);
            self.progress(ProgressStage::Answered, why.to_owned());
        }
        info!(why, "The supervisor is off the call");
    }

    fn tell_supervision(&self, mode: SuperviseMode) {
        let said = match mode {
            SuperviseMode::Listen => "supervisor listens",
            SuperviseMode::Whisper => "supervisor whispers",
            SuperviseMode::Barge => "supervisor speaks to both",
        };
        info!(?mode, "A supervisor is on the call");
        self.progress(ProgressStage::Answered, said.to_owned());
    }

    fn no_supervisor(&self, why: &str) {
        self.progress(ProgressStage::Answered, format!("no supervisor: {why}"));
    }
}

/// Waits for news of the call to a supervisor, if there is one.
pub(super) async fn supervisor_news(supervision: Option<&mut Supervision>) -> Option<HandOverNews> {
    match supervision {
        Some(supervision) => supervision.line.news.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::desks::Person;

    fn read(text: &str) -> Result<Supervisors, String> {
        let mut read: Supervisors = toml::from_str(text).map_err(|error| error.to_string())?;
        read.settle(["201"].into_iter())?;
        Ok(read)
    }

    #[test]
    fn only_who_is_named_is_ever_called_to_listen() {
        let named = read("to = [\"201\", \"8009\", \"sip:boss@192.0.2.7\"]").unwrap();
        assert_eq!(named.get(None).unwrap().person, Person::Phone("201".to_owned()));
        assert_eq!(named.get(Some("8009")).unwrap().person, Person::Number("8009".to_owned()));
        assert!(named.get(Some("sip:boss@192.0.2.7")).is_some());
        for other in
            ["8008", "+8613800138000", "sip:boss@192.0.2.8", "sip:boss@192.0.2.7:5080", "phone:202", ""]
        {
            assert!(named.get(Some(other)).is_none(), "{other}");
        }
        assert!(Supervisors::default().get(None).is_none(), "without [supervise] nobody listens");
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, said) in [
            ("to = []", "names 0 supervisors"),
            ("to = [\"boss\"]", "boss"),
            ("to = [\"phone:300\"]", "`300`"),
            ("to = [\"201\"]\nmode = \"barge\"", "mode"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
