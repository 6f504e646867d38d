//! Writes labels into XMP sidecars next to images, reversibly; never into an image.
//!
//! darktable and digiKam read `a.jpg.xmp`, which cannot belong to `a.cr2` as well; Lightroom and
//! Capture One read `a.xmp`, which belongs to the raw file where there is one. A sidecar of either
//! name is changed where it is, and every byte outside its list of labels stays.

mod packet;
pub(super) mod undo;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::journal::NoJournal;
use super::undo::Run;
use crate::file::atomic::AtomicFile;
use crate::file::digest::hexadecimal;
use crate::file::fault;
use crate::file::open;
use crate::file::stamp::Stamp;
use crate::file::temporary::{Readers, TemporaryFile};
use packet::{Edit, Packet};
use undo::Journal;

/// Larger sidecars are refused, in bytes; darktable's with drawn masks have some megabytes.
const MAX_BYTES: u64 = open::SETTINGS_BYTES;

/// Files next to an image that are not another image.
const NOT_IMAGES: [&str; 8] = ["xmp", "txt", "caption", "json", "pp3", "dop", "aae", "thm"];

/// Cameras' raw files that are read.
const RAW: [&str; 13] = [
    "cr2", "cr3", "nef", "nrw", "arw", "sr2", "srf", "dng", "orf", "rw2", "pef", "raf", "srw",
];

/// The name of a new sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// `a.jpg.xmp`.
    Full,
    /// `a.xmp`.
    Stem,
}

/// What became of the labels of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Labelled {
    /// The sidecar has these in addition; in a dry run it would have.
    With(PathBuf, Vec<String>),
    /// It had all of them.
    Already,
}

/// Whether an error of [`Sidecars::label`] would come again with every further image.
pub(crate) fn is_general(error: &anyhow::Error) -> bool {
    error.is::<NoJournal>() || fault::is_general(error)
}

/// Whether XML can hold this label.
pub(crate) fn is_writable(label: &str) -> bool {
    let is_fit = |c: char| !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}');
    !label.trim().is_empty() && label.chars().all(is_fit)
}

/// The sidecars of a run.
pub(crate) struct Sidecars {
    naming: Naming,
    run: Run,
    /// Where the journal goes.
    folder: PathBuf,
    /// Created with the first sidecar.
    journal: Option<Journal>,
    /// The image of each sidecar of this run.
    images: HashMap<PathBuf, PathBuf>,
    /// The folder that was listed last: the files of each stem that may be images.
    listed: Option<(PathBuf, HashMap<OsString, Vec<PathBuf>>)>,
}

impl Sidecars {
    /// The journal goes into `folder`.
    pub(crate) fn new(naming: Naming, run: Run, folder: &Path) -> Self {
        Self {
            naming,
            run,
            folder: folder.to_owned(),
            journal: None,
            images: HashMap::new(),
            listed: None,
        }
    }

    /// The journal, if anything was done.
    pub(crate) fn journal(&self) -> Option<&Path> {
        self.journal.as_ref().map(Journal::path)
    }

    /// Adds labels to an image's sidecar, which is created if there is none.
    ///
    /// # Errors
    /// When this is impossible; the sidecar is left as it was.
    pub(crate) fn label(&mut self, given: &Path, labels: &[String]) -> Result<Labelled> {
        let image = std::path::absolute(given)?;
        let sidecar = self.place(&image)?;
        // As the user wrote it.
        let named = given.with_file_name(sidecar.file_name().unwrap_or_default());
        let shown = named.display();
        if let Some(other) = self.images.get(&sidecar).filter(|other| **other != image) {
            bail!(
                "{shown} has the labels of {} already; use --xmp=full, which gives each image its own",
                other.display()
            );
        }
        self.images.insert(sidecar.clone(), image);
        let found = found(&sidecar).with_context(|| format!("cannot change {shown}"))?;
        let (labels, edit, text) = match &found {
            None => (labels.to_vec(), None, packet::fresh(labels)),
            Some((text, _)) => {
                let packet = Packet::parse(text);
                let packet = packet
                    .with_context(|| format!("{shown} is not understood and was not changed"))?;
                let missing = packet.missing(labels);
                if missing.is_empty() {
                    return Ok(Labelled::Already);
                }
                let edit = packet.adding(&missing);
                let text = edit.applied(text).context("its labels have no place")?;
                let all = Packet::parse(&text)?.missing(labels);
                ensure!(all.is_empty(), "{shown} is not understood");
                (missing, Some(edit), text)
            }
        };
        if let Some((_, metadata)) = &found {
            check_writable(metadata).with_context(|| format!("cannot change {shown}"))?;
        }
        if self.run == Run::Real {
            self.note(&sidecar, &labels, &text, edit)?;
            write(&sidecar, &text, found.map(|(_, metadata)| metadata))
                .with_context(|| format!("cannot write {shown}"))?;
        }
        Ok(Labelled::With(named, labels))
    }

