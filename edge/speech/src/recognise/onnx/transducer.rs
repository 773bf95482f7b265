//! The transducer (Graves, 2012) with a decoder that sees the last few pieces only, as icefall exports
//! it: an encoder over the whole sound, and a decoder and a joiner that are asked step by step.
//!
//! [`search`] is a plain function of the two small networks, so it is tested without a model.

use super::super::RecognizeError;
use super::ctc::Piece;
use super::graph::{self, Graph, Wanted};
use super::{Asked, OnnxError};
use crate::recognise::stop::Stop;

/// The three networks.
pub(super) struct Networks {
    pub(super) encoder: Graph,
    pub(super) decoder: Graph,
    pub(super) joiner: Graph,
}

/// What the metadata say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Pieces that the decoder sees.
    pub(super) context: usize,
    /// Pieces that the joiner scores.
    pub(super) pieces: usize,
}

impl Form {
    pub(super) fn read(networks: &Networks) -> Result<Self, OnnxError> {
        let features = Wanted::float("features", 3);
        networks.encoder.check(
            "transducer's encoder",
            &[features, Wanted::whole("their length", 1)],
            &[Wanted::float("encoded steps", 3), Wanted::whole("their number", 1)],
        )?;
        let context = usize::try_from(networks.decoder.required("context_size")?).unwrap_or(0);
        let pieces = usize::try_from(networks.decoder.required("vocab_size")?).unwrap_or(0);
        networks.decoder.check(
            "transducer's decoder",
            &[Wanted::whole("last pieces", 2).of(context)],
            &[Wanted::float("decoded", 2)],
        )?;
        networks.joiner.check(
            "transducer's joiner",
            &[Wanted::float("encoded step", 2), Wanted::float("decoded", 2)],
            &[Wanted::float("scores", 2).of(pieces)],
        )?;
        if !(1..=16).contains(&context) || pieces < 2 {
            let found = format!("context_size {context}, vocab_size {pieces}");
            return Err(OnnxError::MetadataValue {
                path: networks.decoder.path().to_owned(),
                key: "context_size",
                found,
                wanted: "1 to 16, and a vocabulary".to_owned(),
            });
        }
        Ok(Self { context, pieces })
    }
}

/// The decoder and the joiner, as the search asks them.
pub(super) trait Joint {
    /// Takes the last pieces, -1 where there is none yet.
    fn decode(&mut self, last: &[i64]) -> Result<(), RecognizeError>;
    /// Scores the pieces for an encoded step, after the pieces that were taken last.
    fn score(&mut self, step: usize) -> Result<Vec<f32>, RecognizeError>;
}

/// How a search goes.
pub(super) struct Search<'a> {
    pub(super) steps: usize,
    pub(super) context: usize,
    pub(super) blank: u32,
    /// Never written, though the model may score it.
    pub(super) unknown: Option<u32>,
    /// Most pieces for one step.
    pub(super) per_step: usize,
    pub(super) stop: &'a Stop<'a>,
}

/// Takes the likeliest piece, step by step. When the deadline passes, what was found until then is the
/// answer, if it is anything.
pub(super) fn search<J: Joint>(joint: &mut J, how: &Search<'_>) -> Result<Vec<Piece>, RecognizeError> {
    let mut last = vec![-1i64; how.context];
    if let Some(newest) = last.last_mut() {
        *newest = i64::from(how.blank);
    }
    let mut found: Vec<Piece> = Vec::new();
    joint.decode(&last)?;
    for step in 0..how.steps {
        match how.stop.check() {
            Ok(()) => {}
            Err(RecognizeError::DeadlinePassed) if !found.is_empty() => break,
            Err(error) => return Err(error),
        }
        for _ in 0..how.per_step.max(1) {
            let scores = joint.score(step)?;
            let Some((token, logprob)) = likeliest(&scores) else { break };
            if token == how.blank || Some(token) == how.unknown {
                break;
            }
            found.push(Piece { token, logprob });
            last.rotate_left(1);
            if let Some(newest) = last.last_mut() {
                *newest = i64::from(token);
            }
            joint.decode(&last)?;
        }
    }
    Ok(found)
}

