//! Which of the expected phrases was it? For closed questions: yes or no, one of eight, a digit.
//!
//! Free transcription asks the decoder what it would write; of a single short word it is often
//! unsure, or loops, though the sound is clear. Here the question is turned round: every phrase that
//! the node expects gets the probability with which the decoder would have written just that, given
//! the sound that is encoded already. The phrases stand in a trie of the decoder's tokens; the
//! likeliest unfinished branch is asked first, and the search ends when no branch can win any more.
//! So a set of sixty phrases costs about as many steps of the decoder as the answer is long.
//!
//! The search itself is a pure function of a source of log-probabilities, so it is tested without a
//! model. When a choice may replace the free text is decided by [`ChoiceRule`].

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// The decoder's number for a piece of text.
pub(crate) type TokenId = i32;

/// What the search found for one expected phrase.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The phrase, as it was expected.
    pub phrase: String,
    /// Natural logarithm of the probability that exactly this is written for the sound.
    pub logprob: f32,
    /// How much less likely the next best phrase of another wording is, in nats; infinite when there is
    /// none.
    pub margin: f32,
}

/// When an expected phrase takes the place of the free text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChoiceRule {
    /// Log-probability below which no phrase is believed: something else was said.
    pub least: f32,
    /// How much less likely than the free text the phrase may be, in nats, when the text was believed.
    pub below_text: f32,
    /// How much further below it may be for each nat by which it leads the other phrases, of which at
    /// most four count: one that stands alone is what was expected, misspelt.
    pub per_margin: f32,
    /// Longest sound, in seconds, that is taken for a short answer.
    pub longest_s: f32,
    /// Mean log-probability of the free text's tokens above which nothing is weighed at all: the engine
    /// is sure, and the search is not for nothing.
    pub settled: f32,
    /// How much likelier than every sign of listening an expected phrase must be, in nats, while the robot speaks.
    /// Measured on signs and short words in eleven synthetic voices and on real digits.
    pub above_aside: f32,
    /// The same for free text that nobody expected.
    pub text_above_aside: f32,
}

impl Default for ChoiceRule {
    fn default() -> Self {
        Self {
            least: -6.5,
            below_text: 1.5,
            per_margin: 0.6,
            longest_s: 3.5,
            settled: -0.45,
            above_aside: 3.0,
            text_above_aside: 5.0,
        }
    }
}

impl ChoiceRule {
    /// Returns the rule for a node that asks for a number: a lone word of another kind is most likely a
    /// digit that was misheard.
    pub fn for_numbers(self) -> Self {
        Self { least: self.least - 1.5, below_text: self.below_text + 2.5, ..self }
    }

    /// Tells whether the phrase is to be believed instead of the free text, whose tokens' logarithms
    /// sum up to `text_logprob`; `None` when there is no text or a guard rejected it.
    pub fn prefers(&self, choice: &Choice, text_logprob: Option<f32>) -> bool {
        let below = self.below_text + self.per_margin * choice.margin.clamp(0.0, 4.0);
        choice.logprob >= self.least && text_logprob.is_none_or(|text| choice.logprob >= text - below)
    }

    /// Tells whether an answer is so much likelier than the likeliest sign of listening that it was one, though
    /// the robot was speaking.
    pub fn stands(&self, aside: &Choice, answer: Option<&Choice>, text_logprob: Option<f32>) -> bool {
        answer.is_some_and(|answer| answer.logprob >= aside.logprob + self.above_aside)
            || text_logprob.is_some_and(|text| text >= aside.logprob + self.text_above_aside)
    }
}

/// The wordings of the expected phrases as a tree of tokens.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    phrases: usize,
}

#[derive(Debug, Default)]
struct Node {
    children: Vec<(TokenId, usize)>,
    /// The phrases that end here; two may have the same wording.
    ends: Vec<usize>,
}

