//! One page of HTML that shows a run: figures, confusions, curves and every picture.
//!
//! The page is one file that needs no network and fetches nothing: style, script and thumbnails are
//! in it, and its policy forbids anything else. What it says stands there without scripts, except
//! the pictures, which a script shows as they are scrolled to, so that thousands stay quick.
//!
//! [`ReportWriter`] keeps no picture: rows and thumbnails go to two temporary files as they come, and
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
    Answer, Axis, Bin, Change, Chart, Class, Comparison, Confused, Direction, Figure, Head, Kind,
    Pair, Picture, Point, Reliability, Retrieval, Run, Scale, Series, Summary, Value,
};

use super::file::AtomicFile;

/// All thumbnails together: about 40,000 pictures. A browser takes no page of any size, so beyond
/// half of it the pictures that were answered rightly have none, and beyond all of it none has.
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
    pictures: usize,
}

/// A picture as the page's script reads it; what is empty is left out.
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
            spool_beside(path).map(BufWriter::new).with_context(|| {
                format!("cannot keep the pictures of the report {}", path.display())
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
            pictures: 0,
        })
    }

    /// Adds one picture; the page keeps the order.
    ///
    /// # Errors
    /// When the disk takes no more, or the picture counts labels that the head lacks.
    pub fn picture(&mut self, picture: &Picture) -> Result<()> {
        let answers = picture.predictions.iter().chain(&picture.runs);
        let labels = answers
            .map(|answer| answer.label)
            .chain(picture.targets.iter().copied());
        let most = labels.max().map_or(0, |label| label + 1);
        ensure!(
            most <= self.head.labels.len(),
            "the report has {} labels and {} is given number {most}",
            self.head.labels.len(),
            picture.name
        );
        self.push(picture).with_context(|| self.failure())
    }

    fn push(&mut self, picture: &Picture) -> io::Result<()> {
        let pairs = |answers: &[Answer]| answers.iter().map(|one| (one.label, one.score)).collect();
        let thumbnail = self.affordable(picture);
        let row = Row {
            name: &picture.name,
            size: picture.size,
            best: pairs(&picture.predictions),
            targets: &picture.targets,
            runs: pairs(&picture.runs),
            error: picture.error.as_deref(),
            warnings: &picture.warnings,
            thumb: thumbnail.is_some(),
        };
        let lead = if self.pictures == 0 { "" } else { ",\n" };
        write!(self.rows, "{lead}{}", embed::json(&row)?)?;
        if let Some(thumbnail) = thumbnail {
            let coded = STANDARD.encode(thumbnail);
            self.thumbnail_bytes += coded.len() as u64;
            writeln!(
                self.thumbnails,
                "<script type=\"text/plain\" id=\"t{}\">{coded}</script>",
                self.pictures
            )?;
        }
        self.pictures += 1;
        Ok(())
    }

    /// The picture's thumbnail, unless the page has too many.
    fn affordable<'a>(&self, picture: &'a Picture) -> Option<&'a [u8]> {
        let best = picture.predictions.first();
        let is_right = best.is_some_and(|best| picture.targets.contains(&best.label));
        let budget = match is_right {
            true => self.budget_bytes / 2,
            false => self.budget_bytes,
        };
        let thumbnail = picture
            .thumbnail
            .as_deref()
            .filter(|bytes| !bytes.is_empty());
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
                pictures: self.pictures,
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
mod tests {
    use std::fs;

    use serde_json::Value as Json;

    use super::*;
    use crate::output::Score;

    const HOSTILE: &str =
        "</script><img src=x onerror=alert(1)>\"'`{{rows}}\u{202e}\u{2028}\u{0}\n.jpg";

