//! The device itself, by cpal.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{FromSample, SampleFormat, SizedSample, StreamConfig};
use tracing::{debug, warn};

use crate::player::{Counters, Player, pair};
use crate::{Layout, MonitorFeed, SoundError};

/// Plays a live call on a sound device for as long as it exists.
pub struct Monitor {
    _stream: cpal::Stream,
    device: String,
    rate: u32,
    failed: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl Monitor {
    /// Opens a device by its name as [`list_devices`] gives it, or the system's default, and starts
    /// to play what the feed is given.
    ///
    /// # Errors
    /// [`SoundError::NoDevice`] and [`SoundError::Open`] list the devices that exist.
    pub fn open(device: Option<&str>, layout: Layout) -> Result<(Self, MonitorFeed), SoundError> {
        let _quiet = Quiet::begin();
        let host = cpal::default_host();
        let wanted = device.unwrap_or(DEFAULT);
        let found = || list_devices().unwrap_or_default();
        let handle = match device {
            None => host.default_output_device(),
            Some(name) => host
                .output_devices()
                .map_err(|source| SoundError::List { source: Box::new(source) })?
                .find(|device| name_of(device).as_deref() == Some(name)),
        }
        .ok_or_else(|| SoundError::NoDevice { device: wanted.to_owned(), found: found() })?;
        let failed_to_open = |source| SoundError::Open { device: wanted.to_owned(), found: found(), source };

        let supported = handle.default_output_config().map_err(|e| failed_to_open(Box::new(e)))?;
        let format = supported.sample_format();
        let config = supported.config();
        let rate = config.sample_rate;
        let failed = Arc::new(AtomicBool::new(false));
        let counters = Arc::new(Counters::default());
        let (feed, player) = pair(rate, layout, Arc::clone(&counters));
        let on_error = {
            let (failed, device) = (Arc::clone(&failed), wanted.to_owned());
            move |error: cpal::StreamError| on_stream_error(&error, &device, &failed)
        };
        let stream = if format == SampleFormat::F32 {
            build::<f32>(&handle, &config, player, on_error)
        } else if format == SampleFormat::I16 {
            build::<i16>(&handle, &config, player, on_error)
        } else if format == SampleFormat::I32 {
            build::<i32>(&handle, &config, player, on_error)
        } else if format == SampleFormat::U8 {
            build::<u8>(&handle, &config, player, on_error)
        } else {
            return Err(SoundError::Format { device: wanted.to_owned(), format: format.to_string() });
        };
        let stream = stream.map_err(|e| failed_to_open(Box::new(e)))?;
        stream.play().map_err(|e| failed_to_open(Box::new(e)))?;
        debug!(device = wanted, rate, channels = config.channels, %format, "Sound device opened");
        let monitor = Self { _stream: stream, device: wanted.to_owned(), rate, failed, counters };
        Ok((monitor, feed))
    }

    /// Returns the name of the device.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Returns the rate at which it plays, in samples a second.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Returns whether the device has gone away; a new monitor may find it again.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Returns how often the device ran out of sound; the end of each call counts as one.
    #[must_use]
    pub fn underruns(&self) -> u64 {
        self.counters.underruns.load(Ordering::Relaxed)
    }

    /// Returns how many frames were left out because the device's clock is slow.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.counters.skipped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("device", &self.device)
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

/// Returns the names of the devices that can play, as [`Monitor::open`] takes them.
///
/// # Errors
/// [`SoundError::List`] when the sound system does not answer. A box without a card has no error,
/// and often still some devices that lead nowhere, such as `null`.
pub fn list_devices() -> Result<Vec<String>, SoundError> {
    let _quiet = Quiet::begin();
    let devices = cpal::default_host()
        .output_devices()
        .map_err(|source| SoundError::List { source: Box::new(source) })?;
    let mut names: Vec<String> = devices.filter_map(|device| name_of(&device)).collect();
    names.dedup();
    Ok(names)
}

fn name_of(device: &cpal::Device) -> Option<String> {
    device.id().ok().map(|id| id.1)
}

fn on_stream_error(error: &cpal::StreamError, device: &str, failed: &AtomicBool) {
    let passing = matches!(error, cpal::StreamError::BufferUnderrun);
    if passing {
        debug!(device, "The sound device ran dry");
    } else if !failed.swap(true, Ordering::Relaxed) {
        warn!(device, %error, "The sound device failed; the call goes on unheard");
    }
}

fn build<T: SizedSample + FromSample<f32>>(
    device: &cpal::Device,
    config: &StreamConfig,
    mut player: Player,
    on_error: impl FnMut(cpal::StreamError) + Send + 'static,
) -> Result<cpal::Stream, cpal::BuildStreamError> {
    let channels = usize::from(config.channels.max(1));
    let mut scratch = vec![0.0f32; SCRATCH * channels];
    let fill = move |out: &mut [T], _: &cpal::OutputCallbackInfo| {
        for out in out.chunks_mut(SCRATCH * channels) {
            let scratch = &mut scratch[..out.len()];
            player.fill(scratch, channels);
            for (out, &sample) in out.iter_mut().zip(&*scratch) {
                *out = T::from_sample(sample);
            }
        }
    };
    device.build_output_stream(config, fill, on_error, None)
}

/// While it exists, what the ALSA library would print about missing cards goes to the log instead.
struct Quiet(Option<std::rc::Rc<std::cell::RefCell<alsa::Output>>>);

impl Quiet {
    fn begin() -> Self {
        Self(alsa::Output::local_error_handler().ok())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(output) = &self.0 {
            output.borrow().buffer_string(|text| {
                for line in String::from_utf8_lossy(text).lines().filter(|line| !line.is_empty()) {
                    debug!(line, "ALSA says");
                }
            });
        }
    }
}

const DEFAULT: &str = "default";

/// Samples of each channel that are converted at once.
const SCRATCH: usize = 512;
