//! The way to the TPM: one command, one answer, then the next.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::wire;

/// A command may take so long: making a key is the longest, some seconds on a slow chip.
const ANSWER: Duration = Duration::from_secs(60);
/// No answer is longer (the kernel's buffer).
const LONGEST: usize = 4_096;

/// An open way to a TPM. Others wait, or have one of their own, as long as it is held.
pub(crate) struct Channel(Box<dyn ReadWrite>);

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

impl Channel {
    /// Opens the device, or connects where a socket lies at the path.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if std::fs::metadata(path)?.file_type().is_socket() {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(ANSWER))?;
            socket.set_write_timeout(Some(ANSWER))?;
            return Ok(Self(Box::new(socket)));
        }
        Ok(Self(Box::new(OpenOptions::new().read(true).write(true).open(path)?)))
    }

    /// Sends a command, and returns the whole answer.
    pub(crate) fn ask(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        // In one piece: the device takes each writing for a command.
        self.0.write_all(command)?;
        let mut answer = Vec::new();
        let mut piece = [0; LONGEST];
        loop {
            let read = self.0.read(&mut piece)?;
            answer.extend_from_slice(&piece[..read]);
            match wire::length(&answer) {
                Some(length) if answer.len() >= length => return Ok(answer),
                _ if read == 0 || answer.len() > LONGEST => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its answer is cut off"));
                }
                _ => {}
            }
        }
    }
}
