//! What comes over the telephone line: SIP, SDP, RTP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use trunkline_rtp::rtcp::{NtpTime, Reception, ReportBlock, RtcpPacket, RtcpSession, RtcpWriter};
use trunkline_rtp::srtp::{SrtpKey, SrtpProfile, SrtpReceiver};
use trunkline_rtp::{
    JitterBuffer, JitterConfig, RtpError, RtpPacket, RtpSender, RtpTicks, Seq, Ssrc, is_rtcp, rtcp,
};
use trunkline_sip::message::Message;
use trunkline_sip::sdp::{Codec, LocalMedia, SdpOrigin};
use trunkline_sip::stream::{Frame, Framer};
use trunkline_trace::{SdpSummary, mask};

/// A datagram of SIP, and the same bytes as a stream. What is read and written again is read again.
pub(crate) fn sip(bytes: &[u8]) {
    if let Ok(message) = Message::parse(bytes) {
        let headers = message.headers();
        let _ = (headers.top_via(), headers.from(), headers.to(), headers.cseq(), headers.contact());
        let _ = headers.record_route();
        let written = match &message {
            Message::Request(request) => request.to_bytes(),
            Message::Response(response) => response.to_bytes(),
        };
        assert!(Message::parse(&written).is_ok(), "what was read can be passed on");
    }
    let mut framer = Framer::default();
    for piece in bytes.chunks(7) {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(Some(Frame::Message(message))) => drop(Message::parse(&message)),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                // Such a connection is closed.
                Err(_) => return,
            }
        }
    }
}

pub(crate) fn sip_messages() -> Vec<Vec<u8>> {
    let common = "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK77;rport\r\nFrom: \"A\" <sip:a@192.0.2.1>;tag=1\r\n\
                  To: <sip:b@192.0.2.2>\r\nCall-ID: 7@192.0.2.1\r\nMax-Forwards: 70\r\n";
    [
        format!("INVITE sip:b@192.0.2.2 SIP/2.0\r\n{common}CSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.1>\r\n\
                 Content-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n"),
        format!("SIP/2.0 401 Unauthorized\r\n{common}CSeq: 1 INVITE\r\nWWW-Authenticate: Digest realm=\"r\", \
                 nonce=\"n\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n"),
        format!("REFER sip:b@192.0.2.2 SIP/2.0\r\n{common}CSeq: 3 REFER\r\nRefer-To: <sip:c@192.0.2.3?Replaces=x%3By>\r\n\
                 Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\nContent-Length: 0\r\n\r\n"),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// What is kept and shown of a message.
pub(crate) fn trace(bytes: &[u8]) {
    let kept = mask::secrets(bytes);
    let shown = mask::numbers(&kept);
    let _ = SdpSummary::read(&shown);
}

/// A description of somebody's media, as an offer and as the answer to ours.
pub(crate) fn sdp(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut local = LocalMedia::new(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9), 40_000)));
    local.codecs.extend([Codec::Opus, Codec::G722]);
    let mut origin = SdpOrigin::new(7);
    let _ = origin.answer(&local, text);
    let mut origin = SdpOrigin::new(8);
    let _ = origin.offer(&local);
    let _ = origin.read_answer(&local, text);
}

