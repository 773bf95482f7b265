//! Measures the voices: real-time factor, first sound and memory, one row per session setting.
//!
//! ```text
//! cargo run -p trunkline-speech --example synth_bench                 the table
//! cargo run -p trunkline-speech --example synth_bench -- say DIR      writes twelve prompts as WAV
//! cargo run -p trunkline-speech --example synth_bench -- read zh TEXT shows how a text is read
//! ```

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use trunkline_speech::ort_rt::{SessionSettings, model_dir};
use trunkline_speech::synth::text::MandarinReader;
use trunkline_speech::synth::{
    Espeak, Kokoro, KokoroSettings, Locale, SAMPLE_RATE, SpeechRequest, Synthesizer, TELEPHONE_RATE,
};

const MANDARIN: [&str; 6] = [
    "您好，这里是智能客服，请问您现在方便接听电话吗？",
    "您的账单金额是一千二百三十四元五角，还款日是十一月二十八号。",
    "请问您需要重新预约送货时间吗？",
    "我们银行的工作时间是周一到周五，上午九点到下午五点。",
    "好的，我已经为您登记了，稍后会有专人与您联系。",
    "感谢您的接听，祝您生活愉快，再见。",
];

const ENGLISH: [&str; 6] = [
    "Hello, this is the service desk. Is this a good time to talk?",
    "Your balance is one thousand two hundred dollars, and the payment is due on Friday.",
    "Would you like to reschedule your delivery for tomorrow morning?",
    "Our office is open from Monday to Friday, nine in the morning to five in the afternoon.",
    "All right, I have made a note of that, and a colleague will call you back.",
    "Thank you for your time. Have a nice day, and goodbye.",
];

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => table(),
        ["say", dir] => say(Path::new(dir)),
        ["say", dir, voice] => say_in(Path::new(dir), voice),
        ["read", locale, text] => read(locale.parse()?, text),
        ["shell", dir] => shell(Path::new(dir)),
        ["pinyin"] => pinyin(),
        _ => Err("usage: synth_bench [say DIR [VOICE] | read LOCALE TEXT | shell DIR | pinyin]".into()),
    }
}

fn requests() -> Vec<SpeechRequest> {
    let zh = MANDARIN.iter().map(|t| SpeechRequest::new(*t, Locale::ZhCn));
    let en = ENGLISH.iter().map(|t| SpeechRequest::new(*t, Locale::EnUs));
    zh.chain(en).collect()
}

