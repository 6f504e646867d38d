//! A small image in a terminal: two pixels per cell, the upper as the colour of a half block, the
//! lower as its background. Works in every terminal with 24-bit colours.

use std::fmt::Write as _;

/// A few pixels, `[height, width, 3]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// An image of `width` columns; pixels that do not fill a row are dropped.
    #[must_use]
    pub fn new(width: usize, pixels: Vec<u8>) -> Self {
        Self { width, pixels }
    }

    /// Its lines; each cell is two pixels high.
    pub(super) fn lines(&self) -> Vec<String> {
        let row_bytes = (self.width * 3).max(3);
        let rows: Vec<&[u8]> = self.pixels.chunks_exact(row_bytes).collect();
        rows.chunks(2)
            .map(|pair| line(pair[0], pair.get(1).copied()))
            .collect()
    }
}

fn line(upper: &[u8], lower: Option<&[u8]>) -> String {
    let mut line = String::new();
    let mut below = lower.map(|row| row.chunks_exact(3));
    for pixel in upper.chunks_exact(3) {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]];
        // Writing to a string cannot fail.
        let _ = write!(line, "\u{1b}[38;2;{r};{g};{b}m");
        if let Some(pixel) = below.as_mut().and_then(Iterator::next) {
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]];
            let _ = write!(line, "\u{1b}[48;2;{r};{g};{b}m");
        }
        line.push('▀');
    }
    line.push_str("\u{1b}[0m");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pixels_share_a_cell() {
        let image = Image::new(1, vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        let expected = [
            "\u{1b}[38;2;1;2;3m\u{1b}[48;2;4;5;6m▀\u{1b}[0m",
            "\u{1b}[38;2;7;8;9m▀\u{1b}[0m",
        ];
        assert_eq!(image.lines(), expected);
        assert!(Image::new(0, Vec::new()).lines().is_empty());
    }
}
