//! The API against its own description, asked by a program that we did not write.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Site, TOKEN};

/// Where `deploy/test` puts it, or where the environment says.
fn program() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
    let found = variable("TRUNKLINE_SCHEMATHESIS")
        .or_else(|| cache.map(|cache| cache.join("trunkline/schemathesis/bin/schemathesis")))
        .filter(|path| path.is_file());
    if found.is_none() {
        println!("skipped: schemathesis missing, run deploy/test packages");
        assert_ne!(
            std::env::var("TRUNKLINE_REQUIRE_PEERS").as_deref(),
            Ok("1"),
            "the peers are required here"
        );
    }
    found
}

const CHECKS: &str =
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// Streams do not end, and a request to `keys` could make or take away the token that asks.
const LEFT_OUT: &str = "/events$|/v1/keys|^/box/";

#[test]
fn every_answer_of_the_api_is_one_that_its_description_has() {
    let Some(program) = program() else { return };
    let site = Site::new();
    let config = site.config("127.0.0.1:0", "127.0.0.1:0");
    site.write("cloud.toml", &format!("{config}\n[rate]\nper_second = 100000.0\nburst = 1000000\n"));
    let cloud = site.start();
    let done = Command::new(program)
        .arg("run")
        .arg(cloud.url("/openapi.json"))
        .args(["--tls-verify", site.dir.path().join("ca.pem").to_str().unwrap()])
        .args(["-H", &format!("Authorization: Bearer {TOKEN}")])
        .args(["--checks", CHECKS])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1"])
        .args(["--generation-database", "none", "--no-color", "--exclude-path-regex", LEFT_OUT])
        .current_dir(site.dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}");
    assert!(done.status.success(), "{}\n{}", String::from_utf8_lossy(&done.stderr), site.log());
    assert!(said.contains("generated"), "it asked nothing");
}
