//! The files of a folder of parts. It may come from anywhere, so nothing in them names a file
//! elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::file::atomic::sync_folder;
use crate::file::digest::{hexadecimal, sha256};
use crate::file::open;
use crate::file::temporary::{Readers, TemporaryFile, TemporaryFolder};
use crate::output::FailureKind;
use crate::run::advice::check_output;
use crate::run::results::write_json;

const RUN: &str = "run.json";
const UNITS: &str = "units.json";

/// What the answers depend on, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(crate) fn add(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// What differs, as `name: its value and the other's`; `None` if nothing does.
    fn difference(&self, other: &Self) -> Option<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let value = |of: &Self, name: &str| of.get(name).unwrap_or_default().to_owned();
        let differences: Vec<String> = names
            .into_iter()
            .map(|name| (name, value(self, name), value(other, name)))
            .filter(|(_, mine, theirs)| mine != theirs)
            .map(|(name, mine, theirs)| format!("{name}: {mine:?} there and {theirs:?} here"))
            .collect();
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

/// That the answers to a unit are whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) unit: u64,
    /// The share that answered it.
    pub(crate) share: String,
    /// SHA-256 of the names of its images.
    pub(crate) inputs: String,
    /// Results, and failures. Frames have results of their own.
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) failed_by_kind: BTreeMap<FailureKind, u64>,
    pub(crate) files: Vec<PartFile>,
}

/// A file of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartFile {
    name: String,
    bytes: u64,
    sha256: String,
}

/// All units of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Total {
    pub(crate) units: u64,
    /// SHA-256 of [`Part::inputs`] of all units in order.
    pub(crate) inputs: String,
}

/// The name of a part without a suffix.
pub(super) fn stem(unit: u64) -> String {
    format!("part-{unit:06}")
}

