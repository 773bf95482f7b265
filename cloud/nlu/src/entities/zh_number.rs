//! Numbers as they are spoken and written in Mandarin.

/// Characters with their byte offsets, folded to lower case and half width one for one.
pub(super) struct Chars {
    pub(super) chars: Vec<char>,
    offsets: Vec<usize>,
}

impl Chars {
    pub(super) fn new(text: &str) -> Self {
        let mut chars = Vec::new();
        let mut offsets = Vec::new();
        for (at, c) in text.char_indices() {
            offsets.push(at);
            chars.push(match c {
                '\u{ff01}'..='\u{ff5e}' => {
                    char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c).to_ascii_lowercase()
                }
                '￥' => '¥',
                _ => c.to_ascii_lowercase(),
            });
        }
        offsets.push(text.len());
        Self { chars, offsets }
    }

    /// The byte span of a range of characters.
    pub(super) fn span(&self, from: usize, to: usize) -> std::ops::Range<usize> {
        self.offsets[from]..self.offsets[to]
    }

    pub(super) fn get(&self, at: usize) -> Option<char> {
        self.chars.get(at).copied()
    }

    /// The length of the first of `words` that stands at `at`; put longer words first.
    pub(super) fn word(&self, at: usize, words: &[&str]) -> Option<usize> {
        words.iter().find_map(|word| {
            let mut end = at;
            for c in word.chars() {
                if self.get(end) != Some(c) {
                    return None;
                }
                end += 1;
            }
            Some(end - at)
        })
    }

    /// The value of the first of `table`'s words that stands at `at`, and where it ends.
    pub(super) fn lookup<T: Copy>(&self, at: usize, table: &[(&str, T)]) -> Option<(T, usize)> {
        table.iter().find_map(|(word, value)| self.word(at, &[word]).map(|len| (*value, at + len)))
    }
}

/// A number found at a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    pub(super) value: f64,
    /// Where it ends, in characters.
    pub(super) end: usize,
    /// It was said digit by digit, or written as plain digits: these are they.
    pub(super) digits: Option<String>,
    /// It holds a spoken unit: ten, hundred, thousand, ten thousand.
    pub(super) unit: bool,
}

pub(super) fn digit(c: char) -> Option<u32> {
    Some(match c {
        '零' | '〇' => 0,
        '一' | '幺' | '壹' => 1,
        '二' | '两' | '贰' => 2,
        '三' | '叁' => 3,
        '四' | '肆' => 4,
        '五' | '伍' => 5,
        '六' | '陆' => 6,
        '七' | '柒' => 7,
        '八' | '捌' => 8,
        '九' | '玖' => 9,
        _ => return c.to_digit(10),
    })
}

fn unit(c: char) -> Option<f64> {
    Some(match c {
        '十' | '拾' => 1e1,
        '百' | '佰' => 1e2,
        '千' | '仟' => 1e3,
        '万' | '萬' => 1e4,
        '亿' => 1e8,
        _ => return None,
    })
}

/// Reads the longest number at `at`, without a spoken decimal point.
pub(super) fn number(text: &Chars, at: usize) -> Option<Number> {
    let first = text.get(at)?;
    if first.is_ascii_digit() {
        return written(text, at);
    }
    if !(digit(first).is_some() || first == '十') {
        return None;
    }
    let mut end = at;
    while text.get(end).is_some_and(|c| (digit(c).is_some() && !c.is_ascii_digit()) || unit(c).is_some()) {
        end += 1;
    }
    let run = &text.chars[at..end];
    if run.iter().all(|c| unit(*c).is_none()) {
        let digits: String =
            run.iter().filter_map(|c| digit(*c).and_then(|d| char::from_digit(d, 10))).collect();
        let value = digits.parse().ok()?;
        return Some(Number { value, end, digits: (run.len() > 1).then_some(digits), unit: false });
    }
    let tokens = run.iter().map(|c| match unit(*c) {
        Some(unit) => Token::Unit(unit),
        None => Token::Digit(f64::from(digit(*c).unwrap_or(0)), *c == '零' || *c == '〇'),
    });
    let (value, used) = quantity(tokens)?;
    Some(Number { value, end: at + used, digits: None, unit: true })
}

/// Like [`number`], with a spoken decimal point: `三点五`. Callers know that no time is meant.
pub(super) fn decimal(text: &Chars, at: usize) -> Option<Number> {
    let whole = number(text, at)?;
    if text.get(whole.end) != Some('点') || whole.value.fract() != 0.0 {
        return Some(whole);
    }
    let mut value = whole.value;
    let mut place = 0.1;
    let mut end = whole.end + 1;
    while let Some(d) = text.get(end).and_then(digit) {
        value += f64::from(d) * place;
        place /= 10.0;
        end += 1;
    }
    if end == whole.end + 1 {
        return Some(whole);
    }
    let (value, end, unit) = scaled(text, value, end);
    Some(Number { value, end, digits: None, unit: unit || whole.unit })
}

/// Multiplies by the units that follow: `1.2` `万`.
fn scaled(text: &Chars, value: f64, end: usize) -> (f64, usize, bool) {
    let (mut value, mut at) = (value, end);
    while let Some(unit) = text.get(at).and_then(unit) {
        value *= unit;
        at += 1;
    }
    (value, at, at > end)
}

