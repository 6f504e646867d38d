//! A walk over Parquet's headers in Thrift's compact protocol before the `parquet` crate reads them.
//!
//! The crate takes a list of booleans that it does not know to have no bytes, and passes over as many
//! as the list claims: two billion for six bytes. It also reads a known field as its type, whatever
//! type the file states. So a header that holds such a list, or whose fields are of other types than
//! [the format's](https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift),
//! is refused here. What passes costs the crate no more than its bytes.

use std::io::Read;

use anyhow::{Context as _, Result, bail, ensure};

/// What a field holds.
pub(super) enum Kind {
    Bool,
    Byte,
    /// Of 16, 32 or 64 bits, and enums: all are varints.
    Int,
    Double,
    Bytes,
    List(&'static Kind),
    Struct(Fields),
}

use Kind::{Bool, Byte, Bytes, Double, Int, List, Struct};

/// The fields of a struct or union that the `parquet` crate knows, from number 1 on.
pub(super) type Fields = &'static [Kind];

const EMPTY: Kind = Struct(&[]);
const STATISTICS: Kind = Struct(&[Bytes, Bytes, Int, Int, Bytes, Bytes, Bool, Bool, Int]);
const KEY_VALUE: Kind = Struct(&[Bytes, Bytes]);
const TIME: Kind = Struct(&[Bool, Struct(&[EMPTY, EMPTY, EMPTY])]);

const DATA_PAGE: Kind = Struct(&[Int, Int, Int, Int, STATISTICS]);
const DICTIONARY_PAGE: Kind = Struct(&[Int, Int, Bool]);
const DATA_PAGE_2: Kind = Struct(&[Int, Int, Int, Int, Int, Int, Bool, STATISTICS]);

/// Of `PageHeader`.
pub(super) const PAGE: Fields = &[
    Int,
    Int,
    Int,
    Int,
    DATA_PAGE,
    EMPTY,
    DICTIONARY_PAGE,
    DATA_PAGE_2,
];

const LOGICAL_TYPE: Kind = Struct(&[
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    Struct(&[Int, Int]),
    EMPTY,
    TIME,
    TIME,
    EMPTY,
    Struct(&[Byte, Bool]),
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    EMPTY,
    Struct(&[Byte]),
    Struct(&[Bytes]),
    Struct(&[Bytes, Int]),
    EMPTY,
]);

const SCHEMA_ELEMENT: Kind = Struct(&[Int, Int, Int, Bytes, Int, Int, Int, Int, Int, LOGICAL_TYPE]);

const BOUNDING_BOX: Kind = Struct(&[
    Double, Double, Double, Double, Double, Double, Double, Double,
]);

const COLUMN: Kind = Struct(&[
    Int,
    List(&Int),
    List(&Bytes),
    Int,
    Int,
    Int,
    Int,
    List(&KEY_VALUE),
    Int,
    Int,
    Int,
    STATISTICS,
    List(&Struct(&[Int, Int, Int])),
    Int,
    Int,
    Struct(&[Int, List(&Int), List(&Int)]),
    Struct(&[BOUNDING_BOX, List(&Int)]),
]);

const COLUMN_CHUNK: Kind = Struct(&[Bytes, Int, COLUMN, Int, Int, Int, Int]);

const ROW_GROUP: Kind = Struct(&[
    List(&COLUMN_CHUNK),
    Int,
    Int,
    List(&Struct(&[Int, Bool, Bool])),
    Int,
    Int,
    Int,
]);

/// Of `FileMetaData`, the footer.
pub(super) const FOOTER: Fields = &[
    Int,
    List(&SCHEMA_ELEMENT),
    Int,
    List(&ROW_GROUP),
    List(&KEY_VALUE),
    Bytes,
    List(&Struct(&[EMPTY, EMPTY])),
];

/// The bytes of the struct with which `from` begins, which has at most `most`.
///
/// # Errors
/// If it ends too early, or is one that the `parquet` crate should not read.
pub(super) fn header(from: impl Read, known: Fields, most: usize) -> Result<Vec<u8>> {
    let mut walk = Walk {
        from,
        seen: Vec::new(),
        most,
    };
    walk.fields(known, 32)?;
    Ok(walk.seen)
}

struct Walk<R> {
    from: R,
    seen: Vec<u8>,
    most: usize,
}

impl<R: Read> Walk<R> {
    fn skip(&mut self, bytes: u64) -> Result<()> {
        let left = (self.most - self.seen.len()) as u64;
        ensure!(bytes <= left, "a header is too long");
        let read = (&mut self.from).take(bytes).read_to_end(&mut self.seen)?;
        ensure!(read as u64 == bytes, "a header ends too early");
        Ok(())
    }

