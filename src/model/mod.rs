//! The image and text towers, written once on candle tensors for every device and precision.
//!
//! On a CPU the layers call `kernel` through candle's custom ops; elsewhere, and as the reference
//! in tests, the same layers are plain candle. `train::network` implements the transformers again,
//! with backward passes and weights that change.

pub(crate) mod attention;
mod block;
pub mod device;
pub(crate) mod direct;
mod layer;
mod resnet;
pub(crate) mod sequences;
mod states;
mod text_transformer;
mod vision_transformer;
mod weights;

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Device, Tensor};
use rayon::ThreadPool;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::architecture::{Architecture, ImageTower, Tower};
use crate::input::tokenizer::TokenIds;
use crate::kernel;
use resnet::ResNet;
use text_transformer::TextTransformer;
use vision_transformer::VisionTransformer;
use weights::Weights;

pub use device::Compute;
pub use sequences::Sharing;
pub use states::{Layer, Patches, TextStates};

/// A model that embeds images and texts into one space.
///
/// Embeddings are normalised, in f32 on the CPU.
pub trait DualEncoder: Send + Sync {
    /// `pixels` [n, 3, image_size, image_size] -> image embeddings [n, embed_dim].
    ///
    /// # Errors
    /// When the pixels have another shape or an embedding is not finite.
    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor>;

    /// `texts` (ragged, each at its own length) -> text embeddings [n, embed_dim].
    ///
    /// # Errors
    /// When a text is longer than the context or an embedding is not finite.
    fn encode_text(&self, texts: &[TokenIds]) -> Result<Tensor>;

    /// The logit scale, by which cosines are multiplied: the exponential of the stored parameter.
    fn logit_scale(&self) -> f32;

    /// The bias added to every logit by models trained with a sigmoid loss. It cancels in a
    /// softmax.
    fn logit_bias(&self) -> Option<f32>;

    /// The dimensions of the model.
    fn architecture(&self) -> &Architecture;
}

/// CLIP, or Long-CLIP with its longer positional embedding.
pub struct Clip {
    architecture: Architecture,
    /// `None` if only texts are encoded.
    image: Option<Image>,
    /// `None` if only images are encoded.
    text: Option<TextTransformer>,
    logit_scale: f32,
    logit_bias: Option<f32>,
}

/// The image tower, of either architecture.
enum Image {
    VisionTransformer(Box<VisionTransformer>),
    ResNet(Box<ResNet>),
}

impl Image {
    fn load(weights: &Weights) -> Result<Self> {
        Ok(match &weights.checkpoint.architecture.image {
            ImageTower::VisionTransformer(sizes) => {
                Self::VisionTransformer(Box::new(VisionTransformer::load(weights, sizes)?))
            }
            ImageTower::ResNet(sizes) => Self::ResNet(Box::new(ResNet::load(weights, sizes)?)),
        })
    }

    /// `pixels` [n, 3, image_size, image_size] -> [n, embed_dim], not normalised.
    fn encode(&self, pixels: &Tensor) -> Result<Tensor> {
        match self {
            Self::VisionTransformer(tower) => tower.encode(pixels),
            Self::ResNet(tower) => tower.encode(pixels),
        }
    }
}

/// Which towers are built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Towers {
    /// Both.
    #[default]
    Both,
    /// That of images; the weights of the other are not read.
    Image,
    /// That of texts, likewise.
    Text,
}

/// Builds the towers from a checkpoint, for one kind of arithmetic.
///
/// # Errors
/// When a tensor holds NaN or infinity, or the device fails.
pub fn load(checkpoint: &Checkpoint, compute: &Compute) -> Result<Clip> {
    load_some(checkpoint, compute, Towers::Both)
}

/// The same for some of them.
///
/// # Errors
/// As [`load`].
pub fn load_some(checkpoint: &Checkpoint, compute: &Compute, towers: Towers) -> Result<Clip> {
    if let Compute::Kernel(_) = compute {
        let architecture = &checkpoint.architecture;
        check_heads(&architecture.text)?;
        // A ResNet's attention pooling has its own kernel, for heads of any width.
        if let ImageTower::VisionTransformer(sizes) = &architecture.image {
            check_heads(&sizes.tower)?;
        }
    }
    let weights = Weights::new(checkpoint, compute);
    let image = || (towers != Towers::Text).then(|| Image::load(&weights));
    let text = || (towers != Towers::Image).then(|| TextTransformer::load(&weights));
    let (image, text) = rayon::join(image, text);
    let clip = Clip {
        architecture: checkpoint.architecture.clone(),
        image: image.transpose()?,
        text: text.transpose()?,
        logit_scale: checkpoint.logit_scale()?,
        logit_bias: checkpoint.logit_bias()?,
    };
    checkpoint
        .unchanged()
        .context("the file changed while it was being loaded; load it again")?;
    Ok(clip)
}

