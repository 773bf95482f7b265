//! The callee's time: candidate zones, and windows in local time.

use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use trunkline_model::Callee;

use crate::rules::{Day, Hours, SipRule};
use crate::{Contact, Pack, classify};

/// The IANA database that is compiled in, so that cloud and box have the same one.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// How far ahead a window is looked for.
const HORIZON_DAYS: i64 = 30;

/// Zones of a country, most of its people first. Only inhabited zones; a country that is not here
/// is unknown, which fails closed.
const COUNTRIES: &[(&str, &[&str])] = &[
    ("AE", &["Asia/Dubai"]),
    ("AR", &["America/Argentina/Buenos_Aires"]),
    ("AT", &["Europe/Vienna"]),
    (
        "AU",
        &[
            "Australia/Sydney",
            "Australia/Brisbane",
            "Australia/Adelaide",
            "Australia/Darwin",
            "Australia/Perth",
        ],
    ),
    ("BE", &["Europe/Brussels"]),
    ("BG", &["Europe/Sofia"]),
    ("BR", &["America/Sao_Paulo", "America/Manaus", "America/Rio_Branco", "America/Noronha"]),
    (
        "CA",
        &[
            "America/Toronto",
            "America/Vancouver",
            "America/Edmonton",
            "America/Winnipeg",
            "America/Regina",
            "America/Halifax",
            "America/St_Johns",
        ],
    ),
    ("CH", &["Europe/Zurich"]),
    ("CL", &["America/Santiago", "America/Punta_Arenas", "Pacific/Easter"]),
    ("CN", &["Asia/Shanghai"]),
    ("CO", &["America/Bogota"]),
    ("CY", &["Asia/Nicosia"]),
    ("CZ", &["Europe/Prague"]),
    ("DE", &["Europe/Berlin"]),
    ("DK", &["Europe/Copenhagen"]),
    ("EE", &["Europe/Tallinn"]),
    ("EG", &["Africa/Cairo"]),
    ("ES", &["Europe/Madrid", "Atlantic/Canary"]),
    ("FI", &["Europe/Helsinki"]),
    ("FR", &["Europe/Paris"]),
    ("GB", &["Europe/London"]),
    ("GG", &["Europe/London"]),
    ("GR", &["Europe/Athens"]),
    ("HK", &["Asia/Hong_Kong"]),
    ("HR", &["Europe/Zagreb"]),
    ("HU", &["Europe/Budapest"]),
    ("ID", &["Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura"]),
    ("IE", &["Europe/Dublin"]),
    ("IL", &["Asia/Jerusalem"]),
    ("IM", &["Europe/London"]),
    ("IN", &["Asia/Kolkata"]),
    ("IS", &["Atlantic/Reykjavik"]),
    ("IT", &["Europe/Rome"]),
    ("JE", &["Europe/London"]),
    ("JP", &["Asia/Tokyo"]),
    ("KE", &["Africa/Nairobi"]),
    ("KR", &["Asia/Seoul"]),
    ("LI", &["Europe/Vaduz"]),
    ("LT", &["Europe/Vilnius"]),
    ("LU", &["Europe/Luxembourg"]),
    ("LV", &["Europe/Riga"]),
    ("MO", &["Asia/Macau"]),
    ("MT", &["Europe/Malta"]),
    ("MX", &["America/Mexico_City", "America/Cancun", "America/Hermosillo", "America/Tijuana"]),
    ("MY", &["Asia/Kuala_Lumpur"]),
    ("NG", &["Africa/Lagos"]),
    ("NL", &["Europe/Amsterdam"]),
    ("NO", &["Europe/Oslo"]),
    ("NZ", &["Pacific/Auckland", "Pacific/Chatham"]),
    ("PE", &["America/Lima"]),
    ("PH", &["Asia/Manila"]),
    ("PK", &["Asia/Karachi"]),
    ("PL", &["Europe/Warsaw"]),
    ("PT", &["Europe/Lisbon", "Atlantic/Azores"]),
    ("RO", &["Europe/Bucharest"]),
    ("SA", &["Asia/Riyadh"]),
    ("SE", &["Europe/Stockholm"]),
    ("SG", &["Asia/Singapore"]),
    ("SI", &["Europe/Ljubljana"]),
    ("SK", &["Europe/Bratislava"]),
    ("TH", &["Asia/Bangkok"]),
    ("TR", &["Europe/Istanbul"]),
    ("TW", &["Asia/Taipei"]),
    (
        "US",
        &[
            "America/New_York",
            "America/Chicago",
            "America/Denver",
            "America/Phoenix",
            "America/Los_Angeles",
            "America/Anchorage",
            "Pacific/Honolulu",
        ],
    ),
    ("VN", &["Asia/Ho_Chi_Minh"]),
    ("ZA", &["Africa/Johannesburg"]),
];

