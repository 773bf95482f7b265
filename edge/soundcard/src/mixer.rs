//! The mixer of a sound card, by ALSA: which cards there are, and how loud they play.

use alsa::mixer::{Mixer, Selem, SelemChannelId};

use crate::SoundError;

/// A sound card of the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its number, as in `hw:0`.
    pub index: i32,
    /// Its name.
    pub name: String,
    /// Its simple mixer controls that play, such as `Master` or `Speaker`.
    pub controls: Vec<String>,
}

/// Returns the cards that the kernel knows; none is no error.
#[must_use]
pub fn cards() -> Vec<Card> {
    alsa::card::Iter::new()
        .filter_map(Result::ok)
        .map(|card| {
            let index = card.get_index();
            let name = card.get_name().unwrap_or_else(|_| format!("card {index}"));
            let controls = open(index).map(|mixer| controls(&mixer)).unwrap_or_default();
            Card { index, name, controls }
        })
        .collect()
}

/// Returns the playback volume of a card in percent of its range.
///
/// # Errors
/// [`SoundError::Mixer`] when there is no such card, [`SoundError::NoVolume`] when it has no volume.
pub fn volume(card: i32) -> Result<u8, SoundError> {
    with_control(card, |control| {
        let (low, high) = control.get_playback_volume_range();
        let now = control.get_playback_volume(SelemChannelId::FrontLeft)?;
        Ok(percent_of(now, low, high))
    })
}

/// Sets the playback volume of a card in percent of its range, and unmutes it; over 100 is 100.
///
/// # Errors
/// As [`volume`].
pub fn set_volume(card: i32, percent: u8) -> Result<(), SoundError> {
    with_control(card, |control| {
        let (low, high) = control.get_playback_volume_range();
        control.set_playback_volume_all(value_of(percent, low, high))?;
        if control.has_playback_switch() {
            control.set_playback_switch_all(1)?;
        }
        Ok(())
    })
}

fn with_control<T>(card: i32, act: impl FnOnce(&Selem<'_>) -> alsa::Result<T>) -> Result<T, SoundError> {
    let failed = |source: alsa::Error| SoundError::Mixer { card, source: Box::new(source) };
    let mixer = open(card).map_err(failed)?;
    let names = controls(&mixer);
    // Not the first control that has a volume: that may be the beep of the card.
    let chosen = PREFERRED.iter().find(|&&name| names.iter().any(|n| n == name)).copied();
    let chosen = chosen.or(names.first().map(String::as_str));
    let control = mixer
        .iter()
        .filter_map(Selem::new)
        .find(|control| control.has_playback_volume() && control.get_id().get_name().ok() == chosen);
    match control {
        Some(control) => act(&control).map_err(failed),
        None => Err(SoundError::NoVolume { card, controls: names }),
    }
}

fn open(card: i32) -> alsa::Result<Mixer> {
    // Opening logs to standard error when there is no such card.
    let _quiet = alsa::Output::local_error_handler();
    Mixer::new(&format!("hw:{card}"), false)
}

fn controls(mixer: &Mixer) -> Vec<String> {
    mixer
        .iter()
        .filter_map(Selem::new)
        .filter(Selem::has_playback_volume)
        .filter_map(|control| control.get_id().get_name().ok().map(str::to_owned))
        .collect()
}

fn percent_of(value: i64, low: i64, high: i64) -> u8 {
    let range = (high - low).max(1);
    ((value.clamp(low, high.max(low)) - low) * 100 / range).clamp(0, 100) as u8
}

fn value_of(percent: u8, low: i64, high: i64) -> i64 {
    low + (high - low).max(0) * i64::from(percent.min(100)) / 100
}

/// What cards call the volume that people mean.
const PREFERRED: [&str; 6] = ["Master", "Speaker", "Headphone", "PCM", "Playback", "Line Out"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_and_value_agree_in_any_range() {
        for (low, high) in [(0, 87), (-5_120, 0), (0, 100), (0, 65_536), (0, 0)] {
            for percent in 0..=100 {
                let back = percent_of(value_of(percent, low, high), low, high);
                let coarse = if high - low < 100 { 2 } else { 1 };
                let empty = low == high && back == 0;
                assert!(back.abs_diff(percent) <= coarse || empty, "{percent} became {back}");
            }
        }
        assert_eq!(value_of(200, 0, 50), 50);
    }

    #[test]
    fn a_card_that_is_not_there_is_named_in_the_error() {
        let error = volume(31).unwrap_err();
        assert_eq!(error.to_string(), "could not use the mixer of sound card 31");
        assert!(std::error::Error::source(&error).is_some());
        assert!(set_volume(31, 50).is_err());
        assert!(cards().iter().all(|card| card.index != 31));
    }
}
