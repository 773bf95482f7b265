//! The agent's tables: transactions with the bytes they resend, and one alarm for each thing that waits.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

use crate::digest::Attempts;
use crate::message::{Hop, Method, Request, Via};
use crate::transaction::{ClientTx, ServerTx};

/// Something that waits for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    Client(u64),
    Server(u64),
    Call(u64),
    Registration(u16),
}

/// At most one alarm for each owner, the next one first.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    due: BTreeSet<(Instant, Owner)>,
    by_owner: BTreeMap<Owner, (Instant, &'static str)>,
}

impl Alarms {
    /// Sets, moves or (with `None`) clears the owner's alarm.
    pub(super) fn set(&mut self, owner: Owner, alarm: Option<(Instant, &'static str)>) {
        if let Some((old, _)) = self.by_owner.remove(&owner) {
            self.due.remove(&(old, owner));
        }
        if let Some((at, why)) = alarm {
            self.due.insert((at, owner));
            self.by_owner.insert(owner, (at, why));
        }
    }

    /// Takes out the next alarm that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Owner> {
        let (at, owner) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.set(owner, None);
        Some(owner)
    }

    pub(super) fn next(&self) -> Option<(Instant, &'static str)> {
        let (_, owner) = self.due.first()?;
        self.by_owner.get(owner).copied()
    }
}

/// Dialogs that ended not long ago, the oldest first: who wants to take the place of one is told that it is over
/// (RFC 3891 §3).
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<[String; 3]>);

impl Ended {
    /// So many are remembered …
    const MOST: usize = 64;
    /// … each with names no longer than this, all three together.
    const LONGEST: usize = 512;

    /// Takes in that a dialog is over.
    pub(super) fn note(&mut self, call_id: &str, local_tag: &str, remote_tag: &str) {
        let names = [call_id, local_tag, remote_tag];
        if names.iter().map(|name| name.len()).sum::<usize>() > Self::LONGEST {
            return;
        }
        if self.0.len() == Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back(names.map(str::to_owned));
    }

    /// Tells whether this one is among them.
    pub(super) fn has(&self, call_id: &str, local_tag: &str, remote_tag: &str) -> bool {
        self.0.iter().any(|names| names == &[call_id, local_tag, remote_tag])
    }
}

/// What a request of ours is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Invite(u64),
    Cancel,
    Bye(u64),
    /// BYE for a dialog that nobody wants, such as a second fork's.
    StrayBye,
    Options,
    Register(u16),
    /// A re-INVITE or a refreshing UPDATE.
    Exchange(u64),
    Prack(u64),
    Refer(u64),
    /// A key by INFO.
    Digit(u64),
    Notify,
}

/// A request of ours under way.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) tx: ClientTx,
    pub(super) request: Request,
    pub(super) branch: String,
    pub(super) bytes: Bytes,
    pub(super) to: Hop,
    pub(super) purpose: Purpose,
    /// The ACK of a refused INVITE, for its copies.
    pub(super) ack: Option<Bytes>,
    pub(super) attempts: Attempts,
    pub(super) sent_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Clients {
    by_id: BTreeMap<u64, Client>,
    /// CANCEL shares its branch with the INVITE it withdraws.
    by_branch: HashMap<(String, bool), u64>,
}

impl Clients {
    pub(super) fn insert(&mut self, id: u64, client: Client) {
        let cancel = client.request.method == Method::Cancel;
        self.by_branch.insert((client.branch.clone(), cancel), id);
        self.by_id.insert(id, client);
    }

    pub(super) fn find(&self, branch: &str, method: &Method) -> Option<u64> {
        let id = *self.by_branch.get(&(branch.to_owned(), *method == Method::Cancel))?;
        self.by_id.get(&id).filter(|client| client.request.method == *method).map(|_| id)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Client> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Client> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Client> {
        let client = self.by_id.remove(&id)?;
        self.by_branch.remove(&(client.branch.clone(), client.request.method == Method::Cancel));
        Some(client)
    }

    /// Returns the requests to `to` that nothing was heard about.
    pub(super) fn unheard_at(&self, to: Hop) -> Vec<u64> {
        self.by_id.iter().filter(|(_, c)| c.to == to && c.tx.is_unheard()).map(|(id, _)| *id).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// What tells one incoming request from another (RFC 3261 §17.2.3). The ACK of a refusal has the INVITE's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ServerKey {
    branch: String,
    sent_by: String,
    method: String,
}

impl ServerKey {
    pub(super) fn of(request: &Request, via: &Via, method: &Method) -> Self {
        let branch = via.branch().filter(|branch| branch.starts_with("z9hG4bK"));
        // A branch from before RFC 3261 names nothing by itself.
        let branch = branch.unwrap_or_else(|| {
            let headers = &request.headers;
            let tag = headers.from().and_then(|from| from.tag()).unwrap_or_default();
            let number = headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
            format!("{}|{tag}|{number}|{}", headers.call_id().unwrap_or_default(), via.to_wire())
        });
        let sent_by = format!("{}:{}", via.host.to_ascii_lowercase(), via.port.unwrap_or(5060));
        Self { branch, sent_by, method: method.as_str().to_owned() }
    }
}

/// A request of others under way.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) tx: ServerTx,
    pub(super) key: ServerKey,
    pub(super) request: Request,
    pub(super) last: Option<Bytes>,
    pub(super) reply_to: Hop,
    /// The call that a first INVITE began.
    pub(super) call: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Servers {
    by_id: BTreeMap<u64, Server>,
    by_key: HashMap<ServerKey, u64>,
}

impl Servers {
    pub(super) fn insert(&mut self, id: u64, server: Server) {
        self.by_key.insert(server.key.clone(), id);
        self.by_id.insert(id, server);
    }

    pub(super) fn find(&self, key: &ServerKey) -> Option<u64> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: u64) -> Option<&Server> {
        self.by_id.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Server> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some(server) = self.by_id.remove(&id) {
            self.by_key.remove(&server.key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
