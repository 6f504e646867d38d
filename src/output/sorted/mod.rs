//! Sorts images into one folder per label, reversibly.
//!
//! Nothing is ever overwritten: if a name exists, a number is added. Each step is written to a
//! journal in the folder before it is done, and [`super::undo`] reverts it.

mod journal;
mod name;
mod place;
pub(super) mod undo;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::file::fault;
use crate::file::stamp::Stamp;
use crate::output::journal::NoJournal;
use crate::output::undo::Run;
use journal::{Journal, Step};

/// Names that are tried before an image is given up: `a.jpg`, `a (2).jpg`, …
const MAX_NAMES: usize = 10_000;

/// Maximum length of a file name in bytes on common file systems.
const LONGEST_NAME: usize = 255;

/// How an image gets into its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// By a symbolic link to it (a hard link if the system has none).
    Link,
    /// By copying it.
    Copy,
    /// By moving it.
    Move,
}

/// Where an image is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filed {
    /// Placed there; in a dry run it would be.
    At(PathBuf),
    /// It existed there already.
    Already(PathBuf),
}

/// Whether an error of [`Sorter::file`] would come again with every further image.
pub(crate) fn is_general(error: &anyhow::Error) -> bool {
    error.is::<NoJournal>() || fault::is_general(error)
}

/// A folder with one folder per label.
pub(crate) struct Sorter {
    /// As the user wrote it.
    folder: PathBuf,
    action: Action,
    run: Run,
    /// The folder of each label.
    names: Vec<String>,
    /// Created with the first image.
    journal: Option<Journal>,
    /// Names that a dry run has assigned.
    taken: HashSet<PathBuf>,
}

impl Sorter {
    /// Sorts into `folder`, which is created when the first image comes.
    ///
    /// # Errors
    /// When something else is at its path.
    pub(crate) fn new(folder: &Path, action: Action, labels: &[&str], run: Run) -> Result<Self> {
        ensure!(
            !folder.exists() || folder.is_dir(),
            "cannot sort into {}: it is not a folder",
            folder.display()
        );
        Ok(Self {
            folder: folder.to_owned(),
            action,
            run,
            names: name::folder_names(labels),
            journal: None,
            taken: HashSet::new(),
        })
    }

    /// Files one image under one label, given by its index.
    ///
    /// # Errors
    /// When this is impossible; the image is left as it was.
    pub(crate) fn file(&mut self, image: &Path, label: usize) -> Result<Filed> {
        let folder = self.folder.join(&self.names[label]);
        let name = image
            .file_name()
            .with_context(|| format!("{} has no file name", image.display()))?;
        let from = std::path::absolute(image)?;
        self.check(&from)?;
        if self.run == Run::Real {
            self.make_folder(&folder)?;
        }
        for number in 1..=MAX_NAMES {
            let place = folder.join(numbered(name, number));
            if place::holds(self.action, &place, &from) {
                return Ok(Filed::Already(place));
            }
            if place.symlink_metadata().is_ok() {
                continue;
            }
            if self.run == Run::Dry {
                if self.taken.insert(place.clone()) {
                    return Ok(Filed::At(place));
                }
                continue;
            }
            match self.put(&from, &place) {
                Ok(()) => return Ok(Filed::At(place)),
                // Another program was faster; the journal's line for this path does no harm.
                Err(error) if is_taken(&error) => {}
                Err(error) => {
                    return Err(error.context(format!("cannot be filed as {}", place.display())));
                }
            }
        }
        bail!("{} has no free name for the image", folder.display())
    }

    /// The journal, if anything was done.
    pub(crate) fn journal(&self) -> Option<&Path> {
        self.journal.as_ref().map(Journal::path)
    }

    fn check(&self, from: &Path) -> Result<()> {
        let kind = fs::symlink_metadata(from)?.file_type();
        ensure!(
            self.action != Action::Move || !kind.is_symlink(),
            "it is a symbolic link, and --move would move the link, not the image; use --copy \
             or --link"
        );
        ensure!(
            fs::metadata(from)?.is_file(),
            "only regular files can be sorted"
        );
        Ok(())
    }

