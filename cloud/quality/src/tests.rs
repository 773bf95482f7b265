//! Calls that went well, and calls that went wrong in one way each.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn script() -> &'static Script {
    static SCRIPT: std::sync::OnceLock<Script> = std::sync::OnceLock::new();
    SCRIPT.get_or_init(|| {
        Script::load(include_str!("../../../shared/scripts/repayment-reminder-zh.yaml")).unwrap()
    })
}

const OPENING: &str = "您好，我是和顺银行的智能语音助手，本次通话将被录音。请问您是王芳吗？";

fn turn(
    number: u32,
    said: Option<(&str, f32, f32)>,
    decision: (&str, &str),
    robot: (&str, f32, f32),
) -> Value {
    let customer = said.map(|(text, start, end)| json!({"text": text, "start_s": start, "end_s": end}));
    let intent = decision.1.strip_prefix("intent ");
    json!({
        "turn": number,
        "customer": customer,
        "decision": {"node": decision.0, "because": decision.1, "understanding": {"intent": intent, "score": 0.9}},
        "robot": [{"text": robot.0, "start_s": robot.1, "heard": robot.2}],
    })
}

/// A short call of 16 seconds in which all is well.
fn good() -> Value {
    json!({
        "call": "00000000-0000-0000-0000-00000000002a",
        "script": {"id": "repayment-reminder-zh", "version": "0".repeat(64)},
        "started": "2026-11-22T10:00:00Z", "answered": "2026-11-22T10:00:05Z", "ended": "2026-11-22T10:00:21Z",
        "disposition": "completed",
        "turns": [
            turn(0, None, ("open", "answered"), (OPENING, 0.2, 1.0)),
            turn(1, Some(("打错了", 7.6, 8.8)), ("wrong_party", "intent wrong_party"),
                ("非常抱歉，打扰您了。我们会核实这个号码，以后不会再打给您，再见。", 9.4, 1.0)),
        ],
    })
}

fn inspected(record: &Value, rules: &Rules) -> Inspection {
    inspect(&serde_json::from_value(record.clone()).unwrap(), script(), rules)
}

fn broken(record: &Value, rules: &Rules) -> Vec<&'static str> {
    inspected(record, rules).remarks.iter().map(|remark| remark.rule).collect()
}

#[test]
fn a_call_that_went_well_has_nothing_to_remark_on() {
    let found = inspected(&good(), &Rules::default());
    assert_eq!((found.score, found.remarks.as_slice(), found.disclosed), (100, &[][..], Some(true)));
    assert!((found.seconds - 16.0).abs() < 0.01);
    assert!((found.longest_wait_s - 0.6).abs() < 0.01, "{found:?}");
    assert!((0.0..0.45).contains(&found.silence_share), "{found:?}");
}

#[test]
fn a_customer_who_leaves_in_anger_is_remarked_on_and_one_who_calmed_down_is_not() {
    let mut record = good();
    record["turns"][1]["decision"]["understanding"]["sentiment"] = json!(-0.7);
    assert_eq!(broken(&record, &Rules::default()), ["upset"]);
    let mut calm = record["turns"][1].clone();
    calm["decision"]["understanding"]["sentiment"] = json!(0.2);
    calm["customer"]["start_s"] = json!(9.0);
    calm["customer"]["end_s"] = json!(9.2);
    record["turns"].as_array_mut().unwrap().push(calm);
    assert!(!broken(&record, &Rules::default()).contains(&"upset"));
}

#[test]
fn a_call_that_nobody_answered_is_not_inspected() {
    let mut record = good();
    record["answered"] = Value::Null;
    let found = inspected(&record, &Rules::default());
    assert_eq!((found.score, found.disclosed), (100, None));
}

#[test]
fn an_opening_that_was_cut_off_before_the_protected_words_is_critical() {
    let mut record = good();
    record["turns"][0]["robot"][0]["heard"] = json!(0.4);
    assert_eq!(broken(&record, &Rules::default()), ["disclosure"]);
    record["turns"][0]["robot"][0]["heard"] = json!(0.75);
    assert_eq!(broken(&record, &Rules::default()), [""; 0], "the rest may be interrupted");
    record["turns"].as_array_mut().unwrap().truncate(1);
    record["turns"][0]["robot"][0]["heard"] = json!(0.1);
    let found = inspected(&record, &Rules { silence_share: 1.0, ..Rules::default() });
    assert_eq!((found.remarks.len(), found.disclosed), (0, Some(false)), "who hangs up need not hear it");
}

