//! The embedded broker: rmqtt, with mutual TLS and our rules hooked in.
//!
//! The cloud's own link is no client: what boxes publish is taken from the broker's hook, what the
//! cloud says is put into the broker's router. Boxes cannot tell it from a broker far away.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use rmqtt::codec::types::Publish as CodecPublish;
use rmqtt::codec::v5::{PublishProperties, SubscribeAckReason};
use rmqtt::context::ServerContext;
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType, Type};
use rmqtt::net::Builder;
use rmqtt::retain::RetainStorage;
use rmqtt::server::MqttServer;
use rmqtt::session::Session;
use rmqtt::types::{
    AuthResult, ConnectInfo, From, FromType, Id, LastWill, Publish, PublishAclResult, QoS, Retain,
    SubscribeAclResult, TopicFilter, TopicName,
};
use trunkline_db::Db;
use trunkline_model::BoxId;
use trunkline_wire::{MAX_MESSAGE, topic};
use trunkline_worker::{Broker, BrokerError, Inbound, Inlet, Publication, Qos};

use crate::acl;
use crate::config::Endpoint;
use crate::limits::{self, Room};

/// Room for the fixed header, the topic and the properties around the largest message.
const HEADER_ROOM: usize = 4 * 1024;
const LISTENER: u16 = 1;

/// The broker inside this process.
pub(crate) struct EmbeddedBroker {
    context: ServerContext,
    from: From,
}

/// A broker that listens already and serves as soon as it is run.
pub(crate) struct Listening {
    pub(crate) broker: EmbeddedBroker,
    pub(crate) address: SocketAddr,
    server: MqttServer,
}

impl EmbeddedBroker {
    /// Binds the port and hooks in the rules; what boxes say goes into `inlet`, and `door` says who gets in.
    pub(crate) async fn bind(endpoint: &Endpoint, inlet: Inlet, door: Door) -> anyhow::Result<Listening> {
        // The broker's own check refuses everybody while the machine is busy with speech.
        let context = ServerContext::new().busy_check_enable(false).build().await;
        *context.extends.retain_mut().await = Box::new(KeptElsewhere);
        let register = context.extends.hook_mgr().register();
        for kind in [
            Type::ClientAuthenticate,
            Type::ClientSubscribeCheckAcl,
            Type::MessagePublishCheckAcl,
            Type::MessagePublish,
        ] {
            register.add(kind, Box::new(Rules { inlet: inlet.clone(), door: door.clone() })).await;
        }
        register.start().await;

        let listener = Builder::new()
            .name("boxes")
            .laddr(endpoint.listen)
            .nodelay(true)
            .reuseaddr(Some(true))
            .allow_anonymous(false)
            .max_packet_size(u32::try_from(MAX_MESSAGE + HEADER_ROOM).unwrap_or(u32::MAX))
            .handshake_timeout(Duration::from_secs(10))
            .max_clientid_len(128)
            .max_topic_levels(8)
            .max_subscriptions(32)
            .max_inflight(NonZeroU16::new(64).context("64 is not zero")?)
            .max_mqueue_len(2_000)
            // Who went away without a word keeps an open file for as long. What a box missed is in the database.
            .max_session_expiry_interval(Duration::from_secs(15 * 60))
            .tls_cross_certificate(true)
            .tls_cert(Some(text(&endpoint.cert)?))
            .tls_key(Some(text(&endpoint.key)?))
            .tls_client_ca_certs(Some(text(&endpoint.client_ca)?))
            .cert_cn_as_username(true)
            .collect_cert_info(true)
            .bind()?
            .tls()?;
        let address = listener.local_addr()?;
        let server = MqttServer::new(context.clone()).listener_by_id(listener, LISTENER).build();
        let id = Id::new(context.node.id(), LISTENER, None, None, "cloud".into(), None);
        let broker = Self { context, from: From::from_system(id) };
        Ok(Listening { broker, address, server })
    }
}

impl Listening {
    /// Serves until the task is dropped.
    pub(crate) fn run(self, room: Arc<Room>) -> (EmbeddedBroker, impl Future<Output = ()>) {
        let server = self.server;
        // Only its accept loop runs in this future: connections have tasks of their own.
        let accepting = async move {
            if let Err(error) = server.run().await {
                tracing::error!(%error, "The embedded broker stopped");
            }
        };
        (self.broker, limits::while_there_is_room(room, accepting))
    }
}

