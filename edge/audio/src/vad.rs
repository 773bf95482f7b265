//! Finds where someone speaks in one channel of a finished recording, by energy.
//!
//! Unlike the detectors of a live call this one sees the whole, so it can take the noise from what
//! comes after as well as before, and place both ends of an utterance to 5 ms.

use std::f32::consts::TAU;

/// Someone speaks, from one sample to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// What counts as speech.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How far speech stands above the noise.
    pub(crate) over_noise_db: f32,
    /// Nothing below this is speech.
    pub(crate) quietest_dbfs: f32,
    /// Shorter sounds are clicks.
    pub(crate) min_speech_ms: u32,
    /// Shorter pauses are inside an utterance.
    pub(crate) merge_gap_ms: u32,
}

/// Returns the utterances in `samples`, in order.
pub(crate) fn utterances(samples: &[i16], rate: u32, rules: &Rules) -> Vec<Span> {
    let step = (rate as usize * STEP_MS / 1_000).max(1);
    let whole = powers(samples, step, &mut HighPass::new(rate));
    let smooth = smoothed(&whole, SMOOTH_REACH);

    // Far below the loudest speech nobody hears anything, in however quiet a room.
    let mut sorted: Vec<f32> = smooth.iter().copied().filter(|&p| db(p) > rules.quietest_dbfs).collect();
    if sorted.is_empty() {
        return Vec::new();
    }
    sorted.sort_by(f32::total_cmp);
    let loud = db(sorted[sorted.len() * 49 / 50]);
    let quietest = rules.quietest_dbfs.max(loud - RANGE_DB);

    // Speech holds its energy in few places and noise in all, so speech that is lost in the whole
    // may stand out in one band.
    let speech = near_speech(&smooth, loud);
    let mut tracks = vec![Track::new(whole, loud, &speech)];
    for (hz, q) in BANDS.into_iter().filter(|(hz, _)| hz * 2.2 < rate as f32) {
        tracks.push(Track::new(powers(samples, step, &mut BandPass::new(rate, hz, q)), loud, &speech));
    }
    let over = rules.over_noise_db;
    let speaks = |n: usize| tracks.iter().any(|track| track.is_over(track.smooth[n], n, over, quietest));
    let sounds = |n: usize| {
        tracks.iter().enumerate().any(|(which, track)| {
            let over = if which == 0 { over * EDGE_SHARE } else { over };
            track.is_over(track.fine[n], n, over, quietest)
        })
    };

    let runs = runs(smooth.len(), speaks);
    let runs = without_clicks(runs);
    let steps = |ms: u32| ms as usize / STEP_MS;
    let mut out = Vec::new();
    let mut at = 0;
    while at < runs.len() {
        let mut last = at;
        let mut speech = runs[at].end - runs[at].start;
        while last + 1 < runs.len() && runs[last + 1].start - runs[last].end < steps(rules.merge_gap_ms) {
            last += 1;
            speech += runs[last].end - runs[last].start;
        }
        let near = (runs[at].start..runs[last].end).filter(|&n| db(smooth[n]) > loud - FAR_DB).count();
        if speech >= steps(rules.min_speech_ms) && near >= NEAR_STEPS {
            let whole = Span { start: runs[at].start, end: runs[last].end };
            let span = refined(whole, smooth.len(), sounds);
            out.push(Span { start: span.start * step, end: (span.end * step).min(samples.len()) });
        }
        at = last + 1;
    }
    out
}

/// One band of the sound, in steps of 5 ms.
struct Track {
    fine: Vec<f32>,
    smooth: Vec<f32>,
    /// What is always there, in dBFS.
    noise: Vec<f32>,
    /// What now and then is there without being speech, in dBFS.
    bustle: Vec<f32>,
}

impl Track {
    fn new(fine: Vec<f32>, loud: f32, speech: &[bool]) -> Self {
        let smooth = smoothed(&fine, SMOOTH_REACH);
        let bustle = bustle(&smooth, speech);
        Self { noise: noise_floor(&fine, loud), bustle, smooth, fine }
    }

    fn is_over(&self, power: f32, n: usize, over: f32, quietest: f32) -> bool {
        db(power) > (self.noise[n] + over).max(self.bustle[n]).max(quietest)
    }
}

/// Where somebody certainly speaks, with a margin: loud, and for longer than a knock.
fn near_speech(smooth: &[f32], loud: f32) -> Vec<bool> {
    let mut near = vec![false; smooth.len()];
    let runs = runs(smooth.len(), |n| db(smooth[n]) > loud - CERTAIN_DB);
    let mut at = 0;
    while at < runs.len() {
        let mut last = at;
        let mut steps = runs[at].end - runs[at].start;
        while last + 1 < runs.len() && runs[last + 1].start - runs[last].end < CERTAIN_MARGIN {
            last += 1;
            steps += runs[last].end - runs[last].start;
        }
        if steps >= CERTAIN_STEPS {
            let end = (runs[last].end + CERTAIN_MARGIN).min(near.len());
            near[runs[at].start.saturating_sub(CERTAIN_MARGIN)..end].fill(true);
        }
        at = last + 1;
    }
    near
}

