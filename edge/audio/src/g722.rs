//! G.722: speech of twice the telephone's bandwidth in the octets of G.711 (ITU-T G.722, mode 1, 64 kbit/s).
//!
//! An octet is one tick of the RTP clock, which runs at 8 kHz although the sound has 16 kHz (RFC 3551 §4.5.2), so
//! that jitter buffer and packet sizes are those of G.711. Where the rest of the call lives at 8 kHz,
//! [`crate::resample::Resampler`] stands between.
//!
//! The coder itself is `audio-codec`'s; here are the frames of a call and the promise that nothing allocates.

use audio_codec::Encoder as _;
use audio_codec::g722::{G722Decoder, G722Encoder};

/// The static payload type (RFC 3551 §6).
pub const G722_PAYLOAD_TYPE: u8 = 9;

/// Samples at 16 kHz in one octet.
const EACH: usize = 2;

/// Encodes one stream of 16 kHz; its state goes on from frame to frame.
#[derive(Default)]
pub struct Encoder(G722Encoder);

impl Encoder {
    /// Begins a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes as many samples as `octets` has room for, two in each, and returns how many octets were written.
    ///
    /// An odd sample at the end is left out.
    pub fn encode(&mut self, samples: &[i16], octets: &mut [u8]) -> usize {
        let count = (samples.len() / EACH).min(octets.len());
        // There is room for each, so that it cannot fail.
        self.0.encode_into(&samples[..count * EACH], &mut octets[..count]).unwrap_or(0)
    }
}

/// Decodes one stream to 16 kHz; its state goes on from frame to frame.
#[derive(Default)]
pub struct Decoder(G722Decoder);

impl Decoder {
    /// Begins a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes as many octets as `samples` has room for, and returns how many samples were written.
    pub fn decode(&mut self, octets: &[u8], samples: &mut [i16]) -> usize {
        let count = octets.len().min(samples.len() / EACH);
        self.0.decode_frame_into(&octets[..count], samples).unwrap_or(0)
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tone::Goertzel;

    const RATE: u32 = 16_000;

    fn sine(hz: f32) -> Vec<i16> {
        let step = std::f32::consts::TAU * hz / RATE as f32;
        (0..8_000).map(|n| (8_000.0 * (n as f32 * step).sin()) as i16).collect()
    }

    /// Sends sound through in frames of 20 ms and returns what comes out.
    fn through(sound: &[i16]) -> Vec<i16> {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let mut out = Vec::new();
        for frame in sound.chunks_exact(320) {
            let mut octets = [0; 160];
            assert_eq!(encoder.encode(frame, &mut octets), 160);
            let mut samples = [0; 320];
            assert_eq!(decoder.decode(&octets, &mut samples), 320);
            out.extend(samples);
        }
        out
    }

    fn rms(samples: &[i16]) -> f32 {
        (samples.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / samples.len() as f32).sqrt()
    }

    #[test]
    fn tones_of_both_bands_come_through_with_their_level() {
        for hz in [300.0, 1_000.0, 3_000.0, 5_500.0] {
            let sound = sine(hz);
            // The first tenth of a second is for the adaptation.
            let heard = &through(&sound)[1_600..];
            let share = Goertzel::new(hz, RATE).power(heard) / rms(heard).powi(2).max(1.0);
            assert!(share > 0.9, "{hz} Hz: {share}");
            let level = 20.0 * (rms(heard) / rms(&sound)).log10();
            assert!(level.abs() < 1.5, "{hz} Hz: {level} dB");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut octets = [0; 3];
        assert_eq!(Encoder::new().encode(&[1; 5], &mut octets), 2);
        assert_eq!(Encoder::new().encode(&[1; 50], &mut octets), 3);
        let mut samples = [0; 5];
        assert_eq!(Decoder::new().decode(&[1; 9], &mut samples), 4);
    }

    proptest! {
        #[test]
        fn no_octets_and_no_samples_panic_it(octets: Vec<u8>, samples: Vec<i16>) {
            let mut heard = vec![0; octets.len() * 2];
            prop_assert_eq!(Decoder::new().decode(&octets, &mut heard), heard.len());
            let mut coded = vec![0; samples.len()];
            prop_assert_eq!(Encoder::new().encode(&samples, &mut coded), samples.len() / 2);
        }
    }
}
