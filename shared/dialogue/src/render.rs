//! Everything that a script may say, on paper: for those who must approve the wording.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use crate::document::{BargeInSpec, Disclosure, Document, Edge, Node};
use crate::graph::{Back, Graph, NO_INPUT, NO_MATCH, Target};
use crate::prompts::by_distance;
use crate::script::Script;
use crate::wording::Template;

/// One text that the robot may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spoken {
    /// The node, or `anywhere` for what is answered from any node.
    pub node: String,
    /// When: `on entering`, `asked again`, `on yes`, `digression busy`, …
    pub when: String,
    /// The words, with `{name}` where a value goes.
    pub text: String,
    /// What is known before the call and spoken in it.
    pub variables: Vec<String>,
    /// What is found out in the call and spoken in it.
    pub slots: Vec<String>,
}

/// Lists every text of a script in the order in which a call comes to them, then what is answered from
/// anywhere, our own wordings included.
pub fn spoken(script: &Script) -> Vec<Spoken> {
    let graph = script.graph();
    let mut out = Vec::new();
    for node in by_distance(graph) {
        let mut add = |when: String, text: &Template| out.push(one(&node.id, when, text));
        if let Some(say) = &node.say {
            add(
                if node.generate.is_some() {
                    "when nothing is generated".to_owned()
                } else {
                    "on entering".to_owned()
                },
                say,
            );
        }
        for arm in &node.arms {
            if let Some(say) = &arm.say {
                add(format!("on entering, arm {}.{}", arm.experiment, arm.name), say);
            }
            if let Some(again) = &arm.again {
                add(format!("asked again, arm {}.{}", arm.experiment, arm.name), again);
            }
        }
        if let Some(again) = &node.again {
            add("asked again".to_owned(), again);
        }
        let Some(ask) = node.ask() else { continue };
        for (intent, edge) in &ask.on {
            if let Some(say) = &edge.say {
                add(format!("on {intent}"), say);
            }
        }
        for (name, edge) in [("filled", &ask.filled), ("any", &ask.any)] {
            if let Some(say) = edge.as_ref().and_then(|edge| edge.say.as_ref()) {
                add(format!("on {name}"), say);
            }
        }
        for (name, ladder) in [("nothing is heard", &ask.no_input), ("nothing is understood", &ask.no_match)]
        {
            for (i, say) in ladder.say.iter().enumerate() {
                add(format!("when {name} ({})", i + 1), say);
            }
        }
    }
    let anywhere = |when: &str, text: &Template| one("anywhere", when.to_owned(), text);
    for (intent, digression) in &graph.digressions {
        if let Some(say) = &digression.say {
            out.push(anywhere(&format!("digression {intent}"), say));
        }
    }
    out.push(anywhere("digression opt_out", &graph.opt_out.say));
    out.push(anywhere("before a hand-over", &graph.handoff_say));
    let transfers = graph.nodes.iter().filter_map(|node| Some((node.id.as_str(), node.transfer()?)));
    for (node, transfer) in transfers.chain([("anywhere", &graph.handoff)]) {
        for (when, text) in [
            ("while a person is called", &transfer.wait),
            ("to the person alone, before she is joined", &transfer.whisper),
        ] {
            out.extend(text.as_ref().map(|text| one(node, when.to_owned(), text)));
        }
    }
    out.push(anywhere("when the call has gone on too long", &graph.goodbye));
    out.push(anywhere("when nobody speaks", &graph.silence));
    out.push(anywhere("when the connection to the cloud is lost", &graph.lost));
    for (when, text) in [
        ("to a voicemail, after its beep", &graph.voicemail),
        ("to an assistant that screens calls", &graph.screener),
    ] {
        out.extend(text.as_ref().map(|text| anywhere(when, text)));
    }
    out
}

fn one(node: &str, when: String, text: &Template) -> Spoken {
    let unique = |names: &mut dyn Iterator<Item = &str>| {
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        names.into_iter().collect()
    };
    Spoken {
        node: node.to_owned(),
        when,
        text: text.source(),
        variables: unique(&mut text.vars()),
        slots: unique(&mut text.slots()),
    }
}

