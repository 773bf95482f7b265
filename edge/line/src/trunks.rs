//! The trunks of a box: calls out with failover, calls in, registrations, pings, and how each trunk is.
//!
//! [`Trunks::place`] makes a call on the best trunk that takes it and goes on to the next when a trunk fails before
//! the far end rang; [`Trunks::status`] tells how each is. Which trunk is next is decided by
//! [`trunkline_sip::trunk::TrunkPool`]; here are the sockets, the names that are looked up, and the clock.
//!
//! Trunks with the same bind address share one socket and one user agent.

mod arrival;
mod call;
mod keeper;
mod legs;
mod phones;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::{Notify, mpsc};
use trunkline_sip::identity::IdentityPolicy;
use trunkline_sip::message::{Hop, Transport, Uri};
use trunkline_sip::sdp::{Codec, LocalMedia, Secure};
use trunkline_sip::trunk::{Health, TrunkId, TrunkPool, TrunkSettings};
use trunkline_sip::{Account, Gauges, InviteRequest, RegisterRequest, SipEvent, UaConfig};
use trunkline_trace::Tracer;

use crate::keys::KeysBy;
use crate::media::{RtpPorts, RtpSockets};
use crate::sip::{Command, PeerTls, SipHandle, SipTransports, TraceName, start_with};

use legs::Legs;

pub use arrival::IncomingCall;
pub use call::{Attempt, CallRequest, LineNews, LineOrder, PlacedCall, Target};
pub(crate) use legs::Place;
pub use legs::Standing;
pub use phones::PhonesSetup;

/// Where a trunk is: an address, or a name that is looked up again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// An address without brackets, or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Proxy {
    /// Returns the address, unless it is a name.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, self.port))
    }
}

/// Whether calls on a trunk are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Never.
    #[default]
    Off,
    /// Where the other side can (RFC 8643).
    Optional,
    /// There is no call without.
    Required,
}

/// What is to be known about one trunk.
#[derive(Clone, Debug)]
pub struct TrunkSetup {
    /// What people call it; it stands in records and reports.
    pub name: String,
    /// Where it is.
    pub proxy: Proxy,
    /// Over what it is reached.
    pub transport: Transport,
    /// Our address towards it; port 0 takes any.
    pub bind: SocketAddr,
    /// How TLS is done, if it is.
    pub tls: Option<PeerTls>,
    /// As whom.
    pub account: Account,
    /// The user part of our address there, for From without a number and for the registration.
    pub user: Option<String>,
    /// For how long a binding is asked for; `None` for a trunk that knows us by address.
    pub register: Option<Duration>,
    /// Priority, weight, channels, calls per second, pings.
    pub pool: TrunkSettings,
    /// Codecs in order of preference.
    pub codecs: Vec<Codec>,
    /// Whether calls are encrypted.
    pub encryption: Encryption,
    /// The number to show when a call brings none.
    pub caller_id: Option<String>,
    /// Numbers that it may show; empty for any.
    pub caller_ids: Vec<String>,
    /// What the numbers begin with that it may call, such as `+86`; empty for all.
    pub serves: Vec<String>,
    /// How the trunk wants the caller's identity.
    pub identity: IdentityPolicy,
    /// Whether calls from it are taken.
    pub inbound: bool,
    /// How keys are pressed there.
    pub keys: KeysBy,
    /// Whether it may move a call that it carries to another dialog (INVITE with Replaces, RFC 3891).
    pub moves_calls: bool,
    /// Whether it is asked to join a customer and a person by itself once both are on it (REFER with Replaces).
    pub takes_over: bool,
}

impl TrunkSetup {
    /// A trunk by address over UDP, in the clear, without a password.
    pub fn new(name: impl Into<String>, proxy: Proxy, bind: SocketAddr) -> Self {
        Self {
            name: name.into(),
            proxy,
            transport: Transport::Udp,
            bind,
            tls: None,
            account: Account::default(),
            user: None,
            register: None,
            pool: TrunkSettings { ping_every: None, ..TrunkSettings::default() },
            codecs: vec![Codec::Pcma, Codec::Pcmu],
            encryption: Encryption::Off,
            caller_id: None,
            caller_ids: Vec::new(),
            serves: Vec::new(),
            identity: IdentityPolicy::default(),
            inbound: false,
            keys: KeysBy::Events,
            moves_calls: false,
            takes_over: false,
        }
    }

    /// Returns the host part of addresses at this trunk.
    pub fn domain(&self) -> String {
        self.account.domain.clone().unwrap_or_else(|| match self.proxy.literal() {
            Some(addr) => addr.to_string(),
            None => self.proxy.host.clone(),
        })
    }

