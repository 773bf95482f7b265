//! `trunkctl line test`: proves a line on site, with the code that holds the calls, and prints a sheet.

mod judge;
mod measure;
mod sheet;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use trunkline_edge::LinesFile;
use trunkline_line::trunks::TrunkSetup;
use trunkline_sip::sdp::Codec;
use trunkline_trace::ladder;

use measure::{Line, Measured, Wanted};
use sheet::{Sheet, Verdict};

/// Works on the lines of a box.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tests the trunks of a box and prints a sheet: pass, warn, fail or not tested, and what to do.
    ///
    /// Asks each trunk by OPTIONS, registers, looks at its certificate, and, with --call, makes a call: it plays two
    /// sweeps and some keys, and measures both directions. Stop the box first where a trunk allows one registration.
    /// Exits with 1 when a line of the sheet fails.
    #[command(after_help = "Examples:\n  trunkctl line test --config /etc/trunkline/edge.toml\n  \
                  trunkctl line test -c edge.toml --trunk carrier-a --call 13800138000 --ask --lang zh\n  \
                  trunkctl line test -c edge.toml --call 4443 --echo --pcap test.pcap\n  \
                  trunkctl line test -c edge.toml --call 4443 --echo --find-profile")]
    Test(Options),
}

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// The box's configuration.
    #[arg(long, short, value_name = "EDGE.TOML")]
    config: PathBuf,
    /// What headquarters laid over it: `calls.json` in `data_dir` of box.toml.
    #[arg(long, value_name = "FILE")]
    with: Option<PathBuf>,
    /// Test this trunk only.
    #[arg(long, value_name = "NAME")]
    trunk: Option<String>,
    /// Call this number on each trunk: an echo service, or your own telephone.
    #[arg(long, value_name = "NUMBER")]
    call: Option<String>,
    /// The number is an echo service: it sends back what it hears.
    #[arg(long, requires = "call")]
    echo: bool,
    /// Somebody takes the call and answers questions: press 1-2-3, were the tones heard.
    #[arg(long, requires = "call", conflicts_with = "echo")]
    ask: bool,
    /// How long the call lasts at least, 1 to 120 s; reports of the far end take some 5 s.
    #[arg(long, default_value_t = 12, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// How long it may ring, 5 to 180 s.
    #[arg(long, default_value_t = 45, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(5..=180))]
    ring: u64,
    /// Try every codec by itself, in the clear and encrypted, one call each, and each way to press keys; print the
    /// lines for edge.toml.
    #[arg(long, requires = "call", conflicts_with = "ask")]
    find_profile: bool,
    /// The language of the sheet.
    #[arg(long, value_enum, default_value_t = Lang::En)]
    lang: Lang,
    /// Print JSON instead of the sheet.
    #[arg(long)]
    json: bool,
    /// Also print the signalling of the test call as a ladder, without numbers.
    #[arg(long, requires = "call", conflicts_with = "json")]
    ladder: bool,
    /// Write the signalling of the test calls as packets for Wireshark, without numbers.
    #[arg(long, value_name = "FILE", requires = "call")]
    pcap: Option<PathBuf>,
}

/// In which language the sheet is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// English.
    En,
    /// Chinese.
    Zh,
}