/// Writes a script as Markdown for legal review: who is called and why, what is said in each node, with
/// which values, what cannot be interrupted, what each answer leads to, and how a call can end.
pub fn render(script: &Script) -> String {
    let document = script.document();
    let mut out = String::new();
    head(script, &mut out);
    let all = spoken(script);
    for (number, node) in (1_u32..).zip(by_distance(script.graph())) {
        let _ = writeln!(out, "\n## {number}. {}\n", node.id);
        let source = document.nodes.iter().find(|n| n.id.as_str() == node.id);
        for text in all.iter().filter(|text| text.node == node.id) {
            line(text, &mut out);
        }
        if let Some(generate) = &node.generate {
            let _ = writeln!(
                out,
                "- *generated by a language model, at most {} characters within {} ms, to:* {}",
                generate.max_chars,
                generate.budget.as_millis(),
                generate.prompt.source()
            );
            if !generate.lead_in.is_empty() {
                let _ = writeln!(out, "- *in front of what is generated:* {}", generate.lead_in);
            }
        }
        if let Some(source) = source {
            ways(source, document, &mut out);
        }
    }
    let _ = writeln!(out, "\n## From anywhere\n");
    for text in all.iter().filter(|text| text.node == "anywhere") {
        line(text, &mut out);
    }
    tail(document, script.graph(), &mut out);
    out
}

fn head(script: &Script, out: &mut String) {
    let document = script.document();
    let title = document.title.as_deref().unwrap_or(document.id.as_str());
    let _ = writeln!(out, "# {title}\n");
    let _ = writeln!(out, "- script: {}, version {}", script.id(), script.version());
    let _ = writeln!(out, "- language: {}, voice: {}", &*document.locale, document.voice.name);
    let _ = writeln!(out, "- purpose: {}", name(&*document.purpose));
    let told: Vec<&str> = document
        .disclose
        .iter()
        .map(|d| match d {
            Disclosure::Ai => "that a machine speaks",
            Disclosure::Recording => "that the call is recorded",
            Disclosure::Identity => "who is calling",
        })
        .collect();
    let _ = writeln!(out, "- told before the first question: {}", told.join(", "));
    if !document.vars.is_empty() {
        let _ = writeln!(
            out,
            "\n## Known before the call\n\n| name | type | given | example |\n| --- | --- | --- | --- |"
        );
        for (variable, var) in &document.vars {
            let given = match (&var.default, var.required) {
                (Some(default), _) => format!("or else: {}", cell(default)),
                (None, true) => "always".to_owned(),
                (None, false) => "sometimes".to_owned(),
            };
            let example = var.example.as_deref().map(cell).unwrap_or_default();
            let _ = writeln!(out, "| {variable} | {} | {given} | {example} |", name(&var.kind));
        }
    }
    if !document.experiments.is_empty() {
        let _ = writeln!(out, "\n## Experiments\n");
        for (experiment, spec) in &document.experiments {
            let arms: Vec<String> = spec.arms.iter().map(|(arm, weight)| format!("{arm} {weight}")).collect();
            let _ = writeln!(
                out,
                "- {experiment}: arms {} (weights), by {}, judged by {}",
                arms.join(", "),
                &*spec.by,
                &*spec.metric
            );
        }
    }
}

fn line(text: &Spoken, out: &mut String) {
    let _ = write!(out, "- *{}:* {}", text.when, text.text);
    let values: Vec<String> =
        text.variables.iter().cloned().chain(text.slots.iter().map(|s| format!("slot.{s}"))).collect();
    if !values.is_empty() {
        let _ = write!(out, " — speaks {}", values.join(", "));
    }
    out.push('\n');
}

