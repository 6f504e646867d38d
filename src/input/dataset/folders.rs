//! A folder with one subfolder per class, or with a metadata file as on the Hugging Face Hub:
//! `metadata.jsonl` or `metadata.csv`, with a column `file_name`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::names::composed;
use super::parts::Folder;
use super::{Labelled, Remark, Sample, manifest, parts, rows};
use crate::input::paths::{self, ImageRule, ImageSource, PassedOver};
use crate::input::text_file::column::{FILE_NAME, first_few};

/// Lists all images.
pub(super) fn read(root: &Path, rule: ImageRule) -> Result<Labelled> {
    let passed_over = PassedOver::default();
    let folders = class_folders(root, &passed_over)?;
    if folders.is_empty() {
        bail!(
            "{} has no folders; a dataset has one folder per class, with its images in it",
            root.display()
        );
    }
    let mut found = Labelled::default();
    let mut class_of = HashMap::new();
    let mut empty = Vec::new();
    let mut taken = Vec::new();
    for (name, folder) in folders {
        // Two systems may encode one name in two ways.
        let known = class_of.get(&name).copied();
        let class = known.unwrap_or(found.classes.len());
        let before = found.samples.len();
        let mut sources = paths::expand(vec![folder.clone()], None, rule)?;
        for entry in sources.by_ref() {
            let source = match entry.source {
                Ok(ImageSource::Path(path)) => Ok(path),
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            found.samples.push(Sample { source, class });
        }
        passed_over.add(&sources.passed_over());
        // A folder of results, or without images, is not a class.
        if found.samples.len() == before {
            empty.push(name);
            continue;
        }
        taken.push((folder, name.clone(), before..found.samples.len()));
        if known.is_none() {
            class_of.insert(name.clone(), class);
            found.classes.push(name);
        }
    }
    if found.samples.is_empty() {
        bail!("there are no images in the folders of {}", root.display());
    }
    let folders: Vec<Folder<'_>> = taken
        .iter()
        .map(|(path, name, samples)| {
            let samples = found.samples.get(samples.clone()).unwrap_or_default();
            let images = samples
                .iter()
                .filter_map(|sample| sample.source.as_deref().ok());
            Folder::new(name, path, images)
        })
        .collect();
    let mut remarks = parts::check(root, &folders)?;
    if !empty.is_empty() {
        remarks.push(Remark::Note(format!(
            "skipped folders without images: {}",
            first_few(&empty, 5)
        )));
    }
    let loose = loose_images(root, rule)?;
    if loose > 0 {
        remarks.push(Remark::Note(format!(
            "skipped {loose} image{} directly in {}, outside the class folders",
            if loose == 1 { "" } else { "s" },
            root.display()
        )));
    }
    let skipped = passed_over.system_folders();
    remarks.extend(skipped.map(|folders| Remark::Detail(format!("skipped {folders}"))));
    found.remarks = remarks;
    Ok(found)
}

/// Whether there is a folder that may be a class.
pub(super) fn has_classes(root: &Path) -> Result<bool> {
    Ok(!class_folders(root, &PassedOver::default())?.is_empty())
}

/// The folders in `root` in byte order of their names, without hidden ones and system folders.
fn class_folders(root: &Path, passed_over: &PassedOver) -> Result<Vec<(String, PathBuf)>> {
    let reading = || format!("cannot read the folder {}", root.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(root).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        if name.as_encoded_bytes().starts_with(b".") || !path.is_dir() {
            continue;
        }
        if paths::is_system(name) {
            passed_over.add_system(&name.to_string_lossy());
            continue;
        }
        folders.push((composed(&name.to_string_lossy()), path));
    }
    folders.sort();
    Ok(folders)
}

fn loose_images(root: &Path, rule: ImageRule) -> Result<usize> {
    let entries = fs::read_dir(root)?.filter_map(Result::ok);
    let files = entries.map(|entry| entry.path()).filter(|path| {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.is_file()
    });
    Ok(files.filter(|path| rule.takes(path)).count())
}

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
    if !has_classes(folder)? {
        bail!(
            "{} has no labels (a column label), and the folder has no class folders; for captions \
             add --task retrieval",
            file.display()
        );
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: ImageRule = ImageRule {
        extensions: &["png"],
        looks_like_image: |_| false,
    };

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        folder
    }

    #[test]
    fn folders_are_classes_with_images_at_any_depth() {
        let root = folder(&[
            "cat/b.png",
            "cat/old/a.png",
            "ant/x.png",
            "ant/x.txt",
            ".git/y.png",
        ]);
        let found = read(root.path(), RULE).unwrap();
        assert_eq!(found.classes, ["ant", "cat"]);
        let names: Vec<_> = found
            .samples
            .iter()
            .map(|sample| {
                let path = sample.source.as_ref().unwrap();
                let path = path.strip_prefix(root.path()).unwrap();
                (sample.class, path.to_string_lossy().into_owned())
            })
            .collect();
        let expected = [(0, "ant/x.png"), (1, "cat/b.png"), (1, "cat/old/a.png")];
        assert_eq!(
            names,
            expected.map(|(class, name)| (class, name.to_owned()))
        );
        assert!(found.remarks.is_empty());
    }

    #[test]
    fn skipped_entries_are_reported() {
        let root = folder(&["cat/b.png", "dog/notes.txt", "loose.png"]);
        let found = read(root.path(), RULE).unwrap();
        assert_eq!(found.classes, ["cat"]);
        let [Remark::Note(empty), Remark::Note(loose)] = &found.remarks[..] else {
            panic!("{:?}", found.remarks);
        };
        assert!(empty.ends_with("without images: dog"), "{empty}");
        assert!(loose.starts_with("skipped 1 image directly in "), "{loose}");
    }

    #[test]
    fn system_folders_are_not_classes() {
        let root = folder(&["cat/b.png", "cat/@eaDir/b.png/t.png", "$RECYCLE.BIN/c.png"]);
        let found = read(root.path(), RULE).unwrap();
        assert_eq!(
            (found.classes, found.samples.len()),
            (vec!["cat".to_owned()], 1)
        );
        let skipped = "skipped 2 system folders ($RECYCLE.BIN, @eaDir)".to_owned();
        assert_eq!(found.remarks, [Remark::Detail(skipped)]);
    }

    #[test]
    fn one_name_in_two_normal_forms_is_one_class() {
        let root = folder(&["corazo\u{301}n/a.png", "coraz\u{f3}n/b.png", "dog/c.png"]);
        let found = read(root.path(), RULE).unwrap();
        assert_eq!(found.classes, ["coraz\u{f3}n", "dog"]);
        let classes: Vec<usize> = found.samples.iter().map(|sample| sample.class).collect();
        assert_eq!(classes, [0, 0, 1]);
    }

    #[test]
    fn other_folders_are_refused() {
        let cases = [
            (vec!["a.png"], "has no folders"),
            (vec!["cat/a.txt"], "no images in the folders"),
            (vec!["train/a.png", "val/a.png"], "pass one of them"),
        ];
        for (files, part) in cases {
            let error = read(folder(&files).path(), RULE).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
