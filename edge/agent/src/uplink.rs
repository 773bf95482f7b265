//! The link to the cloud: MQTT 5 over mutual TLS, and the outbox behind it.
//!
//! An event is in the journal before [`Uplink::event`] returns. One task polls the MQTT event loop
//! and does nothing else; another decides what to send, so that neither can block the other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bytes::Bytes;
use jiff::Timestamp;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill, Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, info, warn};
use trunkline_link::{Outbox, Output};
use trunkline_model::{BoxId, CallId};
use trunkline_store::OutboxStore;
use trunkline_wire::{
    Ack, Birth, CancelCommand, DialCommand, DialReply, Envelope, MAX_MESSAGE, NumbersCommand, NumbersReply,
    SuperviseCommand, SuppressCommand, SuppressReply, TransferCommand, TrunkReport, TurnReply, TurnRequest,
    WIRE_VERSION, parse, topic,
};
use uuid::Uuid;

use crate::numbers::Numbers;

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const FIRST_BACKOFF: Duration = Duration::from_millis(300);
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);
/// With something under way and nothing acknowledged for so long, the connection is made anew.
const STALLED_AFTER: Duration = Duration::from_secs(60);
const REQUESTS: usize = 64;

/// What the cloud wants of the box.
#[derive(Debug)]
pub(crate) enum Down {
    Dial(Box<DialCommand>),
    Cancel(CallId),
    Transfer(TransferCommand),
    Supervise(SuperviseCommand),
    Reply(Box<TurnReply>),
    Suppress(Box<SuppressCommand>),
    Numbers(Box<NumbersCommand>),
}

/// What the box sends without keeping it.
#[derive(Debug)]
enum Up {
    Ask(Box<TurnRequest>),
    DialReply(DialReply),
    Suppressed(SuppressReply),
    Numbers(NumbersReply),
}

/// The way to the cloud, shared by all calls.
#[derive(Clone)]
pub(crate) struct Uplink {
    shared: Arc<Shared>,
    up: mpsc::UnboundedSender<Up>,
}

struct Shared {
    box_id: BoxId,
    channels: u32,
    started: Instant,
    wake: Notify,
    inner: Mutex<Inner>,
}

struct Inner {
    store: OutboxStore,
    outbox: Outbox,
    sess: u64,
    /// Events that are not acknowledged yet, so that sending need not read the disk.
    recent: BTreeMap<u64, Bytes>,
    connected: bool,
    trunks: Vec<TrunkReport>,
    /// The trunks changed since the last birth was queued.
    trunks_news: bool,
    /// Since when nothing of the cloud could reach the box.
    unlinked: Option<Instant>,
}

const RECENT: usize = 500;

