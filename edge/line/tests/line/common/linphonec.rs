//! linphonec, a telephone in software that is steered by what one would type.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, Stdio};

use tempfile::TempDir;

use crate::common::{Peer, installed};
use trunkline_ports::free_port;

/// What it plays, in Hz.
pub(crate) const THEIRS: f32 = 440.0;

/// One that answers by itself and plays a tone; ended with the test.
pub(crate) struct Linphonec {
    process: Peer,
    types: ChildStdin,
    pub(crate) at: SocketAddr,
    folder: TempDir,
}

impl Linphonec {
    pub(crate) async fn start() -> Option<Self> {
        if !installed("linphonec", "--version", "linphone-cli") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let tone: Vec<i16> = (0..8_000 * 60)
            .map(|n| (8_000.0 * (n as f32 * THEIRS / 8_000.0 * std::f32::consts::TAU).sin()) as i16)
            .collect();
        trunkline_audio::wav::write(path("tone.wav"), 8_000, &[&tone]).unwrap();
        let (port, rtp) = (at.port(), free_port());
        let config = format!(
            "[sip]\nsip_port={port}\nsip_tcp_port=0\nsip_tls_port=0\ncontact=sip:linphonec@127.0.0.1\n\
             guess_hostname=0\nmedia_encryption=none\n\
             [rtp]\naudio_rtp_port={rtp}\n[video]\nenabled=0\ncapture=0\ndisplay=0\n"
        );
        std::fs::write(path("linphonerc"), config).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = Command::new("linphonec");
        // It keeps what it knows in its user's folders, and does not start without them.
        for made in [".local/share/linphone", ".config/linphone"] {
            std::fs::create_dir_all(path(made)).unwrap();
        }
        command.env("HOME", folder.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        command.arg("-a").arg("-c").arg(path("linphonerc")).current_dir(folder.path());
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = Peer(command.spawn().unwrap());
        let types = process.0.stdin.take().unwrap();
        let mut linphonec = Self { process, types, at, folder };
        linphonec.ready().await;
        linphonec.type_in("soundcard use files");
        Some(linphonec)
    }

    /// Waits until it has its socket.
    async fn ready(&mut self) {
        for _ in 0..400 {
            assert!(self.process.0.try_wait().unwrap().is_none(), "linphonec has ended: {}", self.log());
            if std::net::UdpSocket::bind(self.at).is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("linphonec does not start: {}", self.log());
    }

    /// Types a line, such as `pause`, or a key of the telephone.
    pub(crate) fn type_in(&mut self, line: &str) {
        writeln!(self.types, "{line}").unwrap();
        self.types.flush().unwrap();
    }

    /// Plays its tone in the call that is up.
    pub(crate) fn play(&mut self) {
        let tone = self.folder.path().join("tone.wav");
        self.type_in(&format!("play {}", tone.display()));
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Linphonec {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("linphonec said:\n{}", self.log());
        }
    }
}
