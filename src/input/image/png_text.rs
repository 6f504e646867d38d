//! The text chunks of a PNG, in which programs keep EXIF and XMP data.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::ZlibDecoder;

/// Maximum decompressed size of all text chunks that matter. EXIF data have at most 64 KB in JPEG,
/// and a profile writes each byte as two digits.
pub(super) const TEXT_BYTES: u64 = 4 << 20;

/// The keyword and the text of one of the three kinds of text chunks.
pub(super) fn text<'a>(
    kind: &[u8],
    body: &'a [u8],
    unpacked: &mut u64,
) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
    let (key, rest) = until_zero(body)?;
    let is_wanted = key.starts_with(b"Raw profile type ") || key == b"XML:com.adobe.xmp";
    let text = match (kind, rest) {
        _ if !is_wanted => return None,
        (b"tEXt", text) => Cow::Borrowed(text),
        (b"zTXt", [0, packed @ ..]) => Cow::Owned(unpack(packed, unpacked)),
        (b"iTXt", [is_packed, _, rest @ ..]) => {
            let (_, rest) = until_zero(rest)?; // the language
            let (_, text) = until_zero(rest)?; // the translated keyword
            if *is_packed == 1 {
                Cow::Owned(unpack(text, unpacked))
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

/// As much as can be decompressed: damaged metadata is not a reason to refuse an image. `unpacked`
/// counts the bytes of all texts, of which a file may have thousands.
fn unpack(packed: &[u8], unpacked: &mut u64) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = ZlibDecoder::new(packed)
        .take(TEXT_BYTES.saturating_sub(*unpacked))
        .read_to_end(&mut text);
    *unpacked += text.len() as u64;
    text
}

/// ImageMagick's format for a profile in text: an empty line, its name, its length, then its bytes
/// as hexadecimal digits over many lines.
pub(super) fn profile(text: &[u8]) -> Option<Vec<u8>> {
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
