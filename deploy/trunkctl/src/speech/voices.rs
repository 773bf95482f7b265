//! What a voice costs and whether it is understood: real-time factor, first sound, memory, and the error
//! rate when the telephone's channel and the box's own recogniser hear it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use trunkline_audio::Codec;
use trunkline_audio::channel::telephone_channel;
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer, Utterance};
use trunkline_speech::synth::{Espeak, Kokoro, KokoroSettings, Locale, SpeechRequest, Synthesizer};

use super::barge_in::percentile;
use super::carry::cpu_time;
use super::words::Errors;

/// The robot's voices first.
const VOICES: [(&str, Locale); 8] = [
    ("zf_xiaoxiao", Locale::ZhCn),
    ("zf_xiaoyi", Locale::ZhCn),
    ("zm_yunxi", Locale::ZhCn),
    ("zm_yunyang", Locale::ZhCn),
    ("af_heart", Locale::EnUs),
    ("am_michael", Locale::EnUs),
    ("bf_emma", Locale::EnGb),
    ("bm_george", Locale::EnGb),
];

const MANDARIN: [&str; 8] = [
    "您好，这里是智能客服，请问您现在方便接听电话吗？",
    "您本月的账单金额是1234元，还款日是11月28号。",
    "请问您需要重新预约送货时间吗？",
    "我们银行的工作时间是周一到周五，上午九点到下午五点。",
    "好的，我已经为您登记了，稍后会有专人与您联系。",
    "您的验证码是5031，请不要告诉别人。",
    "如果方便的话，请您在明天下午三点以前回电。",
    "感谢您的接听，祝您生活愉快，再见。",
];

const ENGLISH: [&str; 8] = [
    "Hello, this is the service desk. Is this a good time to talk?",
    "Your balance is $1,234, and the payment is due on November 28.",
    "Would you like to reschedule your delivery for tomorrow morning?",
    "Our office is open from Monday to Friday, nine in the morning to five in the afternoon.",
    "All right, I have made a note of that, and a colleague will call you back.",
    "Your code is 5 0 3 1. Please do not tell it to anybody.",
    "If it suits you, please call us back before three o'clock tomorrow.",
    "Thank you for your time. Have a nice day, and goodbye.",
];

/// Measures every voice and tells the table; returns it in a sentence.
pub(crate) fn run(
    recognizer: &dyn Recognizer,
    dir: &Path,
    (only, count): (&str, usize),
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    let before = resident_mb();
    let opened = Instant::now();
    let kokoro = Kokoro::open(dir, KokoroSettings::default()).context("cannot open the voices")?;
    let opening = opened.elapsed();
    let count = count.clamp(1, MANDARIN.len());
    tell(&format!(
        "\n## Voices\n\n{count} sentences of a call in each voice, one thread. CPU and wall time for each second of \
         sound; ms until the first clause can be played; errors in characters for Mandarin and in words for \
         English when the telephone's band, A-law and the box's recogniser have heard them, numbers as said.\n\n\
         | voice | sound s | CPU s per s | wall s per s | first sound ms: median, worst | errors | MB in use |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    ));
    let mut worst_factor = 0.0f64;
    let mut firsts = Vec::new();
    // The first run sizes buffers and is not counted.
    kokoro.synthesize(&SpeechRequest::new("您好，请稍等。", Locale::ZhCn))?;
    let wanted = |(voice, _): &(&str, Locale)| voice.contains(only);
    for (voice, locale) in VOICES.into_iter().filter(wanted) {
        progress(voice);
        let (factor, first) = one((voice, locale), count, &kokoro, recognizer, tell)?;
        worst_factor = worst_factor.max(factor);
        firsts.extend(first);
    }
    if let Some(espeak) = Espeak::find() {
        let voices = [("espeak-ng cmn", Locale::ZhCn), ("espeak-ng en-us", Locale::EnUs)];
        for (voice, locale) in voices.into_iter().filter(wanted) {
            progress(voice);
            one((voice, locale), count, &espeak, recognizer, tell)?;
        }
    }
    progress("");
    tell(&format!(
        "\nThe voices were opened in {:.1} s and take {:.0} MB, together with what one sentence needs.",
        opening.as_secs_f64(),
        resident_mb() - before
    ));
    let first = percentile(&firsts, 95).unwrap_or(f64::NAN);
    Ok(format!(
        "Speaking: {worst_factor:.2} s of a core for a second of sound; the first clause after {first:.0} ms (95th \
         percentile)."
    ))
}

fn one(
    (voice, locale): (&str, Locale),
    count: usize,
    synthesizer: &dyn Synthesizer,
    recognizer: &dyn Recognizer,
    tell: &mut dyn FnMut(&str),
) -> Result<(f64, Vec<f64>)> {
    let (sentences, language) = match locale {
        Locale::ZhCn => (MANDARIN, Language::ZH),
        Locale::EnUs | Locale::EnGb => (ENGLISH, Language::EN),
    };
    let (mut sound, mut cpu, mut wall) = (0.0, Duration::ZERO, Duration::ZERO);
    let (mut firsts, mut errors) = (Vec::new(), Errors::default());
    for sentence in sentences.into_iter().take(count) {
        let request = SpeechRequest::new(sentence, locale).with_voice(voice);
        let (cpu_before, asked) = (cpu_time(), Instant::now());
        let (mut first, mut parts) = (None, Vec::new());
        synthesizer.stream(&request, &mut |part| {
            first.get_or_insert_with(|| asked.elapsed().as_secs_f64() * 1_000.0);
            parts.push(part);
            true
        })?;
        wall += asked.elapsed();
        cpu += cpu_time() - cpu_before;
        firsts.extend(first);
        let mut heard = Vec::new();
        for part in parts {
            sound += f64::from(part.seconds());
            heard.extend(part.telephone().samples);
        }
        let audio = Utterance::from_telephone(&telephone_channel(&heard, Codec::Pcma));
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
        let found = recognizer.recognize(&audio, &options)?;
        if std::env::var_os("SHOW").is_some() {
            println!("  {voice}: {sentence} -> {}", found.text);
        }
        errors.add(sentence, &found.text, language);
    }
    let factor = cpu.as_secs_f64() / f64::max(sound, 0.001);
    tell(&format!(
        "| {voice} | {sound:.0} | {factor:.2} | {:.2} | {:.0}, {:.0} | {} | {:.0} |",
        wall.as_secs_f64() / f64::max(sound, 0.001),
        percentile(&firsts, 50).unwrap_or(f64::NAN),
        percentile(&firsts, 100).unwrap_or(f64::NAN),
        errors,
        resident_mb()
    ));
    Ok((factor, firsts))
}

/// Memory of this process that is in use, in MB.
fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).map_or(0.0, |kb| kb / 1_024.0)
}
