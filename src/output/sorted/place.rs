//! Puts one image at one path, where nothing may exist yet.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read};
use std::path::Path;

use super::Action;
use crate::file::fault::is_of_disk;
use crate::file::temporary::{Readers, TemporaryFile};

/// Creates a link at `to` that points to `from`.
///
/// # Errors
/// `AlreadyExists` if anything exists at `to`.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(from, to);
    #[cfg(not(unix))]
    return fs::hard_link(from, to);
}

/// Copies a file with its permissions and modification time; `to` appears complete or not at all.
///
/// # Errors
/// As [`link`].
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let folder = to.parent().unwrap_or(Path::new("."));
    let target = TemporaryFile::next_to(to, Readers::User)?;
    io::copy(&mut source, &mut target.as_file())?;
    let metadata = source.metadata()?;
    // Not every file system supports these.
    let _ = target.as_file().set_permissions(metadata.permissions());
    if let Ok(modified) = metadata.modified() {
        let _ = target
            .as_file()
            .set_times(FileTimes::new().set_modified(modified));
    }
    target.as_file().sync_all()?;
    target.persist_noclobber(to)?;
    sync_folder(folder);
    Ok(())
}

/// Moves a file, also to another file system: there it is copied, and removed once the copy is on
/// disk.
///
/// # Errors
/// As [`link`]; the file stays where it was.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    // A rename would replace what is at `to`; a link does not.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).inspect_err(|_| {
            let _ = fs::remove_file(to);
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        // A copy would fail as well.
        Err(error) if is_of_disk(&error) => Err(error),
        // Another file system, or one without links.
        Err(_) => {
            copy(from, to)?;
            fs::remove_file(from).inspect_err(|_| {
                let _ = fs::remove_file(to);
            })
        }
    }
}

/// Whether `from` is already filed at `place`.
pub(super) fn holds(action: Action, place: &Path, from: &Path) -> bool {
    let Ok(metadata) = place.symlink_metadata() else {
        return false;
    };
    if std::path::absolute(place).is_ok_and(|place| place == from) {
        return true;
    }
    let is_link = metadata.is_symlink();
    if !is_link && is_same_file(place, from) {
        return true;
    }
    match action {
        Action::Link => is_link && fs::read_link(place).is_ok_and(|target| target == from),
        Action::Copy => !is_link && has_same_content(place, from),
        Action::Move => false,
    }
}

/// Whether two paths resolve to one file.
pub(super) fn is_same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let id = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
        matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
    }
    #[cfg(not(unix))]
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Whether two files have the same bytes; false if one cannot be read.
pub(super) fn has_same_content(a: &Path, b: &Path) -> bool {
    compare(a, b).unwrap_or(false)
}

fn compare(a: &Path, b: &Path) -> io::Result<bool> {
    // Checked before they are opened: opening a pipe without a writer would block.
    if !fs::metadata(a)?.is_file() || !fs::metadata(b)?.is_file() {
        return Ok(false);
    }
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let count = a.read(&mut left)?;
        if count == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..count]) {
            Ok(()) if left[..count] == right[..count] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Syncs a new name to disk; not every file system can.
fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_overwritten_and_a_refused_file_stays() {
        let room = tempfile::tempdir().unwrap();
        let (from, to) = (room.path().join("from"), room.path().join("to"));
        fs::write(&from, "from").unwrap();
        fs::write(&to, "to").unwrap();
        for put in [link, copy, rename] {
            let error = put(&from, &to).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&from).unwrap(), b"from");
            assert_eq!(fs::read(&to).unwrap(), b"to");
        }
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_copy_keeps_the_time_and_the_permissions() {
        let room = tempfile::tempdir().unwrap();
        let (from, to) = (room.path().join("from"), room.path().join("to"));
        fs::write(&from, vec![7; 200_000]).unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let file = File::options().write(true).open(&from).unwrap();
        file.set_times(FileTimes::new().set_modified(old)).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&from, fs::Permissions::from_mode(0o640)).unwrap();
        }
        copy(&from, &to).unwrap();
        let (from, copied) = (from.metadata().unwrap(), to.metadata().unwrap());
        assert_eq!(copied.modified().unwrap(), old);
        assert_eq!(copied.permissions(), from.permissions());
    }

    #[test]
    fn contents_are_compared_to_the_last_byte() {
        let room = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = room.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let long = vec![1; 100_000];
        let mut other = long.clone();
        other[99_999] = 2;
        let (a, b, c) = (write("a", &long), write("b", &long), write("c", &other));
        assert!(has_same_content(&a, &b));
        assert!(!has_same_content(&a, &c));
        assert!(!has_same_content(&a, &write("d", &long[1..])));
        assert!(!has_same_content(&a, &room.path().join("gone")));
        assert!(is_same_file(&a, &a) && !is_same_file(&a, &b));
    }
}
