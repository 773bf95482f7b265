//! Opus at the telephone's rate (RFC 6716): 8 kHz and mono on our side, whatever the other side hears or sends.
//!
//! The coder itself is libopus, through the crate `opus`; both ends of it are made once for a call. Its decoder
//! brings any bandwidth to 8 kHz by itself, and conceals what is lost; [`OpusDecoder`] cuts what comes into frames of
//! 20 ms, because a packet lasts from 2.5 to 120 ms.

use opus::{Application, Bitrate, Channels, Decoder, Encoder, Signal};

use crate::FRAME;

/// Bits a second that we send unless the other side wants fewer: narrow-band speech with a copy of each frame in the
/// next one.
pub const OPUS_BITRATE: u32 = 24_000;

/// Bits a second below which libopus does not go (RFC 7587 §6.1).
pub const OPUS_MIN_BITRATE: u32 = 6_000;

/// The libopus scale of effort, of which 10 is the most.
pub const OPUS_MAX_COMPLEXITY: u8 = 10;

const RATE: u32 = 8_000;

/// What a packet can last at most: 120 ms.
const LONGEST: usize = 960;

/// Room for one, and for a frame that is left of the one before.
const HELD: usize = LONGEST + FRAME;

/// Why there is no coder.
#[derive(Debug, thiserror::Error)]
#[error("libopus gives no coder")]
pub struct OpusError(#[from] opus::Error);

/// What an encoder is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpusSettings {
    /// Bits a second; kept within [`OPUS_MIN_BITRATE`] and [`OPUS_BITRATE`].
    pub bitrate: u32,
    /// Whether each packet also carries a coarse copy of the frame before (in-band FEC).
    pub fec: bool,
    /// Effort, 0 to [`OPUS_MAX_COMPLEXITY`].
    pub complexity: u8,
}

/// Encodes one stream of 8 kHz in packets of 20 ms.
#[derive(Debug)]
pub struct OpusEncoder {
    encoder: Encoder,
    complexity: u8,
    fec: bool,
}

impl OpusEncoder {
    /// Makes an encoder for speech.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new(settings: OpusSettings) -> Result<Self, OpusError> {
        let mut encoder = Encoder::new(RATE, Channels::Mono, Application::Voip)?;
        let bitrate = settings.bitrate.clamp(OPUS_MIN_BITRATE, OPUS_BITRATE);
        encoder.set_bitrate(Bitrate::Bits(bitrate as i32))?;
        encoder.set_signal(Signal::Voice)?;
        encoder.set_inband_fec(settings.fec)?;
        encoder.set_packet_loss_perc(if settings.fec { EXPECTED_LOSS } else { 0 })?;
        encoder.set_dtx(false)?;
        let complexity = settings.complexity.min(OPUS_MAX_COMPLEXITY);
        encoder.set_complexity(i32::from(complexity))?;
        Ok(Self { encoder, complexity, fec: settings.fec })
    }

    /// Encodes a frame and returns the length of the packet; 0 if `packet` has no room for it.
    pub fn encode(&mut self, frame: &[i16; FRAME], packet: &mut [u8]) -> usize {
        self.encoder.encode(frame, packet).unwrap_or(0)
    }

    /// Changes the effort from the next frame on.
    pub fn set_complexity(&mut self, complexity: u8) {
        let complexity = complexity.min(OPUS_MAX_COMPLEXITY);
        if complexity != self.complexity && self.encoder.set_complexity(i32::from(complexity)).is_ok() {
            self.complexity = complexity;
        }
    }

    /// Returns the effort of the next frame.
    #[must_use]
    pub fn complexity(&self) -> u8 {
        self.complexity
    }

    /// Takes in the share of packets that the other side misses, 0 to 1: the more, the better the copies.
    pub fn set_loss(&mut self, share: f32) {
        if self.fec {
            // `as` saturates.
            let percent = (share * 100.0).round().clamp(EXPECTED_LOSS as f32, 30.0) as i32;
            let _ = self.encoder.set_packet_loss_perc(percent);
        }
    }
}

/// Decodes one stream to frames of 8 kHz.
#[derive(Debug)]
pub struct OpusDecoder {
    decoder: Decoder,
    held: [i16; HELD],
    len: usize,
}

