//! How long a text is held against many words.
//!
//! `cargo run -p trunkline-words --example words_bench` prints a table; nothing is read or fetched. The words are
//! made from a seed: two to five characters, or one to three English-looking words.

use std::fmt::Write as _;
use std::time::Instant;

use trunkline_words::{Filter, WordList};

const ROUNDS: usize = 2_000;

fn main() {
    println!("| words | text | median µs | p99 µs | compiled in ms |\n| ---: | --- | ---: | ---: | ---: |");
    for words in [100, 1_000, 10_000, 100_000] {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut list =
            "schema: trunkline/words/1\nid: bench\nentries:\n  - side: both\n    words:\n".to_owned();
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < words {
            let word = if seen.len() % 2 == 0 { chinese(&mut seed) } else { english(&mut seed) };
            if seen.insert(word.clone()) {
                let _ = writeln!(list, "      - {word}");
            }
        }
        let began = Instant::now();
        let list = match WordList::from_yaml(&list) {
            Ok(list) => list,
            Err(error) => return eprintln!("{error}"),
        };
        let filter = match Filter::new(&[list]) {
            Ok(filter) => filter,
            Err(error) => return eprintln!("{error}"),
        };
        let compiled = began.elapsed();
        let turn: String = (0..10).map(|_| chinese(&mut seed)).collect();
        let prompt: String = (0..60).map(|_| chinese(&mut seed) + "，").collect();
        let long: String = (0..400).map(|_| english(&mut seed) + " ").collect();
        for (name, text) in [("turn", turn), ("long prompt", prompt), ("English page", long)] {
            let mut times: Vec<u128> = (0..ROUNDS)
                .map(|_| {
                    let began = Instant::now();
                    std::hint::black_box(filter.speakable(std::hint::black_box(&text)));
                    began.elapsed().as_nanos()
                })
                .collect();
            times.sort_unstable();
            let us = |at: usize| times.get(at).map_or(0.0, |ns| *ns as f64 / 1_000.0);
            println!(
                "| {words} | {name}, {} characters | {:.0} | {:.0} | {:.0} |",
                text.chars().count(),
                us(ROUNDS / 2),
                us(ROUNDS * 99 / 100),
                compiled.as_secs_f64() * 1e3,
            );
        }
    }
}

fn next(seed: &mut u64) -> u64 {
    // xorshift64*, Vigna 2016.
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
}

fn chinese(seed: &mut u64) -> String {
    let length = 2 + next(seed) % 4;
    (0..length).filter_map(|_| char::from_u32(0x4e00 + (next(seed) % 3_000) as u32)).collect()
}

fn english(seed: &mut u64) -> String {
    let words = 1 + next(seed) % 3;
    let word = |seed: &mut u64| -> String {
        let length = 3 + next(seed) % 6;
        (0..length).map(|_| char::from(b'a' + (next(seed) % 26) as u8)).collect()
    };
    (0..words).map(|_| word(seed)).collect::<Vec<_>>().join(" ")
}
