//! Who may call, and which calls there are.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use rtrb::Producer;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, watch};
use tracing::{info, warn};
use trunkline_audio::record::RecordFrame;
use trunkline_call::arrive;
use trunkline_gate::BoxGate;
use trunkline_line::trunks::{IncomingCall, Trunks};
use trunkline_line::{MediaHandle, RecorderHandle, TraceName};
use trunkline_model::{CallId, Callee, Direction, Disposition};
use trunkline_wire::{CallInbound, CallRecord, DialCommand, DialReply, NumbersCommand};
use uuid::Uuid;

use crate::admission::too_late;
use crate::blobs::Blobs;
use crate::call::{self, Message, Origin};
use crate::child::Keeper;
use crate::config::Config;
use crate::kept::{Floor, Words};
use crate::numbers::{self, Numbers};
use crate::speech::Speech;
use crate::uplink::{Down, Uplink};

/// Why no call is taken while another version or other settings are due.
const DRAINING: &str = "the box takes no calls for a moment: another version or other settings";

/// What the supervisor has at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Calls that have not ended.
    pub(crate) calls: u32,
    /// No call is taken from now on.
    pub(crate) draining: bool,
}
/// When a customer who found all channels in use may try again.
const BUSY_FOR: Duration = Duration::from_secs(10);
/// When a trunk may send calls again to a box that stops, or cannot record; until then it looks for another.
const CLOSED_FOR: Duration = Duration::from_secs(60);

/// What every call needs.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) speech: Speech,
    pub(crate) trunks: Trunks,
    pub(crate) media: MediaHandle,
    pub(crate) recorder: RecorderHandle,
    pub(crate) uplink: Uplink,
    pub(crate) blobs: Blobs,
    pub(crate) gate: BoxGate,
    pub(crate) floor: Floor,
    pub(crate) numbers: Arc<Numbers>,
    pub(crate) words: Words,
    /// What the keeper wants; a box without one serves.
    pub(crate) wish: watch::Receiver<Keeper>,
    /// What the supervisor has at hand, for the keeper.
    pub(crate) load: watch::Sender<Load>,
    /// The greatest lateness of the sound since it was last logged, in microseconds.
    pub(crate) late_us: AtomicU64,
    /// The sound card's end, for the first call that asks.
    pub(crate) monitor: Mutex<Option<mpsc::UnboundedSender<rtrb::Consumer<RecordFrame>>>>,
}

impl Shared {
    /// Returns the greatest lateness of the sound since it was last asked for, in microseconds, and keeps it for the log.
    pub(crate) fn lateness(&self) -> u64 {
        let late = u64::try_from(self.media.worst_lateness().as_micros()).unwrap_or(u64::MAX);
        self.late_us.fetch_max(late, Ordering::Relaxed);
        late
    }

    /// Returns a tap for the sound card, if the box has one.
    pub(crate) async fn monitor_tap(&self) -> Option<Producer<RecordFrame>> {
        let monitor = self.monitor.lock().await;
        let sender = monitor.as_ref()?;
        let (producer, consumer) = rtrb::RingBuffer::new(100);
        sender.send(consumer).ok()?;
        Some(producer)
    }
}

