//! Guards: `slot.promise_date and answered_s > 15`, `intent.ask_human or no_match >= 2`.
//!
//! ```text
//! guard   = both { "or" both }
//! both    = plain { "and" plain }
//! plain   = "not" plain | term [ ("==" | "!=" | "<" | "<=" | ">" | ">=") term ]
//! term    = "(" guard ")" | "true" | "false" | number | "text" | name
//! name    = "var." id | "slot." id | "intent." id | "heard." id | "visited." id | "arm." id "." id
//!         | "no_match" | "no_input" | "upset" | "turns" | "answered_s"
//! ```
//!
//! A variable or slot by itself asks whether it has a value; compared, it is its value, and one that
//! has none is equal to nothing and neither less nor more. `intent.x` is what was just heard, `heard.x`
//! what was heard at any time, `visited.x` a node passed, `arm.x.y` the arm `y` of experiment `x`. `no_match` and
//! `no_input` count how often that happened since the customer was last understood, `upset` how many turns in a
//! row were spoken in angry words.
//!
//! **Invariant:** names and types are checked when a guard is read, so evaluating one cannot fail; there
//! are no loops, calls or side effects.
//! **Invariant:** whether a guard can hold is decidable: [`solve`] says so.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::code::Code;
use crate::document::Type;

pub(crate) mod solve;

/// The longest guard that is read, in characters.
const MAX_CHARS: usize = 1_000;
/// The deepest nesting of parentheses and `not`.
const MAX_DEPTH: usize = 32;

/// Why a text is no guard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ExprError {
    /// What kind of mistake.
    pub(crate) code: Code,
    /// Where in the guard, in characters from 0.
    pub(crate) at: usize,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
}

/// What a guard may speak of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) vars: BTreeMap<String, (Type, Vec<String>)>,
    pub(crate) slots: BTreeMap<String, (Type, Vec<String>)>,
    pub(crate) intents: BTreeSet<String>,
    pub(crate) nodes: BTreeSet<String>,
    /// By experiment.
    pub(crate) arms: BTreeMap<String, BTreeSet<String>>,
}

/// Where a guard gets its values.
pub(crate) trait Facts {
    fn var(&self, name: &str) -> Option<&str>;
    fn slot(&self, name: &str) -> Option<&str>;
    fn intent(&self, name: &str) -> bool;
    fn heard(&self, name: &str) -> bool;
    fn visited(&self, node: &str) -> bool;
    fn arm(&self, experiment: &str, arm: &str) -> bool;
    fn counter(&self, counter: Counter) -> u32;
}

/// A number that the interpreter keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counter {
    NoMatch,
    NoInput,
    Upset,
    Turns,
    AnsweredSecs,
}

/// A guard that was read and checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Const(bool),
    Set(Source),
    Intent(String),
    Heard(String),
    Visited(String),
    /// An arm of an experiment.
    Arm(String, String),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Compare(Value, Op, Value),
}

/// A variable or a slot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Var(String),
    Slot(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Text(String),
    Counter(Counter),
    /// A variable or slot that is compared as a number.
    Decimal(Source),
    /// A variable or slot that is compared as text; days and times in ISO form sort as text.
    Words(Source),
}

impl Expr {
    /// Reads a guard and checks it against the names that it may use.
    pub(crate) fn parse(text: &str, names: &Names) -> Result<Self, ExprError> {
        let tokens = tokens(text)?;
        let mut parser = Parser { tokens, next: 0, names, depth: 0 };
        let term = parser.any()?;
        let expr = parser.truth(term)?;
        match parser.peek() {
            None => Ok(expr),
            Some(token) => Err(error(
                token.at,
                format!("`{}` does not belong here", token.kind.show()),
                "put `and` or `or` between two conditions",
            )),
        }
    }

    /// Says whether the guard holds.
    pub(crate) fn holds(&self, facts: &impl Facts) -> bool {
        match self {
            Self::Const(truth) => *truth,
            Self::Set(source) => lookup(source, facts).is_some_and(|value| !value.is_empty()),
            Self::Intent(name) => facts.intent(name),
            Self::Heard(name) => facts.heard(name),
            Self::Visited(node) => facts.visited(node),
            Self::Arm(experiment, arm) => facts.arm(experiment, arm),
            Self::Not(inner) => !inner.holds(facts),
            Self::And(parts) => parts.iter().all(|part| part.holds(facts)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(facts)),
            Self::Compare(left, op, right) => compare(left, *op, right, facts),
        }
    }

