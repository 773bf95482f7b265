//! Gives queued calls to boxes with free channels, and repeats commands that nobody answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trunkline_db::{BoxRow, Call, CallFate, DbError, JudgedCall, Resend};
use trunkline_dialogue::Script;
use trunkline_model::{BoxId, CallId, Callee, Disposition, E164};
use trunkline_policy::{Order, Verdict};
use trunkline_wire::{CancelCommand, DialCommand, DialReply, SuperviseCommand, TransferCommand, topic};

use crate::broker::envelope;
use crate::gate::Question;
use crate::lines::{Fits, Lines};
use crate::{Ask, BrokerError, ContactFacts, Publication, Qos, Stop, Worker, lines};

/// How long the answer to a command may take before the command is repeated.
pub const RESEND_AFTER: Duration = Duration::from_secs(5);
/// After so many refusals the call has failed.
pub const MAX_REFUSALS: u32 = 5;

/// How long a call waits that a box had no room for.
const BUSY_PAUSE: SignedDuration = SignedDuration::from_secs(2);
const SKIP_PAUSE: SignedDuration = SignedDuration::from_secs(15);
/// How long a call waits that no line carries: somebody may add one.
const NO_LINE_PAUSE: SignedDuration = SignedDuration::from_mins(1);
const IDLE: Duration = Duration::from_millis(500);
/// So many calls are judged together: the database's writer is held no longer than for these.
const BATCH: u32 = 250;
/// So many calls that nobody with room may carry are passed over to find others behind them.
const MOST_PASSED: u32 = 10_000;

/// What a box can take now.
struct Room {
    /// Some trunk of it takes calls, as far as is known.
    up: bool,
    channels: u32,
    /// New calls, by its trunks' calls per second.
    starts: u32,
}

impl Room {
    /// Says whether it takes a call to a number (`by_trunk`), or to a SIP address, which goes past the trunks.
    fn takes(&self, by_trunk: bool) -> bool {
        self.channels > 0 && (self.starts > 0 || !by_trunk)
    }
}

/// What the boxes that take calls can take now; beside each is how many calls its trunks take.
fn rooms(boxes: &[(BoxRow, u32)], now: Timestamp) -> BTreeMap<&BoxId, Room> {
    boxes
        .iter()
        .filter(|(row, _)| row.takes_calls(now))
        .map(|(row, starts)| {
            let up = row.calls_per_second() != Some(0.0);
            let starts = if up { *starts } else { u32::MAX };
            (&row.id, Room { up, channels: row.channels.saturating_sub(row.busy), starts })
        })
        .collect()
}

/// Decides which box gets which call: the one with the most free channels among those that take calls, have confirmed
/// the suppressions and `may_carry` it, so that load spreads. A box gets no more calls to numbers than its trunks take
/// now, which is beside it; one whose trunks are all down comes last, and is then tried all the same.
pub fn plan(
    queued: &[Call],
    boxes: &[(BoxRow, u32)],
    now: Timestamp,
    may_carry: impl Fn(&Call, &BoxId) -> bool,
) -> Vec<(CallId, BoxId)> {
    let mut rooms = rooms(boxes, now);
    let mut planned = Vec::new();
    for call in queued {
        // A SIP address is called past the trunks.
        let by_trunk = matches!(call.callee, Callee::Number(_));
        let Some((to, room)) = rooms
            .iter_mut()
            .filter(|(_, room)| room.takes(by_trunk))
            .filter(|(to, _)| may_carry(call, to))
            .max_by_key(|(_, room)| (room.up, room.channels))
        else {
            continue;
        };
        room.channels -= 1;
        room.starts = room.starts.saturating_sub(u32::from(by_trunk));
        planned.push((call.id, (*to).clone()));
    }
    planned
}

/// Returns how long a call waits after its n-th refusal: 1 s, 2 s, 4 s, …
pub fn pause_after(refusals: u32) -> SignedDuration {
    SignedDuration::from_secs(1 << refusals.min(6))
}

