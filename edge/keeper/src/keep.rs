//! The keeper itself: joins, links, applies, updates, reports.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use trunkline_figures::{OtlpError, Resource};
use trunkline_model::DayHours;
use trunkline_update::{Conditions, Disk as _, RealDisk, Slot, replace};
use trunkline_wire::{CallsReport, Desired, Drained, Health, NotApplied, OrderReport, Reported};

use crate::calls::{Calls, CallsState, Carrier, Standing};
use crate::clock::Clock;
use crate::cloud::{Cloud, CloudError};
use crate::config::Config;
use crate::diag::{History, Sources};
use crate::health;
use crate::identity::{Identity, IdentityError, life};
use crate::launcher::stopped;
use crate::link::{self, LinkConfig, News};
use crate::metrics::{self, Watched};
use crate::ordered::{Ordered, view};
use crate::orders::Orders;
use crate::page::{Joined, Page};
use crate::parts;
use crate::settings::{self, Settings};
use crate::tls::{self, TlsError, Wallet};
use crate::updates::{Order, Shell, Told};

/// A box that the cloud refuses or cannot hear asks again after so long at the latest.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often the machine is looked at.
const LOOK_AT_MACHINE: Duration = Duration::from_secs(60);
/// How often it is looked at whether an order's time has come or is over.
const LOOK_AT_ORDERS: Duration = Duration::from_secs(1);
/// How often the age of the certificate is looked at.
const LOOK_AT_CERTIFICATE: Duration = Duration::from_secs(600);
/// The last report before another version starts gets this time to leave.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Where the newest desired document is kept, below the data folder.
pub(crate) const DESIRED: &str = "desired.json";
/// Where the calls' part of it is kept as it was last found good, below the data folder.
pub const CALLS: &str = "calls.json";
/// Which trunks took calls before another version was switched to, below the data folder.
const TRUNKS_BEFORE: &str = "trunks-before.json";

/// Why the keeper cannot keep the box.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Its key or certificate cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(String),
    /// The HTTPS client cannot be set up.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The data folder cannot be used.
    #[error("cannot use `{path}`")]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The figures cannot be pushed.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// The updates cannot begin.
    #[error("updates cannot be had: {0}")]
    Updates(String),
}

/// Which slot this process was started from, and which version lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// The slot.
    pub slot: Slot,
    /// The version, as people say it.
    pub version: String,
}

/// Why the keeper ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// Another version is to start: end with the status [`crate::SWITCH`].
    Switch,
}

