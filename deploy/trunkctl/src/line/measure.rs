//! Measuring: the trunk is asked, registered at and called, over the box's own shells.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsConnector;
use trunkline_audio::probe;
use trunkline_line::sound::{Sound, keys};
use trunkline_line::trunks::{Encryption, TrunkSetup};
use trunkline_line::{
    Command as Order, MediaHandle, MediaTerms, PeerTls, RtpPorts, RtpSockets, SipCommand, SipHandle,
    SipTransports, TraceName, start_sip_with,
};
use trunkline_sip::message::{Hop, Message, Method, Transport, Uri};
use trunkline_sip::sdp::{Codec, MediaParams};
use trunkline_sip::{CallNews, DialogKey, Failure, FailureCause, HangupReason, SipEvent, UaConfig};
use trunkline_trace::{Limits, MediaReport, SdpSummary, Trace, Tracer, Way, list};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Lang, words};

/// What a request may take at most (Timer F, RFC 3261 §17.1.2.2) and a little.
const ANSWER_WITHIN: Duration = Duration::from_secs(34);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// What is heard before anything is played, and how long the longest echo takes.
const LISTEN: Duration = Duration::from_millis(600);
const ECHO_WITHIN: Duration = Duration::from_millis(1_300);
const KEY_EVERY: Duration = Duration::from_millis(320);
const PRESS_WITHIN: Duration = Duration::from_secs(25);
/// The name of test calls in their own trace.
const TRACED_AS: &str = "line-test";
/// Keys that are sent as telephone events, and as sound.
pub(super) const EVENT_KEYS: &str = "123";
pub(super) const SOUND_KEYS: &str = "456";
/// The key that is pressed by INFO.
const INFO_KEY: char = '7';
const INFO_WITHIN: Duration = Duration::from_secs(4);

/// What is to be tested.
pub(super) struct Wanted {
    pub(super) number: Option<String>,
    pub(super) echo: bool,
    pub(super) ask: bool,
    pub(super) lasts: Duration,
    pub(super) ring: Duration,
    pub(super) lang: Lang,
    /// Each way to press keys is tried, too.
    pub(super) profile: bool,
}

/// A step that may have no result.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step<T> {
    /// There was nothing to do.
    NotTested,
    Done(T),
    Failed(String),
}

/// What was measured on one trunk. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) trunk: String,
    pub(super) place: String,
    pub(super) transport: &'static str,
    pub(super) lookup: Step<u64>,
    /// Days that the trunk's certificate is still good.
    pub(super) certificate_days: Step<i64>,
    /// Whether sound would be encrypted with keys that travel in the clear.
    pub(super) keys_in_clear: bool,
    /// The code and the shortest time.
    pub(super) options: Step<(u16, u64)>,
    pub(super) registered: Step<u64>,
    pub(super) call: Option<CallMeasured>,
}

/// What was measured in a call.
#[derive(Debug, Default, Serialize)]
pub(super) struct CallMeasured {
    /// Why there was none.
    pub(super) failed: Option<String>,
    #[serde(skip)]
    pub(super) cause: Option<FailureCause>,
    pub(super) first_word_ms: Option<u64>,
    pub(super) rang_ms: Option<u64>,
    pub(super) answered_ms: Option<u64>,
    pub(super) codec: String,
    pub(super) offered: Vec<String>,
    /// The codecs that the far end's answer names.
    pub(super) taken: Vec<String>,
    pub(super) encrypted: bool,
    /// Whether telephone events were agreed on.
    pub(super) events_agreed: bool,
    pub(super) media: MediaReport,
    /// Level of what was heard in dBm0; `None` for silence.
    pub(super) heard_dbm0: Option<f32>,
    pub(super) echo_loss_db: Option<f32>,
    pub(super) echo_round_trip_ms: Option<f32>,
    /// How many of the keys that we pressed came back in either form, and how many others were pressed there.
    pub(super) events_back: bool,
    pub(super) sound_keys_back: bool,
    /// Whether a key by INFO was taken; `None` when none was pressed.
    pub(super) info_taken: Option<bool>,
    /// What the person pressed when asked, by the way it came: `event`, `info`, `sound`.
    pub(super) pressed_as: Option<&'static str>,
    /// Whether the person heard us.
    pub(super) heard_us: Option<bool>,
    pub(super) hung_up_by_far: bool,
    /// How long our BYE took, and whether it was answered with 2xx.
    pub(super) bye: Option<(u64, bool)>,
}

