//! SHA-256 digests of files.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use super::open;

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// The SHA-256 of a file.
///
/// # Errors
/// When it is not a regular file or cannot be read.
pub(crate) fn sha256(path: &Path) -> Result<Digest> {
    let reading = || format!("cannot read {}", path.display());
    let (mut file, _) = open::regular(path).with_context(reading)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).with_context(reading)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// The SHA-256 of each file, in hexadecimal digits.
///
/// # Errors
/// When one cannot be read.
pub(crate) fn sha256_of(files: &[PathBuf]) -> Result<Vec<String>> {
    let digits = |file: &PathBuf| Ok(hexadecimal(&sha256(file)?));
    files.iter().map(digits).collect()
}

/// Two lowercase hexadecimal digits per byte.
#[must_use]
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_the_standard_tool() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, "hello").unwrap();
        let digits = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(sha256_of(&[path]).unwrap(), [digits]);
        assert!(sha256(&folder.path().join("missing")).is_err());
    }
}
