use proptest::prelude::*;

use super::*;

/// A buzz in syllables, loud enough for a detector by energy, with a dip twice a second: what has none
/// is noise.
fn voice(ms: usize) -> Vec<i16> {
    (0..ms * 8)
        .map(|n| {
            let t = n as f32 / 8_000.0;
            let tone: f32 =
                (1..10).map(|k| (std::f32::consts::TAU * 140.0 * k as f32 * t).sin() / k as f32).sum();
            let dip = if n % 4_000 >= 3_600 && n + 800 < ms * 8 { 0.01 } else { 1.0 };
            (tone * dip * (0.7 + 0.3 * (std::f32::consts::TAU * 6.0 * t).sin()) * 4_000.0) as i16
        })
        .collect()
}

fn hush(ms: usize) -> Vec<i16> {
    (0..ms * 8).map(|n| (n % 7) as i16 - 3).collect()
}

/// By energy alone, so that the test knows what is speech.
fn ear() -> Ear {
    Ear::new(None, EarConfig::default())
}

fn play(ear: &mut Ear, sound: &[i16]) -> Vec<EarEvent> {
    let mut events = Vec::new();
    for frame in sound.chunks(160) {
        ear.push(frame);
        events.extend(std::iter::from_fn(|| ear.poll_event()));
    }
    events
}

fn near(got: u64, expected: u64) -> bool {
    got.abs_diff(expected) <= 100
}

#[test]
fn one_answer_gives_a_start_a_pause_and_an_end_with_times_from_the_sound() {
    let mut ear = ear();
    let sound = [hush(1_000), voice(1_200), hush(1_500)].concat();
    let events = play(&mut ear, &sound);
    let [
        EarEvent::SpeechStarted { at_ms, decided_ms },
        EarEvent::PauseDetected { pause, speech_end_ms, voiced_ms },
        EarEvent::TurnEnded { pause: ended, speech_end_ms: end, decided_ms: decided, why, .. },
    ] = events[..]
    else {
        panic!("{events:?}")
    };
    assert!(near(at_ms, 1_000) && decided_ms <= at_ms + 100, "{events:?}");
    assert!(near(speech_end_ms, 2_200) && end == speech_end_ms && pause == ended, "{events:?}");
    assert!((1_000..1_300).contains(&voiced_ms), "{events:?}");
    // Nothing was learned of the pause: 650 ms.
    assert!((650..=670).contains(&(decided - end)), "{events:?}");
    assert_eq!(why, EndedBy::Silence);
}

#[test]
fn what_is_learned_in_the_pause_shortens_or_lengthens_the_wait() {
    for (probability, matched, expected) in [
        (Some(0.95), Some(true), 300),
        (Some(0.1), Some(false), 1_000),
        (None, Some(true), 440),
        (Some(0.9), None, 420),
    ] {
        let mut ear = ear();
        play(&mut ear, &[hush(500), voice(800)].concat());
        let mut waited = None;
        let mut end = 0;
        for frame in hush(2_000).chunks(160) {
            ear.push(frame);
            while let Some(event) = ear.poll_event() {
                match event {
                    EarEvent::PauseDetected { pause, speech_end_ms, .. } => {
                        end = speech_end_ms;
                        if let Some(p) = probability {
                            ear.set_turn_probability(pause, p);
                        }
                        if let Some(m) = matched {
                            ear.set_hypothesis_matched(pause, m);
                        }
                    }
                    EarEvent::TurnEnded { decided_ms, .. } => waited = Some(decided_ms - end),
                    EarEvent::SpeechStarted { .. }
                    | EarEvent::SpeechResumed { .. }
                    | EarEvent::FalseStart { .. } => {
                        panic!("{event:?}")
                    }
                }
            }
        }
        let waited = waited.expect("the turn ends");
        assert!((expected..=expected + 20).contains(&waited), "{probability:?} {matched:?}: {waited}");
    }
}

