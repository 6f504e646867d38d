//! The supported formats, and their magic numbers.

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
}
