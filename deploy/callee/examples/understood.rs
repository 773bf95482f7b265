//! Prints how the recogniser understands each thing that personas say, through a telephone channel:
//! for those who write personas. Exits with 1 when something is not understood at all.
//!
//! `cargo run -p trunkline-callee --example understood -- deploy/personas/*.yaml`

use std::process::ExitCode;

use anyhow::{Context, Result};
use trunkline_audio::Codec;
use trunkline_audio::channel::telephone_channel;
use trunkline_callee::{Persona, sound};
use trunkline_speech::ort_rt::model_dir;
use trunkline_speech::recognise::{
    Language, RecognizeOptions, Recognizer, Utterance, Whisper, WhisperConfig,
};

fn main() -> Result<ExitCode> {
    let personas: Vec<Persona> =
        std::env::args().skip(1).map(|file| Persona::load(file.as_ref())).collect::<Result<_, _>>()?;
    let models = model_dir();
    let prompts = models.parent().context("the models lie in no folder")?.join("prompts");
    let casts = sound::rehearse(personas, &models, &prompts)?;
    let path = models.join("whisper-base-q8_0.bin");
    let whisper = Whisper::load(&path, WhisperConfig { states: 1, ..WhisperConfig::default() })?;
    let mut all = true;
    for cast in &casts {
        let persona = cast.persona();
        let language = Language::from_tag(persona.locale.tag()).context("no such language")?;
        for (utterance, clip) in persona.utterances.iter().zip(cast.clips()) {
            // As the box hears it: a little silence before, and the pause that ended the turn.
            let mut sound = vec![0; 1_600];
            sound.extend(telephone_channel(clip, Codec::Pcma));
            sound.extend([0; 1_600]);
            let heard =
                whisper.recognize(&Utterance::from_telephone(&sound), &RecognizeOptions::new(language))?;
            all &= heard.rejected.is_none();
            println!(
                "{}\t{:.2} s\t{:?}\t-> {:?}\t{:.2}\t{}",
                persona.name,
                clip.len() as f32 / 8_000.0,
                utterance.text(),
                heard.raw,
                heard.avg_logprob,
                heard.rejected.map(|why| format!("{why:?}")).unwrap_or_default()
            );
        }
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
