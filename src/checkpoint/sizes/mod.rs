//! Reads a model's dimensions off tensor shapes, and checks them against config.json if there is
//! one. Head counts, which no shape shows, are determined in `heads`; the activation, which none
//! shows either, is chosen here.

mod heads;

use anyhow::{Context, Result, bail, ensure};

use super::architecture::{Activation, Architecture, ImageTower, ResNet, Tower, VisionTransformer};
use super::config::ModelConfig;
use super::container::StoredTensor;
use super::{Tensors, layout};
use heads::{Chosen, Question};

pub use heads::{Code, Heads};

/// Largest plausible input side, in pixels; CLIP models have at most 448.
const LARGEST_IMAGE: usize = 4096;

/// Largest plausible stem width; CLIP's ResNets have at most 128 channels there.
const WIDEST_STEM: usize = 1024;

/// What the user specifies about a model in case its files do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// The activation of both towers' MLPs.
    pub activation: Option<Activation>,
    /// The attention heads of the towers.
    pub heads: Heads,
}

impl From<Option<Activation>> for Stated {
    fn from(activation: Option<Activation>) -> Self {
        Self {
            activation,
            ..Self::default()
        }
    }
}

/// The result of reading an architecture.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// The dimensions.
    pub architecture: Architecture,
    /// Where the head counts of both towers come from.
    pub heads_source: String,
    /// Warnings for the user. For the context length the tensor wins over config.json, because
    /// published Long-CLIP conversions say 77 although they hold 248.
    pub warnings: Vec<String>,
}

/// Reads a model's dimensions off its tensors' shapes, and its head counts from the best source
/// available.
///
/// # Errors
/// When a tower is missing, a shape makes no sense, config.json contradicts the shapes, or the head
/// count is unknown.
pub fn read(tensors: &Tensors, config: &ModelConfig, heads: Heads, code: Code) -> Result<Sizes> {
    towers_present(tensors)?;
    let [vocabulary, text_width] = shape(tensors, "text_model.embeddings.token_embedding.weight")?;
    let [context_length, _] = shape(tensors, "text_model.embeddings.position_embedding.weight")?;
    let [embed_dim, _] = shape(tensors, "text_projection.weight")?;
    ensure!(context_length > 1 && embed_dim > 0, "a dimension is zero");
    let is_needed = heads != Heads::NOT_NEEDED;
    let (image, image_heads) = image_tower(tensors, config, heads.image, code)?;
    let text_heads = Question {
        tower: "text",
        width: text_width,
        stated: heads.text,
        configured: config.text_heads(),
        code,
    }
    .answer()?;
    let architecture = Architecture {
        context_length,
        vocabulary,
        embed_dim,
        image,
        text: tower(tensors, "text_model", text_width, text_heads.heads)?
            .with_epsilon(config.text_epsilon()),
    };
    let mut warnings = config.check(&architecture)?;
    let heads = if is_needed {
        &[("image", image_heads), ("text", text_heads)][..]
    } else {
        &[]
    };
    warnings.extend(
        heads
            .iter()
            .filter_map(|(tower, heads)| heads.warning(tower)),
    );
    let heads_source = match (image_heads.source, text_heads.source) {
        (image, text) if image == text => image.to_owned(),
        (image, text) => format!("image: {image}, text: {text}"),
    };
    Ok(Sizes {
        architecture,
        heads_source,
        warnings,
    })
}

fn towers_present(tensors: &Tensors) -> Result<()> {
    let has = |prefix: &str| tensors.keys().any(|name| name.starts_with(prefix));
    let image = has("vision_model.") || layout::canonical::has_resnet(tensors);
    match (image, has("text_model.")) {
        (true, true) => Ok(()),
        (false, true) => bail!(layout::TEXT_ENCODER_ONLY),
        (true, false) => bail!(layout::IMAGE_TOWER_ONLY),
        (false, false) => bail!("the file holds neither an image tower nor a text tower"),
    }
}

/// Reads the dimensions of whichever kind of tower is present, and its head count.
fn image_tower(
    tensors: &Tensors,
    config: &ModelConfig,
    stated: Option<usize>,
    code: Code,
) -> Result<(ImageTower, Chosen)> {
    if layout::canonical::has_resnet(tensors) {
        return resnet(tensors, config, stated);
    }
    vision_transformer(tensors, config, stated, code)
}

