//! `longclip convert` writes a checkpoint as one canonical file or for another library; `longclip
//! stretch` also extends its text positions.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::checkpoint::export::{FloatType, Options};
use crate::checkpoint::positions::{State, Stretch};
use crate::checkpoint::{Checkpoint, export, metadata, positions, source, tiny};
use crate::file::digest;
use crate::run::flags::{HubArgs, LayoutName, StatedArgs};
use crate::run::{Console, Outcome};

/// What only `--help` and the manual page say.
const CONVERT_DETAILS: &str = r#"What is written:
  The stored numbers, to the last bit, unless --dtype rounds them; activation,
  context, preprocessing and the source's hash go into the header. Nothing is
  replaced without --force. What the other library would compute differently is
  refused. --layout diffusers writes the text tower alone: text_encoder, which
  CLIPTextModel and CLIPTextModelWithProjection read, and tokenizer, which pads
  with the end token up to the context (77 or 248).

See longclip help models for the files that are read."#;

const CONVERT_NOTES: &str = "\
Examples:
  longclip convert longclip-B.pt longclip-B.safetensors
  longclip convert longclip-B.pt longclip-B-half.safetensors --dtype f16
  longclip convert longclip-B.pt ./for-transformers --layout hf
  longclip convert ./my-checkpoint clip.pt --layout openai
  longclip convert longclip-L.pt ./for-sd --layout diffusers

Exit status: 0 success, 2 failed (no partial output is left), 75 temporary failure, try again (the
hub is down, the disk is full).";

const STRETCH_NOTES: &str = "\
The first 20 positions stay and the others are interpolated by a factor of 4, so that 77 tokens
become 248, as in Long-CLIP before training (arXiv 2403.15378). Without training, texts beyond the
old context gain less than with Long-CLIP.

Examples:
  longclip stretch clip-vit-b-16 clip-b16-248.safetensors
  longclip classify img.jpg --model clip-b16-248.safetensors --labels-file long.txt

Exit status: 0 success, 2 failed (no partial output is left), 75 temporary failure, try again (the
hub is down, the disk is full).";

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
    /// Leading positions that stay unchanged [default: 20]
    #[arg(long, value_name = "ROWS")]
    keep: Option<usize>,
    /// Stretch factor of the other positions [default: 4, or derived from --to]
    #[arg(long, value_name = "FACTOR")]
    ratio: Option<f64>,
    /// Positions of the result [default: from --keep and --ratio; 248 for CLIP]
    #[arg(long, value_name = "ROWS")]
    to: Option<usize>,
    /// Interpolation method
    #[arg(long, value_name = "NAME", default_value = "kps")]
    method: StretchMethod,
}

/// The input, the output and its format.
#[derive(Debug, Args)]
struct FileArgs {
    /// As `--model` takes it.
    #[arg(help = "File, folder, model name, or repository OWNER/REPO[@REV][:FILE]")]
    #[arg(value_name = "IN")]
    input: String,
    /// Output file if it ends in .safetensors or .pt, else a folder
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Library whose tensor names and configuration files to write
    #[arg(long, value_name = "NAME", default_value = "hf")]
    layout: LayoutName,
    /// Data type of all tensors [default: as stored]
    #[arg(long, value_name = "TYPE")]
    dtype: Option<DtypeName>,
    /// Properties that the files may not specify.
    #[command(flatten)]
    stated: StatedArgs,
    /// Whether the input may be downloaded.
    #[command(flatten)]
    hub: HubArgs,
    /// Overwrite existing output
    #[arg(long)]
    force: bool,
}

/// Data types of tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DtypeName {
    F32,
    F16,
    Bf16,
}

/// Interpolation methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StretchMethod {
    /// knowledge-preserving: the leading positions stay
    Kps,
    /// all positions are spread evenly, for comparison
    Linear,
}

/// Converts a model.
///
/// # Errors
/// When the input does not load, cannot be expressed in the layout, or the output cannot be
/// written.
pub fn run(args: &ConvertArgs, console: &Console) -> Result<Outcome> {
    let (checkpoint, hashes) = args.files.open(console)?;
    args.files.write(&checkpoint, &hashes, console)
}

/// Stretches a model's text positions and converts it.
///
/// # Errors
/// As [`run`], and when the result would not be longer.
pub(crate) fn run_stretch(args: &StretchArgs, console: &Console) -> Result<Outcome> {
    let (mut checkpoint, hashes) = args.files.open(console)?;
    let old = checkpoint.text_positions()?;
    if old.state() != State::Original {
        console.warn(&format!(
            "the text tower has {} positions, which look already stretched ({})",
            old.rows(),
            old.state()
        ));
    }
    let method = match args.method {
        StretchMethod::Kps => positions::Interpolation::KnowledgePreserving,
        StretchMethod::Linear => positions::Interpolation::Linear,
    };
    let stretch = Stretch::new(old.rows(), method, args.keep, args.ratio, args.to)?;
    let new = old.stretched(&stretch);
    console.note(&format!(
        "stretched {} text positions to {}",
        old.rows(),
        new.rows()
    ));
    checkpoint.set_text_positions(new)?;
    args.files.write(&checkpoint, &hashes, console)
}

impl FileArgs {
    /// The input and the hashes of its weight files.
    fn open(&self, console: &Console) -> Result<(Checkpoint, Vec<String>)> {
        let source = source::resolve(&self.input, &self.hub.settings(), console)?;
        let checkpoint = Checkpoint::load(&source, &self.stated.stated())?;
        for warning in &checkpoint.warnings {
            console.warn(warning);
        }
        let hashes = match &source {
            source::ModelSource::BuiltIn => vec![tiny::sha256()],
            source::ModelSource::Files(files) => digest::sha256_of(&files.weights)?,
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