/// Fails if the kernels cannot compute a tower's attention.
fn check_heads(tower: &Tower) -> Result<()> {
    let head = tower.width / tower.heads;
    ensure!(
        head <= kernel::MOST_HEAD_COLUMNS,
        "attention heads of {head} features are wider than the kernels support ({}); is the number \
         of heads in the configuration right?",
        kernel::MOST_HEAD_COLUMNS
    );
    Ok(())
}

impl Clip {
    /// Like [`DualEncoder::encode_text`], with a choice of how much work the texts share.
    ///
    /// # Errors
    /// Those of [`DualEncoder::encode_text`].
    pub fn encode_text_with(&self, texts: &[TokenIds], sharing: Sharing) -> Result<Tensor> {
        let text = self.text.as_ref();
        let text = text.context("the text tower was not loaded")?;
        unit_length(kernel::in_pool(|| text.encode(texts, sharing))?)
    }
}

impl DualEncoder for Clip {
    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        let size = self.architecture.image.image_size();
        let (n, channels, height, width) = pixels.dims4()?;
        ensure!(n > 0, "no images to encode");
        ensure!(
            (channels, height, width) == (3, size, size),
            "the pixels have shape {:?}, but this model reads [n, 3, {size}, {size}]",
            pixels.dims()
        );
        let image = self.image.as_ref();
        let image = image.context("the image tower was not loaded")?;
        unit_length(kernel::in_pool(|| image.encode(pixels))?)
    }

    fn encode_text(&self, texts: &[TokenIds]) -> Result<Tensor> {
        self.encode_text_with(texts, Sharing::Prefixes)
    }

    fn logit_scale(&self) -> f32 {
        self.logit_scale
    }

    fn logit_bias(&self) -> Option<f32> {
        self.logit_bias
    }

    fn architecture(&self) -> &Architecture {
        &self.architecture
    }
}

/// [n, embed_dim] on any device -> normalised to unit length, f32 on the CPU.
fn unit_length(embeddings: Tensor) -> Result<Tensor> {
    let (n, dim) = embeddings.dims2()?;
    let embeddings = embeddings.to_dtype(DType::F32)?;
    let mut values = embeddings.flatten_all()?.to_vec1::<f32>()?;
    for row in values.chunks_exact_mut(dim) {
        // In f64, so that the order of summation does not matter.
        let squares: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        ensure!(
            squares.is_finite() && squares > 0.0,
            "an embedding is zero or not finite; the checkpoint or the input is damaged"
        );
        let norm = squares.sqrt();
        row.iter_mut()
            .for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
    Ok(Tensor::from_vec(values, (n, dim), &Device::Cpu)?)
}

/// Runs `encode` on parts of `pixels` [n, 3, size, size], one part per core, in order: [n,
/// embed_dim].
///
/// Threads that share a layer wait for each other at every join, so only a single image is shared.
pub(super) fn one_image_a_core(
    pixels: &Tensor,
    encode: impl Fn(&Tensor) -> Result<Tensor> + Sync,
) -> Result<Tensor> {
    let n = pixels.dim(0)?;
    let threads = rayon::current_num_threads().min(n);
    if n == 1 || threads == 1 {
        return encode(pixels);
    }
    let share = n.div_ceil(threads);
    let starts: Vec<usize> = (0..n).step_by(share).collect();
    let run = |start: usize| -> Result<Tensor> {
        let part = pixels.narrow(0, start, share.min(n - start))?;
        one_thread()?.install(|| encode(&part))
    };
    let parts: Vec<Result<Tensor>> = std::thread::scope(|scope| {
        let workers: Vec<_> = starts
            .iter()
            .map(|&start| {
                let run = &run;
                scope.spawn(move || run(start))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    Ok(Tensor::cat(
        &parts.into_iter().collect::<Result<Vec<_>>>()?,
        0,
    )?)
}

/// A pool in which the kernels use one thread.
fn one_thread() -> Result<ThreadPool> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(1).build()?)
}
