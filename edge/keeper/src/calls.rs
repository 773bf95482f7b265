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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// Take no new calls from now on, or take them again.
    Drain(bool),
    /// The file with the box's certificate is another one.
    NewCertificate,
}

/// What it says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// How the program that carries calls stands, as its keeper sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    Restart,
    End { at_once: bool, done: oneshot::Sender<()> },
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
        let _ = self.orders.send(Order::Restart);
    }

    /// Lets it read the box's certificate again.
    pub(crate) fn new_certificate(&self) {
        let _ = self.orders.send(Order::NewCertificate);
    }

    /// Returns after it has ended: once its calls are over, or, `at_once`, as soon as they could be ended politely.
    pub(crate) async fn end(self, at_once: bool) {
        let (done, ended) = oneshot::channel();
        if self.orders.send(Order::End { at_once, done }).is_ok() {
            let _ = ended.await;
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
            Ok(mut running) => match running.carry(&mut orders, &told, &mut draining).await {
                Over::Kept => return,
                Over::Ended(done) => {
                    let _ = done.send(());
                    return;
                }
                Over::Anew => continue,
                Over::ByItself(why) => why,
            },
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
                    Some(Order::NewCertificate) => {}
                    Some(Order::Restart) => break,
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
    Ok(Running { child, input, lines, state: CallsState::default() })
}

/// One life of the child.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Option<Lines<BufReader<ChildStdout>>>,
    state: CallsState,
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
                    Some(Order::Restart) => {
                        self.say(Word::Drain(true)).await;
                        wish = wish.or(Some(Wish::Restart));
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
    async fn a_program_that_is_not_there_is_said() {
        let carrier = Carrier { program: "/nowhere/at-all".into(), args: Vec::new() };
        let calls = Calls::start(carrier);
        wait(&calls, |standing| matches!(standing, Standing::Down(why) if why.contains("cannot be started")))
            .await;
        calls.end(false).await;
    }
}
