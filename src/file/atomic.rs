//! Atomic output files: they appear complete or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::temporary::{Readers, TemporaryFile};

/// A file in progress: written next to its destination under another name, and renamed when it is
/// complete. If dropped before that, it leaves nothing.
///
/// Pipes and devices cannot be replaced and are written to directly.
pub(crate) struct AtomicFile {
    path: PathBuf,
    content: Content,
}

enum Content {
    Temporary(TemporaryFile),
    Direct(File),
}

impl AtomicFile {
    /// Starts the file that will appear at `path`. A symbolic link is followed: its target is
    /// replaced, not the link.
    ///
    /// # Errors
    /// When `path` is a folder, its folder is missing or not writable, or a pipe or device
    /// cannot be opened.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if path.is_dir() {
            bail!("the output {shown} is a folder; name a file in it");
        }
        let content = if is_written_directly(path) {
            let file = OpenOptions::new().append(true).open(path);
            Content::Direct(file.with_context(|| format!("cannot open the output {shown}"))?)
        } else {
            let file = TemporaryFile::next_to(&target(path), Readers::Usual);
            Content::Temporary(file.with_context(|| format!("cannot create the output {shown}"))?)
        };
        Ok(Self {
            path: path.to_owned(),
            content,
        })
    }

    /// The same for a caller who holds a lock on `path`: until it is complete the file has the
    /// fixed name `FILE.writing`, so that the next run replaces what a killed one left.
    ///
    /// # Errors
    /// As [`AtomicFile::create`].
    pub(crate) fn create_alone(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() || is_written_directly(path) {
            return Self::create(path);
        }
        let file = TemporaryFile::at(&writing_of(path))
            .with_context(|| format!("cannot create the output {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            content: Content::Temporary(file),
        })
    }

    /// A writer into the file; it may outlive the file, but what it writes after
    /// [`AtomicFile::commit`] may not reach the disk.
    ///
    /// # Errors
    /// When the system has no file handle left.
    pub(crate) fn sink(&self) -> io::Result<Box<dyn Write + Send>> {
        let file = match &self.content {
            Content::Temporary(file) => file.as_file(),
            Content::Direct(file) => file,
        };
        Ok(Box::new(BufWriter::new(file.try_clone()?)))
    }

    /// Gives the file the permissions of the one that it replaces, where the system allows it.
    pub(crate) fn set_permissions(&self, permissions: fs::Permissions) {
        if let Content::Temporary(file) = &self.content {
            // Not every file system has them.
            let _ = file.as_file().set_permissions(permissions);
        }
    }

    /// Syncs to disk what was written, for a caller whose files must all be complete before the
    /// first of them appears. Flush the sink first. A signal does not remove the file any more,
    /// since the others may have appeared.
    ///
    /// # Errors
    /// When not all of it reached the disk.
    pub(crate) fn sync(&mut self) -> anyhow::Result<()> {
        let Content::Temporary(file) = &mut self.content else {
            return Ok(());
        };
        file.as_file()
            .sync_all()
            .with_context(|| format!("cannot write the output {}", self.path.display()))?;
        file.keep();
        Ok(())
    }

    /// Moves the file to its destination, replacing what was there. Flush the sink first.
    ///
    /// # Errors
    /// When not all of it reached the disk, or the rename fails; nothing is left then.
    pub(crate) fn commit(self) -> anyhow::Result<()> {
        let place = target(&self.path);
        self.persist(&place)
    }

    /// Makes what was written so far appear next to the destination as `FILE.partial`, for a run
    /// that was stopped, and returns that path. Pipes and devices have received it already and
    /// return their own path.
    ///
    /// # Errors
    /// As [`AtomicFile::commit`].
    pub(crate) fn keep_partial(self) -> anyhow::Result<PathBuf> {
        if matches!(self.content, Content::Direct(_)) {
            return Ok(self.path);
        }
        let mut name = OsString::from(target(&self.path));
        name.push(".partial");
        let place = PathBuf::from(name);
        self.persist(&place)?;
        Ok(place)
    }

    fn persist(self, place: &Path) -> anyhow::Result<()> {
        let shown = place.display();
        let Content::Temporary(file) = self.content else {
            return Ok(());
        };
        // The name must not reach the disk before the content does.
        file.as_file()
            .sync_all()
            .with_context(|| format!("cannot write the output {shown}"))?;
        file.persist(place)
            .with_context(|| format!("cannot rename the output to {shown}"))?;
        sync_folder(folder_of(place));
        Ok(())
    }
}