/// What is reached away from speech by sounds that come and go, such as dishes, drops and clocks.
///
/// Never so high that certain speech would be lost.
fn bustle(smooth: &[f32], speech: &[bool]) -> Vec<f32> {
    let mut sorted = smooth.to_vec();
    sorted.sort_by(f32::total_cmp);
    let Some(&loud) = sorted.get(sorted.len() * 49 / 50) else { return Vec::new() };
    let highest = db(loud) - CERTAIN_DB;
    let mut out = Vec::with_capacity(smooth.len());
    let mut around = Vec::with_capacity(2 * BUSTLE_REACH);
    while out.len() < smooth.len() {
        let middle = out.len() + FLOOR_BLOCK / 2;
        let window = middle.saturating_sub(BUSTLE_REACH)..(middle + BUSTLE_REACH).min(smooth.len());
        around.clear();
        around.extend(window.filter(|&n| !speech[n]).map(|n| smooth[n]));
        let level = if around.len() < BUSTLE_NEEDS {
            f32::NEG_INFINITY
        } else {
            let rank = around.len() * 97 / 100;
            (db(*around.select_nth_unstable_by(rank, f32::total_cmp).1) + BUSTLE_OVER_DB).min(highest)
        };
        out.resize((out.len() + FLOOR_BLOCK).min(smooth.len()), level);
    }
    out
}

trait Filter {
    fn next(&mut self, sample: f32) -> f32;
}

/// Takes hum and offset away.
struct HighPass {
    keep: f32,
    before: f32,
    high: f32,
}

impl HighPass {
    fn new(rate: u32) -> Self {
        Self { keep: 1.0 - TAU * 100.0 / rate.max(1_000) as f32, before: 0.0, high: 0.0 }
    }
}

impl Filter for HighPass {
    fn next(&mut self, sample: f32) -> f32 {
        self.high = self.keep * (self.high + sample - self.before);
        self.before = sample;
        self.high
    }
}

/// A resonator with a gain of one at its centre.
struct BandPass {
    gain: f32,
    back: [f32; 2],
    input: [f32; 2],
    output: [f32; 2],
}

impl BandPass {
    fn new(rate: u32, hz: f32, q: f32) -> Self {
        let angle = TAU * hz / rate.max(1) as f32;
        let alpha = angle.sin() / (2.0 * q);
        let scale = 1.0 / (1.0 + alpha);
        Self {
            gain: alpha * scale,
            back: [-2.0 * angle.cos() * scale, (1.0 - alpha) * scale],
            input: [0.0; 2],
            output: [0.0; 2],
        }
    }
}

impl Filter for BandPass {
    fn next(&mut self, sample: f32) -> f32 {
        let out = self.gain * (sample - self.input[1])
            - self.back[0] * self.output[0]
            - self.back[1] * self.output[1];
        self.input = [sample, self.input[0]];
        self.output = [out, self.output[0]];
        out
    }
}

/// Mean squares of the filtered sound, step by step.
fn powers(samples: &[i16], step: usize, filter: &mut impl Filter) -> Vec<f32> {
    samples
        .chunks(step)
        .map(|chunk| {
            let sum: f32 = chunk.iter().map(|&sample| filter.next(f32::from(sample)).powi(2)).sum();
            sum / chunk.len() as f32 / (32_768.0 * 32_768.0)
        })
        .collect()
}

/// Means over `reach` steps to each side.
fn smoothed(powers: &[f32], reach: usize) -> Vec<f32> {
    (0..powers.len())
        .map(|n| {
            let around = &powers[n.saturating_sub(reach)..(n + reach + 1).min(powers.len())];
            around.iter().sum::<f32>() / around.len() as f32
        })
        .collect()
}

/// The noise in dBFS around each step: the softest quarter of a second within four seconds that is
/// even. Noise is even, speech hardly ever for so long.
///
/// Digital silence is no noise: it stands before the first packet, and in what a robot sends.
fn noise_floor(fine: &[f32], loud: f32) -> Vec<f32> {
    let silent: Vec<bool> = fine.iter().map(|&p| db(p) < DIGITAL_SILENCE_DBFS).collect();
    let coarse: Vec<f32> = smoothed(fine, NOISE_REACH).into_iter().map(db).collect();
    let even: Vec<f32> = (0..fine.len())
        .map(|n| match (coarse.get(n..n + EVEN), silent.get(n..n + EVEN)) {
            (Some(levels), Some(silent)) if !silent.contains(&true) => {
                let softest = levels.iter().copied().fold(f32::INFINITY, f32::min);
                let loudest = levels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let mean = levels.iter().sum::<f32>() / EVEN as f32;
                if loudest - softest < EVEN_DB { mean } else { f32::INFINITY }
            }
            _ => f32::INFINITY,
        })
        .collect();
    let softest = |levels: &[f32]| levels.iter().copied().fold(f32::INFINITY, f32::min);
    let anywhere = softest(&even);
    let mut floor = Vec::with_capacity(fine.len());
    while floor.len() < fine.len() {
        let middle = floor.len() + FLOOR_BLOCK / 2;
        let window = middle.saturating_sub(FLOOR_REACH)..(middle + FLOOR_REACH).min(fine.len());
        let mut level = softest(&even[window.clone()]);
        if level.is_infinite() {
            level = anywhere;
        }
        // Where there is digital silence, something even and loud is a drawn-out vowel.
        let silence = silent[window.clone()].iter().filter(|&&s| s).count();
        if level.is_infinite() || (silence * 10 > window.len() && level > loud - VOWEL_DB) {
            level = DIGITAL_SILENCE_DBFS;
        }
        // The softest moments of noise are softer than the noise.
        floor.resize((floor.len() + FLOOR_BLOCK).min(fine.len()), level + 1.0);
    }
    floor
}

