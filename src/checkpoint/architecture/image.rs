//! The two kinds of image tower: their dimensions, read off tensor shapes.

use anyhow::{Result, bail, ensure};

use super::heads::{Chosen, Code, Question};
use super::{Tower, shape, tower};
use crate::checkpoint::Tensors;
use crate::checkpoint::config::ModelConfig;
use crate::checkpoint::layout::canonical;

/// Largest plausible input side, in pixels; CLIP models have at most 448.
const LARGEST_IMAGE: usize = 4096;

/// Largest plausible stem width; CLIP's ResNets have at most 128 channels there.
const WIDEST_STEM: usize = 1024;

/// Dimensions of an image tower.
#[derive(Clone, Debug, PartialEq)]
pub enum ImageTower {
    /// A vision transformer.
    VisionTransformer(VisionTransformer),
    /// CLIP's modified ResNet: convolutions, then attention pooling.
    ResNet(ResNet),
}

/// Dimensions of a vision transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionTransformer {
    /// Side of the square input, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// The transformer blocks.
    pub tower: Tower,
}

/// Dimensions of CLIP's ResNet.
#[derive(Clone, Debug, PartialEq)]
pub struct ResNet {
    /// Side of the square input, in pixels: a multiple of [`ResNet::REDUCTION`].
    pub image_size: usize,
    /// Output channels of the stem; stage `i` has `width << i` inside its blocks and four times
    /// as many between blocks.
    pub width: usize,
    /// Blocks in each of the four stages.
    pub blocks: [usize; 4],
    /// Heads of the attention pooling.
    pub heads: usize,
}

impl ImageTower {
    /// Side of the square input, in pixels.
    #[must_use]
    pub fn image_size(&self) -> usize {
        match self {
            Self::VisionTransformer(sizes) => sizes.image_size,
            Self::ResNet(sizes) => sizes.image_size,
        }
    }

    /// Side of a patch, in pixels; a ResNet has none.
    #[must_use]
    pub fn patch_size(&self) -> Option<usize> {
        match self {
            Self::VisionTransformer(sizes) => Some(sizes.patch_size),
            Self::ResNet(_) => None,
        }
    }

    /// Attention heads; for a ResNet, those of the attention pooling.
    #[must_use]
    pub fn heads(&self) -> usize {
        match self {
            Self::VisionTransformer(sizes) => sizes.tower.heads,
            Self::ResNet(sizes) => sizes.heads,
        }
    }

    /// Features per attention head.
    #[must_use]
    pub fn head_width(&self) -> usize {
        match self {
            Self::VisionTransformer(sizes) => sizes.tower.width / sizes.tower.heads,
            Self::ResNet(sizes) => sizes.features() / sizes.heads,
        }
    }

    /// The usual name, such as `ViT-B/16`, `ViT-L/14@336px` or `RN50x4`.
    #[must_use]
    pub fn describe(&self) -> String {
        let (name, usual) = match self {
            Self::VisionTransformer(sizes) => sizes.name(),
            Self::ResNet(sizes) => sizes.name(),
        };
        if self.image_size() == usual {
            name
        } else {
            format!("{name}@{}px", self.image_size())
        }
    }
}

impl VisionTransformer {
    /// Tokens of an image: one per patch and the class token.
    #[must_use]
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }

    /// The name, and the default input size it implies.
    fn name(&self) -> (String, usize) {
        let size = match (self.tower.width, self.tower.layers) {
            (768, 12) => "B".to_owned(),
            (1024, 24) => "L".to_owned(),
            (1280, 32) => "H".to_owned(),
            (1408, 40) => "g".to_owned(),
            (1664, 48) => "bigG".to_owned(),
            (width, layers) => format!("{width}x{layers}"),
        };
        (format!("ViT-{size}/{}", self.patch_size), 224)
    }

    fn read(
        tensors: &Tensors,
        config: &ModelConfig,
        stated: Option<usize>,
        code: Code,
    ) -> Result<(Self, Chosen)> {
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
        let tower = tower(tensors, "vision_model", width, heads.heads)?
            .with_epsilon(config.vision_epsilon());
        let sizes = Self {
            image_size,
            patch_size,
            tower,
        };
        Ok((sizes, heads))
    }
}

