//! What is heard before the answer: the network's tones, its announcements, and what people have callers hear instead of
//! ringing, told apart by sound and words.
//!
//! The rules and the recogniser are the box's; the clock is not: a frame comes every 20 ms of virtual time, and a
//! recognition takes as long in it as it took here.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use trunkline_audio::channel::{telephone_channel, white_noise};
use trunkline_audio::music::hold_music;
use trunkline_audio::tone::{Country, ProgressTone, Signal, ToneGenerator, busy, congestion, ringback};
use trunkline_audio::{Announcement, Codec, EarlyListener, EarlySound, FRAME};
use trunkline_speech::ear::{Ear, EarConfig, EarEvent};
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer};
use trunkline_speech::synth::{Locale, PromptStore};
use trunkline_speech::vad::SileroModel;

use super::barge_in::percentile;
use super::sound::{self, Clip, RATE};

const FRAME_MS: u64 = 20;
/// Quiet behind the last sound, in which what was said is understood.
const AFTER_MS: usize = 4_000;
/// A quiet line, in dBFS.
const LINE_DBFS: f32 = -62.0;
/// How long a tone or a piece of music is played, in samples.
const TONE: usize = 12 * RATE as usize;
/// As on the box: voice in what is taken for an announcement, how often it is asked at once, and from then on.
const SHORTEST_ANNOUNCEMENT: u32 = 1_000;
const ASKED_AT_ONCE: u32 = 6;
const ASKED_EVERY_MS: u64 = 5_000;

const COUNTRIES: [Country; 10] = [
    Country::Cn,
    Country::Us,
    Country::Uk,
    Country::De,
    Country::Fr,
    Country::Ru,
    Country::In,
    Country::Jp,
    Country::Sg,
    Country::Br,
];

const VOICES: [(Locale, &[&str]); 2] = [
    (Locale::ZhCn, &["zf_xiaobei", "zm_yunjian", "zf_xiaoyi", "zm_yunyang"]),
    (Locale::EnUs, &["af_bella", "am_eric", "af_sarah", "am_onyx"]),
];

