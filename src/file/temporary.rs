//! Temporary files and folders next to what they become. None outlives its process for long: it is
//! removed when dropped, by a signal, and after a kill by the next run with the same target.
//!
//! The name carries a mark of the target, and the owner holds an advisory lock: one that can be
//! locked has no owner. Where nothing can be locked, none is taken for a killed run's.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempPath;

use super::digest::hexadecimal;
use super::lock::is_at;
use super::signal::Doomed;

/// Runs that may write one target at once under names that a later run looks at.
const SLOTS: usize = 8;

/// A file in progress.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    // Removed first, while it is still locked.
    path: TempPath,
    doomed: Option<Doomed>,
    file: File,
}

/// Who may read a file in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readers {
    /// As for any new file: the umask decides.
    Usual,
    /// The user alone.
    User,
}

impl TemporaryFile {
    /// A new file next to `target`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn next_to(target: &Path, readers: Readers) -> io::Result<Self> {
        let (file, doomed, path) = in_a_slot(target, |path| create(path, readers))?;
        Ok(Self {
            file,
            path: TempPath::try_from_path(path)?,
            doomed: Some(doomed),
        })
    }

    /// A new file at `path`, for a caller who holds a lock: one that is there was left by a killed
    /// run and is replaced.
    ///
    /// # Errors
    /// When it cannot be replaced or created.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let (file, doomed) = Doomed::make(std::path::absolute(path)?, |path| {
            // A new file, so that no link redirects the writing.
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => create(path, Readers::Usual),
            }
        })?;
        Ok(Self {
            file,
            path: TempPath::try_from_path(path)?,
            doomed: Some(doomed),
        })
    }

    pub(crate) fn as_file(&self) -> &File {
        &self.file
    }

    /// From now on a signal leaves it: it is whole, and another run can use it.
    pub(super) fn keep(&mut self) {
        self.doomed = None;
    }

    /// Renames it to `place`, replacing what is there.
    ///
    /// # Errors
    /// When the rename fails; the file is removed then.
    pub(super) fn persist(self, place: &Path) -> io::Result<()> {
        // From here on the name may be another run's: nothing is removed by it after the rename.
        let path = self.path.keep().map_err(|failed| failed.error)?;
        fs::rename(&path, place).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
    }

    /// The same where nothing may exist yet.
    ///
    /// # Errors
    /// `AlreadyExists` if anything is at `place`.
    pub(crate) fn persist_noclobber(self, place: &Path) -> io::Result<()> {
        let Self { path, doomed, .. } = self;
        released(doomed, || path.persist_noclobber(place))
    }
}

/// Renames what a signal would remove.
fn released(
    doomed: Option<Doomed>,
    rename: impl FnOnce() -> Result<(), tempfile::PathPersistError>,
) -> io::Result<()> {
    match doomed {
        Some(doomed) => doomed.release(rename),
        None => rename(),
    }
    .map_err(|failed| failed.error)
}

/// A folder in progress, removed on drop with all that is in it.
#[derive(Debug)]
pub(crate) struct TemporaryFolder {
    path: PathBuf,
    _lock: Option<File>,
    doomed: Option<Doomed>,
}