    fn note(
        &mut self,
        sidecar: &Path,
        labels: &[String],
        after: &str,
        edit: Option<Edit>,
    ) -> Result<()> {
        if self.journal.is_none() {
            self.journal = Some(Journal::begin(&self.folder).context(NoJournal)?);
        }
        match &mut self.journal {
            Some(journal) => journal
                .note(sidecar, labels, &digest(after), edit)
                .context(NoJournal),
            None => Ok(()),
        }
    }

    /// The sidecar of an image: one that exists, else the path of a new one.
    fn place(&mut self, image: &Path) -> Result<PathBuf> {
        let full = |end| {
            let mut name = OsString::from(image);
            name.push(end);
            PathBuf::from(name)
        };
        let full = [full(".xmp"), full(".XMP")];
        let stem = ["xmp", "XMP"].map(|end| image.with_extension(end));
        let exists = |path: &&PathBuf| path.symlink_metadata().is_ok() && path.as_path() != image;
        let full_one = full.iter().find(exists);
        let stem_one = stem.iter().find(exists);
        let is_wanted = self.naming == Naming::Stem && stem[0] != image;
        let chosen = match (full_one, stem_one) {
            (None, None) if !is_wanted => &full[0],
            (Some(found), None) => found,
            (Some(found), Some(_)) if !is_wanted => found,
            // The one of the stem, unless it is another's.
            _ => match (self.other(image)?, full_one) {
                (None, _) => stem_one.unwrap_or(&stem[0]),
                (Some(_), Some(found)) => found,
                (Some(_), None) if !is_wanted => &full[0],
                (Some(other), None) => bail!(
                    "{} may belong to {} as well; use --xmp=full, which gives each image its own",
                    stem[0].file_name().unwrap_or_default().display(),
                    other.display()
                ),
            },
        };
        Ok(chosen.clone())
    }

    /// Another file in the folder to which the sidecar of the image's stem may belong: any for most
    /// images, only another raw file for a raw file.
    fn other(&mut self, image: &Path) -> Result<Option<PathBuf>> {
        let folder = image.parent().unwrap_or(image);
        if self
            .listed
            .as_ref()
            .is_none_or(|(listed, _)| listed != folder)
        {
            let mut stems = HashMap::new();
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = PathBuf::from(entry.file_name());
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if !is_folder && !has_end(&path, &NOT_IMAGES) {
                    let stem = path.file_stem().unwrap_or_default().to_owned();
                    stems.entry(stem).or_insert_with(Vec::new).push(path);
                }
            }
            self.listed = Some((folder.to_owned(), stems));
        }
        let stem = image.file_stem().unwrap_or_default();
        let files = self.listed.as_ref().and_then(|(_, stems)| stems.get(stem));
        let name = image.file_name().unwrap_or_default();
        let is_raw = has_end(image, &RAW);
        let mut others = files.into_iter().flatten();
        let other = others.find(|other| *other != name && (!is_raw || has_end(other, &RAW)));
        Ok(other.cloned())
    }
}

/// Whether a file has one of these extensions.
fn has_end(path: &Path, ends: &[&str]) -> bool {
    let end = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ends.iter().any(|one| end.eq_ignore_ascii_case(one))
}

/// The text of a sidecar and what the system says of it, if it exists.
fn found(sidecar: &Path) -> Result<Option<(String, Metadata)>> {
    let metadata = match sidecar.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    // Through a link, a file elsewhere would be changed.
    ensure!(metadata.is_file(), "it is not a regular file");
    let text = open::text(sidecar, MAX_BYTES)?;
    Ok(Some((text, metadata)))
}

/// Fails if a sidecar is read-only, which a rename would ignore.
fn check_writable(sidecar: &Metadata) -> Result<()> {
    ensure!(!sidecar.permissions().readonly(), "it is read-only");
    Ok(())
}

/// Writes a sidecar; `before` is what [`found`] returned.
fn write(sidecar: &Path, text: &str, before: Option<Metadata>) -> Result<()> {
    let Some(before) = before else {
        let file = TemporaryFile::next_to(sidecar, Readers::Usual)?;
        file.as_file().write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        return Ok(file.persist_noclobber(sidecar)?);
    };
    let file = AtomicFile::create(sidecar)?;
    file.set_permissions(before.permissions());
    let mut sink = file.sink()?;
    sink.write_all(text.as_bytes())?;
    sink.flush()?;
    let now = Stamp::of(sidecar);
    ensure!(
        now == Stamp::from_metadata(&before),
        "another program has just changed it"
    );
    file.commit()
}

/// Reads one sidecar and adds a label to a copy of it, for the tests that damage files.
pub(crate) fn read(sidecar: &Path) -> Result<()> {
    let (text, _) = found(sidecar)?.context("it does not exist")?;
    let edit = Packet::parse(&text)?.adding(&["x".to_owned()]);
    let after = edit.applied(&text).context("the label has no place")?;
    let packet = Packet::parse(&after)?;
    ensure!(
        packet.labels().any(|label| label == "x"),
        "the label is lost"
    );
    Ok(())
}

fn digest(text: &str) -> String {
    hexadecimal(&Sha256::digest(text))
}

#[cfg(test)]
mod tests;
