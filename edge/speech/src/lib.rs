//! What the box says and hears: recogniser, synthesiser, voice activity and end of turn.
//!
//! - [`recognise`]: sound to text.
//! - [`bundle`]: models of the recogniser with versions of their own.
//! - [`synth`]: text to sound, and the store of rendered prompts.
//! - [`vad`], [`turn`]: who speaks now, and has the caller finished.
//! - [`prosody`]: how the caller speaks, against how the caller spoke before.
//! - [`ort_rt`]: the ONNX Runtime library that several of them share.
//!
//! Models are read from one folder ([`ort_rt::model_dir`]) and are never fetched from here. Sound
//! devices, RTP and the conversation are absent on purpose: they belong to `edge/agent`.

pub mod bundle;
pub mod ear;
pub mod openmp;
pub mod ort_rt;
pub mod prosody;
pub mod recognise;
pub mod synth;
pub mod turn;
pub mod vad;
