//! Pages of a column, unpacked within limits, and checked before the `parquet` crate decodes them.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescriptor;
use zstd::zstd_safe::get_frame_content_size;

use super::Checked;

/// Most bytes of a page, packed and unpacked. A thousand photographs are a usual one.
pub(crate) const MOST_PAGE_BYTES: u64 = 1 << 30;

/// Snappy's longest copy has 64 bytes and takes three.
const MOST_SNAPPY: u64 = 22;

/// How pages are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Snappy,
    Zstd,
}

impl Packing {
    /// `None` for a compression that is not read.
    pub(crate) fn of(compression: Compression) -> Option<Self> {
        match compression {
            Compression::UNCOMPRESSED => Some(Self::None),
            Compression::GZIP(_) => Some(Self::Gzip),
            Compression::SNAPPY => Some(Self::Snappy),
            Compression::ZSTD(_) => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Unpacks at most `most` bytes. Nothing is allocated to a claim that is larger.
    fn unpack(self, packed: &[u8], most: u64) -> Result<Vec<u8>> {
        // A page without values may have nothing to pack.
        if packed.is_empty() {
            return Ok(Vec::new());
        }
        let check = |claimed: u64| {
            ensure!(
                claimed <= most,
                "a page of {claimed} bytes is over the limit of 1 GiB; write smaller pages or row groups"
            );
            Ok(claimed as usize)
        };
        let stream: Box<dyn Read + '_> = match self {
            Self::None => return Ok(packed.to_vec()),
            Self::Snappy => {
                let claimed = snap::raw::decompress_len(packed)?;
                let possible = (packed.len() as u64).saturating_mul(MOST_SNAPPY);
                ensure!(
                    claimed as u64 <= possible,
                    "a page claims {claimed} bytes, which is impossible"
                );
                let mut bytes = vec![0; check(claimed as u64)?];
                let count = snap::raw::Decoder::new().decompress(packed, &mut bytes)?;
                ensure!(count == claimed, "a page is damaged");
                return Ok(bytes);
            }
            Self::Zstd => match get_frame_content_size(packed) {
                // Not as a stream, which would hold the page twice.
                Ok(Some(claimed)) => {
                    let size = check(claimed)?;
                    return Ok(zstd::bulk::decompress(packed, size)?);
                }
                _ => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
            },
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        };
        let mut bytes = Vec::new();
        stream.take(most + 1).read_to_end(&mut bytes)?;
        check(bytes.len() as u64)?;
        Ok(bytes)
    }
}

/// Pages that together claim no more entries than the footer allows.
pub(crate) struct Pages {
    pages: Box<dyn PageReader>,
    packing: Packing,
    /// How many kinds of levels the first version of pages begins with.
    levels: u8,
    left: usize,
}

impl Pages {
    /// Pages of `column` that are still packed, and claim at most `most` entries.
    pub(crate) fn new(
        pages: Box<dyn PageReader>,
        column: &ColumnDescriptor,
        packing: Packing,
        most: usize,
    ) -> Self {
        let levels = [column.max_rep_level(), column.max_def_level()];
        Self {
            pages,
            packing,
            levels: levels.map(|most| u8::from(most > 0)).iter().sum(),
            left: most,
        }
    }

    /// The pages of a column of `rows` rows in a row group, which it does not repeat.
    ///
    /// # Errors
    /// When the compression is not supported, or what the footer says of the column is damaged.
    pub(crate) fn of(
        file: Arc<Checked>,
        column: &ColumnChunkMetaData,
        rows: usize,
    ) -> Result<Self> {
        let packing = Packing::of(column.compression()).context("its compression is not read")?;
        // Told so, the crate leaves the pages as they are. It would allocate to what they claim, and
        // unpack gzip without an end.
        let packed = column
            .clone()
            .into_builder()
            .set_compression(Compression::UNCOMPRESSED);
        let pages = SerializedPageReader::new(file, &packed.build()?, rows, None)?;
        Ok(Self::new(
            Box::new(pages),
            column.column_descr(),
            packing,
            rows,
        ))
    }

    fn unpacked(&self, page: &Bytes, start: usize) -> Result<Bytes> {
        if self.packing == Packing::None {
            return Ok(page.clone());
        }
        let (levels, values) = page
            .split_at_checked(start)
            .context("a page is too short")?;
        let values = self.packing.unpack(values, MOST_PAGE_BYTES)?;
        Ok(match levels {
            [] => values.into(),
            _ => [levels, &values].concat().into(),
        })
    }

    fn check(&mut self, mut page: Page) -> Result<Page> {
        let claimed = page.num_values() as usize;
        let left = if page.is_data_page() {
            self.left.checked_sub(claimed)
        } else {
            // A dictionary has at most as many values as there are entries.
            (claimed <= self.left).then_some(self.left)
        };
        self.left = left.with_context(|| format!("a page claims {claimed} entries, too many"))?;
        match &mut page {
            Page::DataPage { buf, .. } => *buf = self.unpacked(buf, 0)?,
            Page::DictionaryPage { buf, .. } => {
                *buf = self.unpacked(buf, 0)?;
                // The crate makes room for as many before it reads them. Each takes a byte at least.
                ensure!(
                    claimed <= buf.len(),
                    "a dictionary claims {claimed} values, too many"
                );
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                let levels = u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len);
                if *is_compressed {
                    *buf = self.unpacked(buf, usize::try_from(levels)?)?;
                }
            }
        }
        check_delta(&page, self.levels)?;
        Ok(page)
    }
}

