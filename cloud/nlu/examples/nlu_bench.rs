//! Measures accuracy, out-of-scope detection, latency and memory on public data sets.
//!
//! `cargo run -p trunkline-nlu --example nlu_bench -- [TASK…] [--noise] [--limit N]` with tasks
//! `banking10 clinc10 hwu10 banking clinc hwu speed` (all but the full ones by default). The data is read
//! from `$TRUNKLINE_DATA`, else from `../shared/data` beside the workspace; nothing is downloaded.
//! It prints the rows of the tables in `BENCHMARKS.md`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use trunkline_nlu::encoder::MODEL_FILE;
use trunkline_nlu::{Classifier, ClassifierOptions, Decision, Encoder, IntentExamples, Locale};

/// Threads used where the table says two cores.
const THREADS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let noise = arguments.iter().any(|a| a == "--noise");
    let limit = arguments
        .iter()
        .position(|a| a == "--limit")
        .and_then(|at| arguments.get(at + 1)?.parse().ok())
        .unwrap_or(usize::MAX);
    let mut tasks: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|a| a.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect();
    if tasks.is_empty() {
        tasks = vec!["speed", "banking10", "hwu10", "clinc10"];
    }
    let data = data_dir().join("nlu/fewshot");
    if !data.exists() {
        println!("skipped: no data at {}; set TRUNKLINE_DATA", data.display());
        return Ok(());
    }
    let before = memory_mb();
    let started = Instant::now();
    let encoder = Encoder::open(&model_dir().join(MODEL_FILE))?;
    println!(
        "encoder loaded in {} ms; {:.0} MB resident before, {:.0} MB after",
        started.elapsed().as_millis(),
        before,
        memory_mb()
    );
    for task in tasks {
        let (set, shots) = match task {
            "speed" => {
                speed(&encoder);
                continue;
            }
            "banking10" => ("BANKING77", "train_10"),
            "banking" => ("BANKING77", "train"),
            "clinc10" => ("CLINC150", "train_10"),
            "clinc" => ("CLINC150", "train"),
            "hwu10" => ("HWU64", "train_10"),
            "hwu" => ("HWU64", "train"),
            other => return Err(format!("there is no task `{other}`").into()),
        };
        measure(&encoder, &data.join(set), task, shots, noise, limit)?;
    }
    println!("peak {:.0} MB resident", peak_mb());
    Ok(())
}

fn measure(
    encoder: &Encoder,
    folder: &Path,
    task: &str,
    shots: &str,
    noise: bool,
    limit: usize,
) -> Result<(), Box<dyn Error>> {
    let options = ClassifierOptions {
        universal: false,
        threshold: 0.0,
        margin: 0.0,
        likeness: -1.0,
        ..ClassifierOptions::default()
    };
    let mut intents: Vec<IntentExamples> = Vec::new();
    for (text, label) in read(&folder.join(shots))? {
        match intents.iter_mut().find(|intent| intent.name == label) {
            Some(intent) => intent.examples.push(text),
            None => intents.push(IntentExamples { name: label, examples: vec![text] }),
        }
    }
    let mut test = read(&folder.join("test"))?;
    // Every so many, so that all intents are still there.
    let step = test.len().div_ceil(limit.max(1)).max(1);
    test = test.into_iter().step_by(step).collect();
    let mut random = Random(0x1234_5678_9abc_def1);
    if noise {
        for (text, _) in &mut test {
            *text = misheard(text, &mut random);
        }
    }
    for (layer, encoder) in [("floor", None), ("encoder", Some(encoder))] {
        let started = Instant::now();
        let classifier = Classifier::train(encoder, &intents, Locale::En, options);
        let trained = started.elapsed();
        let started = Instant::now();
        let decisions = decide(&classifier, &test);
        let per_second = test.len() as f64 / started.elapsed().as_secs_f64();
        let right = decisions
            .iter()
            .zip(&test)
            .filter(|(decision, (_, label))| decision.intent.as_ref() == Some(label))
            .count();
        println!(
            "{task} {layer}: {:.1} % of {} right{}; trained in {:.1} s, {per_second:.0}/s",
            100.0 * right as f64 / test.len() as f64,
            test.len(),
            if noise { " misheard" } else { "" },
            trained.as_secs_f64(),
        );
        let outside = folder.join("oos/test");
        if outside.exists() {
            let outside = read(&outside)?;
            let outside = decide(&classifier, &outside);
            for (name, score) in SCORES {
                let mut inside: Vec<f32> = decisions.iter().map(score).collect();
                inside.sort_by(f32::total_cmp);
                let bar = inside[inside.len() / 10];
                let caught = outside.iter().filter(|decision| score(decision) < bar).count();
                println!(
                    "{task} {layer}: {:.1} % of {} out-of-scope turns caught at 10 % of in-scope \
                     ones rejected, by {name} below {bar:.3}",
                    100.0 * caught as f64 / outside.len() as f64,
                    outside.len(),
                );
            }
        }
    }
    Ok(())
}

