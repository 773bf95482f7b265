//! Tones of the network, beeps and greetings that were not made here, through a telephone's codec.

use std::path::{Path, PathBuf};

use trunkline_audio::channel::telephone_channel;
use trunkline_audio::resample::resample;
use trunkline_audio::tone::{Country, ProgressDetector, ProgressTone};
use trunkline_audio::{
    Answerer, AnswererDetector, AnswererRules, Codec, EarlyListener, EarlySound, FRAME, wav,
};

fn data() -> PathBuf {
    let set = std::env::var_os("TRUNKLINE_DATA").map(PathBuf::from);
    set.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"))
        .join("speech")
}

fn read(path: &Path) -> Option<Vec<i16>> {
    if !path.is_file() {
        println!("skipped: no {}, set TRUNKLINE_DATA", path.display());
        return None;
    }
    let sound = wav::read(path).expect("a sound file of the test data");
    Some(telephone_channel(&resample(&sound.mono(), sound.rate, 8_000), Codec::Pcma))
}

fn frames(sound: &[i16]) -> impl Iterator<Item = &[i16; FRAME]> {
    sound.chunks_exact(FRAME).map(|frame| frame.try_into().expect("a whole frame"))
}

#[test]
fn tones_that_others_made_are_recognised() {
    use ProgressTone::*;
    for (file, country, wanted) in [
        ("synthetic/cn_busy_450_035_035.wav", Country::Cn, Some(Busy)),
        ("synthetic/cn_congestion_450_07_07.wav", Country::Cn, Some(Congestion)),
        ("synthetic/cn_ringback_450_1s_4s.wav", Country::Cn, Some(Ringback)),
        ("rustpbx/phone-calling.wav", Country::Cn, Some(Ringback)),
        ("synthetic/uk_ringback_400_450.wav", Country::Uk, Some(Ringback)),
        ("synthetic/us_busy_480_620_05_05.wav", Country::Us, Some(Busy)),
        ("synthetic/us_reorder_480_620_025_025.wav", Country::Us, Some(Congestion)),
        ("synthetic/us_ringback_440_480_2s_4s.wav", Country::Us, Some(Ringback)),
        ("synthetic/sit_IC_intercept.wav", Country::Us, Some(Information)),
        ("synthetic/sit_NC_no_circuit.wav", Country::Us, Some(Information)),
        ("synthetic/sit_RO_reorder.wav", Country::Us, Some(Information)),
        ("synthetic/sit_VC_vacant.wav", Country::Us, Some(Information)),
        ("synthetic/fax_ced_2100.wav", Country::Cn, Some(Fax)),
        ("synthetic/fax_cng_1100_05_3.wav", Country::Cn, Some(Fax)),
        ("asterisk/tt-monkeys.wav", Country::Us, None),
        ("asterisk/beep.wav", Country::Us, None),
    ] {
        let Some(sound) = read(&data().join("tones/any").join(file)) else { return };
        let mut detector = ProgressDetector::new(country);
        let heard: Vec<ProgressTone> =
            frames(&sound).filter_map(|frame| detector.push(frame)).map(|heard| heard.tone).collect();
        assert_eq!(heard.first().copied(), wanted, "{file}: {heard:?}");
        assert!(heard.len() <= 1, "{file}: {heard:?}");
    }
}

#[test]
fn beeps_that_others_made_are_machines() {
    for file in [
        "vm_beep_1000_500ms",
        "vm_beep_1400_1000ms",
        "vm_beep_1400_250ms",
        "vm_beep_2000_200ms",
        "vm_beep_850_300ms",
    ] {
        let Some(sound) = read(&data().join("tones/any/synthetic").join(format!("{file}.wav"))) else {
            return;
        };
        let mut detector = AnswererDetector::new(AnswererRules::default());
        let last = frames(&sound).filter_map(|frame| detector.push(frame)).last();
        assert_eq!(last.map(|verdict| verdict.who), Some(Answerer::Voicemail), "{file}");
    }
}

#[test]
fn speech_of_people_holds_no_tone_of_the_network_and_hardly_a_beep() {
    let mut files = Vec::new();
    let mut folders = vec![data().join("asr"), data().join("announcements")];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "wav") {
                files.push(path);
            }
        }
    }
    files.sort();
    let (mut tones, mut beeps, mut seconds) = (Vec::new(), Vec::new(), 0);
    let mut rings = 0;
    for file in files.iter().step_by(3) {
        let Some(sound) = read(file) else { continue };
        let mut progress = ProgressDetector::new(Country::Cn);
        let mut answerer = AnswererDetector::new(AnswererRules::default());
        // Again and again, because music needs some seconds.
        let mut early = EarlyListener::new(Country::Cn);
        let again: Vec<i16> = sound.iter().copied().cycle().take(12 * 8_000).collect();
        let verdicts = frames(&again).filter_map(|frame| early.push(frame));
        rings += verdicts.filter(|verdict| verdict.what == EarlySound::ColourRing).count();
        for frame in frames(&sound) {
            tones.extend(progress.push(frame).map(|heard| (file, heard)));
            let verdict = answerer.push(frame).filter(|verdict| verdict.evidence.contains("beep"));
            beeps.extend(verdict.map(|verdict| (file, verdict)));
        }
        seconds += sound.len() / 8_000;
    }
    println!("{} false tones, {} false beeps in {seconds} s of speech", tones.len(), beeps.len());
    assert!(tones.is_empty(), "{tones:?}");
    assert_eq!(rings, 0, "speech taken for music");
    assert!(beeps.len() * 600 <= seconds, "{beeps:?}");
}
