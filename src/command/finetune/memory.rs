//! What has room: how many pairs go through the towers together where no flag says so, and whether a whole batch fits.

use anyhow::{Result, ensure};

use crate::checkpoint::architecture::{Architecture, ImageTower, Tower};

/// Values of a token in a block that the way back needs, in widths: the two norms, queries, keys,
/// values, the attention's sum and output, the MLP's inside twice, residuals.
const WIDTHS: usize = 20;
/// Scores of a head that the way back needs, for each pair of tokens.
const SCORES: usize = 2;
/// More pairs together are no faster.
const MOST: usize = 64;
/// The share of the memory that one part of a batch may take.
const SHARE: u64 = 4;
/// And the most, however much there is.
const MOST_BYTES: u64 = 16 << 30;
/// What a GPU is taken to have: candle does not tell, and small ones train as well.
const GPU_BYTES: u64 = 12 << 30;

/// Where the towers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Device {
    Cpu,
    Gpu,
}

/// By the device's memory and the towers' sizes.
pub(super) fn micro_batch(architecture: &Architecture, device: Device) -> usize {
    let image = match &architecture.image {
        ImageTower::VisionTransformer(sizes) => bytes(&sizes.tower, sizes.tokens()),
        // Its early maps are the largest: a guess on the safe side.
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

/// Fails if the pixels, embeddings and cosines of a whole batch have no room in the memory: the loss needs all of them, whatever
/// goes through the towers at a time.
pub(super) fn check_batch(architecture: &Architecture, batch: usize) -> Result<()> {
    let (n, side) = (batch as u64, architecture.image.image_size() as u64);
    // Two batches of pixels (one is made while the other is trained on), three matrices of cosines in f64, embeddings.
    let of_pair = 2 * 3 * side * side * 4 + 3 * n * 8 + 16 * architecture.embed_dim as u64 * 8;
    let needed = n.saturating_mul(of_pair);
    let there = memory_bytes();
    ensure!(
        needed <= there,
        "a batch of {batch} pairs needs about {} GB beside the model, and there are {} GB; give a smaller --batch-size",
        needed.div_ceil(1 << 30),
        there >> 30
    );
    Ok(())
}

/// What the way back through a tower needs of one input.
fn bytes(tower: &Tower, tokens: usize) -> u64 {
    let values = tokens * (WIDTHS * tower.width + SCORES * tower.heads * tokens);
    4 * (values * tower.layers) as u64
}

/// The memory that this process may have; a modest guess where the system does not tell.
fn memory_bytes() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").ok();
    let kilobytes = told.and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let machine = kilobytes.map_or(8 << 30, |kilobytes| kilobytes * 1024);
    // A container's share; "max" is no number.
    let files = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let shares = files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok());
    let shares = shares.filter_map(|text| text.trim().parse::<u64>().ok());
    shares.fold(machine, u64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tiny;

    #[test]
    fn small_models_take_many_pairs_and_huge_ones_one() {
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
