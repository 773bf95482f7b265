//! A shift of a campaign whose robot hands a share of its calls to people, paced by [`pace`] as the worker does it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trunkline_policy::abandonment::{Formula, Tally};

use crate::pacing::{Governor, Limits};
use crate::people::{LEAST_ANSWERS, Ledger, Method, Reason, Scene, pace};

/// A campaign, its people and its callees. Times are in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// For the table.
    pub name: &'static str,
    /// People who are said to be at work.
    pub agents: u32,
    /// Minutes in which nobody of them takes a call, from and to.
    pub away_min: Option<(u32, u32)>,
    /// Channels of the lines.
    pub channels: u32,
    /// How long the shift is, in minutes.
    pub minutes: u32,
    /// Probability that a call is answered.
    pub p_answer: f64,
    /// Probability that an answered call is handed over.
    pub p_transfer: f64,
    /// Mean talk with the robot.
    pub robot_s: f64,
    /// Mean talk with a person, writing up included.
    pub person_s: f64,
}

/// How a shift went.
#[derive(Clone, Debug, PartialEq)]
pub struct BranchShift {
    /// The share of their time that people were busy, 0 to 1, after the first 30 minutes.
    pub occupancy: f64,
    /// What became of the answered calls.
    pub tally: Tally,
    /// The highest rate so far at any answer, from the hundredth on.
    pub worst: f64,
    /// Calls started.
    pub dialled: u64,
    /// Calls started, by minute.
    pub by_minute: Vec<u32>,
    /// Seconds in which nobody took calls, by the pacer's word.
    pub nobody_s: u32,
    /// Seconds in which it was near the cap or above it.
    pub governed_s: u32,
}

/// The scenarios of the table.
pub fn branches() -> Vec<Branch> {
    let usual = Branch {
        name: "10 people, each fifth call",
        agents: 10,
        away_min: None,
        channels: 120,
        minutes: 480,
        p_answer: 0.4,
        p_transfer: 0.2,
        robot_s: 40.0,
        person_s: 120.0,
    };
    vec![
        usual.clone(),
        Branch { name: "3 people", agents: 3, channels: 40, ..usual.clone() },
        Branch { name: "30 people", agents: 30, channels: 360, ..usual.clone() },
        Branch { name: "each second call", p_transfer: 0.5, channels: 60, ..usual.clone() },
        Branch { name: "few answers", p_answer: 0.15, channels: 240, ..usual.clone() },
        Branch { name: "away for an hour", away_min: Some((180, 240)), ..usual },
    ]
}

/// How long somebody waits for the person who was promised; after that the robot takes the call back.
const PATIENCE_S: u32 = 20;
const WARM_UP_S: u32 = 30 * 60;
const LONGEST_RING_S: u32 = 25;

struct World<'a> {
    branch: &'a Branch,
    rng: ChaCha8Rng,
    now: u32,
    /// When each call is answered, or stops ringing.
    ringing: Vec<(u32, bool)>,
    /// When each talk with the robot ends.
    talking: Vec<u32>,
    /// Until when people wait for a person.
    waiting: Vec<u32>,
    /// Until when people are busy.
    busy: Vec<u32>,
    tally: Tally,
    ended: u64,
    handovers: u64,
    missed: u32,
    missed_at: u32,
    shift: BranchShift,
    busy_s: u64,
}

/// Runs one shift under a cap of `cap` by the FTC's formula.
pub fn run_branch(branch: &Branch, method: Method, cap: f64, seed: u64) -> BranchShift {
    let shift = BranchShift {
        occupancy: 0.0,
        tally: Tally::default(),
        worst: 0.0,
        dialled: 0,
        by_minute: vec![0; branch.minutes as usize],
        nobody_s: 0,
        governed_s: 0,
    };
    let mut world = World {
        branch,
        rng: ChaCha8Rng::seed_from_u64(seed),
        now: 0,
        ringing: Vec::new(),
        talking: Vec::new(),
        waiting: Vec::new(),
        busy: Vec::new(),
        tally: Tally::default(),
        ended: 0,
        handovers: 0,
        missed: 0,
        missed_at: 0,
        shift,
        busy_s: 0,
    };
    let mut governor = Governor::new(cap, Formula::Tsr);
    let end = branch.minutes * 60;
    while world.now < end {
        world.settle();
        let ledger = Ledger { day: world.tally, window: world.tally, cap, formula: Formula::Tsr };
        let lines = world.free_lines();
        let limits =
            Limits { channels: lines, starts: 20, recognisers: lines, humans: None, p_transfer: 0.0 };
        let paced = pace(method, &world.scene(), &ledger, &mut governor, &limits);
        match paced.reason {
            Reason::NobodyTakesCalls => world.shift.nobody_s += 1,
            Reason::Abandonment | Reason::AbandonmentCap => world.shift.governed_s += 1,
            Reason::None | Reason::People => {}
        }
        (0..paced.allowed).for_each(|_| world.dial());
        world.now += 1;
    }
    let counted = f64::from(end - WARM_UP_S) * f64::from(branch.agents);
    BranchShift { occupancy: world.busy_s as f64 / counted, tally: world.tally, ..world.shift }
}

