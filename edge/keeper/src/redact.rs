//! What of a log, a configuration and a report may leave the box: what is known to be harmless, and nothing else.
//!
//! Of a log line the words that stand in our own sources are shown, and of the values among them those that by their
//! shape cannot be a name, a number to call, a sentence or a secret. Anything else is [`HIDDEN`]. This is the other way
//! round than looking for what is personal: what nobody thought of stays here.
//!
//! **Invariant:** no text is shown that is neither a sentence of our sources, nor of a harmless shape, nor the value of
//! a setting that is named here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};
use trunkline_telemetry::Line;
use uuid::Uuid;

/// Stands for what is not shown.
pub(crate) const HIDDEN: &str = "[hidden]";

/// The sentences of our sources, with `{…}` where values stand.
const PHRASES: &[&str] = include!(concat!(env!("OUT_DIR"), "/phrases.rs"));
/// A digit more may be a telephone number.
const MOST_DIGITS: usize = 6;
/// Errors hold errors; nobody needs more of them than this.
const DEEPEST: usize = 4;

/// The words of our sources, sorted.
const TOKENS: &[&str] = include!(concat!(env!("OUT_DIR"), "/tokens.rs"));
/// Fields and settings whose values are words of our sources, or names of this box's trunks.
const NAMES: [&str; 16] = [
    "at",
    "check",
    "codec",
    "component",
    "kind",
    "name",
    "reason",
    "slot",
    "stage",
    "state",
    "tail",
    "trunk",
    "what",
    "sync",
    "phase",
    "result",
];

/// Single words that values consist of.
const WORDS: [&str; 40] = [
    "true",
    "false",
    "None",
    "null",
    "up",
    "down",
    "starting",
    "running",
    "done",
    "failed",
    "udp",
    "tcp",
    "tls",
    "a",
    "b",
    "app",
    "committed",
    "trial",
    "idle",
    "in_sync",
    "Success",
    "PCMA",
    "PCMU",
    "G722",
    "opus",
    "off",
    "on",
    "ok",
    "drain",
    "undrain",
    "restart",
    "reboot",
    "logs",
    "diag",
    "keep_on",
    "x86-64",
    "aarch64",
    "rolled_back",
    "staged",
    "cancelled",
];

/// Settings whose texts are shown, where they are of the shape of addresses and paths.
const SHOWN: [&str; 32] = [
    "api",
    "audio",
    "bind",
    "boot_id",
    "bundle",
    "ca",
    "cert",
    "codecs",
    "config",
    "country",
    "data_dir",
    "dir",
    "domain",
    "encryption",
    "hash",
    "interface",
    "log",
    "lost_after",
    "machine",
    "models",
    "mqtt",
    "ping",
    "platform",
    "ports",
    "prompts",
    "proxy",
    "root",
    "sha256",
    "slots",
    "software",
    "transport",
    "version",
];
/// Sections in which people have names, numbers and passwords: of these only how many there are is shown.
const COUNTED: [&str; 4] = ["phone", "phones", "transfer", "variables"];

/// Shows what may be shown of a log line.
pub(crate) fn line(line: &Line, known: &Known) -> String {
    let mut text =
        format!("{} {:<5} {} {}", line.at, line.level, plain(&line.target), words(&line.message, 0));
    for (name, value) in &line.fields {
        let named = NAMES.contains(&name.as_str()) && known.is_name(value.trim_matches('"'));
        let shown = if named { value.clone() } else { words(value, 0) };
        text += &format!(" {}={shown}", plain(name));
    }
    known.hide(text)
}

/// The name of a module or of a field.
fn plain(name: &str) -> &str {
    if name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._:-".contains(letter)) {
        name
    } else {
        HIDDEN
    }
}

