//! The command line: the top parser, and one file or folder per subcommand with its flags and its
//! `run`. Subcommands never import each other; what two of them need lives in [`crate::run`].

pub mod bench;
pub mod calibrate;
pub mod classify;
pub mod completions;
pub mod convert;
pub mod embed;
pub mod evaluate;
pub mod finetune;
pub mod inspect;
pub mod man;
pub mod models;
mod parse;
pub mod probe;
pub mod search;
pub mod tokens;
pub mod undo;

use std::io;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand};

use crate::checkpoint::hub;
use crate::embedding::cache;
use crate::file::lock::Locked;
use crate::kernel;
use crate::run::flags::ConsoleArgs;
use crate::run::{Console, Outcome};
use bench::BenchArgs;
use calibrate::CalibrateArgs;
use classify::ClassifyArgs;
use completions::CompletionsArgs;
use convert::{ConvertArgs, StretchArgs};
use embed::EmbedArgs;
use evaluate::EvaluateArgs;
use finetune::FinetuneArgs;
use inspect::InspectArgs;
use man::ManArgs;
use models::ModelsArgs;
use probe::ProbeArgs;
use search::SearchArgs;
use tokens::TokensArgs;
use undo::UndoArgs;

pub use parse::parse;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  longclip classify img.jpg --labels \"a cat jumping\" \"a cat sleeping\"
  longclip classify --help

Exit status: 0 every input was answered; 1 some inputs failed, or a gate was missed; 2 it could not run;
75 worth retrying (the hub is down, the disk is full); 130 or 143 stopped by a signal.";

/// Zero-shot image classification with CLIP and Long-CLIP.
#[derive(Debug, Parser)]
#[command(name = "longclip", version, styles = STYLES, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to say on stderr.
    #[command(flatten)]
    pub console: ConsoleArgs,
}

/// The subcommands, one file each in `command`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell which of some texts fits an image best
    Classify(Box<ClassifyArgs>),
    /// Keep the embeddings of images or texts in a file
    Embed(Box<EmbedArgs>),
    /// Find the images or texts of a file of embeddings that fit best
    Search(Box<SearchArgs>),
    /// Train a classifier on labelled images, a few of each class or many
    Probe(Box<ProbeArgs>),
    /// Tell how good a model and labels are on images with known answers
    Evaluate(Box<EvaluateArgs>),
    /// Fit a temperature, so that probabilities mean what they say
    Calibrate(Box<CalibrateArgs>),
    /// Train a model on images with captions, as Long-CLIP was
    Finetune(Box<FinetuneArgs>),
    /// Tell what a weight file is, and why it does not load if it does not
    Inspect(Box<InspectArgs>),
    /// Write a model for another program, or as one canonical file
    Convert(Box<ConvertArgs>),
    /// Make a model read longer texts: stretch its text positions
    Stretch(Box<StretchArgs>),
    /// Measure how fast this machine runs a model
    Bench(Box<BenchArgs>),
    /// List, download, check and remove models
    Models(ModelsArgs),
    /// Show how texts become tokens, and whether they fit a model
    Tokens(TokensArgs),
    /// Print what makes a shell complete this command line
    Completions(CompletionsArgs),
    /// Print or write the manual pages
    Man(ManArgs),
    /// Take back what classify --link, --copy or --move did
    Undo(UndoArgs),
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
        Command::Undo(args) => undo::run(&args, console),
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
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

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
