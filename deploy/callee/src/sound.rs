//! The customer's voice and the noise around her, made before the first call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;
use trunkline_audio::tone::{Signal, ToneGenerator};
use trunkline_audio::{channel, level, resample, wav};
use trunkline_line::Clip;
use trunkline_speech::recognise::{LoadError, PoolConfig, RecognizerPool, Whisper, WhisperConfig};
use trunkline_speech::synth::{
    Locale, PromptError, PromptStore, SpeechRequest, SynthError, open_synthesizer,
};

use crate::persona::{NoiseSource, Part, Persona, Utterance};

const RATE: u32 = 8_000;
/// Length of a loop of made noise: nobody hears it come round.
const NOISE_SAMPLES: usize = 15 * RATE as usize;
const PROMPT_MEMORY: usize = 32 * 1024 * 1024;

/// A persona with everything she may say.
#[derive(Clone, Debug)]
pub struct Cast {
    pub(crate) persona: Arc<Persona>,
    pub(crate) clips: Vec<Clip>,
    pub(crate) noise: Option<Arc<[i16]>>,
}

impl Cast {
    /// Returns the persona.
    pub fn persona(&self) -> &Arc<Persona> {
        &self.persona
    }

    /// Returns her utterances as sound, 8 kHz, in the persona's order.
    pub fn clips(&self) -> &[Clip] {
        &self.clips
    }

    /// Casts a persona with ready sound: one clip of 8 kHz for each of her utterances.
    ///
    /// Returns `None` when the numbers differ.
    pub fn with_clips(persona: Persona, clips: Vec<Clip>) -> Option<Self> {
        (clips.len() == persona.utterances.len()).then(|| Self {
            persona: Arc::new(persona),
            clips,
            noise: None,
        })
    }
}

