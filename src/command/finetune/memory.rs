//! How many pairs go through the towers together where no flag says so.

use crate::checkpoint::architecture::{Architecture, ImageTower, Tower};

/// Values of a token in a block that the way back needs, in widths: the two norms, queries, keys,
/// values, the attention's sum and output, the MLP's inside twice, residuals.
const WIDTHS: usize = 20;
/// Scores of a head that the way back needs, for each pair of tokens.
const SCORES: usize = 2;
/// More pairs together are no faster.
const MOST: usize = 64;
/// The share of the machine's memory that one part of a batch may take.
const SHARE: u64 = 4;
/// And the most, however much there is.
const MOST_BYTES: u64 = 16 << 30;

/// By the machine's memory and the towers' sizes.
pub(super) fn micro_batch(architecture: &Architecture) -> usize {
    let image = match &architecture.image {
        ImageTower::VisionTransformer(sizes) => bytes(&sizes.tower, sizes.tokens()),
        // Its early maps are the largest: a guess on the safe side.
        ImageTower::ResNet(sizes) => {
            64 * (sizes.image_size * sizes.image_size * sizes.width) as u64
        }
    };
    let pair = image.max(bytes(&architecture.text, architecture.context_length));
    let room = (total_bytes() / SHARE).min(MOST_BYTES);
    ((room / pair.max(1)) as usize).clamp(1, MOST)
}

/// What the way back through a tower needs of one input.
fn bytes(tower: &Tower, tokens: usize) -> u64 {
    let values = tokens * (WIDTHS * tower.width + SCORES * tower.heads * tokens);
    4 * (values * tower.layers) as u64
}

/// The machine's memory; a modest guess where the system does not tell.
fn total_bytes() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").ok();
    let kilobytes = told.and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    kilobytes.map_or(8 << 30, |kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tiny;

    #[test]
    fn small_models_take_many_pairs_and_huge_ones_one() {
        let mut architecture = tiny::architecture().unwrap();
        assert_eq!(micro_batch(&architecture), MOST);
        architecture.text.width = 1 << 20;
        architecture.text.layers = 1000;
        assert_eq!(micro_batch(&architecture), 1);
    }
}
