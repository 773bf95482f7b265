//! Scripts, wording tables, word lists, turns and what customers say.

use std::sync::OnceLock;

use jiff::civil::{DateTime, datetime};
use serde_json::{Value, json};
use trunkline_dialogue::{Script, import, lint, next_prompts, prompts, render, start, testing};
use trunkline_model::CallId;
use trunkline_nlu::Engine;
use trunkline_wire::{ActionV1, TurnRequest, parse};
use trunkline_words::{Filter, WordList};

const ZH: &str = include_str!("../../../shared/scripts/repayment-reminder-zh.yaml");
const EN: &str = include_str!("../../../shared/scripts/appointment-confirmation-en.yaml");
const RICH: &str = include_str!("../../../shared/dialogue/tests/data/rich-en.yaml");
const NOON: DateTime = datetime(2026, 11, 23, 12, 0, 0, 0);

/// A script as an author or a cloud sends it. One that loads is walked through as well.
pub(crate) fn script(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = lint(text);
    }
    let Ok(script) = Script::load_bytes(bytes) else { return };
    let again = Script::load(script.canonical()).expect("the canonical form loads");
    assert_eq!(again.version(), script.version(), "the canonical form is the same script");
    let _ = render(&script);
    let variables = script.example_variables();
    let _ = prompts(&script, &variables);
    if let Ok(state) = start(&script, &variables) {
        let _ = next_prompts(&script, &state);
    }
    let _ = testing::run_given(&script);
}

pub(crate) fn scripts() -> Vec<Vec<u8>> {
    [ZH, EN, RICH].map(|text| text.as_bytes().to_vec()).to_vec()
}

/// A wording table as a team keeps it.
pub(crate) fn table(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = import(text, "imported");
    }
}

pub(crate) fn tables() -> Vec<Vec<u8>> {
    [
        "node,wording,answers,next\nopen,Hello. Is this a good time?,yes,end\nend,Goodbye.,,\n",
        "节点,话术,回答,下一步\n开场,\"您好，方便吗？\",方便|不方便,结束|结束\n结束,再见。,,\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

/// A word list, held against the rest of the bytes.
pub(crate) fn words(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (list, said) = text.split_once("\n---\n").unwrap_or((text, text));
    let Ok(list) = WordList::from_yaml(list) else { return };
    let Ok(filter) = Filter::new([&list]) else { return };
    for found in filter.heard(said) {
        assert!(said.get(found.range.clone()).is_some(), "{:?} are no characters of the text", found.range);
    }
    let _ = filter.speakable(said);
}

pub(crate) fn word_lists() -> Vec<Vec<u8>> {
    let list = "schema: trunkline/words/1\nid: a\nentries:\n  - {words: [保本, scam], side: both, action: withhold}\n  \
                - {words: [damn], side: robot, action: replace, with: oh}\n---\n本产品保 本，no scam, damn it";
    vec![list.as_bytes().to_vec()]
}

fn known() -> &'static (Engine, Script) {
    static KNOWN: OnceLock<(Engine, Script)> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let (engine, script) = (Engine::floor_only(), Script::load(ZH).expect("a sample"));
        trunkline_turn::prepare(&engine, &script).expect("a sample");
        (engine, script)
    })
}

/// Turn requests of one call, a line each, as a box sends them. Where a line has no state, it goes on from the
/// answer before.
pub(crate) fn turn(bytes: &[u8]) {
    let (engine, script) = known();
    let variables = script.example_variables();
    let mut state: Option<Value> = None;
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Ok(mut request) = parse::<TurnRequest>(line) else { continue };
        request.state = request.state.or_else(|| state.clone());
        let reply = trunkline_turn::answer(engine, script, &variables, &request, NOON);
        assert!(!reply.error.is_empty() || reply.state.is_object(), "an answer has a state");
        let ends = reply.actions.iter().filter(|action| matches!(action, ActionV1::End { .. })).count();
        assert!(ends <= 1, "a call ends once");
        state = Some(reply.state).filter(Value::is_object).or(state);
    }
}

pub(crate) fn turns() -> Vec<Vec<u8>> {
    let request = |turn: u32, event: Value| {
        json!({ "call": CallId::from_u128(1), "turn": turn, "rev": 0, "mode": "final", "event": event,
            "elapsed_s": 5 * turn, "budget_ms": 900 })
        .to_string()
    };
    let heard =
        |turn: u32, text: &str| request(turn, json!({ "kind": "heard", "text": text, "logprob": -0.2 }));
    let call = [
        request(0, json!({ "kind": "answered" })),
        heard(1, "是我"),
        heard(2, "方便的"),
        request(3, json!({ "kind": "no_input" })),
        heard(4, "下周五"),
        heard(5, "转人工"),
        request(6, json!({ "kind": "transfer_failed", "reason": "busy" })),
        request(7, json!({ "kind": "hung_up" })),
    ];
    let mut seeds = vec![call.join("\n").into_bytes()];
    let mut whole = call.first().cloned().unwrap_or_default();
    whole.push('\n');
    whole.push_str(&heard(1, "别再打了"));
    seeds.push(whole.into_bytes());
    seeds
}

/// What a customer says, in both languages.
pub(crate) fn understand(bytes: &[u8]) {
    let (engine, script) = known();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > 20_000 {
        return;
    }
    let found =
        engine.understand(script.version().as_str(), text, &["yes", "no"], NOON).expect("it is prepared");
    assert!((-1.0..=1.0).contains(&found.sentiment), "{}", found.sentiment);
    for locale in [trunkline_nlu::Locale::Zh, trunkline_nlu::Locale::En] {
        for entity in trunkline_nlu::extract(text, locale, NOON) {
            assert!(!entity.value.normalised().is_empty(), "{entity:?}");
        }
    }
}

pub(crate) fn sentences() -> Vec<Vec<u8>> {
    [
        "下个月三号下午两点半吧，三千五百块，电话是幺三八零零一三八零零零",
        "百分之二十，月底，发工资以后",
        "next Friday at half past three, two hundred bucks, twenty percent",
        "one two three four double five",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
