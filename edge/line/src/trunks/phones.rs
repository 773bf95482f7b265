//! The telephones of the office: an address of their own at which they register, and are called through.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_rustls::rustls::ServerConfig;
use trunkline_sip::{RegistrarConfig, UaConfig};

use super::{Proxy, Target, Trunk, TrunkSetup, Trunks, TrunksConfig, keeper};
use crate::media::RtpPorts;
use crate::sip::{Command, SipHandle, SipTransports, TlsSettings, start_with};

/// Where telephones register, and which.
#[derive(Clone, Debug)]
pub struct PhonesSetup {
    /// Our address for them, over UDP and TCP.
    pub bind: SocketAddr,
    /// Where TLS is heard, and with which certificate.
    pub tls: Option<(SocketAddr, Arc<ServerConfig>)>,
    /// Who they are.
    pub registrar: RegistrarConfig,
}

/// Opens the address for telephones. Calls go to them as over a trunk that nobody else uses.
pub(super) async fn start(
    config: &TrunksConfig,
    setup: &PhonesSetup,
    number: usize,
    told: mpsc::UnboundedSender<keeper::Told>,
) -> io::Result<(SipHandle, Trunk, RtpPorts)> {
    let configure = |local| {
        let mut ua = UaConfig::new(local);
        ua.contact_user.clone_from(&config.contact_user);
        ua.user_agent.clone_from(&config.user_agent);
        ua.max_calls = config.max_calls;
        ua.registrar = Some(setup.registrar.clone());
        ua
    };
    let tls = TlsSettings { server: setup.tls.clone(), ..TlsSettings::default() };
    let transports = SipTransports { tcp: true, tls };
    let events = super::forward(number, told);
    let agent = start_with(setup.bind, transports, configure, events).await.map_err(|error| {
        io::Error::new(error.kind(), format!("[phones] {} cannot be bound: {error}", setup.bind))
    })?;
    let local = agent.local();
    let proxy = Proxy { host: local.ip().to_string(), port: local.port() };
    let mut trunk = TrunkSetup::new("phones", proxy, local);
    trunk.user = Some(config.contact_user.clone());
    let trunk = Trunk { setup: trunk, agent: number, state: Default::default() };
    Ok((agent, trunk, RtpPorts::new(local.ip(), config.rtp_ports.clone())))
}

impl Trunks {
    /// Returns where the telephones of a user are that registered here, the preferred one first; none where none is
    /// registered, or none can.
    pub async fn phone(&self, user: &str) -> Vec<Target> {
        let Some(phones) = &self.shared.phones else { return Vec::new() };
        let (answer, found) = oneshot::channel();
        let user = user.to_owned();
        self.shared.agent(phones).send(Command::Bindings { user, answer });
        found.await.unwrap_or_default().into_iter().map(|binding| Target::Phone(Box::new(binding))).collect()
    }

    /// Returns the address at which telephones register, if they can.
    pub fn phones_local(&self) -> Option<SocketAddr> {
        self.shared.phones.as_ref().map(|phones| self.shared.agent(phones).local())
    }
}
