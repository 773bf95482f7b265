//! What one leg of G.711 costs: calls joined in pairs by our media thread, beside as many that rtpengine relays, and
//! beside as many that baresip plays back to who calls.
//!
//! `cargo run -p trunkline-line --example relay_bench`
//!
//! Needs rtpengine (Debian: rtpengine-daemon), which runs here without its kernel module, and baresip (baresip-core). Far
//! ends that send a packet every 20 ms are the same for all. What is counted is CPU time: of our media thread, and of all
//! threads of the others. The work is comparable and not the same: we decode, conceal and encode each frame and write
//! reports, as baresip does, where rtpengine passes on packets.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use trunkline_audio::Codec;
use trunkline_line::{Attached, Bridge, Command as Order, MediaConfig, MediaHandle, RtpPorts};
use trunkline_sip::sdp::{LocalMedia, SdpOrigin};

mod common;

use common::{FarEnds, Targets, cpu_of};

type Failed = Box<dyn Error>;

const CALLS: usize = 50;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(10);

fn main() -> Result<(), Failed> {
    let mut far = FarEnds::bind(CALLS * 2, None)?;
    println!(
        "| round | ours, a leg | rtpengine, a leg | ratio | baresip, a leg | ratio | packets that came through |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for round in 1..=ROUNDS {
        let (ours, came) = {
            let (_calls, targets) = join(&far)?;
            measure(&mut far, &targets, media_thread)?
        };
        let (theirs, came_theirs) = {
            let (relay, targets) = relay(&far, round)?;
            measure(&mut far, &targets, || cpu_of(&format!("/proc/{}/task", relay.0.id()), None))?
        };
        let (phone, came_phone) = {
            let (phone, targets) = telephones(&far)?;
            measure(&mut far, &targets, || cpu_of(&format!("/proc/{}/task", phone.0.id()), None))?
        };
        println!(
            "| {round} | {ours:.3} % of a core | {theirs:.3} % of a core | {:.2} | {phone:.3} % of a core | {:.2} | {:.1} %, \
             {:.1} %, {:.1} % |",
            ours / theirs,
            ours / phone,
            came * 100.0,
            came_theirs * 100.0,
            came_phone * 100.0
        );
    }
    Ok(())
}

/// Runs for a round and returns the CPU that `cpu` used for a leg, in percent of a core, and the share of packets
/// that arrived at the other end.
fn measure(
    far: &mut FarEnds,
    targets: &Targets,
    cpu: impl Fn() -> Result<Duration, Failed>,
) -> Result<(f64, f64), Failed> {
    // The beginning, with its learning of addresses, does not count.
    far.run(targets, Duration::from_secs(1))?;
    let before = cpu()?;
    let begun = Instant::now();
    let (sent, came) = far.run(targets, ROUND)?;
    let used = cpu()?.saturating_sub(before);
    let legs = (CALLS * 2) as f64;
    let share = came as f64 / sent.max(1) as f64;
    Ok((used.as_secs_f64() / begun.elapsed().as_secs_f64() / legs * 100.0, share))
}

// --- ours --------------------------------------------------------------------------------------------------

fn join(far: &FarEnds) -> Result<(Vec<Attached>, Targets), Failed> {
    let media = MediaHandle::start()?;
    let ports = RtpPorts::new("127.0.0.1".parse()?, 21_000..=21_999);
    let (mut calls, mut targets) = (Vec::new(), Targets::new());
    for call in 0..CALLS {
        let (one, other) = Bridge::pair();
        for (end, bridge) in [(call * 2, one), (call * 2 + 1, other)] {
            let sockets = ports.bind()?;
            targets.push(sockets.local()?);
            let lost_after = Duration::from_secs(60);
            let config = MediaConfig { remote: far.at(end)?, codec: Codec::Pcma, dtmf_pt: None, lost_after };
            let mut attached = media.attach(sockets, config, None, None);
            let _ = attached.commands.push(Order::Bridge(bridge));
            calls.push(attached);
        }
    }
    Ok((calls, targets))
}

fn media_thread() -> Result<Duration, Failed> {
    cpu_of("/proc/self/task", Some("media"))
}

// --- rtpengine ---------------------------------------------------------------------------------------------

struct Relay(Child);

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const STEERED: &str = "127.0.0.1:22999";

