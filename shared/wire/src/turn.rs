//! One exchange about one turn: what was heard goes up, what to do comes down.
//!
//! A request carries the last confirmed state, so any replica of the cloud can answer it and a
//! repeated one gets the same answer. A draft is a guess while the customer may still be speaking;
//! nothing is stored for it and nothing outside the reply changes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_dialogue::action::{Action, BargeIn, Endpoint, Generate, Listen, Say, Waiting};
use trunkline_model::{CallId, Outcome};

/// Whether the customer is known to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnKind {
    /// A guess: compute, store nothing.
    Draft,
    /// The turn ended: store it.
    Final,
}

/// What happened on the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TurnEvent {
    /// The customer answered.
    Answered,
    /// The customer spoke.
    Heard {
        /// What was recognised.
        text: String,
        /// The recogniser's mean log-probability per token.
        #[serde(default)]
        logprob: f32,
        /// How they were spoken; absent where that is not listened to, or nothing can be said yet.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        voice: Option<VoiceV1>,
    },
    /// The customer was silent for the node's time.
    NoInput,
    /// The hand-over failed.
    TransferFailed {
        /// `busy`, `no_answer`, `declined`, `refused`.
        reason: String,
    },
    /// The customer hung up.
    HungUp,
}

/// How a turn was spoken, against the same customer's turns before in this call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Voice")]
pub struct VoiceV1 {
    /// Excitement, from -1, far calmer than usual, over 0, as usual, to 1.
    pub arousal: f32,
    /// Higher by so many semitones.
    #[serde(default)]
    pub pitch_st: f32,
    /// Louder by so many dB.
    #[serde(default)]
    pub loudness_db: f32,
    /// Faster, as a factor.
    #[serde(default)]
    pub pace: f32,
    /// More of it is pauses, as a share.
    #[serde(default)]
    pub pauses: f32,
}

/// `turn`: box to cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnRequest {
    /// The call.
    pub call: CallId,
    /// The turn within the call: 0 is the answer, 1 the first reaction, …
    pub turn: u32,
    /// Rises with each draft of the same turn.
    pub rev: u32,
    /// Draft or final.
    pub mode: TurnKind,
    /// What happened.
    pub event: TurnEvent,
    /// The last confirmed state; absent in turn 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<serde_json::Value>,
    /// Whole seconds since the customer answered.
    #[serde(default)]
    pub elapsed_s: u32,
    /// Milliseconds from now after which the answer is of no use.
    pub budget_ms: u32,
}

/// How the cloud understood a turn, with its evidence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Understanding")]
pub struct UnderstandingV1 {
    /// The intent decided on, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
    /// How sure, 0 to 1.
    #[serde(default)]
    pub score: f32,
    /// Which layer decided: `rule`, `encoder`, `floor`.
    #[serde(default)]
    pub layer: String,
    /// The best five with their scores.
    #[serde(default)]
    pub top: Vec<(String, f32)>,
    /// Values found.
    #[serde(default)]
    pub entities: Vec<EntityV1>,
    /// The mood of the words, from -1, furious, over 0, even or unknown, to 1, delighted.
    #[serde(default)]
    pub sentiment: f32,
    /// What words and voice come to together: `calm`, `tense` or `angry`; empty where the voice was not listened
    /// to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub temper: String,
}

/// A value found in the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Entity")]
pub struct EntityV1 {
    /// What it is, such as `date`.
    pub kind: String,
    /// In one normal form.
    pub value: String,
    /// The words it came from.
    #[serde(default)]
    pub text: String,
}

