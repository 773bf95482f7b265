//! Orders of headquarters, without I/O: each is carried out once, whatever is repeated, lost or restarted.
//!
//! An order is kept before anything follows from it, and so is what was begun. After a restart of the keeper an order
//! goes on where it was; a machine that was started anew in between has done what a `reboot` wanted. Drive it by the
//! `handle_*` calls; after each of them write down [`Orders::poll_kept`], and then do what [`Orders::poll_output`] says.
//!
//! **Invariant:** an order whose time was over when it was sent is never begun.
//! **Invariant:** what could not be kept is not done.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trunkline_wire::{Drained, OrderCommand, OrderReport};
use uuid::Uuid;

/// So many orders are remembered; headquarters has at most eight open.
const REMEMBERED: usize = 64;
/// So many are named in a report.
const REPORTED: usize = 16;
/// The program for calls loads its models within this time.
const UP_WITHIN: Duration = Duration::from_secs(240);
/// A machine that was told to start anew goes down within this time.
const DOWN_WITHIN: Duration = Duration::from_secs(300);

/// No order is waited for longer.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// What time it is: since the start of the process, and by the wall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) mono: Duration,
    pub(crate) wall: Timestamp,
}

/// How the program for calls stands, as far as orders need it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallsView {
    /// There is one.
    pub(crate) there: bool,
    /// It takes calls, or would.
    pub(crate) up: bool,
    /// It has confirmed that it takes no new ones.
    pub(crate) refuses: bool,
    /// Calls that have not ended.
    pub(crate) calls: u32,
    /// It is to take none for another reason than an order.
    pub(crate) held_otherwise: bool,
}

impl CallsView {
    fn takes_none(self) -> bool {
        !self.up || self.refuses
    }

    fn is_idle(self) -> bool {
        self.takes_none() && self.calls == 0
    }
}

/// What is to be done, once what led to it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// Start the program for calls anew, `at_once` also when calls are under way; then [`Orders::handle_restarted`].
    Restart { order: Uuid, at_once: bool },
    /// Start the machine anew; when that fails, [`Orders::handle_failed`].
    Reboot { order: Uuid },
    /// Make a file and send it; then [`Orders::handle_sent`] or [`Orders::handle_failed`].
    Collect(OrderCommand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Drain,
    Undrain,
    Restart,
    Reboot,
    Collect,
}

fn kind_of(command: &OrderCommand) -> Option<Kind> {
    Some(match command.kind.as_str() {
        "drain" => Kind::Drain,
        "undrain" => Kind::Undrain,
        "restart" => Kind::Restart,
        "reboot" => Kind::Reboot,
        "logs" | "diag" => Kind::Collect,
        _ => return None,
    })
}

/// How far an order is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    /// Not begun: it waits for calls to end, or for its turn.
    Waiting,
    /// Begun.
    Begun,
    /// The program for calls was started anew and is not up yet.
    Restarted,
    Done,
    Failed {
        reason: String,
        detail: String,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    command: OrderCommand,
    at: At,
    /// Which start of the machine it came in.
    boot: String,
    /// When it is given up, since the start of the process; made anew by the next one.
    #[serde(skip)]
    give_up: Duration,
}

impl Known {
    fn is_open(&self) -> bool {
        !matches!(self.at, At::Done | At::Failed { .. })
    }

    fn fail(&mut self, reason: &str, detail: impl Into<String>) {
        self.at = At::Failed { reason: reason.to_owned(), detail: detail.into() };
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    known: Vec<Known>,
    #[serde(default)]
    drained: Option<Drained>,
}

/// Every order that is open, and the last that were.
#[derive(Debug)]
pub(crate) struct Orders {
    kept: Kept,
    boot: String,
    view: CallsView,
    changed: bool,
    outputs: VecDeque<Do>,
}

impl Orders {
    /// Goes on with what was kept, in this start of the machine. What cannot be read is as if nothing had been kept.
    pub(crate) fn open(kept: Option<&[u8]>, boot: &str, view: CallsView, now: Now) -> Self {
        let kept = kept.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let mut orders = Self { kept, boot: boot.to_owned(), view, changed: false, outputs: VecDeque::new() };
        for known in &mut orders.kept.known {
            let left = known.command.expires.duration_since(now.wall);
            // A clock without a battery may take the end for years away.
            known.give_up = now.mono + Duration::try_from(left).unwrap_or_default().min(LONGEST);
            let anew = known.boot != boot && !boot.is_empty();
            match (kind_of(&known.command), &known.at) {
                (Some(Kind::Restart), At::Waiting | At::Begun | At::Restarted) => {
                    // The keeper that starts has started the program for calls as well.
                    known.at = At::Restarted;
                    known.give_up = now.mono + UP_WITHIN;
                    orders.changed = true;
                }
                (Some(Kind::Reboot), At::Waiting | At::Begun) if anew => {
                    known.at = At::Done;
                    orders.changed = true;
                }
                (Some(Kind::Reboot), At::Begun) => known.give_up = now.mono + DOWN_WITHIN,
                (Some(Kind::Collect), At::Begun) => known.at = At::Waiting,
                _ => {}
            }
        }
        orders.step(now);
        orders
    }

