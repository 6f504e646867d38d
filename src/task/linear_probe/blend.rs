//! WiSE-FT (Wortsman et al., 2022): interpolates the weights of a trained classifier and of the
//! zero-shot one it started from. With frozen embeddings, this interpolates their logits.

/// The number of intervals between candidate shares: 0 is zero-shot, 1 trained.
const STEPS: usize = 20;

/// All candidate shares, ascending.
pub fn shares() -> impl Iterator<Item = f64> {
    (0..=STEPS).map(|step| step as f64 / STEPS as f64)
}

/// `share` of the trained `parameters` (weights `[classes, dim]`, then a bias) and `1 - share` of
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
    fn the_ends_equal_the_two_classifiers() {
        let (zero_shot, trained) = ([4.0, 8.0], [0.0, 2.0, 6.0]);
        assert_eq!(blend(&zero_shot, &trained, 0.0), [4.0, 8.0, 0.0]);
        assert_eq!(blend(&zero_shot, &trained, 0.25), [3.0, 6.5, 1.5]);
        assert_eq!(blend(&zero_shot, &trained, 1.0), trained);
        let shares: Vec<f64> = shares().collect();
        assert_eq!((shares[0], shares[20], shares.len()), (0.0, 1.0, 21));
    }
}
