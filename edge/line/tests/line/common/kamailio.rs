//! Kamailio, a proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::common::{installed, wait_for_listener};
use trunkline_ports::free_port;

/// A proxy, ended with the test.
pub(crate) struct Kamailio {
    process: Child,
    pub(crate) at: SocketAddr,
    folder: TempDir,
}

impl Kamailio {
    /// Starts one that rings `one`, or `one` and `two` at once; passwords are hashed with `algorithm`.
    pub(crate) async fn start(algorithm: &str, one: SocketAddr, two: SocketAddr) -> Option<Self> {
        Self::start_with(&[("algorithm", algorithm)], one, two, &[]).await
    }

    /// Starts one that sends the sound of calls to `relayed` through the relay that is steered at `relay`.
    pub(crate) async fn with_relay(relay: SocketAddr, one: SocketAddr) -> Option<Self> {
        let given = [("algorithm", "MD5"), ("relay", &relay.to_string())];
        Self::start_with(&given, one, one, &["-A", "WITH_RELAY"]).await
    }

    async fn start_with(
        given: &[(&str, &str)],
        one: SocketAddr,
        two: SocketAddr,
        arguments: &[&str],
    ) -> Option<Self> {
        if !installed("kamailio", "-v", "kamailio") {
            return None;
        }
        let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/kamailio.cfg");
        let mut config = std::fs::read_to_string(template).unwrap();
        let (port, one, two) = (at.port().to_string(), one.to_string(), two.to_string());
        for (name, value) in [("port", port.as_str()), ("one", &one), ("two", &two)].iter().chain(given) {
            config = config.replace(&format!("{{{name}}}"), value);
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("kamailio.cfg"), config).unwrap();
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = Command::new("kamailio");
        // In the foreground, with 16 MB for all its processes and 4 MB for each.
        command.args(["-DD", "-E", "-m", "16", "-M", "4", "-f"]).arg(path("kamailio.cfg")).args(arguments);
        command.arg("-Y").arg(folder.path()).arg("-P").arg(path("pid"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let process = command.spawn().unwrap();
        let kamailio = Self { process, at, folder };
        wait_for_listener(at).await;
        Some(kamailio)
    }

    /// A proxy before a peer that is rung.
    pub(crate) async fn before(one: SocketAddr) -> Option<Self> {
        Self::start("MD5", one, one).await
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Kamailio {
    /// Asks it to end, so that it ends its own processes; they are a group of their own, should it not.
    fn drop(&mut self) {
        let id = Pid::from_raw(self.process.id() as i32);
        let _ = kill(id, Signal::SIGTERM);
        let limit = Instant::now() + Duration::from_secs(1);
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = killpg(id, Signal::SIGKILL);
        let _ = self.process.wait();
        if std::thread::panicking() {
            println!("Kamailio said:\n{}", self.log());
        }
    }
}
