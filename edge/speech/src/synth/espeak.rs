//! espeak-ng, run as a program of its own: the plain voice that is there when no model is.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use trunkline_audio::resample::resample_f32;

use super::level::speaking;
use super::{ClauseEnd, Locale, SAMPLE_RATE, Speech, SpeechRequest, SynthError, Synthesizer};

/// Words a minute at speed 1.
const WORDS_A_MINUTE: f32 = 165.0;

/// The most text given to the program at once, in bytes: below the size of a pipe.
const MOST: usize = 16 * 1024;

/// The fallback voice. It has one voice per language and ignores [`SpeechRequest::voice`].
pub struct Espeak {
    program: PathBuf,
}

impl Espeak {
    /// Finds the program on the search path.
    pub fn find() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|dir| dir.join("espeak-ng"))
            .find(|program| program.is_file())
            .map(|program| Self { program })
    }

    /// Uses the program at `program`.
    pub fn at(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    fn failed(&self, reason: impl Into<String>) -> SynthError {
        SynthError::Program { program: self.program.display().to_string(), reason: reason.into() }
    }
}

impl Synthesizer for Espeak {
    fn stream(&self, req: &SpeechRequest, sink: &mut dyn FnMut(Speech) -> bool) -> Result<(), SynthError> {
        let text = req.text.trim();
        if !text.chars().any(char::is_alphanumeric) {
            return Ok(());
        }
        if text.len() > MOST {
            return Err(self.failed(format!("{} bytes of text are too many", text.len())));
        }
        let voice = match req.locale {
            Locale::ZhCn => "cmn",
            Locale::EnUs => "en-us",
            Locale::EnGb => "en-gb",
        };
        let pace = (WORDS_A_MINUTE * req.rate()).round().to_string();
        let mut child = Command::new(&self.program)
            .args(["-v", voice, "-s", &pace, "--stdin", "--stdout"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| self.failed(e.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes()).map_err(|e| self.failed(e.to_string()))?;
        }
        let mut wav = Vec::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_end(&mut wav).map_err(|e| self.failed(e.to_string()))?;
        }
        let status = child.wait().map_err(|e| self.failed(e.to_string()))?;
        if !status.success() {
            return Err(self.failed(status.to_string()));
        }
        let (rate, samples) = read_wav(&wav).ok_or_else(|| self.failed("it wrote no sound"))?;
        let samples = resample_f32(&samples, rate, SAMPLE_RATE);
        let samples = samples[speaking(&samples, SAMPLE_RATE as usize)].to_vec();
        let clauses = vec![ClauseEnd { text: text.to_owned(), end: samples.len() }];
        sink(Speech { samples, clauses });
        Ok(())
    }

    fn version(&self) -> &str {
        "espeak-ng/1"
    }
}

/// Reads 16-bit mono. The sizes in the header are not to be trusted: the program writes to a pipe
/// and cannot go back to fill them in.
fn read_wav(wav: &[u8]) -> Option<(u32, Vec<f32>)> {
    if wav.get(..4)? != b"RIFF" || wav.get(8..12)? != b"WAVE" {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(wav.get(at..at + 4)?.try_into().ok()?));
    let mut at = 12;
    let mut rate = None;
    loop {
        let name = wav.get(at..at + 4)?;
        let size = word(at + 4)? as usize;
        let body = at + 8;
        if name == b"fmt " {
            rate = word(body + 4);
        }
        if name == b"data" {
            let end = body.saturating_add(size).min(wav.len());
            let samples = wav[body..end]
                .chunks_exact(2)
                .map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0)
                .collect();
            return Some((rate?, samples));
        }
        at = body.checked_add(size)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_speaks_both_languages_when_it_is_installed() {
        let Some(espeak) = Espeak::find() else {
            println!("skipped: espeak-ng is not installed");
            return;
        };
        for (text, locale) in [("您好，我是智能客服", Locale::ZhCn), ("Hello, how are you", Locale::EnUs)]
        {
            let speech = espeak.synthesize(&SpeechRequest::new(text, locale)).unwrap();

            assert!((0.8..4.0).contains(&speech.seconds()), "{text}: {} s", speech.seconds());
            assert_eq!(speech.clauses.len(), 1);
        }
        let nothing = espeak.synthesize(&SpeechRequest::new(" … ", Locale::EnUs)).unwrap();
        assert_eq!(nothing, Speech::default());
    }

    #[test]
    fn a_missing_program_is_named() {
        let espeak = Espeak::at(Path::new("/nonexistent/espeak-ng"));

        let error = espeak.synthesize(&SpeechRequest::new("x", Locale::EnUs)).unwrap_err();

        assert!(error.to_string().contains("/nonexistent/espeak-ng"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_wav_are_refused() {
        for bytes in [&b""[..], b"RIFF", b"RIFF....WAVEfmt \xff\xff\xff\xff", b"RIFF\0\0\0\0WAVEdata\0\0\0\0"]
        {
            assert!(read_wav(bytes).is_none(), "{bytes:?}");
        }
    }
}