/// Zones of American states that lie in one, or in two; the others count as the whole country.
const STATES: &[(&str, &[&str])] = &[
    ("AK", &["America/Anchorage"]),
    ("AL", &["America/Chicago"]),
    ("AR", &["America/Chicago"]),
    ("AZ", &["America/Phoenix", "America/Denver"]),
    ("CA", &["America/Los_Angeles"]),
    ("CO", &["America/Denver"]),
    ("CT", &["America/New_York"]),
    ("DC", &["America/New_York"]),
    ("DE", &["America/New_York"]),
    ("FL", &["America/New_York", "America/Chicago"]),
    ("GA", &["America/New_York"]),
    ("HI", &["Pacific/Honolulu"]),
    ("IA", &["America/Chicago"]),
    ("ID", &["America/Denver", "America/Los_Angeles"]),
    ("IL", &["America/Chicago"]),
    ("IN", &["America/New_York", "America/Chicago"]),
    ("KS", &["America/Chicago", "America/Denver"]),
    ("KY", &["America/New_York", "America/Chicago"]),
    ("LA", &["America/Chicago"]),
    ("MA", &["America/New_York"]),
    ("MD", &["America/New_York"]),
    ("ME", &["America/New_York"]),
    ("MI", &["America/New_York", "America/Chicago"]),
    ("MN", &["America/Chicago"]),
    ("MO", &["America/Chicago"]),
    ("MS", &["America/Chicago"]),
    ("MT", &["America/Denver"]),
    ("NC", &["America/New_York"]),
    ("ND", &["America/Chicago", "America/Denver"]),
    ("NE", &["America/Chicago", "America/Denver"]),
    ("NH", &["America/New_York"]),
    ("NJ", &["America/New_York"]),
    ("NM", &["America/Denver"]),
    ("NV", &["America/Los_Angeles", "America/Denver"]),
    ("NY", &["America/New_York"]),
    ("OH", &["America/New_York"]),
    ("OK", &["America/Chicago"]),
    ("OR", &["America/Los_Angeles", "America/Denver"]),
    ("PA", &["America/New_York"]),
    ("RI", &["America/New_York"]),
    ("SC", &["America/New_York"]),
    ("SD", &["America/Chicago", "America/Denver"]),
    ("TN", &["America/New_York", "America/Chicago"]),
    ("TX", &["America/Chicago", "America/Denver"]),
    ("UT", &["America/Denver"]),
    ("VA", &["America/New_York"]),
    ("VT", &["America/New_York"]),
    ("WA", &["America/Los_Angeles"]),
    ("WI", &["America/Chicago"]),
    ("WV", &["America/New_York"]),
    ("WY", &["America/Denver"]),
];

/// Where the callee may be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidates {
    /// Names and zones; all must allow. Empty means that nothing is known.
    pub zones: Vec<(String, TimeZone)>,
    /// How they were found, for the receipt.
    pub by: &'static str,
    /// A stored zone that does not exist.
    pub bad: bool,
}

impl Candidates {
    fn add(&mut self, names: &[&str]) {
        for name in names {
            if self.zones.iter().any(|(known, _)| known == name) {
                continue;
            }
            if let Ok(zone) = ZONES.get(name) {
                self.zones.push(((*name).to_owned(), zone));
            }
        }
    }
}

