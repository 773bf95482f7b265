//! The task that owns the signalling socket and the signalling connections.

mod streams;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use trunkline_sip::message::{Hop, Transport, Uri};
use trunkline_sip::sdp::{LocalMedia, MediaParams};
use trunkline_sip::{
    Binding, CallNews, CommandError, DialogKey, Gauges, HangupReason, InviteRequest, Output, RegisterRequest,
    SipEvent, UaConfig, UserAgent,
};
use trunkline_trace::{Tapped, Tracer, Way};

use streams::{News, Streams};
pub use streams::{PeerTls, TlsSettings};

/// A key is held for so long.
const KEY_MS: u16 = 160;
const IDLE: Duration = Duration::from_secs(60);

/// What the owner of a call asks of the line.
#[derive(Debug)]
pub enum Command {
    /// Dials; the call's events go to `events` from then on.
    Invite {
        /// Whom and how.
        request: Box<InviteRequest>,
        /// Where news of this call go.
        events: mpsc::UnboundedSender<SipEvent>,
        /// The call's key, or why it cannot be dialled.
        answer: oneshot::Sender<Result<DialogKey, CommandError>>,
    },
    /// Takes an incoming call; its events go to `events` from then on.
    Accept {
        /// Which.
        key: DialogKey,
        /// Our media.
        media: LocalMedia,
        /// Where news of this call go.
        events: mpsc::UnboundedSender<SipEvent>,
        /// The media agreed on; `None` when they come with [`SipEvent::Answered`].
        answer: oneshot::Sender<Result<Option<MediaParams>, CommandError>>,
    },
    /// Tells the caller that we ring.
    Ring(DialogKey),
    /// Refuses an incoming call with this status.
    Reject(DialogKey, u16),
    /// As [`Self::Reject`], and says when it is worth another try.
    RejectFor {
        /// Which.
        key: DialogKey,
        /// The status.
        code: u16,
        /// After how long.
        retry_after: Option<Duration>,
    },
    /// Has the events of an incoming call go to `events` while it rings; they end at once if it does not any more.
    Own {
        /// Which.
        key: DialogKey,
        /// Where news of this call go.
        events: mpsc::UnboundedSender<SipEvent>,
    },
    /// Hangs up, in whatever state the call is.
    HangUp(DialogKey, Option<HangupReason>),
    /// Asks how much is going on.
    Gauges(oneshot::Sender<Gauges>),
    /// Rings with early media: the answer to the caller's offer goes out before the call is accepted.
    RingEarly {
        /// Which.
        key: DialogKey,
        /// Our media.
        media: LocalMedia,
        /// What is agreed for early media.
        answer: oneshot::Sender<Result<Option<MediaParams>, CommandError>>,
    },
    /// Wants to hear of a call what only some owners act on: transfers, refused changes.
    Watch(DialogKey, mpsc::UnboundedSender<CallNews>),
    /// Puts the other side on hold, or ends that.
    Hold(DialogKey, bool),
    /// Offers other media in a call that is up.
    ChangeMedia(DialogKey, LocalMedia),
    /// Asks the other side to call somebody else; with a second call, to take our end of that one.
    Refer {
        /// The call to hand over.
        key: DialogKey,
        /// Whom to call.
        target: Uri,
        /// The call to take the place of.
        replaces: Option<DialogKey>,
        /// Whether it could be asked.
        answer: oneshot::Sender<Result<(), CommandError>>,
    },
    /// Presses a key by INFO.
    Digit(DialogKey, char),
    /// Tells the other side how the call goes that it asked for.
    ReportTransfer(DialogKey, u16),
    /// Makes a binding and keeps it; how it goes is told to whoever gets incoming calls.
    Register(Box<RegisterRequest>),
    /// Takes all bindings back.
    Unregister,
    /// Asks where the telephones of a user are that registered here.
    Bindings {
        /// The user.
        user: String,
        /// Where they are, the preferred one first.
        answer: oneshot::Sender<Vec<Binding>>,
    },
    /// Asks an address whether it is alive.
    Ping(Hop),
    /// Hands every message from now on to a tracer.
    Trace(Tracer),
    /// Says which call of ours a call is, for its trace.
    Name {
        /// Which.
        key: DialogKey,
        /// Of which call it is a leg.
        trace: TraceName,
        /// The trunk that carries it.
        trunk: String,
    },
    /// Makes an address known, such as that of a trunk whose name was looked up.
    Peer {
        /// Which.
        addr: SocketAddr,
        /// Whether it may call us.
        may_call: bool,
        /// Whether its calls may take the place of those that go through it.
        may_replace: bool,
        /// How TLS is done with it; `None` leaves it as it was.
        tls: Option<PeerTls>,
    },
}

