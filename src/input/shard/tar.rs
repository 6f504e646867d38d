//! Tar archives, plain or compressed by gzip or zstd; the `tar` crate reads their headers. Nothing is
//! unpacked, and names are never paths.
//!
//! Supported are ustar, GNU's long names and pax headers. Sparse files and links are reported, other
//! special files skipped.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Cursor, Read, Seek as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use tar::EntryType;

use super::{Archive, Entry, first, name};
use crate::file::open;
use crate::input::image::looks_like_image;
use crate::input::paths::SNIFFED_BYTES;

/// Most bytes that are read for a file's name and headers, or for a caption.
const MOST_BYTES: u64 = 1 << 20;

/// Headers and contents begin at multiples of this.
const BLOCK_BYTES: u64 = 512;

/// Largest window of zstd, as a power of two: that of its strongest levels.
const WINDOW_LOG: u32 = 27;

/// Most bytes that are read after the end mark: tar fills up a last record, which is far shorter.
const REST_BYTES: u64 = 64 << 20;

/// A file or a link in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its name in the archive, with folders.
    pub(crate) name: Vec<u8>,
    /// Offset of its content in the archive, decompressed.
    pub(crate) offset: u64,
    /// Length of its content in bytes.
    pub(crate) bytes: u64,
    /// What it is.
    pub(crate) what: What,
}

/// What a name in an archive stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A file whose content lies in one piece.
    File,
    /// A file whose content is in several pieces.
    Sparse,
    /// A hard or symbolic link to this name.
    Link(String),
}

/// What comes next in an archive.
enum Header {
    Found(Found),
    /// A folder, or a device or the like.
    Other,
    End,
}

/// An open archive.
pub(crate) struct Tar {
    stream: Stream,
    /// Where the content of the last file ends.
    end: u64,
    /// What was read of it already.
    start: Vec<u8>,
    is_over: bool,
    /// Whether the end was marked.
    has_mark: bool,
}

/// The archive's bytes, decompressed.
struct Stream {
    source: Source,
    /// How many were read or skipped.
    position: u64,
    /// How many more may be read: the library reads names into memory, however long. What is skipped
    /// is not counted.
    allowance: u64,
}

enum Source {
    File { file: BufReader<File>, length: u64 },
    Other(Box<dyn Read + Send>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match &mut self.source {
            Source::File { file, .. } => file.read(buffer)?,
            Source::Other(stream) => stream.read(buffer)?,
        };
        self.position += count as u64;
        let left = self.allowance.checked_sub(count as u64);
        self.allowance = left.ok_or_else(|| {
            io::Error::other(format!("a member's headers have over {MOST_BYTES} bytes"))
        })?;
        Ok(count)
    }
}

impl Stream {
    /// Moves on by `count` bytes, or to the end; returns how many there were.
    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let skipped = match &mut self.source {
            // Keeps what is buffered, which holds the next files if they are small.
            Source::File { file, length } => {
                let count = count.min(length.saturating_sub(self.position));
                file.seek_relative(i64::try_from(count).map_err(io::Error::other)?)?;
                count
            }
            Source::Other(stream) => io::copy(&mut stream.take(count), &mut io::sink())?,
        };
        self.position += skipped;
        Ok(skipped)
    }
}

