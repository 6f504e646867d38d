//! Computes every comparison that the sets allow.

use std::collections::HashSet;

use anyhow::{Result, ensure};

use super::ShiftArgs;
use super::baseline::Baseline;
use super::gather::{Answers, Gathered, Read};
use super::record::{
    Accuracy, AnswerChange, C2st, Change, Distance, Duplicates, LabelShare, LabelShares, Measured,
    Mmd, Model, Robustness, SetFacts, Shift,
};
use super::{pictures, summary};
use crate::run::figures::arguments;
use crate::task::linear_probe::Stopped;
use crate::task::metric::Resampling;
use crate::task::metric::bootstrap::Interval;
use crate::task::shift::accuracy::{by_confidence, dropped, measured, thresholded};
use crate::task::shift::label_shares::{self, LabelChange};
use crate::task::shift::{drawn, frechet, judge, kernels, prior, rows};

/// Images of a set below which only large differences are found.
const FEW: usize = 50;

const MMD: &str = "The images of each set are independent draws. Then p is exact; a series of \
    similar pictures makes it too small. It is about the embeddings of this model only. The bandwidth is the median over up to \
    2,048 images.";
const CMMD: &str = "Comparable only between sets embedded by the same model; it has no sampling \
    distribution of its own, see mmd for a test. Biased: above 0 for two draws of one distribution.";
const FRECHET: &str = "The embeddings of each set are normally distributed. With fewer images than \
    embeddings have numbers, and for small sets in general, it is biased upwards; compare it only \
    at equal numbers of images.";
const C2ST: &str = "The images are independent draws. Accuracy and AUC are of held-out images, 1/2 \
    by chance; p takes them for independent tosses of a coin, which cross-validation makes true \
    only about.";
const DUPLICATES: &str = "Images with the same embedding to the bit, so copies, whatever their \
    names; not the same picture at another size or compression.";
const ANSWERS: &str = "The images are independent draws. These are answers, not true labels. \
    Intervals at 95%, bootstrap for the total variation (which is above 0 also for two draws of one \
    distribution), Newcombe's for labels; Fisher's test per label, Holm's correction for all.";
const SHARES: &str = "Label shift: images of a label look the same in both sets, only their shares \
    differ. em also needs probabilities that are calibrated on A.";
const ACCURACY: &str = "Right and wrong answers are as confident in B as in A. atc and doc are \
    expectations without labels of B; they fail where the model is confidently wrong on B.";
const ROBUSTNESS: &str = "The accuracies of the other models, measured on the same two sets, lie on \
    a line after the logit.";

