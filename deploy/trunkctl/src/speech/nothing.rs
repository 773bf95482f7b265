//! What is no speech must give no text, and what is speech must not be lost for it.

use std::collections::BTreeMap;

use anyhow::Result;
use trunkline_audio::Codec;
use trunkline_audio::channel::{pink_noise, telephone_channel, white_noise};
use trunkline_audio::music::hold_music;
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer, Utterance};
use trunkline_speech::vad::SileroModel;

use super::sound::{self, Clip, RATE};

/// How long a piece of noise, tone or music is.
const PIECE: usize = 5 * RATE as usize;

/// Sound of one kind, in which there is nothing to hear.
struct Piece {
    kind: &'static str,
    name: String,
    pcm: Vec<i16>,
}

/// Makes `count` pieces: a third of them from recordings of noise, a quarter of tones, the rest made.
fn pieces(clips: &[Clip], count: usize) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for (kind, wanted) in [("noise", count * 45 / 100), ("tones", count * 26 / 100)] {
        let recorded: Vec<&Clip> = clips.iter().filter(|clip| clip.kind == kind).collect();
        let places = wanted.div_ceil(recorded.len().max(1)).max(2);
        let spread = (0..places).flat_map(|place| recorded.iter().map(move |clip| (place, *clip)));
        for (place, clip) in spread.take(wanted) {
            let kind = if kind == "noise" { "noise, recorded" } else { "tones and beeps" };
            let pcm = sound::cut(&clip.narrow()?, PIECE, place, places);
            pieces.push(Piece { kind, name: format!("{} {place}", clip.path), pcm });
        }
    }
    for n in 0..count.saturating_sub(pieces.len()) {
        let seed = n as u64 + 1;
        let level = [-20.0, -30.0, -45.0][n % 3];
        let (kind, pcm) = match n % 4 {
            0 => ("white and pink noise", white_noise(PIECE, level, seed)),
            1 => ("white and pink noise", pink_noise(PIECE, level, seed)),
            _ => ("music on hold, made", hold_music(2 * PIECE, level, seed)),
        };
        pieces.push(Piece { kind, name: format!("seed {seed}, {level} dBFS"), pcm });
    }
    Ok(pieces)
}

/// What came of the pieces of one kind.
#[derive(Default)]
struct Row {
    all: usize,
    /// The ear took something in it for a turn.
    turns: usize,
    /// And text came of it.
    text: usize,
    /// Text when the recogniser is given the whole, and no ear has listened.
    blind: usize,
}

/// Measures and tells both tables; returns them in a sentence.
pub(crate) fn run(
    recognizer: &dyn Recognizer,
    silero: &SileroModel,
    clips: &[Clip],
    (nothing, speech): (usize, usize),
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut examples = Vec::new();
    for (n, piece) in pieces(clips, nothing)?.into_iter().enumerate() {
        progress(&format!("no speech: {n} of {nothing}"));
        let language = if n % 2 == 0 { Language::ZH } else { Language::EN };
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
        let heard = telephone_channel(&piece.pcm, Codec::Pcma);
        let row = rows.entry(piece.kind).or_default();
        row.all += 1;
        let turns = sound::turns(silero, &heard);
        row.turns += usize::from(!turns.is_empty());
        let mut text = String::new();
        for turn in &turns {
            text.push_str(&recognizer.recognize(turn, &options)?.text);
        }
        if !text.is_empty() {
            row.text += 1;
            examples.push(format!("{} ({text})", piece.name));
        }
        let whole = Utterance::from_telephone(&heard);
        row.blind += usize::from(!recognizer.recognize(&whole, &options)?.text.is_empty());
    }
    tell(
        "\n## Nothing said, nothing heard\n\nPieces of five to ten seconds through the telephone. Text as a call \
         would have it: the turns that the ear finds, recognised and judged; beside it, what the recogniser's \
         guards let through when they are given the whole piece and no ear has listened.\n\n\
         | sound | pieces | taken for a turn | text | text without the ear |\n| --- | ---: | ---: | ---: | ---: |",
    );
    let mut total = Row::default();
    for (kind, row) in &rows {
        tell(&format!("| {kind} | {} | {} | {} | {} |", row.all, row.turns, row.text, row.blind));
        total.all += row.all;
        total.turns += row.turns;
        total.text += row.text;
        total.blind += row.blind;
    }
    tell(&format!("| **all** | {} | {} | **{}** | {} |", total.all, total.turns, total.text, total.blind));
    if !examples.is_empty() {
        tell(&format!("\nText came of: {}.", examples.join("; ")));
    }
    let lost = lost(recognizer, silero, clips, speech, progress, tell)?;
    Ok(format!("Invention: text from {} of {} pieces without speech; {lost}", total.text, total.all))
}

