//! The towers' hidden states, for image generators and detectors: every row of a layer, not only what
//! becomes an embedding.

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{DType, Tensor};

use super::{Clip, DualEncoder, Image};
use crate::checkpoint::architecture::{Architecture, ImageTower};
use crate::input::tokenizer::{PaddedIds, TokenIds};
use crate::kernel;

/// Which states of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// After so many blocks; 0 are the embeddings of the tokens.
    pub index: usize,
    /// Whether the tower's final LayerNorm follows.
    pub is_normed: bool,
}

/// The states of texts of one length, row-major.
#[derive(Debug, Default, PartialEq)]
pub struct TextStates {
    /// [texts, context_length, width]
    pub rows: Vec<f32>,
    /// After the last layer and the final norm, at each text's end: [texts, width].
    pub pooled: Vec<f32>,
    /// The same projected to [texts, embed_dim]; embeddings before they get unit length.
    pub projected: Vec<f32>,
}

impl Clip {
    /// The states of `texts`, which are as long as the context.
    ///
    /// # Errors
    /// When a text has another length, there is no such layer, or a state is not finite.
    pub fn text_states(&self, texts: &[PaddedIds], layer: Layer) -> Result<TextStates> {
        let architecture = self.architecture();
        let layers = architecture.text.layers;
        ensure!(
            layer.index <= layers,
            "the text tower has {layers} layers, not {}",
            layer.index
        );
        let length = architecture.context_length;
        ensure!(
            texts.iter().all(|text| text.as_slice().len() == length),
            "the texts are not padded to the context of {length} tokens"
        );
        let text = self.text.as_ref();
        let text = text.context("the text tower was not loaded")?;
        kernel::in_pool(|| text.states(texts, layer))
    }
}

/// A model whose embeddings of images are the states after the image tower's last layer: [tokens
/// width] numbers, the class token first, then the patches row by row.
pub struct Patches(Clip);

impl Patches {
    /// Uses the image tower of `clip`.
    ///
    /// # Errors
    /// When that is a ResNet, which has no patches.
    pub fn new(clip: Clip) -> Result<Self> {
        if let ImageTower::ResNet(_) = clip.architecture.image {
            bail!("a ResNet has no patches; use a model with a vision transformer");
        }
        Ok(Self(clip))
    }
}

impl DualEncoder for Patches {
    /// `pixels` [n, 3, image_size, image_size] -> [n, tokens width], not normalised.
    fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        let n = pixels.dim(0)?;
        let Some(Image::VisionTransformer(tower)) = &self.0.image else {
            bail!("no vision transformer was loaded");
        };
        let states = values(&kernel::in_pool(|| tower.states(pixels))?)?;
        let row = states.len() / n.max(1);
        Ok(Tensor::from_vec(states, (n, row), pixels.device())?)
    }

    fn encode_text(&self, _texts: &[TokenIds]) -> Result<Tensor> {
        bail!("patches are of images")
    }

    fn logit_scale(&self) -> f32 {
        self.0.logit_scale
    }

    fn logit_bias(&self) -> Option<f32> {
        self.0.logit_bias
    }

    fn architecture(&self) -> &Architecture {
        &self.0.architecture
    }
}

/// All numbers of a tensor on any device.
pub(super) fn values(x: &Tensor) -> Result<Vec<f32>> {
    let values = x.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    ensure!(
        values.iter().all(|value| value.is_finite()),
        "a hidden state is not finite; the checkpoint or the input is damaged"
    );
    Ok(values)
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::tiny;
    use crate::model::device::CpuPrecision;
    use crate::model::{Compute, Towers, load_some};

    use super::*;

    #[test]
    fn one_tower_alone_has_its_states_only() {
        let checkpoint = tiny::checkpoint(&None.into()).unwrap();
        let compute = Compute::Kernel(CpuPrecision::F32);
        let length = checkpoint.architecture.context_length;
        let text = [PaddedIds::new("a cat", length, 0).unwrap()];
        let size = checkpoint.architecture.image.image_size();
        let pixels = Tensor::zeros((1, 3, size, size), DType::F32, &candle_core::Device::Cpu);
        let (pixels, index) = (pixels.unwrap(), checkpoint.architecture.text.layers);
        let layer = |index| Layer {
            index,
            is_normed: true,
        };
        let clip = |towers| load_some(&checkpoint, &compute, towers).unwrap();

        let texts = clip(Towers::Text);
        let states = texts.text_states(&text, layer(index)).unwrap();
        // The last layer after the norm holds what is pooled; the text has 4 tokens.
        let width = states.pooled.len();
        for (row, pooled) in states.rows[3 * width..].iter().zip(&states.pooled) {
            assert!((row - pooled).abs() < 1e-5, "{row} {pooled}");
        }
        let no_image = texts.encode_image(&pixels).unwrap_err();
        assert!(no_image.to_string().contains("image tower"), "{no_image}");
        let beyond = texts.text_states(&text, layer(index + 1)).unwrap_err();
        assert!(beyond.to_string().contains("layers"), "{beyond}");
        let short = [PaddedIds::new("a cat", 4, 0).unwrap()];
        assert!(texts.text_states(&short, layer(0)).is_err());

        let images = clip(Towers::Image);
        assert!(images.text_states(&text, layer(0)).is_err());
        let patches = Patches::new(images).unwrap();
        let states = patches.encode_image(&pixels).unwrap();
        assert_eq!(states.dim(0).unwrap(), 1);
        assert!(Patches::new(texts).unwrap().encode_image(&pixels).is_err());
    }
}
