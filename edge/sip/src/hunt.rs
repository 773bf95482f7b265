//! Whom a call is handed to when several could take it: who is called when, who wins, and what the winner must do.
//!
//! [`Hunt`] is told what becomes of each call to a person and says what to do next; the calls are its owner's.
//! Persons are called together or one after another, in steps. Who answers first has won, and the others of that
//! step are let go, be they ringing or, in the same moment, answered. The winner hears a summary if there is one,
//! presses a key if that is asked for, and is joined.
//!
//! **Invariant:** everybody who was called is let go or joined; one is joined at most.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::agent::{Failure, FailureCause};

/// Persons that one hunt calls at most.
pub const MAX_PERSONS: usize = 32;
/// Who has answered is not left in silence longer than this for a summary that is still being spoken.
const SUMMARY_WITHIN: Duration = Duration::from_secs(3);
/// The longest summary.
const LONGEST_SUMMARY: Duration = Duration::from_secs(45);
/// How long a person may think before she presses the key, counted from the end of the summary.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// The key that takes the call, and the one that does not.
pub const ACCEPT: char = '1';
/// See [`ACCEPT`].
pub const DECLINE: char = '2';

/// How a hunt goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HuntPlan {
    /// Who is called together, step by step; persons are numbers below [`MAX_PERSONS`], each once.
    pub steps: Vec<Vec<usize>>,
    /// How long each step rings.
    pub each: Duration,
    /// Whether the person hears a summary before she is joined.
    pub announce: bool,
    /// Whether she must press [`ACCEPT`]; else answering is enough.
    pub confirm: bool,
}

impl HuntPlan {
    /// Returns how long it can take until somebody has answered.
    pub fn longest_ringing(&self) -> Duration {
        self.each.saturating_mul(u32::try_from(self.steps.len()).unwrap_or(u32::MAX))
    }

    /// Returns how long it can take from the answer until the person is joined or was given up.
    pub fn longest_asking() -> Duration {
        SUMMARY_WITHIN + LONGEST_SUMMARY + CONFIRM_WITHIN
    }
}

/// What to do for a hunt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HuntOrder {
    /// Call this person.
    Call(usize),
    /// Give the call to this person up, in whatever state it is.
    LetGo(usize),
    /// This person answered and has the call to herself: nobody else is being called now.
    Won(usize),
    /// Speak the summary to this person; then [`Hunt::handle_announced`].
    Announce(usize),
    /// Join this person with the customer.
    Join(usize),
    /// The person who was joined hung up. The last order.
    HungUp,
    /// Nobody took the call, for this reason. The last order.
    Failed(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ringing {
        until: Instant,
    },
    /// Somebody answered, and the summary is not there yet.
    Waiting {
        who: usize,
        until: Instant,
    },
    Announcing {
        who: usize,
        until: Instant,
    },
    Confirming {
        who: usize,
        until: Instant,
    },
    Joined {
        who: usize,
    },
    Over,
}

/// A search for a person who takes a call.
#[derive(Debug)]
pub struct Hunt {
    plan: HuntPlan,
    /// The step that rings.
    step: usize,
    stage: Stage,
    /// Who is being called, or answered.
    open: Vec<usize>,
    /// Whether there is a summary, once that is known.
    summary: Option<bool>,
    /// What is told if nobody takes the call.
    failure: Option<Failure>,
    out: VecDeque<HuntOrder>,
}

impl Hunt {
    /// Begins to call.
    pub fn new(now: Instant, mut plan: HuntPlan) -> Self {
        let mut seen = 0u32;
        for step in &mut plan.steps {
            step.retain(|who| {
                let new = *who < MAX_PERSONS && seen & (1 << who) == 0;
                seen |= if new { 1 << who } else { 0 };
                new
            });
        }
        plan.steps.retain(|step| !step.is_empty());
        let mut hunt = Self {
            step: 0,
            stage: Stage::Over,
            open: Vec::new(),
            summary: (!plan.announce).then_some(false),
            failure: None,
            out: VecDeque::new(),
            plan,
        };
        hunt.ring(now);
        hunt
    }

