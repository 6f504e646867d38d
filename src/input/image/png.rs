//! PNG: pixels through the `png` crate, row by row unless they are interlaced; the chunks around
//! them are read first for what the crate ignores: orientation in text chunks or after the pixels, a
//! missing end, and Apple's variant, which is a PNG in name only.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind};

use anyhow::{Result, bail, ensure};
use image::ColorType;
use png::{BitDepth, Decoder, DecodingError, Limits, Reader, Transformations};

use super::format::{Format, unsupported};
use super::png_text::{profile, text};
use super::rows::{Feed, band_bytes};
use super::{DecodeOptions, check_size, orient};

/// Length of the file's signature in bytes.
const SIGNATURE: usize = 8;

/// Bytes of a chunk besides its contents: length and kind before, a checksum after.
const FRAME: usize = 12;

/// Allocation limit of the decoder besides the image itself, in bytes.
pub(super) const SCRATCH_BYTES: usize = 64 << 20;

/// The most bytes that deflate makes of one: two bits repeat up to 258.
const MAX_BYTES_PER_BYTE: u64 = 4 * 258;

/// Maximum number of damaged chunk types that are named.
const NAMED_KINDS: usize = 5;

/// The contents of the chunks other than pixels.
#[derive(Default)]
pub(super) struct Survey<'a> {
    pub(super) exif: Option<Cow<'a, [u8]>>,
    pub(super) xmp: Option<Cow<'a, [u8]>>,
    /// End of the last complete chunk before the end marker.
    whole: usize,
    /// The contents of a chunk of pixels in which the file is cut off.
    rest: &'a [u8],
    pub(super) has_end: bool,
    /// Frames that an animation claims to have; 0 if it is none.
    pub(super) frames: u32,
    /// Bytes of compressed pixels.
    coded: u64,
    /// Bytes of text that were decompressed.
    unpacked: u64,
    /// The first types of ancillary chunks with a wrong checksum.
    damaged: Vec<String>,
}

/// Decodes a PNG file.
pub(super) fn decode(bytes: &[u8], feed: &mut Feed) -> Result<()> {
    check_header(bytes, feed.options)?;
    let survey = Survey::of(bytes);
    if feed.options.strict && !survey.has_end {
        return Err(Format::Png.cut());
    }
    if let (true, Some(kind)) = (feed.options.strict, survey.damaged.first()) {
        bail!("the PNG data is damaged (chunk {kind}); fetch or copy the file again");
    }
    let mended = (!survey.has_end).then(|| survey.mended(bytes));
    // Whatever the decoder reports, the problem with a file without an end is that it is too short.
    let fault = |error| match &mended {
        None => explain(error),
        Some(_) => Format::Png.cut(),
    };
    let mut reader = open(mended.as_deref().unwrap_or(bytes)).map_err(fault)?;
    let (width, height) = reader.info().size();
    let whole = reader.output_buffer_size().unwrap_or(usize::MAX) as u64;
    let coded = (reader.info().raw_row_length() as u64).saturating_mul(u64::from(height));
    ensure!(
        coded / MAX_BYTES_PER_BYTE <= survey.coded,
        Format::Png.hollow(width, height)
    );
    let colour = colour(&reader)?;
    let is_interlaced = reader.info().interlaced;
    let held = if is_interlaced { whole } else { 0 };
    let copied = mended.as_ref().map_or(0, |mended| mended.len() as u64);
    let orientation = orient::of(survey.exif.as_deref(), survey.xmp.as_deref());
    feed.start(
        (width, height),
        orientation,
        held.saturating_add(band_bytes(width, colour.bytes_per_pixel().into()) + copied),
    )?;
    pass_on(&mut reader, colour, feed, fault)?;
    if mended.is_some() {
        let warning = "png: the file lacks its end marker, but all of its pixels are there";
        feed.warn(warning.to_owned());
    }
    if !survey.damaged.is_empty() {
        let kinds = survey.damaged.join(", ");
        feed.warn(format!("png: damaged chunks were ignored ({kinds})"));
    }
    Ok(())
}

