//! Words and numbers of English turns.

use std::ops::Range;

/// A word or number, folded to lower case, and where it stood.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// Cuts a text into words (`don't`, `p.m.` as `pm`), numbers (`3,500.25`), `$ £ € %` and `:`.
/// Hyphens part words. Everything else is a gap.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let mut word = String::new();
        if c.is_alphabetic() {
            word.extend(c.to_lowercase());
            while let Some((_, c)) =
                chars.next_if(|(_, c)| c.is_alphabetic() || matches!(c, '\'' | '\u{2019}'))
            {
                word.extend(c.to_lowercase().filter(|c| *c != '\u{2019}'));
                if c == '\u{2019}' {
                    word.push('\'');
                }
            }
        } else if c.is_ascii_digit() {
            word.push(c);
            while let Some(&(at, c)) = chars.peek() {
                let next = text[at + c.len_utf8()..].chars().next();
                let inner = matches!(c, '.' | ',') && next.is_some_and(|n| n.is_ascii_digit());
                // A comma groups thousands: exactly three digits follow it.
                let grouped = c != ',' || text[at + 1..].bytes().take_while(u8::is_ascii_digit).count() == 3;
                if c.is_ascii_digit() || (inner && grouped) {
                    if c != ',' {
                        word.push(c);
                    }
                    chars.next();
                } else {
                    break;
                }
            }
        } else if matches!(c, '$' | '£' | '€' | '%' | ':' | '+' | '/') {
            word.push(c);
        } else {
            continue;
        }
        let end = chars.peek().map_or(text.len(), |(at, _)| *at);
        out.push(Token { text: word, span: start..end });
    }
    join_half_days(out)
}

/// `p` `m` with only a dot between is `pm`.
fn join_half_days(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        match out.last_mut() {
            Some(last)
                if token.text == "m"
                    && matches!(last.text.as_str(), "a" | "p")
                    && token.span.start <= last.span.end + 2 =>
            {
                last.text.push('m');
                last.span.end = token.span.end;
            }
            _ => out.push(token),
        }
    }
    out
}

/// A number found at a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    pub(super) value: f64,
    /// The token after it.
    pub(super) end: usize,
    /// Written as plain digits: these are they.
    pub(super) digits: Option<String>,
    /// Holds hundred, thousand and the like.
    pub(super) unit: bool,
}

pub(super) const UNITS: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];

pub(super) const TENS: [(&str, f64); 9] = [
    ("twenty", 20.0),
    ("thirty", 30.0),
    ("forty", 40.0),
    ("fourty", 40.0),
    ("fifty", 50.0),
    ("sixty", 60.0),
    ("seventy", 70.0),
    ("eighty", 80.0),
    ("ninety", 90.0),
];

const SCALES: [(&str, f64); 6] =
    [("thousand", 1e3), ("k", 1e3), ("grand", 1e3), ("million", 1e6), ("billion", 1e9), ("m", 1e6)];

fn small(word: &str) -> Option<f64> {
    UNITS.iter().position(|unit| *unit == word).map(|n| n as f64)
}

fn tens(word: &str) -> Option<f64> {
    TENS.iter().find(|(ten, _)| *ten == word).map(|(_, value)| *value)
}

fn scale(word: &str) -> Option<f64> {
    SCALES.iter().find(|(scale, _)| *scale == word).map(|(_, value)| *value)
}

/// Reads the longest quantity at `at`: `two hundred and five`, `a thousand`, `1.2k`, `fifteen
/// hundred`, `three point five`, `two and a half thousand`.
pub(super) fn number(tokens: &[Token], at: usize) -> Option<Number> {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut end = at;
    let (mut total, mut current) = (0.0, 0.0);
    let mut any = false;
    let mut unit = false;
    let mut digits = None;
    // How much room the last word left for a smaller one: 100 after `hundred`, 10 after `twenty`.
    let mut room = f64::INFINITY;
    if matches!(word(at), "a" | "an")
        && (word(at + 1) == "hundred" || scale(word(at + 1)).is_some_and(|_| word(at + 1).len() > 1))
    {
        end += 1;
        current = 1.0;
        any = true;
        room = 0.0;
    }
    loop {
        let this = word(end);
        if let Some(value) = small(this).filter(|value| *value < room && !(any && *value == 0.0)) {
            current += value;
            room = 0.0;
        } else if let Some(value) = tens(this).filter(|_| room >= 100.0) {
            current += value;
            room = 10.0;
        } else if this == "hundred" && any && current > 0.0 && current < 100.0 {
            current *= 100.0;
            room = 100.0;
            unit = true;
        } else if let Some(scale) = scale(this).filter(|_| any && current > 0.0) {
            // A lone `m` or `k` counts only right behind a written number.
            if this.len() == 1 && digits.is_none() && current.fract() == 0.0 && end > at + 1 {
                break;
            }
            total += current * scale;
            current = 0.0;
            room = 1_000.0;
            unit = true;
        } else if this == "and" && unit && room >= 100.0 {
            let next = word(end + 1);
            let continues = small(next).is_some_and(|v| v > 0.0) || tens(next).is_some();
            if !continues {
                break;
            }
            end += 1;
            continue;
        } else if this == "point" && any && room < 100.0 {
            let mut place = 0.1;
            let mut after = end + 1;
            while let Some(value) = small(word(after)).filter(|value| *value < 10.0) {
                current += value * place;
                place /= 10.0;
                after += 1;
            }
            if after == end + 1 {
                break;
            }
            end = after;
            room = 0.0;
            continue;
        } else if !any && this.starts_with(|c: char| c.is_ascii_digit()) {
            current = this.parse().ok()?;
            digits = Some(this.to_owned()).filter(|text| !text.contains('.'));
            room = 0.0;
        } else if any && this == "and" && word(end + 1) == "a" && word(end + 2) == "half" {
            current += 0.5;
            end += 3;
            room = 0.0;
            continue;
        } else {
            break;
        }
        any = true;
        end += 1;
    }
    if end != at + 1 {
        digits = None;
    }
    (any && end > at).then_some(Number { value: total + current, end, digits, unit })
}

