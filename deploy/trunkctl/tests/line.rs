//! `trunkctl line test` against peers that were not written here: SIPp (Debian: sip-tester) and baresip.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "../../../edge/line/tests/line/common/mod.rs"]
mod common;
#[expect(dead_code, reason = "this file needs a part of it")]
#[path = "../../../edge/sip/tests/peers/scenario.rs"]
mod scenario;

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Peer, baresip, certificates, installed};
use scenario::{Body, Scenario};
use serde_json::Value;
use trunkline_ports::{free_port, sound_ports};

fn sipp(folder: &Path, scenario: &Scenario, more: &[&str]) -> Option<(Peer, SocketAddr)> {
    if !installed("sipp", "-v", "sip-tester") {
        return None;
    }
    let file = folder.join("scenario.xml");
    std::fs::write(&file, scenario.to_xml()).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new("sipp");
    command.arg("-sf").arg(&file).args(["-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin"]).args(more);
    command.args(["-mp", &free_port().to_string(), "-p", &at.port().to_string()]);
    command.args(["-timeout", "60s", "-timeout_error"]).current_dir(folder);
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

/// Answers with A-law only, and is hung up.
fn answers() -> Scenario {
    let ringing = Scenario::called().answer(180, "", Body::None).answer(200, "", Body::Sdp).recv("ACK");
    ringing.recv("BYE").reply(200, "", Body::None)
}

fn config(folder: &Path, at: SocketAddr, more: &str) -> PathBuf {
    let rtp_ports = sound_ports();
    let text = format!(
        "box = \"tl-a\"\ndata_dir = \"data\"\n[rtp]\nports = \"{}-{}\"\n[[trunk]]\nname = \"carrier\"\nproxy = \"{at}\"\n\
         bind = \"127.0.0.1:0\"\n{more}\n",
        rtp_ports.start(),
        rtp_ports.end()
    );
    let path = folder.join("edge.toml");
    std::fs::write(&path, text).unwrap();
    path
}

async fn line_test(config: PathBuf, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkctl"));
    command.args(["line", "test", "--config"]).arg(config).args(args).stdin(Stdio::null());
    if !args.contains(&"--seconds") {
        command.args(["--seconds", "1"]);
    }
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn read(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", text(output), String::from_utf8_lossy(&output.stderr))
    })
}

/// The verdict of one line of the only sheet.
fn verdict(read: &Value, check: &str) -> String {
    let rows = read["sheets"][0]["rows"].as_array().unwrap();
    let row =
        rows.iter().find(|row| row["check"] == check).unwrap_or_else(|| panic!("no {check} in {read:#}"));
    row["verdict"].as_str().unwrap().to_owned()
}

fn has(read: &Value, verdicts: &[(&str, &str)]) {
    for (check, wanted) in verdicts {
        assert_eq!(verdict(read, check), *wanted, "{check} in {read:#}");
    }
}

#[tokio::test]
async fn an_echo_service_proves_both_directions_the_keys_and_the_hanging_up() {
    let folder = tempfile::tempdir().unwrap();
    let Some((mut peer, at)) = sipp(folder.path(), &answers(), &["-m", "1", "-rtp_echo"]) else { return };
    let config = config(folder.path(), at, "ping = \"off\"");
    let pcap = folder.path().join("test.pcap");
    let args = ["--call", "13800138000", "--echo", "--json", "--pcap", pcap.to_str().unwrap()];
    let output = line_test(config, &args).await;
    let read = read(&output);
    has(
        &read,
        &[
            ("options", "not_tested"),
            ("registration", "not_tested"),
            ("call", "pass"),
            ("sound_in", "pass"),
            ("sound_out", "pass"),
            ("level", "pass"),
            ("echo", "pass"),
            ("round_trip_echo", "pass"),
            ("loss_in", "pass"),
            ("mos_in", "pass"),
            ("keys_out", "pass"),
            ("keys_in", "pass"),
            ("keys_sound", "pass"),
            ("bye", "pass"),
            ("loss_out", "not_tested"),
        ],
    );
    assert!(output.status.success());
    let call = &read["sheets"][0]["measured"]["call"];
    assert_eq!((&call["codec"], &call["taken"]), (&"PCMA".into(), &serde_json::json!(["PCMA"])));
    let of = |name: &str| call[name].as_f64().unwrap();
    // Packets come back at once and whole: what is left is what waits for the next frame, here and there.
    assert!(of("echo_loss_db").abs() < 1.5 && of("echo_round_trip_ms") < 80.0, "{call:#}");
    peer.is_content().await;
    let packets = std::fs::read(&pcap).unwrap();
    let packets = String::from_utf8_lossy(&packets);
    assert!(packets.contains("INVITE sip:xxxxxxxxx00@") && !packets.contains("13800138000"));
}

