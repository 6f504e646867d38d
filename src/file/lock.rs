//! Files that one run at a time may write.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Opens the file at `path` for this process alone, and creates it if there is none.
///
/// # Errors
/// When another run has it, or it cannot be opened.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(Locked(path.to_owned())),
        // Not every file system can lock; most runs are alone.
        Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Whether the open file is still the one at `path`.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// An open file cannot be deleted on this platform.
#[cfg(not(unix))]
pub(crate) fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

/// Another run is writing the same file.
#[derive(Debug)]
pub(crate) struct Locked(PathBuf);

impl std::fmt::Display for Locked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "another run is writing {}; wait for it, or choose another place for this one's output",
            self.0.display()
        )
    }
}

impl std::error::Error for Locked {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy.partial");
        let first = lock(&path).unwrap();
        let error = lock(&path).unwrap_err();
        assert!(error.is::<Locked>(), "{error}");
        drop(first);
        lock(&path).unwrap();
    }
}
