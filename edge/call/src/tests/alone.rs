//! Calls whose cloud is late, gone for a while, or back again.

use super::*;

/// What the customer of the sample script says, one turn after the other, and then one thing again and again.
const TALK: [&str; 10] =
    ["yes", "ask_robot", "will_pay", "what", "friday", "ask_robot", "hm", "friday yes", "yes", "no"];

/// Holds the call with the cloud gone from turn `from` until the box has taken `turns` of them.
fn talk(from: usize, turns: usize) -> (World, Vec<(u32, String, String)>) {
    let mut world = World::answered();
    world.hear_out();
    for (at, text) in TALK.iter().enumerate() {
        let gone = (from..from + turns).contains(&at);
        world.cloud = if gone { None } else { Some(understand) };
        if world.record.is_some() {
            break;
        }
        world.says(text);
        // Long enough for the deadline, too short for the next silence.
        world.wait(Duration::from_secs(2));
        world.hear_out();
    }
    world.line(Line::PeerHungUp);
    let record = world.record.as_ref().unwrap();
    let path = record.turns.iter().map(|turn| {
        let said = turn.robot.iter().map(|robot| robot.text.as_str()).collect::<Vec<_>>().join(" ");
        (turn.turn, turn.decision.node.clone(), said)
    });
    let path = path.collect();
    (world, path)
}

#[test]
fn a_late_cloud_loses_the_turn_at_the_deadline_and_the_next_one_sooner() {
    let mut world = World::answered();
    world.hear_out();
    world.cloud = None;
    world.says("yes");
    let speech_end = world.now - Duration::from_millis(350);
    world.wait(Duration::from_secs(2));
    assert_eq!(world.taken, [(1, speech_end + Duration::from_millis(900))]);
    world.hear_out();
    world.says("ask_robot");
    let asked = world.now - Duration::from_millis(80);
    world.wait(Duration::from_secs(2));
    assert_eq!(world.taken[1], (2, asked + Duration::from_millis(150)));
    world.line(Line::PeerHungUp);
    let record = world.record.unwrap();
    let heard: Vec<_> = record.turns.iter().filter(|turn| turn.customer.is_some()).collect();
    assert!(heard.len() == 2 && heard.iter().all(|turn| turn.decision.local), "{:?}", record.turns);
    assert_eq!(heard[0].decision.understanding.intent.as_deref(), Some("yes"));
}

#[test]
fn an_answer_that_comes_after_the_box_took_the_turn_changes_nothing() {
    let mut world = World::answered();
    world.hear_out();
    world.cloud = None;
    world.says("yes");
    world.wait(Duration::from_secs(2));
    let played = world.played.clone();
    let late = answer(&world.script, world.asked.last().unwrap(), |_| Some("opt_out"));
    world.call.handle_reply(world.now, late);
    world.settle();
    assert_eq!(world.played, played);
    // The cloud is known to be there again, and has its whole time for the next turn.
    world.hear_out();
    world.says("ask_robot");
    let speech_end = world.now - Duration::from_millis(350);
    world.wait(Duration::from_secs(2));
    assert_eq!(world.taken[1].1, speech_end + Duration::from_millis(900));
}

#[test]
fn a_cloud_that_refuses_a_turn_loses_it_too() {
    let mut world = World::answered();
    world.hear_out();
    world.cloud = None;
    world.says("yes");
    let refused = TurnReply {
        error: "unknown script".to_owned(),
        ..answer(&world.script, world.asked.last().unwrap(), understand)
    };
    world.call.handle_reply(world.now, refused);
    world.wait(Duration::from_secs(2));
    assert_eq!(world.taken.len(), 1);
    assert!(world.record.is_none(), "the call goes on");
}

#[test]
fn a_call_goes_the_same_way_wherever_the_cloud_is_lost_for_a_while() {
    let (_, whole) = talk(TALK.len(), 0);
    assert!(whole.len() > 8, "{whole:?}");
    for from in 0..TALK.len() {
        for turns in [1, 2, TALK.len()] {
            let (world, path) = talk(from, turns);
            assert_eq!(path, whole, "lost for {turns} turns from {from}");
            let numbers: Vec<u32> = world.taken.iter().map(|(turn, _)| *turn).collect();
            assert!(numbers.is_sorted_by(|a, b| a < b), "a turn was taken twice: {numbers:?}");
            let record = world.record.unwrap();
            for turn in record.turns.iter().filter(|turn| turn.customer.is_some()) {
                assert_eq!(turn.decision.local, numbers.contains(&turn.turn), "turn {}", turn.turn);
            }
        }
    }
}

#[test]
fn a_cloud_that_says_that_it_needs_longer_is_waited_for() {
    let mut world = World::answered();
    world.hear_out();
    world.cloud = None;
    world.says("yes");
    let words = world.asked.last().unwrap().clone();
    let pending =
        TurnReply { pending_ms: 1_500, actions: Vec::new(), ..answer(&world.script, &words, understand) };
    world.call.handle_reply(world.now, pending);
    world.wait(Duration::from_millis(1_600));
    assert!(world.taken.is_empty(), "the box was told to wait");
    world.call.handle_reply(world.now, answer(&world.script, &words, understand));
    world.settle();
    assert_eq!(world.played.len(), 2);
    world.wait(Duration::from_secs(1));
    assert!(world.taken.is_empty());
}
