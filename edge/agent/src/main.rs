//! The box: dials what the cloud asks for, answers customers who call, holds the conversation, files the record.
//!
//! Everything that decides lives in the crates around this one; here are sockets, threads, files
//! and the order in which they are started and stopped.

mod admission;
mod blobs;
mod call;
mod child;
mod config;
mod failure;
mod fleet;
mod kept;
mod lines;
mod numbers;
mod overlay;
mod phones;
mod speech;
mod supervisor;
mod uplink;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use nix::fcntl::{Flock, FlockArg};
use rtrb::Consumer;
use tokio::sync::{Mutex, mpsc, watch};
use tracing::{info, warn};
use trunkline_audio::record::RecordFrame;
use trunkline_gate::BoxGate;
use trunkline_line::trunks::Trunks;
use trunkline_line::{MediaHandle, RecorderHandle};
use trunkline_soundcard::{Layout, Monitor};
use trunkline_store::OutboxStore;
use trunkline_trace::Tracer;

use crate::blobs::Blobs;
use crate::child::Keeper;
use crate::config::Config;
use crate::kept::{Floor, Words};
use crate::numbers::Numbers;
use crate::speech::Speech;
use crate::supervisor::Shared;
use crate::uplink::LinkConfig;

#[derive(Parser)]
#[command(
    name = "trunkline-edge",
    version,
    about = "A branch's voice robot: holds telephone calls by itself",
    after_help = "Examples:\n  trunkline-edge run --config /etc/trunkline/edge.toml\n  \
                  trunkline-edge check --config edge.toml\n  RUST_LOG=debug trunkline-edge run --config edge.toml\n  \
                  trunkline-edge diag --config /etc/trunkline/box.toml --out /tmp/diag.tar.gz\n\n\
                  It prints `ready …` once it can take calls. SIGTERM lets calls under way end politely."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the box.
    Run {
        /// The configuration.
        #[arg(long, short)]
        config: PathBuf,
        /// What headquarters lays over it, as the keeper keeps it.
        #[arg(long, value_name = "FILE")]
        with: Option<PathBuf>,
        /// As a child of the keeper, which talks over standard input and output.
        #[arg(long)]
        kept: bool,
        /// The folder in which the last of the log is kept.
        #[arg(long, value_name = "DIR", hide = true)]
        logs: Option<PathBuf>,
    },
    /// Checks the configuration, the certificates and the models, and says what is wrong.
    Check {
        /// The configuration.
        #[arg(long, short)]
        config: PathBuf,
    },
    /// Keeps the box in the fleet: joins, takes its configuration, updates itself.
    Keep {
        /// `box.toml`: where the cloud is.
        #[arg(long, short)]
        config: PathBuf,
    },
    /// Starts the version that is due from its slot, and again whenever it ends; runs `keep` of that version.
    Launch {
        /// `box.toml`.
        #[arg(long, short)]
        config: PathBuf,
    },
    /// Writes what the box knows of itself into a file: versions, settings, health, logs; no names, numbers or secrets.
    Diag {
        /// `box.toml`.
        #[arg(long, short)]
        config: PathBuf,
        /// The file, a tar archive compressed by gzip.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Prints the last log lines of the box's programs, masked as they would be for headquarters.
    Logs {
        /// `box.toml`.
        #[arg(long, short)]
        config: PathBuf,
        /// So many lines.
        #[arg(long, default_value_t = 200)]
        lines: usize,
    },
    /// Prints the claim code for the label.
    Claim {
        /// `box.toml`.
        #[arg(long, short)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    if let Err(error) = trunkline_speech::openmp::settle() {
        eprintln!("trunkline-edge: recognition may be slow, OpenMP keeps its own settings: {error}");
    }
    match start(Args::parse()) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("trunkline-edge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: Args) -> Result<ExitCode> {
    trunkline_telemetry::init("info,rumqttc=warn,whisper_rs=warn,ort=warn,sled=warn,pagecache=warn");
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    match args.command {
        Command::Run { config, with, kept, logs } => {
            if let Some(dir) = logs {
                fleet::keep_log(&dir, "calls");
            }
            runtime.block_on(run(&config, with.as_deref(), kept)).map(|()| ExitCode::SUCCESS)
        }
        Command::Check { config } => check(&config).map(|()| ExitCode::SUCCESS),
        Command::Keep { config } => runtime.block_on(fleet::keep(&config)),
        Command::Launch { config } => runtime.block_on(fleet::launch(&config)).map(|()| ExitCode::SUCCESS),
        Command::Diag { config, out } => fleet::diag(&config, &out).map(|()| ExitCode::SUCCESS),
        Command::Logs { config, lines } => fleet::logs(&config, lines).map(|()| ExitCode::SUCCESS),
        Command::Claim { config } => fleet::claim(&config).map(|()| ExitCode::SUCCESS),
    }
}

fn check(path: &Path) -> Result<()> {
    let config = Config::load(path)?;
    config.cloud.tls()?;
    config.trunks.setups()?;
    config.phones_setup()?;
    Speech::load(&speech::Folders::of(&config), config.speech.workers)?;
    if let Some(monitor) = &config.monitor {
        Monitor::open(monitor.device.as_deref(), Layout::Stereo)?;
    }
    println!("{} is fine", path.display());
    Ok(())
}

async fn run(path: &Path, with: Option<&Path>, kept: bool) -> Result<()> {
    let config = Config::load_under(path, &trunkline_edge::read_overlay(with)?)?;
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot create {}", config.data_dir.display()))?;
    if kept {
        child::say_starting();
    }
    let _lock = match lock(&config.data_dir) {
        // The one before us lets its last call end.
        Err(_) if kept => lock_when_free(&config.data_dir).await?,
        lock => lock?,
    };
    let (tls, certificate) = config.cloud.tls()?;
    let (wish_tx, wish) = watch::channel(Keeper::Serve);
    let (echoes, wishes) = mpsc::unbounded_channel();
    if kept {
        child::listen(wish_tx, echoes, certificate)?;
    }
    let monitor = config.monitor.as_ref().map(start_monitor).transpose()?;
    let speech = {
        let folders = speech::Folders::of(&config);
        let workers = config.speech.workers;
        tokio::task::spawn_blocking(move || Speech::load(&folders, workers)).await??
    };
    let store = tokio::task::block_in_place(|| OutboxStore::open(&config.data_dir))?;
    let gate = tokio::task::block_in_place(|| BoxGate::open(&config.data_dir))?;
    let numbers = Arc::new(tokio::task::block_in_place(|| Numbers::open(&config.data_dir)));

    let trunks = Trunks::start(lines::config(&config, start_tracer(&config))?, config.trunks.setups()?)
        .await
        .context("cannot listen for SIP: is another program using it? ([trunk] bind, [phones] bind)")?;
    let media =
        MediaHandle::start_with(config.rtp.opus_complexity.0).context("cannot start the media thread")?;
    let recorder = RecorderHandle::start().context("cannot start the recorder thread")?;

    let (down_tx, down) = mpsc::unbounded_channel();
    let (host, port) = config.cloud.mqtt_host_port().context("[cloud] mqtt")?;
    let link = LinkConfig {
        box_id: config.box_id.clone(),
        host: host.to_owned(),
        port,
        channels: config.channels,
        tls: Arc::clone(&tls),
        suppressions: gate.position(),
        numbers: Arc::clone(&numbers),
    };
    let uplink = uplink::start(link, store, down_tx);
    let blobs = Blobs::new(&tls, &config.cloud.api, config.data_dir.join("blobs"))?;
    if !kept {
        println!("ready box={} sip={} channels={}", config.box_id, trunks.local(), config.channels);
    }

    let shared = Arc::new(Shared {
        config,
        speech,
        trunks,
        media,
        recorder,
        uplink,
        blobs,
        gate,
        floor: Floor::new(),
        numbers,
        words: Words::default(),
        wish,
        load: watch::Sender::new(supervisor::Load::default()),
        late_us: AtomicU64::new(0),
        monitor: Mutex::new(monitor),
    });
    let (stop_tx, stop) = watch::channel(false);
    tokio::spawn(async move {
        wait_for_stop().await;
        let _ = stop_tx.send(true);
    });
    tokio::spawn(report(Arc::clone(&shared)));
    tokio::spawn(lines::report(Arc::clone(&shared)));
    if kept {
        tokio::spawn(child::tell(Arc::clone(&shared), wishes));
    }
    supervisor::run(Arc::clone(&shared), down, stop).await;
    shared.trunks.leave().await;
    wait_for_outbox(&shared).await;
    Ok(())
}

/// Begins to keep what is signalled; without a place for it the box works all the same.
fn start_tracer(config: &Config) -> Option<Tracer> {
    let (dir, limits) = config.traces()?;
    let started = Tracer::start(&dir, limits);
    started.inspect_err(|error| warn!(dir = %dir.display(), "No traces of calls: {error}")).ok()
}

/// Keeps two processes from writing the same journal.
fn lock(dir: &Path) -> Result<Flock<File>> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err(_) => bail!("{} is in use by another trunkline-edge; stop it first", dir.display()),
    }
}

