//! The peers of the tests, and what they need.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use trunkline_ports::free_port;

/// A peer's process, ended with the test.
pub(crate) struct Peer(pub(crate) Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    pub(crate) async fn is_content(&mut self) {
        for _ in 0..400 {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "the peer ended with {status}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the peer does not end");
    }
}

pub(crate) fn installed(program: &str, probe: &str, package: &str) -> bool {
    let found = Command::new(program).arg(probe).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        let demanded = std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref() == Ok("1");
        assert!(!demanded, "{program} is required and missing");
        println!("skipped: {program} is not installed (Debian package {package})");
    }
    found
}

pub(crate) async fn wait_for_listener(at: SocketAddr) {
    for _ in 0..200 {
        if TcpStream::connect(at).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody listens at {at}");
}

/// An authority and a certificate of it for the loopback address.
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) fn certificates() -> Certificates {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Certificates { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
}

/// Starts baresip with a certificate. It answers by itself; its TLS port is the one after its UDP port.
pub(crate) async fn baresip(
    folder: &Path,
    own: &Certificates,
    control: u16,
    (more_config, more_account): (&str, &str),
) -> Option<(Peer, SocketAddr)> {
    let account = format!("<sip:bare@127.0.0.1;transport=tls>;regint=0;answermode=auto{more_account}");
    let (peer, at) = baresip_as(folder, own, control, more_config, &account).await?;
    Some((peer, SocketAddr::new(at.ip(), at.port() + 1)))
}

/// Starts baresip with an account of its own; returns where it is reached over UDP.
pub(crate) async fn baresip_as(
    folder: &Path,
    own: &Certificates,
    control: u16,
    more_config: &str,
    account: &str,
) -> Option<(Peer, SocketAddr)> {
    if !installed("baresip", "-h", "baresip-core") {
        return None;
    }
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let path = |name: &str| folder.join(name);
    std::fs::write(path("own.pem"), format!("{}{}", own.certificate, own.key)).unwrap();
    std::fs::write(path("ca.pem"), &own.authority).unwrap();
    let folder = folder.display();
    let config = format!(
        "sip_listen {at}\nsip_certificate {folder}/own.pem\nsip_cafile {folder}/ca.pem\naudio_player aubridge,loop\n\
         audio_source aubridge,loop\naudio_alert aubridge,alert\nmodule_path /usr/lib/baresip/modules\n\
         module g711.so\nmodule aubridge.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
         ctrl_tcp_listen 127.0.0.1:{control}\n{more_config}\n"
    );
    std::fs::write(path("config"), config).unwrap();
    std::fs::write(path("accounts"), format!("{account}\n")).unwrap();
    std::fs::write(path("contacts"), "").unwrap();
    let log = std::fs::File::create(path("log")).unwrap();
    let mut command = Command::new("baresip");
    command.arg("-f").arg(path("")).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let peer = Peer(command.spawn().unwrap());
    wait_for_listener(SocketAddr::from(([127, 0, 0, 1], control))).await;
    Some((peer, at))
}
