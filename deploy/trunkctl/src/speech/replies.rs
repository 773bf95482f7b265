//! Reply latency and capacity, as tables.

use std::time::Duration;

use anyhow::{Result, bail};
use trunkline_speech::ear::Endpoint;
use trunkline_speech::recognise::Language;

use super::carry::{self, Measured, Models, World};
use super::sound::{Clip, Spoken};
use super::{Kind, Lang, Options, Report};

/// The promise: an answer within this.
const PROMISED_MS: f64 = 800.0;

fn world(options: &Options) -> World {
    World {
        cloud: Duration::from_millis(options.cloud),
        jitter: Duration::from_millis(options.jitter),
        prompt: Duration::from_millis(options.prompt),
        endpoint: match options.expect {
            Kind::Short => Endpoint::Short,
            Kind::Normal => Endpoint::Normal,
            Kind::Long => Endpoint::Long,
        },
        eager: !options.patient,
    }
}

/// Real speech of the language that is about as long as answers are.
pub(super) fn callers(clips: &[Clip], options: &Options) -> Result<Vec<Spoken>> {
    let language = match options.lang {
        Lang::Zh => "zh",
        Lang::En => "en",
    };
    let mut callers = Vec::new();
    for clip in clips {
        let fits = clip.language == language && (clip.kind == "asr" || clip.path.contains("/complete/"));
        if !fits {
            continue;
        }
        let sound = clip.telephone()?;
        if let Some(spoken) = Spoken::new(sound, &format!("{language} {}", clip.kind))
            && spoken.speech_end < 8_000 * 6
        {
            callers.push(spoken);
        }
    }
    if callers.is_empty() {
        bail!("{} holds no speech in `{language}` of up to six seconds", options.data.display());
    }
    Ok(dealt(callers))
}

/// Puts them in an order of which any beginning is spread evenly over the whole, so that a short run hears all
/// speakers and not the first folder.
fn dealt<T>(all: Vec<T>) -> Vec<T> {
    let mut order: Vec<(u64, T)> =
        all.into_iter().zip(1u64..).map(|(one, n)| (n.wrapping_mul(GOLDEN), one)).collect();
    order.sort_by_key(|(place, _)| *place);
    order.into_iter().map(|(_, one)| one).collect()
}

/// 2^64 over the golden ratio: its multiples fall evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn language(options: &Options) -> Language {
    match options.lang {
        Lang::Zh => Language::ZH,
        Lang::En => Language::EN,
    }
}

pub(super) fn latency(
    report: &mut Report,
    models: &Models,
    callers: &[Spoken],
    options: &Options,
) -> Result<()> {
    report.line(&format!(
        "\n## Reply latency, one call\n\nReal recordings as the caller ({}), {} ms to the cloud and back, jitter buffer {} ms, ms after the last sound of speech:\n",
        carry::kinds(callers),
        options.cloud,
        options.jitter
    ));
    let length = Duration::from_secs(options.seconds * 3);
    let found = carry::measure(models, callers, language(options), 1, length, world(options))?;
    report.line("| stage | median | p95 |\n| --- | ---: | ---: |");
    type Stage = fn(&carry::Waterfall) -> f64;
    let stages: [(&str, Stage); 6] = [
        ("pause seen, recogniser starts", |w| w.seen),
        ("end-of-turn model", |w| w.judged),
        ("recognised", |w| w.recognised),
        ("cloud answered", |w| w.replied),
        ("silence long enough, turn over", |w| w.over),
        ("**reply**", |w| w.answered),
    ];
    for (name, of) in stages {
        let figure = |percent| found.percentile(percent, of).map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        report.line(&format!("| {name} | {} | {} |", figure(50), figure(95)));
    }
    report.line(&format!("\n{}", summary(&found)));
    let reply = |percent| found.percentile(percent, |w| w.answered).unwrap_or(f64::NAN);
    report.conclude(format!(
        "Reply, one call: {:.0} ms after the last sound of speech (median), {:.0} ms (95th percentile).",
        reply(50),
        reply(95)
    ));
    Ok(())
}

fn summary(found: &Measured) -> String {
    let heard = found.turns.len() + found.empty + found.cut_off;
    let share = 100.0 * found.cut_off as f64 / heard.max(1) as f64;
    format!(
        "{} turns answered, {} cut off ({share:.1} %), {} not understood, {} missed; {} guesses thrown away; {:.2} cores in use.",
        found.turns.len(),
        found.cut_off,
        found.empty,
        found.missed,
        found.dropped,
        found.cores
    )
}

pub(super) fn carry(
    report: &mut Report,
    models: &Models,
    callers: &[Spoken],
    options: &Options,
) -> Result<()> {
    report.line(&format!(
        "\n## Conversations at the same time\n\nThe robot speaks {:.1} s between turns; {} s for each row:\n\n| calls | median | p95 | cut off | missed | cores |\n| ---: | ---: | ---: | ---: | ---: | ---: |",
        options.prompt as f64 / 1_000.0,
        options.seconds
    ));
    let mut carried = 0;
    let mut calls = 2;
    while calls <= options.calls {
        let length = Duration::from_secs(options.seconds);
        let found = carry::measure(models, callers, language(options), calls, length, world(options))?;
        let figure = |percent| found.percentile(percent, |w| w.answered);
        let shown = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.0}"));
        report.line(&format!(
            "| {calls} | {} | {} | {} of {} | {} | {:.2} |",
            shown(figure(50)),
            shown(figure(95)),
            found.cut_off,
            found.turns.len() + found.cut_off + found.empty,
            found.missed,
            found.cores
        ));
        if figure(95).is_none_or(|ms| ms > PROMISED_MS) {
            break;
        }
        carried = calls;
        calls += if calls < 8 { 2 } else { 4 };
    }
    report.line(&format!("\nCarried within {PROMISED_MS:.0} ms at the 95th percentile: **{carried}**."));
    report.conclude(format!(
        "**Conversations at the same time: {carried}**, with a reply within {PROMISED_MS:.0} ms in 95 of 100 turns."
    ));
    Ok(())
}
