//! Taking registrations: where the telephones of an office are (RFC 3261 §10.3).
//!
//! Who registers must know the password of the user that he registers (RFC 7616, RFC 8760). A telephone is called
//! where its registration came from, under the address that it named as its contact, so that nobody can have us call
//! elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use tracing::info;

use super::exchange::{Answer, reply_to};
use super::tables::ServerKey;
use super::{ALLOW, UserAgent, unknown_extensions};
use crate::digest::{Algorithm, Credentials, Subject, Verdict, Verifier};
use crate::message::{Headers, Hop, NameAddr, Request, Response, Uri};

/// The time that a binding is kept when the telephone does not say.
const USUAL: Duration = Duration::from_secs(3_600);
/// The longest contact that is kept, in bytes.
const MAX_CONTACT: usize = 256;

/// Who may register, and for how long.
#[derive(Clone, Debug)]
pub struct RegistrarConfig {
    /// The realm of the challenge.
    pub realm: String,
    /// The users, each with the password of its telephones.
    pub users: Vec<Credentials>,
    /// What is offered, best first.
    pub algorithms: Vec<Algorithm>,
    /// The shortest time that is granted; who asks for less is told (423).
    pub shortest: Duration,
    /// The longest time that is granted; who asks for more gets this.
    pub longest: Duration,
    /// Telephones of one user at a time; one more takes the place of the one that would end first.
    pub contacts: usize,
}

impl RegistrarConfig {
    /// SHA-256 and MD5, a minute to an hour, four telephones of one user.
    pub fn new(realm: impl Into<String>, users: Vec<Credentials>) -> Self {
        Self {
            realm: realm.into(),
            users,
            algorithms: vec![Algorithm::SHA256, Algorithm::MD5],
            shortest: Duration::from_secs(60),
            longest: USUAL,
            contacts: 4,
        }
    }
}

/// Where a telephone is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The address that it goes by; it stands in the requests to it.
    pub contact: Uri,
    /// Where it is reached: where its registration came from.
    pub at: Hop,
}

/// A binding with what its end and its changes depend on.
#[derive(Clone, Debug)]
struct Kept {
    binding: Binding,
    call_id: String,
    cseq: u32,
    ends: Instant,
    /// Preference in thousandths.
    q: u16,
}

/// Why a registration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Unreadable(&'static str),
    TooBrief,
    OutOfOrder,
}

/// One contact of a REGISTER.
struct Wish {
    contact: Uri,
    lasts: Duration,
    q: u16,
}

/// All bindings. Its size is bounded by the users and [`RegistrarConfig::contacts`].
pub(super) struct Registrar {
    config: RegistrarConfig,
    verifier: Verifier,
    bindings: BTreeMap<String, Vec<Kept>>,
}

impl Registrar {
    pub(super) fn new(now: Instant, config: RegistrarConfig, rng: &mut StdRng) -> Self {
        let (users, algorithms) = (config.users.clone(), config.algorithms.clone());
        let verifier = Verifier::new(config.realm.clone(), users, algorithms, rng.random(), now);
        Self { config, verifier, bindings: BTreeMap::new() }
    }

    /// Returns where the telephones of a user are, the preferred and the newest first.
    pub(super) fn find(&self, now: Instant, user: &str) -> Vec<Binding> {
        let mut kept: Vec<&Kept> =
            self.bindings.get(user).into_iter().flatten().filter(|kept| kept.ends > now).collect();
        kept.sort_by_key(|kept| std::cmp::Reverse((kept.q, kept.ends)));
        kept.into_iter().map(|kept| kept.binding.clone()).collect()
    }

    /// A connection is gone, and with it whoever was reached on it.
    pub(super) fn handle_lost(&mut self, at: Hop) {
        for kept in self.bindings.values_mut() {
            kept.retain(|kept| kept.binding.at != at);
        }
    }