    /// Creates the label's folder, and the journal before the first one.
    fn make_folder(&mut self, folder: &Path) -> Result<()> {
        if self.journal.is_none() {
            let begun = Journal::begin(&self.folder, self.action);
            self.journal = Some(begun.context(NoJournal)?);
        }
        if folder.is_dir() {
            return Ok(());
        }
        let folder = std::path::absolute(folder)?;
        self.note(&Step::Folder { to: folder.clone() })?;
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            made => made.with_context(|| format!("cannot create the folder {}", folder.display())),
        }
    }

    fn put(&mut self, from: &Path, place: &Path) -> Result<()> {
        let to = std::path::absolute(place)?;
        let stamp = Stamp::of(from).context("it cannot be examined")?;
        self.note(&Step::Image {
            from: from.to_owned(),
            to: to.clone(),
            stamp,
        })?;
        match self.action {
            Action::Link => place::link(from, &to)?,
            Action::Copy => place::copy(from, &to)?,
            Action::Move => place::rename(from, &to)?,
        }
        Ok(())
    }

    fn note(&mut self, step: &Step) -> Result<()> {
        match &mut self.journal {
            Some(journal) => journal.note(step).context(NoJournal),
            None => Ok(()),
        }
    }
}

fn is_taken(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
}

/// `a.jpg`, `a (2).jpg`, `a (3).jpg`, …; the stem is truncated if the number would make the name
/// too long.
fn numbered(name: &OsStr, number: usize) -> OsString {
    if number == 1 {
        return name.to_owned();
    }
    let path = Path::new(name);
    let stem = path.file_stem().unwrap_or(name);
    let mut end = OsString::from(format!(" ({number})"));
    if let Some(extension) = path.extension() {
        end.push(".");
        end.push(extension);
    }
    let mut numbered = shortened(stem, LONGEST_NAME.saturating_sub(end.len()));
    numbered.push(end);
    numbered
}

/// As many whole characters of `stem` as fit into `room` bytes.
fn shortened(stem: &OsStr, room: usize) -> OsString {
    if stem.len() <= room {
        return stem.to_owned();
    }
    let text = stem.to_string_lossy();
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=room.min(text.len())).rev().find(fits).unwrap_or(0);
    OsString::from(&text[..end])
}

#[cfg(test)]
mod tests {
    use super::undo::undo;
    use super::*;

