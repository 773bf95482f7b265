use super::*;
use proptest::prelude::*;

fn request(text: &str) -> Request {
    match Message::parse(text.replace('\n', "\r\n").as_bytes()) {
        Ok(Message::Request(request)) => request,
        other => panic!("not a request: {other:?}"),
    }
}

fn fault(text: &str) -> (u16, &'static str) {
    match Message::parse(text.replace('\n', "\r\n").as_bytes()) {
        Err(ParseError::BadRequest { code, what, .. }) => (code, what),
        other => panic!("not a bad request: {other:?}"),
    }
}

/// An INVITE with every liberty the grammar allows: case, compact names, folding, lists, white space.
const LOOSE: &str = "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
i: wsinv.ndaksdj@192.0.2.1
Cseq   : 0009
  INVITE
V  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
v:  SIP  / 2.0  / TCP     spindle.example.com   ;
  branch  =   z9hG4bK9ikj8  ,
 SIP  /    2.0   / UDP  192.168.255.111   ; branch=
 z9hG4bK30239
m:\"Quoted string \\\"\\\"\" <sip:jdrosen@example.com> ; newparam =
      newvalue ;
  secondparam ; q = 0.33

body";

#[test]
fn a_request_with_every_liberty_of_the_grammar_is_read() {
    let read = request(LOOSE);

    assert_eq!(read.headers.to().unwrap().tag().as_deref(), Some("1918181833n"));
    assert_eq!(read.headers.from().unwrap().display.as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(read.headers.cseq(), Some(CSeq { number: 9, method: Method::Invite }));
    assert_eq!(read.headers.list("Via").count(), 3);
    let branches: Vec<_> =
        read.headers.list("Via").map(|v| Via::parse(v).unwrap().branch().unwrap()).collect();
    assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
    assert_eq!(read.headers.get("NewFangledHeader"), Some("newfangled value continued newfangled value"));
    assert_eq!(read.headers.contact().unwrap().params.get("q").as_deref(), Some("0.33"));
    assert_eq!(&read.body[..], b"body");
    assert_eq!(Message::parse(&read.to_bytes()), Ok(Message::Request(read)));
}

#[test]
fn bare_line_feeds_and_leading_line_ends_are_forgiven() {
    let text = format!("\r\n\r\n{}", minimal("OPTIONS", "").replace("\r\n", "\n"));
    assert!(matches!(Message::parse(text.as_bytes()), Ok(Message::Request(_))));
}

#[test]
fn a_keep_alive_is_told_from_a_bad_message() {
    assert_eq!(Message::parse(b"\r\n\r\n"), Err(ParseError::KeepAlive));
    assert_eq!(Message::parse(&[0, 0, 0, 0]), Err(ParseError::KeepAlive));
    assert_eq!(Message::parse(b""), Err(ParseError::KeepAlive));
    assert!(matches!(Message::parse(b"jaK\r\n"), Err(ParseError::NotSip(_))));
}

#[test]
fn the_body_ends_where_content_length_says() {
    let read = request(&minimal("OPTIONS", "Content-Length: 3\n").replace("\n\n", "\n\nabcdef"));
    assert_eq!(&read.body[..], b"abc");
}

#[test]
fn requests_with_a_fault_are_told_with_the_code_they_deserve() {
    assert_eq!(fault(&minimal("OPTIONS", "Content-Length: 999\n")).0, 400);
    assert_eq!(fault(&minimal("OPTIONS", "Content-Length: -1\n")).0, 400);
    assert_eq!(fault(&minimal("OPTIONS", "no colon here\n")).0, 400);
    assert_eq!(fault(&minimal("OPTIONS", "Call-ID: another\n")).0, 400);
    assert_eq!(fault(&minimal("OPTIONS", "").replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE")).0, 400);
    assert_eq!(fault(&minimal("OPTIONS", "").replace("CSeq: 1", "CSeq: 99999999999")).0, 400);
    assert_eq!(fault(&minimal("OPTIONS", "").replace("Call-ID: c1\n", "")).0, 400);
    assert_eq!(fault(&minimal("OPTIONS", "").replace("SIP/2.0\nVia", "SIP/7.0\nVia")).0, 505);
    assert_eq!(fault(&minimal("OPTIONS", "").replace("OPTIONS sip:b@h", "OPTIONS nobody:b@h")).0, 416);
    assert_eq!(fault(&minimal("OPTIONS", "").replace("OPTIONS sip:b@h", "OPTIONS <sip:b@h>")).0, 400);
}

#[test]
fn no_value_can_smuggle_in_another_header() {
    let mut read = request(&minimal("OPTIONS", ""));
    read.headers.push("Subject", "x\r\nRoute: <sip:evil>");
    let Ok(Message::Request(back)) = Message::parse(&read.to_bytes()) else { panic!("unreadable") };
    assert_eq!(back.headers.get("Route"), None);
    assert_eq!(back.headers.get("Subject"), Some("x  Route: <sip:evil>"));
}

#[test]
fn debug_output_shows_no_number() {
    let read = request(&minimal("OPTIONS", "P-Asserted-Identity: <tel:+8613800138000>\n"));
    assert!(!format!("{read:?}").contains("138"));
}

fn minimal(method: &str, more: &str) -> String {
    format!(
        "{method} sip:b@h SIP/2.0\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\nFrom: <sip:a@h>;tag=1\n\
         To: <sip:b@h>\nCall-ID: c1\nCSeq: 1 {method}\n{more}\n"
    )
}

prop_compose! {
    fn any_request()(
        method in prop_oneof!["INVITE", "BYE", "OPTIONS", "[A-Z]{3,8}"],
        user in "[a-z0-9]{1,10}",
        number in 0u32..1 << 31,
        extra in proptest::collection::vec(("X-[A-Za-z]{1,8}", "[!-~]([ -~]{0,20}[!-~])?"), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) -> Request {
        let method = Method::parse(&method).unwrap();
        let mut headers = Headers::default();
        headers.push("Via", "SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bKx");
        headers.push("From", "\"A\" <sip:a@h>;tag=1");
        headers.push("To", "<sip:b@h>");
        headers.push("Call-ID", "c@h");
        headers.push("CSeq", CSeq { number, method: method.clone() }.to_wire());
        for (name, value) in extra {
            headers.push(&name, value);
        }
        Request { method, uri: Uri::sip(&user, "example.invalid:5070").unwrap(), headers, body: body.into() }
    }
}

proptest! {
    #[test]
    fn a_request_reads_back_as_written(request in any_request()) {
        prop_assert_eq!(Message::parse(&request.to_bytes()), Ok(Message::Request(request)));
    }

    #[test]
    fn a_response_reads_back_as_written(request in any_request(), code in 100u16..700, phrase in "[a-zA-Z ]{0,12}") {
        let mut response = Response::answer(&request.headers, code, phrase.trim());
        response.body = request.body.clone();
        prop_assert_eq!(Message::parse(&response.to_bytes()), Ok(Message::Response(response)));
    }

    #[test]
    fn no_bytes_panic_the_message_reader(bytes: Vec<u8>) {
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn no_damage_to_a_good_message_panics_the_reader(
        at in 0usize..900, with in proptest::collection::vec(any::<u8>(), 0..8), cut in 0usize..900,
    ) {
        let mut bytes = LOOSE.replace('\n', "\r\n").into_bytes();
        let at = at.min(bytes.len());
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        bytes.truncate(bytes.len().saturating_sub(cut % 400));
        if let Ok(Message::Request(request)) = Message::parse(&bytes) {
            let _ = (request.headers.contact(), request.headers.record_route(), request.to_bytes());
        }
    }
}
