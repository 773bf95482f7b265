//! When the first sound of words comes that nobody has rendered: whole, by clauses, and behind a lead-in.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use trunkline_audio::Codec;
use trunkline_audio::channel::telephone_channel;
use trunkline_audio::level::active_dbfs;
use trunkline_speech::ort_rt::SessionSettings;
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer, Utterance};
use trunkline_speech::synth::{
    Kokoro, KokoroSettings, Locale, PromptStore, SpeechRequest, Synthesizer, pieces,
};

use super::barge_in::percentile;
use super::sound::RATE;
use super::words::Errors;

const VOICES: [(&str, Locale); 4] = [
    ("zf_xiaoxiao", Locale::ZhCn),
    ("zm_yunxi", Locale::ZhCn),
    ("af_heart", Locale::EnUs),
    ("am_michael", Locale::EnUs),
];

/// As a language model words it; the lead-in first.
const MANDARIN: (&str, [&str; 3]) = (
    "好的，",
    [
        "好的，您的情况我了解了，我会请负责的同事在今天下班以前给您回电话。",
        "我明白，这件事让您费心了，请您放心，我们会尽快处理。",
        "您说得对，上个月的费用确实多收了一次，下个月会退给您。",
    ],
);
const ENGLISH: (&str, [&str; 3]) = (
    "Sure.",
    [
        "Sure. I understand what happened, and I will ask a colleague to call you back before the end of the day.",
        "I see, that must have been annoying, and we will put it right as soon as we can.",
        "You are right, the fee was taken twice last month, and you will get it back with the next bill.",
    ],
);

/// Measures every voice and tells the table; returns it in a sentence.
///
/// # Errors
/// When the voices cannot be opened or a store made.
pub(crate) fn run(
    recognizer: &dyn Recognizer,
    dir: &Path,
    (only, count): (&str, usize),
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    tell(
        "\n## First sound of words that nobody rendered\n\nMilliseconds from the words to the first sample that can be \
         played, median and worst. Whole: the first sentence in one piece, as it was before. Clause: its first clause. \
         Lead-in: the clause is in the store. Longest silence between two clauses, beyond the pause of the mark, when \
         two are made at once. Levels: the most that two clauses of a text differ in, dB. Errors as recognised through \
         the telephone's channel, of all texts cut into clauses.\n\n\
         | voice | threads | whole | first clause | s of sound in it | lead-in | longest silence ms | levels dB | errors |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    );
    let mut best = f64::INFINITY;
    for threads in [1, 2] {
        let session = SessionSettings { intra_threads: threads, ..SessionSettings::default() };
        let kokoro =
            Kokoro::open(dir, KokoroSettings { session, sessions: 2 }).context("cannot open the voices")?;
        let kokoro: Arc<dyn Synthesizer> = Arc::new(kokoro);
        // The first run of each session sizes its buffers and is not counted.
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| kokoro.synthesize(&SpeechRequest::new("您好，请稍等。", Locale::ZhCn)));
            }
        });
        for (voice, locale) in VOICES.into_iter().filter(|(voice, _)| voice.contains(only)) {
            progress(&format!("{voice}, {threads} threads"));
            let first = one(recognizer, &kokoro, (voice, locale, threads), count, tell)?;
            best = best.min(first);
        }
    }
    progress("");
    Ok(format!(
        "First sound: {best:.0} ms for a clause that is made, none for a lead-in that was rendered ahead."
    ))
}

