//! Initial LoRA matrices.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::settings::Lora;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::architecture::{ImageTower, Tower};
use crate::train::network::LowRank;

/// A zero update for every matrix that LoRA trains: A initialised as PyTorch does a linear layer's
/// weight, B zero.
pub(super) fn changes(
    lora: &Lora,
    checkpoint: &Checkpoint,
    parameters: &BTreeMap<String, Tensor>,
    seed: u64,
) -> Result<BTreeMap<String, LowRank>> {
    let architecture = &checkpoint.architecture;
    let mut towers: Vec<(&str, &Tower)> = vec![("text_model", &architecture.text)];
    if let ImageTower::VisionTransformer(sizes) = &architecture.image {
        towers.push(("vision_model", &sizes.tower));
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut changes = BTreeMap::new();
    for (path, tower) in towers {
        for (layer, target) in
            (0..tower.layers).flat_map(|layer| lora.targets.iter().map(move |t| (layer, *t)))
        {
            let name = format!("{path}.encoder.layers.{layer}.{}.weight", target.path());
            let weight = parameters
                .get(&name)
                .with_context(|| format!("tensor {name} is missing"))?;
            let (out, input) = weight.dims2()?;
            ensure!(
                lora.rank <= out.min(input),
                "a LoRA rank of {} is too large for {name}, which is [{out}, {input}]",
                lora.rank
            );
            let bound = 1.0 / (input as f32).sqrt();
            let a: Vec<f32> = (0..lora.rank * input)
                .map(|_| random.random_range(-bound..bound))
                .collect();
            let device = weight.device();
            let change = LowRank {
                a: Tensor::from_vec(a, (lora.rank, input), device)?,
                b: Tensor::zeros((out, lora.rank), DType::F32, device)?,
                factor: lora.alpha / lora.rank as f64,
            };
            changes.insert(name, change);
        }
    }
    Ok(changes)
}
