use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn settings(priority: u16, channels: u32) -> TrunkSettings {
    TrunkSettings { priority, channels, calls_per_second: 1_000.0, ..TrunkSettings::default() }
}

fn pool(priorities: &[u16]) -> (TrunkPool, Instant, StdRng) {
    let pool = TrunkPool::new(priorities.iter().map(|priority| settings(*priority, 2)));
    (pool, Instant::now(), StdRng::seed_from_u64(3))
}

fn failure(cause: FailureCause, sip_code: Option<u16>, q850: Option<u8>) -> Failure {
    Failure { cause, sip_code, reason: None, q850 }
}

#[test]
fn a_full_trunk_makes_way_for_the_next_and_a_free_channel_is_used_again() {
    let (mut pool, now, mut rng) = pool(&[1, 2]);
    let taken: Vec<_> = (0..5)
        .map(|_| {
            let mut route = pool.route(now, &mut rng);
            pool.take(now, &mut route)
        })
        .collect();
    let (first, second) = (Ok(TrunkId(0)), Ok(TrunkId(1)));
    assert_eq!(taken, [first, first, second, second, Err(NoTrunk::NoChannel)]);
    assert_eq!(pool.free_channels(now), 0);
    pool.release(TrunkId(0));
    let mut route = pool.route(now, &mut rng);
    assert_eq!(pool.take(now, &mut route), Ok(TrunkId(0)));
}

#[test]
fn calls_both_ways_share_the_channels_of_a_trunk() {
    let (mut pool, now, mut rng) = pool(&[1]);
    assert!(pool.take_from(TrunkId(0)) && pool.take_from(TrunkId(0)));
    assert!(!pool.take_from(TrunkId(0)) && !pool.take_from(TrunkId(7)));
    let mut route = pool.route(now, &mut rng);
    assert_eq!(pool.take(now, &mut route), Err(NoTrunk::NoChannel));
    pool.release(TrunkId(0));
    assert_eq!(pool.take(now, &mut route), Ok(TrunkId(0)));
}

