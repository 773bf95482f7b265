//! The English reader: at each word, every kind of entity that may start there.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time, Weekday};

use super::calendar;
use super::en_number::{Token, digit_row, number, ordinal, tokens};
use super::en_words::{ANSWERS, MONTHS, SHORT_MONTHS, VAGUE, WEEKDAYS};
use super::{Candidate, Currency, EntityValue, is_phone, money, person};

/// Proposes everything that may be an entity.
pub(super) fn candidates(text: &str, now: DateTime) -> Vec<Candidate> {
    let reader = Reader { tokens: tokens(text), now };
    let mut found = Vec::new();
    let mut at = 0;
    while at < reader.tokens.len() {
        let readings = [
            reader.relative_day(at),
            reader.weekday(at),
            reader.period_end(at),
            reader.calendar_date(at),
            reader.later(at),
            reader.vague(at),
            reader.clock(at),
            reader.duration(at),
            reader.money(at),
            reader.percent(at),
            reader.digits(at),
        ];
        for reading in readings.into_iter().flatten() {
            found.push(reader.candidate(at, reading));
        }
        at = reader.quantity(at, &mut found).unwrap_or(at + 1);
    }
    found.extend(person::english(text, &reader.tokens));
    found.extend(reader.agreement().map(|(from, reading)| reader.candidate(from, reading)));
    found
}

/// A value, the token after it, and how sure it is.
type Reading = (EntityValue, usize, f32);

struct Reader {
    tokens: Vec<Token>,
    now: DateTime,
}

impl Reader {
    fn candidate(&self, from: usize, (value, end, confidence): Reading) -> Candidate {
        let last = end.saturating_sub(1).max(from);
        Candidate { value, span: self.tokens[from].span.start..self.tokens[last].span.end, confidence }
    }

    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// Whether these words stand at `at`; returns the token after them.
    fn phrase(&self, at: usize, phrase: &str) -> Option<usize> {
        let mut end = at;
        for word in phrase.split(' ') {
            if self.word(end) != word {
                return None;
            }
            end += 1;
        }
        Some(end)
    }

    fn any(&self, at: usize, phrases: &[&str]) -> Option<usize> {
        phrases.iter().find_map(|phrase| self.phrase(at, phrase))
    }

    fn today(&self) -> Date {
        self.now.date()
    }

    fn relative_day(&self, at: usize) -> Option<Reading> {
        let table = [
            ("the day after tomorrow", 2),
            ("day after tomorrow", 2),
            ("the day before yesterday", -2),
            ("tomorrow", 1),
            ("today", 0),
            ("tonight", 0),
            ("this morning", 0),
            ("this afternoon", 0),
            ("this evening", 0),
            ("yesterday", -1),
            ("a week from today", 7),
            ("a week from tomorrow", 8),
            ("two weeks from today", 14),
        ];
        let (end, days) = table.iter().find_map(|(phrase, days)| Some((self.phrase(at, phrase)?, *days)))?;
        let date = calendar::days_ahead(self.today(), days)?;
        Some((EntityValue::Date(date), end, 0.95))
    }

    /// `Friday`, `this Friday`, `next Friday`, `Friday week`, `next week`.
    fn weekday(&self, at: usize) -> Option<Reading> {
        let (which, from) = match self.word(at) {
            "next" => (Some(1), at + 1),
            "this" | "coming" => (Some(0), at + 1),
            "last" => (Some(-1), at + 1),
            _ => (None, at),
        };
        // `this coming Friday`
        let from = from + usize::from(which.is_some() && self.word(from) == "coming");
        let known = WEEKDAYS.iter().find(|(name, _)| *name == self.word(from));
        let Some((name, weekday)) = known else {
            let vague = match (which?, self.word(from)) {
                (1, "week") => "next_week",
                (0, "week") => "this_week",
                (1, "month") => "next_month",
                (0, "month") => "this_month",
                _ => return None,
            };
            // `next week Tuesday`, `next week on Tuesday`
            let day = from + 1 + usize::from(self.word(from + 1) == "on");
            let later = WEEKDAYS.iter().find(|(name, _)| *name == self.word(day));
            if let Some((_, weekday)) = later.filter(|_| vague.ends_with("week")) {
                let date = calendar::in_week(self.today(), i64::from(vague == "next_week"), *weekday)?;
                return Some((EntityValue::Date(date), day + 1, 0.9));
            }
            return Some((EntityValue::Vague(vague.to_owned()), from + 1, 0.7));
        };
        let today = self.today();
        let end = from + 1;
        let (date, end, sure) = match which {
            Some(weeks @ (1 | -1)) => (calendar::in_week(today, weeks, *weekday)?, end, 0.75),
            _ => {
                let date = calendar::coming(today, *weekday)?;
                match self.any(end, &["next week"]) {
                    Some(end) => (calendar::in_week(today, 1, *weekday)?, end, 0.9),
                    None if self.word(end) == "week" && *name != "weekend" => {
                        (calendar::days_ahead(date, 7)?, end + 1, 0.8)
                    }
                    None => (date, end, if *name == "weekend" { 0.7 } else { 0.9 }),
                }
            }
        };
        // `sun` and `sat` are left out of the table, `wed` and the like must not be verbs.
        let short = name.len() <= 5 && !name.ends_with("day") && which.is_none();
        Some((EntityValue::Date(date), end, if short { sure * 0.7 } else { sure }))
    }

