//! The sheet: one line for each thing that was looked at.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::measure::Measured;
use super::words::{Text, both};
use super::{Lang, Profile};

/// What is said of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    NotTested,
    Pass,
    Warn,
    Fail,
}

impl Verdict {
    fn text(self) -> Text {
        match self {
            Self::NotTested => both("not tested", "未测"),
            Self::Pass => both("pass", "通过"),
            Self::Warn => both("WARN", "注意"),
            Self::Fail => both("FAIL", "不通过"),
        }
    }
}

/// One line of the sheet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    /// What it is called in JSON.
    pub(super) check: &'static str,
    pub(super) name: Text,
    pub(super) verdict: Verdict,
    pub(super) value: Text,
    pub(super) limit: Text,
    /// What to do; empty where nothing is to be done.
    pub(super) advice: Text,
}

/// All lines about one trunk.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) begun: Timestamp,
    pub(super) rows: Vec<Row>,
    pub(super) measured: Measured,
}

impl Sheet {
    /// Returns the worst verdict.
    pub(super) fn verdict(&self) -> Verdict {
        self.rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::NotTested)
    }

    pub(super) fn show(&self, lang: Lang) -> String {
        let mut out = String::new();
        let Measured { trunk, place, transport, .. } = &self.measured;
        let title = both(
            format!("Line test of trunk {trunk}: {place} over {transport}, {:.0}", self.begun),
            format!("线路测试：{trunk}，{place}，{transport}，{:.0}", self.begun),
        );
        let _ = writeln!(out, "\n{}", title.of(lang));
        for row in &self.rows {
            let limit = row.limit.of(lang);
            let limit = if limit.is_empty() { String::new() } else { format!("  ({limit})") };
            let _ = writeln!(
                out,
                "{} {} {}{limit}",
                padded(&row.verdict.text().of(lang), 10),
                padded(&row.name.of(lang), 22),
                row.value.of(lang)
            );
            if !row.advice.is_empty() && row.verdict != Verdict::Pass {
                let _ = writeln!(out, "{}→ {}", " ".repeat(11), row.advice.of(lang));
            }
        }
        let count = |verdict| self.rows.iter().filter(|row| row.verdict == verdict).count();
        let (pass, warn) = (count(Verdict::Pass), count(Verdict::Warn));
        let (fail, not) = (count(Verdict::Fail), count(Verdict::NotTested));
        let sum = both(
            format!("Result: {pass} pass, {warn} warn, {fail} fail, {not} not tested"),
            format!("结果：通过 {pass}，注意 {warn}，不通过 {fail}，未测 {not}"),
        );
        let _ = writeln!(out, "{}", sum.of(lang));
        out
    }
}

/// Fills up to `width` columns; a Chinese character takes two.
fn padded(text: &str, width: usize) -> String {
    let columns: usize = text.chars().map(|c| if u32::from(c) >= 0x2e80 { 2 } else { 1 }).sum();
    format!("{text}{}", " ".repeat(width.saturating_sub(columns)))
}

/// Returns everything as JSON, with texts in both languages.
pub(super) fn json(sheets: &[Sheet], profiles: &[Profile]) -> String {
    let sheets: Vec<_> = sheets
        .iter()
        .map(|sheet| {
            serde_json::json!({
                "begun": sheet.begun,
                "verdict": sheet.verdict(),
                "measured": sheet.measured,
                "rows": sheet.rows,
            })
        })
        .collect();
    let profiles: Vec<_> = profiles
        .iter()
        .map(|profile| {
            let works: Vec<_> = profile.working().collect();
            let keys = serde_json::json!({
                "events_agreed": profile.events, "info_taken": profile.info, "sound_came_back": profile.sound,
            });
            let tried: Vec<_> = profile
                .tried
                .iter()
                .map(|tried| {
                    serde_json::json!({
                        "codec": tried.codec.name(), "encrypted": tried.encrypted, "works": tried.works,
                    })
                })
                .collect();
            serde_json::json!({
                "trunk": profile.trunk, "codecs": works, "encryption": profile.encryption(), "keys": profile.keys(),
                "keys_seen": keys, "tried": tried, "telephone_events": profile.events,
            })
        })
        .collect();
    format!("{:#}", serde_json::json!({ "sheets": sheets, "profiles": profiles }))
}
