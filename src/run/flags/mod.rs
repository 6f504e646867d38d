//! The flag groups that subcommands share.

mod decode;
mod hub;
mod parts;
mod value;

use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueEnum};

use crate::checkpoint::architecture::Activation;
use crate::checkpoint::export::Layout;
use crate::checkpoint::sizes::{Heads, Stated};
use crate::embedding::cache;
use crate::input::tokenizer::LongText;
use crate::model::device::{DeviceChoice, PrecisionChoice};
use crate::output::{Extras, Format};
use crate::task::zero_shot::Score;
use value::{RECORDS, activation, delimiter, heads, long_text, precision, score};

pub(crate) use decode::{DecodeArgs, FrameArgs};
pub(crate) use hub::HubArgs;
pub(crate) use parts::PartArgs;
pub(crate) use value::{SUMMARY, at_once, count, finite, formats, names};

/// Messages on stderr.
#[derive(Clone, Debug, Args)]
pub struct ConsoleArgs {
    /// Print only errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print which files, model, device and precision are used
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// When to colour tables and messages [NO_COLOR is honoured]
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_short_help = true
    )]
    pub color: ColorWhen,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The model, its device and its precision.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Anything that [`crate::checkpoint::source::resolve`] accepts.
    #[arg(
        help = "Model name, file, folder, or repository OWNER/REPO[@REV][:FILE]",
        long_help = "Model name, file, folder, or repository OWNER/REPO[@REV][:FILE]\n\n\"tiny\" is \
                     built in, but recognises only drawings.",
        short,
        long,
        value_name = "MODEL",
        env = "LONGCLIP_MODEL",
        default_value = "longclip-b"
    )]
    pub model: String,
    /// Whether it may be downloaded.
    #[command(flatten)]
    pub hub: HubArgs,
    /// The device.
    #[arg(
        long,
        value_name = "DEVICE",
        env = "LONGCLIP_DEVICE",
        default_value = "auto",
        help = "Device: auto, cpu, cuda[:N] or metal"
    )]
    pub device: DeviceChoice,
    /// Precision (auto: bf16 on a CPU that supports it, else f32; f16 on a GPU)
    #[arg(
        long,
        value_name = "PRECISION",
        env = "LONGCLIP_PRECISION",
        default_value = "auto",
        value_parser = precision()
    )]
    pub precision: PrecisionChoice,
    /// Properties that the files may not specify.
    #[command(flatten)]
    pub stated: StatedArgs,
    /// Number of threads [default: number of cores]
    #[arg(short = 'j', long, value_name = "N", env = "LONGCLIP_THREADS", value_parser = at_once())]
    pub threads: Option<u64>,
    /// Images per batch [default: depends on the device]
    #[arg(long, value_name = "N", env = "LONGCLIP_BATCH_SIZE", value_parser = at_once())]
    pub batch_size: Option<u64>,
}

/// Where the value of `--model` came from. It must precede [`ModelArgs`] in a command's
/// arguments, which removes the flag from the parsed matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelChoice {
    /// The default.
    Default,
    /// `LONGCLIP_MODEL`.
    Environment,
    /// The flag.
    Flag,
}

