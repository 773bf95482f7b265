//! A whole conversion, on a whisper small enough to be made up here.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::ct2::Ct2;
use super::{ConvertError, mel, q8, whisper};

const STATE: u32 = 64;
const VOCABULARY: &[u8] = "a\nĠthe\n<|endoftext|>\n<|en|>\n".as_bytes();

/// Puts a CTranslate2 file together.
struct Maker {
    tensors: Vec<u8>,
    count: u32,
}

impl Maker {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u16 + 1).to_le_bytes());
        out.extend(text.bytes());
        out.push(0);
    }

    fn add(&mut self, name: &str, shape: &[u32], kind: u8, data: &[u8]) {
        Self::text(&mut self.tensors, name);
        self.tensors.push(shape.len() as u8);
        self.tensors.extend(shape.iter().flat_map(|d| d.to_le_bytes()));
        self.tensors.push(kind);
        self.tensors.extend((data.len() as u32).to_le_bytes());
        self.tensors.extend(data);
        self.count += 1;
    }

    fn floats(&mut self, name: &str, shape: &[u32]) {
        let numbers = numbers(name, shape.iter().product());
        let halves: Vec<u8> = numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
        self.add(name, shape, 4, &halves);
    }

    fn linear(&mut self, name: &str, rows: u32, columns: u32) {
        self.floats(&format!("{name}/weight"), &[rows, columns]);
        self.floats(&format!("{name}/bias"), &[rows]);
    }

    fn norm(&mut self, name: &str) {
        self.floats(&format!("{name}/gamma"), &[STATE]);
        self.floats(&format!("{name}/beta"), &[STATE]);
    }

    fn finish(self, version: u32, spec: &str) -> Vec<u8> {
        let mut out = version.to_le_bytes().to_vec();
        Self::text(&mut out, spec);
        out.extend(3_u32.to_le_bytes());
        out.extend(self.count.to_le_bytes());
        out.extend(self.tensors);
        out.extend(1_u32.to_le_bytes());
        Self::text(&mut out, "decoder/projection/weight");
        Self::text(&mut out, "decoder/embeddings/weight");
        out
    }
}

/// Numbers that halves hold exactly and that differ between tensors.
fn numbers(name: &str, count: u32) -> Vec<f32> {
    let seed = name.bytes().fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    (0..count).map(|i| ((seed.wrapping_add(i * 37) % 255) as f32 - 127.0) / 64.0).collect()
}

fn whisper_file() -> Maker {
    let mut m = Maker { tensors: Vec::new(), count: 0 };
    for side in ["encoder", "decoder"] {
        m.add(&format!("{side}/num_heads"), &[], 2, &2_i16.to_le_bytes());
        m.floats(&format!("{side}/position_encodings/encodings"), &[6, STATE]);
        m.norm(&format!("{side}/layer_norm"));
        let layer = format!("{side}/layer_0");
        m.linear(&format!("{layer}/self_attention/linear_0"), 3 * STATE, STATE);
        m.linear(&format!("{layer}/self_attention/linear_1"), STATE, STATE);
        m.norm(&format!("{layer}/self_attention/layer_norm"));
        m.linear(&format!("{layer}/ffn/linear_0"), 2 * STATE, STATE);
        m.linear(&format!("{layer}/ffn/linear_1"), STATE, 2 * STATE);
        m.norm(&format!("{layer}/ffn/layer_norm"));
    }
    let layer = "decoder/layer_0/attention";
    m.linear(&format!("{layer}/linear_0"), STATE, STATE);
    m.linear(&format!("{layer}/linear_1"), 2 * STATE, STATE);
    m.linear(&format!("{layer}/linear_2"), STATE, STATE);
    m.norm(&format!("{layer}/layer_norm"));
    m.floats("encoder/conv1/weight", &[STATE, 80, 3]);
    m.floats("encoder/conv1/bias", &[STATE]);
    m.floats("encoder/conv2/weight", &[STATE, STATE, 3]);
    m.floats("encoder/conv2/bias", &[STATE]);
    m.floats("decoder/embeddings/weight", &[5, STATE]);
    m
}

