//! Cameras' raw files: the largest JPEG preview in them, which cameras write for their own screens.
//! The sensor's data are not developed; a warning says so.
//!
//! Most kinds are TIFF files, whose directories name the previews; others, and notes of makers in
//! any, keep them at places of their own, so that files are searched for them too. A DNG is not: it
//! may keep the sensor's data themselves as JPEG.

use anyhow::Result;
use image::metadata::Orientation;

use super::directory::Directory;
use super::format::unsupported;
use super::rows::Feed;
use super::{jpeg, orient};

/// Tag numbers of TIFF, of DNG and, the second, of Panasonic.
mod tag {
    pub(super) const PANASONIC_JPEG: u16 = 46;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const STRIP_LENGTHS: u16 = 279;
    pub(super) const JPEG_OFFSET: u16 = 513;
    pub(super) const JPEG_LENGTH: u16 = 514;
    pub(super) const DNG_VERSION: u16 = 50706;
}

/// Colours of a sensor with a mosaic of filters, and of one without.
const SENSOR: [u64; 2] = [32803, 34892];

/// Compressions that only cameras use: Sony's, Nikon's, Pentax's, Samsung's, lossy DNG.
const CAMERAS: [u64; 5] = [32767, 34713, 65535, 32770, 34892];

/// Most headers that are read while a file is searched; a photograph has some dozens.
const MOST_HEADERS: usize = 1 << 20;

/// Most segments before a JPEG's size.
const MOST_SEGMENTS: usize = 64;

/// Whether a TIFF file is a camera's raw file.
pub(super) fn is_raw_tiff(bytes: &[u8]) -> bool {
    // Version 2, and the first directory behind it: other files may have pixels there.
    let is_canon = bytes.get(4..11) == Some(b"\x10\0\0\0CR\x02");
    is_canon || Directory::all(bytes).iter().any(is_raw)
}

fn is_raw(directory: &Directory) -> bool {
    let is = |tag, values: &[u64]| {
        let value = directory.number(tag);
        value.is_some_and(|value| values.contains(&value))
    };
    directory.has(tag::DNG_VERSION)
        || is(tag::PHOTOMETRIC, &SENSOR)
        || is(tag::COMPRESSION, &CAMERAS)
}

/// Decodes the largest preview of a raw file.
pub(super) fn decode(bytes: &[u8], feed: &mut Feed) -> Result<()> {
    let directories = Directory::all(bytes);
    let is_dng = directories.iter().any(|one| one.has(tag::DNG_VERSION));
    let mut previews: Vec<&[u8]> = directories
        .iter()
        .flat_map(|one| named(bytes, one))
        .collect();
    if !is_dng {
        previews.extend(found(bytes));
    }
    let sized = previews
        .into_iter()
        .filter_map(|one| Some((size(one)?, one)));
    // The first of several, whose end a directory may state.
    let largest = sized
        .rev()
        .max_by_key(|((width, height), _)| width * height);
    let Some(((width, height), preview)) = largest else {
        return Err(unsupported("a camera's raw file without a JPEG preview"));
    };
    feed.warn(format!(
        "raw: the JPEG preview of {width} x {height} pixels was read, not the sensor's data"
    ));
    jpeg::decode_turned(preview, orientation(bytes, directories.first()), feed)
}

/// How the camera was held, if the file says so outside of its previews.
fn orientation(bytes: &[u8], first: Option<&Directory>) -> Option<Orientation> {
    if let Some(first) = first {
        return orient::stated(first);
    }
    // Canon's CR3 has a directory in a box of its own, near the start.
    let start = &bytes[..bytes.len().min(1 << 16)];
    let at = start.windows(4).position(|name| name == b"CMT1")?;
    orient::stated(&Directory::first(&bytes[at + 4..])?)
}

