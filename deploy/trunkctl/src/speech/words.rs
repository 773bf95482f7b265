//! Error rates of free transcription on real recordings, by condition; beside another engine's, if there is
//! one.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use trunkline_speech::recognise::text::{bare, simplified};
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer, Utterance};
use trunkline_speech::synth::Locale;
use trunkline_speech::synth::text::written_out;

use super::carry::cpu_time;
use super::peer::Peer;
use super::sound::{Clip, in_noise};

/// Recordings of one set under one condition.
pub(crate) struct Case {
    pub(crate) set: &'static str,
    pub(crate) language: Language,
    pub(crate) condition: String,
    /// What is said, and the sound as the recogniser gets it.
    pub(crate) clips: Vec<(String, Utterance)>,
}

/// What an engine made of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) errors: Errors,
    pub(crate) emptied: usize,
    pub(crate) cpu: Duration,
}

/// Takes `count` recordings of each set through the telephone, in quiet and in noise of three strengths; only
/// the cases whose name holds `only`.
///
/// # Errors
/// When a recording cannot be read.
pub(crate) fn cases(clips: &[Clip], noises: &[Vec<i16>], count: usize, only: &str) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for set in ["zh", "en", "en-l2zh"] {
        let all: Vec<&Clip> = clips
            .iter()
            .filter(|clip| clip.kind == "asr" && clip.language == set && !clip.text.is_empty())
            .collect();
        let step = (all.len() / count.max(1)).max(1);
        for snr in [None, Some(20.0f32), Some(10.0), Some(5.0)] {
            let condition = snr.map_or("telephone".to_owned(), |db| format!("telephone, {db} dB noise"));
            if !format!("{set} {condition}").contains(only) {
                continue;
            }
            let mut chosen = Vec::new();
            for (seed, clip) in all.iter().step_by(step).take(count).enumerate() {
                let mut sound = clip.telephone()?;
                if let (Some(db), false) = (snr, noises.is_empty()) {
                    sound = in_noise(sound, &noises[seed % noises.len()], db, seed);
                }
                chosen.push((clip.text.clone(), Utterance::from_telephone(&sound)));
            }
            if !chosen.is_empty() {
                cases.push(Case {
                    set,
                    language: if set == "zh" { Language::ZH } else { Language::EN },
                    condition,
                    clips: chosen,
                });
            }
        }
    }
    Ok(cases)
}

impl Case {
    /// Length of all recordings, in seconds.
    fn seconds(&self) -> f64 {
        self.clips.iter().map(|(_, audio)| audio.duration().as_secs_f64()).sum::<f64>().max(0.001)
    }

    /// Lets the box's recogniser hear it.
    ///
    /// # Errors
    /// When the engine fails.
    pub(crate) fn heard_by(&self, recognizer: &dyn Recognizer) -> Result<Heard> {
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(self.language) };
        let mut heard = Heard::default();
        for (said, audio) in &self.clips {
            let before = cpu_time();
            let found = recognizer.recognize(audio, &options)?;
            heard.cpu += cpu_time() - before;
            heard.emptied += usize::from(found.rejected.is_some());
            if std::env::var_os("SHOW").is_some() {
                println!(
                    "  {} {said} -> {} [{}] {:?}",
                    self.condition, found.text, found.raw, found.rejected
                );
            }
            heard.errors.add(said, &found.text, self.language);
        }
        Ok(heard)
    }
}

/// Recognises every case and tells the rows; returns them in a sentence.
///
/// # Errors
/// When an engine fails or a recording cannot be read.
pub(crate) fn run(
    recognizer: &dyn Recognizer,
    cases: &[Case],
    count: usize,
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    tell(&format!(
        "\n## Free transcription\n\nReal recordings through the telephone, up to {count} of each set; errors in \
         characters for Mandarin, in words for English, numbers as said.\n\n\
         | set | condition | errors | emptied by guards | CPU s per s of sound |\n| --- | --- | ---: | ---: | ---: |"
    ));
    let mut said = Vec::new();
    for case in cases {
        progress(&format!("{} {}", case.set, case.condition));
        let heard = case.heard_by(recognizer)?;
        progress("");
        tell(&format!(
            "| {} | {} | {} | {} of {} | {:.3} |",
            case.set,
            case.condition,
            heard.errors,
            heard.emptied,
            case.clips.len(),
            heard.cpu.as_secs_f64() / case.seconds()
        ));
        if case.condition == "telephone" {
            said.push(format!("{} {}", case.set, heard.errors));
        }
    }
    Ok(format!("Errors of free transcription on the telephone: {}.", said.join(", ")))
}

