//! `trunkctl call`: what the box kept of the signalling and the sound of its last calls.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use trunkctl::api::Api;
use trunkline_edge::{LinesFile, traces_dir};
use trunkline_trace::{Trace, find, ladder, list, mask, pcap};
use trunkline_wire::SuperviseWish;

use crate::boxes::{Cloud, block_on};

/// Works on the traces of calls, on the box itself.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Shows the signalling of a call as a ladder, with how its sound was; also of a call that goes on.
    ///
    /// Passwords, keys of encrypted sound and pressed keys were taken out before anything was kept. Telephone numbers
    /// and names are shown with --numbers only.
    #[command(after_help = "Examples:\n  trunkctl call trace 019a3f20 --config /etc/trunkline/edge.toml\n  \
                            trunkctl call trace 019a3f20 --box-dir /var/lib/trunkline --pcap call.pcap")]
    Trace {
        /// The call's id or its SIP Call-ID, or at least the first eight characters of either.
        id: String,
        #[command(flatten)]
        place: Place,
        /// Also write the messages as packets for Wireshark.
        #[arg(long, value_name = "FILE")]
        pcap: Option<PathBuf>,
        /// Show telephone numbers and names.
        #[arg(long)]
        numbers: bool,
    },
    /// Lists the calls that are kept, the oldest first.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Lets a supervisor's telephone ring and hear a call that goes on; nobody hears her.
    ///
    /// The box calls only whom its `[supervise]` names. Again with another of these commands changes who hears her; on
    /// her telephone the keys 4, 5 and 6 do so, too.
    #[command(
        after_help = "Example:\n  trunkctl call listen 019a3f20-6c7b-7cc1-9a55-0242ac120002 --to phone:203"
    )]
    Listen(Supervise),
    /// As listen; the person whom the customer was handed to hears her, and the customer does not.
    Whisper(Supervise),
    /// As listen; customer and person hear her.
    Barge(Supervise),
    /// Takes a supervisor off a call, which goes on.
    Leave(Supervise),
}

/// Which call a supervisor listens to, and which supervisor.
#[derive(Args)]
pub(crate) struct Supervise {
    #[command(flatten)]
    cloud: Cloud,
    /// The call's id.
    id: String,
    /// The supervisor, as the box's `[supervise]` names her; the first one there by default.
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
}

/// Where the box keeps its calls.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Place {
    /// The box's configuration.
    #[arg(long, short, value_name = "EDGE.TOML")]
    config: Option<PathBuf>,
    /// The box's folder, `data_dir` of its configuration.
    #[arg(long, value_name = "DIR")]
    box_dir: Option<PathBuf>,
}

impl Place {
    fn dir(&self) -> Result<PathBuf> {
        let dir = match (&self.config, &self.box_dir) {
            (Some(config), _) => LinesFile::load(config)?.traces_dir(),
            (None, Some(dir)) => traces_dir(dir),
            (None, None) => bail!("name --config or --box-dir"),
        };
        if !dir.is_dir() {
            bail!("{} is not there: the box has kept no call yet, or [trace] calls is 0", dir.display());
        }
        Ok(dir)
    }
}

pub(crate) fn run(command: Command) -> Result<()> {
    match command {
        Command::Listen(who) => supervise(&who, SuperviseWish::Listen)?,
        Command::Whisper(who) => supervise(&who, SuperviseWish::Whisper)?,
        Command::Barge(who) => supervise(&who, SuperviseWish::Barge)?,
        Command::Leave(who) => supervise(&who, SuperviseWish::Leave)?,
        Command::Trace { id, place, pcap, numbers } => {
            let dir = place.dir()?;
            let legs = find(&dir, &id).with_context(|| format!("cannot read {}", dir.display()))?;
            if legs.is_empty() {
                bail!("no call `{id}` in {}: `trunkctl call list` shows which there are", dir.display());
            }
            print!("{}", ladder::show(&legs, numbers));
            if let Some(path) = pcap {
                write_pcap(&path, &legs, numbers)?;
                println!("\nWritten to {}", path.display());
            }
        }
        Command::List { place } => {
            let dir = place.dir()?;
            for trace in list(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
                let begun = trace.begun().and_then(|at| Timestamp::from_microsecond(at).ok());
                let begun = begun.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
                let call = if trace.call.is_empty() { &trace.sip_call_id } else { &trace.call };
                let leg = if trace.leg.is_empty() { "call" } else { &trace.leg };
                println!("{begun}  {call}  {leg}  {}  {} messages", trace.trunk, trace.messages.len());
            }
        }
    }
    Ok(())
}

fn supervise(who: &Supervise, mode: SuperviseWish) -> Result<()> {
    let path = format!("/v1/calls/{}/supervise", who.id);
    let body = json!({ "mode": mode, "to": who.to });
    let told = block_on(async { Api::granted(who.cloud.connect()?.post(&path, &body).await?) })?;
    who.cloud.show(&told, |_| {
        format!("The box is told ({}). What becomes of it stands in the call's events.\n", mode.as_str())
    });
    Ok(())
}

/// Writes the messages where nobody else can read them: they say who called whom.
pub(crate) fn write_pcap(path: &PathBuf, legs: &[Trace], numbers: bool) -> Result<()> {
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    let show = |text: &str| if numbers { text.to_owned() } else { mask::numbers(text) };
    pcap::write(&mut BufWriter::new(file), legs, show)
        .with_context(|| format!("cannot write {}", path.display()))
}
