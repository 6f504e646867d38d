//! Detection of file formats by the first bytes, never by the name.

/// The detected format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Safetensors,
    Zip,
    TorchLegacy,
    /// Not a weight file; a description of what it looks like.
    Other(&'static str),
}

/// `torch.save`'s magic number as its pickle stores it: ten bytes, little endian.
pub(super) const LEGACY_MAGIC: [u8; 10] =
    [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Magic bytes of files passed by mistake, and their descriptions.
const OTHERS: &[(usize, &[u8], &str)] = &[
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, not the weights; run `git lfs pull` or download the file itself",
    ),
    (
        0,
        b"GGUF",
        "a GGUF file, which belongs to llama.cpp and clip.cpp",
    ),
    (0, b"GGML", "a GGML file, which belongs to clip.cpp"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it first"),
    (0, b"\xfd7zXZ", "an xz archive; unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it first"),
    (0, b"BZh", "a bzip2 archive; unpack it first"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (
        0,
        b"\x89HDF",
        "an HDF5 file, which Keras and TensorFlow write",
    ),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a Windows program"),
    (0, b"PAR1", "a Parquet table"),
    (
        257,
        b"ustar",
        "a tar archive; unpack it first (PyTorch wrote checkpoints as tar before 0.1.10)",
    ),
];

/// Chooses the reader by the first bytes of a file.
pub(super) fn kind(bytes: &[u8]) -> Kind {
    let at = |offset: usize, magic: &[u8]| {
        bytes
            .get(offset..)
            .is_some_and(|tail| tail.starts_with(magic))
    };
    if at(0, b"PK\x03\x04") || at(0, b"PK\x05\x06") {
        return Kind::Zip;
    }
    if at(0, b"\x80") && is_pickle(bytes) {
        return legacy_or_pickle(bytes);
    }
    if let Some((_, _, name)) = OTHERS.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return Kind::Other(name);
    }
    // A length and the opening brace of a JSON object, perhaps after spaces.
    let header = bytes.get(8..).unwrap_or_default().trim_ascii_start();
    let length = bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
    if header.starts_with(b"{") && length.is_some_and(|n| n < 1 << 40) {
        return Kind::Safetensors;
    }
    Kind::Other(text_or_unknown(bytes))
}

fn is_pickle(bytes: &[u8]) -> bool {
    bytes
        .get(1)
        .is_some_and(|version| (2..=5).contains(version))
}

/// A legacy checkpoint starts with the magic number as a separate pickle, which
/// protocol 4 and later put in a frame.
fn legacy_or_pickle(bytes: &[u8]) -> Kind {
    let mut rest = bytes.get(2..).unwrap_or_default();
    if rest.first() == Some(&0x95) {
        rest = rest.get(9..).unwrap_or_default();
    }
    let magic = rest.strip_prefix(&[0x8a, 10]);
    if magic.is_some_and(|magic| magic.starts_with(&LEGACY_MAGIC)) {
        return Kind::TorchLegacy;
    }
    Kind::Other(
        "a bare Python pickle, not a checkpoint; write it with torch.save or as safetensors",
    )
}

fn text_or_unknown(bytes: &[u8]) -> &'static str {
    let start = bytes.get(..512).unwrap_or(bytes).trim_ascii_start();
    let lower = start.to_ascii_lowercase();
    if bytes.is_empty() {
        "empty; download it again"
    } else if lower.starts_with(b"<!doctype") || lower.starts_with(b"<html") {
        "an HTML page, so the server answered with a web page; download it again"
    } else if lower.starts_with(b"<?xml") {
        "an XML document, so the server answered with an error; download it again"
    } else if lower.starts_with(b"{") || lower.starts_with(b"[") {
        "JSON text; pass the weight file rather than its index or config"
    } else if lower.starts_with(b"\x08") && contains(start, b"pytorch") {
        "an ONNX model; export safetensors or a state dict instead"
    } else if bytes.len() < 16
        || start
            .iter()
            .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
    {
        "text, or too short to be a weight file"
    } else {
        "neither safetensors nor anything torch.save writes"
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        let tar = [vec![b'x'; 257], b"ustar\0".to_vec()].concat();
        let framed = [
            b"\x80\x04\x95\x0d\0\0\0\0\0\0\0\x8a\x0a".as_slice(),
            &LEGACY_MAGIC,
        ]
        .concat();
        let plain = [b"\x80\x02\x8a\x0a".as_slice(), &LEGACY_MAGIC].concat();
        let cases: &[(&[u8], &str)] = &[
            (b"PK\x03\x04....", "Zip"),
            (b"\x02\0\0\0\0\0\0\0{}", "Safetensors"),
            (b"\x04\0\0\0\0\0\0\0  {}", "Safetensors"),
            (&plain, "TorchLegacy"),
            (&framed, "TorchLegacy"),
            (b"\x80\x02}q\x00.", "bare Python pickle"),
            (b"", "empty"),
            (b"\n<!DOCTYPE html><title>404</title>", "HTML"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"\x08\x07\x12\x07pytorch\x1a\x03", "ONNX"),
            (b"\x89PNG\r\n", "PNG"),
            (b"\xff\xd8\xff\xe0", "JPEG"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
            (b"{\"model_type\": \"clip\"}", "JSON"),
            (b"hello", "text"),
            (&tar, "tar"),
            (&[0xde; 64], "neither"),
        ];
        for (bytes, expected) in cases {
            let kind = format!("{:?}", kind(bytes));
            assert!(kind.contains(expected), "{kind} for {expected}");
        }
    }
}
