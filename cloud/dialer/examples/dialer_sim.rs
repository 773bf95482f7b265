//! Prints the tables of `cloud/dialer/BENCHMARKS.md`.
//!
//! `cargo run -p trunkline-dialer --example dialer_sim -- pacing 30` runs every scenario with 30 seeds;
//! `… -- people 30` does the same for robots that hand calls to people; `… -- scale` measures a scheduling pass.

use std::time::Instant;

use jiff::Timestamp;
use trunkline_dialer::allot::{self, Demand, Line, Route};
use trunkline_dialer::people;
use trunkline_dialer::queue::{Queue, Waiting};
use trunkline_dialer::sim::{BranchShift, Method, Scenario, Shift, branches, run, run_branch, scenarios};

fn main() {
    let mut args = std::env::args().skip(1);
    let what = args.next().unwrap_or_else(|| "pacing".into());
    let seeds: u64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(30);
    match what.as_str() {
        "pacing" => pacing(seeds),
        "people" => people(seeds),
        "scale" => scale(),
        other => eprintln!("`{other}` is not `pacing`, `people` or `scale`"),
    }
}

struct Row {
    occupancy: f64,
    abandonment: f64,
    worst: f64,
}

fn over(scenario: &Scenario, method: Method, seeds: u64) -> Row {
    let shifts: Vec<Shift> = (1..=seeds).map(|seed| run(scenario, method, seed)).collect();
    let mean = |value: fn(&Shift) -> f64| shifts.iter().map(value).sum::<f64>() / shifts.len() as f64;
    let worst = shifts.iter().map(|shift| shift.worst).fold(0.0, f64::max);
    Row { occupancy: mean(|shift| shift.occupancy), abandonment: mean(|shift| shift.abandonment), worst }
}

fn pacing(seeds: u64) {
    println!(
        "| scenario | progressive | ADAPT_AVERAGE at 3 % | the same at our abandonment | ours, cap 3 % | ours, worst window |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for scenario in scenarios() {
        let progressive = over(&scenario, Method::Progressive, seeds);
        let ours = over(&scenario, Method::Ours { cap: 0.03 }, seeds);
        let targets = [0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03];
        let adapt: Vec<Row> = targets
            .map(|target| over(&scenario, Method::AdaptAverage { target }, seeds))
            .into_iter()
            .collect();
        let show = |row: &Row| format!("{:.1} %, {:.2} %", row.occupancy * 100.0, row.abandonment * 100.0);
        let equal = at_abandonment(&adapt, ours.abandonment);
        println!(
            "| {} | {} | {} (worst {:.1} %) | {} | {} | {:.2} % |",
            scenario.name,
            show(&progressive),
            adapt.last().map_or(String::new(), show),
            adapt.last().map_or(0.0, |row| row.worst * 100.0),
            equal.map_or("-".into(), |occupancy| format!("{:.1} %", occupancy * 100.0)),
            show(&ours),
            ours.worst * 100.0
        );
    }
}

/// The occupancy that the rows have at a rate of abandonment, between the two nearest.
fn at_abandonment(rows: &[Row], wanted: f64) -> Option<f64> {
    let below = rows
        .iter()
        .filter(|row| row.abandonment <= wanted)
        .max_by(|a, b| a.abandonment.total_cmp(&b.abandonment));
    let above = rows
        .iter()
        .filter(|row| row.abandonment > wanted)
        .min_by(|a, b| a.abandonment.total_cmp(&b.abandonment));
    match (below, above) {
        (Some(a), Some(b)) => {
            let share = (wanted - a.abandonment) / (b.abandonment - a.abandonment);
            Some(a.occupancy + (b.occupancy - a.occupancy) * share)
        }
        (Some(row), None) | (None, Some(row)) => Some(row.occupancy),
        (None, None) => None,
    }
}

