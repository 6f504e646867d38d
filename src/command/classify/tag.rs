//! `classify --xmp`, which writes labels into sidecars next to images.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};

use crate::file::temporary::{Readers, TemporaryFile};
use crate::input::prompt::LabelSet;
use crate::output::Record;
use crate::output::undo::Run;
use crate::output::xmp::{self, Labelled, Sidecars};
use crate::run::Console;
use crate::run::console::counted;

/// Sidecars.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sorting")]
pub(super) struct TagArgs {
    /// Write labels into XMP sidecars: img.jpg.xmp, or with --xmp=stem img.xmp
    ///
    /// The best label of each image, or with --threshold all that reach it, are added to dc:subject
    /// of its sidecar, where photo managers keep keywords. An existing sidecar of either name that
    /// belongs to the image is extended, and everything else in it stays.
    #[arg(
        long,
        value_name = "NAME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "full",
        value_enum,
        conflicts_with = "move_to"
    )]
    xmp: Option<Naming>,
}

/// The name of a new sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Naming {
    /// img.jpg.xmp, for darktable and digiKam
    Full,
    /// img.xmp, for Lightroom and Capture One
    Stem,
}

/// Writes the labels of a run.
pub(super) struct Tagging<'a> {
    sidecars: Sidecars,
    run: Run,
    console: &'a Console,
    written: u64,
    already: u64,
    left: u64,
    failed: u64,
}

impl TagArgs {
    /// Whether labels are written.
    pub(super) fn is_asked(&self) -> bool {
        self.xmp.is_some()
    }

    /// Checks the flag before a model is downloaded.
    ///
    /// # Errors
    /// When an image comes from stdin, a label cannot be written, or the list for `longclip undo`
    /// cannot.
    pub(super) fn check(&self, images: &[PathBuf], labels: &LabelSet, run: Run) -> Result<()> {
        if self.xmp.is_none() {
            return Ok(());
        }
        ensure!(
            !images.iter().any(|image| image.as_os_str() == "-"),
            "an image from stdin has no sidecar; save it to a file, or drop --xmp"
        );
        let mut labels = labels.classes.iter().map(|class| &class.label);
        if let Some(label) = labels.find(|label| !xmp::is_writable(label)) {
            anyhow::bail!("XMP cannot hold the label {label:?}; change it, or drop --xmp");
        }
        if run == Run::Real {
            TemporaryFile::next_to(Path::new("longclip-xmp.jsonl"), Readers::User).context(
                "cannot write the list for longclip undo into the working folder; change to another \
                 folder, or drop --xmp",
            )?;
        }
        Ok(())
    }

    /// Starts writing, if requested; the journal goes into the working folder.
    pub(super) fn start<'a>(&self, run: Run, console: &'a Console) -> Option<Tagging<'a>> {
        let naming = match self.xmp? {
            Naming::Full => xmp::Naming::Full,
            Naming::Stem => xmp::Naming::Stem,
        };
        Some(Tagging {
            sidecars: Sidecars::new(naming, run, Path::new(".")),
            run,
            console,
            written: 0,
            already: 0,
            left: 0,
            failed: 0,
        })
    }
}

impl Tagging<'_> {
    /// Writes the chosen labels of an image. If this fails, the error is printed and becomes a
    /// warning of its record.
    ///
    /// # Errors
    /// When no further sidecar could be written either, as on a full disk.
    pub(super) fn tag(&mut self, image: &Path, record: &mut Record) -> Result<()> {
        if record.outcome.is_err() {
            return Ok(());
        }
        if record.chosen.is_empty() {
            self.left += 1;
            return Ok(());
        }
        let labels = record.chosen.iter().map(|label| label.trim().to_owned());
        let labels: Vec<String> = labels.collect();
        let shown = image.display().to_string();
        match self.sidecars.label(image, &labels) {
            Ok(Labelled::Already) => self.already += 1,
            Ok(Labelled::With(sidecar, labels)) => {
                self.written += 1;
                let what = format!("{} in {}", labels.join(", "), sidecar.display());
                match self.run {
                    Run::Dry => self.console.note(&format!("would write {what}")),
                    Run::Real => self.console.detail(&format!("wrote {what}")),
                }
            }
            Err(error) if xmp::is_general(&error) => {
                return Err(error.context(format!("cannot label {shown}; stopped")));
            }
            Err(error) => {
                self.failed += 1;
                let cause = format!("xmp: {error:#}");
                self.console.failed(&shown, &cause);
                record.warnings.push(cause);
            }
        }
        Ok(())
    }

    /// Reports what was done and how to undo it; returns how many images could not be labelled.
    pub(super) fn finish(&self) -> u64 {
        let verb = match self.run {
            Run::Dry => "would write",
            Run::Real => "wrote",
        };
        let mut said = format!("{verb} labels of {}", counted(self.written, "image"));
        for (count, what) in [
            (self.already, "had them already"),
            (self.left, "without a label that fits"),
            (self.failed, "failed"),
        ] {
            if count > 0 {
                said.push_str(&format!(", {count} {what}"));
            }
        }
        if let Some(journal) = self.sidecars.journal().filter(|_| self.written > 0) {
            said.push_str(&format!("; to undo: longclip undo {journal:?}"));
        }
        self.console.note(&said);
        self.failed
    }
}
