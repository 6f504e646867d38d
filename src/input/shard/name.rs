//! Names in archives.

use std::path::PathBuf;

/// The path in an archive that these bytes are, as tar would unpack it: without a leading slash,
/// without what comes before the last `..`, and with one spelling of each folder.
pub(super) fn safe(bytes: &[u8]) -> PathBuf {
    let parts: Vec<&[u8]> = bytes
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    let inside = parts.rsplit(|part| *part == b"..").next();
    inside
        .unwrap_or_default()
        .iter()
        .map(|part| text(part))
        .collect()
}

/// The key of a file's sample, as WebDataset has it: its name up to the first dot of the last part.
pub(crate) fn key(name: &str) -> &str {
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let last = name.get(base..).unwrap_or_default();
    let end = last.find('.').map_or(name.len(), |dot| base + dot);
    name.get(..end).unwrap_or(name)
}

#[cfg(unix)]
fn text(part: &[u8]) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(part.to_vec())
}

#[cfg(not(unix))]
fn text(part: &[u8]) -> std::ffi::OsString {
    // What separates folders or names a drive there is a character of the name here.
    String::from_utf8_lossy(part)
        .replace(['\\', ':'], "_")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_archive() {
        let cases = [
            ("a/b.jpg", "a/b.jpg"),
            ("./a//b.jpg", "a/b.jpg"),
            ("/etc/a.jpg", "etc/a.jpg"),
            ("../../a/b.jpg", "a/b.jpg"),
            ("a/../b.jpg", "b.jpg"),
            ("a/..", ""),
            ("", ""),
        ];
        for (name, expected) in cases {
            assert_eq!(safe(name.as_bytes()), PathBuf::from(expected), "{name:?}");
        }
    }
}
