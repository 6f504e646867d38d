//! A safetensors file of hidden states, for image generators and detectors: one tensor of states,
//! named as its readers want it, perhaps others next to it, and `rows` as in files of embeddings.
//! It is not a file of embeddings, and [`super::open`] refuses it.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use safetensors::Dtype as FileDtype;
use serde_json::{Map, Value, json};

use super::{About, Dtype, Entry, Failure, Line, Row, Rows, Take, push_values, write_failures};
use crate::file::atomic::AtomicFile;
use crate::file::safetensors::{Planned, header_bytes};

/// A tensor in memory.
pub(crate) struct Stored {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    /// Row-major.
    pub(crate) values: Vec<f32>,
}

/// A file in progress. The states wait in an unnamed file next to it, since the header, which
/// precedes them, says how many there are.
pub(crate) struct StatesFile {
    path: PathBuf,
    dtype: Dtype,
    spool: BufWriter<File>,
    rows: usize,
    names: Vec<u8>,
    failed: Vec<Failure>,
    bytes: Vec<u8>,
}

impl StatesFile {
    /// Starts the file that [`Self::finish`] puts at `path`.
    pub(crate) fn create(path: &Path, dtype: Dtype) -> Result<Self> {
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        let spool = tempfile::tempfile_in(folder.unwrap_or(Path::new(".")))
            .with_context(|| format!("cannot write next to {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            dtype,
            spool: BufWriter::new(spool),
            rows: 0,
            names: Vec::new(),
            failed: Vec::new(),
            bytes: Vec::new(),
        })
    }

    /// Adds a row and its states.
    pub(crate) fn push(&mut self, row: &Row, states: &[f32]) -> Result<()> {
        self.names.extend(Line::of_row(row).to_bytes()?);
        self.rows += 1;
        self.bytes.clear();
        push_numbers(&mut self.bytes, states, self.dtype)?;
        let written = self.spool.write_all(&self.bytes);
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Adds an input without states.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.failed.push(failure);
    }

    /// Writes the file, which then appears: the states as `name` with this shape per row, and
    /// `others`. `about` says what made them; `pairs` say more.
    pub(crate) fn finish(
        mut self,
        about: &About,
        pairs: &[(&'static str, String)],
        states: (&str, &[usize]),
        others: &[Stored],
    ) -> Result<()> {
        write_failures(&self.path, &Failures(&self.failed))?;
        let (name, of_row) = states;
        let shape = [&[self.rows], of_row].concat();
        let dtype = match self.dtype {
            Dtype::F32 => FileDtype::F32,
            Dtype::F16 => FileDtype::F16,
        };
        let planned = |name, shape| Planned { name, dtype, shape };
        // Without states per row, the tensor is left out.
        let main = (!of_row.is_empty()).then(|| planned(name, shape.as_slice()));
        let others_planned = others
            .iter()
            .map(|other| planned(other.name, other.shape.as_slice()));
        let names = [self.names.len()];
        let rows = Planned {
            name: "rows",
            dtype: FileDtype::U8,
            shape: &names,
        };
        let pairs = [("format", "longclip hidden states 1".to_owned())]
            .into_iter()
            .chain(pairs.iter().cloned())
            .chain([
                ("kind", about.kind.to_string()),
                ("model", about.model_id()),
                ("precision", about.precision.clone()),
                ("settings", about.settings.clone()),
                ("version", about.version.clone()),
            ]);
        let pairs: Map<String, Value> = pairs
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .collect();
        let tensors = main.into_iter().chain(others_planned).chain([rows]);
        let header = header_bytes(Value::Object(pairs), tensors, 64);

        let writing = || format!("cannot write {}", self.path.display());
        self.bytes.clear();
        for other in others {
            push_numbers(&mut self.bytes, &other.values, self.dtype)?;
        }
        let file = AtomicFile::create(&self.path)?;
        let mut sink = file.sink()?;
        sink.write_all(&header).with_context(writing)?;
        self.spool.flush().with_context(writing)?;
        let mut spool = self.spool.get_ref();
        spool.rewind().with_context(writing)?;
        io::copy(&mut spool, &mut sink).with_context(writing)?;
        for part in [&self.bytes, &self.names] {
            sink.write_all(part).with_context(writing)?;
        }
        sink.flush().with_context(writing)?;
        drop(sink);
        file.commit()
    }
}

/// Appends numbers; fails if one is too large for 16 bits.
fn push_numbers(bytes: &mut Vec<u8>, values: &[f32], dtype: Dtype) -> Result<()> {
    let most = f32::from(half::f16::MAX);
    let large = values.iter().find(|value| value.abs() > most);
    ensure!(
        dtype == Dtype::F32 || large.is_none(),
        "the hidden state {} is too large for 16 bits; drop --dtype f16",
        large.copied().unwrap_or_default()
    );
    push_values(bytes, values, dtype);
    Ok(())
}

/// Inputs without states.
struct Failures<'a>(&'a [Failure]);

impl Rows for Failures<'_> {
    fn rows(&self) -> usize {
        0
    }

    fn failures(&self) -> usize {
        self.0.len()
    }

    fn visit(&self, take: &mut Take<'_>) -> Result<()> {
        self.0
            .iter()
            .try_for_each(|failure| take(Entry::Failed(failure)))
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::embedding::testing::about;
    use crate::embedding::{Item, Kind};

    fn row(text: &str) -> Row {
        Row {
            item: Item::Text(text.to_owned()),
            warnings: Vec::new(),
            given: None,
        }
    }

    #[test]
    fn what_was_pushed_is_in_the_file_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.safetensors");
        let others = [Stored {
            name: "other",
            shape: vec![1, 2],
            values: vec![7.0, -8.0],
        }];
        for (of_row, tensors) in [(&[1, 2][..], 3), (&[], 2)] {
            let mut file = StatesFile::create(&path, Dtype::F32).unwrap();
            for (index, text) in ["a", "b"].iter().enumerate() {
                let states = [index as f32, -1.5];
                let states = &states[..of_row.iter().sum::<usize>().min(2)];
                file.push(&row(text), states).unwrap();
            }
            let pairs = [("hidden", "x".to_owned())];
            let about = about(Kind::Texts, 2);
            file.finish(&about, &pairs, ("main", of_row), &others)
                .unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let found = SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(found.len(), tensors);
            if let Ok(main) = found.tensor("main") {
                assert_eq!(main.shape(), [2, 1, 2]);
                let numbers = [0.0f32, -1.5, 1.0, -1.5].map(f32::to_le_bytes).concat();
                assert_eq!(main.data(), numbers);
            }
            let other = found.tensor("other").unwrap();
            assert_eq!(other.data(), [7.0f32, -8.0].map(f32::to_le_bytes).concat());
            let names = found.tensor("rows").unwrap().data();
            assert_eq!(names, b"{\"text\":\"a\"}\n{\"text\":\"b\"}\n");
            let error = crate::embedding::open(&path).err().unwrap();
            assert!(format!("{error:#}").contains("hidden states"), "{error:#}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn numbers_beyond_16_bits_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.safetensors");
        let mut file = StatesFile::create(&path, Dtype::F16).unwrap();
        file.push(&row("a"), &[65504.0]).unwrap();
        let error = file.push(&row("b"), &[70000.0]).unwrap_err();
        assert!(error.to_string().contains("70000"), "{error}");
        let mut file = StatesFile::create(&path, Dtype::F32).unwrap();
        file.push(&row("b"), &[70000.0]).unwrap();
    }
}
