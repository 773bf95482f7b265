//! `[transfer]`: whom the names in scripts mean, one person or several.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use trunkline_sip::hunt::{HuntPlan, MAX_PERSONS};
use trunkline_sip::message::Uri;

/// How long a person in a row rings before the next is called.
const EACH: Duration = Duration::from_secs(20);

/// `[transfer]`, by the names in scripts.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Desks(BTreeMap<String, Desk>);

impl Desks {
    /// Settles which of the persons are telephones that register here: `phone:201`, or `201` where there is such a one.
    ///
    /// # Errors
    /// When a telephone is named that there is not; the text names it.
    pub(crate) fn settle<'a>(&mut self, users: impl Iterator<Item = &'a str>) -> Result<(), String> {
        let users: BTreeSet<&str> = users.collect();
        for (desk_name, desk) in &mut self.0 {
            for named in &mut desk.persons {
                named.settle(&users).map_err(|why| format!("[transfer] {desk_name}: {why}"))?;
            }
            // The trunk does not know our telephones.
            desk.refers &= !desk.persons.iter().any(|named| matches!(named.person, Person::Phone(_)));
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Desk> {
        self.0.get(name)
    }
}

/// Who takes calls under one name, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Desk {
    pub(super) persons: Vec<Named>,
    all_at_once: bool,
    each: Option<Duration>,
    announce: bool,
    pub(super) confirm: bool,
    /// Whether the trunk is asked first to call the person.
    pub(super) refers: bool,
    /// Whether the box stays in the call, also where the trunk would take it over.
    stay: bool,
}

impl Desk {
    /// Returns how the hunt goes. `places`: for each entry the places where it is called, all at the same time;
    /// `timeout`: what the script gives one person.
    pub(super) fn plan(&self, places: Vec<Vec<usize>>, timeout: Duration, has_summary: bool) -> HuntPlan {
        let in_turn = !self.all_at_once && self.persons.len() > 1;
        let each = self.each.unwrap_or(if in_turn { EACH } else { timeout });
        let steps = if self.all_at_once { vec![places.into_iter().flatten().collect()] } else { places };
        HuntPlan { steps, each, announce: has_summary, confirm: self.confirm }
    }

    /// Returns how long the others may ring when the first who answered does not take the call.
    pub(super) fn time_after_refusal(&self) -> Duration {
        if self.all_at_once {
            Duration::ZERO
        } else {
            self.each.unwrap_or(EACH) * (self.persons.len() as u32 - 1)
        }
    }

    /// Whether the box stays in the call once the person is joined.
    pub(super) fn stays(&self) -> bool {
        self.stay
    }

    /// Whether the person hears who calls and why.
    pub(super) fn announces(&self) -> bool {
        self.announce
    }
}

/// A person and how the file names her.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) person: Person,
}

/// Somebody to hand calls to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Person {
    /// A number on the trunk.
    Number(String),
    /// A `sip:` address.
    Address(Box<Uri>),
    /// A telephone that registers at the box, by its user.
    Phone(String),
}

impl Named {
    /// Settles whether she is a telephone that registers here; `users` are those there are.
    pub(super) fn settle(&mut self, users: &BTreeSet<&str>) -> Result<(), String> {
        match &self.person {
            Person::Phone(user) if !users.contains(user.as_str()) => {
                return Err(format!("there is no [[phone]] with the user `{user}`"));
            }
            Person::Number(number) if users.contains(number.as_str()) => {
                self.person = Person::Phone(number.clone());
            }
            Person::Number(_) | Person::Address(_) | Person::Phone(_) => {}
        }
        Ok(())
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let name = text.to_owned();
        if text.starts_with("sip:") || text.starts_with("sips:") {
            let uri = Uri::parse(text).map_err(|error| format!("`{text}`: {error}"))?;
            return Ok(Self { name, person: Person::Address(Box::new(uri)) });
        }
        if let Some(user) = text.strip_prefix("phone:") {
            return Ok(Self { person: Person::Phone(user.to_owned()), name });
        }
        let digits = text.strip_prefix('+').unwrap_or(text);
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '*' | '#')) {
            return Err(format!("`{text}` is neither a number, nor phone:USER, nor a sip: address"));
        }
        Ok(Self { person: Person::Number(name.clone()), name })
    }
}

