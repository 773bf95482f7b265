//! Measures the hearing half on real recordings and prints tables.
//!
//! `cargo run -p trunkline-speech --example hear_bench -- [cost] [words] [digits] [noise] [vad] [turn] [ear] [sweep] [pauses]`
//! runs the named parts, or all but the sweep over margins and the table of pauses. `COUNT=30` sets how many recordings of each kind, `SET=zh` one set of recordings,
//! `MODEL=file` another whisper model, `TRUNKLINE_DATA` where the recordings are. CPU time is that of all threads, so a busy
//! machine does not change it much.

// The tests' own reader of recordings.
#[path = "../src/recognise/testing.rs"]
mod testing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use testing::{Clip, clips, model_file, through_telephone};
use trunkline_speech::ear::{Ear, EarConfig, EarEvent, NodeEar};
use trunkline_speech::recognise::text::bare;
use trunkline_speech::recognise::{
    AudioContext, Language, RecognizeOptions, Recognizer, Rejection, Utterance, Whisper, WhisperConfig,
};
use trunkline_speech::turn::EndOfTurn;
use trunkline_speech::vad::{DetectorConfig, SileroModel, SileroVad, SpeechDetector};

fn main() {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |part: &str| named.is_empty() || named.iter().any(|name| name == part);
    let count = std::env::var("COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    if wanted("vad") {
        vad(count);
    }
    if wanted("turn") {
        turn(count);
    }
    if wanted("ear") {
        ear(count);
    }
    let model = std::env::var("MODEL").unwrap_or_else(|_| "whisper-base-q8_0.bin".to_owned());
    if !(wanted("cost")
        || wanted("words")
        || wanted("noise")
        || wanted("digits")
        || wanted("sweep")
        || wanted("pauses"))
    {
        return;
    }
    let Some(path) = model_file(&model) else { return };
    let started = Instant::now();
    let whisper = Whisper::load(&path, WhisperConfig { states: 1, ..WhisperConfig::default() })
        .expect("the model loads");
    println!(
        "\n{model}: loaded and warmed up in {} ms, {} MB resident",
        started.elapsed().as_millis(),
        resident_mb()
    );
    if wanted("cost") {
        cost(&whisper);
    }
    if wanted("words") {
        words(&whisper, count);
    }
    if named.iter().any(|name| name == "sweep") {
        sweep(&whisper, count);
    }
    if named.iter().any(|name| name == "pauses") {
        pauses(&whisper);
    }
    if wanted("digits") {
        digits(&whisper, count);
    }
    if wanted("noise") {
        noise(&whisper, count);
    }
    println!("{} MB resident at the end", resident_mb());
}

/// CPU and wall time by length, threads and context.
fn cost(whisper: &Whisper) {
    let Some(mut long) = clips(|c| c.kind == "asr" && c.language == "zh") else { return };
    let Some(clip) = long.find(|c| c.telephone().len() > 8 * 8_000) else { return };
    let pcm = clip.telephone();
    println!(
        "\nOne utterance, ms (CPU / wall)\n| length | 1 thread | 2 threads | 1 thread, full window |\n| ---: | ---: | ---: | ---: |"
    );
    for seconds in [0.6, 1.0, 2.0, 4.0, 8.0] {
        let audio = Utterance::from_telephone(&pcm[..(seconds * 8_000.0) as usize]);
        let run = |threads, context, times| {
            let options = RecognizeOptions { threads, context, ..RecognizeOptions::new(Language::ZH) };
            let (mut cpu, mut wall) = (Duration::MAX, Duration::MAX);
            for _ in 0..times {
                let (c, w) = timed(|| whisper.recognize(&audio, &options).expect("recognises"));
                cpu = cpu.min(c);
                wall = wall.min(w);
            }
            format!("{} / {}", cpu.as_millis(), wall.as_millis())
        };
        let fit = AudioContext::Fit { margin: 100 };
        println!(
            "| {seconds} s | {} | {} | {} |",
            run(1, fit, 3),
            run(2, fit, 3),
            run(1, AudioContext::Full, 1)
        );
    }
}