/// `turn/res`: cloud to box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnReply {
    /// The call.
    pub call: CallId,
    /// Copied from the request.
    pub turn: u32,
    /// Copied from the request.
    pub rev: u32,
    /// Copied from the request.
    pub mode: TurnKind,
    /// The whole next state.
    pub state: serde_json::Value,
    /// The node that the dialogue stands at.
    pub node: String,
    /// Why, for the record.
    #[serde(default)]
    pub because: String,
    /// What to do.
    pub actions: Vec<ActionV1>,
    /// How the text was understood.
    #[serde(default)]
    pub understanding: UnderstandingV1,
    /// Texts that may be said after the customer's next turn, with values that this call has found out, so that
    /// the box can render them meanwhile. Personal data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
    /// The budget that this answer was made for, copied from the request.
    #[serde(default)]
    pub budget_ms: u32,
    /// Microseconds that the cloud took.
    #[serde(default)]
    pub took_us: u64,
    /// Above 0: no answer yet, only that one is being made, which may take so many milliseconds more.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pending_ms: u32,
    /// Set instead of actions when the request could not be answered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(ms: &u32) -> bool {
    *ms == 0
}

/// [`Action`] on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum ActionV1 {
    /// Speak.
    Say {
        /// The node that speaks.
        node: String,
        /// The words.
        text: String,
        /// May the customer break in?
        #[serde(default)]
        barge_in: BargeInV1,
        /// What a language model could be asked for in place of `text`, which is good without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generate: Option<GenerateV1>,
    },
    /// Listen.
    Listen {
        /// Silence until no-input, in milliseconds.
        no_input_ms: u32,
        /// Length of the expected answer.
        #[serde(default)]
        endpoint: EndpointV1,
        /// Intents that make sense.
        #[serde(default)]
        expect: Vec<String>,
        /// Likely words.
        #[serde(default)]
        hot_words: Vec<String>,
        /// Kinds of the values that are asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        values: Vec<String>,
    },
    /// Hand over.
    Transfer {
        /// Where to.
        to: String,
        /// How long to ring, in milliseconds.
        timeout_ms: u32,
        /// What the customer hears again and again meanwhile.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        wait: String,
        /// Whether she hears music meanwhile, and not ringback.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        music: bool,
        /// What the person hears alone. Personal data.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        whisper: String,
    },
    /// Do not call this customer again.
    Suppress,
    /// Hang up.
    End {
        /// What came of the call.
        outcome: Outcome,
    },
    /// An action of a later version, which this build skips.
    #[serde(other)]
    Unknown,
}

/// [`Generate`] on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerateV1 {
    /// What the model is told. Personal data.
    pub prompt: String,
    /// How long the call can wait, in milliseconds.
    pub budget_ms: u32,
    /// The most characters that may be spoken.
    pub max_chars: usize,
    /// What is spoken in front of its words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lead_in: String,
}

/// [`BargeIn`] on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BargeInV1 {
    /// Any time.
    #[default]
    Allowed,
    /// Never.
    Off,
    /// After that many characters.
    OffUntil(usize),
}

/// [`Endpoint`] on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointV1 {
    /// One word.
    Short,
    /// A sentence.
    #[default]
    Normal,
    /// More.
    Long,
}

impl From<&Action> for ActionV1 {
    fn from(action: &Action) -> Self {
        match action {
            Action::Say(say) => Self::Say {
                node: say.node.clone(),
                text: say.text.clone(),
                barge_in: match say.barge_in {
                    BargeIn::Allowed => BargeInV1::Allowed,
                    BargeIn::Off => BargeInV1::Off,
                    BargeIn::OffUntil { chars } => BargeInV1::OffUntil(chars),
                },
                generate: say.generate.as_ref().map(|generate| GenerateV1 {
                    prompt: generate.prompt.clone(),
                    budget_ms: millis(generate.budget),
                    max_chars: generate.max_chars,
                    lead_in: generate.lead_in.clone(),
                }),
            },
            Action::Listen(listen) => Self::Listen {
                no_input_ms: millis(listen.no_input),
                endpoint: match listen.endpoint {
                    Endpoint::Short => EndpointV1::Short,
                    Endpoint::Normal => EndpointV1::Normal,
                    Endpoint::Long => EndpointV1::Long,
                },
                expect: listen.expect.clone(),
                hot_words: listen.hot_words.clone(),
                values: listen.values.clone(),
            },
            Action::Transfer { to, timeout, waiting, whisper } => Self::Transfer {
                to: to.clone(),
                timeout_ms: millis(*timeout),
                wait: waiting.say.clone(),
                music: waiting.music,
                whisper: whisper.clone(),
            },
            Action::Suppress => Self::Suppress,
            Action::End { outcome } => Self::End { outcome: outcome.clone() },
        }
    }
}