/// What networks say, as a caller hears it.
const SAID: [(EarlySound, Locale, &[&str]); 20] = [
    (
        EarlySound::Announcement(Announcement::InvalidNumber),
        Locale::ZhCn,
        &["您好，您拨打的号码是空号，请核对后再拨。", "对不起，您拨打的号码不存在，请查证后再拨。"],
    ),
    (
        EarlySound::Announcement(Announcement::PowerOff),
        Locale::ZhCn,
        &["您好，您拨打的用户已关机。", "对不起，您拨打的电话已关机，请稍后再拨。"],
    ),
    (
        EarlySound::Announcement(Announcement::Suspended),
        Locale::ZhCn,
        &["您好，您拨打的电话已停机。", "您好，您拨打的号码已暂停服务。"],
    ),
    (
        EarlySound::Announcement(Announcement::InCall),
        Locale::ZhCn,
        &["您好，您拨打的用户正在通话中，请稍后再拨。", "对不起，您拨打的用户正忙，请稍后再拨。"],
    ),
    (
        EarlySound::Announcement(Announcement::NoAnswer),
        Locale::ZhCn,
        &["您好，您拨打的电话暂时无人接听，请稍后再拨。", "对不起，您拨打的用户暂时没有应答。"],
    ),
    (
        EarlySound::Announcement(Announcement::Unreachable),
        Locale::ZhCn,
        &["您好，您拨打的用户暂时无法接通，请稍后再拨。", "对不起，您拨打的用户不在服务区。"],
    ),
    (
        EarlySound::Announcement(Announcement::Congestion),
        Locale::ZhCn,
        &["对不起，网络繁忙，请稍后再拨。", "您好，线路忙，请稍后再试。"],
    ),
    (
        EarlySound::Announcement(Announcement::LeaveMessage),
        Locale::ZhCn,
        &["您好，这里是语音信箱，请在提示音后留言。"],
    ),
    (
        EarlySound::Hold,
        Locale::ZhCn,
        &["您好，请不要挂机，您拨打的电话正在通话中。", "您拨打的用户正在通话，请勿挂机，正在为您接通。"],
    ),
    (
        EarlySound::ColourRing,
        Locale::ZhCn,
        &[
            "您好，欢迎致电和顺银行，我们以诚信为本，服务千家万户，您的满意是我们的追求，电话正在接通。",
            "江南好，风景旧曾谙。日出江花红胜火，春来江水绿如蓝，能不忆江南。江南忆，最忆是杭州。",
        ],
    ),
    (
        EarlySound::Announcement(Announcement::InvalidNumber),
        Locale::EnUs,
        &[
            "The number you have dialed is not in service. Please check the number and try again.",
            "We're sorry. You have reached a number that has been disconnected.",
        ],
    ),
    (
        EarlySound::Announcement(Announcement::PowerOff),
        Locale::EnUs,
        &["Sorry, the subscriber you dialed is powered off. Please try again later."],
    ),
    (
        EarlySound::Announcement(Announcement::Suspended),
        Locale::EnUs,
        &["Sorry, the number you dialed has been suspended."],
    ),
    (
        EarlySound::Announcement(Announcement::InCall),
        Locale::EnUs,
        &["The person you are calling is on another call. Please try again later."],
    ),
    (
        EarlySound::Announcement(Announcement::NoAnswer),
        Locale::EnUs,
        &["Sorry, there is no answer from the number you have called. Please try later."],
    ),
    (
        EarlySound::Announcement(Announcement::Unreachable),
        Locale::EnUs,
        &[
            "The subscriber you dialed cannot be connected for the moment, please redial later.",
            "The customer you are calling is unavailable. Please try again later.",
        ],
    ),
    (
        EarlySound::Announcement(Announcement::Congestion),
        Locale::EnUs,
        &["All circuits are busy now. Please try your call again later."],
    ),
    (
        EarlySound::Announcement(Announcement::LeaveMessage),
        Locale::EnUs,
        &["You have reached the voicemail box of five five five, zero one zero one. Please leave a message."],
    ),
    (
        EarlySound::Hold,
        Locale::EnUs,
        &["Please hold the line while we try to connect you. Please do not hang up."],
    ),
    (
        EarlySound::ColourRing,
        Locale::EnUs,
        &[
            "Thank you for calling Northway Broadband, home of the fastest lines in town. Ask us about our new plans, \
           and about the summer offer for whole families.",
        ],
    ),
];

/// Where lines go.
type Tell<'a> = &'a mut dyn FnMut(&str);

/// Something that is played before the answer.
struct Case {
    row: String,
    /// What it is in full, for who looks at mistakes.
    name: String,
    /// What it may be told as.
    expected: Vec<EarlySound>,
    country: Country,
    language: Language,
    sound: Vec<i16>,
}

/// What was found out.
struct Found {
    /// The verdict that ends the call, or the last one.
    verdict: Option<EarlySound>,
    /// From the first sound to it, in ms.
    after_ms: f64,
    /// The words that were recognised.
    words: Vec<String>,
}

/// Counts of a row of the table.
#[derive(Default)]
struct Row {
    all: usize,
    right: usize,
    nothing: usize,
    /// Told as something else, and the call goes on.
    other: usize,
    /// Told as something else, and the call ends with a wrong cause.
    wrong: usize,
    after_ms: Vec<f64>,
}

