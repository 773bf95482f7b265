//! From packets to frames and back, for one call: made when the call is attached, and nothing is allocated later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use trunkline_audio::g722::{self, G722_PAYLOAD_TYPE};
use trunkline_audio::opus::{OpusDecoder, OpusEncoder, OpusError, OpusSettings};
use trunkline_audio::plc::Plc;
use trunkline_audio::resample::Resampler;
use trunkline_audio::{Codec, FRAME};
use trunkline_rtp::{Frame, JitterBuffer, JitterConfig, RtpPacket};
use trunkline_sip::sdp::{Codec as SdpCodec, MediaParams, OPUS_PAYLOAD_TYPE, OpusParams};

/// Octets of the longest packet of 20 ms that we send: what libopus makes at our bitrates is far less.
pub(crate) const LONGEST_PAYLOAD: usize = 400;

/// Calls with Opus up to which each gets the effort that is set.
const EASY_CALLS: usize = 20;

/// So many more cost each of them one step.
const STEP_CALLS: usize = 10;

/// What a call speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaCodec {
    /// G.711.
    G711(Codec),
    /// G.722, whose wider band is left at the door: the rest of a call lives at 8 kHz.
    G722,
    /// Opus, and what the other side wants of it.
    Opus(OpusParams),
}

impl MediaCodec {
    /// Takes over what was agreed in the signalling.
    pub fn agreed(media: &MediaParams) -> Self {
        match media.codec {
            SdpCodec::Pcmu => Self::G711(Codec::Pcmu),
            SdpCodec::Pcma => Self::G711(Codec::Pcma),
            SdpCodec::G722 => Self::G722,
            SdpCodec::Opus => Self::Opus(media.opus),
        }
    }

    /// Returns the rate of the RTP clock in ticks a second.
    pub fn clock_hz(self) -> u32 {
        match self {
            Self::G711(_) | Self::G722 => 8_000,
            Self::Opus(_) => 48_000,
        }
    }

    /// Makes the buffer for what comes.
    pub(crate) fn jitter_buffer(self) -> JitterBuffer {
        match self {
            Self::G711(_) | Self::G722 => JitterBuffer::new(JitterConfig::default()),
            // A copy of a lost frame is in the next packet, which must be there by then.
            Self::Opus(_) => JitterBuffer::opus(JitterConfig { min_ms: 40, ..JitterConfig::default() }),
        }
    }
}

/// How many calls share the media thread's effort for Opus, and how much each gets at most.
#[derive(Clone, Debug)]
pub(crate) struct Effort {
    calls: Arc<AtomicUsize>,
    most: u8,
}

impl Effort {
    pub(crate) fn new(most: u8) -> Self {
        Self { calls: Arc::default(), most }
    }

    fn share(&self) -> u8 {
        complexity(self.most, self.calls.load(Ordering::Relaxed))
    }
}

/// The effort of each of `calls`, by the scale of libopus: what is set while they are few, and less the more they are.
fn complexity(most: u8, calls: usize) -> u8 {
    let steps = calls.saturating_sub(EASY_CALLS).div_ceil(STEP_CALLS);
    most.saturating_sub(u8::try_from(steps).unwrap_or(u8::MAX))
}

/// The coder of one call.
#[derive(Debug)]
pub(crate) enum Coder {
    G711 { codec: Codec, plc: Box<Plc> },
    G722(Box<G722>),
    Opus(Box<Opus>),
}

/// G.722 and the way between its 16 kHz and ours. The buffers have room for a frame from the beginning.
#[derive(Debug)]
pub(crate) struct G722 {
    encoder: g722::Encoder,
    decoder: g722::Decoder,
    widen: Resampler,
    narrow: Resampler,
    wide: Vec<i16>,
    near: Vec<i16>,
    plc: Plc,
}

