//! What the box does with sound that is not as it should be: `shared/docs/HEARING.md` declares it, and each
//! line there has its test here.
//!
//! The way is a call's own: A-law packets through the jitter buffer and the concealment, the ear, the
//! recogniser and its guards. The speech is recorded; what is done to it is computed, the same each time.
//! Skipped with a line where models or recordings are not installed; `TRUNKLINE_REQUIRE_MODELS=1` makes
//! missing models a failure.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::testing::{clips, model_file, through_telephone};
use trunkline_audio::channel::{mix_at_snr, pink_noise};
use trunkline_audio::level::{active_dbfs, gain};
use trunkline_audio::music::hold_music;
use trunkline_audio::plc::Plc;
use trunkline_audio::resample::resample;
use trunkline_audio::{Codec, FRAME};
use trunkline_rtp::{Csrcs, Frame, JitterBuffer, JitterConfig, RtpPacket, RtpTicks, Seq, Ssrc};
use trunkline_speech::ear::{Ear, EarConfig, EarEvent};
use trunkline_speech::recognise::text::bare;
use trunkline_speech::recognise::{
    Language, RecognizeError, RecognizeOptions, Recognizer, Rejection, Utterance, Whisper, WhisperConfig,
};
use trunkline_speech::vad::SileroModel;

/// The models of a call.
struct Models {
    whisper: Whisper,
    silero: SileroModel,
}

fn models() -> Option<&'static Models> {
    static MODELS: OnceLock<Option<Models>> = OnceLock::new();
    let load = || {
        let (whisper, silero) = (model_file("whisper-base-q8_0.bin")?, model_file("silero-vad.onnx")?);
        let config = WhisperConfig { states: 1, ..WhisperConfig::default() };
        Some(Models {
            whisper: Whisper::load(&whisper, config).expect("the model loads"),
            silero: SileroModel::load(&silero).expect("the model loads"),
        })
    };
    MODELS.get_or_init(load).as_ref()
}

/// A sentence somebody said.
struct Said {
    text: String,
    language: Language,
    /// At 8 kHz through the telephone's band.
    telephone: Vec<i16>,
    /// As it was recorded, at 16 kHz.
    wide: Vec<i16>,
}

/// Short recorded sentences, two of Mandarin and one of English. As they are, nine of ten characters and
/// words of them are understood.
fn sentences() -> Vec<Said> {
    let of = |set: &'static str, language: Language, count: usize| {
        clips(move |clip| clip.kind == "asr" && clip.language == set)
            .into_iter()
            .flatten()
            .filter_map(move |clip| {
                let (rate, wide) = clip.read();
                let fits = rate == 16_000 && (32_000..64_000).contains(&wide.len());
                fits.then(|| Said {
                    text: clip.text.clone(),
                    language,
                    telephone: through_telephone(rate, &wide),
                    wide,
                })
            })
            .step_by(2)
            .take(count)
    };
    of("zh", Language::ZH, 2).chain(of("en", Language::EN, 1)).collect()
}

/// Sends sound as packets of 20 ms through jitter buffer and concealment; packets that are `lost` never
/// come.
fn line(pcm: &[i16], lost: impl Fn(usize) -> bool) -> Vec<i16> {
    let start = Instant::now();
    let (mut jitter, mut plc) = (JitterBuffer::new(JitterConfig::default()), Plc::new());
    let mut heard = Vec::with_capacity(pcm.len() + 8 * FRAME);
    let frames: Vec<&[i16]> = pcm.chunks_exact(FRAME).collect();
    for tick in 0..frames.len() + 5 {
        let now = start + Duration::from_millis(20 * tick as u64);
        if let Some(frame) = frames.get(tick).filter(|_| !lost(tick)) {
            let mut payload = [0; FRAME];
            Codec::Pcma.encode(frame, &mut payload);
            let packet = RtpPacket {
                marker: tick == 0,
                payload_type: 8,
                seq: Seq(tick as u16),
                ticks: RtpTicks((tick * FRAME) as u32),
                ssrc: Ssrc(7),
                csrc: Csrcs::default(),
                extension: None,
                padding: 0,
                payload: &payload,
            };
            jitter.push(now, &packet);
        }
        let mut frame = [0; FRAME];
        match jitter.pop(now + Duration::from_millis(1)) {
            Frame::Audio { payload, .. } => {
                Codec::Pcma.decode(payload, &mut frame);
                plc.good(&mut frame);
            }
            Frame::Packets(_) => unreachable!("the line speaks G.711"),
            Frame::Lost => plc.conceal(&mut frame),
            Frame::Empty => plc.reset(),
        }
        heard.extend(frame);
    }
    heard
}

/// What a call makes of sound.
#[derive(Debug, Default)]
struct Heard {
    turns: usize,
    text: String,
    rejected: Vec<Rejection>,
}

