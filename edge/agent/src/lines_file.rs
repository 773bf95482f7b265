//! The parts of `edge.toml` that lead to the lines. The box itself reads and checks the whole file.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::laid::{lay_over, read_overlay};
use crate::trunk_config::TrunkList;

/// A range of ports with room for at least one call, such as `40000-40199`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct PortRange(pub RangeInclusive<u16>);

impl Default for PortRange {
    fn default() -> Self {
        Self(40_000..=40_199)
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a range of ports such as 40000-40199 with at least 4 of them");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let first: u16 = first.trim().parse().map_err(|_| wrong())?;
        let last: u16 = last.trim().parse().map_err(|_| wrong())?;
        if first < 1024 || last < first.saturating_add(3) {
            return Err(wrong());
        }
        Ok(Self(first..=last))
    }
}

/// Reads a secret of one line.
///
/// # Errors
/// When the file cannot be read, or is empty.
pub fn read_secret(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let secret = text.trim_end_matches(['\r', '\n']).to_owned();
    if secret.is_empty() {
        bail!("{} is empty: it must hold a password", path.display());
    }
    Ok(secret)
}

/// Refuses a secret that others on the machine can read.
///
/// # Errors
/// When they can, or there is no such file.
pub fn check_secret(path: &Path) -> Result<()> {
    let meta = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if meta.mode() & 0o077 != 0 {
        bail!("{} holds a secret and others can read it: chmod 600 it", path.display());
    }
    Ok(())
}

/// What a tool needs of `edge.toml` to use the box's lines and to find what the box keeps of its calls.
#[derive(Debug, Deserialize)]
pub struct LinesFile {
    /// Where the box keeps what it must not forget.
    pub data_dir: PathBuf,
    /// The trunks.
    #[serde(rename = "trunk")]
    pub trunks: TrunkList,
    #[serde(default)]
    rtp: Rtp,
}

#[derive(Debug, Default, Deserialize)]
struct Rtp {
    #[serde(default)]
    ports: PortRange,
}

impl LinesFile {
    /// Reads the file and checks the trunks; relative paths are taken from where it lies.
    ///
    /// # Errors
    /// What is wrong with it, and with which trunk.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_with(path, None)
    }

    /// As [`Self::load`], with what headquarters laid over it, as the keeper keeps it in the file `with`.
    ///
    /// # Errors
    /// As [`Self::load`], and what is wrong with the other file.
    pub fn load_with(path: &Path, with: Option<&Path>) -> Result<Self> {
        if let Some(missing) = with.filter(|with| !with.exists()) {
            bail!(
                "{} is not there: the keeper writes it once headquarters has said something",
                missing.display()
            );
        }
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut table: toml::Table = toml::from_str(&text)
            .with_context(|| format!("{} is not a valid configuration", path.display()))?;
        lay_over(&mut table, &read_overlay(with)?)?;
        let mut file: Self =
            table.try_into().with_context(|| format!("{} is not a valid configuration", path.display()))?;
        let base = path.parent().unwrap_or(Path::new(".")).to_owned();
        file.data_dir = base.join(&file.data_dir);
        file.trunks.resolve(&base);
        file.trunks.check()?;
        Ok(file)
    }

    /// Returns the ports for RTP.
    pub fn rtp_ports(&self) -> RangeInclusive<u16> {
        self.rtp.ports.0.clone()
    }

    /// Returns the folder with the traces of calls.
    pub fn traces_dir(&self) -> PathBuf {
        traces_dir(&self.data_dir)
    }
}

/// Returns the folder with the traces of calls below a box's folder.
pub fn traces_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("traces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_needs_room_for_a_call() {
        assert!(PortRange::try_from("40000-40001".to_owned()).is_err());
        assert!(PortRange::try_from("40000".to_owned()).is_err());
        assert!(PortRange::try_from("40000-40003".to_owned()).is_ok());
    }

    #[test]
    fn the_lines_are_read_whatever_else_stands_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.toml");
        let text = "box = \"tl-a\"\ndata_dir = \"data\"\n[cloud]\nmqtt = \"x\"\n[rtp]\nports = \"41000-41009\"\n\
                    [[trunk]]\nname = \"a\"\nproxy = \"192.0.2.1\"\nbind = \"127.0.0.1:0\"\n";
        fs::write(&path, text).unwrap();
        let file = LinesFile::load(&path).unwrap();
        assert_eq!(file.traces_dir(), dir.path().join("data/traces"));
        assert_eq!(file.rtp_ports(), 41_000..=41_009);
        assert_eq!(file.trunks.names(), ["a"]);
        assert!(file.trunks.setup("b").is_none());
        assert_eq!(file.trunks.setup("a").unwrap().unwrap().proxy.port, 5060);

        // Headquarters has another trunk, and its word counts.
        let with = dir.path().join("calls.json");
        let missing = LinesFile::load_with(&path, Some(&with)).unwrap_err();
        assert!(missing.to_string().contains("calls.json"), "{missing}");
        let said = r#"{"trunk": [{"name": "b", "proxy": "192.0.2.2", "bind": "127.0.0.1:0"}], "rtp": {"ports": "42000-42009"}}"#;
        fs::write(&with, said).unwrap();
        let file = LinesFile::load_with(&path, Some(&with)).unwrap();
        assert_eq!((file.trunks.names(), file.rtp_ports()), (vec!["b"], 42_000..=42_009));
    }
}