/// Under what a leg of a call is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceName {
    /// The call's id.
    pub call: String,
    /// What the leg is for: `call`, `person` for a hand-over, or `supervisor`.
    pub leg: &'static str,
}

/// Where signalling is heard beside UDP.
#[derive(Clone, Default)]
pub struct SipTransports {
    /// Listens for TCP on the address of the UDP socket.
    pub tcp: bool,
    /// How TLS is done.
    pub tls: TlsSettings,
}

/// The way to the signalling task. When the last one is dropped the task ends.
#[derive(Clone, Debug)]
pub struct SipHandle {
    commands: mpsc::UnboundedSender<Command>,
    local: SocketAddr,
    local_tls: Option<SocketAddr>,
}

impl SipHandle {
    /// Returns the address that peers reach us at.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Returns the address that peers reach us at over TLS, if we listen there.
    pub fn local_tls(&self) -> Option<SocketAddr> {
        self.local_tls
    }

    /// Sends a command; false when the task has ended.
    pub fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// Returns how much is going on, or zeros when the task has ended.
    pub async fn gauges(&self) -> Gauges {
        let (answer, gauges) = oneshot::channel();
        self.send(Command::Gauges(answer));
        gauges.await.unwrap_or_default()
    }
}

/// Binds `bind` for UDP and starts the task; connections of our own can be made, none is taken.
///
/// `configure` gets the bound address; incoming calls and events that belong to no call go to `incoming`.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(
    bind: SocketAddr,
    configure: impl FnOnce(SocketAddr) -> UaConfig,
    incoming: mpsc::UnboundedSender<SipEvent>,
) -> io::Result<SipHandle> {
    start_with(bind, SipTransports::default(), configure, incoming).await
}

/// As [`start`], with TCP and TLS as `transports` says.
///
/// # Errors
/// When an address cannot be bound.
pub async fn start_with(
    bind: SocketAddr,
    transports: SipTransports,
    configure: impl FnOnce(SocketAddr) -> UaConfig,
    incoming: mpsc::UnboundedSender<SipEvent>,
) -> io::Result<SipHandle> {
    let (socket, listener) = bind_both(bind, transports.tcp).await?;
    // Without this a trunk that is not there is noticed only when the transaction times out.
    if bind.is_ipv4()
        && let Err(error) = setsockopt(&socket.as_fd(), sockopt::Ipv4RecvErr, &true)
    {
        debug!(%error, "No ICMP errors on the SIP socket");
    }
    let local = socket.local_addr()?;
    let (accepted, connections) = mpsc::channel(16);
    if let Some(listener) = listener {
        tokio::spawn(streams::listen(listener, None, accepted.clone()));
    }
    let mut config = configure(local);
    if let Some((bind, server)) = &transports.tls.server {
        let listener = TcpListener::bind(*bind).await?;
        config.local_tls = config.local_tls.or(Some(listener.local_addr()?));
        let acceptor = TlsAcceptor::from(std::sync::Arc::clone(server));
        tokio::spawn(streams::listen(listener, Some(acceptor), accepted.clone()));
    }
    let local_tls = config.local_tls;
    let agent = UserAgent::new(config, rand::random());
    let (commands, inbox) = mpsc::unbounded_channel();
    let (streams, news) = Streams::new(local.ip(), transports.tls);
    let task = Task {
        socket,
        streams,
        news,
        connections,
        _accepted: accepted,
        agent,
        inbox,
        incoming,
        calls: HashMap::new(),
        watchers: HashMap::new(),
        last_sent: None,
        local,
        tracer: None,
    };
    tokio::spawn(task.run());
    Ok(SipHandle { commands, local, local_tls })
}

/// How often another port is asked for when the one that the system gave for UDP is taken for TCP.
const PORTS_TRIED: usize = 16;

