//! What carries orders out: the shell around [`Orders`], with the disk, the program for calls, commands and files.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::sync::mpsc;
use trunkline_update::{Disk as _, RealDisk, replace};
use trunkline_wire::{Drained, OrderCommand, OrderReport};
use uuid::Uuid;

use crate::calls::{Calls, Standing};
use crate::clock::Clock;
use crate::cloud::Cloud;
use crate::config::OrdersConfig;
use crate::diag::Sources;
use crate::keep::chain;
use crate::orders::{CallsView, Do, Now, Orders};

/// Where orders are kept, below the data folder.
pub(crate) const ORDERS: &str = "orders.json";
/// The command that starts the machine anew answers within this time.
const COMMAND: Duration = Duration::from_secs(60);
/// A file that could not be sent is tried so often.
const TRIES: u32 = 4;

/// What came of something that takes time.
#[derive(Debug)]
pub(crate) enum Came {
    Restarted(Uuid),
    Sent(Uuid),
    Failed(Uuid, &'static str, String),
    /// The command that starts the machine anew was run.
    GoesDown,
}

/// The orders of a box, and what they need.
pub(crate) struct Ordered {
    orders: Orders,
    config: OrdersConfig,
    clock: Clock,
    cloud: Cloud,
    sources: Sources,
    boot: String,
    came: mpsc::UnboundedSender<Came>,
}

impl Ordered {
    /// Goes on with what was kept; what comes later of it arrives at the receiver.
    pub(crate) fn open(
        disk: &RealDisk,
        config: &OrdersConfig,
        clock: &Clock,
        cloud: &Cloud,
        sources: Sources,
        view: CallsView,
    ) -> (Self, mpsc::UnboundedReceiver<Came>) {
        let boot = read_boot(&config.boot_id);
        let kept = disk.read(ORDERS).ok();
        let orders = Orders::open(kept.as_deref(), &boot, view, now(clock));
        let (came, coming) = mpsc::unbounded_channel();
        let (config, clock, cloud) = (config.clone(), clock.clone(), cloud.clone());
        (Self { orders, config, clock, cloud, sources, boot, came }, coming)
    }

    /// Lets the orders take something in, keeps what follows, and begins it. Returns whether headquarters is to hear.
    pub(crate) fn take(
        &mut self,
        disk: &mut RealDisk,
        calls: Option<&Calls>,
        act: impl FnOnce(&mut Orders, Now),
    ) -> bool {
        let (before, drained) = (self.orders.reports(), self.orders.drained());
        act(&mut self.orders, now(&self.clock));
        if let Some(bytes) = self.orders.poll_kept()
            && let Err(error) = replace(disk, ORDERS, &bytes)
        {
            tracing::error!(%error, "Orders cannot be kept, and so they are not carried out");
            self.orders.handle_not_kept(&error.to_string());
        }
        while let Some(output) = self.orders.poll_output() {
            self.perform(output, calls);
        }
        before != self.orders.reports() || drained != self.orders.drained()
    }

    fn perform(&self, output: Do, calls: Option<&Calls>) {
        let came = self.came.clone();
        match output {
            Do::Restart { order, at_once } => {
                tracing::info!(%order, at_once, "The program for calls is started anew by order");
                let over = calls.map(|calls| calls.restarted(at_once));
                tokio::spawn(async move {
                    if let Some(over) = over {
                        let _ = over.await;
                    }
                    let _ = came.send(Came::Restarted(order));
                });
            }
            Do::Reboot { order } => {
                tracing::warn!(%order, "The machine is started anew by order");
                let command = self.config.reboot.clone();
                tokio::spawn(async move {
                    let said = match run(&command).await {
                        Ok(()) => Came::GoesDown,
                        Err(why) => Came::Failed(order, "command_failed", why),
                    };
                    let _ = came.send(said);
                });
            }
            Do::Collect(command) => {
                let (sources, cloud, clock) = (self.sources.clone(), self.cloud.clone(), self.clock.clone());
                tokio::spawn(async move {
                    let order = command.order;
                    let said = match collect(sources, &cloud, &clock, command).await {
                        Ok(()) => Came::Sent(order),
                        Err((reason, why)) => Came::Failed(order, reason, why),
                    };
                    let _ = came.send(said);
                });
            }
        }
    }