impl Trie {
    /// Adds one wording of a phrase. Several wordings of one phrase share its number.
    pub(crate) fn add(&mut self, phrase: usize, tokens: &[TokenId]) {
        if tokens.is_empty() {
            return;
        }
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for token in tokens {
            at = match self.nodes[at].children.iter().find(|(child, _)| child == token) {
                Some((_, child)) => *child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[at].children.push((*token, child));
                    child
                }
            };
        }
        if !self.nodes[at].ends.contains(&phrase) {
            self.nodes[at].ends.push(phrase);
        }
        self.phrases = self.phrases.max(phrase + 1);
    }

    /// Tells whether there is nothing to choose from.
    pub(crate) fn is_empty(&self) -> bool {
        self.phrases == 0
    }
}

/// What the decoder says after some tokens.
pub(crate) trait NextToken {
    /// What can go wrong in the decoder.
    type Error;
    /// Returns the log-probability of each of `wanted` after `before`, in their order, and that of
    /// the text's end.
    fn logprobs(&mut self, before: &[TokenId], wanted: &[TokenId]) -> Result<(Vec<f32>, f32), Self::Error>;
}

struct Branch {
    score: f32,
    node: usize,
    tokens: Vec<TokenId>,
}

impl PartialEq for Branch {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Branch {}
impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Branch {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.node.cmp(&self.node))
    }
}

/// Finds the log-probability of each phrase that comes within `window` nats of the best one, asking
/// the decoder at most `steps` times. The result is sorted, the likeliest first.
pub(crate) fn search<D: NextToken>(
    trie: &Trie,
    decoder: &mut D,
    steps: usize,
    window: f32,
) -> Result<Vec<(usize, f32)>, D::Error> {
    let mut totals = vec![f32::NEG_INFINITY; trie.phrases];
    let mut open = BinaryHeap::new();
    if !trie.is_empty() {
        open.push(Branch { score: 0.0, node: 0, tokens: Vec::new() });
    }
    let mut left = steps;
    while let Some(branch) = open.pop() {
        let best = totals.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // A branch only gets less likely with each token.
        if branch.score < best - window || left == 0 {
            break;
        }
        left -= 1;
        let node = &trie.nodes[branch.node];
        let wanted: Vec<TokenId> = node.children.iter().map(|(token, _)| *token).collect();
        let (next, end) = decoder.logprobs(&branch.tokens, &wanted)?;
        for phrase in &node.ends {
            totals[*phrase] = log_add(totals[*phrase], branch.score + end);
        }
        for ((token, child), logprob) in node.children.iter().zip(next) {
            let mut tokens = branch.tokens.clone();
            tokens.push(*token);
            open.push(Branch { score: branch.score + logprob, node: *child, tokens });
        }
    }
    let mut found: Vec<(usize, f32)> =
        totals.into_iter().enumerate().filter(|(_, total)| total.is_finite()).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1));
    Ok(found)
}

