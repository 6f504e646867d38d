//! Tables of text positions: knowledge-preserving stretching (arXiv 2403.15378), and whether a long
//! table was ever trained after it.

use std::fmt;

use anyhow::{Result, ensure};

/// The first rows that Long-CLIP leaves as they are: short texts train them well.
pub const KEPT: usize = 20;
/// How far apart Long-CLIP moves the rows after them.
pub const RATIO: usize = 4;
/// The rows of CLIP's own table.
pub const CLIP_ROWS: usize = 77;

/// A table of positions, row-major [rows, width].
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// [rows * width]
    pub values: Vec<f32>,
    /// Features of a row.
    pub width: usize,
}

/// How new rows come from old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The first rows stay, the others move apart with straight lines between them, and the last
    /// line is drawn on to the end.
    KnowledgePreserving,
    /// All rows are spread evenly, as images are resized (open_clip's way).
    Linear,
}

/// The shape of a stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    /// The method.
    pub method: Method,
    /// Rows that stay where they are; without meaning for [`Method::Linear`].
    pub keep: usize,
    /// New rows for each old row after them; without meaning for [`Method::Linear`].
    pub ratio: f64,
    /// Rows of the new table.
    pub rows: usize,
}

impl Stretch {
    /// Completes what a user said with Long-CLIP's numbers for a table of `old` rows.
    ///
    /// # Errors
    /// When the numbers do not make a longer table.
    pub fn new(
        old: usize,
        method: Method,
        keep: Option<usize>,
        ratio: Option<f64>,
        rows: Option<usize>,
    ) -> Result<Self> {
        let keep = keep.unwrap_or(KEPT);
        ensure!(old >= 2, "a table of {old} rows cannot be stretched");
        ensure!(
            keep < old,
            "--keep {keep} leaves none of the {old} rows to stretch"
        );
        let after = (old - keep) as f64;
        let ratio = match (ratio, rows) {
            (Some(ratio), _) => ratio,
            (None, Some(rows)) => (rows.saturating_sub(keep)) as f64 / after,
            (None, None) => RATIO as f64,
        };
        ensure!(
            (1.0..=1000.0).contains(&ratio),
            "a ratio of {ratio} does not stretch"
        );
        // A product of f64 may end just below the whole number that is meant.
        let most = keep + (after * ratio + 1e-9).floor() as usize;
        let rows = rows.unwrap_or(most);
        ensure!(
            rows >= old,
            "{rows} rows are fewer than the {old} that there are"
        );
        ensure!(
            method == Method::Linear || rows <= most,
            "{rows} rows are more than --keep {keep} and --ratio {ratio} make of {old}: {most}"
        );
        Ok(Self {
            method,
            keep,
            ratio,
            rows,
        })
    }

    /// The old row (with a fraction) that new row `row` is read at, of `old` rows.
    fn source(&self, row: usize, old: usize) -> f64 {
        match self.method {
            Method::KnowledgePreserving if row < self.keep => row as f64,
            Method::KnowledgePreserving => self.keep as f64 + (row - self.keep) as f64 / self.ratio,
            Method::Linear => {
                let place = (row as f64 + 0.5) * old as f64 / self.rows as f64 - 0.5;
                place.clamp(0.0, (old - 1) as f64)
            }
        }
    }
}

impl Table {
    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Row `index`.
    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// The stretched table. Past the last old row the line through the last two goes on, as in
    /// Long-CLIP's `load_from_clip`.
    #[must_use]
    pub fn stretched(&self, stretch: &Stretch) -> Self {
        let old = self.rows();
        let mut values = Vec::with_capacity(stretch.rows * self.width);
        for row in 0..stretch.rows {
            let place = stretch.source(row, old);
            let low = (place.floor() as usize).min(old - 2);
            let share = place - low as f64;
            let (low, high) = (self.row(low), self.row(low + 1));
            values.extend(low.iter().zip(high).map(|(&low, &high)| {
                let (low, high) = (f64::from(low), f64::from(high));
                (low + share * (high - low)) as f32
            }));
        }
        Self {
            values,
            width: self.width,
        }
    }