impl OpusDecoder {
    /// Makes a decoder.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> Result<Self, OpusError> {
        Ok(Self { decoder: Decoder::new(RATE, Channels::Mono)?, held: [0; HELD], len: 0 })
    }

    /// Takes the packet whose turn it is. What cannot be decoded is concealed by [`Self::take`].
    pub fn push(&mut self, packet: &[u8]) {
        // An empty one would mean that a packet is lost.
        if packet.is_empty() {
            return;
        }
        // Who sends more sound than time passes loses the oldest.
        let comes = self.decoder.get_nb_samples(packet).unwrap_or(0).min(LONGEST);
        let spare = (self.len + comes).saturating_sub(HELD);
        self.held.copy_within(spare..self.len, 0);
        self.len -= spare;
        let samples = self.decoder.decode(packet, &mut self.held[self.len..], false);
        self.len += samples.unwrap_or(0);
    }

    /// Makes a frame that was lost from the packet behind it, as far as that has a copy; otherwise conceals it.
    pub fn recover(&mut self, next: &[u8]) {
        self.fill(next, true);
    }

    /// Makes up a frame that was lost.
    pub fn conceal(&mut self) {
        self.fill(&[], false);
    }

    /// Forgets what was left of the last packet; what comes next is a new beginning.
    pub fn reset(&mut self) {
        self.len = 0;
    }

    /// Fills in the next frame; where too little has come it is concealed.
    pub fn take(&mut self, frame: &mut [i16; FRAME]) {
        if self.len < FRAME {
            self.conceal();
        }
        frame.copy_from_slice(&self.held[..FRAME]);
        self.held.copy_within(FRAME..self.len.max(FRAME), 0);
        self.len = self.len.saturating_sub(FRAME);
    }

    /// Puts one frame behind what is held.
    fn fill(&mut self, packet: &[u8], fec: bool) {
        self.len = self.len.min(HELD - FRAME);
        let end = self.len + FRAME;
        let room = &mut self.held[self.len..end];
        if self.decoder.decode(packet, room, fec).is_err() {
            room.fill(0);
        }
        self.len = end;
    }
}

