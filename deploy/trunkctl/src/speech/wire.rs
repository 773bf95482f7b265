//! Recordings as a call of minutes: through the telephone, in packets, through a network, and into what plays them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use trunkline_audio::network::Network;
use trunkline_audio::{Codec, FRAME};
use trunkline_line::{MediaCodec, Playout};
use trunkline_rtp::{Csrcs, JitterStats, RtpPacket, RtpTicks, Seq, Ssrc};

use super::sound::{Clip, RATE};

/// Between two recordings, and before the first: 1 s, in which a buffer may change its depth.
const GAP: usize = RATE as usize;

/// How much longer than what was said a cut is: what is late is in it.
const LATE: usize = RATE as usize / 2;

/// A tick of the media thread comes so long after that of the sender.
const PHASE: Duration = Duration::from_millis(7);

/// Somebody who says one recording after the other.
pub(crate) struct Speaker {
    /// As the network gets it, in A-law.
    octets: Vec<u8>,
    /// What is said, where it begins and how long it is, in samples.
    pub(crate) said: Vec<(String, usize, usize)>,
}

/// What was heard of a speaker.
pub(crate) struct Carried {
    /// From the first packet on.
    pub(crate) sound: Vec<i16>,
    /// How long each frame was held, in ms.
    pub(crate) held: Vec<f64>,
    pub(crate) stats: JitterStats,
}

impl Carried {
    /// Returns how long the frame at a place was held, in samples.
    pub(crate) fn held_at(&self, sample: usize) -> isize {
        self.held.get(sample / FRAME).map_or(0, |ms| (ms * f64::from(RATE) / 1_000.0) as isize)
    }
}

impl Speaker {
    /// Lets recordings be said, in order.
    ///
    /// # Errors
    /// When one cannot be read, or there is none.
    pub(crate) fn new(clips: &[&Clip]) -> Result<Self> {
        ensure!(!clips.is_empty(), "there is no recording with a text among those that were asked for");
        let (mut sound, mut said) = (vec![0; GAP], Vec::new());
        for clip in clips {
            let spoken = clip.telephone()?;
            said.push((clip.text.clone(), sound.len(), spoken.len()));
            sound.extend(spoken);
            sound.resize((sound.len() + GAP).next_multiple_of(FRAME), 0);
        }
        let mut octets = vec![0; sound.len()];
        Codec::Pcma.encode(&sound, &mut octets);
        Ok(Self { octets, said })
    }

    /// Returns the payloads of 20 ms each.
    pub(crate) fn payloads(&self) -> std::slice::ChunksExact<'_, u8> {
        self.octets.chunks_exact(FRAME)
    }

    /// Returns the `n`th thing that is said, as a call without a network brings it.
    pub(crate) fn clean(&self, n: usize) -> Vec<i16> {
        let (_, from, len) = self.said[n];
        let mut sound = vec![0; len];
        Codec::Pcma.decode(&self.octets[from..from + len], &mut sound);
        sound
    }

    /// Cuts the `n`th thing that is said out of what was heard, from `lead` samples before it on, with what may be late
    /// of it.
    pub(crate) fn heard<'a>(&self, n: usize, sound: &'a [i16], lead: isize) -> &'a [i16] {
        let (_, from, len) = self.said[n];
        let from = from.saturating_add_signed(-lead).min(sound.len());
        &sound[from..(from + len + LATE).min(sound.len())]
    }

    /// Brings it through a network into a buffer and a concealment as the box has them, by a clock of its own.
    ///
    /// # Errors
    /// When no coder can be made.
    pub(crate) fn through(&self, network: &Network, seed: u64) -> Result<Carried> {
        let mut playout = Playout::new(MediaCodec::G711(Codec::Pcma))?;
        let payloads: Vec<&[u8]> = self.payloads().collect();
        let mut arrivals = network.arrivals(payloads.len(), seed).into_iter().peekable();
        let (begun, mut sound, mut held) = (Instant::now(), Vec::new(), Vec::new());
        for tick in 0..payloads.len() + LATE / FRAME {
            let now = PHASE + Duration::from_millis(20) * u32::try_from(tick)?;
            while let Some((at, n)) = arrivals.next_if(|(at, _)| Duration::from_micros(*at) <= now) {
                playout.push(begun + Duration::from_micros(at), packet(n, payloads[n]), 8);
            }
            let mut frame = [0; FRAME];
            playout.pop(begun + now, &mut frame);
            held.push(f64::from(playout.delay_ticks()) * 1_000.0 / f64::from(RATE));
            sound.extend(frame);
        }
        Ok(Carried { sound, held, stats: playout.stats() })
    }
}

fn packet(n: usize, payload: &[u8]) -> RtpPacket<'_> {
    RtpPacket {
        marker: n == 0,
        payload_type: Codec::Pcma.payload_type(),
        seq: Seq(n as u16),
        ticks: RtpTicks((n * FRAME) as u32),
        ssrc: Ssrc(1),
        csrc: Csrcs::default(),
        extension: None,
        padding: 0,
        payload,
    }
}

/// Chooses up to `count` recordings of a set, evenly spread. Whole sentences only: prompts of two words say little.
pub(crate) fn chosen<'a>(clips: &'a [Clip], set: &str, count: usize) -> Vec<&'a Clip> {
    let fits = |clip: &&Clip| match clip.kind.as_str() {
        "asr" => clip.language == set,
        // Native English is rare among the recordings for recognition.
        "prompts" => clip.language == set && (12..200).contains(&clip.text.len()),
        _ => false,
    };
    let all: Vec<&Clip> = clips.iter().filter(|clip| !clip.text.is_empty()).filter(fits).collect();
    let step = (all.len() as f64 / count.max(1) as f64).max(1.0);
    (0..count.min(all.len())).map(|n| all[(n as f64 * step) as usize]).collect()
}
