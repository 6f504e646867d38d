//! `log.jsonl`: one object per step, and one per evaluation, each written as soon as it is known; and
//! `skipped.jsonl`: data that were not used for training, and why.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// One step of the optimiser. Scripts read these keys: extend, never rename.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Step number, from 1.
    pub step: usize,
    /// Epoch number, from 1.
    pub epoch: usize,
    /// Training loss.
    pub loss: f64,
    /// The loss on long captions.
    pub long_loss: f64,
    /// The loss on short captions, unweighted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_loss: Option<f64>,
    /// The learning rate.
    pub rate: f64,
    /// The logit scale.
    pub logit_scale: f64,
    /// Global gradient norm, before clipping.
    pub gradient_norm: f64,
    /// Pairs per second of this step.
    pub images_per_second: f64,
    /// Seconds since the run began, without the time between its parts.
    pub seconds: f64,
}

/// Metrics of the model after a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The step; 0 is the model before training.
    pub step: usize,
    /// Epochs done.
    pub epoch: usize,
    /// Results for each dataset.
    pub eval: Vec<Figures>,
}

/// Metrics on one dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The dataset as typed.
    pub data: String,
    /// Number of images.
    pub images: usize,
    /// Images that could not be read.
    pub failed: usize,
    /// Metrics by the names that `evaluate` gives them.
    #[serde(flatten)]
    pub figures: BTreeMap<String, f64>,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LogLine {
    /// A step.
    Step(Step),
    /// An evaluation.
    Evaluation(Evaluation),
}

impl LogLine {
    /// The step that it belongs to.
    #[must_use]
    pub(crate) fn step(&self) -> usize {
        match self {
            Self::Step(step) => step.step,
            Self::Evaluation(evaluation) => evaluation.step,
        }
    }
}

/// Mean losses at the beginning and end of a run: batches differ, so a single step says little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// Mean of the first steps.
    pub first: f64,
    /// Mean of the last steps.
    pub last: f64,
    /// Number of steps in each mean: an epoch, which has the same pairs every time, or a tenth of a
    /// run shorter than two epochs.
    pub steps: usize,
}

/// The first bytes of a log, by which it is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// How many.
    pub bytes: u64,
    /// Their CRC-32.
    pub crc32: u32,
}

/// The log of a run in progress.
pub struct Log {
    file: File,
    path: PathBuf,
    entries: Vec<LogLine>,
    bytes: u64,
    sum: crc32fast::Hasher,
}

impl Log {
    /// Takes over the file (locked by the caller) with its lines up to `step`; later or incomplete
    /// lines are truncated. It must begin with what it had when the state was `saved`, unless it is
    /// empty.
    ///
    /// # Errors
    /// When the file cannot be read or truncated, or was changed.
    pub(crate) fn go_on(
        file: File,
        path: &Path,
        step: usize,
        saved: Option<Extent>,
    ) -> Result<Self> {
        let mut log = Self {
            file,
            path: path.to_owned(),
            entries: Vec::new(),
            bytes: 0,
            sum: crc32fast::Hasher::new(),
        };
        log.check(saved)
            .and_then(|()| log.read(step))
            .with_context(|| format!("cannot continue {}", path.display()))?;
        Ok(log)
    }

    fn check(&mut self, saved: Option<Extent>) -> Result<()> {
        let saved = saved.unwrap_or_default();
        if self.file.metadata()?.len() == 0 {
            return Ok(());
        }
        let mut start = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take(saved.bytes).read_to_end(&mut start)?;
        ensure!(
            start.len() as u64 == saved.bytes && crc32fast::hash(&start) == saved.crc32,
            "it was changed or damaged; restore it, or remove it to continue without the figures \
             of earlier steps"
        );
        Ok(())
    }

