//! safetensors: `embeddings` `[rows, dim]`, and `rows`, the UTF-8 bytes of one JSON object per row.
//! The metadata in the header record what made the embeddings, and the CRC-32 of all that follows.

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use crc32fast::Hasher;
use safetensors::Dtype as FileDtype;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value, json};

use super::line::LineIndex;
use super::read::{EmbeddingFile, Mapped, StoredNumbers, crc32, header, map, tensor_range};
use super::{About, Dtype, Line, Row, Rows, check_dim, push_values, visit_rows};
use crate::file::atomic::AtomicFile;
use crate::file::safetensors::{Planned, header_bytes};

pub(super) fn write(path: &Path, about: &About, rows: &dyn Rows) -> Result<()> {
    // The header comes first and states both lengths and the checksum, so the names are measured
    // beforehand.
    let mut bytes = Vec::with_capacity(about.dim * about.dtype.size());
    let (mut names_length, mut sum, mut sum_of_names) = (0, Hasher::new(), Hasher::new());
    visit_rows(rows, |row, embedding| {
        let line = Line::of_row(row).to_bytes()?;
        names_length += line.len();
        sum_of_names.update(&line);
        bytes.clear();
        push_values(&mut bytes, embedding, about.dtype);
        sum.update(&bytes);
        Ok(())
    })?;
    sum.combine(&sum_of_names);
    let file = AtomicFile::create_alone(path)?;
    let mut sink = file.sink()?;
    let writing = || format!("cannot write {}", path.display());
    sink.write_all(&header_of(rows.rows(), names_length, about, sum.finalize()))
        .with_context(writing)?;
    visit_rows(rows, |_, embedding| {
        bytes.clear();
        push_values(&mut bytes, embedding, about.dtype);
        sink.write_all(&bytes).with_context(writing)
    })?;
    visit_rows(rows, |row, _| {
        let line = Line::of_row(row).to_bytes()?;
        sink.write_all(&line).with_context(writing)
    })?;
    sink.flush().with_context(writing)?;
    file.commit()
}

fn header_of(rows: usize, names_length: usize, about: &About, crc32: u32) -> Vec<u8> {
    let dtype = match about.dtype {
        Dtype::F32 => FileDtype::F32,
        Dtype::F16 => FileDtype::F16,
    };
    let pairs = about.pairs().into_iter();
    let pairs = pairs.chain([(CRC32, crc32.to_string())]);
    let pairs: Map<String, Value> = pairs
        .map(|(key, value)| (key.to_owned(), json!(value)))
        .collect();
    let tensors = [
        Planned {
            name: "embeddings",
            dtype,
            shape: &[rows, about.dim],
        },
        Planned {
            name: "rows",
            dtype: FileDtype::U8,
            shape: &[names_length],
        },
    ];
    header_bytes(Value::Object(pairs), tensors, 64)
}

/// Key of the checksum of all that follows the header.
const CRC32: &str = "crc32";

/// Longclip's headers have less than 2 KB.
const LONGEST_HEADER: u64 = 1 << 20;

pub(super) struct Safetensors {
    about: About,
    numbers: StoredNumbers,
    names: LineIndex,
}

