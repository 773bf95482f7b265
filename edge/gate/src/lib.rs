//! The gate on the box: the same checks as in the cloud, in the second before the telephone rings.
//!
//! The lease brings the facts and names the packs; packs come by hash, suppressions are pushed ahead. What
//! is missing fails closed. Each decision is a receipt in the box's chain, on the disk and in the outbox
//! before anything is dialled.
//!
//! **Invariant:** what the cloud was told that the box has is on the disk.
//! **Invariant:** no call is permitted without a receipt that was filed.
//!
//! Absent on purpose: sockets (packs are fetched by whoever calls), the outbox, and any rule: those are
//! `shared/policy`.

mod chain;
mod stoplist;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use tracing::{info, warn};
use trunkline_dialogue::Script;
use trunkline_model::Callee;
use trunkline_policy::receipt::{Body, Entry, Stage};
use trunkline_policy::{OptOut, OptOutScope, Pack, PackRef, Packs, ScriptFacts, Verdict};
use trunkline_wire::{DialCommand, SuppressCommand};

use chain::Chain;
use stoplist::StoplistFile;

/// Scripts whose facts are remembered; who is forgotten is read again with the next call.
const SCRIPTS: usize = 64;

/// Somebody else's opt-out at the wrong moment must not cost a call: the push is seconds away.
const CATCH_UP_EVERY: Duration = Duration::from_millis(50);
const CATCH_UP_TRIES: u32 = 160;

/// The gate.
pub struct BoxGate {
    /// By SHA-256 of their text.
    packs: Mutex<BTreeMap<String, Arc<Pack>>>,
    scripts: Mutex<BTreeMap<String, Arc<ScriptFacts>>>,
    stoplist: Mutex<StoplistFile>,
    chain: Mutex<Chain>,
    position: Arc<AtomicU64>,
}

impl BoxGate {
    /// Opens what is kept below `dir`: `suppressions.jsonl` and `receipts.jsonl`.
    ///
    /// # Errors
    /// When the disk does not allow it.
    pub fn open(dir: &Path) -> Result<Self> {
        let shipped = Packs::shipped().context("the packs of this build cannot be read")?;
        let packs = shipped.all().map(|pack| (pack.reference().sha256, Arc::new(pack.clone()))).collect();
        let stoplist = StoplistFile::open(&dir.join("suppressions.jsonl"))?;
        let position = Arc::new(AtomicU64::new(stoplist.upto()));
        Ok(Self {
            packs: Mutex::new(packs),
            scripts: Mutex::default(),
            stoplist: Mutex::new(stoplist),
            chain: Mutex::new(Chain::open(&dir.join("receipts.jsonl"))?),
            position,
        })
    }

