//! Zip archives: the directory, and members stored as in PyTorch files or also deflated as in
//! NumPy's archives.
//!
//! Follows PKWARE's APPNOTE 6.3: end record, its zip64 form, central directory, local
//! headers. Stored contents are ranges of the file and not copied; inflated contents are
//! limited to the length in the directory, which in turn is limited to a plausible size.

use std::collections::HashMap;
use std::io::Read as _;
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

use super::limit;

/// A zip's members by name.
pub(crate) struct Zip<'a> {
    bytes: &'a [u8],
    members: HashMap<&'a str, Member>,
    /// Offset where the members end and the directory starts.
    directory: usize,
}

/// Compression method: stored.
const STORED: u16 = 0;

/// Compression method: DEFLATE.
const DEFLATED: u16 = 8;

/// Inflated contents up to this size are accepted at any compression ratio.
const FREE_BYTES: u64 = 256 << 20;

/// Maximum compression ratio of larger ones; embeddings hardly compress.
const MOST_TIMES: u64 = 64;

/// A member's content.
pub(crate) enum MemberContent {
    /// A range of the file.
    Stored(Range<usize>),
    /// Inflated bytes.
    Inflated(Vec<u8>),
}

fn damaged(name: &str) -> String {
    format!("member \"{name}\" is damaged; download or copy the file again")
}

/// The content of `stored`, which must have exactly `length` bytes.
fn inflate(name: &str, stored: &[u8], length: u64) -> Result<Vec<u8>> {
    ensure!(
        length <= FREE_BYTES.max(MOST_TIMES * stored.len() as u64),
        "member \"{name}\" has {} bytes and claims to hold {length}, which no embeddings do",
        stored.len()
    );
    let mut content = Vec::new();
    let mut inflated = flate2::read::DeflateDecoder::new(stored).take(length + 1);
    inflated
        .read_to_end(&mut content)
        .with_context(|| damaged(name))?;
    ensure!(content.len() as u64 == length, "{}", damaged(name));
    Ok(content)
}

struct Member {
    method: u16,
    flags: u16,
    checksum: u32,
    /// Compressed bytes in the file.
    stored: u64,
    /// Uncompressed bytes.
    length: u64,
    header: u64,
}

/// The location of the central directory and how many members it lists.
struct End {
    directory: u64,
    directory_length: u64,
    members: u64,
}

