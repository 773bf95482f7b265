//! From a wording table to a first script: what teams keep in a spreadsheet (node, wording, answers, next).
//!
//! One row is one answer: the node, what the robot says there, what the customer may say, and where that
//! leads. Further rows of a node repeat its name or leave it out. Answers are words separated by `|`, `;`,
//! `/` or `、`: names such as yes, no, silence or human, in Chinese or English, or examples of something
//! of the customer's own. `next` is a node, `end` or `human`. The columns are found by their titles; a
//! comma, a semicolon or a tab separates them (RFC 4180 quoting).
//!
//! What comes out is a script for the author to go on with: the linter says what is still missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use crate::document::SCHEMA;
use crate::lint::did_you_mean;
use crate::script::MAX_BYTES;
use crate::wording::builtin;

/// A script made of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The script as YAML.
    pub yaml: String,
    /// What was guessed or left out, for the author to look at.
    pub remarks: Vec<String>,
}

/// Why a table is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Larger than a script may be.
    #[error("the table has {bytes} bytes, {MAX_BYTES} are allowed; split it")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The first line does not name the columns.
    #[error("line 1: there is no column `{missing}`; title the columns node, wording, answers, next")]
    Columns {
        /// The column that is missing.
        missing: &'static str,
    },
    /// A row that means nothing.
    #[error("line {line}: {message}; {remedy}")]
    Row {
        /// The line in the file, from 1.
        line: usize,
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// No row at all.
    #[error("the table has no rows; write a row for each answer")]
    Empty,
}

/// Makes a script named `id` of a table. The language is taken from the wording.
///
/// # Errors
///
/// When the columns are not titled, a quote is not closed, a row has no node, or `next` names none.
pub fn import(table: &str, id: &str) -> Result<Imported, ImportError> {
    if table.len() > MAX_BYTES {
        return Err(ImportError::TooLarge { bytes: table.len() });
    }
    let table = table.strip_prefix('\u{feff}').unwrap_or(table);
    let rows = rows(table)?;
    let mut rows = rows.into_iter().filter(|row| row.cells.iter().any(|cell| !cell.trim().is_empty()));
    let Some(titles) = rows.next() else { return Err(ImportError::Empty) };
    let column = |names: &[&str]| {
        titles.cells.iter().position(|cell| names.contains(&cell.trim().to_lowercase().as_str()))
    };
    let node = column(&["node", "id", "节点", "步骤"]).ok_or(ImportError::Columns { missing: "node" })?;
    let wording = column(&["wording", "say", "text", "话术", "内容"])
        .ok_or(ImportError::Columns { missing: "wording" })?;
    let answers = column(&["answers", "answer", "回答", "客户回答", "意图"])
        .ok_or(ImportError::Columns { missing: "answers" })?;
    let next = column(&["next", "then", "下一步", "跳转"]).ok_or(ImportError::Columns { missing: "next" })?;
    let mut table = Table::default();
    for row in rows {
        let cell = |i: usize| row.cells.get(i).map_or("", |c| c.trim());
        table.row(row.line, cell(node), cell(wording), cell(answers), cell(next))?;
    }
    table.script(id)
}

struct Row {
    line: usize,
    cells: Vec<String>,
}

/// Reads the rows of a table (RFC 4180); a quoted cell may hold separators and line breaks.
fn rows(table: &str) -> Result<Vec<Row>, ImportError> {
    let first = table.lines().next().unwrap_or_default();
    let separator = [',', ';', '\t'].into_iter().max_by_key(|c| first.matches(*c).count()).unwrap_or(',');
    let mut rows = Vec::new();
    let (mut line, mut began) = (1, 1);
    let (mut cells, mut cell) = (Vec::new(), String::new());
    let mut quoted = None;
    let mut chars = table.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match (c, quoted) {
            ('"', Some(_)) if chars.peek() == Some(&'"') => {
                chars.next();
                cell.push('"');
            }
            ('"', Some(_)) => quoted = None,
            (_, Some(_)) => cell.push(c),
            ('"', None) if cell.trim().is_empty() => {
                cell.clear();
                quoted = Some(line);
            }
            ('\n', None) => {
                cells.push(std::mem::take(&mut cell));
                rows.push(Row { line: began, cells: std::mem::take(&mut cells) });
                began = line;
            }
            ('\r', None) if chars.peek() == Some(&'\n') => {}
            (c, None) if c == separator => cells.push(std::mem::take(&mut cell)),
            (c, None) => cell.push(c),
        }
    }
    if let Some(line) = quoted {
        let message = "a quote is not closed".to_owned();
        return Err(ImportError::Row { line, message, remedy: "end the cell with \"".to_owned() });
    }
    cells.push(cell);
    rows.push(Row { line: began, cells });
    Ok(rows)
}

