//! A customer is handed over to persons whose telephones were not written here: SIPp and baresip.
//!
//! Without a peer its tests say so and pass, unless `TRUNKLINE_REQUIRE_PEERS=1` demands it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::common::{Peer, baresip_as, certificates, installed};
use crate::scenario::{Body, Scenario};
use tempfile::TempDir;
use trunkline_audio::Codec;
use trunkline_audio::tone::Goertzel;
use trunkline_line::trunks::{CallRequest, Proxy, Target, TrunkSetup, Trunks, TrunksConfig};
use trunkline_line::{
    Attached, Clip, Command, HandOver, HandOverNews, HandOverRequest, MediaCodec, MediaHandle, MediaTerms,
    RtpPorts,
};
use trunkline_ports::{free_port, sound_ports};
use trunkline_sip::FailureCause;
use trunkline_sip::hunt::HuntPlan;
use trunkline_sip::message::Uri;

// --- the persons -----------------------------------------------------------------------------------------

/// A telephone, and where it is.
struct Telephone {
    peer: Peer,
    at: SocketAddr,
    /// baresip's control port.
    control: Option<TcpStream>,
    _folder: TempDir,
}

impl Telephone {
    fn presses(&mut self, digit: char) {
        let text = format!("{{\"command\":\"sndcode\",\"params\":\"{digit}\",\"token\":\"t\"}}");
        write!(self.control.as_mut().unwrap(), "{}:{text},", text.len()).unwrap();
    }

    fn hangs_up(&mut self) {
        let text = "{\"command\":\"hangup\",\"params\":\"\",\"token\":\"t\"}";
        write!(self.control.as_mut().unwrap(), "{}:{text},", text.len()).unwrap();
    }
}

