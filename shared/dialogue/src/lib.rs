//! Script format, linter and interpreter: one pure function that box and cloud share.
//!
//! A script is a YAML file (`trunkline/script/1`, [`document`]). [`Script::load`] reads it, resolves its
//! names, reads its guards and names it by the hash of its canonical form; [`lint()`] says what is wrong
//! with it, where, and what to do. [`start`] and [`step`] hold the conversation; its [`State`] is small
//! JSON that box and cloud hand to each other. [`testing`] runs the tests that a script holds. [`render()`]
//! writes the wording for those who must approve it, [`diff()`] compares two versions by node, and
//! [`import()`] makes a first script of a wording table.
//!
//! **Invariant:** no I/O, clock or randomness: the same script, state and event give the same step.
//! **Invariant:** no text panics the reader, no event or state the interpreter, and every call ends with
//! an outcome.
//!
//! Absent on purpose: understanding (`cloud/nlu`; it comes in as [`Heard`]), speech, and the way in
//! which numbers and dates are spoken (the synthesiser's).

pub mod action;
mod code;
mod compile;
mod diff;
pub mod document;
mod entities;
mod experiment;
mod expr;
mod graph;
mod import;
mod interp;
mod lint;
mod prompts;
mod render;
mod scalar;
mod script;
mod state;
mod summary;
pub mod testing;
mod vars;
mod wording;

pub use action::{
    Action, BargeIn, Endpoint, Entity, Event, Generate, Heard, Listen, Say, Step, Temper, Variables, Waiting,
};
pub use code::Code;
pub use diff::{Change, Field, What, diff};
pub use document::{Document, Voice};
pub use experiment::assign;
pub use graph::UNIVERSAL;
pub use import::{ImportError, Imported, import};
pub use interp::{expects, outcome_now, start, start_with_arms, step};
pub use lint::{Finding, PlainFinding, Severity, lint, lint_under};
pub use prompts::{goodbye, likely_prompts, next_prompts, prompts, to_screener, to_voicemail};
pub use render::{Spoken, render, spoken};
pub use scalar::{At, Pause, Pos};
pub use script::{LoadError, MAX_BYTES, Message, Script, schema};
pub use state::State;
pub use summary::summary;
pub use vars::VariableError;
