//! What the cloud does by itself: gives calls to boxes, files what boxes report, answers turns and
//! delivers callbacks.
//!
//! Each part reads the database, decides and applies, so that a restart is no special case. The
//! decisions are plain functions ([`dispatch::plan`], [`trunkline_turn::answer`], [`callbacks::delay`]); the
//! tasks around them move messages and time.
//!
//! **Invariant:** an event is acknowledged after its commit and never before.
//! **Invariant:** a call that may have reached a box is never given to another one.
//! **Invariant:** a box hears and changes its own calls only.
//! **Invariant:** no call is given to a box without a fresh permission of the gate and its receipt, nor to a
//! box that has not confirmed every opt-out and list entry.
//!
//! Absent on purpose: SQL (`cloud/db`), HTTP in (`cloud/api`), and any particular broker: the server
//! brings one behind [`Broker`].

pub mod appraise;
pub mod broker;
pub mod callbacks;
pub mod campaigns;
pub mod dispatch;
pub mod fleet;
pub mod gate;
pub mod generate;
mod hub;
mod inbox;
mod lines;
pub mod numbers;
mod orders;
pub mod pacing;
pub mod scripts;
pub mod shared_state;
mod suppress;
mod targets;
pub mod turns;
pub mod words;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use trunkline_db::Db;

pub use appraise::Experiments;
pub use broker::{Broker, BrokerError, Inbound, Inlet, Outlet, Publication, Qos};
pub use fleet::FleetKeys;
pub use gate::{Ask, ContactFacts, Gate, GateSettings};
pub use generate::{GenerateConfig, Generator};
pub use hub::{Hub, Stop, Wakers};
pub use scripts::Scripts;
pub use targets::{TargetError, check_target};
pub use trunkline_nlu::Engine;
pub use words::WordLists;

/// What the worker needs to know.
#[derive(Clone)]
pub struct WorkerConfig {
    /// Silence of a box about a running call after which the call is shown as lost.
    pub lost_after: Duration,
    /// How long a call rings.
    pub ring: Duration,
    /// Calls in Redis for other systems, where one is configured.
    pub shared_state: Option<shared_state::SharedStateConfig>,
    /// The share of finished calls that a person is to listen to, beside those with something critical, 0 to 1.
    pub listen_share: f64,
    /// Callbacks, where a secret is configured.
    pub callbacks: Option<callbacks::CallbackConfig>,
}

/// Everything the tasks share.
#[derive(Clone)]
pub struct Worker {
    /// The database.
    pub db: Db,
    /// The scripts.
    pub scripts: Arc<Scripts>,
    /// The understanding.
    pub engine: Arc<Engine>,
    /// Who may be called.
    pub gate: Arc<Gate>,
    /// What the robot must not say, and what is noticed when a customer says it.
    pub words: Arc<WordLists>,
    /// What the scripts' experiments have shown.
    pub experiments: Arc<Experiments>,
    /// Words of a language model, where one is configured.
    pub generator: Option<Arc<Generator>>,
    /// The way to the boxes.
    pub broker: Arc<dyn Broker>,
    /// Tells the API's streams which calls changed.
    pub hub: Hub,
    /// Wakes the tasks before their time.
    pub wakers: Wakers,
    /// Where releases lie and who signs assignments; without it no box is updated from here.
    pub fleet: Option<FleetKeys>,
    /// Settings.
    pub config: WorkerConfig,
}

/// Returns an error with its causes, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    dispatch::Chain(error).to_string()
}

/// Makes the two ends of the way from the broker to the worker.
///
/// What must not be lost waits for room, which slows the one box that sends too much; a turn that
/// finds no room is dropped, and the box asks again or decides by itself.
pub fn inlet() -> (Inlet, Outlet) {
    let (filed, filed_rx) = mpsc::channel(1_024);
    let (turns, turns_rx) = mpsc::channel(1_024);
    (Inlet { filed, turns }, Outlet { filed: filed_rx, turns: turns_rx })
}

impl Worker {
    /// Starts the tasks. They end when `stop` says so; the returned set then becomes empty.
    ///
    /// # Errors
    /// When the HTTP client for callbacks cannot be made.
    pub fn start(self, outlet: Outlet, stop: Stop) -> Result<JoinSet<()>, callbacks::ClientError> {
        let worker = Arc::new(self);
        let mut tasks = JoinSet::new();
        if let Some(config) = worker.config.callbacks.clone() {
            let courier = callbacks::Courier::new(
                worker.db.clone(),
                config,
                worker.hub.clone(),
                worker.wakers.clone(),
            )?;
            tasks.spawn(courier.run(stop.clone()));
        }
        if let Some(config) = worker.config.shared_state.clone() {
            let state = shared_state::SharedState::new(worker.db.clone(), worker.hub.clone(), config);
            tasks.spawn(state.run(stop.clone()));
        }
        tasks.spawn(dispatch::run(Arc::clone(&worker), stop.clone()));
        tasks.spawn(campaigns::run(Arc::clone(&worker), stop.clone()));
        tasks.spawn(fleet::run(Arc::clone(&worker), stop.clone()));
        tasks.spawn(appraise::run(Arc::clone(&worker), stop.clone()));
        tasks.spawn(suppress::run(Arc::clone(&worker), stop.clone()));
        tasks.spawn(numbers::run(Arc::clone(&worker), stop.clone()));
        tasks.spawn(inbox::run(Arc::clone(&worker), outlet.filed, stop.clone()));
        tasks.spawn(turns::run(worker, outlet.turns, stop));
        Ok(tasks)
    }
}
