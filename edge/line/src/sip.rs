//! The task that owns the signalling socket.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};
use trunkline_sip::sdp::{LocalMedia, MediaParams};
use trunkline_sip::{
    CommandError, DialogKey, Gauges, HangupReason, InviteRequest, Output, SipEvent, UaConfig, UserAgent,
};

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
    /// Hangs up, in whatever state the call is.
    HangUp(DialogKey, Option<HangupReason>),
    /// Asks how much is going on.
    Gauges(oneshot::Sender<Gauges>),
}

/// The way to the signalling task. When the last one is dropped the task ends.
#[derive(Clone, Debug)]
pub struct SipHandle {
    commands: mpsc::UnboundedSender<Command>,
    local: SocketAddr,
}

impl SipHandle {
    /// Returns the address that peers reach us at.
    pub fn local(&self) -> SocketAddr {
        self.local
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

/// Binds `bind` and starts the task. `configure` gets the bound address; incoming calls and events
/// that belong to no call go to `incoming`.
///
/// # Errors
/// When the address cannot be bound.
pub async fn start(
    bind: SocketAddr,
    configure: impl FnOnce(SocketAddr) -> UaConfig,
    incoming: mpsc::UnboundedSender<SipEvent>,
) -> io::Result<SipHandle> {
    let socket = UdpSocket::bind(bind).await?;
    // Without this a trunk that is not there is noticed only when the transaction times out.
    if bind.is_ipv4()
        && let Err(error) = setsockopt(&socket.as_fd(), sockopt::Ipv4RecvErr, &true)
    {
        debug!(%error, "No ICMP errors on the SIP socket");
    }
    let local = socket.local_addr()?;
    let agent = UserAgent::new(configure(local), rand::random());
    let (commands, inbox) = mpsc::unbounded_channel();
    let task = Task { socket, agent, inbox, incoming, calls: HashMap::new(), last_sent: None };
    tokio::spawn(task.run());
    Ok(SipHandle { commands, local })
}

struct Task {
    socket: UdpSocket,
    agent: UserAgent,
    inbox: mpsc::UnboundedReceiver<Command>,
    incoming: mpsc::UnboundedSender<SipEvent>,
    calls: HashMap<DialogKey, mpsc::UnboundedSender<SipEvent>>,
    last_sent: Option<SocketAddr>,
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
                    Ok((n, from)) => self.agent.handle_datagram(Instant::now(), from, &buffer[..n]),
                    Err(error) => self.on_socket_error(&error),
                },
                command = self.inbox.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
            }
        }
    }

    /// An ICMP error comes back on whatever call is made next; it belongs to what was sent last.
    fn on_socket_error(&mut self, error: &io::Error) {
        if let Some(to) = self.last_sent {
            self.agent.handle_send_error(Instant::now(), to, error.kind());
        }
    }

    async fn drain(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Send { to, bytes } => {
                    self.last_sent = Some(to);
                    if let Err(error) = self.socket.send_to(&bytes, to).await {
                        // The pending error of an earlier packet is reported here instead of sending.
                        self.agent.handle_send_error(Instant::now(), to, error.kind());
                    }
                }
                Output::Event(event) => self.deliver(event),
            }
        }
    }

    fn deliver(&mut self, event: SipEvent) {
        let Some(key) = key_of(&event) else {
            let _ = self.incoming.send(event);
            return;
        };
        let over =
            matches!(event, SipEvent::Failed { .. } | SipEvent::PeerHungUp { .. } | SipEvent::Ended { .. });
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
            Command::HangUp(key, reason) => {
                if let Err(error) = self.agent.bye(now, key, reason) {
                    warn!(%error, "Could not hang up");
                    self.calls.remove(&key);
                }
            }
            Command::Gauges(answer) => {
                let _ = answer.send(self.agent.gauges());
            }
        }
    }
}

/// Returns the call that an event belongs to, if it belongs to one.
fn key_of(event: &SipEvent) -> Option<DialogKey> {
    match event {
        SipEvent::Incoming { key, .. }
        | SipEvent::Trying { key }
        | SipEvent::Ringing { key, .. }
        | SipEvent::Answered { key, .. }
        | SipEvent::MediaChanged { key, .. }
        | SipEvent::Digit { key, .. }
        | SipEvent::Failed { key, .. }
        | SipEvent::PeerHungUp { key, .. }
        | SipEvent::Ended { key } => Some(*key),
        SipEvent::Registered { .. }
        | SipEvent::RegistrationFailed { .. }
        | SipEvent::Unregistered
        | SipEvent::OptionsAnswered { .. }
        | SipEvent::OptionsUnanswered { .. } => None,
    }
}
