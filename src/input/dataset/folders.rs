//! A folder with one folder a class.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::{Labelled, Sample};
use crate::input::paths::{self, ImageSource, PictureRule};

/// Names under which datasets keep their parts.
const SPLITS: [&str; 6] = ["train", "val", "valid", "validation", "test", "training"];

/// Reads the names of all pictures.
pub(super) fn read(root: &Path, rule: PictureRule) -> Result<Labelled> {
    let folders = class_folders(root)?;
    if folders.is_empty() {
        bail!(
            "{} has no folders; a dataset has one folder a class, with its pictures in it",
            root.display()
        );
    }
    let mut found = Labelled::default();
    let mut empty = Vec::new();
    for (name, folder) in folders {
        let class = found.classes.len();
        let before = found.samples.len();
        for source in paths::expand(vec![folder], None, rule)? {
            let source = match source {
                Ok(ImageSource::Path(path)) => Ok(path),
                Ok(ImageSource::Stdin) => continue,
                Err(error) => Err(error),
            };
            found.samples.push(Sample { source, class });
        }
        // A folder of results, or of what is no picture, is no class.
        if found.samples.len() == before {
            empty.push(name);
        } else {
            found.classes.push(name);
        }
    }
    if found.samples.is_empty() {
        bail!("there are no pictures in the folders of {}", root.display());
    }
    check(root, &found)?;
    if !empty.is_empty() {
        found.notes.push(format!(
            "folders without pictures are no classes: {}",
            listed(&empty)
        ));
    }
    let loose = loose_pictures(root, rule)?;
    if loose > 0 {
        found.notes.push(format!(
            "{loose} picture{} in {} itself belong to no class and are left out",
            if loose == 1 { "" } else { "s" },
            root.display()
        ));
    }
    Ok(found)
}

fn check(root: &Path, found: &Labelled) -> Result<()> {
    let is_split = |name: &String| SPLITS.contains(&name.to_lowercase().as_str());
    if let Some(split) = found.classes.iter().find(|name| is_split(name))
        && found.classes.iter().all(is_split)
    {
        bail!(
            "the folders of {} are parts of a dataset and not classes; name one of them, such as {}",
            root.display(),
            root.join(split).display()
        );
    }
    Ok(())
}

/// The folders in `root` in byte order of their names, hidden ones skipped.
fn class_folders(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let reading = || format!("cannot read the folder {}", root.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(root).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with('.') && path.is_dir() {
            folders.push((name, path));
        }
    }
    folders.sort();
    Ok(folders)
}

fn loose_pictures(root: &Path, rule: PictureRule) -> Result<usize> {
    let entries = fs::read_dir(root)?.filter_map(Result::ok);
    let files = entries.map(|entry| entry.path()).filter(|path| {
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.is_file()
    });
    Ok(files.filter(|path| rule.takes(path)).count())
}

/// The first few names.
fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(5).map(String::as_str).collect();
    let more = if names.len() > 5 { ", …" } else { "" };
    shown.join(", ") + more
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: PictureRule = PictureRule {
        extensions: &["png"],
        looks_like_picture: |_| false,
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
    fn folders_are_classes_and_what_lies_deeper_belongs_to_them() {
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
        assert!(found.notes.is_empty());
    }

    #[test]
    fn what_is_left_out_is_told() {
        let root = folder(&["cat/b.png", "dog/notes.txt", "loose.png"]);
        let found = read(root.path(), RULE).unwrap();
        assert_eq!(found.classes, ["cat"]);
        assert!(
            found.notes[0].ends_with("no classes: dog"),
            "{:?}",
            found.notes
        );
        assert!(
            found.notes[1].starts_with("1 picture in "),
            "{:?}",
            found.notes
        );
    }

    #[test]
    fn what_is_no_dataset_is_refused() {
        let cases = [
            (vec!["a.png"], "has no folders"),
            (vec!["cat/a.txt"], "no pictures in the folders"),
            (vec!["train/a.png", "val/a.png"], "name one of them"),
        ];
        for (files, part) in cases {
            let error = read(folder(&files).path(), RULE).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
