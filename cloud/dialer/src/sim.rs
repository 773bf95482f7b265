//! A world for the pacing: agents, people who answer or do not, a line that fails, from a seed.
//!
//! Time is virtual and in milliseconds; a shift of four hours runs in a fraction of a second. The same
//! scenario, method and seed give the same result on every machine.

mod methods;
mod people;
mod scenarios;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trunkline_policy::abandonment::{Formula, Tally};

pub use methods::Method;
pub use people::{Branch, BranchShift, branches, run_branch};
pub use scenarios::{Scenario, scenarios};

use methods::Pacer;

/// A person who waits longer than this after the greeting was abandoned (16 CFR 310.4(b)(1)(iv)).
const PATIENCE_MS: u64 = 2_000;
/// What the occupancy does not count: the agents log in, and the pacer knows nothing yet.
const WARM_UP_MS: u64 = 15 * 60 * 1_000;
/// A rate over fewer answers than this is not looked at.
const LEAST_ANSWERS: u64 = 100;

/// How a shift went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The share of their time that agents talked or wrote up, 0 to 1, after the first 15 minutes.
    pub occupancy: f64,
    /// What became of the answered calls.
    pub tally: Tally,
    /// The abandonment rate at the end.
    pub abandonment: f64,
    /// The highest rate over the campaign so far at any answer, from the hundredth on.
    pub worst: f64,
    /// Calls started.
    pub dialled: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A call is answered by a person.
    Answered,
    /// A call ends unanswered.
    Unanswered,
    /// A call does not come about.
    Failed,
    /// An agent has written up.
    AgentFree,
    /// The person of this number hangs up, if nobody has spoken to her.
    LosesPatience(u64),
    /// The pacer decides.
    Tick,
}

/// What a pacer sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) now_ms: u64,
    pub(crate) hour: usize,
    pub(crate) agents: u32,
    pub(crate) free: u32,
    pub(crate) busy: u32,
    pub(crate) ringing: u32,
    pub(crate) waiting: u32,
    pub(crate) channels: u32,
    pub(crate) tally: Tally,
    pub(crate) mean_answer_ms: f64,
    pub(crate) mean_handle_ms: f64,
}

struct World<'a> {
    scenario: &'a Scenario,
    rng: ChaCha8Rng,
    now: u64,
    order: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    free: u32,
    ringing: u32,
    waiting: VecDeque<u64>,
    persons: u64,
    busy_ms: u64,
    looked_at: u64,
    tally: Tally,
    worst: f64,
    dialled: u64,
    answer_ms: Mean,
    handle_ms: Mean,
}

/// A moving average.
struct Mean(f64);

impl Mean {
    fn learn(&mut self, value: f64) {
        self.0 += (value - self.0) * 0.01;
    }
}

/// Runs one shift.
pub fn run(scenario: &Scenario, method: Method, seed: u64) -> Shift {
    let mut world = World {
        scenario,
        rng: ChaCha8Rng::seed_from_u64(seed),
        now: 0,
        order: 0,
        events: BinaryHeap::new(),
        free: scenario.agents,
        ringing: 0,
        waiting: VecDeque::new(),
        persons: 0,
        busy_ms: 0,
        looked_at: 0,
        tally: Tally::default(),
        worst: 0.0,
        dialled: 0,
        answer_ms: Mean(8_000.0),
        handle_ms: Mean(120_000.0),
    };
    let mut pacer = Pacer::new(method);
    let end = u64::from(scenario.minutes) * 60_000;
    world.at(0, Event::Tick);
    while let Some(Reverse((at, _, event))) = world.events.pop() {
        if at > end {
            break;
        }
        world.advance(at);
        match event {
            Event::Tick => {
                let calls = pacer.decide(&world.view());
                (0..calls).for_each(|_| world.dial());
                world.at(1_000, Event::Tick);
            }
            Event::Answered => {
                world.ringing -= 1;
                pacer.learn(world.hour(), true);
                world.answered();
            }
            Event::Unanswered => {
                world.ringing -= 1;
                pacer.learn(world.hour(), false);
            }
            Event::Failed => world.ringing -= 1,
            Event::AgentFree => world.agent_free(),
            Event::LosesPatience(person) => world.loses_patience(person),
        }
    }
    world.advance(end);
    let counted = (end - WARM_UP_MS) as f64 * f64::from(scenario.agents);
    Shift {
        occupancy: world.busy_ms as f64 / counted,
        tally: world.tally,
        abandonment: world.tally.rate(Formula::Tsr),
        worst: world.worst,
        dialled: world.dialled,
    }
}