    /// Returns up to which number the box has the suppressions, for its births.
    pub fn position(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.position)
    }

    /// Takes changes from the cloud in and returns how far the box is.
    pub fn suppress(&self, command: &SuppressCommand) -> u64 {
        let mut stoplist = lock(&self.stoplist);
        if let Err(error) = stoplist.take(command) {
            // Not confirmed, so the cloud sends them again and gives no new lease until then.
            warn!("Suppressions could not be kept: {error:#}");
        }
        self.position.store(stoplist.upto(), Ordering::Relaxed);
        stoplist.upto()
    }

    /// Keeps what a customer said on a call of this box.
    pub fn opted_out(&self, callee: &Callee, at: Timestamp) {
        let opt_out = OptOut { scope: OptOutScope::Number, channel: "spoken".into(), at };
        if let Err(error) = lock(&self.stoplist).opted_out(callee, opt_out) {
            warn!("An opt-out could not be written here; the record takes it to the cloud: {error:#}");
        }
    }

    /// Reads from a script what the decision needs to know of it.
    pub fn learn(&self, script: &Script) {
        let mut scripts = lock(&self.scripts);
        if scripts.len() >= SCRIPTS {
            scripts.clear();
        }
        scripts
            .entry(script.version().as_str().to_owned())
            .or_insert_with(|| Arc::new(ScriptFacts::read(script.canonical())));
    }

    /// Returns the packs that the decision about this call needs and the box lacks: to be fetched by their
    /// hash while there is time.
    pub fn missing(&self, command: &DialCommand) -> Vec<PackRef> {
        let known = lock(&self.packs);
        let wanted = command.gate.iter().flat_map(|order| &order.packs);
        wanted.filter(|wanted| !known.contains_key(&wanted.sha256)).cloned().collect()
    }

    /// Takes a pack in.
    ///
    /// # Errors
    /// When the text is no pack, or another one than was wanted.
    pub fn take_pack(&self, wanted: &PackRef, text: &str) -> Result<()> {
        let pack = Pack::from_yaml(&wanted.id, text).context("a policy pack cannot be used")?;
        if pack.reference().sha256 != wanted.sha256 {
            bail!("what came is not the policy pack that was asked for");
        }
        info!(pack = wanted.id, version = wanted.version, "Policy pack taken");
        lock(&self.packs).insert(wanted.sha256.clone(), Arc::new(pack));
        Ok(())
    }

    /// Waits a moment for suppressions that the lease knows of and that are still on their way.
    pub async fn catch_up(&self, command: &DialCommand) {
        let Some(order) = &command.gate else { return };
        for _ in 0..CATCH_UP_TRIES {
            if self.position.load(Ordering::Relaxed) >= order.suppressions {
                return;
            }
            tokio::time::sleep(CATCH_UP_EVERY).await;
        }
    }

    /// Decides whether the call may be dialled now. `unlinked_s` is for how many seconds nothing could
    /// reach the box; `file` takes the receipt upstream.
    ///
    /// # Errors
    /// Why it may not, as the call's cause.
    pub fn permit(
        &self,
        command: &DialCommand,
        unlinked_s: u64,
        now: Timestamp,
        file: impl FnOnce(&Entry) -> Result<()>,
    ) -> Result<(), String> {
        let Some(order) = &command.gate else {
            return Err("not permitted: the lease does not say what the gate must know".to_owned());
        };
        let packs: Option<Vec<Arc<Pack>>> = {
            let known = lock(&self.packs);
            order.packs.iter().map(|wanted| known.get(&wanted.sha256).cloned()).collect()
        };
        let Some(packs) = packs else {
            return Err("not permitted: a policy pack is not here".to_owned());
        };
        let mut dossier = order.dossier.clone();
        let script = lock(&self.scripts).get(command.script.version.as_str()).cloned();
        dossier.with_script(&script.unwrap_or_default());
        {
            let stoplist = lock(&self.stoplist);
            stoplist.complete(&mut dossier, &command.callee);
            // A revocation that the lease knew of and the box does not is one that came too late.
            dossier.operations.revocation_lag_s =
                if stoplist.upto() < order.suppressions { u64::MAX } else { unlinked_s };
        }
        let packs: Vec<&Pack> = packs.iter().map(Arc::as_ref).collect();
        let decision = dossier.decide(&command.callee, &packs, now);
        let verdict = decision.verdict;
        let inputs = dossier.inputs(command.script.version.as_str());
        let body = Body { call: command.call, stage: Stage::Dial, inputs, decision, anchor: None };
        let kept = lock(&self.chain).append(&body, now).and_then(|entry| file(&entry));
        if let Err(error) = kept {
            return Err(format!("not permitted: there is no receipt: {error:#}"));
        }
        match verdict {
            Verdict::Allow => Ok(()),
            Verdict::Defer { reason, .. } | Verdict::Skip { reason } | Verdict::Block { reason } => {
                info!(call.id = %command.call, reason = reason.as_str(), "The gate on the box says no");
                Err(format!("not permitted: {reason}"))
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves files and lists as they were.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