async fn lock_when_free(dir: &Path) -> Result<Flock<File>> {
    info!("Waiting until the program before this one has ended");
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if let Ok(lock) = lock(dir) {
            return Ok(lock);
        }
    }
}

/// Opens the sound card and plays one call after the other on it.
fn start_monitor(config: &config::Monitor) -> Result<mpsc::UnboundedSender<Consumer<RecordFrame>>> {
    let (monitor, mut feed) = Monitor::open(config.device.as_deref(), Layout::Stereo)?;
    let (sender, mut calls) = mpsc::unbounded_channel::<Consumer<RecordFrame>>();
    std::thread::Builder::new().name("monitor".into()).spawn(move || {
        let _monitor = monitor;
        while let Some(mut frames) = calls.blocking_recv() {
            while !frames.is_abandoned() || !frames.is_empty() {
                while let Ok(frame) = frames.pop() {
                    feed.push(&frame.rx, &frame.tx);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    })?;
    Ok(sender)
}

pub(crate) async fn wait_for_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => info!("Asked to stop"),
        _ = int.recv() => info!("Interrupted"),
    }
}

/// Gives the last records a moment to reach the cloud; they are in the journal in any case.
async fn wait_for_outbox(shared: &Shared) {
    for _ in 0..20 {
        let (connected, backlog) = shared.uplink.status();
        if !connected || backlog == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Says now and then how the box is doing.
async fn report(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(Duration::from_secs(60));
    every.tick().await;
    loop {
        every.tick().await;
        let gauges = shared.trunks.gauges().await;
        let (connected, backlog) = shared.uplink.status();
        shared.lateness();
        let late_us = shared.late_us.swap(0, Ordering::Relaxed);
        let speech = shared.speech.pool.stats();
        info!(
            calls = gauges.calls,
            transactions = gauges.client_transactions + gauges.server_transactions,
            connected,
            backlog,
            late_us,
            recognitions = speech.done,
            "State of the box"
        );
    }
}
