//! Writes a report page of each kind, of invented runs, for a look and for
//! `tests/report/browse.mjs`:
//!
//!     cargo run --example report_page -- DIR
#![allow(missing_docs, reason = "an example documents itself")]

mod drawing;
mod made_up;
mod measure;

use std::path::Path;

use anyhow::{Context, Result};
use longclip::input::image::RgbImage;
use longclip::output::Score;
use longclip::output::evaluation::{Figures, PairRow, Recalls, RetrievalEvaluation, RunRow};
use longclip::output::report::{
    Axis, Change, Chart, LabelScore, PageHead, PageImage, PageKind, PageSummary, Point,
    ReportWriter, RunComparison, Scale, Series,
};
use made_up::{HOSTILE, TEN, answers, image, named};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<()> {
    let folder = std::env::args()
        .nth(1)
        .context("pass the folder for the pages")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let photographs = drawing::photographs()?;
    classification(folder, &photographs)?;
    let ten: Vec<String> = TEN.iter().map(|name| (*name).to_owned()).collect();
    evaluation(folder, ("evaluation-10", 400), &ten, &photographs)?;
    evaluation(folder, ("evaluation-100", 2000), &named(100), &photographs)?;
    evaluation(
        folder,
        ("evaluation-1000", 5000),
        &named(1000),
        &photographs,
    )?;
    comparison(folder, &ten, &photographs)?;
    retrieval(folder, &photographs)
}

fn head(kind: PageKind, title: &str, lead: String, labels: &[String]) -> PageHead {
    let fact = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    PageHead {
        kind,
        title: title.to_owned(),
        lead,
        labels: labels.to_vec(),
        score: Score::Probability,
        facts: vec![
            fact("Model", "longclip-b (BeichenZhang/LongCLIP-B)"),
            fact(
                "Model hash",
                "sha256:3f786850e387550fdab836ed7e6dc881de23001b4c3f5b5d3f0c6f1d2d3e4f50",
            ),
            fact("Templates", "openai7"),
            fact(
                "Arguments",
                "longclip evaluate test --templates openai7 --report out.html",
            ),
            fact("Version", "longclip 0.1.0"),
            fact("Date", "2026-01-31 12:00 UTC"),
        ],
    }
}

fn write(path: &Path, head: &PageHead, images: &[PageImage], summary: &PageSummary) -> Result<()> {
    let mut writer = ReportWriter::create(path, head)?;
    for image in images {
        writer.image(image)?;
    }
    writer.finish(summary)
}

fn classification(folder: &Path, photographs: &[RgbImage]) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut labels: Vec<String> = TEN[..4].iter().map(|name| (*name).to_owned()).collect();
    labels.push("<b onclick=alert(1)>not bold</b>".to_owned());
    let mut images = Vec::new();
    for at in 0..24 {
        let mut one = image(at, at % 4, &labels, photographs, &mut random)?;
        one.targets.clear();
        images.push(one);
    }
    for (name, one) in HOSTILE.iter().zip(&mut images) {
        one.name = (*name).to_owned();
    }
    images[6].name = format!("{}/{}", "folder".repeat(42), "x".repeat(251) + ".jpg");
    images[7].warnings = vec!["jpeg: the data ends after row 120 of 480".to_owned()];
    images.push(PageImage {
        name: "photos/broken.jpg".to_owned(),
        error: Some("not an image: the file ends before any image data".to_owned()),
        ..PageImage::default()
    });
    let lead = "25 images, 5 labels, Long-CLIP B".to_owned();
    let head = head(PageKind::Classification, "photos/", lead, &labels);
    write(
        &folder.join("classification.html"),
        &head,
        &images,
        &PageSummary::default(),
    )
}

fn evaluation(
    folder: &Path,
    (name, count): (&str, usize),
    labels: &[String],
    photographs: &[RgbImage],
) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(count as u64);
    let mut images = Vec::with_capacity(count);
    for at in 0..count {
        images.push(image(
            at,
            at * labels.len() / count,
            labels,
            photographs,
            &mut random,
        )?);
    }
    let last = images.last_mut().context("no images")?;
    last.predictions.clear();
    (last.thumbnail, last.size) = (None, None);
    last.error = Some("not an image: it begins like a web page".to_owned());
    let mut summary = measure::summary(&images, labels.len());
    summary.charts.push(by_length());
    if count < 1000 {
        summary.notes.push(
            "These numbers are invented: they show what the page looks like, not how good a model \
             is."
            .to_owned(),
        );
    }
    let lead = format!(
        "{count} images of {} classes, classified by Long-CLIP B",
        labels.len()
    );
    let head = head(PageKind::Evaluation, "flowers-and-more/test", lead, labels);
    write(
        &folder.join(format!("{name}.html")),
        &head,
        &images,
        &summary,
    )
}

