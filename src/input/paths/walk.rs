//! A folder's images, in byte order of names, with one folder listing per level in memory.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use walkdir::{DirEntry, FilterEntry, IntoIter, WalkDir};

use crate::output::FailureKind;

use super::{ImageRule, ImageSource, Kind, PassedOver, PathError};

/// Longest signature that [`ImageRule::looks_like_image`] needs.
pub(crate) const SNIFFED_BYTES: u64 = 32;

/// Whether an entry is considered, and a folder entered.
type IsWalked = Box<dyn FnMut(&DirEntry) -> bool + Send>;

/// Folders of systems for thumbnails, deleted files and their own records; lower case.
const SYSTEM_FOLDERS: [&str; 21] = [
    // Windows.
    "$recycle.bin",
    "recycler",
    "recycled",
    "system volume information",
    // macOS, and archives made there.
    "__macosx",
    "network trash folder",
    "temporary items",
    "thevolumesettingsfolder",
    // Synology.
    "@eadir",
    "#recycle",
    "#snapshot",
    "@tmp",
    "@sharebin",
    "@synoeastream",
    // QNAP.
    "@recycle",
    "@recently-snapshot",
    "@__thumb",
    "@transcode",
    "@upload_cache",
    // Linux.
    "lost+found",
    // Python.
    "__pycache__",
];

/// Whether a folder of this name belongs to a system. Hidden ones are skipped anyway.
pub(crate) fn is_system(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    let is_recovered = name.len() == 9
        && (name.strip_prefix("found."))
            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    is_recovered || SYSTEM_FOLDERS.contains(&name.as_str())
}

/// Walks one folder. Links to files and folders are followed, except a link to a folder that
/// contains it, so that the walk ends.
pub(super) struct Walk {
    entries: FilterEntry<IntoIter, IsWalked>,
    rule: ImageRule,
    passed_over: PassedOver,
}

impl Walk {
    pub(super) fn new(folder: &Path, rule: ImageRule, passed_over: PassedOver) -> Self {
        let skipped = passed_over.clone();
        let is_walked = move |entry: &DirEntry| {
            if entry.depth() == 0 {
                return true;
            }
            let name = entry.file_name();
            let is_system = entry.file_type().is_dir() && is_system(name);
            if is_system {
                skipped.add_system(&name.to_string_lossy());
            }
            !is_system && !is_hidden(entry.path())
        };
        let entries = WalkDir::new(folder)
            .follow_links(true)
            .sort_by_file_name()
            .into_iter()
            .filter_entry(Box::new(is_walked) as IsWalked);
        Self {
            entries,
            rule,
            passed_over,
        }
    }

    fn take_entry(&self, entry: DirEntry) -> Option<ImageSource> {
        if entry.file_type().is_dir() {
            return None;
        }
        // Opening a pipe or a device could block: only regular files are sniffed.
        let taken = entry.file_type().is_file() && self.rule.takes(entry.path());
        if !taken && Kind::of(entry.path()).is_some() {
            self.passed_over.add_shard(entry.path());
        } else if !taken {
            self.passed_over.add_one();
        }
        taken.then(|| ImageSource::Path(entry.into_path()))
    }

    fn take_error(&self, error: &walkdir::Error) -> Option<Result<ImageSource, PathError>> {
        let path = error.path()?;
        if error.depth() > 0 && is_hidden(path) {
            return None;
        }
        let cause = match error.io_error() {
            Some(cause) if !path.is_symlink() => cause,
            // A broken link: opening it reports why.
            Some(_) if self.rule.has_image_extension(path) => {
                return Some(Ok(ImageSource::Path(path.to_owned())));
            }
            _ => {
                self.passed_over.add_one();
                return None;
            }
        };
        Some(Err(PathError {
            path: path.to_owned(),
            cause: {
                let why = format!("cannot read this folder: {cause}");
                let kind = FailureKind::of_io(cause).unwrap_or(FailureKind::Read);
                kind.because(why)
            },
        }))
    }
}

impl Iterator for Walk {
    type Item = Result<ImageSource, PathError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let item = match self.entries.next()? {
                Ok(entry) => self.take_entry(entry).map(Ok),
                Err(error) => self.take_error(&error),
            };
            if item.is_some() {
                return item;
            }
        }
    }
}

impl ImageRule {
    /// Whether the file at `path` is accepted: by its extension or its first bytes.
    pub(crate) fn takes(&self, path: &Path) -> bool {
        self.has_image_extension(path) || self.begins_like_image(path)
    }

    /// Whether a file of this name is accepted, whatever it holds.
    pub(crate) fn has_image_extension(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| {
            self.extensions
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        })
    }

    /// An unreadable file is not accepted by its content.
    pub(crate) fn begins_like_image(&self, path: &Path) -> bool {
        let mut first_bytes = Vec::new();
        let read = File::open(path)
            .and_then(|file| file.take(SNIFFED_BYTES).read_to_end(&mut first_bytes));
        read.is_ok() && (self.looks_like_image)(&first_bytes)
    }
}

/// Includes `._*` files, which macOS leaves on foreign disks.
fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_folders_go_by_their_names() {
        for name in [
            "@eaDir",
            "$RECYCLE.BIN",
            "$Recycle.Bin",
            "lost+found",
            "FOUND.000",
        ] {
            assert!(is_system(OsStr::new(name)), "{name}");
        }
        for name in [
            "recycle",
            "eaDir",
            "found.photos",
            "found.0001",
            "lost",
            "temp",
        ] {
            assert!(!is_system(OsStr::new(name)), "{name}");
        }
    }
}
