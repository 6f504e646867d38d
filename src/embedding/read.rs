//! Opening files of embeddings: those that [`write`](super::write()) made, memory-mapped if the
//! format allows. No byte is trusted.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ::safetensors::SafeTensors;
use ::safetensors::tensor::{Metadata, TensorInfo};
use anyhow::{Context as _, Result, ensure};
use crc32fast::Hasher;

use super::{jsonl, npy, parquet, safetensors};
use crate::checkpoint::container::{Bytes, as_f16, as_f32};
use crate::embedding::{About, Dtype, Format, Row, sidecar_of};
use crate::file::atomic::writing_of;
use crate::file::open;

/// An open file of embeddings. Several threads may read it.
pub trait EmbeddingFile: Send + Sync {
    /// What it was made with.
    fn about(&self) -> &About;

    /// Number of rows.
    fn rows(&self) -> usize;

    /// The input that row `index` was made from.
    ///
    /// # Errors
    /// When the file has no such row, or is damaged there.
    fn row(&self, index: usize) -> Result<Row>;

    /// Reads the embeddings of `range` into `values`, `[range, dim]`, replacing its contents.
    ///
    /// # Errors
    /// When the file has no such rows, or is damaged there.
    fn vectors(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<()>;

    /// All embeddings in place, `[rows, dim]`, if they are stored in this machine's number format.
    fn numbers(&self) -> Option<Mapped<'_>> {
        None
    }

    /// Suggested number of rows per read.
    fn block_rows(&self) -> usize {
        ((1 << 19) / self.about().dim).max(1)
    }
}

/// Memory-mapped numbers.
#[derive(Clone, Copy, Debug)]
pub enum Mapped<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [half::f16]),
}

/// The error for a file without rows, in formats that then do not record what made it.
#[derive(Debug)]
pub(crate) struct NoRows;

impl std::fmt::Display for NoRows {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the file has no rows")
    }
}

impl std::error::Error for NoRows {}

/// Opens the file at `path`, written by longclip embed; the suffix selects the format.
///
/// # Errors
/// When it does not exist, or is not such a file.
pub fn open(path: &Path) -> Result<Box<dyn EmbeddingFile>> {
    let format = Format::of_path(path)?;
    let open = || -> Result<Box<dyn EmbeddingFile>> {
        Ok(match format {
            Format::Npy => Box::new(npy::Npy::open(path)?),
            Format::Safetensors => Box::new(safetensors::Safetensors::open(path)?),
            Format::Parquet => Box::new(parquet::Parquet::open(path)?),
            Format::Jsonl => Box::new(jsonl::Jsonl::open(path)?),
        })
    };
    open().with_context(|| format!("cannot read the embeddings {}", path.display()))
}

/// Whether a run was killed after the names of `path` (.npy) appeared and before its numbers did:
/// the file under completion is whole and belongs to the names.
#[must_use]
pub(crate) fn awaits_numbers(path: &Path) -> bool {
    Format::of_path(path).is_ok_and(|format| format == Format::Npy)
        && npy::Npy::is_pair(&writing_of(path), sidecar_of(path))
}

/// The bytes of the regular file at `path`.
pub(super) fn map(path: &Path) -> Result<Arc<Bytes>> {
    let (file, length) = open::regular(path)?;
    Ok(Arc::new(Bytes::map(&file, length)?))
}

/// Bytes that one thread sums.
const SUMMED: usize = 32 << 20;

/// The CRC-32 of much data, by several threads.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = bytes.len().div_ceil(threads).max(SUMMED);
    let of = |part: &[u8]| {
        let mut sum = Hasher::new();
        sum.update(part);
        sum
    };
    let sums: Vec<Hasher> = std::thread::scope(|scope| {
        let (first, rest) = bytes.split_at(part.min(bytes.len()));
        let rest = rest
            .chunks(part)
            .map(|part| (part, scope.spawn(move || of(part))));
        let rest: Vec<_> = rest.collect();
        let rest = rest
            .into_iter()
            .map(|(part, sum)| sum.join().unwrap_or_else(|_| of(part)));
        [of(first)].into_iter().chain(rest).collect()
    });
    let mut all = Hasher::new();
    sums.iter().for_each(|sum| all.combine(sum));
    all.finalize()
}

