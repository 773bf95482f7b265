//! How well the tone of voice is measured: pitch with and without the telephone, how much calm speakers vary, what
//! is done to sound by program and must show, and what it costs. There is no recording of an angry caller in it,
//! so how often anger is recognised is not among the figures.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use trunkline_audio::Codec;
use trunkline_audio::channel::telephone_channel;
use trunkline_audio::level::gain;
use trunkline_speech::prosody::{Prosody, Way};

use super::barge_in::percentile;
use super::carry::cpu_time;
use super::sound::{Clip, RATE};

/// Sentences of a speaker that are needed: two to become known by, one to be compared.
const LEAST: usize = 3;
/// Half a second between two sentences.
const GAP: [i16; RATE as usize / 2] = [0; RATE as usize / 2];
/// From here on a voice counts as excited (`Temper` in `shared/dialogue`).
const EXCITED: f32 = 0.5;

/// What is done to a sentence by program: louder by so many dB, higher and faster by factors.
struct Change {
    name: &'static str,
    db: f32,
    pitch: f32,
    pace: f32,
}

const CHANGES: [Change; 6] = [
    Change { name: "louder by 6 dB", db: 6.0, pitch: 1.0, pace: 1.0 },
    Change { name: "higher by 3 semitones", db: 0.0, pitch: 1.189, pace: 1.0 },
    Change { name: "faster by 30 %", db: 0.0, pitch: 1.0, pace: 1.3 },
    Change { name: "all three", db: 6.0, pitch: 1.189, pace: 1.3 },
    Change {
        name: "louder by 9 dB, higher by 5 semitones, faster by 30 %",
        db: 9.0,
        pitch: 1.335,
        pace: 1.3,
    },
    Change {
        name: "softer by 6 dB, lower by 3 semitones, slower by 23 %",
        db: -6.0,
        pitch: 0.841,
        pace: 0.77,
    },
];

