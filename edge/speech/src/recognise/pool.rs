//! Worker threads that share one recogniser, and the order in which callers get them.
//!
//! The utterance whose caller has been silent longest goes first, whatever came in first: a draft
//! started early must not hold up an answer that is already overdue. Cancelled work leaves the
//! queue at once. Nothing here blocks the caller.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{CancelToken, RecognizeError, RecognizeOptions, Recognizer, Transcript, Utterance};
use crate::openmp;

/// Sizes of a [`RecognizerPool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Utterances recognised at the same time; 0 means one for each core.
    pub workers: usize,
    /// Utterances that may wait.
    pub queue: usize,
    /// Threads for an utterance for which a caller waits; at least 1. No more such utterances run at the
    /// same time than the cores have room for: one after the other on two threads each, two are done
    /// sooner than side by side.
    pub threads: usize,
}

impl Default for PoolConfig {
    fn default() -> Self {
        // Two threads answer in little more than half the time, unless they wait for each other by spinning for
        // long: then they take ten times as long as one as soon as anything else wants the cores.
        Self { workers: 0, queue: 64, threads: if openmp::is_settled() { cores().min(2) } else { 1 } }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One utterance to recognise.
#[derive(Debug, Clone)]
pub struct Job {
    /// The sound.
    pub audio: Utterance,
    /// How to recognise it. `threads: 0` is decided here.
    pub options: RecognizeOptions,
    /// Since when the caller waits for an answer: the end of the speech. The earliest goes first.
    /// `None` for a guess while the caller still speaks: it goes last, and on one thread.
    pub waiting_since: Option<Instant>,
}

impl Job {
    /// What is smaller goes first.
    fn rank(&self) -> (bool, Option<Instant>) {
        (self.waiting_since.is_none(), self.waiting_since)
    }
}

/// How a job ended.
#[derive(Debug)]
pub struct Done {
    /// The transcript or why there is none.
    pub result: Result<Transcript, RecognizeError>,
    /// Time the job lay in the queue.
    pub queued: Duration,
}

/// What a pool has done so far, and what it is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PoolStats {
    /// Utterances that are recognised at the same time while callers wait for them: fewer where the
    /// recogniser found no memory for more.
    pub workers: usize,
    /// Workers that recognise at this moment.
    pub busy: usize,
    /// Jobs that wait at this moment.
    pub queued: usize,
    /// Jobs that ended with a transcript.
    pub done: u64,
    /// Jobs that were cancelled, waiting or running.
    pub cancelled: u64,
    /// Jobs that missed their deadline.
    pub late: u64,
    /// Jobs that failed otherwise.
    pub failed: u64,
    /// Jobs that found the queue full.
    pub refused: u64,
    /// Moving average of the time a job runs, over about the last sixteen.
    pub mean_run: Duration,
    /// Moving average of the time a job waits.
    pub mean_queued: Duration,
}

impl PoolStats {
    /// Estimates how long a job submitted now would wait for a worker: what admission control asks.
    pub fn expected_wait(&self) -> Duration {
        let ahead = (self.queued + self.busy + 1).saturating_sub(self.workers);
        self.mean_run * u32::try_from(ahead).unwrap_or(u32::MAX)
            / u32::try_from(self.workers.max(1)).unwrap_or(1)
    }
}

type Completion = Box<dyn FnOnce(Done) + Send>;

struct Queued {
    job: Job,
    number: u64,
    submitted: Instant,
    completion: Completion,
}

// `BinaryHeap` gives the greatest first: the greatest has waited longest.
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        other.job.rank().cmp(&self.job.rank()).then(other.number.cmp(&self.number))
    }
}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Queued {}

struct Running {
    token: CancelToken,
    is_guess: bool,
}

#[derive(Default)]
struct State {
    queue: BinaryHeap<Queued>,
    running: Vec<Running>,
    closed: bool,
    next: u64,
    stats: PoolStats,
}

impl State {
    /// Tells whether no caller waits for anything: guesses do not count.
    fn is_idle(&self) -> bool {
        self.running.iter().all(|running| running.is_guess)
            && self.queue.iter().all(|queued| queued.job.waiting_since.is_none())
    }
}

