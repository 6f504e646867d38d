//! The arguments of `longclip finetune`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DETAILS, NOTES};
use crate::model::device::DeviceChoice;
use crate::output::Format;
use crate::run::flags::{self, DecodeArgs, HubArgs, LayoutName, SUMMARY, StatedArgs, formats};
use crate::train::{Shape, Target};

/// The arguments of `longclip finetune`.
#[derive(Debug, Args)]
#[command(after_help = NOTES, after_long_help = format!("{DETAILS}\n\n{NOTES}"))]
pub struct FinetuneArgs {
    /// Images with captions: .jsonl, .csv, .tsv or .json file, folder, or .tar shards
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

/// The outputs of the run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Run")]
pub(super) struct RunArgs {
    /// Folder of the run, with model, resumable state, log and report
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Resume the run in DIR, if there is one, with bit-identical results
    #[arg(long)]
    pub(super) resume: bool,
    /// Also save the state every STEPS steps [default: every 15 minutes]
    ///
    /// It is also saved after each epoch, but at most once a minute.
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) save_every: Option<u64>,
    /// Library whose tensor names and configuration files the model gets
    #[arg(long, value_name = "NAME", default_value = "hf")]
    pub(super) layout: ModelLayout,
    /// With --train lora: write only the merged model, without the adapter
    #[arg(long, conflicts_with = "adapter_only")]
    pub(super) merge: bool,
    /// With --train lora: write only the adapter (in PEFT's format)
    #[arg(long)]
    pub(super) adapter_only: bool,
    /// File of the HTML report with curves [default: DIR/report.html]
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Output format of the summary [default: table on a terminal, else json]
    #[arg(short, long, value_name = "FORMAT", value_parser = formats(SUMMARY))]
    pub(super) format: Option<Format>,
}

/// The formats of the trained model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ModelLayout {
    /// transformers' CLIPModel, with its configuration and tokenizer
    Hf,
    /// a single self-contained model.safetensors
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
    /// Its tensor names; the canonical ones are Hugging Face's.
    pub(super) fn names(self) -> LayoutName {
        match self {
            Self::Hf | Self::Canonical => LayoutName::Hf,
            Self::Openai => LayoutName::Openai,
            Self::OpenClip => LayoutName::OpenClip,
            Self::Longclip => LayoutName::Longclip,
        }
    }
}

/// The base model, and its device.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct BaseArgs {
    /// As in the other commands.
    #[arg(
        help = "Model name, file, folder, or repository OWNER/REPO[@REV][:FILE]",
        short,
        long,
        value_name = "MODEL",
        env = "LONGCLIP_MODEL",
        default_value = "longclip-b"
    )]
    pub(super) model: String,
    /// Whether it may be downloaded.
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// First stretch the model's text positions from 77 to 248, like longclip stretch
    #[arg(long)]
    pub(super) stretch: bool,
    /// The device.
    #[arg(
        long,
        value_name = "DEVICE",
        env = "LONGCLIP_DEVICE",
        default_value = "auto",
        help = "Device: auto, cpu, cuda[:N] or metal"
    )]
    pub(super) device: DeviceChoice,
    /// Precision (auto: f32 on a CPU; bf16 on a GPU, with weights and sums in f32)
    #[arg(long, value_enum, value_name = "PRECISION", default_value = "auto")]
    pub(super) precision: TrainPrecision,
    /// Properties that the files may not specify.
    #[command(flatten)]
    pub(super) stated: StatedArgs,
    /// Number of threads [default: number of cores]
    #[arg(short = 'j', long, value_name = "N", env = "LONGCLIP_THREADS", value_parser = flags::at_once())]
    pub(super) threads: Option<u64>,
}

/// The precisions of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TrainPrecision {
    /// Depends on the device
    Auto,
    /// 32-bit floating point
    F32,
    /// bfloat16, on GPUs
    Bf16,
}

/// Options of the data.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Data")]
pub(super) struct PairArgs {
    /// Folder of the images listed in the file [default: the file's folder]
    #[arg(long, value_name = "DIR")]
    pub(super) images: Option<PathBuf>,
    /// Split to use, if the file has several [default: train]
    #[arg(long, value_name = "NAME")]
    pub(super) split: Option<String>,
    /// Skip pairs that cannot be used, and list them in DIR/skipped.jsonl
    #[arg(long)]
    pub(super) skip_bad: bool,
    /// Handling of captions longer than the context
    #[arg(long, value_enum, value_name = "HOW", default_value = "truncate")]
    pub(super) long_text: LongCaptions,
    /// Augment images: crop (random crop of 90% or more), flip (half, horizontally)
    #[arg(long, value_enum, value_name = "HOW,…", value_delimiter = ',')]
    pub(super) augment: Vec<Variation>,
    /// Keep the smaller last batch of an epoch, unless it is too small for the loss
    #[arg(long)]
    pub(super) keep_last: bool,
}

/// The handling of long captions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LongCaptions {
    /// Reject them
    Error,
    /// Truncate them, as Long-CLIP does
    Truncate,
}

