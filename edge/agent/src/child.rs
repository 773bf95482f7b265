//! The box's calls as a child of their keeper: what it says to us, and what we say of ourselves.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tracing::{info, warn};
use trunkline_edge::BoxCertificate;
use trunkline_keeper::{CallsState, Word};

use crate::lines::of_status;
use crate::supervisor::Shared;

/// How often the trunks are looked at.
const TRUNKS: Duration = Duration::from_secs(1);

/// What the keeper wants of the calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// New calls are taken.
    #[default]
    Serve,
    /// Another version is about to start, or other settings: no new calls.
    Drain,
    /// There is none any more: no new calls, and an end after the last.
    Gone,
}

/// Listens to the keeper on standard input, on a thread of its own: reading cannot be cut short, and the end of the
/// process does not wait for it.
pub(crate) fn listen(wish: watch::Sender<Keeper>, certificate: Arc<BoxCertificate>) -> Result<()> {
    let thread = std::thread::Builder::new().name("keeper".into());
    thread
        .spawn(move || {
            for line in std::io::stdin().lock().lines() {
                let Ok(line) = line else { break };
                match serde_json::from_str(&line) {
                    Ok(Word::Drain(on)) => {
                        info!(on, "The keeper says whether new calls are taken");
                        wish.send_replace(if on { Keeper::Drain } else { Keeper::Serve });
                    }
                    Ok(Word::NewCertificate) => match certificate.reload() {
                        Ok(()) => info!("The box's new certificate is shown from now on"),
                        Err(error) => warn!("The box's new certificate cannot be used: {error:#}"),
                    },
                    Err(error) => warn!(%error, "The keeper said something unknown"),
                }
            }
            warn!("The keeper is gone: no new calls, and an end after the last");
            wish.send_replace(Keeper::Gone);
        })
        .context("no thread for the keeper's words")?;
    Ok(())
}

/// Says that nothing can be taken yet.
pub(crate) fn say_starting() {
    say(&CallsState::default());
}

/// Says how the calls are, now and whenever it changes.
pub(crate) async fn tell(shared: Arc<Shared>) {
    let mut load = shared.load.subscribe();
    let mut told = CallsState::default();
    loop {
        let now = *load.borrow_and_update();
        let state = CallsState {
            ready: true,
            calls: now.calls,
            draining: now.draining,
            trunks: shared.trunks.status().iter().map(of_status).collect(),
        };
        if state != told {
            say(&state);
            told = state;
        }
        tokio::select! {
            changed = load.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TRUNKS) => {}
        }
    }
}

fn say(state: &CallsState) {
    let Ok(mut line) = serde_json::to_vec(state) else { return };
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(&line).and_then(|()| out.flush()) {
        warn!(%error, "The keeper does not listen");
    }
}
