//! Metrics, calibration, significance tests and recall compared with scikit-learn, torchmetrics,
//! netcal, scipy, statsmodels, CLIP_benchmark and Long-CLIP's scripts on synthetic scores.
//! `tests/golden/metrics.py` generates the numbers and notes where those tools differ.

use longclip::task::calibration::{
    Stored, choose_threshold, fit_temperature, judge, reliability_of,
};
use longclip::task::metric::paired::{McNemarMethod, holm, mcnemar};
use longclip::task::metric::reliability::{BINS, reliability};
use longclip::task::metric::{Averages, ClassFigures, Tally};
use longclip::task::retrieval::{Pairs, retrieve};
use serde::Deserialize;

/// The numbers are means of f32 scores; the references sum some of them in f32.
const TOLERANCE: f64 = 1e-6;

#[derive(Deserialize)]
struct Expected {
    classification: Vec<Classification>,
    calibration_error: Vec<CalibrationError>,
    temperature: Vec<Temperature>,
    mcnemar: Vec<McNemar>,
    holm: Vec<Holm>,
    retrieval: Vec<Recall>,
}

#[derive(Deserialize)]
struct Classification {
    name: String,
    logits: Vec<Vec<f32>>,
    targets: Vec<usize>,
    acc1: f64,
    acc5: f64,
    mean_per_class_recall: f64,
    /// Precision, recall and F1, each per class.
    per_class: [Vec<f64>; 3],
    support: Vec<usize>,
    #[serde(rename = "macro")]
    macro_average: [f64; 3],
    weighted: [f64; 3],
    /// Row, column, count.
    confusion: Vec<[usize; 3]>,
    ece: f64,
    nll: f64,
    brier: f64,
}

#[derive(Deserialize)]
struct CalibrationError {
    name: String,
    confidences: Vec<f32>,
    right: Vec<bool>,
    ece: f64,
}

#[derive(Deserialize)]
struct Temperature {
    name: String,
    logits: Vec<Vec<f32>>,
    targets: Vec<usize>,
    temperature: f64,
    nll_before: f64,
    nll_after: f64,
    ece_before: f64,
    ece_after: f64,
    threshold: Threshold,
}

#[derive(Deserialize)]
struct Threshold {
    threshold: f64,
    youden: f64,
}

#[derive(Deserialize)]
struct McNemar {
    only_first: usize,
    only_second: usize,
    exact: bool,
    statistic: f64,
    p_value: f64,
}

#[derive(Deserialize)]
struct Holm {
    p_values: Vec<f64>,
    corrected: Vec<f64>,
}

#[derive(Deserialize)]
struct Recall {
    name: String,
    images: Vec<Vec<f32>>,
    texts: Vec<Vec<f32>>,
    image_of_text: Vec<usize>,
    /// Per k: images by text, texts by image.
    recall: std::collections::BTreeMap<usize, [f64; 2]>,
    median_rank: f64,
    mean_reciprocal_rank: f64,
}

