//! WiSE-FT (Wortsman et al., 2022): a trained classifier and the zero-shot one it started from,
//! mixed weight by weight. On embeddings that stay as they are, that mixes their logits.

/// Shares of the trained classifier that are tried: 0 is zero-shot, 1 trained.
const STEPS: usize = 20;

/// All shares that are tried, rising.
pub fn shares() -> impl Iterator<Item = f64> {
    (0..=STEPS).map(|step| step as f64 / STEPS as f64)
}

/// `share` of the trained `parameters` (weights `[classes, dim]`, then a bias) and the rest of
/// `zero_shot`, which are weights without a bias.
#[must_use]
pub fn blend(zero_shot: &[f64], parameters: &[f64], share: f64) -> Vec<f64> {
    let other = zero_shot.iter().copied().chain(std::iter::repeat(0.0));
    let both = parameters.iter().zip(other);
    both.map(|(trained, other)| share * trained + (1.0 - share) * other)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_the_classifiers_themselves() {
        let (zero_shot, trained) = ([4.0, 8.0], [0.0, 2.0, 6.0]);
        assert_eq!(blend(&zero_shot, &trained, 0.0), [4.0, 8.0, 0.0]);
        assert_eq!(blend(&zero_shot, &trained, 0.25), [3.0, 6.5, 1.5]);
        assert_eq!(blend(&zero_shot, &trained, 1.0), trained);
        let shares: Vec<f64> = shares().collect();
        assert_eq!((shares[0], shares[20], shares.len()), (0.0, 1.0, 21));
    }
}
