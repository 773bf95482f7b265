//! The cloud's connection to a Mosquitto.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Filter, Packet, PubAckReason, Publish, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, MqttOptions};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use trunkline_db::{Db, DbError};
use trunkline_model::BoxId;
use trunkline_wire::{MAX_MESSAGE, topic};
use trunkline_worker::{Broker, BrokerError, Inbound, Inlet, Publication, Qos};

use super::config::Endpoint;
use super::rights::{ANSWERS, CLOUD, CONTROL, Rights};

const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// Between two looks at who is enrolled. Who is revoked is thrown out without waiting for it.
const LOOK: Duration = Duration::from_secs(3);
/// Mosquitto acknowledges what it took, not what arrived; later than this it is stuck.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
const REQUESTS: usize = 4_096;
/// What came and was not filed yet. The connection is read whatever happens behind it, or the acknowledgements that
/// the worker waits for would never be seen.
const UNFILED: usize = 16_384;
/// From here on events are left out: their boxes send them again.
const ROOM_FOR_OTHERS: usize = 2_048;
/// What boxes say, below `tl/1/+/`.
const HEARD: [&str; 7] = ["conn", "turn", "tel", "evt/+", "res/+", "cfg/reported", "job/+/status"];

/// The worker's end.
pub(crate) struct MosquittoBroker(mpsc::Sender<Request>);

enum Request {
    Publish(Publication, oneshot::Sender<Result<usize, BrokerError>>),
    Kick(BoxId, oneshot::Sender<usize>),
}

impl Broker for MosquittoBroker {
    fn publish(&self, message: Publication) -> BoxFuture<'_, Result<usize, BrokerError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let asked = self.0.send(Request::Publish(message, reply)).await;
            let answer = match asked {
                Ok(()) => tokio::time::timeout(TAKEN_WITHIN, answer).await.ok().and_then(Result::ok),
                Err(_) => None,
            };
            answer.unwrap_or_else(|| Err(refused("Mosquitto did not acknowledge it")))
        })
    }

    fn kick<'a>(&'a self, box_id: &'a BoxId) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            if self.0.send(Request::Kick(box_id.clone(), reply)).await.is_err() {
                return 0;
            }
            answer.await.unwrap_or(0)
        })
    }
}

fn refused(why: &str) -> BrokerError {
    BrokerError::Refused(why.to_owned())
}

/// The cloud's end of the connection, while there is one.
pub(crate) struct Link {
    endpoint: Endpoint,
    db: Db,
    inlet: Inlet,
    requests: mpsc::Receiver<Request>,
    /// The session that each box said last, so that one that is thrown out is known to be gone.
    sessions: BTreeMap<BoxId, Value>,
}

