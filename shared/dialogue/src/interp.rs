//! The interpreter: what the robot does next, as a pure function of script, state and event.
//!
//! **Invariant:** a step never panics, whatever the event and whatever the state says, and it passes
//! through a bounded number of nodes.
//! **Invariant:** a state that is ended has an outcome, and the number of steps before that is bounded
//! by the script's limit.
//! **Invariant:** `opt_out` is honoured from every state, the ended one included.

use std::collections::BTreeMap;
use std::time::Duration;

use trunkline_model::Outcome;

use crate::action::{
    Action, BargeIn, Endpoint, Event, Generate, Heard, Listen, Say, Step, Temper, Variables, Waiting,
};
use crate::entities;
use crate::experiment::assign;
use crate::expr::{Counter, Expr, Facts};
use crate::graph::{
    Arm, Ask, Back, Barge, Edge, Ending, Fill, Graph, Ladder, Node, NodeKind, Target, Transfer,
};
use crate::script::Script;
use crate::state::{Phase, Rungs, State};
use crate::vars::{self, MAX_VALUE_CHARS, VariableError};
use crate::wording::Template;

/// The most nodes that one step passes through; a script that lints has no such cycle.
const MAX_HOPS: usize = 64;
/// The deepest that digressions nest; the oldest place to come back to is forgotten first.
const MAX_STACK: usize = 4;
/// The most of what was said last that is kept for `repeat`.
const MAX_LAST_CHARS: usize = 800;
/// How long silence may last after the customer asked for time.
const WAIT: Duration = Duration::from_secs(20);
/// The score from which an intent counts for more than a value in the same words.
const STRONG: f32 = 0.5;
/// The same where the value is two thirds of the words or more.
const STRONG_AGAINST_A_BARE_VALUE: f32 = 0.85;
/// The code of a call that no rule has an outcome for; a script that lints has a last rule.
const NO_OUTCOME: &str = "no_result";

/// Returns the state of a call before the customer answers.
///
/// # Errors
///
/// When a variable is missing, unknown or not of its type; all of them are listed.
pub fn start(script: &Script, variables: &Variables) -> Result<State, Vec<VariableError>> {
    start_with_arms(script, variables, &BTreeMap::new())
}

/// Returns the state of a call before the customer answers, with arms of experiments that somebody else has
/// drawn, such as a policy that learns. An experiment that is left out, or an arm that the script does not
/// have, gets the arm that [`assign`] gives.
///
/// # Errors
///
/// As [`start`].
pub fn start_with_arms(
    script: &Script,
    variables: &Variables,
    drawn: &BTreeMap<String, String>,
) -> Result<State, Vec<VariableError>> {
    let variables = script.check_variables(variables)?;
    let mut arms = assign(script, &variables);
    for (name, experiment) in &script.document().experiments {
        if let Some(arm) = drawn.get(name).filter(|arm| experiment.arms.contains_key(*arm)) {
            arms.insert(name.clone(), arm.clone());
        }
    }
    Ok(State::new(variables, arms))
}

/// Takes one event, `elapsed_s` seconds after the customer answered.
pub fn step(script: &Script, state: &State, event: &Event, elapsed_s: u32) -> Step<State> {
    let mut run = Run::new(script, state, elapsed_s);
    run.take(event);
    run.finish()
}

/// Lists the intents that have an edge at the node where the dialogue stands.
pub fn expects(script: &Script, state: &State) -> Vec<String> {
    let asking = matches!(state.phase, Phase::Asking);
    let node = script.graph().node(&state.node).filter(|_| asking);
    node.and_then(Node::ask).map(|ask| ask.expect.clone()).unwrap_or_default()
}

/// Returns what comes of the call if it ends now, with nothing more said.
pub fn outcome_now(script: &Script, state: &State, elapsed_s: u32) -> Outcome {
    match step(script, state, &Event::HungUp, elapsed_s).state.outcome {
        Some(outcome) => outcome,
        None => Outcome { code: NO_OUTCOME.to_owned(), label: String::new() },
    }
}

