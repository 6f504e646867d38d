//! The directories of a TIFF file, which is also the format of EXIF data: numbered entries of
//! several values each. Nothing in them is trusted: what lies outside the bytes is absent.

/// Maximum number of entries read. Real files have some dozens.
const MAX_ENTRIES: usize = 4096;

/// Maximum number of directories read. Cameras' files have some ten.
const MAX_DIRECTORIES: usize = 64;

/// Tag of the places of further directories.
const INNER: u16 = 330;

/// A directory of a file.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    order: ByteOrder,
    is_big_tiff: bool,
    entries: Vec<DirectoryEntry>,
    /// Where the place of the next directory stands.
    end: Option<usize>,
}

/// Byte order of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Little,
    Big,
}

/// One entry: its tag, the type and number of its values, and the position of its value field.
#[derive(Debug, Clone, Copy)]
pub(super) struct DirectoryEntry {
    tag: u16,
    kind: u16,
    count: u64,
    field: usize,
}

impl ByteOrder {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let field = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u16::from_le_bytes(field),
            Self::Big => u16::from_be_bytes(field),
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let field = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u32::from_le_bytes(field),
            Self::Big => u32::from_be_bytes(field),
        })
    }

    fn u64(self, bytes: &[u8], at: usize) -> Option<u64> {
        let field = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Little => u64::from_le_bytes(field),
            Self::Big => u64::from_be_bytes(field),
        })
    }
}

/// A place in the file that stands at `at`.
fn place(bytes: &[u8], order: ByteOrder, is_big_tiff: bool, at: usize) -> Option<usize> {
    match is_big_tiff {
        true => usize::try_from(order.u64(bytes, at)?).ok(),
        false => order.u32(bytes, at).map(|at| at as usize),
    }
}

impl<'a> Directory<'a> {
    /// Finds the first directory of a TIFF or BigTIFF file, or of EXIF data; `None` if the bytes
    /// end before it.
    pub(super) fn first(bytes: &'a [u8]) -> Option<Self> {
        let order = match bytes {
            [b'I', b'I', ..] => ByteOrder::Little,
            [b'M', b'M', ..] => ByteOrder::Big,
            _ => return None,
        };
        let is_big_tiff = order.u16(bytes, 2)? == 43;
        let at = if is_big_tiff { 8 } else { 4 };
        Self::at(
            bytes,
            order,
            is_big_tiff,
            place(bytes, order, is_big_tiff, at)?,
        )
    }

    /// All directories of a file, the first one first: those that follow one another, and those
    /// inside of others.
    pub(super) fn all(bytes: &'a [u8]) -> Vec<Self> {
        let mut all: Vec<Self> = Self::first(bytes).into_iter().collect();
        let mut seen = Vec::new();
        let mut visited = 0;
        while let Some(one) = all.get(visited) {
            visited += 1;
            let (order, is_big) = (one.order, one.is_big_tiff);
            let next = one.end.and_then(|end| place(bytes, order, is_big, end));
            let inner = one.integers(INNER, MAX_DIRECTORIES).unwrap_or_default();
            let inner = inner.into_iter().filter_map(|at| usize::try_from(at).ok());
            for at in next.into_iter().filter(|at| *at > 0).chain(inner) {
                if all.len() < MAX_DIRECTORIES && !seen.contains(&at) {
                    seen.push(at);
                    all.extend(Self::at(bytes, order, is_big, at));
                }
            }
        }
        all
    }

    /// The directory at `start`.
    fn at(bytes: &'a [u8], order: ByteOrder, is_big_tiff: bool, start: usize) -> Option<Self> {
        let (start, count, size) = if is_big_tiff {
            (start.checked_add(8)?, order.u64(bytes, start)?, 20)
        } else {
            (
                start.checked_add(2)?,
                u64::from(order.u16(bytes, start)?),
                12,
            )
        };
        let end = usize::try_from(count).ok().and_then(|count| {
            let length = count.checked_mul(size)?;
            start.checked_add(length)
        });
        let count = usize::try_from(count).ok()?.min(MAX_ENTRIES);
        let at = |index: usize| start.checked_add(index * size);
        let entries = (0..count).map_while(|index| {
            let at = at(index)?;
            let (count, field) = if is_big_tiff {
                (order.u64(bytes, at + 4)?, at + 12)
            } else {
                (u64::from(order.u32(bytes, at + 4)?), at + 8)
            };
            Some(DirectoryEntry {
                tag: order.u16(bytes, at)?,
                kind: order.u16(bytes, at + 2)?,
                count,
                field,
            })
        });
        Some(Self {
            bytes,
            order,
            is_big_tiff,
            entries: entries.collect(),
            end,
        })
    }

    /// Byte order of the file's numbers.
    pub(super) fn order(&self) -> ByteOrder {
        self.order
    }

    /// Whether there is an entry with this tag.
    pub(super) fn has(&self, tag: u16) -> bool {
        self.find(tag).is_some()
    }

    /// Whether the entry with this tag is of type BYTE.
    pub(super) fn is_bytes(&self, tag: u16) -> bool {
        self.find(tag)
            .is_some_and(|entry| matches!(entry.kind, 1 | 7))
    }

    /// The first number of the entry with this tag.
    pub(super) fn number(&self, tag: u16) -> Option<u64> {
        self.integers(tag, 1)?.first().copied()
    }

    /// The first numbers of the entry with this tag, at most `most`, if they are integers.
    pub(super) fn integers(&self, tag: u16, most: usize) -> Option<Vec<u64>> {
        let values = self.numbers(tag, most)?;
        let is_whole = |value: &f64| *value >= 0.0 && value.fract() == 0.0;
        let is_whole = values.iter().all(is_whole);
        is_whole.then(|| values.into_iter().map(|value| value as u64).collect())
    }

