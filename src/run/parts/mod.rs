//! Results in parts: a folder in which each unit of the input has files of its own, written by any
//! number of processes, killed and started again at any time.
//!
//! ```text
//! run.json            what the answers depend on, written once by the first process
//! part-000000.jsonl   the answers to unit 0; embeddings have more files of that name
//! part-000000.json    that they are whole: lengths and digests, written last
//! units.json          how many units there are, written by the first process that knows
//! ```
//!
//! A part has the same bytes whoever writes it, so that it does not matter if two processes do.

mod folder;
mod share;
mod units;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use super::Console;
use super::console::counted;
use super::engine::Engine;
use super::flags::{EngineArgs, FrameArgs};
use super::images::{Counts, Images, Running};
use super::made_with::about_images;
use super::session::{Session, Stop};
use crate::file::digest::hexadecimal;
use crate::kernel;

pub(crate) use folder::{Folder, Part, Settings};
pub(crate) use share::{Share, ShareChoice, share};
pub(crate) use units::{Division, Units};

use folder::Total;

/// How long one wait for the list lasts, between looks for a signal.
const PATIENCE: Duration = Duration::from_millis(50);

/// Whether an output is a folder for parts: its name ends in a separator, or it is there.
pub(crate) fn is_folder(output: &Path) -> bool {
    let name = output.as_os_str().as_encoded_bytes();
    let is_separator = |byte: &u8| std::path::is_separator(char::from(*byte));
    name.last().is_some_and(is_separator) || output.is_dir()
}

/// What the embeddings of a run depend on, for [`Parts::open`].
///
/// # Errors
/// When the weights cannot be read.
pub(crate) fn settings(
    command: &str,
    session: &Session,
    args: &EngineArgs,
    frames: &FrameArgs,
) -> Result<Settings> {
    let about = about_images(session, args)?;
    let mut settings = Settings::default();
    settings.add("longclip", &about.version);
    settings.add("command", command);
    settings.add("model", &about.model);
    settings.add("weights", &about.sha256);
    settings.add("precision", &about.precision);
    settings.add("kernels", kernel::features().join(" "));
    settings.add("embeddings", about.settings + &frames.settings());
    let decode = &args.decode;
    let strict = if decode.strict { " strict" } else { "" };
    settings.add(
        "limits",
        format!("max_pixels={}{strict}", decode.max_pixels),
    );
    Ok(settings)
}

/// A run that writes parts.
pub(crate) struct Parts {
    folder: Folder,
    division: Division,
    /// The suffix of each part's answers.
    suffix: &'static str,
}

impl Parts {
    /// Begins or continues the parts in a folder.
    ///
    /// # Errors
    /// When the folder has something else, or parts that depend on other settings.
    pub(crate) fn open(
        folder: &Path,
        division: Division,
        suffix: &'static str,
        mut settings: Settings,
    ) -> Result<Self> {
        settings.add("part_size", division.part_size);
        settings.add("format", suffix);
        Ok(Self {
            folder: Folder::open(folder, &settings)?,
            division,
            suffix,
        })
    }

    /// Lets `answer` write the answers to each unit of the share to a path, unless they are there;
    /// further files next to it belong to the part as well. The counts are those of all parts of
    /// the share, however long ago they were written.
    ///
    /// # Errors
    /// Those of `answer`; when a part cannot be written, or is about other images.
    pub(crate) fn answer(
        &self,
        images: Images,
        engine: &Engine,
        console: &Console,
        mut answer: impl FnMut(Running, &Path) -> Result<Counts>,
    ) -> Result<Counts> {
        let stop = Stop::default();
        let shown = self.folder.path().display();
        let images = images.leave_out(vec![self.folder.path().to_owned()]);
        let (units, walk) = images.units(self.division)?;
        let mut counts = Counts::of_many();
        let (mut inputs, mut number, mut found, mut made) = (Sha256::new(), 0, 0, 0);
        loop {
            let reading = units.clone();
            match until_stopped(&stop, move || reading.begin()) {
                Some(Some(unit)) => number = unit + 1,
                Some(None) => break,
                None => return Ok(self.stopped(counts, &stop, found + made, console)),
            }
            let unit = number - 1;
            let is_own = self.division.share.has(unit);
            let known = match is_own {
                true => self.folder.part(unit)?,
                false => None,
            };
            if !is_own || known.is_some() {
                let reading = units.clone();
                let Some(names) = until_stopped(&stop, move || reading.end()) else {
                    return Ok(self.stopped(counts, &stop, found + made, console));
                };
                let names = names?;
                if let Some(part) = known {
                    self.folder.check_inputs(&part, &names)?;
                    counts.again(part.answered, part.failed, &part.failed_by_kind);
                    found += 1;
                }
                inputs.update(names);
                continue;
            }
            let file = PathBuf::from(format!("{}.{}", folder::stem(unit), self.suffix));
            let making = self.folder.begin(&file)?;
            let running = Running::of_unit(units.images(), engine, stop.clone());
            let of_unit = answer(running, &making.path().join(&file))?;
            if of_unit.signal.is_some() {
                return Ok(self.stopped(counts, &stop, found + made, console));
            }
            let names = units.end()?;
            inputs.update(&names);
            counts.again(of_unit.answered, of_unit.failed, &of_unit.kinds);
            let part = Part {
                unit,
                share: self.division.share.to_string(),
                inputs: names,
                answered: of_unit.answered,
                failed: of_unit.failed,
                failed_by_kind: of_unit.kinds,
                files: Vec::new(),
            };
            self.folder.finish(making, part)?;
            made += 1;
        }
        walk.report(console);
        if found > 0 {
            let parts = counted(found, "part");
            console.note(&format!("kept {parts} of this share that {shown} has"));
        }
        self.folder.close(&Total {
            units: number,
            inputs: hexadecimal(&inputs.finalize()),
        })?;
        Ok(counts)
    }

    /// The counts of a run that a signal stopped; the unit in progress is dropped.
    fn stopped(&self, mut counts: Counts, stop: &Stop, whole: u64, console: &Console) -> Counts {
        console.warn(&format!(
            "stopped; {} of this share in {} stay; the same command makes the others",
            counted(whole, "part"),
            self.folder.path().display(),
        ));
        counts.signal = stop.signal();
        counts
    }
}

/// The result of `read`, which may wait for ever for a list; `None` after a signal.
fn until_stopped<T: Send + 'static>(
    stop: &Stop,
    read: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(read()));
    loop {
        if stop.signal().is_some() {
            return None;
        }
        match receiver.recv_timeout(PATIENCE) {
            Ok(read) => return Some(read),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}
