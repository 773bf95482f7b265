//! Many boxes at once: how fast they come back after the broker was gone, how long an event takes from being
//! published until the cloud has committed it, and whether any is lost.
//!
//! ```sh
//! cargo run --example fleet_sim -p trunkline-keeper -- --dir dev --mqtt localhost:8883 --boxes 2000 \
//!     --rate 1000 --seconds 60 --pid $(pgrep -x trunkline-cloud)
//! ```
//!
//! `--dir` holds `ca.pem` (who signed the cloud's certificate) and `fleet-ca.pem`, `fleet-ca.key` (who signs those
//! of boxes). The boxes are signed by hand, so the cloud must not say `only_enrolled`.

#![allow(clippy::unwrap_used, reason = "a tool for measuring: what goes wrong ends it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Filter, Packet};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::sync::{Barrier, Semaphore, mpsc};
use trunkline_model::BoxId;
use trunkline_wire::{Ack, Birth, Envelope, WIRE_VERSION, parse, topic};
use uuid::Uuid;

#[derive(Clone, Parser)]
struct Options {
    /// Folder with the authorities.
    #[arg(long)]
    dir: PathBuf,
    /// Host and port of the broker.
    #[arg(long)]
    mqtt: String,
    /// How many boxes.
    #[arg(long, default_value_t = 200)]
    boxes: usize,
    /// Events per second, of all boxes together.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// For how long.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many TLS handshakes at once.
    #[arg(long, default_value_t = 200)]
    handshakes: usize,
    /// The cloud's process, for its memory.
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    acknowledged: AtomicU64,
    broken: AtomicU64,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let began = Instant::now();
    let tls: Vec<(BoxId, Arc<rustls::ClientConfig>)> = certificates(&options.dir, options.boxes);
    println!("{} certificates in {:.1} s", options.boxes, began.elapsed().as_secs_f64());

    let counts = Arc::new(Counts::default());
    let places = Arc::new(Semaphore::new(options.handshakes));
    let all_there = Arc::new(Barrier::new(options.boxes + 1));
    let (latencies, mut measured) = mpsc::unbounded_channel();
    let began = Instant::now();
    for (number, (id, tls)) in tls.into_iter().enumerate() {
        let one = One {
            id,
            tls,
            options: options.clone(),
            counts: Arc::clone(&counts),
            latencies: latencies.clone(),
            // Spread over the first interval.
            offset: number as f64 / options.boxes as f64,
        };
        let (places, all_there) = (Arc::clone(&places), Arc::clone(&all_there));
        tokio::spawn(one.live(places, all_there));
    }
    drop(latencies);
    all_there.wait().await;
    println!("all connected and subscribed after {:.1} s", began.elapsed().as_secs_f64());
    memory(&options, "connected");

