//! Closed questions: yes or no, one of eight, a day, an amount, digits. Understood or not, with free
//! transcription and with the expected answers weighed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::civil::DateTime;
use trunkline_call::{Numbers, expected_numbers, expected_phrases};
use trunkline_dialogue::Script;
use trunkline_dialogue::action::{Endpoint, Listen};
use trunkline_nlu::{Engine, EntityValue, Locale as NluLocale, extract};
use trunkline_speech::recognise::{Language, Lexicon, RecognizeOptions, Recognizer, Utterance};
use trunkline_speech::synth::{Locale, PromptStore};

use super::sound::{Clip, in_noise, synthetic};

/// One question of the set, in the file that is built in.
#[derive(serde::Deserialize)]
struct Question {
    name: String,
    /// Intents that the node expects.
    #[serde(default)]
    expect: Vec<String>,
    #[serde(default)]
    hot_words: Vec<String>,
    /// Kinds of the values that the node asks for.
    #[serde(default)]
    values: Vec<String>,
    answers: Vec<Answer>,
}

#[derive(serde::Deserialize)]
struct Answer {
    say: String,
    /// `intent yes`, `date 2026-11-25`, `money 500`, `digits 3821`.
    means: String,
}

#[derive(serde::Deserialize)]
struct Set {
    /// When the answers are given: "tomorrow" counts from here.
    now: DateTime,
    voices: Vec<String>,
    questions: Vec<Question>,
}

/// Right answers of all, by question and setting.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Score {
    pub(crate) right: usize,
    /// Nothing was understood: the robot asks again.
    pub(crate) nothing: usize,
    pub(crate) all: usize,
}

impl Score {
    fn add(&mut self, meant: Option<bool>) {
        self.all += 1;
        self.right += usize::from(meant == Some(true));
        self.nothing += usize::from(meant.is_none());
    }
}

/// A row of the table: question, condition, free, weighed.
pub(crate) struct Row {
    pub(crate) question: String,
    pub(crate) source: &'static str,
    pub(crate) condition: String,
    pub(crate) free: Score,
    pub(crate) weighed: Score,
    /// CPU time that weighing costs on top, per answer.
    pub(crate) extra: Duration,
}

/// What the measurement needs.
pub(crate) struct Bench<'a> {
    pub(crate) recognizer: &'a dyn Recognizer,
    pub(crate) prompts: &'a PromptStore,
    pub(crate) engine: &'a Engine,
    pub(crate) noises: &'a [Vec<i16>],
}

