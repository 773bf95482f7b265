//! Hand-overs, in virtual time.

use super::*;
use crate::{TransferFailure, TransferNews, TransferWay};

/// A customer who asked for a person, and was told that one is called.
fn handing_over() -> World {
    let mut world = World::answered();
    world.cloud = Some(|text| ["yes", "ask_human"].into_iter().find(|intent| text.contains(intent)));
    world.hear_out();
    world.says("ask_human");
    world.hear_out();
    assert_eq!(world.orders.iter().filter(|order| **order == "transfer").count(), 1, "{:?}", world.orders);
    world
}

impl World {
    fn transfer(&mut self, news: TransferNews) {
        self.call.handle_transfer(self.now, news);
        self.settle();
    }
}

#[test]
fn a_person_who_takes_the_call_ends_it_for_the_robot() {
    let mut world = handing_over();
    world.transfer(TransferNews::Trying(TransferWay::Refer));
    world.now += Duration::from_secs(3);
    world.transfer(TransferNews::Done { sip_code: Some(200) });
    let record = world.record.unwrap();
    assert_eq!(record.disposition, Disposition::Transferred);
    assert_eq!(record.outcome.unwrap().code, "transferred");
    let transfer = &record.transfers[0];
    assert_eq!((transfer.how.as_str(), transfer.fate.as_str(), transfer.took_ms), ("refer", "done", 3_000));
    assert!(world.orders.ends_with(&["hang up"]), "{:?}", world.orders);
}

#[test]
fn a_hand_over_that_fails_goes_on_with_the_script_and_says_why() {
    for reason in [TransferFailure::Busy, TransferFailure::Declined, TransferFailure::Refused] {
        let mut world = handing_over();
        let said = world.played.len();
        world.transfer(TransferNews::Failed { reason, sip_code: Some(486) });
        assert!(world.played.len() > said, "the script's own way out is spoken");
        world.line(Line::PeerHungUp);
        let record = world.record.unwrap();
        assert_eq!(record.transfers[0].fate, reason.as_str());
        assert_eq!(record.transfers[0].sip_code, Some(486));
        let why = record.turns.iter().any(|turn| turn.decision.because.contains(reason.as_str()));
        assert!(why, "{:?}", record.turns);
        assert_ne!(record.disposition, Disposition::Transferred);
    }
}

#[test]
fn a_person_who_never_picks_up_is_given_up_after_the_time_of_the_script() {
    let mut world = handing_over();
    let begun = world.now;
    let said = world.played.len();
    let (due, _) = world.call.poll_timeout().unwrap();
    assert!(
        (Duration::from_secs(10)..=Duration::from_secs(60)).contains(&(due - begun)),
        "{:?}",
        due - begun
    );
    world.now = due;
    world.call.handle_timeout(due);
    world.settle();
    assert!(world.orders.contains(&"let go"));
    assert!(world.played.len() > said);
    world.line(Line::PeerHungUp);
    assert_eq!(world.record.unwrap().transfers[0].fate, "no_answer");
}

#[test]
fn a_person_who_picks_up_after_all_gets_the_call() {
    let mut world = handing_over();
    world.now = world.call.poll_timeout().unwrap().0;
    world.call.handle_timeout(world.now);
    world.settle();
    world.transfer(TransferNews::Done { sip_code: Some(200) });
    let record = world.record.unwrap();
    assert_eq!(record.disposition, Disposition::Transferred);
    assert_eq!(record.transfers[0].fate, "done");
}

#[test]
fn a_customer_who_hangs_up_meanwhile_was_not_handed_over() {
    let mut world = handing_over();
    world.line(Line::PeerHungUp);
    let record = world.record.unwrap();
    assert_eq!(record.disposition, Disposition::CustomerHungUp);
    assert_eq!(record.transfers[0].fate, "left");
    assert_ne!(record.outcome.unwrap().code, "transferred");
    assert!(world.orders.contains(&"let go"));
}

#[test]
fn the_person_is_told_who_calls_and_why() {
    let world = handing_over();
    let summary = world.summary.unwrap();
    let name = world.script.example_variables()["name"].clone();
    assert!(summary.starts_with("有一通电话转接给您"), "{summary}");
    for part in [name.as_str(), "还款提醒", "ask_human"] {
        assert!(summary.contains(part), "no {part} in {summary}");
    }
}

#[test]
fn several_persons_and_one_who_listens_to_the_summary_have_the_time_that_they_need() {
    let mut world = handing_over();
    let begun = world.now;
    world.transfer(TransferNews::Within(Duration::from_secs(90)));
    assert_eq!(world.call.poll_timeout().unwrap().0, begun + Duration::from_secs(90));
    world.now += Duration::from_secs(80);
    world.transfer(TransferNews::Within(Duration::from_secs(60)));
    assert_eq!(world.call.poll_timeout().unwrap().0, world.now + Duration::from_secs(60));
    world.transfer(TransferNews::Joined { who: String::new() });
    let due = world.call.poll_timeout().unwrap().0;
    world.transfer(TransferNews::Within(Duration::from_secs(1)));
    assert_eq!(world.call.poll_timeout().unwrap().0, due, "two who talk are left alone");
}

