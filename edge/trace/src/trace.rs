//! Reading what was kept.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use trunkline_sip::message::Message;

use crate::line::{Line, MediaReport, Way};

/// A message of a leg, without its secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Microseconds since 1970.
    pub at: i64,
    /// Which way it went.
    pub way: Way,
    /// `UDP`, `TCP` or `TLS`.
    pub transport: String,
    /// Our address.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// The message.
    pub text: String,
}

impl Kept {
    /// Reads the message, if it still is one.
    pub fn message(&self) -> Option<Message> {
        Message::parse(self.text.as_bytes()).ok()
    }
}

/// One leg of a call: everything with one SIP Call-ID.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The SIP Call-ID.
    pub sip_call_id: String,
    /// The call that it belongs to; empty for one that was refused before it became a call.
    pub call: String,
    /// What the leg is for: `call`, or `person` for a hand-over.
    pub leg: String,
    /// The trunk's name.
    pub trunk: String,
    /// The messages in their order.
    pub messages: Vec<Kept>,
    /// How the sound was; `None` while it flows, or where there was none.
    pub media: Option<MediaReport>,
    /// When (microseconds since 1970) something else happened, and what.
    pub notes: Vec<(i64, String)>,
    /// Whether messages are missing because there were too many.
    pub cut: bool,
}

impl Trace {
    /// Reads a file. Lines that cannot be read, such as one that a power cut broke off, are left out.
    fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read(path)?;
        let mut trace = Self::default();
        let lines = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        for line in lines {
            match line {
                Line::Begin { sip_call_id, .. } => trace.sip_call_id = sip_call_id,
                Line::Message { at, way, transport, local, remote, text } => {
                    trace.messages.push(Kept { at, way, transport, local, remote, text });
                }
                Line::Named { call, leg, trunk } => (trace.call, trace.leg, trace.trunk) = (call, leg, trunk),
                Line::Media(report) => trace.media = Some(report),
                Line::Note { at, text } => trace.notes.push((at, text)),
                Line::Cut => trace.cut = true,
            }
        }
        Ok(trace)
    }

    /// Returns when the first message went, in microseconds since 1970.
    pub fn begun(&self) -> Option<i64> {
        self.messages.first().map(|message| message.at)
    }

    /// Tells whether it is meant by `id`: the call's id or the SIP Call-ID, or the first eight characters of either.
    fn is(&self, id: &str) -> bool {
        [&self.call, &self.sip_call_id].iter().any(|own| *own == id || (id.len() >= 8 && own.starts_with(id)))
    }
}

/// Returns the files of a folder, the oldest first.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Returns every leg in a folder, the oldest first.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<Trace>> {
    // The box may remove the oldest while we look.
    Ok(files(dir)?.iter().filter_map(|path| Trace::read(path).ok()).collect())
}

/// Returns the legs of one call, the oldest first. `id`: the call's id or a SIP Call-ID, or at least the first eight
/// characters of either; where that fits several calls, the newest is meant.
///
/// # Errors
/// When the folder cannot be read.
pub fn find(dir: &Path, id: &str) -> io::Result<Vec<Trace>> {
    let all = list(dir)?;
    let Some(newest) = all.iter().rev().find(|trace| trace.is(id)) else { return Ok(Vec::new()) };
    let same = |trace: &&Trace| {
        trace.sip_call_id == newest.sip_call_id || (!newest.call.is_empty() && trace.call == newest.call)
    };
    Ok(all.iter().filter(same).cloned().collect())
}
