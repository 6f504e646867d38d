//! Random few-shot and holdout splits.

use rand::{RngCore as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The indices of up to `shots` samples per class, ascending: all of a class that has fewer. Draws
/// with the same seed are nested: those for four shots are among those for eight. The same
/// arguments give the same draw on any machine.
#[must_use]
pub fn draw(classes: &[usize], shots: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<(usize, u64, usize)> = (classes.iter().enumerate())
        .map(|(sample, class)| (*class, rng.next_u64(), sample))
        .collect();
    // Sorted by class, and randomly within a class.
    order.sort_unstable();
    let mut drawn: Vec<usize> = (order.chunk_by(|a, b| a.0 == b.0))
        .flat_map(|class| class.iter().take(shots).map(|(.., sample)| *sample))
        .collect();
    drawn.sort_unstable();
    drawn
}

/// Splits samples at random: `fraction` of each class, rounded, but at most all but one and at
/// least one if there are two. Returns the rest and the part, both ascending.
#[must_use]
pub fn hold_out(classes: &[usize], fraction: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let count = classes.iter().max().map_or(0, |last| last + 1);
    let mut sizes = vec![0usize; count];
    classes.iter().for_each(|class| sizes[*class] += 1);
    let mut due: Vec<usize> = (sizes.iter())
        .map(|&size| match size {
            0 | 1 => 0,
            size => ((size as f64 * fraction).round() as usize).clamp(1, size - 1),
        })
        .collect();
    let (mut rest, mut part) = (Vec::new(), Vec::new());
    let mut is_part = vec![false; classes.len()];
    for sample in draw_order(classes.len(), seed) {
        let due = &mut due[classes[sample]];
        if *due > 0 {
            *due -= 1;
            is_part[sample] = true;
        }
    }
    for (sample, is_part) in is_part.into_iter().enumerate() {
        if is_part { &mut part } else { &mut rest }.push(sample);
    }
    (rest, part)
}

/// Indices in random order.
fn draw_order(count: usize, seed: u64) -> impl Iterator<Item = usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<(u64, usize)> = (0..count).map(|at| (rng.next_u64(), at)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at)
}

/// The mean and the sample standard deviation of some numbers (divided by one less than their
/// count; 0 for a single one).
#[must_use]
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count.max(1.0);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<usize> {
        (0..100).map(|at| (at * at) % 7).collect()
    }

    #[test]
    fn each_class_has_its_shots_and_draws_are_nested() {
        let classes = classes();
        let count =
            |drawn: &[usize], class| drawn.iter().filter(|&&at| classes[at] == class).count();
        for seed in 0..5 {
            let mut before = Vec::new();
            for shots in [1, 2, 4, 8, 16, 100] {
                let drawn = draw(&classes, shots, seed);
                assert!(drawn.is_sorted());
                for class in 0..7 {
                    let all = classes.iter().filter(|&&known| known == class).count();
                    assert_eq!(count(&drawn, class), all.min(shots));
                }
                assert!(before.iter().all(|at| drawn.contains(at)));
                before = drawn;
            }
        }
        assert_ne!(draw(&classes, 2, 0), draw(&classes, 2, 1));
        assert_eq!(draw(&classes, 2, 1), draw(&classes, 2, 1));
    }

    #[test]
    fn part_of_each_class_is_held_out_but_never_all() {
        let classes = [0, 0, 0, 0, 0, 1, 1, 2, 4, 4, 4, 4];
        for fraction in [0.01, 0.2, 0.5, 0.99] {
            let (rest, part) = hold_out(&classes, fraction, 3);
            assert_eq!(rest.len() + part.len(), classes.len());
            for class in [0, 1, 4] {
                assert!(part.iter().any(|&at| classes[at] == class));
                assert!(rest.iter().any(|&at| classes[at] == class));
            }
            assert!(rest.contains(&7), "a class of one is for training");
        }
        let (rest, part) = hold_out(&classes, 0.5, 3);
        assert_eq!((rest.len(), part.len()), (6, 6));
        assert_eq!(hold_out(&[0, 1], 0.5, 0), (vec![0, 1], vec![]));
    }

    #[test]
    fn deviations_are_sample_deviations() {
        assert_eq!(mean_and_deviation(&[1.0, 2.0, 3.0]), (2.0, 1.0));
        assert_eq!(mean_and_deviation(&[0.5]), (0.5, 0.0));
    }
}