    /// `the end of the month`, `end of next month`, `month end`, `the end of the week`.
    fn period_end(&self, at: usize) -> Option<Reading> {
        let from = at + usize::from(self.word(at) == "the");
        let today = self.today();
        if let Some(end) = self.any(from, &["month end", "month's end", "months end"]) {
            return Some((EntityValue::Date(calendar::end_of_month(today, 0)?), end, 0.85));
        }
        let of = self.any(from, &["end of", "beginning of", "start of", "middle of"])?;
        let edge = self.word(from).to_owned();
        let (ahead, unit) = match self.word(of) {
            "the" | "this" => (0, of + 1),
            "next" => (1, of + 1),
            _ => (0, of),
        };
        let unit_at = unit + usize::from(self.word(unit) == "next" || self.word(unit) == "coming");
        let ahead = if self.word(unit) == "next" { 1 } else { ahead };
        let date = match (self.word(unit_at), edge.as_str()) {
            ("month", "end") => calendar::end_of_month(today, ahead)?,
            ("month", "middle") => calendar::day_of_month(today, ahead, 15)?,
            ("month", _) => calendar::day_of_month(today, ahead.max(1), 1)?,
            ("week", "end") => calendar::in_week(today, ahead, Weekday::Friday)?,
            ("week", "middle") => calendar::in_week(today, ahead, Weekday::Wednesday)?,
            ("week", _) => calendar::in_week(today, ahead.max(1), Weekday::Monday)?,
            ("year", "end") => Date::new(today.year() + i16::try_from(ahead).ok()?, 12, 31).ok()?,
            _ => return None,
        };
        Some((EntityValue::Date(date), unit_at + 1, 0.8))
    }

    fn month(&self, at: usize) -> Option<i8> {
        let word = self.word(at);
        let long = MONTHS.iter().position(|month| *month == word);
        long.and_then(|n| i8::try_from(n + 1).ok())
            .or_else(|| SHORT_MONTHS.iter().find(|(m, _)| *m == word).map(|(_, n)| *n))
    }

    /// A day of the month after a month's name: `20`, `20th`, `the twentieth`, `twenty`.
    fn day(&self, at: usize) -> Option<(i8, usize)> {
        let from = at + usize::from(self.word(at) == "the");
        ordinal(&self.tokens, from).or_else(|| {
            let number = number(&self.tokens, from)?;
            Some((whole(number.value, 1, 31)?, number.end))
        })
    }