pub(crate) async fn run(worker: Arc<Worker>, mut stop: Stop) {
    loop {
        if let Err(error) = worker.dispatch(Timestamp::now()).await {
            tracing::error!(error = %Chain(&error), "Dispatching failed and is tried again");
        }
        tokio::select! {
            () = worker.wakers.dispatcher_woken() => {}
            () = tokio::time::sleep(IDLE) => {}
            () = stop.stopped() => return,
        }
    }
}

/// Why a pass of the dispatcher ended early.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The database failed.
    #[error("the state of the calls could not be read or written")]
    Db(#[from] DbError),
    /// A command could not be handed to the broker.
    #[error("a command could not be sent")]
    Broker(#[from] BrokerError),
}

impl Worker {
    /// One pass: gives up what is over, repeats what nobody answered, and gives calls that wait to boxes.
    ///
    /// # Errors
    /// [`DispatchError`]; what was filed until then holds, and commands that were not sent are repeated.
    pub async fn dispatch(&self, now: Timestamp) -> Result<(), DispatchError> {
        let silent_since = now.saturating_sub(signed(self.config.lost_after)).unwrap_or(Timestamp::MIN);
        for call in self.db.sweep(silent_since, now).await? {
            tracing::warn!(call.id = %call, "A call was given up or lost");
            self.told(call);
        }

        let sent_before = now.saturating_sub(signed(RESEND_AFTER)).unwrap_or(Timestamp::MIN);
        for resend in self.db.resends(sent_before, now).await? {
            match resend {
                Resend::Dial(call, to) => self.send_dial(&call, &to, now).await?,
                Resend::Cancel(call, to) => self.send_cancel(call, &to).await?,
                Resend::Transfer(command, to) => self.send_transfer(command, &to).await?,
                Resend::Supervise(command, to) => self.send_supervise(command, &to).await?,
            }
        }

        let mut passed = 0;
        while let Some(stayed) = self.give_out(passed, now).await? {
            passed += stayed;
            if passed >= MOST_PASSED {
                break;
            }
        }
        Ok(())
    }

    /// Gives calls that wait to boxes, so many as are judged together, and passes over the first `passed`, which none with
    /// room may carry. Returns how many of those that it looked at still wait; `None` when it has seen all.
    async fn give_out(&self, passed: u32, now: Timestamp) -> Result<Option<u32>, DispatchError> {
        if self.db.queued_count().await? == 0 {
            return Ok(None);
        }
        let boxes = self.db.boxes().await?;
        let starts = lines::starts(&self.db, &boxes, now).await?;
        let boxes: Vec<(BoxRow, u32)> = boxes.into_iter().zip(starts).collect();
        let rooms = rooms(&boxes, now);
        let with_room = |by_trunk| -> Vec<&BoxId> {
            rooms.iter().filter(|(_, room)| room.takes(by_trunk)).map(|(id, _)| *id).collect()
        };
        let queued = self.db.queued_for((&with_room(true), &with_room(false)), now, (BATCH, passed)).await?;
        let looked_at = u32::try_from(queued.len()).unwrap_or(BATCH);
        if looked_at == 0 {
            return Ok(None);
        }
        // Facts that cannot be read are no facts, and what is not known fails closed.
        let mut facts: BTreeMap<CallId, ContactFacts> = queued
            .iter()
            .map(|call| (call.id, serde_json::from_str(&call.facts).unwrap_or_default()))
            .collect();
        let reach: BTreeMap<&BoxId, &BoxRow> = boxes.iter().map(|(row, _)| (&row.id, row)).collect();
        let planned = plan(&queued, &boxes, now, |call, by| {
            facts.get(&call.id).is_some_and(|facts| facts.may_go_to(by))
                && self.gate.may_carry(&call.callee, by)
                && reach.get(by).is_some_and(|row| {
                    lines::box_carries(row, call.caller_id.as_ref().map(E164::reveal), &call.callee)
                })
        });
        let unfit = self.unfit(&queued, &facts, &boxes, &planned, now);
        self.db.defer_calls(&unfit, now.saturating_add(NO_LINE_PAUSE).unwrap_or(now), now).await?;
        for (id, why) in &unfit {
            tracing::warn!(call.id = %id, why, "No line carries a call");
            self.told(*id);
        }
        let gone = u32::try_from(unfit.len()).unwrap_or(BATCH);
        let mut calls: BTreeMap<CallId, Call> = queued.into_iter().map(|call| (call.id, call)).collect();
        // Calls that are judged together do not know of each other: of several to one callee the first goes.
        let mut callees = BTreeSet::new();
        let mut leases = Vec::with_capacity(planned.len());
        for (id, to) in planned {
            let Some(call) = calls.remove(&id).filter(|call| call.not_after > now) else { continue };
            if !callees.insert(call.callee.reveal().to_owned()) {
                continue;
            }
            if let Some(script) = self.script_of(&call, now).await? {
                let facts = facts.remove(&id).unwrap_or_default();
                leases.push(Lease { call, to, script, facts });
            }
        }
        let judged = u32::try_from(leases.len()).unwrap_or(BATCH);
        self.lease(leases, now).await?;
        Ok((looked_at == BATCH).then_some(looked_at.saturating_sub(judged + gone)))
    }

    /// Returns the calls, of those that no box gets, that no line may carry at all, and why.
    fn unfit(
        &self,
        queued: &[Call],
        facts: &BTreeMap<CallId, ContactFacts>,
        boxes: &[(BoxRow, u32)],
        planned: &[(CallId, BoxId)],
        now: Timestamp,
    ) -> Vec<(CallId, &'static str)> {
        let planned: BTreeSet<CallId> = planned.iter().map(|(id, _)| *id).collect();
        let lines = Lines::of(boxes.iter().map(|(row, starts)| (row, *starts)), now);
        let mut reach: BTreeMap<Vec<String>, BTreeSet<usize>> = BTreeMap::new();
        let mut unfit = Vec::new();
        for call in queued.iter().filter(|call| !planned.contains(&call.id)) {
            let named = facts.get(&call.id).map_or(&[][..], |facts| &facts.boxes);
            let Some(names) = self.gate.boxes_for(&call.callee, named) else { continue };
            let reach =
                reach.entry(names).or_insert_with_key(|names| lines.within_reach(&lines.allowed(names)));
            if let Fits::No(why) = lines.fits(reach, call.caller_id.as_slice(), &call.callee) {
                unfit.push((call.id, why));
            }
        }
        unfit
    }

    /// Judges leases together, files what was decided, and sends the commands of those that hold.
    async fn lease(&self, leases: Vec<Lease>, now: Timestamp) -> Result<(), DispatchError> {
        let questions: Vec<Question<'_>> = leases
            .iter()
            .map(|lease| Question { ask: lease.ask(), script: &lease.script, by: Some(&lease.to) })
            .collect();
        let judged = self.gate.judge_all(&self.db, &questions, now).await?;
        let suppressions = self.db.suppression_head().await?;
        let filed: Vec<JudgedCall> = judged
            .iter()
            .zip(&leases)
            .map(|(judged, lease)| JudgedCall {
                id: lease.call.id,
                receipt: judged.receipt.clone(),
                fate: lease.fate(&judged.receipt.decision.verdict, now),
            })
            .collect();
        let took_effect = self.db.file_calls(&filed, now).await?;
        for (((lease, judged), filed), took_effect) in leases.iter().zip(judged).zip(filed).zip(took_effect) {
            let (id, to) = (lease.call.id, &lease.to);
            match filed.fate {
                CallFate::Given(_) if took_effect => {
                    tracing::info!(call.id = %id, box.id = %to, "Call given to a box");
                    self.hub.changed(id);
                    self.send_order(&lease.call, to, judged.order(suppressions), now).await?;
                }
                CallFate::Given(_) => {}
                CallFate::Waits(_, why) | CallFate::Ends(_, why) => {
                    tracing::info!(call.id = %id, box.id = %to, why, "The gate says no");
                    self.told(id);
                }
            }
        }
        Ok(())
    }

    /// Returns the script of a call, and ends a call whose script cannot be used.
    async fn script_of(&self, call: &Call, now: Timestamp) -> Result<Option<Arc<Script>>, DispatchError> {
        let why = match self.scripts.version(&call.script.version, &self.db, &self.engine).await {
            Ok(Some(script)) => return Ok(Some(script)),
            Ok(None) => "its script is gone",
            Err(error) => {
                tracing::error!(call.id = %call.id, error = %Chain(&error), "A script cannot be used");
                "its script cannot be used"
            }
        };
        self.db.end_queued(call.id, Disposition::BoxFault, why, now).await?;
        self.told(call.id);
        Ok(None)
    }

    /// Repeats a command: what is on record may have changed since.
    async fn send_dial(&self, call: &Call, to: &BoxId, now: Timestamp) -> Result<(), DispatchError> {
        let facts: ContactFacts = serde_json::from_str(&call.facts).unwrap_or_default();
        let order = self.gate.order(&self.db, &ask(call, &facts), to).await?;
        self.send_order(call, to, order, now).await
    }

    async fn send_order(
        &self,
        call: &Call,
        to: &BoxId,
        order: Order,
        now: Timestamp,
    ) -> Result<(), DispatchError> {
        let command = DialCommand {
            call: call.id,
            callee: call.callee.clone(),
            caller_id: call.caller_id.clone(),
            script: call.script.clone(),
            variables: call.variables.clone(),
            before: call.not_after,
            ring_s: u32::try_from(self.config.ring.as_secs()).unwrap_or(u32::MAX),
            gate: Some(Box::new(order)),
            arms: self.arms(call, now).await?,
            words: self.words.current(),
        };
        let left = call.not_after.duration_since(now).as_secs().max(1);
        let heard_by = self
            .broker
            .publish(Publication {
                topic: topic::req_dial(to),
                payload: envelope(to, 0, "dial", &call.trace, command)?,
                qos: Qos::AtLeastOnce,
                expiry: Some(Duration::from_secs(u64::try_from(left).unwrap_or(1))),
                correlation: None,
            })
            .await?;
        if heard_by == 0 {
            tracing::warn!(call.id = %call.id, box.id = %to, "The box does not listen for commands; they are repeated");
        }
        Ok(())
    }

    /// Returns the arms of experiments that are not the script's own choice. Where the script cannot be had it
    /// gives its own: the box then says what is wrong with the script.
    async fn arms(&self, call: &Call, now: Timestamp) -> Result<BTreeMap<String, String>, DispatchError> {
        match self.scripts.version(&call.script.version, &self.db, &self.engine).await {
            Ok(Some(script)) => Ok(self.experiments.arms(&self.db, &script, &call.variables, now).await?),
            Ok(None) | Err(_) => Ok(BTreeMap::new()),
        }
    }

    async fn send_cancel(&self, call: CallId, to: &BoxId) -> Result<(), DispatchError> {
        self.broker
            .publish(Publication {
                topic: topic::req_cancel(to),
                payload: envelope(to, 0, "cancel", "", CancelCommand { call })?,
                qos: Qos::AtLeastOnce,
                expiry: Some(RESEND_AFTER),
                correlation: None,
            })
            .await?;
        Ok(())
    }

    async fn send_transfer(&self, command: TransferCommand, to: &BoxId) -> Result<(), DispatchError> {
        self.broker
            .publish(Publication {
                topic: topic::req_transfer(to),
                payload: envelope(to, 0, "transfer", "", command)?,
                qos: Qos::AtLeastOnce,
                expiry: Some(RESEND_AFTER),
                correlation: None,
            })
            .await?;
        Ok(())
    }

    async fn send_supervise(&self, command: SuperviseCommand, to: &BoxId) -> Result<(), DispatchError> {
        self.broker
            .publish(Publication {
                topic: topic::req_supervise(to),
                payload: envelope(to, 0, "supervise", "", command)?,
                qos: Qos::AtLeastOnce,
                expiry: Some(RESEND_AFTER),
                correlation: None,
            })
            .await?;
        Ok(())
    }

    pub(crate) async fn dial_refused(
        &self,
        by: &BoxId,
        reply: &DialReply,
        now: Timestamp,
    ) -> Result<(), DbError> {
        let before = self.db.call(reply.call).await?.map_or(0, |call| call.refusals);
        let pause = if reply.busy { BUSY_PAUSE } else { pause_after(before) };
        let retry_at = now.saturating_add(pause).unwrap_or(now);
        let refusals = self.db.refused(reply.call, by, &reply.reason, reply.busy, retry_at, now).await?;
        if let Some(refusals) = refusals {
            tracing::warn!(call.id = %reply.call, box.id = %by, refusals, "The box refused the call");
            if refusals >= MAX_REFUSALS {
                let cause = format!("box {by} refused: {}", reply.reason);
                self.db.end_queued(reply.call, Disposition::BoxFault, &cause, now).await?;
            }
            self.told(reply.call);
        }
        Ok(())
    }

    pub(crate) fn told(&self, call: CallId) {
        self.hub.changed(call);
        self.wakers.courier();
    }
}

/// A call for a box, before it is judged.
struct Lease {
    call: Call,
    to: BoxId,
    script: Arc<Script>,
    facts: ContactFacts,
}

impl Lease {
    fn ask(&self) -> Ask<'_> {
        ask(&self.call, &self.facts)
    }

    fn fate(&self, verdict: &Verdict, now: Timestamp) -> CallFate {
        let (why, retry_at) = match verdict {
            Verdict::Allow => return CallFate::Given(self.to.clone()),
            Verdict::Defer { until, reason } => (reason, Some(*until)),
            // Another box, or another minute, may fit.
            Verdict::Skip { reason } => (reason, Some(now.saturating_add(SKIP_PAUSE).unwrap_or(now))),
            Verdict::Block { reason } => (reason, None),
        };
        match retry_at.filter(|at| *at < self.call.not_after) {
            Some(at) => CallFate::Waits(at, format!("not permitted now: {why}")),
            None => CallFate::Ends(Disposition::Cancelled, format!("not permitted: {why}")),
        }
    }
}