fn vision_transformer(
    tensors: &Tensors,
    config: &ModelConfig,
    stated: Option<usize>,
    code: Code,
) -> Result<(ImageTower, Chosen)> {
    let [width, 3, patch_size, patch_width] =
        shape(tensors, "vision_model.embeddings.patch_embedding.weight")?
    else {
        bail!("the patch embedding must be [width, 3, patch, patch]");
    };
    ensure!(
        patch_size == patch_width,
        "patches are {patch_size} by {patch_width}, not square"
    );
    ensure!(patch_size > 0, "a dimension is zero");
    let table = "vision_model.embeddings.position_embedding.weight";
    let image_size = image_size(tensors, table, patch_size)?;
    let heads = Question {
        tower: "image",
        width,
        stated,
        configured: config.vision_heads(width),
        code,
    }
    .answer()?;
    let tower =
        tower(tensors, "vision_model", width, heads.heads)?.with_epsilon(config.vision_epsilon());
    let sizes = VisionTransformer {
        image_size,
        patch_size,
        tower,
    };
    Ok((ImageTower::VisionTransformer(sizes), heads))
}

fn resnet(
    tensors: &Tensors,
    config: &ModelConfig,
    stated: Option<usize>,
) -> Result<(ImageTower, Chosen)> {
    let [width, _, 1, 1] = shape(tensors, "visual.layer1.0.conv1.weight")? else {
        bail!("the first convolution of a block must be [channels, channels, 1, 1]");
    };
    ensure!(
        (2..=WIDEST_STEM).contains(&width) && width.is_multiple_of(2),
        "the ResNet's stem has {width} channels, expected an even number up to {WIDEST_STEM}"
    );
    let table = "visual.attnpool.positional_embedding";
    let mut sizes = ResNet {
        image_size: image_size(tensors, table, ResNet::REDUCTION)?,
        width,
        blocks: [0; 4],
        heads: 0,
    };
    for (stage, blocks) in sizes.blocks.iter_mut().enumerate() {
        let block = |index: usize| format!("visual.layer{}.{index}.conv1.weight", stage + 1);
        while tensors.contains_key(&block(*blocks)) {
            *blocks += 1;
        }
        ensure!(*blocks > 0, "tensor {} is missing", block(0));
    }
    let width = sizes.features();
    let heads = Question {
        tower: "image",
        width,
        stated,
        configured: config.vision_heads(width),
        // All implementations of CLIP's ResNets use heads of 64 features, whatever the width.
        code: Code::OpenAi,
    }
    .answer()?;
    sizes.heads = heads.heads;
    Ok((ImageTower::ResNet(sizes), heads))
}

/// Input side of a tower with a positional table: one row for every `unit` by `unit` pixels, plus
/// one.
fn image_size(tensors: &Tensors, table: &str, unit: usize) -> Result<usize> {
    let [rows, _] = shape(tensors, table)?;
    let side = rows.saturating_sub(1).isqrt();
    ensure!(
        side > 0 && side.checked_pow(2).and_then(|n| n.checked_add(1)) == Some(rows),
        "the image tower has {rows} positions, which is not a square plus one"
    );
    let pixels = side.checked_mul(unit).filter(|&n| n <= LARGEST_IMAGE);
    match pixels {
        Some(pixels) => Ok(pixels),
        None => {
            bail!(
                "the image tower has an input side of {side} x {unit} pixels, which no CLIP model \
                 has"
            )
        }
    }
}