impl Safetensors {
    /// Whether the header records the model that made the embeddings, as longclip embed writes it.
    pub(super) fn has_model(path: &Path) -> Result<bool> {
        let bytes = map(path)?;
        // Larger than longclip's headers, so that foreign files are recognised too.
        let (_, directory) = header(&bytes, 8 * LONGEST_HEADER)?;
        let pairs = directory.metadata().as_ref();
        Ok(pairs.is_some_and(|pairs| pairs.contains_key("format") && pairs.contains_key("model")))
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
        let bytes = map(path)?;
        let (length, directory) = header(&bytes, LONGEST_HEADER)?;
        let pairs = directory.metadata().clone().unwrap_or_default();
        let about = About::from_pairs(|key| pairs.get(key).cloned())?;
        let stated = pairs.get(CRC32);
        let data = bytes.get(length + 8..).unwrap_or_default();
        ensure!(
            stated.is_none_or(|stated| *stated == crc32(data).to_string()),
            "it was changed or damaged after it was written; if the change is yours, remove \
             crc32 from its header"
        );
        let infos = directory.tensors();
        let tensor = |name: &str| -> Result<(&TensorInfo, Range<usize>)> {
            let info = infos.get(name);
            let info = info.with_context(|| format!("the file has no tensor {name:?}"))?;
            Ok((info, tensor_range(length, info)?))
        };
        let (info, range) = tensor("embeddings")?;
        let dtype = match info.dtype {
            FileDtype::F32 => Dtype::F32,
            FileDtype::F16 => Dtype::F16,
            other => bail!("the embeddings are of type {other:?}; F32 or F16 is expected"),
        };
        let &[rows, dim] = info.shape.as_slice() else {
            bail!(
                "the embeddings have shape {:?}; rows and columns are expected",
                info.shape
            );
        };
        check_dim(dim)?;
        ensure!(
            (dtype, dim) == (about.dtype, about.dim),
            "the header contradicts the tensor: {} {} and {dim} {dtype}",
            about.dim,
            about.dtype
        );
        let numbers = StoredNumbers::new(&bytes, range, dtype, [rows, dim])?;
        let (info, range) = tensor("rows")?;
        ensure!(
            info.dtype == FileDtype::U8,
            "the tensor \"rows\" holds no bytes"
        );
        let names = LineIndex::new(&bytes, range)?;
        ensure!(
            names.count() == rows,
            "the file has {rows} embeddings but {} names; it is damaged",
            names.count()
        );
        Ok(Self {
            about,
            numbers,
            names,
        })
    }
}

impl EmbeddingFile for Safetensors {
    fn about(&self) -> &About {
        &self.about
    }

    fn rows(&self) -> usize {
        self.numbers.rows
    }

    fn row(&self, index: usize) -> Result<Row> {
        let line = Line::from_bytes(self.names.get(index)?);
        line.and_then(|line| line.row())
            .with_context(|| format!("row {index} is damaged"))
    }

    fn vectors(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        self.numbers.values(range, values)
    }

    fn numbers(&self) -> Option<Mapped<'_>> {
        self.numbers.mapped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::Kind;
    use crate::embedding::testing::about;

    #[test]
    fn contradictory_headers_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let about = about(Kind::Images, 4);
        let pairs: std::collections::BTreeMap<_, _> = about.pairs().into_iter().collect();
        let write = |embeddings: serde_json::Value, rows: serde_json::Value, data: usize| {
            let header = serde_json::json!({
                "__metadata__": pairs, "embeddings": embeddings, "rows": rows,
            });
            let header = header.to_string();
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend(vec![b'\n'; data]);
            std::fs::write(&path, bytes).unwrap();
            Safetensors::open(&path).map(|file| file.rows())
        };
        let tensor = |dtype: &str, shape: &[usize], from: usize, to: usize| serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [from, to]});
        let rows = tensor("U8", &[2], 32, 34);
        assert_eq!(
            write(tensor("F32", &[2, 4], 0, 32), rows.clone(), 34).unwrap(),
            2
        );
        #[rustfmt::skip]
        let cases = [
            (tensor("F32", &[2, 4], 0, 32), rows.clone(), 33),
            (tensor("F32", &[2, 4], 0, 32), rows.clone(), 35),
            (tensor("F32", &[8], 0, 32), rows.clone(), 34),
            (tensor("F32", &[4, 2], 0, 32), rows.clone(), 34),
            (tensor("F16", &[4, 4], 0, 32), rows.clone(), 34),
            (tensor("I32", &[2, 4], 0, 32), rows.clone(), 34),
            (tensor("F32", &[usize::MAX, 4], 0, 32), rows.clone(), 34),
            (tensor("F32", &[2, 4], 0, 32), tensor("U8", &[3], 32, 35), 35),
            (tensor("F32", &[2, 4], 0, 32), tensor("F16", &[1], 32, 34), 34),
            (tensor("F32", &[2, 4], 0, 32), tensor("U8", &[2], 30, 32), 32),
        ];
        for (embeddings, rows, data) in cases {
            let shown = format!("{embeddings} {rows} {data}");
            assert!(write(embeddings, rows, data).is_err(), "{shown}");
        }
        std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
        assert!(Safetensors::open(&path).is_err());
    }
}
