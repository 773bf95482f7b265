//! From what an engine wrote to what is believed: the same for every engine.
//!
//! The guards empty what was hardly said; a closed question's likeliest answer takes the place of worse
//! text; Mandarin that sounds like what was expected is rewritten as it.

use std::time::Duration;

use super::guard::{Evidence, Guards, Rejection, compression_ratio, unloop};
use super::phrases::{Choice, ChoiceRule};
use super::{Draft, Language, RecognizeOptions, Token, Transcript, Utterance, text};

/// What an engine gave for one utterance.
#[derive(Default)]
pub(super) struct Written {
    pub(super) raw: String,
    pub(super) tokens: Vec<Token>,
    pub(super) avg_logprob: f32,
    pub(super) no_speech_prob: f32,
    pub(super) choice: Option<Choice>,
    /// The likeliest of [`RecognizeOptions::asides`].
    pub(super) aside: Option<Choice>,
    pub(super) end_logprob: f32,
    pub(super) draft: Option<Draft>,
}

/// Mean log-probability below which a text is no beginning to build on.
const WORTH_KEEPING: f32 = -0.9;

/// What decides.
pub(super) struct Judge {
    pub(super) guards: Guards,
    pub(super) choice: ChoiceRule,
}

impl Judge {
    /// Tells whether the sound may hold a word at all.
    pub(super) fn may_hold_speech(&self, audio: &Utterance, shortest: Duration) -> bool {
        audio.duration() >= shortest && audio.level_dbfs() >= self.guards.silence_dbfs
    }

    /// Returns the transcript of sound that nobody was asked about.
    pub(super) fn silence(&self, audio: &Utterance, language: Language) -> Transcript {
        Transcript {
            text: String::new(),
            raw: String::new(),
            language,
            avg_logprob: -10.0,
            no_speech_prob: 1.0,
            compression_ratio: 0.0,
            audio: audio.duration(),
            took: Duration::ZERO,
            tokens: Vec::new(),
            choice: None,
            rejected: Some(Rejection::Silence),
            end_logprob: f32::NEG_INFINITY,
            draft: None,
        }
    }

    /// Makes the transcript; the time it took is the caller's to fill in.
    pub(super) fn transcript(
        &self,
        audio: &Utterance,
        options: &RecognizeOptions,
        language: Language,
        written: Written,
    ) -> Transcript {
        let cleaned = text::clean(&written.raw, language);
        let looped = unloop(&cleaned);
        let unlooped = looped.is_some();
        let said = looped.unwrap_or(cleaned);
        let mut rejected = self.guards.judge(&Evidence {
            text: &said,
            avg_logprob: written.avg_logprob,
            no_speech_prob: written.no_speech_prob,
            audio: audio.duration(),
            voiced: audio.voiced,
            unlooped,
        });
        let doubted = matches!(rejected, Some(Rejection::LowConfidence | Rejection::NoSpeech));
        // With a voice in it, what was expected is believed where other words would not be.
        if doubted && self.has_voice(audio.voiced) && is_expected(&said, language, options) {
            rejected = None;
        }
        if rejected.is_none() && !text::is_in_script(&said, language) {
            rejected = Some(Rejection::WrongScript);
        }
        let tokens = written.tokens.len().min(text::spoken_units(&said) + 1);
        let believed = rejected.is_none().then_some(written.avg_logprob * tokens as f32);
        let is_sound = rejected.is_none() && !unlooped && written.avg_logprob > WORTH_KEEPING;
        let mut transcript = Transcript {
            compression_ratio: compression_ratio(&said),
            text: if rejected.is_some() { String::new() } else { said },
            raw: written.raw,
            avg_logprob: written.avg_logprob,
            no_speech_prob: written.no_speech_prob,
            tokens: written.tokens,
            choice: written.choice,
            rejected,
            end_logprob: written.end_logprob,
            draft: written.draft.filter(|_| is_sound),
            ..self.silence(audio, language)
        };
        self.prefer_choice(&mut transcript, audio.voiced, options.lexicon.is_some());
        if let Some(aside) = written.aside {
            self.prefer_aside(&mut transcript, aside, believed);
        }
        rewrite(&mut transcript, options);
        transcript
    }

    /// Tells whether the free text needs no second opinion: the engine was sure of it, or it is one of
    /// the expected phrases as it stands. Where a number is asked for, a word is never sure.
    pub(super) fn is_settled(
        &self,
        written: &Written,
        language: Language,
        options: &RecognizeOptions,
    ) -> bool {
        let text = text::clean(&written.raw, language);
        if !options.asides.is_empty() {
            let said = text::bare(&text);
            return options.asides.iter().any(|aside| text::bare(aside) == said);
        }
        let is_number = options.lexicon.map(|lexicon| lexicon.covers(&text, language));
        let is_sure = written.avg_logprob > self.choice.settled && is_number != Some(false);
        // A row of figures is no misheard word, however faint it was.
        if is_number == Some(true) && text::bare(&text).chars().count() > 2 {
            return true;
        }
        !text.is_empty() && written.no_speech_prob < 0.5 && (is_sure || is_expected(&text, language, options))
    }