#[tokio::test]
async fn a_far_end_that_sends_nothing_is_one_way_and_the_sheet_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let Some((_peer, at)) = sipp(folder.path(), &answers(), &["-m", "2"]) else { return };
    let config = config(folder.path(), at, "ping = \"off\"");
    let output = line_test(config.clone(), &["--call", "1001", "--json"]).await;
    let json = read(&output);
    has(&json, &[("call", "pass"), ("sound_in", "fail"), ("sound_out", "not_tested"), ("bye", "pass")]);
    assert!(!output.status.success());

    let output = line_test(config, &["--call", "1001", "--echo", "--lang", "zh", "--ladder"]).await;
    let sheet = text(&output);
    for part in [
        "线路测试：carrier",
        "不通过",
        "听对方",
        "没有收到语音包：单通",
        "请在防火墙",
        "通过",
        "box ──▶      BYE",
    ] {
        assert!(sheet.contains(part), "{part} is not in\n{sheet}");
    }
    assert!(!output.status.success());
}

#[tokio::test]
async fn a_refused_registration_is_told_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let asked = Scenario::asked().recv("REGISTER").reply(
        403,
        "Reason: Q.850;cause=57;text=\"Not your day\"",
        Body::None,
    );
    let Some((_peer, at)) = sipp(folder.path(), &asked, &["-m", "1"]) else { return };
    let password = folder.path().join("password");
    std::fs::write(&password, "secret-of-branch\n").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let more = "ping = \"off\"\nuser = \"branch\"\npassword_file = \"password\"\nregister = \"1h\"";
    let output = line_test(config(folder.path(), at, more), &[]).await;
    let sheet = text(&output);
    assert!(!output.status.success());
    for part in [
        "FAIL       Registration           forbidden (403, Q.850 57): Not your day",
        "→ Check `user`, `password_file`",
    ] {
        assert!(sheet.contains(part), "{part} is not in\n{sheet}");
    }
    assert!(!sheet.contains("secret-of-branch"));
}

#[tokio::test]
async fn keys_that_come_as_info_are_told_as_that() {
    let folder = tempfile::tempdir().unwrap();
    let mut pressing = Scenario::called().answer(200, "", Body::Sdp).recv("ACK").pause(300);
    for (number, key) in (2..).zip(["1", "2", "3"]) {
        let body = format!("Signal={key}\nDuration=160\n");
        pressing = pressing
            .then_request("INFO", number, "", Body::Other("application/dtmf-relay", &body))
            .recv_code(200);
    }
    let scenario = pressing.recv("BYE").reply(200, "", Body::None);
    let Some((_peer, at)) = sipp(folder.path(), &scenario, &["-m", "1"]) else { return };
    let config = config(folder.path(), at, "ping = \"off\"");
    let output = line_test(config, &["--call", "1001", "--ask", "--json"]).await;
    let read = read(&output);
    has(&read, &[("keys_in", "pass"), ("sound_in", "fail"), ("bye", "pass")]);
    assert_eq!(read["sheets"][0]["measured"]["call"]["pressed_as"], "info");
}

