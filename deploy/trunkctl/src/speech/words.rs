//! Error rates of free transcription on real recordings, by condition.

use std::time::Duration;

use anyhow::Result;
use trunkline_speech::recognise::text::bare;
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer, Utterance};

use super::carry::cpu_time;
use super::sound::{Clip, in_noise};

/// Recognises `count` recordings of each language under each condition and tells the rows.
pub(crate) fn run(
    recognizer: &dyn Recognizer,
    clips: &[Clip],
    noises: &[Vec<i16>],
    count: usize,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    tell(&format!(
        "\n## Free transcription\n\nReal recordings through the telephone, up to {count} of each set; errors in characters for Mandarin, in words for English.\n\n| set | condition | errors | emptied by guards | CPU s per s of sound |\n| --- | --- | ---: | ---: | ---: |"
    ));
    for set in ["zh", "en", "en-l2zh"] {
        let all: Vec<&Clip> = clips
            .iter()
            .filter(|clip| clip.kind == "asr" && clip.language == set && !clip.text.is_empty())
            .collect();
        let step = (all.len() / count.max(1)).max(1);
        let language = if set == "zh" { Language::ZH } else { Language::EN };
        for snr in [None, Some(20.0f32), Some(10.0), Some(5.0)] {
            let (mut wrong, mut units, mut emptied, mut clips) = (0, 0, 0, 0);
            let (mut cpu, mut length) = (Duration::ZERO, Duration::ZERO);
            for (seed, clip) in all.iter().step_by(step).take(count).enumerate() {
                let mut sound = clip.telephone()?;
                if let (Some(db), false) = (snr, noises.is_empty()) {
                    sound = in_noise(sound, &noises[seed % noises.len()], db, seed);
                }
                let audio = Utterance::from_telephone(&sound);
                let before = cpu_time();
                let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
                let found = recognizer.recognize(&audio, &options)?;
                cpu += cpu_time() - before;
                length += audio.duration();
                emptied += usize::from(found.rejected.is_some());
                let (errors, said) = errors(&clip.text, &found.text, language);
                (wrong, units, clips) = (wrong + errors, units + said, clips + 1);
            }
            if clips == 0 {
                continue;
            }
            tell(&format!(
                "| {set} | {} | {:.1} % | {emptied} of {clips} | {:.3} |",
                snr.map_or("telephone".to_owned(), |db| format!("telephone, {db} dB noise")),
                100.0 * wrong as f64 / units.max(1) as f64,
                cpu.as_secs_f64() / length.as_secs_f64().max(0.001)
            ));
        }
    }
    Ok(())
}

/// Edits between what was said and what was written, and how many units were said.
fn errors(said: &str, written: &str, language: Language) -> (usize, usize) {
    let units = |text: &str| -> Vec<String> {
        let text = bare(text);
        if language == Language::ZH {
            text.chars().filter(|c| !c.is_whitespace()).map(String::from).collect()
        } else {
            text.split_whitespace().map(str::to_owned).collect()
        }
    };
    let (said, written) = (units(said), units(written));
    let mut row: Vec<usize> = (0..=written.len()).collect();
    for (n, unit) in said.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], n + 1);
        for (m, other) in written.iter().enumerate() {
            let replaced = diagonal + usize::from(unit != other);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(row[m] + 1).min(diagonal + 1);
        }
    }
    (row[written.len()], said.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_in_the_units_of_the_language() {
        assert_eq!(errors("今天天气", "今天天汽", Language::ZH), (1, 4));
        assert_eq!(errors("the cat sat", "The cat, sat down.", Language::EN), (1, 3));
        assert_eq!(errors("", "x", Language::EN), (1, 0));
        assert_eq!(errors("a b c", "", Language::EN), (3, 3));
    }
}
