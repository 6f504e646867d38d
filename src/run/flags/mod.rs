//! The flag groups that subcommands share.

mod model_choice;
mod value;

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use crate::checkpoint::architecture::{Activation, Heads, Stated};
use crate::checkpoint::export::Layout;
use crate::input::image::{Alpha, DecodeOptions};
use crate::input::tokenizer::LongText;
use crate::model::device::{DeviceChoice, PrecisionChoice};
use crate::output::{Extras, Format};
use crate::task::zero_shot::Score;
use value::{activation, alpha, delimiter, format, heads, long_text, precision, score};

pub use model_choice::ModelChoice;
pub(crate) use value::{at_once, count, finite, names};

/// What to say on stderr.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Messages")]
pub struct ConsoleArgs {
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say which files, model, device and precision are used
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Colour the table and messages [NO_COLOR is honoured]
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorWhen,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Which model computes, on what, in which precision.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// What [`crate::checkpoint::source::resolve`] takes.
    #[arg(
        help = "A model's name, a file or folder, or a repository OWNER/REPO[@REV][:FILE]; \"tiny\" \
                is built in and knows drawn images only",
        short,
        long,
        value_name = "MODEL",
        env = "LONGCLIP_MODEL",
        default_value = "longclip-b"
    )]
    pub model: String,
    /// Where to compute.
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "auto",
        help = "Where to compute: auto, cpu, cuda[:N] or metal"
    )]
    pub device: DeviceChoice,
    /// What to compute in (auto: bf16 on a CPU that has it, else f32; f16 on a GPU)
    #[arg(long, value_name = "PRECISION", default_value = "auto", value_parser = precision())]
    pub precision: PrecisionChoice,
    /// What the files may not say.
    #[command(flatten)]
    pub stated: StatedArgs,
    /// Threads to compute with [default: one a core]
    #[arg(short = 'j', long, value_name = "N", env = "LONGCLIP_THREADS", value_parser = at_once())]
    pub threads: Option<u64>,
    /// Images that go through the model together [default: by the device]
    #[arg(long, value_name = "N", value_parser = at_once())]
    pub batch_size: Option<u64>,
}

/// What a model's files may not say.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct StatedArgs {
    /// For files that do not tell: the activation in the MLPs, quick_gelu or gelu
    #[arg(long, value_name = "NAME", value_parser = activation())]
    pub activation: Option<Activation>,
    /// Attention heads of the image tower, and of the text tower, if the file does not specify them
    #[arg(long, value_name = "IMAGE[,TEXT]", value_parser = heads)]
    pub heads: Option<Heads>,
}

impl StatedArgs {
    /// The same, as the loader takes it.
    #[must_use]
    pub fn stated(self) -> Stated {
        Stated {
            activation: self.activation,
            heads: self.heads.unwrap_or_default(),
        }
    }
}

/// How images are read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Image decoding")]
pub struct DecodeArgs {
    /// Refuse images of more pixels, before decoding them
    #[arg(long, value_name = "N", default_value_t = 200_000_000)]
    pub max_pixels: u64,
    /// Leave images as stored, whatever orientation their camera noted
    #[arg(long)]
    pub no_orient: bool,
    /// What shows through transparent pixels
    #[arg(long, value_name = "HOW", default_value = "white", value_parser = alpha())]
    pub alpha: Alpha,
    /// Treat an image that is damaged or incomplete as an error
    #[arg(long)]
    pub strict: bool,
}

impl DecodeArgs {
    /// The same, as the decoder takes it.
    #[must_use]
    pub fn options(&self) -> DecodeOptions {
        DecodeOptions {
            max_pixels: self.max_pixels,
            orient: !self.no_orient,
            alpha: self.alpha,
            strict: self.strict,
        }
    }
}

/// Which images.
#[derive(Clone, Debug, Args)]
pub struct ImageArgs {
    /// Image files and folders; - reads one image from stdin
    #[arg(value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Read paths from a file, or - for stdin, one a line
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,
    /// The paths of --files-from end in NUL, as find -print0 writes them
    #[arg(short = '0', long = "null", requires = "files_from")]
    pub null: bool,
}

/// Which texts.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Labels")]
pub struct LabelArgs {
    /// The candidate labels; give the images before them
    #[arg(short, long, value_name = "TEXT", num_args = 1.., conflicts_with = "labels_file")]
    pub labels: Vec<String>,
    /// Labels from a built-in set (imagenet, cifar10, cifar100, food101, …) or a file: one per line,
    /// or a .json, .yaml, .csv or .tsv file with prompts, aliases or keys of each label; - reads stdin
    #[arg(long, value_name = "NAME|FILE")]
    pub labels_file: Option<PathBuf>,
    /// What separates the cells of a table: one character, or tab [default: found by looking]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    pub delimiter: Option<u8>,
    /// Prompt templates, {} stands for the label
    #[arg(long, value_name = "TEXT", num_args = 1.., conflicts_with = "templates")]
    pub template: Vec<String>,
    /// A built-in set of templates (none, photo, openai7, openai80, and one for each built-in set of
    /// labels, by its name) or a file, one per line or a list in JSON, YAML or Python; - reads stdin
    #[arg(long, value_name = "NAME|FILE")]
    pub templates: Option<String>,
    /// Texts that are too long.
    #[command(flatten)]
    pub long: LongTextArgs,
}