fn sipp(scenario: &Scenario) -> Option<Telephone> {
    if !installed("sipp", "-v", "sip-tester") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("scenario.xml"), scenario.to_xml()).unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Process::new("sipp");
    command.args(["-sf", "scenario.xml", "-i", "127.0.0.1", "-mi", "127.0.0.1", "-nostdin", "-m", "1"]);
    command.args(["-p", &at.port().to_string(), "-timeout", "60s", "-timeout_error"]);
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let peer = Peer(command.spawn().unwrap());
    let limit = Instant::now() + Duration::from_secs(5);
    while UdpSocket::bind(at).is_ok() {
        assert!(Instant::now() < limit, "nobody takes {at}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(Telephone { peer, at, control: None, _folder: folder })
}

/// A person whose telephone answers by itself and plays back what it hears.
async fn parrot() -> Option<Telephone> {
    let (folder, control) = (tempfile::tempdir().unwrap(), free_port());
    let more = "ausrc_srate 8000\nauplay_srate 8000\naudio_channels 1";
    let account = "<sip:bare@127.0.0.1>;regint=0;answermode=auto";
    let (peer, at) = baresip_as(folder.path(), &certificates(), control, more, account).await?;
    let control = TcpStream::connect(("127.0.0.1", control)).unwrap();
    Some(Telephone { peer, at, control: Some(control), _folder: folder })
}

fn refuses(code: u16) -> Option<Telephone> {
    sipp(&Scenario::called().answer(180, "", Body::None).answer(code, "", Body::None).recv("ACK"))
}

fn rings_until_cancelled() -> Option<Telephone> {
    let rings = Scenario::called().answer(180, "", Body::None).recv("CANCEL").reply(200, "", Body::None);
    sipp(&rings.answer(487, "", Body::None).recv("ACK"))
}

/// Picks up in the moment in which the call is withdrawn.
fn answers_although_cancelled() -> Option<Telephone> {
    let late = Scenario::called().answer(180, "", Body::None).recv("CANCEL").reply(200, "", Body::None);
    sipp(&late.answer(200, "", Body::Sdp).recv("ACK").recv("BYE").reply(200, "", Body::None))
}

// --- the customer ----------------------------------------------------------------------------------------

/// A customer who waits: our end of her call, and hers, both in this process.
struct World {
    trunks: Trunks,
    media: MediaHandle,
    ours: Attached,
    far: Attached,
    /// What she has heard.
    heard: Vec<i16>,
}

impl World {
    async fn new() -> Self {
        let rtp_ports = sound_ports();
        let config = TrunksConfig { rtp_ports, ..TrunksConfig::default() };
        let proxy = Proxy { host: "127.0.0.1".to_owned(), port: free_port() };
        // baresip names the machine's own address for its sound, whatever it is called at.
        let setup = TrunkSetup::new("nobody", proxy, SocketAddr::new(own_ip(), 0));
        let trunks = Trunks::start(config, vec![setup]).await.unwrap();
        let media = MediaHandle::start().unwrap();
        let ports = RtpPorts::new("127.0.0.1".parse().unwrap(), sound_ports());
        let (ours, hers) = (ports.bind().unwrap(), ports.bind().unwrap());
        let terms = |remote| MediaTerms {
            remote,
            codec: MediaCodec::G711(Codec::Pcmu),
            dtmf_hz: 8_000,
            payload_type: Codec::Pcmu.payload_type(),
            sends: true,
            secure: None,
            dtmf_pt: Some(101),
            lost_after: Duration::from_secs(20),
        };
        let (our_addr, her_addr) = (ours.local().unwrap(), hers.local().unwrap());
        let ours = media.attach(ours, terms(her_addr), None, None);
        let far = media.attach(hers, terms(our_addr), None, None);
        Self { trunks, media, ours, far, heard: Vec::new() }
    }

    /// Calls persons in steps for her.
    fn hand_over(&self, steps: &[&[&Telephone]], change: impl FnOnce(&mut HuntPlan)) -> HandOver {
        let call = |telephone: &Telephone| {
            let to = Box::new(Uri::at("bare", telephone.at));
            let (ring, from) = (Duration::from_secs(30), Some("4000".to_owned()));
            CallRequest { target: Target::Direct(to, telephone.at), from, ring }
        };
        let persons: Vec<CallRequest> = steps.iter().flat_map(|step| step.iter().map(|t| call(t))).collect();
        let mut numbers = 0..persons.len();
        let steps = steps.iter().map(|step| numbers.by_ref().take(step.len()).collect()).collect();
        let mut plan = HuntPlan { steps, each: Duration::from_secs(10), announce: false, confirm: false };
        change(&mut plan);
        let request = HandOverRequest { persons, plan, lost_after: Duration::from_secs(10), trace: None };
        HandOver::begin(self.trunks.clone(), self.media.clone(), request)
    }

    fn listen(&mut self) {
        while let Ok(frame) = self.far.frames.pop() {
            self.heard.extend(frame.samples);
        }
    }

    /// Waits for news, joins whom they bring, and tells who that is.
    async fn joined(&mut self, handover: &mut HandOver) -> usize {
        match news(handover).await {
            HandOverNews::Answered { .. } => {}
            other => panic!("{other:?}"),
        }
        match news(handover).await {
            HandOverNews::Joined { who, bridge, .. } => {
                self.listen();
                self.ours.commands.push(Command::Bridge(bridge)).unwrap();
                who
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Returns the address of this machine that others see, or the loopback address where there is none.
pub(crate) fn own_ip() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    match socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()) {
        Ok(own) => own.ip(),
        Err(_) => IpAddr::from([127, 0, 0, 1]),
    }
}

async fn news(handover: &mut HandOver) -> HandOverNews {
    let news = tokio::time::timeout(Duration::from_secs(20), handover.news.recv()).await;
    news.expect("news in time").expect("news before the end")
}

async fn failed(handover: &mut HandOver) -> FailureCause {
    loop {
        match news(handover).await {
            HandOverNews::Failed(failure) => return failure.cause,
            HandOverNews::Answered { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn tone(hz: f32, seconds: usize) -> Clip {
    (0..seconds * 8_000)
        .map(|n| ((n as f32 * std::f32::consts::TAU * hz / 8_000.0).sin() * 8_000.0) as i16)
        .collect::<Arc<[i16]>>()
}

fn loudest(heard: &[i16], hz: f32) -> f32 {
    let goertzel = Goertzel::new(hz, 8_000);
    heard.chunks_exact(1_600).map(|part| goertzel.power(part)).fold(0.0, f32::max)
}

// --- what must be true -----------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn the_person_hears_the_summary_alone_and_then_both_hear_each_other() {
    let Some(mut person) = parrot().await else { return };
    let mut world = World::new().await;
    world.far.commands.push(Command::Play { say: 1, clip: tone(500.0, 15), last: true }).unwrap();
    let mut handover = world.hand_over(&[&[&person]], |plan| plan.announce = true);
    handover.give_summary(Some(vec![tone(1_200.0, 1), tone(1_600.0, 1)]));
    assert_eq!(world.joined(&mut handover).await, 0);
    for hz in [500.0, 1_200.0, 1_600.0] {
        let before = loudest(&world.heard, hz);
        assert!(before < 100_000.0, "the customer hears nothing of it: {before} at {hz} Hz");
    }
    // What she says goes to the person, who plays it back: both ways are open.
    world.heard.clear();
    let limit = Instant::now() + Duration::from_secs(8);
    while loudest(&world.heard, 500.0) < 5_000_000.0 {
        assert!(Instant::now() < limit, "{}", loudest(&world.heard, 500.0));
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.listen();
    }
    // The person's end still held the end of the summary: she had been speaking with it until then.
    assert!(loudest(&world.heard, 1_200.0) < 100_000.0);
    person.presses('7');
    assert!(matches!(news(&mut handover).await, HandOverNews::Digit('7')));
    person.hangs_up();
    assert!(matches!(news(&mut handover).await, HandOverNews::HungUp));
    assert!(handover.news.recv().await.is_none(), "the last news");
}

#[tokio::test]
async fn a_person_who_is_busy_declines_or_does_not_answer_is_told_as_that() {
    for (code, cause) in
        [(486, FailureCause::Busy), (603, FailureCause::Declined), (480, FailureCause::NoAnswer)]
    {
        let Some(mut person) = refuses(code) else { return };
        let world = World::new().await;
        let mut handover = world.hand_over(&[&[&person]], |_| {});
        assert_eq!(failed(&mut handover).await, cause);
        person.peer.is_content().await;
    }
    let Some(mut person) = rings_until_cancelled() else { return };
    let world = World::new().await;
    let mut handover = world.hand_over(&[&[&person]], |plan| plan.each = Duration::from_millis(700));
    assert_eq!(failed(&mut handover).await, FailureCause::NoAnswer);
    person.peer.is_content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_ring_together_the_first_wins_and_the_others_are_cancelled_or_hung_up() {
    let (Some(mut rings), Some(mut late)) = (rings_until_cancelled(), answers_although_cancelled()) else {
        return;
    };
    let (Some(busy), Some(person)) = (refuses(486), parrot().await) else { return };
    let mut world = World::new().await;
    let mut handover = world.hand_over(&[&[&rings, &late, &busy, &person]], |_| {});
    assert_eq!(world.joined(&mut handover).await, 3);
    rings.peer.is_content().await;
    late.peer.is_content().await;
    assert!(world.trunks.gauges().await.calls >= 1, "the person who won is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_turn_the_next_is_called_after_one_that_is_busy_and_one_that_only_rings() {
    let (Some(mut busy), Some(mut rings)) = (refuses(486), rings_until_cancelled()) else { return };
    let Some(person) = parrot().await else { return };
    let mut world = World::new().await;
    let steps: &[&[&Telephone]] = &[&[&busy], &[&rings], &[&person]];
    let mut handover = world.hand_over(steps, |plan| plan.each = Duration::from_secs(1));
    assert_eq!(world.joined(&mut handover).await, 2);
    busy.peer.is_content().await;
    rings.peer.is_content().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_key_is_asked_for_answering_alone_takes_no_call() {
    let Some(mut person) = parrot().await else { return };
    let mut world = World::new().await;
    for (digit, takes) in [('1', true), ('2', false)] {
        let mut handover = world.hand_over(&[&[&person]], |plan| plan.confirm = true);
        assert!(matches!(news(&mut handover).await, HandOverNews::Answered { who: 0 }));
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(handover.news.try_recv().is_err(), "nobody is joined yet");
        person.presses(digit);
        match news(&mut handover).await {
            HandOverNews::Joined { bridge, .. } if takes => {
                world.ours.commands.push(Command::Bridge(bridge)).unwrap();
            }
            HandOverNews::Failed(failure) if !takes => assert_eq!(failure.cause, FailureCause::Declined),
            other => panic!("{other:?}"),
        }
        drop(handover);
        let limit = Instant::now() + Duration::from_secs(5);
        while world.trunks.gauges().await.calls > 0 {
            assert!(Instant::now() < limit, "the person is not let go");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_customer_who_leaves_withdraws_every_call() {
    let (Some(mut one), Some(mut other)) = (rings_until_cancelled(), rings_until_cancelled()) else { return };
    let world = World::new().await;
    let handover = world.hand_over(&[&[&one, &other]], |_| {});
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(handover);
    one.peer.is_content().await;
    other.peer.is_content().await;
}
