//! Our line, as far as its signalling.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use trunkline_line::{SipCommand, SipHandle, SipTransports, start_sip_with};
use trunkline_sip::message::{Transport, Uri};
use trunkline_sip::sdp::LocalMedia;
use trunkline_sip::{DialogKey, Failure, InviteRequest, SipEvent, UaConfig};

/// A line, with what it tells.
pub(crate) struct Line {
    pub(crate) sip: SipHandle,
    pub(crate) unclaimed: Events,
    /// What it offers and answers.
    pub(crate) media: LocalMedia,
}

/// What is told of one call.
pub(crate) type Events = mpsc::UnboundedReceiver<SipEvent>;

pub(crate) async fn line(transports: SipTransports) -> Line {
    line_with(transports, |_| {}).await
}

/// A line with other settings than usual.
pub(crate) async fn line_with(transports: SipTransports, change: impl FnOnce(&mut UaConfig)) -> Line {
    let (told, unclaimed) = mpsc::unbounded_channel();
    let configure = |local| {
        let mut config = UaConfig::new(local);
        config.allowed_peers = Some(vec!["127.0.0.1".parse().unwrap()]);
        change(&mut config);
        config
    };
    let sip = start_sip_with("127.0.0.1:0".parse().unwrap(), transports, configure, told).await.unwrap();
    Line { sip, unclaimed, media: LocalMedia::new("127.0.0.1:40000".parse().unwrap()) }
}

impl Line {
    pub(crate) async fn call(&self, user: &str, at: SocketAddr, transport: Transport) -> (DialogKey, Events) {
        let mut request = InviteRequest::new("4000", Uri::at(user, at), self.media.clone());
        request.transport = Some(transport);
        let (events, news) = mpsc::unbounded_channel();
        let (answer, key) = oneshot::channel();
        self.sip.send(SipCommand::Invite { request: Box::new(request), events, answer });
        (key.await.unwrap().unwrap(), news)
    }

    pub(crate) async fn take_call(&mut self) -> (DialogKey, Events) {
        let key = until(&mut self.unclaimed, |event| {
            if let SipEvent::Incoming { key, .. } = event { Some(*key) } else { None }
        })
        .await;
        let (events, news) = mpsc::unbounded_channel();
        let (answer, done) = oneshot::channel();
        self.sip.send(SipCommand::Accept { key, media: self.media.clone(), events, answer });
        done.await.unwrap().unwrap();
        (key, news)
    }

    pub(crate) async fn hang_up(&self, key: DialogKey, events: &mut Events) {
        self.sip.send(SipCommand::HangUp(key, None));
        until(events, |event| matches!(event, SipEvent::Ended { .. }).then_some(())).await;
    }
}

/// Waits for the event that `wanted` likes.
pub(crate) async fn until<T>(events: &mut Events, wanted: impl Fn(&SipEvent) -> Option<T>) -> T {
    let limit = Duration::from_secs(20);
    let found = tokio::time::timeout(limit, async {
        let mut seen = Vec::new();
        while let Some(event) = events.recv().await {
            if let Some(found) = wanted(&event) {
                return found;
            }
            seen.push(event);
        }
        panic!("the line ended after {seen:#?}");
    });
    found.await.expect("it never came")
}

pub(crate) fn answered(event: &SipEvent) -> Option<()> {
    matches!(event, SipEvent::Answered { .. }).then_some(())
}

pub(crate) fn hung_up(event: &SipEvent) -> Option<()> {
    matches!(event, SipEvent::PeerHungUp { .. }).then_some(())
}

pub(crate) fn failed(event: &SipEvent) -> Option<Failure> {
    if let SipEvent::Failed { failure, .. } = event { Some(failure.clone()) } else { None }
}
