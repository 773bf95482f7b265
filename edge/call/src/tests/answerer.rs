//! Machines that answer.

use super::*;

use crate::{Machine, MachineKind};

const TO_MACHINES: &str = "answered_by: {voicemail: 这里是示例公司，请您方便时回电。, screener: 您好，我是示例公司的小示，找您确认一件事。}";

fn machine(kind: MachineKind, beep: bool) -> Machine {
    Machine { kind, beep, evidence: "a beep of 1000 Hz".to_owned(), hang_up: true }
}

/// A call that was answered, by a script that says so much of machines.
fn answered(rules: &str) -> World {
    let script = Arc::new(Script::load(&format!("{SCRIPT}\n{rules}\n")).unwrap());
    let mut world = World::of(script);
    world.call.handle_prepared(world.now, Ok(Arc::clone(&world.script)));
    world.settle();
    world.line(Line::Ringing);
    world.line(Line::Answered);
    world
}

#[test]
fn a_message_is_left_after_the_beep_and_then_the_box_hangs_up() {
    let mut world = answered(TO_MACHINES);
    world.call.handle_machine(world.now, machine(MachineKind::Voicemail, false));
    world.settle();
    assert_eq!(world.orders.last(), Some(&"forget"), "silent until the beep");
    let played = world.played.len();
    world.call.handle_hearing(world.now, Hearing::SpeechStarted);
    world.wait(Duration::from_secs(20));
    assert_eq!(world.played.len(), played, "the greeting is not talked over");
    world.call.handle_machine(world.now, machine(MachineKind::Voicemail, true));
    world.settle();
    assert!(world.played.last().unwrap().contains("请您方便时回电"));
    world.hear_out();
    let record = world.record.unwrap();
    assert_eq!(record.disposition, Disposition::Machine);
    assert!(record.cause.ends_with("a message was left"), "{}", record.cause);
    assert!(record.turns.last().unwrap().robot[0].text.contains("请您方便时回电"));
}

#[test]
fn a_voicemail_without_a_beep_gets_its_message_when_it_is_quiet_and_one_without_end_gets_none() {
    for (is_quiet, is_left) in [(true, true), (false, false)] {
        let mut world = answered(TO_MACHINES);
        world.call.handle_machine(world.now, machine(MachineKind::Voicemail, false));
        world.settle();
        world.now += Duration::from_secs(4);
        world.call.handle_hearing(world.now, Hearing::SpeechStarted);
        if is_quiet {
            world.call.handle_hearing(world.now, Hearing::FalseStart);
        }
        world.wait(Duration::from_secs(40));
        let record = world.record.unwrap();
        assert_eq!(record.cause.contains("a message was left"), is_left, "{}", record.cause);
        assert_eq!(record.disposition, Disposition::Machine);
    }
}

#[test]
fn a_machine_that_hangs_up_while_it_is_waited_for_is_no_customer() {
    for kind in [MachineKind::Voicemail, MachineKind::Screener] {
        let mut world = answered(TO_MACHINES);
        world.call.handle_machine(world.now, machine(kind, false));
        world.settle();
        world.line(Line::PeerHungUp);
        assert_eq!(world.record.unwrap().disposition, Disposition::Machine, "{kind:?}");
    }
}

#[test]
fn an_assistant_is_told_who_calls_and_the_person_hears_the_script_from_its_beginning() {
    let mut world = answered(TO_MACHINES);
    let opening = world.played[0].clone();
    world.call.handle_machine(world.now, machine(MachineKind::Screener, false));
    world.call.handle_machine(world.now, machine(MachineKind::Screener, false));
    world.settle();
    assert_eq!(world.played.iter().filter(|text| text.contains("找您确认一件事")).count(), 1);
    world.hear_out();
    world.says("好的，请稍等");
    world.says("");
    assert!(world.asked.is_empty() && !world.played.last().unwrap().contains(&opening));
    world.wait(Duration::from_secs(10));
    world.says("喂，你好");
    assert_eq!(world.played.last(), Some(&opening));
    world.hear_out();
    world.says("yes");
    assert!(!world.asked.is_empty(), "the conversation goes on as with anybody");
    world.line(Line::PeerHungUp);
    let record = world.record.unwrap();
    let turns: Vec<u32> = record.turns.iter().map(|turn| turn.turn).collect();
    assert!(turns.is_sorted_by(|a, b| a < b), "{turns:?}");
}

#[test]
fn an_assistant_behind_whom_nobody_comes_is_a_machine() {
    let mut world = answered(TO_MACHINES);
    world.call.handle_machine(world.now, machine(MachineKind::Screener, false));
    world.settle();
    world.hear_out();
    world.wait(Duration::from_secs(70));
    assert_eq!(world.record.unwrap().disposition, Disposition::Machine);
}

#[test]
fn what_the_script_says_of_machines_goes_before_the_boxs_setting() {
    let mut world = answered("answered_by: {machine: go_on}");
    for kind in [MachineKind::Other, MachineKind::Voicemail, MachineKind::Screener] {
        world.call.handle_machine(world.now, machine(kind, true));
    }
    world.settle();
    assert!(world.record.is_none());
    let mut world = answered("answered_by: {machine: hang_up}");
    world.call.handle_machine(world.now, Machine { hang_up: false, ..machine(MachineKind::Other, false) });
    world.settle();
    assert_eq!(world.record.unwrap().disposition, Disposition::Machine);
}

#[test]
fn a_machine_is_hung_up_on_and_stands_in_the_record() {
    let mut world = World::answered();
    world.call.handle_machine(world.now, machine(MachineKind::Other, true));
    world.settle();
    let record = world.record.unwrap();
    assert_eq!((record.disposition, record.cause.as_str()), (Disposition::Machine, "a beep of 1000 Hz"));
    assert!(record.disposition.was_answered());
}

#[test]
fn a_call_that_ended_already_keeps_its_own_end() {
    let mut world = World::answered();
    world.line(Line::PeerHungUp);
    world.call.handle_machine(world.now, machine(MachineKind::Other, true));
    world.settle();
    assert_eq!(world.record.unwrap().disposition, Disposition::CustomerHungUp);
}