/// The header of a safetensors file, of at most `limit` bytes: its length and contents.
pub(super) fn header(bytes: &[u8], limit: u64) -> Result<(usize, Metadata)> {
    let stated = bytes
        .first_chunk()
        .map(|length| u64::from_le_bytes(*length));
    let stated = stated.context("the file ends within the length of its header")?;
    ensure!(
        stated <= limit && stated <= bytes.len() as u64 - 8,
        "the header claims {stated} bytes, which is impossible; the file is damaged or is not a \
         safetensors file"
    );
    SafeTensors::read_metadata(bytes).context("the header is not valid")
}

/// Position in the file of a tensor, behind a header of `length` bytes.
pub(super) fn tensor_range(length: usize, info: &TensorInfo) -> Result<Range<usize>> {
    let at = |at: usize| (length + 8).checked_add(at).context("a tensor has no end");
    let (start, end) = info.data_offsets;
    Ok(at(start)?..at(end)?)
}

/// A part of a file with numbers `[rows, dim]`.
pub(super) struct StoredNumbers {
    pub(super) bytes: Arc<Bytes>,
    pub(super) range: Range<usize>,
    pub(super) dtype: Dtype,
    pub(super) rows: usize,
    pub(super) dim: usize,
}

impl StoredNumbers {
    /// Fails unless `range` has exactly the length of the numbers.
    pub(super) fn new(
        bytes: &Arc<Bytes>,
        range: Range<usize>,
        dtype: Dtype,
        shape: [usize; 2],
    ) -> Result<Self> {
        let [rows, dim] = shape;
        let length = rows
            .checked_mul(dim)
            .and_then(|n| n.checked_mul(dtype.size()));
        ensure!(
            length == Some(range.len()) && bytes.get(range.clone()).is_some(),
            "the header states {rows} embeddings of {dim} {dtype} numbers, but {} bytes follow; \
             the file is damaged",
            range.len()
        );
        Ok(Self {
            bytes: Arc::clone(bytes),
            range,
            dtype,
            rows,
            dim,
        })
    }

    /// The bytes of some rows.
    pub(super) fn bytes(&self, rows: Range<usize>) -> Result<&[u8]> {
        check_range(&rows, self.rows)?;
        let row_bytes = self.dim * self.dtype.size();
        let start = self.range.start + rows.start * row_bytes;
        let bytes = self.bytes.get(start..start + rows.len() * row_bytes);
        bytes.context("the rows lie outside the file")
    }

    pub(super) fn mapped(&self) -> Option<Mapped<'_>> {
        let bytes = self.bytes.get(self.range.clone())?;
        match self.dtype {
            Dtype::F32 => as_f32(bytes).map(Mapped::F32),
            Dtype::F16 => as_f16(bytes).map(Mapped::F16),
        }
    }

    pub(super) fn values(&self, rows: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        let bytes = self.bytes(rows)?;
        values.clear();
        match self.dtype {
            Dtype::F32 => values.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Dtype::F16 => {
                let halves = bytes.as_chunks().0.iter();
                values.extend(halves.map(|b| half::f16::from_le_bytes(*b).to_f32()));
            }
        }
        Ok(())
    }
}

