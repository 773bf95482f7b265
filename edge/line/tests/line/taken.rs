//! The network takes a call over, both ways: asked to join customer and person without us (REFER with Replaces), and
//! moving a call of ours to another dialog (INVITE with Replaces). The network is SIPp.
//!
//! Without it the tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::played::{Played, play_at, play_calls};
use crate::sound::{Sound, loudest, tone};
use trunkline_audio::{Codec, FRAME};
use trunkline_line::trunks::{
    CallRequest, LineNews, LineOrder, PlacedCall, Proxy, Standing, Target, TrunkSetup, Trunks, TrunksConfig,
};
use trunkline_line::{Command as Order, HandOver, HandOverNews, HandOverRequest, MediaHandle};
use trunkline_ports::{free_port, sound_ports};
use trunkline_rtp::{MAX_PACKET, RtpSender, RtpTicks, Seq, Ssrc};
use trunkline_sip::TransferStep;
use trunkline_sip::hunt::HuntPlan;

fn trunk(name: &str, at: SocketAddr) -> TrunkSetup {
    let proxy = Proxy { host: at.ip().to_string(), port: at.port() };
    let mut setup = TrunkSetup::new(name, proxy, "127.0.0.1:0".parse().unwrap());
    (setup.inbound, setup.moves_calls) = (true, true);
    setup
}

async fn start(setups: Vec<TrunkSetup>) -> Trunks {
    let rtp_ports = sound_ports();
    let config = TrunksConfig { rtp_ports, ..TrunksConfig::default() };
    Trunks::start(config, setups).await.unwrap()
}

fn to(user: &str) -> CallRequest {
    let (target, from) = (Target::Number(user.to_owned()), Some("4000".to_owned()));
    CallRequest { target, from, ring: Duration::from_secs(20) }
}

async fn news(call: &mut PlacedCall) -> LineNews {
    let news = tokio::time::timeout(Duration::from_secs(10), call.news.recv()).await;
    news.expect("news in time").expect("news before the end")
}

