//! Keys, certificates and configurations for development: TLS from the first day.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// What `trunkctl setup` can be told.
#[derive(Args)]
pub struct Options {
    /// Folder for everything that is made; nothing that is there is overwritten.
    #[arg(long, default_value = "dev")]
    pub dir: PathBuf,
    /// The box's id: the common name of its certificate.
    #[arg(long = "box", default_value = "tl-dev")]
    pub box_id: String,
    /// Further names or addresses under which the cloud is reached.
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Folder with the scripts, written into the cloud's configuration.
    #[arg(long, default_value = "shared/scripts")]
    pub scripts: PathBuf,
    /// The SIP trunk, written into the box's configuration.
    #[arg(long, default_value = "127.0.0.1:5060")]
    pub trunk: String,
}

/// What `setup` leaves behind.
pub struct Made {
    /// The API token.
    pub token: String,
}

/// Makes keys, certificates, secrets and configurations, and says what they are for.
///
/// # Errors
/// When a file cannot be written, or only half a set is there.
pub fn run(options: &Options) -> Result<()> {
    make_keys(&options.dir, &options.box_id, &options.hosts)?;
    let scripts = fs::canonicalize(&options.scripts)
        .with_context(|| format!("there is no folder {}", options.scripts.display()))?;
    let cloud = cloud_toml(&scripts, "127.0.0.1:8443", "127.0.0.1:8883", "cloud", None);
    keep(&options.dir.join("cloud.toml"), &cloud, 0o644)?;
    let edge = edge_toml(&Edge {
        box_id: &options.box_id,
        data: "box",
        mqtt: "localhost:8883",
        api: "https://localhost:8443",
        trunk: &options.trunk,
        bind: "127.0.0.1:5062",
        channels: 2,
        extra_trunk: "",
        extra: "",
    });
    keep(&options.dir.join("edge.toml"), &edge, 0o644)?;
    println!("{} holds:", options.dir.display());
    for (name, what) in [
        ("ca.pem, ca.key", "the development authority; keep the key to yourself"),
        ("server.pem, server.key", "the cloud's certificate"),
        ("box.pem, box.key", "the box's certificate"),
        ("token", "the API token, as CRM developers send it"),
        ("tokens", "its hash, as the cloud keeps it"),
        ("callback.secret", "signs callbacks"),
        ("cloud.toml, edge.toml", "configurations that run on this machine"),
    ] {
        println!("  {name:<24} {what}");
    }
    println!(
        "\nNext: trunkline-cloud --config {0}/cloud.toml and trunkline-edge run --config {0}/edge.toml",
        options.dir.display()
    );
    Ok(())
}

/// Makes what is missing of keys, certificates and secrets.
///
/// # Errors
/// When a file cannot be written, or only half a set is there.
pub fn make_keys(dir: &Path, box_id: &str, hosts: &[String]) -> Result<Made> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let files = ["ca.pem", "ca.key", "server.pem", "server.key", "box.pem", "box.key"];
    let there = files.iter().filter(|name| dir.join(name).exists()).count();
    if there == 0 {
        make_certificates(dir, box_id, hosts)?;
    } else if there < files.len() {
        bail!(
            "{} holds only some of {}: remove them or choose another folder",
            dir.display(),
            files.join(", ")
        );
    }
    let token_file = dir.join("token");
    if !token_file.exists() {
        let token = format!("tl_{}", hex::encode(rand::random::<[u8; 24]>()));
        keep(&token_file, &format!("{token}\n"), 0o600)?;
    }
    let token = fs::read_to_string(&token_file)?.trim().to_owned();
    let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    keep(&dir.join("tokens"), &format!("development {}\n", hex::encode(hash)), 0o600)?;
    let secret = STANDARD.encode(rand::random::<[u8; 24]>());
    keep(&dir.join("callback.secret"), &format!("whsec_{secret}\n"), 0o600)?;
    Ok(Made { token })
}

fn make_certificates(dir: &Path, box_id: &str, hosts: &[String]) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Trunkline development authority");
    // Room for the boxes' authority below it.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?;
    keep(&dir.join("ca.pem"), &ca.pem(), 0o644)?;
    keep(&dir.join("ca.key"), &ca_key.serialize_pem(), 0o600)?;
    let issuer = Issuer::new(params, ca_key);

    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    names.extend(hosts.iter().cloned());
    let usage = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    for (name, common_name, names, usage) in
        [("server", "cloud", names, usage[0].clone()), ("box", box_id, Vec::new(), usage[1].clone())]
    {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &issuer)?;
        keep(&dir.join(format!("{name}.pem")), &cert.pem(), 0o644)?;
        keep(&dir.join(format!("{name}.key")), &key.serialize_pem(), 0o600)?;
    }
    Ok(())
}

/// The tokens of two people of a fleet.
pub struct People {
    /// `mei`, who works in a branch and claims boxes.
    pub branch: String,
    /// `li`, who works at headquarters and approves them.
    pub admin: String,
}