pub(super) fn check_range(range: &Range<usize>, rows: usize) -> Result<()> {
    ensure!(
        range.start <= range.end && range.end <= rows,
        "rows {} to {} were requested, but there are {rows}",
        range.start,
        range.end
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::embedding::testing::{Listed, about, images, texts};
    use crate::embedding::{Failure, Kind, sidecar_of, write};
    use crate::output::Name;

    const NAMES: [&str; 4] = ["a.npy", "a.safetensors", "a.parquet", "a.jsonl"];

    fn written(folder: &tempfile::TempDir, name: &str, listed: &Listed, about: &About) -> PathBuf {
        let path = folder.path().join(name);
        write(Format::of_path(&path).unwrap(), &path, about, listed).unwrap();
        path
    }

    #[track_caller]
    fn check(path: &Path, listed: &Listed, about: &About) {
        let file = open(path).unwrap();
        assert_eq!(file.about(), about);
        assert_eq!(file.rows(), listed.rows.len());
        if let Some(Mapped::F32(numbers)) = file.numbers() {
            assert_eq!(numbers.len(), file.rows() * about.dim);
            assert_eq!(numbers[..about.dim], listed.rows[0].1);
        }
        let mut values = vec![1.0];
        for (index, (row, embedding)) in listed.rows.iter().enumerate() {
            assert_eq!(file.row(index).unwrap(), *row, "{index}");
            file.vectors(index..index + 1, &mut values).unwrap();
            assert_eq!(values, *embedding, "{index}");
        }
        file.vectors(1..file.rows(), &mut values).unwrap();
        let all: Vec<f32> = listed.rows[1..]
            .iter()
            .flat_map(|(_, v)| v.clone())
            .collect();
        assert!(values == all);
        assert!(file.row(file.rows()).is_err());
        assert!(file.vectors(0..file.rows() + 1, &mut values).is_err());
    }

    #[test]
    fn every_format_gives_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for name in NAMES {
            let mut listed = images(13, 24);
            listed.failed = vec![Failure {
                kind: None,
                given: None,
                name: Name::Text("x".to_owned()),
                error: "y".to_owned(),
            }];
            let about_images = about(Kind::Images, 24);
            check(
                &written(&folder, name, &listed, &about_images),
                &listed,
                &about_images,
            );
            let listed = texts(&["", "a\n\"b\"", "猫\u{9b}"], 5);
            let about_texts = about(Kind::Texts, 5);
            check(
                &written(&folder, name, &listed, &about_texts),
                &listed,
                &about_texts,
            );
        }
    }

    #[test]
    fn parquet_row_groups_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        // 2^21 numbers per group: 32 rows.
        let (listed, about) = (images(70, 1 << 16), about(Kind::Images, 1 << 16));
        let path = written(&folder, "a.parquet", &listed, &about);
        let file = open(&path).unwrap();
        let mut values = Vec::new();
        file.vectors(30..70, &mut values).unwrap();
        let expected: Vec<f32> = listed.rows[30..]
            .iter()
            .flat_map(|(_, v)| v.clone())
            .collect();
        assert!(values == expected);
        for index in [69, 0, 31, 32, 64] {
            assert_eq!(file.row(index).unwrap(), listed.rows[index].0);
        }
    }

    #[test]
    fn sixteen_bits_are_rounded_once() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.npy", "a.safetensors"] {
            let listed = images(3, 8);
            let about = About {
                dtype: Dtype::F16,
                ..about(Kind::Images, 8)
            };
            let file = open(&written(&folder, name, &listed, &about)).unwrap();
            assert_eq!(file.about(), &about);
            let mut values = Vec::new();
            file.vectors(2..3, &mut values).unwrap();
            let rounded = listed.rows[2]
                .1
                .iter()
                .map(|v| half::f16::from_f32(*v).to_f32());
            assert_eq!(values, rounded.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_file_without_rows_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        for name in NAMES {
            let path = written(&folder, name, &Listed::default(), &about(Kind::Images, 8));
            match open(&path) {
                Ok(file) => assert_eq!(file.rows(), 0, "{name}"),
                Err(error) => assert!(format!("{error:#}").contains("no rows"), "{error:#}"),
            }
        }
    }

    #[test]
    fn joined_numbers_and_names_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let about = about(Kind::Images, 8);
        // The first two rows after all five: the last line's checksum is that of other numbers.
        let all = written(&folder, "a.npy", &images(5, 8), &about);
        let two = written(&folder, "b.npy", &images(2, 8), &about);
        let joined = written(&folder, "c.npy", &images(7, 8), &about);
        let part = |path: &Path| fs::read(path).unwrap();
        let numbers = [
            &part(&joined)[..128],
            &part(&all)[128..],
            &part(&two)[128..],
        ]
        .concat();
        fs::write(&joined, numbers).unwrap();
        let names = [part(&sidecar_of(&all)), part(&sidecar_of(&two))].concat();
        fs::write(sidecar_of(&joined), names).unwrap();
        assert_eq!(open(&joined).unwrap().rows(), 7);
    }

    #[test]
    fn numbers_and_names_of_different_runs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let about = about(Kind::Images, 8);
        let path = written(&folder, "a.npy", &images(5, 8), &about);
        let mut other = images(5, 8);
        other.rows.rotate_left(1);
        let other = written(&folder, "b.npy", &other, &about);
        fs::copy(sidecar_of(&other), sidecar_of(&path)).unwrap();
        let error = open(&path).err().unwrap();
        assert!(
            format!("{error:#}").contains("do not belong together"),
            "{error:#}"
        );
        fs::remove_file(sidecar_of(&path)).unwrap();
        let error = open(&path).err().unwrap();
        assert!(format!("{error:#}").contains("a.paths.jsonl"), "{error:#}");
    }

    /// Reads all that a file offers, as far as it is readable.
    fn exercise(path: &Path) -> Result<()> {
        let file = open(path)?;
        let mut values = Vec::new();
        for start in (0..file.rows()).step_by(file.block_rows()) {
            let end = file.rows().min(start + file.block_rows());
            file.vectors(start..end, &mut values)?;
        }
        (0..file.rows().min(100)).try_for_each(|index| file.row(index).map(drop))
    }

    #[test]
    fn files_cut_short_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in NAMES {
            let path = written(&folder, name, &images(7, 8), &about(Kind::Images, 8));
            exercise(&path).unwrap();
            let whole = fs::read(&path).unwrap();
            for length in (0..whole.len() - 1).step_by(13) {
                fs::write(&path, &whole[..length]).unwrap();
                // A line of text may end where another would begin.
                let at_line_end = name == "a.jsonl" && whole[..length].ends_with(b"\n");
                assert!(at_line_end || exercise(&path).is_err(), "{name} {length}");
            }
        }
    }

    #[test]
    fn a_checksum_is_that_of_one_thread() {
        let bytes: Vec<u8> = (0..3 * SUMMED as u64 + 5)
            .map(|n| ((n * n) >> 3) as u8)
            .collect();
        for length in [0, 1, SUMMED, SUMMED + 1, bytes.len()] {
            let part = &bytes[..length];
            assert_eq!(crc32(part), crc32fast::hash(part), "{length}");
        }
    }

    /// All numbers of a file.
    fn numbers(path: &Path) -> Result<Vec<f32>> {
        let file = open(path)?;
        let mut values = Vec::new();
        file.vectors(0..file.rows(), &mut values)?;
        Ok(values)
    }

    #[test]
    fn no_flipped_bit_changes_a_number() {
        let folder = tempfile::tempdir().unwrap();
        for name in NAMES {
            // More rows than are sampled.
            let (listed, about) = (images(150, 8), about(Kind::Images, 8));
            let path = written(&folder, name, &listed, &about);
            let files = [path.clone(), sidecar_of(&path)];
            let expected = numbers(&path).unwrap();
            let (mut random, mut refused) = (7u64, 0);
            for file in files.iter().filter(|file| file.exists()) {
                let whole = fs::read(file).unwrap();
                for _ in 0..1000 {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695);
                    let at = (random >> 33) as usize % (8 * whole.len());
                    let mut bytes = whole.clone();
                    bytes[at / 8] ^= 1 << (at % 8);
                    fs::write(file, &bytes).unwrap();
                    match numbers(&path) {
                        Ok(found) => assert!(found == expected, "{name}, bit {at}"),
                        Err(_) => refused += 1,
                    }
                }
                fs::write(file, whole).unwrap();
            }
            assert!(refused > 100, "{name}: {refused}");
        }
    }

    #[test]
    fn damaged_files_do_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let mut random = 1u64;
        let mut next = |below: usize| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695);
            (random >> 33) as usize % below
        };
        for name in NAMES {
            let path = written(&folder, name, &images(7, 8), &about(Kind::Images, 8));
            let whole = fs::read(&path).unwrap();
            let mut refused = 0;
            for _ in 0..500 {
                let mut bytes = whole.clone();
                for _ in 0..1 + next(3) {
                    // Headers lie at the start, Parquet's also at the end.
                    let at = match next(3) {
                        0 => next(whole.len().min(200)),
                        1 => whole.len() - 1 - next(whole.len().min(1200)),
                        _ => next(whole.len()),
                    };
                    bytes[at] = [0, 0xff, 0x7f, 0x80, b'9', bytes[at] ^ (1 << next(8))][next(6)];
                }
                fs::write(&path, &bytes).unwrap();
                refused += usize::from(exercise(&path).is_err());
            }
            assert!(refused > 40, "{name}: {refused}");
        }
    }
}
