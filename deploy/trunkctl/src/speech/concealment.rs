//! How speech with gaps sounds beside the same without, by measures that others wrote, and beside the crate `neteq`.

use std::path::Path;

use anyhow::{Context, Result};
use trunkline_audio::network::Network;
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer, Utterance};

use super::barge_in::percentile;
use super::loss::network;
use super::python::{Python, Session};
use super::sound::{Clip, RATE};
use super::wire::{Speaker, chosen};
use super::words::Errors;

const PACKAGES: [&str; 4] = ["pesq==0.0.4", "pystoi==0.4.1", "numpy<3", "scipy<2"];

/// The networks, and whether the recogniser hears what comes through them too.
const NETWORKS: [(&str, Network, bool); 6] = [
    ("clean", Network::CLEAN, true),
    ("2 % loss", network(0.02, 1.0, 0), false),
    ("5 % loss", network(0.05, 1.0, 0), true),
    ("10 % loss", network(0.10, 1.0, 0), false),
    ("5 % loss, 3 in a row", network(0.05, 3.0, 0), false),
    ("5 % loss, 60 ms jitter", network(0.05, 1.0, 60), true),
];

/// Plays the speakers through every network, scores what is heard and tells the rows; returns them in a sentence.
///
/// # Errors
/// When the measures cannot be installed, a recording cannot be read or the engine fails.
pub(crate) fn run(
    recognizer: &dyn Recognizer,
    (clips, count, seed): (&[Clip], usize, u64),
    cache: &Path,
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    let measures = Python::at(cache.join("bench-measures"));
    if !measures.is_installed() {
        progress("installing pesq and pystoi");
        measures.install(&PACKAGES)?;
    }
    let mut session = Session::start(&mut measures.script(include_str!("score.py"))?)?;
    let mut rows = Rows::default();
    let (mut worst, mut seconds) = (std::time::Duration::ZERO, 0);
    for (set, language) in [("zh", Language::ZH), ("en", Language::EN)] {
        let speaker = Speaker::new(&chosen(clips, set, count))?;
        seconds += speaker.payloads().len() / 50;
        let mut heard = Vec::new();
        for (_, network, _) in &NETWORKS {
            heard.push(speaker.through(network, seed)?.sound);
        }
        rows.take("here", &speaker, (&heard, recognizer, language), &mut session, progress)?;
        if let Some((heard, late)) = neteq(&speaker, seed, progress)? {
            worst = worst.max(late);
            rows.take("neteq", &speaker, (&heard, recognizer, language), &mut session, progress)?;
        }
    }
    progress("");
    tell(&format!(
        "\n## Concealment\n\nUp to {count} real recordings in Mandarin and as many in English, {seconds} s, as two calls \
         of G.711 in packets of 20 ms through networks of seed {seed}: the box's jitter buffer and concealment, and \
         neteq 0.9 as it comes, with the very same packets at the same times{}. PESQ is ITU-T P.862, narrow band, STOI \
         from 0 to 1, both beside the sound before the network, mean and 10th percentile of the recordings; errors \
         as the box's recogniser hears it; the delay is measured in the sound, median and 95th percentile.\n\n\
         | network | by | PESQ: mean, p10 | STOI: mean, p10 | errors zh | errors en | delay ms: median, p95 |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: |",
        match worst.as_millis() {
            0 => String::new(),
            late => format!(", in real time, its worst tick {late} ms late"),
        }
    ));
    let mut said = Vec::new();
    for (n, (name, ..)) in NETWORKS.iter().enumerate() {
        for (by, row) in rows.0.iter().filter(|((_, at), _)| *at == n).map(|((by, _), row)| (by, row)) {
            tell(&format!("| {name} | {by} | {row} |"));
        }
        let mean = |by| rows.0.get(&(by, n)).map(|row| format!("{by} {:.2}", row.mean_pesq()));
        said.push(format!(
            "{name}: {}",
            ["here", "neteq"].into_iter().filter_map(mean).collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(format!("PESQ of speech with gaps: {}.", said.join("; ")))
}

#[cfg(feature = "neteq")]
fn neteq(
    speaker: &Speaker,
    seed: u64,
    progress: &mut dyn FnMut(&str),
) -> Result<Option<(Vec<Vec<i16>>, std::time::Duration)>> {
    super::neteq::through(speaker, &NETWORKS.map(|(_, network, _)| network), seed, progress).map(Some)
}

#[cfg(not(feature = "neteq"))]
fn neteq(
    _: &Speaker,
    _: u64,
    progress: &mut dyn FnMut(&str),
) -> Result<Option<(Vec<Vec<i16>>, std::time::Duration)>> {
    progress("built without --features neteq: only what is here is measured");
    Ok(None)
}

/// By whom and through which network.
#[derive(Default)]
struct Rows(std::collections::BTreeMap<(&'static str, usize), Row>);

#[derive(Default)]
struct Row {
    pesq: Vec<f64>,
    stoi: Vec<f64>,
    delays: Vec<f64>,
    zh: Option<Errors>,
    en: Option<Errors>,
}

#[derive(serde::Deserialize)]
struct Score {
    pesq: f64,
    stoi: f64,
    delay_ms: Option<f64>,
}

impl Rows {
    /// Scores what was heard of a speaker through every network.
    fn take(
        &mut self,
        by: &'static str,
        speaker: &Speaker,
        (heard, recognizer, language): (&[Vec<i16>], &dyn Recognizer, Language),
        session: &mut Session,
        progress: &mut dyn FnMut(&str),
    ) -> Result<()> {
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
        for (at, sound) in heard.iter().enumerate() {
            progress(&format!("{by}: {}", NETWORKS[at].0));
            let row = self.0.entry((by, at)).or_default();
            for (n, (text, _, _)) in speaker.said.iter().enumerate() {
                let cut = speaker.heard(n, sound, 0);
                let clean = session.sound("clean.wav", RATE, &speaker.clean(n))?;
                let file = session.sound("heard.wav", RATE, cut)?;
                let score: Score = session
                    .ask(&serde_json::json!({ "clean": clean, "heard": file }))
                    .with_context(|| format!("`{text}` cannot be scored"))?;
                row.pesq.push(score.pesq);
                row.stoi.push(score.stoi);
                row.delays.extend(score.delay_ms);
                if NETWORKS[at].2 {
                    let found = recognizer.recognize(&Utterance::from_telephone(cut), &options)?;
                    let errors = if language == Language::ZH { &mut row.zh } else { &mut row.en };
                    errors.get_or_insert_default().add(text, &found.text, language);
                }
            }
        }
        Ok(())
    }
}

impl Row {
    fn mean_pesq(&self) -> f64 {
        mean(&self.pesq)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |values: &[f64], share| percentile(values, share).unwrap_or(f64::NAN);
        let errors = |errors: Option<Errors>| errors.map_or_else(String::new, |errors| errors.to_string());
        write!(
            f,
            "{:.2}, {:.2} | {:.3}, {:.3} | {} | {} | {:.0}, {:.0}",
            self.mean_pesq(),
            of(&self.pesq, 10),
            mean(&self.stoi),
            of(&self.stoi, 10),
            errors(self.zh),
            errors(self.en),
            of(&self.delays, 50),
            of(&self.delays, 95)
        )
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