impl Bench<'_> {
    /// Asks every question of a language in quiet and in noise.
    pub(crate) fn run(&self, locale: Locale, progress: &mut dyn FnMut(&str)) -> Result<Vec<Row>> {
        let (script, set) = match locale {
            Locale::ZhCn => (include_str!("closed.zh.yaml"), include_str!("closed.zh.json")),
            Locale::EnUs | Locale::EnGb => (include_str!("closed.en.yaml"), include_str!("closed.en.json")),
        };
        let script = Script::load(script).map_err(|error| anyhow::anyhow!("the bench's script: {error}"))?;
        let set: Set = serde_json::from_str(set).context("the bench's questions")?;
        let (language, nlu) = match locale {
            Locale::ZhCn => (Language::ZH, NluLocale::Zh),
            Locale::EnUs | Locale::EnGb => (Language::EN, NluLocale::En),
        };
        let version = script.version().to_string();
        trunkline_turn::prepare(self.engine, &script)?;
        let mut rows = Vec::new();
        for question in &set.questions {
            let listen = Listen {
                no_input: Duration::from_secs(5),
                endpoint: Endpoint::Short,
                expect: question.expect.clone(),
                hot_words: question.hot_words.clone(),
                values: question.values.clone(),
            };
            let lexicon = expected_numbers(&listen).map(|numbers| match numbers {
                Numbers::Digits => Lexicon::Digits,
                Numbers::Amount => Lexicon::Amount,
            });
            let phrases = expected_phrases(&script, &listen);
            let expect: Vec<&str> = question.expect.iter().map(String::as_str).collect();
            for snr in [None, Some(10.0)] {
                progress(&format!(
                    "{} {}",
                    question.name,
                    snr.map_or("quiet".to_owned(), |db| format!("{db} dB"))
                ));
                let mut row = Row {
                    question: format!("{} {}", locale.tag(), question.name),
                    source: "synthetic",
                    condition: snr
                        .map_or("telephone".to_owned(), |db: f32| format!("telephone, {db} dB noise")),
                    free: Score::default(),
                    weighed: Score::default(),
                    extra: Duration::ZERO,
                };
                let mut seed = 0;
                for answer in &question.answers {
                    for voice in &set.voices {
                        seed += 1;
                        let mut sound = synthetic(self.prompts, locale, voice, &answer.say)?;
                        if let (Some(db), false) = (snr, self.noises.is_empty()) {
                            sound = in_noise(sound, &self.noises[seed % self.noises.len()], db, seed);
                        }
                        let mut judge = |text: &str| -> Result<Option<bool>> {
                            meant(self.engine, &version, nlu, text, &expect, set.now, &answer.means)
                        };
                        let expected = (Arc::clone(&phrases), lexicon);
                        self.one(&sound, language, expected, &mut row, &mut judge)?;
                    }
                }
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Real recordings of single digits.
    pub(crate) fn digits(&self, clips: &[Clip], most: usize) -> Result<Vec<Row>> {
        const WORDS: [&str; 10] =
            ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
        let phrases: Arc<[String]> = WORDS.iter().map(|word| (*word).to_owned()).collect();
        let step = (clips.len() / most.max(1)).max(1);
        let mut rows = Vec::new();
        for snr in [None, Some(10.0f32)] {
            let mut row = Row {
                question: "en one digit".to_owned(),
                source: "real",
                condition: snr.map_or("telephone".to_owned(), |db| format!("telephone, {db} dB noise")),
                free: Score::default(),
                weighed: Score::default(),
                extra: Duration::ZERO,
            };
            for (seed, clip) in clips.iter().step_by(step).enumerate() {
                let digit = clip.path.rsplit('/').next().and_then(|name| name.chars().next()?.to_digit(10));
                let Some(digit) = digit else { continue };
                let mut sound = vec![0; 1_600];
                sound.extend(clip.telephone()?);
                sound.extend([0; 1_280]);
                if let (Some(db), false) = (snr, self.noises.is_empty()) {
                    sound = in_noise(sound, &self.noises[seed % self.noises.len()], db, seed);
                }
                let mut judge = |text: &str| {
                    let text: String =
                        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
                    if text.is_empty() {
                        return Ok(None);
                    }
                    Ok(Some(text == digit.to_string() || text == WORDS[digit as usize]))
                };
                let expected = (Arc::clone(&phrases), Some(Lexicon::Digits));
                self.one(&sound, Language::EN, expected, &mut row, &mut judge)?;
            }
            rows.push(row);
        }
        Ok(rows)
    }

    fn one(
        &self,
        sound: &[i16],
        language: Language,
        (phrases, lexicon): (Arc<[String]>, Option<Lexicon>),
        row: &mut Row,
        judge: &mut dyn FnMut(&str) -> Result<Option<bool>>,
    ) -> Result<()> {
        // The ear passes on what it took for speech; here that is the whole but the silence put around it.
        let voiced = Duration::from_millis((sound.len().saturating_sub(2_880) / 8) as u64);
        let audio = Utterance::from_telephone(sound).with_voiced(voiced);
        let mut options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
        let before = super::carry::cpu_time();
        let free = self.recognizer.recognize(&audio, &options)?;
        let between = super::carry::cpu_time();
        options.phrases = phrases;
        options.lexicon = lexicon;
        let weighed = self.recognizer.recognize(&audio, &options)?;
        row.extra += (super::carry::cpu_time() - between).saturating_sub(between - before);
        let (free_meant, weighed_meant) = (judge(&free.text)?, judge(&weighed.text)?);
        if std::env::var_os("SHOW").is_some() && weighed_meant != Some(true) {
            println!(
                "  {} [{}] {:.2} -> {} {:?} {weighed_meant:?}",
                row.question, free.raw, free.avg_logprob, weighed.text, weighed.choice
            );
        }
        row.free.add(free_meant);
        row.weighed.add(weighed_meant);
        Ok(())
    }
}

/// Tells whether the text means what was said; `None` when it means nothing at all.
fn meant(
    engine: &Engine,
    version: &str,
    locale: NluLocale,
    text: &str,
    expect: &[&str],
    now: DateTime,
    means: &str,
) -> Result<Option<bool>> {
    let (kind, value) = means.split_once(' ').unwrap_or((means, ""));
    if kind == "intent" {
        let found = engine.understand(version, text, expect, now)?.decision.intent;
        return Ok(found.map(|intent| intent == value));
    }
    let found: Vec<String> = extract(text, locale, now)
        .into_iter()
        .filter_map(|entity| match (kind, entity.value) {
            ("date", EntityValue::Date(date)) => Some(date.to_string()),
            ("money", EntityValue::Money { minor, .. }) => Some((minor / 100).to_string()),
            ("money", EntityValue::Number(number)) => Some(format!("{number:.0}")),
            ("money", EntityValue::Digits(digits)) => Some(digits.trim_start_matches('0').to_owned()),
            ("digits", EntityValue::Digits(digits) | EntityValue::Phone(digits)) => Some(digits),
            ("digits", EntityValue::Number(number)) => Some(format!("{number:.0}")),
            _ => None,
        })
        .collect();
    Ok(if found.is_empty() { None } else { Some(found.iter().any(|found| found == value)) })
}

/// Adds up rows of the same source and condition.
pub(crate) fn totals(rows: &[Row]) -> BTreeMap<(&'static str, String), (Score, Score)> {
    let mut totals: BTreeMap<(&'static str, String), (Score, Score)> = BTreeMap::new();
    for row in rows {
        let (free, weighed) = totals.entry((row.source, row.condition.clone())).or_default();
        for (total, score) in [(free, row.free), (weighed, row.weighed)] {
            total.right += score.right;
            total.nothing += score.nothing;
            total.all += score.all;
        }
    }
    totals
}
