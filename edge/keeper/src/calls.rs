//! The program that carries calls, as a child of the keeper: started again when it ends, told to take no more
//! calls before another version starts, and not stopped for one while a call is under way.
//!
//! They talk in lines of JSON over the child's standard input and output: the keeper says [`Word`]s, the child
//! says its whole [`CallsState`] whenever that changes. The end of its input tells the child that nobody keeps it:
//! it takes no more calls and ends after the last one, while its successor waits for the data folder.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use trunkline_wire::{CallsReport, TrunkReport};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A child that ran for so long did not end because of how it began.
const STABLE: Duration = Duration::from_secs(120);
/// A child that is asked to stop gets this time, in which calls end.
const FAREWELL: Duration = Duration::from_secs(540);

/// How the program that carries calls is started.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What the keeper says to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Take no new calls from now on, or take them again.
    Drain(bool),
    /// The file with the box's certificate is another one.
    NewCertificate,
    /// Call who sends back what he hears, and say in [`CallsState::echo`] what came of it.
    Echo(EchoWish),
}

/// A test call that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EchoWish {
    /// Named again in the answer.
    pub id: u64,
    /// A number, on whichever trunk takes it, or a `sip:` address, past the trunks.
    pub to: String,
    /// How long it may ring, in seconds.
    pub ring_s: u32,
}

/// What came of a test call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EchoDone {
    /// That of the wish.
    pub id: u64,
    /// Why there is nothing to be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The way there and back, in milliseconds.
    #[serde(default)]
    pub round_trip_ms: u32,
    /// How much softer the signal came back, in dB.
    #[serde(default)]
    pub loss_db: i32,
    /// Packets of a thousand that never came.
    #[serde(default)]
    pub lost_permille: u32,
}

/// What it says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallsState {
    /// Models are loaded and sockets stand: calls can be taken.
    pub ready: bool,
    /// Calls that have not ended.
    pub calls: u32,
    /// No new calls are taken.
    pub draining: bool,
    /// How its trunks are.
    #[serde(default)]
    pub trunks: Vec<TrunkReport>,
    /// What came of the last test call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<EchoDone>,
    /// What changes by the second, taken now and then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
}

/// How much is left before calls are heard late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// How many calls there may be.
    pub channels: u32,
    /// The link of the calls stands.
    pub linked: bool,
    /// The greatest lateness of the thread that moves all sound since the last figures, in microseconds.
    pub late_us: u64,
    /// Threads of the recogniser.
    pub workers: u32,
    /// Those at work.
    pub busy: u32,
    /// Utterances that wait.
    pub queued: u32,
    /// What one more would wait, in milliseconds.
    pub wait_ms: u32,
    /// What one takes, in milliseconds.
    pub run_ms: u32,
    /// Events that headquarters has not acknowledged.
    pub backlog: u64,
}

/// How the program that carries calls stands, as its keeper sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Standing {
    /// It was started and cannot take calls yet.
    Starting,
    /// It takes calls, or would if it were not told otherwise.
    Up(CallsState),
    /// It ended, for this reason, and will be started again.
    Down(String),
}

impl Standing {
    /// Returns it in the words of a report.
    pub(crate) fn report(&self) -> CallsReport {
        let named = |state: &str| CallsReport { state: state.to_owned(), ..CallsReport::default() };
        match self {
            Self::Starting => named("starting"),
            Self::Down(why) => CallsReport { why: why.clone(), ..named("down") },
            Self::Up(CallsState { calls, draining, trunks, .. }) => {
                CallsReport { calls: *calls, draining: *draining, trunks: trunks.clone(), ..named("up") }
            }
        }
    }

    /// Returns the names of the trunks that take calls.
    pub(crate) fn trunks_up(&self) -> Vec<String> {
        let Self::Up(state) = self else { return Vec::new() };
        state.trunks.iter().filter(|trunk| trunk.up).map(|trunk| trunk.name.clone()).collect()
    }
}

#[derive(Debug)]
enum Order {
    Drain(bool),
    NewCertificate,
    Echo(EchoWish),
    /// The sender is dropped once the child has ended and another one is being started.
    Restart {
        at_once: bool,
        over: Option<oneshot::Sender<()>>,
    },
    End {
        at_once: bool,
        done: oneshot::Sender<()>,
    },
}

