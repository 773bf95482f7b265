//! Who answered: people, voicemails, menus, assistants that screen calls, faxes and nobody, told apart by sound and words.
//!
//! The rules and the recogniser are the box's; the clock is not: a frame comes every 20 ms of virtual time, and a
//! recognition takes as long in it as it took here. The robot says nothing meanwhile, which is harder than a call, where
//! a person stops when the robot speaks and a machine does not.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use trunkline_audio::channel::{telephone_channel, white_noise};
use trunkline_audio::{Answerer, AnswererDetector, AnswererRules, Codec, FRAME};
use trunkline_speech::ear::{Ear, EarConfig, EarEvent};
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer};
use trunkline_speech::synth::{Locale, PromptStore};
use trunkline_speech::vad::SileroModel;

use super::barge_in::percentile;
use super::sound::{self, Clip, RATE};

const FRAME_MS: u64 = 20;
/// From the answer to the first word.
const BEFORE_MS: usize = 400;
/// Quiet behind the last word, in which everything is decided.
const AFTER_MS: usize = 5_000;
/// A quiet line, in dBFS.
const LINE_DBFS: f32 = -62.0;
/// Recordings of people that are as short as a greeting, in samples.
const LONGEST_GREETING: usize = 5 * RATE as usize / 2;
/// Recordings of machines that say enough to be told, in samples.
const SHORTEST_MACHINE: usize = 7 * RATE as usize / 2;

const VOICES: [(Locale, &[&str]); 2] = [
    (
        Locale::ZhCn,
        &["zm_yunjian", "zf_xiaoni", "zm_yunyang", "zf_xiaobei", "zm_yunxia", "zf_xiaoyi", "zm_yunxi"],
    ),
    (
        Locale::EnUs,
        &["am_eric", "af_nova", "am_liam", "af_sarah", "am_echo", "af_sky", "am_onyx", "af_bella"],
    ),
];

/// What is said by whom; the number is that of the voices that say each line.
const SAID: [(&str, Answerer, Locale, usize, &[&str]); 9] = [
    (
        "people, zh",
        Answerer::Human,
        Locale::ZhCn,
        7,
        &["喂", "喂，你好", "你好", "喂，哪位", "您好，请讲", "哎，什么事", "喂，谁啊", "我是，您说"],
    ),
    (
        "people, en",
        Answerer::Human,
        Locale::EnUs,
        8,
        &[
            "Hello?",
            "Hi.",
            "Yes?",
            "Hello, who's this?",
            "Speaking.",
            "Good morning.",
            "Hello, this is Sam.",
            "Yeah, hi, how can I help you?",
        ],
    ),
    (
        "voicemail, zh",
        Answerer::Voicemail,
        Locale::ZhCn,
        4,
        &[
            "您好，我现在不方便接听电话，请在嘀声后留言，我会尽快给您回电。",
            "这里是语音信箱，请留下您的姓名和电话号码，结束请挂机。",
        ],
    ),
    (
        "voicemail, en",
        Answerer::Voicemail,
        Locale::EnUs,
        4,
        &[
            "Hi, you've reached Alex. I can't take your call right now. Please leave a message after the beep.",
            "Hi, this is Jo. Leave your name and number and I'll call you back.",
            "Your call has been forwarded to an automatic voice message system. At the tone, please record your message.",
        ],
    ),
    (
        "menu, zh",
        Answerer::Menu,
        Locale::ZhCn,
        3,
        &["您好，欢迎致电客户服务中心，业务咨询请按一，人工服务请按零。", "请直拨分机号，查号请拨零。"],
    ),
    (
        "menu, en",
        Answerer::Menu,
        Locale::EnUs,
        3,
        &[
            "Thank you for calling Northside Dental. For appointments, press one. For billing, press two.",
            "Your call is important to us. Please hold for the next available representative.",
        ],
    ),
    (
        "screener, zh",
        Answerer::Screener,
        Locale::ZhCn,
        3,
        &[
            "您好，我是机主的智能助理，请问您找他有什么事？",
            "您好，这里是来电助理，机主现在不方便接听，我可以为您转达。",
        ],
    ),
    (
        "screener, en",
        Answerer::Screener,
        Locale::EnUs,
        3,
        &[
            "Hi. If you record your name and reason for calling, I'll see if this person is available.",
            "The person you're calling is using a screening service. Please state your name and why you're calling.",
        ],
    ),
    (
        "the network, zh",
        Answerer::Machine,
        Locale::ZhCn,
        3,
        &["您好，您拨打的用户暂时无法接通，请稍后再拨。", "您好，您拨打的电话已关机。"],
    ),
];