    /// Takes an order that was sent at `sent`, by the clock that wrote its end. One that is known changes nothing.
    pub(crate) fn handle_order(&mut self, command: OrderCommand, sent: Timestamp, now: Now) {
        if self.kept.known.iter().any(|known| known.command.order == command.order) {
            return;
        }
        self.changed = true;
        let left = Duration::try_from(command.expires.duration_since(sent)).unwrap_or_default();
        let kind = kind_of(&command);
        let busy = self.kept.known.iter().any(|known| {
            known.is_open() && matches!(kind_of(&known.command), Some(Kind::Restart | Kind::Reboot))
        });
        let mut known = Known {
            at: At::Waiting,
            boot: self.boot.clone(),
            give_up: now.mono.saturating_add(left),
            command,
        };
        match kind {
            _ if left.is_zero() => known.fail("expired", "it came after its end"),
            None => known.fail("unknown_kind", "this version does not know it"),
            Some(Kind::Drain | Kind::Undrain | Kind::Restart) if !self.view.there => {
                known.fail("no_calls", "this box has no program for calls");
            }
            Some(Kind::Restart | Kind::Reboot) if busy => {
                known.fail("busy", "another restart or reboot is under way");
            }
            Some(Kind::Drain) if known.command.until.is_some_and(|until| until <= now.wall) => {
                known.fail("expired", "its end is over");
            }
            Some(Kind::Reboot) if self.boot.is_empty() => {
                known.fail("no_boot_id", "this machine cannot tell one start from another");
            }
            Some(kind @ (Kind::Drain | Kind::Undrain)) => {
                self.supersede();
                let by = known.command.order;
                let until = known.command.until;
                self.kept.drained = (kind == Kind::Drain).then_some(Drained { by, until });
            }
            Some(Kind::Restart | Kind::Reboot | Kind::Collect) => {}
        }
        self.kept.known.push(known);
        if self.kept.known.len() > REMEMBERED
            && let Some(oldest) = self.kept.known.iter().position(|known| !known.is_open())
        {
            self.kept.known.remove(oldest);
        }
        self.step(now);
    }

    /// Whoever says now whether calls are taken is the one who counts.
    fn supersede(&mut self) {
        for known in self.kept.known.iter_mut().filter(|known| known.is_open()) {
            if matches!(kind_of(&known.command), Some(Kind::Drain | Kind::Undrain)) {
                known.fail("superseded", "a later order says otherwise");
            }
        }
    }

    /// Takes how the program for calls stands.
    pub(crate) fn handle_calls(&mut self, view: CallsView, now: Now) {
        self.view = view;
        self.step(now);
    }

    /// The program for calls has ended, and another one is being started, which stands like this.
    pub(crate) fn handle_restarted(&mut self, order: &Uuid, view: CallsView, now: Now) {
        self.view = view;
        if let Some(known) = self.open_one(order) {
            known.at = At::Restarted;
            known.give_up = now.mono + UP_WITHIN;
            self.changed = true;
        }
        self.step(now);
    }

    /// The file of an order has reached headquarters.
    pub(crate) fn handle_sent(&mut self, order: &Uuid, now: Now) {
        if let Some(known) = self.open_one(order) {
            known.at = At::Done;
            self.changed = true;
        }
        self.step(now);
    }

    /// What was to be done could not be.
    pub(crate) fn handle_failed(&mut self, order: &Uuid, reason: &str, detail: &str, now: Now) {
        if let Some(known) = self.open_one(order) {
            known.fail(reason, detail);
            self.changed = true;
        }
        self.step(now);
    }

    /// What was to be kept could not be: nothing follows from it, and every open order fails.
    pub(crate) fn handle_not_kept(&mut self, why: &str) {
        self.outputs.clear();
        for known in self.kept.known.iter_mut().filter(|known| known.is_open()) {
            if kind_of(&known.command) == Some(Kind::Drain) {
                self.kept.drained = None;
            }
            known.fail("cannot_keep", why);
        }
    }