    /// The first numbers of the entry with this tag, at most `most` (a file may claim one for each
    /// of its bytes), if it has numbers and all lie within the bytes.
    pub(super) fn numbers(&self, tag: u16, most: usize) -> Option<Vec<f64>> {
        let entry = self.find(tag)?;
        let size = match entry.kind {
            1 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16 | 17 | 18 => 8,
            _ => return None, // text
        };
        let field = self.field(entry, size)?;
        field
            .chunks_exact(size)
            .take(most)
            .map(|field| self.value(entry.kind, field))
            .collect()
    }

    /// The bytes of the entry with this tag.
    pub(super) fn data(&self, tag: u16) -> Option<&'a [u8]> {
        self.field(self.find(tag)?, 1)
    }

    fn find(&self, tag: u16) -> Option<DirectoryEntry> {
        self.entries.iter().find(|entry| entry.tag == tag).copied()
    }

    /// An entry's values of `size` bytes each: in its value field if they fit, else at the offset
    /// in that field.
    fn field(&self, entry: DirectoryEntry, size: usize) -> Option<&'a [u8]> {
        let length = usize::try_from(entry.count).ok()?.checked_mul(size)?;
        let room = if self.is_big_tiff { 8 } else { 4 };
        let at = match (length <= room, self.is_big_tiff) {
            (true, _) => entry.field,
            (false, false) => self.order.u32(self.bytes, entry.field)? as usize,
            (false, true) => usize::try_from(self.order.u64(self.bytes, entry.field)?).ok()?,
        };
        self.bytes.get(at..at.checked_add(length)?)
    }

    fn value(&self, kind: u16, field: &[u8]) -> Option<f64> {
        let order = self.order;
        let ratio = |above: f64, below: f64| (below != 0.0).then(|| above / below);
        Some(match kind {
            6 => f64::from(field[0] as i8),
            1 | 7 => f64::from(field[0]),
            3 => f64::from(order.u16(field, 0)?),
            8 => f64::from(order.u16(field, 0)? as i16),
            9 => f64::from(order.u32(field, 0)? as i32),
            11 => f64::from(f32::from_bits(order.u32(field, 0)?)),
            12 => f64::from_bits(order.u64(field, 0)?),
            5 => ratio(
                f64::from(order.u32(field, 0)?),
                f64::from(order.u32(field, 4)?),
            )?,
            10 => {
                let part = |at| order.u32(field, at).map(|part| f64::from(part as i32));
                ratio(part(0)?, part(4)?)?
            }
            16..=18 => order.u64(field, 0)? as f64,
            _ => f64::from(order.u32(field, 0)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of one entry in either byte order and either offset size.
    fn file(order: ByteOrder, is_big: bool, kind: u16, count: u32, value: u32) -> Vec<u8> {
        let short = |number: u16| match order {
            ByteOrder::Little => number.to_le_bytes(),
            ByteOrder::Big => number.to_be_bytes(),
        };
        let long = |number: u64, size: usize| match order {
            ByteOrder::Little => number.to_le_bytes()[..size].to_vec(),
            ByteOrder::Big => number.to_be_bytes()[8 - size..].to_vec(),
        };
        let (size, mark) = if is_big { (8, 43) } else { (4, 42) };
        let mut bytes = match order {
            ByteOrder::Little => b"II".to_vec(),
            ByteOrder::Big => b"MM".to_vec(),
        };
        bytes.extend(short(mark));
        if is_big {
            bytes.extend(short(8));
            bytes.extend(short(0));
        }
        bytes.extend(long(2 * size as u64, size));
        bytes.extend(if is_big {
            long(1, 8)
        } else {
            short(1).to_vec()
        });
        bytes.extend([short(7), short(kind)].concat());
        bytes.extend(long(u64::from(count), size));
        bytes.extend(long(u64::from(value), size));
        bytes
    }

    #[test]
    fn numbers_are_read_in_both_orders_and_sizes() {
        for (order, is_big) in [
            (ByteOrder::Little, false),
            (ByteOrder::Big, false),
            (ByteOrder::Little, true),
        ] {
            let bytes = file(order, is_big, 4, 1, 70_000);
            let directory = Directory::first(&bytes).unwrap();
            assert_eq!(directory.order(), order);
            assert_eq!(directory.number(7), Some(70_000), "{order:?} {is_big}");
            assert_eq!(directory.number(8), None);
        }
    }

    #[test]
    fn at_most_the_requested_numbers_are_read() {
        let mut bytes = file(ByteOrder::Little, false, 1, 1000, 26);
        bytes.resize(26 + 1000, 7);
        let directory = Directory::first(&bytes).unwrap();
        for (most, read) in [(0, 0), (1, 1), (32, 32), (5000, 1000)] {
            assert_eq!(directory.integers(7, most), Some(vec![7; read]));
        }
        assert_eq!(directory.number(7), Some(7));
    }

    #[test]
    fn values_outside_the_bytes_are_absent() {
        let whole = file(ByteOrder::Little, false, 4, 9, 10);
        let directory = Directory::first(&whole).unwrap();
        assert!(directory.has(7) && directory.numbers(7, 9).is_none());
        let huge = file(ByteOrder::Little, true, 16, u32::MAX, u32::MAX);
        assert!(Directory::first(&huge).unwrap().numbers(7, 9).is_none());
        for length in 0..whole.len() {
            let found = Directory::first(&whole[..length]);
            assert!(found.is_none_or(|directory| directory.number(7).is_none()));
        }
    }
}
