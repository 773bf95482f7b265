//! Who is told about what: streams of the API, and tasks that would otherwise sleep.

use std::sync::Arc;

use tokio::sync::{Notify, broadcast, watch};
use trunkline_model::CallId;

/// Tells listeners which calls changed; what changed is in the database.
#[derive(Clone)]
pub struct Hub(broadcast::Sender<CallId>);

impl Hub {
    /// Makes a hub without listeners.
    pub fn new() -> Self {
        Self(broadcast::channel(1_024).0)
    }

    /// Says that a call changed.
    pub fn changed(&self, call: CallId) {
        // Nobody listening is no error.
        let _ = self.0.send(call);
    }

    /// Listens from now on. A listener that is too slow is told so and looks at everything again.
    pub fn listen(&self) -> broadcast::Receiver<CallId> {
        self.0.subscribe()
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

/// Wakes tasks before their time.
#[derive(Clone, Debug, Default)]
pub struct Wakers {
    dispatcher: Arc<Notify>,
    courier: Arc<Notify>,
    fleet: Arc<Notify>,
    suppressor: Arc<Notify>,
}

impl Wakers {
    /// There may be something to dispatch or to cancel.
    pub fn dispatcher(&self) {
        self.dispatcher.notify_one();
    }

    /// There may be a callback to deliver.
    pub fn courier(&self) {
        self.courier.notify_one();
    }

    /// Something about the fleet changed.
    pub fn fleet(&self) {
        self.fleet.notify_one();
    }

    pub(crate) async fn fleet_woken(&self) {
        self.fleet.notified().await;
    }

    /// There may be a suppression that boxes lack.
    pub fn suppressor(&self) {
        self.suppressor.notify_one();
    }

    pub(crate) async fn suppressor_woken(&self) {
        self.suppressor.notified().await;
    }

    pub(crate) async fn dispatcher_woken(&self) {
        self.dispatcher.notified().await;
    }

    pub(crate) async fn courier_woken(&self) {
        self.courier.notified().await;
    }
}

/// Says when to stop.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Makes a pair: sending `true`, or dropping the sender, stops.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Waits until it is time to stop.
    pub async fn stopped(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
