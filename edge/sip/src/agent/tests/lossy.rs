//! Many calls on a bad network: whatever is lost, every call ends once on each side and nothing stays.

use super::*;

/// What the people at both ends do in one run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    answer_after_ms: Option<u64>,
    reject: bool,
    early: bool,
    cancel_after_ms: Option<u64>,
    talk_ms: u64,
    callee_hangs_up: bool,
    with_password: bool,
}

fn plan(rng: &mut StdRng) -> Plan {
    Plan {
        answer_after_ms: rng.random_bool(0.8).then(|| rng.random_range(0..5_000)),
        reject: rng.random_bool(0.15),
        early: rng.random_bool(0.3),
        cancel_after_ms: rng.random_bool(0.25).then(|| rng.random_range(0..6_000)),
        talk_ms: rng.random_range(0..20_000),
        callee_hangs_up: rng.random_bool(0.5),
        with_password: rng.random_bool(0.3),
    }
}

fn world(seed: u64) -> (Pair, Plan) {
    let mut rng = StdRng::seed_from_u64(seed);
    let plan = plan(&mut rng);
    let mut caller = config(Side::Caller);
    let mut callee = config(Side::Callee);
    if plan.with_password {
        let known = crate::digest::Credentials::new("branch", "secret");
        caller.credentials = Some(known.clone());
        let algorithms = vec![crate::digest::Algorithm::SHA256];
        callee.inbound_auth = Some(InboundAuth { realm: "trunk".to_owned(), users: vec![known], algorithms });
    }
    let mut pair = Pair::with(caller, callee, seed);
    pair.weather = Weather { loss: 0.2, duplicate: 0.1, longest_delay_ms: 400 };
    (pair, plan)
}

/// Runs one call by its plan.
fn live(pair: &mut Pair, plan: Plan) {
    let call = pair.call();
    let t0 = pair.now;
    let after = |ms: u64| t0 + Duration::from_millis(ms);
    let end = after(400_000);
    let mut there = None;
    let (mut acted, mut cancelled, mut hung_up) = (false, false, false);
    let mut answered_at: Option<Instant> = None;
    while pair.now < end {
        let soon = pair.now + Duration::from_millis(50);
        while pair.step(soon) {}
        pair.now = soon;
        for (side, event) in std::mem::take(&mut pair.unread) {
            match (side, event) {
                (Side::Callee, SipEvent::Incoming { key, .. }) => {
                    there = Some((key, pair.now));
                    let early = plan.early.then(|| media(Side::Callee));
                    pair.callee.ringing(pair.now, key, early).unwrap();
                }
                (_, SipEvent::Answered { .. }) => answered_at = answered_at.or(Some(pair.now)),
                _ => {}
            }
        }
        if let Some((key, since)) = there
            && !acted
            && plan.answer_after_ms.is_some_and(|ms| pair.now >= since + Duration::from_millis(ms))
        {
            acted = true;
            // The caller may have given up meanwhile: then there is no call to act on.
            let _ = if plan.reject {
                pair.callee.reject(pair.now, key, 486)
            } else {
                pair.callee.accept(pair.now, key, media(Side::Callee)).map(|_| ())
            };
        }
        if !cancelled && plan.cancel_after_ms.is_some_and(|ms| pair.now >= after(ms)) {
            cancelled = true;
            let _ = pair.caller.cancel(pair.now, call);
        }
        if !hung_up && answered_at.is_some_and(|at| pair.now >= at + Duration::from_millis(plan.talk_ms)) {
            hung_up = true;
            let _ = match (plan.callee_hangs_up, there) {
                (true, Some((key, _))) => pair.callee.bye(pair.now, key, None),
                _ => pair.caller.bye(pair.now, call, None),
            };
        }
    }
    // Nobody is left waiting: what still stands is hung up.
    let _ = pair.caller.bye(pair.now, call, None);
    if let Some((key, _)) = there {
        let _ = pair.callee.bye(pair.now, key, None);
    }
}

#[test]
fn on_a_bad_network_every_call_ends_once_on_each_side_and_nothing_stays() {
    let mut answered = 0;
    for seed in 0..200 {
        let (mut pair, plan) = world(seed);
        live(&mut pair, plan);
        pair.settle();
        let is_end = |event: &SipEvent| {
            matches!(event, SipEvent::Failed { .. } | SipEvent::PeerHungUp { .. } | SipEvent::Ended { .. })
        };
        for side in [Side::Caller, Side::Callee] {
            let begun = match side {
                Side::Caller => 1,
                Side::Callee => {
                    pair.events.iter().filter(|e| e.1 == side && incoming(&e.2).is_some()).count()
                }
            };
            let ends: Vec<_> = pair.events.iter().filter(|e| e.1 == side && is_end(&e.2)).collect();
            assert_eq!(ends.len(), begun, "seed {seed} reproduces this: {plan:?}, {:#?}", pair.events);
        }
        answered +=
            usize::from(pair.events.iter().any(|e| e.1 == Side::Caller && super::answered(&e.2).is_some()));
    }
    assert!(answered > 80, "only {answered} of 200 were answered at all");
}

#[test]
fn with_mild_loss_every_plain_call_is_answered() {
    for seed in 0..50 {
        let mut pair = Pair::with(config(Side::Caller), config(Side::Callee), seed);
        pair.weather = Weather { loss: 0.1, duplicate: 0.05, longest_delay_ms: 200 };
        let (here, _) = pair.set_up();
        pair.caller.bye(pair.now, here, None).unwrap();
        pair.until(Side::Callee, hung_up);
        pair.settle();
    }
}