    /// Whether the table is CLIP's own, a stretched one, or a stretched one that was trained.
    #[must_use]
    pub fn state(&self) -> State {
        let Some(ratio) = self.ratio() else {
            return State::Original;
        };
        let ends: Vec<f32> = (0..CLIP_ROWS)
            .flat_map(|row| {
                let place = if row < KEPT {
                    row
                } else {
                    KEPT + (row - KEPT) * ratio
                };
                self.row(place).iter().copied()
            })
            .collect();
        let again = Self {
            values: ends,
            width: self.width,
        }
        .stretched(&Stretch {
            method: Method::KnowledgePreserving,
            keep: KEPT,
            ratio: ratio as f64,
            rows: self.rows(),
        });
        let after = KEPT * self.width;
        let (found, expected) = (&self.values[after..], &again.values[after..]);
        let squares: f64 = found.iter().map(|&v| f64::from(v).powi(2)).sum();
        let size = (squares / found.len() as f64).sqrt();
        let furthest = found
            .iter()
            .zip(expected)
            .map(|(a, b)| f64::from((a - b).abs()))
            .fold(0.0, f64::max);
        // Rounding to f16 or bf16 moves a value by a share of itself; training moves it by a share of
        // what the table is made of.
        if furthest <= 0.02 * size {
            State::UntrainedStretch
        } else {
            State::Trained
        }
    }

    /// The ratio that makes CLIP's table this long; none where no whole one above 1 does.
    fn ratio(&self) -> Option<usize> {
        let after = self.rows().checked_sub(KEPT)?;
        let ratio = after / (CLIP_ROWS - KEPT);
        (ratio > 1 && after.is_multiple_of(CLIP_ROWS - KEPT)).then_some(ratio)
    }
}

/// What a table of text positions is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not of a length that stretching CLIP's 77 rows gives.
    Original,
    /// Rows 20 and up lie exactly on the lines of the stretch: never trained.
    UntrainedStretch,
    /// Of a stretched length, and trained since.
    Trained,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Original => "original",
            Self::UntrainedStretch => "untrained-stretch",
            Self::Trained => "trained",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: usize, width: usize) -> Table {
        let mut state = 7u32;
        let values = (0..rows * width)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32 * 0.04 - 0.02
            })
            .collect();
        Table { values, width }
    }

    fn long_clip() -> Stretch {
        Stretch::new(77, Method::KnowledgePreserving, None, None, None).unwrap()
    }

    #[test]
    fn long_clips_numbers_are_the_defaults() {
        let expected = Stretch {
            method: Method::KnowledgePreserving,
            keep: 20,
            ratio: 4.0,
            rows: 248,
        };
        assert_eq!(long_clip(), expected);
        let by_rows = Stretch::new(77, Method::KnowledgePreserving, None, None, Some(248));
        assert_eq!(by_rows.unwrap(), expected);
    }

    /// The formulas of Long-CLIP's `load_from_clip`, row by row.
    #[test]
    fn rows_are_those_of_long_clip() {
        let old = table(77, 5);
        let new = old.stretched(&long_clip());
        let near = |row: usize, expected: &dyn Fn(usize) -> f32| {
            for column in 0..5 {
                let (found, expected) = (new.row(row)[column], expected(column));
                assert!(
                    (found - expected).abs() <= 1e-8,
                    "row {row}: {found} {expected}"
                );
            }
        };
        for row in 0..20 {
            near(row, &|c| old.row(row)[c]);
        }
        for i in 0..56 {
            for j in 0..4 {
                let share = j as f32 / 4.0;
                near(20 + 4 * i + j, &|c| {
                    (1.0 - share) * old.row(20 + i)[c] + share * old.row(21 + i)[c]
                });
            }
        }
        for j in 0..4 {
            near(244 + j, &|c| {
                let (last, before) = (old.row(76)[c], old.row(75)[c]);
                last + j as f32 * (last - before) / 4.0
            });
        }
    }

    #[test]
    fn a_table_knows_whether_it_was_trained() {
        let old = table(77, 16);
        assert_eq!(old.state(), State::Original);
        let mut new = old.stretched(&long_clip());
        assert_eq!(new.state(), State::UntrainedStretch);
        let mut half = new.clone();
        for value in &mut half.values {
            *value = half::bf16::from_f32(*value).to_f32();
        }
        assert_eq!(half.state(), State::UntrainedStretch);
        new.values[30 * 16] += 0.002;
        assert_eq!(new.state(), State::Trained);
        assert_eq!(table(248, 16).state(), State::Trained);
        assert_eq!(table(32, 16).state(), State::Original);
    }

    #[test]
    fn numbers_that_make_no_longer_table_are_refused() {
        let kps = Method::KnowledgePreserving;
        let cases = [
            (Some(77), None, None, "leaves none"),
            (None, Some(0.5), None, "does not stretch"),
            (None, Some(f64::NAN), None, "does not stretch"),
            (None, None, Some(50), "does not stretch"),
            (None, Some(2.0), Some(248), "more than"),
        ];
        for (keep, ratio, rows, expected) in cases {
            let error = Stretch::new(77, kps, keep, ratio, rows).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        let linear = Stretch::new(77, Method::Linear, None, None, Some(100)).unwrap();
        let new = table(77, 3).stretched(&linear);
        assert_eq!(new.rows(), 100);
        assert_eq!(new.row(0), table(77, 3).row(0));
    }
}
