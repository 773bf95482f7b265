//! Which intent a turn carries, and on what evidence.
//!
//! Three layers. *Rules* decide the short and the sacred: `是的`, "stop calling me". The *encoder*
//! layer mixes four opinions in the log domain: a logistic regression on the sentence vector, the
//! likeness to the nearest examples and to the middle of all of an intent's, and the floor head. The *floor* layer is the floor head alone,
//! when there is no encoder. A class of background talk stands among the others and is never told:
//! what falls there, or wins too narrowly, or resembles nothing, is out of scope.

use serde::Serialize;

use crate::encoder::{Encoder, with_simd};
use crate::floor::FloorHead;
use crate::locale::Locale;
use crate::softmax::{Dense, DenseOptions, balanced, fused_dot, softmax};
use crate::text::normalise;
use crate::universal::{ALWAYS, Universal};

/// A script's intent: its name and how people say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentExamples {
    /// The name that edges of the script refer to. One of [`crate::UNIVERSAL`] adds to that one.
    pub name: String,
    /// What people say, as they would say it on the telephone.
    pub examples: Vec<String>,
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// A rule of a universal intent, or an example said word for word.
    Rule,
    /// The encoder with the heads on it.
    Encoder,
    /// The n-gram head alone.
    Floor,
}

/// What a turn was taken for, with the evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The intent, or none when the turn is out of scope.
    pub intent: Option<String>,
    /// How sure, from 0 to 1, of the best candidate, told or not.
    pub score: f32,
    /// How far the best candidate is ahead of the second.
    pub margin: f32,
    /// How near the nearest example is, whatever its intent: the cosine of centred vectors, or with
    /// the floor head alone the share of n-grams it knows. 1 for a rule.
    pub likeness: f32,
    /// Who decided.
    pub layer: Layer,
    /// The five best candidates, best first. The background class is not among them.
    pub top: Vec<(String, f32)>,
    /// The encoder is missing, so that this is a guess by rules and n-grams.
    pub degraded: bool,
}

/// How a classifier is built and when it speaks up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassifierOptions {
    /// Whether the universal intents, their rules and the background class are inherited. A script
    /// always does; a benchmark does not.
    pub universal: bool,
    /// Below this score of the best candidate the turn is out of scope.
    pub threshold: f32,
    /// Below this lead over the second candidate it is out of scope, too.
    pub margin: f32,
    /// Below this likeness to every example (cosine of centred vectors) it is out of scope.
    pub likeness: f32,
    /// By how much the odds of an expected intent are multiplied.
    pub expected_boost: f32,
}

impl Default for ClassifierOptions {
    fn default() -> Self {
        Self { universal: true, threshold: 0.3, margin: 0.02, likeness: 0.3, expected_boost: 5.0 }
    }
}

/// A script's trained classifier.
#[derive(Debug)]
pub struct Classifier {
    locale: Locale,
    options: ClassifierOptions,
    /// The background class, where there is one, is the last and has no name.
    names: Vec<String>,
    /// Normalised examples of the script, sorted, with their class: said word for word they decide.
    verbatim: Vec<(String, usize)>,
    floor: FloorHead,
    encoded: Option<Encoded>,
}

/// The name of the class that is never told.
const BACKGROUND: &str = "";

/// How many of a class's nearest examples are averaged.
const NEAREST: usize = 2;

/// The shares of the four opinions, in the log domain: those that are best on the validation splits of three public
/// sets (`BENCHMARKS.md`).
const SHARE_LINEAR: f32 = 0.56;
const SHARE_NEAREST: f32 = 0.165;
const SHARE_MIDDLE: f32 = 0.11;
const SHARE_FLOOR: f32 = 0.165;

/// What a rule that does not decide alone adds to its intent's log odds, and what the words that
/// speak against an intent take away: `打断` looks much like `打` to both heads.
const SUPPORT: f32 = 1.0;
const DOUBT: f32 = -4.0;

/// The least score and likeness with which the heads may tell `opt_out` or `ask_human`.
const SURE: f32 = 0.6;
const SURE_LIKENESS: f32 = 0.45;

