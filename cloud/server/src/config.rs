//! The configuration: strict TOML, and the small files that it names.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use trunkline_api::Rate;
use trunkline_figures::OtlpConfig;
use trunkline_model::E164;
use trunkline_policy::{Attestation, Consent, Did, Lab, NumberClass, Pack, Packs};
use trunkline_worker::callbacks::parse_secret;
use trunkline_worker::shared_state::SharedStateConfig;
use trunkline_worker::{Gate, GateSettings, GenerateConfig};

use crate::fleet::FleetConfig;
use crate::mosquitto::MosquittoConfig;

/// `cloud.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the database lives.
    pub(crate) data_dir: PathBuf,
    /// The HTTP API.
    pub(crate) api: Endpoint,
    /// The embedded broker; or else `mosquitto`.
    #[serde(default)]
    pub(crate) mqtt: Option<Endpoint>,
    /// A Mosquitto beside the cloud, in the place of the embedded broker.
    #[serde(default)]
    pub(crate) mosquitto: Option<MosquittoConfig>,
    /// The scripts.
    pub(crate) scripts: ScriptsConfig,
    /// What the robot must not say, and what is noticed when a customer says it.
    #[serde(default)]
    pub(crate) words: WordsConfig,
    /// Calls as other systems see them; without this section they are not shared.
    #[serde(default)]
    pub(crate) redis: Option<RedisSection>,
    /// A language model for nodes that ask for one; without this section their fixed wording is spoken.
    #[serde(default)]
    pub(crate) generate: Option<GenerateSection>,
    /// Who may use the API.
    pub(crate) tokens: TokensConfig,
    /// Reports to the CRM; without this section none are sent.
    #[serde(default)]
    pub(crate) callbacks: Option<CallbacksConfig>,
    /// The models.
    #[serde(default)]
    pub(crate) models: ModelsConfig,
    /// How calls are treated.
    #[serde(default)]
    pub(crate) calls: CallsConfig,
    /// Who may be called; what is not declared counts as not there.
    #[serde(default)]
    pub(crate) policy: PolicyConfig,
    /// How many requests a token may make.
    #[serde(default)]
    pub(crate) rate: RateConfig,
    /// A collector of OpenTelemetry to which the figures of `/metrics` are pushed; to none without it.
    #[serde(default)]
    pub(crate) otlp: Option<OtlpConfig>,
    /// How boxes join and are updated; without this section nobody joins.
    #[serde(default)]
    pub(crate) fleet: Option<FleetConfig>,
}

/// A port with TLS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    /// Address and port; port 0 takes any that is free.
    pub(crate) listen: SocketAddr,
    /// The certificate chain, PEM.
    pub(crate) cert: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// Who signs the certificates of boxes, PEM.
    pub(crate) client_ca: PathBuf,
}

/// `[scripts]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScriptsConfig {
    /// Folder with `*.yaml` files.
    pub(crate) dir: PathBuf,
}

/// `[words]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WordsConfig {
    /// Folder with word lists, `*.yaml`; a change counts for the calls that are dialled after it.
    #[serde(default)]
    pub(crate) dir: Option<PathBuf>,
}

/// `[redis]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RedisSection {
    /// File with the address, readable by its owner only, since it may hold a password:
    /// `rediss://[USER:PASSWORD@]HOST:PORT[/DB]`; `redis://`, without encryption, only on this machine.
    pub(crate) url_file: PathBuf,
    /// Who signed its certificate, PEM; the system's authorities when left out.
    #[serde(default)]
    pub(crate) ca: Option<PathBuf>,
    /// How long a call's hash stays after its last change.
    #[serde(default = "a_week", with = "humantime_serde")]
    pub(crate) ttl: Duration,
    /// The name of the stream of events.
    #[serde(default = "stream_name")]
    pub(crate) stream: String,
    /// How many events the stream keeps, about.
    #[serde(default = "stream_length")]
    pub(crate) max_len: u32,
    /// Outcome codes that count as a conversion.
    #[serde(default = "conversions")]
    pub(crate) conversions: Vec<String>,
}

