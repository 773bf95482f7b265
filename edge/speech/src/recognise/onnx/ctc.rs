//! Decoding of scores that a model gives for every step in time: CTC (Graves et al., 2006), and the
//! simpler case in which every step is a piece of text (Paraformer).
//!
//! [`greedy`] takes the best of every step; [`beam`] keeps several beginnings and gives those a bonus
//! that spell an expected phrase; [`likelihood`] asks how likely exactly this text is, which is what
//! closed questions need. All of it is plain arithmetic, without a model.

use std::collections::BTreeMap;

/// Logarithms of probabilities: one row for each step, one column for each piece.
#[derive(Debug, Clone)]
pub(super) struct Scores {
    logprobs: Vec<f32>,
    pieces: usize,
}

impl Scores {
    /// Makes logarithms of probabilities of what a model gave, be it these already or plain scores.
    pub(super) fn new(raw: &[f32], pieces: usize) -> Self {
        let mut logprobs = raw.to_vec();
        for row in logprobs.chunks_mut(pieces.max(1)) {
            let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let total: f32 = row.iter().map(|score| (score - highest).exp()).sum();
            let norm = highest + total.ln();
            for score in row {
                *score -= norm;
            }
        }
        Self { logprobs, pieces }
    }

    pub(super) fn steps(&self) -> usize {
        self.logprobs.len() / self.pieces.max(1)
    }

    pub(super) fn row(&self, step: usize) -> &[f32] {
        self.logprobs.get(step * self.pieces..(step + 1) * self.pieces).unwrap_or_default()
    }

    fn at(&self, step: usize, token: u32) -> f32 {
        self.row(step).get(token as usize).copied().unwrap_or(f32::NEG_INFINITY)
    }

    fn best(&self, step: usize, allowed: impl Fn(u32) -> bool) -> Option<(u32, f32)> {
        let row = (0u32..).zip(self.row(step).iter().copied());
        row.filter(|(token, _)| allowed(*token)).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Leaves the first steps out.
    pub(super) fn without_first(mut self, steps: usize) -> Self {
        self.logprobs.drain(..(steps * self.pieces).min(self.logprobs.len()));
        self
    }

    /// Leaves out what lies behind so many steps.
    pub(super) fn only_first(mut self, steps: usize) -> Self {
        self.logprobs.truncate(steps.saturating_mul(self.pieces));
        self
    }
}

/// A piece of text and how sure the model was of it at its best step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Piece {
    pub(super) token: u32,
    pub(super) logprob: f32,
}

/// Takes the likeliest of each step, repetitions and blanks out. Only `allowed` pieces and the blank are
/// considered.
pub(super) fn greedy(scores: &Scores, blank: u32, allowed: impl Fn(u32) -> bool) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut before = blank;
    for step in 0..scores.steps() {
        let Some((token, logprob)) = scores.best(step, |t| t == blank || allowed(t)) else { continue };
        if token != blank {
            match pieces.last_mut() {
                Some(last) if token == before => last.logprob = last.logprob.max(logprob),
                Some(_) | None => pieces.push(Piece { token, logprob }),
            }
        }
        before = token;
    }
    pieces
}

/// Takes the likeliest allowed piece of each step, each of which is a piece of text, up to `end`.
pub(super) fn each_step(scores: &Scores, end: Option<u32>, allowed: impl Fn(u32) -> bool) -> Vec<Piece> {
    (0..scores.steps())
        .map_while(|step| scores.best(step, |t| Some(t) == end || allowed(t)))
        .take_while(|(token, _)| Some(*token) != end)
        .map(|(token, logprob)| Piece { token, logprob })
        .collect()
}

/// The logarithm of the probability that the steps, each a piece of text, spell exactly this.
pub(super) fn each_step_likelihood(scores: &Scores, end: Option<u32>, tokens: &[u32]) -> f32 {
    let steps = scores.steps();
    if tokens.len() > steps || (tokens.len() < steps && end.is_none()) {
        return f32::NEG_INFINITY;
    }
    let said: f32 = (0..).zip(tokens).map(|(step, token)| scores.at(step, *token)).sum();
    match end {
        // What lies behind the end does not count.
        Some(end) if tokens.len() < steps => said + scores.at(tokens.len(), end),
        Some(_) | None => said,
    }
}

