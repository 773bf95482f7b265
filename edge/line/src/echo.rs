//! A call to somebody who sends back what he hears: it dials, plays a known signal, and measures what returns.

use std::time::{Duration, Instant};

use trunkline_audio::probe;
use trunkline_sip::HangupReason;
use trunkline_sip::sdp::MediaParams;

use crate::media::{MediaHandle, MediaTerms, RtpSockets};
use crate::player::Command;
use crate::sip::TraceName;
use crate::sound::Sound;
use crate::trunks::{CallRequest, LineNews, LineOrder, PlacedCall, Trunks};

/// What is heard before anything is played: an echo service may greet.
const LISTEN: Duration = Duration::from_millis(600);
/// How long the longest echo takes.
const ECHO_WITHIN: Duration = Duration::from_millis(1_300);
/// The signalling gives up by itself (Timer B, RFC 3261 §17.1.1.2); this is a little more.
const SETUP_WITHIN: Duration = Duration::from_secs(34);
const LOST_AFTER: Duration = Duration::from_secs(10);

/// Whom to call, and how long to let it ring.
#[derive(Clone, Debug)]
pub struct EchoCall {
    /// The call.
    pub request: CallRequest,
    /// Under which name it is traced.
    pub trace: Option<TraceName>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq)]
pub struct EchoHeard {
    /// The trunk that the call went out on; empty for one past the trunks.
    pub trunk: String,
    /// Name of the codec in SDP.
    pub codec: String,
    /// The way there and back in milliseconds, without our jitter buffer.
    pub round_trip_ms: f32,
    /// How much softer it came back, in dB.
    pub loss_db: f32,
    /// Share of the far end's packets that never came, 0 to 1.
    pub lost: f32,
}

/// Why nothing could be measured.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EchoError {
    /// The call was not answered.
    #[error("it was not answered: {0}")]
    NotAnswered(String),
    /// It was answered and ended before the signal was over.
    #[error("the far end hung up before the signal was over")]
    HungUp,
    /// No packet came.
    #[error("it was answered, and no sound came")]
    NoSound,
    /// Sound came, and not ours.
    #[error("sound came, and not the signal that was sent")]
    NoEcho,
}

/// Makes the call and hangs up.
///
/// # Errors
/// [`EchoError`].
pub async fn echo_call(
    trunks: &Trunks,
    media: &MediaHandle,
    wanted: EchoCall,
) -> Result<EchoHeard, EchoError> {
    let limit = Instant::now() + wanted.request.ring + SETUP_WITHIN;
    let line = match wanted.trace {
        Some(name) => trunks.place_as(wanted.request, name),
        None => trunks.place(wanted.request),
    };
    let (sound, codec, trunk) = (None, "", String::new());
    let mut call = Call { line, media, sound, codec, trunk, over: false };
    call.wait_for_answer(limit).await?;
    let measured = call.measure().await;
    call.hang_up().await;
    measured
}

struct Call<'a> {
    line: PlacedCall,
    media: &'a MediaHandle,
    sound: Option<Sound>,
    codec: &'static str,
    trunk: String,
    over: bool,
}

impl Call<'_> {
    async fn wait_for_answer(&mut self, limit: Instant) -> Result<(), EchoError> {
        let not = |why: &str| EchoError::NotAnswered(why.to_owned());
        loop {
            let news = tokio::time::timeout_at(limit.into(), self.line.news.recv()).await;
            match news.map_err(|_| not("nobody took it in time"))? {
                Some(LineNews::Dialing { trunk }) => self.trunk = trunk,
                Some(LineNews::Ringing { early: Some((media, sockets)) }) => self.attach(&media, sockets),
                Some(LineNews::Answered { media, sockets }) => {
                    self.attach(&media, sockets);
                    return Ok(());
                }
                Some(LineNews::Failed(failure)) => return Err(not(&failure.to_string())),
                Some(LineNews::PeerHungUp(_) | LineNews::Ended) | None => return Err(not("it ended")),
                Some(
                    LineNews::Ringing { early: None }
                    | LineNews::TrunkFailed(_)
                    | LineNews::MediaChanged(_)
                    | LineNews::Digit(_)
                    | LineNews::Transfer(_),
                ) => {}
            }
        }
    }

    fn attach(&mut self, media: &MediaParams, sockets: Option<RtpSockets>) {
        let terms = MediaTerms::agreed(media, LOST_AFTER);
        self.codec = media.codec.name();
        match (sockets, &mut self.sound) {
            (Some(sockets), sound) => *sound = Some(Sound::attach(self.media, sockets, terms)),
            (None, Some(sound)) => sound.order(Command::Change(terms)),
            (None, None) => {}
        }
    }

    async fn measure(&mut self) -> Result<EchoHeard, EchoError> {
        if let Some(sound) = &mut self.sound {
            sound.record();
        }
        self.listen(LISTEN).await;
        let signal = probe::signal();
        let length = Duration::from_millis(signal.len() as u64 / 8);
        let from = self.sound.as_ref().map_or(0, Sound::position);
        if let Some(sound) = &mut self.sound {
            sound.play(signal);
        }
        self.listen(length + ECHO_WITHIN).await;
        let Some(sound) = self.sound.as_mut().filter(|_| !self.over) else { return Err(EchoError::HungUp) };
        let echo = sound.echo(from);
        let silent = sound.heard_dbm0().is_none();
        let stats = sound.close().await.unwrap_or_default();
        if stats.received == 0 || (echo.is_none() && silent) {
            return Err(EchoError::NoSound);
        }
        let echo = echo.ok_or(EchoError::NoEcho)?;
        let all = stats.received + stats.lost;
        Ok(EchoHeard {
            trunk: std::mem::take(&mut self.trunk),
            codec: self.codec.to_owned(),
            round_trip_ms: echo.round_trip_ms,
            loss_db: echo.loss_db,
            lost: stats.lost as f32 / all.max(1) as f32,
        })
    }

    /// Takes in sound and news for so long, or until the call is over.
    async fn listen(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while !self.over && Instant::now() < until {
            let Some(notify) = self.sound.as_ref().map(Sound::notify) else { return };
            tokio::select! {
                () = notify.notified() => if let Some(sound) = &mut self.sound { sound.drain() },
                news = self.line.news.recv() => match news {
                    Some(LineNews::MediaChanged(media)) => self.attach(&media, None),
                    Some(LineNews::PeerHungUp(_) | LineNews::Failed(_) | LineNews::Ended) | None => self.over = true,
                    Some(
                        LineNews::Dialing { .. }
                        | LineNews::TrunkFailed(_)
                        | LineNews::Ringing { .. }
                        | LineNews::Answered { .. }
                        | LineNews::Digit(_)
                        | LineNews::Transfer(_),
                    ) => {}
                },
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }

    async fn hang_up(&mut self) {
        if self.over || !self.line.order(LineOrder::HangUp(HangupReason::normal())) {
            return;
        }
        let limit = Instant::now() + SETUP_WITHIN;
        while let Ok(Some(news)) = tokio::time::timeout_at(limit.into(), self.line.news.recv()).await {
            if matches!(news, LineNews::Ended | LineNews::PeerHungUp(_) | LineNews::Failed(_)) {
                return;
            }
        }
    }
}