impl World<'_> {
    fn at(&mut self, in_ms: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((self.now + in_ms, self.order, event)));
    }

    fn advance(&mut self, to: u64) {
        let busy = u64::from(self.scenario.agents - self.free);
        let from = self.looked_at.max(WARM_UP_MS);
        self.busy_ms += busy * to.saturating_sub(from);
        self.looked_at = to;
        self.now = to;
    }

    fn hour(&self) -> usize {
        usize::try_from(9 + self.now / 3_600_000).unwrap_or(0) % 24
    }

    fn view(&self) -> View {
        View {
            now_ms: self.now,
            hour: self.hour(),
            agents: self.scenario.agents,
            free: self.free,
            busy: self.scenario.agents - self.free,
            ringing: self.ringing,
            waiting: u32::try_from(self.waiting.len()).unwrap_or(u32::MAX),
            channels: self.scenario.channels.saturating_sub(self.ringing + self.scenario.agents - self.free),
            tally: self.tally,
            mean_answer_ms: self.answer_ms.0,
            mean_handle_ms: self.handle_ms.0,
        }
    }

    fn dial(&mut self) {
        self.dialled += 1;
        self.ringing += 1;
        let minute = self.now / 60_000;
        let dead = self.scenario.outage.is_some_and(|(from, to)| (from..to).contains(&minute));
        let luck: f64 = self.rng.random();
        if dead || luck < self.scenario.p_fail {
            let fails_in = self.rng.random_range(800..4_000);
            self.at(fails_in, Event::Failed);
        } else if self.rng.random::<f64>() < self.scenario.p_answer(self.now) {
            let picks_up_in = self.lognormal(self.scenario.answer_s * 1_000.0, 0.5).clamp(1_500.0, 24_000.0);
            self.answer_ms.learn(picks_up_in);
            self.at(picks_up_in as u64, Event::Answered);
        } else {
            self.at(25_000, Event::Unanswered);
        }
    }

    fn answered(&mut self) {
        self.tally.answered_live += 1;
        if self.free > 0 {
            self.connect();
        } else {
            self.persons += 1;
            let person = self.persons;
            self.waiting.push_back(person);
            self.at(PATIENCE_MS, Event::LosesPatience(person));
        }
        self.judge();
    }

    fn connect(&mut self) {
        self.tally.connected += 1;
        self.free -= 1;
        let talks = self.lognormal(self.scenario.talk_s * 1_000.0, self.scenario.talk_spread);
        let busy = talks + self.scenario.wrap_s * 1_000.0;
        self.handle_ms.learn(busy);
        self.at(busy as u64, Event::AgentFree);
    }

    fn agent_free(&mut self) {
        self.free += 1;
        if self.waiting.pop_front().is_some() {
            self.connect();
        }
    }

    fn loses_patience(&mut self, person: u64) {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| *waiting != person);
        if self.waiting.len() < before {
            self.tally.abandoned += 1;
            self.judge();
        }
    }

    fn judge(&mut self) {
        if self.tally.answered_live >= LEAST_ANSWERS {
            self.worst = self.worst.max(self.tally.rate(Formula::Tsr));
        }
    }

    /// A log-normal value of this mean; `spread` is the deviation of its logarithm.
    fn lognormal(&mut self, mean: f64, spread: f64) -> f64 {
        let (a, b): (f64, f64) = (self.rng.random::<f64>().max(1e-12), self.rng.random());
        let normal = (-2.0 * a.ln()).sqrt() * (2.0 * std::f64::consts::PI * b).cos();
        mean * (spread * normal - spread * spread / 2.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_shift() {
        let scenario = &scenarios()[0];
        let method = Method::Ours { cap: 0.03 };
        assert_eq!(run(scenario, method, 7), run(scenario, method, 7));
        assert_ne!(run(scenario, method, 7), run(scenario, method, 8));
    }

    #[test]
    fn a_progressive_campaign_abandons_nobody() {
        for scenario in scenarios() {
            assert_eq!(run(&scenario, Method::Progressive, 1).tally.abandoned, 0, "{}", scenario.name);
        }
    }

    #[test]
    fn ours_stays_below_the_cap_at_all_times_and_keeps_agents_busier_than_progressive() {
        for scenario in scenarios() {
            for seed in 1..=3 {
                let ours = run(&scenario, Method::Ours { cap: 0.03 }, seed);
                let progressive = run(&scenario, Method::Progressive, seed);
                assert!(ours.worst <= 0.03, "{} seed {seed}: {:.4}", scenario.name, ours.worst);
                assert!(ours.occupancy > progressive.occupancy, "{} seed {seed}", scenario.name);
            }
        }
    }
}