/// Shows what may be shown of a text: an error with its causes, or a value.
pub(crate) fn words(text: &str, depth: usize) -> String {
    let text = text.trim().trim_matches('"').trim_matches('`');
    if text.is_empty() || is_harmless(text) {
        return text.to_owned();
    }
    if depth > DEEPEST {
        return HIDDEN.to_owned();
    }
    if let Some(shown) = sentence(text, depth) {
        return shown;
    }
    // An error and its causes.
    if text.contains(": ") {
        return text.split(": ").map(|part| words(part, depth + 1)).collect::<Vec<_>>().join(": ");
    }
    if let Some(number) = text.strip_suffix(')').and_then(|text| text.rsplit_once("(os error ")) {
        let number = number.1;
        if is_number(number) {
            return format!("os error {number}");
        }
    }
    HIDDEN.to_owned()
}

/// Shows a text that is a sentence of our sources, with those of its values that may be shown.
fn sentence(text: &str, depth: usize) -> Option<String> {
    let (pieces, values) = SENTENCES.iter().find_map(|pieces| Some((pieces, fits(pieces, text)?)))?;
    let mut shown = String::new();
    let mut values = values.into_iter();
    for (at, piece) in pieces.iter().enumerate() {
        if at > 0 {
            shown += &words(values.next().unwrap_or_default(), depth + 1);
        }
        shown += piece;
    }
    Some(shown)
}

/// The sentences in pieces, those with the most words of ours first.
static SENTENCES: LazyLock<Vec<Vec<String>>> = LazyLock::new(|| {
    let mut all: Vec<Vec<String>> = PHRASES.iter().map(|phrase| pieces(phrase)).collect();
    all.sort_by_key(|pieces| std::cmp::Reverse(pieces.iter().map(String::len).sum::<usize>()));
    all
});

/// Returns the values that stand in `text` between the pieces of a sentence, when it is that sentence.
fn fits<'a>(pieces: &[String], text: &'a str) -> Option<Vec<&'a str>> {
    let (first, rest) = pieces.split_first()?;
    let mut left = text.strip_prefix(first.as_str())?;
    let Some((last, between)) = rest.split_last() else { return left.is_empty().then(Vec::new) };
    let mut values = Vec::new();
    for piece in between {
        let at = if piece.is_empty() { left.len() } else { left.find(piece.as_str())? };
        values.push(&left[..at]);
        left = &left[at + piece.len()..];
    }
    values.push(left.strip_suffix(last.as_str())?);
    Some(values)
}

/// The pieces of a phrase between its braces; doubled braces are braces.
fn pieces(phrase: &str) -> Vec<String> {
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    let mut letters = phrase.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' if letters.next_if_eq(&'{').is_some() => piece.push('{'),
            '}' if letters.next_if_eq(&'}').is_some() => piece.push('}'),
            '{' => {
                while letters.next().is_some_and(|next| next != '}') {}
                pieces.push(std::mem::take(&mut piece));
            }
            other => piece.push(other),
        }
    }
    pieces.push(piece);
    pieces
}

/// Of a shape that no name, number to call, sentence or secret has.
fn is_harmless(text: &str) -> bool {
    let inner = text.strip_prefix("Some(").and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    WORDS.contains(&inner)
        || is_number(inner)
        || inner.parse::<Timestamp>().is_ok()
        || inner.parse::<SocketAddr>().is_ok()
        || inner.parse::<IpAddr>().is_ok()
        || (inner.len() == 36 && inner.parse::<Uuid>().is_ok())
        || inner.strip_prefix("tl-").is_some_and(|rest| rest.len() <= 16 && is_plain_name(rest))
}

/// A number with a unit: `0.25`, `-12 ms`, `1.2.3`, `40%`.
fn is_number(text: &str) -> bool {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit() || ".-+".contains(letter));
    let unit = unit.trim_start();
    (1..=MOST_DIGITS).contains(&digits)
        && !unit.contains(|letter: char| letter.is_ascii_digit())
        && ["", "s", "ms", "µs", "ns", "%", "dB", "MiB", "KiB", "B", "m", "h", "Hz"].contains(&unit)
}

/// A name without spaces, and without what could be a number to call.
fn is_plain_name(text: &str) -> bool {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let uuid = text.len() == 36 && text.parse::<Uuid>().is_ok();
    (1..=64).contains(&text.len()) && text.chars().all(fine) && (uuid || few_digits(text))
}

