//! Whisper weights from CTranslate2 to the ggml file that whisper.cpp loads.
//!
//! ```text
//! u32 magic   i32 x 11 sizes and file type
//! i32 80  i32 201  f32[80 * 201]                       mel filters
//! i32 n   n x { i32 len  bytes }                       ordinary tokens
//! to the end: { i32 rank  i32 name_len  i32 type  i32 dims[rank]  name  data }
//! ```
//! Dimensions of tensors are innermost first. Kept in 32 bits: every 1-D tensor, the positions
//! and the convolution biases (2-D, `[n, 1]`). Kept in 16 bits: the convolutions. All other 2-D
//! tensors are quantised to q8_0.

use super::ConvertError;
use super::ct2::{Ct2, Tensor};
use super::{mel, q8, tokens};

const MAGIC: u32 = 0x6767_6d6c;
/// File type 7, plus 1000 times the version of the quantised layouts, which is 2.
const FTYPE_Q8_0: i32 = 2_007;
/// Each attention head of every whisper model is this wide.
const HEAD_WIDTH: u32 = 64;

/// How one tensor is written.
#[derive(Clone, Copy)]
enum As {
    F32,
    /// 32 bits, a vector written as `[n, 1]`.
    F32Column,
    F16,
    Q8,
}

impl As {
    fn code(self) -> i32 {
        match self {
            Self::F32 | Self::F32Column => 0,
            Self::F16 => 1,
            Self::Q8 => 8,
        }
    }
}

/// Converts a whole model, weights and vocabulary, and quantises it to q8_0.
///
/// # Errors
///
/// When `model` is no CTranslate2 whisper model with float weights and 80 mel bands, or
/// `vocabulary` does not belong to it.
pub fn to_ggml_q8_0(model: &[u8], vocabulary: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let ct2 = Ct2::parse(model)?;
    if ct2.spec != "WhisperSpec" {
        return Err(ConvertError::NotWhisper { spec: ct2.spec });
    }
    let tokens = tokens::read(vocabulary)?;
    let mut out = Writer { bytes: Vec::with_capacity(model.len() * 5 / 8) };
    header(&ct2, &tokens, &mut out)?;
    for side in ["encoder", "decoder"] {
        let name = format!("{side}.positional_embedding");
        out.tensor(&name, ct2.get(&format!("{side}/position_encodings/encodings"))?, As::F32)?;
        for layer in 0..ct2.layers(&format!("{side}/layer_")) {
            block(&ct2, side, layer, &mut out)?;
        }
    }
    for conv in ["conv1", "conv2"] {
        out.tensor(&format!("encoder.{conv}.weight"), ct2.get(&format!("encoder/{conv}/weight"))?, As::F16)?;
        out.tensor(
            &format!("encoder.{conv}.bias"),
            ct2.get(&format!("encoder/{conv}/bias"))?,
            As::F32Column,
        )?;
    }
    out.tensor("decoder.token_embedding.weight", ct2.get("decoder/embeddings/weight")?, As::Q8)?;
    out.norm("encoder.ln_post", &ct2, "encoder/layer_norm")?;
    out.norm("decoder.ln", &ct2, "decoder/layer_norm")?;
    Ok(out.bytes)
}

fn header(ct2: &Ct2<'_>, tokens: &[Vec<u8>], out: &mut Writer) -> Result<(), ConvertError> {
    let dims2 = |name: &str| match *ct2.get(name)?.shape() {
        [rows, columns] => Ok((rows, columns)),
        _ => Err(ConvertError::Shape { what: "a matrix that is none" }),
    };
    let (vocabulary, _) = dims2("decoder/embeddings/weight")?;
    let (audio_ctx, audio_state) = dims2("encoder/position_encodings/encodings")?;
    let (text_ctx, text_state) = dims2("decoder/position_encodings/encodings")?;
    if ct2.get("encoder/conv1/weight")?.shape() != [audio_state, mel::BANDS as u32, 3] {
        return Err(ConvertError::Shape { what: "a first convolution that does not read 80 mel bands" });
    }
    if tokens.len() as u64 > u64::from(vocabulary) {
        return Err(ConvertError::Shape { what: "a vocabulary longer than the embedding" });
    }
    let heads =
        |side: &str, state: u32| match ct2.get(&format!("{side}/num_heads")).ok().and_then(|t| t.scalar()) {
            Some(n) if n > 0 => n.cast_unsigned(),
            Some(_) | None => state / HEAD_WIDTH,
        };
    out.u32(MAGIC);
    for size in [
        vocabulary,
        audio_ctx,
        audio_state,
        heads("encoder", audio_state),
        ct2.layers("encoder/layer_"),
        text_ctx,
        text_state,
        heads("decoder", text_state),
        ct2.layers("decoder/layer_"),
        mel::BANDS as u32,
    ] {
        out.u32(size);
    }
    out.i32(FTYPE_Q8_0);
    out.u32(mel::BANDS as u32);
    out.u32(mel::BINS as u32);
    for weight in mel::filters() {
        out.bytes.extend(weight.to_le_bytes());
    }
    out.u32(tokens.len() as u32);
    for token in tokens {
        out.u32(token.len() as u32);
        out.bytes.extend(token);
    }
    Ok(())
}