impl Tar {
    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be opened, or is not a tar archive.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let reading = || "cannot be read";
        let mut file = open::stream(path).with_context(reading)?;
        let metadata = file.metadata().with_context(reading)?;
        if !metadata.is_file() {
            return Self::of_stream(Box::new(file));
        }
        let packing = Packing::of(&first(&mut file, 4).with_context(reading)?);
        file.rewind().with_context(reading)?;
        match packing {
            Some(_) => Self::of_stream(Box::new(file)),
            None => Self::open_plain(file, metadata.len()),
        }
    }

    /// Opens a file that is not compressed, so that its members have places in it.
    ///
    /// # Errors
    /// As [`Self::open`], and when it is compressed.
    pub(crate) fn open_seekable(path: &Path) -> Result<Self> {
        let (file, length) = open::regular(path)?;
        Self::open_plain(file, length)
    }

    fn open_plain(file: File, length: u64) -> Result<Self> {
        let mut file = BufReader::new(file);
        check_header(&first(&mut file, BLOCK_BYTES).context("cannot be read")?)?;
        file.rewind().context("cannot be read")?;
        Ok(Self::new(Source::File { file, length }))
    }

    /// Opens what comes on a stream.
    ///
    /// # Errors
    /// When it cannot be read, or is not a tar archive.
    pub(super) fn of_stream(mut stream: Box<dyn Read + Send>) -> Result<Self> {
        let start = first(&mut stream, 4).context("cannot be read")?;
        let packing = Packing::of(&start);
        let stream = Cursor::new(start).chain(stream);
        let mut stream: Box<dyn Read + Send> = match packing {
            Some(Packing::Gzip) => Box::new(MultiGzDecoder::new(stream)),
            Some(Packing::Zstd) => {
                let mut stream = zstd::Decoder::new(stream).context("cannot be read")?;
                stream
                    .window_log_max(WINDOW_LOG)
                    .context("cannot be read")?;
                Box::new(stream)
            }
            None => Box::new(BufReader::new(stream)),
        };
        let start = first(&mut stream, BLOCK_BYTES).context("the archive is damaged")?;
        check_header(&start)?;
        Ok(Self::new(Source::Other(Box::new(
            Cursor::new(start).chain(stream),
        ))))
    }

    fn new(source: Source) -> Self {
        Self {
            stream: Stream {
                source,
                position: 0,
                allowance: 0,
            },
            end: 0,
            start: Vec::new(),
            is_over: false,
            has_mark: false,
        }
    }

    /// The next file or link; `None` at the end of the archive.
    ///
    /// # Errors
    /// When the archive is damaged or cut short, or something else follows it.
    pub(crate) fn next_file(&mut self) -> Result<Option<Found>> {
        loop {
            if self.is_over {
                return Ok(None);
            }
            let header = match self.skip_to_header() {
                Ok(true) => self.read_header(),
                Ok(false) => Ok(Header::End),
                Err(error) => Err(error),
            };
            match header {
                Ok(Header::Found(found)) => return Ok(Some(found)),
                Ok(Header::Other) => {}
                Ok(Header::End) => {
                    self.is_over = true;
                    return self.check_rest().map(|()| None);
                }
                Err(error) => {
                    self.is_over = true;
                    return Err(error);
                }
            }
        }
    }

    /// Skips what is left of the last file; false if only the padding after it is missing.
    fn skip_to_header(&mut self) -> Result<bool> {
        self.start.clear();
        let damaged = || "the archive is damaged or cut short";
        let left = self.end - self.stream.position;
        let skipped = self.stream.skip(left).with_context(damaged)?;
        ensure!(
            skipped == left,
            "the archive is cut short: {} of the last file's bytes are missing",
            left - skipped
        );
        let padding = self.end.next_multiple_of(BLOCK_BYTES) - self.end;
        Ok(self.stream.skip(padding).with_context(damaged)? == padding)
    }

    /// Reads the next header.
    fn read_header(&mut self) -> Result<Header> {
        let begin = self.stream.position;
        self.stream.allowance = MOST_BYTES;
        // One for each header, so that none is borrowed while the content is read.
        let mut archive = tar::Archive::new(&mut self.stream);
        let entry = archive.entries()?.next().transpose();
        let Some(mut entry) = entry.context("the archive is damaged or cut short")? else {
            self.has_mark = self.stream.position > begin;
            return Ok(Header::End);
        };
        let file_name = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&file_name).into_owned();
        let kind = entry.header().entry_type();
        // The content of a sparse file is shorter than the file.
        let bytes = match kind.is_gnu_sparse() {
            true => entry.header().entry_size()?,
            false => entry.size(),
        };
        let link = entry.link_name_bytes();
        let link = link.map(|link| String::from_utf8_lossy(&link).into_owned());
        let mut is_sparse = kind.is_gnu_sparse();
        for record in entry.pax_extensions()?.into_iter().flatten() {
            let record = record.context("a pax header is damaged")?;
            is_sparse |= record.key_bytes().starts_with(b"GNU.sparse.");
        }
        drop(entry);
        let offset = self.stream.position;
        self.end = offset
            .checked_add(bytes)
            .context("the archive is damaged")?;
        self.end
            .checked_add(BLOCK_BYTES)
            .context("the archive is damaged")?;
        if let Source::File { length, .. } = &self.stream.source {
            ensure!(
                self.end <= *length,
                "the archive is cut short: it ends before the {bytes} bytes of {shown:?}"
            );
        }
        let what = match kind {
            _ if is_sparse => What::Sparse,
            EntryType::Regular | EntryType::Continuous => What::File,
            EntryType::GNULongName | EntryType::XHeader => {
                bail!("the archive is damaged: the header of {shown:?} is of no known format")
            }
            // Programs disagree on whether they have content.
            EntryType::Link
            | EntryType::Symlink
            | EntryType::Char
            | EntryType::Block
            | EntryType::Directory
            | EntryType::Fifo
                if bytes > 0 =>
            {
                bail!(
                    "{shown:?} is not a file but states {bytes} bytes of content; pack the \
                     archive again with GNU tar"
                )
            }
            EntryType::Link | EntryType::Symlink => What::Link(link.unwrap_or_default()),
            _ => return Ok(Header::Other),
        };
        Ok(Header::Found(Found {
            name: file_name,
            offset,
            bytes,
            what,
        }))
    }

    /// Reads what follows the end mark, which a compressed archive's checksum covers, and without
    /// which the writer of a pipe would fail.
    fn check_rest(&mut self) -> Result<()> {
        self.stream.allowance = u64::MAX;
        let mut rest = BufReader::new((&mut self.stream).take(REST_BYTES));
        loop {
            let bytes = rest.fill_buf().context("the archive's end is damaged")?;
            if bytes.is_empty() {
                return Ok(());
            }
            ensure!(
                bytes.iter().all(|byte| *byte == 0),
                "something follows the end of the archive, perhaps another one, which is not read; \
                 join archives with tar --concatenate, or pass them one by one"
            );
            let count = bytes.len();
            rest.consume(count);
        }
    }

    /// The whole content of the last file, if it is a text.
    ///
    /// # Errors
    /// When it is too long for one, cannot be read or is not UTF-8.
    pub(crate) fn text(&mut self, file: &Found) -> Result<String> {
        let shown = String::from_utf8_lossy(&file.name);
        ensure!(
            file.bytes <= MOST_BYTES,
            "{shown} has {} bytes, too many for a caption",
            file.bytes
        );
        let mut content = Vec::new();
        self.content()?.read_to_end(&mut content)?;
        String::from_utf8(content).with_context(|| format!("{shown} is not UTF-8"))
    }
}