type Score = (&'static str, fn(&Decision) -> f32);

/// What a turn may be judged by when it is asked whether it is in scope.
const SCORES: [Score; 3] = [
    ("score", |decision| decision.score),
    ("likeness", |decision| decision.likeness),
    ("both", |decision| decision.score.max(1e-6).ln() + 4.0 * decision.likeness),
];

fn decide(classifier: &Classifier, test: &[(String, String)]) -> Vec<Decision> {
    let texts: Vec<&str> = test.iter().map(|(text, _)| text.as_str()).collect();
    classifier.classify_batch(&texts, &[], THREADS)
}

/// Latency of single turns on one thread, and throughput in batches on two.
fn speed(encoder: &Encoder) {
    const TURNS: [&str; 8] = [
        "是的",
        "我下周五之前把钱还上",
        "你好我现在在开会不太方便你晚点再打给我好吗",
        "这个金额不对吧我记得没有这么多啊",
        "yes speaking",
        "could you call me back tomorrow afternoon",
        "I already paid that last week please check your records again",
        "who is this and how did you get my number",
    ];
    let mut times: Vec<f64> = (0..400)
        .map(|n| {
            let started = Instant::now();
            std::hint::black_box(encoder.embed(TURNS[n % TURNS.len()]));
            started.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!(
        "single turn, one thread: median {:.1} ms, p99 {:.1} ms",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
    let batch: Vec<&str> = TURNS.iter().copied().cycle().take(512).collect();
    for threads in [1, THREADS] {
        let started = Instant::now();
        std::hint::black_box(encoder.embed_parallel(&batch, threads));
        println!(
            "batches, {threads} threads: {:.0} turns/s",
            batch.len() as f64 / started.elapsed().as_secs_f64()
        );
    }
}

fn read(folder: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let texts = std::fs::read_to_string(folder.join("seq.in"))?;
    let labels = std::fs::read_to_string(folder.join("label"))?;
    Ok(texts
        .lines()
        .zip(labels.lines())
        .map(|(text, label)| (text.trim().to_owned(), label.trim().to_owned()))
        .collect())
}

/// What a recogniser on a telephone line might make of it: one word in twelve lost, one in twelve
/// followed by a filler, one in twelve cut short, homophones swapped.
fn misheard(text: &str, random: &mut Random) -> String {
    const HOMOPHONES: [(&str, &str); 14] = [
        ("to", "two"),
        ("for", "four"),
        ("their", "there"),
        ("know", "no"),
        ("by", "buy"),
        ("right", "write"),
        ("your", "you're"),
        ("pay", "play"),
        ("card", "car"),
        ("my", "mine"),
        ("it's", "its"),
        ("would", "wood"),
        ("where", "wear"),
        ("new", "knew"),
    ];
    let mut out: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let swapped = HOMOPHONES.iter().find(|(a, _)| *a == word.to_lowercase());
        match random.below(12) {
            0 => {}
            1 => out.extend([word.to_owned(), "uh".to_owned()]),
            2 => out.push(word.chars().take(word.chars().count().max(4) - 2).collect()),
            3..7 => out.push(swapped.map_or(word, |(_, b)| b).to_owned()),
            _ => out.push(word.to_owned()),
        }
    }
    out.join(" ")
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

fn data_dir() -> PathBuf {
    std::env::var_os("TRUNKLINE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from)
}

fn model_dir() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from);
    var("TRUNKLINE_MODELS")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("trunkline/models")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache/trunkline/models")))
        .unwrap_or_default()
}

fn memory_mb() -> f64 {
    status_mb("VmRSS:")
}

fn peak_mb() -> f64 {
    status_mb("VmHWM:")
}

/// A line of Linux's own account of this process.
fn status_mb(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    number.unwrap_or(0.0) / 1024.0
}