/// An augmentation of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Variation {
    Crop,
    Flip,
}

/// Trainable parameters.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Trainable parameters")]
pub(super) struct ScopeArgs {
    /// Parameters to train
    #[arg(long, value_enum, value_name = "WHAT", default_value = "full")]
    pub(super) train: Train,
    /// LoRA rank [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(super) lora_rank: Option<u64>,
    /// LoRA alpha [default: twice the rank]
    #[arg(long, value_name = "X", value_parser = positive)]
    pub(super) lora_alpha: Option<f64>,
    /// LoRA targets, in every block of both towers [default: q,v]
    #[arg(long, value_enum, value_name = "NAME,…", value_delimiter = ',')]
    pub(super) lora_targets: Vec<Target>,
    /// Freeze this many leading text positions [default: 20 if stretched]
    #[arg(long, value_name = "ROWS")]
    pub(super) freeze_positions: Option<usize>,
}

/// The parameters that are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Train {
    /// Both towers
    Full,
    /// The text tower
    Text,
    /// The image tower
    Image,
    /// Low-rank adapters in both towers (LoRA)
    Lora,
    /// The two projections and the logit scale
    Head,
}

/// The loss.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Loss")]
pub(super) struct LossArgs {
    /// Training loss
    #[arg(long, value_enum, value_name = "LOSS", default_value = "pcm")]
    pub(super) loss: Loss,
    /// Principal components that short captions are matched with [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub(super) pcm_rank: Option<u64>,
    /// Weight of the loss of short captions, relative to long ones [default: 1]
    #[arg(long, value_name = "X", value_parser = positive, visible_alias = "short-weight")]
    pub(super) pcm_weight: Option<f64>,
    /// Label smoothing [default: 0.1; 0 with --loss clip]
    #[arg(long, value_name = "X", value_parser = below_one)]
    pub(super) label_smoothing: Option<f64>,
    /// Upper limit of the logit scale, or none
    #[arg(long, value_name = "X|none", default_value = "100", value_parser = limit)]
    pub(super) max_logit_scale: Limit,
}

/// The losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Loss {
    /// Long captions with images, short ones with principal components (Long-CLIP)
    Pcm,
    /// Long captions with images (CLIP)
    Clip,
    /// Long and short captions with images, for comparison
    ClipShort,
}

/// An optional upper limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit(pub(super) Option<f64>);

/// Options of the optimiser.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Optimiser (AdamW)")]
pub(super) struct OptimizerArgs {
    /// Learning rate [default: 1e-6; 1e-4 with --train lora or head]
    #[arg(long, value_name = "X", value_parser = positive, visible_alias = "lr")]
    pub(super) rate: Option<f64>,
    /// Weight decay
    #[arg(long, value_name = "X", default_value_t = 1e-2, value_parser = not_negative)]
    pub(super) weight_decay: f64,
    /// AdamW's beta1,beta2
    #[arg(long, value_name = "X,X", value_delimiter = ',', num_args = 1, default_value = "0.9,0.999", value_parser = below_one)]
    pub(super) betas: Vec<f64>,
    /// AdamW's epsilon
    #[arg(long, value_name = "X", default_value_t = 1e-8, value_parser = positive)]
    pub(super) epsilon: f64,
    /// Steps of linear warm-up from 0 [default: 200, or a tenth of all if less]
    #[arg(long, value_name = "STEPS")]
    pub(super) warm_up: Option<usize>,
    /// Learning rate schedule after the warm-up
    #[arg(long, value_enum, value_name = "SHAPE", default_value = "cosine")]
    pub(super) schedule: Shape,
    /// Clip the global gradient norm to X
    #[arg(long, value_name = "X", value_parser = positive)]
    pub(super) clip_norm: Option<f64>,
}

/// The number of steps, and the sizes of batches.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Steps")]
pub(super) struct StepArgs {
    /// Number of epochs
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) epochs: u64,
    /// Total number of steps; overrides --epochs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) steps: Option<u64>,
    /// Pairs per step, all contrasted with each other in the loss
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(2..=1_048_576))]
    pub(super) batch_size: u64,
    /// Pairs processed at once; affects memory, not the loss [default: by memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(super) micro_batch: Option<u64>,
    /// Random seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

/// Evaluation during training.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Evaluation")]
pub(super) struct EvalArgs {
    /// Evaluate on these datasets before training and after each epoch
    ///
    /// Reports recall for images with captions, and accuracy for folders or lists of images with
    /// labels.
    #[arg(long, value_name = "DATA", num_args = 1..)]
    pub(super) eval: Vec<PathBuf>,
    /// Templates for the labels of --eval: a built-in set or a file
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
    number(text, |x| x >= 0.0, "a number of at least 0")
}

fn below_one(text: &str) -> Result<f64, String> {
    number(
        text,
        |x| (0.0..1.0).contains(&x),
        "a number of at least 0 and below 1",
    )
}

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        _ => number(text, |x| x >= 1.0, "a number of at least 1, or none").map(|x| Limit(Some(x))),
    }
}