/// Keeps the box until `stop` says so or another version is to start. `running` is what the launcher said;
/// without it nothing is updated. `carrier` is the program that carries calls, if this box has one: it finds its part
/// of the settings in the file [`CALLS`] of the data folder. `on_settings` puts settings in force, at the start and after
/// each change; it takes out what it cannot, and returns why.
///
/// # Errors
/// [`KeepError`] for what no waiting mends. The cloud being away is no error.
pub async fn keep(
    config: &Config,
    clock: &Clock,
    running: Option<Running>,
    carrier: Option<Carrier>,
    mut stop: watch::Receiver<bool>,
    mut on_settings: impl FnMut(&mut Settings) -> Vec<NotApplied>,
) -> Result<End, KeepError> {
    let data = |source| KeepError::Data { path: config.data_dir.clone(), source };
    let mut disk = RealDisk::new(&config.data_dir).map_err(data)?;
    let identity = Identity::open(&config.identity_dir(), &config.key)?;
    let wallet = Arc::new(Wallet::default());
    let tls = tls::client(&config.cloud.ca, clock, Arc::clone(&wallet)).map_err(in_words)?;
    let cloud = Cloud::new(&config.cloud.api, &tls)?;
    let page = Page::start(config, clock).await?;
    let joined = tokio::select! {
        joined = join(&identity, &cloud, clock) => joined?,
        () = stopped(&mut stop) => return Ok(End::Stopped),
    };
    wallet.put(&joined, identity.tls_key()?).map_err(in_words)?;
    // Connections of before were made without a certificate.
    let cloud = Cloud::new(&config.cloud.api, &tls)?;

    let mut box_state = BoxState::read(&disk, running.as_ref(), carrier.is_some());
    box_state.put_in_force(&mut on_settings, &mut disk);
    // The program for calls loads what is in force of them.
    let parts = match (&config.updates, &running) {
        (Some(updates), Some(_)) => {
            let updates = updates.clone();
            let opened = tokio::task::spawn_blocking(move || parts::open(&updates)).await;
            opened.map_err(|error| KeepError::Updates(error.to_string()))?
        }
        _ => Vec::new(),
    };
    let calls = carrier.map(Calls::start);
    // A box that carries no calls never hears of any.
    let (_none, no_calls) = watch::channel(Standing::Up(CallsState::default()));
    let mut standing = calls.as_ref().map_or(no_calls, Calls::standing);
    let (there, sources) = (calls.is_some(), Sources::new(config));
    let began = view(there, &standing.borrow(), false);
    let (mut ordered, mut coming) = Ordered::open(&disk, &config.orders, clock, &cloud, sources, began);
    let mut held = Held::default();
    held.follow(&ordered, calls.as_ref(), &mut box_state);
    let mut history = History::open(&config.data_dir);
    let (report, reports) = watch::channel(box_state.report(&Told::default()));
    let (up, linked) = watch::channel(false);
    let (news_tx, mut news) = mpsc::channel(16);
    let (host, port) = config.cloud.host_port().unwrap_or(("", 0));
    let link_config = LinkConfig {
        id: identity.id().clone(),
        host: host.to_owned(),
        port,
        tls: Arc::clone(&tls),
        clock: clock.clone(),
    };
    let _page =
        page.and_then(|page| page.joined(Joined { linked: linked.clone(), reports: reports.clone() }));
    let _link = AbortOnDrop(tokio::spawn(link::run(link_config, reports, news_tx, up)));

    let watched = Watched { report: report.subscribe(), standing: standing.clone(), linked: linked.clone() };
    let _metrics = config
        .metrics
        .as_ref()
        .map(|metrics| AbortOnDrop(tokio::spawn(metrics::serve(metrics.listen, watched.clone()))));

    let _pushing = match &config.otlp {
        Some(otlp) => {
            let who = Resource {
                service: "trunkline-edge",
                instance: identity.id().to_string(),
                version: box_state.software.clone(),
            };
            // A collector that asks who is there is shown the box's certificate.
            let tls = tls::client(otlp.ca.as_ref().unwrap_or(&config.cloud.ca), clock, wallet.clone());
            let pusher = metrics::pusher(otlp, &*tls.map_err(in_words)?, who)?;
            let clock = clock.clone();
            let figures = move || std::future::ready(Ok((watched.page(), clock.now())));
            Some(AbortOnDrop(tokio::spawn(trunkline_figures::push(pusher, figures))))
        }
        None => None,
    };

    let (told_tx, mut told) = watch::channel(Told::default());
    let (orders, orders_rx) = mpsc::channel(16);
    // Without a slot nobody tells anything, and nobody waits for it.
    let mut quiet = None;
    match (&config.updates, &running) {
        (Some(updates), Some(running)) => {
            let shell = Shell {
                id: identity.id().clone(),
                config: updates.clone(),
                data: config.data_dir.clone(),
                slot: running.slot,
                cloud: cloud.clone(),
                clock: clock.clone(),
                linked,
                calls: standing.clone(),
                trunks_before: read_json(&disk, TRUNKS_BEFORE),
                tester: calls.as_ref().map(Calls::tester),
                selftest: config.selftest.clone(),
            };
            shell.start(parts, orders_rx, told_tx).map_err(|error| KeepError::Updates(error.to_string()))?;
        }
        _ => quiet = Some(told_tx),
    }
    let _ = orders.send(Order::Conditions(box_state.conditions())).await;

    let mut renewal = tokio::time::interval(LOOK_AT_CERTIFICATE);
    let mut machine = tokio::time::interval(LOOK_AT_MACHINE);
    let mut look_at_orders = tokio::time::interval(LOOK_AT_ORDERS);
    let end = loop {
        tokio::select! {
            () = stopped(&mut stop) => break End::Stopped,
            message = news.recv() => match message {
                None => break End::Stopped,
                Some(News::Desired(desired)) => {
                    if box_state.take(desired, &mut disk) {
                        let others = box_state.put_in_force(&mut on_settings, &mut disk);
                        if let (true, Some(calls)) = (others, &calls) {
                            calls.restart();
                        }
                        let _ = orders.send(Order::Conditions(box_state.conditions())).await;
                    }
                    let _ = report.send(box_state.report(&told.borrow()));
                }
                // Without updates the cloud is told that it came, and hears why nothing follows.
                Some(News::Job(job)) if quiet.is_some() => {
                    box_state.assignment = box_state.assignment.max(job.number);
                    let _ = report.send(box_state.report(&told.borrow()));
                }
                Some(News::Job(job)) => {
                    let _ = orders.send(Order::Job(job)).await;
                }
                Some(News::Order(order, sent)) => {
                    ordered.take(&mut disk, calls.as_ref(), |orders, now| orders.handle_order(order, sent, now));
                    held.follow(&ordered, calls.as_ref(), &mut box_state);
                    // Also when it was known: headquarters has not heard of it, or would not have sent it again.
                    let _ = report.send(box_state.report(&told.borrow()));
                }
            },
            Some(came) = coming.recv() => {
                let seen = view(there, &standing.borrow(), held.update);
                ordered.came(&mut disk, calls.as_ref(), seen, came);
                held.follow(&ordered, calls.as_ref(), &mut box_state);
                let _ = report.send(box_state.report(&told.borrow()));
            }
            _ = look_at_orders.tick() => {
                if ordered.take(&mut disk, calls.as_ref(), Orders::handle_timeout) {
                    held.follow(&ordered, calls.as_ref(), &mut box_state);
                    let _ = report.send(box_state.report(&told.borrow()));
                }
            }
            changed = told.changed() => {
                if changed.is_err() && quiet.is_none() {
                    return Err(KeepError::Updates("the thread of the updates ended".into()));
                }
                let now = told.borrow_and_update().clone();
                let switch = now.switch;
                held.update = now.draining;
                let seen = view(there, &standing.borrow(), held.update);
                ordered.take(&mut disk, calls.as_ref(), |orders, now| orders.handle_calls(seen, now));
                held.follow(&ordered, calls.as_ref(), &mut box_state);
                let _ = report.send(box_state.report(&now));
                if switch {
                    note_trunks(&mut disk, &standing.borrow().trunks_up());
                    tokio::time::sleep(LAST_WORD).await;
                    break End::Switch;
                }
            }
            Ok(()) = standing.changed() => {
                let heard = box_state.see_calls(&standing.borrow_and_update());
                let seen = view(there, &standing.borrow(), held.update);
                let changed = ordered.take(&mut disk, calls.as_ref(), |orders, now| orders.handle_calls(seen, now));
                held.follow(&ordered, calls.as_ref(), &mut box_state);
                if heard || changed {
                    let _ = report.send(box_state.report(&told.borrow()));
                }
                let _ = orders.send(Order::Conditions(box_state.conditions())).await;
            }
            _ = machine.tick() => {
                box_state.health = health::look(&config.data_dir, clock);
                history.note(&box_state.report(&told.borrow()), clock.now());
                // No news: it goes with the next report, which leaves once a minute in any case.
                report.send_if_modified(|newest| {
                    *newest = box_state.report(&told.borrow());
                    false
                });
            }
            _ = renewal.tick() => {
                if renew_when_due(&identity, &cloud, clock, &wallet).await
                    && let Some(calls) = &calls
                {
                    calls.new_certificate();
                }
            }
        }
    };
    if let Some(calls) = calls {
        // A call that began while the order to drain was on its way is let finish.
        calls.end(end == End::Stopped).await;
    }
    Ok(end)
}