fn expected() -> Expected {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = folder.join("tests/golden/expected/metrics.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[track_caller]
fn assert_near(what: &str, found: f64, expected: f64, tolerance: f64) {
    let near = (found - expected).abs() <= tolerance;
    assert!(near, "{what}: {found}, not {expected}");
}

/// As in `zero_shot`: sums in f64, probabilities in f32, ties in class order.
fn softmax(logits: &[f32]) -> (Vec<f32>, Vec<usize>) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: &f32| f64::from(logit - largest).exp();
    let sum: f64 = logits.iter().map(weight).sum();
    let probabilities = logits.iter().map(|logit| (weight(logit) / sum) as f32);
    let mut ranked: Vec<usize> = (0..logits.len()).collect();
    ranked.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    (probabilities.collect(), ranked)
}

fn tally(case: &Classification) -> Tally {
    let mut tally = Tally::new(case.support.len());
    for (logits, target) in case.logits.iter().zip(&case.targets) {
        let (probabilities, ranked) = softmax(logits);
        tally
            .add(*target, &ranked, probabilities[ranked[0]])
            .unwrap();
        tally.add_probabilities(*target, &probabilities).unwrap();
    }
    tally
}

#[test]
fn accuracies_and_means_match_scikit_learn() {
    for case in expected().classification {
        let tally = tally(&case);
        let means = |a: Averages| [a.precision, a.recall, a.f1];
        let near = |what: &str, found: f64, expected: f64| {
            assert_near(
                &format!("{}: {what}", case.name),
                found,
                expected,
                TOLERANCE,
            );
        };
        near("acc1", tally.acc1(), case.acc1);
        near("acc5", tally.acc5(), case.acc5);
        near(
            "mean per-class recall",
            tally.mean_per_class_recall(),
            case.mean_per_class_recall,
        );
        for i in 0..3 {
            near(
                "macro",
                means(tally.macro_average())[i],
                case.macro_average[i],
            );
            near(
                "weighted",
                means(tally.weighted_average())[i],
                case.weighted[i],
            );
        }
        near("brier", tally.brier().unwrap(), case.brier);
        near("nll", tally.negative_log_likelihood().unwrap(), case.nll);
    }
}

#[test]
fn classes_and_confusions_match_scikit_learn() {
    for case in expected().classification {
        let tally = tally(&case);
        let classes = tally.per_class();
        let support: Vec<usize> = classes.iter().map(|class| class.support).collect();
        assert_eq!(support, case.support, "{}", case.name);
        let figures = [
            ClassFigures::precision,
            ClassFigures::recall,
            ClassFigures::f1,
        ];
        for (figure, expected) in figures.iter().zip(&case.per_class) {
            for (class, expected) in classes.iter().zip(expected) {
                assert_near(&case.name, figure(class), *expected, TOLERANCE);
            }
        }
        let cells: Vec<[usize; 3]> = tally
            .confusions()
            .cells()
            .map(|cell| [cell.target, cell.predicted, cell.count])
            .collect();
        assert_eq!(cells, case.confusion, "{}", case.name);
    }
}

#[test]
fn calibration_errors_match_netcal_and_torchmetrics() {
    let expected = expected();
    for case in expected.classification {
        let found = tally(&case).reliability(BINS).unwrap().ece;
        assert_near(&case.name, found, case.ece, TOLERANCE);
    }
    for case in expected.calibration_error {
        let samples = case.confidences.into_iter().zip(case.right);
        let found = reliability(samples, BINS).unwrap().ece;
        assert_near(&case.name, found, case.ece, TOLERANCE);
    }
}

#[test]
fn temperatures_match_scipys_minimum() {
    for case in expected().temperature {
        let name = &case.name;
        let logits = case.logits.concat();
        let targets: Vec<Option<usize>> = case.targets.iter().copied().map(Some).collect();
        let samples = Stored::new(&logits, &targets, case.logits[0].len()).unwrap();
        let found = fit_temperature(&samples).unwrap();
        assert!(found.determined, "{name}");
        // scipy's minimiser uses values only, which near the minimum change by the square of a
        // step: half of the digits are lost, and more if the minimum is flat. The likelihood shows
        // whether it is the same minimum.
        let ratio = found.temperature / case.temperature;
        assert_near(name, ratio, 1.0, 1e-3);
        assert_near(name, found.nll_before, case.nll_before, TOLERANCE);
        assert_near(name, found.nll_after, case.nll_after, TOLERANCE);

        let ece = |temperature| {
            let judged = judge(&samples, temperature).unwrap();
            reliability_of(&judged, BINS).unwrap().ece
        };
        assert_near(name, ece(1.0), case.ece_before, TOLERANCE);
        // At a common temperature, so that its last digits do not matter.
        assert_near(name, ece(case.temperature), case.ece_after, TOLERANCE);
        let judged = judge(&samples, case.temperature).unwrap();
        let threshold = choose_threshold(&judged).unwrap();
        let value = f64::from(threshold.threshold);
        assert_near(name, value, case.threshold.threshold, TOLERANCE);
        assert_near(name, threshold.youden(), case.threshold.youden, TOLERANCE);
    }
}

#[test]
fn mcnemar_and_holm_match_statsmodels() {
    let expected = expected();
    for case in expected.mcnemar {
        let found = mcnemar(case.only_first, case.only_second);
        let what = format!("{} against {}", case.only_first, case.only_second);
        assert_eq!(found.method == McNemarMethod::Exact, case.exact, "{what}");
        assert_near(&what, found.statistic, case.statistic, TOLERANCE);
        // Down to 1e-262, so compare digits.
        assert_near(&what, found.p_value / case.p_value, 1.0, TOLERANCE);
    }
    for case in expected.holm {
        for (found, expected) in holm(&case.p_values).iter().zip(&case.corrected) {
            assert_near("holm", *found, *expected, TOLERANCE);
        }
    }
}

#[test]
fn recalls_match_clip_benchmark_and_long_clips_scripts() {
    let unit = |rows: &[Vec<f32>]| -> Vec<f32> {
        let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
        let rows = rows.iter();
        rows.flat_map(|row| row.iter().map(move |x| x / norm(row)))
            .collect()
    };
    for case in expected().retrieval {
        let found = retrieve(&Pairs {
            images: &unit(&case.images),
            texts: &unit(&case.texts),
            dim: case.images[0].len(),
            image_of_text: &case.image_of_text,
            text_of_row: None,
        })
        .unwrap();
        for (k, [image, text]) in case.recall {
            let what = format!("{} at {k}", case.name);
            assert_near(&what, found.image_of_text.recall(k), image, TOLERANCE);
            assert_near(&what, found.text_of_image.recall(k), text, TOLERANCE);
        }
        assert_eq!(found.image_of_text.median(), case.median_rank);
        let reciprocal = found.image_of_text.mean_reciprocal();
        assert_near(&case.name, reciprocal, case.mean_reciprocal_rank, TOLERANCE);
    }
}
