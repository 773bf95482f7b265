//! The latency tool on conversations whose true positions are known.
//!
//! Real speech is cut so that it begins and ends loud, which makes its ends certain, and placed.

use std::path::PathBuf;

use trunkline_audio::channel::{mix_at_snr, pink_noise, telephone_channel, white_noise};
use trunkline_audio::latency::{Options, Side, analyse, analyse_file};
use trunkline_audio::level::{active_dbfs, fade_in, fade_out, normalise, rms_dbfs};
use trunkline_audio::resample::resample;
use trunkline_audio::{Codec, wav};

/// Two channels being built.
struct Conversation {
    rate: u32,
    customer: Vec<i16>,
    robot: Vec<i16>,
}

impl Conversation {
    fn new(rate: u32, seconds: u32) -> Self {
        let len = (rate * seconds) as usize;
        Self { rate, customer: vec![0; len], robot: vec![0; len] }
    }

    /// Places speech at a time and returns when it ends, in seconds.
    fn place(channel: &mut [i16], rate: u32, at_s: f64, speech: &[i16]) -> f64 {
        let at = (at_s * f64::from(rate)).round() as usize;
        channel[at..at + speech.len()].copy_from_slice(speech);
        (at + speech.len()) as f64 / f64::from(rate)
    }

    fn customer(&mut self, at_s: f64, speech: &[i16]) -> f64 {
        Self::place(&mut self.customer, self.rate, at_s, speech)
    }

    fn robot(&mut self, at_s: f64, speech: &[i16]) -> f64 {
        Self::place(&mut self.robot, self.rate, at_s, speech)
    }
}

/// Recorded speech, cut where it is loud, at -20 dBFS; empty when the data is not here.
fn recorded(rate: u32) -> Vec<Vec<i16>> {
    let data = std::env::var_os("TRUNKLINE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let mut speech = Vec::new();
    for folder in ["turn/zh/complete", "turn/en/complete", "prompts/en/asterisk_prompts"] {
        let Ok(files) = std::fs::read_dir(data.join("speech").join(folder)) else { continue };
        let mut files: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
        files.sort();
        for file in files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "wav")).take(24) {
            let sound = wav::read(&file).expect("a sound file of the test data");
            // Cut after the telephone channel: what it takes away cannot be heard to end.
            let line = telephone_channel(&resample(&sound.mono(), sound.rate, 8_000), Codec::Pcma);
            let cut = crisp(&resample(&line, 8_000, rate), rate);
            // A pause of 300 ms or more inside would rightly make two utterances of it.
            if (rate / 2..rate * 4).contains(&(cut.len() as u32)) && longest_pause_ms(&cut, rate) < 260 {
                speech.push(cut);
            }
        }
    }
    if speech.is_empty() {
        println!("skipped: no test data, set TRUNKLINE_DATA");
    }
    speech
}

/// Cuts at the first and last 5 ms that are within 9 dB of the active level.
fn crisp(samples: &[i16], rate: u32) -> Vec<i16> {
    let step = rate as usize / 200;
    let level = active_dbfs(samples, rate).expect("the recording holds sound") - 9.0;
    let loud: Vec<usize> = samples
        .chunks_exact(step)
        .enumerate()
        .filter(|(_, chunk)| rms_dbfs(chunk) > level)
        .map(|(n, _)| n)
        .collect();
    let (Some(first), Some(last)) = (loud.first(), loud.last()) else { return Vec::new() };
    let mut cut = samples[first * step..(last + 1) * step].to_vec();
    normalise(&mut cut, rate, -20.0);
    fade_in(&mut cut, rate, 2);
    fade_out(&mut cut, rate, 2);
    cut
}

fn longest_pause_ms(samples: &[i16], rate: u32) -> u32 {
    let level = active_dbfs(samples, rate).expect("the recording holds sound") - 9.0;
    let (mut longest, mut now) = (0, 0);
    for chunk in samples.chunks_exact(rate as usize / 200) {
        now = if rms_dbfs(chunk) > level { 0 } else { now + 5 };
        longest = longest.max(now);
    }
    longest
}

