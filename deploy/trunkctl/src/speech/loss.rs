//! What the recogniser makes of speech that a bad network brought.

use anyhow::Result;
use trunkline_audio::network::Network;
use trunkline_speech::recognise::{Language, RecognizeOptions, Recognizer, Utterance};

use super::barge_in::percentile;
use super::sound::Clip;
use super::wire::{Speaker, chosen};
use super::words::Errors;

/// The networks, the clean one first.
const NETWORKS: [(&str, Network); 10] = [
    ("clean", Network::CLEAN),
    (PROMISED, network(0.05, 1.0, 60)),
    ("2 % loss", network(0.02, 1.0, 0)),
    ("5 % loss", network(0.05, 1.0, 0)),
    ("10 % loss", network(0.10, 1.0, 0)),
    ("5 % loss, 3 in a row", network(0.05, 3.0, 0)),
    ("60 ms jitter", network(0.0, 1.0, 60)),
    ("2 % loss, 60 ms jitter", network(0.02, 1.0, 60)),
    ("10 % loss, 60 ms jitter", network(0.10, 1.0, 60)),
    ("5 % loss, 3 in a row, 60 ms jitter", network(0.05, 3.0, 60)),
];

/// The one that must not cost more than two points.
const PROMISED: &str = "5 % loss, 60 ms jitter";

pub(crate) const fn network(loss: f32, burst: f32, jitter_ms: u32) -> Network {
    Network { loss, burst, jitter_ms }
}

/// Silence before what is recognised, in samples, and as much more in each further round: what a recogniser writes
/// depends on that by a point or two, with nothing lost at all, so the clean network is heard as often as the others.
const LEAD: isize = 320;

/// Which recordings, through which networks.
pub(crate) struct Terms<'a> {
    /// Recordings of each set.
    pub(crate) count: usize,
    /// Only rows whose set and network hold this; the clean one is always among them.
    pub(crate) only: &'a str,
    /// Decides what the networks do.
    pub(crate) seed: u64,
    /// How many networks of each kind, each with a seed of its own.
    pub(crate) rounds: u64,
}

/// Recognises every set through every network and tells the rows; returns them in a sentence.
///
/// # Errors
/// When the engine fails or a recording cannot be read.
pub(crate) fn run(
    recognizer: &dyn Recognizer,
    clips: &[Clip],
    terms: &Terms<'_>,
    progress: &mut dyn FnMut(&str),
    tell: &mut dyn FnMut(&str),
) -> Result<String> {
    tell(&format!(
        "\n## Speech through a bad network\n\nReal recordings, up to {} of each set, one after the other as one call: \
         G.711 in packets of 20 ms, {} network(s) of each kind from seed {} on, the box's jitter buffer and \
         concealment, the box's recogniser, each network with 40 ms more of silence before what it hears. Jitter: each packet is up to as much earlier or later than the mean. \
         Errors in characters for Mandarin, in words for English; the rise in points; ms that a frame is held.\n\n\
         | set | recordings | network | errors | rise over clean | emptied by guards | concealed | late | held ms: median, p95 |\n\
         | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        terms.count, terms.rounds, terms.seed
    ));
    let mut said = Vec::new();
    for set in ["zh", "en", "en-l2zh"] {
        let rows: Vec<_> = NETWORKS
            .iter()
            .filter(|(name, _)| *name == NETWORKS[0].0 || format!("{set} {name}").contains(terms.only))
            .collect();
        let chosen = chosen(clips, set, terms.count);
        if chosen.is_empty() || (rows.len() == 1 && !format!("{set} clean").contains(terms.only)) {
            continue;
        }
        let speaker = Speaker::new(&chosen)?;
        let language = if set == "zh" { Language::ZH } else { Language::EN };
        let mut clean = None;
        for (name, network) in rows {
            progress(&format!("{set} {name}"));
            let row = Row::of(recognizer, &speaker, network, language, terms)?;
            progress("");
            let rise = 100.0 * (row.errors.rate() - clean.unwrap_or(row.errors).rate());
            clean.get_or_insert(row.errors);
            tell(&format!("| {set} | {} | {name} | {} | {rise:+.1} | {row} |", chosen.len(), row.errors));
            if *name == PROMISED {
                said.push(format!("{set} {rise:+.1}"));
            }
        }
    }
    Ok(format!("Errors through {PROMISED}, in points over clean: {}.", said.join(", ")))
}

/// What came of a set through networks of one kind.
#[derive(Default)]
struct Row {
    errors: Errors,
    emptied: usize,
    heard: usize,
    frames: usize,
    concealed: u64,
    received: u64,
    late: u64,
    held: Vec<f64>,
}

impl Row {
    fn of(
        recognizer: &dyn Recognizer,
        speaker: &Speaker,
        network: &Network,
        language: Language,
        terms: &Terms<'_>,
    ) -> Result<Self> {
        let options = RecognizeOptions { threads: 1, ..RecognizeOptions::new(language) };
        let mut row = Self::default();
        for round in 0..terms.rounds.max(1) {
            let carried = speaker.through(network, terms.seed + round)?;
            for (n, (text, from, _)) in speaker.said.iter().enumerate() {
                let lead = LEAD * (round as isize + 1) - carried.held_at(*from);
                let audio = Utterance::from_telephone(speaker.heard(n, &carried.sound, lead));
                let found = recognizer.recognize(&audio, &options)?;
                if std::env::var_os("SHOW").is_some() {
                    println!("  {network:?} {text} -> {} [{}] {:?}", found.text, found.raw, found.rejected);
                }
                row.errors.add(text, &found.text, language);
                row.emptied += usize::from(found.rejected.is_some());
                row.heard += 1;
            }
            row.frames += carried.held.len();
            row.concealed += carried.stats.concealed;
            row.received += carried.stats.received;
            row.late += carried.stats.late;
            row.held.extend(carried.held);
        }
        Ok(row)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let share = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
        let held = |percent| percentile(&self.held, percent).unwrap_or(f64::NAN);
        write!(
            f,
            "{} of {} | {:.1} % | {:.1} % | {:.0}, {:.0}",
            self.emptied,
            self.heard,
            share(self.concealed, self.frames as u64),
            share(self.late, self.received),
            held(50),
            held(95)
        )
    }
}
