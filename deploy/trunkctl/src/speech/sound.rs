//! What is said in a bench: real recordings from a folder, or sentences in synthetic voices where there
//! are none, and always through a telephone channel.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use trunkline_audio::channel::{mix_at_snr, telephone_channel};
use trunkline_audio::latency;
use trunkline_audio::level::{normalise, rms_dbfs, trim_silence};
use trunkline_audio::resample::resample;
use trunkline_audio::{Codec, wav};
use trunkline_speech::ear::{Ear, EarConfig, EarEvent};
use trunkline_speech::recognise::Utterance;
use trunkline_speech::synth::{Locale, PromptStore, SpeechRequest};
use trunkline_speech::vad::SileroModel;

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
    /// Who speaks, where somebody wrote it down.
    pub(crate) speaker: Option<String>,
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
    let speaker = head.iter().position(|found| *found == "speaker");
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
                speaker: speaker.and_then(cell).filter(|name| !name.is_empty()),
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

/// Where a voice begins, in samples: the first 60 ms that are within 20 dB of the loudest 10 ms, so that a
/// breath before the first word is not taken for it. `None` in silence.
pub(crate) fn first_voice(samples: &[i16]) -> Option<usize> {
    const STEP: usize = RATE as usize / 100;
    let levels: Vec<f32> = samples.chunks(STEP).map(rms_dbfs).collect();
    let loudest = levels.iter().copied().fold(-100.0, f32::max);
    if loudest < -60.0 {
        return None;
    }
    let first = levels.windows(6).position(|six| six.iter().all(|level| *level > loudest - 20.0))?;
    Some(first * STEP)
}

/// Cuts `length` samples out of a recording, at the `n`th of `of` places that are evenly spread; all of it
/// when it is shorter.
pub(crate) fn cut(samples: &[i16], length: usize, n: usize, of: usize) -> Vec<i16> {
    let room = samples.len().saturating_sub(length);
    let from = room * n / of.max(2).saturating_sub(1);
    samples[from.min(room)..].iter().take(length).copied().collect()
}

/// Brings the active part of sound to a level; silence stays as it is.
pub(crate) fn at_level(mut samples: Vec<i16>, dbfs: f32) -> Vec<i16> {
    normalise(&mut samples, RATE, dbfs);
    samples
}

/// Returns the turns that an ear finds in sound with silence around it, as a call would have them
/// recognised.
pub(crate) fn turns(silero: &SileroModel, samples: &[i16]) -> Vec<Utterance> {
    let mut ear = Ear::new(Some(silero), EarConfig::default());
    let silence = vec![0; 2 * RATE as usize];
    let mut turns = Vec::new();
    for frame in [&silence[..], samples, &silence].into_iter().flat_map(|part| part.chunks(160)) {
        ear.push(frame);
        while let Some(event) = ear.poll_event() {
            if matches!(event, EarEvent::TurnEnded { .. }) {
                turns.extend(ear.utterance());
            }
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voice_begins_where_it_stays_loud() {
        let mut sound = vec![0i16; 8_000];
        sound[2_000] = 20_000;
        for (n, sample) in sound[4_000..].iter_mut().enumerate() {
            *sample = if n % 16 < 8 { 9_000 } else { -9_000 };
        }
        assert_eq!(first_voice(&sound), Some(4_000));
        assert_eq!(first_voice(&[0; 8_000]), None);
        assert_eq!(first_voice(&[]), None);
    }

    #[test]
    fn pieces_are_spread_over_the_recording_and_never_longer_than_it() {
        let sound: Vec<i16> = (0..100).collect();
        assert_eq!(cut(&sound, 10, 0, 3)[0], 0);
        assert_eq!(cut(&sound, 10, 2, 3), sound[90..]);
        assert_eq!(cut(&sound, 10, 0, 1).len(), 10);
        assert_eq!(cut(&sound, 500, 1, 3), sound);
    }
}
