//! What comes on one call, from packets to frames; its clock is the caller's.

use std::time::Instant;

use trunkline_audio::FRAME;
use trunkline_audio::opus::OpusError;
use trunkline_rtp::{JitterBuffer, JitterStats, RtpPacket};

use crate::coder::{Coder, Effort, MediaCodec};
use crate::media::OPUS_COMPLEXITY;

/// The jitter buffer and the coder of a call, as the media thread uses them.
#[derive(Debug)]
pub struct Playout {
    jitter: JitterBuffer,
    pub(crate) coder: Coder,
}

impl Playout {
    /// Begins with nothing heard.
    ///
    /// # Errors
    /// When libopus gives no coder: there is no memory.
    pub fn new(codec: MediaCodec) -> Result<Self, OpusError> {
        Self::sharing(codec, &Effort::new(OPUS_COMPLEXITY))
    }

    /// The same for a call that shares the thread's effort with others.
    pub(crate) fn sharing(codec: MediaCodec, effort: &Effort) -> Result<Self, OpusError> {
        Ok(Self { jitter: codec.jitter_buffer(), coder: Coder::new(codec, effort)? })
    }

    /// Takes a packet that arrived at `now`, if it is of the codec that was `agreed` under this payload type.
    pub fn push(&mut self, now: Instant, mut packet: RtpPacket<'_>, agreed: u8) {
        if self.coder.claim(&mut packet, agreed) {
            self.jitter.push(now, &packet);
        }
    }

    /// Makes the frame that is played at `now`; call it once per 20 ms. Where nothing is to be heard, `rx` stays as it is.
    pub fn pop(&mut self, now: Instant, rx: &mut [i16; FRAME]) {
        self.coder.decode(now, &mut self.jitter, rx);
    }

    /// Returns how long the frame was held before it was played, in samples.
    #[must_use]
    pub fn delay_ticks(&self) -> u32 {
        self.jitter.delay_ticks()
    }

    /// Returns what has happened so far.
    #[must_use]
    pub fn stats(&self) -> JitterStats {
        self.jitter.stats()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trunkline_audio::Codec;
    use trunkline_audio::network::Network;
    use trunkline_rtp::{Csrcs, RtpTicks, Seq, Ssrc};

    use super::*;

    const FRAMES: usize = 1_500;

    /// A voice of syllables whose pitch glides, with a pause in each second, as A-law brings it.
    fn voice() -> Vec<u8> {
        let mut phase = 0.0f32;
        let samples: Vec<i16> = (0..FRAMES * FRAME)
            .map(|n| {
                let t = n as f32 / 8_000.0;
                phase += (125.0 + 20.0 * (t * 2.0).sin()) / 8_000.0 * std::f32::consts::TAU;
                let strength = (1.0 - (t * 10.0).cos() * 0.5) * if t.fract() < 0.8 { 3_000.0 } else { 0.0 };
                ((phase.sin() + 0.6 * (2.0 * phase + 0.7).sin() + 0.4 * (5.0 * phase).sin()) * strength)
                    as i16
            })
            .collect();
        let mut octets = vec![0; samples.len()];
        Codec::Pcma.encode(&samples, &mut octets);
        octets
    }

    fn packet(n: usize, payload: &[u8]) -> RtpPacket<'_> {
        RtpPacket {
            marker: false,
            payload_type: 8,
            seq: Seq(n as u16),
            ticks: RtpTicks((n * FRAME) as u32),
            ssrc: Ssrc(1),
            csrc: Csrcs::default(),
            extension: None,
            padding: 0,
            payload,
        }
    }

    /// Plays the voice through a network. Returns how much stronger than the error the voice is in the frames that were
    /// made up, in dB, and what the buffer counted.
    fn made_up(network: Network, seed: u64) -> (f32, JitterStats) {
        let octets = voice();
        let mut clean = vec![0; octets.len()];
        Codec::Pcma.decode(&octets, &mut clean);
        let (clean, _) = clean.as_chunks::<FRAME>();
        let payloads: Vec<&[u8]> = octets.chunks(FRAME).collect();
        let mut playout = Playout::new(MediaCodec::G711(Codec::Pcma)).unwrap();
        let mut arrivals = network.arrivals(FRAMES, seed).into_iter().peekable();
        let begun = Instant::now();
        let (mut expected, mut voice, mut error) = (0, 0.0f32, 0.0f32);
        for tick in 0..FRAMES as u64 {
            let now = tick * 20_000 + 7_000;
            while let Some((at, n)) = arrivals.next_if(|(at, _)| *at <= now) {
                playout.push(begun + Duration::from_micros(at), packet(n, payloads[n]), 8);
            }
            let mut rx = [0; FRAME];
            let before = playout.stats();
            playout.pop(begun + Duration::from_micros(now), &mut rx);
            let after = playout.stats();
            let is_made_up = after.concealed > before.concealed;
            // The end of a frame is never blended with what was made up before it.
            let is = |n: usize| clean[n][FRAME / 2..] == rx[FRAME / 2..] && rx[FRAME / 2..] != [0; FRAME / 2];
            let near = expected.min(FRAMES - 3)..(expected + 3).min(FRAMES);
            match near.clone().find(|n| !is_made_up && is(*n)) {
                Some(n) => expected = n + 1,
                None if is_made_up && after.lost > before.lost => {
                    voice += clean[expected].iter().map(|sample| f32::from(*sample).powi(2)).sum::<f32>();
                    let off = clean[expected].iter().zip(&rx).map(|(a, b)| f32::from(*a) - f32::from(*b));
                    error += off.map(|off| off * off).sum::<f32>();
                    expected += 1;
                }
                None => {}
            }
        }
        (10.0 * (voice / error.max(1.0)).log10(), playout.stats())
    }

    #[test]
    fn what_a_rough_network_loses_is_made_up_from_both_sides() {
        for seed in 1..=5 {
            let (db, stats) = made_up(Network { loss: 0.05, burst: 1.0, jitter_ms: 60 }, seed);
            assert!(db > 8.0, "seed {seed}: {db} dB, {stats:?}");
            assert!(stats.lost > 40 && stats.concealed <= stats.lost + 5, "seed {seed}: {stats:?}");
        }
    }
}