pub(crate) fn run(command: Command) -> ExitCode {
    let Command::Test(options) = command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("trunkctl: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(test(&options));
    // Somebody may still be asked a question.
    runtime.shutdown_background();
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("trunkctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether nothing failed.
async fn test(options: &Options) -> Result<bool> {
    let file = LinesFile::load_with(&options.config, options.with.as_deref())?;
    let mut setups = match &options.trunk {
        None => file.trunks.setups()?,
        Some(name) => match file.trunks.setup(name) {
            Some(setup) => vec![setup?],
            None => bail!("there is no trunk `{name}`; there are: {}", file.trunks.names().join(", ")),
        },
    };
    let wanted = Wanted {
        number: options.call.clone(),
        echo: options.echo,
        ask: options.ask,
        lasts: Duration::from_secs(options.seconds),
        ring: Duration::from_secs(options.ring),
        lang: options.lang,
        profile: options.find_profile,
    };
    let (mut sheets, mut legs, mut profiles) = (Vec::new(), Vec::new(), Vec::new());
    for setup in &mut setups {
        if !options.json {
            eprintln!("{}", words::testing(&setup.name, options.lang));
        }
        let name = setup.name.clone();
        let begun = Timestamp::now();
        let mut line = Line::open(setup.clone(), file.rtp_ports()).await.with_context(|| {
            format!("trunk `{name}`: {} cannot be bound; does the box run on the same port?", setup.bind)
        })?;
        let mut measured = line.reach().await;
        if options.find_profile {
            profiles.push(find_profile(&mut line, setup, &wanted, &mut measured).await);
        } else if wanted.number.is_some() {
            measured.call = Some(line.call(&wanted).await);
        }
        legs.extend(line.close().await?);
        sheets.push(Sheet { begun, rows: judge::rows(&measured, &wanted), measured });
    }
    if options.json {
        println!("{}", sheet::json(&sheets, &profiles));
    } else {
        for sheet in &sheets {
            print!("{}", sheet.show(options.lang));
        }
        for profile in &profiles {
            print!("{}", words::profile(profile, options.lang));
        }
        if options.ladder {
            print!("\n{}", ladder::show(&legs, false));
        }
    }
    if let Some(path) = &options.pcap {
        crate::call::write_pcap(path, &legs, false)?;
    }
    Ok(sheets.iter().all(|sheet| sheet.verdict() != Verdict::Fail))
}

/// What one codec came to.
struct Tried {
    codec: Codec,
    encrypted: bool,
    /// False when the trunk does not take it, or no sound came.
    works: bool,
    /// Why not, or how it sounded.
    told: String,
}

/// What `--find-profile` found for a trunk.
#[derive(Default)]
struct Profile {
    trunk: String,
    /// Whether the keys of encrypted sound are hidden on their way.
    tls: bool,
    tried: Vec<Tried>,
    /// Ways to press keys, as far as they were seen to work in a call that did.
    events: bool,
    info: bool,
    sound: bool,
}

impl Profile {
    fn works(&self, encrypted: bool) -> bool {
        self.tried.iter().any(|tried| tried.works && tried.encrypted == encrypted)
    }

    /// Returns what to say about encryption in `edge.toml`; off where the keys would travel in the clear, unless there
    /// is no sound without.
    fn encryption(&self) -> &'static str {
        match (self.works(false), self.works(true)) {
            (false, true) => "required",
            (true, true) if self.tls => "optional",
            (true | false, _) => "off",
        }
    }

    /// Returns the codecs that work with that.
    fn working(&self) -> impl Iterator<Item = &'static str> {
        let encrypted = self.encryption() == "required";
        let works = move |tried: &&Tried| tried.works && tried.encrypted == encrypted;
        self.tried.iter().filter(works).map(|tried| tried.codec.name())
    }

    /// Returns how keys are pressed best: telephone events are heard whatever else is said, INFO is at least answered,
    /// and sound goes everywhere that sound goes.
    fn keys(&self) -> &'static str {
        match (self.events, self.info) {
            (true, _) => "events",
            (false, true) => "info",
            (false, false) => "sound",
        }
    }
}

/// Calls once with each codec by itself, in the clear and encrypted; the call that sounds best goes into the sheet.
async fn find_profile(
    line: &mut Line,
    setup: &TrunkSetup,
    wanted: &Wanted,
    measured: &mut Measured,
) -> Profile {
    let tls = setup.tls.is_some();
    let mut profile = Profile { trunk: setup.name.clone(), tls, ..Profile::default() };
    for encrypted in [false, true] {
        for codec in [Codec::Pcma, Codec::Pcmu, Codec::G722, Codec::Opus] {
            line.offer_only(codec, encrypted);
            let call = line.call(wanted).await;
            let works = call.works() && call.encrypted == encrypted;
            if works {
                profile.events |= call.events_agreed;
                profile.info |= call.info_taken == Some(true);
                profile.sound |= call.sound_keys_back;
            }
            profile.tried.push(Tried { codec, encrypted, works, told: call.in_short(wanted.lang) });
            if measured.call.as_ref().is_none_or(|best| call.score() > best.score()) {
                measured.call = Some(call);
            }
        }
    }
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(tls: bool, works: &[(Codec, bool)]) -> Profile {
        let tried = [false, true].into_iter().flat_map(|encrypted| {
            [Codec::Pcma, Codec::Pcmu, Codec::G722, Codec::Opus].map(|codec| Tried {
                codec,
                encrypted,
                works: works.contains(&(codec, encrypted)),
                told: String::new(),
            })
        });
        Profile { tls, tried: tried.collect(), ..Profile::default() }
    }

    #[test]
    fn the_lines_for_the_file_follow_from_what_worked() {
        let both = [(Codec::Pcma, false), (Codec::Opus, false), (Codec::Pcma, true)];
        let of = |profile: &Profile| (profile.encryption(), profile.working().collect::<Vec<_>>());
        assert_eq!(of(&profile(true, &both)), ("optional", vec!["PCMA", "opus"]));
        assert_eq!(of(&profile(false, &both)), ("off", vec!["PCMA", "opus"]), "its keys would be seen");
        assert_eq!(of(&profile(true, &[(Codec::G722, true)])), ("required", vec!["G722"]));
        assert_eq!(of(&profile(true, &[])), ("off", vec![]));
    }

    #[test]
    fn keys_go_as_events_where_those_are_agreed_on_then_by_info_then_as_sound() {
        let keys = |events, info, sound| Profile { events, info, sound, ..Profile::default() }.keys();
        assert_eq!(keys(true, true, true), "events");
        assert_eq!(keys(false, true, true), "info");
        assert_eq!([keys(false, false, true), keys(false, false, false)], ["sound"; 2]);
    }
}