/// Binds UDP and, where `tcp` says so, TCP at the same port; port 0 is one that is free for both.
async fn bind_both(at: SocketAddr, tcp: bool) -> io::Result<(UdpSocket, Option<TcpListener>)> {
    let mut left = if at.port() == 0 { PORTS_TRIED } else { 1 };
    loop {
        let socket = UdpSocket::bind(at).await?;
        if !tcp {
            return Ok((socket, None));
        }
        left -= 1;
        match TcpListener::bind(socket.local_addr()?).await {
            Ok(listener) => return Ok((socket, Some(listener))),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse || left == 0 => return Err(error),
            Err(_taken) => debug!("Taken for TCP, another port"),
        }
    }
}

type Accepted = (TcpStream, SocketAddr, Option<TlsAcceptor>);

struct Task {
    socket: UdpSocket,
    streams: Streams,
    news: mpsc::UnboundedReceiver<News>,
    connections: mpsc::Receiver<Accepted>,
    /// Keeps `connections` open where nobody listens.
    _accepted: mpsc::Sender<Accepted>,
    agent: UserAgent,
    inbox: mpsc::UnboundedReceiver<Command>,
    incoming: mpsc::UnboundedSender<SipEvent>,
    calls: HashMap<DialogKey, mpsc::UnboundedSender<SipEvent>>,
    watchers: HashMap<DialogKey, mpsc::UnboundedSender<CallNews>>,
    last_sent: Option<SocketAddr>,
    local: SocketAddr,
    tracer: Option<Tracer>,
}

