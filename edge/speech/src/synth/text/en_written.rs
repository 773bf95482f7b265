//! Written English to words: numbers, money, dates, times, telephone numbers and signs written out.
//!
//! The text is cut at spaces; each piece is read by what it looks like and by the words beside it.

use super::en_numbers::{cardinal, decimal, each_digit, ordinal, year};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Abbreviations whose full stop ends no sentence, and what they stand for.
const ABBREVIATIONS: [(&str, &str); 44] = [
    ("mr", "mister"),
    ("mrs", "missus"),
    ("ms", "miz"),
    ("dr", "doctor"),
    ("prof", "professor"),
    ("st", "street"),
    ("ave", "avenue"),
    ("rd", "road"),
    ("blvd", "boulevard"),
    ("no", "number"),
    ("inc", "incorporated"),
    ("ltd", "limited"),
    ("co", "company"),
    ("corp", "corporation"),
    ("dept", "department"),
    ("ext", "extension"),
    ("approx", "approximately"),
    ("vs", "versus"),
    ("etc", "et cetera"),
    ("e.g", "for example"),
    ("i.e", "that is"),
    ("a.m", "A M"),
    ("p.m", "P M"),
    ("u.s", "U S"),
    ("u.k", "U K"),
    ("jan", "january"),
    ("feb", "february"),
    ("mar", "march"),
    ("apr", "april"),
    ("jun", "june"),
    ("jul", "july"),
    ("aug", "august"),
    ("sep", "september"),
    ("sept", "september"),
    ("oct", "october"),
    ("nov", "november"),
    ("dec", "december"),
    ("mon", "monday"),
    ("tue", "tuesday"),
    ("wed", "wednesday"),
    ("thu", "thursday"),
    ("fri", "friday"),
    ("sat", "saturday"),
    ("sun", "sunday"),
];

/// Units after a number: one, several.
const UNITS: [(&str, &str, &str); 24] = [
    ("km/h", "kilometer per hour", "kilometers per hour"),
    ("km", "kilometer", "kilometers"),
    ("kg", "kilogram", "kilograms"),
    ("cm", "centimeter", "centimeters"),
    ("mm", "millimeter", "millimeters"),
    ("ml", "milliliter", "milliliters"),
    ("mg", "milligram", "milligrams"),
    ("lb", "pound", "pounds"),
    ("lbs", "pound", "pounds"),
    ("oz", "ounce", "ounces"),
    ("ft", "foot", "feet"),
    ("mph", "mile per hour", "miles per hour"),
    ("hr", "hour", "hours"),
    ("hrs", "hour", "hours"),
    ("min", "minute", "minutes"),
    ("mins", "minute", "minutes"),
    ("sec", "second", "seconds"),
    ("secs", "second", "seconds"),
    ("gb", "gigabyte", "gigabytes"),
    ("mb", "megabyte", "megabytes"),
    ("kwh", "kilowatt hour", "kilowatt hours"),
    ("°c", "degree celsius", "degrees celsius"),
    ("°f", "degree fahrenheit", "degrees fahrenheit"),
    ("m", "meter", "meters"),
];

/// Words after which digits are a name, said one by one.
const NAMES_A_NUMBER: [&str; 22] = [
    "number",
    "code",
    "account",
    "ending",
    "extension",
    "dial",
    "pin",
    "flight",
    "id",
    "ref",
    "reference",
    "order",
    "case",
    "ticket",
    "card",
    "zip",
    "postcode",
    "room",
    "serial",
    "policy",
    "invoice",
    "passcode",
];

/// Whether a full stop after `word` (with its inner stops) belongs to it.
pub(super) fn is_abbreviation(word: &str) -> bool {
    let lower = word.to_lowercase();
    let initial = word.len() == 1 && word.chars().all(|c| c.is_ascii_uppercase());
    initial || ABBREVIATIONS.iter().any(|(a, _)| *a == lower && !matches!(*a, "no" | "sun" | "sat" | "mar"))
}

