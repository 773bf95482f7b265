//! Keys as the command line names them: a file, or a `pkcs11:` URI of a key on a token.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use trunkctl::setup;
use trunkline_token::{TokenKey, TokenUri};
use trunkline_trust::{FileKey, PublicKey, Signer, is_plain_name};

/// What is said of keys at the end of `--help`.
pub(crate) const HELP: &str = "\
Keys on a token (PKCS#11, Ed25519 by CKM_EDDSA), in quotes, in the words of RFC 7512:
  trunkctl release key 'pkcs11:token=anna;object=root-anna?module-path=/usr/lib/softhsm/libsofthsm2.so'
  trunkctl release sign --key 'pkcs11:token=anna;object=root-anna?module-path=/usr/lib/softhsm/libsofthsm2.so'
  export TRUNKLINE_PKCS11_MODULE=/usr/lib/softhsm/libsofthsm2.so    # then the URI is shorter
  trunkctl release sign --key 'pkcs11:token=anna;object=root-anna'
The PIN is asked for at the terminal, or read from a file with `pin-source=file:/media/stick/pin` (mode 0600). A wrong one
is tried once only.

Exit status: 0 done, 1 failed or refused, 2 misused.";

/// Opens a private key for signing.
pub(crate) fn open(place: &Path) -> Result<Box<dyn Signer>> {
    Ok(match token_uri(place)? {
        Some(uri) => Box::new(TokenKey::open(&uri, &mut ask)?),
        None => Box::new(read_file(place)?),
    })
}

/// Reads a public key: a file as [`make`] writes it, or the one of a token.
pub(crate) fn read_public(place: &Path) -> Result<PublicKey> {
    if let Some(uri) = token_uri(place)? {
        return Ok(TokenKey::public_of(&uri, &mut ask)?);
    }
    let text = fs::read_to_string(place).with_context(|| format!("cannot read {}", place.display()))?;
    PublicKey::from_hex(text.trim()).with_context(|| format!("{} is no public key", place.display()))
}

/// Makes a key in a file or on a token, and writes its public half into a file.
pub(crate) fn make(place: &Path, public: Option<PathBuf>, json: bool) -> Result<()> {
    let uri = token_uri(place)?;
    let public = match (public, &uri) {
        (Some(public), _) => public,
        (None, None) => with_pub(place),
        (None, Some(uri)) => match &uri.object {
            Some(label) if is_plain_name(label) => with_pub(Path::new(label)),
            _ => bail!("say with --public FILE where the public half of this key goes"),
        },
    };
    for file in [Some(public.as_path()), uri.is_none().then_some(place)].into_iter().flatten() {
        if file.exists() {
            bail!("{} is there already", file.display());
        }
    }
    let key = match &uri {
        Some(uri) => TokenKey::generate(uri, &mut ask)?.public(),
        None => make_file(place)?,
    };
    setup::write(&public, &format!("{}\n", key.to_hex()), 0o644)?;
    let name = uri.map_or_else(|| place.display().to_string(), |uri| uri.to_string());
    if json {
        println!("{}", json!({ "key": key.id(), "file": name, "public": public }));
    } else {
        println!("{}  {name}", key.id());
    }
    Ok(())
}

/// Prints the public half as [`make`] writes it; the id that people compare goes to standard error.
pub(crate) fn print_public(place: &Path, json: bool) -> Result<()> {
    let key = match token_uri(place)? {
        Some(uri) => TokenKey::public_of(&uri, &mut ask)?,
        None => read_file(place)?.public(),
    };
    if json {
        println!("{}", json!({ "key": key.id(), "public": key.to_hex() }));
    } else {
        eprintln!("key id {}", key.id());
        println!("{}", key.to_hex());
    }
    Ok(())
}

/// Returns the URI that is meant, if one is. A file whose name begins so is given as `./pkcs11:…`.
fn token_uri(place: &Path) -> Result<Option<TokenUri>> {
    match place.to_str().filter(|text| TokenUri::is_meant(text)) {
        // The text itself is not repeated: somebody may have put a PIN into it.
        Some(text) => Ok(Some(text.parse().context("the URI of the key is not understood")?)),
        None => Ok(None),
    }
}

fn make_file(file: &Path) -> Result<PublicKey> {
    let pkcs8 = FileKey::generate()?;
    let key = FileKey::from_pkcs8(&pkcs8)?;
    let text = STANDARD.encode(&pkcs8);
    setup::write(file, &format!("{PEM_BEGIN}\n{text}\n{PEM_END}\n"), 0o600)?;
    Ok(key.public())
}

fn read_file(file: &Path) -> Result<FileKey> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let body: String = text.lines().map(str::trim).filter(|line| !line.starts_with("-----")).collect();
    let bytes = STANDARD.decode(body).with_context(|| format!("{} is no key", file.display()))?;
    FileKey::from_pkcs8(&bytes).with_context(|| format!("{} is no key", file.display()))
}

fn with_pub(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Asks at the terminal and does not show what is typed.
fn ask(prompt: &str) -> io::Result<String> {
    let mut terminal = console::Term::stderr();
    if !terminal.is_term() {
        return Err(io::Error::other("standard error is no terminal"));
    }
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    terminal.read_secure_line()
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
