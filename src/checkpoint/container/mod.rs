//! Weight files -> named tensors, every byte distrusted.
//!
//! Reads safetensors, and what `torch.save` and `torch.jit.save` write: zip archives
//! of state dicts, training checkpoints, whole modules and TorchScript programs, and
//! the format before PyTorch 1.6. Nothing in a file is ever executed: a pickle is
//! read by a machine that knows only data, and classes are names to compare.
//!
//! The file is mapped and tensors are views of the map, so opening takes
//! milliseconds whatever the size. Knows nothing of CLIP: names are the file's own,
//! and giving them meaning is `layout`'s work.

mod limit;
mod pickle;
mod safetensors;
mod sniff;
mod tensor;
mod torch;
mod zip;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

pub(crate) use crate::file::mapped::{Bytes, as_f16, as_f32};
use sniff::Kind;
pub use tensor::{Dtype, StoredTensor};
pub(crate) use zip::{Content, Zip};

/// Notes an archive may carry; what else there is to say ends with "...".
const NOTES: usize = 32;

/// The kinds of file that hold weights.
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
    /// What kind of file it is.
    pub container: Container,
    /// The tensors under the file's own names, nested ones joined by dots.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// The text pairs of a safetensors header.
    pub metadata: BTreeMap<String, String>,
    /// What else lay in the file and was not read, one sentence each.
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

    /// Keep a note, unless there are so many that nobody would read it.
    fn note(&mut self, note: String) {
        match self.notes.len() {
            0..NOTES => self.notes.push(note),
            NOTES => self.notes.push("...".to_owned()),
            _ => {}
        }
    }

    /// Check that the file still has the length and time it was opened with; one that
    /// was replaced by renaming another over it has, for the map keeps the old one.
    ///
    /// Tensors are views of the file, so one that was rewritten in place while it was
    /// read has given a mixture; call this after reading. (One that was shortened ends
    /// the process with a bus error: no program can prevent that and map files.)
    pub fn unchanged(&self) -> Result<()> {
        let Some(origin) = &self.origin else {
            return Ok(());
        };
        let now = origin
            .file
            .metadata()
            .context("the file cannot be looked at")?;
        let same = now.len() == origin.length && now.modified().ok() == origin.modified;
        ensure!(
            same,
            "the file was written to while it was being read; run again when that has ended"
        );
        Ok(())
    }
}

impl Origin {
    fn open(path: &Path) -> Result<Self> {
        // Looked at before it is opened: opening a pipe would wait for a writer.
        let state = fs::metadata(path).context("the file cannot be looked at")?;
        ensure!(!state.is_dir(), "this is a folder, not a weight file");
        ensure!(
            state.is_file(),
            "this is a device or pipe; weights must be a regular file"
        );
        let file = File::open(path).context("the file cannot be opened")?;
        let state = file.metadata().context("the file cannot be looked at")?;
        Ok(Self {
            file: Arc::new(file),
            length: state.len(),
            modified: state.modified().ok(),
        })
    }
}

/// Open the weight file at `path`, whatever its name says it is.
///
/// The first bytes decide which format it is. The caller adds the path to errors.
pub fn open(path: &Path) -> Result<Archive> {
    let origin = Origin::open(path)?;
    let bytes = Bytes::map(&origin.file, origin.length).context("the file cannot be mapped")?;
    let mut archive = read(&Arc::new(bytes))?;
    archive.origin = Some(origin);
    Ok(archive)
}

/// Open a weight file that lies in memory.
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
        Kind::Other(what) => bail!("this is no weight file: it is {what}"),
    };
    ensure!(!archive.tensors.is_empty(), "the file holds no tensors");
    Ok(archive)
}