    /// Whether the summary can be spoken now, or will never be.
    pub fn handle_summary(&mut self, now: Instant, ready: bool) {
        self.summary.get_or_insert(ready);
        if let Stage::Waiting { who, .. } = self.stage {
            self.won(now, who);
        }
    }

    /// This person answered.
    pub fn handle_answered(&mut self, now: Instant, who: usize) {
        if !self.open.contains(&who) {
            return;
        }
        if !matches!(self.stage, Stage::Ringing { .. }) {
            // Somebody was faster.
            if self.winner() != Some(who) {
                self.let_go(who);
            }
            return;
        }
        let others: Vec<usize> = self.open.iter().copied().filter(|other| *other != who).collect();
        for other in others {
            self.let_go(other);
        }
        self.out.push_back(HuntOrder::Won(who));
        self.won(now, who);
    }

    /// The call to this person did not come about, or broke off.
    pub fn handle_failed(&mut self, now: Instant, who: usize, failure: Failure) {
        self.gone(now, who, failure);
    }

    /// This person hung up.
    pub fn handle_hung_up(&mut self, now: Instant, who: usize) {
        let early = Failure::here(FailureCause::Declined, "the person hung up before the calls were joined");
        self.gone(now, who, early);
    }

    /// This person pressed a key.
    pub fn handle_digit(&mut self, now: Instant, who: usize, digit: char) {
        let asked = match self.stage {
            Stage::Announcing { who, .. } | Stage::Confirming { who, .. } => self.plan.confirm.then_some(who),
            Stage::Ringing { .. } | Stage::Waiting { .. } | Stage::Joined { .. } | Stage::Over => None,
        };
        if asked != Some(who) {
            return;
        }
        match digit {
            ACCEPT => self.join(who),
            DECLINE => {
                self.let_go(who);
                self.note(Failure::here(FailureCause::Declined, "the person does not take the call"));
                self.lost(now, who);
            }
            _ => {}
        }
    }

    /// The summary was spoken to this person.
    pub fn handle_announced(&mut self, now: Instant, who: usize) {
        if matches!(self.stage, Stage::Announcing { who: hears, .. } if hears == who) {
            self.announced(now, who);
        }
    }

