//! The engine over ONNX Runtime, from samples to text, with tiny models of each family that are made
//! here ([`tiny`]): tones are their words.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::tiny::{Kind, Onnx, Size, sound};
use trunkline_speech::recognise::{
    Job, Language, Lexicon, OnnxConfig, OnnxError, OnnxFiles, OnnxRecognizer, PoolConfig, RecognizeError,
    RecognizeOptions, Recognizer, RecognizerPool, Rejection, Transcript, Utterance,
};

fn files(dir: &Path, family: &str) -> OnnxFiles {
    let mut paths = crate::tiny::write(dir, family).into_iter();
    let mut next = || paths.next().unwrap();
    match family {
        "transducer" => {
            OnnxFiles::Transducer { encoder: next(), decoder: next(), joiner: next(), tokens: next() }
        }
        "paraformer" => OnnxFiles::Paraformer { model: next(), tokens: next() },
        _ => OnnxFiles::Ctc { model: next(), tokens: next() },
    }
}

fn load(family: &str) -> (tempfile::TempDir, OnnxRecognizer) {
    let dir = tempfile::tempdir().unwrap();
    let recognizer = OnnxRecognizer::load(&files(dir.path(), family), OnnxConfig::default()).unwrap();
    (dir, recognizer)
}

fn heard(tones: &[Option<usize>]) -> Utterance {
    let samples = sound(tones, 300);
    Utterance::new(samples).with_voiced(Duration::from_millis(600))
}

fn hear(recognizer: &OnnxRecognizer, tones: &[Option<usize>], options: &RecognizeOptions) -> Transcript {
    recognizer.recognize(&heard(tones), options).unwrap()
}

fn text(recognizer: &OnnxRecognizer, tones: &[Option<usize>], language: Language) -> String {
    hear(recognizer, tones, &RecognizeOptions::new(language)).text
}

#[test]
fn a_ctc_model_writes_what_the_tones_say() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let (_dir, model) = load("ctc");
    assert_eq!(model.family(), "CTC");
    assert_eq!(text(&model, &[None, Some(0), None], Language::EN), "yes");
    assert_eq!(text(&model, &[Some(1), Some(2), None], Language::EN), "nobody");
    assert_eq!(text(&model, &[None, Some(3), Some(1), Some(0)], Language::EN), "may no yes");
    // The same tone again is a second word only after a pause: what CTC's blank is for.
    assert_eq!(text(&model, &[Some(1), Some(1)], Language::EN), "no");
    assert_eq!(text(&model, &[Some(1), None, Some(1)], Language::EN), "no no");
    let sure = hear(&model, &[None, Some(3), None], &RecognizeOptions::new(Language::EN));
    assert!(sure.avg_logprob > -0.1 && sure.avg_logprob <= 0.0, "{sure:?}");
    assert_eq!(sure.tokens.len(), 1);
    assert!(sure.end_logprob > -0.1 && sure.rejected.is_none() && sure.took > Duration::ZERO);
}

#[test]
fn sense_voice_is_told_the_language_or_tells_it_and_its_marks_are_no_text() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let (_dir, model) = load("sense_voice");
    assert_eq!(model.family(), "SenseVoice");
    let tones = [None, Some(0), None, Some(1), None];
    assert_eq!(text(&model, &tones, Language::ZH), "好的");
    let found = hear(&model, &[None, Some(2), None], &RecognizeOptions::new(Language::EN));
    assert_eq!((found.text.as_str(), found.language), ("yes", Language::EN));
    assert!(!found.raw.contains('<'), "{}", found.raw);
    // Asked for either, it says which (the tiny model always finds English).
    let either = RecognizeOptions {
        languages: vec![Language::ZH, Language::EN],
        ..RecognizeOptions::new(Language::ZH)
    };
    assert_eq!(hear(&model, &[None, Some(2), None], &either).language, Language::EN);
    // A model that doubts that anybody spoke is believed only when it is sure of its text.
    let yue = Language::from_tag("yue").unwrap();
    let doubted = hear(&model, &[None, Some(0), None], &RecognizeOptions::new(yue));
    assert!(doubted.no_speech_prob > 0.9, "{doubted:?}");
}

#[test]
fn paraformer_writes_a_piece_for_each_step_up_to_its_end() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let (_dir, model) = load("paraformer");
    assert_eq!(model.family(), "Paraformer");
    assert_eq!(text(&model, &[Some(0), Some(3), None], Language::ZH), "好的");
    assert_eq!(text(&model, &[Some(1), Some(2), None, None], Language::EN), "yes");
    // What lies behind the end is not read.
    assert_eq!(text(&model, &[Some(0), None, Some(3)], Language::ZH), "好");
}