    fn head(labels: &[&str]) -> Head {
        Head {
            kind: Kind::Evaluation,
            title: HOSTILE.to_owned(),
            lead: HOSTILE.to_owned(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            score: Score::Probability,
            facts: vec![(HOSTILE.to_owned(), HOSTILE.to_owned())],
        }
    }

    fn picture(name: &str, label: usize, target: usize) -> Picture {
        Picture {
            name: name.to_owned(),
            size: Some((640, 480)),
            thumbnail: Some(vec![0xff, 0xd8, 0xff]),
            predictions: vec![Answer { label, score: 0.75 }],
            targets: vec![target],
            ..Picture::default()
        }
    }

    fn hostile_summary() -> Summary {
        let text = || HOSTILE.to_owned();
        let axis = || Axis {
            title: text(),
            scale: Scale::Linear,
        };
        let point = Point {
            x: 1.0,
            y: 2.0,
            interval: None,
        };
        Summary {
            notes: vec![text()],
            figures: vec![Figure {
                name: text(),
                value: Value::Number(f64::NAN),
                interval: Some((f64::NAN, f64::INFINITY)),
            }],
            comparison: Some(Comparison {
                runs: vec![Run {
                    name: text(),
                    acc1: 0.5,
                    interval: (0.25, 0.75),
                }],
                pairs: Vec::new(),
                changes: vec![Change {
                    label: 0,
                    support: 1,
                    recalls: vec![0.5],
                }],
            }),
            retrieval: Some(Retrieval {
                protocol: text(),
                directions: vec![Direction {
                    name: text(),
                    queries: 1,
                    recalls: vec![(1, 1.0)],
                }],
            }),
            charts: vec![Chart {
                title: text(),
                caption: text(),
                x: axis(),
                y: axis(),
                series: vec![Series {
                    name: text(),
                    points: vec![point],
                }],
            }],
            reliability: None,
            confusion: vec![Confused {
                truth: 0,
                predicted: 1,
                count: 1,
            }],
            classes: vec![Class {
                label: 0,
                precision: 1.0,
                recall: 1.0,
                f1: 1.0,
                support: 1,
            }],
        }
    }

    /// The page of `pictures`, made in a folder of its own.
    fn page(head: &Head, pictures: &[Picture], summary: &Summary) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, head).unwrap();
        for picture in pictures {
            writer.picture(picture).unwrap();
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
    fn pictures_keep_their_order_and_what_is_known_of_them() {
        let failed = Picture {
            name: "broken.jpg".to_owned(),
            error: Some("not a picture".to_owned()),
            ..Picture::default()
        };
        let pictures = [picture("b.jpg", 1, 0), failed, picture("a.jpg", 0, 0)];
        let page = page(&head(&["cat", "dog"]), &pictures, &Summary::default());
        let rows = embedded(&page, "rows");
        let expected = serde_json::json!([
            {"name": "b.jpg", "size": [640, 480], "best": [[1, 0.75]], "targets": [0], "thumb": true},
            {"name": "broken.jpg", "error": "not a picture"},
            {"name": "a.jpg", "size": [640, 480], "best": [[0, 0.75]], "targets": [0], "thumb": true},
        ]);
        assert_eq!(rows, expected);
        assert!(page.contains("<script type=\"text/plain\" id=\"t0\">/9j/</script>"));
        assert!(!page.contains("id=\"t1\"") && page.contains("id=\"t2\""));
    }

    #[test]
    fn no_text_becomes_markup() {
        let mut row = picture(HOSTILE, 0, 1);
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
    fn the_policy_names_the_script_and_the_style_that_are_there() {
        let page = page(&head(&["cat"]), &[picture("a", 0, 0)], &Summary::default());
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
        assert!(!page.contains("://"), "the page names another place");
    }

    #[test]
    fn the_page_appears_at_the_end_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, &head(&["cat"])).unwrap();
        writer.picture(&picture("a", 0, 0)).unwrap();
        assert!(!path.exists());
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let writer = ReportWriter::create(&path, &head(&["cat"])).unwrap();
        let partial = writer.keep_partial(&Summary::default()).unwrap();
        assert_eq!(partial, folder.path().join("out.html.partial"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn pictures_go_to_the_disk_as_they_come() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, &head(&["cat"])).unwrap();
        let mut row = picture("a", 0, 0);
        row.thumbnail = Some(vec![7; 3000]);
        for _ in 0..1000 {
            writer.picture(&row).unwrap();
        }
        // What is not on the disk yet is in the buffers, which do not grow.
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
            writer.picture(&picture(name, label, 0)).unwrap();
        }
        writer.finish(&Summary::default()).unwrap();
        let page = fs::read_to_string(path).unwrap();
        let has_thumbnail = |at| page.contains(&format!("id=\"t{at}\""));
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(has_thumbnail),
            [true, true, false, true, true, false]
        );
    }

    #[test]
    fn labels_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.html");
        let mut writer = ReportWriter::create(&path, &head(&["cat"])).unwrap();
        let error = writer
            .picture(&picture("a.jpg", 0, 1))
            .unwrap_err()
            .to_string();
        assert_eq!(error, "the report has 1 labels and a.jpg is given number 2");
    }

    #[test]
    fn what_is_not_known_has_no_section() {
        let mut head = head(&["cat"]);
        (head.title, head.lead, head.facts) = (String::new(), String::new(), Vec::new());
        let page = page(&head, &[], &Summary::default());
        for id in [
            "comparison",
            "retrieval",
            "curves",
            "calibration",
            "confusion",
            "pictures",
        ] {
            assert!(!page.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
        assert_eq!(embedded(&page, "rows"), serde_json::json!([]));
        assert!(!page.contains("{{"), "a part was not filled in");
    }
}