/// Compares the sets.
///
/// # Errors
/// When a set has fewer than two images, or the run is stopped.
pub(super) fn find(
    args: &ShiftArgs,
    gathered: &Gathered,
    baseline: Option<Baseline>,
    is_stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Shift> {
    let (dim, seed) = (gathered.dim, args.test.seed);
    let counts = gathered.sets.each_ref().map(|set| set.rows.len() / dim);
    for (path, count) in [&args.a, &args.b].into_iter().zip(counts) {
        ensure!(
            count > 1,
            "{} has one image; a set to compare needs at least two, and 50 to find what is not \
             obvious",
            path.display()
        );
    }
    let most = args.test.most as usize;
    let used: [Vec<f32>; 2] = [0, 1].map(|at| {
        // Other draws than those of B, in case both are the same set.
        let places = drawn(counts[at], most, seed.wrapping_add(at as u64));
        rows(&gathered.sets[at].rows, dim, &places)
    });
    let used = [&used[0][..], &used[1][..]];
    let permutations = args.test.permutations;
    let check = || match is_stopped() {
        true => Err(Stopped),
        false => Ok(()),
    };
    check()?;
    let discrepancy = kernels::compare(used, dim, permutations as usize, seed);
    check()?;
    let frechet = frechet::distance(used, dim);
    check()?;
    let c2st = match counts.iter().all(|&n| n >= judge::FOLDS) {
        true => Some(judge::judge(used, dim, seed, is_stopped)?),
        false => None,
    };
    let duplicates = duplicates(&gathered.sets, dim);
    let how = Resampling {
        seed,
        ..Resampling::default()
    };
    let answers = gathered.answers.as_ref();
    let fact = |at: usize| SetFacts {
        path: [&args.a, &args.b][at].display().to_string(),
        images: counts[at],
        failed: gathered.sets[at].failed,
        labelled: gathered.sets[at].truths.is_some(),
        used: used[at].len() / dim,
    };
    let mut found = Shift {
        summary: String::new(),
        warnings: Vec::new(),
        a: fact(0),
        b: fact(1),
        mmd: Mmd {
            squared: discrepancy.squared,
            p: discrepancy.p,
            permutations,
            sigma: discrepancy.sigma,
            assumes: MMD,
        },
        cmmd: Distance {
            value: discrepancy.cmmd,
            assumes: CMMD,
        },
        frechet: Distance {
            value: frechet,
            assumes: FRECHET,
        },
        c2st: c2st.map(|judged| C2st {
            accuracy: judged.accuracy,
            auc: judged.auc,
            p: judged.p,
            each: judged.each,
            folds: judge::FOLDS,
            assumes: C2ST,
        }),
        duplicates: Duplicates {
            of_b: duplicates,
            assumes: DUPLICATES,
        },
        answers: answers.map(|answers| answer_change(answers, &how)),
        label_shares: answers.and_then(shares),
        accuracy: answers.and_then(|answers| accuracy(answers, baseline, &how)),
        pictures: pictures::find(
            &gathered.sets,
            &args.engine.decode.options(),
            seed,
            is_stopped,
        ),
        model: gathered.about.as_ref().map(|about| Model {
            name: about.model.clone(),
            sha256: about.sha256.clone(),
        }),
        labels: answers.map(|answers| answers.facts.clone()),
        seed,
        version: env!("CARGO_PKG_VERSION"),
        arguments: arguments(),
    };
    check()?;
    found.warnings = warnings(&found, dim);
    found.summary = summary::sentence(&found);
    Ok(found)
}

/// Images of B with the embedding of an image of A.
fn duplicates(sets: &[Read; 2], dim: usize) -> usize {
    let bits = |row: &[f32]| -> Vec<u32> { row.iter().map(|x| x.to_bits()).collect() };
    let known: HashSet<Vec<u32>> = sets[0].rows.chunks_exact(dim).map(bits).collect();
    let others = sets[1].rows.chunks_exact(dim).map(bits);
    others.filter(|row| known.contains(row)).count()
}

fn warnings(found: &Shift, dim: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, set) in [("A", &found.a), ("B", &found.b)] {
        if set.images < FEW {
            warnings.push(format!(
                "{name} has {} images; with fewer than {FEW}, only large differences are found, and \
                 a large p does not say that the sets are the same",
                set.images
            ));
        }
        if set.used < set.images {
            warnings.push(format!(
                "the distances are of {} of the {} images of {name}, drawn at random; --most \
                 raises the number",
                set.used, set.images
            ));
        }
    }
    let least = found.a.used.min(found.b.used);
    if least <= dim {
        warnings.push(format!(
            "the Fréchet distance of {least} images with {dim} numbers each is biased upwards; \
             compare it only with distances at the same numbers"
        ));
    }
    let same = found.duplicates.of_b;
    if same == found.b.images && found.a.images == found.b.images {
        warnings.push(
            "every image of B is also in A: this is the same set twice, so that no number here says \
             how two draws of it would differ"
                .to_owned(),
        );
    } else if same > 0 {
        warnings.push(format!(
            "{same} of {} images of B are also in A, which makes the sets look more similar than they are",
            found.b.images
        ));
    }
    if found
        .answers
        .as_ref()
        .is_some_and(|answers| answers.degrees == 0)
    {
        warnings.push(
            "all images of both sets have the same answer, so that the answers cannot show a change"
                .to_owned(),
        );
    }
    if found
        .label_shares
        .as_ref()
        .is_some_and(|shares| shares.per_label.iter().all(|share| share.bbse.is_none()))
    {
        warnings.push(
            "the answers on A do not separate its labels, so that BBSE has no label shares of B"
                .to_owned(),
        );
    }
    warnings
}