impl CallMeasured {
    /// Tells whether both sides hear each other, as far as it could be seen.
    pub(super) fn works(&self) -> bool {
        self.failed.is_none() && self.media.received > 0 && self.heard_dbm0.is_some()
    }

    /// The better, the higher.
    pub(super) fn score(&self) -> f32 {
        let answered = if self.failed.is_none() { 1.0 } else { 0.0 };
        answered + if self.works() { 10.0 + self.media.mos_heard.unwrap_or(0.0) } else { 0.0 }
    }

    pub(super) fn in_short(&self, lang: Lang) -> String {
        match (&self.failed, self.media.received, self.heard_dbm0) {
            (Some(why), ..) => why.clone(),
            (None, 0, _) => words::both("answered, no sound came", "已接通，但没有收到声音").of(lang),
            (None, _, None) => words::both("answered, only silence came", "已接通，但只收到静音").of(lang),
            (None, _, Some(_)) => format!("MOS {:.2}", self.media.mos_heard.unwrap_or(0.0)),
        }
    }
}

/// A trunk under test.
pub(super) struct Line {
    setup: TrunkSetup,
    agent: SipHandle,
    events: mpsc::UnboundedReceiver<SipEvent>,
    hop: Option<Hop>,
    lookup: Step<u64>,
    registered: bool,
    ports: RtpPorts,
    media: MediaHandle,
    tracer: Tracer,
    traces: TempDir,
}

