//! The effective weights of one step: the parameters in the towers' element type, with LoRA
//! added.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

use super::operation::{LinearWeights, NormWeights};
use super::{Arithmetic, LowRank};

/// Tensors by canonical name: matrices in the towers' type, everything else in f32.
pub struct Working {
    tensors: BTreeMap<String, Tensor>,
}

impl Working {
    /// Converts `parameters`, f32 on the towers' device, with `changes` added to the matrices
    /// they name.
    pub(super) fn new(
        arithmetic: &Arithmetic,
        parameters: &BTreeMap<String, Tensor>,
        changes: &BTreeMap<String, LowRank>,
    ) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, tensor) in parameters {
            let mut tensor = tensor.clone();
            if let Some(change) = changes.get(name) {
                tensor = change.added_to(&tensor)?;
            }
            let is_norm = name.contains("norm");
            if let Arithmetic::Candle(_, dtype) = arithmetic
                && !is_norm
            {
                tensor = tensor.to_dtype(*dtype)?;
            }
            tensors.insert(name.clone(), tensor);
        }
        Ok(Self { tensors })
    }

    pub(super) fn get(&self, name: &str) -> Result<&Tensor> {
        self.tensors
            .get(name)
            .with_context(|| format!("tensor {name} is missing"))
    }

    /// The linear layer at `path`; its weight as [out, everything else].
    pub(super) fn linear(&self, path: &str, with_bias: bool) -> Result<LinearWeights> {
        let weight = self.get(&format!("{path}.weight"))?.flatten_from(1)?;
        let bias = with_bias
            .then(|| self.get(&format!("{path}.bias")).cloned())
            .transpose()?;
        Ok(LinearWeights { weight, bias })
    }

    pub(super) fn norm(&self, path: &str, epsilon: f32) -> Result<NormWeights> {
        Ok(NormWeights {
            gain: self.get(&format!("{path}.weight"))?.clone(),
            bias: self.get(&format!("{path}.bias"))?.clone(),
            epsilon,
        })
    }
}

impl LowRank {
    /// `weight` [out, in] + factor B A.
    ///
    /// # Errors
    /// When the shapes do not match or the device fails.
    pub fn added_to(&self, weight: &Tensor) -> Result<Tensor> {
        let change = (self.b.matmul(&self.a)? * self.factor)?;
        Ok((weight + change.to_dtype(DType::F32)?)?)
    }
}
