//! How fast the robot answers, measured from the sound of a two-channel recording.
//!
//! A turn's latency is the time from the end of the customer's speech to the beginning of the
//! robot's. It is taken from the two channels and nothing else, so that a delay anywhere between ear
//! and mouth counts. Turns in which the robot began before the customer had ended are no turns but
//! overlaps, and are listed as such.

use std::fmt;
use std::path::Path;

use crate::vad::{Rules, Span, utterances};
use crate::wav::{self, WavError};

/// Which channel of a recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The first.
    #[default]
    Left,
    /// The second.
    Right,
}

/// What counts as speech, and as an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How far speech stands above the noise of its channel.
    pub over_noise_db: f32,
    /// Nothing below this level is speech.
    pub quietest_dbfs: f32,
    /// Utterances with less sound than this are clicks.
    pub min_speech_ms: u32,
    /// Shorter pauses are inside an utterance.
    pub merge_gap_ms: u32,
    /// What the robot says later than this is no answer to what was said before.
    pub longest_answer_ms: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            over_noise_db: 9.0,
            quietest_dbfs: -52.0,
            min_speech_ms: 100,
            merge_gap_ms: 300,
            longest_answer_ms: 10_000,
        }
    }
}

/// A stretch of speech, in seconds from the beginning of the recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Utterance {
    /// When it begins.
    pub start_s: f64,
    /// When it ends.
    pub end_s: f64,
}

/// The customer spoke, fell silent, and the robot answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TurnLatency {
    /// When the customer began.
    pub customer_start_s: f64,
    /// When the customer fell silent.
    pub customer_end_s: f64,
    /// When the robot began to answer.
    pub robot_start_s: f64,
    /// The time between.
    pub latency_ms: f64,
}

/// The customer began while the robot spoke.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BargeIn {
    /// When the customer began.
    pub customer_start_s: f64,
    /// When the robot was silent.
    pub robot_stop_s: f64,
    /// The time between.
    pub stop_ms: f64,
    /// The robot fell silent before the customer did; otherwise it talked on.
    pub yielded: bool,
}

/// The robot began while the customer spoke.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overlap {
    /// When the robot began.
    pub robot_start_s: f64,
    /// When the customer fell silent.
    pub customer_end_s: f64,
}

/// What was found in a recording. `Display` prints it as a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Analysis {
    /// Turns with an answer, in order.
    pub turns: Vec<TurnLatency>,
    /// Where the customer interrupted, in order.
    pub barge_ins: Vec<BargeIn>,
    /// Where the robot interrupted, in order.
    pub overlaps: Vec<Overlap>,
    /// All that the customer said.
    pub customer: Vec<Utterance>,
    /// All that the robot said.
    pub robot: Vec<Utterance>,
    /// Length of the recording.
    pub seconds: f64,
}

impl Analysis {
    /// Returns the median latency, `None` without turns.
    #[must_use]
    pub fn median_ms(&self) -> Option<f64> {
        let sorted = self.sorted();
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = sorted[(sorted.len() - 1) / 2];
        Some((lower + upper) / 2.0)
    }

    /// Returns the latency that 95 % of the turns do not exceed, `None` without turns.
    #[must_use]
    pub fn p95_ms(&self) -> Option<f64> {
        let sorted = self.sorted();
        sorted.get((sorted.len() * 95).div_ceil(100).checked_sub(1)?).copied()
    }

