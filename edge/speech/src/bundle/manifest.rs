//! What a bundle says of itself. Strict: an unknown key or an impossible value is an error that names it.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::files;
use crate::recognise::{Language, MODEL_RATE};

/// The format that this build reads and writes.
const SCHEMA: &str = "trunkline/model/1";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read.
    #[error("could not read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It is no manifest.
    #[error("`{path}` is no manifest of a model: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Which key or value, and what is wrong with it.
        reason: String,
    },
    /// A file that is to be in it cannot be read.
    #[error("could not read model file `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Which engine runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// whisper.cpp, any size, in ggml format.
    Whisper,
    /// CTC over ONNX Runtime: SenseVoice, Zipformer, WeNet.
    Ctc,
    /// A transducer over ONNX Runtime.
    Transducer,
    /// Paraformer over ONNX Runtime.
    Paraformer,
}

impl Engine {
    /// The files that a model of it consists of.
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Whisper => &[Role::Model],
            Self::Ctc | Self::Paraformer => &[Role::Model, Role::Tokens],
            Self::Transducer => &[Role::Encoder, Role::Decoder, Role::Joiner, Role::Tokens],
        }
    }

    /// Its name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whisper => "whisper",
            Self::Ctc => "ctc",
            Self::Transducer => "transducer",
            Self::Paraformer => "paraformer",
        }
    }
}

/// What a file is to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The only network.
    Model,
    /// The encoder of a transducer.
    Encoder,
    /// Its decoder.
    Decoder,
    /// Its joiner.
    Joiner,
    /// The table of pieces.
    Tokens,
    /// Anything else that comes with it, such as the licence.
    Other,
}

impl Role {
    /// Its name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Joiner => "joiner",
            Self::Tokens => "tokens",
            Self::Other => "other",
        }
    }
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// What it is to the engine.
    pub role: Role,
    /// Its name inside the bundle.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in small hexadecimal digits.
    pub sha256: String,
}

/// A figure that was measured with the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What, such as `CER zh, telephone, 10 dB`.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what, such as `%` or `ms`.
    pub unit: String,
    /// On which machine and when, and by which command.
    pub how: String,
}

/// The id and version of a bundle: `id@version`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BundleName {
    id: String,
    version: String,
}

impl BundleName {
    /// Which model.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Which version of it.
    pub fn version(&self) -> &str {
        &self.version
    }
}

impl fmt::Display for BundleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.version)
    }
}

impl FromStr for BundleName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, version) = text
            .split_once('@')
            .ok_or_else(|| format!("`{text}` is no name of a bundle: write id@version"))?;
        for part in [id, version] {
            if !is_plain(part) {
                return Err(format!(
                    "`{part}` cannot be part of a bundle's name: letters, digits, `.`, `-` and `_`, at most 64"
                ));
            }
        }
        Ok(Self { id: id.to_owned(), version: version.to_owned() })
    }
}

impl TryFrom<String> for BundleName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BundleName> for String {
    fn from(name: BundleName) -> Self {
        name.to_string()
    }
}

/// Names become folders, so they hold nothing that means something there.
fn is_plain(part: &str) -> bool {
    let first = part.chars().next();
    (1..=64).contains(&part.len())
        && first.is_some_and(|c| c.is_ascii_alphanumeric())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format: `trunkline/model/1`.
    schema: String,
    /// Which model.
    pub id: String,
    /// Which version of it.
    pub version: String,
    /// What runs it.
    pub engine: Engine,
    /// What it knows, as codes such as `zh`; the first is assumed where nothing is said.
    pub languages: Vec<String>,
    /// Samples per second that it was trained on.
    pub sample_rate: u32,
    /// Under which licence it was got, and from whom.
    pub licence: String,
    /// Its files.
    #[serde(rename = "file")]
    pub files: Vec<ModelFile>,
    /// What was measured with it.
    #[serde(rename = "figure", default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
}