#[test]
fn no_trunk_gets_more_calls_a_second_than_it_takes() {
    let mut pool = TrunkPool::new([TrunkSettings {
        channels: 1_000,
        calls_per_second: 5.0,
        ..TrunkSettings::default()
    }]);
    let (t0, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
    let mut begun = 0;
    for ms in 0..10_000 {
        let now = t0 + Duration::from_millis(ms);
        let mut route = pool.route(now, &mut rng);
        begun += u32::from(pool.take(now, &mut route).is_ok());
    }
    assert!((50..=55).contains(&begun), "{begun} in 10 s");
    let end = t0 + Duration::from_millis(9_999);
    let mut route = pool.route(end, &mut rng);
    let Err(NoTrunk::TooFast { wait }) = pool.take(end, &mut route) else { panic!("one too many") };
    assert!(wait <= Duration::from_millis(200));
    let later = end + wait + Duration::from_millis(1);
    assert_eq!(pool.take(later, &mut route), Ok(TrunkId(0)), "the route can be asked again");
}

#[test]
fn what_is_the_trunks_fault_goes_to_the_next_and_what_is_not_does_not() {
    use FailureCause::*;
    for (told, rang, next) in [
        (failure(Unreachable, None, None), false, Next::TryNext),
        (failure(ServerError, Some(503), None), false, Next::TryNext),
        (failure(NoAnswer, Some(408), None), false, Next::TryNext),
        (failure(ServerError, Some(502), Some(38)), false, Next::TryNext),
        (failure(NoAnswer, None, None), true, Next::GiveUp),
        (failure(Busy, Some(486), None), false, Next::GiveUp),
        (failure(Busy, Some(503), Some(17)), false, Next::GiveUp),
        (failure(NotFound, Some(404), Some(1)), false, Next::GiveUp),
        (failure(NoAnswer, Some(408), None), true, Next::GiveUp),
        (failure(Unauthorized, Some(403), None), false, Next::GiveUp),
    ] {
        let (mut pool, now, _) = pool(&[1, 2]);
        assert_eq!(pool.handle_failure(now, TrunkId(0), &told, rang), next, "{told}");
    }
}

#[test]
fn a_silent_trunk_is_tried_last_until_it_answers_a_ping() {
    let (mut pool, now, mut rng) = pool(&[1, 2]);
    assert_eq!(pool.due_pings(now).len(), 2);
    pool.handle_failure(now, TrunkId(0), &failure(FailureCause::Unreachable, None, None), false);
    assert_eq!(pool.health(TrunkId(0)), Some(Health::Down));
    assert_eq!(pool.route(now, &mut rng).left, [TrunkId(1), TrunkId(0)]);
    let soon = pool.poll_timeout(now).unwrap();
    assert!(soon <= now + Duration::from_secs(5), "it is pinged sooner than otherwise");
    assert_eq!(pool.due_pings(soon), [TrunkId(0)]);
    pool.handle_alive(TrunkId(0));
    assert_eq!(pool.route(now, &mut rng).left, [TrunkId(0), TrunkId(1)]);
}

#[test]
fn one_lost_ping_is_forgiven_and_two_are_not() {
    let (mut pool, now, _) = pool(&[1]);
    pool.handle_ping_lost(now, TrunkId(0));
    assert_eq!(pool.health(TrunkId(0)), Some(Health::Up));
    pool.handle_ping_lost(now, TrunkId(0));
    assert_eq!(pool.health(TrunkId(0)), Some(Health::Down));
}

#[test]
fn an_overloaded_trunk_is_left_alone_for_a_while() {
    let (mut pool, now, mut rng) = pool(&[1, 2]);
    pool.handle_failure(now, TrunkId(0), &failure(FailureCause::ServerError, Some(503), None), false);
    pool.handle_retry_after(now, TrunkId(0), Duration::from_secs(60));
    let after = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(pool.route(after(59), &mut rng).left[0], TrunkId(1));
    assert_eq!(pool.route(after(60), &mut rng).left[0], TrunkId(0));
    pool.handle_retry_after(now, TrunkId(0), Duration::from_secs(86_400));
    assert_eq!(pool.route(after(601), &mut rng).left[0], TrunkId(0), "nobody is left alone for a day");
}

proptest! {
    #[test]
    fn channels_are_never_overbooked_and_all_come_back(
        seed: u64,
        channels in proptest::collection::vec(0u32..4, 1..5),
        steps in proptest::collection::vec((any::<bool>(), 0u64..300), 1..200),
    ) {
        let mut pool = TrunkPool::new(channels.iter().map(|channels| settings(0, *channels)));
        let (mut now, mut rng, mut up) = (Instant::now(), StdRng::seed_from_u64(seed), Vec::new());
        for (begin, wait) in steps {
            now += Duration::from_millis(wait);
            if begin {
                let mut route = pool.route(now, &mut rng);
                if let Ok(id) = pool.take(now, &mut route) {
                    up.push(id);
                }
            } else if let Some(id) = up.pop() {
                pool.release(id);
            }
            for (at, channels) in channels.iter().enumerate() {
                prop_assert!(pool.calls(TrunkId(at as u16)) <= *channels);
            }
        }
        for id in up.drain(..) {
            pool.release(id);
        }
        prop_assert_eq!(pool.free_channels(now), channels.iter().sum::<u32>());
    }
}

#[test]
fn a_trunk_without_its_registration_comes_last() {
    let (mut pool, now, mut rng) = pool(&[1, 2]);
    pool.handle_registration(TrunkId(0), false);
    assert!(!pool.is_well(now, TrunkId(0)) && pool.is_well(now, TrunkId(1)));
    let mut route = pool.route(now, &mut rng);
    assert_eq!(pool.take(now, &mut route), Ok(TrunkId(1)));
    assert_eq!(pool.take(now, &mut route), Ok(TrunkId(0)), "it is the last resort");
    pool.handle_registration(TrunkId(0), true);
    let mut route = pool.route(now, &mut rng);
    assert_eq!(pool.take(now, &mut route), Ok(TrunkId(0)));
}
