//! Messages on a connection: cut by Content-Length, with keep-alives between them (RFC 3261 §18.3, RFC 5626 §3.5.1).

use bytes::Bytes;

/// A head longer than this is no telephone's.
const MAX_HEAD: usize = 32 * 1024;
/// A body longer than this is no session description.
const MAX_BODY: usize = 64 * 1024;

/// What came whole out of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One message, for [`crate::UserAgent::handle_message`].
    Message(Bytes),
    /// A double line end, which is answered with a single one.
    Ping,
    /// The answer to a ping of ours.
    Pong,
}

/// Why a connection cannot be read any further; it must be closed, because nobody knows where the next message begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The head does not end.
    #[error("the head of a message is longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// The body is too long.
    #[error("the body of a message is longer than {MAX_BODY} bytes")]
    BodyTooLong,
    /// Content-Length is missing or no number.
    #[error("a message on a connection has no readable Content-Length")]
    NoLength,
}

/// Cuts what comes out of one connection into messages.
#[derive(Debug, Default)]
pub struct Framer {
    unread: Vec<u8>,
    /// How far the end of the head was searched for.
    searched: usize,
}

impl Framer {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// Returns the next whole thing, or `None` until more was read.
    ///
    /// # Errors
    /// When the connection must be closed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.unread.starts_with(b"\r\n\r\n") {
            self.take(4);
            return Ok(Some(Frame::Ping));
        }
        if self.unread.starts_with(b"\r\n") {
            // It may be the first half of a ping.
            if self.unread.len() == 2 || self.unread[2..] == *b"\r" {
                return Ok(None);
            }
            self.take(2);
            return Ok(Some(Frame::Pong));
        }
        let from = self.searched.saturating_sub(3);
        let Some(end) = find(&self.unread[from..], b"\r\n\r\n").map(|at| at + from + 4) else {
            self.searched = self.unread.len();
            return if self.unread.len() > MAX_HEAD { Err(FrameError::HeadTooLong) } else { Ok(None) };
        };
        let length = content_length(&self.unread[..end]).ok_or(FrameError::NoLength)?;
        if length > MAX_BODY {
            return Err(FrameError::BodyTooLong);
        }
        if self.unread.len() < end + length {
            return Ok(None);
        }
        Ok(Some(Frame::Message(self.take(end + length))))
    }

    /// Tells whether nothing is left half read, so that the pong of a lone line end can be told.
    pub fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    /// Takes a lone line end for the answer to a ping, once nothing followed it.
    pub fn take_pong(&mut self) -> bool {
        let pong = self.unread == b"\r\n";
        if pong {
            self.take(2);
        }
        pong
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.searched = 0;
        let rest = self.unread.split_off(length);
        std::mem::replace(&mut self.unread, rest).into()
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let mut found = None;
    for line in head.split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = line[..colon].trim_ascii();
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let value = std::str::from_utf8(&line[colon + 1..]).ok()?.trim();
        if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) || found.is_some() {
            return None;
        }
        found = Some(value.parse().unwrap_or(usize::MAX));
    }
    found
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(body: &str) -> String {
        format!("OPTIONS sip:a@h SIP/2.0\r\nX: y\r\nl: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn a_message_without_a_length_ends_the_connection() {
        let mut framer = Framer::default();
        framer.push(b"OPTIONS sip:a@h SIP/2.0\r\nX: y\r\n\r\n");
        assert_eq!(framer.next_frame(), Err(FrameError::NoLength));
    }

    #[test]
    fn two_lengths_are_none_and_a_long_one_is_refused_before_it_is_read() {
        let mut framer = Framer::default();
        framer.push(b"OPTIONS sip:a@h SIP/2.0\r\nContent-Length: 0\r\nl: 5\r\n\r\n");
        assert_eq!(framer.next_frame(), Err(FrameError::NoLength));
        let mut framer = Framer::default();
        framer.push(b"OPTIONS sip:a@h SIP/2.0\r\nContent-Length: 99999999999999999999999\r\n\r\n");
        assert_eq!(framer.next_frame(), Err(FrameError::BodyTooLong));
    }

    #[test]
    fn a_head_that_never_ends_is_given_up() {
        let mut framer = Framer::default();
        for _ in 0..40 {
            framer.push(&[b'x'; 1_000]);
            if framer.next_frame() == Err(FrameError::HeadTooLong) {
                return;
            }
        }
        panic!("still reading");
    }

    #[test]
    fn pings_stand_between_messages_and_a_lone_line_end_is_a_pong() {
        let mut framer = Framer::default();
        framer.push(format!("\r\n\r\n{}\r\n\r\n\r\n", message("")).as_bytes());
        assert_eq!(framer.next_frame(), Ok(Some(Frame::Ping)));
        assert_eq!(framer.next_frame(), Ok(Some(Frame::Message(message("").into()))));
        assert_eq!(framer.next_frame(), Ok(Some(Frame::Ping)));
        assert_eq!(framer.next_frame(), Ok(None));
        assert!(framer.take_pong());
        assert!(framer.is_empty());
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_however_they_were_cut(
            bodies in proptest::collection::vec("[a-z\r\n]{0,40}", 1..5),
            cuts in proptest::collection::vec(1usize..50, 1..40),
        ) {
            let sent: Vec<String> = bodies.iter().map(|body| message(body)).collect();
            let stream = sent.concat().into_bytes();
            let (mut framer, mut read, mut at, mut cut) = (Framer::default(), Vec::new(), 0, cuts.iter().cycle());
            while at < stream.len() {
                let end = (at + cut.next().unwrap()).min(stream.len());
                framer.push(&stream[at..end]);
                at = end;
                while let Some(frame) = framer.next_frame().unwrap() {
                    let Frame::Message(bytes) = frame else { panic!("{frame:?}") };
                    read.push(String::from_utf8(bytes.to_vec()).unwrap());
                }
            }
            prop_assert_eq!(read, sent);
        }

        #[test]
        fn no_bytes_panic_the_framer(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..8)) {
            let mut framer = Framer::default();
            for piece in pieces {
                framer.push(&piece);
                for _ in 0..8 {
                    if !matches!(framer.next_frame(), Ok(Some(_))) { break; }
                }
            }
        }
    }
}
