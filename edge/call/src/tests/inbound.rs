//! Calls that customers make.

use trunkline_model::Direction;

use super::*;

fn ringing() -> World {
    let mut world = World::new();
    let wall: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    world.orders.clear();
    // Long past, as nobody said until when.
    let command = DialCommand { before: Timestamp::UNIX_EPOCH, ..command(&world.script) };
    world.call = Call::inbound(command, CallConfig::default(), world.now, wall);
    world.settle();
    world
}

pub(super) fn answered() -> World {
    let mut world = ringing();
    world.call.handle_prepared(world.now, Ok(script()));
    world.settle();
    world.line(Line::Answered);
    world
}

#[test]
fn a_customer_who_calls_is_greeted_understood_and_filed_as_one_who_called() {
    let mut world = ringing();
    world.call.handle_prepared(world.now, Ok(script()));
    world.settle();
    assert!(world.orders.contains(&"answer") && !world.orders.contains(&"dial"), "{:?}", world.orders);
    world.line(Line::Answered);
    assert!(world.played[0].contains("语音助手"), "{:?}", world.played);
    world.hear_out();
    world.says("opt_out");
    world.hear_out();
    world.settle();
    let record = world.record.unwrap();
    assert_eq!((record.direction, record.disposition), (Direction::Inbound, Disposition::Completed));
    assert!(record.rang.is_some() && record.answered.is_some() && record.suppress);
}

#[test]
fn a_customer_who_gives_up_while_it_rings_leaves_a_record() {
    let failed = || Line::Failed {
        disposition: Disposition::Cancelled,
        cause: "the caller gave up".to_owned(),
        sip_code: None,
    };
    for prepared in [false, true] {
        let mut world = ringing();
        if prepared {
            world.call.handle_prepared(world.now, Ok(script()));
            world.settle();
        }
        world.line(failed());
        let record = world.record.unwrap();
        assert_eq!((record.disposition, record.answered), (Disposition::Cancelled, None));
        assert_eq!(record.cause, "the caller gave up");
    }
}
