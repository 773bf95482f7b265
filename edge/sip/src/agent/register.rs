//! Keeping one binding at a registrar (RFC 3261 §10).

use std::time::{Duration, Instant};

use rand::Rng;

use super::UserAgent;
use super::config::{CommandError, RegisterRequest};
use super::event::{Failure, FailureCause, SipEvent};
use super::tables::{Owner, Purpose};
use crate::digest::{Attempts, ClientAuth, Credentials};
use crate::message::{Headers, Hop, Method, NameAddr, Response};

/// The binding and where it stands.
#[derive(Debug)]
pub(super) struct Registration {
    request: RegisterRequest,
    next_hop: Hop,
    credentials: Option<Credentials>,
    call_id: String,
    from: NameAddr,
    cseq: u32,
    auth: ClientAuth,
    /// The REGISTER under way.
    tx: Option<u64>,
    /// When to send the next one.
    next_at: Option<Instant>,
    /// Failures in a row, for the back-off.
    failures: u32,
    leaving: bool,
}

/// A binding is asked for between one minute and one day.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(86_400);
/// The back-off starts here, doubles, and stops growing at the second.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(300);

impl UserAgent {
    /// Makes a binding and keeps it fresh; [`SipEvent::Registered`] or [`SipEvent::RegistrationFailed`] follows
    /// each time. A binding made before with the same [`RegisterRequest::trunk`] is replaced.
    ///
    /// # Errors
    /// When nothing says where to send it.
    pub fn register(&mut self, now: Instant, mut request: RegisterRequest) -> Result<(), CommandError> {
        let next_hop = match request.next_hop {
            Some(hop) => hop,
            None => self.route(&request.registrar, None, None)?,
        };
        request.expires = request.expires.clamp(SHORTEST, LONGEST);
        let from = NameAddr::new(request.aor.clone()).with_tag(&self.token(8));
        let trunk = request.trunk;
        let credentials = request.account.as_ref().and_then(|account| account.credentials.clone());
        let registration = Registration {
            request,
            next_hop,
            credentials,
            call_id: self.token(16),
            from,
            cseq: 0,
            auth: ClientAuth::default(),
            tx: None,
            next_at: None,
            failures: 0,
            leaving: false,
        };
        self.registrations.insert(trunk, registration);
        self.send_register(now, trunk);
        Ok(())
    }

    /// Takes every binding back; one [`SipEvent::Unregistered`] for each follows, whether or not the registrar answers.
    pub fn unregister(&mut self, now: Instant) {
        let trunks: Vec<u16> = self.registrations.keys().copied().collect();
        for trunk in trunks {
            if let Some(registration) = self.registrations.get_mut(&trunk) {
                registration.leaving = true;
                self.send_register(now, trunk);
            }
        }
    }

    fn send_register(&mut self, now: Instant, trunk: u16) {
        let Some(mut registration) = self.registrations.remove(&trunk) else { return };
        registration.cseq += 1;
        registration.next_at = None;
        let to = NameAddr::new(registration.request.aor.clone());
        let (uri, from, number) =
            (registration.request.registrar.clone(), registration.from.clone(), registration.cseq);
        let mut request = self.request(Method::Register, uri, from, to, registration.next_hop, number);
        let expires = if registration.leaving { Duration::ZERO } else { registration.request.expires };
        request.headers.set("Call-ID", &registration.call_id);
        request.headers.push("Expires", expires.as_secs().to_string());
        self.authorize(&registration.credentials, &mut registration.auth, &mut request);
        let purpose = Purpose::Register(trunk);
        registration.tx = Some(self.start(now, request, registration.next_hop, purpose, Attempts::default()));
        self.registrations.insert(trunk, registration);
        self.rearm_registration(trunk);
    }

    pub(super) fn handle_register_response(
        &mut self,
        now: Instant,
        trunk: u16,
        id: u64,
        response: &Response,
    ) {
        let Some(mut registration) = self.registrations.remove(&trunk) else { return };
        if registration.tx != Some(id) {
            self.registrations.insert(trunk, registration);
            return;
        }
        match response.code {
            200..=299 => {
                registration.tx = None;
                registration.failures = 0;
                if registration.leaving {
                    self.tell(SipEvent::Unregistered);
                    return;
                }
                let expires = self.granted(&registration, &response.headers);
                // Refresh between 70 % and 90 % of the way, so that a fleet does not come all at once.
                let share = self.rng.random_range(0.7..0.9);
                registration.next_at = Some(now + expires.mul_f64(share));
                self.registrations.insert(trunk, registration);
                self.rearm_registration(trunk);
                self.tell(SipEvent::Registered { trunk, expires });
            }
            401 | 407 => {
                let number = registration.cseq + 1;
                let retried = self.retry_with_credentials(
                    now,
                    id,
                    &registration.credentials,
                    &mut registration.auth,
                    response,
                    number,
                );
                match retried {
                    Some(tx) => {
                        registration.cseq = number;
                        registration.tx = Some(tx);
                        self.registrations.insert(trunk, registration);
                    }
                    None => {
                        self.registrations.insert(trunk, registration);
                        self.handle_register_failure(
                            now,
                            trunk,
                            id,
                            Failure::of_response(response, true),
                            None,
                        );
                    }
                }
            }
            423 => {
                let wanted = response.headers.get("Min-Expires").and_then(|text| text.trim().parse().ok());
                let wanted = wanted.map(Duration::from_secs).unwrap_or_default();
                let longer = wanted > registration.request.expires && wanted <= LONGEST;
                if longer {
                    registration.request.expires = wanted;
                }
                self.registrations.insert(trunk, registration);
                if longer {
                    self.send_register(now, trunk);
                } else {
                    self.handle_register_failure(now, trunk, id, Failure::of_response(response, false), None);
                }
            }
            _ => {
                self.registrations.insert(trunk, registration);
                let sent_credentials = self.clients.get(id).is_some_and(|client| client.attempts.any());
                let after = response.headers.get("Retry-After").and_then(|text| {
                    let digits = text.trim().split(|c: char| !c.is_ascii_digit()).next()?;
                    digits.parse().ok().map(|s| Duration::from_secs(s).clamp(FIRST_RETRY, LAST_RETRY))
                });
                self.handle_register_failure(
                    now,
                    trunk,
                    id,
                    Failure::of_response(response, sent_credentials),
                    after,
                );
            }
        }
    }

