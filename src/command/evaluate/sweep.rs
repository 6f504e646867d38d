//! `--truncate-sweep`: the same labels with texts cut to different lengths.

use anyhow::Result;

use crate::input::tokenizer::LongText;
use crate::output::evaluation::SweepRow;
use crate::run::Console;
use crate::run::figures::figures;
use crate::run::labelling::Labelling;
use crate::run::texts::Fitter;
use crate::task::metric::Resampling;

/// One length of a sweep.
pub(super) struct Step {
    /// The maximum number of tokens per text, including start and end.
    pub(super) tokens: usize,
    /// The number of texts that were cut.
    pub(super) cut: usize,
    pub(super) variant: Labelling,
}

/// The lengths that the model can read, sorted and unique.
pub(super) fn lengths(wanted: &[u64], context_length: usize, console: &Console) -> Vec<usize> {
    let mut lengths: Vec<usize> = wanted.iter().map(|&tokens| tokens as usize).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let too_long = lengths.partition_point(|&tokens| tokens <= context_length);
    for tokens in lengths.drain(too_long..) {
        console.note(&format!(
            "--truncate-sweep {tokens} is skipped: this model reads {context_length} tokens"
        ));
    }
    lengths
}

/// Cuts the texts of `variant` to each of `lengths`.
pub(super) fn steps(variant: &Labelling, lengths: &[usize]) -> Result<Vec<Step>> {
    let step = |&tokens: &usize| {
        let mut fitter = Fitter::silent(tokens, LongText::Truncate);
        let mut variant = variant.again(format!("{tokens} tokens"))?;
        variant.fit(&mut fitter)?;
        Ok(Step {
            tokens,
            cut: fitter.long(),
            variant,
        })
    };
    lengths.iter().map(step).collect()
}

impl Step {
    pub(super) fn row(&self, how: &Resampling) -> Result<SweepRow> {
        Ok(SweepRow {
            tokens: self.tokens,
            cut: self.cut,
            figures: figures(&self.variant.tally, how)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_sorted_and_fit_the_model() {
        let cases: [(&[u64], &[usize]); 4] = [
            (&[], &[]),
            (&[77, 20, 20, 10], &[10, 20, 77]),
            (&[248, 77, 78], &[77]),
            (&[248], &[]),
        ];
        for (wanted, expected) in cases {
            assert_eq!(lengths(wanted, 77, &Console::silent()), expected);
        }
    }
}
