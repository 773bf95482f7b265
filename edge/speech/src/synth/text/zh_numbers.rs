//! Mandarin words for numbers.

const DIGITS: [char; 10] = ['零', '一', '二', '三', '四', '五', '六', '七', '八', '九'];

/// Reads a whole number as a quantity: 2026 is 两千零二十六. Beyond 16 digits it is read digit by
/// digit.
pub(super) fn cardinal(digits: &str) -> String {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return "零".to_owned();
    }
    if digits.len() > 16 {
        return each_digit(digits, false);
    }
    // Groups of four from the right: ones, 万, 亿, 万亿.
    let mut groups: Vec<&str> = Vec::new();
    let mut rest = digits;
    while !rest.is_empty() {
        let cut = rest.len().saturating_sub(4);
        groups.push(&rest[cut..]);
        rest = &rest[..cut];
    }
    let mut spoken = String::new();
    let mut skipped = false;
    for (power, group) in groups.iter().enumerate().rev() {
        let value: u32 = group.parse().unwrap_or(0);
        if value == 0 {
            skipped = true;
            continue;
        }
        if !spoken.is_empty() && (skipped || value < 1000) {
            spoken.push('零');
        }
        skipped = false;
        let leading = spoken.is_empty();
        spoken.push_str(&below_ten_thousand(value, leading, power > 0));
        spoken.push_str(["", "万", "亿", "万亿"][power]);
    }
    spoken
}

/// One group of up to four digits; `leading` when nothing was said before it.
fn below_ten_thousand(value: u32, leading: bool, scaled: bool) -> String {
    // 两万, 两亿 take 两; the same digit at the end of a number stays 二.
    if value == 2 && scaled {
        return "两".to_owned();
    }
    let mut spoken = String::new();
    let mut zero = false;
    for (unit, name) in [(1000, "千"), (100, "百"), (10, "十"), (1, "")] {
        let digit = value / unit % 10;
        if digit == 0 {
            zero = !spoken.is_empty();
            continue;
        }
        if zero {
            spoken.push('零');
            zero = false;
        }
        let first = spoken.is_empty();
        if digit == 1 && unit == 10 && first && leading {
            spoken.push('十');
            continue;
        }
        let two = digit == 2 && (unit == 1000 || unit == 100 && first && leading);
        spoken.push(if two { '两' } else { DIGITS[digit as usize] });
        spoken.push_str(name);
    }
    spoken
}

/// Reads each digit by itself; `telephone` says 幺 for 1. Other characters are left out.
pub(super) fn each_digit(digits: &str, telephone: bool) -> String {
    digits
        .chars()
        .filter_map(|c| c.to_digit(10))
        .map(|d| if d == 1 && telephone { '幺' } else { DIGITS[d as usize] })
        .collect()
}

/// Reads a number with an optional decimal part: 12.05 is 十二点零五.
pub(super) fn decimal(number: &str) -> String {
    match number.split_once('.') {
        Some((whole, part)) if !part.is_empty() => {
            format!("{}点{}", cardinal(whole), each_digit(part, false))
        }
        Some((whole, _)) => cardinal(whole),
        None => cardinal(number),
    }
}

/// Reads an amount of yuan as one counts it out: 12.50 is 十二元五角, 0.05 is 五分.
pub(super) fn yuan(number: &str, unit: &str) -> String {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 2 {
        return format!("{}{unit}", decimal(number));
    }
    let digit = |i: usize| part.chars().nth(i).and_then(|c| c.to_digit(10)).unwrap_or(0);
    let (jiao, fen) = (digit(0), digit(1));
    let mut spoken = String::new();
    let none = whole.bytes().all(|b| b == b'0');
    if !none || (jiao == 0 && fen == 0) {
        spoken.push_str(&count(whole));
        spoken.push_str(unit);
    }
    if jiao > 0 {
        spoken.push(DIGITS[jiao as usize]);
        spoken.push('角');
    } else if fen > 0 && !spoken.is_empty() {
        spoken.push('零');
    }
    if fen > 0 {
        spoken.push(DIGITS[fen as usize]);
        spoken.push('分');
    }
    spoken
}

/// A number that counts something: like [`decimal`], with 两 for a bare 2.
pub(super) fn count(number: &str) -> String {
    if number == "2" { "两".to_owned() } else { decimal(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_read_as_quantities() {
        let cases = [
            ("0", "零"),
            ("2", "二"),
            ("10", "十"),
            ("12", "十二"),
            ("20", "二十"),
            ("101", "一百零一"),
            ("110", "一百一十"),
            ("200", "两百"),
            ("222", "两百二十二"),
            ("1000", "一千"),
            ("1001", "一千零一"),
            ("1010", "一千零一十"),
            ("1200", "一千二百"),
            ("2026", "两千零二十六"),
            ("10000", "一万"),
            ("10010", "一万零一十"),
            ("12000", "一万两千"),
            ("20000", "两万"),
            ("100000", "十万"),
            ("120500", "十二万零五百"),
            ("1000001", "一百万零一"),
            ("100000000", "一亿"),
            ("210000000", "两亿一千万"),
            ("100020003", "一亿零两万零三"),
        ];
        for (digits, spoken) in cases {
            assert_eq!(cardinal(digits), spoken, "{digits}");
        }
    }

    #[test]
    fn amounts_of_yuan_are_counted_out() {
        let cases = [
            ("2", "两元"),
            ("12.50", "十二元五角"),
            ("1234.56", "一千二百三十四元五角六分"),
            ("100.05", "一百元零五分"),
            ("0.5", "五角"),
            ("0", "零元"),
            ("99.00", "九十九元"),
        ];
        for (number, spoken) in cases {
            assert_eq!(yuan(number, "元"), spoken, "{number}");
        }
    }
}