    /// Puts the expected phrase in the place of the free text where that is the better guess.
    fn prefer_choice(&self, transcript: &mut Transcript, voiced: Option<Duration>, is_number_asked: bool) {
        let Some(choice) = &transcript.choice else { return };
        let believed = !transcript.text.is_empty();
        let sum: f32 = transcript.tokens.iter().map(|token| token.probability.max(1e-6).ln()).sum();
        let is_lone_word = text::spoken_units(&transcript.raw) <= 2;
        let rule = if is_number_asked && is_lone_word { self.choice.for_numbers() } else { self.choice };
        // Without a voice there was no answer, whatever noise sounds like.
        let heard = voiced.is_none() || self.has_voice(voiced);
        if heard && rule.prefers(choice, believed.then_some(sum)) {
            transcript.text.clone_from(&choice.phrase);
            transcript.rejected = None;
            // The text is one of a few expected ones: what counts is how it stands among them.
            transcript.avg_logprob =
                choice.logprob / (text::spoken_units(&choice.phrase).max(1) as f32 + 1.0);
        }
    }

    /// Takes a short sound under the robot's own words for a sign of listening, unless an answer is far likelier.
    /// `words` is the logarithm of the free text's probability if a guard did not reject it.
    fn prefer_aside(&self, transcript: &mut Transcript, aside: Choice, words: Option<f32>) {
        if self.choice.stands(&aside, transcript.choice.as_ref(), words) {
            return;
        }
        transcript.rejected = None;
        transcript.avg_logprob = aside.logprob / (text::spoken_units(&aside.phrase).max(1) as f32 + 1.0);
        transcript.text = aside.phrase;
    }

    fn has_voice(&self, voiced: Option<Duration>) -> bool {
        voiced.is_some_and(|voiced| voiced >= 2 * self.guards.min_voiced)
    }
}

/// Writes Mandarin that sounds like what was expected as it was expected.
fn rewrite(transcript: &mut Transcript, options: &RecognizeOptions) {
    if transcript.language != Language::ZH {
        return;
    }
    if let Some(text) = super::alike::rewritten(&transcript.text, &options.phrases) {
        transcript.text = text;
    } else if let Some(lexicon) = options.lexicon
        && !options.phrases.iter().any(|phrase| transcript.text.contains(phrase.as_str()))
        && let Some(number) = super::alike::number(&transcript.text, &lexicon.characters())
    {
        transcript.text = number;
    }
}

/// Tells whether a text is one of the phrases that the node expects, or a number where one is asked for.
pub(super) fn is_expected(text: &str, language: Language, options: &RecognizeOptions) -> bool {
    let said = text::bare(text);
    options.phrases.iter().any(|phrase| text::bare(phrase) == said)
        || options.lexicon.is_some_and(|lexicon| lexicon.covers(text, language))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn written(raw: &str, logprob: f32) -> Written {
        Written {
            raw: raw.to_owned(),
            tokens: vec![Token { text: raw.to_owned(), probability: logprob.exp() }],
            avg_logprob: logprob,
            no_speech_prob: 0.0,
            choice: None,
            aside: None,
            end_logprob: 0.0,
            draft: None,
        }
    }

    fn judge() -> Judge {
        Judge { guards: Guards::default(), choice: ChoiceRule::default() }
    }

    fn heard() -> Utterance {
        Utterance::new(vec![0.1; 16_000]).with_voiced(Duration::from_millis(600))
    }

    #[test]
    fn doubtful_text_is_believed_where_it_was_expected() {
        let mut options = RecognizeOptions::new(Language::EN);
        let doubtful = |options: &RecognizeOptions| {
            judge().transcript(&heard(), options, Language::EN, written("next week on friday", -1.5))
        };
        assert_eq!(doubtful(&options).rejected, Some(Rejection::LowConfidence));
        options.phrases = Arc::from(["Next week on Friday".to_owned()]);
        assert_eq!(doubtful(&options).text, "next week on friday");
    }

    #[test]
    fn a_likely_choice_takes_the_place_of_rejected_text_only_where_a_voice_was_heard() {
        let options = RecognizeOptions::new(Language::EN);
        let with_choice = || Written {
            choice: Some(Choice { phrase: "yes".to_owned(), logprob: -3.0, margin: 4.0 }),
            ..written("thanks for watching", -0.2)
        };
        let believed = judge().transcript(&heard(), &options, Language::EN, with_choice());
        assert_eq!((believed.text.as_str(), believed.rejected), ("yes", None));
        let noise = heard().with_voiced(Duration::from_millis(20));
        let refused = judge().transcript(&noise, &options, Language::EN, with_choice());
        assert_eq!(refused.text, "");
        assert!(refused.rejected.is_some());
    }

    #[test]
    fn letters_of_another_script_are_not_passed_on() {
        let options = RecognizeOptions::new(Language::ZH);
        let found = judge().transcript(&heard(), &options, Language::ZH, written("뭐야", -0.1));
        assert_eq!((found.text.as_str(), found.rejected), ("", Some(Rejection::WrongScript)));
    }
}
