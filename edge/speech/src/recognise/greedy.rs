//! The decoder's loop: one token after the other, the likeliest that the rules of timestamps allow.
//!
//! whisper.cpp has this loop too, bundled with the encoder and with one number of threads for both.
//! On a box that is the wrong bundle: the encoder gains from a second thread and a decoder's step
//! hardly does; the step that tells whether anybody spoke is the first of the same sequence and need
//! not be computed twice; and a text that loops, or whose last timestamp stands at the end of the
//! sound, is finished without another step.
//!
//! Rules as in the original (Radford et al. 2022, section 4.5 and its published decoder): timestamps
//! come in pairs around text and never go back, the first is at most one second, and when all
//! timestamps together are likelier than any piece of text, a timestamp it is.

use std::sync::Arc;

use super::phrases::TokenId;

/// The numbers of the tokens with a meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Specials {
    /// End of the text; below it are the pieces of text, above it marks.
    pub(crate) end: TokenId,
    /// First timestamp; 20 ms each from here to the end of the vocabulary.
    pub(crate) first_time: TokenId,
    /// A lone space, which no text begins with.
    pub(crate) blank: TokenId,
}

/// Timestamps in a second.
const PER_SECOND: usize = 50;
/// A last timestamp this close to the end of the sound ends the text: 400 ms.
const NEAR_END: usize = 20;
/// A piece that comes so often in a row is a loop; people do say 对对对对对.
const LOOP_OF_ONE: usize = 12;
/// The same for a stretch of several pieces.
const LOOP_OF_MORE: usize = 5;
/// The longest stretch that is looked for.
const LONGEST_LOOP: usize = 8;

/// A piece of text as it was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Chosen {
    pub(crate) token: TokenId,
    /// Natural logarithm of its probability.
    pub(crate) logprob: f32,
}

/// Gives the decoder's raw scores after one more token.
pub(crate) trait Steps {
    /// What can go wrong, or asks to stop.
    type Error;
    /// Returns the scores, one for each token of the vocabulary, after `token`.
    fn after(&mut self, token: TokenId) -> Result<&[f32], Self::Error>;
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The decoder said so, or its last timestamp stands at the end of the sound.
    Finished,
    /// At the limit of tokens, or in a loop.
    CutShort,
}

/// The loop's state between two steps, and its rules.
#[derive(Debug)]
pub(crate) struct Greedy {
    specials: Specials,
    /// Everything chosen, timestamps too.
    sequence: Vec<Chosen>,
    text: Vec<Chosen>,
    last_time: Option<TokenId>,
    /// Logarithm of the probability that the text ended before the last choice.
    end_logprob: f32,
    /// Where the sound ends, in timestamps.
    sound_end: usize,
    limit: usize,
    /// Which pieces of text may be chosen; `None`: all.
    allowed: Option<Arc<[bool]>>,
}

impl Greedy {
    /// Begins a text of at most `limit` tokens for sound of `samples` at 16 kHz.
    pub(crate) fn new(specials: Specials, samples: usize, limit: usize) -> Self {
        let sound_end = samples * PER_SECOND / super::MODEL_RATE as usize;
        Self {
            specials,
            sequence: Vec::with_capacity(limit),
            text: Vec::new(),
            last_time: None,
            end_logprob: f32::NEG_INFINITY,
            sound_end,
            limit,
            allowed: None,
        }
    }

    /// Allows these pieces of text only, by the token's number.
    pub(crate) fn allow_only(&mut self, pieces: Arc<[bool]>) {
        self.allowed = Some(pieces);
    }

    /// Takes a beginning as chosen that was written before, timestamps and all.
    pub(crate) fn begin_with(&mut self, beginning: &[Chosen]) {
        for chosen in beginning {
            self.note(*chosen);
        }
    }

    /// Runs from the scores after the prompt and what [`Self::begin_with`] was given, to the end of the
    /// text.
    pub(crate) fn run<S: Steps>(&mut self, first: &[f32], steps: &mut S) -> Result<Ended, S::Error> {
        let mut next = self.choose(first);
        loop {
            if let Some(ended) = self.take(next) {
                return Ok(ended);
            }
            let scores = steps.after(next.token)?;
            next = self.choose(scores);
        }
    }

    /// Returns the pieces of text so far.
    pub(crate) fn text(&self) -> &[Chosen] {
        &self.text
    }

    /// Returns everything chosen so far, timestamps too.
    pub(crate) fn sequence(&self) -> &[Chosen] {
        &self.sequence
    }

    /// Returns the logarithm of the probability with which the decoder saw the text end where it did.
    pub(crate) fn end_logprob(&self) -> f32 {
        self.end_logprob
    }

    fn note(&mut self, chosen: Chosen) {
        self.sequence.push(chosen);
        if chosen.token >= self.specials.first_time {
            self.last_time = Some(chosen.token);
        } else {
            self.text.push(chosen);
        }
    }

