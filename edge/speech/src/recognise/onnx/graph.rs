//! A model file opened: its inputs and outputs checked against what its family has, its metadata read.

use std::path::{Path, PathBuf};

use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::{Outlet, Tensor, TensorElementType, TensorRef, ValueType};

use super::super::RecognizeError;
use super::OnnxError;
use crate::ort_rt::{SessionSettings, open_session};

/// What an input or output must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// What it is, for the error.
    pub(super) what: &'static str,
    pub(super) kind: Kind,
    /// Number of dimensions.
    pub(super) rank: usize,
    /// Size of the last dimension, where the model states one and it must fit.
    pub(super) last: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Float,
    Whole,
}

impl Wanted {
    pub(super) const fn float(what: &'static str, rank: usize) -> Self {
        Self { what, kind: Kind::Float, rank, last: None }
    }

    pub(super) const fn whole(what: &'static str, rank: usize) -> Self {
        Self { what, kind: Kind::Whole, rank, last: None }
    }

    pub(super) const fn of(self, last: usize) -> Self {
        Self { last: Some(last), ..self }
    }

    fn fits(&self, outlet: &Outlet) -> bool {
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else { return false };
        let kind = match self.kind {
            Kind::Float => *ty == TensorElementType::Float32,
            Kind::Whole => matches!(ty, TensorElementType::Int32 | TensorElementType::Int64),
        };
        // An exporter may leave the shape of an output open altogether.
        let rank = shape.is_empty() || shape.len() == self.rank;
        let last = shape.last().copied().filter(|size| *size > 0);
        let last = self.last.zip(last).is_none_or(|(wanted, last)| usize::try_from(last) == Ok(wanted));
        kind && rank && last
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Float => "float32",
            Kind::Whole => "int32 or int64",
        };
        write!(f, "{} ({kind}, {} dimensions", self.what, self.rank)?;
        match self.last {
            Some(last) => write!(f, ", the last of {last})"),
            None => f.write_str(")"),
        }
    }
}

/// An opened model file.
pub(super) struct Graph {
    session: Session,
    path: PathBuf,
}

impl Graph {
    pub(super) fn open(path: &Path, threads: usize) -> Result<Self, OnnxError> {
        // Sounds differ in length, so memory cannot be planned ahead by the first one.
        let settings = SessionSettings {
            intra_threads: threads.max(1),
            memory_pattern: false,
            ..SessionSettings::default()
        };
        Ok(Self { session: open_session(path, settings)?, path: path.to_owned() })
    }

    /// Checks that the model takes exactly these inputs, in this order, and gives at least these outputs.
    pub(super) fn check(&self, family: &str, inputs: &[Wanted], outputs: &[Wanted]) -> Result<(), OnnxError> {
        let taken = self.session.inputs();
        let given = self.session.outputs();
        let fit = |wanted: &[Wanted], found: &[Outlet]| wanted.iter().zip(found).all(|(w, f)| w.fits(f));
        if taken.len() == inputs.len()
            && fit(inputs, taken)
            && given.len() >= outputs.len()
            && fit(outputs, given)
        {
            return Ok(());
        }
        let hint = if taken.len() > inputs.len() + 2 {
            "; so many inputs are those of a streaming export, which is not supported"
        } else {
            ""
        };
        Err(OnnxError::Form {
            path: self.path.clone(),
            family: family.to_owned(),
            wanted: format!("{} -> {}", list(inputs), list(outputs)),
            found: format!("{} -> {}{hint}", outlets(taken), outlets(given)),
        })
    }

