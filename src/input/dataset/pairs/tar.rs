//! Positions of the members of a tar archive, which the `tar` crate reads. Nothing is unpacked:
//! names are keys and never paths.
//!
//! Supported are ustar, GNU's long names and pax headers; sparse members are reported, links and
//! special files skipped.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail, ensure};
use tar::EntryType;

use crate::file::open;
use crate::input::image::looks_like_image;

/// Most bytes that are read for a member's name and headers, or for a caption.
const MOST_BYTES: u64 = 1 << 20;

/// A file in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its name in the archive, with folders.
    pub(super) name: String,
    /// Offset of its content.
    pub(super) offset: u64,
    /// Length of its content in bytes.
    pub(super) bytes: u64,
    /// Whether its content is in several pieces.
    pub(super) is_sparse: bool,
}

/// An open archive.
pub(super) struct Archive {
    inner: tar::Archive<Metered>,
    allowance: Rc<Cell<u64>>,
    length: u64,
}

/// The members of an archive, one after another.
pub(super) struct Members<'a> {
    entries: tar::Entries<'a, Metered>,
    /// The entry of the last member.
    entry: Option<tar::Entry<'a, Metered>>,
    allowance: &'a Cell<u64>,
    length: u64,
}

/// A file of which only so much may be read: the library reads names into memory, however long.
/// What it skips is not counted.
struct Metered {
    file: BufReader<File>,
    allowance: Rc<Cell<u64>>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let left = self.allowance.get().checked_sub(count as u64);
        self.allowance.set(left.ok_or_else(|| {
            io::Error::other(format!("a member's headers have over {MOST_BYTES} bytes"))
        })?);
        Ok(count)
    }
}

impl Seek for Metered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            // Keeps what is buffered, which holds the next members if they are small.
            SeekFrom::Current(by) => {
                self.file.seek_relative(by)?;
                self.file.stream_position()
            }
            _ => self.file.seek(to),
        }
    }
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (file, length) = open::regular(path)?;
        let mut file = BufReader::new(file);
        check_header(&mut file)?;
        let allowance = Rc::new(Cell::new(0));
        let inner = tar::Archive::new(Metered {
            file,
            allowance: allowance.clone(),
        });
        Ok(Self {
            inner,
            allowance,
            length,
        })
    }

    pub(super) fn members(&mut self) -> Result<Members<'_>> {
        Ok(Members {
            entries: self.inner.entries_with_seek()?,
            entry: None,
            allowance: &self.allowance,
            length: self.length,
        })
    }
}

/// Says what a file is that does not begin with a tar header; leaves the position at the start.
fn check_header(file: &mut BufReader<File>) -> Result<()> {
    let mut header = tar::Header::new_old();
    let mut start = Vec::new();
    let mut first = file.take(header.as_bytes().len() as u64);
    first.read_to_end(&mut start).context("cannot be read")?;
    file.rewind().context("cannot be read")?;
    ensure!(!start.is_empty(), "the file is empty");
    if start.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    if start.len() == header.as_bytes().len() {
        header.as_mut_bytes().copy_from_slice(&start);
        let stated = header.cksum().ok();
        header.set_cksum();
        if stated.is_some() && stated == header.cksum().ok() {
            return Ok(());
        }
    }
    bail!(match start.as_slice() {
        [0x1f, 0x8b, ..] => "this is a gzip file; decompress it to a plain .tar first",
        [b'P', b'K', 3, 4, ..] => "this is a zip file; unpack it, and pass its folder",
        start if looks_like_image(start) => "this is an image, not a tar archive",
        _ => "this is not a tar archive",
    })
}