/// Lets a call hear sound with a second of silence around it.
fn hear(models: &Models, pcm: &[i16], language: Language) -> Heard {
    hear_in(models, pcm, &[language])
}

fn hear_in(models: &Models, pcm: &[i16], languages: &[Language]) -> Heard {
    let turns = turns(models, pcm);
    let mut heard = Heard { turns: turns.len(), ..Heard::default() };
    for turn in turns {
        let options = RecognizeOptions {
            threads: 1,
            languages: languages.to_vec(),
            ..RecognizeOptions::new(languages[0])
        };
        let found = models.whisper.recognize(&turn, &options).expect("recognises");
        heard.text.push_str(&found.text);
        heard.text.push(' ');
        heard.rejected.extend(found.rejected);
    }
    heard.text = heard.text.trim().to_owned();
    heard
}

/// The turns that the ear of a call finds in sound with silence around it.
fn turns(models: &Models, pcm: &[i16]) -> Vec<Utterance> {
    let mut ear = Ear::new(Some(&models.silero), EarConfig::default());
    let (before, after) = (line(&[0; 8_000], |_| false), line(&[0; 12_000], |_| false));
    let mut turns = Vec::new();
    for frame in [&before[..], pcm, &after].into_iter().flat_map(|part| part.chunks(FRAME)) {
        ear.push(frame);
        while let Some(event) = ear.poll_event() {
            if matches!(event, EarEvent::TurnEnded { .. }) {
                turns.extend(ear.utterance());
            }
        }
    }
    turns
}

/// How many units of what was said were heard in this order, and how many there were: characters of
/// Mandarin, words of English.
fn understood(said: &str, heard: &str, language: Language) -> (usize, usize) {
    let units = |text: &str| -> Vec<String> {
        let text = bare(text);
        if language == Language::ZH {
            text.chars().filter(|c| *c != ' ').map(String::from).collect()
        } else {
            text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
        }
    };
    let (said, heard) = (units(said), units(heard));
    let mut row = vec![0; heard.len() + 1];
    for unit in &said {
        let mut diagonal = 0;
        for (n, other) in heard.iter().enumerate() {
            let above = row[n + 1];
            row[n + 1] = if unit == other { diagonal + 1 } else { above.max(row[n]) };
            diagonal = above;
        }
    }
    (row[heard.len()], said.len())
}

/// Hears every sentence after `spoil`, and returns the share of units that were understood.
fn share(models: &Models, said: &[Said], spoil: impl Fn(usize, &Said) -> Vec<i16>) -> f64 {
    let (mut right, mut all) = (0, 0);
    for (n, sentence) in said.iter().enumerate() {
        let heard = hear(models, &spoil(n, sentence), sentence.language);
        assert!(heard.turns >= 1, "no turn was heard in `{}`", sentence.text);
        let (these, of) = understood(&sentence.text, &heard.text, sentence.language);
        println!("{these} of {of}: {} -> {} {:?}", sentence.text, heard.text, heard.rejected);
        right += these;
        all += of;
    }
    let share = right as f64 / all.max(1) as f64;
    println!("understood: {share:.2}");
    share
}

/// Brings the active speech to a level, with everything around it.
fn at_level(pcm: &[i16], dbfs: f32) -> Vec<i16> {
    let mut pcm = pcm.to_vec();
    let level = active_dbfs(&pcm, 8_000).expect("speech");
    gain(&mut pcm, dbfs - level);
    pcm
}

/// Raises pitch and formants by `factor` at the same pace, as a smaller throat does: played faster, and
/// stretched again by joining pieces where they are most alike.
fn smaller_throat(wide: &[i16], factor: f64) -> Vec<i16> {
    let faster: Vec<f32> =
        resample(wide, (16_000.0 * factor) as u32, 16_000).into_iter().map(f32::from).collect();
    let (hop, reach) = (240usize, 120usize);
    let mut out = vec![0.0f32; (faster.len() as f64 * factor) as usize + 2 * hop];
    let mut last: Option<usize> = None;
    for at in (0..out.len() - 2 * hop).step_by(hop) {
        let ideal = (at as f64 / factor) as usize;
        // The piece that goes on best from where the last one ended.
        let from = last.map_or(ideal, |last: usize| {
            let next = last + hop;
            let likeness = |from: usize| -> f32 {
                (0..hop).filter_map(|n| Some(faster.get(from + n)? * faster.get(next + n)?)).sum()
            };
            (ideal.saturating_sub(reach)..ideal + reach)
                .max_by(|a, b| likeness(*a).total_cmp(&likeness(*b)))
                .unwrap_or(ideal)
        });
        for n in 0..2 * hop {
            let window = 0.5 - 0.5 * (std::f32::consts::PI * n as f32 / hop as f32).cos();
            out[at + n] += faster.get(from + n).copied().unwrap_or(0.0) * window;
        }
        last = Some(from);
    }
    out.into_iter().map(|sample| sample as i16).collect()
}

