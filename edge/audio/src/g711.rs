//! G.711: eight bits a sample, in the two laws of the telephone network (ITU-T G.711).

/// One of the two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    /// µ-law: North America and Japan.
    Pcmu,
    /// A-law: everywhere else.
    Pcma,
}

impl Codec {
    /// Returns the RTP payload type (RFC 3551 §6).
    #[must_use]
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Pcmu => 0,
            Self::Pcma => 8,
        }
    }

    /// Returns the law of an RTP payload type.
    #[must_use]
    pub const fn from_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::Pcmu),
            8 => Some(Self::Pcma),
            _ => None,
        }
    }

    /// Returns the name that SDP uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pcmu => "PCMU",
            Self::Pcma => "PCMA",
        }
    }

    /// Returns the octet of silence.
    #[must_use]
    pub const fn silence(self) -> u8 {
        match self {
            Self::Pcmu => 0xff,
            Self::Pcma => 0xd5,
        }
    }

    /// Encodes as many samples as both slices have.
    pub fn encode(self, samples: &[i16], octets: &mut [u8]) {
        let law = match self {
            Self::Pcmu => ulaw_octet,
            Self::Pcma => alaw_octet,
        };
        for (octet, &sample) in octets.iter_mut().zip(samples) {
            *octet = law(sample);
        }
    }

    /// Decodes as many octets as both slices have.
    pub fn decode(self, octets: &[u8], samples: &mut [i16]) {
        let table = match self {
            Self::Pcmu => &ULAW,
            Self::Pcma => &ALAW,
        };
        for (sample, &octet) in samples.iter_mut().zip(octets) {
            *sample = table[usize::from(octet)];
        }
    }
}

/// A magnitude with the bias added is 1mmmm… in binary: the place of the leading one is the segment.
const fn ulaw_octet(sample: i16) -> u8 {
    let negative = sample < 0;
    let magnitude = (sample.unsigned_abs() >> 2) as u32;
    let biased = if magnitude > ULAW_CLIP { ULAW_CLIP } else { magnitude } + ULAW_BIAS;
    let segment = 31 - biased.leading_zeros() - 5;
    let step = biased >> (segment + 1) & 0x0f;
    !((negative as u8) << 7 | (segment << 4) as u8 | step as u8)
}

const fn ulaw_sample(octet: u8) -> i16 {
    let octet = !octet;
    let segment = (octet >> 4 & 7) as u32;
    let step = (octet & 0x0f) as u32;
    let magnitude = (((step << 1 | 0x21) << segment) - ULAW_BIAS) << 2;
    if octet & 0x80 != 0 { -(magnitude as i16) } else { magnitude as i16 }
}

/// A-law has 13 bits: a sign, and magnitudes of 12 that start at half a step.
const fn alaw_octet(sample: i16) -> u8 {
    // One's complement, so that -1 to -16 is the first negative step, as 0 to 15 is the first positive.
    let magnitude = (if sample < 0 { !sample } else { sample } >> 4) as u32;
    // The two lowest segments share a step size, and there the code is the magnitude itself.
    let code = if magnitude < 32 {
        magnitude
    } else {
        let segment = 31 - magnitude.leading_zeros() - 3;
        segment << 4 | magnitude >> (segment - 1) & 0x0f
    };
    (code as u8 | if sample < 0 { 0 } else { 0x80 }) ^ 0x55
}

const fn alaw_sample(octet: u8) -> i16 {
    let octet = octet ^ 0x55;
    let segment = (octet >> 4 & 7) as u32;
    let step = (octet & 0x0f) as u32;
    let magnitude = match segment {
        0 => step << 4 | 8,
        _ => (step << 4 | 0x108) << (segment - 1),
    };
    if octet & 0x80 != 0 { magnitude as i16 } else { -(magnitude as i16) }
}

const ULAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = ulaw_sample(octet as u8);
        octet += 1;
    }
    table
};

const ALAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = alaw_sample(octet as u8);
        octet += 1;
    }
    table
};

