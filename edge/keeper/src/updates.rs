//! The shell around `edge/update`: the network, the clock and the self-test, on a thread of its own, since
//! hashing a version takes as long as it takes.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, watch};
use trunkline_model::BoxId;
use trunkline_update::{Check, Conditions, Fetch, Now, RealDisk, Slot, Status, Todo, Updater};
use trunkline_wire::JobNext;

use crate::calls::{EchoDone, Standing, Tester};
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::config::{SelftestConfig, UpdatesConfig};
use crate::parts::Part;

/// The component that the program itself is.
pub(crate) const COMPONENT: &str = "app";
/// The link must stand within this time of a trial's start, unless nobody can reach the cloud.
const LINK_WITHIN: Duration = Duration::from_secs(60);
/// The program that carries calls must be ready within this time of a trial's start: models are large.
const CALLS_WITHIN: Duration = Duration::from_secs(240);
/// The trunks that took calls before must do so within this time.
const TRUNKS_WITHIN: Duration = Duration::from_secs(60);
/// A test call lasts so much longer than it may ring.
const ECHO_WITHIN: Duration = Duration::from_secs(60);
/// A version's own test must end within this time.
const OWN_TEST: Duration = Duration::from_secs(120);

/// What the updater is told.
#[derive(Debug)]
pub(crate) enum Order {
    Job(JobNext),
    Conditions(Conditions),
}

/// What the updater tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) components: Vec<Status>,
    pub(crate) trouble: Option<String>,
    /// The number of the newest assignment that came.
    pub(crate) assignment: u64,
    /// No new calls are to be taken.
    pub(crate) draining: bool,
    /// Another version is to start.
    pub(crate) switch: bool,
}

pub(crate) struct Shell {
    pub(crate) id: BoxId,
    pub(crate) config: UpdatesConfig,
    pub(crate) data: PathBuf,
    pub(crate) slot: Slot,
    pub(crate) cloud: Cloud,
    pub(crate) clock: Clock,
    /// Whether the link stands.
    pub(crate) linked: watch::Receiver<bool>,
    /// How the program that carries calls stands.
    pub(crate) calls: watch::Receiver<Standing>,
    /// The trunks that took calls under the version before.
    pub(crate) trunks_before: Vec<String>,
    /// Who makes test calls; absent on a box without a program for calls.
    pub(crate) tester: Option<Tester>,
    /// What a test call must come to.
    pub(crate) selftest: SelftestConfig,
}

impl Shell {
    /// Starts the thread. It ends when `orders` is closed, or after it has told that another version is to start.
    pub(crate) fn start(
        self,
        parts: Vec<Part>,
        orders: mpsc::Receiver<Order>,
        told: watch::Sender<Told>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let root = std::fs::read(&self.config.root)?;
        let disk = RealDisk::new(&self.data.join("updates"))?;
        let slots = RealDisk::new(&self.config.slots)?;
        let config = trunkline_update::Config {
            box_id: self.id.to_string(),
            platform: self.config.platform.clone(),
            built: self.clock.built(),
        };
        let mut components = vec![(COMPONENT.to_owned(), slots, self.slot)];
        components.extend(parts);
        let updater = Updater::open(config, disk, &root, components, now(&self.clock))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new()
            .name("updates".into())
            .spawn(move || runtime.block_on(self.run(updater, orders, Arc::new(told))))?;
        Ok(())
    }

    async fn run(
        self,
        mut updater: Updater<RealDisk>,
        mut orders: mpsc::Receiver<Order>,
        told: Arc<watch::Sender<Told>>,
    ) {
        let mut number = 0;
        let tell = |updater: &Updater<RealDisk>, number: u64, change: &dyn Fn(&mut Told)| {
            told.send_if_modified(|told| {
                let before = (told.components.clone(), told.trouble.clone(), told.assignment);
                let (draining, switch) = (told.draining, told.switch);
                told.components = updater.status();
                told.trouble = updater.trouble().map(str::to_owned);
                told.assignment = number;
                change(told);
                before != (told.components.clone(), told.trouble.clone(), told.assignment)
                    || (draining, switch) != (told.draining, told.switch)
            });
        };
        loop {
            let todo = updater.poll(now(&self.clock));
            tell(&updater, number, &|_| {});
            match todo {
                Todo::Fetch(fetch) => {
                    if !self.fetch(&mut updater, &mut orders, &mut number, fetch).await {
                        return;
                    }
                }
                Todo::Drain(on) => tell(&updater, number, &|told| told.draining = on),
                Todo::Switch { component } => {
                    tracing::info!(component, "Another version is to start");
                    tell(&updater, number, &|told| told.switch = true);
                    return;
                }
                Todo::SelfTest { component } => {
                    let checks = self.self_test().await;
                    for check in &checks {
                        match &check.failed {
                            None => tracing::info!(component, check = check.name, "Self-test passed"),
                            Some(why) => {
                                tracing::error!(component, check = check.name, why, "Self-test failed")
                            }
                        }
                    }
                    updater.handle_self_test(&component, &checks);
                }
                Todo::Wait { until } => {
                    let until = until.map(|until| until.saturating_sub(self.clock.since_start()));
                    tokio::select! {
                        order = orders.recv() => match order {
                            None => return,
                            Some(order) => take(&mut updater, &mut number, order),
                        },
                        () = tokio::time::sleep(until.unwrap_or(Duration::from_secs(3_600))) => {}
                    }
                }
            }
        }
    }

