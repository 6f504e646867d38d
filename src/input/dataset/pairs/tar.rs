//! Positions of the members of a tar archive. Nothing is unpacked: names are keys and never paths,
//! and every number in the archive is checked against the file before use.
//!
//! Supported are ustar, GNU's long names and pax headers (`path`, `size`); sparse members are
//! reported, links and special files skipped.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Block size: everything in a tar archive is a multiple of it, in bytes.
const BLOCK: u64 = 512;
/// Longer names and name headers are refused.
const LONGEST_NAME: u64 = 1 << 16;
/// Longer text members are not captions.
const LONGEST_TEXT: u64 = 1 << 20;

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

/// An archive, read member by member.
pub(super) struct Archive {
    file: BufReader<File>,
    length: u64,
    /// Offset of the next header.
    at: u64,
}

/// Values that preceding headers set for a member.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    bytes: Option<u64>,
    is_sparse: bool,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let state = std::fs::metadata(path).context("cannot be read")?;
        ensure!(state.is_file(), "it is not a regular file");
        let file = File::open(path).context("cannot be read")?;
        Ok(Self {
            file: BufReader::new(file),
            length: state.len(),
            at: 0,
        })
    }

    /// The next file; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Member>> {
        let mut extended = Extended::default();
        loop {
            let start = self.at;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let kind = header[156];
            let is_file = matches!(kind, b'0' | 0 | b'7' | b'S');
            let own = number(&header[124..136]).context("a member's size is not a number")?;
            let bytes = match kind {
                _ if is_file => extended.bytes.unwrap_or(own),
                // Links, devices and folders have no content, whatever size they state.
                b'1'..=b'6' => 0,
                _ => own,
            };
            let offset = start + BLOCK;
            let name = extended.name.take().unwrap_or_else(|| name_of(&header));
            self.at = self.after(offset, bytes, &name)?;
            match kind {
                b'L' => extended.name = Some(self.long_name(offset, bytes)?),
                b'x' => self.pax(offset, bytes, &mut extended)?,
                _ if is_file => {
                    let is_sparse = extended.is_sparse || kind == b'S';
                    return Ok(Some(Member {
                        name,
                        offset,
                        bytes,
                        is_sparse,
                    }));
                }
                b'K' | b'g' => {}
                _ => extended = Extended::default(),
            }
        }
    }

    /// The whole content of a text member.
    pub(super) fn text(&mut self, member: &Member) -> Result<String> {
        ensure!(
            member.bytes <= LONGEST_TEXT,
            "{} has {} bytes, too many for a caption",
            member.name,
            member.bytes
        );
        let bytes = self.content(member.offset, member.bytes)?;
        String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", member.name))
    }

    /// The header at `at`, checked; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<[u8; BLOCK as usize]>> {
        if self.at == self.length && self.at > 0 {
            return Ok(None);
        }
        ensure!(
            self.length - self.at >= BLOCK,
            "the archive is cut short: it ends within a header"
        );
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut header = [0; BLOCK as usize];
        self.file.read_exact(&mut header)?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let stated = number(&header[148..156]);
        let blank = (148..156).map(|at| u64::from(header[at])).sum::<u64>();
        let sum = header.iter().map(|byte| u64::from(*byte)).sum::<u64>() - blank + 8 * 32;
        if stated != Some(sum) {
            let what = match (self.at, &header[..2]) {
                (0, [0x1f, 0x8b]) => "this is a gzip file; decompress it to a plain .tar first",
                (0, _) => "this is not a tar archive",
                _ => "the archive is damaged: a header's checksum is wrong",
            };
            bail!("{what}");
        }
        Ok(Some(header))
    }

    /// Offset of the header after a content; fails if the file ends before.
    fn after(&self, offset: u64, bytes: u64, name: &str) -> Result<u64> {
        let end = offset.checked_add(bytes);
        let end = end.filter(|end| *end <= self.length).with_context(|| {
            format!("the archive is cut short: it ends before the {bytes} bytes of {name:?}")
        })?;
        // The last member may lack its padding.
        Ok(end.next_multiple_of(BLOCK).min(self.length))
    }

    fn content(&mut self, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut content = vec![0; usize::try_from(bytes)?];
        self.file.read_exact(&mut content)?;
        Ok(content)
    }

    fn long_name(&mut self, offset: u64, bytes: u64) -> Result<String> {
        ensure!(bytes <= LONGEST_NAME, "a member's name has {bytes} bytes");
        Ok(text_of(&self.content(offset, bytes)?))
    }

    /// Records of the form `LENGTH KEY=VALUE\n`, where the length counts the whole record.
    fn pax(&mut self, offset: u64, bytes: u64, extended: &mut Extended) -> Result<()> {
        ensure!(bytes <= LONGEST_NAME, "a pax header has {bytes} bytes");
        let content = self.content(offset, bytes)?;
        let mut rest = &content[..];
        while !rest.is_empty() && rest[0] != 0 {
            let broken = "a pax header is damaged";
            let blank = rest.iter().position(|byte| *byte == b' ').context(broken)?;
            let length: usize = std::str::from_utf8(&rest[..blank])?
                .parse()
                .context(broken)?;
            ensure!(length > blank + 1 && length <= rest.len(), broken);
            let record = rest[blank + 1..length].trim_ascii_end();
            rest = &rest[length..];
            let Some(equals) = record.iter().position(|byte| *byte == b'=') else {
                bail!(broken);
            };
            let value = &record[equals + 1..];
            match &record[..equals] {
                b"path" => extended.name = Some(text_of(value)),
                b"size" => {
                    let size = std::str::from_utf8(value).ok();
                    let size = size.and_then(|size| size.parse().ok()).context(broken)?;
                    extended.bytes = Some(size);
                }
                key if key.starts_with(b"GNU.sparse.") => extended.is_sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The name in a header, with the folders that ustar stores separately.
fn name_of(header: &[u8; BLOCK as usize]) -> String {
    let name = text_of(&header[..100]);
    let prefix = text_of(&header[345..500]);
    // GNU's own format uses this field differently.
    let is_ustar = &header[257..263] == b"ustar\0";
    if is_ustar && !prefix.is_empty() {
        format!("{prefix}/{name}")
    } else {
        name
    }
}

/// Text up to the first NUL.
fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

/// Octal digits, or a binary number if the first bit is set, as GNU writes large ones.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let is_small = high[0] == 0x80 && high[1..].iter().all(|byte| *byte == 0);
        let low = low.try_into().ok().map(u64::from_be_bytes);
        return low.filter(|low| is_small && *low <= i64::MAX as u64);
    }
    let digits = field.split(|byte| *byte == 0).next()?;
    let digits = std::str::from_utf8(digits).ok()?.trim();
    if digits.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(digits, 8).ok()
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
        block[257..263].copy_from_slice(b"ustar\0");
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
        let mut found = Vec::new();
        while let Some(member) = archive.next()? {
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
    }

    #[test]
    fn long_names_and_pax_headers_belong_to_the_next_file() {
        let long = "d/".repeat(80) + "x.txt";
        let record = |text: &str| {
            let length = text.len() + 4;
            format!("{length:2} {text}\n")
        };
        let pax = record("path=p/q.txt") + &record("size=3");
        #[rustfmt::skip]
        let bytes = [
            entry("././@LongLink", b'L', format!("{long}\0").as_bytes()),
            entry("short", b'0', b"abc"),
            entry("pax", b'x', pax.as_bytes()),
            header("q.txt", b'0', b"00000000000\0"),
            [b"abc".to_vec(), vec![0; 509]].concat(),
            entry("folder/", b'5', b""),
            header("link", b'1', b"00000000100\0"),
            entry("last", 0, b"x"),
        ]
        .concat();
        assert_eq!(names(&bytes), [&long, "p/q.txt", "last"]);
        assert_eq!(members(&bytes).unwrap()[1].bytes, 3);
    }

    #[test]
    fn sparse_files_are_reported() {
        let pax = "22 GNU.sparse.major=1\n";
        let bytes = [
            entry("a", b'S', b"x"),
            entry("pax", b'x', pax.as_bytes()),
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
    fn damaged_or_hostile_archives_are_refused() {
        let good = archive(&[("a.txt", b"abc"), ("b.txt", b"abc")]);
        let mut broken = good.clone();
        broken[1024] ^= 1;
        let cases: [(&str, Vec<u8>, &str); 10] = [
            ("nothing", vec![], "ends within a header"),
            ("a stump", good[..1200].to_vec(), "ends within a header"),
            ("cut", good[..514].to_vec(), "ends before the 3 bytes"),
            ("another file", vec![1; 2000], "not a tar archive"),
            ("gzip", [vec![0x1f, 0x8b], vec![1; 600]].concat(), "gzip"),
            ("a flipped bit", broken, "checksum is wrong"),
            (
                "more bytes than there are",
                header("a", b'0', b"77777777777\0"),
                "ends before",
            ),
            (
                "a size near the end of numbers",
                header(
                    "a",
                    b'0',
                    &[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255],
                ),
                "ends before",
            ),
            (
                "a negative size",
                header("a", b'0', &[255; 12]),
                "size is not a number",
            ),
            (
                "a pax header of a wrong length",
                entry("x", b'x', b"99 path=a\n"),
                "pax header is damaged",
            ),
        ];
        for (what, bytes, part) in cases {
            let error = format!("{:#}", members(&bytes).unwrap_err());
            assert!(error.contains(part), "{what}: {error}");
        }
    }
}
