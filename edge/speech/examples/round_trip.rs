//! Does a recogniser understand our voices over the telephone? Error rate per voice.
//!
//! Each sentence is synthesised, sent through 300 to 3400 Hz and A-law, and heard by whisper base.
//! Both texts are written out as they are said before they are compared, by characters in Mandarin
//! and by words in English.
//!
//! ```text
//! cargo run -p trunkline-speech --example round_trip               the robot's and the callee's voices
//! cargo run -p trunkline-speech --example round_trip -- zm_yunjian these voices
//! ```

use std::error::Error;

use trunkline_audio::Codec;
use trunkline_audio::channel::telephone_channel;
use trunkline_speech::ort_rt::model_dir;
use trunkline_speech::recognise::{
    Language, RecognizeOptions, Recognizer, Utterance, Whisper, WhisperConfig,
};
use trunkline_speech::synth::text::written_out;
use trunkline_speech::synth::{Espeak, Kokoro, KokoroSettings, Locale, SpeechRequest, Synthesizer};

const VOICES: [&str; 6] = ["zf_xiaoxiao", "zm_yunxi", "zf_xiaoyi", "af_heart", "am_michael", "bf_emma"];

const MANDARIN: [&str; 6] = [
    "您好，这里是智能客服，请问您现在方便接听电话吗？",
    "您本月的账单金额是1234元，还款日是11月28号。",
    "请问您需要重新预约送货时间吗？",
    "我们银行的工作时间是周一到周五，上午九点到下午五点。",
    "好的，我已经为您登记了，稍后会有专人与您联系。",
    "感谢您的接听，祝您生活愉快，再见。",
];

const ENGLISH: [&str; 6] = [
    "Hello, this is the service desk. Is this a good time to talk?",
    "Your balance is $1,234, and the payment is due on November 28.",
    "Would you like to reschedule your delivery for tomorrow morning?",
    "Our office is open from Monday to Friday, nine in the morning to five in the afternoon.",
    "All right, I have made a note of that, and a colleague will call you back.",
    "Thank you for your time. Have a nice day, and goodbye.",
];

fn main() -> Result<(), Box<dyn Error>> {
    let kokoro = Kokoro::open(&model_dir(), KokoroSettings::default())?;
    let whisper = Whisper::load(
        &model_dir().join("whisper-base-q8_0.bin"),
        WhisperConfig { states: 1, ..WhisperConfig::default() },
    )?;
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let voices: Vec<&str> =
        if asked.is_empty() { VOICES.to_vec() } else { asked.iter().map(String::as_str).collect() };
    println!("| voice | sentences | units | errors | rate |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for voice in voices {
        row(voice, locale_of(voice), &kokoro, &whisper)?;
    }
    if let Some(espeak) = Espeak::find().filter(|_| asked.is_empty()) {
        row("espeak-ng cmn", Locale::ZhCn, &espeak, &whisper)?;
        row("espeak-ng en-us", Locale::EnUs, &espeak, &whisper)?;
    }
    Ok(())
}

fn locale_of(voice: &str) -> Locale {
    match voice.chars().next() {
        Some('z') => Locale::ZhCn,
        Some('b') => Locale::EnGb,
        _ => Locale::EnUs,
    }
}

fn row(
    voice: &str,
    locale: Locale,
    synthesizer: &dyn Synthesizer,
    whisper: &Whisper,
) -> Result<(), Box<dyn Error>> {
    let (sentences, language) = match locale {
        Locale::ZhCn => (MANDARIN, Language::ZH),
        Locale::EnUs | Locale::EnGb => (ENGLISH, Language::EN),
    };
    let (mut units_total, mut errors_total) = (0, 0);
    for sentence in sentences {
        let request = SpeechRequest::new(sentence, locale).with_voice(voice);
        let speech = synthesizer.synthesize(&request)?.telephone();
        let heard = telephone_channel(&speech.samples, Codec::Pcma);
        let transcript =
            whisper.recognize(&Utterance::from_telephone(&heard), &RecognizeOptions::new(language))?;
        let said = units(sentence, locale);
        let errors = distance(&said, &units(&transcript.text, locale));
        if errors > 0 {
            eprintln!("{voice}: {sentence}\n{}  heard: {}", " ".repeat(voice.len()), transcript.text);
        }
        units_total += said.len();
        errors_total += errors;
    }
    let rate = 100.0 * errors_total as f32 / units_total as f32;
    println!("| {voice} | {} | {units_total} | {errors_total} | {rate:.1} % |", sentences.len());
    Ok(())
}

/// Characters of Mandarin or words of English, as said, without punctuation.
fn units(text: &str, locale: Locale) -> Vec<String> {
    let said = written_out(text, locale).to_lowercase();
    match locale {
        Locale::ZhCn => said.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_string()).collect(),
        Locale::EnUs | Locale::EnGb => said
            .split(|c: char| !c.is_alphanumeric() && c != '\'')
            .filter(|w| !w.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

/// Edit distance.
fn distance(a: &[String], b: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
