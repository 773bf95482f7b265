//! Whether a guard can hold at all, so that the linter can name cases that are never taken.
//!
//! A guard is brought into a list of alternatives, each a list of plain conditions; each alternative is
//! then tried against what a variable, slot or counter can be. The answer errs to one side only: "no" is
//! certain, and what is too large or compares two unknowns is taken to be possible.

use std::collections::{BTreeMap, BTreeSet};

use super::{Counter, Expr, Op, Source, Value};

/// The most alternatives that are looked at.
const MAX_ALTERNATIVES: usize = 500;

/// What is known of values without having them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Domain {
    /// Variables that have a value in every call.
    pub(crate) always_set: BTreeSet<String>,
    /// The values of enums, by name.
    pub(crate) var_values: BTreeMap<String, Vec<String>>,
    pub(crate) slot_values: BTreeMap<String, Vec<String>>,
}

/// Says whether some call could make the guard hold.
pub(crate) fn possible(expr: &Expr, domain: &Domain) -> bool {
    match alternatives(expr, true) {
        Some(all) => all.iter().any(|literals| fits(literals, domain)),
        None => true,
    }
}

/// Says whether every call makes the guard hold.
pub(crate) fn certain(expr: &Expr, domain: &Domain) -> bool {
    !possible(&Expr::Not(Box::new(expr.clone())), domain)
}

/// Says whether some call could make `expr` hold and none of `earlier`.
pub(crate) fn possible_after(expr: &Expr, earlier: &[&Expr], domain: &Domain) -> bool {
    let mut parts = vec![expr.clone()];
    parts.extend(earlier.iter().map(|e| Expr::Not(Box::new((*e).clone()))));
    possible(&Expr::And(parts), domain)
}

/// A condition without `and`, `or` and `not` in it, and whether it is to hold.
type Literal<'e> = (&'e Expr, bool);

fn alternatives(expr: &Expr, wanted: bool) -> Option<Vec<Vec<Literal<'_>>>> {
    match (expr, wanted) {
        (Expr::Const(truth), _) => Some(if *truth == wanted { vec![Vec::new()] } else { Vec::new() }),
        (Expr::Not(inner), _) => alternatives(inner, !wanted),
        (Expr::Or(parts), true) | (Expr::And(parts), false) => {
            let mut out = Vec::new();
            for part in parts {
                out.extend(alternatives(part, wanted)?);
                if out.len() > MAX_ALTERNATIVES {
                    return None;
                }
            }
            Some(out)
        }
        (Expr::And(parts), true) | (Expr::Or(parts), false) => {
            let mut out = vec![Vec::new()];
            for part in parts {
                let more = alternatives(part, wanted)?;
                if out.len().saturating_mul(more.len()) > MAX_ALTERNATIVES {
                    return None;
                }
                out = out
                    .iter()
                    .flat_map(|left| more.iter().map(move |right| [left.as_slice(), right].concat()))
                    .collect();
            }
            Some(out)
        }
        (
            Expr::Set(_)
            | Expr::Intent(_)
            | Expr::Heard(_)
            | Expr::Visited(_)
            | Expr::Arm(..)
            | Expr::Compare(..),
            _,
        ) => Some(vec![vec![(expr, wanted)]]),
    }
}