/// Builds the labelled set and tells the table.
pub(crate) fn run(
    (recognizer, silero): (&dyn Recognizer, &SileroModel),
    clips: &[Clip],
    noises: &[Vec<i16>],
    prompts: &PromptStore,
    (progress, tell): (Tell<'_>, Tell<'_>),
) -> Result<String> {
    let mut cases = tones(clips)?;
    cases.extend(music());
    cases.extend(said(prompts, noises, progress)?);
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for (n, case) in cases.iter().enumerate() {
        progress(&format!("before the answer: {n} of {}", cases.len()));
        let found = listen(recognizer, silero, case)?;
        let row = rows.entry(case.row.clone()).or_default();
        row.all += 1;
        match found.verdict {
            Some(what) if case.expected.contains(&what) => {
                row.right += 1;
                row.after_ms.push(found.after_ms);
                continue;
            }
            None => row.nothing += 1,
            Some(what) if ends_the_call(what) => row.wrong += 1,
            Some(_) => row.other += 1,
        }
        if std::env::var_os("SHOW").is_some() {
            println!("  {} {}: {:?} {:?}", case.row, case.name, found.verdict, found.words);
        }
    }
    progress("");
    tell(
        "\n## Before the answer\n\nms from the first sound to the verdict. Announcements and spoken rings are synthetic, in \
         voices that the robot does not use, every second one with noise 15 dB below; tones are made by ITU-T E.180 unless \
         a row says recorded; music is made from a seed.\n\n\
         | what is played | pieces | told as that | nothing told | told as something else, the call goes on | the call ends \
         with a wrong cause | verdict: median, p95 |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    );
    for (name, row) in &rows {
        let time =
            |percent| percentile(&row.after_ms, percent).map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        tell(&format!(
            "| {name} | {} | {} | {} | {} | {} | {}, {} |",
            row.all,
            row.right,
            row.nothing,
            row.other,
            row.wrong,
            time(50),
            time(95)
        ));
    }
    let sum = |of: fn(&Row) -> usize| rows.values().map(of).sum::<usize>();
    Ok(format!(
        "Before the answer: {} of {} told as what they are, {} calls ended with a wrong cause.",
        sum(|row| row.right),
        sum(|row| row.all),
        sum(|row| row.wrong)
    ))
}

/// Whether the box ends the call with this.
fn ends_the_call(what: EarlySound) -> bool {
    match what {
        EarlySound::Tone(tone) => matches!(tone, ProgressTone::Busy | ProgressTone::Congestion),
        EarlySound::Announcement(said) => said != Announcement::LeaveMessage,
        EarlySound::ColourRing | EarlySound::Hold => false,
    }
}

fn tones(clips: &[Clip]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for country in COUNTRIES {
        let kinds: [(&str, Signal, ProgressTone); 3] = [
            ("ringing, ten countries", ringback(country), ProgressTone::Ringback),
            ("busy, ten countries", busy(country), ProgressTone::Busy),
            ("congestion, ten countries", congestion(country), ProgressTone::Congestion),
        ];
        for (row, signal, tone) in kinds {
            let mut sound = vec![0; TONE];
            ToneGenerator::new(RATE, signal).fill(&mut sound);
            let mut expected = vec![EarlySound::Tone(tone)];
            // Where both tones are one and the same, either is right.
            if busy(country) == congestion(country) && tone != ProgressTone::Ringback {
                expected = vec![ProgressTone::Busy, ProgressTone::Congestion]
                    .into_iter()
                    .map(EarlySound::Tone)
                    .collect();
            }
            cases.push(Case {
                row: row.to_owned(),
                name: format!("{country:?}"),
                expected,
                country,
                language: Language::EN,
                sound: telephone_channel(&sound, Codec::Pcma),
            });
        }
    }
    for clip in clips.iter().filter(|clip| clip.kind == "tones") {
        let tone = match &clip.path {
            path if path.contains("ringback") => ProgressTone::Ringback,
            path if path.contains("busy") => ProgressTone::Busy,
            path if path.contains("congestion") => ProgressTone::Congestion,
            path if path.contains("sit_") => ProgressTone::Information,
            _ => continue,
        };
        let country = if clip.path.contains("cn_") { Country::Cn } else { Country::Us };
        let mut sound = clip.telephone()?;
        // A recording of one period goes on as the tone does.
        if tone != ProgressTone::Information && !sound.is_empty() {
            sound = sound.iter().copied().cycle().take(sound.len().max(TONE)).collect();
        }
        let (row, expected) = ("tones of the recordings".to_owned(), vec![EarlySound::Tone(tone)]);
        cases.push(Case { row, name: clip.path.clone(), expected, country, language: Language::EN, sound });
    }
    Ok(cases)
}

fn music() -> Vec<Case> {
    (0..40)
        .map(|seed| Case {
            row: "colour ring, music".to_owned(),
            name: format!("seed {seed}"),
            expected: vec![EarlySound::ColourRing],
            country: if seed % 2 == 0 { Country::Cn } else { Country::Us },
            language: Language::ZH,
            sound: telephone_channel(&hold_music(TONE, -20.0, seed), Codec::Pcma),
        })
        .collect()
}

fn said(prompts: &PromptStore, noises: &[Vec<i16>], progress: &mut dyn FnMut(&str)) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (what, locale, lines) in SAID {
        let voices = VOICES.iter().find(|(of, _)| *of == locale).map_or(&[][..], |(_, voices)| *voices);
        let (tag, country, language) = match locale {
            Locale::ZhCn => ("zh", Country::Cn, Language::ZH),
            Locale::EnUs | Locale::EnGb => ("en", Country::Us, Language::EN),
        };
        let name = if what == EarlySound::ColourRing { "colour ring, speech" } else { what.as_str() };
        let row = format!("{name}, {tag}");
        for (n, text) in lines.iter().enumerate() {
            for (m, voice) in voices.iter().enumerate() {
                progress(&format!("before the answer: saying {row}"));
                let mut sound = sound::synthetic(prompts, locale, voice, text)?;
                if (n + m) % 2 == 1 && !noises.is_empty() {
                    sound = sound::in_noise(sound, &noises[(n * 7 + m) % noises.len()], 15.0, n + m);
                }
                let (row, name) = (row.clone(), format!("{text} ({voice})"));
                cases.push(Case { row, name, expected: vec![what], country, language, sound });
            }
        }
    }
    Ok(cases)
}

