//! Cuts bytes into chunks where their content says so, so that an insertion moves the cuts near it only.
//!
//! A rolling hash over the last bytes ("gear": shift left, add a random number per byte) decides: a cut is
//! where its upper bits are zero. Before the wanted size two bits more must be zero and after it two fewer,
//! which keeps sizes near the wanted one (Xia et al., "FastCDC", USENIX ATC 2016, section 3.4).

use std::sync::OnceLock;

use trunkline_trust::sha256;

/// The shortest chunk but a file's last, in bytes.
const MIN: usize = 16 * 1024;
/// The wanted size.
const WANTED: usize = 64 * 1024;
/// The longest chunk.
pub(crate) const MAX: usize = 256 * 1024;

const HARD: u64 = u64::MAX << (64 - 18);
const EASY: u64 = u64::MAX << (64 - 14);

/// Cuts `bytes`; the pieces together are the whole.
pub(crate) fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(cut(bytes));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn cut(bytes: &[u8]) -> usize {
    let gear = gear();
    let end = bytes.len().min(MAX);
    let mut hash = 0u64;
    for (at, byte) in bytes[..end].iter().enumerate().skip(MIN) {
        hash = (hash << 1).wrapping_add(gear[usize::from(*byte)]);
        let mask = if at < WANTED { HARD } else { EASY };
        if hash & mask == 0 {
            return at + 1;
        }
    }
    end
}

/// One number per byte value, the same for ever: another table would cut everything anew.
fn gear() -> &'static [u64; 256] {
    static GEAR: OnceLock<[u64; 256]> = OnceLock::new();
    GEAR.get_or_init(|| {
        let mut table = [0; 256];
        for (byte, number) in (0..=u8::MAX).zip(&mut table) {
            let hash = sha256(&[b'g', byte]);
            *number = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngCore, SeedableRng};

    use super::*;

    #[test]
    fn sizes_stay_near_the_wanted_one() {
        let mut bytes = vec![0; 8 << 20];
        rand_chacha::ChaCha8Rng::seed_from_u64(5).fill_bytes(&mut bytes);
        let pieces = split(&bytes);
        let mean = bytes.len() / pieces.len();
        assert!((50_000..90_000).contains(&mean), "{mean}");
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| (MIN..=MAX).contains(&piece.len())));
    }

    #[test]
    fn cuts_are_the_same_for_ever() {
        let bytes: Vec<u8> = (0..600_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let lengths: Vec<usize> = split(&bytes).iter().map(|piece| piece.len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), bytes.len());
        let text = format!("{lengths:?}");
        assert_eq!(sha256(text.as_bytes()).to_string()[..16], *CUTS, "{text}");
    }

    /// The hash of the lengths above: boxes in the field hold chunks that were cut like this.
    const CUTS: &str = "57517593bb838040";

    proptest! {
        #[test]
        fn the_pieces_are_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..100_000)) {
            prop_assert_eq!(split(&bytes).concat(), bytes);
        }
    }
}
