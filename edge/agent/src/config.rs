//! `edge.toml`: strict, and checked while it loads.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, bail};
use rustls::ClientConfig;
use serde::Deserialize;
use serde_json::{Map, Value};
use trunkline_audio::tone::Country;
use trunkline_edge::{BoxCertificate, PortRange, TrunkList, box_tls, check_secret, lay_over, traces_dir};
use trunkline_line::trunks::PhonesSetup;
use trunkline_model::{BoxId, DialPlan};
use trunkline_speech::bundle::BundleName;
use trunkline_trace::Limits;

use crate::call::{AnswerPolicy, Desks, Supervisors};
use crate::phones::{self, Phone, Phones};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Who this box is: the common name of its certificate.
    #[serde(rename = "box")]
    pub(crate) box_id: BoxId,
    /// Where the box keeps what it must not forget.
    pub(crate) data_dir: PathBuf,
    /// How many calls at once.
    #[serde(default = "default_channels")]
    pub(crate) channels: u32,
    pub(crate) cloud: Cloud,
    #[serde(rename = "trunk")]
    pub(crate) trunks: TrunkList,
    /// Whose network the trunks belong to: which tones are heard and played.
    #[serde(default)]
    pub(crate) country: CountryName,
    /// `[transfer]`: whom the names in scripts mean, such as `branch = "8001"`.
    #[serde(default)]
    pub(crate) transfer: Desks,
    /// `[supervise]`: who may listen to calls.
    #[serde(default)]
    pub(crate) supervise: Supervisors,
    /// `[phones]`: where telephones of the office register.
    phones: Option<Phones>,
    /// `[[phone]]`: those telephones.
    #[serde(default)]
    phone: Vec<Phone>,
    #[serde(default)]
    pub(crate) answer: AnswerPolicy,
    #[serde(default)]
    pub(crate) rtp: Rtp,
    #[serde(default)]
    pub(crate) speech: Speech,
    #[serde(default)]
    pub(crate) recording: Recording,
    #[serde(default)]
    pub(crate) trace: Trace,
    pub(crate) monitor: Option<Monitor>,
}

fn default_channels() -> u32 {
    2
}

/// `[cloud]`: how to reach it, and who we are to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cloud {
    /// Host and port of the broker.
    pub(crate) mqtt: String,
    /// Base address of the API, for blobs: `https://host:port`.
    pub(crate) api: String,
    /// Who signed the cloud's certificate.
    pub(crate) ca: PathBuf,
    /// Our certificate …
    pub(crate) cert: PathBuf,
    /// … and its key, mode 0600.
    pub(crate) key: PathBuf,
}

/// A country by its code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CountryName {
    /// China.
    #[default]
    Cn,
    /// United States and Canada.
    Us,
    /// United Kingdom.
    Uk,
    /// Germany.
    De,
    /// France.
    Fr,
    /// Russia.
    Ru,
    /// India.
    In,
    /// Japan.
    Jp,
    /// Singapore.
    Sg,
    /// Brazil.
    Br,
}

impl CountryName {
    /// Returns how numbers are written there.
    pub(crate) fn plan(self) -> Option<DialPlan> {
        DialPlan::of(match self {
            Self::Cn => "cn",
            Self::Us => "us",
            Self::Uk => "uk",
            Self::De => "de",
            Self::Fr => "fr",
            Self::Ru => "ru",
            Self::In => "in",
            Self::Jp => "jp",
            Self::Sg => "sg",
            Self::Br => "br",
        })
    }

    /// Returns whose tones they are.
    pub(crate) fn country(self) -> Country {
        match self {
            Self::Cn => Country::Cn,
            Self::Us => Country::Us,
            Self::Uk => Country::Uk,
            Self::De => Country::De,
            Self::Fr => Country::Fr,
            Self::Ru => Country::Ru,
            Self::In => Country::In,
            Self::Jp => Country::Jp,
            Self::Sg => Country::Sg,
            Self::Br => Country::Br,
        }
    }
}

/// `[rtp]`: where sound flows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rtp {
    /// First and last port, such as `"40000-40199"`.
    #[serde(default)]
    pub(crate) ports: PortRange,
    /// A call without a packet for this long is over.
    #[serde(default = "default_lost", with = "humantime_serde")]
    pub(crate) lost_after: Duration,
    /// The effort of Opus while few calls speak it, 0 to 10.
    #[serde(default)]
    pub(crate) opus_complexity: OpusComplexity,
}

impl Default for Rtp {
    fn default() -> Self {
        Self {
            ports: PortRange::default(),
            lost_after: default_lost(),
            opus_complexity: OpusComplexity::default(),
        }
    }
}

fn default_lost() -> Duration {
    Duration::from_secs(10)
}

