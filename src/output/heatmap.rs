//! A picture with a map of contributions over it, as a PNG file.

use std::io::Write;

use anyhow::{Context as _, Result, ensure};

use super::explanation::signed;

/// What raises the score.
const WARM: [f32; 3] = [216.0, 74.0, 5.0];
/// What lowers it.
const COLD: [f32; 3] = [11.0, 98.0, 168.0];
/// The share of colour in the strongest cell.
const STRONGEST: f32 = 0.75;
/// The strip below the picture that holds the scale: its height and the bar's, in pixels.
const STRIP: usize = 34;
const BAR: usize = 10;
/// Pixels per dot of a digit.
const DOT: usize = 2;

/// The colour at `share` of the strongest value, -1 to 1, over `under`.
fn mixed(under: [u8; 3], share: f32) -> [u8; 3] {
    let colour = if share < 0.0 { COLD } else { WARM };
    let alpha = STRONGEST * share.abs().min(1.0);
    std::array::from_fn(|at| {
        let under = f32::from(under[at]);
        (under + alpha * (colour[at] - under)).round() as u8
    })
}

/// Writes the square `pixels` [side, side, 3] in grey with `map` over it, each cell in its colour:
/// orange raises the score, blue lowers it. Below is the scale, which is symmetric.
///
/// # Errors
/// When the map has no cells or it or the pixels do not form a square, or `sink` fails.
pub(crate) fn write(
    sink: &mut dyn Write,
    pixels: &[u8],
    side: usize,
    map: &[Vec<f32>],
    most: f32,
) -> Result<()> {
    let rows = map.len();
    ensure!(
        rows > 0 && map.iter().all(|row| row.len() == rows) && pixels.len() == side * side * 3,
        "the map and the picture are not squares"
    );
    let mut drawn = Vec::with_capacity((side + STRIP) * side * 3);
    for (at, pixel) in pixels.as_chunks::<3>().0.iter().enumerate() {
        let value = map[at / side * rows / side][at % side * rows / side];
        let share = if most > 0.0 { value / most } else { 0.0 };
        drawn.extend(mixed(grey(*pixel), share));
    }
    drawn.extend(scale(side, most));
    let (width, height) = (u32::try_from(side)?, u32::try_from(side + STRIP)?);
    let mut encoder = png::Encoder::new(sink, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().context("cannot begin the PNG")?;
    writer
        .write_image_data(&drawn)
        .and_then(|()| writer.finish())
        .context("cannot write the PNG")
}

/// A lighter grey, on which both colours show.
fn grey([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = [red, green, blue].map(u32::from);
    let luma = (299 * red + 587 * green + 114 * blue) / 1000;
    [(64 + luma * 3 / 4).min(255) as u8; 3]
}

/// A bar from the lowest colour to the highest with their numbers, [STRIP, width, 3].
fn scale(width: usize, most: f32) -> Vec<u8> {
    let mut strip = vec![[255u8; 3]; STRIP * width];
    for row in 3..3 + BAR {
        for column in 0..width {
            let share = 2.0 * column as f32 / (width.max(2) - 1) as f32 - 1.0;
            strip[row * width + column] = mixed([200; 3], share);
        }
    }
    let (low, high) = (signed(-most), signed(most));
    let mut text = |text: &str, left: usize| {
        for (place, character) in text.chars().enumerate() {
            let rows = digit(character);
            for (y, dots) in rows.iter().enumerate() {
                for x in (0..3).filter(|x| dots >> (2 - x) & 1 == 1) {
                    for dot in 0..DOT * DOT {
                        let column = left + (place * 4 + x) * DOT + dot % DOT;
                        let row = BAR + 7 + y * DOT + dot / DOT;
                        if column < width && row < STRIP {
                            strip[row * width + column] = [30; 3];
                        }
                    }
                }
            }
        }
    };
    text(&low, 2);
    // A small picture has room for one number.
    let room = |text: &str| text.len() * 4 * DOT + 2;
    if width >= room(&low) + room(&high) {
        text(&high, width - room(&high));
    }
    strip.concat()
}

/// The dots of a digit or sign: five rows of three bits.
fn digit(character: char) -> [u8; 5] {
    match character {
        '0' => [7, 5, 5, 5, 7],
        '1' => [2, 6, 2, 2, 7],
        '2' => [7, 1, 7, 4, 7],
        '3' => [7, 1, 7, 1, 7],
        '4' => [5, 5, 7, 1, 1],
        '5' => [7, 4, 7, 1, 7],
        '6' => [7, 4, 7, 5, 7],
        '7' => [7, 1, 1, 1, 1],
        '8' => [7, 5, 7, 5, 7],
        '9' => [7, 5, 7, 1, 7],
        '.' => [0, 0, 0, 0, 2],
        '+' => [0, 2, 7, 2, 0],
        '-' => [0, 0, 7, 0, 0],
        _ => [0; 5],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size and pixels of a PNG file.
    fn read(bytes: &[u8]) -> (usize, usize, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width as usize, info.height as usize, pixels)
    }

    fn drawn(side: usize, map: &[Vec<f32>], most: f32) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, &vec![128; side * side * 3], side, map, most).unwrap();
        bytes
    }

    #[test]
    fn cells_have_their_colours_and_the_scale_its_numbers() {
        let map = [vec![0.5, -0.5], vec![0.0, 0.25]];
        let (width, height, pixels) = read(&drawn(201, &map, 0.5));
        assert_eq!((width, height), (201, 201 + STRIP));
        let at = |x: usize, y: usize| {
            let from = (y * width + x) * 3;
            [pixels[from], pixels[from + 1], pixels[from + 2]]
        };
        let under = grey([128; 3]);
        assert_eq!(at(0, 0), mixed(under, 1.0));
        assert_eq!(at(100, 100), mixed(under, 1.0));
        assert_eq!(at(101, 0), mixed(under, -1.0));
        assert_eq!(at(0, 101), under);
        assert_eq!(at(200, 200), mixed(under, 0.5));
        // Warm is redder, cold is bluer.
        assert!(at(0, 0)[0] > at(0, 0)[2] && at(101, 0)[2] > at(101, 0)[0]);
        // The ends of the bar, and dots of the numbers on both sides.
        assert_eq!(at(0, 201 + 4), mixed([200; 3], -1.0));
        assert_eq!(at(200, 201 + 4), mixed([200; 3], 1.0));
        let is_dark = |xs: std::ops::Range<usize>| {
            xs.flat_map(|x| (BAR + 7..STRIP).map(move |y| (x, y)))
                .any(|(x, y)| at(x, 201 + y) == [30; 3])
        };
        assert!(is_dark(0..60) && is_dark(141..201) && !is_dark(80..120));
    }

    #[test]
    fn small_pictures_and_empty_maps_are_drawn_too() {
        let (width, height, _) = read(&drawn(8, &[vec![0.0]], 0.0));
        assert_eq!((width, height), (8, 8 + STRIP));
        let mut sink = Vec::new();
        assert!(write(&mut sink, &[0; 12], 2, &[], 1.0).is_err());
        assert!(write(&mut sink, &[0; 11], 2, &[vec![0.0]], 1.0).is_err());
    }
}