fn tower(tensors: &Tensors, name: &str, width: usize, heads: usize) -> Result<Tower> {
    let mut layers = 0;
    let path = |layer: usize, rest: &str| format!("{name}.encoder.layers.{layer}.{rest}");
    while tensors.contains_key(&path(layers, "layer_norm1.weight")) {
        layers += 1;
    }
    ensure!(layers > 0, "{name} has no layers");
    let [mlp_width, _] = shape(tensors, &path(0, "mlp.fc1.weight"))?;
    ensure!(width > 0 && mlp_width > 0, "{name}: a dimension is zero");
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

/// Warning for a user who specifies a different activation than the configuration.
#[must_use]
pub(crate) fn overridden_activation(
    wanted: Option<Activation>,
    config: &ModelConfig,
) -> Option<String> {
    let wanted = wanted?;
    // A configuration that cannot be right is why the user was asked for the activation.
    let (configured, source) = config.activation().ok()??;
    (configured != wanted)
        .then(|| format!("{source} is {configured}; --activation {wanted} overrides it"))
}

/// The activation and the reason for it: the user's choice, the configuration's, or the one that
/// all files of the layout have.
///
/// # Errors
/// When no source gives it, or config.json names an activation that CLIP models do not have.
pub(crate) fn choose_activation(
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
            format!("all published files with {layout} names use it"),
        )),
        _ => bail!(
            "the file does not say its activation, and no configuration gives it; pass \
             --activation quick_gelu (OpenAI's models, Long-CLIP) or --activation gelu (most of \
             open_clip's)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tensors of a model with these widths, without values.
    fn shapes(image_width: usize, text_width: usize) -> Tensors {
        let tower = |width| Tower {
            width,
            layers: 1,
            heads: 1,
            mlp_width: width,
            norm_epsilon: 1e-5,
        };
        let architecture = Architecture {
            context_length: 77,
            vocabulary: 10,
            embed_dim: 64,
            image: ImageTower::VisionTransformer(VisionTransformer {
                image_size: 28,
                patch_size: 14,
                tower: tower(image_width),
            }),
            text: tower(text_width),
        };
        let shapes = layout::canonical::expected(&architecture).into_iter();
        shapes
            .map(|(name, shape)| (name, StoredTensor::shape_only(shape).unwrap()))
            .collect()
    }

    #[test]
    fn heads_are_known_guessed_with_a_warning_or_asked_for() {
        let none = Heads::default();
        let stated = Heads {
            image: Some(8),
            text: Some(4),
        };
        let cases = [
            (1280, 1024, none, Ok((16, 16)), 0),
            (1408, 1024, none, Ok((16, 16)), 0),
            (1664, 1280, none, Ok((16, 20)), 0),
            (768, 512, none, Ok((12, 8)), 0),
            (128, 64, none, Ok((2, 1)), 2),
            (128, 64, stated, Ok((8, 4)), 0),
            (1152, 512, stated, Ok((8, 4)), 0),
            (1152, 512, none, Err("image tower"), 0),
            (768, 1408, none, Err("--heads IMAGE,TEXT"), 0),
        ];
        for case in cases {
            let (image, text, heads, expected, warnings) = case;
            let found = read(
                &shapes(image, text),
                &ModelConfig::default(),
                heads,
                Code::Any,
            );
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    let a = &found.architecture;
                    assert_eq!((a.image.heads(), a.text.heads), expected, "{case:?}");
                    assert_eq!(found.warnings.len(), warnings, "{case:?}");
                }
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{error}");
                }
                (found, _) => panic!("{case:?}: {found:?}"),
            }
        }
        let any = read(
            &shapes(1152, 1408),
            &ModelConfig::default(),
            Heads::NOT_NEEDED,
            Code::Any,
        );
        assert_eq!(any.unwrap().architecture.context_length, 77);
    }

    #[test]
    fn the_activation_is_stated_or_that_of_all_files_with_such_names() {
        use Activation::{Gelu, QuickGelu};
        let config = ModelConfig::default();
        for (wanted, named, expected) in [
            (Some(Gelu), layout::OPENAI, Some(Gelu)),
            (None, layout::OPENAI, Some(QuickGelu)),
            (None, layout::LONG_CLIP, Some(QuickGelu)),
            (None, layout::LONG_CLIP_HUGGING_FACE, Some(QuickGelu)),
            (None, layout::HUGGING_FACE, None),
            (Some(QuickGelu), layout::HUGGING_FACE, Some(QuickGelu)),
        ] {
            let found = choose_activation(wanted, &config, named);
            let found = found.ok().map(|(activation, _)| activation);
            assert_eq!(found, expected, "{wanted:?} {named}");
            assert_eq!(overridden_activation(wanted, &config), None);
        }
    }

    #[test]
    fn the_input_side_is_the_root_of_the_positions() {
        for (rows, unit, expected) in [
            (50, 32, Some(224)),
            (197, 16, Some(224)),
            (577, 14, Some(336)),
            (1, 16, None),
            (0, 16, None),
            (198, 16, None),
            (65 * 65 + 1, 64, None),
        ] {
            let table = StoredTensor::shape_only(vec![rows, 8]).unwrap();
            let tensors = Tensors::from([("table".to_owned(), table)]);
            let found = image_size(&tensors, "table", unit).ok();
            assert_eq!(found, expected, "{rows} {unit}");
        }
    }
}