impl Manifest {
    /// Makes the manifest of files that are there: their lengths and hashes are taken now.
    ///
    /// # Errors
    /// When a file cannot be read, or the whole makes no manifest ([`ManifestError::Format`]).
    pub fn make(
        name: &BundleName,
        engine: Engine,
        languages: Vec<String>,
        licence: &str,
        sources: &[(Role, PathBuf)],
    ) -> Result<Self, ManifestError> {
        let mut files = Vec::new();
        for (role, path) in sources {
            let failed = |source| ManifestError::File { path: path.clone(), source };
            let (bytes, sha256) = files::digest(path).map_err(failed)?;
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            files.push(ModelFile { role: *role, path: name, bytes, sha256 });
        }
        let manifest = Self {
            schema: SCHEMA.to_owned(),
            id: name.id.clone(),
            version: name.version.clone(),
            engine,
            languages,
            sample_rate: MODEL_RATE,
            licence: licence.to_owned(),
            files,
            figures: Vec::new(),
        };
        manifest.check(Path::new(super::MANIFEST))?;
        Ok(manifest)
    }

    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
        let manifest: Self = toml::from_str(&text)
            .map_err(|error| ManifestError::Format { path: path.to_owned(), reason: error.to_string() })?;
        manifest.check(path)?;
        Ok(manifest)
    }

    /// The manifest as a file's text.
    ///
    /// # Errors
    /// When a value cannot be written.
    pub fn to_toml(&self) -> Result<String, ManifestError> {
        toml::to_string_pretty(self).map_err(|error| ManifestError::Format {
            path: PathBuf::from(super::MANIFEST),
            reason: error.to_string(),
        })
    }

    /// Its id and version.
    pub fn name(&self) -> BundleName {
        BundleName { id: self.id.clone(), version: self.version.clone() }
    }

    /// The file with a role.
    pub fn file(&self, role: Role) -> Option<&ModelFile> {
        self.files.iter().find(|file| file.role == role)
    }

    /// The languages that it knows.
    pub fn known_languages(&self) -> Vec<Language> {
        self.languages.iter().filter_map(|code| Language::from_tag(code)).collect()
    }

    fn check(&self, path: &Path) -> Result<(), ManifestError> {
        let wrong = |reason: String| Err(ManifestError::Format { path: path.to_owned(), reason });
        if self.schema != SCHEMA {
            return wrong(format!("schema `{}` is not `{SCHEMA}`", self.schema));
        }
        for part in [&self.id, &self.version] {
            if let Err(reason) = format!("x@{part}").parse::<BundleName>() {
                return wrong(reason);
            }
        }
        if self.sample_rate != MODEL_RATE {
            return wrong(format!("sample_rate = {}: the recogniser hears {MODEL_RATE}", self.sample_rate));
        }
        if self.licence.trim().is_empty() {
            return wrong("licence is empty: write under which one the weights were got".to_owned());
        }
        if self.languages.is_empty() {
            return wrong("languages is empty: name at least one".to_owned());
        }
        if let Some(code) = self.languages.iter().find(|code| Language::from_tag(code).is_none()) {
            return wrong(format!("languages: `{code}` is no language that is known"));
        }
        self.check_files(path)
    }

    fn check_files(&self, path: &Path) -> Result<(), ManifestError> {
        let wrong = |reason: String| Err(ManifestError::Format { path: path.to_owned(), reason });
        let needed = self.engine.roles();
        for role in needed {
            let count = self.files.iter().filter(|file| file.role == *role).count();
            if count != 1 {
                let (engine, role) = (self.engine.name(), role.name());
                return wrong(format!(
                    "engine `{engine}` needs one file with role `{role}`, and has {count}"
                ));
            }
        }
        let mut seen = BTreeSet::new();
        for file in &self.files {
            if file.role != Role::Other && !needed.contains(&file.role) {
                let (engine, role) = (self.engine.name(), file.role.name());
                return wrong(format!("engine `{engine}` has no file with role `{role}`"));
            }
            let mut parts = Path::new(&file.path).components();
            let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
            if !is_name || file.path == super::MANIFEST || !seen.insert(&file.path) {
                return wrong(format!("file `{}`: a name of its own, without folders, is needed", file.path));
            }
            let is_hash = file.sha256.len() == 64
                && file.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !is_hash {
                return wrong(format!("file `{}`: sha256 must be 64 small hexadecimal digits", file.path));
            }
            if file.bytes == 0 {
                return wrong(format!("file `{}` is empty", file.path));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(change: impl Fn(&str) -> String) -> String {
        let hash = "0".repeat(64);
        change(&format!(
            "schema = \"trunkline/model/1\"\nid = \"sense-voice\"\nversion = \"2024.7\"\nengine = \"ctc\"\n\
             languages = [\"zh\", \"en\"]\nsample_rate = 16000\nlicence = \"as agreed\"\n\
             [[file]]\nrole = \"model\"\npath = \"model.onnx\"\nbytes = 5\nsha256 = \"{hash}\"\n\
             [[file]]\nrole = \"tokens\"\npath = \"tokens.txt\"\nbytes = 5\nsha256 = \"{hash}\"\n"
        ))
    }

    fn read(text: &str) -> Result<Manifest, ManifestError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.toml");
        std::fs::write(&path, text).unwrap();
        Manifest::read(&path)
    }

    #[test]
    fn a_manifest_reads_back_as_written() {
        let mut manifest = read(&text(str::to_owned)).unwrap();
        manifest.figures.push(Figure {
            what: "CER zh".to_owned(),
            value: 7.5,
            unit: "%".to_owned(),
            how: "a box, trunkctl speech bench".to_owned(),
        });
        assert_eq!(read(&manifest.to_toml().unwrap()).unwrap(), manifest);
        assert_eq!(manifest.name().to_string(), "sense-voice@2024.7");
        assert_eq!(manifest.known_languages(), [Language::ZH, Language::EN]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, named) in [
            ("licence = \"as agreed\"", "license = \"x\"", "licen"),
            ("licence = \"as agreed\"", "licence = \" \"", "licence is empty"),
            ("trunkline/model/1", "trunkline/model/9", "model/9"),
            ("sense-voice", "../sense", "../sense"),
            ("2024.7", "", "cannot be part"),
            ("16000", "8000", "8000"),
            ("\"zh\", \"en\"", "", "languages is empty"),
            ("\"en\"", "\"xx\"", "`xx`"),
            ("\"ctc\"", "\"hmm\"", "hmm"),
            ("\"ctc\"", "\"transducer\"", "`encoder`"),
            ("\"ctc\"", "\"whisper\"", "role `tokens`"),
            ("model.onnx", "../model.onnx", "../model.onnx"),
            ("model.onnx", "tokens.txt", "tokens.txt"),
            ("bytes = 5", "bytes = 0", "is empty"),
            ("sha256 = \"0000", "sha256 = \"0X00", "sha256"),
        ] {
            let error = read(&text(|text| text.replacen(from, to, 1))).unwrap_err().to_string();
            assert!(error.contains(named), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn names_hold_nothing_that_means_something_in_a_path() {
        assert_eq!("a-1@2.0".parse::<BundleName>().unwrap().version(), "2.0");
        for wrong in ["a", "a@", "@1", "a@..", "a/b@1", "a@1/2", ".a@1", "a@1@2", "ä@1"] {
            assert!(wrong.parse::<BundleName>().is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_the_manifest(text in ".{0,200}") {
            let _ = toml::from_str::<Manifest>(&text);
            let _ = text.parse::<BundleName>();
        }
    }
}
