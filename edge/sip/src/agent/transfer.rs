//! Handing a call to somebody else: REFER, its progress by NOTIFY, and Replaces (RFC 3515, RFC 3891, RFC 3420).

use std::time::Instant;

use bytes::Bytes;

use super::UserAgent;
use super::call::{Call, Phase};
use super::config::CommandError;
use super::dialog::Dialog;
use super::event::{CallNews, DialogKey, TransferStep};
use super::exchange::Answer;
use super::in_dialog::{NO_SUCH_CALL, OK};
use super::tables::{Purpose, ServerKey};
use crate::digest::Attempts;
use crate::message::{Headers, Hop, Method, NameAddr, Params, Request, Response, Uri, escape, unescape};

/// The dialog that a new call takes the place of (RFC 3891).
#[derive(Clone, PartialEq, Eq)]
pub struct Replaces {
    /// Its Call-ID.
    pub call_id: String,
    /// The tag of whoever is asked to replace it.
    pub to_tag: String,
    /// The tag of the other end of it.
    pub from_tag: String,
    /// Only while it is not answered yet.
    pub early_only: bool,
}

impl std::fmt::Debug for Replaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replaces(early_only: {})", self.early_only)
    }
}

impl Replaces {
    /// Reads the header's value; `None` if a part is missing.
    pub fn parse(text: &str) -> Option<Self> {
        let (call_id, params) = text.split_once(';')?;
        let params = Params::parse(params);
        let tag = |name| params.get(name).filter(|tag| !tag.is_empty());
        let call_id = call_id.trim().to_owned();
        if call_id.is_empty() {
            return None;
        }
        let (to_tag, from_tag) = (tag("to-tag")?, tag("from-tag")?);
        Some(Self { call_id, to_tag, from_tag, early_only: params.has("early-only") })
    }

    /// Returns the text for the wire.
    pub fn to_wire(&self) -> String {
        let early = if self.early_only { ";early-only" } else { "" };
        format!("{};to-tag={};from-tag={}{early}", self.call_id, self.to_tag, self.from_tag)
    }
}

/// What an incoming Replaces asks for, once looked up.
pub(super) enum Replaced {
    Nothing,
    Call(u64),
    /// It cannot be done; the INVITE gets this code.
    No(u16, &'static str),
}

impl UserAgent {
    /// Asks the other side of a call to call `target` instead (RFC 3515), or with `replaces` to take the place of our
    /// end of that other call (attended transfer). [`CallNews::Transfer`] tells how it goes.
    ///
    /// Neither call is hung up by this: that is for its owner once the transfer has succeeded.
    ///
    /// # Errors
    /// When a call is not known or not up.
    pub fn refer(
        &mut self,
        now: Instant,
        key: DialogKey,
        target: &Uri,
        replaces: Option<DialogKey>,
    ) -> Result<(), CommandError> {
        let mut refer_to = target.clone();
        if let Some(other) = replaces {
            let other = self.calls.get(&other.0).ok_or(CommandError::UnknownCall)?;
            let Phase::Up(up) = &other.phase else { return Err(CommandError::WrongState) };
            // Seen from whom the new call reaches: their tag is the `to` one.
            let replaces = Replaces {
                call_id: other.call_id.clone(),
                to_tag: up.dialog.remote_tag(),
                from_tag: other.local_tag.clone(),
                early_only: false,
            };
            refer_to = up.dialog.target.clone();
            // Who does not know Replaces must not ring as for a new call (RFC 5589 §7.1).
            let headers = format!("Replaces={}&Require=replaces", escape(&replaces.to_wire()));
            refer_to.headers = Some(headers);
        }
        let Some(mut call) = self.calls.remove(&key.0) else { return Err(CommandError::UnknownCall) };
        let Phase::Up(up) = &mut call.phase else {
            self.put_back(call);
            return Err(CommandError::WrongState);
        };
        up.transferring = true;
        let mut request = up.dialog.next_request(Method::Refer);
        let to = up.dialog.next_hop(call.next_hop);
        let referred_by = NameAddr::new(up.dialog.local_uri());
        request.headers.push("Contact", self.contact(to.transport).to_wire());
        request.headers.push("Refer-To", NameAddr::new(refer_to).to_wire());
        request.headers.push("Referred-By", referred_by.to_wire());
        request.headers.push("User-Agent", &self.config.user_agent);
        self.authorize(&call.credentials, &mut call.auth, &mut request);
        self.start(now, request, to, Purpose::Refer(call.key), Attempts::default());
        self.put_back(call);
        Ok(())
    }

