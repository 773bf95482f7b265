//! Writes the seeds of every target below a folder, and the targets' names to standard output.
//!
//! ```text
//! cargo run -p trunkline-fuzzing --example seeds -- target/fuzz/seeds
//! ```

use std::path::PathBuf;
use std::{env, fs, io};

use trunkline_fuzzing::TARGETS;

fn main() -> io::Result<()> {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("name the folder that the seeds are written to"));
    };
    for target in TARGETS {
        let folder = dir.join(target.name);
        fs::create_dir_all(&folder)?;
        for (n, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(n.to_string()), seed)?;
        }
        println!("{}", target.name);
    }
    Ok(())
}
