//! The contents of the page as a file.

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

fn image(name: &str, label: usize, target: usize) -> Image {
    Image {
        name: name.to_owned(),
        size: Some((640, 480)),
        thumbnail: Some(vec![0xff, 0xd8, 0xff]),
        predictions: vec![Answer { label, score: 0.75 }],
        targets: vec![target],
        ..Image::default()
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

/// The page of `images`, created in a folder of its own.
fn page(head: &Head, images: &[Image], summary: &Summary) -> String {
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
    let failed = Image {
        name: "broken.jpg".to_owned(),
        error: Some("not an image".to_owned()),
        ..Image::default()
    };
    let images = [image("b.jpg", 1, 0), failed, image("a.jpg", 0, 0)];
    let page = page(&head(&["cat", "dog"]), &images, &Summary::default());
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
    let page = page(&head(&["cat"]), &[image("a", 0, 0)], &Summary::default());
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
    let partial = writer.keep_partial(&Summary::default()).unwrap();
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
    writer.finish(&Summary::default()).unwrap();
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
    let page = page(&head, &[], &Summary::default());
    for id in [
        "comparison",
        "retrieval",
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
