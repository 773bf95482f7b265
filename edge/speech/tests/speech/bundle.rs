//! Bundles of models: installed whole or not at all, activated in one step, rolled back; and the
//! recogniser of the one before where the one in use does not load.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use trunkline_speech::bundle::{
    Bundle, BundleError, BundleName, Bundles, Engine, MANIFEST, Manifest, Role, Tuning, open, open_active,
};
use trunkline_speech::recognise::{
    Language, RecognizeOptions, Recognizer, Utterance, Whisper, WhisperConfig,
};

const TUNING: Tuning = Tuning { states: 1, threads: 1 };

fn name(text: &str) -> BundleName {
    text.parse().unwrap()
}

/// Makes a bundle of a tiny CTC model.
fn make(dir: &Path, version: &str) -> PathBuf {
    let dir = dir.join(format!("made-{version}"));
    let files = crate::tiny::write(&dir, "ctc");
    let sources = [(Role::Model, files[0].clone()), (Role::Tokens, files[1].clone())];
    let languages = vec!["en".to_owned()];
    let name = name(&format!("tones@{version}"));
    let manifest = Manifest::make(&name, Engine::Ctc, languages, "ours", &sources).unwrap();
    fs::write(dir.join(MANIFEST), manifest.to_toml().unwrap()).unwrap();
    dir
}

fn what_is_installed(bundles: &Bundles) -> Vec<String> {
    bundles.list().unwrap().iter().map(|bundle| bundle.manifest.name().to_string()).collect()
}

/// Everything below a folder, with its content.
fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn says(recognizer: &dyn Recognizer) -> String {
    let audio = Utterance::new(crate::tiny::sound(&[None, Some(0), None], 300))
        .with_voiced(Duration::from_millis(300));
    recognizer.recognize(&audio, &RecognizeOptions::new(Language::EN)).unwrap().text
}

#[test]
fn a_bundle_is_installed_activated_and_rolled_back() {
    let dir = tempfile::tempdir().unwrap();
    let bundles = Bundles::at(dir.path().join("bundles"));
    assert_eq!((what_is_installed(&bundles), bundles.active().unwrap()), (Vec::new(), None));
    let one = bundles.install(&make(dir.path(), "1")).unwrap();
    assert_eq!(bundles.active().unwrap(), None, "installed is not in use");
    bundles.activate(&one).unwrap();
    let two = bundles.install(&make(dir.path(), "2")).unwrap();
    bundles.activate(&two).unwrap();
    assert_eq!(what_is_installed(&bundles), ["tones@1", "tones@2"]);
    assert_eq!(bundles.active().unwrap(), Some(two.clone()));
    assert_eq!(bundles.before().unwrap(), std::slice::from_ref(&one));
    assert_eq!(bundles.roll_back().unwrap(), one);
    assert_eq!(bundles.active().unwrap(), Some(one.clone()));
    assert!(matches!(bundles.roll_back(), Err(BundleError::NoneBefore)));
    // To and fro does not fill the memory of what was before.
    for _ in 0..5 {
        bundles.activate(&two).unwrap();
        bundles.activate(&one).unwrap();
    }
    assert_eq!(bundles.before().unwrap(), std::slice::from_ref(&two));
    bundles.deactivate().unwrap();
    assert_eq!(bundles.active().unwrap(), None);
    assert_eq!(bundles.roll_back().unwrap(), one);
    assert!(bundles.remove(&one).is_err(), "it is in use");
    bundles.remove(&two).unwrap();
    assert_eq!(what_is_installed(&bundles), ["tones@1"]);
    assert!(matches!(bundles.activate(&two), Err(BundleError::Unknown { .. })));
    assert_eq!(bundles.active().unwrap(), Some(one));
}