/// Runs until the link's side is gone or `stop` says so; then calls under way are let finish.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut down: mpsc::UnboundedReceiver<Down>,
    mut stop: watch::Receiver<bool>,
) {
    file_what_a_restart_left(&shared.uplink);
    let mut arrivals = shared.trunks.incoming();
    tokio::spawn(numbers::make_ready(Arc::clone(&shared)));
    let mut calls: HashMap<CallId, mpsc::UnboundedSender<Message>> = HashMap::new();
    let (done_tx, mut done) = mpsc::unbounded_channel::<CallId>();
    let (mut stopping, mut wish) = (false, shared.wish.clone());
    loop {
        // Said and seen in one place: whoever hears that no call is taken any more hears of every call that was.
        let keeper = *wish.borrow_and_update();
        let load = Load {
            calls: u32::try_from(calls.len()).unwrap_or(u32::MAX),
            draining: stopping || keeper != Keeper::Serve,
        };
        shared.load.send_if_modified(|known| std::mem::replace(known, load) != load);
        if calls.is_empty() && (stopping || keeper == Keeper::Gone) {
            return;
        }
        tokio::select! {
            news = down.recv() => match news {
                None => return,
                Some(Down::Reply(reply)) => {
                    if let Some(call) = calls.get(&reply.call) {
                        let _ = call.send(Message::Reply(reply));
                    }
                }
                Some(Down::Cancel(id)) => {
                    if let Some(call) = calls.get(&id) {
                        let _ = call.send(Message::Cancel);
                    }
                }
                Some(Down::Transfer(command)) => {
                    if let Some(call) = calls.get(&command.call) {
                        let _ = call.send(Message::HandOver { wish: command.wish, to: command.to });
                    }
                }
                Some(Down::Supervise(command)) => {
                    if let Some(call) = calls.get(&command.call) {
                        let _ = call.send(Message::Supervise(command));
                    }
                }
                Some(Down::Suppress(command)) => {
                    let upto = tokio::task::block_in_place(|| shared.gate.suppress(&command));
                    shared.uplink.suppressed(upto);
                }
                Some(Down::Numbers(table)) => take_numbers(&shared, *table),
                Some(Down::Dial(command)) => {
                    let id = command.call;
                    let refused = if calls.contains_key(&id) {
                        None
                    } else {
                        refusal(&shared, &command, load, stopping).map_or_else(
                            || {
                                let opened = Opened { command: *command, inbound: None };
                                open(&shared, &opened).err().map(Refusal::Fault).or_else(|| {
                                    start(&shared, opened.command, Origin::Dial, &mut calls, &done_tx);
                                    None
                                })
                            },
                            Some,
                        )
                    };
                    let busy = matches!(&refused, Some(Refusal::Busy(_)));
                    let reason = refused.as_ref().map(|refusal| refusal.reason().to_owned());
                    match &refused {
                        Some(Refusal::Busy(reason)) => info!(call.id = %id, reason, "No room for a call; the cloud asks again"),
                        Some(Refusal::Fault(reason)) => warn!(call.id = %id, reason, "Call not taken"),
                        None => {}
                    }
                    shared.uplink.dial_reply(DialReply {
                        call: id,
                        accepted: refused.is_none(),
                        reason: reason.unwrap_or_default(),
                        busy,
                    });
                }
            },
            Some(incoming) = arrivals.recv() => {
                if let Some((command, origin)) = answer(&shared, incoming, load, stopping) {
                    start(&shared, command, origin, &mut calls, &done_tx);
                }
            }
            Some(id) = done.recv() => {
                calls.remove(&id);
            }
            Ok(()) = wish.changed() => {}
            changed = stop.changed(), if !stopping => {
                if changed.is_err() || *stop.borrow() {
                    stopping = true;
                    info!(calls = calls.len(), "Stopping once the calls under way are over");
                    for call in calls.values() {
                        let _ = call.send(Message::Cancel);
                    }
                }
            }
        }
    }
}

/// Why a call is not taken.
enum Refusal {
    /// It will be in a moment.
    Busy(String),
    /// Something is in its way.
    Fault(String),
}

impl Refusal {
    fn reason(&self) -> &str {
        match self {
            Self::Busy(reason) | Self::Fault(reason) => reason,
        }
    }
}

/// Says why a call cannot be taken now; `None` when it can.
fn refusal(shared: &Shared, command: &DialCommand, load: Load, stopping: bool) -> Option<Refusal> {
    obstacle(shared, command, stopping).map(Refusal::Fault).or_else(|| full(shared, load).map(Refusal::Busy))
}

fn full(shared: &Shared, load: Load) -> Option<String> {
    if load.draining {
        return Some(DRAINING.to_owned());
    }
    let channels = shared.config.channels;
    if load.calls >= channels {
        return Some(format!("all {channels} channels are in use"));
    }
    let expected = too_late(&shared.speech.pool.stats(), load.calls as usize)?;
    Some(format!("recognition would take {} ms with one call more", expected.as_millis()))
}

fn obstacle(shared: &Shared, command: &DialCommand, stopping: bool) -> Option<String> {
    let config = &shared.config;
    if shared.uplink.with_store(|store| store.was_filed(command.call.as_uuid().as_bytes())).unwrap_or(false) {
        return Some("this call is over and its record was filed".to_owned());
    }
    if Timestamp::now() > command.before {
        return Some("the instant by which it had to be dialled has passed".to_owned());
    }
    if matches!(command.callee, Callee::Sip(_)) && !config.trunks.allow_sip_targets() {
        return Some("this box calls no sip: addresses ([trunk] allow_sip_targets)".to_owned());
    }
    closed(shared, stopping)
}

