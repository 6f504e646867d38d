//! The file of `--baseline`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::input::text_file::{self, Table, usual_separator};
use crate::task::shift::robustness::Line;

/// The line through the accuracies of other models, and how many there are.
pub(super) struct Baseline {
    pub(super) line: Line,
    pub(super) models: usize,
}

/// Reads the columns `a` and `b`: accuracies from 0 to 1 on the two sets.
pub(super) fn read(path: &Path) -> Result<Baseline> {
    let reading = || format!("cannot use the accuracies of {}", path.display());
    let table = Table::new(text_file::open(path)?, usual_separator(path), None);
    let rows = table.with_context(reading)?.named().with_context(reading)?;
    ensure!(
        rows.has(&["a"]) && rows.has(&["b"]),
        "{}: the first line must name the columns a and b",
        reading()
    );
    let mut accuracies = Vec::new();
    for (line, row) in rows {
        let row = row.with_context(reading)?;
        let mut pair = [0.0; 2];
        for (value, column) in pair.iter_mut().zip(["a", "b"]) {
            let text = row.get(column).and_then(|value| value.as_str());
            let parsed = text.and_then(|text| text.trim().parse::<f64>().ok());
            *value = parsed.with_context(|| {
                format!(
                    "{}: line {line} has no number in column {column}",
                    reading()
                )
            })?;
        }
        accuracies.push(pair);
    }
    Ok(Baseline {
        line: Line::new(&accuracies).with_context(reading)?,
        models: accuracies.len(),
    })
}
