//! What a user can ask for: one file is one subcommand, its flags and its `run`.

mod advice;
pub mod bench;
pub mod calibrate;
mod calibration;
pub mod classify;
pub mod completions;
mod console;
pub mod convert;
pub mod embed;
pub mod evaluate;
pub mod finetune;
mod foreign;
mod images;
pub mod inspect;
mod labels;
mod made_with;
pub mod man;
pub mod models;
mod pipeline;
pub mod probe;
mod remembered;
mod report;
mod results;
pub mod search;
mod session;
pub mod sort;
mod texts;
pub mod tokens;
mod trained;

use std::io;
use std::process::ExitCode;

use crate::checkpoint::hub;
use crate::cli::{Cli, Command};
use crate::embedding::cache;
use crate::file::lock::Locked;
use crate::kernel;

pub use console::Console;

/// How a run that could run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every input was answered.
    Answered,
    /// Some inputs failed; the rest is written.
    SomeFailed,
    /// Not one input could be read.
    NoneRead,
    /// Nothing could be done, but another try may help.
    TryLater,
    /// A signal (by number) stopped it, after writing what was complete.
    Stopped(i32),
}

impl Outcome {
    /// The exit status of the process.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Answered => ExitCode::SUCCESS,
            Self::SomeFailed => ExitCode::from(1),
            Self::NoneRead => ExitCode::from(2),
            Self::TryLater => ExitCode::from(75),
            Self::Stopped(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        }
    }
}

/// Runs what the user asked for.
///
/// # Errors
/// When it cannot run: model, labels, output. Single inputs that fail are no error here.
pub fn run(cli: Cli, console: &Console) -> anyhow::Result<Outcome> {
    kernel::check_level().map_err(anyhow::Error::msg)?;
    match cli.command {
        Command::Classify(args) => classify::run(*args, console),
        Command::Embed(args) => embed::run(*args, console),
        Command::Search(args) => search::run(*args, console),
        Command::Probe(args) => probe::run(&args, console),
        Command::Evaluate(args) => evaluate::run(&args, console),
        Command::Calibrate(args) => calibrate::run(&args, console),
        Command::Finetune(args) => finetune::run(&args, console),
        Command::Inspect(args) => inspect::run(&args, console),
        Command::Convert(args) => convert::run(&args, console),
        Command::Stretch(args) => convert::run_stretch(&args, console),
        Command::Bench(args) => bench::run(*args, console),
        Command::Models(args) => models::run(args, console),
        Command::Tokens(args) => tokens::run(&args, console),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args, console),
        Command::Undo(args) => sort::run_undo(&args, console),
    }
}

/// The exit status of an error: 75 where another try may help, 0 where the reader of a pipe went
/// away, else 2.
#[must_use]
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    // First: a connection to the hub that broke is a broken pipe as well.
    let is_locked = || error.chain().any(|cause| cause.is::<Locked>());
    if hub::is_worth_retrying(error) || cache::is_worth_retrying(error) || is_locked() {
        return ExitCode::from(75);
    }
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    if causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_errors() {
        let cases = [
            (io::ErrorKind::BrokenPipe, 0),
            (io::ErrorKind::StorageFull, 75),
            (io::ErrorKind::QuotaExceeded, 75),
            (io::ErrorKind::PermissionDenied, 2),
        ];
        for (kind, code) in cases {
            let error = anyhow::Error::new(io::Error::from(kind)).context("cannot write");
            assert_eq!(exit_code_of(&error), ExitCode::from(code), "{kind}");
        }
        assert_eq!(
            exit_code_of(&anyhow::anyhow!("no labels")),
            ExitCode::from(2)
        );
    }
}