/// The logarithm of the probability that exactly these pieces are written, over all alignments: the
/// forward algorithm.
pub(super) fn likelihood(scores: &Scores, blank: u32, tokens: &[u32]) -> f32 {
    // Blanks before, between and behind the pieces.
    let states: Vec<u32> =
        std::iter::once(blank).chain(tokens.iter().flat_map(|token| [*token, blank])).collect();
    let mut now = vec![f32::NEG_INFINITY; states.len()];
    for step in 0..scores.steps() {
        let before = now;
        now = (0..states.len())
            .map(|at| {
                let reached = if step == 0 {
                    if at <= 1 { 0.0 } else { f32::NEG_INFINITY }
                } else {
                    let stay = before[at];
                    let next = if at >= 1 { before[at - 1] } else { f32::NEG_INFINITY };
                    let skips = at >= 2 && states[at] != blank && states[at] != states[at - 2];
                    let skip = if skips { before[at - 2] } else { f32::NEG_INFINITY };
                    log_add(log_add(stay, next), skip)
                };
                reached + scores.at(step, states[at])
            })
            .collect();
    }
    if scores.steps() == 0 {
        return if tokens.is_empty() { 0.0 } else { f32::NEG_INFINITY };
    }
    let last = now.last().copied().unwrap_or(f32::NEG_INFINITY);
    let before_last = now.len().checked_sub(2).and_then(|at| now.get(at)).copied();
    log_add(last, before_last.unwrap_or(f32::NEG_INFINITY))
}

/// Phrases that are expected, as a tree of their pieces.
#[derive(Debug, Clone)]
pub(super) struct Bias {
    nodes: Vec<BiasNode>,
    bonus: f32,
}

#[derive(Debug, Clone, Default)]
struct BiasNode {
    next: BTreeMap<u32, usize>,
    ends: bool,
}

/// How far into a phrase a beginning is, and what it has earned.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Earned {
    node: usize,
    /// Pieces of whole phrases.
    kept: u32,
    /// Pieces of a phrase that is not finished: lost when it goes on otherwise.
    pending: u32,
}

impl Bias {
    /// `bonus` in nats is what each piece of a phrase earns.
    pub(super) fn new(bonus: f32) -> Self {
        Self { nodes: vec![BiasNode::default()], bonus }
    }

    pub(super) fn add(&mut self, phrase: &[u32]) {
        let mut at = 0;
        for token in phrase {
            at = match self.nodes[at].next.get(token) {
                Some(next) => *next,
                None => {
                    self.nodes.push(BiasNode::default());
                    let next = self.nodes.len() - 1;
                    self.nodes[at].next.insert(*token, next);
                    next
                }
            };
        }
        self.nodes[at].ends |= at != 0;
    }

    fn after(&self, earned: Earned, token: u32) -> Earned {
        let step = |node: usize, pending: u32| {
            let next = *self.nodes[node].next.get(&token)?;
            let ends = self.nodes[next].ends;
            let (kept, pending) =
                if ends { (earned.kept + pending + 1, 0) } else { (earned.kept, pending + 1) };
            Some(Earned { node: next, kept, pending })
        };
        step(earned.node, earned.pending).or_else(|| step(0, 0)).unwrap_or(Earned {
            node: 0,
            kept: earned.kept,
            pending: 0,
        })
    }

    fn score(&self, earned: Earned, is_over: bool) -> f32 {
        self.bonus * (earned.kept + if is_over { 0 } else { earned.pending }) as f32
    }
}

/// The beginnings of texts as a tree: each node is a text.
struct Texts {
    nodes: Vec<Text>,
    children: BTreeMap<(usize, u32), usize>,
}

struct Text {
    parent: usize,
    /// `None` at the root, the empty text.
    piece: Option<Piece>,
    earned: Earned,
}

impl Texts {
    fn child(&mut self, parent: usize, token: u32, logprob: f32, bias: &Bias) -> usize {
        let at = *self.children.entry((parent, token)).or_insert_with(|| {
            let earned = bias.after(self.nodes[parent].earned, token);
            self.nodes.push(Text { parent, piece: Some(Piece { token, logprob }), earned });
            self.nodes.len() - 1
        });
        self.seen_again(at, logprob);
        at
    }

    fn seen_again(&mut self, at: usize, logprob: f32) {
        if let Some(piece) = &mut self.nodes[at].piece {
            piece.logprob = piece.logprob.max(logprob);
        }
    }

    fn pieces(&self, mut at: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some(piece) = self.nodes[at].piece {
            pieces.push(piece);
            at = self.nodes[at].parent;
        }
        pieces.reverse();
        pieces
    }
}

/// The probabilities of a text as far as it was heard: with a blank last, and without.
#[derive(Debug, Clone, Copy)]
struct Heard {
    blank: f32,
    piece: f32,
}

impl Heard {
    const NOTHING: Self = Self { blank: f32::NEG_INFINITY, piece: f32::NEG_INFINITY };

    fn total(self) -> f32 {
        log_add(self.blank, self.piece)
    }
}

/// Pieces that are less likely than the best of a step by so many nats are not followed.
const FOLLOWED: f32 = 12.0;

