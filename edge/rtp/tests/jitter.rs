//! The jitter buffer against a network that is simulated from a seed.

use std::time::{Duration, Instant};

use proptest::prelude::{any, prop_assert, proptest};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trunkline_rtp::{Csrcs, Frame, JitterBuffer, JitterConfig, Pushed, RtpPacket, RtpTicks, Seq, Ssrc};

/// What the network does to packets.
#[derive(Clone, Copy, Default)]
struct Network {
    jitter_ms: u64,
    loss: f64,
    duplicate: f64,
    /// Parts per million by which the sender's clock is fast.
    skew_ppm: i64,
}

/// What came out: the number of each frame, or what stood in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Frame(u32),
    Lost,
    Empty,
}

struct World {
    buffer: JitterBuffer,
    start: Instant,
    rng: ChaCha8Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            buffer: JitterBuffer::new(JitterConfig::default()),
            start: Instant::now(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Sends `frames` numbered frames in packets of `per_packet` and plays them.
    fn run(&mut self, frames: u32, per_packet: u32, network: Network) -> Vec<Heard> {
        let first_ticks = u32::MAX - 16_000; // wraps after two seconds
        let mut arrivals: Vec<(u64, u32)> = Vec::new();
        for packet in 0..frames / per_packet {
            let sent_us = u64::from(packet * per_packet) * 20_000;
            let sent_us = sent_us.saturating_add_signed(-(sent_us as i64) * network.skew_ppm / 1_000_000);
            for _ in 0..1 + u32::from(self.rng.random_bool(network.duplicate)) {
                let late = self.rng.random_range(0..=network.jitter_ms * 1_000);
                if !self.rng.random_bool(network.loss) {
                    arrivals.push((30_000 + sent_us + late, packet));
                }
            }
        }
        arrivals.sort();
        let mut arrivals = arrivals.into_iter().peekable();
        let mut heard = Vec::new();
        for tick in 0..u64::from(frames) + 40 {
            let now_us = tick * 20_000 + 7_000;
            while let Some(&(at, packet)) = arrivals.peek().filter(|(at, _)| *at <= now_us) {
                arrivals.next();
                let payload: Vec<u8> =
                    (packet * per_packet..(packet + 1) * per_packet).flat_map(octets_of).collect();
                let packet = speech(
                    65_500u16.wrapping_add(packet as u16),
                    first_ticks.wrapping_add(packet * per_packet * 160),
                    &payload,
                );
                self.buffer.push(self.start + Duration::from_micros(at), &packet);
            }
            heard.push(match self.buffer.pop(self.start + Duration::from_micros(now_us)) {
                Frame::Audio { payload_type, payload } => {
                    assert_eq!(payload_type, 8);
                    Heard::Frame(number_of(payload))
                }
                Frame::Packets(_) => unreachable!("G.711 has no packets"),
                Frame::Lost => Heard::Lost,
                Frame::Empty => Heard::Empty,
            });
        }
        heard
    }
}

/// A frame that carries its number in the two lowest bits of each octet, loud except every 50th.
fn octets_of(frame: u32) -> [u8; 160] {
    let level = if frame % 50 < 5 { 0x00 } else { 0x60 };
    std::array::from_fn(|i| (level | (frame >> (2 * (i % 12)) & 3) as u8) ^ 0x55)
}

fn number_of(payload: &[u8]) -> u32 {
    assert_eq!(payload.len(), 160);
    let number = (0..12).map(|i| u32::from((payload[i] ^ 0x55) & 3) << (2 * i)).sum();
    assert_eq!(payload, octets_of(number), "the frame is torn");
    number
}

fn speech(seq: u16, ticks: u32, payload: &[u8]) -> RtpPacket<'_> {
    RtpPacket {
        marker: false,
        payload_type: 8,
        seq: Seq(seq),
        ticks: RtpTicks(ticks),
        ssrc: Ssrc(1),
        csrc: Csrcs::default(),
        extension: None,
        padding: 0,
        payload,
    }
}

fn count(heard: &[Heard], what: Heard) -> usize {
    let played = |h: &Heard| matches!(h, Heard::Frame(_));
    let first = heard.iter().position(played).expect("something is played");
    let last = heard.iter().rposition(played).expect("something is played");
    heard[first..last].iter().filter(|&&h| h == what).count()
}

fn numbers(heard: &[Heard]) -> Vec<u32> {
    heard
        .iter()
        .filter_map(|h| match h {
            Heard::Frame(number) => Some(*number),
            Heard::Lost | Heard::Empty => None,
        })
        .collect()
}