#[test]
fn a_late_verdict_ends_the_turn_at_once() {
    let mut ear = ear();
    let events = play(&mut ear, &[hush(500), voice(800), hush(500)].concat());
    let Some(EarEvent::PauseDetected { pause, .. }) = events.last().copied() else { panic!("{events:?}") };
    ear.set_turn_probability(pause + 1, 1.0);
    assert_eq!(ear.poll_event(), None, "another pause's verdict is ignored");
    ear.set_turn_probability(pause, f32::NAN);
    ear.set_hypothesis_matched(pause, true);
    assert!(matches!(ear.poll_event(), Some(EarEvent::TurnEnded { why: EndedBy::Silence, .. })));
}

#[test]
fn going_on_voids_the_pause_and_the_next_one_has_another_number() {
    let mut ear = ear();
    let events = play(&mut ear, &[hush(500), voice(700), hush(400), voice(700), hush(1_500)].concat());
    let kinds: Vec<_> = events
        .iter()
        .map(|event| match event {
            EarEvent::SpeechStarted { .. } => ("started", 0),
            EarEvent::PauseDetected { pause, .. } => ("paused", *pause),
            EarEvent::SpeechResumed { pause, .. } => ("resumed", *pause),
            EarEvent::FalseStart { .. } => ("false", 0),
            EarEvent::TurnEnded { pause, .. } => ("ended", *pause),
        })
        .collect();
    assert_eq!(kinds, [("started", 0), ("paused", 1), ("resumed", 1), ("paused", 2), ("ended", 2)]);
}

#[test]
fn the_utterance_holds_the_whole_voice_with_a_little_before_and_after() {
    let mut ear = ear();
    play(&mut ear, &[hush(3_000), voice(1_000), hush(200)].concat());
    let utterance = ear.utterance().expect("a turn runs");
    let ms = utterance.duration().as_millis();
    assert!((1_250..=1_500).contains(&ms), "{ms}");
    assert!(utterance.voiced.expect("counted") >= Duration::from_millis(800));
    play(&mut ear, &hush(2_000));
    let again = ear.utterance().expect("the last turn is still there");
    assert_eq!(again.samples.len(), utterance.samples.len());
    play(&mut ear, &hush(60_000));
    assert!(ear.utterance().is_none(), "and goes some time after");
}

#[test]
fn a_click_is_a_false_start_or_nothing() {
    let mut ear = ear();
    let events = play(&mut ear, &[hush(1_000), voice(40), hush(1_000)].concat());
    assert!(
        events.iter().all(|e| matches!(e, EarEvent::FalseStart { .. } | EarEvent::SpeechStarted { .. })),
        "{events:?}"
    );
}

#[test]
fn a_sound_over_a_prompt_is_told_at_once_and_taken_back_and_not_told_again_where_that_was_wrong_twice() {
    // A detector that takes a fifth of a second to be certain.
    let mut ear = Ear::new(None, EarConfig { start_during_prompt_ms: 400, ..EarConfig::default() });
    ear.set_prompt_playing(true);
    let knock = [hush(600), voice(100), hush(600)].concat();
    for _ in 0..2 {
        let events = play(&mut ear, &knock);
        let [EarEvent::SpeechStarted { at_ms, decided_ms }, EarEvent::FalseStart { at_ms: back }] =
            events[..]
        else {
            panic!("{events:?}")
        };
        assert!((20..=60).contains(&(decided_ms - at_ms)) && back == decided_ms, "{events:?}");
        assert!(!ear.is_in_turn());
    }
    assert_eq!(play(&mut ear, &knock), []);
    // A voice is still heard, once it is certain, and makes up for the mistakes.
    let events = play(&mut ear, &[voice(1_200), hush(1_500)].concat());
    assert!(
        matches!(
            events[..],
            [EarEvent::SpeechStarted { .. }, EarEvent::PauseDetected { .. }, EarEvent::TurnEnded { .. }]
        ),
        "{events:?}"
    );
    assert_eq!(play(&mut ear, &knock).len(), 2);
}

#[test]
fn a_suspected_voice_that_becomes_certain_is_told_once() {
    let mut ear = Ear::new(None, EarConfig { start_during_prompt_ms: 200, ..EarConfig::default() });
    ear.set_prompt_playing(true);
    let events = play(&mut ear, &[hush(600), voice(1_000), hush(1_500)].concat());
    let [
        EarEvent::SpeechStarted { decided_ms, .. },
        EarEvent::PauseDetected { .. },
        EarEvent::TurnEnded { .. },
    ] = events[..]
    else {
        panic!("{events:?}")
    };
    assert!((640..=680).contains(&decided_ms), "{events:?}");
}