/// Writes out everything in `text` that is not a word. Groups of a telephone number are parted by
/// commas.
pub(super) fn spoken(text: &str, british: bool) -> String {
    let text = text.replace(['“', '”', '"'], " ").replace(['’', '‘'], "'").replace(['–', '—'], " - ");
    let text = join_telephone(&text);
    let pieces: Vec<&str> = text.split_whitespace().collect();
    let mut words = Words { out: Vec::new(), british };
    let mut i = 0;
    while i < pieces.len() {
        let before: Vec<String> = pieces[..i].iter().rev().take(3).map(|w| bare(w).to_lowercase()).collect();
        i += words.piece(pieces[i], pieces.get(i + 1).copied(), &before);
    }
    words.out.join(" ")
}

/// "(415) 555-0132" and "415 555 0132" become one piece.
fn join_telephone(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    for piece in text.split_whitespace() {
        let digits = |s: &str| {
            !s.is_empty() && s.chars().all(|c| c.is_ascii_digit() || matches!(c, '(' | ')' | '-' | '+' | '.'))
        };
        let core = piece.trim_end_matches(',');
        if let Some(last) = out.last_mut() {
            let opened = last.starts_with('+') || last.ends_with(')') || last.contains('-');
            let both = digits(last) && digits(core) && opened;
            let grouped = digits(last) && digits(core) && last.len() == 3 && core.len() == 3
                || digits(last) && last.len() == 7 && last.contains('-') && core.len() == 4;
            let enough = core.chars().filter(char::is_ascii_digit).count() >= 2;
            if (both || grouped) && enough {
                last.push('-');
                last.push_str(piece);
                continue;
            }
        }
        out.push(piece.to_owned());
    }
    out.join(" ")
}

fn bare(piece: &str) -> &str {
    piece.trim_matches(|c: char| !c.is_alphanumeric())
}

struct Words {
    out: Vec<String>,
    british: bool,
}

impl Words {
    fn say(&mut self, words: impl Into<String>) {
        self.out.push(words.into());
    }

    /// Reads one piece and returns how many pieces that took.
    fn piece(&mut self, piece: &str, next: Option<&str>, before: &[String]) -> usize {
        let piece = piece.trim_matches(|c: char| !c.is_alphanumeric() && !"$€£¥%#*+-&@=°./'".contains(c));
        let piece = piece.trim_end_matches(['/', '\'']).trim_start_matches('\'');
        let piece = if piece.len() > 1 && !piece.contains('@') { piece.trim_end_matches('.') } else { piece };
        if piece.is_empty() || piece == "-" || piece == "." {
            return 1;
        }
        if let Some(said) = sign(piece) {
            self.say(said);
            return 1;
        }
        let lower = piece.to_lowercase();
        if piece.contains('@') && piece.len() > 2 || lower.starts_with("www.") || lower.starts_with("http") {
            self.address(&lower);
            return 1;
        }
        if let Some((_, full)) = ABBREVIATIONS.iter().find(|(a, _)| *a == lower)
            && self.abbreviated(piece, next)
        {
            self.say(*full);
            return 1;
        }
        if !piece.chars().any(|c| c.is_ascii_digit()) {
            for part in piece.split(['/', '-', '_', '+', '=', '*', '#', '%']).filter(|p| !p.is_empty()) {
                for (i, part) in part.split('&').enumerate() {
                    if i > 0 {
                        self.say("and");
                    }
                    if !part.is_empty() {
                        self.say(part.trim_matches('.'));
                    }
                }
            }
            return 1;
        }
        self.with_digits(piece, next, before)
    }

