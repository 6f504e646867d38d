//! Writes labels into XMP sidecars next to images, reversibly; never into an image.
//!
//! darktable and digiKam read `a.jpg.xmp`, which cannot belong to `a.cr2` as well; Lightroom and
//! Capture One read `a.xmp`. A sidecar of either name is changed where it is, and
//! every byte outside its list of labels stays.

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
const NOT_IMAGES: [&str; 5] = ["xmp", "txt", "caption", "json", "pp3"];

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
    /// The folder that was listed last: how many images have each stem.
    listed: Option<(PathBuf, HashMap<OsString, u32>)>,
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
        // That of another image of this stem, such as the raw file, is left to it.
        let is_others = self.naming == Naming::Full
            && full_one.is_none()
            && stem_one.is_some()
            && !self.is_alone(image)?;
        let existing = match self.naming {
            _ if is_others => None,
            Naming::Stem => stem_one.or(full_one),
            Naming::Full => full_one.or(stem_one),
        };
        let new = match self.naming {
            Naming::Stem if stem[0] != image => &stem[0],
            _ => &full[0],
        };
        Ok(existing.unwrap_or(new).clone())
    }

    /// Whether no other image in the folder has the same stem.
    fn is_alone(&mut self, image: &Path) -> Result<bool> {
        let folder = image.parent().unwrap_or(image);
        if self
            .listed
            .as_ref()
            .is_none_or(|(listed, _)| listed != folder)
        {
            let mut stems = HashMap::new();
            for entry in fs::read_dir(folder)? {
                let path = PathBuf::from(entry?.file_name());
                let end = path.extension().and_then(OsStr::to_str).unwrap_or_default();
                if !NOT_IMAGES.contains(&end.to_ascii_lowercase().as_str()) {
                    let stem = path.file_stem().unwrap_or_default().to_owned();
                    *stems.entry(stem).or_insert(0) += 1;
                }
            }
            self.listed = Some((folder.to_owned(), stems));
        }
        let stem = image.file_stem().unwrap_or_default();
        let count = self.listed.as_ref().and_then(|(_, stems)| stems.get(stem));
        Ok(count.is_none_or(|count| *count <= 1))
    }
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
mod tests {
    use super::super::undo::{Undo, Undone, undo};
    use super::*;

