//! The media thread: every call's RTP, 20 ms at a time.
//!
//! One thread at real-time priority ticks every millisecond; a call belongs to one of 20 phases, so
//! that the packets of many calls are spread over the frame. What a call's owner needs (received
//! frames, news of prompts) leaves by single-producer rings and a wake-up that costs no lock.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::Notify;
use tracing::{info, warn};
use trunkline_audio::opus::OpusError;
use trunkline_audio::record::RecordFrame;
use trunkline_audio::{Codec, FRAME};
use trunkline_rtp::rtcp::{NtpTime, Reception, RtcpSession};
use trunkline_rtp::{EventReceiver, EventSender, RtpPacket, RtpSender, RtpTicks, Seq, Ssrc, event_digit};
use trunkline_sip::sdp::{DTMF_OPUS_PAYLOAD_TYPE, DTMF_PAYLOAD_TYPE, MediaParams, SecureParams};

use crate::bridge::Bridge;
use crate::coder::{Effort, LONGEST_PAYLOAD, MediaCodec};
use crate::keys::KeyTones;
use crate::player::{Command, Filled, Player};
use crate::playout::Playout;
use crate::stats::FarEnd;
use crate::third::Third;
use crate::wrap::Wrap;

const TICK: Duration = Duration::from_millis(1);
const PHASES: usize = 20;
/// A key is pressed for 160 ms.
const KEY_FRAMES: u16 = 8;
/// The effort for Opus where nothing else is set.
pub(crate) const OPUS_COMPLEXITY: u8 = 5;
/// Packets read from one socket per tick: a flood on one call must not starve the others.
const MAX_READS: usize = 32;
/// For so long after the far end moved, what still comes from where it was is not taken for it.
const MOVING: Duration = Duration::from_secs(1);
/// Two seconds of frames for an owner who is late.
const RING: usize = 100;

/// The ports that RTP may use; RTCP takes the odd one above each.
#[derive(Debug)]
pub struct RtpPorts {
    ip: IpAddr,
    range: RangeInclusive<u16>,
    next: AtomicU16,
}

impl RtpPorts {
    /// Uses the even ports of `range` on `ip`.
    pub fn new(ip: IpAddr, range: RangeInclusive<u16>) -> Self {
        let first = range.start() + range.start() % 2;
        Self { ip, next: AtomicU16::new(first), range }
    }

    /// Binds a free pair of ports.
    ///
    /// # Errors
    /// When every pair of the range is taken.
    pub fn bind(&self) -> io::Result<RtpSockets> {
        let first = self.range.start() + self.range.start() % 2;
        let pairs = (self.range.end().saturating_sub(first)).div_ceil(2).max(1);
        for _ in 0..pairs {
            let port = self.next.fetch_add(2, Ordering::Relaxed);
            let port = first + (port.wrapping_sub(first)) % (pairs * 2);
            let Ok(rtp) = UdpSocket::bind((self.ip, port)) else { continue };
            let Ok(rtcp) = UdpSocket::bind((self.ip, port + 1)) else { continue };
            rtp.set_nonblocking(true)?;
            rtcp.set_nonblocking(true)?;
            return Ok(RtpSockets { rtp, rtcp });
        }
        let what = format!("every RTP port from {} to {} is taken", first, self.range.end());
        Err(io::Error::new(io::ErrorKind::AddrInUse, what))
    }
}

/// A bound pair of RTP and RTCP sockets.
#[derive(Debug)]
pub struct RtpSockets {
    rtp: UdpSocket,
    rtcp: UdpSocket,
}

impl RtpSockets {
    /// Returns the address to put into the SDP.
    ///
    /// # Errors
    /// When the socket does not say.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.rtp.local_addr()
    }
}

/// What was agreed on in the SDP for a call in the clear whose packets have the codec's own payload type.
#[derive(Clone, Copy, Debug)]
pub struct MediaConfig {
    /// Where to send.
    pub remote: SocketAddr,
    /// What to send and expect.
    pub codec: Codec,
    /// The payload type of telephone events, if agreed on.
    pub dtmf_pt: Option<u8>,
    /// After this long without a packet the far end is lost.
    pub lost_after: Duration,
}