/// Returns what would come of the call by the rules as it stands, whether it goes on or is handed over.
pub(crate) fn outcome_so_far(script: &Script, state: &State, elapsed_s: u32) -> Outcome {
    Run::new(script, state, elapsed_s).by_the_rules()
}

/// Says whether an intent was meant so clearly that it counts for more than a value in the same words.
///
/// "I paid last Friday" says more than a day and must not be taken for one; "next Friday" by itself is
/// hardly more than the day, so whatever intent is read into it must be nearly certain.
/// A word of the script's own for what the node asks for is as good as a bare value.
pub(crate) fn is_strong(heard: &Heard, own_word: bool) -> bool {
    let length = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
    // A name is no value that a question is answered by unless it asks for one, and "I'm Alex" is a yes.
    let values = heard.entities.iter().filter(|e| e.kind != "person");
    let (all, value) = (length(&heard.text), values.map(|e| length(&e.text)).max().unwrap_or(0));
    let bare = value > 0 && value * 3 >= all * 2;
    heard.score >= if bare || own_word { STRONG_AGAINST_A_BARE_VALUE } else { STRONG }
}

/// One step under way.
struct Run<'g> {
    graph: &'g Graph,
    state: State,
    actions: Vec<Action>,
    said: Vec<String>,
    because: String,
    intent: Option<String>,
    elapsed_s: u32,
}

/// Where a turn of the customer leads.
enum Route<'g> {
    /// With whether the values that the node asks for are kept.
    Edge(&'g Edge, String, bool),
    Digression(&'g str),
    NoMatch,
}

impl Facts for Run<'_> {
    fn var(&self, name: &str) -> Option<&str> {
        self.state.vars.get(name).map(String::as_str)
    }

    fn slot(&self, name: &str) -> Option<&str> {
        self.state.slots.get(name).map(String::as_str)
    }

    fn intent(&self, name: &str) -> bool {
        self.intent.as_deref() == Some(name)
    }

    fn heard(&self, name: &str) -> bool {
        self.state.heard.contains(name)
    }

    fn visited(&self, node: &str) -> bool {
        self.state.visited.contains(node)
    }

    fn arm(&self, experiment: &str, arm: &str) -> bool {
        self.state.arms.get(experiment).is_some_and(|assigned| assigned == arm)
    }

    fn counter(&self, counter: Counter) -> u32 {
        match counter {
            Counter::NoMatch => self.state.no_match.into(),
            Counter::NoInput => self.state.no_input.into(),
            Counter::Upset => self.state.upset.into(),
            Counter::Turns => self.state.turns.into(),
            Counter::AnsweredSecs => self.elapsed_s,
        }
    }
}

impl<'g> Run<'g> {
    fn new(script: &'g Script, state: &State, elapsed_s: u32) -> Self {
        Self {
            graph: script.graph(),
            state: state.clone(),
            actions: Vec::new(),
            said: Vec::new(),
            because: String::new(),
            intent: None,
            elapsed_s,
        }
    }

    fn finish(mut self) -> Step<State> {
        if !self.said.is_empty() {
            let mut room = MAX_LAST_CHARS;
            self.said.retain(|text| {
                let chars = text.chars().count();
                let fits = chars <= room;
                room = room.saturating_sub(chars);
                fits
            });
            self.state.last = self.said;
        }
        let node = self.state.node.clone();
        Step { state: self.state, actions: self.actions, node, because: self.because }
    }

