//! The journal of sorting: one step per line, written before it is done.

#![deny(clippy::indexing_slicing)]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Action;
use super::owner::Seals;
use crate::file::open;
use crate::file::stamp::Stamp;

/// Two paths of maximum length, in base64, and some more.
const LONGEST_LINE: u64 = 1 << 16;
/// Maximum number of journals within one second.
const MAX_PER_SECOND: usize = 1000;

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

/// A path: text if it is UTF-8, else its bytes in base64.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes { base64: String },
}

impl Name {
    fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes {
                base64: STANDARD.encode(path.as_os_str().as_encoded_bytes()),
            },
        }
    }

    fn path(self) -> Result<PathBuf> {
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::Bytes { base64 } => os_string(STANDARD.decode(base64)?).map(PathBuf::from),
        }
    }
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> Result<OsString> {
    use std::os::unix::ffi::OsStringExt as _;
    Ok(OsString::from_vec(bytes))
}

#[cfg(not(unix))]
fn os_string(_: Vec<u8>) -> Result<OsString> {
    anyhow::bail!("this system does not allow this name")
}

/// A journal that is being written.
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    action: Action,
    /// `None` if the user's key cannot be kept: then `undo` asks for a confirmation.
    seals: Option<Seals>,
}

impl Journal {
    /// Creates the folder, if it does not exist, and a journal in it.
    pub(super) fn begin(folder: &Path, action: Action) -> Result<Self> {
        let shown = folder.display();
        let made = !folder.exists();
        fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {shown}"))?;
        // Before the journal is there: making the user's key takes a moment.
        let seals = Seals::make();
        let (file, path) =
            create(folder).with_context(|| format!("cannot write the undo journal in {shown}"))?;
        let mut journal = Self {
            file,
            path,
            action,
            seals,
        };
        journal.line(&Header {
            longclip: WHAT.to_owned(),
            version: VERSION,
            action,
            folder: Name::new(&std::path::absolute(folder)?),
            made,
        })?;
        Ok(journal)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one step, before it is done.
    pub(super) fn note(&mut self, step: &Step) -> Result<()> {
        let line = match step {
            Step::Folder { to } => Line::Folder { to: Name::new(to) },
            Step::Image { from, to, stamp } => Line::Image {
                from: Name::new(from),
                to: Name::new(to),
                stamp: *stamp,
            },
        };
        self.line(&line)
    }

    fn line(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line)?;
        if let Some(seals) = &mut self.seals {
            seals.seal(&mut text);
        }
        text.push(b'\n');
        let written = self.file.write_all(&text).and_then(|()| {
            // A moved image must be recoverable after a power cut as well.
            match self.action {
                Action::Move => self.file.sync_data(),
                _ => Ok(()),
            }
        });
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// `longclip-sorted-20261121T101530Z.jsonl`, with a number if that exists.
fn create(folder: &Path) -> io::Result<(File, PathBuf)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = time(now.map_or(0, |now| now.as_secs()));
    for number in 1..=MAX_PER_SECOND {
        let number = if number == 1 {
            String::new()
        } else {
            format!("-{number}")
        };
        let path = folder.join(format!("longclip-sorted-{time}{number}.jsonl"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Seconds since 1970 as a date and time in UTC, such as `20261121T101530Z`.
fn time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years of 365 days that start in March, so that a leap day is a year's last day.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = year + 400 * era + u64::from(month >= 10);
    let month = if month < 10 { month + 3 } else { month - 9 };
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{:02}Z",
        second % 60
    )
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

/// Reads a journal. A last line without a newline was being written when the run was stopped, and
/// its step was not done.
///
/// # Errors
/// When it is not a journal, or a step leads out of the journal's own folder; names the line.
pub(super) fn read(path: &Path) -> Result<Steps> {
    let mut reader = BufReader::new(open::regular(path)?.0);
    let mut seals = Seals::find();
    let mut is_own = |line: &[u8]| seals.as_mut().is_some_and(|seals| seals.check(line));
    let header = next_line(&mut reader)?.unwrap_or_default();
    let mut all_own = is_own(&header);
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
    while let Some(line) = next_line(&mut reader)? {
        all_own &= is_own(&line);
        let number = steps.len() + 2;
        let step = step(&line).and_then(|step| resolved(step, &folder, own));
        steps.push(step.with_context(|| format!("line {number} cannot be used"))?);
    }
    Ok(Steps {
        action: header.action,
        made: header.made,
        folder: own.to_owned(),
        steps,
        is_own: all_own,
    })
}

fn next_line(reader: &mut BufReader<File>) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    if line.pop() == Some(b'\n') {
        return Ok(Some(line));
    }
    ensure!(
        line.len() as u64 + 1 < LONGEST_LINE,
        "a line is longer than {LONGEST_LINE} bytes"
    );
    Ok(None)
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
        let mut steps = vec![
            Step::Folder {
                to: folder.join("a \"cat\""),
            },
            Step::Image {
                from: "/x/\n.jpg".into(),
                to: folder.join("cat/\n.jpg"),
                stamp: STAMP,
            },
        ];
        #[cfg(unix)]
        steps.push(Step::Image {
            from: os_string(b"/x/caf\xe9".to_vec()).unwrap().into(),
            to: folder
                .join("cat")
                .join(os_string(b"caf\xe9".to_vec()).unwrap()),
            stamp: STAMP,
        });
        for step in &steps {
            journal.note(step).unwrap();
        }
        // Stopped within a line.
        journal.file.write_all(b"{\"step\":\"fol").unwrap();
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

    #[test]
    fn times_are_dates() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (1_795_256_130, "20261121T101530Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(time(seconds), expected);
        }
    }
}