struct Shared {
    recognizer: Arc<dyn Recognizer>,
    state: Mutex<State>,
    work: Condvar,
    capacity: usize,
    threads: usize,
    /// Utterances for which a caller waits that run at the same time.
    at_once: usize,
}

impl Shared {
    /// What the cores have room for, and what the recogniser has memory for.
    fn at_once(&self) -> usize {
        self.at_once.min(self.recognizer.at_once()).max(1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fixed number of threads that recognise for all calls of a box.
///
/// Dropping it cancels what runs, answers what waits with [`RecognizeError::Closed`], and waits for
/// the threads to end.
pub struct RecognizerPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl RecognizerPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn new(recognizer: Arc<dyn Recognizer>, config: PoolConfig) -> std::io::Result<Self> {
        let workers = if config.workers == 0 { cores() } else { config.workers };
        let shared = Arc::new(Shared {
            recognizer,
            state: Mutex::default(),
            work: Condvar::new(),
            capacity: config.queue.max(1),
            threads: config.threads.max(1),
            at_once: (workers / config.threads.max(1)).max(1),
        });
        let mut pool = Self { shared, threads: Vec::with_capacity(workers) };
        for n in 0..workers {
            let shared = Arc::clone(&pool.shared);
            let thread =
                std::thread::Builder::new().name(format!("recognise-{n}")).spawn(move || work(&shared))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Puts a job into the queue and returns the token that cancels it. `completion` is called once,
    /// on a worker thread, and should only pass the result on.
    ///
    /// # Errors
    /// [`RecognizeError::Busy`] when the queue is full; then `completion` is never called.
    pub fn submit(
        &self,
        job: Job,
        completion: impl FnOnce(Done) + Send + 'static,
    ) -> Result<CancelToken, RecognizeError> {
        let token = job.options.cancel.clone();
        let mut state = self.shared.lock();
        let swept = if state.queue.len() >= self.shared.capacity { sweep(&mut state) } else { Vec::new() };
        let outcome = if state.queue.len() >= self.shared.capacity {
            state.stats.refused += 1;
            Err(RecognizeError::Busy { waiting: state.queue.len() })
        } else {
            let number = state.next;
            state.next += 1;
            let completion = Box::new(completion);
            state.queue.push(Queued { job, number, submitted: Instant::now(), completion });
            self.shared.work.notify_one();
            Ok(token)
        };
        drop(state);
        for queued in swept {
            queued.end(Err(RecognizeError::Cancelled));
        }
        outcome
    }

    /// Puts a job into the queue and returns where its end will be told, for async callers.
    ///
    /// # Errors
    /// As [`Self::submit`].
    pub fn submit_async(
        &self,
        job: Job,
    ) -> Result<(CancelToken, tokio::sync::oneshot::Receiver<Done>), RecognizeError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let token = self.submit(job, move |done| {
            // The call may have ended meanwhile; then nobody is there to be told.
            let _ = sender.send(done);
        })?;
        Ok((token, receiver))
    }

    /// The caller of a job went on: it becomes a guess that holds nobody up. When others wait already, or
    /// it has not begun, it is cancelled.
    pub fn nobody_waits(&self, token: &CancelToken) {
        let mut state = self.shared.lock();
        let is_wanted = state.queue.is_empty();
        match state.running.iter_mut().find(|running| running.token.is_same(token)) {
            Some(running) if is_wanted => running.is_guess = true,
            Some(_) | None => token.cancel(),
        }
        self.shared.work.notify_one();
    }

    /// Tells whether no caller waits for an answer; guesses may be running.
    pub fn is_idle(&self) -> bool {
        self.shared.lock().is_idle()
    }

    /// Tells whether nothing runs and nothing waits.
    pub fn is_empty(&self) -> bool {
        let state = self.shared.lock();
        state.running.is_empty() && state.queue.is_empty()
    }

    /// Tells whether there is a core left for guesses when all that callers wait for is being worked on.
    /// The encoder cannot be stopped half-way, so a guess without a core of its own delays whoever comes
    /// to the end of a turn meanwhile: measured on two cores, that costs more than the guess saves.
    pub fn can_spare_a_core(&self) -> bool {
        self.shared.at_once * self.shared.threads < cores() && self.shared.recognizer.at_once() > 1
    }

    /// Returns the figures of this moment.
    pub fn stats(&self) -> PoolStats {
        let state = self.shared.lock();
        PoolStats {
            workers: self.shared.at_once(),
            busy: state.running.len(),
            queued: state.queue.len(),
            ..state.stats
        }
    }
}

impl Drop for RecognizerPool {
    fn drop(&mut self) {
        let left = {
            let mut state = self.shared.lock();
            state.closed = true;
            for running in &state.running {
                running.token.cancel();
            }
            std::mem::take(&mut state.queue)
        };
        self.shared.work.notify_all();
        for queued in left {
            queued.end(Err(RecognizeError::Closed));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Queued {
    fn end(self, result: Result<Transcript, RecognizeError>) {
        let queued = self.submitted.elapsed();
        (self.completion)(Done { result, queued });
    }
}

/// Takes cancelled jobs out of the queue; the caller ends them after it has let go of the lock.
fn sweep(state: &mut State) -> Vec<Queued> {
    let (gone, kept): (Vec<_>, Vec<_>) =
        std::mem::take(&mut state.queue).into_iter().partition(|q| q.job.options.cancel.is_cancelled());
    state.queue = kept.into();
    state.stats.cancelled += gone.len() as u64;
    gone
}

fn work(shared: &Shared) {
    while let Some(queued) = next_job(shared) {
        let Queued { mut job, submitted, completion, .. } = queued;
        let waited = submitted.elapsed();
        if job.options.threads == 0 {
            job.options.threads = if job.waiting_since.is_some() { shared.threads } else { 1 };
        }
        let started = Instant::now();
        let result = if job.options.cancel.is_cancelled() {
            Err(RecognizeError::Cancelled)
        } else if job.options.deadline.is_some_and(|deadline| deadline <= started) {
            Err(RecognizeError::DeadlinePassed)
        } else {
            // A panic must cost one utterance, not a worker.
            catch_unwind(AssertUnwindSafe(|| shared.recognizer.recognize(&job.audio, &job.options)))
                .unwrap_or_else(|_| Err(RecognizeError::Engine("the recogniser panicked".to_owned())))
        };
        finish(shared, &job.options.cancel, &result, waited, started.elapsed());
        completion(Done { result, queued: waited });
    }
}

/// Waits for the most urgent job. `None`: the pool closes.
fn next_job(shared: &Shared) -> Option<Queued> {
    let mut state = shared.lock();
    loop {
        if state.closed {
            return None;
        }
        let counts = |running: &&Running| !running.is_guess && !running.token.is_cancelled();
        let busy = state.running.iter().filter(counts).count() >= shared.at_once();
        // Where memory is short, even what nobody waits for any more holds a place until it ends.
        let full = state.running.len() >= shared.recognizer.at_once().max(1);
        let fits = |queued: &Queued| {
            // What is cancelled is only to be told so.
            queued.job.options.cancel.is_cancelled() || !full && (!busy || queued.job.waiting_since.is_none())
        };
        if state.queue.peek().is_some_and(fits)
            && let Some(queued) = state.queue.pop()
        {
            let is_guess = queued.job.waiting_since.is_none();
            state.running.push(Running { token: queued.job.options.cancel.clone(), is_guess });
            return Some(queued);
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn finish(
    shared: &Shared,
    token: &CancelToken,
    result: &Result<Transcript, RecognizeError>,
    waited: Duration,
    ran: Duration,
) {
    let mut state = shared.lock();
    if let Some(at) = state.running.iter().position(|running| running.token.is_same(token)) {
        state.running.swap_remove(at);
    }
    let stats = &mut state.stats;
    match result {
        Ok(_) => {
            stats.mean_run = averaged(stats.mean_run, ran, stats.done);
            stats.mean_queued = averaged(stats.mean_queued, waited, stats.done);
            stats.done += 1;
        }
        Err(RecognizeError::Cancelled) => stats.cancelled += 1,
        Err(RecognizeError::DeadlinePassed) => stats.late += 1,
        Err(
            RecognizeError::TooLong { .. }
            | RecognizeError::Engine(_)
            | RecognizeError::Busy { .. }
            | RecognizeError::Closed,
        ) => stats.failed += 1,
    }
}

fn averaged(mean: Duration, new: Duration, count: u64) -> Duration {
    if count == 0 { new } else { (mean * 15 + new) / 16 }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::Language;
    use super::*;

    /// Answers with the number of samples it was given, and waits at a gate before each.
    struct Gated {
        gate: Mutex<mpsc::Receiver<()>>,
    }

    impl Recognizer for Gated {
        fn recognize(
            &self,
            audio: &Utterance,
            options: &RecognizeOptions,
        ) -> Result<Transcript, RecognizeError> {
            while !options.cancel.is_cancelled() {
                let gate = self.gate.lock().unwrap().recv_timeout(Duration::from_millis(2));
                if gate.is_ok() {
                    assert_ne!(audio.samples.len(), 666, "the number that panics");
                    return Ok(transcript(audio.samples.len()));
                }
            }
            Err(RecognizeError::Cancelled)
        }
    }

    fn transcript(number: usize) -> Transcript {
        Transcript {
            text: number.to_string(),
            raw: String::new(),
            language: Language::EN,
            avg_logprob: 0.0,
            no_speech_prob: 0.0,
            compression_ratio: 1.0,
            audio: Duration::ZERO,
            took: Duration::ZERO,
            tokens: Vec::new(),
            choice: None,
            rejected: None,
            end_logprob: 0.0,
            draft: None,
        }
    }

    fn job(number: usize, waiting_since: Instant) -> Job {
        let options = RecognizeOptions::new(Language::EN);
        Job { audio: Utterance::new(vec![0.0; number]), options, waiting_since: Some(waiting_since) }
    }

    fn pool(queue: usize) -> (RecognizerPool, mpsc::Sender<()>) {
        let (open, gate) = mpsc::channel();
        let recognizer = Arc::new(Gated { gate: Mutex::new(gate) });
        (RecognizerPool::new(recognizer, PoolConfig { workers: 1, queue, threads: 1 }).unwrap(), open)
    }

    fn wait_until_busy(pool: &RecognizerPool) {
        while pool.stats().busy == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_caller_who_has_waited_longest_goes_first() {
        let (pool, open) = pool(8);
        let (told, ends) = mpsc::channel();
        let start = Instant::now();
        let submit = |number: usize, since: Instant| {
            let told = told.clone();
            pool.submit(job(number, since), move |done| told.send(done.result.unwrap().text).unwrap())
                .unwrap();
        };
        submit(1, start);
        wait_until_busy(&pool);
        submit(2, start + Duration::from_secs(3));
        submit(3, start + Duration::from_secs(1));
        submit(4, start + Duration::from_secs(2));
        submit(5, start + Duration::from_secs(1));
        for _ in 0..5 {
            open.send(()).unwrap();
        }
        let order: Vec<String> = ends.iter().take(5).collect();
        assert_eq!(order, ["1", "3", "5", "4", "2"]);
        assert_eq!(pool.stats().done, 5);
    }

    #[test]
    fn a_guess_goes_last_and_leaves_the_pool_idle() {
        let (pool, open) = pool(8);
        let (told, ends) = mpsc::channel();
        let submit = |number: usize, waiting_since: Option<Instant>| {
            let told = told.clone();
            let job = Job { waiting_since, ..job(number, Instant::now()) };
            pool.submit(job, move |done| told.send(done.result.unwrap().text).unwrap()).unwrap();
        };
        submit(1, None);
        wait_until_busy(&pool);
        assert!(pool.is_idle() && !pool.is_empty());
        submit(2, None);
        submit(3, Some(Instant::now() + Duration::from_secs(60)));
        assert!(!pool.is_idle());
        for _ in 0..3 {
            open.send(()).unwrap();
        }
        assert_eq!(ends.iter().take(3).collect::<Vec<String>>(), ["1", "3", "2"]);
    }

    #[test]
    fn a_job_whose_caller_went_on_is_finished_unless_others_wait() {
        let (pool, open) = pool(8);
        let (told, ends) = mpsc::channel();
        let submit = |number: usize| {
            let told = told.clone();
            pool.submit(job(number, Instant::now()), move |done| {
                told.send(done.result.map(|t| t.text)).unwrap();
            })
            .unwrap()
        };
        let first = submit(1);
        wait_until_busy(&pool);
        assert!(!pool.is_idle());
        pool.nobody_waits(&first);
        assert!(pool.is_idle(), "it is a guess now");
        open.send(()).unwrap();
        assert_eq!(ends.recv().unwrap().unwrap(), "1");
        let second = submit(2);
        wait_until_busy(&pool);
        submit(3);
        pool.nobody_waits(&second);
        assert_eq!(ends.recv().unwrap(), Err(RecognizeError::Cancelled));
        open.send(()).unwrap();
        assert_eq!(ends.recv().unwrap().unwrap(), "3");
    }

    #[test]
    fn cancelled_work_ends_whether_it_waits_or_runs() {
        let (pool, _open) = pool(8);
        let (told, ends) = mpsc::channel();
        let now = Instant::now();
        let submit = |number: usize| {
            let told = told.clone();
            pool.submit(job(number, now), move |done| told.send(done.result.map(|t| t.text)).unwrap())
                .unwrap()
        };
        let running = submit(1);
        wait_until_busy(&pool);
        let waiting = submit(2);
        waiting.cancel();
        running.cancel();
        assert_eq!(ends.recv().unwrap(), Err(RecognizeError::Cancelled));
        assert_eq!(ends.recv().unwrap(), Err(RecognizeError::Cancelled));
        assert_eq!(pool.stats().cancelled, 2);
    }

    #[test]
    fn a_full_queue_refuses_but_makes_room_where_work_was_cancelled() {
        let (pool, _open) = pool(1);
        let now = Instant::now();
        pool.submit(job(1, now), |_| {}).unwrap();
        wait_until_busy(&pool);
        let waiting = pool.submit(job(2, now), |_| {}).unwrap();
        assert_eq!(pool.submit(job(3, now), |_| {}).unwrap_err(), RecognizeError::Busy { waiting: 1 });
        waiting.cancel();
        pool.submit(job(4, now), |_| {}).unwrap();
        assert_eq!(pool.stats().refused, 1);
    }

    #[test]
    fn a_deadline_that_passed_in_the_queue_is_not_worked_on() {
        let (pool, _open) = pool(4);
        let (told, ends) = mpsc::channel();
        let now = Instant::now();
        let mut late = job(1, now);
        late.options.deadline = Some(now);
        pool.submit(late, move |done| told.send(done.result.map(|t| t.text)).unwrap()).unwrap();
        assert_eq!(ends.recv().unwrap(), Err(RecognizeError::DeadlinePassed));
    }

    #[test]
    fn a_panic_costs_one_utterance_and_no_worker() {
        let (pool, open) = pool(4);
        let (told, ends) = mpsc::channel();
        let now = Instant::now();
        for number in [666, 7] {
            let told = told.clone();
            pool.submit(job(number, now), move |done| told.send(done.result.map(|t| t.text)).unwrap())
                .unwrap();
            open.send(()).unwrap();
        }
        assert!(matches!(ends.recv().unwrap(), Err(RecognizeError::Engine(_))));
        assert_eq!(ends.recv().unwrap().unwrap(), "7");
    }

    #[test]
    fn closing_tells_those_who_wait() {
        let (pool, _open) = pool(4);
        let now = Instant::now();
        pool.submit(job(1, now), |_| {}).unwrap();
        wait_until_busy(&pool);
        let (told, ends) = mpsc::channel();
        pool.submit(job(2, now), move |done| told.send(done.result.map(|t| t.text)).unwrap()).unwrap();
        drop(pool);
        assert_eq!(ends.recv().unwrap(), Err(RecognizeError::Closed));
    }

    #[test]
    fn the_expected_wait_grows_with_the_queue() {
        let stats = PoolStats {
            workers: 2,
            busy: 2,
            queued: 3,
            mean_run: Duration::from_millis(200),
            ..PoolStats::default()
        };
        assert_eq!(stats.expected_wait(), Duration::from_millis(400));
        assert_eq!(PoolStats { busy: 0, queued: 0, ..stats }.expected_wait(), Duration::ZERO);
    }
}
