//! Scripts as files: lint, test, show, diff, render, import, replay, inspect, all without a server; and publish.
//!
//! Exit status: 0 when all is well, 1 when the answer is "no" (errors found, tests failed, versions differ),
//! 2 when there is no answer because a file cannot be read.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use serde_json::json;
use trunkline_dialogue::{Entity, Finding, Heard, LoadError, Script, lint, lint_under, testing};
use trunkline_nlu::Engine;
use trunkline_policy::Packs;
use trunkline_speech::ort_rt::model_dir;
use trunkline_wire::CallRecord;

use self::replay::Replay;
use crate::boxes::Cloud;

mod publish;
mod replay;

#[derive(Subcommand)]
#[command(
    after_help = "Exit status: 0 all is well; 1 errors were found, tests failed or versions differ; 2 a file \
                        cannot be read or used. A file named - is the standard input."
)]
pub(crate) enum Command {
    /// Says what is wrong with a script, where, and what to do about it.
    #[command(
        after_help = "Examples:\n  trunkctl script lint shared/scripts/*.yaml\n  trunkctl script lint \
                            --strict reminder.yaml\n  trunkctl script lint --json reminder.yaml | jq \
                            '.[].findings[] | select(.severity == \"error\")'"
    )]
    Lint {
        /// Script files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print JSON: a list of files with their findings.
        #[arg(long)]
        json: bool,
        /// Warnings refuse a script too.
        #[arg(long)]
        strict: bool,
        /// Also say what this policy pack of the build does not permit, such as `eu`.
        #[arg(long)]
        pack: Option<String>,
    },
    /// Runs the tests inside a script with the intents that they state.
    #[command(
        after_help = "Examples:\n  trunkctl script test shared/scripts/*.yaml\n  trunkctl script test \
                            --transcript reminder.yaml\n  trunkctl script test --understand reminder.yaml"
    )]
    Test {
        /// Script files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print JSON: a list of files with their tests.
        #[arg(long)]
        json: bool,
        /// Print the conversation of each test, not only of those that failed.
        #[arg(long)]
        transcript: bool,
        /// Understand the words as the cloud does, with the models that are installed, instead of taking the
        /// intents and values that the tests state; what is understood must agree with them.
        #[arg(long)]
        understand: bool,
        /// The customer's day and time, for words such as "next Friday" with --understand.
        #[arg(long, default_value = "2026-11-22T10:00:00", requires = "understand")]
        now: jiff::civil::DateTime,
    },
    /// Prints what a script is made of.
    #[command(
        after_help = "Examples:\n  trunkctl script show reminder.yaml\n  trunkctl script show --canonical \
                            reminder.yaml | sha256sum"
    )]
    Show {
        /// A script file.
        file: PathBuf,
        /// Print JSON.
        #[arg(long, conflicts_with = "canonical")]
        json: bool,
        /// Print the canonical form, whose SHA-256 is the version.
        #[arg(long)]
        canonical: bool,
    },
    /// Compares two versions by node, not by line.
    #[command(after_help = "Examples:\n  trunkctl script diff old.yaml new.yaml\n  git show \
                            main:shared/scripts/a.yaml | trunkctl script diff - shared/scripts/a.yaml")]
    Diff {
        /// The older version.
        before: PathBuf,
        /// The newer version.
        after: PathBuf,
        /// Print JSON: a list of changes.
        #[arg(long)]
        json: bool,
    },
    /// Prints everything that the robot may say, as Markdown for legal review.
    #[command(
        after_help = "Examples:\n  trunkctl script render reminder.yaml > review.md\n  trunkctl script \
                            render --json reminder.yaml | jq -r '.[].text'"
    )]
    Render {
        /// A script file.
        file: PathBuf,
        /// Print JSON: a list of texts with the values that each speaks.
        #[arg(long)]
        json: bool,
    },
    /// Makes a first script of a wording table (CSV: node, wording, answers, next).
    #[command(after_help = "Examples:\n  trunkctl script import wording.csv --id delivery-zh --out \
                            delivery-zh.yaml\n\nThe table has a title row (node, wording, answers, next; or 节点, \
                            话术, 回答, 下一步) and a row for each answer; answers are separated by | ; / or 、. What \
                            is still to do is printed behind it.")]
    Import {
        /// The table, as CSV in UTF-8.
        table: PathBuf,
        /// The script's name; the file's name when it is left out.
        #[arg(long)]
        id: Option<String>,
        /// Where to write the script; the standard output when it is left out.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Publishes scripts on a cloud: from then on new calls get them.
    #[command(
        after_help = "Examples:\n  trunkctl script publish reminder.yaml\n  trunkctl script publish --dir ./dev --api \
                            https://cloud.example:8443 shared/scripts/*.yaml\n\nThe cloud's linter decides; with an \
                            error nothing is stored. A script that new calls get already stays as it is."
    )]
    Publish {
        #[command(flatten)]
        cloud: Cloud,
        /// Script files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Puts the turns of stored calls to a draft, and prints those that it decides otherwise.
    #[command(
        after_help = "Examples:\n  trunkctl script replay --script draft.yaml --calls calls.jsonl\n\nA line of \
                            the file is a call record, as the API gives it. The stored understanding is used, \
                            and the script's example variables."
    )]
    Replay {
        /// The draft.
        #[arg(long)]
        script: PathBuf,
        /// Call records, one a line.
        #[arg(long)]
        calls: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Inspects finished calls by rules: silence, talk-over, disclosure, opt-outs, dead ends, and a score.
    #[command(
        after_help = "Examples:\n  trunkctl script inspect --script reminder.yaml --calls calls.jsonl\n  \
                            trunkctl script inspect --script reminder.yaml --calls calls.jsonl --forbidden words.txt \
                            --json\n\nA line of the file is a call record, as the API gives it. Exit status 1 when \
                            a call has a critical remark."
    )]
    Inspect {
        /// The script that the calls spoke.
        #[arg(long)]
        script: PathBuf,
        /// Call records, one a line.
        #[arg(long)]
        calls: PathBuf,
        /// Words that a robot may not say, one a line.
        #[arg(long)]
        forbidden: Option<PathBuf>,
        /// The share of calls without a critical remark that a person should listen to.
        #[arg(long, default_value_t = 0.02)]
        sample: f64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints the JSON Schema of the format, for editors.
    Schema,
}

