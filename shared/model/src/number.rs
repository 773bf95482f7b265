//! Whom to call. A number is personal data: it hides itself in logs.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Why a text cannot be dialled. The text itself is personal data and is not part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not `+` followed by digits.
    #[error("a telephone number is written in international form: `+`, then digits, such as +8613800138000")]
    NotInternational,
    /// Fewer or more digits than E.164 allows.
    #[error("an international telephone number has 7 to 15 digits after the `+`")]
    Length,
    /// Starts with `+0`, which no country code does.
    #[error("no country code starts with 0")]
    CountryCode,
    /// A `sip:` address without a user or a host, or with characters that do not belong there.
    #[error("a SIP address is written sip:user@host or sip:user@host:port")]
    SipAddress,
}

/// A telephone number in international form (ITU-T E.164 §6): `+`, then 7 to 15 digits.
///
/// It has no `Display`; [`Self::reveal`] is the one way out, easy to find in review.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct E164(String);

impl E164 {
    /// Returns the number with its `+`, for the line and the database, never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl JsonSchema for E164 {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "E164".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A number in international form", "examples": ["+8613800138000"] })
    }
}

impl FromStr for E164 {
    type Err = NumberError;

    /// Parses `text`; spaces, dashes, dots and parentheses between the digits are dropped.
    fn from_str(text: &str) -> Result<Self, NumberError> {
        let rest = text.trim().strip_prefix('+').ok_or(NumberError::NotInternational)?;
        let mut digits = String::with_capacity(16);
        digits.push('+');
        for c in rest.chars() {
            match c {
                '0'..='9' => digits.push(c),
                ' ' | '-' | '.' | '(' | ')' => {}
                _ => return Err(NumberError::NotInternational),
            }
        }
        if digits[1..].starts_with('0') {
            return Err(NumberError::CountryCode);
        }
        if !(8..=16).contains(&digits.len()) {
            return Err(NumberError::Length);
        }
        Ok(Self(digits))
    }
}

impl TryFrom<String> for E164 {
    type Error = NumberError;

    fn try_from(text: String) -> Result<Self, NumberError> {
        text.parse()
    }
}

impl From<E164> for String {
    fn from(number: E164) -> String {
        number.0
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+…{}", &self.0[self.0.len() - 2..])
    }
}

/// A SIP address of record, `sip:user@host[:port]` (RFC 3261 §19.1), for softphones and tests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SipTarget(String);

impl SipTarget {
    /// Returns the address, never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns the part behind the `@`: host and, where given, port.
    pub fn host_port(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }
}

impl FromStr for SipTarget {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        let text = text.trim();
        let rest = text.strip_prefix("sip:").ok_or(NumberError::SipAddress)?;
        let (user, host) = rest.split_once('@').ok_or(NumberError::SipAddress)?;
        let user_ok = !user.is_empty()
            && user.len() <= 64
            && user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+!~*".contains(&b));
        let host_ok = !host.is_empty()
            && host.len() <= 255
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b));
        if user_ok && host_ok { Ok(Self(text.to_owned())) } else { Err(NumberError::SipAddress) }
    }
}

impl fmt::Debug for SipTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sip:…@{}", self.host_port())
    }
}

/// The host of an address that hides who somebody is.
const NOBODY: &str = "anonymous.invalid";

/// The customer of a call: a number on the box's trunk, or a SIP address reached directly.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Callee {
    /// A telephone number.
    Number(E164),
    /// A SIP address; accepted only where the box's configuration allows it.
    Sip(SipTarget),
}

impl Callee {
    /// Returns what was asked for, as text, for the line and the database, never for a log.
    pub fn reveal(&self) -> &str {
        match self {
            Self::Number(number) => number.reveal(),
            Self::Sip(target) => target.reveal(),
        }
    }

    /// Returns who calls without showing a number (RFC 3323 §4.1.1.3).
    pub fn anonymous() -> Self {
        Self::Sip(SipTarget(format!("sip:anonymous@{NOBODY}")))
    }

    /// Says whether this is nobody in particular: such a caller cannot be called, nor put on a list.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Sip(target) if target.host_port() == NOBODY)
    }
}

impl JsonSchema for Callee {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Callee".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A number in international form, or sip:user@host", "examples": ["+8613800138000"] })
    }
}

impl FromStr for Callee {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        if text.trim_start().starts_with("sip:") {
            text.parse().map(Self::Sip)
        } else {
            text.parse().map(Self::Number)
        }
    }
}

impl TryFrom<String> for Callee {
    type Error = NumberError;

    fn try_from(text: String) -> Result<Self, NumberError> {
        text.parse()
    }
}

impl From<Callee> for String {
    fn from(callee: Callee) -> String {
        callee.reveal().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_hides_itself_in_logs() {
        let number: E164 = "+86 138-0013-8089".parse().unwrap();
        assert_eq!(format!("{number:?}"), "+…89");
        assert_eq!(format!("{:?}", Callee::Number(number.clone())), "Number(+…89)");
        assert_eq!(number.reveal(), "+8613800138089");
        let target: SipTarget = "sip:alice@127.0.0.1:5070".parse().unwrap();
        assert_eq!(format!("{target:?}"), "sip:…@127.0.0.1:5070");
    }

    #[test]
    fn somebody_without_a_number_is_written_and_read_as_that() {
        let nobody: Callee = Callee::anonymous().reveal().parse().unwrap();
        assert_eq!((nobody.is_anonymous(), &nobody), (true, &Callee::anonymous()));
        assert!(!"sip:anonymous@192.0.2.1".parse::<Callee>().unwrap().is_anonymous());
    }

    #[test]
    fn what_is_no_number_is_refused_with_the_reason() {
        assert_eq!("13800138000".parse::<E164>(), Err(NumberError::NotInternational));
        assert_eq!("+0123456789".parse::<E164>(), Err(NumberError::CountryCode));
        assert_eq!("+123456".parse::<E164>(), Err(NumberError::Length));
        assert_eq!("+1234567890123456".parse::<E164>(), Err(NumberError::Length));
        assert_eq!("+1 555 CALL".parse::<E164>(), Err(NumberError::NotInternational));
        assert_eq!("sip:@host".parse::<Callee>(), Err(NumberError::SipAddress));
        assert_eq!("sip:a@h\r\nVia: x".parse::<Callee>(), Err(NumberError::SipAddress));
    }

    proptest! {
        #[test]
        fn no_text_panics_the_number_parser(text: String) {
            let _ = text.parse::<Callee>();
        }

        #[test]
        fn a_number_reads_back_as_written(digits in "[1-9][0-9]{6,14}") {
            let number: E164 = format!("+{digits}").parse().unwrap();
            prop_assert_eq!(number.reveal().parse::<E164>(), Ok(number.clone()));
        }
    }
}
