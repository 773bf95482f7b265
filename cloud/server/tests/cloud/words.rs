//! Word lists: from the cloud's folder to the box, and changed while the cloud runs.

use serde_json::json;
use std::time::Duration;
use trunkline_words::WordList;

use crate::harness::{Cloud, FakeBox, Site};

fn list(word: &str) -> String {
    format!(
        "schema: trunkline/words/1\nid: branch\nentries: [{{words: [{word}], side: robot, action: withhold}}]\n"
    )
}

/// Has a call dialled and returns the text of the only word list that came with it.
async fn list_of_a_call(site: &Site, cloud: &Cloud, fake: &mut FakeBox, callee: &str) -> WordList {
    let request = json!({
        "callee": callee, "script_id": "appointment-confirmation-en",
        "variables": { "org": "Riverside Clinic", "name": "Alex Morgan", "doctor": "Doctor Patel",
            "date": "2026-11-27", "time": "15:00" },
    });
    let (status, call) = cloud.post("/v1/calls", &request).await;
    assert!(status.is_success(), "{call:#}");
    let dial = fake.dialled().await;
    let [sha256] = dial.words.as_slice() else { panic!("{:?}", dial.words) };
    let the_box = site.http_as(&site.ca.client(Some("tl-a")));
    let blob = the_box.get(cloud.url(&format!("/box/v1/blobs/{sha256}"))).send().await.unwrap();
    WordList::from_yaml(&blob.text().await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_call_brings_the_word_lists_in_force_and_the_next_one_those_of_a_changed_file() {
    let site = Site::new();
    let folder = site.dir.path().join("words");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("branch.yaml"), list("cash")).unwrap();
    let config = site.config("127.0.0.1:0", "127.0.0.1:0");
    site.write("cloud.toml", &format!("{config}\n[words]\ndir = \"words\"\n"));
    let cloud = site.start();
    let mut fake = FakeBox::connect(&site, &cloud, "tl-a", 1, 4).await;
    let first = list_of_a_call(&site, &cloud, &mut fake, "+15550100301").await;
    assert_eq!(first.entries[0].words, ["cash"]);

    std::fs::write(folder.join("branch.yaml"), list("wire transfer")).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let second = list_of_a_call(&site, &cloud, &mut fake, "+15550100302").await;
    assert_eq!(second.entries[0].words, ["wire transfer"]);

    // A file that became wrong changes nothing, and the log names it.
    std::fs::write(folder.join("branch.yaml"), "entries: none").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let third = list_of_a_call(&site, &cloud, &mut fake, "+15550100303").await;
    assert_eq!(third, second);
    assert!(site.log().contains("branch.yaml"), "{}", site.log());
}