impl G722 {
    fn new() -> Self {
        Self {
            encoder: g722::Encoder::new(),
            decoder: g722::Decoder::new(),
            widen: Resampler::new(8_000, 16_000),
            narrow: Resampler::new(16_000, 8_000),
            wide: Vec::with_capacity(2 * FRAME + 2),
            near: Vec::with_capacity(FRAME + 2),
            plc: Plc::new(),
        }
    }

    fn encode(&mut self, tx: &[i16; FRAME], octets: &mut [u8]) {
        self.wide.clear();
        self.widen.process(tx, &mut self.wide);
        self.encoder.encode(&self.wide, octets);
    }

    fn decode(&mut self, octets: &[u8], rx: &mut [i16; FRAME]) {
        let mut wide = [0; 2 * FRAME];
        self.decoder.decode(octets, &mut wide);
        self.near.clear();
        self.narrow.process(&wide, &mut self.near);
        for (to, sample) in rx.iter_mut().zip(&self.near) {
            *to = *sample;
        }
        self.plc.good(rx);
    }
}

#[derive(Debug)]
pub(crate) struct Opus {
    encoder: OpusEncoder,
    decoder: OpusDecoder,
    effort: Effort,
}

impl Drop for Opus {
    fn drop(&mut self) {
        self.effort.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Coder {
    /// Makes a coder.
    ///
    /// # Errors
    /// When libopus gives none: there is no memory.
    pub(crate) fn new(codec: MediaCodec, effort: &Effort) -> Result<Self, OpusError> {
        Ok(match codec {
            MediaCodec::G711(codec) => Self::G711 { codec, plc: Box::new(Plc::new()) },
            MediaCodec::G722 => Self::G722(Box::new(G722::new())),
            MediaCodec::Opus(wanted) => {
                let (bitrate, fec, complexity) = (wanted.max_bitrate, wanted.fec, effort.share());
                let encoder = OpusEncoder::new(OpusSettings { bitrate, fec, complexity })?;
                let decoder = OpusDecoder::new()?;
                effort.calls.fetch_add(1, Ordering::Relaxed);
                Self::Opus(Box::new(Opus { encoder, decoder, effort: effort.clone() }))
            }
        })
    }

    /// Gives a packet of the call's codec the type that the jitter buffer knows it by; false for one of another codec.
    pub(crate) fn claim(&self, packet: &mut RtpPacket<'_>, agreed: u8) -> bool {
        match self {
            Self::G711 { .. } if Codec::from_payload_type(packet.payload_type).is_some() => true,
            Self::G711 { codec, .. } if packet.payload_type == agreed => {
                packet.payload_type = codec.payload_type();
                true
            }
            Self::G711 { .. } => false,
            Self::G722(_) if [agreed, G722_PAYLOAD_TYPE].contains(&packet.payload_type) => {
                packet.payload_type = G722_PAYLOAD_TYPE;
                true
            }
            Self::G722(_) => false,
            // What we offered may have another number at the other side.
            Self::Opus(_) => packet.payload_type == agreed || packet.payload_type == OPUS_PAYLOAD_TYPE,
        }
    }

    /// Makes the next frame of what came.
    pub(crate) fn decode(&mut self, now: Instant, jitter: &mut JitterBuffer, rx: &mut [i16; FRAME]) {
        match self {
            Self::G711 { codec, plc } => match jitter.pop(now) {
                Frame::Audio { payload_type, payload } => {
                    Codec::from_payload_type(payload_type).unwrap_or(*codec).decode(payload, rx);
                    plc.good(rx);
                }
                Frame::Lost | Frame::Packets(_) => match jitter.following() {
                    Some((payload_type, octets)) => {
                        let mut following = [0; 2 * FRAME];
                        let following = &mut following[..octets.len().min(2 * FRAME)];
                        Codec::from_payload_type(payload_type).unwrap_or(*codec).decode(octets, following);
                        plc.conceal_before(rx, following);
                    }
                    None => plc.conceal(rx),
                },
                Frame::Empty => plc.reset(),
            },
            Self::G722(g722) => {
                match jitter.pop(now) {
                    Frame::Audio { payload, .. } => g722.decode(payload, rx),
                    Frame::Lost | Frame::Packets(_) => g722.plc.conceal(rx),
                    Frame::Empty => g722.plc.reset(),
                }
                jitter.set_quiet(is_quiet(rx));
            }
            Self::Opus(opus) => {
                let lost = match jitter.pop(now) {
                    Frame::Packets(parts) => {
                        parts.for_each(|packet| opus.decoder.push(packet));
                        false
                    }
                    Frame::Lost => true,
                    Frame::Empty | Frame::Audio { .. } => {
                        opus.decoder.reset();
                        return;
                    }
                };
                if lost {
                    match jitter.behind() {
                        Some(next) => opus.decoder.recover(next),
                        None => opus.decoder.conceal(),
                    }
                }
                opus.decoder.take(rx);
                jitter.set_quiet(is_quiet(rx));
            }
        }
    }

    /// Encodes a frame and returns how long the payload is; 0 for none.
    pub(crate) fn encode(&mut self, tx: &[i16; FRAME], payload: &mut [u8; LONGEST_PAYLOAD]) -> usize {
        match self {
            Self::G711 { codec, .. } => {
                codec.encode(tx, &mut payload[..FRAME]);
                FRAME
            }
            Self::G722(g722) => {
                g722.encode(tx, &mut payload[..FRAME]);
                FRAME
            }
            Self::Opus(opus) => opus.encoder.encode(tx, payload),
        }
    }

    /// Takes in what the other side misses of what we send, 0 to 1, as it reports.
    pub(crate) fn set_loss(&mut self, share: f32) {
        if let Self::Opus(opus) = self {
            opus.encoder.set_loss(share);
        }
    }

    /// Takes over the share of the effort that is left for this call.
    pub(crate) fn share_effort(&mut self) {
        if let Self::Opus(opus) = self {
            opus.encoder.set_complexity(opus.effort.share());
        }
    }
}

/// About -31 dBFS: as loud as a frame of G.711 may be that is left out or played twice.
const QUIET: u16 = 900;

fn is_quiet(frame: &[i16; FRAME]) -> bool {
    frame.iter().all(|sample| sample.unsigned_abs() < QUIET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_calls_the_less_effort_for_each() {
        let of = |calls| complexity(5, calls);
        assert_eq!([0, 1, 20, 21, 30, 31, 60, 70, 71, 200].map(of), [5, 5, 5, 4, 4, 3, 1, 0, 0, 0]);
        assert_eq!(complexity(10, 200), 0);
    }

    #[test]
    fn a_call_counts_while_it_has_a_coder() {
        let effort = Effort::new(5);
        let make = || Coder::new(MediaCodec::Opus(OpusParams::default()), &effort).unwrap();
        let mut first = make();
        let more: Vec<_> = (0..30).map(|_| make()).collect();
        let effort_of = |coder: &Coder| match coder {
            Coder::Opus(opus) => opus.encoder.complexity(),
            Coder::G711 { .. } | Coder::G722(_) => unreachable!(),
        };
        assert_eq!(effort_of(&first), 5);
        first.share_effort();
        assert_eq!(effort_of(&first), 3);
        drop(more);
        first.share_effort();
        assert_eq!(effort_of(&first), 5);
    }

    #[test]
    fn a_known_codec_under_another_number_is_known() {
        let coder = Coder::new(MediaCodec::G711(Codec::Pcma), &Effort::new(5)).unwrap();
        let claimed = |payload_type| {
            let mut bytes = [0; 14];
            (bytes[0], bytes[1]) = (0x80, payload_type);
            let mut packet = RtpPacket::parse(&bytes).unwrap();
            coder.claim(&mut packet, 97).then_some(packet.payload_type)
        };
        assert_eq!([0, 8, 97, 111, 13].map(claimed), [Some(0), Some(8), Some(8), None, None]);
    }
}