/// The child, as the keeper holds it. It ends with this value, after its calls.
#[derive(Debug)]
pub(crate) struct Calls {
    standing: watch::Receiver<Standing>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Calls {
    /// Starts the program, and again whenever it ends.
    pub(crate) fn start(carrier: Carrier) -> Self {
        let (told, standing) = watch::channel(Standing::Starting);
        let (orders, inbox) = mpsc::unbounded_channel();
        tokio::spawn(carry(carrier, inbox, told));
        Self { standing, orders }
    }

    /// Returns how it stands.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Lets it take no new calls, or take them again.
    pub(crate) fn drain(&self, on: bool) {
        let _ = self.orders.send(Order::Drain(on));
    }

    /// Starts it anew once no call is under way, since its settings changed.
    pub(crate) fn restart(&self) {
        let _ = self.orders.send(Order::Restart { at_once: false, over: None });
    }

    /// Starts it anew once no call is under way, or, `at_once`, after the calls were ended politely. What is returned is
    /// over when the old one has ended.
    pub(crate) fn restarted(&self, at_once: bool) -> oneshot::Receiver<()> {
        let (over, ended) = oneshot::channel();
        let _ = self.orders.send(Order::Restart { at_once, over: Some(over) });
        ended
    }

    /// Lets it read the box's certificate again.
    pub(crate) fn new_certificate(&self) {
        let _ = self.orders.send(Order::NewCertificate);
    }

    /// Returns who may have a test call made.
    pub(crate) fn tester(&self) -> Tester {
        Tester { standing: self.standing.clone(), orders: self.orders.clone() }
    }

    /// Returns after it has ended: once its calls are over, or, `at_once`, as soon as they could be ended politely.
    pub(crate) async fn end(self, at_once: bool) {
        let (done, ended) = oneshot::channel();
        if self.orders.send(Order::End { at_once, done }).is_ok() {
            let _ = ended.await;
        }
    }
}

/// Who may have a test call made.
#[derive(Clone, Debug)]
pub(crate) struct Tester {
    standing: watch::Receiver<Standing>,
    orders: mpsc::UnboundedSender<Order>,
}

impl Tester {
    /// Has a test call made; returns what came of it.
    ///
    /// # Errors
    /// In words, when no answer came in time, or the program for calls ended over it.
    pub(crate) async fn echo(
        &mut self,
        to: &str,
        ring: Duration,
        within: Duration,
    ) -> Result<EchoDone, String> {
        let id = rand::random();
        let ring_s = u32::try_from(ring.as_secs()).unwrap_or(u32::MAX);
        let wish = EchoWish { id, to: to.to_owned(), ring_s };
        self.orders.send(Order::Echo(wish)).map_err(|_| "the program for calls is gone".to_owned())?;
        let answered = self.standing.wait_for(|standing| match standing {
            Standing::Up(state) => state.echo.as_ref().is_some_and(|echo| echo.id == id),
            Standing::Down(_) => true,
            Standing::Starting => false,
        });
        let answer = tokio::time::timeout(within, answered).await;
        let answer = answer.map_err(|_| format!("no answer within {} s", within.as_secs()))?;
        match answer.as_deref() {
            Ok(Standing::Up(state)) => Ok(state.echo.clone().unwrap_or_default()),
            Ok(Standing::Down(why)) => Err(format!("the program for calls went down: {why}")),
            Ok(Standing::Starting) | Err(_) => Err("the program for calls is gone".to_owned()),
        }
    }
}

/// Why a child is to end.
enum Wish {
    Restart,
    End(oneshot::Sender<()>),
}

async fn carry(carrier: Carrier, mut orders: mpsc::UnboundedReceiver<Order>, told: watch::Sender<Standing>) {
    let (mut pause, mut draining) = (FIRST_PAUSE, false);
    loop {
        told.send_replace(Standing::Starting);
        let began = Instant::now();
        let why = match spawn(&carrier) {
            Err(error) => format!("it cannot be started: {error}"),
            Ok(mut running) => {
                let over = running.carry(&mut orders, &told, &mut draining).await;
                // Whoever waits for the end of the old one must not see it in the place of the new one.
                told.send_replace(Standing::Starting);
                drop(running);
                match over {
                    Over::Kept => return,
                    Over::Ended(done) => {
                        let _ = done.send(());
                        return;
                    }
                    Over::Anew => continue,
                    Over::ByItself(why) => why,
                }
            }
        };
        tracing::error!(why, "The program that carries calls is down");
        told.send_replace(Standing::Down(why));
        if began.elapsed() >= STABLE {
            pause = FIRST_PAUSE;
        }
        let next = tokio::time::sleep(pause);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::Drain(on)) => draining = on,
                    Some(Order::NewCertificate | Order::Echo(_)) => {}
                    Some(Order::Restart { .. }) => break,
                    Some(Order::End { done, .. }) => {
                        let _ = done.send(());
                        return;
                    }
                },
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn spawn(carrier: &Carrier) -> std::io::Result<Running> {
    let mut child = Command::new(&carrier.program)
        .args(&carrier.args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let lines = output.map(|output| BufReader::new(output).lines());
    Ok(Running { child, input, lines, state: CallsState::default(), restarts: Vec::new() })
}

/// One life of the child.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    state: CallsState,
    /// Who waits for its end.
    restarts: Vec<oneshot::Sender<()>>,
}

/// How one life of the child was over.
enum Over {
    /// The keeper is gone; the child ends by itself after its calls.
    Kept,
    Ended(oneshot::Sender<()>),
    Anew,
    ByItself(String),
}

impl Running {
    async fn carry(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        told: &watch::Sender<Standing>,
        draining: &mut bool,
    ) -> Over {
        let mut wish = None;
        if *draining {
            self.say(Word::Drain(true)).await;
        }
        loop {
            if wish.is_some() && self.is_idle() {
                break;
            }
            tokio::select! {
                line = next_line(&mut self.lines) => match line {
                    Some(line) => self.hear(&line, told),
                    None => self.lines = None,
                },
                status = self.child.wait() => return match wish {
                    None => Over::ByItself(words(status)),
                    Some(Wish::Restart) => Over::Anew,
                    Some(Wish::End(done)) => Over::Ended(done),
                },
                order = orders.recv() => match order {
                    None => return Over::Kept,
                    Some(Order::Drain(on)) => {
                        *draining = on;
                        self.say(Word::Drain(on || wish.is_some())).await;
                    }
                    Some(Order::NewCertificate) => self.say(Word::NewCertificate).await,
                    Some(Order::Echo(wish)) => self.say(Word::Echo(wish)).await,
                    Some(Order::Restart { at_once, over }) => {
                        self.say(Word::Drain(true)).await;
                        wish = wish.or(Some(Wish::Restart));
                        self.restarts.extend(over);
                        if at_once {
                            break;
                        }
                    }
                    Some(Order::End { at_once, done }) => {
                        self.say(Word::Drain(true)).await;
                        wish = Some(Wish::End(done));
                        if at_once {
                            break;
                        }
                    }
                },
            }
        }
        self.stop().await;
        match wish {
            Some(Wish::End(done)) => Over::Ended(done),
            Some(Wish::Restart) | None => Over::Anew,
        }
    }