impl Uplink {
    /// Files an event; it is on the disk when this returns, and will reach the cloud.
    pub(crate) fn event<T: Serialize>(&self, kind: &'static str, body: &T) -> Result<()> {
        let now_ms = unix_ms();
        tokio::task::block_in_place(|| {
            let mut inner = self.lock();
            let seq = inner.store.next_seq();
            let payload = serde_json::to_vec(&self.envelope(kind, inner.sess, seq, body))?;
            let seq = inner.store.append(now_ms, &payload).context("cannot keep an event for the cloud")?;
            inner.outbox.handle_appended(seq);
            if inner.recent.len() < RECENT {
                inner.recent.insert(seq, payload.into());
            }
            anyhow::Ok(())
        })?;
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Asks about a turn; nothing is kept, the call asks again.
    pub(crate) fn ask(&self, request: TurnRequest) {
        let _ = self.up.send(Up::Ask(Box::new(request)));
    }

    /// Answers a command to dial.
    pub(crate) fn dial_reply(&self, reply: DialReply) {
        let _ = self.up.send(Up::DialReply(reply));
    }

    /// Tells the cloud how the trunks are: at once, and at each new connection.
    pub(crate) fn set_trunks(&self, trunks: Vec<TrunkReport>) {
        {
            let mut inner = self.lock();
            inner.trunks = trunks;
            inner.trunks_news = true;
        }
        self.shared.wake.notify_one();
    }

    /// Tells the cloud how far the box has the suppressions.
    pub(crate) fn suppressed(&self, upto: u64) {
        let _ = self.up.send(Up::Suppressed(SuppressReply { upto }));
    }

    /// Tells the cloud which table of numbers the box has.
    pub(crate) fn has_numbers(&self, table: String) {
        let _ = self.up.send(Up::Numbers(NumbersReply { table }));
    }

    /// Returns for how many seconds nothing of the cloud could reach the box; 0 while the link is up.
    pub(crate) fn unlinked_s(&self) -> u64 {
        self.lock().unlinked.map_or(0, |since| since.elapsed().as_secs())
    }

    /// Does something with the store.
    pub(crate) fn with_store<T>(&self, f: impl FnOnce(&mut OutboxStore) -> T) -> T {
        f(&mut self.lock().store)
    }

    /// Returns whether the link is up and how many events wait for it.
    pub(crate) fn status(&self) -> (bool, u64) {
        let inner = self.lock();
        (inner.connected, inner.outbox.backlog())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the journal as it was: going on loses less than stopping.
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn envelope<'a, T>(&self, kind: &str, sess: u64, seq: u64, body: &'a T) -> Envelope<&'a T> {
        Envelope {
            v: WIRE_VERSION,
            id: Uuid::now_v7(),
            box_id: self.shared.box_id.clone(),
            sess,
            seq,
            ts: Timestamp::now(),
            mono: u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            kind: kind.to_owned(),
            trace: String::new(),
            body,
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where and as whom to connect.
pub(crate) struct LinkConfig {
    pub(crate) box_id: BoxId,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) channels: u32,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    /// How far the box has the suppressions.
    pub(crate) suppressions: Arc<AtomicU64>,
    /// Which script answers which number.
    pub(crate) numbers: Arc<Numbers>,
}

/// Starts the link. What the cloud wants goes to `down`.
pub(crate) fn start(config: LinkConfig, store: OutboxStore, down: mpsc::UnboundedSender<Down>) -> Uplink {
    let outbox = Outbox::new(store.acked_upto(), store.next_seq() - 1);
    let (up, inbox) = mpsc::unbounded_channel();
    let inner = Inner {
        store,
        outbox,
        sess: 0,
        recent: BTreeMap::new(),
        connected: false,
        trunks: Vec::new(),
        trunks_news: false,
        unlinked: Some(Instant::now()),
    };
    let shared = Arc::new(Shared {
        box_id: config.box_id.clone(),
        channels: config.channels,
        started: Instant::now(),
        wake: Notify::new(),
        inner: Mutex::new(inner),
    });
    let uplink = Uplink { shared, up };
    tokio::spawn(run(uplink.clone(), config, inbox, down));
    uplink
}

async fn run(
    uplink: Uplink,
    config: LinkConfig,
    mut inbox: mpsc::UnboundedReceiver<Up>,
    down: mpsc::UnboundedSender<Down>,
) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let connected_at = Instant::now();
        let why = connection(&uplink, &config, &mut inbox, &down).await;
        {
            let mut inner = uplink.lock();
            inner.outbox.handle_disconnected();
            inner.connected = false;
            inner.unlinked.get_or_insert_with(Instant::now);
        }
        if connected_at.elapsed() > LONGEST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        // Boxes that lost the same broker must not come back in the same instant.
        let wait = backoff.mul_f32(0.5 + rand::random::<f32>());
        warn!(wait_ms = wait.as_millis() as u64, "No link to the cloud: {why:#}");
        tokio::time::sleep(wait).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Runs one connection until it fails, and returns why.
async fn connection(
    uplink: &Uplink,
    config: &LinkConfig,
    inbox: &mut mpsc::UnboundedReceiver<Up>,
    down: &mpsc::UnboundedSender<Down>,
) -> anyhow::Error {
    let sess = {
        let mut inner = uplink.lock();
        match inner.store.next_session(unix_ms() / 1_000) {
            Ok(sess) => inner.sess = sess,
            Err(error) => return anyhow::Error::new(error),
        }
        inner.sess
    };
    let birth = |online| {
        let inner = uplink.lock();
        Birth {
            online,
            sess,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            channels: uplink.shared.channels,
            oldest: Some(inner.store.acked_upto() + 1),
            suppressions: Some(config.suppressions.load(Ordering::Relaxed)),
            numbers: Some(config.numbers.table().table.clone()),
            trunks: if online { inner.trunks.clone() } else { Vec::new() },
        }
    };
    let born = |online| Message {
        topic: topic::conn(&config.box_id),
        qos: QoS::AtLeastOnce,
        retain: true,
        payload: uplink.envelope("conn", sess, 0, &birth(online)).to_json(),
        properties: None,
    };
    let id = &config.box_id;
    let mut options = MqttOptions::new(id.as_str(), &config.host, config.port);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_network_options(network)
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&config.tls))))
        .set_keep_alive(KEEP_ALIVE)
        // Both sides repeat what was not acknowledged by the other's program, so nothing is gained
        // from a session that the broker keeps.
        .set_clean_start(true)
        .set_max_packet_size(Some(MAX_MESSAGE as u32))
        .set_outgoing_inflight_upper_limit(100)
        .set_connection_timeout(5);
    let will = uplink.envelope("conn", sess, 0, &birth(false)).to_json();
    options.set_last_will(LastWill::new(topic::conn(id), will, QoS::AtLeastOnce, true, None));

    let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
    let (events_tx, mut events) = mpsc::channel(256);
    let poller = tokio::spawn(async move {
        loop {
            let event = event_loop.poll().await;
            let failed = event.is_err();
            if events_tx.send(event).await.is_err() || failed {
                return;
            }
        }
    });
    let _stop_polling = AbortOnDrop(poller);
    let mut queue: VecDeque<Message> = VecDeque::new();
    let mut last_ack = Instant::now();
    loop {
        pump(uplink, &mut queue);
        let news = {
            let mut inner = uplink.lock();
            inner.connected && std::mem::take(&mut inner.trunks_news)
        };
        if news {
            queue.push_back(born(true));
        }
        while let Some(message) = queue.front() {
            if !message.publish(&client) {
                break;
            }
            queue.pop_front();
        }
        let wait = if queue.is_empty() { Duration::from_secs(1) } else { Duration::from_millis(20) };
        tokio::select! {
            event = events.recv() => match event {
                None => return anyhow::anyhow!("the connection ended"),
                Some(Err(error)) => return anyhow::Error::new(error).context(format!("{}:{}", config.host, config.port)),
                Some(Ok(Event::Incoming(Packet::ConnAck(ack)))) => {
                    info!(code = ?ack.code, sess, "Linked to the cloud");
                    let filters = [
                        topic::ack(id),
                        topic::turn_res(id),
                        topic::req_dial(id),
                        topic::req_cancel(id),
                        topic::req_transfer(id),
                        topic::req_supervise(id),
                        topic::req_suppress(id),
                        topic::req_numbers(id),
                    ];
                    let filters = filters.map(|filter| Filter::new(filter, QoS::AtLeastOnce));
                    if let Err(error) = client.try_subscribe_many(filters) {
                        return anyhow::Error::new(error);
                    }
                    uplink.lock().trunks_news = false;
                    queue.push_front(born(true));
                    let mut inner = uplink.lock();
                    inner.outbox.handle_connected();
                    inner.connected = true;
                    inner.unlinked = None;
                    last_ack = Instant::now();
                }
                Some(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                    let Ok(name) = std::str::from_utf8(&publish.topic) else { continue };
                    if on_message(uplink, name, &publish.payload, down) {
                        last_ack = Instant::now();
                    }
                }
                Some(Ok(_)) => {}
            },
            up = inbox.recv() => match up {
                None => return anyhow::anyhow!("the box is stopping"),
                Some(up) => queue.push_back(message_of(uplink, up)),
            },
            () = uplink.shared.wake.notified() => {}
            () = tokio::time::sleep(wait) => {
                let mut inner = uplink.lock();
                inner.outbox.handle_timeout(Instant::now());
                if inner.outbox.backlog() == 0 {
                    last_ack = Instant::now();
                } else if last_ack.elapsed() > STALLED_AFTER {
                    return anyhow::anyhow!("no acknowledgement for {} s", STALLED_AFTER.as_secs());
                }
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Message {
    topic: String,
    qos: QoS,
    retain: bool,
    payload: Bytes,
    properties: Option<PublishProperties>,
}

impl Message {
    /// Hands it to the client; false when the client's queue is full, or its connection over.
    fn publish(&self, client: &AsyncClient) -> bool {
        let (topic, payload) = (self.topic.clone(), self.payload.clone());
        let published = match &self.properties {
            None => client.try_publish(topic, self.qos, self.retain, payload),
            Some(properties) => {
                client.try_publish_with_properties(topic, self.qos, self.retain, payload, properties.clone())
            }
        };
        published.is_ok()
    }
}

trait ToJson {
    fn to_json(&self) -> Bytes;
}

impl<T: Serialize> ToJson for Envelope<T> {
    fn to_json(&self) -> Bytes {
        // A wire type always serialises: it holds neither maps with odd keys nor failing parts.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}

/// Moves what the outbox wants sent into the queue, and forgets what was acknowledged.
fn pump(uplink: &Uplink, queue: &mut VecDeque<Message>) {
    let mut inner = uplink.lock();
    while let Some(output) = inner.outbox.poll_output(Instant::now()) {
        match output {
            Output::Acknowledged(upto) => {
                if let Err(error) = inner.store.set_acked_upto(upto) {
                    warn!("Could not note what the cloud has: {error:#}");
                }
                inner.recent = inner.recent.split_off(&(upto + 1));
            }
            Output::Send(seq) => {
                let payload = inner.recent.get(&seq).cloned().or_else(|| {
                    let records = inner.store.read_from(seq, 1).unwrap_or_default();
                    records.into_iter().find(|record| record.seq == seq).map(|record| record.payload.into())
                });
                let Some(payload) = payload else {
                    warn!(seq, "An event is not in the journal any more");
                    continue;
                };
                queue.push_back(Message {
                    topic: topic::evt_call(&uplink.shared.box_id),
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    payload,
                    properties: None,
                });
            }
        }
    }
}

fn message_of(uplink: &Uplink, up: Up) -> Message {
    let id = &uplink.shared.box_id;
    let sess = uplink.lock().sess;
    match up {
        Up::Ask(request) => Message {
            topic: topic::turn(id),
            qos: QoS::AtMostOnce,
            retain: false,
            payload: uplink.envelope("turn", sess, 0, &request).to_json(),
            properties: Some(PublishProperties {
                response_topic: Some(topic::turn_res(id)),
                correlation_data: Some(
                    format!("{}/{}/{}", request.call, request.turn, request.rev).into_bytes().into(),
                ),
                message_expiry_interval: Some(request.budget_ms.div_ceil(1_000).max(1)),
                ..PublishProperties::default()
            }),
        },
        Up::DialReply(reply) => Message {
            topic: topic::res(id),
            qos: QoS::AtLeastOnce,
            retain: false,
            payload: uplink.envelope("dial.reply", sess, 0, &reply).to_json(),
            properties: None,
        },
        Up::Suppressed(reply) => Message {
            topic: topic::res_suppress(id),
            qos: QoS::AtLeastOnce,
            retain: false,
            payload: uplink.envelope("suppress.reply", sess, 0, &reply).to_json(),
            properties: None,
        },
        Up::Numbers(reply) => Message {
            topic: topic::res_numbers(id),
            qos: QoS::AtLeastOnce,
            retain: false,
            payload: uplink.envelope("numbers.reply", sess, 0, &reply).to_json(),
            properties: None,
        },
    }
}

/// Takes a message of the cloud; returns true for an acknowledgement.
fn on_message(uplink: &Uplink, name: &str, payload: &[u8], down: &mpsc::UnboundedSender<Down>) -> bool {
    let Some((_, tail)) = topic::split(name) else { return false };
    let read =
        match tail {
            "ack" => parse::<Envelope<Ack>>(payload).map(|ack| {
                uplink.lock().outbox.handle_ack(&ack.body);
                None
            }),
            "turn/res" => {
                parse::<Envelope<TurnReply>>(payload).map(|reply| Some(Down::Reply(Box::new(reply.body))))
            }
            "req/dial" => parse::<Envelope<DialCommand>>(payload)
                .map(|command| Some(Down::Dial(Box::new(command.body)))),
            "req/cancel" => {
                parse::<Envelope<CancelCommand>>(payload).map(|command| Some(Down::Cancel(command.body.call)))
            }
            "req/transfer" => {
                parse::<Envelope<TransferCommand>>(payload).map(|command| Some(Down::Transfer(command.body)))
            }
            "req/supervise" => parse::<Envelope<SuperviseCommand>>(payload)
                .map(|command| Some(Down::Supervise(command.body))),
            "req/suppress" => parse::<Envelope<SuppressCommand>>(payload)
                .map(|command| Some(Down::Suppress(Box::new(command.body)))),
            "req/numbers" => parse::<Envelope<NumbersCommand>>(payload)
                .map(|command| Some(Down::Numbers(Box::new(command.body)))),
            _ => {
                debug!(tail, "A message of a kind that this version does not know");
                return false;
            }
        };
    match read {
        Ok(Some(news)) => {
            let _ = down.send(news);
            false
        }
        Ok(None) => true,
        Err(error) => {
            warn!(tail, "A message of the cloud cannot be read: {error:#}");
            false
        }
    }
}