/// What is told to follow each lost frame, as the numbers of the frames; frames of 20 ms that arrive when `arrives`
/// says, in ms.
fn followers(count: u32, arrives: impl Fn(u32) -> Option<u64>) -> (Vec<Vec<u32>>, JitterBuffer) {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(JitterConfig { min_ms: 80, start_ms: 80, max_ms: 200 });
    let mut arrivals: Vec<_> = (0..count).filter_map(|n| Some((arrives(n)?, n))).collect();
    arrivals.sort_unstable();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut told = Vec::new();
    for tick in 0..u64::from(count) {
        let now = tick * 20 + 7;
        while let Some((at, n)) = arrivals.next_if(|(at, _)| *at <= now) {
            let payload = octets_of(n);
            buffer.push(start + Duration::from_millis(at), &speech(n as u16, n * 160, &payload));
        }
        if buffer.pop(start + Duration::from_millis(now)) == Frame::Lost {
            let octets = buffer.following().map(|(payload_type, octets)| {
                assert_eq!(payload_type, 8);
                octets.to_vec()
            });
            told.push(octets.unwrap_or_default().chunks(160).map(number_of).collect());
        }
    }
    (told, buffer)
}

#[test]
fn a_lost_frame_is_told_with_the_two_that_follow_it() {
    let (told, buffer) = followers(100, |n| (n % 20 != 11).then_some(u64::from(n) * 20));
    assert_eq!(told, [[12, 13], [32, 33], [52, 53], [72, 73], [92, 93]].map(Vec::from));
    assert_eq!((buffer.stats().lost, buffer.stats().concealed), (5, 5));
    // Of two lost in a row the first has nothing behind it, and one may be followed by one frame only.
    let gaps = [11, 12, 31, 33];
    let (told, _) = followers(60, |n| (!gaps.contains(&n)).then_some(u64::from(n) * 20));
    assert_eq!(told, [vec![], vec![13, 14], vec![32], vec![34, 35]]);
}

#[test]
fn nothing_follows_a_frame_that_may_still_come_or_the_last_one() {
    // The buffer has run dry: all that is behind the gap is still under way.
    let (told, buffer) = followers(40, |n| Some(u64::from(n) * 20 + if n < 20 { 0 } else { 400 }));
    assert!(!told.is_empty() && told.iter().all(Vec::is_empty), "{told:?}");
    assert_eq!(buffer.stats().lost, 0);
    assert_eq!(JitterBuffer::new(JitterConfig::default()).following(), None);
}

#[test]
fn a_calm_network_delivers_everything_in_order_across_the_wrap_of_both_counters() {
    let mut world = World::new(1);
    let heard = world.run(1_000, 1, Network { jitter_ms: 2, ..Network::default() });
    let numbers = numbers(&heard);
    assert!(numbers.is_sorted());
    let stats = world.buffer.stats();
    assert_eq!((stats.lost, stats.late, stats.duplicate, stats.resets), (0, 0, 0, 0));
    assert_eq!(numbers.len() as u64 + stats.skipped, 1_000 + stats.inserted - stats.concealed);
    assert_eq!(world.buffer.target_ms(), 20);
    assert!((20..=45).contains(&world.buffer.delay_ms()), "{} ms", world.buffer.delay_ms());
}

#[test]
fn packets_of_10_30_40_and_60_ms_are_cut_into_frames_of_20() {
    for per_packet in [2, 3] {
        let mut world = World::new(2);
        let heard = world.run(600, per_packet, Network { jitter_ms: 5, ..Network::default() });
        assert!(numbers(&heard).is_sorted());
        assert_eq!(world.buffer.stats().lost, 0);
        assert!(numbers(&heard).len() > 590);
    }
    for ticks in [80usize, 240] {
        let mut buffer = JitterBuffer::new(JitterConfig::default());
        let start = Instant::now();
        let whole: Vec<u8> = (0..240).flat_map(octets_of).collect();
        let mut heard = Vec::new();
        let mut sent = 0;
        for tick in 0..240u64 {
            while (sent + 1) * ticks <= (tick as usize + 1) * 160 {
                let at = sent * ticks;
                let packet = speech(sent as u16, at as u32, &whole[at..at + ticks]);
                buffer.push(start + Duration::from_millis(tick * 20), &packet);
                sent += 1;
            }
            match buffer.pop(start + Duration::from_millis(tick * 20 + 1)) {
                Frame::Audio { payload, .. } => heard.push(number_of(payload)),
                Frame::Packets(_) | Frame::Lost | Frame::Empty => {}
            }
        }
        assert!(heard.len() > 225, "{} of 240 with {ticks} ticks", heard.len());
        assert!(heard.is_sorted());
        assert_eq!(buffer.stats().lost, 0);
    }
}