#[test]
fn what_is_said_during_a_hand_over_asks_nobody() {
    let mut world = handing_over();
    let asked = world.asked.len();
    world.says("yes");
    assert_eq!(world.asked.len(), asked);
    world.call.handle_media(world.now, Media::Lost);
    world.settle();
    assert!(world.record.is_none(), "a customer on hold is not lost");
}

#[test]
fn two_who_are_joined_through_us_are_left_alone_until_one_hangs_up() {
    let mut world = handing_over();
    world.transfer(TransferNews::Trying(TransferWay::Bridge));
    world.transfer(TransferNews::Joined { who: "8001".to_owned() });
    world.wait(Duration::from_secs(1_200));
    assert!(world.record.is_none(), "the longest robot call is not the longest talk");
    world.line(Line::PeerHungUp);
    let record = world.record.unwrap();
    assert_eq!(record.disposition, Disposition::Transferred);
    let transfer = &record.transfers[0];
    assert_eq!(
        (transfer.how.as_str(), transfer.fate.as_str(), transfer.who.as_str()),
        ("bridge", "done", "8001")
    );

    let mut world = handing_over();
    world.transfer(TransferNews::Joined { who: "8001".to_owned() });
    world.transfer(TransferNews::PersonHungUp);
    assert_eq!(world.record.unwrap().disposition, Disposition::Transferred);
}

/// Customer and person talk through us, and the network was asked to do without us.
fn being_taken_over() -> World {
    let mut world = handing_over();
    world.transfer(TransferNews::Trying(TransferWay::Bridge));
    world.transfer(TransferNews::Joined { who: "8001".to_owned() });
    world.transfer(TransferNews::Taking);
    assert!(world.record.is_none());
    world
}

#[test]
fn a_call_that_the_network_takes_over_goes_on_without_the_box() {
    // The person's call to us ends before the network says that it took it.
    for hangs_up_first in [false, true] {
        let mut world = being_taken_over();
        if hangs_up_first {
            world.transfer(TransferNews::PersonHungUp);
            assert!(world.record.is_none(), "the network's word is waited for");
        }
        world.transfer(TransferNews::Done { sip_code: Some(200) });
        let record = world.record.unwrap();
        assert_eq!(record.disposition, Disposition::Transferred);
        let transfer = &record.transfers[0];
        assert_eq!((transfer.how.as_str(), transfer.fate.as_str()), ("taken_over", "done"));
        assert_eq!((transfer.who.as_str(), transfer.sip_code), ("8001", Some(200)));
    }
}

#[test]
fn where_the_network_does_not_take_it_over_they_go_on_talking_through_the_box() {
    let mut world = being_taken_over();
    world.transfer(TransferNews::NotTaken);
    world.wait(Duration::from_secs(1_200));
    assert!(world.record.is_none());
    world.transfer(TransferNews::PersonHungUp);
    assert_eq!(world.record.unwrap().transfers[0].how, "bridge");

    // The person hung up of her own accord while the network thought about it.
    for says_so in [true, false] {
        let mut world = being_taken_over();
        world.transfer(TransferNews::PersonHungUp);
        if says_so {
            world.transfer(TransferNews::NotTaken);
        } else {
            world.now = world.call.poll_timeout().unwrap().0;
            world.call.handle_timeout(world.now);
            world.settle();
        }
        let record = world.record.unwrap();
        assert_eq!(record.disposition, Disposition::Transferred);
        assert_eq!((record.transfers[0].how.as_str(), record.transfers[0].fate.as_str()), ("bridge", "done"));
    }
}

#[test]
fn a_call_that_is_cancelled_during_a_hand_over_says_goodbye() {
    let mut world = handing_over();
    world.call.handle_cancel(world.now);
    world.settle();
    world.hear_out();
    let record = world.record.unwrap();
    assert_eq!(record.disposition, Disposition::Cancelled);
    assert_eq!(record.transfers[0].fate, "cancelled");
}

#[test]
fn somebody_outside_hands_the_call_over_once_whatever_the_robot_is_at() {
    let mut world = World::answered();
    world.hear_out();
    world.says("yes");
    world.call.handle_hand_over(world.now, 1, Some("night desk".to_owned()));
    world.settle();
    assert!(world.orders.contains(&"stop"), "what was being said is broken off: {:?}", world.orders);
    world.hear_out();
    let transfers = world.orders.iter().filter(|order| **order == "transfer").count();
    assert_eq!(transfers, 1, "{:?}", world.orders);
    // The same wish again is no new one, and another waits for nothing while this one is under way.
    for wish in [1, 2] {
        world.call.handle_hand_over(world.now, wish, None);
        world.settle();
        world.hear_out();
    }
    assert_eq!(world.orders.iter().filter(|order| **order == "transfer").count(), 1, "{:?}", world.orders);
    world.transfer(TransferNews::Done { sip_code: Some(200) });
    let record = world.record.unwrap();
    let to: Vec<&str> = record.transfers.iter().map(|transfer| transfer.to.as_str()).collect();
    assert_eq!((to.as_slice(), record.disposition), (&["night desk"][..], Disposition::Transferred));
}
