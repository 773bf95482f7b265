//! Digest authentication, both sides (RFC 7616, RFC 2617, RFC 8760).
//!
//! A client collects the challenges of a 401 or 407, takes the strongest it knows for each realm, counts its
//! nonces and tells a stale nonce from a wrong password. A server makes nonces that it can check without
//! remembering them, and keeps the counts of the ones in use so that a captured answer cannot be replayed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};
use ring::{digest as sha, hmac};

use crate::message::{Headers, find_outside_quotes, quote, split_outside_quotes, unquote};

/// A user name and its password. The password never shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl Credentials {
    /// Pairs a user name with its password.
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    /// Returns the user name.
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The hash of a challenge, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// MD5, still the usual one.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512 cut to 256 bits.
    Sha512256,
}

/// The algorithm of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Algorithm {
    /// The hash.
    pub hash: Hash,
    /// Whether the secret is bound to the session's nonces (`-sess`).
    pub session: bool,
}

impl Algorithm {
    /// Plain MD5.
    pub const MD5: Self = Self { hash: Hash::Md5, session: false };
    /// Plain SHA-256.
    pub const SHA256: Self = Self { hash: Hash::Sha256, session: false };

    /// Reads the `algorithm` parameter; `None` for one that is not known.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let (name, session) = match upper.strip_suffix("-SESS") {
            Some(name) => (name, true),
            None => (upper.as_str(), false),
        };
        let hash = match name {
            "MD5" => Hash::Md5,
            "SHA-256" | "SHA256" => Hash::Sha256,
            "SHA-512-256" => Hash::Sha512256,
            _ => return None,
        };
        Some(Self { hash, session })
    }

    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match (self.hash, self.session) {
            (Hash::Md5, false) => "MD5",
            (Hash::Md5, true) => "MD5-sess",
            (Hash::Sha256, false) => "SHA-256",
            (Hash::Sha256, true) => "SHA-256-sess",
            (Hash::Sha512256, false) => "SHA-512-256",
            (Hash::Sha512256, true) => "SHA-512-256-sess",
        }
    }

    fn hash(self, text: &[u8]) -> String {
        match self.hash {
            Hash::Md5 => hex::encode(Md5::digest(text)),
            Hash::Sha256 => hex::encode(sha::digest(&sha::SHA256, text)),
            Hash::Sha512256 => hex::encode(sha::digest(&sha::SHA512_256, text)),
        }
    }
}

/// How much of the request the answer covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Qop {
    /// RFC 2069: no count, no client nonce.
    None,
    Auth,
    AuthInt,
}

/// One challenge that we know how to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Whose password is asked for.
    pub realm: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The password was right, only the nonce is old.
    pub stale: bool,
    /// It came in a 407 and goes back in Proxy-Authorization.
    pub proxy: bool,
    nonce: String,
    opaque: Option<String>,
    qop: Qop,
    /// Whether the algorithm was named, so that the answer names it too.
    named: bool,
}

impl Challenge {
    /// Reads every Digest challenge of a 401 or 407 that we can answer.
    pub fn read_all(headers: &Headers) -> Vec<Self> {
        let mut all = Vec::new();
        for (name, proxy) in [("WWW-Authenticate", false), ("Proxy-Authenticate", true)] {
            for line in headers.all(name) {
                all.extend(split_challenges(line).iter().filter_map(|fields| Self::read(fields, proxy)));
            }
        }
        all.truncate(16);
        all
    }

    fn read(fields: &Fields, proxy: bool) -> Option<Self> {
        let named = fields.get("algorithm");
        let algorithm = match &named {
            Some(name) => Algorithm::parse(name)?,
            None => Algorithm::MD5,
        };
        let qop = match fields.get("qop") {
            None => Qop::None,
            Some(list) => {
                let has = |wanted: &str| list.split(',').any(|q| q.trim().eq_ignore_ascii_case(wanted));
                if has("auth") {
                    Qop::Auth
                } else if has("auth-int") {
                    Qop::AuthInt
                } else {
                    return None;
                }
            }
        };
        Some(Self {
            realm: fields.get("realm")?,
            nonce: fields.get("nonce")?,
            opaque: fields.get("opaque"),
            stale: fields.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
            algorithm,
            proxy,
            qop,
            named: named.is_some(),
        })
    }
}