    /// Does whatever is due at `now`. Calling it early is harmless.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        self.step(now);
    }

    fn open_one(&mut self, order: &Uuid) -> Option<&mut Known> {
        self.kept.known.iter_mut().find(|known| known.command.order == *order && known.is_open())
    }

    fn step(&mut self, now: Now) {
        if self.kept.drained.as_ref().is_some_and(|drained| drained.until.is_some_and(|at| at <= now.wall)) {
            tracing::info!("The time without new calls is over");
            self.kept.drained = None;
            self.changed = true;
        }
        let view = self.view;
        let mut collecting = self
            .kept
            .known
            .iter()
            .any(|known| known.at == At::Begun && kind_of(&known.command) == Some(Kind::Collect));
        for known in &mut self.kept.known {
            let Some(kind) = kind_of(&known.command).filter(|_| known.is_open()) else { continue };
            let (order, late) = (known.command.order, now.mono >= known.give_up);
            let next = match (kind, &known.at) {
                (Kind::Drain, _) if view.takes_none() => Some(At::Done),
                (Kind::Undrain, _) if !view.refuses || view.held_otherwise => Some(At::Done),
                (Kind::Drain | Kind::Undrain, _) if late => {
                    Some(failed("not_confirmed", "the program for calls does not answer"))
                }
                (Kind::Restart | Kind::Reboot, At::Waiting) if known.command.now || view.is_idle() => {
                    let at_once = known.command.now;
                    let (output, within) = if kind == Kind::Restart {
                        (Do::Restart { order, at_once }, None)
                    } else {
                        (Do::Reboot { order }, Some(DOWN_WITHIN))
                    };
                    self.outputs.push_back(output);
                    // A call may take its time to end; whoever starts it anew says when it has.
                    known.give_up = within.map_or(Duration::MAX, |within| now.mono + within);
                    Some(At::Begun)
                }
                (Kind::Restart | Kind::Reboot, At::Waiting) if late => {
                    Some(failed("calls_under_way", "calls did not end in time"))
                }
                (Kind::Restart, At::Restarted) if view.up => Some(At::Done),
                (Kind::Restart, At::Restarted) if late => {
                    Some(failed("not_up", "the program for calls does not come up again"))
                }
                (Kind::Reboot, At::Begun) if late => {
                    Some(failed("did_not_go_down", "the command was run and the machine goes on"))
                }
                (Kind::Collect, At::Waiting) if late => {
                    Some(failed("expired", "its turn did not come in time"))
                }
                (Kind::Collect, At::Waiting) if !collecting => {
                    collecting = true;
                    self.outputs.push_back(Do::Collect(known.command.clone()));
                    Some(At::Begun)
                }
                _ => None,
            };
            if let Some(next) = next {
                known.at = next;
                self.changed = true;
            }
        }
    }

    /// Says whether no new calls are to be taken because of an order.
    pub(crate) fn holds_calls(&self) -> bool {
        let waits = |known: &Known| {
            known.is_open()
                && known.at != At::Restarted
                && matches!(kind_of(&known.command), Some(Kind::Restart | Kind::Reboot))
        };
        self.kept.drained.is_some() || self.kept.known.iter().any(waits)
    }

    /// Returns what is to be kept, if that is something else than before.
    pub(crate) fn poll_kept(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.changed).then(|| serde_json::to_vec(&self.kept).unwrap_or_default())
    }

    /// Returns the next thing to do. Drain it after every `handle_*` call, once what is to be kept was.
    pub(crate) fn poll_output(&mut self) -> Option<Do> {
        self.outputs.pop_front()
    }

    /// Returns that no calls are taken, and until when, for reports.
    pub(crate) fn drained(&self) -> Option<Drained> {
        self.kept.drained.clone()
    }

    /// Returns how far the last orders are, for reports.
    pub(crate) fn reports(&self) -> Vec<OrderReport> {
        let skip = self.kept.known.len().saturating_sub(REPORTED);
        let said = |known: &Known| {
            let (state, reason, detail) = match &known.at {
                At::Waiting => ("running", waits_for(known), String::new()),
                At::Begun => ("running", "begun", String::new()),
                At::Restarted => ("running", "starting", String::new()),
                At::Done => ("done", "", String::new()),
                At::Failed { reason, detail } => ("failed", reason.as_str(), detail.clone()),
            };
            OrderReport { order: known.command.order, state: state.into(), reason: reason.into(), detail }
        };
        let known = self.kept.known.iter().enumerate();
        known.filter(|(at, known)| *at >= skip || known.is_open()).map(|(_, known)| said(known)).collect()
    }
}

