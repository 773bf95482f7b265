//! `trunkctl speech bundle`: models of the recogniser as bundles, in a folder, without a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use trunkline_speech::bundle::{BundleName, Bundles, Engine, Figure, MANIFEST, Manifest, Role};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Makes a bundle of model files: copies them into a folder with a manifest of their hashes.
    #[command(after_help = "Examples:\n  \
        trunkctl speech bundle make whisper-small@2026.1 --engine whisper --languages zh,en \\\n    \
        --licence MIT --model ggml-small-q8_0.bin --out ./whisper-small\n  \
        trunkctl speech bundle make sense-voice@2024.7 --engine ctc --languages zh,en,yue,ja,ko \\\n    \
        --licence 'FunASR model licence' --model model.int8.onnx --tokens tokens.txt --out ./sense-voice\n  \
        trunkctl speech bundle make zipformer-en@1 --engine transducer --languages en --licence Apache-2.0 \\\n    \
        --encoder encoder.onnx --decoder decoder.onnx --joiner joiner.onnx --tokens tokens.txt --out ./zip")]
    Make(Box<Make>),
    /// Takes a bundle over into the folder of a box. It is not in use by that.
    #[command(
        after_help = "Example:\n  trunkctl speech bundle install ./sense-voice --dir /var/lib/trunkline/bundles"
    )]
    Install {
        /// Folder with the bundle.
        from: PathBuf,
        #[command(flatten)]
        place: Place,
        /// Also put it into use.
        #[arg(long = "use")]
        activate: bool,
    },
    /// Lists the bundles of a box, and which is in use.
    List {
        #[command(flatten)]
        place: Place,
        /// Also compare every file with its hash.
        #[arg(long)]
        verify: bool,
    },
    /// Puts an installed bundle into use, from the next start of the box on.
    #[command(
        after_help = "Examples:\n  trunkctl speech bundle use sense-voice@2024.7 --dir /var/lib/trunkline/bundles\n  \
        trunkctl speech bundle use none --dir /var/lib/trunkline/bundles"
    )]
    Use {
        /// The bundle as id@version, or `none` for the model that the box came with.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Puts the bundle that was in use before into use again, from the next start of the box on.
    #[command(after_help = "Example:\n  trunkctl speech bundle rollback --dir /var/lib/trunkline/bundles")]
    Rollback {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Args)]
pub(crate) struct Place {
    /// Folder with the bundles of the box: `[speech] bundles` in its edge.toml.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Args)]
pub(crate) struct Make {
    /// Name and version: id@version.
    name: BundleName,
    /// What runs the model.
    #[arg(long, value_enum)]
    engine: EngineName,
    /// Languages that it knows, such as zh,en; the first is assumed where nothing is said.
    #[arg(long, required = true, value_delimiter = ',')]
    languages: Vec<String>,
    /// Under which licence the weights were got, and from whom.
    #[arg(long)]
    licence: String,
    /// The network (whisper, ctc, paraformer).
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// The encoder (transducer).
    #[arg(long, value_name = "FILE")]
    encoder: Option<PathBuf>,
    /// The decoder (transducer).
    #[arg(long, value_name = "FILE")]
    decoder: Option<PathBuf>,
    /// The joiner (transducer).
    #[arg(long, value_name = "FILE")]
    joiner: Option<PathBuf>,
    /// The table of pieces, tokens.txt (all but whisper).
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Another file that goes with it, such as the licence's text.
    #[arg(long, value_name = "FILE")]
    other: Vec<PathBuf>,
    /// A figure that was measured, as `what=value unit=how`; for instance
    /// `CER zh, telephone=12.5 %=on the branch's box, trunkctl speech bench words`.
    #[arg(long = "figure", value_name = "FIGURE", value_parser = figure)]
    figures: Vec<Figure>,
    /// Folder for the bundle; must not exist yet, or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EngineName {
    Whisper,
    Ctc,
    Transducer,
    Paraformer,
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Self {
        match name {
            EngineName::Whisper => Self::Whisper,
            EngineName::Ctc => Self::Ctc,
            EngineName::Transducer => Self::Transducer,
            EngineName::Paraformer => Self::Paraformer,
        }
    }
}

fn figure(text: &str) -> Result<Figure, String> {
    let mut parts = text.splitn(3, '=');
    let (Some(what), Some(amount), Some(how)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("write `what=value unit=how`".to_owned());
    };
    let (value, unit) = amount.trim().split_once(' ').ok_or("write the value and its unit: `12.5 %`")?;
    let value = value.parse().map_err(|_| format!("`{value}` is no number"))?;
    let trimmed = |text: &str| text.trim().to_owned();
    Ok(Figure { what: trimmed(what), value, unit: trimmed(unit), how: trimmed(how) })
}

/// Runs the command.
pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Make(options) => make(*options),
        Command::Install { from, place, activate } => {
            let bundles = Bundles::at(&place.dir);
            let name =
                bundles.install(&from).with_context(|| format!("cannot install {}", from.display()))?;
            println!("{name} is installed in {}", place.dir.display());
            if activate { activate_it(&bundles, &name) } else { Ok(()) }
        }
        Command::List { place, verify } => list(&Bundles::at(place.dir), verify),
        Command::Use { name, place } => {
            let bundles = Bundles::at(&place.dir);
            if name == "none" {
                bundles.deactivate()?;
                println!(
                    "no bundle is in use: the box takes the model that it came with when it starts next"
                );
                return Ok(());
            }
            let name: BundleName = name.parse().map_err(anyhow::Error::msg)?;
            activate_it(&bundles, &name)
        }
        Command::Rollback { place } => {
            let name = Bundles::at(&place.dir).roll_back()?;
            println!("{name} is in use again when the box starts next");
            Ok(())
        }
    }
}

