//! Colour models other than RGB -> RGB, with Pillow's rounding.

/// Ink of cyan, magenta, yellow and black, `[pixels, 4]` -> `[pixels, 3]`.
pub(super) fn cmyk_to_rgb(inks: Vec<u8>) -> Vec<u8> {
    let (pixels, _) = inks.as_chunks::<4>();
    pixels
        .iter()
        .flat_map(|[c, m, y, k]| [*c, *m, *y].map(|ink| under_black(ink, *k)))
        .collect()
}

/// The light that an ink leaves of what black leaves.
pub(super) fn under_black(ink: u8, black: u8) -> u8 {
    let left = 255 - u32::from(black);
    let product = u32::from(ink) * left + 128;
    let taken = (product + (product >> 8)) >> 8;
    left.saturating_sub(taken) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inks_take_light_away() {
        let inks = vec![0, 0, 0, 0, 255, 0, 128, 0, 0, 100, 0, 128, 9, 9, 9, 255];
        let expected = [255, 255, 255, 0, 255, 127, 127, 77, 127, 0, 0, 0];
        assert_eq!(cmyk_to_rgb(inks), expected);
    }
}