impl ResNet {
    /// Pixels per side that become one position in the last stage.
    pub const REDUCTION: usize = 32;

    /// Output channels of the last stage, and features of the attention pooling.
    #[must_use]
    pub fn features(&self) -> usize {
        self.width * 32
    }

    /// Positions in the last stage, plus their mean.
    #[must_use]
    pub fn tokens(&self) -> usize {
        (self.image_size / Self::REDUCTION).pow(2) + 1
    }

    /// Input channels of the first block of stage 0 to 3.
    #[must_use]
    pub fn channels_into(&self, stage: usize) -> usize {
        if stage == 0 {
            self.width
        } else {
            4 * (self.width << (stage - 1))
        }
    }

    /// The name, and the default input size it implies.
    fn name(&self) -> (String, usize) {
        let (name, usual) = match (self.width, self.blocks) {
            (64, [3, 4, 6, 3]) => ("RN50", 224),
            (64, [3, 4, 23, 3]) => ("RN101", 224),
            (80, [4, 6, 10, 6]) => ("RN50x4", 288),
            (96, [6, 8, 18, 8]) => ("RN50x16", 384),
            (128, [3, 15, 36, 10]) => ("RN50x64", 448),
            (width, [a, b, c, d]) => return (format!("RN-{a}.{b}.{c}.{d}x{width}"), 224),
        };
        (name.to_owned(), usual)
    }

    fn read(
        tensors: &Tensors,
        config: &ModelConfig,
        stated: Option<usize>,
    ) -> Result<(Self, Chosen)> {
        let [width, _, 1, 1] = shape(tensors, "visual.layer1.0.conv1.weight")? else {
            bail!("the first convolution of a block must be [channels, channels, 1, 1]");
        };
        ensure!(
            (2..=WIDEST_STEM).contains(&width) && width.is_multiple_of(2),
            "the ResNet's stem has {width} channels, expected an even number up to {WIDEST_STEM}"
        );
        let table = "visual.attnpool.positional_embedding";
        let mut sizes = Self {
            image_size: image_size(tensors, table, Self::REDUCTION)?,
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
        Ok((sizes, heads))
    }
}

/// Reads the dimensions of whichever kind of tower is present, and its head count.
pub(super) fn read(
    tensors: &Tensors,
    config: &ModelConfig,
    stated: Option<usize>,
    code: Code,
) -> Result<(ImageTower, Chosen)> {
    if canonical::has_resnet(tensors) {
        let (sizes, heads) = ResNet::read(tensors, config, stated)?;
        return Ok((ImageTower::ResNet(sizes), heads));
    }
    let (sizes, heads) = VisionTransformer::read(tensors, config, stated, code)?;
    Ok((ImageTower::VisionTransformer(sizes), heads))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towers_have_the_names_of_the_field() {
        let cases = [
            (64, [3, 4, 6, 3], 224, "RN50"),
            (64, [3, 4, 23, 3], 224, "RN101"),
            (80, [4, 6, 10, 6], 288, "RN50x4"),
            (96, [6, 8, 18, 8], 384, "RN50x16"),
            (128, [3, 15, 36, 10], 448, "RN50x64"),
            (64, [3, 4, 6, 3], 288, "RN50@288px"),
            (6, [1, 2, 1, 1], 64, "RN-1.2.1.1x6@64px"),
        ];
        for (width, blocks, image_size, expected) in cases {
            let tower = ImageTower::ResNet(ResNet {
                image_size,
                width,
                blocks,
                heads: 1,
            });
            assert_eq!(tower.describe(), expected);
            assert_eq!(tower.patch_size(), None);
        }
        let tower = Tower {
            width: 1024,
            layers: 24,
            heads: 16,
            mlp_width: 4096,
            norm_epsilon: 1e-5,
        };
        let tower = ImageTower::VisionTransformer(VisionTransformer {
            image_size: 336,
            patch_size: 14,
            tower,
        });
        assert_eq!(tower.describe(), "ViT-L/14@336px");
        assert_eq!(tower.patch_size(), Some(14));
    }
}
