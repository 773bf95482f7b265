//! Has the caller finished? The Smart Turn model judges the sound itself: falling pitch, a drawn-out
//! last syllable, an unfinished phrase.
//!
//! It is one vote beside the words, the node's expectation and the silence: whole utterances it
//! mostly knows, but of utterances that stop in the middle it takes many for complete. The votes are
//! counted in [`crate::ear`].

mod features;

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use ort::session::Session;
use ort::value::TensorRef;

pub use features::LogMel;
use features::{FRAMES, MELS, SAMPLES};

use crate::ort_rt::{OrtError, SessionSettings, open_session};

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The model could not be opened.
    #[error(transparent)]
    Open(#[from] OrtError),
    /// The runtime failed.
    #[error("end-of-turn model failed")]
    Run(#[from] ort::Error),
    /// The model answered in another shape than Smart Turn's.
    #[error("end-of-turn model gave no probability")]
    Form,
}

/// The end-of-turn model, shared by all calls. A verdict takes some tens of milliseconds of CPU, so
/// it is asked on a worker thread, once per pause.
pub struct EndOfTurn {
    features: LogMel,
    session: Mutex<Session>,
}

impl EndOfTurn {
    /// Opens the model file and computes once, so that the first caller does not pay for it.
    ///
    /// # Errors
    /// When the file or ONNX Runtime is missing, or the model is another one.
    pub fn load(path: &Path) -> Result<Self, TurnError> {
        let session = Mutex::new(open_session(path, SessionSettings::default())?);
        let model = Self { features: LogMel::new(), session };
        model.complete_probability(&[0.0; 1_600])?;
        Ok(model)
    }

    /// Returns the probability that the turn is complete, 0 to 1, for 16 kHz sound that ends in the
    /// pause. Only the last 8 s count; silence is put before shorter sound.
    ///
    /// # Errors
    /// When the runtime fails.
    pub fn complete_probability(&self, samples: &[f32]) -> Result<f32, TurnError> {
        let features = self.features.compute(samples);
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let input = TensorRef::from_array_view(([1usize, MELS, FRAMES], &features[..]))?;
        let outputs = session.run(ort::inputs![input])?;
        let (_, output) = outputs.values().next().ok_or(TurnError::Form).and_then(|value| {
            let (shape, data) = value.try_extract_tensor::<f32>()?;
            Ok((shape.len(), data.first().copied()))
        })?;
        output.filter(|p| p.is_finite()).map(|p| p.clamp(0.0, 1.0)).ok_or(TurnError::Form)
    }

    /// Returns how much sound one verdict looks at, in samples.
    pub fn window() -> usize {
        SAMPLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognise::testing::{clips, model_file};

    #[test]
    fn whole_utterances_are_mostly_judged_complete_and_any_length_is_taken() {
        let Some(path) = model_file("smart-turn-v3.2.onnx") else { return };
        let model = EndOfTurn::load(&path).unwrap();
        for length in [0, 1, 159, 16_000, 128_000, 128_001, 480_000] {
            let p = model.complete_probability(&vec![0.001; length]).unwrap();
            assert!((0.0..=1.0).contains(&p), "{length} samples gave {p}");
        }
        let Some(clips) = clips(|clip| clip.path.contains("turn/zh/complete")) else { return };
        let verdicts: Vec<f32> = clips
            .take(12)
            .map(|clip| {
                let mut sound = clip.samples_16k();
                sound.extend([0.0; 3_200]);
                model.complete_probability(&sound).unwrap()
            })
            .collect();
        let complete = verdicts.iter().filter(|p| **p > 0.5).count();
        assert!(complete * 10 >= verdicts.len() * 7, "{complete} of {verdicts:?}");
    }
}
