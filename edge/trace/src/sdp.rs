//! What a session description says, in a few words.

use std::fmt;

/// The first audio stream of a session description, read leniently and for people only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SdpSummary {
    /// Where sound is to be sent, as written.
    pub address: String,
    /// The port; 0 refuses the stream.
    pub port: u16,
    /// Names of the codecs in their order, telephone events among them.
    pub codecs: Vec<String>,
    /// Whether the sound must be encrypted.
    pub encrypted: bool,
    /// Whether there is a key, so that it may be (RFC 8643).
    pub has_key: bool,
    /// `sendonly`, `recvonly` or `inactive`, if it is not both ways.
    pub direction: Option<String>,
}

/// Payload types that need no `rtpmap` (RFC 3551 §6).
const STATIC: [(&str, &str); 5] = [("0", "PCMU"), ("3", "GSM"), ("8", "PCMA"), ("9", "G722"), ("18", "G729")];
const MAX_CODECS: usize = 32;

impl SdpSummary {
    /// Reads a body; `None` when there is no audio in it.
    #[must_use]
    pub fn read(body: &str) -> Option<Self> {
        let mut summary = Self::default();
        let mut formats: Vec<&str> = Vec::new();
        let mut names: Vec<(&str, &str)> = Vec::new();
        let mut streams = 0;
        for line in body.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                streams += usize::from(media.starts_with("audio ") || streams > 0);
                if streams != 1 {
                    continue;
                }
                let mut words = media.split_whitespace().skip(1);
                summary.port = words.next()?.split('/').next()?.parse().ok()?;
                summary.encrypted = words.next()?.contains("SAVP");
                formats = words.take(MAX_CODECS).collect();
            } else if streams > 1 {
                break;
            } else if let Some(address) = line.strip_prefix("c=") {
                summary.address = address.split_whitespace().nth(2).unwrap_or_default().to_owned();
            } else if streams == 1
                && let Some(map) = line.strip_prefix("a=rtpmap:")
            {
                names.extend(map.split_once(' ').filter(|_| names.len() < MAX_CODECS));
            } else if line.starts_with("a=crypto:") {
                summary.has_key = true;
            } else if let Some(word @ ("sendonly" | "recvonly" | "inactive")) = line.strip_prefix("a=") {
                summary.direction = Some(word.to_owned());
            }
        }
        let name = |format: &&str| {
            let mapped = names.iter().find(|(of, _)| of == format).map(|(_, name)| *name);
            let fixed = STATIC.iter().find(|(of, _)| of == format).map(|(_, name)| *name);
            let name = mapped.or(fixed).unwrap_or(format);
            name.strip_suffix("/8000").unwrap_or(name).to_owned()
        };
        summary.codecs = formats.iter().map(name).collect();
        (streams > 0).then_some(summary)
    }
}

impl fmt::Display for SdpSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port == 0 {
            return f.write_str("SDP refuses audio");
        }
        let crypto = match (self.encrypted, self.has_key) {
            (true, _) => "encrypted",
            (false, true) => "with a key",
            (false, false) => "in the clear",
        };
        write!(f, "SDP {}:{} {}, {crypto}", self.address, self.port, self.codecs.join(" "))?;
        self.direction.as_ref().map_or(Ok(()), |direction| write!(f, ", {direction}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_told_in_a_line() {
        let body = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=video 9 RTP/AVP 34\r\nm=audio 4000 RTP/SAVP 8 96 101\r\n\
            a=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\na=sendonly\r\nm=audio 5 RTP/AVP 0\r\nc=IN IP4 10.0.0.1\r\n";
        let told = SdpSummary::read(body).unwrap().to_string();
        assert_eq!(told, "SDP 192.0.2.1:4000 PCMA opus/48000/2 telephone-event, encrypted, sendonly");
        assert_eq!(
            SdpSummary::read("v=0\r\nm=audio 0 RTP/AVP 8\r\n").unwrap().to_string(),
            "SDP refuses audio"
        );
        assert_eq!(SdpSummary::read("v=0\r\n"), None);
        assert_eq!(SdpSummary::read("m=audio"), None);
    }
}
