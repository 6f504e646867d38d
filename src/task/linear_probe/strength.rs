//! How much to hold back: the search for a strength over twelve decades.
//!
//! That of the CLIP paper (appendix A.3), of which CLIP_benchmark's is a copy: 97 strengths from
//! 1e-6 to 1e6, eight a decade. First the seven at every second decade; then, four times, both
//! neighbours of the best one at half the distance, down to neighbouring strengths.

use anyhow::Result;

use super::Quality;

const LAST: usize = 96;
const FIRST_STRIDE: usize = 16;

/// What a search found.
#[derive(Clone, Debug)]
pub struct Search {
    /// The best strength.
    pub best: f64,
    /// All strengths that were tried, rising, and how they did.
    pub tried: Vec<(f64, Quality)>,
}

/// Finds the strength of which `judge` thinks best; of equal ones the larger.
///
/// # Errors
/// Those of `judge`.
pub fn search(mut judge: impl FnMut(f64) -> Result<Quality>) -> Result<Search> {
    let mut known: Vec<Option<Quality>> = vec![None; LAST + 1];
    // From the strongest: it is nearest to what a regression starts from.
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
    fn every_peak_is_found_to_an_eighth_of_a_decade() {
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
    fn of_equal_ones_the_strongest_is_taken() {
        assert_eq!(search(|_| Ok(quality(1.0))).unwrap().best, 1e6);
        assert!(search(|_| anyhow::bail!("no")).is_err());
    }
}
