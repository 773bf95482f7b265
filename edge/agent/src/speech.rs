//! The models of the box, loaded once and shared by all calls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::{error, info};
use trunkline_dialogue::Script;
use trunkline_dialogue::action::Variables;
use trunkline_speech::bundle::{BundleName, Bundles, OpenError, Tuning, open_active};
use trunkline_speech::recognise::{PoolConfig, Recognizer, RecognizerPool, Whisper, WhisperConfig};
use trunkline_speech::synth::{Locale, PromptStore, SpeechRequest, Style, open_synthesizer};
use trunkline_speech::turn::EndOfTurn;
use trunkline_speech::vad::SileroModel;

use crate::config::Config;

/// Most promises and new appointments lie within so many days.
const LIKELY_DAYS: usize = 14;
const PROMPT_MEMORY: usize = 64 * 1024 * 1024;

/// What hears and speaks.
#[derive(Clone)]
pub(crate) struct Speech {
    pub(crate) pool: Arc<RecognizerPool>,
    pub(crate) silero: SileroModel,
    pub(crate) end_of_turn: Arc<EndOfTurn>,
    pub(crate) prompts: Arc<PromptStore>,
}

/// How a script wants to sound.
#[derive(Clone, Debug)]
pub(crate) struct VoiceOf {
    locale: Locale,
    name: Option<String>,
    style: Style,
    speed: f32,
}

impl VoiceOf {
    pub(crate) fn script(script: &Script) -> Result<Self> {
        let locale = script.locale().parse().map_err(anyhow::Error::msg)?;
        let voice = script.voice();
        let style = match voice.style.as_deref() {
            None => Style::Neutral,
            Some(style) => style.parse().map_err(anyhow::Error::msg)?,
        };
        let name = Some(voice.name.clone()).filter(|name| !name.is_empty());
        Ok(Self { locale, name, style, speed: voice.speed.unwrap_or(1.0) })
    }

    pub(crate) fn locale(&self) -> Locale {
        self.locale
    }

    pub(crate) fn request(&self, text: &str) -> SpeechRequest {
        let mut request = SpeechRequest::new(text, self.locale);
        if let Some(name) = &self.name {
            request.voice.clone_from(name);
        }
        request.style = self.style;
        request.speed = self.speed;
        request
    }
}

impl Speech {
    /// Loads every model; each is checked against its known hash first.
    pub(crate) fn load(folders: &Folders, workers: Option<usize>) -> Result<Self> {
        let models_dir = folders.models.as_path();
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let workers = workers.unwrap_or(cores).max(1);
        let silero = SileroModel::load(&checked(models_dir, "silero-vad.onnx")?)?;
        let end_of_turn = EndOfTurn::load(&checked(models_dir, "smart-turn-v3.2.onnx")?)?;
        let config = PoolConfig { workers, ..PoolConfig::default() };
        let recognizer = recognizer(folders, Tuning { states: workers, threads: config.threads })?;
        let pool =
            RecognizerPool::new(recognizer, config).context("cannot start the recogniser's threads")?;
        checked(models_dir, "kokoro-v1.0-int8.onnx")?;
        let synthesizer = open_synthesizer(models_dir).context("cannot load the synthesiser")?;
        let prompts = PromptStore::open(&folders.prompts, synthesizer, PROMPT_MEMORY)
            .with_context(|| format!("cannot use {} for prompts", folders.prompts.display()))?;
        info!(workers, "Models are loaded");
        Ok(Self {
            pool: Arc::new(pool),
            silero,
            end_of_turn: Arc::new(end_of_turn),
            prompts: Arc::new(prompts),
        })
    }
}

/// Where the models lie.
pub(crate) struct Folders {
    models: PathBuf,
    prompts: PathBuf,
    bundles: Option<PathBuf>,
    bundle: Option<BundleName>,
}

impl Folders {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            models: config.models_dir(),
            prompts: config.prompts_dir(),
            bundles: config.bundles_dir(),
            bundle: config.speech.bundle.clone(),
        }
    }
}

/// Loads the recogniser: that of the bundle in use, else of the one before it, else the one among the
/// models. A box that hears with an older model is better than one that does not start, but somebody has
/// to know.
fn recognizer(folders: &Folders, tuning: Tuning) -> Result<Arc<dyn Recognizer>> {
    if let Some(dir) = &folders.bundles {
        match open_active(&Bundles::at(dir), folders.bundle.as_ref(), tuning) {
            Ok(Some(opened)) => {
                shout(&opened.failed, &format!("bundle {}", opened.name));
                info!(bundle = %opened.name, "The recogniser is that of bundle {}", opened.name);
                return Ok(opened.recognizer);
            }
            Ok(None) => {
                info!(dir = %dir.display(), "No bundle is in use, the recogniser is the one among the models")
            }
            Err(failed) => shout(&failed, "the one among the models"),
        }
    }
    let path = checked(&folders.models, "whisper-base-q8_0.bin")?;
    let config = WhisperConfig { states: tuning.states, ..WhisperConfig::default() };
    let whisper = Whisper::load(&path, config)
        .with_context(|| format!("cannot load the recogniser from {}", path.display()))?;
    Ok(Arc::new(whisper))
}