#[test]
fn hundreds_of_bad_networks_tear_and_swap_nothing_and_conceal_little_more_than_was_lost() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        let network = Network {
            jitter_ms: world.rng.random_range(0..100),
            loss: world.rng.random_range(0.0..0.1),
            duplicate: world.rng.random_range(0.0..0.05),
            skew_ppm: world.rng.random_range(-200..200),
        };
        let frames = 1_500;
        let heard = world.run(frames, 1, network);
        let stats = world.buffer.stats();
        let numbers = numbers(&heard);
        assert!(numbers.is_sorted(), "seed {seed}: out of order");
        let concealed = count(&heard, Heard::Lost) as f64 / f64::from(frames);
        assert!(
            concealed <= network.loss * 1.5 + 0.03,
            "seed {seed}: {concealed:.3} concealed at loss {:.3} and {} ms: {stats:?}",
            network.loss,
            network.jitter_ms,
        );
        assert_eq!(count(&heard, Heard::Empty), 0, "seed {seed}: a hole in the middle: {stats:?}");
        let delay = u64::from(world.buffer.delay_ms());
        assert!(delay <= network.jitter_ms + 75, "seed {seed}: {delay} ms at {} ms", network.jitter_ms);
    }
}

#[test]
fn the_delay_grows_with_the_jitter_and_shrinks_again() {
    let mut world = World::new(7);
    let start = world.start;
    let mut push_and_pop = |from: u32, frames: u32, jitter: u64| {
        let mut arrivals: Vec<(u64, u32)> = (from..from + frames)
            .map(|f| (u64::from(f) * 20 + world.rng.random_range(0..=jitter), f))
            .collect();
        arrivals.sort();
        let mut arrivals = arrivals.into_iter().peekable();
        for tick in from..from + frames {
            let now = u64::from(tick) * 20 + 13;
            while let Some((at, frame)) = arrivals.next_if(|(at, _)| *at <= now) {
                let payload = octets_of(frame);
                world
                    .buffer
                    .push(start + Duration::from_millis(at), &speech(frame as u16, frame * 160, &payload));
            }
            world.buffer.pop(start + Duration::from_millis(now));
        }
        world.buffer.delay_ms()
    };
    let calm = push_and_pop(0, 500, 0);
    let rough = push_and_pop(500, 500, 80);
    let calm_again = push_and_pop(1_000, 1_500, 0);
    assert!(calm <= 40, "{calm} ms");
    assert!((80..=125).contains(&rough), "{rough} ms");
    assert!(calm_again <= 45, "{calm_again} ms");
}

#[test]
fn silence_of_the_peer_is_empty_after_100_ms_and_speech_resumes_with_the_full_delay() {
    let mut world = World::new(3);
    let at = |ms: u64| world.start + Duration::from_millis(ms);
    let mut heard = Vec::new();
    for tick in 0..150u64 {
        if !(50..100).contains(&tick) {
            let payload = octets_of(tick as u32);
            // The numbers go on without a gap, the clock does not: silence suppression.
            let seq = if tick < 50 { tick } else { tick - 50 };
            let pushed = world.buffer.push(at(tick * 20), &speech(seq as u16, tick as u32 * 160, &payload));
            assert_eq!(pushed, Pushed::Stored);
        }
        heard.push(match world.buffer.pop(at(tick * 20 + 5)) {
            Frame::Audio { payload, .. } => Heard::Frame(number_of(payload)),
            Frame::Packets(_) => unreachable!("G.711 has no packets"),
            Frame::Lost => Heard::Lost,
            Frame::Empty => Heard::Empty,
        });
    }
    assert_eq!(heard.iter().filter(|&&h| h == Heard::Lost).count(), 5, "{heard:?}");
    assert!(heard[60..100].iter().all(|&h| h == Heard::Empty), "{heard:?}");
    assert_eq!(heard[100..].iter().find(|&&h| h != Heard::Empty), Some(&Heard::Frame(100)));
    assert_eq!(world.buffer.stats().lost, 0);
    assert_eq!(world.buffer.stats().resets, 0);
}