#[test]
fn clipped_speech_is_understood_as_long_as_most_of_it_is_there() {
    let Some(models) = models() else { return };
    let said = sentences();
    if said.is_empty() {
        return;
    }
    let clipped = |db: f32| {
        share(models, &said, |_, said| {
            let mut pcm = at_level(&said.telephone, -20.0);
            gain(&mut pcm, db);
            line(&pcm, |_| false)
        })
    };
    let over = clipped(12.0);
    assert!(over >= 0.7, "{over:.2}");
}

#[test]
fn a_constant_offset_is_taken_out_and_alone_is_silence() {
    let Some(models) = models() else { return };
    let said = sentences();
    if said.is_empty() {
        return;
    }
    // A twentieth of full scale: five times what a bad line card adds.
    let offset = |pcm: &[i16]| pcm.iter().map(|sample| sample.saturating_add(1_600)).collect::<Vec<i16>>();
    let with = share(models, &said, |_, said| line(&offset(&at_level(&said.telephone, -26.0)), |_| false));
    assert!(with >= 0.7, "{with:.2}");
    let alone = hear(models, &line(&offset(&[0; 80_000]), |_| false), Language::ZH);
    assert_eq!((alone.turns, alone.text.as_str()), (0, ""));
}

#[test]
fn soft_speech_is_brought_up_and_what_is_below_the_codec_is_silence() {
    let Some(models) = models() else { return };
    let said = sentences();
    if said.is_empty() {
        return;
    }
    let soft = share(models, &said, |_, said| line(&at_level(&said.telephone, -46.0), |_| false));
    assert!(soft >= 0.7, "{soft:.2}");
    for sentence in &said[..2] {
        // 60 dB under the usual level is less than the smallest step of A-law: there is nothing left.
        let heard = hear(models, &line(&at_level(&sentence.telephone, -86.0), |_| false), sentence.language);
        assert_eq!((heard.turns, heard.text.as_str()), (0, ""), "{}", sentence.text);
        // 60 dB under full scale is the codec's grain and little else: understood or not, nothing is made up.
        let heard = hear(models, &line(&at_level(&sentence.telephone, -60.0), |_| false), sentence.language);
        let (right, _) = understood(&sentence.text, &heard.text, sentence.language);
        println!("{} -> {}", sentence.text, heard.text);
        assert!(heard.text.is_empty() || right > 0, "{} -> {}", sentence.text, heard.text);
    }
}

#[test]
fn music_on_hold_gives_no_text() {
    let Some(models) = models() else { return };
    for (seed, level) in [(1, -20.0), (2, -26.0), (3, -35.0)] {
        let heard = hear(models, &line(&hold_music(12 * 8_000, level, seed), |_| false), Language::ZH);
        println!("music {seed}: {heard:?}");
        assert_eq!(heard.text, "", "music {seed}");
    }
}

#[test]
fn of_two_who_speak_the_louder_is_understood_and_of_two_equals_nothing_is_made_up() {
    let Some(models) = models() else { return };
    let said: Vec<Said> = sentences().into_iter().filter(|said| said.language == Language::ZH).collect();
    if said.is_empty() {
        return;
    }
    let together = |n: usize, softer: f32| {
        let mut pcm = at_level(&said[n].telephone, -26.0);
        mix_at_snr(&mut pcm, &said[(n + 1) % said.len()].telephone, 8_000, softer);
        line(&pcm, |_| false)
    };
    let over = share(models, &said, |n, _| together(n, 18.0));
    assert!(over >= 0.6, "{over:.2}");
    for n in 0..said.len() {
        let heard = hear(models, &together(n, 0.0), said[n].language);
        let (one, _) = understood(&said[n].text, &heard.text, said[n].language);
        let (other, _) = understood(&said[(n + 1) % said.len()].text, &heard.text, said[n].language);
        println!("{} + {} -> {}", said[n].text, said[(n + 1) % said.len()].text, heard.text);
        assert!(heard.turns <= 2, "{heard:?}");
        assert!(heard.text.is_empty() || one + other > 0, "{}", heard.text);
    }
}

#[test]
fn a_voice_as_high_as_a_child_s_is_heard_and_partly_understood() {
    let Some(models) = models() else { return };
    let said = sentences();
    if said.is_empty() {
        return;
    }
    let child = share(models, &said, |_, said| {
        line(&through_telephone(16_000, &smaller_throat(&said.wide, 1.25)), |_| false)
    });
    assert!(child >= 0.3, "{child:.2}");
}

