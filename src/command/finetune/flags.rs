//! The arguments of `longclip finetune`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DETAILS, NOTES};
use crate::model::device::DeviceChoice;
use crate::run::flags;
use crate::run::flags::{DecodeArgs, LayoutName, StatedArgs};

/// The arguments of `longclip finetune`.
#[derive(Debug, Args)]
#[command(after_help = NOTES, after_long_help = format!("{DETAILS}\n\n{NOTES}"))]
pub struct FinetuneArgs {
    /// Images with captions: a .jsonl, .csv, .tsv or .json file, a folder, or .tar shards
    #[arg(value_name = "DATA")]
    pub(super) data: PathBuf,
    #[command(flatten)]
    pub(super) output: RunArgs,
    #[command(flatten)]
    pub(super) model: BaseArgs,
    #[command(flatten)]
    pub(super) pairs: PairArgs,
    #[command(flatten)]
    pub(super) scope: ScopeArgs,
    #[command(flatten)]
    pub(super) loss: LossArgs,
    #[command(flatten)]
    pub(super) optimizer: OptimizerArgs,
    #[command(flatten)]
    pub(super) steps: StepArgs,
    #[command(flatten)]
    pub(super) eval: EvalArgs,
    #[command(flatten)]
    pub(super) decode: DecodeArgs,
}

/// What the run writes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Run")]
pub(super) struct RunArgs {
    /// The run's folder: the model, the state to resume from, the log, the report
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Go on with the run in DIR, if there is one; the result is that of an undisturbed run, bit for bit
    #[arg(long)]
    pub(super) resume: bool,
    /// Save the state after so many steps too [default: every 15 minutes]; after an epoch it is saved, though not twice a minute
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) save_every: Option<u64>,
    /// Whose tensor names and configuration files the trained model has
    #[arg(long, value_name = "NAME", default_value = "hf")]
    pub(super) layout: ModelLayout,
    /// With --train lora: write the merged model alone, no adapter beside it
    #[arg(long, conflicts_with = "adapter_only")]
    pub(super) merge: bool,
    /// With --train lora: write the adapter alone (PEFT's names), no merged model
    #[arg(long)]
    pub(super) adapter_only: bool,
    /// Where the page with the curves goes [default: DIR/report.html]
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// What stdout gets at the end [default: table on a terminal, else json]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<ResultFormat>,
}

/// The forms of the trained model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModelLayout {
    /// transformers' CLIPModel, with its configuration and tokenizer
    Hf,
    /// one model.safetensors that needs nothing beside it
    Canonical,
    /// openai/CLIP's model.pt
    Openai,
    /// open_clip
    #[value(name = "open_clip", alias = "open-clip")]
    OpenClip,
    /// the Long-CLIP repository's model.pt (248 positions)
    Longclip,
}

impl ModelLayout {
    /// The names; the canonical ones are Hugging Face's.
    pub(super) fn names(self) -> LayoutName {
        match self {
            Self::Hf | Self::Canonical => LayoutName::Hf,
            Self::Openai => LayoutName::Openai,
            Self::OpenClip => LayoutName::OpenClip,
            Self::Longclip => LayoutName::Longclip,
        }
    }
}

/// What stdout gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ResultFormat {
    /// A few lines for people
    Table,
    /// One JSON object
    Json,
}

