//! The keeper's own link: MQTT 5 over mutual TLS, with the client id `{box}:keeper`.
//!
//! The newest report is published when the link comes up, whenever it changes, and once a minute; nothing is
//! queued, since an older report says nothing that the newest does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet};
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use trunkline_model::BoxId;
use trunkline_wire::{
    Desired, Envelope, JobNext, MAX_MESSAGE, OrderCommand, Reported, WIRE_VERSION, parse, topic,
};
use uuid::Uuid;

use crate::clock::Clock;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(60);
const FIRST_BACKOFF: Duration = Duration::from_millis(300);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// What comes over the link.
#[derive(Debug)]
pub(crate) enum News {
    Desired(Desired),
    Job(JobNext),
    /// With the instant at which it was sent, by the clock that wrote its end.
    Order(OrderCommand, Timestamp),
}

/// Where to connect, and as whom.
pub(crate) struct LinkConfig {
    pub(crate) id: BoxId,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) clock: Clock,
}

/// Holds the link for ever: reports go out, news comes in, `up` says whether it stands.
pub(crate) async fn run(
    config: LinkConfig,
    mut reports: watch::Receiver<Reported>,
    news: mpsc::Sender<News>,
    up: watch::Sender<bool>,
) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let began = Instant::now();
        let why = connection(&config, &mut reports, &news, &up).await;
        let was_up = up.send_replace(false);
        if news.is_closed() {
            return;
        }
        if was_up && began.elapsed() > LONGEST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        // Boxes that lost the same broker must not come back in the same instant.
        let wait = backoff.mul_f32(0.5 + rand::random::<f32>());
        tracing::warn!(wait_ms = wait.as_millis() as u64, "The keeper has no link to the cloud: {why}");
        tokio::time::sleep(wait).await;
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Runs one connection until it fails, and returns why.
async fn connection(
    config: &LinkConfig,
    reports: &mut watch::Receiver<Reported>,
    news: &mpsc::Sender<News>,
    up: &watch::Sender<bool>,
) -> String {
    let mut options = MqttOptions::new(format!("{}:keeper", config.id), &config.host, config.port);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_network_options(network)
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&config.tls))))
        .set_keep_alive(KEEP_ALIVE)
        // What was missed is sent again by the cloud, once it reads our report.
        .set_clean_start(true)
        .set_max_packet_size(Some(MAX_MESSAGE as u32))
        .set_connection_timeout(10);
    let (client, mut event_loop) = AsyncClient::new(options, 16);
    let (events_tx, mut events) = mpsc::channel(64);
    // The task that polls publishes nothing, so that a full queue blocks nobody.
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
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut linked = false;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                None => return "the connection ended".to_owned(),
                Some(Err(error)) => return format!("{}:{}: {error}", config.host, config.port),
                Some(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                    let filters = [topic::cfg_desired, topic::job_next, topic::req_order];
                    let filters = filters.map(|name| name(&config.id));
                    let filters = filters.map(|filter| Filter::new(filter, QoS::AtLeastOnce));
                    if let Err(error) = client.try_subscribe_many(filters) {
                        return error.to_string();
                    }
                }
                // Only now does an answer to the report reach us.
                Some(Ok(Event::Incoming(Packet::SubAck(_)))) => {
                    tracing::info!(box.id = %config.id, "The keeper is linked to the cloud");
                    linked = true;
                    up.send_replace(true);
                    publish(config, &client, reports);
                }
                Some(Ok(Event::Incoming(Packet::Publish(publish)))) => {
                    let name = String::from_utf8_lossy(&publish.topic).into_owned();
                    if let Some(message) = read(&name, &publish.payload)
                        && news.send(message).await.is_err()
                    {
                        return "the keeper is stopping".to_owned();
                    }
                }
                Some(Ok(_)) => {}
            },
            changed = reports.changed() => {
                if changed.is_err() {
                    return "the keeper is stopping".to_owned();
                }
                if linked {
                    publish(config, &client, reports);
                }
            }
            _ = heartbeat.tick(), if linked => publish(config, &client, reports),
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn publish(config: &LinkConfig, client: &AsyncClient, reports: &mut watch::Receiver<Reported>) {
    let body = reports.borrow_and_update().clone();
    let envelope = Envelope {
        v: WIRE_VERSION,
        id: Uuid::now_v7(),
        box_id: config.id.clone(),
        sess: 0,
        seq: 0,
        ts: config.clock.now(),
        mono: u64::try_from(config.clock.since_start().as_millis()).unwrap_or(u64::MAX),
        kind: "cfg.reported".to_owned(),
        trace: String::new(),
        body,
    };
    let payload = serde_json::to_vec(&envelope).unwrap_or_default();
    // A full queue means that the link is stuck; the next heartbeat tries again.
    let sent = client.try_publish(topic::cfg_reported(&config.id), QoS::AtLeastOnce, false, payload);
    if let Err(error) = sent {
        tracing::warn!(%error, "A report was not sent");
    }
}

fn read(name: &str, payload: &[u8]) -> Option<News> {
    let (_, tail) = topic::split(name)?;
    match tail {
        "cfg/desired" => body(tail, payload).map(News::Desired),
        "job/next" => body(tail, payload).map(News::Job),
        "req/order" => read_as(tail, payload).map(|order| News::Order(order.body, order.ts)),
        _ => {
            tracing::debug!(tail, "A message of a kind that this version does not know");
            None
        }
    }
}

fn body<T: DeserializeOwned>(tail: &str, payload: &[u8]) -> Option<T> {
    read_as(tail, payload).map(|envelope| envelope.body)
}

fn read_as<T: DeserializeOwned>(tail: &str, payload: &[u8]) -> Option<Envelope<T>> {
    parse(payload)
        .inspect_err(|error| tracing::warn!(tail, %error, "A message of the cloud cannot be read"))
        .ok()
}
