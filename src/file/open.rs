//! Opening and reading files that may be anything: nothing here waits for ever or reads without
//! end.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Larger files are not settings, in bytes.
pub(crate) const SETTINGS_BYTES: u64 = 16 << 20;

/// How long a named pipe may have no writer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The regular file at `path` and its length in bytes.
///
/// # Errors
/// When it cannot be opened, or is a folder, pipe, socket or device.
pub(crate) fn regular(path: &Path) -> io::Result<(File, u64)> {
    // Checked before it is opened: opening a pipe without a writer would block.
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(wrong(
            "it is a pipe, socket or device, but a regular file is needed",
        ));
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((file, length))
}

/// The file, pipe or device at `path`, to be read once from its start.
///
/// # Errors
/// When it cannot be opened, is a folder, or is a named pipe that nobody opens for writing.
pub(crate) fn stream(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    match is_pipe(&kind) {
        true => pipe(path, PATIENCE),
        false => File::open(path),
    }
}

/// The named pipe at `path`, whose opening waits for a writer.
fn pipe(path: &Path, patience: Duration) -> io::Result<File> {
    let (sender, opened) = mpsc::channel();
    let path = path.to_owned();
    // Without a writer this thread stays until the process ends.
    thread::spawn(move || sender.send(File::open(path)));
    opened.recv_timeout(patience).unwrap_or_else(|_| {
        Err(wrong(
            "it is a pipe that no program writes to; start its writer first",
        ))
    })
}

/// All of `reader`, if that is at most `limit_bytes`.
///
/// # Errors
/// When it cannot be read, or has more.
pub(crate) fn bounded(reader: impl Read, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(wrong(&format!(
            "it has more than {limit_bytes} bytes; is it the right file?"
        )));
    }
    Ok(bytes)
}

/// All of the file, pipe or device at `path`, if that is at most `limit_bytes`.
///
/// # Errors
/// As [`stream`] and [`bounded`].
pub(crate) fn bytes(path: &Path, limit_bytes: u64) -> io::Result<Vec<u8>> {
    bounded(stream(path)?, limit_bytes)
}

/// [`bytes()`] as text.
///
/// # Errors
/// As [`bytes()`], and when it is not UTF-8.
pub(crate) fn text(path: &Path, limit_bytes: u64) -> io::Result<String> {
    String::from_utf8(bytes(path, limit_bytes)?).map_err(|_| wrong("it is not UTF-8"))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(unix)]
fn is_pipe(kind: &fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&kind.file_type())
}

#[cfg(not(unix))]
fn is_pipe(_: &fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_bounded() {
        assert_eq!(bounded(&b"abc"[..], 3).unwrap(), b"abc");
        let error = bounded(io::repeat(7), 3).unwrap_err().to_string();
        assert!(error.contains("more than 3 bytes"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_regular_and_a_pipe_needs_a_writer() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("a");
        fs::write(&path, "abc").unwrap();
        assert_eq!(regular(&path).unwrap().1, 3);
        assert_eq!(text(&path, 3).unwrap(), "abc");
        let [named, other] = ["pipe", "other"].map(|name| room.path().join(name));
        let made = std::process::Command::new("mkfifo")
            .args([&named, &other])
            .status();
        assert!(made.unwrap().success());
        for odd in [room.path(), &named, Path::new("/dev/zero")] {
            assert!(regular(odd).is_err(), "{}", odd.display());
        }
        assert!(stream(room.path()).is_err());
        let error = pipe(&named, Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("no program writes"), "{error}");
        let writer = other.clone();
        thread::spawn(move || fs::write(writer, "abc"));
        assert_eq!(bytes(&other, 3).unwrap(), b"abc");
        assert!(bytes(Path::new("/dev/zero"), 1000).is_err());
    }
}
