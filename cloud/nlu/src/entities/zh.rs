//! The Mandarin reader: at each character, every kind of entity that may start there.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Time, Weekday};

use super::calendar;
use super::zh_number::{Chars, decimal, digit, number};
use super::zh_words::{ANSWERS, DAYS, HEDGES, MARKS, PARTS, Part, UNITS, Unit, VAGUE, WEEK, WEEKDAYS, WHICH};
use super::{Candidate, Currency, EntityValue, is_phone, money, person};

/// Proposes everything that may be an entity.
pub(super) fn candidates(text: &str, now: DateTime) -> Vec<Candidate> {
    let reader = Reader { text: Chars::new(text), now };
    let mut found = Vec::new();
    let mut at = 0;
    while at < reader.text.chars.len() {
        let readings = [
            reader.relative_day(at),
            reader.weekday(at),
            reader.month_edge(at),
            reader.calendar_date(at),
            reader.later(at),
            reader.vague(at),
            reader.clock(at),
            reader.duration(at),
            reader.money(at),
            reader.percent(at),
            reader.digit_row(at),
        ];
        for reading in readings.into_iter().flatten() {
            found.push(reader.candidate(at, reading));
        }
        at = reader.quantity(at, &mut found).unwrap_or(at) + 1;
    }
    found.extend(person::mandarin(&reader.text));
    found.extend(reader.agreement().map(|(from, reading)| reader.candidate(from, reading)));
    found
}

/// A value, where it ends, and how sure it is.
type Reading = (EntityValue, usize, f32);

struct Reader {
    text: Chars,
    now: DateTime,
}

impl Reader {
    fn candidate(&self, from: usize, (value, end, confidence): Reading) -> Candidate {
        Candidate { value, span: self.text.span(from, end), confidence }
    }

    fn today(&self) -> Date {
        self.now.date()
    }

    fn relative_day(&self, at: usize) -> Option<Reading> {
        let (days, end) = self.text.lookup(at, &DAYS)?;
        let date = calendar::days_ahead(self.today(), days)?;
        Some((EntityValue::Date(date), end, 0.95))
    }

    /// `下周五`, `周五`, `这个礼拜天`, `周末`, `下周`.
    fn weekday(&self, at: usize) -> Option<Reading> {
        let which = self.text.lookup(at, &WHICH);
        let week = which.map_or(at, |(_, end)| end);
        let day = week + self.text.word(week, &WEEK)?;
        let found = self
            .text
            .lookup(day, &WEEKDAYS)
            // `三周一次` and `两周一共` are no Mondays.
            .filter(|(_, end)| !self.text.get(*end).is_some_and(|c| "次共起个样".contains(c)));
        let before = at.checked_sub(1).and_then(|at| self.text.get(at));
        if which.is_none() && before.is_some_and(|c| digit(c).is_some() || "个几半十".contains(c)) {
            return None;
        }
        if let Some((weekday, end)) = found {
            let (date, sure) = match which {
                Some((weeks, _)) => (calendar::in_week(self.today(), weeks, weekday)?, 0.9),
                None => (calendar::coming(self.today(), weekday)?, 0.85),
            };
            return Some((EntityValue::Date(date), end, sure));
        }
        if self.text.get(day) == Some('末') {
            let weeks = which.map_or(0, |(weeks, _)| weeks);
            let date = calendar::in_week(self.today(), weeks, Weekday::Saturday)?;
            return Some((EntityValue::Date(date), day + 1, 0.7));
        }
        let (weeks, _) = which?;
        let name = match weeks {
            0 => "this_week",
            1 => "next_week",
            _ => return None,
        };
        Some((EntityValue::Vague(name.to_owned()), day, 0.7))
    }

