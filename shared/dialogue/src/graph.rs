//! A script whose names were resolved and whose guards were read: what the interpreter walks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use trunkline_model::Outcome;

use crate::action::Endpoint;
use crate::document::Type;
use crate::expr::Expr;
use crate::scalar::Pos;
use crate::vars::Range;
use crate::wording::Template;

/// The intents that every script has without declaring them.
pub const UNIVERSAL: [&str; 9] =
    ["yes", "no", "repeat", "wait", "busy", "who_are_you", "ask_robot", "ask_human", "opt_out"];

/// Names in `on` that are no intents.
pub(crate) const FILLED: &str = "filled";
pub(crate) const ANY: &str = "any";
pub(crate) const NO_INPUT: &str = "no_input";
pub(crate) const NO_MATCH: &str = "no_match";

/// Names that lead somewhere and are no nodes.
pub(crate) const HANDOFF: &str = "handoff";
pub(crate) const RETURN: &str = "return";

/// The compiled form of a script.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// The first is where the call begins; there is at least one.
    pub(crate) nodes: Vec<Node>,
    pub(crate) by_id: BTreeMap<String, usize>,
    /// What each slot holds, with the values of an enum.
    pub(crate) slot_types: BTreeMap<String, (Type, Vec<String>)>,
    pub(crate) slot_ranges: BTreeMap<String, Range>,
    /// What each entity of the script sounds like, the longest first, with the value that it stands for.
    pub(crate) entities: BTreeMap<String, Vec<(String, String)>>,
    /// By intent, the universal ones included; `opt_out` is not among them.
    pub(crate) digressions: BTreeMap<String, Digression>,
    pub(crate) opt_out: OptOut,
    pub(crate) handoff: Transfer,
    pub(crate) handoff_say: Template,
    pub(crate) handoff_when: Option<Expr>,
    pub(crate) handoff_rules: Vec<(Expr, String)>,
    pub(crate) rules: Vec<(Outcome, Option<Expr>)>,
    /// Said when the turns are used up.
    pub(crate) goodbye: Template,
    /// Said when nobody speaks.
    pub(crate) silence: Template,
    /// Said by the box when the cloud is lost.
    pub(crate) lost: Template,
    /// Said to a voicemail after its beep.
    pub(crate) voicemail: Option<Template>,
    /// Said to an assistant that screens calls.
    pub(crate) screener: Option<Template>,
    pub(crate) max_turns: u16,
    /// The intents and nodes that a guard asks about later.
    pub(crate) remember_heard: BTreeSet<String>,
    pub(crate) remember_visited: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) pos: Pos,
    pub(crate) say: Option<Template>,
    pub(crate) again: Option<Template>,
    pub(crate) generate: Option<Generated>,
    pub(crate) arms: Vec<Arm>,
    pub(crate) barge_in: Barge,
    pub(crate) set: Vec<(String, String)>,
    pub(crate) suppress: bool,
    pub(crate) kind: NodeKind,
}

/// What a language model is asked for; `say` of the node is what is said without it.
#[derive(Clone, Debug)]
pub(crate) struct Generated {
    pub(crate) prompt: Template,
    pub(crate) budget: Duration,
    pub(crate) max_chars: usize,
    pub(crate) lead_in: String,
}

/// What an arm of an experiment says and does at a node.
#[derive(Clone, Debug)]
pub(crate) struct Arm {
    pub(crate) experiment: String,
    pub(crate) name: String,
    pub(crate) say: Option<Template>,
    pub(crate) again: Option<Template>,
    pub(crate) next: Option<Target>,
}

#[derive(Clone, Debug)]
pub(crate) enum Barge {
    On,
    Off,
    Until(Template),
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Ask(Box<Ask>),
    Go(Target),
    Branch { cases: Vec<(Expr, Target)>, otherwise: Target },
    Transfer(Transfer),
    End(Ending),
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) no_input_after: Duration,
    pub(crate) endpoint: Endpoint,
    pub(crate) expect: Vec<String>,
    pub(crate) hot_words: Vec<Template>,
    pub(crate) fill: Vec<Fill>,
    pub(crate) on: BTreeMap<String, Edge>,
    pub(crate) filled: Option<Edge>,
    pub(crate) any: Option<Edge>,
    pub(crate) no_input: Ladder,
    pub(crate) no_match: Ladder,
}

#[derive(Clone, Debug)]
pub(crate) struct Fill {
    pub(crate) slot: String,
    pub(crate) kind: String,
    pub(crate) optional: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) say: Option<Template>,
    pub(crate) then: Target,
    pub(crate) set: Vec<(String, String)>,
    pub(crate) fill: Vec<Fill>,
    /// Whether the right person is known to be speaking after it.
    pub(crate) confirms: bool,
    /// Where arms of experiments go instead: experiment, arm, target.
    pub(crate) arms: Vec<(String, String, Target)>,
}

