//! The forty-two checks, one function each, in the order of their letters.

mod after;
mod basis;
mod call;
mod contact;
mod line;
mod time;

pub use after::{f1_retention, f2_rights, f3_complaints, f4_abandonment, f5_label, f6_pack};
pub use basis::{b1_consent, b2_purpose, b3_revocation};
pub use call::{
    e1_ai_disclosure, e2_identity, e3_recording, e4_first_word, e5_opt_out, e6_no_deception, e7_right_party,
    e8_human, e9_voicemail, e10_emotion,
};
pub use contact::{
    a1_number, a2_jurisdiction, a3_zone, a4_suppression, a5_opt_out, a6_wrong_party, a7_vulnerable,
};
pub use line::{
    c1_caller_id, c2_class, c3_attestation, c4_wear, c5_no_evasion, c6_local_presence, c7_sim_registered,
    c8_sim_fixed, c9_gsm,
};
pub use time::{d1_hours, d2_daily, d3_conversations, d4_week, d5_spacing, d6_lifetime, d7_ring};

use crate::{Case, Finding};

/// A check.
pub type CheckFn = fn(&Case<'_>) -> Finding;

/// All checks, in order.
pub const ALL: [CheckFn; 42] = [
    a1_number,
    a2_jurisdiction,
    a3_zone,
    a4_suppression,
    a5_opt_out,
    a6_wrong_party,
    a7_vulnerable,
    b1_consent,
    b2_purpose,
    b3_revocation,
    c1_caller_id,
    c2_class,
    c3_attestation,
    c4_wear,
    c5_no_evasion,
    c6_local_presence,
    c7_sim_registered,
    c8_sim_fixed,
    c9_gsm,
    d1_hours,
    d2_daily,
    d3_conversations,
    d4_week,
    d5_spacing,
    d6_lifetime,
    d7_ring,
    e1_ai_disclosure,
    e2_identity,
    e3_recording,
    e4_first_word,
    e5_opt_out,
    e6_no_deception,
    e7_right_party,
    e8_human,
    e9_voicemail,
    e10_emotion,
    f1_retention,
    f2_rights,
    f3_complaints,
    f4_abandonment,
    f5_label,
    f6_pack,
];

/// The checks whose verdict depends on the time alone once the history stands still.
pub(crate) const TIMED: [CheckFn; 5] = [d1_hours, d2_daily, d3_conversations, d4_week, d5_spacing];
