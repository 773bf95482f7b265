//! A TPM in software (Debian's package `swtpm`), for tests: the real commands, the real codes, no chip.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::channel::Channel;
use crate::wire;

const CLEAR: u32 = 0x126;
const CHANGE_PASSWORD: u32 = 0x129;
const LOCKOUT: u32 = 0x4000_000A;
const OWNER: u32 = 0x4000_0001;

/// A running `swtpm`; it ends with this value, and its state stays in the folder.
#[derive(Debug)]
pub struct Swtpm {
    process: Child,
    socket: PathBuf,
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Swtpm {
    /// Starts one with its state in the folder. `None` where the program is not installed and need not be.
    ///
    /// # Errors
    /// When it cannot be started, does not listen within 10 s, or is not there although `TRUNKLINE_REQUIRE_PEERS` is 1.
    pub fn start(dir: &Path) -> io::Result<Option<Self>> {
        let (socket, control) = (dir.join("tpm.sock"), dir.join("tpm.control"));
        for old in [&socket, &control] {
            let _ = std::fs::remove_file(old);
        }
        let started = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(format!("dir={}", dir.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}", control.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("swtpm.log"))?)
            .spawn();
        let process = match started {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref() == Ok("1") {
                    return Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        "no swtpm: the peers are required here",
                    ));
                }
                println!("skipped: swtpm missing, run apt-get install swtpm");
                return Ok(None);
            }
            started => started?,
        };
        let swtpm = Self { process, socket };
        for _ in 0..500 {
            if UnixStream::connect(&swtpm.socket).is_ok() {
                return Ok(Some(swtpm));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "swtpm does not listen"))
    }

    /// Returns its socket, which stands in for the device.
    pub fn device(&self) -> &Path {
        &self.socket
    }

    /// Clears it as the machine's firmware would: the owner's seed is another one, and its keys are gone (part 3 §24.6).
    ///
    /// # Errors
    /// When it does not.
    pub fn clear(&self) -> io::Result<()> {
        self.order(&wire::command(CLEAR, &[LOCKOUT], true, &[]))
    }

    /// Gives its owner a password of one letter (part 3 §24.8).
    ///
    /// # Errors
    /// When it does not.
    pub fn set_owner_password(&self) -> io::Result<()> {
        self.order(&wire::command(CHANGE_PASSWORD, &[OWNER], true, &[0, 1, b'x']))
    }

    fn order(&self, command: &[u8]) -> io::Result<()> {
        let answer = Channel::open(&self.socket)?.ask(command)?;
        match wire::Reply::parse(&answer) {
            Some(wire::Reply::Done { .. }) => Ok(()),
            other => Err(io::Error::other(format!("swtpm answered {other:x?}"))),
        }
    }
}
