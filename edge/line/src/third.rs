//! A third ear on a call: a supervisor who listens, speaks to the person alone, or to everybody.
//!
//! She has a call of her own. The customer's endpoint holds one end of a [`Bridge`] to it and mixes: she hears customer
//! and robot or person, and what she says goes, by the [`SuperviseMode`], nowhere, to the person who is joined, or into
//! both directions. Nothing is changed for the person's endpoint, who hears what the customer's hands over.

use trunkline_audio::FRAME;

use crate::bridge::Bridge;

/// Who hears a supervisor. She always hears everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuperviseMode {
    /// Nobody.
    Listen,
    /// The person who is joined with the customer; nobody while the robot speaks.
    Whisper,
    /// Customer and person.
    Barge,
}

/// The supervisor as the customer's endpoint has her.
#[derive(Debug)]
pub(crate) struct Third {
    bridge: Box<Bridge>,
    pub(crate) mode: SuperviseMode,
    /// What she says in this frame.
    said: [i16; FRAME],
}

impl Third {
    pub(crate) fn new(bridge: Box<Bridge>, mode: SuperviseMode) -> Self {
        Self { bridge, mode, said: [0; FRAME] }
    }

    /// Takes what she says in the frame that begins.
    pub(crate) fn listen(&mut self) {
        self.said.fill(0);
        self.bridge.take(&mut self.said);
    }

    /// Returns what the person hears, who would hear `customer` alone.
    pub(crate) fn for_person(&self, customer: &[i16; FRAME]) -> [i16; FRAME] {
        let mut mixed = *customer;
        match self.mode {
            SuperviseMode::Listen => {}
            SuperviseMode::Whisper | SuperviseMode::Barge => add(&mut mixed, &self.said),
        }
        mixed
    }

    /// Hands over what was received of the customer and what she is about to be sent, and adds to the latter what she
    /// is to hear of the supervisor.
    pub(crate) fn mix(&mut self, customer: &[i16; FRAME], sent: &mut [i16; FRAME]) {
        let mut heard = *customer;
        add(&mut heard, sent);
        self.bridge.give(&heard);
        match self.mode {
            SuperviseMode::Listen | SuperviseMode::Whisper => {}
            SuperviseMode::Barge => add(sent, &self.said),
        }
    }
}

/// Adds one sound to another; where both are loud it clips, as a telephone does.
fn add(to: &mut [i16; FRAME], other: &[i16; FRAME]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to = to.saturating_add(*other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the person and the customer hear, and the supervisor, when these three say 1, 10 and 100 and the customer
    /// is sent what the person says.
    fn heard(mode: SuperviseMode) -> [i16; 3] {
        let (ours, mut hers) = Bridge::pair();
        let mut third = Third::new(ours, mode);
        hers.give(&[100; FRAME]);
        third.listen();
        let (customer, mut sent) = ([10; FRAME], [1; FRAME]);
        let person = third.for_person(&customer);
        third.mix(&customer, &mut sent);
        let mut supervisor = [0; FRAME];
        hers.take(&mut supervisor);
        [person[0], sent[0], supervisor[0]]
    }

    #[test]
    fn each_hears_whom_the_mode_lets_them_hear_and_nobody_hears_herself() {
        assert_eq!(heard(SuperviseMode::Listen), [10, 1, 11]);
        assert_eq!(heard(SuperviseMode::Whisper), [110, 1, 11]);
        assert_eq!(heard(SuperviseMode::Barge), [110, 101, 11]);
    }

    #[test]
    fn a_supervisor_who_says_nothing_more_is_not_heard_again_and_loud_ones_clip() {
        let (ours, mut hers) = Bridge::pair();
        let mut third = Third::new(ours, SuperviseMode::Barge);
        hers.give(&[30_000; FRAME]);
        third.listen();
        assert_eq!(third.for_person(&[30_000; FRAME])[0], i16::MAX);
        third.listen();
        assert_eq!(third.for_person(&[5; FRAME])[0], 5);
    }
}
