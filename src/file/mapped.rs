//! A file's bytes, mapped rather than read: with the allocator the only `unsafe` code outside
//! `kernel`.

#![allow(
    unsafe_code,
    reason = "a memory map is the only way to open gigabytes in milliseconds"
)]

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};

use memmap2::Mmap;

use super::memory;

/// The bytes of one file, mapped from disk or owned.
pub(crate) enum Bytes {
    /// A read-only map of a whole file.
    Mapped(Mmap),
    /// Bytes that are not from a file, or an empty file (which cannot be mapped).
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps `file`, whose length is `length` bytes.
    ///
    /// Another process that shortens the file while it is mapped ends this one with a bus error;
    /// one that rewrites it in place changes the weights under us, which
    /// [`crate::checkpoint::container::Archive::unchanged`] notices afterwards. Programs that
    /// replace files by renaming, as the hub cache and `torch.save` to a new name do, are harmless:
    /// the map keeps the old file.
    pub(crate) fn map(file: &File, length: u64) -> io::Result<Self> {
        if length == 0 {
            return Ok(Self::Owned(Vec::new()));
        }
        // SAFETY: the map is read-only and private to this value, every access is
        // bounds-checked against the mapped length, and every value read from it is
        // valid for any bit pattern (integers and floats). What remains is truncation
        // by another process, which is documented above.
        let map = unsafe { Mmap::map(file) }.map_err(|cause| without_room(length, cause))?;
        Ok(Self::Mapped(map))
    }

    /// Lets the system reclaim the memory behind `range`, which lies inside the map. Later reads
    /// load the pages from the file again. Advice only, so failure is ignored.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            // SAFETY: nobody ever writes to the map, so a page that is dropped and read again holds
            // the same bytes, under the assumption about the file that `map` documents.
            let _ = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}

/// The failure to map a file of this length; says which limit is too low, if that is why.
fn without_room(length: u64, cause: io::Error) -> io::Error {
    let limit = memory::limit().filter(|_| cause.kind() == io::ErrorKind::OutOfMemory);
    let Some(limit) = limit else { return cause };
    let (needed, limited) = (memory::shown(length), memory::shown(limit.bytes));
    let what = format!(
        "its {needed} are more than is left of {}, {limited}",
        limit.from
    );
    io::Error::new(io::ErrorKind::OutOfMemory, what)
}

/// `bytes` as the little-endian numbers they hold; `None` if they are not aligned, not a whole
/// number of elements, or the machine is big-endian.
pub(crate) fn as_f32(bytes: &[u8]) -> Option<&[f32]> {
    // SAFETY: every bit pattern is an f32.
    whole(unsafe { bytes.align_to() })
}

/// The same for half precision.
pub(crate) fn as_f16(bytes: &[u8]) -> Option<&[half::f16]> {
    // SAFETY: an f16 is transparent over a u16, and every bit pattern is a valid u16.
    whole(unsafe { bytes.align_to() })
}

fn whole<'a, T>((before, numbers, after): (&[u8], &'a [T], &[u8])) -> Option<&'a [T]> {
    let is_whole = before.is_empty() && after.is_empty() && cfg!(target_endian = "little");
    is_whole.then_some(numbers)
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
