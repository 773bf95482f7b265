//! `trunkctl receipts`: proves that the chain of the gate's decisions is whole.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use trunkctl::api::Api;
use trunkline_policy::receipt::{ReceiptError, Verifier};

/// Works on receipts.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Verifies a chain of receipts: every hash, every number, every byte.
    ///
    /// Prints the number of receipts and the hash of the last one. Keep that hash: with `--head` a later
    /// run also finds a chain that was cut short.
    Verify(Verify),
}

/// What to verify.
#[derive(Args)]
pub(crate) struct Verify {
    /// A file with one receipt per line, as `GET /v1/receipts` gives them.
    #[arg(required_unless_present = "url", conflicts_with = "url")]
    file: Option<PathBuf>,
    /// The cloud's address, such as https://127.0.0.1:8443.
    #[arg(long, requires_all = ["ca", "token_file"])]
    url: Option<String>,
    /// The authority that signed the cloud's certificate, PEM.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// A file with the token.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// The chain must contain a receipt with this hash.
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

pub(crate) fn run(command: Command) -> Result<()> {
    let Command::Verify(options) = command;
    let mut check = Check { verifier: Verifier::new(), wanted: options.head.clone() };
    match (&options.file, &options.url, &options.ca, &options.token_file) {
        (Some(file), ..) => check.file(file)?,
        (None, Some(url), Some(ca), Some(token)) => check.url(url, ca, token)?,
        _ => bail!("name a file, or --url with --ca and --token-file"),
    }
    if let Some(wanted) = &check.wanted {
        bail!("no receipt has the hash {wanted}: the chain was cut short, or is another one");
    }
    match check.verifier.head() {
        Some((count, hash)) => println!("ok: {count} receipts, head {hash}"),
        None => println!("ok: no receipts yet"),
    }
    Ok(())
}

struct Check {
    verifier: Verifier,
    /// The hash that has not been seen yet.
    wanted: Option<String>,
}

impl Check {
    fn line(&mut self, line: &str) -> Result<u64, ReceiptError> {
        let entry = self.verifier.push(line)?;
        if self.wanted.as_ref() == Some(&entry.hash) {
            self.wanted = None;
        }
        Ok(entry.seq)
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut reader = BufReader::new(file);
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).with_context(|| format!("cannot read {}", path.display()))? == 0 {
                return Ok(());
            }
            let whole = line.strip_suffix('\n').ok_or(ReceiptError::CutOff)?;
            self.line(whole).with_context(|| format!("{} does not verify", path.display()))?;
        }
    }

    fn url(&mut self, url: &str, ca: &Path, token: &Path) -> Result<()> {
        let token =
            std::fs::read_to_string(token).with_context(|| format!("cannot read {}", token.display()))?;
        let api = Api::new(url, ca, token.trim())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut after = 0;
            loop {
                let page = api.text(&format!("/v1/receipts?after={after}")).await?;
                if page.is_empty() {
                    return anyhow::Ok(());
                }
                let lines = page.strip_suffix('\n').ok_or(ReceiptError::CutOff)?;
                let before = after;
                for line in lines.split('\n') {
                    after = self.line(line).with_context(|| format!("{url} does not verify"))?;
                }
                ensure!(after > before, "{url} gives the same receipts again");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use trunkline_policy::receipt::GENESIS;

    use super::*;

    fn chain() -> String {
        // Two entries written by hand through the library, so that the format is the library's.
        let at = "2026-11-23T02:00:00Z".parse().unwrap();
        let decision = trunkline_policy::Decision {
            at,
            verdict: trunkline_policy::Verdict::Allow,
            packs: vec![],
            checks: vec![],
        };
        let body = trunkline_policy::receipt::Body {
            call: serde_json::from_str("\"00000000-0000-0000-0000-000000000001\"").unwrap(),
            stage: trunkline_policy::receipt::Stage::Request,
            inputs: trunkline_policy::receipt::Inputs::default(),
            decision,
            anchor: None,
        };
        let first = trunkline_policy::receipt::Entry::follow(None, &body, at).unwrap();
        let second = trunkline_policy::receipt::Entry::follow(Some((1, &first.hash)), &body, at).unwrap();
        assert_eq!(first.prev, GENESIS);
        format!("{}\n{}\n", first.line().unwrap(), second.line().unwrap())
    }

    fn verify(text: &str, head: Option<String>) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), text)?;
        let options =
            Verify { file: Some(file.path().to_owned()), url: None, ca: None, token_file: None, head };
        run(Command::Verify(options))
    }

    #[test]
    fn a_file_verifies_and_a_changed_cut_or_shortened_one_does_not() {
        let chain = chain();
        let last = chain.lines().last().unwrap();
        let head = last.split("\"hash\":\"").nth(1).unwrap()[..64].to_owned();
        verify(&chain, Some(head.clone())).unwrap();
        let error = verify(&chain.replacen("allow", "bllow", 1), None).unwrap_err();
        assert!(format!("{error:#}").contains("receipt 1 was changed"), "{error:#}");
        assert!(verify(chain.trim_end(), None).is_err());
        let short: String = chain.lines().take(1).map(|line| format!("{line}\n")).collect();
        verify(&short, None).unwrap();
        assert!(verify(&short, Some(head)).unwrap_err().to_string().contains("cut short"));
    }
}