/// Reads a row of digits said or written one after another: `five five five`, `double two oh`,
/// `555-1234`. Returns the digits, the token after, and how many tokens were words.
pub(super) fn digit_row(tokens: &[Token], at: usize) -> Option<(String, usize)> {
    let mut digits = String::new();
    let mut end = at;
    if tokens.get(end).is_some_and(|token| token.text == "+") {
        digits.push('+');
        end += 1;
    }
    let first = end;
    while let Some(token) = tokens.get(end) {
        let (times, word, used) = match (token.text.as_str(), tokens.get(end + 1)) {
            ("double", Some(next)) => (2, next.text.as_str(), 2),
            ("triple" | "treble", Some(next)) => (3, next.text.as_str(), 2),
            (word, _) => (1, word, 1),
        };
        let piece = match word {
            "oh" | "o" if end > first => "0".to_owned(),
            word if word.bytes().all(|b| b.is_ascii_digit()) && !word.is_empty() => word.to_owned(),
            word => match small(word).filter(|value| *value < 10.0) {
                Some(value) => format!("{value}"),
                None => break,
            },
        };
        // A written thousand (`3,500`) lost its comma in the token and is a quantity.
        if token.span.len() > token.text.len() && used == 1 {
            break;
        }
        for _ in 0..times {
            digits.push_str(&piece);
        }
        end += used;
    }
    (end > first).then_some((digits, end))
}

/// Reads `first` to `thirty first`, `15th`, and returns the day and the token after.
pub(super) fn ordinal(tokens: &[Token], at: usize) -> Option<(i8, usize)> {
    const ORDINALS: [&str; 20] = [
        "zeroth",
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
        "twelfth",
        "thirteenth",
        "fourteenth",
        "fifteenth",
        "sixteenth",
        "seventeenth",
        "eighteenth",
        "nineteenth",
    ];
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let plain = |word: &str| ORDINALS.iter().position(|o| *o == word).filter(|n| *n > 0);
    let this = word(at);
    if let Some(n) = plain(this) {
        return Some((i8::try_from(n).ok()?, at + 1));
    }
    match (this, plain(word(at + 1)).filter(|n| *n < 10)) {
        ("twenty", Some(n)) => return Some((20 + i8::try_from(n).ok()?, at + 2)),
        ("thirty", Some(1)) => return Some((31, at + 2)),
        ("twentieth", _) => return Some((20, at + 1)),
        ("thirtieth", _) => return Some((30, at + 1)),
        _ => {}
    }
    // `15th` is cut into two tokens that touch.
    let touching = tokens.get(at + 1).is_some_and(|next| next.span.start == tokens[at].span.end);
    if touching && matches!(word(at + 1), "st" | "nd" | "rd" | "th") {
        let day: i8 = this.parse().ok()?;
        return (1..=31).contains(&day).then_some((day, at + 2));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<f64> {
        let tokens = tokens(text);
        number(&tokens, 0).filter(|n| n.end == tokens.len()).map(|n| n.value)
    }

    #[test]
    fn quantities_read_as_they_are_meant() {
        for (text, expected) in [
            ("five", 5.0),
            ("twenty-one", 21.0),
            ("two hundred", 200.0),
            ("two hundred and five", 205.0),
            ("a hundred and twenty", 120.0),
            ("fifteen hundred", 1_500.0),
            ("three thousand five hundred", 3_500.0),
            ("twelve thousand three hundred forty five", 12_345.0),
            ("a million", 1_000_000.0),
            ("two and a half thousand", 2_500.0),
            ("three point five", 3.5),
            ("one point two million", 1_200_000.0),
            ("1.2k", 1_200.0),
            ("3,500", 3_500.0),
            ("2 thousand", 2_000.0),
            ("zero", 0.0),
        ] {
            assert_eq!(value(text), Some(expected), "{text}");
        }
        assert_eq!(value("five six"), None);
        assert_eq!(value("hundred"), None);
    }

    #[test]
    fn ordinals_are_days() {
        let day = |text: &str| ordinal(&tokens(text), 0).map(|(day, _)| day);
        assert_eq!(day("fifteenth"), Some(15));
        assert_eq!(day("twenty-first"), Some(21));
        assert_eq!(day("thirty first"), Some(31));
        assert_eq!(day("3rd"), Some(3));
        assert_eq!(day("32nd"), None);
        assert_eq!(day("20"), None);
    }
}