/// In the 14-bit scale of the standard.
const ULAW_BIAS: u32 = 33;
const ULAW_CLIP: u32 = 8_158;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [Codec; 2] = [Codec::Pcmu, Codec::Pcma];

    fn round_trip(codec: Codec, samples: &[i16]) -> Vec<i16> {
        let mut octets = vec![0; samples.len()];
        let mut back = vec![0; samples.len()];
        codec.encode(samples, &mut octets);
        codec.decode(&octets, &mut back);
        back
    }

    /// Decision values of the tables of G.711, in its own scale: the ends of the eight segments.
    #[test]
    fn the_segments_end_where_the_tables_of_the_standard_say() {
        // A-law, table 1a: 13 bits, so 8 units of a 16-bit sample are half a step.
        for (x, character) in [(4_096, 0x7f), (2_048, 0x6f), (1_024, 0x5f), (512, 0x4f), (256, 0x3f)] {
            let mut octets = [0; 2];
            let below = (x * 8 - 1) as i16;
            Codec::Pcma.encode(&[below, -below - 1], &mut octets);
            assert_eq!(octets.map(|o| o ^ 0x55), [0x80 | character, character], "A-law below {x}");
        }
        // Mu-law, table 2a: 14 bits; the sent bits are inverted.
        for (x, character) in [(8_159, 0x7f), (4_063, 0x6f), (2_015, 0x5f), (991, 0x4f), (479, 0x3f)] {
            let mut octets = [0; 2];
            let below = (x * 4 - 1) as i16;
            Codec::Pcmu.encode(&[below, -below], &mut octets);
            assert_eq!(octets.map(|o| !o), [character, 0x80 | character], "µ-law below {x}");
        }
        // Largest decoded values: A-law 4032 x 8, µ-law 8031 x 4; smallest: 1 x 8 and 0.
        let mut samples = [0; 2];
        Codec::Pcma.decode(&[0xff ^ 0x55, 0x80 ^ 0x55], &mut samples);
        assert_eq!(samples, [4_032 * 8, 8]);
        Codec::Pcmu.decode(&[0x80, 0xff], &mut samples);
        assert_eq!(samples, [8_031 * 4, 0]);
    }

    #[test]
    fn every_octet_survives_decoding_and_encoding() {
        for codec in BOTH {
            for octet in 0..=255u8 {
                let mut sample = [0];
                let mut back = [0];
                codec.decode(&[octet], &mut sample);
                codec.encode(&sample, &mut back);
                // µ-law has two zeros; both mean silence.
                let expected = if codec == Codec::Pcmu && octet == 0x7f { 0xff } else { octet };
                assert_eq!(back[0], expected, "{codec:?} {octet:#x}");
            }
        }
    }

    #[test]
    fn louder_in_is_never_softer_out_and_the_error_is_within_half_a_step() {
        for codec in BOTH {
            let all: Vec<i16> = (i16::MIN..=i16::MAX).collect();
            let back = round_trip(codec, &all);
            assert!(back.is_sorted(), "{codec:?}");
            for (&sample, &back) in all.iter().zip(&back) {
                let size = i32::from(sample).abs();
                // A step is at most a sixteenth of the value and the bias, and half of it is lost.
                let allowed = (size + 132) / 31 + 4;
                let error = (i32::from(sample) - i32::from(back)).abs();
                let clipped = size > 8_158 * 4;
                assert!(error <= allowed || clipped, "{codec:?}: {sample} became {back}");
            }
        }
    }

    #[test]
    fn a_sine_keeps_34_db_over_the_noise_from_loud_to_soft() {
        for codec in BOTH {
            for dbfs in [-3.0f64, -10.0, -20.0, -30.0] {
                let amplitude = 32_767.0 * 10f64.powf(dbfs / 20.0);
                let sine: Vec<i16> = (0..8_000)
                    .map(|n| {
                        (amplitude * (f64::from(n) * 1_004.0 / 8_000.0 * std::f64::consts::TAU).sin()) as i16
                    })
                    .collect();
                let back = round_trip(codec, &sine);
                let (mut signal, mut noise) = (0.0, 0.0);
                for (&a, &b) in sine.iter().zip(&back) {
                    signal += f64::from(a).powi(2);
                    noise += (f64::from(a) - f64::from(b)).powi(2);
                }
                let snr = 10.0 * (signal / noise).log10();
                assert!(snr > 34.0, "{codec:?} at {dbfs} dBFS: {snr:.1} dB");
            }
        }
    }

    #[test]
    fn silence_is_the_octet_of_zero() {
        for codec in BOTH {
            let mut octet = [1];
            codec.encode(&[0], &mut octet);
            assert_eq!(octet[0], codec.silence());
            assert_eq!(Codec::from_payload_type(codec.payload_type()), Some(codec));
        }
        assert_eq!(Codec::from_payload_type(18), None);
    }

    proptest! {
        #[test]
        fn slices_of_unequal_length_are_coded_as_far_as_both_go(
            samples in proptest::collection::vec(any::<i16>(), 0..50), room in 0usize..50,
        ) {
            for codec in BOTH {
                let mut octets = vec![0x11; room];
                codec.encode(&samples, &mut octets);
                let mut back = vec![77; room];
                codec.decode(&octets[..room.min(samples.len())], &mut back);
                prop_assert!(back[room.min(samples.len())..].iter().all(|&s| s == 77));
            }
        }
    }
}