/// Passes the pixels on; `fault` explains errors.
fn pass_on(
    reader: &mut Reader<Cursor<&[u8]>>,
    colour: ColorType,
    feed: &mut Feed,
    fault: impl Fn(DecodingError) -> anyhow::Error,
) -> Result<()> {
    let size = reader.info().size();
    if reader.info().interlaced {
        let whole = reader
            .output_buffer_size()
            .ok_or_else(|| Format::Png.oversized())?;
        let mut samples = vec![0; whole];
        reader.next_frame(&mut samples).map_err(fault)?;
        let mut rows = samples.chunks_exact(whole / size.1 as usize);
        return feed.add_each(size, colour, |_, row| {
            row.copy_from_slice(rows.next().ok_or_else(|| Format::Png.damaged())?);
            Ok(())
        });
    }
    feed.add_each(size, colour, |_, row| {
        let read = reader.read_row(row).map_err(&fault)?;
        read.map(|_| ()).ok_or_else(|| Format::Png.damaged())
    })?;
    reader.read_row(&mut []).map_err(fault)?; // checks the end of the pixels
    Ok(())
}

/// The type of the pixels that the decoder gives.
fn colour(reader: &Reader<Cursor<&[u8]>>) -> Result<ColorType> {
    Ok(match reader.output_color_type() {
        (png::ColorType::Grayscale, BitDepth::Sixteen) => ColorType::L16,
        (png::ColorType::GrayscaleAlpha, BitDepth::Sixteen) => ColorType::La16,
        (png::ColorType::Rgb, BitDepth::Sixteen) => ColorType::Rgb16,
        (png::ColorType::Rgba, BitDepth::Sixteen) => ColorType::Rgba16,
        (png::ColorType::Grayscale, _) => ColorType::L8,
        (png::ColorType::GrayscaleAlpha, _) => ColorType::La8,
        (png::ColorType::Rgb, _) => ColorType::Rgb8,
        (png::ColorType::Rgba, _) => ColorType::Rgba8,
        (png::ColorType::Indexed, _) => bail!(unsupported("this kind of PNG")), // expanded
    })
}

/// Reads the chunks up to the pixels, except texts and profiles, which may unpack to any size.
fn open(bytes: &[u8]) -> Result<Reader<Cursor<&[u8]>>, DecodingError> {
    let limits = Limits {
        bytes: SCRATCH_BYTES,
    };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes, and samples of fewer than 8 bits.
    decoder.set_transformations(Transformations::EXPAND);
    decoder.read_info()
}

/// What is wrong with the file.
pub(super) fn explain(error: DecodingError) -> anyhow::Error {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Format::Png.cut()
        }
        DecodingError::LimitsExceeded => Format::Png.oversized(),
        _ => Format::Png.damaged(),
    }
}

/// The decoder reports a huge header as a memory error; this message names the flag.
pub(super) fn check_header(bytes: &[u8], options: &DecodeOptions) -> Result<()> {
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
    pub(super) fn of(bytes: &'a [u8]) -> Self {
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
                self.coded += self.rest.len() as u64;
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
        if kind == b"IDAT" {
            self.coded += body.len() as u64;
        } else if kind == b"acTL" && self.coded == 0 {
            self.frames = number(body, 0).unwrap_or(0);
        } else if kind == b"eXIf" {
            // Takes precedence over text chunks, wherever it is.
            self.exif = Some(Cow::Borrowed(body));
        } else if let Some((key, text)) = text(kind, body, &mut self.unpacked) {
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use image::metadata::Orientation;

    use super::super::png_text::TEXT_BYTES;
    use super::super::rows::{Frame, Rows};
    use super::*;

    /// Only how the image is turned.
    struct Turn(Orientation);

    impl Rows for Turn {
        fn bytes(&self, _: &Frame) -> u64 {
            0
        }

        fn start(&mut self, frame: &Frame) {
            self.0 = frame.orientation;
        }

        fn add(&mut self, _: &[u8]) {}
    }

    struct Read {
        orientation: Orientation,
        warnings: Vec<String>,
    }

    fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<Read> {
        let mut turn = Turn(Orientation::NoTransforms);
        let mut feed = Feed::new(Format::Png, options, &mut turn);
        super::decode(bytes, &mut feed)?;
        let warnings = feed.finish()?.warnings;
        Ok(Read {
            orientation: turn.0,
            warnings,
        })
    }

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
    fn texts_are_decompressed_up_to_a_limit_in_all() {
        let long = packed(&vec![b'0'; TEXT_BYTES as usize / 3]);
        let text = join(&[b"Raw profile type exif\0\0", &long]);
        let chunks: Vec<_> = (0..9).map(|_| (b"zTXt", text.clone())).collect();
        let bytes = file(&chunks, &[]);
        assert_eq!(Survey::of(&bytes).unpacked, TEXT_BYTES);
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