/// How steeply likeness becomes probability.
const STEEPNESS: f32 = 14.0;

/// The length of a centred vector as the linear head sees it.
const SCALE: f32 = 4.0;

#[derive(Debug)]
struct Encoded {
    encoder: Encoder,
    /// The mean of all training vectors: e5's vectors share a large common part that says nothing.
    mean: Vec<f32>,
    linear: Dense,
    /// Centred training vectors of length 1, and their classes.
    examples: Vec<f32>,
    labels: Vec<usize>,
    /// The middle of each class's examples, of length 1; zero for a class without any.
    middles: Vec<f32>,
}

impl Classifier {
    /// Trains a classifier. The same input gives the same classifier, bit for bit.
    ///
    /// Without an encoder it is made of rules and the floor head. An intent without examples can
    /// never be recognised; empty examples are skipped.
    #[must_use]
    pub fn train(
        encoder: Option<&Encoder>,
        intents: &[IntentExamples],
        locale: Locale,
        options: ClassifierOptions,
    ) -> Self {
        let mut set = TrainingSet::default();
        for intent in intents {
            let class = set.class(&intent.name);
            for example in &intent.examples {
                set.add(class, normalise(example, locale));
            }
        }
        let mut verbatim: Vec<(String, usize)> =
            set.texts.iter().cloned().zip(set.labels.iter().copied()).collect();
        verbatim.sort();
        // An example of two intents decides nothing by itself.
        let ambiguous = |text: &String| {
            let same = verbatim.iter().filter(|(other, _)| other == text);
            same.map(|(_, class)| class).collect::<std::collections::BTreeSet<_>>().len() > 1
        };
        let ambiguous: Vec<String> = verbatim
            .iter()
            .map(|(text, _)| text)
            .filter(|text| verbatim.len() < 5_000 && ambiguous(text))
            .cloned()
            .collect();
        verbatim.retain(|(text, _)| !ambiguous.contains(text));
        verbatim.dedup();

        let own = set.texts.len();
        if options.universal {
            let universal = Universal::of(locale);
            for (name, examples) in universal.examples() {
                let class = set.class(name);
                for example in examples {
                    set.add(class, normalise(example, locale));
                }
            }
            let class = set.class(BACKGROUND);
            for example in &universal.background {
                set.add(class, normalise(example, locale));
            }
        }
        let weights = balanced(&set.labels, set.names.len());
        let floor = FloorHead::train(locale, &set.names, &set.texts, &set.labels, &weights);
        let encoded = encoder
            .filter(|_| !set.texts.is_empty())
            .map(|encoder| Encoded::train(encoder, locale, &set, own, &weights));
        Self { locale, options, names: set.names, verbatim, floor, encoded }
    }

    /// Returns the floor head, which works without this classifier.
    #[must_use]
    pub fn floor(&self) -> &FloorHead {
        &self.floor
    }

    /// Decides what a turn means. `expected` are the intents for which the node has an edge.
    #[must_use]
    pub fn classify(&self, text: &str, expected: &[&str]) -> Decision {
        let normal = normalise(text, self.locale);
        let degraded = self.encoded.is_none();
        if normal.is_empty() || self.names.is_empty() {
            return Decision {
                intent: None,
                score: 0.0,
                margin: 0.0,
                likeness: 0.0,
                layer: Layer::Rule,
                top: Vec::new(),
                degraded,
            };
        }
        self.by_rule(&normal, expected).unwrap_or_else(|| self.by_model(&normal, None, expected))
    }

