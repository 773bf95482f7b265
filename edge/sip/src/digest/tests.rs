use super::*;
use proptest::prelude::*;

fn headers(lines: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::default();
    for (name, value) in lines {
        headers.push(name, value);
    }
    headers
}

fn field(headers: &Headers, name: &str, field: &str) -> Option<String> {
    split_challenges(headers.get(name).unwrap()).first().and_then(|fields| fields.get(field))
}

/// The example of RFC 7616 §3.9.1.
fn mufasa(algorithm: &str) -> (ClientAuth, Headers) {
    let challenge = format!(
        "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
         nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
    );
    let mut auth = ClientAuth::default();
    let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
    let challenged = headers(&[("WWW-Authenticate", &challenge)]);
    assert_eq!(auth.handle_challenge(&challenged, &mut Attempts::default(), cnonce), Advice::Retry);
    let mut out = Headers::default();
    let subject = Subject { method: "GET", uri: "/dir/index.html", body: b"" };
    auth.authorize(&Credentials::new("Mufasa", "Circle of Life"), subject, &mut out);
    (auth, out)
}

#[test]
fn the_examples_of_rfc_7616_come_out_right() {
    let (_, sha256) = mufasa("SHA-256");
    assert_eq!(
        field(&sha256, "Authorization", "response").as_deref(),
        Some("753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1")
    );
    let (_, md5) = mufasa("MD5");
    assert_eq!(field(&md5, "Authorization", "response").as_deref(), Some("8ca523f5e9506fed4657c9700eebdbec"));
}

#[test]
fn without_qop_the_answer_is_that_of_rfc_2069() {
    let challenge = headers(&[("Proxy-Authenticate", "Digest realm=\"r\", nonce=\"n\"")]);
    let mut auth = ClientAuth::default();
    auth.handle_challenge(&challenge, &mut Attempts::default(), "c");
    let mut out = Headers::default();
    let subject = Subject { method: "INVITE", uri: "sip:b@h", body: b"" };
    auth.authorize(&Credentials::new("u", "p"), subject, &mut out);

    let ha1 = hex::encode(Md5::digest("u:r:p"));
    let ha2 = hex::encode(Md5::digest("INVITE:sip:b@h"));
    let expected = hex::encode(Md5::digest(format!("{ha1}:n:{ha2}")));
    let value = out.get("Proxy-Authorization").unwrap();
    assert!(value.contains(&expected));
    assert!(!value.contains("nc=") && !value.contains("algorithm="));
}

#[test]
fn of_several_challenges_the_strongest_known_one_is_answered() {
    let challenge = headers(&[
        (
            "WWW-Authenticate",
            "Digest realm=\"r\", nonce=\"1\", algorithm=MD5, qop=\"auth\", Basic realm=\"r\"",
        ),
        ("WWW-Authenticate", "Digest realm=\"r\", nonce=\"2\", algorithm=SHA-256, qop=\"auth\""),
        ("WWW-Authenticate", "Digest realm=\"r\", nonce=\"3\", algorithm=SHA3-512, qop=\"auth\""),
    ]);
    let mut auth = ClientAuth::default();
    assert_eq!(auth.handle_challenge(&challenge, &mut Attempts::default(), "c"), Advice::Retry);
    let mut out = Headers::default();
    auth.authorize(&Credentials::new("u", "p"), Subject { method: "BYE", uri: "sip:b", body: b"" }, &mut out);
    assert_eq!(out.all("Authorization").count(), 1);
    assert_eq!(field(&out, "Authorization", "nonce").as_deref(), Some("2"));
}

#[test]
fn a_proxy_and_a_server_may_both_ask() {
    let mut auth = ClientAuth::default();
    let mut attempts = Attempts::default();
    let proxy = headers(&[("Proxy-Authenticate", "Digest realm=\"p\", nonce=\"1\", qop=\"auth\"")]);
    let server = headers(&[("WWW-Authenticate", "Digest realm=\"s\", nonce=\"2\", qop=\"auth\"")]);
    assert_eq!(auth.handle_challenge(&proxy, &mut attempts, "c"), Advice::Retry);
    assert_eq!(auth.handle_challenge(&server, &mut attempts, "c"), Advice::Retry);
    let mut out = Headers::default();
    auth.authorize(
        &Credentials::new("u", "p"),
        Subject { method: "INVITE", uri: "sip:b", body: b"" },
        &mut out,
    );
    assert!(out.get("Authorization").is_some() && out.get("Proxy-Authorization").is_some());
    assert_eq!(
        auth.handle_challenge(&server, &mut attempts, "c"),
        Advice::GiveUp,
        "refused twice in one realm"
    );
}

