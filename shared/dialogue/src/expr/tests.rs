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
    fn counter(&self, counter: Counter) -> u32 {
        match counter {
            Counter::NoMatch => 2,
            Counter::NoInput => 0,
            Counter::Turns => 5,
            Counter::AnsweredSecs => 16,
        }
    }
}

fn names() -> Names {
    let plain = |t: Type| (t, Vec::new());
    let tier = (Type::Enum, vec!["gold".to_owned(), "blue".to_owned()]);
    let map = |list: Vec<(&str, (Type, Vec<String>))>| {
        list.into_iter().map(|(n, t)| (n.to_owned(), t)).collect::<BTreeMap<_, _>>()
    };
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
