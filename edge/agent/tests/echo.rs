//! The program for calls makes the test call that its keeper wants, over its own trunk, to SIPp (Debian: sip-tester).
//!
//! Without the peer or the models the test says so and passes, unless `TRUNKLINE_REQUIRE_PEERS=1` or
//! `TRUNKLINE_REQUIRE_MODELS=1` demands it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[expect(dead_code, reason = "this file needs a part of it")]
#[path = "../../line/tests/line/common/mod.rs"]
mod common;
#[expect(dead_code, reason = "this file needs a part of it")]
#[path = "../../sip/tests/peers/scenario.rs"]
mod scenario;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Peer, installed};
use scenario::{Body, Scenario};
use trunkline_keeper::{CallsState, EchoDone, EchoWish, Word};
use trunkline_ports::{free_port, sound_ports};

fn sipp(folder: &Path, more: &[&str]) -> Option<(Peer, SocketAddr)> {
    if !installed("sipp", "-v", "sip-tester") {
        return None;
    }
    let ringing = Scenario::called().answer(180, "", Body::None).answer(200, "", Body::Sdp).recv("ACK");
    let file = folder.join("scenario.xml");
    fs::write(&file, ringing.recv("BYE").reply(200, "", Body::None).to_xml()).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new("sipp");
    command
        .arg("-sf")
        .arg(&file)
        .args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-m", "1"])
        .args(more);
    command.args(["-mp", &free_port().to_string(), "-p", &at.port().to_string()]);
    command.args(["-timeout", "120s", "-timeout_error"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let peer = Peer(command.spawn().unwrap());
    for _ in 0..200 {
        if UdpSocket::bind(at).is_err() {
            return Some((peer, at));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("nobody takes {at}");
}

/// Whether there are models; `false` also where they need not be.
fn has_models() -> bool {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let dir = variable("TRUNKLINE_MODELS")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("trunkline/models")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/trunkline/models")));
    let there = dir.is_some_and(|dir| dir.join("kokoro-v1.0-int8.onnx").exists());
    assert!(
        there || std::env::var("TRUNKLINE_REQUIRE_MODELS").as_deref() != Ok("1"),
        "the models are required"
    );
    if !there {
        println!("skipped: models missing, run deploy/get-models");
    }
    there
}

/// The program for calls, whose cloud is nowhere.
struct Calls(Child);

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path, trunk: SocketAddr) -> Calls {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["tl-a".into()]).unwrap().self_signed(&key).unwrap();
    for (name, text) in
        [("ca.pem", certificate.pem()), ("box.pem", certificate.pem()), ("box.key", key.serialize_pem())]
    {
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let rtp_ports = sound_ports();
    let text = format!(
        "box = \"tl-a\"\ndata_dir = \"data\"\n[cloud]\nmqtt = \"127.0.0.1:1\"\napi = \"https://127.0.0.1:1\"\nca = \"ca.pem\"\n\
         cert = \"box.pem\"\nkey = \"box.key\"\n[rtp]\nports = \"{}-{}\"\n[[trunk]]\nname = \"carrier\"\nproxy = \"{trunk}\"\n\
         bind = \"127.0.0.1:0\"\nping = \"off\"\n",
        rtp_ports.start(),
        rtp_ports.end()
    );
    fs::write(folder.join("edge.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline-edge"));
    command.args(["run", "--kept", "--config"]).arg(folder.join("edge.toml"));
    command.arg("--logs").arg(folder.join("logs"));
    Calls(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
}

#[test]
fn the_test_call_of_a_new_version_goes_over_the_boxs_own_trunk_and_hears_its_echo() {
    if !has_models() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((_peer, at)) = sipp(folder.path(), &["-rtp_echo"]) else { return };
    let mut calls = start(folder.path(), at);
    let mut words = calls.0.stdin.take().unwrap();
    let lines = BufReader::new(calls.0.stdout.take().unwrap()).lines();
    let mut asked = false;
    for line in lines {
        let state: CallsState = serde_json::from_str(&line.unwrap()).unwrap();
        if state.ready && !asked {
            let wish = Word::Echo(EchoWish { id: 7, to: "4443".into(), ring_s: 10 });
            writeln!(words, "{}", serde_json::to_string(&wish).unwrap()).unwrap();
            asked = true;
        }
        if let Some(echo) = state.echo {
            let EchoDone { id, failed, round_trip_ms, loss_db, lost_permille } = echo;
            assert_eq!((id, failed), (7, None));
            assert!(
                round_trip_ms < 400 && loss_db.abs() <= 1 && lost_permille < 50,
                "{round_trip_ms} {loss_db}"
            );
            let kept = fs::read_to_string(folder.path().join("logs/calls.log")).unwrap();
            assert!(kept.contains("A test call is over") && !kept.contains("4443"), "{kept}");
            return;
        }
    }
    panic!("the program for calls ended");
}