/// A folder of parts.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Fails if no parts could be in a folder at `path`, before anything is loaded.
    pub(crate) fn check(path: &Path) -> Result<()> {
        if path.is_dir() {
            return Self(path.to_owned()).check_own();
        }
        check_output(path)
    }

    /// Begins one with these settings, or continues it.
    pub(super) fn open(path: &Path, settings: &Settings) -> Result<Self> {
        let shown = path.display();
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot create the folder {shown}"));
            }
            _ => {}
        }
        let folder = Self(path.to_owned());
        folder.check_own()?;
        if !path.join(RUN).exists() {
            folder.create(RUN, settings)?;
        }
        if let Some(difference) = folder.settings()?.difference(settings) {
            bail!(
                "the parts in {shown} were made with other settings ({difference}); use the same \
                 settings, or another folder"
            );
        }
        Ok(folder)
    }

    /// One that is there, and its settings.
    ///
    /// # Errors
    /// When it is not a folder of parts.
    pub(crate) fn read(path: &Path) -> Result<(Self, Settings)> {
        let folder = Self(path.to_owned());
        let is_folder = path.join(RUN).is_file();
        ensure!(
            is_folder,
            "{} has no {RUN}, so it is not a folder that classify or embed wrote parts to",
            path.display()
        );
        let settings = folder.settings()?;
        Ok((folder, settings))
    }

    /// Reads one of the files alone, whichever its name says it is.
    ///
    /// # Errors
    /// When it is refused.
    pub(crate) fn read_file(path: &Path) -> Result<()> {
        let folder = Self(path.parent().unwrap_or(Path::new(".")).to_owned());
        match path.file_name().and_then(|name| name.to_str()) {
            Some(RUN) => folder.settings().map(drop),
            Some(UNITS) => folder.total().map(drop),
            _ => folder.recorded(0).map(drop),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether a file of the folder belongs to its parts.
    pub(crate) fn owns(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let same = |folder: &Path| fs::canonicalize(folder).ok();
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let is_in = same(parent.unwrap_or(Path::new("."))) == same(&self.0);
        is_in && (name == RUN || name == UNITS || name.starts_with("part-"))
    }

    /// Fails if something else is in it.
    fn check_own(&self) -> Result<()> {
        let shown = self.0.display();
        let reading = || format!("cannot read the folder {shown}");
        if self.0.join(RUN).exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&self.0).with_context(reading)? {
            let name = entry.with_context(reading)?.file_name();
            // Another process may begin it now.
            let is_ours = name == RUN || name.to_string_lossy().starts_with(".longclip-");
            if !is_ours && !self.0.join(RUN).exists() {
                bail!(
                    "the output {shown} is a folder; name a file in it, or for parts a folder of \
                     their own: this one has {} and no {RUN}",
                    Path::new(&name).display()
                );
            }
        }
        Ok(())
    }

    fn settings(&self) -> Result<Settings> {
        let settings = self.json(RUN)?;
        settings.with_context(|| format!("{} is gone", self.0.join(RUN).display()))
    }

    /// What the file of this name has, if it is there.
    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.0.join(name);
        let reading = || format!("cannot read {}", path.display());
        let bytes = match open::bytes(&path, open::SETTINGS_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.with_context(reading)?,
        };
        serde_json::from_slice(&bytes)
            .with_context(reading)
            .map(Some)
    }

    /// Writes a file that is written once: one that another process wrote meanwhile stays.
    fn create(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.0.join(name);
        let mut text = serde_json::to_string_pretty(value)?;
        text.push('\n');
        let write = || -> io::Result<()> {
            let file = TemporaryFile::next_to(&path, Readers::Usual)?;
            file.as_file().write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            match file.persist_noclobber(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => Ok(()),
            }
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        sync_folder(&self.0);
        Ok(())
    }

    /// Fails if a part is not about these inputs.
    pub(super) fn check_inputs(&self, part: &Part, inputs: &str) -> Result<()> {
        ensure!(
            part.inputs == inputs,
            "{} is about other images than this run: the list or the folders have changed; use \
             another folder for the parts",
            self.0.join(stem(part.unit) + ".json").display()
        );
        Ok(())
    }

    /// The whole part of a unit, if it is there.
    pub(super) fn part(&self, unit: u64) -> Result<Option<Part>> {
        let Some(part) = self.recorded(unit)? else {
            return Ok(None);
        };
        let is_whole = |file: &PartFile| {
            let found = fs::metadata(self.0.join(&file.name));
            found.is_ok_and(|found| found.is_file() && found.len() == file.bytes)
        };
        Ok(part.files.iter().all(is_whole).then_some(part))
    }

    /// What is recorded of a unit.
    fn recorded(&self, unit: u64) -> Result<Option<Part>> {
        let name = stem(unit) + ".json";
        let part: Option<Part> = self.json(&name)?;
        if let Some(part) = &part {
            let start = stem(unit) + ".";
            let is_own = |file: &PartFile| {
                // Not a path to elsewhere.
                file.name.starts_with(&start) && !file.name.contains(['/', '\\'])
            };
            ensure!(
                part.unit == unit && part.files.iter().all(is_own),
                "{} is not about {}",
                self.0.join(&name).display(),
                stem(unit)
            );
        }
        Ok(part)
    }

    /// A folder for the files of a part in progress, which a signal or the next process that makes
    /// this part removes.
    pub(super) fn begin(&self, file: &Path) -> Result<TemporaryFolder> {
        let making = TemporaryFolder::next_to(&self.0.join(file));
        making.with_context(|| format!("cannot write to {}", self.0.display()))
    }

    /// Moves the files of a part to their places, and records that they are whole.
    pub(super) fn finish(&self, making: TemporaryFolder, mut part: Part) -> Result<()> {
        let writing = || format!("cannot write {} in {}", stem(part.unit), self.0.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(making.path()).with_context(writing)? {
            names.push(entry.with_context(writing)?.file_name());
        }
        names.sort();
        let mut files = Vec::new();
        for name in &names {
            let from = making.path().join(name);
            files.push(PartFile {
                name: name.to_string_lossy().into_owned(),
                bytes: fs::metadata(&from).with_context(writing)?.len(),
                sha256: hexadecimal(&sha256(&from)?),
            });
            fs::rename(&from, self.0.join(name)).with_context(writing)?;
        }
        // The record must not reach the disk before the names do.
        sync_folder(&self.0);
        part.files = files;
        write_json(&self.0.join(stem(part.unit) + ".json"), &part)
    }

    /// Records how many units there are.
    ///
    /// # Errors
    /// When another process found others.
    pub(super) fn close(&self, total: &Total) -> Result<()> {
        self.create(UNITS, total)?;
        let found = self.total()?;
        ensure!(
            found.as_ref() == Some(total),
            "{} is about other images than this run: the list or the folders have changed; use \
             another folder for the parts",
            self.0.join(UNITS).display()
        );
        Ok(())
    }

    fn total(&self) -> Result<Option<Total>> {
        self.json(UNITS)
    }

    /// All parts in order, if each is there, else what is missing, for messages.
    ///
    /// # Errors
    /// When parts are about another input than others.
    pub(crate) fn parts(&self) -> Result<Result<Vec<Part>, Vec<String>>> {
        let shown = self.0.display();
        let Some(total) = self.total()? else {
            return Ok(Err(vec![format!(
                "{shown} has no {UNITS}: no share has read the whole input yet"
            )]));
        };
        let mut parts = Vec::new();
        let mut missing = Vec::new();
        for unit in 0..total.units {
            match self.recorded(unit)? {
                Some(part) => parts.push(part),
                None => missing.push(unit),
            }
            // An impossible count must not start a search for as many files.
            if missing.len() > MOST_MISSING {
                break;
            }
        }
        if !missing.is_empty() {
            return Ok(Err(named(&missing, &parts)));
        }
        let mut inputs = Sha256::new();
        parts.iter().for_each(|part| inputs.update(&part.inputs));
        ensure!(
            hexadecimal(&inputs.finalize()) == total.inputs,
            "the parts in {shown} are about other images than {UNITS}: the list or the folders \
             changed between runs; begin again in another folder"
        );
        Ok(Ok(parts))
    }

    /// Fails unless the files of a part are what was written.
    pub(crate) fn verify(&self, part: &Part) -> Result<()> {
        for file in &part.files {
            let path = self.0.join(&file.name);
            let way_out = || {
                format!(
                    "{} is not what was written; delete {}.json and run share {} again",
                    path.display(),
                    stem(part.unit),
                    part.share
                )
            };
            let found = sha256(&path).with_context(way_out)?;
            ensure!(hexadecimal(&found) == file.sha256, way_out());
        }
        Ok(())
    }

    /// The file of a part with this ending, such as `.npy`.
    pub(crate) fn file(&self, part: &Part, ending: &str) -> Option<PathBuf> {
        let name = stem(part.unit) + ending;
        let file = part.files.iter().find(|file| file.name == name)?;
        Some(self.0.join(&file.name))
    }
}

/// Missing parts that are counted.
const MOST_MISSING: usize = 1000;

/// Missing parts that are named.
const MOST_NAMED: usize = 20;

/// The names of missing parts, each with the share that makes it if all shares were of as many.
fn named(missing: &[u64], parts: &[Part]) -> Vec<String> {
    let shares: Option<Vec<super::Share>> =
        parts.iter().map(|part| part.share.parse().ok()).collect();
    let shares = shares.unwrap_or_default();
    let first = shares.first().copied();
    let first = first.filter(|one| shares.iter().all(|share| share.count() == one.count()));
    let one = |unit: &u64| match first {
        Some(share) => format!(
            "{} is missing; share {} makes it",
            stem(*unit),
            share.of(*unit)
        ),
        None => format!("{} is missing", stem(*unit)),
    };
    let mut lines: Vec<String> = missing.iter().take(MOST_NAMED).map(one).collect();
    if missing.len() > MOST_NAMED {
        lines.push(format!(
            "at least {} more are missing",
            missing.len() - MOST_NAMED
        ));
    }
    lines
}

#[cfg(test)]
mod tests;