impl From<MediaConfig> for MediaTerms {
    fn from(config: MediaConfig) -> Self {
        Self {
            remote: config.remote,
            codec: MediaCodec::G711(config.codec),
            payload_type: config.codec.payload_type(),
            sends: true,
            secure: None,
            dtmf_pt: config.dtmf_pt,
            dtmf_hz: 8_000,
            lost_after: config.lost_after,
        }
    }
}

/// All that was agreed on in the SDP.
#[derive(Clone, Copy, Debug)]
pub struct MediaTerms {
    /// Where to send.
    pub remote: SocketAddr,
    /// What to send and expect.
    pub codec: MediaCodec,
    /// The payload type of what we send.
    pub payload_type: u8,
    /// Whether we may send: not while the other side holds us.
    pub sends: bool,
    /// How packets are encrypted; `None` for a call in the clear.
    pub secure: Option<SecureParams>,
    /// The payload type of telephone events, if agreed on.
    pub dtmf_pt: Option<u8>,
    /// The clock of their durations, in ticks a second.
    pub dtmf_hz: u32,
    /// After this long without a packet the far end is lost.
    pub lost_after: Duration,
}

impl MediaTerms {
    /// Takes over what was agreed in the signalling.
    pub fn agreed(media: &MediaParams, lost_after: Duration) -> Self {
        Self {
            remote: media.remote,
            codec: MediaCodec::agreed(media),
            payload_type: media.payload_type,
            sends: media.direction.sends(),
            secure: media.secure,
            dtmf_pt: media.dtmf_pt,
            dtmf_hz: media.dtmf_clock.hz(),
            // Who holds us, or may not send to us, is not lost.
            lost_after: if media.direction.receives() { lost_after } else { Duration::MAX },
        }
    }

    /// Whether a packet is a telephone event. Beside Opus many send them at the telephone's clock, under the number
    /// that we offered for that.
    fn is_event(&self, payload_type: u8) -> bool {
        let offered = matches!(self.codec, MediaCodec::Opus(_))
            && payload_type != self.payload_type
            && [DTMF_PAYLOAD_TYPE, DTMF_OPUS_PAYLOAD_TYPE].contains(&payload_type);
        Some(payload_type) == self.dtmf_pt || (self.dtmf_pt.is_some() && offered)
    }
}

/// One frame as received.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// When it was taken from the jitter buffer.
    pub at: Instant,
    /// How long before that it arrived on the wire, in samples of 8 kHz.
    pub delay_samples: u16,
    /// The sound, 8 kHz.
    pub samples: [i16; FRAME],
}

/// What happened on an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MediaNews {
    /// The first packet of a prompt was sent.
    Started {
        /// Which prompt.
        say: u32,
        /// When.
        at: Instant,
    },
    /// The last packet of a prompt was sent.
    Finished {
        /// Which prompt.
        say: u32,
    },
    /// A prompt was paused, stopped or cut off by the end after so many samples.
    Held {
        /// Which prompt.
        say: u32,
        /// Samples sent, at 8 kHz.
        samples: usize,
    },
    /// The far end pressed a key.
    Digit(char),
    /// Nothing was received for too long; told once.
    Lost,
    /// The endpoint is closed; the last news.
    Closed(MediaStats),
}

/// Counts of one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaStats {
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came too late.
    pub late: u64,
    /// Packets that came again.
    pub duplicate: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Interarrival jitter in milliseconds.
    pub jitter_ms: f32,
    /// Packets that were refused because they were not encrypted as agreed.
    pub forged: u64,
    /// What the far end reports, and the keys.
    pub far: FarEnd,
}

/// What the owner of an endpoint holds.
#[derive(Debug)]
pub struct Attached {
    /// Orders for the player.
    pub commands: Producer<Command>,
    /// Received frames, one every 20 ms.
    pub frames: Consumer<Received>,
    /// News.
    pub news: Consumer<MediaNews>,
    /// Woken after each tick that put something into a ring.
    pub notify: Arc<Notify>,
}