#[test]
fn a_nonce_is_counted_up_and_a_stale_one_is_replaced_only_so_often() {
    let (mut auth, first) = mufasa("SHA-256");
    assert_eq!(field(&first, "Authorization", "nc").as_deref(), Some("00000001"));
    let mut again = Headers::default();
    auth.authorize(&Credentials::new("u", "p"), Subject { method: "GET", uri: "/", body: b"" }, &mut again);
    assert_eq!(field(&again, "Authorization", "nc").as_deref(), Some("00000002"));

    let stale = headers(&[("WWW-Authenticate", "Digest realm=\"r\", nonce=\"x\", qop=\"auth\", stale=TRUE")]);
    let mut attempts = Attempts::default();
    let advice: Vec<_> = (0..5).map(|_| auth.handle_challenge(&stale, &mut attempts, "c")).collect();
    assert_eq!(advice, [Advice::Retry, Advice::Retry, Advice::Retry, Advice::GiveUp, Advice::GiveUp]);
}

fn round(
    verifier: &mut Verifier,
    client: &mut ClientAuth,
    password: &str,
    now: Instant,
    stale: bool,
) -> Verdict {
    let mut challenged = Headers::default();
    for value in verifier.challenges(now, stale) {
        challenged.push("WWW-Authenticate", value);
    }
    client.handle_challenge(&challenged, &mut Attempts::default(), "cnonce");
    ask(verifier, client, password, now)
}

fn ask(verifier: &mut Verifier, client: &mut ClientAuth, password: &str, now: Instant) -> Verdict {
    let subject = Subject { method: "INVITE", uri: "sip:b@h", body: b"" };
    let mut out = Headers::default();
    client.authorize(&Credentials::new("u", password), subject, &mut out);
    verifier.verify(now, &out, false, subject)
}

fn verifier(algorithms: Vec<Algorithm>) -> (Verifier, Instant) {
    let now = Instant::now();
    (Verifier::new("trunk", vec![Credentials::new("u", "p")], algorithms, [7; 32], now), now)
}

#[test]
fn a_server_knows_the_right_password_in_every_algorithm() {
    for hash in [Hash::Md5, Hash::Sha256, Hash::Sha512256] {
        for session in [false, true] {
            let (mut server, now) = verifier(vec![Algorithm { hash, session }]);
            let mut client = ClientAuth::default();
            assert_eq!(round(&mut server, &mut client, "p", now, false), Verdict::Known("u".into()));
            assert_eq!(
                ask(&mut server, &mut client, "p", now),
                Verdict::Known("u".into()),
                "the nonce goes on"
            );
            assert_eq!(round(&mut server, &mut client, "wrong", now, false), Verdict::Wrong);
        }
    }
}

#[test]
fn a_captured_answer_cannot_be_replayed_and_an_old_nonce_is_stale() {
    let (mut server, now) = verifier(vec![Algorithm::SHA256]);
    let mut client = ClientAuth::default();
    assert_eq!(round(&mut server, &mut client, "p", now, false), Verdict::Known("u".into()));
    let mut replay = client.clone();
    assert_eq!(ask(&mut server, &mut client, "p", now), Verdict::Known("u".into()));
    assert_eq!(ask(&mut server, &mut replay, "p", now), Verdict::Stale);
    assert_eq!(ask(&mut server, &mut client, "p", now + NONCE_LIFE), Verdict::Stale);
    assert_eq!(
        server.verify(now, &Headers::default(), false, Subject { method: "", uri: "", body: b"" }),
        Verdict::Missing
    );
}

proptest! {
    #[test]
    fn no_text_panics_the_challenge_reader(text in ".*", tail in "[ -~]*") {
        let (mut server, now) = verifier(vec![Algorithm::MD5]);
        for text in [text, format!("Digest realm=\"trunk\", {tail}")] {
            let read = headers(&[("WWW-Authenticate", &text), ("Authorization", &text)]);
            let _ = ClientAuth::default().handle_challenge(&read, &mut Attempts::default(), "c");
            let _ = server.verify(now, &read, false, Subject { method: "", uri: "", body: b"" });
        }
    }
}
