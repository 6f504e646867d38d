//! The metadata file of an image folder, as on the Hugging Face Hub: `metadata.jsonl` or
//! `metadata.csv`, with a column `file_name`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{folders, manifest, rows};

/// The column that names the images, normalised like column names.
const FILE_NAME: &[&str] = &["filename"];
/// Accepted file names.
const NAMES: [&str; 4] = [
    "metadata.jsonl",
    "metadata.csv",
    "metadata.tsv",
    "metadata.ndjson",
];

/// The metadata file of a folder, if there is one that names images.
///
/// # Errors
/// When there are two.
pub(super) fn metadata(folder: &Path) -> Result<Option<PathBuf>> {
    let mut found = NAMES
        .map(|name| folder.join(name))
        .into_iter()
        .filter(|path| path.is_file());
    let first = found.next();
    if let (Some(first), Some(second)) = (&first, found.next()) {
        bail!(
            "{} and {} both exist; keep one of them, or pass it instead of the folder",
            first.display(),
            second.display()
        );
    }
    let Some(file) = first else { return Ok(None) };
    // A metadata.csv of another kind does not list images.
    let Ok(mut rows) = rows::rows(&file, "file_name") else {
        return Ok(None);
    };
    let row = rows.next().map(|(_, row)| row).transpose();
    let row = row.with_context(|| format!("cannot use {}", file.display()))?;
    let names_images = row.is_some_and(|row| rows::value(&row, FILE_NAME).is_some());
    Ok(names_images.then_some(file))
}

/// The metadata file of a folder, if it has labels.
///
/// # Errors
/// When there are two files, or one without labels in a folder without class folders.
pub(super) fn labels(folder: &Path) -> Result<Option<PathBuf>> {
    let Some(file) = metadata(folder)? else {
        return Ok(None);
    };
    if manifest::has_labels(&file)? {
        return Ok(Some(file));
    }
    if !folders::has_classes(folder)? {
        bail!(
            "{} has no labels (a column label), and the folder has no class folders; for captions \
             add --task retrieval",
            file.display()
        );
    }
    Ok(None)
}
