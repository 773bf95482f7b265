//! Runs the tests that a script holds, with understanding from the caller.

use std::collections::BTreeSet;

use crate::action::{Action, Entity, Event, Heard, Variables};
use crate::document::{CONTROL, Expect, Test, TestTurn};
use crate::interp::{expects, start_with_arms, step};
use crate::script::{Script, examples};
use crate::state::State;

/// How long a test turn takes, for guards that ask for `answered_s`.
const SECS_PER_TURN: u32 = 8;

/// What came of one test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResult {
    /// The test's name.
    pub name: String,
    /// What did not go as written; none when it passed.
    pub failures: Vec<String>,
    /// The conversation, a line for each thing said, heard or done.
    pub transcript: Vec<String>,
}

impl TestResult {
    /// Says whether everything went as written.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Runs all tests of a script. `understand` gets the words and the intents that make sense there; where a
/// test says what the words mean, it must agree.
pub fn run(script: &Script, understand: &dyn Fn(&str, &[String]) -> Heard) -> Vec<TestResult> {
    script.document().tests.iter().map(|test| one(script, test, Some(understand))).collect()
}

/// Runs all tests of a script, taking the intents and values that the tests themselves name.
pub fn run_given(script: &Script) -> Vec<TestResult> {
    script.document().tests.iter().map(|test| one(script, test, None)).collect()
}

type Understand<'u> = &'u dyn Fn(&str, &[String]) -> Heard;

struct Watch {
    said: Vec<String>,
    visited: BTreeSet<String>,
    suppressed: bool,
    transfers: Vec<String>,
    transcript: Vec<String>,
}

fn one(script: &Script, test: &Test, understand: Option<Understand<'_>>) -> TestResult {
    let mut failures = Vec::new();
    let mut watch = Watch {
        said: Vec::new(),
        visited: BTreeSet::new(),
        suppressed: false,
        transfers: Vec::new(),
        transcript: Vec::new(),
    };
    let mut variables: Variables = examples(script.document());
    variables.extend(test.vars.clone());
    // What the text of a test says must not hang on how its customer is drawn.
    let control = script.document().experiments.keys().map(|name| (name.clone(), CONTROL.to_owned()));
    let arms = control.chain(test.arms.clone()).collect();
    match start_with_arms(script, &variables, &arms) {
        Ok(state) => {
            let mut state = watch.step(script, &state, &Event::Answered, 0);
            for (i, turn) in (1_u32..).zip(&test.turns) {
                let event = match event(script, &state, turn, understand) {
                    Ok(event) => event,
                    Err(failure) => {
                        failures.push(format!("turn {i}: {failure}"));
                        break;
                    }
                };
                if state.is_ended() {
                    failures.push(format!("turn {i}: the call is over already"));
                    break;
                }
                state = watch.step(script, &state, &event, i * SECS_PER_TURN);
                if let Some(at) = turn.at.as_ref().filter(|at| at.as_str() != state.node()) {
                    failures.push(format!(
                        "turn {i}: the dialogue stands at `{}`, not at `{}`",
                        state.node(),
                        &**at
                    ));
                }
            }
            for expect in &test.expect {
                check(expect, &state, &watch, &mut failures);
            }
        }
        Err(errors) => failures.extend(errors.iter().map(ToString::to_string)),
    }
    TestResult { name: test.name.clone(), failures, transcript: watch.transcript }
}

fn event(
    script: &Script,
    state: &State,
    turn: &TestTurn,
    understand: Option<Understand<'_>>,
) -> Result<Event, String> {
    if turn.silence {
        return Ok(Event::NoInput);
    }
    if turn.hang_up {
        return Ok(Event::HungUp);
    }
    if let Some(reason) = &turn.transfer_fails {
        return Ok(Event::TransferFailed { reason: reason.clone() });
    }
    let text = turn.hear.clone().unwrap_or_default();
    let wanted = turn.intent.as_ref().map(|i| i.as_str());
    let given = wanted.filter(|i| *i != "none");
    let Some(understand) = understand else {
        if wanted.is_none() && turn.entities.is_empty() {
            return Err(format!("the test does not say what `{text}` means; add intent: …"));
        }
        let entities = turn
            .entities
            .iter()
            .map(|(kind, value)| Entity { kind: kind.clone(), value: value.clone(), text: text.clone() })
            .collect();
        let intent = given.map(str::to_owned);
        let score = turn.score.unwrap_or(1.0);
        let sentiment = turn.mood.unwrap_or_default();
        return Ok(Event::Heard(Heard { text, intent, score, entities, sentiment, arousal: turn.arousal }));
    };
    let heard = understand(&text, &expects(script, state));
    // A score says "suppose that it was misheard like this"; here it is heard as it is heard.
    // And `none` says that it does not matter: where the call goes then shows whether all is well.
    if turn.score.is_none() && given.is_some() && heard.intent.as_deref() != given {
        let got = heard.intent.as_deref().unwrap_or("none");
        return Err(format!("`{text}` was understood as {got}, not as {}", wanted.unwrap_or("none")));
    }
    for kind in turn.entities.keys() {
        if heard.entities.iter().all(|e| e.kind != *kind) {
            return Err(format!("no {kind} was found in `{text}`"));
        }
    }
    Ok(Event::Heard(Heard { arousal: turn.arousal, ..heard }))
}

impl Watch {
    fn step(&mut self, script: &Script, state: &State, event: &Event, elapsed_s: u32) -> State {
        match event {
            Event::Heard(heard) => {
                self.transcript.push(format!("customer: {}", heard.text));
            }
            Event::NoInput => self.transcript.push("customer: …".to_owned()),
            Event::HandOver { .. } => self.transcript.push("a person is asked for from outside".to_owned()),
            Event::HungUp => self.transcript.push("customer hangs up".to_owned()),
            Event::TransferFailed { reason } => {
                self.transcript.push(format!("nobody takes the call: {reason}"));
            }
            Event::Answered => self.transcript.push("customer answers".to_owned()),
        }
        let step = step(script, state, event, elapsed_s);
        self.transcript.push(format!("  [{}] {}", step.node, step.because));
        self.visited.insert(step.node.clone());
        for action in &step.actions {
            match action {
                Action::Say(say) => {
                    self.visited.insert(say.node.clone());
                    self.said.push(say.text.clone());
                    self.transcript.push(format!("robot: {}", say.text));
                }
                Action::Listen(listen) => {
                    self.transcript.push(format!("  listens for {}", listen.expect.join(", ")));
                }
                Action::Transfer { to, .. } => {
                    self.transfers.push(to.clone());
                    self.transcript.push(format!("  hands over to {to}"));
                }
                Action::Suppress => {
                    self.suppressed = true;
                    self.transcript.push("  suppresses the customer".to_owned());
                }
                Action::End { outcome } => self.transcript.push(format!("  ends: {}", outcome.code)),
            }
        }
        step.state
    }
}

fn check(expect: &Expect, state: &State, watch: &Watch, failures: &mut Vec<String>) {
    if let Some(node) = expect.node.as_ref().filter(|node| !watch.visited.contains(node.as_str())) {
        failures.push(format!("node `{}` was not visited", &**node));
    }
    if let Some(wanted) = &expect.outcome {
        let got = state.outcome().map(|o| o.code.as_str());
        if got != Some(wanted.as_str()) {
            failures.push(format!("the outcome is {}, not {}", got.unwrap_or("open"), &**wanted));
        }
    }
    if let Some(words) = expect.says.as_ref().filter(|w| watch.said.iter().all(|s| !s.contains(w.as_str()))) {
        failures.push(format!("the robot never says `{words}`"));
    }
    if let Some(words) =
        expect.never_says.as_ref().filter(|w| watch.said.iter().any(|s| s.contains(w.as_str())))
    {
        failures.push(format!("the robot says `{words}`"));
    }
    for (slot, wanted) in &expect.slots {
        let got = state.slots().get(slot).map_or("", String::as_str);
        if got != wanted {
            failures.push(format!("slot `{slot}` is `{got}`, not `{wanted}`"));
        }
    }
    if let Some(wanted) = expect.suppressed.filter(|wanted| *wanted != watch.suppressed) {
        let should = if wanted { "should be" } else { "should not be" };
        failures.push(format!("the customer {should} suppressed"));
    }
    if let Some(wanted) = expect.transfer.as_ref().filter(|to| !watch.transfers.contains(to)) {
        failures.push(format!("the call was not handed to `{wanted}`"));
    }
}
