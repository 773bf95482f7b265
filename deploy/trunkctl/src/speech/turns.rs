//! Cut-offs against waiting: how often a turn would be ended in a pause of its own, and how long one waits
//! at its real end, if all waits were scaled by a factor.

use std::fmt::Write as _;

use anyhow::Result;
use trunkline_speech::ear::{Ear, EarConfig, EarEvent, Endpoint, NodeEar, Verdict, silence_needed};
use trunkline_speech::turn::EndOfTurn;
use trunkline_speech::vad::SileroModel;

use super::sound::{Clip, RATE};

/// Silence put behind a recording: longer than any wait.
const BEHIND: usize = 3 * RATE as usize;
const FACTORS: [f64; 8] = [0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5];

/// A pause, and what the sound said of it.
struct Pause {
    complete: f32,
    /// How long it lasted, in ms; `None` at the end of the recording.
    gap: Option<u32>,
}

/// Finds the pauses of each recording.
fn pauses(silero: &SileroModel, model: &EndOfTurn, clip: &Clip) -> Result<Vec<Pause>> {
    let mut sound = vec![0; RATE as usize / 2];
    sound.extend(clip.telephone()?);
    sound.extend(vec![0; BEHIND]);
    let mut ear = Ear::new(Some(silero), EarConfig::default());
    // Nothing ends the turn but what was put behind it: all pauses are seen.
    ear.configure(NodeEar { endpoint: Endpoint::Long, max_turn_ms: 28_000 });
    ear.set_eager(true);
    let (mut found, mut open) = (Vec::new(), None);
    for frame in sound.chunks(160) {
        ear.push(frame);
        while let Some(event) = ear.poll_event() {
            match event {
                EarEvent::PauseDetected { speech_end_ms, .. } => {
                    if let Some(audio) = ear.utterance() {
                        open = Some((speech_end_ms, model.complete_probability(&audio.samples)?));
                    }
                }
                EarEvent::SpeechResumed { at_ms, .. } => {
                    let gap = |end: u64| u32::try_from(at_ms.saturating_sub(end)).unwrap_or(u32::MAX);
                    found.extend(open.take().map(|(end, complete)| Pause { complete, gap: Some(gap(end)) }));
                }
                EarEvent::TurnEnded { .. } => {
                    found.extend(open.take().map(|(_, complete)| Pause { complete, gap: None }));
                }
                EarEvent::SpeechStarted { .. } | EarEvent::FalseStart { .. } => {}
            }
        }
    }
    Ok(found)
}

/// Measures the recordings whose language begins with `language` and tells the table.
pub(crate) fn run(
    silero: &SileroModel,
    model: &EndOfTurn,
    clips: &[Clip],
    language: &str,
    count: usize,
    tell: &mut dyn FnMut(&str),
) -> Result<()> {
    let of = |wanted: &dyn Fn(&Clip) -> bool| -> Result<Vec<Vec<Pause>>> {
        let chosen: Vec<&Clip> =
            clips.iter().filter(|c| c.language.starts_with(language) && wanted(c)).collect();
        let step = (chosen.len() / count.max(1)).max(1);
        chosen.into_iter().step_by(step).take(count).map(|clip| pauses(silero, model, clip)).collect()
    };
    let whole = of(&|c| c.kind == "asr" || c.path.contains("/complete/"))?;
    let cut = of(&|c| c.path.contains("/incomplete/"))?;
    let mut head = String::from("\n## Cut-offs against waiting\n\n");
    let _ = write!(
        head,
        "{} whole recordings ({language}) with their own pauses, and {} that a program cut in the middle, where a \
         pause of 500 ms is put. Waits of a node that expects a sentence and understood what it heard.\n\n\
         | all waits x | wait at the end, median ms | p95 ms | turns cut off in a pause of their own | cut recordings ended within 500 ms |\n\
         | ---: | ---: | ---: | ---: | ---: |",
        whole.len(),
        cut.len()
    );
    tell(&head);
    for factor in FACTORS {
        let wait = |pause: &Pause| {
            let verdict = Verdict { complete: Some(pause.complete), matched: Some(true) };
            f64::from(silence_needed(Endpoint::Normal, verdict, 0)) * factor
        };
        let cut_off = |turn: &&Vec<Pause>| {
            turn.iter().any(|pause| pause.gap.is_some_and(|gap| f64::from(gap) > wait(pause)))
        };
        let mut ends: Vec<f64> =
            whole.iter().flatten().filter(|pause| pause.gap.is_none()).map(&wait).collect();
        ends.sort_by(f64::total_cmp);
        let part = |share: usize| ends.get((ends.len() * share / 100).min(ends.len().saturating_sub(1)));
        let own = whole.iter().filter(cut_off).count();
        let early = cut
            .iter()
            .filter(|turn| turn.last().is_some_and(|pause| pause.gap.is_none() && wait(pause) < 500.0))
            .count();
        tell(&format!(
            "| {factor} | {:.0} | {:.0} | {own} of {} ({:.1} %) | {early} of {} ({:.0} %) |",
            part(50).copied().unwrap_or(f64::NAN),
            part(95).copied().unwrap_or(f64::NAN),
            whole.len(),
            100.0 * own as f64 / whole.len().max(1) as f64,
            cut.len(),
            100.0 * early as f64 / cut.len().max(1) as f64,
        ));
    }
    Ok(())
}