    /// Does whatever was due at `now`. Calling it early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        match self.stage {
            Stage::Ringing { until } if until <= now => {
                for who in self.open.clone() {
                    self.let_go(who);
                }
                self.note(Failure::here(FailureCause::NoAnswer, "nobody answered in time"));
                self.next_step(now);
            }
            Stage::Waiting { who, until } if until <= now => {
                self.summary = Some(false);
                self.won(now, who);
            }
            Stage::Announcing { who, until } if until <= now => self.announced(now, who),
            Stage::Confirming { who, until } if until <= now => {
                self.let_go(who);
                self.note(Failure::here(FailureCause::NoAnswer, "somebody answered and pressed no key"));
                self.lost(now, who);
            }
            Stage::Ringing { .. }
            | Stage::Waiting { .. }
            | Stage::Announcing { .. }
            | Stage::Confirming { .. }
            | Stage::Joined { .. }
            | Stage::Over => {}
        }
    }

    /// Returns the next thing to do. Drain it after every `handle_*` call.
    pub fn poll_output(&mut self) -> Option<HuntOrder> {
        self.out.pop_front()
    }

    /// Returns when to call [`Self::handle_timeout`] next, and why, for the log.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.stage {
            Stage::Ringing { until } => Some((until, "nobody answers")),
            Stage::Waiting { until, .. } => Some((until, "the summary is late")),
            Stage::Announcing { until, .. } => Some((until, "the summary does not end")),
            Stage::Confirming { until, .. } => Some((until, "nobody presses the key")),
            Stage::Joined { .. } | Stage::Over => None,
        }
    }

    /// Returns who is joined with the customer.
    pub fn joined(&self) -> Option<usize> {
        if let Stage::Joined { who } = self.stage { Some(who) } else { None }
    }

    fn winner(&self) -> Option<usize> {
        match self.stage {
            Stage::Waiting { who, .. }
            | Stage::Announcing { who, .. }
            | Stage::Confirming { who, .. }
            | Stage::Joined { who } => Some(who),
            Stage::Ringing { .. } | Stage::Over => None,
        }
    }

    /// Calls everybody of the step, or ends the hunt if there is none left.
    fn ring(&mut self, now: Instant) {
        let Some(step) = self.plan.steps.get(self.step) else {
            self.stage = Stage::Over;
            let nobody = || Failure::here(FailureCause::NoAnswer, "there is nobody to call");
            let failure = self.failure.take().unwrap_or_else(nobody);
            self.out.push_back(HuntOrder::Failed(failure));
            return;
        };
        self.stage = Stage::Ringing { until: now + self.plan.each };
        self.open.clone_from(step);
        self.out.extend(step.iter().copied().map(HuntOrder::Call));
    }

    fn next_step(&mut self, now: Instant) {
        self.step += 1;
        self.ring(now);
    }

    /// Goes on with a person who answered.
    fn won(&mut self, now: Instant, who: usize) {
        match self.summary {
            None => self.stage = Stage::Waiting { who, until: now + SUMMARY_WITHIN },
            Some(true) => {
                self.stage = Stage::Announcing { who, until: now + LONGEST_SUMMARY };
                self.out.push_back(HuntOrder::Announce(who));
            }
            Some(false) => self.announced(now, who),
        }
    }

    fn announced(&mut self, now: Instant, who: usize) {
        if self.plan.confirm {
            self.stage = Stage::Confirming { who, until: now + CONFIRM_WITHIN };
        } else {
            self.join(who);
        }
    }

    /// Once they are joined, however the person's call ended is the end of it: nobody else is called.
    fn gone(&mut self, now: Instant, who: usize, early: Failure) {
        if !self.forget(who) {
            return;
        }
        if self.stage == (Stage::Joined { who }) {
            self.stage = Stage::Over;
            self.out.push_back(HuntOrder::HungUp);
            return;
        }
        self.note(early);
        self.lost(now, who);
    }

    fn join(&mut self, who: usize) {
        self.stage = Stage::Joined { who };
        self.out.push_back(HuntOrder::Join(who));
    }

    /// Goes on without a person: with those who still ring, or with the next step.
    fn lost(&mut self, now: Instant, who: usize) {
        let rings = matches!(self.stage, Stage::Ringing { .. });
        if self.stage != Stage::Over && (self.winner() == Some(who) || (rings && self.open.is_empty())) {
            self.next_step(now);
        }
    }

    fn let_go(&mut self, who: usize) {
        if self.forget(who) {
            self.out.push_back(HuntOrder::LetGo(who));
        }
    }

    fn forget(&mut self, who: usize) -> bool {
        let at = self.open.iter().position(|open| *open == who);
        at.map(|at| self.open.swap_remove(at)).is_some()
    }

    /// Keeps the failure that says most about when to try again.
    fn note(&mut self, failure: Failure) {
        let rank = |failure: &Failure| {
            [FailureCause::Busy, FailureCause::NoAnswer, FailureCause::Declined]
                .iter()
                .position(|cause| *cause == failure.cause)
                .unwrap_or(3)
        };
        if self.failure.as_ref().is_none_or(|kept| rank(&failure) < rank(kept)) {
            self.failure = Some(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EACH: Duration = Duration::from_secs(20);

    /// A hunt and what it ordered so far.
    struct World {
        hunt: Hunt,
        now: Instant,
        orders: Vec<HuntOrder>,
    }

    impl World {
        fn new(steps: &[&[usize]], announce: bool, confirm: bool) -> Self {
            let steps = steps.iter().map(|step| step.to_vec()).collect();
            let now = Instant::now();
            let hunt = Hunt::new(now, HuntPlan { steps, each: EACH, announce, confirm });
            Self { hunt, now, orders: Vec::new() }
        }

        fn orders(&mut self) -> Vec<HuntOrder> {
            let new: Vec<_> = std::iter::from_fn(|| self.hunt.poll_output()).collect();
            self.orders.extend(new.iter().cloned());
            new
        }

        fn time_out(&mut self) -> Vec<HuntOrder> {
            self.now = self.hunt.poll_timeout().unwrap().0;
            self.hunt.handle_timeout(self.now);
            self.orders()
        }
    }

    fn failure(cause: FailureCause) -> Failure {
        Failure::here(cause, "test")
    }

    fn ends_with(orders: &[HuntOrder], cause: FailureCause) -> bool {
        matches!(orders.last(), Some(HuntOrder::Failed(failure)) if failure.cause == cause)
    }

    use HuntOrder::{Announce, Call, HungUp, Join, LetGo, Won};

    #[test]
    fn who_answers_first_is_joined_and_the_others_are_let_go() {
        let mut world = World::new(&[&[0, 1, 2]], false, false);
        assert_eq!(world.orders(), [Call(0), Call(1), Call(2)]);
        world.hunt.handle_answered(world.now, 1);
        assert_eq!(world.orders(), [LetGo(0), LetGo(2), Won(1), Join(1)]);
        // The same moment: the call was let go already, its answer changes nothing.
        world.hunt.handle_answered(world.now, 2);
        assert_eq!(world.orders(), []);
        world.hunt.handle_hung_up(world.now, 1);
        assert_eq!(world.orders(), [HungUp]);
    }

    #[test]
    fn in_turn_the_next_is_called_when_one_does_not_answer_or_cannot() {
        let mut world = World::new(&[&[0], &[1, 2], &[3]], false, false);
        assert_eq!(world.orders(), [Call(0)]);
        assert_eq!(world.hunt.poll_timeout().unwrap().0, world.now + EACH);
        assert_eq!(world.time_out(), [LetGo(0), Call(1), Call(2)]);
        world.hunt.handle_failed(world.now, 2, failure(FailureCause::Busy));
        assert_eq!(world.orders(), [], "one of the two still rings");
        world.hunt.handle_failed(world.now, 1, failure(FailureCause::Declined));
        assert_eq!(world.orders(), [Call(3)]);
        let last = world.time_out();
        assert!(ends_with(&last, FailureCause::Busy), "{last:?}");
    }

    #[test]
    fn the_person_hears_the_summary_alone_and_is_joined_after_it() {
        let mut world = World::new(&[&[0]], true, false);
        world.hunt.handle_answered(world.now, 0);
        assert_eq!(world.orders(), [Call(0), Won(0)], "the summary is not there yet");
        world.hunt.handle_summary(world.now, true);
        assert_eq!(world.orders(), [Announce(0)]);
        world.hunt.handle_digit(world.now, 0, ACCEPT);
        assert_eq!(world.orders(), [], "no key is asked for");
        world.hunt.handle_announced(world.now, 0);
        assert_eq!(world.orders(), [Join(0)]);
    }

    #[test]
    fn a_summary_that_does_not_come_or_does_not_end_holds_nobody_up() {
        let mut world = World::new(&[&[0]], true, false);
        world.hunt.handle_answered(world.now, 0);
        world.orders();
        assert_eq!(world.time_out(), [Join(0)]);
        let mut world = World::new(&[&[0]], true, false);
        world.hunt.handle_summary(world.now, true);
        world.hunt.handle_answered(world.now, 0);
        world.orders();
        assert_eq!(world.time_out(), [Join(0)]);
        let mut world = World::new(&[&[0]], true, false);
        world.hunt.handle_summary(world.now, false);
        world.hunt.handle_answered(world.now, 0);
        assert_eq!(world.orders(), [Call(0), Won(0), Join(0)]);
    }

    #[test]
    fn a_key_takes_the_call_also_during_the_summary_and_another_turns_it_away() {
        let asked = || {
            let mut world = World::new(&[&[0], &[1]], true, true);
            world.hunt.handle_summary(world.now, true);
            world.hunt.handle_answered(world.now, 0);
            world.orders();
            world
        };
        let mut world = asked();
        world.hunt.handle_digit(world.now, 0, '7');
        assert_eq!(world.orders(), []);
        world.hunt.handle_digit(world.now, 0, ACCEPT);
        assert_eq!(world.orders(), [Join(0)]);

        let mut world = asked();
        world.hunt.handle_announced(world.now, 0);
        assert_eq!(world.orders(), [], "she is waited for");
        world.hunt.handle_digit(world.now, 0, DECLINE);
        assert_eq!(world.orders(), [LetGo(0), Call(1)]);
        world.hunt.handle_hung_up(world.now, 1);
        assert!(ends_with(&world.orders(), FailureCause::Declined));

        let mut world = asked();
        world.hunt.handle_announced(world.now, 0);
        assert_eq!(world.time_out(), [LetGo(0), Call(1)], "an answering machine presses nothing");

        let mut world = asked();
        world.hunt.handle_hung_up(world.now, 0);
        assert_eq!(world.orders(), [Call(1)]);
    }

    #[test]
    fn with_nobody_to_call_it_fails_at_once() {
        let mut world = World::new(&[&[], &[99]], true, true);
        assert!(ends_with(&world.orders(), FailureCause::NoAnswer));
        assert_eq!(world.hunt.poll_timeout(), None);
    }

    #[test]
    fn a_joined_person_whose_call_breaks_off_is_not_replaced() {
        let mut world = World::new(&[&[0], &[1]], false, false);
        world.orders();
        world.hunt.handle_answered(world.now, 0);
        assert_eq!(world.orders(), [Won(0), Join(0)]);
        world.hunt.handle_failed(world.now, 0, failure(FailureCause::Unreachable));
        assert_eq!(world.orders(), [HungUp]);
        assert_eq!(world.hunt.poll_timeout(), None);
    }

    proptest! {
        /// Whatever happens in whatever order: everybody called is let go, gone, or joined, and it ends once.
        #[test]
        fn nobody_who_was_called_is_forgotten(
            announce: bool,
            confirm: bool,
            in_turn: bool,
            happens in prop::collection::vec((0u8..7, 0usize..4), 0..60),
        ) {
            let steps: &[&[usize]] = if in_turn { &[&[0], &[1, 2], &[3]] } else { &[&[0, 1, 2, 3]] };
            let mut world = World::new(steps, announce, confirm);
            let mut gone = Vec::new();
            let mut called = Vec::new();
            let mut ends = 0;
            for (what, who) in happens.into_iter().map(Some).chain(std::iter::repeat_n(None, 40)).map(|h| h.unwrap_or((6, 0))) {
                let now = world.now;
                match what {
                    0 if called.contains(&who) => world.hunt.handle_answered(now, who),
                    1 if called.contains(&who) && !gone.contains(&who) => {
                        gone.push(who);
                        world.hunt.handle_failed(now, who, failure(FailureCause::Busy));
                    }
                    2 if called.contains(&who) && !gone.contains(&who) => {
                        gone.push(who);
                        world.hunt.handle_hung_up(now, who);
                    }
                    3 => world.hunt.handle_digit(now, who, if who == 0 { DECLINE } else { ACCEPT }),
                    4 => world.hunt.handle_announced(now, who),
                    5 => world.hunt.handle_summary(now, who > 0),
                    _ => if let Some((due, _)) = world.hunt.poll_timeout() {
                        world.now = due;
                        world.hunt.handle_timeout(due);
                    }
                }
                for order in world.orders() {
                    match order {
                        Call(who) => { prop_assert!(!called.contains(&who)); called.push(who) }
                        LetGo(who) => { prop_assert!(!gone.contains(&who)); gone.push(who) }
                        HungUp | HuntOrder::Failed(_) => ends += 1,
                        Won(_) | Announce(_) | Join(_) => {}
                    }
                }
            }
            let joined = world.orders.iter().filter(|order| matches!(order, Join(_))).count();
            prop_assert!(joined <= 1 && ends <= 1);
            let left: Vec<_> = called.iter().copied().filter(|who| !gone.contains(who)).collect();
            let still: Vec<_> = world.hunt.joined().into_iter().collect();
            prop_assert_eq!(left, still);
        }
    }
}
