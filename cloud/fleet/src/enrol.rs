//! How a box joins, and stays or leaves.
//!
//! ```text
//! Waiting ──claim (code)──▶ Claimed ──approve (another person)──▶ Approved ──issue──▶ Issued ⟲ renew
//!    ▲                         │ refuse                                                 │ revoke
//!    └── announce              └▶ Waiting                                               ▼
//!                                                                                    Revoked
//! ```
//!
//! The box proves that it knows its code by an HMAC over its certificate request; the cloud learns the code
//! when a person types it from the label, and compares.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::BoxId;
use trunkline_trust::box_name;

pub use trunkline_trust::{ClaimCode, Proof};

/// A certificate lives this long.
pub const CERTIFICATE_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// A certificate that has expired may still renew itself for this long.
pub const GRACE: SignedDuration = SignedDuration::from_hours(24 * 30);
/// Wrong codes that one person may enter within [`GUESS_WINDOW`].
pub const GUESSES: usize = 5;
/// The time in which wrong codes are counted.
pub const GUESS_WINDOW: SignedDuration = SignedDuration::from_mins(15);
/// Announcements from one address within [`GUESS_WINDOW`]; a branch may have several boxes behind one.
pub const ANNOUNCEMENTS: usize = 30;
/// An announcement that nobody claims is forgotten after this time; the box announces itself again.
pub const WAITING_LIFE: SignedDuration = SignedDuration::from_hours(24 * 14);

/// Returns a box's id from its public key, the SubjectPublicKeyInfo (DER); see [`box_name`]. `None` only when
/// the result were no id, which cannot be.
pub fn box_id(spki: &[u8]) -> Option<BoxId> {
    box_name(spki).parse().ok()
}

/// What somebody may do in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Works in a branch: may claim boxes for it.
    Branch,
    /// Works at headquarters: may claim.
    Operator,
    /// May approve what others have claimed, revoke, decommission and transfer.
    FleetAdmin,
}

/// A person who does something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// As in the audit log.
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// Where a box is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
#[schemars(rename = "EnrolmentState")]
pub enum State {
    /// It announced itself.
    Waiting {
        /// When, last.
        since: Timestamp,
    },
    /// Somebody entered its code.
    Claimed {
        /// Who.
        by: String,
        /// For which branch.
        branch: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody else said yes; the certificate can be signed.
    Approved {
        /// For which branch.
        branch: String,
        /// When.
        at: Timestamp,
    },
    /// It has a certificate.
    Issued {
        /// For which branch.
        branch: String,
        /// The serial number of the newest one, as hexadecimal digits.
        serial: String,
        /// From when on that is no longer valid.
        until: Timestamp,
    },
    /// No certificate of it is good any more.
    Revoked {
        /// When.
        at: Timestamp,
        /// Why; `decommissioned` or what a person wrote.
        reason: String,
    },
}

/// One box on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// The box.
    pub box_id: BoxId,
    /// Its certificate request (DER), whose own signature the shell has checked.
    pub request: Vec<u8>,
    /// The proof that came with it.
    pub proof: Proof,
    /// Where it is.
    #[serde(flatten)]
    pub state: State,
    /// Hashes of codes that were used for this box.
    #[serde(default)]
    pub spent: Vec<String>,
    /// Serial numbers that are good: the newest, and the one before it, which a box goes on using when it
    /// never received its successor.
    #[serde(default)]
    pub good_serials: Vec<String>,
}

/// Why something about a box was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// Too many tries; the code is not even looked at.
    #[error("too many tries: again at {again}")]
    TooMany {
        /// When.
        again: Timestamp,
    },
    /// No waiting box has this code.
    #[error("no waiting box has this code")]
    WrongCode,
    /// The code was used before.
    #[error("this code is spent")]
    Spent,
    /// The role does not allow it.
    #[error("{role:?} may not do this")]
    NotAllowed {
        /// The role.
        role: Role,
    },
    /// Approving what one has claimed oneself.
    #[error("a second person must approve")]
    SamePerson,
    /// The box is at another point of its way.
    #[error("the box is {state}, and this needs {needs}")]
    WrongState {
        /// Where it is.
        state: &'static str,
        /// Where it would have to be.
        needs: &'static str,
    },
    /// The request is the one of a box that left, or another one than the box sent before.
    #[error("this request was seen before and is not good any more")]
    Replayed,
    /// The certificate expired too long ago: the box must be claimed anew.
    #[error("the certificate expired at {at}, longer ago than a renewal allows")]
    TooLate {
        /// When.
        at: Timestamp,
    },
    /// The certificate that asks is not the newest one.
    #[error("a newer certificate was issued")]
    OldCertificate,
}

impl State {
    /// Returns the name of the state.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Claimed { .. } => "claimed",
            Self::Approved { .. } => "approved",
            Self::Issued { .. } => "issued",
            Self::Revoked { .. } => "revoked",
        }
    }
}