    /// Decides many turns at once, the sentence vectors computed together on `threads` threads:
    /// for replays and measurements. The decisions are those of [`Self::classify`], but for the
    /// last bits of the scores.
    #[must_use]
    pub fn classify_batch(&self, texts: &[&str], expected: &[&str], threads: usize) -> Vec<Decision> {
        let Some(encoded) = &self.encoded else {
            let one = |text: &&str| self.classify(text, expected);
            return texts.iter().map(one).collect();
        };
        let normals: Vec<String> = texts.iter().map(|text| normalise(text, self.locale)).collect();
        let vectors = encoded.encoder.embed_parallel(&normals, threads);
        normals
            .iter()
            .zip(vectors.chunks_exact(encoded.encoder.dimensions()))
            .map(|(normal, vector)| {
                if normal.is_empty() || self.names.is_empty() {
                    return self.classify(normal, expected);
                }
                self.by_rule(normal, expected)
                    .unwrap_or_else(|| self.by_model(normal, Some(vector.to_vec()), expected))
            })
            .collect()
    }

    fn by_rule(&self, normal: &str, expected: &[&str]) -> Option<Decision> {
        let universal = Universal::of(self.locale);
        let right = self.options.universal.then(|| universal.right(normal)).flatten();
        let verbatim = || {
            let at = self.verbatim.binary_search_by(|(text, _)| text.as_str().cmp(normal));
            at.ok().map(|at| (self.names[self.verbatim[at].1].as_str(), 1.0))
        };
        let rules = || {
            let hits = if self.options.universal { universal.rules(normal, expected) } else { Vec::new() };
            hits.first().filter(|hit| hit.decides).map(|hit| (hit.intent, hit.score))
        };
        let (intent, score) = right.map(|hit| (hit.intent, hit.score)).or_else(verbatim).or_else(rules)?;
        let mut top = self.ranked(&self.floor.of_normal(normal));
        top.retain(|(name, _)| name != intent);
        for (_, other) in &mut top {
            *other *= 1.0 - score;
        }
        let second = top.first().map_or(0.0, |(_, other)| *other);
        top.insert(0, (intent.to_owned(), score));
        top.truncate(5);
        Some(Decision {
            intent: Some(intent.to_owned()),
            score,
            margin: score - second,
            likeness: 1.0,
            layer: Layer::Rule,
            top,
            degraded: self.encoded.is_none(),
        })
    }

    /// `vector` is the text's own, where it has been computed already.
    fn by_model(&self, normal: &str, vector: Option<Vec<f32>>, expected: &[&str]) -> Decision {
        let opinion = self.opinion(normal, vector, expected);
        let decision = self.told(&opinion);
        // `不是，你打错了` opens with an answer and goes on to say more; the more is what counts,
        // unless it means nothing to the script.
        let light = |name: &Option<String>| matches!(name.as_deref(), Some("yes" | "no") | None);
        if light(&decision.intent)
            && let Some(rest) = self.after_answer(normal)
        {
            let further = self
                .by_rule(rest, expected)
                .unwrap_or_else(|| self.told(&self.opinion(rest, None, expected)));
            let wanted = |name: &str| expected.is_empty() || expected.contains(&name);
            if !light(&further.intent) && further.intent.as_deref().is_some_and(wanted) {
                return further;
            }
        }
        decision
    }

