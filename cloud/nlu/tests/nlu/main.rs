//! Understanding with the real model. One program: each file on its own would link all of it once more.

mod common;
mod heldout;

mod encoder;
mod understanding;
