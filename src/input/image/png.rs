//! PNG: pixels through the `image` crate; the chunks around them are read first for what the crate
//! ignores: orientation in text chunks or after the pixels, a missing end, and Apple's variant,
//! which is a PNG in name only.

use std::borrow::Cow;
use std::io::Read as _;

use anyhow::{Result, bail, ensure};
use flate2::read::ZlibDecoder;

use super::format::Format;
use super::{DecodeOptions, Raw, check_size, general, orient};

/// Length of the file's signature in bytes.
const SIGNATURE: usize = 8;

/// Bytes of a chunk besides its contents: length and kind before, a checksum after.
const FRAME: usize = 12;

/// Maximum decompressed size of a text chunk. EXIF data have at most 64 KB in JPEG, and a profile
/// writes each byte as two digits.
const TEXT_BYTES: u64 = 4 << 20;

/// Maximum number of damaged chunk types that are named.
const NAMED_KINDS: usize = 5;

/// The contents of the chunks other than pixels.
#[derive(Default)]
struct Survey<'a> {
    exif: Option<Cow<'a, [u8]>>,
    xmp: Option<Cow<'a, [u8]>>,
    /// End of the last complete chunk before the end marker.
    whole: usize,
    /// The contents of a chunk of pixels in which the file is cut off.
    rest: &'a [u8],
    has_end: bool,
    /// The first types of ancillary chunks with a wrong checksum.
    damaged: Vec<String>,
}

/// Decodes a PNG file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Raw> {
    check_header(bytes, options)?;
    let survey = Survey::of(bytes);
    if options.strict && !survey.has_end {
        return Err(Format::Png.cut());
    }
    if let (true, Some(kind)) = (options.strict, survey.damaged.first()) {
        bail!("the PNG data is damaged (chunk {kind}); fetch or copy the file again");
    }
    let mut raw = if survey.has_end {
        general::decode(Format::Png, bytes, options)?
    } else {
        // Whatever the decoder reports, the problem with this file is that it is too short.
        let mended = survey.mended(bytes);
        general::decode(Format::Png, &mended, options).map_err(|_| Format::Png.cut())?
    };
    if !survey.has_end {
        let warning = "png: the file lacks its end marker, but all of its pixels are there";
        raw.warnings.push(warning.to_owned());
    }
    if !survey.damaged.is_empty() {
        let kinds = survey.damaged.join(", ");
        raw.warnings
            .push(format!("png: damaged chunks were ignored ({kinds})"));
    }
    raw.orientation = orient::of(survey.exif.as_deref(), survey.xmp.as_deref());
    Ok(raw)
}

/// The decoder reports a huge header as a memory error; this message names the flag.
fn check_header(bytes: &[u8], options: &DecodeOptions) -> Result<()> {
    let kind = bytes.get(SIGNATURE + 4..SIGNATURE + 8);
    ensure!(
        kind != Some(b"CgBI"),
        "an iOS-optimised PNG is not supported; restore it with `xcrun pngcrush -revert-iphone-optimizations`, or save it as PNG or JPEG on a Mac or iPhone"
    );
    let (Some(width), Some(height)) = (number(bytes, 16), number(bytes, 20)) else {
        bail!(Format::Png.empty());
    };
    check_size(width, height, options)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*field))
}