/// Error rates through the telephone, by condition and setting.
fn words(whisper: &Whisper, count: usize) {
    println!("\nErrors through the telephone (zh: characters, en: words), {count} recordings each");
    println!(
        "| set | noise | setting | errors | lost by guards | CPU s per s of sound |\n| --- | --- | --- | ---: | ---: | ---: |"
    );
    let noises: Vec<Clip> = clips(|c| c.kind == "noise").into_iter().flatten().collect();
    for (set, language) in [("zh", Language::ZH), ("en", Language::EN), ("en-l2zh", Language::EN)] {
        let named = std::env::var("SET").is_ok_and(|name| name != set);
        if named || language == Language::ZH && !whisper.is_multilingual() {
            continue;
        }
        let all: Vec<Clip> = clips(|c| c.kind == "asr" && c.language == set).into_iter().flatten().collect();
        let step = (all.len() / count.max(1)).max(1);
        let chosen: Vec<Clip> = all.into_iter().step_by(step).take(count).collect();
        for snr in [None, Some(10.0), Some(5.0)] {
            let sounds: Vec<Utterance> =
                chosen.iter().enumerate().map(|(n, c)| heard(c, snr, &noises, n)).collect();
            let plain = || RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
            let settings = [
                ("greedy, length + 100", plain()),
                ("beam 3, length + 100", RecognizeOptions { beam: 3, ..plain() }),
                ("greedy, full window", RecognizeOptions { context: AudioContext::Full, ..plain() }),
            ];
            for (name, options) in settings {
                if (snr.is_some() || std::env::var_os("SET").is_some())
                    && options.context == AudioContext::Full
                {
                    continue;
                }
                let name = name.to_owned();
                report(whisper, set, snr, &name, &chosen, &sounds, &options);
            }
        }
    }
}

fn sweep(whisper: &Whisper, count: usize) {
    for (set, language) in [("zh", Language::ZH), ("en", Language::EN)] {
        let chosen: Vec<Clip> =
            clips(|c| c.kind == "asr" && c.language == set).into_iter().flatten().take(count).collect();
        let sounds: Vec<Utterance> =
            chosen.iter().map(|c| Utterance::from_telephone(&c.telephone())).collect();
        for margin in [25, 50, 75, 100, 128, 150, 200] {
            let context = AudioContext::Fit { margin };
            let options = RecognizeOptions { threads: 1, context, ..RecognizeOptions::new(language) };
            report(whisper, set, None, &format!("length + {margin}"), &chosen, &sounds, &options);
        }
        let hints = if language == Language::ZH {
            vec!["您好，我是银行的客服。好的，请说。".to_owned()]
        } else {
            vec!["Hello, this is the bank. Yes, go ahead.".to_owned()]
        };
        let options = RecognizeOptions { threads: 1, hints, ..RecognizeOptions::new(language) };
        report(whisper, set, None, "with a prompt", &chosen, &sounds, &options);
        let languages = if language == Language::ZH {
            vec![Language::EN, Language::ZH]
        } else {
            vec![Language::ZH, Language::EN]
        };
        let options = RecognizeOptions { threads: 1, languages, ..RecognizeOptions::new(language) };
        report(whisper, set, None, "language found, wrong one first", &chosen, &sounds, &options);
    }
}

fn report(
    whisper: &Whisper,
    set: &str,
    snr: Option<f64>,
    name: &str,
    chosen: &[Clip],
    sounds: &[Utterance],
    options: &RecognizeOptions,
) {
    let language = if set == "zh" { Language::ZH } else { Language::EN };
    let (mut wrong, mut all, mut lost, mut cpu, mut length) = (0, 0, 0, Duration::ZERO, Duration::ZERO);
    for (clip, audio) in chosen.iter().zip(sounds) {
        let (spent, _, transcript) = measured(|| whisper.recognize(audio, options).expect("recognises"));
        cpu += spent;
        length += audio.duration();
        lost += usize::from(transcript.rejected.is_some());
        let (errors, units) = edits(&clip.text, &transcript.text, language);
        if std::env::var_os("SHOW").is_some() {
            println!(
                "  {errors:2}/{units:2} {:.2} {:.2} {:?} {} -> {} [{}]",
                transcript.avg_logprob,
                transcript.no_speech_prob,
                transcript.rejected,
                clip.text,
                transcript.text,
                transcript.raw
            );
        }
        wrong += errors;
        all += units;
    }
    let noise = snr.map_or("none".to_owned(), |db| format!("{db} dB"));
    let rate = 100.0 * wrong as f64 / all.max(1) as f64;
    let cost = cpu.as_secs_f64() / length.as_secs_f64().max(0.001);
    println!("| {set} | {noise} | {name} | {rate:.1} % | {lost} of {} | {cost:.3} |", chosen.len());
}

