//! Hours of a day, as people write them.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of each day in local time, such as `22:00-05:00`, which goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct DayHours {
    from: u16,
    to: u16,
}

/// A text that names no hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hours of the day are written as 22:00-05:00, from and to, and are not the whole day")]
pub struct HoursError;

impl DayHours {
    /// Returns the minutes of the day, 0 to 1,439, at which they begin and end. The end does not belong to them.
    pub fn minutes(self) -> (u16, u16) {
        (self.from, self.to)
    }
}

impl FromStr for DayHours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Self, HoursError> {
        let (from, to) = text.split_once('-').ok_or(HoursError)?;
        let (from, to) = (minute(from).ok_or(HoursError)?, minute(to).ok_or(HoursError)?);
        if from == to { Err(HoursError) } else { Ok(Self { from, to }) }
    }
}

/// Reads `HH:MM` in 24 hours; `24:00` is the midnight at the end.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| {
        let two = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        two.then(|| text.parse::<u8>().ok()).flatten()
    };
    match (digits(hour)?, digits(minute)?) {
        (24, 0) => Some(0),
        (hour @ 0..=23, minute @ 0..=59) => Some(u16::from(hour) * 60 + u16::from(minute)),
        _ => None,
    }
}

impl fmt::Display for DayHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl TryFrom<String> for DayHours {
    type Error = HoursError;

    fn try_from(text: String) -> Result<Self, HoursError> {
        text.parse()
    }
}

impl From<DayHours> for String {
    fn from(hours: DayHours) -> Self {
        hours.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hours_are_read_as_people_write_them() {
        let minutes = |text: &str| text.parse::<DayHours>().map(DayHours::minutes);
        assert_eq!(minutes("22:00-05:00"), Ok((1_320, 300)));
        assert_eq!(minutes("09:30-17:45"), Ok((570, 1_065)));
        assert_eq!(minutes("18:00-24:00"), Ok((1_080, 0)));
        for bad in
            ["", "22-5", "22:00", "22:00-22:00", "00:00-24:00", "25:00-05:00", "22:60-05:00", "+1:00-02:00"]
        {
            assert_eq!(minutes(bad), Err(HoursError), "{bad}");
        }
        let read: DayHours = serde_json::from_str("\"22:00-05:00\"").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "\"22:00-05:00\"");
    }

    proptest! {
        #[test]
        fn hours_read_back_as_written(from in 0u16..1_440, to in 0u16..1_440) {
            prop_assume!(from != to);
            let hours = DayHours { from, to };
            prop_assert_eq!(hours.to_string().parse(), Ok(hours));
        }

        #[test]
        fn no_text_panics_the_reader_of_hours(text: String) {
            let _ = text.parse::<DayHours>();
        }
    }
}