    /// Returns the longest latency, `None` without turns.
    #[must_use]
    pub fn max_ms(&self) -> Option<f64> {
        self.sorted().last().copied()
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted: Vec<f64> = self.turns.iter().map(|turn| turn.latency_ms).collect();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// Analyses two channels at any sample rate.
#[must_use]
pub fn analyse(customer: &[i16], robot: &[i16], rate: u32, options: &Options) -> Analysis {
    let rules = Rules {
        over_noise_db: options.over_noise_db,
        quietest_dbfs: options.quietest_dbfs,
        min_speech_ms: options.min_speech_ms,
        merge_gap_ms: options.merge_gap_ms,
    };
    let rate_s = f64::from(rate.max(1));
    let seconds =
        |span: Span| Utterance { start_s: span.start as f64 / rate_s, end_s: span.end as f64 / rate_s };
    let find = |samples| utterances(samples, rate, &rules).into_iter().map(seconds).collect();
    let mut analysis = Analysis {
        customer: find(customer),
        robot: find(robot),
        seconds: customer.len().max(robot.len()) as f64 / rate_s,
        ..Analysis::default()
    };
    let (customer, robot) = (&analysis.customer, &analysis.robot);
    for (n, said) in customer.iter().enumerate() {
        let next_start = customer.get(n + 1).map_or(f64::INFINITY, |next| next.start_s);
        if let Some(prompt) = robot.iter().find(|r| r.start_s <= said.start_s && said.start_s < r.end_s) {
            analysis.barge_ins.push(BargeIn {
                customer_start_s: said.start_s,
                robot_stop_s: prompt.end_s,
                stop_ms: (prompt.end_s - said.start_s) * 1_000.0,
                yielded: prompt.end_s < said.end_s,
            });
        }
        for early in robot.iter().filter(|r| said.start_s < r.start_s && r.start_s < said.end_s) {
            analysis.overlaps.push(Overlap { robot_start_s: early.start_s, customer_end_s: said.end_s });
        }
        if robot.iter().any(|r| r.start_s < said.end_s && said.end_s < r.end_s) {
            continue;
        }
        let Some(answer) = robot.iter().find(|r| r.start_s >= said.end_s) else { continue };
        let latency_ms = (answer.start_s - said.end_s) * 1_000.0;
        if answer.start_s < next_start && latency_ms <= f64::from(options.longest_answer_ms) {
            analysis.turns.push(TurnLatency {
                customer_start_s: said.start_s,
                customer_end_s: said.end_s,
                robot_start_s: answer.start_s,
                latency_ms,
            });
        }
    }
    analysis
}

/// Analyses a file of two channels.
///
/// # Errors
/// [`WavError`] when it cannot be read, or has not exactly two channels.
pub fn analyse_file(path: impl AsRef<Path>, customer: Side, options: &Options) -> Result<Analysis, WavError> {
    let path = path.as_ref();
    let wav = wav::read(path)?;
    let [left, right] = &wav.channels[..] else {
        return Err(WavError::Channels { path: path.to_owned(), channels: wav.channels.len(), needed: 2 });
    };
    let (customer, robot) = match customer {
        Side::Left => (left, right),
        Side::Right => (right, left),
    };
    Ok(analyse(customer, robot, wav.rate, options))
}

impl fmt::Display for Analysis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "turn   customer speaks          robot answers   latency")?;
        for (n, turn) in self.turns.iter().enumerate() {
            writeln!(
                f,
                "{:>4} {:>9.3} to {:>8.3} s {:>13.3} s {:>6.0} ms",
                n + 1,
                turn.customer_start_s,
                turn.customer_end_s,
                turn.robot_start_s,
                turn.latency_ms,
            )?;
        }
        for barge_in in &self.barge_ins {
            let (at, ms) = (barge_in.customer_start_s, barge_in.stop_ms);
            let how = if barge_in.yielded { "was silent" } else { "talked on, and was silent" };
            writeln!(f, "customer interrupts at {at:.3} s: the robot {how} after {ms:.0} ms")?;
        }
        for overlap in &self.overlaps {
            let early = (overlap.customer_end_s - overlap.robot_start_s) * 1_000.0;
            let at = overlap.robot_start_s;
            writeln!(f, "robot interrupts at {at:.3} s: {early:.0} ms before the customer ends")?;
        }
        match (self.median_ms(), self.p95_ms(), self.max_ms()) {
            (Some(median), Some(p95), Some(max)) => write!(
                f,
                "{} turns in {:.1} s: median {median:.0} ms, 95 % within {p95:.0} ms, longest {max:.0} ms",
                self.turns.len(),
                self.seconds,
            ),
            _ => write!(
                f,
                "no turn in {:.1} s: the customer speaks {} times, the robot {} times",
                self.seconds,
                self.customer.len(),
                self.robot.len(),
            ),
        }
    }
}