/// What a ggml file holds.
struct Ggml {
    sizes: Vec<u32>,
    mel: Vec<f32>,
    tokens: Vec<Vec<u8>>,
    /// By name: dimensions as written, type, data.
    tensors: BTreeMap<String, (Vec<u32>, u32, Vec<u8>)>,
}

fn read_ggml(mut bytes: &[u8]) -> Ggml {
    fn take<'a>(bytes: &mut &'a [u8], n: u32) -> &'a [u8] {
        let (head, tail) = bytes.split_at(n as usize);
        *bytes = tail;
        head
    }
    fn u32(bytes: &mut &[u8]) -> u32 {
        u32::from_le_bytes(take(bytes, 4).try_into().unwrap())
    }
    assert_eq!(u32(&mut bytes), 0x6767_6d6c);
    let sizes = (0..11).map(|_| u32(&mut bytes)).collect();
    assert_eq!((u32(&mut bytes), u32(&mut bytes)), (80, 201));
    let mel =
        take(&mut bytes, 80 * 201 * 4).chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
    let count = u32(&mut bytes);
    let tokens = (0..count)
        .map(|_| {
            let len = u32(&mut bytes);
            take(&mut bytes, len).to_vec()
        })
        .collect();
    let mut tensors = BTreeMap::new();
    while !bytes.is_empty() {
        let (rank, len, kind) = (u32(&mut bytes), u32(&mut bytes), u32(&mut bytes));
        let dims: Vec<u32> = (0..rank).map(|_| u32(&mut bytes)).collect();
        let name = String::from_utf8(take(&mut bytes, len).to_vec()).unwrap();
        let numbers: u32 = dims.iter().product();
        let size = match kind {
            0 => numbers * 4,
            1 => numbers * 2,
            8 => numbers / 32 * 34,
            other => panic!("tensor type {other}"),
        };
        let data = take(&mut bytes, size).to_vec();
        assert!(tensors.insert(name, (dims, kind, data)).is_none());
    }
    Ggml { sizes, mel, tokens, tensors }
}

fn q8(numbers: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    q8::quantise(numbers, &mut out);
    out
}