    /// Takes in what a user registers; all of it or nothing. Returns the Contact values of the answer.
    fn take(
        &mut self,
        now: Instant,
        user: &str,
        from: Hop,
        headers: &Headers,
    ) -> Result<Vec<String>, Refusal> {
        let call_id = headers.call_id().unwrap_or_default().to_owned();
        let cseq = headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let wishes = self.wishes(headers)?;
        let mut kept = self.bindings.get(user).cloned().unwrap_or_default();
        kept.retain(|kept| kept.ends > now);
        let in_order = |kept: &Kept| kept.call_id != call_id || kept.cseq < cseq;
        match wishes {
            None => {
                if !kept.iter().all(in_order) {
                    return Err(Refusal::OutOfOrder);
                }
                kept.clear();
            }
            Some(wishes) => {
                for wish in wishes {
                    if let Some(at) = kept.iter().position(|kept| kept.binding.contact == wish.contact) {
                        if !in_order(&kept[at]) {
                            return Err(Refusal::OutOfOrder);
                        }
                        kept.remove(at);
                    }
                    if wish.lasts.is_zero() {
                        continue;
                    }
                    if kept.len() >= self.config.contacts.max(1)
                        && let Some(first) = (0..kept.len()).min_by_key(|at| kept[*at].ends)
                    {
                        kept.remove(first);
                    }
                    let binding = Binding { contact: wish.contact, at: from };
                    let (call_id, ends) = (call_id.clone(), now + wish.lasts);
                    kept.push(Kept { binding, call_id, cseq, ends, q: wish.q });
                }
            }
        }
        let before = self.bindings.get(user).map_or(0, Vec::len);
        if before != kept.len() {
            info!(user, telephones = kept.len(), "Telephones registered: {}", kept.len());
        }
        let contact = |kept: &Kept| {
            let left = kept.ends.saturating_duration_since(now).as_secs();
            let mut contact = NameAddr::new(kept.binding.contact.clone());
            contact.params.set("expires", Some(&left.to_string()));
            contact.to_wire()
        };
        let told = kept.iter().map(contact).collect();
        self.bindings.insert(user.to_owned(), kept);
        Ok(told)
    }

    /// Reads the contacts; `None` for all that there are (`*`), which are taken back.
    fn wishes(&self, headers: &Headers) -> Result<Option<Vec<Wish>>, Refusal> {
        let seconds = |text: &str| text.trim().parse::<u32>().map(|s| Duration::from_secs(s.into()));
        // What is no number counts as the usual time (RFC 3261 §20.19).
        let usual = headers.get("Expires").map_or(USUAL, |text| seconds(text).unwrap_or(USUAL));
        let values: Vec<&str> = headers.list("Contact").collect();
        if values.contains(&"*") {
            return match (values.len(), usual.is_zero()) {
                (1, true) => Ok(None),
                (1, false) => Err(Refusal::Unreadable("A contact of * needs Expires: 0")),
                _ => Err(Refusal::Unreadable("A contact of * stands alone")),
            };
        }
        if values.len() > self.config.contacts.max(1) {
            return Err(Refusal::Unreadable("Too many contacts"));
        }
        let mut wishes = Vec::new();
        for value in values {
            let unreadable = || Refusal::Unreadable("Unreadable Contact");
            let contact = NameAddr::parse(value).map_err(|_| unreadable())?;
            if !contact.uri.is_sip() || value.len() > MAX_CONTACT {
                return Err(unreadable());
            }
            let lasts = contact.params.get("expires").map_or(usual, |text| seconds(&text).unwrap_or(usual));
            if !lasts.is_zero() && lasts < self.config.shortest {
                return Err(Refusal::TooBrief);
            }
            let q = contact.params.get("q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
            let q = (q.clamp(0.0, 1.0) * 1_000.0) as u16;
            wishes.push(Wish { contact: contact.uri, lasts: lasts.min(self.config.longest), q });
        }
        Ok(Some(wishes))
    }
}

impl UserAgent {
    /// Returns where the telephones of a user are that registered here, the preferred and the newest first.
    pub fn bindings(&self, now: Instant, user: &str) -> Vec<Binding> {
        self.registrar.as_ref().map(|registrar| registrar.find(now, user)).unwrap_or_default()
    }

