//! Boxes that join, are configured, are updated and are thrown out: the real cloud, the real keeper, TLS and
//! MQTT between them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use trunkline_keeper::{
    Carrier, Clock, CloudConfig, Config, End, Identity, KeyConfig, OrdersConfig, PageConfig, Running,
    SelftestConfig, UpdatesConfig,
};
use trunkline_trust::{
    Ceremony, Envelope, FileKey, Holders, Lives, Published, Release, Signer, sha256, target_of,
};
use trunkline_update::{FileSlots, Packer, RealDisk, launch};

use crate::harness::{Cloud, Connect, Pair, Site};

const WITHIN: Duration = Duration::from_secs(90);

fn key(n: u8) -> FileKey {
    FileKey::from_seed(&[n; 32]).unwrap()
}

/// A site whose cloud signs boxes' certificates and has a repository.
pub(crate) fn site() -> Site {
    let site = Site::new();
    let server = site.ca.young_server();
    site.write("server.pem", &server.cert);
    site.write("server.key", &server.key);
    let boxes = site.ca.intermediate();
    site.write("boxes.pem", &boxes.cert);
    site.write("boxes.key", &boxes.key);
    let sha = |token: &str| hex::encode(ring::digest::digest(&ring::digest::SHA256, token.as_bytes()));
    let tokens = [(crate::harness::TOKEN, "crm"), ("mei", "mei"), ("li", "li")];
    let lines: Vec<String> = tokens.iter().map(|(token, name)| format!("{name} {}", sha(token))).collect();
    site.write("tokens", &lines.join("\n"));
    let assign = pem(&key(31));
    site.write("assign", &assign);
    let config = format!(
        "{}\n[fleet]\nca_cert = \"boxes.pem\"\nca_key = \"boxes.key\"\nonly_enrolled = true\nrepo = \"repo\"\n\
         assign_key = \"assign\"\nroles = {{ mei = \"branch\", li = \"fleet_admin\" }}\n",
        site.config("127.0.0.1:0", "127.0.0.1:0")
    );
    site.write("cloud.toml", &config);
    Repo::new(site.dir.path()).release("1.0.0", 1, "exit 0");
    site
}

