//! `longclip convert`: any checkpoint to one canonical file, or to what another library loads; and
//! `longclip stretch`, which makes its text positions reach further on the way.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::checkpoint::export::{FloatType, Options};
use crate::checkpoint::positions::{State, Stretch};
use crate::checkpoint::{Checkpoint, export, hub, metadata, positions, source, tiny};
use crate::file::digest;
use crate::run::flags::{LayoutName, StatedArgs};
use crate::run::{Console, Outcome};

/// What only `--help` and the manual page say.
const CONVERT_DETAILS: &str = r#"What is written:
  The stored numbers, to the last bit, unless --dtype rounds them; activation,
  context, preprocessing and the source's hash go into the header. Nothing is
  replaced without --force. What the other library would compute differently is
  refused.

See longclip help models for the files that are read."#;

const CONVERT_NOTES: &str = "\
Examples:
  longclip convert longclip-B.pt longclip-B.safetensors
  longclip convert longclip-B.pt longclip-B-half.safetensors --dtype f16
  longclip convert longclip-B.pt ./for-transformers --layout hf
  longclip convert ./my-checkpoint clip.pt --layout openai

Exit status: 0 written, 2 it could not be, and nothing is left; 75 worth retrying (the hub is down, the
disk is full).";

const STRETCH_NOTES: &str = "\
The first 20 positions stay, the others move 4 apart: 77 tokens become 248, as Long-CLIP does it before
it trains (arXiv 2403.15378). Without training, texts beyond the old context gain less than Long-CLIP's.

Examples:
  longclip stretch clip-vit-b-16 clip-b16-248.safetensors
  longclip classify img.jpg --model clip-b16-248.safetensors --labels-file long.txt

Exit status: 0 written, 2 it could not be, and nothing is left; 75 worth retrying (the hub is down, the
disk is full).";

/// The arguments of `longclip convert`.
#[derive(Debug, Args)]
#[command(after_help = CONVERT_NOTES, after_long_help = format!("{CONVERT_DETAILS}\n\n{CONVERT_NOTES}"))]
pub struct ConvertArgs {
    #[command(flatten)]
    files: FileArgs,
}

/// The arguments of `longclip stretch`.
#[derive(Debug, Args)]
#[command(after_help = STRETCH_NOTES)]
pub struct StretchArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Positions that stay where they are [default: 20]
    #[arg(long, value_name = "ROWS")]
    keep: Option<usize>,
    /// How far apart the others move [default: 4, or what --to takes]
    #[arg(long, value_name = "FACTOR")]
    ratio: Option<f64>,
    /// Positions of the result [default: what --keep and --ratio make, 248 for CLIP]
    #[arg(long, value_name = "ROWS")]
    to: Option<usize>,
    /// How new positions come from old ones
    #[arg(long, value_name = "NAME", default_value = "kps")]
    method: StretchMethod,
}

/// From where, to where, in which form.
#[derive(Debug, Args)]
struct FileArgs {
    /// As `--model` takes it.
    #[arg(help = "A file or folder, a model's name, or a repository OWNER/REPO[@REV][:FILE]")]
    #[arg(value_name = "IN")]
    input: String,
    /// One file if it ends in .safetensors or .pt, else a folder
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Whose tensor names and configuration files
    #[arg(long, value_name = "NAME", default_value = "hf")]
    layout: LayoutName,
    /// The type of every number [default: as stored]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<DtypeName>,
    /// What the files may not say.
    #[command(flatten)]
    stated: StatedArgs,
    /// Replace what is there
    #[arg(long)]
    force: bool,
}

/// The types of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DtypeName {
    F32,
    F16,
    Bf16,
}

/// The ways to stretch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StretchMethod {
    /// knowledge-preserving: the first positions stay
    Kps,
    /// all positions spread evenly, for comparison
    Linear,
}

/// Converts.
///
/// # Errors
/// When the input does not load, cannot be expressed in the layout, or the output cannot be written.
pub fn run(args: &ConvertArgs, console: &Console) -> Result<Outcome> {
    let (checkpoint, hashes) = args.files.open(console)?;
    args.files.write(&checkpoint, &hashes, console)
}

/// Stretches and converts.
///
/// # Errors
/// As [`run`], and when the numbers make no longer table.
pub fn run_stretch(args: &StretchArgs, console: &Console) -> Result<Outcome> {
    let (mut checkpoint, hashes) = args.files.open(console)?;
    let old = checkpoint.text_positions()?;
    if old.state() != State::Original {
        console.warn(&format!(
            "the text has {} positions, which look stretched already ({})",
            old.rows(),
            old.state()
        ));
    }
    let method = match args.method {
        StretchMethod::Kps => positions::Method::KnowledgePreserving,
        StretchMethod::Linear => positions::Method::Linear,
    };
    let stretch = Stretch::new(old.rows(), method, args.keep, args.ratio, args.to)?;
    let new = old.stretched(&stretch);
    console.note(&format!(
        "{} text positions became {}",
        old.rows(),
        new.rows()
    ));
    checkpoint.set_text_positions(new)?;
    args.files.write(&checkpoint, &hashes, console)
}

impl FileArgs {
    /// The input and the hashes of its weight files.
    fn open(&self, console: &Console) -> Result<(Checkpoint, Vec<String>)> {
        let settings = hub::Settings::from_env();
        let source = source::resolve(&self.input, &settings, console)?;
        let checkpoint = Checkpoint::load(&source, &self.stated.stated())?;
        for warning in &checkpoint.warnings {
            console.warn(warning);
        }
        let hashes = match &source {
            source::Source::BuiltIn => vec![tiny::sha256()],
            source::Source::Files(files) => digest::sha256_of(&files.weights)?,
        };
        Ok((checkpoint, hashes))
    }

    fn write(
        &self,
        checkpoint: &Checkpoint,
        hashes: &[String],
        console: &Console,
    ) -> Result<Outcome> {
        let options = Options {
            layout: self.layout.layout(),
            dtype: self.dtype.map(|dtype| match dtype {
                DtypeName::F32 => FloatType::F32,
                DtypeName::F16 => FloatType::F16,
                DtypeName::Bf16 => FloatType::Bf16,
            }),
            force: self.force,
        };
        let header = metadata::describe(checkpoint, hashes);
        let written = export::write(checkpoint, &header, &self.output, &options)?;
        for path in written {
            console.note(&format!("wrote {}", path.display()));
        }
        Ok(Outcome::Answered)
    }
}
