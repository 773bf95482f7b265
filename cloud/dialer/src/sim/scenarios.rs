//! The scenarios of the table.

/// A shift of one campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// For the table.
    pub name: &'static str,
    /// Agents at work.
    pub agents: u32,
    /// Channels of the trunks.
    pub channels: u32,
    /// How long it lasts.
    pub minutes: u32,
    /// Probability that a call is answered at 9:00.
    pub answer_first: f64,
    /// The same at the end; in between it changes evenly.
    pub answer_last: f64,
    /// Mean time to an answer, in seconds.
    pub answer_s: f64,
    /// Calls that fail at once.
    pub p_fail: f64,
    /// Mean talk, in seconds.
    pub talk_s: f64,
    /// Deviation of the talk's logarithm.
    pub talk_spread: f64,
    /// Time to write up, in seconds.
    pub wrap_s: f64,
    /// Minutes in which every call fails.
    pub outage: Option<(u64, u64)>,
}

impl Scenario {
    /// Returns the probability of an answer at an instant of the shift.
    pub(super) fn p_answer(&self, now_ms: u64) -> f64 {
        let share = now_ms as f64 / (f64::from(self.minutes) * 60_000.0);
        self.answer_first + (self.answer_last - self.answer_first) * share.clamp(0.0, 1.0)
    }
}

/// Returns the scenarios of the table.
pub fn scenarios() -> Vec<Scenario> {
    let usual = Scenario {
        name: "25 agents, usual",
        agents: 25,
        channels: 200,
        minutes: 240,
        answer_first: 0.30,
        answer_last: 0.30,
        answer_s: 8.0,
        p_fail: 0.05,
        talk_s: 90.0,
        talk_spread: 0.7,
        wrap_s: 15.0,
        outage: None,
    };
    vec![
        usual.clone(),
        Scenario { name: "8 agents", agents: 8, channels: 64, ..usual.clone() },
        Scenario { name: "100 agents", agents: 100, channels: 800, ..usual.clone() },
        Scenario {
            name: "few answers",
            answer_first: 0.12,
            answer_last: 0.12,
            channels: 400,
            ..usual.clone()
        },
        Scenario { name: "answers double", answer_first: 0.20, answer_last: 0.40, ..usual.clone() },
        Scenario { name: "short talk", talk_s: 35.0, wrap_s: 5.0, channels: 400, ..usual.clone() },
        Scenario { name: "uneven talk", talk_spread: 1.3, ..usual.clone() },
        Scenario { name: "trunk dead 10 min", outage: Some((90, 100)), ..usual },
    ]
}