#[tokio::test]
async fn the_profile_of_a_trunk_is_found_by_calls_with_each_codec_each_way_to_press_keys_and_encryption() {
    let without_events = "v=0\no=peer 1 1 IN IP4 [media_ip]\ns=-\nc=IN IP4 [media_ip]\nt=0 0\n\
                          m=audio [media_port] RTP/AVP 8\na=rtpmap:8 PCMA/8000\n";
    let plain = Body::Other("application/sdp", without_events);
    tokio::join!(
        profile_is(Body::Sdp, 200, "keys = \"events\"", "telephone events"),
        profile_is(plain, 200, "keys = \"info\"", "by INFO"),
        profile_is(plain, 415, "keys = \"sound\"", "as sound came back"),
    );
}

/// A trunk that answers with A-law and this session description, and a key by INFO with this code.
async fn profile_is(body: Body<'_>, code: u16, keys: &str, said: &str) {
    let folder = tempfile::tempdir().unwrap();
    let answers = Scenario::called().answer(200, "", body).recv("ACK").hung_up_perhaps_after("INFO", code);
    let Some((_peer, at)) = sipp(folder.path(), &answers, &["-rtp_echo"]) else { return };
    let config = config(folder.path(), at, "ping = \"off\"\ncodecs = [\"PCMU\"]");
    let output = line_test(config, &["--call", "1001", "--echo", "--find-profile"]).await;
    let sheet = text(&output);
    for part in
        ["✓ PCMA  MOS", "✗ PCMU", "✗ G722", "✗ opus", "✗ PCMA encrypted", "codecs = [\"PCMA\"]", keys, said]
    {
        assert!(sheet.contains(part), "{part} is not in\n{sheet}");
    }
    assert!(output.status.success(), "{sheet}");
}

#[tokio::test]
async fn what_headquarters_laid_over_the_file_is_what_is_tested() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), SocketAddr::from(([127, 0, 0, 1], free_port())), "ping = \"off\"");
    let with = folder.path().join("calls.json");
    let said = r#"{"trunk": [{"name": "headquarters", "proxy": "127.0.0.1:9", "bind": "127.0.0.1:0", "ping": "off"}]}"#;
    std::fs::write(&with, said).unwrap();
    let output = line_test(config, &["--with", with.to_str().unwrap()]).await;
    let sheet = text(&output);
    assert!(sheet.contains("headquarters") && !sheet.contains("carrier"), "{sheet}");
}

#[tokio::test]
async fn a_telephone_over_tls_shows_its_certificate_answers_options_and_reports() {
    let (folder, own) = (tempfile::tempdir().unwrap(), certificates());
    let sound =
        ("module srtp.so\nausrc_srate 8000\nauplay_srate 8000\naudio_channels 1", ";mediaenc=srtp-mand");
    let Some((_peer, at)) = baresip(folder.path(), &own, free_port(), sound).await else { return };
    let more = "transport = \"tls\"\nca = \"ca.pem\"\nencryption = \"required\"";
    let config = config(folder.path(), at, more);
    let output = line_test(config, &["--call", "bare", "--echo", "--json", "--seconds", "7"]).await;
    let read = read(&output);
    has(
        &read,
        &[
            ("certificate", "pass"),
            ("options", "pass"),
            ("call", "pass"),
            ("sound_in", "pass"),
            ("sound_out", "pass"),
            ("echo", "pass"),
            ("round_trip_rtcp", "pass"),
            ("loss_out", "pass"),
            ("mos_out", "pass"),
            ("bye", "pass"),
        ],
    );
    assert_eq!(read["sheets"][0]["measured"]["call"]["encrypted"], true);
}

#[tokio::test]
async fn nobody_there_and_no_such_trunk_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), SocketAddr::from(([127, 0, 0, 1], free_port())), "");
    let output = line_test(config.clone(), &["--trunk", "other"]).await;
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("there is no trunk `other`; there are: carrier")
    );
    let output = line_test(config, &["--call", "1001", "--json"]).await;
    let read = read(&output);
    has(&read, &[("options", "fail"), ("call", "fail")]);
    assert!(!output.status.success());
}
