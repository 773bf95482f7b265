//! The sound of a test call: what went out and came in, sample by sample, and what is found in it.

use std::time::{Duration, Instant};

use rtrb::{Consumer, RingBuffer};
use trunkline_audio::FRAME;
use trunkline_audio::level::{active_dbfs, rms_dbfs};
use trunkline_audio::probe;
use trunkline_audio::record::RecordFrame;
use trunkline_audio::tone::{DtmfDetector, ToneGenerator, dtmf};

use crate::media::{Attached, MediaHandle, MediaNews, MediaStats, MediaTerms, RtpSockets};
use crate::player::Command;

/// A full-scale sine is +3.14 dBm0 in G.711 (ITU-T G.711 §4) and -3.01 dBFS here.
const DBM0_OF_DBFS: f32 = 6.15;
/// Softer than this, in dBm0, is silence: comfort noise is louder.
const SILENCE_DBM0: f32 = -65.0;
/// Two seconds of frames between two looks.
const RING: usize = 100;
/// A test call is no longer than this: 3 minutes of samples.
const MAX_SAMPLES: usize = 180 * 8_000;

/// An echo as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Echo {
    /// The way there and back, without our jitter buffer.
    pub round_trip_ms: f32,
    /// How much softer it came back, in dB; below 0 it came back louder.
    pub loss_db: f32,
}

/// One side of a call under test: plays what it is told, and keeps what goes out and comes in.
#[derive(Debug)]
pub struct Sound {
    attached: Attached,
    frames: Option<Consumer<RecordFrame>>,
    rx: Vec<i16>,
    tx: Vec<i16>,
    /// How long before it was taken each frame had come, with the 20 ms that it lasts.
    delays: Vec<u16>,
    says: u32,
    events: Vec<char>,
    stats: Option<MediaStats>,
}

impl Sound {
    /// Begins sound with what was agreed.
    pub fn attach(media: &MediaHandle, sockets: RtpSockets, terms: MediaTerms) -> Self {
        Self {
            attached: media.attach(sockets, terms, None, None),
            frames: None,
            rx: Vec::new(),
            tx: Vec::new(),
            delays: Vec::new(),
            says: 0,
            events: Vec::new(),
            stats: None,
        }
    }

    /// Begins to keep both directions.
    pub fn record(&mut self) {
        let (producer, consumer) = RingBuffer::new(RING);
        self.frames = Some(consumer);
        self.order(Command::Record(producer));
    }

    /// Gives the media thread an order.
    pub fn order(&mut self, command: Command) {
        // The ring holds 64 orders, of which a test call gives a dozen.
        let _ = self.attached.commands.push(command);
    }

    /// Returns who is woken when there is something to [`Self::drain`].
    pub fn notify(&self) -> std::sync::Arc<tokio::sync::Notify> {
        std::sync::Arc::clone(&self.attached.notify)
    }

    /// Takes in what the media thread has.
    pub fn drain(&mut self) {
        while self.attached.frames.pop().is_ok() {}
        while let Ok(news) = self.attached.news.pop() {
            match news {
                MediaNews::Digit(key) => self.events.push(key),
                MediaNews::Closed(stats) => self.stats = Some(stats),
                MediaNews::Lost
                | MediaNews::Started { .. }
                | MediaNews::Finished { .. }
                | MediaNews::Held { .. } => {}
            }
        }
        while let Some(frame) = self.frames.as_mut().and_then(|frames| frames.pop().ok()) {
            if self.rx.len() < MAX_SAMPLES {
                self.rx.extend(frame.rx);
                self.tx.extend(frame.tx);
                self.delays.push(frame.rx_delay_samples);
            }
        }
    }

    /// Returns the keys that came as telephone events.
    pub fn events(&self) -> &[char] {
        &self.events
    }

    /// Returns where the recording stands, in samples.
    pub fn position(&self) -> usize {
        self.rx.len()
    }

    /// Plays samples, from the next frame on.
    pub fn play(&mut self, samples: Vec<i16>) {
        self.says += 1;
        self.order(Command::Play { say: self.says, clip: samples.into(), last: true });
    }

    /// Closes the sound and returns its counts.
    pub async fn close(&mut self) -> Option<MediaStats> {
        self.order(Command::Close);
        let until = Instant::now() + Duration::from_secs(2);
        while self.stats.is_none() && Instant::now() < until {
            let _ = tokio::time::timeout(Duration::from_millis(100), self.notify().notified()).await;
            self.drain();
        }
        self.stats
    }

    /// Returns the level of what was heard while it sounded, in dBm0, up to `to`; `None` for silence.
    pub fn heard_dbm0(&self) -> Option<f32> {
        let loudest = self.rx.chunks(FRAME).map(rms_dbfs).fold(f32::NEG_INFINITY, f32::max);
        let level = active_dbfs(&self.rx, 8_000)? + DBM0_OF_DBFS;
        (loudest + DBM0_OF_DBFS > SILENCE_DBM0).then_some(level)
    }

    /// Looks for the probe that was played first after `from`.
    pub fn echo(&self, from: usize) -> Option<Echo> {
        let begun = from + self.tx.get(from..)?.iter().position(|sample| *sample != 0)?;
        // A prompt begins with a frame.
        let begun = begun / FRAME * FRAME;
        let found = probe::find(&self.rx[begun..])?;
        let at = (begun + found.delay) / FRAME;
        let buffer = self.delays.get(at).copied().map_or(0, |delay| usize::from(delay).saturating_sub(FRAME));
        let round_trip = found.delay.saturating_sub(buffer);
        Some(Echo { round_trip_ms: round_trip as f32 / 8.0, loss_db: found.loss_db })
    }

    /// Returns the keys that are heard as sound.
    pub fn keys_in_band(&self) -> String {
        let mut detector = DtmfDetector::new(8_000);
        self.rx.chunks_exact(FRAME).filter_map(|frame| detector.push(frame)).collect()
    }
}

/// Makes the sound of keys, 120 ms each with as much silence between them.
pub fn keys(keys: &str) -> Vec<i16> {
    let mut all = Vec::new();
    for signal in keys.chars().filter_map(|key| dtmf(key, -12.0)) {
        let mut tone = vec![0; 960];
        ToneGenerator::new(8_000, signal).fill(&mut tone);
        all.extend(tone);
        all.extend([0; 960]);
    }
    all
}
