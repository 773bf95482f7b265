//! One stream of G.711 on a socket: a tone out, whatever comes in kept, keys both ways.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use trunkline_audio::Codec;
use trunkline_audio::tone::Goertzel;
use trunkline_rtp::srtp::{SrtpKey, SrtpProfile, SrtpReceiver, SrtpSender};
use trunkline_rtp::{
    EventReceiver, EventSender, FRAME_TICKS, RtpPacket, RtpSender, RtpTicks, Seq, Ssrc, event_digit,
};
use trunkline_sip::sdp::{Codec as Negotiated, CryptoSuite, MediaParams};

const RATE: f32 = 8_000.0;
const FRAME: usize = 160;

pub(crate) struct Sound {
    socket: UdpSocket,
    sender: RtpSender,
    agreed: Option<MediaParams>,
    next_at: Instant,
    hz: f32,
    phase: f32,
    key: Option<EventSender>,
    keys: EventReceiver,
    encrypted: Option<(SrtpSender, SrtpReceiver)>,
    /// What was heard, in the order it came.
    pub(crate) heard: Vec<i16>,
    pub(crate) pressed: String,
}

impl Sound {
    /// A stream that sends a tone of `hz` once [`Self::talk`] says where to.
    pub(crate) fn new(hz: f32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            sender: RtpSender::new(Ssrc(7), Seq(100), RtpTicks(1_000)),
            agreed: None,
            next_at: Instant::now(),
            hz,
            phase: 0.0,
            key: None,
            keys: EventReceiver::default(),
            encrypted: None,
            heard: Vec::new(),
            pressed: String::new(),
        }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Begins to send, or goes on as newly agreed.
    pub(crate) fn talk(&mut self, agreed: MediaParams) {
        self.next_at = Instant::now();
        if let (Some(secure), None) = (&agreed.secure, &self.encrypted) {
            let profile = match secure.suite {
                CryptoSuite::AesCm128Sha1Tag80 => SrtpProfile::Sha1Tag80,
                CryptoSuite::AesCm128Sha1Tag32 => SrtpProfile::Sha1Tag32,
            };
            let sender = SrtpSender::new(profile, &SrtpKey::new(secure.local.0));
            self.encrypted = Some((sender, SrtpReceiver::new(profile, &SrtpKey::new(secure.remote.0))));
        }
        self.agreed = Some(agreed);
    }

    /// Returns how many encrypted packets did not fit the key; `None` for a call in the clear.
    pub(crate) fn refused(&self) -> Option<u64> {
        self.encrypted.as_ref().map(|(_, receiver)| receiver.refused())
    }

    /// Presses a key for 100 ms.
    pub(crate) fn press(&mut self, key: char) {
        self.key = EventSender::new(key, 800);
    }

    /// Sends what is due and takes in what came.
    pub(crate) fn turn(&mut self, now: Instant) {
        let mut buffer = [0; 1_500];
        while let Ok((length, _)) = self.socket.recv_from(&mut buffer) {
            // What came before the keys were agreed cannot be opened.
            let length = match &mut self.encrypted {
                Some((_, receiver)) => receiver.open_rtp(&mut buffer[..length]),
                None => Ok(length),
            };
            if let Ok(length) = length {
                self.hear(&buffer[..length]);
            }
        }
        let Some(agreed) = self.agreed.clone() else { return };
        while now >= self.next_at {
            self.next_at += Duration::from_millis(20);
            let mut out = [0; 250];
            let length = match (&mut self.key, agreed.dtmf_pt) {
                (Some(key), Some(payload_type)) if !key.is_done() => {
                    self.sender.write_event_into(payload_type, key, &mut out).unwrap()
                }
                _ => {
                    let samples: Vec<i16> = (0..FRAME).map(|_| self.sample()).collect();
                    let mut payload = [0; FRAME];
                    law(agreed.codec).encode(&samples, &mut payload);
                    self.sender.write_into(agreed.payload_type, &payload, FRAME_TICKS, &mut out).unwrap()
                }
            };
            let length = match &mut self.encrypted {
                Some((sender, _)) => sender.protect_rtp(&mut out, length).unwrap(),
                None => length,
            };
            if agreed.direction.sends() {
                let _ = self.socket.send_to(&out[..length], agreed.remote);
            }
        }
    }

    fn sample(&mut self) -> i16 {
        self.phase = (self.phase + self.hz / RATE).fract();
        (8_000.0 * (self.phase * std::f32::consts::TAU).sin()) as i16
    }

    fn hear(&mut self, bytes: &[u8]) {
        let Ok(packet) = RtpPacket::parse(bytes) else { return };
        if self.agreed.as_ref().is_some_and(|agreed| agreed.dtmf_pt == Some(packet.payload_type)) {
            self.pressed.extend(self.keys.push(&packet).and_then(event_digit));
            return;
        }
        let codec = match packet.payload_type {
            0 => Codec::Pcmu,
            8 => Codec::Pcma,
            _ => return,
        };
        let mut samples = vec![0; packet.payload.len()];
        codec.decode(packet.payload, &mut samples);
        self.heard.extend(samples);
    }
}

fn law(codec: Negotiated) -> Codec {
    match codec {
        Negotiated::Pcmu => Codec::Pcmu,
        Negotiated::Pcma => Codec::Pcma,
        Negotiated::G722 | Negotiated::Opus => panic!("nobody offered it"),
    }
}

/// Returns how much of the energy of the last half second of `samples` is at `hz`, from 0 to 1.
pub(crate) fn share_of(hz: f32, samples: &[i16]) -> f32 {
    let last = &samples[samples.len().saturating_sub(4_000)..];
    let energy = last.iter().map(|s| f32::from(*s).powi(2)).sum::<f32>() / last.len().max(1) as f32;
    Goertzel::new(hz, 8_000).power(last) / energy.max(1.0)
}
