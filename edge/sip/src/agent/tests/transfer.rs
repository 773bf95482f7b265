//! Handing a call over: REFER, NOTIFY, Replaces.

use super::*;
use crate::agent::TransferStep;

fn transferable() -> Pair {
    let may_replace = vec![addr(Side::Caller).ip()];
    let callee = UaConfig { accept_refer: true, may_replace, ..config(Side::Callee) };
    Pair::with(config(Side::Caller), callee, 1)
}

fn step(news: &CallNews) -> Option<TransferStep> {
    if let CallNews::Transfer(step) = news { Some(*step) } else { None }
}

#[test]
fn a_blind_transfer_is_carried_out_and_reported() {
    let mut pair = transferable();
    // Nothing overtakes anything, so that the steps come in order.
    pair.weather.longest_delay_ms = 1;
    let (here, there) = pair.set_up();
    let target = Uri::sip("2000", "192.0.2.77").unwrap();
    pair.caller.refer(pair.now, here, &target, None).unwrap();
    let asked = pair.until_news(Side::Callee, |_| true);
    let CallNews::TransferAsked { target: told, replaces: None } = asked else { panic!("{asked:?}") };
    assert_eq!(told.uri, target);
    pair.run_for(Duration::from_secs(1));
    for code in [180, 200] {
        pair.callee.report_transfer(pair.now, there, code).unwrap();
        pair.run_for(Duration::from_secs(1));
    }
    let steps: Vec<_> = pair.news.iter().filter_map(|(_, news)| step(news)).collect();
    let expected = [
        TransferStep::Accepted,
        TransferStep::Progress(100),
        TransferStep::Progress(180),
        TransferStep::Done(200),
    ];
    assert_eq!(steps, expected);
    assert_eq!(pair.callee.report_transfer(pair.now, there, 200), Err(CommandError::WrongState));
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.settle();
}

#[test]
fn a_transfer_that_fails_there_leaves_the_call_up() {
    let mut pair = transferable();
    let (here, there) = pair.set_up();
    pair.caller.refer(pair.now, here, &Uri::sip("2000", "192.0.2.77").unwrap(), None).unwrap();
    pair.until_news(Side::Callee, |_| true);
    pair.callee.report_transfer(pair.now, there, 486).unwrap();
    pair.until_news(Side::Caller, |news| step(news) == Some(TransferStep::Failed(Some(486))));
    pair.caller.hold(pair.now, here).unwrap();
    pair.until(Side::Callee, changed);
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.settle();
}

#[test]
fn nobody_may_send_us_elsewhere_unless_it_is_switched_on() {
    let mut pair = Pair::new();
    let (here, _) = pair.set_up();
    pair.caller.refer(pair.now, here, &Uri::sip("900123456", "192.0.2.77").unwrap(), None).unwrap();
    let news = pair.until_news(Side::Caller, |_| true);
    assert_eq!(step(&news), Some(TransferStep::Refused(Some(603))));
    assert_eq!(pair.callee.stats().refused, 1);
    pair.caller.bye(pair.now, here, None).unwrap();
    pair.settle();
}

#[test]
fn an_attended_transfer_names_the_call_to_take_the_place_of() {
    let mut pair = transferable();
    let (first, _) = pair.set_up();
    let (second, _) = pair.set_up();
    pair.caller.refer(pair.now, first, &Uri::sip("unused", "192.0.2.2").unwrap(), Some(second)).unwrap();
    let asked = pair.until_news(Side::Callee, |_| true);
    let CallNews::TransferAsked { target, replaces: Some(replaces) } = asked else { panic!("{asked:?}") };
    assert_eq!(target.uri.host, "192.0.2.2");

    // Whoever has the other end of the second call gets an INVITE in its place.
    let mut request = InviteRequest::new("4000", Uri::sip("1001", "192.0.2.2").unwrap(), media(Side::Caller));
    request.replaces = Some(*replaces);
    let third = pair.caller.invite(pair.now, request).unwrap();
    let (replacing, replaced) = pair.until(Side::Callee, |event| {
        if let SipEvent::Incoming { key, replaces, .. } = event { Some((*key, *replaces)) } else { None }
    });
    assert!(replaced.is_some());
    pair.callee.accept(pair.now, replacing, media(Side::Callee)).unwrap();
    pair.until(Side::Caller, answered);
    pair.until(Side::Caller, |event| {
        matches!(event, SipEvent::PeerHungUp { key, .. } if *key == second).then_some(())
    });
    for call in [first, third] {
        pair.caller.bye(pair.now, call, None).unwrap();
    }
    pair.settle();
}
