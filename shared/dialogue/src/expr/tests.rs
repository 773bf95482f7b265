//! Guards that hold, guards that do not, and what is said of those that are none.

use super::*;

struct World;

impl Facts for World {
    fn var(&self, name: &str) -> Option<&str> {
        match name {
            "amount" => Some("1280.50 CNY"),
            "tier" => Some("gold"),
            "due" => Some("2026-11-20"),
            _ => None,
        }
    }
    fn slot(&self, name: &str) -> Option<&str> {
        (name == "day").then_some("2026-11-27")
    }
    fn intent(&self, name: &str) -> bool {
        name == "ask_human"
    }
    fn heard(&self, name: &str) -> bool {
        name == "late"
    }
    fn visited(&self, node: &str) -> bool {
        node == "open"
    }
    fn arm(&self, experiment: &str, arm: &str) -> bool {
        (experiment, arm) == ("tone", "warm")
    }
    fn counter(&self, counter: Counter) -> u32 {
        match counter {
            Counter::NoMatch => 2,
            Counter::NoInput | Counter::Upset => 0,
            Counter::Turns => 5,
            Counter::AnsweredSecs => 16,
        }
    }
}

fn names() -> Names {
    let plain = |t: Type| (t, Vec::new());
    let tier = (Type::Enum, vec!["gold".to_owned(), "blue".to_owned()]);
    fn map<T>(list: Vec<(&str, T)>) -> BTreeMap<String, T> {
        list.into_iter().map(|(n, t)| (n.to_owned(), t)).collect()
    }
    Names {
        vars: map(vec![
            ("amount", plain(Type::Money)),
            ("tier", tier),
            ("due", plain(Type::Date)),
            ("nick", plain(Type::Text)),
        ]),
        slots: map(vec![("day", plain(Type::Date)), ("hour", plain(Type::Time)), ("n", plain(Type::Number))]),
        intents: ["ask_human", "late", "yes"].map(str::to_owned).into(),
        nodes: ["open", "end"].map(str::to_owned).into(),
        arms: map(vec![("tone", ["control", "warm"].map(str::to_owned).into())]),
    }
}

fn holds(guard: &str) -> bool {
    Expr::parse(guard, &names()).unwrap_or_else(|e| panic!("{guard}: {e}")).holds(&World)
}