    /// What follows a leading yes or no, when enough follows.
    fn after_answer<'a>(&self, normal: &'a str) -> Option<&'a str> {
        if !self.options.universal {
            return None;
        }
        let universal = Universal::of(self.locale);
        let answer = |head: &str| universal.is_exactly("yes", head) || universal.is_exactly("no", head);
        let (longest, least) = match self.locale {
            Locale::Zh => (4, 3),
            Locale::En => (3, 2),
        };
        let cuts: Vec<usize> = match self.locale {
            Locale::Zh => normal.char_indices().map(|(at, _)| at).skip(1).collect(),
            Locale::En => normal.match_indices(' ').map(|(at, _)| at).collect(),
        };
        let usable = cuts.len().saturating_sub(least - 1).min(longest);
        cuts[..usable].iter().rev().find(|at| answer(&normal[..**at])).map(|at| normal[*at..].trim_start())
    }

    /// The probability of each class, the node's expectation included.
    fn opinion(&self, normal: &str, vector: Option<Vec<f32>>, expected: &[&str]) -> Opinion {
        let floor = self.floor.of_normal(normal);
        let mut logs: Vec<f32>;
        let likeness;
        match &self.encoded {
            Some(encoded) => {
                let vector = vector.unwrap_or_else(|| encoded.encoder.embed(normal));
                let view = encoded.view(vector, self.names.len());
                likeness = view.likeness;
                let heads = view.linear.iter().zip(&view.nearest).zip(&view.middle).zip(&floor);
                logs = heads
                    .map(|(((linear, nearest), middle), floor)| {
                        SHARE_LINEAR * ln(*linear)
                            + SHARE_NEAREST * ln(*nearest)
                            + SHARE_MIDDLE * ln(*middle)
                            + SHARE_FLOOR * ln(*floor)
                    })
                    .collect();
            }
            None => {
                likeness = self.floor.familiarity(normal);
                logs = floor.into_iter().map(ln).collect();
            }
        }
        if self.options.universal {
            let universal = Universal::of(self.locale);
            let hits = universal.rules(normal, expected);
            let spoken_for = hits.iter().map(|hit| (hit.intent, SUPPORT));
            let doubted = universal.doubted(normal).into_iter();
            for (intent, weight) in spoken_for.chain(doubted.map(|intent| (intent, DOUBT))) {
                if let Some(class) = self.names.iter().position(|name| name == intent) {
                    logs[class] += weight;
                }
            }
        }
        let boost = self.options.expected_boost.ln();
        for (name, log) in self.names.iter().zip(&mut logs) {
            let always = self.options.universal && ALWAYS.contains(&name.as_str());
            if expected.contains(&name.as_str()) {
                *log += boost;
            } else if always && !expected.is_empty() {
                // Half: enough not to drown, and what is plain has been seen by a rule.
                *log += boost / 2.0;
            }
        }
        softmax(&mut logs);
        Opinion { probabilities: logs, likeness }
    }

    fn told(&self, opinion: &Opinion) -> Decision {
        let top = self.ranked(&opinion.probabilities);
        let (score, second) = (top.first().map_or(0.0, |(_, p)| *p), top.get(1).map_or(0.0, |(_, p)| *p));
        let background = self
            .names
            .iter()
            .zip(&opinion.probabilities)
            .find(|(name, _)| *name == BACKGROUND)
            .map_or(0.0, |(_, p)| *p);
        let margin = score - second.max(background);
        let (layer, likeness) = match self.encoded {
            Some(_) => (Layer::Encoder, self.options.likeness),
            None => (Layer::Floor, self.options.likeness * 0.7),
        };
        // A right ends or hands over the call: where no rule saw it, the heads must be sure.
        let right = |name: &String| self.options.universal && ALWAYS.contains(&name.as_str());
        let (threshold, likeness) = match top.first() {
            Some((name, _)) if right(name) => (self.options.threshold.max(SURE), likeness.max(SURE_LIKENESS)),
            _ => (self.options.threshold, likeness),
        };
        let told = score >= threshold && margin >= self.options.margin && opinion.likeness >= likeness;
        Decision {
            intent: top.first().filter(|_| told).map(|(name, _)| name.clone()),
            score,
            margin,
            likeness: opinion.likeness,
            layer,
            top,
            degraded: self.encoded.is_none(),
        }
    }

    /// The five best named classes.
    fn ranked(&self, probabilities: &[f32]) -> Vec<(String, f32)> {
        let mut order: Vec<(&String, f32)> = self
            .names
            .iter()
            .zip(probabilities.iter().copied())
            .filter(|(name, _)| *name != BACKGROUND)
            .collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        order.into_iter().take(5).map(|(name, p)| (name.clone(), p)).collect()
    }
}

/// Keeps an opinion of nothing from vetoing the others.
fn ln(p: f32) -> f32 {
    p.max(1e-4).ln()
}

struct Opinion {
    probabilities: Vec<f32>,
    /// How near the nearest example is, whatever its class.
    likeness: f32,
}

/// What the encoder's three heads say.
struct View {
    linear: Vec<f32>,
    nearest: Vec<f32>,
    middle: Vec<f32>,
    likeness: f32,
}

