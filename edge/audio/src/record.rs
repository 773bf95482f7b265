//! The two-channel recording of a call: left is the customer, right is the robot.
//!
//! The media thread copies a [`RecordFrame`] into a ring and never waits; a writer thread takes them
//! out and feeds [`RecordingWriter`]. When the disk fails, the recording ends with an error and the
//! call goes on.
//!
//! **Both directions stand where they were on the wire at the box.** A received frame is played out
//! of the jitter buffer some time after it arrived, so it is placed as much earlier in the file; the
//! latency measured from the file is then that of the wire.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::FRAME;

/// One frame of both directions, small and plain, for a ring between threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFrame {
    /// What was received from the customer.
    pub rx: [i16; FRAME],
    /// What was sent by the robot in the same 20 ms.
    pub tx: [i16; FRAME],
    /// How many samples ago `rx` arrived: the delay of the jitter buffer.
    pub rx_delay_samples: u16,
}

/// What the file says about itself, in its INFO list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingMeta {
    /// The call's id.
    pub call: String,
    /// When the recording began, as RFC 3339.
    pub started: String,
    /// Anything else worth knowing without the call record; no personal data.
    pub note: String,
}

/// A finished recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Where it is.
    pub path: PathBuf,
    /// Frames that were pushed.
    pub frames: u64,
    /// Its length.
    pub seconds: f64,
    /// The size of the file.
    pub bytes: u64,
}

/// Why a recording could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be made.
    #[error("could not create the recording `{path}`")]
    Create {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The file could not be written to. What is in it is playable.
    #[error("could not write the recording `{path}` after {seconds:.1} s")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Seconds of sound that are safely in it.
        seconds: f64,
        /// What happened.
        source: io::Error,
    },
    /// The recording had ended with an error before; that error was returned then.
    #[error("the recording `{path}` has already failed")]
    Failed {
        /// Which file.
        path: PathBuf,
    },
    /// The disk is too full to begin.
    #[error("the disk of `{dir}` has {free} bytes left, and a recording needs {need}")]
    NoRoom {
        /// Which folder.
        dir: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes wanted.
        need: u64,
    },
}

/// Writes a recording as it happens: 8 kHz, 16 bits, two channels.
///
/// The header is brought up to date every second, so that a box that loses power leaves a file that
/// plays. The file can be read by its owner only.
#[derive(Debug)]
pub struct RecordingWriter {
    path: PathBuf,
    file: File,
    header_len: u64,
    /// Received and sent samples that may still change, by position modulo the length.
    window: Box<[[i16; 2]; WINDOW]>,
    /// The position of the next sent sample, and the first position that is not written yet.
    sent: u64,
    written: u64,
    /// How much earlier received frames are placed at present.
    rx_delay: u64,
    bytes: Vec<u8>,
    frames: u64,
    frames_since_header: u32,
    failed: bool,
}