/// Says of every bundle that should have been used why it is not, and what is used instead.
fn shout(failed: &[(BundleName, OpenError)], instead: &str) {
    for (bundle, error) in failed {
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            reason = format!("{reason}: {error}");
            cause = error.source();
        }
        error!(
            %bundle,
            reason,
            "RECOGNISER NOT AS CONFIGURED: bundle {bundle} cannot be used, the box hears with {instead} instead: {reason}"
        );
    }
}

/// Returns the path of a model whose content is what it should be.
fn checked(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    models::check(&path, name)?;
    Ok(path)
}

/// Splits a text into the pieces that are rendered on their own: sentences. A sentence that occurs
/// in several texts is rendered once, and one that holds a value learnt in the call is synthesised
/// while the sentence before it plays.
pub(crate) fn sentences(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = at + c.len_utf8();
        let next = chars.peek().map(|(_, next)| *next);
        let ends = match c {
            '。' | '！' | '？' => !matches!(next, Some('。' | '！' | '？' | '”' | '"' | '」')),
            '.' | '!' | '?' => next.is_none_or(char::is_whitespace) && !is_abbreviation(&text[start..at]),
            _ => false,
        };
        if ends {
            push_piece(&mut pieces, &text[start..end]);
            start = end;
        }
    }
    push_piece(&mut pieces, &text[start..]);
    pieces
}

fn push_piece(pieces: &mut Vec<String>, piece: &str) {
    let piece = piece.trim();
    if piece.chars().any(char::is_alphanumeric) {
        pieces.push(piece.to_owned());
    }
}

/// `Dr. Lee` and `J. F. Kennedy` are no ends of sentences.
fn is_abbreviation(before: &str) -> bool {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    matches!(word, "Dr" | "Mr" | "Mrs" | "Ms" | "St" | "No" | "a.m" | "p.m") || word.chars().count() == 1
}

/// Returns every piece that this call may say and that is known before it is dialled, and those with a
/// date or a time that the customer is likely to name: the days from `today` on, and the half hours
/// of a working day. What she names beyond that is synthesised in the call, and she waits for it.
pub(crate) fn pieces_ahead(script: &Script, variables: &Variables, today: jiff::civil::Date) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let goodbye = trunkline_dialogue::goodbye(script, variables);
    let dates: Vec<String> = std::iter::successors(Some(today), |day| day.tomorrow().ok())
        .take(LIKELY_DAYS)
        .map(|day| day.to_string())
        .collect();
    let times: Vec<String> =
        (8..18).flat_map(|hour| [format!("{hour:02}:00"), format!("{hour:02}:30")]).collect();
    let likely = trunkline_dialogue::likely_prompts(script, variables, &dates, &times);
    trunkline_dialogue::prompts(script, variables)
        .iter()
        .chain(&likely)
        .chain(std::iter::once(&goodbye))
        .flat_map(|text| sentences(text))
        .filter(|piece| seen.insert(piece.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_does_not_load_costs_its_use_and_not_the_box() {
        let models = models::model_dir();
        if !models.join("whisper-base-q8_0.bin").is_file() {
            println!("skipped: model whisper-base-q8_0.bin missing, run deploy/models");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folders = |bundle: Option<&str>| Folders {
            models: models.clone(),
            prompts: dir.path().join("prompts"),
            bundles: Some(dir.path().join("bundles")),
            bundle: bundle.map(|name| name.parse().unwrap()),
        };
        let tuning = Tuning { states: 1, threads: 1 };
        assert!(recognizer(&folders(None), tuning).is_ok(), "nothing is in use");
        assert!(recognizer(&folders(Some("gone@1")), tuning).is_ok(), "it is not installed");
        let nothing = Folders { models: dir.path().to_owned(), ..folders(None) };
        assert!(recognizer(&nothing, tuning).is_err(), "there is no model at all");
    }

    #[test]
    fn a_text_is_split_at_the_ends_of_sentences_only() {
        assert_eq!(
            sentences("好的。我帮您登记为十二月三号，可以吗？"),
            ["好的。", "我帮您登记为十二月三号，可以吗？"]
        );
        assert_eq!(
            sentences("Hello, Dr. Lee at 3 p.m. today. OK?"),
            ["Hello, Dr. Lee at 3 p.m. today.", "OK?"]
        );
        assert_eq!(sentences("It costs $3.50 now."), ["It costs $3.50 now."]);
        assert_eq!(sentences("……"), Vec::<String>::new());
        assert_eq!(sentences("真的吗？！好"), ["真的吗？！", "好"]);
    }
}