/// One call that was answered.
struct Case {
    row: String,
    /// What is said or recorded, for who looks at mistakes.
    name: String,
    who: Answerer,
    language: Language,
    sound: Vec<i16>,
}

/// What was found out.
struct Found {
    first: Option<(Answerer, u64)>,
    last: Option<Answerer>,
    /// From the first word to the first verdict, in ms.
    after_first_word: Option<f64>,
    /// The words that were recognised.
    words: Vec<String>,
}

/// Builds the labelled set and tells the table.
pub(crate) fn run(
    (recognizer, silero): (&dyn Recognizer, &SileroModel),
    clips: &[Clip],
    noises: &[Vec<i16>],
    prompts: &PromptStore,
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    let mut cases = synthetic(prompts, clips, noises, progress)?;
    cases.extend(recorded(clips)?);
    let mut rows: BTreeMap<String, Vec<(Answerer, Found)>> = BTreeMap::new();
    for (n, case) in cases.iter().enumerate() {
        progress(&format!("who answered: {n} of {}", cases.len()));
        let found = listen(recognizer, silero, case)?;
        if std::env::var_os("SHOW").is_some() && found.last != Some(case.who) {
            println!(
                "  {} {}: {:?}, then {:?} {:?}",
                case.row, case.name, found.first, found.last, found.words
            );
        }
        rows.entry(case.row.clone()).or_default().push((case.who, found));
    }
    progress("");
    tell(
        "\n## Who answered\n\nWhat was taken for what in the end, and ms from the first word to the first verdict. \
         Synthetic voices unless a row says recorded; half of them with street noise 15 dB below.\n\n\
         | who | calls | human | machine | voicemail | menu | screener | fax | silence | first verdict: median, p95 |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    );
    for (row, found) in &rows {
        tell(&line(row, found));
    }
    let all: Vec<&(Answerer, Found)> = rows.values().flatten().collect();
    let wrong = |people: bool, verdict: &dyn Fn(&Found) -> Option<Answerer>| {
        let of: Vec<_> = all
            .iter()
            .filter(|(who, _)| if people { *who == Answerer::Human } else { who.is_machine() })
            .collect();
        let wrong = of
            .iter()
            .filter(|(_, found)| {
                verdict(found)
                    .is_some_and(|who| if people { who.is_machine() } else { who == Answerer::Human })
            })
            .count();
        format!("{wrong} of {} ({:.1} %)", of.len(), 100.0 * wrong as f64 / of.len().max(1) as f64)
    };
    let first = |found: &Found| found.first.map(|(who, _)| who);
    let last = |found: &Found| found.last;
    Ok(format!(
        "Who answered: people taken for machines {} at first and {} in the end; machines taken for people {} at first and \
         {} in the end.",
        wrong(true, &first),
        wrong(true, &last),
        wrong(false, &first),
        wrong(false, &last)
    ))
}

fn line(row: &str, found: &[(Answerer, Found)]) -> String {
    let of = |who: Answerer| found.iter().filter(|(_, found)| found.last == Some(who)).count();
    let times: Vec<f64> = found.iter().filter_map(|(_, found)| found.after_first_word).collect();
    let time = |percent| percentile(&times, percent).map_or("-".to_owned(), |ms| format!("{ms:.0}"));
    format!(
        "| {row} | {} | {} | {} | {} | {} | {} | {} | {} | {}, {} |",
        found.len(),
        of(Answerer::Human),
        of(Answerer::Machine),
        of(Answerer::Voicemail),
        of(Answerer::Menu),
        of(Answerer::Screener),
        of(Answerer::Fax),
        of(Answerer::Silence),
        time(50),
        time(95)
    )
}

fn synthetic(
    prompts: &PromptStore,
    clips: &[Clip],
    noises: &[Vec<i16>],
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Case>> {
    let beeps: Vec<Vec<i16>> = clips
        .iter()
        .filter(|clip| clip.path.contains("vm_beep"))
        .map(Clip::telephone)
        .collect::<Result<_>>()?;
    let mut cases = Vec::new();
    for (row, who, locale, count, lines) in SAID {
        let voices = VOICES.iter().find(|(of, _)| *of == locale).map_or(&[][..], |(_, voices)| *voices);
        let language = if locale == Locale::ZhCn { Language::ZH } else { Language::EN };
        for (n, text) in lines.iter().enumerate() {
            for (m, voice) in voices.iter().cycle().skip(n * 2).take(count.min(voices.len())).enumerate() {
                progress(&format!("who answered: saying {row}"));
                let mut sound = sound::synthetic(prompts, locale, voice, text)?;
                if who == Answerer::Voicemail && !beeps.is_empty() {
                    sound.extend(white_noise(600 * 8, LINE_DBFS, 3));
                    sound.extend(&beeps[(n + m) % beeps.len()]);
                }
                if m % 2 == 1 && !noises.is_empty() {
                    sound = sound::in_noise(sound, &noises[(n * 7 + m) % noises.len()], 15.0, n + m);
                }
                cases.push(Case {
                    row: row.to_owned(),
                    name: format!("{text} ({voice})"),
                    who,
                    language,
                    sound,
                });
            }
        }
    }
    Ok(cases)
}

/// Real recordings: short ones of people, longer ones of menus and queues, tones of faxes, noise.
fn recorded(clips: &[Clip]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for clip in clips {
        let language = if clip.language == "zh" { Language::ZH } else { Language::EN };
        let mut take = |row: &str, who, sound| {
            cases.push(Case { row: row.to_owned(), name: clip.path.clone(), who, language, sound })
        };
        match clip.kind.as_str() {
            "asr" | "commands" | "digits" | "turn" if !clip.path.contains("incomplete") => {
                let sound = clip.telephone()?;
                if sound.len() <= LONGEST_GREETING {
                    take(&format!("people, {}, recorded", &clip.language[..2]), Answerer::Human, sound);
                }
            }
            "prompts" | "announcements" => {
                let sound = clip.telephone()?;
                if sound.len() >= SHORTEST_MACHINE {
                    take(&format!("menus and queues, {}, recorded", clip.language), Answerer::Menu, sound);
                }
            }
            "tones" if clip.path.contains("fax_") => take("fax", Answerer::Fax, clip.telephone()?),
            _ => {}
        }
    }
    for n in 0..10 {
        let sound = telephone_channel(&white_noise(3 * RATE as usize, LINE_DBFS, n), Codec::Pcma);
        let (row, name) = ("nobody".to_owned(), n.to_string());
        cases.push(Case { row, name, who: Answerer::Silence, language: Language::ZH, sound });
    }
    Ok(cases)
}

fn listen(recognizer: &dyn Recognizer, silero: &SileroModel, case: &Case) -> Result<Found> {
    let noise = white_noise((BEFORE_MS + AFTER_MS) * 8, LINE_DBFS, 9);
    let (before, after) = noise.split_at(BEFORE_MS * 8);
    let line = [before, &case.sound, after].concat();
    let first_word =
        sound::first_voice(&case.sound).map(|at| (BEFORE_MS + at / (RATE as usize / 1_000)) as f64);
    let mut ear = Ear::new(Some(silero), EarConfig::default());
    let mut detector = AnswererDetector::new(AnswererRules::default());
    let mut due: Option<(u64, u32, String)> = None;
    let mut found = Found { first: None, last: None, after_first_word: None, words: Vec::new() };
    let mut now = 0;
    for frame in line.chunks_exact(FRAME) {
        now += FRAME_MS;
        let mut verdicts = Vec::new();
        if let Ok(frame) = <&[i16; FRAME]>::try_from(frame) {
            verdicts.extend(detector.push(frame));
        }
        if due.as_ref().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, _, text)) = due.take()
        {
            verdicts.extend(detector.handle_words(&text));
            found.words.push(text);
        }
        ear.push(frame);
        while let Some(event) = ear.poll_event() {
            match event {
                EarEvent::PauseDetected { pause, .. } => {
                    let Some(audio) = ear.utterance() else { continue };
                    let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(case.language) };
                    let heard = recognizer.recognize(&audio, &options)?;
                    let took = u64::try_from(heard.took.min(Duration::from_secs(5)).as_millis()).unwrap_or(0);
                    due = Some((now + took, pause, heard.text));
                }
                EarEvent::SpeechResumed { pause, .. } => {
                    due = due.take().filter(|(_, of, _)| *of != pause);
                }
                EarEvent::SpeechStarted { .. } | EarEvent::FalseStart { .. } | EarEvent::TurnEnded { .. } => {
                }
            }
        }
        for verdict in verdicts {
            found.last = Some(verdict.who);
            if found.first.is_none() {
                found.first = Some((verdict.who, now));
                found.after_first_word = first_word.map(|first| (now as f64 - first).max(0.0));
            }
        }
    }
    Ok(found)
}
