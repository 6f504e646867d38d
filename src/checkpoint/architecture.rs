//! Sizes of a model, read off tensor shapes and checked against config.json when there is one.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};

use super::config::ModelConfig;
use super::container::StoredTensor;
use super::{Tensors, layout};

mod image;

pub use image::{ImageTower, ResNet, VisionTransformer};

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

/// The sizes of a CLIP model.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Most tokens of a text, with start and end.
    pub context_length: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Features of an embedding.
    pub embed_dim: usize,
    /// The image tower.
    pub image: ImageTower,
    /// The text tower.
    pub text: Tower,
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
    let [vocabulary, text_width] = shape(tensors, "text_model.embeddings.token_embedding.weight")?;
    let [context_length, _] = shape(tensors, "text_model.embeddings.position_embedding.weight")?;
    let [embed_dim, _] = shape(tensors, "text_projection.weight")?;
    ensure!(context_length > 1 && embed_dim > 0, "a size is zero");
    let architecture = Architecture {
        context_length,
        vocabulary,
        embed_dim,
        image: image::read(tensors, config)?,
        text: tower(tensors, "text_model", text_width, config.text_heads())?
            .with_epsilon(config.text_epsilon()),
    };
    let warnings = config.check(&architecture)?;
    Ok((architecture, warnings))
}

fn towers_present(tensors: &Tensors) -> Result<()> {
    let has = |prefix: &str| tensors.keys().any(|name| name.starts_with(prefix));
    let image = has("vision_model.") || layout::canonical::has_resnet(tensors);
    match (image, has("text_model.")) {
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
