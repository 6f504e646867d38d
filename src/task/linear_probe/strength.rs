//! Search for the L2 penalty over twelve decades.
//!
//! The search of the CLIP paper (appendix A.3), which CLIP_benchmark copies: 97 penalties from
//! 1e-6 to 1e6, eight per decade. First the seven at every second decade; then, four times, both
//! neighbours of the best one at half the distance, down to neighbouring penalties. Penalties are
//! judged by the quality of their logits on validation samples.

use anyhow::Result;

const LAST: usize = 96;
const FIRST_STRIDE: usize = 16;

/// The result of a search.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// The best penalty.
    pub best: f64,
    /// All penalties tried, ascending, with their quality.
    pub tried: Vec<(f64, Quality)>,
}

/// Finds the penalty that `judge` rates best; on ties the larger one.
///
/// # Errors
/// Those of `judge`.
pub(crate) fn search(mut judge: impl FnMut(f64) -> Result<Quality>) -> Result<Search> {
    let mut known: Vec<Option<Quality>> = vec![None; LAST + 1];
    // Starting with the strongest, which is closest to where a regression starts.
    for place in (0..=LAST).rev().step_by(FIRST_STRIDE) {
        known[place] = Some(judge(strength(place))?);
    }
    let mut stride = FIRST_STRIDE / 2;
    while stride > 0 {
        let peak = peak(&known);
        for place in [peak.saturating_sub(stride), (peak + stride).min(LAST)] {
            if known[place].is_none() {
                known[place] = Some(judge(strength(place))?);
            }
        }
        stride /= 2;
    }
    let tried = known.iter().enumerate();
    Ok(Search {
        best: strength(peak(&known)),
        tried: tried
            .filter_map(|(place, quality)| Some((strength(place), (*quality)?)))
            .collect(),
    })
}

fn strength(place: usize) -> f64 {
    10f64.powf(place as f64 / 8.0 - 6.0)
}

fn peak(known: &[Option<Quality>]) -> usize {
    let mut best: Option<(usize, Quality)> = None;
    for (place, quality) in known.iter().enumerate() {
        if let Some(quality) = quality
            && best.is_none_or(|(_, best)| !best.is_better_than(quality))
        {
            best = Some((place, *quality));
        }
    }
    best.map_or(0, |(place, _)| place)
}

/// Counts from validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quality {
    /// Correctly classified samples.
    pub correct: usize,
    /// All samples.
    pub count: usize,
    /// The mean of -ln p of the true class.
    pub loss: f64,
}

impl Quality {
    /// The quality of `logits` [samples, class_count] for these true classes. On ties, the first is
    /// the best class.
    #[cfg(test)]
    pub(crate) fn of(logits: &[f32], classes: &[usize], class_count: usize) -> Self {
        let mut counted = Counted::default();
        counted.add(logits, classes, class_count);
        counted.quality()
    }

    /// The share of correct samples.
    #[must_use]
    pub(crate) fn accuracy(&self) -> f64 {
        self.correct as f64 / self.count.max(1) as f64
    }

    /// Whether more are correct, or as many with a lower loss: with few samples, many classifiers
    /// differ in nothing else.
    #[must_use]
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        self.correct > other.correct || self.correct == other.correct && self.loss < other.loss
    }
}

/// Accumulates quality block by block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    correct: usize,
    count: usize,
    /// The sum.
    loss: f64,
}

impl Counted {
    /// Adds a block of logits [samples, class_count] and their true classes.
    pub(super) fn add(&mut self, logits: &[f32], classes: &[usize], class_count: usize) {
        self.count += classes.len();
        for (logits, &class) in logits.chunks_exact(class_count).zip(classes) {
            let best = (1..class_count).fold(
                0,
                |best, at| if logits[at] > logits[best] { at } else { best },
            );
            self.correct += usize::from(best == class);
            let largest = f64::from(logits[best]);
            let sum: f64 = logits
                .iter()
                .map(|logit| (f64::from(*logit) - largest).exp())
                .sum();
            self.loss += sum.ln() - (f64::from(logits[class]) - largest);
        }
    }

    /// The quality over all blocks.
    pub(super) fn quality(&self) -> Quality {
        Quality {
            correct: self.correct,
            count: self.count,
            loss: self.loss / self.count.max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(loss: f64) -> Quality {
        Quality {
            correct: 0,
            count: 1,
            loss,
        }
    }

    #[test]
    fn every_peak_is_found_within_an_eighth_of_a_decade() {
        for wanted in 0..=LAST {
            let target = wanted as f64 / 8.0 - 6.0;
            let mut calls = 0;
            let found = search(|l2| {
                calls += 1;
                Ok(quality((l2.log10() - target).abs()))
            })
            .unwrap();
            assert!((found.best.log10() - target).abs() < 1e-9, "{wanted}");
            assert!(calls <= 15 && calls == found.tried.len(), "{calls}");
            assert!(found.tried.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn ties_go_to_the_strongest() {
        assert_eq!(search(|_| Ok(quality(1.0))).unwrap().best, 1e6);
        assert!(search(|_| anyhow::bail!("no")).is_err());
    }

    #[test]
    fn correct_answers_count_first_then_the_loss() {
        let found = Quality::of(&[2.0, 0.0, 0.0, 0.0, 1.0, 1.0], &[0, 2], 3);
        assert_eq!((found.correct, found.count), (1, 2));
        let expected = ((2.0 * (-2f64).exp() + 1.0).ln() + (2.0 + (-1f64).exp()).ln()) / 2.0;
        assert!((found.loss - expected).abs() < 1e-12);
        assert_eq!(found.accuracy(), 0.5);
        let surer = Quality { loss: 0.1, ..found };
        let more = Quality {
            correct: 2,
            loss: 9.0,
            ..found
        };
        assert!(more.is_better_than(&surer) && surer.is_better_than(&found));
        assert!(!found.is_better_than(&found));
    }
}
