//! The supported formats with their magic numbers, and the messages about files that cannot be
//! decoded. Decoders' own messages mean nothing to the user, so they are not shown.

use anyhow::{Error, anyhow};

/// An image format with a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Jpeg,
    Png,
    Gif,
    WebP,
    Bmp,
    Tiff,
    Pnm,
}

impl Format {
    /// The format that the first bytes of a file indicate.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Self::WebP),
            // 42 is TIFF, 43 BigTIFF.
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            _ if is_bmp(bytes) => Some(Self::Bmp),
            _ if is_pnm(bytes) => Some(Self::Pnm),
            _ => None,
        }
    }

    /// The name in records and warnings.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Gif => "gif",
            Self::WebP => "webp",
            Self::Bmp => "bmp",
            Self::Tiff => "tiff",
            Self::Pnm => "pnm",
        }
    }

    /// The name in sentences.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Pnm => "PNM",
        }
    }

    /// The error if the file is shorter than its contents need: another copy may be complete.
    pub(super) fn cut(self) -> Error {
        anyhow!(
            "the {} file ends before the image is complete; fetch or copy it again",
            self.title()
        )
    }

    /// The error if the file ends even earlier.
    pub(super) fn empty(self) -> Error {
        anyhow!(
            "not an image: the {} file ends before any image data; fetch or copy it again",
            self.title()
        )
    }

    /// The error if the contents are inconsistent: another copy may be intact.
    pub(super) fn damaged(self) -> Error {
        anyhow!(
            "the {} data is damaged; fetch or copy the file again",
            self.title()
        )
    }

    /// The error if the file cannot hold the pixels that it claims, however well they compress.
    pub(super) fn hollow(self, width: u32, height: u32) -> Error {
        anyhow!(
            "the {} file is far too short for its {width} x {height} pixels; fetch or copy it again",
            self.title()
        )
    }

    /// The error if a header requests more memory than its image needs.
    pub(super) fn oversized(self) -> Error {
        anyhow!(
            "the {} file requests more memory than an image of its size needs; save the image as \
             PNG or JPEG",
            self.title()
        )
    }
}

/// The error if the file is intact but its kind is not supported: another copy does not help.
pub(super) fn unsupported(what: &str) -> Error {
    anyhow!("{what} is not supported; save the image as PNG or baseline JPEG")
}

/// "BM" alone begins too many texts: the size of the second header, at byte 14, must be a common
/// one too.
fn is_bmp(bytes: &[u8]) -> bool {
    matches!(bytes, [b'B', b'M', ..])
        && matches!(
            bytes.get(14..18),
            Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
        )
}

/// `P1` to `P7`, white space, then what may follow in a PNM header: a digit, a comment, or a
/// keyword of `P7`.
fn is_pnm(bytes: &[u8]) -> bool {
    let [b'P', kind @ b'1'..=b'7', rest @ ..] = bytes else {
        return false;
    };
    let next = rest.iter().find(|b| !b.is_ascii_whitespace());
    let goes_on = match next {
        Some(b'#') => true,
        Some(b) if *kind == b'7' => b.is_ascii_uppercase(),
        Some(b) => b.is_ascii_digit(),
        None => false,
    };
    goes_on && rest.first().is_some_and(u8::is_ascii_whitespace)
}

