//! The headers of a JPEG file up to its first scan, parsed without decoding.
//!
//! They decide which decoder takes the file, and cover what the decoders do not: unsupported kinds
//! of JPEG, the Huffman tables that frames of a video omit, EXIF and XMP.

const APP0: u8 = 0xE0;
const APP1: u8 = 0xE1;
const APP14: u8 = 0xEE;
pub(super) const HUFFMAN_TABLES: u8 = 0xC4;
const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: u8 = 0xD9;
const HIERARCHY: u8 = 0xDE;

/// The contents of a file's headers.
#[derive(Debug, Default)]
pub(super) struct Headers<'a> {
    /// The first frame's header.
    pub(super) frame: Option<Frame>,
    /// The first block of EXIF data, from its byte order mark.
    pub(super) exif: Option<&'a [u8]>,
    /// The first XMP packet.
    pub(super) xmp: Option<&'a [u8]>,
    is_hierarchical: bool,
    is_jfif: bool,
    /// Colour transform in Adobe's segment.
    adobe: Option<u8>,
    /// Bit `4 * class + number` is set for each Huffman table that is defined.
    tables: u8,
    /// The same for those that the first scan uses.
    used_tables: u8,
    /// Number of components in the first scan, and offset of its data.
    scan: Option<(usize, usize)>,
}

/// The header of a frame.
#[derive(Debug)]
pub(super) struct Frame {
    /// Second byte of its marker: the kind of coding.
    kind: u8,
    precision: u8,
    rows: u16,
    columns: u16,
    /// Id of each component, which may be the letter of a colour.
    ids: Vec<u8>,
    /// Horizontal and vertical sampling factor of each component.
    sampling: Vec<(u8, u8)>,
}