pub(crate) fn descriptions() -> Vec<Vec<u8>> {
    let audio = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    [
        format!(
            "{audio}m=audio 4000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
                 a=ptime:20\r\na=sendrecv\r\n"
        ),
        format!(
            "{audio}m=audio 4000 RTP/AVP 96 97\r\na=rtpmap:96 opus/48000/2\r\n\
                 a=fmtp:96 useinbandfec=1;maxaveragebitrate=20000\r\na=rtpmap:97 telephone-event/48000\r\n"
        ),
        format!(
            "{audio}m=audio 4000 RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 \
                 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\n"
        ),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Packets, each with its length before it, into parser, jitter buffers and the opener of encrypted ones.
pub(crate) fn rtp(bytes: &[u8]) {
    let start = Instant::now();
    let mut jitter = JitterBuffer::new(JitterConfig::default());
    let mut opus = JitterBuffer::opus(JitterConfig::default());
    let mut opener = SrtpReceiver::new(SrtpProfile::Sha1Tag80, &SrtpKey::new([7; 30]));
    let mut rest = bytes;
    for tick in 0..64_u64 {
        let Some((length, after)) = rest.split_first() else { break };
        let (packet, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let now = start + Duration::from_millis(20 * tick);
        let mut sealed = packet.to_vec();
        if is_rtcp(packet) {
            let _ = rtcp::parse_compound(packet);
            let _ = opener.open_rtcp(&mut sealed);
        } else {
            let _ = opener.open_rtp(&mut sealed);
            if let Ok(packet) = RtpPacket::parse(packet) {
                jitter.push(now, &packet);
                opus.push(now, &packet);
            }
        }
        let _ = jitter.pop(now);
        let _ = opus.pop(now);
        let _ = opus.behind();
    }
}

/// Compound reports, each with its length before it, into the parser and the session that keeps count of the far end.
pub(crate) fn rtcp(bytes: &[u8]) {
    let (start, ours) = (Instant::now(), Ssrc(7));
    let mut session = RtcpSession::new("fuzz@trunkline".to_owned(), start, 7);
    let mut reception = Reception::new(8_000);
    let sender = RtpSender::new(ours, Seq(1), RtpTicks(0));
    let mut rest = bytes;
    for second in 0..64_u64 {
        let Some((length, after)) = rest.split_first() else { break };
        let (datagram, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let now = start + Duration::from_secs(second);
        let wall = NtpTime::from_unix(Duration::from_secs(1_700_000_000 + second));
        for packet in rtcp::parse_compound(datagram) {
            if let Ok(RtcpPacket::SenderReport { blocks, .. } | RtcpPacket::ReceiverReport { blocks, .. }) =
                packet
            {
                assert!(blocks.iter().count() <= 31, "the count has five bits");
            }
        }
        let _ = session.handle(now, wall, datagram, ours, &mut reception);
        let mut out = [0; 256];
        if let Some(n) = session.poll(now, wall, &sender, &mut reception, &mut out) {
            assert!(is_rtcp(&out[..n]), "what we send is read again");
        }
        let _ = reception.stats();
    }
}

pub(crate) fn reports() -> Vec<Vec<u8>> {
    let (ssrc, highest_seq) = (Ssrc(7), 900);
    let block = ReportBlock {
        ssrc,
        fraction_lost: 12,
        lost: 3,
        highest_seq,
        jitter: 40,
        last_sr: 1,
        delay_since_sr: 2,
    };
    let written = |write: &dyn Fn(&mut RtcpWriter<'_>) -> Result<(), RtpError>| {
        let mut out = [0; 200];
        let mut writer = RtcpWriter::new(&mut out);
        let fits = write(&mut writer).is_ok();
        let n = if fits { writer.finish() } else { 0 };
        [&[u8::try_from(n).unwrap_or(0)], &out[..n]].concat()
    };
    let report = written(&|writer| {
        writer.receiver_report(Ssrc(9), &[block])?;
        writer.source_description(Ssrc(9), "peer@192.0.2.1")
    });
    let bye = written(&|writer| {
        writer.receiver_report(Ssrc(9), &[])?;
        writer.bye(Ssrc(9), "over")
    });
    vec![[report.clone(), bye].concat(), report]
}

pub(crate) fn packets() -> Vec<Vec<u8>> {
    let packet = |seq: u8, marker: u8| {
        let mut packet = vec![22, 0x80, 8 | marker, 0, seq, 0, 0, 0, seq.wrapping_mul(160), 0, 0, 0, 7];
        packet.extend([0xd5; 10]);
        packet
    };
    let voice: Vec<u8> = [packet(1, 0x80), packet(2, 0), packet(4, 0), packet(3, 0)].concat();
    let report = [28, 0x80, 200, 0, 6, 0, 0, 0, 7].into_iter().chain([0; 20]).collect();
    vec![voice, report]
}