/// The same sound, heard by the box and by another engine; tells the rows and returns a sentence.
///
/// # Errors
/// When an engine fails or a recording cannot be read.
pub(crate) fn beside(
    recognizer: &dyn Recognizer,
    peer: &Peer,
    cases: &[Case],
    count: usize,
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    tell(&format!(
        "\n## Beside {}\n\nThe very same samples, up to {count} recordings of each set, one thread for each engine; \
         errors in characters for Mandarin, in words for English, simplified characters and numbers as said for \
         both. CPU s for each second of sound.\n\n\
         | set | condition | recordings | here | emptied by guards | CPU | {} | CPU | errors, here to there |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        peer.name(),
        peer.name()
    ));
    let mut session = peer.start(1)?;
    let mut said = Vec::new();
    for case in cases {
        progress(&format!("{} {}", case.set, case.condition));
        let ours = case.heard_by(recognizer)?;
        let theirs = session.hear(case)?;
        progress("");
        let ratio = ours.errors.rate() / theirs.errors.rate().max(1e-9);
        tell(&format!(
            "| {} | {} | {} | {} | {} | {:.3} | {} | {:.3} | {ratio:.2} |",
            case.set,
            case.condition,
            case.clips.len(),
            ours.errors,
            ours.emptied,
            ours.cpu.as_secs_f64() / case.seconds(),
            theirs.errors,
            theirs.cpu.as_secs_f64() / case.seconds(),
        ));
        if case.condition == "telephone" {
            said.push(format!("{} {} against {}", case.set, ours.errors, theirs.errors));
        }
    }
    Ok(format!("Beside {} on the telephone: {}.", peer.name(), said.join(", ")))
}

/// Edits between what was said and what was written, and how many units were said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Errors {
    wrong: usize,
    units: usize,
}

impl Errors {
    /// Counts one text: characters of Mandarin, words of everything else, numbers as they are said.
    pub(crate) fn add(&mut self, said: &str, written: &str, language: Language) {
        let (said, written) = (units(said, language), units(written, language));
        self.wrong += edits(&said, &written);
        self.units += said.len();
    }

    /// Returns the errors for each unit that was said.
    pub(crate) fn rate(self) -> f64 {
        self.wrong as f64 / self.units.max(1) as f64
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} %", 100.0 * self.rate())
    }
}

fn units(text: &str, language: Language) -> Vec<String> {
    if language == Language::ZH {
        let text = bare(&written_out(&simplified(text), Locale::ZhCn));
        text.chars().filter(|c| !c.is_whitespace()).map(String::from).collect()
    } else {
        let text = bare(&written_out(text, Locale::EnUs));
        text.split_whitespace().map(str::to_owned).collect()
    }
}

fn edits(said: &[String], written: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (n, unit) in said.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], n + 1);
        for (m, other) in written.iter().enumerate() {
            let replaced = diagonal + usize::from(unit != other);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[written.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(said: &str, written: &str, language: Language) -> (usize, usize) {
        let mut errors = Errors::default();
        errors.add(said, written, language);
        (errors.wrong, errors.units)
    }

    #[test]
    fn errors_are_counted_in_the_units_of_the_language() {
        assert_eq!(errors("今天天气", "今天天汽", Language::ZH), (1, 4));
        assert_eq!(errors("the cat sat", "The cat, sat down.", Language::EN), (1, 3));
        assert_eq!(errors("", "x", Language::EN), (1, 0));
        assert_eq!(errors("a b c", "", Language::EN), (3, 3));
    }

    #[test]
    fn how_a_number_or_a_character_is_written_is_no_error() {
        assert_eq!(errors("一共二十三个", "一共23個", Language::ZH).0, 0);
        assert_eq!(errors("twenty three people", "23 people", Language::EN).0, 0);
    }

    #[test]
    fn rates_add_up_over_texts() {
        let mut all = Errors::default();
        all.add("a b c d", "a b c x", Language::EN);
        all.add("a b c d", "a b c d", Language::EN);
        assert_eq!(all.to_string(), "12.5 %");
    }
}
