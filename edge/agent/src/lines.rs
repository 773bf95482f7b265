//! The box's lines: their common settings, and the report of how they are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tracing::info;
use trunkline_line::trunks::{TrunkStatus, TrunksConfig};
use trunkline_trace::Tracer;
use trunkline_wire::{LineKind, TrunkReport};

use crate::config::Config;
use crate::supervisor::Shared;

/// A trunk that comes and goes is not told of more often.
const REPORT_AT_MOST_EVERY: Duration = Duration::from_secs(2);

/// Returns what holds for all trunks.
///
/// # Errors
/// When a secret or a certificate of the telephones cannot be read.
pub(crate) fn config(config: &Config, tracer: Option<Tracer>) -> Result<TrunksConfig> {
    Ok(TrunksConfig {
        contact_user: config.box_id.to_string(),
        user_agent: concat!("Trunkline/", env!("CARGO_PKG_VERSION")).to_owned(),
        max_calls: config.channels as usize * 2 + 8,
        rtp_ports: config.rtp.ports.0.clone(),
        tracer,
        phones: config.phones_setup()?,
        ..TrunksConfig::default()
    })
}

/// Tells the cloud how the trunks are, now and whenever it changes.
pub(crate) async fn report(shared: Arc<Shared>) {
    let mut told = Vec::new();
    loop {
        let now: Vec<TrunkReport> = shared.trunks.status().iter().map(of_status).collect();
        if now != told {
            for trunk in now.iter().filter(|trunk| !told.contains(*trunk)) {
                info!(
                    trunk = trunk.name,
                    up = trunk.up,
                    registered = trunk.registered,
                    "Trunk: {}",
                    words(trunk)
                );
            }
            shared.uplink.set_trunks(now.clone());
            told = now;
        }
        tokio::time::sleep(REPORT_AT_MOST_EVERY).await;
        // Some changes come without a word, such as the end of a rest.
        let _ = tokio::time::timeout(Duration::from_secs(60), shared.trunks.changed()).await;
    }
}

pub(crate) fn of_status(status: &TrunkStatus) -> TrunkReport {
    TrunkReport {
        name: status.name.clone(),
        up: status.up,
        registered: status.registered,
        trouble: status.trouble.clone(),
        calls_per_second: Some(status.calls_per_second),
        kind: LineKind::Sip,
        channels: Some(status.channels),
        caller_ids: status.caller_ids.clone(),
        serves: status.serves.clone(),
    }
}

fn words(trunk: &TrunkReport) -> &str {
    match (trunk.up, trunk.trouble.as_str()) {
        (_, trouble) if !trouble.is_empty() => trouble,
        (true, _) => "it takes calls",
        (false, _) => "it takes no calls yet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_trunk_is_said_before_anything_else() {
        let trunk =
            |up, trouble: &str| TrunkReport { up, trouble: trouble.to_owned(), ..TrunkReport::default() };
        assert_eq!(
            words(&trunk(true, "TLS: the certificate has expired")),
            "TLS: the certificate has expired"
        );
        assert_eq!(words(&trunk(true, "")), "it takes calls");
        assert_eq!(words(&trunk(false, "")), "it takes no calls yet");
    }
}