/// Real speech of which no text came.
fn lost(
    recognizer: &dyn Recognizer,
    silero: &SileroModel,
    clips: &[Clip],
    count: usize,
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    tell(
        "\n| real speech | recordings | not heard by the ear | emptied by the guards | lost |\n| --- | ---: | ---: | ---: | ---: |",
    );
    type Kind = (&'static str, fn(&Clip) -> bool, Language);
    let kinds: [Kind; 4] = [
        ("sentences, zh", |c| c.kind == "asr" && c.language == "zh", Language::ZH),
        ("sentences, en", |c| c.kind == "asr" && c.language == "en", Language::EN),
        ("sentences, en by Mandarin speakers", |c| c.kind == "asr" && c.language == "en-l2zh", Language::EN),
        ("prompts and orders, en", |c| matches!(c.kind.as_str(), "prompts" | "commands"), Language::EN),
    ];
    let (mut all_lost, mut all) = (0, 0);
    for (name, fits, language) in kinds {
        let chosen: Vec<&Clip> = clips.iter().filter(|clip| fits(clip)).collect();
        let step = (chosen.len() * 4 / count.max(1)).max(1);
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
        let (mut n, mut unheard, mut emptied) = (0, 0, 0);
        for clip in chosen.into_iter().step_by(step).take(count.div_ceil(4)) {
            progress(&format!("speech: {}", clip.path));
            n += 1;
            let mut pcm = clip.telephone()?;
            pcm.truncate(15 * RATE as usize);
            let turns = sound::turns(silero, &pcm);
            if turns.is_empty() {
                unheard += 1;
                continue;
            }
            let mut text = String::new();
            let mut why = None;
            for turn in &turns {
                let found = recognizer.recognize(turn, &options)?;
                text.push_str(&found.text);
                why = why.or(found.rejected.map(|reason| (reason, found.raw, found.avg_logprob)));
            }
            if text.is_empty() {
                emptied += 1;
                if std::env::var_os("SHOW").is_some() {
                    println!("  lost {} [{}]: {why:?}", clip.path, clip.text);
                }
            }
        }
        tell(&row(name, n, unheard, emptied));
        all_lost += unheard + emptied;
        all += n;
    }
    progress("");
    let share = 100.0 * all_lost as f64 / all.max(1) as f64;
    tell(&format!("| **all** | {all} | | | {all_lost} ({share:.1} %) |"));
    Ok(format!("{all_lost} of {all} real utterances lost."))
}

fn row(name: &str, all: usize, unheard: usize, emptied: usize) -> String {
    let lost = unheard + emptied;
    let share = 100.0 * lost as f64 / all.max(1) as f64;
    format!("| {name} | {all} | {unheard} | {emptied} | {lost} ({share:.1} %) |")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_recordings_the_pieces_are_made_and_all_differ() {
        let made = pieces(&[], 24).unwrap();
        assert_eq!(made.len(), 24);
        assert!(made.iter().any(|piece| piece.kind.starts_with("music")));
        for pair in made.windows(2) {
            assert_ne!(pair[0].pcm, pair[1].pcm);
        }
    }

    #[test]
    fn a_row_adds_up() {
        assert_eq!(row("x", 200, 1, 2), "| x | 200 | 1 | 2 | 3 (1.5 %) |");
    }
}
