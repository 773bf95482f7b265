//! Offer and answer for one telephone-quality audio stream (RFC 8866, RFC 3264, RFC 4733, RFC 4568, RFC 7587).
//!
//! Reading is lenient, because every PBX writes SDP in its own way; writing is plain. G.711 in both laws, G.722, Opus
//! and telephone events are spoken. Streams other than the first usable audio stream are refused with port 0,
//! one by one and in their order, as RFC 3264 §6 wants.
//!
//! Encryption is agreed by keys in the text, so it is worth as much as the signalling's own.
//!
//! Absent on purpose: DTLS, ICE, bundles and more than one audio stream.

mod crypto;
mod opus;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crypto::Crypto;
pub use crypto::{CryptoSuite, MediaKey, Secure, SecureParams};
pub use opus::OpusParams;

/// An audio codec that a line speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 µ-law, static payload type 0.
    Pcmu,
    /// G.711 A-law, static payload type 8.
    Pcma,
    /// G.722, static payload type 9: twice the band of G.711 in as many octets.
    G722,
    /// Opus (RFC 7587).
    Opus,
}

impl Codec {
    /// Every codec there is.
    const ALL: [Self; 4] = [Self::Pcmu, Self::Pcma, Self::G722, Self::Opus];

    /// Returns the payload type in our own offers: the one that RFC 3551 §6 fixes, or [`OPUS_PAYLOAD_TYPE`].
    pub fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
            Self::G722 => 9,
            Self::Opus => OPUS_PAYLOAD_TYPE,
        }
    }

    /// Returns the encoding name in `rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
            Self::G722 => "G722",
            Self::Opus => "opus",
        }
    }

    /// Returns the rate of the RTP clock in ticks a second; that of Opus is 48 kHz whatever it carries, and that of
    /// G.722 half its sound's (RFC 3551 §4.5.2).
    pub fn clock_hz(self) -> u32 {
        match self {
            Self::Pcmu | Self::Pcma | Self::G722 => 8_000,
            Self::Opus => 48_000,
        }
    }

    /// Returns what `rtpmap` says: Opus is always called stereo (RFC 7587 §7).
    fn encoding(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU/8000",
            Self::Pcma => "PCMA/8000",
            Self::G722 => "G722/8000",
            Self::Opus => "opus/48000/2",
        }
    }
}

/// Which way sound flows, seen from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// We send only.
    SendOnly,
    /// We hear only: the other side holds us and plays something.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// Returns the same thing seen from the other side.
    #[must_use]
    pub fn reversed(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            Self::SendRecv => Self::SendRecv,
            Self::Inactive => Self::Inactive,
        }
    }

    /// Tells whether we may send.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Tells whether we may be sent to.
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// Returns what both sides allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.sends() && other.sends(), self.receives() && other.receives()) {
            (true, true) => Self::SendRecv,
            (true, false) => Self::SendOnly,
            (false, true) => Self::RecvOnly,
            (false, false) => Self::Inactive,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|d| d.name() == text)
    }
}

/// The clock of telephone events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EventClock {
    /// The telephone's, 8 kHz.
    #[default]
    Telephone,
    /// That of Opus, 48 kHz.
    Opus,
}

impl EventClock {
    /// Returns its ticks a second.
    pub fn hz(self) -> u32 {
        match self {
            Self::Telephone => 8_000,
            Self::Opus => 48_000,
        }
    }

    /// Returns the one that runs as the codec's.
    fn of(codec: Codec) -> Self {
        match codec {
            Codec::Pcmu | Codec::Pcma | Codec::G722 => Self::Telephone,
            Codec::Opus => Self::Opus,
        }
    }
}

/// What we bring to the negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMedia {
    /// Where we hear RTP; RTCP is on the next port.
    pub addr: SocketAddr,
    /// Codecs, the best first.
    pub codecs: Vec<Codec>,
    /// Milliseconds of sound a packet that we like to get.
    pub ptime_ms: u8,
    /// Whether telephone events are spoken.
    pub dtmf: bool,
    /// What we allow, seen from us.
    pub direction: Direction,
    /// How we encrypt; `None` for a call in the clear.
    pub secure: Option<Secure>,
}

