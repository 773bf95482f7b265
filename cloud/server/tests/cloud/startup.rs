//! What is wrong at the start is said, with what to do about it.

use std::net::TcpListener;
use std::process::Stdio;

use crate::harness::Site;

/// Starts and returns what went to standard error; it must have failed.
fn failure(site: &Site) -> String {
    let output = site.command().stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(output.stdout.is_empty(), "it must not say that it is ready");
    said
}

#[test]
fn a_port_in_use_is_named() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();

    site.write("cloud.toml", &site.config(&address, "127.0.0.1:0"));
    let said = failure(&site);
    assert!(said.contains(&format!("port {}", taken.local_addr().unwrap().port())), "{said}");
    assert!(said.contains("api.listen") && said.contains("another port"), "{said}");

    site.write("cloud.toml", &site.config("127.0.0.1:0", &address));
    let said = failure(&site);
    assert!(said.contains("in use") && said.contains("mqtt.listen"), "{said}");
}

#[test]
fn a_missing_certificate_model_or_script_is_named() {
    let site = Site::new();
    let good = site.config("127.0.0.1:0", "127.0.0.1:0");

    site.write("cloud.toml", &good.replace("server.pem", "absent.pem"));
    let said = failure(&site);
    assert!(said.contains("absent.pem") && said.contains("deploy/setup"), "{said}");

    site.write("cloud.toml", &good.replace("optional = true", "optional = false"));
    let said = failure(&site);
    assert!(said.contains("e5-small-q4.bin") && said.contains("deploy/get-models"), "{said}");

    let scripts =
        good.lines().find(|line| line.trim().starts_with("dir = ") && line.contains("scripts")).unwrap();
    site.write("cloud.toml", &good.replace(scripts, "dir = \"scripts\""));
    assert!(failure(&site).contains("scripts.dir"));

    std::fs::create_dir(site.dir.path().join("scripts")).unwrap();
    site.write("scripts/broken.yaml", "schema: trunkline/script/1\nid: broken\nnodes: 7\n");
    let said = failure(&site);
    assert!(said.contains("broken.yaml:"), "{said}");
}

#[test]
fn a_file_that_is_no_key_is_named() {
    let site = Site::new();
    site.write("server.key", "nothing here");
    let said = failure(&site);
    assert!(said.contains("server.key"), "{said}");
}

#[test]
fn check_says_what_it_found_without_listening() {
    let site = Site::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_trunkline-cloud"));
    let output =
        command.args(["check", "--config"]).arg(site.dir.path().join("cloud.toml")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 token(s)") && said.contains("repayment-reminder-zh"), "{said}");
    assert!(!site.dir.path().join("data").exists());
}

#[test]
fn a_data_folder_that_cannot_be_made_is_named() {
    let site = Site::new();
    site.write("file", "");
    let config =
        site.config("127.0.0.1:0", "127.0.0.1:0").replace("data_dir = \"data\"", "data_dir = \"file/data\"");
    site.write("cloud.toml", &config);
    assert!(failure(&site).contains("file/data"));
}