/// Whether the program for calls is to take none, and who says so.
#[derive(Default)]
struct Held {
    /// Another version is to start.
    update: bool,
    /// What the program for calls was told last.
    told: bool,
}

impl Held {
    /// Tells the program for calls what holds now, and notes how the orders are.
    fn follow(&mut self, ordered: &Ordered, calls: Option<&Calls>, box_state: &mut BoxState) {
        let hold = self.update || ordered.holds_calls();
        if let (true, Some(calls)) = (hold != self.told, calls) {
            calls.drain(hold);
        }
        self.told = hold;
        box_state.orders = ordered.reports();
        box_state.drained = ordered.drained();
        box_state.boot = ordered.boot().to_owned();
    }
}

/// A new version is only held to the trunks that worked before it.
fn note_trunks(disk: &mut RealDisk, up: &[String]) {
    let noted = serde_json::to_vec(up).map_err(std::io::Error::from);
    if let Err(error) = noted.and_then(|bytes| replace(disk, TRUNKS_BEFORE, &bytes)) {
        tracing::warn!(%error, "Which trunks take calls could not be noted");
    }
}

fn read_json<T: DeserializeOwned + Default>(disk: &RealDisk, name: &str) -> T {
    disk.read(name).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Asks for a certificate until there is one; returns it. A box that has one goes on with it.
async fn join(identity: &Identity, cloud: &Cloud, clock: &Clock) -> Result<String, IdentityError> {
    if let Some(certificate) = identity.certificate()? {
        return Ok(certificate);
    }
    let request = identity.first_request()?;
    let proof = identity.claim_code()?.proof(&request);
    tracing::info!(box.id = %identity.id(), "This box has no certificate yet and asks for one");
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = match cloud.enrol(&request, &proof).await {
            Ok(reply) => {
                if let Some(off) = clock.learn(reply.now) {
                    tracing::warn!(off_s = off.as_secs(), "The clock is wrong; the cloud's time counts");
                }
                if let Some(certificate) = reply.certificate {
                    identity.save_certificate(&certificate)?;
                    tracing::info!(box.id = %identity.id(), "The box has joined");
                    return Ok(certificate);
                }
                tracing::info!(box.id = %identity.id(), state = reply.state, "Not yet joined");
                pause = FIRST_PAUSE;
                Duration::from_secs(reply.retry_s).clamp(FIRST_PAUSE, LONGEST_PAUSE)
            }
            Err(error) => {
                tracing::warn!("The box cannot join: {}", chain(&error));
                pause = (pause * 2).min(LONGEST_PAUSE);
                pause
            }
        };
        // Boxes that were switched on by the same fuse must not ask in the same instant.
        tokio::time::sleep(wait.mul_f32(0.75 + 0.5 * rand::random::<f32>())).await;
    }
}

