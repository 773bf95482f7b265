//! Scenarios that SIPp plays.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::common::{Peer, installed};
use trunkline_ports::free_port;

/// SIPp at an address, with the folder that its scenario is in.
pub(crate) struct Played {
    pub(crate) peer: Peer,
    pub(crate) at: SocketAddr,
    _folder: TempDir,
}

pub(crate) fn play(xml: &str) -> Option<Played> {
    play_from([127, 0, 0, 1], xml, None)
}

/// Plays a scenario at an address, at any port of it; with `target`, it calls that.
pub(crate) fn play_from(ip: [u8; 4], xml: &str, target: Option<SocketAddr>) -> Option<Played> {
    play_at(SocketAddr::from((ip, free_port())), xml, target)
}

/// Plays a scenario at an address; with `target`, it calls that.
pub(crate) fn play_at(at: SocketAddr, xml: &str, target: Option<SocketAddr>) -> Option<Played> {
    play_calls(at, xml, target, 1)
}

/// As [`play_at`], for so many calls.
pub(crate) fn play_calls(
    at: SocketAddr,
    xml: &str,
    target: Option<SocketAddr>,
    calls: usize,
) -> Option<Played> {
    play_with(at, xml, target, &["-m", &calls.to_string()])
}

/// Plays a scenario that is called once, with a port for sound; `-rtp_echo` sends back what comes to it.
pub(crate) fn play_sound(xml: &str, more: &[&str]) -> Option<Played> {
    let (at, sound) = (SocketAddr::from(([127, 0, 0, 1], free_port())), free_port());
    play_with(at, xml, None, &[&["-m", "1", "-mp", &sound.to_string()], more].concat())
}

fn play_with(at: SocketAddr, xml: &str, target: Option<SocketAddr>, more: &[&str]) -> Option<Played> {
    if !installed("sipp", "-v", "sip-tester") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scenario.xml");
    std::fs::write(&file, xml).unwrap();
    let ip = at.ip().to_string();
    let mut command = Command::new("sipp");
    command.arg("-sf").arg(&file).args(["-i", &ip, "-mi", &ip, "-nostdin"]).args(more);
    command.args(target.map(|target| target.to_string()));
    command
        .args(["-p", &at.port().to_string(), "-timeout", "60s", "-timeout_error"])
        .current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let peer = Peer(command.spawn().unwrap());
    if target.is_none() {
        wait_until_bound(at);
    }
    Some(Played { peer, at, _folder: folder })
}

/// A request that comes before the peer has its socket would be answered by the system: nobody here.
fn wait_until_bound(at: SocketAddr) {
    for _ in 0..200 {
        if UdpSocket::bind(at).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody takes {at}");
}
