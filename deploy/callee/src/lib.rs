//! A customer on the phone: our demo and load tool.
//!
//! She sits on a SIP line, rings, picks up, or calls somebody, listens, answers as her persona says, and hangs up. With
//! the robot she shares nothing but SIP and RTP: what the robot said she knows only from its sound.
//!
//! - [`persona`]: who she is, a strict YAML file. [`sound`]: everything she may say, rendered before
//!   the first call, and the noise of her line.
//! - [`server`]: the line; many calls at once. [`event`]: what it tells, one JSON object a line.
//! - Her mind (`customer`) is sans-IO: the robot's voice starts and stops, a text is recognised, time
//!   passes; out come words and hanging up.
//!
//! While she waits for the robot to answer she costs next to nothing: her words are ready sound, and
//! the recogniser runs only between the robot's last word and her first.
//!
//! Absent on purpose: any way of knowing what the robot or the cloud does, and a language model: a
//! persona does what its file says, and the same seed gives the same words.
//!
//! # The persona file
//!
//! Unknown keys are refused. A *time* is `0.6s` or `800ms`; a *range* is a time or `{min: 0.3s, max: 1s}`.
//!
//! | key | value | default |
//! |---|---|---|
//! | `schema` | `trunkline/persona/1` | required |
//! | `name` | text, for the log | required |
//! | `locale` | `zh-CN`, `en-US`, `en-GB` | required |
//! | `voice` | a voice of the synthesiser that speaks the locale and is no robot's | `zf_xiaobei`, `af_bella`, `bf_alice` |
//! | `style`, `speed` | `neutral`, `warm`, `brisk`, `calm`; 0.5 to 2 | `neutral`, 1 |
//! | `level_dbfs` | level of her speech, -50 to -6 | -22 |
//! | `noise` | `{kind: white, snr_db: 15}`, also `pink` and `babble`; or `{file: street.wav, snr_db: 15}` beside the persona | none |
//! | `answer_after` | range: how long it rings | `1.5s` |
//! | `greeting` | *say*: on picking up, unless the robot speaks first | none |
//! | `patience` | time of silence after which the robot has finished, from `200ms` | `600ms` |
//! | `thinking` | range: pause before she answers, on top of `patience` | `{min: 0.3s, max: 0.9s}` |
//! | `rules` | list of `{hear, say, once, then, thinking}`; the first that matches counts | none |
//! | `otherwise` | `{say, then, thinking}`: when no rule matches | she keeps silent |
//! | `interrupt` | `{after: 1.2s, on_turn: 2, say: …}`: speaks over the robot, so long into its turn | never |
//! | `hangup_after` | `{turns: 3}` (the robot's) and/or `{seconds: 20}` | 10 minutes |
//! | `beep` | `1000`: a voicemail, whose `greeting` is spoken in any case and ends with a tone of so many Hz | none |
//! | `silent` | `true`: picks up and says nothing | `false` |
//! | `busy` | `true`: 486 | `false` |
//! | `reject` | a status such as 603, 404, 488 | none |
//! | `no_answer` | `true`: rings until the caller gives up | `false` |
//! | `hang_up_at_once` | `true`: picks up and hangs up | `false` |
//! | `codecs` | list of `PCMA`, `PCMU` | both |
//! | `auth` | `{realm, user, password}`: challenges callers (401), as a trunk does; for the whole line | none |
//!
//! **hear** is `any`, a keyword, `/a regular expression/`, or a list of these. Chinese keywords are
//! compared by sound (readings without tones), English ones by whole words, with one letter of
//! tolerance in words of six and more. A persona whose rules are all `any` recognises nothing: load
//! without the cost of ears.
//!
//! **say** is a text; a list of texts, of which one is drawn; or texts with `{pause: 0.6s}` between
//! them, said in one go: `say: ["Well,", {pause: 0.6s}, "Friday, then."]`. Lists inside the list make several
//! such ways. **then** is `wait` or `hangup`; **once** uses a rule a single time in a call.

mod call;
mod customer;
pub mod event;
mod mouth;
pub mod persona;
pub mod server;
pub mod sound;

pub use call::Dial;
pub use event::Event;
pub use persona::{Persona, PersonaError};
pub use server::{Callee, CalleeConfig};
pub use sound::Cast;
