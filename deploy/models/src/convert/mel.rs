//! The mel filter bank that whisper's sound goes through, computed instead of copied.
//!
//! Slaney's scale (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above, each triangle
//! scaled to the same area.

/// Bands of the small whisper models.
pub const BANDS: usize = 80;
/// Bins of a 400-point transform at 16 kHz.
pub const BINS: usize = 201;

const SAMPLE_RATE_HZ: f64 = 16_000.0;
const LINEAR_HZ_PER_MEL: f64 = 200.0 / 3.0;
const LOG_FROM_HZ: f64 = 1_000.0;
const LOG_FROM_MEL: f64 = LOG_FROM_HZ / LINEAR_HZ_PER_MEL;

/// Returns the weights, band after band, [`BINS`] each.
///
/// They are rounded to 32 bits before and after the scaling, as the tool did that the models were
/// trained with, so that every bit agrees but the sign of one zero.
pub fn filters() -> Vec<f32> {
    let top = hz_to_mel(SAMPLE_RATE_HZ / 2.0);
    let edges: Vec<f64> = (0..BANDS + 2).map(|i| mel_to_hz(top * i as f64 / (BANDS + 1) as f64)).collect();
    let mut out = Vec::with_capacity(BANDS * BINS);
    for edge in edges.windows(3) {
        let (low, mid, high) = (edge[0], edge[1], edge[2]);
        let scale = 2.0 / (high - low);
        for bin in 0..BINS {
            let hz = bin as f64 * SAMPLE_RATE_HZ / 2.0 / (BINS - 1) as f64;
            let rising = (hz - low) / (mid - low);
            let falling = (high - hz) / (high - mid);
            let lower = rising.min(falling);
            // Not `max`, which leaves the sign of a zero to the optimiser, and with it the hash.
            let weight = if lower > 0.0 { lower as f32 } else { 0.0 };
            out.push((f64::from(weight) * scale) as f32);
        }
    }
    out
}

fn log_step() -> f64 {
    6.4_f64.ln() / 27.0
}

fn hz_to_mel(hz: f64) -> f64 {
    if hz < LOG_FROM_HZ {
        hz / LINEAR_HZ_PER_MEL
    } else {
        LOG_FROM_MEL + (hz / LOG_FROM_HZ).ln() / log_step()
    }
}

fn mel_to_hz(mel: f64) -> f64 {
    if mel < LOG_FROM_MEL {
        mel * LINEAR_HZ_PER_MEL
    } else {
        LOG_FROM_HZ * (log_step() * (mel - LOG_FROM_MEL)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wide_band_covers_the_same_area() {
        let filters = filters();
        assert_eq!(filters.len(), BANDS * BINS);
        // The upper triangles span several bins: the sum times the bin width (40 Hz) is near their area, 1.
        for (band, weights) in filters.chunks(BINS).enumerate().skip(50) {
            let area = weights.iter().sum::<f32>() * 40.0;
            assert!((area - 1.0).abs() < 0.05, "band {band} has the area {area}");
        }
    }

    #[test]
    fn the_first_band_peaks_at_the_first_bin_and_nothing_is_negative() {
        let filters = filters();
        // Edges of 0, 37.2 and 74.5 Hz: bin 1 (40 Hz) lies on the falling side.
        assert_eq!(filters[0], 0.0);
        assert!((filters[1] - 0.024_862_594).abs() < 1e-7, "{}", filters[1]);
        assert_eq!(filters[2], 0.0);
        assert!(filters.iter().all(|&w| w >= 0.0));
    }

    #[test]
    fn bins_rise_through_the_bands() {
        let peaks: Vec<usize> = filters()
            .chunks(BINS)
            .map(|band| (0..BINS).max_by(|&a, &b| band[a].total_cmp(&band[b])).unwrap())
            .collect();
        assert!(peaks.windows(2).all(|p| p[0] <= p[1]), "{peaks:?}");
        assert_eq!(peaks.last(), Some(&192));
    }
}
