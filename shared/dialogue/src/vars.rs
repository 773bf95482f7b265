//! Values by type: what a variable or a slot may hold.

use jiff::civil;

use crate::action::Entity;
use crate::document::Type;

/// The longest value that is kept, in characters.
pub(crate) const MAX_VALUE_CHARS: usize = 200;

/// Why a call cannot start with the variables that it was given. The value is personal data and is no
/// part of the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// Required and not given.
    #[error("variable `{name}` is missing: give a {type_name}")]
    Missing {
        /// The variable.
        name: String,
        /// Its type.
        type_name: &'static str,
    },
    /// Given and not declared.
    #[error("variable `{name}` is unknown: {remedy}")]
    Unknown {
        /// The variable.
        name: String,
        /// What to do.
        remedy: String,
    },
    /// Not of its type.
    #[error("variable `{name}` is no {type_name}: {rule}")]
    Wrong {
        /// The variable.
        name: String,
        /// Its type.
        type_name: &'static str,
        /// How such a value is written.
        rule: String,
    },
}

/// Returns `text` trimmed when it is a value of the type, otherwise how one is written.
pub(crate) fn check(type_: Type, values: &[String], text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("it must not be empty".to_owned());
    }
    if text.chars().count() > MAX_VALUE_CHARS {
        return Err(format!("it may have {MAX_VALUE_CHARS} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("it must not hold line breaks or control characters".to_owned());
    }
    let (good, rule) = match type_ {
        Type::Text | Type::Person => (true, String::new()),
        Type::Money => (
            is_money(text),
            "write a decimal, with a currency code behind it or none, such as 1280.50 or 1280.50 CNY"
                .to_owned(),
        ),
        Type::Number => (is_decimal(text), "write a decimal such as 12 or -3.5".to_owned()),
        Type::Date => (is_date(text), "write an ISO 8601 day such as 2026-11-27".to_owned()),
        Type::Time => (is_time(text), "write an ISO 8601 time of day such as 15:00".to_owned()),
        Type::Phone => (is_phone(text), "write 3 to 15 digits, with + before them or not".to_owned()),
        Type::Id => (
            text.chars().all(|c| c.is_alphanumeric() || "-_./".contains(c)),
            "write letters, digits, and -_./".to_owned(),
        ),
        Type::Enum => (values.iter().any(|v| v == text), format!("use one of {}", values.join(", "))),
    };
    if good { Ok(text.to_owned()) } else { Err(rule) }
}

/// Returns the value that an entity has in a slot of the type, or none when it does not suit.
pub(crate) fn from_entity(type_: Type, values: &[String], entity: &Entity) -> Option<String> {
    let value = match (entity.kind.as_str(), type_) {
        // The words themselves are what a text slot keeps.
        ("person", Type::Text | Type::Person) => &entity.value,
        (_, Type::Text | Type::Person) => &entity.text,
        _ => &entity.value,
    };
    let value = if value.trim().is_empty() { &entity.value } else { value };
    check(type_, values, value).ok()
}

/// Says whether a value is not less than the least and not more than the most that is allowed.
pub(crate) fn in_range(range: Range, text: &str) -> bool {
    let (min, max) = range;
    match crate::expr::decimal(text) {
        Some(n) => min.is_none_or(|min| n >= min) && max.is_none_or(|max| n <= max),
        None => min.is_none() && max.is_none(),
    }
}

/// Returns how a range is written in words.
pub(crate) fn range_rule(range: Range) -> String {
    match range {
        (Some(min), Some(max)) => format!("it must be from {min} to {max}"),
        (Some(min), None) => format!("it must be {min} or more"),
        (None, Some(max)) => format!("it must be {max} or less"),
        (None, None) => String::new(),
    }
}

/// The least and the greatest value.
pub(crate) type Range = (Option<f64>, Option<f64>);

/// The kinds of value that an answer can be searched for, and the slots that each suits.
pub(crate) fn suits(kind: &str, type_: Type) -> Option<bool> {
    let always = matches!(type_, Type::Text);
    let fits = match kind {
        "text" | "person" => matches!(type_, Type::Person),
        "date" => matches!(type_, Type::Date),
        "time" => matches!(type_, Type::Time),
        "money" => matches!(type_, Type::Money | Type::Number),
        "number" => matches!(type_, Type::Number | Type::Money | Type::Id),
        "digits" => matches!(type_, Type::Phone | Type::Id | Type::Number),
        "phone" => matches!(type_, Type::Phone),
        "percent" | "duration" => matches!(type_, Type::Number),
        _ => return None,
    };
    Some(always || fits)
}

/// The kinds of value that an answer can be searched for.
pub(crate) const ENTITY_KINDS: [&str; 10] =
    ["text", "person", "date", "time", "money", "number", "digits", "phone", "percent", "duration"];

/// Returns a value of the type for tests, where the author gave none.
pub(crate) fn sample(type_: Type, values: &[String], chinese: bool) -> String {
    match type_ {
        Type::Text => if chinese { "某某" } else { "something" }.to_owned(),
        Type::Person => if chinese { "王芳" } else { "Alex Morgan" }.to_owned(),
        Type::Money => "1280.50".to_owned(),
        Type::Date => "2026-11-27".to_owned(),
        Type::Time => "15:00".to_owned(),
        Type::Number => "12".to_owned(),
        Type::Phone => "4008001234".to_owned(),
        Type::Id => "A1024".to_owned(),
        Type::Enum => values.first().cloned().unwrap_or_default(),
    }
}

fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |s: &str| !s.is_empty() && s.len() <= 15 && s.bytes().all(|b| b.is_ascii_digit());
    plain(whole) && plain(part)
}

fn is_money(text: &str) -> bool {
    let (amount, currency) = text.split_once(' ').unwrap_or((text, "CNY"));
    is_decimal(amount) && currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase())
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<civil::Date>().is_ok()
}

fn is_time(text: &str) -> bool {
    matches!(text.len(), 5 | 8) && text.contains(':') && text.parse::<civil::Time>().is_ok()
}

fn is_phone(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    (3..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}
