//! Quality inspection: what a supervisor listens for, as rules over a finished call's record.
//!
//! [`inspect`] measures a call (silence, talk-over, the longest wait) and names what went wrong (an opening that
//! was not heard out, an opt-out that was not honoured, words that may not be said, dead ends), with a score.
//! [`chosen`] says whether a person should listen to the call as well.
//!
//! **Invariant:** no I/O, clock or randomness: the same record, script and rules give the same inspection.
//!
//! Absent on purpose: the recording itself. How long the robot spoke is estimated from its words, since a
//! record holds when it began and how much of it was heard.

use serde::Serialize;
use trunkline_dialogue::Script;
use trunkline_dialogue::document::BargeInSpec;
use trunkline_model::CallId;
use trunkline_wire::{CallRecord, RobotTurn, TurnRecord};

/// What is still good, and what is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The greatest share of a call in which nobody speaks, 0 to 1.
    pub silence_share: f32,
    /// The most seconds in which both speak.
    pub talk_over_s: f32,
    /// The longest that a customer waits for an answer, in seconds.
    pub wait_s: f32,
    /// The longest that a call goes on after an opt-out, in seconds.
    pub opt_out_s: f32,
    /// The most turns that were not understood.
    pub dead_ends: u32,
    /// The mood of the customer's words, from -1 to 1, at which a call that ends in it is remarked on.
    pub mood: f32,
    /// Words that a robot may not say, in small letters.
    pub forbidden: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            silence_share: 0.45,
            talk_over_s: 2.0,
            wait_s: 2.0,
            opt_out_s: 10.0,
            dead_ends: 2,
            mood: -0.5,
            forbidden: Vec::new(),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Minor,
    /// The customer was served badly.
    Major,
    /// The law or a promise was broken: somebody must look.
    Critical,
}

impl Severity {
    /// What it takes off the score.
    fn points(self) -> u32 {
        match self {
            Self::Minor => 5,
            Self::Major => 15,
            Self::Critical => 50,
        }
    }
}

/// One thing that was wrong with a call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remark {
    /// The rule: `disclosure`, `opt_out`, `forbidden_word`, `listed_word`, `silence`, `talk_over`, `slow_answer`, `dead_end`,
    /// `upset`.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The turn, where it is about one.
    pub turn: Option<u32>,
    /// What was seen, in words.
    pub what: String,
}

/// What came of an inspection.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Inspection {
    /// 100 for a call with nothing to remark on, 0 at worst. A call that nobody answered has 100.
    pub score: u32,
    /// Seconds from the answer to the end.
    pub seconds: f32,
    /// The share of them in which nobody spoke, 0 to 1.
    pub silence_share: f32,
    /// Seconds in which both spoke.
    pub talk_over_s: f32,
    /// The longest wait from the customer's last word to the robot's first, in seconds.
    pub longest_wait_s: f32,
    /// Turns that were not understood, or in which nothing was heard.
    pub dead_ends: u32,
    /// The mood of the customer's words in the last turn, from -1, furious, over 0, even or unknown, to 1, delighted.
    pub mood: f32,
    /// Whether what must be told was told and heard out; absent where nobody answered.
    pub disclosed: Option<bool>,
    /// What was wrong.
    pub remarks: Vec<Remark>,
}