/// Runs a command and says how it went.
pub(crate) fn run(command: Command) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let done = match command {
        Command::Lint { files, json, strict, pack } => lint_files(&files, json, strict, pack.as_deref()),
        Command::Test { files, json, transcript, understand, now } => {
            test_files(&files, json, transcript, understand.then_some(now))
        }
        Command::Show { file, json, canonical } => show(&file, json, canonical),
        Command::Diff { before, after, json } => diff(&before, &after, json),
        Command::Render { file, json } => render(&file, json),
        Command::Import { table, id, out } => import(&table, id, out.as_deref()),
        Command::Publish { cloud, files } => publish::publish(&cloud, &files),
        Command::Replay { script, calls, json } => replay(&script, &calls, json),
        Command::Inspect { script, calls, forbidden, sample, json } => {
            inspect(&script, &calls, forbidden.as_deref(), sample, json)
        }
        Command::Schema => pretty(&trunkline_dialogue::schema()).map(Answer::good),
    };
    let (page, good) = match done {
        Ok(Answer { page, good }) => (page, good),
        Err(error) => {
            eprintln!("trunkctl: {error:#}");
            return ExitCode::from(2);
        }
    };
    match out.write_all(page.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) if good => ExitCode::SUCCESS,
        Ok(()) => ExitCode::from(1),
        // Whoever reads has read enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trunkctl: cannot write: {error}");
            ExitCode::from(2)
        }
    }
}

