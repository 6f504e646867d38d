//! Detects folders that are parts of a dataset (train, test) rather than its classes: parts hold
//! the same subfolders, one per class.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::Remark;
use super::names::{apart, clean};
use crate::input::text_file::column::first_few;

/// Names that datasets use for their parts.
const PARTS: [&str; 10] = [
    "train",
    "val",
    "valid",
    "validation",
    "test",
    "training",
    "testing",
    "dev",
    "eval",
    "evaluation",
];
/// Other words that occur in the names of parts.
const WORDS: [&str; 16] = [
    "fold",
    "gallery",
    "heldout",
    "holdout",
    "labeled",
    "labelled",
    "minival",
    "part",
    "pred",
    "query",
    "split",
    "subset",
    "trainval",
    "trn",
    "tst",
    "unlabeled",
];
/// Suffixes of these words.
const ENDINGS: [&str; 6] = ["set", "data", "images", "imgs", "split", "s"];
/// Names that a message lists at most.
const SHOWN: usize = 3;

/// A candidate class folder.
pub(super) struct Folder<'a> {
    name: &'a str,
    /// The folder reached by descending while there is a single subfolder.
    path: PathBuf,
    /// Its subfolders that have images.
    folders: BTreeSet<String>,
    /// Whether images are directly in it rather than in its subfolders.
    has_images: bool,
}

impl<'a> Folder<'a> {
    /// Derives the folder's structure from its images.
    pub(super) fn new<'p>(
        name: &'a str,
        path: &Path,
        images: impl Iterator<Item = &'p Path>,
    ) -> Self {
        let within = |image: &'p Path| -> Vec<String> {
            let inside = image.strip_prefix(path).unwrap_or(image).parent();
            let parts = inside.into_iter().flat_map(Path::components);
            parts
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .collect()
        };
        let mut images = images.map(within);
        let mut common = images.next().unwrap_or_default();
        let mut all: BTreeSet<Vec<String>> = BTreeSet::from([common.clone()]);
        for folders in images {
            let same = common.iter().zip(&folders).take_while(|(a, b)| a == b);
            let same = same.count();
            common.truncate(same);
            all.insert(folders);
        }
        let next = |folders: &Vec<String>| folders.get(common.len()).cloned();
        Self {
            name,
            has_images: all.iter().any(|folders| next(folders).is_none()),
            folders: all.iter().filter_map(next).collect(),
            path: common
                .iter()
                .fold(path.to_owned(), |path, name| path.join(name)),
        }
    }

    fn holds_folders(&self) -> bool {
        !self.has_images && self.folders.len() > 1
    }

    /// Whether both hold the same subfolders, as far as the smaller one has them.
    fn is_like(&self, other: &Self) -> bool {
        let both = self.folders.intersection(&other.folders).count();
        let fewer = self.folders.len().min(other.folders.len());
        both > 1 && both * 2 >= fewer
    }

    fn is_part(&self) -> bool {
        PARTS.contains(&self.name.to_lowercase().as_str())
    }
}

/// Whether folders are certainly parts of a dataset and not its classes: by their names, and
/// because paths of the images in each begin with its name.
#[must_use]
pub(crate) fn are_parts(names: &[String], images: &[Vec<PathBuf>]) -> bool {
    let folders = names.iter().zip(images).map(|(name, images)| {
        Folder::new(name, Path::new(name), images.iter().map(PathBuf::as_path))
    });
    check(Path::new(""), &folders.collect::<Vec<_>>()).is_err()
}