impl RecordingWriter {
    /// Creates the file. `rx_delay_frames` is the delay of [`push`](Self::push): how many frames ago
    /// a received frame arrived on the wire, at most 20.
    ///
    /// # Errors
    /// [`RecordError::Create`], also when the file exists: a recording is never written over.
    pub fn create(path: &Path, meta: &RecordingMeta, rx_delay_frames: usize) -> Result<Self, RecordError> {
        let failed = |source| RecordError::Create { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let header = header(meta);
        file.write_all(&header).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            header_len: header.len() as u64,
            window: Box::new([[0; 2]; WINDOW]),
            sent: 0,
            written: 0,
            rx_delay: ((rx_delay_frames * FRAME) as u64).min(LONGEST_DELAY),
            bytes: Vec::with_capacity(WINDOW * 4),
            frames: 0,
            frames_since_header: 0,
            failed: false,
        })
    }

    /// Adds 20 ms, with the delay given at the beginning.
    ///
    /// # Errors
    /// [`RecordError::Write`] when the disk fails, [`RecordError::Failed`] ever after.
    pub fn push(&mut self, rx: &[i16; FRAME], tx: &[i16; FRAME]) -> Result<(), RecordError> {
        if self.failed {
            return Err(RecordError::Failed { path: self.path.clone() });
        }
        for (n, &sample) in tx.iter().enumerate() {
            self.window[slot(self.sent + n as u64)] = [0, sample];
        }
        for (n, &sample) in rx.iter().enumerate() {
            // What was received before the recording began has no place in it.
            if let Some(at) = (self.sent + n as u64).checked_sub(self.rx_delay) {
                self.window[slot(at)][0] = sample;
            }
        }
        self.sent += FRAME as u64;
        self.frames += 1;
        let settled = self.sent.saturating_sub(LONGEST_DELAY);
        let result = self.write_until(settled);
        self.checked(result)
    }

    /// Adds 20 ms, with the delay that the jitter buffer had.
    ///
    /// The place of received frames follows a change of more than 10 ms. The jitter buffer leaves
    /// out or repeats a quiet frame when it changes its delay, so the gap or overlap falls there.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_frame(&mut self, frame: &RecordFrame) -> Result<(), RecordError> {
        let delay = u64::from(frame.rx_delay_samples).min(LONGEST_DELAY);
        if delay.abs_diff(self.rx_delay) > FRAME as u64 / 2 {
            self.rx_delay = delay;
        }
        self.push(&frame.rx, &frame.tx)
    }

    /// Writes what is left, and the final header.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Summary, RecordError> {
        if self.failed {
            return Err(RecordError::Failed { path: self.path });
        }
        let result = self
            .write_until(self.sent)
            .and_then(|()| self.update_header())
            .and_then(|()| self.file.sync_all());
        self.checked(result)?;
        Ok(Summary {
            frames: self.frames,
            seconds: self.written as f64 / f64::from(RATE),
            bytes: self.header_len + self.written * 4,
            path: self.path,
        })
    }

    fn write_until(&mut self, end: u64) -> io::Result<()> {
        self.bytes.clear();
        for at in self.written..end {
            let [rx, tx] = self.window[slot(at)];
            self.bytes.extend_from_slice(&rx.to_le_bytes());
            self.bytes.extend_from_slice(&tx.to_le_bytes());
        }
        self.file.write_all(&self.bytes)?;
        self.written = self.written.max(end);
        self.frames_since_header += 1;
        if self.frames_since_header >= FRAMES_PER_HEADER {
            self.update_header()?;
        }
        Ok(())
    }

    fn update_header(&mut self) -> io::Result<()> {
        self.frames_since_header = 0;
        // After 18 hours the sizes no longer fit; players then read to the end of the file.
        let data = u32::try_from(self.written * 4).unwrap_or(u32::MAX);
        let riff = data.saturating_add(self.header_len as u32 - 8);
        self.file.seek(SeekFrom::Start(4))?;
        self.file.write_all(&riff.to_le_bytes())?;
        self.file.seek(SeekFrom::Start(self.header_len - 4))?;
        self.file.write_all(&data.to_le_bytes())?;
        self.file.seek(SeekFrom::Start(self.header_len + self.written * 4))?;
        Ok(())
    }

    fn checked(&mut self, result: io::Result<()>) -> Result<(), RecordError> {
        result.map_err(|source| {
            self.failed = true;
            // A disk that is full still takes a change of what it holds.
            let _ = self.update_header();
            let seconds = self.written as f64 / f64::from(RATE);
            RecordError::Write { path: self.path.clone(), seconds, source }
        })
    }
}

/// Returns the bytes that the disk of `dir` has for us.
///
/// # Errors
/// When there is no such folder.
pub fn free_space(dir: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(dir)?;
    #[expect(clippy::useless_conversion, reason = "on 32-bit boards these are narrower than u64")]
    Ok(u64::from(stat.blocks_available()) * u64::from(stat.fragment_size()))
}

/// Checks that `need` bytes are free, before a call is recorded: an hour takes 115 MB.
///
/// # Errors
/// [`RecordError::NoRoom`] with the figures, [`RecordError::Create`] when there is no such folder.
pub fn ensure_space(dir: &Path, need: u64) -> Result<(), RecordError> {
    let free = free_space(dir).map_err(|source| RecordError::Create { path: dir.to_owned(), source })?;
    if free < need { Err(RecordError::NoRoom { dir: dir.to_owned(), free, need }) } else { Ok(()) }
}

/// RIFF, format, INFO list, and the head of the data, whose sizes are filled in later.
fn header(meta: &RecordingMeta) -> Vec<u8> {
    let mut info = b"INFO".to_vec();
    for (id, text) in [(b"INAM", &meta.call), (b"ICRD", &meta.started), (b"ICMT", &meta.note)] {
        if text.is_empty() {
            continue;
        }
        let mut text: Vec<u8> = text.bytes().take(1_000).collect();
        text.push(0);
        info.extend_from_slice(id);
        info.extend_from_slice(&(text.len() as u32).to_le_bytes());
        text.resize(text.len().next_multiple_of(2), 0);
        info.extend(text);
    }
    let mut header = b"RIFF\0\0\0\0WAVEfmt ".to_vec();
    header.extend_from_slice(&16u32.to_le_bytes());
    header.extend_from_slice(&1u16.to_le_bytes());
    header.extend_from_slice(&2u16.to_le_bytes());
    header.extend_from_slice(&RATE.to_le_bytes());
    header.extend_from_slice(&(RATE * 4).to_le_bytes());
    header.extend_from_slice(&4u16.to_le_bytes());
    header.extend_from_slice(&16u16.to_le_bytes());
    if info.len() > 4 {
        header.extend_from_slice(b"LIST");
        header.extend_from_slice(&(info.len() as u32).to_le_bytes());
        header.extend(info);
    }
    header.extend_from_slice(b"data\0\0\0\0");
    let riff = header.len() as u32 - 8;
    header[4..8].copy_from_slice(&riff.to_le_bytes());
    header
}

fn slot(at: u64) -> usize {
    (at % WINDOW as u64) as usize
}

const RATE: u32 = 8_000;

/// 400 ms: no jitter buffer of ours holds more.
const LONGEST_DELAY: u64 = 20 * FRAME as u64;

