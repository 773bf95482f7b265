//! Runs the registries' own clients.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use super::error::{FetchError, io as io_error};
use crate::manifest::{Ecosystem, Package};

/// Wheels for a box: x86-64 Linux with a glibc of 2018 or newer, whatever this machine runs.
const PLATFORMS: [&str; 4] =
    ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"];
/// How often to look at a running client.
const LOOK: Duration = Duration::from_millis(100);
/// How much of a client's last words to show.
const LAST_LINES: usize = 12;

/// Which programs to call.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Ways to call pip, the first that exists is taken.
    pub pip: Vec<Vec<OsString>>,
    /// Ways to call npm.
    pub npm: Vec<Vec<OsString>>,
}

impl Default for Tools {
    fn default() -> Self {
        let words = |line: &str| line.split(' ').map(OsString::from).collect();
        Self {
            pip: ["pip", "pip3", "python3 -m pip"].into_iter().map(words).collect(),
            npm: vec![words("npm")],
        }
    }
}

impl Tools {
    /// Fetches the archive of `package` into the empty folder `into`; tells `grown` from time to
    /// time how many bytes lie there.
    pub(super) fn fetch(
        &self,
        package: &Package,
        into: &Path,
        grown: &mut dyn FnMut(u64),
    ) -> Result<(), FetchError> {
        // pip collects downloads where TMPDIR points: here they are on the disk whose room was
        // counted, they can be watched, and a killed run leaves them where the next one clears.
        let scratch = into.join("tmp");
        fs::create_dir_all(&scratch).map_err(io_error("make folder", &scratch))?;
        let log = into.join("log");
        let (ways, tool, remedy) = match package.ecosystem {
            Ecosystem::Pypi => (
                &self.pip,
                "pip",
                "install it (Debian: apt-get install python3-pip) or name it in TRUNKLINE_PIP",
            ),
            Ecosystem::Npm => {
                (&self.npm, "npm", "install it (Debian: apt-get install npm) or name it in TRUNKLINE_NPM")
            }
        };
        let missing = || FetchError::NoTool { tool, package: package.name.clone(), remedy };
        for way in ways {
            let Some((program, first)) = way.split_first() else { continue };
            let said = File::create(&log).map_err(io_error("write", &log))?;
            let mut command = Command::new(program);
            command.args(first);
            match package.ecosystem {
                Ecosystem::Pypi => pip_arguments(&mut command, package, into),
                Ecosystem::Npm => npm_arguments(&mut command, package, into),
            }
            command.env("TMPDIR", &scratch).current_dir(into);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
            let child = match command.spawn() {
                Ok(child) => child,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(FetchError::Io { doing: "start", path: program.into(), source }),
            };
            let status =
                wait(child, || grown(bytes_below(into))).map_err(io_error("wait for", Path::new(tool)))?;
            let said = last_lines(&fs::read(&log).unwrap_or_default());
            if said.contains("No module named pip") {
                continue;
            }
            return finished(&command, status, said, package, into);
        }
        Err(missing())
    }
}

fn finished(
    command: &Command,
    status: ExitStatus,
    said: String,
    package: &Package,
    into: &Path,
) -> Result<(), FetchError> {
    let command = written(command);
    if !status.success() {
        return Err(FetchError::Tool { command, status: status.to_string(), said });
    }
    if into.join(&package.archive).is_file() {
        return Ok(());
    }
    let names = fs::read_dir(into).map_err(io_error("list", into))?.flatten().map(|e| e.file_name());
    let found: Vec<String> =
        names.map(|n| n.to_string_lossy().into_owned()).filter(|n| n != "tmp" && n != "log").collect();
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    Err(FetchError::NotDelivered { command, archive: package.archive.clone(), found })
}

fn pip_arguments(command: &mut Command, package: &Package, into: &Path) {
    command.args(["download", "--no-deps", "--only-binary=:all:", "--implementation=cp"]);
    // Every answer would be kept a second time in pip's own cache.
    command.args([
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--quiet",
    ]);
    command.arg(format!("--python-version={}", package.python));
    command.args(PLATFORMS.map(|p| format!("--platform={p}")));
    command.arg("--dest").arg(into);
    command.arg(format!("{}=={}", package.name, package.version));
}

fn npm_arguments(command: &mut Command, package: &Package, into: &Path) {
    command.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(into);
    command.arg(format!("{}@{}", package.name, package.version));
}

fn wait(mut child: Child, mut look: impl FnMut()) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        look();
        thread::sleep(LOOK);
    }
}

/// Counts the bytes of all files below a folder; files that vanish meanwhile count nothing.
fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
            Ok(_) => entry.metadata().map_or(0, |m| m.len()),
            Err(_) => 0,
        })
        .sum()
}

fn written(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn last_lines(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
