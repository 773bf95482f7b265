//! `[phones]` and `[[phone]]` of `edge.toml`: the telephones of the office that register at the box.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use trunkline_line::trunks::PhonesSetup;
use trunkline_model::BoxId;
use trunkline_sip::RegistrarConfig;
use trunkline_sip::digest::{Algorithm, Credentials};

use trunkline_edge::{check_secret, read_secret, tls_server};

/// Telephones that a box has at most.
const MAX_PHONES: usize = 200;

/// `[phones]`: where telephones register.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phones {
    /// Our address for them, over UDP and TCP; not one that a trunk uses.
    bind: SocketAddr,
    /// Where they register over TLS, with `cert` and `key`.
    tls: Option<SocketAddr>,
    /// Our certificate for TLS …
    cert: Option<PathBuf>,
    /// … and its key, mode 0600.
    key: Option<PathBuf>,
    /// The realm of their passwords; the box's name by default.
    realm: Option<String>,
    /// What is offered to prove a password, best first: `sha-256`, `md5`. Some old telephones stop at one that they do
    /// not know.
    #[serde(default = "both")]
    digest: Vec<DigestName>,
}

/// `[[phone]]`: one user, with one telephone or a few.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phone {
    /// Its user, such as `201`.
    pub(crate) user: String,
    /// File with the password, mode 0600.
    password_file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum DigestName {
    #[serde(rename = "sha-256")]
    Sha256,
    #[serde(rename = "md5")]
    Md5,
}

fn both() -> Vec<DigestName> {
    vec![DigestName::Sha256, DigestName::Md5]
}

/// Takes relative paths from where the file lies.
pub(crate) fn resolve(phones: &mut Option<Phones>, phone: &mut [Phone], base: &Path) {
    let own = phones.iter_mut().flat_map(|phones| [&mut phones.cert, &mut phones.key]).flatten();
    for path in own.chain(phone.iter_mut().map(|phone| &mut phone.password_file)) {
        *path = base.join(&path);
    }
}

/// Says what is wrong with the telephones.
pub(crate) fn check(phones: Option<&Phones>, phone: &[Phone]) -> Result<()> {
    let Some(phones) = phones else {
        if phone.is_empty() {
            return Ok(());
        }
        bail!("[[phone]] needs [phones] with bind, the address at which telephones register");
    };
    if phones.bind.ip().is_unspecified() || phones.tls.is_some_and(|tls| tls.ip().is_unspecified()) {
        bail!("[phones] bind and tls must be the address that the telephones see, not the wildcard");
    }
    if phones.tls.is_some() != phones.cert.is_some() || phones.cert.is_some() != phones.key.is_some() {
        bail!("[phones] tls, cert and key belong together: give all or none");
    }
    if phones.digest.is_empty() {
        bail!("[phones] digest is empty: name at least one of sha-256 and md5");
    }
    if phone.len() > MAX_PHONES {
        bail!("there are {} [[phone]]s: a box has {MAX_PHONES} at most", phone.len());
    }
    let mut seen = BTreeSet::new();
    for phone in phone {
        let user = &phone.user;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if user.is_empty() || user.len() > 32 || !user.chars().all(plain) {
            bail!("[[phone]] user = `{user}`: write 1 to 32 letters, digits, dots, dashes");
        }
        if !seen.insert(user) {
            bail!(
                "two [[phone]]s have the user `{user}`: several telephones register as one user, with one password"
            );
        }
        check_secret(&phone.password_file)?;
    }
    Ok(())
}

/// Reads certificate and passwords, and returns what the line needs.
pub(crate) fn setup(phones: Option<&Phones>, phone: &[Phone], own: &BoxId) -> Result<Option<PhonesSetup>> {
    let Some(phones) = phones else { return Ok(None) };
    let users = phone
        .iter()
        .map(|phone| {
            let password = read_secret(&phone.password_file)?;
            Ok(Credentials::new(&phone.user, password))
        })
        .collect::<Result<Vec<_>>>()?;
    let realm = phones.realm.clone().unwrap_or_else(|| own.to_string());
    let mut registrar = RegistrarConfig::new(realm, users);
    registrar.algorithms = phones
        .digest
        .iter()
        .map(|name| match name {
            DigestName::Sha256 => Algorithm::SHA256,
            DigestName::Md5 => Algorithm::MD5,
        })
        .collect();
    let tls = match (phones.tls, &phones.cert, &phones.key) {
        (Some(at), Some(cert), Some(key)) => {
            check_secret(key).context("[phones] key")?;
            Some((at, tls_server(cert, key).context("[phones]")?))
        }
        (Some(_) | None, _, _) => None,
    };
    Ok(Some(PhonesSetup { bind: phones.bind, tls, registrar }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        phones: Option<Phones>,
        #[serde(default)]
        phone: Vec<Phone>,
    }

    fn read(text: &str) -> Result<Option<PhonesSetup>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("201.password"), "secret\n").unwrap();
        std::fs::set_permissions(dir.path().join("201.password"), std::fs::Permissions::from_mode(0o600))
            .unwrap();
        let mut file: File = toml::from_str(text)?;
        resolve(&mut file.phones, &mut file.phone, dir.path());
        check(file.phones.as_ref(), &file.phone)?;
        setup(file.phones.as_ref(), &file.phone, &"tl-a".parse().unwrap())
    }

    const PHONES: &str = "[phones]\nbind = \"192.0.2.1:5062\"\n";
    const PHONE: &str = "[[phone]]\nuser = \"201\"\npassword_file = \"201.password\"\n";

    #[test]
    fn telephones_are_read_with_their_passwords() {
        assert!(read("").unwrap().is_none());
        let setup = read(&format!("{PHONES}{PHONE}")).unwrap().unwrap();
        assert_eq!((setup.registrar.realm.as_str(), setup.registrar.users[0].user()), ("tl-a", "201"));
        assert_eq!(setup.registrar.algorithms, [Algorithm::SHA256, Algorithm::MD5]);
        assert!(setup.tls.is_none());
    }

    #[test]
    fn a_mistake_is_named() {
        for (text, named) in [
            (PHONE.to_owned(), "needs [phones]"),
            ("[phones]\nbind = \"0.0.0.0:5062\"\n".to_owned(), "wildcard"),
            (format!("{PHONES}tls = \"192.0.2.1:5063\"\n"), "belong together"),
            (format!("{PHONES}digest = []\n"), "digest is empty"),
            (format!("{PHONES}digests = []\n"), "digests"),
            (format!("{PHONES}{PHONE}{PHONE}"), "two [[phone]]s"),
            (format!("{PHONES}{}", PHONE.replace("\"201\"", "\"2 1\"")), "letters, digits"),
            (format!("{PHONES}{}", PHONE.replace("201.password", "gone")), "gone"),
        ] {
            let error = format!("{:#}", read(&text).unwrap_err());
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