/// What noise alone gives, with and without the detector's count.
fn noise(whisper: &Whisper, count: usize) {
    let silero = model_file("silero-vad.onnx").and_then(|path| SileroModel::load(&path).ok());
    for (kinds, say) in
        [(&["noise"][..], "noise"), (&["tones"], "tones"), (&["digits", "commands", "prompts"], "speech")]
    {
        let chosen: Vec<Clip> = clips(|c| kinds.contains(&c.kind.as_str())).into_iter().flatten().collect();
        let step = if say == "speech" { (chosen.len() / (2 * count.max(1))).max(1) } else { 1 };
        let (mut text, mut blind, mut unheard, mut total) = (0, 0, 0, 0);
        let mut reasons = std::collections::BTreeMap::<&str, usize>::new();
        for clip in chosen.iter().step_by(step) {
            let pcm = clip.telephone();
            let audio = Utterance::from_telephone(&pcm[..pcm.len().min(8_000 * 15)]);
            total += 1;
            let options = RecognizeOptions {
                threads: 1,
                ..RecognizeOptions::new(if total % 2 == 0 && say != "speech" {
                    Language::ZH
                } else {
                    Language::EN
                })
            };
            let transcript = whisper.recognize(&audio, &options).expect("recognises");
            blind += usize::from(transcript.rejected.is_none());
            let mut detector = SpeechDetector::new(silero.as_ref(), DetectorConfig::default());
            detector.push(&pcm, |_| {});
            let voiced = Duration::from_millis(detector.voiced() / 8);
            unheard += usize::from(voiced < Duration::from_millis(80));
            let with_count = if voiced < Duration::from_millis(80) {
                Some(Rejection::NotVoiced)
            } else {
                whisper.recognize(&audio.with_voiced(voiced), &options).expect("recognises").rejected
            };
            if std::env::var_os("SHOW").is_some() {
                println!(
                    "  {} {:.1} s, voiced {} ms, logprob {:.2}, no speech {:.2}: {:?} {}",
                    clip.path,
                    audio_s(&pcm),
                    voiced.as_millis(),
                    transcript.avg_logprob,
                    transcript.no_speech_prob,
                    with_count,
                    transcript.raw
                );
            }
            match with_count {
                None => text += 1,
                Some(reason) => *reasons.entry(reason.as_str()).or_default() += 1,
            }
        }
        println!(
            "\n{say}: text from {text} of {total} clips as the ear gives them ({blind} without the detector's count; the detector hears nothing in {unheard}); {reasons:?}"
        );
    }
}

/// Single digits, which are the hardest: one word, no context.
fn digits(whisper: &Whisper, count: usize) {
    const WORDS: [&[&str]; 10] = [
        &["0", "zero", "zero zero"],
        &["1", "one", "won"],
        &["2", "two", "to", "too"],
        &["3", "three"],
        &["4", "four", "for"],
        &["5", "five"],
        &["6", "six"],
        &["7", "seven"],
        &["8", "eight", "ate"],
        &["9", "nine"],
    ];
    println!(
        "\nSingle digits through the telephone, 200 ms of silence before and 160 ms after\n| setting | right | rejected | wrong | CPU ms |\n| --- | ---: | ---: | ---: | ---: |"
    );
    let plain = || RecognizeOptions { threads: 1, ..RecognizeOptions::new(Language::EN) };
    let margin = |margin| RecognizeOptions { context: AudioContext::Fit { margin }, ..plain() };
    for (name, options) in [
        ("length + 50", margin(50)),
        ("length + 100", margin(100)),
        ("length + 150", margin(150)),
        ("length + 250", margin(250)),
        ("beam 3, length + 100", RecognizeOptions { beam: 3, ..plain() }),
        ("full window", RecognizeOptions { context: AudioContext::Full, ..plain() }),
    ] {
        let (mut right, mut rejected, mut wrong, mut cpu) = (0, 0, 0, Duration::ZERO);
        let all: Vec<Clip> = clips(|c| c.kind == "digits").into_iter().flatten().collect();
        for clip in all.iter().step_by((all.len() / count.max(1)).max(1)) {
            let mut pcm = vec![0; 1_600];
            pcm.extend(clip.telephone());
            pcm.extend([0; 1_280]);
            let audio = Utterance::from_telephone(&pcm).with_voiced(Duration::from_millis(300));
            let (spent, _, heard) = measured(|| whisper.recognize(&audio, &options).expect("recognises"));
            cpu += spent;
            let said =
                clip.path.rsplit('/').next().and_then(|name| name.chars().next()?.to_digit(10)).unwrap_or(0);
            let is_right = WORDS[said as usize].contains(&bare(&heard.text).as_str());
            right += usize::from(is_right);
            rejected += usize::from(heard.text.is_empty());
            wrong += usize::from(!is_right && !heard.text.is_empty());
            if std::env::var_os("SHOW").is_some() {
                println!(
                    "  {said} {:.2} {:.2} {:?} {}",
                    heard.avg_logprob, heard.no_speech_prob, heard.rejected, heard.raw
                );
            }
        }
        println!(
            "| {name} | {right} | {rejected} | {wrong} | {:.0} |",
            cpu.as_secs_f64() * 1e3 / (right + rejected + wrong).max(1) as f64
        );
    }
}