/// What belongs to one connection.
struct Connection {
    client: AsyncClient,
    rights: Rights,
    /// Handed over, and not numbered yet.
    unnumbered: VecDeque<oneshot::Sender<Result<usize, BrokerError>>>,
    /// Sent, and not acknowledged yet.
    unacknowledged: BTreeMap<u16, oneshot::Sender<Result<usize, BrokerError>>>,
    up: bool,
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// Makes both ends; nothing happens before [`Self::run`].
    pub(crate) fn new(endpoint: Endpoint, inlet: Inlet, db: Db) -> (MosquittoBroker, Self) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        (MosquittoBroker(sender), Self { endpoint, db, inlet, requests, sessions: BTreeMap::new() })
    }

    /// Connects, and again whenever the connection breaks. Boxes stay connected to Mosquitto meanwhile, and send again
    /// what was not acknowledged.
    pub(crate) async fn run(mut self) {
        let (filed, mut unfiled) = mpsc::channel(UNFILED);
        let inlet = self.inlet.clone();
        let _filing = AbortOnDrop(tokio::spawn(async move {
            while let Some(message) = unfiled.recv().await {
                inlet.take(message).await;
            }
        }));
        let (wanted_tx, mut wanted) = watch::channel(None);
        let _looking = AbortOnDrop(tokio::spawn(look(self.db.clone(), wanted_tx)));
        let mut backoff = FIRST_BACKOFF;
        loop {
            let began = Instant::now();
            let why = self.connection(&filed, &mut wanted).await;
            if began.elapsed() > LONGEST_BACKOFF {
                backoff = FIRST_BACKOFF;
            }
            let address = &self.endpoint.address;
            tracing::error!(address, "There is no link to Mosquitto and boxes get no answers: {why}");
            if !self.pause(backoff).await {
                return;
            }
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// Waits, and refuses what is asked for meanwhile. Returns false once nobody will ask any more.
    async fn pause(&mut self, pause: Duration) -> bool {
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return true,
                request = self.requests.recv() => match request {
                    None => return false,
                    Some(Request::Publish(_, reply)) => {
                        let _ = reply.send(Err(refused("there is no link to Mosquitto")));
                    }
                    Some(Request::Kick(_, reply)) => {
                        let _ = reply.send(0);
                    }
                },
            }
        }
    }

    /// Runs one connection until it fails, and returns why.
    async fn connection(
        &mut self,
        filed: &mpsc::Sender<Inbound>,
        wanted: &mut watch::Receiver<Option<BTreeSet<BoxId>>>,
    ) -> String {
        let (mut connection, mut events, _polling) = open(&self.endpoint);
        let mut boxes = wanted.borrow_and_update().clone();
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    None => return "the connection ended".to_owned(),
                    Some(Err(error)) => return error.to_string(),
                    Some(Ok(Event::Outgoing(Outgoing::Publish(number)))) => connection.numbered(number),
                    Some(Ok(Event::Outgoing(_))) => {}
                    Some(Ok(Event::Incoming(packet))) => {
                        if let Err(why) = self.take(&mut connection, packet, filed) {
                            return why;
                        }
                    }
                },
                request = self.requests.recv() => match request {
                    None => return "the cloud stops".to_owned(),
                    Some(Request::Publish(message, reply)) => connection.publish(message, reply),
                    Some(Request::Kick(id, reply)) => {
                        boxes.as_mut().map(|boxes| boxes.remove(&id));
                        let _ = reply.send(usize::from(self.throw_out(&mut connection, &id, filed)));
                    }
                },
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return "the cloud stops".to_owned();
                    }
                    boxes = wanted.borrow_and_update().clone();
                }
            }
            if let Some(boxes) = boxes.as_ref().filter(|_| connection.up)
                && let Some(message) = connection.rights.poll(boxes)
            {
                connection.control(&message);
            }
        }
    }

    fn take(
        &mut self,
        connection: &mut Connection,
        packet: Packet,
        filed: &mpsc::Sender<Inbound>,
    ) -> Result<(), String> {
        if let Packet::ConnAck(_) = packet {
            connection.subscribe()?;
        } else if let Packet::SubAck(ack) = packet {
            if ack.return_codes.iter().any(|code| !matches!(code, SubscribeReasonCode::Success(_))) {
                return Err(format!("it does not let the user `{CLOUD}` hear: is its plugin set up?"));
            }
            connection.up = true;
            connection.rights.handle_connected();
            tracing::info!(address = self.endpoint.address, "Linked to Mosquitto");
        } else if let Packet::PubAck(ack) = packet {
            connection.acknowledged(ack.pkid, ack.reason);
        } else if let Packet::Publish(publish) = packet {
            if publish.topic == ANSWERS.as_bytes() {
                if let Err(refused) = connection.rights.handle_answer(&publish.payload) {
                    tracing::error!(
                        refused,
                        "Mosquitto did not change the rights of boxes; they are sent again"
                    );
                }
            } else if let Some(message) = inbound(publish) {
                self.note_session(&message);
                file(filed, message);
            }
        } else if let Packet::Disconnect(disconnect) = packet {
            return Err(format!("it said {:?}", disconnect.reason_code));
        }
        Ok(())
    }

    fn note_session(&mut self, message: &Inbound) {
        if message.tail == "conn"
            && let Ok(envelope) = serde_json::from_slice::<Value>(&message.payload)
        {
            self.sessions.insert(message.box_id.clone(), envelope["body"]["sess"].clone());
        }
    }

    /// Ends a box's connections and takes its rights. Mosquitto then says nothing of its will, so that it is gone is
    /// said here, and its last word, which Mosquitto keeps for who subscribes, is taken back.
    fn throw_out(&mut self, connection: &mut Connection, id: &BoxId, filed: &mpsc::Sender<Inbound>) -> bool {
        if !connection.up {
            return false;
        }
        let (message, had) = connection.rights.take_from(id);
        connection.control(&message);
        connection.quietly(topic::conn(id), true, Vec::new());
        if let Some(sess) = self.sessions.remove(id) {
            let gone = gone(id, &sess);
            file(
                filed,
                Inbound {
                    box_id: id.clone(),
                    tail: "conn".into(),
                    payload: gone.into(),
                    correlation: None,
                    received: Instant::now(),
                },
            );
        }
        had
    }
}

/// What a box would have left as its will.
fn gone(id: &BoxId, sess: &Value) -> Vec<u8> {
    let envelope = json!({
        "v": trunkline_wire::WIRE_VERSION, "id": uuid::Uuid::now_v7(), "box": id, "sess": sess, "seq": 0,
        "ts": jiff::Timestamp::now(), "type": "conn", "body": { "online": false, "sess": sess },
    });
    envelope.to_string().into_bytes()
}

fn file(filed: &mpsc::Sender<Inbound>, message: Inbound) {
    let crowded = filed.capacity() < ROOM_FOR_OTHERS && message.tail.starts_with("evt/");
    if crowded {
        tracing::debug!(box.id = %message.box_id, "The database is behind: a box sends its event again");
    } else if let Err(error) = filed.try_send(message) {
        tracing::error!(%error, "A message of a box was dropped because the database is far behind");
    }
}

