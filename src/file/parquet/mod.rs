//! Parquet files that may come from anywhere.
//!
//! The `parquet` crate trusts files too much: it panics on some damage, and allocates and counts to
//! what the file claims. So every call is [guarded], and the footer, headers and pages are checked
//! before it reads them.

mod pages;
mod thrift;

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek as _, SeekFrom};

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use crate::file::guard;
pub(crate) use pages::{MOST_PAGE_BYTES, Packing, Pages};

/// Longclip's footers have 2 KB per row group of 8 MB.
const LONGEST_FOOTER: u64 = 32 << 20;

/// Of a page: some numbers, and the smallest and the largest of its values.
const LONGEST_HEADER: usize = 16 << 20;

/// A file of which the `parquet` crate reads only those headers of pages that cannot harm it.
pub(crate) struct Checked(File);

impl Checked {
    /// Checks the footer.
    ///
    /// # Errors
    /// When this is not a Parquet file, or its footer is damaged.
    pub(crate) fn new(file: File) -> Result<Self> {
        check_footer(&file)?;
        Ok(Self(file))
    }
}

impl Length for Checked {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for Checked {
    type T = Box<dyn Read + Send>;

    /// Whatever is read in this way is the header of a page, or the end of the file.
    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let file = self.0.get_read(start)?;
        if start.saturating_add(8) >= self.len() {
            return Ok(Box::new(file));
        }
        Ok(match thrift::header(file, thrift::PAGE, LONGEST_HEADER) {
            Ok(header) => Box::new(Cursor::new(header)),
            // The crate also asks here for what it does not read.
            Err(error) => Box::new(Refused(format!("{error:#}"))),
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let left = self.len().saturating_sub(start).min(MOST_PAGE_BYTES);
        if length as u64 > left {
            let why = match left {
                MOST_PAGE_BYTES => "is over the limit of 1 GiB; write smaller pages or row groups",
                _ => "is cut short",
            };
            let page = format!("a page of {length} bytes {why}");
            return Err(ParquetError::General(page));
        }
        self.0.get_bytes(start, length)
    }
}

/// Fails when it is read.
struct Refused(String);

impl Read for Refused {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(self.0.clone()))
    }
}

/// Runs code that may panic on a damaged file.
///
/// # Errors
/// Those of `work`, and when it panics.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    guard::catch(work).unwrap_or_else(|| Err(anyhow!("the file is damaged")))
}

/// Checks that the footer lies in the file and can be parsed.
fn check_footer(file: &File) -> Result<()> {
    let length = file.metadata()?.len();
    ensure!(length >= 12, "the file is too short to be a Parquet file");
    let mut end = [0; 8];
    let mut file = file;
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut end)?;
    let [a, b, c, d, magic @ ..] = end;
    ensure!(
        &magic == b"PAR1",
        "the file does not end like a Parquet file; it is probably cut short"
    );
    let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
    ensure!(
        footer <= LONGEST_FOOTER.min(length - 12),
        "the footer claims {footer} bytes, which is impossible; the file is damaged"
    );
    file.seek(SeekFrom::Start(length - 8 - footer))?;
    let bytes = BufReader::new(file);
    thrift::header(bytes, thrift::FOOTER, footer as usize).context("the footer is damaged")?;
    Ok(())
}
