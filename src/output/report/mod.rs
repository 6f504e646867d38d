//! A self-contained HTML report of a run: metrics, confusions, curves and every image.
//!
//! The page is one file that fetches nothing from the network: style, script and thumbnails are in
//! it, and its policy forbids anything else. Everything is readable without scripts, except the
//! images, which a script renders as they are scrolled to, so that thousands stay fast.
//!
//! [`ReportWriter`] keeps no images in memory: rows and thumbnails go to two temporary files as
//! they come, and the page is assembled at the end, metrics first, because readers should see them
//! before all thumbnails are loaded. All content comes in as plain data; this folder computes no
//! metric.

mod chart;
mod confusion;
mod content;
mod embed;
mod number;
mod page;
mod plot;
mod reliability;
mod summary;

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

pub use content::{
    Answer, Axis, Bin, Change, Chart, Class, Comparison, Confused, Direction, Figure, Head, Image,
    Kind, Pair, Point, Reliability, Retrieval, Run, Scale, Series, Summary, Value,
};

use crate::file::atomic::AtomicFile;

/// Maximum size of all thumbnails together: about 40,000 images. Browsers cannot open pages of any
/// size, so from half of it on correctly predicted images have none, and beyond it no image has
/// one.
const THUMBNAIL_BUDGET_BYTES: u64 = 192 << 20;

/// A report in progress. If dropped before [`ReportWriter::finish`], it leaves nothing.
pub struct ReportWriter {
    head: Head,
    path: PathBuf,
    file: AtomicFile,
    rows: BufWriter<File>,
    thumbnails: BufWriter<File>,
    thumbnail_bytes: u64,
    budget_bytes: u64,
    images: usize,
    left_out: usize,
}

/// An image as the page's script reads it; empty parts are omitted.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<(usize, usize)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    best: Vec<(usize, f32)>,
    #[serde(skip_serializing_if = "<[usize]>::is_empty")]
    targets: &'a [usize],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<(usize, f32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    thumb: bool,
}

impl ReportWriter {
    /// Starts the page that will appear at `path`.
    ///
    /// # Errors
    /// When no file can be created there.
    pub fn create(path: &Path, head: &Head) -> Result<Self> {
        let file = AtomicFile::create(path)?;
        let spool = || {
            spool_next_to(path).map(BufWriter::new).with_context(|| {
                format!("cannot store the images of the report {}", path.display())
            })
        };
        Ok(Self {
            head: head.clone(),
            path: path.to_owned(),
            file,
            rows: spool()?,
            thumbnails: spool()?,
            thumbnail_bytes: 0,
            budget_bytes: THUMBNAIL_BUDGET_BYTES,
            images: 0,
            left_out: 0,
        })
    }

    /// Adds one image; the page keeps the order.
    ///
    /// # Errors
    /// When it cannot be written, or the image has an index that is not in the head's labels.
    pub fn image(&mut self, image: &Image) -> Result<()> {
        let answers = image.predictions.iter().chain(&image.runs);
        let labels = answers
            .map(|answer| answer.label)
            .chain(image.targets.iter().copied());
        let most = labels.max().map_or(0, |label| label + 1);
        ensure!(
            most <= self.head.labels.len(),
            "the report has {} labels, but {} has label number {most}",
            self.head.labels.len(),
            image.name
        );
        self.push(image).with_context(|| self.failure())
    }

    fn push(&mut self, image: &Image) -> io::Result<()> {
        let pairs = |answers: &[Answer]| answers.iter().map(|one| (one.label, one.score)).collect();
        let thumbnail = self.affordable(image);
        let row = Row {
            name: &image.name,
            size: image.size,
            best: pairs(&image.predictions),
            targets: &image.targets,
            runs: pairs(&image.runs),
            error: image.error.as_deref(),
            warnings: &image.warnings,
            thumb: thumbnail.is_some(),
        };
        let lead = if self.images == 0 { "" } else { ",\n" };
        write!(self.rows, "{lead}{}", embed::json(&row)?)?;
        if let Some(thumbnail) = thumbnail {
            let coded = STANDARD.encode(thumbnail);
            self.thumbnail_bytes += coded.len() as u64;
            writeln!(
                self.thumbnails,
                "<script type=\"text/plain\" id=\"t{}\">{coded}</script>",
                self.images
            )?;
        }
        self.images += 1;
        self.left_out += usize::from(!row.thumb && image.thumbnail.is_some());
        Ok(())
    }

    /// The image's thumbnail, unless the page has too many.
    fn affordable<'a>(&self, image: &'a Image) -> Option<&'a [u8]> {
        let best = image.predictions.first();
        let is_right = best.is_some_and(|best| image.targets.contains(&best.label));
        let budget = match is_right {
            true => self.budget_bytes / 2,
            false => self.budget_bytes,
        };
        let thumbnail = image.thumbnail.as_deref().filter(|bytes| !bytes.is_empty());
        thumbnail.filter(|_| self.thumbnail_bytes < budget)
    }

    fn failure(&self) -> String {
        format!("cannot write the report {}", self.path.display())
    }

    /// Assembles the page and moves it to its destination.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left then.
    pub fn finish(self, summary: &Summary) -> Result<()> {
        self.assemble(summary)?.commit()
    }

    /// The same for a run that was stopped: the page appears as `FILE.partial`, which is returned.
    ///
    /// # Errors
    /// As [`ReportWriter::finish`].
    pub fn keep_partial(self, summary: &Summary) -> Result<PathBuf> {
        self.assemble(summary)?.keep_partial()
    }

    fn assemble(self, summary: &Summary) -> Result<AtomicFile> {
        let failure = self.failure();
        let assembled = || -> Result<AtomicFile> {
            let kept = page::Kept {
                images: self.images,
                left_out: self.left_out,
                rows: rewound(self.rows)?,
                thumbnails: rewound(self.thumbnails)?,
            };
            let mut sink = self.file.sink()?;
            page::write(&mut *sink, &self.head, summary, kept)?;
            sink.flush()?;
            Ok(self.file)
        };
        assembled().context(failure)
    }
}

/// A file without a name, on the disk of the page, which needs the space there anyway. Next to a
/// pipe or device this may be impossible.
fn spool_next_to(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).or_else(|_| tempfile::tempfile())
}

fn rewound(spool: BufWriter<File>) -> io::Result<File> {
    let mut file = spool.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests;