impl World<'_> {
    fn free_lines(&self) -> u32 {
        // A call that a person took goes on over the box.
        let held = self.ringing.len() + self.talking.len() + self.waiting.len() + self.busy.len();
        self.branch.channels.saturating_sub(u32::try_from(held).unwrap_or(u32::MAX))
    }

    fn scene(&self) -> Scene {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let rate = |of: u64, among: u64, guess: f64, weight: f64| {
            (of as f64 + guess * weight) / (among as f64 + weight)
        };
        Scene {
            agents: self.branch.agents,
            busy: count(self.busy.len() + self.waiting.len()),
            ringing: count(self.ringing.len()),
            talking: count(self.talking.len()),
            p_answer: rate(self.tally.answered_live, self.ended, 0.3, 10.0),
            p_transfer: rate(self.handovers, self.tally.answered_live, 0.5, 5.0),
            until_s: self.branch.robot_s + 8.0,
            handle_s: self.branch.person_s,
            missed: self.missed,
            missed_s: self.now - self.missed_at,
        }
    }

    fn present(&self) -> u32 {
        let away = self.branch.away_min.is_some_and(|(from, to)| (from..to).contains(&(self.now / 60)));
        if away { 0 } else { self.branch.agents }
    }

    fn dial(&mut self) {
        self.shift.dialled += 1;
        self.shift.by_minute[(self.now / 60) as usize] += 1;
        let answered = self.rng.random::<f64>() < self.branch.p_answer;
        let rings = if answered { self.rng.random_range(3..14) } else { LONGEST_RING_S };
        self.ringing.push((self.now + rings, answered));
    }

    /// Brings everything up to this second.
    fn settle(&mut self) {
        let now = self.now;
        self.busy.retain(|until| *until > now);
        if now >= WARM_UP_S {
            self.busy_s += self.busy.len() as u64;
        }
        let (done, ringing) = self.ringing.drain(..).partition::<Vec<_>, _>(|(at, _)| *at <= now);
        self.ringing = ringing;
        for (_, answered) in done {
            self.ended += 1;
            if answered {
                self.tally.answered_live += 1;
                let talk = self.exponential(self.branch.robot_s);
                self.talking.push(now + talk);
                if self.tally.answered_live >= LEAST_ANSWERS {
                    self.shift.worst = self.shift.worst.max(self.tally.rate(Formula::Tsr));
                }
            }
        }
        let (done, talking) = self.talking.drain(..).partition::<Vec<_>, _>(|at| *at <= now);
        self.talking = talking;
        for _ in done {
            if self.rng.random::<f64>() < self.branch.p_transfer {
                self.handovers += 1;
                self.waiting.push(now + PATIENCE_S);
            } else {
                self.tally.connected += 1;
            }
        }
        while !self.waiting.is_empty() && self.busy.len() < self.present() as usize {
            self.waiting.remove(0);
            self.tally.connected += 1;
            self.missed = 0;
            let talk = self.exponential(self.branch.person_s);
            self.busy.push(now + talk);
        }
        let before = self.waiting.len();
        self.waiting.retain(|until| *until > now);
        let lost = before - self.waiting.len();
        if lost > 0 {
            self.tally.abandoned += lost as u64;
            self.missed += u32::try_from(lost).unwrap_or(u32::MAX);
            self.missed_at = now;
        }
    }

    fn exponential(&mut self, mean: f64) -> u32 {
        let luck: f64 = self.rng.random::<f64>().max(1e-9);
        ((-luck.ln() * mean) as u32).clamp(5, 1_800)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_the_governor_the_cap_holds_at_all_times_and_people_are_busier_than_one_call_each_would_make_them()
     {
        for branch in branches() {
            for seed in 1..=3 {
                let bold = run_branch(&branch, Method::Predictive, 0.03, seed);
                let careful = run_branch(&branch, Method::Progressive, 0.03, seed);
                assert!(bold.worst <= 0.03, "{} seed {seed}: {:.4}", branch.name, bold.worst);
                assert!(bold.occupancy > careful.occupancy + 0.05, "{} seed {seed}", branch.name);
            }
        }
    }

    #[test]
    fn where_people_went_away_it_stops_within_minutes_and_goes_on_when_they_are_back() {
        let branch = branches().pop().unwrap();
        let (from, to) = branch.away_min.unwrap();
        for seed in 1..=5 {
            let shift = run_branch(&branch, Method::Predictive, 0.03, seed);
            let dialled =
                |from: u32, to: u32| -> u32 { shift.by_minute[from as usize..to as usize].iter().sum() };
            let (before, away, after) =
                (dialled(from - 40, from), dialled(from + 10, to), dialled(to + 20, to + 60));
            assert!(away * 20 < before, "seed {seed}: {away} while nobody was there, {before} before");
            assert!(after * 2 > before, "seed {seed}: {after} when they were back, {before} before");
            assert!(shift.nobody_s > 30 * 60, "seed {seed}: {}", shift.nobody_s);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_shift() {
        let branch = &branches()[0];
        let of = |seed| run_branch(branch, Method::Predictive, 0.03, seed);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }
}