    /// `the 15th`, `the 20th of March`, `March 20th, 2027`, `20 March`, `2026-03-05`, `3/5`.
    fn calendar_date(&self, at: usize) -> Option<Reading> {
        let today = self.today();
        if let Some(month) = self.month(at) {
            // `may` is mostly a verb.
            let (day, end) = self.day(at + 1)?;
            let (date, end) = self.with_year(month, day, end)?;
            return Some((EntityValue::Date(date), end, 0.95));
        }
        let from = at + usize::from(self.word(at) == "the");
        if let Some((day, end)) = ordinal(&self.tokens, from) {
            let after_of = end + usize::from(self.word(end) == "of");
            if let Some(month) = self.month(after_of) {
                let (date, end) = self.with_year(month, day, after_of + 1)?;
                return Some((EntityValue::Date(date), end, 0.95));
            }
            if let Some(end) = self.any(end, &["of next month"]) {
                let date = calendar::day_of_month(today, 1, day)?;
                return Some((EntityValue::Date(date), end, 0.95));
            }
            if let Some(end) = self.any(end, &["of this month", "of the month"]) {
                let date = calendar::coming_day(today, day)?;
                return Some((EntityValue::Date(date), end, 0.9));
            }
            // `first` and `second` alone are seldom days: the article or a preposition must lead.
            let led = from > at
                || (at > 0
                    && matches!(
                        self.word(at - 1),
                        "on" | "by" | "before" | "until" | "till" | "after" | "around"
                    ));
            let other = matches!(
                self.word(end),
                "time"
                    | "one"
                    | "floor"
                    | "street"
                    | "avenue"
                    | "thing"
                    | "person"
                    | "option"
                    | "payment"
                    | "instalment"
                    | "installment"
                    | "half"
                    | "part"
                    | "day"
                    | "week"
            );
            if !led || other {
                return None;
            }
            let date = calendar::coming_day(today, day)?;
            let sure = if day > 4 { 0.85 } else { 0.7 };
            return Some((EntityValue::Date(date), end, sure));
        }
        let first = number(&self.tokens, at)?;
        let day = whole::<i8>(first.value, 1, 31);
        if let (Some(month), Some(day), Some(_)) = (self.month(first.end), day, &first.digits) {
            let (date, end) = self.with_year(month, day, first.end + 1)?;
            return Some((EntityValue::Date(date), end, 0.95));
        }
        self.written_date(at)
    }

    /// `2026-03-05` (the hyphens are gaps between touching tokens) and `12/25/2026`.
    fn written_date(&self, at: usize) -> Option<Reading> {
        let parse = |at: usize| self.word(at).parse::<i16>().ok();
        let touch = |a: usize, b: usize, gap: usize| {
            matches!((self.tokens.get(a), self.tokens.get(b)),
                (Some(a), Some(b)) if b.span.start == a.span.end + gap)
        };
        let day = |value: i16| i8::try_from(value).ok();
        if self.word(at).len() == 4 && touch(at, at + 1, 1) && touch(at + 1, at + 2, 1) {
            let (year, month, d) = (parse(at)?, parse(at + 1)?, parse(at + 2)?);
            let date = Date::new(year, day(month)?, day(d)?).ok()?;
            return Some((EntityValue::Date(date), at + 3, 0.9));
        }
        if self.word(at + 1) == "/" && touch(at, at + 1, 0) {
            let (month, d) = (day(parse(at)?)?, day(parse(at + 2)?)?);
            let (date, end) = match (self.word(at + 3), parse(at + 4)) {
                ("/", Some(year)) => {
                    let year = if year < 100 { 2_000 + year } else { year };
                    (Date::new(year, month, d).ok()?, at + 5)
                }
                _ => (calendar::coming_date(self.today(), month, d)?, at + 3),
            };
            return Some((EntityValue::Date(date), end, 0.8));
        }
        None
    }

    fn with_year(&self, month: i8, day: i8, at: usize) -> Option<(Date, usize)> {
        let year = self.word(at).parse::<i16>().ok();
        if let Some(year) = year.filter(|year| (2_000..2_200).contains(year)) {
            return Some((Date::new(year, month, day).ok()?, at + 1));
        }
        Some((calendar::coming_date(self.today(), month, day)?, at))
    }

    /// A count and a unit of time.
    fn counted(&self, at: usize) -> Option<(f64, i64, usize)> {
        let (count, end) = if let Some(end) = self.any(at, &["half an", "half a"]) {
            (0.5, end)
        } else if let Some(end) = self.any(at, &["a couple of", "a couple", "couple of"]) {
            (2.0, end)
        } else if matches!(self.word(at), "a" | "an") {
            (1.0, at + 1)
        } else {
            let number = number(&self.tokens, at)?;
            (number.value, number.end)
        };
        let (count, end) = match self.any(end, &["and a half"]) {
            Some(end) => (count + 0.5, end),
            None => (count, end),
        };
        let seconds = match self.word(end).trim_end_matches('s') {
            "second" | "sec" => 1,
            "minute" | "min" => 60,
            "hour" | "hr" => 3_600,
            "day" => 86_400,
            "week" => 604_800,
            "fortnight" => 1_209_600,
            "month" => 2_592_000,
            "year" => 31_536_000,
            _ => return None,
        };
        let (count, end) = match self.any(end + 1, &["and a half"]) {
            Some(end) => (count + 0.5, end),
            None => (count, end + 1),
        };
        (count <= 100_000.0).then_some((count, seconds, end))
    }

