//! The sound of one call, from our side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline_audio::tone::Goertzel;
use trunkline_line::{
    Attached, Command as Order, MediaHandle, MediaNews, MediaStats, MediaTerms, RtpPorts, RtpSockets,
};
use trunkline_ports::sound_ports;
use trunkline_sip::sdp::MediaParams;

/// A call's sound, with what was heard and told so far.
pub(crate) struct Sound {
    attached: Attached,
    pub(crate) heard: Vec<i16>,
    pub(crate) news: Vec<MediaNews>,
}

/// Binds a pair of ports on loopback.
pub(crate) fn rtp_sockets() -> RtpSockets {
    RtpPorts::new("127.0.0.1".parse().unwrap(), sound_ports()).bind().unwrap()
}

/// A tone of so many seconds.
pub(crate) fn tone(hz: f32, seconds: usize) -> Arc<[i16]> {
    (0..8_000 * seconds)
        .map(|n| ((n as f32 * std::f32::consts::TAU * hz / 8_000.0).sin() * 8_000.0) as i16)
        .collect()
}

/// How loud a tone is in the tenth of a second or two where it is loudest; a full one of ours has 32,000,000.
pub(crate) fn loudest(heard: &[i16], hz: f32) -> f32 {
    let goertzel = Goertzel::new(hz, 8_000);
    heard.chunks_exact(1_600).map(|part| goertzel.power(part)).fold(0.0, f32::max)
}

fn terms(media: &MediaParams) -> MediaTerms {
    MediaTerms::agreed(media, Duration::from_secs(10))
}

impl Sound {
    pub(crate) fn begin(sockets: RtpSockets, media: &MediaParams) -> Self {
        let attached = MediaHandle::start().unwrap().attach(sockets, terms(media), None, None);
        Self { attached, heard: Vec::new(), news: Vec::new() }
    }

    /// Goes on as agreed anew.
    pub(crate) fn change(&mut self, media: &MediaParams) {
        self.order(Order::Change(terms(media)));
    }

    pub(crate) fn play(&mut self, clip: Arc<[i16]>) {
        self.order(Order::Play { say: 1, clip, last: true });
    }

    pub(crate) fn order(&mut self, order: Order) {
        self.attached.commands.push(order).unwrap();
    }

    /// Takes in what comes within a time.
    pub(crate) async fn run(&mut self, time: Duration) {
        let limit = Instant::now() + time;
        while Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.take_in();
        }
    }

    /// Waits for news.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&MediaNews) -> bool) -> MediaNews {
        let limit = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(at) = self.news.iter().position(&wanted) {
                return self.news.remove(at);
            }
            assert!(Instant::now() < limit, "never came; so far {:?}", self.news);
            self.run(Duration::from_millis(20)).await;
        }
    }

    /// Ends it and returns the counts.
    pub(crate) async fn close(&mut self) -> MediaStats {
        self.order(Order::Close);
        let closed = self.until(|news| matches!(news, MediaNews::Closed(_))).await;
        if let MediaNews::Closed(stats) = closed { stats } else { panic!("{closed:?}") }
    }

    fn take_in(&mut self) {
        while let Ok(frame) = self.attached.frames.pop() {
            self.heard.extend(frame.samples);
        }
        while let Ok(news) = self.attached.news.pop() {
            self.news.push(news);
        }
    }
}
