//! The jitter buffer: packets in as they come, one 20 ms frame out per tick.
//!
//! G.711 has one octet per clock tick, so the store is a ring of octets addressed by time. Packets
//! of any length land where their time says, and order, duplicates and overlaps need no care. Packets of
//! Opus are kept whole. Either way a tick here is 1/8000 s, which is a sample of ours.
//!
//! The delay follows the network (see [`DelayEstimate`]). It is changed where nobody hears it, in
//! quiet frames, by leaving one out or playing one twice; or while nothing plays at all.

mod octets;
mod packets;

use std::time::Instant;

use octets::Ring;
use packets::Packets;

pub use packets::Parts;

use crate::delay::DelayEstimate;
use crate::{CLOCK_HZ, FRAME_TICKS, RtpPacket, RtpTicks, Seq, Ssrc};

/// Bounds of the playout delay, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitterConfig {
    /// Never less than this.
    pub min_ms: u32,
    /// What a call begins with, before the network is known.
    pub start_ms: u32,
    /// Never more than this: beyond it people talk over each other.
    pub max_ms: u32,
}

impl Default for JitterConfig {
    fn default() -> Self {
        Self { min_ms: 20, start_ms: 40, max_ms: 200 }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It will be played.
    Stored,
    /// Its time had passed.
    Late,
    /// It was there already.
    Duplicate,
    /// It is not of the buffer's codec, or holds nothing, or too much.
    Ignored,
    /// It belongs to an unknown stream or time; a second one that follows it will be believed.
    Probation,
}

/// What to play for the next 20 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Sound.
    Audio {
        /// 0 µ-law, 8 A-law.
        payload_type: u8,
        /// 160 octets.
        payload: &'a [u8],
    },
    /// The packets whose sound begins within the frame; none, if it goes on from an earlier one.
    Packets(Parts<'a>),
    /// Something should be here and is not: conceal it.
    Lost,
    /// Nothing is being sent, or not enough has come to begin.
    Empty,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterStats {
    /// Packets of speech that came, whatever became of them.
    pub received: u64,
    /// Packets that came after their time.
    pub late: u64,
    /// Packets that came again.
    pub duplicate: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Frames that never came, or came too late.
    pub lost: u64,
    /// Frames for which [`Frame::Lost`] was returned, for whatever reason.
    pub concealed: u64,
    /// Frames played twice, or waited for, to lengthen the delay.
    pub inserted: u64,
    /// Frames left out to shorten the delay.
    pub skipped: u64,
    /// Times that the peer began a new stream or set its clock anew.
    pub resets: u64,
}

/// Holds packets until their frames are due. Made once per call; nothing is allocated later.
#[derive(Debug)]
pub struct JitterBuffer {
    min: i64,
    max: i64,
    epoch: Option<Instant>,
    store: Store,
    /// Ticks of the wire in one of ours.
    scale: i32,
    delay: DelayEstimate,
    stream: Option<Stream>,
    candidate: Option<(Ssrc, Seq)>,
    out: [u8; MOST_FOLLOWING * FRAME_TICKS as usize],
    last_delay: i64,
    stats: JitterStats,
}

/// The stream that is being played. Times are the peer's ticks, unwrapped.
#[derive(Debug)]
struct Stream {
    ssrc: Ssrc,
    newest: Seq,
    /// Which of the 128 packets up to `newest` came: bit 0 is `newest`.
    seen: u128,
    /// A wire time and what it is unwrapped.
    reference: (RtpTicks, i64),
    scale: i32,
    last_arrival: i64,
    /// The next tick to play.
    cursor: i64,
    /// Everything before was played: what comes for it is late.
    played: i64,
    /// One after the newest stored tick.
    head: i64,
    playing: bool,
    /// Frames concealed while waiting at `cursor`.
    waited: u32,
    since_adjusted: u32,
}

impl JitterBuffer {
    /// Makes an empty buffer for G.711. Bounds out of order are put in order.
    #[must_use]
    pub fn new(config: JitterConfig) -> Self {
        Self::with_store(config, Store::Octets(Box::default()), 1)
    }

    /// Makes an empty buffer for Opus, whose clock runs at 48 kHz (RFC 7587 §4.1).
    #[must_use]
    pub fn opus(config: JitterConfig) -> Self {
        Self::with_store(config, Store::Packets(Packets::new()), 6)
    }

    fn with_store(config: JitterConfig, store: Store, scale: i32) -> Self {
        let ticks = |ms: u32| i64::from(ms.min(LONGEST_MS)) * TICKS_PER_MS;
        let min = ticks(config.min_ms.max(20));
        let max = ticks(config.max_ms).max(min);
        Self {
            min,
            max,
            epoch: None,
            store,
            scale,
            delay: DelayEstimate::new(ticks(config.start_ms).clamp(min, max) - TICKS_PER_MS * 5),
            stream: None,
            candidate: None,
            out: [0; MOST_FOLLOWING * FRAME_TICKS as usize],
            last_delay: 0,
            stats: JitterStats::default(),
        }
    }

    /// Takes a packet that arrived at `now`. Keys, comfort noise and other types go elsewhere.
    pub fn push(&mut self, now: Instant, packet: &RtpPacket<'_>) -> Pushed {
        let Some(len) = self.store.ticks_of(packet) else { return Pushed::Ignored };
        self.stats.received += 1;
        let now = self.ticks(now);
        if !self.admit(now, packet) {
            return Pushed::Probation;
        }
        let Some(stream) = &mut self.stream else { return Pushed::Ignored };

        let ahead = packet.seq.since(stream.newest);
        if ahead > 0 {
            stream.seen = if ahead < 128 { stream.seen << ahead | 1 } else { 1 };
            stream.newest = packet.seq;
        } else {
            let bit = 1u128.checked_shl(u32::from(ahead.unsigned_abs())).unwrap_or(0);
            if stream.seen & bit != 0 {
                self.stats.duplicate += 1;
                return Pushed::Duplicate;
            }
            stream.seen |= bit;
            self.stats.reordered += 1;
        }
        stream.last_arrival = now;
        let start = stream.unwrap(packet.ticks);
        let end = start + len;
        if ahead > 0 {
            stream.reference = (packet.ticks, start);
        }
        self.delay.observe(now, now - start);

        // Before it plays, the cursor stands on the earliest packet that came.
        let nothing_held = stream.head <= stream.cursor;
        let earlier = start < stream.cursor && stream.head - start < CAPACITY as i64;
        if !stream.playing && (nothing_held || earlier) {
            stream.cursor = start.max(stream.played);
        }
        // What is kept whole cannot be begun in the middle.
        let begun = start < stream.cursor && matches!(self.store, Store::Packets(_));
        if end <= stream.cursor || begun {
            self.stats.late += 1;
            return Pushed::Late;
        }
        if end - stream.cursor > CAPACITY as i64 {
            // Hundreds of packets at once after a stall: what is this new makes the rest worthless.
            self.store.clear_all();
            stream.cursor = start;
            stream.played = start;
            self.stats.skipped += 1;
        }
        match &mut self.store {
            Store::Octets(ring) => ring.put(start, start.max(stream.cursor), packet),
            Store::Packets(packets) => packets.put(start, end, packet.payload),
        }
        stream.head = stream.head.max(end);
        Pushed::Stored
    }

    /// Returns what to play at `now`. Call it once per 20 ms.
    pub fn pop(&mut self, now: Instant) -> Frame<'_> {
        let now = self.ticks(now);
        let target = self.target();
        let Some(stream) = &mut self.stream else { return Frame::Empty };
        let Some(shortest) = self.delay.shortest_transit() else { return Frame::Empty };
        let mut delay = now - shortest - stream.cursor;
        if !stream.playing {
            if stream.head <= stream.cursor || delay < target {
                return Frame::Empty;
            }
            stream.playing = true;
            stream.waited = 0;
        }
        stream.since_adjusted = stream.since_adjusted.saturating_add(1);

        // A packet that we waited for and concealed will not come: go on after it.
        while stream.waited > 0 && !self.store.has(stream.cursor) && stream.head > stream.cursor + FRAME {
            stream.waited -= 1;
            self.stats.lost += 1;
            self.store.pass(stream);
            delay -= FRAME;
        }
        let hopeless = delay > self.max + FRAME * 5;
        while (hopeless && delay > target + FRAME && stream.head > stream.cursor + FRAME)
            || (delay > target + FRAME + HYSTERESIS
                && self.store.has(stream.cursor)
                && self.store.has(stream.cursor + FRAME)
                && (self.store.is_quiet(stream.cursor)
                    || (delay > target + 3 * FRAME && stream.since_adjusted > 10)))
        {
            self.store.pass(stream);
            delay -= FRAME;
            stream.since_adjusted = 0;
            self.stats.skipped += 1;
            if !hopeless {
                break;
            }
        }

        if !self.store.has(stream.cursor) {
            let more = stream.head > stream.cursor + FRAME;
            if more && delay >= target - HYSTERESIS {
                self.stats.lost += 1;
                self.store.pass(stream);
            } else if !more && stream.waited >= PATIENCE {
                // Not late but silent: begin anew, with the full delay, when something comes.
                stream.playing = false;
                self.store.drop_rest(stream);
                return Frame::Empty;
            } else {
                stream.waited += 1;
                self.stats.inserted += 1;
            }
            self.stats.concealed += 1;
            return Frame::Lost;
        };
        stream.waited = 0;
        self.last_delay = delay;
        let too_short = delay < target - HYSTERESIS && stream.since_adjusted > 1;
        let again = too_short && self.store.is_quiet(stream.cursor);
        if again {
            stream.since_adjusted = 0;
            self.stats.inserted += 1;
        }
        match &mut self.store {
            Store::Octets(ring) => {
                let out = &mut self.out[..FRAME_TICKS as usize];
                let kind = ring.copy(stream.cursor, out);
                if !again {
                    self.store.pass(stream);
                }
                Frame::Audio { payload_type: kind - 1, payload: out }
            }
            // A decoder must not get a packet twice: it makes up a frame in between.
            Store::Packets(_) if again => {
                self.stats.concealed += 1;
                Frame::Lost
            }
            Store::Packets(packets) => {
                let which = packets.take(stream.cursor);
                self.store.pass(stream);
                match &self.store {
                    Store::Packets(packets) => Frame::Packets(packets.parts(which)),
                    Store::Octets(_) => Frame::Empty,
                }
            }
        }
    }

    /// After [`Frame::Lost`]: the packet behind the frame, which may carry a copy of it. None where the frame may
    /// still come, and for G.711.
    #[must_use]
    pub fn behind(&self) -> Option<&[u8]> {
        match (&self.store, &self.stream) {
            (Store::Packets(packets), Some(stream)) => packets.beginning_at(stream.cursor),
            (Store::Packets(_) | Store::Octets(_), _) => None,
        }
    }

    /// After [`Frame::Lost`]: what follows the gap, its payload type and 160 or 320 octets, if it is G.711 and there
    /// already. None where the frame may still come.
    pub fn following(&mut self) -> Option<(u8, &[u8])> {
        let (Store::Octets(ring), Some(stream)) = (&self.store, &self.stream) else { return None };
        let frames = ring.frames_at(stream.cursor, MOST_FOLLOWING);
        let out = &mut self.out[..frames * FRAME_TICKS as usize];
        (!out.is_empty()).then(|| (ring.copy(stream.cursor, out) - 1, &*out))
    }

    /// Takes in whether the frame that was decoded last is quiet. G.711 is looked at here.
    pub fn set_quiet(&mut self, quiet: bool) {
        match &mut self.store {
            Store::Packets(packets) => packets.quiet = quiet,
            Store::Octets(ring) => ring.quiet = quiet,
        }
    }

    /// Returns the real delay: how long the last frame of sound was held, compared
    /// with a packet that came the shortest way.
    #[must_use]
    pub fn delay_ms(&self) -> u32 {
        self.delay_ticks() / TICKS_PER_MS as u32
    }

    /// Returns the same in clock ticks, which are samples.
    #[must_use]
    pub fn delay_ticks(&self) -> u32 {
        u32::try_from(self.last_delay.max(0)).unwrap_or(u32::MAX)
    }

    /// Returns the delay that the network asks for at present.
    #[must_use]
    pub fn target_ms(&self) -> u32 {
        (self.target() / TICKS_PER_MS) as u32
    }

    /// Returns what has happened so far.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        self.stats
    }