    /// `in three days`, `two weeks from now`, `within a month`.
    fn later(&self, at: usize) -> Option<Reading> {
        let led = self.any(at, &["in about", "within the next", "in the next", "in", "within", "after"]);
        let (count, unit, end) = self.counted(led.unwrap_or(at))?;
        let trailing = self.any(end, &["from now", "from today", "later", "time"]);
        if led.is_none() && trailing.is_none() {
            return None;
        }
        let end = trailing.unwrap_or(end);
        let today = self.today();
        let date = match unit {
            1 | 60 | 3_600 => {
                let seconds = ((count * unit as f64) as i64).min(86_400 * 7);
                let then = self.now.checked_add(seconds.seconds()).ok()?;
                return Some((EntityValue::Time(then.time()), end, 0.8));
            }
            2_592_000 => calendar::months_ahead(today, count as i64)?,
            31_536_000 => calendar::months_ahead(today, (count * 12.0) as i64)?,
            days => calendar::days_ahead(today, (count * (days / 86_400) as f64) as i64)?,
        };
        Some((EntityValue::Date(date), end, 0.85))
    }

    fn duration(&self, at: usize) -> Option<Reading> {
        let (count, unit, end) = self.counted(at)?;
        let seconds = (count * unit as f64) as i64;
        // `a second` is a request to wait as often as a length of time.
        let sure = if matches!(self.word(at), "a" | "an") { 0.6 } else { 0.85 };
        Some((EntityValue::Duration { seconds }, end, sure))
    }

    fn vague(&self, at: usize) -> Option<Reading> {
        let (end, name) = VAGUE
            .iter()
            .find_map(|(phrase, name)| Some((self.phrase(at, phrase)?, *name)))
            .or_else(|| {
                let name = match self.word(at) {
                    "morning" => "morning",
                    "afternoon" => "afternoon",
                    "evening" => "evening",
                    _ => return None,
                };
                Some((at + 1, name))
            })?;
        Some((EntityValue::Vague(name.to_owned()), end, 0.6))
    }

    /// `three pm`, `3:30`, `half past three`, `quarter to five`, `noon`, `at three`.
    fn clock(&self, at: usize) -> Option<Reading> {
        if let Some(hour) = match self.word(at) {
            "noon" | "midday" => Some(12),
            "midnight" => Some(0),
            _ => None,
        } {
            return Some((EntityValue::Time(Time::new(hour, 0, 0, 0).ok()?), at + 1, 0.9));
        }
        let (hour, minute, end, marked) = self.hour_and_minute(at)?;
        let half = self.half_day(end);
        let (hour, end, sure) = match half {
            Some((half, end)) if hour <= 12 => (hour % 12 + 12 * i8::from(half == Half::Pm), end, 0.95),
            _ if !marked => return None,
            _ if hour > 12 => (hour, end, 0.9),
            // Nobody makes an appointment for three at night.
            _ if (1..=6).contains(&hour) => (hour + 12, end, 0.65),
            _ => (hour, end, 0.75),
        };
        let time = Time::new(hour % 24, minute, 0, 0).ok()?;
        Some((EntityValue::Time(time), end, sure))
    }

