//! Zip archives, by their directory; the `zip` crate reads them. Files are stored or deflated.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, ensure};
use zip::ZipArchive;

use super::{Archive, Entry, first, name};
use crate::file::open;

/// Most bytes of a directory, which is in memory: some two million files.
const MOST_BYTES: u64 = 256 << 20;

/// An open archive.
pub(super) struct Zip {
    archive: ZipArchive<Metered>,
    /// The index of the next file.
    next: usize,
}

/// A file that may be read up to a limit.
struct Metered {
    file: BufReader<File>,
    allowance: u64,
    /// Whether the directory was read; contents have a limit of their own.
    is_open: Arc<AtomicBool>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if self.is_open.load(Ordering::Relaxed) {
            return Ok(count);
        }
        let left = self.allowance.checked_sub(count as u64);
        self.allowance = left.ok_or_else(|| {
            io::Error::other(format!("its directory has over {MOST_BYTES} bytes"))
        })?;
        Ok(count)
    }
}

impl Seek for Metered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Zip {
    /// Reads the directory.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (file, _) = open::regular(path).context("cannot be read")?;
        let mut file = BufReader::new(file);
        let start = first(&mut file, 2).context("cannot be read")?;
        ensure!(!start.is_empty(), "the file is empty");
        let is_open = Arc::new(AtomicBool::new(false));
        let file = Metered {
            file,
            allowance: MOST_BYTES,
            is_open: is_open.clone(),
        };
        let archive = ZipArchive::new(file);
        let archive =
            archive.context("this is not a zip archive, or it is damaged or cut short")?;
        is_open.store(true, Ordering::Relaxed);
        Ok(Self { archive, next: 0 })
    }
}

impl Archive for Zip {
    fn next(&mut self) -> Result<Option<Entry>> {
        while self.next < self.archive.len() {
            let file = self.archive.by_index_data(self.next)?;
            self.next += 1;
            if file.is_dir() {
                continue;
            }
            let raw = match std::str::from_utf8(file.name_raw()) {
                Ok(name) => Cow::Borrowed(name),
                // In the code page of DOS, unless the archive says otherwise.
                Err(_) => file.name()?,
            };
            // Old programs of Windows wrote its separator.
            let spelled = match raw.contains('/') {
                true => raw,
                false => raw.replace('\\', "/").into(),
            };
            let refusal = if file.encrypted() {
                Some("is encrypted in its archive; unpack that, and pass the folder")
            } else if file.is_symlink() {
                Some("is a link in its archive, which is not followed; pack the files themselves")
            } else {
                None
            };
            return Ok(Some(Entry {
                name: name::safe(spelled.as_bytes()),
                bytes: Some(file.size()),
                refusal: refusal.map(str::to_owned),
                is_image: false,
            }));
        }
        ensure!(
            !self.archive.has_duplicate_names(),
            "the archive has several files of one name; only one was read"
        );
        Ok(None)
    }

    fn content(&mut self) -> Result<Box<dyn Read + '_>> {
        let index = self.next.checked_sub(1).context("no file was asked for")?;
        let file = self.archive.by_index(index);
        Ok(Box::new(file.context("cannot be read in its archive")?))
    }
}
