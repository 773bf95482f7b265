//! What people say that the author did not write down: universal intents on held-out phrasings,
//! and a repayment script in both languages.

use jiff::civil::date;
use proptest::prelude::*;
use trunkline_nlu::{Classifier, ClassifierOptions, Engine, EngineError, IntentExamples, Layer, Locale};

fn intents(list: &[(&str, &[&str])]) -> Vec<IntentExamples> {
    list.iter()
        .map(|(name, examples)| IntentExamples {
            name: (*name).to_owned(),
            examples: examples.iter().map(|e| (*e).to_owned()).collect(),
        })
        .collect()
}

fn repayment_zh() -> Vec<IntentExamples> {
    intents(&[
        ("wrong_party", &["不是本人", "我不认识他", "你打错了", "这个号码换人了", "他不在我是他家人"]),
        ("promise_pay", &["我明天还", "下周五之前还上", "发了工资就还", "今天晚上转过去", "我会尽快还款"]),
        ("cannot_pay", &["我没钱还", "最近失业了", "手头紧", "能不能缓几天", "现在还不上", "可以分期吗"]),
        ("already_paid", &["我已经还了", "昨天就还过了", "钱早转过去了", "还清了"]),
        ("dispute", &["这钱不是我借的", "金额不对", "我没借过钱", "利息算错了"]),
        ("ask_amount", &["欠多少钱", "一共要还多少", "本金多少利息多少"]),
        ("how_to_pay", &["怎么还", "在哪里还款", "用什么方式还", "可以微信还吗"]),
    ])
}

fn repayment_en() -> Vec<IntentExamples> {
    intents(&[
        (
            "wrong_party",
            &[
                "you have the wrong number",
                "that's not me",
                "he doesn't live here",
                "wrong person",
                "I don't know anyone by that name",
            ],
        ),
        (
            "promise_pay",
            &[
                "I'll pay tomorrow",
                "I can pay by Friday",
                "I will transfer it tonight",
                "I'll pay when I get my salary",
            ],
        ),
        (
            "cannot_pay",
            &[
                "I don't have the money",
                "I lost my job",
                "I can't afford it right now",
                "can I pay in instalments",
                "I need more time",
            ],
        ),
        ("already_paid", &["I already paid", "I paid it last week", "it's been paid", "the money was sent"]),
        (
            "dispute",
            &[
                "I never borrowed that",
                "the amount is wrong",
                "I don't owe you anything",
                "this isn't my debt",
            ],
        ),
        ("ask_amount", &["how much do I owe", "what's the total", "how much is it"]),
        ("how_to_pay", &["how do I pay", "where can I pay", "can I pay by card"]),
    ])
}

fn script(locale: Locale) -> Vec<IntentExamples> {
    match locale {
        Locale::Zh => repayment_zh(),
        Locale::En => repayment_en(),
    }
}

/// The share understood, and the turns that were not.
fn rate(classifier: &Classifier, cases: &[(&str, &str)], expected: &[&str]) -> (f64, Vec<String>) {
    let mut wrong = Vec::new();
    for (text, intent) in cases {
        let decision = classifier.classify(text, expected);
        if decision.intent.as_deref() != Some(*intent) {
            wrong.push(format!(
                "{text}: wanted {intent}, got {:?} by {:?}, likeness {:.2}, {:.2?}",
                decision.intent, decision.layer, decision.likeness, decision.top
            ));
        }
    }
    (1.0 - wrong.len() as f64 / cases.len() as f64, wrong)
}

fn trained(locale: Locale, encoder: Option<&trunkline_nlu::Encoder>) -> Classifier {
    Classifier::train(encoder, &script(locale), locale, ClassifierOptions::default())
}

fn check(
    locale: Locale,
    encoder: Option<&trunkline_nlu::Encoder>,
    (cases, expected): (&[(&str, &str)], &[&str]),
    least: f64,
) {
    let (rate, wrong) = rate(&trained(locale, encoder), cases, expected);
    println!("{locale:?}: {:.1} % of {}\n{}", rate * 100.0, cases.len(), wrong.join("\n"));
    assert!(rate >= least, "{rate}");
}

