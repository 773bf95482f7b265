//! What meets a stranger's bytes, as functions of bytes: each must end, and must not panic.
//!
//! `deploy/fuzz` lets a fuzzer look for bytes that break one; the tests of this crate hold each against its
//! seeds, changed at random from a fixed seed, so that none stops compiling or breaks at the first try.
//!
//! **Invariant:** a target depends on its bytes alone.

mod dialogue;
mod line;
mod link;

/// One way in for strangers.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// Takes the bytes.
    pub take: fn(&[u8]),
    /// Returns bytes that are as they should be, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every way in.
pub const TARGETS: &[Target] = &[
    Target { name: "script", take: dialogue::script, seeds: dialogue::scripts },
    Target { name: "table", take: dialogue::table, seeds: dialogue::tables },
    Target { name: "words", take: dialogue::words, seeds: dialogue::word_lists },
    Target { name: "turn", take: dialogue::turn, seeds: dialogue::turns },
    Target { name: "understand", take: dialogue::understand, seeds: dialogue::sentences },
    Target { name: "wire", take: link::wire, seeds: link::messages },
    Target { name: "pack", take: link::pack, seeds: link::packs },
    Target { name: "signed", take: link::signed, seeds: link::documents },
    Target { name: "manifest", take: link::manifest, seeds: link::manifests },
    Target { name: "sip", take: line::sip, seeds: line::sip_messages },
    Target { name: "sdp", take: line::sdp, seeds: line::descriptions },
    Target { name: "trace", take: line::trace, seeds: line::sip_messages },
    Target { name: "rtcp", take: line::rtcp, seeds: line::reports },
    Target { name: "rtp", take: line::rtp, seeds: line::packets },
];

/// Returns the target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
