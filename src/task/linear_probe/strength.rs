//! Search for the L2 penalty over twelve decades.
//!
//! The search of the CLIP paper (appendix A.3), which CLIP_benchmark copies: 97 penalties from
//! 1e-6 to 1e6, eight per decade. First the seven at every second decade; then, four times, both
//! neighbours of the best one at half the distance, down to neighbouring penalties.

use anyhow::Result;

use super::Quality;

const LAST: usize = 96;
const FIRST_STRIDE: usize = 16;

/// The result of a search.
#[derive(Clone, Debug)]
pub struct Search {
    /// The best penalty.
    pub best: f64,
    /// All penalties tried, ascending, with their quality.
    pub tried: Vec<(f64, Quality)>,
}

/// Finds the penalty that `judge` rates best; on ties the larger one.
///
/// # Errors
/// Those of `judge`.
pub fn search(mut judge: impl FnMut(f64) -> Result<Quality>) -> Result<Search> {
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
}
