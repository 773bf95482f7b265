use std::path::Path;

use rand::SeedableRng;

use super::*;

/// A customer, the robot's voice, and a recogniser that takes 300 ms.
struct Scene {
    customer: Customer,
    now_ms: u64,
    log: Vec<String>,
    speech_over_ms: Option<u64>,
    recognised: Option<(u64, u32)>,
    robot_says: String,
}

impl Scene {
    fn new(rest: &str) -> Self {
        let head = "schema: trunkline/persona/1\nname: Test\nlocale: en-US\nthinking: 500ms\n";
        let persona = Persona::parse(&format!("{head}{rest}"), Path::new("test.yaml")).unwrap();
        let customer = Customer::new(Arc::new(persona), ChaCha8Rng::seed_from_u64(1));
        Self {
            customer,
            now_ms: 0,
            log: vec![],
            speech_over_ms: None,
            recognised: None,
            robot_says: String::new(),
        }
    }

    fn run(&mut self, ms: u64) -> &mut Self {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            self.now_ms += 20;
            self.customer.handle_time(self.now_ms);
            if self.speech_over_ms.is_some_and(|at| self.now_ms >= at) {
                self.speech_over_ms = None;
                self.customer.handle_said();
            }
            if let Some((_, turn)) = self.recognised.take_if(|(at, _)| self.now_ms >= *at) {
                self.customer.handle_heard(turn, Some(self.robot_says.clone()));
            }
            while let Some(output) = self.customer.poll_output() {
                self.note(output);
            }
        }
        self
    }

    fn note(&mut self, output: Output) {
        let now = self.now_ms;
        match output {
            Output::Recognise { turn, .. } => self.recognised = Some((now + 300, turn)),
            Output::Forget => self.recognised = None,
            Output::Say { utterance, interrupts } => {
                let text = self.customer.persona.utterances[utterance].text();
                self.log.push(format!("{now} {text}{}", if interrupts { " (over)" } else { "" }));
                self.speech_over_ms = Some(now + 1_000);
            }
            Output::Understood { turn, matched, .. } => {
                self.log.push(format!("{now} heard {turn} {}", matched.as_deref().unwrap_or("-")));
            }
            Output::HangUp => self.log.push(format!("{now} gone")),
        }
    }

    fn robot(&mut self, text: &str, ms: u64) -> &mut Self {
        text.clone_into(&mut self.robot_says);
        self.customer.handle_robot_started(self.now_ms);
        self.run(ms);
        self.customer.handle_robot_stopped(self.now_ms);
        self
    }
}

const RULES: &str = "rules:\n  - {hear: [speaking with], say: speaking}\n  - {hear: make it, say: I can, once: true}\n  \
                     - {hear: goodbye, say: bye, then: hangup}\notherwise: {say: pardon}\n";

#[test]
fn she_answers_when_patience_and_thought_are_over() {
    let mut scene = Scene::new(RULES);
    scene.robot("Am I speaking with Alex?", 2_000).run(3_000);
    // 600 ms patience; the recogniser, asked after 400 ms, is done after 700; 500 ms thought.
    assert_eq!(scene.log, ["2700 heard 1 speaking with", "3100 speaking"]);
}

#[test]
fn a_pause_between_sentences_is_not_the_end() {
    let mut scene = Scene::new(RULES);
    scene.robot("Hello.", 1_000).run(500).robot("Can you make it?", 1_000).run(2_000);
    assert_eq!(scene.log, ["3200 heard 1 make it", "3600 I can"]);
}

#[test]
fn a_robot_that_goes_on_while_she_thinks_is_heard_out() {
    let mut scene = Scene::new(RULES);
    scene.robot("Am I speaking with", 1_000).run(800).robot("Alex? Goodbye", 1_000).run(1_500);
    assert_eq!(scene.log.len(), 3, "{:?}", scene.log);
    assert!(
        scene.log[0].ends_with("heard 1 speaking with") && scene.log[2].ends_with("bye"),
        "{:?}",
        scene.log
    );
}

#[test]
fn a_rule_that_is_given_once_leaves_the_next_time_to_others() {
    let mut scene = Scene::new(RULES);
    scene.robot("Can you make it?", 1_000).run(3_500).robot("Can you make it?", 1_000).run(2_000);
    assert!(scene.log[1].ends_with("I can") && scene.log[3].ends_with("pardon"), "{:?}", scene.log);
}