impl LocalMedia {
    /// A-law before µ-law, 20 ms, telephone events, both ways.
    pub fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            codecs: vec![Codec::Pcma, Codec::Pcmu],
            ptime_ms: 20,
            dtmf: true,
            direction: Direction::SendRecv,
            secure: None,
        }
    }
}

/// What was agreed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaParams {
    /// Where our RTP goes.
    pub remote: SocketAddr,
    /// The codec.
    pub codec: Codec,
    /// The payload type of our packets.
    pub payload_type: u8,
    /// The payload type of the telephone events that we send, if the other side understands them.
    pub dtmf_pt: Option<u8>,
    /// The clock of those events' durations: the codec's, where the other side has that.
    pub dtmf_clock: EventClock,
    /// What the other side wants of Opus; of no meaning with another codec.
    pub opus: OpusParams,
    /// Milliseconds of sound a packet that the other side wants.
    pub ptime_ms: u8,
    /// Which way sound may flow, seen from us.
    pub direction: Direction,
    /// How it is encrypted; `None` for a call in the clear.
    pub secure: Option<SecureParams>,
}

/// Why no agreement was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The text is not a session description.
    #[error("the session description cannot be read")]
    Unreadable,
    /// No audio stream over plain RTP, or it was refused with port 0.
    #[error("the session description has no usable audio stream")]
    NoAudio,
    /// There is audio, in no codec of ours.
    #[error("the session description has no codec in common with ours")]
    NoCommonCodec,
    /// The stream has no address, or a name instead of one.
    #[error("the session description has no usable address")]
    NoAddress,
    /// Encryption is required by one side, and the other does not offer or answer it.
    #[error("one side requires encryption and the other does not do it")]
    NoEncryption,
}

/// The payload type for telephone events in our own offers; answers take over the offerer's.
pub const DTMF_PAYLOAD_TYPE: u8 = 101;

/// The same for events beside Opus, whose clock they share (RFC 4733 §2.5.1.2).
pub const DTMF_OPUS_PAYLOAD_TYPE: u8 = 110;

/// The payload type of Opus in our own offers; answers take over the offerer's.
pub const OPUS_PAYLOAD_TYPE: u8 = 111;

/// The version and id that the `o=` line of one session keeps, and the text that was sent last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdpOrigin {
    id: u64,
    version: u64,
    last: Option<String>,
}

impl SdpOrigin {
    /// Begins a session; `id` should be random.
    pub fn new(id: u64) -> Self {
        // Some peers read the number as signed 32 bits times two; 48 bits fit everybody.
        let id = id & 0xffff_ffff_ffff;
        Self { id, version: id, last: None }
    }

    /// Writes an offer, or an answer that repeats what was agreed.
    pub fn offer(&mut self, local: &LocalMedia) -> String {
        let codecs: Vec<_> = local.codecs.iter().map(|c| (c.payload_type(), *c)).collect();
        let events = [(DTMF_PAYLOAD_TYPE, EventClock::Telephone), (DTMF_OPUS_PAYLOAD_TYPE, EventClock::Opus)];
        let used = |clock| local.dtmf && local.codecs.iter().any(|codec| EventClock::of(*codec) == clock);
        let dtmf: Vec<_> = events.into_iter().filter(|(_, clock)| used(*clock)).collect();
        let (proto, keys) = match &local.secure {
            None => ("RTP/AVP", String::new()),
            Some(secure) => (if secure.required { "RTP/SAVP" } else { "RTP/AVP" }, secure.offer_lines()),
        };
        self.finish(local.addr.ip(), &audio_lines(local, proto, &codecs, &dtmf, local.direction, &keys))
    }

    /// Reads the answer to our offer.
    ///
    /// # Errors
    /// When it takes none of what was offered.
    pub fn read_answer(&self, local: &LocalMedia, answer: &str) -> Result<MediaParams, SdpError> {
        let session = Session::parse(answer)?;
        let stream = session.usable_audio()?;
        let codecs = stream.common_codecs(&local.codecs);
        let secure = local.secure.as_ref().and_then(|secure| secure.read_answer(&stream.keys));
        if secure.is_none() && (stream.is_secure() || local.secure.as_ref().is_some_and(|s| s.required)) {
            return Err(SdpError::NoEncryption);
        }
        Ok(MediaParams { secure, ..stream.agreed(&session, local, &codecs)? })
    }

