//! What the robot may say, known before it says it, so that it can be rendered before dialling.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::action::Variables;
use crate::document::{Slot, Type};
use crate::experiment::assign;
use crate::graph::{Arm, Graph, Node, Target};
use crate::script::Script;
use crate::state::{Phase, State};
use crate::wording::Template;

/// Lists every text that the robot may say in a call and that needs nothing found out in it, exactly as
/// it will stand in [`crate::Say::text`]. What is needed first comes first: the opening, then node by
/// node as a call comes to them, then what is said from anywhere, then what is said when something is
/// not understood. Variables that are not given are left out, so check them before.
pub fn prompts(script: &Script, variables: &Variables) -> Vec<String> {
    let graph = script.graph();
    let vars = script.with_defaults(variables);
    let arms = assign(script, variables);
    let nodes = by_distance(graph);
    let on_the_way = nodes.iter().flat_map(|node| {
        let own = arm_of(node, &arms).and_then(|arm| arm.say.as_ref());
        own.or(node.say.as_ref()).into_iter().chain(node.edge_texts())
    });
    let from_anywhere = graph
        .digressions
        .values()
        .filter_map(|digression| digression.say.as_ref())
        .chain([&graph.opt_out.say, &graph.handoff_say])
        .chain(
            graph
                .nodes
                .iter()
                .filter_map(Node::transfer)
                .chain([&graph.handoff])
                .filter_map(|t| t.wait.as_ref()),
        );
    let asked_again = nodes.iter().flat_map(|node| {
        let own = arm_of(node, &arms).and_then(|arm| arm.again.as_ref());
        node.ladder_texts().chain(own.or(node.again.as_ref()))
    });
    let lead_ins = nodes.iter().filter_map(|node| Some(node.generate.as_ref()?.lead_in.clone()));
    let mut seen = BTreeSet::new();
    on_the_way
        .chain(from_anywhere)
        .chain(asked_again)
        .chain([&graph.silence, &graph.goodbye, &graph.lost])
        .chain(graph.voicemail.iter().chain(&graph.screener))
        .filter(|template| template.slots().next().is_none())
        .map(|template| template.fill(&vars, &BTreeMap::new()))
        .chain(lead_ins)
        .filter(|text| !text.trim().is_empty() && seen.insert(text.clone()))
        .collect()
}

/// Lists texts with values that are found out in the call, for the values that are likely: each date
/// slot with each of `dates` (ISO 8601), each time slot with each of `times`, an enum and a number from `min`
/// to `max` with each of their values, where those are few. A text with several slots
/// is listed once for every value of each, not for every combination: whoever renders sentence by
/// sentence then has all of them. Texts with slots of another kind are left out.
pub fn likely_prompts(
    script: &Script,
    variables: &Variables,
    dates: &[String],
    times: &[String],
) -> Vec<String> {
    let graph = script.graph();
    let vars = script.with_defaults(variables);
    let values = |name: &str| match script.document().slots.get(name) {
        Some(slot) if slot.kind == Type::Date => dates.to_vec(),
        Some(slot) if slot.kind == Type::Time => times.to_vec(),
        Some(slot) => few_values(slot),
        None => Vec::new(),
    };
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for template in by_distance(graph).into_iter().flat_map(|node| {
        node.say.iter().chain(node.edge_texts()).chain(node.ladder_texts()).chain(&node.again)
    }) {
        let first: BTreeMap<String, String> = template
            .slots()
            .filter_map(|slot| Some((slot.to_owned(), values(slot).first()?.clone())))
            .collect();
        if first.is_empty() || template.slots().any(|slot| !first.contains_key(slot)) {
            continue;
        }
        for slot in template.slots() {
            for value in values(slot) {
                let mut filled = first.clone();
                filled.insert(slot.to_owned(), value.clone());
                let text = template.fill(&vars, &filled);
                if seen.insert(text.clone()) {
                    found.push(text);
                }
            }
        }
    }
    found
}

/// Lists texts with values that the call has found out, of all that may be said after the customer's next turn:
/// with those of [`prompts`] and [`likely_prompts`] that leaves little to be spoken that was not known before.
pub fn next_prompts(script: &Script, state: &State) -> Vec<String> {
    let graph = script.graph();
    let Some(here) = graph.node(&state.node).filter(|_| matches!(state.phase, Phase::Asking)) else {
        return Vec::new();
    };
    let again = arm_of(here, &state.arms).and_then(|arm| arm.again.as_ref()).or(here.again.as_ref());
    let mut texts: Vec<&Template> = here.edge_texts().chain(here.ladder_texts()).chain(again).collect();
    let mut seen = BTreeSet::new();
    let mut todo: VecDeque<Target> = here.targets().into();
    while let Some(target) = todo.pop_front() {
        let Target::Node(i) = target else { continue };
        let Some(node) = graph.nodes.get(i).filter(|_| seen.insert(i)) else { continue };
        texts.extend(arm_of(node, &state.arms).and_then(|arm| arm.say.as_ref()).or(node.say.as_ref()));
        // Where nothing is asked, the robot goes on speaking.
        if node.ask().is_none() {
            todo.extend(node.targets());
        }
    }
    let mut listed = BTreeSet::new();
    texts
        .into_iter()
        .filter(|text| text.slots().next().is_some())
        .filter(|text| text.slots().all(|slot| state.slots.contains_key(slot)))
        .map(|text| text.fill(&state.vars, &state.slots))
        .filter(|text| !text.trim().is_empty() && listed.insert(text.clone()))
        .take(MAX_NEXT)
        .collect()
}