/// An endpoint on its way to the media thread.
#[derive(Debug)]
pub struct Endpoint {
    sockets: RtpSockets,
    config: MediaTerms,
    commands: Consumer<Command>,
    frames: Producer<Received>,
    news: Producer<MediaNews>,
    notify: Arc<Notify>,
    record: Option<Producer<RecordFrame>>,
    monitor: Option<Producer<RecordFrame>>,
}

/// The media thread.
#[derive(Clone, Debug)]
pub struct MediaHandle {
    endpoints: mpsc::Sender<Box<Running>>,
    lateness: Arc<AtomicU64>,
    effort: Effort,
}

impl MediaHandle {
    /// Starts the thread, at real-time priority where the system allows it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> io::Result<Self> {
        Self::start_with(OPUS_COMPLEXITY)
    }

    /// As [`Self::start`], with another effort for Opus than 5, 0 to 10: each call gets that while they are few, and
    /// less the more there are.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_with(opus_complexity: u8) -> io::Result<Self> {
        let (endpoints, inbox) = mpsc::channel();
        let lateness = Arc::new(AtomicU64::new(0));
        let worst = Arc::clone(&lateness);
        thread::Builder::new().name("media".into()).spawn(move || {
            raise_priority();
            run(&inbox, &worst);
        })?;
        Ok(Self { endpoints, lateness, effort: Effort::new(opus_complexity) })
    }

    /// Returns the greatest lateness of a tick since the last call, and forgets it.
    pub fn worst_lateness(&self) -> Duration {
        Duration::from_micros(self.lateness.swap(0, Ordering::Relaxed))
    }

    /// Hands sockets to the thread: RTP flows until [`Command::Close`] or until the owner drops its
    /// side. `record` and `monitor` get each frame of both directions.
    pub fn attach(
        &self,
        sockets: RtpSockets,
        config: impl Into<MediaTerms>,
        record: Option<Producer<RecordFrame>>,
        monitor: Option<Producer<RecordFrame>>,
    ) -> Attached {
        let (command_tx, commands) = RingBuffer::new(64);
        let (frames, frame_rx) = RingBuffer::new(RING);
        let (news, news_rx) = RingBuffer::new(64);
        let notify = Arc::new(Notify::new());
        let endpoint = Endpoint {
            sockets,
            config: config.into(),
            commands,
            frames,
            news,
            notify: Arc::clone(&notify),
            record,
            monitor,
        };
        // A thread that has ended shows at once, and so does a coder that cannot be made: the owner finds its rings
        // abandoned.
        match Running::new(endpoint, self.effort.clone(), Instant::now()) {
            Ok(running) => {
                let _ = self.endpoints.send(Box::new(running));
            }
            Err(error) => warn!(%error, "No sound for a call"),
        }
        Attached { commands: command_tx, frames: frame_rx, news: news_rx, notify }
    }
}

fn raise_priority() {
    use thread_priority::unix::{
        RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    };
    use thread_priority::{ThreadPriority, ThreadPriorityValue};
    let Ok(value) = ThreadPriorityValue::try_from(10u8) else { return };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    match set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(value), policy) {
        Ok(()) => info!("Media thread runs at real-time priority"),
        Err(error) => warn!(
            ?error,
            "Media thread runs at normal priority: sound will stutter on a busy box; give the service CAP_SYS_NICE"
        ),
    }
}

fn run(inbox: &mpsc::Receiver<Box<Running>>, worst: &AtomicU64) {
    let mut phases: [Vec<Box<Running>>; PHASES] = Default::default();
    let mut count = 0;
    let mut due = Instant::now();
    let mut tick = 0;
    loop {
        if count == 0 {
            match inbox.recv() {
                Ok(endpoint) => {
                    phases[tick % PHASES].push(endpoint);
                    count = 1;
                    due = Instant::now();
                }
                Err(mpsc::RecvError) => return,
            }
        }
        while let Ok(endpoint) = inbox.try_recv() {
            if let Some(emptiest) = phases.iter_mut().min_by_key(|phase| phase.len()) {
                emptiest.push(endpoint);
                count += 1;
            }
        }
        let now = Instant::now();
        if let Some(wait) = due.checked_duration_since(now) {
            thread::sleep(wait);
        }
        let now = Instant::now();
        let late = now.saturating_duration_since(due);
        worst.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if late > Duration::from_secs(1) {
            // The machine stood still: catching up would send a burst that nobody can use.
            due = now;
        }
        phases[tick % PHASES].retain_mut(|endpoint| {
            let alive = endpoint.tick(now);
            count -= usize::from(!alive);
            alive
        });
        tick += 1;
        due += TICK;
    }
}