impl Line {
    /// Binds the socket.
    pub(super) async fn open(setup: TrunkSetup, ports: RangeInclusive<u16>) -> Result<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let configure = |local| {
            let mut config = UaConfig::new(local);
            config.contact_user = setup.user.clone().unwrap_or_else(|| "trunkline".to_owned());
            config.user_agent = concat!("Trunkline/", env!("CARGO_PKG_VERSION")).to_owned();
            config
        };
        let transports = SipTransports { tcp: setup.transport == Transport::Tcp, ..SipTransports::default() };
        let agent = start_sip_with(setup.bind, transports, configure, sender).await?;
        let traces = tempfile::tempdir()?;
        let tracer = Tracer::start(traces.path(), Limits::default())?;
        agent.send(SipCommand::Trace(tracer.clone()));
        let ports = RtpPorts::new(setup.bind.ip(), ports);
        let media = MediaHandle::start().context("no thread for the sound")?;
        let (hop, lookup) = (None, Step::NotTested);
        Ok(Self { setup, agent, events, hop, lookup, registered: false, ports, media, tracer, traces })
    }

    /// Offers one codec only from now on, encrypted or in the clear.
    pub(super) fn offer_only(&mut self, codec: Codec, encrypted: bool) {
        self.setup.codecs = vec![codec];
        self.setup.encryption = if encrypted { Encryption::Required } else { Encryption::Off };
    }

    /// Looks the trunk up, looks at its certificate, asks it and registers.
    pub(super) async fn reach(&mut self) -> Measured {
        self.look_up().await;
        let certificate_days = self.certificate().await;
        if let Some(hop) = self.hop {
            let tls = self.setup.tls.clone();
            self.agent.send(SipCommand::Peer { addr: hop.addr, may_call: false, may_replace: false, tls });
        }
        let options = self.options().await;
        let registered = self.register().await;
        let encrypts = self.setup.encryption != Encryption::Off;
        Measured {
            trunk: self.setup.name.clone(),
            place: format!("{}:{}", self.setup.proxy.host, self.setup.proxy.port),
            transport: self.setup.transport.via_name(),
            lookup: self.lookup.clone(),
            certificate_days,
            keys_in_clear: encrypts && self.setup.tls.is_none(),
            options,
            registered,
            call: None,
        }
    }

    async fn look_up(&mut self) {
        let proxy = &self.setup.proxy;
        let found = match proxy.literal() {
            Some(addr) => Some(addr),
            None => {
                let begun = Instant::now();
                let found = tokio::net::lookup_host((proxy.host.as_str(), proxy.port)).await;
                let found = found.map(|mut all| all.find(|addr| addr.is_ipv4() == self.setup.bind.is_ipv4()));
                self.lookup = match &found {
                    Ok(Some(_)) => Step::Done(ms(begun.elapsed())),
                    Ok(None) => Step::Failed("it has no address of our kind".to_owned()),
                    Err(error) => Step::Failed(error.to_string()),
                };
                found.ok().flatten()
            }
        };
        self.hop = found.map(|addr| Hop::new(self.setup.transport, addr));
    }

    async fn certificate(&self) -> Step<i64> {
        let (Some(tls), Some(hop)) = (&self.setup.tls, self.hop) else { return Step::NotTested };
        let looked = tokio::time::timeout(CONNECT_WITHIN, days_left(tls, self.setup.bind, hop.addr)).await;
        match looked {
            Ok(Ok(days)) => Step::Done(days),
            Ok(Err(error)) => Step::Failed(format!("{error:#}")),
            Err(_) => Step::Failed("nobody answers the connection".to_owned()),
        }
    }

    /// Asks up to three times; over TCP and TLS the first one makes the connection.
    async fn options(&mut self) -> Step<(u16, u64)> {
        // A trunk that answers none says so in its settings; waiting for it would take half a minute.
        let (Some(hop), Some(_)) = (self.hop, self.setup.pool.ping_every) else { return Step::NotTested };
        let mut best: Option<(u16, u64)> = None;
        for _ in 0..3 {
            self.agent.send(SipCommand::Ping(hop));
            let limit = Instant::now() + ANSWER_WITHIN;
            let told = loop {
                match self.next_event(limit).await {
                    Some(SipEvent::OptionsAnswered { code, rtt, .. }) => break Ok((code, ms(rtt))),
                    Some(SipEvent::OptionsUnanswered { why, .. }) => break Err(why),
                    Some(_) => {}
                    None => break Err("no answer".to_owned()),
                }
            };
            match told {
                Ok((code, took)) => best = Some((code, best.map_or(took, |(_, least)| least.min(took)))),
                Err(why) => return best.map_or(Step::Failed(why), Step::Done),
            }
        }
        best.map_or(Step::NotTested, Step::Done)
    }

    async fn register(&mut self) -> Step<u64> {
        let Some(hop) = self.hop else { return Step::NotTested };
        let request = match self.setup.registration(0, hop) {
            None => return Step::NotTested,
            Some(Err(why)) => return Step::Failed(why),
            Some(Ok(request)) => request,
        };
        let begun = Instant::now();
        self.agent.send(SipCommand::Register(Box::new(request)));
        loop {
            match self.next_event(begun + ANSWER_WITHIN).await {
                Some(SipEvent::Registered { .. }) => {
                    self.registered = true;
                    return Step::Done(ms(begun.elapsed()));
                }
                Some(SipEvent::RegistrationFailed { failure, .. }) => {
                    return Step::Failed(failure.to_string());
                }
                Some(_) => {}
                None => return Step::Failed("no answer".to_owned()),
            }
        }
    }

    async fn next_event(&mut self, limit: Instant) -> Option<SipEvent> {
        let event = tokio::time::timeout_at(limit.into(), self.events.recv()).await.ok()??;
        if let SipEvent::Incoming { key, .. } = &event {
            self.agent.send(SipCommand::Reject(*key, 480));
        }
        Some(event)
    }

    /// Makes a test call.
    pub(super) async fn call(&mut self, wanted: &Wanted) -> CallMeasured {
        let mut measured = CallMeasured {
            offered: self.setup.codecs.iter().map(|codec| codec.name().to_owned()).collect(),
            ..CallMeasured::default()
        };
        match self.place(wanted).await {
            Err(error) => measured.failed = Some(format!("{error:#}")),
            Ok(mut call) => {
                call.wait_for_answer(&mut measured, wanted).await;
                if measured.failed.is_none() {
                    call.talk(&mut measured, wanted).await;
                    call.hang_up(&mut measured).await;
                }
            }
        }
        self.read_trace(&mut measured);
        measured
    }

    async fn place(&self, wanted: &Wanted) -> Result<TestCall<'_>> {
        let hop = self.hop.context("the trunk has no address")?;
        let number = wanted.number.as_deref().context("there is no number to call")?;
        let sockets = self.ports.bind()?;
        let to = Uri::sip(number, &self.setup.domain())?;
        let media = self.setup.media(sockets.local()?);
        let mut invite = self.setup.invite(None, to, hop.addr, media);
        invite.transport = Some(hop.transport);
        invite.ring_timeout = wanted.ring;
        let (sender, events) = mpsc::unbounded_channel();
        let (answer, key) = oneshot::channel();
        let begun = Instant::now();
        self.agent.send(SipCommand::Invite { request: Box::new(invite), events: sender, answer });
        let key = key.await.context("the SIP task has ended")??;
        let trace = TraceName { call: TRACED_AS.to_owned(), leg: "call" };
        self.agent.send(SipCommand::Name { key, trace, trunk: self.setup.name.clone() });
        let (watcher, news) = mpsc::unbounded_channel();
        self.agent.send(SipCommand::Watch(key, watcher));
        Ok(TestCall {
            line: self,
            key,
            events,
            news,
            begun,
            sockets: Some(sockets),
            sound: None,
            over: false,
            info_keys: String::new(),
        })
    }

    /// Takes from the signalling what its events do not say.
    fn read_trace(&self, measured: &mut CallMeasured) {
        self.tracer.flush();
        let legs = list(self.traces.path()).unwrap_or_default();
        let Some(leg) = legs.last() else { return };
        let answers = leg.messages.iter().filter(|kept| kept.way == Way::In);
        for message in answers.filter_map(trunkline_trace::Kept::message) {
            let Message::Response(response) = message else { continue };
            let of = response.headers.cseq().map(|cseq| cseq.method);
            if of == Some(Method::Bye)
                && let Some((_, answered)) = &mut measured.bye
            {
                *answered = (200..300).contains(&response.code);
            }
            if of == Some(Method::Invite)
                && let Some(sdp) = SdpSummary::read(&String::from_utf8_lossy(&response.body))
            {
                let sound =
                    |codec: &&String| !codec.starts_with("telephone-event") && !codec.starts_with("CN");
                measured.taken = sdp.codecs.iter().filter(sound).cloned().collect();
            }
        }
    }

    /// Takes the registration back and returns what was signalled in the test calls.
    pub(super) async fn close(mut self) -> Result<Vec<Trace>> {
        if self.registered {
            self.agent.send(SipCommand::Unregister);
            let limit = Instant::now() + Duration::from_secs(5);
            while !matches!(self.next_event(limit).await, Some(SipEvent::Unregistered) | None) {}
        }
        self.tracer.flush();
        Ok(list(self.traces.path())?)
    }
}

