//! The hearing half on real recordings, with the real models. Skipped with a line where they are
//! not installed; `TRUNKLINE_REQUIRE_MODELS=1` makes that a failure.

use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::testing::{Clip, clips, model_file};
use trunkline_speech::ear::{Ear, EarConfig, EarEvent};
use trunkline_speech::recognise::text::bare;
use trunkline_speech::recognise::{
    Job, Language, PoolConfig, RecognizeError, RecognizeOptions, Recognizer, RecognizerPool, Rejection,
    Utterance, Whisper, WhisperConfig,
};
use trunkline_speech::vad::SileroModel;

fn whisper() -> Option<Arc<Whisper>> {
    static WHISPER: OnceLock<Option<Arc<Whisper>>> = OnceLock::new();
    let load = || {
        let path = model_file("whisper-base-q8_0.bin")?;
        let config = WhisperConfig { states: 2, ..WhisperConfig::default() };
        Some(Arc::new(Whisper::load(&path, config).expect("the model loads")))
    };
    WHISPER.get_or_init(load).clone()
}

fn options(language: Language) -> RecognizeOptions {
    RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) }
}

fn some(kind: &'static str, language: &'static str, count: usize) -> Vec<Clip> {
    clips(|c| c.kind == kind && c.language == language).into_iter().flatten().take(count).collect()
}

/// What a call would recognise of a recording: the turns that the ear finds in it.
fn turns(silero: &SileroModel, pcm: &[i16]) -> Vec<Utterance> {
    let mut ear = Ear::new(Some(silero), EarConfig::default());
    let mut turns = Vec::new();
    let silence = vec![0; 16_000];
    for frame in [&silence, pcm, &silence].into_iter().flat_map(|part| part.chunks(160)) {
        ear.push(frame);
        while let Some(event) = ear.poll_event() {
            if matches!(event, EarEvent::TurnEnded { .. }) {
                turns.extend(ear.utterance());
            }
        }
    }
    turns
}

#[test]
fn sentences_over_the_telephone_are_understood_in_both_languages() {
    let Some(whisper) = whisper() else { return };
    for (set, language, most_wrong) in [("zh", Language::ZH, 0.5), ("en", Language::EN, 0.3)] {
        let (mut shared, mut all) = (0, 0);
        for clip in some("asr", set, 5) {
            let heard =
                whisper.recognize(&Utterance::from_telephone(&clip.telephone()), &options(language)).unwrap();
            assert_eq!(heard.rejected, None, "{} -> {}", clip.text, heard.raw);
            assert_eq!(heard.language, language);
            assert!(heard.confidence() > 0.2 && !heard.tokens.is_empty());
            // Units of the reference that were heard at all, which needs no alignment.
            let heard = bare(&heard.text);
            let units: Vec<String> = if language == Language::ZH {
                bare(&clip.text).chars().map(String::from).collect()
            } else {
                bare(&clip.text).split(' ').map(str::to_owned).collect()
            };
            all += units.len();
            shared += units.iter().filter(|unit| heard.contains(unit.as_str())).count();
        }
        assert!((all - shared) as f64 <= most_wrong * all as f64, "{set}: {shared} of {all}");
    }
}

#[test]
fn noise_and_tones_alone_give_no_text() {
    let (Some(whisper), Some(silero)) = (whisper(), model_file("silero-vad.onnx")) else { return };
    let silero = SileroModel::load(&silero).unwrap();
    let mut invented = Vec::new();
    for clip in clips(|c| c.kind == "noise" || c.kind == "tones").into_iter().flatten().step_by(2) {
        let mut pcm = clip.telephone();
        pcm.truncate(8 * 8_000);
        for (n, turn) in turns(&silero, &pcm).iter().enumerate() {
            let language = if n % 2 == 0 { Language::ZH } else { Language::EN };
            let heard = whisper.recognize(turn, &options(language)).unwrap();
            if !heard.text.is_empty() {
                invented.push(format!("{}: {}", clip.path, heard.text));
            }
        }
    }
    assert!(invented.is_empty(), "{invented:#?}");
}

#[test]
fn silence_and_scraps_are_answered_without_asking_the_engine() {
    let Some(whisper) = whisper() else { return };
    for samples in [vec![], vec![0.2; 100], vec![0.0; 32_000], vec![0.0002; 16_000]] {
        let heard = whisper.recognize(&Utterance::new(samples), &options(Language::EN)).unwrap();
        assert_eq!(heard.rejected, Some(Rejection::Silence));
        assert!(heard.took < Duration::from_millis(20) && heard.confidence() == 0.0);
    }
    let long = whisper.recognize(&Utterance::new(vec![0.1; 31 * 16_000]), &options(Language::EN));
    assert_eq!(long.unwrap_err(), RecognizeError::TooLong { got_ms: 31_000, max_ms: 30_000 });
}

