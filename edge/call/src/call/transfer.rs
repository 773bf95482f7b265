//! The hand-over of a call to a person: what is asked of the line, how long it may take, and what came of it.

use std::time::{Duration, Instant};

use tracing::debug;
use trunkline_dialogue::State;
use trunkline_dialogue::action::{Event, Waiting};
use trunkline_model::Disposition;
use trunkline_wire::{HANDED_OVER, HANDING_OVER, NOT_HANDED_OVER, ProgressStage, TransferRecord};

use super::{Call, Line, Output, Phase};

/// Two people who talk are left alone; a line that nobody hung up is not.
const LONGEST_BRIDGE: Duration = Duration::from_secs(2 * 3_600);
/// A person whose call to us the network replaced hangs up before the network says that it did.
const TAKEN_WITHIN: Duration = Duration::from_secs(4);

/// Why nobody took the call over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferFailure {
    /// The person's line is in use.
    Busy,
    /// It rang too long.
    NoAnswer,
    /// Somebody turned the call away.
    Declined,
    /// The trunk does not do it, or nothing says whom to call.
    Refused,
    /// The customer hung up meanwhile.
    Left,
}

impl TransferFailure {
    /// Returns the word that stands in scripts and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::NoAnswer => "no_answer",
            Self::Declined => "declined",
            Self::Refused => "refused",
            Self::Left => "left",
        }
    }
}

/// How a hand-over is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferWay {
    /// The network is asked to call the person (REFER).
    Refer,
    /// We call the person and join the two calls.
    Bridge,
    /// We called the person and joined the two calls, and the network joins them without us (REFER with Replaces).
    TakenOver,
}

impl TransferWay {
    fn as_str(self) -> &'static str {
        match self {
            Self::Refer => "refer",
            Self::Bridge => "bridge",
            Self::TakenOver => "taken_over",
        }
    }
}

/// News of a hand-over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferNews {
    /// It is tried in this way.
    Trying(TransferWay),
    /// It is decided within this time from now: several are called in turn, or a person who answered listens to the
    /// summary.
    Within(Duration),
    /// The person talks with the customer without us: our part is over.
    Done {
        /// The status that said so.
        sip_code: Option<u16>,
    },
    /// The person talks with the customer through us.
    Joined {
        /// Who she is, as the box's configuration names her.
        who: String,
    },
    /// The network is asked to join person and customer without us.
    Taking,
    /// It does not; they go on talking through us.
    NotTaken,
    /// The person who was joined hung up.
    PersonHungUp,
    /// Nobody took over.
    Failed {
        /// Why.
        reason: TransferFailure,
        /// The status that said so.
        sip_code: Option<u16>,
    },
}

/// A hand-over under way.
#[derive(Debug)]
pub(super) struct Transfer {
    to: String,
    begun: Instant,
    until: Instant,
    way: Option<TransferWay>,
    joined: bool,
    who: String,
    /// Whether the network is asked to do without us.
    taking: bool,
    /// Whether the person hung up meanwhile.
    gone: bool,
}

impl Call {
    /// The hand-over that [`Output::Transfer`] asked for got on.
    pub fn handle_transfer(&mut self, now: Instant, news: TransferNews) {
        if self.phase != Phase::Talking {
            return;
        }
        let Some(transfer) = &mut self.transfer else {
            // It was given up, and somebody took the call all the same: two must not talk at once.
            if let TransferNews::Done { sip_code } = news
                && let Some(last) = self.transfers.last_mut()
            {
                ("done").clone_into(&mut last.fate);
                last.sip_code = sip_code;
                self.end_as(Disposition::Transferred);
                self.outcome_of(now, &Event::HungUp);
                self.hang_up(now);
            }
            return;
        };
        match news {
            TransferNews::Trying(way) => transfer.way = Some(way),
            TransferNews::Within(time) if !transfer.joined => transfer.until = now + time,
            TransferNews::Within(_) => {}
            TransferNews::Joined { who } => {
                transfer.joined = true;
                transfer.who = who;
                transfer.until = now + LONGEST_BRIDGE;
                self.tell_transfer(HANDED_OVER);
            }
            TransferNews::Taking => transfer.taking = true,
            TransferNews::NotTaken if transfer.gone => self.handed_over(now, None),
            TransferNews::NotTaken => transfer.taking = false,
            TransferNews::Done { sip_code } => {
                if transfer.taking {
                    transfer.way = Some(TransferWay::TakenOver);
                }
                self.handed_over(now, sip_code);
            }
            TransferNews::PersonHungUp if transfer.taking => {
                transfer.gone = true;
                transfer.until = now + TAKEN_WITHIN;
            }
            TransferNews::PersonHungUp => self.handed_over(now, None),
            TransferNews::Failed { reason, sip_code } => {
                self.close_transfer(now, reason.as_str(), sip_code);
                self.tell_transfer(NOT_HANDED_OVER);
                self.step_here(now, &Event::TransferFailed { reason: reason.as_str().to_owned() });
            }
        }
    }