impl Broker for EmbeddedBroker {
    fn publish(&self, message: Publication) -> BoxFuture<'_, Result<usize, BrokerError>> {
        Box::pin(async move {
            let expiry = message.expiry.map(|expiry| u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX));
            let packet = CodecPublish {
                dup: false,
                retain: false,
                qos: match message.qos {
                    Qos::AtMostOnce => QoS::AtMostOnce,
                    Qos::AtLeastOnce => QoS::AtLeastOnce,
                },
                topic: message.topic.into(),
                packet_id: None,
                payload: message.payload,
                properties: Some(PublishProperties {
                    correlation_data: message.correlation,
                    message_expiry_interval: expiry.and_then(NonZeroU32::new),
                    ..PublishProperties::default()
                }),
            };
            let publish = Publish::from(packet).create_time(jiff::Timestamp::now().as_millisecond());
            let shared = self.context.extends.shared().await;
            shared.forwards(None, self.from.clone(), publish).await.map_err(|(_, failed)| {
                let reasons: Vec<String> =
                    failed.into_iter().map(|(_, _, _, reason)| reason.to_string()).collect();
                BrokerError::Refused(reasons.join("; "))
            })
        })
    }

    fn kick<'a>(&'a self, box_id: &'a BoxId) -> BoxFuture<'a, usize> {
        Box::pin(async move {
            let shared = self.context.extends.shared().await;
            let theirs = |id: &Id| id.username.as_deref() == Some(box_id.as_str());
            let ids: Vec<Id> = shared.iter().map(|entry| entry.id()).filter(theirs).collect();
            let mut ended = 0;
            for id in ids {
                let mut entry = shared.entry(id);
                let was_online = entry.online().await;
                match entry.kick(true, true, true).await {
                    Ok(_) => ended += usize::from(was_online),
                    Err(error) => tracing::error!(box.id = %box_id, %error, "A session could not be ended"),
                }
            }
            ended
        })
    }
}

/// Who gets in beyond what TLS checks: whose certificate was not revoked.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) db: Db,
    /// Boxes that were never enrolled here stay outside.
    pub(crate) only_enrolled: bool,
    /// Whether there is room for one more.
    pub(crate) room: Arc<Room>,
}

/// The only retained topic is `conn`, whose one reader is the cloud, which keeps it in its database.
/// So retained messages are accepted, as with any other broker, and nothing more is stored.
struct KeptElsewhere;

#[async_trait]
impl RetainStorage for KeptElsewhere {
    fn enable(&self) -> bool {
        true
    }

    async fn set(&self, _: &TopicName, _: Retain, _: Option<Duration>) -> rmqtt::Result<()> {
        Ok(())
    }

    async fn get(&self, _: &TopicFilter) -> rmqtt::Result<Vec<(TopicName, Retain)>> {
        Ok(Vec::new())
    }

    async fn count(&self) -> isize {
        0
    }

    async fn max(&self) -> isize {
        0
    }
}

struct Rules {
    inlet: Inlet,
    door: Door,
}

