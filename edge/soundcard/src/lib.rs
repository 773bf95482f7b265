//! Sound cards: listening to a call on the box itself.
//!
//! [`Monitor`] plays both directions of a live call on a device of the box, for the demo, for setting
//! up a line and for the tech on site. [`cards`] and [`volume`] reach the mixer of the card below it.
//!
//! The media thread gives each frame to a [`MonitorFeed`], which never waits: what the device does
//! not take in time is dropped, and the call knows nothing of it.
//!
//! Absent on purpose: capture (a call's sound comes from its line) and any choice of device by the
//! program: a box without `[monitor]` in its configuration opens none.

mod mixer;
mod monitor;
mod player;

pub use mixer::{Card, cards, set_volume, volume};
pub use monitor::{Monitor, list_devices};
pub use player::{Layout, MonitorFeed};

/// Why a sound device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SoundError {
    /// There is no device of that name.
    #[error(
        "no sound device `{device}`; found: {}; remove [monitor] from the configuration to run without one",
        listed(.found)
    )]
    NoDevice {
        /// What was asked for.
        device: String,
        /// What there is.
        found: Vec<String>,
    },
    /// The device is there and cannot be opened: in use, forbidden, or without a card behind it.
    #[error(
        "could not open the sound device `{device}`; found: {}; remove [monitor] from the configuration to run without one",
        listed(.found)
    )]
    Open {
        /// What was asked for.
        device: String,
        /// What there is.
        found: Vec<String>,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The device wants samples in a form that is not played here.
    #[error("the sound device `{device}` wants samples as {format}, which is not supported")]
    Format {
        /// Which device.
        device: String,
        /// Its form of samples.
        format: String,
    },
    /// The devices cannot be listed.
    #[error("could not list the sound devices")]
    List {
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The card is not there, or has no mixer that answers.
    #[error("could not use the mixer of sound card {card}")]
    Mixer {
        /// The number of the card.
        card: i32,
        /// What happened.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The card has nothing to set the volume with.
    #[error("sound card {card} has no playback volume; its controls are: {}", listed(.controls))]
    NoVolume {
        /// The number of the card.
        card: i32,
        /// What it has.
        controls: Vec<String>,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