/// What an answer is computed for.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// Its Request-URI as it is printed.
    pub uri: &'a str,
    /// Its body, for `auth-int`.
    pub body: &'a [u8],
}

/// What to do with the challenges of a 401 or 407.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Send the request again with [`ClientAuth::authorize`].
    Retry,
    /// The credentials were refused, or nothing in the challenge can be answered.
    GiveUp,
}

/// The client's side: what was asked for so far, by realm, with the count of each nonce.
///
/// One lives as long as a call or a registration, so that its later requests need no second round trip.
#[derive(Clone, Debug, Default)]
pub struct ClientAuth {
    realms: Vec<Realm>,
}

#[derive(Clone, Debug)]
struct Realm {
    challenge: Challenge,
    count: u32,
    cnonce: String,
}

/// How often one request answers challenges of the same realm: a server that calls every nonce stale must end.
const MAX_STALE: u32 = 3;
/// Realms that one request answers at most.
const MAX_REALMS: usize = 4;

/// Keeps count of what one request was challenged for, over all its retries.
#[derive(Clone, Debug, Default)]
pub struct Attempts(Vec<(bool, String, u32)>);

impl Attempts {
    /// Tells whether the request answered any challenge.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }
}

impl ClientAuth {
    /// Takes in the challenges of a refused request. `cnonce` must be fresh and random.
    pub fn handle_challenge(&mut self, headers: &Headers, attempts: &mut Attempts, cnonce: &str) -> Advice {
        let mut best: Vec<Challenge> = Vec::new();
        for challenge in Challenge::read_all(headers) {
            match best.iter_mut().find(|b| b.proxy == challenge.proxy && b.realm == challenge.realm) {
                Some(known) if challenge.algorithm.hash > known.algorithm.hash => *known = challenge,
                Some(_) => {}
                None => best.push(challenge),
            }
        }
        best.truncate(MAX_REALMS);
        if best.is_empty() {
            return Advice::GiveUp;
        }
        for challenge in best {
            let key = (challenge.proxy, challenge.realm.clone());
            let room = attempts.0.len() < MAX_REALMS;
            let tried = attempts.0.iter_mut().find(|(proxy, realm, _)| *proxy == key.0 && *realm == key.1);
            match tried {
                // Refused although it answered just this realm: the password is wrong.
                Some((_, _, times)) if !challenge.stale || *times >= MAX_STALE => return Advice::GiveUp,
                Some((_, _, times)) => *times += 1,
                None if !room => return Advice::GiveUp,
                None => attempts.0.push((key.0, key.1, 1)),
            }
            let fresh = Realm { cnonce: cnonce.to_owned(), count: 0, challenge };
            let same = |r: &Realm| {
                r.challenge.proxy == fresh.challenge.proxy && r.challenge.realm == fresh.challenge.realm
            };
            match self.realms.iter().position(same) {
                Some(at) => self.realms[at] = fresh,
                None => self.realms.push(fresh),
            }
            if self.realms.len() > MAX_REALMS {
                self.realms.remove(0);
            }
        }
        Advice::Retry
    }

    /// Puts the answers to all known challenges into `headers`; nothing if there was no challenge yet.
    pub fn authorize(&mut self, credentials: &Credentials, subject: Subject<'_>, headers: &mut Headers) {
        headers.remove("Authorization");
        headers.remove("Proxy-Authorization");
        for realm in &mut self.realms {
            realm.count += 1;
            let name = if realm.challenge.proxy { "Proxy-Authorization" } else { "Authorization" };
            headers.push(name, realm.answer(credentials, subject));
        }
    }
}