/// What a command prints, and whether all is well.
struct Answer {
    page: String,
    good: bool,
}

impl Answer {
    fn good(page: String) -> Self {
        Self { page, good: true }
    }
}

fn pretty(value: &impl serde::Serialize) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value)?))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        // A little more than is allowed, so that too much is told from just enough.
        let limit = trunkline_dialogue::MAX_BYTES as u64 + 1;
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .context("cannot read the standard input")?;
        return Ok(bytes);
    }
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Opens a file of any length, to be read line by line.
fn lines_of(file: &Path) -> Result<Box<dyn BufRead>> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let opened = fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Box::new(BufReader::new(opened)))
}

fn load(file: &Path) -> Result<Script> {
    Script::load_bytes(&read(file)?).map_err(|error| {
        let lines: Vec<String> = error.findings().iter().map(|f| format!("{}:{f}", file.display())).collect();
        anyhow!("{} cannot be used:\n{}", file.display(), lines.join("\n"))
    })
}

fn findings(bytes: &[u8]) -> Vec<Finding> {
    match std::str::from_utf8(bytes) {
        Ok(text) => lint(text).unwrap_or_else(|error| error.findings()),
        Err(_) => Script::load_bytes(bytes).err().as_ref().map(LoadError::findings).unwrap_or_default(),
    }
}

fn lint_files(files: &[PathBuf], as_json: bool, strict: bool, pack: Option<&str>) -> Result<Answer> {
    let packs = Packs::shipped()?;
    let pack = pack.map(|id| {
        let known = || packs.all().map(|pack| pack.id.as_str()).collect::<Vec<_>>().join(", ");
        packs.get(id).with_context(|| format!("there is no pack `{id}`; known are {}", known()))
    });
    let pack = pack.transpose()?;
    let (mut page, mut list, mut refused) = (String::new(), Vec::new(), 0);
    for file in files {
        let text = read(file)?;
        let mut found = findings(&text);
        if let Some(Ok(under)) =
            pack.zip(str::from_utf8(&text).ok()).map(|(pack, text)| lint_under(text, pack))
        {
            found = under;
        }
        let errors = found.iter().filter(|f| f.is_error()).count();
        let wrong = errors > 0 || (strict && !found.is_empty());
        refused += usize::from(wrong);
        for finding in &found {
            page.push_str(&format!("{}:{finding}\n", file.display()));
        }
        let verdict = if wrong { "refused" } else { "fine" };
        let warnings = found.len() - errors;
        page.push_str(&format!("{}: {verdict}, {errors} errors, {warnings} warnings\n", file.display()));
        list.push(json!({
            "file": file,
            "refused": wrong,
            "findings": found.iter().map(Finding::to_json).collect::<Vec<_>>(),
        }));
    }
    Ok(Answer { page: if as_json { pretty(&list)? } else { page }, good: refused == 0 })
}

fn test_files(
    files: &[PathBuf],
    as_json: bool,
    transcript: bool,
    understood_at: Option<jiff::civil::DateTime>,
) -> Result<Answer> {
    let (mut page, mut list, mut failed, mut passed) = (String::new(), Vec::new(), 0, 0);
    let engine = match understood_at {
        Some(_) => Some(Engine::load(&model_dir()).context("the models cannot be loaded")?),
        None => None,
    };
    for file in files {
        let script = load(file)?;
        let results = match (&engine, understood_at) {
            (Some(engine), Some(now)) => understood(engine, &script, now)?,
            _ => testing::run_given(&script),
        };
        for result in &results {
            let verdict = if result.passed() { "ok  " } else { "FAIL" };
            page.push_str(&format!("{}: {verdict} {}\n", file.display(), result.name));
            if result.passed() {
                passed += 1;
            } else {
                failed += 1;
            }
            if transcript || !result.passed() {
                for line in &result.transcript {
                    page.push_str(&format!("    {line}\n"));
                }
            }
            for failure in &result.failures {
                page.push_str(&format!("    wrong: {failure}\n"));
            }
        }
        let tests: Vec<_> = results
            .iter()
            .map(|r| {
                json!({
                    "name": r.name,
                    "passed": r.passed(),
                    "failures": r.failures,
                    "transcript": r.transcript,
                })
            })
            .collect();
        list.push(json!({ "file": file, "tests": tests }));
    }
    page.push_str(&format!("{passed} passed, {failed} failed\n"));
    Ok(Answer { page: if as_json { pretty(&list)? } else { page }, good: failed == 0 })
}