fn few_digits(text: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_digit() && !"-. ".contains(letter)).all(|run| {
        run.chars().filter(char::is_ascii_digit).count() <= MOST_DIGITS || run.parse::<IpAddr>().is_ok()
    })
}

/// An address, a path or a few words of ours.
fn is_setting(text: &str) -> bool {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "._-:/[]=,".contains(letter);
    let hash = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let address = text.parse::<SocketAddr>().is_ok() || text.parse::<IpAddr>().is_ok();
    let range = text.split_once('-').is_some_and(|(from, to)| is_number(from) && is_number(to));
    text.len() <= 200
        && text.chars().all(fine)
        && (hash || address || range || text.split(['/', ':', ',']).all(few_digits))
}

/// Shows what may be shown of a configuration or a report: numbers, switches, and the texts of known settings.
pub(crate) fn settings(value: &Value, known: &Known) -> Value {
    under("", value, known)
}

fn under(key: &str, value: &Value, known: &Known) -> Value {
    match value {
        Value::Null | Value::Bool(_) => value.clone(),
        Value::Number(number) => {
            if is_number(&number.to_string()) || is_count(key) {
                value.clone()
            } else {
                HIDDEN.into()
            }
        }
        Value::String(text) => {
            let setting = SHOWN.contains(&key) && is_setting(text);
            let named = NAMES.contains(&key) && known.is_name(text);
            let shown = if setting || named || is_harmless(text) {
                text.clone()
            } else if ["why", "trouble", "detail", "reason"].contains(&key) {
                words(text, 0)
            } else {
                HIDDEN.to_owned()
            };
            known.hide(shown).into()
        }
        Value::Array(all) => all.iter().map(|one| under(key, one, known)).collect(),
        Value::Object(fields) => {
            let mut shown = Map::new();
            for (name, value) in fields {
                if COUNTED.contains(&name.as_str()) {
                    let count = value.as_array().map(Vec::len).or(value.as_object().map(Map::len));
                    shown.insert(name.clone(), format!("{} entries", count.unwrap_or(1)).into());
                } else if is_plain_name(name)
                    && name
                        .chars()
                        .all(|letter| letter.is_ascii_lowercase() || letter == '_' || letter.is_ascii_digit())
                {
                    shown.insert(name.clone(), under(name, value, known));
                } else {
                    shown.insert(HIDDEN.to_owned(), HIDDEN.into());
                }
            }
            Value::Object(shown)
        }
    }
}

/// Counts of bytes, records and instants in the box's own reports, which are long and call nobody.
fn is_count(key: &str) -> bool {
    ["bytes", "uptime_s", "last_seq", "oldest_ms", "received", "sent", "clock_off_s"].contains(&key)
        || key.ends_with("_mib")
        || key.ends_with("_bytes")
}

/// What is known of this box: its secrets, which stand in the places for secrets, and what its trunks are called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    secrets: BTreeSet<String>,
    trunks: BTreeSet<String>,
}

impl Known {
    /// Says whether this is a name that we or the installer gave to something, and no person's.
    fn is_name(&self, text: &str) -> bool {
        TOKENS.binary_search(&text).is_ok() || self.trunks.contains(text)
    }

    /// Notes a secret; what is shorter than four letters would hide half the page.
    pub(crate) fn add(&mut self, text: &str) {
        let text = text.trim();
        if text.chars().count() >= 4 {
            self.secrets.insert(text.to_owned());
        }
    }