fn a_week() -> Duration {
    Duration::from_secs(7 * 24 * 3_600)
}

fn stream_name() -> String {
    "calls".to_owned()
}

fn stream_length() -> u32 {
    100_000
}

fn conversions() -> Vec<String> {
    vec!["agreed".to_owned()]
}

/// Whether an address names this machine.
fn is_here(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('/').next().unwrap_or_default();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    host.starts_with("[::1]")
        || ["127.0.0.1", "localhost"].contains(&host.split(':').next().unwrap_or_default())
}

impl RedisSection {
    /// Checks the address and reads the certificate.
    pub(crate) fn load(&self) -> anyhow::Result<SharedStateConfig> {
        let url = read_private("address of Redis", &self.url_file)?.trim().to_owned();
        ensure!(
            url.starts_with("rediss://") || (url.starts_with("redis://") && is_here(&url)),
            "the address in `{}` must begin with rediss:// (redis:// only for this machine)",
            self.url_file.display()
        );
        ensure!(
            !self.stream.is_empty() && !self.ttl.is_zero() && self.max_len > 0,
            "`redis.stream`, `redis.ttl` and `redis.max_len` must not be empty or 0"
        );
        let ca = self.ca.as_ref().map(|path| {
            fs::read(path).with_context(|| format!("could not read `redis.ca` `{}`", path.display()))
        });
        Ok(SharedStateConfig {
            url,
            ca: ca.transpose()?,
            ttl: self.ttl,
            stream: self.stream.clone(),
            max_len: self.max_len,
            conversions: self.conversions.clone(),
        })
    }
}

/// `[generate]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerateSection {
    /// The whole address of the chat completions, `https://…/v1/chat/completions`; `http` only on this machine.
    pub(crate) url: String,
    /// The model's name there.
    pub(crate) model: String,
    /// The key, readable by its owner only; none for a server that asks for none.
    #[serde(default)]
    pub(crate) key_file: Option<PathBuf>,
}

impl GenerateSection {
    /// Checks the address and reads the key.
    pub(crate) fn load(&self) -> anyhow::Result<GenerateConfig> {
        ensure!(
            self.url.starts_with("https://") || (self.url.starts_with("http://") && is_here(&self.url)),
            "`generate.url` must begin with https:// (http:// only for this machine): what customers say goes there"
        );
        let key = self.key_file.as_ref().map(|path| read_private("key of the language model", path));
        let key = key.transpose()?.map(|key| key.trim().to_owned());
        Ok(GenerateConfig { url: self.url.clone(), model: self.model.clone(), key })
    }
}

/// `[tokens]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokensConfig {
    /// Lines `name sha256`, readable by its owner only.
    pub(crate) file: PathBuf,
}

/// `[callbacks]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallbacksConfig {
    /// `whsec_` and base64, readable by its owner only.
    pub(crate) secret_file: PathBuf,
    /// Call private and local addresses too.
    #[serde(default)]
    pub(crate) allow_private: bool,
}

/// `[models]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelsConfig {
    /// Folder with the models; the user's cache when left out.
    #[serde(default)]
    pub(crate) dir: Option<PathBuf>,
    /// Start without the encoder, understanding by rules and the linear head alone.
    #[serde(default)]
    pub(crate) optional: bool,
}

/// `[calls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CallsConfig {
    /// The deadline of a call that names none.
    #[serde(with = "humantime_serde")]
    pub(crate) not_after: Duration,
    /// Silence after which a running call is shown as lost.
    #[serde(with = "humantime_serde")]
    pub(crate) lost_after: Duration,
    /// How long a call rings.
    #[serde(with = "humantime_serde")]
    pub(crate) ring: Duration,
    /// The share of finished calls that a person is to listen to, 0 to 1.
    pub(crate) listen_share: f64,
}

