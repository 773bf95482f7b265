//! Start-up, serving, and an orderly end.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use trunkline_api::{Api, ApiConfig, Buckets, Peer, Rate, TlsListener, server_config};
use trunkline_db::Db;
use trunkline_figures::Pusher;
use trunkline_nlu::Engine;
use trunkline_worker::callbacks::CallbackConfig;
use trunkline_worker::{
    Broker, Gate, Generator, Hub, Inlet, Scripts, Stop, Wakers, WordLists, Worker, WorkerConfig, inlet,
};

use crate::broker::{Door, EmbeddedBroker, Listening};
use crate::config::{Config, Endpoint};
use crate::fleet::FleetSetup;
use crate::limits::{self, Room};
use crate::mosquitto::{self, Link, MosquittoConfig};
use crate::otlp;

/// How long what is under way may take to finish after the order to stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// A database that cannot grow loses nothing, but takes no call either.
const ROOM_NEEDED: u64 = 64 * 1024 * 1024;

/// Everything that can be checked without listening.
struct Checked {
    config: Config,
    tokens: Vec<(String, String)>,
    secret: Option<Vec<u8>>,
    scripts: Scripts,
    engine: Engine,
    gate: Gate,
    words: WordLists,
    fleet: FleetSetup,
    tls: rustls::ServerConfig,
    mosquitto: Option<mosquitto::Endpoint>,
    pusher: Option<Pusher>,
}

fn load(path: &Path) -> anyhow::Result<Checked> {
    // Two providers are linked (rmqtt brings its own), so the process must choose.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::read(path)?;
    let tokens = config.tokens()?;
    let secret = config.callback_secret()?;
    let api = &config.api;
    let tls = server_config(&api.cert, &api.key, &api.client_ca)?;
    if let Some(mqtt) = &config.mqtt {
        server_config(&mqtt.cert, &mqtt.key, &mqtt.client_ca)?;
    }
    let mosquitto = config.mosquitto.as_ref().map(MosquittoConfig::load).transpose()?;
    let scripts = Scripts::read(&config.scripts.dir)?;
    let models = config.model_dir();
    let engine = Engine::load(&models)
        .with_context(|| format!("could not load the models in `{}`", models.display()))?;
    if !engine.has_encoder() && !config.models.optional {
        bail!(
            "the model `e5-small-q4.bin` is not in `{}`; run `deploy/get-models`, or set `models.optional = true` to start without it",
            models.display()
        );
    }
    let gate = config.gate()?;
    // Only to know that they can be had.
    config.generate.as_ref().map(|generate| generate.load()).transpose()?;
    config.redis.as_ref().map(|redis| redis.load()).transpose()?;
    let words = WordLists::open(config.words.dir.clone()).context("[words] dir")?;
    let fleet = config.fleet.as_ref().map(|fleet| fleet.load()).transpose()?.unwrap_or_default();
    let pusher = config.otlp.as_ref().map(otlp::pusher).transpose()?;
    Ok(Checked { config, tokens, secret, scripts, engine, gate, words, fleet, tls, mosquitto, pusher })
}

/// Says what is wrong, or that nothing is.
pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
    let checked = load(path)?;
    let scripts = checked.scripts.all();
    let scripts: Vec<&str> = scripts.iter().map(|script| script.id().as_str()).collect();
    println!("ok: {} token(s), scripts: {}", checked.tokens.len(), scripts.join(", "));
    Ok(())
}

/// Serves until told to stop.
pub(crate) fn serve(path: &Path) -> anyhow::Result<()> {
    let checked = load(path)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("could not start the runtime")?
        .block_on(run(checked))
}

