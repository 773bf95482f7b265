//! Models and recordings for tests and benches; both are optional on a developer's machine.

use std::path::{Path, PathBuf};

/// A recording with what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Clip {
    /// Path below the data folder's `speech/`.
    pub(crate) path: String,
    /// What is said, if known.
    #[allow(dead_code, reason = "not every user of this file compares texts")]
    pub(crate) text: String,
    /// `zh`, `en`, `en-l2zh` or `any`.
    #[allow(dead_code, reason = "as above")]
    pub(crate) language: String,
    /// `asr`, `digits`, `noise` and so on.
    pub(crate) kind: String,
    file: PathBuf,
}

impl Clip {
    /// Reads it as it is: its rate and samples.
    pub(crate) fn read(&self) -> (u32, Vec<i16>) {
        let mut reader = hound::WavReader::open(&self.file).expect("a WAV of the data folder");
        let rate = reader.spec().sample_rate;
        (rate, reader.samples::<i16>().map(|s| s.expect("a sample")).collect())
    }

    /// Reads it as the telephone would bring it: 8 kHz, 300 to 3400 Hz, A-law.
    #[allow(dead_code, reason = "as above")]
    pub(crate) fn telephone(&self) -> Vec<i16> {
        let (rate, pcm) = self.read();
        through_telephone(rate, &pcm)
    }

    /// Reads it at 16 kHz, -1 to 1.
    #[allow(dead_code, reason = "as above")]
    pub(crate) fn samples_16k(&self) -> Vec<f32> {
        let (rate, pcm) = self.read();
        assert_eq!(rate, 16_000, "{}", self.path);
        pcm.iter().map(|s| f32::from(*s) / 32_768.0).collect()
    }
}

/// Sends sound (8 or 16 kHz) through a telephone: 8 kHz, 300 to 3400 Hz, A-law.
pub(crate) fn through_telephone(rate: u32, pcm: &[i16]) -> Vec<i16> {
    let step = (rate / 8_000).max(1) as usize;
    let taps = band_pass(f64::from(rate));
    let half = taps.len() / 2;
    (0..pcm.len() / step)
        .map(|n| {
            let sum: f64 = taps
                .iter()
                .enumerate()
                .filter_map(|(k, tap)| Some(f64::from(*pcm.get((n * step + k).checked_sub(half)?)?) * tap))
                .sum();
            through_a_law(sum)
        })
        .collect()
}

/// Windowed sinc from 300 to 3400 Hz.
fn band_pass(rate: f64) -> Vec<f64> {
    let half = (rate / 8_000.0) as isize * 64;
    let sinc = |cut: f64, n: f64| {
        let w = std::f64::consts::TAU * cut / rate;
        if n == 0.0 { w / std::f64::consts::PI } else { (w * n).sin() / (std::f64::consts::PI * n) }
    };
    (-half..=half)
        .map(|n| {
            let n = n as f64;
            let window = 0.54 + 0.46 * (std::f64::consts::PI * n / (half as f64 + 1.0)).cos();
            (sinc(3_400.0, n) - sinc(300.0, n)) * window
        })
        .collect()
}

/// Rounds as A-law does: thirteen segments, sixteen steps in each (ITU-T G.711).
fn through_a_law(sample: f64) -> i16 {
    let magnitude = (sample.abs() / 8.0).min(4_095.0) as i32;
    let step = match magnitude {
        0..=63 => 2,
        m => 1 << (m.ilog2() - 4),
    };
    let rounded = f64::from((magnitude / step) * step) + f64::from(step) / 2.0;
    (rounded * 8.0 * sample.signum()).clamp(-32_768.0, 32_767.0) as i16
}

/// The recordings that fit, in the manifest's order; `None` after saying that they are not there.
pub(crate) fn clips(fits: impl Fn(&Clip) -> bool) -> Option<impl Iterator<Item = Clip>> {
    let root = std::env::var_os("TRUNKLINE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let Ok(manifest) = std::fs::read_to_string(root.join("speech/manifest.tsv")) else {
        println!("skipped: no recordings, set TRUNKLINE_DATA");
        return None;
    };
    let clips: Vec<Clip> = manifest
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let (path, text, language) = (columns.next()?, columns.next()?, columns.next()?);
            let kind = columns.nth(5)?;
            Some(Clip {
                path: path.to_owned(),
                text: text.to_owned(),
                language: language.to_owned(),
                kind: kind.to_owned(),
                file: root.join("speech").join(path),
            })
        })
        .filter(fits)
        .collect();
    Some(clips.into_iter())
}

/// The model's file; `None` after saying that it is not there.
///
/// # Panics
/// When `TRUNKLINE_REQUIRE_MODELS` is 1 and it is missing.
pub(crate) fn model_file(name: &str) -> Option<PathBuf> {
    let named = |key: &str| std::env::var_os(key).map(PathBuf::from);
    let folder = named("TRUNKLINE_MODELS")
        .or_else(|| named("XDG_CACHE_HOME").map(|dir| dir.join("trunkline/models")))
        .or_else(|| named("HOME").map(|dir| dir.join(".cache/trunkline/models")))?;
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    println!("skipped: model {name} missing, run deploy/models");
    let required = std::env::var("TRUNKLINE_REQUIRE_MODELS").is_ok_and(|value| value == "1");
    assert!(!required, "model {name} is required and missing");
    None
}
