//! What a file is that has no decoder here, and what to do with it.

use super::format::{Format, JXL};

/// A signature: (offset, bytes, what it is, what to do).
type Magic = (usize, &'static [u8], &'static str, &'static str);

const CONVERT: &str = "convert it to PNG first, for example with `magick FILE OUT.png`";
const FIRST: &str = "convert it to PNG first, for example with `magick 'FILE[0]' OUT.png`";
const FRAME: &str =
    "take frames out of it first, for example with `ffmpeg -i FILE -vf fps=1 frame-%04d.png`";
const PAGES: &str = "render its pages first, for example with `pdftoppm -r 150 -png FILE page`";
const DRAWING: &str = "render it first, for example with `rsvg-convert -o OUT.png FILE`";
const POSTSCRIPT: &str =
    "render it first, for example with `gs -sDEVICE=png16m -r150 -o page-%d.png FILE`";
const DICOM: &str = "convert it first, for example with `dcmj2pnm --write-png FILE OUT.png`";

/// Image formats without a decoder here.
#[rustfmt::skip]
const IMAGES: &[Magic] = &[
    (0, b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 image", CONVERT),
    (0, b"\xFF\x4F\xFF\x51", "a JPEG 2000 image", CONVERT),
    (0, b"8BPS", "a Photoshop document", FIRST),
    (0, b"v/1\x01", "an OpenEXR image", CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR image", CONVERT),
    (0, b"qoif", "a QOI image", CONVERT),
    (0, b"DDS ", "a DirectDraw image", CONVERT),
    (0, b"\0\0\x01\0", "a Windows icon", FIRST),
    (0, b"\x0A\x05\x01\x08", "a PCX image", CONVERT),
    (0, b"gimp xcf", "a GIMP document", CONVERT),
    (0, b"FOVb", "a Sigma raw file", "develop it to TIFF or JPEG first"),
    (128, b"DICM", "a DICOM file", DICOM),
];

/// Other files that occur among images.
#[rustfmt::skip]
const OTHERS: &[Magic] = &[
    (0, b"%PDF", "a PDF document", PAGES),
    (0, b"%!PS", "a PostScript document", POSTSCRIPT),
    (0, b"\xC5\xD0\xD3\xC6", "a PostScript document", POSTSCRIPT),
    (4, b"ftyp", "a video", FRAME),
    (4, b"moov", "a video", FRAME),
    (8, b"AVI ", "a video", FRAME),
    (0, b"\x1A\x45\xDF\xA3", "a video", FRAME),
    (0, b"FLV\x01", "a video", FRAME),
    (0, b"\0\0\x01\xBA", "a video", FRAME),
    (0, b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", "a video", FRAME),
    (
        0,
        b"YUV4MPEG2 ",
        "a Y4M video",
        "pass --frames all to classify or embed its frames",
    ),
    (8, b"WAVE", "a sound", "pass an image"),
    (0, b"OggS", "a sound or video", "pass an image"),
    (0, b"ID3", "a sound", "pass an image"),
    (0, b"PK\x03\x04", "a zip archive", "let its name end in .zip, or unpack it"),
    (0, b"\x1F\x8B", "a gzip file", "unpack it; a tar archive needs a name in .tar.gz, or --tar on stdin"),
    (0, b"\x28\xB5\x2F\xFD", "a zstd file", "unpack it; a tar archive needs a name in .tar.zst, or --tar on stdin"),
    (0, b"\xFD7zXZ\0", "an xz file", "unpack it; of archives .tar, .tar.gz, .tar.zst and .zip are read"),
    (0, b"BZh", "a bzip2 file", "unpack it; of archives .tar, .tar.gz, .tar.zst and .zip are read"),
    (0, b"PAR1", "a Parquet file", "let its name end in .parquet"),
    (0, b"7z\xBC\xAF", "a 7z archive", "unpack it first"),
    (0, b"Rar!", "a rar archive", "unpack it first"),
    (257, b"ustar", "a tar archive", "let its name end in .tar, or pass --tar on stdin"),
    (0, b"\x89PNG\n\x1A\n", "a PNG that was transferred as text", "transfer it again in binary mode"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull` in its repository"),
];

const UNSUPPORTED: &str = "an image format that is not supported";

/// Bytes examined to recognise text.
const EXAMINED_BYTES: usize = 1024;

/// Whether a file that begins with `first_bytes` is an image by its content: one that can be
/// decoded, or a still image whose format is recognised. 32 bytes are enough.
pub(crate) fn looks_like_image(first_bytes: &[u8]) -> bool {
    // Two bytes of zeros and ones are not evidence in a folder of arbitrary files.
    let is_telling = |magic: &&Magic| magic.1.len() > 4 || magic.1 == b"8BPS";
    let is_bare_jxl = first_bytes.starts_with(JXL);
    Format::indicated(first_bytes).is_some() && !is_bare_jxl
        || IMAGES
            .iter()
            .filter(is_telling)
            .any(|magic| matches(magic, first_bytes))
}

/// The message that refuses a file of an unsupported format, with advice.
pub(super) fn of(bytes: &[u8]) -> String {
    let is = |magics: &'static [Magic]| magics.iter().find(|m| matches(m, bytes));
    const NONE: &str = "not an image";
    let (verdict, (what, advice)) = match (Format::indicated(bytes), is(IMAGES), is(OTHERS)) {
        (Some(format), ..) => (UNSUPPORTED, format.left_out()),
        (_, Some((.., what, advice)), _) => (UNSUPPORTED, (*what, *advice)),
        (_, _, Some((.., what, advice))) => (NONE, (*what, *advice)),
        _ if is_tga(bytes) => (UNSUPPORTED, ("a TGA image", CONVERT)),
        _ => (NONE, guess(bytes)),
    };
    format!("{verdict}: this looks like {what}; {advice}")
}

fn matches(magic: &Magic, bytes: &[u8]) -> bool {
    bytes
        .get(magic.0..)
        .is_some_and(|rest| rest.starts_with(magic.1))
}

/// Contents without a magic number.
fn guess(bytes: &[u8]) -> (&'static str, &'static str) {
    let start = &bytes[..bytes.len().min(EXAMINED_BYTES)];
    let text = String::from_utf8_lossy(start).to_ascii_lowercase();
    let begins = |prefix: &str| {
        text.trim_start_matches('\u{feff}')
            .trim_start()
            .starts_with(prefix)
    };
    if bytes.is_empty() {
        ("an empty file", "fetch or write it again")
    } else if text.contains("<svg") {
        ("an SVG drawing", DRAWING)
    } else if begins("<!doctype html") || begins("<html") || text.contains("<body") {
        (
            "a web page, perhaps the error page of a download",
            "fetch the image again",
        )
    } else if bytes.iter().all(|byte| *byte == 0) {
        ("a file of nothing but zeros", "fetch or copy it again")
    } else if is_text(start) {
        (
            "text",
            "pass an image; for a list of paths use --files-from",
        )
    } else {
        (
            "data of an unknown kind",
            "supported formats are JPEG, PNG, GIF, WebP, BMP, TIFF, PNM, and, if built with them, HEIC, AVIF and JPEG XL",
        )
    }
}

/// TGA has no magic number: a header of 18 bytes that fits an image.
fn is_tga(bytes: &[u8]) -> bool {
    let Some([_, map, kind, map_first @ .., bits, flags]) = bytes.first_chunk::<18>() else {
        return false;
    };
    let [
        _,
        _,
        count,
        count_high,
        map_bits,
        _,
        _,
        _,
        _,
        width,
        width_high,
        height,
        height_high,
    ] = *map_first;
    let has_map = (count, count_high, map_bits) != (0, 0, 0);
    let is_known = match kind {
        1 | 9 => *map == 1 && has_map && *bits == 8,
        2 | 10 => *map == 0 && !has_map && matches!(bits, 15 | 16 | 24 | 32),
        3 | 11 => *map == 0 && !has_map && matches!(bits, 8 | 16),
        _ => false,
    };
    is_known && flags & 0xC0 == 0 && (width | width_high) > 0 && (height | height_high) > 0
}

/// UTF-8 (the last character may be incomplete) without control characters.
fn is_text(start: &[u8]) -> bool {
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_layout = |c: char| matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    !valid.is_empty() && !valid.chars().any(|c| c.is_control() && !is_layout(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_the_file_is() {
        #[rustfmt::skip]
        let cases: [(&[u8], &str); 24] = [
            (b"", "not an image: this looks like an empty file"),
            (b"\0\0\0\x18ftypheic\0\0", "supported: this looks like a HEIC image; build longclip"),
            (b"\0\0\0\x18ftypavif\0\0", "an AVIF image; build longclip with `--features avif`"),
            (b"\0\0\0\x18ftypisom\0\0", "not an image: this looks like a video; take frames"),
            (b"\x1A\x45\xDF\xA3", "a video; take frames out of it first, for example with `ffmpeg -i"),
            (b"RIFF\0\0\0\0AVI ", "a video"),
            (b"\0\0\0\x14ftypqt  \0\0", "a video"),
            (b"YUV4MPEG2 W2", "a Y4M video; pass --frames all"),
            (b"\xFF\x0A\x01", "a JPEG XL image; build longclip with `--features jxl`"),
            (b"%PDF-1.7", "a PDF document; render its pages first, for example with `pdftoppm -r"),
            (b"<?xml version='1.0'?><svg xmlns='x'>", "an SVG drawing; render it first, for example with `rsvg"),
            (b"8BPS\0\x01", "supported: this looks like a Photoshop document; convert it"),
            (&[&[0; 128], &b"DICM"[..]].concat(), "supported: this looks like a DICOM file; convert"),
            (b"\0\0\x0A\0\0\0\0\0\0\0\0\0\x05\0\x05\0\x18\x20", "a TGA image; convert"),
            (b"\n<!DOCTYPE HTML><p>404", "a web page"),
            (b"BMW makes cars", "text; pass an image"),
            ("Köln\u{00e4}".as_bytes().split_last().unwrap().1, "text"),
            (b"\0\0\0\0\0\0\0\0\0", "nothing but zeros"),
            (b"\x01\x02\x03\xFE", "data of an unknown kind"),
            (b"PK\x03\x04", "let its name end in .zip"),
            (b"PAR1\x15\0", "let its name end in .parquet"),
            (b"\xFD7zXZ\0", "of archives .tar"),
            (b"\x89PNG\n\x1A\n", "transferred as text"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ];
        for (bytes, expected) in cases {
            let said = of(bytes);
            assert!(said.contains(expected), "{bytes:?}: {said}");
            assert!(!said.contains('\n'));
        }
    }

    #[test]
    fn a_walk_accepts_images_by_content() {
        let cases: [(&[u8], bool); 10] = [
            (b"\xFF\xD8\xFF\xE0\0\x10JFIF", true),
            (b"\0\0\0\x18ftypheic\0\0\0\0", true),
            (b"\0\0\0\x18ftypisom\0\0\0\0", false),
            (b"\0\0\0\x18ftypcrx \0\0\0\0", true),
            (b"\0\0\0\x0CJXL \r\n\x87\n", true),
            (b"\xFF\x0A\xFA", false),
            (b"IIRO\x08\0\0\0", true),
            (b"\0\0\x01\0\x01\0", false),
            (b"plain text", false),
            (b"", false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(looks_like_image(bytes), expected, "{bytes:?}");
        }
    }
}
