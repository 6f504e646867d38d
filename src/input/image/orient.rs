//! Turns and mirrors a picture as its EXIF orientation says.

use image::metadata::Orientation;

use super::RgbImage;

/// Pixels a side of the tiles in which rows become columns: both tiles stay in the first cache.
const TILE: usize = 32;

/// The orientation that a picture's EXIF data give, or else its XMP data.
pub(super) fn of(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    let by_exif = exif.and_then(|exif| {
        // Some writers of WebP keep the mark that EXIF data have in a JPEG file.
        let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
        Orientation::from_exif_chunk(exif)
    });
    by_exif
        .or_else(|| xmp.and_then(in_xmp))
        .unwrap_or(Orientation::NoTransforms)
}

/// XMP says it as an attribute, `tiff:Orientation="6"`, or as an element, `<tiff:Orientation>6`.
fn in_xmp(xmp: &[u8]) -> Option<Orientation> {
    const NAME: &[u8] = b"tiff:Orientation";
    let at = xmp.windows(NAME.len()).position(|part| part == NAME)?;
    let value = match &xmp[at + NAME.len()..] {
        [b'=', b'"' | b'\'', digit, ..] | [b'>', digit, ..] => digit.checked_sub(b'0')?,
        _ => return None,
    };
    Orientation::from_exif(value)
}

/// Applies one of the eight orientations.
pub(super) fn apply(image: RgbImage, orientation: Orientation) -> RgbImage {
    // (transposed, then mirrored left to right, then turned upside down)
    let (transposed, mirrored, flipped) = match orientation {
        Orientation::NoTransforms => return image,
        Orientation::FlipHorizontal => (false, true, false),
        Orientation::Rotate180 => (false, true, true),
        Orientation::FlipVertical => (false, false, true),
        Orientation::Rotate90FlipH => (true, false, false),
        Orientation::Rotate90 => (true, true, false),
        Orientation::Rotate270FlipH => (true, true, true),
        Orientation::Rotate270 => (true, false, true),
    };
    if transposed {
        return transpose(&image, mirrored, flipped);
    }
    let mut image = image;
    if mirrored && flipped {
        reverse(&mut image.pixels);
    } else if mirrored {
        let row = image.width * 3;
        image.pixels.chunks_exact_mut(row).for_each(reverse);
    } else {
        flip(&mut image);
    }
    image
}

/// Reverses the order of pixels, `[pixels, 3]`.
fn reverse(samples: &mut [u8]) {
    let (pixels, _) = samples.as_chunks_mut::<3>();
    pixels.reverse();
}

/// Swaps the first row with the last, and so on.
fn flip(image: &mut RgbImage) {
    let row = image.width * 3;
    let half = image.height / 2;
    let (top, rest) = image.pixels.split_at_mut(half * row);
    let top = top.chunks_exact_mut(row);
    for (upper, lower) in top.zip(rest.chunks_exact_mut(row).rev()) {
        upper.swap_with_slice(lower);
    }
}

/// Mirrors along the main diagonal, `[height, width, 3]` -> `[width, height, 3]`, then left to right
/// and upside down as asked, in one go: memory is the slow part.
fn transpose(image: &RgbImage, mirrored: bool, flipped: bool) -> RgbImage {
    let (width, height) = (image.width, image.height);
    let (source, _) = image.pixels.as_chunks::<3>();
    let mut pixels = vec![0; image.pixels.len()];
    let (target, _) = pixels.as_chunks_mut::<3>();
    // The new picture's rows are the old one's columns.
    for top in (0..width).step_by(TILE) {
        for left in (0..height).step_by(TILE) {
            let columns = left..height.min(left + TILE);
            for row in top..width.min(top + TILE) {
                let x = if flipped { width - 1 - row } else { row };
                let to = &mut target[row * height + columns.start..row * height + columns.end];
                for (column, to) in columns.clone().zip(to) {
                    let y = if mirrored {
                        height - 1 - column
                    } else {
                        column
                    };
                    *to = source[y * width + x];
                }
            }
        }
    }
    RgbImage {
        width: height,
        height: width,
        pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::DynamicImage;

    #[test]
    fn orientation_is_read_from_exif_then_xmp() {
        // Little endian, one entry: tag 0x112, a short, one value, 6.
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let marked = [b"Exif\0\0", exif.as_slice()].concat();
        let attribute: &[u8] = b"<rdf tiff:Orientation=\"3\"/>";
        let element: &[u8] = b"<tiff:Orientation>8</tiff:Orientation>";
        type Bytes<'a> = Option<&'a [u8]>;
        let cases: [(Bytes, Bytes, u8); 7] = [
            (Some(exif), Some(attribute), 6),
            (Some(&marked), None, 6),
            (None, Some(attribute), 3),
            (Some(b"II*\0"), Some(element), 8),
            (None, Some(b"tiff:Orientation='9'"), 1),
            (None, Some(b"tiff:Orientation"), 1),
            (None, None, 1),
        ];
        for (exif, xmp, expected) in cases {
            assert_eq!(of(exif, xmp).to_exif(), expected, "{exif:?} {xmp:?}");
        }
    }

    #[test]
    fn all_eight_orientations_agree_with_the_image_crate() {
        for (width, height) in [(1, 1), (3, 2), (1, 5), (70, 33), (64, 65)] {
            let pixels: Vec<u8> = (0..width * height * 3)
                .map(|i| (i * 7 % 251) as u8)
                .collect();
            for exif in 1..=8 {
                let orientation = Orientation::from_exif(exif).unwrap();
                let buffer = image::RgbImage::from_raw(width, height, pixels.clone()).unwrap();
                let mut expected = DynamicImage::ImageRgb8(buffer);
                expected.apply_orientation(orientation);
                let image = RgbImage {
                    width: width as usize,
                    height: height as usize,
                    pixels: pixels.clone(),
                };
                let ours = apply(image, orientation);
                assert_eq!(ours.width, expected.width() as usize);
                assert_eq!(ours.pixels, expected.into_rgb8().into_raw(), "exif {exif}");
            }
        }
    }
}