/// Path at which [`AtomicFile::create_alone`] writes the file for `path`.
#[must_use]
pub(crate) fn writing_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(target(path));
    name.push(".writing");
    PathBuf::from(name)
}

/// Moves what a killed run left in [`writing_of`] `path` to its destination. The caller knows that
/// it is complete.
///
/// # Errors
/// When the rename fails.
pub(crate) fn finish_writing(path: &Path) -> anyhow::Result<()> {
    let place = target(path);
    fs::rename(writing_of(path), &place)
        .with_context(|| format!("cannot rename the output to {}", place.display()))?;
    sync_folder(folder_of(&place));
    Ok(())
}

/// Whether a rename would replace something other than a plain file: a device, a pipe, or one of
/// this process's open file descriptors, which the shell may have redirected to a plain file.
fn is_written_directly(path: &Path) -> bool {
    let open_files = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
    let is_special = fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    is_special || open_files.iter().any(|name| path.starts_with(name))
}

fn target(path: &Path) -> PathBuf {
    let is_link = path.is_symlink();
    let followed = is_link.then(|| fs::canonicalize(path).ok()).flatten();
    followed.unwrap_or_else(|| path.to_owned())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Syncs the rename itself to disk. Not every file system can; the file is complete in any case.
pub(crate) fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn half_written(path: &Path) -> AtomicFile {
        let file = AtomicFile::create(path).unwrap();
        let mut sink = file.sink().unwrap();
        sink.write_all(b"new").unwrap();
        sink.flush().unwrap();
        file
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, "old").unwrap();
        let file = half_written(&path);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["out.csv"]);
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = half_written(&folder.path().join("out.csv"));
        assert_eq!(names(folder.path()).len(), 1);
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn the_rest_of_a_killed_run_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.npy");
        let begun = AtomicFile::create_alone(&path).unwrap();
        begun.sink().unwrap().write_all(b"longer than new").unwrap();
        assert_eq!(names(folder.path()), ["out.npy.writing"]);
        // As after a kill: nothing is dropped.
        std::mem::forget(begun);
        let file = AtomicFile::create_alone(&path).unwrap();
        file.sink().unwrap().write_all(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["out.npy"]);
        drop(AtomicFile::create_alone(&path).unwrap());
        assert_eq!(names(folder.path()), ["out.npy"]);
    }

    #[test]
    fn a_stopped_run_keeps_what_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        fs::write(&path, "old").unwrap();
        let partial = half_written(&path).keep_partial().unwrap();
        assert_eq!(partial, folder.path().join("out.csv.partial"));
        assert_eq!(fs::read(&partial).unwrap(), b"new");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["out.csv", "out.csv.partial"]);
    }

    #[test]
    fn an_impossible_destination_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| match AtomicFile::create(path) {
            Ok(_) => panic!("created {}", path.display()),
            Err(error) => error.to_string(),
        };
        assert!(error(folder.path()).ends_with("is a folder; name a file in it"));
        let missing = folder.path().join("missing/out.csv");
        assert!(error(&missing).starts_with("cannot create the output "));
    }

    #[test]
    fn the_longest_name_works() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(255));
        half_written(&path).commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_kept_and_its_target_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        fs::write(&target, "old").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("target", &link).unwrap();
        half_written(&link).commit().unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
        let partial = half_written(&link).keep_partial().unwrap();
        assert_eq!(partial.file_name().unwrap(), "target.partial");
    }

    #[cfg(unix)]
    #[test]
    fn the_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        half_written(&path).commit().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&other));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_open_file_keeps_its_place() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redirected");
        fs::write(&path, "old ").unwrap();
        let redirected = File::open(&path).unwrap();
        let descriptor = format!("/proc/self/fd/{}", redirected.as_raw_fd());
        half_written(Path::new(&descriptor)).commit().unwrap();
        assert_eq!(io::read_to_string(redirected).unwrap(), "old new");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_directly_and_stays() {
        let null = Path::new("/dev/null");
        half_written(null).commit().unwrap();
        assert_eq!(half_written(null).keep_partial().unwrap(), null);
        assert!(!fs::metadata(null).unwrap().is_file());
    }
}