/// Finds the likeliest text, with what expected phrases earn, among `width` beginnings at each step.
pub(super) fn beam(scores: &Scores, blank: u32, width: usize, bias: &Bias) -> Vec<Piece> {
    let root = Text { parent: 0, piece: None, earned: Earned::default() };
    let mut texts = Texts { nodes: vec![root], children: BTreeMap::new() };
    let mut beam = vec![(0usize, Heard { blank: 0.0, piece: f32::NEG_INFINITY })];
    for step in 0..scores.steps() {
        let row = scores.row(step);
        let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let followed: Vec<(u32, f32)> = (0u32..)
            .zip(row.iter().copied())
            .filter(|(token, score)| *token != blank && *score > best - FOLLOWED)
            .collect();
        let mut next: BTreeMap<usize, Heard> = BTreeMap::new();
        for (text, heard) in &beam {
            let total = heard.total();
            let slot = next.entry(*text).or_insert(Heard::NOTHING);
            slot.blank = log_add(slot.blank, total + scores.at(step, blank));
            let last = texts.nodes[*text].piece.map(|piece| piece.token);
            for (token, score) in &followed {
                let grown = if last == Some(*token) {
                    let slot = next.entry(*text).or_insert(Heard::NOTHING);
                    slot.piece = log_add(slot.piece, heard.piece + score);
                    texts.seen_again(*text, *score);
                    // The same piece a second time needs a blank between.
                    heard.blank
                } else {
                    total
                };
                if grown > f32::NEG_INFINITY {
                    let child = texts.child(*text, *token, *score, bias);
                    let slot = next.entry(child).or_insert(Heard::NOTHING);
                    slot.piece = log_add(slot.piece, grown + score);
                }
            }
        }
        beam = next.into_iter().collect();
        let value =
            |(text, heard): &(usize, Heard)| heard.total() + bias.score(texts.nodes[*text].earned, false);
        beam.sort_by(|a, b| value(b).total_cmp(&value(a)));
        beam.truncate(width.max(1));
    }
    let value = |(text, heard): &&(usize, Heard)| heard.total() + bias.score(texts.nodes[*text].earned, true);
    let best = beam.iter().max_by(|a, b| value(a).total_cmp(&value(b)));
    best.map_or_else(Vec::new, |(text, _)| texts.pieces(*text))
}