/// Writes what may not be interrupted, and where each answer leads.
fn ways(node: &Node, document: &Document, out: &mut String) {
    let barge_in = node.barge_in.as_ref().or(document.defaults.barge_in.as_ref());
    match barge_in.map(|b| &**b) {
        Some(BargeInSpec::Off) => out.push_str("- *cannot be interrupted*\n"),
        Some(BargeInSpec::OffUntil(words)) => {
            let _ = writeln!(out, "- *cannot be interrupted before the end of:* {words}");
        }
        Some(BargeInSpec::On) | None => {}
    }
    for (slot, kind) in &node.fill {
        let _ = writeln!(out, "- *asks for:* {slot} ({})", &**kind);
    }
    let own = node.on.iter().map(|(answer, edge)| (answer, edge, ""));
    let asks = !node.on.is_empty() || node.listen.is_some() || !node.fill.is_empty();
    let inherited = document
        .defaults
        .on
        .iter()
        .filter(|(answer, _)| asks && !node.on.contains_key(*answer))
        .map(|(answer, edge)| (answer, edge, " (as everywhere)"));
    let ways: Vec<String> =
        own.chain(inherited).map(|(answer, edge, note)| way(answer, edge, note)).collect();
    if !ways.is_empty() {
        let _ = writeln!(out, "\n| answer | goes to |\n| --- | --- |\n{}", ways.join("\n"));
    }
    for case in &node.branch {
        let _ = writeln!(out, "- *if* `{}` *goes to* {}", &*case.when, &*case.then);
    }
    if let Some(otherwise) = &node.otherwise {
        let _ = writeln!(out, "- *otherwise goes to* {}", &**otherwise);
    }
    if let Some(next) = &node.next {
        let _ = writeln!(out, "- *goes on to* {}", &**next);
    }
    if let Some(transfer) = &node.transfer {
        let _ = writeln!(out, "- *hands over to* {}, *else goes to* {}", transfer.to, &*transfer.fail);
    }
    if let Some(end) = &node.end {
        let _ = writeln!(out, "- *ends the call with outcome* {}", &**end);
    }
    if !node.acts.is_empty() {
        out.push_str("- *puts the customer on the list of those who are not called again*\n");
    }
}

fn way(answer: &str, edge: &Edge, note: &str) -> String {
    let ladder = [NO_INPUT, NO_MATCH].contains(&answer);
    let after = match edge.max {
        Some(max) if ladder => format!(", after {max} tries"),
        Some(_) | None => String::new(),
    };
    let arms: String = edge.arms.iter().map(|(arm, target)| format!("; arm {arm}: {}", &**target)).collect();
    let sure = if edge.confirms { ", the right person being sure" } else { "" };
    format!("| {answer} | {}{arms}{after}{sure}{note} |", &*edge.then)
}

fn tail(document: &Document, graph: &Graph, out: &mut String) {
    let after = |back: &Back| match back {
        Back::Resume => "asks the open question again".to_owned(),
        Back::Listen => "listens".to_owned(),
        Back::Wait => "waits".to_owned(),
        Back::Repeat => "says again what was said last".to_owned(),
        Back::Go(target) | Back::Visit(target) => format!("goes to {}", target_name(graph, *target)),
        Back::End(_) => "ends the call".to_owned(),
    };
    let _ = writeln!(out, "\n| from anywhere | afterwards |\n| --- | --- |");
    for (intent, digression) in &graph.digressions {
        let _ = writeln!(out, "| {intent} | {} |", after(&digression.back));
    }
    let _ = writeln!(out, "| opt_out | is never called again; ends the call |");
    let handoff = &document.handoff;
    let _ = writeln!(out, "\n## Hand-over\n\n- to {}, else goes to {}", handoff.to, &*handoff.fail);
    for rule in &handoff.rules {
        let _ = writeln!(out, "- *if* `{}` to {}", &*rule.when, rule.to);
    }
    if let Some(when) = &handoff.when {
        let _ = writeln!(out, "- also when `{}`", &**when);
    }
    let _ = writeln!(out, "\n## What may come of a call\n\n| code | meaning | when |\n| --- | --- | --- |");
    for rule in &document.outcomes {
        let when = rule.when.as_ref().map(|when| format!("`{}`", cell(when))).unwrap_or_default();
        let label = rule.label.as_deref().map(cell).unwrap_or_default();
        let _ = writeln!(out, "| {} | {label} | {when} |", &*rule.code);
    }
}

fn target_name(graph: &Graph, target: Target) -> &str {
    match target {
        Target::Node(i) => graph.nodes.get(i).map_or("?", |node| node.id.as_str()),
        Target::Handoff => "a person",
        Target::Return => "where it came from",
        Target::Leave => "the end",
    }
}

/// Writes a text so that it stays within its cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// Returns the name of a value as it stands in a file.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
