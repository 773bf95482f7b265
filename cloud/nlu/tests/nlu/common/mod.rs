//! Finds the models that the models step has fetched.

use std::path::PathBuf;

use trunkline_nlu::Encoder;
use trunkline_nlu::encoder::MODEL_FILE;

/// The folder where models are cached.
pub(crate) fn model_dir() -> PathBuf {
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from);
    var("TRUNKLINE_MODELS")
        .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("trunkline/models")))
        .or_else(|| var("HOME").map(|dir| dir.join(".cache/trunkline/models")))
        .unwrap_or_default()
}

/// The encoder, or none (with a word about it) where its file has not been fetched.
pub(crate) fn encoder() -> Option<Encoder> {
    let path = model_dir().join(MODEL_FILE);
    if !path.exists() {
        println!("skipped: model {MODEL_FILE} missing, run deploy/models");
        assert_ne!(
            std::env::var("TRUNKLINE_REQUIRE_MODELS").as_deref(),
            Ok("1"),
            "the models are required here"
        );
        return None;
    }
    Some(Encoder::open(&path).expect("the encoder's file is sound"))
}
