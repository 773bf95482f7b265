//! Log set-up and redaction, the same on both sides.
//!
//! Logs go to standard error, so that standard output stays for what a program was asked for.
//! `RUST_LOG` chooses what is shown; `TRUNKLINE_LOG=json` makes every line a JSON object.

use std::fmt;

use tracing_subscriber::EnvFilter;

/// Starts logging for the process; a second call changes nothing.
///
/// `default_filter` is used where `RUST_LOG` is not set, such as `info,rumqttc=warn`.
pub fn init(default_filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = std::env::var("TRUNKLINE_LOG").is_ok_and(|format| format == "json");
    let _ = if json { builder.json().try_init() } else { builder.with_target(false).try_init() };
}

/// Shows that there is a text and how long it is, never the text: for names and transcripts.
pub fn redact(text: &str) -> impl fmt::Display {
    Redacted(text.chars().count())
}

struct Redacted(usize);

impl fmt::Display for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} characters>", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redacted_text_shows_only_its_length() {
        assert_eq!(redact("王芳女士").to_string(), "<4 characters>");
    }
}