/// A desk that is written as a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Who: one, or several.
    to: OneOrMany,
    /// Whether several ring at the same time, or one after another.
    #[serde(default)]
    ring: Ring,
    /// How long one rings before the next is called; with one, or with all at once, what the script gives.
    #[serde(default, with = "humantime_serde::option")]
    each: Option<Duration>,
    /// Whether the person hears who calls and why before she is joined.
    #[serde(default = "yes")]
    announce: bool,
    /// Whether she must press 1 to take the call.
    #[serde(default)]
    confirm: bool,
    /// Whether the box stays in the call, so that all of it is recorded, where the trunk would take it over.
    #[serde(default)]
    stay: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ring {
    All,
    #[default]
    InTurn,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<Table> for Desk {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let to = match table.to {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        };
        if !(1..=MAX_PERSONS / 2).contains(&to.len()) {
            return Err(format!("to names {} persons: write 1 to {}", to.len(), MAX_PERSONS / 2));
        }
        if let Some(each) = table.each
            && !(3..=120).contains(&each.as_secs())
        {
            return Err("each must be between \"3s\" and \"120s\"".to_owned());
        }
        Ok(Self {
            persons: to.iter().map(|text| Named::parse(text)).collect::<Result<_, _>>()?,
            all_at_once: table.ring == Ring::All,
            each: table.each,
            announce: table.announce,
            confirm: table.confirm,
            refers: false,
            stay: table.stay,
        })
    }
}

impl<'de> Deserialize<'de> for Desk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;

        // An untagged enum would say of every mistake that nothing fits.
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = Desk;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, an address, or a table with `to`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Desk, E> {
                let person = Named::parse(text).map_err(E::custom)?;
                Ok(Desk {
                    persons: vec![person],
                    all_at_once: false,
                    each: None,
                    announce: true,
                    confirm: false,
                    refers: true,
                    stay: false,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Desk, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                table.try_into().map_err(serde::de::Error::custom)
            }
        }

        deserializer.deserialize_any(TextOrTable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Desk, String> {
        let read = toml::from_str::<Desks>(&format!("desk = {text}"));
        read.map(|desks| desks.0["desk"].clone()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_person_is_a_number_or_an_address_and_nothing_else() {
        let person = |text: &str| read(&format!("\"{text}\"")).map(|desk| desk.persons[0].person.clone());
        assert_eq!(person("8001").unwrap(), Person::Number("8001".to_owned()));
        assert!(matches!(person("sip:desk@192.0.2.7:5070").unwrap(), Person::Address(_)));
        for wrong in ["", "+", "desk", "80 01", "sip:"] {
            assert!(person(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_person_by_text_is_asked_of_the_trunk_first_and_rings_as_long_as_the_script_says() {
        let desk = read("\"8001\"").unwrap();
        assert!(desk.refers && desk.announces());
        let plan = desk.plan(vec![vec![0]], Duration::from_secs(12), true);
        assert_eq!((plan.steps, plan.each, plan.confirm), (vec![vec![0]], Duration::from_secs(12), false));
    }

    #[test]
    fn a_telephone_of_the_office_is_called_by_the_box_and_one_that_there_is_not_is_named() {
        let settled = |text: &str| {
            let mut desks: Desks = toml::from_str(&format!("desk = {text}")).unwrap();
            desks.settle(["201", "202"].into_iter()).map(|()| desks.0["desk"].clone())
        };
        for text in ["\"201\"", "\"phone:201\"", "{ to = [\"201\"] }"] {
            let desk = settled(text).unwrap();
            assert_eq!(
                (&desk.persons[0].person, desk.refers),
                (&Person::Phone("201".to_owned()), false),
                "{text}"
            );
        }
        assert!(settled("\"8001\"").unwrap().refers);
        assert!(settled("\"phone:300\"").unwrap_err().contains("`300`"));
    }

    #[test]
    fn several_ring_together_or_in_turn() {
        let places = || vec![vec![0], vec![1, 2]];
        let timeout = Duration::from_secs(12);
        let all = read("{ ring = \"all\", to = [\"8001\", \"8002\"], confirm = true }").unwrap();
        assert!(!all.refers, "the box calls");
        let plan = all.plan(places(), timeout, true);
        assert_eq!((plan.steps, plan.each, plan.confirm), (vec![vec![0, 1, 2]], timeout, true));
        let turn =
            read("{ to = [\"8001\", \"8002\"], announce = false }").unwrap().plan(places(), timeout, false);
        assert_eq!((turn.steps, turn.each, turn.announce), (places(), EACH, false));
        let each = read("{ ring = \"in_turn\", to = [\"8001\", \"8002\"], each = \"7s\" }").unwrap();
        assert_eq!(each.plan(places(), timeout, true).each, Duration::from_secs(7));
        assert!(!each.stays() && read("{ to = \"8001\", stay = true }").unwrap().stays());
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, named) in [
            ("{ to = [] }", "names 0 persons"),
            ("{ to = \"8001\", rings = \"all\" }", "rings"),
            ("{ to = \"8001\", ring = \"some\" }", "some"),
            ("{ to = \"8001\", each = \"1s\" }", "each must be"),
            ("{ ring = \"all\" }", "to"),
            ("7", "a number, an address"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