/// What a row's answers are.
enum Answer {
    /// The node goes on without one.
    None,
    /// A name that every script knows, or `any`, `no_input`, `no_match`.
    Known(&'static str),
    /// Examples of something of the customer's own.
    Own(String),
}

#[derive(Default)]
struct NodeRows {
    wording: String,
    /// In the order of the table: answer (none for "goes on"), next, line.
    edges: Vec<(Option<String>, String, usize)>,
}

#[derive(Default)]
struct Table {
    order: Vec<String>,
    nodes: BTreeMap<String, NodeRows>,
    intents: BTreeMap<String, Vec<String>>,
    remarks: Vec<String>,
}

/// What spreadsheets call what every script knows.
const KNOWN: &[(&str, &[&str])] = &[
    ("yes", &["yes", "y", "ok", "是", "肯定", "同意", "愿意", "可以"]),
    ("no", &["no", "n", "否", "不", "否定", "拒绝", "不同意", "不愿意"]),
    ("no_input", &["silence", "no_input", "no input", "no answer", "无应答", "沉默", "静音", "不说话"]),
    ("no_match", &["no_match", "no match", "unclear", "未识别", "听不懂", "没听清"]),
    ("any", &["any", "anything", "other", "else", "其他", "任意"]),
    ("ask_human", &["human", "agent", "person", "ask_human", "转人工", "人工"]),
    ("busy", &["busy", "忙", "在忙", "没空"]),
    ("repeat", &["repeat", "重复", "再说一遍"]),
    ("ask_robot", &["ask_robot", "robot", "机器人"]),
    ("who_are_you", &["who_are_you", "who are you", "你是谁"]),
    ("opt_out", &["opt_out", "opt out", "stop calling", "别再打", "不要再打", "退订"]),
];

const END: &[&str] = &["end", "hang up", "hangup", "bye", "结束", "挂断", "挂机"];
const HUMAN: &[&str] = &["human", "agent", "handoff", "hand over", "转人工", "人工"];

fn is_one_of(text: &str, words: &[&str]) -> bool {
    let plain = text.trim().to_lowercase();
    words.contains(&plain.as_str())
}

/// Makes a name of any words: letters and digits stay, the rest becomes `_`.
fn name_of(text: &str) -> String {
    let mut name = String::new();
    for c in text.trim().chars().take(40) {
        let c = if c.is_alphanumeric() { c } else { '_' };
        if c != '_' || !name.ends_with('_') {
            name.extend(c.to_lowercase());
        }
    }
    let name = name.trim_matches('_').to_owned();
    if ["handoff", "return", "resume", "listen", "none", "auto", "filled"].contains(&name.as_str()) {
        format!("{name}_1")
    } else {
        name
    }
}

impl Table {
    fn row(
        &mut self,
        line: usize,
        node: &str,
        wording: &str,
        answers: &str,
        next: &str,
    ) -> Result<(), ImportError> {
        let name =
            if node.is_empty() { self.order.last().cloned().unwrap_or_default() } else { name_of(node) };
        if name.is_empty() {
            let message = if node.is_empty() { "the first row has no node" } else { "a node has no name" };
            return Err(wrong(line, message, "name the node in the first column, with letters or digits"));
        }
        if !self.nodes.contains_key(&name) {
            self.order.push(name.clone());
        }
        let answer = match self.answer(answers) {
            Answer::None => None,
            Answer::Known("opt_out") => {
                self.remarks.push(format!(
                    "line {line}: who asks not to be called again is never called again, from any node; \
                     the row's own way was left out"
                ));
                return Ok(());
            }
            Answer::Known(known) => Some(known.to_owned()),
            Answer::Own(intent) => Some(intent),
        };
        let entry = self.nodes.entry(name.clone()).or_default();
        if !wording.is_empty() && entry.wording.is_empty() {
            wording.clone_into(&mut entry.wording);
        } else if !wording.is_empty() && wording != entry.wording {
            let message = format!("node `{name}` has a second wording");
            return Err(wrong(line, &message, "leave the wording of its further rows empty, or name a node"));
        }
        if answer.is_some() && entry.edges.iter().any(|(a, _, _)| *a == answer) {
            let message = format!("node `{name}` has this answer twice");
            return Err(wrong(line, &message, "drop one of the two rows"));
        }
        if answer.is_some() || !next.is_empty() {
            entry.edges.push((answer, next.to_owned(), line));
        }
        Ok(())
    }

