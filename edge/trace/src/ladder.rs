//! The ladder: who said what to whom, and when.

use std::fmt::Write;

use jiff::Timestamp;
use trunkline_sip::message::{Headers, Message};

use crate::line::{MediaReport, Way};
use crate::mask;
use crate::sdp::SdpSummary;
use crate::trace::{Kept, Trace};

/// Returns the legs of one call as text. `numbers`: whether telephone numbers are shown.
#[must_use]
pub fn show(legs: &[Trace], numbers: bool) -> String {
    let mut out = String::new();
    let Some(begun) = legs.iter().filter_map(Trace::begun).min() else { return out };
    let call = legs.iter().map(|leg| leg.call.as_str()).find(|call| !call.is_empty());
    let when = Timestamp::from_microsecond(begun).map_or_else(|_| String::new(), |at| format!("{at:.3}"));
    let _ = writeln!(out, "Call {}, begun {when}", call.unwrap_or("without an id of ours"));
    for leg in legs {
        show_leg(&mut out, leg, begun, numbers);
    }
    out
}

fn show_leg(out: &mut String, leg: &Trace, begun: i64, numbers: bool) {
    let Some(first) = leg.messages.first() else { return };
    let part = match leg.leg.as_str() {
        "" | "call" => "Leg",
        "person" => "Leg to the person",
        other => other,
    };
    let trunk = if leg.trunk.is_empty() { String::new() } else { format!(" on trunk {}", leg.trunk) };
    let _ = writeln!(out, "\n{part}{trunk}, SIP Call-ID {}", leg.sip_call_id);
    let _ = writeln!(out, "      ms  box {} ─ {} {}", first.local, first.remote, first.transport);
    let mut lines: Vec<(i64, String)> = Vec::new();
    for (at, message) in leg.messages.iter().enumerate() {
        let again = leg.messages[..at]
            .iter()
            .any(|earlier| earlier.way == message.way && earlier.text == message.text);
        let elsewhere = message.remote != first.remote;
        lines.push((message.at, rung(message, numbers, again, elsewhere)));
    }
    for (at, note) in &leg.notes {
        // A network's reason may name whom it did not find.
        let note = if numbers { note.clone() } else { mask::numbers(note) };
        lines.push((*at, format!("          {note}")));
    }
    lines.sort_by_key(|(at, _)| *at);
    for (at, line) in lines {
        let _ = writeln!(out, "{:8}  {line}", (at - begun) / 1_000);
    }
    if leg.cut {
        let _ = writeln!(out, "          … more messages than are kept");
    }
    match &leg.media {
        Some(media) => show_media(out, media),
        None => {
            let _ = writeln!(
                out,
                "Sound: no figures (there was none, or the call goes on: they come with its end)"
            );
        }
    }
}

fn rung(kept: &Kept, numbers: bool, again: bool, elsewhere: bool) -> String {
    let shown = if numbers { kept.text.clone() } else { mask::numbers(&kept.text) };
    let arrow = match kept.way {
        Way::Out => "box ──▶    ",
        Way::In => "    ◀── far",
    };
    let (what, headers, body) = match Message::parse(shown.as_bytes()) {
        Ok(Message::Request(request)) => (
            format!("{} {}", request.method.as_str(), shown.split(' ').nth(1).unwrap_or_default()),
            request.headers,
            request.body,
        ),
        Ok(Message::Response(response)) => {
            (format!("{} {}", response.code, response.phrase), response.headers, response.body)
        }
        Err(_) => return format!("{arrow}  not readable: {}", shown.lines().next().unwrap_or_default()),
    };
    let cseq = headers.get("CSeq").unwrap_or_default();
    let mut line = format!("{arrow}  {what:<46} CSeq {cseq}");
    if elsewhere {
        let _ = write!(line, "  [{}]", kept.remote);
    }
    for more in details(&headers, &String::from_utf8_lossy(&body)) {
        let _ = write!(line, "  {more}");
    }
    if again {
        line.push_str("  (again)");
    }
    line
}

/// What of a message is worth a word beside its first line.
fn details(headers: &Headers, body: &str) -> Vec<String> {
    let mut details = Vec::new();
    let told = |name: &str| headers.get(name).map(|value| format!("{name}: {value}"));
    details.extend(["Reason", "Warning", "Retry-After", "Refer-To"].iter().filter_map(|name| told(name)));
    if headers.get("Authorization").or_else(|| headers.get("Proxy-Authorization")).is_some() {
        details.push("with credentials".to_owned());
    }
    if headers.get("RSeq").is_some() {
        details.push("reliable".to_owned());
    }
    if let Some(sdp) = SdpSummary::read(body) {
        details.push(sdp.to_string());
    } else if !body.is_empty() {
        details.push(format!(
            "{} octets of {}",
            body.len(),
            headers.get("Content-Type").unwrap_or("no type")
        ));
    }
    details
}

