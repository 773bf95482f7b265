//! Calls with baresip, a telephone in software, steered over its control port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use trunkline_ports::free_port;
use trunkline_sip::message::Uri;
use trunkline_sip::sdp::{Direction, MediaParams};
use trunkline_sip::{CallNews, DialogKey, HangupReason, SipEvent, TransferStep};

use crate::shell::{Peer, Shell, answered, ended, hung_up, incoming, installed};
use crate::sound::{Sound, share_of};

/// What baresip plays to us, and what we play to it, in Hz.
const THEIRS: f32 = 440.0;
const OURS: f32 = 1_000.0;

/// More lines of its settings, and more behind its account.
const PLAIN: (&str, &str) = ("", "");
const ENCRYPTED: (&str, &str) = ("module srtp.so", ";mediaenc=srtp-mand");

/// Where the sound comes from that baresip sends.
#[derive(Clone, Copy)]
enum Plays {
    Tone,
    WhatItHears,
}

struct Baresip {
    _process: Peer,
    control: TcpStream,
    unread: Vec<u8>,
    /// Every event it told, as JSON.
    events: Vec<String>,
    at: SocketAddr,
    folder: TempDir,
}

impl Baresip {
    /// Starts one that answers by itself, or `None` where it is not installed.
    fn start(source: Plays, (more_config, account): (&str, &str)) -> Option<Self> {
        if !installed("baresip", "-h", "baresip-core") {
            return None;
        }
        (0..3)
            .find_map(|_| Self::try_start(source, (more_config, account)))
            .or_else(|| panic!("baresip does not start"))
    }

