//! Fax compression (CCITT): runs of white and black, or differences from the row above.

use std::convert::Infallible;

use fax::BitReader;
use fax::maps::{Mode, black, mode, white};

/// How rows are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Runs, each row aligned to a unit of so many bits (compression 2, and 32771).
    Runs { unit: usize },
    /// Runs between end-of-line codes, or, if `mixed`, after a bit that says so, differences from
    /// the row above (compression 3).
    Group3 { mixed: bool },
    /// Differences from the row above (compression 4).
    Group4,
}

/// Bits, most significant first; zeros past the end.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader for Bits<'_> {
    type Error = Infallible;

    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |index: usize| u32::from(self.bytes.get(index).copied().unwrap_or(0));
        let first = self.at / 8;
        let window = byte(first) << 16 | byte(first + 1) << 8 | byte(first + 2);
        let shift = 24 - self.at % 8 - usize::from(bits);
        Some((window >> shift & ((1 << bits) - 1)) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), Infallible> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        (8 - self.at % 8) as u8 % 8
    }
}

impl Bits<'_> {
    /// Whether nothing but the zeros that pad the last byte follows: no code is all zeros.
    fn is_over(&self) -> bool {
        let left = (self.bytes.len() * 8).saturating_sub(self.at);
        left < 8 && self.peek(8) == Some(0)
    }

    /// Skips an end-of-line code, eleven or more zeros and a one, if one is next.
    fn skip_mark(&mut self) -> bool {
        if self.peek(11) != Some(0) {
            return false;
        }
        let start = self.at;
        while self.at < self.bytes.len() * 8 {
            let bit = self.peek(1);
            self.at += 1;
            if bit == Some(1) {
                return true;
            }
        }
        self.at = start;
        false
    }

    /// The length of a run; codes above 63 are followed by another.
    fn run(&mut self, is_black: bool) -> Option<u32> {
        let mut length = 0_u32;
        loop {
            let part = match is_black {
                true => black::decode(self)?,
                false => white::decode(self)?,
            };
            length = length.checked_add(u32::from(part))?;
            if part < 64 {
                return Some(length);
            }
        }
    }
}

/// Decodes `rows` rows of `width` pixels into bits, a black pixel as 1, each row aligned to a byte.
/// `None` if the data are invalid; rows missing at the end are white.
pub(super) fn decode(bytes: &[u8], width: u32, rows: u32, coding: Coding) -> Option<Vec<u8>> {
    let mut bits = Bits { bytes, at: 0 };
    let row_bytes = width.div_ceil(8) as usize;
    let mut pixels = vec![0; row_bytes * rows as usize];
    let mut above: Vec<u32> = Vec::new();
    for row in pixels.chunks_exact_mut(row_bytes) {
        let Some(changes) = next_row(&mut bits, &above, width, coding)? else {
            break;
        };
        paint(row, &changes, width);
        above = changes;
    }
    Some(pixels)
}

/// Where the next row changes colour, beginning with white; `Some(None)` after the last row.
fn next_row(
    bits: &mut Bits,
    above: &[u32],
    width: u32,
    coding: Coding,
) -> Option<Option<Vec<u32>>> {
    let is_flat = match coding {
        Coding::Runs { unit } => {
            bits.at = bits.at.next_multiple_of(unit);
            true
        }
        Coding::Group3 { mixed } => {
            let mut marks = 0;
            let mut is_flat = true;
            while bits.skip_mark() {
                marks += 1;
                if mixed {
                    is_flat = bits.peek(1) == Some(1);
                    bits.at += 1;
                }
            }
            if marks > 1 {
                return Some(None); // marks in a row end the page
            }
            is_flat
        }
        Coding::Group4 => false,
    };
    if bits.is_over() {
        return Some(None);
    }
    if is_flat {
        return flat_row(bits, width).map(Some);
    }
    row_by_difference(bits, above, width)
}

