//! Delivers callbacks from the spool, signed as Standard Webhooks asks, in order per call.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use ring::hmac;
use tokio::task::JoinSet;
use trunkline_db::{AttemptResult, Db, DbError, Delivery};

use crate::dispatch::{Chain, signed};
use crate::targets::{check_target, is_public};
use crate::{Hub, Stop, Wakers};

/// How many callbacks are under way at once.
const AT_ONCE: usize = 16;
const IDLE: Duration = Duration::from_secs(5);

/// How callbacks are signed and repeated.
#[derive(Clone)]
pub struct CallbackConfig {
    /// The secret shared with the receiver.
    pub secret: Vec<u8>,
    /// Private and local addresses are called too.
    pub allow_private: bool,
    /// Pause after the first failure; it doubles from there.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// After this time a callback is given up.
    pub give_up_after: Duration,
    /// A receiver at which every attempt has failed for so long is disabled.
    pub disable_after: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl CallbackConfig {
    /// Returns the usual pauses: 5 s doubling to an hour, for a day.
    pub fn new(secret: Vec<u8>, allow_private: bool) -> Self {
        Self {
            secret,
            allow_private,
            first_pause: Duration::from_secs(5),
            longest_pause: Duration::from_secs(3_600),
            give_up_after: Duration::from_secs(24 * 3_600),
            disable_after: Duration::from_secs(12 * 3_600),
            timeout: Duration::from_secs(15),
        }
    }
}

/// Why the text of a secret is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a callback secret is written whsec_ and then 24 to 64 bytes in base64")]
pub struct SecretError;

/// Reads a secret as Standard Webhooks writes it.
///
/// # Errors
/// [`SecretError`].
pub fn parse_secret(text: &str) -> Result<Vec<u8>, SecretError> {
    let secret = text.trim().strip_prefix("whsec_").ok_or(SecretError)?;
    let secret = STANDARD.decode(secret).map_err(|_| SecretError)?;
    if (24..=64).contains(&secret.len()) { Ok(secret) } else { Err(SecretError) }
}

/// Returns the value of `webhook-signature` for a message.
pub fn signature(secret: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

/// Returns the pause after the n-th failure (from 1): doubling, up to a limit, a fifth more or less
/// so that receivers which come back are not hit by everybody at once.
pub fn delay(config: &CallbackConfig, failures: u32, rng: &mut impl Rng) -> Duration {
    let doubled = config.first_pause.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(config.longest_pause).mul_f64(rng.random_range(0.8..=1.2))
}

/// Why the HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not set up the HTTP client for callbacks")]
pub struct ClientError(#[from] reqwest::Error);

/// Delivers what is in the spool.
pub struct Courier {
    db: Db,
    config: CallbackConfig,
    client: reqwest::Client,
    hub: Hub,
    wakers: Wakers,
}

impl Courier {
    /// Makes a courier.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(db: Db, config: CallbackConfig, hub: Hub, wakers: Wakers) -> Result<Self, ClientError> {
        let mut client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(config.timeout)
            .connect_timeout(config.timeout.min(Duration::from_secs(5)))
            .user_agent(concat!("trunkline/", env!("CARGO_PKG_VERSION")));
        if !config.allow_private {
            client = client.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Self { db, config, client: client.build()?, hub, wakers })
    }

    /// Delivers until told to stop. What is under way then is repeated after the next start.
    pub async fn run(self, mut stop: Stop) {
        let courier = Arc::new(self);
        let mut rng = StdRng::from_os_rng();
        let mut under_way: JoinSet<String> = JoinSet::new();
        let mut ids: BTreeSet<String> = BTreeSet::new();
        loop {
            let pause = match courier.start_due(&mut under_way, &mut ids, &mut rng).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "The spool of callbacks could not be read");
                    IDLE
                }
            };
            tokio::select! {
                () = courier.wakers.courier_woken() => {}
                () = tokio::time::sleep(pause) => {}
                Some(done) = under_way.join_next() => {
                    match done {
                        Ok(id) => { ids.remove(&id); }
                        Err(error) => {
                            tracing::error!(%error, "A delivery broke");
                            ids.clear();
                        }
                    }
                }
                () = stop.stopped() => return,
            }
        }
    }

    async fn start_due(
        self: &Arc<Self>,
        under_way: &mut JoinSet<String>,
        ids: &mut BTreeSet<String>,
        rng: &mut StdRng,
    ) -> Result<Duration, DbError> {
        let now = Timestamp::now();
        let limit = u32::try_from(2 * AT_ONCE).unwrap_or(u32::MAX);
        for delivery in self.db.due_callbacks(now, limit).await? {
            if under_way.len() >= AT_ONCE {
                return Ok(IDLE);
            }
            if ids.insert(delivery.id.clone()) {
                let courier = Arc::clone(self);
                let mut rng = StdRng::from_rng(rng);
                under_way.spawn(async move {
                    courier.attempt(&delivery, &mut rng).await;
                    delivery.id
                });
            }
        }
        let next = self.db.next_callback_at().await?;
        let wait =
            next.map_or(IDLE, |at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
        Ok(wait.clamp(Duration::from_millis(20), IDLE))
    }

    async fn attempt(&self, delivery: &Delivery, rng: &mut StdRng) {
        let sent = self.post(delivery, Timestamp::now()).await;
        let now = Timestamp::now();
        let result = judge(&self.config, delivery, sent, rng, now);
        match &result {
            AttemptResult::Delivered { status } => {
                tracing::info!(call.id = %delivery.call, kind = delivery.kind, status, "Callback delivered");
            }
            AttemptResult::Retry { status, error, at } => tracing::warn!(
                call.id = %delivery.call, kind = delivery.kind, ?status, error, next = %at,
                "Callback failed and is repeated"
            ),
            AttemptResult::GivenUp { status, error } => tracing::error!(
                call.id = %delivery.call, kind = delivery.kind, ?status, error, "Callback given up"
            ),
        }
        if let Err(error) = self.db.callback_attempted(delivery, &result, now).await {
            tracing::error!(error = %Chain(&error), "A callback's state was not kept; it may arrive twice");
        }
        let error = match &result {
            AttemptResult::Delivered { .. } => None,
            AttemptResult::Retry { error, .. } | AttemptResult::GivenUp { error, .. } => Some(error.as_str()),
        };
        let since = now.saturating_sub(signed(self.config.disable_after)).unwrap_or(Timestamp::MIN);
        match self.db.endpoint_attempted(&delivery.url, error, since, now).await {
            // The address may carry the receiver's own secrets: people see it through the API.
            Ok(true) => tracing::error!(
                call.id = %delivery.call,
                "ALERT: a receiver of callbacks has failed for too long and is disabled; GET /v1/callback-endpoints shows it"
            ),
            Ok(false) => {}
            Err(error) => tracing::error!(error = %Chain(&error), "A receiver's failures were not counted"),
        }
        self.hub.changed(delivery.call);
    }

    async fn post(&self, delivery: &Delivery, now: Timestamp) -> Result<u16, String> {
        let url = check_target(&delivery.url, self.config.allow_private).map_err(|e| e.to_string())?;
        let timestamp = now.as_second();
        let signature = signature(&self.config.secret, &delivery.id, timestamp, &delivery.payload);
        let response = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &delivery.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(delivery.payload.clone())
            .send()
            .await
            .map_err(|error| {
                // The address may carry the receiver's own secrets.
                Chain(&error.without_url()).to_string()
            })?;
        Ok(response.status().as_u16())
    }
}