#[derive(Debug)]
struct Running {
    io: Endpoint,
    remote: SocketAddr,
    latched: bool,
    /// Where the far end was, and until when that is not heard.
    former: Option<(SocketAddr, Instant)>,
    playout: Playout,
    effort: Effort,
    sender: RtpSender,
    reception: Reception,
    rtcp: RtcpSession,
    player: Player,
    digits_in: EventReceiver,
    digit_out: Option<EventSender>,
    key_tones: KeyTones,
    wrap: Option<Wrap>,
    bridge: Option<Box<Bridge>>,
    third: Option<Third>,
    last_heard: Instant,
    lost_told: bool,
    sent: u64,
    far: FarEnd,
    first: bool,
}

impl Running {
    fn new(io: Endpoint, effort: Effort, now: Instant) -> Result<Self, OpusError> {
        let codec = io.config.codec;
        Ok(Self {
            remote: io.config.remote,
            latched: false,
            former: None,
            playout: Playout::sharing(codec, &effort)?,
            effort,
            sender: new_stream(codec),
            reception: Reception::new(codec.clock_hz()),
            rtcp: RtcpSession::new(format!("{:08x}@trunkline", rand::random::<u32>()), now, rand::random()),
            player: Player::new(),
            digits_in: EventReceiver::default(),
            digit_out: None,
            key_tones: KeyTones::new(),
            wrap: io.config.secure.as_ref().map(Wrap::new),
            bridge: None,
            third: None,
            last_heard: now,
            lost_told: false,
            sent: 0,
            far: FarEnd::default(),
            first: true,
            io,
        })
    }

    /// Does one frame; returns false when the endpoint is closed.
    fn tick(&mut self, now: Instant) -> bool {
        let open = self.take_commands(now);
        self.receive(now);
        let mut rx = [0; FRAME];
        let delay_samples = self.next_received(now, &mut rx);
        let _ = self.io.frames.push(Received { at: now, delay_samples, samples: rx });
        if let Some(third) = &mut self.third {
            third.listen();
        }
        match (&mut self.bridge, &self.third) {
            (Some(bridge), None) => bridge.give(&rx),
            (Some(bridge), Some(third)) => bridge.give(&third.for_person(&rx)),
            (None, _) => {}
        }
        let mut tx = [0; FRAME];
        self.send(now, &rx, &mut tx);
        // A packet carries the sound of the 20 ms before it was sent, so what was received is shown
        // one frame earlier still: both channels then stand as they crossed the wire.
        let frame = RecordFrame { rx, tx, rx_delay_samples: delay_samples + FRAME as u16 };
        for ring in [&mut self.io.record, &mut self.io.monitor].into_iter().flatten() {
            let _ = ring.push(frame);
        }
        self.report(now);
        if !self.lost_told && now.saturating_duration_since(self.last_heard) > self.io.config.lost_after {
            self.lost_told = true;
            let _ = self.io.news.push(MediaNews::Lost);
        }
        if !open {
            self.close();
        }
        self.io.notify.notify_one();
        open
    }

    /// Goes on with what was agreed anew: after early media, on hold, at another address.
    fn change(&mut self, now: Instant, config: MediaTerms) {
        if config.remote != self.io.config.remote {
            self.former = Some((self.remote, now + MOVING)).filter(|(was, _)| *was != config.remote);
            self.remote = config.remote;
            self.latched = false;
        }
        if config.secure != self.io.config.secure {
            self.wrap = config.secure.as_ref().map(Wrap::new);
        }
        self.last_heard = now;
        self.lost_told = false;
        if config.codec != self.io.config.codec {
            self.change_codec(config.codec);
        }
        self.io.config = config;
    }

