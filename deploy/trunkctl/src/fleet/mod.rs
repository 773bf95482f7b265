//! A fleet on one machine: a cloud that boxes join, and boxes that are updated, as separate processes.

pub mod describe;
mod stage;

pub use stage::{Account, FleetPlan, demonstrate, programs_beside, scripts_in, usual_dir};
