//! Machines that answer.

use super::*;

#[test]
fn a_machine_is_hung_up_on_and_stands_in_the_record() {
    let mut world = World::answered();
    world.call.handle_machine(world.now, "a beep of 1000 Hz".to_owned());
    world.settle();
    let record = world.record.unwrap();
    assert_eq!((record.disposition, record.cause.as_str()), (Disposition::Machine, "a beep of 1000 Hz"));
    assert!(record.disposition.was_answered());
}

#[test]
fn a_call_that_ended_already_keeps_its_own_end() {
    let mut world = World::answered();
    world.line(Line::PeerHungUp);
    world.call.handle_machine(world.now, "too late".to_owned());
    world.settle();
    assert_eq!(world.record.unwrap().disposition, Disposition::CustomerHungUp);
}