/// The scale of libopus, 0 to 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub(crate) struct OpusComplexity(pub(crate) u8);

impl Default for OpusComplexity {
    fn default() -> Self {
        Self(5)
    }
}

impl TryFrom<u8> for OpusComplexity {
    type Error = String;

    fn try_from(value: u8) -> Result<Self, String> {
        if value > 10 {
            return Err(format!("opus_complexity = {value}: write 0 (least) to 10 (most)"));
        }
        Ok(Self(value))
    }
}

/// `[speech]`: models and how much of the box they may use.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Speech {
    /// Folder with the models; the user's cache folder by default.
    pub(crate) models: Option<PathBuf>,
    /// Folder for rendered prompts; below `data_dir` by default.
    pub(crate) prompts: Option<PathBuf>,
    /// Recognitions at once; the number of cores by default.
    pub(crate) workers: Option<usize>,
    /// Folder with bundles of recogniser models; `bundles` below `data_dir` when `bundle` is given, else
    /// none: the recogniser is then the one among the models.
    pub(crate) bundles: Option<PathBuf>,
    /// The bundle to use, as `id@version`, whatever else is in use; the one in use by default.
    pub(crate) bundle: Option<BundleName>,
}

/// `[recording]`: two-channel recordings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recording {
    /// Off for branches whose policy forbids it.
    #[serde(default = "yes")]
    pub(crate) enabled: bool,
    /// Folder; below `data_dir` by default.
    pub(crate) dir: Option<PathBuf>,
    /// No call is taken when less than this is free on that disk, in MiB.
    #[serde(default = "default_min_free")]
    pub(crate) min_free_mib: u64,
}

impl Default for Recording {
    fn default() -> Self {
        Self { enabled: true, dir: None, min_free_mib: default_min_free() }
    }
}

fn yes() -> bool {
    true
}

fn default_min_free() -> u64 {
    200
}

/// `[trace]`: what is kept of the signalling of the last calls, without secrets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trace {
    /// How many legs of calls; 0 keeps none.
    #[serde(default = "default_traces")]
    calls: usize,
    /// How many MiB at most.
    #[serde(default = "default_trace_mib")]
    mib: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { calls: default_traces(), mib: default_trace_mib() }
    }
}

fn default_traces() -> usize {
    Limits::default().legs
}

fn default_trace_mib() -> u64 {
    Limits::default().bytes >> 20
}

/// `[monitor]`: play the calls on a sound card of the box, for people in the room.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Monitor {
    /// Name of the device; the default one when left out.
    pub(crate) device: Option<String>,
}

impl Config {
    /// Reads and checks the file; relative paths are taken from where it lies.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self = toml::from_str(&text)
            .with_context(|| format!("{} is not a valid configuration", path.display()))?;
        config.at_home(path)
    }

    /// The same with what headquarters says laid over it.
    pub(crate) fn load_under(path: &Path, headquarters: &Map<String, Value>) -> Result<Self> {
        if headquarters.is_empty() {
            return Self::load(path);
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut table: toml::Table = toml::from_str(&text)
            .with_context(|| format!("{} is not a valid configuration", path.display()))?;
        lay_over(&mut table, headquarters)?;
        let config: Self =
            table.try_into().context("with what headquarters says it is not a valid configuration")?;
        config.at_home(path)
    }

    /// Takes relative paths from where the file lies, and checks what types cannot.
    fn at_home(self, path: &Path) -> Result<Self> {
        let mut config = self;
        let base = path.parent().unwrap_or(Path::new(".")).to_owned();
        config.resolve(&base);
        config.transfer.settle(config.phone.iter().map(|phone| phone.user.as_str())).map_err(Error::msg)?;
        config.supervise.settle(config.phone.iter().map(|phone| phone.user.as_str())).map_err(Error::msg)?;
        config.check()?;
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        let paths = [&mut self.data_dir, &mut self.cloud.ca, &mut self.cloud.cert, &mut self.cloud.key];
        let optional = [
            &mut self.speech.models,
            &mut self.speech.prompts,
            &mut self.speech.bundles,
            &mut self.recording.dir,
        ];
        for path in paths.into_iter().chain(optional.into_iter().flatten()) {
            *path = base.join(&path);
        }
        self.trunks.resolve(base);
        phones::resolve(&mut self.phones, &mut self.phone, base);
    }

    fn check(&self) -> Result<()> {
        if !(1..=200).contains(&self.channels) {
            bail!("channels = {}: a box carries 1 to 200 calls", self.channels);
        }
        self.trunks.check()?;
        if self.trace.calls > 10_000 || !(1..=4_096).contains(&self.trace.mib) {
            bail!("[trace] keeps 0 to 10000 calls in 1 to 4096 MiB");
        }
        phones::check(self.phones.as_ref(), &self.phone)?;
        if self.cloud.mqtt_host_port().is_none() {
            bail!("[cloud] mqtt = `{}`: write host:port", self.cloud.mqtt);
        }
        for (name, path) in [("ca", &self.cloud.ca), ("cert", &self.cloud.cert), ("key", &self.cloud.key)] {
            if !path.is_file() {
                bail!(
                    "[cloud] {name}: there is no file {}; `deploy/setup` makes one for development",
                    path.display()
                );
            }
        }
        check_secret(&self.cloud.key)?;
        Ok(())
    }

    /// Reads certificate and passwords of the telephones; `None` where none can register.
    pub(crate) fn phones_setup(&self) -> Result<Option<PhonesSetup>> {
        phones::setup(self.phones.as_ref(), &self.phone, &self.box_id)
    }

    /// Returns the folder of recordings.
    pub(crate) fn recording_dir(&self) -> PathBuf {
        self.recording.dir.clone().unwrap_or_else(|| self.data_dir.join("recordings"))
    }

    /// Returns the folder with the traces of calls and what is kept there; `None` when none are kept.
    pub(crate) fn traces(&self) -> Option<(PathBuf, Limits)> {
        let limits = Limits { legs: self.trace.calls, bytes: self.trace.mib << 20 };
        (limits.legs > 0).then(|| (traces_dir(&self.data_dir), limits))
    }

    /// Returns the folder of rendered prompts.
    pub(crate) fn prompts_dir(&self) -> PathBuf {
        self.speech.prompts.clone().unwrap_or_else(|| self.data_dir.join("prompts"))
    }

    /// Returns the folder of bundles, when any are to be used.
    pub(crate) fn bundles_dir(&self) -> Option<PathBuf> {
        let pinned = self.speech.bundle.is_some().then(|| self.data_dir.join("bundles"));
        self.speech.bundles.clone().or(pinned)
    }

    /// Returns the folder of models.
    pub(crate) fn models_dir(&self) -> PathBuf {
        self.speech.models.clone().unwrap_or_else(models::model_dir)
    }
}

