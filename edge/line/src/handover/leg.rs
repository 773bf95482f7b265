//! Our call to one person: its signalling and its sound in one task.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use trunkline_sip::Failure;

use crate::bridge::Bridge;
use crate::media::{Attached, MediaHandle, MediaNews, MediaTerms, RtpSockets};
use crate::player::{Clip, Command};
use crate::trunks::{LineNews, Place, PlacedCall, Standing};

/// The number of the summary among what is played to the person.
const SUMMARY: u32 = 1;

/// What a leg tells.
#[derive(Debug)]
pub(super) enum LegNews {
    Answered,
    /// The summary was played to its end.
    Announced,
    Digit(char),
    HungUp,
    Failed(Failure),
}

/// What a leg is told.
#[derive(Debug)]
pub(super) enum LegOrder {
    Announce(Arc<[Clip]>),
    Join(Box<Bridge>),
    Digit(char),
}

/// The way to a leg. Dropping it hangs up.
#[derive(Debug)]
pub(super) struct Leg {
    orders: mpsc::UnboundedSender<LegOrder>,
    place: Place,
}

impl Leg {
    /// Follows a call to person `who`.
    pub(super) fn start(
        who: usize,
        call: PlacedCall,
        media: MediaHandle,
        lost_after: Duration,
        told: mpsc::UnboundedSender<(usize, LegNews)>,
    ) -> Self {
        let (orders, inbox) = mpsc::unbounded_channel();
        let place = call.place();
        let task = Task { who, call, media, lost_after, told, sound: None };
        tokio::spawn(task.run(inbox));
        Self { orders, place }
    }

    /// Returns where the call stands.
    pub(super) fn standing(&self) -> Option<Standing> {
        self.place.get()
    }

    pub(super) fn order(&self, order: LegOrder) {
        // One whose call is over has said so, and nothing can be done for it.
        let _ = self.orders.send(order);
    }
}

struct Task {
    who: usize,
    /// Hung up by being dropped, as the sound ends with its rings.
    call: PlacedCall,
    media: MediaHandle,
    lost_after: Duration,
    told: mpsc::UnboundedSender<(usize, LegNews)>,
    sound: Option<Attached>,
}

impl Task {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<LegOrder>) {
        loop {
            let notify = self.sound.as_ref().map(|sound| Arc::clone(&sound.notify));
            let goes_on = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                news = self.call.news.recv() => self.on_line(news),
                () = woken(notify.as_deref()) => self.on_media(),
            };
            if !goes_on {
                return;
            }
        }
    }

    fn tell(&self, news: LegNews) -> bool {
        self.told.send((self.who, news)).is_ok()
    }

    fn sound(&mut self, command: Command) {
        if let Some(sound) = &mut self.sound {
            let _ = sound.commands.push(command);
        }
    }

    fn obey(&mut self, order: LegOrder) -> bool {
        match order {
            LegOrder::Announce(clips) => {
                let last = clips.len().saturating_sub(1);
                for (at, clip) in clips.iter().cloned().enumerate() {
                    let (say, last) = (SUMMARY, at == last);
                    self.sound(if at == 0 {
                        Command::Play { say, clip, last }
                    } else {
                        Command::Append { say, clip, last }
                    });
                }
            }
            LegOrder::Join(bridge) => self.sound(Command::Bridge(bridge)),
            LegOrder::Digit(digit) => {
                if let Some(order) = self.call.press(digit) {
                    self.sound(order);
                }
            }
        }
        true
    }

    /// Takes in news of the line; false when the call is over.
    fn on_line(&mut self, news: Option<LineNews>) -> bool {
        match news {
            // Their early media are not joined: the customer hears us until somebody is there.
            Some(LineNews::Ringing { early: Some((media, sockets)) }) => {
                self.attach(MediaTerms::agreed(&media, self.lost_after), sockets);
                true
            }
            Some(LineNews::Answered { media, sockets }) => {
                self.attach(MediaTerms::agreed(&media, self.lost_after), sockets);
                self.tell(LegNews::Answered)
            }
            Some(LineNews::MediaChanged(media)) => {
                self.sound(Command::Change(MediaTerms::agreed(&media, self.lost_after)));
                true
            }
            Some(LineNews::Digit(digit)) => self.tell(LegNews::Digit(digit)),
            Some(
                LineNews::Dialing { .. }
                | LineNews::TrunkFailed(_)
                | LineNews::Ringing { early: None }
                | LineNews::Transfer(_),
            ) => true,
            Some(LineNews::Failed(failure)) => {
                self.tell(LegNews::Failed(failure));
                false
            }
            Some(LineNews::PeerHungUp(_) | LineNews::Ended) | None => {
                self.tell(LegNews::HungUp);
                false
            }
        }
    }

    fn attach(&mut self, terms: MediaTerms, sockets: Option<RtpSockets>) {
        match sockets {
            Some(sockets) => self.sound = Some(self.media.attach(sockets, terms, None, None)),
            None => self.sound(Command::Change(terms)),
        }
    }

    /// Takes in news of the sound; false when it is gone.
    fn on_media(&mut self) -> bool {
        let Some(sound) = &mut self.sound else { return true };
        // What the person says reaches the customer within the media thread.
        while sound.frames.pop().is_ok() {}
        let mut news = Vec::new();
        while let Ok(one) = sound.news.pop() {
            news.push(one);
        }
        for one in news {
            match one {
                MediaNews::Digit(digit) => drop(self.tell(LegNews::Digit(digit))),
                MediaNews::Finished { .. } => drop(self.tell(LegNews::Announced)),
                MediaNews::Lost => {
                    self.tell(LegNews::HungUp);
                    return false;
                }
                MediaNews::Started { .. } | MediaNews::Held { .. } | MediaNews::Closed(_) => {}
            }
        }
        true
    }
}

async fn woken(notify: Option<&Notify>) {
    match notify {
        Some(notify) => notify.notified().await,
        None => std::future::pending().await,
    }
}