    /// Says whether it may carry a call to this number that shows that one; `None` shows what the trunk has for that.
    pub fn may_carry(&self, shown: Option<&str>, number: &str) -> bool {
        let shows = |shown: &str| self.caller_ids.is_empty() || self.caller_ids.iter().any(|id| id == shown);
        let serves =
            self.serves.is_empty() || self.serves.iter().any(|prefix| number.starts_with(prefix.as_str()));
        serves && shown.is_none_or(shows)
    }

    /// Returns the call to `to` as this trunk wants it. `shown`: the number to show; else what the trunk has for that.
    pub fn invite(
        &self,
        shown: Option<&str>,
        to: Uri,
        next_hop: SocketAddr,
        media: LocalMedia,
    ) -> InviteRequest {
        let shown = shown.or(self.caller_id.as_deref()).or(self.user.as_deref());
        let mut invite = InviteRequest::new(shown.unwrap_or("anonymous"), to, media);
        invite.next_hop = Some(next_hop);
        invite.account = Some(self.account.clone());
        self.identity.apply(&mut invite, &self.domain());
        invite
    }

    /// Returns what is offered in a call on this trunk, with a fresh key.
    pub fn media(&self, local: SocketAddr) -> LocalMedia {
        let mut media = LocalMedia::new(local);
        media.codecs.clone_from(&self.codecs);
        media.secure = match self.encryption {
            Encryption::Off => None,
            Encryption::Optional => Some(Secure::new(fresh_key(), false)),
            Encryption::Required => Some(Secure::new(fresh_key(), true)),
        };
        media
    }

    /// Returns the request that keeps our binding there; `None` for a trunk that knows us by address.
    ///
    /// # Errors
    /// What is wrong with the domain.
    pub fn registration(&self, number: u16, next_hop: Hop) -> Option<Result<RegisterRequest, String>> {
        let expires = self.register?;
        let domain = self.domain();
        let uris = Uri::sip(self.user.as_deref().unwrap_or_default(), &domain)
            .and_then(|aor| Ok((aor, Uri::sip("", &domain)?)));
        Some(uris.map_err(|error| format!("`{domain}` is no domain: {error}")).map(|(aor, registrar)| {
            let (next_hop, account) = (Some(next_hop), Some(self.account.clone()));
            RegisterRequest { aor, registrar, next_hop, account, trunk: number, expires }
        }))
    }
}

/// What holds for all trunks of a box.
#[derive(Clone, Debug)]
pub struct TrunksConfig {
    /// User part of our Contact.
    pub contact_user: String,
    /// What we call ourselves.
    pub user_agent: String,
    /// Calls at a time on one bind address.
    pub max_calls: usize,
    /// Ports for RTP.
    pub rtp_ports: RangeInclusive<u16>,
    /// After so long without a word from a trunk, the next one is tried.
    pub first_word: Duration,
    /// How long a call may wait for its turn when the trunks take no more calls this second.
    pub turn_within: Duration,
    /// Who keeps what is signalled.
    pub tracer: Option<Tracer>,
    /// Where telephones of the office register, if they do.
    pub phones: Option<PhonesSetup>,
}

impl Default for TrunksConfig {
    /// 4 s for the first word, 10 s for a turn.
    fn default() -> Self {
        Self {
            contact_user: "trunkline".to_owned(),
            user_agent: "Trunkline".to_owned(),
            max_calls: 1_000,
            rtp_ports: 40_000..=40_199,
            first_word: Duration::from_secs(4),
            turn_within: Duration::from_secs(10),
            tracer: None,
            phones: None,
        }
    }
}

/// How one trunk is.
#[derive(Clone, Debug, PartialEq)]
pub struct TrunkStatus {
    /// Its name.
    pub name: String,
    /// Whether it takes calls, as far as is known.
    pub up: bool,
    /// Whether our registration holds; `None` where there is none to hold.
    pub registered: Option<bool>,
    /// Calls on it now.
    pub calls: u32,
    /// What was wrong last, for people; empty when nothing is.
    pub trouble: String,
    /// New calls a second that it takes.
    pub calls_per_second: f64,
    /// Calls that it carries at once.
    pub channels: u32,
    /// Numbers that it may show; empty for any.
    pub caller_ids: Vec<String>,
    /// What the numbers begin with that it may call; empty for all.
    pub serves: Vec<String>,
}

/// All trunks of a box. Clones share them.
#[derive(Clone, Debug)]
pub struct Trunks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: TrunksConfig,
    trunks: Vec<Trunk>,
    agents: Vec<SipHandle>,
    /// The telephones of the office, as if they were behind a trunk.
    phones: Option<Trunk>,
    pool: Mutex<TrunkPool>,
    ports: HashMap<IpAddr, RtpPorts>,
    /// Woken when the status of a trunk changed.
    changed: Notify,
    /// The legs of calls that may be moved.
    legs: Legs,
    /// Who takes calls that come in.
    taker: Mutex<Option<mpsc::Sender<IncomingCall>>>,
}

