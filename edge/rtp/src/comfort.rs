//! Comfort noise: what silence sounds like where it is not sent (RFC 3389).

/// The static payload type of comfort noise at 8 kHz (RFC 3551 §6).
pub const COMFORT_NOISE_PT: u8 = 13;

/// Coefficients that are kept; more bring nothing at 8 kHz.
const MAX_ORDER: usize = 10;

/// One description of noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComfortNoise {
    /// Level below overload in dB, 0 to 127: 127 is the quietest.
    pub level: u8,
    order: usize,
    coefficients: [f32; MAX_ORDER],
}

impl ComfortNoise {
    /// Describes white noise.
    #[must_use]
    pub fn white(level: u8) -> Self {
        Self { level: level.min(127), order: 0, coefficients: [0.0; MAX_ORDER] }
    }

    /// Reads a payload; `None` for an empty one.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (level, rest) = payload.split_first()?;
        let mut noise = Self::white(level & 0x7f);
        for (into, octet) in noise.coefficients.iter_mut().zip(rest) {
            // §3.1: 0 to 254 mean −127/128 to 127/128.
            *into = (f32::from((*octet).min(254)) - 127.0) / 128.0;
            noise.order += 1;
        }
        Some(noise)
    }

    /// Writes the payload into `out` and returns its length, or `None` if there is no room.
    #[must_use]
    pub fn write_into(&self, out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..=self.order)?;
        out[0] = self.level;
        for (into, coefficient) in out[1..].iter_mut().zip(self.reflections()) {
            *into = (coefficient * 128.0 + 127.0).round() as u8;
        }
        Some(self.order + 1)
    }

    /// Returns the reflection coefficients of the spectrum, each within −1 and 1; none for white noise.
    #[must_use]
    pub fn reflections(&self) -> &[f32] {
        &self.coefficients[..self.order]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_level_alone_is_white() {
        let noise = ComfortNoise::parse(&[0x40]).unwrap();
        assert_eq!((noise.level, noise.reflections().len()), (64, 0));
        assert_eq!(ComfortNoise::parse(&[]), None);
    }

    proptest! {
        #[test]
        fn a_description_reads_back_as_written(level in 0u8..128, octets in proptest::collection::vec(0u8..255, 0..10)) {
            let mut payload = vec![level];
            payload.extend(&octets);
            let noise = ComfortNoise::parse(&payload).unwrap();
            let mut out = [0; 16];
            let length = noise.write_into(&mut out).unwrap();
            prop_assert_eq!(&out[..length], &payload[..]);
        }

        #[test]
        fn no_payload_panics_and_every_coefficient_is_stable(payload: Vec<u8>) {
            if let Some(noise) = ComfortNoise::parse(&payload) {
                prop_assert!(noise.reflections().iter().all(|k| k.abs() < 1.0));
            }
        }
    }
}
