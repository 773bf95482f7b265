//! Tiny models made on the spot: real ONNX files of a few nodes, which tell tones apart by the mel band
//! in which they are loudest. So what runs is the whole engine, from samples to text; only the weights
//! are trivial.
//!
//! The files are written by hand in protobuf's wire format (the field numbers are those of `onnx.proto`
//! of ONNX 1.15, IR version 8).

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};

/// Bytes in protobuf's wire format.
#[derive(Default, Clone)]
struct Proto(Vec<u8>);

impl Proto {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u32, value: i64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value as u64);
        self
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u32, message: Proto) -> Self {
        self.bytes(field, &message.0)
    }
}

/// Kinds of numbers (`TensorProto.DataType`).
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Float = 1,
    Int32 = 6,
    Int64 = 7,
}

/// A size of a dimension: fixed, or any, by a name.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    Is(usize),
    Any(&'static str),
}

/// A model that grows node by node.
#[derive(Default, Clone)]
pub(crate) struct Onnx {
    nodes: Vec<Proto>,
    constants: Vec<Proto>,
    inputs: Vec<Proto>,
    outputs: Vec<Proto>,
    metadata: Vec<(String, String)>,
}

impl Onnx {
    pub(crate) fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[(&str, i64)],
    ) -> Self {
        let mut node = Proto::default();
        for input in inputs {
            node = node.text(1, input);
        }
        node = node.text(2, output).text(3, output).text(4, op);
        for (name, value) in attributes {
            // AttributeProto: name, i, type INT.
            node = node.message(5, Proto::default().text(1, name).number(3, *value).number(20, 2));
        }
        self.nodes.push(node);
        self
    }

    pub(crate) fn floats(mut self, name: &str, shape: &[usize], values: &[f32]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constants.push(tensor(name, shape, Kind::Float).bytes(9, &raw));
        self
    }

    pub(crate) fn whole(mut self, name: &str, shape: &[usize], values: &[i64]) -> Self {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constants.push(tensor(name, shape, Kind::Int64).bytes(9, &raw));
        self
    }

    pub(crate) fn input(mut self, name: &str, kind: Kind, shape: &[Size]) -> Self {
        self.inputs.push(value_info(name, kind, shape));
        self
    }

    pub(crate) fn output(mut self, name: &str, kind: Kind, shape: &[Size]) -> Self {
        self.outputs.push(value_info(name, kind, shape));
        self
    }

    pub(crate) fn meta(mut self, key: &str, value: &str) -> Self {
        self.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without_meta(mut self, key: &str) -> Self {
        self.metadata.retain(|(name, _)| name != key);
        self
    }

    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        let mut graph = Proto::default();
        for node in &self.nodes {
            graph = graph.message(1, node.clone());
        }
        graph = graph.text(2, "tiny");
        for constant in &self.constants {
            graph = graph.message(5, constant.clone());
        }
        for input in &self.inputs {
            graph = graph.message(11, input.clone());
        }
        for output in &self.outputs {
            graph = graph.message(12, output.clone());
        }
        let mut model = Proto::default().number(1, 8).message(7, graph);
        model = model.message(8, Proto::default().text(1, "").number(2, 13));
        for (key, value) in &self.metadata {
            model = model.message(14, Proto::default().text(1, key).text(2, value));
        }
        std::fs::write(path, model.0).unwrap();
        path.to_owned()
    }
}

fn tensor(name: &str, shape: &[usize], kind: Kind) -> Proto {
    let mut tensor = Proto::default();
    for size in shape {
        tensor = tensor.number(1, *size as i64);
    }
    tensor.number(2, kind as i64).text(8, name)
}

fn value_info(name: &str, kind: Kind, shape: &[Size]) -> Proto {
    let mut dims = Proto::default();
    for size in shape {
        let dim = match size {
            Size::Is(size) => Proto::default().number(1, *size as i64),
            Size::Any(name) => Proto::default().text(2, name),
        };
        dims = dims.message(1, dim);
    }
    let tensor = Proto::default().number(1, kind as i64).message(2, dims);
    Proto::default().text(1, name).message(2, Proto::default().message(1, tensor))
}

/// The tones that the models know, in Hz, one for each piece after the blank.
pub(crate) const TONES: [f64; 4] = [400.0, 900.0, 1_700.0, 2_900.0];
/// Mel bands in the features.
const BANDS: usize = 80;