impl<'a> Survey<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let mut survey = Self {
            whole: SIGNATURE,
            ..Self::default()
        };
        while let Some(next) = survey.step(bytes) {
            survey.whole = next;
        }
        survey
    }

    /// Reads the chunk after the last complete one; returns its end if more may follow.
    fn step(&mut self, bytes: &'a [u8]) -> Option<usize> {
        let at = self.whole;
        let length = number(bytes, at)? as usize;
        let kind = bytes.get(at + 4..at + 8)?;
        let contents = at + 8;
        let end = contents.checked_add(length)?;
        let (Some(body), Some(checksum)) = (bytes.get(contents..end), number(bytes, end)) else {
            if kind == b"IDAT" {
                self.rest = bytes.get(contents..).unwrap_or_default();
                self.rest = self.rest.get(..length).unwrap_or(self.rest);
            }
            return None;
        };
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        // Checksums of critical chunks, whose type begins with a capital, are the decoder's task.
        let is_optional = kind.first().is_some_and(u8::is_ascii_lowercase);
        let is_end = kind == b"IEND";
        if (is_optional || is_end) && crc32fast::hash(&bytes[at + 4..end]) != checksum {
            if is_end {
                return None;
            }
            let kind = String::from_utf8_lossy(kind).into_owned();
            if self.damaged.len() < NAMED_KINDS && !self.damaged.contains(&kind) {
                self.damaged.push(kind);
            }
        } else if is_end {
            self.has_end = true;
            return None;
        } else {
            self.add(kind, body);
        }
        Some(end + 4)
    }

    fn add(&mut self, kind: &[u8], body: &'a [u8]) {
        if kind == b"eXIf" {
            // Takes precedence over text chunks, wherever it is.
            self.exif = Some(Cow::Borrowed(body));
        } else if let Some((key, text)) = text(kind, body) {
            let is_first = self.exif.is_none();
            match key {
                b"XML:com.adobe.xmp" => self.xmp = Some(text),
                b"Raw profile type xmp" => {
                    self.xmp = profile(&text).map(Cow::Owned).or(self.xmp.take());
                }
                // ImageMagick's names; the second of files that came from JPEG, which may hold XMP.
                b"Raw profile type exif" | b"Raw profile type APP1" if is_first => {
                    let data = profile(&text).filter(|data| !data.starts_with(b"http"));
                    self.exif = data.map(Cow::Owned);
                }
                _ => {}
            }
        }
    }

    /// The file up to where it is cut off, with an end added.
    fn mended(&self, bytes: &[u8]) -> Vec<u8> {
        let whole = bytes.get(..self.whole).unwrap_or(bytes);
        let mut mended = Vec::with_capacity(whole.len() + self.rest.len() + 2 * FRAME);
        mended.extend_from_slice(whole);
        if !self.rest.is_empty() {
            append(&mut mended, b"IDAT", self.rest);
        }
        append(&mut mended, b"IEND", b"");
        mended
    }
}

fn append(file: &mut Vec<u8>, kind: &[u8; 4], body: &[u8]) {
    file.extend_from_slice(&(body.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend_from_slice(kind);
    file.extend_from_slice(body);
    let checksum = crc32fast::hash(&file[start..]);
    file.extend_from_slice(&checksum.to_be_bytes());
}

/// The keyword and the text of one of the three kinds of text chunks.
fn text<'a>(kind: &[u8], body: &'a [u8]) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
    let (key, rest) = until_zero(body)?;
    let is_wanted = key.starts_with(b"Raw profile type ") || key == b"XML:com.adobe.xmp";
    let text = match (kind, rest) {
        _ if !is_wanted => return None,
        (b"tEXt", text) => Cow::Borrowed(text),
        (b"zTXt", [0, packed @ ..]) => Cow::Owned(unpack(packed)),
        (b"iTXt", [is_packed, _, rest @ ..]) => {
            let (_, rest) = until_zero(rest)?; // the language
            let (_, text) = until_zero(rest)?; // the translated keyword
            if *is_packed == 1 {
                Cow::Owned(unpack(text))
            } else {
                Cow::Borrowed(text)
            }
        }
        _ => return None,
    };
    Some((key, text))
}

fn until_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// As much as can be decompressed: damaged metadata is not a reason to refuse an image.
fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = ZlibDecoder::new(packed)
        .take(TEXT_BYTES)
        .read_to_end(&mut text);
    text
}