    /// Gets something, and goes on listening meanwhile: whoever takes an update back need not wait for it.
    /// Returns false when the keeper stops.
    async fn fetch(
        &self,
        updater: &mut Updater<RealDisk>,
        orders: &mut mpsc::Receiver<Order>,
        number: &mut u64,
        fetch: Fetch,
    ) -> bool {
        let fetching = self.cloud.fetch(&fetch);
        tokio::pin!(fetching);
        loop {
            tokio::select! {
                result = &mut fetching => {
                    if let Err(error) = &result {
                        tracing::debug!(path = fetch.path, %error, "A fetch failed");
                    }
                    updater.handle_fetched(now(&self.clock), fetch.number, result);
                    return true;
                }
                order = orders.recv() => match order {
                    None => return false,
                    Some(order) => {
                        let taken_back = matches!(&order, Order::Job(job) if !job.cancel.is_empty());
                        take(updater, number, order);
                        if taken_back {
                            return true;
                        }
                    }
                },
            }
        }
    }

    /// Is the version that runs fit to stay? Asked once, on its first start.
    async fn self_test(&self) -> Vec<Check> {
        let check = |name: &str, failed: Option<String>| Check { name: name.into(), failed };
        vec![
            check("disk", self.disk_is_writable().err()),
            check("cloud", self.cloud_is_reached().await.err()),
            check("calls", self.calls_are_ready().await.err()),
            check("trunks", self.trunks_are_up().await.err()),
            check("echo", self.echo_returns().await.err()),
            check("own test", self.own_test().await.err()),
        ]
    }

    fn disk_is_writable(&self) -> Result<(), String> {
        let path = self.data.join("self-test");
        std::fs::write(&path, b"x")
            .and_then(|()| std::fs::remove_file(&path))
            .map_err(|error| error.to_string())
    }

    /// The link stands, or the network is proven down for everybody: not being reached is then no fault of the
    /// version.
    async fn cloud_is_reached(&self) -> Result<(), String> {
        let mut linked = self.linked.clone();
        let up = tokio::time::timeout(LINK_WITHIN, linked.wait_for(|up| *up)).await;
        if matches!(up, Ok(Ok(_))) {
            return Ok(());
        }
        let probe = Fetch {
            number: 0,
            path: "metadata/timestamp.json".into(),
            range: None,
            max_bytes: 64 * 1024,
            within: Duration::from_secs(10),
            bytes_per_s: None,
        };
        match self.cloud.fetch(&probe).await {
            Ok(_) => Err("the API answers and the broker does not let us in".into()),
            Err(error) => {
                tracing::warn!(%error, "The network is down; the version is not judged by it");
                Ok(())
            }
        }
    }

    /// Models are loaded and sockets stand.
    async fn calls_are_ready(&self) -> Result<(), String> {
        let mut calls = self.calls.clone();
        let settled = calls.wait_for(|standing| *standing != Standing::Starting);
        match tokio::time::timeout(CALLS_WITHIN, settled).await {
            Err(_) => Err(format!("not ready within {} s", CALLS_WITHIN.as_secs())),
            Ok(standing) => match standing.as_deref() {
                Ok(Standing::Down(why)) => Err(why.clone()),
                Ok(_) | Err(_) => Ok(()),
            },
        }
    }