fn likeliest(scores: &[f32]) -> Option<(u32, f32)> {
    let (token, highest) = (0u32..).zip(scores.iter().copied()).max_by(|a, b| a.1.total_cmp(&b.1))?;
    let total: f32 = scores.iter().map(|score| (score - highest).exp()).sum();
    Some((token, -total.ln()))
}

struct Running<'a> {
    decoder: &'a mut Graph,
    joiner: &'a mut Graph,
    encoded: &'a [f32],
    width: usize,
    decoded: Vec<f32>,
    pieces: usize,
}

impl Joint for Running<'_> {
    fn decode(&mut self, last: &[i64]) -> Result<(), RecognizeError> {
        let input = self.decoder.whole(0, vec![1, last.len()], last)?;
        let outputs = self.decoder.run(&[input])?;
        let (_, decoded) = graph::floats_of(&outputs, 0)?;
        self.decoded = decoded.to_vec();
        Ok(())
    }

    fn score(&mut self, step: usize) -> Result<Vec<f32>, RecognizeError> {
        let row = self.encoded.get(step * self.width..(step + 1) * self.width).unwrap_or_default();
        let inputs = [
            graph::floats(vec![1, row.len()], row)?,
            graph::floats(vec![1, self.decoded.len()], &self.decoded)?,
        ];
        let outputs = self.joiner.run(&inputs)?;
        let (_, scores) = graph::floats_of(&outputs, 0)?;
        if scores.len() != self.pieces {
            let error = format!("the joiner scored {} pieces instead of {}", scores.len(), self.pieces);
            return Err(RecognizeError::Engine(error));
        }
        Ok(scores.to_vec())
    }
}

