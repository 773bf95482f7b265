//! Keeping: a thread that masks and writes, and the handle that never waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use jiff::Timestamp;
use tracing::{debug, warn};
use trunkline_sip::message::{Message, Method, Transport};

use crate::line::{Line, MediaReport, VERSION, Way};
use crate::{mask, trace};

/// What is kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Legs; the oldest is removed for a new one.
    pub legs: usize,
    /// Octets of all files together.
    pub bytes: u64,
}

impl Default for Limits {
    /// 200 legs, 32 MiB.
    fn default() -> Self {
        Self { legs: 200, bytes: 32 << 20 }
    }
}

/// Octets of messages of one leg; a call of an hour has some 20 KiB.
const MAX_LEG: u64 = 256 << 10;
/// Calls to us that are not let in yet, and what is remembered of each.
const MAX_PENDING: usize = 64;
const MAX_PENDING_LINES: usize = 16;
/// Messages on their way to the thread.
const QUEUE: usize = 2_048;

/// A message as it was sent or received.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// Which way.
    pub way: Way,
    /// Over what.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The other one.
    pub remote: SocketAddr,
    /// The message.
    pub bytes: Bytes,
}

enum Order {
    Message(Timestamp, Tapped),
    Name { sip_call_id: String, call: String, leg: String, trunk: String },
    Media { call: String, leg: String, report: Box<MediaReport> },
    Note { at: Timestamp, call: String, text: String },
    Flush(mpsc::SyncSender<()>),
}