    /// It can be stopped without anybody noticing: it carries no call, and has confirmed that none will come.
    fn is_idle(&self) -> bool {
        !self.state.ready || (self.state.draining && self.state.calls == 0)
    }

    fn hear(&mut self, line: &str, told: &watch::Sender<Standing>) {
        match serde_json::from_str::<CallsState>(line) {
            Ok(state) => {
                self.state = state.clone();
                told.send_replace(if state.ready { Standing::Up(state) } else { Standing::Starting });
            }
            Err(error) => tracing::warn!(%error, "The program that carries calls said something unknown"),
        }
    }

    async fn say(&mut self, word: Word) {
        if word == Word::Drain(false) {
            // What it said of draining was said before it heard this.
            self.state.draining = false;
        }
        let Some(input) = &mut self.input else { return };
        let Ok(mut line) = serde_json::to_vec(&word) else { return };
        line.push(b'\n');
        // A child that cannot be told has ended or is about to; that is seen where it is waited for.
        if let Err(error) = input.write_all(&line).await {
            tracing::debug!(%error, "The program that carries calls does not listen");
        }
    }

    async fn stop(&mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill(pid, Signal::SIGTERM)
        {
            tracing::warn!(%error, "The program that carries calls could not be asked to stop");
        }
        if tokio::time::timeout(FAREWELL, self.child.wait()).await.is_err() {
            tracing::error!(
                "The program that carries calls did not stop when it was asked to, and is killed"
            );
            let _ = self.child.kill().await;
        }
    }
}

async fn next_line(lines: &mut Option<Lines<BufReader<ChildStdout>>>) -> Option<String> {
    match lines {
        Some(lines) => lines.next_line().await.ok().flatten(),
        // It said its last word; now it is waited for.
        None => std::future::pending().await,
    }
}

fn words(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("it ended by itself: {status}"),
        Err(error) => format!("it cannot be waited for: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    /// A program of a few lines of shell that says what a box would say; `$log` is a file for what it hears.
    fn program(dir: &Path, text: &str) -> Carrier {
        let path = dir.join("program");
        let text = format!("#!/bin/sh\nlog={}\n{text}\n", dir.join("log").display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Carrier { program: path, args: Vec::new() }
    }

    const UP: &str = r#"echo '{"ready":true,"calls":1,"draining":false}'"#;

    async fn wait(calls: &Calls, what: impl Fn(&Standing) -> bool) -> Standing {
        let mut standing = calls.standing();
        let seen = tokio::time::timeout(WITHIN, standing.wait_for(what)).await;
        seen.expect("in time").unwrap().clone()
    }

    #[tokio::test]
    async fn the_end_waits_for_the_calls_and_for_the_word_that_no_more_come() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "{UP}\nread word; echo $word >> $log\necho '{{\"ready\":true,\"calls\":1,\"draining\":true}}'\nsleep 0.4\n\
             echo over >> $log\necho '{{\"ready\":true,\"calls\":0,\"draining\":true}}'\nexec sleep 30"
        );
        let calls = Calls::start(program(dir.path(), &script));
        assert_eq!(wait(&calls, |standing| *standing != Standing::Starting).await.report().calls, 1);
        tokio::time::timeout(WITHIN, calls.end(false)).await.expect("it is stopped once it is idle");
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "{\"drain\":true}\nover\n");
    }

