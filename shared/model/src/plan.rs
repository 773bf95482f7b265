//! How numbers are written in a country, and from that their international form.

use crate::E164;

/// The rules of one country: its code, and what stands before a national or an international number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialPlan {
    /// Country code (ITU-T E.164), such as `86`.
    code: &'static str,
    /// Before a national number, such as `0`; empty where there is none.
    national: &'static str,
    /// Before an international number, such as `00`.
    international: &'static str,
    /// Digits of a national number without its prefix, the fewest and the most.
    digits: (usize, usize),
}

impl DialPlan {
    /// Returns the plan of a country by the name that boxes use (`cn us uk de fr ru in jp sg br`).
    pub fn of(country: &str) -> Option<Self> {
        let plan = |code, national, international, digits| Self { code, national, international, digits };
        Some(match country {
            "cn" => plan("86", "0", "00", (9, 11)),
            "us" => plan("1", "1", "011", (10, 10)),
            "uk" => plan("44", "0", "00", (9, 10)),
            "de" => plan("49", "0", "00", (7, 11)),
            "fr" => plan("33", "0", "00", (9, 9)),
            "ru" => plan("7", "8", "810", (10, 10)),
            "in" => plan("91", "0", "00", (10, 10)),
            "jp" => plan("81", "0", "010", (9, 10)),
            "sg" => plan("65", "", "00", (8, 8)),
            "br" => plan("55", "0", "00", (10, 11)),
            _ => return None,
        })
    }

    /// Reads a number as trunks write it: `+8613800138000`, `8613800138000`, `008613800138000`, `013800138000`,
    /// `13800138000`. `None` for what is none, such as a short number or an extension.
    pub fn read(&self, text: &str) -> Option<E164> {
        let text = text.trim();
        if text.starts_with('+') {
            return text.parse().ok();
        }
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | '.' | '(' | ')')).collect();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if let Some(rest) = digits.strip_prefix(self.international)
            && let Ok(number) = format!("+{rest}").parse()
        {
            return Some(number);
        }
        let fits = |rest: &str| (self.digits.0..=self.digits.1).contains(&rest.len());
        let national = digits.strip_prefix(self.national).filter(|_| !self.national.is_empty());
        if let Some(rest) = national.filter(|rest| fits(rest) && !rest.starts_with('0')) {
            return format!("+{}{rest}", self.code).parse().ok();
        }
        if let Some(rest) = digits.strip_prefix(self.code).filter(|rest| fits(rest))
            && !fits(&digits)
        {
            return format!("+{}{rest}", self.code).parse().ok();
        }
        if fits(&digits) && !digits.starts_with('0') {
            return format!("+{}{digits}", self.code).parse().ok();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(country: &str, text: &str) -> Option<String> {
        DialPlan::of(country).unwrap().read(text).map(|number| number.reveal().to_owned())
    }

    #[test]
    fn however_a_trunk_writes_a_number_it_is_the_same_one() {
        for text in ["+8613800138000", "8613800138000", "008613800138000", "013800138000", "138-0013-8000"] {
            assert_eq!(read("cn", text).as_deref(), Some("+8613800138000"), "{text}");
        }
        for text in ["+862155550100", "02155550100", "862155550100", "2155550100"] {
            assert_eq!(read("cn", text).as_deref(), Some("+862155550100"), "{text}");
        }
        for text in ["+12025550143", "12025550143", "2025550143", "01112025550143"] {
            assert_eq!(read("us", text).as_deref(), Some("+12025550143"), "{text}");
        }
        assert_eq!(read("ru", "89161234567").as_deref(), Some("+79161234567"));
        assert_eq!(read("cn", "0012025550143").as_deref(), Some("+12025550143"));
    }

    #[test]
    fn what_is_no_number_of_the_network_is_none() {
        for text in ["", "1001", "95588", "10086", "anonymous", "+0123", "000000000000", "8001#"] {
            assert_eq!(read("cn", text), None, "{text}");
        }
        assert_eq!(DialPlan::of("xx"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics_a_plan_and_what_it_reads_stays_as_it_is(text: String, digits in "[0-9+]{1,18}") {
            for country in ["cn", "us", "uk", "de", "fr", "ru", "in", "jp", "sg", "br"] {
                let plan = DialPlan::of(country).unwrap();
                let _ = plan.read(&text);
                if let Some(number) = plan.read(&digits) {
                    prop_assert_eq!(plan.read(number.reveal()), Some(number));
                }
            }
        }
    }
}