#[test]
fn an_opt_out_must_be_kept_and_the_call_must_end() {
    let mut record = good();
    record["turns"][1]["decision"]["understanding"]["intent"] = json!("opt_out");
    assert_eq!(broken(&record, &Rules::default()), ["opt_out"], "not suppressed");
    record["suppress"] = json!(true);
    assert_eq!(broken(&record, &Rules::default()), [""; 0]);
    record["ended"] = json!("2026-11-22T10:00:30Z");
    let found = inspected(&record, &Rules { silence_share: 1.0, ..Rules::default() });
    assert_eq!((found.remarks[0].rule, found.score, found.remarks[0].turn), ("opt_out", 50, Some(1)));
}

#[test]
fn what_a_customer_suffers_is_measured() {
    let rules = Rules::default();
    let mut slow = good();
    slow["turns"][1]["robot"][0]["start_s"] = json!(11.5);
    assert!(broken(&slow, &rules).contains(&"slow_answer"));
    let mut silent = good();
    silent["ended"] = json!("2026-11-22T10:01:00Z");
    assert_eq!(broken(&silent, &rules), ["silence"]);
    let mut over = good();
    over["turns"][1]["customer"]["start_s"] = json!(2.0);
    assert_eq!(broken(&over, &rules), ["talk_over"]);
    let mut lost = good();
    for (i, because) in ["no match 1 of 2", "no input 1 of 2", "limit of 40 turns"].iter().enumerate() {
        let at = 9.5 + i as f32 * 0.1;
        lost["turns"].as_array_mut().unwrap().push(turn(
            9,
            Some(("嗯", at, at + 0.05)),
            ("open", because),
            ("嗯", at + 0.1, 1.0),
        ));
    }
    assert_eq!(broken(&lost, &rules), ["dead_end"]);
    let rules = Rules { forbidden: vec!["核实".to_owned()], ..rules };
    assert_eq!(broken(&good(), &rules), ["forbidden_word"]);
}

#[test]
fn words_of_the_lists_are_remarked_on_by_what_came_of_them() {
    let with = |by: &str, severity: &str, action: &str| {
        let mut record = good();
        record["turns"][1]["words"] =
            json!([{ "by": by, "word": "私下", "list": "branch", "severity": severity, "action": action }]);
        let found = inspected(&record, &Rules::default());
        found.remarks.iter().find(|remark| remark.rule == "listed_word").map(|remark| remark.severity)
    };
    assert_eq!(with("robot", "critical", "note"), Some(Severity::Critical));
    assert_eq!(with("robot", "critical", "withhold"), Some(Severity::Minor), "nobody heard it");
    assert_eq!(with("customer", "critical", "note"), Some(Severity::Major));
    assert_eq!(with("customer", "warn", "note"), Some(Severity::Minor));
    assert_eq!(with("customer", "info", "note"), None);
}

#[test]
fn critical_calls_are_always_chosen_and_of_the_others_about_the_share() {
    let mut record = good();
    record["turns"][0]["robot"][0]["heard"] = json!(0.1);
    let critical = inspected(&record, &Rules::default());
    let fine = inspected(&good(), &Rules::default());
    let calls = || (0..2_000).map(CallId::from_u128);
    assert!(calls().all(|call| chosen(call, &critical, 0.0)));
    assert!(calls().all(|call| !chosen(call, &fine, 0.0)));
    let taken = calls().filter(|call| chosen(*call, &fine, 0.1)).count();
    assert!((146..=254).contains(&taken), "{taken} of 2000 is not about a tenth");
}

proptest! {
    #[test]
    fn no_record_breaks_the_inspection(
        times in prop::collection::vec((any::<f32>(), any::<f32>(), any::<f32>(), any::<f32>(), ".{0,8}"), 0..6),
        end in 0..3_600_i64,
    ) {
        let mut record: CallRecord = serde_json::from_value(good()).unwrap();
        record.ended = record.answered.unwrap() + jiff::SignedDuration::from_secs(end);
        record.turns = times
            .into_iter()
            .map(|(start_s, end_s, robot, heard, text)| TurnRecord {
                customer: Some(trunkline_wire::CustomerTurn { start_s, end_s, ..Default::default() }),
                robot: vec![RobotTurn { text, start_s: robot, heard }],
                ..Default::default()
            })
            .collect();
        let found = inspect(&record, script(), &Rules::default());
        prop_assert!(found.score <= 100);
        prop_assert!((-0.001..=1.001).contains(&found.silence_share), "{:?}", found);
        prop_assert!(found.talk_over_s >= 0.0 && found.longest_wait_s >= 0.0);
    }
}
