//! What Opus costs: CPU for one frame of 20 ms, encoded and decoded, by effort, and for 100 calls both ways.
//!
//! `cargo run -p trunkline-audio --example opus_bench`

use std::error::Error;
use std::time::Duration;

use trunkline_audio::FRAME;
use trunkline_audio::opus::{OPUS_BITRATE, OpusDecoder, OpusEncoder, OpusSettings};

/// A minute.
const FRAMES: usize = 3_000;

fn main() -> Result<(), Box<dyn Error>> {
    let sound = sound();
    println!("| effort | encode | decode | 100 calls, both ways | bit/s |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    for complexity in [0, 3, 5, 8, 10] {
        let mut encoder = OpusEncoder::new(OpusSettings { bitrate: OPUS_BITRATE, fec: true, complexity })?;
        let mut decoder = OpusDecoder::new()?;
        let mut packets = Vec::with_capacity(FRAMES);
        let before = cpu()?;
        for frame in &sound {
            let mut packet = [0; 400];
            let len = encoder.encode(frame, &mut packet);
            packets.push((packet, len));
        }
        let encoded = cpu()?;
        for (packet, len) in &packets {
            decoder.push(&packet[..*len]);
            decoder.take(&mut [0; FRAME]);
        }
        let decoded = cpu()?;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / FRAMES as f64;
        let (encode, decode) = (each(encoded - before), each(decoded - encoded));
        // 50 frames a second each way.
        let share = (encode + decode) * 50.0 * 100.0 / 1e4;
        let bits = packets.iter().map(|(_, len)| len * 8).sum::<usize>() * 50 / FRAMES;
        println!("| {complexity} | {encode:.0} µs | {decode:.0} µs | {share:.0} % of a core | {bits} |");
    }
    Ok(())
}

/// Syllables of a voice whose pitch wanders.
fn sound() -> Vec<[i16; FRAME]> {
    let mut phase = 0.0f32;
    let sample = |n: usize| {
        let t = n as f32 / 8_000.0;
        phase = (phase + (130.0 + 40.0 * (t * 2.3).sin()) / 8_000.0).fract();
        let sum: f32 = (1..=12).map(|k| (phase * k as f32 * std::f32::consts::TAU).sin() / k as f32).sum();
        (sum * (t * 4.0 * std::f32::consts::PI).sin().max(0.0) * 6_000.0) as i16
    };
    let samples: Vec<i16> = (0..FRAMES * FRAME).map(sample).collect();
    samples.chunks_exact(FRAME).filter_map(|frame| frame.try_into().ok()).collect()
}

/// What this thread has computed: wall time would count what others do meanwhile.
fn cpu() -> Result<Duration, Box<dyn Error>> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(times.split_whitespace().next().unwrap_or_default().parse()?))
}