impl Edge {
    /// Lists where it leads, for every arm.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> {
        std::iter::once(self.then).chain(self.arms.iter().map(|(_, _, target)| *target))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Ladder {
    pub(crate) say: Vec<Template>,
    /// Whether the question is asked again behind the wording.
    pub(crate) reask: bool,
    pub(crate) max: u8,
    pub(crate) then: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Node(usize),
    Handoff,
    /// Back to where the digression came from.
    Return,
    /// Says goodbye to silence, and ends by the rules.
    Leave,
}

#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) to: String,
    pub(crate) timeout: Duration,
    /// Said to the customer while she waits.
    pub(crate) wait: Option<Template>,
    pub(crate) music: bool,
    /// Said to the person alone.
    pub(crate) whisper: Option<Template>,
    pub(crate) fail: Target,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(crate) enum Ending {
    Auto,
    Code(Outcome),
}

#[derive(Clone, Debug)]
pub(crate) struct Digression {
    pub(crate) say: Option<Template>,
    pub(crate) suppress: bool,
    pub(crate) back: Back,
}

#[derive(Clone, Debug)]
pub(crate) enum Back {
    /// Asks the open question again.
    Resume,
    /// Only listens.
    Listen,
    /// Listens, and gives much time.
    Wait,
    /// Says again what was said last.
    Repeat,
    /// Goes somewhere for good.
    Go(Target),
    /// Goes somewhere, from where `return` comes back.
    Visit(Target),
    /// Ends the call.
    End(Ending),
}

#[derive(Clone, Debug)]
pub(crate) struct OptOut {
    pub(crate) say: Template,
    pub(crate) outcome: Outcome,
}

impl Graph {
    /// Returns the node of this name, if there is one.
    pub(crate) fn node(&self, id: &str) -> Option<&Node> {
        self.by_id.get(id).and_then(|&i| self.nodes.get(i))
    }
}

impl Node {
    pub(crate) fn ask(&self) -> Option<&Ask> {
        match &self.kind {
            NodeKind::Ask(ask) => Some(ask),
            NodeKind::Go(_) | NodeKind::Branch { .. } | NodeKind::Transfer(_) | NodeKind::End(_) => None,
        }
    }

    /// Lists where the dialogue can go from here, digressions and hand-over aside.
    pub(crate) fn targets(&self) -> Vec<Target> {
        match &self.kind {
            NodeKind::Ask(ask) => ask
                .on
                .values()
                .chain(&ask.filled)
                .chain(&ask.any)
                .flat_map(Edge::targets)
                .chain([ask.no_input.then, ask.no_match.then])
                .collect(),
            NodeKind::Go(target) => self.arms.iter().filter_map(|arm| arm.next).chain([*target]).collect(),
            NodeKind::Branch { cases, otherwise } => {
                cases.iter().map(|(_, target)| *target).chain([*otherwise]).collect()
            }
            NodeKind::Transfer(transfer) => vec![transfer.fail],
            NodeKind::End(_) => Vec::new(),
        }
    }

    /// Lists what is said on the way from here to other nodes.
    pub(crate) fn edge_texts(&self) -> impl Iterator<Item = &Template> {
        let edges = self.ask().into_iter().flat_map(|ask| ask.on.values().chain(&ask.filled).chain(&ask.any));
        edges.filter_map(|edge| edge.say.as_ref())
    }

    /// Lists what is said when nothing is heard or understood.
    pub(crate) fn ladder_texts(&self) -> impl Iterator<Item = &Template> {
        self.ask().into_iter().flat_map(|ask| ask.no_input.say.iter().chain(&ask.no_match.say))
    }

    /// Lists what may be said on entering, for every arm.
    pub(crate) fn says(&self) -> impl Iterator<Item = &Template> {
        self.say.iter().chain(self.arms.iter().filter_map(|arm| arm.say.as_ref()))
    }

    pub(crate) fn transfer(&self) -> Option<&Transfer> {
        match &self.kind {
            NodeKind::Transfer(transfer) => Some(transfer),
            NodeKind::Ask(_) | NodeKind::Go(_) | NodeKind::Branch { .. } | NodeKind::End(_) => None,
        }
    }

    /// Lists every text of the node, for every arm.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Template> {
        let arms = self.arms.iter().filter_map(|arm| arm.again.as_ref());
        let waits = self.transfer().into_iter().filter_map(|transfer| transfer.wait.as_ref());
        let asks = self.edge_texts().chain(self.ladder_texts());
        self.says().chain(&self.again).chain(arms).chain(asks).chain(waits)
    }
}
