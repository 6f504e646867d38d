//! What every subcommand shares: flag groups, the console, opening a model, images to embeddings,
//! labels, results. Knows no subcommand.

pub(crate) mod advice;
pub(crate) mod calibration;
mod class_map;
pub(crate) mod console;
pub(crate) mod engine;
pub(crate) mod failures;
pub(crate) mod figures;
pub mod flags;
pub(crate) mod images;
pub(crate) mod labelling;
pub(crate) mod labels;
pub(crate) mod made_with;
pub(crate) mod parts;
pub(crate) mod pipeline;
pub(crate) mod recalls;
pub(crate) mod report;
pub(crate) mod results;
pub(crate) mod session;
pub(crate) mod texts;
pub(crate) mod trained;

use std::process::ExitCode;

pub use crate::file::exhaustion::{NotingAllocator, survive};
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
        ExitCode::from(self.status())
    }

    /// The same as a number.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Answered => 0,
            Self::SomeFailed => 1,
            Self::NoneRead => 2,
            Self::TryLater => 75,
            Self::Stopped(signal) => u8::try_from(128 + signal).unwrap_or(1),
        }
    }
}