impl Enrolment {
    /// Takes the first announcement of a box.
    pub fn announce(box_id: BoxId, request: Vec<u8>, proof: Proof, now: Timestamp) -> Self {
        let state = State::Waiting { since: now };
        Self { box_id, request, proof, state, spent: Vec::new(), good_serials: Vec::new() }
    }

    /// Takes an announcement of a box that is known. Asking again is what a box does that polls; a new
    /// request takes the place of one that nobody claimed.
    ///
    /// # Errors
    /// [`EnrolError::Replayed`] for the old request of a box that was revoked, and for another request while
    /// one is claimed or good: whoever holds the key can renew, and nobody else shall replace it.
    pub fn announce_again(
        &mut self,
        request: Vec<u8>,
        proof: Proof,
        now: Timestamp,
    ) -> Result<(), EnrolError> {
        let same = self.request == request && self.proof == proof;
        match &mut self.state {
            State::Waiting { since } => *since = now,
            State::Claimed { .. } | State::Approved { .. } | State::Issued { .. } if same => return Ok(()),
            State::Revoked { .. } if !same => self.state = State::Waiting { since: now },
            State::Claimed { .. } | State::Approved { .. } | State::Issued { .. } | State::Revoked { .. } => {
                return Err(EnrolError::Replayed);
            }
        }
        (self.request, self.proof) = (request, proof);
        Ok(())
    }

    /// Notes that a person claims the box for a branch, after [`claim`] has found it by its code.
    fn take(
        &mut self,
        code: &ClaimCode,
        by: &Person,
        branch: &str,
        now: Timestamp,
    ) -> Result<(), EnrolError> {
        let spent = code.spent(self.box_id.as_str());
        if self.spent.contains(&spent) {
            return Err(EnrolError::Spent);
        }
        self.spent.push(spent);
        self.state = State::Claimed { by: by.name.clone(), branch: branch.into(), at: now };
        Ok(())
    }

    /// Says yes to a claim.
    ///
    /// # Errors
    /// [`EnrolError::NotAllowed`], [`EnrolError::SamePerson`], [`EnrolError::WrongState`].
    pub fn approve(&mut self, by: &Person, now: Timestamp) -> Result<(), EnrolError> {
        let State::Claimed { by: claimed_by, branch, .. } = &self.state else {
            return Err(self.wrong_state("claimed"));
        };
        admin(by)?;
        if *claimed_by == by.name {
            return Err(EnrolError::SamePerson);
        }
        self.state = State::Approved { branch: branch.clone(), at: now };
        Ok(())
    }

    /// Says no to a claim; the box waits again, and needs another code.
    ///
    /// # Errors
    /// [`EnrolError::NotAllowed`], [`EnrolError::WrongState`].
    pub fn refuse(&mut self, by: &Person, now: Timestamp) -> Result<(), EnrolError> {
        let State::Claimed { .. } = &self.state else { return Err(self.wrong_state("claimed")) };
        admin(by)?;
        self.state = State::Waiting { since: now };
        Ok(())
    }

    /// Notes the certificate that was signed for an approved box.
    ///
    /// # Errors
    /// [`EnrolError::WrongState`].
    pub fn issued(&mut self, serial: &str, until: Timestamp) -> Result<(), EnrolError> {
        let State::Approved { branch, .. } = &self.state else { return Err(self.wrong_state("approved")) };
        self.state = State::Issued { branch: branch.clone(), serial: serial.into(), until };
        self.good_serials = vec![serial.into()];
        Ok(())
    }

    /// Says whether the certificate with this serial may renew itself now.
    ///
    /// # Errors
    /// [`EnrolError::WrongState`] for a revoked box, [`EnrolError::OldCertificate`], [`EnrolError::TooLate`].
    pub fn may_renew(&self, serial: &str, now: Timestamp) -> Result<(), EnrolError> {
        let State::Issued { serial: newest, until, .. } = &self.state else {
            return Err(self.wrong_state("issued"));
        };
        if serial != newest {
            return Err(EnrolError::OldCertificate);
        }
        if now > *until + GRACE {
            return Err(EnrolError::TooLate { at: *until });
        }
        Ok(())
    }

    /// Notes the certificate that takes the place of the newest one. That one stays good until it expires:
    /// the box may not have received its successor.
    ///
    /// # Errors
    /// As [`Self::may_renew`].
    pub fn renewed(
        &mut self,
        old: &str,
        new: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), EnrolError> {
        self.may_renew(old, now)?;
        if let State::Issued { serial, until: ends, .. } = &mut self.state {
            self.good_serials = vec![old.into(), new.into()];
            (*serial, *ends) = (new.into(), until);
        }
        Ok(())
    }

