//! People who do anything at any moment, on a bad network, with old datagrams coming back: nobody's call is lost
//! count of, and nothing stays.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use super::*;

/// How often each call's end was told, by side.
type Ends = BTreeMap<(bool, DialogKey), u32>;

fn note(ends: &mut Ends, side: Side, event: &SipEvent) {
    let caller = side == Side::Caller;
    let ended = match event {
        SipEvent::Incoming { key, .. } => {
            ends.entry((caller, *key)).or_default();
            return;
        }
        SipEvent::Failed { key, .. } | SipEvent::PeerHungUp { key, .. } | SipEvent::Ended { key } => *key,
        SipEvent::Trying { .. }
        | SipEvent::Ringing { .. }
        | SipEvent::Answered { .. }
        | SipEvent::MediaChanged { .. }
        | SipEvent::Digit { .. }
        | SipEvent::Registered { .. }
        | SipEvent::RegistrationFailed { .. }
        | SipEvent::Unregistered
        | SipEvent::OptionsAnswered { .. }
        | SipEvent::OptionsUnanswered { .. } => return,
    };
    *ends.entry((caller, ended)).or_default() += 1;
}

/// Does one thing somebody might do. What does not fit the call's state must be refused, not break anything.
fn act(pair: &mut Pair, ends: &mut Ends) {
    let now = pair.now;
    let known: Vec<(bool, DialogKey)> = ends.keys().copied().collect();
    let choice = pair.rng.random_range(0..12);
    if choice < 3 || known.is_empty() {
        let call = pair.call();
        ends.entry((true, call)).or_default();
        return;
    }
    let (caller, key) = known[pair.rng.random_range(0..known.len())];
    let side = if caller { Side::Caller } else { Side::Callee };
    let code = [486, 603, 480, 404][pair.rng.random_range(0..4)];
    let local = media(side);
    let agent = pair.agent(side);
    match choice {
        3 => drop(agent.cancel(now, key)),
        4 => drop(agent.bye(now, key, Some(HangupReason::normal()))),
        5 => drop(agent.reject(now, key, code)),
        6 => drop(agent.ringing(now, key, None)),
        7 => drop(agent.ringing(now, key, Some(local))),
        8 => agent.handle_send_error(now, addr(Side::Callee), ErrorKind::ConnectionRefused),
        9 => agent.options(now, addr(Side::Callee)),
        _ => drop(agent.accept(now, key, local)),
    }
}

#[test]
fn whatever_people_do_every_call_ends_once_and_nothing_stays() {
    for seed in 0..100 {
        let mut pair = Pair::with(config(Side::Caller), config(Side::Callee), seed);
        pair.weather = Weather { loss: 0.2, duplicate: 0.2, longest_delay_ms: 3_000 };
        let mut ends = Ends::new();
        for _ in 0..60 {
            act(&mut pair, &mut ends);
            let pause = pair.rng.random_range(0..2_000);
            pair.run_for(Duration::from_millis(pause));
            for (side, event) in std::mem::take(&mut pair.unread) {
                note(&mut ends, side, &event);
            }
        }
        // Everybody goes home. A stray INVITE may still begin a call at the callee, so twice.
        for _ in 0..2 {
            let known: Vec<(bool, DialogKey)> = ends.keys().copied().collect();
            for (caller, key) in known {
                let now = pair.now;
                let agent = if caller { &mut pair.caller } else { &mut pair.callee };
                let _ = agent.bye(now, key, None);
            }
            pair.run_for(Duration::from_secs(400));
            for (side, event) in std::mem::take(&mut pair.unread) {
                note(&mut ends, side, &event);
            }
        }
        pair.settle();
        let wrong: Vec<_> = ends.iter().filter(|(_, count)| **count != 1).collect();
        assert!(wrong.is_empty(), "seed {seed} reproduces this: {wrong:?}\n{:#?}", pair.events);
        assert!(pair.caller.by_dialog.is_empty() && pair.callee.by_dialog.is_empty(), "seed {seed}");
        assert!(pair.callee.ringing_here.is_empty(), "seed {seed}");
    }
}