#[test]
fn a_transducer_asks_its_decoder_and_joiner_step_by_step() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let (_dir, model) = load("transducer");
    assert_eq!(model.family(), "transducer");
    assert_eq!(text(&model, &[None, Some(0), None], Language::EN), "yes");
    assert_eq!(text(&model, &[Some(1), Some(2), Some(0)], Language::EN), "nobody yes");
    // The decoder keeps what was written last from being written again, and `<unk>` is no text.
    assert_eq!(text(&model, &[Some(1), Some(1), Some(3)], Language::EN), "no");
}

#[test]
fn silence_and_noise_without_a_voice_give_no_text() {
    if !crate::tiny::has_runtime() {
        return;
    }
    for family in ["ctc", "sense_voice", "paraformer", "transducer"] {
        let (_dir, model) = load(family);
        let options = RecognizeOptions::new(Language::EN);
        let silence = model.recognize(&Utterance::new(vec![0.0; 16_000]), &options).unwrap();
        assert_eq!(silence.rejected, Some(Rejection::Silence), "{family}");
        let click = model.recognize(&Utterance::new(vec![0.3; 1_000]), &options).unwrap();
        assert_eq!(click.rejected, Some(Rejection::Silence), "{family}");
        let hum: Vec<f32> = (0..16_000).map(|n| (n as f32 * 0.02).sin() * 0.01).collect();
        let hum = model.recognize(&Utterance::new(hum), &options).unwrap();
        assert_eq!(hum.text, "", "{family}");
        // A tone that the voice activity detector took for no voice.
        let beep = heard(&[Some(0), None]).with_voiced(Duration::ZERO);
        let beep = model.recognize(&beep, &options).unwrap();
        assert_eq!((beep.text.as_str(), beep.rejected), ("", Some(Rejection::NotVoiced)), "{family}");
    }
}

/// Two short tones at once, the second this much louder: the model is torn between their words.
fn between(first: usize, second: usize, louder: f32) -> Utterance {
    let tone = |tone| {
        let pause = [None; 8];
        sound(&[&pause[..], &[Some(tone)], &pause].concat(), 40)
    };
    let mixed: Vec<f32> =
        tone(first).iter().zip(&tone(second)).map(|(a, b)| 0.5 * a + 0.5 * b * louder).collect();
    Utterance::new(mixed).with_voiced(Duration::from_millis(300))
}

/// The same, with the second tone as loud as it must be to win by little: found by trying.
fn close_race(model: &OnnxRecognizer, first: usize, second: usize) -> Utterance {
    let options = RecognizeOptions::new(Language::EN);
    let alone = text(model, &[None, Some(second), None], Language::EN);
    (0..200)
        .map(|step| between(first, second, 0.1 * 1.03f32.powi(step)))
        .find(|audio| model.recognize(audio, &options).unwrap().raw == alone)
        .unwrap()
}

#[test]
fn an_expected_answer_is_weighed_against_the_sound() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let (_dir, model) = load("ctc");
    let audio = close_race(&model, 0, 3);
    let free = model.recognize(&audio, &RecognizeOptions::new(Language::EN)).unwrap();
    assert_eq!(free.text, "may");
    let phrases: Arc<[String]> = Arc::from(["yes".to_owned(), "no".to_owned()]);
    let closed = RecognizeOptions { phrases, ..RecognizeOptions::new(Language::EN) };
    let weighed = model.recognize(&audio, &closed).unwrap();
    let choice = weighed.choice.as_ref().unwrap();
    assert_eq!((weighed.text.as_str(), choice.phrase.as_str()), ("yes", "yes"));
    assert!(choice.margin > 1.0 && choice.logprob < 0.0, "{choice:?}");
    // Where the sound is clear, no expectation turns it round.
    let clear = hear(&model, &[None, Some(3), None], &closed);
    assert_eq!(clear.text, "may");
}

