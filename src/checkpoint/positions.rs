//! Text positional embeddings: knowledge-preserving stretching (arXiv 2403.15378), and detection of
//! whether a stretched table was trained afterwards.

use std::fmt;

use anyhow::{Result, ensure};

/// The number of first rows that Long-CLIP keeps, because short texts train them well.
pub(crate) const KEPT: usize = 20;
/// The stretch ratio that Long-CLIP uses for the rows after them.
pub(crate) const RATIO: usize = 4;
/// Rows of CLIP's own table.
pub(crate) const CLIP_ROWS: usize = 77;

/// A value further from its line than this share of the larger anchor counts as off the line: twice
/// the error of rounding to bf16 once.
const OFF_THE_LINE: f32 = 1.0 / 128.0;
/// The share of values off their lines that rounding explains. For LongCLIP-B's tables in f32, f16
/// and bf16 it is at most 0.0005 before training (even if the stretch was computed in f16 or bf16)
/// and 0.25 to 0.27 after.
const MOST_OFF: f64 = 1.0 / 64.0;
/// Repeated rounding to bf16 does not move a value by this share of the larger anchor, so one such
/// value is enough.
const BEYOND_ROUNDING: f32 = 1.0 / 32.0;
/// About the spacing of f16's smallest numbers.
const SMALLEST: f32 = 1.2e-7;

/// A positional embedding, row-major `[rows, width]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Table {
    /// [rows * width]
    pub values: Vec<f32>,
    /// Features per row.
    pub width: usize,
}

/// How new rows are computed from old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interpolation {
    /// Keeps the first rows, interpolates linearly between the others, and extrapolates the last
    /// line to the end.
    KnowledgePreserving,
    /// Interpolates all rows evenly, as in image resizing (as open_clip does).
    Linear,
}

/// Parameters of a stretch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stretch {
    /// The method.
    pub method: Interpolation,
    /// Rows that are kept; ignored by [`Interpolation::Linear`].
    pub keep: usize,
    /// New rows for each old row after them; ignored by [`Interpolation::Linear`].
    pub ratio: f64,
    /// Rows of the new table.
    pub rows: usize,
}

impl Stretch {
    /// Fills in Long-CLIP's defaults for a table of `old` rows.
    ///
    /// # Errors
    /// When the result is not a longer table.
    pub(crate) fn new(
        old: usize,
        method: Interpolation,
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
        // An f64 product may end up just below the intended integer.
        let most = keep + (after * ratio + 1e-9).floor() as usize;
        let rows = rows.unwrap_or(most);
        ensure!(rows >= old, "{rows} rows are fewer than the existing {old}");
        ensure!(
            method == Interpolation::Linear || rows <= most,
            "{rows} rows are more than the {most} that --keep {keep} and --ratio {ratio} produce \
             from {old}"
        );
        Ok(Self {
            method,
            keep,
            ratio,
            rows,
        })
    }

    /// The (fractional) old row that new row `row` corresponds to, among `old` rows.
    fn source(&self, row: usize, old: usize) -> f64 {
        match self.method {
            Interpolation::KnowledgePreserving if row < self.keep => row as f64,
            Interpolation::KnowledgePreserving => {
                self.keep as f64 + (row - self.keep) as f64 / self.ratio
            }
            Interpolation::Linear => {
                let place = (row as f64 + 0.5) * old as f64 / self.rows as f64 - 0.5;
                place.clamp(0.0, (old - 1) as f64)
            }
        }
    }
}

impl Table {
    /// The number of rows.
    #[must_use]
    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Row `index`.
    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..][..self.width]
    }

    /// The stretched table. Beyond the last old row, the line through the last two is extrapolated,
    /// as in Long-CLIP's `load_from_clip`.
    #[must_use]
    pub(crate) fn stretched(&self, stretch: &Stretch) -> Self {
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

    /// Classifies the table: CLIP's own, stretched, or stretched and trained.
    ///
    /// After rounding, rows between two anchors stay within a small share of the anchors from the
    /// line
    /// that joins them; training moves many values further, even where it moves none by more than a
    /// fiftieth of the table's RMS (as in LongCLIP-B).
    #[must_use]
    pub(crate) fn state(&self) -> State {
        let Some(ratio) = self.ratio() else {
            return State::Original;
        };
        let anchors = self.anchors(ratio);
        let lines = anchors.stretched(&Stretch {
            method: Interpolation::KnowledgePreserving,
            keep: KEPT,
            ratio: ratio as f64,
            rows: self.rows(),
        });
        let (mut values, mut off) = (0, 0);
        for row in (KEPT..self.rows()).filter(|row| !(row - KEPT).is_multiple_of(ratio)) {
            let low = (KEPT + (row - KEPT) / ratio).min(CLIP_ROWS - 2);
            let ends = anchors.row(low).iter().zip(anchors.row(low + 1));
            for ((&found, &line), (low, high)) in self.row(row).iter().zip(lines.row(row)).zip(ends)
            {
                let distance = (found - line).abs() - SMALLEST;
                let anchor = low.abs().max(high.abs());
                if distance > BEYOND_ROUNDING * anchor {
                    return State::Trained;
                }
                values += 1;
                off += usize::from(distance > OFF_THE_LINE * anchor);
            }
        }
        if off as f64 > MOST_OFF * f64::from(values) {
            State::Trained
        } else {
            State::UntrainedStretch
        }
    }

    /// The indices of CLIP's own rows in a table stretched by an integer `ratio`.
    fn anchors(&self, ratio: usize) -> Self {
        let place = |row: usize| match row.checked_sub(KEPT) {
            Some(after) => KEPT + after * ratio,
            None => row,
        };
        let values = (0..CLIP_ROWS).flat_map(|row| self.row(place(row)).iter().copied());
        Self {
            values: values.collect(),
            width: self.width,
        }
    }

    /// The integer ratio above 1 that stretches CLIP's table to this length, if any.
    fn ratio(&self) -> Option<usize> {
        let after = self.rows().checked_sub(KEPT)?;
        let ratio = after / (CLIP_ROWS - KEPT);
        (ratio > 1 && after.is_multiple_of(CLIP_ROWS - KEPT)).then_some(ratio)
    }
}