    fn take(&mut self, event: &Event) {
        if let Event::Heard(heard) = event {
            self.intent = heard.intent.clone();
            if heard.intent.as_deref() == Some("opt_out") {
                return self.opt_out();
            }
        }
        match self.state.phase {
            Phase::Ended => {
                self.because = "the dialogue is over".to_owned();
                self.end(Ending::Auto);
            }
            Phase::Transferring => match event {
                Event::TransferFailed { reason } => {
                    self.because = format!("hand-over failed: {reason}");
                    let fail = self.transfer_fails_to();
                    self.state.steps = self.state.steps.saturating_add(1);
                    if !self.over_the_limit() {
                        self.enter(fail);
                    }
                }
                Event::HungUp => {
                    self.because = "handed over".to_owned();
                    let outcome = self.transfer_outcome();
                    self.end(Ending::Code(outcome));
                }
                Event::Answered | Event::Heard(_) | Event::NoInput | Event::HandOver { .. } => {
                    self.because = "a hand-over is under way".to_owned();
                }
            },
            Phase::Ready => match event {
                Event::HungUp => {
                    self.because = "hung up before the first word".to_owned();
                    self.end(Ending::Auto);
                }
                Event::HandOver { to } => self.asked_from_outside(to.as_deref()),
                // A greeting that comes before the news of the answer is as good as it.
                Event::Answered | Event::Heard(_) | Event::NoInput | Event::TransferFailed { .. } => {
                    self.because = "answered".to_owned();
                    self.enter(Target::Node(0));
                }
            },
            Phase::Asking => match event {
                Event::HungUp => {
                    self.because = "hung up".to_owned();
                    self.end(Ending::Auto);
                }
                Event::Answered | Event::TransferFailed { .. } => {
                    self.because = "nothing new".to_owned();
                    self.state.steps = self.state.steps.saturating_add(1);
                    if !self.over_the_limit() {
                        self.listen(None);
                    }
                }
                Event::HandOver { to } => self.asked_from_outside(to.as_deref()),
                Event::Heard(heard) => self.heard(heard),
                Event::NoInput => self.silence(),
            },
        }
    }

    fn asked_from_outside(&mut self, wanted: Option<&str>) {
        self.because = "hand-over asked for from outside".to_owned();
        self.enter(Target::Handoff);
        if let (Some(wanted), Some(Action::Transfer { to, .. })) = (wanted, self.actions.last_mut()) {
            wanted.clone_into(to);
        }
    }