/// Renews the certificate when two thirds of its life are over; returns whether there is a new one.
async fn renew_when_due(identity: &Identity, cloud: &Cloud, clock: &Clock, wallet: &Wallet) -> bool {
    let certificate = match identity.certificate() {
        Ok(certificate) => certificate.unwrap_or_default(),
        Err(error) => {
            tracing::error!("The certificate cannot be read: {}", chain(&error));
            return false;
        }
    };
    if life(&certificate).is_none_or(|life| clock.now() < life.renew_at()) {
        return false;
    }
    let request = match identity.new_request() {
        Ok(request) => request,
        Err(error) => {
            tracing::error!("The box cannot ask for a certificate: {}", chain(&error));
            return false;
        }
    };
    match cloud.renew(&request).await {
        Ok(reply) => {
            clock.learn(reply.now);
            let new = reply.certificate.unwrap_or_default();
            let kept = identity.save_certificate(&new).map_err(|error| chain(&error));
            let kept = kept.and_then(|()| identity.tls_key().map_err(|error| chain(&error)));
            let kept = kept.and_then(|key| wallet.put(&new, key).map_err(|error| chain(&error)));
            match &kept {
                Ok(()) => tracing::info!("The certificate was renewed"),
                Err(error) => tracing::error!("The new certificate cannot be used: {error}"),
            }
            kept.is_ok()
        }
        Err(error) => {
            tracing::warn!("The certificate could not be renewed: {}", chain(&error));
            false
        }
    }
}

/// What is in force, and of which document.
struct BoxState {
    software: String,
    desired: Option<Desired>,
    settings: Settings,
    problems: Vec<NotApplied>,
    assignment: u64,
    carries_calls: bool,
    calls: Option<CallsReport>,
    health: Health,
    orders: Vec<OrderReport>,
    drained: Option<Drained>,
    boot: String,
}

