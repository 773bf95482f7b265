//! A box whose key is in a TPM (swtpm, Debian's package of that name): it joins, links, renews and comes back.

use std::fs;
use std::sync::Arc;

use reqwest::StatusCode;
use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use trunkline_keeper::{Cloud, Identity, KeyConfig, KeyStore};
use trunkline_tpm::swtpm::Swtpm;

use crate::fleet::{TestBox, seen, site};
use crate::harness::Site;

/// TLS as the program for calls has it: by the files that the keeper left for it, one of which names the TPM.
fn tls(site: &Site, new: &TestBox) -> Arc<rustls::ClientConfig> {
    #[derive(Debug)]
    struct Own(Arc<CertifiedKey>);
    impl ResolvesClientCert for Own {
        fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    let dir = new.config.identity_dir();
    let chain = CertificateDer::pem_file_iter(dir.join("box.pem")).unwrap();
    let key = trunkline_keeper::tls_key(&dir.join("key.tpm")).unwrap();
    let own = CertifiedKey::new(chain.collect::<Result<_, _>>().unwrap(), key);
    own.keys_match().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(site.ca.cert.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
    Arc::new(builder.with_client_cert_resolver(Arc::new(Own(Arc::new(own)))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_whose_key_is_in_a_tpm_joins_links_renews_and_comes_back_after_a_restart_of_both() {
    let site = site();
    let state = site.dir.path().join("tpm");
    fs::create_dir(&state).unwrap();
    let Some(swtpm) = Swtpm::start(&state).unwrap() else { return };
    let cloud = site.start();
    let mut new = TestBox::new(&site, &cloud, "box");
    new.config.key = KeyConfig { store: KeyStore::Tpm, device: Some(swtpm.device().into()), handle: None };
    let keeping = new.start(None);
    new.join(&cloud).await;
    keeping.stop().await;
    let keeping = new.start(None);
    let path = format!("/v1/boxes/{}", new.id());
    let first = seen(&cloud, &path, "linked", |shown| shown["seen"].is_string()).await;

    // The other program of the box, at the same time, over HTTPS.
    let client = reqwest::Client::builder().tls_backend_preconfigured((*tls(&site, &new)).clone()).no_proxy();
    let root =
        client.build().unwrap().get(cloud.url("/box/v1/repo/metadata/1.root.json")).send().await.unwrap();
    assert_eq!(root.status(), StatusCode::OK);

    // A renewal keeps the key, and so the name.
    let dir = new.config.identity_dir();
    let identity = Identity::open(&dir, &new.config.key).unwrap();
    let old = identity.certificate().unwrap().unwrap();
    let box_api = Cloud::new(&format!("https://{}", cloud.api), &tls(&site, &new)).unwrap();
    let renewed = box_api.renew(&identity.new_request().unwrap()).await.unwrap().certificate.unwrap();
    assert_ne!(renewed, old);
    identity.save_certificate(&renewed).unwrap();
    keeping.stop().await;

    drop(swtpm);
    let without = Identity::open(&dir, &new.config.key).unwrap_err().to_string();
    assert!(without.contains("does not answer"), "{without}");
    let swtpm = Swtpm::start(&state).unwrap().unwrap();
    let keeping = new.start(None);
    seen(&cloud, &path, "linked again", |shown| shown["seen"].as_str() > first["seen"].as_str()).await;
    keeping.stop().await;

    assert!(!dir.join("key.pem").exists());
    for file in fs::read_dir(&dir).unwrap() {
        let text = fs::read(file.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains("PRIVATE KEY"));
    }
    swtpm.clear().unwrap();
    let gone = Identity::open(&dir, &new.config.key).unwrap_err().to_string();
    assert!(gone.contains("join as a new one"), "{gone}");
}
