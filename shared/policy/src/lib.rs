//! The compliance gate: may this contact be called now, on this line, for this purpose?
//!
//! Forty-two checks, `A1` to `F6`, each a plain function from a [`Case`] (contact, attempts so far,
//! line, plan, pack, now) to a [`Finding`]; [`decide`] runs all of them and takes the worst. The
//! numbers are data: versioned packs in `packs/*.yaml`, each parameter with its source and each pack
//! with a signature of a named role. The same code runs in the cloud when a contact is given to a line
//! and on the box in the second before it dials: the facts travel with the lease ([`Dossier`]), opt-outs and
//! lists are pushed ahead of it ([`Stoplist`]). What was decided, and on which inputs, goes into a
//! hash-chained log ([`receipt`]), in which one flipped bit is found.
//!
//! **Invariant:** what is not known fails closed: an unknown zone, a list that is too old, a purpose
//! without a rule about consent.
//! **Invariant:** more attempts in the history never turn a refusal into a permission.
//! **Invariant:** an opt-out has no way back: nothing here removes one.
//! **Invariant:** a receipt holds no telephone number and no name.
//!
//! Absent on purpose: any clock, any list of numbers (they come in as facts about the contact), and
//! legal advice: who uses a pack has it read and signed by somebody who may.

pub mod abandonment;
mod case;
pub mod checks;
mod dossier;
mod gate;
mod number;
mod pack;
mod packs;
pub mod receipt;
mod rules;
mod stoplist;
mod verdict;
mod zone;

pub use case::{
    Attempt, AttemptResult, Attestation, Basis, Case, Consent, Contact, Did, Disclosure, Line, LineKind,
    ListState, Operations, OptOut, OptOutScope, Plan, Purpose, Recording, ScriptFacts, Sim, Suppression,
    ZoneHint,
};
pub use dossier::{Dossier, Order};
pub use gate::{Decision, Facts, decide, earliest};
pub use number::{LineType, Target, classify};
pub use pack::{Pack, PackError, PackRef, SCHEMA, schema};
pub use packs::{Lab, Packs};
pub use rules::{
    AfterRules, Area, BasisRules, CallRules, Cap, CapCheck, CapWindow, ClassRule, Clock, ConsentRule,
    ContactRules, Counted, Day, Forbidden, Hours, LineRules, ListRule, NumberClass, OptOutRule, PurposeHours,
    Scope, SignOff, SipRule, Sourced, TimeRules, VoicemailAction, Wording,
};
pub use stoplist::{Change, Fingerprint, Stoplist};
pub use verdict::{Check, Finding, Reason, Verdict};
pub use zone::{Candidates, next_open, open_at, zones_of};