impl BoxState {
    /// Goes on with what was wanted before the last stop, also when the cloud is away.
    fn read(disk: &RealDisk, running: Option<&Running>, carries_calls: bool) -> Self {
        let desired: Option<Desired> = read_json(disk, DESIRED);
        let body = desired.as_ref().map(|desired| desired.body.clone()).unwrap_or_default();
        let (settings, problems) = settings::read(&body, carries_calls);
        let own = env!("CARGO_PKG_VERSION");
        let software = running.map_or_else(|| own.to_owned(), |running| running.version.clone());
        Self {
            software,
            desired,
            settings,
            problems,
            assignment: 0,
            carries_calls,
            calls: None,
            health: Health::default(),
            orders: Vec::new(),
            drained: None,
            boot: String::new(),
        }
    }

    /// Takes a document; returns whether something else is in force from now on.
    fn take(&mut self, desired: Desired, disk: &mut RealDisk) -> bool {
        let (settings, mut problems) = settings::read(&desired.body, self.carries_calls);
        let kept = serde_json::to_vec(&desired)
            .map_err(std::io::Error::from)
            .and_then(|bytes| replace(disk, DESIRED, &bytes));
        if let Err(error) = kept {
            let reason = format!("it is in force, and will not be after the next start: {error}");
            problems.push(NotApplied { path: String::new(), reason });
        }
        tracing::info!(
            version = desired.version,
            problems = problems.len(),
            "What this box should be has changed"
        );
        let changed = settings != self.settings;
        (self.settings, self.problems, self.desired) = (settings, problems, Some(desired));
        changed
    }

    /// Returns whether the calls' part is another one than before.
    fn put_in_force(
        &mut self,
        on_settings: &mut impl FnMut(&mut Settings) -> Vec<NotApplied>,
        disk: &mut RealDisk,
    ) -> bool {
        let refused = on_settings(&mut self.settings);
        let keep_old = refused.iter().any(|problem| problem.path == "/calls");
        self.problems.extend(refused);
        if !self.carries_calls {
            return false;
        }
        let old: Option<Value> = read_json(disk, CALLS);
        if keep_old || old == self.settings.calls {
            self.settings.calls = old;
            return false;
        }
        let kept = serde_json::to_vec(&self.settings.calls).map_err(std::io::Error::from);
        if let Err(error) = kept.and_then(|bytes| replace(disk, CALLS, &bytes)) {
            self.settings.calls = old;
            let reason = format!("it cannot be kept: {error}");
            self.problems.push(NotApplied { path: "/calls".to_owned(), reason });
            return false;
        }
        true
    }

    /// Takes how the program that carries calls stands; returns whether headquarters is to hear of it.
    fn see_calls(&mut self, standing: &Standing) -> bool {
        // How many calls there are is told with the next report; a report with each call would say little.
        let quiet = |report: &CallsReport| CallsReport { calls: 0, ..report.clone() };
        let before = self.calls.replace(standing.report());
        before.as_ref().map(quiet) != self.calls.as_ref().map(quiet)
    }

    fn conditions(&self) -> Conditions {
        Conditions {
            calls: self.calls.as_ref().map_or(0, |report| report.calls),
            locked: self.settings.locked,
            metered_limit: self.settings.metered_limit,
            hours: self.settings.hours.map(DayHours::minutes),
            bytes_per_s: self.settings.bytes_per_s,
            ..Conditions::default()
        }
    }

    fn report(&self, told: &Told) -> Reported {
        let mut problems = self.problems.clone();
        problems.extend(self.calls.iter().filter(|calls| calls.state == "down").map(|calls| NotApplied {
            path: "/calls".to_owned(),
            reason: format!("the program that carries calls is down: {}", calls.why),
        }));
        Reported {
            version: self.desired.as_ref().map_or(0, |desired| desired.version),
            hash: self.desired.as_ref().map(|desired| desired.hash.clone()).unwrap_or_default(),
            body: self.settings.in_force(),
            problems,
            components: told
                .components
                .iter()
                .map(|status| serde_json::to_value(status).unwrap_or(Value::Null))
                .collect(),
            assignment: self.assignment.max(told.assignment),
            trouble: told.trouble.clone(),
            software: self.software.clone(),
            health: Some(self.health.clone()),
            calls: self.calls.clone(),
            boot: self.boot.clone(),
            orders: self.orders.clone(),
            drained: self.drained.clone(),
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn in_words(error: TlsError) -> KeepError {
    KeepError::Tls(chain(&error))
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