#[test]
fn a_minute_of_silence_starts_no_turn_and_costs_no_recognition() {
    let Some(models) = models() else { return };
    let minute = 60 * 8_000;
    for (name, pcm) in [
        ("digital silence", vec![0; minute]),
        ("the grain of the codec", (0..minute).map(|n| if n / 3 % 2 == 0 { 8 } else { -8 }).collect()),
        ("a quiet room", pink_noise(minute, -62.0, 5)),
    ] {
        let mut ear = Ear::new(Some(&models.silero), EarConfig::default());
        for frame in line(&pcm, |_| false).chunks(FRAME) {
            ear.push(frame);
            assert_eq!(ear.poll_event(), None, "{name}");
        }
        assert!(ear.utterance().is_none() && ear.silence_ms() >= 59_000, "{name}");
    }
    let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(Language::ZH) };
    let minute = Utterance::new(vec![0.0; 60 * 16_000]);
    let refused = models.whisper.recognize(&minute, &options);
    assert_eq!(refused.unwrap_err(), RecognizeError::TooLong { got_ms: 60_000, max_ms: 30_000 });
}

#[test]
fn bursts_of_lost_packets_are_bridged_and_end_no_turn() {
    let Some(models) = models() else { return };
    let said = sentences();
    if said.is_empty() {
        return;
    }
    // Bursts of 40 and of 100 ms in each 800 ms, so that packets in the middle of words are lost.
    for (frames, least) in [(2, 0.65), (5, 0.5)] {
        let burst = |tick: usize| tick > 20 && tick % 40 < frames;
        let with = share(models, &said, |_, said| line(&said.telephone, burst));
        assert!(with >= least, "bursts of {frames} frames: {with:.2}");
    }
    for sentence in &said {
        let turns = |lost: &dyn Fn(usize) -> bool| turns(models, &line(&sentence.telephone, lost)).len();
        let (whole, bursts) = (turns(&|_| false), turns(&|tick| tick > 20 && tick % 40 < 5));
        assert_eq!(whole, bursts, "bursts end a turn in `{}`", sentence.text);
    }
}

/// Says a text by espeak-ng, which speaks a hundred languages; `None` after saying that it is not there.
fn foreign(voice: &str, text: &str) -> Option<Vec<i16>> {
    let output =
        std::process::Command::new("espeak-ng").args(["-v", voice, "-s", "150", "--stdout", text]).output();
    let Ok(output) = output else {
        println!("skipped: espeak-ng is not installed");
        return None;
    };
    let mut reader =
        hound::WavReader::new(std::io::Cursor::new(output.stdout)).expect("espeak-ng writes WAV");
    let rate = reader.spec().sample_rate;
    let pcm: Vec<i16> = reader.samples::<i16>().map_while(Result::ok).collect();
    Some(through_telephone(8_000, &at_level(&resample(&pcm, rate, 8_000), -26.0)))
}

#[test]
fn a_third_language_is_not_taken_for_one_that_is_expected() {
    let Some(models) = models() else { return };
    let spoken = [
        (
            &[Language::ZH][..],
            "fr",
            "Bonjour, je voudrais parler à une personne qui comprend le français, s'il vous plaît.",
        ),
        (
            &[Language::ZH, Language::EN],
            "de",
            "Guten Tag, ich möchte bitte mit einem Menschen sprechen, der mich versteht.",
        ),
        (
            &[Language::ZH, Language::EN],
            "es",
            "Buenos días, quisiera hablar con alguien que entienda español, por favor.",
        ),
        (
            &[Language::ZH],
            "ru",
            "Здравствуйте, я хотел бы поговорить с человеком, который говорит по-русски.",
        ),
    ];
    let mut believed = Vec::new();
    for (languages, voice, text) in spoken {
        let Some(pcm) = foreign(voice, text) else { return };
        let heard = hear_in(models, &line(&pcm, |_| false), languages);
        println!("{voice} as {languages:?}: {heard:?}");
        if !heard.text.is_empty() {
            believed.push(format!("{voice} as {languages:?}: {}", heard.text));
        }
    }
    assert!(believed.is_empty(), "{believed:#?}");
}

#[test]
fn the_shift_to_a_child_s_voice_raises_the_pitch_and_keeps_the_pace() {
    let buzz: Vec<i16> = (0..16_000).map(|n| if n % 160 < 20 { 8_000 } else { -1_000 }).collect();
    let shifted = smaller_throat(&buzz, 1.25);
    assert!(shifted.len().abs_diff(buzz.len()) < 1_000, "{}", shifted.len());
    // From 100 Hz to 125: the likeness with itself peaks at 128 samples.
    let middle = &shifted[4_000..10_000];
    let likeness = |lag: usize| -> i64 {
        middle.iter().zip(&middle[lag..]).map(|(a, b)| i64::from(*a) * i64::from(*b)).sum()
    };
    let best = (100..200).max_by_key(|lag| likeness(*lag)).unwrap();
    assert!((124..=132).contains(&best), "{best}");
}
