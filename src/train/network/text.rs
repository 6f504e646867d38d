//! Forward and backward passes of the text tower.

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor};

use super::block::{Rows, Stack, StackTape};
use super::gradients::Gradients;
use super::{Arithmetic, Network, Working};
use crate::input::tokenizer::{END_OF_TEXT, TokenIds};
use crate::kernel::Segment;
use crate::model::sequences::{Sequences, Sharing, TextRows};

const PATH: &str = "text_model";
const TOKENS: &str = "text_model.embeddings.token_embedding.weight";
const POSITIONS: &str = "text_model.embeddings.position_embedding.weight";
const FINAL_NORM: &str = "text_model.final_layer_norm";
const PROJECTION: &str = "text_projection";

/// Values that the text tower keeps for its backward pass.
pub(crate) struct TextTape {
    rows: Rows,
    token_ids: Vec<u32>,
    positions: Vec<u32>,
    stack: Option<StackTape>,
    /// After the last block [n, width].
    pooled: Tensor,
}

/// The tower with the weights of one step.
pub(super) struct Texts<'a> {
    pub(super) network: &'a Network,
    pub(super) weights: &'a Working,
}

/// Texts laid out as rows.
struct Laid {
    rows: Rows,
    token_ids: Vec<u32>,
    positions: Vec<u32>,
}

impl Laid {
    /// Each text at its own length on the CPU; elsewhere all padded to the longest, because tokens
    /// after the end of a text are masked and equal lengths batch best.
    fn new(texts: &[&TokenIds], arithmetic: &Arithmetic) -> Self {
        if let Arithmetic::Kernel = arithmetic {
            let rows = TextRows::new(texts, Sharing::Nothing);
            return Self {
                token_ids: rows.token_ids,
                positions: rows.positions.iter().map(|&place| place as u32).collect(),
                rows: Rows {
                    sequences: rows.sequences,
                    pooled: rows.pooled,
                },
            };
        }
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or(0);
        let mut laid = Self {
            rows: Rows {
                sequences: Sequences {
                    segments: Vec::new(),
                    causal: true,
                },
                pooled: Vec::new(),
            },
            token_ids: Vec::new(),
            positions: Vec::new(),
        };
        for text in texts {
            let start = laid.token_ids.len();
            laid.token_ids.extend_from_slice(text.as_slice());
            laid.token_ids.resize(start + longest, END_OF_TEXT);
            laid.positions.extend(0..longest as u32);
            laid.rows.pooled.push(start + text.len() - 1);
            laid.rows.sequences.segments.push(Segment {
                rows: start..start + longest,
                prefix: Vec::new(),
            });
        }
        laid
    }
}

impl Texts<'_> {
    fn stack(&self) -> Stack<'_> {
        Stack {
            network: self.network,
            weights: self.weights,
            path: PATH,
            tower: &self.network.architecture.text,
        }
    }

    /// `texts` -> [n, embed_dim], not normalised, and a tape for what `gradients` wants.
    pub(super) fn forward(
        &self,
        texts: &[&TokenIds],
        gradients: Option<&Gradients>,
    ) -> Result<(Tensor, Option<TextTape>)> {
        let most = self.network.architecture.context_length;
        for text in texts {
            ensure!(
                text.len() <= most,
                "a text has {} tokens, but the context length is {most}",
                text.len()
            );
        }
        let a = &self.network.arithmetic;
        let laid = Laid::new(texts, a);
        let device = a.device();
        let tokens = Tensor::new(laid.token_ids.as_slice(), device)?;
        let places = Tensor::new(laid.positions.as_slice(), device)?;
        let x = (self.weights.get(TOKENS)?.index_select(&tokens, 0)?
            + self.weights.get(POSITIONS)?.index_select(&places, 0)?)?; // [rows, width]
        let stack = self.stack();
        let keep = gradients.and_then(|gradients| {
            if gradients.wants_any("text_model.embeddings.") {
                Some(0)
            } else {
                stack.lowest(gradients)
            }
        });
        let (pooled, tape) = stack.forward(x, &laid.rows, keep)?; // [n, width]
        let epsilon = self.network.architecture.text.norm_epsilon;
        let normed = a.norm(&pooled, &self.weights.norm(FINAL_NORM, epsilon)?)?;
        let out = a.linear(&normed, &[self.weights.linear(PROJECTION, false)?])?;
        let tape = gradients.map(|_| TextTape {
            rows: laid.rows,
            token_ids: laid.token_ids,
            positions: laid.positions,
            stack: tape,
            pooled,
        });
        Ok((out, tape))
    }

    /// Adds the tower's gradients, computed from that of its output, `dy` [n, embed_dim].
    pub(super) fn backward(
        &self,
        tape: TextTape,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let a = &self.network.arithmetic;
        let architecture = &self.network.architecture;
        let norm = self
            .weights
            .norm(FINAL_NORM, architecture.text.norm_epsilon)?;
        let projection = self.weights.linear(PROJECTION, false)?.weight;
        let normed = a.norm(&tape.pooled, &norm)?;
        let name = format!("{PROJECTION}.weight");
        gradients.add_matrix(&name, projection.dim(0)?, dy, 0, &normed)?;
        if tape.stack.is_none() && !gradients.wants_any(FINAL_NORM) {
            return Ok(());
        }
        let normed = a.linear_backward(dy, &[&projection])?;
        let back = a.norm_backward(&tape.pooled, &norm, &normed, None)?;
        gradients.add(&format!("{FINAL_NORM}.weight"), &back.gain)?;
        gradients.add(&format!("{FINAL_NORM}.bias"), &back.bias)?;
        let Some(stack) = tape.stack else {
            return Ok(());
        };
        let dx = self
            .stack()
            .backward(stack, &tape.rows, back.x, gradients)?;
        let dx = match a {
            Arithmetic::Kernel => dx,
            Arithmetic::Candle(..) => dx.to_dtype(DType::F32)?,
        };
        gradients.add_rows(TOKENS, architecture.vocabulary, &tape.token_ids, &dx)?;
        let context_length = architecture.context_length;
        gradients.add_rows(POSITIONS, context_length, &tape.positions, &dx)
    }
}