/// What one alternative asks of one variable or slot.
#[derive(Default)]
struct Wanted<'e> {
    set: Option<bool>,
    /// Must hold of its value, which it must have.
    strict: Vec<(Op, &'e Value)>,
    /// Must hold of its value, if it has one.
    loose: Vec<(Op, &'e Value)>,
}

fn fits(literals: &[Literal<'_>], domain: &Domain) -> bool {
    let mut sources: BTreeMap<&Source, Wanted<'_>> = BTreeMap::new();
    let mut counters: BTreeMap<Counter, Vec<(Op, f64)>> = BTreeMap::new();
    let mut plain: BTreeMap<String, bool> = BTreeMap::new();
    let (mut intent, mut arms): (Option<&str>, BTreeMap<&str, &str>) = (None, BTreeMap::new());
    for (expr, wanted) in literals {
        match expr {
            Expr::Set(source) => {
                let entry = sources.entry(source).or_default();
                if entry.set.is_some_and(|set| set != *wanted) {
                    return false;
                }
                entry.set = Some(*wanted);
            }
            // One thing is meant at a time, and a call has one arm of an experiment.
            Expr::Intent(name) if *wanted => {
                if intent.replace(name).is_some_and(|other| other != name) {
                    return false;
                }
            }
            Expr::Arm(experiment, arm) if *wanted => {
                if arms.insert(experiment, arm).is_some_and(|other| other != arm) {
                    return false;
                }
            }
            Expr::Compare(left, op, right) => {
                let (value, op, other) = match (left, right) {
                    (Value::Number(_) | Value::Text(_), _) => (right, flipped(*op), left),
                    _ => (left, *op, right),
                };
                let holds = if *wanted { op } else { opposite(op) };
                match (value, other) {
                    (Value::Counter(counter), Value::Number(n)) => {
                        counters.entry(*counter).or_default().push((holds, *n));
                    }
                    (Value::Decimal(source), Value::Number(_)) | (Value::Words(source), Value::Text(_)) => {
                        let entry = sources.entry(source).or_default();
                        // `!=` holds of what has no value, and so does the contrary of the others.
                        let loose = (op == Op::Ne) == *wanted;
                        if loose { &mut entry.loose } else { &mut entry.strict }.push((holds, other));
                    }
                    (Value::Number(a), Value::Number(b)) if !compares(a.partial_cmp(b), holds) => {
                        return false;
                    }
                    (Value::Text(a), Value::Text(b)) if !compares(Some(a.cmp(b)), holds) => return false,
                    _ => {}
                }
            }
            Expr::Intent(_)
            | Expr::Arm(..)
            | Expr::Heard(_)
            | Expr::Visited(_)
            | Expr::Const(_)
            | Expr::Not(_)
            | Expr::And(_)
            | Expr::Or(_) => {}
        }
        if let Expr::Intent(_) | Expr::Arm(..) | Expr::Heard(_) | Expr::Visited(_) = expr
            && plain.insert(format!("{expr:?}"), *wanted).is_some_and(|before| before != *wanted)
        {
            return false;
        }
    }
    counters.iter().all(|(_, wanted)| a_count(wanted))
        && sources.iter().all(|(source, wanted)| a_value(source, wanted, domain))
}

fn a_value(source: &Source, wanted: &Wanted<'_>, domain: &Domain) -> bool {
    let (always, values) = match source {
        Source::Var(name) => (domain.always_set.contains(name), domain.var_values.get(name)),
        Source::Slot(name) => (false, domain.slot_values.get(name)),
    };
    let may_be_unset = !always && wanted.set != Some(true) && wanted.strict.is_empty();
    if wanted.set == Some(false) {
        return may_be_unset;
    }
    let all: Vec<(Op, &Value)> = wanted.strict.iter().chain(&wanted.loose).copied().collect();
    let numbers: Vec<(Op, f64)> = all
        .iter()
        .filter_map(|(op, v)| if let Value::Number(n) = v { Some((*op, *n)) } else { None })
        .collect();
    let texts: Vec<(Op, &str)> = all
        .iter()
        .filter_map(|(op, v)| if let Value::Text(t) = v { Some((*op, t.as_str())) } else { None })
        .collect();
    may_be_unset || (a_number(&numbers) && a_text(&texts, values))
}

/// Says whether some number suits all of these.
fn a_number(wanted: &[(Op, f64)]) -> bool {
    // Only the named values, the gaps between them and the ends matter.
    let mut named: Vec<f64> = wanted.iter().map(|(_, n)| *n).collect();
    named.sort_by(f64::total_cmp);
    let between = named.windows(2).map(|pair| pair[0].midpoint(pair[1]));
    let ends = [named.first().map(|n| n - 1.0), named.last().map(|n| n + 1.0)];
    let suits = |n: f64| wanted.iter().all(|(op, other)| compares(n.partial_cmp(other), *op));
    wanted.is_empty() || named.iter().copied().chain(between).chain(ends.into_iter().flatten()).any(suits)
}

/// Says whether some whole number from 0 on suits all of these.
fn a_count(wanted: &[(Op, f64)]) -> bool {
    let near = |n: &f64| [n.floor() - 1.0, n.floor(), n.ceil(), n.ceil() + 1.0];
    let suits = |n: f64| n >= 0.0 && wanted.iter().all(|(op, other)| compares(n.partial_cmp(other), *op));
    wanted.iter().flat_map(|(_, n)| near(n)).chain([0.0]).any(suits)
}

/// Says whether some text, one of `values` where there are such, suits all of these.
fn a_text(wanted: &[(Op, &str)], values: Option<&Vec<String>>) -> bool {
    let suits = |text: &str| wanted.iter().all(|(op, other)| compares(Some(text.cmp(other)), *op));
    match values {
        Some(values) => values.iter().any(|value| suits(value)),
        None => {
            // The named texts, and one right behind each; nothing sorts before the empty text.
            let behind = |text: &&str| format!("{text}\u{1}");
            let named: Vec<&str> = wanted.iter().map(|(_, text)| *text).collect();
            named.is_empty()
                || named.iter().any(|text| suits(text))
                || named.iter().map(behind).any(|text| suits(&text))
                || suits("\u{1}")
        }
    }
}

fn compares(order: Option<std::cmp::Ordering>, op: Op) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match op {
        Op::Eq => order == Some(Equal),
        Op::Ne => order != Some(Equal),
        Op::Lt => order == Some(Less),
        Op::Le => matches!(order, Some(Less | Equal)),
        Op::Gt => order == Some(Greater),
        Op::Ge => matches!(order, Some(Greater | Equal)),
    }
}

fn flipped(op: Op) -> Op {
    match op {
        Op::Eq => Op::Eq,
        Op::Ne => Op::Ne,
        Op::Lt => Op::Gt,
        Op::Le => Op::Ge,
        Op::Gt => Op::Lt,
        Op::Ge => Op::Le,
    }
}

fn opposite(op: Op) -> Op {
    match op {
        Op::Eq => Op::Ne,
        Op::Ne => Op::Eq,
        Op::Lt => Op::Ge,
        Op::Le => Op::Gt,
        Op::Gt => Op::Le,
        Op::Ge => Op::Lt,
    }
}