#[test]
fn a_new_stream_is_believed_at_its_second_packet_and_a_stray_one_is_not() {
    let mut world = World::new(4);
    let at = |ms: u64| world.start + Duration::from_millis(ms);
    let payload = octets_of(1);
    for frame in 0..20u64 {
        world.buffer.push(at(frame * 20), &speech(frame as u16, frame as u32 * 160, &payload));
        world.buffer.pop(at(frame * 20 + 1));
    }
    let mut stray = speech(40_000, 5_000_000, &payload);
    stray.ssrc = Ssrc(2);
    assert_eq!(world.buffer.push(at(400), &stray), Pushed::Probation);
    assert_eq!(world.buffer.push(at(400), &speech(20, 20 * 160, &payload)), Pushed::Stored);
    assert_eq!(world.buffer.stats().resets, 0);

    assert_eq!(world.buffer.push(at(420), &stray), Pushed::Probation);
    stray.seq = Seq(40_001);
    stray.ticks = RtpTicks(5_000_160);
    assert_eq!(world.buffer.push(at(440), &stray), Pushed::Stored);
    assert_eq!(world.buffer.stats().resets, 1);
    // The old stream's stragglers do not win it back.
    assert_eq!(world.buffer.push(at(441), &speech(21, 21 * 160, &payload)), Pushed::Probation);
}

#[test]
fn a_clock_set_anew_with_numbers_that_go_on_is_followed_at_once() {
    let mut world = World::new(5);
    let at = |ms: u64| world.start + Duration::from_millis(ms);
    let mut played = 0;
    for frame in 0..100u64 {
        let ticks = if frame < 50 { 0 } else { 3_000_000_000 } + frame as u32 * 160;
        let payload = octets_of(frame as u32);
        assert_eq!(world.buffer.push(at(frame * 20), &speech(frame as u16, ticks, &payload)), Pushed::Stored);
        if matches!(world.buffer.pop(at(frame * 20 + 1)), Frame::Audio { .. }) {
            played += 1;
        }
    }
    assert_eq!(world.buffer.stats().resets, 1);
    assert!(played > 90, "{played}");
}

#[test]
fn a_stall_of_two_seconds_that_ends_in_a_burst_is_caught_up_with() {
    let mut world = World::new(6);
    let at = |ms: u64| world.start + Duration::from_millis(ms);
    let mut last = 0;
    for tick in 0..400u64 {
        let arrived = match tick {
            100..200 => 0..0,
            200 => 100..201,
            _ => tick..tick + 1,
        };
        for frame in arrived {
            let payload = octets_of(frame as u32);
            world.buffer.push(at(tick * 20), &speech(frame as u16, frame as u32 * 160, &payload));
        }
        if let Frame::Audio { payload, .. } = world.buffer.pop(at(tick * 20 + 1)) {
            last = number_of(payload);
        }
    }
    assert!(last >= 390, "still at frame {last} of 400: {:?}", world.buffer.stats());
    assert!(world.buffer.delay_ms() <= 200);
}

#[test]
fn what_is_not_g711_or_holds_nothing_is_ignored() {
    let mut world = World::new(8);
    let mut packet = speech(0, 0, &[0xd5; 160]);
    packet.payload_type = 101;
    assert_eq!(world.buffer.push(world.start, &packet), Pushed::Ignored);
    assert_eq!(world.buffer.push(world.start, &speech(0, 0, &[])), Pushed::Ignored);
    assert_eq!(world.buffer.pop(world.start), Frame::Empty);
}

#[test]
fn any_packets_at_any_time_leave_the_buffer_standing() {
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut buffer = JitterBuffer::new(JitterConfig::default());
        let start = Instant::now();
        let (mut now, mut ticks, mut seq) = (0u64, rng.random::<u32>(), rng.random::<u16>());
        let payload = [0x55u8; 2_100];
        for _ in 0..2_000 {
            now += rng.random_range(0..30_000);
            match rng.random_range(0..20) {
                0 => ticks = rng.random(),
                1 => seq = rng.random(),
                2 => ticks = ticks.wrapping_sub(rng.random_range(0..20_000)),
                3 => ticks = ticks.wrapping_add(rng.random_range(0..20_000)),
                4 => now += rng.random_range(0..3_000_000),
                _ => ticks = ticks.wrapping_add(160),
            }
            seq = seq.wrapping_add(rng.random_range(0..3));
            let mut packet = speech(seq, ticks, &payload[..rng.random_range(0..2_100)]);
            packet.ssrc = Ssrc(rng.random_range(0..2));
            packet.payload_type = [0, 8, 13][rng.random_range(0..3)];
            let at = start + Duration::from_micros(now);
            buffer.push(at, &packet);
            buffer.pop(at);
        }
        // Whatever was, a peer that then behaves is heard.
        let mut heard = 0;
        for frame in 0..200u32 {
            let at = start + Duration::from_micros(now + 200_000 + u64::from(frame) * 20_000);
            buffer.push(at, &speech(frame as u16, frame * 160, &payload[..160]));
            heard += usize::from(matches!(buffer.pop(at), Frame::Audio { .. }));
        }
        assert!(heard > 150, "seed {seed}: {heard} of 200");
    }
}

