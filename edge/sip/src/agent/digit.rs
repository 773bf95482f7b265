//! Keys that we press by INFO, where the other side takes no telephone events (application/dtmf-relay).
//!
//! The next key waits for the answer to the one before: over UDP they would overtake each other.

use std::time::Instant;

use bytes::Bytes;

use super::UserAgent;
use super::call::{Call, Phase};
use super::config::CommandError;
use super::event::{CallNews, DialogKey};
use super::tables::Purpose;
use crate::digest::Attempts;
use crate::message::{Method, Response};

/// Keys that wait at most; more than a person presses in a minute.
const MAX_WAITING: usize = 64;

impl UserAgent {
    /// Presses a key by INFO: `0` to `9`, `*`, `#`, `A` to `D`. [`CallNews::DigitAnswered`] tells what is said to it.
    ///
    /// # Errors
    /// When the call is not known or not up, there is no such key, or too many wait.
    pub fn send_digit(
        &mut self,
        now: Instant,
        key: DialogKey,
        digit: char,
        duration_ms: u16,
    ) -> Result<(), CommandError> {
        let digit = digit.to_ascii_uppercase();
        if !matches!(digit, '0'..='9' | '*' | '#' | 'A'..='D') {
            return Err(CommandError::NoSuchKey);
        }
        let Some(mut call) = self.calls.remove(&key.0) else { return Err(CommandError::UnknownCall) };
        let waiting = match &mut call.phase {
            Phase::Up(up) if up.digits.len() < MAX_WAITING => {
                up.digits.push_back((digit, duration_ms));
                Some(up.digits.len())
            }
            Phase::Up(_)
            | Phase::Calling(_)
            | Phase::Offered(_)
            | Phase::Leaving { .. }
            | Phase::Lingering { .. } => None,
        };
        if waiting == Some(1) {
            self.press_next(now, &mut call);
        }
        self.put_back(call);
        waiting.map(|_| ()).ok_or(CommandError::WrongState)
    }

    /// Sends the key that stands first.
    fn press_next(&mut self, now: Instant, call: &mut Call) {
        let Phase::Up(up) = &mut call.phase else { return };
        let Some((digit, duration_ms)) = up.digits.front().copied() else { return };
        let mut request = up.dialog.next_request(Method::Info);
        let to = up.dialog.next_hop(call.next_hop);
        request.headers.push("User-Agent", &self.config.user_agent);
        request.headers.push("Content-Type", "application/dtmf-relay");
        request.body = Bytes::from(format!("Signal={digit}\r\nDuration={duration_ms}\r\n"));
        self.authorize(&call.credentials, &mut call.auth, &mut request);
        self.start(now, request, to, Purpose::Digit(call.key), Attempts::default());
    }

    /// Takes in the final answer to a key, or that there was none.
    pub(super) fn handle_digit_response(
        &mut self,
        now: Instant,
        id: u64,
        key: u64,
        response: Option<&Response>,
    ) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        if let Phase::Up(up) = &mut call.phase {
            let challenge = response.filter(|response| matches!(response.code, 401 | 407));
            let number = up.dialog.local_cseq + 1;
            let again = challenge.is_some_and(|challenge| {
                self.retry_with_credentials(now, id, &call.credentials, &mut call.auth, challenge, number)
                    .is_some()
            });
            if again {
                up.dialog.local_cseq = number;
            } else if let Some((digit, _)) = up.digits.pop_front() {
                let code = response.map(|response| response.code);
                self.tell_news(DialogKey(key), CallNews::DigitAnswered { digit, code });
                self.press_next(now, &mut call);
            }
        }
        self.keep_or_forget(call);
    }
}