/// The PKCS#8 form of a key from a seed (RFC 8410 §7), as `trunkctl release key` would write it.
fn pem(key: &FileKey) -> String {
    let mut der =
        vec![0x30, 0x53, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    der.extend([31; 32]);
    der.extend([0xa1, 0x23, 0x03, 0x21, 0x00]);
    der.extend(hex::decode(key.public().to_hex()).unwrap());
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

/// The signed repository in a site's folder.
struct Repo {
    dir: PathBuf,
}

impl Repo {
    fn new(site: &Path) -> Self {
        let repo = Self { dir: site.join("repo") };
        if !repo.dir.exists() {
            let holders = |numbers: &[u8], threshold| Holders {
                keys: numbers.iter().map(|n| key(*n).public()).collect(),
                threshold,
            };
            let ceremony = Ceremony {
                root: holders(&[1, 2, 3], 2),
                targets: holders(&[11, 12], 2),
                snapshot: holders(&[21], 1),
                timestamp: holders(&[21], 1),
                assignment: holders(&[31], 1),
            };
            let mut root = ceremony.root(1, Timestamp::now() + SignedDuration::from_hours(24 * 365));
            root.sign(&key(1)).unwrap();
            root.sign(&key(2)).unwrap();
            repo.put("metadata/1.root.json", &root.to_bytes());
        }
        repo
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.dir.join("metadata").join(name)).ok()
    }

    /// Releases a version whose own test is this line of shell.
    fn release(&self, version: &str, number: u64, own_test: &str) -> (trunkline_update::Manifest, Vec<u8>) {
        let common: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let mut packer = Packer::default();
        packer.add("bin/self-test", true, format!("#!/bin/sh\n{own_test}\n").as_bytes());
        packer.add("lib/common.bin", false, &common);
        packer.add("version", false, version.as_bytes());
        self.publish("app", version, number, packer)
    }

    /// Releases a version of a component that is a single file with its name.
    fn release_part(&self, component: &str, version: &str, number: u64) {
        let mut packer = Packer::default();
        packer.add("version", false, version.as_bytes());
        self.publish(component, version, number, packer);
    }

    fn publish(
        &self,
        component: &str,
        version: &str,
        number: u64,
        packer: Packer,
    ) -> (trunkline_update::Manifest, Vec<u8>) {
        let release = Release {
            component: component.into(),
            version: version.into(),
            release: number,
            floor: 0,
            platforms: vec![],
        };
        let (manifest, pack) = packer.finish(release.clone()).unwrap();
        let bytes = manifest.to_bytes();
        let (hash, name) = (sha256(&bytes), format!("{component}-{version}.json"));
        self.put(&format!("targets/{hash}.{name}"), &bytes);
        self.put(&format!("packs/{hash}.pack"), &pack);
        let now = Timestamp::now();
        let published = match self.read("timestamp.json") {
            Some(_) => Published::read(|name| self.read(name)).unwrap(),
            None => Published::start(self.read("1.root.json").unwrap()).unwrap(),
        };
        let mut draft = published.draft_targets(now + SignedDuration::from_hours(24 * 90));
        draft.targets.insert(name, target_of(bytes.len() as u64, hash, &release));
        let mut envelope = Envelope::new(json!(draft));
        envelope.sign(&key(11)).unwrap();
        envelope.sign(&key(12)).unwrap();
        let new = [("targets", &envelope)];
        let files =
            published.publish(None, &new, &key(21), now, Lives::default(), |name| self.read(name)).unwrap();
        for (name, bytes) in files {
            self.put(&format!("metadata/{name}"), &bytes);
        }
        (manifest, pack)
    }
}

/// A box with its folder, and the keeper that runs in it.
pub(crate) struct TestBox {
    pub(crate) config: Config,
    pub(crate) carrier: Option<Carrier>,
    clock: Clock,
}

impl TestBox {
    pub(crate) fn new(site: &Site, cloud: &Cloud, name: &str) -> Self {
        let home = site.dir.path().join(name);
        let ca = site.dir.path().join("ca.pem");
        let root = site.dir.path().join("repo/metadata/1.root.json");
        let parts = [("models".to_owned(), home.join("models"))].into();
        let updates = UpdatesConfig { root, slots: home.join("slots"), platform: "x86-64".into(), parts };
        let cloud = CloudConfig { mqtt: cloud.mqtt.to_string(), api: format!("https://{}", cloud.api), ca };
        let (orders, selftest) = (OrdersConfig::default(), SelftestConfig::default());
        let config = Config {
            data_dir: home.join("data"),
            cloud,
            key: KeyConfig::default(),
            updates: Some(updates),
            calls: None,
            orders,
            selftest,
            metrics: None,
            otlp: None,
            page: None,
        };
        Self { config, carrier: None, clock: Clock::of_the_machine() }
    }

    fn identity(&self) -> Identity {
        Identity::open(&self.config.identity_dir(), &self.config.key).unwrap()
    }

    pub(crate) fn id(&self) -> String {
        self.identity().id().to_string()
    }

    pub(crate) fn start(&self, running: Option<Running>) -> Keeping {
        let (stopper, stop) = watch::channel(false);
        let (config, clock, carrier) = (self.config.clone(), self.clock.clone(), self.carrier.clone());
        let task = tokio::spawn(async move {
            trunkline_keeper::keep(&config, &clock, running, carrier, stop, |_| Vec::new()).await.unwrap()
        });
        Keeping { stopper, task }
    }

    /// Lets two people bring the box in while its keeper runs.
    pub(crate) async fn join(&self, cloud: &Cloud) {
        let path = format!("/v1/boxes/{}", self.id());
        seen(cloud, &path, "waiting", |shown| shown["enrolment"]["state"] == "waiting").await;
        let code = self.identity().claim_code().unwrap().reveal();
        let claim = json!({ "code": code, "branch": "0451" });
        let (status, claimed) = cloud.ask("mei", Method::POST, "/v1/enrolments/claim", &claim).await;
        assert_eq!(status, 201, "{claimed}");
        let approve = format!("/v1/enrolments/{}/approve", self.id());
        let (status, problem) = cloud.ask("mei", Method::POST, &approve, &Value::Null).await;
        assert_eq!(status, 403, "{problem}");
        let (status, issued) = cloud.ask("li", Method::POST, &approve, &Value::Null).await;
        assert_eq!(status, 200, "{issued}");
    }

    pub(crate) fn pair(&self) -> Pair {
        let dir = self.config.identity_dir();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        Pair { cert: read("box.pem"), key: read("key.pem") }
    }
}

pub(crate) struct Keeping {
    stopper: watch::Sender<bool>,
    pub(crate) task: JoinHandle<End>,
}

impl Keeping {
    pub(crate) async fn stop(self) {
        self.stopper.send(true).unwrap();
        assert_eq!(self.task.await.unwrap(), End::Stopped);
    }
}

pub(crate) async fn seen(cloud: &Cloud, path: &str, what: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WITHIN;
    let mut last = Value::Null;
    while Instant::now() < deadline {
        (_, last) = cloud.get(path).await;
        if ready(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{path} never was {what}: {last:#}");
}

fn connect<'a>(site: &'a Site, mqtt: SocketAddr, pair: &'a Pair, client_id: &'a str) -> Connect<'a> {
    Connect { ca: &site.ca.cert, pair: Some(pair), mqtt, client_id, user: None, will: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_of_1970_joins_and_a_revoked_one_is_out_within_five_seconds() {
    let site = site();
    let cloud = site.start();
    let mut new = TestBox::new(&site, &cloud, "box");
    new.clock = Clock::new(|| Timestamp::UNIX_EPOCH);
    let keeping = new.start(None);
    // It waits for half a minute before it asks again; a person need not, the box is started again.
    new.join(&cloud).await;
    keeping.stop().await;
    let keeping = new.start(None);
    let path = format!("/v1/boxes/{}", new.id());
    let shown = seen(&cloud, &path, "linked", |shown| shown["seen"].is_string()).await;
    assert_eq!(shown["enrolment"]["branch"], "0451");
    assert!(shown["reported"]["health"]["disk_mib"].as_u64() > Some(0), "{shown:#}");
    // Its battery is dead: its clock is right by what the cloud says, and wrong by itself.
    let alerts =
        seen(&cloud, "/v1/alerts", "with an alert", |shown| shown["alerts"][0]["kind"] == "clock_wrong")
            .await;
    assert_eq!(alerts["alerts"][0]["box"].as_str(), Some(new.id().as_str()));

    let pair = new.pair();
    let mut link = connect(&site, cloud.mqtt, &pair, &new.id()).open().await.unwrap();
    // A certificate of ours by hand, for the same name: never issued, so it stays outside.
    let forged = site.ca.client(Some(&new.id()));
    assert!(connect(&site, cloud.mqtt, &forged, &new.id()).open().await.is_err());
    let stranger = site.ca.client(Some("tl-stranger"));
    assert!(connect(&site, cloud.mqtt, &stranger, "tl-stranger").open().await.is_err(), "never enrolled");

    let began = Instant::now();
    let revoke = format!("/v1/boxes/{}/revoke", new.id());
    let (status, _) = cloud.ask("li", Method::POST, &revoke, &json!({ "reason": "stolen" })).await;
    assert_eq!(status, 200);
    let gone = link.next(Duration::from_secs(10), |_| None::<()>).await;
    assert!(gone.is_none());
    println!("a revoked box was out after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{}", site.log());
    assert!(connect(&site, cloud.mqtt, &pair, &new.id()).open().await.is_err(), "nor does it come back");
    let response =
        site.http_as(&pair).get(cloud.url("/box/v1/repo/metadata/timestamp.json")).send().await.unwrap();
    assert_eq!(response.status(), 401);
    keeping.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wanted_reaches_the_box_and_what_it_cannot_do_comes_back() {
    let site = site();
    let cloud = site.start();
    let new = TestBox::new(&site, &cloud, "box");
    let keeping = new.start(None);
    new.join(&cloud).await;
    keeping.stop().await;
    let (path, desired) = (format!("/v1/boxes/{}", new.id()), format!("/v1/boxes/{}/desired", new.id()));
    let want = async |document: Value| {
        let (status, answer) = cloud.ask("li", Method::PUT, &desired, &document).await;
        assert_eq!(status, 200, "{answer}");
    };
    // Wanted while the box is away.
    want(json!({ "name": "Branch 0451", "gsm": { "ports": 8 } })).await;
    let keeping = new.start(None);
    let shown = seen(&cloud, &path, "configured", |shown| shown["sync"]["sync"] == "differs").await;
    assert_eq!(shown["reported"]["body"]["name"], "Branch 0451");
    let difference = &shown["sync"]["differences"][0];
    assert_eq!(difference["path"], "/gsm");
    assert_eq!(difference["reason"], "this version does not know it");
    // Wanted while it is there.
    want(json!({ "name": "Branch 0452", "updates": { "metered_mib": 64 } })).await;
    let shown = seen(&cloud, &path, "in sync", |shown| shown["sync"]["sync"] == "in_sync").await;
    assert_eq!(shown["reported"]["version"], 2);
    let (_, history) = cloud.get(&format!("{path}/history")).await;
    assert_eq!(history["changes"][1]["by"], "li");
    keeping.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_boxs_own_page_follows_it_from_the_label_to_the_link() {
    let site = site();
    let cloud = site.start();
    let mut new = TestBox::new(&site, &cloud, "box");
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], trunkline_ports::free_port()));
    new.config.page = Some(PageConfig { listen, always: true });
    let code = new.identity().claim_code().unwrap().reveal();
    let browser =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let see = async || {
        let login = browser.post(format!("http://{listen}/login")).body(format!("code={code}"));
        let cookie = login.send().await.unwrap().headers()["set-cookie"].to_str().unwrap().to_owned();
        let page =
            browser.get(format!("http://{listen}/")).header("cookie", cookie.split(';').next().unwrap());
        page.send().await.unwrap().text().await.unwrap()
    };
    let keeping = new.start(None);
    new.join(&cloud).await;
    let shown = see().await;
    assert!(shown.contains("has not joined") && shown.contains(&code), "{shown}");
    keeping.stop().await;
    let keeping = new.start(None);
    seen(&cloud, &format!("/v1/boxes/{}", new.id()), "linked", |shown| shown["seen"].is_string()).await;
    let shown = see().await;
    assert!(shown.contains("joined, certificate until") && !shown.contains("not linked"), "{shown}");
    assert!(!shown.contains(&code), "the code is spent");
    keeping.stop().await;
}

/// Starts whatever is due, as the launcher does, until `done` says so.
async fn live(new: &TestBox, cloud: &Cloud, path: &str, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WITHIN;
    loop {
        let slots = &new.config.updates.as_ref().unwrap().slots;
        let start = launch(&mut RealDisk::new(slots).unwrap()).unwrap();
        let running = Running { slot: start.slot, version: start.sealed.release.version.clone() };
        let mut keeping = new.start(Some(running));
        loop {
            let (_, shown) = cloud.get(path).await;
            if done(&shown) {
                // It may be about to start the old version, and end because of that.
                let _ = keeping.stopper.send(true);
                keeping.task.await.unwrap();
                return shown;
            }
            assert!(Instant::now() < deadline, "{path} never came to that: {shown:#}");
            let ended = tokio::time::timeout(Duration::from_millis(200), &mut keeping.task).await;
            if let Ok(end) = ended {
                assert_eq!(end.unwrap(), End::Switch);
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_is_committed_and_a_bad_one_falls_back_and_pauses_its_rollout() {
    let site = site();
    let cloud = site.start();
    let repo = Repo::new(site.dir.path());
    let new = TestBox::new(&site, &cloud, "box");
    let (first, pack) = repo.release("1.0.1", 2, "exit 0");
    let slots = &new.config.updates.as_ref().unwrap().slots;
    FileSlots::install(RealDisk::new(slots).unwrap(), &first, &pack).unwrap();
    let keeping = new.start(None);
    new.join(&cloud).await;
    keeping.stop().await;

    let start = async |version: &str| {
        let profile = json!({ "percents": [100], "soak": "PT0S" });
        let body = json!({ "release": format!("app-{version}.json"), "profile": profile });
        let (status, rollout) = cloud.ask("li", Method::POST, "/v1/rollouts", &body).await;
        assert_eq!(status, 201, "{rollout}");
        format!("/v1/rollouts/{}", rollout["id"].as_str().unwrap())
    };
    let (status, problem) =
        cloud.ask("li", Method::POST, "/v1/rollouts", &json!({ "release": "app-9.json" })).await;
    assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("unknown_release")));

    repo.release("1.1.0", 3, "exit 0");
    let rollout = start("1.1.0").await;
    let done = live(&new, &cloud, &rollout, |shown| shown["state"]["phase"] == "finished").await;
    assert_eq!(done["boxes"][0]["why"], "it runs this version");
    assert_eq!(fs::read(slots.join("b/version")).unwrap(), b"1.1.0");

    repo.release("1.2.0", 4, "echo no sound on the line; exit 1");
    let rollout = start("1.2.0").await;
    let paused =
        |shown: &Value| shown["state"]["phase"] == "paused" && shown["boxes"][0]["standing"] == "rolled_back";
    let shown = live(&new, &cloud, &rollout, paused).await;
    let why = shown["boxes"][0]["why"].as_str().unwrap();
    assert!(why.contains("own test (no sound on the line)"), "{why}");
    assert_eq!(shown["state"]["cause"]["cause"], "cannot_pass");
    let start = launch(&mut RealDisk::new(slots).unwrap()).unwrap();
    assert_eq!(start.sealed.release.version, "1.1.0", "the old version runs again");

    // What was once given out is not believed from a stranger's hand, and ranges are ranges.
    let http = site.http_as(&new.pair());
    let pack = fs::read_dir(repo.dir.join("packs")).unwrap().next().unwrap().unwrap();
    let url = cloud.url(&format!("/box/v1/repo/packs/{}", pack.file_name().to_str().unwrap()));
    let part = http.get(&url).header("range", "bytes=10-19").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), fs::read(pack.path()).unwrap()[10..20]);
    assert_eq!(cloud.http.get(&url).send().await.unwrap().status(), 401);
    for outside in ["packs/..%2f..%2fcloud.toml", "drafts/x", "metadata/absent.json"] {
        let response = http.get(cloud.url(&format!("/box/v1/repo/{outside}"))).send().await.unwrap();
        assert_eq!(response.status(), 404, "{outside}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_have_versions_of_their_own_beside_the_program_and_bad_ones_give_way() {
    let site = site();
    let cloud = site.start();
    let repo = Repo::new(site.dir.path());
    let new = TestBox::new(&site, &cloud, "box");
    let own_test = "cd ../../models/current 2>/dev/null || exit 0\n\
                    if grep -q bad version; then echo these models hear nothing; exit 1; fi";
    let (first, pack) = repo.release("1.0.1", 2, own_test);
    let updates = new.config.updates.as_ref().unwrap();
    FileSlots::install(RealDisk::new(&updates.slots).unwrap(), &first, &pack).unwrap();
    let keeping = new.start(None);
    new.join(&cloud).await;
    keeping.stop().await;
    let start = async |version: &str| {
        let profile = json!({ "percents": [100], "soak": "PT0S" });
        let body = json!({ "release": format!("models-{version}.json"), "profile": profile });
        let (status, rollout) = cloud.ask("li", Method::POST, "/v1/rollouts", &body).await;
        assert_eq!(status, 201, "{rollout}");
        format!("/v1/rollouts/{}", rollout["id"].as_str().unwrap())
    };
    let current = || fs::read_to_string(updates.parts["models"].join("current/version")).unwrap();

    repo.release_part("models", "1-good", 1);
    let rollout = start("1-good").await;
    live(&new, &cloud, &rollout, |shown| shown["state"]["phase"] == "finished").await;
    assert_eq!(current(), "1-good");

    repo.release_part("models", "2-bad", 2);
    let rollout = start("2-bad").await;
    let models = |shown: &Value, stage: &str| {
        let mut parts = shown["components"].as_array().into_iter().flatten();
        parts.any(|part| part["component"] == "models" && part["stage"] == stage)
    };
    let shown =
        live(&new, &cloud, &format!("/v1/boxes/{}", new.id()), |shown| models(shown, "rolled_back")).await;
    assert_eq!(current(), "1-good");
    let why = shown["updates"].to_string();
    assert!(why.contains("own test (these models hear nothing)"), "{why}");
    let shown = seen(&cloud, &rollout, "paused", |shown| shown["state"]["phase"] == "paused").await;
    assert_eq!(shown["state"]["cause"]["cause"], "cannot_pass");
    let start = launch(&mut RealDisk::new(&updates.slots).unwrap()).unwrap();
    assert_eq!(start.sealed.release.version, "1.0.1", "nothing happened to the program");
}

/// A program for calls that makes test calls: they hear nothing while a file `deaf` is there.
const ECHOES: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
say() { echo "{\"ready\":true,\"calls\":0,\"draining\":$1,\"echo\":$2}"; }
say false null
while read word; do
    id=$(echo "$word" | sed 's/.*"id":\([0-9]*\).*/\1/')
    case $word in
    *echo*) if [ -e deaf ]; then say false "{\"id\":$id,\"failed\":\"it was answered, and no sound came\"}"
            else say false "{\"id\":$id,\"round_trip_ms\":40}"; fi ;;
    *true*) say true null ;;
    *false*) say false null ;;
    esac
done
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_test_call_hears_nothing_gives_way_to_the_one_before() {
    let site = site();
    let cloud = site.start();
    let repo = Repo::new(site.dir.path());
    let mut new = TestBox::new(&site, &cloud, "box");
    let home = site.dir.path().join("box");
    let (first, pack) = repo.release("1.0.1", 2, "exit 0");
    let slots = new.config.updates.as_ref().unwrap().slots.clone();
    FileSlots::install(RealDisk::new(&slots).unwrap(), &first, &pack).unwrap();
    let program = home.join("program");
    fs::write(&program, ECHOES).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    new.carrier = Some(Carrier { program, args: Vec::new() });
    new.config.selftest.echo = Some("4443".to_owned());
    let keeping = new.start(None);
    new.join(&cloud).await;
    keeping.stop().await;

    let rollout = async |version: &str| {
        let profile = json!({ "percents": [100], "soak": "PT0S" });
        let body = json!({ "release": format!("app-{version}.json"), "profile": profile });
        let (status, rollout) = cloud.ask("li", Method::POST, "/v1/rollouts", &body).await;
        assert_eq!(status, 201, "{rollout}");
        format!("/v1/rollouts/{}", rollout["id"].as_str().unwrap())
    };
    repo.release("1.1.0", 3, "exit 0");
    let good = rollout("1.1.0").await;
    live(&new, &cloud, &good, |shown| shown["state"]["phase"] == "finished").await;

    site.write("box/deaf", "");
    repo.release("1.2.0", 4, "exit 0");
    let bad = rollout("1.2.0").await;
    let back = |shown: &Value| shown["boxes"][0]["standing"] == "rolled_back";
    let shown = live(&new, &cloud, &bad, back).await;
    let why = shown["boxes"][0]["why"].as_str().unwrap();
    assert!(why.contains("echo (it was answered, and no sound came)"), "{why}");
    let start = launch(&mut RealDisk::new(&slots).unwrap()).unwrap();
    assert_eq!(start.sealed.release.version, "1.1.0");
}
