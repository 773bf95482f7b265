//! One run: connect all, send, send more, kill, compare.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use trunkline_db::Db;
use trunkline_model::BoxId;

use crate::authority::Authority;
use crate::cloud::Cloud;
use crate::one::{Done, One, Shared, Task, Took};
use crate::report::{Compared, Kill, Phase, Report};

/// Nothing takes longer than this; who is not back by then is not coming.
const PATIENCE: Duration = Duration::from_secs(300);
/// What is open beside the boxes' connections.
const OTHER_FILES: u64 = 128;
/// How long the cloud lives after all are back, before it is killed again.
const BETWEEN_KILLS: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many boxes.
    pub boxes: usize,
    /// Phases without a fault: events per second of all boxes together, and for how long.
    pub phases: Vec<(u32, Duration)>,
    /// How often the cloud is killed after them, while events go on as in the first phase.
    pub kills: u32,
    /// The program `trunkline-cloud`.
    pub cloud: PathBuf,
    /// Where the cloud lives; an empty folder, which stays.
    pub dir: PathBuf,
}

/// Does it, with a word on standard error about how far it is.
///
/// # Errors
/// When it cannot be done on this machine, such as for want of open files, or boxes do not get in at all. What else the
/// cloud did wrong is part of the report.
pub async fn run(plan: &Plan) -> Result<Report> {
    ensure!(
        plan.boxes > 0 && plan.phases.iter().all(|(rate, _)| *rate > 0),
        "there is nothing to do: no boxes, or no events"
    );
    let files = raise_files(plan.boxes as u64)?;
    // The cloud's part has two providers of cryptography linked, and so may we.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::new()?;
    let mut cloud = Cloud::set_up(&plan.cloud, &plan.dir, &authority)?;
    say(&format!("{} certificates …", plan.boxes));
    let mut run = Run::new(plan, &authority, &cloud)?;
    drop(authority);
    cloud.start()?;

    say("all boxes connect at once …");
    let began = Instant::now();
    run.begin(Task { phase: 0, interval: None, finish: false });
    run.all_up().await.context("before anything was sent")?;
    let connected = began.elapsed();

    for (number, (rate, length)) in plan.phases.iter().enumerate() {
        say(&format!("{rate} events/s for {} s …", length.as_secs()));
        run.tell(number, Some(*rate));
        tokio::time::sleep(*length).await;
        cloud.note_memory();
    }
    // Nothing of a phase without a fault is under way when the faults begin.
    run.tell(plan.phases.len(), None);
    run.drained().await?;
    let mut kills = Vec::new();
    if plan.kills > 0 {
        run.tell(plan.phases.len(), plan.phases.first().map(|(rate, _)| *rate));
    }
    for number in 0..plan.kills {
        tokio::time::sleep(BETWEEN_KILLS).await;
        say(&format!("kill {} of {} …", number + 1, plan.kills));
        let began = Instant::now();
        run.shared.life.fetch_add(1, Ordering::Relaxed);
        cloud.kill()?;
        cloud.start()?;
        let ready = began.elapsed();
        run.all_up().await.context("after a kill")?;
        kills.push(Kill { ready, back: began.elapsed() });
    }
    if plan.kills > 0 {
        tokio::time::sleep(BETWEEN_KILLS).await;
    }
    say("waiting for the last acknowledgements …");
    let broken = run.shared.broken.load(Ordering::Relaxed);
    let (done, took) = run.finish(plan.phases.len() + 1).await?;
    cloud.stop()?;
    let compared = compare(&Db::open(&cloud.database()).await?, &done).await?;
    let phases = plan.phases.iter().enumerate().map(|(number, (rate, length))| {
        let mut took: Vec<Duration> =
            took.iter().filter(|(phase, _)| *phase == number).map(|(_, took)| *took).collect();
        took.sort_unstable();
        Phase { rate: *rate, length: *length, took }
    });
    Ok(Report {
        boxes: plan.boxes,
        files,
        connected,
        phases: phases.collect(),
        kills,
        broken,
        peak_kib: cloud.peak_kib(),
        compared,
    })
}

struct Run {
    shared: Arc<Shared>,
    waiting: Vec<One>,
    boxes: JoinSet<Done>,
    tasks: Option<watch::Sender<Task>>,
    took: mpsc::UnboundedReceiver<Took>,
    count: usize,
}