    fn current(&self) -> Option<&'g Node> {
        self.graph.node(&self.state.node)
    }

    fn opt_out(&mut self) {
        let done = self.state.outcome.as_ref() == Some(&self.graph.opt_out.outcome);
        self.because = "intent opt_out".to_owned();
        self.remember("opt_out");
        if self.state.phase != Phase::Ended {
            self.count_turn();
        }
        if !done {
            self.state.outcome = None;
            let graph = self.graph;
            self.say(&graph.opt_out.say, BargeIn::Allowed);
            self.actions.push(Action::Suppress);
        }
        self.end(Ending::Code(self.graph.opt_out.outcome.clone()));
    }

    fn count_turn(&mut self) {
        self.state.turns = self.state.turns.saturating_add(1);
        self.state.steps = self.state.steps.saturating_add(1);
        self.state.no_input = 0;
    }

    fn remember(&mut self, intent: &str) {
        if self.graph.remember_heard.contains(intent) {
            self.state.heard.insert(intent.to_owned());
        }
    }

    /// Ends the call when its turns are used up, and says whether it did.
    fn over_the_limit(&mut self) -> bool {
        if self.state.steps <= self.graph.max_turns {
            return false;
        }
        self.because = format!("limit of {} turns", self.graph.max_turns);
        let graph = self.graph;
        self.say(&graph.goodbye, BargeIn::Allowed);
        self.end(Ending::Auto);
        true
    }

    fn heard(&mut self, heard: &Heard) {
        self.count_turn();
        self.state.upset =
            if heard.temper() == Temper::Angry { self.state.upset.saturating_add(1) } else { 0 };
        if let Some(intent) = &heard.intent {
            self.remember(intent);
        }
        if self.over_the_limit() {
            return;
        }
        let Some(node) = self.current() else { return self.lost() };
        let Some(ask) = node.ask() else { return self.lost() };
        let found = self.search(&ask.fill, heard);
        let route = self.route(ask, heard, &found);
        if matches!(route, Route::NoMatch) {
            self.state.no_match = self.state.no_match.saturating_add(1);
        } else {
            self.state.no_match = 0;
        }
        if self.holds(self.graph.handoff_when.as_ref()) && !self.is_handoff(&route) {
            self.because = "hand-over rule".to_owned();
            return self.enter(Target::Handoff);
        }
        match route {
            Route::Edge(edge, because, keep) => {
                self.because = because;
                let own = self.search(&edge.fill, heard);
                if keep {
                    self.state.slots.extend(found);
                }
                self.state.slots.extend(own);
                self.take_edge(edge);
            }
            Route::Digression(intent) => self.digress(intent),
            Route::NoMatch => {
                // What was found is kept: half an answer need not be given twice.
                self.state.slots.extend(found);
                self.climb(&ask.no_match, true);
            }
        }
    }

    fn is_handoff(&self, route: &Route<'_>) -> bool {
        match route {
            Route::Edge(edge, ..) => edge.then == Target::Handoff,
            Route::Digression(intent) => self
                .graph
                .digressions
                .get(*intent)
                .is_some_and(|d| matches!(d.back, Back::Go(Target::Handoff) | Back::End(_))),
            Route::NoMatch => false,
        }
    }

    fn holds(&self, guard: Option<&Expr>) -> bool {
        guard.is_some_and(|expr| expr.holds(self))
    }

    /// Looks in what was heard for values of the slots.
    fn search(&self, fill: &[Fill], heard: &Heard) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for Fill { slot, kind, .. } in fill {
            let Some((type_, values)) = self.graph.slot_types.get(slot) else { continue };
            let range = self.graph.slot_ranges.get(slot).copied().unwrap_or_default();
            let value = if kind == "text" {
                let words: String =
                    heard.text.chars().filter(|c| !c.is_control()).take(MAX_VALUE_CHARS).collect();
                Some(words.trim().to_owned()).filter(|w| !w.is_empty())
            } else {
                let mut suitable = heard.entities.iter().filter(|e| e.kind == *kind);
                suitable
                    .find_map(|e| vars::from_entity(*type_, values, e).filter(|v| vars::in_range(range, v)))
                    .or_else(|| entities::find(self.graph.entities.get(kind)?, &heard.text))
            };
            if let Some(value) = value {
                found.insert(slot.clone(), value);
            }
        }
        found
    }

    /// Decides what a turn of the customer is an answer to. The first that applies is taken:
    ///
    /// 1. an intent with an edge here that was meant strongly ([`is_strong`]); `yes` and `no` come later;
    /// 2. a strong intent that a digression answers: "say that again" is meant even with a number in it;
    /// 3. values that complete what the node asks for;
    /// 4. an intent with an edge here, however weak, and `yes` and `no`;
    /// 5. an intent that a digression answers, however weak;
    /// 6. any answer, where the node takes any.
    fn route(&self, ask: &'g Ask, heard: &Heard, found: &BTreeMap<String, String>) -> Route<'g> {
        let intent = heard.intent.as_deref().unwrap_or("");
        let plain_answer = matches!(intent, "yes" | "no");
        let own_word =
            ask.fill.iter().any(|f| found.contains_key(&f.slot) && self.graph.entities.contains_key(&f.kind));
        let strong = is_strong(heard, own_word);
        let own = ask.on.get(intent);
        // "I paid last Friday" is no promise for last Friday: an intent with a place of its own to go to
        // takes none of the node's values along.
        if let Some(edge) = own.filter(|_| strong && !plain_answer) {
            return Route::Edge(edge, format!("intent {intent}"), false);
        }
        let digression = self.graph.digressions.get_key_value(intent).map(|(name, _)| name.as_str());
        if let (Some(edge), false) = (&ask.filled, digression.is_some() && own.is_none() && strong) {
            let slots = &self.state.slots;
            let missing =
                |f: &Fill| !f.optional && !found.contains_key(&f.slot) && !slots.contains_key(&f.slot);
            // "Yes, Friday" to "Friday, then?" is a yes; "no, Monday" is a new value.
            let news = found.iter().any(|(slot, value)| !plain_answer || slots.get(slot) != Some(value));
            // Free words are in every answer: an intent among them counts for more.
            let only_words = ask.fill.iter().all(|f| f.kind == "text");
            let understood = own.is_some() || digression.is_some();
            if news && !ask.fill.iter().any(missing) && !(only_words && understood) {
                let names: Vec<&str> = found.keys().map(String::as_str).collect();
                return Route::Edge(edge, format!("filled {}", names.join(", ")), true);
            }
        }
        if let Some(edge) = own {
            return Route::Edge(edge, format!("intent {intent}"), plain_answer);
        }
        if let Some(name) = digression {
            return Route::Digression(name);
        }
        match &ask.any {
            Some(edge) if !heard.text.trim().is_empty() => Route::Edge(edge, "any answer".to_owned(), true),
            Some(_) | None => Route::NoMatch,
        }
    }

    fn take_edge(&mut self, edge: &'g Edge) {
        self.state.slots.extend(edge.set.iter().cloned());
        if let Some(say) = &edge.say {
            self.say(say, BargeIn::Allowed);
        }
        let own = edge.arms.iter().find(|(experiment, arm, _)| self.arm(experiment, arm));
        self.enter(own.map_or(edge.then, |(_, _, target)| *target));
    }

    /// The part of a node that belongs to the call's arm of an experiment.
    fn arm_of(&self, node: &'g Node) -> Option<&'g Arm> {
        node.arms.iter().find(|arm| self.arm(&arm.experiment, &arm.name))
    }

    fn digress(&mut self, intent: &str) {
        self.because = format!("digression {intent}");
        let Some(digression) = self.graph.digressions.get(intent) else { return self.lost() };
        if let Some(say) = &digression.say {
            self.say(say, BargeIn::Allowed);
        }
        if digression.suppress {
            self.actions.push(Action::Suppress);
        }
        match &digression.back {
            Back::Resume => self.resume(),
            Back::Listen => self.listen(None),
            Back::Wait => self.listen(Some(WAIT)),
            Back::Repeat => {
                for text in self.state.last.clone() {
                    self.say_text(text, BargeIn::Allowed, None);
                }
                self.listen(None);
            }
            Back::Go(target) => self.enter(*target),
            Back::Visit(target) => {
                if self.state.stack.len() >= MAX_STACK {
                    self.state.stack.remove(0);
                }
                let from = self.state.node.clone();
                self.state.stack.push(from);
                self.enter(*target);
            }
            Back::End(ending) => self.end(ending.clone()),
        }
    }

    fn silence(&mut self) {
        self.state.steps = self.state.steps.saturating_add(1);
        self.state.no_input = self.state.no_input.saturating_add(1);
        if self.over_the_limit() {
            return;
        }
        let Some(ask) = self.current().and_then(Node::ask) else { return self.lost() };
        if self.holds(self.graph.handoff_when.as_ref()) {
            self.because = "hand-over rule".to_owned();
            return self.enter(Target::Handoff);
        }
        self.climb(&ask.no_input, false);
    }

    fn climb(&mut self, ladder: &'g Ladder, matched: bool) {
        let rungs = &mut self.state.rungs;
        let (rung, what) =
            if matched { (&mut rungs.no_match, "no match") } else { (&mut rungs.no_input, "no input") };
        *rung = rung.saturating_add(1);
        let rung = *rung;
        if rung > ladder.max {
            self.because = format!("{what}, gave up after {}", ladder.max);
            return self.enter(ladder.then);
        }
        self.because = format!("{what} {rung} of {}", ladder.max);
        let last = ladder.say.len().saturating_sub(1);
        if let Some(say) = ladder.say.get(usize::from(rung - 1).min(last)) {
            self.say(say, BargeIn::Allowed);
        }
        if ladder.reask { self.resume() } else { self.listen(None) }
    }

    /// Asks the question of the node again, in short where there is a short form.
    fn resume(&mut self) {
        let Some(node) = self.current() else { return self.lost() };
        let arm = self.arm_of(node);
        let again = arm.and_then(|arm| arm.again.as_ref());
        let say = arm.and_then(|arm| arm.say.as_ref());
        if let Some(say) = again.or(node.again.as_ref()).or(say).or(node.say.as_ref()) {
            self.say(say, BargeIn::Allowed);
        }
        self.listen(None);
    }

    fn listen(&mut self, no_input: Option<Duration>) {
        let Some(ask) = self.current().and_then(Node::ask) else { return self.lost() };
        self.state.phase = Phase::Asking;
        let fill = |t: &Template| t.fill(&self.state.vars, &self.state.slots);
        let open = ask.fill.iter().filter(|fill| !self.state.slots.contains_key(&fill.slot));
        let listen = Listen {
            values: open.map(|fill| fill.kind.clone()).collect(),
            no_input: no_input.unwrap_or(ask.no_input_after),
            endpoint: if no_input.is_some() { Endpoint::Normal } else { ask.endpoint },
            expect: ask.expect.clone(),
            hot_words: ask.hot_words.iter().map(fill).filter(|w| !w.trim().is_empty()).collect(),
        };
        self.actions.push(Action::Listen(listen));
    }

    /// The state does not fit the script; there is no way on but a polite one out.
    fn lost(&mut self) {
        self.because = format!("node `{}` is not in the script or asks nothing", self.state.node);
        let graph = self.graph;
        self.say(&graph.lost, BargeIn::Allowed);
        self.end(Ending::Auto);
    }

    fn enter(&mut self, target: Target) {
        let mut target = target;
        for _ in 0..MAX_HOPS {
            match target {
                Target::Handoff => return self.hand_over(),
                Target::Leave => {
                    let graph = self.graph;
                    self.say(&graph.silence, BargeIn::Allowed);
                    return self.end(Ending::Auto);
                }
                Target::Return => match self.state.stack.pop() {
                    Some(node) => {
                        self.move_to(&node);
                        return self.resume();
                    }
                    None => return self.hand_over(),
                },
                Target::Node(i) => {
                    let Some(node) = self.graph.nodes.get(i) else { return self.lost() };
                    match self.pass(node) {
                        Some(next) => target = next,
                        None => return,
                    }
                }
            }
        }
        self.lost();
    }

    fn move_to(&mut self, node: &str) {
        if self.state.node != node {
            self.state.rungs = Rungs::default();
            node.clone_into(&mut self.state.node);
        }
        if self.graph.remember_visited.contains(node) {
            self.state.visited.insert(node.to_owned());
        }
    }

    /// Enters one node; returns the next when this one does not wait.
    fn pass(&mut self, node: &'g Node) -> Option<Target> {
        self.move_to(&node.id);
        self.state.slots.extend(node.set.iter().cloned());
        let arm = self.arm_of(node);
        if let Some(say) = arm.and_then(|arm| arm.say.as_ref()).or(node.say.as_ref()) {
            let barge_in = self.barge_in(node, say);
            let text = say.fill(&self.state.vars, &self.state.slots);
            let generate = node.generate.as_ref().map(|generate| Generate {
                prompt: generate.prompt.fill(&self.state.vars, &self.state.slots),
                budget: generate.budget,
                max_chars: generate.max_chars,
                lead_in: generate.lead_in.clone(),
            });
            self.say_text(text, barge_in, generate);
        }
        if node.suppress {
            self.actions.push(Action::Suppress);
        }
        match &node.kind {
            NodeKind::Ask(_) => {
                self.listen(None);
                None
            }
            NodeKind::Go(next) => Some(arm.and_then(|arm| arm.next).unwrap_or(*next)),
            NodeKind::Branch { cases, otherwise } => {
                let case = cases.iter().find(|(guard, _)| guard.holds(self));
                Some(case.map_or(*otherwise, |(_, target)| *target))
            }
            NodeKind::Transfer(transfer) => {
                self.state.phase = Phase::Transferring;
                self.transfer(transfer.to.clone(), transfer);
                None
            }
            NodeKind::End(ending) => {
                self.end(ending.clone());
                None
            }
        }
    }

    fn barge_in(&self, node: &Node, say: &Template) -> BargeIn {
        match &node.barge_in {
            Barge::On => BargeIn::Allowed,
            Barge::Off => BargeIn::Off,
            Barge::Until(words) => {
                let text = say.fill(&self.state.vars, &self.state.slots);
                let words = words.fill(&self.state.vars, &self.state.slots);
                match text.find(&words) {
                    Some(start) => BargeIn::OffUntil { chars: text[..start + words.len()].chars().count() },
                    None => BargeIn::Off,
                }
            }
        }
    }

    fn hand_over(&mut self) {
        self.move_to(crate::graph::HANDOFF);
        let graph = self.graph;
        self.say(&graph.handoff_say, BargeIn::Allowed);
        self.state.phase = Phase::Transferring;
        let transfer = &graph.handoff;
        let rule = graph.handoff_rules.iter().find(|(when, _)| when.holds(self));
        let to = rule.map_or(&transfer.to, |(_, to)| to).clone();
        self.transfer(to, transfer);
    }

    fn transfer(&mut self, to: String, transfer: &Transfer) {
        let fill = |text: &Option<Template>| {
            text.as_ref().map(|text| text.fill(&self.state.vars, &self.state.slots)).unwrap_or_default()
        };
        let waiting = Waiting { say: fill(&transfer.wait), music: transfer.music };
        let whisper = fill(&transfer.whisper);
        self.actions.push(Action::Transfer { to, timeout: transfer.timeout, waiting, whisper });
    }

    fn transfer_fails_to(&self) -> Target {
        match self.current().map(|n| &n.kind) {
            Some(NodeKind::Transfer(transfer)) => transfer.fail,
            _ => self.graph.handoff.fail,
        }
    }

    fn transfer_outcome(&self) -> Outcome {
        match self.current().map(|n| &n.kind) {
            Some(NodeKind::Transfer(transfer)) => transfer.outcome.clone(),
            _ => self.graph.handoff.outcome.clone(),
        }
    }

    fn say(&mut self, template: &Template, barge_in: BargeIn) {
        let text = template.fill(&self.state.vars, &self.state.slots);
        self.say_text(text, barge_in, None);
    }

    fn say_text(&mut self, text: String, barge_in: BargeIn, generate: Option<Generate>) {
        if text.trim().is_empty() {
            return;
        }
        self.said.push(text.clone());
        self.actions.push(Action::Say(Say { node: self.state.node.clone(), text, barge_in, generate }));
    }

    fn end(&mut self, ending: Ending) {
        let outcome = match (self.state.outcome.take(), ending) {
            (Some(earlier), Ending::Auto | Ending::Code(_)) => earlier,
            (None, Ending::Code(outcome)) => outcome,
            (None, Ending::Auto) => self.by_the_rules(),
        };
        self.state.phase = Phase::Ended;
        self.state.outcome = Some(outcome.clone());
        self.state.stack.clear();
        self.actions.push(Action::End { outcome });
    }

    fn by_the_rules(&self) -> Outcome {
        let mut rules = self.graph.rules.iter();
        let rule = rules.find(|(_, when)| self.holds(when.as_ref()));
        rule.map_or_else(
            || Outcome { code: NO_OUTCOME.to_owned(), label: String::new() },
            |(outcome, _)| outcome.clone(),
        )
    }
}
