//! Whole WAV files of 16 bits, read and written.

use std::path::{Path, PathBuf};

/// A sound file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wav {
    /// Samples a second.
    pub rate: u32,
    /// The samples of each channel; all are equally long.
    pub channels: Vec<Vec<i16>>,
}

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// The file system or the format got in the way.
    #[error("could not {what} the sound file `{path}`")]
    File {
        /// What was being done: `read` or `write`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: hound::Error,
    },
    /// It is WAV, but not of 16-bit samples.
    #[error("the sound file `{path}` has {bits}-bit {kind} samples; 16-bit integers are needed")]
    Format {
        /// Which file.
        path: PathBuf,
        /// Bits of one sample.
        bits: u16,
        /// `integer` or `floating-point`.
        kind: &'static str,
    },
    /// The file has not as many channels as are needed.
    #[error("the sound file `{path}` has {channels} channels; {needed} are needed")]
    Channels {
        /// Which file.
        path: PathBuf,
        /// How many it has.
        channels: usize,
        /// How many it should have.
        needed: usize,
    },
}

impl Wav {
    /// Returns how long the sound lasts, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.channels.first().map_or(0, Vec::len) as f64 / f64::from(self.rate.max(1))
    }

    /// Returns all channels mixed into one.
    #[must_use]
    pub fn mono(&self) -> Vec<i16> {
        let count = self.channels.len().max(1) as i32;
        let len = self.channels.first().map_or(0, Vec::len);
        (0..len)
            .map(|n| (self.channels.iter().map(|c| i32::from(c[n])).sum::<i32>() / count) as i16)
            .collect()
    }
}

/// Reads a file. A recording that was cut off in mid-write is read as far as it goes.
///
/// # Errors
/// [`WavError`] when it cannot be opened, is no WAV, or has other than 16-bit samples.
pub fn read(path: impl AsRef<Path>) -> Result<Wav, WavError> {
    let path = path.as_ref();
    let failed = |source| WavError::File { what: "read", path: path.to_owned(), source };
    let reader = hound::WavReader::open(path).map_err(failed)?;
    let spec = reader.spec();
    if spec.bits_per_sample != 16 || spec.sample_format != hound::SampleFormat::Int {
        let kind = match spec.sample_format {
            hound::SampleFormat::Int => "integer",
            hound::SampleFormat::Float => "floating-point",
        };
        return Err(WavError::Format { path: path.to_owned(), bits: spec.bits_per_sample, kind });
    }
    let count = usize::from(spec.channels.max(1));
    let mut channels = vec![Vec::with_capacity(reader.duration() as usize); count];
    for (n, sample) in reader.into_samples::<i16>().enumerate() {
        match sample {
            Ok(sample) => channels[n % count].push(sample),
            // The header promises more than the disk got; what is there is good.
            Err(hound::Error::IoError(e)) if n > 0 && e.raw_os_error().is_none() => break,
            Err(source) => return Err(failed(source)),
        }
    }
    let shortest = channels.iter().map(Vec::len).min().unwrap_or(0);
    channels.iter_mut().for_each(|channel| channel.truncate(shortest));
    Ok(Wav { rate: spec.sample_rate, channels })
}

/// Writes a file of one channel or more; channels that are shorter than the first end in silence.
///
/// # Errors
/// [`WavError::File`] when it cannot be written.
pub fn write(path: impl AsRef<Path>, rate: u32, channels: &[&[i16]]) -> Result<(), WavError> {
    let path = path.as_ref();
    let failed = |source| WavError::File { what: "write", path: path.to_owned(), source };
    let spec = hound::WavSpec {
        channels: u16::try_from(channels.len().max(1)).unwrap_or(u16::MAX),
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).map_err(failed)?;
    let len = channels.first().map_or(0, |channel| channel.len());
    for n in 0..len {
        for channel in channels {
            writer.write_sample(channel.get(n).copied().unwrap_or(0)).map_err(failed)?;
        }
    }
    writer.finalize().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        write(&path, 8_000, &[&[1, -2, 3], &[i16::MIN, i16::MAX]]).unwrap();
        let wav = read(&path).unwrap();
        assert_eq!(wav.rate, 8_000);
        assert_eq!(wav.channels, [vec![1, -2, 3], vec![i16::MIN, i16::MAX, 0]]);
        assert_eq!(wav.mono(), [-16_383, 16_382, 1]);
    }

    #[test]
    fn a_file_that_is_missing_or_no_sound_says_which_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none.wav");
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("could not read the sound file") && error.contains("none.wav"));
        std::fs::write(&path, b"not a RIFF file at all, but some text").unwrap();
        assert!(read(&path).is_err());
    }

    #[test]
    fn a_file_cut_off_in_the_middle_is_read_as_far_as_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.wav");
        write(&path, 8_000, &[&[5; 1_000], &[6; 1_000]]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..44 + 4 * 300 + 2]).unwrap();
        let wav = read(&path).unwrap();
        assert_eq!((wav.channels[0].len(), wav.channels[1].len()), (300, 300));
    }
}
