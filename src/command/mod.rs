//! What a user can ask for: one file is one subcommand, its flags and its `run`.

pub mod bench;
pub mod classify;
mod console;
mod pipeline;
mod session;

use std::io;
use std::process::ExitCode;

use crate::checkpoint::hub::Unavailable;
use crate::cli::{Cli, Command};

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
            Self::Stopped(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
        }
    }
}

/// Runs what the user asked for.
///
/// # Errors
/// When it cannot run: model, labels, output. Single inputs that fail are no error here.
pub fn run(cli: Cli, console: &Console) -> anyhow::Result<Outcome> {
    match cli.command {
        Command::Classify(args) => classify::run(*args, console),
        Command::Bench(args) => bench::run(*args, console),
    }
}

/// The exit status of an error: 0 where the reader of a pipe went away, 75 where another try may
/// help, else 2.
#[must_use]
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    let kinds = || {
        error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .map(io::Error::kind)
    };
    if kinds().any(|kind| kind == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let retry = error.chain().any(|cause| cause.is::<Unavailable>())
        || kinds().any(|kind| kind == io::ErrorKind::StorageFull);
    ExitCode::from(if retry { 75 } else { 2 })
}
