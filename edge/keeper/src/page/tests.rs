//! The page over real HTTP.

use std::net::SocketAddr;
use std::path::Path;

use reqwest::header::{COOKIE, RETRY_AFTER, SET_COOKIE};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::json;
use trunkline_wire::{CallsReport, TrunkReport};

use super::*;
use crate::config::{CloudConfig, KeyConfig, OrdersConfig, SelftestConfig};

struct Stand {
    dir: tempfile::TempDir,
    page: Page,
    http: Client,
    at: SocketAddr,
    /// In the place of the cloud: a port that answers.
    _cloud: TcpListener,
}

impl Stand {
    async fn new(always: bool) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let cloud = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let there = cloud.local_addr().unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            cloud: CloudConfig {
                mqtt: there.to_string(),
                api: format!("https://{there}"),
                ca: "ca.pem".into(),
            },
            key: KeyConfig::default(),
            updates: None,
            calls: None,
            orders: OrdersConfig::default(),
            selftest: SelftestConfig::default(),
            metrics: None,
            otlp: None,
            page: Some(PageConfig { listen: at, always }),
        };
        let page = Page::start(&config, &Clock::of_the_machine()).await.unwrap().unwrap();
        let http = Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { dir, page, http, at, _cloud: cloud }
    }

    fn identity(&self) -> Identity {
        Identity::open(&self.dir.path().join("identity"), &KeyConfig::default()).unwrap()
    }

    fn code(&self) -> String {
        self.identity().claim_code().unwrap().reveal()
    }

    async fn get(&self, path: &str, cookie: &str) -> Response {
        self.http.get(format!("http://{}{path}", self.at)).header(COOKIE, cookie).send().await.unwrap()
    }

    async fn login(&self, code: &str) -> Response {
        let form = format!("code={}", code.replace('-', "%2D"));
        self.http.post(format!("http://{}/login", self.at)).body(form).send().await.unwrap()
    }

    /// Everything that who is in can see.
    async fn all(&self, cookie: &str) -> String {
        let mut all = String::new();
        for path in ["/", "/?lang=zh", "/label.svg", "/none"] {
            all += &self.get(path, cookie).await.text().await.unwrap();
        }
        all
    }
}

