//! What the box makes of its desired document, section by section.
//!
//! What can be applied is applied, whatever is wrong with the rest; what cannot is named with its place and its
//! reason. A section that only a newer version knows is no fault of anybody's and is said as well.

use serde_json::{Map, Value, json};
use trunkline_model::DayHours;
use trunkline_wire::NotApplied;

/// What is in force on a box.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// What people call the box.
    pub name: Option<String>,
    /// What it writes into its log, as `RUST_LOG` says it.
    pub log: Option<String>,
    /// Somebody on site asked that no version is switched to now.
    pub locked: bool,
    /// The most that may be fetched without being asked, in bytes, while the line costs money per byte.
    pub metered_limit: Option<u64>,
    /// The hours in which a version may be switched to, such as those in which the branch is closed.
    pub hours: Option<DayHours>,
    /// The most that updates may fetch, in bytes per second.
    pub bytes_per_s: Option<u64>,
    /// The calls' part, in the words of `edge.toml`, when this box carries calls.
    pub calls: Option<Value>,
}

/// Reads a desired document. `carries_calls` says whether there is a program for calls on this box.
pub fn read(desired: &Value, carries_calls: bool) -> (Settings, Vec<NotApplied>) {
    let mut settings = Settings::default();
    let mut problems = Problems::default();
    let empty = Map::new();
    for (key, value) in desired.as_object().unwrap_or(&empty) {
        let path = format!("/{}", escape(key));
        match key.as_str() {
            "name" => settings.name = problems.text(&path, value, 100),
            "log" => settings.log = problems.text(&path, value, 500),
            "updates" => updates(&mut settings, &mut problems, &path, value),
            "calls" if carries_calls => {
                settings.calls = problems.object(&path, value).cloned().map(Value::Object)
            }
            "calls" => problems.note(&path, "this box has no program for calls"),
            _ => problems.note(&path, "this version does not know it"),
        }
    }
    (settings, problems.0)
}

fn updates(settings: &mut Settings, problems: &mut Problems, path: &str, value: &Value) {
    let Some(fields) = problems.object(path, value) else { return };
    for (key, value) in fields {
        let path = format!("{path}/{}", escape(key));
        match (key.as_str(), value) {
            ("locked", Value::Bool(locked)) => settings.locked = *locked,
            ("locked", _) => problems.note(&path, "true or false"),
            ("metered_mib", _) => match value.as_u64() {
                Some(mib) => settings.metered_limit = Some(mib.saturating_mul(1024 * 1024)),
                None => problems.note(&path, "a whole number of MiB"),
            },
            ("hours", _) => match value.as_str().map(str::parse::<DayHours>) {
                Some(Ok(hours)) => settings.hours = Some(hours),
                _ => problems.note(&path, "hours of the day, such as 22:00-05:00"),
            },
            ("kib_per_s", _) => match value.as_u64().filter(|kib| *kib >= LEAST_KIB_PER_S) {
                Some(kib) => settings.bytes_per_s = Some(kib.saturating_mul(1024)),
                None => problems.note(&path, &format!("a whole number of KiB/s from {LEAST_KIB_PER_S}")),
            },
            _ => problems.note(&path, "this version does not know it"),
        }
    }
}

impl Settings {
    /// Returns what is in force, in the words of the desired document.
    pub fn in_force(&self) -> Value {
        let mut body = Map::new();
        if let Some(name) = &self.name {
            body.insert("name".into(), json!(name));
        }
        if let Some(log) = &self.log {
            body.insert("log".into(), json!(log));
        }
        let mut updates = Map::new();
        if self.locked {
            updates.insert("locked".into(), json!(true));
        }
        if let Some(limit) = self.metered_limit {
            updates.insert("metered_mib".into(), json!(limit / (1024 * 1024)));
        }
        if let Some(hours) = self.hours {
            updates.insert("hours".into(), json!(hours));
        }
        if let Some(rate) = self.bytes_per_s {
            updates.insert("kib_per_s".into(), json!(rate / 1024));
        }
        if !updates.is_empty() {
            body.insert("updates".into(), Value::Object(updates));
        }
        if let Some(calls) = &self.calls {
            body.insert("calls".into(), calls.clone());
        }
        Value::Object(body)
    }
}

/// Slower than that, a fetch would be given up.
const LEAST_KIB_PER_S: u64 = trunkline_update::SLOWEST / 1024;

#[derive(Default)]
struct Problems(Vec<NotApplied>);

impl Problems {
    fn note(&mut self, path: &str, reason: &str) {
        self.0.push(NotApplied { path: path.to_owned(), reason: reason.to_owned() });
    }

    fn text(&mut self, path: &str, value: &Value, longest: usize) -> Option<String> {
        match value.as_str() {
            Some(text) if !text.is_empty() && text.chars().count() <= longest => Some(text.to_owned()),
            _ => {
                self.note(path, &format!("a text of 1 to {longest} characters"));
                None
            }
        }
    }

    fn object<'a>(&mut self, path: &str, value: &'a Value) -> Option<&'a Map<String, Value>> {
        let object = value.as_object();
        if object.is_none() {
            self.note(path, "a section with fields");
        }
        object
    }
}

/// Writes a key as a part of a path (RFC 6901 §3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_right_is_applied_and_the_rest_is_named() {
        let desired = json!({
            "name": "Branch 0451", "log": 7, "gsm": {"ports": 8}, "calls": {"channels": 2},
            "updates": {"locked": true, "metered_mib": 64, "often": true, "hours": "at night", "kib_per_s": 7},
        });
        let (settings, problems) = read(&desired, false);
        assert_eq!(settings.name.as_deref(), Some("Branch 0451"));
        assert!(settings.locked && settings.metered_limit == Some(64 << 20));
        let paths: Vec<&str> = problems.iter().map(|one| one.path.as_str()).collect();
        let updates = ["/updates/hours", "/updates/kib_per_s", "/updates/often"];
        assert_eq!(paths, [&["/calls", "/gsm", "/log"][..], &updates].concat());
        assert_eq!(
            settings.in_force(),
            json!({"name": "Branch 0451", "updates": {"locked": true, "metered_mib": 64}})
        );
    }

    #[test]
    fn a_document_without_mistakes_is_in_force_as_it_is() {
        let desired = json!({"name": "a", "log": "info", "updates": {"metered_mib": 3, "hours": "22:00-05:00", "kib_per_s": 64},
                "calls": {"channels": 2}});
        let (settings, problems) = read(&desired, true);
        assert_eq!(settings.hours.map(DayHours::minutes), Some((1_320, 300)));
        assert_eq!(settings.bytes_per_s, Some(65_536));
        assert_eq!((settings.in_force(), problems), (desired, vec![]));
    }

    proptest! {
        #[test]
        fn no_document_panics_the_reader(text in "[a-z/~]{0,8}", number: i64) {
            let odd = json!({ text.clone(): number, "updates": { text.clone(): text.clone() }, "name": [text] });
            let (_, problems) = read(&odd, true);
            prop_assert!(!problems.is_empty());
            prop_assert_eq!(read(&json!(number), true).1, vec![]);
        }
    }
}
