//! Outputs of training: states for resuming, and models.

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;

use super::trainer::{Trainer, find_mut, host};
use crate::checkpoint::Tensors;
use crate::checkpoint::container::StoredTensor;

impl Trainer {
    /// Everything needed to resume: trained parameters under their names, and moments as
    /// `mean:NAME` and `square:NAME`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn state(&self) -> Result<Tensors> {
        let mut state = Tensors::new();
        for name in self.names() {
            let parameter = self.parameter(&name)?;
            let shape = parameter.dims();
            let [means, squares] = self
                .moments
                .get(&name)
                .with_context(|| format!("{name} is not trained"))?
                .values()?;
            let mut add = |name: String, values| -> Result<()> {
                state.insert(name, StoredTensor::from_f32(shape, values)?);
                Ok(())
            };
            add(format!("mean:{name}"), means)?;
            add(format!("square:{name}"), squares)?;
            add(name.clone(), host(parameter)?)?;
        }
        Ok(state)
    }

    /// Resumes from a [`state`](Self::state) after `steps_done` steps.
    ///
    /// # Errors
    /// When it is from a different training: a tensor is missing, misshapen or not trained here.
    pub fn restore(&mut self, state: &Tensors, steps_done: usize) -> Result<()> {
        let names = self.names();
        ensure!(
            state.len() == 3 * names.len(),
            "the state holds {} tensors, but this training has {}",
            state.len(),
            3 * names.len()
        );
        for name in &names {
            let read = |key: &str| -> Result<Vec<f32>> {
                let tensor = state
                    .get(key)
                    .with_context(|| format!("the state lacks {key}"))?;
                ensure!(
                    tensor.shape() == self.parameter(name)?.dims(),
                    "{key} has shape {:?} in the state",
                    tensor.shape()
                );
                tensor.to_f32()
            };
            let values = read(name)?;
            let both = [
                read(&format!("mean:{name}"))?,
                read(&format!("square:{name}"))?,
            ];
            let parameter = self.parameter(name)?;
            let device = parameter.device().clone();
            let tensor = Tensor::from_vec(values, parameter.shape().clone(), &device)?;
            *find_mut(&mut self.parameters, &mut self.changes, name)? = tensor;
            if let Some(moments) = self.moments.get_mut(name) {
                moments.set(both)?;
            }
        }
        self.steps_done = steps_done;
        Ok(())
    }

    /// The whole model under canonical names in f32, with LoRA merged.
    ///
    /// # Errors
    /// When the device fails.
    pub fn tensors(&self) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        for (name, tensor) in &self.parameters {
            let values = match self.changes.get(name) {
                Some(change) => host(&change.added_to(tensor)?)?,
                None => host(tensor)?,
            };
            tensors.insert(name.clone(), StoredTensor::from_f32(tensor.dims(), values)?);
        }
        Ok(tensors)
    }

    /// The LoRA matrices alone, under the names of the peft library; `None` without LoRA.
    ///
    /// # Errors
    /// When the device fails.
    pub fn adapter(&self) -> Result<Option<Tensors>> {
        let mut tensors = Tensors::new();
        for (name, change) in &self.changes {
            let path = name.strip_suffix(".weight").unwrap_or(name);
            for (part, tensor) in [("lora_A", &change.a), ("lora_B", &change.b)] {
                let stored = StoredTensor::from_f32(tensor.dims(), host(tensor)?)?;
                tensors.insert(format!("base_model.model.{path}.{part}.weight"), stored);
            }
        }
        Ok((!tensors.is_empty()).then_some(tensors))
    }
}
