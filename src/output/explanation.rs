//! Why a label has its score: the contributions of its words and of the image's regions, as JSON
//! and as a table. Scripts read these keys: extend, never rename.

use anstyle::AnsiColor;
use serde::Serialize;

use super::record_table::bar;
use super::table::{Column, GAP, TextTable, bold, foreground, painted};
use super::text::{columns, printable, shortened};
use super::{ImageName, Terminal};

/// Longer bars show nothing more.
const LONGEST_BAR: usize = 30;
/// The space that a number takes: `+0.1234 ± 0.1234`.
const NUMBER_COLUMNS: usize = 16;
/// A part is not truncated below this, however narrow the terminal.
const SHORTEST_PART: usize = 16;

/// The explanation of one image's score.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Explanation {
    pub(crate) image: String,
    /// The path's exact bytes in base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_bytes: Option<String>,
    pub(crate) label: String,
    pub(crate) against: Option<String>,
    /// What is explained: `cosine`, or `cosine difference`.
    pub(crate) quantity: &'static str,
    /// That quantity.
    pub(crate) score: f32,
    /// The same times the model's logit scale.
    pub(crate) logit: f32,
    /// The image's cosine with the label, and with the other label.
    pub(crate) cosine: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) against_cosine: Option<f32>,
    /// The quantity if each label is the empty text.
    pub(crate) empty: f32,
    /// The image's cosine with the empty text.
    pub(crate) empty_cosine: f32,
    /// How the words' values were found; absent if they were not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<Method>,
    pub(crate) words: Vec<Word>,
    /// Those of the other label: what they take from the difference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) against_words: Vec<Word>,
    /// The sum of all values.
    pub(crate) sum: f32,
    /// What it lacks of `score - empty`.
    pub(crate) rest: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) regions: Option<Regions>,
    /// What words and patches have of the label's cosine together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pairs: Option<Pairs>,
    /// What the numbers mean here, and warnings about the image.
    pub(crate) notes: Vec<String>,
}

/// How the words' values were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Method {
    /// `shapley`, `shapley-sampled` or `leave-one-out`.
    pub(crate) name: &'static str,
    /// What the label was split into: `words`, `clauses` or `sentences`.
    pub(crate) parts: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) samples: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seed: Option<u64>,
}

/// A word, clause or sentence.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Word {
    pub(crate) word: String,
    /// Its start and end in the label, in characters.
    pub(crate) span: [usize; 2],
    pub(crate) value: f32,
    /// Its standard error, if it was sampled.
    pub(crate) error: Option<f32>,
    /// What the quantity loses when this word alone is left out.
    pub(crate) loss: f32,
    /// The words of a clause or sentence: what the quantity loses without each of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) words: Vec<Inner>,
}

/// A word of a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Inner {
    pub(crate) word: String,
    pub(crate) span: [usize; 2],
    pub(crate) loss: f32,
}

/// A map over the image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Regions {
    pub(crate) method: &'static str,
    /// Left, top, width and height of what the model sees, in pixels of the upright image.
    pub(crate) area: [f32; 4],
    /// One number per cell: rows from the top.
    pub(crate) map: Vec<Vec<f32>>,
}

/// The cosine as a sum over words and patches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Pairs {
    /// The sum of all, computed in f64.
    pub(crate) cosine: f32,
    pub(crate) words: Vec<Pair>,
    /// The sum over all words and patches.
    pub(crate) sum: f32,
    pub(crate) remainder: Remainder,
    /// The remainder's share in absolute terms, 0 to 1.
    pub(crate) share: f32,
}

/// What one word has with each patch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Pair {
    pub(crate) word: String,
    pub(crate) span: [usize; 2],
    /// The sum over its map.
    pub(crate) value: f32,
    /// One number per patch: rows from the top.
    pub(crate) map: Vec<Vec<f32>>,
}

/// What belongs to no pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Remainder {
    /// Of the words with what of the image is in no patch.
    pub(crate) words: f32,
    /// Of the patches with what of the text is in no word.
    pub(crate) patches: f32,
    /// Of the rest with the rest.
    pub(crate) neither: f32,
}

