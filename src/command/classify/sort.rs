//! `classify --link`, `--copy` and `--move`, which sort images into one folder per label.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::input::prompt::LabelSet;
use crate::output::FailureKind;
use crate::output::Record;
use crate::output::sorted::{self, Action, Filed, Sorter};
use crate::output::undo::Run;
use crate::run::Console;
use crate::run::console::counted;

/// Where images are sorted to.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sorting")]
pub(super) struct SortArgs {
    /// Link each image into a subfolder of DIR named after its best label
    #[arg(long, value_name = "DIR", group = "sort")]
    link: Option<PathBuf>,
    /// Like --link, but copy the images
    #[arg(long, value_name = "DIR", group = "sort")]
    copy: Option<PathBuf>,
    /// Like --link, but move the images; longclip undo reverts it
    #[arg(long = "move", value_name = "DIR", group = "sort")]
    move_to: Option<PathBuf>,
    /// Print what would be linked, copied, moved or written by --xmp, without doing it
    #[arg(long, requires = "changes")]
    dry_run: bool,
}

/// Sorts the images of a run.
pub(super) struct Sorting<'a> {
    sorter: Sorter,
    /// The number of labels; a best label with a higher index stands for none of them.
    labels: usize,
    action: Action,
    run: Run,
    folder: PathBuf,
    console: &'a Console,
    filed: u64,
    already: u64,
    left: u64,
    failed: u64,
}

impl SortArgs {
    /// The folder that images are sorted into.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.asked().map(|(_, folder)| folder)
    }

    /// Whether anything is done.
    pub(super) fn run(&self) -> Run {
        if self.dry_run { Run::Dry } else { Run::Real }
    }

    fn asked(&self) -> Option<(Action, &Path)> {
        let all = [
            (Action::Link, &self.link),
            (Action::Copy, &self.copy),
            (Action::Move, &self.move_to),
        ];
        all.into_iter()
            .find_map(|(action, folder)| Some((action, folder.as_deref()?)))
    }

    /// Checks the flags before a model is downloaded.
    ///
    /// # Errors
    /// When the images cannot be sorted: one comes from stdin, or they are in the destination
    /// itself.
    pub(super) fn check(&self, images: &[PathBuf]) -> Result<()> {
        let Some(folder) = self.folder() else {
            return Ok(());
        };
        ensure!(
            !images.iter().any(|image| image.as_os_str() == "-"),
            "an image from stdin cannot be sorted; save it to a file, or drop --link, --copy or \
             --move"
        );
        let Ok(target) = folder.canonicalize() else {
            return Ok(());
        };
        let folders = images.iter().filter(|image| image.is_dir());
        for image in folders {
            if image
                .canonicalize()
                .is_ok_and(|image| image.starts_with(&target))
            {
                bail!(
                    "cannot sort images of {} into {}, because they are read from there; choose \
                     another folder",
                    image.display(),
                    folder.display()
                );
            }
        }
        Ok(())
    }

    /// The destination folders inside folders that are read, under the names that a walk gives
    /// them. Their images are already sorted and must not be read.
    pub(super) fn unread(&self, images: &[PathBuf]) -> Vec<PathBuf> {
        let folder = self.folder().and_then(absolute);
        let Some(folder) = folder else {
            return Vec::new();
        };
        let folders = images.iter().filter(|image| image.is_dir());
        let inner = folders.filter_map(|image| {
            let read = image.canonicalize().ok()?;
            let inner = folder.strip_prefix(read).ok()?;
            Some(image.join(inner))
        });
        inner.collect()
    }

    /// Starts sorting into one folder per label, if requested.
    ///
    /// # Errors
    /// When the destination is not a folder.
    pub(super) fn start<'a>(
        &self,
        labels: &LabelSet,
        console: &'a Console,
    ) -> Result<Option<Sorting<'a>>> {
        let Some((action, folder)) = self.asked() else {
            return Ok(None);
        };
        let run = self.run();
        let labels = labels.classes.iter().map(|class| class.label.as_str());
        let labels: Vec<_> = labels.collect();
        Ok(Some(Sorting {
            sorter: Sorter::new(folder, action, &labels, run)?,
            labels: labels.len(),
            action,
            run,
            folder: folder.to_owned(),
            console,
            filed: 0,
            already: 0,
            left: 0,
            failed: 0,
        }))
    }
}

/// The absolute path of a folder that exists or would be created, with symbolic links resolved.
fn absolute(folder: &Path) -> Option<PathBuf> {
    if let Ok(folder) = folder.canonicalize() {
        return Some(folder);
    }
    let folder = std::path::absolute(folder).ok()?;
    let parent = absolute(folder.parent()?)?;
    Some(parent.join(folder.file_name()?))
}

impl Sorting<'_> {
    /// Sorts an image under its best label, given by index. It stays in place if it failed, if no
    /// label reached the threshold, or if the best label stands for none of them. If it cannot be
    /// sorted, the error is printed and becomes its record.
    ///
    /// # Errors
    /// When no further image could be sorted either, as on a full disk.
    pub(super) fn sort(
        &mut self,
        image: &Path,
        best: Option<usize>,
        record: &mut Record,
    ) -> Result<()> {
        let Ok(predictions) = &record.outcome else {
            return Ok(());
        };
        let is_believed = !predictions.is_empty() && !record.uncertain;
        let best = best.filter(|best| is_believed && *best < self.labels);
        let Some(label) = best else {
            self.left += 1;
            let why = format!("{} left in place: no label fits", shown(image));
            self.console.detail(&why);
            return Ok(());
        };
        match self.sorter.file(image, label) {
            Ok(Filed::Already(_)) => self.already += 1,
            Ok(Filed::At(place)) => self.announce(image, &place),
            Err(error) if sorted::is_general(&error) => {
                return Err(error.context(format!("cannot sort {}; stopped", shown(image))));
            }
            Err(error) => {
                self.failed += 1;
                let cause = format!("cannot be sorted: {error:#}");
                self.console.failed(&shown(image), &cause);
                record.outcome = Err(FailureKind::Place.because(cause));
            }
        }
        Ok(())
    }

    fn announce(&mut self, image: &Path, place: &Path) {
        self.filed += 1;
        let said = format!("{} {} to {}", self.verb(), shown(image), shown(place));
        match self.run {
            Run::Dry => self.console.note(&format!("would {said}")),
            Run::Real => self.console.detail(&said),
        }
    }

    /// Reports what was done and how to undo it; returns how many images could not be sorted.
    pub(super) fn finish(&self) -> u64 {
        let mut said = match self.run {
            Run::Dry => format!("would {} {}", self.verb(), counted(self.filed, "image")),
            Run::Real => format!("{} {}", self.done(), counted(self.filed, "image")),
        };
        said.push_str(&format!(" into {}", shown(&self.folder)));
        for (count, what) in [
            (self.already, "already there"),
            (self.left, "left in place"),
        ] {
            if count > 0 {
                said.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(journal) = self.sorter.journal().filter(|_| self.filed > 0) {
            said.push_str(&format!("; to undo: longclip undo {:?}", journal));
        }
        self.console.note(&said);
        self.failed
    }

    fn verb(&self) -> &'static str {
        match self.action {
            Action::Link => "link",
            Action::Copy => "copy",
            Action::Move => "move",
        }
    }

    fn done(&self) -> &'static str {
        match self.action {
            Action::Link => "linked",
            Action::Copy => "copied",
            Action::Move => "moved",
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