#[async_trait]
impl Handler for Rules {
    async fn hook(&self, parameter: &Parameter, result: Option<HookResult>) -> ReturnType {
        match parameter {
            Parameter::ClientAuthenticate(info) => {
                let verdict = match self.door.open(authenticate(info), info.client_id()).await {
                    Ok(id) => {
                        tracing::debug!(box.id = %id, "A box connects");
                        AuthResult::Allow(false, None)
                    }
                    Err(reason) => {
                        tracing::warn!(reason, "A client was refused");
                        AuthResult::NotAuthorized
                    }
                };
                (false, Some(HookResult::AuthResult(verdict)))
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => {
                let filter = subscribe.topic_filter.as_ref();
                let plain = subscribe.opts.shared_group().is_none();
                let allowed = plain && owner(session).is_some_and(|id| acl::subscribe_allowed(&id, filter));
                let verdict = if allowed {
                    SubscribeAclResult::new_success(subscribe.opts.qos(), None)
                } else {
                    tracing::warn!(box.id = name(session), filter, "A subscription was refused");
                    SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
                };
                (false, Some(HookResult::SubscribeAclResult(verdict)))
            }
            Parameter::MessagePublishCheckAcl(session, publish) => {
                let to = publish.topic.as_ref();
                let verdict = match owner(session) {
                    Some(id) if acl::publish_allowed(&id, to) => {
                        self.take(id, publish).await;
                        PublishAclResult::allow()
                    }
                    _ => {
                        tracing::warn!(box.id = name(session), to, "A message was refused");
                        PublishAclResult::rejected(false, None)
                    }
                };
                (false, Some(HookResult::PublishAclResult(verdict)))
            }
            // A will passes no other check than this: the topic was checked when the box connected.
            Parameter::MessagePublish(Some(session), from, publish)
                if matches!(from.typ(), FromType::LastWill) =>
            {
                if let Some(id) = owner(session).filter(|id| acl::will_allowed(id, &publish.topic)) {
                    self.take(id, publish).await;
                }
                (true, result)
            }
            Parameter::MessagePublish(..)
            | Parameter::BeforeStartup
            | Parameter::SessionCreated(_)
            | Parameter::SessionTerminated(..)
            | Parameter::SessionSubscribed(..)
            | Parameter::SessionUnsubscribed(..)
            | Parameter::ClientConnect(_)
            | Parameter::ClientConnack(..)
            | Parameter::ClientConnected(_)
            | Parameter::ClientDisconnected(..)
            | Parameter::ClientSubscribe(..)
            | Parameter::ClientUnsubscribe(..)
            | Parameter::ClientKeepalive(..)
            | Parameter::MessageDelivered(..)
            | Parameter::MessageAcked(..)
            | Parameter::MessageDropped(..)
            | Parameter::MessageExpiryCheck(..)
            | Parameter::MessageNonsubscribed(_)
            | Parameter::OfflineMessage(..)
            | Parameter::OfflineInflightMessages(..) => (true, result),
        }
    }
}

impl Rules {
    async fn take(&self, box_id: BoxId, publish: &Publish) {
        let Some((_, tail)) = topic::split(&publish.topic) else { return };
        let correlation =
            publish.properties.as_ref().and_then(|properties| properties.correlation_data.clone());
        self.inlet
            .take(Inbound {
                box_id,
                tail: tail.to_owned(),
                payload: publish.payload.clone(),
                correlation,
                received: Instant::now(),
            })
            .await;
    }
}

impl Door {
    async fn open(&self, proven: Result<(BoxId, String), String>, client: &str) -> Result<BoxId, String> {
        let (id, serial) = proven?;
        // A box holds its calls over the connection that is named like it, and the rest over others.
        let for_calls = client == id.as_str();
        if !self.room.admits(for_calls, &self.db).await {
            return Err(format!("no files are left for `{client}`: raise the limit of open files"));
        }
        match self.db.may_connect(&id, &serial, self.only_enrolled).await {
            Ok(true) => Ok(id),
            Ok(false) => Err(format!("box {id} showed a certificate ({serial}) that is not good any more")),
            Err(error) => Err(format!("box {id} could not be looked up: {error}")),
        }
    }
}

/// Returns the box and the serial number of its certificate.
fn authenticate(info: &ConnectInfo) -> Result<(BoxId, String), String> {
    let ConnectInfo::V5(_, connect) = info else {
        return Err("it does not speak MQTT 5".to_owned());
    };
    // The user name is the certificate's common name, but only where there is one.
    let cert = connect.cert.as_ref().ok_or("it showed no certificate")?;
    let name = cert.common_name.as_deref().ok_or("its certificate has no common name")?;
    let id: BoxId = name.parse().map_err(|error| format!("its certificate: {error}"))?;
    if connect.username.as_deref() != Some(id.as_str()) {
        return Err(format!("box {id} is not known by its certificate's name"));
    }
    if !acl::client_id_allowed(&id, &connect.client_id) {
        return Err(format!("box {id} used a client id that is not its own"));
    }
    if let Some(LastWill::V5(will)) = info.last_will()
        && !acl::will_allowed(&id, &will.topic)
    {
        return Err(format!("box {id} left a will on a topic that is not its own"));
    }
    Ok((id, cert.serial.clone().unwrap_or_default()))
}

fn owner(session: &Session) -> Option<BoxId> {
    session.id.username.as_deref()?.parse().ok()
}

fn name(session: &Session) -> &str {
    session.id.username.as_deref().unwrap_or("unknown")
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("the path `{}` is not UTF-8", path.display()))
}