/// Runs the tests of a script on the cloud's own understanding.
fn understood(
    engine: &Engine,
    script: &Script,
    now: jiff::civil::DateTime,
) -> Result<Vec<testing::TestResult>> {
    let version = script.version().as_str();
    trunkline_turn::prepare(engine, script)?;
    let understand = |text: &str, expected: &[String]| {
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        // The version was prepared just now, so nothing is left that could fail.
        let Ok(found) = engine.understand(version, text, &expected, now) else { return Heard::default() };
        let entities = found.entities.iter().map(|e| Entity {
            kind: e.kind.as_str().to_owned(),
            value: e.value.normalised(),
            text: e.text.clone(),
        });
        Heard {
            text: text.to_owned(),
            intent: found.decision.intent,
            score: found.decision.score,
            entities: entities.collect(),
            sentiment: found.sentiment,
            arousal: None,
        }
    };
    Ok(testing::run(script, &understand))
}

fn show(file: &Path, as_json: bool, canonical: bool) -> Result<Answer> {
    let script = load(file)?;
    let document = script.document();
    if canonical {
        return Ok(Answer::good(script.canonical().to_owned()));
    }
    let mut names: Vec<(&str, Vec<String>)> = vec![
        ("variables", document.vars.keys().cloned().collect()),
        ("slots", document.slots.keys().cloned().collect()),
        ("entities", document.entities.keys().cloned().collect()),
        ("intents", document.intents.keys().cloned().collect()),
        ("experiments", document.experiments.keys().cloned().collect()),
        ("nodes", document.nodes.iter().map(|node| node.id.to_string()).collect()),
        ("digressions", document.digressions.iter().map(|d| d.on.to_string()).collect()),
        ("outcomes", document.outcomes.iter().map(|rule| rule.code.to_string()).collect()),
        ("tests", document.tests.iter().map(|test| test.name.clone()).collect()),
    ];
    names.retain(|(_, list)| !list.is_empty());
    if as_json {
        let mut value = json!({
            "id": script.id().to_string(),
            "version": script.version().to_string(),
            "title": document.title,
            "locale": script.locale(),
            "purpose": *document.purpose,
            "voice": document.voice,
        });
        for (name, list) in names {
            value[name] = json!(list);
        }
        return pretty(&value).map(Answer::good);
    }
    let mut page = format!("{} {}\n", script.id(), script.version());
    if let Some(title) = &document.title {
        page.push_str(&format!("{title}\n"));
    }
    page.push_str(&format!("{:<12} {}, voice {}\n", "language", script.locale(), document.voice.name));
    for (name, list) in names {
        page.push_str(&format!("{name:<12} {} ({})\n", list.join(", "), list.len()));
    }
    Ok(Answer::good(page))
}

fn diff(before: &Path, after: &Path, as_json: bool) -> Result<Answer> {
    let (before, after) = (load(before)?, load(after)?);
    let changes = trunkline_dialogue::diff(&before, &after);
    let page = if as_json {
        pretty(&changes)?
    } else {
        let lines: Vec<String> = changes.iter().map(|change| format!("{change}\n")).collect();
        lines.concat()
    };
    Ok(Answer { page, good: changes.is_empty() })
}

