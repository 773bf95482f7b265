//! The line that customers sit on: takes calls, or makes one, casts them, and counts them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, info_span, warn};
use trunkline_line::{MediaHandle, RecorderHandle, RtpPorts, SipCommand, SipHandle, start_sip};
use trunkline_sip::digest::{Algorithm, Credentials};
use trunkline_sip::{InboundAuth, SipEvent, UaConfig};
use trunkline_speech::recognise::RecognizerPool;

use crate::call::{self, Dial, Incoming};
use crate::event::{Event, Usage};
use crate::persona::Auth;
use crate::sound::Cast;

/// Our last answer may be lost: we stay to repeat it.
const LINGER: Duration = Duration::from_millis(300);
const SETTLE_WITHIN: Duration = Duration::from_secs(3);

/// Where news go.
pub type Teller = Box<dyn Fn(&Event) + Send + Sync>;

/// Who sits where, and how long.
pub struct CalleeConfig {
    /// Address for SIP; not the wildcard, because callers are told it.
    pub listen: SocketAddr,
    /// Ports for RTP and RTCP.
    pub rtp: RangeInclusive<u16>,
    /// Who may call besides this machine.
    pub allow: Vec<IpAddr>,
    /// Who answers any number that is not in `numbers`.
    pub persona: Option<Cast>,
    /// Who answers which number.
    pub numbers: BTreeMap<String, Cast>,
    /// The recogniser, when somebody listens.
    pub ears: Option<Arc<RecognizerPool>>,
    /// Where to record; the second call's file gets `-2` behind its name, and so on.
    pub record: Option<PathBuf>,
    /// Decides every choice.
    pub seed: u64,
    /// Ends after so many calls.
    pub calls: Option<u32>,
    /// Whom she calls by herself, first of all.
    pub dial: Option<Dial>,
    /// Where news go.
    pub tell: Teller,
}

