//! Log set-up and redaction, the same on both sides.
//!
//! Logs go to standard error, so that standard output stays for what a program was asked for.
//! `RUST_LOG` chooses what is shown; `TRUNKLINE_LOG=json` makes every line a JSON object. [`keep`] keeps the last of
//! it in a file as well, for whoever asks a box from afar.

mod kept;

use std::fmt;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use kept::{Line, keep, read};

/// Starts logging for the process; a second call changes nothing.
///
/// `default_filter` is used where `RUST_LOG` is not set, such as `info,rumqttc=warn`.
pub fn init(default_filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let plain = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Each kind of line has a type of its own, and so has the way to its filter.
    if std::env::var("TRUNKLINE_LOG").is_ok_and(|format| format == "json") {
        let builder = plain.json().with_filter_reloading();
        let handle = builder.reload_handle();
        let _ = RELOAD.set(Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())));
        let _ = builder.finish().with(kept::Keeper).try_init();
    } else {
        let builder = plain.with_target(false).with_filter_reloading();
        let handle = builder.reload_handle();
        let _ = RELOAD.set(Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())));
        let _ = builder.finish().with(kept::Keeper).try_init();
    }
}

/// Changes what is shown, in the words of `RUST_LOG`, for the rest of the process.
///
/// # Errors
/// When the words make no sense, or logging was not started.
pub fn set_filter(words: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(words).map_err(|error| error.to_string())?;
    RELOAD.get().ok_or_else(|| "logging was not started".to_owned())?(filter)
}

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

static RELOAD: OnceLock<Reload> = OnceLock::new();

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

    #[test]
    fn a_filter_is_changed_under_way_and_nonsense_is_refused() {
        init("info");
        assert_eq!(set_filter("debug,rumqttc=warn"), Ok(()));
        assert!(set_filter("=[no").is_err());
    }
}