/// What becomes of texts that a model cannot read at once.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Long texts")]
pub struct LongTextArgs {
    /// What happens to a text longer than the model's context: an error, a cut, or chunks that are
    /// averaged (chunk-mean), overlap (slide) or are chosen for each image (best-chunk)
    #[arg(long, value_name = "HOW", default_value = "error", value_parser = long_text())]
    pub long_text: LongText,
    /// With --long-text slide: tokens from one window to the next [default: half the context]
    #[arg(long, value_name = "N", value_parser = count())]
    pub stride: Option<u64>,
}

impl LongTextArgs {
    /// The two together.
    ///
    /// # Errors
    /// When there is a stride and nothing slides.
    pub fn policy(&self) -> anyhow::Result<LongText> {
        match (self.long_text, self.stride) {
            (LongText::Slide { .. }, stride) => Ok(LongText::Slide {
                stride: stride.map(|stride| stride as usize),
            }),
            (policy, None) => Ok(policy),
            _ => anyhow::bail!("--stride is for --long-text slide; add it, or leave --stride out"),
        }
    }
}

/// What stands for none of the labels.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Scores")]
pub struct NoneArgs {
    /// What [`crate::command`] makes of it depends on the score.
    #[arg(
        long,
        value_name = "TEXT",
        help = "One more label, for images that none of the labels fits; with --score sigmoid the \
                text that says nothing about an image, \"a photo\" if not given (or, if the model has one, its \
                logit bias)"
    )]
    pub none_label: Option<String>,
    /// Texts that compete with the labels one by one and are reported together, as the none label
    #[arg(long, value_name = "TEXT", num_args = 1.., conflicts_with = "background_file")]
    pub background: Vec<String>,
    /// The same from a file, in any form that --labels-file takes
    #[arg(long, value_name = "NAME|FILE")]
    pub background_file: Option<PathBuf>,
}

/// What is reported.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Scores")]
pub struct ScoreArgs {
    /// What to rank and report by
    #[arg(long, value_name = "SCORE", default_value = "softmax", value_parser = score())]
    pub score: Score,
    /// What stands for none of the labels.
    #[command(flatten)]
    pub none: NoneArgs,
    /// Keep the K best labels of an image
    #[arg(short = 'k', long, value_name = "K", value_parser = count())]
    pub top_k: Option<u64>,
    /// Keep labels whose score is at least P
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = finite)]
    pub threshold: Option<f32>,
}

/// What earlier runs computed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct CacheArgs {
    /// Keep embeddings in this folder, and take from it what is known already
    #[arg(long, value_name = "DIR", env = "LONGCLIP_CACHE")]
    pub cache: Option<PathBuf>,
}

/// Where results go and how they look.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// The results' format [default: by the suffix of --output; table on a terminal, else jsonl]
    #[arg(short, long, value_name = "FORMAT", value_parser = format())]
    pub format: Option<Format>,
    /// The file.
    #[command(flatten)]
    pub file: OutputFileArgs,
}

/// The file that results go to, and what CSV has on request.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputFileArgs {
    /// Write to a file, which appears whole or not at all; - is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Begin csv or tsv with a UTF-8 byte order mark, so that Excel reads it as UTF-8
    #[arg(long)]
    bom: bool,
    /// Add a last column to csv or tsv, the exact bytes (base64) of paths that are not UTF-8, even if
    /// no such path is known beforehand
    #[arg(long)]
    image_bytes: bool,
}

impl OutputFileArgs {
    /// The file to write to; none for stdout.
    #[must_use]
    pub fn path(&self) -> Option<&PathBuf> {
        self.output.as_ref().filter(|path| path.as_os_str() != "-")
    }

    /// What CSV has on request.
    ///
    /// # Errors
    /// When something is requested and the results are not CSV.
    pub fn extras(&self, is_csv: bool) -> anyhow::Result<Extras> {
        let asked = [(self.bom, "--bom"), (self.image_bytes, "--image-bytes")];
        if let Some((_, flag)) = asked.into_iter().find(|(asked, _)| *asked && !is_csv) {
            anyhow::bail!("{flag} is for csv and tsv; add --format csv, or drop {flag}");
        }
        Ok(Extras {
            mark: self.bom,
            image_bytes: self.image_bytes,
        })
    }
}

/// The libraries that can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutName {
    /// transformers' CLIPModel: the canonical names
    Hf,
    /// openai/CLIP
    Openai,
    /// open_clip
    #[value(name = "open_clip", alias = "open-clip")]
    OpenClip,
    /// the Long-CLIP repository (248 positions)
    Longclip,
}

impl LayoutName {
    /// As the writer takes it.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Hf => Layout::HuggingFace,
            Self::Openai => Layout::OpenAi,
            Self::OpenClip => Layout::OpenClip,
            Self::Longclip => Layout::LongClip,
        }
    }
}