/// A signature: (offset, bytes, what it is, what to do).
type Magic = (usize, &'static [u8], &'static str, &'static str);

const CONVERT: &str = "convert it to JPEG or PNG first";
const FRAME: &str = "take a frame out of it first, for example with ffmpeg";

/// Image formats without a decoder here.
#[rustfmt::skip]
const IMAGES: &[Magic] = &[
    (4, b"ftypheic", "a HEIC image", CONVERT),
    (4, b"ftypheix", "a HEIC image", CONVERT),
    (4, b"ftyphev", "a HEIC image", CONVERT),
    (4, b"ftypheim", "a HEIC image", CONVERT),
    (4, b"ftypmif1", "a HEIF image", CONVERT),
    (4, b"ftypmsf1", "a HEIF image", CONVERT),
    (4, b"ftypavi", "an AVIF image", CONVERT),
    (0, b"\xFF\x0A", "a JPEG XL image", CONVERT),
    (0, b"\0\0\0\x0CJXL \r\n\x87\n", "a JPEG XL image", CONVERT),
    (0, b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 image", CONVERT),
    (0, b"\xFF\x4F\xFF\x51", "a JPEG 2000 image", CONVERT),
    (0, b"8BPS", "a Photoshop document", CONVERT),
    (0, b"v/1\x01", "an OpenEXR image", CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR image", CONVERT),
    (0, b"qoif", "a QOI image", CONVERT),
    (0, b"DDS ", "a DirectDraw image", CONVERT),
    (0, b"\0\0\x01\0", "a Windows icon", CONVERT),
    (0, b"\x0A\x05\x01\x08", "a PCX image", CONVERT),
    (0, b"gimp xcf", "a GIMP document", CONVERT),
];

/// Other files that occur among images.
#[rustfmt::skip]
const OTHERS: &[Magic] = &[
    (0, b"%PDF", "a PDF document", "render a page to PNG first"),
    (0, b"%!PS", "a PostScript document", "render a page to PNG first"),
    (4, b"ftyp", "a video", FRAME),
    (4, b"moov", "a video", FRAME),
    (8, b"AVI ", "a video", FRAME),
    (0, b"\x1A\x45\xDF\xA3", "a video", FRAME),
    (0, b"FLV\x01", "a video", FRAME),
    (0, b"\0\0\x01\xBA", "a video", FRAME),
    (8, b"WAVE", "a sound", "pass an image"),
    (0, b"OggS", "a sound or video", "pass an image"),
    (0, b"ID3", "a sound", "pass an image"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it first"),
    (0, b"\x1F\x8B", "a gzip file", "unpack it first"),
    (0, b"7z\xBC\xAF", "a 7z archive", "unpack it first"),
    (0, b"Rar!", "a rar archive", "unpack it first"),
    (257, b"ustar", "a tar archive", "unpack it first"),
    (0, b"\x89PNG\n\x1A\n", "a PNG that was transferred as text", "transfer it again in binary mode"),
    (0, b"version https://git-lfs", "a Git LFS pointer", "run `git lfs pull` in its repository"),
];

/// Bytes examined to recognise text.
const EXAMINED_BYTES: usize = 1024;

/// Whether a file that begins with `first_bytes` is an image by its content: one that can be
/// decoded, or a still image whose format is recognised. 32 bytes are enough.
pub(crate) fn looks_like_image(first_bytes: &[u8]) -> bool {
    // Two bytes of zeros and ones are not evidence in a folder of arbitrary files.
    let is_telling = |magic: &&Magic| magic.1.len() > 4 || magic.1 == b"8BPS";
    Format::of(first_bytes).is_some()
        || IMAGES
            .iter()
            .filter(is_telling)
            .any(|magic| matches(magic, first_bytes))
}

/// The message that refuses a file of an unsupported format, with advice.
pub(super) fn refusal(bytes: &[u8]) -> String {
    let known = IMAGES.iter().chain(OTHERS).find(|m| matches(m, bytes));
    let (what, advice) = match known {
        Some((.., what, advice)) => (*what, *advice),
        None => guess(bytes),
    };
    let verdict = if IMAGES.iter().any(|m| m.2 == what) {
        "an image format that is not supported"
    } else {
        "not an image"
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
        ("an SVG drawing", "render it to PNG first")
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
            "supported formats are JPEG, PNG, GIF, WebP, BMP, TIFF and PNM",
        )
    }
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
    fn formats_are_recognised_by_their_first_bytes() {
        let bmp = b"BM....\0\0\0\0....\x28\0\0\0";
        let cases: [(&[u8], Option<Format>); 16] = [
            (b"\xFF\xD8\xFF\xE0", Some(Format::Jpeg)),
            (b"\xFF\xD8", None),
            (b"\x89PNG\r\n\x1A\n", Some(Format::Png)),
            (b"GIF89a", Some(Format::Gif)),
            (b"GIF88a", None),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some(Format::WebP)),
            (b"RIFF\0\0\0\0AVI ", None),
            (b"II*\0", Some(Format::Tiff)),
            (b"MM\0\x2B", Some(Format::Tiff)),
            (bmp, Some(Format::Bmp)),
            (b"BMW makes cars and motor cycles", None),
            (b"P6\n3 4 255\n", Some(Format::Pnm)),
            (b"P5 # by hand", Some(Format::Pnm)),
            (b"P7\nWIDTH 3", Some(Format::Pnm)),
            (b"P1 is the first", None),
            (b"P64 5", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Format::of(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn refusals_say_what_the_file_is() {
        #[rustfmt::skip]
        let cases: [(&[u8], &str); 15] = [
            (b"", "not an image: this looks like an empty file"),
            (b"\0\0\0\x18ftypheic\0\0", "supported: this looks like a HEIC image; convert"),
            (b"\0\0\0\x18ftypavif\0\0", "an AVIF image"),
            (b"\0\0\0\x18ftypisom\0\0", "not an image: this looks like a video"),
            (b"\xFF\x0A\x01", "a JPEG XL image"),
            (b"%PDF-1.7", "a PDF document"),
            (b"<?xml version='1.0'?><svg xmlns='x'>", "an SVG drawing"),
            (b"\n<!DOCTYPE HTML><p>404", "a web page"),
            (b"BMW makes cars", "text; pass an image"),
            ("Köln\u{00e4}".as_bytes().split_last().unwrap().1, "text"),
            (b"\0\0\0\0\0\0\0\0\0", "nothing but zeros"),
            (b"\x01\x02\x03\xFE", "data of an unknown kind"),
            (b"PK\x03\x04", "a zip archive"),
            (b"\x89PNG\n\x1A\n", "transferred as text"),
            (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ];
        for (bytes, expected) in cases {
            let said = refusal(bytes);
            assert!(said.contains(expected), "{bytes:?}: {said}");
            assert!(!said.contains('\n'));
        }
    }

    #[test]
    fn a_walk_accepts_images_by_content() {
        let cases: [(&[u8], bool); 6] = [
            (b"\xFF\xD8\xFF\xE0\0\x10JFIF", true),
            (b"\0\0\0\x18ftypheic\0\0\0\0", true),
            (b"\0\0\0\x18ftypisom\0\0\0\0", false),
            (b"\0\0\x01\0\x01\0", false),
            (b"plain text", false),
            (b"", false),
        ];
        for (bytes, expected) in cases {
            assert_eq!(looks_like_image(bytes), expected, "{bytes:?}");
        }
    }
}
