//! The methods that are compared.

use std::collections::VecDeque;

use trunkline_policy::abandonment::Formula;

use super::View;
use crate::pacing::{AnswerRate, Floor, Governor, Limits, predictive, progressive};

/// How calls are paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// One call per free agent.
    Progressive,
    /// As VICIdial's PREDICTIVE.txt describes ADAPT_AVERAGE, in our reading: a level of lines per agent,
    /// looked at every 15 s. The level grows with the agents who waited over the last minute and shrinks
    /// with the people who did; when the drop rate is above its target, the level shrinks in proportion.
    /// It may pass the target for a while. The level stays between 1 and 10.
    AdaptAverage {
        /// The wanted drop rate, 0 to 1.
        target: f64,
    },
    /// [`predictive`] under a [`Governor`].
    Ours {
        /// The cap, 0 to 1.
        cap: f64,
    },
}

pub(super) struct Pacer {
    method: Method,
    rate: AnswerRate,
    governor: Governor,
    level: f64,
    /// Free agents less waiting people, each second of the last minute.
    spare: VecDeque<f64>,
    next_adapt: u64,
}

impl Pacer {
    pub(super) fn new(method: Method) -> Self {
        let cap = match method {
            Method::Ours { cap } => cap,
            Method::Progressive | Method::AdaptAverage { .. } => 0.0,
        };
        Self {
            method,
            rate: AnswerRate::new(0.3),
            governor: Governor::new(cap, Formula::Tsr),
            level: 1.0,
            spare: VecDeque::new(),
            next_adapt: 0,
        }
    }

    pub(super) fn learn(&mut self, hour: usize, answered: bool) {
        self.rate.learn(hour, answered);
    }

    pub(super) fn decide(&mut self, view: &View) -> u32 {
        let limits = Limits {
            channels: view.channels,
            starts: 50,
            recognisers: u32::MAX,
            humans: None,
            p_transfer: 1.0,
        };
        match self.method {
            Method::Progressive => progressive(view.free, view.ringing, &limits),
            Method::AdaptAverage { target } => {
                self.adapt(view, target);
                let wanted = (self.level * f64::from(view.agents)).floor() as u32;
                wanted.saturating_sub(view.busy + view.ringing).min(limits.channels).min(limits.starts)
            }
            Method::Ours { .. } => {
                let permit = self.governor.permit(&view.tally);
                let floor = Floor {
                    free: view.free,
                    busy: view.busy,
                    // Half the time to an answer: the quick answers need their agents early.
                    p_free_soon: 1.0 - (-0.5 * view.mean_answer_ms / view.mean_handle_ms).exp(),
                    waiting: view.waiting,
                    ringing: view.ringing,
                    p_answer: self.rate.at(view.hour),
                };
                predictive(&floor, permit.budget, permit.credit, &limits)
            }
        }
    }

    fn adapt(&mut self, view: &View, target: f64) {
        self.spare.push_back(f64::from(view.free) - f64::from(view.waiting));
        if self.spare.len() > 60 {
            self.spare.pop_front();
        }
        if view.now_ms < self.next_adapt {
            return;
        }
        self.next_adapt = view.now_ms + 15_000;
        let spare = self.spare.iter().sum::<f64>() / self.spare.len() as f64;
        self.level *= 1.0 + 0.25 * (spare / f64::from(view.agents)).clamp(-0.5, 0.5);
        let drops = view.tally.rate(Formula::Tsr);
        if drops > target {
            self.level *= (target / drops).max(0.9);
        }
        self.level = self.level.clamp(1.0, 10.0);
    }
}