/// Adds two probabilities given by their logarithms.
fn log_add(a: f32, b: f32) -> f32 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f32::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    /// A decoder that knows the probabilities of whole token sequences.
    struct Table {
        texts: Vec<(Vec<TokenId>, f32)>,
        asked: usize,
    }

    impl NextToken for Table {
        type Error = Infallible;
        fn logprobs(
            &mut self,
            before: &[TokenId],
            wanted: &[TokenId],
        ) -> Result<(Vec<f32>, f32), Infallible> {
            self.asked += 1;
            let mass = |prefix: &[TokenId]| -> f32 {
                self.texts.iter().filter(|(text, _)| text.starts_with(prefix)).map(|(_, p)| p).sum()
            };
            let here = mass(before).max(1e-9);
            let next = wanted
                .iter()
                .map(|token| {
                    let longer: Vec<TokenId> = before.iter().copied().chain([*token]).collect();
                    (mass(&longer) / here).max(1e-9).ln()
                })
                .collect();
            let end: f32 = self.texts.iter().filter(|(text, _)| text == before).map(|(_, p)| p).sum();
            Ok((next, (end / here).max(1e-9).ln()))
        }
    }

    fn trie(wordings: &[(usize, &[TokenId])]) -> Trie {
        let mut trie = Trie::default();
        for (phrase, tokens) in wordings {
            trie.add(*phrase, tokens);
        }
        trie
    }

    #[test]
    fn each_phrase_gets_the_probability_of_all_its_wordings() {
        let trie = trie(&[(0, &[1, 2]), (0, &[3]), (1, &[1]), (2, &[4, 5, 6])]);
        let texts = vec![(vec![1, 2], 0.3), (vec![3], 0.2), (vec![1], 0.4), (vec![9], 0.1)];
        let found: BTreeMap<usize, f32> =
            search(&trie, &mut Table { texts, asked: 0 }, 100, 5.0).unwrap().into_iter().collect();
        assert!((found[&0].exp() - 0.5).abs() < 1e-3, "{found:?}");
        assert!((found[&1].exp() - 0.4).abs() < 1e-3, "{found:?}");
        assert!(found.get(&2).is_none_or(|p| *p < -10.0), "{found:?}");
    }

    #[test]
    fn branches_that_cannot_win_are_not_asked() {
        let many: Vec<Vec<TokenId>> = (10..70).map(|first| vec![first, 100, 101]).collect();
        let mut trie = Trie::default();
        trie.add(0, &[1, 2]);
        for (n, tokens) in many.iter().enumerate() {
            trie.add(n + 1, tokens);
        }
        let mut table = Table { texts: vec![(vec![1, 2], 0.99), (vec![10, 100, 101], 1e-4)], asked: 0 };
        let found = search(&trie, &mut table, 100, 3.0).unwrap();
        assert_eq!(found[0].0, 0);
        assert!(table.asked <= 4, "{} steps", table.asked);
    }

    #[test]
    fn nothing_expected_asks_nothing_and_finds_nothing() {
        let mut table = Table { texts: vec![], asked: 0 };
        assert_eq!(search(&Trie::default(), &mut table, 10, 3.0).unwrap(), []);
        assert_eq!(table.asked, 0);
        let mut empty = Trie::default();
        empty.add(0, &[]);
        assert!(empty.is_empty());
    }

    #[test]
    fn under_the_robots_words_an_answer_must_be_far_likelier_than_a_sign_of_listening() {
        let rule = ChoiceRule::default();
        let choice = |logprob| Choice { phrase: "x".to_owned(), logprob, margin: 1.0 };
        let no = choice(-1.2);
        assert!(rule.stands(&choice(-8.3), Some(&no), None));
        assert!(!rule.stands(&choice(-3.0), Some(&no), None));
        assert!(rule.stands(&choice(-7.5), Some(&choice(-9.0)), Some(-0.6)));
        assert!(!rule.stands(&choice(-5.9), None, Some(-2.3)));
        assert!(!rule.stands(&choice(-5.9), None, None));
    }

    #[test]
    fn a_phrase_replaces_text_that_is_hardly_likelier_but_not_text_that_is() {
        let rule = ChoiceRule::default();
        let choice = |logprob| Choice { phrase: "是".to_owned(), logprob, margin: 0.5 };
        assert!(rule.prefers(&choice(-3.0), None));
        assert!(!rule.prefers(&choice(-9.0), None), "something else was said");
        assert!(rule.prefers(&choice(-3.0), Some(-2.0)));
        assert!(!rule.prefers(&choice(-5.0), Some(-1.0)));
        assert!(rule.for_numbers().prefers(&choice(-5.0), Some(-1.0)), "a digit, misheard");
        let alone = Choice { margin: 5.0, ..choice(-4.5) };
        assert!(rule.prefers(&alone, Some(-1.0)), "nothing else that was expected sounds like it");
    }

    proptest::proptest! {
        #[test]
        fn the_search_agrees_with_adding_up_everything(
            texts in proptest::collection::btree_map(proptest::collection::vec(0i32..4, 1..4), 1u32..100, 1..12),
        ) {
            let sum: u32 = texts.values().sum();
            let table: Vec<(Vec<TokenId>, f32)> =
                texts.iter().map(|(text, n)| (text.clone(), *n as f32 / sum as f32)).collect();
            let mut trie = Trie::default();
            for (n, (text, _)) in table.iter().enumerate() {
                trie.add(n, text);
            }
            let found = search(&trie, &mut Table { texts: table.clone(), asked: 0 }, 1_000, 50.0).unwrap();
            for (phrase, logprob) in found {
                proptest::prop_assert!((logprob.exp() - table[phrase].1).abs() < 1e-3);
            }
        }
    }
}
