//! One page of HTML that shows a run: figures, confusions, curves and every image.
//!
//! The page is one file that needs no network and fetches nothing: style, script and thumbnails are
//! in it, and its policy forbids anything else. What it says stands there without scripts, except
//! the images, which a script shows as they are scrolled to, so that thousands stay quick.
//!
//! [`ReportWriter`] keeps no image: rows and thumbnails go to two temporary files as they come, and
//! the page is put together at the end, figures first, because a reader shall see them before all
//! thumbnails are read. What is shown comes in as plain data; this folder computes no metric.

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

/// All thumbnails together: about 40,000 images. A browser takes no page of any size, so beyond
/// half of it the images that were answered rightly have none, and beyond all of it none has.
const THUMBNAIL_BUDGET_BYTES: u64 = 192 << 20;

/// A report in the making. Dropped before [`ReportWriter::finish`], it leaves nothing.
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

/// An image as the page's script reads it; what is empty is left out.
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
    /// Starts the page that is to appear at `path`.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn create(path: &Path, head: &Head) -> Result<Self> {
        let file = AtomicFile::create(path)?;
        let spool = || {
            spool_beside(path)
                .map(BufWriter::new)
                .with_context(|| format!("cannot keep the images of the report {}", path.display()))
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
    /// When the disk takes no more, or the image counts labels that the head lacks.
    pub fn image(&mut self, image: &Image) -> Result<()> {
        let answers = image.predictions.iter().chain(&image.runs);
        let labels = answers
            .map(|answer| answer.label)
            .chain(image.targets.iter().copied());
        let most = labels.max().map_or(0, |label| label + 1);
        ensure!(
            most <= self.head.labels.len(),
            "the report has {} labels and {} is given number {most}",
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

    /// Puts the page together and makes it appear.
    ///
    /// # Errors
    /// When the disk takes no more; nothing is left then.
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

/// A file without a name, on the disk that the page goes to: it needs the room there anyway. Beside
/// a pipe or device there may be no place for it.
fn spool_beside(path: &Path) -> io::Result<File> {
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
