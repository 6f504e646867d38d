//! The journal of sorting: one step per line, written before it is done.

#![deny(clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Action;
use crate::file::stamp::Stamp;
use crate::output::journal::{self, Lines, Name};

/// Two paths of maximum length, in base64, and some more.
const LONGEST_LINE: u64 = 1 << 16;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A folder that did not exist.
    Folder { to: PathBuf },
    /// An image that is filed.
    Image {
        from: PathBuf,
        to: PathBuf,
        /// Stamp of the image.
        stamp: Stamp,
    },
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    longclip: String,
    version: u32,
    action: Action,
    folder: Name,
    /// Whether that folder was created for this run.
    made: bool,
}

const WHAT: &str = "sorted";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
enum Line {
    Folder { to: Name },
    Image { from: Name, to: Name, stamp: Stamp },
}

/// A journal that is being written.
pub(super) struct Journal(journal::Journal);

impl Journal {
    /// Creates the folder, if it does not exist, and a journal in it.
    pub(super) fn begin(folder: &Path, action: Action) -> Result<Self> {
        let made = !folder.exists();
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        // A moved image must be recoverable after a power cut as well.
        let is_synced = action == Action::Move;
        let mut journal = journal::Journal::create(folder, WHAT, is_synced, LONGEST_LINE)?;
        journal.line(&Header {
            longclip: WHAT.to_owned(),
            version: VERSION,
            action,
            folder: Name::new(&std::path::absolute(folder)?),
            made,
        })?;
        Ok(Self(journal))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes one step, before it is done.
    pub(super) fn note(&mut self, step: &Step) -> Result<()> {
        self.0.line(&match step {
            Step::Folder { to } => Line::Folder { to: Name::new(to) },
            Step::Image { from, to, stamp } => Line::Image {
                from: Name::new(from),
                to: Name::new(to),
                stamp: *stamp,
            },
        })
    }
}

/// A journal as read.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) action: Action,
    /// Destination folder of the images.
    pub(super) folder: PathBuf,
    /// Whether that folder was created then.
    pub(super) made: bool,
    pub(super) steps: Vec<Step>,
    /// Whether this user wrote all of it, on this machine.
    pub(super) is_own: bool,
}

/// Reads a journal.
///
/// # Errors
/// When it is not a journal, or a step leads out of the journal's own folder; names the line.
pub(super) fn read(path: &Path) -> Result<Steps> {
    let mut lines = Lines::open(path)?;
    let header = lines.next(LONGEST_LINE)?.unwrap_or_default();
    let header: Option<Header> = serde_json::from_slice(&header).ok();
    let header = header.filter(|header| header.longclip == WHAT);
    let header = header.context("it is not an undo journal of longclip")?;
    ensure!(
        header.version == VERSION,
        "it was written by another version of longclip (format {}, but this one reads {VERSION})",
        header.version
    );
    let folder = header.folder.path()?;
    let own = path.canonicalize()?;
    let own = own.parent().unwrap_or(Path::new(""));
    ensure!(
        folder.canonicalize().is_ok_and(|folder| folder == own),
        "it was written in {}, where the images were sorted; use it there",
        folder.display()
    );
    let mut steps = Vec::new();
    while let Some(line) = lines.next(LONGEST_LINE)? {
        let number = steps.len() + 2;
        let step = step(&line).and_then(|step| resolved(step, &folder, own));
        steps.push(step.with_context(|| format!("line {number} cannot be used"))?);
    }
    Ok(Steps {
        action: header.action,
        made: header.made,
        folder: own.to_owned(),
        steps,
        is_own: lines.are_own,
    })
}

fn step(line: &[u8]) -> Result<Step> {
    Ok(match serde_json::from_slice(line)? {
        Line::Folder { to } => Step::Folder { to: to.path()? },
        Line::Image { from, to, stamp } => Step::Image {
            from: from.path()?,
            to: to.path()?,
            stamp,
        },
    })
}

/// The step with its place below `own`, the real path of `folder`: a foreign journal must not lead
/// anywhere else.
fn resolved(step: Step, folder: &Path, own: &Path) -> Result<Step> {
    use std::path::Component;
    let place = |to: PathBuf, parts: usize| {
        let inner = to.strip_prefix(folder).ok().filter(|inner| {
            let is_name = |part: Component<'_>| matches!(part, Component::Normal(_));
            inner.components().count() == parts && inner.components().all(is_name)
        });
        let inner =
            inner.with_context(|| format!("{} is not in a label's folder", to.display()))?;
        Ok::<_, anyhow::Error>(own.join(inner))
    };
    Ok(match step {
        Step::Folder { to } => Step::Folder { to: place(to, 1)? },
        Step::Image { from, to, stamp } => Step::Image {
            from,
            to: place(to, 2)?,
            stamp,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        bytes: 7,
        modified_ns: -1,
    };

    #[test]
    fn what_is_written_is_read() {
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().join("sorted");
        let mut journal = Journal::begin(&folder, Action::Move).unwrap();
        let other = Journal::begin(&folder, Action::Copy).unwrap();
        assert_ne!(journal.path(), other.path());
        let steps = vec![
            Step::Folder {
                to: folder.join("a \"cat\""),
            },
            Step::Image {
                from: "/x/\n.jpg".into(),
                to: folder.join("cat/\n.jpg"),
                stamp: STAMP,
            },
        ];
        for step in &steps {
            journal.note(step).unwrap();
        }
        // Stopped within a line.
        journal.0.cut_short();
        let read = read(journal.path()).unwrap();
        assert_eq!(
            (read.action, read.folder, read.made),
            (Action::Move, folder, true)
        );
        assert_eq!(read.steps, steps);
    }

    #[test]
    fn other_files_are_refused() {
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().canonicalize().unwrap();
        let path = folder.join("j.jsonl");
        let head = |folder: &Path| {
            format!(
                "{{\"longclip\":\"sorted\",\"version\":1,\"action\":\"move\",\"made\":true,\"folder\":{folder:?}}}\n"
            )
        };
        let stamp = "\"stamp\":{\"bytes\":1,\"modified_ns\":1}";
        let image =
            |to: &str| format!("{{\"step\":\"image\",\"from\":\"/a\",\"to\":{to:?},{stamp}}}\n");
        let inside = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let own = head(&folder);
        let cases = [
            (String::new(), "not an undo journal"),
            ("{}\n".to_owned(), "not an undo journal"),
            ("x".repeat(100_000), "longer than"),
            (
                own.replace("\"version\":1", "\"version\":2"),
                "another version",
            ),
            (head(Path::new("/")), "it was written in /"),
            (own.clone() + "{}\n", "line 2 cannot be used"),
            (
                own.clone() + &image("/etc/passwd"),
                "not in a label's folder",
            ),
            (
                own.clone() + &image(&inside("../cat/x.jpg")),
                "not in a label's folder",
            ),
            (
                own.clone() + &image(&inside("x/../../cat/y.jpg")),
                "not in a label's folder",
            ),
            (
                own.clone() + &image(&inside("x.jpg")),
                "not in a label's folder",
            ),
        ];
        for (content, expected) in cases {
            fs::write(&path, content).unwrap();
            let error = format!("{:#}", read(&path).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
        fs::write(&path, own + &image(&inside("cat/x.jpg"))).unwrap();
        assert_eq!(read(&path).unwrap().steps.len(), 1);
    }
}
