//! The dimensions of a model. `sizes` reads them off tensor shapes.

use std::fmt;

/// The activation inside the MLPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`: used by OpenAI's models and Long-CLIP.
    QuickGelu,
    /// The exact form with erf, used by most open_clip models.
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

/// Dimensions of one transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Tower {
    /// Features per token.
    pub width: usize,
    /// Residual blocks.
    pub layers: usize,
    /// Attention heads; each has `width / heads` features.
    pub heads: usize,
    /// Features inside the MLP.
    pub mlp_width: usize,
    /// Epsilon added to the variance in every LayerNorm.
    pub norm_epsilon: f32,
}

/// Dimensions of a CLIP model.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Maximum tokens per text, including the start and end tokens.
    pub context_length: usize,
    /// Rows of the token embedding table.
    pub vocabulary: usize,
    /// Features per embedding.
    pub embed_dim: usize,
    /// The image tower.
    pub image: ImageTower,
    /// The text tower.
    pub text: Tower,
}

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
    /// Side of the square input, in pixels: a multiple of `ResNet::REDUCTION`.
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
    pub(crate) fn head_width(&self) -> usize {
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
}

impl ResNet {
    /// Pixels per side that become one position in the last stage.
    pub(crate) const REDUCTION: usize = 32;

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
    pub(crate) fn channels_into(&self, stage: usize) -> usize {
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
