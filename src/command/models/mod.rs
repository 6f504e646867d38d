//! `longclip models`: lists, downloads, verifies and removes models.

mod list;
mod pull;
mod rm;
mod verify;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use super::{Console, Outcome};
use crate::checkpoint::hub;

const EXAMPLES: &str = "\
Examples:
  longclip models list
  longclip models pull longclip-l clip-vit-b-32
  cp \"$(longclip models path longclip-b)\" /mnt/usb/
  longclip models verify
  longclip models rm longclip-l

Downloads are stored in the hub's cache, which is shared with Python tools: HF_HUB_CACHE, or hub
inside HF_HOME, else ~/.cache/huggingface/hub.

Exit status: 0 success, 1 some models failed or a file is damaged, 2 all failed, 75 temporary
failure, try again.";

/// The arguments of `longclip models`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

/// The subcommands of `longclip models`.
#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// List known models, and those on this machine
    List(list::ListArgs),
    /// Download models for offline use
    Pull(pull::PullArgs),
    /// Print the paths of a model's weights, without using the network
    Path(pull::PathArgs),
    /// Remove downloaded models from the cache
    Rm(rm::RmArgs),
    /// Verify downloaded files against the hub's hashes
    Verify(verify::VerifyArgs),
}

/// The output formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// Aligned columns
    Table,
    /// One JSON array
    Json,
}

impl ReportFormat {
    /// The format given, else a table on a terminal and JSON elsewhere.
    fn chosen(typed: Option<Self>) -> Self {
        let by_destination = if std::io::stdout().is_terminal() {
            Self::Table
        } else {
            Self::Json
        };
        typed.unwrap_or(by_destination)
    }
}

/// Runs a subcommand.
///
/// # Errors
/// When it cannot run at all, or the only model fails.
pub fn run(args: ModelsArgs, console: &Console) -> Result<Outcome> {
    let settings = hub::Settings::from_env();
    match args.command {
        ModelsCommand::List(args) => list::run(&args, &settings),
        ModelsCommand::Pull(args) => pull::run(&args, &settings, console),
        ModelsCommand::Path(args) => pull::print_path(&args, &settings),
        ModelsCommand::Rm(args) => rm::run(&args, &settings, console),
        ModelsCommand::Verify(args) => verify::run(&args, &settings, console),
    }
}

/// Counts of models that succeeded and failed.
#[derive(Default)]
struct Tally {
    done: usize,
    failed: usize,
    worth_retrying: bool,
}

impl Tally {
    /// Counts one model; reports an error on stderr.
    fn add(&mut self, name: &str, outcome: Result<()>, console: &Console) {
        match outcome {
            Ok(()) => self.done += 1,
            Err(error) => {
                self.failed += 1;
                self.worth_retrying |= hub::is_worth_retrying(&error);
                console.failed(name, &format!("{error:#}"));
            }
        }
    }

    fn outcome(&self) -> Outcome {
        match (self.done, self.failed) {
            (_, 0) => Outcome::Answered,
            (0, _) if self.worth_retrying => Outcome::TryLater,
            (0, _) => Outcome::NoneRead,
            _ => Outcome::SomeFailed,
        }
    }
}

/// Runs `one` on each model and prints the results. The error of a single model is that of the run;
/// errors of several are reported, and the other models are still tried.
fn each(
    names: &[String],
    console: &Console,
    mut act: impl FnMut(&str) -> Result<Vec<u8>>,
) -> Result<Outcome> {
    if let [name] = names {
        print(&act(name)?)?;
        return Ok(Outcome::Answered);
    }
    let mut tally = Tally::default();
    for name in names {
        let printed = act(name);
        if let Ok(bytes) = &printed {
            print(bytes)?;
        }
        tally.add(name, printed.map(drop), console);
    }
    Ok(tally.outcome())
}

/// Writes results to stdout and flushes.
fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// Paths, one per line, byte for byte.
fn lines<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<u8> {
    let mut lines = Vec::new();
    for path in paths {
        lines.extend_from_slice(path.as_os_str().as_encoded_bytes());
        lines.push(b'\n');
    }
    lines
}

/// A size such as `599 MB`: three significant digits, powers of 1000.
fn size(bytes: u64) -> String {
    let mut amount = bytes as f64;
    let mut unit = "bytes";
    for larger in ["kB", "MB", "GB", "TB"] {
        if amount < 999.5 {
            break;
        }
        amount /= 1000.0;
        unit = larger;
    }
    let digits = match amount {
        _ if unit == "bytes" => 0,
        small if small < 9.995 => 2,
        small if small < 99.95 => 1,
        _ => 0,
    };
    format!("{amount:.digits$} {unit}")
}

/// A name quoted for a shell if needed.
fn typed(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:".contains(c);
    if name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("{name:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_digits() {
        let cases = [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (599_000_000, "599 MB"),
            (999_600_000, "1.00 GB"),
            (1_712_000_000, "1.71 GB"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(size(bytes), expected, "{bytes}");
        }
    }

    #[test]
    fn the_exit_status_depends_on_all_outcomes() {
        let cases = [
            (2, 0, false, Outcome::Answered),
            (0, 0, false, Outcome::Answered),
            (1, 1, true, Outcome::SomeFailed),
            (0, 2, false, Outcome::NoneRead),
            (0, 2, true, Outcome::TryLater),
        ];
        for (done, failed, worth_retrying, expected) in cases {
            let tally = Tally {
                done,
                failed,
                worth_retrying,
            };
            assert_eq!(tally.outcome(), expected, "{done} {failed}");
        }
    }
}