async fn cookie(response: Response) -> String {
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    let set = response.headers()[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    set.split(';').next().unwrap().to_owned()
}

fn report() -> Reported {
    let trunk = |name: &str, up, trouble: &str| TrunkReport {
        name: name.into(),
        up,
        registered: up.then_some(true),
        trouble: trouble.into(),
        calls_per_second: Some(5.0),
        ..TrunkReport::default()
    };
    Reported {
        software: "1.4.1".into(),
        calls: Some(CallsReport {
            state: "up".into(),
            why: String::new(),
            calls: 1,
            draining: false,
            trunks: vec![trunk("carrier", true, ""), trunk("pbx", false, "403 <b>Forbidden</b>")],
        }),
        components: vec![json!({
            "component": "app", "stage": "downloading",
            "current": {"release": {"version": "1.4.1"}}, "job": {"release": {"version": "1.4.2"}},
        })],
        ..Reported::default()
    }
}

/// None of the box's secrets is in what was sent. Keys are looked for by a part of their text.
fn shows_no_secret(dir: &Path, shown: &str) {
    for name in ["key.pem", "request.der"] {
        let Ok(secret) = std::fs::read(dir.join("identity").join(name)) else { continue };
        let text = String::from_utf8_lossy(&secret);
        let part = text.lines().find(|line| !line.starts_with("-----")).unwrap_or_default();
        assert!(part.len() > 8 && !shown.contains(part), "{name}");
    }
    assert!(!shown.contains("PRIVATE") && !shown.contains("BEGIN"));
}

#[tokio::test]
async fn without_the_code_there_is_nothing_but_the_login() {
    let stand = Stand::new(false).await;
    let (id, code) = (stand.identity().id().to_string(), stand.code());
    let response = stand.get("/", "").await;
    assert_eq!(response.status(), StatusCode::OK);
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    for no_session in ["", "trunkline=", "trunkline=0000", "other=1; trunkline=x"] {
        let all = stand.all(no_session).await;
        assert!(all.contains("name=code") && all.contains("标签上的代码"));
        assert!(!all.contains(&id) && !all.contains(&code) && !all.contains("<svg"), "{all}");
        shows_no_secret(stand.dir.path(), &all);
    }
    assert_eq!(stand.get("/label.svg", "").await.status(), StatusCode::NOT_FOUND);
    let wrong = stand.login("0000-0000").await;
    assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    assert!(wrong.headers().get(SET_COOKIE).is_none());
    assert!(!wrong.text().await.unwrap().contains(&id));
    let large = stand.login(&"A".repeat(5_000)).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn the_code_opens_it_and_the_label_and_the_checks_are_shown_until_one_leaves() {
    let stand = Stand::new(false).await;
    let (id, code) = (stand.identity().id().to_string(), stand.code());
    let session = cookie(stand.login(&code.to_lowercase()).await).await;
    let page = stand.get("/", &session).await.text().await.unwrap();
    for text in [id.as_str(), &code, "has not joined", "Cloud, HTTPS", "/label.svg"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert!(stand.get("/?lang=zh", &session).await.text().await.unwrap().contains("云端域名"));
    let label = stand.get("/label.svg", &session).await;
    assert_eq!(label.headers()["content-type"], "image/svg+xml");
    assert!(label.text().await.unwrap().contains("<svg"));
    shows_no_secret(stand.dir.path(), &stand.all(&session).await);
    // Another browser is not in, and who has left is not either.
    assert!(!stand.get("/", "").await.text().await.unwrap().contains(&id));
    let left = stand.http.post(format!("http://{}/logout", stand.at)).header(COOKIE, &session);
    assert_eq!(left.send().await.unwrap().status(), StatusCode::SEE_OTHER);
    assert!(!stand.get("/", &session).await.text().await.unwrap().contains(&id));
}

#[tokio::test]
async fn who_guesses_waits_and_then_not_even_the_code_opens() {
    let stand = Stand::new(false).await;
    for _ in 0..5 {
        assert_eq!(stand.login("0000-0000").await.status(), StatusCode::FORBIDDEN);
    }
    let waits = stand.login(&stand.code()).await;
    assert_eq!(waits.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = waits.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((600..=900).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn once_joined_it_says_how_the_lines_and_versions_are_or_is_gone() {
    let stand = Stand::new(true).await;
    let session = cookie(stand.login(&stand.code()).await).await;
    let (dir, at, http) = (stand.dir, stand.at, stand.http.clone());
    let identity = Identity::open(&dir.path().join("identity"), &KeyConfig::default()).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, identity.id().as_str());
    let key = rcgen::KeyPair::generate().unwrap();
    identity.save_certificate(&params.self_signed(&key).unwrap().pem()).unwrap();
    let (_up, linked) = watch::channel(true);
    let (_report, reports) = watch::channel(report());
    let page = stand.page.joined(Joined { linked, reports }).unwrap();
    let get = async |path: &str| {
        let asked = http.get(format!("http://{at}{path}")).header(COOKIE, &session);
        asked.send().await.unwrap().text().await.unwrap()
    };
    let shown = get("/").await;
    for text in ["joined, certificate until", "carrier", "registered", "1.4.1 → 1.4.2", "downloading"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(shown.contains("403 &lt;b&gt;Forbidden") && !shown.contains("<b>Forbidden"));
    let code = identity.claim_code().unwrap().reveal();
    assert!(!shown.contains(&code), "the code is spent, and shown no more");
    assert_eq!(get("/label.svg").await, "not found\n");
    shows_no_secret(dir.path(), &shown);
    drop(page);

    // One that is for joining only ends then.
    let stand = Stand::new(false).await;
    let (_up, linked) = watch::channel(true);
    let (_report, reports) = watch::channel(report());
    assert!(stand.page.joined(Joined { linked, reports }).is_none());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(stand.http.get(format!("http://{}/", stand.at)).send().await.is_err());
}

#[tokio::test]
async fn a_few_strangers_that_say_nothing_keep_nobody_out() {
    let stand = Stand::new(false).await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(tokio::net::TcpStream::connect(stand.at).await.unwrap());
    }
    assert_eq!(stand.get("/", "").await.status(), StatusCode::OK);
}
