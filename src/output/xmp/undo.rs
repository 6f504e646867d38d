//! The journal of labels in sidecars, and how they are taken back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::packet::{self, Edit, Packet};
use super::{check_writable, digest, found, write};
use crate::file::fault;
use crate::output::journal::{self, Lines, Name};
use crate::output::undo::{Run, Undo, Undone, check_inside};

const WHAT: &str = "xmp";
const VERSION: u32 = 1;
/// Labels may be long texts.
const LONGEST_LINE: u64 = 16 << 20;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    longclip: String,
    version: u32,
}

/// One step.
#[derive(Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
enum Line {
    /// Labels that a sidecar did not have.
    Label {
        to: Name,
        labels: Vec<String>,
        /// The SHA-256 of the sidecar with them.
        after: String,
        /// How it was changed; without it, it was created.
        edit: Option<Edit>,
    },
}

/// A journal that is being written.
pub(super) struct Journal(journal::Journal);

impl Journal {
    pub(super) fn begin(folder: &Path) -> Result<Self> {
        let mut journal = journal::Journal::create(folder, WHAT, false, LONGEST_LINE)?;
        journal.line(&Header {
            longclip: WHAT.to_owned(),
            version: VERSION,
        })?;
        Ok(Self(journal))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes one step, before it is done.
    pub(super) fn note(
        &mut self,
        to: &Path,
        labels: &[String],
        after: &str,
        edit: Option<Edit>,
    ) -> Result<()> {
        self.0.line(&Line::Label {
            to: Name::new(to),
            labels: labels.to_vec(),
            after: after.to_owned(),
            edit,
        })
    }
}

/// One step as read.
struct Step {
    to: PathBuf,
    labels: Vec<String>,
    after: String,
    edit: Option<Edit>,
}

/// Whether the file at `path` is such a journal.
pub(in crate::output) fn is_of(path: &Path) -> bool {
    journal::is_of(path, WHAT)
}

/// Takes back the labels that a journal lists: a sidecar that is unchanged is as before, and one
/// that was changed since loses these labels only. See [`crate::output::undo::undo`].
pub(in crate::output) fn undo(
    journal: &Path,
    run: Run,
    trusted: bool,
    report: &mut dyn FnMut(Undo<'_>),
) -> Result<Undone> {
    let (steps, is_own) =
        read(journal).with_context(|| format!("cannot undo the journal {}", journal.display()))?;
    if !is_own && !trusted && run == Run::Real {
        let folder = journal.canonicalize()?;
        let folder = folder.parent().unwrap_or(&folder);
        let sidecars = steps.iter().map(|step| step.to.as_path());
        check_inside(sidecars, folder, journal, "change")?;
    }
    let mut undone = Undone::default();
    for step in steps.iter().rev() {
        match revert(step, run) {
            Ok(Reverted::Nothing) => {}
            Ok(Reverted::Gone) => undone.gone += 1,
            Ok(Reverted::Undone) => {
                undone.undone += 1;
                let how = format!("labelled {}", step.labels.join(", "));
                report(Undo::Undone {
                    path: &step.to,
                    how,
                });
            }
            Err(cause) if fault::is_general(&cause) => {
                return Err(cause.context(format!(
                    "cannot undo {}; stopped after {} sidecars, and {} keeps the others",
                    step.to.display(),
                    undone.undone,
                    journal.display()
                )));
            }
            Err(cause) => {
                undone.failed += 1;
                report(Undo::Failed {
                    path: &step.to,
                    cause,
                });
            }
        }
    }
    if run == Run::Real && undone.failed == 0 {
        fs::remove_file(journal)
            .with_context(|| format!("everything was undone except for {}", journal.display()))?;
    }
    Ok(undone)
}

/// The steps, and whether this user wrote all of them, on this machine.
fn read(path: &Path) -> Result<(Vec<Step>, bool)> {
    let mut lines = Lines::open(path)?;
    let header = lines.next(LONGEST_LINE)?.unwrap_or_default();
    let header: Header = serde_json::from_slice(&header).context("its first line is damaged")?;
    ensure!(
        header.version == VERSION,
        "it was written by another version of longclip (format {}, but this one reads {VERSION})",
        header.version
    );
    let mut steps = Vec::new();
    while let Some(line) = lines.next(LONGEST_LINE)? {
        let number = steps.len() + 2;
        steps.push(step(&line).with_context(|| format!("line {number} cannot be used"))?);
    }
    Ok((steps, lines.are_own))
}

fn step(line: &[u8]) -> Result<Step> {
    let Line::Label {
        to,
        labels,
        after,
        edit,
    } = serde_json::from_slice(line)?;
    let to = to.path()?;
    let end = to.extension().unwrap_or_default();
    ensure!(
        to.is_absolute() && end.eq_ignore_ascii_case("xmp"),
        "{} is not a sidecar",
        to.display()
    );
    Ok(Step {
        to,
        labels,
        after,
        edit,
    })
}

/// What became of one step.
enum Reverted {
    Undone,
    /// The labels are not there.
    Nothing,
    /// The sidecar is not there.
    Gone,
}

/// Reverts one step.
fn revert(step: &Step, run: Run) -> Result<Reverted> {
    let Some((text, metadata)) = found(&step.to)? else {
        return Ok(Reverted::Gone);
    };
    let is_unchanged = digest(&text) == step.after;
    // `None`: the file is removed.
    let before = match &step.edit {
        None if is_unchanged => None,
        Some(edit) if is_unchanged => Some(edit.reverted(&text).context("the list is damaged")?),
        _ => match Packet::parse(&text)?.without(&step.labels) {
            // This run or another one made it, and was undone before this one.
            Some(text) => Some(text).filter(|text| !packet::is_bare(text)),
            None => return Ok(Reverted::Nothing),
        },
    };
    check_writable(&metadata)?;
    match before {
        _ if run == Run::Dry => {}
        Some(before) => write(&step.to, &before, Some(metadata))?,
        None => fs::remove_file(&step.to)?,
    }
    Ok(Reverted::Undone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_journal_changes_nothing_outside_its_folder_unless_it_is_trusted() {
        let room = tempfile::tempdir().unwrap();
        let room = room.path().canonicalize().unwrap();
        let [inside, outside] = ["inside", "outside"].map(|name| {
            fs::create_dir(room.join(name)).unwrap();
            room.join(name).join("a.xmp")
        });
        let text = super::super::packet::fresh(&["x".to_owned()]);
        for sidecar in [&inside, &outside] {
            fs::write(sidecar, &text).unwrap();
        }
        // No journal of a unit test is sealed, so that all are foreign.
        let journal = |to: &Path| {
            let mut journal = Journal::begin(&room.join("inside")).unwrap();
            let labels = ["x".to_owned()];
            journal.note(to, &labels, &digest(&text), None).unwrap();
            journal.path().to_owned()
        };
        let undone = undo(&journal(&inside), Run::Real, false, &mut |_| {});
        assert_eq!(undone.unwrap().undone, 1);
        let list = journal(&outside);
        let error = undo(&list, Run::Real, false, &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("--yes"), "{error}");
        assert!(outside.exists() && !inside.exists());
        assert_eq!(undo(&list, Run::Dry, false, &mut |_| {}).unwrap().undone, 1);
        assert!(outside.exists());
        assert_eq!(undo(&list, Run::Real, true, &mut |_| {}).unwrap().undone, 1);
        assert!(!outside.exists());
    }

    #[test]
    fn other_files_are_refused() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("j.jsonl");
        let head = "{\"longclip\":\"xmp\",\"version\":1}\n";
        let label = |to: &str| {
            format!(
                "{{\"step\":\"label\",\"to\":{to:?},\"labels\":[],\"after\":\"\",\"edit\":null}}\n"
            )
        };
        let cases = [
            (head.replace('1', "2"), "another version"),
            (head.to_owned() + "{}\n", "line 2 cannot be used"),
            (head.to_owned() + &label("/etc/passwd"), "not a sidecar"),
            (head.to_owned() + &label("a.xmp"), "not a sidecar"),
        ];
        for (content, expected) in cases {
            fs::write(&path, content).unwrap();
            assert!(is_of(&path));
            let error = undo(&path, Run::Dry, true, &mut |_| {}).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
