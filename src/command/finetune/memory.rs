//! Micro-batch size from available memory, and a check that a whole batch fits.

use anyhow::{Result, ensure};

use crate::checkpoint::architecture::{Architecture, ImageTower, Tower};
use crate::file::memory;

/// Activations per token and block that the backward pass needs, in multiples of the width: two
/// norms, queries, keys, values, the attention's sum and output, the MLP's hidden layer twice,
/// residuals.
const WIDTHS: usize = 20;
/// Attention scores per head and pair of tokens that the backward pass needs.
const SCORES: usize = 2;
/// Larger micro-batches are not faster.
const MOST: usize = 64;
/// A micro-batch may take one SHARE-th of the memory.
const SHARE: u64 = 4;
/// The maximum, however much memory there is.
const MOST_BYTES: u64 = 16 << 30;
/// The assumed memory of a GPU, which candle does not report; low enough for small ones.
const GPU_BYTES: u64 = 12 << 30;

/// Where the towers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    Cpu,
    Gpu,
}

/// Chooses the micro-batch from the device's memory and the sizes of the towers.
pub(super) fn micro_batch(architecture: &Architecture, device: Device) -> usize {
    let image = match &architecture.image {
        ImageTower::VisionTransformer(sizes) => bytes(&sizes.tower, sizes.tokens()),
        // The early feature maps are the largest; a conservative estimate.
        ImageTower::ResNet(sizes) => {
            64 * (sizes.image_size * sizes.image_size * sizes.width) as u64
        }
    };
    let pair = image.max(bytes(&architecture.text, architecture.context_length));
    let memory = match device {
        Device::Cpu => memory_bytes(),
        Device::Gpu => GPU_BYTES,
    };
    let room = (memory / SHARE).min(MOST_BYTES);
    ((room / pair.max(1)) as usize).clamp(1, MOST)
}

/// Fails if the pixels, embeddings and cosines of a whole batch do not fit into memory: the loss
/// needs all of them, whatever the micro-batch.
pub(super) fn check_batch(architecture: &Architecture, batch: usize) -> Result<()> {
    let (n, side) = (batch as u64, architecture.image.image_size() as u64);
    // Two batches of pixels (one is made while the other is trained on), three f64 matrices of
    // cosines, and embeddings.
    let of_pair = 2 * 3 * side * side * 4 + 3 * n * 8 + 16 * architecture.embed_dim as u64 * 8;
    let needed = n.saturating_mul(of_pair);
    let there = memory_bytes();
    ensure!(
        needed <= there,
        "a batch of {batch} pairs needs about {} GB in addition to the model, but there are only \
         {} GB; pass a smaller --batch-size",
        needed.div_ceil(1 << 30),
        there >> 30
    );
    Ok(())
}

/// The memory that the backward pass through a tower needs per input, in bytes.
fn bytes(tower: &Tower, tokens: usize) -> u64 {
    let values = tokens * (WIDTHS * tower.width + SCORES * tower.heads * tokens);
    4 * (values * tower.layers) as u64
}

/// The memory that this process may use, in bytes; a low guess if the system does not report it.
fn memory_bytes() -> u64 {
    memory::limit().map_or(8 << 30, |limit| limit.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tiny;

    #[test]
    fn small_models_get_large_micro_batches_and_huge_ones_get_one() {
        let mut architecture = tiny::architecture().unwrap();
        assert_eq!(micro_batch(&architecture, Device::Gpu), MOST);
        assert!(check_batch(&architecture, 64).is_ok());
        let error = check_batch(&architecture, 1 << 20).unwrap_err().to_string();
        assert!(error.contains("--batch-size"), "{error}");
        architecture.text.width = 1 << 20;
        architecture.text.layers = 1000;
        for device in [Device::Cpu, Device::Gpu] {
            assert_eq!(micro_batch(&architecture, device), 1);
        }
    }
}
