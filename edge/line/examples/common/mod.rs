//! Far ends that send a packet every 20 ms, and what threads have computed.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use trunkline_rtp::srtp::{SrtpKey, SrtpProfile, SrtpSender};
use trunkline_rtp::{FRAME_TICKS, RtpSender, RtpTicks, Seq, Ssrc};

/// Where the far ends' packets go, one for each end.
pub(crate) type Targets = Vec<SocketAddr>;

struct FarEnd {
    socket: UdpSocket,
    rtp: RtpSender,
    seal: Option<SrtpSender>,
}

/// Telephones on loopback.
pub(crate) struct FarEnds(Vec<FarEnd>);

impl FarEnds {
    /// Makes so many, which encrypt with `key` if there is one.
    pub(crate) fn bind(count: usize, key: Option<[u8; 30]>) -> Result<Self, Box<dyn Error>> {
        let bind = |n: usize| -> Result<_, Box<dyn Error>> {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_nonblocking(true)?;
            let seal = key.map(|key| SrtpSender::new(SrtpProfile::Sha1Tag80, &SrtpKey::new(key)));
            Ok(FarEnd { socket, rtp: RtpSender::new(Ssrc(n as u32 + 1), Seq(1), RtpTicks(0)), seal })
        };
        Ok(Self((0..count).map(bind).collect::<Result<_, _>>()?))
    }

    /// Where one of them listens.
    pub(crate) fn at(&self, end: usize) -> Result<SocketAddr, Box<dyn Error>> {
        Ok(self.0[end].socket.local_addr()?)
    }

    /// Sends from each end every 20 ms, spread over them, and reads what comes; returns how many packets were sent, and
    /// how many came.
    pub(crate) fn run(&mut self, targets: &Targets, time: Duration) -> Result<(u64, u64), Box<dyn Error>> {
        let (begun, mut sent, mut came) = (Instant::now(), 0, 0);
        let (mut packet, mut buffer) = ([0; 240], [0; 1_500]);
        for tick in 0u32.. {
            let due = Duration::from_millis(u64::from(tick));
            if due >= time {
                break;
            }
            sleep((begun + due).saturating_duration_since(Instant::now()));
            let ends = self.0.iter_mut().zip(targets).skip(tick as usize % 20).step_by(20);
            for (end, target) in ends {
                let mut len = end.rtp.write_into(8, &[0x35; 160], FRAME_TICKS, &mut packet)?;
                if let Some(seal) = &mut end.seal {
                    len = seal.protect_rtp(&mut packet, len)?;
                }
                end.socket.send_to(&packet[..len], target)?;
                sent += 1;
                while end.socket.recv_from(&mut buffer).is_ok() {
                    came += 1;
                }
            }
        }
        Ok((sent, came))
    }
}

/// Returns what the threads in a folder of `/proc` have computed, all or those of a name.
pub(crate) fn cpu_of(tasks: &str, name: Option<&str>) -> Result<Duration, Box<dyn Error>> {
    let mut sum = Duration::ZERO;
    for task in std::fs::read_dir(tasks)? {
        let path = task?.path();
        // A thread may end meanwhile.
        let (Ok(comm), Ok(times)) =
            (std::fs::read_to_string(path.join("comm")), std::fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        if name.is_none_or(|name| comm.trim() == name) {
            let nanos = times.split_whitespace().next().unwrap_or_default();
            sum += Duration::from_nanos(nanos.parse()?);
        }
    }
    Ok(sum)
}
