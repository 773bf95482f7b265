//! A caller over loopback, and customers with ready sound.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use trunkline_audio::{Codec, level};
use trunkline_callee::server::Teller;
use trunkline_callee::{Callee, CalleeConfig, Cast, Event, Persona};
use trunkline_line::start_sip;
use trunkline_line::{
    Attached, Clip, Command, MediaConfig, MediaHandle, RtpPorts, RtpSockets, SipCommand, SipHandle,
};
use trunkline_sip::digest::Credentials;
use trunkline_sip::message::Uri;
use trunkline_sip::sdp::{Codec as SdpCodec, LocalMedia, MediaParams};
use trunkline_sip::{DialogKey, Failure, InviteRequest, SipEvent, UaConfig};

const PATIENCE: Duration = Duration::from_secs(20);

/// Something that energy takes for speech: a buzz in syllables.
pub(crate) fn speech(ms: usize) -> Clip {
    let sample = |n: usize| {
        let t = n as f32 / 8_000.0;
        let tone: f32 =
            (1..10).map(|k| (std::f32::consts::TAU * 170.0 * k as f32 * t).sin() / k as f32).sum();
        (tone * (0.6 + 0.4 * (std::f32::consts::TAU * 4.0 * t).sin()) * 4_000.0) as i16
    };
    (0..ms * 8).map(sample).collect()
}

/// A customer made of a persona's lines; her words are as long as they have letters.
pub(crate) fn cast(lines: &str) -> Cast {
    let text = format!("schema: trunkline/persona/1\nname: Test\nlocale: en-US\nanswer_after: 50ms\n{lines}");
    let persona = Persona::parse(&text, Path::new("test.yaml")).unwrap();
    let clips = persona.utterances.iter().map(|utterance| speech(utterance.text().len() * 100)).collect();
    Cast::with_clips(persona, clips).unwrap()
}

/// An open line and what it told.
pub(crate) struct Line {
    pub(crate) addr: SocketAddr,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
    task: JoinHandle<u32>,
    stop: oneshot::Sender<()>,
}

impl Line {
    pub(crate) async fn open(cast: Cast, change: impl FnOnce(&mut CalleeConfig)) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&events);
        let tell: Teller = Box::new(move |event| log.lock().unwrap().push(event.clone()));
        let mut config = CalleeConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            rtp: 41_000..=41_399,
            allow: vec![],
            persona: Some(cast),
            numbers: Default::default(),
            ears: None,
            record: None,
            seed: 1,
            calls: None,
            dial: None,
            tell,
        };
        change(&mut config);
        let callee = Callee::open(config).await.unwrap();
        let addr = callee.local();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(callee.run(async {
            let _ = stopped.await;
        }));
        Self { addr, events, task, stop }
    }

    /// Tells it to stop and returns what it told.
    pub(crate) async fn stop(self) -> Vec<Event> {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
        std::mem::take(&mut self.events.lock().unwrap())
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> (u32, Vec<Event>) {
        let calls = timeout(PATIENCE, self.task).await.unwrap().unwrap();
        (calls, std::mem::take(&mut self.events.lock().unwrap()))
    }
}

/// One who calls.
pub(crate) struct Caller {
    sip: SipHandle,
    media: MediaHandle,
    ports: RtpPorts,
    pub(crate) codecs: Vec<SdpCodec>,
    pub(crate) ring_timeout: Duration,
}

pub(crate) struct Ongoing {
    pub(crate) key: DialogKey,
    pub(crate) events: mpsc::UnboundedReceiver<SipEvent>,
    sockets: Option<RtpSockets>,
    pub(crate) attached: Option<Attached>,
    pub(crate) heard: Vec<i16>,
}

