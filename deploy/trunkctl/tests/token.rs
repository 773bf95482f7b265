//! Keys on a token that we did not write: SoftHSM (Debian's package `softhsm2`), by its PKCS#11 module.
//!
//! Without it the tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::Timestamp;
use serde_json::Value;
use tough::{FilesystemTransport, RepositoryLoader, TargetName};
use trunkline_trust::{Client, Envelope, PublicKey};

const MODULES: [&str; 2] =
    ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];

/// A folder with tokens in it, and commands that see them.
struct Hsm {
    dir: tempfile::TempDir,
    module: &'static str,
}

impl Hsm {
    /// Returns tokens with these labels; the PIN of each lies in the file `pin.LABEL`.
    fn with(tokens: &[&str]) -> Option<Self> {
        let there = MODULES.into_iter().find(|module| Path::new(module).exists());
        let Some(module) = there else {
            let demanded = std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref() == Ok("1");
            assert!(!demanded, "no SoftHSM: the peers are required here");
            println!("skipped: SoftHSM missing, run apt-get install softhsm2");
            return None;
        };
        let hsm = Self { dir: tempfile::tempdir().unwrap(), module };
        fs::create_dir(hsm.path().join("tokens")).unwrap();
        hsm.configure("");
        for label in tokens {
            hsm.secret(&format!("pin.{label}"), &pin(label));
            let made = hsm.softhsm(&["--init-token", "--free", "--label", label, "--pin", &pin(label)]);
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        Some(hsm)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn configure(&self, more: &str) {
        let tokens = self.path().join("tokens");
        let text = format!("directories.tokendir = {}\nlog.level = ERROR\n{more}", tokens.display());
        fs::write(self.path().join("softhsm2.conf"), text).unwrap();
    }

    fn softhsm(&self, args: &[&str]) -> Output {
        let mut command = Command::new("softhsm2-util");
        command.env("SOFTHSM2_CONF", self.path().join("softhsm2.conf"));
        command.args(args).args(["--so-pin", "12345678"]).output().unwrap()
    }

    fn secret(&self, name: &str, text: &str) {
        let mut options = fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(self.path().join(name)).unwrap();
        file.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    /// Returns the URI of a key whose PIN is in the file of its token.
    fn key(&self, token: &str, object: &str) -> String {
        let pin = self.path().join(format!("pin.{token}"));
        format!("pkcs11:token={token};object={object}?pin-source=file:{}", pin.display())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkctl"));
        command.current_dir(self.path()).env("SOFTHSM2_CONF", self.path().join("softhsm2.conf"));
        command.env("TRUNKLINE_PKCS11_MODULE", self.module);
        command
    }

    fn call(&self, args: &[&str]) -> Output {
        self.command().args(args).stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, args: &[&str]) -> String {
        let done = self.call(args);
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Returns why it was refused; no PIN stands in it.
    fn refused(&self, args: &[&str]) -> String {
        let done = self.call(args);
        assert_eq!(done.status.code(), Some(1), "{args:?}");
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(!said.contains(&pin("anna")) && !said.contains("774411"), "{said}");
        said
    }
}

/// The PIN of a token.
fn pin(token: &str) -> String {
    format!("{token}-4711")
}

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Reads the repository as a box does that knows nothing but the first root; returns the named target.
fn believed_by_a_box(repo: &Path, name: &str) -> Vec<u8> {
    let read = |name: &str| fs::read(repo.join("metadata").join(name)).ok();
    let now = Timestamp::now();
    let mut client = Client::open(&read("1.root.json").unwrap(), |_| None).unwrap();
    client.begin(now);
    while let Some(fetch) = client.poll_fetch() {
        match read(&fetch.name) {
            Some(bytes) => client.handle_file(&fetch.name, &bytes).unwrap(),
            None => client.handle_absent(&fetch.name).unwrap(),
        }
    }
    let hash = client.target(name, now).unwrap().sha256().unwrap();
    fs::read(repo.join(format!("targets/{hash}.{name}"))).unwrap()
}

fn believed_by_tough(repo: &Path, name: &str) -> Vec<u8> {
    use futures_util::TryStreamExt as _;
    let url = |folder: &str| url::Url::from_directory_path(repo.join(folder)).unwrap();
    let root = fs::read(repo.join("metadata/1.root.json")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let repository = RepositoryLoader::new(&root, url("metadata"), url("targets"))
            .transport(FilesystemTransport)
            .load()
            .await
            .unwrap();
        let target = TargetName::new(name).unwrap();
        let stream = repository.read_target(&target).await.unwrap().unwrap();
        let chunks: Vec<_> = stream.try_collect().await.unwrap();
        chunks.concat()
    })
}

#[test]
fn files_and_tokens_sign_one_release_and_a_box_and_tough_believe_it() {
    let Some(hsm) = Hsm::with(&["anna", "rita", "server"]) else { return };
    let (anna, rita) = (hsm.key("anna", "root-anna"), hsm.key("rita", "release-rita"));
    let online = hsm.key("server", "online");
    for key in ["r2", "r3", "t2", "assign", &anna, &rita, &online] {
        hsm.ok(&["release", "key", key]);
    }
    let public = fs::read_to_string(hsm.path().join("root-anna.pub")).unwrap();
    assert_eq!(hsm.ok(&["release", "public", &anna]), public);
    // The public half of a release key comes from the token itself, without its PIN.
    let seen = "pkcs11:token=rita;object=release-rita";
    let root =
        ["release", "root", "--root", "root-anna.pub", "r2.pub", "r3.pub", "--release", seen, "t2.pub"];
    hsm.ok(&[&root[..], &["--online", "online.pub", "--assign", "assign.pub"]].concat());
    write(hsm.path(), "v1/bin/edge", &"one ".repeat(20_000));
    hsm.ok(&["release", "create", "--component", "app", "--version", "1.0.0", "--from", "v1"]);
    hsm.ok(&["release", "sign", "--key", &anna]);
    let publish = ["release", "publish", "--key", &online];
    assert!(hsm.refused(&publish).contains("signed by 1 of the 2 keys"), "one root key alone");
    hsm.ok(&["release", "sign", "--key", "r3"]);
    hsm.ok(&["release", "sign", "--key", &rita]);
    assert!(hsm.refused(&publish).contains("signed by 1 of the 2 keys"), "one release key alone");
    hsm.ok(&["release", "sign", "--key", "t2"]);
    hsm.ok(&publish);

    let repo = hsm.path().join("repo");
    let manifest = believed_by_a_box(&repo, "app-1.0.0.json");
    assert!(String::from_utf8(manifest.clone()).unwrap().contains("bin/edge"));
    assert_eq!(believed_by_tough(&repo, "app-1.0.0.json"), manifest);
    let bytes = fs::read(repo.join("metadata/1.root.json")).unwrap();
    let key = PublicKey::from_hex(public.trim()).unwrap();
    assert!(Envelope::parse(&bytes).unwrap().claimed().any(|id| *id == key.id()));
    let left: Vec<_> = fs::read_dir(repo.join("draft")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    // The key for assignments may lie on a token as well.
    let assign = hsm.key("server", "assign");
    hsm.ok(&["release", "key", &assign, "--public", "assign2.pub"]);
    hsm.ok(&[&root[..], &["--online", "online.pub", "--assign", "assign2.pub"]].concat());
    for key in [&anna, "r2"] {
        hsm.ok(&["release", "sign", "--key", key]);
    }
    hsm.ok(&publish);
    fs::create_dir(hsm.path().join("usb")).unwrap();
    let flash = ["flash", "--usb", "usb", "--release", "app-1.0.0.json", "--box", "tl-a", "--key"];
    assert!(hsm.refused(&[&flash[..], &["assign"]].concat()).contains("would not believe"));
    hsm.ok(&[&flash[..], &[&assign]].concat());
}

#[test]
fn a_token_that_cannot_help_says_why_and_what_to_do() {
    let Some(hsm) = Hsm::with(&["anna", "bert"]) else { return };
    let anna = hsm.key("anna", "root-anna");
    hsm.ok(&["release", "key", &anna]);
    let sign = |key: &str| hsm.refused(&["release", "sign", "--key", key]);

    let unnamed =
        hsm.command().env_remove("TRUNKLINE_PKCS11_MODULE").args(["release", "public", &anna]).output();
    let unnamed = String::from_utf8(unnamed.unwrap().stderr).unwrap();
    assert!(unnamed.contains("TRUNKLINE_PKCS11_MODULE"), "{unnamed}");
    let lost = sign("pkcs11:object=a?module-path=/nowhere/libtoken.so");
    assert!(lost.contains("cannot load the PKCS#11 module /nowhere/libtoken.so"), "{lost}");

    let no_token = sign("pkcs11:token=carl;object=root-anna");
    assert!(no_token.contains("there is no token `carl`"), "{no_token}");
    assert!(no_token.contains("`anna`") && no_token.contains("`bert`"), "{no_token}");
    let which = sign("pkcs11:object=root-anna");
    assert!(which.contains("fits several tokens") && which.contains("`bert`"), "{which}");

    let nobody = sign("pkcs11:token=anna;object=root-anna");
    assert!(nobody.contains("nobody can be asked") && nobody.contains("pin-source"), "{nobody}");
    hsm.secret("pin.anna", "774411");
    let wrong = sign(&anna);
    assert!(wrong.contains("the PIN is wrong") && wrong.contains("not tried a second time"), "{wrong}");
    assert!(wrong.contains("counts wrong tries"), "SoftHSM says that tries were used up: {wrong}");
    let open = hsm.path().join("pin.anna");
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(sign(&anna).contains("chmod 600"));
    fs::remove_file(&open).unwrap();
    assert!(sign(&anna).contains("cannot read the PIN"));
    hsm.secret("pin.anna", &pin("anna"));
    let shown = sign("pkcs11:token=anna;object=root-anna?pin-value=774411");
    assert!(shown.contains("pin-source=file:"), "{shown}");

    let no_key = sign(&hsm.key("anna", "root-carl"));
    assert!(no_key.contains("there is no key `root-carl` on token `anna`"), "{no_key}");
    assert!(no_key.contains("the token holds `root-anna`"), "{no_key}");
    assert!(sign(&hsm.key("bert", "root-bert")).contains("holds no private key"));
    fs::remove_file(hsm.path().join("root-anna.pub")).unwrap();
    let there = hsm.refused(&["release", "key", &anna]);
    assert!(there.contains("is there already"), "{there}");
    assert!(!hsm.path().join("root-anna.pub").exists());

    let other = rcgen::KeyPair::generate().unwrap();
    write(hsm.path(), "p256.pem", &other.serialize_pem());
    let pem = hsm.path().join("p256.pem").display().to_string();
    let import =
        ["--import", &pem, "--token", "bert", "--label", "p256", "--id", "0a", "--pin", &pin("bert")];
    let imported = hsm.softhsm(&import);
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    for command in [&["release", "sign", "--key"][..], &["release", "public"]] {
        let said = hsm.refused(&[command, &[&hsm.key("bert", "p256")]].concat());
        assert!(said.contains("is no Ed25519 key"), "{said}");
    }

    hsm.configure("slots.mechanisms = CKM_RSA_PKCS,CKM_RSA_PKCS_KEY_PAIR_GEN\n");
    let cannot = sign(&anna);
    assert!(cannot.contains("does not offer CKM_EDDSA") && cannot.contains("key in a file"), "{cannot}");
}

/// A terminal of its own, by `script` of util-linux; the first line is the terminal's name.
fn on_a_terminal(hsm: &Hsm, line: &str) -> std::process::Child {
    let line = format!("tty; exec {} {line}", env!("CARGO_BIN_EXE_trunkctl"));
    let mut command = Command::new("script");
    command.current_dir(hsm.path()).env("SOFTHSM2_CONF", hsm.path().join("softhsm2.conf"));
    command.env("TRUNKLINE_PKCS11_MODULE", hsm.module).env("SHELL", "/bin/sh");
    command.args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn echoes(terminal: &str) -> bool {
    let asked = Command::new("stty").args(["-F", terminal, "-a"]).output().unwrap();
    !String::from_utf8(asked.stdout).unwrap().split_whitespace().any(|word| word == "-echo")
}

#[test]
fn a_pin_that_is_typed_is_not_shown() {
    let Some(hsm) = Hsm::with(&["anna"]) else { return };
    hsm.ok(&["release", "key", &hsm.key("anna", "root-anna")]);
    let public = fs::read_to_string(hsm.path().join("root-anna.pub")).unwrap();
    for (typed, succeeds) in [(pin("anna"), true), ("774411".into(), false)] {
        let mut script =
            on_a_terminal(&hsm, "release key 'pkcs11:token=anna;object=second' --public second.pub");
        let mut said = BufReader::new(script.stdout.take().unwrap());
        let mut terminal = String::new();
        said.read_line(&mut terminal).unwrap();
        let mut tries = 0..600;
        while echoes(terminal.trim()) && tries.next().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        script.stdin.take().unwrap().write_all(format!("{typed}\n").as_bytes()).unwrap();
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("PIN of token `anna`: ") && !rest.contains(&typed), "{rest}");
        assert_eq!(script.wait().unwrap().success(), succeeds, "{rest}");
        assert_eq!(rest.contains("the PIN is wrong"), !succeeds, "{rest}");
        // For the second round there is neither.
        let _ = fs::remove_file(hsm.path().join("second.pub"));
    }
    assert_eq!(hsm.ok(&["release", "public", "pkcs11:token=anna;object=root-anna"]), public);
}

#[test]
fn signatures_of_a_token_come_from_the_key_that_was_named() {
    let Some(hsm) = Hsm::with(&["anna"]) else { return };
    let mut ids = BTreeMap::new();
    for object in ["first", "second"] {
        let made: Value =
            serde_json::from_str(&hsm.ok(&["release", "key", &hsm.key("anna", object), "--json"])).unwrap();
        assert_eq!(made["file"], format!("key `{object}` on token `anna`"));
        ids.insert(object, made["key"].as_str().unwrap().to_owned());
    }
    assert_ne!(ids["first"], ids["second"]);
    let root =
        ["release", "root", "--root", "second.pub", "--root-threshold", "1", "--release", "second.pub"];
    let more = ["--release-threshold", "1", "--online", "second.pub", "--assign", "second.pub"];
    hsm.ok(&[&root[..], &more[..]].concat());
    let first = hsm.refused(&["release", "sign", "--key", &hsm.key("anna", "first")]);
    assert!(first.contains("no draft that this key may sign"), "{first}");
    hsm.ok(&["release", "sign", "--key", &hsm.key("anna", "second")]);
    let draft: PathBuf = hsm.path().join("repo/draft/root.json");
    let draft = Envelope::parse(&fs::read(draft).unwrap()).unwrap();
    assert_eq!(draft.claimed().map(ToString::to_string).collect::<Vec<_>>(), [ids["second"].clone()]);
}