fn activate_it(bundles: &Bundles, name: &BundleName) -> Result<()> {
    bundles.activate(name)?;
    println!("{name} is in use when the box starts next");
    Ok(())
}

fn make(options: Make) -> Result<()> {
    let given = [
        (Role::Model, options.model),
        (Role::Encoder, options.encoder),
        (Role::Decoder, options.decoder),
        (Role::Joiner, options.joiner),
        (Role::Tokens, options.tokens),
    ];
    let mut sources: Vec<(Role, PathBuf)> =
        given.into_iter().filter_map(|(role, path)| Some((role, path?))).collect();
    sources.extend(options.other.into_iter().map(|path| (Role::Other, path)));
    let mut manifest =
        Manifest::make(&options.name, options.engine.into(), options.languages, &options.licence, &sources)?;
    manifest.figures = options.figures;
    let out = &options.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    if std::fs::read_dir(out).with_context(|| format!("cannot read {}", out.display()))?.next().is_some() {
        bail!("{} is not empty: a bundle is a folder of its own", out.display());
    }
    for ((_, path), file) in sources.iter().zip(&manifest.files) {
        copy(path, &out.join(&file.path))?;
    }
    let path = out.join(MANIFEST);
    std::fs::write(&path, manifest.to_toml()?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} is made in {}", options.name, out.display());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to)
        .map(|_| ())
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn list(bundles: &Bundles, verify: bool) -> Result<()> {
    let (active, before) = (bundles.active()?, bundles.before()?);
    let all = bundles.list()?;
    if all.is_empty() {
        println!("no bundles in {}", bundles.dir().display());
    }
    let mut damaged = 0;
    for bundle in &all {
        let name = bundle.manifest.name();
        let mark = if active.as_ref() == Some(&name) {
            "in use"
        } else if before.first() == Some(&name) {
            "before"
        } else {
            ""
        };
        let bytes: u64 = bundle.manifest.files.iter().map(|file| file.bytes).sum();
        let state = if verify { bundle.verify().err().map(|error| error.to_string()) } else { None };
        println!(
            "{name:<32} {mark:<7} {:<11} {:<16} {:>7.1} MiB  {}",
            bundle.manifest.engine.name(),
            bundle.manifest.languages.join(","),
            bytes as f64 / 1_048_576.0,
            bundle.manifest.licence
        );
        for figure in &bundle.manifest.figures {
            println!("    {}: {} {} ({})", figure.what, figure.value, figure.unit, figure.how);
        }
        if let Some(error) = state {
            damaged += 1;
            println!("    {error}");
        }
    }
    if let Some(active) = active.filter(|active| !all.iter().any(|bundle| bundle.manifest.name() == *active))
    {
        bail!("{active} should be in use and is not installed");
    }
    if damaged > 0 {
        bail!("{damaged} of {} bundles are damaged", all.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: Command,
    }

    fn trunkctl(line: &[&str]) -> Result<()> {
        run(Line::try_parse_from(std::iter::once(&"bundle").chain(line))?.command)
    }

    #[test]
    fn a_bundle_goes_from_files_to_use_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("model.onnx"), b"weights").unwrap();
        std::fs::write(path("tokens.txt"), b"<blk> 0\n").unwrap();
        let make = |version: &str, out: &str| {
            trunkctl(&[
                "make",
                &format!("tones@{version}"),
                "--engine",
                "ctc",
                "--languages",
                "zh,en",
                "--licence",
                "ours",
                "--model",
                &path("model.onnx"),
                "--tokens",
                &path("tokens.txt"),
                "--figure",
                "CER zh=12.5 %=by hand",
                "--out",
                &path(out),
            ])
        };
        make("1", "one").unwrap();
        assert!(make("1", "one").unwrap_err().to_string().contains("not empty"));
        make("2", "two").unwrap();
        let box_dir = path("box");
        let on_box = |line: &[&str]| {
            let mut line = line.to_vec();
            line.extend(["--dir", &box_dir]);
            trunkctl(&line)
        };
        on_box(&["install", &path("one"), "--use"]).unwrap();
        on_box(&["install", &path("two")]).unwrap();
        on_box(&["use", "tones@2"]).unwrap();
        on_box(&["list", "--verify"]).unwrap();
        let bundles = Bundles::at(&box_dir);
        assert_eq!(bundles.active().unwrap().unwrap().to_string(), "tones@2");
        assert_eq!(bundles.list().unwrap()[0].manifest.figures[0].value, 12.5);
        on_box(&["rollback"]).unwrap();
        assert_eq!(bundles.active().unwrap().unwrap().to_string(), "tones@1");
        on_box(&["use", "none"]).unwrap();
        assert_eq!(bundles.active().unwrap(), None);
        std::fs::write(bundles.dir().join("tones/2/model.onnx"), b"wEights").unwrap();
        assert!(on_box(&["use", "tones@2"]).unwrap_err().to_string().contains("model.onnx"));
        assert!(on_box(&["list", "--verify"]).unwrap_err().to_string().contains("1 of 2"));
        assert!(on_box(&["rollback"]).is_ok());
    }

    #[test]
    fn a_figure_is_read_or_refused_with_its_form() {
        assert_eq!(figure("CER=12.5 %=here").unwrap().unit, "%");
        for wrong in ["CER", "CER=12", "CER=12=here", "CER=many %=here"] {
            assert!(figure(wrong).is_err(), "{wrong}");
        }
    }
}