    fn read(&mut self, step: usize) -> Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::new(&self.file);
        let mut end = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line)?;
            let whole = line.ends_with(b"\n");
            let entry = serde_json::from_slice::<LogLine>(&line).ok();
            let Some(entry) = entry.filter(|entry| whole && entry.step() <= step) else {
                break;
            };
            end += length as u64;
            self.sum.update(&line);
            self.entries.push(entry);
        }
        self.bytes = end;
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end))?;
        Ok(())
    }

    /// Appends a line; it is passed to the system when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, entry: LogLine) -> Result<()> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.bytes += line.len() as u64;
        self.sum.update(&line);
        self.entries.push(entry);
        Ok(())
    }

    /// Syncs it to disk; returns what is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn sync(&self) -> Result<Extent> {
        self.file
            .sync_data()
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(Extent {
            bytes: self.bytes,
            crc32: self.sum.clone().finalize(),
        })
    }

    /// All lines.
    #[must_use]
    pub fn entries(&self) -> &[LogLine] {
        &self.entries
    }

    /// The steps.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.entries.iter().filter_map(|entry| match entry {
            LogLine::Step(step) => Some(step),
            LogLine::Evaluation(_) => None,
        })
    }

    /// How the loss changed; `None` before the second step.
    #[must_use]
    pub fn losses(&self) -> Option<Losses> {
        let all: Vec<(usize, f64)> = self.steps().map(|step| (step.epoch, step.loss)).collect();
        let epoch = all.iter().filter(|step| step.0 == 1).count();
        let steps = if 2 * epoch <= all.len() {
            epoch
        } else {
            all.len() / 10
        };
        let steps = steps.max(1);
        let mean =
            |part: &[(usize, f64)]| part.iter().map(|step| step.1).sum::<f64>() / steps as f64;
        (all.len() > 1).then(|| Losses {
            first: mean(&all[..steps]),
            last: mean(&all[all.len() - steps..]),
            steps,
        })
    }

    /// The evaluations.
    pub(crate) fn evaluations(&self) -> impl Iterator<Item = &Evaluation> {
        self.entries.iter().filter_map(|entry| match entry {
            LogLine::Evaluation(evaluation) => Some(evaluation),
            LogLine::Step(_) => None,
        })
    }
}

/// A skipped entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Skipped {
    /// Where it is: a file and a line, or an image.
    pub place: String,
    /// Why.
    pub cause: String,
    /// The step that needed it; `None` if it was found before the first step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
}

/// The file, created with the first entry.
pub(crate) struct Skips {
    path: PathBuf,
    file: Option<File>,
    known: HashSet<String>,
    /// Those that a step needed.
    failed: usize,
}

impl Skips {
    /// Resumes the file at `path` if it exists, so that nothing is reported twice.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn go_on(path: &Path) -> Result<Self> {
        let (file, known) =
            whole_lines(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            failed: known.iter().filter(|one| one.step.is_some()).count(),
            known: known.into_iter().map(|one| one.place).collect(),
        })
    }

    /// Adds an entry, unless it is known; returns whether it is new.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn add(&mut self, skipped: &Skipped) -> Result<bool> {
        if !self.known.insert(skipped.place.clone()) {
            return Ok(false);
        }
        let writing = || format!("cannot write {}", self.path.display());
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = options().create(true).open(&self.path);
                none.insert(file.with_context(writing)?)
            }
        };
        let mut line = serde_json::to_vec(skipped)?;
        line.push(b'\n');
        file.write_all(&line).with_context(writing)?;
        self.failed += usize::from(skipped.step.is_some());
        Ok(true)
    }

    /// Images that a step needed and that could not be decoded.
    #[must_use]
    pub(crate) fn failed(&self) -> usize {
        self.failed
    }

    /// All skipped entries.
    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.known.len()
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    options
}

