//! `trunkctl words`: word lists, without a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use trunkline_words::{Filter, Found, WordList};

#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  trunkctl words check lists/*.yaml\n  trunkctl words try --list lists/branch.yaml \"请微信转账给我。\"\n\n\
                  A list:\n  schema: trunkline/words/1\n  id: branch\n  entries:\n    - words: [微信转账, 私下]\n      side: robot          \
                  # robot, customer or both\n      severity: critical   # info, warn or critical\n      action: withhold     # note, replace (with: …) or withhold"
)]
pub(crate) enum Command {
    /// Says what is wrong with word lists, or how many words they have.
    Check {
        /// The lists.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Shows what becomes of a sentence.
    Try {
        /// The lists.
        #[arg(long = "list", required = true)]
        lists: Vec<PathBuf>,
        /// What is said.
        text: String,
    },
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Check { files } => {
            let lists = read(&files)?;
            Filter::new(&lists)?;
            for (file, list) in files.iter().zip(&lists) {
                let words: usize = list.entries.iter().map(|entry| entry.words.len()).sum();
                println!("{}: `{}`, {words} words", file.display(), list.id);
            }
        }
        Command::Try { lists, text } => {
            let filter = Filter::new(&read(&lists)?)?;
            let spoken = filter.speakable(&text);
            let left = if spoken.text.is_empty() { "(nothing)" } else { &spoken.text };
            println!("the robot says: {left}");
            print(&spoken.found, true);
            let heard = filter.heard(&text);
            println!("from a customer: {} noticed", heard.len());
            print(&heard, false);
        }
    }
    Ok(())
}

fn read(files: &[PathBuf]) -> Result<Vec<WordList>> {
    let one = |file: &Path| {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        WordList::from_yaml(&text).with_context(|| format!("{} is not a word list", file.display()))
    };
    let (mut lists, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        match one(file) {
            Ok(list) => lists.push(list),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    if !wrong.is_empty() {
        bail!("{}", wrong.join("\n"));
    }
    Ok(lists)
}

fn print(found: &[Found], acts: bool) {
    for one in found {
        let action = if acts { one.action.as_str() } else { "note" };
        println!("  `{}` of list `{}`: {}, {action}", one.word, one.list, one.severity.as_str());
    }
}
