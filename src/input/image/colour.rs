//! Colour models other than RGB -> RGB, with Pillow's rounding.

/// CMYK, `[pixels, 4]` -> RGB, `[pixels, 3]`.
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

/// YCbCr as in JFIF -> RGB, in place.
pub(super) fn ycbcr_to_rgb(samples: &mut [u8]) {
    let (pixels, _) = samples.as_chunks_mut::<3>();
    for pixel in pixels {
        let [luma, blue, red] = pixel.map(f32::from);
        let (blue, red) = (blue - 128.0, red - 128.0);
        let green = luma - 0.344_136 * blue - 0.714_136 * red;
        let colours = [luma + 1.402 * red, green, luma + 1.772 * blue];
        *pixel = colours.map(|sample| sample.round() as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmyk_becomes_rgb() {
        let inks = vec![0, 0, 0, 0, 255, 0, 128, 0, 0, 100, 0, 128, 9, 9, 9, 255];
        let expected = [255, 255, 255, 0, 255, 127, 127, 77, 127, 0, 0, 0];
        assert_eq!(cmyk_to_rgb(inks), expected);
    }

    #[test]
    fn ycbcr_becomes_rgb() {
        let mut samples = [0, 128, 128, 76, 85, 255, 29, 255, 107, 128, 128, 128];
        ycbcr_to_rgb(&mut samples);
        assert_eq!(samples, [0, 0, 0, 254, 0, 0, 0, 0, 254, 128, 128, 128]);
    }
}