/// Fails if the folders are certainly not classes; otherwise returns notes on what is doubtful.
///
/// # Errors
/// When all have names of parts, or those that hold the same subfolders do.
pub(super) fn check(root: &Path, folders: &[Folder<'_>]) -> Result<Vec<Remark>> {
    let holding = || folders.iter().filter(|folder| folder.holds_folders());
    let is_shared = |folder: &&Folder<'_>| {
        holding().any(|other| other.name != folder.name && other.is_like(folder))
    };
    let shared: Vec<&Folder<'_>> = holding().filter(is_shared).collect();
    let parts: Vec<&Folder<'_>> = folders.iter().filter(|folder| folder.is_part()).collect();
    let all_are_parts = !folders.is_empty() && parts.len() == folders.len();
    let hold_classes = shared.len() > 1 && shared.iter().all(|folder| is_called_part(folder.name));
    // Each with classes of its own.
    let differ = shared.is_empty()
        && parts.len() > 1
        && holding().count() > 1
        && holding().all(Folder::is_part);
    if all_are_parts || hold_classes || differ {
        let named = if hold_classes { &shared } else { &parts };
        refuse(root, named, hold_classes)?;
    }
    Ok(doubts(root, folders, &shared, &parts))
}

fn refuse(root: &Path, parts: &[&Folder<'_>], hold_same: bool) -> Result<()> {
    let Some(first) = parts.first() else {
        return Ok(());
    };
    let (what, why) = match hold_same {
        true => (
            format!("the folders {} of {}", names(parts), root.display()),
            format!(" (each holds {})", listed(&first.folders)),
        ),
        false => (format!("the folders of {}", root.display()), String::new()),
    };
    bail!(
        "{what} are parts of a dataset, not classes{why}; pass one of them, such as {}",
        first.path.display()
    )
}

/// What may be wrong, if it cannot be known.
fn doubts(
    root: &Path,
    folders: &[Folder<'_>],
    shared: &[&Folder<'_>],
    parts: &[&Folder<'_>],
) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if let Some(first) = shared.first()
        && !first.folders.iter().all(|name| is_called_part(name))
    {
        remarks.push(Remark::Warning(format!(
            "the folders {} of {} are used as classes although they hold the same folders ({}); \
             if these are the classes, pass one of the outer folders, such as {}",
            names(shared),
            root.display(),
            listed(&first.folders),
            first.path.display()
        )));
    } else if parts.len() > 1 {
        remarks.push(Remark::Warning(format!(
            "the folders {} of {} are used as classes; if they are parts of a dataset, pass one \
             of them",
            names(parts),
            root.display()
        )));
    } else if let [only] = folders
        && only.holds_folders()
    {
        remarks.push(Remark::Warning(format!(
            "{} has one folder, {}, which is used as a class; if its folders ({}) are the \
             classes, pass {}",
            root.display(),
            only.name,
            listed(&only.folders),
            only.path.display()
        )));
    } else if let [first, _, ..] = folders
        && folders.iter().all(Folder::holds_folders)
        && !first.folders.iter().all(|name| is_called_part(name))
    {
        remarks.push(Remark::Note(format!(
            "the folders of {} are used as classes, not the folders in them ({} in {})",
            root.display(),
            listed(&first.folders),
            first.name
        )));
    }
    remarks
}

/// Whether a name contains a word that parts of datasets are called by: `seg_train`, `TestSet2`,
/// `fold-3`.
fn is_called_part(name: &str) -> bool {
    let words = clean(&apart(name).replace('.', " ")).to_lowercase();
    words.split(' ').any(|word| {
        let word = word.trim_matches(|c: char| c.is_ascii_digit());
        let known = |word: &str| PARTS.contains(&word) || WORDS.contains(&word);
        let ends = |ending: &&str| word.strip_suffix(*ending).is_some_and(known);
        known(word) || ENDINGS.iter().any(ends)
    })
}

fn names(folders: &[&Folder<'_>]) -> String {
    let names: Vec<&str> = folders.iter().map(|folder| folder.name).collect();
    first_few(&names, SHOWN)
}

/// The first few names.
fn listed(names: &BTreeSet<String>) -> String {
    first_few(&Vec::from_iter(names), SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Message for folders with these images: an error, or a warning or note.
    fn said(images: &[&str]) -> Result<String, String> {
        let root = Path::new("root");
        let paths: Vec<PathBuf> = images.iter().map(|image| root.join(image)).collect();
        let mut names: Vec<&str> = images
            .iter()
            .filter_map(|image| image.split('/').next())
            .collect();
        names.dedup();
        let folders: Vec<Folder<'_>> = names
            .iter()
            .map(|name| {
                let folder = root.join(name);
                let images = paths.iter().filter(|path| path.starts_with(&folder));
                Folder::new(name, &folder, images.map(PathBuf::as_path))
            })
            .collect();
        let remarks = check(root, &folders).map_err(|error| error.to_string())?;
        let shown = remarks.iter().map(|remark| match remark {
            Remark::Warning(text) => format!("warning: {text}"),
            Remark::Note(text) | Remark::Detail(text) => format!("note: {text}"),
        });
        Ok(shown.collect())
    }

    #[test]
    fn parts_of_a_dataset_are_refused() {
        #[rustfmt::skip]
        let cases: [(&[&str], &str); 9] = [
            (&["train/a.png", "val/a.png"], "pass one of them, such as root/train"),
            (
                &[
                    "Testing/ant/1",
                    "Testing/bee/1",
                    "Training/ant/1",
                    "Training/bee/1",
                ],
                "the folders Testing, Training of root are parts of a dataset, not classes (each \
                 holds ant, bee); pass one of them, such as root/Testing",
            ),
            (
                &[
                    "samples/1",
                    "test/ant/1",
                    "test/bee/1",
                    "train/ant/1",
                    "train/bee/1",
                ],
                "such as root/test",
            ),
            // Intel's image dataset, with its nested folders and a part without classes.
            (
                &[
                    "seg_pred/seg_pred/1",
                    "seg_test/seg_test/ant/1",
                    "seg_test/seg_test/bee/1",
                    "seg_train/seg_train/ant/1",
                    "seg_train/seg_train/bee/1",
                ],
                "such as root/seg_test/seg_test",
            ),
            // One class is missing in a part.
            (
                &[
                    "TestSet/ant/1",
                    "TestSet/bee/1",
                    "TrainSet/ant/1",
                    "TrainSet/bee/1",
                    "TrainSet/cow/1",
                ],
                "such as root/TestSet",
            ),
            (&["fold1/ant/1", "fold1/bee/1", "fold2/ant/1", "fold2/bee/1"], "root/fold1"),
            (
                &[
                    "train2017/ant/1",
                    "train2017/bee/1",
                    "val2017/ant/1",
                    "val2017/bee/1",
                ],
                "root/train2017",
            ),
            // Different classes in the parts, as in few-shot sets.
            (&["other/1", "test/cow/1", "test/dog/1", "train/ant/1", "train/bee/1"], "root/test"),
            (&["Dev/a", "Train/b"], "root/Dev"),
        ];
        for (images, part) in cases {
            let error = said(images).expect_err(part);
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn doubtful_folders_are_reported() {
        #[rustfmt::skip]
        let cases: [(&[&str], &str); 8] = [
            (&["cat/1", "dog/1", "dog/old/1"], ""),
            // "train" is a class here, and so are things with shots of their own.
            (&["bus/1", "test_tube/1", "train/1"], ""),
            (
                &["bus/front/1", "bus/side/1", "train/front/1", "train/side/1"],
                "warning: the folders bus, train of root are used as classes although they hold \
                 the same folders (front, side); if these are the classes, pass one of the outer \
                 folders, such as root/bus",
            ),
            (
                &[
                    "prueba/ant/1",
                    "prueba/bee/1",
                    "entrenamiento/ant/1",
                    "entrenamiento/bee/1",
                ],
                "warning: the folders prueba, entrenamiento",
            ),
            // The classes hold the parts.
            (&["bottle/test/1", "bottle/train/1", "cable/test/1", "cable/train/1"], ""),
            (
                &["cat/1", "test/1", "train/1"],
                "warning: the folders test, train of root are used as",
            ),
            (&["images/001.a/1", "images/002.b/1"], "warning: root has one folder, images"),
            (
                &["a/abbey/1", "a/alley/1", "b/bar/1", "b/bay/1"],
                "note: the folders of root are used as classes",
            ),
        ];
        for (images, expected) in cases {
            let found = said(images).unwrap();
            assert!(found.starts_with(expected), "{found}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{found}");
        }
    }
}
