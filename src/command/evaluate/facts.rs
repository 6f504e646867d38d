//! Computes the contents of `results.json` from counts.

use anyhow::Result;

use super::corrupt::Corrupted;
use super::{EvaluateArgs, sweep};
use crate::input::dataset::Labelled;
use crate::output::evaluation::{
    ChangeRow, ClassRow, ConfusionRow, Evaluation, Means, ModelFacts, PairRow, Provenance, RunRow,
};
use crate::run::figures::{arguments, bin_rows, class_rows, figures};
use crate::run::labelling::Labelling;
use crate::run::session::Session;
use crate::task::metric::paired::{McNemarMethod, holm};
use crate::task::metric::{Averages, Comparison, Resampling, compare};

/// The number of confusions listed.
const WORST: usize = 20;

/// The settings of the run.
pub(super) fn provenance(args: &EvaluateArgs, session: &Session) -> Result<Provenance> {
    let checkpoint = &session.checkpoint;
    Ok(Provenance {
        dataset: args.dataset.display().to_string(),
        model: ModelFacts {
            name: checkpoint.name.clone(),
            sha256: session.weights_sha256()?.to_owned(),
            architecture: checkpoint.architecture.image.describe().to_string(),
            context_length: checkpoint.architecture.context_length,
            device: session.placement.device.clone(),
            precision: session.placement.precision.to_owned(),
        },
        version: env!("CARGO_PKG_VERSION"),
        arguments: arguments(),
    })
}

/// All findings of a classification.
pub(super) struct Findings<'a> {
    pub(super) dataset: &'a Labelled,
    pub(super) variants: &'a [Labelling],
    pub(super) sweep: &'a [sweep::Step],
    pub(super) corrupted: Option<&'a Corrupted>,
    pub(super) failed: u64,
    pub(super) temperature: f32,
    pub(super) how: Resampling,
}

impl Findings<'_> {
    pub(super) fn evaluation(&self, provenance: Provenance) -> Result<Evaluation> {
        let main = &self.variants[0];
        let compared = if self.variants.len() > 1 {
            self.variants
        } else {
            &[]
        };
        let runs = compared.iter().map(|variant| {
            Ok(RunRow {
                name: variant.name.clone(),
                labels: variant.facts.clone(),
                figures: figures(&variant.tally, &self.how)?,
            })
        });
        Ok(Evaluation {
            task: "classify",
            figures: figures(&main.tally, &self.how)?,
            failed: self.failed,
            temperature: self.temperature,
            macro_average: means(main.tally.macro_average()),
            weighted_average: means(main.tally.weighted_average()),
            per_class: self.classes(main),
            reliability: bin_rows(&main.tally)?,
            worst_confusions: worst(main),
            compare: runs.collect::<Result<_>>()?,
            pairs: self.pairs()?,
            truncate_sweep: (self.sweep.iter())
                .map(|step| step.row(&self.how))
                .collect::<Result<_>>()?,
            corruptions: match self.corrupted {
                Some(corrupted) => corrupted.rows(self.variants, &self.how)?,
                None => Vec::new(),
            },
            labels: main.facts.clone(),
            provenance,
        })
    }

    fn classes(&self, variant: &Labelling) -> Vec<ClassRow> {
        let mut class_of = vec![None; variant.labels.len()];
        for (class, &label) in variant.label_of_class.iter().enumerate() {
            class_of[label] = Some(self.dataset.classes[class].clone());
        }
        class_rows(&variant.tally, &variant.labels, &class_of)
    }

    /// Every pair of runs, with p values corrected for multiple comparisons.
    fn pairs(&self) -> Result<Vec<PairRow>> {
        let answers: Vec<_> = self
            .variants
            .iter()
            .map(Labelling::answers_by_class)
            .collect();
        let mut found: Vec<(usize, usize, Comparison)> = Vec::new();
        for second in 1..answers.len() {
            for first in 0..second {
                let comparison = compare(&answers[first], &answers[second], &self.how)?;
                found.push((first, second, comparison));
            }
        }
        found.sort_by_key(|(first, second, _)| (*first, *second));
        let p_values: Vec<f64> = found.iter().map(|(.., c)| c.test.p_value).collect();
        let row =
            |((first, second, comparison), p_holm): (&(usize, usize, Comparison), f64)| PairRow {
                first: self.variants[*first].name.clone(),
                second: self.variants[*second].name.clone(),
                difference: comparison.difference,
                difference_interval: [comparison.interval.low, comparison.interval.high],
                won: comparison.pairs.only_second,
                lost: comparison.pairs.only_first,
                mcnemar_p: comparison.test.p_value,
                mcnemar_method: match comparison.test.method {
                    McNemarMethod::Exact => "exact",
                    McNemarMethod::ChiSquare => "chi-square",
                },
                mcnemar_p_holm: p_holm,
                changed: (comparison.changed.iter())
                    .map(|change| ChangeRow {
                        class: self.dataset.classes[change.class].clone(),
                        support: change.support,
                        won: change.won,
                        lost: change.lost,
                    })
                    .collect(),
            };
        Ok(found.iter().zip(holm(&p_values)).map(row).collect())
    }
}

fn means(averages: Averages) -> Means {
    Means {
        precision: averages.precision,
        recall: averages.recall,
        f1: averages.f1,
    }
}

fn worst(variant: &Labelling) -> Vec<ConfusionRow> {
    let worst = variant.tally.confusions().worst(WORST);
    let row = |cell: &crate::task::metric::Confusion| ConfusionRow {
        target: variant.labels[cell.target].clone(),
        predicted: variant.labels[cell.predicted].clone(),
        count: cell.count,
    };
    worst.iter().map(row).collect()
}