impl Members<'_> {
    /// The next file; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        loop {
            self.entry = None;
            self.allowance.set(MOST_BYTES);
            let Some(entry) = self.entries.next() else {
                return Ok(None);
            };
            let mut entry = entry.context("the archive is damaged or cut short")?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let kind = entry.header().entry_type();
            let is_file = kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse();
            let bytes = entry.size();
            let offset = entry.raw_file_position();
            // The content of a sparse member is shorter than the member.
            let end = offset.checked_add(if kind.is_gnu_sparse() { 0 } else { bytes });
            ensure!(
                end.is_some_and(|end| end <= self.length),
                "the archive is cut short: it ends before the {bytes} bytes of {name:?}"
            );
            match kind {
                _ if is_file => {}
                EntryType::GNULongName | EntryType::XHeader => {
                    bail!("the archive is damaged: the header of {name:?} is of no known format")
                }
                // Programs disagree on whether they have content.
                EntryType::Link
                | EntryType::Symlink
                | EntryType::Char
                | EntryType::Block
                | EntryType::Directory
                | EntryType::Fifo => {
                    ensure!(
                        bytes == 0,
                        "{name:?} is not a file but states {bytes} bytes of content; pack the \
                         archive again with GNU tar"
                    );
                    continue;
                }
                _ => continue,
            }
            let mut is_sparse = kind.is_gnu_sparse();
            for record in entry.pax_extensions()?.into_iter().flatten() {
                let record = record.context("a pax header is damaged")?;
                is_sparse |= record.key_bytes().starts_with(b"GNU.sparse.");
            }
            self.entry = Some(entry);
            return Ok(Some(Member {
                name,
                offset,
                bytes,
                is_sparse,
            }));
        }
    }

    /// The whole content of the last member, if it is a text.
    pub(super) fn text(&mut self, member: &Member) -> Result<String> {
        ensure!(
            member.bytes <= MOST_BYTES,
            "{} has {} bytes, too many for a caption",
            member.name,
            member.bytes
        );
        let mut content = Vec::new();
        if let Some(entry) = &mut self.entry {
            self.allowance.set(MOST_BYTES);
            entry.read_to_end(&mut content)?;
        }
        String::from_utf8(content).with_context(|| format!("{} is not UTF-8", member.name))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header of 512 bytes with a correct checksum.
    fn header(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
        let mut block = vec![0; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[124..124 + size.len()].copy_from_slice(size);
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    fn entry(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = header(name, kind, format!("{:011o}\0", content.len()).as_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    /// An archive of files.
    pub(in super::super) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes: Vec<u8> = files
            .iter()
            .flat_map(|(name, content)| entry(name, b'0', content))
            .collect();
        bytes.extend([0; 1024]);
        bytes
    }

    fn members(bytes: &[u8]) -> Result<Vec<Member>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("a.tar");
        std::fs::write(&path, bytes)?;
        let mut archive = Archive::open(&path)?;
        let mut members = archive.members()?;
        let mut found = Vec::new();
        while let Some(member) = members.next()? {
            found.push(member);
        }
        Ok(found)
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        let members = members(bytes).unwrap();
        members.into_iter().map(|member| member.name).collect()
    }

    #[test]
    fn files_are_found_where_they_lie() {
        let bytes = archive(&[("a/1.txt", b"one"), ("a/1.jpg", &[7; 600]), ("2.txt", b"")]);
        let found = members(&bytes).unwrap();
        let places: Vec<_> = (found.iter()).map(|m| (m.offset, m.bytes)).collect();
        assert_eq!(places, [(512, 3), (1536, 600), (3072, 0)]);
        assert_eq!(&bytes[1536..2136], &[7; 600]);
        // The end may lack its padding, or the end marker.
        assert_eq!(members(&bytes[..2136]).unwrap().len(), 2);
        assert_eq!(members(&bytes[..3072]).unwrap().len(), 3);
        assert_eq!(members(&[0; 1024]).unwrap(), []);
    }

    #[test]
    fn a_text_is_read_and_the_next_member_found_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, archive(&[("1.txt", b"one"), ("2.txt", b"two")])).unwrap();
        let mut archive = Archive::open(&path).unwrap();
        let mut members = archive.members().unwrap();
        for text in ["one", "two"] {
            let member = members.next().unwrap().unwrap();
            assert_eq!(members.text(&member).unwrap(), text);
        }
        assert!(members.next().unwrap().is_none());
    }

    fn record(text: &str) -> String {
        let length = text.len() + 4;
        format!("{length:2} {text}\n")
    }

    #[test]
    fn long_names_and_pax_headers_belong_to_the_next_file() {
        let long = "d/".repeat(80) + "x.txt";
        let pax = record("path=p/q.txt") + &record("size=3");
        #[rustfmt::skip]
        let bytes = [
            entry("././@LongLink", b'L', format!("{long}\0").as_bytes()),
            entry("short", b'0', b"abc"),
            entry("pax", b'x', pax.as_bytes()),
            header("q.txt", b'0', b"00000000000\0"),
            [b"abc".to_vec(), vec![0; 509]].concat(),
            entry("folder/", b'5', b""),
            entry("link", b'1', b""),
            entry("global", b'g', record("comment=a").as_bytes()),
            entry("last", 0, b"x"),
        ]
        .concat();
        assert_eq!(names(&bytes), [&long, "p/q.txt", "last"]);
        assert_eq!(members(&bytes).unwrap()[1].bytes, 3);
    }

    #[test]
    fn sparse_files_are_reported() {
        let mut sparse = tar::Header::new_gnu();
        sparse.set_path("a").unwrap();
        sparse.set_entry_type(EntryType::GNUSparse);
        sparse.set_size(0);
        sparse.as_gnu_mut().unwrap().realsize = *b"00000000000\0";
        sparse.set_cksum();
        let bytes = [
            sparse.as_bytes().to_vec(),
            entry("pax", b'x', record("GNU.sparse.major=1").as_bytes()),
            entry("b", b'0', b"x"),
            entry("c", b'0', b"x"),
        ]
        .concat();
        let sparse: Vec<bool> = (members(&bytes).unwrap().iter())
            .map(|m| m.is_sparse)
            .collect();
        assert_eq!(sparse, [true, true, false]);
    }

    #[test]
    fn other_files_are_refused_by_what_they_are() {
        let noise = |first: &[u8]| {
            // The checksum's field begins with a byte of 0x80 or more, which once was a panic.
            let mut bytes = vec![0x9c; 1024];
            bytes[..first.len()].copy_from_slice(first);
            bytes
        };
        let cases: [(&[u8], &str); 6] = [
            (b"\x1f\x8b", "gzip file; decompress"),
            (b"PK\x03\x04", "zip file; unpack"),
            (b"\x89PNG\r\n\x1a\n", "an image, not a tar archive"),
            (b"\xff\xd8\xff", "an image, not a tar archive"),
            (b"", "this is not a tar archive"),
            (b"<!DOCTYPE html>", "this is not a tar archive"),
        ];
        for (first, part) in cases {
            for length in [first.len() + 1, 511, 512, 1024] {
                let error = members(&noise(first)[..length]).unwrap_err();
                let error = format!("{error:#}");
                assert!(error.contains(part), "{first:?}, {length}: {error}");
            }
        }
    }

    #[test]
    fn damaged_or_hostile_archives_are_refused() {
        let good = archive(&[("a.txt", b"abc"), ("b.txt", b"abc")]);
        let mut broken = good.clone();
        broken[1024] ^= 1;
        let endless = 2 * MOST_BYTES as usize;
        let cases: [(&str, Vec<u8>, &str); 11] = [
            ("nothing", vec![], "is empty"),
            ("a stump", good[..1200].to_vec(), "damaged or cut short"),
            ("cut", good[..514].to_vec(), "ends before the 3 bytes"),
            ("a flipped bit", broken, "checksum"),
            (
                "more bytes than there are",
                header("a", b'0', b"77777777777\0"),
                "ends before",
            ),
            (
                "a folder with content that is not there",
                header("a", b'5', b"77777777777\0"),
                "ends before",
            ),
            (
                "a link with content",
                entry("a", b'1', &[0; 512]),
                "not a file but states 512 bytes",
            ),
            (
                "a negative size",
                header("a", b'0', &[255; 12]),
                "damaged or cut short",
            ),
            (
                "a pax header of a wrong length",
                [entry("x", b'x', b"99 path=a\n"), entry("a", b'0', b"")].concat(),
                "pax header is damaged",
            ),
            (
                "a pax header without a file",
                entry("x", b'x', b"9 path=a\n"),
                "no future member",
            ),
            (
                "a name without end",
                entry("././@LongLink", b'L', &vec![b'a'; endless]),
                "headers have over",
            ),
        ];
        for (what, bytes, part) in cases {
            let error = format!("{:#}", members(&bytes).unwrap_err());
            assert!(error.contains(part), "{what}: {error}");
        }
    }
}
