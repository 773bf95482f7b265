//! Dates, times, sums, numbers and the like, found in a turn and brought to one form.
//!
//! Readers for Mandarin and English propose candidates with a span in the text as it came; of
//! overlapping ones the longest stands. A bare quantity (`三千五`) is offered both as a number and,
//! less surely, as a sum of money: only the node knows which it asked for. Dates look forward, as
//! appointments and promises do. Nothing reads a clock: `now` is an argument.
//!
//! Absent on purpose: lunar dates, names of persons, and addresses.

mod calendar;
mod en;
mod en_number;
mod en_words;
mod person;
mod zh;
mod zh_number;
mod zh_words;

use std::fmt;
use std::ops::Range;

use jiff::civil::{Date, DateTime, Time};
use serde::{Serialize, Serializer};

use crate::locale::Locale;

/// What an entity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// A day.
    Date,
    /// A time of day.
    Time,
    /// A length of time.
    Duration,
    /// A sum of money.
    Money,
    /// A share in hundredths.
    Percent,
    /// A telephone number.
    Phone,
    /// A row of digits that is not counted with: an order number, the last four of a card.
    Digits,
    /// A quantity.
    Number,
    /// A person's name, with a title where one was said.
    Person,
    /// Yes or no at the head of the turn, with how firmly it is said.
    Agreement,
    /// A time that cannot be put on a calendar: after payday, some day next week.
    Vague,
}

impl EntityKind {
    /// Returns the name as scripts and records write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Time => "time",
            Self::Duration => "duration",
            Self::Money => "money",
            Self::Percent => "percent",
            Self::Phone => "phone",
            Self::Digits => "digits",
            Self::Number => "number",
            Self::Person => "person",
            Self::Agreement => "agreement",
            Self::Vague => "vague",
        }
    }

    /// Which reading of the same words is kept: the most particular one.
    const fn rank(self) -> u8 {
        match self {
            Self::Date => 0,
            Self::Time => 1,
            Self::Duration => 2,
            Self::Percent => 3,
            Self::Phone => 4,
            Self::Vague => 5,
            Self::Money => 6,
            Self::Digits => 7,
            Self::Number => 8,
            Self::Person => 9,
            Self::Agreement => 10,
        }
    }
}

/// A currency that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Currency {
    /// Renminbi yuan.
    Cny,
    /// United States dollar.
    Usd,
    /// Euro.
    Eur,
    /// Pound sterling.
    Gbp,
}

impl Currency {
    /// Returns the ISO 4217 code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Cny => "CNY",
            Self::Usd => "USD",
            Self::Eur => "EUR",
            Self::Gbp => "GBP",
        }
    }
}

/// A normalised value.
#[derive(Clone, Debug, PartialEq)]
pub enum EntityValue {
    /// A day.
    Date(Date),
    /// A time of day.
    Time(Time),
    /// A length of time.
    Duration {
        /// Its length; a month counts 30 days and a year 365.
        seconds: i64,
    },
    /// A sum of money.
    Money {
        /// Hundredths of the currency's unit: fen or cents.
        minor: i64,
        /// The currency, if it was named.
        currency: Option<Currency>,
    },
    /// A share in hundredths: 12.5 for 12.5 %.
    Percent(f64),
    /// A telephone number: digits only, a leading `+` kept.
    Phone(String),
    /// A row of digits.
    Digits(String),
    /// A quantity.
    Number(f64),
    /// A name as it was said.
    Person(String),
    /// Yes or no.
    Agreement {
        /// Yes.
        yes: bool,
        /// How firmly, from 0 to 1: `一定` is 1, `应该` is about a half.
        degree: f32,
    },
    /// The name of a vague time, such as `after_payday` or `next_week`.
    Vague(String),
}

impl EntityValue {
    /// Returns the one form in which scripts compare and records keep the value: `2026-11-27`,
    /// `15:00`, `3500.00 CNY`, `12.5%`, `13800138000`, `3500`, `yes`, seconds for a duration.
    #[must_use]
    pub fn normalised(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for EntityValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => write!(f, "{date}"),
            Self::Time(time) => write!(f, "{:02}:{:02}", time.hour(), time.minute()),
            Self::Duration { seconds } => write!(f, "{seconds}"),
            Self::Money { minor, currency } => {
                write!(f, "{}.{:02}", minor / 100, (minor % 100).abs())?;
                currency.map_or(Ok(()), |currency| write!(f, " {}", currency.code()))
            }
            Self::Percent(value) => write!(f, "{}%", round(*value)),
            Self::Number(value) => write!(f, "{}", round(*value)),
            Self::Phone(text) | Self::Digits(text) | Self::Vague(text) | Self::Person(text) => {
                f.write_str(text)
            }
            Self::Agreement { yes, .. } => f.write_str(if *yes { "yes" } else { "no" }),
        }
    }
}