impl FromArgMatches for ModelChoice {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(match matches.value_source("model") {
            Some(ValueSource::CommandLine) => Self::Flag,
            Some(ValueSource::EnvVariable) => Self::Environment,
            _ => Self::Default,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ModelChoice {
    fn augment_args(command: Command) -> Command {
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        command
    }
}

/// Properties of a model that its files may not specify.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct StatedArgs {
    /// Activation, if the file does not specify it
    #[arg(long, value_name = "NAME", value_parser = activation())]
    pub activation: Option<Activation>,
    /// Attention heads of the image and text tower, if the file does not specify them
    #[arg(long, value_name = "IMAGE[,TEXT]", value_parser = heads)]
    pub heads: Option<Heads>,
}

impl StatedArgs {
    /// Converts to the type that the loader takes.
    #[must_use]
    pub(crate) fn stated(self) -> Stated {
        Stated {
            activation: self.activation,
            heads: self.heads.unwrap_or_default(),
        }
    }
}

/// The images of a run.
#[derive(Clone, Debug, Args)]
pub(crate) struct ImageArgs {
    /// Image files, folders and archives (.tar, .tar.gz, .tar.zst, .zip, .parquet); - reads one image from stdin
    #[arg(value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    /// Read paths from a file, or - for stdin, one per line; or objects with a "path"
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,
    /// Paths of --files-from are NUL-separated, as find -print0 writes them
    #[arg(short = '0', long = "null", requires = "files_from")]
    pub null: bool,
    /// Stdin (-) is a tar archive of images, plain or compressed by gzip or zstd
    #[arg(long)]
    pub tar: bool,
}

/// The candidate labels and how they become prompts.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Labels")]
pub(crate) struct LabelArgs {
    /// Candidate labels; put IMAGE or DATASET before them
    #[arg(short, long, value_name = "TEXT", num_args = 1.., conflicts_with = "labels_file")]
    pub labels: Vec<String>,
    /// Labels from a built-in set or a file, one per line; - reads stdin
    ///
    /// Built-in sets: imagenet, cifar10, cifar100, food101, …. A .json, .yaml, .csv or .tsv file
    /// may also have prompts, aliases or keys per label.
    #[arg(long, value_name = "NAME|FILE")]
    pub labels_file: Option<PathBuf>,
    /// Column separator of a table: one character, or tab [default: detected]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    pub delimiter: Option<u8>,
    /// Prompt templates; {} is replaced by the label
    #[arg(long, value_name = "TEXT", num_args = 1.., conflicts_with = "templates")]
    pub template: Vec<String>,
    /// Templates from a built-in set or a file, one per line; - reads stdin
    ///
    /// Built-in sets: none, photo, openai7, openai80, and one for each built-in label set, by its
    /// name. A file may also be a list in JSON, YAML or Python.
    #[arg(long, value_name = "NAME|FILE")]
    pub templates: Option<String>,
    /// Handling of long texts.
    #[command(flatten)]
    pub long: LongTextArgs,
}

impl LabelArgs {
    /// The files named, which no output may replace.
    pub(crate) fn files(&self) -> [Option<&Path>; 2] {
        [
            self.labels_file.as_deref(),
            self.templates.as_deref().map(Path::new),
        ]
    }

    /// Whether labels or templates are given.
    pub(crate) fn are_given(&self) -> bool {
        !self.labels.is_empty()
            || self.labels_file.is_some()
            || self.templates.is_some()
            || !self.template.is_empty()
    }
}

/// Handling of texts that are longer than the model's context.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Long texts")]
pub(crate) struct LongTextArgs {
    /// Handling of texts longer than the model's context
    ///
    /// error fails; truncate cuts the text; chunk-mean averages the embeddings of chunks; slide
    /// averages overlapping windows; best-chunk uses the best chunk for each image.
    #[arg(long, value_name = "HOW", default_value = "error", value_parser = long_text())]
    pub long_text: LongText,
    /// With --long-text slide: tokens between window starts [default: half the context]
    #[arg(long, value_name = "N", value_parser = count())]
    pub stride: Option<u64>,
}

impl LongTextArgs {
    /// Combines the two flags.
    ///
    /// # Errors
    /// When there is a stride without `slide`.
    pub(crate) fn policy(&self) -> anyhow::Result<LongText> {
        match (self.long_text, self.stride) {
            (LongText::Slide { .. }, stride) => Ok(LongText::Slide {
                stride: stride.map(|stride| stride as usize),
            }),
            (policy, None) => Ok(policy),
            _ => anyhow::bail!("--stride requires --long-text slide; add it, or drop --stride"),
        }
    }
}

/// Texts that stand for "none of the labels".
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Scores")]
pub(crate) struct NoneArgs {
    /// Its meaning in [`crate::command`] depends on the score.
    #[arg(
        long,
        value_name = "TEXT",
        help = "Extra label for images that no label fits",
        long_help = "Extra label for images that no label fits\n\nWith --score sigmoid, this is the \
                     neutral prompt that labels are compared with; the default is the model's logit \
                     bias, or \"a photo\" if it has none."
    )]
    pub none_label: Option<String>,
    /// Texts that compete with the labels and are reported together as the none label
    #[arg(long, value_name = "TEXT", num_args = 1.., conflicts_with = "background_file")]
    pub background: Vec<String>,
    /// Background texts from a file, in any format that --labels-file accepts
    #[arg(long, value_name = "NAME|FILE")]
    pub background_file: Option<PathBuf>,
}

/// The labels of a dataset's classes.
#[derive(Clone, Debug, Args)]
pub(crate) struct LabellingArgs {
    /// The labels given.
    #[command(flatten)]
    pub labels: LabelArgs,
    /// Texts that stand for none of them.
    #[command(flatten)]
    pub none: NoneArgs,
    /// CSV file that maps the dataset's classes to labels: columns class and label
    #[arg(long, value_name = "FILE", help_heading = "Labels")]
    pub class_map: Option<PathBuf>,
}

impl LabellingArgs {
    /// The files named, which no output may replace.
    pub(crate) fn files(&self) -> impl Iterator<Item = Option<&Path>> {
        let others = [
            self.none.background_file.as_deref(),
            self.class_map.as_deref(),
        ];
        self.labels.files().into_iter().chain(others)
    }
}

/// Which scores are reported.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Scores")]
pub(crate) struct ScoreArgs {
    /// Score to rank and report by
    #[arg(long, value_name = "SCORE", default_value = "softmax", value_parser = score())]
    pub score: Score,
    /// Texts that stand for "none of the labels".
    #[command(flatten)]
    pub none: NoneArgs,
    /// Keep the K best labels per image
    #[arg(short = 'k', long, value_name = "K", value_parser = count())]
    pub top_k: Option<u64>,
    /// Keep labels with a score of at least P
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = finite)]
    pub threshold: Option<f32>,
}

