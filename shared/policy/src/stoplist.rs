//! Whom nobody calls, as a box keeps it: opt-outs and list entries under fingerprints of numbers.
//!
//! A box can test a number against its copy and cannot read the copy. That is not anonymity, because
//! numbers can be tried; it keeps a list of people from lying about in every branch.

use std::collections::BTreeMap;
use std::fmt;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use trunkline_model::Callee;

use crate::{OptOut, Suppression};

const DOMAIN: &[u8] = b"trunkline-suppression/1\n";

/// The first 16 bytes of a SHA-256 over a number or SIP address; written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Returns the fingerprint of a number or address.
    pub fn of(callee: &Callee) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(DOMAIN);
        context.update(callee.reveal().as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&context.finish().as_ref()[..16]);
        Self(short)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = hex::FromHexError;

    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut short = [0; 16];
        hex::decode_to_slice(text, &mut short)?;
        Ok(Self(short))
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        hex::encode(fingerprint.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", hex::encode(&self.0[..2]))
    }
}

/// What became known about a number. Nothing here takes an opt-out back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "of")]
pub enum Change {
    /// Somebody does not want to be called.
    OptedOut(OptOut),
    /// A list names the number from now on.
    Listed(Suppression),
    /// The list of this name does not name it any more.
    Unlisted(String),
}

#[derive(Clone, Debug, Default)]
struct Entry {
    opt_outs: Vec<OptOut>,
    suppressions: Vec<Suppression>,
}

/// The copy of a box.
#[derive(Clone, Debug, Default)]
pub struct Stoplist(BTreeMap<Fingerprint, Entry>);

impl Stoplist {
    /// Takes a change in. The same change again changes nothing.
    pub fn apply(&mut self, who: Fingerprint, change: &Change) {
        let entry = self.0.entry(who).or_default();
        match change {
            Change::OptedOut(opt_out) => {
                if !entry.opt_outs.iter().any(|known| known.scope == opt_out.scope) {
                    entry.opt_outs.push(opt_out.clone());
                }
            }
            Change::Listed(listed) => {
                entry.suppressions.retain(|known| known.list != listed.list);
                entry.suppressions.push(listed.clone());
            }
            Change::Unlisted(list) => entry.suppressions.retain(|known| known.list != *list),
        }
    }

    /// Returns what is known about a number.
    pub fn about(&self, callee: &Callee) -> (&[OptOut], &[Suppression]) {
        self.0
            .get(&Fingerprint::of(callee))
            .map_or((&[], &[]), |entry| (entry.opt_outs.as_slice(), entry.suppressions.as_slice()))
    }

    /// Returns how many numbers it names or named.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Says whether it never named anybody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::OptOutScope;

    fn callee(n: u8) -> Callee {
        format!("+861380013800{}", n % 10).parse().unwrap()
    }

    fn opted_out() -> Change {
        let at = "2026-11-23T02:00:00Z".parse().unwrap();
        Change::OptedOut(OptOut { scope: OptOutScope::Number, channel: "spoken".into(), at })
    }

    #[test]
    fn a_number_is_found_by_its_fingerprint_and_the_fingerprint_does_not_hold_it() {
        let mut list = Stoplist::default();
        list.apply(Fingerprint::of(&callee(1)), &opted_out());
        assert_eq!(list.about(&callee(1)).0.len(), 1);
        assert_eq!(list.about(&callee(2)).0.len(), 0);
        let written = serde_json::to_string(&Fingerprint::of(&callee(1))).unwrap();
        assert_eq!(written.len(), 34);
        assert_eq!(serde_json::from_str::<Fingerprint>(&written).unwrap(), Fingerprint::of(&callee(1)));
        assert!(serde_json::from_str::<Fingerprint>("\"00\"").is_err());
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            Just(opted_out()),
            "[ab]".prop_map(|list| Change::Listed(Suppression { list, until: None })),
            "[ab]".prop_map(Change::Unlisted),
        ]
    }

    proptest! {
        #[test]
        fn whatever_comes_later_an_opt_out_stays(
            before in prop::collection::vec((0_u8..3, change()), 0..20),
            after in prop::collection::vec((0_u8..3, change()), 0..20),
        ) {
            let mut list = Stoplist::default();
            for (n, change) in &before {
                list.apply(Fingerprint::of(&callee(*n)), change);
            }
            list.apply(Fingerprint::of(&callee(1)), &opted_out());
            for (n, change) in &after {
                list.apply(Fingerprint::of(&callee(*n)), change);
            }
            prop_assert_eq!(list.about(&callee(1)).0.len(), 1);
        }

        #[test]
        fn a_change_reads_back_as_written(change in change()) {
            let text = serde_json::to_string(&change).unwrap();
            prop_assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change);
        }
    }
}