    /// Notes the secrets and the trunks of a configuration.
    pub(crate) fn add_from(&mut self, key: &str, value: &Value) {
        let secret = ["password", "secret", "token", "user", "caller_id", "realm", "key_pem", "claim"];
        match value {
            Value::String(text) if secret.contains(&key) => self.add(text),
            Value::Array(all) => all.iter().for_each(|one| self.add_from(key, one)),
            Value::Object(fields) => {
                if let ("trunk", Some(name)) = (key, fields.get("name").and_then(Value::as_str))
                    && is_plain_name(name)
                {
                    self.trunks.insert(name.to_owned());
                }
                fields.iter().for_each(|(key, value)| self.add_from(key, value));
            }
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    pub(crate) fn hide(&self, mut text: String) -> String {
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), HIDDEN);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn shown(message: &str, fields: &[(&str, &str)]) -> String {
        let fields: BTreeMap<String, String> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let of = Line {
            at: "2026-11-23T10:00:00Z".parse().unwrap(),
            level: "INFO".into(),
            target: "trunkline_keeper::keep".into(),
            message: message.into(),
            fields,
        };
        line(&of, &Known::default()).split_once("trunkline_keeper::keep ").unwrap().1.to_owned()
    }

    #[test]
    fn what_we_wrote_is_shown_with_values_that_are_harmless() {
        assert_eq!(
            shown(
                "This box has no certificate yet and asks for one",
                &[("box.id", "tl-abc"), ("wait_ms", "1200")]
            ),
            "This box has no certificate yet and asks for one box.id=tl-abc wait_ms=1200"
        );
        let error = "The keeper has no link to the cloud: 192.0.2.1:8883: Connection refused (os error 111)";
        assert_eq!(shown(error, &[]), "The keeper has no link to the cloud: 192.0.2.1:8883: os error 111");
        assert_eq!(shown("cannot read /home/anna/x", &[]), "cannot read [hidden]");
    }

    #[test]
    fn names_numbers_sentences_and_secrets_are_not_whatever_they_stand_in() {
        for (message, fields) in [
            ("Anna Miller", vec![]),
            ("heard: yes, I will pay on Friday", vec![("text", "yes, I will pay on Friday")]),
            ("王小明先生您好", vec![("name", "王小明")]),
            ("Dialling +8613800138000", vec![("to", "13800138000"), ("callee", "138 0013 8000")]),
            (
                "Authorization: Bearer sk-9f8e7d6c5b4a",
                vec![("token", "sk-9f8e7d6c5b4a"), ("name", "\"Anna\"")],
            ),
            ("cannot read Anna Miller", vec![("trunk", "Anna Miller"), ("reason", "13800138000")]),
            ("sip:anna.miller@example.com", vec![("e", "sip:13800138000@192.0.2.1")]),
        ] {
            let text = shown(message, &fields);
            for planted in [
                "Anna", "anna", "Miller", "Friday", "pay", "王", "小明", "1380013", "138 0013", "sk-9",
                "Bearer",
            ] {
                assert!(!text.contains(planted), "{planted} in {text}");
            }
        }
    }

    #[test]
    fn of_settings_only_known_ones_are_shown_and_people_are_counted() {
        let config = json!({
            "trunk": [{"name": "carrier-a", "proxy": "sip.example.net:5060", "user": "8613800138000", "password": "hunter22",
                "caller_id": "+862155550100", "channels": 4}],
            "phone": [{"name": "Anna", "number": "8001"}], "transfer": {"anna": "8001", "bob": "8002"},
            "rtp": {"ports": "40000-40199"}, "name": "Anna Miller", "log": "info,rumqttc=warn", "odd key": 1, "x": 13800138000u64,
        });
        let mut known = Known::default();
        known.add_from("", &config);
        let text = settings(&config, &known);
        assert_eq!(text["trunk"][0]["proxy"], "sip.example.net:5060");
        assert_eq!(
            (&text["trunk"][0]["name"], &text["trunk"][0]["channels"]),
            (&json!("carrier-a"), &json!(4))
        );
        assert_eq!(
            (&text["rtp"]["ports"], &text["log"]),
            (&json!("40000-40199"), &json!("info,rumqttc=warn"))
        );
        assert_eq!((&text["transfer"], &text["phone"]), (&json!("2 entries"), &json!("1 entries")));
        for planted in ["8613800138000", "hunter22", "+8621", "Anna", "anna", "8001", "odd", "13800138000"] {
            assert!(!text.to_string().contains(planted), "{planted} in {text:#}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_long_number_is_shown(text in ".{0,80}", digits in "[0-9]{7,15}") {
            let _ = words(&text, 0);
            prop_assert!(!words(&digits, 0).contains(&digits));
            let with = format!("{text} {digits}");
            prop_assert!(!words(&with, 0).contains(&digits));
        }
    }
}