#[test]
fn the_language_is_found_among_those_allowed() {
    let Some(whisper) = whisper() else { return };
    for (set, allowed, found) in [
        ("zh", vec![Language::EN, Language::ZH], Language::ZH),
        ("en", vec![Language::ZH, Language::EN], Language::EN),
    ] {
        for clip in some("asr", set, 2) {
            let options = RecognizeOptions { languages: allowed.clone(), ..options(Language::ZH) };
            let heard = whisper.recognize(&Utterance::from_telephone(&clip.telephone()), &options).unwrap();
            assert_eq!(heard.language, found, "{} -> {}", clip.text, heard.raw);
        }
    }
}

#[test]
fn cancelled_and_late_work_stops_and_leaves_the_engine_fit() {
    let Some(whisper) = whisper() else { return };
    let Some(clip) = some("asr", "zh", 1).pop() else { return };
    let audio = Utterance::from_telephone(&clip.telephone());
    let plain = whisper.recognize(&audio, &options(Language::ZH)).unwrap();

    let mut late = options(Language::ZH);
    late.deadline = Some(Instant::now() + plain.took / 4);
    assert_eq!(whisper.recognize(&audio, &late).unwrap_err(), RecognizeError::DeadlinePassed);

    let cancelled = options(Language::ZH);
    let token = cancelled.cancel.clone();
    let wait = plain.took / 4;
    let canceller = std::thread::spawn(move || {
        std::thread::sleep(wait);
        token.cancel();
    });
    assert_eq!(whisper.recognize(&audio, &cancelled).unwrap_err(), RecognizeError::Cancelled);
    canceller.join().unwrap();

    let again = whisper.recognize(&audio, &options(Language::ZH)).unwrap();
    assert_eq!(again.text, plain.text);
}

#[test]
fn calls_that_recognise_at_the_same_time_get_their_own_words() {
    let Some(whisper) = whisper() else { return };
    let chosen = some("asr", "zh", 4);
    let audio: Vec<Utterance> = chosen.iter().map(|c| Utterance::from_telephone(&c.telephone())).collect();
    let alone: Vec<String> =
        audio.iter().map(|a| whisper.recognize(a, &options(Language::ZH)).unwrap().text).collect();

    let pool = RecognizerPool::new(whisper, PoolConfig { workers: 2, ..PoolConfig::default() }).unwrap();
    let (told, ends) = mpsc::channel();
    for (n, audio) in audio.iter().enumerate() {
        let told = told.clone();
        let job =
            Job { audio: audio.clone(), options: options(Language::ZH), waiting_since: Some(Instant::now()) };
        pool.submit(job, move |done| told.send((n, done.result.unwrap().text)).unwrap()).unwrap();
    }
    for (n, text) in ends.iter().take(audio.len()) {
        assert_eq!(text, alone[n]);
    }
}

#[test]
fn what_was_written_of_the_beginning_changes_the_whole_by_little() {
    let Some(whisper) = whisper() else { return };
    let (mut different, mut all, mut drafts) = (0, 0, 0);
    let chosen = some("asr", "zh", 24).into_iter().filter(|clip| clip.telephone().len() > 3 * 8_000).take(6);
    for clip in chosen {
        let pcm = clip.telephone();
        let sound = |part: usize| Utterance::from_telephone(&pcm[..pcm.len() * part / 4]).of_turn(1);
        let begun = whisper.recognize(&sound(3), &options(Language::ZH)).unwrap();
        let plain = whisper.recognize(&sound(4), &options(Language::ZH)).unwrap();
        drafts += usize::from(begun.draft.is_some());
        let with_draft = RecognizeOptions { draft: begun.draft, ..options(Language::ZH) };
        let continued = whisper.recognize(&sound(4), &with_draft).unwrap();
        let (plain, continued) = (bare(&plain.text), bare(&continued.text));
        all += plain.chars().count();
        // Characters of the one that the other does not have at the same place, counted from both ends.
        let same = plain.chars().zip(continued.chars()).take_while(|(a, b)| a == b).count();
        let same_back = plain.chars().rev().zip(continued.chars().rev()).take_while(|(a, b)| a == b).count();
        different += plain.chars().count().saturating_sub(same + same_back);
    }
    println!("{different} of {all} characters differ");
    assert!(all == 0 || drafts >= 4, "{drafts} drafts");
    assert!(different * 5 <= all, "{different} of {all} characters differ");
}