impl Regions {
    /// The largest absolute value.
    pub(crate) fn most(&self) -> f32 {
        most(self.map.iter().flatten().copied())
    }
}

/// The largest absolute value, for a scale.
pub(crate) fn most(values: impl Iterator<Item = f32>) -> f32 {
    values.fold(0.0, |most, value| most.max(value.abs()))
}

/// A contribution with its sign, to four places: `+0.0123`.
pub(crate) fn signed(value: f32) -> String {
    let shown = format!("{value:+.4}");
    match shown.as_str() {
        _ if !value.is_finite() => "–".to_owned(),
        "-0.0000" => "+0.0000".to_owned(),
        _ => shown,
    }
}

impl Explanation {
    /// Takes the name of the image.
    pub(crate) fn of(image: &ImageName) -> Self {
        Self {
            image: image.text.clone(),
            image_bytes: image.bytes_as_text(),
            ..Self::default()
        }
    }

    /// For people: the facts, bars of the words and the map as shades.
    pub(crate) fn table(&self, terminal: Terminal) -> String {
        let mut shown = painted(&printable(&self.image), bold(), terminal.colour) + "\n";
        let mut facts = TextTable::of_facts();
        facts.fact("  label", &self.label);
        facts.fact("  against", self.against.as_deref().unwrap_or_default());
        let cosines = match self.against_cosine {
            None => format!("{:.4}", self.cosine),
            Some(other) => format!("{:.4} - {other:.4} = {}", self.cosine, signed(self.score)),
        };
        facts.fact(&format!("  {}", self.quantity), &cosines);
        facts.fact("  logit", &format!("{:.3}", self.logit));
        facts.fact("  empty text", &format!("{:.4}", self.empty_cosine));
        shown += &facts.plain();
        if let Some(method) = self.method {
            shown += &format!("\n{GAP}{}\n", heading(method));
            shown += &bars(&self.words, self, terminal);
            if !self.against_words.is_empty() {
                shown += &format!("\n{GAP}words of the other label\n");
                shown += &bars(&self.against_words, self, terminal);
            }
            shown += &format!("\n{GAP}{}\n", self.balance());
        }
        if let Some(regions) = &self.regions {
            shown += "\n";
            shown += &shades(regions);
        }
        if let Some(pairs) = &self.pairs {
            shown += "\n";
            shown += &paired(pairs, terminal);
        }
        shown
    }

    /// How the values sum, in one line.
    fn balance(&self) -> String {
        let sum = format!("sum {}", signed(self.sum));
        let whole = format!("{:.4} less {:.4} without words", self.score, self.empty);
        match self.rest.abs() < 5e-5 {
            true => format!("{sum} = {whole}"),
            false => format!("{sum}; {whole} leaves {}", signed(self.rest)),
        }
    }
}

fn heading(method: Method) -> String {
    let how = match method.samples {
        Some(samples) => format!("Shapley values over {samples} random orders"),
        None if method.name == "leave-one-out" => "what is lost without each".to_owned(),
        None => "Shapley values".to_owned(),
    };
    format!("{}: {how}", method.parts)
}

