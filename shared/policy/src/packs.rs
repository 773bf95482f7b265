//! The packs of this build, and which of them apply.

use std::collections::BTreeMap;
use std::net::IpAddr;

use trunkline_model::Callee;

use crate::{Contact, Pack, PackError, classify};

const SHIPPED: [(&str, &str); 6] = [
    ("us", include_str!("../packs/us.yaml")),
    ("uk", include_str!("../packs/uk.yaml")),
    ("eu", include_str!("../packs/eu.yaml")),
    ("cn", include_str!("../packs/cn.yaml")),
    ("default-strict", include_str!("../packs/default-strict.yaml")),
    ("unrestricted-lab", include_str!("../packs/unrestricted-lab.yaml")),
];

const STRICT: &str = "default-strict";
const LAB: &str = "unrestricted-lab";

/// Declared targets that reach no telephone: the only ones that the laboratory's pack is used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lab {
    /// Beginnings of test numbers, such as `+861380013`; at least 8 characters each.
    pub numbers: Vec<String>,
    /// Boxes whose trunks end on a loopback: the only ones that get such numbers.
    pub boxes: Vec<String>,
    /// SIP addresses on a loopback or a private network are called.
    pub sip: bool,
}

impl Lab {
    /// Says whether the callee is a declared target.
    pub fn covers(&self, callee: &Callee) -> bool {
        match callee {
            Callee::Number(number) => self
                .numbers
                .iter()
                .any(|start| start.len() >= 8 && number.reveal().starts_with(start.as_str())),
            Callee::Sip(target) => self.sip && is_inside(target.host_port()),
        }
    }
}

/// Says whether a SIP host is this machine or a private network.
fn is_inside(host_port: &str) -> bool {
    let host = match host_port.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => host_port.split_once(':').map_or(host_port, |(host, _)| host),
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => host == "localhost",
    }
}

/// A set of packs.
#[derive(Clone, Debug)]
pub struct Packs {
    by_id: BTreeMap<String, Pack>,
    lab: Lab,
}

impl Packs {
    /// Reads the packs of this build, without a laboratory.
    ///
    /// # Errors
    /// [`PackError`] when one cannot be read, which a test of this crate rules out.
    pub fn shipped() -> Result<Self, PackError> {
        let mut by_id = BTreeMap::new();
        for (name, text) in SHIPPED {
            by_id.insert(name.to_owned(), Pack::from_yaml(name, text)?);
        }
        Ok(Self { by_id, lab: Lab::default() })
    }

    /// Declares a laboratory.
    #[must_use]
    pub fn with_lab(mut self, lab: Lab) -> Self {
        self.lab = lab;
        self
    }

    /// Puts a pack in, in the place of the one of the same name. Of two versions the newer stays.
    pub fn insert(&mut self, pack: Pack) {
        if self.by_id.get(&pack.id).is_none_or(|known| known.version <= pack.version) {
            self.by_id.insert(pack.id.clone(), pack);
        }
    }

    /// Returns the laboratory.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Returns a pack by name.
    pub fn get(&self, id: &str) -> Option<&Pack> {
        self.by_id.get(id)
    }

    /// Returns all packs.
    pub fn all(&self) -> impl Iterator<Item = &Pack> {
        self.by_id.values()
    }

    /// Returns the packs for a contact: of its number's country and of its address's country; the strict
    /// one for a country without its own; the laboratory's for its declared targets, and for nothing else.
    pub fn applicable(&self, contact: &Contact) -> Vec<&Pack> {
        if self.lab.covers(&contact.callee) {
            return self.by_id.get(LAB).into_iter().collect();
        }
        let by_number = match &contact.callee {
            Callee::Number(number) => classify(number).country,
            Callee::Sip(_) => None,
        };
        let mut ids: Vec<&str> = Vec::new();
        for country in [by_number.as_ref(), contact.country.as_ref()].into_iter().flatten() {
            let id = self
                .by_id
                .values()
                .find(|pack| pack.countries.contains(country))
                .map_or(STRICT, |pack| pack.id.as_str());
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() {
            ids.push(STRICT);
        }
        ids.into_iter().filter_map(|id| self.by_id.get(id)).collect()
    }
}