/// Checks how many lengths a page of texts claims by deltas: the crate makes room for as many first.
fn check_delta(page: &Page, levels: u8) -> Result<()> {
    let runs = match page.encoding() {
        Encoding::DELTA_LENGTH_BYTE_ARRAY => 1,
        Encoding::DELTA_BYTE_ARRAY => 2,
        _ => return Ok(()),
    };
    let mut rest = Rest(page.buffer());
    match page {
        Page::DataPageV2 {
            def_levels_byte_len,
            rep_levels_byte_len,
            ..
        } => {
            rest.take(u64::from(*def_levels_byte_len))?;
            rest.take(u64::from(*rep_levels_byte_len))?;
        }
        Page::DataPage {
            def_level_encoding,
            rep_level_encoding,
            ..
        } => {
            for _ in 0..levels {
                let are_known = [def_level_encoding, rep_level_encoding]
                    .iter()
                    .all(|encoding| **encoding == Encoding::RLE);
                ensure!(are_known, "a page has levels that are not run lengths");
                let length = rest.take(4)?.try_into().map(u32::from_le_bytes)?;
                rest.take(u64::from(length))?;
            }
        }
        Page::DictionaryPage { .. } => bail!("a dictionary is not plain"),
    }
    for _ in 0..runs {
        rest.pass_deltas(u64::from(page.num_values()))?;
    }
    Ok(())
}

/// What follows in a page.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let parts = usize::try_from(count)
            .ok()
            .and_then(|count| self.0.split_at_checked(count));
        let (taken, rest) = parts.context("a page is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a number in a page is too long")
    }

    /// Passes over at most `most` numbers by deltas (`DELTA_BINARY_PACKED`).
    fn pass_deltas(&mut self, most: u64) -> Result<()> {
        let [block, parts, count, _first] = [
            self.varint()?,
            self.varint()?,
            self.varint()?,
            self.varint()?,
        ];
        ensure!(count <= most, "a page claims {count} lengths, too many");
        let part = block
            .checked_div(parts)
            .context("a page has blocks without parts")?;
        let mut left = count.saturating_sub(1);
        while left > 0 {
            let _least = self.varint()?;
            for bits in self.take(parts)? {
                // What the last parts say that have no numbers does not count.
                if left > 0 {
                    self.take(u64::from(*bits).saturating_mul(part) / 8)?;
                }
                left = left.saturating_sub(part);
            }
        }
        Ok(())
    }
}

impl Iterator for Pages {
    type Item = parquet::errors::Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> parquet::errors::Result<Option<Page>> {
        let Some(page) = self.pages.get_next_page()? else {
            return Ok(None);
        };
        let page = self.check(page);
        Ok(Some(page.map_err(|error| {
            ParquetError::General(format!("{error:#}"))
        })?))
    }

    fn peek_next_page(&mut self) -> parquet::errors::Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> parquet::errors::Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> parquet::errors::Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn packed(packing: Packing, bytes: &[u8]) -> Vec<u8> {
        match packing {
            Packing::None => bytes.to_vec(),
            Packing::Snappy => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
            Packing::Zstd => zstd::bulk::compress(bytes, 1).unwrap(),
            Packing::Gzip => {
                let level = flate2::Compression::fast();
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
                writer.write_all(bytes).unwrap();
                writer.finish().unwrap()
            }
        }
    }

    #[test]
    fn pages_are_unpacked_up_to_a_limit_and_never_to_a_claim() {
        let bytes = b"a page of a thousand pages ".repeat(40);
        let most = bytes.len() as u64;
        for packing in [Packing::Gzip, Packing::Snappy, Packing::Zstd] {
            let page = packed(packing, &bytes);
            assert_eq!(packing.unpack(&page, most).unwrap(), bytes);
            let error = packing.unpack(&page, most - 1).unwrap_err().to_string();
            assert!(error.contains("over the limit"), "{packing:?}: {error}");
            assert!(packing.unpack(&page[..page.len() - 1], most).is_err());
            assert!(packing.unpack(&[], most).unwrap().is_empty());
        }
        // Of a length that the encoder did not know.
        let stream = zstd::stream::encode_all(&bytes[..], 1).unwrap();
        assert_eq!(Packing::Zstd.unpack(&stream, most).unwrap(), bytes);
        assert!(Packing::Zstd.unpack(&stream, most - 1).is_err());
        // A gigabyte in ten bytes.
        let lie = [0xff, 0xff, 0xff, 0xff, 3, 0, b'a', 0, 0, 0];
        let error = Packing::Snappy.unpack(&lie, MOST_PAGE_BYTES).unwrap_err();
        assert!(error.to_string().contains("impossible"), "{error}");
    }

    #[test]
    fn lengths_by_deltas_are_counted_before_they_are_read() {
        // 128 numbers per block of 4 parts; 3 numbers: the first, and two deltas of 8 bits.
        let run = |count: u8| [&[128, 1, 4, count, 2, 0, 8, 0, 0, 0][..], &[1; 32]].concat();
        let page = |encoding, values: &[u8]| Page::DataPage {
            buf: [&[2, 0, 0, 0, 6, 1], values].concat().into(),
            num_values: 3,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let check = |encoding, values: &[u8]| check_delta(&page(encoding, values), 1);
        let [one, two] = [
            Encoding::DELTA_LENGTH_BYTE_ARRAY,
            Encoding::DELTA_BYTE_ARRAY,
        ];
        check(one, &run(3)).unwrap();
        check(two, &[run(3), run(3)].concat()).unwrap();
        // A trillion lengths.
        let many = [128, 1, 4, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 2];
        for (encoding, values, part) in [
            (one, run(4), "claims 4 lengths"),
            (one, many.to_vec(), "claims 1099511627776 lengths"),
            (
                two,
                [&run(3)[..], &many].concat(),
                "claims 1099511627776 lengths",
            ),
            (two, run(3), "too short"),
            (one, vec![128, 1, 0, 3, 2], "without parts"),
        ] {
            let error = check(encoding, &values).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
