//! The folder of a run: its owner, its contents, and the state to resume from.
//!
//! `settings.json` is written first and never changed, `log.jsonl` is the lock, and the state is
//! one file that is replaced atomically, so that there is always a complete one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::checkpoint::metadata::Metadata;
use crate::checkpoint::{Tensors, container, export};
use crate::file::atomic::AtomicFile;
use crate::file::digest::hexadecimal;
use crate::file::lock;
use crate::file::open;
use crate::file::safetensors::{CRC32, sum};
use crate::train::log;

const SETTINGS: &str = "settings.json";
const LOG: &str = "log.jsonl";
const SKIPPED: &str = "skipped.jsonl";
/// In a separate folder, so that it is not mistaken for the model.
const STATE: &str = "checkpoint/state.safetensors";

/// A folder for a run, checked but not changed yet.
pub(super) struct RunFolder {
    path: PathBuf,
    /// The settings of an earlier run in it.
    earlier: Option<Value>,
}

/// The metadata of a state file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Position {
    pub(super) step: usize,
    pub(super) epoch: usize,
    /// Completed batches of the epoch.
    pub(super) batch: usize,
    /// The duration of the run so far.
    pub(super) seconds: f64,
    /// The log when it was saved.
    pub(super) log: log::Extent,
}

impl RunFolder {
    /// Checks whether the run may be written there.
    ///
    /// # Errors
    /// When it holds other files, or another run that is not resumed.
    pub(super) fn check(path: &Path, resume: bool) -> Result<Self> {
        let shown = path.display();
        let mut folder = Self {
            path: path.to_owned(),
            earlier: None,
        };
        ensure!(
            !path.exists() || path.is_dir(),
            "the output {shown} is a file; --out names a folder"
        );
        let extension = path.extension().and_then(|extension| extension.to_str());
        ensure!(
            path.is_dir() || !matches!(extension, Some("safetensors" | "pt" | "bin" | "pth")),
            "--out names a folder for the run, but {shown} looks like a file; pass a folder, which \
             the model is written into"
        );
        let settings = folder.file(SETTINGS);
        if settings.exists() {
            ensure!(
                resume,
                "{shown} already holds a run; rerun its command with --resume to continue it, or \
                 choose another --out"
            );
            let reading = || format!("cannot read {}", settings.display());
            let content = open::bytes(&settings, open::SETTINGS_BYTES).with_context(reading)?;
            folder.earlier = Some(serde_json::from_slice(&content).with_context(reading)?);
        } else if path.is_dir() {
            // Left by a run that was killed before it started.
            let own = [LOG, "settings.json.writing"];
            for entry in fs::read_dir(path).with_context(|| format!("cannot read {shown}"))? {
                let name = entry?.file_name();
                ensure!(
                    own.iter().any(|own| name == *own),
                    "{shown} holds other files, such as {}; choose a new folder with --out",
                    name.display()
                );
            }
        }
        Ok(folder)
    }

    /// The micro-batch of the resumed run, which may derive from the memory of another machine.
    pub(super) fn micro_batch(&self) -> Option<usize> {
        let size = self.earlier.as_ref()?.get("settings")?.get("micro-batch")?;
        usize::try_from(size.as_u64()?).ok()
    }

