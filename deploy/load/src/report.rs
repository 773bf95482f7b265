//! What came out of a run.

use std::fmt;
use std::time::Duration;

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many boxes there were.
    pub boxes: usize,
    /// How many files the process of the boxes may have open.
    pub files: u64,
    /// How long it took from the first box that began to connect until all were connected and subscribed.
    pub connected: Duration,
    /// The phases without a fault.
    pub phases: Vec<Phase>,
    /// Each kill of the cloud.
    pub kills: Vec<Kill>,
    /// Attempts to connect that failed, and connections that broke.
    pub broken: u64,
    /// The most memory that the cloud's process had, in KiB.
    pub peak_kib: u64,
    /// What the boxes made against what the cloud has.
    pub compared: Compared,
}

/// So many events per second for so long.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Events per second that were to be made.
    pub rate: u32,
    /// For how long.
    pub length: Duration,
    /// How long each took from its making to its acknowledgement, the shortest first.
    pub took: Vec<Duration>,
}

/// The cloud was killed and started again.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    /// From the kill until the cloud served again.
    pub ready: Duration,
    /// From the kill until all boxes were connected and subscribed.
    pub back: Duration,
}

/// What the boxes made against what the cloud has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Events that were made.
    pub made: u64,
    /// Those that the cloud acknowledged.
    pub acknowledged: u64,
    /// Rows of the database.
    pub stored: u64,
    /// Acknowledged, and not there.
    pub lost: u64,
    /// Made, and not there at the end.
    pub missing: u64,
    /// There more than once, or under a number that another event had.
    pub twice: u64,
    /// Boxes whose numbers have a gap.
    pub torn: u64,
}

/// What is promised of the cloud.
#[derive(Clone, Copy, Debug)]
pub struct Promises {
    /// All boxes are back within this time.
    pub back: Duration,
    /// 99 of 100 events of a phase without a fault are acknowledged within this time.
    pub p99: Duration,
    /// The cloud needs no more memory than this, in KiB.
    pub memory_kib: u64,
    /// Of the events that were to be made in a phase at least so many were acknowledged, 0 to 1.
    pub share: f64,
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            back: Duration::from_secs(60),
            p99: Duration::from_secs(1),
            memory_kib: 1024 * 1024,
            share: 0.98,
        }
    }
}

impl Phase {
    /// Returns how long the event took that so many of the others (0 to 1) were not slower than.
    pub fn at(&self, share: f64) -> Duration {
        let last = self.took.len().saturating_sub(1) as f64;
        self.took.get((last * share).round() as usize).copied().unwrap_or_default()
    }

    /// Returns how many events per second were made and acknowledged.
    pub fn reached(&self) -> f64 {
        self.took.len() as f64 / self.length.as_secs_f64()
    }
}

impl Report {
    /// Returns what was promised and not kept. That something is lost or there twice is never promised away.
    pub fn broken_promises(&self, promises: &Promises) -> Vec<String> {
        let mut broken = Vec::new();
        let Compared { made, lost, missing, twice, torn, .. } = self.compared;
        if lost + missing + twice + torn > 0 {
            broken.push(format!(
                "of {made} events {lost} were acknowledged and are lost, {missing} are missing, {twice} are there twice; {torn} boxes have gaps"
            ));
        }
        let storms = self.kills.iter().map(|kill| kill.back).chain([self.connected]);
        if let Some(longest) = storms.max().filter(|longest| *longest > promises.back) {
            broken.push(format!("it took {longest:.1?} until all boxes were there"));
        }
        for phase in &self.phases {
            let p99 = phase.at(0.99);
            if p99 > promises.p99 {
                broken.push(format!("at {} events/s p99 was {p99:.1?}", phase.rate));
            }
            if phase.reached() < promises.share * f64::from(phase.rate) {
                broken.push(format!("of {} events/s only {:.0} were made", phase.rate, phase.reached()));
            }
        }
        if self.peak_kib > promises.memory_kib {
            broken.push(format!("the cloud needed {} MiB", self.peak_kib / 1024));
        }
        broken
    }

    /// Returns the names of the columns of [`Self::row`].
    pub fn head() -> &'static str {
        "| boxes | all connected | events/s: p50, p95, p99, longest | killed: serving, all back | memory of the cloud | made | lost | twice |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |"
    }

    /// Returns a row of a table.
    pub fn row(&self) -> String {
        let phases: Vec<String> = self.phases.iter().map(ToString::to_string).collect();
        let kills: Vec<String> =
            self.kills.iter().map(|kill| format!("{:.1?}, {:.1?}", kill.ready, kill.back)).collect();
        format!(
            "| {} | {:.1?} | {} | {} | {} MiB | {} | {} | {} |",
            self.boxes,
            self.connected,
            phases.join("; "),
            if kills.is_empty() { "-".to_owned() } else { kills.join("; ") },
            self.peak_kib / 1024,
            self.compared.made,
            self.compared.lost + self.compared.missing,
            self.compared.twice
        )
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} for {} s: {:.1?}, {:.1?}, {:.1?}, {:.1?}",
            self.rate,
            self.length.as_secs(),
            self.at(0.5),
            self.at(0.95),
            self.at(0.99),
            self.at(1.0)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let took = (1..=1_000).map(Duration::from_millis).collect();
        Report {
            boxes: 10,
            files: 1_024,
            connected: Duration::from_secs(2),
            phases: vec![Phase { rate: 100, length: Duration::from_secs(10), took }],
            kills: vec![Kill { ready: Duration::from_secs(1), back: Duration::from_secs(3) }],
            broken: 10,
            peak_kib: 200 * 1024,
            compared: Compared { made: 1_000, acknowledged: 1_000, stored: 1_000, ..Compared::default() },
        }
    }

    #[test]
    fn a_share_of_the_events_is_not_slower_than_what_is_said() {
        let phase = &report().phases[0];
        assert_eq!(phase.at(0.99), Duration::from_millis(990));
        assert_eq!((phase.at(0.0), phase.at(1.0)), (Duration::from_millis(1), Duration::from_secs(1)));
        assert_eq!(phase.reached(), 100.0);
        assert_eq!(Phase { took: Vec::new(), ..phase.clone() }.at(0.99), Duration::ZERO);
    }

    #[test]
    fn each_promise_that_is_not_kept_is_named() {
        let promises = Promises::default();
        assert_eq!(report().broken_promises(&promises), Vec::<String>::new());
        let mut bad = report();
        bad.compared.lost = 1;
        bad.kills[0].back = Duration::from_secs(61);
        bad.phases[0].took = vec![Duration::from_secs(2); 500];
        bad.peak_kib = 2 * 1024 * 1024;
        let broken = bad.broken_promises(&promises).join("\n");
        for word in ["lost", "61.0s", "p99 was 2.0s", "only 50", "2048 MiB"] {
            assert!(broken.contains(word), "{word}: {broken}");
        }
    }

    #[test]
    fn a_row_has_a_cell_for_each_column() {
        let cells = |line: &str| line.matches('|').count();
        assert_eq!(cells(&report().row()), cells(Report::head().lines().next().unwrap()));
    }
}
