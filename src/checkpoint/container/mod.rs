//! Weight files -> named tensors. Files are untrusted input.
//!
//! Reads safetensors, and the files that `torch.save` and `torch.jit.save` write: zip archives
//! of state dicts, training checkpoints, whole modules and TorchScript programs, and
//! the format before PyTorch 1.6. Nothing in a file is ever executed: a pickle is
//! interpreted as data only, and classes are names to compare.
//!
//! The file is mapped and tensors are views of the map, so opening takes
//! milliseconds whatever the size. Knows nothing about CLIP: names are the file's own,
//! and `layout` gives them meaning.

#![deny(clippy::indexing_slicing)]

mod limit;
mod pickle;
mod safetensors;
mod sniff;
mod tensor;
mod torch;
mod zip;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

use crate::file::open;

pub(crate) use crate::file::mapped::{Bytes, as_f16, as_f32};
use sniff::Kind;
pub use tensor::Dtype;
pub(crate) use tensor::StoredTensor;
pub(crate) use zip::{MemberContent, Zip};

/// Maximum notes of an archive; further ones are replaced by "...".
const NOTES: usize = 32;

/// Formats of weight files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// safetensors.
    Safetensors,
    /// What `torch.save` writes since PyTorch 1.6.
    TorchZip,
    /// What `torch.jit.save` writes, as OpenAI published CLIP.
    TorchScript,
    /// What `torch.save` wrote before PyTorch 1.6.
    TorchLegacy,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Safetensors => "safetensors",
            Self::TorchZip => "PyTorch checkpoint",
            Self::TorchScript => "TorchScript archive",
            Self::TorchLegacy => "PyTorch checkpoint (before 1.6)",
        })
    }
}

/// An open weight file.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The file format.
    pub container: Container,
    /// The tensors under the file's own names, nested ones joined by dots.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// The text pairs of a safetensors header.
    pub metadata: BTreeMap<String, String>,
    /// Other contents that were not read, one sentence each.
    pub notes: Vec<String>,
    origin: Option<Origin>,
}

/// A file and its state when it was opened.
#[derive(Clone, Debug)]
struct Origin {
    file: Arc<File>,
    length: u64,
    modified: Option<SystemTime>,
}

impl Archive {
    fn empty(container: Container) -> Self {
        Self {
            container,
            tensors: BTreeMap::new(),
            metadata: BTreeMap::new(),
            notes: Vec::new(),
            origin: None,
        }
    }

    /// Keeps a note, unless there are already too many.
    fn note(&mut self, note: String) {
        match self.notes.len() {
            0..NOTES => self.notes.push(note),
            NOTES => self.notes.push("...".to_owned()),
            _ => {}
        }
    }

    /// Checks that the file still has the length and time it was opened with; one that
    /// was replaced by a rename passes, because the map keeps the old file.
    ///
    /// Tensors are views of the file, so one that was rewritten in place while it was
    /// read gives a mixture; call this after reading. (One that was shortened ends
    /// the process with a bus error: a program that maps files cannot prevent that.)
    pub fn unchanged(&self) -> Result<()> {
        let Some(origin) = &self.origin else {
            return Ok(());
        };
        let now = origin
            .file
            .metadata()
            .context("cannot read the file's metadata")?;
        let same = now.len() == origin.length && now.modified().ok() == origin.modified;
        ensure!(
            same,
            "the file changed while it was being read; run again when nothing writes to it"
        );
        Ok(())
    }
}

impl Origin {
    fn open(path: &Path) -> Result<Self> {
        ensure!(!path.is_dir(), "this is a folder, not a weight file");
        let (file, _) = open::regular(path).context("cannot open the file")?;
        let state = file.metadata().context("cannot read the file's metadata")?;
        Ok(Self {
            file: Arc::new(file),
            length: state.len(),
            modified: state.modified().ok(),
        })
    }
}

/// Opens the weight file at `path`.
///
/// The first bytes decide the format, not the name. The caller adds the path to errors.
pub fn open(path: &Path) -> Result<Archive> {
    let origin = Origin::open(path)?;
    let bytes =
        Bytes::map(&origin.file, origin.length).context("cannot map the file into memory")?;
    let mut archive = read(&Arc::new(bytes))?;
    archive.origin = Some(origin);
    Ok(archive)
}

/// Opens a weight file held in memory.
pub fn open_bytes(bytes: Vec<u8>) -> Result<Archive> {
    read(&Arc::new(Bytes::Owned(bytes)))
}

fn read(bytes: &Arc<Bytes>) -> Result<Archive> {
    let archive = match sniff::kind(bytes) {
        Kind::Safetensors => safetensors::open(bytes).context("not a valid safetensors file")?,
        Kind::Zip => torch::open_zip(bytes).context("not a valid PyTorch file")?,
        Kind::TorchLegacy => {
            torch::open_legacy(bytes).context("not a valid PyTorch file (before 1.6)")?
        }
        Kind::Other(what) => bail!("this is not a weight file: it is {what}"),
    };
    ensure!(!archive.tensors.is_empty(), "the file holds no tensors");
    Ok(archive)
}