    /// Fails if the resumed run was started with other settings.
    pub(super) fn check_same(&self, record: &Record) -> Result<()> {
        let Some(earlier) = &self.earlier else {
            return Ok(());
        };
        let mut differ = Vec::new();
        let of = |part: &str, key: &str| earlier.get(part).and_then(|part| part.get(key));
        if of("model", "sha256") != Some(&json!(record.model_sha256)) {
            let was = of("model", "name").and_then(Value::as_str);
            differ.push(format!("the model (it was {})", was.unwrap_or("another")));
        }
        if of("data", "sha256") != Some(&json!(record.data_sha256)) {
            let was = of("data", "path")
                .and_then(Value::as_str)
                .unwrap_or("other");
            let pairs = of("data", "pairs").unwrap_or(&Value::Null);
            differ.push(format!("the data (it was {was}, {pairs} pairs)"));
        }
        let setting = |name: &str| of("settings", name).unwrap_or(&Value::Null);
        let epochs = record.settings.get("epochs");
        let has_other_epochs = epochs.is_some_and(|now| setting("epochs") != now);
        for (name, now) in &record.settings {
            let was = setting(name);
            // These two derive from the epochs.
            let follows = has_other_epochs && matches!(name.as_str(), "steps" | "warm-up");
            if was != now && !follows {
                let (was, now) = (shown(was), shown(now));
                differ.push(format!("--{name} (it was {was}, now it is {now})"));
            }
        }
        let known = earlier.get("settings").and_then(Value::as_object);
        for (name, was) in known.into_iter().flatten() {
            if !record.settings.contains_key(name) {
                differ.push(format!("--{name} (it was {})", shown(was)));
            }
        }
        if differ.is_empty() {
            return Ok(());
        }
        let folder = self.path.display();
        bail!(
            "cannot resume the run in {folder} with other settings: {}; use those in {SETTINGS}, \
             or start a new run with another --out (from this one's model, once it is finished: \
             --model {folder})",
            differ.join(", ")
        )
    }

