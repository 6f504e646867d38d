//! The files behind `--labels-file` and `--templates`: bytes -> text, and plain lines.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// A million labels of a Long-CLIP context each; more is some other file.
const LIMIT_BYTES: u64 = 1 << 30;

/// The text of a file, or of stdin for `-`, without its byte order mark.
///
/// # Errors
/// When it cannot be read, is larger than the limit, or is not UTF-8.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let is_stdin = path.as_os_str() == "-";
    let shown = if is_stdin {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    };
    let mut bytes = Vec::new();
    let mut take = |file: &mut dyn Read| file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes);
    let taken = if is_stdin {
        take(&mut std::io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| take(&mut file))
    };
    taken.with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        bytes.len() as u64 <= LIMIT_BYTES,
        "{shown} is larger than {LIMIT_BYTES} bytes; is it the right file?"
    );
    let text = decode(bytes).with_context(|| format!("cannot read {shown}"))?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn decode(bytes: Vec<u8>) -> anyhow::Result<String> {
    let is_utf16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    ensure!(!is_utf16, "the file is UTF-16; save it as UTF-8");
    String::from_utf8(bytes).or_else(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        bail!("line {line} is not UTF-8; save the file as UTF-8")
    })
}

/// The lines without surrounding white space; `#` comments and blank lines skipped.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    numbered_lines(text).map(|(_, line)| line)
}

/// The same with their numbers, from 1.
pub(super) fn numbered_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(text.lines().map(str::trim));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}