/// Writes one transformer layer.
fn block(ct2: &Ct2<'_>, side: &str, layer: u32, out: &mut Writer) -> Result<(), ConvertError> {
    let from = format!("{side}/layer_{layer}");
    let to = format!("{side}.blocks.{layer}");
    // Query, key and value lie below each other. The key has no bias: the zeros stored are dropped.
    let fused = format!("{from}/self_attention/linear_0");
    out.split(
        ct2,
        &fused,
        3,
        &[("query", 0, true), ("key", 1, false), ("value", 2, true)],
        &format!("{to}.attn"),
    )?;
    out.linear(&format!("{to}.attn.out"), ct2, &format!("{from}/self_attention/linear_1"))?;
    out.norm(&format!("{to}.attn_ln"), ct2, &format!("{from}/self_attention/layer_norm"))?;
    if side == "decoder" {
        out.linear(&format!("{to}.cross_attn.query"), ct2, &format!("{from}/attention/linear_0"))?;
        let fused = format!("{from}/attention/linear_1");
        out.split(ct2, &fused, 2, &[("key", 0, false), ("value", 1, true)], &format!("{to}.cross_attn"))?;
        out.linear(&format!("{to}.cross_attn.out"), ct2, &format!("{from}/attention/linear_2"))?;
        out.norm(&format!("{to}.cross_attn_ln"), ct2, &format!("{from}/attention/layer_norm"))?;
    }
    out.linear(&format!("{to}.mlp.0"), ct2, &format!("{from}/ffn/linear_0"))?;
    out.linear(&format!("{to}.mlp.2"), ct2, &format!("{from}/ffn/linear_1"))?;
    out.norm(&format!("{to}.mlp_ln"), ct2, &format!("{from}/ffn/layer_norm"))
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes.extend(value.to_le_bytes());
    }

    fn norm(&mut self, to: &str, ct2: &Ct2<'_>, from: &str) -> Result<(), ConvertError> {
        self.tensor(&format!("{to}.weight"), ct2.get(&format!("{from}/gamma"))?, As::F32)?;
        self.tensor(&format!("{to}.bias"), ct2.get(&format!("{from}/beta"))?, As::F32)
    }

    fn linear(&mut self, to: &str, ct2: &Ct2<'_>, from: &str) -> Result<(), ConvertError> {
        self.tensor(&format!("{to}.weight"), ct2.get(&format!("{from}/weight"))?, As::Q8)?;
        self.tensor(&format!("{to}.bias"), ct2.get(&format!("{from}/bias"))?, As::F32)
    }

    /// Cuts a linear layer of `parts` equal parts into those named, with or without their bias.
    fn split(
        &mut self,
        ct2: &Ct2<'_>,
        from: &str,
        parts: u32,
        wanted: &[(&str, u32, bool)],
        to: &str,
    ) -> Result<(), ConvertError> {
        let (weight, bias) = (ct2.get(&format!("{from}/weight"))?, ct2.get(&format!("{from}/bias"))?);
        let total = weight.shape().first().copied().unwrap_or(0);
        if !total.is_multiple_of(parts) {
            return Err(ConvertError::Shape { what: "a fused layer that does not divide evenly" });
        }
        let rows = total / parts;
        for &(name, index, with_bias) in wanted {
            let (start, end) = (index * rows, (index + 1) * rows);
            self.tensor(&format!("{to}.{name}.weight"), weight.rows(start, end)?, As::Q8)?;
            if with_bias {
                self.tensor(&format!("{to}.{name}.bias"), bias.rows(start, end)?, As::F32)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, name: &str, tensor: Tensor<'_>, kind: As) -> Result<(), ConvertError> {
        let mut dims = tensor.shape().to_vec();
        if matches!(kind, As::F32Column) {
            dims.push(1);
        }
        self.u32(dims.len() as u32);
        self.u32(name.len() as u32);
        self.i32(kind.code());
        for &dim in dims.iter().rev() {
            self.u32(dim);
        }
        self.bytes.extend(name.bytes());
        let floats = tensor.floats()?;
        match kind {
            As::F32 | As::F32Column => self.bytes.extend(floats.iter().flat_map(|f| f.to_le_bytes())),
            As::F16 => {
                self.bytes.extend(floats.iter().flat_map(|&f| half::f16::from_f32(f).to_le_bytes()));
            }
            As::Q8 => {
                let columns = dims.last().copied().unwrap_or(0);
                if dims.len() != 2 || !columns.is_multiple_of(q8::BLOCK as u32) {
                    return Err(ConvertError::Shape { what: "a matrix whose rows are no multiple of 32" });
                }
                q8::quantise(&floats, &mut self.bytes);
            }
        }
        Ok(())
    }
}
