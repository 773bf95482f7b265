//! `[mosquitto]` of the cloud's configuration, and the configuration that Mosquitto itself is given.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use trunkline_wire::MAX_MESSAGE;

use super::rights;
use crate::config::read_private;

/// `[mosquitto]`: the broker is a Mosquitto, in the place of `[mqtt]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MosquittoConfig {
    /// Host and port of its listener.
    pub(crate) address: String,
    /// Who signed its certificate, PEM.
    pub(crate) ca: PathBuf,
    /// The cloud's own certificate, PEM; its common name is `cloud`.
    pub(crate) cert: PathBuf,
    /// Its private key, PEM, mode 0600.
    pub(crate) key: PathBuf,
}

/// Where it is, and what is spoken with it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Arc<ClientConfig>,
}

impl MosquittoConfig {
    /// Takes paths from the folder of the configuration.
    pub(crate) fn resolve(&mut self, base: &Path) {
        for path in [&mut self.ca, &mut self.cert, &mut self.key] {
            *path = base.join(&*path);
        }
    }

    /// Reads the certificates.
    pub(crate) fn load(&self) -> Result<Endpoint> {
        let (host, port) = self
            .address
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
            .with_context(|| format!("`mosquitto.address` = `{}`: write host:port", self.address))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).with_context(|| format!("`{}` (`mosquitto.ca`)", self.ca.display()))?;
        }
        let key = read_private("key of the cloud for Mosquitto", &self.key)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .with_context(|| format!("`{}` (`mosquitto.key`) is no key", self.key.display()))?;
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(&self.cert)?, key)
            .context("`mosquitto.cert` and `mosquitto.key` do not fit each other")?;
        let (host, address) = (host.to_owned(), self.address.clone());
        Ok(Endpoint { address, host, port, tls: Arc::new(tls) })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || format!("could not read the certificates in `{}`", path.display());
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .with_context(read)?
        .collect::<Result<_, _>>()
        .with_context(read)?;
    ensure!(!all.is_empty(), "there is no certificate in `{}`", path.display());
    Ok(all)
}

/// What Mosquitto's configuration is made of.
pub(crate) struct Written {
    /// Folder for it; Mosquitto writes there too.
    pub(crate) dir: PathBuf,
    /// Where boxes connect.
    pub(crate) listen: SocketAddr,
    /// Mosquitto's certificate and key, PEM, and who signs the certificates of boxes and of the cloud.
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) client_ca: PathBuf,
    /// As whom it runs when root starts it.
    pub(crate) user: String,
    /// Its plugin for rights.
    pub(crate) plugin: PathBuf,
}

/// Writes `mosquitto.conf` and, unless it is there, `rights.json`, which belongs to Mosquitto from then on.
///
/// # Errors
/// When a file is missing or cannot be written.
pub(crate) fn write(what: &Written) -> Result<PathBuf> {
    fs::create_dir_all(&what.dir).with_context(|| format!("could not make `{}`", what.dir.display()))?;
    let whole =
        |path: &Path| fs::canonicalize(path).with_context(|| format!("there is no `{}`", path.display()));
    let dir = whole(&what.dir)?;
    let rights = dir.join("rights.json");
    if !rights.exists() {
        put(&rights, &serde_json::to_string_pretty(&rights::first())?, 0o600)?;
    }
    let (cert, key, ca) = (whole(&what.cert)?, whole(&what.key)?, whole(&what.client_ca)?);
    let text = format!(
        "# Written by `trunkline-cloud mosquitto`. Who may speak is in rights.json, which the cloud changes through the
# plugin: boxes that are enrolled have rights below their own names, and nobody else has any.
user {user}
per_listener_settings false
allow_anonymous false
allow_zero_length_clientid false
plugin {plugin}
plugin_opt_config_file {rights}

listener {port} {ip}
certfile {cert}
keyfile {key}
cafile {ca}
tls_version tlsv1.2
require_certificate true
# The certificate's common name is the box.
use_identity_as_username true
# Or every answer to a turn waits 40 ms.
set_tcp_nodelay true

max_packet_size {packet}
max_inflight_messages 64
max_queued_messages 2000
max_keepalive 600
# Only the last word of each box is kept over a restart. What boxes say they keep until the cloud has committed it.
persistence true
persistence_location {dir}/
autosave_interval 60
persistent_client_expiration 1d
sys_interval 0
log_dest stderr
connection_messages false
",
        user = what.user,
        plugin = what.plugin.display(),
        rights = rights.display(),
        port = what.listen.port(),
        ip = what.listen.ip(),
        cert = cert.display(),
        key = key.display(),
        ca = ca.display(),
        packet = MAX_MESSAGE + 4 * 1024,
        dir = dir.display(),
    );
    let conf = dir.join("mosquitto.conf");
    put(&conf, &text, 0o644)?;
    Ok(conf)
}

fn put(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("could not write `{}`", path.display()))
}