/// A call under way.
struct TestCall<'a> {
    line: &'a Line,
    key: DialogKey,
    events: mpsc::UnboundedReceiver<SipEvent>,
    news: mpsc::UnboundedReceiver<CallNews>,
    begun: Instant,
    sockets: Option<RtpSockets>,
    sound: Option<Sound>,
    over: bool,
    info_keys: String,
}

impl TestCall<'_> {
    async fn wait_for_answer(&mut self, measured: &mut CallMeasured, wanted: &Wanted) {
        let limit = self.begun + wanted.ring + ANSWER_WITHIN;
        loop {
            let event = tokio::time::timeout_at(limit.into(), self.events.recv()).await.ok().flatten();
            let since = ms(self.begun.elapsed());
            match event {
                Some(SipEvent::Trying { .. }) => _ = measured.first_word_ms.get_or_insert(since),
                Some(SipEvent::Ringing { early, .. }) => {
                    measured.first_word_ms.get_or_insert(since);
                    measured.rang_ms.get_or_insert(since);
                    if let Some(media) = early {
                        self.attach(&media);
                    }
                }
                Some(SipEvent::Answered { media, .. }) => {
                    measured.first_word_ms.get_or_insert(since);
                    measured.answered_ms = Some(since);
                    measured.codec = media.codec.name().to_owned();
                    measured.encrypted = media.secure.is_some();
                    measured.events_agreed = media.dtmf_pt.is_some();
                    self.attach(&media);
                    return;
                }
                Some(SipEvent::Failed { failure, .. }) => return fail(measured, &failure),
                Some(SipEvent::PeerHungUp { .. } | SipEvent::Ended { .. }) | None => {
                    measured.failed = Some("the call ended before it was answered".to_owned());
                    return;
                }
                Some(_) => {}
            }
        }
    }

    fn attach(&mut self, media: &MediaParams) {
        let terms = MediaTerms::agreed(media, Duration::from_secs(10));
        match (self.sockets.take(), &mut self.sound) {
            (Some(sockets), sound) => *sound = Some(Sound::attach(&self.line.media, sockets, terms)),
            (None, Some(sound)) => sound.order(Order::Change(terms)),
            (None, None) => {}
        }
    }

    async fn talk(&mut self, measured: &mut CallMeasured, wanted: &Wanted) {
        let until = Instant::now() + wanted.lasts;
        self.with_sound(Sound::record);
        self.listen(LISTEN).await;
        let probed_from = self.sound.as_ref().map_or(0, Sound::position);
        let probe = probe::signal();
        let length = Duration::from_millis(probe.len() as u64 / 8);
        self.with_sound(|sound| sound.play(probe));
        self.listen(length + ECHO_WITHIN).await;
        for key in EVENT_KEYS.chars() {
            self.with_sound(|sound| sound.order(Order::Digit(key)));
            self.listen(KEY_EVERY).await;
        }
        let pressed = keys(SOUND_KEYS);
        let length = Duration::from_millis(pressed.len() as u64 / 8);
        self.with_sound(|sound| sound.play(pressed));
        self.listen(length + ECHO_WITHIN / 2).await;
        let ours: String = self.sound.iter().flat_map(Sound::events).collect();
        measured.events_back = ours == EVENT_KEYS;
        measured.sound_keys_back =
            self.sound.as_ref().is_some_and(|sound| sound.keys_in_band().contains(SOUND_KEYS));
        if wanted.profile && !self.over {
            measured.info_taken = Some(self.press_by_info().await);
        }
        if wanted.ask {
            self.ask(measured, wanted.lang).await;
        }
        self.listen(until.saturating_duration_since(Instant::now())).await;
        measured.hung_up_by_far = self.over;
        if let Some(sound) = &self.sound {
            measured.heard_dbm0 = sound.heard_dbm0();
            let echo = sound.echo(probed_from);
            // Adding nothing makes 0 of -0.
            measured.echo_loss_db = echo.map(|echo| (echo.loss_db * 10.0).round() / 10.0 + 0.0);
            measured.echo_round_trip_ms = echo.map(|echo| echo.round_trip_ms);
        }
    }

    /// Presses a key by INFO and returns whether that was taken.
    async fn press_by_info(&mut self) -> bool {
        self.line.agent.send(SipCommand::Digit(self.key, INFO_KEY));
        let limit = Instant::now() + INFO_WITHIN;
        while !self.over && Instant::now() < limit {
            while let Ok(news) = self.news.try_recv() {
                if let CallNews::DigitAnswered { code, .. } = news {
                    return code.is_some_and(|code| (200..300).contains(&code));
                }
            }
            self.listen(Duration::from_millis(20)).await;
        }
        false
    }

    /// Asks the person who took the call.
    async fn ask(&mut self, measured: &mut CallMeasured, lang: Lang) {
        let events = |sound: &Sound| sound.events().iter().collect::<String>();
        let before = self.sound.as_ref().map_or(0, |sound| events(sound).len());
        let from_sound = self.sound.as_ref().map_or(0, |sound| sound.keys_in_band().len());
        eprintln!("{}", words::press(lang));
        let limit = Instant::now() + PRESS_WITHIN;
        while measured.pressed_as.is_none() && !self.over && Instant::now() < limit {
            self.listen(Duration::from_millis(200)).await;
            let Some(sound) = &self.sound else { return };
            measured.pressed_as = if events(sound)[before..].contains(EVENT_KEYS) {
                Some("event")
            } else if self.info_keys.contains(EVENT_KEYS) {
                Some("info")
            } else if sound.keys_in_band()[from_sound..].contains(EVENT_KEYS) {
                Some("sound")
            } else {
                None
            };
        }
        eprintln!("{}", words::heard_us(lang));
        let answer = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).ok().map(|_| line.trim().to_lowercase())
        });
        let limit = Instant::now() + PRESS_WITHIN;
        while !answer.is_finished() && !self.over && Instant::now() < limit {
            self.listen(Duration::from_millis(200)).await;
        }
        if answer.is_finished()
            && let Ok(Some(answer)) = answer.await
        {
            measured.heard_us = match answer.as_str() {
                "y" | "yes" | "是" => Some(true),
                "n" | "no" | "否" => Some(false),
                _ => None,
            };
        }
    }

    fn with_sound(&mut self, act: impl FnOnce(&mut Sound)) {
        if let Some(sound) = &mut self.sound {
            act(sound);
        }
    }

    /// Takes in sound and events for so long, or until the call is over.
    async fn listen(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while !self.over && Instant::now() < until {
            let Some(notify) = self.sound.as_ref().map(Sound::notify) else { return };
            tokio::select! {
                () = notify.notified() => self.with_sound(Sound::drain),
                event = self.events.recv() => match event {
                    Some(SipEvent::Digit { digit, .. }) => self.info_keys.push(digit),
                    Some(SipEvent::MediaChanged { media, .. }) => self.attach(&media),
                    Some(event) => self.over |= event.ends_call(),
                    None => self.over = true,
                },
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    async fn hang_up(&mut self, measured: &mut CallMeasured) {
        let begun = Instant::now();
        if !self.over {
            self.line.agent.send(SipCommand::HangUp(self.key, Some(HangupReason::normal())));
            let limit = begun + ANSWER_WITHIN;
            while let Ok(Some(event)) = tokio::time::timeout_at(limit.into(), self.events.recv()).await {
                if event.ends_call() {
                    break;
                }
            }
            measured.bye = Some((ms(begun.elapsed()), false));
        }
        if let Some(sound) = &mut self.sound
            && let Some(stats) = sound.close().await
        {
            measured.media = stats.report(&measured.codec, measured.encrypted);
            self.line.tracer.media(TRACED_AS, "call", measured.media.clone());
        }
    }
}

fn fail(measured: &mut CallMeasured, failure: &Failure) {
    measured.failed = Some(failure.to_string());
    measured.cause = Some(failure.cause);
}

/// Connects as the line does and returns for how many days the trunk's certificate is good.
async fn days_left(tls: &PeerTls, bind: SocketAddr, to: SocketAddr) -> Result<i64> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(bind.ip(), 0))?;
    let stream = socket.connect(to).await.context("no connection")?;
    let connector = TlsConnector::from(std::sync::Arc::clone(&tls.client));
    let stream = connector.connect(tls.name.clone(), stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let first: &CertificateDer<'_> =
        certificates.and_then(|all| all.first()).context("it shows no certificate")?;
    let (_, certificate) = X509Certificate::from_der(first).context("its certificate cannot be read")?;
    let left = certificate.validity().not_after.timestamp() - jiff::Timestamp::now().as_second();
    Ok(left.div_euclid(86_400))
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