    /// `月底`, `下个月初`, `下月十五号`, `下个月`, `年底`.
    fn month_edge(&self, at: usize) -> Option<Reading> {
        if self.text.word(at, &["年底", "年末"]).is_some() {
            let date = Date::new(self.today().year(), 12, 31).ok()?;
            return Some((EntityValue::Date(date), at + 2, 0.7));
        }
        let which = self.text.lookup(at, &WHICH);
        let month = which.map_or(at, |(_, end)| end);
        let day = month + self.text.word(month, &["月"])?;
        let before = at.checked_sub(1).and_then(|at| self.text.get(at));
        if which.is_none() && before.is_some_and(|c| digit(c).is_some() || "个几十".contains(c)) {
            return None;
        }
        let months = which.map(|(months, _)| months);
        let today = self.today();
        let (date, end, sure) = match self.text.get(day) {
            Some('底' | '末') => (calendar::end_of_month(today, months.unwrap_or(0))?, day + 1, 0.85),
            Some('初') => {
                let ahead = months.unwrap_or(if today.day() <= 5 { 0 } else { 1 });
                (calendar::day_of_month(today, ahead, 1)?, day + 1, 0.6)
            }
            Some('中') => {
                let ahead = months.unwrap_or(if today.day() <= 15 { 0 } else { 1 });
                (calendar::day_of_month(today, ahead, 15)?, day + 1, 0.6)
            }
            _ => {
                let months = months?;
                let skipped = day + self.text.word(day, &["的"]).unwrap_or(0);
                if let Some((value, end)) = self.numbered_day(skipped) {
                    let date = calendar::day_of_month(today, months, value)?;
                    return Some((EntityValue::Date(date), end, 0.95));
                }
                let name = match months {
                    0 => "this_month",
                    1 => "next_month",
                    _ => return None,
                };
                return Some((EntityValue::Vague(name.to_owned()), day, 0.7));
            }
        };
        Some((EntityValue::Date(date), end, sure))
    }

    /// `15号`, `十五日`; not the number of a house, a line or a bus.
    fn numbered_day(&self, at: usize) -> Option<(i8, usize)> {
        let number = number(&self.text, at)?;
        let end = number.end + self.text.word(number.end, &["号", "日"])?;
        let day = whole(number.value, 1, 31)?;
        let house = self.text.get(end).is_some_and(|c| "楼线院门店码室桌柜台机车仓库元".contains(c));
        (!house).then_some((day, end))
    }

    /// `2026年3月5号`, `3月5日`, `15号`, `2026-03-05`.
    fn calendar_date(&self, at: usize) -> Option<Reading> {
        if let Some((day, end)) = self.numbered_day(at) {
            let date = calendar::coming_day(self.today(), day)?;
            return Some((EntityValue::Date(date), end, 0.85));
        }
        let first = number(&self.text, at)?;
        let separator = self.text.get(first.end)?;
        if separator == '年' {
            let year = whole(first.value, 0, 2_200)?;
            let year = if year < 100 { 2_000 + year } else { year };
            let (month, after) = self.numbered_month(first.end + 1)?;
            let (day, end) = self.numbered_day(after)?;
            let date = Date::new(year, month, day).ok()?;
            return Some((EntityValue::Date(date), end, 0.98));
        }
        if matches!(separator, '-' | '/') && first.digits.as_ref().is_some_and(|d| d.len() == 4) {
            let month = number(&self.text, first.end + 1)?;
            if self.text.get(month.end) != Some(separator) {
                return None;
            }
            let day = number(&self.text, month.end + 1)?;
            let date = Date::new(
                whole(first.value, 1_900, 2_200)?,
                whole(month.value, 1, 12)?,
                whole(day.value, 1, 31)?,
            );
            return Some((EntityValue::Date(date.ok()?), day.end, 0.95));
        }
        let (month, after) = self.numbered_month(at)?;
        let (day, end) = match self.numbered_day(after) {
            Some(found) => found,
            None => {
                let number = number(&self.text, after)?;
                (whole(number.value, 1, 31)?, number.end)
            }
        };
        let date = calendar::coming_date(self.today(), month, day)?;
        Some((EntityValue::Date(date), end, 0.95))
    }

    fn numbered_month(&self, at: usize) -> Option<(i8, usize)> {
        let number = number(&self.text, at)?;
        let end = number.end + self.text.word(number.end, &["月份", "月"])?;
        Some((whole(number.value, 1, 12)?, end))
    }

