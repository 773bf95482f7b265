//! Opening devices, on machines with and without a card.

use std::time::{Duration, Instant};

use trunkline_soundcard::{Layout, Monitor, SoundError, cards, list_devices};

#[test]
fn a_device_that_is_not_there_is_named_with_those_that_are_and_with_the_way_out() {
    let error = Monitor::open(Some("no-such-card"), Layout::Mono).expect_err("it does not exist");
    let text = error.to_string();
    assert!(matches!(error, SoundError::NoDevice { .. }), "{text}");
    assert!(text.starts_with("no sound device `no-such-card`; found: "), "{text}");
    assert!(text.ends_with("remove [monitor] from the configuration to run without one"), "{text}");
    for device in list_devices().expect("the list") {
        assert!(text.contains(&device), "{text} does not list {device}");
    }
}

#[test]
fn without_a_card_the_default_device_fails_to_open_with_a_sentence_that_helps() {
    if !cards().is_empty() {
        println!("skipped: this machine has a sound card");
        return;
    }
    let Err(error) = Monitor::open(None, Layout::Stereo) else {
        println!("skipped: a default device is configured without a card");
        return;
    };
    let text = error.to_string();
    assert!(text.contains("`default`") && text.contains("remove [monitor]"), "{text}");
}

/// ALSA's `null` device takes everything at once and plays nothing: the whole way without a card.
#[test]
fn the_null_device_takes_a_call() {
    let devices = list_devices().expect("the list");
    if !devices.iter().any(|device| device == "null") {
        println!("skipped: no `null` device among {devices:?}");
        return;
    }
    let (monitor, mut feed) = match Monitor::open(Some("null"), Layout::Stereo) {
        Ok(opened) => opened,
        Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
    };
    assert_eq!(monitor.device(), "null");
    assert!(monitor.rate() >= 8_000);
    let until = Instant::now() + Duration::from_secs(5);
    let mut taken = 0;
    while taken < 100 && Instant::now() < until {
        if feed.push(&[1_000; 160], &[-1_000; 160]) {
            taken += 1;
        } else {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(taken, 100, "the device takes nothing");
    assert!(!monitor.has_failed());
    drop(monitor);
    assert!(feed.is_closed());
}