    /// Takes the folder and locks it for this run.
    ///
    /// # Errors
    /// When another run holds it, or it cannot be written.
    pub(super) fn take(self, record: &Record) -> Result<Taken> {
        let making = || format!("cannot create the folder {}", self.path.display());
        fs::create_dir_all(&self.path).with_context(making)?;
        let log = lock::lock(&self.file(LOG))?;
        let settings = self.file(SETTINGS);
        if self.earlier.is_none() {
            ensure!(
                !settings.exists(),
                "another run has just started in {}",
                self.path.display()
            );
            let file = AtomicFile::create_alone(&settings)?;
            let text = serde_json::to_string_pretty(&record.value())? + "\n";
            let write = || {
                let mut sink = file.sink()?;
                sink.write_all(text.as_bytes())?;
                sink.flush()
            };
            write().with_context(|| format!("cannot write {}", settings.display()))?;
            file.commit()?;
        }
        // After the settings: without them the folder would not look like a run's.
        let state = self.file(STATE);
        fs::create_dir_all(state.parent().unwrap_or(&self.path)).with_context(making)?;
        Ok(Taken {
            folder: self.path,
            log: Some(log),
            digest: record.digest(),
            record: record.clone(),
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// A setting as the user types it.
fn shown(value: &Value) -> String {
    match value.as_f64() {
        Some(number) => number.to_string(),
        None => value.to_string(),
    }
}

/// The settings that a run was started with.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) model: String,
    pub(super) model_sha256: String,
    pub(super) data: String,
    pub(super) data_sha256: String,
    pub(super) pairs: usize,
    pub(super) settings: Map<String, Value>,
}

impl Record {
    fn value(&self) -> Value {
        json!({
            "longclip": env!("CARGO_PKG_VERSION"),
            "model": {"name": self.model, "sha256": self.model_sha256},
            "data": {"path": self.data, "pairs": self.pairs, "sha256": self.data_sha256},
            "settings": self.settings,
            "arguments": std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect::<Vec<_>>(),
        })
    }

    /// Digest of everything that identifies the run.
    fn digest(&self) -> String {
        let text = json!([self.model_sha256, self.data_sha256, self.settings]).to_string();
        hexadecimal(&Sha256::digest(text))
    }
}

/// A folder locked by this run.
pub(super) struct Taken {
    folder: PathBuf,
    log: Option<File>,
    digest: String,
    record: Record,
}

/// Keys in the header of a state file.
const STEP: &str = "longclip.step";
const EPOCH: &str = "longclip.epoch";
const BATCH: &str = "longclip.batch";
const SECONDS: &str = "longclip.seconds";
const LOG_BYTES: &str = "longclip.log_bytes";
const LOG_CRC32: &str = "longclip.log_crc32";
const SETTINGS_SHA256: &str = "longclip.settings_sha256";
const DATA_SHA256: &str = "longclip.data_sha256";
const SOURCE_SHA256: &str = "longclip.source_sha256";
const SEED: &str = "longclip.seed";

/// The checksum of a state's numbers and of its header without the checksum.
fn sum_of(tensors: &Tensors, metadata: &Metadata) -> Result<u32> {
    let bytes = tensors.iter().map(|(name, tensor)| {
        let bytes = tensor.contiguous_bytes();
        bytes.with_context(|| format!("{name} is not stored in one piece"))
    });
    let bytes = bytes.collect::<Result<Vec<_>>>()?;
    let pairs = metadata.iter().map(|(key, value)| (&key[..], &value[..]));
    Ok(sum(pairs.filter(|(key, _)| *key != CRC32), bytes))
}

impl Taken {
    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    pub(super) fn skipped_path(&self) -> PathBuf {
        self.folder.join(SKIPPED)
    }

    /// The open log, which is the lock. Can be taken once.
    pub(super) fn take_log(&mut self) -> Result<File> {
        self.log.take().context("the log was taken already")
    }

    /// Replaces the saved state.
    ///
    /// # Errors
    /// When it cannot be written; the old one is kept.
    pub(super) fn save(&self, tensors: &Tensors, at: Position) -> Result<()> {
        let seed = self.record.settings.get("seed").unwrap_or(&Value::Null);
        let pairs = [
            (STEP, at.step.to_string()),
            (EPOCH, at.epoch.to_string()),
            (BATCH, at.batch.to_string()),
            (SECONDS, at.seconds.to_string()),
            (LOG_BYTES, at.log.bytes.to_string()),
            (LOG_CRC32, at.log.crc32.to_string()),
            (SETTINGS_SHA256, self.digest.clone()),
            (DATA_SHA256, self.record.data_sha256.clone()),
            (SOURCE_SHA256, self.record.model_sha256.clone()),
            (SEED, seed.to_string()),
        ];
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value));
        let mut metadata: Metadata = pairs.into_iter().collect();
        let crc32 = sum_of(tensors, &metadata)?;
        metadata.insert(CRC32.to_owned(), crc32.to_string());
        export::write_tensors(&self.folder.join(STATE), tensors, &metadata)
            .context("cannot save the state; the previous one is kept")
    }

    /// The state, if one was saved.
    ///
    /// # Errors
    /// When it is damaged or belongs to another run.
    pub(super) fn state(&self) -> Result<Option<(Tensors, Position)>> {
        let path = self.folder.join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let read = || -> Result<(Tensors, Position)> {
            let archive = container::open(&path)?;
            let value = |key: &str| {
                let value = archive.metadata.get(key);
                value.with_context(|| format!("the header lacks {key}"))
            };
            // States of an older longclip have no checksum.
            if let Some(stated) = archive.metadata.get(CRC32) {
                ensure!(
                    *stated == sum_of(&archive.tensors, &archive.metadata)?.to_string(),
                    "it was changed or damaged after it was written (its checksum differs)"
                );
            }
            ensure!(
                *value(SETTINGS_SHA256)? == self.digest,
                "it belongs to another run"
            );
            let at = Position {
                step: value(STEP)?.parse()?,
                epoch: value(EPOCH)?.parse()?,
                batch: value(BATCH)?.parse()?,
                seconds: value(SECONDS)?.parse()?,
                log: match archive.metadata.get(LOG_BYTES) {
                    Some(bytes) => log::Extent {
                        bytes: bytes.parse()?,
                        crc32: value(LOG_CRC32)?.parse()?,
                    },
                    None => log::Extent::default(),
                },
            };
            Ok((archive.tensors, at))
        };
        read()
            .with_context(|| format!("cannot resume from {}", path.display()))
            .map(Some)
    }
}