    pub(super) fn metadata(&self, key: &'static str) -> Option<String> {
        let metadata = self.session.metadata().ok()?;
        metadata.custom(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub(super) fn number(&self, key: &'static str) -> Result<Option<i64>, OnnxError> {
        let Some(text) = self.metadata(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| self.wrong(key, &text, "a whole number"))
    }

    pub(super) fn required(&self, key: &'static str) -> Result<i64, OnnxError> {
        self.number(key)?.ok_or_else(|| OnnxError::Metadata { path: self.path.clone(), key })
    }

    /// Reads numbers with commas between; exactly so many.
    pub(super) fn row(&self, key: &'static str, count: usize) -> Result<Vec<f32>, OnnxError> {
        let text = self.metadata(key).ok_or_else(|| OnnxError::Metadata { path: self.path.clone(), key })?;
        let row: Option<Vec<f32>> = text.split(',').map(|value| value.trim().parse().ok()).collect();
        match row {
            Some(row) if row.len() == count && row.iter().all(|value| value.is_finite()) => Ok(row),
            Some(row) => Err(self.wrong(key, &format!("{} numbers", row.len()), &format!("{count} of them"))),
            None => Err(self.wrong(key, text.get(..40).unwrap_or(&text), "numbers with commas between")),
        }
    }

    fn wrong(&self, key: &'static str, found: &str, wanted: &str) -> OnnxError {
        let (found, wanted) = (found.to_owned(), wanted.to_owned());
        OnnxError::MetadataValue { path: self.path.clone(), key, found, wanted }
    }

    /// Size of the last dimension of the first output, where the model states it.
    pub(super) fn pieces(&self) -> Option<usize> {
        let ValueType::Tensor { shape, .. } = self.session.outputs().first()?.dtype() else { return None };
        shape.last().copied().and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes whole numbers of the kind that the input at `position` takes.
    pub(super) fn whole(
        &self,
        position: usize,
        shape: Vec<usize>,
        values: &[i64],
    ) -> Result<SessionInputValue<'static>, RecognizeError> {
        let short = self.session.inputs().get(position).is_some_and(|input| {
            matches!(input.dtype(), ValueType::Tensor { ty: TensorElementType::Int32, .. })
        });
        if short {
            let values: Vec<i32> = values.iter().map(|v| i32::try_from(*v).unwrap_or(i32::MAX)).collect();
            Ok(Tensor::from_array((shape, values)).map_err(engine)?.into())
        } else {
            Ok(Tensor::from_array((shape, values.to_vec())).map_err(engine)?.into())
        }
    }

    pub(super) fn run(
        &mut self,
        inputs: &[SessionInputValue<'_>],
    ) -> Result<SessionOutputs<'_>, RecognizeError> {
        self.session.run::<0>(inputs).map_err(engine)
    }
}

/// Floats without a copy.
pub(super) fn floats(shape: Vec<usize>, data: &[f32]) -> Result<SessionInputValue<'_>, RecognizeError> {
    Ok(TensorRef::from_array_view((shape, data)).map_err(engine)?.into())
}

/// The sizes and numbers of a float output.
pub(super) fn floats_of<'a>(
    outputs: &'a SessionOutputs<'_>,
    position: usize,
) -> Result<(Vec<usize>, &'a [f32]), RecognizeError> {
    if position >= outputs.len() {
        return Err(RecognizeError::Engine(format!("the model gave no output {position}")));
    }
    let (shape, data) = outputs[position].try_extract_tensor::<f32>().map_err(engine)?;
    Ok((shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect(), data))
}

/// The first number of an output that counts something, of whatever kind it is.
pub(super) fn count_of(outputs: &SessionOutputs<'_>, position: usize) -> Option<usize> {
    if position >= outputs.len() {
        return None;
    }
    let value = &outputs[position];
    if let Ok((_, data)) = value.try_extract_tensor::<i64>() {
        return data.first().and_then(|n| usize::try_from(*n).ok());
    }
    if let Ok((_, data)) = value.try_extract_tensor::<i32>() {
        return data.first().and_then(|n| usize::try_from(*n).ok());
    }
    let (_, data) = value.try_extract_tensor::<f32>().ok()?;
    data.first().map(|n| n.max(0.0).round() as usize)
}

pub(super) fn engine(error: ort::Error) -> RecognizeError {
    RecognizeError::Engine(error.to_string())
}

fn list(wanted: &[Wanted]) -> String {
    wanted.iter().map(Wanted::to_string).collect::<Vec<_>>().join(", ")
}

fn outlets(found: &[Outlet]) -> String {
    let one = |outlet: &Outlet| format!("{}: {}", outlet.name(), outlet.dtype());
    const SHOWN: usize = 6;
    let mut all: Vec<String> = found.iter().take(SHOWN).map(one).collect();
    if found.len() > SHOWN {
        all.push(format!("and {} more", found.len() - SHOWN));
    }
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}
