//! What answered was no person.

use std::time::Instant;

use trunkline_dialogue::action::Event;
use trunkline_model::Disposition;

use super::{Call, Phase};

impl Call {
    /// A machine or a fax answered, and the box is set to hang up then. `evidence` says what it was known by.
    pub fn handle_machine(&mut self, now: Instant, evidence: String) {
        if self.phase != Phase::Talking || self.transfer.is_some() || self.disposition.is_some() {
            return;
        }
        self.cause = evidence;
        self.end_as(Disposition::Machine);
        self.outcome_of(now, &Event::HungUp);
        self.hang_up(now);
    }
}