/// Returns every zone that the contact may be in: the stored zone when it is sure enough, else the
/// zones of the state, else all zones of the number's country and of the address's country.
pub fn zones_of(contact: &Contact, pack: &Pack) -> Candidates {
    let mut found = Candidates::default();
    if pack.contact.sip.value == SipRule::LabTargets {
        // Declared targets are nowhere: test numbers are often of no plan, and so of no country.
        found.add(&["UTC"]);
        found.by = "a laboratory has no place";
        return found;
    }
    if let Some(hint) = &contact.zone {
        if ZONES.get(&hint.name).is_err() {
            return Candidates { bad: true, by: "a stored zone that does not exist", ..found };
        }
        if hint.confidence >= pack.contact.zone_confidence.value {
            found.add(&[hint.name.as_str()]);
            found.by = "the stored zone";
            return found;
        }
    }
    let by_number = match &contact.callee {
        Callee::Number(number) => classify(number).country,
        Callee::Sip(_) => {
            found.add(&["UTC"]);
            found.by = "a SIP address has no place";
            return found;
        }
    };
    let us = contact.country.as_deref().or(by_number.as_deref()) == Some("US");
    let state = contact.region.as_deref().filter(|_| us);
    if let Some((_, zones)) = STATES.iter().find(|(code, _)| Some(*code) == state) {
        found.add(zones);
        found.by = "the state of the address";
    } else {
        for country in [by_number.as_deref(), contact.country.as_deref()].into_iter().flatten() {
            match COUNTRIES.iter().find(|(code, _)| *code == country) {
                Some((_, zones)) => found.add(zones),
                None => return Candidates { by: "a country without zones here", ..Candidates::default() },
            }
        }
        found.by = "the country";
    }
    // A zone that is not sure enough is one more candidate, never one fewer.
    if let Some(hint) = &contact.zone {
        found.add(&[hint.name.as_str()]);
    }
    found
}

/// Says whether a set of hours is open at an instant in a zone. No hours at all are never open.
pub fn open_at(hours: &[Hours], holidays: &[Date], zone: &TimeZone, at: Timestamp) -> bool {
    let local = at.to_zoned(zone.clone());
    if holidays.contains(&local.date()) {
        return false;
    }
    let day = Day::from(local.weekday());
    let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
    hours.iter().any(|range| {
        (range.days.is_empty() || range.days.contains(&day))
            && (range.from.minutes()..range.to.minutes()).contains(&minute)
    })
}

/// Returns the first instant from `now` on at which every set of hours is open in every zone; `None`
/// when that does not happen within 30 days.
///
/// The intersection of open ranges can only begin where one of them begins, so the beginnings of all
/// ranges are tried in order.
pub fn next_open(
    sets: &[&[Hours]],
    holidays: &[Date],
    zones: &[(String, TimeZone)],
    now: Timestamp,
) -> Option<Timestamp> {
    let open = |at: Timestamp| {
        zones.iter().all(|(_, zone)| sets.iter().all(|hours| open_at(hours, holidays, zone, at)))
    };
    if open(now) {
        return Some(now);
    }
    for (from, to) in [(-1, 3), (3, HORIZON_DAYS)] {
        let mut starts: Vec<Timestamp> = Vec::new();
        for (_, zone) in zones {
            let today = now.to_zoned(zone.clone()).date();
            for day in from..to {
                let Ok(date) = today.checked_add(SignedDuration::from_hours(day * 24)) else { continue };
                for range in sets.iter().flat_map(|hours| hours.iter()) {
                    let minutes = range.from.minutes();
                    let (hour, minute) = (minutes / 60, minutes % 60);
                    let (Ok(hour), Ok(minute)) = (i8::try_from(hour), i8::try_from(minute)) else { continue };
                    if hour > 23 {
                        continue;
                    }
                    // A range that begins in a gap of daylight saving time begins when the gap ends.
                    if let Ok(zoned) = date.at(hour, minute, 0, 0).to_zoned(zone.clone()) {
                        starts.push(zoned.timestamp());
                    }
                }
            }
        }
        starts.retain(|at| *at > now);
        starts.sort_unstable();
        starts.dedup();
        if let Some(at) = starts.into_iter().find(|at| open(*at)) {
            return Some(at);
        }
    }
    None
}
