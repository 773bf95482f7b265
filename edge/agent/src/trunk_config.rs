//! `[trunk]` and `[[trunk]]` of `edge.toml`: the SIP trunks, strict and checked while they load.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tracing::warn;
use trunkline_line::trunks::{Encryption, Proxy, TrunkSetup};
use trunkline_line::{KeysBy, PeerTls};
use trunkline_model::E164;
use trunkline_sip::Account;
use trunkline_sip::digest::Credentials;
use trunkline_sip::identity::{Assert, IdentityPolicy};
use trunkline_sip::message::Transport;
use trunkline_sip::sdp::Codec;
use trunkline_sip::trunk::TrunkSettings;

use crate::lines_file::{check_secret, read_secret};
use crate::tls;

/// One `[trunk]`, or several `[[trunk]]`s in the order of the file.
#[derive(Debug)]
pub struct TrunkList(pub(crate) Vec<Trunk>);

impl<'de> Deserialize<'de> for TrunkList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        // An untagged enum would say of every mistake that nothing fits.
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = TrunkList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[trunk] or [[trunk]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TrunkList, A::Error> {
                Ok(TrunkList(vec![Trunk::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<TrunkList, A::Error> {
                Ok(TrunkList(Vec::deserialize(SeqAccessDeserializer::new(seq))?))
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

/// One SIP trunk.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trunk {
    /// What people call it, in records and reports; `proxy` by default.
    name: Option<String>,
    /// Where it is: `192.0.2.1:5060`, `sip.example.com`; the port is 5060, or 5061 over TLS, by default.
    proxy: String,
    /// Our address towards it; port 0 takes any. Trunks may share one.
    bind: SocketAddr,
    /// `udp`, `tcp` or `tls`.
    #[serde(default)]
    transport: TransportName,
    /// Who signed the trunk's certificate, for TLS.
    ca: Option<PathBuf>,
    /// Our certificate and its key (mode 0600), where the trunk asks for one.
    cert: Option<PathBuf>,
    /// See `cert`.
    key: Option<PathBuf>,
    /// The name that the trunk's certificate must have; the host of `proxy` by default.
    server_name: Option<String>,
    /// User name for digest authentication, and the user part of From.
    user: Option<String>,
    /// File with the password, mode 0600.
    password_file: Option<PathBuf>,
    /// Host part of From and To, and of what is registered; the trunk's own by default.
    domain: Option<String>,
    /// Registers, and asks for a binding of this length, such as `"1h"`; without it the trunk knows us by address.
    #[serde(default, with = "humantime_serde::option")]
    register: Option<Duration>,
    /// The lower, the earlier it is tried.
    #[serde(default)]
    priority: u16,
    /// How often it comes first among those of its priority.
    #[serde(default = "default_weight")]
    weight: u16,
    /// Calls at a time.
    #[serde(default = "default_channels")]
    channels: u32,
    /// New calls a second that it takes.
    #[serde(default = "default_rate")]
    calls_per_second: f64,
    /// How often it is asked by OPTIONS whether it is alive, such as `"30s"`, or `"off"`.
    #[serde(default)]
    ping: Ping,
    /// The number to show when a call brings none.
    caller_id: Option<E164>,
    /// Numbers that it may show; any by default.
    #[serde(default)]
    caller_ids: Vec<E164>,
    /// What the numbers begin with that it may call, such as `+86` or `+1212`; all by default.
    #[serde(default)]
    serves: Vec<String>,
    /// Codecs in order of preference.
    #[serde(default = "default_codecs")]
    codecs: Vec<CodecName>,
    /// Whether the sound is encrypted: `off`, `optional` or `required`.
    #[serde(default)]
    encryption: EncryptionName,
    /// How the trunk is told the caller's number: not at all, as `asserted` or as `preferred` identity.
    assert: Option<AssertName>,
    /// Hides our number from whom is called.
    #[serde(default)]
    anonymous: bool,
    /// How keys are pressed there: `events`, `info` or `sound`.
    #[serde(default)]
    keys: KeysName,
    /// Whether the trunk is asked to join customer and person by itself once both are on it.
    #[serde(default)]
    takes_over: bool,
    /// Whether the trunk may move a call that it carries, with an INVITE that takes the call's place.
    #[serde(default)]
    moves_calls: bool,
    /// Whether calls may go to `sip:` addresses, past the trunk. For tests and softphones.
    #[serde(default)]
    allow_sip_targets: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TransportName {
    #[default]
    Udp,
    Tcp,
    Tls,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EncryptionName {
    #[default]
    Off,
    Optional,
    Required,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeysName {
    #[default]
    Events,
    Info,
    Sound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AssertName {
    Asserted,
    Preferred,
}

/// A codec by its name in SDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum CodecName {
    #[serde(rename = "PCMA")]
    Pcma,
    #[serde(rename = "PCMU")]
    Pcmu,
    #[serde(rename = "G722")]
    G722,
    #[serde(rename = "opus")]
    Opus,
}

/// `"off"`, or how often: 5 s to 10 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Ping(Option<Duration>);

impl Default for Ping {
    fn default() -> Self {
        Self(Some(Duration::from_secs(30)))
    }
}

impl TryFrom<String> for Ping {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let every = text
            .strip_suffix('s')
            .and_then(|seconds| seconds.trim().parse().ok())
            .filter(|seconds| (5..=600).contains(seconds));
        match every {
            Some(seconds) => Ok(Self(Some(Duration::from_secs(seconds)))),
            None => Err(format!("ping = `{text}`: write \"off\", or \"5s\" to \"600s\"")),
        }
    }
}

fn default_codecs() -> Vec<CodecName> {
    vec![CodecName::Pcma, CodecName::Pcmu]
}

fn default_weight() -> u16 {
    TrunkSettings::default().weight
}

/// As many as a box carries: its own limit counts then.
fn default_channels() -> u32 {
    200
}

fn default_rate() -> f64 {
    50.0
}

impl TrunkList {
    /// Takes relative paths from where the file lies.
    pub fn resolve(&mut self, base: &Path) {
        for trunk in &mut self.0 {
            let paths = [&mut trunk.ca, &mut trunk.cert, &mut trunk.key, &mut trunk.password_file];
            for path in paths.into_iter().flatten() {
                *path = base.join(&path);
            }
        }
    }

    /// Says what is wrong with a trunk, and with which.
    ///
    /// # Errors
    /// When something is.
    pub fn check(&self) -> Result<()> {
        if self.0.is_empty() {
            bail!("there is no trunk: add a [[trunk]]");
        }
        for (at, trunk) in self.0.iter().enumerate() {
            let name = trunk.name();
            trunk.check().with_context(|| format!("[[trunk]] `{name}`"))?;
            if self.0[..at].iter().any(|other| other.name() == name) {
                bail!("two trunks are called `{name}`: give each a `name` of its own");
            }
        }
        Ok(())
    }

    /// Tells whether calls may go past the trunks.
    pub fn allow_sip_targets(&self) -> bool {
        self.0.iter().any(|trunk| trunk.allow_sip_targets)
    }

    /// Reads certificates and passwords, and returns what the line needs.
    ///
    /// # Errors
    /// When one of them cannot be read, with the trunk's name.
    pub fn setups(&self) -> Result<Vec<TrunkSetup>> {
        self.0.iter().map(Trunk::named_setup).collect()
    }

    /// Returns the names of the trunks in their order.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(Trunk::name).collect()
    }

    /// As [`Self::setups`], for the trunk of that name only; `None` when there is none.
    pub fn setup(&self, name: &str) -> Option<Result<TrunkSetup>> {
        self.0.iter().find(|trunk| trunk.name() == name).map(Trunk::named_setup)
    }
}

impl Trunk {
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.proxy)
    }

    /// Returns where the trunk is; `None` if the text is no place.
    fn place(&self) -> Option<Proxy> {
        let usual = if self.transport == TransportName::Tls { 5061 } else { 5060 };
        let place = |host: &str, port| {
            let plain = !host.is_empty()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_'));
            plain.then(|| Proxy { host: host.to_owned(), port })
        };
        if let Some(rest) = self.proxy.strip_prefix('[') {
            let (host, port) = rest.split_once(']')?;
            return match port.strip_prefix(':') {
                Some(port) => place(host, port.parse().ok()?),
                None if port.is_empty() => place(host, usual),
                None => None,
            };
        }
        match self.proxy.matches(':').count() {
            0 => place(&self.proxy, usual),
            1 => {
                let (host, port) = self.proxy.split_once(':')?;
                place(host, port.parse().ok()?)
            }
            _ => place(&self.proxy, usual),
        }
    }

    fn check(&self) -> Result<()> {
        let Some(place) = self.place() else {
            bail!(
                "proxy = `{}`: write an address or a name, and a port if it is not the usual one",
                self.proxy
            );
        };
        if self.bind.ip().is_unspecified() {
            bail!("bind must be the address that the trunk sees, not the wildcard {}", self.bind.ip());
        }
        if place.literal().is_some_and(|proxy| proxy.is_ipv4() != self.bind.is_ipv4()) {
            bail!("proxy and bind must both be IPv4 or both IPv6");
        }
        let is_tls = self.transport == TransportName::Tls;
        if is_tls && self.ca.is_none() {
            bail!("transport = \"tls\" needs ca, the file with who signed the trunk's certificate");
        }
        let tls_only = [
            ("ca", self.ca.is_some()),
            ("cert", self.cert.is_some()),
            ("server_name", self.server_name.is_some()),
        ];
        if let Some((key, _)) = tls_only.iter().find(|(_, given)| *given && !is_tls) {
            bail!("{key} is for transport = \"tls\" only");
        }
        if self.cert.is_some() != self.key.is_some() {
            bail!("cert and key belong together: give both or neither");
        }
        if self.user.is_some() != self.password_file.is_some() {
            bail!("user and password_file belong together: give both or neither");
        }
        if self.register.is_some() && self.user.is_none() {
            bail!("register needs user and password_file");
        }
        if self.register.is_some_and(|time| !(60..=86_400).contains(&time.as_secs())) {
            bail!("register must be between \"1m\" and \"24h\"");
        }
        if self.codecs.is_empty() {
            bail!("codecs is empty: name at least one of PCMA, PCMU, G722 and opus");
        }
        if !(1..=200).contains(&self.channels) {
            bail!("channels = {}: a trunk carries 1 to 200 calls of a box", self.channels);
        }
        if !(0.05..=1_000.0).contains(&self.calls_per_second) {
            bail!("calls_per_second = {}: write 0.05 to 1000", self.calls_per_second);
        }
        self.check_reach()?;
        for path in [&self.key, &self.password_file].into_iter().flatten() {
            check_secret(path)?;
        }
        Ok(())
    }

    /// Checks which calls it may carry.
    fn check_reach(&self) -> Result<()> {
        let is_prefix = |text: &str| {
            text.strip_prefix('+').is_some_and(|digits| {
                (1..=15).contains(&digits.len())
                    && digits.bytes().all(|byte| byte.is_ascii_digit())
                    && !digits.starts_with('0')
            })
        };
        if let Some(wrong) = self.serves.iter().find(|prefix| !is_prefix(prefix)) {
            bail!("serves = `{wrong}`: write + and the first digits of the numbers, such as \"+86\"");
        }
        let own_is_missing = self.caller_id.as_ref().is_some_and(|own| !self.caller_ids.contains(own));
        if own_is_missing && !self.caller_ids.is_empty() {
            bail!("caller_id is not among caller_ids: add it there, or leave one of the two out");
        }
        Ok(())
    }

    fn named_setup(&self) -> Result<TrunkSetup> {
        self.setup().with_context(|| format!("[[trunk]] `{}`", self.name()))
    }

    fn setup(&self) -> Result<TrunkSetup> {
        let proxy = self.place().with_context(|| format!("proxy = `{}` is no place", self.proxy))?;
        let tls = match self.transport {
            TransportName::Udp | TransportName::Tcp => None,
            TransportName::Tls => Some(self.tls(&proxy)?),
        };
        let credentials = match (&self.user, self.password()?) {
            (Some(user), Some(password)) => Some(Credentials::new(user, &password)),
            (Some(_) | None, Some(_) | None) => None,
        };
        if self.encryption != EncryptionName::Off && tls.is_none() {
            warn!(
                trunk = self.name(),
                "The keys of the sound travel in the clear: encryption needs transport = \"tls\""
            );
        }
        Ok(TrunkSetup {
            proxy,
            transport: match self.transport {
                TransportName::Udp => Transport::Udp,
                TransportName::Tcp => Transport::Tcp,
                TransportName::Tls => Transport::Tls,
            },
            tls,
            account: Account { credentials, domain: self.domain.clone() },
            user: self.user.clone(),
            register: self.register,
            pool: TrunkSettings {
                priority: self.priority,
                weight: self.weight,
                channels: self.channels,
                calls_per_second: self.calls_per_second,
                ping_every: self.ping.0,
            },
            codecs: self
                .codecs
                .iter()
                .map(|codec| match codec {
                    CodecName::Pcma => Codec::Pcma,
                    CodecName::Pcmu => Codec::Pcmu,
                    CodecName::G722 => Codec::G722,
                    CodecName::Opus => Codec::Opus,
                })
                .collect(),
            encryption: match self.encryption {
                EncryptionName::Off => Encryption::Off,
                EncryptionName::Optional => Encryption::Optional,
                EncryptionName::Required => Encryption::Required,
            },
            inbound: true,
            keys: match self.keys {
                KeysName::Events => KeysBy::Events,
                KeysName::Info => KeysBy::Info,
                KeysName::Sound => KeysBy::Sound,
            },
            takes_over: self.takes_over,
            moves_calls: self.moves_calls,
            caller_id: self.caller_id.as_ref().map(|number| number.reveal().to_owned()),
            caller_ids: self.caller_ids.iter().map(|number| number.reveal().to_owned()).collect(),
            serves: self.serves.clone(),
            identity: IdentityPolicy {
                assert: match self.assert {
                    None => Assert::No,
                    Some(AssertName::Asserted) => Assert::Asserted,
                    Some(AssertName::Preferred) => Assert::Preferred,
                },
                anonymous: self.anonymous,
                ..IdentityPolicy::default()
            },
            ..TrunkSetup::new(self.name(), Proxy { host: String::new(), port: 0 }, self.bind)
        })
    }

    fn tls(&self, proxy: &Proxy) -> Result<PeerTls> {
        let ca = self.ca.as_ref().context("transport = \"tls\" needs ca")?;
        let own = self.cert.as_deref().zip(self.key.as_deref());
        let name = self.server_name.as_ref().unwrap_or(&proxy.host).clone();
        let wanted = ServerName::try_from(name.clone())
            .with_context(|| format!("`{name}` is neither a name nor an address"))?;
        Ok(PeerTls { client: tls::client_of(ca, own)?, name: wanted })
    }

    /// Reads the password.
    fn password(&self) -> Result<Option<String>> {
        let Some(path) = &self.password_file else { return Ok(None) };
        read_secret(path).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        trunk: TrunkList,
    }

    fn read(text: &str) -> Result<Vec<TrunkSetup>> {
        let file: File = toml::from_str(text)?;
        file.trunk.check()?;
        file.trunk.setups()
    }

    fn refused(text: &str) -> String {
        format!("{:#}", read(text).unwrap_err())
    }

    const ONE: &str = "[trunk]\nproxy = \"192.0.2.1\"\nbind = \"127.0.0.1:0\"\n";

    #[test]
    fn one_trunk_may_stand_alone_and_several_in_their_order() {
        let one = read(ONE).unwrap();
        assert_eq!(one[0].proxy, Proxy { host: "192.0.2.1".to_owned(), port: 5060 });
        assert_eq!(one[0].name, "192.0.2.1");
        let two = read(
            "[[trunk]]\nname = \"a\"\nproxy = \"sip.example.com:5070\"\nbind = \"127.0.0.1:0\"\n\
             [[trunk]]\nname = \"b\"\nproxy = \"[2001:db8::1]\"\nbind = \"[::1]:0\"\npriority = 7\nchannels = 4\n\
             calls_per_second = 0.5\ntransport = \"tcp\"\nping = \"off\"\ncodecs = [\"PCMU\"]\nencryption = \"optional\"\n",
        )
        .unwrap();
        assert_eq!(two[0].proxy, Proxy { host: "sip.example.com".to_owned(), port: 5070 });
        assert_eq!(two[0].pool.ping_every, Some(Duration::from_secs(30)));
        assert_eq!(two[1].proxy, Proxy { host: "2001:db8::1".to_owned(), port: 5060 });
        assert_eq!((two[1].pool.priority, two[1].pool.channels, two[1].pool.ping_every), (7, 4, None));
        assert_eq!((two[1].transport, two[1].encryption), (Transport::Tcp, Encryption::Optional));
        assert_eq!(two[1].codecs, [Codec::Pcmu]);
    }

    #[test]
    fn opus_is_spoken_where_a_trunk_says_so_and_only_there() {
        assert_eq!(read(ONE).unwrap()[0].codecs, [Codec::Pcma, Codec::Pcmu]);
        let with = read(&format!("{ONE}codecs = [\"opus\", \"PCMA\"]\n")).unwrap();
        assert_eq!(with[0].codecs, [Codec::Opus, Codec::Pcma]);
    }

    #[test]
    fn a_trunk_takes_calls_over_and_moves_them_only_where_it_is_told_so() {
        let plain = &read(ONE).unwrap()[0];
        assert!(!plain.takes_over && !plain.moves_calls);
        assert_eq!(plain.keys, KeysBy::Events);
        let keys = |name: &str| read(&format!("{ONE}keys = \"{name}\"\n")).unwrap()[0].keys;
        assert_eq!((keys("info"), keys("sound")), (KeysBy::Info, KeysBy::Sound));
        let with = &read(&format!("{ONE}takes_over = true\nmoves_calls = true\n")).unwrap()[0];
        assert!(with.takes_over && with.moves_calls);
    }

    #[test]
    fn a_trunk_carries_the_calls_that_it_may() {
        let plain = &read(ONE).unwrap()[0];
        assert!(plain.may_carry(Some("+14155550123"), "+442079460000"));
        let with = format!("{ONE}serves = [\"+86\"]\ncaller_ids = [\"+862155550100\"]\n");
        let with = &read(&with).unwrap()[0];
        assert!(with.may_carry(Some("+862155550100"), "+8613800138000"));
        assert!(with.may_carry(None, "+8613800138000"), "it shows its own");
        assert!(!with.may_carry(Some("+862155550101"), "+8613800138000"));
        assert!(!with.may_carry(Some("+862155550100"), "+442079460000"));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_name_of_the_trunk() {
        for (more, said) in [
            ("regster = \"1h\"", "regster"),
            ("transport = \"sctp\"", "sctp"),
            ("transport = \"tls\"", "needs ca"),
            ("ca = \"ca.pem\"", "tls"),
            ("user = \"a\"", "belong together"),
            ("register = \"1h\"", "needs user"),
            ("codecs = []", "codecs is empty"),
            ("channels = 0", "channels = 0"),
            ("calls_per_second = 0.0", "calls_per_second"),
            ("ping = \"1h\"", "5s"),
            ("serves = [\"86\"]", "+86"),
            ("caller_ids = [\"+862155550100\"]\ncaller_id = \"+862155550101\"", "not among caller_ids"),
        ] {
            let error = refused(&format!("{ONE}{more}\n"));
            assert!(error.contains(said), "{more}: {error}");
        }
        let error = refused("[trunk]\nname = \"carrier\"\nproxy = \"a b\"\nbind = \"127.0.0.1:0\"\n");
        assert!(error.contains("carrier") && error.contains("a b"), "{error}");
        assert!(refused("[trunk]\nproxy = \"192.0.2.1\"\nbind = \"0.0.0.0:0\"\n").contains("wildcard"));
    }

    #[test]
    fn two_trunks_need_two_names() {
        let one = "[[trunk]]\nproxy = \"192.0.2.1\"\nbind = \"127.0.0.1:0\"\n";
        assert!(refused(&format!("{one}{one}")).contains("two trunks"));
    }

    #[test]
    fn an_authority_that_is_no_certificate_is_refused_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, "x").unwrap();
        let text = format!("{ONE}transport = \"tls\"\nca = \"{}\"\n", ca.display());
        assert!(refused(&text).contains("ca.pem"));
    }
}
