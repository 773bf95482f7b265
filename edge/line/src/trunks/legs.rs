//! Where calls stand: so that one can be named to the network in another (REFER with Replaces), and so that its owner
//! hears of it when the network moves it (INVITE with Replaces).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use trunkline_sip::DialogKey;
use trunkline_sip::trunk::TrunkId;

use super::Shared;
use crate::keys::KeysBy;

/// Where a call stands: through which trunk, and which of the user agents' calls it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub(super) agent: usize,
    /// `None` for a call past the trunks.
    pub(super) trunk: Option<TrunkId>,
    pub(super) key: DialogKey,
    /// How keys are pressed there.
    pub(super) keys: KeysBy,
}

impl Standing {
    /// Tells whether the network that carries this call can find that other one: the same trunk carries both.
    pub(super) fn is_beside(self, other: Self) -> bool {
        self.trunk.is_some()
            && (self.agent, self.trunk) == (other.agent, other.trunk)
            && self.key != other.key
    }
}

/// Where a call stands now, for its owner; nowhere before it is dialled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Arc<Mutex<Option<Standing>>>);

impl Place {
    pub(crate) fn get(&self) -> Option<Standing> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, standing: Option<Standing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }
}

/// Who owns which leg.
#[derive(Debug, Default)]
pub(super) struct Legs(Mutex<HashMap<(usize, DialogKey), mpsc::UnboundedSender<DialogKey>>>);

impl Legs {
    fn lock(&self) -> MutexGuard<'_, HashMap<(usize, DialogKey), mpsc::UnboundedSender<DialogKey>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the owner of the leg `old` that `new` wants to take its place; false when there is none.
    pub(super) fn tell(&self, agent: usize, old: DialogKey, new: DialogKey) -> bool {
        self.lock().get(&(agent, old)).is_some_and(|owner| owner.send(new).is_ok())
    }
}

/// A leg as its task has it: known for as long as this lives.
pub(super) struct Leg {
    shared: Arc<Shared>,
    standing: Standing,
    place: Place,
    told: mpsc::UnboundedSender<DialogKey>,
    moves: mpsc::UnboundedReceiver<DialogKey>,
}

impl Leg {
    pub(super) fn begin(shared: &Arc<Shared>, standing: Standing, place: Place) -> Self {
        let (told, moves) = mpsc::unbounded_channel();
        let leg = Self { shared: Arc::clone(shared), standing, place, told, moves };
        leg.enter();
        leg
    }

    fn enter(&self) {
        self.place.set(Some(self.standing));
        let key = (self.standing.agent, self.standing.key);
        self.shared.legs.lock().insert(key, self.told.clone());
    }

    fn leave(&self) {
        self.shared.legs.lock().remove(&(self.standing.agent, self.standing.key));
    }

    /// Waits until another call wants to take its place.
    pub(super) async fn moved(&mut self) -> DialogKey {
        match self.moves.recv().await {
            Some(key) => key,
            // This holds a sender of its own, so it does not end.
            None => std::future::pending().await,
        }
    }

    /// Goes on as that call.
    pub(super) fn goes_on_as(&mut self, key: DialogKey) {
        self.leave();
        self.standing.key = key;
        self.enter();
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.leave();
        self.place.set(None);
        // Whoever still wants its place finds nobody.
        while let Ok(key) = self.moves.try_recv() {
            self.shared.agents[self.standing.agent].send(crate::sip::Command::Reject(key, 603));
        }
    }
}
