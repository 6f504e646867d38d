//! Shared by commands that run a model: threads, signals, and the opened model with its device and
//! precision.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Console;
use crate::checkpoint::architecture::{ImageTower, Tower};
use crate::checkpoint::{Checkpoint, source, tiny};
use crate::file::digest::{hexadecimal, sha256};
use crate::file::memory::{self, Source};
use crate::file::{exhaustion, signal};
use crate::input::image::DecodeOptions;
use crate::model::Towers;
use crate::model::device::{CpuPrecision, Placement, PrecisionChoice};
use crate::model::{Clip, Compute, device};
use crate::run::flags::ModelArgs;
use crate::{kernel, model};

/// Images per batch on a GPU.
const GPU_BATCH: usize = 64;

/// The address space of a thread's stack.
const STACK_BYTES: u64 = 2 << 20;

/// The opened checkpoint of a run, before the towers are built, and its device.
pub(crate) struct Session {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) placement: Placement,
    pub(crate) threads: usize,
    /// Images per batch; `None` is one per thread.
    pub(crate) batch_size: Option<usize>,
    /// Whether --heads was given.
    pub(crate) heads_are_stated: bool,
    /// Why this precision was chosen.
    reason: &'static str,
    /// How long reading and checking the checkpoint took.
    pub(crate) read_time: Duration,
    weights_sha256: OnceLock<String>,
}

impl Session {
    /// Finds and opens the model.
    pub(crate) fn open(args: &ModelArgs, console: &Console) -> Result<Arc<Self>> {
        Self::open_own(args, console).map(Arc::new)
    }

    /// The same, for a command that changes what it opened.
    pub(crate) fn open_own(args: &ModelArgs, console: &Console) -> Result<Self> {
        Self::with_threads(args, start_threads(args)?, console)
    }

    /// Finds and opens another model, which shares the threads of this one.
    pub(crate) fn open_next(&self, args: &ModelArgs, console: &Console) -> Result<Arc<Self>> {
        Self::with_threads(args, self.threads, console).map(Arc::new)
    }

    fn with_threads(args: &ModelArgs, threads: usize, console: &Console) -> Result<Self> {
        let source = source::resolve(&args.model, &args.hub.settings(), console)?;
        if matches!(source, source::ModelSource::BuiltIn) {
            console.note(tiny::NOTICE);
        }
        let start = Instant::now();
        let checkpoint = Checkpoint::load(&source, &args.stated.stated())?;
        let read_time = start.elapsed();
        for warning in &checkpoint.warnings {
            console.warn(warning);
        }
        let placement = device::place(args.device, args.precision)?;
        let session = Self {
            checkpoint,
            reason: reason(args.precision, &placement),
            batch_size: (args.batch_size.map(|size| size as usize)).or(matches!(
                placement.compute,
                Compute::Candle(..)
            )
            .then_some(GPU_BATCH)),
            placement,
            threads,
            heads_are_stated: args.stated.heads.is_some(),
            read_time,
            weights_sha256: OnceLock::new(),
        };
        session.describe(console);
        Ok(session)
    }

    /// Builds the towers.
    pub(crate) fn load(&self, towers: Towers, console: &Console) -> Result<Clip> {
        let start = Instant::now();
        let clip = self.build(towers)?;
        console.detail(&format!(
            "model ready after {} ms",
            start.elapsed().as_millis()
        ));
        Ok(clip)
    }

    /// The same, without messages.
    pub(crate) fn build(&self, towers: Towers) -> Result<Clip> {
        self.check_memory(towers)?;
        exhaustion::doing("loading the model");
        model::load_some(&self.checkpoint, &self.placement.compute, towers)
            .with_context(|| format!("cannot load model {:?}", self.checkpoint.name))
    }

    /// Fails if the towers need more memory than there is: what is needed at least is known before
    /// anything is read.
    fn check_memory(&self, wanted: Towers) -> Result<()> {
        let (Compute::Kernel(precision), Some(limit)) = (&self.placement.compute, memory::limit())
        else {
            return Ok(());
        };
        let checkpoint = &self.checkpoint;
        let floats = checkpoint
            .tensors
            .values()
            .filter(|tensor| tensor.is_float());
        let stored = floats.filter_map(|tensor| tensor.dtype().size()).min();
        let towers = |precision: CpuPrecision| {
            let of = |tower: &Tower| precision.least_bytes(tower, stored.unwrap_or(1) as u64);
            let image = match &checkpoint.architecture.image {
                ImageTower::VisionTransformer(sizes) => of(&sizes.tower),
                ImageTower::ResNet(_) => 0,
            };
            let text = of(&checkpoint.architecture.text);
            match wanted {
                Towers::Both => image + text,
                Towers::Image => image,
                Towers::Text => text,
            }
        };
        let files = checkpoint
            .files
            .iter()
            .filter_map(|file| file.metadata().ok());
        let mapped: u64 = files.map(|file| file.len()).sum();
        let need = |precision, threads: usize| match limit.from {
            // Everything mapped counts there: the files, and the stacks of threads.
            Source::AddressSpace => towers(precision) + mapped + threads as u64 * STACK_BYTES,
            _ => towers(precision),
        };
        let less = [
            ("use --threads 1", need(*precision, 1)),
            (
                "use --precision bf16",
                need(CpuPrecision::Bf16, self.threads),
            ),
            (
                "use --precision int8",
                need(CpuPrecision::Int8, self.threads),
            ),
            (
                "use --precision int8-fast",
                need(CpuPrecision::Int8Fast, self.threads),
            ),
        ];
        let less = less.iter().find(|(_, bytes)| *bytes <= limit.bytes);
        let advice = less.map_or("use a smaller model", |(advice, _)| advice);
        memory::ensure(need(*precision, self.threads), "this model needs", advice)
    }