/// Percent of loss that an encoder with copies is set for, until it is known how much is lost.
const EXPECTED_LOSS: i32 = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::channel::Random;
    use crate::level::rms_dbfs;
    use crate::tone::Goertzel;

    const SETTINGS: OpusSettings = OpusSettings { bitrate: OPUS_BITRATE, fec: true, complexity: 5 };

    fn frames(sound: &[i16]) -> impl Iterator<Item = &[i16; FRAME]> {
        sound.chunks_exact(FRAME).filter_map(|frame| frame.try_into().ok())
    }

    fn packets(sound: &[i16], settings: OpusSettings) -> Vec<Vec<u8>> {
        let mut encoder = OpusEncoder::new(settings).unwrap();
        frames(sound)
            .map(|frame| {
                let mut packet = [0; 400];
                let len = encoder.encode(frame, &mut packet);
                packet[..len].to_vec()
            })
            .collect()
    }

    /// Decodes, with the packets that `lost` names left out, and with their copies if `fec`.
    fn heard(packets: &[Vec<u8>], lost: impl Fn(usize) -> bool, fec: bool) -> Vec<i16> {
        let mut decoder = OpusDecoder::new().unwrap();
        let mut out = Vec::new();
        for (n, packet) in packets.iter().enumerate() {
            let next = packets.get(n + 1).filter(|_| fec && !lost(n + 1));
            match (lost(n), next) {
                (false, _) => decoder.push(packet),
                (true, Some(next)) => decoder.recover(next),
                (true, None) => decoder.conceal(),
            }
            let mut frame = [0; FRAME];
            decoder.take(&mut frame);
            out.extend(frame);
        }
        out
    }

    /// Something like speech: a voice of changing pitch with changing harmonics, and pauses.
    fn voice(seconds: usize) -> Vec<i16> {
        let mut phase = 0.0f32;
        (0..8_000 * seconds)
            .map(|n| {
                let t = n as f32 / 8_000.0;
                phase += (130.0 + 40.0 * (t * 2.3).sin()) / 8_000.0;
                let vowel = (t * 1.7).sin();
                let sum: f32 = (1..=12)
                    .map(|k| {
                        let hz = 150.0 * k as f32;
                        let formant = 500.0 + 250.0 * vowel;
                        let weight = 1.0 / (1.0 + ((hz - formant) / 200.0).powi(2)) + 0.1 / k as f32;
                        weight * (phase * k as f32 * std::f32::consts::TAU).sin()
                    })
                    .sum();
                let syllable = (t * 4.0 * std::f32::consts::PI).sin().max(0.0);
                (sum * syllable * 5_000.0) as i16
            })
            .collect()
    }

    /// How alike two sounds are, 0 to 1, at the delay at which they are most alike.
    fn likeness(sent: &[i16], heard: &[i16]) -> f64 {
        let at = |delay: usize| {
            let pairs = || sent.iter().zip(&heard[delay..]).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let (mut ab, mut aa, mut bb) = (0.0, 0.0, 1e-9);
            for (a, b) in pairs() {
                ab += a * b;
                aa += a * a;
                bb += b * b;
            }
            ab / (aa * bb).sqrt()
        };
        (0..200).map(at).fold(0.0, f64::max)
    }

    #[test]
    fn speech_comes_through_with_its_shape_and_level() {
        let sound = voice(4);
        for settings in [SETTINGS, OpusSettings { bitrate: 12_000, fec: false, complexity: 0 }] {
            let heard = heard(&packets(&sound, settings), |_| false, false);
            let likeness = likeness(&sound[..30_000], &heard);
            assert!(likeness > 0.9, "{settings:?}: {likeness}");
            let level = rms_dbfs(&heard) - rms_dbfs(&sound);
            assert!(level.abs() < 1.0, "{settings:?}: {level} dB");
        }
    }

    #[test]
    fn a_packet_is_as_long_as_the_bitrate_says() {
        let octets: usize = packets(&voice(4), SETTINGS).iter().map(Vec::len).sum();
        let bitrate = octets * 8 / 4;
        assert!((8_000..30_000).contains(&bitrate), "{bitrate}");
    }

    #[test]
    fn copies_make_up_for_what_is_lost() {
        let sound = voice(8);
        let packets = packets(&sound, SETTINGS);
        let mut random = Random::new(3);
        let lost: Vec<bool> = (0..=packets.len()).map(|_| random.next() > 0.8).collect();
        let of = |fec| likeness(&sound[..60_000], &heard(&packets, |n| lost[n], fec));
        let (with, without) = (of(true), of(false));
        assert!(with > without + 0.02 && with > 0.9, "{with} with copies, {without} without");
    }

    #[test]
    fn packets_of_any_length_are_cut_into_frames() {
        let sound: Vec<i16> =
            (0..16_000).map(|n| (8_000.0 * (n as f32 * 0.1 * std::f32::consts::TAU).sin()) as i16).collect();
        for samples in [80, 320, 480] {
            let mut encoder = Encoder::new(RATE, Channels::Mono, Application::Voip).unwrap();
            let mut decoder = OpusDecoder::new().unwrap();
            let (mut out, mut ahead) = (Vec::new(), 0);
            for piece in sound.chunks_exact(samples) {
                let mut packet = [0; 400];
                let len = encoder.encode(piece, &mut packet).unwrap();
                decoder.push(&packet[..len]);
                ahead += samples;
                while ahead >= FRAME {
                    ahead -= FRAME;
                    let mut frame = [0; FRAME];
                    decoder.take(&mut frame);
                    out.extend(frame);
                }
            }
            let tail = &out[8_000..];
            let level = rms_dbfs(tail) - rms_dbfs(&sound);
            let share = Goertzel::new(800.0, RATE).power(tail)
                / (tail.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / tail.len() as f32);
            assert!(level.abs() < 1.5 && share > 0.9, "{samples}: {level} dB, {share}");
        }
    }

    #[test]
    fn effort_and_loss_are_taken_over_within_their_bounds() {
        let mut encoder = OpusEncoder::new(OpusSettings { complexity: 99, ..SETTINGS }).unwrap();
        assert_eq!(encoder.complexity(), OPUS_MAX_COMPLEXITY);
        encoder.set_complexity(2);
        assert_eq!(encoder.complexity(), 2);
        for share in [0.0, 0.2, 7.0, f32::NAN] {
            encoder.set_loss(share);
        }
        assert!(encoder.encode(&[100; FRAME], &mut [0; 400]) > 0);
        assert_eq!(encoder.encode(&[100; FRAME], &mut []), 0, "no room");
    }

    proptest! {
        #[test]
        fn no_octets_panic_it(packets: Vec<Vec<u8>>) {
            let mut decoder = OpusDecoder::new().unwrap();
            for packet in packets {
                decoder.push(&packet);
                decoder.recover(&packet);
                decoder.take(&mut [0; FRAME]);
            }
        }
    }
}