/// Makes the authority of the boxes below the development one, and tokens for two people.
///
/// # Errors
/// When a file cannot be written, or there is no development authority.
pub fn make_fleet_keys(dir: &Path) -> Result<People> {
    let read = |name: &str| {
        let path = dir.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem")?, KeyPair::from_pem(&read("ca.key")?)?)?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Trunkline development boxes");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let cert = params.signed_by(&key, &issuer)?;
    keep(&dir.join("fleet-ca.pem"), &cert.pem(), 0o644)?;
    keep(&dir.join("fleet-ca.key"), &key.serialize_pem(), 0o600)?;
    let mut tokens = read("tokens")?;
    let mut person = |name: &str| -> Result<String> {
        let token = format!("tl_{}", hex::encode(rand::random::<[u8; 24]>()));
        let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        tokens += &format!("{name} {}\n", hex::encode(hash));
        write(&dir.join(format!("token.{name}")), &format!("{token}\n"), 0o600)?;
        Ok(token)
    };
    let people = People { branch: person("mei")?, admin: person("li")? };
    write(&dir.join("tokens"), &tokens, 0o600)?;
    Ok(people)
}

/// The fleet's part of the cloud's configuration; keys and repository lie beside it.
pub(crate) const FLEET: &str = "
[fleet]
ca_cert = \"fleet-ca.pem\"
ca_key = \"fleet-ca.key\"
repo = \"repo\"
assign_key = \"assign\"
roles = { mei = \"branch\", li = \"fleet_admin\" }
";

/// Writes a file that is not there yet, with its mode from the first byte on.
fn keep(path: &Path, text: &str, mode: u32) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    write(path, text, mode)
}

/// Writes a file, with its mode from the first byte on.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Returns a configuration of the cloud; the keys lie beside it.
/// Returns a configuration of the cloud; `lab` names the box of a laboratory, which may call numbers kept for tests.
pub(crate) fn cloud_toml(scripts: &Path, api: &str, mqtt: &str, data: &str, lab: Option<&str>) -> String {
    let policy = lab.map_or_else(|| OPERATOR.to_owned(), lab_policy);
    format!(
        "data_dir = \"{data}\"\n\n[api]\nlisten = \"{api}\"\ncert = \"server.pem\"\nkey = \"server.key\"\n\
         client_ca = \"ca.pem\"\n\n[mqtt]\nlisten = \"{mqtt}\"\ncert = \"server.pem\"\nkey = \"server.key\"\n\
         client_ca = \"ca.pem\"\n\n[scripts]\ndir = \"{}\"\n\n[tokens]\nfile = \"tokens\"\n\n[callbacks]\n\
         secret_file = \"callback.secret\"\nallow_private = {}\n{policy}",
        scripts.display(),
        lab.is_some()
    )
}

/// The stage: its box's trunk is a simulated customer on a loopback, under numbers kept for tests.
fn lab_policy(box_id: &str) -> String {
    format!(
        "\n[policy.lab]\nnumbers = [\"+861380013\", \"+120255501\"]\nboxes = [\"{box_id}\"]\nsip = true\n"
    )
}

/// What an operator has to declare before real numbers are called; as written here nobody is.
const OPERATOR: &str = "
# The compliance gate calls nobody until you declare what stands behind your calls.
[policy]
retention_days = 0      # how long records are kept
subject_rights = false  # people get their data, and have it erased, on request
audio_label = false     # audio that leaves is labelled as artificial
# basis = { basis = \"contract\" }
";

/// What differs between configurations of a box.
pub(crate) struct Edge<'a> {
    pub(crate) box_id: &'a str,
    pub(crate) data: &'a str,
    pub(crate) mqtt: &'a str,
    pub(crate) api: &'a str,
    pub(crate) trunk: &'a str,
    pub(crate) bind: &'a str,
    pub(crate) channels: u32,
    pub(crate) extra_trunk: &'a str,
    pub(crate) extra: &'a str,
}

/// Returns a configuration of a box; the keys lie beside it.
pub(crate) fn edge_toml(edge: &Edge<'_>) -> String {
    format!(
        "box = \"{}\"\ndata_dir = \"{}\"\nchannels = {}\n\n[cloud]\nmqtt = \"{}\"\napi = \"{}\"\nca = \"ca.pem\"\n\
         cert = \"box.pem\"\nkey = \"box.key\"\n\n[trunk]\nproxy = \"{}\"\nbind = \"{}\"\n\
         caller_id = \"+862155550100\"\n{}\n{}",
        edge.box_id,
        edge.data,
        edge.channels,
        edge.mqtt,
        edge.api,
        edge.trunk,
        edge.bind,
        edge.extra_trunk,
        edge.extra
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn keys_are_made_once_and_only_their_owner_can_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let first = make_keys(dir.path(), "tl-a", &[]).unwrap();
        let ca = fs::read(dir.path().join("ca.pem")).unwrap();
        let second = make_keys(dir.path(), "tl-a", &[]).unwrap();
        assert_eq!(first.token, second.token);
        assert_eq!(ca, fs::read(dir.path().join("ca.pem")).unwrap());
        for name in ["ca.key", "server.key", "box.key", "token", "tokens", "callback.secret"] {
            let mode = fs::metadata(dir.path().join(name)).unwrap().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn half_a_set_of_certificates_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), "x").unwrap();
        assert!(make_keys(dir.path(), "tl-a", &[]).is_err());
    }
}