#[derive(Debug)]
struct Trunk {
    setup: TrunkSetup,
    /// Which of the agents speaks with it.
    agent: usize,
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// Where it is, once its name was looked up.
    addr: Option<SocketAddr>,
    registered: Option<bool>,
    trouble: String,
}

impl Trunks {
    /// Binds the sockets, registers, and begins to ping.
    ///
    /// # Errors
    /// When there is no trunk, or an address cannot be bound; the error names it.
    pub async fn start(config: TrunksConfig, setups: Vec<TrunkSetup>) -> io::Result<Self> {
        if setups.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no trunk"));
        }
        let (told, news) = mpsc::unbounded_channel();
        let mut agents: Vec<SipHandle> = Vec::new();
        let mut binds: Vec<SocketAddr> = Vec::new();
        let mut trunks = Vec::new();
        let mut ports = HashMap::new();
        for setup in &setups {
            let known = binds.iter().position(|bind| *bind == setup.bind && bind.port() != 0);
            let agent = match known {
                Some(agent) => agent,
                None => {
                    let tcp = setups
                        .iter()
                        .any(|other| other.bind == setup.bind && other.transport == Transport::Tcp);
                    let agent = start_agent(&config, setup, tcp, agents.len(), told.clone()).await?;
                    agents.push(agent);
                    binds.push(setup.bind);
                    agents.len() - 1
                }
            };
            let ip = setup.bind.ip();
            ports.entry(ip).or_insert_with(|| RtpPorts::new(ip, config.rtp_ports.clone()));
            let registered = setup.register.map(|_| false);
            let state = Mutex::new(State { registered, ..State::default() });
            trunks.push(Trunk { setup: setup.clone(), agent, state });
        }
        let mut phones = None;
        if let Some(setup) = &config.phones {
            let (agent, trunk, rtp) = phones::start(&config, setup, agents.len(), told.clone()).await?;
            ports.entry(trunk.setup.bind.ip()).or_insert(rtp);
            agents.push(agent);
            phones = Some(trunk);
        }
        let mut pool = TrunkPool::new(setups.iter().map(|setup| setup.pool.clone()));
        for (id, trunk) in ids().zip(&trunks) {
            pool.handle_registration(id, trunk.setup.register.is_none());
        }
        let shared = Arc::new(Shared {
            config,
            trunks,
            agents,
            phones,
            pool: Mutex::new(pool),
            ports,
            changed: Notify::new(),
            legs: Legs::default(),
            taker: Mutex::default(),
        });
        keeper::start(&shared, news);
        Ok(Self { shared })
    }

    /// Makes a call. It is hung up when the handle is dropped.
    pub fn place(&self, request: CallRequest) -> PlacedCall {
        call::place(Arc::clone(&self.shared), request, None)
    }

    /// As [`Self::place`], kept by the tracer under that name.
    pub fn place_as(&self, request: CallRequest, trace: TraceName) -> PlacedCall {
        call::place(Arc::clone(&self.shared), request, Some(trace))
    }

    /// Returns who keeps what is signalled.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.shared.config.tracer.as_ref()
    }

    /// Returns the calls that come in from now on. Before the first receiver they are refused with 404, and once the
    /// receiver is dropped with 503. A later receiver takes the place of an earlier one.
    pub fn incoming(&self) -> mpsc::Receiver<IncomingCall> {
        let (taker, calls) = arrival::takers();
        *self.shared.taker.lock().unwrap_or_else(PoisonError::into_inner) = Some(taker);
        calls
    }

    /// Returns how each trunk is, in the order of their settings.
    pub fn status(&self) -> Vec<TrunkStatus> {
        let now = Instant::now();
        let pool = self.shared.pool();
        ids()
            .zip(&self.shared.trunks)
            .map(|(id, trunk)| {
                let state = trunk.state();
                TrunkStatus {
                    name: trunk.setup.name.clone(),
                    up: state.addr.is_some() && pool.is_well(now, id),
                    registered: state.registered,
                    calls: pool.calls(id),
                    trouble: state.trouble.clone(),
                    calls_per_second: trunk.setup.pool.calls_per_second,
                    channels: trunk.setup.pool.channels,
                    caller_ids: trunk.setup.caller_ids.clone(),
                    serves: trunk.setup.serves.clone(),
                }
            })
            .collect()
    }

    /// Waits until the status of some trunk changed.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Returns the address that the first trunk reaches us at.
    pub fn local(&self) -> SocketAddr {
        // `start` refuses to go without a trunk, and makes an agent for each.
        self.shared.agents[self.shared.trunks[0].agent].local()
    }

    /// Returns the settings of a trunk.
    pub fn setup(&self, name: &str) -> Option<&TrunkSetup> {
        self.shared.trunks.iter().map(|trunk| &trunk.setup).find(|setup| setup.name == name)
    }

    /// Returns the settings of the trunk that stands first.
    pub fn first(&self) -> Option<&TrunkSetup> {
        self.shared.trunks.first().map(|trunk| &trunk.setup)
    }

    /// Returns how many calls could begin now.
    pub fn free_channels(&self) -> u32 {
        self.shared.pool().free_channels(Instant::now())
    }

    /// Returns how much is going on, all agents together.
    pub async fn gauges(&self) -> Gauges {
        let mut sum = Gauges::default();
        for agent in &self.shared.agents {
            let one = agent.gauges().await;
            sum.calls += one.calls;
            sum.lingering_calls += one.lingering_calls;
            sum.client_transactions += one.client_transactions;
            sum.server_transactions += one.server_transactions;
            sum.strangers += one.strangers;
        }
        sum
    }

    /// Takes every registration back; what says so is on its way when this returns.
    pub async fn leave(&self) {
        for agent in &self.shared.agents {
            agent.send(Command::Unregister);
            // An answer to a later command proves that the earlier one was carried out.
            agent.gauges().await;
        }
    }
}