    /// Lists what the guard speaks of, as it is written: `var.x`, `heard.y`, `arm.x.y`.
    pub(crate) fn mentions(&self, out: &mut BTreeSet<String>) {
        let mut source = |source: &Source| {
            out.insert(match source {
                Source::Var(name) => format!("var.{name}"),
                Source::Slot(name) => format!("slot.{name}"),
            })
        };
        match self {
            Self::Set(value) => {
                source(value);
            }
            Self::Compare(left, _, right) => {
                for value in [left, right] {
                    if let Value::Decimal(value) | Value::Words(value) = value {
                        source(value);
                    }
                }
            }
            Self::Intent(name) | Self::Heard(name) => {
                out.insert(format!("intent.{name}"));
            }
            Self::Visited(node) => {
                out.insert(format!("visited.{node}"));
            }
            Self::Arm(experiment, arm) => {
                out.insert(format!("arm.{experiment}.{arm}"));
            }
            Self::Not(inner) => inner.mentions(out),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.mentions(out)),
            Self::Const(_) => {}
        }
    }

    /// Visits the names of `heard.x` and `visited.x`, which the state must remember.
    pub(crate) fn remembers(&self, heard: &mut BTreeSet<String>, visited: &mut BTreeSet<String>) {
        match self {
            Self::Heard(name) => {
                heard.insert(name.clone());
            }
            Self::Visited(node) => {
                visited.insert(node.clone());
            }
            Self::Not(inner) => inner.remembers(heard, visited),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|p| p.remembers(heard, visited)),
            Self::Const(_) | Self::Set(_) | Self::Intent(_) | Self::Arm(..) | Self::Compare(..) => {}
        }
    }
}

fn lookup<'f>(source: &Source, facts: &'f impl Facts) -> Option<&'f str> {
    match source {
        Source::Var(name) => facts.var(name),
        Source::Slot(name) => facts.slot(name),
    }
}

/// Reads the number in front of a currency or sign: `1280.50 CNY`, `12%`.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && *c == '-')))
        .map_or(text.len(), |(i, _)| i);
    text[..end].parse().ok()
}

fn compare(left: &Value, op: Op, right: &Value, facts: &impl Facts) -> bool {
    let number = |value: &Value| match value {
        Value::Number(n) => Some(*n),
        Value::Counter(counter) => Some(f64::from(facts.counter(*counter))),
        Value::Decimal(source) => lookup(source, facts).and_then(decimal),
        Value::Text(_) | Value::Words(_) => None,
    };
    let words = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        Value::Words(source) => lookup(source, facts).filter(|v| !v.is_empty()).map(str::to_owned),
        Value::Number(_) | Value::Counter(_) | Value::Decimal(_) => None,
    };
    let order = match (number(left), number(right)) {
        (Some(a), Some(b)) => a.partial_cmp(&b),
        _ => match (words(left), words(right)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => None,
        },
    };
    match (op, order) {
        (Op::Ne, None) => true,
        (Op::Eq | Op::Lt | Op::Le | Op::Gt | Op::Ge, None) => false,
        (Op::Eq, Some(order)) => order == Ordering::Equal,
        (Op::Ne, Some(order)) => order != Ordering::Equal,
        (Op::Lt, Some(order)) => order == Ordering::Less,
        (Op::Le, Some(order)) => order != Ordering::Greater,
        (Op::Gt, Some(order)) => order == Ordering::Greater,
        (Op::Ge, Some(order)) => order != Ordering::Less,
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Name(String),
    Number(f64),
    Text(String),
    Op(Op),
    Open,
    Close,
}