    /// Short words that are also abbreviations count as such only where they look it.
    fn abbreviated(&self, piece: &str, next: Option<&str>) -> bool {
        let digits = next.is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit() || c == '#'));
        let capital = piece.starts_with(|c: char| c.is_uppercase());
        match piece.to_lowercase().as_str() {
            "no" => capital && digits,
            "mar" | "jan" | "feb" | "apr" | "jun" | "jul" | "aug" | "sep" | "sept" | "oct" | "nov"
            | "dec" => capital,
            "mon" | "tue" | "wed" | "thu" | "fri" => capital,
            "sat" | "sun" => capital && digits,
            "co" | "inc" | "corp" | "st" | "ms" | "ext" => capital || digits,
            _ => true,
        }
    }

    fn address(&mut self, address: &str) {
        let address =
            address.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches(['.', '/']);
        let mut word = String::new();
        for c in address.chars().chain([' ']) {
            if c.is_alphabetic() {
                word.push(c);
                continue;
            }
            if !word.is_empty() {
                self.say(if word == "www" { "W W W".to_owned() } else { word.clone() });
                word.clear();
            }
            match c {
                '.' => self.say("dot"),
                '@' => self.say("at"),
                '/' => self.say("slash"),
                '-' => self.say("dash"),
                '_' => self.say("underscore"),
                c if c.is_ascii_digit() => self.say(each_digit(&c.to_string())),
                _ => {}
            }
        }
    }

    fn with_digits(&mut self, piece: &str, next: Option<&str>, before: &[String]) -> usize {
        let british = self.british;
        if let Some(used) = self.money(piece, next) {
            return used;
        }
        if self.date(piece) || self.clock(piece, next) || self.telephone(piece, before) {
            return 1;
        }
        let plain = piece.replace(',', "");
        let plain = plain.as_str();
        if let Some(number) = plain.strip_suffix('%').filter(|n| is_number(n)) {
            self.say(format!("{} percent", decimal(number, british)));
            return 1;
        }
        if let Some(number) = plain.strip_prefix('#').filter(|n| is_number(n)) {
            self.say(format!("number {}", cardinal(number, british)));
            return 1;
        }
        let lower = plain.to_lowercase();
        for suffix in ["st", "nd", "rd", "th"] {
            if let Some(number) = lower.strip_suffix(suffix).filter(|n| is_whole(n)) {
                self.say(ordinal(number, british));
                return 1;
            }
        }
        if let Some(number) = lower.strip_suffix('s').filter(|n| is_whole(n) && n.len() == 4) {
            let said = year(number, british);
            let said = match said.strip_suffix('y') {
                Some(stem) => format!("{stem}ies"),
                None => format!("{said}s"),
            };
            self.say(said);
            return 1;
        }
        if is_number(plain.trim_start_matches(['-', '+'])) {
            return self.number(plain, piece.contains(','), next, before);
        }
        if let Some((from, to)) = lower.split_once('-')
            && is_number(from)
            && is_number(to.trim_end_matches('%'))
        {
            let percent = if to.ends_with('%') { " percent" } else { "" };
            let to = to.trim_end_matches('%');
            self.say(format!("{} to {}{percent}", decimal(from, british), decimal(to, british)));
            return 1;
        }
        if let Some((unit, number)) =
            UNITS.iter().find_map(|u| lower.strip_suffix(u.0).filter(|n| is_number(n)).map(|n| (u, n)))
        {
            let name = if number == "1" { unit.1 } else { unit.2 };
            self.say(format!("{} {name}", decimal(number, british)));
            return 1;
        }
        if let Some((above, below)) = plain.split_once('/')
            && is_whole(above)
            && is_whole(below)
        {
            self.say(fraction(above, below, british));
            return 1;
        }
        self.mixed(plain);
        1
    }

    /// A bare number: a year, a name, or a quantity with its unit.
    fn number(&mut self, plain: &str, separated: bool, next: Option<&str>, before: &[String]) -> usize {
        let british = self.british;
        let (minus, number) = match plain.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, plain.trim_start_matches('+')),
        };
        let last = before.first().map_or("", String::as_str);
        let month = |w: &str| MONTHS.iter().any(|m| *m == w || w.len() >= 3 && m.starts_with(w));
        let whole = is_whole(number) && !separated && !minus;
        if whole {
            let month_before = month(last) && last != "ma";
            let value: u32 = number.parse().unwrap_or(u32::MAX);
            if month_before && (1..=31).contains(&value) {
                self.say(ordinal(number, british));
                return 1;
            }
            if (1..=31).contains(&value) && next.is_some_and(|n| full_month(bare(n))) && number.len() <= 2 {
                self.say(ordinal(number, british));
                return 1;
            }
            let dated = ["in", "since", "by", "until", "from", "year", "of", "during"].contains(&last)
                || month_before
                || before.get(1).is_some_and(|w| month(w)) && !last.is_empty() && last.len() <= 4;
            if number.len() == 4 && (1100..2100).contains(&value) && dated {
                self.say(year(number, british));
                return 1;
            }
            let named = NAMES_A_NUMBER.contains(&last)
                || last == "in" && before.get(1).is_some_and(|w| w == "ending")
                || matches!(last, "is" | "with")
                    && before.get(1).is_some_and(|w| NAMES_A_NUMBER.contains(&w.as_str()));
            let zero = number.len() > 1 && number.starts_with('0');
            if (named && number.len() > 1) || zero || number.len() > 7 {
                self.say(grouped(number));
                return 1;
            }
        }
        let said =
            if minus { format!("minus {}", decimal(number, british)) } else { decimal(number, british) };
        self.say(said);
        if let Some(next) = next {
            let unit = next.trim_end_matches(['.', ',']).to_lowercase();
            if unit != "m"
                && let Some(u) = UNITS.iter().find(|u| u.0 == unit)
            {
                self.say(if number == "1" { u.1 } else { u.2 });
                return 2;
            }
        }
        1
    }

    fn money(&mut self, piece: &str, next: Option<&str>) -> Option<usize> {
        const SIGNS: [(&str, &str, &str, &str); 8] = [
            ("US$", "dollar", "dollars", "cent"),
            ("$", "dollar", "dollars", "cent"),
            ("€", "euro", "euros", "cent"),
            ("£", "pound", "pounds", "penny"),
            ("¥", "yuan", "yuan", "fen"),
            ("RMB", "yuan", "yuan", "fen"),
            ("USD", "dollar", "dollars", "cent"),
            ("GBP", "pound", "pounds", "penny"),
        ];
        let (minus, piece) = match piece.strip_prefix('-') {
            Some(rest) => ("minus ", rest),
            None => ("", piece),
        };
        let (amount, one, many, part) = SIGNS
            .iter()
            .find_map(|(sign, one, many, part)| Some((piece.strip_prefix(sign)?, *one, *many, *part)))?;
        let amount = amount.replace(',', "");
        let (amount, scale) = match amount.strip_suffix(['k', 'K', 'm', 'M', 'b', 'B']) {
            Some(head) => {
                let scale = match amount.as_bytes()[amount.len() - 1].to_ascii_lowercase() {
                    b'k' => "thousand",
                    b'm' => "million",
                    _ => "billion",
                };
                (head.to_owned(), Some(scale))
            }
            None => (amount, None),
        };
        if !is_number(&amount) {
            return None;
        }
        let british = self.british;
        let worded = next.map(bare).filter(|n| ["thousand", "million", "billion"].contains(n));
        if let Some(scale) = scale.or(worded) {
            self.say(format!("{minus}{} {scale} {many}", decimal(&amount, british)));
            return Some(if worded.is_some() { 2 } else { 1 });
        }
        let (whole, cents) = amount.split_once('.').unwrap_or((&amount, ""));
        if cents.len() > 2 {
            self.say(format!("{minus}{} {many}", decimal(&amount, british)));
            return Some(1);
        }
        let cents: u32 = format!("{cents:0<2}").parse().unwrap_or(0);
        let none = whole.bytes().all(|b| b == b'0');
        let mut said = minus.to_owned();
        if !none || cents == 0 {
            let unit = if whole.trim_start_matches('0') == "1" { one } else { many };
            said.push_str(&format!("{} {unit}", cardinal(whole, british)));
        }
        if cents > 0 {
            if said.len() > minus.len() {
                said.push_str(" and ");
            }
            let unit = match (part, cents) {
                ("penny", 1) => "penny".to_owned(),
                ("penny", _) => "pence".to_owned(),
                (part, 1) => part.to_owned(),
                ("fen", _) => "fen".to_owned(),
                (part, _) => format!("{part}s"),
            };
            said.push_str(&format!("{} {unit}", cardinal(&cents.to_string(), british)));
        }
        self.say(said);
        Some(1)
    }

    /// `2026-11-22`, and `11/22/2026` in the order of the country.
    fn date(&mut self, piece: &str) -> bool {
        let parts: Vec<&str> = piece.split(['-', '/']).collect();
        let [a, b, c] = parts.as_slice() else { return false };
        if !(is_whole(a) && is_whole(b) && is_whole(c)) {
            return false;
        }
        let (y, m, d) = if a.len() == 4 {
            (*a, *b, *c)
        } else if c.len() == 4 && piece.contains('/') {
            if self.british { (*c, *b, *a) } else { (*c, *a, *b) }
        } else {
            return false;
        };
        let month: usize = m.parse().unwrap_or(0);
        let day: usize = d.parse().unwrap_or(0);
        let (true, Some(month)) = ((1..=31).contains(&day), month.checked_sub(1).and_then(|m| MONTHS.get(m)))
        else {
            return false;
        };
        let day = ordinal(d, self.british);
        let year = year(y, self.british);
        self.say(if self.british {
            format!("the {day} of {month} {year}")
        } else {
            format!("{month} {day}, {year}")
        });
        true
    }

    /// `3:30`, `3:30pm`, `9am`.
    fn clock(&mut self, piece: &str, next: Option<&str>) -> bool {
        let lower = piece.to_lowercase().replace('.', "");
        let (core, half) = match lower.strip_suffix("am") {
            Some(core) => (core, Some("A M")),
            None => match lower.strip_suffix("pm") {
                Some(core) => (core, Some("P M")),
                None => (lower.as_str(), None),
            },
        };
        let (hour, minute) = match core.split_once(':') {
            Some((hour, minute)) if minute.len() == 2 => (hour, minute),
            Some(_) => return false,
            None if half.is_some() => (core, "00"),
            None => return false,
        };
        let fits =
            |t: &str, most: u32| is_whole(t) && t.len() <= 2 && t.parse::<u32>().is_ok_and(|v| v <= most);
        if !fits(hour, 24) || !fits(minute, 59) {
            return false;
        }
        let said_half = next.is_some_and(|n| {
            let n = n.to_lowercase().replace('.', "");
            matches!(n.trim_end_matches(','), "am" | "pm")
        });
        let british = self.british;
        let mut said = cardinal(hour, british);
        match minute {
            "00" if half.is_some() || said_half => {}
            "00" if hour.parse::<u32>().is_ok_and(|h| h <= 12) => said.push_str(" o'clock"),
            "00" => said.push_str(" hundred hours"),
            m if m.starts_with('0') => said.push_str(&format!(" oh {}", cardinal(m, british))),
            m => said.push_str(&format!(" {}", cardinal(m, british))),
        }
        if let Some(half) = half {
            said.push(' ');
            said.push_str(half);
        }
        self.say(said);
        true
    }

    /// Seven digits or more with marks between: groups, digit by digit.
    fn telephone(&mut self, piece: &str, before: &[String]) -> bool {
        let shaped = piece.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '(' | ')' | '+' | '.'));
        let count = piece.chars().filter(char::is_ascii_digit).count();
        let marks = piece.chars().filter(|c| matches!(c, '-' | ')' | '.')).count();
        let asked =
            before.iter().take(2).any(|w| matches!(w.as_str(), "call" | "dial" | "on" | "at" | "number"));
        let plus = piece.starts_with('+');
        let long = count >= 10 || count >= 7 && (marks > 0 || asked);
        let one_point = marks == 1 && piece.contains('.');
        if !shaped || !(long || plus && count >= 7) || one_point || marks == 0 && count < 10 && !asked {
            return false;
        }
        let mut groups: Vec<String> =
            piece.split(|c: char| !c.is_ascii_digit()).filter(|g| !g.is_empty()).map(str::to_owned).collect();
        if let [one] = groups.as_slice() {
            groups = grouped_digits(one);
        }
        let said: Vec<String> = groups.iter().map(|g| each_digit(g)).collect();
        self.say(format!("{}{}", if plus { "plus " } else { "" }, said.join(", ")));
        true
    }

    /// Letters and digits in one piece: "A12", "covid19", "4k".
    fn mixed(&mut self, piece: &str) {
        let mut run = String::new();
        let kind = |c: char| if c.is_ascii_digit() { 1 } else { i32::from(c.is_alphabetic()) * 2 };
        let mut last = 0;
        let mut runs: Vec<(i32, String)> = Vec::new();
        for c in piece.chars() {
            if kind(c) != last && !run.is_empty() {
                runs.push((last, std::mem::take(&mut run)));
            }
            last = kind(c);
            run.push(c);
        }
        runs.push((last, run));
        for (i, (kind, run)) in runs.iter().enumerate() {
            match kind {
                1 if i == 0 && runs.len() == 2 => self.say(cardinal(run, self.british)),
                1 => self.say(grouped(run)),
                2 if run.len() <= 3 && run.chars().all(|c| c.is_ascii_alphabetic()) => {
                    let letters: Vec<String> =
                        run.chars().map(|c| c.to_ascii_uppercase().to_string()).collect();
                    self.say(letters.join(" "));
                }
                2 => self.say(run.clone()),
                _ => {
                    if let Some(said) = sign(run) {
                        self.say(said);
                    }
                }
            }
        }
    }
}

