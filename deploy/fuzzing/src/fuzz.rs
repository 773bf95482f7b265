//! The fuzzer: libFuzzer's own `main`, with the target of `TRUNKLINE_FUZZ`. Started by `deploy/fuzz`.

#![no_main]
#![allow(unsafe_code, reason = "libFuzzer calls a C function, which its macro writes")]

use std::sync::LazyLock;

use trunkline_fuzzing::{Target, target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("TRUNKLINE_FUZZ").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("TRUNKLINE_FUZZ={name}: there is no such target"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.take)(bytes));