/// Something like a voice, for where there is no data: harmonics under a slow rise and fall.
fn synthetic(rate: u32, ms: u32, hz: f32) -> Vec<i16> {
    let len = (rate * ms / 1_000) as usize;
    let mut sound: Vec<i16> = (0..len)
        .map(|n| {
            let t = n as f32 / rate as f32;
            let syllable = 0.6 + 0.4 * (t * 4.0 * std::f32::consts::TAU).cos();
            let voice: f32 =
                (1..8).map(|h| (t * hz * h as f32 * std::f32::consts::TAU).sin() / h as f32).sum();
            (voice * syllable * 5_000.0) as i16
        })
        .collect();
    normalise(&mut sound, rate, -20.0);
    fade_in(&mut sound, rate, 2);
    fade_out(&mut sound, rate, 2);
    sound
}

/// Builds a conversation of turns with latencies from 150 to 1200 ms and compares what is found.
/// Returns the deviations of all latencies, in ms.
fn deviations(speech: &[Vec<i16>], rate: u32, spoil: impl Fn(&mut Conversation)) -> Vec<f64> {
    let mut all = Vec::new();
    for (round, chosen) in speech.chunks(8).filter(|chunk| chunk.len() == 8).enumerate() {
        let mut conversation = Conversation::new(rate, 60);
        let mut now = 1.502_3 + round as f64 * 0.001_1;
        let mut truth = Vec::new();
        now = conversation.robot(now, &chosen[0]);
        for turn in 0..6 {
            let begins = now + 0.6;
            let ends = conversation.customer(begins, &chosen[(turn + 1) % 8]);
            let latency = 0.150 + 0.210 * ((turn * 5 + round) % 6) as f64;
            let answers = ends + latency;
            now = conversation.robot(answers, &chosen[(turn + 4) % 8]);
            truth.push((begins, ends, answers, latency * 1_000.0));
        }
        spoil(&mut conversation);
        let analysis = analyse(&conversation.customer, &conversation.robot, rate, &Options::default());
        assert_eq!(analysis.turns.len(), truth.len(), "round {round}: {analysis}\n{truth:?}");
        for (turn, (begins, ends, answers, latency)) in analysis.turns.iter().zip(&truth) {
            let off =
                [turn.customer_start_s - begins, turn.customer_end_s - ends, turn.robot_start_s - answers];
            assert!(off.iter().all(|off| off.abs() < 0.040), "round {round}: {turn:?} is off by {off:?}");
            all.push(turn.latency_ms - latency);
        }
        assert!(analysis.barge_ins.is_empty() && analysis.overlaps.is_empty());
    }
    all
}

fn worst(deviations: &[f64]) -> f64 {
    deviations.iter().fold(0.0, |worst, d| worst.max(d.abs()))
}

#[test]
fn clean_speech_is_measured_to_20_ms_at_any_rate() {
    for rate in [8_000, 16_000, 24_000] {
        let speech = recorded(rate);
        let found = deviations(&speech, rate, |_| {});
        println!("{} turns at {rate} Hz: worst {:.1} ms", found.len(), worst(&found));
        assert!(worst(&found) <= 20.0, "{found:?}");
    }
}

#[test]
fn speech_through_a_telephone_with_noise_20_db_below_is_measured_to_40_ms() {
    let speech = recorded(8_000);
    for (name, make) in [("white", white_noise as fn(usize, f32, u64) -> Vec<i16>), ("pink", pink_noise)] {
        let found = deviations(&speech, 8_000, |conversation| {
            let noise = make(80_000, -30.0, 11);
            mix_at_snr(&mut conversation.customer, &noise, 8_000, 20.0);
            conversation.customer = telephone_channel(&conversation.customer, Codec::Pcma);
        });
        println!("{} turns in {name} noise: worst {:.1} ms", found.len(), worst(&found));
        assert!(worst(&found) <= 40.0, "{found:?}");
    }
}

#[test]
fn noise_that_sets_in_with_the_answer_of_the_call_is_no_speech() {
    let speech = recorded(8_000);
    let found = deviations(&speech, 8_000, |conversation| {
        mix_at_snr(&mut conversation.customer, &pink_noise(80_000, -30.0, 5), 8_000, 20.0);
        conversation.customer[..8_000].fill(0);
    });
    assert!(worst(&found) <= 40.0, "{found:?}");
}

#[test]
fn a_made_up_voice_is_measured_to_20_ms_without_any_data() {
    let speech: Vec<Vec<i16>> =
        (0..8).map(|n| synthetic(8_000, 600 + 150 * n, 110.0 + 15.0 * n as f32)).collect();
    let found = deviations(&speech, 8_000, |_| {});
    assert!(worst(&found) <= 20.0, "{found:?}");
}

