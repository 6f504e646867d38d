//! `classify --link`, `--copy` and `--move`: images into a folder for each label.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::input::prompt::LabelSet;
use crate::output::Record;
use crate::output::sorted::{Action, Filed, Run, Sorter};
use crate::run::Console;
use crate::run::console::counted;

/// Where images go.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sorting")]
pub(super) struct SortArgs {
    /// Link each image into a folder of DIR named like its best label
    #[arg(long, value_name = "DIR", group = "sort")]
    link: Option<PathBuf>,
    /// Copy it there
    #[arg(long, value_name = "DIR", group = "sort")]
    copy: Option<PathBuf>,
    /// Move it there; longclip undo takes it back
    #[arg(long = "move", value_name = "DIR", group = "sort")]
    move_to: Option<PathBuf>,
    /// Say what would be linked, copied or moved, and do nothing
    #[arg(long, requires = "sort")]
    dry_run: bool,
}

/// Sorts the images of a run.
pub(super) struct Sorting<'a> {
    sorter: Sorter,
    /// How many there are; a best label of a higher number stands for none of them.
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

    fn asked(&self) -> Option<(Action, &Path)> {
        let all = [
            (Action::Link, &self.link),
            (Action::Copy, &self.copy),
            (Action::Move, &self.move_to),
        ];
        all.into_iter()
            .find_map(|(action, folder)| Some((action, folder.as_deref()?)))
    }

    /// Checks what is asked for, before a model is fetched.
    ///
    /// # Errors
    /// When the images cannot be sorted: one comes from stdin, or they lie in the folder itself.
    pub(super) fn check(&self, images: &[PathBuf]) -> Result<()> {
        let Some(folder) = self.folder() else {
            return Ok(());
        };
        ensure!(
            !images.iter().any(|image| image.as_os_str() == "-"),
            "an image from stdin is no file that can be sorted; save it, or leave out --link, \
             --copy and --move"
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
                    "the images of {} would be sorted into {}, where they are read from; sort \
                     into another folder",
                    image.display(),
                    folder.display()
                );
            }
        }
        Ok(())
    }

    /// The folders whose images are not to be read, because they are the sorted ones: where the
    /// folder to sort into lies in one that is read, by the names that a walk gives it.
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

    /// Starts sorting into a folder for each of `labels`, if that is asked for.
    ///
    /// # Errors
    /// When there is something else at the folder's place.
    pub(super) fn start<'a>(
        &self,
        labels: &LabelSet,
        console: &'a Console,
    ) -> Result<Option<Sorting<'a>>> {
        let Some((action, folder)) = self.asked() else {
            return Ok(None);
        };
        let run = if self.dry_run { Run::Dry } else { Run::Real };
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

/// Where a folder is or would be made, with all links that lead there resolved.
fn absolute(folder: &Path) -> Option<PathBuf> {
    if let Ok(folder) = folder.canonicalize() {
        return Some(folder);
    }
    let folder = std::path::absolute(folder).ok()?;
    let parent = absolute(folder.parent()?)?;
    Some(parent.join(folder.file_name()?))
}

impl Sorting<'_> {
    /// Files an image under its best label, by its number. It stays where it is if it failed, if no
    /// label reached the threshold, and if what is best stands for none of the labels. If it cannot be
    /// filed, that is said on stderr and becomes its record.
    pub(super) fn sort(&mut self, image: &Path, best: Option<usize>, record: &mut Record) {
        let Ok(predictions) = &record.outcome else {
            return;
        };
        let is_believed = !predictions.is_empty() && !record.uncertain;
        let best = best.filter(|best| is_believed && *best < self.labels);
        let Some(label) = best else {
            self.left += 1;
            let why = format!("{} stays: no label fits it", shown(image));
            return self.console.detail(&why);
        };
        match self.sorter.file(image, label) {
            Ok(Filed::Already(_)) => self.already += 1,
            Ok(Filed::At(place)) => self.tell(image, &place),
            Err(error) => {
                self.failed += 1;
                let cause = format!("cannot be sorted: {error:#}");
                self.console.failed(&shown(image), &cause);
                record.outcome = Err(cause);
            }
        }
    }

    fn tell(&mut self, image: &Path, place: &Path) {
        self.filed += 1;
        let said = format!("{} {} to {}", self.verb(), shown(image), shown(place));
        match self.run {
            Run::Dry => self.console.note(&format!("would {said}")),
            Run::Real => self.console.detail(&said),
        }
    }

    /// Says what was done and how to undo it, and how many images could not be filed.
    pub(super) fn finish(&self) -> u64 {
        let mut said = match self.run {
            Run::Dry => format!("would {} {}", self.verb(), counted(self.filed, "image")),
            Run::Real => format!("{} {}", self.done(), counted(self.filed, "image")),
        };
        said.push_str(&format!(" into {}", shown(&self.folder)));
        for (count, what) in [
            (self.already, "there already"),
            (self.left, "left in place"),
        ] {
            if count > 0 {
                said.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(journal) = self.sorter.journal().filter(|_| self.filed > 0) {
            said.push_str(&format!("; to take it back: longclip undo {:?}", journal));
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
