//! Who gets in, without I/O: the code of the label opens, and guessing is slow.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use trunkline_trust::ClaimCode;

/// Wrong codes of one address before it waits.
const TRIES: u32 = 5;
/// Wrong codes of all together before all wait: the code has 40 bits, so that years of this find it in none.
const TRIES_OF_ALL: u32 = 50;
/// How long one waits, and how long wrong codes are remembered.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Who is in stays in for so long.
const SESSION: Duration = Duration::from_secs(30 * 60);
const SESSIONS: usize = 16;
/// Addresses that are remembered; more count for all together only.
const ADDRESSES: usize = 256;

/// What a try came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the code: this names the session.
    In(String),
    Wrong,
    /// It was not even looked at.
    Wait(Duration),
}

#[derive(Debug)]
struct Tries {
    count: u32,
    since: Instant,
}

pub(super) struct Guard {
    code: ClaimCode,
    of_one: BTreeMap<IpAddr, Tries>,
    of_all: Option<Tries>,
    sessions: VecDeque<(String, Instant)>,
}

impl Guard {
    pub(super) fn new(code: ClaimCode) -> Self {
        Self { code, of_one: BTreeMap::new(), of_all: None, sessions: VecDeque::new() }
    }

    /// Looks at a code that somebody typed; `random` names the session if it is the right one.
    pub(super) fn try_code(&mut self, from: IpAddr, typed: &str, now: Instant, random: [u8; 32]) -> Verdict {
        let is_over = |tries: &Tries| now.saturating_duration_since(tries.since) >= WINDOW;
        self.of_one.retain(|_, tries| !is_over(tries));
        self.of_all = self.of_all.take().filter(|tries| !is_over(tries));
        let left = |tries: &Tries| WINDOW.saturating_sub(now.saturating_duration_since(tries.since));
        let full = |tries: Option<&Tries>, most: u32| tries.filter(|tries| tries.count >= most).map(left);
        let wait = full(self.of_one.get(&from), TRIES).max(full(self.of_all.as_ref(), TRIES_OF_ALL));
        if let Some(wait) = wait {
            return Verdict::Wait(wait);
        }
        if self.is_code(typed) {
            self.of_one.remove(&from);
            let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            self.sessions.push_back((token.clone(), now + SESSION));
            while self.sessions.len() > SESSIONS {
                self.sessions.pop_front();
            }
            return Verdict::In(token);
        }
        let first = || Tries { count: 0, since: now };
        self.of_all.get_or_insert_with(first).count += 1;
        if self.of_one.contains_key(&from) || self.of_one.len() < ADDRESSES {
            self.of_one.entry(from).or_insert_with(first).count += 1;
        }
        Verdict::Wrong
    }

    /// Takes the same time whatever was typed: what is compared are hashes under a key.
    fn is_code(&self, typed: &str) -> bool {
        let purpose = b"the box's page";
        ClaimCode::parse(typed).is_some_and(|typed| self.code.proves(purpose, &typed.proof(purpose)))
    }

    /// Says whether a session is good.
    pub(super) fn is_in(&mut self, token: &str, now: Instant) -> bool {
        self.sessions.retain(|(_, until)| now < *until);
        self.sessions.iter().fold(false, |found, (known, _)| found | same(known, token))
    }

    /// Ends a session.
    pub(super) fn leave(&mut self, token: &str) {
        self.sessions.retain(|(known, _)| !same(known, token));
    }
}

/// Compares all of it, wherever the first difference is.
fn same(known: &str, told: &str) -> bool {
    let pairs = known.bytes().zip(told.bytes());
    known.len() == told.len() && pairs.fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(ClaimCode::parse("ABCD-EFGH").unwrap())
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_code_opens_as_people_type_it_and_the_session_ends_by_itself() {
        let (mut guard, now) = (guard(), Instant::now());
        let Verdict::In(token) = guard.try_code(ip(1), "abcd efgh", now, [7; 32]) else { panic!("not in") };
        assert_eq!(token, "07".repeat(32));
        assert!(guard.is_in(&token, now + SESSION - Duration::from_secs(1)));
        assert!(!guard.is_in("0707", now) && !guard.is_in("", now));
        assert!(!guard.is_in(&token, now + SESSION));
        let Verdict::In(token) = guard.try_code(ip(1), "ABCDEFGH", now, [8; 32]) else { panic!("not in") };
        guard.leave(&token);
        assert!(!guard.is_in(&token, now));
    }

    #[test]
    fn after_five_wrong_codes_not_even_the_right_one_is_looked_at_for_a_quarter_of_an_hour() {
        let (mut guard, now) = (guard(), Instant::now());
        for _ in 0..TRIES {
            assert_eq!(guard.try_code(ip(1), "ABCD-EFGJ", now, [0; 32]), Verdict::Wrong);
        }
        assert_eq!(guard.try_code(ip(1), "ABCD-EFGH", now, [0; 32]), Verdict::Wait(WINDOW));
        assert!(matches!(guard.try_code(ip(2), "ABCD-EFGH", now, [0; 32]), Verdict::In(_)));
        assert!(matches!(guard.try_code(ip(1), "ABCD-EFGH", now + WINDOW, [0; 32]), Verdict::In(_)));
    }

    #[test]
    fn many_addresses_together_guess_no_faster_and_fill_no_memory() {
        let (mut guard, now) = (guard(), Instant::now());
        let mut looked_at = 0;
        for n in 0..2_000_u32 {
            let from = IpAddr::from(n.to_be_bytes());
            looked_at += u32::from(guard.try_code(from, "00000000", now, [0; 32]) == Verdict::Wrong);
        }
        assert_eq!(looked_at, TRIES_OF_ALL);
        assert!(guard.of_one.len() <= ADDRESSES);
        for n in 0..100 {
            guard.try_code(ip(1), "ABCD-EFGH", now + WINDOW, [n; 32]);
        }
        assert_eq!(guard.sessions.len(), SESSIONS);
    }
}
