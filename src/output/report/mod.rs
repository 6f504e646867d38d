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
mod explanation;
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
    Axis, Change, Chart, Confused, LabelScore, Metric, PageExplanation, PageHead, PageImage,
    PageKind, PageSummary, PageTable, Point, Quantity, ReliabilityDiagram, RunComparison, Scale,
    Series,
};

use crate::file::atomic::AtomicFile;

/// Maximum size of all thumbnails together: about 40,000 images. Browsers cannot open pages of any
/// size, so from half of it on correctly predicted images have none, and beyond it no image has
/// one.
const THUMBNAIL_BUDGET_BYTES: u64 = 192 << 20;

/// A report in progress. If dropped before [`ReportWriter::finish`], it leaves nothing.
pub struct ReportWriter {
    head: PageHead,
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
struct ImageRow<'a> {
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
    pub fn create(path: &Path, head: &PageHead) -> Result<Self> {
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
    pub fn image(&mut self, image: &PageImage) -> Result<()> {
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

    fn push(&mut self, image: &PageImage) -> io::Result<()> {
        let pairs =
            |answers: &[LabelScore]| answers.iter().map(|one| (one.label, one.score)).collect();
        let thumbnail = self.affordable(image);
        let row = ImageRow {
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
    fn affordable<'a>(&self, image: &'a PageImage) -> Option<&'a [u8]> {
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
    pub fn finish(self, summary: &PageSummary) -> Result<()> {
        self.assemble(summary)?.commit()
    }

    /// The same for a run that was stopped: the page appears as `FILE.partial`, which is returned.
    ///
    /// # Errors
    /// As [`ReportWriter::finish`].
    pub(crate) fn keep_partial(self, summary: &PageSummary) -> Result<PathBuf> {
        self.assemble(summary)?.keep_partial()
    }

    fn assemble(self, summary: &PageSummary) -> Result<AtomicFile> {
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
mod tests {
    use std::fs;

    use serde_json::Value as Json;

    use super::*;
    use crate::output::Score;
    use crate::output::evaluation::{ClassRow, RetrievalEvaluation, RunRow};

    const HOSTILE: &str =
        "</script><img src=x onerror=alert(1)>\"'`{{rows}}\u{202e}\u{2028}\u{0}\n.jpg";

    fn head(labels: &[&str]) -> PageHead {
        PageHead {
            kind: PageKind::Evaluation,
            title: HOSTILE.to_owned(),
            lead: HOSTILE.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            score: Score::Probability,
            facts: vec![(HOSTILE.to_owned(), HOSTILE.to_owned())],
        }
    }

    fn image(name: &str, label: usize, target: usize) -> PageImage {
        PageImage {
            name: name.to_owned(),
            size: Some((640, 480)),
            thumbnail: Some(vec![0xff, 0xd8, 0xff]),
            predictions: vec![LabelScore { label, score: 0.75 }],
            targets: vec![target],
            ..PageImage::default()
        }
    }

    fn hostile_summary() -> PageSummary {
        let text = || HOSTILE.to_owned();
        let axis = || Axis::new(HOSTILE, Scale::Linear);
        PageSummary {
            notes: vec![text()],
            figures: vec![Metric {
                name: text(),
                value: Quantity::Number(f64::NAN),
                interval: Some((f64::NAN, f64::INFINITY)),
            }],
            comparison: Some(RunComparison {
                runs: vec![RunRow {
                    name: text(),
                    ..RunRow::default()
                }],
                pairs: Vec::new(),
                changes: vec![Change {
                    label: 0,
                    support: 1,
                    recalls: vec![0.5],
                }],
            }),
            retrieval: Some(RetrievalEvaluation {
                protocol: text(),
                ..RetrievalEvaluation::default()
            }),
            charts: vec![Chart {
                title: text(),
                caption: text(),
                x: axis(),
                y: axis(),
                series: vec![Series::new(HOSTILE, vec![Point::new(1.0, 2.0)])],
            }],
            tables: vec![PageTable {
                caption: text(),
                columns: vec![text()],
                rows: vec![vec![text(), text()]],
            }],
            reliability: None,
            confusion: vec![Confused {
                truth: 0,
                predicted: 1,
                count: 1,
            }],
            explanation: Some(explanation::hostile(HOSTILE)),
            classes: vec![ClassRow {
                label: text(),
                support: 1,
                ..ClassRow::default()
            }],
        }
    }

    /// The page of `images`, created in a folder of its own.
    fn page(head: &PageHead, images: &[PageImage], summary: &PageSummary) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, head).unwrap();
        for image in images {
            writer.image(image).unwrap();
        }
        writer.finish(summary).unwrap();
        fs::read_to_string(path).unwrap()
    }

    /// The JSON in the element `id`.
    fn embedded(page: &str, id: &str) -> Json {
        let start = format!("<script type=\"application/json\" id=\"{id}\">");
        let (_, rest) = page.split_once(&start).unwrap();
        let (json, _) = rest.split_once("</script>").unwrap();
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn images_keep_their_order_and_data() {
        let failed = PageImage {
            name: "broken.jpg".to_owned(),
            error: Some("not an image".to_owned()),
            ..PageImage::default()
        };
        let images = [image("b.jpg", 1, 0), failed, image("a.jpg", 0, 0)];
        let page = page(&head(&["cat", "dog"]), &images, &PageSummary::default());
        let rows = embedded(&page, "rows");
        let expected = serde_json::json!([
            {"name": "b.jpg", "size": [640, 480], "best": [[1, 0.75]], "targets": [0], "thumb": true},
            {"name": "broken.jpg", "error": "not an image"},
            {"name": "a.jpg", "size": [640, 480], "best": [[0, 0.75]], "targets": [0], "thumb": true},
        ]);
        assert_eq!(rows, expected);
        assert!(page.contains("<script type=\"text/plain\" id=\"t0\">/9j/</script>"));
        assert!(!page.contains("id=\"t1\"") && page.contains("id=\"t2\""));
    }

    #[test]
    fn no_text_becomes_markup() {
        let mut row = image(HOSTILE, 0, 1);
        row.error = Some(HOSTILE.to_owned());
        row.warnings = vec![HOSTILE.to_owned()];
        let page = page(&head(&[HOSTILE, HOSTILE]), &[row], &hostile_summary());
        assert!(!page.contains("<img src"), "an element came out of a text");
        assert!(!page.contains('\u{202e}') || embedded(&page, "rows")[0]["name"] == HOSTILE);
        // Elements of the page: facts, rows, script, one thumbnail.
        assert_eq!(page.matches("</script").count(), 4);
        assert_eq!(embedded(&page, "rows")[0]["name"], HOSTILE);
        assert_eq!(embedded(&page, "facts")["labels"][1], HOSTILE);
        let (_, body) = page.split_once("<body>").unwrap();
        let (shown, _) = body.split_once("<dialog").unwrap();
        assert!(!shown.contains(['\u{202e}', '\u{2028}', '\0']));
        assert!(!shown.contains("NaN") && !shown.contains("inf<"));
    }

    #[test]
    fn the_policy_has_the_hashes_of_the_script_and_the_style() {
        let page = page(
            &head(&["cat"]),
            &[image("a", 0, 0)],
            &PageSummary::default(),
        );
        let between = |start: &str, end: &str| {
            let (_, rest) = page.split_once(start).unwrap();
            rest.split_once(end).unwrap().0
        };
        let hash = |source: &str| {
            use sha2::Digest;
            STANDARD.encode(sha2::Sha256::digest(source))
        };
        let policy = between("Content-Security-Policy\" content=\"", "\"");
        assert!(policy.starts_with("default-src 'none'; img-src data:; script-src 'sha256-"));
        assert!(policy.contains(&hash(between("<style>", "</style>"))));
        assert!(policy.contains(&hash(between("<script>", "</script>"))));
        // Handlers and styles in attributes would be refused by the policy.
        for attribute in [" style=\"", " onclick=", " onload="] {
            assert!(!page.contains(attribute), "{attribute}");
        }
        assert!(!page.contains("://"), "the page refers to another address");
    }

    #[test]
    fn the_page_appears_at_the_end_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, &head(&["cat"])).unwrap();
        writer.image(&image("a", 0, 0)).unwrap();
        assert!(!path.exists());
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let writer = ReportWriter::create(&path, &head(&["cat"])).unwrap();
        let partial = writer.keep_partial(&PageSummary::default()).unwrap();
        assert_eq!(partial, folder.path().join("out.html.partial"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn images_go_to_the_disk_as_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, &head(&["cat"])).unwrap();
        let mut row = image("a", 0, 0);
        row.thumbnail = Some(vec![7; 3000]);
        for _ in 0..1000 {
            writer.image(&row).unwrap();
        }
        // What is not on disk yet is in the buffers, which do not grow.
        let kept =
            |spool: &BufWriter<File>| (spool.get_ref().metadata().unwrap().len(), spool.capacity());
        let (rows, thumbnails) = (kept(&writer.rows), kept(&writer.thumbnails));
        assert!(rows.0 > 50_000 && rows.1 <= 1 << 16, "{rows:?}");
        assert!(
            thumbnails.0 > 3_900_000 && thumbnails.1 <= 1 << 16,
            "{thumbnails:?}"
        );
    }

    #[test]
    fn thumbnails_stop_before_the_page_is_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, &head(&["cat", "dog"])).unwrap();
        // Three bytes are four characters.
        writer.budget_bytes = 16;
        for (label, name) in [(0, "a"), (0, "b"), (0, "c"), (1, "d"), (1, "e"), (1, "f")] {
            writer.image(&image(name, label, 0)).unwrap();
        }
        writer.finish(&PageSummary::default()).unwrap();
        let page = fs::read_to_string(path).unwrap();
        let has_thumbnail = |at| page.contains(&format!("id=\"t{at}\""));
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(has_thumbnail),
            [true, true, false, true, true, false]
        );
        assert!(page.contains(">2 images have no preview"));
    }

    #[test]
    fn label_indices_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, &head(&["cat"])).unwrap();
        let error = writer.image(&image("a.jpg", 0, 1)).unwrap_err().to_string();
        assert_eq!(
            error,
            "the report has 1 labels, but a.jpg has label number 2"
        );
    }

    #[test]
    fn missing_parts_have_no_section() {
        let mut head = head(&["cat"]);
        (head.title, head.lead, head.facts) = (String::new(), String::new(), Vec::new());
        let page = page(&head, &[], &PageSummary::default());
        for id in [
            "comparison",
            "retrieval",
            "tables",
            "curves",
            "calibration",
            "confusion",
            "images",
        ] {
            assert!(!page.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
        assert_eq!(embedded(&page, "rows"), serde_json::json!([]));
        assert!(!page.contains("{{"), "a part was not filled in");
    }
}
