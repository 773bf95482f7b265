//! Customers who are answered too early and go on.

use super::*;

/// A call whose customer said `no` and is being answered.
fn answered_early() -> World {
    let mut world = World::answered();
    world.hear_out();
    world.says("yes");
    world.hear_out();
    world.says("no");
    world
}

/// Speech begins `after` the answer began, goes on for a second, and is `text`.
fn goes_on(world: &mut World, after: Duration, text: &str) {
    world.now += after;
    let start = world.now;
    world.call.handle_hearing(world.now, Hearing::SpeechStarted);
    world.settle();
    world.now += Duration::from_secs(1);
    world.pauses += 1;
    let (pause, speech_end) = (world.pauses, world.now);
    world.call.handle_hearing(world.now, Hearing::Paused { pause, speech_end });
    world.settle();
    let transcript = Transcript { text: text.to_owned(), logprob: -0.4, ..Transcript::default() };
    world.call.handle_transcript(world.now + Duration::from_millis(150), pause, transcript);
    world.settle();
    world.now += Duration::from_millis(350);
    world.call.handle_hearing(world.now, Hearing::TurnEnded { pause, speech_start: start, speech_end });
    world.settle();
}

fn last_text(world: &World) -> String {
    let TurnEvent::Heard { text, .. } = &world.asked.last().unwrap().event else {
        panic!("nothing was heard")
    };
    text.clone()
}

#[test]
fn an_answer_that_came_too_early_is_taken_back_and_both_parts_are_one_turn() {
    let mut world = answered_early();
    let (first, state) = (world.asked.last().unwrap().clone(), world.asked.last().unwrap().state.clone());
    goes_on(&mut world, Duration::from_millis(200), "friday will_pay");
    let whole = world.asked.last().unwrap().clone();
    assert_eq!(last_text(&world), "no，friday will_pay");
    assert_eq!((whole.turn, &whole.state), (first.turn, &state), "it is the same turn of the same dialogue");
    assert!(whole.rev > first.rev);
    assert!(world.orders.ends_with(&["pause", "stop"]), "{:?}", world.orders);
    world.hear_out();
    world.line(Line::PeerHungUp);
    let record = world.record.unwrap();
    let turns: Vec<u32> = record.turns.iter().map(|turn| turn.turn).collect();
    assert_eq!(turns, [0, 1, 2], "nothing is left of the first answer");
    let customer = record.turns[2].customer.as_ref().unwrap();
    assert!(customer.went_on && !customer.barged_in, "{customer:?}");
    assert!(customer.end_s - customer.start_s > 2.0, "from the first part to the second: {customer:?}");
}

#[test]
fn who_speaks_later_answers_the_answer() {
    let mut world = answered_early();
    let turn = world.asked.last().unwrap().turn;
    goes_on(&mut world, Duration::from_millis(900), "will_pay");
    assert_eq!((last_text(&world).as_str(), world.asked.last().unwrap().turn), ("will_pay", turn + 1));
    world.hear_out();
    world.line(Line::PeerHungUp);
    let customer = world.record.unwrap().turns[3].customer.clone().unwrap();
    assert!(customer.barged_in && !customer.went_on);
}

#[test]
fn a_noise_or_a_sign_of_listening_holds_the_answer_and_lets_it_go_on() {
    for text in ["", "嗯"] {
        let mut world = answered_early();
        let asked = world.asked.len();
        goes_on(&mut world, Duration::from_millis(200), text);
        assert!(world.orders.contains(&"resume"), "{text}: {:?}", world.orders);
        assert_eq!(world.asked.len(), asked, "{text}");
        world.hear_out();
        world.says("will_pay");
        assert_eq!(last_text(&world), "will_pay", "what was answered is answered");
    }
}

#[test]
fn who_begins_to_go_on_and_says_nothing_more_is_answered_as_before() {
    let mut world = answered_early();
    let (said, start) = (world.played.len(), world.now);
    world.now += Duration::from_millis(200);
    world.call.handle_hearing(world.now, Hearing::SpeechStarted);
    world.pauses += 1;
    let first = world.pauses;
    world.call.handle_hearing(world.now, Hearing::Paused { pause: first, speech_end: world.now });
    let transcript = Transcript { text: "friday".to_owned(), logprob: -0.4, ..Transcript::default() };
    world.call.handle_transcript(world.now, first, transcript);
    world.settle();
    assert_eq!(last_text(&world), "no，friday");
    // What was taken for words turns out to be none.
    world.call.handle_hearing(world.now, Hearing::Resumed { pause: first });
    let (pause, speech_end) = (first + 1, world.now);
    world.call.handle_hearing(world.now, Hearing::Paused { pause, speech_end });
    world.call.handle_transcript(world.now, pause, Transcript::default());
    world.call.handle_hearing(world.now, Hearing::TurnEnded { pause, speech_start: start, speech_end });
    world.settle();
    assert_eq!(last_text(&world), "no", "the first part alone is the turn");
    assert_eq!(world.played.len(), said + 1, "and it is answered");
}

#[test]
fn a_refusal_stays_one_whatever_is_said_after_it() {
    let mut world = World::answered();
    world.hear_out();
    world.says("opt_out");
    goes_on(&mut world, Duration::from_millis(200), "yes");
    world.hear_out();
    world.line(Line::PeerHungUp);
    assert!(world.record.unwrap().suppress);
}