/// Takes what is to be kept. Clones share one thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Tracer {
    orders: mpsc::SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// Makes the folder, readable by its owner only, and starts the thread.
    ///
    /// # Errors
    /// When there is no folder to be had, or the system gives no thread.
    pub fn start(dir: &Path, limits: Limits) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let (orders, inbox) = mpsc::sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut keeper = Keeper::open(dir, limits)?;
        let lost = Arc::clone(&dropped);
        thread::Builder::new().name("tracer".into()).spawn(move || {
            while let Ok(order) = inbox.recv() {
                keeper.handle(order);
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    warn!(lost, "Traces lack {lost} messages: the disk does not keep up");
                }
            }
        })?;
        Ok(Self { orders, dropped })
    }

    /// Takes a message; one for which there is no room is counted and forgotten.
    pub fn tap(&self, message: Tapped) {
        self.send(Order::Message(Timestamp::now(), message));
    }

    /// Says which call a leg belongs to, what it is for and which trunk carries it.
    pub fn name(&self, sip_call_id: &str, call: &str, leg: &str, trunk: &str) {
        let [sip_call_id, call, leg, trunk] = [sip_call_id, call, leg, trunk].map(str::to_owned);
        self.send(Order::Name { sip_call_id, call, leg, trunk });
    }

    /// Keeps how the sound of the last leg of that kind was.
    pub fn media(&self, call: &str, leg: &str, report: MediaReport) {
        let (call, leg) = (call.to_owned(), leg.to_owned());
        self.send(Order::Media { call, leg, report: Box::new(report) });
    }

    /// Keeps something worth knowing of a call, without personal data.
    pub fn note(&self, call: &str, text: impl Into<String>) {
        self.send(Order::Note { at: Timestamp::now(), call: call.to_owned(), text: text.into() });
    }

    /// Waits until everything so far is written.
    pub fn flush(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.orders.send(Order::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }

    fn send(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A leg that has a file.
struct Open {
    path: PathBuf,
    bytes: u64,
    cut: bool,
    call: String,
    leg: String,
}

/// A call to us that may be a stranger's.
struct Pending {
    sip_call_id: String,
    lines: Vec<Line>,
}

struct Keeper {
    dir: PathBuf,
    limits: Limits,
    /// By SIP Call-ID, since the start.
    open: BTreeMap<String, Open>,
    pending: VecDeque<Pending>,
    /// Every file and its size, the oldest first.
    files: VecDeque<(PathBuf, u64)>,
    next_number: u32,
    trouble: bool,
}

impl Keeper {
    fn open(dir: &Path, limits: Limits) -> io::Result<Self> {
        let sized = |path: PathBuf| {
            let size = fs::metadata(&path).map_or(0, |meta| meta.len());
            (path, size)
        };
        let files = trace::files(dir)?.into_iter().map(sized).collect();
        let (open, pending) = (BTreeMap::new(), VecDeque::new());
        Ok(Self { dir: dir.to_owned(), limits, open, pending, files, next_number: 0, trouble: false })
    }

    fn handle(&mut self, order: Order) {
        match order {
            Order::Message(at, tapped) => self.take(at, &tapped),
            Order::Name { sip_call_id, call, leg, trunk } => {
                self.let_in(&sip_call_id);
                if let Some(open) = self.open.get_mut(&sip_call_id) {
                    (open.call, open.leg) = (call.clone(), leg.clone());
                }
                self.write(&sip_call_id, &Line::Named { call, leg, trunk });
            }
            Order::Media { call, leg, report } => {
                if let Some(last) = self.last_of(|open| open.call == call && open.leg == leg) {
                    self.write(&last, &Line::Media(*report));
                }
            }
            Order::Note { at, call, text } => {
                if let Some(last) = self.last_of(|open| open.call == call) {
                    self.write(&last, &Line::Note { at: at.as_microsecond(), text });
                }
            }
            Order::Flush(done) => drop(done.send(())),
        }
    }

    /// Returns the SIP Call-ID of the newest leg that fits: names of files grow.
    fn last_of(&self, fits: impl Fn(&Open) -> bool) -> Option<String> {
        let fitting = self.open.iter().filter(|(_, open)| fits(open));
        fitting.max_by(|(_, a), (_, b)| a.path.cmp(&b.path)).map(|(id, _)| id.clone())
    }

    fn take(&mut self, at: Timestamp, tapped: &Tapped) {
        let Ok(message) = Message::parse(&tapped.bytes) else { return };
        let headers = match &message {
            Message::Request(request) => &request.headers,
            Message::Response(response) => &response.headers,
        };
        let Some(sip_call_id) = headers.call_id().map(str::to_owned) else { return };
        let line = Line::Message {
            at: at.as_microsecond(),
            way: tapped.way,
            transport: tapped.transport.via_name().to_owned(),
            local: tapped.local,
            remote: tapped.remote,
            text: mask::secrets(&tapped.bytes),
        };
        if self.open.contains_key(&sip_call_id) {
            return self.write(&sip_call_id, &line);
        }
        let begins = matches!(&message, Message::Request(request) if request.method == Method::Invite);
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.sip_call_id == sip_call_id) {
            if pending.lines.len() < MAX_PENDING_LINES {
                pending.lines.push(line);
            }
            if lets_in(tapped.way, &message) {
                self.let_in(&sip_call_id);
            }
        } else if begins && tapped.way == Way::Out {
            self.begin(&sip_call_id);
            self.write(&sip_call_id, &line);
        } else if begins {
            if self.pending.len() >= MAX_PENDING {
                self.pending.pop_front();
            }
            self.pending.push_back(Pending { sip_call_id, lines: vec![line] });
        }
    }

    /// Gives a leg that waited in memory its file.
    fn let_in(&mut self, sip_call_id: &str) {
        let found = self.pending.iter().position(|pending| pending.sip_call_id == sip_call_id);
        let Some(pending) = found.and_then(|at| self.pending.remove(at)) else { return };
        self.begin(sip_call_id);
        for line in &pending.lines {
            self.write(sip_call_id, line);
        }
    }

    fn begin(&mut self, sip_call_id: &str) {
        self.next_number = self.next_number.wrapping_add(1);
        let name =
            format!("{:014}-{:06}.jsonl", Timestamp::now().as_millisecond(), self.next_number % 1_000_000);
        let path = self.dir.join(name);
        self.files.push_back((path.clone(), 0));
        let (call, leg) = (String::new(), String::new());
        self.open.insert(sip_call_id.to_owned(), Open { path, bytes: 0, cut: false, call, leg });
        let begin = Line::Begin { v: VERSION, sip_call_id: sip_call_id.to_owned() };
        self.write(sip_call_id, &begin);
    }

    fn write(&mut self, sip_call_id: &str, line: &Line) {
        let Some(open) = self.open.get_mut(sip_call_id) else { return };
        let is_message = matches!(line, Line::Message { .. });
        let cut = is_message && open.bytes >= MAX_LEG;
        if cut && std::mem::replace(&mut open.cut, true) {
            return;
        }
        let Ok(mut text) = serde_json::to_vec(if cut { &Line::Cut } else { line }) else { return };
        text.push(b'\n');
        let written = OpenOptions::new().create(true).append(true).mode(0o600).open(&open.path);
        match written.and_then(|mut file| file.write_all(&text)) {
            Ok(()) => self.trouble = false,
            Err(error) => {
                if !std::mem::replace(&mut self.trouble, true) {
                    warn!(dir = %self.dir.display(), "Traces of calls are not kept: {error}");
                }
                return;
            }
        }
        let length = text.len() as u64;
        open.bytes += length;
        let path = open.path.clone();
        if let Some((_, size)) = self.files.iter_mut().rev().find(|(file, _)| *file == path) {
            *size += length;
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.files.len() > 1
            && (self.files.len() > self.limits.legs
                || self.files.iter().map(|(_, size)| size).sum::<u64>() > self.limits.bytes)
        {
            let Some((oldest, _)) = self.files.pop_front() else { return };
            if let Err(error) = fs::remove_file(&oldest) {
                debug!(path = %oldest.display(), %error, "Could not remove an old trace");
            }
            self.open.retain(|_, open| open.path != oldest);
        }
    }
}

/// Tells whether what we answer to an INVITE says that its sender is known: strangers get these refusals or none.
fn lets_in(way: Way, message: &Message) -> bool {
    match message {
        Message::Response(response) => {
            let to_invite = response.headers.cseq().is_some_and(|cseq| cseq.method == Method::Invite);
            let refused = matches!(response.code, 100 | 400 | 401 | 403 | 405 | 407 | 416 | 420 | 505);
            way == Way::Out && to_invite && !refused
        }
        Message::Request(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tapped(way: Way, text: &str) -> Tapped {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Tapped { way, transport: Transport::Udp, local: at(5060), remote: at(5070), bytes }
    }

    fn request(method: &str, id: &str) -> String {
        format!(
            "{method} sip:1001@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:1001@127.0.0.1>\r\nCall-ID: {id}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn response(code: u16, id: &str) -> String {
        format!(
            "SIP/2.0 {code} Phrase\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:1001@127.0.0.1>;tag=2\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        )
    }

    #[test]
    fn a_call_out_is_kept_from_its_invite_and_found_by_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let tracer = Tracer::start(&dir.path().join("traces"), Limits::default()).unwrap();
        let dir = dir.path().join("traces");
        tracer.tap(tapped(Way::Out, &request("OPTIONS", "ping")));
        tracer.tap(tapped(Way::Out, &request("INVITE", "first-leg@box")));
        tracer.name("first-leg@box", "0192aaaa-call", "call", "carrier");
        tracer.tap(tapped(Way::In, &response(503, "first-leg@box")));
        tracer.tap(tapped(Way::Out, &request("INVITE", "second-leg@box")));
        tracer.name("second-leg@box", "0192aaaa-call", "call", "other");
        tracer.media("0192aaaa-call", "call", MediaReport { received: 7, ..MediaReport::default() });
        tracer.note("0192aaaa-call", "hung up");
        tracer.flush();

        for id in ["0192aaaa-call", "0192aaaa", "first-leg@box"] {
            let legs = trace::find(&dir, id).unwrap();
            let trunks: Vec<&str> = legs.iter().map(|leg| leg.trunk.as_str()).collect();
            assert_eq!(trunks, ["carrier", "other"], "{id}");
            assert_eq!((legs[0].messages.len(), legs[0].media.is_some()), (2, false));
            assert_eq!(legs[1].media.as_ref().unwrap().received, 7);
            assert_eq!(legs[1].notes[0].1, "hung up");
        }
        assert_eq!(trace::find(&dir, "0192").unwrap(), [], "too short to be meant");
        assert_eq!(trace::list(&dir).unwrap().len(), 2, "a ping is no call");
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        let file = &trace::files(&dir).unwrap()[0];
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn strangers_get_no_file_however_many_they_are_and_whom_we_know_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::open(dir.path(), Limits::default()).unwrap();
        let mut take = |way, text: &str| keeper.take(Timestamp::now(), &tapped(way, text));
        for n in 0..1_000 {
            take(Way::In, &request("INVITE", &format!("stranger-{n}")));
            take(Way::Out, &response(403, &format!("stranger-{n}")));
        }
        take(Way::In, &request("INVITE", "customer"));
        take(Way::Out, &response(100, "customer"));
        assert!(trace::files(dir.path()).unwrap().is_empty());
        take(Way::Out, &response(180, "customer"));
        take(Way::Out, &response(200, "customer"));
        assert!(keeper.pending.len() <= MAX_PENDING);
        let kept = trace::list(dir.path()).unwrap();
        assert_eq!((kept.len(), kept[0].messages.len()), (1, 4));
    }

    #[test]
    fn the_oldest_makes_room_in_number_and_in_bytes_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let fill = |limits, ids: std::ops::Range<u32>| {
            let mut keeper = Keeper::open(dir.path(), limits).unwrap();
            for n in ids {
                keeper.take(Timestamp::now(), &tapped(Way::Out, &request("INVITE", &format!("leg-{n}"))));
                assert!(keeper.open.len() <= limits.legs);
                // Names of files are in milliseconds.
                thread::sleep(std::time::Duration::from_millis(2));
            }
            let kept = trace::list(dir.path()).unwrap();
            kept.into_iter().map(|trace| trace.sip_call_id).collect::<Vec<_>>()
        };
        assert_eq!(fill(Limits { legs: 3, bytes: 1 << 20 }, 0..5), ["leg-2", "leg-3", "leg-4"]);
        assert_eq!(fill(Limits { legs: 3, bytes: 1 << 20 }, 5..6), ["leg-3", "leg-4", "leg-5"]);
        assert_eq!(fill(Limits { legs: 3, bytes: 600 }, 6..8), ["leg-7"]);
    }

    #[test]
    fn a_leg_without_end_is_cut_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::open(dir.path(), Limits::default()).unwrap();
        let long = request("INVITE", "long")
            .replace("Content-Length", &format!("X-Long: {}\r\nContent-Length", "a".repeat(9_000)));
        for _ in 0..100 {
            keeper.take(Timestamp::now(), &tapped(Way::Out, &long));
        }
        keeper.handle(Order::Name {
            sip_call_id: "long".into(),
            call: "c".into(),
            leg: "call".into(),
            trunk: "t".into(),
        });
        let kept = trace::list(dir.path()).unwrap();
        assert!(kept[0].cut && kept[0].messages.len() < 40, "{}", kept[0].messages.len());
        assert_eq!(kept[0].trunk, "t", "what comes after is there all the same");
        assert!(fs::metadata(trace::files(dir.path()).unwrap().remove(0)).unwrap().len() < MAX_LEG + 20_000);
    }
}