    /// Takes what came of something, while the program for calls stands like this.
    pub(crate) fn came(&mut self, disk: &mut RealDisk, calls: Option<&Calls>, seen: CallsView, came: Came) {
        self.take(disk, calls, |orders, now| match &came {
            Came::Restarted(order) => orders.handle_restarted(order, seen, now),
            Came::Sent(order) => orders.handle_sent(order, now),
            Came::Failed(order, reason, why) => {
                tracing::warn!(%order, reason, why, "An order could not be carried out");
                orders.handle_failed(order, reason, why, now);
            }
            Came::GoesDown => tracing::info!("The machine is going down"),
        });
    }

    /// Says whether no new calls are to be taken because of an order.
    pub(crate) fn holds_calls(&self) -> bool {
        self.orders.holds_calls()
    }

    pub(crate) fn reports(&self) -> Vec<OrderReport> {
        self.orders.reports()
    }

    pub(crate) fn drained(&self) -> Option<Drained> {
        self.orders.drained()
    }

    /// Returns what tells this start of the machine from every other.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }
}

/// Returns how the program for calls stands, as orders see it.
pub(crate) fn view(there: bool, standing: &Standing, held_otherwise: bool) -> CallsView {
    let view = CallsView { there, held_otherwise, ..CallsView::default() };
    match standing {
        Standing::Up(state) if there => {
            CallsView { up: true, refuses: state.draining, calls: state.calls, ..view }
        }
        Standing::Up(_) | Standing::Starting | Standing::Down(_) => view,
    }
}

pub(crate) fn read_boot(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.trim().chars().take(100).collect()
}

fn now(clock: &Clock) -> Now {
    Now { mono: clock.since_start(), wall: clock.now() }
}

async fn run(command: &[String]) -> Result<(), String> {
    let Some((program, args)) = command.split_first() else {
        return Err("`[orders] reboot` is empty: this machine is not started anew from afar".to_owned());
    };
    let run = tokio::process::Command::new(program).args(args).stdin(Stdio::null()).output();
    match tokio::time::timeout(COMMAND, run).await {
        Err(_) => Err(format!("the command did not end within {} s", COMMAND.as_secs())),
        Ok(Err(error)) => Err(format!("the command cannot be run: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(format!("the command ended with {}", output.status)),
    }
}

/// Makes the file that an order wants, and sends it.
async fn collect(
    sources: Sources,
    cloud: &Cloud,
    clock: &Clock,
    command: OrderCommand,
) -> Result<(), (&'static str, String)> {
    let order = command.order;
    let at = clock.now();
    // Much is read and masked: not between two words of a conversation with the broker.
    let made = tokio::task::spawn_blocking(move || match command.kind.as_str() {
        "logs" => sources.logs(command.lines.map(|lines| lines as usize), command.since),
        _ => sources.bundle(at),
    });
    let file = match made.await {
        Ok(Ok(file)) => file,
        Ok(Err(error)) => return Err(("not_made", error.to_string())),
        Err(error) => return Err(("not_made", error.to_string())),
    };
    let mut pause = Duration::from_secs(1);
    for attempt in 1.. {
        match cloud.send_order_file(&order, &file).await {
            Ok(()) => break,
            Err(error) if attempt >= TRIES => return Err(("not_sent", chain(&error))),
            Err(error) => tracing::warn!(%order, attempt, "A file could not be sent: {}", chain(&error)),
        }
        tokio::time::sleep(pause).await;
        pause *= 3;
    }
    Ok(())
}