fn table() -> Result<(), Box<dyn Error>> {
    let base = SessionSettings::default();
    let settings = [
        ("1 thread", base),
        ("1 thread, no memory pattern", SessionSettings { memory_pattern: false, ..base }),
        ("1 thread, no arena", SessionSettings { arena: false, memory_pattern: false, ..base }),
        ("2 threads", SessionSettings { intra_threads: 2, ..base }),
        ("2 threads, spinning", SessionSettings { intra_threads: 2, spin: true, ..base }),
    ];
    println!(
        "| kokoro int8 | open s | sound s | wall RTF | CPU RTF | first sound ms (mean, worst) | resident MB |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let only = std::env::var("ROWS").ok().and_then(|n| n.parse().ok()).unwrap_or(settings.len());
    for (name, session) in settings.into_iter().take(only) {
        let opened = Instant::now();
        let kokoro = Kokoro::open(&model_dir(), KokoroSettings { session, sessions: 1 })?;
        let open = opened.elapsed().as_secs_f32();
        row(name, open, &kokoro)?;
    }
    if let Some(espeak) = Espeak::find() {
        row("espeak-ng, the fallback", 0.0, &espeak)?;
    }
    Ok(())
}

fn row(name: &str, open: f32, voice: &dyn Synthesizer) -> Result<(), Box<dyn Error>> {
    // The first run sizes buffers and is not counted.
    voice.synthesize(&SpeechRequest::new("您好，请稍等。", Locale::ZhCn))?;
    let (mut sound, mut first_sum, mut first_worst) = (0.0f32, 0.0f32, 0.0f32);
    let cpu = cpu_seconds();
    let started = Instant::now();
    let requests = requests();
    for req in &requests {
        let asked = Instant::now();
        let mut first = None;
        voice.stream(req, &mut |part| {
            first.get_or_insert_with(|| asked.elapsed().as_secs_f32() * 1000.0);
            sound += part.seconds();
            true
        })?;
        let first = first.unwrap_or_default();
        first_sum += first;
        first_worst = first_worst.max(first);
    }
    let wall = started.elapsed().as_secs_f32();
    let cpu = cpu_seconds() - cpu;
    println!(
        "| {name} | {open:.1} | {sound:.1} | {:.2} | {:.2} | {:.0}, {first_worst:.0} | {:.0} |",
        wall / sound,
        cpu / sound,
        first_sum / requests.len() as f32,
        resident_mb(),
    );
    Ok(())
}

fn say(dir: &Path) -> Result<(), Box<dyn Error>> {
    write_all(dir, requests())
}

fn say_in(dir: &Path, voice: &str) -> Result<(), Box<dyn Error>> {
    let mandarin = voice.starts_with('z');
    let requests = requests()
        .into_iter()
        .filter(|r| (r.locale == Locale::ZhCn) == mandarin)
        .map(|r| r.with_voice(voice))
        .collect();
    write_all(dir, requests)
}

fn write_all(dir: &Path, requests: Vec<SpeechRequest>) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let kokoro = Kokoro::open(&model_dir(), KokoroSettings::default())?;
    for (i, req) in requests.iter().enumerate() {
        write(&kokoro, req, &dir.join(format!("{:02}-{}-{}.wav", i + 1, req.locale, req.voice)))?;
    }
    Ok(())
}

/// Says each line of standard input (`LOCALE VOICE TEXT`) into `DIR/NNN.wav`.
fn shell(dir: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(dir)?;
    let kokoro = Kokoro::open(&model_dir(), KokoroSettings::default())?;
    for (i, line) in std::io::stdin().lines().enumerate() {
        let line = line?;
        let mut parts = line.splitn(3, ' ');
        let (Some(locale), Some(voice), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let req = SpeechRequest::new(text, locale.parse()?).with_voice(voice);
        write(&kokoro, &req, &dir.join(format!("{:03}.wav", i + 1)))?;
    }
    Ok(())
}

/// Reads each line of standard input, Han characters only, as pinyin.
fn pinyin() -> Result<(), Box<dyn Error>> {
    let reader = MandarinReader::new();
    for line in std::io::stdin().lines() {
        println!("{}", reader.pinyin(line?.trim()));
    }
    Ok(())
}

fn write(kokoro: &Kokoro, req: &SpeechRequest, path: &Path) -> Result<(), Box<dyn Error>> {
    let speech = kokoro.synthesize(req)?;
    let phone = speech.telephone();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: TELEPHONE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut wav = hound::WavWriter::create(path, spec)?;
    for sample in phone.samples {
        wav.write_sample(sample)?;
    }
    wav.finalize()?;
    println!("{}\t{:.1} s at {SAMPLE_RATE}\t{}", path.display(), speech.seconds(), req.text);
    Ok(())
}

fn read(locale: Locale, text: &str) -> Result<(), Box<dyn Error>> {
    let kokoro = Kokoro::open(&model_dir(), KokoroSettings::default())?;
    for clause in kokoro.clauses(&SpeechRequest::new(text, locale)) {
        println!("{}\t{}\t{:?}", clause.text, clause.phonemes, clause.pause);
    }
    Ok(())
}

/// User and system time of this process, from `/proc/self/stat`, in ticks of 10 ms.
fn cpu_seconds() -> f32 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<f32> = after.split_whitespace().map(|f| f.parse().unwrap_or_default()).collect();
    fields.get(11).zip(fields.get(12)).map_or(0.0, |(user, system)| (user + system) / 100.0)
}

/// Memory in use, from `/proc/self/status`.
fn resident_mb() -> f32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).map_or(0.0, |kb: f32| kb / 1024.0)
}
