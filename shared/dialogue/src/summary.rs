//! What a person hears before a customer is joined to her, where the script has no words of its own.

use crate::document::{Purpose, Type};
use crate::interp::outcome_so_far;
use crate::script::Script;
use crate::state::State;

/// The most of the customer's words that are repeated, in characters each.
const MAX_HEARD_CHARS: usize = 60;
/// How many of her answers are repeated.
const MAX_HEARD: usize = 2;

/// Says in the script's language who calls and why: the customer's name, what the call was for, what it has come to
/// so far, the values that were found out, and her last words of `heard`, oldest first. Personal data. Empty in a
/// language that has no wording here.
pub fn summary(script: &Script, state: &State, elapsed_s: u32, heard: &[&str]) -> String {
    let Some(words) = Words::of(script.locale()) else { return String::new() };
    let document = script.document();
    let name = document.vars.iter().find(|(_, var)| var.kind == Type::Person);
    let name = name.and_then(|(name, _)| state.vars.get(name)).map_or("", |name| name.trim());
    let mut out = (words.opening)(name, (words.purpose)(*document.purpose));
    let mut add = |lead: &str, parts: &[&str]| {
        if !parts.is_empty() {
            out.push_str(words.space);
            out.push_str(lead);
            out.push_str(&parts.join(words.comma));
            out.push_str(words.stop);
        }
    };
    let outcome = outcome_so_far(script, state, elapsed_s);
    let label = outcome.label.trim();
    add(words.so_far, if label.is_empty() { &[] } else { std::slice::from_ref(&label) });
    let noted: Vec<&str> = state
        .slots
        .iter()
        .filter(|(slot, _)| {
            let kind = document.slots.get(*slot).map(|slot| slot.kind);
            matches!(kind, Some(Type::Date | Type::Time | Type::Money | Type::Number | Type::Person))
        })
        .map(|(_, value)| value.as_str())
        .collect();
    add(words.noted, &noted);
    let ends: &[char] = &['.', '。', '!', '！', '?', '？', ',', '，'];
    let said: Vec<String> = heard
        .iter()
        .map(|text| text.trim().trim_end_matches(ends).chars().take(MAX_HEARD_CHARS).collect::<String>())
        .filter(|text| !text.is_empty())
        .collect();
    let last: Vec<&str> = said[said.len().saturating_sub(MAX_HEARD)..].iter().map(String::as_str).collect();
    add(words.said, &last);
    out
}

/// The words of one language.
struct Words {
    opening: fn(name: &str, purpose: &str) -> String,
    purpose: fn(Purpose) -> &'static str,
    so_far: &'static str,
    noted: &'static str,
    said: &'static str,
    space: &'static str,
    comma: &'static str,
    stop: &'static str,
}

impl Words {
    fn of(locale: &str) -> Option<Self> {
        match locale.split(['-', '_']).next() {
            Some("zh") => Some(Self {
                opening: |name, purpose| match name {
                    "" => format!("有一通电话转接给您，事由是{purpose}。"),
                    name => format!("有一通电话转接给您，客户{name}，事由是{purpose}。"),
                },
                purpose: |purpose| match purpose {
                    Purpose::DebtReminder => "还款提醒",
                    Purpose::Appointment => "预约确认",
                    Purpose::Marketing => "产品介绍",
                    Purpose::Survey => "满意度回访",
                    Purpose::Notice => "通知",
                    Purpose::Service => "客户服务",
                },
                so_far: "目前结果：",
                noted: "已登记：",
                said: "客户最后说：",
                space: "",
                comma: "，",
                stop: "。",
            }),
            Some("en") => Some(Self {
                opening: |name, purpose| match name {
                    "" => format!("A call is handed over to you, about {purpose}."),
                    name => format!("A call is handed over to you: {name}, about {purpose}."),
                },
                purpose: |purpose| match purpose {
                    Purpose::DebtReminder => "a payment reminder",
                    Purpose::Appointment => "an appointment",
                    Purpose::Marketing => "an offer",
                    Purpose::Survey => "a survey",
                    Purpose::Notice => "a notice",
                    Purpose::Service => "a request for service",
                },
                so_far: "So far: ",
                noted: "Noted: ",
                said: "The customer said last: ",
                space: " ",
                comma: ", ",
                stop: ".",
            }),
            Some(_) | None => None,
        }
    }
}
