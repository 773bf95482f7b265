//! The crate `neteq` at the same packets. It reads the wall clock, so it plays as long as the sound lasts.

use std::time::{Duration, Instant};

use anyhow::Result;
use neteq::codec::AudioDecoder;
use neteq::{AudioPacket, NetEq, NetEqConfig, RtpHeader};
use trunkline_audio::network::Network;
use trunkline_audio::{Codec, FRAME, to_f32, to_i16};

use super::sound::RATE;
use super::wire::Speaker;

/// It gives 10 ms at a time.
const TICK: Duration = Duration::from_millis(10);

struct Alaw;

impl AudioDecoder for Alaw {
    fn sample_rate(&self) -> u32 {
        RATE
    }

    fn channels(&self) -> u8 {
        1
    }

    fn decode(&mut self, octets: &[u8]) -> neteq::Result<Vec<f32>> {
        let mut samples = vec![0; octets.len()];
        Codec::Pcma.decode(octets, &mut samples);
        Ok(to_f32(&samples))
    }
}

/// One of its buffers with what is on the way to it.
struct Line<'a> {
    neteq: NetEq,
    arrivals: std::iter::Peekable<std::vec::IntoIter<(u64, usize)>>,
    payloads: Vec<&'a [u8]>,
    sound: Vec<i16>,
}

impl<'a> Line<'a> {
    fn new(speaker: &'a Speaker, network: &Network, seed: u64) -> Result<Self> {
        let mut neteq = NetEq::new(NetEqConfig { sample_rate: RATE, channels: 1, ..NetEqConfig::default() })?;
        neteq.register_decoder(Codec::Pcma.payload_type(), Box::new(Alaw));
        let payloads: Vec<&[u8]> = speaker.payloads().collect();
        let arrivals = network.arrivals(payloads.len(), seed).into_iter().peekable();
        Ok(Self { neteq, arrivals, payloads, sound: Vec::new() })
    }

    fn push(&mut self, now: Duration) -> Result<()> {
        while let Some((_, n)) = self.arrivals.next_if(|(at, _)| Duration::from_micros(*at) <= now) {
            let header = RtpHeader::new(n as u16, (n * FRAME) as u32, 1, Codec::Pcma.payload_type(), n == 0);
            self.neteq.insert_packet(AudioPacket::new(header, self.payloads[n].to_vec(), RATE, 1, 20))?;
        }
        Ok(())
    }

    fn pop(&mut self) -> Result<()> {
        self.sound.extend(to_i16(&self.neteq.get_audio()?.samples));
        Ok(())
    }
}

/// Plays a speaker through several networks at once. Returns what is heard of each, and by how much the worst tick was
/// late.
///
/// # Errors
/// When it refuses a packet or gives no sound.
pub(crate) fn through(
    speaker: &Speaker,
    networks: &[Network],
    seed: u64,
    progress: &mut dyn FnMut(&str),
) -> Result<(Vec<Vec<i16>>, Duration)> {
    let mut lines =
        networks.iter().map(|network| Line::new(speaker, network, seed)).collect::<Result<Vec<_>>>()?;
    let ticks = speaker.payloads().len() * 2 + 50;
    let (begun, mut worst) = (Instant::now(), Duration::ZERO);
    for tick in 0..ticks {
        let due = TICK * u32::try_from(tick)?;
        loop {
            let now = Instant::now() - begun;
            for line in &mut lines {
                line.push(now.min(due))?;
            }
            if now >= due {
                worst = worst.max(now - due);
                break;
            }
            std::thread::sleep((due - now).min(Duration::from_millis(1)));
        }
        for line in &mut lines {
            line.pop()?;
        }
        if tick % 500 == 0 {
            progress(&format!("neteq, in real time: {} of {} s", tick / 100, ticks / 100));
        }
    }
    Ok((lines.into_iter().map(|line| line.sound).collect(), worst))
}