fn full_month(word: &str) -> bool {
    let lower = word.to_lowercase();
    MONTHS.contains(&lower.as_str())
        || ABBREVIATIONS.iter().any(|(a, full)| *a == lower && MONTHS.contains(full))
}

fn sign(piece: &str) -> Option<&'static str> {
    Some(match piece {
        "&" => "and",
        "+" => "plus",
        "=" => "equals",
        "@" => "at",
        "#" => "the pound key",
        "*" => "the star key",
        "%" => "percent",
        "$" => "dollars",
        "£" => "pounds",
        "€" => "euros",
        "°" => "degrees",
        "/" => "or",
        _ => return None,
    })
}

fn fraction(above: &str, below: &str, british: bool) -> String {
    match (above, below) {
        ("1", "2") => "one half".to_owned(),
        ("1", "4") => "one quarter".to_owned(),
        ("3", "4") => "three quarters".to_owned(),
        ("24", "7") => "twenty four seven".to_owned(),
        ("1", _) => format!("one {}", ordinal(below, british)),
        _ => format!("{} {}s", cardinal(above, british), ordinal(below, british)),
    }
}

/// Digits one by one, in groups when there are many.
fn grouped(digits: &str) -> String {
    let said: Vec<String> = grouped_digits(digits).iter().map(|g| each_digit(g)).collect();
    said.join(", ")
}

