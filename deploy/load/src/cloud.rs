//! The cloud as a process: set up, started, killed as the kernel does it, started again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ring::digest;
use trunkline_ports::free_port;

use crate::authority::Authority;

/// How long it may take to end after SIGTERM.
const FAREWELL: Duration = Duration::from_secs(30);

/// The cloud does not start without a script; nobody is called here.
const SCRIPT: &str = include_str!("../../../shared/scripts/appointment-confirmation-en.yaml");

/// Where a cloud lives, and the process while there is one.
pub(crate) struct Cloud {
    program: PathBuf,
    dir: PathBuf,
    /// Where its broker listens, in every life.
    pub(crate) mqtt: SocketAddr,
    child: Option<Child>,
    /// The most memory that any of its lives had, in KiB.
    peak_kib: u64,
}

impl Cloud {
    /// Writes all that a cloud needs into a folder.
    pub(crate) fn set_up(program: &Path, dir: &Path, authority: &Authority) -> Result<Self> {
        let (cert, key) = authority.server()?;
        let mqtt = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let token = hex::encode(digest::digest(&digest::SHA256, &rand::random::<[u8; 24]>()));
        fs::create_dir_all(dir.join("scripts"))?;
        for (name, text) in [
            ("ca.pem", authority.root_pem.as_str()),
            ("server.pem", &cert),
            ("server.key", &key),
            ("tokens", &format!("load {token}\n")),
            ("cloud.toml", &configuration(mqtt)),
            ("scripts/some.yaml", SCRIPT),
        ] {
            let path = dir.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        let (program, dir) = (program.to_owned(), dir.to_owned());
        Ok(Self { program, dir, mqtt, child: None, peak_kib: 0 })
    }

    /// Starts it and returns how long it took until it was ready.
    pub(crate) fn start(&mut self) -> Result<Duration> {
        let log = fs::File::options().create(true).append(true).open(self.log())?;
        let began = Instant::now();
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(self.dir.join("cloud.toml"))
            // One line for each box that comes and goes would be most of the work.
            .env("RUST_LOG", "warn,trunkline_worker=error,rmqtt=error,rmqtt_net=error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| {
                format!("cannot start {}: build it, or name it with --cloud", self.program.display())
            })?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        self.child = Some(child);
        if !line.starts_with("ready") {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            bail!("the cloud did not start: {}", log.lines().last().unwrap_or("it said nothing"));
        }
        Ok(began.elapsed())
    }

    /// Ends it without a word, as the kernel does when memory is short.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.note_memory();
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Lets it end in order.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.note_memory();
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until {
            if child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        child.kill()?;
        child.wait()?;
        bail!("the cloud did not end within {} s of SIGTERM", FAREWELL.as_secs())
    }

    /// Looks at the most memory that it has had.
    pub(crate) fn note_memory(&mut self) {
        let Some(child) = &self.child else { return };
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
        self.peak_kib = self.peak_kib.max(kib);
    }

    /// Returns the most memory that any of its lives had, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.peak_kib
    }

    /// Returns its database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join("data/cloud.sqlite")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("cloud.log")
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn configuration(mqtt: SocketAddr) -> String {
    let endpoint = |listen: &str| {
        format!(
            "listen = \"{listen}\"\ncert = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\n"
        )
    };
    format!(
        "data_dir = \"data\"\n[api]\n{}[mqtt]\n{}[scripts]\ndir = \"scripts\"\n[tokens]\nfile = \"tokens\"\n\
         [models]\ndir = \"no-models\"\noptional = true\n",
        endpoint("127.0.0.1:0"),
        endpoint(&mqtt.to_string())
    )
}