impl Run {
    fn new(plan: &Plan, authority: &Authority, cloud: &Cloud) -> Result<Self> {
        let lives = (0..=plan.kills).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { up: lives, ..Shared::default() });
        let (sender, took) = mpsc::unbounded_channel();
        let mut waiting = Vec::with_capacity(plan.boxes);
        for number in 0..plan.boxes {
            let id: BoxId = format!("tl-load{number:05}").parse()?;
            waiting.push(One {
                tls: authority.client(&id)?,
                id,
                mqtt: cloud.mqtt,
                shared: Arc::clone(&shared),
                took: sender.clone(),
                place: number as f64 / plan.boxes as f64,
            });
        }
        Ok(Self { shared, waiting, boxes: JoinSet::new(), tasks: None, took, count: plan.boxes })
    }

    fn begin(&mut self, task: Task) {
        let (sender, tasks) = watch::channel(task);
        for one in self.waiting.drain(..) {
            self.boxes.spawn(one.live(tasks.clone()));
        }
        self.tasks = Some(sender);
    }

    /// Lets all of them make so many events per second together; `None`: none.
    fn tell(&self, phase: usize, rate: Option<u32>) {
        let interval = rate.map(|rate| Duration::from_secs_f64(self.count as f64 / f64::from(rate)));
        self.send(Task { phase, interval, finish: false });
    }

    fn send(&self, task: Task) {
        if let Some(tasks) = &self.tasks {
            tasks.send_replace(task);
        }
    }

    /// Waits until every box has connected to the life that the cloud has now.
    async fn all_up(&self) -> Result<()> {
        self.when("not all boxes were connected", || self.up() == self.count as u64).await
    }

    fn up(&self) -> u64 {
        let life = self.shared.life.load(Ordering::Relaxed);
        self.shared.up.get(life).map_or(0, |up| up.load(Ordering::Relaxed))
    }

    async fn drained(&self) -> Result<()> {
        self.when("events were not acknowledged", || {
            self.shared.made.load(Ordering::Relaxed) == self.shared.acknowledged.load(Ordering::Relaxed)
        })
        .await
    }

    async fn when(&self, not: &str, is: impl Fn() -> bool) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !is() {
            let shared = &self.shared;
            ensure!(
                Instant::now() < until,
                "{not} after {} s: {} boxes are up, {} of {} events acknowledged, {} attempts failed",
                PATIENCE.as_secs(),
                self.up(),
                shared.acknowledged.load(Ordering::Relaxed),
                shared.made.load(Ordering::Relaxed),
                shared.broken.load(Ordering::Relaxed)
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Lets them end, each when the cloud has everything of it.
    async fn finish(mut self, phase: usize) -> Result<(Vec<Done>, Vec<Took>)> {
        self.send(Task { phase, interval: None, finish: true });
        let mut done = Vec::with_capacity(self.count);
        let until = tokio::time::Instant::now() + PATIENCE;
        while done.len() < self.count {
            match tokio::time::timeout_at(until, self.boxes.join_next()).await {
                Ok(Some(one)) => done.push(one.context("a box broke")?),
                Ok(None) => break,
                // Who is not finished has something that the cloud did not acknowledge; the rest is compared.
                Err(_) => {
                    self.tasks = None;
                    while let Some(one) = self.boxes.join_next().await {
                        done.push(one.context("a box broke")?);
                    }
                }
            }
        }
        let mut took = Vec::new();
        while let Ok(one) = self.took.try_recv() {
            took.push(one);
        }
        Ok((done, took))
    }
}

async fn compare(db: &Db, done: &[Done]) -> Result<Compared> {
    let stored = db.event_counts().await?;
    let mut compared = Compared::default();
    for one in done {
        let count = stored.get(&one.id).copied().unwrap_or_default();
        compared.made += one.made;
        compared.acknowledged += one.acknowledged;
        compared.stored += count.events;
        // Numbers without a gap: what was acknowledged is among what is there.
        compared.lost += one.acknowledged.saturating_sub(count.events);
        compared.missing += one.made.saturating_sub(count.events);
        compared.twice += count.events.saturating_sub(count.messages) + count.conflicts;
        compared.torn += u64::from(count.events > 0 && !count.is_whole());
    }
    Ok(compared)
}

/// Raises the limit of open files as far as it may be, and returns it.
fn raise_files(boxes: u64) -> Result<u64> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("could not read the limit of open files")?;
    let needed = boxes + OTHER_FILES;
    ensure!(
        hard >= needed,
        "this process may open {hard} files, and {boxes} boxes need {needed}: `ulimit -Hn {needed}` as root, or fewer boxes"
    );
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("could not raise the limit of open files")?;
    }
    Ok(hard)
}

fn say(text: &str) {
    eprintln!("{text}");
}