    /// Begins a new stream with another codec, whose clock may be another one.
    fn change_codec(&mut self, codec: MediaCodec) {
        match Playout::sharing(codec, &self.effort) {
            Ok(playout) => self.playout = playout,
            Err(error) => warn!(%error, "A call goes on without sound"),
        }
        if codec.clock_hz() != self.io.config.codec.clock_hz() {
            self.sender = new_stream(codec);
            self.reception = Reception::new(codec.clock_hz());
        }
    }

    fn take_commands(&mut self, now: Instant) -> bool {
        while let Ok(command) = self.io.commands.pop() {
            match command {
                Command::Play { say, clip, last } => {
                    self.hold();
                    self.player.play(say, clip, last);
                }
                Command::Append { say, clip, last } => self.player.append(say, clip, last),
                Command::Pause => {
                    self.hold();
                    self.player.set_paused(true);
                }
                Command::Resume => self.player.set_paused(false),
                Command::Stop => {
                    self.hold();
                    self.player.stop();
                }
                Command::DigitAsSound(digit) => {
                    self.far.keys_sent += u32::from(self.key_tones.press(digit));
                }
                Command::Digit(digit) if self.io.config.dtmf_pt.is_none() => {
                    self.far.keys_sent += u32::from(self.key_tones.press(digit));
                }
                Command::Digit(digit) => {
                    self.digit_out = EventSender::at_clock(digit, KEY_FRAMES, self.io.config.dtmf_hz);
                    self.far.keys_sent += u32::from(self.digit_out.is_some());
                }
                Command::Record(frames) => self.io.record = Some(frames),
                Command::Monitor(frames) => self.io.monitor = Some(frames),
                Command::Change(config) => self.change(now, config),
                Command::Bridge(bridge) => {
                    self.hold();
                    self.player.stop();
                    self.bridge = Some(bridge);
                }
                Command::Unbridge => self.bridge = None,
                Command::Supervise(bridge, mode) => self.third = Some(Third::new(bridge, mode)),
                Command::SuperviseAs(mode) => {
                    if let Some(third) = &mut self.third {
                        third.mode = mode;
                    }
                }
                Command::Unsupervise => self.third = None,
                Command::Close => return false,
            }
        }
        !self.io.commands.is_abandoned()
    }

    fn hold(&mut self) {
        if let Some((say, samples)) = self.player.position() {
            let _ = self.io.news.push(MediaNews::Held { say, samples });
        }
    }

    fn receive(&mut self, now: Instant) {
        let mut buffer = [0; trunkline_rtp::MAX_PACKET];
        for _ in 0..MAX_READS {
            let Ok((n, from)) = self.io.sockets.rtp.recv_from(&mut buffer) else { break };
            if self.first {
                // Whatever waited in the socket before the call was answered is not played late.
                continue;
            }
            let n = match &mut self.wrap {
                // Who has the key may come from anywhere: the network moves calls, a thief has no key.
                Some(wrap) => match wrap.open_rtp(&mut buffer[..n]) {
                    Some(n) => n,
                    None => continue,
                },
                // Only who was named in the SDP is heard; a port translated on the way is followed once.
                None if from.ip() != self.remote.ip() || (self.latched && from != self.remote) => continue,
                None if self.former.is_some_and(|(was, until)| from == was && now < until) => continue,
                None => n,
            };
            let Ok(packet) = RtpPacket::parse(&buffer[..n]) else { continue };
            self.latched = true;
            self.remote = from;
            self.last_heard = now;
            if self.io.config.is_event(packet.payload_type) {
                if let Some(digit) = self.digits_in.push(&packet).and_then(event_digit) {
                    self.far.keys_heard += 1;
                    let _ = self.io.news.push(MediaNews::Digit(digit));
                }
            } else {
                self.reception.on_packet(now, &packet);
                self.playout.push(now, packet, self.io.config.payload_type);
            }
        }
        self.first = false;
        while let Ok((n, from)) = self.io.sockets.rtcp.recv_from(&mut buffer) {
            let n = match &mut self.wrap {
                Some(wrap) => match wrap.open_rtcp(&mut buffer[..n]) {
                    Some(n) => n,
                    None => continue,
                },
                None => n,
            };
            if from.ip() == self.remote.ip() {
                let ours = self.sender.ssrc();
                let news = self.rtcp.handle(now, wall(), &buffer[..n], ours, &mut self.reception);
                if let Some(loss) = news.far_loss {
                    self.playout.coder.set_loss(loss);
                }
                self.far.take(&news, self.io.config.codec.clock_hz());
            }
        }
    }

