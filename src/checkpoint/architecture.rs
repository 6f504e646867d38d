//! Sizes of a model, read off tensor shapes and checked against config.json when there is one.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use super::config::ModelConfig;
use super::container::StoredTensor;
use super::{Tensors, layout};

/// The activation inside the MLPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: OpenAI's models and Long-CLIP.
    QuickGelu,
    /// The exact form with erf: most models of open_clip.
    Gelu,
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QuickGelu => "quick_gelu",
            Self::Gelu => "gelu",
        })
    }
}

/// The sizes of one transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Tower {
    /// Features of a token.
    pub width: usize,
    /// Residual blocks.
    pub layers: usize,
    /// Attention heads; each has `width / heads` features.
    pub heads: usize,
    /// Features inside the MLP.
    pub mlp_width: usize,
    /// Added to the variance in every LayerNorm.
    pub norm_epsilon: f32,
}

/// The sizes of a CLIP model with a vision transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Most tokens of a text, with start and end.
    pub context_length: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Features of an embedding.
    pub embed_dim: usize,
    /// The image tower.
    pub vision: Tower,
    /// The text tower.
    pub text: Tower,
}

impl Architecture {
    /// Tokens of an image: one a patch and the class token.
    #[must_use]
    pub fn image_tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }

    /// The field's name for the image tower, such as `ViT-B/16` or `ViT-L/14@336px`.
    #[must_use]
    pub fn describe(&self) -> String {
        let size = match (self.vision.width, self.vision.layers) {
            (768, 12) => "B".to_owned(),
            (1024, 24) => "L".to_owned(),
            (1280, 32) => "H".to_owned(),
            (1408, 40) => "g".to_owned(),
            (1664, 48) => "bigG".to_owned(),
            (width, layers) => format!("{width}x{layers}"),
        };
        let pixels = match self.image_size {
            224 => String::new(),
            other => format!("@{other}px"),
        };
        format!("ViT-{size}/{}{pixels}", self.patch_size)
    }
}

/// Reads the sizes of a model off its tensors' shapes.
///
/// The second value are warnings: for the context length the tensor wins over config.json, because
/// published Long-CLIP conversions say 77 where they hold 248.
///
/// # Errors
/// When a tower is not there, a shape makes no sense, or config.json contradicts the shapes.
pub fn read(tensors: &Tensors, config: &ModelConfig) -> Result<(Architecture, Vec<String>)> {
    towers_present(tensors)?;
    let [vision_width, 3, patch_size, patch_width] =
        shape(tensors, "vision_model.embeddings.patch_embedding.weight")?
    else {
        bail!("the patch embedding must be [width, 3, patch, patch]");
    };
    ensure!(
        patch_size == patch_width,
        "patches are {patch_size} by {patch_width}, not square"
    );
    let [image_tokens, _] = shape(tensors, "vision_model.embeddings.position_embedding.weight")?;
    let [vocabulary, text_width] = shape(tensors, "text_model.embeddings.token_embedding.weight")?;
    let [context_length, _] = shape(tensors, "text_model.embeddings.position_embedding.weight")?;
    let [embed_dim, _] = shape(tensors, "text_projection.weight")?;
    ensure!(
        patch_size > 0 && context_length > 1 && embed_dim > 0,
        "a size is zero"
    );
    let side = image_tokens.saturating_sub(1).isqrt();
    ensure!(
        side > 0 && side * side + 1 == image_tokens,
        "the image tower has {image_tokens} positions, which is not one more than a square"
    );
    ensure!(
        side.checked_mul(patch_size)
            .is_some_and(|pixels| pixels <= LARGEST_IMAGE),
        "the image tower reads {side} x {patch_size} pixels a side, which no CLIP model does"
    );
    let architecture = Architecture {
        image_size: side * patch_size,
        patch_size,
        context_length,
        vocabulary,
        embed_dim,
        vision: tower(
            tensors,
            "vision_model",
            vision_width,
            config.vision_heads(vision_width),
        )?
        .with_epsilon(config.vision_epsilon()),
        text: tower(tensors, "text_model", text_width, config.text_heads())?
            .with_epsilon(config.text_epsilon()),
    };
    let warnings = config.check(&architecture)?;
    Ok((architecture, warnings))
}

/// Side of the largest input that is believed, in pixels; CLIP models have at most 448.
const LARGEST_IMAGE: usize = 4096;

fn towers_present(tensors: &Tensors) -> Result<()> {
    let has = |prefix: &str| tensors.keys().any(|name| name.starts_with(prefix));
    match (has("vision_model."), has("text_model.")) {
        (true, true) => Ok(()),
        (false, true) => bail!(
            "the file holds a text encoder only (as diffusion pipelines use), without the image \
             tower; take the full model's file"
        ),
        (true, false) => bail!("the file holds an image tower only, without the text tower"),
        (false, false) => bail!("the file holds neither an image tower nor a text tower"),
    }
}

fn tower(tensors: &Tensors, name: &str, width: usize, heads: Option<usize>) -> Result<Tower> {
    let mut layers = 0;
    let path = |layer: usize, rest: &str| format!("{name}.encoder.layers.{layer}.{rest}");
    while tensors.contains_key(&path(layers, "layer_norm1.weight")) {
        layers += 1;
    }
    ensure!(layers > 0, "{name} has no layers");
    let [mlp_width, _] = shape(tensors, &path(0, "mlp.fc1.weight"))?;
    // Every published CLIP has heads of 64 features, bar a few that say so in their config.
    let heads = heads.unwrap_or(width / 64);
    ensure!(width > 0 && mlp_width > 0, "{name}: a size is zero");
    ensure!(
        heads > 0 && width.is_multiple_of(heads),
        "{name} is {width} wide, which {heads} attention heads do not divide"
    );
    Ok(Tower {
        width,
        layers,
        heads,
        mlp_width,
        norm_epsilon: 1e-5,
    })
}

impl Tower {
    fn with_epsilon(mut self, epsilon: Option<f32>) -> Self {
        self.norm_epsilon = epsilon.unwrap_or(self.norm_epsilon);
        self
    }
}

fn shape<const N: usize>(tensors: &Tensors, name: &str) -> Result<[usize; N]> {
    let tensor: &StoredTensor = tensors
        .get(name)
        .with_context(|| format!("tensor {name} is missing"))?;
    tensor.shape().try_into().ok().with_context(|| {
        format!(
            "tensor {name} is {:?}, expected {N} dimensions",
            tensor.shape()
        )
    })
}

/// The activation and the reason for it: the user's word, the configuration's, or what all files
/// of the layout have.
///
/// # Errors
/// When nothing tells, or config.json names an activation that CLIP models do not have.
pub fn choose_activation(
    wanted: Option<Activation>,
    config: &ModelConfig,
    layout: &str,
) -> Result<(Activation, String)> {
    if let Some(activation) = wanted {
        return Ok((activation, "--activation".to_owned()));
    }
    if let Some(found) = config.activation()? {
        return Ok(found);
    }
    match layout {
        layout::OPENAI | layout::LONG_CLIP | layout::LONG_CLIP_HUGGING_FACE => Ok((
            Activation::QuickGelu,
            format!("all published files with {layout} names have it"),
        )),
        _ => bail!(
            "the file does not tell its activation and has no config.json beside it; say \
             --activation quick_gelu (OpenAI's models, Long-CLIP) or --activation gelu (most of \
             open_clip's)"
        ),
    }
}