    /// Answers an offer: the text and what it agrees to. The offerer's order of codecs wins.
    ///
    /// # Errors
    /// When the offer has nothing that we speak; the request then deserves a 488.
    pub fn answer(&mut self, local: &LocalMedia, offer: &str) -> Result<(String, MediaParams), SdpError> {
        let session = Session::parse(offer)?;
        let stream = session.usable_audio()?;
        let codecs = stream.common_codecs(&local.codecs);
        let chosen = local.secure.as_ref().and_then(|secure| secure.choose(&stream.keys));
        let (secure, keys) = match chosen {
            Some((params, line)) => (Some(params), line),
            None => (None, String::new()),
        };
        let params = MediaParams { secure, ..stream.agreed(&session, local, &codecs)? };
        if secure.is_none() && (stream.is_secure() || local.secure.as_ref().is_some_and(|s| s.required)) {
            return Err(SdpError::NoEncryption);
        }
        let chosen = [(params.payload_type, params.codec)];
        let dtmf: Vec<_> = params.dtmf_pt.map(|pt| (pt, params.dtmf_clock)).into_iter().collect();
        let lines = session.streams.iter().map(|other| {
            if std::ptr::eq(other, stream) {
                audio_lines(local, &other.proto, &chosen, &dtmf, params.direction, &keys)
            } else {
                format!("m={} 0 {} {}\r\n", other.kind, other.proto, other.formats.join(" "))
            }
        });
        let lines: String = lines.collect();
        Ok((self.finish(local.addr.ip(), &lines), params))
    }

    /// Puts the session lines in front; the version grows only when the text differs (RFC 3264 §8).
    fn finish(&mut self, ip: IpAddr, media: &str) -> String {
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        let mut tail = format!("s=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n");
        tail.push_str(media);
        if self.last.as_ref().is_some_and(|last| *last != tail) {
            self.version += 1;
        }
        let text = format!("v=0\r\no=- {} {} IN {family} {ip}\r\n{tail}", self.id, self.version);
        self.last = Some(tail);
        text
    }
}

fn audio_lines(
    local: &LocalMedia,
    proto: &str,
    codecs: &[(u8, Codec)],
    dtmf: &[(u8, EventClock)],
    direction: Direction,
    keys: &str,
) -> String {
    let formats: String = codecs
        .iter()
        .map(|(pt, _)| pt)
        .chain(dtmf.iter().map(|(pt, _)| pt))
        .map(|pt| format!(" {pt}"))
        .collect();
    let mut out = format!("m=audio {} {proto}{formats}\r\n", local.addr.port());
    for (pt, codec) in codecs {
        out.push_str(&format!("a=rtpmap:{pt} {}\r\n", codec.encoding()));
        if *codec == Codec::Opus {
            out.push_str(&opus::ours(*pt));
        }
    }
    for (pt, clock) in dtmf {
        let hz = clock.hz();
        out.push_str(&format!("a=rtpmap:{pt} telephone-event/{hz}\r\na=fmtp:{pt} 0-16\r\n"));
    }
    out.push_str(keys);
    out.push_str(&format!("a=ptime:{}\r\na={}\r\n", local.ptime_ms, direction.name()));
    out
}

/// A description as far as it is read.
#[derive(Debug, Default)]
struct Session {
    connection: Option<IpAddr>,
    direction: Option<Direction>,
    streams: Vec<Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    kind: String,
    port: u16,
    proto: String,
    formats: Vec<String>,
    connection: Option<IpAddr>,
    direction: Option<Direction>,
    /// Payload type, encoding name in upper case, clock rate.
    maps: Vec<(u8, String, u32)>,
    /// Payload type and what stands behind it.
    parameters: Vec<(u8, String)>,
    ptime_ms: Option<u8>,
    keys: Vec<Crypto>,
}

/// More streams than this are an attack; the answer would have to repeat each.
const MAX_STREAMS: usize = 16;
/// Payload types are 7 bits.
const MAX_FORMATS: usize = 128;
/// Lines with keys that are looked at.
const MAX_KEYS: usize = 16;