impl Caller {
    pub(crate) async fn new(password: Option<&str>) -> Self {
        let credentials = password.map(|password| Credentials::new("branch", password));
        let configure = |local| {
            let mut config = UaConfig::new(local);
            config.credentials = credentials;
            config
        };
        let (incoming, _) = mpsc::unbounded_channel();
        let sip = start_sip("127.0.0.1:0".parse().unwrap(), configure, incoming).await.unwrap();
        Self {
            sip,
            media: MediaHandle::start().unwrap(),
            ports: RtpPorts::new("127.0.0.1".parse().unwrap(), 42_000..=42_799),
            codecs: vec![SdpCodec::Pcma, SdpCodec::Pcmu],
            ring_timeout: Duration::from_secs(10),
        }
    }

    pub(crate) async fn dial(&self, user: &str, to: SocketAddr) -> Ongoing {
        let sockets = self.ports.bind().unwrap();
        let mut media = LocalMedia::new(sockets.local().unwrap());
        media.codecs.clone_from(&self.codecs);
        let mut request = InviteRequest::new("robot", Uri::at(user, to), media);
        request.ring_timeout = self.ring_timeout;
        let (news, events) = mpsc::unbounded_channel();
        let (answer, result) = oneshot::channel();
        self.sip.send(SipCommand::Invite { request: Box::new(request), events: news, answer });
        let key = result.await.unwrap().unwrap();
        Ongoing { key, events, sockets: Some(sockets), attached: None, heard: Vec::new() }
    }

    /// Dials and talks, or returns why not.
    pub(crate) async fn call(&self, user: &str, to: SocketAddr) -> Result<Ongoing, Failure> {
        let mut call = self.dial(user, to).await;
        let media = call.answered().await?;
        let codec = match media.codec {
            SdpCodec::Pcma => Codec::Pcma,
            SdpCodec::Pcmu => Codec::Pcmu,
            SdpCodec::G722 | SdpCodec::Opus => panic!("nobody offered it"),
        };
        let config = MediaConfig { remote: media.remote, codec, dtmf_pt: None, lost_after: PATIENCE };
        let sockets = call.sockets.take().unwrap();
        call.attached = Some(self.media.attach(sockets, config, None, None));
        Ok(call)
    }

    pub(crate) async fn hang_up(&self, call: &mut Ongoing) {
        self.sip.send(SipCommand::HangUp(call.key, None));
        let over = |event: &SipEvent| matches!(event, SipEvent::Ended { .. } | SipEvent::PeerHungUp { .. });
        call.until(over).await;
        if let Some(attached) = &mut call.attached {
            let _ = attached.commands.push(Command::Close);
        }
    }
}

impl Ongoing {
    pub(crate) async fn until(&mut self, wanted: impl Fn(&SipEvent) -> bool) -> SipEvent {
        timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        })
        .await
        .unwrap()
    }

    async fn answered(&mut self) -> Result<MediaParams, Failure> {
        let decided = |event: &SipEvent| matches!(event, SipEvent::Answered { .. } | SipEvent::Failed { .. });
        let event = self.until(decided).await;
        if let SipEvent::Failed { failure, .. } = event {
            return Err(failure);
        }
        let SipEvent::Answered { media, .. } = event else { unreachable!("{event:?}") };
        Ok(media)
    }

    pub(crate) fn say(&mut self, clip: Clip) {
        let attached = self.attached.as_mut().unwrap();
        attached.commands.push(Command::Play { say: 1, clip, last: true }).unwrap();
    }

    /// Listens for a while.
    pub(crate) async fn listen(&mut self, ms: usize) {
        let until = self.heard.len() + ms * 8;
        let attached = self.attached.as_mut().unwrap();
        timeout(PATIENCE, async {
            while self.heard.len() < until {
                attached.notify.notified().await;
                while let Ok(frame) = attached.frames.pop() {
                    self.heard.extend(frame.samples);
                }
            }
        })
        .await
        .unwrap();
    }

    /// Returns where, in milliseconds, sound louder than -40 dBFS began and ended.
    pub(crate) fn voice(&self) -> Option<(usize, usize)> {
        let loud: Vec<usize> = (self.heard.chunks(160).enumerate())
            .filter(|(_, frame)| level::rms_dbfs(frame) > -40.0)
            .map(|(n, _)| n * 20)
            .collect();
        Some((*loud.first()?, *loud.last()? + 20))
    }
}