    /// `三天后`, `过两周`, `半小时以后`.
    fn later(&self, at: usize) -> Option<Reading> {
        let passing = self.text.word(at, &["再过", "过"]);
        let from = at + passing.unwrap_or(0);
        let (count, unit, end) = self.counted(from)?;
        let after = self.text.word(end, &["以后", "之后", "过后", "后", "之内", "以内", "内"]);
        if passing.is_none() && after.is_none() {
            return None;
        }
        let end = end + after.unwrap_or(0);
        let days = match unit {
            Unit::Second | Unit::Minute | Unit::Hour => {
                let seconds = unit.seconds(count);
                let then = self.now.checked_add((seconds.min(86_400 * 7)).seconds()).ok()?;
                return Some((EntityValue::Time(then.time()), end, 0.8));
            }
            Unit::Day => calendar::days_ahead(self.today(), count as i64)?,
            Unit::Week => calendar::days_ahead(self.today(), (count * 7.0) as i64)?,
            Unit::Month => calendar::months_ahead(self.today(), count as i64)?,
            Unit::Year => calendar::months_ahead(self.today(), (count * 12.0) as i64)?,
        };
        Some((EntityValue::Date(days), end, 0.85))
    }

    /// A count and a unit of time, and where both end.
    fn counted(&self, at: usize) -> Option<(f64, Unit, usize)> {
        if self.text.get(at) == Some('半') {
            let skip = at + 1 + self.text.word(at + 1, &["个"]).unwrap_or(0);
            let (unit, end) = self.text.lookup(skip, &UNITS)?;
            return Some((0.5, unit, end));
        }
        let number = number(&self.text, at)?;
        if number.value > 100_000.0 {
            return None;
        }
        let mut end = number.end + self.text.word(number.end, &["个"]).unwrap_or(0);
        let mut count = number.value;
        if self.text.get(end) == Some('半') {
            count += 0.5;
            end += 1;
        }
        let (unit, mut end) = self.text.lookup(end, &UNITS)?;
        // `一年半`, `两个月半`; `三点半` is not read here.
        if self.text.get(end) == Some('半') && count.fract() == 0.0 {
            count += 0.5;
            end += 1;
        }
        Some((count, unit, end))
    }

    fn duration(&self, at: usize) -> Option<Reading> {
        let (count, unit, end) = self.counted(at)?;
        // `3月` and `5日` are dates, `2026年` is a year.
        let said = self.text.chars[at..end].iter().collect::<String>();
        let dated = (said.ends_with('年') && count > 100.0) || said.ends_with('日');
        (!dated).then(|| {
            let seconds = unit.seconds(count);
            (EntityValue::Duration { seconds }, end, 0.85)
        })
    }

    fn vague(&self, at: usize) -> Option<Reading> {
        let (name, end) = self.text.lookup(at, &VAGUE)?;
        let end =
            end + self.text.word(end, &["以后", "之后", "的时候", "那天", "后", "了", "再说"]).unwrap_or(0);
        Some((EntityValue::Vague(name.to_owned()), end, 0.75))
    }

    /// `下午三点半`, `15:30`, `八点`, `差五分三点`, `晚上`.
    fn clock(&self, at: usize) -> Option<Reading> {
        let part = self.text.lookup(at, &PARTS);
        let from = part.map_or(at, |(_, end)| end);
        let from = from + self.text.word(from, &["的"]).filter(|_| part.is_some()).unwrap_or(0);
        let Some((hour, minute, end)) = self.hour_and_minute(from, part.is_some()) else {
            let (part, end) = part?;
            if matches!(part, Part::Noon) {
                return Some((EntityValue::Time(Time::midnight() + 12.hours()), end, 0.5));
            }
            return Some((EntityValue::Vague(part.name().to_owned()), end, 0.5));
        };
        let (hour, sure) = match part {
            Some((part, _)) => (part.hour(hour), 0.95),
            // Nobody makes an appointment for three at night.
            None if (1..=6).contains(&hour) => (hour + 12, 0.6),
            None if hour <= 12 => (hour, 0.75),
            None => (hour, 0.95),
        };
        let time = Time::new(hour % 24, minute, 0, 0).ok()?;
        Some((EntityValue::Time(time), end, sure))
    }

