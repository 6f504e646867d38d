//! The metrics of an invented run, computed from its predictions, so that the page is consistent.

use std::collections::BTreeMap;

use longclip::output::evaluation::{BinRow, ClassRow};
use longclip::output::report::{
    Confused, Metric, PageImage, PageSummary, Quantity, ReliabilityDiagram,
};

/// All metrics of one run of `classes` classes.
pub(crate) fn summary(images: &[PageImage], classes: usize) -> PageSummary {
    let answered = || images.iter().filter(|one| !one.predictions.is_empty());
    let mut cells = BTreeMap::new();
    for image in answered() {
        *cells
            .entry((image.targets[0], image.predictions[0].label))
            .or_insert(0) += 1;
    }
    let confusion: Vec<Confused> = cells
        .into_iter()
        .map(|((truth, predicted), count)| Confused {
            truth,
            predicted,
            count,
        })
        .collect();
    let classes: Vec<ClassRow> = (0..classes).map(|label| class(label, &confusion)).collect();
    let total = answered().count();
    let share = |count: usize| count as f64 / total as f64;
    let right = share(answered().filter(|one| is_right(one, 1)).count());
    let wide = 1.96 * (right * (1.0 - right) / total as f64).sqrt();
    let recalls: Vec<f64> = classes.iter().map(|one| one.recall).collect();
    let recalls: Vec<f64> = recalls.into_iter().filter(|one| one.is_finite()).collect();
    let reliability = reliability(images);
    let figure = |name: &str, value, interval| Metric {
        name: name.to_owned(),
        value,
        interval,
    };
    let figures = vec![
        figure(
            "Top-1 accuracy",
            Quantity::Share(right),
            Some((right - wide, right + wide)),
        ),
        figure(
            "Top-5 accuracy",
            Quantity::Share(share(answered().filter(|one| is_right(one, 5)).count())),
            None,
        ),
        figure(
            "Mean recall by class",
            Quantity::Share(recalls.iter().sum::<f64>() / recalls.len() as f64),
            None,
        ),
        figure("Calibration error", Quantity::Share(reliability.ece), None),
        figure("Images", Quantity::Count(total as u64), None),
        figure(
            "Failed",
            Quantity::Count((images.len() - total) as u64),
            None,
        ),
    ];
    PageSummary {
        figures,
        confusion,
        classes,
        reliability: Some(reliability),
        ..PageSummary::default()
    }
}

/// Whether the truth is among the first `depth` predictions.
pub(crate) fn is_right(image: &PageImage, depth: usize) -> bool {
    let mut first = image.predictions.iter().take(depth);
    first.any(|answer| image.targets.contains(&answer.label))
}

fn class(label: usize, confusion: &[Confused]) -> ClassRow {
    let sum = |wanted: &dyn Fn(&Confused) -> bool| -> u64 {
        confusion
            .iter()
            .filter(|one| wanted(one))
            .map(|one| one.count)
            .sum()
    };
    let right = sum(&|one| one.truth == label && one.predicted == label) as f64;
    let support = sum(&|one| one.truth == label);
    let precision = right / sum(&|one| one.predicted == label) as f64;
    let recall = right / support as f64;
    ClassRow {
        index: label,
        precision,
        recall,
        f1: 2.0 * precision * recall / (precision + recall),
        support: support as usize,
        ..ClassRow::default()
    }
}

fn reliability(images: &[PageImage]) -> ReliabilityDiagram {
    const BINS: usize = 15;
    let mut sums = [(0usize, 0.0, 0.0); BINS];
    for image in images.iter().filter(|one| !one.predictions.is_empty()) {
        let score = f64::from(image.predictions[0].score);
        let bin = ((score * BINS as f64) as usize).min(BINS - 1);
        sums[bin].0 += 1;
        sums[bin].1 += score;
        sums[bin].2 += f64::from(u8::from(is_right(image, 1)));
    }
    let total: usize = sums.iter().map(|one| one.0).sum();
    let bins = sums
        .iter()
        .enumerate()
        .map(|(at, (count, score, right))| BinRow {
            low: at as f32 / BINS as f32,
            high: (at + 1) as f32 / BINS as f32,
            count: *count,
            confidence: score / *count as f64,
            accuracy: right / *count as f64,
        });
    let bins: Vec<BinRow> = bins.collect();
    let errors = bins.iter().filter(|bin| bin.count > 0);
    let ece =
        errors.map(|bin| (bin.accuracy - bin.confidence).abs() * bin.count as f64 / total as f64);
    ReliabilityDiagram {
        ece: ece.sum(),
        bins,
    }
}