/// The origin of a text positional embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its length is not one that stretching CLIP's 77 rows gives.
    Original,
    /// Rows 20 and up lie on the lines of the stretch, up to rounding: never trained.
    UntrainedStretch,
    /// Stretched and then trained.
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
        Stretch::new(77, Interpolation::KnowledgePreserving, None, None, None).unwrap()
    }

    #[test]
    fn long_clips_numbers_are_the_defaults() {
        let expected = Stretch {
            method: Interpolation::KnowledgePreserving,
            keep: 20,
            ratio: 4.0,
            rows: 248,
        };
        assert_eq!(long_clip(), expected);
        let by_rows = Stretch::new(
            77,
            Interpolation::KnowledgePreserving,
            None,
            None,
            Some(248),
        );
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

    /// Long-CLIP's table before and after training, with magnitudes as in LongCLIP-B: an RMS of
    /// 0.008, and
    /// values that training moved by at most 1.5e-4.
    fn before_and_after() -> (Table, Table) {
        let mut old = table(77, 64);
        for value in &mut old.values {
            *value *= 0.7;
        }
        let before = old.stretched(&long_clip());
        let mut after = before.clone();
        let moves = table(248, 64).values;
        for (value, step) in after.values.iter_mut().zip(moves) {
            *value += step * (1.5e-4 / 0.02);
        }
        (before, after)
    }

    #[test]
    fn training_shows_in_every_type_however_little_it_moved() {
        let (before, after) = before_and_after();
        let types: [fn(f32) -> f32; 3] = [
            |value| value,
            |value| half::f16::from_f32(value).to_f32(),
            |value| half::bf16::from_f32(value).to_f32(),
        ];
        for (table, expected) in [(&before, State::UntrainedStretch), (&after, State::Trained)] {
            for (index, stored) in types.iter().enumerate() {
                let rounded = Table {
                    values: table.values.iter().copied().map(stored).collect(),
                    width: table.width,
                };
                assert_eq!(rounded.state(), expected, "type {index}");
            }
        }
    }

    /// A stretch computed with every step rounded still counts as untrained.
    #[test]
    fn a_stretch_in_half_precision_is_untrained() {
        let half: [fn(f64) -> f32; 2] = [
            |value| half::f16::from_f64(value).to_f32(),
            |value| half::bf16::from_f64(value).to_f32(),
        ];
        for round in half {
            let mut old = table(77, 64);
            for value in &mut old.values {
                *value = round(f64::from(*value));
            }
            let stretch = long_clip();
            let mut new = old.stretched(&stretch);
            for (index, value) in new.values.iter_mut().enumerate() {
                let (row, column) = (index / 64, index % 64);
                let place = stretch.source(row, 77);
                let low = (place.floor() as usize).min(75);
                let share = place - low as f64;
                let at = |row: usize| f64::from(old.row(row)[column]);
                let part = |factor, row| f64::from(round(factor * at(row)));
                *value = round(part(1.0 - share, low) + part(share, low + 1));
            }
            assert_eq!(new.state(), State::UntrainedStretch);
        }
    }

    #[test]
    fn an_outlier_feature_does_not_hide_training() {
        let (mut before, mut after) = before_and_after();
        // CLIP's tables have one feature fifty times as large as the others.
        for table in [&mut before, &mut after] {
            table
                .values
                .iter_mut()
                .step_by(64)
                .for_each(|value| *value = 0.39);
        }
        assert_eq!(before.state(), State::UntrainedStretch);
        assert_eq!(after.state(), State::Trained);
    }

    #[test]
    fn trained_tables_are_told_from_untrained_ones() {
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
    fn parameters_that_do_not_lengthen_the_table_are_refused() {
        let kps = Interpolation::KnowledgePreserving;
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
        let linear = Stretch::new(77, Interpolation::Linear, None, None, Some(100)).unwrap();
        let new = table(77, 3).stretched(&linear);
        assert_eq!(new.rows(), 100);
        assert_eq!(new.row(0), table(77, 3).row(0));
    }
}