/// The band that a frequency lies in, by the formula of Kaldi's filters.
fn band_of(hertz: f64, high: f64) -> usize {
    let mel = |f: f64| 1_127.0 * (1.0 + f / 700.0).ln();
    let step = (mel(high) - mel(20.0)) / 81.0;
    ((mel(hertz) - mel(20.0)) / step - 1.0).round() as usize
}

/// Weights that give each piece the loudness of its tone's band: column `first + n` is that of tone `n`.
fn weights(rows: usize, offset: usize, high: f64, pieces: usize, first: usize) -> Vec<f32> {
    let mut weights = vec![0.0; rows * pieces];
    for (n, tone) in TONES.iter().enumerate() {
        weights[(offset + band_of(*tone, high)) * pieces + first + n] = 1.0;
    }
    weights
}

/// What is taken off the loudness so that a tone lies some nats above the blank, which is 0, and other
/// bands and silence below. With samples from -1 to 1 that is nothing; with samples of 16 bits, and a
/// mean of 1 taken off, it is 20.
fn offsets(pieces: usize, first: usize, taken_off: f32) -> Vec<f32> {
    (0..pieces).map(|n| if (first..first + TONES.len()).contains(&n) { -taken_off } else { 0.0 }).collect()
}

const ANY: [Size; 3] = [Size::Any("N"), Size::Any("T"), Size::Is(BANDS)];

/// Takes one row in four, as the encoders of icefall do: `taken` of `x`, and `steps` of `x_lens`.
fn one_in_four(model: Onnx) -> Onnx {
    model
        .input("x", Kind::Float, &ANY)
        .input("x_lens", Kind::Int64, &[Size::Any("N")])
        .whole("from", &[1], &[0])
        .whole("to", &[1], &[i64::MAX])
        .whole("axis", &[1], &[1])
        .whole("every", &[1], &[4])
        .whole("more", &[1], &[3])
        .node("Slice", &["x", "from", "to", "axis", "every"], "taken", &[])
        .node("Add", &["x_lens", "more"], "rounded", &[])
        .node("Div", &["rounded", "every"], "steps", &[])
}

/// A Zipformer with CTC as icefall exports it: `x`, `x_lens` -> `log_probs`, `log_probs_len`.
pub(crate) fn ctc() -> Onnx {
    let pieces = TONES.len() + 1;
    one_in_four(Onnx::default())
        .floats("w", &[BANDS, pieces], &weights(BANDS, 0, 7_600.0, pieces, 1))
        .floats("b", &[pieces], &offsets(pieces, 1, 0.0))
        .node("MatMul", &["taken", "w"], "heard", &[])
        .node("Add", &["heard", "b"], "scores", &[])
        .node("LogSoftmax", &["scores"], "log_probs", &[("axis", 2)])
        .node("Identity", &["steps"], "log_probs_len", &[])
        .output("log_probs", Kind::Float, &[Size::Any("N"), Size::Any("T"), Size::Is(pieces)])
        .output("log_probs_len", Kind::Int64, &[Size::Any("N")])
        .meta("model_type", "zipformer2_ctc")
        .meta("version", "1")
}

pub(crate) const CTC_TOKENS: &str = "<blk> 0\n\u{2581}YES 1\n\u{2581}NO 2\nBODY 3\n\u{2581}MAY 4\n";

fn row(count: usize, value: f32) -> String {
    vec![value.to_string(); count].join(",")
}