/// `[policy]`: what the operator declares to the compliance gate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicyConfig {
    /// Folder with packs of one's own (`*.yaml`), in the place of the shipped ones of the same name.
    pub(crate) packs: Option<PathBuf>,
    /// The legal basis of contacts for whom a request names none.
    pub(crate) basis: Option<Consent>,
    /// How strongly the trunks sign calls: A, B or C.
    pub(crate) attestation: Option<Attestation>,
    /// How long records are kept, in days.
    pub(crate) retention_days: u32,
    /// A person's data can be handed out and erased.
    pub(crate) subject_rights: bool,
    /// Audio that leaves is labelled as artificial.
    pub(crate) audio_label: bool,
    /// The caller ids that may be shown.
    pub(crate) caller_ids: Vec<CallerIdConfig>,
    /// Targets that reach no telephone.
    pub(crate) lab: LabConfig,
}

/// `[[policy.caller_ids]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallerIdConfig {
    /// The number.
    pub(crate) number: E164,
    /// Where the proof of the right to use it is.
    pub(crate) proof: String,
    /// Who calls back is answered and can opt out.
    pub(crate) reachable: bool,
    /// Its class.
    pub(crate) class: NumberClass,
    /// It may receive calls only.
    #[serde(default)]
    pub(crate) inbound_only: bool,
}

/// `[policy.lab]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LabConfig {
    /// Beginnings of test numbers, at least 8 characters each.
    pub(crate) numbers: Vec<String>,
    /// Boxes whose trunks end on a loopback.
    pub(crate) boxes: Vec<String>,
    /// SIP addresses on a loopback or a private network are called.
    pub(crate) sip: bool,
}

/// `[rate]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RateConfig {
    /// Requests per second of one token in the long run.
    pub(crate) per_second: f64,
    /// Requests of one token at once.
    pub(crate) burst: u32,
}

impl Default for RateConfig {
    fn default() -> Self {
        let rate = Rate::default();
        Self { per_second: rate.per_second, burst: rate.burst }
    }
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self {
            not_after: Duration::from_secs(5 * 60),
            lost_after: Duration::from_secs(15 * 60),
            ring: Duration::from_secs(30),
            listen_share: 0.02,
        }
    }
}

