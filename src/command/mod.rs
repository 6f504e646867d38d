//! The top-level parser, and the subcommands: each module has its flags and its `run`. They never
//! import each other; what two of them need is in [`crate::run`].

pub mod bench;
pub mod calibrate;
pub mod classify;
pub mod completions;
pub mod convert;
pub mod embed;
pub mod evaluate;
pub mod explain;
pub mod finetune;
pub mod inspect;
pub mod labels;
pub mod man;
pub mod merge;
pub mod models;
mod parse;
pub mod probe;
pub mod schema;
pub mod search;
pub mod shift;
mod short_help;
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
use explain::ExplainArgs;
use finetune::FinetuneArgs;
use inspect::InspectArgs;
use labels::LabelsArgs;
use man::ManArgs;
use merge::MergeArgs;
use models::ModelsArgs;
use probe::ProbeArgs;
use schema::SchemaArgs;
use search::SearchArgs;
use shift::ShiftArgs;
use tokens::TokensArgs;
use undo::UndoArgs;

pub use parse::{parse, report};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  longclip classify img.jpg --labels \"a cat jumping\" \"a cat sleeping\"
  longclip classify --help

Exit status: 0 success; 1 some inputs failed, or a limit such as --min-acc was missed; 2 could not
run; 75 temporary failure, try again (the hub is down, the disk is full or fails, another run has
the lock); 129, 130 or 143 stopped by a hangup, Ctrl-C or SIGTERM.";

/// Zero-shot image classification with CLIP and Long-CLIP.
#[derive(Debug, Parser)]
#[command(name = "longclip", version, styles = STYLES, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
    /// Messages on stderr.
    #[command(flatten)]
    pub console: ConsoleArgs,
}

/// The subcommands; each has its own module in `command`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Classify images by how well each label fits
    Classify(Box<ClassifyArgs>),
    /// Compute embeddings of images or texts and save them
    Embed(Box<EmbedArgs>),
    /// Encode labels once, for many runs of classify
    Labels(Box<LabelsArgs>),
    /// Search a file of embeddings by text or image
    Search(Box<SearchArgs>),
    /// Train a classifier on labelled images, few-shot or on a full dataset
    Probe(Box<ProbeArgs>),
    /// Measure accuracy or retrieval on a labelled dataset
    Evaluate(Box<EvaluateArgs>),
    /// Explain which words and regions a score comes from
    Explain(Box<ExplainArgs>),
    /// Calibrate probabilities by temperature scaling
    Calibrate(Box<CalibrateArgs>),
    /// Compare two sets of images: do they differ, and do the answers still hold
    Shift(Box<ShiftArgs>),
    /// Fine-tune a model on images with captions, as Long-CLIP does
    Finetune(Box<FinetuneArgs>),
    /// Join the parts that classify and embed write to a folder
    Merge(MergeArgs),
    /// Describe a weight file, or say why it does not load
    Inspect(Box<InspectArgs>),
    /// Convert a model for another library, or to one canonical file
    Convert(Box<ConvertArgs>),
    /// Extend a model's context by stretching its positional embeddings
    Stretch(Box<StretchArgs>),
    /// Measure a model's speed and memory use on this machine
    Bench(Box<BenchArgs>),
    /// List, download, verify and remove models
    Models(ModelsArgs),
    /// Show how texts are tokenised, and whether they fit a model's context
    Tokens(TokensArgs),
    /// Print a shell completion script
    Completions(CompletionsArgs),
    /// Print or write the manual pages
    Man(ManArgs),
    /// Print the JSON Schema of a record or file
    Schema(SchemaArgs),
    /// Undo classify --link, --copy, --move or --xmp
    Undo(UndoArgs),
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
        Command::Labels(args) => labels::run(&args, console),
        Command::Search(args) => search::run(*args, console),
        Command::Probe(args) => probe::run(&args, console),
        Command::Evaluate(args) => evaluate::run(&args, console),
        Command::Explain(args) => explain::run(&args, console),
        Command::Calibrate(args) => calibrate::run(&args, console),
        Command::Shift(args) => shift::run(&args, console),
        Command::Finetune(args) => finetune::run(&args, console),
        Command::Merge(args) => merge::run(&args, console),
        Command::Inspect(args) => inspect::run(&args, console),
        Command::Convert(args) => convert::run(&args, console),
        Command::Stretch(args) => convert::run_stretch(&args, console),
        Command::Bench(args) => bench::run(*args, console),
        Command::Models(args) => models::run(args, console),
        Command::Tokens(args) => tokens::run(&args, console),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args, console),
        Command::Schema(args) => schema::run(&args),
        Command::Undo(args) => undo::run(&args, console),
    }
}

/// The exit status of an error: 75 if retrying may help, 0 if the reader of a pipe went away, else
/// 2.
#[must_use]
pub fn exit_code_of(error: &anyhow::Error) -> ExitCode {
    // Checked first: a broken connection to the hub is also a broken pipe.
    let is_locked = || error.chain().any(|cause| cause.is::<Locked>());
    let lacks = |cause: &io::Error| {
        // Without memory or threads; their own message says so.
        matches!(
            cause.kind(),
            io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock
        )
    };
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref());
    let lacks_means = causes.any(lacks);
    if hub::is_worth_retrying(error)
        || cache::is_worth_retrying(error)
        || is_locked()
        || lacks_means
    {
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
            (io::ErrorKind::ReadOnlyFilesystem, 2),
            (io::ErrorKind::OutOfMemory, 75),
            (io::ErrorKind::WouldBlock, 75),
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
