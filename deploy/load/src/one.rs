//! One box: its connection, its outbox, and what it makes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, LastWill, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use serde::Serialize;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;
use trunkline_link::{Outbox, Output};
use trunkline_model::BoxId;
use trunkline_wire::{Ack, Birth, Envelope, MAX_MESSAGE, Reported, WIRE_VERSION, parse, topic};
use uuid::Uuid;

// As `edge/agent` has them.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const FIRST_BACKOFF: Duration = Duration::from_millis(300);
const LONGEST_BACKOFF: Duration = Duration::from_secs(20);
const IN_FLIGHT: u16 = 100;
const CONNECT_SECONDS: u64 = 5;
/// A box says each minute how it is.
const REPORT: Duration = Duration::from_secs(60);
/// Room for the events that may be under way, and what else is said.
const REQUESTS: usize = 2 * IN_FLIGHT as usize;

/// What all boxes do now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// The number of the phase; events remember in which they were made.
    pub(crate) phase: usize,
    /// Between two events of one box; `None`: it makes none.
    pub(crate) interval: Option<Duration>,
    /// It stops as soon as everything is acknowledged.
    pub(crate) finish: bool,
}

/// What all boxes share.
#[derive(Default)]
pub(crate) struct Shared {
    /// Which life of the cloud this is, from 0; counted up before each kill.
    pub(crate) life: AtomicUsize,
    /// How many are connected and subscribed, for each life in which they began to connect.
    pub(crate) up: Vec<AtomicU64>,
    pub(crate) made: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    /// Attempts to connect that failed, and connections that broke.
    pub(crate) broken: AtomicU64,
}

/// An event that was acknowledged: the phase it was made in, and how long it took.
pub(crate) type Took = (usize, Duration);

/// What became of a box.
pub(crate) struct Done {
    pub(crate) id: BoxId,
    pub(crate) made: u64,
    pub(crate) acknowledged: u64,
}

pub(crate) struct One {
    pub(crate) id: BoxId,
    pub(crate) mqtt: SocketAddr,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) took: mpsc::UnboundedSender<Took>,
    /// Its place among the others, 0 to 1: they do not all speak in the same instant.
    pub(crate) place: f64,
}

struct Made {
    at: Instant,
    ts: Timestamp,
    phase: usize,
}

struct Link {
    client: AsyncClient,
    events: mpsc::Receiver<Result<Event, ConnectionError>>,
    polling: JoinHandle<()>,
    life: usize,
    up: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.polling.abort();
    }
}

struct Running {
    one: One,
    outbox: Outbox,
    under_way: BTreeMap<u64, Made>,
    made: u64,
    acknowledged: u64,
    sess: u64,
}

impl One {
    /// Lives until the task says that it is finished and everything is acknowledged, or `tasks` is closed.
    pub(crate) async fn live(self, mut tasks: watch::Receiver<Task>) -> Done {
        let place = self.place;
        let mut running = Running {
            one: self,
            outbox: Outbox::new(0, 0),
            under_way: BTreeMap::new(),
            made: 0,
            acknowledged: 0,
            sess: 0,
        };
        let mut link = Some(running.connect());
        let (mut backoff, mut connect_at) = (FIRST_BACKOFF, Instant::now());
        let mut report_at = Instant::now() + REPORT.mul_f64(place);
        let mut task = *tasks.borrow_and_update();
        let mut make_at = first(&task, place);
        loop {
            if let Some(link) = link.as_ref().filter(|link| link.up) {
                running.send(link);
            }
            if task.finish && running.outbox.backlog() == 0 {
                break;
            }
            let resend_at = running.outbox.poll_timeout();
            tokio::select! {
                event = next(&mut link) => match event {
                    Some(event) => {
                        if let Some(link) = &mut link && running.take(link, event) {
                            backoff = FIRST_BACKOFF;
                        }
                    }
                    None => {
                        if let Some(link) = link.take().filter(|link| link.up) {
                            running.one.shared.up[link.life].fetch_sub(1, Ordering::Relaxed);
                        }
                        running.one.shared.broken.fetch_add(1, Ordering::Relaxed);
                        running.outbox.handle_disconnected();
                        connect_at = Instant::now() + backoff.mul_f64(0.5 + rand::random::<f64>());
                        backoff = (backoff * 2).min(LONGEST_BACKOFF);
                    }
                },
                () = sleep_until(connect_at.into()), if link.is_none() => link = Some(running.connect()),
                () = until(make_at) => {
                    running.make(task.phase);
                    make_at = make_at.zip(task.interval).map(|(at, interval)| at + interval);
                }
                () = until(resend_at) => running.outbox.handle_timeout(Instant::now()),
                () = sleep_until(report_at.into()) => {
                    report_at += REPORT;
                    if let Some(link) = link.as_ref().filter(|link| link.up) {
                        running.report(link);
                    }
                }
                changed = tasks.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    task = *tasks.borrow_and_update();
                    make_at = first(&task, place);
                }
            }
        }
        Done { id: running.one.id, made: running.made, acknowledged: running.acknowledged }
    }
}