/// Why the line cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Callers could not be told where we are.
    #[error("cannot listen on {0}: give the address that callers will use, not the wildcard")]
    Wildcard(SocketAddr),
    /// The line has one password.
    #[error("personas `{0}` and `{1}` differ in `auth`: it holds for the whole line, so run two")]
    TwoPasswords(String, String),
    /// Nobody would ever answer.
    #[error("there is no persona")]
    Nobody,
    /// A socket or a thread could not be had.
    #[error("could not {what}")]
    System {
        /// What was tried.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

/// What the calls share.
pub(crate) struct Shared {
    pub(crate) sip: SipHandle,
    pub(crate) media: MediaHandle,
    pub(crate) recorder: RecorderHandle,
    pub(crate) ports: RtpPorts,
    pub(crate) ears: Option<Arc<RecognizerPool>>,
    pub(crate) seed: u64,
    pub(crate) stop: watch::Receiver<bool>,
    record: Option<PathBuf>,
    tell: Teller,
}

impl Shared {
    pub(crate) fn tell(&self, event: &Event) {
        (self.tell)(event);
    }

    /// Returns where call `number` is recorded.
    pub(crate) fn recording_path(&self, number: u32) -> Option<PathBuf> {
        let path = self.record.clone()?;
        if number == 1 {
            return Some(path);
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
        Some(path.with_file_name(format!("{stem}-{number}{}", extension.unwrap_or_default())))
    }
}

/// An open line.
pub struct Callee {
    shared: Arc<Shared>,
    incoming: mpsc::UnboundedReceiver<SipEvent>,
    persona: Option<Arc<Cast>>,
    numbers: BTreeMap<String, Arc<Cast>>,
    limit: Option<u32>,
    stop: watch::Sender<bool>,
    calls: HashMap<trunkline_sip::DialogKey, mpsc::UnboundedSender<SipEvent>>,
    /// Each with its key, if it came in.
    running: JoinSet<Option<trunkline_sip::DialogKey>>,
    dial: Option<Dial>,
    taken: u32,
    before: Usage,
}

impl Callee {
    /// Opens the line. Calls are taken once [`Self::run`] is polled.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(config: CalleeConfig) -> Result<Self, OpenError> {
        if config.listen.ip().is_unspecified() {
            return Err(OpenError::Wildcard(config.listen));
        }
        let auth = password(config.persona.iter().chain(config.numbers.values()))?;
        let system = |what: &str| {
            let what = what.to_owned();
            move |source| OpenError::System { what, source }
        };
        let media = MediaHandle::start().map_err(system("start the media thread"))?;
        let recorder = RecorderHandle::start().map_err(system("start the recorder thread"))?;
        let (sender, incoming) = mpsc::unbounded_channel();
        let mut allowed = config.allow;
        allowed.extend([
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
            config.listen.ip(),
        ]);
        let configure = |local| {
            let mut ua = UaConfig::new(local);
            ua.contact_user = "customer".to_owned();
            ua.user_agent = "Trunkline callee".to_owned();
            ua.allowed_peers = Some(allowed);
            ua.inbound_auth = auth.map(|auth| InboundAuth {
                realm: auth.realm,
                users: vec![Credentials::new(auth.user, auth.password)],
                algorithms: vec![Algorithm::SHA256, Algorithm::MD5],
            });
            ua
        };
        let sip = start_sip(config.listen, configure, sender)
            .await
            .map_err(system(&format!("listen for calls on {}", config.listen)))?;
        let (stop, stopped) = watch::channel(false);
        let shared = Shared {
            media,
            recorder,
            ports: RtpPorts::new(config.listen.ip(), config.rtp),
            ears: config.ears,
            seed: config.seed,
            stop: stopped,
            record: config.record,
            tell: config.tell,
            sip,
        };
        Ok(Self {
            shared: Arc::new(shared),
            incoming,
            persona: config.persona.map(Arc::new),
            numbers: config.numbers.into_iter().map(|(number, cast)| (number, Arc::new(cast))).collect(),
            limit: config.calls,
            stop,
            calls: HashMap::new(),
            running: JoinSet::new(),
            dial: config.dial,
            taken: 0,
            before: Usage::now(),
        })
    }

    /// Returns the address that callers reach.
    pub fn local(&self) -> SocketAddr {
        self.shared.sip.local()
    }

    /// Takes calls until so many are over or `stop` is done; then hangs up what is left, and returns
    /// how many calls there were.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> u32 {
        tokio::pin!(stop);
        let mut stopping = false;
        if let (Some(dial), Some(cast)) = (self.dial.take(), self.persona.clone()) {
            self.taken += 1;
            let (shared, number) = (Arc::clone(&self.shared), self.taken);
            let task = async move {
                call::dial(shared, number, cast, dial).await;
                None
            };
            self.running.spawn(task.instrument(info_span!("call", number)));
        }
        while !(self.running.is_empty() && (stopping || self.limit.is_some_and(|limit| self.taken >= limit)))
        {
            tokio::select! {
                () = &mut stop, if !stopping => {
                    stopping = true;
                    // The receivers live in `shared`, so this cannot fail.
                    let _ = self.stop.send(true);
                }
                event = self.incoming.recv() => match event {
                    Some(event) => self.on_event(event, stopping),
                    None => break,
                },
                Some(ended) = self.running.join_next() => match ended {
                    Ok(Some(key)) => {
                        self.calls.remove(&key);
                    }
                    Ok(None) => {}
                    Err(error) => warn!(%error, "A call's task failed"),
                },
            }
        }
        self.settle().await;
        let used = Usage::now();
        self.shared.tell(&Event::Summary {
            calls: self.taken,
            cpu_s: used.cpu_ms.saturating_sub(self.before.cpu_ms) as f64 / 1_000.0,
            max_rss_mb: used.max_rss_kb / 1_024,
        });
        self.taken
    }

    fn on_event(&mut self, event: SipEvent, stopping: bool) {
        let (key, to) = match event {
            SipEvent::Incoming { key, to, .. } => (key, to),
            // The caller gave up before the call was taken: the call's own channel is not known yet.
            SipEvent::Failed { key, .. } | SipEvent::PeerHungUp { key, .. } | SipEvent::Ended { key } => {
                if let Some(events) = self.calls.get(&key) {
                    // A call that is over needs no news.
                    let _ = events.send(event);
                }
                return;
            }
            SipEvent::Trying { .. }
            | SipEvent::Ringing { .. }
            | SipEvent::Answered { .. }
            | SipEvent::MediaChanged { .. }
            | SipEvent::Digit { .. }
            | SipEvent::Registered { .. }
            | SipEvent::RegistrationFailed { .. }
            | SipEvent::Unregistered
            | SipEvent::OptionsAnswered { .. }
            | SipEvent::OptionsUnanswered { .. } => return,
        };
        let user = to.user_text();
        let full = stopping || self.limit.is_some_and(|limit| self.taken >= limit);
        let Some(cast) = self.numbers.get(&user).or(self.persona.as_ref()).filter(|_| !full) else {
            self.shared.sip.send(SipCommand::Reject(key, if full { 486 } else { 404 }));
            return;
        };
        self.taken += 1;
        let (own, events) = mpsc::unbounded_channel();
        self.calls.insert(key, own.clone());
        let incoming = Incoming { number: self.taken, key, user, cast: Arc::clone(cast), own, events };
        let shared = Arc::clone(&self.shared);
        let span = info_span!("call", number = self.taken);
        let task = async move {
            call::run(shared, incoming).await;
            Some(key)
        };
        self.running.spawn(task.instrument(span));
    }

    /// Waits for the other side to acknowledge how the last call ended.
    async fn settle(&self) {
        let until = Instant::now() + SETTLE_WITHIN;
        while self.shared.sip.gauges().await.calls > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(LINGER).await;
    }
}

/// Returns the password of the line.
fn password<'a>(casts: impl Iterator<Item = &'a Cast>) -> Result<Option<Auth>, OpenError> {
    let personas: Vec<_> = casts.map(Cast::persona).collect();
    let Some(first) = personas.first() else { return Err(OpenError::Nobody) };
    match personas.iter().find(|persona| persona.auth != first.auth) {
        Some(other) => Err(OpenError::TwoPasswords(first.name.clone(), other.name.clone())),
        None => Ok(first.auth.clone()),
    }
}
