//! The text tower: token ids -> [n, embed_dim].

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Device, Tensor};

use super::attention::gather;
use super::block::Transformer;
use super::device::Compute;
use super::layer::{LayerNorm, Linear};
use super::sequences::{Sharing, TextRows};
use super::states::{Layer, TextStates, values};
use super::weights::{Weights, check_finite};
use crate::checkpoint::container::StoredTensor;
use crate::input::tokenizer::{PaddedIds, TokenIds};
use crate::kernel;

/// Maximum rows that pass through the tower together; bounds the memory of long label lists.
const ROWS_AT_ONCE: usize = 4096;

const TOKENS: &str = "text_model.embeddings.token_embedding.weight";

pub(super) struct TextTransformer {
    /// [vocabulary, width], left in the file because a run reads few of its rows.
    token_embedding: StoredTensor,
    /// [context_length, width]
    position_embedding: Vec<f32>,
    transformer: Transformer,
    final_norm: LayerNorm,
    projection: Linear,
    context_length: usize,
    width: usize,
    device: Device,
    dtype: DType,
}

impl TextTransformer {
    pub(super) fn load(weights: &Weights) -> Result<Self> {
        let architecture = &weights.checkpoint.architecture;
        let tower = &architecture.text;
        let edges = match weights.compute {
            Compute::Kernel(precision) => precision.of_edges(),
            Compute::Candle(..) => kernel::Precision::F32,
        };
        Ok(Self {
            token_embedding: weights.tensor(TOKENS)?.clone(),
            position_embedding: weights
                .vector("text_model.embeddings.position_embedding.weight")?,
            transformer: Transformer::load(weights, "text_model", tower)?,
            final_norm: weights.layer_norm("text_model.final_layer_norm", tower.norm_epsilon)?,
            projection: weights.linear(&["text_projection".to_owned()], false, edges, None)?,
            context_length: architecture.context_length,
            width: tower.width,
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// `texts` -> [n, embed_dim], in their order and not normalised.
    pub(super) fn encode(&self, texts: &[TokenIds], sharing: Sharing) -> Result<Tensor> {
        for text in texts {
            ensure!(
                text.len() <= self.context_length,
                "a text has {} tokens, but the context length is {}",
                text.len(),
                self.context_length
            );
        }
        let mut order: Vec<usize> = (0..texts.len()).collect();
        // Texts with equal prefixes stay in one batch; on a GPU, those of equal length, which batch
        // best there.
        if self.projection.is_packed() {
            order.sort_by_key(|&index| texts[index].as_slice());
        } else {
            order.sort_by_key(|&index| texts[index].len());
        }
        let mut embeddings: Vec<Option<Tensor>> = vec![None; texts.len()];
        let mut rest = order.as_slice();
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(self.batch(texts, rest));
            let refs: Vec<_> = batch.iter().map(|&index| &texts[index]).collect();
            let rows = self.encode_batch(&TextRows::new(&refs, self.possible(sharing)))?;
            for (row, &index) in batch.iter().enumerate() {
                embeddings[index] = Some(rows.narrow(0, row, 1)?);
            }
            rest = later;
        }
        let embeddings: Vec<_> = embeddings.into_iter().flatten().collect();
        ensure!(!embeddings.is_empty(), "no texts to encode");
        Ok(Tensor::cat(&embeddings, 0)?)
    }

    /// How many of the texts in `order` pass through the tower together.
    fn batch(&self, texts: &[TokenIds], order: &[usize]) -> usize {
        let first = texts[order[0]].len();
        let mut rows = 0;
        let fits = |&&index: &&usize| {
            rows += texts[index].len();
            rows <= ROWS_AT_ONCE && (self.projection.is_packed() || texts[index].len() == first)
        };
        order.iter().take_while(fits).count().max(1)
    }

    /// Without the kernels, batches of equal length beat shared prefixes.
    fn possible(&self, sharing: Sharing) -> Sharing {
        if self.projection.is_packed() {
            sharing
        } else {
            Sharing::Nothing
        }
    }

    fn encode_batch(&self, rows: &TextRows) -> Result<Tensor> {
        let x = self.embed(rows)?; // [rows, width]
        let pooled = self
            .transformer
            .forward_pooled(x, &rows.sequences, &rows.pooled)?; // [n, width]
        self.projection
            .forward_norm(&pooled, &self.final_norm, None) // [n, embed_dim]
    }

    /// The states of `texts`, each as long as the context.
    pub(super) fn states(&self, texts: &[PaddedIds], layer: Layer) -> Result<TextStates> {
        let at_once = (ROWS_AT_ONCE / self.context_length).max(1);
        let mut states = TextStates::default();
        for batch in texts.chunks(at_once) {
            let rows = TextRows::padded(batch);
            let last = self.transformer.layers();
            let packed = self.projection.is_packed();
            let x = self.embed(&rows)?; // [rows, width]
            let x = self
                .transformer
                .forward(x, &rows.sequences, 0..layer.index)?;
            // A copy, since the layers that follow may write in place.
            let kept = match layer.is_normed {
                true => self.final_norm.forward(&x, packed)?,
                false => x.copy()?,
            };
            states.rows.extend(values(&kept)?);
            let x = self
                .transformer
                .forward(x, &rows.sequences, layer.index..last)?;
            let ends = gather(&x, &rows.pooled)?; // [texts, width]
            let pooled = self.final_norm.forward(&ends, packed)?;
            states.pooled.extend(values(&pooled)?);
            let projected = self.projection.forward(&pooled)?; // [texts, embed_dim]
            states.projected.extend(values(&projected)?);
        }
        Ok(states)
    }

    /// Token plus positional embedding of each row: [rows, width].
    fn embed(&self, rows: &TextRows) -> Result<Tensor> {
        let mut values = vec![0.0; rows.token_ids.len() * self.width];
        let places = rows.token_ids.iter().zip(&rows.positions);
        for (out, (&token, &position)) in values.chunks_exact_mut(self.width).zip(places) {
            let token = token as usize;
            ensure!(
                token < self.token_embedding.shape()[0],
                "token {token} is not in the model's vocabulary of {} tokens",
                self.token_embedding.shape()[0]
            );
            self.token_embedding.copy_row_f32(token, out)?;
            check_finite(TOKENS, out).with_context(|| format!("row {token} cannot be used"))?;
            let position = &self.position_embedding[position * self.width..];
            out.iter_mut().zip(position).for_each(|(x, p)| *x += p);
        }
        let shape = (rows.token_ids.len(), self.width);
        let x = Tensor::from_vec(values, shape, &Device::Cpu)?;
        Ok(x.to_dtype(self.dtype)?.to_device(&self.device)?)
    }
}