#[test]
fn she_hangs_up_after_her_last_word() {
    let mut scene = Scene::new(RULES);
    scene.robot("Thank you. Goodbye.", 1_000).run(5_000);
    assert_eq!(scene.log, ["1700 heard 1 goodbye", "2100 bye", "3500 gone"]);
}

#[test]
fn she_speaks_over_the_robot_and_the_cut_off_turn_is_not_answered() {
    let mut scene = Scene::new(&format!("{RULES}interrupt: {{after: 1s, on_turn: 1, say: wait a moment}}\n"));
    scene.robot("Am I speaking with Alex? This is", 1_300).run(200);
    // The robot says a last syllable while she speaks.
    scene.robot("um", 200).run(2_000);
    assert_eq!(scene.log, ["1000 wait a moment (over)"]);
    scene.robot("Can you make it?", 1_000).run(2_000);
    assert!(scene.log[1].ends_with("heard 2 make it"), "{:?}", scene.log);
}

#[test]
fn a_robot_that_does_not_yield_is_answered_when_it_is_done() {
    let mut scene = Scene::new(&format!("{RULES}interrupt: {{after: 1s, on_turn: 1, say: wait}}\n"));
    scene.robot("This call is recorded. Can you make it?", 4_000).run(2_000);
    assert!(scene.log[0].ends_with("(over)") && scene.log[2].ends_with("I can"), "{:?}", scene.log);
}

#[test]
fn she_greets_a_silent_line_and_not_a_robot_that_speaks() {
    let mut scene = Scene::new("greeting: hello\n");
    scene.run(2_000);
    assert_eq!(scene.log, ["600 hello"]);
    let mut scene = Scene::new("greeting: hello\n");
    scene.run(200).robot("Good day", 1_000).run(2_000);
    assert_eq!(scene.log, ["1800 heard 1 -"]);
}

#[test]
fn a_voicemail_greets_over_the_robot_and_says_nothing_more() {
    let mut scene = Scene::new("greeting: hello\nbeep: 1000\nrules: [{hear: any, say: yes}]\n");
    scene.run(200).robot("Good day", 1_000).run(4_000).robot("Are you there?", 1_000).run(4_000);
    assert_eq!(scene.log.iter().filter(|line| line.contains("hello")).count(), 1, "{:?}", scene.log);
    assert!(!scene.log.iter().any(|line| line.contains("yes")), "{:?}", scene.log);
}

#[test]
fn without_keywords_nothing_is_recognised_and_any_turn_is_answered() {
    let mut scene = Scene::new("rules: [{hear: any, say: first, once: true}, {hear: any, say: later}]\n");
    scene.robot("x", 1_000).run(3_000).robot("y", 1_000).run(3_000);
    assert_eq!(scene.log, ["1600 heard 1 any", "2100 first", "5600 heard 2 any", "6100 later"]);
}

#[test]
fn she_hangs_up_after_a_turn_or_a_time() {
    let mut scene = Scene::new(&format!("{RULES}hangup_after: {{turns: 2}}\n"));
    scene.robot("Can you make it?", 1_000).run(3_000).robot("speaking with", 1_000).run(3_000);
    assert!(scene.log.last().unwrap().ends_with("gone") && scene.log.len() == 4, "{:?}", scene.log);
    let mut scene = Scene::new("silent: true\nhangup_after: {seconds: 3}\n");
    scene.robot("Hello?", 1_000).run(5_000);
    assert_eq!(scene.log, ["3000 gone"]);
}

#[test]
fn the_same_seed_speaks_the_same_words() {
    let said = |seed| {
        let rest = "thinking: {min: 100ms, max: 900ms}\nrules: [{hear: any, say: [a, b, c, d]}]\n";
        let head = "schema: trunkline/persona/1\nname: Test\nlocale: en-US\n";
        let persona = Persona::parse(&format!("{head}{rest}"), Path::new("test.yaml")).unwrap();
        let mut scene = Scene::new("");
        scene.customer = Customer::new(Arc::new(persona), ChaCha8Rng::seed_from_u64(seed));
        for _ in 0..6 {
            scene.robot("x", 500).run(3_000);
        }
        scene.log
    };
    assert_eq!(said(1), said(1));
    assert_ne!(said(1), said(2));
}
