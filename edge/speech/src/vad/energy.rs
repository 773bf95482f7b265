//! Sound above the noise floor, to 20 ms.

/// Frames in which the floor is looked for: 1.6 s. Nobody speaks that long without a dip.
const MEMORY: usize = 80;
/// Level that counts as sound at all, however quiet the line is.
const ABSOLUTE: f32 = -56.0;

/// One frame as [`EnergyVad`] saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnergyFrame {
    /// Level in dB to full scale, -96 at least.
    pub level: f32,
    /// Noise floor in dB to full scale.
    pub floor: f32,
    /// Whether the frame stands out from the floor.
    pub active: bool,
}

impl EnergyFrame {
    /// A frame of digital silence.
    pub(super) const SILENT: Self = Self { level: -96.0, floor: -70.0, active: false };
}

/// A noise floor that follows the line, and what rises above it.
#[derive(Debug)]
pub struct EnergyVad {
    levels: [f32; MEMORY],
    heard: usize,
    peak: f32,
    smooth: f32,
    last_in: f32,
    last_out: f32,
}

impl Default for EnergyVad {
    fn default() -> Self {
        Self::new()
    }
}

impl EnergyVad {
    /// Starts with a quiet line.
    pub fn new() -> Self {
        Self { levels: [0.0; MEMORY], heard: 0, peak: -40.0, smooth: -70.0, last_in: 0.0, last_out: 0.0 }
    }

    /// Judges the next frame (20 ms; other lengths work, but shift the time constants).
    pub fn frame(&mut self, pcm: &[i16]) -> EnergyFrame {
        let level = self.level(pcm);
        // The floor is the lowest level of late, smoothed over some frames so that one quiet frame
        // in the noise does not pull it down.
        self.smooth += 0.4 * (level - self.smooth);
        let slot = self.heard % MEMORY;
        self.levels[slot] = self.smooth;
        self.heard += 1;
        let known = &self.levels[..self.heard.min(MEMORY)];
        let lowest = known.iter().copied().fold(f32::INFINITY, f32::min);
        let floor = (lowest + 2.0).clamp(-72.0, -25.0);
        // Falls by 6 dB a second: a caller who turns away is still measured by her own voice.
        self.peak = (self.peak - 0.12).max(level).max(floor + 12.0);
        // On a clear line speech stands 40 dB out, and its soft ends count as well; in noise
        // a few dB must do.
        let margin = (0.3 * (self.peak - floor)).clamp(4.0, 10.0);
        EnergyFrame { level, floor, active: level > (floor + margin).max(ABSOLUTE) }
    }

    /// Level without the rumble below about 120 Hz, which telephones do not carry but lines add.
    fn level(&mut self, pcm: &[i16]) -> f32 {
        if pcm.is_empty() {
            return -96.0;
        }
        let mut power = 0.0f64;
        for &sample in pcm {
            let x = f32::from(sample);
            let y = x - self.last_in + 0.91 * self.last_out;
            self.last_in = x;
            self.last_out = y;
            power += f64::from(y) * f64::from(y);
        }
        let mean = power / pcm.len() as f64 / (32_768.0 * 32_768.0);
        (10.0 * mean.max(1e-12).log10()).max(-96.0) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(level: i16, n: usize) -> Vec<i16> {
        (0..n).map(|i| if (i / 4) % 2 == 0 { level } else { -level }).collect()
    }

    #[test]
    fn a_constant_offset_is_no_sound() {
        let mut vad = EnergyVad::new();
        let frames: Vec<_> = (0..50).map(|_| vad.frame(&[3_000; 160])).collect();
        assert!(frames[5..].iter().all(|f| !f.active && f.level < -80.0), "{:?}", frames[5]);
    }

    #[test]
    fn the_floor_follows_the_line_up_and_down() {
        let mut vad = EnergyVad::new();
        let at = |vad: &mut EnergyVad, level, frames| {
            (0..frames).map(|_| vad.frame(&square(level, 160))).last().unwrap()
        };
        let quiet = at(&mut vad, 10, 100);
        let noisy = at(&mut vad, 600, 100);
        let quiet_again = at(&mut vad, 10, 30);
        assert!(quiet.floor < -60.0, "{quiet:?}");
        assert!(!noisy.active && noisy.floor > -45.0, "{noisy:?}");
        assert!(quiet_again.floor < -60.0, "{quiet_again:?}");
    }

    #[test]
    fn sound_ten_db_above_noise_stands_out() {
        let mut vad = EnergyVad::new();
        for _ in 0..100 {
            vad.frame(&square(300, 160));
        }
        assert!(vad.frame(&square(950, 160)).active);
        assert!(!vad.frame(&square(320, 160)).active);
    }

    proptest::proptest! {
        #[test]
        fn no_sound_breaks_the_figures(pcm in proptest::collection::vec(proptest::num::i16::ANY, 0..400)) {
            let frame = EnergyVad::new().frame(&pcm);
            proptest::prop_assert!(frame.level.is_finite() && frame.floor.is_finite());
            proptest::prop_assert!((-96.0..=10.0).contains(&frame.level));
        }
    }
}