fn grouped_digits(digits: &str) -> Vec<String> {
    let chars: Vec<char> = digits.chars().collect();
    if chars.len() == 10 {
        return [&digits[..3], &digits[3..6], &digits[6..]].map(str::to_owned).to_vec();
    }
    let step = if chars.len() > 6 { 4 } else { 8 };
    chars.chunks(step).map(|g| g.iter().collect()).collect()
}

fn is_whole(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_number(text: &str) -> bool {
    match text.split_once('.') {
        Some((whole, part)) => is_whole(part) && (whole.is_empty() || is_whole(whole)),
        None => is_whole(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_english_is_written_out_as_it_is_said() {
        let cases = [
            ("You owe $1,234.56", "You owe one thousand two hundred thirty four dollars and fifty six cents"),
            ("$1", "one dollar"),
            ("$0.05", "five cents"),
            ("£20", "twenty pounds"),
            ("$3.5 million", "three point five million dollars"),
            ("Mr. Smith", "mister Smith"),
            ("at 3:30 p.m.", "at three thirty P M"),
            ("8:00", "eight o'clock"),
            ("8:05am", "eight oh five A M"),
            ("9 am", "nine am"),
            ("2026-11-22", "november twenty second, twenty twenty six"),
            ("11/22/2026", "november twenty second, twenty twenty six"),
            ("Nov 5", "november fifth"),
            ("May 5, 2026", "May fifth twenty twenty six"),
            ("5 May 2026", "fifth May twenty twenty six"),
            ("in 1999", "in nineteen ninety nine"),
            ("3.85%", "three point eight five percent"),
            ("5-10%", "five to ten percent"),
            ("the 3rd", "the third"),
            ("Call (415) 555-0132", "Call four one five, five five five, zero one three two"),
            ("+1 415-555-0132", "plus one, four one five, five five five, zero one three two"),
            ("card ending in 4321", "card ending in four three two one"),
            ("code 0071", "code zero zero seven one"),
            ("10 km", "ten kilometers"),
            ("1kg", "one kilogram"),
            ("1/2", "one half"),
            ("24/7", "twenty four seven"),
            ("A12", "A one two"),
            ("-5", "minus five"),
            ("R&D", "R and D"),
            ("support@example.com", "support at example dot com"),
            ("press #", "press the pound key"),
            ("1,500 people", "one thousand five hundred people"),
            ("the 1990s", "the nineteen nineties"),
        ];
        for (text, expected) in cases {
            assert_eq!(spoken(text, false), expected, "{text}");
        }
        assert_eq!(spoken("22/11/2026", true), "the twenty second of november twenty twenty six");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_no_digit_survives(text in "[0-9.,:/%$a-c #()+@-]{0,24}") {
            let said = spoken(&text, false);
            proptest::prop_assert!(!said.chars().any(|c| c.is_ascii_digit()), "{text} -> {said}");
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,40}") {
            let _ = spoken(&text, true);
        }
    }
}
