//! ggml's q8_0: blocks of 32 numbers, one 16-bit float scale and 32 signed bytes.
//!
//! The scale is the largest magnitude divided by 127; each byte is the number divided by the
//! scale before it was rounded to 16 bits, rounded half away from zero.

/// Numbers in a block.
pub const BLOCK: usize = 32;

/// Appends the blocks of `numbers`; a rest shorter than a block is left out.
pub fn quantise(numbers: &[f32], out: &mut Vec<u8>) {
    for block in numbers.chunks_exact(BLOCK) {
        let largest = block.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let scale = largest / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        out.extend(half::f16::from_f32(scale).to_le_bytes());
        out.extend(block.iter().map(|x| ((x * inverse).round() as i8).cast_unsigned()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restore(bytes: &[u8]) -> Vec<f32> {
        bytes
            .chunks_exact(2 + BLOCK)
            .flat_map(|block| {
                let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
                block[2..].iter().map(move |&b| scale * f32::from(b.cast_signed()))
            })
            .collect()
    }

    #[test]
    fn a_block_follows_the_formula() {
        let mut numbers = [0.0; BLOCK];
        numbers[..4].copy_from_slice(&[127.0, -127.0, 2.5, -0.4]);
        let mut out = Vec::new();
        quantise(&numbers, &mut out);
        assert_eq!(out.len(), 34);
        assert_eq!(out[..2], half::f16::from_f32(1.0).to_le_bytes());
        // 2.5 goes away from zero.
        assert_eq!(out[2..6], [127, 129, 3, 0]);
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let mut out = Vec::new();
        quantise(&[0.0; BLOCK], &mut out);
        assert_eq!(out, [0; 34]);
    }

    proptest! {
        #[test]
        fn no_number_moves_further_than_about_half_a_step(numbers in prop::collection::vec(-8.0_f32..8.0, BLOCK)) {
            let mut out = Vec::new();
            quantise(&numbers, &mut out);
            let largest = numbers.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            // Half a step, and the rounding of the scale to 11 bits times 127 steps.
            let room = largest / 127.0 * (0.5 + 127.0 / 2048.0) + 1e-6;
            for (was, is) in numbers.iter().zip(restore(&out)) {
                prop_assert!((was - is).abs() <= room, "{was} became {is}");
            }
        }
    }
}
