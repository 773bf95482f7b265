//! What a model is: its family, its features, its pieces, and what its networks say of a sound.

use std::path::Path;

use super::super::{Language, RecognizeError};
use super::ctc::{self, Bias, Piece, Scores};
use super::fbank::{self, BANDS, Fbank, FbankOptions, Features};
use super::graph::{self, Graph, Wanted};
use super::tokens::Tokens;
use super::transducer::{self, Form};
use super::{Asked, OnnxError, OnnxFiles};

/// The opened networks of one lane.
pub(super) enum Networks {
    One(Graph),
    Three(transducer::Networks),
}

impl Networks {
    pub(super) fn open(files: &OnnxFiles, threads: usize) -> Result<Self, OnnxError> {
        match files {
            OnnxFiles::Ctc { model, .. } | OnnxFiles::Paraformer { model, .. } => {
                Ok(Self::One(Graph::open(model, threads)?))
            }
            OnnxFiles::Transducer { encoder, decoder, joiner, .. } => Ok(Self::Three(transducer::Networks {
                encoder: Graph::open(encoder, threads)?,
                decoder: Graph::open(decoder, 1)?,
                joiner: Graph::open(joiner, 1)?,
            })),
        }
    }

    /// The network that hears the sound.
    fn first(&self) -> &Graph {
        match self {
            Self::One(graph) => graph,
            Self::Three(networks) => &networks.encoder,
        }
    }
}

/// What all lanes share.
pub(super) struct Model {
    files: OnnxFiles,
    threads: usize,
    family: Family,
    fbank: Fbank,
    stacking: Option<Stacking>,
    pub(super) tokens: Tokens,
    blank: u32,
}

enum Family {
    Ctc,
    SenseVoice(SenseVoice),
    Paraformer { end: Option<u32> },
    Transducer { form: Form, unknown: Option<u32> },
}

/// Numbers by which SenseVoice is told and tells.
struct SenseVoice {
    /// What stands for a language in its input.
    languages: Vec<(Language, i64)>,
    any: i64,
    /// Words as they are spoken, without punctuation.
    as_spoken: i64,
}

/// Rows of features put side by side and brought to the model's mean and variance.
struct Stacking {
    window: usize,
    shift: usize,
    neg_mean: Vec<f32>,
    inv_stddev: Vec<f32>,
}

/// Steps at the beginning of SenseVoice's output: language, emotion, event, and the way of writing.
const MARKS: usize = 4;

impl Model {
    pub(super) fn read(files: OnnxFiles, networks: &Networks, threads: usize) -> Result<Self, OnnxError> {
        let (OnnxFiles::Ctc { tokens: table, .. }
        | OnnxFiles::Paraformer { tokens: table, .. }
        | OnnxFiles::Transducer { tokens: table, .. }) = &files;
        let tokens = Tokens::read(table)?;
        let graph = networks.first();
        let model_type = graph.metadata("model_type").unwrap_or_default();
        refuse(graph, &model_type)?;
        let (family, fbank, stacking) = match (&files, networks) {
            (OnnxFiles::Ctc { .. }, Networks::One(graph)) if is_sense_voice(graph, &model_type) => {
                let stacking = Stacking::read(graph)?;
                let sense = SenseVoice::read(graph, &stacking)?;
                (Family::SenseVoice(sense), scaled(FbankOptions::FUNASR, graph)?, Some(stacking))
            }
            (OnnxFiles::Paraformer { .. }, Networks::One(graph)) => {
                let stacking = Stacking::read(graph)?;
                let width = stacking.width();
                graph.check(
                    "Paraformer",
                    &[Wanted::float("features", 3).of(width), Wanted::whole("their length", 1)],
                    &[Wanted::float("scores", 3)],
                )?;
                let end = tokens.number("</s>");
                (Family::Paraformer { end }, FbankOptions::FUNASR, Some(stacking))
            }
            (OnnxFiles::Transducer { .. }, Networks::Three(networks)) => {
                let form = Form::read(networks)?;
                let family = Family::Transducer { form, unknown: tokens.number("<unk>") };
                (family, scaled(FbankOptions::ICEFALL, graph)?, None)
            }
            (OnnxFiles::Ctc { .. }, _) | (_, Networks::One(_) | Networks::Three(_)) => {
                graph.check(
                    "CTC model",
                    &[Wanted::float("features", 3).of(BANDS), Wanted::whole("their length", 1)],
                    &[Wanted::float("scores", 3)],
                )?;
                // WeNet's recipes leave the samples as they are on the disk.
                let wenet = FbankOptions { scale: 32_768.0, ..FbankOptions::ICEFALL };
                let options = if model_type == "wenet_ctc" { wenet } else { FbankOptions::ICEFALL };
                (Family::Ctc, scaled(options, graph)?, None)
            }
        };
        let blank = blank(&family, graph, &tokens)?;
        let model = Self { files, threads, family, fbank: Fbank::new(fbank), stacking, tokens, blank };
        model.check_vocabulary(networks)?;
        Ok(model)
    }

