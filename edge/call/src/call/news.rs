//! What goes into a call and what comes out of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_dialogue::action::{Endpoint, Waiting};
use trunkline_model::Disposition;
use trunkline_wire::{CallRecord, ProgressStage, TurnRecord, TurnRequest, VoiceV1};

use crate::expected::Numbers;

/// Time limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallConfig {
    /// Speech that begins so soon after the first sound of an answer is no reaction to it.
    pub reaction: Duration,
    /// A question to the cloud is repeated after this long.
    pub ask_again_after: Duration,
    /// How long after the customer's last sound the cloud may answer; then the box takes the turn itself …
    pub cloud_budget: Duration,
    /// … but the cloud has at least this long for the words …
    pub cloud_patience: Duration,
    /// … and this long when it did not answer the turn before either.
    pub silent_patience: Duration,
    /// After this long without any answer, counted from the end of the turn, the call is given up.
    pub cloud_lost_after: Duration,
    /// The longest conversation.
    pub longest: Duration,
    /// How long a hang-up may take on the line.
    pub hangup_within: Duration,
}

impl Default for CallConfig {
    fn default() -> Self {
        Self {
            reaction: Duration::from_millis(350),
            ask_again_after: Duration::from_millis(700),
            cloud_budget: Duration::from_millis(900),
            cloud_patience: Duration::from_millis(600),
            silent_patience: Duration::from_millis(150),
            cloud_lost_after: Duration::from_millis(3_500),
            longest: Duration::from_secs(15 * 60),
            hangup_within: Duration::from_secs(5),
        }
    }
}

/// News from the line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The far end rings.
    Ringing,
    /// Somebody answered, and sound flows.
    Answered,
    /// The call never came about.
    Failed {
        /// What kind of failure.
        disposition: Disposition,
        /// The line's words.
        cause: String,
        /// The final SIP status.
        sip_code: Option<u16>,
    },
    /// The customer hung up.
    PeerHungUp,
    /// Our hang-up is done.
    Ended,
}

/// News from the media thread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Media {
    /// The first packet of a prompt was sent at `at`; all of it lasts `length`.
    Started {
        /// Which prompt.
        say: u32,
        /// When.
        at: Instant,
        /// How long it plays.
        length: Duration,
    },
    /// The last packet of a prompt was sent.
    Finished {
        /// Which prompt.
        say: u32,
    },
    /// A prompt was paused or stopped after this share of it, 0 to 1.
    Held {
        /// Which prompt.
        say: u32,
        /// How much of it was sent.
        heard: f32,
    },
    /// A prompt could not be spoken, or not to its end.
    Failed {
        /// Which prompt.
        say: u32,
        /// How much of it was sent, 0 to 1.
        heard: f32,
    },
    /// Nothing was received for too long.
    Lost,
}

/// News from the ear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hearing {
    /// The customer began to speak.
    SpeechStarted,
    /// The customer paused; recognition of what was said may begin.
    Paused {
        /// Number of the pause.
        pause: u32,
        /// When the last sound of speech arrived.
        speech_end: Instant,
    },
    /// The customer went on: everything guessed from that pause is void.
    Resumed {
        /// Number of the pause.
        pause: u32,
    },
    /// It was no speech.
    FalseStart,
    /// The silence was long enough: the turn is over.
    TurnEnded {
        /// Number of the pause.
        pause: u32,
        /// When the first sound of speech arrived.
        speech_start: Instant,
        /// When the last sound of speech arrived.
        speech_end: Instant,
    },
}

/// What was recognised; an empty text means that there were no words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// The words.
    pub text: String,
    /// Mean log-probability per token.
    pub logprob: f32,
    /// How it was spoken, where that is listened to.
    pub voice: Option<VoiceV1>,
}

/// What the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Fetch the script, check it, and render its prompts; then [`Call::handle_prepared`].
    Prepare,
    /// Dial.
    Dial,
    /// Answer the call that rings here; [`Line::Answered`] follows.
    Answer,
    /// Hang up or give up, in whatever state the line is.
    HangUp,
    /// Speak; one prompt at a time.
    Play {
        /// Number of the prompt.
        say: u32,
        /// The words.
        text: String,
    },
    /// Make ready to speak this: a guess, it may never be played.
    Warm {
        /// The words.
        text: String,
        /// It follows what the customer has just said; what does not has until the next turn.
        soon: bool,
    },
    /// Hold the prompt at once; answered by [`Media::Held`].
    Pause,
    /// Go on with the held prompt.
    Resume,
    /// Give the prompt up.
    Stop,
    /// How long the expected answer is.
    Expect {
        /// For the end-of-turn decision.
        endpoint: Endpoint,
    },
    /// Forget the turn in the ear: it is not used.
    ForgetTurn,
    /// Recognise what was said up to this pause.
    Recognize {
        /// Number of the pause.
        pause: u32,
        /// Whole answers that may well be given, the node's hot words among them.
        phrases: Arc<[String]>,
        /// What kind of number is asked for, if any.
        numbers: Option<Numbers>,
        /// What people say while they listen, if the robot was speaking and this was short.
        asides: Arc<[String]>,
    },
    /// The recognition of this pause is of no use any more.
    DropRecognition {
        /// Number of the pause.
        pause: u32,
    },
    /// Whether what was said so far is something that was expected here.
    Matched {
        /// Number of the pause.
        pause: u32,
        /// Expected or not.
        matched: bool,
    },
    /// Ask the cloud.
    Ask(TurnRequest),
    /// The cloud is late: answer the turn on the box, with what it understands; then
    /// [`Call::handle_own_reply`].
    TakeTurn(TurnRequest),
    /// Hand the call to a person; [`Call::handle_transfer`] tells how it goes.
    Transfer {
        /// Where to, as the script names it.
        to: String,
        /// How long to let it ring; the call gives up by itself then, unless [`super::TransferNews::Within`] says more.
        timeout: Duration,
        /// What the customer hears while the box calls the person.
        waiting: Waiting,
        /// What the person hears alone before the two are joined. Personal data.
        summary: String,
    },
    /// The hand-over is given up, or the customer is gone: whoever is being called for it is let go.
    TransferOver,
    /// Tell the cloud how far the call is.
    Progress(ProgressStage, String),
    /// A turn, complete or with more to come: the newest of a number replaces the older.
    Turn(TurnRecord),
    /// Stop media and close the recording; then [`Call::handle_filed`].
    File,
    /// The call is over; file this record.
    Ended(Box<CallRecord>),
}