impl Kind {
    fn show(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Number(n) => n.to_string(),
            Self::Text(text) => format!("\"{text}\""),
            Self::Op(op) => match op {
                Op::Eq => "==",
                Op::Ne => "!=",
                Op::Lt => "<",
                Op::Le => "<=",
                Op::Gt => ">",
                Op::Ge => ">=",
            }
            .to_owned(),
            Self::Open => "(".to_owned(),
            Self::Close => ")".to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
struct Token {
    at: usize,
    kind: Kind,
}

fn error(at: usize, message: impl Into<String>, remedy: impl Into<String>) -> ExprError {
    coded(Code::BadGuard, at, message, remedy)
}

fn coded(code: Code, at: usize, message: impl Into<String>, remedy: impl Into<String>) -> ExprError {
    ExprError { code, at, message: message.into(), remedy: remedy.into() }
}

fn tokens(text: &str) -> Result<Vec<Token>, ExprError> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() > MAX_CHARS {
        return Err(error(
            MAX_CHARS,
            format!("a guard has at most {MAX_CHARS} characters"),
            "split it over branch nodes",
        ));
    }
    let mut out = Vec::new();
    let mut i = 0;
    while let Some(&c) = chars.get(i) {
        let at = i;
        let kind =
            match c {
                ' ' | '\t' | '\n' | '\r' => {
                    i += 1;
                    continue;
                }
                '(' => Kind::Open,
                ')' => Kind::Close,
                '"' | '\'' => {
                    let rest = &chars[i + 1..];
                    let Some(len) = rest.iter().position(|&d| d == c) else {
                        return Err(error(at, "a text is not closed", format!("end it with {c}")));
                    };
                    i += len + 1;
                    Kind::Text(rest[..len].iter().collect())
                }
                '=' | '!' | '<' | '>' => {
                    let two = chars.get(i + 1) == Some(&'=');
                    i += usize::from(two);
                    Kind::Op(match (c, two) {
                        ('=', true) => Op::Eq,
                        ('!', true) => Op::Ne,
                        ('<', true) => Op::Le,
                        ('>', true) => Op::Ge,
                        ('<', false) => Op::Lt,
                        ('>', false) => Op::Gt,
                        _ => {
                            return Err(error(
                                at,
                                format!("`{c}` is no comparison"),
                                "write ==, !=, <, <=, > or >=",
                            ));
                        }
                    })
                }
                '0'..='9' => {
                    let len = chars[i..].iter().take_while(|d| d.is_ascii_digit() || **d == '.').count();
                    let digits: String = chars[i..i + len].iter().collect();
                    i += len - 1;
                    Kind::Number(digits.parse().map_err(|_| {
                        error(at, format!("`{digits}` is no number"), "write it like 15 or 99.5")
                    })?)
                }
                c if c.is_alphabetic() || c == '_' => {
                    let len =
                        chars[i..].iter().take_while(|d| d.is_alphanumeric() || "_.-".contains(**d)).count();
                    i += len - 1;
                    Kind::Name(chars[at..at + len].iter().collect())
                }
                other => {
                    return Err(error(
                        at,
                        format!("`{other}` does not belong in a guard"),
                        "a guard is made of names, numbers, \"texts\", comparisons, and, or, not",
                    ));
                }
            };
        i += 1;
        out.push(Token { at, kind });
    }
    Ok(out)
}

/// What a term is, before it is known whether it is compared.
enum Term {
    Truth(Expr),
    Value { value: Value, type_: Type, values: Vec<String>, at: usize },
}

struct Parser<'n> {
    tokens: Vec<Token>,
    next: usize,
    names: &'n Names,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token { kind: Kind::Name(name), .. }) if name == word);
        self.next += usize::from(found);
        found
    }

    fn deeper(&mut self) -> Result<(), ExprError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let at = self.peek().map_or(0, |t| t.at);
            return Err(error(at, "the guard is nested too deeply", "split it over branch nodes"));
        }
        Ok(())
    }

    fn any(&mut self) -> Result<Term, ExprError> {
        let first = self.all()?;
        if !matches!(self.peek(), Some(Token { kind: Kind::Name(n), .. }) if n == "or") {
            return Ok(first);
        }
        let mut parts = vec![self.truth(first)?];
        while self.word("or") {
            let part = self.all()?;
            parts.push(self.truth(part)?);
        }
        Ok(Term::Truth(Expr::Or(parts)))
    }

    fn all(&mut self) -> Result<Term, ExprError> {
        let first = self.plain()?;
        if !matches!(self.peek(), Some(Token { kind: Kind::Name(n), .. }) if n == "and") {
            return Ok(first);
        }
        let mut parts = vec![self.truth(first)?];
        while self.word("and") {
            let part = self.plain()?;
            parts.push(self.truth(part)?);
        }
        Ok(Term::Truth(Expr::And(parts)))
    }

    fn plain(&mut self) -> Result<Term, ExprError> {
        if self.word("not") {
            self.deeper()?;
            let inner = self.plain()?;
            let inner = self.truth(inner)?;
            self.depth -= 1;
            return Ok(Term::Truth(Expr::Not(Box::new(inner))));
        }
        let left = self.term()?;
        let Some(Token { at, kind: Kind::Op(op) }) = self.peek().cloned() else { return Ok(left) };
        self.next += 1;
        let right = self.term()?;
        comparison(left, op, right, at).map(Term::Truth)
    }

    fn term(&mut self) -> Result<Term, ExprError> {
        let Some(token) = self.peek().cloned() else {
            let at = self.tokens.last().map_or(0, |t| t.at + 1);
            return Err(error(
                at,
                "the guard ends too early",
                "write a condition, such as slot.promise_date, or \"true\"",
            ));
        };
        self.next += 1;
        let at = token.at;
        match token.kind {
            Kind::Open => {
                self.deeper()?;
                let inner = self.any()?;
                self.depth -= 1;
                if !matches!(self.peek(), Some(Token { kind: Kind::Close, .. })) {
                    return Err(error(at, "a parenthesis is not closed", "end it with )"));
                }
                self.next += 1;
                Ok(inner)
            }
            Kind::Number(n) => Ok(value(Value::Number(n), Type::Number, at)),
            Kind::Text(text) => Ok(value(Value::Text(text), Type::Text, at)),
            Kind::Name(name) => self.name(&name, at),
            kind @ (Kind::Op(_) | Kind::Close) => {
                Err(error(at, format!("`{}` stands where a value is expected", kind.show()), "write a name"))
            }
        }
    }

    fn name(&self, name: &str, at: usize) -> Result<Term, ExprError> {
        let counter = |c| Ok(value(Value::Counter(c), Type::Number, at));
        match name {
            "true" => return Ok(Term::Truth(Expr::Const(true))),
            "false" => return Ok(Term::Truth(Expr::Const(false))),
            "no_match" => return counter(Counter::NoMatch),
            "no_input" => return counter(Counter::NoInput),
            "upset" => return counter(Counter::Upset),
            "turns" => return counter(Counter::Turns),
            "answered_s" => return counter(Counter::AnsweredSecs),
            _ => {}
        }
        let known = |code: Code, kind: &str, names: Vec<&String>, id: &str| {
            let list: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
            coded(code, at, format!("there is no {kind} `{id}`"), crate::lint::did_you_mean(id, &list))
        };
        match name.split_once('.') {
            Some(("var", id)) => match self.names.vars.get(id) {
                Some((type_, values)) => Ok(typed(Source::Var(id.to_owned()), *type_, values, at)),
                None => Err(known(Code::UnknownVariable, "variable", self.names.vars.keys().collect(), id)),
            },
            Some(("slot", id)) => match self.names.slots.get(id) {
                Some((type_, values)) => Ok(typed(Source::Slot(id.to_owned()), *type_, values, at)),
                None => Err(known(Code::UnknownSlot, "slot", self.names.slots.keys().collect(), id)),
            },
            Some((kind @ ("intent" | "heard"), id)) => {
                if !self.names.intents.contains(id) {
                    return Err(known(
                        Code::UnknownIntent,
                        "intent",
                        self.names.intents.iter().collect(),
                        id,
                    ));
                }
                let id = id.to_owned();
                Ok(Term::Truth(if kind == "intent" { Expr::Intent(id) } else { Expr::Heard(id) }))
            }
            Some(("visited", id)) if self.names.nodes.contains(id) => {
                Ok(Term::Truth(Expr::Visited(id.to_owned())))
            }
            Some(("visited", id)) => {
                Err(known(Code::UnknownNode, "node", self.names.nodes.iter().collect(), id))
            }
            Some(("arm", id)) => {
                let (experiment, arm) = id.split_once('.').unwrap_or((id, ""));
                let Some(arms) = self.names.arms.get(experiment) else {
                    let all = self.names.arms.keys().collect();
                    return Err(known(Code::UnknownArm, "experiment", all, experiment));
                };
                if !arms.contains(arm) {
                    return Err(known(Code::UnknownArm, "arm", arms.iter().collect(), arm));
                }
                Ok(Term::Truth(Expr::Arm(experiment.to_owned(), arm.to_owned())))
            }
            _ => Err(error(
                at,
                format!("`{name}` means nothing in a guard"),
                "use var.x, slot.x, intent.x, heard.x, visited.x, arm.x.y, no_match, no_input, upset, \
                 turns or answered_s",
            )),
        }
    }

    fn truth(&self, term: Term) -> Result<Expr, ExprError> {
        match term {
            Term::Truth(expr) => Ok(expr),
            Term::Value { value: Value::Decimal(source) | Value::Words(source), .. } => Ok(Expr::Set(source)),
            Term::Value { value: Value::Number(_) | Value::Counter(_), at, .. } => {
                Err(error(at, "a number is no condition", "compare it with something, such as no_match >= 2"))
            }
            Term::Value { value: Value::Text(_), at, .. } => Err(error(
                at,
                "a text is no condition",
                "compare it with something, such as slot.reason == \"late\"",
            )),
        }
    }
}

