//! Each target takes its seeds, and some thousand changes of them.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trunkline_fuzzing::{TARGETS, Target};

/// What breaks parsers of text: ends, depths, signs of the formats, and characters of several bytes.
const PIECES: [&[u8]; 16] = [
    b"\0",
    b"\"",
    b"{",
    b"}",
    b"[[[[",
    b"\r\n\r\n",
    b": ",
    b"- ",
    b"%00",
    b"\xff\xfe",
    "，".as_bytes(),
    "😀".as_bytes(),
    b"-9223372036854775809",
    b"1e999",
    b"null",
    b"&a *a",
];

/// Changes bytes in a few places.
fn changed(seed: &[u8], other: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=bytes.len());
        let end = (at + rng.random_range(0..40)).min(bytes.len());
        match rng.random_range(0..6) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.truncate(at),
            2 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
            3 => drop(
                bytes.splice(at..at, PIECES.choose(rng).into_iter().flat_map(|piece| piece.iter().copied())),
            ),
            4 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let from = rng.random_range(0..=other.len());
                let piece = &other[from..(from + 60).min(other.len())];
                bytes.splice(at..end, piece.iter().copied());
            }
        }
    }
    bytes
}

fn hold(target: &Target, times: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(42);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{} has nothing to start from", target.name);
    for seed in &seeds {
        (target.take)(seed);
    }
    for _ in 0..times {
        let (Some(seed), Some(other)) = (seeds.choose(&mut rng), seeds.choose(&mut rng)) else { break };
        let bytes = changed(seed, other, &mut rng);
        let done = std::panic::catch_unwind(|| (target.take)(&bytes));
        assert!(done.is_ok(), "{}: {:?}", target.name, String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn no_change_of_a_good_text_breaks_what_reads_it() {
    for target in TARGETS {
        // Loading a script takes milliseconds, reading a packet nothing.
        let times = if matches!(target.name, "script" | "turn" | "table") { 150 } else { 1_500 };
        hold(target, times);
    }
}

#[test]
fn nothing_at_all_breaks_nothing() {
    for target in TARGETS {
        for bytes in [&b""[..], b"\0", b"\n", &[0xff; 200], &[b'['; 20_000], &[b'{'; 20_000]] {
            (target.take)(bytes);
        }
    }
}