    /// Says whether a connection with this certificate is let in: issued and not revoked. That it is in date
    /// is what TLS checks; the box whose certificate has expired is let in for its renewal only
    /// ([`Self::may_renew`]).
    pub fn may_connect(&self, serial: &str) -> bool {
        matches!(&self.state, State::Issued { .. }) && self.good_serials.iter().any(|good| good == serial)
    }

    /// Takes every certificate of the box away. The session is ended by the shell at once.
    ///
    /// # Errors
    /// [`EnrolError::NotAllowed`].
    pub fn revoke(&mut self, by: &Person, reason: &str, now: Timestamp) -> Result<(), EnrolError> {
        admin(by)?;
        self.good_serials.clear();
        self.state = State::Revoked { at: now, reason: reason.into() };
        Ok(())
    }

    /// Gives the box to another branch; its certificate stays.
    ///
    /// # Errors
    /// [`EnrolError::NotAllowed`], [`EnrolError::WrongState`].
    pub fn transfer(&mut self, by: &Person, to: &str) -> Result<(), EnrolError> {
        admin(by)?;
        let State::Issued { branch, .. } = &mut self.state else { return Err(self.wrong_state("issued")) };
        *branch = to.into();
        Ok(())
    }

    /// Says whether an announcement is so old that it is forgotten.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        matches!(&self.state, State::Waiting { since } if now > *since + WAITING_LIFE)
    }

    fn wrong_state(&self, needs: &'static str) -> EnrolError {
        EnrolError::WrongState { state: self.state.name(), needs }
    }
}

/// Finds the waiting box that a code belongs to and claims it.
///
/// # Errors
/// [`EnrolError::TooMany`] before the code is looked at, [`EnrolError::WrongCode`], [`EnrolError::Spent`].
pub fn claim<'a>(
    waiting: impl IntoIterator<Item = &'a mut Enrolment>,
    code: &ClaimCode,
    by: &Person,
    branch: &str,
    limits: &mut Limits,
    now: Timestamp,
) -> Result<BoxId, EnrolError> {
    limits.check(&by.name, GUESSES, now)?;
    for enrolment in waiting {
        let waits = matches!(enrolment.state, State::Waiting { .. });
        if waits && code.proves(&enrolment.request, &enrolment.proof) {
            enrolment.take(code, by, branch, now)?;
            return Ok(enrolment.box_id.clone());
        }
    }
    limits.count(&by.name, now);
    Err(EnrolError::WrongCode)
}

/// Counts what must not happen often, by whoever does it: a person's wrong codes, an address's announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    recent: BTreeMap<String, Vec<Timestamp>>,
}

impl Limits {
    /// Refuses when there were `most` within the window already.
    ///
    /// # Errors
    /// [`EnrolError::TooMany`].
    pub fn check(&mut self, who: &str, most: usize, now: Timestamp) -> Result<(), EnrolError> {
        self.recent.retain(|_, times| {
            times.retain(|at| now < *at + GUESS_WINDOW);
            !times.is_empty()
        });
        match self.recent.get(who) {
            Some(times) if times.len() >= most => {
                let again = times.first().map_or(now, |first| *first + GUESS_WINDOW);
                Err(EnrolError::TooMany { again })
            }
            _ => Ok(()),
        }
    }

    /// Counts one more.
    pub fn count(&mut self, who: &str, now: Timestamp) {
        self.recent.entry(who.into()).or_default().push(now);
    }
}