    fn target(&self) -> i64 {
        self.delay.hold().clamp(self.min, self.max)
    }

    /// Our clock in ticks since the first call.
    fn ticks(&mut self, now: Instant) -> i64 {
        let epoch = *self.epoch.get_or_insert(now);
        let nanos = now.saturating_duration_since(epoch).as_nanos();
        (nanos * u128::from(CLOCK_HZ) / 1_000_000_000) as i64
    }

    /// Decides whether a packet belongs to what is played, or begins something new.
    fn admit(&mut self, now: i64, packet: &RtpPacket<'_>) -> bool {
        let follows = self.candidate.take() == Some((packet.ssrc, packet.seq));
        let Some(stream) = &self.stream else {
            self.begin(now, packet);
            return true;
        };
        let known = stream.ssrc == packet.ssrc;
        let transit = now - stream.unwrap(packet.ticks);
        let off = self.delay.shortest_transit().map_or(0, |shortest| (transit - shortest).abs());
        if known && off <= CLOCK_JUMP && packet.seq.since(stream.newest).unsigned_abs() <= SEQ_JUMP {
            return true;
        }
        // A stray packet must not cut off the stream that plays. One that follows the last in its
        // number, or its own predecessor, or comes after silence, is no stray.
        let silent = now - stream.last_arrival > SILENT;
        if follows || silent || (known && packet.seq == stream.newest.next()) {
            self.stats.resets += 1;
            self.begin(now, packet);
            return true;
        }
        self.candidate = Some((packet.ssrc, packet.seq.next()));
        false
    }