    /// Takes the next frame from the jitter buffer; returns how long ago it arrived, in samples.
    fn next_received(&mut self, now: Instant, rx: &mut [i16; FRAME]) -> u16 {
        self.playout.pop(now, rx);
        u16::try_from(self.playout.delay_ticks()).unwrap_or(u16::MAX)
    }

    fn send(&mut self, now: Instant, rx: &[i16; FRAME], tx: &mut [i16; FRAME]) {
        let mut packet = [0; trunkline_rtp::MAX_PACKET];
        let filled = self.player.fill(tx);
        if filled == Filled::Silence
            && let Some(bridge) = &mut self.bridge
        {
            bridge.take(tx);
        }
        if let Some(third) = &mut self.third {
            third.mix(rx, tx);
        }
        self.key_tones.fill(tx);
        let written = match (&mut self.digit_out, self.io.config.dtmf_pt) {
            (Some(digit), Some(payload_type)) if !digit.is_done() => {
                self.sender.write_event_into(payload_type, digit, &mut packet)
            }
            _ => {
                let mut payload = [0; LONGEST_PAYLOAD];
                let len = self.playout.coder.encode(tx, &mut payload);
                let (payload_type, ticks) = (self.io.config.payload_type, self.sender.frame_ticks());
                self.sender.write_into(payload_type, &payload[..len], ticks, &mut packet)
            }
        };
        let written = written.ok().and_then(|n| match &mut self.wrap {
            Some(wrap) => wrap.protect_rtp(&mut packet, n),
            None => Some(n),
        });
        if let Some(n) = written
            && self.io.config.sends
            && self.io.sockets.rtp.send_to(&packet[..n], self.remote).is_ok()
        {
            self.sent += 1;
        }
        match filled {
            Filled::First(say) => {
                let _ = self.io.news.push(MediaNews::Started { say, at: now });
            }
            Filled::Last(say) => {
                let _ = self.io.news.push(MediaNews::Finished { say });
            }
            Filled::Silence | Filled::Sound => {}
        }
    }

    fn report(&mut self, now: Instant) {
        if self.rtcp.poll_timeout() > now {
            return;
        }
        self.playout.coder.share_effort();
        let mut buffer = [0; 256];
        if let Some(n) = self.rtcp.poll(now, wall(), &self.sender, &mut self.reception, &mut buffer) {
            self.send_rtcp(&mut buffer, n);
        }
    }

    fn send_rtcp(&mut self, buffer: &mut [u8], n: usize) {
        let wrapped = match &mut self.wrap {
            Some(wrap) => wrap.protect_rtcp(buffer, n),
            None => Some(n),
        };
        if let Some(n) = wrapped {
            let to = SocketAddr::new(self.remote.ip(), self.remote.port().wrapping_add(1));
            let _ = self.io.sockets.rtcp.send_to(&buffer[..n], to);
        }
    }

    fn close(&mut self) {
        self.hold();
        let mut buffer = [0; 256];
        let bye =
            self.rtcp.bye_into(Instant::now(), wall(), &self.sender, &mut self.reception, "", &mut buffer);
        if let Ok(n) = bye {
            self.send_rtcp(&mut buffer, n);
        }
        let jitter = self.playout.stats();
        let stats = MediaStats {
            received: jitter.received,
            sent: self.sent,
            lost: jitter.lost,
            late: jitter.late,
            duplicate: jitter.duplicate,
            reordered: jitter.reordered,
            jitter_ms: self.reception.stats().jitter_ms,
            forged: self.wrap.as_ref().map_or(0, Wrap::refused),
            far: self.far,
        };
        let _ = self.io.news.push(MediaNews::Closed(stats));
    }
}

/// Begins to count and time our packets.
fn new_stream(codec: MediaCodec) -> RtpSender {
    let stream = RtpSender::new(Ssrc(rand::random()), Seq(rand::random()), RtpTicks(rand::random()));
    stream.at_clock(codec.clock_hz())
}

fn wall() -> NtpTime {
    NtpTime::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