    /// A folder with these images, each with its own content.
    fn room(images: &[&str]) -> tempfile::TempDir {
        let room = tempfile::tempdir().unwrap();
        for image in images {
            let path = room.path().join(image);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, image).unwrap();
        }
        room
    }

    /// All files below a folder with their content, except journals.
    fn files(folder: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
            let entry = entry.unwrap();
            let name = entry.path().strip_prefix(folder).unwrap();
            let name = name.to_str().unwrap().to_owned();
            if !entry.file_type().is_dir() && !name.ends_with(".jsonl") {
                found.push((name, fs::read_to_string(entry.path()).unwrap()));
            }
        }
        found
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, content): &(&str, &str)| ((*name).to_owned(), (*content).to_owned());
        expected.iter().map(owned).collect()
    }

    const ALL: [Action; 3] = [Action::Link, Action::Copy, Action::Move];

    #[test]
    fn images_get_free_names_and_everything_can_be_undone() {
        for action in ALL {
            let room = room(&["x/a.jpg", "y/a.jpg", "b.jpg", "sorted/cat/b.jpg"]);
            let before = files(room.path());
            let folder = room.path().join("sorted");
            let mut sorter = Sorter::new(&folder, action, &["cat", "dog"], Run::Real).unwrap();
            for (image, label) in [("x/a.jpg", 1), ("y/a.jpg", 1), ("b.jpg", 0)] {
                let filed = sorter.file(&room.path().join(image), label).unwrap();
                assert!(matches!(filed, Filed::At(_)), "{filed:?}");
            }
            let expected = [
                ("cat/b (2).jpg", "b.jpg"),
                ("cat/b.jpg", "sorted/cat/b.jpg"),
                ("dog/a (2).jpg", "y/a.jpg"),
                ("dog/a.jpg", "x/a.jpg"),
            ];
            assert_eq!(files(&folder), pairs(&expected), "{action:?}");
            let left = files(room.path()).len() - 4;
            assert_eq!(left, if action == Action::Move { 0 } else { 3 });
            let journal = sorter.journal().unwrap().to_owned();
            drop(sorter);
            let undone = undo(&journal, Run::Real, true, &mut |_| {}).unwrap();
            assert_eq!((undone.undone, undone.failed), (3, 0), "{action:?}");
            assert_eq!(files(room.path()), before, "{action:?}");
            assert!(!folder.join("dog").exists() && !journal.exists());
        }
    }

    #[test]
    fn existing_files_are_left_alone() {
        for action in ALL {
            let room = room(&["a.jpg"]);
            let image = room.path().join("a.jpg");
            let folder = room.path().join("sorted");
            let mut sorter = Sorter::new(&folder, action, &["cat"], Run::Real).unwrap();
            let Filed::At(place) = sorter.file(&image, 0).unwrap() else {
                panic!("{action:?}")
            };
            let image = if action == Action::Move {
                place.clone()
            } else {
                image
            };
            let again = sorter.file(&image, 0).unwrap();
            assert_eq!(again, Filed::Already(place.clone()), "{action:?}");
            // The file in the folder is where it belongs, whatever would be done with others.
            let itself = sorter.file(&place, 0).unwrap();
            assert_eq!(itself, Filed::Already(place), "{action:?}");
        }
    }

    #[test]
    fn a_dry_run_reports_the_same_and_does_nothing() {
        let room = room(&["x/a.jpg", "y/a.jpg"]);
        let folder = room.path().join("sorted");
        let mut sorter = Sorter::new(&folder, Action::Move, &["cat"], Run::Dry).unwrap();
        for (image, name) in [("x/a.jpg", "a.jpg"), ("y/a.jpg", "a (2).jpg")] {
            let filed = sorter.file(&room.path().join(image), 0).unwrap();
            assert_eq!(filed, Filed::At(folder.join("cat").join(name)));
        }
        assert!(!folder.exists() && sorter.journal().is_none());
    }

    #[test]
    fn what_cannot_be_filed_is_an_error_and_stays() {
        let room = room(&["a.jpg", "sorted/cat"]);
        let folder = room.path().join("sorted");
        let mut sorter = Sorter::new(&folder, Action::Move, &["cat"], Run::Real).unwrap();
        // A file in place of the label's folder, a missing image, and a folder.
        for image in ["a.jpg", "gone.jpg", "sorted"] {
            assert!(sorter.file(&room.path().join(image), 0).is_err());
        }
        assert!(room.path().join("a.jpg").exists());
        let file = room.path().join("a.jpg");
        assert!(Sorter::new(&file, Action::Copy, &["cat"], Run::Real).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_moved() {
        let room = room(&["a.jpg"]);
        let link = room.path().join("l.jpg");
        std::os::unix::fs::symlink("a.jpg", &link).unwrap();
        let folder = room.path().join("sorted");
        let sorter = |action| Sorter::new(&folder, action, &["cat"], Run::Real).unwrap();
        let error = sorter(Action::Move).file(&link, 0).unwrap_err();
        assert!(error.to_string().contains("is a symbolic link"));
        sorter(Action::Copy).file(&link, 0).unwrap();
        assert_eq!(files(&folder), pairs(&[("cat/l.jpg", "a.jpg")]));
    }

    #[test]
    fn two_images_of_one_long_name_are_both_filed() {
        let name = format!("{}.jpg", "a".repeat(250));
        let (first, second) = (format!("x/{name}"), format!("y/{name}"));
        for action in ALL {
            let room = room(&[&first, &second]);
            let folder = room.path().join("sorted");
            let mut sorter = Sorter::new(&folder, action, &["cat"], Run::Real).unwrap();
            sorter.file(&room.path().join(&first), 0).unwrap();
            let filed = sorter.file(&room.path().join(&second), 0).unwrap();
            let short = format!("{} (2).jpg", "a".repeat(247));
            assert_eq!(filed, Filed::At(folder.join("cat").join(short)));
        }
        // Three bytes each: only whole ones are kept.
        let long = format!("{}.jpg", "\u{3042}".repeat(83));
        let expected = format!("{} (2).jpg", "\u{3042}".repeat(82));
        assert_eq!(numbered(OsStr::new(&long), 2), OsStr::new(&expected));
    }

    #[test]
    fn numbers_go_before_the_extension() {
        for (name, expected) in [
            ("a.jpg", "a (2).jpg"),
            ("a.b.jpg", "a.b (2).jpg"),
            ("a", "a (2)"),
            (".jpg", ".jpg (2)"),
        ] {
            assert_eq!(numbered(OsStr::new(name), 2), expected);
        }
    }
}
