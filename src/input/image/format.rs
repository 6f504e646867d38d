//! The supported formats with their magic numbers, and the messages about files of them that cannot
//! be decoded. Decoders' own messages mean nothing to the user, so they are not shown.

use anyhow::{Error, anyhow};

use super::raw;

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
    Heic,
    Avif,
    Jxl,
    /// A camera's raw file, of which a preview is read.
    Raw,
}

impl Format {
    /// The format that the first bytes of a file indicate, if there is a decoder for it.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        Self::indicated(bytes).filter(|format| format.has_decoder())
    }

    /// The same for a whole file: most cameras' raw files begin as TIFF files do.
    pub(super) fn of_file(bytes: &[u8]) -> Option<Self> {
        match Self::of(bytes) {
            Some(Self::Tiff) if raw::is_raw_tiff(bytes) => Some(Self::Raw),
            format => format,
        }
    }

    /// Whether this build has a decoder for the format.
    fn has_decoder(self) -> bool {
        match self {
            Self::Heic => cfg!(feature = "heic"),
            Self::Avif => cfg!(feature = "avif"),
            Self::Jxl => cfg!(feature = "jxl"),
            _ => true,
        }
    }

    /// What a file of a format is whose decoder this build lacks, and advice.
    pub(super) fn left_out(self) -> (&'static str, &'static str) {
        match self {
            Self::Avif => (
                "an AVIF image",
                "build longclip with `--features avif`, or convert it first, for example with \
                 `avifdec FILE OUT.png`",
            ),
            Self::Jxl => (
                "a JPEG XL image",
                "build longclip with `--features jxl`, or convert it first, for example with `djxl \
                 FILE OUT.png`",
            ),
            _ => (
                "a HEIC image",
                "build longclip with `--features heic`, or convert it first, for example with \
                 `heif-convert FILE OUT.png`",
            ),
        }
    }

    /// The same, whether there is a decoder or not.
    pub(super) fn indicated(bytes: &[u8]) -> Option<Self> {
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
            _ if bytes.starts_with(JXL) || bytes.starts_with(JXL_CONTAINER) => Some(Self::Jxl),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => of_brands(bytes),
            _ if RAW.iter().any(|start| bytes.starts_with(start)) => Some(Self::Raw),
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
            Self::Heic => "heic",
            Self::Avif => "avif",
            Self::Jxl => "jxl",
            Self::Raw => "raw",
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
            Self::Heic => "HEIC",
            Self::Avif => "AVIF",
            Self::Jxl => "JPEG XL",
            Self::Raw => "RAW",
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

/// How JPEG XL begins, alone and in a container.
pub(super) const JXL: &[u8] = b"\xFF\x0A";
const JXL_CONTAINER: &[u8] = b"\0\0\0\x0CJXL \r\n\x87\n";

/// How cameras' raw files begin that are not quite TIFF files: Olympus, Panasonic, Fujifilm.
const RAW: &[&[u8]] = &[
    b"IIRO\x08\0\0\0",
    b"IIRS\x08\0\0\0",
    b"MMOR\0\0\0\x08",
    b"IIU\0\x08\0\0\0",
    b"IIU\0\x18\0\0\0",
    b"FUJIFILMCCD-RAW ",
];

/// The still images among the files that begin with a box of brands: the first says what the file
/// is, or that the others do.
fn of_brands(bytes: &[u8]) -> Option<Format> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    let (brands, _) = bytes.get(8..length.min(bytes.len()))?.as_chunks::<4>();
    // The second is a version.
    let mut others = brands.iter().skip(2);
    let is_avif = |brand: &[u8; 4]| matches!(brand, b"avif" | b"avis");
    match brands.first()? {
        b"crx " => Some(Format::Raw),
        b"mif1" | b"mif2" | b"msf1" if others.any(is_avif) => Some(Format::Avif),
        b"mif1" | b"mif2" | b"msf1" => Some(Format::Heic),
        [b'h', b'e', b'i' | b'v', b'c' | b'x' | b'm' | b's'] => Some(Format::Heic),
        brand => is_avif(brand).then_some(Format::Avif),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_recognised_by_their_first_bytes() {
        let bmp = b"BM....\0\0\0\0....\x28\0\0\0";
        let cases: [(&[u8], Option<Format>); 28] = [
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
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Some(Format::Heic)),
            (b"\0\0\0\x14ftyphevx\0\0\0\0mif1", Some(Format::Heic)),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", Some(Format::Heic)),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", Some(Format::Avif)),
            (b"\0\0\0\x14ftypmif1\0\0\0\0mif1avif", Some(Format::Heic)),
            (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", Some(Format::Avif)),
            (b"\0\0\0\x08ftypisom\0\0\0\0", None),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", Some(Format::Raw)),
            (b"\0\0\0\x18ftypqt  \0\0\0\0qt  heic", None),
            (b"\xFF\x0A\x01", Some(Format::Jxl)),
            (b"IIU\0\x18\0\0\0", Some(Format::Raw)),
            (b"FUJIFILMCCD-RAW 0201", Some(Format::Raw)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Format::indicated(bytes), expected, "{bytes:?}");
        }
    }
}