/// Says why no call at all can be taken now.
fn closed(shared: &Shared, stopping: bool) -> Option<String> {
    let config = &shared.config;
    if stopping {
        return Some("the box is stopping".to_owned());
    }
    if config.recording.enabled {
        let dir = config.recording_dir();
        match free_mib(&dir) {
            Ok(free) if free < config.recording.min_free_mib => {
                return Some(format!(
                    "no disk space for a recording: {free} MiB free in {}, {} needed",
                    dir.display(),
                    config.recording.min_free_mib
                ));
            }
            Ok(_) => {}
            Err(error) => return Some(format!("the folder for recordings cannot be used: {error}")),
        }
    }
    None
}

fn free_mib(dir: &Path) -> std::io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let stat = statvfs(dir)?;
    Ok(stat.blocks_available() * stat.fragment_size() / (1024 * 1024))
}

/// A call under way, as it is kept until its record is filed.
#[derive(Serialize, Deserialize)]
struct Opened {
    #[serde(flatten)]
    command: DialCommand,
    /// A customer made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inbound: Option<Box<CallInbound>>,
}

/// Keeps a call, so that it has a record whatever happens.
fn open(shared: &Shared, opened: &Opened) -> Result<(), String> {
    let bytes = serde_json::to_vec(opened).map_err(|error| error.to_string())?;
    let id = opened.command.call;
    let kept = shared.uplink.with_store(|store| store.open_call(id.as_uuid().as_bytes(), &bytes));
    kept.map_err(|error| format!("the box cannot keep the call: {error}"))
}

/// Takes a table of numbers over, and makes its scripts ready.
fn take_numbers(shared: &Arc<Shared>, table: NumbersCommand) {
    let (name, routes) = (table.table.clone(), table.routes.len());
    match tokio::task::block_in_place(|| shared.numbers.take(table)) {
        Ok(()) => {
            info!(routes, "Numbers taken");
            shared.uplink.has_numbers(name);
            tokio::spawn(numbers::make_ready(Arc::clone(shared)));
        }
        // Not confirmed, so the cloud sends it again.
        Err(error) => warn!("The table of numbers could not be kept: {error:#}"),
    }
}

/// Decides about a call that comes in; `None` when it was refused.
fn answer(
    shared: &Shared,
    incoming: IncomingCall,
    load: Load,
    stopping: bool,
) -> Option<(DialCommand, Origin)> {
    let table = shared.numbers.table();
    let caller = incoming.parties().caller().map(|uri| (uri.user_text(), uri.host.to_string()));
    let caller = caller.as_ref().map(|(user, host)| (user.as_str(), host.as_str()));
    let Some(arrival) = arrive(&table, shared.config.country.plan(), &incoming.called(), caller) else {
        info!(trunk = incoming.trunk(), "A call to a number that nothing is bound to");
        incoming.refuse(404, None);
        return None;
    };
    let (call, trunk) = (CallId::new(Uuid::now_v7()), incoming.trunk().to_owned());
    let event = CallInbound {
        call,
        binding: arrival.route.binding.clone(),
        caller: arrival.caller.clone(),
        called: arrival.called,
        trunk: trunk.clone(),
        script: arrival.route.script.clone(),
        variables: arrival.variables.clone(),
        rang: Timestamp::now(),
    };
    let command = DialCommand {
        call,
        callee: arrival.caller,
        caller_id: None,
        script: arrival.route.script.clone(),
        variables: arrival.variables,
        before: Timestamp::MAX,
        ring_s: 0,
        gate: None,
        arms: BTreeMap::new(),
        words: table.words.clone(),
    };
    let opened = Opened { command, inbound: Some(Box::new(event)) };
    let refused = closed(shared, stopping).map(Refusal::Fault);
    // The trunk has other places to send a call to; a customer should not hear that we are engaged.
    let refused = refused.or_else(|| load.draining.then(|| Refusal::Fault(DRAINING.to_owned())));
    let refused = refused.or_else(|| full(shared, load).map(Refusal::Busy));
    let refused = refused.or_else(|| open(shared, &opened).err().map(Refusal::Fault));
    let refused = refused.or_else(|| {
        let told = shared.uplink.event("call.inbound", &opened.inbound);
        told.err().map(|error| Refusal::Fault(format!("{error:#}")))
    });
    match refused {
        Some(Refusal::Busy(reason)) => {
            info!(trunk, reason, "No room for a customer's call");
            incoming.refuse(486, Some(BUSY_FOR));
            None
        }
        Some(Refusal::Fault(reason)) => {
            warn!(trunk, reason, "A customer's call not taken");
            incoming.refuse(503, Some(CLOSED_FOR));
            None
        }
        None => {
            info!(call.id = %call, trunk, script = %opened.command.script.id, "A customer calls");
            let trace = TraceName { call: call.to_string(), leg: "call" };
            Some((opened.command, Origin::Rings(incoming.take_as(trace), trunk)))
        }
    }
}

