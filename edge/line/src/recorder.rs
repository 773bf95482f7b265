//! The thread that writes recordings: a slow or full disk ends a recording, never a call.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::oneshot;
use tracing::warn;
use trunkline_audio::record::{RecordFrame, RecordingMeta, RecordingWriter};

/// Four seconds of frames: what the disk may be late.
const RING_FRAMES: usize = 200;

/// How a recording ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingResult {
    /// Where it is.
    pub path: PathBuf,
    /// Length in seconds.
    pub seconds: f32,
    /// SHA-256 of the file, hexadecimal; empty when the file could not be read back.
    pub sha256: String,
    /// Why it ended early, if it did.
    pub error: Option<String>,
}

/// A recording under way. Dropping the frames' [`Producer`] ends it.
#[derive(Debug)]
pub struct Recording {
    /// Where the media thread puts frames.
    pub frames: Producer<RecordFrame>,
    /// How it ended.
    pub done: oneshot::Receiver<RecordingResult>,
}

struct Job {
    writer: Option<RecordingWriter>,
    path: PathBuf,
    frames: Consumer<RecordFrame>,
    done: Option<oneshot::Sender<RecordingResult>>,
    error: Option<String>,
    written: u64,
}

/// The recorder thread.
#[derive(Clone, Debug)]
pub struct RecorderHandle {
    jobs: mpsc::Sender<Job>,
}

impl RecorderHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel();
        thread::Builder::new().name("recorder".into()).spawn(move || run(&inbox))?;
        Ok(Self { jobs })
    }

    /// Begins a recording at `path`.
    ///
    /// # Errors
    /// The reason, for the call's record, when the file cannot be made.
    pub fn begin(&self, path: &Path, call: &str, started: &str) -> Result<Recording, String> {
        let meta = RecordingMeta { call: call.to_owned(), started: started.to_owned(), note: String::new() };
        let writer = RecordingWriter::create(path, &meta, 0).map_err(|error| error.to_string())?;
        let (frames, consumer) = RingBuffer::new(RING_FRAMES);
        let (done, receiver) = oneshot::channel();
        let job = Job {
            writer: Some(writer),
            path: path.to_owned(),
            frames: consumer,
            done: Some(done),
            error: None,
            written: 0,
        };
        self.jobs.send(job).map_err(|_| "the recorder thread has ended".to_owned())?;
        Ok(Recording { frames, done: receiver })
    }
}

fn run(inbox: &mpsc::Receiver<Job>) {
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        if jobs.is_empty() {
            match inbox.recv() {
                Ok(job) => jobs.push(job),
                Err(mpsc::RecvError) => return,
            }
        }
        jobs.extend(inbox.try_iter());
        jobs.retain_mut(|job| !job.drain());
        thread::sleep(Duration::from_millis(50));
    }
}

impl Job {
    /// Writes what is there; returns true when the recording is over and was reported.
    fn drain(&mut self) -> bool {
        let ended = self.frames.is_abandoned();
        while let Ok(frame) = self.frames.pop() {
            let Some(writer) = &mut self.writer else { continue };
            if let Err(error) = writer.push_frame(&frame) {
                warn!(%error, "A recording ended early");
                self.error = Some(error.to_string());
                self.writer = None;
            } else {
                self.written += 1;
            }
        }
        if !ended {
            return false;
        }
        let mut seconds = self.written as f32 * 0.02;
        if let Some(writer) = self.writer.take() {
            match writer.finish() {
                Ok(summary) => seconds = summary.seconds as f32,
                Err(error) => self.error = Some(error.to_string()),
            }
        }
        let sha256 = std::fs::read(&self.path)
            .map(|bytes| hex::encode(ring::digest::digest(&ring::digest::SHA256, &bytes)))
            .unwrap_or_default();
        if let Some(done) = self.done.take() {
            let path = self.path.clone();
            let _ = done.send(RecordingResult { path, seconds, sha256, error: self.error.take() });
        }
        true
    }
}