/// Measures one voice; returns the median of first clauses in ms.
fn one(
    recognizer: &dyn Recognizer,
    kokoro: &Arc<dyn Synthesizer>,
    (voice, locale, threads): (&str, Locale, usize),
    count: usize,
    tell: &mut dyn FnMut(&str),
) -> Result<f64> {
    let ((lead_in, texts), language) = match locale {
        Locale::ZhCn => (MANDARIN, Language::ZH),
        Locale::EnUs | Locale::EnGb => (ENGLISH, Language::EN),
    };
    let folder = std::env::temp_dir().join(format!("trunkctl-first-sound-{}", std::process::id()));
    let store = PromptStore::open(&folder, Arc::clone(kokoro), 1 << 24)?;
    let request = |text: &str| SpeechRequest::new(text, locale).with_voice(voice);
    let (mut whole, mut first, mut lengths, mut silence) = (vec![], vec![], vec![], 0.0f64);
    let (mut levels, mut errors) = (0.0f32, Errors::default());
    for text in texts.into_iter().take(count.clamp(1, 3)) {
        let began = Instant::now();
        kokoro.synthesize(&request(text))?;
        whole.push(ms(began.elapsed()));
        let row = by_clause(&store, &pieces(text, locale, true), &request)?;
        first.extend(row.first().map(|clause| ms(clause.ready)));
        lengths.extend(row.first().map(|clause| clause.samples.len() as f64 / f64::from(RATE)));
        silence = silence.max(longest_silence(&row));
        let loud: Vec<f32> = row.iter().filter_map(|clause| active_dbfs(&clause.samples, RATE)).collect();
        let (least, most) =
            loud.iter().fold((0.0f32, -100.0f32), |(a, b), level| (a.min(*level), b.max(*level)));
        levels = levels.max(most - least);
        let mut heard = Vec::new();
        for clause in &row {
            heard.extend_from_slice(&clause.samples);
            heard.extend(std::iter::repeat_n(0, clause.gap));
        }
        let audio = Utterance::from_telephone(&telephone_channel(&heard, Codec::Pcma));
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
        errors.add(text, &recognizer.recognize(&audio, &options)?.text, language);
    }
    store.get_or_render(&request(lead_in))?;
    let began = Instant::now();
    store.get_or_render(&request(lead_in))?;
    let ready = ms(began.elapsed());
    // Somebody else's wish would not be known to it: the folder is this run's own.
    std::fs::remove_dir_all(&folder).ok();
    let of = |values: &[f64], share| percentile(values, share).unwrap_or(f64::NAN);
    tell(&format!(
        "| {voice} | {threads} | {:.0}, {:.0} | {:.0}, {:.0} | {:.1} | {ready:.1} | {silence:.0} | {levels:.1} | {errors} |",
        of(&whole, 50),
        of(&whole, 100),
        of(&first, 50),
        of(&first, 100),
        of(&lengths, 50)
    ));
    Ok(of(&first, 50))
}

/// A clause, when it was ready, and the silence behind it.
struct Clause {
    samples: Arc<[i16]>,
    gap: usize,
    ready: Duration,
}

/// Makes the clauses as a box does: the first alone, then two at once.
fn by_clause(
    store: &PromptStore,
    pieces: &[trunkline_speech::synth::Piece],
    request: &(dyn Fn(&str) -> SpeechRequest + Sync),
) -> Result<Vec<Clause>> {
    let began = Instant::now();
    let make = |piece: &trunkline_speech::synth::Piece| -> Result<Clause> {
        let request = request(&piece.text);
        let prompt = store.get_or_render(&request)?;
        let gap = request.pause_ms(piece.pause_ms) as usize * RATE as usize / 1_000;
        Ok(Clause { samples: Arc::clone(&prompt.samples), gap, ready: began.elapsed() })
    };
    let Some((first, rest)) = pieces.split_first() else { return Ok(Vec::new()) };
    let mut row = vec![make(first)?];
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut made = std::thread::scope(|scope| {
        let lane = || {
            let mut made = Vec::new();
            loop {
                let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(piece) = rest.get(n) else { return made };
                made.push((n, make(piece)));
            }
        };
        let lanes = [scope.spawn(lane), scope.spawn(lane)];
        lanes.into_iter().flat_map(|lane| lane.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    made.sort_by_key(|(n, _)| *n);
    for (_, clause) in made {
        row.push(clause?);
    }
    Ok(row)
}

/// The longest wait for a clause after the one before it and its pause were over, in ms.
fn longest_silence(row: &[Clause]) -> f64 {
    let (mut plays_until, mut longest) = (0.0f64, 0.0f64);
    for (n, clause) in row.iter().enumerate() {
        let ready = ms(clause.ready);
        if n > 0 {
            longest = longest.max(ready - plays_until);
        }
        let length = (clause.samples.len() + clause.gap) as f64 * 1_000.0 / f64::from(RATE);
        plays_until = plays_until.max(ready) + length;
    }
    longest
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_what_lies_between_the_end_of_a_clause_and_the_next() {
        let clause = |ready_ms, length_ms: usize| Clause {
            samples: vec![0; length_ms * 8].into(),
            gap: 800,
            ready: Duration::from_millis(ready_ms),
        };
        let row = [clause(500, 400), clause(900, 1_000), clause(2_500, 100)];
        assert!((longest_silence(&row) - 400.0).abs() < 0.1, "{}", longest_silence(&row));
        assert_eq!(longest_silence(&row[..2]), 0.0);
    }
}
