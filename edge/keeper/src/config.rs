//! `box.toml`: what a box must know before it knows anybody. Everything else comes from headquarters.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trunkline_figures::OtlpConfig;
use trunkline_trust::is_plain_name;

use crate::key::{NOT_BUILT_IN, TPM_BUILT_IN};
use crate::updates::COMPONENT;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not of this form.
    #[error("{path} is not a valid configuration")]
    Form {
        /// The file.
        path: String,
        /// Why.
        source: toml::de::Error,
    },
    /// A value makes no sense.
    #[error("{0}")]
    Value(String),
}

/// The whole file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the box keeps what it must not forget.
    pub data_dir: PathBuf,
    /// How to reach the cloud.
    pub cloud: CloudConfig,
    /// Where the box's key is; in a file, unless it says otherwise.
    #[serde(default)]
    pub key: KeyConfig,
    /// Where versions come from and lie; without it the box is not updated over the air.
    #[serde(default)]
    pub updates: Option<UpdatesConfig>,
    /// The program that carries calls; without it the box carries none.
    #[serde(default)]
    pub calls: Option<CallsConfig>,
    /// How orders of headquarters are carried out.
    #[serde(default)]
    pub orders: OrdersConfig,
    /// How a new version proves itself, beyond what every box asks of it.
    #[serde(default)]
    pub selftest: SelftestConfig,
    /// Where figures for Prometheus are served; nowhere without it.
    #[serde(default)]
    pub metrics: Option<MetricsConfig>,
    /// A collector of OpenTelemetry to which the same figures are pushed; to none without it. Unless `ca` says otherwise,
    /// the authority of `[cloud]` signed its certificate.
    #[serde(default)]
    pub otlp: Option<OtlpConfig>,
    /// The page for whoever stands before the box; without it there is none.
    #[serde(default)]
    pub page: Option<PageConfig>,
}

/// `[key]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// What keeps it.
    pub store: KeyStore,
    /// The TPM: the kernel's device, `/dev/tpmrm0` when left out, or the socket of one in software.
    pub device: Option<PathBuf>,
    /// Where in the TPM, 0x81000000 to 0x817fffff; 0x81020001 when left out.
    pub handle: Option<u32>,
}

/// What keeps the box's key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStore {
    /// `identity/key.pem`, mode 0600.
    #[default]
    File,
    /// A TPM 2.0, which makes it, signs with it and never shows it.
    Tpm,
}

impl KeyConfig {
    fn check(&self, tpm_built_in: bool) -> Result<(), ConfigError> {
        let wrong = |text: &str| Err(ConfigError::Value(format!("[key] {text}")));
        if self.store == KeyStore::File {
            let more = self.device.is_some() || self.handle.is_some();
            return if more { wrong("device and handle are for store = \"tpm\"") } else { Ok(()) };
        }
        if !tpm_built_in {
            return wrong(&format!("store = \"tpm\": {NOT_BUILT_IN}"));
        }
        match self.handle {
            Some(handle) if !(0x8100_0000..=0x817F_FFFF).contains(&handle) => {
                wrong(&format!("handle = {handle:#x}: 0x81000000 to 0x817fffff"))
            }
            _ => Ok(()),
        }
    }
}

/// `[metrics]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// An address of the machine itself, such as `127.0.0.1:9465`: who asks is not asked who they are.
    pub listen: SocketAddr,
}

/// `[selftest]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelftestConfig {
    /// A number on the box's trunks, or a `sip:` address, that sends back what it hears; without it no test call is made.
    pub echo: Option<String>,
    /// A version whose test call fails is given up; else it is only said.
    pub required: bool,
    /// How long it may ring, in seconds, 5 to 60.
    pub ring_s: u32,
    /// The longest way there and back, in milliseconds.
    pub max_round_trip_ms: u32,
    /// The most that the signal may be softer when it returns, in dB.
    pub max_loss_db: i32,
    /// The most packets of a hundred that may be lost.
    pub max_lost_percent: u32,
}