#[test]
fn what_is_half_there_or_damaged_is_refused_with_the_file_named_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let bundles = Bundles::at(dir.path().join("bundles"));
    let one = bundles.install(&make(dir.path(), "1")).unwrap();
    bundles.activate(&one).unwrap();
    let before = snapshot(bundles.dir());

    let made = make(dir.path(), "2");
    let whole = fs::read(made.join("model.onnx")).unwrap();
    // Half-downloaded: every length that is too short, down to nothing.
    for kept in [whole.len() - 1, whole.len() / 2, 0] {
        fs::write(made.join("model.onnx"), &whole[..kept]).unwrap();
        let error = bundles.install(&made).unwrap_err();
        assert!(matches!(error, BundleError::Length { got, .. } if got == kept as u64), "{error}");
        assert!(error.to_string().contains("model.onnx"), "{error}");
    }
    // One bit turned over.
    let mut damaged = whole.clone();
    damaged[whole.len() / 3] ^= 1;
    fs::write(made.join("model.onnx"), &damaged).unwrap();
    let error = bundles.install(&made).unwrap_err();
    assert!(matches!(error, BundleError::Hash { .. }) && error.to_string().contains("model.onnx"), "{error}");
    // A file or the manifest missing, a manifest that is cut off.
    fs::write(made.join("model.onnx"), &whole).unwrap();
    fs::rename(made.join("tokens.txt"), made.join("kept")).unwrap();
    let error = bundles.install(&made).unwrap_err();
    assert!(
        matches!(error, BundleError::Missing { .. }) && error.to_string().contains("tokens.txt"),
        "{error}"
    );
    fs::rename(made.join("kept"), made.join("tokens.txt")).unwrap();
    let manifest = fs::read(made.join(MANIFEST)).unwrap();
    fs::write(made.join(MANIFEST), &manifest[..manifest.len() / 2]).unwrap();
    assert!(matches!(bundles.install(&made), Err(BundleError::Manifest(_))));
    fs::remove_file(made.join(MANIFEST)).unwrap();
    assert!(bundles.install(&made).unwrap_err().to_string().contains(MANIFEST));

    assert_eq!(snapshot(bundles.dir()), before);
    assert_eq!(bundles.active().unwrap(), Some(one));
    // Made whole again, it is taken.
    fs::write(made.join(MANIFEST), manifest).unwrap();
    assert_eq!(bundles.install(&made).unwrap(), name("tones@2"));
}

#[test]
fn a_version_is_one_content_for_ever_and_a_damaged_copy_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let bundles = Bundles::at(dir.path().join("bundles"));
    let made = make(dir.path(), "1");
    let one = bundles.install(&made).unwrap();
    assert_eq!(bundles.install(&made).unwrap(), one, "the same again is no harm");
    let installed = bundles.get(&one).unwrap();
    let table = installed.file(Role::Tokens).unwrap();
    let whole = fs::read(&table).unwrap();
    fs::write(&table, vec![b'x'; whole.len()]).unwrap();
    assert!(matches!(bundles.activate(&one), Err(BundleError::Hash { .. })));
    assert_eq!(bundles.active().unwrap(), None);
    assert_eq!(bundles.install(&made).unwrap(), one);
    assert_eq!(fs::read(&table).unwrap(), whole);
    bundles.activate(&one).unwrap();

    // Other files under the same version.
    fs::write(made.join("tokens.txt"), "<blk> 0\na 1\nb 2\nc 3\nd 4\n").unwrap();
    let sources = [(Role::Model, made.join("model.onnx")), (Role::Tokens, made.join("tokens.txt"))];
    let other = Manifest::make(&one, Engine::Ctc, vec!["en".to_owned()], "ours", &sources).unwrap();
    fs::write(made.join(MANIFEST), other.to_toml().unwrap()).unwrap();
    assert!(matches!(bundles.install(&made), Err(BundleError::Other { .. })));
    assert_eq!(fs::read(&table).unwrap(), whole);
}

#[test]
fn an_installation_that_was_interrupted_leaves_nothing_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let bundles = Bundles::at(dir.path().join("bundles"));
    let one = bundles.install(&make(dir.path(), "1")).unwrap();
    bundles.activate(&one).unwrap();
    // What a loss of power leaves: a copy in part, and a state file that was not renamed yet.
    let incoming = bundles.dir().join(".incoming/tones-2-77");
    fs::create_dir_all(&incoming).unwrap();
    fs::write(incoming.join("model.onnx"), b"half").unwrap();
    fs::write(bundles.dir().join("active.toml.77.part"), b"active = \"tones@2\"").unwrap();
    assert_eq!(what_is_installed(&bundles), ["tones@1"]);
    assert_eq!(bundles.active().unwrap(), Some(one));
    assert_eq!(bundles.install(&make(dir.path(), "2")).unwrap(), name("tones@2"));
}

#[test]
fn the_bundle_before_is_used_when_the_one_in_use_does_not_load() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bundles = Bundles::at(dir.path().join("bundles"));
    assert!(open_active(&bundles, None, TUNING).unwrap().is_none(), "none in use");
    let one = bundles.install(&make(dir.path(), "1")).unwrap();
    let two = bundles.install(&make(dir.path(), "2")).unwrap();
    bundles.activate(&one).unwrap();
    bundles.activate(&two).unwrap();
    let opened = open_active(&bundles, None, TUNING).unwrap().unwrap();
    assert_eq!((opened.name, opened.failed.len()), (two.clone(), 0));
    assert_eq!(says(opened.recognizer.as_ref()), "yes");

    // The disk damaged it after it was activated, and after it was found right once.
    let table = bundles.get(&two).unwrap().file(Role::Tokens).unwrap();
    let whole = fs::read(&table).unwrap();
    fs::write(&table, &whole[..whole.len() - 3]).unwrap();
    let opened = open_active(&bundles, None, TUNING).unwrap().unwrap();
    assert_eq!(opened.name, one);
    assert_eq!(says(opened.recognizer.as_ref()), "yes");
    let [(failed, error)] = &opened.failed[..] else { panic!("one that failed") };
    assert_eq!(*failed, two);
    assert!(error.to_string().contains("tokens.txt"), "{error}");
    assert_eq!(bundles.active().unwrap(), Some(two.clone()), "the next start tries it again");

    // One that is asked for by name and not there falls back to the one in use.
    fs::write(&table, &whole).unwrap();
    let opened = open_active(&bundles, Some(&name("tones@9")), TUNING).unwrap().unwrap();
    assert_eq!((opened.name, opened.failed.len()), (two, 1));
    let opened = open_active(&bundles, Some(&one), TUNING).unwrap().unwrap();
    assert_eq!((opened.name, opened.failed.len()), (one.clone(), 0));

    // Nothing that loads is left: all reasons are told.
    for version in bundles.list().unwrap() {
        fs::write(version.file(Role::Model).unwrap(), b"no model").unwrap();
    }
    let failed = open_active(&bundles, None, TUNING).err().unwrap();
    assert_eq!(failed.len(), 2);
}

