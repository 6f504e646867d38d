//! The subcommands: each module has its flags and its `run`.

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

use crate::cache;
use crate::checkpoint::hub;
use crate::cli::{Cli, Command};
use crate::kernel;
use crate::output::embedding::journal::Locked;

pub use console::Console;

/// How a run ended, if it could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every input was answered.
    Answered,
    /// Some inputs failed; the rest is written.
    SomeFailed,
    /// No input could be read.
    NoneRead,
    /// Nothing was done, but retrying may help.
    TryLater,
    /// Stopped by this signal, after complete results were written.
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

/// Runs the subcommand.
///
/// # Errors
/// When it cannot run because of the model, labels or output. A failed input is not an error here.
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

/// The exit status of an error: 75 if retrying may help, 0 if the reader of a pipe went away, else
/// 2.
#[must_use]
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    // Checked first: a broken connection to the hub is also a broken pipe.
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