    fn answer(&mut self, cell: &str) -> Answer {
        let words: Vec<&str> =
            cell.split(['|', ';', '；', '、', '/', '\n']).map(str::trim).filter(|w| !w.is_empty()).collect();
        let Some(first) = words.first() else { return Answer::None };
        if let Some((known, _)) = KNOWN.iter().find(|(_, names)| is_one_of(first, names)) {
            // Whatever else stands there are more ways to say it.
            if !["no_input", "no_match", "any", "opt_out"].contains(known) {
                let more = words.iter().filter(|w| !KNOWN.iter().any(|(_, names)| is_one_of(w, names)));
                self.learn(known, more.copied());
            }
            return Answer::Known(known);
        }
        let name = name_of(first);
        if name.is_empty() {
            return Answer::None;
        }
        self.learn(&name, words.into_iter());
        Answer::Own(name)
    }

    fn learn<'w>(&mut self, intent: &str, words: impl Iterator<Item = &'w str>) {
        for word in words {
            let known = self.intents.values().flatten().any(|w| w == word);
            if !known {
                self.intents.entry(intent.to_owned()).or_default().push(word.to_owned());
            }
        }
    }

    fn script(mut self, id: &str) -> Result<Imported, ImportError> {
        if self.order.is_empty() {
            return Err(ImportError::Empty);
        }
        let chinese =
            self.nodes.values().any(|n| n.wording.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)));
        let locale = if chinese { "zh-CN" } else { "en-US" };
        let (voice, callback, bye) = if chinese {
            (
                "zf_xiaoxiao",
                "很抱歉，人工座席现在都在忙，我们会尽快给您回电。再见。",
                "好的，感谢您的接听，再见。",
            )
        } else {
            (
                "af_heart",
                "I'm sorry, nobody is free right now. We'll call you back. Goodbye.",
                "All right. Thank you for your time. Goodbye.",
            )
        };
        let fresh = |wanted: &str, taken: &BTreeMap<String, NodeRows>| {
            let mut name = wanted.to_owned();
            while taken.contains_key(&name) {
                name.push('_');
            }
            name
        };
        let (call_back, goodbye) = (fresh("call_back", &self.nodes), fresh("goodbye", &self.nodes));
        let mut says_goodbye = false;
        let mut nodes = String::new();
        for name in &self.order {
            let Some(rows) = self.nodes.get(name) else { continue };
            let mut target = |next: &str, line: usize| {
                if next.is_empty() || is_one_of(next, END) {
                    says_goodbye = true;
                    return Ok(goodbye.clone());
                }
                if is_one_of(next, HUMAN) {
                    return Ok("handoff".to_owned());
                }
                let id = name_of(next);
                if self.nodes.contains_key(&id) {
                    return Ok(id);
                }
                let known: Vec<&str> = self.order.iter().map(String::as_str).collect();
                Err(wrong(line, &format!("there is no node `{next}`"), &did_you_mean(&id, &known)))
            };
            let _ = writeln!(nodes, "  - id: {}", quoted(name));
            if !rows.wording.is_empty() {
                let _ = writeln!(nodes, "    say: {}", quoted(&plain(&rows.wording)));
            }
            let goes_on = rows.edges.iter().find(|(answer, _, _)| answer.is_none());
            if rows.edges.iter().all(|(answer, _, _)| answer.is_none()) {
                match goes_on {
                    Some((_, next, line)) if !is_one_of(next, END) => {
                        let _ = writeln!(nodes, "    next: {}", quoted(&target(next, *line)?));
                    }
                    Some(_) | None => nodes.push_str("    end: auto\n"),
                }
                continue;
            }
            nodes.push_str("    on:\n");
            for (answer, next, line) in &rows.edges {
                let answer = answer.as_deref().unwrap_or("any");
                let then = quoted(&target(next, *line)?);
                match answer {
                    // Asked once more, then on.
                    "no_input" | "no_match" => {
                        let say = builtin(locale)
                            .map_or("", |own| if answer == "no_input" { own.no_input } else { own.no_match });
                        let _ =
                            writeln!(nodes, "      {answer}: {{say: {}, max: 1, then: {then}}}", quoted(say));
                    }
                    _ => {
                        let _ = writeln!(nodes, "      {}: {then}", quoted(answer));
                    }
                }
            }
        }
        if says_goodbye {
            let _ = writeln!(nodes, "  - {{id: {goodbye}, say: {}, end: auto}}", quoted(bye));
        }
        let _ = writeln!(nodes, "  - {{id: {call_back}, say: {}, end: auto}}", quoted(callback));

        let mut yaml = format!(
            "schema: {SCHEMA}\nid: {}\nlocale: {locale}\npurpose: notice\nvoice: {{name: {voice}}}\n",
            quoted(id)
        );
        let vars = self.variables();
        if !vars.is_empty() {
            yaml.push_str("\nvars:\n");
            for (name, kind) in &vars {
                let _ = writeln!(yaml, "  {}: {{type: {kind}, required: true}}", quoted(name));
            }
        }
        if !self.intents.is_empty() {
            yaml.push_str("\nintents:\n");
            for (name, examples) in &self.intents {
                let list: Vec<String> = examples.iter().map(|e| quoted(e)).collect();
                let _ = writeln!(yaml, "  {}: {{examples: [{}]}}", quoted(name), list.join(", "));
            }
        }
        let _ = write!(
            yaml,
            "\nnodes:\n{nodes}\nhandoff: {{to: branch, fail: {call_back}}}\n\noutcomes:\n  - {{code: transferred}}\n  \
             - {{code: opt_out}}\n  - {{code: no_result, when: \"true\"}}\n"
        );
        self.remarks.push("the purpose is taken to be `notice`; say what it is".to_owned());
        Ok(Imported { yaml, remarks: self.remarks })
    }

    /// The variables that the wordings name, with types guessed from their names.
    fn variables(&self) -> BTreeMap<String, &'static str> {
        let kinds: [(&str, &[&str]); 5] = [
            ("money", &["amount", "price", "fee", "金额", "价格", "费用"]),
            ("date", &["date", "day", "日期"]),
            ("time", &["time", "时间"]),
            ("person", &["name", "customer", "姓名", "客户"]),
            ("phone", &["phone", "电话", "手机"]),
        ];
        let mut names = BTreeSet::new();
        for rows in self.nodes.values() {
            if let Ok(template) = crate::wording::Template::parse(&plain(&rows.wording)) {
                names.extend(template.vars().map(str::to_owned));
            }
        }
        names
            .into_iter()
            .map(|name| {
                let lower = name.to_lowercase();
                let kind = kinds.iter().find(|(_, words)| words.iter().any(|w| lower.contains(w)));
                (name, kind.map_or("text", |(kind, _)| *kind))
            })
            .collect()
    }
}

/// Writes full-width braces as plain ones, as spreadsheets of Chinese teams have them.
fn plain(wording: &str) -> String {
    wording.replace('｛', "{").replace('｝', "}")
}

/// Writes a text so that YAML reads it back as it is.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn wrong(line: usize, message: &str, remedy: &str) -> ImportError {
    ImportError::Row { line, message: message.to_owned(), remedy: remedy.to_owned() }
}
