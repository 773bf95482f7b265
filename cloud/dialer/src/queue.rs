//! The order in which a campaign's contacts come up, for a million of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use jiff::Timestamp;

/// A contact in a queue: what is needed to order it, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    /// Lower comes first.
    pub priority: u16,
    /// Milliseconds since 1970: not before.
    pub not_before: i64,
    /// The contact.
    pub contact: u64,
}

/// Contacts by the instant at which they may be tried, and those whose instant has come by priority.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    later: BinaryHeap<Reverse<(i64, u16, u64)>>,
    ready: BinaryHeap<Reverse<Waiting>>,
    /// The instant each contact waits for; what a heap holds beyond that is out of date.
    known: BTreeMap<u64, i64>,
    /// The latest instant seen.
    clock: i64,
}

/// How many contacts become ready in one pass at least: when a window opens for a million at once, the
/// first passes see a part of them, and no pass is long.
const AT_ONCE: usize = 20_000;

impl Queue {
    /// Puts a contact in, or moves it to another instant.
    pub fn put(&mut self, waiting: Waiting) {
        self.known.insert(waiting.contact, waiting.not_before);
        if waiting.not_before <= self.clock {
            self.ready.push(Reverse(waiting));
        } else {
            self.later.push(Reverse((waiting.not_before, waiting.priority, waiting.contact)));
        }
    }

    /// Takes a contact out for good.
    pub fn remove(&mut self, contact: u64) {
        self.known.remove(&contact);
    }

    /// Takes up to `most` contacts whose instant has come, the most urgent first. They are out until
    /// they are put in again.
    pub fn take(&mut self, most: usize, now: Timestamp) -> Vec<Waiting> {
        let now = now.as_millisecond();
        self.clock = self.clock.max(now);
        let mut room = most.saturating_mul(4).max(AT_ONCE);
        while let Some(Reverse((at, priority, contact))) = self.later.peek().copied() {
            if at > now || room == 0 {
                break;
            }
            room -= 1;
            self.later.pop();
            if self.known.get(&contact) == Some(&at) {
                self.ready.push(Reverse(Waiting { priority, not_before: at, contact }));
            }
        }
        let mut taken = Vec::with_capacity(most.min(self.ready.len()));
        while taken.len() < most {
            let Some(Reverse(waiting)) = self.ready.pop() else { break };
            if self.known.get(&waiting.contact) == Some(&waiting.not_before) {
                self.known.remove(&waiting.contact);
                taken.push(waiting);
            }
        }
        taken
    }

    /// Returns how many contacts wait.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Says whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_second(s).unwrap()
    }

    #[test]
    fn contacts_come_up_by_instant_then_by_priority_and_a_move_counts() {
        let mut queue = Queue::default();
        for (contact, priority, second) in [(1, 5, 10), (2, 1, 20), (3, 9, 5), (4, 0, 99)] {
            queue.put(Waiting { priority, not_before: second * 1_000, contact });
        }
        queue.put(Waiting { priority: 5, not_before: 30_000, contact: 1 });
        let taken = |queue: &mut Queue, most, at| -> Vec<u64> {
            queue.take(most, t(at)).iter().map(|waiting| waiting.contact).collect()
        };
        assert_eq!(taken(&mut queue, 9, 25), [2, 3]);
        queue.remove(4);
        assert_eq!(taken(&mut queue, 9, 100), [1]);
        assert!(queue.is_empty());
    }

    proptest! {
        #[test]
        fn nobody_comes_up_twice_or_early_and_nobody_is_forgotten(
            puts in proptest::collection::vec((0_u64..30, 0_u16..3, 0_i64..100), 0..200)
        ) {
            let mut queue = Queue::default();
            let mut wanted = std::collections::BTreeMap::new();
            for (contact, priority, second) in puts {
                queue.put(Waiting { priority, not_before: second * 1_000, contact });
                wanted.insert(contact, second);
            }
            let early = queue.take(usize::MAX, t(50));
            for waiting in &early {
                prop_assert_eq!(wanted.remove(&waiting.contact), Some(waiting.not_before / 1_000));
                prop_assert!(waiting.not_before <= 50_000);
            }
            prop_assert!(wanted.values().all(|second| *second > 50));
            prop_assert_eq!(queue.take(usize::MAX, t(100)).len(), wanted.len());
        }
    }
}