/// Decodes one utterance.
pub(super) fn decode(
    networks: &mut Networks,
    form: Form,
    asked: &Asked<'_>,
    blank: u32,
    unknown: Option<u32>,
    per_step: usize,
) -> Result<Vec<Piece>, RecognizeError> {
    let rows = asked.features.rows();
    let inputs = [
        graph::floats(vec![1, rows, asked.features.width], &asked.features.data)?,
        networks.encoder.whole(1, vec![1], &[i64::try_from(rows).unwrap_or(i64::MAX)])?,
    ];
    let outputs = networks.encoder.run(&inputs)?;
    let (shape, encoded) = graph::floats_of(&outputs, 0)?;
    let (steps, width) = match shape.as_slice() {
        [1, steps, width] => (*steps, *width),
        other => {
            let error = format!("the encoder gave a shape of {other:?} instead of [1, steps, width]");
            return Err(RecognizeError::Engine(error));
        }
    };
    let steps = graph::count_of(&outputs, 1).map_or(steps, |stated| stated.min(steps));
    let mut joint = Running {
        decoder: &mut networks.decoder,
        joiner: &mut networks.joiner,
        encoded,
        width,
        decoded: Vec::new(),
        pieces: form.pieces,
    };
    let how = Search { steps, context: form.context, blank, unknown, per_step, stop: asked.stop };
    search(&mut joint, &how)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::super::{Language, RecognizeOptions};
    use super::*;

    /// Every step says a piece (0 is the blank), a number of times.
    struct Said {
        steps: Vec<(u32, usize)>,
        given: usize,
        step: usize,
        contexts: Vec<Vec<i64>>,
        cancel_after: Option<(usize, crate::recognise::CancelToken)>,
    }

    impl Said {
        fn new(steps: &[(u32, usize)]) -> Self {
            Self { steps: steps.to_vec(), given: 0, step: 0, contexts: Vec::new(), cancel_after: None }
        }
    }

    impl Joint for Said {
        fn decode(&mut self, last: &[i64]) -> Result<(), RecognizeError> {
            self.contexts.push(last.to_vec());
            Ok(())
        }

        fn score(&mut self, step: usize) -> Result<Vec<f32>, RecognizeError> {
            if step != self.step {
                (self.step, self.given) = (step, 0);
            }
            if let Some((after, token)) = &self.cancel_after
                && step >= *after
            {
                token.cancel();
            }
            let (piece, times) = self.steps[step];
            let said = if self.given < times { piece } else { 0 };
            self.given += 1;
            Ok((0..5).map(|n| if n == said { 3.0 } else { 0.0 }).collect())
        }
    }

    fn run(said: &mut Said, per_step: usize, options: &RecognizeOptions) -> Result<Vec<u32>, RecognizeError> {
        let stop = Stop::new(options);
        let how =
            Search { steps: said.steps.len(), context: 2, blank: 0, unknown: Some(4), per_step, stop: &stop };
        Ok(search(said, &how)?.iter().map(|piece| piece.token).collect())
    }

    #[test]
    fn the_decoder_sees_the_last_pieces_and_nothing_before_the_first() {
        let mut said = Said::new(&[(0, 0), (1, 1), (0, 0), (2, 1), (3, 1)]);
        let options = RecognizeOptions::new(Language::EN);
        assert_eq!(run(&mut said, 1, &options).unwrap(), [1, 2, 3]);
        assert_eq!(said.contexts, [vec![-1, 0], vec![0, 1], vec![1, 2], vec![2, 3]]);
    }

    #[test]
    fn one_step_writes_no_more_pieces_than_allowed_and_never_the_unknown_one() {
        let options = RecognizeOptions::new(Language::EN);
        let steps = [(1, 9), (4, 1), (2, 1)];
        assert_eq!(run(&mut Said::new(&steps), 1, &options).unwrap(), [1, 2]);
        assert_eq!(run(&mut Said::new(&steps), 3, &options).unwrap(), [1, 1, 1, 2]);
    }

    #[test]
    fn the_best_so_far_is_the_answer_at_the_deadline_and_nothing_is_after_a_cancellation() {
        let mut options = RecognizeOptions::new(Language::EN);
        options.deadline = Some(Instant::now());
        let empty = run(&mut Said::new(&[(1, 1)]), 1, &options);
        assert_eq!(empty, Err(RecognizeError::DeadlinePassed));

        struct Slow(Said);
        impl Joint for Slow {
            fn decode(&mut self, last: &[i64]) -> Result<(), RecognizeError> {
                self.0.decode(last)
            }
            fn score(&mut self, step: usize) -> Result<Vec<f32>, RecognizeError> {
                std::thread::sleep(Duration::from_millis(if step == 1 { 200 } else { 0 }));
                self.0.score(step)
            }
        }
        options.deadline = Some(Instant::now() + Duration::from_millis(100));
        let stop = Stop::new(&options);
        let how = Search { steps: 3, context: 2, blank: 0, unknown: None, per_step: 1, stop: &stop };
        let found = search(&mut Slow(Said::new(&[(1, 1), (2, 1), (3, 1)])), &how).unwrap();
        assert_eq!(found.iter().map(|piece| piece.token).collect::<Vec<_>>(), [1, 2]);

        let options = RecognizeOptions::new(Language::EN);
        let mut said = Said::new(&[(1, 1), (2, 1), (3, 1)]);
        said.cancel_after = Some((1, options.cancel.clone()));
        assert_eq!(run(&mut said, 1, &options), Err(RecognizeError::Cancelled));
    }

    #[test]
    fn a_piece_has_the_probability_that_the_joiner_gave_it() {
        let (token, logprob) = likeliest(&[0.0, 3f32.ln(), 0.0]).unwrap();
        assert_eq!(token, 1);
        assert!((logprob - 0.6f32.ln()).abs() < 1e-6);
        assert_eq!(likeliest(&[]), None);
    }
}