impl<'a> Zip<'a> {
    /// Reads the directory.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self> {
        let end = find_end(bytes)?;
        let range = end
            .directory
            .checked_add(end.directory_length)
            .and_then(|stop| range(end.directory, stop, bytes.len()))
            .context(
                "the zip directory lies outside the file; it is cut short, download it again",
            )?;
        ensure!(
            end.members <= limit::ZIP_MEMBERS as u64,
            "the zip lists {} members; PyTorch files have a few hundred",
            end.members
        );
        let directory = range.start;
        let members = read_directory(bytes.get(range).unwrap_or_default(), end.members)?;
        let zip = Self {
            bytes,
            members,
            directory,
        };
        zip.check_overlap()?;
        Ok(zip)
    }

    /// The names of all members, in no particular order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.members.keys().copied()
    }

    /// Whether there is a member of that name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The range of a stored member's content in the file.
    pub(super) fn range(&self, name: &str) -> Result<Range<usize>> {
        let member = self.members.get(name).with_context(|| {
            format!("the archive has no member \"{name}\"; it is incomplete, download it again")
        })?;
        self.locate(name, member)
            .with_context(|| format!("member \"{name}\""))
    }

    /// A stored member's content, with its checksum verified. A checksum of zero means that PyTorch
    /// was configured not to compute it.
    pub(super) fn checked(&self, name: &str) -> Result<&'a [u8]> {
        let content = self.part(self.range(name)?)?;
        let stated = self.members.get(name).map_or(0, |member| member.checksum);
        ensure!(
            stated == 0 || stated == crc32fast::hash(content),
            "member \"{name}\" is damaged (its checksum differs); download the file again"
        );
        Ok(content)
    }

    /// At most the first `most` bytes of a member's content, stored or deflated. The checksum is
    /// not verified.
    pub(crate) fn head(&self, name: &str, most: usize) -> Result<Vec<u8>> {
        let (member, range) = self.found(name)?;
        let mut head = Vec::new();
        let stored = self.part(range)?;
        match member.method {
            STORED => head.extend(stored.iter().take(most)),
            _ => {
                let mut inflated = flate2::read::DeflateDecoder::new(stored).take(most as u64);
                inflated
                    .read_to_end(&mut head)
                    .with_context(|| damaged(name))?;
            }
        }
        Ok(head)
    }

    /// A member's whole content, stored or deflated, with length and checksum verified.
    pub(crate) fn content(&self, name: &str) -> Result<MemberContent> {
        let (member, range) = self.found(name)?;
        let stored = self.part(range.clone())?;
        let content = match member.method {
            STORED => MemberContent::Stored(range),
            _ => MemberContent::Inflated(inflate(name, stored, member.length)?),
        };
        let bytes = match &content {
            MemberContent::Stored(_) => stored,
            MemberContent::Inflated(bytes) => bytes,
        };
        ensure!(
            crc32fast::hash(bytes) == member.checksum,
            "{}",
            damaged(name)
        );
        Ok(content)
    }

    /// A member that is stored or deflated, and the location of its bytes.
    fn found(&self, name: &str) -> Result<(&Member, Range<usize>)> {
        let member = self.members.get(name);
        let member = member.with_context(|| format!("the archive has no member \"{name}\""))?;
        let found = || {
            ensure!(member.flags & 1 == 0, "it is encrypted");
            ensure!(
                [STORED, DEFLATED].contains(&member.method),
                "it is compressed in a way that is not supported (method {}); NumPy stores or deflates",
                member.method
            );
            ensure!(
                member.method == DEFLATED || member.stored == member.length,
                "its two lengths differ although it is not compressed"
            );
            Ok((member, self.place(name, member)?))
        };
        found().with_context(|| format!("member \"{name}\""))
    }

    fn part(&self, range: Range<usize>) -> Result<&'a [u8]> {
        self.bytes.get(range).context("it lies outside the file")
    }

    fn locate(&self, name: &str, member: &Member) -> Result<Range<usize>> {
        ensure!(member.flags & 1 == 0, "it is encrypted");
        ensure!(
            member.method == STORED && member.stored == member.length,
            "it is compressed, which torch.save never does; unpack the file and save it again with torch.save"
        );
        self.place(name, member)
    }

    fn place(&self, name: &str, member: &Member) -> Result<Range<usize>> {
        let damaged = "its local header lies outside the file or is damaged";
        let start = usize::try_from(member.header).context(damaged)?;
        let header = self.bytes.get(start..self.directory).context(damaged)?;
        let fields: &[u8; 30] = header.first_chunk().context(damaged)?;
        let name_length = usize::from(u16_at(fields, 26));
        let extra_length = usize::from(u16_at(fields, 28));
        ensure!(fields.starts_with(b"PK\x03\x04"), "{damaged}");
        ensure!(
            header.get(30..30 + name_length) == Some(name.as_bytes()),
            "its local header carries another name"
        );
        let start = (start + 30 + name_length + extra_length) as u64;
        start
            .checked_add(member.stored)
            .and_then(|stop| range(start, stop, self.directory))
            .context("its content lies outside the file")
    }

    /// Rejects members that share bytes, which no writer creates.
    fn check_overlap(&self) -> Result<()> {
        let mut spans: Vec<(u64, u64, &str)> = self
            .members
            .iter()
            .map(|(name, m)| {
                let length = (30 + name.len() as u64).saturating_add(m.stored);
                (m.header, m.header.saturating_add(length), *name)
            })
            .collect();
        spans.sort_unstable();
        for ((_, end, first), (start, _, second)) in spans.iter().zip(spans.iter().skip(1)) {
            ensure!(end <= start, "members \"{first}\" and \"{second}\" overlap");
        }
        Ok(())
    }
}

/// `start..stop` if it is a range within `length` bytes.
fn range(start: u64, stop: u64, length: usize) -> Option<Range<usize>> {
    let range = usize::try_from(start).ok()?..usize::try_from(stop).ok()?;
    (range.start <= range.end && range.end <= length).then_some(range)
}