/// Everything that is known at a pause, one line each, for fitting the end-of-turn rule: the pauses
/// within recordings (with their length), their ends, and places where a program cut them.
fn pauses(whisper: &Whisper) {
    let (Some(vad), Some(eot)) = (model_file("silero-vad.onnx"), model_file("smart-turn-v3.2.onnx")) else {
        return;
    };
    let vad = SileroModel::load(&vad).expect("the model loads");
    let eot = EndOfTurn::load(&eot).expect("the model loads");
    println!("kind\tpath\tgap_ms\tturn_ms\tcomplete\tlogprob\tend\tlast\tlast_p\ttext");
    for clip in clips(|c| c.kind == "asr" || c.path.starts_with("turn/")).into_iter().flatten() {
        let sound = [vec![0; 4_000], trimmed(&clip.telephone()), vec![0; 20_000]].concat();
        let mut ear = Ear::new(Some(&vad), EarConfig::default());
        ear.configure(NodeEar { max_turn_ms: 28_000, ..NodeEar::default() });
        ear.set_eager(true);
        let language = if clip.language == "zh" { Language::ZH } else { Language::EN };
        let mut open: Option<(u64, String)> = None;
        for frame in sound.chunks(160) {
            ear.push(frame);
            while let Some(event) = ear.poll_event() {
                match event {
                    EarEvent::PauseDetected { speech_end_ms, .. } => {
                        let audio = ear.utterance().expect("a turn runs");
                        let p = eot.complete_probability(&audio.samples).expect("runs");
                        let heard = whisper
                            .recognize(
                                &audio,
                                &RecognizeOptions { threads: 2, ..RecognizeOptions::new(language) },
                            )
                            .expect("recognises");
                        let last = heard.tokens.last();
                        let line = format!(
                            "{}\t{p:.3}\t{:.3}\t{:.3}\t{}\t{:.3}\t{}",
                            ear.turn_ms().unwrap_or(0),
                            heard.avg_logprob,
                            heard.end_logprob,
                            last.map_or("", |token| token.text.trim()),
                            last.map_or(0.0, |token| token.probability),
                            heard.raw,
                        );
                        open = Some((speech_end_ms, line));
                    }
                    EarEvent::SpeechResumed { at_ms, .. } => {
                        if let Some((end, line)) = open.take() {
                            println!("inner\t{}\t{}\t{line}", clip.path, at_ms.saturating_sub(end));
                        }
                    }
                    EarEvent::TurnEnded { .. } => {
                        // The rest of the recording is another turn; the bench wants to see it, too.
                        if let Some((_, line)) = open.take() {
                            let kind = if clip.path.contains("/incomplete") { "cut" } else { "end" };
                            println!("{kind}\t{}\t{}\t{line}", clip.path, ear.position_ms());
                        }
                    }
                    EarEvent::SpeechStarted { .. } | EarEvent::FalseStart { .. } => {}
                }
            }
        }
    }
}

fn audio_s(pcm: &[i16]) -> f64 {
    pcm.len() as f64 / 8_000.0
}