/// Inspects a finished call. `script` is the version that the call spoke.
pub fn inspect(record: &CallRecord, script: &Script, rules: &Rules) -> Inspection {
    let Some(answered) = record.answered else { return Inspection { score: 100, ..Inspection::default() } };
    let seconds = record.ended.duration_since(answered).as_secs_f32().max(0.0);
    let speech = Speech::of(record, script.locale().starts_with("zh"), seconds);
    let mut inspection = Inspection {
        seconds,
        silence_share: if seconds > 0.0 { 1.0 - speech.union() / seconds } else { 0.0 },
        talk_over_s: speech.overlap(),
        longest_wait_s: speech.longest_wait(),
        dead_ends: u32::try_from(record.turns.iter().filter(|turn| is_dead_end(turn)).count())
            .unwrap_or(u32::MAX),
        mood: last_mood(record),
        ..Inspection::default()
    };
    let found = &mut inspection.remarks;
    let disclosed = told(record, script);
    // Who hangs up on the greeting was not kept from hearing it.
    if !disclosed && record.turns.iter().any(|turn| turn.customer.is_some()) {
        let what = "the customer spoke before the opening had told what it must".to_owned();
        found.push(Remark { rule: "disclosure", severity: Severity::Critical, turn: Some(0), what });
    }
    inspection.disclosed = Some(disclosed);
    opt_out(record, seconds, rules, found);
    forbidden(record, rules, found);
    listed_words(record, found);
    let measured: [(&'static str, f32, f32, Severity, &str); 3] = [
        ("silence", inspection.silence_share, rules.silence_share, Severity::Minor, "of the call is silence"),
        ("talk_over", inspection.talk_over_s, rules.talk_over_s, Severity::Minor, "s were spoken by both"),
        (
            "slow_answer",
            inspection.longest_wait_s,
            rules.wait_s,
            Severity::Major,
            "s went by before an answer",
        ),
    ];
    for (rule, value, limit, severity, words) in measured {
        if value > limit {
            let what = format!("{value:.2} {words}; {limit:.2} is the limit");
            found.push(Remark { rule, severity, turn: None, what });
        }
    }
    if inspection.dead_ends > rules.dead_ends {
        let what = format!("{} turns led nowhere; {} are the limit", inspection.dead_ends, rules.dead_ends);
        found.push(Remark { rule: "dead_end", severity: Severity::Major, turn: None, what });
    }
    let angry = last_turn(record).is_some_and(|turn| turn.decision.understanding.temper == "angry");
    if inspection.mood <= rules.mood || angry {
        let how = if angry { ", by words and voice together" } else { "" };
        let what = format!("the customer's last words were angry ({:.2}){how}", inspection.mood);
        found.push(Remark { rule: "upset", severity: Severity::Major, turn: None, what });
    }
    let lost: u32 = inspection.remarks.iter().map(|remark| remark.severity.points()).sum();
    inspection.score = 100_u32.saturating_sub(lost);
    inspection
}

/// Says whether a person should listen to the call: each with a critical remark, and of the others a share
/// that the call's id decides, so that everybody who asks gets the same answer.
pub fn chosen(call: CallId, inspection: &Inspection, share: f64) -> bool {
    if inspection.remarks.iter().any(|remark| remark.severity == Severity::Critical) {
        return true;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, call.to_string().as_bytes());
    let first = digest.as_ref().first_chunk().map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes));
    f64::from(first) < share.clamp(0.0, 1.0) * f64::from(u32::MAX)
}

/// Who spoke when, in seconds since the answer, in order.
struct Speech {
    customer: Vec<(f32, f32)>,
    robot: Vec<(f32, f32)>,
}

impl Speech {
    fn of(record: &CallRecord, chinese: bool, end: f32) -> Self {
        let good = |(from, to): &(f32, f32)| from.is_finite() && to.is_finite() && to > from;
        let clip = |(from, to): (f32, f32)| (from.clamp(0.0, end), to.clamp(0.0, end));
        let order = |mut spans: Vec<(f32, f32)>| {
            spans.sort_by(|a, b| a.0.total_cmp(&b.0));
            spans
        };
        let customer = record.turns.iter().filter_map(|turn| turn.customer.as_ref());
        let robot = record.turns.iter().flat_map(|turn| &turn.robot);
        let spoken =
            |said: &RobotTurn| said.start_s + estimate(&said.text, chinese) * said.heard.clamp(0.0, 1.0);
        Self {
            customer: order(customer.map(|c| clip((c.start_s, c.end_s))).filter(good).collect()),
            robot: order(robot.map(|r| clip((r.start_s, spoken(r)))).filter(good).collect()),
        }
    }

    /// Seconds in which at least one speaks.
    fn union(&self) -> f32 {
        let mut all: Vec<(f32, f32)> = self.customer.iter().chain(&self.robot).copied().collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut total, mut until) = (0.0, 0.0_f32);
        for (from, to) in all {
            total += (to - from.max(until)).max(0.0);
            until = until.max(to);
        }
        total
    }

    /// Seconds in which both speak.
    fn overlap(&self) -> f32 {
        let both = |a: &(f32, f32), b: &(f32, f32)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
        self.customer.iter().flat_map(|c| self.robot.iter().map(move |r| both(c, r))).sum()
    }

    fn longest_wait(&self) -> f32 {
        let wait = |end: f32| self.robot.iter().map(|(from, _)| from - end).find(|wait| *wait >= 0.0);
        self.customer.iter().filter_map(|(_, end)| wait(*end)).fold(0.0, f32::max)
    }
}

