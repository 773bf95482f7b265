//! Simulates experiments and prints the tables of `BENCHMARKS.md`: what learning costs, and how often a guard errs.
//!
//! `cargo run -p trunkline-experiment --example simulate > cloud/experiment/BENCHMARKS.md`

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trunkline_experiment::{Guard, Thompson, Verdict};

const RUNS: u64 = 200;
const CALLS: u32 = 4_000;

fn main() {
    println!("# Experiments in simulation\n");
    println!("`cargo run -p trunkline-experiment --example simulate > cloud/experiment/BENCHMARKS.md`");
    println!("\n{RUNS} seeds of {CALLS} calls each. The same seeds give the same tables.\n");
    regret();
    guard();
}

/// Prints how many successes are missed against always giving the better arm.
fn regret() {
    println!("## Successes missed for want of knowing the better arm (regret, mean over all seeds)\n");
    println!(
        "| control | other | half and half | Thompson | Thompson, floor 0.1 | share of the better arm |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for (control, other) in [(0.20, 0.20), (0.20, 0.22), (0.20, 0.25), (0.20, 0.30), (0.05, 0.08)] {
        let fixed = mean(|seed| played(seed, control, other, None).0);
        let learnt = mean(|seed| played(seed, control, other, Some(0.0)).0);
        let floored = mean(|seed| played(seed, control, other, Some(0.1)).0);
        let share = mean(|seed| played(seed, control, other, Some(0.0)).1);
        println!("| {control:.2} | {other:.2} | {fixed:.0} | {learnt:.0} | {floored:.0} | {share:.2} |");
    }
}

/// Returns the regret in successes, and the share of calls that got `other`.
fn played(seed: u64, control: f64, other: f64, floor: Option<f64>) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut policy = Thompson::new(["control", "other"], floor.unwrap_or(1.0));
    let mut missed = 0.0;
    let mut others = 0_u32;
    for _ in 0..CALLS {
        let is_other = policy.draw(&mut rng) == Some("other");
        let rate = if is_other { other } else { control };
        missed += other.max(control) - rate;
        others += u32::from(is_other);
        let success = rng.random_bool(rate);
        policy.learn(if is_other { "other" } else { "control" }, success);
    }
    (missed, f64::from(others) / f64::from(CALLS))
}

/// Prints how often and how soon a guard stops an arm.
fn guard() {
    println!("\n## Guard on opt-outs: rise of at most 0.02 allowed, alpha 0.05, asked after each call\n");
    println!("| opt-outs of control | of the arm | stopped | calls of the arm until then (median) |");
    println!("| --- | --- | --- | --- |");
    for (control, arm) in [(0.03, 0.03), (0.03, 0.05), (0.10, 0.12), (0.03, 0.08), (0.03, 0.12), (0.03, 0.25)]
    {
        let mut stops: Vec<u64> = (0..RUNS).filter_map(|seed| stopped(seed, control, arm)).collect();
        stops.sort_unstable();
        let median = stops.get(stops.len() / 2).map_or("-".to_owned(), u64::to_string);
        let count = f64::from(u32::try_from(stops.len()).unwrap_or(u32::MAX));
        println!("| {control:.2} | {arm:.2} | {:.1} % | {median} |", count * 100.0 / RUNS as f64);
    }
    println!("\nThe first three arms are harmless: what is stopped there is stopped by mistake.");
}

fn stopped(seed: u64, control: f64, arm: f64) -> Option<u64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut guard = Guard::new(0.02, 0.05);
    for _ in 0..CALLS / 2 {
        guard.control(rng.random_bool(control));
        if guard.arm(rng.random_bool(arm)) == Verdict::Stop {
            return Some(guard.pairs());
        }
    }
    None
}

fn mean(of: impl Fn(u64) -> f64) -> f64 {
    (0..RUNS).map(of).sum::<f64>() / RUNS as f64
}