impl Cloud {
    /// Builds the client side of TLS: trusts only the cloud's own authority and shows the box's certificate.
    pub(crate) fn tls(&self) -> Result<(Arc<ClientConfig>, Arc<BoxCertificate>)> {
        box_tls(&self.ca, &self.cert, &self.key)
    }

    pub(crate) fn mqtt_host_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.mqtt.rsplit_once(':')?;
        Some((host.trim_matches(['[', ']']), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(dir: &Path, extra: &str, proxy: &str) -> PathBuf {
        for name in ["ca.pem", "box.pem", "box.key"] {
            fs::write(dir.join(name), "x").unwrap();
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let text = format!(
            "box = \"tl-a\"\ndata_dir = \"data\"\n{extra}\n[cloud]\nmqtt = \"localhost:8883\"\napi = \"https://localhost:8443\"\n\
             ca = \"ca.pem\"\ncert = \"box.pem\"\nkey = \"box.key\"\n[trunk]\nproxy = \"{proxy}\"\nbind = \"127.0.0.1:0\"\n"
        );
        let path = dir.join("edge.toml");
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn paths_are_taken_from_where_the_file_lies() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::load(&write(dir.path(), "", "127.0.0.1:5060")).unwrap();
        assert_eq!(config.data_dir, dir.path().join("data"));
        assert_eq!(config.recording_dir(), dir.path().join("data/recordings"));
    }

    #[test]
    fn bundles_are_used_only_when_they_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let load = |speech: &str| {
            let path = write(dir.path(), "", "127.0.0.1:5060");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, format!("{text}[speech]\n{speech}\n")).unwrap();
            Config::load(&path)
        };
        assert_eq!(load("").unwrap().bundles_dir(), None);
        let folder = load("bundles = \"models\"").unwrap();
        assert_eq!(folder.bundles_dir(), Some(dir.path().join("models")));
        let pinned = load("bundle = \"sense-voice@2024.7\"").unwrap();
        assert_eq!(pinned.bundles_dir(), Some(dir.path().join("data/bundles")));
        assert_eq!(pinned.speech.bundle.unwrap().version(), "2024.7");
        let error = load("bundle = \"sense-voice\"").unwrap_err();
        assert!(format!("{error:#}").contains("id@version"), "{error:#}");
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Config::load(&write(dir.path(), "chanels = 3", "127.0.0.1:5060")).unwrap_err();
        assert!(format!("{error:#}").contains("chanels"), "{error:#}");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "", "127.0.0.1:5060");
        fs::set_permissions(dir.path().join("box.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = Config::load(&path).unwrap_err();
        assert!(format!("{error:#}").contains("chmod 600"), "{error:#}");
    }
}
