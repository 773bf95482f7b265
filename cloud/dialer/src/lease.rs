//! Leases: tokens to dial one contact on one line before an instant.

use std::collections::BTreeMap;

use jiff::Timestamp;
use trunkline_model::{BoxId, CallId};

/// The right to dial one call on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The call.
    pub call: CallId,
    /// The contact, so that nobody has two.
    pub contact: u64,
    /// The box.
    pub to: BoxId,
    /// The line.
    pub line: String,
    /// After this instant the box does not dial any more.
    pub until: Timestamp,
    /// The box said that it dials; then only the end of the call ends the lease.
    pub taken: bool,
}

/// Why no lease was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The contact has one.
    #[error("the contact has a lease already")]
    ContactLeased,
    /// The call has one.
    #[error("the call has a lease already")]
    CallLeased,
    /// It would be over before it begins.
    #[error("the lease would be over before it begins")]
    Over,
}

/// All leases that are out.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    by_call: BTreeMap<CallId, Lease>,
    by_contact: BTreeMap<u64, CallId>,
    by_line: BTreeMap<String, u32>,
}

impl Leases {
    /// Gives a lease.
    ///
    /// # Errors
    /// [`LeaseError`]; then nothing has changed.
    pub fn grant(&mut self, lease: Lease, now: Timestamp) -> Result<(), LeaseError> {
        if lease.until <= now {
            return Err(LeaseError::Over);
        }
        if self.by_call.contains_key(&lease.call) {
            return Err(LeaseError::CallLeased);
        }
        if self.by_contact.contains_key(&lease.contact) {
            return Err(LeaseError::ContactLeased);
        }
        self.by_contact.insert(lease.contact, lease.call);
        *self.by_line.entry(lease.line.clone()).or_default() += 1;
        self.by_call.insert(lease.call, lease);
        Ok(())
    }

    /// The box took the call: it may be dialled by now.
    pub fn taken(&mut self, call: CallId) {
        if let Some(lease) = self.by_call.get_mut(&call) {
            lease.taken = true;
        }
    }

    /// The call is over, or the box refused it: the line is free.
    pub fn ended(&mut self, call: CallId) -> Option<Lease> {
        let lease = self.by_call.remove(&call)?;
        self.by_contact.remove(&lease.contact);
        if let Some(count) = self.by_line.get_mut(&lease.line) {
            *count = count.saturating_sub(1);
        }
        Some(lease)
    }

    /// Takes back what no box took before its end. A lost box's lines are free from then on, and not
    /// earlier: until that instant it may dial.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Lease> {
        let over: Vec<CallId> = self
            .by_call
            .values()
            .filter(|lease| !lease.taken && lease.until <= now)
            .map(|lease| lease.call)
            .collect();
        over.into_iter().filter_map(|call| self.ended(call)).collect()
    }

    /// Returns how many leases a line carries.
    pub fn on_line(&self, line: &str) -> u32 {
        self.by_line.get(line).copied().unwrap_or(0)
    }

    /// Returns how many are out.
    pub fn len(&self) -> usize {
        self.by_call.len()
    }

    /// Says whether none is out.
    pub fn is_empty(&self) -> bool {
        self.by_call.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lease(call: u128, contact: u64, until: i64) -> Lease {
        Lease {
            call: CallId::from_u128(call),
            contact,
            to: "tl-a".parse().unwrap(),
            line: "tl-a/1".into(),
            until: t(until),
            taken: false,
        }
    }

    fn t(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    #[test]
    fn a_line_of_a_lost_box_is_free_at_the_leases_end_and_not_before() {
        let mut leases = Leases::default();
        leases.grant(lease(1, 1, 60), t(0)).unwrap();
        assert_eq!(leases.grant(lease(2, 1, 60), t(1)), Err(LeaseError::ContactLeased));
        assert_eq!(leases.expire(t(59)), []);
        assert_eq!(leases.on_line("tl-a/1"), 1);
        assert_eq!(leases.expire(t(60)).len(), 1);
        assert_eq!(leases.on_line("tl-a/1"), 0);
        leases.grant(lease(2, 1, 120), t(60)).unwrap();
        leases.taken(CallId::from_u128(2));
        assert_eq!(leases.expire(t(1_000)), [], "a call that runs is not taken back");
        assert!(leases.ended(CallId::from_u128(2)).is_some());
        assert!(leases.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_happens_a_contact_has_one_lease_and_lines_count_theirs(
            steps in proptest::collection::vec((0_u8..4, 1_u128..6, 1_u64..4, 1_i64..50), 0..80)
        ) {
            let mut leases = Leases::default();
            let mut now = 0;
            for (what, call, contact, dt) in steps {
                now += dt;
                match what {
                    0 => { let _ = leases.grant(lease(call, contact, now + 30), t(now)); }
                    1 => leases.taken(CallId::from_u128(call)),
                    2 => { leases.ended(CallId::from_u128(call)); }
                    _ => { leases.expire(t(now)); }
                }
                let mut contacts: Vec<u64> = leases.by_call.values().map(|lease| lease.contact).collect();
                contacts.sort_unstable();
                let all = contacts.len();
                contacts.dedup();
                prop_assert_eq!(contacts.len(), all);
                prop_assert_eq!(leases.on_line("tl-a/1") as usize, leases.len());
            }
        }
    }
}