/// The previews that a directory names.
fn named<'a>(bytes: &'a [u8], directory: &Directory<'a>) -> Vec<&'a [u8]> {
    // The sensor's data may be JPEG too.
    let photometric = directory.number(tag::PHOTOMETRIC);
    if photometric.is_some_and(|kind| SENSOR.contains(&kind)) && !directory.has(tag::JPEG_OFFSET) {
        return Vec::new();
    }
    let part = |offset, length| {
        let [offset, length] = [offset, length].map(|tag| match directory.integers(tag, 2)?[..] {
            [one] => usize::try_from(one).ok(),
            _ => None, // strips of an image
        });
        bytes.get(offset?..)?.get(..length?)
    };
    let is_jpeg = matches!(directory.number(tag::COMPRESSION), Some(6 | 7));
    let strip = part(tag::STRIP_OFFSETS, tag::STRIP_LENGTHS).filter(|_| is_jpeg);
    let whole = part(tag::JPEG_OFFSET, tag::JPEG_LENGTH);
    let inside = directory.data(tag::PANASONIC_JPEG);
    [whole, strip, inside].into_iter().flatten().collect()
}

/// Every place at which a JPEG begins, with the rest of the file.
fn found(bytes: &[u8]) -> Vec<&[u8]> {
    let mut left = MOST_HEADERS;
    let mut places = Vec::new();
    let mut from = 0;
    while let Some(at) = next_start(&bytes[from..]) {
        let rest = &bytes[from + at..];
        left = left.saturating_sub(MOST_SEGMENTS);
        if left == 0 {
            break;
        }
        places.extend(size(rest).map(|_| rest));
        from += at + 2; // the third may be the first of another
    }
    places
}

/// Where the first three bytes of a JPEG stand.
fn next_start(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes.get(from..)?.iter().position(|byte| *byte == 0xFF)?;
        if bytes.get(at + 1..at + 3)? == b"\xD8\xFF" {
            return Some(at);
        }
        from = at + 1;
    }
}