    /// A port that somebody took in between makes it end at once.
    fn try_start(source: Plays, (more_config, account): (&str, &str)) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (at, control_port) = (SocketAddr::from(([127, 0, 0, 1], free_port())), free_port());
        let tone: Vec<i16> = (0..8_000 * 30).map(|n| sine(THEIRS, n)).collect();
        trunkline_audio::wav::write(path.join("in.wav"), 8_000, &[&tone]).unwrap();
        let source = match source {
            Plays::Tone => format!("aufile,{}/in.wav", path.display()),
            Plays::WhatItHears => "aubridge,loop".to_owned(),
        };
        let config = format!(
            "sip_listen {at}\naudio_player aubridge,loop\naudio_source {source}\n\
             audio_alert aubridge,alert\nausrc_srate 8000\nauplay_srate 8000\naudio_channels 1\n\
             module_path /usr/lib/baresip/modules\nmodule g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule_tmp account.so\n\
             module_app menu.so\nmodule_app ctrl_tcp.so\nctrl_tcp_listen 127.0.0.1:{control_port}\n{more_config}\n"
        );
        std::fs::write(path.join("config"), config).unwrap();
        std::fs::write(
            path.join("accounts"),
            format!("<sip:bare@127.0.0.1>;regint=0;answermode=auto{account}\n"),
        )
        .unwrap();
        std::fs::write(path.join("contacts"), "").unwrap();
        let log = std::fs::File::create(path.join("log")).unwrap();
        let mut command = Command::new("baresip");
        let output = Stdio::from(log.try_clone().unwrap());
        command.arg("-f").arg(path).stdin(Stdio::null()).stdout(output).stderr(log);
        let mut process = Peer(command.spawn().unwrap());
        let limit = Instant::now() + Duration::from_secs(10);
        let control = loop {
            match TcpStream::connect(("127.0.0.1", control_port)) {
                Ok(control) => break control,
                Err(_) if process.0.try_wait().unwrap().is_some() => return None,
                Err(error) if Instant::now() > limit => panic!("baresip's control port: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        control.set_nonblocking(true).unwrap();
        Some(Self { _process: process, control, unread: Vec::new(), events: Vec::new(), at, folder })
    }

    fn command(&mut self, command: &str, params: &str) {
        let text = format!("{{\"command\":\"{command}\",\"params\":\"{params}\",\"token\":\"t\"}}");
        write!(self.control, "{}:{text},", text.len()).unwrap();
    }

    /// Reads the control port: `length:json,` one after the other.
    fn poll(&mut self) {
        let mut buffer = [0; 4_096];
        while let Ok(length @ 1..) = self.control.read(&mut buffer) {
            self.unread.extend(&buffer[..length]);
        }
        while let Some(colon) = self.unread.iter().position(|b| *b == b':') {
            let length: usize = std::str::from_utf8(&self.unread[..colon]).unwrap().parse().unwrap();
            if self.unread.len() < colon + length + 2 {
                return;
            }
            let text = String::from_utf8_lossy(&self.unread[colon + 1..colon + 1 + length]).into_owned();
            self.unread.drain(..colon + length + 2);
            self.events.push(text);
        }
    }

    /// Serves both until baresip tells an event with all of `words` in it, and forgets what was told before.
    fn until(&mut self, shell: &mut Shell, words: &[&str]) -> String {
        let limit = Instant::now() + Duration::from_secs(15);
        loop {
            self.poll();
            if let Some(at) = self.events.iter().position(|text| words.iter().all(|word| text.contains(word)))
            {
                return self.events.drain(..=at).next_back().unwrap();
            }
            assert!(Instant::now() < limit, "no {words:?} from baresip: {:#?}\n{}", self.events, self.log());
            shell.turn(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn sine(hz: f32, n: usize) -> i16 {
    (8_000.0 * (n as f32 * hz / 8_000.0 * std::f32::consts::TAU).sin()) as i16
}

fn changed(event: &SipEvent) -> Option<MediaParams> {
    if let SipEvent::MediaChanged { media, .. } = event { Some(media.clone()) } else { None }
}

fn digit(event: &SipEvent) -> Option<char> {
    if let SipEvent::Digit { digit, .. } = event { Some(*digit) } else { None }
}

/// We call, it answers, and sound flows.
fn we_call(source: Plays, (more_config, account): (&str, &str)) -> Option<(Shell, Baresip, DialogKey)> {
    let mut bare = Baresip::start(source, (more_config, account))?;
    let mut shell = Shell::new(None, "");
    shell.sound = Some(Sound::new(OURS));
    shell.encrypted = account.contains("srtp").then_some([77; 30]);
    let call = shell.call_user("bare", bare.at, Duration::from_secs(20));
    let media = shell.until(answered);
    shell.sound.as_mut().unwrap().talk(media);
    bare.until(&mut shell, &["CALL_ESTABLISHED"]);
    Some((shell, bare, call))
}

/// It calls, we answer, and sound flows.
fn it_calls(source: Plays, (more_config, account): (&str, &str)) -> Option<(Shell, Baresip, DialogKey)> {
    let mut bare = Baresip::start(source, (more_config, account))?;
    let mut shell = Shell::new(None, "");
    shell.sound = Some(Sound::new(OURS));
    shell.encrypted = account.contains("srtp").then_some([78; 30]);
    bare.command("dial", &format!("sip:1001@{}", shell.local()));
    let call = shell.until(incoming);
    shell.agent.ringing(Instant::now(), call, None).unwrap();
    let media = shell.media();
    shell.agent.accept(Instant::now(), call, media).unwrap();
    let media = shell.until(answered);
    shell.sound.as_mut().unwrap().talk(media);
    bare.until(&mut shell, &["CALL_ESTABLISHED"]);
    Some((shell, bare, call))
}

fn hears_them(shell: &mut Shell) {
    shell.run_for(Duration::from_millis(1_200));
    let share = share_of(THEIRS, &shell.sound.as_ref().unwrap().heard);
    assert!(share > 0.9, "{share} of what we hear is their tone");
}

#[test]
fn baresip_is_called_hears_us_and_is_hung_up() {
    let Some((mut shell, mut bare, call)) = we_call(Plays::WhatItHears, PLAIN) else { return };
    shell.run_for(Duration::from_millis(1_500));
    let share = share_of(OURS, &shell.sound.as_ref().unwrap().heard);
    assert!(share > 0.9, "{share} of what comes back is our tone");
    shell.agent.bye(Instant::now(), call, Some(HangupReason::normal())).unwrap();
    shell.until(ended);
    bare.until(&mut shell, &["CALL_CLOSED"]);
    assert_eq!(shell.agent.gauges().calls, 0);
}

#[test]
fn baresip_is_called_and_heard() {
    let Some((mut shell, _bare, _)) = we_call(Plays::Tone, PLAIN) else { return };
    hears_them(&mut shell);
}

#[test]
fn baresip_is_called_and_hangs_up() {
    let Some((mut shell, mut bare, _)) = we_call(Plays::Tone, PLAIN) else { return };
    bare.command("hangup", "");
    shell.until(hung_up);
    bare.until(&mut shell, &["CALL_CLOSED"]);
    assert_eq!(shell.agent.gauges().calls, 0);
}

#[test]
fn baresip_calls_us_and_hangs_up() {
    let Some((mut shell, mut bare, _)) = it_calls(Plays::Tone, PLAIN) else { return };
    hears_them(&mut shell);
    bare.command("hangup", "");
    shell.until(hung_up);
    assert_eq!(shell.agent.gauges().calls, 0);
}

#[test]
fn baresip_calls_us_and_we_hang_up() {
    let Some((mut shell, mut bare, call)) = it_calls(Plays::Tone, PLAIN) else { return };
    shell.agent.bye(Instant::now(), call, None).unwrap();
    shell.until(ended);
    bare.until(&mut shell, &["CALL_CLOSED"]);
}

#[test]
fn baresip_holds_us_and_resumes() {
    let Some((mut shell, mut bare, _)) = we_call(Plays::Tone, PLAIN) else { return };
    bare.command("hold", "");
    let held = shell.until(changed);
    assert!(matches!(held.direction, Direction::RecvOnly | Direction::Inactive), "{:?}", held.direction);
    shell.sound.as_mut().unwrap().talk(held);
    shell.run_for(Duration::from_millis(300));
    bare.command("resume", "");
    let back = shell.until(changed);
    assert_eq!(back.direction, Direction::SendRecv);
    shell.sound.as_mut().unwrap().talk(back);
    hears_them(&mut shell);
    bare.command("hangup", "");
    shell.until(hung_up);
}

#[test]
fn keys_go_both_ways_as_telephone_events() {
    let Some((mut shell, mut bare, _)) = we_call(Plays::Tone, PLAIN) else { return };
    shell.run_for(Duration::from_millis(200));
    for key in ['5', '#'] {
        shell.sound.as_mut().unwrap().press(key);
        bare.until(&mut shell, &["CALL_DTMF_START", &format!("\"param\":\"{key}\"")]);
        bare.until(&mut shell, &["CALL_DTMF_END"]);
    }
    bare.command("sndcode", "7");
    let limit = Instant::now() + Duration::from_secs(10);
    while shell.sound.as_ref().unwrap().pressed.is_empty() {
        assert!(Instant::now() < limit, "no key came: {}", bare.log());
        assert!(shell.unread.iter().find_map(digit).is_none(), "it came as INFO");
        shell.turn(Duration::from_millis(20));
    }
    assert_eq!(shell.sound.as_ref().unwrap().pressed, "7");
    bare.command("hangup", "");
    shell.until(hung_up);
}

#[test]
fn an_encrypted_call_is_heard_both_ways() {
    let Some((mut shell, mut bare, call)) = we_call(Plays::WhatItHears, ENCRYPTED) else { return };
    shell.run_for(Duration::from_millis(1_500));
    let sound = shell.sound.as_ref().unwrap();
    let share = share_of(OURS, &sound.heard);
    assert!(share > 0.9, "{share} of what comes back is our tone");
    assert_eq!(sound.refused(), Some(0), "every packet fits its key");
    shell.agent.bye(Instant::now(), call, None).unwrap();
    shell.until(ended);
    bare.until(&mut shell, &["CALL_CLOSED"]);
}

#[test]
fn baresip_calls_us_encrypted() {
    let Some((mut shell, mut bare, _)) = it_calls(Plays::Tone, ENCRYPTED) else { return };
    hears_them(&mut shell);
    bare.command("hangup", "");
    shell.until(hung_up);
}

#[test]
fn we_hold_baresip_and_resume() {
    let Some((mut shell, mut bare, call)) = we_call(Plays::Tone, PLAIN) else { return };
    shell.agent.hold(Instant::now(), call).unwrap();
    let held = shell.until(changed);
    assert!(!held.direction.receives(), "{:?}", held.direction);
    shell.sound.as_mut().unwrap().talk(held);
    shell.agent.resume(Instant::now(), call).unwrap();
    let back = shell.until(changed);
    assert_eq!(back.direction, Direction::SendRecv);
    shell.sound.as_mut().unwrap().talk(back);
    hears_them(&mut shell);
    bare.command("hangup", "");
    shell.until(hung_up);
}

#[test]
fn baresip_is_sent_to_somebody_else() {
    let Some((mut shell, mut bare, call)) = we_call(Plays::Tone, PLAIN) else { return };
    // Somebody else is ourselves: a second call comes in.
    let target = Uri::at("2000", shell.local());
    shell.agent.refer(Instant::now(), call, &target, None).unwrap();
    let second = shell.until(incoming);
    let media = shell.media();
    shell.agent.accept(Instant::now(), second, media).unwrap();
    shell.until_news(|news| matches!(news, CallNews::Transfer(TransferStep::Done(200))));
    for call in [call, second] {
        // It may have hung up the first by itself.
        let _ = shell.agent.bye(Instant::now(), call, None);
    }
    bare.until(&mut shell, &["CALL_CLOSED"]);
}