/// Decides what an attempt's result means.
fn judge(
    config: &CallbackConfig,
    delivery: &Delivery,
    sent: Result<u16, String>,
    rng: &mut impl Rng,
    now: Timestamp,
) -> AttemptResult {
    let (status, error) = match sent {
        Ok(status) if (200..300).contains(&status) => return AttemptResult::Delivered { status },
        Ok(status) if (300..400).contains(&status) => {
            (Some(status), format!("the receiver answered {status}; redirects are not followed"))
        }
        Ok(status) => (Some(status), format!("the receiver answered {status}")),
        Err(error) => (None, error),
    };
    let pause = delay(config, delivery.attempts + 1, rng);
    let at = now.saturating_add(signed(pause)).unwrap_or(now);
    let waited: SignedDuration = at.duration_since(delivery.created_at);
    // 410 is the receiver's word that it wants no more (Standard Webhooks).
    if status == Some(410) || waited > signed(config.give_up_after) {
        AttemptResult::GivenUp { status, error }
    } else {
        AttemptResult::Retry { status, error, at }
    }
}

/// Resolves names to public addresses only, so that a name cannot lead inside either.
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> = found.into_iter().filter(|at| is_public(at.ip())).collect();
            if public.is_empty() {
                return Err("the name leads to private or local addresses only".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