/// Width and height of a JPEG that can be shown: its segments follow one another, and it is coded
/// sequentially or progressively with 8 bits.
fn size(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut rest = bytes.strip_prefix(b"\xFF\xD8")?;
    for _ in 0..MOST_SEGMENTS {
        let [0xFF, marker, high, low, body @ ..] = rest else {
            return None;
        };
        match (marker, body) {
            (0xC0..=0xC2, [8, y, y_low, x, x_low, ..]) => {
                let side = |high: u8, low: u8| u64::from(u16::from_be_bytes([high, low]));
                let size = (side(*x, *x_low), side(*y, *y_low));
                return (size.0 > 0 && size.1 > 0).then_some(size);
            }
            (0xC4 | 0xDB | 0xDD | 0xE0..=0xEF | 0xFE, _) => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = body.get(length.checked_sub(2)?..)?;
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeOptions, Decoded, RgbImage, decode as decode_file, to_jpeg};
    use super::*;

    fn jpeg(width: usize, height: usize) -> Vec<u8> {
        let image = RgbImage {
            width,
            height,
            pixels: vec![200; width * height * 3],
        };
        to_jpeg(&image, 80).unwrap()
    }

    /// Entries, a preview, and the tags of its place and length.
    type Part<'a> = (&'a [(u16, u32)], &'a [u8], [u16; 2]);

    /// A TIFF of directories, the first of which points to the others; each has entries of one
    /// LONG and perhaps a preview, to whose place and length two tags of it are set.
    fn tiff(parts: &[Part]) -> Vec<u8> {
        let mut bytes = b"II*\0\0\0\0\0".to_vec();
        let mut next = Vec::new();
        for (at, (entries, preview, [offset, length])) in parts.iter().enumerate().rev() {
            let start = bytes.len() as u32;
            bytes.extend(*preview);
            let mut entries = entries.to_vec();
            if !preview.is_empty() {
                entries.extend([(*offset, start), (*length, preview.len() as u32)]);
            }
            if let (0, Some(next)) = (at, next.last()) {
                entries.push((330, *next));
            }
            next.push(bytes.len() as u32);
            bytes.extend((entries.len() as u16).to_le_bytes());
            for (tag, value) in entries {
                bytes.extend([&tag.to_le_bytes()[..], &[4, 0, 1, 0, 0, 0]].concat());
                bytes.extend(value.to_le_bytes());
            }
            bytes.extend([0; 4]);
        }
        let first = next.last().copied().unwrap_or_default();
        bytes[4..8].copy_from_slice(&first.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Decoded> {
        decode_file(bytes, &DecodeOptions::default())
    }

    const NONE: &[u8] = b"";
    const JPEG: [u16; 2] = [513, 514];

    #[test]
    fn the_largest_preview_is_read_and_turned_as_the_file_says() {
        let (small, large) = (jpeg(16, 8), jpeg(48, 32));
        let file = tiff(&[
            (&[(254, 1), (274, 6)], &small, JPEG),
            (&[(262, 32803)], &[], JPEG),
            (&[], &large, JPEG),
        ]);
        // Only two directories are linked: the search finds the third.
        let decoded = read(&file).unwrap();
        assert_eq!(decoded.format, "raw");
        assert_eq!((decoded.stored_size, decoded.size), ((48, 32), (32, 48)));
        let expected = "raw: the JPEG preview of 48 x 32 pixels was read, not the sensor's data";
        assert_eq!(decoded.warnings, [expected]);
    }

    #[test]
    fn data_of_the_sensor_are_no_preview() {
        let (small, large) = (jpeg(16, 8), jpeg(48, 32));
        let entries: &[(u16, u32)] = &[(262, 34892), (259, 7)];
        let dng = tiff(&[
            (&[(50706, 0x0401), (259, 7), (262, 6)], &small, [273, 279]),
            (entries, &large, [273, 279]),
        ]);
        assert_eq!(read(&dng).unwrap().size, (16, 8));
        let bare = tiff(&[
            (&[(50706, 0x0401)], NONE, JPEG),
            (entries, &large, [273, 279]),
        ]);
        let said = read(&bare).unwrap_err().to_string();
        assert!(
            said.starts_with("a camera's raw file without a JPEG preview"),
            "{said}"
        );
        // A lossless JPEG, as Canon and Adobe write it.
        let mut lossless = jpeg(48, 32);
        let at = lossless
            .windows(2)
            .position(|mark| mark == [0xFF, 0xC0])
            .unwrap();
        lossless[at + 1] = 0xC3;
        let canon = tiff(&[
            (&[(259, 6)], &small, [273, 279]),
            (&[(259, 6)], &lossless, [273, 279]),
        ]);
        // Pixels where Canon's mark would be, and its first directory elsewhere.
        let other = [&canon[..8], b"CR\x02\0", &canon[8..]].concat();
        assert!(!is_raw_tiff(&other));
        let canon = [&canon[..4], b"\x10\0\0\0CR\x02\0", &canon[8..]].concat();
        assert!(is_raw_tiff(&canon));
        let shown = found(&canon)
            .into_iter()
            .filter_map(size)
            .collect::<Vec<_>>();
        assert_eq!(shown, [(16, 8)]);
    }

    #[test]
    fn previews_are_found_in_files_of_other_kinds() {
        let (small, large) = (jpeg(16, 8), jpeg(48, 32));
        let noise = [0xFF, 0xD8, 0xFF, 0xFF, 0xD8, 0xFF, 0xE0, 0xFF, 0xD8];
        let turned = tiff(&[(&[(274, 3)], NONE, JPEG)]);
        let cases: [(&[u8], &[u8]); 4] = [
            (b"FUJIFILMCCD-RAW 0201", b""),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", &turned),
            (b"IIRO\x08\0\0\0\0\0", b""),
            (b"IIU\0\x08\0\0\0\0\0", b""),
        ];
        for (start, notes) in cases {
            let notes = if notes.is_empty() {
                Vec::new()
            } else {
                [b"CMT1", notes].concat()
            };
            let file = [start, &notes, &noise, &small, &noise, &large].concat();
            let decoded = read(&file).unwrap();
            assert_eq!(
                (decoded.format, decoded.size),
                ("raw", (48, 32)),
                "{start:?}"
            );
            let said = read(start).unwrap_err().to_string();
            assert!(said.contains("without a JPEG preview"), "{said}");
        }
    }

    #[test]
    fn an_ordinary_tiff_is_none() {
        let plain = tiff(&[(&[(262, 2)], NONE, JPEG), (&[(262, 1)], NONE, JPEG)]);
        assert!(!is_raw_tiff(&plain));
        assert!(!is_raw_tiff(b"II*\0"));
    }
}
