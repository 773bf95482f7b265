//! What goes on beside calls: names are looked up, trunks are pinged, registrations are watched.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use trunkline_sip::SipEvent;
use trunkline_sip::message::Hop;
use trunkline_sip::trunk::TrunkId;

use super::{Shared, Trunk, ids};
use crate::sip::Command;

/// Which agent told what.
pub(super) type Told = (usize, SipEvent);

/// How often a name is looked up again, and how soon after it could not be.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);
const LOOK_UP_AGAIN: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(60);

pub(super) fn start(shared: &Arc<Shared>, news: mpsc::UnboundedReceiver<Told>) {
    for (id, trunk) in ids().zip(&shared.trunks) {
        match trunk.setup.proxy.literal() {
            Some(addr) => reach(shared, id, trunk, addr),
            None => {
                tokio::spawn(look_up(Arc::clone(shared), id));
            }
        }
    }
    tokio::spawn(keep(Arc::clone(shared), news));
}

/// Keeps the address of a trunk that has a name.
async fn look_up(shared: Arc<Shared>, id: TrunkId) {
    let Some(trunk) = shared.trunk(id) else { return };
    let (host, port) = (trunk.setup.proxy.host.as_str(), trunk.setup.proxy.port);
    loop {
        let wanted_v4 = trunk.setup.bind.is_ipv4();
        let found = match tokio::net::lookup_host((host, port)).await {
            Ok(mut found) => {
                found.find(|addr| addr.is_ipv4() == wanted_v4).ok_or_else(|| "it has no address".to_owned())
            }
            Err(error) => Err(error.to_string()),
        };
        let wait = match found {
            Ok(addr) => {
                if trunk.state().addr != Some(addr) {
                    reach(&shared, id, trunk, addr);
                }
                LOOK_UP_EVERY
            }
            Err(why) => {
                // The address that was good a minute ago is better than none.
                let known = trunk.state().addr.is_some();
                if !known {
                    warn!(trunk = trunk.setup.name, "The trunk's name `{host}` cannot be looked up: {why}");
                    shared
                        .note(trunk, |state| state.trouble = format!("`{host}` cannot be looked up: {why}"));
                }
                if known { LOOK_UP_EVERY } else { LOOK_UP_AGAIN }
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Takes in where a trunk is: from now on it can be called, and registered at.
fn reach(shared: &Shared, id: TrunkId, trunk: &Trunk, addr: SocketAddr) {
    let setup = &trunk.setup;
    let agent = shared.agent(trunk);
    let tls = setup.tls.clone();
    agent.send(Command::Peer { addr, may_call: setup.inbound, may_replace: setup.moves_calls, tls });
    shared.note(trunk, |state| {
        state.addr = Some(addr);
        state.trouble.clear();
    });
    match setup.registration(id.0, Hop::new(setup.transport, addr)) {
        Some(Ok(request)) => drop(agent.send(Command::Register(Box::new(request)))),
        Some(Err(why)) => shared.note(trunk, |state| state.trouble = why),
        None => {}
    }
}

async fn keep(shared: Arc<Shared>, mut news: mpsc::UnboundedReceiver<Told>) {
    loop {
        let now = Instant::now();
        let due = shared.pool().due_pings(now);
        for id in due {
            if let Some(trunk) = shared.trunk(id)
                && let Some(hop) = trunk.hop()
            {
                shared.agent(trunk).send(Command::Ping(hop));
            }
        }
        let next = shared.pool().poll_timeout(now).unwrap_or(now + IDLE).max(now + Duration::from_millis(20));
        tokio::select! {
            told = news.recv() => match told {
                Some((agent, event)) => take_in(&shared, agent, event),
                None => return,
            },
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
}

fn take_in(shared: &Arc<Shared>, agent: usize, event: SipEvent) {
    match event {
        SipEvent::OptionsAnswered { to, .. } => {
            for (id, _) in at(shared, agent, to) {
                shared.alive(id);
            }
        }
        SipEvent::OptionsUnanswered { to, why } => {
            for (id, trunk) in at(shared, agent, to) {
                let now = Instant::now();
                let was_well = shared.pool().is_well(now, id);
                shared.with_pool(id, |pool| pool.handle_ping_lost(now, id));
                if was_well {
                    warn!(trunk = trunk.setup.name, "The trunk does not answer a ping: {why}");
                }
                shared.note(trunk, |state| state.trouble = why.clone());
            }
        }
        SipEvent::Registered { trunk, expires } => {
            let id = TrunkId(trunk);
            let Some(trunk) = shared.trunk(id) else { return };
            if trunk.state().registered != Some(true) {
                info!(trunk = trunk.setup.name, expires_s = expires.as_secs(), "Registered");
            }
            shared.with_pool(id, |pool| pool.handle_registration(id, true));
            shared.note(trunk, |state| state.registered = Some(true));
            shared.alive(id);
        }
        SipEvent::RegistrationFailed { trunk, failure, retry_in } => {
            let id = TrunkId(trunk);
            let Some(trunk) = shared.trunk(id) else { return };
            let retry_s = retry_in.map(|wait| wait.as_secs());
            warn!(trunk = trunk.setup.name, retry_s, "Not registered: {failure}");
            shared.with_pool(id, |pool| pool.handle_registration(id, false));
            shared.note(trunk, |state| {
                state.registered = Some(false);
                state.trouble = format!("not registered: {failure}");
            });
        }
        SipEvent::Incoming { key, source, parties, replaces: None, .. } => {
            super::arrival::offer(shared, agent, key, source, parties);
        }
        SipEvent::Incoming { key, replaces: Some(old), .. } => {
            if !shared.legs.tell(agent, old, key) {
                debug!("A call is to take the place of one that nobody has any more");
                shared.agents[agent].send(Command::Reject(key, 603));
            }
        }
        SipEvent::Trying { .. }
        | SipEvent::Ringing { .. }
        | SipEvent::Answered { .. }
        | SipEvent::MediaChanged { .. }
        | SipEvent::Digit { .. }
        | SipEvent::Failed { .. }
        | SipEvent::PeerHungUp { .. }
        | SipEvent::Ended { .. }
        | SipEvent::Unregistered => debug!("An event of the line that belongs to no call"),
    }
}

/// Returns the trunks of an agent at an address.
fn at(shared: &Shared, agent: usize, addr: SocketAddr) -> Vec<(TrunkId, &Trunk)> {
    let there = |trunk: &Trunk| trunk.agent == agent && trunk.state().addr == Some(addr);
    ids().zip(&shared.trunks).filter(|(_, trunk)| there(trunk)).collect()
}