/// The file and its entries; an incomplete last line is removed, so that the next one does not
/// continue it.
fn whole_lines(path: &Path) -> io::Result<(Option<File>, Vec<Skipped>)> {
    let mut file = match options().open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, Vec::new())),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |end| end + 1);
    if whole < text.len() {
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
    }
    let lines = text[..whole].split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let known = lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()?;
    Ok((Some(file), known))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn step(step: usize) -> LogLine {
        LogLine::Step(Step {
            step,
            epoch: 1,
            loss: 0.5 * step as f64,
            long_loss: 0.375,
            short_loss: (step > 1).then_some(0.25),
            rate: 0.5,
            logit_scale: 100.0,
            gradient_norm: 2e9,
            images_per_second: 7.5,
            seconds: 0.125,
        })
    }

    fn evaluation(step: usize) -> LogLine {
        LogLine::Evaluation(Evaluation {
            step,
            epoch: 0,
            eval: vec![Figures {
                data: "pets".to_owned(),
                images: 3,
                failed: 0,
                figures: [("acc1".to_owned(), 0.5)].into(),
            }],
        })
    }

    #[test]
    fn a_log_resumes_after_the_last_saved_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).unwrap()
        };
        let mut log = Log::go_on(open(), &path, 0, None).unwrap();
        let all = [evaluation(0), step(1), step(2), evaluation(2), step(3)];
        for entry in &all {
            log.add(entry.clone()).unwrap();
        }
        let saved = log.sync().unwrap();
        assert_eq!(saved.bytes, std::fs::metadata(&path).unwrap().len());
        log.file.write_all(b"{\"step\":4,\"torn").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for (kept, count) in [(9, 5), (2, 4), (1, 2), (0, 1)] {
            std::fs::write(&path, &whole).unwrap();
            let mut log = Log::go_on(open(), &path, kept, Some(saved)).unwrap();
            assert_eq!(log.entries(), &all[..count]);
            log.add(step(9)).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), count + 1);
            assert!(whole.starts_with(&text.as_bytes()[..text.rfind("{\"step\":9").unwrap()]));
        }
    }

    #[test]
    fn a_changed_log_is_refused_and_a_removed_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let open = || options().create(true).open(&path).unwrap();
        let mut log = Log::go_on(open(), &path, 0, None).unwrap();
        log.add(step(1)).unwrap();
        let saved = log.sync().unwrap();
        log.add(evaluation(1)).unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..saved.bytes as usize {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            let error = Log::go_on(open(), &path, 1, Some(saved)).err().unwrap();
            assert!(format!("{error:#}").contains("changed or damaged"), "{at}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(
            Log::go_on(open(), &path, 1, Some(saved))
                .unwrap()
                .entries()
                .len(),
            2
        );
        fs::write(&path, &whole[..10]).unwrap();
        assert!(Log::go_on(open(), &path, 1, Some(saved)).is_err());
        fs::write(&path, "").unwrap();
        assert!(Log::go_on(open(), &path, 1, Some(saved)).is_ok());
    }

    #[test]
    fn nothing_is_reported_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("skipped.jsonl");
        let skipped = |place: &str, step| Skipped {
            place: place.to_owned(),
            cause: "is empty".to_owned(),
            step,
        };
        let mut skips = Skips::go_on(&path).unwrap();
        assert!(!path.exists());
        assert!(skips.add(&skipped("a:1", None)).unwrap());
        assert!(skips.add(&skipped("b.jpg", Some(3))).unwrap());
        assert!(!skips.add(&skipped("b.jpg", Some(5))).unwrap());
        let skips = Skips::go_on(&path).unwrap();
        assert_eq!((skips.failed(), skips.count()), (1, 2));
        // Cut short by a crash.
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], b"{\"place\":\"d.j"].concat()).unwrap();
        let mut skips = Skips::go_on(&path).unwrap();
        assert_eq!((skips.failed(), skips.count()), (1, 2));
        assert!(!skips.add(&skipped("a:1", None)).unwrap());
        assert!(skips.add(&skipped("c.jpg", Some(7))).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
        assert_eq!(skips.failed(), 2);
        let again = Skips::go_on(&path).unwrap();
        assert_eq!((again.failed(), again.count()), (2, 3));
    }
}
