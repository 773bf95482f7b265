//! How far something long is: a bar on a terminal, else a line now and then, nothing beside JSON. On standard error, so
//! that what is asked for stays alone on standard output.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Short work says nothing before this …
const FIRST: Duration = Duration::from_secs(5);
/// … and longer work something every so often.
const EVERY: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Boxes,
}

/// One piece of work.
pub(crate) struct Progress(Shown);

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Lines { pace: Pace, began: Instant },
}

impl Progress {
    /// Begins; `quiet` shows nothing.
    pub(crate) fn new(what: &'static str, unit: Unit, total: u64, quiet: bool) -> Self {
        if quiet {
            return Self(Shown::Nothing);
        }
        if !std::io::stderr().is_terminal() {
            let pace = Pace { what, unit, total, done: 0, next: FIRST };
            return Self(Shown::Lines { pace, began: Instant::now() });
        }
        let counted = match unit {
            Unit::Bytes => "{bytes:>10} of {total_bytes:<10}",
            Unit::Boxes => "{pos} of {len} boxes",
        };
        let style = ProgressStyle::with_template(&format!("{{prefix}} {{bar:24}} {counted} {{wide_msg}}"));
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(total).with_style(style).with_prefix(what);
        bar.tick();
        Self(Shown::Bar(bar))
    }

    /// So much more is done; `note` says what is at work.
    pub(crate) fn add(&mut self, more: u64, note: &str) {
        let done = match &self.0 {
            Shown::Nothing => return,
            Shown::Bar(bar) => bar.position(),
            Shown::Lines { pace, .. } => pace.done,
        };
        self.set(done + more, note);
    }

    /// So much is done in all.
    pub(crate) fn set(&mut self, done: u64, note: &str) {
        match &mut self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                bar.set_message(note.to_owned());
                bar.set_position(done);
            }
            Shown::Lines { pace, began } => {
                if let Some(line) = pace.at(done, began.elapsed()) {
                    eprintln!("{line}");
                }
            }
        }
    }

    /// Prints a line of the result without tearing the bar.
    pub(crate) fn print(&self, line: &str) {
        match &self.0 {
            Shown::Bar(bar) => bar.suspend(|| println!("{line}")),
            Shown::Nothing | Shown::Lines { .. } => println!("{line}"),
        }
    }
}

impl Drop for Progress {
    /// The bar goes, whether the work has ended well or not: what comes next on the terminal is the result or the error.
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// When a line is due, and what it says.
struct Pace {
    what: &'static str,
    unit: Unit,
    total: u64,
    done: u64,
    next: Duration,
}

impl Pace {
    fn at(&mut self, done: u64, elapsed: Duration) -> Option<String> {
        self.done = done;
        if elapsed < self.next {
            return None;
        }
        self.next = elapsed + EVERY;
        let percent = done.min(self.total) * 100 / self.total.max(1);
        let counted = match self.unit {
            Unit::Bytes => format!("{} of {}", HumanBytes(done), HumanBytes(self.total)),
            Unit::Boxes => format!("{done} of {} boxes", self.total),
        };
        Some(format!("{}: {counted}, {percent} %", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_after_5_s_and_then_every_10() {
        let mut pace = Pace { what: "cutting", unit: Unit::Bytes, total: 4 << 20, done: 0, next: FIRST };
        let mut lines = Vec::new();
        for tenth in 0..400 {
            let elapsed = Duration::from_millis(tenth * 100);
            lines.extend(pace.at(tenth * 8_192, elapsed).map(|line| (tenth / 10, line)));
        }
        let when: Vec<u64> = lines.iter().map(|(second, _)| *second).collect();
        assert_eq!(when, [5, 15, 25, 35]);
        assert_eq!(lines[0].1, "cutting: 400.00 KiB of 4.00 MiB, 9 %");
    }

    #[test]
    fn nothing_to_do_is_no_division_by_nothing() {
        let mut pace = Pace { what: "copying", unit: Unit::Boxes, total: 0, done: 0, next: Duration::ZERO };
        assert_eq!(pace.at(0, Duration::ZERO), Some("copying: 0 of 0 boxes, 0 %".into()));
    }
}
