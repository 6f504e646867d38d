//! The same labels with their texts cut to one length after the other.

use anyhow::Result;

use crate::input::tokenizer::LongText;
use crate::model::DualEncoder;
use crate::output::evaluation::SweepRow;
use crate::run::Console;
use crate::run::labels::Texts;
use crate::run::texts::Fitter;
use crate::run::variant::{Variant, figures};
use crate::task::metric::Resampling;

/// One length.
pub(super) struct Step {
    /// Most tokens of a text, start and end included.
    pub(super) tokens: usize,
    /// Texts that were cut.
    pub(super) cut: usize,
    pub(super) variant: Variant,
    texts: Texts,
}

/// The lengths that the model can read, in rising order, each once.
pub(super) fn lengths(wanted: &[u64], context_length: usize, console: &Console) -> Vec<usize> {
    let mut lengths: Vec<usize> = wanted.iter().map(|&tokens| tokens as usize).collect();
    lengths.sort_unstable();
    lengths.dedup();
    let too_long = lengths.partition_point(|&tokens| tokens <= context_length);
    for tokens in lengths.drain(too_long..) {
        console.note(&format!(
            "--truncate-sweep {tokens} is left out: this model reads {context_length} tokens"
        ));
    }
    lengths
}

/// Cuts the texts of `variant` to each of `lengths`.
pub(super) fn steps(variant: &Variant, lengths: &[usize]) -> Result<Vec<Step>> {
    let step = |&tokens: &usize| {
        let mut fitter = Fitter::silent(tokens, LongText::Truncate);
        let variant = variant.again(format!("{tokens} tokens"));
        let texts = variant.fit(&mut fitter)?;
        Ok(Step {
            tokens,
            cut: fitter.long(),
            variant,
            texts,
        })
    };
    lengths.iter().map(step).collect()
}

impl Step {
    pub(super) fn encode(&mut self, model: &dyn DualEncoder, temperature: f32) -> Result<()> {
        self.variant.encode(&self.texts, model, temperature)
    }

    pub(super) fn row(&self, how: &Resampling) -> Result<SweepRow> {
        Ok(SweepRow {
            tokens: self.tokens,
            cut: self.cut,
            figures: figures(&self.variant.tally, how)?,
        })
    }
}