/// Which model is trained, and where.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct BaseArgs {
    /// As everywhere.
    #[arg(
        help = "A model's name, a file or folder, or a repository OWNER/REPO[@REV][:FILE]",
        short,
        long,
        value_name = "MODEL",
        env = "LONGCLIP_MODEL",
        default_value = "longclip-b"
    )]
    pub(super) model: String,
    /// Stretch the model's text positions first, as longclip stretch does (77 become 248)
    #[arg(long)]
    pub(super) stretch: bool,
    /// Where to compute.
    #[arg(
        long,
        value_name = "DEVICE",
        default_value = "auto",
        help = "Where to compute: auto, cpu, cuda[:N] or metal"
    )]
    pub(super) device: DeviceChoice,
    /// What to compute in (auto: f32 on a CPU; on a GPU bf16, with weights and sums in f32)
    #[arg(long, value_enum, value_name = "PRECISION", default_value = "auto")]
    pub(super) precision: TrainPrecision,
    /// What the files may not say.
    #[command(flatten)]
    pub(super) stated: StatedArgs,
    /// Threads to compute with [default: one a core]
    #[arg(short = 'j', long, value_name = "N", env = "LONGCLIP_THREADS", value_parser = flags::at_once())]
    pub(super) threads: Option<u64>,
}

/// What training computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TrainPrecision {
    /// By the device
    Auto,
    /// 32-bit floating point
    F32,
    /// bfloat16, on GPUs
    Bf16,
}

/// How the data is read.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Data")]
pub(super) struct PairArgs {
    /// Where the images are that a file names [default: beside the file]
    #[arg(long, value_name = "DIR")]
    pub(super) images: Option<PathBuf>,
    /// The split of a file that has several [default: train]
    #[arg(long, value_name = "NAME")]
    pub(super) split: Option<String>,
    /// Go on without what cannot be used; DIR/skipped.jsonl has it
    #[arg(long)]
    pub(super) skip_bad: bool,
    /// What becomes of captions longer than the context
    #[arg(long, value_enum, value_name = "HOW", default_value = "truncate")]
    pub(super) long_text: LongCaptions,
    /// Vary the images: crop (a random part of 90% or more), flip (left and right, half of them)
    #[arg(long, value_enum, value_name = "HOW,…", value_delimiter = ',')]
    pub(super) augment: Vec<Variation>,
    /// Keep the last batch of an epoch, which is smaller, unless it is too small for the loss
    #[arg(long)]
    pub(super) keep_last: bool,
}

/// What becomes of long captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LongCaptions {
    /// They cannot be used
    Error,
    /// They are cut, as Long-CLIP does
    Truncate,
}

/// A variation of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Variation {
    Crop,
    Flip,
}

/// What is trained.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What is trained")]
pub(super) struct ScopeArgs {
    /// Which parameters change
    #[arg(long, value_enum, value_name = "WHAT", default_value = "full")]
    pub(super) train: Train,
    /// Rank of the matrices that --train lora adds [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(super) lora_rank: Option<u64>,
    /// Their scale, times the rank [default: twice the rank]
    #[arg(long, value_name = "X", value_parser = positive)]
    pub(super) lora_alpha: Option<f64>,
    /// What they are added to, in every block of both towers [default: q,v]
    #[arg(long, value_enum, value_name = "NAME,…", value_delimiter = ',')]
    pub(super) lora_targets: Vec<LoraTarget>,
    /// The first text positions, which stay as they are [default: 20 if the context was stretched]
    #[arg(long, value_name = "ROWS")]
    pub(super) freeze_positions: Option<usize>,
}

/// Which parameters change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Train {
    /// Both towers
    Full,
    /// The text tower
    Text,
    /// The image tower
    Image,
    /// Matrices of low rank beside those of both towers
    Lora,
    /// The two projections and the logit scale
    Head,
}

/// A matrix of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LoraTarget {
    /// Queries
    Q,
    /// Keys
    K,
    /// Values
    V,
    /// The attention's output
    Out,
    /// The MLP's first matrix
    Fc1,
    /// The MLP's second matrix
    Fc2,
}