impl Task {
    async fn run(mut self) {
        let mut buffer = vec![0; 65_536];
        loop {
            self.drain().await;
            let due = self.agent.poll_timeout().map_or_else(|| Instant::now() + IDLE, |(due, _why)| due);
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => self.agent.handle_timeout(Instant::now()),
                read = self.socket.recv_from(&mut buffer) => match read {
                    Ok((n, from)) => {
                        self.tap(Way::In, Hop::new(Transport::Udp, from), || Bytes::copy_from_slice(&buffer[..n]));
                        self.agent.handle_datagram(Instant::now(), from, &buffer[..n]);
                    }
                    Err(error) => self.on_socket_error(&error),
                },
                Some(news) = self.news.recv() => self.on_stream(news),
                Some((stream, peer, acceptor)) = self.connections.recv() => {
                    self.streams.accept(stream, peer, acceptor);
                }
                command = self.inbox.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
            }
        }
    }

    fn tap(&self, way: Way, remote: Hop, bytes: impl FnOnce() -> Bytes) {
        if let Some(tracer) = &self.tracer {
            let Hop { transport, addr } = remote;
            tracer.tap(Tapped { way, transport, local: self.local, remote: addr, bytes: bytes() });
        }
    }

    /// An ICMP error comes back on whatever call is made next; it belongs to what was sent last.
    fn on_socket_error(&mut self, error: &io::Error) {
        if let Some(to) = self.last_sent {
            self.agent.handle_send_error(Instant::now(), to, error.kind());
        }
    }

    fn on_stream(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Message { from, bytes } => {
                self.tap(Way::In, from, || bytes.clone());
                self.agent.handle_message(now, from, &bytes);
            }
            News::Closed { at, number, why } => {
                self.streams.remove(at, number);
                let why = why.unwrap_or_else(|| "the connection was closed".to_owned());
                debug!(%at, why, open = self.streams.len(), "Connection over: {why}");
                // What was sent on it and not answered will not be.
                self.agent.handle_transport_error(now, at, &why);
            }
        }
    }

    async fn drain(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Send { transport: transport @ (Transport::Tcp | Transport::Tls), to, bytes } => {
                    let to = Hop::new(transport, to);
                    self.tap(Way::Out, to, || bytes.clone());
                    if let Err(why) = self.streams.send(to, bytes) {
                        self.agent.handle_transport_error(Instant::now(), to, &why);
                    }
                }
                Output::Send { transport: Transport::Udp, to, bytes } => {
                    self.last_sent = Some(to);
                    self.tap(Way::Out, Hop::new(Transport::Udp, to), || bytes.clone());
                    if let Err(error) = self.socket.send_to(&bytes, to).await {
                        // The pending error of an earlier packet is reported here instead of sending.
                        self.agent.handle_send_error(Instant::now(), to, error.kind());
                    }
                }
                Output::Event(event) => self.deliver(event),
                Output::News { key, news } => {
                    let asked = matches!(news, CallNews::TransferAsked { .. });
                    let heard = self.watchers.get(&key).is_some_and(|watcher| watcher.send(news).is_ok());
                    if asked && !heard {
                        // Nobody will call whom they ask for, and they wait to be told.
                        let _ = self.agent.report_transfer(Instant::now(), key, 503);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, event: SipEvent) {
        let Some(key) = event.key() else {
            let _ = self.incoming.send(event);
            return;
        };
        let over = event.ends_call();
        if over {
            self.watchers.remove(&key);
        }
        match self.calls.get(&key) {
            Some(events) => {
                if events.send(event).is_err() && !over {
                    // Nobody owns this call any more; it must not stay up.
                    let _ = self.agent.bye(Instant::now(), key, None);
                }
                if over {
                    self.calls.remove(&key);
                }
            }
            None => {
                let _ = self.incoming.send(event);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Invite { request, events, answer } => {
                let result = self.agent.invite(now, *request);
                if let Ok(key) = &result {
                    self.calls.insert(*key, events);
                }
                let _ = answer.send(result);
            }
            Command::Accept { key, media, events, answer } => {
                let result = self.agent.accept(now, key, media);
                if result.is_ok() {
                    self.calls.insert(key, events);
                }
                let _ = answer.send(result);
            }
            Command::Ring(key) => {
                if let Err(error) = self.agent.ringing(now, key, None) {
                    debug!(%error, "Could not ring");
                }
            }
            Command::Reject(key, code) => {
                if let Err(error) = self.agent.reject(now, key, code) {
                    debug!(%error, "Could not reject");
                }
            }
            Command::RejectFor { key, code, retry_after } => {
                if let Err(error) = self.agent.reject_for(now, key, code, retry_after) {
                    debug!(%error, "Could not reject");
                }
            }
            Command::Own { key, events } => {
                if self.agent.is_offered(key) {
                    self.calls.insert(key, events);
                }
            }
            Command::HangUp(key, reason) => {
                if let Err(error) = self.agent.bye(now, key, reason) {
                    warn!(%error, "Could not hang up");
                    self.calls.remove(&key);
                }
            }
            Command::RingEarly { key, media, answer } => {
                let _ = answer.send(self.agent.ringing(now, key, Some(media)));
            }
            Command::Watch(key, watcher) => {
                self.watchers.insert(key, watcher);
            }
            Command::Hold(key, held) => {
                let done = if held { self.agent.hold(now, key) } else { self.agent.resume(now, key) };
                if let Err(error) = done {
                    debug!(%error, "Could not hold or resume");
                }
            }
            Command::ChangeMedia(key, media) => {
                if let Err(error) = self.agent.change_media(now, key, media) {
                    debug!(%error, "Could not change the media");
                }
            }
            Command::Refer { key, target, replaces, answer } => {
                let _ = answer.send(self.agent.refer(now, key, &target, replaces));
            }
            Command::Digit(key, digit) => {
                if let Err(error) = self.agent.send_digit(now, key, digit, KEY_MS) {
                    debug!(%error, "Could not press a key by INFO");
                }
            }
            Command::ReportTransfer(key, code) => {
                if let Err(error) = self.agent.report_transfer(now, key, code) {
                    debug!(%error, "Could not report a transfer");
                }
            }
            Command::Register(request) => {
                if let Err(error) = self.agent.register(now, *request) {
                    warn!(%error, "Could not register");
                }
            }
            Command::Unregister => self.agent.unregister(now),
            Command::Bindings { user, answer } => {
                let _ = answer.send(self.agent.bindings(now, &user));
            }
            Command::Ping(to) => self.agent.options_over(now, to),
            Command::Trace(tracer) => self.tracer = Some(tracer),
            Command::Name { key, trace, trunk } => {
                if let (Some(tracer), Some(call_id)) = (&self.tracer, self.agent.call_id(key)) {
                    tracer.name(call_id, &trace.call, trace.leg, &trunk);
                }
            }
            Command::Peer { addr, may_call, may_replace, tls } => {
                if may_call {
                    self.agent.allow_peer(addr.ip());
                }
                if may_replace {
                    self.agent.allow_replacing(addr.ip());
                }
                if let Some(tls) = tls {
                    self.streams.know(addr, tls);
                }
            }
            Command::Gauges(answer) => {
                let _ = answer.send(self.agent.gauges());
            }
        }
    }
}