    /// Takes in the final answer to a REFER, or that there was none.
    pub(super) fn handle_refer_response(
        &mut self,
        now: Instant,
        id: u64,
        key: u64,
        response: Option<&Response>,
    ) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        let dialog_key = DialogKey(key);
        match (response.map(|response| response.code), response, &mut call.phase) {
            (Some(401 | 407), Some(response), Phase::Up(up)) => {
                let number = up.dialog.local_cseq + 1;
                let retried =
                    self.retry_with_credentials(now, id, &call.credentials, &mut call.auth, response, number);
                if retried.is_some() {
                    up.dialog.local_cseq = number;
                } else {
                    up.transferring = false;
                    let refused = TransferStep::Refused(Some(response.code));
                    self.tell_news(dialog_key, CallNews::Transfer(refused));
                }
            }
            (Some(200..=299), _, Phase::Up(_)) => {
                self.tell_news(dialog_key, CallNews::Transfer(TransferStep::Accepted));
            }
            (code, _, Phase::Up(up)) => {
                up.transferring = false;
                self.tell_news(dialog_key, CallNews::Transfer(TransferStep::Refused(code)));
            }
            (
                _,
                _,
                Phase::Calling(_) | Phase::Offered(_) | Phase::Leaving { .. } | Phase::Lingering { .. },
            ) => {}
        }
        self.keep_or_forget(call);
    }

    /// Takes in news of the call that the other side makes for us.
    pub(super) fn handle_notify(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        call: &mut Call,
        request: Request,
    ) {
        let event = request.headers.get("Event").unwrap_or_default();
        if !event.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("refer") {
            let answer = Answer { code: 489, phrase: "Bad Event", headers: &[("Allow-Events", "refer")] };
            self.answer(now, from, key, request, answer);
            return;
        }
        let state = request.headers.get("Subscription-State").unwrap_or_default();
        let over = state.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("terminated");
        let code = read_fragment(&request.body);
        let expected = match &mut call.phase {
            Phase::Up(up) if over => std::mem::take(&mut up.transferring),
            Phase::Up(up) => up.transferring,
            Phase::Calling(_) | Phase::Offered(_) | Phase::Leaving { .. } | Phase::Lingering { .. } => false,
        };
        if !expected {
            self.answer(now, from, key, request, NO_SUCH_CALL);
            return;
        }
        self.answer(now, from, key, request, OK);
        let step = match code {
            Some(code @ 200..=299) => TransferStep::Done(code),
            Some(code) if code >= 300 => TransferStep::Failed(Some(code)),
            Some(code) if !over => TransferStep::Progress(code),
            Some(_) | None if over => TransferStep::Failed(None),
            Some(_) | None => return,
        };
        self.tell_news(DialogKey(call.key), CallNews::Transfer(step));
    }

