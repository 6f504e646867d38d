//! The contributions of a label's words.

use anyhow::{Result, ensure};

use super::ExplainArgs;
use super::scorer::Scorer;
use crate::output::explanation::{Explanation, Inner, Method, Word};
use crate::run::Console;
use crate::run::console::counted;
use crate::task::attribution::parts::{Part, Unit, in_characters, joined, split};
use crate::task::attribution::{self, Contributions, MOST_EXACT, Subset};

/// Orders that are sampled if there are too many subsets and no number is given.
const SAMPLES: usize = 200;

/// How the contributions of words are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordMethod {
    /// Shapley values, exact or sampled.
    Shapley,
    /// What is lost without each.
    LeaveOneOut,
    /// Not at all.
    None,
}

/// Fills in the words of both labels, their sum and what it lacks.
pub(super) fn explain(
    args: &ExplainArgs,
    scorer: &mut Scorer,
    found: &mut Explanation,
    console: &Console,
) -> Result<()> {
    if args.words != WordMethod::None {
        let texts: Vec<&String> = std::iter::once(&args.label).chain(&args.against).collect();
        let plan = Plan::new(args, &texts)?;
        found.notes.extend(plan.notes(&texts));
        found.method = Some(plan.method(args));
        found.words = plan.words(&args.label, args, scorer, console)?;
        if let Some(other) = &args.against {
            let mut words = plan.words(other, args, scorer, console)?;
            // What raises the other label's cosine lowers the difference.
            for word in &mut words {
                (word.value, word.loss) = (-word.value, -word.loss);
                word.words
                    .iter_mut()
                    .for_each(|inner| inner.loss = -inner.loss);
            }
            found.against_words = words;
        }
    }
    let all = found.words.iter().chain(&found.against_words);
    let sum: f64 = all.map(|word| f64::from(word.value)).sum();
    found.sum = sum as f32;
    found.rest = (f64::from(found.score) - f64::from(found.empty) - sum) as f32;
    Ok(())
}

/// Into what labels are split, and how many orders are sampled.
struct Plan {
    unit: Unit,
    samples: Option<usize>,
}

impl Plan {
    /// The same for both labels, so that their values compare.
    fn new(args: &ExplainArgs, texts: &[&String]) -> Result<Self> {
        let most = |unit| {
            let counts = texts.iter().map(|text| split(text, unit).len());
            counts.max().unwrap_or(0)
        };
        let is_split = |unit: &Unit| most(*unit) > 1;
        let unit = match args.parts {
            Some(unit) => unit,
            None if most(Unit::Words) <= MOST_EXACT => Unit::Words,
            // The longest parts that there are at least two of.
            None => [Unit::Sentences, Unit::Clauses]
                .into_iter()
                .find(is_split)
                .unwrap_or(Unit::Words),
        };
        let samples = match (args.words, args.samples) {
            (WordMethod::Shapley, Some(samples)) => Some(samples as usize),
            (WordMethod::Shapley, None) if most(unit) > MOST_EXACT => Some(SAMPLES),
            _ => None,
        };
        ensure!(most(unit) > 0, "the label has no words; pass a text");
        Ok(Self { unit, samples })
    }

    fn method(&self, args: &ExplainArgs) -> Method {
        Method {
            name: match (args.words, self.samples) {
                (WordMethod::LeaveOneOut, _) => "leave-one-out",
                (_, Some(_)) => "shapley-sampled",
                (_, None) => "shapley",
            },
            parts: self.unit.name(),
            samples: self.samples,
            seed: self.samples.map(|_| args.seed),
        }
    }

    /// What the choice means for the values.
    fn notes(&self, texts: &[&String]) -> Vec<String> {
        let mut notes = Vec::new();
        for (text, flag) in texts.iter().zip(["--label", "--against"]) {
            if split(text, self.unit).len() == 1 {
                notes.push(format!(
                    "{flag} is one {}, so its value is the whole difference from the empty text",
                    self.unit.one()
                ));
            }
        }
        if self.unit != Unit::Words {
            let words = texts.iter().map(|text| split(text, Unit::Words).len());
            notes.push(format!(
                "of {}, the {} have values that sum; below each is what is lost without one of its \
                 words",
                counted(words.max().unwrap_or(0) as u64, "word"),
                self.unit.name()
            ));
        }
        if let Some(samples) = self.samples {
            notes.push(format!(
                "values are means over {samples} random orders, with their standard errors"
            ));
        }
        notes
    }

    /// The parts of one label with what they contribute to its cosine.
    fn words(
        &self,
        label: &str,
        args: &ExplainArgs,
        scorer: &mut Scorer,
        console: &Console,
    ) -> Result<Vec<Word>> {
        let parts = split(label, self.unit);
        let mut texts = 0;
        let mut game = |subsets: &[Subset]| {
            texts += subsets.len();
            let of = |subset: &Subset| match subset.iter().all(|is_there| *is_there) {
                // As it was typed, so that the score is that of classify.
                true => label.to_owned(),
                false => joined(&parts, subset),
            };
            scorer.cosines(&subsets.iter().map(of).collect::<Vec<_>>())
        };
        let count = parts.len();
        let found = match (args.words, self.samples) {
            (WordMethod::LeaveOneOut | WordMethod::None, _) => {
                attribution::left_out(count, &mut game)
            }
            (_, Some(samples)) => attribution::sampled(count, samples, args.seed, &mut game),
            (_, None) => attribution::shapley(count, &mut game),
        }?;
        console.detail(&format!(
            "{count} {} of {label:?}: {}",
            self.unit.name(),
            counted(texts as u64, "text")
        ));
        let inner = self.inner(label, &parts, found.score, scorer)?;
        Ok(rows(label, parts, &found, inner))
    }

    /// For each part, its words, and what is lost without each of them.
    fn inner(
        &self,
        label: &str,
        parts: &[Part],
        score: f64,
        scorer: &mut Scorer,
    ) -> Result<Vec<Vec<Inner>>> {
        if self.unit == Unit::Words {
            return Ok(vec![Vec::new(); parts.len()]);
        }
        let words = split(label, Unit::Words);
        let without = |word: &Part| {
            let (before, after) = (&label[..word.bytes.start], &label[word.bytes.end..]);
            format!("{before} {after}")
        };
        let texts: Vec<String> = words.iter().map(without).collect();
        let scores = scorer.cosines(&texts)?;
        let words: Vec<(Part, f64)> = words.into_iter().zip(scores).collect();
        let of = |part: &Part| {
            let within = |(word, _): &&(Part, f64)| part.bytes.contains(&word.bytes.start);
            let inner = words.iter().filter(within).map(|(word, without)| Inner {
                span: in_characters(label, &word.bytes),
                word: word.text.clone(),
                loss: (score - without) as f32,
            });
            inner.collect()
        };
        Ok(parts.iter().map(of).collect())
    }
}

fn rows(label: &str, parts: Vec<Part>, found: &Contributions, inner: Vec<Vec<Inner>>) -> Vec<Word> {
    let rows = parts.into_iter().zip(inner).enumerate();
    rows.map(|(at, (part, words))| Word {
        span: in_characters(label, &part.bytes),
        word: part.text,
        value: found.values[at] as f32,
        error: found.errors.as_ref().map(|errors| errors[at] as f32),
        loss: found.losses[at] as f32,
        words,
    })
    .collect()
}