fn admin(by: &Person) -> Result<(), EnrolError> {
    match by.role {
        Role::FleetAdmin => Ok(()),
        role @ (Role::Branch | Role::Operator) => Err(EnrolError::NotAllowed { role }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t0() -> Timestamp {
        "2026-06-01T08:00:00Z".parse().unwrap()
    }

    fn person(name: &str, role: Role) -> Person {
        Person { name: name.into(), role }
    }

    fn waiting(code: &ClaimCode) -> Enrolment {
        let request = b"a request".to_vec();
        let proof = code.proof(&request);
        Enrolment::announce(box_id(b"a key").unwrap(), request, proof, t0())
    }

    fn issued() -> (ClaimCode, Enrolment) {
        let code = ClaimCode::from_random(12_345);
        let mut enrolment = waiting(&code);
        let mei = person("mei", Role::Branch);
        claim([&mut enrolment], &code, &mei, "0451", &mut Limits::default(), t0()).unwrap();
        enrolment.approve(&person("li", Role::FleetAdmin), t0()).unwrap();
        enrolment.issued("01", t0() + CERTIFICATE_LIFE).unwrap();
        (code, enrolment)
    }

    #[test]
    fn a_box_joins_with_its_code_and_two_people() {
        let (_, enrolment) = issued();
        assert!(enrolment.may_connect("01"));
        assert!(matches!(enrolment.state, State::Issued { ref branch, .. } if branch == "0451"));
    }

    #[test]
    fn nobody_approves_alone_and_not_everybody_may() {
        let code = ClaimCode::from_random(1);
        let mut enrolment = waiting(&code);
        let admin = person("li", Role::FleetAdmin);
        assert!(matches!(enrolment.approve(&admin, t0()), Err(EnrolError::WrongState { .. })));
        claim([&mut enrolment], &code, &admin, "1", &mut Limits::default(), t0()).unwrap();
        assert_eq!(enrolment.approve(&admin, t0()), Err(EnrolError::SamePerson));
        let branch = person("mei", Role::Branch);
        assert_eq!(enrolment.approve(&branch, t0()), Err(EnrolError::NotAllowed { role: Role::Branch }));
        assert!(matches!(enrolment.issued("1", t0()), Err(EnrolError::WrongState { .. })));
    }

    #[test]
    fn a_guessed_code_is_stopped_after_five_tries_even_when_the_sixth_is_right() {
        let code = ClaimCode::from_random(99);
        let mut enrolment = waiting(&code);
        let (mei, mut limits) = (person("mei", Role::Branch), Limits::default());
        for n in 0..GUESSES as u64 {
            let guess = ClaimCode::from_random(n);
            let result = claim([&mut enrolment], &guess, &mei, "1", &mut limits, t0());
            assert_eq!(result, Err(EnrolError::WrongCode));
        }
        let result = claim([&mut enrolment], &code, &mei, "1", &mut limits, t0());
        assert_eq!(result, Err(EnrolError::TooMany { again: t0() + GUESS_WINDOW }));
        let later = t0() + GUESS_WINDOW;
        claim([&mut enrolment], &code, &mei, "1", &mut limits, later).unwrap();
    }

    #[test]
    fn a_replayed_request_of_a_box_that_left_is_refused_and_its_code_is_spent() {
        let (code, mut enrolment) = issued();
        let (request, proof) = (enrolment.request.clone(), enrolment.proof.clone());
        assert!(enrolment.announce_again(request.clone(), proof.clone(), t0()).is_ok(), "a box that polls");
        let other = b"another request".to_vec();
        let stolen = ClaimCode::from_random(7).proof(&other);
        assert_eq!(enrolment.announce_again(other.clone(), stolen, t0()), Err(EnrolError::Replayed));

        let admin = person("li", Role::FleetAdmin);
        enrolment.revoke(&admin, "decommissioned", t0()).unwrap();
        assert!(!enrolment.may_connect("01"));
        assert_eq!(enrolment.announce_again(request, proof, t0()), Err(EnrolError::Replayed));
        // A new request waits, but the old code does not open the door again.
        enrolment.announce_again(other.clone(), code.proof(&other), t0()).unwrap();
        let mei = person("mei", Role::Branch);
        let result = claim([&mut enrolment], &code, &mei, "1", &mut Limits::default(), t0());
        assert_eq!(result, Err(EnrolError::Spent));
        let fresh = ClaimCode::from_random(8);
        enrolment.announce_again(other.clone(), fresh.proof(&other), t0()).unwrap();
        claim([&mut enrolment], &fresh, &mei, "1", &mut Limits::default(), t0()).unwrap();
        enrolment.approve(&admin, t0()).unwrap();
        enrolment.issued("09", t0() + CERTIFICATE_LIFE).unwrap();
        assert!(enrolment.may_connect("09"));
        assert!(!enrolment.may_connect("01"), "the old certificate stays out");
    }

    #[test]
    fn an_expired_certificate_renews_within_its_grace_and_a_revoked_one_never() {
        let (_, mut enrolment) = issued();
        let end = t0() + CERTIFICATE_LIFE;
        assert!(enrolment.may_renew("01", end + GRACE).is_ok());
        let late = end + GRACE + SignedDuration::from_secs(1);
        assert_eq!(enrolment.may_renew("01", late), Err(EnrolError::TooLate { at: end }));
        enrolment.renewed("01", "02", end + CERTIFICATE_LIFE, end).unwrap();
        assert!(
            enrolment.may_connect("01") && enrolment.may_connect("02"),
            "the successor may be on its way"
        );
        assert_eq!(enrolment.may_renew("01", end), Err(EnrolError::OldCertificate));
        enrolment.revoke(&person("li", Role::FleetAdmin), "stolen", end).unwrap();
        assert!(enrolment.may_renew("02", end).is_err() && !enrolment.may_connect("02"));
    }

    #[test]
    fn a_wrong_clock_on_the_box_plays_no_part() {
        // The box of 1970 sends no time: only the cloud's clock is asked.
        let code = ClaimCode::from_random(3);
        let enrolment = waiting(&code);
        assert!(!enrolment.is_stale(t0() + WAITING_LIFE));
        assert!(enrolment.is_stale(t0() + WAITING_LIFE + SignedDuration::from_secs(1)));
    }
}