    /// Somebody outside wants a person to take the call over. Each wish is followed once; one for a call that is
    /// not talking, or is on its way to a person or to its end, comes to nothing.
    pub fn handle_hand_over(&mut self, now: Instant, wish: u32, to: Option<String>) {
        let ends = self.state.as_ref().is_none_or(State::is_ended) || self.disposition.is_some();
        if self.phase != Phase::Talking || self.transfer.is_some() || ends || wish <= self.wishes {
            return debug!(wish, "A hand-over was asked for that is not possible now");
        }
        self.wishes = wish;
        self.drop_utterance();
        self.speaking = false;
        self.out.push_back(Output::ForgetTurn);
        self.step_here(now, &Event::HandOver { to });
    }

    pub(super) fn begin_transfer(
        &mut self,
        now: Instant,
        to: String,
        timeout: Duration,
        waiting: Waiting,
        whisper: String,
    ) {
        self.drop_utterance();
        self.speaking = false;
        self.no_input_at = None;
        self.out.push_back(Output::ForgetTurn);
        let until = now + timeout;
        let summary = if whisper.is_empty() { self.summary(now) } else { whisper };
        // What the customer hears is held against the word lists, as all that the robot says to her.
        let waiting = Waiting { say: self.words.speakable(&waiting.say).text, ..waiting };
        let who = String::new();
        self.transfer = Some(Transfer {
            to: to.clone(),
            begun: now,
            until,
            way: None,
            joined: false,
            who,
            taking: false,
            gone: false,
        });
        self.tell_transfer(HANDING_OVER);
        self.out.push_back(Output::Transfer { to, timeout, waiting, summary });
    }

    /// Says who calls and why, for a person who is to take the call.
    fn summary(&self, now: Instant) -> String {
        let (Some(script), Some(state)) = (&self.script, &self.state) else { return String::new() };
        let heard = self.turns.iter().chain([&self.turn]).filter_map(|turn| turn.customer.as_ref());
        let heard: Vec<&str> = heard.map(|customer| customer.text.as_str()).collect();
        trunkline_dialogue::summary(script, state, self.elapsed_s(now), &heard)
    }

    fn tell_transfer(&mut self, how: &str) {
        self.out.push_back(Output::Progress(ProgressStage::Answered, how.to_owned()));
    }

    /// Takes in that the call ended in the middle of a hand-over; true when that was so.
    pub(super) fn leaves_transfer(&mut self, now: Instant, news: &Line) -> bool {
        let Some(transfer) = self.transfer.as_ref().filter(|_| self.phase == Phase::Talking) else {
            return false;
        };
        let disposition = match news {
            Line::Ringing | Line::Answered => return false,
            Line::PeerHungUp => Disposition::CustomerHungUp,
            Line::Ended | Line::Failed { .. } => Disposition::NetworkFault,
        };
        if transfer.joined {
            self.close_transfer(now, "done", None);
            self.end_as(Disposition::Transferred);
            self.outcome_of(now, &Event::HungUp);
        } else {
            self.close_transfer(now, TransferFailure::Left.as_str(), None);
            self.end_as(disposition);
            self.outcome_of_left(now);
        }
        self.out.push_back(Output::TransferOver);
        self.file(now);
        true
    }

    /// Takes the outcome of a customer who did not wait: that of a hand-over which failed, and not of one that came
    /// about, as a hang-up during a hand-over would be read.
    fn outcome_of_left(&mut self, now: Instant) {
        let (Some(script), Some(state)) = (&self.script, &self.state) else { return };
        let elapsed_s = self.elapsed_s(now);
        let failed = Event::TransferFailed { reason: TransferFailure::Left.as_str().to_owned() };
        let step = trunkline_dialogue::step(script, state, &failed, elapsed_s);
        self.outcome = Some(trunkline_dialogue::outcome_now(script, &step.state, elapsed_s));
    }

    /// When the hand-over has taken too long.
    pub(super) fn transfer_due(&self) -> Option<Instant> {
        self.transfer.as_ref().map(|transfer| transfer.until)
    }

    pub(super) fn handle_transfer_timeout(&mut self, now: Instant) {
        let Some(transfer) = self.transfer.as_ref().filter(|transfer| transfer.until <= now) else { return };
        if transfer.joined {
            return self.handed_over(now, None);
        }
        self.out.push_back(Output::TransferOver);
        let reason = TransferFailure::NoAnswer;
        self.handle_transfer(now, TransferNews::Failed { reason, sip_code: None });
    }

    /// Gives a hand-over up because the call ends otherwise.
    pub(super) fn give_up_transfer(&mut self, now: Instant) {
        if self.transfer.is_some() {
            self.close_transfer(now, "cancelled", None);
            self.out.push_back(Output::TransferOver);
        }
    }

    fn handed_over(&mut self, now: Instant, sip_code: Option<u16>) {
        self.close_transfer(now, "done", sip_code);
        self.end_as(Disposition::Transferred);
        self.outcome_of(now, &Event::HungUp);
        self.hang_up(now);
    }

    /// Puts the hand-over that is under way into the record.
    fn close_transfer(&mut self, now: Instant, fate: &str, sip_code: Option<u16>) {
        let Some(transfer) = self.transfer.take() else { return };
        let took = now.saturating_duration_since(transfer.begun).as_millis();
        self.transfers.push(TransferRecord {
            to: transfer.to,
            how: transfer.way.map_or("", TransferWay::as_str).to_owned(),
            fate: fate.to_owned(),
            sip_code,
            took_ms: u32::try_from(took).unwrap_or(u32::MAX),
            who: transfer.who,
        });
    }
}