/// Adds two probabilities given by their logarithms.
pub(super) fn log_add(a: f32, b: f32) -> f32 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f32::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of probabilities.
    fn scores(rows: &[&[f32]]) -> Scores {
        let raw: Vec<f32> = rows.iter().flat_map(|row| row.iter().map(|p| p.ln())).collect();
        Scores::new(&raw, rows[0].len())
    }

    fn tokens(pieces: &[Piece]) -> Vec<u32> {
        pieces.iter().map(|piece| piece.token).collect()
    }

    /// The text of an alignment.
    fn collapsed(path: &[u32]) -> Vec<u32> {
        let mut path = path.to_vec();
        path.dedup();
        path.retain(|token| *token != 0);
        path
    }

    /// Every alignment of every text with its probability, one by one.
    fn by_enumeration(scores: &Scores) -> BTreeMap<Vec<u32>, f32> {
        let (steps, pieces) = (scores.steps(), scores.pieces);
        let mut found: BTreeMap<Vec<u32>, f32> = BTreeMap::new();
        for n in 0..pieces.pow(steps as u32) {
            let path: Vec<u32> =
                (0..steps).map(|step| (n / pieces.pow(step as u32) % pieces) as u32).collect();
            let p: f32 = (0..).zip(&path).map(|(step, token)| scores.at(step, *token)).sum();
            *found.entry(collapsed(&path)).or_insert(0.0) += p.exp();
        }
        found
    }

    #[test]
    fn plain_scores_become_probabilities_and_probabilities_stay() {
        let plain = Scores::new(&[1.0, 2.0, 3.0], 3);
        let sum: f32 = plain.row(0).iter().map(|p| p.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        let twice = Scores::new(plain.row(0), 3);
        assert!(plain.row(0).iter().zip(twice.row(0)).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn repetitions_and_blanks_are_no_text_but_a_blank_divides() {
        let (b, x, y): (&[f32], &[f32], &[f32]) = (&[0.8, 0.1, 0.1], &[0.1, 0.8, 0.1], &[0.2, 0.1, 0.7]);
        let pieces = greedy(&scores(&[b, x, x, b, x, y, y, b]), 0, |_| true);
        assert_eq!(tokens(&pieces), [1, 1, 2]);
        assert!((pieces[2].logprob - 0.7f32.ln()).abs() < 1e-5);
        assert_eq!(tokens(&greedy(&scores(&[x, y, b]), 0, |token| token == 2)), [2]);
    }

    #[test]
    fn the_likelihood_is_the_sum_over_all_alignments() {
        let rows: Vec<Vec<f32>> = (0..5)
            .map(|step| {
                let raw: Vec<f32> = (0..3).map(|t| 1.0 + ((step * 7 + t * 5) % 11) as f32).collect();
                let sum: f32 = raw.iter().sum();
                raw.iter().map(|p| p / sum).collect()
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let scores = scores(&rows);
        let all = by_enumeration(&scores);
        assert!((all.values().sum::<f32>() - 1.0).abs() < 1e-4);
        for (text, p) in &all {
            let found = likelihood(&scores, 0, text).exp();
            assert!((found - p).abs() < 1e-5, "{text:?}: {found} against {p}");
        }
        assert_eq!(likelihood(&scores, 0, &[1, 1, 1, 1]), f32::NEG_INFINITY, "needs seven steps");
    }

    #[test]
    fn a_wide_beam_finds_the_likeliest_text_where_the_greedy_way_does_not() {
        // The classic case: blank is best at each step, and yet the text `1` is likelier than nothing.
        let row: &[f32] = &[0.55, 0.45];
        let scores = scores(&[row, row]);
        assert_eq!(tokens(&greedy(&scores, 0, |_| true)), Vec::<u32>::new());
        assert_eq!(tokens(&beam(&scores, 0, 8, &Bias::new(0.0))), [1]);
        let best = by_enumeration(&scores).into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        assert_eq!(best.0, [1]);
    }

    #[test]
    fn an_expected_phrase_wins_a_close_race_and_only_that() {
        let blank: &[f32] = &[0.98, 0.01, 0.005, 0.005];
        let close: &[f32] = &[0.02, 0.50, 0.42, 0.06];
        let clear: &[f32] = &[0.02, 0.02, 0.02, 0.94];
        let mut bias = Bias::new(1.0);
        bias.add(&[2, 3]);
        let said = scores(&[blank, close, blank, clear, blank]);
        assert_eq!(tokens(&greedy(&said, 0, |_| true)), [1, 3]);
        assert_eq!(tokens(&beam(&said, 0, 4, &Bias::new(0.0))), [1, 3]);
        assert_eq!(tokens(&beam(&said, 0, 4, &bias)), [2, 3]);
        // Something else was clearly said: the half of the phrase that it shares earns nothing.
        let other = scores(&[blank, close, blank, &[0.02, 0.94, 0.02, 0.02], blank]);
        assert_eq!(tokens(&beam(&other, 0, 4, &bias)), [1, 1]);
    }

    #[test]
    fn a_phrase_within_a_longer_one_is_kept_when_the_longer_one_breaks_off() {
        let mut bias = Bias::new(1.0);
        bias.add(&[1]);
        bias.add(&[1, 2, 3]);
        let start = bias.after(Earned::default(), 1);
        assert_eq!((start.kept, start.pending), (1, 0));
        let on = bias.after(start, 2);
        assert_eq!((on.kept, on.pending), (1, 1));
        let broken = bias.after(on, 1);
        assert_eq!((broken.kept, broken.pending), (2, 0));
    }

    #[test]
    fn steps_that_are_pieces_end_at_their_mark() {
        let said = scores(&[&[0.1, 0.8, 0.1], &[0.1, 0.7, 0.2], &[0.1, 0.1, 0.8]]);
        assert_eq!(tokens(&each_step(&said, Some(2), |_| true)), [1, 1]);
        assert_eq!(tokens(&each_step(&said, None, |_| true)), [1, 1, 2]);
        let whole = each_step_likelihood(&said, Some(2), &[1, 1]);
        assert!((whole - (0.8f32 * 0.7 * 0.8).ln()).abs() < 1e-5);
        assert_eq!(each_step_likelihood(&said, None, &[1, 1]), f32::NEG_INFINITY);
        assert_eq!(each_step_likelihood(&said, Some(2), &[1, 1, 1, 1]), f32::NEG_INFINITY);
    }

    #[test]
    fn nothing_heard_is_nothing_written() {
        let none = Scores::new(&[], 3);
        assert!(greedy(&none, 0, |_| true).is_empty() && beam(&none, 0, 4, &Bias::new(1.0)).is_empty());
        assert_eq!(likelihood(&none, 0, &[]), 0.0);
        assert_eq!(likelihood(&none, 0, &[1]), f32::NEG_INFINITY);
    }

    proptest::proptest! {
        #[test]
        fn the_beam_never_finds_less_than_the_greedy_way(raw in proptest::collection::vec(-3.0f32..3.0, 15)) {
            let scores = Scores::new(&raw, 3);
            let of = |pieces: &[Piece]| likelihood(&scores, 0, &tokens(pieces));
            let (wide, plain) = (beam(&scores, 0, 64, &Bias::new(0.0)), greedy(&scores, 0, |_| true));
            proptest::prop_assert!(of(&wide) >= of(&plain) - 1e-4);
        }
    }
}