    /// Takes in that the other side asks us to call somebody.
    pub(super) fn handle_refer(
        &mut self,
        now: Instant,
        from: Hop,
        key: ServerKey,
        call: &mut Call,
        request: Request,
    ) {
        // Whoever may send us elsewhere may make us pay for it, so it is off unless it was asked for.
        if !self.config.accept_refer {
            self.stats.refused += 1;
            self.answer(now, from, key, request, Answer { code: 603, phrase: "Decline", headers: &[] });
            return;
        }
        let number = request.headers.cseq().map(|cseq| cseq.number).unwrap_or_default();
        let target = request.headers.get("Refer-To").and_then(|text| NameAddr::parse(text).ok());
        let (Some(mut target), 1) = (target, request.headers.all("Refer-To").count()) else {
            let answer = Answer { code: 400, phrase: "Refer-To is missing or unreadable", headers: &[] };
            self.answer(now, from, key, request, answer);
            return;
        };
        let Phase::Up(up) = &mut call.phase else {
            self.answer(now, from, key, request, NO_SUCH_CALL);
            return;
        };
        if up.asked_transfer.is_some() {
            let busy = Answer { code: 491, phrase: "Request Pending", headers: &[] };
            self.answer(now, from, key, request, busy);
            return;
        }
        up.asked_transfer = Some(number);
        let replaces = target.uri.headers.take().and_then(|headers| {
            let value = headers.split('&').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.eq_ignore_ascii_case("Replaces").then(|| unescape(value))
            });
            value.and_then(|value| Replaces::parse(&value))
        });
        self.answer(now, from, key, request, Answer { code: 202, phrase: "Accepted", headers: &[] });
        self.notify(now, call, 100);
        let replaces = replaces.map(Box::new);
        let news = CallNews::TransferAsked { target: Box::new(target), replaces };
        self.tell_news(DialogKey(call.key), news);
    }

    /// Tells the other side how the call goes that it asked for; a final `code` ends that.
    ///
    /// # Errors
    /// When there is no such call, or nothing was asked for in it.
    pub fn report_transfer(&mut self, now: Instant, key: DialogKey, code: u16) -> Result<(), CommandError> {
        let Some(mut call) = self.calls.remove(&key.0) else { return Err(CommandError::UnknownCall) };
        let asked = matches!(&call.phase, Phase::Up(up) if up.asked_transfer.is_some());
        if asked {
            self.notify(now, &mut call, code);
        }
        self.put_back(call);
        if asked { Ok(()) } else { Err(CommandError::WrongState) }
    }

    fn notify(&mut self, now: Instant, call: &mut Call, code: u16) {
        let Phase::Up(up) = &mut call.phase else { return };
        let Some(id) = up.asked_transfer else { return };
        let mut request = up.dialog.next_request(Method::Notify);
        let to = up.dialog.next_hop(call.next_hop);
        let over = code >= 200;
        let state = if over { "terminated;reason=noresource" } else { "active;expires=180" };
        if over {
            up.asked_transfer = None;
        }
        request.headers.push("Contact", self.contact(to.transport).to_wire());
        request.headers.push("Event", format!("refer;id={id}"));
        request.headers.push("Subscription-State", state);
        request.headers.push("Content-Type", "message/sipfrag;version=2.0");
        request.headers.push("User-Agent", &self.config.user_agent);
        request.body = Bytes::from(format!("SIP/2.0 {code} {}\r\n", super::uas::phrase(code)));
        self.authorize(&call.credentials, &mut call.auth, &mut request);
        self.start(now, request, to, Purpose::Notify, Attempts::default());
    }

    // --- an INVITE that takes the place of a call ------------------------------------------------------------

    /// Looks up what an INVITE's Replaces names (RFC 3891 §3).
    pub(super) fn find_replaced(&self, from: Hop, headers: &Headers) -> Replaced {
        let Some(text) = headers.get("Replaces") else { return Replaced::Nothing };
        let alone = headers.all("Replaces").count() == 1 && headers.get("Join").is_none();
        let Some(replaces) = Replaces::parse(text).filter(|_| alone) else {
            return Replaced::No(400, "Unreadable Replaces");
        };
        // Looked at first: who may not do it does not learn which calls there are.
        let forbidden = Replaced::No(403, "Forbidden");
        if !self.config.may_replace.contains(&from.addr.ip()) {
            return forbidden;
        }
        let unknown = Replaced::No(481, "Call/Transaction Does Not Exist");
        let over = Replaced::No(603, "Decline");
        let Replaces { call_id, to_tag, from_tag, early_only } = replaces;
        let key = self.by_dialog.get(&(call_id.clone(), to_tag.clone()));
        let Some(call) = key.and_then(|key| self.calls.get(key)) else {
            return if self.ended.has(&call_id, &to_tag, &from_tag) { over } else { unknown };
        };
        if call.next_hop.addr.ip() != from.addr.ip() {
            return forbidden;
        }
        // A peer from before RFC 3261 has no tag, and is named by a zero.
        let is_peer = |dialog: &Dialog| {
            let tag = dialog.remote_tag();
            tag == from_tag || (tag.is_empty() && from_tag == "0")
        };
        match &call.phase {
            Phase::Up(up) if is_peer(&up.dialog) => {
                if early_only {
                    return Replaced::No(486, "Busy Here");
                }
                // Two may want the same call: the first to come has it.
                if self.is_being_replaced(call.key) { over } else { Replaced::Call(call.key) }
            }
            // An early dialog may be replaced at the end that began it.
            Phase::Calling(calling)
                if calling.withdrawn.is_none()
                    && calling.early.iter().any(|early| is_peer(&early.dialog)) =>
            {
                if self.is_being_replaced(call.key) { over } else { Replaced::Call(call.key) }
            }
            Phase::Leaving { dialog } if is_peer(dialog) => over,
            Phase::Lingering { .. } if self.ended.has(&call_id, &to_tag, &from_tag) => over,
            Phase::Up(_)
            | Phase::Calling(_)
            | Phase::Offered(_)
            | Phase::Leaving { .. }
            | Phase::Lingering { .. } => unknown,
        }
    }

    fn is_being_replaced(&self, key: u64) -> bool {
        self.calls.values().any(|call| matches!(&call.phase, Phase::Offered(o) if o.replaces == Some(key)))
    }
}

/// Reads the status line of a message/sipfrag body.
fn read_fragment(body: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(body);
    let first = text.lines().next()?.trim();
    let mut words = first.split_ascii_whitespace();
    if !words.next()?.eq_ignore_ascii_case("SIP/2.0") {
        return None;
    }
    words.next()?.parse().ok().filter(|code| (100..700).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_reads_back_as_written() {
        let text = "425928@bobster.example.org;to-tag=7743;from-tag=6472;early-only";
        let replaces = Replaces::parse(text).unwrap();
        assert_eq!(replaces.to_wire(), text);
        assert_eq!(Replaces::parse("a@b;to-tag=1"), None);
        assert_eq!(Replaces::parse(";to-tag=1;from-tag=2"), None);
    }

    #[test]
    fn a_fragment_is_read_by_its_first_line() {
        assert_eq!(read_fragment(b"SIP/2.0 180 Ringing\r\n"), Some(180));
        assert_eq!(read_fragment(b"SIP/2.0 603 Declined\r\nServer: x\r\n\r\n"), Some(603));
        assert_eq!(read_fragment(b""), None);
        assert_eq!(read_fragment(b"SIP/2.0 99"), None);
    }
}