impl Session {
    fn parse(text: &str) -> Result<Self, SdpError> {
        let mut session = Session::default();
        let mut has_version = false;
        for line in text.lines() {
            let line = line.trim_end();
            let Some((kind, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            match kind {
                "v" => has_version = true,
                "c" => {
                    let address = parse_connection(value);
                    match session.streams.last_mut() {
                        Some(stream) => stream.connection = address,
                        None => session.connection = address,
                    }
                }
                "m" => {
                    if session.streams.len() >= MAX_STREAMS {
                        return Err(SdpError::Unreadable);
                    }
                    session.streams.push(parse_media(value).ok_or(SdpError::Unreadable)?);
                }
                "a" => session.read_attribute(value),
                _ => {}
            }
        }
        if has_version { Ok(session) } else { Err(SdpError::Unreadable) }
    }

    fn read_attribute(&mut self, attribute: &str) {
        let direction = Direction::parse(attribute);
        let Some(stream) = self.streams.last_mut() else {
            self.direction = direction.or(self.direction);
            return;
        };
        stream.direction = direction.or(stream.direction);
        if let Some(map) = attribute.strip_prefix("rtpmap:") {
            let Some((pt, encoding)) = map.trim().split_once([' ', '\t']) else { return };
            let mut parts = encoding.trim().split('/');
            let name = parts.next().unwrap_or_default().to_ascii_uppercase();
            let rate = parts.next().and_then(|rate| rate.trim().parse().ok());
            if let (Ok(pt), Some(rate)) = (pt.parse::<u8>(), rate)
                && stream.maps.len() < MAX_FORMATS
            {
                stream.maps.push((pt, name, rate));
            }
        } else if let Some(parameters) = attribute.strip_prefix("fmtp:") {
            let Some((pt, text)) = parameters.trim().split_once([' ', '\t']) else { return };
            if let Ok(pt) = pt.parse::<u8>()
                && stream.parameters.len() < MAX_FORMATS
            {
                stream.parameters.push((pt, text.to_owned()));
            }
        } else if let Some(crypto) = attribute.strip_prefix("crypto:") {
            if stream.keys.len() < MAX_KEYS {
                stream.keys.extend(Crypto::parse(crypto));
            }
        } else if let Some(ptime) = attribute.strip_prefix("ptime:") {
            // Some write "20.0".
            let whole = ptime.trim().split('.').next().unwrap_or_default();
            stream.ptime_ms = whole.parse::<u8>().ok().filter(|ms| (10..=60).contains(ms));
        }
    }

    fn usable_audio(&self) -> Result<&Stream, SdpError> {
        self.streams
            .iter()
            .find(|stream| {
                stream.kind == "audio"
                    && stream.port != 0
                    && ["RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF"]
                        .iter()
                        .any(|p| stream.proto.eq_ignore_ascii_case(p))
            })
            .ok_or(SdpError::NoAudio)
    }
}

impl Stream {
    fn is_secure(&self) -> bool {
        self.proto.to_ascii_uppercase().starts_with("RTP/SAVP")
    }

    /// Returns the stream's payload types that mean a codec of ours, in the stream's order.
    fn common_codecs(&self, ours: &[Codec]) -> Vec<(u8, Codec)> {
        let formats = self.formats.iter().filter_map(|format| format.parse::<u8>().ok());
        formats.filter_map(|pt| self.codec_of(pt).filter(|c| ours.contains(c)).map(|c| (pt, c))).collect()
    }

    fn codec_of(&self, pt: u8) -> Option<Codec> {
        let named = self.maps.iter().find(|(have, _, _)| *have == pt);
        match named {
            Some((_, name, hz)) => {
                Codec::ALL.into_iter().find(|c| c.clock_hz() == *hz && c.name().eq_ignore_ascii_case(name))
            }
            None => Codec::ALL.into_iter().filter(|c| *c != Codec::Opus).find(|c| c.payload_type() == pt),
        }
    }

    /// Returns the payload type of telephone events and their clock: the codec's own, or else the telephone's, which
    /// many write beside Opus.
    fn dtmf(&self, codec: Codec) -> Option<(u8, EventClock)> {
        let with = |clock: EventClock| {
            let listed = |pt: u8| self.formats.iter().any(|format| format.parse() == Ok(pt));
            let is = |(pt, name, rate): &&(u8, String, u32)| {
                name == "TELEPHONE-EVENT" && *rate == clock.hz() && listed(*pt)
            };
            self.maps.iter().find(is).map(|(pt, _, _)| (*pt, clock))
        };
        with(EventClock::of(codec)).or_else(|| with(EventClock::Telephone))
    }

    fn opus(&self, payload_type: u8) -> OpusParams {
        let of = self.parameters.iter().find(|(pt, _)| *pt == payload_type);
        of.map(|(_, text)| OpusParams::parse(text)).unwrap_or_default()
    }

    fn agreed(
        &self,
        session: &Session,
        local: &LocalMedia,
        codecs: &[(u8, Codec)],
    ) -> Result<MediaParams, SdpError> {
        let (payload_type, codec) = *codecs.first().ok_or(SdpError::NoCommonCodec)?;
        let ip = self.connection.or(session.connection).ok_or(SdpError::NoAddress)?;
        let theirs = self.direction.or(session.direction).unwrap_or(Direction::SendRecv).reversed();
        // Hold as it was before RFC 3264: an address of zeros means "send me nothing".
        let theirs =
            if ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) { theirs.and(Direction::RecvOnly) } else { theirs };
        let dtmf = self.dtmf(codec).filter(|_| local.dtmf);
        Ok(MediaParams {
            remote: SocketAddr::new(ip, self.port),
            codec,
            payload_type,
            dtmf_pt: dtmf.map(|(pt, _)| pt),
            dtmf_clock: dtmf.map_or(EventClock::of(codec), |(_, clock)| clock),
            opus: self.opus(payload_type),
            ptime_ms: self.ptime_ms.unwrap_or(20),
            direction: theirs.and(local.direction),
            secure: None,
        })
    }
}

fn parse_connection(value: &str) -> Option<IpAddr> {
    let mut words = value.split_ascii_whitespace();
    if words.next()? != "IN" || !matches!(words.next()?, "IP4" | "IP6") {
        return None;
    }
    // A multicast address would carry `/ttl`.
    words.next()?.split('/').next()?.parse().ok()
}

fn parse_media(value: &str) -> Option<Stream> {
    let mut words = value.split_ascii_whitespace();
    let kind = words.next()?.to_ascii_lowercase();
    let port = words.next()?.split('/').next()?.parse().ok()?;
    let proto = words.next()?.to_owned();
    let formats = words.take(MAX_FORMATS).map(str::to_owned).collect();
    Some(Stream { kind, port, proto, formats, ..Stream::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn local() -> LocalMedia {
        LocalMedia::new("192.0.2.1:4000".parse().unwrap())
    }

    fn sdp(lines: &str) -> String {
        format!("v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\n{}", lines.replace('\n', "\r\n"))
    }

    #[test]
    fn an_offer_answered_by_ourselves_agrees_on_both_sides() {
        let mut caller = SdpOrigin::new(7);
        let mut callee = SdpOrigin::new(8);
        let offer = caller.offer(&local());
        let mut there = LocalMedia::new("[2001:db8::5]:6000".parse().unwrap());
        there.codecs = vec![Codec::Pcmu, Codec::Pcma];

        let (answer, at_callee) = callee.answer(&there, &offer).unwrap();
        let at_caller = caller.read_answer(&local(), &answer).unwrap();

        assert_eq!(at_callee.codec, Codec::Pcma, "the offerer's order wins");
        assert_eq!(at_caller.codec, Codec::Pcma);
        assert_eq!(at_callee.remote, "192.0.2.1:4000".parse().unwrap());
        assert_eq!(at_caller.remote, "[2001:db8::5]:6000".parse().unwrap());
        assert_eq!((at_caller.dtmf_pt, at_callee.dtmf_pt), (Some(101), Some(101)));
        assert_eq!((at_caller.ptime_ms, at_caller.payload_type), (20, 8));
    }

    #[test]
    fn an_offer_is_written_plainly() {
        let text = SdpOrigin::new(7).offer(&local());
        assert_eq!(
            text.replace("\r\n", "\n"),
            "v=0\no=- 7 7 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\n\
             m=audio 4000 RTP/AVP 8 0 101\na=rtpmap:8 PCMA/8000\na=rtpmap:0 PCMU/8000\n\
             a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\na=ptime:20\na=sendrecv\n"
        );
    }

    #[test]
    fn the_version_grows_only_when_the_text_changes() {
        let mut origin = SdpOrigin::new(7);
        let first = origin.offer(&local());
        assert_eq!(origin.offer(&local()), first);
        let held = LocalMedia { direction: Direction::SendOnly, ..local() };
        assert!(origin.offer(&held).contains("o=- 7 8 "));
    }

    #[test]
    fn an_offer_without_a_codec_of_ours_is_refused() {
        let offer = sdp("c=IN IP4 192.0.2.9\nt=0 0\nm=audio 5000 RTP/AVP 18 9\na=rtpmap:18 G729/8000\n");
        assert_eq!(SdpOrigin::new(1).answer(&local(), &offer), Err(SdpError::NoCommonCodec));
        let secure = sdp("c=IN IP4 192.0.2.9\nm=audio 5000 RTP/SAVP 0\n");
        assert_eq!(SdpOrigin::new(1).answer(&local(), &secure), Err(SdpError::NoEncryption));
        let refused = sdp("c=IN IP4 192.0.2.9\nm=audio 0 RTP/AVP 0\n");
        assert_eq!(SdpOrigin::new(1).read_answer(&local(), &refused), Err(SdpError::NoAudio));
        assert_eq!(SdpOrigin::new(1).answer(&local(), "hello"), Err(SdpError::Unreadable));
        let nowhere = sdp("m=audio 5000 RTP/AVP 0\n");
        assert_eq!(SdpOrigin::new(1).answer(&local(), &nowhere), Err(SdpError::NoAddress));
    }

    #[test]
    fn a_video_stream_is_refused_in_its_place() {
        let offer = sdp("c=IN IP4 192.0.2.9\nm=video 6000 RTP/AVP 96\na=rtpmap:96 H264/90000\na=sendonly\n\
             m=audio 5000 RTP/AVP 0 96\na=rtpmap:96 telephone-event/8000\na=ptime:30\n");
        let (answer, agreed) = SdpOrigin::new(1).answer(&local(), &offer).unwrap();
        let video = answer.find("m=video 0 RTP/AVP 96").unwrap();
        assert!(video < answer.find("m=audio 4000 RTP/AVP 0 96").unwrap());
        assert_eq!((agreed.dtmf_pt, agreed.ptime_ms), (Some(96), 30));
        assert_eq!(agreed.direction, Direction::SendRecv, "the video's direction is its own");
    }

    #[test]
    fn g_722_is_known_by_its_number_alone_and_only_where_it_is_ours() {
        let wide = LocalMedia { codecs: vec![Codec::G722, Codec::Pcma], ..local() };
        let offer = SdpOrigin::new(7).offer(&wide);
        assert!(
            offer.contains("RTP/AVP 9 8 101\r\n") && offer.contains("a=rtpmap:9 G722/8000\r\n"),
            "{offer}"
        );
        let lines = "c=IN IP4 192.0.2.9\nm=audio 6000 RTP/AVP 9 8 101\na=rtpmap:101 telephone-event/8000\n";
        let (_, agreed) = SdpOrigin::new(8).answer(&wide, &sdp(lines)).unwrap();
        assert_eq!((agreed.codec, agreed.payload_type, agreed.dtmf_pt), (Codec::G722, 9, Some(101)));
        let (_, agreed) = SdpOrigin::new(8).answer(&local(), &sdp(lines)).unwrap();
        assert_eq!(agreed.codec, Codec::Pcma, "who was not told to speak it does not");
    }

    #[test]
    fn a_dynamic_number_for_a_known_codec_is_understood_and_a_misused_static_one_is_not() {
        let offer = sdp(
            "c=IN IP4 192.0.2.9\nm=audio 5000 RTP/AVP 0 97\na=rtpmap:0 L16/44100\na=rtpmap:97 pcma/8000\n",
        );
        let (answer, agreed) = SdpOrigin::new(1).answer(&local(), &offer).unwrap();
        assert_eq!((agreed.codec, agreed.payload_type), (Codec::Pcma, 97));
        assert!(answer.contains("a=rtpmap:97 PCMA/8000"));
    }

    fn opus_first() -> LocalMedia {
        LocalMedia { codecs: vec![Codec::Opus, Codec::Pcma], ..local() }
    }

    #[test]
    fn opus_is_offered_with_its_clock_and_what_we_want_of_it() {
        let text = SdpOrigin::new(7).offer(&opus_first()).replace("\r\n", "\n");
        let media = &text[text.find("m=").unwrap()..];
        assert_eq!(
            media,
            "m=audio 4000 RTP/AVP 111 8 101 110\na=rtpmap:111 opus/48000/2\n\
             a=fmtp:111 maxplaybackrate=8000;sprop-maxcapturerate=8000;maxaveragebitrate=24000;stereo=0;\
             sprop-stereo=0;useinbandfec=1;usedtx=0\na=rtpmap:8 PCMA/8000\n\
             a=rtpmap:101 telephone-event/8000\na=fmtp:101 0-16\n\
             a=rtpmap:110 telephone-event/48000\na=fmtp:110 0-16\na=ptime:20\na=sendrecv\n"
        );
    }

    #[test]
    fn two_that_have_opus_agree_on_it_and_one_that_has_not_gets_the_next() {
        let (mut caller, mut callee) = (SdpOrigin::new(7), SdpOrigin::new(8));
        let offer = caller.offer(&opus_first());
        let (answer, at_callee) = callee.answer(&opus_first(), &offer).unwrap();
        let at_caller = caller.read_answer(&opus_first(), &answer).unwrap();
        for agreed in [at_caller, at_callee] {
            assert_eq!((agreed.codec, agreed.payload_type), (Codec::Opus, 111));
            assert_eq!((agreed.dtmf_pt, agreed.dtmf_clock), (Some(110), EventClock::Opus));
            assert_eq!(agreed.opus, OpusParams { fec: true, max_bitrate: 24_000 });
        }
        let (answer, at_callee) = callee.answer(&local(), &offer).unwrap();
        let at_caller = caller.read_answer(&opus_first(), &answer).unwrap();
        for agreed in [at_caller, at_callee] {
            assert_eq!((agreed.codec, agreed.dtmf_pt), (Codec::Pcma, Some(101)));
            assert_eq!(agreed.dtmf_clock, EventClock::Telephone);
        }
    }

    #[test]
    fn opus_as_others_write_it_is_understood() {
        let offer = sdp("c=IN IP4 192.0.2.9\nm=audio 5000 RTP/AVP 96 0 97\na=rtpmap:96 OPUS/48000/2\n\
             a=fmtp:96 minptime=10; useinbandfec=1; maxaveragebitrate=16000\na=rtpmap:97 telephone-event/8000\n");
        let (answer, agreed) = SdpOrigin::new(1).answer(&opus_first(), &offer).unwrap();
        assert_eq!((agreed.codec, agreed.payload_type), (Codec::Opus, 96));
        assert_eq!(agreed.opus, OpusParams { fec: true, max_bitrate: 16_000 });
        assert_eq!((agreed.dtmf_pt, agreed.dtmf_clock), (Some(97), EventClock::Telephone));
        assert!(answer.contains("a=rtpmap:96 opus/48000/2\r\na=fmtp:96 maxplaybackrate=8000;"), "{answer}");
        assert!(answer.contains("a=rtpmap:97 telephone-event/8000"), "{answer}");
        // At another clock it is something else.
        let odd = sdp("c=IN IP4 192.0.2.9\nm=audio 5000 RTP/AVP 96\na=rtpmap:96 opus/16000\n");
        assert_eq!(SdpOrigin::new(1).answer(&opus_first(), &odd), Err(SdpError::NoCommonCodec));
    }

    #[test]
    fn hold_in_its_three_spellings_is_understood() {
        let hold = |lines: &str| {
            let offer = sdp(&format!("{lines}m=audio 5000 RTP/AVP 0\n"));
            SdpOrigin::new(1).answer(&local(), &offer).unwrap().1.direction
        };
        assert_eq!(hold("c=IN IP4 192.0.2.9\na=sendonly\n"), Direction::RecvOnly);
        assert_eq!(hold("c=IN IP4 192.0.2.9\na=inactive\n"), Direction::Inactive);
        assert_eq!(hold("c=IN IP4 0.0.0.0\n"), Direction::RecvOnly);
        assert_eq!(hold("c=IN IP4 192.0.2.9\n"), Direction::SendRecv);
    }

    fn secure(seed: u8, required: bool) -> LocalMedia {
        LocalMedia { secure: Some(Secure::new([seed; 30], required)), ..local() }
    }

    #[test]
    fn keys_are_exchanged_where_both_sides_can() {
        for (ours, theirs) in [(true, true), (true, false), (false, true), (false, false)] {
            let (mut caller, mut callee) = (SdpOrigin::new(7), SdpOrigin::new(8));
            let offer = caller.offer(&secure(1, ours));
            assert_eq!(offer.contains("RTP/SAVP"), ours);
            let (answer, at_callee) = callee.answer(&secure(2, theirs), &offer).unwrap();
            let at_caller = caller.read_answer(&secure(1, ours), &answer).unwrap();
            let (at_caller, at_callee) = (at_caller.secure.unwrap(), at_callee.secure.unwrap());
            assert_eq!((at_caller.local, at_caller.remote), (at_callee.remote, at_callee.local));
            assert_eq!(at_caller.local, MediaKey([1; 30]));
            assert_eq!(at_caller.suite, CryptoSuite::AesCm128Sha1Tag80);
        }
    }

    #[test]
    fn who_requires_encryption_gets_it_or_no_call() {
        let (mut caller, mut callee) = (SdpOrigin::new(7), SdpOrigin::new(8));
        let refused = Err(SdpError::NoEncryption);
        let open = caller.offer(&local());
        assert_eq!(callee.answer(&secure(2, true), &open), refused);
        let required = caller.offer(&secure(1, true));
        assert_eq!(callee.answer(&local(), &required), refused);
        // Offered to who can: who cannot answers in the clear.
        let offered = caller.offer(&secure(1, false));
        let (answer, agreed) = callee.answer(&local(), &offered).unwrap();
        assert_eq!(agreed.secure, None);
        assert_eq!(caller.read_answer(&secure(1, false), &answer).unwrap().secure, None);
        assert_eq!(caller.read_answer(&secure(1, true), &answer).map(|_| ()), Err(SdpError::NoEncryption));
    }

    proptest! {
        #[test]
        fn whatever_we_offer_we_can_answer(
            port in 1u16.., v6: bool, dtmf: bool, swap: bool, ptime in 10u8..=60,
            direction in prop_oneof![
                Just(Direction::SendRecv), Just(Direction::SendOnly), Just(Direction::RecvOnly), Just(Direction::Inactive)
            ],
        ) {
            let ip: IpAddr = if v6 { "2001:db8::1".parse().unwrap() } else { "192.0.2.1".parse().unwrap() };
            let mut codecs = vec![Codec::Pcma, Codec::Opus, Codec::Pcmu];
            if swap { codecs.reverse(); }
            let mut there = local();
            there.codecs = codecs.clone();
            let offered = LocalMedia { addr: SocketAddr::new(ip, port), codecs, ptime_ms: ptime, dtmf, direction, secure: None };
            let offer = SdpOrigin::new(3).offer(&offered);
            let (_, agreed) = SdpOrigin::new(4).answer(&there, &offer).unwrap();
            prop_assert_eq!(agreed.remote, offered.addr);
            prop_assert_eq!(agreed.codec, offered.codecs[0]);
            prop_assert_eq!(agreed.ptime_ms, ptime);
            prop_assert_eq!(agreed.dtmf_pt.is_some(), dtmf);
            prop_assert_eq!(agreed.direction, direction.reversed());
        }

        #[test]
        fn no_text_panics_the_reader(text in "(([vcmao]=)?[ -~]{0,30}\n){0,12}", any in ".*") {
            for text in [format!("v=0\n{text}"), any] {
                let _ = SdpOrigin::new(1).answer(&opus_first(), &text);
                let _ = SdpOrigin::new(1).read_answer(&opus_first(), &text);
            }
        }
    }
}