    let mut all: Vec<Duration> = Vec::new();
    let end = Instant::now() + Duration::from_secs(options.seconds + 30);
    while let Ok(Some(latency)) = tokio::time::timeout_at(end.into(), measured.recv()).await {
        all.push(latency);
    }
    memory(&options, "afterwards");
    all.sort();
    let at = |share: f64| all.get(((all.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
    let (sent, acknowledged) =
        (counts.sent.load(Ordering::Relaxed), counts.acknowledged.load(Ordering::Relaxed));
    println!(
        "{sent} events sent, {acknowledged} acknowledged after their commit, {} connections broke",
        counts.broken.load(Ordering::Relaxed)
    );
    println!(
        "published to committed and acknowledged: p50 {:?}, p95 {:?}, p99 {:?}, longest {:?}",
        at(0.50),
        at(0.95),
        at(0.99),
        at(1.0)
    );
    if sent != acknowledged {
        println!("LOST: {}", sent - acknowledged);
        std::process::exit(1);
    }
}

struct One {
    id: BoxId,
    tls: Arc<rustls::ClientConfig>,
    options: Options,
    counts: Arc<Counts>,
    latencies: mpsc::UnboundedSender<Duration>,
    offset: f64,
}

impl One {
    async fn live(self, places: Arc<Semaphore>, all_there: Arc<Barrier>) {
        let (client, mut events) = {
            let _place = places.acquire().await.unwrap();
            self.connect().await
        };
        all_there.wait().await;
        let interval = Duration::from_secs_f64(self.options.boxes as f64 / self.options.rate as f64);
        let stop = tokio::time::Instant::now() + Duration::from_secs(self.options.seconds);
        let give_up = stop + Duration::from_secs(30);
        let mut next = tokio::time::Instant::now() + interval.mul_f64(self.offset);
        let mut under_way: BTreeMap<u64, Instant> = BTreeMap::new();
        let mut seq = 0;
        loop {
            let now = tokio::time::Instant::now();
            if now >= give_up || (now >= stop && under_way.is_empty()) {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(next), if next < stop => {
                    seq += 1;
                    let event = self.envelope(seq, "audit.sim", json!({"n": seq}));
                    if client.try_publish(topic::evt_call(&self.id), QoS::AtLeastOnce, false, event).is_ok() {
                        under_way.insert(seq, Instant::now());
                        self.counts.sent.fetch_add(1, Ordering::Relaxed);
                    } else {
                        seq -= 1;
                    }
                    next += interval;
                }
                () = tokio::time::sleep_until(give_up.min(now + Duration::from_secs(1))) => {}
                event = events.poll() => match event {
                    Ok(Event::Incoming(Packet::Publish(publish))) => {
                        let Ok(ack) = parse::<Envelope<Ack>>(&publish.payload) else { continue };
                        under_way.retain(|seq, at| {
                            let done = *seq <= ack.body.upto && !ack.body.except.contains(seq);
                            if done {
                                self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                                let _ = self.latencies.send(at.elapsed());
                            }
                            !done
                        });
                    }
                    Ok(_) => {}
                    Err(_) => {
                        self.counts.broken.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                },
            }
        }
    }

    async fn connect(&self) -> (AsyncClient, EventLoop) {
        loop {
            let (host, port) = self.options.mqtt.rsplit_once(':').unwrap();
            let mut options = MqttOptions::new(self.id.as_str(), host, port.parse().unwrap());
            let mut network = NetworkOptions::new();
            network.set_tcp_nodelay(true);
            options
                .set_network_options(network)
                .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&self.tls))))
                .set_keep_alive(Duration::from_secs(60))
                .set_clean_start(true)
                .set_connection_timeout(60);
            let (client, mut events) = AsyncClient::new(options, 64);
            let birth = Birth {
                online: true,
                sess: Timestamp::now().as_second() as u64,
                software: "sim".into(),
                channels: 0,
                oldest: Some(1),
                trunks: Vec::new(),
                suppressions: None,
                numbers: None,
            };
            client.try_subscribe_many([Filter::new(topic::ack(&self.id), QoS::AtLeastOnce)]).unwrap();
            let birth = self.envelope(0, "conn", birth);
            client.try_publish(topic::conn(&self.id), QoS::AtLeastOnce, false, birth).unwrap();
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::SubAck(_))) => return (client, events),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    fn envelope<T: serde::Serialize>(&self, seq: u64, kind: &str, body: T) -> Vec<u8> {
        let envelope = Envelope {
            v: WIRE_VERSION,
            id: Uuid::now_v7(),
            box_id: self.id.clone(),
            sess: 1,
            seq,
            ts: Timestamp::now(),
            mono: 0,
            kind: kind.to_owned(),
            trace: String::new(),
            body,
        };
        serde_json::to_vec(&envelope).unwrap()
    }
}

/// Signs a certificate for each box. The ids are new in each run, so that numbers of events are.
fn certificates(dir: &Path, boxes: usize) -> Vec<(BoxId, Arc<rustls::ClientConfig>)> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let authority = read("fleet-ca.pem");
    let issuer =
        Issuer::from_ca_cert_pem(&authority, KeyPair::from_pem(&read("fleet-ca.key")).unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(read("ca.pem").as_bytes()).unwrap()).unwrap();
    let run = Timestamp::now().as_second();
    (0..boxes)
        .map(|number| {
            let id: BoxId = format!("sim-{run}-{number}").parse().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, id.as_str());
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let key = KeyPair::generate().unwrap();
            let chain = params.signed_by(&key, &issuer).unwrap().pem() + &authority;
            let chain: Vec<_> =
                CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
            let tls = rustls::ClientConfig::builder()
                .with_root_certificates(roots.clone())
                .with_client_auth_cert(chain, key)
                .unwrap();
            (id, Arc::new(tls))
        })
        .collect()
}

fn memory(options: &Options, when: &str) {
    let Some(pid) = options.pid else { return };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?").trim();
    println!("memory of the cloud, {when}: {line}");
}
