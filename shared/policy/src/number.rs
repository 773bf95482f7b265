//! What kind of number it is.

use std::cell::RefCell;

use phonenumber::metadata::DATABASE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trunkline_model::E164;

/// Emergency services by their national numbers; a number that is nothing else than one of these after
/// its country code is never dialled (ITU-T E.161.1 and national plans).
const EMERGENCY: [&str; 18] = [
    "000", "100", "101", "102", "108", "110", "111", "112", "113", "114", "115", "117", "118", "119", "120",
    "122", "911", "999",
];

/// The type of a telephone line, as far as the number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineType {
    /// A mobile telephone.
    Mobile,
    /// A fixed line.
    Fixed,
    /// One of the two: the numbering plan does not tell (North America).
    FixedOrMobile,
    /// Voice over IP, a personal number or a company number.
    Other,
    /// Free for the caller.
    TollFree,
    /// Premium rate or shared cost.
    Premium,
    /// An emergency service.
    Emergency,
    /// A short code, a pager, a mailbox.
    Service,
    /// Valid, of a type that the numbering plan does not name.
    Unknown,
}

/// A telephone number looked at closely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// It follows the numbering plan of its country.
    pub valid: bool,
    /// What it is.
    pub line_type: LineType,
    /// ISO 3166-1 alpha-2, where the number belongs to one country.
    pub country: Option<String>,
}

thread_local! {
    /// The last number and what it is: judging one call asks a dozen times about the same one.
    static LAST: RefCell<Option<(E164, Target)>> = const { RefCell::new(None) };
}

/// Looks a number up in the numbering plans (libphonenumber's metadata).
pub fn classify(number: &E164) -> Target {
    LAST.with_borrow_mut(|last| match last {
        Some((known, target)) if known == number => target.clone(),
        _ => {
            let target = look_up(number);
            *last = Some((number.clone(), target.clone()));
            target
        }
    })
}

fn look_up(number: &E164) -> Target {
    let Ok(parsed) = phonenumber::parse(None, number.reveal()) else {
        return Target { valid: false, line_type: LineType::Unknown, country: None };
    };
    let national = parsed.national().value().to_string();
    let digits = number.reveal().trim_start_matches('+');
    let written = digits.strip_prefix(&parsed.code().value().to_string()).unwrap_or(digits);
    let country = parsed.country().id().map(|id| id.as_ref().to_owned());
    if EMERGENCY.contains(&written) || EMERGENCY.contains(&national.as_str()) {
        return Target { valid: false, line_type: LineType::Emergency, country };
    }
    use phonenumber::Type;
    let line_type = match parsed.number_type(&DATABASE) {
        Type::Mobile => LineType::Mobile,
        Type::FixedLine => LineType::Fixed,
        Type::FixedLineOrMobile => LineType::FixedOrMobile,
        Type::Voip | Type::PersonalNumber | Type::Uan => LineType::Other,
        Type::TollFree => LineType::TollFree,
        Type::PremiumRate | Type::SharedCost | Type::StandardRate => LineType::Premium,
        Type::Emergency => LineType::Emergency,
        Type::Pager | Type::Voicemail | Type::ShortCode | Type::Carrier | Type::NoInternational => {
            LineType::Service
        }
        Type::Unknown => LineType::Unknown,
    };
    Target { valid: parsed.is_valid(), line_type, country }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Target {
        classify(&text.parse().unwrap())
    }

    #[test]
    fn a_number_tells_its_type_and_country() {
        for (number, line_type, country) in [
            ("+8613800138000", LineType::Mobile, "CN"),
            ("+862155551234", LineType::Fixed, "CN"),
            ("+12025550123", LineType::FixedOrMobile, "US"),
            ("+14165550123", LineType::FixedOrMobile, "CA"),
            ("+447400123456", LineType::Mobile, "GB"),
            ("+442079460123", LineType::Fixed, "GB"),
            ("+491711234567", LineType::Mobile, "DE"),
            ("+18005550123", LineType::TollFree, "US"),
            ("+19005550123", LineType::Premium, "US"),
            ("+449098790000", LineType::Premium, "GB"),
        ] {
            let found = of(number);
            assert_eq!((found.line_type, found.country.as_deref()), (line_type, Some(country)), "{number}");
        }
    }

    #[test]
    fn an_emergency_number_with_a_country_code_is_recognised() {
        for number in ["+8861110000110", "+852999999"] {
            assert!(!of(number).valid, "{number}");
        }
        assert_eq!(of("+3520112").line_type, LineType::Emergency);
        assert_eq!(of("+35200112").line_type, LineType::Emergency);
    }

    proptest! {
        #[test]
        fn no_number_panics_the_look_up(digits in "[1-9][0-9]{6,14}") {
            let _ = of(&format!("+{digits}"));
        }
    }
}