/// A measure of a sentence, by name.
type Measure = (&'static str, fn(&Way) -> f32);

/// One call's listener, and where it stands.
#[derive(Default)]
struct Call {
    prosody: Prosody,
    at_ms: u64,
}

impl Call {
    /// Says a sentence; returns where it began and ended.
    fn say(&mut self, sound: &[i16]) -> (u64, u64) {
        let from = self.at_ms;
        self.prosody.push(sound);
        self.prosody.push(&GAP);
        let to = from + sound.len() as u64 * 1_000 / u64::from(RATE);
        self.at_ms += (sound.len() + GAP.len()) as u64 * 1_000 / u64::from(RATE);
        (from, to)
    }

    fn arousal(&mut self, sound: &[i16]) -> Option<f32> {
        let (from, to) = self.say(sound);
        Some(self.prosody.measure(from, to)?.against?.arousal)
    }

    fn learn(&mut self, sound: &[i16]) {
        let (from, to) = self.say(sound);
        self.prosody.learn(from, to);
    }
}

/// Measures all and tells the tables; returns it in a sentence.
///
/// # Errors
/// When a recording cannot be read, or no speaker has enough of them.
pub(crate) fn run(
    clips: &[Clip],
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    let mut speakers: BTreeMap<String, Vec<Vec<i16>>> = BTreeMap::new();
    for clip in clips {
        let whole =
            matches!(clip.kind.as_str(), "asr" | "turn" | "prompts") && !clip.path.contains("incomplete");
        if let Some(speaker) = clip.speaker.clone().filter(|_| whole) {
            progress(&clip.path);
            speakers.entry(speaker).or_default().push(clip.narrow()?);
        }
    }
    speakers.retain(|_, sentences| sentences.len() >= LEAST);
    progress("");
    if speakers.is_empty() {
        bail!("no speaker has {LEAST} recordings or more: name another folder with --data");
    }
    let count: usize = speakers.values().map(Vec::len).sum();
    tell(&format!(
        "\n## Tone of voice\n\n{count} real sentences of {} speakers, all of them read calmly. There is no emotional \
         speech among the recordings: **how often angry or calm callers are recognised was not measured.**",
        speakers.len()
    ));
    through_the_telephone(&speakers, tell);
    let alarms = calm(&speakers, tell);
    by_program(&speakers, tell);
    let share = cost(&speakers);
    tell(&format!("\nCost: {:.2} % of a core for each call, all of it while sound comes in.", share * 100.0));
    Ok(format!(
        "Tone of voice: {:.1} % of calm sentences taken for excited; recognition of anger not measured; {:.2} % of a \
         core a call.",
        alarms * 100.0,
        share * 100.0
    ))
}

fn telephone(sound: &[i16]) -> Vec<i16> {
    telephone_channel(sound, Codec::Pcma)
}

fn way(sound: &[i16]) -> Option<Way> {
    let mut call = Call::default();
    let (from, to) = call.say(sound);
    Some(call.prosody.measure(from, to)?.way)
}

/// The pitch of whole sentences, with the fundamental and without.
fn through_the_telephone(speakers: &BTreeMap<String, Vec<Vec<i16>>>, tell: &mut dyn FnMut(&str)) {
    let (mut off, mut lost) = (Vec::new(), 0);
    for sentence in speakers.values().flatten() {
        match (way(sentence), way(&telephone(sentence))) {
            (Some(whole), Some(band)) => off.push(f64::from((whole.pitch - band.pitch).abs())),
            (Some(_), None) => lost += 1,
            (None, _) => {}
        }
    }
    let wrong = off.iter().filter(|off| **off > 3.0).count();
    tell(&format!(
        "\nPitch of a sentence through the telephone (300 to 3400 Hz, A-law) against the same sentence with its \
         fundamental: {:.2} semitones off in the median, {:.2} at the 95th percentile; wrong by more than three in {wrong} \
         of {}, lost in {lost}.",
        percentile(&off, 50).unwrap_or(f64::NAN),
        percentile(&off, 95).unwrap_or(f64::NAN),
        off.len()
    ));
}

/// How much calm speakers vary, and how often they are taken for excited. Returns that share.
fn calm(speakers: &BTreeMap<String, Vec<Vec<i16>>>, tell: &mut dyn FnMut(&str)) -> f64 {
    let measures: [Measure; 4] = [
        ("pitch, semitones", |way| way.pitch),
        ("its range, semitones", |way| way.range),
        ("loudness, dB", |way| way.loudness),
        ("pace, nuclei a second", |way| way.pace),
    ];
    let ways: Vec<Vec<Way>> = speakers
        .values()
        .map(|sentences| sentences.iter().filter_map(|sentence| way(&telephone(sentence))).collect())
        .collect();
    tell("\n| calm speakers, sentence to sentence | standard deviation |\n| --- | ---: |");
    for (name, of) in measures {
        let (mut sum, mut free) = (0.0, 0.0);
        for ways in ways.iter().filter(|ways| ways.len() > 1) {
            let mean = ways.iter().map(of).sum::<f32>() / ways.len() as f32;
            sum += ways.iter().map(|way| (of(way) - mean).powi(2)).sum::<f32>();
            free += (ways.len() - 1) as f32;
        }
        tell(&format!("| {name} | {:.2} |", (sum / free.max(1.0)).sqrt()));
    }
    let mut found = Vec::new();
    for sentences in speakers.values() {
        let mut call = Call::default();
        for sentence in sentences {
            let sound = telephone(sentence);
            let (from, to) = call.say(&sound);
            let spoken = call.prosody.measure(from, to);
            found.extend(spoken.and_then(|spoken| spoken.against).map(|against| f64::from(against.arousal)));
            call.prosody.learn(from, to);
        }
    }
    let alarms = found.iter().filter(|arousal| **arousal >= f64::from(EXCITED)).count();
    tell(&format!(
        "\nA call of each, sentence by sentence: arousal {:.2} in the median, {:.2} at the 95th percentile; {alarms} of \
         {} taken for excited.",
        percentile(&found, 50).unwrap_or(f64::NAN),
        percentile(&found, 95).unwrap_or(f64::NAN),
        found.len()
    ));
    alarms as f64 / found.len().max(1) as f64
}

/// Sentences that a program made louder, higher and faster, after two of the same speaker as they are.
fn by_program(speakers: &BTreeMap<String, Vec<Vec<i16>>>, tell: &mut dyn FnMut(&str)) {
    tell(
        "\nSynthetic: real sentences changed by program, which is not what anger does to a voice.\n\n\
         | changed by program | sentences | arousal rose | mean change | taken for excited |\n\
         | --- | ---: | ---: | ---: | ---: |",
    );
    for change in &CHANGES {
        let pairs = pairs(speakers, &|sentence| {
            let mut changed = respeak(sentence, change.pitch, change.pace);
            gain(&mut changed, change.db);
            telephone(&changed)
        });
        let rose = pairs.iter().filter(|(plain, changed)| changed > plain).count();
        let excited = pairs.iter().filter(|(_, changed)| *changed >= EXCITED).count();
        let mean =
            pairs.iter().map(|(plain, changed)| changed - plain).sum::<f32>() / pairs.len().max(1) as f32;
        tell(&format!("| {} | {} | {rose} | {mean:+.2} | {excited} |", change.name, pairs.len()));
    }
    let soft = |sound: &[i16]| {
        let mut sound = sound.to_vec();
        gain(&mut sound, -12.0);
        telephone(&sound)
    };
    let mut off = Vec::new();
    for sentences in speakers.values() {
        let [mut plain, mut softer] = [Call::default(), Call::default()];
        for sentence in &sentences[..LEAST - 1] {
            plain.learn(&telephone(sentence));
            softer.learn(&soft(sentence));
        }
        for sentence in &sentences[LEAST - 1..] {
            let both = (plain.arousal(&telephone(sentence)), softer.arousal(&soft(sentence)));
            if let (Some(plain), Some(softer)) = both {
                off.push(f64::from((plain - softer).abs()));
            }
        }
    }
    tell(&format!(
        "\nA whole call that is 12 dB softer: arousal is {:.3} off in the median, {:.3} at the 95th percentile.",
        percentile(&off, 50).unwrap_or(f64::NAN),
        percentile(&off, 95).unwrap_or(f64::NAN)
    ));
}

/// The arousal of each sentence as it is, and changed.
fn pairs(speakers: &BTreeMap<String, Vec<Vec<i16>>>, change: &dyn Fn(&[i16]) -> Vec<i16>) -> Vec<(f32, f32)> {
    let mut pairs = Vec::new();
    for sentences in speakers.values() {
        let mut call = Call::default();
        for sentence in &sentences[..LEAST - 1] {
            call.learn(&telephone(sentence));
        }
        // A dozen of each, so that no speaker is all of it.
        for sentence in sentences[LEAST - 1..].iter().take(12) {
            let plain = call.arousal(&telephone(sentence));
            let changed = call.arousal(&change(sentence));
            pairs.extend(plain.zip(changed));
        }
    }
    pairs
}

/// The share of a core that one call takes.
fn cost(speakers: &BTreeMap<String, Vec<Vec<i16>>>) -> f64 {
    let mut call = Call::default();
    let (before, mut samples) = (cpu_time(), 0);
    for sentence in speakers.values().flatten() {
        sentence.chunks(160).for_each(|frame| call.prosody.push(frame));
        samples += sentence.len();
    }
    (cpu_time() - before).as_secs_f64() / (samples.max(1) as f64 / f64::from(RATE))
}

/// Raises pitch and pace by factors: played faster, then stretched.
fn respeak(sound: &[i16], pitch: f32, pace: f32) -> Vec<i16> {
    let at = |n: usize| sound.get(n).copied().map_or(0.0, f32::from);
    let faster: Vec<f32> = (0..(sound.len() as f32 / pitch) as usize)
        .map(|n| {
            let place = n as f32 * pitch;
            let (whole, part) = (place as usize, place.fract());
            at(whole) + part * (at(whole + 1) - at(whole))
        })
        .collect();
    stretch(&faster, pace / pitch).iter().map(|s| s.clamp(-32_767.0, 32_767.0) as i16).collect()
}

/// Plays sound at another pace and the same pitch: overlapping windows, each moved to where it fits the one before
/// best (WSOLA, Verhelst and Roelands 1993).
fn stretch(sound: &[f32], pace: f32) -> Vec<f32> {
    const WINDOW: usize = 320;
    const REACH: usize = 80;
    if (pace - 1.0).abs() < 0.001 {
        return sound.to_vec();
    }
    let window: Vec<f32> =
        (0..WINDOW).map(|n| 0.5 - 0.5 * (std::f32::consts::TAU * n as f32 / WINDOW as f32).cos()).collect();
    let mut out = vec![0.0; (sound.len() as f32 / pace) as usize];
    let mut follows: Option<usize> = None;
    for start in (0..out.len().saturating_sub(WINDOW)).step_by(WINDOW / 2) {
        let near = (start as f32 * pace) as usize;
        let last = sound.len().saturating_sub(WINDOW);
        let fit = |at: usize| -> f32 {
            let Some(natural) = follows.and_then(|at| sound.get(at..at + WINDOW)) else { return 0.0 };
            natural.iter().zip(&sound[at..]).step_by(2).map(|(a, b)| a * b).sum()
        };
        let range = near.saturating_sub(REACH).min(last)..=(near + REACH).min(last);
        let Some(best) = range.max_by(|a, b| fit(*a).total_cmp(&fit(*b))) else { break };
        for (n, weight) in window.iter().enumerate() {
            if let (Some(out), Some(sample)) = (out.get_mut(start + n), sound.get(best + n)) {
                *out += weight * sample;
            }
        }
        follows = Some(best + WINDOW / 2);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_is_made_higher_and_faster_as_said() {
        let tone: Vec<i16> = (0..16_000)
            .map(|n| ((n as f32 * 400.0 * std::f32::consts::TAU / RATE as f32).sin() * 8_000.0) as i16)
            .collect();
        for (pitch, pace) in [(1.0, 1.3), (1.189, 1.0), (0.841, 0.77)] {
            let changed = respeak(&tone, pitch, pace);
            let wanted = tone.len() as f32 / pace;
            assert!((changed.len() as f32 / wanted - 1.0).abs() < 0.05, "{} for {wanted}", changed.len());
            let middle = &changed[2_000..changed.len() - 2_000];
            let turns = middle.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
            let hz = turns as f32 * RATE as f32 / middle.len() as f32;
            assert!((hz / (400.0 * pitch) - 1.0).abs() < 0.04, "{hz} for {}", 400.0 * pitch);
        }
    }
}