#[test]
fn expected_words_are_found_by_the_beam_and_numbers_where_they_are_asked_for() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let (_dir, model) = load("ctc");
    let audio = close_race(&model, 0, 3);
    let hinted = RecognizeOptions { hints: vec!["yes".to_owned()], ..RecognizeOptions::new(Language::EN) };
    assert_eq!(model.recognize(&audio, &hinted).unwrap().text, "yes");
    assert_eq!(hear(&model, &[None, Some(3), None], &hinted).text, "may");

    // A table in which the first tone is a digit and the fourth a word that sounds like it.
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "ctc");
    let OnnxFiles::Ctc { tokens, .. } = &files else { panic!("a CTC model") };
    std::fs::write(tokens, "<blk> 0\n\u{2581}four 1\n\u{2581}no 2\nbody 3\n\u{2581}for 4\n").unwrap();
    let model = OnnxRecognizer::load(&files, OnnxConfig::default()).unwrap();
    let digits = RecognizeOptions { lexicon: Some(Lexicon::Digits), ..RecognizeOptions::new(Language::EN) };
    assert_eq!(model.recognize(&audio, &RecognizeOptions::new(Language::EN)).unwrap().text, "for");
    assert_eq!(model.recognize(&audio, &digits).unwrap().text, "four");
    assert_eq!(hear(&model, &[None, Some(1), None], &digits).text, "no", "that was no digit");
}

#[test]
fn a_deadline_and_a_cancellation_are_obeyed_and_too_much_is_refused() {
    if !crate::tiny::has_runtime() {
        return;
    }
    for family in ["ctc", "sense_voice", "paraformer", "transducer"] {
        let (_dir, model) = load(family);
        let audio = heard(&[Some(0), None]);
        let late = RecognizeOptions { deadline: Some(Instant::now()), ..RecognizeOptions::new(Language::EN) };
        assert_eq!(model.recognize(&audio, &late).unwrap_err(), RecognizeError::DeadlinePassed);
        let gone = RecognizeOptions::new(Language::EN);
        gone.cancel.cancel();
        assert_eq!(model.recognize(&audio, &gone).unwrap_err(), RecognizeError::Cancelled);
        let long = Utterance::new(vec![0.1; 16_000 * 31]);
        let refused = model.recognize(&long, &RecognizeOptions::new(Language::EN)).unwrap_err();
        assert!(matches!(refused, RecognizeError::TooLong { got_ms: 31_000, max_ms: 30_000 }), "{refused}");
    }
}

#[test]
fn a_language_that_the_model_does_not_know_is_refused() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = OnnxConfig { languages: vec![Language::ZH, Language::EN], ..OnnxConfig::default() };
    let model = OnnxRecognizer::load(&files(dir.path(), "sense_voice"), config).unwrap();
    let german = RecognizeOptions::new(Language::from_tag("de").unwrap());
    let error = model.recognize(&heard(&[Some(0)]), &german).unwrap_err().to_string();
    assert!(error.contains("zh, en") && error.contains("de"), "{error}");
}

fn refused(files: &OnnxFiles) -> String {
    let error: OnnxError = OnnxRecognizer::load(files, OnnxConfig::default()).err().unwrap();
    format!("{:#}", anyhow_like(&error))
}