#[derive(Default)]
struct TrainingSet {
    names: Vec<String>,
    texts: Vec<String>,
    labels: Vec<usize>,
}

impl TrainingSet {
    fn class(&mut self, name: &str) -> usize {
        if let Some(class) = self.names.iter().position(|known| known == name) {
            return class;
        }
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    fn add(&mut self, class: usize, normal: String) {
        if !normal.is_empty() {
            self.texts.push(normal);
            self.labels.push(class);
        }
    }
}

impl Encoded {
    /// The texts from `own` on are the universal ones, the same for every script of the language.
    fn train(encoder: &Encoder, locale: Locale, set: &TrainingSet, own: usize, weights: &[f32]) -> Self {
        let dim = encoder.dimensions();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (script, universal) = set.texts.split_at(own);
        let mut examples = encoder.embed_parallel(script, threads);
        if !universal.is_empty() {
            examples.extend_from_slice(&encoder.embed_shared(locale, universal, threads));
        }
        let mut mean = vec![0.0_f32; dim];
        for row in examples.chunks_exact(dim) {
            for (mean, value) in mean.iter_mut().zip(row) {
                *mean += value / set.texts.len() as f32;
            }
        }
        for row in examples.chunks_exact_mut(dim) {
            centre(row, &mean);
        }
        let scaled: Vec<f32> = examples.iter().map(|value| value * SCALE).collect();
        let options =
            DenseOptions { epochs: (60_000 / set.texts.len()).clamp(20, 150), rate: 0.03, l2: 2e-4 };
        let linear = Dense::train(&scaled, dim, &set.labels, weights, set.names.len(), options);
        let mut middles = vec![0.0_f32; set.names.len() * dim];
        for (row, class) in examples.chunks_exact(dim).zip(&set.labels) {
            for (middle, value) in middles[class * dim..].iter_mut().zip(row) {
                *middle += value;
            }
        }
        for middle in middles.chunks_exact_mut(dim) {
            unit(middle);
        }
        Self { encoder: encoder.clone(), mean, linear, examples, labels: set.labels.clone(), middles }
    }

    fn view(&self, vector: Vec<f32>, classes: usize) -> View {
        let mut x = vector;
        centre(&mut x, &self.mean);
        let mut best = vec![[-1.0_f32; NEAREST]; classes];
        let likenesses: Vec<f32> = with_simd(
            #[inline(always)]
            || self.examples.chunks_exact(x.len()).map(|row| fused_dot(row, &x)).collect(),
        );
        for (likeness, class) in likenesses.iter().zip(&self.labels) {
            let mut likeness = *likeness;
            for kept in &mut best[*class] {
                if likeness > *kept {
                    std::mem::swap(kept, &mut likeness);
                }
            }
        }
        let mut nearest: Vec<f32> = best
            .iter()
            .map(|kept| {
                let filled = kept.iter().filter(|likeness| **likeness > -1.0);
                let (sum, count) = filled.fold((0.0, 0.0_f32), |(s, n), l| (s + l, n + 1.0));
                // The nearest counts double, so that one good example is worth having.
                STEEPNESS * (sum + kept[0].max(-1.0)) / (count + 1.0)
            })
            .collect();
        softmax(&mut nearest);
        let mut middle: Vec<f32> = with_simd(
            #[inline(always)]
            || self.middles.chunks_exact(x.len()).map(|row| STEEPNESS * fused_dot(row, &x)).collect(),
        );
        softmax(&mut middle);
        for value in &mut x {
            *value *= SCALE;
        }
        let mut linear = self.linear.logits(&x);
        softmax(&mut linear);
        View { linear, nearest, middle, likeness: likenesses.into_iter().fold(-1.0, f32::max) }
    }
}

/// Takes the mean out and scales to length 1.
fn centre(row: &mut [f32], mean: &[f32]) {
    for (value, mean) in row.iter_mut().zip(mean) {
        *value -= mean;
    }
    unit(row);
}

fn unit(row: &mut [f32]) {
    let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-9);
    for value in row {
        *value /= length;
    }
}
