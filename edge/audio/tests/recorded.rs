//! Concealment, key detection and utterance finding on recorded speech and noise.

use std::path::PathBuf;

use trunkline_audio::channel::{mix_at_snr, telephone_channel};
use trunkline_audio::latency::{Options, analyse};
use trunkline_audio::level::{normalise, rms_dbfs, trim_silence};
use trunkline_audio::plc::Plc;
use trunkline_audio::resample::resample;
use trunkline_audio::tone::DtmfDetector;
use trunkline_audio::{Codec, wav};

/// All recordings of a folder of the test data at 8 kHz through a telephone; empty when it is not here.
fn recorded(folder: &str) -> Vec<Vec<i16>> {
    let data = std::env::var_os("TRUNKLINE_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let mut files = Vec::new();
    let mut folders = vec![data.join("speech").join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "wav") {
                files.push(path);
            }
        }
    }
    files.sort();
    if files.is_empty() {
        println!("skipped: no test data in {folder}, set TRUNKLINE_DATA");
    }
    files
        .iter()
        .map(|file| {
            let sound = wav::read(file).expect("a sound file of the test data");
            telephone_channel(&resample(&sound.mono(), sound.rate, 8_000), Codec::Pcma)
        })
        .collect()
}

#[test]
fn speech_is_hardly_ever_taken_for_a_key() {
    let (mut keys, mut seconds) = (0, 0);
    for mut sound in recorded("asr") {
        normalise(&mut sound, 8_000, -20.0);
        let mut detector = DtmfDetector::new(8_000);
        keys += sound.chunks_exact(160).filter_map(|frame| detector.push(frame)).count();
        seconds += sound.len() / 8_000;
    }
    println!("{keys} false keys in {seconds} s of speech");
    assert!(keys * 300 <= seconds, "{keys} false keys in {seconds} s");
}

#[test]
fn a_concealed_frame_begins_like_the_lost_one_and_is_nearer_to_it_than_a_repeated_frame() {
    let mut sums = [0.0; 3];
    let mut count = 0;
    for mut sound in recorded("asr/zh").into_iter().take(60) {
        normalise(&mut sound, 8_000, -20.0);
        let mut plc = Plc::new();
        let mut before = [0i16; 160];
        for (n, frame) in sound.chunks_exact(160).enumerate() {
            let mut played: [i16; 160] = frame.try_into().expect("a whole frame");
            if n % 20 != 7 {
                plc.good(&mut played);
            } else {
                plc.conceal(&mut played);
                if rms_dbfs(frame) > -35.0 {
                    let errors = [
                        error_db(&frame[..40], &played[..40]),
                        error_db(frame, &played),
                        error_db(frame, &before),
                    ];
                    sums.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
                    count += 1;
                }
            }
            before.copy_from_slice(frame);
        }
    }
    if count > 0 {
        let [first, whole, repeated] = sums.map(|sum| sum / count as f32);
        println!(
            "{count} frames: error {first:.1} dB in the first 5 ms, {whole:.1} in all, {repeated:.1} repeated"
        );
        assert!(first < -1.5 && whole < repeated - 2.0);
    }
}

/// The difference of two sounds relative to the first; silence in place of it is 0 dB.
fn error_db(sound: &[i16], other: &[i16]) -> f32 {
    let difference: Vec<i16> = sound.iter().zip(other).map(|(a, b)| a.saturating_sub(*b)).collect();
    rms_dbfs(&difference) - rms_dbfs(sound)
}

/// Rain, rooms and streets. Dogs, babies and sneezes are left out: they are as loud as speech while
/// they last, and energy cannot tell them from it. Dishes, birds and thunder are the same in small,
/// and it is wrong about some of them.
#[test]
fn recorded_noise_20_db_below_does_not_hide_who_spoke() {
    let noises: Vec<_> = ["cafe", "esc10_rain", "home", "outdoor", "rain", "street", "train"]
        .iter()
        .flat_map(|kind| recorded(&format!("noise/any/{kind}")))
        .collect();
    let speech = recorded("prompts/en/asterisk_prompts");
    let (mut right, mut all) = (0, 0);
    for (noise, voice) in noises.iter().zip(speech.iter().filter(|s| s.len() > 8_000).cycle()) {
        let mut voice = voice[trim_silence(voice, 8_000)].to_vec();
        normalise(&mut voice, 8_000, -20.0);
        voice.truncate(64_000);
        let mut customer = vec![0; 20 * 8_000];
        let mut robot = customer.clone();
        let end = 24_000 + voice.len();
        customer[24_000..end].copy_from_slice(&voice);
        let answer = end + 8_000;
        let len = voice.len().min(robot.len() - answer);
        robot[answer..answer + len].copy_from_slice(&voice[..len]);
        mix_at_snr(&mut customer, noise, 8_000, 20.0);
        let analysis = analyse(&customer, &robot, 8_000, &Options::default());
        // The softest last sounds go under, so this is no measure of accuracy.
        let found = analysis.turns.iter().any(|turn| (turn.latency_ms - 1_000.0).abs() < 350.0);
        if !found {
            println!("noise {all}: {analysis}");
        }
        right += u32::from(found);
        all += 1;
    }
    println!("{right} of {all} turns found over recorded noise");
    assert!(right * 10 >= all * 6, "{right} of {all}");
}