/// ImageMagick's format for a profile in text: an empty line, its name, its length, then its bytes
/// as hexadecimal digits over many lines.
fn profile(text: &[u8]) -> Option<Vec<u8>> {
    let mut lines = text.splitn(4, |byte| *byte == b'\n');
    let digits = lines.nth(3)?;
    let mut digits = digits
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::new();
    while let (Some(high), Some(low)) = (digits.next(), digits.next()) {
        bytes.push((high? * 16 + low?) as u8);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use image::metadata::Orientation;

    use super::*;

    const EXIF: &[u8] = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

    /// A PNG of one black pixel, with these chunks before and after the pixel.
    fn file(before: &[(&[u8; 4], Vec<u8>)], after: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1A\n".to_vec();
        append(
            &mut bytes,
            b"IHDR",
            &[0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0],
        );
        let add = |bytes: &mut Vec<u8>, chunks: &[(&[u8; 4], Vec<u8>)]| {
            chunks
                .iter()
                .for_each(|(kind, body)| append(bytes, kind, body));
        };
        add(&mut bytes, before);
        append(&mut bytes, b"IDAT", &packed(&[0, 0]));
        add(&mut bytes, after);
        append(&mut bytes, b"IEND", b"");
        bytes
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        let level = flate2::Compression::default();
        let mut encoder = flate2::read::ZlibEncoder::new(bytes, level);
        encoder.read_to_end(&mut packed).unwrap();
        packed
    }

    fn digits(name: &str, bytes: &[u8]) -> Vec<u8> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let (first, second) = digits.split_at(digits.len() / 2);
        format!("\n{name}\n{:8}\n{first}\n{second}\n", bytes.len()).into_bytes()
    }

    fn join(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    #[test]
    fn orientation_is_found_wherever_programs_put_it() {
        let raw = digits("exif", EXIF);
        let xmp: &[u8] = b"<x tiff:Orientation=\"6\"/>";
        let cases: [(&[u8; 4], Vec<u8>); 8] = [
            (b"eXIf", EXIF[6..].to_vec()),
            (b"eXIf", EXIF.to_vec()),
            (b"tEXt", join(&[b"Raw profile type exif\0", &raw])),
            (b"tEXt", join(&[b"Raw profile type APP1\0", &raw])),
            (
                b"zTXt",
                join(&[b"Raw profile type exif\0\0", &packed(&raw)]),
            ),
            (b"iTXt", join(&[b"Raw profile type exif\0\0\0\0\0", &raw])),
            (
                b"iTXt",
                join(&[b"Raw profile type exif\0\x01\0\0\0", &packed(&raw)]),
            ),
            (b"iTXt", join(&[b"XML:com.adobe.xmp\0\0\0\0\0", xmp])),
        ];
        for (kind, body) in cases {
            let chunk = [(kind, body)];
            for bytes in [file(&chunk, &[]), file(&[], &chunk)] {
                let raw = decode(&bytes, &DecodeOptions::default()).unwrap();
                assert_eq!(raw.orientation, Orientation::Rotate90, "{kind:?}");
                assert!(raw.warnings.is_empty());
            }
        }
    }

    #[test]
    fn a_missing_end_is_repaired_if_the_pixels_are_there() {
        let whole = file(&[], &[]);
        let strict = DecodeOptions {
            strict: true,
            ..DecodeOptions::default()
        };
        // Within the checksum of the pixels' chunk, and within its own checksum.
        for cut in 1..=16 {
            let part = &whole[..whole.len() - cut];
            let raw = decode(part, &DecodeOptions::default()).unwrap();
            assert_eq!(raw.warnings.len(), 1, "{cut}");
            assert!(decode(part, &strict).is_err(), "{cut}");
        }
        let said = |cut: usize| decode(&whole[..whole.len() - cut], &DecodeOptions::default());
        let error = said(27).err().unwrap().to_string();
        assert!(
            error.contains("ends before the image is complete"),
            "{error}"
        );
        let trailing = join(&[&whole, b"more"]);
        let raw = decode(&trailing, &strict).unwrap();
        assert!(raw.warnings.is_empty());
    }

    #[test]
    fn damage_outside_the_pixels_is_a_warning() {
        let mut bytes = file(&[(b"tEXt", b"Comment\0hello".to_vec())], &[]);
        let at = bytes.windows(5).position(|part| part == b"hello").unwrap();
        bytes[at] = b'j';
        let raw = decode(&bytes, &DecodeOptions::default()).unwrap();
        assert!(raw.warnings[0].contains("(tEXt)"), "{:?}", raw.warnings);
    }

    #[test]
    fn damaged_chunk_types_are_named_once_and_only_some() {
        let kinds: [&[u8; 4]; 8] = [
            b"aAAa", b"aAAa", b"bAAa", b"cAAa", b"dAAa", b"eAAa", b"fAAa", b"gAAa",
        ];
        let mut bytes = file(&kinds.map(|kind| (kind, b"hello".to_vec())), &[]);
        let at = |bytes: &[u8]| bytes.windows(5).position(|part| part == b"hello");
        while let Some(at) = at(&bytes) {
            bytes[at] = b'j';
        }
        let raw = decode(&bytes, &DecodeOptions::default()).unwrap();
        let warning = &raw.warnings[0];
        assert!(
            warning.ends_with("(aAAa, bAAa, cAAa, dAAa, eAAa)"),
            "{warning}"
        );
    }

    #[test]
    fn a_broken_profile_does_not_hide_good_xmp() {
        let xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation=\"6\"/>".to_vec();
        let broken = b"Raw profile type xmp\0nothing".to_vec();
        let bytes = file(&[(b"iTXt", xmp), (b"tEXt", broken)], &[]);
        let raw = decode(&bytes, &DecodeOptions::default()).unwrap();
        assert_eq!(raw.orientation, Orientation::Rotate90);
    }

    #[test]
    fn apples_variant_is_named() {
        let mut bytes = b"\x89PNG\r\n\x1A\n".to_vec();
        append(&mut bytes, b"CgBI", b"P\0 \x02");
        append(&mut bytes, b"IHDR", &[0; 13]);
        let error = decode(&bytes, &DecodeOptions::default()).err().unwrap();
        assert!(error.to_string().contains("iOS-optimised"), "{error}");
    }
}