/// Robots that hand a share of their calls to people.
fn people(seeds: u64) {
    println!(
        "| scenario | mean | progressive | predictive, cap 3 % | worst window | governed | nobody there |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for branch in branches() {
        let shifts = |method| -> Vec<BranchShift> {
            (1..=seeds).map(|seed| run_branch(&branch, method, 0.03, seed)).collect()
        };
        let mean = |shifts: &[BranchShift], value: fn(&BranchShift) -> f64| {
            shifts.iter().map(value).sum::<f64>() / shifts.len() as f64
        };
        let show = |shifts: &[BranchShift]| {
            let rate = mean(shifts, |shift| shift.tally.rate(trunkline_policy::abandonment::Formula::Tsr));
            format!("{:.1} %, {:.2} %", mean(shifts, |shift| shift.occupancy) * 100.0, rate * 100.0)
        };
        let ours = shifts(people::Method::Predictive);
        println!(
            "| {} | {} | {} | {} | {:.2} % | {:.0} min | {:.0} min |",
            branch.name,
            show(&shifts(people::Method::Mean)),
            show(&shifts(people::Method::Progressive)),
            show(&ours),
            ours.iter().map(|shift| shift.worst).fold(0.0, f64::max) * 100.0,
            mean(&ours, |shift| f64::from(shift.governed_s) / 60.0),
            mean(&ours, |shift| f64::from(shift.nobody_s) / 60.0),
        );
    }
}

fn scale() {
    println!("| contacts | fill | first pass | 2,000 calls: take and allot | memory of the queue |");
    println!("| --- | --- | --- | --- | --- |");
    let now: Timestamp = "2026-11-23T02:00:00Z".parse().expect("an instant");
    for contacts in [10_000_u64, 100_000, 1_000_000] {
        let before = resident_kib();
        let filling = Instant::now();
        let mut queue = Queue::default();
        for contact in 0..contacts {
            let late = i64::try_from(contact % 7).unwrap_or(0) * 60_000;
            queue.put(Waiting {
                priority: (contact % 10) as u16,
                not_before: now.as_millisecond() - late,
                contact,
            });
        }
        let filled = filling.elapsed();
        let first = Instant::now();
        let taken = queue.take(1, now).len();
        let first = first.elapsed();
        let pass = Instant::now();
        let (lines, speech, demands) = fleet();
        let grants = allot::allot(&lines, &speech, &demands);
        let calls: u32 = grants.iter().map(|grant| grant.calls).sum();
        let taken = taken + queue.take(calls as usize, now).len();
        let pass = pass.elapsed();
        println!(
            "| {contacts} | {:.0} ms | {:.1} ms | {:.1} ms ({taken} contacts) | {} MiB |",
            filled.as_secs_f64() * 1e3,
            first.as_secs_f64() * 1e3,
            pass.as_secs_f64() * 1e3,
            resident_kib().saturating_sub(before) / 1_024
        );
    }
}

/// 200 boxes with ten lines each, one free channel per line, and 20 campaigns in three classes.
fn fleet() -> (Vec<Line>, Vec<u32>, Vec<Demand>) {
    let lines = (0..2_000)
        .map(|at| Line {
            id: format!("tl-{}/{}", at / 10, at % 10),
            on: at / 10,
            free: 1,
            starts: 1,
            healthy: true,
            profile: at % 10,
        })
        .collect();
    let demands = (0..20)
        .map(|campaign| Demand {
            campaign,
            class: (campaign % 3) as u8,
            weight: 1 + (campaign % 5) as u32,
            wanted: 500,
            running: 0,
            // Half of the contacts may go over any line of a box, the others over half of them.
            routes: vec![
                Route { ready: 1_000, profiles: (0..10).collect() },
                Route { ready: 1_000, profiles: (0..10).step_by(2).collect() },
            ],
            lines: vec![],
            waited_s: 0,
        })
        .collect();
    (lines, vec![10; 200], demands)
}

/// Resident memory, where the kernel tells.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