fn listen(recognizer: &dyn Recognizer, silero: &SileroModel, case: &Case) -> Result<Found> {
    let quiet = white_noise(AFTER_MS * 8, LINE_DBFS, 9);
    let line = [&case.sound[..], &quiet].concat();
    let begins = sound::first_voice(&case.sound).unwrap_or(0) as f64 / 8.0;
    let mut ear = Ear::new(Some(silero), EarConfig::default());
    let mut early = EarlyListener::new(case.country);
    let mut found = Found { verdict: None, after_ms: 0.0, words: Vec::new() };
    let (mut waits, mut asked, mut asked_at) = (false, 0, 0);
    let mut due: Option<(u64, String)> = None;
    let mut now = 0;
    for frame in line.chunks_exact(FRAME) {
        now += FRAME_MS;
        ear.push(frame);
        while let Some(event) = ear.poll_event() {
            waits |= matches!(event, EarEvent::PauseDetected { voiced_ms, .. } if voiced_ms >= SHORTEST_ANNOUNCEMENT);
        }
        let may_ask = asked < ASKED_AT_ONCE || now - asked_at >= ASKED_EVERY_MS;
        if waits
            && may_ask
            && due.is_none()
            && let Some(audio) = ear.utterance()
        {
            (waits, asked_at) = (false, now);
            asked += 1;
            let mut options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(case.language) };
            let others = [Language::ZH, Language::EN].into_iter().filter(|other| *other != case.language);
            options.languages.extend(others);
            let heard = recognizer.recognize(&audio, &options)?;
            let took = u64::try_from(heard.took.min(Duration::from_secs(5)).as_millis()).unwrap_or(0);
            due = Some((now + took, heard.text));
        }
        let mut verdicts = Vec::new();
        if let Ok(frame) = <&[i16; FRAME]>::try_from(frame) {
            verdicts.extend(early.push(frame));
        }
        if due.as_ref().is_some_and(|(at, _)| *at <= now)
            && let Some((_, text)) = due.take()
        {
            verdicts.extend(early.handle_words(&text));
            found.words.push(text);
        }
        for verdict in verdicts {
            found.verdict = Some(verdict.what);
            found.after_ms = (now as f64 - begins).max(0.0);
            if ends_the_call(verdict.what) {
                return Ok(found);
            }
        }
    }
    Ok(found)
}
