//! A supervisor on a call, and who hears whom: customer, person and supervisor each play a tone of their own, and each
//! end is listened to for all three. The telephones are reached by SIP, and their sound by RTP over loopback.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::common::{baresip_as, certificates};
use crate::handover::own_ip;
use crate::sound::{Sound, loudest, tone};
use tokio::sync::mpsc;
use trunkline_line::trunks::{
    CallRequest, IncomingCall, LineNews, LineOrder, PlacedCall, Proxy, Target, TrunkSetup, Trunks,
    TrunksConfig,
};
use trunkline_line::{
    Command as Order, HandOver, HandOverNews, HandOverRequest, MediaHandle, RecorderHandle, SuperviseMode,
};
use trunkline_ports::{free_port, sound_ports};
use trunkline_sip::hunt::HuntPlan;
use trunkline_sip::message::Uri;

const CUSTOMER: f32 = 500.0;
const PERSON: f32 = 1_200.0;
const SUPERVISOR: f32 = 1_900.0;
const PATIENCE: Duration = Duration::from_secs(10);

/// A box, or somebody's telephone: one trunk by which calls come and go.
async fn trunks(ip: IpAddr) -> Trunks {
    let rtp_ports = sound_ports();
    let config = TrunksConfig { rtp_ports, ..TrunksConfig::default() };
    let proxy = Proxy { host: ip.to_string(), port: free_port() };
    let mut setup = TrunkSetup::new("loop", proxy, SocketAddr::new(ip, 0));
    setup.inbound = true;
    Trunks::start(config, vec![setup]).await.unwrap()
}

fn to(at: SocketAddr) -> CallRequest {
    let target = Target::Direct(Box::new(Uri::at("bare", at)), at);
    CallRequest { target, from: Some("4000".to_owned()), ring: Duration::from_secs(20) }
}