fn flat_row(bits: &mut Bits, width: u32) -> Option<Vec<u32>> {
    let mut changes = Vec::new();
    let (mut at, mut is_black) = (0_u32, false);
    while at < width {
        at = at.checked_add(bits.run(is_black)?)?.min(width);
        changes.push(at);
        is_black = !is_black;
    }
    Some(changes)
}

fn row_by_difference(bits: &mut Bits, above: &[u32], width: u32) -> Option<Option<Vec<u32>>> {
    let mut changes = Vec::new();
    let (mut at, mut is_black) = (0_u32, false);
    let mut is_start = true;
    let mut index = 0_usize;
    let change = |index: usize| above.get(index).copied().unwrap_or(width);
    while at < width {
        // The next change above to this row's other colour: at most one before the last one.
        index = index.saturating_sub(1);
        let is_passed = |change: u32| change < at || change == at && !is_start;
        while index < above.len() && (is_passed(change(index)) || (index % 2 == 1) != is_black) {
            index += 1;
        }
        let next = change(index);
        match mode::decode(bits)? {
            Mode::Pass => at = change(index + 1),
            Mode::Vertical(by) => {
                let to = next.checked_add_signed(i32::from(by))?;
                if to < at {
                    return None;
                }
                at = to.min(width);
                changes.push(at);
                is_black = !is_black;
            }
            Mode::Horizontal => {
                for is_black in [is_black, !is_black] {
                    at = at.checked_add(bits.run(is_black)?)?.min(width);
                    changes.push(at);
                }
            }
            Mode::EOF => return Some(None),
            Mode::Extension => return None,
        }
        is_start = false;
    }
    Some(Some(changes))
}

/// Sets the bits between every other change and the one after it.
fn paint(row: &mut [u8], changes: &[u32], width: u32) {
    let (pairs, last) = changes.as_chunks::<2>();
    let open = last.first().map(|change| [*change, width]);
    // The runs from a white to the next one: changes 0 to 1, 2 to 3, ….
    for [from, to] in pairs.iter().copied().chain(open) {
        for pixel in from..to {
            row[pixel as usize / 8] |= 0x80 >> (pixel % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits written as text, without spaces.
    fn bits(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
        digits
            .chunks(8)
            .map(|byte| {
                let byte = byte.iter().enumerate();
                byte.fold(0, |sum, (at, digit)| sum | (digit - b'0') << (7 - at))
            })
            .collect()
    }

    #[test]
    fn all_codings_give_the_same_rows() {
        // Eight pixels: two white, three black, three white; then the same row again, and a white
        // one.
        let run = "0111 10 1000"; // white 2, black 3, white 3
        let blank = "10011"; // white 8
        let mark = "000000000001";
        let mixed = Coding::Group3 { mixed: true };
        let plain = Coding::Group3 { mixed: false };
        let cases = [
            (
                format!("{run}000000 {run}000000 {blank}"),
                Coding::Runs { unit: 8 },
            ),
            (format!("{mark}{run} {mark}{run} 0000{mark}{blank}"), plain),
            (format!("{run}{run}{blank}"), plain),
            (format!("{mark}1{run} {mark}0 1 1 1 {mark}1{blank}"), mixed),
            // Differences: horizontal 2 and 3, the rest as above (nothing there); the same; a pass
            // over what was black, the rest as above. Then the end of the block.
            (
                format!("001 0111 10 1 1 1 1 0001 1 {mark}{mark}"),
                Coding::Group4,
            ),
        ];
        for (text, coding) in cases {
            let pixels = decode(&bits(&text), 8, 4, coding);
            assert_eq!(
                pixels,
                Some(vec![0b0011_1000, 0b0011_1000, 0, 0]),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn invalid_data_are_refused_and_an_early_end_is_white() {
        let nonsense = bits("00000000 1111");
        assert_eq!(decode(&nonsense, 8, 1, Coding::Runs { unit: 8 }), None);
        for coding in [
            Coding::Runs { unit: 16 },
            Coding::Group3 { mixed: true },
            Coding::Group4,
        ] {
            assert_eq!(decode(b"", 9, 1, coding), Some(vec![0, 0]));
        }
    }
}
