//! What is said in a bench: real recordings from a folder, or sentences in synthetic voices where there
//! are none, and always through a telephone channel.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use trunkline_audio::channel::{mix_at_snr, telephone_channel};
use trunkline_audio::latency;
use trunkline_audio::level::trim_silence;
use trunkline_audio::resample::resample;
use trunkline_audio::{Codec, wav};
use trunkline_speech::synth::{Locale, PromptStore, SpeechRequest};

/// The rate of the telephone, in Hz.
pub(crate) const RATE: u32 = 8_000;

/// A recording in a folder with a `manifest.tsv`.
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    /// Path below the folder.
    pub(crate) path: String,
    /// What is said, if known.
    pub(crate) text: String,
    /// `zh`, `en`, `en-l2zh` or `any`.
    pub(crate) language: String,
    /// `asr`, `digits`, `noise` and so on.
    pub(crate) kind: String,
    file: PathBuf,
}

impl Clip {
    /// Reads it as a telephone brings it: 8 kHz, 300 to 3400 Hz, A-law.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn telephone(&self) -> Result<Vec<i16>> {
        Ok(telephone_channel(&self.narrow()?, Codec::Pcma))
    }

    /// Reads it at 8 kHz.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn narrow(&self) -> Result<Vec<i16>> {
        let read = wav::read(&self.file).with_context(|| format!("cannot use {}", self.file.display()))?;
        Ok(resample(&read.mono(), read.rate, RATE))
    }
}

/// Lists the recordings of a folder. The manifest is a table with a head and at least the columns
/// `path`, `text`, `lang` and `kind`.
///
/// # Errors
/// When there is no manifest or a column is missing.
pub(crate) fn clips(dir: &Path) -> Result<Vec<Clip>> {
    let path = dir.join("manifest.tsv");
    let table = std::fs::read_to_string(&path).with_context(|| {
        format!("cannot read {}: name a folder of recordings with --data", path.display())
    })?;
    let mut lines = table.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| {
        head.iter()
            .position(|found| *found == name)
            .with_context(|| format!("{} has no column `{name}`", path.display()))
    };
    let (at, text, language, kind) = (column("path")?, column("text")?, column("lang")?, column("kind")?);
    Ok(lines
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let cell = |n: usize| cells.get(n).map(|cell| (*cell).to_owned());
            Some(Clip {
                file: dir.join(cell(at)?),
                path: cell(at)?,
                text: cell(text)?,
                language: cell(language)?,
                kind: cell(kind)?,
            })
        })
        .collect())
}

/// One thing that a caller says.
#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    /// 8 kHz, through the channel, with silence behind it.
    pub(crate) samples: Arc<[i16]>,
    /// Where the last sound of speech ends, in samples.
    pub(crate) speech_end: usize,
    /// Where it is from, for the head of a table.
    pub(crate) kind: String,
}

impl Spoken {
    /// Takes sound at 8 kHz that went through the channel; `None` when there is no speech in it.
    pub(crate) fn new(samples: Vec<i16>, kind: &str) -> Option<Self> {
        // The same rule as `trunkctl recording latency`: breath behind the last word is no speech.
        let heard = latency::analyse(&samples, &[], RATE, &latency::Options::default());
        let speech_end = (heard.customer.last()?.end_s * f64::from(RATE)) as usize;
        Some(Self { samples: samples.into(), speech_end, kind: kind.to_owned() })
    }
}

/// Says a phrase in a synthetic voice, as a telephone brings it: 200 ms of silence, the phrase, and as
/// much behind it as an ear gives to the recogniser.
///
/// # Errors
/// When it cannot be synthesised.
pub(crate) fn synthetic(store: &PromptStore, locale: Locale, voice: &str, text: &str) -> Result<Vec<i16>> {
    let request = SpeechRequest::new(text, locale).with_voice(voice);
    let prompt = store.get_or_render(&request).with_context(|| format!("cannot say `{text}` as {voice}"))?;
    let spoken = trim_silence(&prompt.samples, RATE);
    let mut samples = vec![0; 1_600];
    samples.extend(&prompt.samples[spoken]);
    samples.extend([0; 1_280]);
    Ok(telephone_channel(&samples, Codec::Pcma))
}

/// Adds noise from a recording, beginning at a place that depends on `seed`.
pub(crate) fn in_noise(mut samples: Vec<i16>, noise: &[i16], snr_db: f32, seed: usize) -> Vec<i16> {
    if noise.is_empty() {
        return samples;
    }
    let start = seed.wrapping_mul(7_919) % noise.len();
    let turned: Vec<i16> = noise[start..].iter().chain(&noise[..start]).copied().collect();
    mix_at_snr(&mut samples, &turned, RATE, snr_db);
    samples
}
