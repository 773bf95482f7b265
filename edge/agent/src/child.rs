//! The box's calls as a child of their keeper: what it says to us, and what we say of ourselves.

use std::io::{BufRead as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};
use trunkline_edge::BoxCertificate;
use trunkline_keeper::{CallsState, EchoDone, EchoWish, Figures, Word};
use trunkline_line::trunks::{CallRequest, Target};
use trunkline_line::{EchoCall, TraceName, echo_call};
use trunkline_sip::message::Uri;

use crate::call::resolve;
use crate::lines::of_status;
use crate::supervisor::Shared;

/// How often the trunks are looked at.
const TRUNKS: Duration = Duration::from_secs(1);

/// How often figures are taken.
const FIGURES: Duration = Duration::from_secs(15);

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
pub(crate) fn listen(
    wish: watch::Sender<Keeper>,
    echoes: mpsc::UnboundedSender<EchoWish>,
    certificate: Arc<BoxCertificate>,
) -> Result<()> {
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
                    // Nobody listens before the models are loaded; the keeper asks only then.
                    Ok(Word::Echo(wish)) => _ = echoes.send(wish),
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
pub(crate) async fn tell(shared: Arc<Shared>, wishes: mpsc::UnboundedReceiver<EchoWish>) {
    let (done, mut echo) = watch::channel(None);
    tokio::spawn(make_test_calls(Arc::clone(&shared), wishes, done));
    let mut load = shared.load.subscribe();
    let mut told = CallsState::default();
    let (mut figures, mut taken) = (None, Instant::now());
    loop {
        if figures.is_none() || taken.elapsed() >= FIGURES {
            (figures, taken) = (Some(look(&shared)), Instant::now());
        }
        let now = *load.borrow_and_update();
        let state = CallsState {
            ready: true,
            calls: now.calls,
            draining: now.draining,
            trunks: shared.trunks.status().iter().map(of_status).collect(),
            echo: echo.borrow_and_update().clone(),
            figures: figures.clone(),
        };
        if state != told {
            say(&state);
            told = state;
        }
        tokio::select! {
            changed = load.changed() => if changed.is_err() { return },
            Ok(()) = echo.changed() => {}
            () = tokio::time::sleep(TRUNKS) => {}
        }
    }
}

fn look(shared: &Shared) -> Figures {
    let (linked, backlog) = shared.uplink.status();
    let speech = shared.speech.pool.stats();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    Figures {
        channels: shared.config.channels,
        linked,
        late_us: shared.lateness(),
        workers: count(speech.workers),
        busy: count(speech.busy),
        queued: count(speech.queued),
        wait_ms: ms(speech.expected_wait()),
        run_ms: ms(speech.mean_run),
        backlog,
    }
}

/// Makes the test calls that the keeper wants, one after the other, over the lines of this box.
async fn make_test_calls(
    shared: Arc<Shared>,
    mut wishes: mpsc::UnboundedReceiver<EchoWish>,
    done: watch::Sender<Option<EchoDone>>,
) {
    while let Some(wish) = wishes.recv().await {
        let id = wish.id;
        let told = match test_call(&shared, &wish).await {
            Ok(told) => EchoDone { id, ..told },
            Err(why) => EchoDone { id, failed: Some(why), ..EchoDone::default() },
        };
        let (failed, round_trip_ms, loss_db) = (&told.failed, told.round_trip_ms, told.loss_db);
        info!(?failed, round_trip_ms, loss_db, "A test call is over");
        done.send_replace(Some(told));
    }
}

async fn test_call(shared: &Shared, wish: &EchoWish) -> Result<EchoDone, String> {
    let target = match wish.to.strip_prefix("sip:") {
        None => Target::Number(wish.to.clone()),
        Some(_) => {
            let uri = Uri::parse(&wish.to).map_err(|error| format!("[selftest] echo: {error}"))?;
            let at = resolve(&format!("{}:{}", uri.host, uri.port.unwrap_or(5060))).await?;
            Target::Direct(Box::new(uri), at)
        }
    };
    let ring = Duration::from_secs(u64::from(wish.ring_s.clamp(5, 60)));
    let trace = Some(TraceName { call: format!("self-test-{:x}", wish.id), leg: "call" });
    let wanted = EchoCall { request: CallRequest { target, from: None, ring }, trace };
    let heard = echo_call(&shared.trunks, &shared.media, wanted).await.map_err(|error| error.to_string())?;
    Ok(EchoDone {
        round_trip_ms: heard.round_trip_ms.round() as u32,
        loss_db: heard.loss_db.round() as i32,
        lost_permille: (heard.lost * 1_000.0).round() as u32,
        ..EchoDone::default()
    })
}

fn say(state: &CallsState) {
    let Ok(mut line) = serde_json::to_vec(state) else { return };
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(&line).and_then(|()| out.flush()) {
        warn!(%error, "The keeper does not listen");
    }
}