    fn hour_and_minute(&self, at: usize, after_part: bool) -> Option<(i8, i8, usize)> {
        if self.text.get(at) == Some('差') {
            let short = number(&self.text, at + 1);
            let (short, end) = match self.text.word(at + 1, &["一刻"]) {
                Some(len) => (15, at + 1 + len),
                None => {
                    let short = short?;
                    let end = short.end + self.text.word(short.end, &["分钟", "分"])?;
                    (whole(short.value, 1, 30)?, end)
                }
            };
            let (hour, minute, end) = self.hour_and_minute(end, true)?;
            return (minute == 0).then_some(((hour + 23) % 24, 60 - short, end));
        }
        let hour = number(&self.text, at)?;
        let value: i8 = whole(hour.value, 0, 24)?;
        if self.text.get(hour.end) == Some(':') {
            let minute = number(&self.text, hour.end + 1)?;
            return Some((value, whole(minute.value, 0, 59)?, minute.end));
        }
        let mark = self.text.word(hour.end, &["点钟", "点", "时"])?;
        let end = hour.end + mark;
        let (minute, after) = self.minute(end);
        let spoken = self.text.chars[hour.end..end] == ['点'];
        if spoken && minute == 0 && after == end && value == 1 && !after_part {
            // `一点` is mostly "a little".
            let next = self.text.word(end, &["以后", "之后", "之前", "以前", "左右", "整", "再"]);
            let led = at > 0 && self.text.get(at - 1).is_some_and(|c| "到在约等午天晚早".contains(c));
            if next.is_none() && !led {
                return None;
            }
        }
        Some((value, minute, after))
    }

    /// What may follow the hour: `半`, `一刻`, `二十分`, `十五`, `整`.
    fn minute(&self, at: usize) -> (i8, usize) {
        let at = at + self.text.word(at, &["过"]).unwrap_or(0);
        let quarter = [("半", 30), ("一刻", 15), ("三刻", 45), ("整", 0), ("钟", 0)];
        if let Some(found) = self.text.lookup(at, &quarter) {
            return found;
        }
        let Some(number) = number(&self.text, at) else {
            return (0, at);
        };
        let Some(value) = whole::<i8>(number.value, 0, 59) else {
            return (0, at);
        };
        let marked = self.text.word(number.end, &["分钟", "分"]);
        // `三点五` without its unit is five past, as spoken, if it has two digits: `三点十五`.
        if marked.is_some() || number.unit || number.digits.as_ref().is_some_and(|d| d.len() == 2) {
            (value, number.end + marked.unwrap_or(0))
        } else {
            (0, at)
        }
    }

    /// `五百块`, `三块五毛`, `1.2万元`, `¥35`, `五毛`, `100美元`.
    fn money(&self, at: usize) -> Option<Reading> {
        if self.text.get(at) == Some('¥') {
            let number = number(&self.text, at + 1)?;
            return Some((money(number.value, Some(Currency::Cny))?, number.end, 0.98));
        }
        if self.text.get(at) == Some('$') {
            let number = number(&self.text, at + 1)?;
            return Some((money(number.value, Some(Currency::Usd))?, number.end, 0.98));
        }
        let number = decimal(&self.text, at)?;
        let (mark, mut end) = self.text.lookup(number.end, &MARKS)?;
        let (unit, currency, sure) = mark;
        let mut value = number.value * unit;
        if unit == 1.0 && currency == Currency::Cny {
            // `三块五` and `三块五毛二`: the tail counts in jiao, then fen.
            let mut place = 0.1;
            let mut at = end;
            while place > 0.005 {
                let Some(d) = self.text.get(at).and_then(digit) else {
                    break;
                };
                let marked = self.text.word(at + 1, &["毛钱", "角钱", "毛", "角", "分钱", "分"]);
                let more = self
                    .text
                    .get(at + 1)
                    .is_some_and(|c| digit(c).is_some() || "十百千万点年月号".contains(c));
                if marked.is_none() && more {
                    break;
                }
                value += f64::from(d) * place;
                at += 1 + marked.unwrap_or(0);
                end = at;
                place /= 10.0;
            }
            end += self.text.word(end, &["钱"]).unwrap_or(0);
        }
        Some((money(value, Some(currency))?, end, sure))
    }

    /// `百分之三点五`, `12.5%`, `百分百`.
    fn percent(&self, at: usize) -> Option<Reading> {
        if let Some(len) = self.text.word(at, &["百分之百", "百分百"]) {
            return Some((EntityValue::Percent(100.0), at + len, 0.95));
        }
        if let Some(len) = self.text.word(at, &["百分之"]) {
            let number = decimal(&self.text, at + len)?;
            return Some((EntityValue::Percent(number.value), number.end, 0.95));
        }
        let number = decimal(&self.text, at)?;
        let end = number.end + self.text.word(number.end, &["%", "个百分点"])?;
        Some((EntityValue::Percent(number.value), end, 0.95))
    }