/// What is minimised.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Loss")]
pub(super) struct LossArgs {
    /// What captions are matched with
    #[arg(long, value_enum, value_name = "LOSS", default_value = "pcm")]
    pub(super) loss: Loss,
    /// Main components of the batch's images that short captions are matched with [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(super) pcm_rank: Option<u64>,
    /// What the loss of the short captions counts beside that of the long ones [default: 1]
    #[arg(long, value_name = "X", value_parser = positive, visible_alias = "short-weight")]
    pub(super) pcm_weight: Option<f64>,
    /// The share of each answer that is spread over the wrong ones [default: 0.1; 0 with --loss clip]
    #[arg(long, value_name = "X", value_parser = below_one)]
    pub(super) label_smoothing: Option<f64>,
    /// The most that cosines are multiplied with, or none
    #[arg(long, value_name = "X|none", default_value = "100", value_parser = limit)]
    pub(super) max_logit_scale: Limit,
}

/// What captions are matched with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Loss {
    /// Long captions with images, short ones with their main components (Long-CLIP)
    Pcm,
    /// Long captions with images (CLIP)
    Clip,
    /// Long and short captions with images, for comparison
    ClipShort,
}

/// A number that may be without limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit(pub(super) Option<f64>);

/// How parameters move.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Optimiser (AdamW)")]
pub(super) struct OptimizerArgs {
    /// The learning rate [default: 1e-6; 1e-4 with --train lora or head]
    #[arg(long, value_name = "X", value_parser = positive, visible_alias = "lr")]
    pub(super) rate: Option<f64>,
    /// How fast weights fade, times the rate
    #[arg(long, value_name = "X", default_value_t = 1e-2, value_parser = not_negative)]
    pub(super) weight_decay: f64,
    /// How long the mean of the gradients and that of their squares remember
    #[arg(long, value_name = "X,X", value_delimiter = ',', num_args = 1, default_value = "0.9,0.999", value_parser = below_one)]
    pub(super) betas: Vec<f64>,
    /// Added to the root of the squares
    #[arg(long, value_name = "X", default_value_t = 1e-8, value_parser = positive)]
    pub(super) epsilon: f64,
    /// Steps in which the rate rises from 0 [default: 200, or a tenth of all if that is less]
    #[arg(long, value_name = "STEPS")]
    pub(super) warm_up: Option<usize>,
    /// How the rate goes on after that
    #[arg(long, value_enum, value_name = "SHAPE", default_value = "cosine")]
    pub(super) schedule: Schedule,
    /// Cut gradients that are longer than this
    #[arg(long, value_name = "X", value_parser = positive)]
    pub(super) clip_norm: Option<f64>,
}

/// How the rate goes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Schedule {
    /// Half a cosine, down to 0
    Cosine,
    /// As it is
    Constant,
    /// A straight line to 0
    Linear,
}

/// How long, and in which pieces.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Steps")]
pub(super) struct StepArgs {
    /// How often all of the data is gone through
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) epochs: u64,
    /// Steps in all, whatever --epochs says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) steps: Option<u64>,
    /// Pairs of a step, all of which are held against each other
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(2..=1_048_576))]
    pub(super) batch_size: u64,
    /// Pairs that go through the towers together; changes memory, not the loss [default: by memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(super) micro_batch: Option<u64>,
    /// Where the random numbers start
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

/// What tells how good the model is meanwhile.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Evaluation")]
pub(super) struct EvalArgs {
    /// Before the first step and after each epoch: recall on images with captions, accuracy on folders
    /// (or lists) of images with labels
    #[arg(long, value_name = "DATA", num_args = 1..)]
    pub(super) eval: Vec<PathBuf>,
    /// The templates of those labels, a built-in set or a file
    #[arg(long, value_name = "NAME|FILE", requires = "eval")]
    pub(super) eval_templates: Option<String>,
}

fn number(text: &str, fits: fn(f64) -> bool, what: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && fits(number) => Ok(number),
        _ => Err(format!("expected {what}")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0, "a number above 0")
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |x| x >= 0.0, "a number that is not negative")
}

fn below_one(text: &str) -> Result<f64, String> {
    number(
        text,
        |x| (0.0..1.0).contains(&x),
        "a number from 0 to below 1",
    )
}

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => number(text, |x| x >= 1.0, "a number from 1, or none").map(|x| Limit(Some(x))),
    }
}
