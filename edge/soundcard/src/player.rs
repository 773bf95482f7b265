//! From frames of a call to samples of a device, without the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rtrb::{Consumer, Producer, RingBuffer};
use trunkline_audio::FRAME;
use trunkline_audio::resample::Resampler;

/// How the two directions are laid out on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Both together on every channel.
    #[default]
    Mono,
    /// The customer on the left, the robot on the right, as in the recording.
    Stereo,
}

/// What was received and what was sent in the same 20 ms.
#[derive(Clone, Copy, Debug)]
struct Both {
    rx: [i16; FRAME],
    tx: [i16; FRAME],
}

/// The end of a monitor that the media thread holds.
#[derive(Debug)]
pub struct MonitorFeed {
    ring: Producer<Both>,
    dropped: u64,
}

impl MonitorFeed {
    /// Gives 20 ms of both directions at 8 kHz. Returns false when the device is behind by half a
    /// second and the frame was dropped; never waits and never allocates.
    pub fn push(&mut self, rx: &[i16; FRAME], tx: &[i16; FRAME]) -> bool {
        let taken = self.ring.push(Both { rx: *rx, tx: *tx }).is_ok();
        self.dropped += u64::from(!taken);
        taken
    }

    /// Returns how many frames were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns whether the monitor is gone, so that there is no use in pushing.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.ring.is_abandoned()
    }
}

/// What the device's thread counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Times that the device had to play silence in the middle of a call.
    pub(crate) underruns: AtomicU64,
    /// Frames left out because the device is slower than the call.
    pub(crate) skipped: AtomicU64,
}

/// The end of a monitor that the device's thread holds.
pub(crate) struct Player {
    ring: Consumer<Both>,
    layout: Layout,
    resamplers: [Resampler; 2],
    /// The frame being played, at the device's rate.
    sides: [Vec<i16>; 2],
    at: usize,
    /// Waiting for some frames in store before it plays.
    filling: bool,
    counters: Arc<Counters>,
}

/// Makes the two ends for a device of `rate` samples a second.
pub(crate) fn pair(rate: u32, layout: Layout, counters: Arc<Counters>) -> (MonitorFeed, Player) {
    let (producer, consumer) = RingBuffer::new(CAPACITY);
    let resampler = Resampler::new(8_000, rate);
    let side = Vec::with_capacity(resampler.max_output(FRAME));
    let player = Player {
        ring: consumer,
        layout,
        resamplers: [resampler.clone(), resampler],
        sides: [side.clone(), side],
        at: 0,
        filling: true,
        counters,
    };
    // A clone of an empty vector has no room, and the device's thread should not allocate.
    let mut player = player;
    let room = player.resamplers[0].max_output(FRAME);
    player.sides.iter_mut().for_each(|side| side.reserve(room));
    (MonitorFeed { ring: producer, dropped: 0 }, player)
}

impl Player {
    /// Fills a buffer of interleaved samples in the range -1 to 1.
    pub(crate) fn fill(&mut self, out: &mut [f32], channels: usize) {
        for frame in out.chunks_mut(channels.max(1)) {
            let [rx, tx] = self.next();
            match self.layout {
                Layout::Mono => frame.fill((rx + tx).clamp(-1.0, 1.0)),
                // On a device with one channel only, both share it after all.
                Layout::Stereo => match frame {
                    [both] => *both = (rx + tx).clamp(-1.0, 1.0),
                    [left, right, rest @ ..] => {
                        (*left, *right) = (rx, tx);
                        rest.fill(0.0);
                    }
                    [] => {}
                },
            }
        }
    }

    fn next(&mut self) -> [f32; 2] {
        if self.at == self.sides[0].len() && !self.take_frame() {
            return [0.0; 2];
        }
        let at = self.at;
        self.at += 1;
        [&self.sides[0], &self.sides[1]].map(|side| f32::from(side[at]) / 32_768.0)
    }

    /// Takes the next frame out of the ring; false when there is none to play yet.
    fn take_frame(&mut self) -> bool {
        let stored = self.ring.slots();
        if self.filling && stored < START {
            return false;
        }
        // The device's clock is not the call's. A slow one lets the store grow until a frame goes.
        if stored > TOO_MANY && self.ring.pop().is_ok() {
            self.counters.skipped.fetch_add(1, Ordering::Relaxed);
        }
        let Ok(both) = self.ring.pop() else {
            // Between calls this is no fault, but the next call should start with a store again.
            self.filling = true;
            self.counters.underruns.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        self.filling = false;
        self.at = 0;
        for ((resampler, side), frame) in
            self.resamplers.iter_mut().zip(&mut self.sides).zip([&both.rx, &both.tx])
        {
            side.clear();
            resampler.process(frame, side);
        }
        true
    }
}

/// Half a second.
const CAPACITY: usize = 25;

/// The delay of the monitor: 60 ms, since devices take some 20 ms at once.
const START: usize = 3;

/// 200 ms.
const TOO_MANY: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_audio::tone::Goertzel;