impl Realm {
    fn answer(&self, credentials: &Credentials, subject: Subject<'_>) -> String {
        let Challenge { realm, algorithm, nonce, opaque, qop, named, .. } = &self.challenge;
        let nc = format!("{:08x}", self.count);
        let response = response(
            *algorithm,
            &secret(*algorithm, &credentials.user, realm, &credentials.password),
            nonce,
            *qop,
            &nc,
            &self.cnonce,
            subject,
        );
        let mut out = format!(
            "Digest username={}, realm={}, nonce={}, uri={}, response=\"{response}\"",
            quote(&credentials.user),
            quote(realm),
            quote(nonce),
            quote(subject.uri),
        );
        if *named {
            out.push_str(&format!(", algorithm={}", algorithm.name()));
        }
        match qop {
            Qop::None if algorithm.session => out.push_str(&format!(", cnonce=\"{}\"", self.cnonce)),
            Qop::None => {}
            Qop::Auth => out.push_str(&format!(", cnonce=\"{}\", qop=auth, nc={nc}", self.cnonce)),
            Qop::AuthInt => out.push_str(&format!(", cnonce=\"{}\", qop=auth-int, nc={nc}", self.cnonce)),
        }
        if let Some(opaque) = opaque {
            out.push_str(&format!(", opaque={}", quote(opaque)));
        }
        out
    }
}

fn secret(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> String {
    algorithm.hash(format!("{user}:{realm}:{password}").as_bytes())
}

/// The formula of RFC 7616 §3.4.1; `secret` is the hash of user, realm and password.
fn response(
    algorithm: Algorithm,
    secret: &str,
    nonce: &str,
    qop: Qop,
    nc: &str,
    cnonce: &str,
    subject: Subject<'_>,
) -> String {
    let a1 = if algorithm.session {
        algorithm.hash(format!("{secret}:{nonce}:{cnonce}").as_bytes())
    } else {
        secret.to_owned()
    };
    let mut a2 = format!("{}:{}", subject.method, subject.uri);
    if qop == Qop::AuthInt {
        a2.push(':');
        a2.push_str(&algorithm.hash(subject.body));
    }
    let a2 = algorithm.hash(a2.as_bytes());
    let text = match qop {
        Qop::None => format!("{a1}:{nonce}:{a2}"),
        Qop::Auth => format!("{a1}:{nonce}:{nc}:{cnonce}:auth:{a2}"),
        Qop::AuthInt => format!("{a1}:{nonce}:{nc}:{cnonce}:auth-int:{a2}"),
    };
    algorithm.hash(text.as_bytes())
}

/// What a server thinks of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This user sent it.
    Known(String),
    /// No credentials for our realm: challenge.
    Missing,
    /// The nonce is not ours any more, or its count went back: challenge with `stale=true`.
    Stale,
    /// Wrong user or password: challenge anew, or refuse.
    Wrong,
}

/// The server's side.
pub struct Verifier {
    realm: String,
    users: Vec<Credentials>,
    algorithms: Vec<Algorithm>,
    key: hmac::Key,
    epoch: Instant,
    /// The highest count seen of each nonce in use, and when the nonce ends.
    counts: BTreeMap<String, (u32, Instant)>,
}

/// How long a nonce is good.
const NONCE_LIFE: Duration = Duration::from_secs(300);
/// Nonces whose counts are kept; beyond that the ones that end first are forgotten and become stale.
const MAX_NONCES: usize = 4096;

