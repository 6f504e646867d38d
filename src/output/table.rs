//! Tables for people: cells in aligned columns, measured as a terminal shows them. Every table that
//! a command prints is laid out here.

use anstyle::AnsiColor;

use super::Colour;
use super::text::{columns, printable, shortened};

/// Gap between columns.
pub(super) const GAP: &str = "  ";

/// How the cells of a column are placed; it is as wide as its widest cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    is_right: bool,
    least: usize,
    most: usize,
    paint: anstyle::Style,
}

impl Column {
    /// Aligned to the left, as texts are.
    pub(crate) const LEFT: Self = Self {
        is_right: false,
        least: 0,
        most: usize::MAX,
        paint: anstyle::Style::new(),
    };
    /// Aligned to the right, as numbers are.
    pub(crate) const RIGHT: Self = Self {
        is_right: true,
        ..Self::LEFT
    };

    /// The same, but at least `width` wide.
    #[must_use]
    pub(crate) const fn at_least(self, width: usize) -> Self {
        Self {
            least: width,
            ..self
        }
    }

    /// The same, but always `width` wide: longer cells are truncated.
    #[must_use]
    pub(crate) const fn exactly(self, width: usize) -> Self {
        Self {
            least: width,
            most: width,
            ..self
        }
    }

    /// The same in colour, on terminals that support it.
    #[must_use]
    pub(super) const fn painted(self, paint: anstyle::Style) -> Self {
        Self { paint, ..self }
    }
}

/// A table in progress.
#[derive(Clone, Debug)]
pub(crate) struct TextTable<const N: usize> {
    columns: [Column; N],
    lines: Vec<TableLine<N>>,
}

#[derive(Clone, Debug)]
enum TableLine<const N: usize> {
    Cells([String; N]),
    Text(String),
}

impl TextTable<2> {
    /// A table of names and values.
    #[must_use]
    pub(crate) fn of_facts() -> Self {
        Self::new([Column::LEFT; 2])
    }

    /// Adds a row, unless the value is empty.
    pub(crate) fn fact(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.row([name, value]);
        }
    }
}

impl<const N: usize> TextTable<N> {
    /// A table without rows.
    #[must_use]
    pub(crate) fn new(columns: [Column; N]) -> Self {
        Self {
            columns,
            lines: Vec::new(),
        }
    }

    /// Adds a row; control characters in it are escaped.
    pub(crate) fn row(&mut self, cells: [&str; N]) {
        let fitted =
            std::array::from_fn(|at| shortened(&printable(cells[at]), self.columns[at].most));
        self.lines.push(TableLine::Cells(fitted));
    }

    /// Adds a line across all columns; control characters in it are escaped.
    pub(crate) fn text(&mut self, text: &str) {
        self.drawn(printable(text));
    }

    /// Adds a line as it is.
    pub(super) fn drawn(&mut self, line: String) {
        self.lines.push(TableLine::Text(line));
    }

    /// All lines, without trailing spaces and without colours.
    #[must_use]
    pub(crate) fn plain(&self) -> String {
        self.shown(Colour::Plain)
    }

    /// All lines, without trailing spaces.
    #[must_use]
    pub(super) fn shown(&self, colour: Colour) -> String {
        let cells = || {
            self.lines.iter().filter_map(|line| match line {
                TableLine::Cells(cells) => Some(cells),
                TableLine::Text(_) => None,
            })
        };
        let widths: [usize; N] = std::array::from_fn(|at| {
            let widest = cells().map(|cells| columns(&cells[at])).max();
            widest.unwrap_or(0).max(self.columns[at].least)
        });
        let mut shown = String::new();
        for line in &self.lines {
            match line {
                TableLine::Text(text) => shown.push_str(text),
                TableLine::Cells(cells) => self.push_cells(&mut shown, cells, widths, colour),
            }
            shown.push('\n');
        }
        shown
    }

    fn push_cells(
        &self,
        shown: &mut String,
        cells: &[String; N],
        widths: [usize; N],
        colour: Colour,
    ) {
        // Blanks are written only before the next cell that has a text.
        let mut blanks = 0;
        for (at, cell) in cells.iter().enumerate() {
            let pad = widths[at] - columns(cell);
            let (before, after) = if self.columns[at].is_right {
                (pad, 0)
            } else {
                (0, pad)
            };
            blanks += before;
            if !cell.is_empty() {
                shown.push_str(&" ".repeat(blanks));
                shown.push_str(&painted(cell, self.columns[at].paint, colour));
                blanks = 0;
            }
            blanks += after + GAP.len();
        }
    }
}

/// For names.
pub(crate) fn bold() -> anstyle::Style {
    anstyle::Style::new().bold()
}

/// For what is absent.
pub(super) fn dimmed() -> anstyle::Style {
    anstyle::Style::new().dimmed()
}

/// For warnings, errors and numbers.
pub(super) const fn foreground(colour: AnsiColor) -> anstyle::Style {
    colour.on_default()
}

/// `text` in colour, if there are colours.
pub(crate) fn painted(text: &str, paint: anstyle::Style, colour: Colour) -> String {
    match colour {
        Colour::Ansi => format!("{paint}{text}{paint:#}"),
        Colour::Plain => text.to_owned(),
    }
}

/// A share from 0 to 1 in percent, as tables show it: `87.31%`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = TextTable::new([Column::LEFT, Column::RIGHT.at_least(6), Column::LEFT]);
        table.row(["name", "top-1", "file"]);
        table.row(["猫", "87.50%", "a\n.txt"]);
        table.text("  across \u{1b}[2J");
        table.row(["", "100.00%", ""]);
        table.row(["", "", ""]);
        let expected = "\
name    top-1  file
猫     87.50%  a\\n.txt
  across \\u{1b}[2J
      100.00%

";
        assert_eq!(table.plain(), expected);
    }

    #[test]
    fn a_fixed_column_truncates_longer_cells() {
        let mut table = TextTable::new([Column::LEFT.exactly(6), Column::LEFT]);
        table.row(["a", "b"]);
        table.row(["longer", "b"]);
        table.row(["even longer", "b"]);
        assert_eq!(table.plain(), "a       b\nlonger  b\neven…   b\n");
    }

    #[test]
    fn only_texts_are_painted() {
        let cyan = foreground(AnsiColor::Cyan);
        let mut table = TextTable::new([Column::RIGHT.at_least(3).painted(cyan), Column::LEFT]);
        table.row(["1", "a"]);
        table.row(["", "b"]);
        assert_eq!(
            table.shown(Colour::Ansi),
            "  \u{1b}[36m1\u{1b}[0m  a\n     b\n"
        );
        assert_eq!(table.plain(), "  1  a\n     b\n");
    }

    #[test]
    fn facts_without_a_value_are_omitted() {
        let mut facts = TextTable::of_facts();
        facts.fact("model", "m");
        facts.fact("layout", "");
        facts.fact("architecture", "ViT");
        assert_eq!(facts.plain(), "model         m\narchitecture  ViT\n");
    }
}
