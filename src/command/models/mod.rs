//! `longclip models`: the models that have names, and the copies of them on this machine.

mod list;
mod pull;
mod rm;
mod verify;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use crate::checkpoint::hub;
use crate::run::{Console, Outcome};

const EXAMPLES: &str = "\
Examples:
  longclip models list
  longclip models pull longclip-l clip-vit-b-32
  cp \"$(longclip models path longclip-b)\" /mnt/usb/
  longclip models verify
  longclip models rm longclip-l

Downloads lie in the hub's cache, which Python's tools share: HF_HUB_CACHE, or hub below HF_HOME,
else ~/.cache/huggingface/hub.

Exit status: 0 done, 1 some models failed or a file is damaged, 2 all failed, 75 worth retrying.";

/// The arguments of `longclip models`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

/// What can be done with models.
#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Show which models have names, and which are on this machine
    List(list::ListArgs),
    /// Download models, so that later runs need no network
    Pull(pull::PullArgs),
    /// Print where a model's weights are; never uses the network
    Path(pull::PathArgs),
    /// Remove downloaded models from the cache
    Rm(rm::RmArgs),
    /// Compare downloaded files with the hashes that the hub stated for them
    Verify(verify::VerifyArgs),
}

/// The forms of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people.
    Table,
    /// One array.
    Json,
}

impl ReportFormat {
    /// What was asked for, else a table on a terminal and JSON elsewhere.
    fn chosen(typed: Option<Self>) -> Self {
        let by_destination = if std::io::stdout().is_terminal() {
            Self::Table
        } else {
            Self::Json
        };
        typed.unwrap_or(by_destination)
    }
}

/// Does what the user asked for with models.
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

/// What became of several models.
#[derive(Default)]
struct Tally {
    done: usize,
    failed: usize,
    worth_retrying: bool,
}

impl Tally {
    /// Counts one model; says on stderr why it failed.
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

/// Does the same with each model and prints what it gives. One model's error is the run's; of
/// several each is told, and the others are still tried.
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

/// Writes results to stdout and on to the reader.
fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

/// Paths, one a line, to the byte.
fn lines<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Vec<u8> {
    let mut lines = Vec::new();
    for path in paths {
        lines.extend_from_slice(path.as_os_str().as_encoded_bytes());
        lines.push(b'\n');
    }
    lines
}

/// `599 MB`: three digits that count, in powers of a thousand.
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

/// A name as it can be typed into a shell again.
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
    fn sizes_have_three_digits_that_count() {
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
    fn the_exit_status_follows_from_what_became_of_all() {
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