/// Takes the noise of binary fractions off, so that 1.2 万 prints as 12000.
fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

impl Serialize for EntityValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something with a value in the text of a turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entity {
    /// What it is.
    pub kind: EntityKind,
    /// What it amounts to.
    pub value: EntityValue,
    /// Where it stands: bytes of the text as given.
    pub span: Range<usize>,
    /// The words themselves.
    pub text: String,
    /// How sure, from 0 to 1.
    pub confidence: f32,
}

/// Texts are read up to here; nobody says more in one turn.
const MAX_CHARS: usize = 1_000;

/// Returns the entities of a text, sorted by where they start. `now` is the customer's local time.
#[must_use]
pub fn extract(text: &str, locale: Locale, now: DateTime) -> Vec<Entity> {
    let end = text.char_indices().nth(MAX_CHARS).map_or(text.len(), |(at, _)| at);
    let text = &text[..end];
    let mut candidates = match locale {
        Locale::Zh => zh::candidates(text, now),
        Locale::En => en::candidates(text, now),
    };
    candidates.sort_by(|a, b| {
        (b.span.len().cmp(&a.span.len()))
            .then(a.value.kind().rank().cmp(&b.value.kind().rank()))
            .then(b.confidence.total_cmp(&a.confidence))
            .then(a.span.start.cmp(&b.span.start))
    });
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.iter().all(|other| other.tolerates(&candidate)) {
            kept.push(candidate);
        }
    }
    kept.sort_by(|a, b| a.span.start.cmp(&b.span.start).then(b.confidence.total_cmp(&a.confidence)));
    kept.into_iter()
        .map(|candidate| Entity {
            kind: candidate.value.kind(),
            text: text[candidate.span.clone()].to_owned(),
            value: candidate.value,
            span: candidate.span,
            confidence: candidate.confidence,
        })
        .collect()
}

impl EntityValue {
    const fn kind(&self) -> EntityKind {
        match self {
            Self::Date(_) => EntityKind::Date,
            Self::Time(_) => EntityKind::Time,
            Self::Duration { .. } => EntityKind::Duration,
            Self::Money { .. } => EntityKind::Money,
            Self::Percent(_) => EntityKind::Percent,
            Self::Phone(_) => EntityKind::Phone,
            Self::Digits(_) => EntityKind::Digits,
            Self::Number(_) => EntityKind::Number,
            Self::Person(_) => EntityKind::Person,
            Self::Agreement { .. } => EntityKind::Agreement,
            Self::Vague(_) => EntityKind::Vague,
        }
    }
}

/// What a reader proposes.
#[derive(Clone, Debug)]
struct Candidate {
    value: EntityValue,
    span: Range<usize>,
    confidence: f32,
}

impl Candidate {
    /// Whether both can stand: they lie apart, or are readings of one quantity.
    fn tolerates(&self, other: &Self) -> bool {
        let apart = self.span.end <= other.span.start || other.span.end <= self.span.start;
        let quantity =
            |kind: EntityKind| matches!(kind, EntityKind::Number | EntityKind::Money | EntityKind::Digits);
        let (mine, theirs) = (self.value.kind(), other.value.kind());
        let one_quantity = self.span == other.span && mine != theirs && quantity(mine) && quantity(theirs);
        let aside = mine == EntityKind::Agreement || theirs == EntityKind::Agreement;
        apart || one_quantity || (aside && mine != theirs)
    }
}

/// The largest sum that is believed: beyond it the recogniser has misheard.
const MAX_MINOR: f64 = 1e15;

/// A sum in hundredths, if it is believable.
fn money(units: f64, currency: Option<Currency>) -> Option<EntityValue> {
    let minor = (units * 100.0).round();
    (0.0..=MAX_MINOR).contains(&minor).then_some(EntityValue::Money { minor: minor as i64, currency })
}

/// Whether a row of digits is a telephone number that can be dialled in China or North America.
fn is_phone(digits: &str) -> bool {
    let bytes = digits.as_bytes();
    match bytes {
        [b'1', b'3'..=b'9', ..] if bytes.len() == 11 => true,
        [b'1', b'2'..=b'9', ..] if bytes.len() == 11 => true,
        [b'0', ..] => (10..=12).contains(&bytes.len()),
        [b'4' | b'8', b'0', b'0', ..] => bytes.len() == 10,
        [b'2'..=b'9', ..] => bytes.len() == 10,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