/// The longest delay and the frame that is being added.
const WINDOW: usize = 21 * FRAME;

/// One second.
const FRAMES_PER_HEADER: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wav;
    use std::os::unix::fs::PermissionsExt;

    fn meta() -> RecordingMeta {
        RecordingMeta { call: "c1".into(), started: "2026-01-02T03:04:05Z".into(), note: String::new() }
    }

    fn frame(n: usize, sign: i16) -> [i16; FRAME] {
        std::array::from_fn(|i| sign * ((n * FRAME + i) % 30_000) as i16)
    }

    #[test]
    fn both_directions_stand_where_they_were_on_the_wire() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("call.wav");
        let mut writer = RecordingWriter::create(&path, &meta(), 3).unwrap();
        for n in 0..100 {
            writer.push(&frame(n, 1), &frame(n, -1)).unwrap();
        }
        let summary = writer.finish().unwrap();
        assert_eq!((summary.frames, summary.seconds), (100, 2.0));
        assert_eq!(summary.bytes, std::fs::metadata(&path).unwrap().len());
        let wav = wav::read(&path).unwrap();
        assert_eq!((wav.rate, wav.channels.len()), (8_000, 2));
        let [rx, tx] = &wav.channels[..] else { panic!() };
        assert_eq!((rx.len(), tx.len()), (16_000, 16_000));
        for n in 0..100 {
            assert_eq!(tx[n * FRAME..(n + 1) * FRAME], frame(n, -1));
            // What was played at frame n had come three frames before.
            let expected = if n + 3 < 100 { frame(n + 3, 1) } else { [0; FRAME] };
            assert_eq!(rx[n * FRAME..(n + 1) * FRAME], expected);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_jitter_buffer_that_changes_its_delay_moves_no_speech_from_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("call.wav");
        let mut writer = RecordingWriter::create(&path, &meta(), 0).unwrap();
        // Frame n arrives at tick n and is played at n + 2; from tick 50 on, at n + 4, after frame 48
        // was repeated twice; small wobbles of the estimate are not followed.
        for tick in 0..100usize {
            let (played, delay) = match tick {
                0..50 => (tick.saturating_sub(2), 320 + (tick % 3) as u16 * 20),
                50 => (47, 480),
                51 => (47, 640),
                _ => (tick - 4, 640),
            };
            let rx = if tick < 2 { [0; FRAME] } else { frame(played, 1) };
            writer.push_frame(&RecordFrame { rx, tx: frame(tick, -1), rx_delay_samples: delay }).unwrap();
        }
        writer.finish().unwrap();
        let wav = wav::read(&path).unwrap();
        for n in (0..44).chain(50..95) {
            assert_eq!(wav.channels[0][n * FRAME..(n + 1) * FRAME], frame(n, 1), "frame {n}");
        }
    }

    #[test]
    fn a_box_that_loses_power_leaves_a_file_that_plays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("call.wav");
        let mut writer = RecordingWriter::create(&path, &meta(), 2).unwrap();
        for n in 0..173 {
            writer.push(&frame(n, 1), &frame(n, -1)).unwrap();
        }
        // No finish: the process is gone.
        std::mem::forget(writer);
        let reader = hound::WavReader::open(&path).unwrap();
        let seconds = f64::from(reader.duration()) / 8_000.0;
        assert!((2.5..=3.46).contains(&seconds), "{seconds}");
        assert_eq!(reader.into_samples::<i16>().filter(Result::is_ok).count() % 2, 0);
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_says_so_once() {
        // /dev/full takes nothing, as a full disk does.
        let Ok(file) = OpenOptions::new().write(true).open("/dev/full") else { return };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("call.wav");
        let mut writer = RecordingWriter::create(&path, &meta(), 0).unwrap();
        writer.file = file;
        let error = (0..200).find_map(|n| writer.push(&frame(n, 1), &frame(n, 1)).err()).unwrap();
        assert!(matches!(error, RecordError::Write { .. }), "{error}");
        assert!(matches!(writer.push(&frame(0, 1), &frame(0, 1)), Err(RecordError::Failed { .. })));
        assert!(matches!(writer.finish(), Err(RecordError::Failed { .. })));
    }

    #[test]
    fn a_recording_is_never_written_over_and_a_missing_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("call.wav");
        RecordingWriter::create(&path, &meta(), 0).unwrap().finish().unwrap();
        assert!(matches!(RecordingWriter::create(&path, &meta(), 0), Err(RecordError::Create { .. })));
        let lost = RecordingWriter::create(&dir.path().join("no/call.wav"), &meta(), 0).unwrap_err();
        assert!(lost.to_string().contains("no/call.wav"));
    }

    #[test]
    fn the_space_on_the_disk_is_known_before_the_call() {
        let dir = tempfile::tempdir().unwrap();
        assert!(free_space(dir.path()).unwrap() > 0);
        ensure_space(dir.path(), 1).unwrap();
        let error = ensure_space(dir.path(), u64::MAX).unwrap_err();
        assert!(matches!(error, RecordError::NoRoom { .. }), "{error}");
        assert!(ensure_space(&dir.path().join("none"), 1).is_err());
    }
}