async fn start_agent(
    config: &TrunksConfig,
    setup: &TrunkSetup,
    tcp: bool,
    number: usize,
    told: mpsc::UnboundedSender<keeper::Told>,
) -> io::Result<SipHandle> {
    let sender = forward(number, told);
    let configure = |local| {
        let mut ua = UaConfig::new(local);
        ua.contact_user.clone_from(&config.contact_user);
        ua.user_agent.clone_from(&config.user_agent);
        ua.max_calls = config.max_calls;
        ua
    };
    let transports = SipTransports { tcp, ..SipTransports::default() };
    let started = start_with(setup.bind, transports, configure, sender).await;
    if let (Ok(agent), Some(tracer)) = (&started, &config.tracer) {
        agent.send(Command::Trace(tracer.clone()));
    }
    started.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("trunk `{}`: {} cannot be bound: {error}", setup.name, setup.bind),
        )
    })
}

/// Puts an agent's number to what it tells.
fn forward(number: usize, told: mpsc::UnboundedSender<keeper::Told>) -> mpsc::UnboundedSender<SipEvent> {
    let (sender, mut events) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if told.send((number, event)).is_err() {
                return;
            }
        }
    });
    sender
}

/// All names that trunks can have, in the order of their settings.
fn ids() -> impl Iterator<Item = TrunkId> {
    (0..=u16::MAX).map(TrunkId)
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, TrunkPool> {
        // The pool is counters: a panic elsewhere leaves nothing half done in it.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taker(&self) -> Option<mpsc::Sender<IncomingCall>> {
        self.taker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn trunk(&self, id: TrunkId) -> Option<&Trunk> {
        self.trunks.get(usize::from(id.0))
    }

    fn agent(&self, trunk: &Trunk) -> &SipHandle {
        &self.agents[trunk.agent]
    }

    /// Notes something about a trunk, and wakes whoever waits for changes if it is new.
    fn note(&self, trunk: &Trunk, change: impl FnOnce(&mut State)) {
        let mut state = trunk.state();
        let before = state.clone();
        change(&mut state);
        if *state != before {
            self.changed.notify_one();
        }
    }

    /// Runs `change` on the pool, and wakes whoever waits for changes if a trunk's health is another one now.
    fn with_pool<T>(&self, id: TrunkId, change: impl FnOnce(&mut TrunkPool) -> T) -> T {
        let mut pool = self.pool();
        let before = pool.health(id).map(is_up);
        let result = change(&mut pool);
        if pool.health(id).map(is_up) != before {
            self.changed.notify_one();
        }
        result
    }

    /// Takes in that a trunk spoke.
    fn alive(&self, id: TrunkId) {
        self.with_pool(id, |pool| pool.handle_alive(id));
        if let Some(trunk) = self.trunk(id)
            && trunk.state().registered != Some(false)
        {
            self.note(trunk, |state| state.trouble.clear());
        }
    }

    fn bind_rtp(&self, ip: IpAddr) -> io::Result<RtpSockets> {
        match self.ports.get(&ip) {
            Some(ports) => ports.bind(),
            None => Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no ports for this address")),
        }
    }
}

fn is_up(health: Health) -> bool {
    match health {
        Health::Up => true,
        Health::Down | Health::Resting { .. } => false,
    }
}

impl Trunk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hop(&self) -> Option<Hop> {
        self.state().addr.map(|addr| Hop::new(self.setup.transport, addr))
    }
}

fn fresh_key() -> [u8; 30] {
    let mut key = [0; 30];
    StdRng::from_seed(rand::random()).fill_bytes(&mut key);
    key
}