async fn run(checked: Checked) -> anyhow::Result<()> {
    let Checked { config, tokens, secret, scripts, engine, gate, words, fleet, tls, mosquitto, pusher } =
        checked;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;

    let limit = limits::raise()?;
    let db = open(&config.data_dir).await?;
    limits::check(limit, db.box_count().await?)?;
    let room = Arc::new(Room::new(limit));
    db.replace_tokens(&tokens).await?;
    db.all_boxes_offline().await?;
    let packs: Vec<_> = gate.packs().all().map(|pack| pack.reference()).collect();
    if db.audit_setting("policy packs", &serde_json::to_value(&packs)?, Timestamp::now()).await? {
        tracing::info!("The policy packs are others than at the last start; the audit log has them");
    }
    let (engine, scripts) = (Arc::new(engine), Arc::new(scripts));
    scripts.prepare(&db, &engine).await?;

    let socket = TcpListener::bind(config.api.listen).await.map_err(|e| taken("api", &config.api, &e))?;
    let (inlet, outlet) = inlet();
    let only_enrolled = fleet.api.only_enrolled;
    let beside = mosquitto.map(|at| (at.address.clone(), Link::new(at, inlet.clone(), db.clone())));
    let (broker, mqtt, broker_task): (Arc<dyn Broker>, String, JoinHandle<()>) = match (&config.mqtt, beside)
    {
        (_, Some((address, (broker, link)))) => (Arc::new(broker), address, tokio::spawn(link.run())),
        (Some(endpoint), None) => {
            let mqtt =
                embedded(endpoint, inlet, Door { db: db.clone(), only_enrolled, room: Arc::clone(&room) })
                    .await?;
            let address = mqtt.address.to_string();
            let (broker, serving) = mqtt.run(Arc::clone(&room));
            (Arc::new(broker), address, tokio::spawn(serving))
        }
        (None, None) => bail!("there is no broker"),
    };
    let listener = TlsListener::new(socket, tls)?;
    let api_address = axum::serve::Listener::local_addr(&listener)?;

    let (hub, wakers, gate, words) = (Hub::new(), Wakers::default(), Arc::new(gate), Arc::new(words));
    if !gate.packs().lab().boxes.is_empty() || gate.packs().lab().sip {
        tracing::warn!(boxes = ?gate.packs().lab().boxes, "A laboratory is declared: its targets are called at any hour");
    }
    let allow_private = config.callbacks.as_ref().is_some_and(|callbacks| callbacks.allow_private);
    let (stopper, stop) = Stop::new();
    let generator = match config.generate.as_ref().map(|generate| generate.load()).transpose()? {
        Some(model) => {
            tracing::warn!(
                ?model,
                "Nodes that ask for it are worded by a language model: what customers say goes there"
            );
            Some(Arc::new(Generator::new(model, Arc::clone(&words))?))
        }
        None => None,
    };
    let worker = Worker {
        db: db.clone(),
        scripts: Arc::clone(&scripts),
        engine: Arc::clone(&engine),
        gate: Arc::clone(&gate),
        words: Arc::clone(&words),
        experiments: Arc::default(),
        generator,
        broker,
        hub: hub.clone(),
        wakers: wakers.clone(),
        fleet: fleet.keys,
        config: WorkerConfig {
            lost_after: config.calls.lost_after,
            ring: config.calls.ring,
            listen_share: config.calls.listen_share,
            shared_state: config.redis.as_ref().map(|redis| redis.load()).transpose()?,
            callbacks: secret.clone().map(|secret| CallbackConfig::new(secret, allow_private)),
        },
    };
    let mut tasks = worker.start(outlet, stop.clone())?;
    let pushing = pusher.map(|pusher| tokio::spawn(otlp::push(pusher, db.clone(), room.files())));
    let api = Api {
        db: db.clone(),
        scripts,
        engine,
        gate,
        words,
        clock: Timestamp::now,
        buckets: Buckets::default(),
        files: room.files(),
        hub,
        wakers,
        fleet: fleet.api,
        config: ApiConfig {
            not_after: config.calls.not_after,
            callbacks: secret.is_some(),
            allow_private,
            rate: Rate { per_second: config.rate.per_second, burst: config.rate.burst },
        },
    };
    let mut api_stop = stop.clone();
    let service = api.router().into_make_service_with_connect_info::<Peer>();
    let mut http = tokio::spawn(
        axum::serve(listener, service)
            .with_graceful_shutdown(async move { api_stop.stopped().await })
            .into_future(),
    );

    announce(api_address, &mqtt)?;
    tracing::info!(api = %api_address, mqtt, "Serving");
    tokio::select! {
        _ = terminated.recv() => tracing::info!("Told to stop"),
        _ = interrupted.recv() => tracing::info!("Interrupted"),
        ended = tasks.join_next() => {
            if let Some(Err(error)) = ended {
                tracing::error!(%error, "A part of the worker broke; stopping, so that a supervisor restarts all of it");
            }
            broker_task.abort();
            bail!("a part of the worker ended by itself");
        }
    }

    // First nobody gets in, then what is in the pipes is filed, then the file is closed.
    broker_task.abort();
    if let Some(pushing) = pushing {
        pushing.abort();
    }
    let _ = stopper.send(true);
    let farewell = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("Some work was not finished in time; it is repeated after the next start");
    }
    // Requests under way are answered; streams would never end by themselves.
    if tokio::time::timeout(Duration::from_secs(1), &mut http).await.is_err() {
        http.abort();
    }
    let _ = tokio::time::timeout(FAREWELL, db.close()).await;
    tracing::info!("Stopped");
    Ok(())
}

async fn embedded(endpoint: &Endpoint, inlet: Inlet, door: Door) -> anyhow::Result<Listening> {
    EmbeddedBroker::bind(endpoint, inlet, door).await.map_err(|error| {
        match error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()) {
            Some(io) => taken("mqtt", endpoint, io),
            None => error.context("could not start the embedded broker"),
        }
    })
}

async fn open(data_dir: &Path) -> anyhow::Result<Db> {
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("could not make the data folder `{}`", data_dir.display()))?;
    let room = nix::sys::statvfs::statvfs(data_dir)
        .map(|fs| fs.blocks_available() * fs.fragment_size())
        .with_context(|| format!("could not look at the disk of `{}`", data_dir.display()))?;
    if room < ROOM_NEEDED {
        bail!(
            "the disk of `{}` has {} MiB left and 64 MiB are needed; free some room",
            data_dir.display(),
            room / (1024 * 1024)
        );
    }
    let path = data_dir.join("cloud.sqlite");
    let db = Db::open(&path).await?;
    tracing::info!(path = %path.display(), at = %Timestamp::now(), "Database open");
    Ok(db)
}

fn taken(section: &str, endpoint: &Endpoint, error: &std::io::Error) -> anyhow::Error {
    let listen = endpoint.listen;
    if error.kind() == std::io::ErrorKind::AddrInUse {
        anyhow::anyhow!(
            "port {} of {} is in use by another program; stop it (`ss -ltnp 'sport = :{}'` shows it), or choose another port in `{section}.listen`",
            listen.port(),
            listen.ip(),
            listen.port()
        )
    } else {
        anyhow::anyhow!("could not listen on `{listen}` (`{section}.listen`): {error}")
    }
}

/// The one line on standard output: whoever started us waits for it.
fn announce(api: SocketAddr, mqtt: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready api=https://{api} mqtt={mqtt}")?;
    Ok(out.flush()?)
}