#[test]
fn universal_intents_are_understood_in_words_that_nobody_wrote_down() {
    let Some(encoder) = crate::common::encoder() else {
        return;
    };
    check(Locale::Zh, Some(&encoder), (&crate::heldout::UNIVERSAL_ZH, &[]), 0.95);
    check(Locale::En, Some(&encoder), (&crate::heldout::UNIVERSAL_EN, &[]), 0.95);
}

#[test]
fn without_the_encoder_most_universal_intents_are_still_understood() {
    check(Locale::Zh, None, (&crate::heldout::UNIVERSAL_ZH, &[]), 0.8);
    check(Locale::En, None, (&crate::heldout::UNIVERSAL_EN, &[]), 0.8);
}

/// What the node after the reminder would wait for.
const EXPECTED: [&str; 7] =
    ["wrong_party", "promise_pay", "cannot_pay", "already_paid", "dispute", "ask_amount", "how_to_pay"];

#[test]
fn script_intents_are_understood_in_other_words() {
    let Some(encoder) = crate::common::encoder() else {
        return;
    };
    check(Locale::Zh, Some(&encoder), (&crate::heldout::SCRIPT_ZH, &EXPECTED), 0.9);
    check(Locale::En, Some(&encoder), (&crate::heldout::SCRIPT_EN, &EXPECTED), 0.9);
}

#[test]
fn an_opt_out_is_never_missed_whatever_the_node_expects() {
    let encoder = crate::common::encoder();
    for encoder in [None, encoder.as_ref()] {
        for (locale, phrases) in
            [(Locale::Zh, crate::heldout::OPT_OUT_ZH), (Locale::En, crate::heldout::OPT_OUT_EN)]
        {
            let classifier = trained(locale, encoder);
            for text in phrases {
                for expected in [&[][..], &["yes", "no"], &["promise_pay", "busy"]] {
                    let decision = classifier.classify(text, expected);
                    assert_eq!(
                        decision.intent.as_deref(),
                        Some("opt_out"),
                        "{text} ({}): {:?}",
                        if encoder.is_some() { "encoder" } else { "floor" },
                        decision.top
                    );
                }
            }
        }
    }
}

#[test]
fn what_only_sounds_like_an_opt_out_is_none() {
    let encoder = crate::common::encoder();
    for (locale, phrases) in
        [(Locale::Zh, crate::heldout::NOT_OPT_OUT_ZH), (Locale::En, crate::heldout::NOT_OPT_OUT_EN)]
    {
        let classifier = trained(locale, encoder.as_ref());
        for text in phrases {
            let decision = classifier.classify(text, &["yes", "no"]);
            assert_ne!(decision.intent.as_deref(), Some("opt_out"), "{text}: {decision:?}");
        }
    }
}

#[test]
fn talk_about_something_else_is_mostly_out_of_scope() {
    let Some(encoder) = crate::common::encoder() else {
        return;
    };
    for (locale, phrases) in
        [(Locale::Zh, crate::heldout::OFF_TOPIC_ZH), (Locale::En, crate::heldout::OFF_TOPIC_EN)]
    {
        let classifier = trained(locale, Some(&encoder));
        let told: Vec<String> = phrases
            .iter()
            .map(|text| (text, classifier.classify(text, &["yes", "no"])))
            .filter(|(_, decision)| decision.intent.is_some())
            .map(|(text, d)| format!("{text}: {:?} {:.2} {:.2?}", d.intent, d.likeness, d.top))
            .collect();
        println!("{locale:?}: {} of {} told\n{}", told.len(), phrases.len(), told.join("\n"));
        assert!(told.len() * 5 <= phrases.len(), "{told:#?}");
    }
}