/// An error with its causes, as a log shows it.
fn anyhow_like(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn a_wrong_model_is_refused_with_what_was_expected_and_found() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ctc = files(dir.path(), "ctc");
    let OnnxFiles::Ctc { model, tokens } = ctc.clone() else { panic!("a CTC model") };
    let error = |model: &Onnx| {
        let path = model.write(&dir.path().join("other.onnx"));
        refused(&OnnxFiles::Ctc { model: path, tokens: tokens.clone() })
    };

    // A network that is something else: inputs and outputs are named.
    let strange = Onnx::default()
        .input("picture", Kind::Float, &[Size::Any("N"), Size::Is(3), Size::Is(224), Size::Is(224)])
        .node("Identity", &["picture"], "kind", &[])
        .output("kind", Kind::Float, &[Size::Any("N"), Size::Is(3), Size::Is(224), Size::Is(224)]);
    let text = error(&strange);
    for part in ["other.onnx", "features (float32, 3 dimensions", "picture", "224", "kind"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A streaming export, by what it says of itself and by its many inputs.
    let text = error(&crate::tiny::ctc().meta("decode_chunk_len", "32"));
    assert!(text.contains("streaming"), "{text}");
    let caches = (0..4).fold(crate::tiny::ctc(), |model, n| {
        let name = format!("cache_{n}");
        model.input(&name, Kind::Float, &[Size::Any("N"), Size::Is(1)])
    });
    let text = error(&caches);
    assert!(text.contains("cache_0") && text.contains("streaming"), "{text}");
    // NeMo's.
    let text = error(&crate::tiny::ctc().without_meta("model_type").meta("model_type", "EncDecCTCModelBPE"));
    assert!(text.contains("EncDecCTCModelBPE") && text.contains("features"), "{text}");
    // Metadata that are missing or make no sense.
    let text = error(&crate::tiny::sense_voice().without_meta("neg_mean"));
    assert!(text.contains("neg_mean") && text.contains("sherpa-onnx"), "{text}");
    let text = error(&crate::tiny::sense_voice().without_meta("inv_stddev").meta("inv_stddev", "1,2,3"));
    assert!(text.contains("3 numbers") && text.contains("560"), "{text}");
    let text =
        error(&crate::tiny::sense_voice().without_meta("lfr_window_size").meta("lfr_window_size", "many"));
    assert!(text.contains("lfr_window_size") && text.contains("many"), "{text}");
    // A table of another model.
    std::fs::write(dir.path().join("short.txt"), "<blk> 0\na 1\n").unwrap();
    let text = refused(&OnnxFiles::Ctc { model: model.clone(), tokens: dir.path().join("short.txt") });
    assert!(text.contains("5 pieces") && text.contains("has 2"), "{text}");
    // No table, no model, and half a model.
    let text = refused(&OnnxFiles::Ctc { model: model.clone(), tokens: dir.path().join("none.txt") });
    assert!(text.contains("none.txt"), "{text}");
    let text = refused(&OnnxFiles::Ctc { model: dir.path().join("none.onnx"), tokens: tokens.clone() });
    assert!(text.contains("none.onnx"), "{text}");
    let whole = std::fs::read(&model).unwrap();
    std::fs::write(dir.path().join("half.onnx"), &whole[..whole.len() / 2]).unwrap();
    let text = refused(&OnnxFiles::Ctc { model: dir.path().join("half.onnx"), tokens: tokens.clone() });
    assert!(text.contains("half.onnx"), "{text}");
    // A model of one family taken for another.
    let text = refused(&OnnxFiles::Paraformer { model: model.clone(), tokens: tokens.clone() });
    assert!(text.contains("lfr_window_size"), "{text}");
    let text = refused(&OnnxFiles::Transducer {
        encoder: model.clone(),
        decoder: model.clone(),
        joiner: model,
        tokens,
    });
    assert!(text.contains("context_size"), "{text}");
}

#[test]
fn where_further_sessions_cannot_be_made_the_pool_goes_on_with_those_it_has() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = files(dir.path(), "ctc");
    let config = OnnxConfig { states: 3, ..OnnxConfig::default() };
    let model = Arc::new(OnnxRecognizer::load(&paths, config).unwrap());
    assert_eq!(model.at_once(), 3);
    // The disk with the weights is gone: a second session is refused by the runtime itself.
    let OnnxFiles::Ctc { model: weights, .. } = &paths else { panic!("a CTC model") };
    std::fs::remove_file(weights).unwrap();
    let pool = RecognizerPool::new(model.clone(), PoolConfig { workers: 3, queue: 64, threads: 1 }).unwrap();
    assert_eq!(pool.stats().workers, 3);

    // The networks are so small that two utterances are seldom in them at the same time.
    let started = Instant::now();
    let mut done = 0;
    while model.at_once() > 1 && started.elapsed() < Duration::from_secs(60) {
        let (told, ends) = std::sync::mpsc::channel();
        for n in 0..24 {
            let told = told.clone();
            let mut tones = vec![Some(n % 2)];
            tones.extend([None; 60]);
            let job = Job {
                audio: heard(&tones),
                options: RecognizeOptions::new(Language::EN),
                waiting_since: Some(Instant::now()),
            };
            pool.submit(job, move |done| told.send((n, done.result)).unwrap()).unwrap();
        }
        for (n, result) in ends.iter().take(24) {
            assert_eq!(result.unwrap().text, if n % 2 == 0 { "yes" } else { "no" });
        }
        done += 24;
    }
    assert_eq!(model.at_once(), 1);
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.done, stats.failed), (1, done, 0), "admission counts with one");
    assert!(stats.expected_wait() <= stats.mean_run);
}

#[test]
fn where_memory_must_stay_free_no_further_session_is_made() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = OnnxConfig { states: 2, keep_free: u64::MAX / 2, ..OnnxConfig::default() };
    let model = Arc::new(OnnxRecognizer::load(&files(dir.path(), "ctc"), config).unwrap());
    let mut tones = vec![Some(0)];
    tones.extend([None; 80]);
    let audio = heard(&tones);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while model.at_once() > 1 && started.elapsed() < Duration::from_secs(60) {
                    let found = model.recognize(&audio, &RecognizeOptions::new(Language::EN)).unwrap();
                    assert_eq!(found.text, "yes");
                }
            });
        }
    });
    assert_eq!(model.at_once(), 1, "a second one was wanted and not made");
}