#[test]
fn a_guard_holds_when_its_facts_do() {
    for guard in [
        "true",
        "slot.day and answered_s > 15",
        "intent.ask_human or no_match >= 99",
        "not slot.hour",
        "not (slot.hour or intent.yes) and heard.late",
        "slot.day > var.due",
        "slot.day == '2026-11-27'",
        "\"2026-11-01\" < slot.day",
        "var.amount >= 1280.5",
        "var.amount > turns",
        "var.tier == \"gold\" and var.tier != 'blue'",
        "visited.open and not visited.end",
        "arm.tone.warm and not arm.tone.control",
        "slot.n != 3",
        "var.nick != \"Al\"",
        "false or true and not false",
    ] {
        assert!(holds(guard), "{guard}");
    }
    for guard in [
        "false",
        "slot.hour",
        "slot.hour < \"12:00\"",
        "slot.n == 3",
        "slot.n < 3",
        "var.nick",
        "true and false or false",
        "no_input > 0",
        "not not intent.yes",
    ] {
        assert!(!holds(guard), "{guard}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_a_place_and_a_remedy() {
    let page: String = [
        "",
        "slot.",
        "slot.dya",
        "turns",
        "\"late\"",
        "no_match > ",
        "no_match = 2",
        "slot.day > turns",
        "slot.hour == 'soon'",
        "var.tier == 'green'",
        "var.tier < 'gold'",
        "var.amount > '12'",
        "intent.yes == true",
        "slot.day slot.hour",
        "arm.tone.cold",
        "arm.colour",
        "(slot.day",
        "slot.day)",
        "1.2.3 < turns",
        "turns > 1 and",
        "'open",
        "while(true)",
        "slot.day; drop",
        "var.nick == ''",
    ]
    .iter()
    .map(|guard| {
        let e = Expr::parse(guard, &names()).unwrap_err();
        format!("{guard:<22} {:>2}: {}; {}\n", e.at, e.message, e.remedy)
    })
    .collect();
    insta::assert_snapshot!(page);
}

fn domain() -> solve::Domain {
    let values = |name: &str| (name.to_owned(), vec!["gold".to_owned(), "blue".to_owned()]);
    solve::Domain {
        always_set: ["tier", "amount"].map(str::to_owned).into(),
        var_values: [values("tier")].into(),
        ..solve::Domain::default()
    }
}

#[test]
fn a_guard_that_cannot_hold_is_known_without_trying() {
    let parse = |guard: &str| Expr::parse(guard, &names()).unwrap_or_else(|e| panic!("{guard}: {e}"));
    for guard in [
        "false",
        "slot.day and not slot.day",
        "no_match > 1 and no_match < 2",
        "turns < 0",
        "var.amount > 100 and var.amount <= 100",
        "slot.n == 3 and slot.n != 3",
        "slot.n > 5 and not (slot.n > 3)",
        "not var.tier",
        "var.tier != \"gold\" and var.tier != \"blue\"",
        "slot.day > \"2026-02-01\" and slot.day < \"2026-01-01\"",
        "intent.yes and intent.late",
        "arm.tone.warm and arm.tone.control",
        "visited.open and not (visited.open or heard.late)",
        "not slot.day and slot.day < \"2026-01-01\"",
    ] {
        assert!(!solve::possible(&parse(guard), &domain()), "{guard}");
        assert!(solve::certain(&parse(&format!("not ({guard})")), &domain()), "not ({guard})");
    }
    for guard in [
        "true",
        "slot.day or not slot.day",
        "slot.n != 3 and not slot.n",
        "no_match > 1 and no_match < 3",
        "slot.n > 2 and slot.n < 3",
        "var.nick > turns or var.amount > turns",
        "slot.day > \"2026-01-01\" and slot.day < \"2026-02-01\"",
        "heard.yes and heard.late",
        "var.due > slot.day and var.due < slot.day",
        "not slot.n and not (slot.n > 3)",
    ]
    .into_iter()
    .filter(|guard| Expr::parse(guard, &names()).is_ok())
    {
        assert!(solve::possible(&parse(guard), &domain()), "{guard}");
    }
    let (gold, blue, rest) = (parse("var.tier == 'gold'"), parse("var.tier == 'blue'"), parse("true"));
    assert!(solve::possible_after(&blue, &[&gold], &domain()));
    assert!(!solve::possible_after(&rest, &[&gold, &blue], &domain()), "all tiers are taken");
}

mod laws {
    use proptest::prelude::*;

    use super::*;

    fn guard() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "true",
            "false",
            "slot.day",
            "slot.n",
            "slot.n > 3",
            "slot.n <= 3",
            "slot.n == 2",
            "slot.n != 2",
            "var.tier == 'gold'",
            "var.tier != 'gold'",
            "slot.day > '2026-11-20'",
            "slot.day < '2026-11-28'",
            "no_match >= 2",
            "no_match < 2",
            "turns == 5",
            "intent.yes",
            "intent.late",
            "heard.late",
            "arm.tone.warm",
            "arm.tone.control",
            "visited.open",
        ]);
        leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|g| format!("not ({g})")),
                prop::collection::vec(inner.clone(), 2..4).prop_map(|g| format!("({})", g.join(") and ("))),
                prop::collection::vec(inner, 2..4).prop_map(|g| format!("({})", g.join(") or ("))),
            ]
        })
    }

    struct Case {
        n: Option<&'static str>,
        gold: bool,
        intent: &'static str,
        no_match: u32,
        warm: bool,
    }

    impl Facts for Case {
        fn var(&self, name: &str) -> Option<&str> {
            match name {
                "tier" => Some(if self.gold { "gold" } else { "blue" }),
                _ => World.var(name),
            }
        }
        fn slot(&self, name: &str) -> Option<&str> {
            if name == "n" { self.n } else { World.slot(name) }
        }
        fn intent(&self, name: &str) -> bool {
            name == self.intent
        }
        fn heard(&self, name: &str) -> bool {
            World.heard(name)
        }
        fn visited(&self, node: &str) -> bool {
            World.visited(node)
        }
        fn arm(&self, _: &str, arm: &str) -> bool {
            arm == if self.warm { "warm" } else { "control" }
        }
        fn counter(&self, counter: Counter) -> u32 {
            if counter == Counter::NoMatch { self.no_match } else { World.counter(counter) }
        }
    }

    proptest! {
        #[test]
        fn what_holds_is_possible_and_what_is_certain_holds(
            text in guard(),
            n in prop::sample::select(vec![None, Some("2"), Some("3"), Some("3.5")]),
            gold: bool,
            intent in prop::sample::select(vec!["", "yes", "late"]),
            no_match in 0..4_u32,
            warm: bool,
        ) {
            let Ok(expr) = Expr::parse(&text, &names()) else { return Ok(()) };
            let holds = expr.holds(&Case { n, gold, intent, no_match, warm });
            prop_assert!(!holds || solve::possible(&expr, &domain()), "{} holds and is impossible", text);
            prop_assert!(holds || !solve::certain(&expr, &domain()), "{} is certain and does not hold", text);
        }
    }
}
