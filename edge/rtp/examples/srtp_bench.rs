//! What encryption costs: CPU for one packet of 20 ms of G.711, there and back, and for 200 calls.
//!
//! `cargo run -p trunkline-rtp --example srtp_bench`

use std::time::Instant;

use trunkline_rtp::srtp::{SrtpKey, SrtpProfile, SrtpReceiver, SrtpSender};
use trunkline_rtp::{FRAME_TICKS, RtpSender, RtpTicks, Seq, Ssrc};

const PACKETS: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("| profile | protect | open | 200 calls, both ways |");
    println!("| --- | ---: | ---: | ---: |");
    for profile in [SrtpProfile::Sha1Tag80, SrtpProfile::Sha1Tag32] {
        let key = SrtpKey::new([7; 30]);
        let mut rtp = RtpSender::new(Ssrc(1), Seq(0), RtpTicks(0));
        let (mut out, mut into) = (SrtpSender::new(profile, &key), SrtpReceiver::new(profile, &key));
        let mut packets = Vec::with_capacity(PACKETS as usize);
        for _ in 0..PACKETS {
            let mut buffer = [0; 200];
            let len = rtp.write_into(8, &[0xd5; 160], FRAME_TICKS, &mut buffer)?;
            packets.push((buffer, len));
        }
        let begun = Instant::now();
        for (buffer, len) in &mut packets {
            *len = out.protect_rtp(buffer, *len)?;
        }
        let protect = begun.elapsed();
        let begun = Instant::now();
        for (buffer, len) in &mut packets {
            *len = into.open_rtp(&mut buffer[..*len])?;
        }
        let open = begun.elapsed();
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / f64::from(PACKETS);
        // 50 packets a second each way.
        let share = (each(protect) + each(open)) * 50.0 * 200.0 / 1e4;
        let (name, protect, open) = (profile.name(), each(protect), each(open));
        println!("| {name} | {protect:.2} µs | {open:.2} µs | {share:.1} % of a core |");
    }
    Ok(())
}