impl Config {
    /// Reads a file; paths in it are relative to its folder.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("could not read the configuration `{}`", path.display()))?;
        let mut config: Self =
            toml::from_str(&text).with_context(|| format!("`{}` is not a configuration", path.display()))?;
        let base = path.parent().unwrap_or(Path::new("."));
        let base = fs::canonicalize(if base.as_os_str().is_empty() { Path::new(".") } else { base })
            .with_context(|| format!("could not find the folder of `{}`", path.display()))?;
        for relative in [
            &mut config.data_dir,
            &mut config.api.cert,
            &mut config.api.key,
            &mut config.api.client_ca,
            &mut config.scripts.dir,
            &mut config.tokens.file,
        ] {
            *relative = base.join(&*relative);
        }
        if let Some(mqtt) = &mut config.mqtt {
            for relative in [&mut mqtt.cert, &mut mqtt.key, &mut mqtt.client_ca] {
                *relative = base.join(&*relative);
            }
        }
        if let Some(mosquitto) = &mut config.mosquitto {
            mosquitto.resolve(&base);
        }
        config.check_broker()?;
        if let Some(callbacks) = &mut config.callbacks {
            callbacks.secret_file = base.join(&callbacks.secret_file);
        }
        if let Some(redis) = &mut config.redis {
            redis.url_file = base.join(&redis.url_file);
            redis.ca = redis.ca.take().map(|ca| base.join(ca));
        }
        if let Some(key) = config.generate.as_mut().and_then(|generate| generate.key_file.as_mut()) {
            *key = base.join(&*key);
        }
        for dir in [&mut config.models.dir, &mut config.words.dir].into_iter().flatten() {
            *dir = base.join(&*dir);
        }
        if let Some(fleet) = &mut config.fleet {
            fleet.resolve(&base);
        }
        if let Some(otlp) = &mut config.otlp {
            otlp.settle(&base)?;
        }
        if let Some(packs) = &mut config.policy.packs {
            *packs = base.join(&*packs);
        }
        ensure!((0.0..=1.0).contains(&config.calls.listen_share), "`calls.listen_share` must be from 0 to 1");
        ensure!(
            config.policy.lab.numbers.iter().all(|start| start.len() >= 8 && start.starts_with('+')),
            "`policy.lab.numbers` are beginnings of numbers, `+` and at least 7 digits"
        );
        ensure!(
            config.rate.per_second > 0.0 && config.rate.burst > 0,
            "`rate.per_second` and `rate.burst` must be above 0"
        );
        ensure!(
            config.calls.not_after >= Duration::from_secs(1),
            "`calls.not_after` must be at least a second"
        );
        ensure!(
            (5..=300).contains(&config.calls.ring.as_secs()),
            "`calls.ring` must be between 5 and 300 seconds"
        );
        ensure!(
            config.calls.lost_after >= Duration::from_secs(60),
            "`calls.lost_after` must be at least a minute"
        );
        Ok(config)
    }

    fn check_broker(&self) -> anyhow::Result<()> {
        ensure!(
            self.mqtt.is_some() != self.mosquitto.is_some(),
            "give `[mqtt]` for the embedded broker or `[mosquitto]` for one beside it: one of them, and not both"
        );
        let enrolled_only = self.fleet.as_ref().is_some_and(|fleet| fleet.only_enrolled);
        ensure!(
            self.mosquitto.is_none() || enrolled_only,
            "`[mosquitto]` needs `only_enrolled = true` in `[fleet]`: it lets those boxes speak that are enrolled, and knows no others"
        );
        Ok(())
    }

    /// Reads the tokens: name and SHA-256.
    pub(crate) fn tokens(&self) -> anyhow::Result<Vec<(String, String)>> {
        let path = &self.tokens.file;
        let text = read_private("token file", path)?;
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fields: Vec<&str> = line.split_whitespace().collect();
            match fields[..] {
                [name, sha256] if is_sha256(sha256) => {
                    tokens.push((name.to_owned(), sha256.to_ascii_lowercase()));
                }
                _ => bail!(
                    "{}:{}: a line is a name and the SHA-256 of the token in 64 hexadecimal digits",
                    path.display(),
                    number + 1
                ),
            }
        }
        ensure!(
            !tokens.is_empty(),
            "the token file `{}` names no token, so nobody could use the API; add a line `name sha256`",
            path.display()
        );
        Ok(tokens)
    }

    /// Makes the gate.
    pub(crate) fn gate(&self) -> anyhow::Result<Gate> {
        let policy = &self.policy;
        let LabConfig { numbers, boxes, sip } = policy.lab.clone();
        let mut packs = Packs::shipped()?.with_lab(Lab { numbers, boxes, sip });
        if let Some(dir) = &policy.packs {
            let folder = || format!("could not read the folder of packs `{}`", dir.display());
            for entry in fs::read_dir(dir).with_context(folder)? {
                let path = entry.with_context(folder)?.path();
                if path.extension().is_none_or(|extension| extension != "yaml") {
                    continue;
                }
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("could not read `{}`", path.display()))?;
                packs.insert(Pack::from_yaml(&path.display().to_string(), &text)?);
            }
        }
        let caller_ids = policy.caller_ids.iter().map(|known| Did {
            number: known.number.clone(),
            proof: Some(known.proof.clone()).filter(|proof| !proof.trim().is_empty()),
            reachable: known.reachable,
            class: known.class,
            inbound_only: known.inbound_only,
            calls_today: 0,
            answer_rate: None,
            complaints: 0,
        });
        let settings = GateSettings {
            basis: policy.basis.clone(),
            caller_ids: caller_ids.collect(),
            attestation: policy.attestation,
            retention_days: policy.retention_days,
            subject_rights: policy.subject_rights,
            audio_label: policy.audio_label,
            recorded: true,
            ring_s: u32::try_from(self.calls.ring.as_secs()).unwrap_or(u32::MAX),
        };
        Ok(Gate::new(packs, settings))
    }

    /// Reads the secret that signs callbacks.
    pub(crate) fn callback_secret(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(callbacks) = &self.callbacks else { return Ok(None) };
        let path = &callbacks.secret_file;
        let text = read_private("callback secret", path)?;
        let secret = parse_secret(&text).with_context(|| format!("`{}` holds no secret", path.display()))?;
        Ok(Some(secret))
    }

    /// Returns the folder of the models.
    pub(crate) fn model_dir(&self) -> PathBuf {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.models
            .dir
            .clone()
            .or_else(|| variable("TRUNKLINE_MODELS"))
            .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("trunkline/models")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/trunkline/models")))
            .unwrap_or_else(|| PathBuf::from("models"))
    }
}