impl Verifier {
    /// Makes a server for `realm`; `key` must be random, `algorithms` lists what is offered, best first.
    pub fn new(
        realm: impl Into<String>,
        users: Vec<Credentials>,
        algorithms: Vec<Algorithm>,
        key: [u8; 32],
        now: Instant,
    ) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Self { realm: realm.into(), users, algorithms, key, epoch: now, counts: BTreeMap::new() }
    }

    /// Returns the values of the WWW-Authenticate (or Proxy-Authenticate) headers to send.
    pub fn challenges(&self, now: Instant, stale: bool) -> Vec<String> {
        let nonce = self.nonce(now.saturating_duration_since(self.epoch).as_millis() as u64);
        let stale = if stale { ", stale=true" } else { "" };
        let text = |algorithm: &Algorithm| {
            let (realm, name) = (quote(&self.realm), algorithm.name());
            format!("Digest realm={realm}, nonce=\"{nonce}\", algorithm={name}, qop=\"auth\"{stale}")
        };
        self.algorithms.iter().map(text).collect()
    }

    /// Checks the `Authorization` (or, with `proxy`, `Proxy-Authorization`) headers of a request.
    pub fn verify(&mut self, now: Instant, headers: &Headers, proxy: bool, subject: Subject<'_>) -> Verdict {
        let name = if proxy { "Proxy-Authorization" } else { "Authorization" };
        let ours = headers.all(name).take(8).flat_map(split_challenges);
        let Some(fields) = ours.into_iter().find(|f| f.get("realm").as_deref() == Some(self.realm.as_str()))
        else {
            return Verdict::Missing;
        };
        self.check(now, &fields, subject).unwrap_or(Verdict::Wrong)
    }

    fn check(&mut self, now: Instant, fields: &Fields, subject: Subject<'_>) -> Option<Verdict> {
        let algorithm = match fields.get("algorithm") {
            Some(name) => Algorithm::parse(&name)?,
            None => Algorithm::MD5,
        };
        if !self.algorithms.contains(&algorithm) {
            return None;
        }
        let (nonce, nc, cnonce) = (fields.get("nonce")?, fields.get("nc")?, fields.get("cnonce")?);
        if fields.get("qop")? != "auth" {
            return None;
        }
        let user = fields.get("username")?;
        let known = self.users.iter().find(|known| known.user == user)?;
        // The URI is taken as the client wrote it: a proxy on the way may have changed the request's own.
        let uri = fields.get("uri")?;
        let subject = Subject { uri: &uri, ..subject };
        let secret = secret(algorithm, &user, &self.realm, &known.password);
        let expected = response(algorithm, &secret, &nonce, Qop::Auth, &nc, &cnonce, subject);
        if !same(expected.as_bytes(), fields.get("response")?.to_ascii_lowercase().as_bytes()) {
            return None;
        }
        let count = u32::from_str_radix(&nc, 16).ok()?;
        Some(if self.nonce_is_good(now, &nonce, count) { Verdict::Known(user) } else { Verdict::Stale })
    }

    fn nonce(&self, at_ms: u64) -> String {
        let tag = hmac::sign(&self.key, &at_ms.to_be_bytes());
        format!("{at_ms:016x}{}", hex::encode(&tag.as_ref()[..16]))
    }

    fn nonce_is_good(&mut self, now: Instant, nonce: &str, count: u32) -> bool {
        let Some(at_ms) = nonce.get(..16).and_then(|hex| u64::from_str_radix(hex, 16).ok()) else {
            return false;
        };
        if !same(self.nonce(at_ms).as_bytes(), nonce.as_bytes()) {
            return false;
        }
        let Some(ends) = self.epoch.checked_add(Duration::from_millis(at_ms).saturating_add(NONCE_LIFE))
        else {
            return false;
        };
        if now >= ends {
            return false;
        }
        let last = self.counts.get(nonce).map_or(0, |(last, _)| *last);
        if count <= last {
            return false;
        }
        if self.counts.len() >= MAX_NONCES {
            self.counts.retain(|_, (_, ends)| *ends > now);
            // Nonces begin with their time, so the first one ends first.
            while self.counts.len() >= MAX_NONCES {
                self.counts.pop_first();
            }
        }
        self.counts.insert(nonce.to_owned(), (count, ends));
        true
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({:?}, {} users)", self.realm, self.users.len())
    }
}

/// Compares without telling by its duration where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |acc, (x, y)| acc | (x ^ y)) == 0
}

/// The `name=value` pairs of one challenge or answer.
#[derive(Debug, Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn get(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }
}

/// Cuts a header value into its Digest challenges; several may stand in one line (RFC 7235 §4.1).
fn split_challenges(line: &str) -> Vec<Fields> {
    let mut all: Vec<Option<Fields>> = Vec::new();
    for part in split_outside_quotes(line, ',') {
        let equals = find_outside_quotes(part, '=').unwrap_or(part.len());
        let before = &part[..equals];
        // `Digest realm=…` begins a challenge, `nonce=…` goes on with it.
        let pair = match before.trim().split_once([' ', '\t']) {
            Some((scheme, _)) => {
                let digest = scheme.eq_ignore_ascii_case("Digest");
                all.push(digest.then(Fields::default));
                &part[scheme.len()..]
            }
            None => part,
        };
        let Some(Some(fields)) = all.last_mut() else { continue };
        if let Some((name, value)) = pair.split_once('=') {
            fields.0.push((name.trim().to_owned(), unquote(value.trim())));
        }
    }
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