/// Why a persona has no sound.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// A model is missing or wrong.
    #[error(transparent)]
    Model(#[from] models::ModelError),
    /// The synthesiser does not start.
    #[error("could not start the synthesiser")]
    Voice(#[source] SynthError),
    /// The folder of rendered prompts cannot be used.
    #[error("could not use the prompts in {path}")]
    Store {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: PromptError,
    },
    /// Something could not be rendered.
    #[error("could not say `{text}` for persona `{persona}`")]
    Render {
        /// The persona's name.
        persona: String,
        /// The words.
        text: String,
        /// Why.
        source: PromptError,
    },
    /// A noise file cannot be used.
    #[error("could not use the noise of persona `{persona}`")]
    Noise {
        /// The persona's name.
        persona: String,
        /// Why.
        source: wav::WavError,
    },
    /// A noise file holds no sound.
    #[error("the noise of persona `{persona}` in {path} is silent")]
    SilentNoise {
        /// The persona's name.
        persona: String,
        /// The file.
        path: PathBuf,
    },
    /// The recogniser does not load.
    #[error("could not load the recogniser")]
    Recogniser(#[source] LoadError),
    /// The recogniser's threads cannot be started.
    #[error("could not start the recogniser's threads")]
    Threads(#[source] std::io::Error),
}

/// Renders everything the personas may say, or takes it from the folder of prompts. Blocking; the
/// synthesiser is given back afterwards.
///
/// # Errors
/// See [`SoundError`].
pub fn rehearse(personas: Vec<Persona>, models: &Path, prompts: &Path) -> Result<Vec<Cast>, SoundError> {
    let speaks = |persona: &Persona| {
        let babble = persona.voice.noise.as_ref().is_some_and(|noise| noise.source == NoiseSource::Babble);
        !persona.utterances.is_empty() || babble
    };
    let studio = if personas.iter().any(speaks) { Some(Studio::open(models, prompts)?) } else { None };
    personas
        .into_iter()
        .map(|persona| {
            let clips = match &studio {
                Some(studio) => studio.clips(&persona)?,
                None => Vec::new(),
            };
            let noise = noise(&persona, studio.as_ref())?;
            Ok(Cast { persona: Arc::new(persona), clips, noise })
        })
        .collect()
}

/// Loads the recogniser when one of the personas needs it. Blocking.
///
/// # Errors
/// [`SoundError::Model`], [`SoundError::Recogniser`] or [`SoundError::Threads`].
pub fn ears(casts: &[&Cast], models: &Path) -> Result<Option<Arc<RecognizerPool>>, SoundError> {
    if !casts.iter().any(|cast| cast.persona.talk.needs_ears()) {
        return Ok(None);
    }
    let name = "whisper-base-q8_0.bin";
    let path = models.join(name);
    models::check(&path, name)?;
    let whisper = Whisper::load(&path, WhisperConfig { states: 1, ..WhisperConfig::default() })
        .map_err(SoundError::Recogniser)?;
    let config = PoolConfig { workers: 1, ..PoolConfig::default() };
    let pool = RecognizerPool::new(Arc::new(whisper), config).map_err(SoundError::Threads)?;
    Ok(Some(Arc::new(pool)))
}

struct Studio {
    store: PromptStore,
}

impl Studio {
    fn open(models: &Path, prompts: &Path) -> Result<Self, SoundError> {
        let name = "kokoro-v1.0-int8.onnx";
        models::check(&models.join(name), name)?;
        let voice = open_synthesizer(models).map_err(SoundError::Voice)?;
        let store = PromptStore::open(prompts, voice, PROMPT_MEMORY)
            .map_err(|source| SoundError::Store { path: prompts.to_owned(), source })?;
        Ok(Self { store })
    }

    fn clips(&self, persona: &Persona) -> Result<Vec<Clip>, SoundError> {
        let of = persona.utterances.len();
        let clip = |(at, utterance): (usize, &Utterance)| {
            let pieces = utterance.parts.iter().filter_map(|part| match part {
                Part::Text(text) => Some(self.request(persona, text)),
                Part::Pause(_) => None,
            });
            let fresh = pieces.filter(|request| !self.store.contains(&self.store.key(request))).count();
            if fresh > 0 {
                info!(persona = persona.name, "Rendering utterance {} of {of}", at + 1);
            }
            let clip = self.clip(persona, utterance)?;
            let beep = persona.talk.beep_hz.filter(|_| persona.talk.greeting.0.contains(&at));
            Ok(match beep {
                Some(hz) => with_beep(&clip, f32::from(hz)),
                None => clip,
            })
        };
        persona.utterances.iter().enumerate().map(clip).collect()
    }

    fn clip(&self, persona: &Persona, utterance: &Utterance) -> Result<Clip, SoundError> {
        let mut samples = Vec::new();
        for part in &utterance.parts {
            match part {
                Part::Text(text) => samples.extend(self.say(persona, &self.request(persona, text))?),
                Part::Pause(span) => {
                    let len = samples.len() + span.as_ms() as usize * RATE as usize / 1_000;
                    samples.resize(len, 0);
                }
            }
        }
        level::normalise(&mut samples, RATE, persona.voice.level_dbfs);
        Ok(samples.into())
    }

    fn say(&self, persona: &Persona, request: &SpeechRequest) -> Result<Vec<i16>, SoundError> {
        let prompt = self.store.get_or_render(request).map_err(|source| SoundError::Render {
            persona: persona.name.clone(),
            text: request.text.clone(),
            source,
        })?;
        // Silence around the words would pass for her thinking.
        Ok(prompt.samples[level::trim_silence(&prompt.samples, RATE)].to_vec())
    }

    fn request(&self, persona: &Persona, text: &str) -> SpeechRequest {
        let mut request = SpeechRequest::new(text, persona.locale).with_voice(persona.voice.name.as_str());
        request.style = persona.voice.style;
        request.speed = persona.voice.speed;
        request
    }

    /// Four people in one room, none of whom is the persona.
    fn babble(&self, persona: &Persona) -> Result<Vec<i16>, SoundError> {
        let (voices, lines) = company(persona.locale);
        let mut room = vec![0i32; NOISE_SAMPLES];
        let others = voices.iter().filter(|voice| **voice != persona.voice.name).take(4);
        for (seat, voice) in others.enumerate() {
            let mut at = seat * NOISE_SAMPLES / 5;
            let mut left = NOISE_SAMPLES;
            for line in (0..).map(|n| lines[(seat + n) % lines.len()]) {
                let request = SpeechRequest::new(line, persona.locale).with_voice(*voice);
                let said = self.say(persona, &request)?;
                if said.is_empty() || said.len() > left {
                    break;
                }
                for (n, sample) in said.iter().enumerate() {
                    room[(at + n) % NOISE_SAMPLES] += i32::from(*sample);
                }
                at += said.len();
                left -= said.len();
            }
        }
        Ok(room.into_iter().map(|sample| sample.clamp(-32_768, 32_767) as i16).collect())
    }
}

/// Returns people who might stand around her, and what they talk about.
fn company(locale: Locale) -> ([&'static str; 5], [&'static str; 4]) {
    match locale {
        Locale::ZhCn => (
            ["zm_yunxi", "zf_xiaoni", "zm_yunyang", "zf_xiaoyi", "zm_yunjian"],
            [
                "昨天那部电影你看了没有，我觉得结尾有点奇怪。",
                "这个菜是不是放了太多盐，下次少放一点吧。",
                "我们几点出发比较合适，路上可能会堵车。",
                "孩子的作业还没写完，今天晚上又要熬夜了。",
            ],
        ),
        Locale::EnUs => (
            ["am_adam", "af_sarah", "am_michael", "af_nicole", "am_liam"],
            [
                "So I told him that the train would never be on time, and of course it was not.",
                "We could put the table over there, next to the window, if the lamp fits.",
                "Did you try the soup? They changed the recipe again last week.",
                "The kids want a dog, and I keep saying that the garden is too small.",
            ],
        ),
        Locale::EnGb => (
            ["bm_george", "bf_lily", "bm_lewis", "bf_isabella", "bm_daniel"],
            [
                "The bus was late again, so we walked the whole way along the river.",
                "She has painted the kitchen yellow, and I must say that I rather like it.",
                "If it rains on Sunday we shall have to move everything indoors.",
                "He never locks the shed, and then he wonders where the ladder went.",
            ],
        ),
    }
}

fn noise(persona: &Persona, studio: Option<&Studio>) -> Result<Option<Arc<[i16]>>, SoundError> {
    let Some(noise) = &persona.voice.noise else { return Ok(None) };
    let level = persona.voice.level_dbfs - noise.snr_db;
    let samples = match &noise.source {
        NoiseSource::White => channel::white_noise(NOISE_SAMPLES, level, 1),
        NoiseSource::Pink => channel::pink_noise(NOISE_SAMPLES, level, 1),
        NoiseSource::Babble => match studio {
            Some(studio) => at_level(studio.babble(persona)?, level),
            None => Vec::new(),
        },
        NoiseSource::File(path) => {
            let wav = wav::read(path)
                .map_err(|source| SoundError::Noise { persona: persona.name.clone(), source })?;
            let samples = at_level(resample::resample(&wav.mono(), wav.rate, RATE), level);
            if samples.iter().all(|&sample| sample == 0) {
                return Err(SoundError::SilentNoise { persona: persona.name.clone(), path: path.clone() });
            }
            samples
        }
    };
    Ok(Some(samples.into()).filter(|samples: &Arc<[i16]>| !samples.is_empty()))
}

fn at_level(mut samples: Vec<i16>, dbfs: f32) -> Vec<i16> {
    let now = level::rms_dbfs(&samples);
    level::gain(&mut samples, dbfs - now);
    samples
}
/// A greeting with the tone behind it after which a voicemail records.
fn with_beep(greeting: &[i16], hz: f32) -> Clip {
    let signal = Signal { frequencies: [hz, 0.0], modulation: 0.0, cadence: [0; 4], dbfs: -18.0 };
    let mut beep = vec![0; 400 * 8];
    ToneGenerator::new(8_000, signal).fill(&mut beep);
    let pause = [0; 700 * 8];
    [greeting, &pause, &beep].concat().into()
}
