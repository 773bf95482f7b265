//! What a check says.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is to be done with a contact, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It may be called.
    Allow,
    /// Not now; asking again before `until` is useless.
    Defer {
        /// The earliest instant at which this reason is gone.
        until: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// Not in this way: not on this line, or not again in this campaign.
    Skip {
        /// Why.
        reason: Reason,
    },
    /// Not at all, as long as the facts are what they are.
    Block {
        /// Why.
        reason: Reason,
    },
}

impl Verdict {
    /// Returns how severe it is: 0 allows, 3 blocks.
    pub fn severity(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Defer { .. } => 1,
            Self::Skip { .. } => 2,
            Self::Block { .. } => 3,
        }
    }

    /// Returns why not, unless it is allowed.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Allow => None,
            Self::Defer { reason, .. } | Self::Skip { reason } | Self::Block { reason } => Some(reason),
        }
    }

    /// Returns the worse of two; of two deferrals the later, of two equals the first.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::Defer { until: a, .. }, Self::Defer { until: b, .. }) if b > a => other,
            _ if other.severity() > self.severity() => other,
            _ => self,
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which check.
    pub check: Check,
    /// What it says.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What it looked at, without personal data.
    pub saw: String,
}

impl Finding {
    /// Makes a finding that allows.
    pub fn allow(check: Check, saw: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Allow, saw: saw.into() }
    }

    /// Makes a finding that defers.
    pub fn defer(check: Check, until: Timestamp, reason: Reason, saw: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Defer { until, reason }, saw: saw.into() }
    }

    /// Makes a finding that skips.
    pub fn skip(check: Check, reason: Reason, saw: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skip { reason }, saw: saw.into() }
    }

    /// Makes a finding that blocks.
    pub fn block(check: Check, reason: Reason, saw: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Block { reason }, saw: saw.into() }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$each])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name used in receipts, packs and the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

named! {
    /// The checks, by the letter of their group and their number in it.
    Check {
        /// The number is valid and of a type that may be called.
        A1 = "A1",
        /// It is known which rules apply.
        A2 = "A2",
        /// The callee's time zone is known.
        A3 = "A3",
        /// No suppression list names the contact, and the lists are fresh.
        A4 = "A4",
        /// The contact has not opted out.
        A5 = "A5",
        /// The number belongs to the person who is meant.
        A6 = "A6",
        /// The person may be called by a robot.
        A7 = "A7",
        /// There is a legal basis.
        B1 = "B1",
        /// The purpose fits.
        B2 = "B2",
        /// Revocations reach every box in time.
        B3 = "B3",
        /// The caller id is owned and real.
        C1 = "C1",
        /// The caller id's class fits the purpose.
        C2 = "C2",
        /// The line signs calls well enough (STIR/SHAKEN).
        C3 = "C3",
        /// The caller id is not worn out today.
        C4 = "C4",
        /// No rotation of numbers around a cap.
        C5 = "C5",
        /// Local presence with owned numbers only.
        C6 = "C6",
        /// The SIM is registered to who operates it.
        C7 = "C7",
        /// The SIM stays in its module.
        C8 = "C8",
        /// GSM lines are permitted where this one is.
        C9 = "C9",
        /// The hour is right.
        D1 = "D1",
        /// Attempts per day.
        D2 = "D2",
        /// Conversations per day.
        D3 = "D3",
        /// Attempts in seven days, and rest after a conversation.
        D4 = "D4",
        /// Spacing.
        D5 = "D5",
        /// Attempts in a life time.
        D6 = "D6",
        /// Ring time.
        D7 = "D7",
        /// The robot says what it is.
        E1 = "E1",
        /// It says who calls.
        E2 = "E2",
        /// It says that it records.
        E3 = "E3",
        /// The first word comes in time.
        E4 = "E4",
        /// Opting out works during the call.
        E5 = "E5",
        /// No deception.
        E6 = "E6",
        /// The right person, before a debt is named.
        E7 = "E7",
        /// A person on request.
        E8 = "E8",
        /// What is said to a voicemail.
        E9 = "E9",
        /// No reading of emotions or voiceprints without consent.
        E10 = "E10",
        /// Records are kept long enough.
        F1 = "F1",
        /// Subjects' rights can be served.
        F2 = "F2",
        /// Complaints are answered.
        F3 = "F3",
        /// The ledger of abandoned calls.
        F4 = "F4",
        /// Exported audio is labelled.
        F5 = "F5",
        /// The pack is signed and in force.
        F6 = "F6",
    }
}