    fn owned(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|label| (*label).to_owned()).collect()
    }

    /// A folder with these files.
    fn room(files: &[(&str, &str)]) -> tempfile::TempDir {
        let room = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(room.path().join(name), content).unwrap();
        }
        room
    }

    fn names(room: &Path) -> Vec<String> {
        let names = fs::read_dir(room).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".jsonl"))
            .collect();
        names.sort();
        names
    }

    fn sidecars(room: &Path, naming: Naming) -> Sidecars {
        Sidecars::new(naming, Run::Real, room)
    }

    fn all_undone(sidecars: Sidecars, trusted: bool) -> Undone {
        undo(sidecars.journal().unwrap(), Run::Real, trusted, &mut |_| {}).unwrap()
    }

    #[test]
    fn a_sidecar_is_created_extended_and_taken_back() {
        for (naming, name) in [(Naming::Full, "a.jpg.xmp"), (Naming::Stem, "a.xmp")] {
            let room = room(&[("a.jpg", "image")]);
            let image = room.path().join("a.jpg");
            let mut first = sidecars(room.path(), naming);
            let labels = owned(&["a cat", "<dog>"]);
            let sidecar = room.path().join(name);
            let with = Labelled::With(sidecar.clone(), labels.clone());
            assert_eq!(first.label(&image, &labels).unwrap(), with);
            assert_eq!(first.label(&image, &labels).unwrap(), Labelled::Already);
            let once = fs::read(&sidecar).unwrap();
            let mut second = sidecars(room.path(), naming);
            assert_eq!(second.label(&image, &labels).unwrap(), Labelled::Already);
            assert!(second.journal().is_none());
            let more = owned(&["bus", "a cat"]);
            let with = Labelled::With(sidecar.clone(), owned(&["bus"]));
            assert_eq!(second.label(&image, &more).unwrap(), with);
            let expected = Undone {
                undone: 1,
                failed: 0,
            };
            assert_eq!(all_undone(second, false), expected);
            assert_eq!(fs::read(&sidecar).unwrap(), once);
            assert_eq!(all_undone(first, false), expected);
            assert_eq!(names(room.path()), ["a.jpg"]);
            assert_eq!(fs::read(&image).unwrap(), b"image");
        }
    }

    #[test]
    fn an_existing_sidecar_is_found_and_that_of_another_image_is_left_alone() {
        let old = packet::fresh(&owned(&["old"]));
        let cases = [
            (Naming::Full, "a.xmp", "b.cr2", "a.xmp"),
            (Naming::Full, "a.xmp", "a.txt", "a.xmp"),
            (Naming::Full, "a.xmp", "a.cr2", "a.jpg.xmp"),
            (Naming::Full, "a.XMP", "b.cr2", "a.XMP"),
            (Naming::Full, "a.jpg.xmp", "a.cr2", "a.jpg.xmp"),
            (Naming::Stem, "a.jpg.xmp", "b.cr2", "a.jpg.xmp"),
            (Naming::Stem, "a.xmp", "a.cr2", "a.xmp"),
            (Naming::Stem, "b.xmp", "a.cr2", "a.xmp"),
        ];
        for (naming, existing, other, expected) in cases {
            let room = room(&[("a.jpg", ""), (existing, &old), (other, "")]);
            let mut sidecars = sidecars(room.path(), naming);
            let labelled = sidecars.label(&room.path().join("a.jpg"), &owned(&["x"]));
            let expected = room.path().join(expected);
            assert_eq!(labelled.unwrap(), Labelled::With(expected, owned(&["x"])));
        }
    }

    #[test]
    fn two_images_never_share_a_sidecar() {
        let room = room(&[("a.jpg", ""), ("a.png", ""), ("a.xmp.xmp", "x")]);
        let mut sidecars = sidecars(room.path(), Naming::Stem);
        sidecars
            .label(&room.path().join("a.jpg"), &owned(&["x"]))
            .unwrap();
        let other = sidecars.label(&room.path().join("a.png"), &owned(&["y"]));
        let error = other.unwrap_err().to_string();
        assert!(error.contains("--xmp=full"), "{error}");
        // An image that has the name of a sidecar is never one.
        let itself = sidecars.label(&room.path().join("a.xmp"), &owned(&["y"]));
        let error = format!("{:#}", itself.unwrap_err());
        assert!(error.contains("a.xmp.xmp is not understood"), "{error}");
    }

    #[test]
    fn what_is_not_understood_is_never_overwritten() {
        let room = room(&[("a.jpg", ""), ("a.jpg.xmp", "<html/>"), ("b.jpg", "")]);
        let mut sidecars = sidecars(room.path(), Naming::Full);
        let refused = |sidecars: &mut Sidecars, image: &str| {
            let label = sidecars.label(&room.path().join(image), &owned(&["x"]));
            let error = label.unwrap_err();
            assert!(!is_general(&error));
            format!("{error:#}")
        };
        let error = refused(&mut sidecars, "a.jpg");
        assert!(error.contains("was not changed"), "{error}");
        let large = fs::File::create(room.path().join("a.jpg.xmp")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        let error = refused(&mut sidecars, "a.jpg");
        assert!(error.contains("more than"), "{error}");
        fs::write(room.path().join("a.jpg.xmp"), b"\xff\xfe<\0").unwrap();
        let error = refused(&mut sidecars, "a.jpg");
        assert!(error.contains("not UTF-8"), "{error}");
        fs::create_dir(room.path().join("b.jpg.xmp")).unwrap();
        let error = refused(&mut sidecars, "b.jpg");
        assert!(error.contains("not a regular file"), "{error}");
        #[cfg(unix)]
        {
            fs::remove_dir(room.path().join("b.jpg.xmp")).unwrap();
            std::os::unix::fs::symlink("elsewhere", room.path().join("b.jpg.xmp")).unwrap();
            let error = refused(&mut sidecars, "b.jpg");
            assert!(error.contains("not a regular file"), "{error}");
        }
        assert!(sidecars.journal().is_none());
        let nowhere = room.path().join("gone");
        let mut lost = Sidecars::new(Naming::Stem, Run::Real, &nowhere);
        let error = lost.label(&room.path().join("c.jpg"), &owned(&["x"]));
        assert!(is_general(&error.unwrap_err()));
    }

    #[test]
    fn a_dry_run_writes_nothing() {
        let room = room(&[("a.jpg", "")]);
        let mut sidecars = Sidecars::new(Naming::Full, Run::Dry, room.path());
        let labelled = sidecars.label(&room.path().join("a.jpg"), &owned(&["x"]));
        assert!(matches!(labelled.unwrap(), Labelled::With(..)));
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_sidecar_that_was_changed_since_loses_only_these_labels() {
        let room = room(&[("a.jpg", ""), ("b.jpg", "")]);
        let mut sidecars = sidecars(room.path(), Naming::Full);
        for image in ["a.jpg", "b.jpg"] {
            let image = room.path().join(image);
            sidecars.label(&image, &owned(&["cat", "dog"])).unwrap();
        }
        let [a, b] = ["a.jpg.xmp", "b.jpg.xmp"].map(|name| room.path().join(name));
        let text = fs::read_to_string(&a).unwrap();
        fs::write(&a, text.replace(">dog<", ">dog</rdf:li><rdf:li>own<")).unwrap();
        fs::write(&b, "<html/>").unwrap();
        let journal = sidecars.journal().unwrap().to_owned();
        let mut failed = Vec::new();
        let undone = undo(&journal, Run::Real, false, &mut |step| {
            if let Undo::Failed { path, .. } = step {
                failed.push(path.to_owned());
            }
        });
        assert_eq!((undone.unwrap().undone, failed), (1, vec![b.clone()]));
        let text = fs::read_to_string(&a).unwrap();
        let packet = Packet::parse(&text).unwrap();
        assert_eq!(packet.labels().collect::<Vec<_>>(), ["own"]);
        assert_eq!(fs::read_to_string(&b).unwrap(), "<html/>");
        assert!(journal.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_sidecar_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt as _;
        let old = packet::fresh(&owned(&["old"]));
        let room = room(&[("a.jpg", ""), ("a.jpg.xmp", &old)]);
        let sidecar = room.path().join("a.jpg.xmp");
        fs::set_permissions(&sidecar, fs::Permissions::from_mode(0o600)).unwrap();
        let mut sidecars = sidecars(room.path(), Naming::Full);
        sidecars
            .label(&room.path().join("a.jpg"), &owned(&["x"]))
            .unwrap();
        assert_eq!(
            fs::metadata(&sidecar).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn xml_cannot_hold_every_label() {
        for (label, expected) in [("a <b> & é", true), ("a\u{1}", false), (" ", false)] {
            assert_eq!(is_writable(label), expected, "{label:?}");
        }
    }
}