    /// Notes a choice; tells whether the text ends with it.
    fn take(&mut self, chosen: Chosen) -> Option<Ended> {
        let Specials { end, first_time, .. } = self.specials;
        if chosen.token == end {
            return Some(Ended::Finished);
        }
        self.note(chosen);
        if chosen.token >= first_time && !self.text.is_empty() {
            let at = usize::try_from(chosen.token - first_time).unwrap_or(0);
            if at + NEAR_END >= self.sound_end {
                return Some(Ended::Finished);
            }
        }
        (self.sequence.len() >= self.limit || self.is_looping()).then_some(Ended::CutShort)
    }

    fn is_looping(&self) -> bool {
        let text = &self.text;
        (1..=LONGEST_LOOP).any(|length| {
            let rounds = if length == 1 { LOOP_OF_ONE } else { LOOP_OF_MORE };
            let Some(start) = text.len().checked_sub(length * rounds) else { return false };
            let tail = &text[start..];
            tail.iter().zip(&tail[length..]).all(|(a, b)| a.token == b.token)
        })
    }

    /// Picks the likeliest token that may stand here.
    fn choose(&mut self, scores: &[f32]) -> Chosen {
        let Specials { end, first_time, blank } = self.specials;
        let (end, first_time) = (index(end), index(first_time).min(scores.len()));
        let is_time = |chosen: &Chosen| chosen.token >= self.specials.first_time;
        let begins = self.sequence.is_empty();
        let after_time = self.sequence.last().is_some_and(is_time);
        let second = self.sequence.len().checked_sub(2).map(|at| is_time(&self.sequence[at]));
        // A pair is complete: text or the end. Only one of a pair: its partner or the end.
        let (text_allowed, time_allowed) =
            if after_time { (second.unwrap_or(true), !second.unwrap_or(true)) } else { (true, true) };
        let earliest = self.last_time.map_or(first_time, index);
        let latest = if begins { (first_time + PER_SECOND + 1).min(scores.len()) } else { scores.len() };
        let times = if time_allowed && earliest < latest { earliest..latest } else { 0..0 };
        let text = if text_allowed { 0..end } else { 0..0 };

        let mut highest = (f32::NEG_INFINITY, end);
        for (token, score) in scores.iter().enumerate().take(text.end) {
            let allowed = self.allowed.as_ref().is_none_or(|pieces| pieces.get(token) == Some(&true));
            if allowed && !(begins && token == index(blank)) && *score > highest.0 {
                highest = (*score, token);
            }
        }
        if !begins && scores.get(end).is_some_and(|score| *score > highest.0) {
            highest = (scores[end], end);
        }
        let mut best_time = (f32::NEG_INFINITY, end);
        for token in times.clone() {
            if scores[token] > best_time.0 {
                best_time = (scores[token], token);
            }
        }
        let top = highest.0.max(best_time.0);
        let mass = |range: std::ops::Range<usize>| -> f32 {
            scores[range].iter().map(|score| (score - top).exp()).sum()
        };
        let time_mass = mass(times);
        let blank_mass = if begins { scores.get(index(blank)).map_or(0.0, |s| (s - top).exp()) } else { 0.0 };
        let end_mass = if begins { 0.0 } else { scores.get(end).map_or(0.0, |s| (s - top).exp()) };
        let total = (mass(text) - blank_mass).max(0.0) + end_mass + time_mass;
        let (score, token) = if time_mass > (highest.0 - top).exp() { best_time } else { highest };
        let logprob = score - top - total.max(f32::MIN_POSITIVE).ln();
        self.end_logprob = ((end_mass + time_mass) / total.max(f32::MIN_POSITIVE)).ln();
        Chosen { token: TokenId::try_from(token).unwrap_or(self.specials.end), logprob }
    }
}