/// Estimates how long a text is spoken, in seconds.
fn estimate(text: &str, chinese: bool) -> f32 {
    let count = |n: usize| f32::from(u16::try_from(n).unwrap_or(u16::MAX));
    if chinese {
        count(text.chars().filter(|c| c.is_alphanumeric()).count()) / 4.5
    } else {
        count(text.chars().count()) / 15.0
    }
}

fn is_dead_end(turn: &TurnRecord) -> bool {
    let because = turn.decision.because.as_str();
    ["no match", "no input", "limit of", "hand-over rule"].iter().any(|start| because.starts_with(start))
}

fn last_mood(record: &CallRecord) -> f32 {
    last_turn(record).map_or(0.0, |turn| turn.decision.understanding.sentiment)
}

fn last_turn(record: &CallRecord) -> Option<&TurnRecord> {
    record.turns.iter().rfind(|turn| turn.customer.is_some())
}

/// Says whether the opening was heard as far as it is protected, or to its end where it is not.
fn told(record: &CallRecord, script: &Script) -> bool {
    let opening: Vec<&RobotTurn> =
        record.turns.iter().take_while(|turn| turn.customer.is_none()).flat_map(|turn| &turn.robot).collect();
    let protected = script.document().nodes.iter().filter_map(|node| match node.barge_in.as_deref() {
        Some(BargeInSpec::OffUntil(words)) => Some(words.trim()),
        Some(BargeInSpec::On | BargeInSpec::Off) | None => None,
    });
    let protected: Vec<&str> = protected.collect();
    let heard_out = |said: &&RobotTurn| {
        // A variable among the protected words is not known here; then all of the text counts.
        let end = protected.iter().find_map(|words| said.text.find(words).map(|at| at + words.len()));
        let (all, needed) =
            (said.text.chars().count(), end.map_or(said.text.as_str(), |end| &said.text[..end]));
        let share = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        // Played to the end is 1; a little is lost between counting words and hearing them.
        f64::from(said.heard) + 0.02 >= share(needed.chars().count()) / share(all.max(1))
    };
    opening.iter().any(heard_out)
}

fn opt_out(record: &CallRecord, seconds: f32, rules: &Rules, found: &mut Vec<Remark>) {
    let asked = record.turns.iter().find(|t| t.decision.understanding.intent.as_deref() == Some("opt_out"));
    let Some(turn) = asked else { return };
    let mut critical = |what: String| {
        found.push(Remark { rule: "opt_out", severity: Severity::Critical, turn: Some(turn.turn), what });
    };
    if !record.suppress {
        critical("the customer asked not to be called again and is not on the list".to_owned());
    }
    let went_on = seconds - turn.customer.as_ref().map_or(seconds, |customer| customer.end_s);
    if went_on > rules.opt_out_s {
        critical(format!(
            "the call went on for {went_on:.0} s after the customer asked not to be called again"
        ));
    }
}

fn forbidden(record: &CallRecord, rules: &Rules, found: &mut Vec<Remark>) {
    for turn in &record.turns {
        for said in &turn.robot {
            let text = said.text.to_lowercase();
            for word in rules.forbidden.iter().filter(|word| !word.is_empty() && text.contains(word.as_str()))
            {
                let what = format!("the robot said `{word}`");
                let turn = Some(turn.turn);
                found.push(Remark { rule: "forbidden_word", severity: Severity::Critical, turn, what });
            }
        }
    }
}

/// What the word lists of the call found. What was kept from being said is worth knowing, no more.
fn listed_words(record: &CallRecord, found: &mut Vec<Remark>) {
    for turn in &record.turns {
        for word in &turn.words {
            let severity = match (word.by.as_str(), word.action.as_str(), word.severity.as_str()) {
                (_, "replace" | "withhold", _) | ("customer", _, "warn") => Severity::Minor,
                ("robot", _, "critical") => Severity::Critical,
                (_, _, "critical" | "warn") => Severity::Major,
                _ => continue,
            };
            let did = if severity == Severity::Minor && word.by == "robot" {
                "was kept from saying"
            } else {
                "said"
            };
            let what = format!("the {} {did} `{}` (list `{}`)", word.by, word.word, word.list);
            found.push(Remark { rule: "listed_word", severity, turn: Some(turn.turn), what });
        }
    }
}

#[cfg(test)]
mod tests;