fn runs(len: usize, speaks: impl Fn(usize) -> bool) -> Vec<Span> {
    let mut runs: Vec<Span> = Vec::new();
    for n in (0..len).filter(|&n| speaks(n)) {
        match runs.last_mut() {
            Some(run) if run.end == n => run.end = n + 1,
            Some(_) | None => runs.push(Span { start: n, end: n + 1 }),
        }
    }
    runs
}

/// Drops runs that are too short and too far from others to belong to a word.
fn without_clicks(runs: Vec<Span>) -> Vec<Span> {
    let near = |n: usize| {
        let before = n.checked_sub(1).is_some_and(|b| runs[n].start - runs[b].end < WORD_GAP);
        let after = runs.get(n + 1).is_some_and(|a| a.start - runs[n].end < WORD_GAP);
        before || after
    };
    (0..runs.len()).filter(|&n| runs[n].end - runs[n].start >= CLICK || near(n)).map(|n| runs[n]).collect()
}

/// Moves both ends to where the fine powers say that sound begins and ends.
fn refined(span: Span, len: usize, sounds: impl Fn(usize) -> bool) -> Span {
    // Smoothing has widened the span by up to its reach: look inwards first, then outwards.
    let inside = (span.start..span.end).find(|&n| sounds(n)).unwrap_or(span.start);
    let mut start = inside;
    while start > span.start.saturating_sub(EDGE_REACH) && start > 0 && sounds(start - 1) {
        start -= 1;
    }
    let inside = (span.start..span.end).rfind(|&n| sounds(n)).map_or(span.end, |n| n + 1);
    let mut end = inside;
    while end < (span.end + EDGE_REACH).min(len) && sounds(end) {
        end += 1;
    }
    Span { start, end: end.max(start + 1) }
}

fn db(power: f32) -> f32 {
    10.0 * power.max(1e-10).log10()
}

const STEP_MS: usize = 5;

/// Speech is judged over 25 ms.
const SMOOTH_REACH: usize = 2;

/// Centre and sharpness of the bands: the fundamental and first formant, the second, and hissing.
const BANDS: [(f32, f32); 4] = [(450.0, 0.9), (1_000.0, 1.4), (1_900.0, 1.8), (3_000.0, 2.2)];

/// The edge of speech is looked for this much nearer to the noise than speech itself.
const EDGE_SHARE: f32 = 0.65;

/// The edge is at most this many steps outside of what is clearly speech: 60 ms.
const EDGE_REACH: usize = 12;

/// Steps of a click: 40 ms. A burst of a consonant is shorter, but near to its vowel: 120 ms.
const CLICK: usize = 8;
const WORD_GAP: usize = 24;

/// Speech and its last audible remains.
const RANGE_DB: f32 = 32.0;

/// The dither and the smallest steps of G.711 lie below.
const DIGITAL_SILENCE_DBFS: f32 = -66.0;

/// Noise is measured over 55 ms, and even when it varies by less than 6 dB for 250 ms.
const NOISE_REACH: usize = 5;
const EVEN: usize = 50;
const EVEN_DB: f32 = 6.0;

/// It is looked for within 4 s to each side, anew every 250 ms.
const FLOOR_REACH: usize = 800;
const FLOOR_BLOCK: usize = 50;

/// Noise is rarely nearer to speech than this.
const VOWEL_DB: f32 = 15.0;

/// Within this of the loudest, for this many steps (100 ms), somebody speaks; for 400 ms on either
/// side somebody may.
const CERTAIN_DB: f32 = 12.0;
const CERTAIN_STEPS: usize = 20;
const CERTAIN_MARGIN: usize = 80;

/// Bustle is judged within 15 s to each side, from five at least: in less, the soft end of one sentence would be it.
const BUSTLE_REACH: usize = 3_000;
const BUSTLE_NEEDS: usize = 1_000;
const BUSTLE_OVER_DB: f32 = 2.0;

/// What never comes within this of the loudest, for 60 ms, is an echo or somebody in the background.
const FAR_DB: f32 = 16.0;
const NEAR_STEPS: usize = 12;
