//! Changes the sample rate, by any ratio, with a windowed-sinc filter in polyphase form.
//!
//! The filter passes up to 86 % of the lower Nyquist frequency (3.45 kHz at 8 kHz, all that a telephone
//! carries), stops at 100 % by some 70 dB, and delays by 32 samples of the lower rate (4 ms at 8 kHz).

use std::f64::consts::PI;

use crate::clip;

/// Resamples one stream, frame by frame; sound is continuous across calls.
#[derive(Clone, Debug)]
pub struct Resampler {
    /// One filter for each position of an output sample between two input samples.
    phases: Vec<Vec<f32>>,
    /// The last `taps` input samples, twice over, so that a window never wraps.
    window: Vec<f32>,
    at: usize,
    /// Output position in units of 1/up of an input sample, until the next input sample is needed.
    position: usize,
    up: usize,
    down: usize,
}

impl Resampler {
    /// Prepares the conversion of a stream.
    ///
    /// Rates of zero count as 1 Hz. The filters of odd ratios take room: 44.1 kHz to 8 kHz about
    /// 110 kB, 8 kHz to 16 kHz half a kilobyte.
    #[must_use]
    pub fn new(from_hz: u32, to_hz: u32) -> Self {
        let (from, to) = (from_hz.max(1) as usize, to_hz.max(1) as usize);
        let common = gcd(from, to);
        let (up, down) = (to / common, from / common);
        if up == down {
            return Self { phases: Vec::new(), window: Vec::new(), at: 0, position: 0, up, down };
        }
        // In input samples: longer when the cut is below the input's own band.
        let half = (CROSSINGS * down.max(up)).div_ceil(up);
        let taps = 2 * half;
        let cut = CUT * (up as f64 / down as f64).min(1.0);
        let phases = (0..up)
            .map(|phase| {
                let mut filter: Vec<f64> = (0..taps)
                    .map(|tap| {
                        // Distance from the output sample to this input sample, newest input last.
                        let x = tap as f64 - (half as f64 - 1.0) - phase as f64 / up as f64;
                        sinc(x * cut) * kaiser(x / half as f64)
                    })
                    .collect();
                // Every phase passes a constant unchanged, else a hum at the input's rate appears.
                let sum: f64 = filter.iter().sum();
                filter.iter_mut().for_each(|tap| *tap /= sum);
                filter.into_iter().map(|tap| tap as f32).collect()
            })
            .collect();
        Self { phases, window: vec![0.0; 2 * taps], at: 0, position: 0, up, down }
    }

    /// Resamples `input` and appends the result to `out`.
    ///
    /// Nothing is allocated when `out` has room for [`max_output`](Self::max_output) more.
    pub fn process(&mut self, input: &[i16], out: &mut Vec<i16>) {
        if self.phases.is_empty() {
            out.extend_from_slice(input);
            return;
        }
        for &sample in input {
            self.feed(f32::from(sample), |sample| out.push(clip(sample)));
        }
    }

    /// The same on floating-point samples of any scale.
    pub fn process_f32(&mut self, input: &[f32], out: &mut Vec<f32>) {
        if self.phases.is_empty() {
            out.extend_from_slice(input);
            return;
        }
        for &sample in input {
            self.feed(sample, |sample| out.push(sample));
        }
    }

    /// Returns the most samples that one call with `input` samples appends.
    #[must_use]
    pub fn max_output(&self, input: usize) -> usize {
        (input * self.up).div_ceil(self.down) + 1
    }

    /// Returns by how many input samples the output is late.
    #[must_use]
    pub fn delay_samples(&self) -> usize {
        self.phases.first().map_or(0, |filter| filter.len() / 2)
    }

    /// Takes a sample into the window without an output: moves the output by one input sample.
    fn take_in(&mut self, sample: f32) {
        let taps = self.window.len() / 2;
        self.window[self.at] = sample;
        self.window[self.at + taps] = sample;
        self.at = (self.at + 1) % taps;
    }

    fn feed(&mut self, sample: f32, mut emit: impl FnMut(f32)) {
        self.take_in(sample);
        let taps = self.window.len() / 2;
        while self.position < self.up {
            let window = &self.window[self.at..self.at + taps];
            emit(dot(window, &self.phases[self.position]));
            self.position += self.down;
        }
        self.position -= self.up;
    }
}

/// Resamples a whole sound; the result starts and ends where the sound does.
#[must_use]
pub fn resample(samples: &[i16], from_hz: u32, to_hz: u32) -> Vec<i16> {
    let mut resampler = Resampler::new(from_hz, to_hz);
    let delay = resampler.delay_samples();
    let mut out = Vec::with_capacity(resampler.max_output(samples.len() + delay));
    let (first, rest) = samples.split_at(delay.min(samples.len()));
    first.iter().for_each(|&sample| resampler.take_in(f32::from(sample)));
    (first.len()..delay).for_each(|_| resampler.take_in(0.0));
    resampler.process(rest, &mut out);
    resampler.process(&vec![0; delay], &mut out);
    out.resize((samples.len() * resampler.up).div_ceil(resampler.down), 0);
    out
}