fn le(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn a_tiny_whisper_arrives_whole() {
    let ggml =
        read_ggml(&whisper::to_ggml_q8_0(&whisper_file().finish(6, "WhisperSpec"), VOCABULARY).unwrap());

    assert_eq!(ggml.sizes, [5, 6, 64, 2, 1, 6, 64, 2, 1, 80, 2_007]);
    assert_eq!(ggml.mel, mel::filters());
    assert_eq!(ggml.tokens, [b"a".to_vec(), b" the".to_vec()]);
    // 15 tensors per encoder layer, 24 per decoder layer, and what is not in a layer.
    assert_eq!(ggml.tensors.len(), 15 + 24 + 2 + 4 + 1 + 4);
    let n = STATE as usize;

    let fused = numbers("encoder/layer_0/self_attention/linear_0/weight", 3 * STATE * STATE);
    for (part, name) in ["query", "key", "value"].into_iter().enumerate() {
        let want = q8(&fused[part * n * n..(part + 1) * n * n]);
        assert_eq!(ggml.tensors[&format!("encoder.blocks.0.attn.{name}.weight")], (vec![64, 64], 8, want));
    }
    let bias = numbers("encoder/layer_0/self_attention/linear_0/bias", 3 * STATE);
    assert_eq!(ggml.tensors["encoder.blocks.0.attn.value.bias"], (vec![64], 0, le(&bias[2 * n..])));
    assert!(!ggml.tensors.contains_key("encoder.blocks.0.attn.key.bias"));

    let fused = numbers("decoder/layer_0/attention/linear_1/weight", 2 * STATE * STATE);
    assert_eq!(
        ggml.tensors["decoder.blocks.0.cross_attn.value.weight"],
        (vec![64, 64], 8, q8(&fused[n * n..]))
    );
    assert!(!ggml.tensors.contains_key("decoder.blocks.0.cross_attn.key.bias"));

    let wide = numbers("decoder/layer_0/ffn/linear_0/weight", 2 * STATE * STATE);
    assert_eq!(ggml.tensors["decoder.blocks.0.mlp.0.weight"], (vec![64, 128], 8, q8(&wide)));
}

#[test]
fn convolutions_positions_and_norms_keep_their_precision() {
    let ggml =
        read_ggml(&whisper::to_ggml_q8_0(&whisper_file().finish(6, "WhisperSpec"), VOCABULARY).unwrap());

    let (dims, kind, _) = &ggml.tensors["encoder.conv1.weight"];
    assert_eq!((dims.as_slice(), *kind), ([3, 80, 64].as_slice(), 1));
    let bias = le(&numbers("encoder/conv2/bias", STATE));
    assert_eq!(ggml.tensors["encoder.conv2.bias"], (vec![1, 64], 0, bias));
    let positions = le(&numbers("decoder/position_encodings/encodings", 6 * STATE));
    assert_eq!(ggml.tensors["decoder.positional_embedding"], (vec![64, 6], 0, positions));
    let gamma = le(&numbers("decoder/layer_norm/gamma", STATE));
    assert_eq!(ggml.tensors["decoder.ln.weight"], (vec![64], 0, gamma));
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let convert = |bytes: &[u8]| whisper::to_ggml_q8_0(bytes, VOCABULARY).unwrap_err();
    assert!(matches!(
        convert(&whisper_file().finish(5, "WhisperSpec")),
        ConvertError::Ct2Version { version: 5 }
    ));
    assert!(matches!(convert(&whisper_file().finish(6, "BertSpec")), ConvertError::NotWhisper { .. }));
    let empty = Maker { tensors: Vec::new(), count: 0 };
    assert!(matches!(convert(&empty.finish(6, "WhisperSpec")), ConvertError::NoTensor { .. }));
    let whole = whisper_file().finish(6, "WhisperSpec");
    assert!(matches!(convert(&whole[..whole.len() / 2]), ConvertError::Short { what: "tensor data", .. }));
    let mut lying = Maker { tensors: Vec::new(), count: 0 };
    lying.add("x", &[u32::MAX, u32::MAX, u32::MAX], 0, &[0; 8]);
    assert!(matches!(convert(&lying.finish(6, "WhisperSpec")), ConvertError::Shape { .. }));
    let long = "a\n".repeat(6) + "<|endoftext|>\n";
    let error = whisper::to_ggml_q8_0(&whole, long.as_bytes()).unwrap_err();
    assert!(matches!(error, ConvertError::Shape { what: "a vocabulary longer than the embedding" }));
}

proptest! {
    #[test]
    fn no_bytes_panic_the_reader_of_weights(bytes: Vec<u8>) {
        let _ = Ct2::parse(&bytes);
        let _ = whisper::to_ggml_q8_0(&bytes, VOCABULARY);
    }

    #[test]
    fn no_bytes_behind_a_good_start_panic_the_reader(tail: Vec<u8>, count in 0_u32..4) {
        let mut bytes = Maker { tensors: Vec::new(), count: 0 }.finish(6, "WhisperSpec");
        bytes.truncate(4 + 2 + 12 + 4);
        bytes.extend(count.to_le_bytes());
        bytes.extend(tail);
        let _ = Ct2::parse(&bytes);
    }

    #[test]
    fn no_bytes_panic_the_readers_of_words(bytes: Vec<u8>) {
        let _ = super::tokens::read(&bytes);
        let _ = super::lexicon::merge(&[bytes]);
    }
}

proptest! {
    // Each case converts a whole file.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_flipped_byte_never_panics_the_conversion(at in 0_usize..1_000_000, to: u8) {
        let mut bytes = whisper_file().finish(6, "WhisperSpec");
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = whisper::to_ggml_q8_0(&bytes, VOCABULARY);
    }

    #[test]
    fn a_broken_header_of_a_tensor_never_panics_the_conversion(at in 0_usize..400, to: u8) {
        let mut bytes = whisper_file().finish(6, "WhisperSpec");
        bytes[at] = to;
        let _ = whisper::to_ggml_q8_0(&bytes, VOCABULARY);
    }
}