#[test]
fn a_turn_without_end_is_cut_and_the_voice_goes_on_as_a_new_one() {
    let mut ear = ear();
    ear.configure(NodeEar { max_turn_ms: 2_000, ..NodeEar::default() });
    let events = play(&mut ear, &[hush(500), voice(3_000)].concat());
    assert!(
        matches!(
            events[..],
            [
                EarEvent::SpeechStarted { .. },
                EarEvent::TurnEnded { why: EndedBy::TooLong, pause: 0, .. },
                EarEvent::SpeechStarted { .. }
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn memory_stays_bounded_over_an_hour() {
    let mut ear = ear();
    ear.configure(NodeEar { max_turn_ms: u32::MAX, ..NodeEar::default() });
    let minute = [voice(45_000), hush(15_000)].concat();
    let mut most = 0;
    for _ in 0..10 {
        play(&mut ear, &minute);
        most = most.max(ear.sound.len());
    }
    assert!(most <= 30 * 8_000, "{most}");
    play(&mut ear, &hush(60_000));
    assert!(ear.sound.len() <= 2 * 8_000 && ear.sound.capacity() < 6 * 8_000, "{}", ear.sound.capacity());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_heard_times_grow_and_turns_are_well_formed(
        pieces in prop::collection::vec((0u8..4, 1usize..60, any::<bool>(), 0.0f32..1.0), 1..40),
        seed in any::<u32>(),
    ) {
        let mut ear = ear();
        let mut random = seed | 1;
        let mut last_ms = 0;
        let mut in_turn = false;
        let mut open_pause = None;
        for (kind, frames, answer, probability) in pieces {
            let sound = match kind {
                0 => hush(frames * 20),
                1 => voice(frames * 20),
                2 => vec![i16::MIN; frames * 160],
                _ => (0..frames * 160).map(|_| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (random >> 16) as i16
                }).collect(),
            };
            ear.set_prompt_playing(answer);
            for piece in sound.chunks(1 + (seed as usize % 400)) {
                ear.push(piece);
                while let Some(event) = ear.poll_event() {
                    match event {
                        EarEvent::SpeechStarted { at_ms, decided_ms } => {
                            prop_assert!(!in_turn && at_ms <= decided_ms && decided_ms <= ear.position_ms());
                            in_turn = true;
                        }
                        EarEvent::PauseDetected { pause, speech_end_ms, .. } => {
                            prop_assert!(in_turn && open_pause.is_none() && speech_end_ms >= last_ms);
                            last_ms = speech_end_ms;
                            open_pause = Some(pause);
                            if answer {
                                ear.set_turn_probability(pause, probability);
                                ear.set_hypothesis_matched(pause, probability > 0.5);
                            }
                            prop_assert!(ear.utterance().is_some());
                        }
                        EarEvent::SpeechResumed { pause, at_ms } => {
                            prop_assert!(open_pause == Some(pause) && at_ms >= last_ms);
                            open_pause = None;
                        }
                        EarEvent::FalseStart { .. } => {
                            prop_assert!(in_turn && open_pause.is_none());
                            in_turn = false;
                        }
                        EarEvent::TurnEnded { pause, speech_start_ms, speech_end_ms, decided_ms, .. } => {
                            prop_assert!(in_turn && (pause == 0 || open_pause == Some(pause)));
                            prop_assert!(speech_start_ms <= speech_end_ms && speech_end_ms <= decided_ms);
                            prop_assert!(speech_end_ms >= last_ms);
                            last_ms = speech_end_ms;
                            in_turn = false;
                            open_pause = None;
                        }
                    }
                }
                prop_assert!(ear.sound.len() <= 30 * 8_000);
            }
        }
    }
}

fn turns(events: &[EarEvent]) -> Vec<(u64, u64, u64)> {
    events
        .iter()
        .filter_map(|event| match event {
            EarEvent::TurnEnded { speech_start_ms, speech_end_ms, decided_ms, .. } => {
                Some((*speech_start_ms, *speech_end_ms, *decided_ms))
            }
            EarEvent::SpeechStarted { .. }
            | EarEvent::PauseDetected { .. }
            | EarEvent::SpeechResumed { .. }
            | EarEvent::FalseStart { .. } => None,
        })
        .collect()
}

#[test]
fn an_eager_ear_calls_the_pause_sooner_and_ends_the_turn_at_the_same_time() {
    let sound = [hush(1_000), voice(1_200), hush(1_500)].concat();
    let paused_at = |eager: bool| {
        let mut ear = ear();
        ear.set_eager(eager);
        let at = sound.chunks(160).position(|frame| {
            ear.push(frame);
            std::iter::from_fn(|| ear.poll_event()).any(
                |e| matches!(e, EarEvent::PauseDetected { speech_end_ms, .. } if near(speech_end_ms, 2_200)),
            )
        });
        at.unwrap() * 20
    };
    let (eager, certain) = (paused_at(true), paused_at(false));
    assert!((40..=80).contains(&(certain - eager)), "{eager} ms and {certain} ms");
}

#[test]
fn an_eager_pause_that_was_none_is_taken_back_before_the_next_is_called() {
    let sound = [hush(600), voice(400), hush(90), voice(400), hush(90), voice(500), hush(1_500)].concat();
    let mut ear = ear();
    ear.set_eager(true);
    let events = play(&mut ear, &sound);
    let mut open = None;
    for event in &events {
        match event {
            EarEvent::PauseDetected { pause, .. } => assert_eq!(open.replace(*pause), None, "{events:?}"),
            EarEvent::SpeechResumed { pause, .. } => assert_eq!(open.take(), Some(*pause), "{events:?}"),
            EarEvent::TurnEnded { pause, .. } => assert_eq!(open.take(), Some(*pause), "{events:?}"),
            EarEvent::SpeechStarted { .. } | EarEvent::FalseStart { .. } => {}
        }
    }
    assert!(events.iter().filter(|e| matches!(e, EarEvent::PauseDetected { .. })).count() >= 3, "{events:?}");
    assert_eq!(turns(&events).len(), 1, "{events:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn eagerness_never_changes_where_turns_begin_and_end(
        pieces in prop::collection::vec((100usize..900, 20usize..900), 1..5),
    ) {
        let mut sound = hush(500);
        for (speech, pause) in pieces {
            sound.extend(voice(speech));
            sound.extend(hush(pause));
        }
        sound.extend(hush(1_500));
        let heard = |eager: bool| {
            let mut ear = ear();
            ear.set_eager(eager);
            turns(&play(&mut ear, &sound))
        };
        prop_assert_eq!(heard(true), heard(false));
    }
}

#[test]
fn how_a_turn_was_spoken_is_known_where_it_is_asked_for_and_compared_with_the_turns_before() {
    let mut ear = ear();
    play(&mut ear, &[hush(1_000), voice(1_500), hush(1_500)].concat());
    assert_eq!(ear.tone_of_voice(), None, "nobody asked for it");

    let mut ear = self::ear();
    ear.hear_tone_of_voice();
    let turn = [hush(600), voice(1_500), hush(1_500)].concat();
    play(&mut ear, &turn);
    let first = ear.tone_of_voice().unwrap();
    assert_eq!(first.against, None, "there is nothing to compare it with");
    assert!((first.way.pitch - 12.0 * (140.0f32 / 55.0).log2()).abs() < 0.5, "{first:?}");
    play(&mut ear, &turn);
    play(&mut ear, &turn);
    let same = ear.tone_of_voice().unwrap().against.unwrap();
    assert!(same.arousal.abs() < 0.1, "{same:?}");
    let louder: Vec<i16> = turn.iter().map(|s| s.saturating_mul(3)).collect();
    play(&mut ear, &louder);
    let louder = ear.tone_of_voice().unwrap().against.unwrap();
    assert!(louder.arousal > same.arousal + 0.2 && louder.loudness_db > 5.0, "{louder:?}");
    // A turn that was not used is not what is usual.
    ear.reset_turn();
    play(&mut ear, &turn);
    let again = ear.tone_of_voice().unwrap().against.unwrap();
    assert!(again.loudness_db.abs() < 1.0, "{again:?}");
}