/// SenseVoice as sherpa-onnx exports it: `x`, `x_length`, `language`, `text_norm` -> `logits`, four steps
/// for the marks first. The language's number is the piece that the first step says.
pub(crate) fn sense_voice() -> Onnx {
    // <unk>, four marks of languages, one of emotion, one of an event, one of the way of writing, tones.
    let (pieces, first) = (8 + TONES.len(), 8);
    let width = 7 * BANDS;
    // Four steps that say: the language asked for (set below), and pieces 5, 6, 7.
    let mut marks = vec![0.0f32; 3 * pieces];
    for (step, piece) in [5, 6, 7].into_iter().enumerate() {
        marks[step * pieces + piece] = 12.0;
    }
    // A row for each number of a language: the piece that is said for it.
    let mut languages = vec![0.0f32; 5 * pieces];
    for (language, piece) in [(0, 2), (1, 1), (2, 2), (3, 3), (4, 4)] {
        languages[language * pieces + piece] = 9.0;
    }
    Onnx::default()
        .input("x", Kind::Float, &[Size::Any("N"), Size::Any("T"), Size::Is(width)])
        .input("x_length", Kind::Int32, &[Size::Any("N")])
        .input("language", Kind::Int32, &[Size::Any("N")])
        .input("text_norm", Kind::Int32, &[Size::Any("N")])
        .floats("w", &[width, pieces], &weights(width, 3 * BANDS, 8_000.0, pieces, first))
        .floats("b", &[pieces], &offsets(pieces, first, 20.0))
        .floats("marks", &[1, 3, pieces], &marks)
        .floats("languages", &[5, pieces], &languages)
        .whole("behind", &[1], &[1])
        .node("MatMul", &["x", "w"], "heard", &[])
        .node("Add", &["heard", "b"], "scores", &[])
        .node("Gather", &["languages", "language"], "said", &[("axis", 0)])
        .node("Unsqueeze", &["said", "behind"], "first", &[])
        .node("Concat", &["first", "marks", "scores"], "logits", &[("axis", 1)])
        .output("logits", Kind::Float, &[Size::Any("N"), Size::Any("T"), Size::Is(pieces)])
        .meta("model_type", "sense_voice_ctc")
        .meta("vocab_size", &pieces.to_string())
        .meta("lfr_window_size", "7")
        .meta("lfr_window_shift", "6")
        .meta("normalize_samples", "0")
        .meta("neg_mean", &row(width, -1.0))
        .meta("inv_stddev", &row(width, 1.0))
        .meta("lang_auto", "0")
        .meta("lang_zh", "1")
        .meta("lang_en", "2")
        .meta("lang_ja", "3")
        .meta("lang_ko", "3")
        .meta("lang_yue", "4")
        .meta("with_itn", "14")
        .meta("without_itn", "15")
}

pub(crate) const SENSE_VOICE_TOKENS: &str = "<unk> 0\n<|zh|> 1\n<|en|> 2\n<|ja|> 3\n<|nospeech|> 4\n<|NEUTRAL|> 5\n\
    <|Speech|> 6\n<|woitn|> 7\n好 8\n的 9\n\u{2581}yes 10\n不 11\n";

/// Paraformer as sherpa-onnx exports it: `speech`, `speech_lengths` -> `logits`, `token_num`. It takes
/// one row in five (0.3 s) for a piece, where the real one finds by itself where pieces are.
pub(crate) fn paraformer() -> Onnx {
    let (pieces, first) = (3 + TONES.len(), 3);
    let width = 7 * BANDS;
    let mut end = offsets(pieces, first, 20.0);
    // Where no tone is heard, the text is over.
    end[2] = 0.5;
    Onnx::default()
        .input("speech", Kind::Float, &[Size::Any("N"), Size::Any("T"), Size::Is(width)])
        .input("speech_lengths", Kind::Int32, &[Size::Any("N")])
        .floats("w", &[width, pieces], &weights(width, 3 * BANDS, 8_000.0, pieces, first))
        .floats("b", &[pieces], &end)
        .whole("from", &[1], &[2])
        .whole("to", &[1], &[i64::MAX])
        .whole("axis", &[1], &[1])
        .whole("every", &[1], &[5])
        .whole("second", &[1], &[1])
        .node("Slice", &["speech", "from", "to", "axis", "every"], "taken", &[])
        .node("MatMul", &["taken", "w"], "heard", &[])
        .node("Add", &["heard", "b"], "logits", &[])
        .node("Shape", &["logits"], "shape", &[])
        .node("Gather", &["shape", "second"], "steps", &[("axis", 0)])
        .node("Cast", &["steps"], "token_num", &[("to", Kind::Int32 as i64)])
        .output("logits", Kind::Float, &[Size::Any("N"), Size::Any("L"), Size::Is(pieces)])
        .output("token_num", Kind::Int32, &[Size::Any("N")])
        .meta("model_type", "paraformer")
        .meta("vocab_size", &pieces.to_string())
        .meta("lfr_window_size", "7")
        .meta("lfr_window_shift", "6")
        .meta("neg_mean", &row(width, -1.0))
        .meta("inv_stddev", &row(width, 1.0))
}

pub(crate) const PARAFORMER_TOKENS: &str = "<blank> 0\n<s> 1\n</s> 2\n好 3\nye@@ 4\ns 5\n的 6\n";

