//! What goes into the interpreter and what comes out of it.

use std::collections::BTreeMap;
use std::time::Duration;

use trunkline_model::Outcome;

/// What happened on the call since the last step.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The customer answered; the robot speaks first.
    Answered,
    /// The customer finished a turn, and it was understood like this.
    Heard(Heard),
    /// Nothing was said within the node's time.
    NoInput,
    /// The hand-over that the last step asked for did not come about.
    TransferFailed {
        /// Why, in the field's words: `busy`, `no_answer`, `declined`, `refused`.
        reason: String,
    },
    /// Somebody outside the call wants a person to take it over.
    HandOver {
        /// Where to, by a name that the box's configuration knows; as the script has it when absent.
        to: Option<String>,
    },
    /// The customer hung up. The step that takes it yields the outcome and nothing to say.
    HungUp,
}

/// One turn of the customer, recognised and understood.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Heard {
    /// What was recognised; empty when there was sound but no words.
    pub text: String,
    /// The intent decided on, if any.
    pub intent: Option<String>,
    /// How sure, 0 to 1.
    pub score: f32,
    /// Values found in the text.
    pub entities: Vec<Entity>,
    /// The mood of the words, from -1, furious, over 0, even or unknown, to 1, delighted.
    pub sentiment: f32,
    /// Excitement of the voice against the customer's own before, -1 to 1; `None` where it is not listened to, or
    /// not known yet.
    pub arousal: Option<f32>,
}

impl Heard {
    /// Joins the mood of the words with the excitement of the voice.
    pub fn temper(&self) -> Temper {
        Temper::of(self.sentiment, self.arousal)
    }
}

/// What words and voice come to together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Temper {
    /// Nothing unusual.
    #[default]
    Calm,
    /// The voice is more excited than this customer's usually is, and the words do not say why; or both are a
    /// little out of humour.
    Tense,
    /// Angry words, however spoken; or unfriendly ones in an excited voice.
    Angry,
}

impl Temper {
    /// Joins the mood of the words ([`Heard::sentiment`]) with the excitement of the voice ([`Heard::arousal`]).
    ///
    /// A voice alone is never angry: whoever is delighted, in a hurry or on a noisy street is loud as well.
    pub fn of(sentiment: f32, arousal: Option<f32>) -> Self {
        let arousal = arousal.unwrap_or(0.0);
        let excited = arousal >= EXCITED;
        if sentiment <= ANGRY_WORDS || (sentiment <= UNFRIENDLY_WORDS && excited) {
            Self::Angry
        } else if (sentiment < FRIENDLY_WORDS && excited)
            || (sentiment <= UNFRIENDLY_WORDS && arousal >= EXCITED / 2.0)
        {
            Self::Tense
        } else {
            Self::Calm
        }
    }

    /// Returns the name used in records: `calm`, `tense` or `angry`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Tense => "tense",
            Self::Angry => "angry",
        }
    }
}

/// Words that are angry however they are spoken.
const ANGRY_WORDS: f32 = -0.5;
/// Words that are angry in an excited voice.
const UNFRIENDLY_WORDS: f32 = -0.2;
/// Words that make an excited voice a glad one.
const FRIENDLY_WORDS: f32 = 0.3;
/// Arousal that calm speakers do not come to: `trunkctl speech bench prosody`.
const EXCITED: f32 = 0.5;

/// A value found in what the customer said.
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// `date`, `time`, `money`, `number`, `digits`, `phone`, `percent`, or an entity of the script.
    pub kind: String,
    /// The value in one normal form: ISO 8601 for dates and times, minor units aside a plain decimal
    /// for money and numbers.
    pub value: String,
    /// The words it came from.
    pub text: String,
}

/// What the box shall do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Speak.
    Say(Say),
    /// Then listen.
    Listen(Listen),
    /// Hand the call to a person.
    Transfer {
        /// Where to, as the script names it; the box's configuration knows the number.
        to: String,
        /// How long to let it ring.
        timeout: Duration,
        /// What the customer hears meanwhile.
        waiting: Waiting,
        /// What the person hears alone before the two are joined; empty when the script does not say. Personal data.
        whisper: String,
    },
    /// Put the customer on the list of those who are not called again.
    Suppress,
    /// Hang up once everything was said.
    End {
        /// What came of the call.
        outcome: Outcome,
    },
}

/// What a customer hears while a person is called for her.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Said again and again; empty for nothing.
    pub say: String,
    /// Music between, and not ringback.
    pub music: bool,
}

/// One piece of speech.
#[derive(Clone, Debug, PartialEq)]
pub struct Say {
    /// The node that speaks.
    pub node: String,
    /// The words, variables filled in.
    pub text: String,
    /// What the customer's voice does to it.
    pub barge_in: BargeIn,
    /// A language model may find better words than `text`, which is said when it does not.
    pub generate: Option<Generate>,
}

/// What a language model is asked for. The interpreter only passes it on: `text` of the [`Say`] stands until
/// somebody with a model has found, filtered and put other words in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generate {
    /// What it is told, values filled in. Personal data.
    pub prompt: String,
    /// How long the call can wait for it.
    pub budget: Duration,
    /// The most characters that may be spoken.
    pub max_chars: usize,
    /// What is spoken in front of its words; may be empty.
    pub lead_in: String,
}

/// Whether the customer may break into a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BargeIn {
    /// At any time.
    Allowed,
    /// Not at all.
    Off,
    /// Once the first `chars` characters of the text were played (protected words).
    OffUntil {
        /// Characters, counted as Unicode scalar values.
        chars: usize,
    },
}

/// How to listen after the prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// How long silence may last before [`Event::NoInput`].
    pub no_input: Duration,
    /// How much silence ends a turn.
    pub endpoint: Endpoint,
    /// The intents that make sense here, for the recogniser and the understanding.
    pub expect: Vec<String>,
    /// Words that may well be said here.
    pub hot_words: Vec<String>,
    /// Kinds of the values that are asked for and not known yet, such as `money`.
    pub values: Vec<String>,
}

/// How long an answer is likely to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Endpoint {
    /// Yes, no, one word.
    Short,
    /// A sentence.
    #[default]
    Normal,
    /// Addresses, explanations, digits with pauses between.
    Long,
}

/// The values a call starts with, by name.
pub type Variables = BTreeMap<String, String>;

/// One step's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<S> {
    /// The state to keep and to give to the next step.
    pub state: S,
    /// What to do now.
    pub actions: Vec<Action>,
    /// The node the dialogue stands at after the step.
    pub node: String,
    /// Why it went there, for the record: `intent yes`, `digression ask_robot`, `no input 1 of 2`.
    pub because: String,
}