impl<'a> Headers<'a> {
    /// Parses the headers of the JPEG file `bytes`, as far as possible.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        let mut headers = Self::default();
        for segment in segments(bytes) {
            headers.add(&segment);
        }
        headers
    }

    fn add(&mut self, segment: &Segment<'a>) {
        let body = segment.body;
        match segment.marker {
            APP0 => self.is_jfif |= body.len() >= 14 && body.starts_with(b"JFIF\0"),
            APP14 if body.starts_with(b"Adobe") => {
                self.adobe = body.get(11).copied().or(self.adobe);
            }
            APP1 => {
                let exif = body.strip_prefix(b"Exif\0\0");
                self.exif = self.exif.or(exif);
                let xmp = body.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0");
                self.xmp = self.xmp.or(xmp);
            }
            HUFFMAN_TABLES => self.tables |= defined_tables(body),
            HIERARCHY => self.is_hierarchical = true,
            START_OF_SCAN => {
                let count = body.first().copied().map_or(0, usize::from);
                self.scan = Some((count, segment.end));
                let (components, _) = body.get(1..).unwrap_or_default().as_chunks::<2>();
                for [_, tables] in components.iter().take(count) {
                    self.used_tables |= 1 << (tables >> 4 & 3) | 16 << (tables & 3);
                }
            }
            kind @ (0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xF7) => {
                self.frame = self.frame.take().or_else(|| Frame::of(kind, body));
            }
            _ => {}
        }
    }

    /// The name of this kind of JPEG, if neither decoder supports it.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        let frame = self.frame.as_ref()?;
        Some(match frame.kind {
            _ if self.is_hierarchical => "a hierarchical JPEG",
            0xC5..=0xC7 | 0xCD..=0xCF => "a hierarchical JPEG",
            0xC3 | 0xCB => "a lossless JPEG",
            0xC9 | 0xCA => "a JPEG with arithmetic coding",
            0xF7 => "a JPEG-LS image",
            _ if frame.precision > 8 => "a JPEG with 12 bits per sample",
            _ if frame.rows == 0 => "a JPEG whose height follows its data",
            _ if frame.has_fractions() => {
                "a JPEG with colour sampled at a fraction of the brightness (such as 2 to 3)"
            }
            _ if !self.is_common() && self.is_miscounted(frame) => {
                "a JPEG of several scans with colour sampled 2 to 4 against the brightness"
            }
            _ => return None,
        })
    }

    /// Whether zune-jpeg 0.5.15 decodes this layout correctly: compared with libjpeg for all
    /// sampling factors that libjpeg writes. It assumes that the first component is the largest,
    /// does not support factors of 3, gets most of 4 wrong, and decodes a sequential image in
    /// several scans to garbage unless all vertical factors are 1.
    pub(super) fn is_common(&self) -> bool {
        let Some(frame) = &self.frame else {
            return true;
        };
        let sampling = &frame.sampling;
        let (widest, tallest) = frame.largest();
        let is_small = widest <= 2 && tallest <= 2;
        let is_flat = tallest == 1;
        let is_wide = widest == 4 && is_flat;
        let is_first_largest = sampling.first().is_none_or(|f| *f == (widest, tallest));
        let is_readable = frame.is_progressive() || !self.is_split() || is_flat;
        (is_small || is_wide) && is_first_largest && is_readable
    }

    /// Whether three components are RGB instead of YCbCr, by libjpeg's rule: JFIF only has YCbCr,
    /// then Adobe's marker counts, then the letters. `None` for any other number of components.
    pub(super) fn is_stored_rgb(&self) -> Option<bool> {
        let ids = &self.frame.as_ref()?.ids;
        (ids.len() == 3).then(|| match (self.is_jfif, self.adobe) {
            (true, _) => false,
            (false, Some(transform)) => transform == 0,
            (false, None) => ids == b"RGB",
        })
    }

    /// Whether the first of several scans holds some components only.
    fn is_split(&self) -> bool {
        self.scan
            .is_some_and(|(count, _)| count < self.components())
    }

    /// Number of components.
    pub(super) fn components(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.sampling.len())
    }

    /// Samples of so many pixels in all components, as sampled.
    pub(super) fn samples(&self, pixels: u64) -> u64 {
        let Some(frame) = &self.frame else {
            return pixels.saturating_mul(4);
        };
        let (widest, tallest) = frame.largest();
        let blocks = frame
            .sampling
            .iter()
            .map(|(h, v)| u64::from(*h) * u64::from(*v));
        let most = u64::from(widest) * u64::from(tallest);
        pixels.saturating_mul(blocks.sum()) / most.max(1)
    }

    /// Whether a block's coefficients come in several parts, so that decoders keep those of all
    /// blocks.
    pub(super) fn is_buffered(&self) -> bool {
        let frame = self.frame.as_ref();
        frame.is_none_or(Frame::is_progressive) || self.is_split()
    }

    /// Whether jpeg-decoder counts the blocks of a file right.
    pub(super) fn is_counted(&self) -> bool {
        let frame = self.frame.as_ref();
        frame.is_some_and(|frame| !self.is_miscounted(frame))
    }

    /// Whether jpeg-decoder 0.3.2 miscounts blocks: a scan of one component covers that component's
    /// own blocks, but it reads at most those of the whole image.
    fn is_miscounted(&self, frame: &Frame) -> bool {
        let (widest, tallest) = frame.largest();
        let is_wrong = |side: u16, own: u8, most: u8| {
            let (side, own, most) = (u32::from(side), u32::from(own), u32::from(most));
            let padded = side.div_ceil(8 * most.max(1)) * own;
            let right = (side * own).div_ceil(most.max(1)).div_ceil(8);
            padded.min(side.div_ceil(8)) != right
        };
        let mut components = frame.sampling.iter();
        (frame.is_progressive() || self.is_split())
            && components.any(|(h, v)| {
                is_wrong(frame.columns, *h, widest) || is_wrong(frame.rows, *v, tallest)
            })
    }

    /// Whether the first scan uses Huffman tables that the file does not define.
    pub(super) fn lacks_tables(&self) -> bool {
        // The standard has tables 0 and 1 of each class, and only for sequential coding.
        let is_sequential = matches!(&self.frame, Some(frame) if frame.kind <= 0xC1);
        is_sequential && self.used_tables & !self.tables & 0b0011_0011 != 0
    }

    /// Bytes after the header of the first scan, if it was found, in a file of `length` bytes.
    pub(super) fn coded_bytes(&self, length: usize) -> Option<usize> {
        self.scan.map(|(_, at)| length.saturating_sub(at))
    }
}

impl Frame {
    /// Precision, height, width, count; then identity, sampling, table for each component.
    fn of(kind: u8, body: &[u8]) -> Option<Self> {
        let [precision, y, y_low, x, x_low, count, components @ ..] = body else {
            return None;
        };
        let (components, _) = components.as_chunks::<3>();
        let components = components.iter().take(usize::from(*count));
        Some(Self {
            kind,
            precision: *precision,
            rows: u16::from_be_bytes([*y, *y_low]),
            columns: u16::from_be_bytes([*x, *x_low]),
            ids: components.clone().map(|[id, ..]| *id).collect(),
            sampling: components.map(|[_, s, _]| (s >> 4, s & 15)).collect(),
        })
    }

    fn is_progressive(&self) -> bool {
        self.kind == 0xC2
    }

