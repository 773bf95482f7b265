//! The cloud's figures on their way to a collector of OpenTelemetry: the section `[otlp]`.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use trunkline_api::OpenFiles;
use trunkline_db::Db;
use trunkline_figures::{OtlpConfig, Pusher, Resource};

/// Reads what the section names; nothing is sent yet.
pub(crate) fn pusher(config: &OtlpConfig) -> anyhow::Result<Pusher> {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5));
    let builder = match &config.ca {
        None => builder,
        Some(path) => {
            let pem =
                fs::read(path).with_context(|| format!("could not read `otlp.ca` `{}`", path.display()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("`otlp.ca` `{}` is no certificate", path.display()))?;
            builder.tls_certs_only(certificates)
        }
    };
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let who = Resource {
        service: "trunkline-cloud",
        instance: host.trim().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Ok(config.pusher(builder.build()?, who)?)
}

/// Pushes what `/metrics` shows, for ever.
pub(crate) async fn push(pusher: Pusher, db: Db, files: Arc<OpenFiles>) {
    let figures = || {
        let (db, files) = (db.clone(), Arc::clone(&files));
        async move {
            let now = Timestamp::now();
            let page = trunkline_api::figures(&db, &files, now).await.map_err(|error| error.to_string())?;
            Ok((page, now))
        }
    };
    trunkline_figures::push(pusher, figures).await;
}