/// One line per part; the bar of the largest contribution of the explanation is full.
fn bars(words: &[Word], all: &Explanation, terminal: Terminal) -> String {
    let values = all.words.iter().chain(&all.against_words);
    let inner = values.clone().flat_map(|word| &word.words);
    let full = most(values.map(|word| word.value)).max(most(inner.map(|word| word.loss)));
    let room = terminal
        .width
        .saturating_sub(4 * GAP.len() + NUMBER_COLUMNS);
    let limit = room.saturating_sub(10).max(SHORTEST_PART);
    let name = |word: &str, indent: &str| {
        let indent = format!("{GAP}{GAP}{indent}");
        let shown = shortened(&printable(word), limit.saturating_sub(indent.len()));
        format!("{indent}{shown}")
    };
    let has_errors = words.iter().any(|word| word.error.is_some());
    let number = |value: f32, error: Option<f32>| match error {
        Some(error) => format!("{} ± {error:.4}", signed(value)),
        None if has_errors => format!("{:<NUMBER_COLUMNS$}", signed(value)),
        None => signed(value),
    };
    let mut rows = Vec::new();
    for word in words {
        let shown = number(word.value, word.error);
        rows.push((name(&word.word, ""), shown, word.value));
        for inner in &word.words {
            rows.push((name(&inner.word, GAP), number(inner.loss, None), inner.loss));
        }
    }
    let widest = rows
        .iter()
        .map(|(name, ..)| columns(name))
        .max()
        .unwrap_or(0);
    let length = (room + 2 * GAP.len())
        .saturating_sub(widest)
        .clamp(4, LONGEST_BAR);
    let mut table = TextTable::new([
        Column::LEFT,
        Column::RIGHT,
        Column::LEFT.painted(foreground(AnsiColor::Cyan)),
    ]);
    for (name, number, value) in rows {
        let share = if full > 0.0 { value.abs() / full } else { 0.0 };
        let drawn = bar(share, length);
        // What lowers the score looks different without colours too.
        let drawn = match value < 0.0 {
            true => "░".repeat(columns(&drawn)),
            false => drawn,
        };
        table.row([&name, &number, &drawn]);
    }
    table.shown(terminal.colour)
}

/// Each word with its strongest patch, and the remainder.
fn paired(pairs: &Pairs, terminal: Terminal) -> String {
    let side = pairs.words.first().map_or(0, |pair| pair.map.len());
    let mut shown = format!("{GAP}words with patches ({side} x {side}): direct contributions\n");
    let mut table = TextTable::new([Column::LEFT, Column::RIGHT, Column::LEFT]);
    let limit = terminal.width.saturating_sub(45).max(SHORTEST_PART);
    for pair in &pairs.words {
        let (row, column, value) = strongest(&pair.map);
        let name = shortened(&printable(&pair.word), limit);
        let most = format!("most in row {row}, column {column}: {}", signed(value));
        table.row([&format!("{GAP}{GAP}{name}"), &signed(pair.value), &most]);
    }
    let Remainder {
        words,
        patches,
        neither,
    } = pairs.remainder;
    for (name, value) in [
        ("words alone", words),
        ("patches alone", patches),
        ("neither", neither),
    ] {
        table.row([&format!("{GAP}{GAP}({name})"), &signed(value), ""]);
    }
    shown += &table.shown(terminal.colour);
    shown += &format!(
        "\n{GAP}sum {} = the cosine; pairs have {} of it, and the remainder in brackets is {:.0}% of \
         all in absolute terms\n",
        signed(pairs.cosine),
        signed(pairs.sum),
        100.0 * pairs.share
    );
    shown
}

/// The row and column of the largest value, from 1, and the value.
pub(super) fn strongest(map: &[Vec<f32>]) -> (usize, usize, f32) {
    let mut found = (0, 0, f32::NEG_INFINITY);
    for (row, values) in map.iter().enumerate() {
        for (column, &value) in values.iter().enumerate() {
            if value > found.2 {
                found = (row + 1, column + 1, value);
            }
        }
    }
    found
}

/// The map with a shade per cell, and its strongest cell.
fn shades(regions: &Regions) -> String {
    let most = regions.most();
    let side = regions.map.len();
    let mut shown = format!(
        "{GAP}regions: {}, {side} x {side} cells; a full block is {}\n",
        match regions.method {
            "occlusion" => "what is lost when a cell is covered",
            "legrad" => "LeGrad, gradient of the attention",
            "grad-eclip" => "Grad-ECLIP, gradient of the class token's attention",
            other => other,
        },
        signed(most)
    );
    for row in &regions.map {
        let cells = row.iter().map(|value| {
            let share = if most > 0.0 { value / most } else { 0.0 };
            match share {
                share if share >= 0.8 => "██",
                share if share >= 0.55 => "▓▓",
                share if share >= 0.3 => "▒▒",
                share if share >= 0.1 => "░░",
                share if share <= -0.3 => "--",
                _ => "· ",
            }
        });
        let line: String = cells.collect();
        shown += &format!("{GAP}{GAP}{}\n", line.trim_end());
    }
    shown
}

#[cfg(test)]
mod tests;