#[test]
fn an_answer_that_goes_on_is_taken_for_what_follows() {
    let Some(encoder) = crate::common::encoder() else {
        return;
    };
    let expected = ["yes", "no", "wrong_party"];
    let zh = trained(Locale::Zh, Some(&encoder));
    let intent = |text| zh.classify(text, &expected).intent;
    assert_eq!(intent("不是，你打错了").as_deref(), Some("wrong_party"));
    assert_eq!(intent("是的，是我").as_deref(), Some("yes"));
    let en = trained(Locale::En, Some(&encoder));
    let intent = |text| en.classify(text, &expected).intent;
    assert_eq!(intent("No, you've got the wrong number").as_deref(), Some("wrong_party"));
}

#[test]
fn training_and_deciding_twice_gives_the_same_bits() {
    let encoder = crate::common::encoder();
    let twice = || {
        let classifier = trained(Locale::Zh, encoder.as_ref());
        let decision = classifier.classify("我这边资金有点周转不开", &["yes", "no"]);
        (classifier.floor().to_bytes(), decision)
    };
    assert_eq!(twice(), twice());
}

#[test]
fn the_engine_keeps_scripts_apart_and_says_what_it_lacks() {
    let engine = Engine::load(&crate::common::model_dir()).unwrap();
    let now = date(2026, 11, 18).at(10, 30, 0, 0);
    assert!(matches!(engine.understand("v1", "你好", &[], now), Err(EngineError::UnknownVersion { .. })));
    engine.prepare("v1", Locale::Zh, &repayment_zh()).unwrap();
    engine.prepare("v2", Locale::En, &repayment_en()).unwrap();
    let understood = engine.understand("v1", "我下周五之前还五百块", &["promise_pay"], now).unwrap();
    assert_eq!(understood.decision.intent.as_deref(), Some("promise_pay"));
    assert_eq!(understood.decision.degraded, !engine.has_encoder());
    let values: Vec<String> = understood.entities.iter().map(|entity| entity.value.normalised()).collect();
    assert_eq!(values, ["2026-11-27", "500.00 CNY"]);
    let empty = engine.understand("v2", "  ...  ", &["yes"], now).unwrap();
    assert_eq!((empty.decision.intent, empty.decision.score), (None, 0.0));
    engine.forget("v2");
    assert!(!engine.is_prepared("v2") && engine.floor("v1").is_some());
}

#[test]
fn an_engine_without_its_model_says_so_and_a_damaged_model_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::load(dir.path()).unwrap();
    assert!(!engine.has_encoder());
    engine.prepare("v", Locale::En, &repayment_en()).unwrap();
    let now = date(2026, 11, 18).at(10, 30, 0, 0);
    let understood = engine.understand("v", "I can pay on Friday", &["promise_pay"], now).unwrap();
    assert!(understood.decision.degraded);
    assert_eq!(understood.decision.layer, Layer::Floor);
    assert_eq!(understood.decision.intent.as_deref(), Some("promise_pay"));
    std::fs::write(dir.path().join("e5-small-q4.bin"), b"E5S1 but no more").unwrap();
    assert!(matches!(Engine::load(dir.path()), Err(EngineError::Encoder(_))));
}

#[test]
fn an_empty_script_has_the_universal_intents() {
    let classifier = Classifier::train(None, &[], Locale::En, ClassifierOptions::default());
    let decision = classifier.classify("Stop calling me!", &[]);
    assert_eq!(decision.intent.as_deref(), Some("opt_out"));
    assert_eq!(decision.layer, Layer::Rule);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_text_panics_the_classifier(text in "\\PC{0,300}", times in 1_usize..200) {
        thread_local! {
            static FLOORS: [Classifier; 2] = [Locale::Zh, Locale::En].map(|locale| trained(locale, None));
        }
        let long: String = text.repeat(times).chars().take(10_000).collect();
        FLOORS.with(|floors| {
            for floor in floors {
                let decision = floor.classify(&long, &["yes", "no"]);
                prop_assert!((0.0..=1.0).contains(&decision.score));
                prop_assert!(decision.top.len() <= 5);
            }
            Ok(())
        })?;
    }
}
