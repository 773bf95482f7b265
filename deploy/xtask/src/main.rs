//! `cargo run -p xtask -- tidy`: the rules of the house that a machine can see.
//!
//! The compiler, clippy and rustfmt see the rest. Absent on purpose: building, testing and fetching,
//! which `deploy/demo` and `deploy/test` do.

mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "Chores of the house")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks manifests, texts and links of every tracked file; exits with 1 when one breaks a rule.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Tidy => tidy::run(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