    /// Each trunk that took calls under the version before takes them now. While nobody can reach the cloud either, it
    /// is the network that is down, and not the version's fault.
    async fn trunks_are_up(&self) -> Result<(), String> {
        let missing = |standing: &Standing| {
            let up = standing.trunks_up();
            let missing = self.trunks_before.iter().filter(|name| !up.contains(*name));
            missing.cloned().collect::<Vec<_>>()
        };
        let mut calls = self.calls.clone();
        let all_up = calls.wait_for(|standing| missing(standing).is_empty());
        if tokio::time::timeout(TRUNKS_WITHIN, all_up).await.is_ok() {
            return Ok(());
        }
        let missing = missing(&self.calls.borrow()).join(", ");
        if !*self.linked.borrow() {
            tracing::warn!(missing, "Trunks are down and so is the network; the version is not judged by it");
            return Ok(());
        }
        Err(format!("these took calls before and do not now: {missing}"))
    }

    /// A call over the box's own line brings back what was sent. While nobody can reach the cloud either, it is the network
    /// that is down, and not the version's fault.
    async fn echo_returns(&self) -> Result<(), String> {
        let (Some(to), Some(tester)) = (&self.selftest.echo, &self.tester) else { return Ok(()) };
        let ring = Duration::from_secs(u64::from(self.selftest.ring_s));
        let heard = tester.clone().echo(to, ring, ring + ECHO_WITHIN).await;
        let Err(why) = heard.and_then(|heard| good_enough(&heard, &self.selftest)) else { return Ok(()) };
        if !self.selftest.required || !*self.linked.borrow() {
            tracing::warn!(why, "The test call failed; the version is not judged by it");
            return Ok(());
        }
        Err(why)
    }

    /// A version may bring a test of its own, `bin/self-test`; what it prints last is the reason.
    async fn own_test(&self) -> Result<(), String> {
        let folder = self.config.slots.join(self.slot.name());
        let program = folder.join("bin/self-test");
        if !program.is_file() {
            return Ok(());
        }
        let run = tokio::process::Command::new(&program)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = match tokio::time::timeout(OWN_TEST, run).await {
            Err(_) => return Err(format!("it did not end within {} s", OWN_TEST.as_secs())),
            Ok(Err(error)) => return Err(error.to_string()),
            Ok(Ok(output)) => output,
        };
        if output.status.success() {
            return Ok(());
        }
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let last: String = said.lines().last().unwrap_or_default().chars().take(200).collect();
        Err(if last.is_empty() { output.status.to_string() } else { last })
    }
}

/// Says what is wrong with what a test call heard.
fn good_enough(heard: &EchoDone, limits: &SelftestConfig) -> Result<(), String> {
    let EchoDone { round_trip_ms, loss_db, lost_permille, .. } = heard;
    if let Some(why) = &heard.failed {
        return Err(why.clone());
    }
    let round_trip = format!("{round_trip_ms} ms there and back, {} at most", limits.max_round_trip_ms);
    let loss = format!("the signal returns {loss_db} dB softer, {} at most", limits.max_loss_db);
    let lost =
        format!("{lost_permille} of a thousand packets are lost, {} at most", limits.max_lost_percent * 10);
    let wrong = [
        (*round_trip_ms > limits.max_round_trip_ms, round_trip),
        (*loss_db > limits.max_loss_db, loss),
        (*lost_permille > limits.max_lost_percent * 10, lost),
    ];
    let wrong: Vec<String> = wrong.into_iter().filter(|(is, _)| *is).map(|(_, said)| said).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn take(updater: &mut Updater<RealDisk>, number: &mut u64, order: Order) {
    match order {
        Order::Job(job) => {
            // Messages may overtake each other; an older one says nothing new.
            if job.number < *number {
                return;
            }
            *number = job.number;
            for component in &job.cancel {
                if updater.handle_cancel(component) {
                    tracing::info!(component, "An update was taken back");
                }
            }
            updater.handle_assignment(job.assignment.into_bytes());
        }
        Order::Conditions(conditions) => updater.handle_conditions(conditions),
    }
}

fn now(clock: &Clock) -> Now {
    let wall = clock.now();
    let local = wall.to_zoned(TimeZone::system());
    let local_minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
    Now { mono: clock.since_start(), wall, local_minute }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_call_is_judged_by_each_limit_and_says_which() {
        let limits = SelftestConfig::default();
        let good = EchoDone { id: 1, failed: None, round_trip_ms: 120, loss_db: 1, lost_permille: 30 };
        assert_eq!(good_enough(&good, &limits), Ok(()));
        let none = EchoDone { failed: Some("it was answered, and no sound came".into()), ..good.clone() };
        assert_eq!(good_enough(&none, &limits), Err("it was answered, and no sound came".into()));
        let bad = EchoDone { round_trip_ms: 900, lost_permille: 31, ..good };
        let why = good_enough(&bad, &limits).unwrap_err();
        assert_eq!(why, "900 ms there and back, 800 at most; 31 of a thousand packets are lost, 30 at most");
    }
}
