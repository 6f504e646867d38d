//! Applies the EXIF orientation of an image.

use image::metadata::Orientation;

use super::RgbImage;
use super::directory::Directory;

/// Side of the tiles in which rows become columns, in pixels: both tiles stay in the L1 cache.
const TILE: usize = 32;

/// The tag's number in EXIF and TIFF.
const TAG: u16 = 0x0112;

/// The orientation in an image's EXIF data, or, if they have none, in its XMP data: in that order,
/// as in Pillow's `exif_transpose`.
pub(super) fn of(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Orientation {
    let value = exif.and_then(in_exif).or_else(|| xmp.and_then(in_xmp));
    value
        .and_then(Orientation::from_exif)
        .unwrap_or(Orientation::NoTransforms)
}

/// The value in the first directory of EXIF data; 0 if it is invalid.
fn in_exif(mut exif: &[u8]) -> Option<u8> {
    // Some writers of WebP and PNG keep the prefix that EXIF data have in a JPEG file.
    while let Some(rest) = exif.strip_prefix(b"Exif\0\0") {
        exif = rest;
    }
    in_directory(&Directory::first(exif)?)
}

/// The value in a directory; 0 if it is invalid, `None` if there is none.
fn in_directory(directory: &Directory) -> Option<u8> {
    if !directory.has(TAG) {
        return None;
    }
    // Cameras write SHORT; editors also write other types. Pillow ignores BYTE.
    let values = directory
        .numbers(TAG, 1)
        .filter(|_| !directory.is_bytes(TAG));
    let values = values.unwrap_or_default();
    let value = values.first().copied().unwrap_or_default();
    let is_meant = value.fract() == 0.0 && (0.0..256.0).contains(&value);
    Some(if is_meant { value as u8 } else { 0 })
}

/// The orientation in a TIFF file's directory.
pub(super) fn of_tiff(directory: &Directory) -> Orientation {
    stated(directory).unwrap_or(Orientation::NoTransforms)
}

/// The same, if there is one.
pub(super) fn stated(directory: &Directory) -> Option<Orientation> {
    in_directory(directory).and_then(Orientation::from_exif)
}

/// XMP has it as an attribute, `tiff:Orientation="6"`, or as an element, `<tiff:Orientation>6`.
fn in_xmp(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    let mut rest = xmp;
    while let Some(at) = rest.windows(NAME.len()).position(|part| part == NAME) {
        rest = &rest[at + NAME.len()..];
        if let [b'=', b'"' | b'\'', digit, ..] | [b'>', digit, ..] = rest
            && digit.is_ascii_digit()
        {
            return Some(digit - b'0');
        }
    }
    None
}

/// What an orientation does with an image: transposes it, then mirrors it left to right, then flips
/// it upside down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steps {
    pub(crate) transposed: bool,
    pub(crate) mirrored: bool,
    pub(crate) flipped: bool,
}

/// The steps of one of the eight orientations.
pub(crate) fn steps(orientation: Orientation) -> Steps {
    let (transposed, mirrored, flipped) = match orientation {
        Orientation::NoTransforms => (false, false, false),
        Orientation::FlipHorizontal => (false, true, false),
        Orientation::Rotate180 => (false, true, true),
        Orientation::FlipVertical => (false, false, true),
        Orientation::Rotate90FlipH => (true, false, false),
        Orientation::Rotate90 => (true, true, false),
        Orientation::Rotate270FlipH => (true, true, true),
        Orientation::Rotate270 => (true, false, true),
    };
    Steps {
        transposed,
        mirrored,
        flipped,
    }
}

/// Applies one of the eight orientations.
pub(crate) fn apply(image: RgbImage, orientation: Orientation) -> RgbImage {
    let Steps {
        transposed,
        mirrored,
        flipped,
    } = steps(orientation);
    if !(transposed || mirrored || flipped) {
        return image;
    }
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

/// Width and height after an orientation is applied.
pub(crate) fn size((width, height): (usize, usize), orientation: Orientation) -> (usize, usize) {
    // The last four of EXIF's numbers swap rows and columns.
    match orientation.to_exif() {
        5.. => (height, width),
        _ => (width, height),
    }
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

/// Transposes, `[height, width, 3]` -> `[width, height, 3]`, then mirrors and flips as requested,
/// in one pass: memory is the slow part.
fn transpose(image: &RgbImage, mirrored: bool, flipped: bool) -> RgbImage {
    let (width, height) = (image.width, image.height);
    let (source, _) = image.pixels.as_chunks::<3>();
    let mut pixels = vec![0; image.pixels.len()];
    let (target, _) = pixels.as_chunks_mut::<3>();
    // The new image's rows are the old one's columns.
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
        let exif = &entry(3, 1, [6, 0, 0, 0], b"");
        let marked = [b"Exif\0\0Exif\0\0", exif.as_slice()].concat();
        let attribute: &[u8] = b"<rdf tiff:Orientation=\"3\"/>";
        let element: &[u8] = b"<tiff:Orientation>8</tiff:Orientation>";
        type Bytes<'a> = Option<&'a [u8]>;
        let later: &[u8] = b"<tiff:Orientation/> <x tiff:Orientation='5'/>";
        let unknown = &entry(3, 1, [9, 0, 0, 0], b"");
        let cases: [(Bytes, Bytes, u8); 9] = [
            (Some(exif), Some(attribute), 6),
            (Some(&marked), None, 6),
            (None, Some(attribute), 3),
            (Some(b"II*\0"), Some(element), 8),
            (None, Some(later), 5),
            (Some(unknown), Some(attribute), 1),
            (None, Some(b"tiff:Orientation='9'"), 1),
            (None, Some(b"tiff:Orientation"), 1),
            (None, None, 1),
        ];
        for (exif, xmp, expected) in cases {
            assert_eq!(of(exif, xmp).to_exif(), expected, "{exif:?} {xmp:?}");
        }
    }

    /// EXIF data, little-endian, with the orientation only and `tail` at offset 26.
    fn entry(kind: u8, count: u8, value: [u8; 4], tail: &[u8]) -> Vec<u8> {
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01".to_vec();
        exif.extend([kind, 0, count, 0, 0, 0]);
        exif.extend(value);
        exif.extend([0; 4]);
        exif.extend(tail);
        exif
    }

    #[test]
    fn orientation_may_have_any_numeric_type() {
        let at = [26, 0, 0, 0];
        let cases = [
            (entry(1, 1, [6, 0, 0, 0], b""), 1),
            (entry(7, 1, [6, 0, 0, 0], b""), 1),
            (entry(4, 1, [6, 0, 0, 0], b""), 6),
            (entry(6, 1, [6, 0, 0, 0], b""), 6),
            (entry(8, 1, [6, 0, 0, 0], b""), 6),
            (entry(9, 1, [6, 0, 0, 0], b""), 6),
            (entry(5, 1, at, b"\x0C\0\0\0\x02\0\0\0"), 6),
            (entry(11, 1, 6.0_f32.to_le_bytes(), b""), 6),
            (entry(12, 1, at, &6.0_f64.to_le_bytes()), 6),
            (entry(3, 2, [6, 0, 1, 0], b""), 6),
            (entry(4, 1, [6, 1, 0, 0], b""), 1),
            (entry(2, 2, *b"6\0\0\0", b""), 1),
            (entry(5, 1, at, b"\x0C"), 1),
            (entry(3, 0, [6, 0, 0, 0], b""), 1),
        ];
        for (exif, expected) in cases {
            assert_eq!(of(Some(&exif), None).to_exif(), expected, "{exif:?}");
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
