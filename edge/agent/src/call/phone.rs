//! The call's line: dialling, what the far end does, and its sound.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::{info, warn};
use trunkline_call::Line;
use trunkline_line::trunks::{CallRequest, LineNews, LineOrder, Target};
use trunkline_line::{Command, MediaTerms, Recording, RtpSockets, TraceName};
use trunkline_model::Callee;
use trunkline_sip::HangupReason;
use trunkline_sip::message::Uri;
use trunkline_sip::sdp::MediaParams;
use trunkline_wire::{AttemptRecord, CallRecord};

use super::{Driver, PLAYOUT_DRAIN};

impl Driver {
    pub(super) async fn dial(&mut self) {
        let (shared, command) = (&self.shared, &self.command);
        shared.gate.catch_up(command).await;
        let unlinked_s = shared.uplink.unlinked_s();
        let permitted = tokio::task::block_in_place(|| {
            shared.gate.permit(command, unlinked_s, Timestamp::now(), |receipt| {
                shared.uplink.event("gate.receipt", receipt)
            })
        });
        if let Err(reason) = permitted {
            return self.core.handle_not_permitted(Instant::now(), reason);
        }
        if let Err(reason) = self.try_dial().await {
            self.core.handle_fault(Instant::now(), reason);
        }
    }

    async fn try_dial(&mut self) -> Result<(), String> {
        let target = match &self.command.callee {
            Callee::Number(number) => Target::Number(number.reveal().to_owned()),
            Callee::Sip(target) => {
                let uri = Uri::parse(target.reveal()).map_err(|error| error.to_string())?;
                Target::Direct(Box::new(uri), resolve(target.host_port()).await?)
            }
        };
        let request = CallRequest {
            target,
            from: self.command.caller_id.as_ref().map(|number| number.reveal().to_owned()),
            ring: Duration::from_secs(u64::from(self.command.ring_s.clamp(5, 180))),
        };
        self.line = Some(self.shared.trunks.place_as(request, self.trace_name("call")));
        Ok(())
    }

    /// Answers the call that rings here.
    pub(super) fn answer(&mut self) {
        let ordered = self.line.as_ref().is_some_and(|line| line.order(LineOrder::Answer));
        if !ordered {
            self.core.handle_line(Instant::now(), Line::Ended);
        }
    }

    pub(super) async fn hang_up(&mut self) {
        if self.answered && self.attached.is_some() {
            tokio::time::sleep(PLAYOUT_DRAIN).await;
        }
        let ordered =
            self.line.as_ref().is_some_and(|line| line.order(LineOrder::HangUp(HangupReason::normal())));
        if !ordered {
            self.line = None;
            self.core.handle_line(Instant::now(), Line::Ended);
        }
    }

    pub(super) async fn on_line(&mut self, news: Option<LineNews>) {
        let now = Instant::now();
        match news {
            Some(LineNews::Dialing { trunk }) => {
                info!(trunk, "Dialling");
                self.trunk = trunk;
            }
            Some(LineNews::Ringing { early }) => {
                if let Some((media, sockets)) = early {
                    self.attach(&media, sockets);
                }
                self.core.handle_line(now, Line::Ringing);
            }
            Some(LineNews::Answered { media, sockets }) => {
                self.attach(&media, sockets);
                self.record().await;
                self.answered = true;
                self.core.handle_line(Instant::now(), Line::Answered);
            }
            Some(LineNews::MediaChanged(media)) => self.attach(&media, None),
            Some(LineNews::Digit(digit)) => self.pass_digit(digit),
            Some(LineNews::Transfer(step)) => self.on_transfer(now, step).await,
            Some(LineNews::TrunkFailed(attempt)) => self.earlier.push(attempt),
            Some(LineNews::Failed(failure)) => {
                self.line = None;
                // The last trunk's failure is the call's own.
                self.earlier.pop_if(|attempt| attempt.trunk == self.trunk);
                self.fail(&failure);
            }
            Some(LineNews::PeerHungUp(_)) => {
                self.line = None;
                self.core.handle_line(now, Line::PeerHungUp);
            }
            Some(LineNews::Ended) | None => {
                self.line = None;
                self.core.handle_line(now, Line::Ended);
            }
        }
    }

    /// Begins sound with the sockets of the call, or goes on with what was agreed anew.
    fn attach(&mut self, media: &MediaParams, sockets: Option<RtpSockets>) {
        let config = MediaTerms::agreed(media, self.shared.config.rtp.lost_after);
        self.encrypted = media.secure.is_some();
        self.codec = media.codec.name();
        match sockets {
            Some(sockets) => {
                self.attached = Some(self.shared.media.attach(sockets, config, None, None));
            }
            None => self.order(Command::Change(config)),
        }
    }

    /// Begins the recording, and lets the sound card have the call.
    async fn record(&mut self) {
        if self.shared.config.recording.enabled {
            let path = self.shared.config.recording_dir().join(format!("{}.wav", self.command.call));
            let started = Timestamp::now().to_string();
            match self.shared.recorder.begin(&path, &self.command.call.to_string(), &started) {
                Ok(Recording { frames, done }) => {
                    self.order(Command::Record(frames));
                    // The media thread owns the frames' side: the recording ends with the endpoint.
                    self.recording = Some(Recording { frames: rtrb::RingBuffer::new(1).0, done });
                }
                Err(error) => {
                    warn!(error, "No recording of this call");
                    self.recording_error = error;
                }
            }
        }
        if let Some(tap) = self.shared.monitor_tap().await {
            self.order(Command::Monitor(tap));
        }
    }

    /// Under what a leg of this call is traced.
    pub(super) fn trace_name(&self, leg: &'static str) -> TraceName {
        TraceName { call: self.command.call.to_string(), leg }
    }

    /// Adds to the trace how the sound was.
    pub(super) fn trace_media(&self) {
        if let (Some(tracer), Some(stats)) = (self.shared.trunks.tracer(), &self.stats) {
            let name = self.trace_name("call");
            tracer.media(&name.call, name.leg, stats.report(self.codec, self.encrypted));
        }
    }

    /// Adds to the trace why the call ended.
    pub(super) fn trace_end(&self, record: &CallRecord) {
        if let Some(tracer) = self.shared.trunks.tracer() {
            let cause = if record.cause.is_empty() { String::new() } else { format!(": {}", record.cause) };
            tracer.note(&self.command.call.to_string(), format!("{}{cause}", record.disposition));
        }
    }

    /// Adds to the record what the line knows.
    pub(super) fn describe_line(&mut self, record: &mut CallRecord) {
        self.listener.describe(record);
        record.trunk.clone_from(&self.trunk);
        record.attempts = std::mem::take(&mut self.earlier)
            .into_iter()
            .map(|attempt| AttemptRecord {
                trunk: attempt.trunk,
                cause: attempt.failure.to_string(),
                sip_code: attempt.failure.sip_code,
            })
            .collect();
    }
}

pub(crate) async fn resolve(host_port: &str) -> Result<SocketAddr, String> {
    let with_port = if host_port.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        host_port.to_owned()
    } else {
        format!("{host_port}:5060")
    };
    let mut found =
        tokio::net::lookup_host(&with_port).await.map_err(|error| format!("{with_port}: {error}"))?;
    found.next().ok_or_else(|| format!("{with_port} has no address"))
}
