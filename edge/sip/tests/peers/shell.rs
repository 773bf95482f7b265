//! The smallest shell around the agent there is: one thread, one signalling socket, one stream of sound.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use trunkline_sip::digest::Credentials;
use trunkline_sip::message::{Message, Method, NameAddr, Response, Uri};
use trunkline_sip::sdp::{LocalMedia, Secure};
use trunkline_sip::{CallNews, DialogKey, InviteRequest, Output, SipEvent, UaConfig, UserAgent};

use crate::sound::Sound;

pub(crate) struct Shell {
    pub(crate) config: UaConfig,
    pub(crate) socket: UdpSocket,
    pub(crate) agent: UserAgent,
    pub(crate) unread: Vec<SipEvent>,
    pub(crate) news: Vec<CallNews>,
    /// The last 200 of ours to an INVITE.
    answer: Option<Response>,
    pub(crate) sound: Option<Sound>,
    /// Our key, if calls are encrypted.
    pub(crate) encrypted: Option<[u8; 30]>,
}

impl Shell {
    /// `peer`: the trunk to call, if any. Local callers are let in.
    pub(crate) fn new(peer: Option<SocketAddr>, password: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut config = UaConfig::new(socket.local_addr().unwrap());
        config.trunk = peer;
        config.allowed_peers = Some(vec!["127.0.0.1".parse().unwrap()]);
        config.credentials = Some(Credentials::new("branch", password));
        Self {
            agent: UserAgent::new(config.clone(), [5; 32]),
            config,
            socket,
            unread: Vec::new(),
            news: Vec::new(),
            answer: None,
            sound: None,
            encrypted: None,
        }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn media(&self) -> LocalMedia {
        let addr = self.sound.as_ref().map_or("127.0.0.1:40000".parse().unwrap(), Sound::local);
        let secure = self.encrypted.map(|key| Secure::new(key, true));
        LocalMedia { secure, ..LocalMedia::new(addr) }
    }

    pub(crate) fn call(&mut self, peer: SocketAddr, ring: Duration) -> DialogKey {
        self.call_user("1001", peer, ring)
    }

    pub(crate) fn call_user(&mut self, user: &str, peer: SocketAddr, ring: Duration) -> DialogKey {
        let mut request = InviteRequest::new("4000", Uri::at(user, peer), self.media());
        request.ring_timeout = ring;
        self.agent.invite(Instant::now(), request).unwrap()
    }

    /// Returns how the call that we accepted last is named: its Call-ID, our tag, and theirs.
    pub(crate) fn dialog(&self) -> (String, String, String) {
        let headers = &self.answer.as_ref().unwrap().headers;
        let tag = |end: Option<NameAddr>| end.unwrap().tag().unwrap();
        (headers.call_id().unwrap().to_owned(), tag(headers.to()), tag(headers.from()))
    }

    fn flush(&mut self) {
        while let Some(output) = self.agent.poll_output() {
            match output {
                Output::Send { to, bytes, .. } => {
                    if let Ok(Message::Response(response)) = Message::parse(&bytes)
                        && response.code == 200
                        && response.headers.cseq().is_some_and(|cseq| cseq.method == Method::Invite)
                    {
                        self.answer = Some(response);
                    }
                    if let Err(error) = self.socket.send_to(&bytes, to) {
                        self.agent.handle_send_error(Instant::now(), to, error.kind());
                    }
                }
                Output::Event(event) => self.unread.push(event),
                Output::News { news, .. } => self.news.push(news),
            }
        }
    }

    /// Moves bytes and time once, for at most `longest`.
    pub(crate) fn turn(&mut self, longest: Duration) {
        self.flush();
        let due = self.agent.poll_timeout().map(|(due, _)| due.saturating_duration_since(Instant::now()));
        let longest = if self.sound.is_some() { longest.min(Duration::from_millis(4)) } else { longest };
        let wait = due.unwrap_or(longest).min(longest).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = [0; 65_535];
        if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            self.agent.handle_datagram(Instant::now(), from, &buffer[..length]);
        }
        self.agent.handle_timeout(Instant::now());
        self.flush();
        if let Some(sound) = &mut self.sound {
            sound.turn(Instant::now());
        }
    }

    /// Lets time run.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(Duration::from_millis(10));
        }
    }

    /// Lets time run until `wanted` likes an event, and takes that event out.
    pub(crate) fn until<T>(&mut self, wanted: impl Fn(&SipEvent) -> Option<T>) -> T {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.unread.iter().position(|event| wanted(event).is_some()) {
                let event = self.unread.remove(at);
                return wanted(&event).unwrap();
            }
            assert!(Instant::now() < limit, "never came; still unread: {:#?}", self.unread);
            self.turn(Duration::from_millis(50));
        }
    }

    /// Lets time run until `wanted` likes news of a call.
    pub(crate) fn until_news(&mut self, wanted: impl Fn(&CallNews) -> bool) -> CallNews {
        let limit = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.news.iter().position(&wanted) {
                return self.news.remove(at);
            }
            assert!(Instant::now() < limit, "never came; so far {:#?} and {:#?}", self.news, self.unread);
            self.turn(Duration::from_millis(50));
        }
    }

    /// Serves until the peer has ended; it must be content.
    pub(crate) fn serve_until_done(&mut self, peer: &mut Peer) {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = peer.0.try_wait().unwrap() {
                assert!(status.success(), "the peer ended with {status}; unread: {:#?}", self.unread);
                return;
            }
            assert!(Instant::now() < limit, "the peer does not end; unread: {:#?}", self.unread);
            self.turn(Duration::from_millis(20));
        }
    }
}

/// A peer's process, ended with the test.
pub(crate) struct Peer(pub(crate) Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Tells whether `program` can be run with `probe`; if it is demanded and missing, the test fails.
pub(crate) fn installed(program: &str, probe: &str, package: &str) -> bool {
    let found = Command::new(program).arg(probe).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        let demanded = std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!demanded, "{program} is required and missing");
        println!("skipped: {program} is not installed (Debian package {package})");
    }
    found
}

pub(crate) fn incoming(event: &SipEvent) -> Option<DialogKey> {
    if let SipEvent::Incoming { key, .. } = event { Some(*key) } else { None }
}

pub(crate) fn answered(event: &SipEvent) -> Option<trunkline_sip::sdp::MediaParams> {
    if let SipEvent::Answered { media, .. } = event { Some(media.clone()) } else { None }
}

pub(crate) fn failed(event: &SipEvent) -> Option<trunkline_sip::Failure> {
    if let SipEvent::Failed { failure, .. } = event { Some(failure.clone()) } else { None }
}

pub(crate) fn hung_up(event: &SipEvent) -> Option<trunkline_sip::HangupReason> {
    if let SipEvent::PeerHungUp { reason, .. } = event { Some(reason.clone()) } else { None }
}

pub(crate) fn ended(event: &SipEvent) -> Option<()> {
    matches!(event, SipEvent::Ended { .. }).then_some(())
}