/// The same on floating-point samples of any scale.
#[must_use]
pub fn resample_f32(samples: &[f32], from_hz: u32, to_hz: u32) -> Vec<f32> {
    let mut resampler = Resampler::new(from_hz, to_hz);
    let delay = resampler.delay_samples();
    let mut out = Vec::with_capacity(resampler.max_output(samples.len() + delay));
    let (first, rest) = samples.split_at(delay.min(samples.len()));
    first.iter().for_each(|&sample| resampler.take_in(sample));
    (first.len()..delay).for_each(|_| resampler.take_in(0.0));
    resampler.process_f32(rest, &mut out);
    resampler.process_f32(&vec![0.0; delay], &mut out);
    out.resize((samples.len() * resampler.up).div_ceil(resampler.down), 0.0);
    out
}

/// Eight sums at once, which the compiler turns into vector instructions; one sum it may not.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for n in 0..8 {
            sums[n] += a[n] * b[n];
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// Kaiser's window over -1 to 1.
fn kaiser(x: f64) -> f64 {
    if x.abs() >= 1.0 { 0.0 } else { bessel(BETA * (1.0 - x * x).sqrt()) / bessel(BETA) }
}

/// The modified Bessel function of order zero, by its power series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1.0);
    while term > sum * 1e-12 {
        term *= (x / (2.0 * n)).powi(2);
        sum += term;
        n += 1.0;
    }
    sum
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Zero crossings on each side, at the lower rate.
const CROSSINGS: usize = 32;

/// The middle of the slope, as a share of the lower Nyquist frequency.
const CUT: f64 = 0.93;

/// 70 dB of attenuation.
const BETA: f64 = 7.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tone::Goertzel;
    use proptest::prelude::*;

    fn sine(hz: f32, rate: u32, len: usize) -> Vec<i16> {
        (0..len)
            .map(|n| (10_000.0 * (n as f32 * hz / rate as f32 * std::f32::consts::TAU).sin()) as i16)
            .collect()
    }

    fn power(samples: &[i16]) -> f64 {
        samples.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / samples.len() as f64
    }

    const RATIOS: [(u32, u32); 8] = [
        (8_000, 16_000),
        (16_000, 8_000),
        (24_000, 8_000),
        (24_000, 16_000),
        (8_000, 48_000),
        (8_000, 44_100),
        (44_100, 16_000),
        (22_050, 8_000),
    ];

    #[test]
    fn tones_below_3_4_khz_pass_at_their_place_and_strength() {
        for (from, to) in RATIOS {
            for hz in [300.0, 1_000.0, 2_500.0, 3_400.0] {
                let input = sine(hz, from, from as usize / 2);
                let out = resample(&input, from, to);
                assert_eq!(out.len(), (input.len() * to as usize).div_ceil(from as usize));
                let expected = sine(hz, to, out.len());
                let middle = out.len() / 4..out.len() * 3 / 4;
                let error: Vec<i16> =
                    out[middle.clone()].iter().zip(&expected[middle]).map(|(a, b)| a - b).collect();
                let db = 10.0 * (power(&error) / 5e7).log10();
                assert!(db < -45.0, "{from} to {to} at {hz} Hz: error {db:.1} dB");
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_gone() {
        for (from, to, hz) in [(16_000, 8_000, 4_100.0), (16_000, 8_000, 6_000.0), (24_000, 8_000, 10_000.0)]
        {
            let out = resample(&sine(hz, from, from as usize / 2), from, to);
            let db = 10.0 * (power(&out[400..out.len() - 400]) / 5e7).log10();
            assert!(db < -55.0, "{hz} Hz from {from} to {to}: {db:.1} dB are left");
        }
        // Nor does raising the rate make an image of 3 kHz at 5 kHz.
        let out = resample(&sine(3_000.0, 8_000, 8_000), 8_000, 16_000);
        let image = Goertzel::new(5_000.0, 16_000).power(&out[1_000..9_000]);
        let tone = Goertzel::new(3_000.0, 16_000).power(&out[1_000..9_000]);
        assert!(image < tone * 1e-6);
    }

    #[test]
    fn frames_give_the_same_as_the_whole() {
        let input = sine(777.0, 24_000, 24_000);
        let mut whole = Vec::new();
        Resampler::new(24_000, 8_000).process(&input, &mut whole);
        let mut resampler = Resampler::new(24_000, 8_000);
        let mut framed = Vec::with_capacity(8_010);
        for frame in input.chunks(479) {
            let room = resampler.max_output(frame.len());
            let before = framed.len();
            resampler.process(frame, &mut framed);
            assert!(framed.len() - before <= room);
        }
        assert_eq!(framed, whole);
    }

    #[test]
    fn a_click_stays_where_it_was() {
        for (from, to) in RATIOS {
            let mut input = vec![0i16; from as usize];
            input[from as usize / 2] = 20_000;
            let out = resample(&input, from, to);
            let peak = (0..out.len()).max_by_key(|&n| out[n].unsigned_abs()).unwrap();
            let off = peak as f64 / f64::from(to) - 0.5;
            assert!(off.abs() < 0.000_2, "{from} to {to}: {off} s");
        }
    }

    proptest! {
        #[test]
        fn any_length_at_any_rates_gives_the_length_that_time_asks_for(
            input in proptest::collection::vec(any::<i16>(), 0..300),
            from in 1u32..50, to in 1u32..50,
        ) {
            let out = resample(&input, from * 1_000, to * 1_000);
            prop_assert_eq!(out.len(), (input.len() * to as usize).div_ceil(from as usize));
        }
    }
}