fn index(token: TokenId) -> usize {
    usize::try_from(token).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty pieces of text, their end, one mark, and three seconds of timestamps.
    const SPECIALS: Specials = Specials { end: 20, first_time: 22, blank: 0 };
    const VOCABULARY: usize = 22 + 150;

    /// Says the given tokens one after the other, each with a high score.
    struct Script(Vec<TokenId>, usize, Vec<f32>);

    impl Script {
        fn scores(&mut self) -> Vec<f32> {
            let mut scores = vec![0.0; VOCABULARY];
            scores[21] = 50.0;
            let token = self.0.get(self.1).copied().unwrap_or(SPECIALS.end);
            scores[usize::try_from(token).unwrap()] = 20.0;
            self.1 += 1;
            scores
        }
    }

    impl Steps for Script {
        type Error = std::convert::Infallible;
        fn after(&mut self, _: TokenId) -> Result<&[f32], Self::Error> {
            self.2 = self.scores();
            Ok(&self.2)
        }
    }

    fn run(tokens: &[TokenId], seconds: usize) -> (Vec<TokenId>, Ended, usize) {
        let mut script = Script(tokens.to_vec(), 0, Vec::new());
        let mut greedy = Greedy::new(SPECIALS, seconds * 16_000, 100);
        let first = script.scores();
        let ended = greedy.run(&first, &mut script).unwrap();
        (greedy.text().iter().map(|chosen| chosen.token).collect(), ended, script.1)
    }

    #[test]
    fn text_between_timestamps_ends_where_the_sound_ends_without_another_step() {
        let (text, ended, steps) = run(&[22, 5, 6, 7, 22 + 95], 2);
        assert_eq!((text, ended, steps), (vec![5, 6, 7], Ended::Finished, 5));
        // A timestamp in the middle is followed by its partner and more text.
        let (text, _, _) = run(&[22, 5, 22 + 30, 22 + 40, 6, 22 + 99], 2);
        assert_eq!(text, [5, 6]);
    }

    #[test]
    fn a_beginning_that_is_given_is_not_decoded_again() {
        let mut script = Script(vec![7, 22 + 95], 0, Vec::new());
        let mut greedy = Greedy::new(SPECIALS, 32_000, 100);
        greedy.begin_with(&[22, 5, 6].map(|token| Chosen { token, logprob: -0.1 }));
        let first = script.scores();
        assert_eq!(greedy.run(&first, &mut script).unwrap(), Ended::Finished);
        let text: Vec<TokenId> = greedy.text().iter().map(|chosen| chosen.token).collect();
        assert_eq!((text, script.1), (vec![5, 6, 7], 2));
    }

    #[test]
    fn a_loop_is_cut_short_and_a_word_said_a_few_times_is_not() {
        let (text, ended, _) = run(&[vec![22], [5, 6].repeat(20)].concat(), 3);
        assert_eq!((text.len(), ended), (10, Ended::CutShort));
        let (text, ended, _) = run(&[vec![22], vec![5; 6], vec![22 + 149]].concat(), 3);
        assert_eq!((text.len(), ended), (6, Ended::Finished));
    }

    #[test]
    fn only_what_is_allowed_is_chosen_and_its_probability_is_that_among_all() {
        let mut greedy = Greedy::new(SPECIALS, 48_000, 100);
        greedy.begin_with(&[Chosen { token: 22, logprob: 0.0 }]);
        greedy.allow_only((0..20).map(|token| token == 7).collect());
        let mut scores = vec![-20.0; VOCABULARY];
        scores[5] = 3.0;
        scores[7] = 2.0;
        let chosen = greedy.choose(&scores);
        assert_eq!(chosen.token, 7);
        assert!(
            (chosen.logprob - (2.0f32.exp() / (2.0f32.exp() + 3.0f32.exp())).ln()).abs() < 1e-3,
            "{chosen:?}"
        );
    }

    #[test]
    fn timestamps_never_go_back_and_marks_are_never_chosen() {
        // It would like to say 0.1 s after 1 s: the next best allowed is taken.
        let (text, _, _) = run(&[22, 5, 22 + 50, 22 + 5, 6], 3);
        assert!(text.starts_with(&[5]), "{text:?}");
        assert!(!text.contains(&21));
    }

    #[test]
    fn many_timestamps_that_are_likely_together_outweigh_one_word() {
        let earlier = [22, 5].map(|token| Chosen { token, logprob: -0.1 });
        let mut greedy = Greedy { sequence: earlier.to_vec(), ..Greedy::new(SPECIALS, 48_000, 100) };
        let mut scores = vec![-10.0; VOCABULARY];
        scores[7] = 2.0;
        scores[60..100].fill(1.0);
        assert!(greedy.choose(&scores).token >= 60);
        scores[7] = 8.0;
        let chosen = greedy.choose(&scores);
        assert_eq!(chosen.token, 7);
        assert!(chosen.logprob < 0.0 && chosen.logprob > -0.1, "{chosen:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_scores_end_within_the_limit(
            seed in proptest::collection::vec(proptest::num::f32::NORMAL, VOCABULARY), limit in 1usize..30,
        ) {
            struct Same(Vec<f32>);
            impl Steps for Same {
                type Error = std::convert::Infallible;
                fn after(&mut self, token: TokenId) -> Result<&[f32], Self::Error> {
                    self.0.rotate_left(usize::try_from(token).unwrap() % VOCABULARY);
                    Ok(&self.0)
                }
            }
            let mut greedy = Greedy::new(SPECIALS, 16_000, limit);
            greedy.run(&seed.clone(), &mut Same(seed)).unwrap();
            proptest::prop_assert!(greedy.text().len() <= limit);
        }
    }
}
