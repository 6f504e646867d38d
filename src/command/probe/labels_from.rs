//! `--labels-from`: lists with the classes of embedded images.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::input::dataset;
use crate::input::dataset::{LabelledOptions, Split};
use crate::run::images::IMAGES;

/// The classes of paths.
#[derive(Default)]
pub(super) struct Labels {
    classes: Vec<String>,
    /// By absolute path, relative names resolved from the list's folder.
    of: HashMap<PathBuf, usize>,
    /// By absolute path, relative names resolved from the working folder; `None` if lists disagree
    /// because they mean different images.
    typed: HashMap<PathBuf, Option<usize>>,
    files: String,
}

impl Labels {
    /// Reads the files, if any.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self> {
        let mut labels = Self::default();
        let mut places: HashMap<String, usize> = HashMap::new();
        for file in files {
            ensure!(
                !file.is_dir(),
                "--labels-from {} is a folder; name a .csv, .tsv or .jsonl file with columns path and \
                 label",
                file.display()
            );
            let options = LabelledOptions {
                images: None,
                split: Split::All,
            };
            let found = dataset::labelled(file, &options, IMAGES)?;
            let folder = file.parent().unwrap_or(Path::new(""));
            for sample in found.samples {
                let Ok(path) = sample.source else { continue };
                let next = places.len();
                let name = &found.classes[sample.class];
                let class = *places.entry(name.clone()).or_insert(next);
                let other = labels.of.insert(normal(&path), class);
                ensure!(
                    other.is_none_or(|other| other == class),
                    "--labels-from {} gives two classes to {}",
                    file.display(),
                    path.display()
                );
                let typed = normal(path.strip_prefix(folder).unwrap_or(&path));
                let said = labels.typed.entry(typed).or_insert(Some(class));
                *said = said.filter(|said| *said == class);
            }
        }
        let mut names: Vec<(String, usize)> = places.into_iter().collect();
        names.sort_by_key(|(_, place)| *place);
        labels.classes = names.into_iter().map(|(name, _)| name).collect();
        let shown: Vec<_> = files
            .iter()
            .map(|file| file.display().to_string())
            .collect();
        labels.files = shown.join(", ");
        Ok(labels)
    }

    /// The class of a row, if it has one.
    pub(super) fn class(&self, row: &Path) -> Result<Option<usize>> {
        let row_path = normal(row);
        if let Some(&class) = self.of.get(&row_path) {
            return Ok(Some(class));
        }
        let typed = self.typed.get(&row_path);
        typed
            .copied()
            .map(|class| {
                class.with_context(|| {
                format!(
                    "{} give different classes to {}, each relative to its own folder; embed the \
                     images with paths that are valid from here, or pass only one of the files",
                    self.files,
                    row.display()
                )
            })
            })
            .transpose()
    }

    /// All classes, in order of first appearance.
    pub(super) fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The files, for error messages.
    pub(super) fn files(&self) -> &str {
        &self.files
    }

    /// Whether no file was given.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// An absolute path without `.` components.
fn normal(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lists_may_use_the_same_relative_names() {
        let folder = tempfile::tempdir().unwrap();
        let list = |name: &str, lines: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, format!("path,label\n{lines}")).unwrap();
            path
        };
        let lists = [
            list("a/list.csv", "1.png,ox\n2.png,ox\n"),
            list("b/list.csv", "1.png,emu\n2.png,ox\n"),
        ];
        let labels = Labels::read(&lists).unwrap();
        let class = |row: &Path| {
            let class = labels.class(row).map_err(|error| error.to_string());
            class.map(|class| class.map(|class| labels.classes[class].as_str()))
        };
        assert_eq!(class(&folder.path().join("a/1.png")), Ok(Some("ox")));
        assert_eq!(class(&folder.path().join("b/1.png")), Ok(Some("emu")));
        // Relative to the working folder, they agree on one image and not on the other.
        assert_eq!(class(Path::new("2.png")), Ok(Some("ox")));
        let error = class(Path::new("1.png")).unwrap_err();
        assert!(error.contains("give different classes to 1.png"), "{error}");
        assert_eq!(class(Path::new("3.png")), Ok(None));
        let other = list("b/other.csv", "../a/1.png,emu\n1.png,ox\n");
        let error = Labels::read(&[lists[1].clone(), other])
            .map(drop)
            .unwrap_err();
        let error = error.to_string();
        assert!(error.contains("gives two classes to "), "{error}");
        assert!(error.ends_with("b/1.png"), "{error}");
    }
}