    #[tokio::test]
    async fn a_program_that_dies_is_down_with_a_reason_and_starts_again() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("if [ -e $log ]; then {UP}; exec sleep 30; fi\ntouch $log\nexit 3");
        let calls = Calls::start(program(dir.path(), &script));
        let down = wait(&calls, |standing| matches!(standing, Standing::Down(_))).await;
        assert!(matches!(&down, Standing::Down(why) if why.contains('3')), "{down:?}");
        wait(&calls, |standing| matches!(standing, Standing::Up(_))).await;
        tokio::time::timeout(WITHIN, calls.end(true)).await.expect("at once, calls or not");
    }

    #[tokio::test]
    async fn new_settings_start_it_anew_and_an_order_to_drain_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo start >> $log\necho '{\"ready\":true,\"calls\":0,\"draining\":false}'\n\
                      while read word; do echo $word >> $log; case $word in *true*) \
                      echo '{\"ready\":true,\"calls\":0,\"draining\":true}';; esac; done";
        let calls = Calls::start(program(dir.path(), script));
        wait(&calls, |standing| matches!(standing, Standing::Up(_))).await;
        calls.drain(true);
        wait(&calls, |standing| matches!(standing, Standing::Up(state) if state.draining)).await;
        calls.restart();
        let log = || fs::read_to_string(dir.path().join("log")).unwrap();
        let deadline = Instant::now() + WITHIN;
        while log().matches("start").count() < 2 || !log().trim_end().ends_with("{\"drain\":true}") {
            assert!(Instant::now() < deadline, "{}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        calls.end(true).await;
    }

    #[tokio::test]
    async fn a_test_call_is_made_by_the_program_for_calls_and_its_answer_is_that_of_this_call() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!(
            "{UP}\nread word; echo $word >> $log\nid=$(echo $word | sed 's/.*\"id\":\\([0-9]*\\).*/\\1/')\n\
             say() {{ echo '{{\"ready\":true,\"calls\":0,\"draining\":false,\"echo\":{{\"id\":'$1',\"round_trip_ms\":'$2'}}}}'; }}\n\
             say 1 7\nsay $id 42\nread word\nexit 3"
        );
        let calls = Calls::start(program(dir.path(), &script));
        wait(&calls, |standing| matches!(standing, Standing::Up(_))).await;
        let mut tester = calls.tester();
        let done = tester.echo("4443", Duration::from_secs(9), WITHIN).await.unwrap();
        assert_eq!((done.round_trip_ms, done.failed), (42, None));
        let heard = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(heard.contains("\"to\":\"4443\",\"ring_s\":9"), "{heard}");
        let died = tester.echo("4443", Duration::from_secs(9), WITHIN).await;
        assert!(died.is_err_and(|why| why.contains("went down")));
        calls.end(true).await;
    }

    #[tokio::test]
    async fn whoever_starts_it_anew_is_told_when_the_old_one_has_ended_and_never_sees_it_again() {
        let dir = tempfile::tempdir().unwrap();
        // It says that a call is under way, and never that none is.
        let script = format!("echo start >> $log\n{UP}\nexec sleep 30");
        let calls = Calls::start(program(dir.path(), &script));
        wait(&calls, |standing| matches!(standing, Standing::Up(_))).await;
        let waits = calls.restarted(false);
        assert!(
            tokio::time::timeout(Duration::from_millis(300), waits).await.is_err(),
            "a call is under way"
        );
        let at_once = calls.restarted(true);
        assert!(
            tokio::time::timeout(WITHIN, at_once).await.unwrap().is_err(),
            "the end is that nobody answers"
        );
        wait(&calls, |standing| matches!(standing, Standing::Up(_))).await;
        assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "start\nstart\n");
        calls.end(true).await;
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_said() {
        let carrier = Carrier { program: "/nowhere/at-all".into(), args: Vec::new() };
        let calls = Calls::start(carrier);
        wait(&calls, |standing| matches!(standing, Standing::Down(why) if why.contains("cannot be started")))
            .await;
        calls.end(false).await;
    }
}