    /// Digest of the weights, see [`Checkpoint::weights_sha256`]. The first call reads all of them.
    pub(crate) fn weights_sha256(&self) -> Result<&str> {
        if let Some(known) = self.weights_sha256.get() {
            return Ok(known);
        }
        let digest_of = |file: &Path| Ok(hexadecimal(&sha256(file)?));
        let digest = self.checkpoint.weights_sha256(digest_of)?;
        Ok(self.weights_sha256.get_or_init(|| digest))
    }

    /// Sets the digest, if it is already known.
    pub(crate) fn set_weights_sha256(&self, digest: String) {
        let _ = self.weights_sha256.set(digest);
    }

    /// Everything except the file that an image's embedding depends on, as text. Embeddings with
    /// the same recipe can be reused.
    pub(crate) fn image_recipe(&self, decode: &DecodeOptions) -> Result<String> {
        Ok(format!(
            "{}; {}; {}",
            self.text_recipe()?,
            self.checkpoint.preprocess.recipe(),
            decode.recipe(),
        ))
    }

    /// Everything except the tokens that a text's embedding depends on.
    pub(crate) fn text_recipe(&self) -> Result<String> {
        Ok(format!(
            "longclip embeddings 1; weights {}; {:?}; {}; {} in {}{}",
            self.weights_sha256()?,
            self.checkpoint.architecture,
            self.checkpoint.activation,
            // The index of the GPU does not matter.
            self.placement.device.split(':').next().unwrap_or_default(),
            self.placement.precision,
            // Kernels of other instructions round differently, in low precision by far more than the
            // last digits.
            match self.placement.compute {
                Compute::Kernel(_) => format!(" by {}", kernel::features().join(" ")),
                Compute::Candle(..) => String::new(),
            },
        ))
    }

    fn describe(&self, console: &Console) {
        let checkpoint = &self.checkpoint;
        console.detail(&format!(
            "model: {}, {} with {} tokens of context, {} names{}",
            checkpoint.name,
            checkpoint.architecture.image.describe(),
            checkpoint.architecture.context_length,
            checkpoint.layout,
            checkpoint
                .container
                .map_or(String::new(), |container| format!(" in a {container} file")),
        ));
        for file in &checkpoint.files {
            console.detail(&format!("file: {}", file.display()));
        }
        console.detail(&format!(
            "activation: {} ({})",
            checkpoint.activation, checkpoint.activation_source
        ));
        console.detail(&format!("heads: {}", checkpoint.heads()));
        console.detail(&format!("pixels: {}", checkpoint.preprocess.describe()));
        if let Ok(Some(bias)) = checkpoint.logit_bias() {
            console.detail(&format!(
                "logit bias: {bias}, which --score sigmoid adds unless a none label is given"
            ));
        }
        if let Some(note) = &self.placement.note {
            console.note(&format!("computing on the CPU: {note}"));
        }
        console.detail(&format!(
            "device: {} in {} ({}), {} thread{}, {}",
            self.placement.device,
            self.placement.precision,
            self.reason,
            self.threads,
            if self.threads == 1 { "" } else { "s" },
            kernel::features().join(" "),
        ));
    }
}

/// Why a precision was chosen, for `-v`.
fn reason(choice: PrecisionChoice, placement: &Placement) -> &'static str {
    match (choice, placement.device == "cpu") {
        (PrecisionChoice::Auto, true) if kernel::has_native_bf16() => {
            "auto: this CPU computes bf16 natively"
        }
        (PrecisionChoice::Auto, true) => "auto: this CPU does not compute bf16 natively",
        (PrecisionChoice::Auto, false) => "auto: on a GPU",
        (PrecisionChoice::Bf16, true) if !kernel::has_native_bf16() => {
            "as requested; these kernels emulate it, f32 is faster"
        }
        (PrecisionChoice::Int8 | PrecisionChoice::Int8Fast, true) => {
            match (kernel::fastest_bytes(), kernel::fastest_half()) {
                (kernel::Precision::F32, _) => {
                    "as requested, but in f32: these kernels have no fast products of integers"
                }
                (_, kernel::Precision::Int16) => {
                    "as requested; 16-bit integers stand in for bf16, which these kernels lack"
                }
                (_, kernel::Precision::F32) => {
                    "as requested; f32 stands in for bf16, which these kernels lack"
                }
                _ => "as requested",
            }
        }
        _ => "as requested",
    }
}

/// Sizes the thread pool that kernels share.
pub(crate) fn start_threads(args: &ModelArgs) -> Result<usize> {
    let threads = match args.threads {
        Some(threads) => threads as usize,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .with_context(|| format!("cannot start {threads} threads; use fewer: --threads 1"))?;
    Ok(threads)
}

/// The first signal that asked the run to stop; a second one kills it.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    signal: Arc<AtomicUsize>,
    listens: Arc<AtomicBool>,
}

impl Stop {
    /// From now on Ctrl-C, SIGTERM and a hangup end the run cleanly. Call this once there is
    /// something to save; until then a signal ends the process.
    pub(crate) fn listen(&self) -> Result<()> {
        if !self.listens.swap(true, Ordering::Relaxed) {
            signal::tell(&self.signal)?;
        }
        Ok(())
    }

    /// The number of the signal, if there was one.
    pub(crate) fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }
}