// --- Opus --------------------------------------------------------------------------------------------------

/// A packet of 20 ms of the octets of libopus' narrow band: its number in the second octet, at 48 kHz.
fn opus(seq: u16, payload: &[u8]) -> RtpPacket<'_> {
    let ticks = 4_294_960_000u32.wrapping_add(u32::from(seq) * 960);
    RtpPacket { payload_type: 111, ticks: RtpTicks(ticks), ..speech(seq, 0, payload) }
}

/// What came out of a buffer of Opus, for packets that arrive when `arrives` says, in ms; `None` never does.
fn opus_heard(count: u16, arrives: impl Fn(u16) -> Option<u64>) -> (Vec<String>, JitterBuffer) {
    let start = Instant::now();
    let config = JitterConfig { min_ms: 40, ..JitterConfig::default() };
    let mut buffer = JitterBuffer::opus(config);
    let mut arrivals: Vec<_> = (0..count).filter_map(|n| Some((arrives(n)?, n))).collect();
    arrivals.sort_unstable();
    let mut arrivals = arrivals.into_iter().peekable();
    let mut heard = Vec::new();
    for tick in 0..u64::from(count) + 20 {
        let now = tick * 20 + 7;
        while let Some((at, n)) = arrivals.next_if(|(at, _)| *at <= now) {
            buffer.push(start + Duration::from_millis(at), &opus(n, &[1 << 3, n as u8]));
        }
        let lost = match buffer.pop(start + Duration::from_millis(now)) {
            Frame::Packets(parts) => {
                heard.extend(parts.map(|payload| payload[1].to_string()));
                false
            }
            Frame::Lost => true,
            Frame::Empty => false,
            Frame::Audio { .. } => unreachable!("Opus is packets"),
        };
        if lost {
            heard.push(buffer.behind().map_or("lost".to_owned(), |next| format!("before {}", next[1])));
        }
    }
    (heard, buffer)
}

#[test]
fn packets_of_opus_come_out_once_in_order_whatever_their_order_was() {
    let (heard, buffer) = opus_heard(200, |n| Some(u64::from(n) * 20 + [0, 25, 0, 5][usize::from(n % 4)]));
    let numbers: Vec<_> = heard.iter().filter(|text| *text != "lost").cloned().collect();
    let wanted: Vec<_> = (0..200u16).map(|n| (n as u8).to_string()).collect();
    assert_eq!(numbers, wanted);
    assert_eq!((buffer.stats().lost, buffer.stats().late), (0, 0));
    assert!(buffer.stats().reordered > 30, "{:?}", buffer.stats());
}

#[test]
fn a_lost_packet_of_opus_is_told_with_the_one_behind_it() {
    let (heard, buffer) = opus_heard(100, |n| (n % 10 != 5).then_some(u64::from(n) * 20));
    for n in (15..95).step_by(10) {
        let before = heard.iter().position(|text| *text == format!("before {}", n + 1));
        let before = before.unwrap_or_else(|| panic!("{n} is not recovered: {heard:?}"));
        assert_eq!((&heard[before - 1], &heard[before + 1]), (&(n - 1).to_string(), &(n + 1).to_string()));
    }
    assert!((9..=10).contains(&buffer.stats().lost), "{:?}", buffer.stats());
}

#[test]
fn silence_that_opus_does_not_send_is_no_loss_for_ever() {
    let (heard, _) = opus_heard(150, |n| (!(50..100).contains(&n)).then_some(u64::from(n) * 20));
    assert!(heard.iter().any(|text| text == "149"), "{heard:?}");
    assert!(heard.iter().filter(|text| text.starts_with("lost")).count() < 12, "{heard:?}");
}

proptest! {
    #[test]
    fn no_packets_of_opus_panic_the_buffer(
        packets in proptest::collection::vec((0u16..40, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..60),
    ) {
        let start = Instant::now();
        let mut buffer = JitterBuffer::opus(JitterConfig::default());
        for (n, (seq, ticks, payload)) in packets.iter().enumerate() {
            let at = start + Duration::from_millis(n as u64 * 9);
            buffer.push(at, &RtpPacket { ticks: RtpTicks(*ticks), ..opus(*seq, payload) });
            buffer.set_quiet(seq % 2 == 0);
            if let Frame::Packets(parts) = buffer.pop(at) {
                prop_assert!(parts.count() <= 8);
            }
            let _ = buffer.behind();
        }
    }
}