    /// The largest horizontal and the largest vertical sampling factor.
    fn largest(&self) -> (u8, u8) {
        let components = self.sampling.iter();
        components.fold((0, 0), |(h, v), own| (h.max(own.0), v.max(own.1)))
    }

    /// Whether a component's size does not divide the image's.
    fn has_fractions(&self) -> bool {
        let (widest, tallest) = self.largest();
        let is_fraction = |most: u8, own: u8| own != 0 && !most.is_multiple_of(own);
        let mut components = self.sampling.iter();
        components.any(|(h, v)| is_fraction(widest, *h) || is_fraction(tallest, *v))
    }
}

/// The Huffman tables that a segment defines: for each, class and number, 16 counts, the values.
fn defined_tables(mut body: &[u8]) -> u8 {
    let mut defined = 0;
    while let Some((kind, counts, rest)) = split_table(body) {
        defined |= 1 << (4 * (kind >> 4 & 1) + (kind & 3));
        let values = counts.iter().map(|count| usize::from(*count)).sum();
        body = rest.get(values..).unwrap_or_default();
    }
    defined
}

fn split_table(body: &[u8]) -> Option<(u8, &[u8; 16], &[u8])> {
    let (kind, rest) = body.split_first()?;
    let (counts, rest) = rest.split_first_chunk()?;
    Some((*kind, counts, rest))
}

/// A header segment: its kind, its contents, and the offset of the next one.
pub(super) struct Segment<'a> {
    pub(super) marker: u8,
    pub(super) body: &'a [u8],
    end: usize,
}

