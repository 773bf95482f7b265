//! `box.toml`: what a box must know before it knows anybody. Everything else comes from headquarters.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the box keeps what it must not forget.
    pub data_dir: PathBuf,
    /// How to reach the cloud.
    pub cloud: CloudConfig,
    /// Where versions come from and lie; without it the box is not updated over the air.
    #[serde(default)]
    pub updates: Option<UpdatesConfig>,
    /// The program that carries calls; without it the box carries none.
    #[serde(default)]
    pub calls: Option<CallsConfig>,
}

/// `[cloud]`.
#[derive(Clone, Debug, Deserialize)]
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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdatesConfig {
    /// The first root of the releases, as the factory put it there.
    pub root: PathBuf,
    /// The folder with the two slots.
    pub slots: PathBuf,
    /// What this machine is, as releases name it.
    #[serde(default = "default_platform")]
    pub platform: String,
}

/// `[calls]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallsConfig {
    /// `edge.toml`: the lines and the speech of this box, over which the desired document's section `calls` is laid.
    pub config: PathBuf,
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
        }
        if let Some(calls) = &mut config.calls {
            calls.config = base.join(&calls.config);
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
        assert!(config.data_dir.is_absolute() && config.updates.is_none());
        assert_eq!(config.cloud.host_port(), Some(("c", 8883)));
    }

    #[test]
    fn a_misspelt_key_and_a_wrong_address_are_named() {
        for (wrong, said) in [
            (GOOD.replace("ca =", "cca ="), "box.toml"),
            (GOOD.replace("c:8883", "c"), "host:port"),
            (GOOD.replace("https://c", "http://c"), "https://"),
        ] {
            let error = load(&wrong).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