    fn byte(&mut self) -> Result<u8> {
        self.skip(1)?;
        self.seen.last().copied().context("a header ends too early")
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number in a header is too long")
    }

    fn fields(&mut self, known: Fields, depth: u8) -> Result<()> {
        let mut id = 0i16;
        loop {
            let byte = self.byte()?;
            let wire = byte & 15;
            if wire == 0 {
                return Ok(());
            }
            id = if byte >> 4 == 0 {
                let coded = self.varint()?;
                ((coded >> 1) as i64 ^ -((coded & 1) as i64)) as i16
            } else {
                id.checked_add(i16::from(byte >> 4))
                    .context("a field's number is too large")?
            };
            let at = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
            let kind = at.and_then(|at| known.get(at));
            // The value of a boolean is its type.
            if !(matches!(wire, 1 | 2) && matches!(kind, None | Some(Bool))) {
                self.value(wire, kind, depth)?;
            }
        }
    }

    fn value(&mut self, wire: u8, kind: Option<&'static Kind>, depth: u8) -> Result<()> {
        let depth = depth.checked_sub(1);
        let depth = depth.context("a header is nested too deeply")?;
        let fits = match kind {
            None => true,
            Some(Bool) => false,
            Some(Byte) => wire == 3,
            Some(Int) => matches!(wire, 4..=6),
            Some(Double) => wire == 7,
            Some(Bytes) => wire == 8,
            Some(List(_)) => wire == 9,
            Some(Struct(_)) => wire == 12,
        };
        ensure!(fits, "a field of a header has the type {wire}");
        match wire {
            3 => self.skip(1),
            4..=6 => self.varint().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length)
            }
            9 | 10 => {
                let start = self.byte()?;
                let size = match start >> 4 {
                    15 => self.varint()?,
                    size => u64::from(size),
                };
                let of = match kind {
                    Some(List(of)) => Some(*of),
                    _ => None,
                };
                for _ in 0..size {
                    self.value(start & 15, of, depth)?;
                }
                Ok(())
            }
            11 => {
                let size = self.varint()?;
                let of = if size > 0 { self.byte()? } else { 0 };
                for _ in 0..size {
                    self.value(of >> 4, None, depth)?;
                    self.value(of & 15, None, depth)?;
                }
                Ok(())
            }
            12 => match kind {
                Some(Struct(known)) => self.fields(known, depth),
                _ => self.fields(&[], depth),
            },
            13 => self.skip(16),
            _ => bail!("a header has a value of type {wire}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: &[u8]) -> Result<Vec<u8>> {
        header(bytes, PAGE, 1 << 10)
    }

    /// Field 1 is the number 3; what is added follows, then the end and what is not the header's.
    fn with(field: &[u8]) -> Vec<u8> {
        [&[0x15, 6], field, &[0, 99, 99]].concat()
    }

    #[test]
    fn a_header_ends_where_its_struct_does() {
        let unknown: [&[u8]; 6] = [
            &[],
            // Lists of three numbers and of no booleans, a map, a boolean and a struct in a struct.
            &[0xf9, 0x35, 2, 4, 6],
            &[0xf9, 0x01],
            &[0xfb, 1, 0x58, 2, 2, 7, 7],
            &[0xf1],
            &[0xfc, 0x1c, 0x15, 8, 0, 0],
        ];
        for field in unknown {
            let bytes = with(field);
            assert_eq!(page(&bytes).expect("a header"), bytes[..bytes.len() - 2]);
        }
    }

    #[test]
    fn a_header_that_costs_more_than_its_bytes_is_refused() {
        let refused: [(&[u8], &str); 9] = [
            (&[0xf9, 0xf1, 255, 255, 255, 255, 7], "value of type 1"),
            (&[0xfa, 0x12], "value of type 2"),
            (&[0xfb, 255, 255, 255, 255, 7, 0x11], "value of type 1"),
            // As many bytes as a header may have, and fields of other types than theirs.
            (&[0xf8, 255, 255, 255, 255, 7], "too long"),
            (&[0x18, 1, 0], "has the type 8"),
            (&[0x11], "has the type 1"),
            (
                &[0x4c, 0x15, 2, 0x15, 2, 0x15, 2, 0x15, 2, 0x18, 0, 0],
                "has the type 8",
            ),
            (
                &[0xf5, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
                "too long",
            ),
            (&[0xfc; 40], "too deeply"),
        ];
        for (field, why) in refused {
            let error = page(&with(field)).expect_err("refused").to_string();
            assert!(error.contains(why), "{field:02x?}: {error}");
        }
        let error = page(&[0x15]).expect_err("refused").to_string();
        assert!(error.contains("ends too early"), "{error}");
    }
}
