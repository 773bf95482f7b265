//! A fleet on one machine: a cloud that boxes join, and boxes that are updated, as separate processes; one of them carries a
//! call meanwhile.

pub mod describe;
mod line;
mod stage;

pub use stage::{Account, FleetPlan, demonstrate, programs_beside, scripts_in, usual_dir};
