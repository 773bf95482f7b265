//! The binary `trunkline-cloud`: the API, the worker and the embedded broker in one process.
//!
//! Start-up checks everything that can be wrong before it listens: configuration, certificates,
//! tokens, scripts, models, the database. What is wrong is said with its remedy, and all ports are
//! bound before the line `ready …` goes to standard output.

mod acl;
mod broker;
mod config;
mod fleet;
mod limits;
mod mosquitto;
mod otlp;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  trunkline-cloud check --config cloud.toml   says what is wrong, without listening
  trunkline-cloud --config cloud.toml         serves until SIGTERM or Ctrl-C
  RUST_LOG=debug trunkline-cloud --config cloud.toml
  TRUNKLINE_LOG=json trunkline-cloud --config cloud.toml

A configuration:
  data_dir = \"data\"                # the database lives here; relative to this file
  [api]
  listen = \"127.0.0.1:8443\"
  cert = \"server.pem\"
  key = \"server.key\"
  client_ca = \"ca.pem\"             # who signs the boxes' certificates
  [mqtt]
  listen = \"127.0.0.1:8883\"
  cert = \"server.pem\"
  key = \"server.key\"
  client_ca = \"ca.pem\"
  [scripts]
  dir = \"scripts\"
  [tokens]
  file = \"tokens\"                  # mode 0600, lines: name sha256
  [callbacks]
  secret_file = \"callback.secret\"  # mode 0600: whsec_<base64>
  allow_private = false
  [fleet]                          # how boxes join and are updated
  ca_cert = \"fleet-ca.pem\"        # an intermediate; its root belongs into `client_ca`
  ca_key = \"fleet-ca.key\"         # mode 0600
  repo = \"repo\"                   # as `trunkctl release` writes it
  assign_key = \"assign\"           # mode 0600
  roles = { mei = \"branch\", li = \"fleet_admin\" }   # by the names of tokens
  [otlp]                           # the figures of /metrics, pushed to a collector of OpenTelemetry
  endpoint = \"https://collector.example:4318\"   # OTLP over HTTP
  ca = \"collector-ca.pem\"         # the system's authorities when left out
  token_file = \"collector.token\"  # mode 0600; none when left out
  period = \"60s\"
In the place of [mqtt], with `only_enrolled = true` in [fleet]:
  [mosquitto]                      # as `trunkline-cloud mosquitto` sets it up
  address = \"mqtt.example:8883\"
  ca = \"ca.pem\"
  cert = \"cloud.pem\"             # its common name is `cloud`
  key = \"cloud.key\"";

/// The cloud of Trunkline: gives calls to boxes, answers their turns, keeps their records.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Option<ConfigArg>,
}

#[derive(Subcommand)]
enum Command {
    /// Checks configuration, certificates, tokens, scripts and models, and stops.
    Check(ConfigArg),
    /// Writes the configuration of a Mosquitto that takes the embedded broker's place.
    Mosquitto(MosquittoArgs),
}

#[derive(Args)]
struct MosquittoArgs {
    /// Folder for it; Mosquitto writes there too.
    #[arg(long, default_value = "mosquitto")]
    dir: PathBuf,
    /// Where boxes connect.
    #[arg(long, default_value = "0.0.0.0:8883")]
    listen: SocketAddr,
    /// Mosquitto's certificate chain, PEM.
    #[arg(long)]
    cert: PathBuf,
    /// Its private key, PEM; Mosquitto's user must be able to read it.
    #[arg(long)]
    key: PathBuf,
    /// Who signs the certificates of boxes and of the cloud, PEM.
    #[arg(long)]
    client_ca: PathBuf,
    /// As whom it runs when root starts it.
    #[arg(long, default_value = "mosquitto")]
    user: String,
    /// Its plugin for rights, which comes with it.
    #[arg(long, default_value = "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so")]
    plugin: PathBuf,
}

#[derive(Args)]
struct ConfigArg {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "TRUNKLINE_CLOUD_CONFIG")]
    config: PathBuf,
}

fn write_mosquitto(args: MosquittoArgs) -> anyhow::Result<()> {
    let MosquittoArgs { dir, listen, cert, key, client_ca, user, plugin } = args;
    let conf = mosquitto::write(&mosquitto::Written { dir, listen, cert, key, client_ca, user, plugin })?;
    println!("{}", conf.display());
    println!(
        "Next: mosquitto -c {0}, and `[mosquitto]` in the place of `[mqtt]` in cloud.toml",
        conf.display()
    );
    Ok(())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    trunkline_telemetry::init("info,rmqtt=warn,rmqtt_net=warn,rmqtt_codec=warn,sqlx=warn,hyper=warn");
    let done = match (cli.command, cli.serve) {
        (Some(Command::Check(arg)), _) => serve::check(&arg.config),
        (Some(Command::Mosquitto(args)), _) => write_mosquitto(args),
        (None, Some(arg)) => serve::serve(&arg.config),
        (None, None) => {
            eprintln!("trunkline-cloud: say which configuration to use: --config FILE (see --help)");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trunkline-cloud: {error:#}");
            ExitCode::FAILURE
        }
    }
}
