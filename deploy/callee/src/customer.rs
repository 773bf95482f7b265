//! The customer's mind: hears when the robot speaks and what it said, decides what she says and when.
//!
//! Sans-IO. Time is milliseconds since she picked up, counted from received frames. The shell tells
//! when the robot's voice starts and stops, recognises what it is asked to, and plays what it is
//! told to.

use std::collections::VecDeque;
use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::persona::{Hear, Heard, Persona, Reply, Then, Ways};

/// Pause after which what the robot said is given to the recogniser, so that the text is there when
/// her patience ends. Shorter ones stand between the robot's sentences.
const EARLY_MS: u64 = 400;
/// A robot that goes quiet so soon after she began to speak was cut off and said nothing new.
const FRAGMENT_MS: u64 = 700;
/// How long she waits for the robot to speak first before she says hello.
const GREET_AFTER_MS: u64 = 600;
/// Hanging up takes a moment: the hand goes to the telephone.
const PUT_DOWN_MS: u64 = 400;

/// What she wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Recognise what was heard from `from_ms` to `to_ms`, and tell.
    Recognise { turn: u32, from_ms: u64, to_ms: u64 },
    /// The robot goes on: what was asked for last is of no use.
    Forget,
    /// Say this utterance, and tell when it is over.
    Say { utterance: usize, interrupts: bool },
    /// A turn of the robot is over and understood (or not); `matched` is the keyword.
    Understood { turn: u32, from_ms: u64, to_ms: u64, text: Option<String>, matched: Option<String> },
    /// Hang up.
    HangUp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Doing {
    Listening,
    /// Words are ready; she says them at `at_ms`.
    AboutTo {
        say: Option<usize>,
        then: Then,
        at_ms: u64,
    },
    Speaking {
        then: Then,
    },
    PuttingDown {
        at_ms: u64,
    },
    Gone,
}

/// The robot's turn as she hears it.
#[derive(Clone, Debug, Default)]
struct Robot {
    speaking: bool,
    /// Turns so far.
    turns: u32,
    /// A turn that she has not answered yet.
    open: bool,
    began_ms: u64,
    ended_ms: u64,
    asked: bool,
    /// What the recogniser said; the inner `None`: nothing.
    heard: Option<Option<String>>,
}

/// One customer in one call.
#[derive(Debug)]
pub(crate) struct Customer {
    persona: Arc<Persona>,
    rng: ChaCha8Rng,
    now_ms: u64,
    doing: Doing,
    robot: Robot,
    interrupted: bool,
    greeted: bool,
    /// Which rules with `once` were used.
    used: Vec<bool>,
    /// The way in which each thing was said last, so that she does not repeat herself.
    last_said: Option<usize>,
    speaking_since_ms: u64,
    outputs: VecDeque<Output>,
}