fn show_media(out: &mut String, media: &MediaReport) {
    let crypto = if media.encrypted { "encrypted" } else { "in the clear" };
    let _ = writeln!(out, "Sound: {}, {crypto}", media.codec);
    let _ = writeln!(out, "           packets   lost   late  twice  order   jitter    MOS");
    let mos = |mos: Option<f32>| mos.map_or_else(|| "-".to_owned(), |mos| format!("{mos:.2}"));
    let _ = writeln!(
        out,
        "  heard  {:9} {:6} {:6} {:6} {:6} {:5.1} ms {:>6}",
        media.received,
        media.lost,
        media.late,
        media.duplicate,
        media.reordered,
        media.jitter_ms,
        mos(media.mos_heard)
    );
    let far = |value: Option<f32>, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}{unit}"))
    };
    let _ = writeln!(
        out,
        "  sent   {:9} {:>6} {:>6} {:>6} {:>6} {:>8} {:>6}  as the far end reports",
        media.sent,
        far(media.far_loss.map(|loss| loss * 100.0), "%"),
        "-",
        "-",
        "-",
        far(media.far_jitter_ms, " ms"),
        mos(media.mos_sent)
    );
    let round_trip =
        media.round_trip_ms.map_or_else(|| "not reported".to_owned(), |ms| format!("{ms:.0} ms"));
    let _ =
        writeln!(out, "  round trip {round_trip}; keys heard {}, sent {}", media.keys_heard, media.keys_sent);
    if media.forged > 0 {
        let _ = writeln!(out, "  {} packets refused: not encrypted as agreed", media.forged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_shown_as_people_draw_it() {
        let kept = |ms: i64, way, text: &str| Kept {
            at: 1_764_000_000_000_000 + ms * 1_000,
            way,
            transport: "UDP".to_owned(),
            local: "192.0.2.9:5060".parse().unwrap(),
            remote: "192.0.2.1:5060".parse().unwrap(),
            text: mask::secrets(text.as_bytes()),
        };
        let invite = "INVITE sip:13800138000@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
            To: <sip:b@b>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\n\r\n\
            v=0\r\nc=IN IP4 192.0.2.9\r\nm=audio 4000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";
        let busy = "SIP/2.0 486 Busy Here\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
            To: <sip:b@b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nReason: Q.850;cause=17\r\n\r\n";
        let leg = Trace {
            sip_call_id: "x".to_owned(),
            call: "0192".to_owned(),
            leg: "call".to_owned(),
            trunk: "carrier".to_owned(),
            messages: vec![kept(0, Way::Out, invite), kept(500, Way::Out, invite), kept(620, Way::In, busy)],
            media: Some(MediaReport {
                codec: "PCMA".to_owned(),
                received: 50,
                mos_heard: Some(4.41),
                ..MediaReport::default()
            }),
            notes: vec![(1_764_000_000_630_000, "busy: 13800138000 is in use".to_owned())],
            ..Trace::default()
        };
        let expected = "\
Call 0192, begun 2025-11-24T16:00:00.000Z

Leg on trunk carrier, SIP Call-ID x
      ms  box 192.0.2.9:5060 ─ 192.0.2.1:5060 UDP
       0  box ──▶      INVITE sip:xxxxxxxxx00@192.0.2.1               CSeq 1 INVITE  SDP 192.0.2.9:4000 PCMA telephone-event, in the clear
     500  box ──▶      INVITE sip:xxxxxxxxx00@192.0.2.1               CSeq 1 INVITE  SDP 192.0.2.9:4000 PCMA telephone-event, in the clear  (again)
     620      ◀── far  486 Busy Here                                  CSeq 1 INVITE  Reason: Q.850;cause=17
     630            busy: xxxxxxxxx00 is in use
Sound: PCMA, in the clear
           packets   lost   late  twice  order   jitter    MOS
  heard         50      0      0      0      0   0.0 ms   4.41
  sent           0      -      -      -      -        -      -  as the far end reports
  round trip not reported; keys heard 0, sent 0
";
        assert_eq!(show(std::slice::from_ref(&leg), false), expected);
        assert!(show(&[leg], true).contains("13800138000"));
        assert_eq!(show(&[], false), "");
    }
}