/// Cost of the detector, and what it takes for speech.
fn vad(count: usize) {
    let Some(path) = model_file("silero-vad.onnx") else { return };
    let model = SileroModel::load(&path).expect("the model loads");
    let Some(some) = clips(|c| c.kind == "asr" && c.language == "zh") else { return };
    let sound: Vec<i16> = some.take(count.min(10)).flat_map(|c| c.telephone()).collect();
    let mut silero = SileroVad::new(&model);
    let (cpu, _) = timed(|| silero.push(&sound).expect("runs"));
    let windows = sound.len() / 256;
    println!(
        "\nSilero: {:.0} us of CPU for each window of 32 ms ({:.2} % of a core for each call)",
        cpu.as_micros() as f64 / windows as f64,
        100.0 * cpu.as_secs_f64() / audio_s(&sound)
    );
    let mut ear = Ear::new(Some(&model), EarConfig::default());
    let (cpu, _) = timed(|| {
        for frame in sound.chunks(160) {
            ear.push(frame);
            while ear.poll_event().is_some() {}
        }
    });
    println!(
        "Ear: {:.0} us of CPU for each frame of 20 ms ({:.2} % of a core for each call)",
        cpu.as_micros() as f64 / (sound.len() / 160) as f64,
        100.0 * cpu.as_secs_f64() / audio_s(&sound)
    );

    println!(
        "\nEdges: a recording in one second of silence before and after; error of the first start and the last end against the recording's own loud part\n| noise | start, median ms | decided after, median / p95 ms | end, median ms | not heard |\n| --- | ---: | ---: | ---: | ---: |"
    );
    let noises: Vec<Clip> = clips(|c| c.kind == "noise").into_iter().flatten().collect();
    for snr in [None, Some(20.0), Some(10.0), Some(5.0)] {
        let (mut starts, mut delays, mut ends, mut deaf) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (n, clip) in
            clips(|c| c.kind == "asr").into_iter().flatten().step_by(3).take(2 * count).enumerate()
        {
            let pcm = clip.telephone();
            let Some((first, last)) = loud_part(&pcm) else { continue };
            let mut sound = vec![0; 8_000];
            sound.extend(&pcm);
            sound.extend([0; 8_000]);
            if let Some(db) = snr {
                mix(&mut sound, &noises[n % noises.len()].telephone(), db, level(&pcm[first..last]));
            }
            let mut ear = Ear::new(Some(&model), EarConfig::default());
            ear.configure(NodeEar { max_turn_ms: 28_000, ..NodeEar::default() });
            let (mut start, mut end) = (None, None);
            for frame in sound.chunks(160) {
                ear.push(frame);
                while let Some(event) = ear.poll_event() {
                    match event {
                        EarEvent::SpeechStarted { at_ms, decided_ms } => {
                            start = start.or(Some((at_ms, decided_ms)));
                        }
                        EarEvent::PauseDetected { speech_end_ms, .. } => end = Some(speech_end_ms),
                        EarEvent::FalseStart { .. } | EarEvent::TurnEnded { .. } => {
                            // What was found in the noise before the voice is no start of the voice.
                            if ear.position_ms() < 1_000 + first as u64 / 8 {
                                start = None;
                            }
                        }
                        EarEvent::SpeechResumed { .. } => {}
                    }
                }
            }
            let truth = |at: usize| 1_000 + at as i64 / 8;
            match start {
                Some((at, decided)) => {
                    starts.push(at as i64 - truth(first));
                    delays.push(decided as i64 - truth(first));
                }
                None => deaf += 1,
            }
            ends.extend(end.map(|at| at as i64 - truth(last)));
        }
        let name = snr.map_or("none".to_owned(), |db| format!("{db} dB"));
        println!(
            "| {name} | {} | {} / {} | {} | {deaf} |",
            part(&mut starts, 50),
            part(&mut delays, 50),
            part(&mut delays, 95),
            part(&mut ends, 50)
        );
    }
    false_starts(&model);
}

