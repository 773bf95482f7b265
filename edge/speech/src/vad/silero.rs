//! The Silero network over ONNX Runtime: one model in memory, a small state for each call.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::Session;
use ort::value::{Tensor, TensorRef};

use crate::ort_rt::{OrtError, SessionSettings, open_session};

/// New samples in a window: 32 ms.
const WINDOW: usize = 256;
/// Samples of the window before that the network sees again.
const CONTEXT: usize = 32;
/// Numbers in the recurrent state.
const STATE: usize = 2 * 128;
/// Windows between resets, when nobody speaks: 2 s. Long noise or silence drives the recurrent state
/// to where the network overlooks the next word; at 8 kHz this is well audible.
const RESET_AFTER: u32 = 2_000 / 32;
/// Windows of certain silence before a reset, so that it never falls into a word.
const QUIET_BEFORE_RESET: u32 = 5;

/// Why the network gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SileroError {
    /// The model could not be opened.
    #[error(transparent)]
    Open(#[from] OrtError),
    /// The runtime failed on a window.
    #[error("voice activity model failed")]
    Run(#[from] ort::Error),
    /// The model answered in another shape than Silero's.
    #[error("voice activity model has another form than expected: {0}")]
    Form(&'static str),
}

/// The model, shared by all calls. Cheap to clone.
#[derive(Clone)]
pub struct SileroModel(Arc<Mutex<Loaded>>);

struct Loaded {
    session: Session,
    rate: Tensor<i64>,
}

impl std::fmt::Debug for SileroModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SileroModel")
    }
}

impl SileroModel {
    /// Opens the model file and tries it on silence.
    ///
    /// # Errors
    /// When the file or ONNX Runtime is missing, or the model is another one.
    pub fn load(path: &Path) -> Result<Self, SileroError> {
        let session = open_session(path, SessionSettings::default())?;
        let rate = Tensor::from_array(([1usize], vec![i64::from(super::TELEPHONE_RATE)]))?;
        let model = Self(Arc::new(Mutex::new(Loaded { session, rate })));
        let mut trial = SileroVad::new(&model);
        trial.push(&[0; WINDOW])?;
        Ok(model)
    }

    /// Runs one window; replaces `state`.
    fn run(&self, input: &[f32; CONTEXT + WINDOW], state: &mut [f32; STATE]) -> Result<f32, SileroError> {
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Loaded { session, rate } = &mut *loaded;
        let outputs = session.run(ort::inputs![
            "input" => TensorRef::from_array_view(([1usize, CONTEXT + WINDOW], &input[..]))?,
            "state" => TensorRef::from_array_view(([2usize, 1, 128], &state[..]))?,
            "sr" => &*rate,
        ])?;
        let probability = outputs.get("output").ok_or(SileroError::Form("no `output`"))?;
        let probability = probability.try_extract_tensor::<f32>()?.1.first().copied();
        let next = outputs.get("stateN").ok_or(SileroError::Form("no `stateN`"))?;
        let (_, next) = next.try_extract_tensor::<f32>()?;
        if next.len() != STATE {
            return Err(SileroError::Form("`stateN` has another size"));
        }
        state.copy_from_slice(next);
        probability.filter(|p| p.is_finite()).ok_or(SileroError::Form("`output` is no number"))
    }
}

/// One call's view of the network.
#[derive(Debug)]
pub struct SileroVad {
    model: SileroModel,
    state: Box<[f32; STATE]>,
    /// Context, then the window as far as it is filled.
    input: Box<[f32; CONTEXT + WINDOW]>,
    filled: usize,
    since_reset: u32,
    quiet: u32,
}

impl SileroVad {
    /// Starts with nothing heard.
    pub fn new(model: &SileroModel) -> Self {
        Self {
            model: model.clone(),
            state: Box::new([0.0; STATE]),
            input: Box::new([0.0; CONTEXT + WINDOW]),
            filled: 0,
            since_reset: 0,
            quiet: 0,
        }
    }

    /// Takes 8 kHz sound of any length. Returns the probability of speech in the last window that it
    /// completed, `None` when it completed none.
    ///
    /// # Errors
    /// When the runtime fails; the windows of this call are then lost, and the next ones work.
    pub fn push(&mut self, pcm: &[i16]) -> Result<Option<f32>, SileroError> {
        let mut last = None;
        for &sample in pcm {
            self.input[CONTEXT + self.filled] = f32::from(sample) / 32_768.0;
            self.filled += 1;
            if self.filled == WINDOW {
                self.filled = 0;
                let outcome = self.model.run(&self.input, &mut self.state);
                self.input.copy_within(WINDOW.., 0);
                let probability = outcome?;
                self.reset_when_due(probability);
                last = Some(probability);
            }
        }
        Ok(last)
    }

    fn reset_when_due(&mut self, probability: f32) {
        self.since_reset += 1;
        self.quiet = if probability < 0.1 { self.quiet + 1 } else { 0 };
        if self.since_reset >= RESET_AFTER && self.quiet >= QUIET_BEFORE_RESET {
            self.state.fill(0.0);
            self.since_reset = 0;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The model, or `None` after saying that the test is skipped.
    pub(in crate::vad) fn model() -> Option<SileroModel> {
        let path = crate::recognise::testing::model_file("silero-vad.onnx")?;
        Some(SileroModel::load(&path).unwrap())
    }

    /// A voice at 8 kHz, at most so many samples.
    pub(in crate::vad) fn recording(kind: &str, most: usize) -> Option<Vec<i16>> {
        let mut clips = crate::recognise::testing::clips(|clip| clip.kind == kind)?;
        let mut pcm = clips.next()?.telephone();
        pcm.truncate(most);
        Some(pcm)
    }

    #[test]
    fn silence_and_hum_are_no_speech() {
        let Some(model) = model() else { return };
        let mut vad = SileroVad::new(&model);
        let mut worst = 0.0f32;
        for n in 0..250 {
            let frame: Vec<i16> = (0..160)
                .map(|i| (((n * 160 + i) as f32 * 0.039).sin() * if n > 125 { 800.0 } else { 0.0 }) as i16)
                .collect();
            worst = worst.max(vad.push(&frame).unwrap().unwrap_or(0.0));
        }
        assert!(worst < 0.5, "{worst}");
    }

    #[test]
    fn a_voice_is_speech_and_calls_do_not_disturb_each_other() {
        let Some(model) = model() else { return };
        let Some(pcm) = recording("prompts", 24_000) else { return };
        let probabilities = |other: Option<&mut SileroVad>| {
            let mut vad = SileroVad::new(&model);
            let mut other = other;
            let mut all = Vec::new();
            for frame in pcm.chunks(160) {
                all.extend(vad.push(frame).unwrap());
                if let Some(other) = other.as_deref_mut() {
                    other.push(&[0; 160]).unwrap();
                }
            }
            all
        };
        let alone = probabilities(None);
        let mut silent_call = SileroVad::new(&model);
        assert_eq!(alone, probabilities(Some(&mut silent_call)));
        assert!(alone.iter().copied().fold(0.0, f32::max) > 0.9);
    }
}
