//! What an agent is told: its own place, its trunk, whom it answers, and what to call.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::digest::{Algorithm, Credentials};
use crate::message::Uri;
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
    /// Who may call us. `None`: nobody; a stranger's request is refused, and beyond a rate ignored.
    pub allowed_peers: Option<Vec<IpAddr>>,
    /// Asks incoming INVITEs for a password.
    pub inbound_auth: Option<InboundAuth>,
    /// Calls at a time, both ways together.
    pub max_calls: usize,
    /// The protocol's base intervals.
    pub timers: Timers,
    /// How long an incoming call rings before it is turned away with 480.
    pub incoming_ring_limit: Duration,
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
            allowed_peers: None,
            inbound_auth: None,
            max_calls: 1_000,
            timers: Timers::default(),
            incoming_ring_limit: Duration::from_secs(180),
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
    /// Where to send it; else the trunk, else the literal address in `to`.
    pub next_hop: Option<SocketAddr>,
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
            to,
            next_hop: None,
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
    pub next_hop: Option<SocketAddr>,
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
    /// No agreement on media; the call was turned away with 488.
    #[error("no agreement on media")]
    Sdp(#[from] SdpError),
}