    fn begin(&mut self, now: i64, packet: &RtpPacket<'_>) {
        self.store.clear_all();
        self.delay.restart();
        let start = i64::from(packet.ticks.0) / i64::from(self.scale);
        self.stream = Some(Stream {
            ssrc: packet.ssrc,
            newest: Seq(packet.seq.0.wrapping_sub(1)),
            seen: 0,
            reference: (packet.ticks, start),
            scale: self.scale,
            last_arrival: now,
            cursor: start,
            played: i64::MIN / 2,
            head: start,
            playing: false,
            waited: 0,
            since_adjusted: 0,
        });
    }
}

impl Stream {
    fn unwrap(&self, ticks: RtpTicks) -> i64 {
        self.reference.1 + i64::from(ticks.since(self.reference.0) / self.scale)
    }
}

/// What is held, by time.
#[derive(Debug)]
enum Store {
    Octets(Box<Ring>),
    Packets(Packets),
}

impl Store {
    /// How long a packet lasts, if it is one of ours.
    fn ticks_of(&self, packet: &RtpPacket<'_>) -> Option<i64> {
        match self {
            Self::Octets(_) => Ring::ticks_of(packet),
            Self::Packets(_) => Packets::ticks_of(packet.payload),
        }
    }

    /// Whether all of the frame at `at` is there.
    fn has(&self, at: i64) -> bool {
        match self {
            Self::Octets(ring) => ring.has(at),
            Self::Packets(packets) => packets.has(at),
        }
    }