/// How often what is no speech starts a turn.
fn false_starts(model: &SileroModel) {
    println!(
        "\nStarts on sound that is no speech\n| sound | clips | with a start | starts | seconds |\n| --- | ---: | ---: | ---: | ---: |"
    );
    for kind in ["noise", "tones"] {
        let (mut all, mut fooled, mut starts, mut seconds) = (0, 0, 0, 0.0);
        for clip in clips(|c| c.kind == kind).into_iter().flatten() {
            let pcm = [vec![0; 8_000], clip.telephone()].concat();
            let mut ear = Ear::new(Some(model), EarConfig::default());
            let mut here = 0;
            for frame in pcm.chunks(160) {
                ear.push(frame);
                while let Some(event) = ear.poll_event() {
                    here += usize::from(matches!(event, EarEvent::SpeechStarted { .. }));
                }
            }
            if here > 0 && std::env::var_os("SHOW").is_some() {
                println!("  {here} {}", clip.path);
            }
            all += 1;
            fooled += usize::from(here > 0);
            starts += here;
            seconds += audio_s(&pcm);
        }
        println!("| {kind} | {all} | {fooled} | {starts} | {seconds:.0} |");
    }
}

/// Cost and verdicts of the end-of-turn model.
fn turn(count: usize) {
    let Some(path) = model_file("smart-turn-v3.2.onnx") else { return };
    let model = EndOfTurn::load(&path).expect("the model loads");
    println!(
        "\nEnd of turn, telephone band with 160 ms of silence behind\n| set | taken for complete | median | CPU ms |\n| --- | ---: | ---: | ---: |"
    );
    for set in ["turn/zh/complete", "turn/zh/incomplete", "turn/en/complete", "turn/en/incomplete"] {
        let (mut verdicts, mut cpu) = (Vec::new(), Duration::ZERO);
        for clip in clips(|c| c.path.starts_with(set)).into_iter().flatten().take(count) {
            let mut pcm = trimmed(&clip.telephone());
            pcm.extend([0; 1_280]);
            let audio = Utterance::from_telephone(&pcm);
            let (spent, _, p) = measured(|| model.complete_probability(&audio.samples).expect("runs"));
            cpu += spent;
            verdicts.push((p * 1_000.0) as i64);
        }
        let complete = verdicts.iter().filter(|p| **p >= 500).count();
        let n = verdicts.len().max(1);
        println!(
            "| {set} | {complete} of {n} | {:.2} | {:.1} |",
            part(&mut verdicts, 50) as f64 / 1_000.0,
            cpu.as_secs_f64() * 1e3 / n as f64
        );
    }
}

/// The ear with the end-of-turn model on whole utterances and on two halves with a pause between.
fn ear(count: usize) {
    let (Some(vad), Some(eot)) = (model_file("silero-vad.onnx"), model_file("smart-turn-v3.2.onnx")) else {
        return;
    };
    let vad = SileroModel::load(&vad).expect("the model loads");
    let eot = Arc::new(EndOfTurn::load(&eot).expect("the model loads"));
    println!(
        "\nWhole turns: silence until the turn is ended, by what the words said\n| set | words | median ms | p95 ms | ended more than once |\n| --- | --- | ---: | ---: | ---: |"
    );
    for set in ["zh", "en"] {
        for matched in [Some(true), None] {
            let (mut waits, mut split) = (Vec::new(), 0);
            for clip in clips(|c| c.path.starts_with(&format!("turn/{set}/complete")))
                .into_iter()
                .flatten()
                .take(count)
            {
                let ends =
                    ends_of(&vad, &eot, &[trimmed(&clip.telephone()), vec![0; 16_000]].concat(), matched);
                split += usize::from(ends.len() > 1);
                waits.extend(ends.last().map(|(end, decided)| (decided - end) as i64));
            }
            let words = if matched.is_some() { "matched" } else { "unknown" };
            println!(
                "| {set} | {words} | {} | {} | {split} of {} |",
                part(&mut waits, 50),
                part(&mut waits, 95),
                waits.len()
            );
        }
    }
    println!(
        "\nCut turns: the first half, a pause, and the rest: how often the pause was taken for the end\n| set | pause | words | cut off |\n| --- | ---: | --- | ---: |"
    );
    for set in ["zh", "en"] {
        for pause in [300, 500, 700] {
            for matched in [Some(false), None] {
                let (mut cut, mut all) = (0, 0);
                for clip in clips(|c| c.path.starts_with(&format!("turn/{set}/incomplete")))
                    .into_iter()
                    .flatten()
                    .take(count)
                {
                    let half = trimmed(&clip.telephone());
                    let sound = [half.clone(), vec![0; pause * 8], half, vec![0; 16_000]].concat();
                    all += 1;
                    cut += usize::from(ends_of(&vad, &eot, &sound, matched).len() > 1);
                }
                let words = if matched.is_some() { "no match" } else { "unknown" };
                println!("| {set} | {pause} ms | {words} | {cut} of {all} |");
            }
        }
    }
}

