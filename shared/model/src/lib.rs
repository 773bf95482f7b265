//! The words that box and cloud share: typed ids, telephone numbers, dispositions and causes.
//!
//! **Invariant:** text from outside is parsed once, into a type that cannot be wrong.
//! **Invariant:** a type that holds personal data has no `Display`, and its `Debug` hides it.
//!
//! Absent on purpose: messages (`shared/wire`), storage rows (`cloud/db`) and anything with I/O.

mod disposition;
mod hours;
mod id;
mod number;
mod plan;

pub use disposition::{Direction, Disposition, Outcome};
pub use hours::{DayHours, HoursError};
pub use id::{BoxId, CallId, IdError, ScriptId, ScriptVersion};
pub use number::{Callee, E164, NumberError, SipTarget};
pub use plan::DialPlan;