    /// Whether nobody would hear if the frame at `at` were left out or played twice.
    fn is_quiet(&self, at: i64) -> bool {
        match self {
            Self::Octets(ring) => ring.is_quiet(at),
            Self::Packets(packets) => packets.is_quiet(at),
        }
    }

    /// Leaves the frame at the cursor behind.
    fn pass(&mut self, stream: &mut Stream) {
        self.clear(stream.cursor, stream.cursor + FRAME);
        stream.cursor += FRAME;
        stream.played = stream.cursor;
    }

    /// Leaves a last part that is shorter than a frame behind.
    fn drop_rest(&mut self, stream: &mut Stream) {
        self.clear(stream.cursor, stream.head);
        stream.cursor = stream.cursor.max(stream.head);
        stream.played = stream.cursor;
    }

    fn clear(&mut self, from: i64, to: i64) {
        match self {
            Self::Octets(ring) => ring.clear(from, to),
            Self::Packets(packets) => packets.clear(to),
        }
    }

    fn clear_all(&mut self) {
        match self {
            Self::Octets(ring) => ring.clear_all(),
            Self::Packets(packets) => packets.clear(i64::MAX),
        }
    }
}

/// A second and a little: five times the longest delay.
const CAPACITY: usize = 8_192;

const FRAME: i64 = FRAME_TICKS as i64;

/// Frames behind a gap that help to fill it: two hold the longest pitch period twice.
const MOST_FOLLOWING: usize = 2;

const TICKS_PER_MS: i64 = CLOCK_HZ as i64 / 1_000;

/// No configuration may ask for more; the ring must hold the delay and a burst behind it.
const LONGEST_MS: u32 = 400;

/// Deviation from the target that is not worth a correction: 5 ms.
const HYSTERESIS: i64 = 40;

/// Frames to conceal before deciding that the peer is silent: 100 ms.
const PATIENCE: u32 = 5;

/// A packet more than this off its time, a second, shows a clock that was set anew.
const CLOCK_JUMP: i64 = 8_000;

/// As the longest plausible gap in the numbers (RFC 3550 appendix A.1).
const SEQ_JUMP: u16 = 3_000;

/// After this long without a packet, 60 ms, a new stream is believed at once.
const SILENT: i64 = 480;