/// `3500`, `3,500`, `1.2万`, `3千5`.
fn written(text: &Chars, at: usize) -> Option<Number> {
    let ascii = |at: usize| text.get(at).is_some_and(|c| c.is_ascii_digit());
    let mut end = at;
    let mut digits = String::new();
    loop {
        while let Some(c) = text.get(end).filter(char::is_ascii_digit) {
            digits.push(c);
            end += 1;
        }
        // A thousands separator stands before exactly three digits.
        let separated = matches!(text.get(end), Some(',' | '，'))
            && (1..=3).all(|n| ascii(end + n))
            && !ascii(end + 4)
            && digits.len() <= 12;
        if !separated {
            break;
        }
        end += 1;
    }
    let mut value: f64 = digits.parse().ok()?;
    let mut plain = Some(digits);
    if text.get(end) == Some('.') && ascii(end + 1) {
        let mut place = 0.1;
        end += 1;
        while let Some(d) = text.get(end).and_then(|c| c.to_digit(10)) {
            value += f64::from(d) * place;
            place /= 10.0;
            end += 1;
        }
        plain = None;
    }
    let Some(first_unit) = text.get(end).and_then(unit) else {
        return Some(Number { value, end, digits: plain, unit: false });
    };
    // `3千5`, `1万2`: the tail counts in the next lower unit, as when spoken.
    let (scaled_value, after, _) = scaled(text, value, end);
    let mut number = Number { value: scaled_value, end: after, digits: None, unit: true };
    if after == end + 1
        && let Some(tail) = self::number(text, after).filter(|tail| tail.value < first_unit)
    {
        let single = tail.value < 10.0 && !tail.unit && tail.digits.as_deref().is_none_or(|d| d.len() == 1);
        number.value +=
            if single && first_unit >= 100.0 { tail.value * first_unit / 10.0 } else { tail.value };
        number.end = tail.end;
    }
    Some(number)
}

enum Token {
    Unit(f64),
    /// Its value, and whether it is the zero that marks a gap.
    Digit(f64, bool),
}

/// Adds up digits and units; returns the value and how many tokens belong to it.
fn quantity(tokens: impl Iterator<Item = Token>) -> Option<(f64, usize)> {
    let (mut total, mut section) = (0.0, 0.0);
    let mut pending: Option<f64> = None;
    let mut last_unit = 1.0;
    let mut used = 0;
    let mut any_unit = false;
    for token in tokens {
        match token {
            Token::Digit(_, true) if pending.is_none() && any_unit => last_unit = 10.0,
            Token::Digit(value, _) => {
                if pending.is_some() {
                    break;
                }
                pending = Some(value);
            }
            Token::Unit(unit) if unit < 1e4 => {
                // Only ten may stand without a digit before it, at the head or after a gap.
                let count = match pending.take() {
                    Some(count) => count,
                    None if unit == 10.0 => 1.0,
                    None => break,
                };
                section += count * unit;
                last_unit = unit;
                any_unit = true;
            }
            Token::Unit(unit) => {
                section += pending.take().unwrap_or(0.0);
                if section == 0.0 && total == 0.0 {
                    break;
                }
                total = if section == 0.0 || total > 0.0 && unit > 1e4 {
                    (total + section) * unit
                } else {
                    total + section * unit
                };
                section = 0.0;
                last_unit = unit;
                any_unit = true;
            }
        }
        used += 1;
    }
    if let Some(tail) = pending {
        // `三千五`: a single digit after a unit counts in the next lower one.
        section += if last_unit >= 100.0 { tail * last_unit / 10.0 } else { tail };
    }
    (used > 0 && any_unit).then_some((total + section, used))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<f64> {
        let chars = Chars::new(text);
        decimal(&chars, 0).filter(|n| n.end == chars.chars.len()).map(|n| n.value)
    }

    #[test]
    fn quantities_read_as_they_are_meant() {
        for (text, expected) in [
            ("三", 3.0),
            ("十", 10.0),
            ("十五", 15.0),
            ("二十一", 21.0),
            ("一百二", 120.0),
            ("一百零二", 102.0),
            ("一百一十五", 115.0),
            ("三千五", 3_500.0),
            ("三千零五十", 3_050.0),
            ("一万二", 12_000.0),
            ("一万零二百", 10_200.0),
            ("三万五千六", 35_600.0),
            ("十二万", 120_000.0),
            ("一百五十三万", 1_530_000.0),
            ("两亿三千万", 230_000_000.0),
            ("1.2万", 12_000.0),
            ("3千5", 3_500.0),
            ("1万2", 12_000.0),
            ("1万2千", 12_000.0),
            ("3,500", 3_500.0),
            ("12,345,678", 12_345_678.0),
            ("三点五", 3.5),
            ("三点五万", 35_000.0),
            ("１２０", 120.0),
        ] {
            assert_eq!(value(text).map(|v| (v * 1e6).round() / 1e6), Some(expected), "{text}");
        }
    }

    #[test]
    fn digits_said_one_by_one_stay_digits() {
        let digits = |text: &str| number(&Chars::new(text), 0).and_then(|n| n.digits);
        assert_eq!(digits("幺三八零零").as_deref(), Some("13800"));
        assert_eq!(digits("二零二六").as_deref(), Some("2026"));
        assert_eq!(digits("0012").as_deref(), Some("0012"));
        assert_eq!(digits("五"), None);
    }
}