    /// A row of digits with the pauses that people and recognisers put in.
    fn digit_row(&self, at: usize) -> Option<Reading> {
        let starts = |at: usize| self.text.get(at).and_then(digit);
        starts(at)?;
        if at > 0 && starts(at - 1).is_some() {
            return None;
        }
        let mut digits = String::new();
        let mut end = at;
        let mut next = at;
        while let Some(d) = starts(next) {
            digits.extend(char::from_digit(d, 10));
            next += 1;
            end = next;
            while self.text.get(next).is_some_and(|c| " -,，、。.".contains(c)) {
                next += 1;
            }
            // At most two characters of pause; more is another thought.
            if next > end + 2 {
                break;
            }
        }
        // A unit behind the row makes it a quantity.
        if self.text.get(end).is_some_and(|c| "十百千万亿点块元月年号日%.".contains(c)) {
            return None;
        }
        if is_phone(&digits) {
            return Some((EntityValue::Phone(digits), end, 0.95));
        }
        (digits.len() >= 4).then_some((EntityValue::Digits(digits), end, 0.8))
    }

    /// A bare quantity, as a number and, if it may be one, as a sum. Returns its last character.
    fn quantity(&self, at: usize, found: &mut Vec<Candidate>) -> Option<usize> {
        let number = number(&self.text, at)?;
        let lone_idiom = number.end == at + 1
            && self.text.get(at) == Some('一')
            && self.text.get(at + 1).is_some_and(|c| "下些点样起直定般个会边共切".contains(c));
        if lone_idiom {
            return None;
        }
        if let Some(digits) = &number.digits
            && digits.len() >= 2
        {
            let row = EntityValue::Digits(digits.clone());
            found.push(self.candidate(at, (row, number.end, 0.6)));
        }
        let value = EntityValue::Number(number.value);
        found.push(self.candidate(at, (value, number.end, 0.7)));
        if (number.unit || number.value >= 10.0)
            && let Some(sum) = money(number.value, None)
        {
            let sure = if number.value >= 100.0 { 0.6 } else { 0.4 };
            found.push(self.candidate(at, (sum, number.end, sure)));
        }
        Some(number.end - 1)
    }

    /// Yes or no at the head of the turn.
    fn agreement(&self) -> Option<(usize, Reading)> {
        let mut at = 0;
        while self.text.get(at).is_some_and(|c| "嗯呃额啊哦唉哎诶，。,.！？、 ".contains(c)) {
            at += 1;
        }
        let from = at;
        let mut degree: f32 = 0.9;
        let mut hedged = false;
        while let Some((value, end)) = self.text.lookup(at, &HEDGES) {
            degree = if hedged { degree.min(value) } else { value };
            hedged = true;
            at = end;
        }
        let (yes, end) = match self.text.lookup(at, &ANSWERS) {
            Some((yes, end)) => (yes, end),
            // A hedge alone (`一定`, `应该吧`) is an answer too, a hum is a weak yes.
            None if hedged && at >= self.text.chars.len().saturating_sub(2) => (true, at),
            None if from > 0 && self.text.get(0) == Some('嗯') && from == self.text.chars.len() => {
                return Some((0, (EntityValue::Agreement { yes: true, degree: 0.6 }, from, 0.6)));
            }
            None => return None,
        };
        let misread = self.text.get(end).is_some_and(|c| match self.text.get(end - 1) {
            Some('好') => "像久几多吗听看吃".contains(c),
            Some('对') => "不面方于".contains(c),
            Some('是') => "谁哪什不吗".contains(c),
            Some('行') => "李业情驶吗".contains(c),
            Some('不' | '没') => !"，。,. ".contains(c),
            Some('有') => "没什谁几多吗点".contains(c),
            Some(_) | None => c == '吗' || c == '么',
        });
        if misread || end == from {
            return None;
        }
        let value = EntityValue::Agreement { yes, degree };
        Some((from, (value, end, 0.85)))
    }
}

/// A whole number within bounds.
fn whole<T: TryFrom<i64>>(value: f64, least: i64, most: i64) -> Option<T> {
    let fits = value.fract() == 0.0 && value >= least as f64 && value <= most as f64;
    fits.then(|| T::try_from(value as i64).ok()).flatten()
}
