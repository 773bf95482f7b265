//! What box and cloud say to each other: MQTT 5 topics, the envelope and every message body.
//!
//! Readers ignore what they do not know. Each message has a golden file per version that nobody
//! edits: boxes in the field are older or newer than the cloud.
//!
//! **Invariant:** (box, seq) of an event is unique for ever; it de-duplicates, orders and shows gaps.
//! **Invariant:** nothing here is a core type; `dialogue`'s actions are converted, not serialised.
//!
//! Absent on purpose: sockets, brokers and storage.

mod dial;
mod envelope;
mod fleet;
mod inbound;
mod order;
mod record;
mod suppress;
pub mod topic;
mod turn;

pub use dial::{
    CallProgress, CancelCommand, DialCommand, DialReply, HANDED_OVER, HANDING_OVER, NOT_HANDED_OVER,
    ProgressStage, ScriptRef, SuperviseCommand, SuperviseWish, TransferCommand, UnknownWish,
};
pub use envelope::{Ack, Birth, Envelope, LineKind, TrunkReport, WIRE_VERSION, WireError, parse};
pub use fleet::{
    CallsReport, Desired, Drained, EnrolReply, EnrolRequest, Health, JobNext, NotApplied, RenewRequest,
    Reported,
};
pub use inbound::{CallInbound, NumberRoute, NumbersCommand, NumbersReply};
pub use order::{MAX_ORDER_FILE, MAX_ORDER_PART, OrderCommand, OrderFile, OrderFileHad, OrderReport};
pub use record::{
    AnswererRecord, AttemptRecord, CallRecord, CustomerTurn, DecisionRecord, LatencyRecord, MediaRecord,
    RecordingRecord, RobotTurn, ToneRecord, TransferRecord, TurnRecord, WordRecord,
};
pub use suppress::{SuppressCommand, SuppressReply, Suppression};
pub use turn::{
    ActionV1, BargeInV1, EndpointV1, EntityV1, GenerateV1, TurnEvent, TurnKind, TurnReply, TurnRequest,
    UnderstandingV1, VoiceV1,
};

/// The largest message that either side accepts, in bytes; both MQTT clients are set to it.
pub const MAX_MESSAGE: usize = 256 * 1024;