fn start(
    shared: &Arc<Shared>,
    command: DialCommand,
    origin: Origin,
    calls: &mut HashMap<CallId, mpsc::UnboundedSender<Message>>,
    done: &mpsc::UnboundedSender<CallId>,
) {
    let id = command.call;
    let (sender, inbox) = mpsc::unbounded_channel();
    calls.insert(id, sender.clone());
    let (shared, done) = (Arc::clone(shared), done.clone());
    tokio::spawn(async move {
        // A panic in one call must neither stop the box nor leave the call without a record.
        let uplink = shared.uplink.clone();
        let (script, started) = (command.script.clone(), Timestamp::now());
        let direction = direction_of(matches!(origin, Origin::Rings(..)));
        let run = tokio::spawn(call::run(shared, command, origin, sender, inbox));
        if let Err(error) = run.await {
            warn!(call.id = %id, %error, "A call ended by a fault of the program");
            let record = fault_record((id, direction), script, started, "a fault of the program");
            file(&uplink, &record);
        }
        let _ = done.send(id);
    });
}

fn direction_of(inbound: bool) -> Direction {
    if inbound { Direction::Inbound } else { Direction::Outbound }
}

/// Files a record and notes that the call is closed.
pub(crate) fn file(uplink: &Uplink, record: &CallRecord) {
    match uplink.event("call.ended", record) {
        Ok(()) => {
            if let Err(error) = uplink.with_store(|store| store.close_call(record.call.as_uuid().as_bytes()))
            {
                warn!(call.id = %record.call, "Could not close a call in the store: {error:#}");
            }
        }
        // It stays open in the store and is filed at the next start.
        Err(error) => tracing::error!(call.id = %record.call, "Could not file a call record: {error:#}"),
    }
}

/// Calls that were under way when the box stopped have no record yet.
fn file_what_a_restart_left(uplink: &Uplink) {
    let commands = uplink.with_store(|store| store.unfiled_calls()).unwrap_or_default();
    for bytes in commands {
        let Ok(opened) = serde_json::from_slice::<Opened>(&bytes) else { continue };
        let command = opened.command;
        warn!(call.id = %command.call, "A call was cut off by a restart of the box; filing it");
        if let Some(inbound) = &opened.inbound
            && let Err(error) = uplink.event("call.inbound", inbound)
        {
            warn!(call.id = %command.call, "Could not keep an event: {error:#}");
        }
        let now = Timestamp::now();
        let of = (command.call, direction_of(opened.inbound.is_some()));
        file(uplink, &fault_record(of, command.script, now, "the box restarted during the call"));
    }
}

fn fault_record(
    (call, direction): (CallId, Direction),
    script: trunkline_wire::ScriptRef,
    started: Timestamp,
    cause: &str,
) -> CallRecord {
    CallRecord {
        call,
        direction,
        script,
        started,
        rang: None,
        answered: None,
        ended: Timestamp::now(),
        disposition: Disposition::BoxFault,
        cause: cause.to_owned(),
        sip_code: None,
        outcome: None,
        suppress: false,
        slots: Default::default(),
        arms: Default::default(),
        turns: Vec::new(),
        recording: None,
        media: None,
        trunk: String::new(),
        attempts: Vec::new(),
        transfers: Vec::new(),
        tones: Vec::new(),
        answerer: None,
    }
}

/// How long a part of the program has run, for the log.
pub(crate) fn since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