fn ask<'a>(call: &'a Call, facts: &'a ContactFacts) -> Ask<'a> {
    Ask {
        call: call.id,
        callee: &call.callee,
        caller_id: call.caller_id.as_ref(),
        facts,
        campaign: call.campaign.as_deref(),
    }
}

pub(crate) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Shows an error with its causes, for the one place that logs it.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use trunkline_wire::TrunkReport;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn row(id: &str, online: bool, channels: u32, busy: u32) -> BoxRow {
        BoxRow {
            id: id.parse().unwrap(),
            online,
            sess: 1,
            software: String::new(),
            channels,
            busy,
            last_seen: Timestamp::UNIX_EPOCH,
            suppressed_upto: 0,
            confirmed: true,
            draining: None,
            numbers: None,
            trunks: Vec::new(),
        }
    }

    /// No trunk has a limit.
    fn rows<const N: usize>(rows: [BoxRow; N]) -> [(BoxRow, u32); N] {
        rows.map(|row| (row, u32::MAX))
    }

    fn call(n: u128) -> Call {
        Call {
            id: CallId::from_u128(n),
            status: trunkline_db::CallStatus::Queued,
            lost: false,
            direction: trunkline_model::Direction::Outbound,
            callee: "+8613800138000".parse().unwrap(),
            called: None,
            caller_id: None,
            script: trunkline_wire::ScriptRef {
                id: "demo".parse().unwrap(),
                version: "0".repeat(64).parse().unwrap(),
            },
            variables: BTreeMap::new(),
            external_id: None,
            callback_url: None,
            created_at: Timestamp::UNIX_EPOCH,
            not_after: Timestamp::MAX,
            box_id: None,
            detail: String::new(),
            rang_at: None,
            answered_at: None,
            ended_at: None,
            disposition: None,
            cause: String::new(),
            sip_code: None,
            outcome: None,
            suppress: false,
            facts: "{}".into(),
            campaign: None,
            trace: String::new(),
            refusals: 0,
        }
    }

    #[test]
    fn calls_go_to_the_box_with_the_most_free_channels_and_no_box_gets_too_many() {
        let calls: Vec<Call> = (1..=5).map(call).collect();
        let boxes =
            rows([row("a", true, 2, 1), row("b", true, 2, 0), row("c", false, 9, 0), row("d", true, 1, 3)]);
        let planned: Vec<(CallId, String)> = plan(&calls, &boxes, now(), |_, _| true)
            .into_iter()
            .map(|(id, to)| (id, to.to_string()))
            .collect();
        let to = |n: u128, to: &str| (CallId::from_u128(n), to.to_owned());
        assert_eq!(planned, [to(1, "b"), to(2, "b"), to(3, "a")]);
    }

    #[test]
    fn a_box_that_has_not_confirmed_the_suppressions_gets_no_call() {
        let behind = BoxRow { confirmed: false, ..row("a", true, 9, 0) };
        assert_eq!(plan(&[call(1)], &rows([behind]), now(), |_, _| true), []);
    }

    #[test]
    fn a_box_that_is_drained_gets_no_call_until_its_keeper_has_been_silent_for_five_minutes() {
        let ago = |seconds| now() - SignedDuration::from_secs(seconds);
        let drained = |seconds| BoxRow { draining: Some(ago(seconds)), ..row("a", true, 9, 0) };
        assert_eq!(plan(&[call(1)], &rows([drained(60)]), now(), |_, _| true), []);
        assert_eq!(plan(&[call(1)], &rows([drained(301)]), now(), |_, _| true).len(), 1);
        let planned = plan(&[call(1)], &rows([drained(1), row("b", true, 1, 0)]), now(), |_, _| true);
        assert_eq!(planned, [(CallId::from_u128(1), "b".parse().unwrap())]);
    }

    #[test]
    fn a_call_waits_for_a_box_that_may_carry_it() {
        let boxes = rows([row("a", true, 9, 0), row("b", true, 1, 0)]);
        let planned = plan(&[call(1), call(2)], &boxes, now(), |_, by| by.as_str() == "b");
        assert_eq!(planned, [(CallId::from_u128(1), "b".parse().unwrap())]);
    }

    #[test]
    fn a_box_gets_no_more_calls_to_numbers_than_its_trunks_take() {
        let sip = Call { callee: "sip:anna@127.0.0.1:5070".parse().unwrap(), ..call(4) };
        let calls = [call(1), call(2), call(3), sip, call(5)];
        let planned = plan(&calls, &[(row("a", true, 9, 0), 2)], now(), |_, _| true);
        let ids: Vec<CallId> = planned.into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [1, 2, 4].map(CallId::from_u128), "the address goes past the trunks");
    }

    #[test]
    fn a_box_whose_trunks_are_all_down_is_tried_when_no_other_has_room() {
        let trunk = TrunkReport { up: false, ..TrunkReport::default() };
        let down = BoxRow { trunks: vec![trunk], ..row("a", true, 9, 0) };
        let planned = plan(&[call(1), call(2)], &[(down, 0), (row("b", true, 1, 0), 7)], now(), |_, _| true);
        let to = |n: u128, to: &str| (CallId::from_u128(n), to.parse().unwrap());
        assert_eq!(planned, [to(1, "b"), to(2, "a")]);
    }

    #[test]
    fn a_call_goes_to_the_boxes_that_its_campaign_allows() {
        let facts = ContactFacts { boxes: vec!["b".into(), "c/trunk".into()], ..ContactFacts::default() };
        let may: Vec<bool> = ["a", "b", "c"].map(|id| facts.may_go_to(&id.parse().unwrap())).to_vec();
        assert_eq!(may, [false, true, true]);
        assert!(ContactFacts::default().may_go_to(&"a".parse().unwrap()));
    }

    #[test]
    fn the_pause_after_a_refusal_doubles() {
        let pauses: Vec<i64> = (0..4).map(|n| pause_after(n).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8]);
        assert_eq!(pause_after(100).as_secs(), 64);
    }
}