    /// The hour, the minute, the token after, and whether the words can only be a time.
    fn hour_and_minute(&self, at: usize) -> Option<(i8, i8, usize, bool)> {
        let past = |from: usize, minutes: i8| -> Option<(i8, i8, usize, bool)> {
            let to = self.word(from).to_owned();
            let hour = number(&self.tokens, from + 1)?;
            let value: i8 = whole(hour.value, 1, 12)?;
            match to.as_str() {
                "past" | "after" => Some((value, minutes, hour.end, true)),
                "to" | "before" | "till" | "of" if minutes > 0 => {
                    Some(((value + 10) % 12 + 1, 60 - minutes, hour.end, true))
                }
                _ => None,
            }
        };
        if self.word(at) == "half" {
            return past(at + 1, 30).filter(|_| self.word(at + 1) == "past");
        }
        if let Some(from) = self.any(at, &["a quarter", "quarter"]) {
            return past(from, 15);
        }
        let first = number(&self.tokens, at)?;
        if let Some(minutes) = whole::<i8>(first.value, 1, 29) {
            let from = first.end + usize::from(matches!(self.word(first.end), "minutes"));
            if matches!(self.word(from), "past" | "to")
                && number(&self.tokens, from + 1).is_some_and(|n| n.value <= 12.0)
                && (minutes % 5 == 0 || from > first.end)
                && let Some(found) = past(from, minutes)
            {
                return Some(found);
            }
        }
        let hour: i8 = whole(first.value, 0, 24)?;
        if first.unit {
            return None;
        }
        if self.word(first.end) == ":" {
            let minute = number(&self.tokens, first.end + 1)?;
            return Some((hour, whole(minute.value, 0, 59)?, minute.end, true));
        }
        if self.any(first.end, &["o'clock"]).is_some() {
            return Some((hour, 0, first.end + 1, true));
        }
        // `three thirty`, `ten oh five`
        if (1..=12).contains(&hour) && first.digits.is_none() {
            let oh = matches!(self.word(first.end), "oh" | "o");
            let minute = number(&self.tokens, first.end + usize::from(oh));
            if let Some(minute) = minute.filter(|m| !m.unit && m.digits.is_none()) {
                let fits = if oh { 1..=9 } else { 10..=59 };
                let led = at > 0
                    && matches!(
                        self.word(at - 1),
                        "at" | "by" | "around" | "about" | "before" | "after" | "until" | "till"
                    );
                let halved = self.half_day(minute.end).is_some();
                if fits.contains(&(minute.value as i64)) && (led || halved || minute.value as i64 % 15 == 0) {
                    return Some((hour, whole(minute.value, 0, 59)?, minute.end, led || halved));
                }
            }
        }
        let led = at > 0
            && matches!(self.word(at - 1), "at" | "around" | "until" | "till" | "by" | "after" | "before")
            && (1..=12).contains(&hour)
            && self.counted(at).is_none()
            && !matches!(self.word(first.end), "dollars" | "percent" | "%" | "bucks" | "pounds" | "yuan");
        Some((hour, 0, first.end, led))
    }

    fn half_day(&self, at: usize) -> Option<(Half, usize)> {
        match self.word(at) {
            "am" => return Some((Half::Am, at + 1)),
            "pm" => return Some((Half::Pm, at + 1)),
            "tonight" => return Some((Half::Pm, at)),
            _ => {}
        }
        let table = [
            ("o'clock in the morning", Half::Am),
            ("o'clock in the afternoon", Half::Pm),
            ("o'clock in the evening", Half::Pm),
            ("o'clock am", Half::Am),
            ("o'clock pm", Half::Pm),
            ("in the morning", Half::Am),
            ("in the afternoon", Half::Pm),
            ("in the evening", Half::Pm),
            ("at night", Half::Pm),
        ];
        table.iter().find_map(|(phrase, half)| Some((*half, self.phrase(at, phrase)?)))
    }

    /// `two hundred bucks`, `$35.50`, `thirty five dollars and fifty cents`, `fifty cents`.
    fn money(&self, at: usize) -> Option<Reading> {
        let sign = match self.word(at) {
            "$" => Some(Currency::Usd),
            "£" => Some(Currency::Gbp),
            "€" => Some(Currency::Eur),
            _ => None,
        };
        if let Some(currency) = sign {
            let number = number(&self.tokens, at + 1)?;
            return Some((money(number.value, Some(currency))?, number.end, 0.98));
        }
        let number = number(&self.tokens, at)?;
        if self.word(number.end - 1) == "grand" {
            return Some((money(number.value, None)?, number.end, 0.85));
        }
        let (unit, currency) = match self.word(number.end) {
            "dollars" | "dollar" | "bucks" | "buck" | "usd" => (1.0, Currency::Usd),
            "cents" | "cent" => (0.01, Currency::Usd),
            "yuan" | "rmb" | "renminbi" | "cny" | "kuai" => (1.0, Currency::Cny),
            "euros" | "euro" | "eur" => (1.0, Currency::Eur),
            "pounds" | "pound" | "quid" | "gbp" => (1.0, Currency::Gbp),
            "pence" => (0.01, Currency::Gbp),
            _ => return None,
        };
        let mut value = number.value * unit;
        let mut end = number.end + 1;
        if unit == 1.0 {
            // `and fifty cents`, `fifty`
            let from = end + usize::from(self.word(end) == "and");
            if let Some(cents) = self::number(&self.tokens, from)
                && let Some(cents_value) = whole::<i8>(cents.value, 1, 99)
            {
                let named = matches!(self.word(cents.end), "cents" | "cent" | "pence" | "p");
                let last = cents.end >= self.tokens.len();
                if named || (last && from == end && cents_value >= 10) {
                    value += f64::from(cents_value) / 100.0;
                    end = cents.end + usize::from(named);
                }
            }
        }
        Some((money(value, Some(currency))?, end, 0.95))
    }