impl Default for SelftestConfig {
    fn default() -> Self {
        // One way 400 ms is the most (ITU-T G.114); an echo service gives back what it gets, through a gateway or two.
        Self {
            echo: None,
            required: true,
            ring_s: 20,
            max_round_trip_ms: 800,
            max_loss_db: 20,
            max_lost_percent: 3,
        }
    }
}

/// `[orders]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrdersConfig {
    /// The command that starts the machine anew, and its arguments; an empty one: it is not started anew from afar.
    pub reboot: Vec<String>,
    /// A file that says something else after each start of the machine. In a container the kernel's does not: name one
    /// that its start writes.
    pub boot_id: PathBuf,
}

impl Default for OrdersConfig {
    fn default() -> Self {
        let reboot = ["systemctl", "reboot"].map(str::to_owned).to_vec();
        Self { reboot, boot_id: PathBuf::from("/proc/sys/kernel/random/boot_id") }
    }
}

/// `[cloud]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CloudConfig {
    /// Host and port of the broker.
    pub mqtt: String,
    /// Base address of the API: `https://host:port`.
    pub api: String,
    /// Who signed the cloud's certificate, PEM.
    pub ca: PathBuf,
}

/// `[updates]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UpdatesConfig {
    /// The first root of the releases, as the factory put it there.
    pub root: PathBuf,
    /// The folder with the two slots.
    pub slots: PathBuf,
    /// What this machine is, as releases name it.
    #[serde(default = "default_platform")]
    pub platform: String,
    /// What has versions of its own beside the program, by the name of its component, and its folder: `current` in it
    /// leads to the version in force.
    #[serde(default)]
    pub parts: BTreeMap<String, PathBuf>,
}

/// `[calls]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CallsConfig {
    /// `edge.toml`: the lines and the speech of this box, over which the desired document's section `calls` is laid.
    pub config: PathBuf,
}

/// `[page]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PageConfig {
    /// Where it is served, over plain HTTP for the local network.
    #[serde(default = "everywhere")]
    pub listen: SocketAddr,
    /// It is served after the box has joined too, not only until then.
    #[serde(default)]
    pub always: bool,
}

fn everywhere() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 8_080))
}

fn default_platform() -> String {
    std::env::consts::ARCH.replace('_', "-")
}

impl Config {
    /// Reads and checks the file; relative paths are taken from where it lies.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let shown = || path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read { path: shown(), source })?;
        let mut config: Self =
            toml::from_str(&text).map_err(|source| ConfigError::Form { path: shown(), source })?;
        let base = path.parent().unwrap_or(Path::new(".")).to_owned();
        for relative in [&mut config.data_dir, &mut config.cloud.ca] {
            *relative = base.join(&*relative);
        }
        if let Some(updates) = &mut config.updates {
            updates.root = base.join(&updates.root);
            updates.slots = base.join(&updates.slots);
            for (name, folder) in &mut updates.parts {
                if name == COMPONENT || !is_plain_name(name) {
                    let text =
                        format!("[updates.parts] {name}: a component such as models, and not {COMPONENT}");
                    return Err(ConfigError::Value(text));
                }
                *folder = base.join(&*folder);
            }
        }
        if let Some(calls) = &mut config.calls {
            calls.config = base.join(&calls.config);
        }
        config.key.device = config.key.device.map(|device| base.join(device));
        config.key.check(TPM_BUILT_IN)?;
        config.orders.boot_id = base.join(&config.orders.boot_id);
        if !(5..=60).contains(&config.selftest.ring_s) {
            return Err(ConfigError::Value("[selftest] ring_s: 5 to 60 seconds".to_owned()));
        }
        if config.metrics.as_ref().is_some_and(|metrics| !metrics.listen.ip().is_loopback()) {
            let text = "[metrics] listen: only on the machine itself, such as 127.0.0.1:9465".to_owned();
            return Err(ConfigError::Value(text));
        }
        if let Some(otlp) = &mut config.otlp {
            otlp.settle(&base).map_err(|error| ConfigError::Value(error.to_string()))?;
        }
        if config.selftest.echo.is_some() && config.calls.is_none() {
            return Err(ConfigError::Value("[selftest] echo needs a program for calls: [calls]".to_owned()));
        }
        if config.cloud.host_port().is_none() {
            let text = format!("[cloud] mqtt = `{}`: write host:port", config.cloud.mqtt);
            return Err(ConfigError::Value(text));
        }
        if !config.cloud.api.starts_with("https://") {
            let text = format!("[cloud] api = `{}`: it begins with https://", config.cloud.api);
            return Err(ConfigError::Value(text));
        }
        Ok(config)
    }

    /// Returns the folder in which the programs of the box keep what they last logged.
    pub fn logs_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    /// Returns the folder of the box's identity.
    pub fn identity_dir(&self) -> PathBuf {
        self.data_dir.join("identity")
    }
}