named! {
    /// Why a contact is not called; stable codes for programs.
    Reason {
        /// Not a valid number.
        NumberInvalid = "number_invalid",
        /// An emergency number.
        NumberEmergency = "number_emergency",
        /// A premium-rate or shared-cost number.
        NumberPremium = "number_premium",
        /// A type that the pack does not allow.
        NumberType = "number_type",
        /// A SIP address where only telephone numbers are called.
        SipNotAllowed = "sip_not_allowed",
        /// Outside the laboratory's declared targets.
        LabTargetOnly = "lab_target_only",
        /// A laboratory call may leave by a laboratory line only.
        LabLineRequired = "lab_line_required",
        /// No pack covers the number's country.
        JurisdictionUnknown = "jurisdiction_unknown",
        /// The zone cannot be told.
        ZoneUnknown = "zone_unknown",
        /// On a suppression list.
        Suppressed = "suppressed",
        /// A required list was never loaded or is too old.
        ListStale = "list_stale",
        /// Opted out.
        OptedOut = "opted_out",
        /// Somebody else's number.
        WrongParty = "wrong_party",
        /// To be called by people only.
        HumanOnly = "human_only",
        /// No sufficient consent.
        ConsentMissing = "consent_missing",
        /// The consent does not cover this purpose.
        ConsentScope = "consent_scope",
        /// The consent does not cover an artificial voice.
        ConsentAiVoice = "consent_ai_voice",
        /// The consent is over.
        ConsentExpired = "consent_expired",
        /// The consent was withdrawn.
        ConsentRevoked = "consent_revoked",
        /// No proof of the consent is kept.
        ConsentProof = "consent_proof",
        /// This purpose may not be served in this way.
        PurposeForbidden = "purpose_forbidden",
        /// Revocations take too long to reach the boxes.
        RevocationLag = "revocation_lag",
        /// The caller id is not registered to us.
        CallerIdUnknown = "caller_id_unknown",
        /// Nobody can be reached under the caller id.
        CallerIdUnreachable = "caller_id_unreachable",
        /// The caller id's class does not fit.
        CallerIdClass = "caller_id_class",
        /// The line signs too weakly.
        Attestation = "attestation",
        /// The caller id has made its calls for today.
        CallerIdWorn = "caller_id_worn",
        /// The caller id rests because of complaints or a low answer rate.
        CallerIdResting = "caller_id_resting",
        /// The history does not cover all lines.
        CapEvasion = "cap_evasion",
        /// Local presence is not allowed here.
        LocalPresence = "local_presence",
        /// The SIM's registration does not match.
        SimRegistration = "sim_registration",
        /// The SIM was swapped, or the module's identity changed.
        SimSwapped = "sim_swapped",
        /// GSM gateways are not permitted here.
        GsmProhibited = "gsm_prohibited",
        /// Outside the calling hours.
        OutsideHours = "outside_hours",
        /// The windows have no hour in common.
        WindowNeverOpens = "window_never_opens",
        /// Attempts of the day are used up.
        DailyCap = "daily_cap",
        /// Conversations of the day are used up.
        ConversationCap = "conversation_cap",
        /// Attempts of seven days are used up.
        WeeklyCap = "weekly_cap",
        /// Rest after a conversation.
        ConversationRest = "conversation_rest",
        /// Too soon after the last attempt.
        Spacing = "spacing",
        /// Rest after an abandoned call.
        AbandonedRest = "abandoned_rest",
        /// All attempts are used up.
        LifetimeCap = "lifetime_cap",
        /// It would ring too short or too long.
        RingTime = "ring_time",
        /// The script does not disclose what it must.
        DisclosureMissing = "disclosure_missing",
        /// The first word would come too late.
        FirstWordLate = "first_word_late",
        /// The script has no way to opt out.
        OptOutMissing = "opt_out_missing",
        /// The script's words deceive.
        Deception = "deception",
        /// The script does not make sure who is speaking.
        RightPartyMissing = "right_party_missing",
        /// The script does not let a person take over.
        HumanMissing = "human_missing",
        /// The voicemail plan is not allowed.
        VoicemailPlan = "voicemail_plan",
        /// Emotion or voiceprint processing without consent.
        EmotionProcessing = "emotion_processing",
        /// Records would be kept too short.
        RetentionShort = "retention_short",
        /// Erasure and export are not in place.
        RightsMissing = "rights_missing",
        /// Complaints wait too long.
        ComplaintsOverdue = "complaints_overdue",
        /// Too many calls were abandoned.
        AbandonmentCap = "abandonment_cap",
        /// Exported audio is not labelled.
        LabelMissing = "label_missing",
        /// The pack is not signed.
        PackUnsigned = "pack_unsigned",
        /// The pack is not in force yet.
        PackNotInForce = "pack_not_in_force",
    }
}