impl ActionV1 {
    /// Returns the core's action; `None` for one that this build does not know.
    pub fn into_action(self) -> Option<Action> {
        Some(match self {
            Self::Say { node, text, barge_in, generate } => Action::Say(Say {
                node,
                text,
                barge_in: match barge_in {
                    BargeInV1::Allowed => BargeIn::Allowed,
                    BargeInV1::Off => BargeIn::Off,
                    BargeInV1::OffUntil(chars) => BargeIn::OffUntil { chars },
                },
                generate: generate.map(|generate| Generate {
                    prompt: generate.prompt,
                    budget: Duration::from_millis(u64::from(generate.budget_ms)),
                    max_chars: generate.max_chars,
                    lead_in: generate.lead_in,
                }),
            }),
            Self::Listen { no_input_ms, endpoint, expect, hot_words, values } => Action::Listen(Listen {
                no_input: Duration::from_millis(u64::from(no_input_ms)),
                endpoint: match endpoint {
                    EndpointV1::Short => Endpoint::Short,
                    EndpointV1::Normal => Endpoint::Normal,
                    EndpointV1::Long => Endpoint::Long,
                },
                expect,
                hot_words,
                values,
            }),
            Self::Transfer { to, timeout_ms, wait, music, whisper } => Action::Transfer {
                to,
                timeout: Duration::from_millis(u64::from(timeout_ms)),
                waiting: Waiting { say: wait, music },
                whisper,
            },
            Self::Suppress => Action::Suppress,
            Self::End { outcome } => Action::End { outcome },
            Self::Unknown => return None,
        })
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_turn_reply_with_an_action_of_a_later_version() {
        let reply: TurnReply = serde_json::from_str(include_str!("golden/turn_reply.v1.json")).unwrap();
        let actions: Vec<_> = reply.actions.into_iter().filter_map(ActionV1::into_action).collect();
        assert_eq!(actions.len(), 2);
        assert!(matches!(&actions[0], Action::Say(say) if say.barge_in == BargeIn::OffUntil { chars: 12 }));
        assert_eq!(reply.understanding.intent.as_deref(), Some("yes"));
    }

    #[test]
    fn reads_how_a_turn_was_spoken_and_a_turn_of_a_box_that_does_not_listen_to_it() {
        let sent: TurnRequest = serde_json::from_str(include_str!("golden/turn_voice.v1.json")).unwrap();
        let TurnEvent::Heard { text, voice: Some(voice), .. } = sent.event else { panic!("{sent:?}") };
        assert_eq!((text.as_str(), voice.arousal, voice.pace), ("我已经说过了", 0.62, 1.3));
        let older = r#"{"kind":"heard","text":"好","logprob":-0.2}"#;
        let older: TurnEvent = serde_json::from_str(older).unwrap();
        assert!(matches!(&older, TurnEvent::Heard { voice: None, .. }));
        assert_eq!(serde_json::to_string(&older).unwrap(), r#"{"kind":"heard","text":"好","logprob":-0.2}"#);
    }

    #[test]
    fn an_action_survives_the_wire() {
        let action = Action::Listen(Listen {
            no_input: Duration::from_secs(4),
            endpoint: Endpoint::Short,
            expect: vec!["yes".into()],
            hot_words: vec![],
            values: vec!["money".into()],
        });
        let json = serde_json::to_string(&ActionV1::from(&action)).unwrap();
        let back: ActionV1 = serde_json::from_str(&json).unwrap();
        assert_eq!(back.into_action(), Some(action));
    }
}
