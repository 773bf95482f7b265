//! What headquarters lays over `edge.toml`: the section `calls` of a box's desired document, in the words of that file.
//!
//! Headquarters says what the box does; where it keeps its files, who it is and how it reaches the cloud stay with
//! the machine, since a mistake there would cut it off from whoever could mend it.

use std::path::Path;

use serde_json::{Map, Value};
use trunkline_wire::NotApplied;

use crate::config::Config;

/// What may be said, and for sections of which only a part may, which part.
const MAY: [(&str, &[&str]); 8] = [
    ("channels", &[]),
    ("country", &[]),
    ("trunk", &[]),
    ("transfer", &[]),
    ("answer", &[]),
    ("rtp", &[]),
    ("recording", &["enabled", "min_free_mib"]),
    ("speech", &["workers", "bundle"]),
];

/// Takes out of the section what headquarters may not say, and all of it when `edge.toml` could not be used with it;
/// returns what was taken out and why.
pub(crate) fn settle(edge: &Path, calls: &mut Option<Value>) -> Vec<NotApplied> {
    let mut problems = Vec::new();
    let mut map = if let Some(Value::Object(map)) = calls.take() { map } else { Map::new() };
    let said_something = !map.is_empty();
    map.retain(|key, value| keep(key, value, &mut problems));
    if let Err(error) = Config::load_under(edge, &map) {
        problems.push(NotApplied { path: "/calls".to_owned(), reason: format!("{error:#}") });
    } else if said_something {
        *calls = Some(Value::Object(map));
    }
    problems
}

fn keep(key: &str, value: &mut Value, problems: &mut Vec<NotApplied>) -> bool {
    let mut refuse = |path: String| {
        let reason = "this is the machine's own and stands in its edge.toml".to_owned();
        problems.push(NotApplied { path, reason });
    };
    let Some((_, fields)) = MAY.iter().find(|(name, _)| *name == key) else {
        refuse(format!("/calls/{}", key.replace('~', "~0").replace('/', "~1")));
        return false;
    };
    if let (false, Some(section)) = (fields.is_empty(), value.as_object_mut()) {
        section.retain(|field, _| {
            let may = fields.contains(&field.as_str());
            if !may {
                refuse(format!("/calls/{key}/{}", field.replace('~', "~0").replace('/', "~1")));
            }
            may
        });
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use trunkline_edge::read_overlay as read;

    fn edge() -> (tempfile::TempDir, std::path::PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        for name in ["ca.pem", "box.pem", "box.key"] {
            fs::write(dir.path().join(name), "x").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let text = "box = \"tl-a\"\ndata_dir = \"data\"\n[cloud]\nmqtt = \"localhost:8883\"\n\
                    api = \"https://localhost:8443\"\nca = \"ca.pem\"\ncert = \"box.pem\"\nkey = \"box.key\"\n\
                    [answer]\nmachine = \"go_on\"\n[trunk]\nproxy = \"127.0.0.1:5060\"\nbind = \"127.0.0.1:0\"\n";
        let path = dir.path().join("edge.toml");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn what_headquarters_says_holds_and_the_rest_of_the_file_stays() {
        let (_dir, path) = edge();
        let two = json!([{"proxy": "192.0.2.1", "bind": "127.0.0.1:0"}, {"proxy": "192.0.2.2", "bind": "127.0.0.1:0"}]);
        let mut calls = Some(json!({"channels": 9, "trunk": two, "recording": {"enabled": false}}));
        assert_eq!(settle(&path, &mut calls), vec![]);
        let Some(Value::Object(map)) = calls else { panic!("taken out") };
        let config = Config::load_under(&path, &map).unwrap();
        assert_eq!(
            (config.channels, config.trunks.setups().unwrap().len(), config.recording.enabled),
            (9, 2, false)
        );
        assert_eq!(config.box_id.to_string(), "tl-a");
    }

    #[test]
    fn what_would_cut_the_box_off_is_named_and_the_rest_holds() {
        let (_dir, path) = edge();
        let mut calls = Some(
            json!({"channels": 9, "cloud": {"mqtt": "elsewhere:1"}, "data_dir": "/", "recording": {"dir": "/"}}),
        );
        let paths: Vec<String> = settle(&path, &mut calls).into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["/calls/cloud", "/calls/data_dir", "/calls/recording/dir"]);
        assert_eq!(calls, Some(json!({"channels": 9, "recording": {}})));
    }

    #[test]
    fn a_section_that_makes_no_box_is_refused_as_a_whole_with_the_reason() {
        let (_dir, path) = edge();
        for (wrong, word) in [(json!({"channels": 900}), "200"), (json!({"trunk": {"proxi": "x"}}), "proxi")]
        {
            let mut calls = Some(wrong);
            let problems = settle(&path, &mut calls);
            assert_eq!((problems[0].path.as_str(), &calls), ("/calls", &None));
            assert!(problems[0].reason.contains(word), "{}", problems[0].reason);
        }
        assert_eq!(settle(&path, &mut None), vec![]);
    }

    #[test]
    fn the_keepers_file_is_read_and_none_is_no_mistake() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("calls.json");
        assert!(read(None).unwrap().is_empty() && read(Some(&file)).unwrap().is_empty());
        fs::write(&file, "null").unwrap();
        assert!(read(Some(&file)).unwrap().is_empty());
        fs::write(&file, "{\"channels\":3}").unwrap();
        assert_eq!(read(Some(&file)).unwrap()["channels"], 3);
        fs::write(&file, "[1").unwrap();
        assert!(read(Some(&file)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_headquarters_says_panics(key in "[a-z/~]{1,8}", text in ".{0,8}", number: i64) {
            let (_dir, path) = edge();
            let odd = json!({ key: number, "trunk": text, "answer": {"machine": number}, "channels": null });
            let mut calls = Some(odd);
            prop_assert!(!settle(&path, &mut calls).is_empty());
        }
    }
}
