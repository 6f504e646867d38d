//! The quality at which a JPEG was compressed, estimated from its quantisation table.

#![deny(clippy::indexing_slicing)]

use super::markers::segments;

/// The marker of quantisation tables.
const QUANTISATION: u8 = 0xDB;
/// The luma table of the standard (ITU-T T.81, table K.1), which encoders scale by the quality. Only
/// its sum after scaling is used, so that the order does not matter.
const STANDARD: [u32; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// The quality from 1 to 100 in the scale of libjpeg whose luma table is nearest to that of the
/// file; `None` for other files, and for a JPEG without such a table before its pixels.
#[must_use]
pub(crate) fn jpeg_quality(bytes: &[u8]) -> Option<u32> {
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return None;
    }
    let mut tables = segments(bytes).filter(|segment| segment.marker == QUANTISATION);
    let sum = tables.find_map(|segment| luma_sum(segment.body))?;
    let off = |quality: &u32| scaled_sum(*quality).abs_diff(sum);
    (1..=100).min_by_key(off)
}

/// The sum of the table number 0 among the tables of a segment.
fn luma_sum(mut tables: &[u8]) -> Option<u32> {
    loop {
        let (&head, after) = tables.split_first()?;
        let size = if head >> 4 == 0 { 64 } else { 128 };
        let (table, next) = after.split_at_checked(size)?;
        if head & 15 == 0 {
            return Some(match size {
                64 => table.iter().map(|value| u32::from(*value)).sum(),
                _ => {
                    let (pairs, _) = table.as_chunks::<2>();
                    pairs
                        .iter()
                        .map(|pair| u32::from(u16::from_be_bytes(*pair)))
                        .sum()
                }
            });
        }
        tables = next;
    }
}

/// The sum of libjpeg's luma table at a quality.
fn scaled_sum(quality: u32) -> u32 {
    let scale = if quality < 50 {
        5000 / quality
    } else {
        200 - 2 * quality
    };
    let values = STANDARD.iter().map(|value| (value * scale + 50) / 100);
    values.map(|value| value.clamp(1, 255)).sum()
}

#[cfg(test)]
mod tests {
    use image::ExtendedColorType;
    use image::codecs::jpeg::JpegEncoder;

    use super::*;

    fn encoded(quality: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
        encoder
            .encode(&[90; 64 * 3], 8, 8, ExtendedColorType::Rgb8)
            .unwrap();
        bytes
    }

    #[test]
    fn the_quality_of_an_encoder_is_found() {
        for quality in [1, 10, 30, 49, 50, 75, 90, 95, 100] {
            let found = jpeg_quality(&encoded(quality)).unwrap();
            // Below 10 most entries are at their largest value.
            let slack = if quality < 10 { 4 } else { 1 };
            assert!(
                found.abs_diff(u32::from(quality)) <= slack,
                "{quality} {found}"
            );
        }
    }

    #[test]
    fn what_is_cut_or_damaged_has_no_quality_or_some() {
        let whole = encoded(60);
        assert_eq!(jpeg_quality(b"\x89PNG\r\n"), None);
        assert_eq!(jpeg_quality(&[0xFF, 0xD8, 0xFF, 0xDA]), None);
        for end in 0..whole.len() {
            let _ = jpeg_quality(&whole[..end]);
            let mut damaged = whole.clone();
            damaged[end] ^= 0xFF;
            let _ = jpeg_quality(&damaged);
        }
        // Fill bytes before a marker.
        let mut filled = whole.clone();
        filled.splice(2..2, [0xFF; 3]);
        assert_eq!(jpeg_quality(&filled), jpeg_quality(&whole));
    }
}