fn render(file: &Path, as_json: bool) -> Result<Answer> {
    let script = load(file)?;
    let page = if as_json {
        pretty(&trunkline_dialogue::spoken(&script))?
    } else {
        trunkline_dialogue::render(&script)
    };
    Ok(Answer::good(page))
}

fn replay(draft: &Path, calls: &Path, as_json: bool) -> Result<Answer> {
    let draft = load(draft)?;
    let replay = Replay::read(&draft, lines_of(calls)?).with_context(|| calls.display().to_string())?;
    let page = if as_json { pretty(&replay)? } else { replay.page() };
    Ok(Answer { page, good: replay.differences.is_empty() })
}

fn inspect(
    script: &Path,
    calls: &Path,
    forbidden: Option<&Path>,
    sample: f64,
    as_json: bool,
) -> Result<Answer> {
    let script = load(script)?;
    let mut rules = trunkline_quality::Rules::default();
    if let Some(file) = forbidden {
        let words = String::from_utf8(read(file)?).context("the list of words is not UTF-8")?;
        let words = words.lines().map(|word| word.trim().to_lowercase());
        rules.forbidden = words.filter(|word| !word.is_empty()).collect();
    }
    let (mut page, mut list, mut critical, mut total, mut picked) = (String::new(), Vec::new(), 0, 0, 0);
    for (number, line) in (1_usize..).zip(lines_of(calls)?.lines()) {
        let line = line.with_context(|| format!("{}: line {number} cannot be read", calls.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        let record: CallRecord = serde_json::from_str(&line)
            .with_context(|| format!("{}: line {number} is no call record", calls.display()))?;
        let found = trunkline_quality::inspect(&record, &script, &rules);
        let listen = trunkline_quality::chosen(record.call, &found, sample);
        total += 1;
        picked += usize::from(listen);
        critical +=
            usize::from(found.remarks.iter().any(|r| r.severity == trunkline_quality::Severity::Critical));
        page.push_str(&format!(
            "{} score {:>3}  {:.0} s, {:.0} % silence, longest wait {:.1} s{}\n",
            record.call,
            found.score,
            found.seconds,
            found.silence_share * 100.0,
            found.longest_wait_s,
            if listen { ", listen to it" } else { "" }
        ));
        for remark in &found.remarks {
            let turn = remark.turn.map(|turn| format!(" in turn {turn}")).unwrap_or_default();
            page.push_str(&format!("    {:?} {}{turn}: {}\n", remark.severity, remark.rule, remark.what));
        }
        list.push(json!({ "call": record.call.to_string(), "listen": listen, "inspection": found }));
    }
    page.push_str(&format!("{total} calls, {critical} with a critical remark, {picked} to listen to\n"));
    Ok(Answer { page: if as_json { pretty(&list)? } else { page }, good: critical == 0 })
}

fn import(table: &Path, id: Option<String>, out: Option<&Path>) -> Result<Answer> {
    let bytes = read(table)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| anyhow!("{} is not UTF-8; save the table as CSV in UTF-8", table.display()))?;
    let stem = table.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let id = id.unwrap_or_else(|| stem.chars().map(|c| if plain(c) { c } else { '-' }).collect());
    let imported = trunkline_dialogue::import(&text, &id).with_context(|| table.display().to_string())?;
    let found = findings(imported.yaml.as_bytes());
    for remark in &imported.remarks {
        eprintln!("note: {remark}");
    }
    for finding in &found {
        eprintln!("to do: {finding}");
    }
    let page = match out {
        None => imported.yaml,
        Some(path) => {
            let mut options = fs::OpenOptions::new();
            let file = options.write(true).create_new(true).open(path);
            file.and_then(|mut file| file.write_all(imported.yaml.as_bytes()))
                .with_context(|| format!("cannot write {} (an existing file is kept)", path.display()))?;
            format!("{}: written, {} things to do\n", path.display(), found.len())
        }
    };
    Ok(Answer::good(page))
}