/// Waits for the answer, and begins the sound.
async fn answered(call: &mut PlacedCall) -> Sound {
    loop {
        match news(call).await {
            LineNews::Answered { media, sockets } => return Sound::begin(sockets.unwrap(), &media),
            LineNews::Dialing { .. } | LineNews::Ringing { early: None } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn step(call: &mut PlacedCall) -> TransferStep {
    match news(call).await {
        LineNews::Transfer(step) => step,
        other => panic!("{other:?}"),
    }
}

/// Calls a person for the customer and joins the two; where her call stands is told, too.
async fn joined(trunks: &Trunks, customer: &mut Sound) -> (HandOver, Standing) {
    let plan =
        HuntPlan { steps: vec![vec![0]], each: Duration::from_secs(10), announce: false, confirm: false };
    let persons = vec![to("8001")];
    let request = HandOverRequest { persons, plan, lost_after: Duration::from_secs(20), trace: None };
    let mut handover = HandOver::begin(trunks.clone(), MediaHandle::start().unwrap(), request);
    loop {
        let news = tokio::time::timeout(Duration::from_secs(10), handover.news.recv()).await;
        match news.unwrap().unwrap() {
            HandOverNews::Answered { .. } => {}
            HandOverNews::Joined { bridge, standing, .. } => {
                customer.order(Order::Bridge(bridge));
                return (handover, standing.unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn all_calls_end(trunks: &Trunks) {
    let limit = Instant::now() + Duration::from_secs(5);
    while trunks.gauges().await.calls > 0 {
        assert!(Instant::now() < limit, "{:?}", trunks.gauges().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

// --- the network is asked --------------------------------------------------------------------------------

/// A trunk that answers two calls, and the REFER in one of them with `answer`; then it tells these states of its own
/// call, the last as the last.
fn joins(answer: &str, states: &[&str]) -> Option<Played> {
    let mut notifies = String::new();
    for (n, state) in states.iter().enumerate() {
        let over = if n + 1 == states.len() { "terminated;reason=noresource" } else { "active;expires=60" };
        let number = n + 1;
        notifies.push_str(&format!(
            "<send retrans=\"500\"><![CDATA[\nNOTIFY [next_url] SIP/2.0\nVia: SIP/2.0/[transport] \
             [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\nFrom:[$to];tag=t1\nTo:[$from]\n\
             Call-ID: [call_id]\nCSeq: {number} NOTIFY\nContact: <sip:pbx@[local_ip]:[local_port]>\nEvent: refer\n\
             Subscription-State: {over}\nContent-Type: message/sipfrag\nContent-Length: [len]\n\nSIP/2.0 {state}\n\
             ]]></send>\n<recv response=\"200\"/>\n"
        ));
    }
    let xml = include_str!("../scenarios/joins.xml").replace("SIP/2.0 ANSWER", &format!("SIP/2.0 {answer}"));
    let xml = xml.replace("\nNOTIFIES\n", &format!("\n{notifies}"));
    play_calls(SocketAddr::from(([127, 0, 0, 1], free_port())), &xml, None, 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_joins_customer_and_person_itself_has_them_and_the_box_leaves() {
    let states = ["100 Trying", "180 Ringing", "200 OK"];
    let Some(mut pbx) = joins("202 Accepted", &states) else { return };
    let trunks = start(vec![trunk("pbx", pbx.at)]).await;
    let mut customer = trunks.place(to("1001"));
    let mut sound = answered(&mut customer).await;
    let (handover, person) = joined(&trunks, &mut sound).await;
    assert!(customer.order(LineOrder::TakeOver(person)));
    assert_eq!(step(&mut customer).await, TransferStep::Accepted);
    for code in [100, 180] {
        assert_eq!(step(&mut customer).await, TransferStep::Progress(code));
    }
    assert_eq!(step(&mut customer).await, TransferStep::Done(200));
    drop((customer, handover));
    pbx.peer.is_content().await;
    all_calls_end(&trunks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_that_does_not_leaves_customer_and_person_joined_by_the_box() {
    let failed = ["100 Trying", "503 Service Unavailable"];
    for (answer, states, told) in [
        ("603 Decline", &[][..], &[TransferStep::Refused(Some(603))][..]),
        ("420 Bad Extension", &[], &[TransferStep::Refused(Some(420))]),
        (
            "202 Accepted",
            &failed,
            &[TransferStep::Accepted, TransferStep::Progress(100), TransferStep::Failed(Some(503))],
        ),
    ] {
        let Some(mut pbx) = joins(answer, states) else { return };
        let trunks = start(vec![trunk("pbx", pbx.at)]).await;
        let mut customer = trunks.place(to("1001"));
        let mut sound = answered(&mut customer).await;
        let (handover, person) = joined(&trunks, &mut sound).await;
        customer.order(LineOrder::TakeOver(person));
        for told in told {
            assert_eq!(step(&mut customer).await, *told, "{answer}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(trunks.gauges().await.calls, 2, "{answer}: both are still there");
        assert!(customer.news.try_recv().is_err());
        drop((customer, handover));
        pbx.peer.is_content().await;
        all_calls_end(&trunks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_is_not_asked_for_a_call_that_another_one_carries() {
    let (Some(mut first), Some(mut second)) = (joins("500 Not asked", &[]), joins("500 Not asked", &[]))
    else {
        return;
    };
    // SIPp waits for two calls each, and a full trunk is passed over.
    let of_two = |name, at| {
        let mut setup = trunk(name, at);
        setup.pool.channels = 2;
        setup
    };
    let trunks = start(vec![of_two("first", first.at), of_two("second", second.at)]).await;
    let mut calls = Vec::new();
    for _ in 0..4 {
        let mut call = trunks.place(to("1001"));
        let LineNews::Dialing { trunk } = news(&mut call).await else { panic!("not dialled") };
        drop(answered(&mut call).await);
        calls.push((trunk, call));
    }
    let at = calls.iter().position(|(trunk, _)| *trunk != calls[0].0).unwrap();
    let other = calls[at].1.standing().unwrap();
    calls[0].1.order(LineOrder::TakeOver(other));
    assert_eq!(step(&mut calls[0].1).await, TransferStep::Refused(None));
    // Nor is a call to take its own place.
    let own = calls[0].1.standing().unwrap();
    calls[0].1.order(LineOrder::TakeOver(own));
    assert_eq!(step(&mut calls[0].1).await, TransferStep::Refused(None));
    drop(calls);
    first.peer.is_content().await;
    second.peer.is_content().await;
}

// --- the network moves a call ----------------------------------------------------------------------------

/// Where the far end's sound is.
struct FarEnd {
    socket: UdpSocket,
    sender: RtpSender,
    played: usize,
}

impl FarEnd {
    fn new(number: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, sender: RtpSender::new(Ssrc(number), Seq(7), RtpTicks(99)), played: 0 }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Returns how many packets came since the last time, and from where.
    fn heard(&self) -> (usize, Option<SocketAddr>) {
        let (mut packets, mut source, mut buffer) = (0, None, [0; MAX_PACKET]);
        while let Ok((_, from)) = self.socket.recv_from(&mut buffer) {
            packets += 1;
            source = Some(from);
        }
        (packets, source)
    }

    /// Sends 20 ms of a tone.
    fn says(&mut self, to: SocketAddr, hz: f32) {
        let tone = tone(hz, 1);
        let frame: Vec<i16> = (0..FRAME).map(|n| tone[(self.played + n) % 8_000]).collect();
        self.played += FRAME;
        let (mut octets, mut packet) = ([0; FRAME], [0; MAX_PACKET]);
        Codec::Pcma.encode(&frame, &mut octets);
        let n = self.sender.write_into(8, &octets, self.sender.frame_ticks(), &mut packet).unwrap();
        self.socket.send_to(&packet[..n], to).unwrap();
    }
}

const SDP: &str =
    "v=0\no=peer 1 1 IN IP4 [media_ip]\ns=-\nc=IN IP4 [media_ip]\nt=0 0\nm=audio FIRST RTP/AVP 8\n";

/// What SIPp does until its call is up: it is called, or calls us.
fn begins(calls_us: bool) -> String {
    let keep = |header: &str| {
        format!(
            "<ereg regexp=\"tag=([0-9a-f]+)\" search_in=\"hdr\" header=\"{header}:\" check_it=\"true\" \
             assign_to=\"whole,ours\"/>"
        )
    };
    let head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<scenario name=\"moves\">\n";
    if !calls_us {
        return format!(
            "{head}<recv request=\"INVITE\" rrs=\"true\"><action>{}</action></recv>\n<send><![CDATA[\n\
             SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:];tag=t1\n[last_Call-ID:]\n[last_CSeq:]\n\
             Contact: <sip:pbx@[local_ip]:[local_port]>\nContent-Type: application/sdp\nContent-Length: [len]\n\n\
             {SDP}]]></send>\n<recv request=\"ACK\"/>\n",
            keep("From")
        );
    }
    let request = |method: &str, to: &str, more: &str| {
        format!(
            "<send><![CDATA[\n{method} sip:1001@[remote_ip]:[remote_port] SIP/2.0\nVia: SIP/2.0/[transport] \
             [local_ip]:[local_port];branch=[branch]\nMax-Forwards: 70\nFrom: <sip:4000@[local_ip]>;tag=t1\n\
             To: <sip:1001@[remote_ip]>{to}\nCall-ID: [call_id]\nCSeq: 1 {method}\n\
             Contact: <sip:pbx@[local_ip]:[local_port]>\n{more}]]></send>\n"
        )
    };
    let sdp = format!("Content-Type: application/sdp\nContent-Length: [len]\n\n{SDP}");
    format!(
        "{head}{}<recv response=\"100\" optional=\"true\"/>\n<recv response=\"180\" optional=\"true\"/>\n\
         <recv response=\"200\" rrs=\"true\"><action>{}</action></recv>\n{}",
        request("INVITE", "", &sdp),
        keep("To"),
        request("ACK", "[peer_tag_param]", "Content-Length: 0\n\n")
    )
}

/// A trunk whose call is up, and moves.
async fn moves(calls_us: bool, first: &FarEnd, second: &FarEnd) -> Option<(Trunks, Played, PlacedCall)> {
    let xml = format!("{}{}", begins(calls_us), include_str!("../scenarios/moves.xml"));
    let xml = xml.replace("audio FIRST", &format!("audio {}", first.port()));
    let xml = xml.replace("audio SECOND", &format!("audio {}", second.port())).replace("=THEIRS", "=t1");
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let trunks = start(vec![trunk("pbx", at)]).await;
    if !calls_us {
        let played = play_at(at, &xml, None)?;
        let call = trunks.place(to("1001"));
        return Some((trunks, played, call));
    }
    let mut calls = trunks.incoming();
    let played = play_at(at, &xml, Some(trunks.local()))?;
    let call = tokio::time::timeout(Duration::from_secs(10), calls.recv()).await.unwrap().unwrap().take();
    call.order(LineOrder::Answer);
    Some((trunks, played, call))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_network_moves_goes_on_at_the_other_place_with_its_sound() {
    for calls_us in [false, true] {
        let (mut first, mut second) = (FarEnd::new(1), FarEnd::new(2));
        let Some((trunks, mut pbx, mut call)) = moves(calls_us, &first, &second).await else { return };
        let mut sound = answered(&mut call).await;
        sound.play(tone(500.0, 10));
        sound.run(Duration::from_millis(300)).await;
        let (packets, source) = first.heard();
        assert!(packets > 5, "{packets}");
        let ours = source.unwrap();
        first.says(ours, 700.0);
        match news(&mut call).await {
            LineNews::MediaChanged(media) => {
                assert_eq!(media.remote.port(), second.port());
                sound.change(&media);
            }
            other => panic!("{other:?}"),
        }
        // What the old place still sends is not taken for the new one.
        sound.run(Duration::from_millis(200)).await;
        sound.heard.clear();
        for n in 0..60 {
            if n < 15 {
                first.says(ours, 700.0);
            }
            second.says(ours, 1_200.0);
            sound.run(Duration::from_millis(20)).await;
            if n == 15 {
                first.heard();
            }
        }
        assert_eq!(first.heard().0, 0, "nothing goes where the call was");
        let (packets, source) = second.heard();
        assert!(packets > 40 && source == Some(ours), "{packets}");
        let (new, old) = (loudest(&sound.heard, 1_200.0), loudest(&sound.heard, 700.0));
        assert!(new > 10_000_000.0, "{new}");
        assert!(old < 1_000_000.0, "{old}");
        // Whoever has the call is told its end by the new dialog.
        let over = news(&mut call).await;
        assert!(matches!(over, LineNews::PeerHungUp(_)), "{over:?}");
        pbx.peer.is_content().await;
        all_calls_end(&trunks).await;
        assert_eq!(trunks.status()[0].calls, 0, "it held one channel and gave it back");
    }
}