    fn percent(&self, at: usize) -> Option<Reading> {
        let number = number(&self.tokens, at)?;
        let end = self.any(number.end, &["%", "percent", "per cent"])?;
        Some((EntityValue::Percent(number.value), end, 0.95))
    }

    /// A row of digits: a telephone number, or some other one.
    fn digits(&self, at: usize) -> Option<Reading> {
        let (digits, end) = digit_row(&self.tokens, at)?;
        let counted = matches!(
            self.word(end),
            "dollars"
                | "bucks"
                | "percent"
                | "%"
                | "hundred"
                | "thousand"
                | "million"
                | "days"
                | ":"
                | "/"
                | "yuan"
                | "euros"
                | "pounds"
                | "k"
                | "am"
                | "pm"
                | "cents"
        );
        if counted || (at > 0 && matches!(self.word(at - 1), "$" | "£" | "€" | ":" | "/")) {
            return None;
        }
        let plain = digits.trim_start_matches('+');
        let international = digits.starts_with('+') && (8..=15).contains(&plain.len());
        if international || is_phone(plain) {
            return Some((EntityValue::Phone(digits), end, 0.95));
        }
        if plain.len() == 7 && end > at + 1 {
            return Some((EntityValue::Phone(digits), end, 0.6));
        }
        (plain.len() >= 4 || (plain.len() >= 3 && end > at + 2))
            .then(|| (EntityValue::Digits(plain.to_owned()), end, 0.8))
    }

    /// A bare quantity, as a number and, if it may be one, as a sum. Returns the token after it.
    fn quantity(&self, at: usize, found: &mut Vec<Candidate>) -> Option<usize> {
        let number = number(&self.tokens, at)?;
        // `one` is mostly a pronoun.
        let pronoun = self.word(at) == "one"
            && number.end == at + 1
            && (at > 0
                && matches!(
                    self.word(at - 1),
                    "this" | "that" | "the" | "which" | "no" | "any" | "another" | "good"
                )
                || matches!(self.word(at + 1), "of" | "more" | "moment" | "second" | "sec" | "minute"));
        if pronoun {
            return Some(number.end);
        }
        let value = EntityValue::Number(number.value);
        found.push(self.candidate(at, (value, number.end, 0.7)));
        let sum_like = number.unit || number.value >= 10.0 || number.value.fract() != 0.0;
        if sum_like && let Some(sum) = money(number.value, None) {
            let sure = if number.value >= 100.0 { 0.6 } else { 0.4 };
            found.push(self.candidate(at, (sum, number.end, sure)));
        }
        Some(number.end)
    }

    /// Yes or no at the head of the turn.
    fn agreement(&self) -> Option<(usize, Reading)> {
        const SKIP: [&str; 11] = ["um", "uh", "er", "well", "oh", "so", "hmm", "ah", "mm", "hello", "hi"];
        let mut from = 0;
        while SKIP.contains(&self.word(from)) {
            from += 1;
        }
        let (yes, degree, end) = ANSWERS
            .iter()
            .find_map(|(phrase, yes, degree)| Some((*yes, *degree, self.phrase(from, phrase)?)))?;
        // `no one`, `no idea` and `sure about that?` answer nothing.
        let misread = matches!(
            (self.word(end - 1), self.word(end)),
            ("no", "one" | "idea" | "problem" | "matter" | "worries" | "more") | ("sure", "about")
        );
        (!misread).then_some((from, (EntityValue::Agreement { yes, degree }, end, 0.85)))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Half {
    Am,
    Pm,
}

/// A whole number within bounds.
fn whole<T: TryFrom<i64>>(value: f64, least: i64, most: i64) -> Option<T> {
    let fits = value.fract() == 0.0 && value >= least as f64 && value <= most as f64;
    fits.then(|| T::try_from(value as i64).ok()).flatten()
}