fn by_length() -> Chart {
    let series = |name: &str, ys: [f64; 6]| Series {
        name: name.to_owned(),
        points: [10.0, 20.0, 40.0, 77.0, 120.0, 248.0]
            .into_iter()
            .zip(ys)
            .map(|(x, y)| Point::new(x, y).between((y - 0.03, y + 0.03)))
            .collect(),
    };
    Chart {
        title: "Accuracy by text length".to_owned(),
        caption: "Each text was truncated to this number of tokens before encoding.".to_owned(),
        x: Axis::new("Text length in tokens", Scale::Logarithmic),
        y: Axis::new("Top-1 accuracy", Scale::Percent),
        series: vec![
            series("Long-CLIP B", [0.41, 0.55, 0.68, 0.74, 0.78, 0.8]),
            series("CLIP B/16", [0.43, 0.57, 0.66, 0.7, 0.7, 0.7]),
        ],
    }
}

fn comparison(folder: &Path, labels: &[String], photographs: &[RgbImage]) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let names = ["labels.txt", "labels.txt with openai7", "described.txt"];
    let mut images = Vec::new();
    for at in 0..600 {
        let mut one = image(
            at,
            at * labels.len() / 600,
            labels,
            photographs,
            &mut random,
        )?;
        one.runs.push(one.predictions[0]);
        for help in [0.15, 0.45] {
            let right = LabelScore {
                label: one.targets[0],
                score: random.random_range(0.4..0.99),
            };
            let other = answers(one.targets[0], labels.len(), &mut random)[0];
            one.runs.push(if random.random_bool(help) {
                right
            } else {
                other
            });
        }
        images.push(one);
    }
    let is_right = |one: &PageImage, run: usize| one.targets.contains(&one.runs[run].label);
    let share = |run: usize, wanted: &dyn Fn(&PageImage) -> bool| {
        let asked = images.iter().filter(|one| wanted(one));
        let right = asked.clone().filter(|one| is_right(one, run)).count();
        right as f64 / asked.count() as f64
    };
    let runs: Vec<RunRow> = (0..names.len())
        .map(|run| {
            let acc1 = share(run, &|_| true);
            RunRow {
                name: names[run].to_owned(),
                figures: Figures {
                    acc1,
                    acc1_interval: [acc1 - 0.038, acc1 + 0.036],
                    ..Figures::default()
                },
                ..RunRow::default()
            }
        })
        .collect();
    let pair = |first: usize, second: usize| {
        let only = |a, b| {
            images
                .iter()
                .filter(|one| is_right(one, a) && !is_right(one, b))
                .count()
        };
        let difference = runs[second].figures.acc1 - runs[first].figures.acc1;
        PairRow {
            first: names[first].to_owned(),
            second: names[second].to_owned(),
            difference,
            difference_interval: [difference - 0.04, difference + 0.04],
            mcnemar_p: if difference > 0.1 { 1e-7 } else { 0.0213 },
            won: only(second, first),
            lost: only(first, second),
            ..PairRow::default()
        }
    };
    let change = |label: usize| Change {
        label,
        support: 60,
        recalls: (0..3)
            .map(|run| share(run, &|one| one.targets[0] == label))
            .collect(),
    };
    let mut summary = measure::summary(&images, labels.len());
    summary.figures.truncate(2);
    summary.comparison = Some(RunComparison {
        pairs: vec![pair(0, 1), pair(0, 2), pair(1, 2)],
        changes: [3, 6, 1, 9].map(change).to_vec(),
        runs,
    });
    let lead = "600 images of 10 classes, three ways to word the labels".to_owned();
    let head = head(
        PageKind::RunComparison,
        "Do descriptions help?",
        lead,
        labels,
    );
    write(&folder.join("comparison.html"), &head, &images, &summary)
}

fn retrieval(folder: &Path, photographs: &[RgbImage]) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let captions: Vec<String> = (0..500)
        .map(|at| format!("A photograph of {} number {at}, taken on a clear afternoon from the other side of the street, with people walking by.", TEN[at / 5 % 10]))
        .collect();
    let mut images = Vec::new();
    for at in 0..100 {
        let ten: Vec<String> = TEN.iter().map(|name| (*name).to_owned()).collect();
        let mut one = image(at, at % 10, &ten, photographs, &mut random)?;
        one.targets = (at * 5..at * 5 + 5).collect();
        one.predictions = answers(at * 5, captions.len(), &mut random);
        for answer in &mut one.predictions {
            answer.score = 0.18 + 0.15 * answer.score;
        }
        images.push(one);
    }
    let summary = PageSummary {
        retrieval: Some(RetrievalEvaluation {
            protocol: "Five captions per image, each used in full. An image counts as found by \
                       any of its captions; a caption is found when its image is."
                .to_owned(),
            images: 100,
            texts: 500,
            recalls: Recalls {
                image_at_1: 0.447,
                image_at_5: 0.72,
                image_at_10: 0.81,
                text_at_1: 0.61,
                text_at_5: 0.85,
                text_at_10: 0.92,
                ..Recalls::default()
            },
            ..RetrievalEvaluation::default()
        }),
        charts: vec![by_length()],
        ..PageSummary::default()
    };
    let mut head = head(
        PageKind::Retrieval,
        "Captions",
        "100 images, 500 captions".to_owned(),
        &captions,
    );
    head.score = Score::Cosine;
    write(&folder.join("retrieval.html"), &head, &images, &summary)
}
