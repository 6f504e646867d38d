//! Detects whether a file has changed since it was read.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A file's size and modification time. Two files of the same path and stamp are taken to be the
/// same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Length in bytes.
    pub bytes: u64,
    /// Modification time of the content, in nanoseconds since 1970 (before it: negative).
    pub modified_ns: i64,
}

/// How long after its last change a file may change without its time showing it: file systems have
/// a resolution of up to two seconds (FAT).
const SETTLING: Duration = Duration::from_secs(2);

impl Stamp {
    /// The stamp of the file that `path` resolves to; `None` if it is not a regular file or cannot
    /// be examined.
    #[must_use]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        metadata.is_file().then(|| Self::from_metadata(&metadata))?
    }

    /// The stamp from known metadata.
    #[must_use]
    pub(crate) fn from_metadata(metadata: &Metadata) -> Option<Self> {
        Some(Self {
            bytes: metadata.len(),
            modified_ns: nanoseconds(metadata.modified().ok()?)?,
        })
    }

    /// Whether the file has been unchanged for long enough that its next change will show in its
    /// stamp.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        let now = nanoseconds(SystemTime::now()).unwrap_or(i64::MAX);
        let age = i128::from(now) - i128::from(self.modified_ns);
        // A time in the future is not evidence.
        age > SETTLING.as_nanos() as i128
    }
}

fn nanoseconds(time: SystemTime) -> Option<i64> {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos())
            .ok()
            .map(|ns| -ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_age(path: &Path, seconds: u64) -> Stamp {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(time).unwrap();
        Stamp::of(path).unwrap()
    }

    #[test]
    fn a_change_of_size_or_time_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "abc").unwrap();
        let first = set_age(&path, 100);
        assert_eq!((first.bytes, Stamp::of(&path)), (3, Some(first)));
        assert_ne!(set_age(&path, 50), first);
        fs::write(&path, "abcd").unwrap();
        let longer = set_age(&path, 100);
        assert_eq!(longer.bytes, 4);
        assert_eq!(Stamp::of(folder.path()), None);
        assert_eq!(Stamp::of(&folder.path().join("b")), None);
    }

    #[test]
    fn only_a_file_unchanged_for_a_while_is_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "abc").unwrap();
        assert!(!Stamp::of(&path).unwrap().is_settled());
        assert!(set_age(&path, 10).is_settled());
        let future = Stamp {
            bytes: 0,
            modified_ns: i64::MAX,
        };
        assert!(!future.is_settled());
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(
            nanoseconds(UNIX_EPOCH - Duration::from_secs(1)),
            Some(-1_000_000_000)
        );
    }
}