fn inbound(publish: Publish) -> Option<Inbound> {
    let name = std::str::from_utf8(&publish.topic).ok()?;
    let (box_id, tail) = topic::split(name)?;
    // An empty message takes back what is kept.
    if publish.payload.is_empty() {
        return None;
    }
    let correlation = publish.properties.and_then(|properties| properties.correlation_data);
    Some(Inbound {
        box_id,
        tail: tail.to_owned(),
        payload: publish.payload,
        correlation,
        received: Instant::now(),
    })
}

type Events = mpsc::Receiver<Result<Event, ConnectionError>>;

fn open(endpoint: &Endpoint) -> (Connection, Events, AbortOnDrop<()>) {
    let mut options = MqttOptions::new(CLOUD, &endpoint.host, endpoint.port);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options
        .set_network_options(network)
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(&endpoint.tls))))
        .set_keep_alive(Duration::from_secs(10))
        // What boxes sent while nobody listened they send again.
        .set_clean_start(true)
        .set_max_packet_size(Some(MAX_MESSAGE as u32 + 4 * 1024))
        .set_connection_timeout(5);
    let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
    let (sender, events) = mpsc::channel(1_024);
    let polling = tokio::spawn(async move {
        loop {
            let event = event_loop.poll().await;
            let failed = event.is_err();
            if sender.send(event).await.is_err() || failed {
                return;
            }
        }
    });
    let connection = Connection {
        client,
        rights: Rights::default(),
        unnumbered: VecDeque::new(),
        unacknowledged: BTreeMap::new(),
        up: false,
    };
    (connection, events, AbortOnDrop(polling))
}

impl Connection {
    fn subscribe(&self) -> Result<(), String> {
        let filters = HEARD.iter().map(|tail| format!("{}/+/{tail}", topic::PREFIX));
        let filters = filters.chain([ANSWERS.to_owned()]).map(|filter| Filter::new(filter, QoS::AtLeastOnce));
        self.client.try_subscribe_many(filters).map_err(|error| error.to_string())
    }

    fn publish(&mut self, message: Publication, reply: oneshot::Sender<Result<usize, BrokerError>>) {
        let properties = PublishProperties {
            correlation_data: message.correlation,
            message_expiry_interval: message
                .expiry
                .map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX)),
            ..PublishProperties::default()
        };
        let counted = message.qos == Qos::AtLeastOnce;
        let qos = if counted { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let sent =
            self.client.try_publish_with_properties(message.topic, qos, false, message.payload, properties);
        match sent {
            Err(error) => drop(reply.send(Err(BrokerError::Refused(error.to_string())))),
            Ok(()) if counted => self.unnumbered.push_back(reply),
            Ok(()) => drop(reply.send(Ok(1))),
        }
    }

    /// Sends something of the link's own, whose acknowledgement nobody waits for.
    fn quietly(&mut self, topic: impl Into<String>, retain: bool, payload: Vec<u8>) {
        let (nobody, _) = oneshot::channel();
        match self.client.try_publish(topic.into(), QoS::AtLeastOnce, retain, payload) {
            Ok(()) => self.unnumbered.push_back(nobody),
            Err(error) => {
                tracing::error!(%error, "Mosquitto is not told who may speak; it is tried again");
                self.rights.handle_connected();
            }
        }
    }

    fn control(&mut self, message: &Value) {
        self.quietly(CONTROL, false, message.to_string().into_bytes());
    }

    /// A message went out under this number; those without one are not acknowledged.
    fn numbered(&mut self, number: u16) {
        if number != 0
            && let Some(reply) = self.unnumbered.pop_front()
        {
            self.unacknowledged.insert(number, reply);
        }
    }

    fn acknowledged(&mut self, number: u16, reason: PubAckReason) {
        let Some(reply) = self.unacknowledged.remove(&number) else { return };
        let heard_by = match reason {
            PubAckReason::Success => Ok(1),
            PubAckReason::NoMatchingSubscribers => Ok(0),
            PubAckReason::UnspecifiedError
            | PubAckReason::ImplementationSpecificError
            | PubAckReason::NotAuthorized
            | PubAckReason::TopicNameInvalid
            | PubAckReason::PacketIdentifierInUse
            | PubAckReason::QuotaExceeded
            | PubAckReason::PayloadFormatInvalid => Err(BrokerError::Refused(format!("{reason:?}"))),
        };
        let _ = reply.send(heard_by);
    }
}

/// Looks who is enrolled, again and again. What cannot be read changes nothing.
async fn look(db: Db, wanted: watch::Sender<Option<BTreeSet<BoxId>>>) {
    loop {
        match enrolled(&db).await {
            Ok(boxes) => drop(wanted.send_replace(Some(boxes))),
            Err(error) => tracing::error!(%error, "Who is enrolled could not be read"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn enrolled(db: &Db) -> Result<BTreeSet<BoxId>, DbError> {
    let all = db.enrolments().await?.into_iter();
    Ok(all.filter(|one| ["approved", "issued"].contains(&one.state.name())).map(|one| one.box_id).collect())
}
