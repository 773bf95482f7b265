//! When to stop in the middle of the work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::{RecognizeError, RecognizeOptions};

/// The cancellation and the deadline of one recognition.
pub(super) struct Stop<'a> {
    cancelled: &'a AtomicBool,
    deadline: Option<Instant>,
}

impl<'a> Stop<'a> {
    pub(super) fn new(options: &'a RecognizeOptions) -> Self {
        Self { cancelled: options.cancel.flag(), deadline: options.deadline }
    }

    /// Tells whether to go on.
    ///
    /// # Errors
    /// [`RecognizeError::Cancelled`] or [`RecognizeError::DeadlinePassed`].
    pub(super) fn check(&self) -> Result<(), RecognizeError> {
        if self.cancelled.load(Ordering::Acquire) {
            Err(RecognizeError::Cancelled)
        } else if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            Err(RecognizeError::DeadlinePassed)
        } else {
            Ok(())
        }
    }
}