#[test]
fn a_bundle_that_is_whole_and_no_model_is_refused_by_its_engine() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let made = make(dir.path(), "1");
    fs::write(made.join("model.onnx"), b"this is no network").unwrap();
    let sources = [(Role::Model, made.join("model.onnx")), (Role::Tokens, made.join("tokens.txt"))];
    for (engine, sources) in [(Engine::Ctc, &sources[..]), (Engine::Whisper, &sources[..1])] {
        let manifest =
            Manifest::make(&name("odd@1"), engine, vec!["en".to_owned()], "ours", sources).unwrap();
        fs::write(made.join(MANIFEST), manifest.to_toml().unwrap()).unwrap();
        let error = open(&Bundle::read(&made).unwrap(), TUNING).err().unwrap();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.to_string().contains("odd@1") && cause.contains("model.onnx"), "{error}: {cause}");
    }
}

#[test]
fn a_state_file_that_cannot_be_read_is_told_and_something_is_used_all_the_same() {
    if !crate::tiny::has_runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let bundles = Bundles::at(dir.path().join("bundles"));
    let one = bundles.install(&make(dir.path(), "1")).unwrap();
    fs::write(bundles.dir().join("active.toml"), "active = 7").unwrap();
    assert!(matches!(bundles.active(), Err(BundleError::Active { .. })));
    let opened = open_active(&bundles, None, TUNING).unwrap().unwrap();
    assert_eq!((opened.name, opened.failed.len()), (one, 1));
}

#[test]
fn any_whisper_makes_a_bundle() {
    let model = trunkline_speech::ort_rt::model_dir().join("whisper-tiny.en-q8_0.bin");
    if !model.is_file() {
        println!("skipped: {} missing, run deploy/models", model.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = name("whisper-tiny.en@q8_0");
    let sources = [(Role::Model, model.clone())];
    let manifest = Manifest::make(&name, Engine::Whisper, vec!["en".to_owned()], "MIT", &sources).unwrap();
    fs::write(dir.path().join(MANIFEST), manifest.to_toml().unwrap()).unwrap();
    fs::copy(&model, dir.path().join("whisper-tiny.en-q8_0.bin")).unwrap();
    let bundles = Bundles::at(dir.path().join("bundles"));
    bundles.activate(&bundles.install(dir.path()).unwrap()).unwrap();
    let opened = open_active(&bundles, None, TUNING).unwrap().unwrap();
    assert_eq!((opened.name, opened.recognizer.at_once()), (name, 1));
    let silence = Utterance::new(vec![0.0; 16_000]);
    let found = opened.recognizer.recognize(&silence, &RecognizeOptions::new(Language::EN)).unwrap();
    assert_eq!(found.text, "");
}

#[test]
fn whisper_goes_on_with_the_states_it_has_where_memory_must_stay_free() {
    let model = trunkline_speech::ort_rt::model_dir().join("whisper-tiny.en-q8_0.bin");
    if !model.is_file() {
        println!("skipped: {} missing, run deploy/models", model.display());
        return;
    }
    let config = WhisperConfig { states: 2, keep_free: u64::MAX / 2, ..WhisperConfig::default() };
    let whisper = Whisper::load(&model, config).unwrap();
    assert_eq!(whisper.at_once(), 2);
    let audio = Utterance::new(crate::tiny::sound(&[Some(0), None], 300));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while whisper.at_once() > 1 && started.elapsed() < Duration::from_secs(60) {
                    whisper.recognize(&audio, &RecognizeOptions::new(Language::EN)).unwrap();
                }
            });
        }
    });
    assert_eq!(whisper.at_once(), 1, "a second state was wanted and not made");
    whisper.recognize(&audio, &RecognizeOptions::new(Language::EN)).unwrap();
}