impl TemporaryFolder {
    /// A new folder next to `target`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub(crate) fn next_to(target: &Path) -> io::Result<Self> {
        // Not every system opens folders.
        let make = |path: &PathBuf| fs::create_dir(path).map(|()| File::open(path).ok());
        let (lock, doomed, path) = in_a_slot(target, make)?;
        Ok(Self {
            path,
            _lock: lock,
            doomed: Some(doomed),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on a signal leaves it: what is in it is whole, and is being moved to its place.
    pub(crate) fn keep(&mut self) {
        self.doomed = None;
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // The next run with this target removes what is left.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// What can be held under a lock.
trait Lockable {
    fn file(&self) -> Option<&File>;
}

impl Lockable for File {
    fn file(&self) -> Option<&File> {
        Some(self)
    }
}

impl Lockable for Option<File> {
    fn file(&self) -> Option<&File> {
        self.as_ref()
    }
}

/// Makes something under the first free name for `target`, and locks it; removes what killed runs
/// left under all of these names.
fn in_a_slot<T: Lockable>(
    target: &Path,
    make: impl Fn(&PathBuf) -> io::Result<T>,
) -> io::Result<(T, Doomed, PathBuf)> {
    let slots = (0..SLOTS).map(|slot| slot_of(target, &slot.to_string()));
    let slots = slots.collect::<io::Result<Vec<_>>>()?;
    slots.iter().for_each(|path| remove_stale(path));
    // More runs at once than that are rare, and this name has no other owner.
    let last = slot_of(
        target,
        &format!("{}-{:?}", std::process::id(), std::thread::current().id()),
    )?;
    for path in slots.into_iter().chain([last]) {
        match Doomed::make(path.clone(), &make) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok((made, doomed)) if is_kept(made.file(), &path) => return Ok((made, doomed, path)),
            // Another run took it for a killed one's, before it was locked.
            Ok(_) => {}
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The name of a slot: `.longclip-`, a mark of the target, and the slot. The target's own name may
/// have the maximum length, so it is not part of this name.
fn slot_of(target: &Path, slot: &str) -> io::Result<PathBuf> {
    let target = std::path::absolute(target)?;
    let name = target.file_name().unwrap_or_default();
    let mut mark = hexadecimal(&Sha256::digest(name.as_encoded_bytes()));
    mark.truncate(12);
    Ok(target.with_file_name(format!(".longclip-{mark}-{slot}.tmp")))
}

/// Locks what was just made; false if another run has removed it.
fn is_kept(made: Option<&File>, path: &Path) -> bool {
    match made.map(|file| (file.try_lock(), file)) {
        Some((Ok(()), file)) => is_at(file, path),
        Some((Err(fs::TryLockError::WouldBlock), _)) => false,
        // Not every file system can lock, nor every system open a folder; it may also be gone.
        Some((Err(fs::TryLockError::Error(_)), _)) | None => path.exists(),
    }
}

/// Removes the file or folder at `path` if its owner is gone.
fn remove_stale(path: &Path) {
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    if !metadata.is_file() && !metadata.is_dir() {
        return;
    }
    // One of another user stays if it cannot be opened or removed.
    let Ok(file) = File::open(path) else {
        return;
    };
    if file.try_lock().is_ok() && is_at(&file, path) {
        let _ = match metadata.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
    }
}

fn create(path: &Path, readers: Readers) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(match readers {
            Readers::Usual => 0o666,
            Readers::User => 0o600,
        });
    }
    #[cfg(not(unix))]
    let _ = readers;
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    fn file(target: &Path) -> TemporaryFile {
        TemporaryFile::next_to(target, Readers::Usual).unwrap()
    }

    /// As after a kill: the lock is gone, the file is not.
    fn kill(file: TemporaryFile) {
        file.path.keep().unwrap();
    }

    #[test]
    fn the_next_run_with_the_same_target_removes_what_a_killed_one_left() {
        let room = tempfile::tempdir().unwrap();
        let (target, other) = (room.path().join("a.csv"), room.path().join("b.csv"));
        let alive = file(&target);
        kill(file(&target));
        kill(file(&other));
        let folder = TemporaryFolder::next_to(&room.path().join("model")).unwrap();
        assert_eq!(names(room.path()).len(), 4);
        drop(file(&target));
        // Those of the living and those of other targets stay.
        assert_eq!(names(room.path()).len(), 3);
        drop(file(&other));
        assert_eq!(names(room.path()).len(), 2);
        alive.persist(&target).unwrap();
        drop(folder);
        assert_eq!(names(room.path()), ["a.csv"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_a_killed_run_left_is_removed() {
        let room = tempfile::tempdir().unwrap();
        let target = room.path().join("model");
        let left = slot_of(&target, "3").unwrap();
        fs::create_dir_all(left.join("model")).unwrap();
        fs::write(left.join("model/weights"), "x").unwrap();
        let folder = TemporaryFolder::next_to(&target).unwrap();
        assert!(!left.exists());
        fs::write(folder.path().join("x"), "x").unwrap();
        let second = TemporaryFolder::next_to(&target).unwrap();
        assert!(folder.path().join("x").exists() && second.path() != folder.path());
        drop((folder, second));
        assert!(names(room.path()).is_empty());
    }

    #[test]
    fn more_runs_than_slots_get_names_of_their_own() {
        let room = tempfile::tempdir().unwrap();
        let target = room.path().join("a");
        let all: Vec<_> = (0..=SLOTS).map(|_| file(&target)).collect();
        assert_eq!(names(room.path()).len(), SLOTS + 1);
        drop(all);
        assert!(names(room.path()).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn what_lies_at_a_name_and_is_no_file_is_left_alone() {
        let room = tempfile::tempdir().unwrap();
        let target = room.path().join("a");
        fs::write(room.path().join("b"), "b").unwrap();
        std::os::unix::fs::symlink("b", slot_of(&target, "0").unwrap()).unwrap();
        let pipe = slot_of(&target, "1").unwrap();
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        file(&target).persist(&target).unwrap();
        assert_eq!(fs::read(room.path().join("b")).unwrap(), b"b");
        assert_eq!(names(room.path()).len(), 4);
    }

    #[test]
    fn two_threads_never_share_a_file() {
        let room = tempfile::tempdir().unwrap();
        let target = room.path().join("a");
        std::thread::scope(|scope| {
            for seed in 0..4u8 {
                let target = &target;
                scope.spawn(move || {
                    for _ in 0..100 {
                        let file = file(target);
                        let path = file.path.to_path_buf();
                        fs::write(&path, [seed]).unwrap();
                        assert_eq!(fs::read(&path).unwrap(), [seed]);
                    }
                });
            }
        });
        assert!(names(room.path()).is_empty());
    }
}