    fn check_vocabulary(&self, networks: &Networks) -> Result<(), OnnxError> {
        let stated = match (&self.family, networks) {
            (Family::Transducer { form, .. }, _) => Some(form.pieces),
            (_, networks) => networks.first().pieces(),
        };
        let (OnnxFiles::Ctc { tokens, .. }
        | OnnxFiles::Paraformer { tokens, .. }
        | OnnxFiles::Transducer { tokens, .. }) = &self.files;
        match stated {
            Some(model) if model > self.tokens.len() => Err(OnnxError::Vocabulary {
                path: self.path().to_owned(),
                tokens: tokens.clone(),
                model,
                table: self.tokens.len(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        match &self.files {
            OnnxFiles::Ctc { model, .. } | OnnxFiles::Paraformer { model, .. } => model,
            OnnxFiles::Transducer { encoder, .. } => encoder,
        }
    }

    pub(super) fn family(&self) -> &'static str {
        match self.family {
            Family::Ctc => "CTC",
            Family::SenseVoice(_) => "SenseVoice",
            Family::Paraformer { .. } => "Paraformer",
            Family::Transducer { .. } => "transducer",
        }
    }

    /// Opens the networks once more.
    pub(super) fn open(&self) -> Result<Networks, OnnxError> {
        Networks::open(&self.files, self.threads)
    }

    pub(super) fn features(&self, samples: &[f32]) -> Features {
        let features = self.fbank.compute(samples);
        match &self.stacking {
            Some(stacking) => stacking.apply(&features),
            None => features,
        }
    }

    pub(super) fn run(
        &self,
        networks: &mut Networks,
        asked: &Asked<'_>,
        per_step: usize,
    ) -> Result<Posterior, RecognizeError> {
        match (&self.family, networks) {
            (Family::Transducer { form, unknown }, Networks::Three(networks)) => {
                let pieces = transducer::decode(networks, *form, asked, self.blank, *unknown, per_step)?;
                Ok(Posterior { said: Said::Pieces(pieces), no_speech: 0.0, language: None })
            }
            (Family::SenseVoice(sense), Networks::One(graph)) => {
                let language = sense.number_of(asked.language);
                let extra =
                    [graph.whole(2, vec![1], &[language])?, graph.whole(3, vec![1], &[sense.as_spoken])?];
                let (scores, _) = scores(graph, asked, extra.into())?;
                let language = self.best_mark(&scores);
                let no_speech = self.tokens.number("<|nospeech|>").map_or(0.0, |token| {
                    scores.row(0).get(token as usize).map_or(0.0, |logprob| logprob.exp())
                });
                let said = Said::Steps { scores: scores.without_first(MARKS), blank: self.blank };
                Ok(Posterior { said, no_speech, language })
            }
            (Family::Paraformer { end }, Networks::One(graph)) => {
                let (scores, count) = scores(graph, asked, Vec::new())?;
                let said = Said::Whole { scores: cut(scores, count), end: *end };
                Ok(Posterior { said, no_speech: 0.0, language: None })
            }
            (Family::Ctc, Networks::One(graph)) => {
                let (scores, count) = scores(graph, asked, Vec::new())?;
                let said = Said::Steps { scores: cut(scores, count), blank: self.blank };
                Ok(Posterior { said, no_speech: 0.0, language: None })
            }
            (_, Networks::One(_) | Networks::Three(_)) => {
                Err(RecognizeError::Engine("the networks are not those of the model".to_owned()))
            }
        }
    }

    /// The language that SenseVoice found.
    fn best_mark(&self, scores: &Scores) -> Option<Language> {
        let best = (0u32..).zip(scores.row(0)).max_by(|a, b| a.1.total_cmp(b.1))?;
        let mark = self.tokens.piece(best.0).strip_prefix("<|")?.strip_suffix("|>")?;
        Language::from_tag(mark)
    }
}

/// Runs a network over the features. Returns the scores and, where the second output counts the steps,
/// their number.
fn scores(
    graph: &mut Graph,
    asked: &Asked<'_>,
    extra: Vec<ort::session::SessionInputValue<'static>>,
) -> Result<(Scores, Option<usize>), RecognizeError> {
    let rows = asked.features.rows();
    let mut inputs = vec![
        graph::floats(vec![1, rows, asked.features.width], &asked.features.data)?,
        graph.whole(1, vec![1], &[i64::try_from(rows).unwrap_or(i64::MAX)])?,
    ];
    inputs.extend(extra);
    let outputs = graph.run(&inputs)?;
    let (shape, data) = graph::floats_of(&outputs, 0)?;
    match shape.as_slice() {
        [1, _, pieces] if *pieces > 0 => Ok((Scores::new(data, *pieces), graph::count_of(&outputs, 1))),
        other => {
            let error = format!("the model gave a shape of {other:?} instead of [1, steps, pieces]");
            Err(RecognizeError::Engine(error))
        }
    }
}

fn cut(scores: Scores, count: Option<usize>) -> Scores {
    match count {
        Some(count) => scores.only_first(count),
        None => scores,
    }
}

/// Families that are known not to work, with the reason.
fn refuse(graph: &Graph, model_type: &str) -> Result<(), OnnxError> {
    let why = if model_type.starts_with("EncDec") {
        "NeMo's models are trained on other features"
    } else if model_type == "telespeech_ctc" || model_type == "tdnn_lstm" {
        "it is trained on other features"
    } else if model_type == "paraformer2" {
        "it comes in parts; export Paraformer as one file"
    } else if graph.metadata("comment").is_some_and(|comment| comment.contains("Nano")) {
        "Fun-ASR-Nano needs a language model behind it"
    } else if graph.metadata("decode_chunk_len").is_some() {
        "it is a streaming export; the box decodes whole turns and takes the offline one"
    } else {
        return Ok(());
    };
    let model_type = if model_type.is_empty() { "unknown" } else { model_type };
    Err(OnnxError::Unsupported { path: graph.path().to_owned(), model_type: model_type.to_owned(), why })
}

fn is_sense_voice(graph: &Graph, model_type: &str) -> bool {
    model_type.to_ascii_lowercase().replace('_', "").starts_with("sensevoice")
        || graph.metadata("lang_auto").is_some()
}

/// Takes the scale of the samples from the metadata, where it stands there.
fn scaled(options: FbankOptions, graph: &Graph) -> Result<FbankOptions, OnnxError> {
    Ok(match graph.number("normalize_samples")? {
        Some(0) => FbankOptions { scale: 32_768.0, ..options },
        Some(_) => FbankOptions { scale: 1.0, ..options },
        None => options,
    })
}

/// The piece that means "nothing new".
fn blank(family: &Family, graph: &Graph, tokens: &Tokens) -> Result<u32, OnnxError> {
    let stated = graph.number("blank_id")?.and_then(|n| u32::try_from(n).ok());
    let named = ["<blk>", "<blank>", "<eps>"].iter().find_map(|name| tokens.number(name));
    Ok(match family {
        Family::SenseVoice(_) => stated.unwrap_or(0),
        Family::Ctc | Family::Paraformer { .. } | Family::Transducer { .. } => stated.or(named).unwrap_or(0),
    })
}

impl SenseVoice {
    fn read(graph: &Graph, stacking: &Stacking) -> Result<Self, OnnxError> {
        graph.check(
            "SenseVoice",
            &[
                Wanted::float("features", 3).of(stacking.width()),
                Wanted::whole("their length", 1),
                Wanted::whole("language", 1),
                Wanted::whole("way of writing", 1),
            ],
            &[Wanted::float("scores", 3)],
        )?;
        let mut languages = Vec::new();
        for (code, key) in
            [("zh", "lang_zh"), ("en", "lang_en"), ("yue", "lang_yue"), ("ja", "lang_ja"), ("ko", "lang_ko")]
        {
            if let (Some(language), Some(number)) = (Language::from_tag(code), graph.number(key)?) {
                languages.push((language, number));
            }
        }
        Ok(Self { languages, any: graph.required("lang_auto")?, as_spoken: graph.required("without_itn")? })
    }

    fn number_of(&self, language: Option<Language>) -> i64 {
        let known = self.languages.iter().find(|(known, _)| Some(*known) == language);
        known.map_or(self.any, |(_, number)| *number)
    }
}

impl Stacking {
    fn read(graph: &Graph) -> Result<Self, OnnxError> {
        let small = |key: &'static str| -> Result<usize, OnnxError> {
            let value = graph.required(key)?;
            usize::try_from(value).ok().filter(|n| (1..=32).contains(n)).ok_or_else(|| {
                let (found, wanted) = (value.to_string(), "1 to 32".to_owned());
                OnnxError::MetadataValue { path: graph.path().to_owned(), key, found, wanted }
            })
        };
        let (window, shift) = (small("lfr_window_size")?, small("lfr_window_shift")?);
        let width = window * BANDS;
        let (neg_mean, inv_stddev) = (graph.row("neg_mean", width)?, graph.row("inv_stddev", width)?);
        Ok(Self { window, shift, neg_mean, inv_stddev })
    }

    fn width(&self) -> usize {
        self.window * BANDS
    }

    fn apply(&self, features: &Features) -> Features {
        let mut stacked = fbank::stack(features, self.window, self.shift);
        fbank::normalise(&mut stacked, &self.neg_mean, &self.inv_stddev);
        stacked
    }
}

/// What the networks say of a sound.
pub(super) struct Posterior {
    said: Said,
    /// The model's own probability that nobody spoke; 0 where it has no such thing.
    pub(super) no_speech: f32,
    /// The language that the model found.
    pub(super) language: Option<Language>,
}

enum Said {
    /// Scores of every step in time.
    Steps { scores: Scores, blank: u32 },
    /// Scores of every piece of the text.
    Whole { scores: Scores, end: Option<u32> },
    /// Pieces only: a transducer's steps depend on what was written before.
    Pieces(Vec<Piece>),
}

impl Posterior {
    /// The likeliest text of allowed pieces.
    pub(super) fn free(&self, allowed: impl Fn(u32) -> bool) -> Vec<Piece> {
        match &self.said {
            Said::Steps { scores, blank } => ctc::greedy(scores, *blank, allowed),
            Said::Whole { scores, end } => ctc::each_step(scores, *end, allowed),
            Said::Pieces(pieces) => pieces.iter().copied().filter(|piece| allowed(piece.token)).collect(),
        }
    }

    /// The likeliest text with what expected words earn; only CTC has several to choose from.
    pub(super) fn beam(&self, width: usize, bias: &Bias) -> Vec<Piece> {
        match &self.said {
            Said::Steps { scores, blank } => ctc::beam(scores, *blank, width, bias),
            Said::Whole { .. } | Said::Pieces(_) => self.free(|_| true),
        }
    }

    /// How likely a text is, in the measure of the free text's own pieces: as much less likely than the
    /// free text as it is by the model. `None` where the model cannot say.
    pub(super) fn relative(&self, free: &[Piece], tokens: &[u32]) -> Option<f32> {
        let own: Vec<u32> = free.iter().map(|piece| piece.token).collect();
        let sum: f32 = free.iter().map(|piece| piece.logprob).sum();
        let (likelihood, of_free) = match &self.said {
            Said::Steps { scores, blank } => {
                (ctc::likelihood(scores, *blank, tokens), ctc::likelihood(scores, *blank, &own))
            }
            Said::Whole { scores, end } => {
                let of = |tokens: &[u32]| ctc::each_step_likelihood(scores, *end, tokens);
                (of(tokens), of(&own))
            }
            Said::Pieces(_) => return None,
        };
        let relative = likelihood - of_free + sum;
        relative.is_finite().then(|| relative.min(0.0))
    }

    /// How sure the model is that nothing more is said at the end.
    pub(super) fn end_logprob(&self) -> f32 {
        match &self.said {
            Said::Steps { scores, blank } => {
                let last = scores.steps().checked_sub(1).map(|step| scores.row(step));
                last.and_then(|row| row.get(*blank as usize)).copied().unwrap_or(f32::NEG_INFINITY)
            }
            // These end by their own count.
            Said::Whole { .. } | Said::Pieces(_) => 0.0,
        }
    }
}