fn failed(reason: &str, detail: &str) -> At {
    At::Failed { reason: reason.to_owned(), detail: detail.to_owned() }
}

fn waits_for(known: &Known) -> &'static str {
    match kind_of(&known.command) {
        Some(Kind::Restart | Kind::Reboot) => "calls_under_way",
        Some(Kind::Collect) => "its_turn",
        Some(Kind::Drain | Kind::Undrain) | None => "confirmation",
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn t0() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn at(seconds: i64) -> Now {
        let mono = Duration::from_secs(seconds.unsigned_abs());
        Now { mono, wall: t0() + SignedDuration::from_secs(seconds) }
    }

    const BUSY: CallsView =
        CallsView { there: true, up: true, refuses: false, calls: 2, held_otherwise: false };
    const HELD: CallsView = CallsView { refuses: true, ..BUSY };
    const IDLE: CallsView = CallsView { calls: 0, ..HELD };

    fn command(kind: &str) -> OrderCommand {
        OrderCommand {
            order: Uuid::now_v7(),
            kind: kind.into(),
            expires: t0() + SignedDuration::from_mins(15),
            ..OrderCommand::default()
        }
    }

    fn orders(view: CallsView) -> Orders {
        Orders::open(None, "boot-1", view, at(0))
    }

    /// Stops the keeper and starts it again; what it kept is all that is left.
    fn again(orders: &mut Orders, boot: &str, view: CallsView, now: Now) -> Orders {
        orders.changed = true;
        Orders::open(Some(&orders.poll_kept().unwrap()), boot, view, now)
    }

    fn last(orders: &Orders) -> (String, String) {
        orders.reports().last().map(|last| (last.state.clone(), last.reason.clone())).unwrap()
    }

    fn is(orders: &Orders, state: &str, reason: &str) {
        assert_eq!(last(orders), (state.to_owned(), reason.to_owned()));
    }

    #[test]
    fn a_restart_waits_for_the_calls_and_a_repeated_one_does_nothing_even_after_a_restart_of_the_keeper() {
        let mut one = orders(BUSY);
        let restart = command("restart");
        one.handle_order(restart.clone(), t0(), at(1));
        assert!(one.holds_calls() && one.poll_output().is_none());
        is(&one, "running", "calls_under_way");
        one.handle_calls(HELD, at(2));
        assert_eq!(one.poll_output(), None, "calls are under way");
        one.handle_calls(IDLE, at(3));
        assert_eq!(one.poll_output(), Some(Do::Restart { order: restart.order, at_once: false }));
        one.handle_order(restart.clone(), t0(), at(4));
        assert_eq!((one.poll_output(), one.reports().len()), (None, 1), "it came again");
        one.handle_restarted(&restart.order, CallsView { there: true, ..CallsView::default() }, at(5));
        is(&one, "running", "starting");
        assert!(!one.holds_calls(), "the new one may take calls");
        one.handle_calls(CallsView { calls: 0, ..BUSY }, at(60));
        is(&one, "done", "");
        let mut two = again(&mut one, "boot-1", BUSY, at(100));
        two.handle_order(restart, t0(), at(101));
        assert_eq!((two.poll_output(), two.reports().len()), (None, 1));
    }

    #[test]
    fn an_old_order_is_never_begun_and_one_whose_calls_do_not_end_is_given_up() {
        let mut one = orders(IDLE);
        let old = command("reboot");
        one.handle_order(old.clone(), old.expires, at(1));
        is(&one, "failed", "expired");
        assert_eq!(one.poll_output(), None);
        let mut one = orders(BUSY);
        one.handle_order(command("restart"), t0(), at(0));
        one.handle_timeout(at(899));
        is(&one, "running", "calls_under_way");
        one.handle_timeout(at(900));
        is(&one, "failed", "calls_under_way");
        assert!(!one.holds_calls(), "calls are taken again");
        let mut one = orders(BUSY);
        one.handle_order(OrderCommand { now: true, ..command("restart") }, t0(), at(0));
        assert!(matches!(one.poll_output(), Some(Do::Restart { at_once: true, .. })));
    }

    #[test]
    fn a_drain_outlives_the_keeper_and_ends_by_time_or_by_order() {
        let mut one = orders(BUSY);
        let until = Some(t0() + SignedDuration::from_mins(60));
        one.handle_order(OrderCommand { until, ..command("drain") }, t0(), at(0));
        assert!(one.holds_calls());
        is(&one, "running", "confirmation");
        one.handle_calls(HELD, at(1));
        is(&one, "done", "");
        let mut two = again(&mut one, "boot-2", BUSY, at(3_000));
        assert!(two.holds_calls() && two.drained().is_some(), "over a restart of the machine");
        two.handle_timeout(at(3_599));
        assert!(two.holds_calls());
        two.handle_timeout(at(3_600));
        assert!(!two.holds_calls() && two.drained().is_none() && two.poll_kept().is_some());

        two.handle_order(OrderCommand { expires: at(9_000).wall, ..command("drain") }, t0(), at(3_700));
        two.handle_order(OrderCommand { expires: at(9_000).wall, ..command("undrain") }, t0(), at(3_701));
        let states: Vec<(String, String)> =
            two.reports().into_iter().skip(1).map(|one| (one.state, one.reason)).collect();
        let said = |state: &str, reason: &str| (state.to_owned(), reason.to_owned());
        assert_eq!(states, [said("failed", "superseded"), said("done", "")]);
        assert!(!two.holds_calls());
    }

    #[test]
    fn a_reboot_is_done_only_when_the_machine_is_back_and_is_not_done_twice() {
        let mut one = orders(IDLE);
        let reboot = command("reboot");
        one.handle_order(reboot.clone(), t0(), at(1));
        assert_eq!(one.poll_output(), Some(Do::Reboot { order: reboot.order }));
        is(&one, "running", "begun");
        // The keeper alone is started again: the machine is about to go down.
        let mut same = again(&mut one, "boot-1", IDLE, at(10));
        is(&same, "running", "begun");
        assert_eq!(same.poll_output(), None, "not once more");
        let back = again(&mut same, "boot-2", IDLE, at(90));
        is(&back, "done", "");
        same.handle_timeout(at(311));
        is(&same, "failed", "did_not_go_down");
        assert!(!same.holds_calls());

        // It went down by itself while the order still waited for calls.
        let mut waiting = orders(BUSY);
        waiting.handle_order(command("reboot"), t0(), at(0));
        let mut back = again(&mut waiting, "boot-2", BUSY, at(60));
        is(&back, "done", "");
        assert_eq!(back.poll_output(), None);
        let mut blind = Orders::open(None, "", IDLE, at(0));
        blind.handle_order(command("reboot"), t0(), at(0));
        is(&blind, "failed", "no_boot_id");
    }

    #[test]
    fn what_is_not_known_or_not_possible_fails_with_a_word_and_two_at_once_do_not_run() {
        let mut one = orders(CallsView::default());
        for (kind, reason) in
            [("drain", "no_calls"), ("restart", "no_calls"), ("selfdestruct", "unknown_kind")]
        {
            one.handle_order(command(kind), t0(), at(0));
            is(&one, "failed", reason);
        }
        let mut one = orders(BUSY);
        one.handle_order(command("restart"), t0(), at(0));
        one.handle_order(command("reboot"), t0(), at(0));
        is(&one, "failed", "busy");
        let mut one = orders(BUSY);
        let (first, second) = (command("logs"), command("diag"));
        one.handle_order(first.clone(), t0(), at(0));
        one.handle_order(second.clone(), t0(), at(0));
        assert_eq!((one.poll_output(), one.poll_output()), (Some(Do::Collect(first.clone())), None));
        one.handle_failed(&first.order, "not_sent", "no link", at(1));
        assert_eq!(one.poll_output(), Some(Do::Collect(second.clone())));
        // What was being made when the keeper stopped is made again.
        let mut two = again(&mut one, "boot-1", BUSY, at(2));
        assert_eq!(two.poll_output(), Some(Do::Collect(second.clone())));
        two.handle_sent(&second.order, at(3));
        is(&two, "done", "");
    }

    #[test]
    fn what_cannot_be_kept_is_not_done_and_the_table_is_bounded() {
        let mut one = orders(IDLE);
        one.handle_order(command("reboot"), t0(), at(0));
        one.handle_not_kept("the disk is full");
        assert_eq!(one.poll_output(), None);
        is(&one, "failed", "cannot_keep");
        for _ in 0..200 {
            let logs = command("logs");
            one.handle_order(logs.clone(), t0(), at(1));
            one.handle_sent(&logs.order, at(1));
        }
        assert_eq!((one.kept.known.len(), one.reports().len()), (REMEMBERED, REPORTED));
        assert!(Orders::open(Some(b"torn"), "b", IDLE, at(0)).reports().is_empty());
    }
}