pub(crate) fn read_private(what: &str, path: &Path) -> anyhow::Result<String> {
    let mode = fs::metadata(path)
        .with_context(|| format!("could not read the {what} `{}`", path.display()))?
        .permissions()
        .mode();
    ensure!(
        mode & 0o077 == 0,
        "the {what} `{}` can be read by others (mode {:03o}); run `chmod 600` on it",
        path.display(),
        mode & 0o777
    );
    fs::read_to_string(path).with_context(|| format!("could not read the {what} `{}`", path.display()))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        data_dir = "data"
        [api]
        listen = "127.0.0.1:0"
        cert = "server.pem"
        key = "server.key"
        client_ca = "ca.pem"
        [mqtt]
        listen = "127.0.0.1:0"
        cert = "server.pem"
        key = "server.key"
        client_ca = "ca.pem"
        [scripts]
        dir = "scripts"
        [tokens]
        file = "tokens"
    "#;

    fn read(text: &str) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cloud.toml");
        fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn paths_are_relative_to_the_file_and_the_rest_has_defaults() {
        let config = read(GOOD).unwrap();
        assert!(config.data_dir.is_absolute() && config.data_dir.ends_with("data"));
        assert_eq!(config.calls.not_after, Duration::from_secs(300));
        assert!(config.callbacks.is_none());
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let error = format!("{:#}", read(&format!("{GOOD}\n[calls]\nrinng = \"20s\"\n")).unwrap_err());
        assert!(error.contains("rinng") && error.contains("line"), "{error}");
    }

    #[test]
    fn there_is_one_broker_and_mosquitto_knows_enrolled_boxes_only() {
        let mosquitto =
            "[mosquitto]\naddress = \"127.0.0.1:8883\"\nca = \"ca.pem\"\ncert = \"c.pem\"\nkey = \"c.key\"\n";
        let error = read(&format!("{GOOD}\n{mosquitto}")).unwrap_err().to_string();
        assert!(error.contains("not both"), "{error}");
        let (before, rest) = GOOD.split_once("[mqtt]").unwrap();
        let alone = format!("{before}\n{mosquitto}\n[scripts]{}", rest.split_once("[scripts]").unwrap().1);
        let error = read(&alone).unwrap_err().to_string();
        assert!(error.contains("only_enrolled"), "{error}");
        let fleet = "[fleet]\nca_cert = \"f.pem\"\nca_key = \"f.key\"\nonly_enrolled = true\n";
        let config = read(&format!("{alone}\n{fleet}")).unwrap();
        assert!(config.mqtt.is_none() && config.mosquitto.unwrap().cert.is_absolute());
    }

    #[test]
    fn a_token_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, format!("# people\ndemo {}\n", "a".repeat(64))).unwrap();
        let mut config = read(GOOD).unwrap();
        config.tokens.file.clone_from(&path);

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = config.tokens().unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(config.tokens().unwrap(), [("demo".to_owned(), "a".repeat(64))]);

        fs::write(&path, "demo secret\n").unwrap();
        let error = config.tokens().unwrap_err().to_string();
        assert!(error.contains("tokens:1:"), "{error}");
    }
}