async fn answered(call: &mut PlacedCall) -> Sound {
    loop {
        let news = tokio::time::timeout(PATIENCE, call.news.recv()).await;
        match news.unwrap().unwrap() {
            LineNews::Answered { media, sockets } => return Sound::begin(sockets.unwrap(), &media),
            LineNews::Dialing { .. } | LineNews::Ringing { early: None } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Somebody's telephone that answers and plays a tone.
struct Far {
    trunks: Trunks,
    calls: mpsc::Receiver<IncomingCall>,
}

impl Far {
    async fn new(ip: IpAddr) -> Self {
        let trunks = trunks(ip).await;
        let calls = trunks.incoming();
        Self { trunks, calls }
    }

    fn at(&self) -> SocketAddr {
        self.trunks.local()
    }

    async fn picks_up(&mut self, hz: f32) -> (PlacedCall, Sound) {
        let mut call = tokio::time::timeout(PATIENCE, self.calls.recv()).await.unwrap().unwrap().take();
        call.order(LineOrder::Answer);
        let mut sound = answered(&mut call).await;
        sound.play(tone(hz, 30));
        (call, sound)
    }
}

/// Calls somebody for a call, as a hand-over and a supervision both do.
fn calls(trunks: &Trunks, media: &MediaHandle, at: SocketAddr) -> HandOver {
    let plan =
        HuntPlan { steps: vec![vec![0]], each: Duration::from_secs(20), announce: false, confirm: false };
    let request =
        HandOverRequest { persons: vec![to(at)], plan, lost_after: Duration::from_secs(20), trace: None };
    HandOver::begin(trunks.clone(), media.clone(), request)
}

async fn joined(handover: &mut HandOver) -> Box<trunkline_line::Bridge> {
    loop {
        match tokio::time::timeout(PATIENCE, handover.news.recv()).await.unwrap().unwrap() {
            HandOverNews::Answered { .. } => {}
            HandOverNews::Joined { bridge, .. } => return bridge,
            other => panic!("{other:?}"),
        }
    }
}

/// Which of the three tones are heard.
fn heard(sound: &Sound) -> [bool; 3] {
    [CUSTOMER, PERSON, SUPERVISOR].map(|hz| {
        let power = loudest(&sound.heard, hz);
        assert!(!(500_000.0..5_000_000.0).contains(&power), "neither heard nor silent: {power} at {hz} Hz");
        power > 5_000_000.0
    })
}

/// Who hears whom, once what was under way before has been played.
async fn who_hears(ends: [&mut Sound; 3]) -> [[bool; 3]; 3] {
    let [customer, person, supervisor] = ends;
    let run = async |sound: &mut Sound| {
        sound.run(Duration::from_millis(300)).await;
        sound.heard.clear();
        sound.run(Duration::from_millis(500)).await;
        heard(sound)
    };
    let (customer, person, supervisor) = tokio::join!(run(customer), run(person), run(supervisor));
    [customer, person, supervisor]
}

const YES: bool = true;
const NO: bool = false;

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_hears_both_and_is_heard_by_nobody_by_the_person_or_by_both() {
    let here = IpAddr::from([127, 0, 0, 1]);
    let (boxes, media) = (trunks(here).await, MediaHandle::start().unwrap());
    let (mut customer, mut person) = (Far::new(here).await, Far::new(here).await);
    let mut supervisor = Far::new(here).await;

    let mut call = boxes.place(to(customer.at()));
    let (mut customer_call, mut at_customer) = customer.picks_up(CUSTOMER).await;
    let mut ours = answered(&mut call).await;
    // Recorded is what the customer says and what she is sent.
    let recorder = RecorderHandle::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let recording = recorder.begin(&folder.path().join("call.wav"), "call", "now").unwrap();
    ours.order(Order::Record(recording.frames));

    let mut handover = calls(&boxes, &media, person.at());
    let (_person_call, mut at_person) = person.picks_up(PERSON).await;
    ours.order(Order::Bridge(joined(&mut handover).await));

    let mut supervision = calls(&boxes, &media, supervisor.at());
    let (mut supervisor_call, mut at_supervisor) = supervisor.picks_up(SUPERVISOR).await;
    ours.order(Order::Supervise(joined(&mut supervision).await, SuperviseMode::Listen));

    for (mode, at_the_customer, at_the_person) in [
        (SuperviseMode::Listen, [NO, YES, NO], [YES, NO, NO]),
        (SuperviseMode::Whisper, [NO, YES, NO], [YES, NO, YES]),
        (SuperviseMode::Barge, [NO, YES, YES], [YES, NO, YES]),
        (SuperviseMode::Whisper, [NO, YES, NO], [YES, NO, YES]),
        (SuperviseMode::Listen, [NO, YES, NO], [YES, NO, NO]),
    ] {
        ours.order(Order::SuperviseAs(mode));
        let heard = who_hears([&mut at_customer, &mut at_person, &mut at_supervisor]).await;
        assert_eq!(heard, [at_the_customer, at_the_person, [YES, YES, NO]], "{mode:?}");
    }

    // The person leaves: the supervisor goes on hearing the robot and the customer.
    drop(handover);
    ours.order(Order::Unbridge);
    ours.play(tone(PERSON, 20));
    let heard = who_hears([&mut at_customer, &mut at_person, &mut at_supervisor]).await;
    assert_eq!([heard[0], heard[2]], [[NO, YES, NO], [YES, YES, NO]]);

    // The supervisor hangs up: the call goes on without her.
    supervisor_call.order(LineOrder::HangUp(Default::default()));
    loop {
        match tokio::time::timeout(PATIENCE, supervision.news.recv()).await.unwrap() {
            Some(HandOverNews::HungUp) => break,
            Some(_) => {}
            None => panic!("her end was not told"),
        }
    }
    ours.order(Order::Unsupervise);
    assert!(call.news.try_recv().is_err() && customer_call.news.try_recv().is_err());
    assert!(supervisor_call.news.recv().await.is_some());

    // In the recording she is where the customer heard her, and nowhere else.
    ours.order(Order::Close);
    let done = tokio::time::timeout(PATIENCE, recording.done).await.unwrap().unwrap();
    assert_eq!(done.error, None);
    let wav = trunkline_audio::wav::read(folder.path().join("call.wav")).unwrap();
    let channel = |at: usize| wav.channels[at].as_slice();
    assert!(loudest(channel(0), SUPERVISOR) < 500_000.0, "the customer's channel is hers alone");
    let windows: Vec<bool> =
        channel(1).chunks(1_600).map(|part| loudest(part, SUPERVISOR) > 5_000_000.0).collect();
    let loud = windows.iter().filter(|loud| **loud).count();
    assert!(
        (2..=6).contains(&loud),
        "heard by both for 0.8 s: {loud} of {} fifths of a second",
        windows.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ends_lets_the_supervisors_telephone_go_and_she_hears_the_robot_before() {
    let folder = tempfile::tempdir().unwrap();
    let more = "ausrc_srate 8000\nauplay_srate 8000\naudio_channels 1";
    let account = "<sip:bare@127.0.0.1>;regint=0;answermode=auto";
    let own = certificates();
    let Some((_peer, at)) = baresip_as(folder.path(), &own, free_port(), more, account).await else { return };
    // baresip names the machine's own address for its sound, whatever it is called at.
    let here = own_ip();
    let (boxes, media) = (trunks(here).await, MediaHandle::start().unwrap());
    let mut customer = Far::new(here).await;
    let mut call = boxes.place(to(customer.at()));
    let (_customer_call, mut at_customer) = customer.picks_up(CUSTOMER).await;
    let mut ours = answered(&mut call).await;

    // This telephone plays back what it hears: with a barge both come back to the customer.
    let mut supervision = calls(&boxes, &media, at);
    ours.order(Order::Supervise(joined(&mut supervision).await, SuperviseMode::Barge));
    ours.play(tone(PERSON, 10));
    let limit = Instant::now() + Duration::from_secs(5);
    while loudest(&at_customer.heard, CUSTOMER) < 5_000_000.0 {
        assert!(Instant::now() < limit, "{}", loudest(&at_customer.heard, CUSTOMER));
        at_customer.run(Duration::from_millis(100)).await;
    }
    assert!(loudest(&at_customer.heard, PERSON) > 5_000_000.0, "the robot goes on");
    drop((supervision, call));
    let limit = Instant::now() + Duration::from_secs(5);
    while boxes.gauges().await.calls > 0 {
        assert!(Instant::now() < limit, "somebody is still on the line");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