fn value(value: Value, type_: Type, at: usize) -> Term {
    Term::Value { value, type_, values: Vec::new(), at }
}

fn typed(source: Source, type_: Type, values: &[String], at: usize) -> Term {
    let value = match type_ {
        Type::Money | Type::Number => Value::Decimal(source),
        Type::Text | Type::Person | Type::Date | Type::Time | Type::Phone | Type::Id | Type::Enum => {
            Value::Words(source)
        }
    };
    Term::Value { value, type_, values: values.to_vec(), at }
}

fn comparison(left: Term, op: Op, right: Term, at: usize) -> Result<Expr, ExprError> {
    let (
        Term::Value { value: a, type_: ta, values: va, at: at_a },
        Term::Value { value: b, type_: tb, values: vb, at: at_b },
    ) = (left, right)
    else {
        return Err(coded(
            Code::WrongType,
            at,
            "a condition cannot be compared",
            "compare a variable, slot, counter, number or text; use and, or, not between conditions",
        ));
    };
    // A text literal takes the type of what it is compared with, and must be a value of it.
    let (a_is_literal, b_is_literal) = (matches!(a, Value::Text(_)), matches!(b, Value::Text(_)));
    let type_ = match (a_is_literal, b_is_literal) {
        (true, false) => tb,
        (false, true) => ta,
        (true, true) | (false, false) => ta,
    };
    for (literal, values, at) in [(&a, &vb, at_a), (&b, &va, at_b)] {
        if let Value::Text(text) = literal {
            check_literal(text, type_, values, at)?;
        }
    }
    let numeric = |t: Type| matches!(t, Type::Number | Type::Money);
    let literal = a_is_literal || b_is_literal;
    if !(literal || ta == tb || (numeric(ta) && numeric(tb))) {
        return Err(coded(
            Code::WrongType,
            at,
            format!("a {} cannot be compared with a {}", type_name(ta), type_name(tb)),
            "compare values of one type",
        ));
    }
    let ordered = matches!(type_, Type::Number | Type::Money | Type::Date | Type::Time);
    if !ordered && !matches!(op, Op::Eq | Op::Ne) {
        return Err(coded(
            Code::WrongType,
            at,
            format!("{} values have no order", type_name(type_)),
            "compare it with == or !=, or use a number, an amount, a date or a time",
        ));
    }
    Ok(Expr::Compare(a, op, b))
}

fn check_literal(text: &str, type_: Type, values: &[String], at: usize) -> Result<(), ExprError> {
    if type_ == Type::Enum && values.iter().all(|v| v != text) {
        return Err(coded(
            Code::WrongType,
            at,
            format!("\"{text}\" is not one of the values"),
            format!("use one of {}", values.join(", ")),
        ));
    }
    if matches!(type_, Type::Number | Type::Money) {
        let remedy = format!("write {text} without quotes");
        return Err(coded(Code::WrongType, at, "a number is written without quotes", remedy));
    }
    crate::vars::check(type_, values, text).map(|_| ()).map_err(|problem| {
        coded(Code::WrongType, at, format!("\"{text}\" is no {}", type_name(type_)), problem)
    })
}

/// Returns how a type is called in a file.
pub(crate) fn type_name(type_: Type) -> &'static str {
    match type_ {
        Type::Text => "text",
        Type::Person => "person",
        Type::Money => "money",
        Type::Date => "date",
        Type::Time => "time",
        Type::Number => "number",
        Type::Phone => "phone",
        Type::Id => "id",
        Type::Enum => "enum",
    }
}

#[cfg(test)]
mod tests;