fn pair(interval: Interval) -> [f64; 2] {
    [interval.low, interval.high]
}

fn change(label: &str, change: &LabelChange) -> Change {
    Change {
        label: label.to_owned(),
        counts: change.counts,
        shares: change.shares,
        interval: pair(change.interval),
        p: change.p,
        p_holm: change.p_holm,
    }
}

fn answer_change(answers: &Answers, how: &Resampling) -> AnswerChange {
    let of = answers
        .sets
        .each_ref()
        .map(|set| -> Vec<usize> { set.iter().map(|answer| answer.label).collect() });
    let found = label_shares::compare([&of[0], &of[1]], answers.labels.len(), how);
    let rows = answers.labels.iter().zip(&found.labels);
    AnswerChange {
        total_variation: found.total_variation,
        total_variation_interval: pair(found.interval),
        chi_square: found.chi_square,
        degrees: found.degrees,
        p: found.p,
        per_label: rows.map(|(label, one)| change(label, one)).collect(),
        assumes: ANSWERS,
    }
}

/// The share of each label in the truths of a set, if they are known.
fn true_shares(answers: &Answers, at: usize) -> Option<Vec<f64>> {
    let set = &answers.sets[at];
    let mut counts = vec![0usize; answers.labels.len()];
    for answer in set {
        counts[answer.truth?] += 1;
    }
    let shares = counts.into_iter().map(|n| n as f64 / set.len() as f64);
    Some(shares.collect())
}

fn shares(answers: &Answers) -> Option<LabelShares> {
    let known = true_shares(answers, 0)?;
    let confusions = answers.sets[0].iter();
    let confusions: Option<Vec<[usize; 2]>> = confusions
        .map(|answer| Some([answer.truth?, answer.label]))
        .collect();
    let others: Vec<usize> = answers.sets[1].iter().map(|answer| answer.label).collect();
    let bbse = prior::by_confusions(&confusions?, &others, answers.labels.len());
    let em = prior::by_probabilities(&answers.probabilities, &known);
    let truths = true_shares(answers, 1);
    let rows = answers
        .labels
        .iter()
        .enumerate()
        .map(|(at, label)| LabelShare {
            label: label.clone(),
            a: known[at],
            bbse: bbse.as_ref().map(|shares| shares[at]),
            em: em[at],
            b: truths.as_ref().map(|shares| shares[at]),
        });
    Some(LabelShares {
        per_label: rows.collect(),
        assumes: SHARES,
    })
}

fn accuracy(answers: &Answers, baseline: Option<Baseline>, how: &Resampling) -> Option<Accuracy> {
    let [a, b] = answers.sets.each_ref().map(Vec::as_slice);
    let are_known = [a, b].map(|set| set.iter().all(|answer| answer.truth.is_some()));
    if !are_known[0] {
        return None;
    }
    let on_a = measured(a);
    let on_b = are_known[1].then(|| measured(b));
    Some(Accuracy {
        a: on_a,
        b: on_b,
        atc: thresholded(a, b, |answer| answer.confidence),
        atc_entropy: thresholded(a, b, |answer| answer.negative_entropy),
        doc: by_confidence(a, b),
        assumes: ACCURACY,
        measured: on_b.map(|_| {
            let found = dropped([a, b], answers.labels.len(), how);
            let recalls = found.recalls.iter();
            Measured {
                drop: found.drop,
                interval: pair(found.interval),
                per_label: recalls
                    .map(|(label, one)| change(&answers.labels[*label], one))
                    .collect(),
            }
        }),
        effective_robustness: on_b.zip(baseline).map(|(on_b, baseline)| {
            let expected = baseline.line.at(on_a);
            Robustness {
                value: on_b - expected,
                expected,
                slope: baseline.line.slope,
                intercept: baseline.line.intercept,
                models: baseline.models,
                assumes: ROBUSTNESS,
            }
        }),
    })
}
