//! What an agent is told: its own place, its trunk, whom it answers, and what to call.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::registrar::RegistrarConfig;
use super::transfer::Replaces;
use crate::digest::{Algorithm, Credentials};
use crate::message::{Hop, Transport, Uri};
use crate::sdp::{LocalMedia, SdpError};
use crate::transaction::Timers;

/// Settings of a [`super::UserAgent`].
#[derive(Clone, Debug)]
pub struct UaConfig {
    /// The address others reach our socket at; it stands in Via and Contact, so not the wildcard.
    pub local: SocketAddr,
    /// User part of our Contact.
    pub contact_user: String,
    /// Host of our From; without one the trunk's address, else ours.
    pub domain: Option<String>,
    /// What we call ourselves in User-Agent and Server.
    pub user_agent: String,
    /// What answers a 401 or 407.
    pub credentials: Option<Credentials>,
    /// Where requests go that have no better address.
    pub trunk: Option<SocketAddr>,
    /// Over what the trunk is reached, and everything that does not say otherwise.
    pub transport: Transport,
    /// The address of our TLS listener, if it is not [`Self::local`].
    pub local_tls: Option<SocketAddr>,
    /// Who may call us. `None`: nobody; a stranger's request is refused, and beyond a rate ignored.
    pub allowed_peers: Option<Vec<IpAddr>>,
    /// Asks incoming INVITEs for a password.
    pub inbound_auth: Option<InboundAuth>,
    /// Takes registrations of telephones; without it they are refused as everything is that nobody asked for.
    pub registrar: Option<RegistrarConfig>,
    /// Calls at a time, both ways together.
    pub max_calls: usize,
    /// The protocol's base intervals.
    pub timers: Timers,
    /// How long an incoming call rings before it is turned away with 480.
    pub incoming_ring_limit: Duration,
    /// Whether provisional answers are acknowledged (RFC 3262).
    pub reliable: Reliability,
    /// Session timers (RFC 4028); `None` switches them off.
    pub session_timers: Option<SessionTimers>,
    /// Takes REFER within a call and tells it as [`super::CallNews::TransferAsked`]; otherwise it is declined,
    /// because whoever may send us elsewhere may make us pay for it.
    pub accept_refer: bool,
    /// Whose INVITEs may take the place of a call (RFC 3891), and then only of one that goes through them. Nobody's
    /// by default, because whoever may do that gets a call that somebody else began.
    pub may_replace: Vec<IpAddr>,
}

/// Whether provisional answers are acknowledged (RFC 3262).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reliability {
    /// Not unless they demand it of us.
    Never,
    /// Where both sides know it: every answer with a session description.
    #[default]
    Supported,
    /// Demanded of the other side in our INVITEs, and used for every answer of ours that they can take.
    Required,
}

/// How a dead call is noticed (RFC 4028): one side refreshes it, or it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimers {
    /// What we ask for.
    pub interval: Duration,
    /// The shortest that we accept; at least 90 s by the standard.
    pub shortest: Duration,
}

impl Default for SessionTimers {
    /// Half an hour, and no less than 90 s.
    fn default() -> Self {
        Self { interval: Duration::from_secs(1_800), shortest: Duration::from_secs(90) }
    }
}

/// With whom and as whom: what a trunk needs that differs from the agent's own settings.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// What answers a 401 or 407 there.
    pub credentials: Option<Credentials>,
    /// Host of our From there.
    pub domain: Option<String>,
}

impl UaConfig {
    /// An agent at `local` without trunk, password or callers.
    pub fn new(local: SocketAddr) -> Self {
        Self {
            local,
            contact_user: "trunkline".to_owned(),
            domain: None,
            user_agent: "Trunkline".to_owned(),
            credentials: None,
            trunk: None,
            transport: Transport::Udp,
            local_tls: None,
            allowed_peers: None,
            inbound_auth: None,
            registrar: None,
            max_calls: 1_000,
            timers: Timers::default(),
            incoming_ring_limit: Duration::from_secs(180),
            reliable: Reliability::Supported,
            session_timers: Some(SessionTimers::default()),
            accept_refer: false,
            may_replace: Vec::new(),
        }
    }

    /// Returns where we are reached over `transport`.
    pub fn local_for(&self, transport: Transport) -> SocketAddr {
        match transport {
            Transport::Udp | Transport::Tcp => self.local,
            Transport::Tls => self.local_tls.unwrap_or(self.local),
        }
    }
}

/// How incoming INVITEs prove who sent them.
#[derive(Clone, Debug)]
pub struct InboundAuth {
    /// The realm of the challenge.
    pub realm: String,
    /// Who is known.
    pub users: Vec<Credentials>,
    /// What is offered, best first.
    pub algorithms: Vec<Algorithm>,
}

/// A call to make.
#[derive(Clone, Debug)]
pub struct InviteRequest {
    /// The number or name we call from.
    pub from_user: String,
    /// The name shown with it.
    pub from_display: Option<String>,
    /// Whom to call.
    pub to: Uri,
    /// Host of our From, if it differs from what the account or the agent says.
    pub from_host: Option<String>,
    /// Where to send it; else the trunk, else the literal address in `to`.
    pub next_hop: Option<SocketAddr>,
    /// Over what; else as `to` says, else as the agent's settings say.
    pub transport: Option<Transport>,
    /// As whom; else as the agent's settings say.
    pub account: Option<Account>,
    /// The call of theirs that this one takes the place of.
    pub replaces: Option<Replaces>,
    /// What we offer.
    pub media: LocalMedia,
    /// How long to let it ring.
    pub ring_timeout: Duration,
    /// Further headers, such as P-Asserted-Identity. Those that the protocol itself writes are left out.
    pub extra_headers: Vec<(String, String)>,
}

impl InviteRequest {
    /// A call that may ring for 60 s.
    pub fn new(from_user: impl Into<String>, to: Uri, media: LocalMedia) -> Self {
        Self {
            from_user: from_user.into(),
            from_display: None,
            from_host: None,
            to,
            next_hop: None,
            transport: None,
            account: None,
            replaces: None,
            media,
            ring_timeout: Duration::from_secs(60),
            extra_headers: Vec::new(),
        }
    }
}

/// A binding to keep at a registrar.
#[derive(Clone, Debug)]
pub struct RegisterRequest {
    /// The address to bind, such as `sip:1001@pbx.example.com`.
    pub aor: Uri,
    /// Whom to ask, such as `sip:pbx.example.com`.
    pub registrar: Uri,
    /// Where to send it; else the trunk, else the literal address in `registrar`.
    pub next_hop: Option<Hop>,
    /// As whom; else as the agent's settings say.
    pub account: Option<Account>,
    /// Tells this binding from others; a binding with the same number is replaced.
    pub trunk: u16,
    /// For how long to ask; it is refreshed in time.
    pub expires: Duration,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such call, or not any more.
    #[error("there is no such call")]
    UnknownCall,
    /// The call is not in a state for it.
    #[error("the call is not in a state for this")]
    WrongState,
    /// As many calls as may be are up.
    #[error("as many calls as allowed are up already")]
    TooManyCalls,
    /// Neither a trunk nor a literal address says where to send it.
    #[error("nothing says where to send the request")]
    NoRoute,
    /// No telephone has such a key.
    #[error("there is no such key")]
    NoSuchKey,
    /// No agreement on media; the call was turned away with 488.
    #[error("no agreement on media")]
    Sdp(#[from] SdpError),
}