impl Archive for Tar {
    fn next(&mut self) -> Result<Option<Entry>> {
        let Some(found) = self.next_file()? else {
            ensure!(
                self.has_mark,
                "the archive has no end mark, so it may be cut short; what it holds was read"
            );
            return Ok(None);
        };
        let refusal = match found.what {
            What::File => None,
            What::Sparse => {
                Some("is a sparse file in its archive; pack it again without --sparse".to_owned())
            }
            What::Link(to) => Some(format!(
                "is a link to {to:?} in its archive, which is not followed; pack it again with \
                 tar --dereference --hard-dereference"
            )),
        };
        Ok(Some(Entry {
            name: name::safe(&found.name),
            bytes: Some(found.bytes),
            refusal,
            is_image: false,
        }))
    }

    fn content(&mut self) -> Result<Box<dyn Read + '_>> {
        self.stream.allowance = u64::MAX;
        let left = self.end - self.stream.position;
        let rest = (&mut self.stream).take(left);
        Ok(Box::new(self.start.as_slice().chain(rest)))
    }

    fn start(&mut self) -> Result<Vec<u8>> {
        let start = first(&mut self.content()?, SNIFFED_BYTES);
        self.start = start.context("cannot be read")?;
        Ok(self.start.clone())
    }
}

/// How an archive is compressed.
enum Packing {
    Gzip,
    Zstd,
}

impl Packing {
    /// By its magic bytes.
    fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Says what a file is that does not begin with a tar header.
fn check_header(start: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_old();
    ensure!(!start.is_empty(), "the file is empty");
    if start.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    if start.len() == header.as_bytes().len() {
        header.as_mut_bytes().copy_from_slice(start);
        let stated = header.cksum().ok();
        header.set_cksum();
        if stated.is_some() && stated == header.cksum().ok() {
            return Ok(());
        }
    }
    bail!(match start {
        _ if Packing::of(start).is_some() =>
            "this is compressed; decompress it to a plain .tar first",
        [b'P', b'K', 3, 4, ..] =>
            "this is a zip file; unpack it and pass its folder, or let its name end in .zip",
        start if looks_like_image(start) => "this is an image, not a tar archive",
        _ => "this is not a tar archive",
    })
}

#[cfg(test)]
pub(crate) mod tests;