#[test]
fn interruptions_are_listed_and_not_counted_as_turns() {
    let (long, short) = (synthetic(8_000, 3_000, 120.0), synthetic(8_000, 900, 180.0));
    let mut talk = Conversation::new(8_000, 20);
    // The customer barges in; the robot is silent 180 ms later and answers 400 ms after her.
    let starts = 2.0;
    talk.robot(1.0, &long[..(1.18 * 8_000.0) as usize]);
    let ends = talk.customer(starts, &short);
    let ends = talk.robot(ends + 0.4, &short).max(ends);
    // The robot barges in 300 ms before the customer ends.
    let said = talk.customer(ends + 1.0, &long);
    let ends = talk.robot(said - 0.3, &short);
    // A cough in mid-prompt; the robot talks on.
    talk.robot(ends + 1.0, &long);
    talk.customer(ends + 2.0, &synthetic(8_000, 250, 200.0));

    let analysis = analyse(&talk.customer, &talk.robot, 8_000, &Options::default());

    assert_eq!(analysis.turns.len(), 1, "{analysis}");
    assert!((analysis.turns[0].latency_ms - 400.0).abs() < 20.0, "{analysis}");
    assert_eq!(analysis.barge_ins.len(), 2, "{analysis}");
    assert!((analysis.barge_ins[0].stop_ms - 180.0).abs() < 20.0, "{analysis}");
    assert!(analysis.barge_ins[0].yielded && !analysis.barge_ins[1].yielded, "{analysis}");
    assert_eq!(analysis.overlaps.len(), 1, "{analysis}");
    let table = analysis.to_string();
    assert!(table.contains("customer interrupts at 2.0"), "{table}");
    assert!(table.contains("talked on"), "{table}");
    assert!(table.contains("1 turns in 20.0 s: median 4"), "{table}");
}

#[test]
fn a_pause_for_breath_does_not_end_a_turn_and_a_click_does_not_begin_one() {
    let mut talk = Conversation::new(8_000, 12);
    let first = talk.customer(1.0, &synthetic(8_000, 700, 150.0));
    let ends = talk.customer(first + 0.25, &synthetic(8_000, 700, 150.0));
    talk.customer(ends + 0.35, &synthetic(8_000, 20, 400.0));
    talk.robot(ends + 0.6, &synthetic(8_000, 1_500, 110.0));
    let analysis = analyse(&talk.customer, &talk.robot, 8_000, &Options::default());
    assert_eq!((analysis.turns.len(), analysis.customer.len()), (1, 1), "{analysis}");
    assert!((analysis.turns[0].latency_ms - 600.0).abs() < 20.0, "{analysis}");
}

#[test]
fn files_are_read_with_the_customer_on_either_side() {
    let mut talk = Conversation::new(16_000, 8);
    let ends = talk.customer(1.0, &synthetic(16_000, 1_000, 150.0));
    talk.robot(ends + 0.5, &synthetic(16_000, 1_500, 110.0));
    let dir = tempfile::tempdir().unwrap();
    let (left, mono) = (dir.path().join("left.wav"), dir.path().join("mono.wav"));
    wav::write(&left, 16_000, &[&talk.customer, &talk.robot]).unwrap();
    wav::write(&mono, 16_000, &[&talk.customer]).unwrap();
    let options = Options::default();
    let found = analyse_file(&left, Side::Left, &options).unwrap();
    assert!((found.median_ms().unwrap() - 500.0).abs() < 20.0);
    assert_eq!(found.p95_ms(), found.max_ms());
    // Seen from the other side nobody answers.
    let found = analyse_file(&left, Side::Right, &options).unwrap();
    assert_eq!(found.median_ms(), None);
    assert!(found.to_string().contains("no turn in 8.0 s"));
    let error = analyse_file(&mono, Side::Left, &options).unwrap_err();
    assert!(error.to_string().contains("1 channels; 2 are needed"));
}

#[test]
fn nothing_at_all_is_an_empty_table() {
    for samples in [&[][..], &[0; 10], &[5; 40_000]] {
        let analysis = analyse(samples, samples, 8_000, &Options::default());
        assert_eq!(analysis.turns, []);
    }
}