    fn sine(hz: f32, from: usize) -> [i16; FRAME] {
        std::array::from_fn(|n| {
            (8_000.0 * ((from + n) as f32 * hz / 8_000.0 * std::f32::consts::TAU).sin()) as i16
        })
    }

    /// Plays a second of 500 Hz received and 1000 Hz sent, and returns it channel by channel.
    fn play(rate: u32, layout: Layout, channels: usize) -> Vec<Vec<i16>> {
        let (mut feed, mut player) = pair(rate, layout, Arc::default());
        let mut out = vec![Vec::new(); channels];
        let mut buffer = vec![0.0; rate as usize / 50 * channels];
        for frame in 0..50 {
            assert!(feed.push(&sine(500.0, frame * FRAME), &sine(1_000.0, frame * FRAME)));
            if frame >= START {
                player.fill(&mut buffer, channels);
                for (n, &sample) in buffer.iter().enumerate() {
                    out[n % channels].push((sample * 32_768.0) as i16);
                }
            }
        }
        assert_eq!(player.counters.underruns.load(Ordering::Relaxed), 0);
        out
    }

    fn strength(sound: &[i16], hz: f32, rate: u32) -> f32 {
        Goertzel::new(hz, rate).power(&sound[rate as usize / 10..]).sqrt()
    }

    #[test]
    fn stereo_has_the_customer_left_and_the_robot_right_at_any_rate() {
        for rate in [8_000, 44_100, 48_000] {
            let out = play(rate, Layout::Stereo, 4);
            let expected = 8_000.0 / 2f32.sqrt();
            assert!((strength(&out[0], 500.0, rate) - expected).abs() < 200.0, "{rate}");
            assert!(strength(&out[0], 1_000.0, rate) < 50.0);
            assert!((strength(&out[1], 1_000.0, rate) - expected).abs() < 200.0);
            assert!(strength(&out[1], 500.0, rate) < 50.0);
            assert!(out[2].iter().chain(&out[3]).all(|&s| s == 0));
        }
    }

    #[test]
    fn mono_has_both_on_every_channel_and_so_has_a_device_with_one() {
        for (layout, channels) in [(Layout::Mono, 2), (Layout::Stereo, 1), (Layout::Mono, 1)] {
            for side in play(48_000, layout, channels) {
                assert!(strength(&side, 500.0, 48_000) > 5_000.0);
                assert!(strength(&side, 1_000.0, 48_000) > 5_000.0);
            }
        }
    }

    #[test]
    fn a_device_that_stops_costs_frames_and_never_time() {
        let (mut feed, player) = pair(48_000, Layout::Mono, Arc::default());
        let taken = (0..100).filter(|_| feed.push(&[0; FRAME], &[0; FRAME])).count();
        assert_eq!((taken, feed.dropped()), (CAPACITY, 75));
        assert!(!feed.is_closed());
        drop(player);
        assert!(feed.is_closed());
    }

    #[test]
    fn a_slow_device_leaves_frames_out_and_keeps_the_delay_bounded() {
        let counters = Arc::new(Counters::default());
        let (mut feed, mut player) = pair(8_000, Layout::Mono, Arc::clone(&counters));
        // The device takes 19 ms of sound for every 20 ms of the call.
        let mut buffer = [0.0; 152];
        for frame in 0..1_000 {
            assert!(feed.push(&sine(500.0, frame * FRAME), &[0; FRAME]), "frame {frame}");
            player.fill(&mut buffer, 1);
        }
        assert!(counters.skipped.load(Ordering::Relaxed) >= 35);
        assert_eq!(counters.underruns.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn when_the_call_pauses_the_device_plays_silence_and_then_goes_on() {
        let (mut feed, mut player) = pair(8_000, Layout::Mono, Arc::default());
        let mut buffer = [0.5; FRAME];
        player.fill(&mut buffer, 1);
        assert_eq!(buffer, [0.0; FRAME]);
        for frame in 0..START {
            feed.push(&sine(500.0, frame * FRAME), &[0; FRAME]);
        }
        for _ in 0..START {
            player.fill(&mut buffer, 1);
            assert!(buffer.iter().any(|&s| s.abs() > 0.2));
        }
        player.fill(&mut buffer, 1);
        assert_eq!(buffer, [0.0; FRAME]);
        assert_eq!(player.counters.underruns.load(Ordering::Relaxed), 1);
    }
}