fn ends_of(vad: &SileroModel, eot: &EndOfTurn, sound: &[i16], matched: Option<bool>) -> Vec<(u64, u64)> {
    let mut ear = Ear::new(Some(vad), EarConfig::default());
    ear.push(&vec![0; 8_000]);
    let mut ends = Vec::new();
    for frame in sound.chunks(160) {
        ear.push(frame);
        while let Some(event) = ear.poll_event() {
            match event {
                EarEvent::PauseDetected { pause, .. } => {
                    let audio = ear.utterance().expect("a turn runs");
                    ear.set_turn_probability(pause, eot.complete_probability(&audio.samples).expect("runs"));
                    if let Some(matched) = matched {
                        ear.set_hypothesis_matched(pause, matched);
                    }
                }
                EarEvent::TurnEnded { speech_end_ms, decided_ms, .. } => {
                    ends.push((speech_end_ms, decided_ms))
                }
                EarEvent::SpeechStarted { .. }
                | EarEvent::SpeechResumed { .. }
                | EarEvent::FalseStart { .. } => {}
            }
        }
    }
    ends
}

fn heard(clip: &Clip, snr: Option<f64>, noises: &[Clip], n: usize) -> Utterance {
    let (rate, mut pcm) = clip.read();
    if let (Some(db), false) = (snr, noises.is_empty()) {
        let (_, noise) = noises[n % noises.len()].read();
        let loudness = level(&pcm);
        mix(&mut pcm, &noise, db, loudness);
    }
    Utterance::from_telephone(&through_telephone(rate, &pcm))
}

fn mix(pcm: &mut [i16], noise: &[i16], db: f64, loudness: f64) {
    if noise.is_empty() {
        return;
    }
    let gain = loudness / level(noise).max(1.0) / 10f64.powf(db / 20.0);
    for (n, sample) in pcm.iter_mut().enumerate() {
        let sum = f64::from(*sample) + gain * f64::from(noise[n % noise.len()]);
        *sample = sum.clamp(-32_768.0, 32_767.0) as i16;
    }
}

/// Root of the mean square.
fn level(pcm: &[i16]) -> f64 {
    (pcm.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / pcm.len().max(1) as f64).sqrt()
}

/// Where the voice is, to 10 ms: from the first 60 ms that are within 20 dB of the loudest, so that
/// a breath before is not taken for it, to the last 10 ms that are within 30 dB.
fn loud_part(pcm: &[i16]) -> Option<(usize, usize)> {
    let levels: Vec<f64> = pcm.chunks(80).map(level).collect();
    let loudest = levels.iter().copied().fold(0.0, f64::max);
    let first = levels.windows(6).position(|six| six.iter().all(|l| *l > loudest / 10.0))?;
    let last = levels.iter().rposition(|l| *l > loudest / 31.6)?;
    Some((first * 80, ((last + 1) * 80).min(pcm.len())))
}

fn trimmed(pcm: &[i16]) -> Vec<i16> {
    loud_part(pcm).map_or_else(Vec::new, |(first, last)| pcm[first.saturating_sub(800)..last].to_vec())
}

fn edits(reference: &str, heard: &str, language: Language) -> (usize, usize) {
    let split = |text: &str| -> Vec<String> {
        let text = bare(text);
        if language == Language::ZH {
            text.chars().filter(|c| *c != ' ').map(String::from).collect()
        } else {
            text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect()
        }
    };
    let (a, b) = (split(reference), split(heard));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(before + 1);
        }
    }
    (row[b.len()], a.len())
}

fn part(values: &mut [i64], percent: usize) -> i64 {
    values.sort_unstable();
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied().unwrap_or(0)
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, Duration) {
    let (cpu, wall, _) = measured(work);
    (cpu, wall)
}

fn measured<T>(work: impl FnOnce() -> T) -> (Duration, Duration, T) {
    let (cpu, wall) = (cpu_time(), Instant::now());
    let result = work();
    (cpu_time().saturating_sub(cpu), wall.elapsed(), result)
}

/// Time that all threads of this process have been on a core.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanoseconds = tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanoseconds)
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1_024
}