/// Lists the values of a slot that has but a few; none for one that has many.
pub(crate) fn few_values(slot: &Slot) -> Vec<String> {
    match (slot.kind, slot.min, slot.max) {
        (Type::Enum, _, _) if slot.values.len() <= MAX_FEW => slot.values.clone(),
        (Type::Number, Some(min), Some(max)) if max - min < MAX_FEW_NUMBERS => {
            let whole = (0..).map(|i| min.ceil() + f64::from(i));
            whole.take_while(|n| *n <= max).map(|n| n.to_string()).collect()
        }
        _ => Vec::new(),
    }
}

/// The arm of the call that changes something at a node.
fn arm_of<'n>(node: &'n Node, arms: &BTreeMap<String, String>) -> Option<&'n Arm> {
    node.arms.iter().find(|arm| arms.get(&arm.experiment) == Some(&arm.name))
}

/// How many values are still few.
const MAX_FEW: usize = 20;
/// The most texts that are worth rendering for one turn.
const MAX_NEXT: usize = 16;
const MAX_FEW_NUMBERS: f64 = 20.0;

/// Returns what the box says by itself before it hangs up when the cloud is lost.
pub fn goodbye(script: &Script, variables: &Variables) -> String {
    let lost: &Template = &script.graph().lost;
    lost.fill(&script.with_defaults(variables), &BTreeMap::new())
}

/// Returns what is said to a voicemail after its beep, if anything is.
pub fn to_voicemail(script: &Script, variables: &Variables) -> Option<String> {
    let text = script.graph().voicemail.as_ref()?;
    Some(text.fill(&script.with_defaults(variables), &BTreeMap::new()))
}

/// Returns what is said to an assistant that screens calls, if anything is.
pub fn to_screener(script: &Script, variables: &Variables) -> Option<String> {
    let text = script.graph().screener.as_ref()?;
    Some(text.fill(&script.with_defaults(variables), &BTreeMap::new()))
}

/// Lists the nodes by the number of steps from the opening; those that only a digression or a failed
/// hand-over leads to come last.
pub(crate) fn by_distance(graph: &Graph) -> Vec<&Node> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    let mut todo: VecDeque<usize> = VecDeque::from([0]);
    let mut rest = 0..graph.nodes.len();
    while let Some(i) = todo.pop_front().or_else(|| rest.next()) {
        let Some(node) = graph.nodes.get(i).filter(|_| seen.insert(i)) else { continue };
        order.push(node);
        // Authors write the way that they hope for first.
        let next: BTreeSet<usize> = node
            .targets()
            .into_iter()
            .filter_map(|target| match target {
                Target::Node(i) => Some(i),
                Target::Handoff | Target::Return | Target::Leave => None,
            })
            .collect();
        todo.extend(next);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Action, Entity, Event, Heard};
    use crate::interp::{start, step};

    #[test]
    fn a_text_with_a_slot_is_listed_once_for_each_likely_value() {
        let text = include_str!("../../scripts/repayment-reminder-zh.yaml");
        let script = Script::load(text).unwrap();
        let dates = ["2026-11-27".to_owned(), "2026-11-28".to_owned()];
        let found = likely_prompts(&script, &script.example_variables(), &dates, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains("2026-11-28"), "{found:?}");
    }

    #[test]
    fn what_comes_next_is_listed_once_its_values_are_known() {
        let script = Script::load(include_str!("../../scripts/appointment-confirmation-en.yaml")).unwrap();
        let known = [("new_date", "2026-12-04"), ("new_time", "15:30")];
        let mut state = start(&script, &script.example_variables()).unwrap().standing_at("new_time");
        state.slots.extend([known[0]].map(|(slot, value)| (slot.to_owned(), value.to_owned())));
        assert_eq!(next_prompts(&script, &state), Vec::<String>::new(), "the time is still open");
        state.slots.extend(known.map(|(slot, value)| (slot.to_owned(), value.to_owned())));
        let next = next_prompts(&script, &state);
        assert_eq!(next.len(), 1, "{next:?}");
        assert!(next[0].contains("2026-12-04") || next[0].contains("December"), "{next:?}");
        // The text is exactly what is said then.
        let yes =
            Heard { text: "half past three".to_owned(), entities: vec![time("15:30")], ..Heard::default() };
        let mut asked = state.clone();
        asked.slots.remove("new_time");
        let said = step(&script, &asked, &Event::Heard(yes), 20).actions;
        let Some(Action::Say(say)) = said.first() else { panic!("{said:?}") };
        assert_eq!(say.text, next[0]);
    }

    fn time(value: &str) -> Entity {
        Entity { kind: "time".to_owned(), value: value.to_owned(), text: "half past three".to_owned() }
    }
}
