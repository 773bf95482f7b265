//! English words for numbers.

const ONES: [&str; 20] = [
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
const TENS: [&str; 10] =
    ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// Reads a whole number as a quantity; `british` puts "and" before the tens.
pub(super) fn cardinal(digits: &str, british: bool) -> String {
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return ONES[0].to_owned();
    }
    if digits.len() > 15 {
        return each_digit(digits);
    }
    let mut groups: Vec<&str> = Vec::new();
    let mut rest = digits;
    while !rest.is_empty() {
        let cut = rest.len().saturating_sub(3);
        groups.push(&rest[cut..]);
        rest = &rest[..cut];
    }
    let mut words: Vec<String> = Vec::new();
    for (power, group) in groups.iter().enumerate().rev() {
        let value: usize = group.parse().unwrap_or(0);
        if value == 0 {
            continue;
        }
        if british && power == 0 && value < 100 && !words.is_empty() {
            words.push("and".to_owned());
        }
        words.push(below_thousand(value, british));
        if power > 0 {
            words.push(["", "thousand", "million", "billion", "trillion"][power].to_owned());
        }
    }
    words.join(" ")
}

fn below_thousand(value: usize, british: bool) -> String {
    let mut words: Vec<&str> = Vec::new();
    if value >= 100 {
        words.extend([ONES[value / 100], "hundred"]);
        if british && !value.is_multiple_of(100) {
            words.push("and");
        }
    }
    let rest = value % 100;
    if rest >= 20 {
        words.push(TENS[rest / 10]);
        if !rest.is_multiple_of(10) {
            words.push(ONES[rest % 10]);
        }
    } else if rest > 0 {
        words.push(ONES[rest]);
    }
    words.join(" ")
}

/// Reads a number with an optional decimal part: 12.05 is "twelve point zero five".
pub(super) fn decimal(number: &str, british: bool) -> String {
    match number.split_once('.') {
        Some((whole, part)) if !part.is_empty() => {
            format!("{} point {}", cardinal(whole, british), each_digit(part))
        }
        Some((whole, _)) => cardinal(whole, british),
        None => cardinal(number, british),
    }
}

/// Reads each digit by itself.
pub(super) fn each_digit(digits: &str) -> String {
    let words: Vec<&str> = digits.chars().filter_map(|c| c.to_digit(10)).map(|d| ONES[d as usize]).collect();
    words.join(" ")
}

/// Reads a whole number as a place in a row: 22 is "twenty second".
pub(super) fn ordinal(digits: &str, british: bool) -> String {
    let spoken = cardinal(digits, british);
    let (head, last) = match spoken.rsplit_once(' ') {
        Some((head, last)) => (format!("{head} "), last),
        None => (String::new(), spoken.as_str()),
    };
    let last = match last {
        "one" => "first".to_owned(),
        "two" => "second".to_owned(),
        "three" => "third".to_owned(),
        "five" => "fifth".to_owned(),
        "eight" => "eighth".to_owned(),
        "nine" => "ninth".to_owned(),
        "twelve" => "twelfth".to_owned(),
        word => match word.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{word}th"),
        },
    };
    head + &last
}

/// Reads four digits as a year: 2026 is "twenty twenty six", 2005 "two thousand five".
pub(super) fn year(digits: &str, british: bool) -> String {
    let (Some(century), Some(rest)) = (digits.get(..2), digits.get(2..4)) else {
        return cardinal(digits, british);
    };
    if digits.len() != 4 || century.starts_with('0') {
        return cardinal(digits, british);
    }
    match (century, rest) {
        (_, "00") if century.ends_with('0') => cardinal(digits, british),
        (_, "00") => format!("{} hundred", cardinal(century, british)),
        ("20", _) if rest.starts_with('0') => cardinal(digits, british),
        _ if rest.starts_with('0') => {
            format!("{} oh {}", cardinal(century, british), cardinal(rest, british))
        }
        _ => format!("{} {}", cardinal(century, british), cardinal(rest, british)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_quantities_ordinals_and_years() {
        let quantities = [
            ("0", "zero"),
            ("13", "thirteen"),
            ("42", "forty two"),
            ("100", "one hundred"),
            ("305", "three hundred five"),
            ("1234", "one thousand two hundred thirty four"),
            ("1000000", "one million"),
            ("2000019", "two million nineteen"),
        ];
        for (digits, spoken) in quantities {
            assert_eq!(cardinal(digits, false), spoken);
        }
        assert_eq!(cardinal("305", true), "three hundred and five");
        assert_eq!(cardinal("1005", true), "one thousand and five");
        let ordinals = [
            ("1", "first"),
            ("12", "twelfth"),
            ("20", "twentieth"),
            ("22", "twenty second"),
            ("31", "thirty first"),
            ("100", "one hundredth"),
        ];
        for (digits, spoken) in ordinals {
            assert_eq!(ordinal(digits, false), spoken);
        }
        let years = [
            ("2026", "twenty twenty six"),
            ("2005", "two thousand five"),
            ("2000", "two thousand"),
            ("1999", "nineteen ninety nine"),
            ("1905", "nineteen oh five"),
            ("1900", "nineteen hundred"),
        ];
        for (digits, spoken) in years {
            assert_eq!(year(digits, false), spoken);
        }
    }
}