fn first(task: &Task, place: f64) -> Option<Instant> {
    task.interval.map(|interval| Instant::now() + interval.mul_f64(place))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The next thing that the connection says; `None` once it is broken. Waits for ever while there is none.
async fn next(link: &mut Option<Link>) -> Option<Event> {
    match link {
        Some(link) => link.events.recv().await?.ok(),
        None => std::future::pending().await,
    }
}

impl Running {
    fn connect(&mut self) -> Link {
        self.sess = self.sess.max(Timestamp::now().as_millisecond().unsigned_abs()) + 1;
        let id = &self.one.id;
        let mut options = MqttOptions::new(id.as_str(), self.one.mqtt.ip().to_string(), self.one.mqtt.port());
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_network_options(network)
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&self.one.tls))))
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_max_packet_size(Some(MAX_MESSAGE as u32))
            .set_outgoing_inflight_upper_limit(IN_FLIGHT)
            .set_connection_timeout(CONNECT_SECONDS);
        let will = self.envelope(0, "conn", Timestamp::now(), self.birth(false));
        options.set_last_will(LastWill::new(topic::conn(id), will, QoS::AtLeastOnce, true, None));
        let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
        let (sender, events) = mpsc::channel(64);
        let polling = tokio::spawn(async move {
            loop {
                let event = event_loop.poll().await;
                let failed = event.is_err();
                if sender.send(event).await.is_err() || failed {
                    return;
                }
            }
        });
        let life = self.one.shared.life.load(Ordering::Relaxed);
        Link { client, events, polling, life, up: false }
    }

    /// Takes what the connection says, and returns whether it is up now and was not before.
    fn take(&mut self, link: &mut Link, event: Event) -> bool {
        let Event::Incoming(packet) = event else { return false };
        if let Packet::ConnAck(_) = packet {
            let ack = Filter::new(topic::ack(&self.one.id), QoS::AtLeastOnce);
            let _ = link.client.try_subscribe_many([ack]);
        } else if let Packet::SubAck(_) = packet {
            // Only now does an acknowledgement reach us.
            let birth = self.envelope(0, "conn", Timestamp::now(), self.birth(true));
            let _ = link.client.try_publish(topic::conn(&self.one.id), QoS::AtLeastOnce, true, birth);
            link.up = true;
            self.outbox.handle_connected();
            self.one.shared.up[link.life].fetch_add(1, Ordering::Relaxed);
            return true;
        } else if let Packet::Publish(publish) = packet
            && let Ok(ack) = parse::<Envelope<Ack>>(&publish.payload)
        {
            self.outbox.handle_ack(&ack.body);
            self.acknowledged(&ack.body);
        }
        false
    }

    fn acknowledged(&mut self, ack: &Ack) {
        self.under_way.retain(|seq, made| {
            let kept = *seq > ack.upto || ack.except.contains(seq);
            if !kept {
                self.acknowledged += 1;
                self.one.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                let _ = self.one.took.send((made.phase, made.at.elapsed()));
            }
            kept
        });
    }

    fn make(&mut self, phase: usize) {
        self.made += 1;
        self.under_way.insert(self.made, Made { at: Instant::now(), ts: Timestamp::now(), phase });
        self.outbox.handle_appended(self.made);
        self.one.shared.made.fetch_add(1, Ordering::Relaxed);
    }

    fn send(&mut self, link: &Link) {
        while let Some(output) = self.outbox.poll_output(Instant::now()) {
            let Output::Send(seq) = output else { continue };
            let Some(made) = self.under_way.get(&seq) else { continue };
            let body =
                json!({ "n": seq, "said": "as long as the progress of a call is, and a little longer" });
            let event = self.envelope(seq, "audit.load", made.ts, body);
            // What finds no room is sent again, like what is lost on its way.
            let _ = link.client.try_publish(topic::evt_call(&self.one.id), QoS::AtLeastOnce, false, event);
        }
    }

    fn report(&self, link: &Link) {
        let reported = Reported { software: "load".to_owned(), ..Reported::default() };
        let report = self.envelope(0, "cfg.reported", Timestamp::now(), reported);
        let _ = link.client.try_publish(topic::cfg_reported(&self.one.id), QoS::AtLeastOnce, false, report);
    }

    fn birth(&self, online: bool) -> Birth {
        Birth {
            online,
            sess: self.sess,
            software: "load".to_owned(),
            channels: 0,
            oldest: Some(self.made - self.outbox.backlog() + 1),
            trunks: Vec::new(),
            suppressions: None,
            numbers: None,
        }
    }

    /// The same event has the same id each time that it is sent.
    fn envelope<T: Serialize>(&self, seq: u64, kind: &str, ts: Timestamp, body: T) -> Vec<u8> {
        let id = if seq == 0 { Uuid::now_v7() } else { Uuid::from_u64_pair(u64::from(u32::MAX), seq) };
        let envelope = Envelope {
            v: WIRE_VERSION,
            id,
            box_id: self.one.id.clone(),
            sess: self.sess,
            seq,
            ts,
            mono: 0,
            kind: kind.to_owned(),
            trace: String::new(),
            body,
        };
        serde_json::to_vec(&envelope).unwrap_or_default()
    }
}
