//! Hundreds of calls on the one media thread: how late it is, what it loses, what it costs.
//!
//! `cargo run -p trunkline-line --example media_bench`
//!
//! 500 calls of G.711 and 200 encrypted ones, each for half a minute: every call is talked to 50 times a second from
//! loopback, talks itself, is recorded in two channels, and its sound is looked through for the network's tones, as in
//! the box. Beside them one thread computes as fast as it can, and the far ends share the machine. Lateness is that of
//! the worst of ten ticks in a row, taken a hundred times a second.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use trunkline_audio::Codec;
use trunkline_audio::tone::{Country, ProgressDetector};
use trunkline_line::{
    Attached, Command, MediaConfig, MediaHandle, MediaNews, MediaTerms, RecorderHandle, Recording,
    RecordingResult, RtpPorts,
};
use trunkline_sip::sdp::{CryptoSuite, MediaKey, SecureParams};

mod common;

use common::{FarEnds, Targets, cpu_of};

type Failed = Box<dyn Error>;

const TIME: Duration = Duration::from_secs(30);
const KEY: [u8; 30] = [7; 30];

fn main() -> Result<(), Failed> {
    println!(
        "| calls | media | lateness: median, p99, worst | packets in, lost, late | frames that had no room | media thread | a call | recordings |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (calls, secure) in [(500, false), (200, true)] {
        println!("{}", Round::new(calls, secure)?.run()?);
    }
    Ok(())
}

/// One row of the table.
struct Round {
    calls: usize,
    secure: bool,
    far: FarEnds,
    targets: Targets,
    attached: Vec<Attached>,
    recordings: Vec<oneshot::Receiver<RecordingResult>>,
    media: MediaHandle,
    _folder: tempfile::TempDir,
}

impl Round {
    fn new(calls: usize, secure: bool) -> Result<Self, Failed> {
        let media = MediaHandle::start()?;
        let recorder = RecorderHandle::start()?;
        let ports = RtpPorts::new("127.0.0.1".parse()?, 24_000..=26_999);
        let far = FarEnds::bind(calls, secure.then_some(KEY))?;
        let folder = tempfile::tempdir()?;
        let (mut attached, mut recordings, mut targets) = (Vec::new(), Vec::new(), Targets::new());
        // Longer than the round, so that each call talks all the time.
        let prompt: Arc<[i16]> = (0..8_000 * 60).map(|n: i32| ((n * 37) % 4_001 - 2_000) as i16).collect();
        for call in 0..calls {
            let sockets = ports.bind()?;
            targets.push(sockets.local()?);
            let config = MediaConfig {
                remote: far.at(call)?,
                codec: Codec::Pcma,
                dtmf_pt: Some(101),
                lost_after: Duration::from_secs(60),
            };
            let secure = secure.then_some(SecureParams {
                suite: CryptoSuite::AesCm128Sha1Tag80,
                local: MediaKey(KEY),
                remote: MediaKey(KEY),
            });
            let path = folder.path().join(format!("{call}.wav"));
            let Recording { frames, done } = recorder.begin(&path, &call.to_string(), "")?;
            let terms = MediaTerms { secure, ..config.into() };
            let mut one = media.attach(sockets, terms, Some(frames), None);
            let _ = one.commands.push(Command::Play { say: 1, clip: Arc::clone(&prompt), last: true });
            attached.push(one);
            recordings.push(done);
        }
        Ok(Self { calls, secure, far, targets, attached, recordings, media, _folder: folder })
    }

    fn run(mut self) -> Result<String, Failed> {
        // The beginning, with its learning of addresses, does not count.
        self.far.run(&self.targets, Duration::from_secs(1))?;
        let ended = Arc::new(AtomicBool::new(false));
        let busy = Arc::clone(&ended);
        let load = thread::spawn(move || {
            let mut n = 0u64;
            while !busy.load(Ordering::Relaxed) {
                n = black_box(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
            }
        });
        let before = cpu_of("/proc/self/task", Some("media"))?;
        let begun = Instant::now();
        let (owner_ended, attached) = (Arc::clone(&ended), std::mem::take(&mut self.attached));
        let owner = thread::spawn(move || own(attached, &owner_ended));
        let _ = self.media.worst_lateness();
        let (sampler_ended, media) = (Arc::clone(&ended), self.media.clone());
        let sampler = thread::spawn(move || {
            let mut worst = Vec::new();
            while !sampler_ended.load(Ordering::Relaxed) {
                sleep(Duration::from_millis(10));
                worst.push(media.worst_lateness());
            }
            worst
        });
        self.far.run(&self.targets, TIME)?;
        let used = cpu_of("/proc/self/task", Some("media"))?.saturating_sub(before);
        let share = used.as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        ended.store(true, Ordering::Relaxed);
        let mut late = sampler.join().map_err(|_| "the sampler ended early")?;
        let owned = owner.join().map_err(|_| "the owner ended early")?;
        load.join().map_err(|_| "the load ended early")?;
        late.sort_unstable();
        let at = |percent: usize| late[(late.len() * percent / 100).min(late.len() - 1)].as_secs_f64() * 1e3;
        let is_whole = |done: oneshot::Receiver<RecordingResult>| {
            done.blocking_recv().is_ok_and(|recording| {
                recording.error.is_none()
                    && recording.seconds >= TIME.as_secs_f32()
                    && !recording.sha256.is_empty()
            })
        };
        let whole = self.recordings.into_iter().filter_map(|done| is_whole(done).then_some(())).count();
        Ok(format!(
            "| {} | {} | {:.2}, {:.2}, {:.2} ms | {}, {}, {} | {} | {share:.1} % of a core | {:.3} % | {whole} whole |",
            self.calls,
            if self.secure { "SRTP" } else { "G.711" },
            at(50),
            at(99),
            at(100),
            owned.received,
            owned.lost,
            owned.late,
            owned.received.saturating_sub(owned.frames + owned.lost),
            share / self.calls as f64
        ))
    }
}

/// What became of the sound.
#[derive(Default)]
struct Owned {
    received: u64,
    lost: u64,
    late: u64,
    frames: u64,
}

/// Does what a call's task does with the sound, for all of them; at the end it closes them.
fn own(mut calls: Vec<Attached>, ended: &AtomicBool) -> Owned {
    let mut owned = Owned::default();
    let mut detectors: Vec<ProgressDetector> =
        calls.iter().map(|_| ProgressDetector::new(Country::Cn)).collect();
    let mut take = |calls: &mut [Attached], owned: &mut Owned| {
        for (call, detector) in calls.iter_mut().zip(&mut detectors) {
            while let Ok(frame) = call.frames.pop() {
                let _ = black_box(detector.push(&frame.samples));
                owned.frames += 1;
            }
        }
    };
    while !ended.load(Ordering::Relaxed) {
        take(&mut calls, &mut owned);
        sleep(Duration::from_millis(5));
    }
    for call in &mut calls {
        let _ = call.commands.push(Command::Close);
    }
    sleep(Duration::from_millis(500));
    take(&mut calls, &mut owned);
    for call in &mut calls {
        while let Ok(news) = call.news.pop() {
            if let MediaNews::Closed(stats) = news {
                owned.received += stats.received;
                owned.lost += stats.lost;
                owned.late += stats.late;
            }
        }
    }
    owned
}