impl CloudConfig {
    /// Returns host and port of the broker.
    pub(crate) fn host_port(&self) -> Option<(&str, u16)> {
        let (host, port) = self.mqtt.rsplit_once(':')?;
        Some((host.trim_matches(['[', ']']), port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("box.toml");
        fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    const GOOD: &str =
        "data_dir = \"d\"\n[cloud]\nmqtt = \"c:8883\"\napi = \"https://c:8443\"\nca = \"ca.pem\"\n";

    #[test]
    fn a_box_needs_to_know_little() {
        let config = load(GOOD).unwrap();
        assert!(config.page.is_none(), "no page unless it is asked for");
        let page = load(&format!("{GOOD}[page]\n")).unwrap().page.unwrap();
        assert!(page.listen == everywhere() && !page.always);
        assert!(config.data_dir.is_absolute() && config.updates.is_none());
        assert_eq!(config.cloud.host_port(), Some(("c", 8883)));
        assert_eq!(config.orders.reboot, ["systemctl", "reboot"]);
        assert!(config.orders.boot_id.is_absolute());
    }

    #[test]
    fn a_box_that_is_to_use_a_tpm_starts_with_no_program_that_cannot() {
        let tpm = KeyConfig { store: KeyStore::Tpm, ..KeyConfig::default() };
        let refused = tpm.check(false).unwrap_err().to_string();
        assert!(refused.contains("--features tpm"), "{refused}");
        assert!(tpm.check(true).is_ok());
        assert!(KeyConfig { handle: Some(0x4000_0001), ..tpm }.check(true).is_err());
        let loaded = load(&format!("{GOOD}[key]\nstore = \"tpm\"\n"));
        assert_eq!(loaded.is_ok(), TPM_BUILT_IN);
    }

    #[test]
    fn a_misspelt_key_and_a_wrong_address_are_named() {
        for (wrong, said) in [
            (GOOD.replace("ca =", "cca ="), "box.toml"),
            (GOOD.replace("c:8883", "c"), "host:port"),
            (GOOD.replace("https://c", "http://c"), "https://"),
            (format!("{GOOD}[selftest]\necho = \"4443\"\n"), "[calls]"),
            (format!("{GOOD}[metrics]\nlisten = \"0.0.0.0:9465\"\n"), "127.0.0.1"),
            (format!("{GOOD}[selftest]\nring_s = 600\n"), "ring_s"),
            (format!("{GOOD}[otlp]\nendpoint = \"http://c:4318\"\n"), "[otlp] endpoint"),
            (
                format!("{GOOD}[updates]\nroot = \"r\"\nslots = \"s\"\nparts = {{ app = \"p\" }}\n"),
                "[updates.parts] app",
            ),
            (format!("{GOOD}[key]\ndevice = \"/dev/tpmrm0\"\n"), "store = \"tpm\""),
        ] {
            let error = load(&wrong).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
