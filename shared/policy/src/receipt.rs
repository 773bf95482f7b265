//! Receipts: every decision of the gate in a chain of hashes.
//!
//! A log is lines of JSON. Each holds its number, the hash of the line before, its own hash, and the
//! decision as text; the hash covers the number, the hash before and the text byte for byte:
//!
//! ```text
//! hash(n) = SHA-256( hash(n-1) in hexadecimal ‖ n in decimal ‖ LF ‖ instant ‖ LF ‖ body )
//! ```
//!
//! The first line's `prev` is 64 zeros. A line must read exactly as it would be written again, so
//! that a flipped bit anywhere is found, also in white space and in the case of a digit. A log that was
//! cut short verifies; who keeps the head's hash elsewhere notices that too.

use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::CallId;

use crate::Decision;

/// `prev` of the first receipt.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where the gate ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The call was asked for.
    Request,
    /// It was given to a line.
    Lease,
    /// The box was about to dial.
    Dial,
}

/// What a receipt says. It names the call, never the callee.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// The call.
    pub call: CallId,
    /// Where the gate ran.
    pub stage: Stage,
    /// What was asked for: script, purpose, line, attempts so far.
    pub inputs: Inputs,
    /// What was decided.
    pub decision: Decision,
    /// In the cloud's chain: where the same receipt stands in the chain of the box that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Anchor>,
}

/// A receipt in the chain of a box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The box.
    #[serde(rename = "box")]
    pub box_id: String,
    /// Its number there.
    pub seq: u64,
    /// Its hash there.
    pub hash: String,
    /// It follows the receipt of this box that came before.
    pub follows: bool,
}

/// What a decision was made on, beyond what the checks say that they saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Version of the script.
    pub script: String,
    /// Why the customer is called.
    pub purpose: String,
    /// The line.
    pub line: Option<String>,
    /// Attempts in the history.
    pub attempts: u32,
    /// The number that is shown to the callee, where one was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<String>,
    /// Why this one, where there were several.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shown: String,
    /// The customer asked for this call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Asked>,
}

/// A customer's wish to be called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The call in which they asked.
    pub call: CallId,
    /// When they want to be called.
    pub at: Timestamp,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ReceiptEntry")]
pub struct Entry {
    /// Its number, from 1 without gaps.
    pub seq: u64,
    /// Hash of the entry before.
    pub prev: String,
    /// Its own hash.
    pub hash: String,
    /// When it was written.
    pub at: Timestamp,
    /// The [`Body`] as JSON text, byte for byte as it was hashed.
    pub body: String,
}

/// Why a log is not what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// A line is no receipt, or is written in another way than receipts are.
    #[error("line {line} is not a receipt as it was written")]
    Malformed {
        /// The line, from 1.
        line: u64,
    },
    /// A receipt is missing or out of order.
    #[error("line {line} has number {found}, and {expected} should come")]
    Gap {
        /// The line, from 1.
        line: u64,
        /// Its number.
        found: u64,
        /// The number that should come.
        expected: u64,
    },
    /// A receipt does not follow the one before.
    #[error("receipt {seq} does not follow the one before: the chain is broken")]
    Broken {
        /// Its number.
        seq: u64,
    },
    /// A receipt's content does not match its hash.
    #[error("receipt {seq} was changed: its hash does not match")]
    Changed {
        /// Its number.
        seq: u64,
    },
    /// The last line is not finished.
    #[error("the log does not end with a line break; its last receipt is cut off")]
    CutOff,
}

impl Entry {
    /// Makes the entry that follows `prev` (number and hash), or the first.
    ///
    /// # Errors
    /// When the body cannot be written as JSON, which no body of this build does.
    pub fn follow(prev: Option<(u64, &str)>, body: &Body, at: Timestamp) -> Result<Self, serde_json::Error> {
        let (seq, prev) = prev.map_or((1, GENESIS), |(seq, hash)| (seq + 1, hash));
        let body = serde_json::to_string(body)?;
        Ok(Self { seq, prev: prev.to_owned(), hash: hash(prev, seq, at, &body), at, body })
    }

    /// Writes the entry as a line, without the line break.
    ///
    /// # Errors
    /// As [`serde_json::to_string`], which does not fail on texts and numbers.
    pub fn line(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads what it says.
    ///
    /// # Errors
    /// When its text is not a [`Body`] that this build knows.
    pub fn read(&self) -> Result<Body, serde_json::Error> {
        serde_json::from_str(&self.body)
    }

    /// Says whether its hash matches its content.
    pub fn is_intact(&self) -> bool {
        self.hash == hash(&self.prev, self.seq, self.at, &self.body)
    }
}

fn hash(prev: &str, seq: u64, at: Timestamp, body: &str) -> String {
    let mut context = Context::new(&SHA256);
    context.update(prev.as_bytes());
    context.update(format!("{seq}\n{at}\n").as_bytes());
    context.update(body.as_bytes());
    hex::encode(context.finish())
}

/// Verifies entries as they come, so that a log of any length fits into little memory.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    head: Option<(u64, String)>,
    lines: u64,
}

impl Verifier {
    /// Starts at the beginning of a chain.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts in the middle: the next entry must follow this number and hash.
    pub fn after(seq: u64, hash: impl Into<String>) -> Self {
        Self { head: Some((seq, hash.into())), lines: 0 }
    }

    /// Takes the next line, without its line break.
    ///
    /// # Errors
    /// [`ReceiptError`] at the first line that does not hold.
    pub fn push(&mut self, line: &str) -> Result<Entry, ReceiptError> {
        self.lines += 1;
        let malformed = || ReceiptError::Malformed { line: self.lines };
        let entry: Entry = serde_json::from_str(line).map_err(|_| malformed())?;
        if entry.line().ok().as_deref() != Some(line) {
            return Err(malformed());
        }
        let (expected, prev) = match &self.head {
            Some((seq, hash)) => (seq + 1, hash.as_str()),
            None => (1, GENESIS),
        };
        if entry.seq != expected {
            return Err(ReceiptError::Gap { line: self.lines, found: entry.seq, expected });
        }
        if entry.prev != prev {
            return Err(ReceiptError::Broken { seq: entry.seq });
        }
        if !entry.is_intact() {
            return Err(ReceiptError::Changed { seq: entry.seq });
        }
        self.head = Some((entry.seq, entry.hash.clone()));
        Ok(entry)
    }

    /// Returns number and hash of the last entry that held.
    pub fn head(&self) -> Option<(u64, &str)> {
        self.head.as_ref().map(|(seq, hash)| (*seq, hash.as_str()))
    }
}

/// Verifies a whole log and returns number and hash of its head.
///
/// # Errors
/// [`ReceiptError`] at the first line that does not hold.
pub fn verify(log: &str) -> Result<Option<(u64, String)>, ReceiptError> {
    let mut verifier = Verifier::new();
    if log.is_empty() {
        return Ok(None);
    }
    let lines = log.strip_suffix('\n').ok_or(ReceiptError::CutOff)?;
    for line in lines.split('\n') {
        verifier.push(line)?;
    }
    Ok(verifier.head)
}
