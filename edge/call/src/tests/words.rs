//! What must not be said is not said, and what was said stands in the record.

use trunkline_words::{Filter, WordList};

use super::*;

const LIST: &str = "
schema: trunkline/words/1
id: branch
entries:
  - {words: [智能语音助手], side: robot, severity: warn, action: replace, with: 机器人助手}
  - {words: [近期方便还上吗], side: robot, severity: critical, action: withhold}
  - {words: [will_pay], side: customer, severity: warn}
";

#[test]
fn the_robot_says_what_is_left_and_the_record_says_what_was_found() {
    let mut world = World::new();
    world.call.set_words(Arc::new(Filter::new(&[WordList::from_yaml(LIST).unwrap()]).unwrap()));
    world.call.handle_prepared(world.now, Ok(script()));
    world.settle();
    world.line(Line::Ringing);
    world.line(Line::Answered);
    world.hear_out();
    assert!(
        world.played[0].contains("机器人助手") && !world.played[0].contains("智能语音助手"),
        "{:?}",
        world.played
    );
    world.says("yes");
    world.hear_out();
    assert!(world.played[1].contains("账单") && !world.played[1].contains("还上"), "{:?}", world.played);
    world.says("will_pay");
    world.hear_out();
    world.line(Line::PeerHungUp);
    let record = world.record.unwrap();
    let words: Vec<_> = record
        .turns
        .iter()
        .flat_map(|turn| turn.words.iter().map(|word| (turn.turn, word.by.as_str(), word.action.as_str())))
        .collect();
    assert_eq!(words, [(0, "robot", "replace"), (1, "robot", "withhold"), (2, "customer", "note")]);
    assert_eq!(record.turns[0].robot[0].text, world.played[0], "the record has what was really said");
}

#[test]
fn a_prompt_of_which_nothing_is_left_is_passed_over() {
    let all = "
schema: trunkline/words/1
id: everything
entries: [{words: [您好, 请问], side: robot, action: withhold}]
";
    let mut world = World::new();
    world.call.set_words(Arc::new(Filter::new(&[WordList::from_yaml(all).unwrap()]).unwrap()));
    world.call.handle_prepared(world.now, Ok(script()));
    world.settle();
    world.line(Line::Answered);
    world.hear_out();
    world.says("yes");
    world.hear_out();
    assert!(world.record.is_none(), "the call goes on and listens");
    assert_eq!(world.asked.last().unwrap().turn, 1);
}