impl Customer {
    /// Picks up.
    pub(crate) fn new(persona: Arc<Persona>, rng: ChaCha8Rng) -> Self {
        Self {
            used: vec![false; persona.talk.rules.len()],
            persona,
            rng,
            now_ms: 0,
            doing: Doing::Listening,
            robot: Robot::default(),
            interrupted: false,
            greeted: false,
            last_said: None,
            speaking_since_ms: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the next thing to do. Drain it after every `handle_*` call.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns how many turns the robot has had.
    pub(crate) fn robot_turns(&self) -> u32 {
        self.robot.turns
    }

    /// The robot's voice began at `at_ms`.
    pub(crate) fn handle_robot_started(&mut self, at_ms: u64) {
        self.robot.speaking = true;
        if self.robot.asked {
            self.robot.asked = false;
            self.robot.heard = None;
            self.outputs.push_back(Output::Forget);
        }
        if matches!(self.doing, Doing::AboutTo { .. }) {
            // It had not finished after all; she holds her tongue and hears it out.
            self.doing = Doing::Listening;
        }
        if !self.robot.open {
            self.robot.open = true;
            self.robot.began_ms = at_ms;
            self.robot.turns += 1;
        }
    }

    /// The robot's voice ended at `at_ms`.
    pub(crate) fn handle_robot_stopped(&mut self, at_ms: u64) {
        self.robot.speaking = false;
        self.robot.ended_ms = at_ms;
        let speaks = matches!(self.doing, Doing::Speaking { .. });
        if speaks && self.robot.open && at_ms.saturating_sub(self.robot.began_ms) < FRAGMENT_MS {
            self.robot.open = false;
            self.robot.turns -= 1;
        }
    }

    /// What the recogniser made of the turn it was asked about last; `None`: nothing.
    pub(crate) fn handle_heard(&mut self, turn: u32, text: Option<String>) {
        if self.robot.asked && turn == self.robot.turns {
            self.robot.heard = Some(text);
            self.decide();
        }
    }

    /// What she was saying is said.
    pub(crate) fn handle_said(&mut self) {
        let Doing::Speaking { then } = self.doing else { return };
        self.doing = match then {
            Then::Wait => Doing::Listening,
            Then::HangUp => Doing::PuttingDown { at_ms: self.now_ms + PUT_DOWN_MS },
        };
        if self.robot.speaking && !self.robot.open {
            // It did not let itself be interrupted: the rest of its words are a turn like any other.
            self.robot.open = true;
            self.robot.began_ms = self.speaking_since_ms;
            self.robot.turns += 1;
        }
    }

    /// Time has come to `now_ms`.
    pub(crate) fn handle_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.doing == Doing::Gone {
            return;
        }
        if now_ms >= self.persona.talk.hang_up_after.as_ms() {
            return self.hang_up();
        }
        match self.doing.clone() {
            Doing::PuttingDown { at_ms } if now_ms >= at_ms => self.hang_up(),
            Doing::AboutTo { say, then, at_ms } if now_ms >= at_ms => self.act(say, then),
            Doing::Listening => self.listen(),
            Doing::PuttingDown { .. } | Doing::AboutTo { .. } | Doing::Speaking { .. } | Doing::Gone => {}
        }
    }

    fn listen(&mut self) {
        if self.persona.talk.silent {
            return;
        }
        if self.greets() || self.persona.talk.beep_hz.is_some() || self.interrupts() {
            return;
        }
        if !self.robot.open || self.robot.speaking {
            return;
        }
        let silence = self.now_ms.saturating_sub(self.robot.ended_ms);
        if !self.robot.asked && silence >= EARLY_MS.min(self.persona.talk.patience.as_ms()) {
            self.robot.asked = true;
            if self.persona.talk.needs_ears() {
                let (from_ms, to_ms) = (self.robot.began_ms, self.robot.ended_ms);
                self.outputs.push_back(Output::Recognise { turn: self.robot.turns, from_ms, to_ms });
            } else {
                self.robot.heard = Some(None);
            }
        }
        self.decide();
    }

    /// Says hello when it is quiet after she picked up.
    fn greets(&mut self) -> bool {
        if self.greeted || self.now_ms < GREET_AFTER_MS {
            return false;
        }
        self.greeted = true;
        if self.robot.turns > 0 && self.persona.talk.beep_hz.is_none() {
            return false;
        }
        let Some(say) = self.draw(&self.persona.talk.greeting.clone()) else { return false };
        self.speak(say, Then::Wait, false);
        true
    }

    fn interrupts(&mut self) -> bool {
        let Some(interrupt) = &self.persona.talk.interrupt else { return false };
        let due = self.robot.speaking
            && self.robot.open
            && self.robot.turns >= interrupt.on_turn
            && self.now_ms.saturating_sub(self.robot.began_ms) >= interrupt.after.as_ms();
        if self.interrupted || !due {
            return false;
        }
        self.interrupted = true;
        let Some(say) = self.draw(&interrupt.say.clone()) else { return false };
        self.speak(say, Then::Wait, true);
        true
    }

    /// Finds an answer once the robot has finished and is understood.
    fn decide(&mut self) {
        let ended = self.robot.ended_ms;
        let patient = self.now_ms.saturating_sub(ended) >= self.persona.talk.patience.as_ms();
        if self.doing != Doing::Listening || self.robot.speaking || !patient {
            return;
        }
        let Some(text) = self.robot.heard.take() else { return };
        let persona = Arc::clone(&self.persona);
        let (found, matched) = self.find(text.as_deref());
        let turn = self.robot.turns;
        self.outputs.push_back(Output::Understood {
            turn,
            from_ms: self.robot.began_ms,
            to_ms: ended,
            text,
            matched,
        });
        self.robot.asked = false;
        if persona.talk.hang_up_after_turn.is_some_and(|last| turn >= last) {
            self.robot.open = false;
            self.doing = Doing::PuttingDown { at_ms: self.now_ms + PUT_DOWN_MS };
            return;
        }
        let Some(reply) = found else {
            self.robot.open = false;
            return;
        };
        let thinking = reply.thinking.unwrap_or(persona.talk.thinking).draw(&mut self.rng);
        let say = self.draw(&reply.say);
        let at_ms = ended + persona.talk.patience.as_ms() + thinking;
        self.doing = Doing::AboutTo { say, then: reply.then, at_ms: at_ms.max(self.now_ms) };
    }

    /// Returns the first rule's reply that fits, and the keyword that made it fit.
    fn find(&mut self, text: Option<&str>) -> (Option<Reply>, Option<String>) {
        let persona = Arc::clone(&self.persona);
        let heard = text.map(Heard::new);
        for (at, rule) in persona.talk.rules.iter().enumerate() {
            if rule.once && self.used[at] {
                continue;
            }
            let matched = match (&rule.hear, &heard) {
                (Hear::Any, _) => "any",
                (Hear::OneOf(_), None) => continue,
                (Hear::OneOf(patterns), Some(heard)) => {
                    match patterns.iter().find(|pattern| pattern.is_in(heard)) {
                        Some(pattern) => pattern.source(),
                        None => continue,
                    }
                }
            };
            self.used[at] = true;
            return (Some(rule.reply.clone()), Some(matched.to_owned()));
        }
        (persona.talk.otherwise.clone(), None)
    }

    fn act(&mut self, say: Option<usize>, then: Then) {
        self.robot.open = false;
        match (say, then) {
            (Some(say), then) => self.speak(say, then, false),
            (None, Then::HangUp) => self.doing = Doing::PuttingDown { at_ms: self.now_ms + PUT_DOWN_MS },
            (None, Then::Wait) => self.doing = Doing::Listening,
        }
    }

    fn speak(&mut self, utterance: usize, then: Then, interrupts: bool) {
        self.greeted = true;
        self.robot.open = false;
        self.speaking_since_ms = self.now_ms;
        self.doing = Doing::Speaking { then };
        self.outputs.push_back(Output::Say { utterance, interrupts });
    }

    fn hang_up(&mut self) {
        self.doing = Doing::Gone;
        self.outputs.push_back(Output::HangUp);
    }

    fn draw(&mut self, ways: &Ways) -> Option<usize> {
        let fresh: Vec<usize> = ways.0.iter().copied().filter(|way| Some(*way) != self.last_said).collect();
        let from = if fresh.is_empty() { &ways.0 } else { &fresh };
        if from.is_empty() {
            return None;
        }
        let way = from[self.rng.random_range(0..from.len())];
        self.last_said = Some(way);
        Some(way)
    }
}

#[cfg(test)]
mod tests;