    /// Returns how long the registrar keeps our binding: as our Contact says, else Expires, else as asked.
    fn granted(&self, registration: &Registration, headers: &Headers) -> Duration {
        let ours = self.contact(registration.next_hop.transport).uri;
        let mut contacts = headers.list("Contact").filter_map(|text| NameAddr::parse(text).ok());
        let of_contact = contacts
            .find(|contact| {
                contact.uri.user == ours.user
                    && contact.uri.host == ours.host
                    && contact.uri.port == ours.port
            })
            .and_then(|contact| contact.params.get("expires"));
        let granted = of_contact.or_else(|| headers.get("Expires").map(str::to_owned));
        let granted = granted.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        granted.unwrap_or(registration.request.expires).clamp(Duration::from_secs(10), LONGEST)
    }

    pub(super) fn handle_register_failure(
        &mut self,
        now: Instant,
        trunk: u16,
        id: u64,
        failure: Failure,
        retry_after: Option<Duration>,
    ) {
        let Some(registration) = self.registrations.get_mut(&trunk) else { return };
        if registration.tx != Some(id) {
            return;
        }
        registration.tx = None;
        if registration.leaving {
            self.registrations.remove(&trunk);
            self.rearm_registration(trunk);
            self.tell(SipEvent::Unregistered);
            return;
        }
        let doubled = FIRST_RETRY * (1 << registration.failures.min(6));
        registration.failures += 1;
        // A wrong password will not become right in seconds, and some registrars lock out who insists.
        let base = match failure.cause {
            FailureCause::Unauthorized | FailureCause::Forbidden | FailureCause::NotFound => LAST_RETRY,
            FailureCause::Busy
            | FailureCause::NoAnswer
            | FailureCause::Declined
            | FailureCause::NotAcceptable
            | FailureCause::Unreachable
            | FailureCause::ServerError
            | FailureCause::Cancelled
            | FailureCause::Protocol => retry_after.unwrap_or(doubled.min(LAST_RETRY)),
        };
        let retry_in = base.mul_f64(self.rng.random_range(0.8..1.2));
        registration.next_at = Some(now + retry_in);
        self.rearm_registration(trunk);
        self.tell(SipEvent::RegistrationFailed { trunk, failure, retry_in: Some(retry_in) });
    }

    pub(super) fn handle_registration_timeout(&mut self, now: Instant, trunk: u16) {
        match self.registrations.get(&trunk) {
            Some(registration) if registration.next_at.is_some_and(|at| now >= at) => {
                self.send_register(now, trunk);
            }
            _ => self.rearm_registration(trunk),
        }
    }

    /// A connection to `at` is gone: what was bound over it is not reached any more, so that it is bound anew soon.
    pub(super) fn renew_registrations_at(&mut self, now: Instant, at: Hop) {
        if at.transport == crate::message::Transport::Udp {
            return;
        }
        let idle = |registration: &Registration| {
            // What failed already is tried again in its own time.
            let holds = registration.tx.is_none() && registration.failures == 0;
            registration.next_hop == at && holds && !registration.leaving
        };
        let trunks: Vec<u16> =
            self.registrations.iter().filter(|(_, r)| idle(r)).map(|(id, _)| *id).collect();
        for trunk in trunks {
            let soon = now + FIRST_RETRY.mul_f64(self.rng.random_range(0.8..2.0));
            if let Some(registration) = self.registrations.get_mut(&trunk) {
                registration.next_at = Some(registration.next_at.map_or(soon, |at| at.min(soon)));
            }
            self.rearm_registration(trunk);
        }
    }

    fn rearm_registration(&mut self, trunk: u16) {
        let at = self.registrations.get(&trunk).and_then(|registration| registration.next_at);
        self.alarms.set(Owner::Registration(trunk), at.map(|at| (at, "registration")));
    }
}