/// The segments up to the header of the first scan. Bytes between segments are skipped, as decoders
/// do.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 2;
    let mut is_over = false;
    std::iter::from_fn(move || {
        while !is_over {
            let marker = *bytes.get(at + 1)?;
            let is_marker = bytes[at] == 0xFF && !matches!(marker, 0 | 0xFF);
            if !is_marker {
                at += 1;
                continue;
            }
            if matches!(marker, 1 | 0xD0..=0xD8) {
                at += 2; // without contents
                continue;
            }
            if marker == END_OF_IMAGE {
                return None;
            }
            let length = bytes.get(at + 2..at + 4)?;
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let end = at + 2 + length;
            let body = bytes.get(at + 4..end)?;
            at = end;
            is_over = marker == START_OF_SCAN;
            return Some(Segment { marker, body, end });
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::super::huffman::with_standard_tables;
    use super::*;

    /// A JPEG's headers: a frame of three components with these sampling factors, and a scan of
    /// `count` of them.
    fn headers(frame: u8, sampling: [u8; 3], count: u8) -> Vec<u8> {
        let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xFF, 0xE0, 0, 4, 1, 2];
        bytes.extend([0xFF, frame, 0, 17, 8, 0, 64, 0, 64, 3]);
        for (id, sampling) in sampling.iter().enumerate() {
            bytes.extend([id as u8, *sampling, 0]);
        }
        bytes.extend([0xFF, START_OF_SCAN, 0, 6 + 2 * count, count]);
        bytes.extend(vec![0; 2 * usize::from(count)]);
        bytes.extend([0, 63, 0]);
        bytes
    }

    #[test]
    fn layouts_that_zune_decodes_wrong_are_found() {
        let cases = [
            (headers(0xC0, [0x22, 0x11, 0x11], 3), true),
            (headers(0xC0, [0x21, 0x11, 0x11], 1), true),
            (headers(0xC2, [0x22, 0x11, 0x11], 1), true),
            (headers(0xC0, [0x41, 0x11, 0x11], 3), true),
            (headers(0xC0, [0x22, 0x21, 0x12], 3), true),
            (headers(0xC0, [0x22, 0x11, 0x11], 1), false),
            (headers(0xC1, [0x12, 0x11, 0x11], 2), false),
            (headers(0xC0, [0x11, 0x22, 0x22], 3), false),
            (headers(0xC2, [0x11, 0x21, 0x21], 3), false),
            (headers(0xC0, [0x21, 0x12, 0x12], 3), false),
            (headers(0xC0, [0x22, 0x22, 0x22], 1), false),
            (headers(0xC0, [0x31, 0x11, 0x11], 3), false),
            (headers(0xC0, [0x14, 0x12, 0x12], 3), false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Headers::of(&bytes).is_common(), expected, "{bytes:x?}");
        }
        assert!(Headers::of(b"").is_common());
    }

    #[test]
    fn stored_colours_follow_jfif_then_adobe_then_letters() {
        let jfif: &[u8] = b"\xFF\xE0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0";
        let adobe = |transform| [b"\xFF\xEE\0\x0EAdobe\0d\0\0\0\0", &[transform][..]].concat();
        let cases = [
            (vec![], [1, 2, 3], false),
            (vec![], *b"RGB", true),
            (vec![], [0, 1, 2], false),
            (vec![], *b"rgb", false),
            (adobe(0), [1, 2, 3], true),
            (adobe(0), *b"RGB", true),
            (adobe(1), [1, 2, 3], false),
            (adobe(1), *b"RGB", false),
            (adobe(2), [1, 2, 3], false),
            (jfif.to_vec(), [1, 2, 3], false),
            (jfif.to_vec(), *b"RGB", false),
            ([jfif, &adobe(0)].concat(), [1, 2, 3], false),
            ([&adobe(0), jfif].concat(), [1, 2, 3], false),
            ([jfif, &adobe(0)].concat(), *b"RGB", false),
            (b"\xFF\xE0\0\x07JFIF\0".to_vec(), *b"RGB", true),
        ];
        for (segments, ids, expected) in cases {
            let mut bytes = headers(0xC0, [0x22, 0x11, 0x11], 3);
            let frame = bytes.iter().position(|b| *b == 0xC0).unwrap() + 9;
            for (index, id) in ids.iter().enumerate() {
                bytes[frame + 3 * index] = *id;
            }
            bytes.splice(2..2, segments);
            let said = Headers::of(&bytes).is_stored_rgb();
            assert_eq!(said, Some(expected), "{bytes:x?}");
        }
        assert_eq!(Headers::of(b"").is_stored_rgb(), None);
    }

    #[test]
    fn kinds_without_a_decoder_are_named() {
        let plain = [0x22, 0x11, 0x11];
        let mut deep = headers(0xC1, plain, 3);
        let precision = deep.iter().position(|b| *b == 0xC1).unwrap() + 3;
        deep[precision] = 12;
        let cases = [
            (headers(0xC0, plain, 3), None),
            (headers(0xC2, plain, 3), None),
            (headers(0xC3, plain, 3), Some("a lossless JPEG")),
            (headers(0xC6, plain, 3), Some("a hierarchical JPEG")),
            (
                headers(0xC9, plain, 3),
                Some("a JPEG with arithmetic coding"),
            ),
            (
                headers(0xCA, plain, 3),
                Some("a JPEG with arithmetic coding"),
            ),
            (headers(0xF7, plain, 3), Some("a JPEG-LS image")),
            (deep, Some("a JPEG with 12 bits per sample")),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Headers::of(&bytes).unsupported(), expected, "{bytes:x?}");
        }
        let fraction = headers(0xC0, [0x31, 0x21, 0x21], 3);
        assert!(Headers::of(&fraction).unsupported().is_some());
        // At 64 columns, block counts agree; at 33, those of a plane half as wide do not.
        let mut middle = headers(0xC2, [0x22, 0x41, 0x41], 3);
        assert!(Headers::of(&middle).unsupported().is_none());
        let columns = middle.iter().position(|b| *b == 0xC2).unwrap() + 7;
        middle[columns] = 33;
        assert!(Headers::of(&middle).unsupported().is_some());
    }

    #[test]
    fn missing_huffman_tables_are_detected_and_inserted() {
        let bare = headers(0xC0, [0x22, 0x11, 0x11], 3);
        assert!(Headers::of(&bare).lacks_tables());
        let whole = with_standard_tables(&bare);
        let headers_of_whole = Headers::of(&whole);
        assert_eq!(headers_of_whole.tables, 0b0011_0011);
        assert!(!headers_of_whole.lacks_tables());
        assert!(!Headers::of(&headers(0xC2, [0x11; 3], 3)).lacks_tables());
    }

    #[test]
    fn coded_bytes_are_counted() {
        let count = |bytes: &[u8]| Headers::of(bytes).coded_bytes(bytes.len());
        let mut bytes = headers(0xC0, [0x11; 3], 3);
        assert_eq!(count(&bytes), Some(0));
        bytes.extend([0xFF, 0xDA, 0, 4, 0, 0, 7]);
        assert_eq!(count(&bytes), Some(7));
        assert_eq!(count(&bytes[..30]), None);
        assert_eq!(count(&[]), None);
    }

    #[test]
    fn exif_is_found_after_stray_bytes() {
        let mut bytes = vec![0xFF, 0xD8, 7, 7, 0xFF, 0xE1, 0, 11];
        bytes.extend(b"Exif\0\0MM*");
        assert_eq!(Headers::of(&bytes).exif, Some(&b"MM*"[..]));
    }
}