/// The cache of embeddings.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct CacheArgs {
    /// Cache embeddings in this folder and reuse those already in it
    #[arg(long, value_name = "DIR", env = "LONGCLIP_CACHE")]
    pub cache: Option<PathBuf>,
}

impl CacheArgs {
    /// The folder, which is checked before a model is opened.
    ///
    /// # Errors
    /// When it cannot hold a cache.
    pub(crate) fn folder(&self) -> anyhow::Result<Option<&Path>> {
        let folder = self.cache.as_deref();
        let folder = folder.filter(|folder| folder.as_os_str() != "");
        folder.map(cache::check_folder).transpose()?;
        Ok(folder)
    }
}

/// The model, its cache, and how images are read: for commands that compute embeddings.
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineArgs {
    /// Where the choice of model came from; it must precede the model.
    #[command(flatten)]
    pub choice: ModelChoice,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// How images are read.
    #[command(flatten)]
    pub decode: DecodeArgs,
    /// Decode large JPEGs at reduced size: faster, but embeddings change slightly
    #[arg(long, help_heading = "Image decoding")]
    pub fast_decode: bool,
}

/// Where results go, and in which format.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Output format [default: by suffix of --output, else table on terminals or jsonl]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(RECORDS))]
    pub format: Option<Format>,
    /// With --format paths: end each path with NUL, for xargs -0
    #[arg(long)]
    pub print0: bool,
    /// The output file.
    #[command(flatten)]
    pub file: OutputFileArgs,
}

/// The output file, and options of CSV.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputFileArgs {
    /// Write to FILE, atomically; - is stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Start csv or tsv with a UTF-8 byte order mark, for Excel
    #[arg(long)]
    bom: bool,
    /// Always add a last csv or tsv column: exact bytes (base64) of non-UTF-8 paths
    #[arg(long)]
    image_bytes: bool,
}

impl OutputFileArgs {
    /// The file to write to; `None` is stdout.
    #[must_use]
    pub(crate) fn path(&self) -> Option<&Path> {
        self.output
            .as_deref()
            .filter(|path| path.as_os_str() != "-")
    }

    /// The options of CSV.
    ///
    /// # Errors
    /// When an option is given and the results are not CSV.
    pub(crate) fn extras(&self, format: Format) -> anyhow::Result<Extras> {
        let is_csv = format.is_csv();
        let asked = [(self.bom, "--bom"), (self.image_bytes, "--image-bytes")];
        if let Some((_, flag)) = asked.into_iter().find(|(asked, _)| *asked && !is_csv) {
            anyhow::bail!("{flag} applies only to csv and tsv; add --format csv, or drop {flag}");
        }
        Ok(Extras {
            mark: self.bom,
            frames: false,
            image_bytes: self.image_bytes,
        })
    }
}

/// The libraries that a model can be written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayoutName {
    /// transformers' CLIPModel, with the canonical names
    Hf,
    /// openai/CLIP
    Openai,
    /// open_clip
    #[value(name = "open_clip", alias = "open-clip")]
    OpenClip,
    /// the Long-CLIP repository (248 positions)
    Longclip,
    /// text tower and tokenizer as folders of a diffusers pipeline
    Diffusers,
}

impl LayoutName {
    /// Converts to the type that the writer takes.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Hf => Layout::HuggingFace,
            Self::Openai => Layout::OpenAi,
            Self::OpenClip => Layout::OpenClip,
            Self::Longclip => Layout::LongClip,
            Self::Diffusers => Layout::Diffusers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_belongs_to_slide() {
        let slide = |stride| LongText::Slide { stride };
        let cases = [
            (LongText::Truncate, None, Some(LongText::Truncate)),
            (slide(None), None, Some(slide(None))),
            (slide(None), Some(20), Some(slide(Some(20)))),
            (LongText::Truncate, Some(20), None),
        ];
        for (long_text, stride, expected) in cases {
            let args = LongTextArgs { long_text, stride };
            assert_eq!(args.policy().ok(), expected, "{args:?}");
        }
    }

    #[test]
    fn the_cache_is_a_folder_or_nothing() {
        let room = tempfile::tempdir().unwrap();
        let file = room.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let cases = [
            (None, Ok(None)),
            (Some(PathBuf::new()), Ok(None)),
            (Some(room.path().to_owned()), Ok(Some(room.path()))),
            (Some(file), Err("is a file; pass a folder")),
        ];
        for (cache, expected) in cases {
            let args = CacheArgs { cache };
            match (args.folder(), expected) {
                (Ok(folder), Ok(expected)) => assert_eq!(folder, expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }
}