fn relay(far: &FarEnds, round: usize) -> Result<(Relay, Targets), Failed> {
    let mut command = Command::new("rtpengine");
    command.args(["--config-file=none", "--foreground", "--table=-1", "--interface=127.0.0.1"]);
    command.args(["--num-threads=1", "--log-level=3"]);
    command.args(["--listen-ng=127.0.0.1:22999", "--port-min=23000", "--port-max=23999"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let relay = Relay(command.spawn()?);
    let asks = UdpSocket::bind("127.0.0.1:0")?;
    asks.set_read_timeout(Some(Duration::from_millis(500)))?;
    sleep(Duration::from_secs(1));
    let mut targets = Targets::new();
    for call in 0..CALLS {
        let id = format!("{round}-{call}");
        // The first end learns its port from the answer, the second from the offer.
        let second = ask(&asks, "offer", &id, far.at(call * 2)?)?;
        let first = ask(&asks, "answer", &id, far.at(call * 2 + 1)?)?;
        targets.extend([first, second]);
    }
    Ok((relay, targets))
}

/// Offers or answers a call with the media of the end at `media`; returns where the other end is to send.
fn ask(asks: &UdpSocket, command: &str, call: &str, media: SocketAddr) -> Result<SocketAddr, Failed> {
    let sdp = SdpOrigin::new(1).offer(&LocalMedia::new(media));
    let mut pairs = vec![("call-id", call), ("command", command), ("from-tag", "a"), ("sdp", sdp.as_str())];
    pairs.extend((command == "answer").then_some(("to-tag", "b")));
    let text = |text: &str| format!("{}:{text}", text.len());
    let body: String = pairs.iter().flat_map(|(key, value)| [text(key), text(value)]).collect();
    asks.send_to(format!("{call}{command} d{body}e").as_bytes(), STEERED)?;
    let mut buffer = [0; 4_096];
    let length = asks.recv(&mut buffer)?;
    let reply = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let port = reply.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next());
    let port = port.ok_or_else(|| format!("rtpengine answers {reply}"))?;
    Ok(SocketAddr::new(media.ip(), port.parse()?))
}

// --- baresip -----------------------------------------------------------------------------------------------

/// Where baresip takes calls.
const PHONE: &str = "127.0.0.1:22998";

/// Starts baresip and calls it once from each far end; it plays back what it hears.
fn telephones(far: &FarEnds) -> Result<(Relay, Targets), Failed> {
    let folder = tempfile::tempdir()?;
    let config = format!(
        "sip_listen {PHONE}\ncall_local_timeout 600\ncall_max_calls {}\nrtp_ports 24000-24999\n\
         audio_player aubridge,loop\naudio_source aubridge,loop\nausrc_srate 8000\nauplay_srate 8000\n\
         audio_channels 1\nmodule_path /usr/lib/baresip/modules\nmodule g711.so\nmodule aubridge.so\n\
         module_tmp account.so\nmodule_app echo.so\n",
        CALLS * 2 + 1
    );
    std::fs::write(folder.path().join("config"), config)?;
    std::fs::write(
        folder.path().join("accounts"),
        "<sip:echo@127.0.0.1>;regint=0;answermode=manual;audio_codecs=PCMA/8000/1\n",
    )?;
    std::fs::write(folder.path().join("contacts"), "")?;
    let mut command = Command::new("baresip");
    command.arg("-f").arg(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let phone = Relay(command.spawn()?);
    sleep(Duration::from_secs(1));
    let caller = UdpSocket::bind("127.0.0.1:0")?;
    caller.set_read_timeout(Some(Duration::from_secs(5)))?;
    let targets = (0..CALLS * 2).map(|end| ring(&caller, end, far.at(end)?)).collect::<Result<_, _>>()?;
    Ok((phone, targets))
}

/// Calls baresip with media at `media`; returns where it wants to have its own.
fn ring(caller: &UdpSocket, call: usize, media: SocketAddr) -> Result<SocketAddr, Failed> {
    let own = caller.local_addr()?;
    let sdp = SdpOrigin::new(1).offer(&LocalMedia::new(media));
    let request = |method: &str, to_tag: &str, body: &str| {
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} sip:echo@{PHONE} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{method}{call}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:bench@{own}>;tag=b{call}\r\nTo: <sip:echo@{PHONE}>{to_tag}\r\n\
             Call-ID: {call}@bench\r\nCSeq: 1 {method}\r\nContact: <sip:bench@{own}>\r\n{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    caller.send_to(request("INVITE", "", &sdp).as_bytes(), PHONE)?;
    let mut buffer = [0; 4_096];
    loop {
        let length = caller.recv(&mut buffer).map_err(|error| format!("baresip does not answer: {error}"))?;
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let code = answer.split(' ').nth(1).unwrap_or_default();
        // Answers to earlier calls may come again.
        if !answer.contains(&format!("Call-ID: {call}@bench")) || code.starts_with('1') {
            continue;
        }
        let port = answer.split("m=audio ").nth(1).and_then(|rest| rest.split(' ').next());
        let (Some(port), "200") = (port, code) else {
            return Err(format!("baresip answers {answer}").into());
        };
        let tag =
            answer.lines().find(|line| line.starts_with("To:")).and_then(|line| line.split(";tag=").nth(1));
        let tag = format!(";tag={}", tag.unwrap_or_default().trim());
        caller.send_to(request("ACK", &tag, "").as_bytes(), PHONE)?;
        return Ok(SocketAddr::new(media.ip(), port.parse()?));
    }
}