/// Encoder, decoder and joiner of a Zipformer transducer as icefall exports them. The decoder lowers the
/// piece that was written last, so a tone that goes on is written once.
pub(crate) fn transducer() -> [Onnx; 3] {
    let pieces = TONES.len() + 1;
    let encoder = one_in_four(Onnx::default())
        .floats("w", &[BANDS, pieces], &weights(BANDS, 0, 7_600.0, pieces, 1))
        .floats("b", &[pieces], &offsets(pieces, 1, 0.0))
        .node("MatMul", &["taken", "w"], "heard", &[])
        .node("Add", &["heard", "b"], "encoder_out", &[])
        .node("Identity", &["steps"], "encoder_out_lens", &[])
        .output("encoder_out", Kind::Float, &[Size::Any("N"), Size::Any("T"), Size::Is(pieces)])
        .output("encoder_out_lens", Kind::Int64, &[Size::Any("N")])
        .meta("model_type", "zipformer2")
        .meta("version", "1");
    let mut lowered = vec![0.0f32; pieces * pieces];
    for piece in 1..pieces {
        lowered[piece * pieces + piece] = -100.0;
    }
    let decoder = Onnx::default()
        .input("y", Kind::Int64, &[Size::Any("N"), Size::Is(2)])
        .floats("lowered", &[pieces, pieces], &lowered)
        .whole("last", &[], &[1])
        .node("Gather", &["y", "last"], "newest", &[("axis", 1)])
        .node("Gather", &["lowered", "newest"], "decoder_out", &[("axis", 0)])
        .output("decoder_out", Kind::Float, &[Size::Any("N"), Size::Is(pieces)])
        .meta("context_size", "2")
        .meta("vocab_size", &pieces.to_string());
    let joiner = Onnx::default()
        .input("encoder_out", Kind::Float, &[Size::Any("N"), Size::Is(pieces)])
        .input("decoder_out", Kind::Float, &[Size::Any("N"), Size::Is(pieces)])
        .node("Add", &["encoder_out", "decoder_out"], "logit", &[])
        .output("logit", Kind::Float, &[Size::Any("N"), Size::Is(pieces)])
        .meta("joiner_dim", &pieces.to_string());
    [encoder, decoder, joiner]
}

pub(crate) const TRANSDUCER_TOKENS: &str = "<blk> 0\n\u{2581}yes 1\n\u{2581}no 2\nbody 3\n<unk> 4\n";

/// Tones (by their number; `None` is silence) one after the other, each so long, at 16 kHz.
pub(crate) fn sound(tones: &[Option<usize>], each_ms: usize) -> Vec<f32> {
    let samples = each_ms * 16;
    tones
        .iter()
        .flat_map(|tone| {
            (0..samples).map(move |n| match tone {
                Some(tone) => {
                    let t = n as f64 / 16_000.0;
                    // A soft beginning and end: a click sounds in every band.
                    let edge = (n.min(samples - 1 - n) as f64 / 160.0).min(1.0);
                    (0.4 * edge * (std::f64::consts::TAU * TONES[*tone] * t).sin()) as f32
                }
                None => 0.0,
            })
        })
        .collect()
}

/// Tells whether ONNX Runtime is there.
///
/// # Panics
/// When `TRUNKLINE_REQUIRE_MODELS` is 1 and it is missing.
pub(crate) fn has_runtime() -> bool {
    let library = trunkline_speech::ort_rt::library_in(&trunkline_speech::ort_rt::model_dir());
    if library.is_file() {
        return true;
    }
    println!("skipped: {} missing, run deploy/models", library.display());
    let required = std::env::var("TRUNKLINE_REQUIRE_MODELS").is_ok_and(|value| value == "1");
    assert!(!required, "{} is required and missing", library.display());
    false
}

/// Writes a model of each family into a folder and returns its files: `model.onnx` and `tokens.txt`, or
/// `encoder.onnx`, `decoder.onnx`, `joiner.onnx` and `tokens.txt`.
pub(crate) fn write(dir: &Path, family: &str) -> Vec<PathBuf> {
    std::fs::create_dir_all(dir).unwrap();
    let (models, tokens): (Vec<(&str, Onnx)>, &str) = match family {
        "ctc" => (vec![("model", ctc())], CTC_TOKENS),
        "sense_voice" => (vec![("model", sense_voice())], SENSE_VOICE_TOKENS),
        "paraformer" => (vec![("model", paraformer())], PARAFORMER_TOKENS),
        "transducer" => {
            let [encoder, decoder, joiner] = transducer();
            (vec![("encoder", encoder), ("decoder", decoder), ("joiner", joiner)], TRANSDUCER_TOKENS)
        }
        other => panic!("no such family: {other}"),
    };
    let mut files: Vec<PathBuf> =
        models.iter().map(|(name, model)| model.write(&dir.join(format!("{name}.onnx")))).collect();
    let table = dir.join("tokens.txt");
    std::fs::write(&table, tokens).unwrap();
    files.push(table);
    files
}
