//! What PyTorch writes: a pickle of objects, and the bytes of their storages.
//!
//! `zip` and `legacy` locate the storages, `rebuild` makes tensors from the
//! calls recorded in the pickle, `walk` finds the weights among the objects.

mod legacy;
mod rebuild;
mod walk;

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

pub(super) use legacy::open as open_legacy;

use super::pickle::{self, Pickle};
use super::tensor::{Dtype, Storage};
use super::zip::Zip;
use super::{Archive, Container, limit};
use crate::file::mapped::Bytes;
use rebuild::{Rebuilder, StorageName};

/// Finds a storage's bytes by its name in the pickle.
type FindStorage<'f> = dyn Fn(&StorageName<'_>) -> Result<Storage> + 'f;

/// Reads a zip that `torch.save` or `torch.jit.save` wrote.
pub(super) fn open_zip(bytes: &Arc<Bytes>) -> Result<Archive> {
    let zip = Zip::open(bytes)?;
    let root = root(&zip)?;
    let byte_order = format!("{root}byteorder");
    if zip.contains(&byte_order) {
        ensure!(
            zip.checked(&byte_order)? == b"little",
            "it was written on a big-endian machine; save it again on a little-endian one"
        );
    }
    let pickle = zip.checked(&format!("{root}data.pkl"))?;
    let pickle = pickle::read(pickle).context("data.pkl")?;
    let script = zip.contains(&format!("{root}constants.pkl"));
    let container = if script {
        Container::TorchScript
    } else {
        Container::TorchZip
    };
    let find = |name: &StorageName<'_>| {
        let range = zip.range(&format!("{root}data/{}", name.key))?;
        Storage::new(bytes, range).context("its bytes lie outside the file")
    };
    collect(container, &pickle, &find)
}

/// The folder that holds `data.pkl`, with its slash.
fn root<'a>(zip: &Zip<'a>) -> Result<&'a str> {
    let roots: Vec<&str> = zip
        .names()
        .filter_map(|name| name.strip_suffix("data.pkl"))
        .filter(|root| root.is_empty() || root.find('/') == Some(root.len() - 1))
        .collect();
    match roots[..] {
        [root] => Ok(root),
        [] => bail!("{}", no_pickle(zip)),
        _ => bail!(
            "it holds {} files data.pkl, so it is not one checkpoint",
            roots.len()
        ),
    }
}

fn no_pickle(zip: &Zip<'_>) -> String {
    let mut names: Vec<&str> = zip.names().collect();
    names.sort_unstable();
    if names.iter().any(|name| name.ends_with("model.json")) {
        return "it is a TorchScript archive of PyTorch 1.0, which cannot be read; save its state dict with torch.save".to_owned();
    }
    let first: Vec<String> = names.iter().take(3).map(|name| cut(name)).collect();
    format!(
        "it is a zip without data.pkl, so torch.save did not write it (it holds {} files: {})",
        names.len(),
        first.join(", ")
    )
}

/// A name, shortened for a message.
fn cut(name: &str) -> String {
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// Finds the weights in a pickle and makes tensors of them.
fn collect(container: Container, pickle: &Pickle<'_>, find: &FindStorage<'_>) -> Result<Archive> {
    let mut archive = Archive::empty(container);
    let found = walk::weights(pickle, container == Container::TorchScript)?;
    let rebuilder = Rebuilder { pickle, find };
    limit::tensors(found.tensors.len())?;
    for (name, id) in found.tensors {
        let tensor = rebuilder
            .tensor(id)
            .with_context(|| format!("tensor \"{name}\""))?;
        if let Dtype::Unsupported(kind) = tensor.dtype() {
            archive.note(format!(
                "tensor \"{name}\" has unsupported elements ({kind})"
            ));
        }
        archive.tensors.insert(name, tensor);
    }
    for note in found.notes {
        archive.note(note);
    }
    Ok(archive)
}