/// The end record: the last one in the file whose comment ends with the file.
fn find_end(bytes: &[u8]) -> Result<End> {
    const LENGTH: usize = 22;
    let last = bytes
        .len()
        .checked_sub(LENGTH)
        .context("the file is too short to be a zip")?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    let start = (first..=last)
        .rev()
        .find(|&at| {
            let end = bytes.get(at..).unwrap_or_default();
            end.starts_with(b"PK\x05\x06")
                && at + LENGTH + usize::from(u16_at(bytes, at + 20)) == bytes.len()
        })
        .context("the zip has no end record; the file is cut short, download it again")?;
    if let Some(end) = find_end64(bytes, start)? {
        return Ok(end);
    }
    let end = bytes.get(start..).unwrap_or_default();
    ensure!(
        u16_at(end, 4) == 0 && u16_at(end, 6) == 0 && u16_at(end, 8) == u16_at(end, 10),
        "the zip is one part of a multi-part archive; join the parts first"
    );
    Ok(End {
        directory: u64::from(u32_at(end, 16)),
        directory_length: u64::from(u32_at(end, 12)),
        members: u64::from(u16_at(end, 10)),
    })
}

/// The zip64 end record, if a locator before the end record at `start` points to one.
fn find_end64(bytes: &[u8], start: usize) -> Result<Option<End>> {
    let Some(locator) = start.checked_sub(20).and_then(|at| bytes.get(at..start)) else {
        return Ok(None);
    };
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let end = usize::try_from(u64_at(locator, 8))
        .ok()
        .and_then(|at| bytes.get(at..start))
        .filter(|end| end.len() >= 56 && end.starts_with(b"PK\x06\x06"))
        .context("the zip64 end record is not where it should be; the file is damaged")?;
    Ok(Some(End {
        directory: u64_at(end, 48),
        directory_length: u64_at(end, 40),
        members: u64_at(end, 32),
    }))
}

fn read_directory(mut rest: &[u8], count: u64) -> Result<HashMap<&str, Member>> {
    const LENGTH: usize = 46;
    let mut members = HashMap::new();
    for index in 0..count {
        let damaged = || format!("zip directory entry {index} of {count} is damaged");
        let fields: &[u8; LENGTH] = rest.first_chunk().with_context(damaged)?;
        ensure!(fields.starts_with(b"PK\x01\x02"), damaged());
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(fields, at)));
        let extra_start = LENGTH + name;
        let extra_end = extra_start + extra;
        let name = rest.get(LENGTH..extra_start).with_context(damaged)?;
        let name = std::str::from_utf8(name).with_context(damaged)?;
        let extra = rest.get(extra_start..extra_end).with_context(damaged)?;
        let member = read_member(fields, extra).with_context(damaged)?;
        rest = rest.get(extra_end + comment..).with_context(damaged)?;
        if members.insert(name, member).is_some() {
            bail!("the zip lists \"{name}\" twice");
        }
    }
    Ok(members)
}

fn read_member(fields: &[u8; 46], extra: &[u8]) -> Result<Member> {
    let mut wide = zip64_values(extra);
    // In the order in which the zip64 field stores those that do not fit 32 bits.
    let mut next = |at| match u32_at(fields, at) {
        u32::MAX => wide.next().context("its zip64 field is missing"),
        value => Ok(u64::from(value)),
    };
    let (length, stored, header) = (next(24)?, next(20)?, next(42)?);
    Ok(Member {
        flags: u16_at(fields, 8),
        method: u16_at(fields, 10),
        checksum: u32_at(fields, 16),
        stored,
        length,
        header,
    })
}

/// The 64-bit numbers of the extra field with tag 1; none when there is none.
fn zip64_values(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut values: &[u8] = &[];
    while extra.len() >= 4 {
        let length = usize::from(u16_at(extra, 2));
        let after = extra.get(4..).unwrap_or_default();
        let Some((content, rest)) = after.split_at_checked(length) else {
            break;
        };
        if u16_at(extra, 0) == 1 {
            values = content;
            break;
        }
        extra = rest;
    }
    values.chunks_exact(8).map(|value| u64_at(value, 0))
}

/// Records are cut to their full length before their fields are read.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let field = bytes.get(at..).and_then(<[u8]>::first_chunk);
    field.map_or(0, |field| u16::from_le_bytes(*field))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