    /// Takes in a REGISTER, where registrations are taken at all.
    pub(super) fn handle_register(&mut self, now: Instant, from: Hop, key: ServerKey, request: Request) {
        if self.registrar.is_none() {
            let Some(config) = self.config.registrar.clone() else { return };
            self.registrar = Some(Registrar::new(now, config, &mut self.rng));
        }
        let Some(registrar) = &mut self.registrar else { return };
        let uri = request.uri.to_wire();
        let subject = Subject { method: request.method.as_str(), uri: &uri, body: &request.body };
        let user = match registrar.verifier.verify(now, &request.headers, false, subject) {
            Verdict::Known(user) => user,
            Verdict::Missing | Verdict::Wrong => return self.challenge(now, from, &request.headers, false),
            Verdict::Stale => return self.challenge(now, from, &request.headers, true),
        };
        // From here on it is somebody who knows a password: he gets his answer, and again if it is lost.
        let required = unknown_extensions(&request.headers);
        if !required.is_empty() {
            let headers = &[("Unsupported", required.as_str())];
            return self.answer(
                now,
                from,
                key,
                request,
                Answer { code: 420, phrase: "Bad Extension", headers },
            );
        }
        let to = request.headers.to().map(|to| to.uri.user_text()).unwrap_or_default();
        if to != user {
            let headers = &[];
            return self.answer(now, from, key, request, Answer { code: 403, phrase: "Forbidden", headers });
        }
        let shortest = registrar.config.shortest.as_secs().to_string();
        match registrar.take(now, &user, from, &request.headers) {
            Ok(contacts) => {
                let headers: Vec<_> = contacts.iter().map(|contact| ("Contact", contact.as_str())).collect();
                let answer = Answer { code: 200, phrase: "OK", headers: &headers };
                self.answer(now, from, key, request, answer);
            }
            Err(Refusal::TooBrief) => {
                let headers = &[("Min-Expires", shortest.as_str())];
                let answer = Answer { code: 423, phrase: "Interval Too Brief", headers };
                self.answer(now, from, key, request, answer);
            }
            Err(Refusal::OutOfOrder) => {
                let answer = Answer { code: 500, phrase: "CSeq out of order", headers: &[] };
                self.answer(now, from, key, request, answer);
            }
            Err(Refusal::Unreadable(phrase)) => {
                self.answer(
                    now,
                    from,
                    key,
                    request,
                    Answer { code: 400, phrase, headers: &[("Allow", ALLOW)] },
                );
            }
        }
    }

    /// Asks whoever sent this for a password: only so often, and by datagram with no more than he sent.
    fn challenge(&mut self, now: Instant, from: Hop, headers: &Headers, stale: bool) {
        if !self.strangers.take(now, from.addr.ip()) {
            self.stats.dropped += 1;
            return;
        }
        self.stats.refused += 1;
        let Some(challenges) = self.registrar.as_ref().map(|r| r.verifier.challenges(now, stale)) else {
            return;
        };
        let tag = self.token(8);
        // Where the datagram is too short for all, the last is the one that every telephone knows.
        for first in 0..challenges.len() {
            let mut response = Response::answer(headers, 401, "Unauthorized");
            response.tag_to(&tag);
            for challenge in &challenges[first..] {
                response.headers.push("WWW-Authenticate", challenge);
            }
            let bytes = response.to_bytes();
            if from.transport.is_reliable() || bytes.len() <= self.heard_bytes {
                self.send(reply_to(headers, from), bytes);
                return;
            }
        }
        self.stats.dropped += 1;
    }
}
