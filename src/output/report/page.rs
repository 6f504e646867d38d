//! Assembles the page: the sources in `page/`, the sections, and what the writer stored.

use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::content::{PageHead, PageSummary};
use super::{chart, confusion, embed, explanation, number, reliability, summary};
use crate::output::Score;

const PAGE: &str = include_str!("page/page.html");
const IMAGES: &str = include_str!("page/images.html");
const STYLE: &str = include_str!("page/style.css");

/// In execution order; one function scope holds them all.
const SCRIPTS: [&str; 9] = [
    include_str!("page/data.js"),
    include_str!("page/theme.js"),
    include_str!("page/dialog.js"),
    include_str!("page/images.js"),
    include_str!("page/grid.js"),
    include_str!("page/matrix.js"),
    include_str!("page/map.js"),
    include_str!("page/tables.js"),
    include_str!("page/pairs.js"),
];

/// What the writer stored about the images.
pub(super) struct Kept<R> {
    /// Number of images.
    pub(super) images: usize,
    /// How many of them have a thumbnail that exceeds the page's limit.
    pub(super) left_out: usize,
    /// The inside of a JSON array.
    pub(super) rows: R,
    /// One element per thumbnail.
    pub(super) thumbnails: R,
}

/// Data for scripts besides the images.
#[derive(Serialize)]
struct Facts<'a> {
    score: &'static str,
    answer: &'static str,
    labels: &'a [String],
    runs: Vec<&'a str>,
    /// Truth, predicted, count.
    confusion: Vec<(usize, usize, u64)>,
    /// For each word of an explanation, a number per patch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pairs: Vec<Vec<f32>>,
}

/// A section of the page with its heading.
struct Section {
    id: &'static str,
    title: &'static str,
    explanation: &'static str,
    content: String,
}

/// Writes the page to `sink`, front to back.
pub(super) fn write<R: io::Read>(
    sink: &mut dyn Write,
    head: &PageHead,
    summary: &PageSummary,
    kept: Kept<R>,
) -> Result<()> {
    let script = script();
    let sections = sections(head, summary);
    let Kept {
        images,
        left_out,
        mut rows,
        mut thumbnails,
    } = kept;
    for piece in pieces(PAGE) {
        match piece {
            Piece::Text(text) => sink.write_all(text.as_bytes())?,
            Piece::Name("rows") => {
                sink.write_all(b"[\n")?;
                io::copy(&mut rows, sink)?;
                sink.write_all(b"]")?;
            }
            Piece::Name("thumbnails") => {
                io::copy(&mut thumbnails, sink)?;
            }
            Piece::Name("policy") => sink.write_all(policy(&script).as_bytes())?,
            Piece::Name("style") => sink.write_all(STYLE.as_bytes())?,
            Piece::Name("script") => sink.write_all(script.as_bytes())?,
            Piece::Name("facts") => sink.write_all(facts(head, summary)?.as_bytes())?,
            Piece::Name("images") if images == 0 => {}
            Piece::Name("images") => sink.write_all(browser(head, images, left_out)?.as_bytes())?,
            Piece::Name("navigation") => {
                sink.write_all(navigation(&sections, images).as_bytes())?;
            }
            Piece::Name("sections") => {
                for section in &sections {
                    sink.write_all(framed(section).as_bytes())?;
                }
            }
            Piece::Name(name) => sink.write_all(small(name, head, summary)?.as_bytes())?,
        }
    }
    Ok(())
}

/// The parts of the template that are short texts.
fn small(name: &str, head: &PageHead, summary: &PageSummary) -> Result<String> {
    Ok(match name {
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        "title" => embed::text(&head.title),
        "kind" => head.kind.name().to_owned(),
        "lead" => embed::text(&head.lead),
        "notes" => summary::notes(summary),
        "figures" => summary::figures(&summary.figures),
        "about" => framed(&Section {
            id: "about",
            title: "About this run",
            explanation: "",
            content: summary::facts(head),
        }),
        other => bail!("the report page has no part named {other}"),
    })
}

fn browser(head: &PageHead, images: usize, left_out: usize) -> Result<String> {
    let mut html = String::new();
    for piece in pieces(IMAGES) {
        html += match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Name("count") => number::count(images as u64),
            Piece::Name("left_out") if left_out == 0 => String::new(),
            Piece::Name("left_out") => format!(
                "<p class=\"note\">{} images have no preview, so that browsers can still open this page.</p>\n",
                number::count(left_out as u64)
            ),
            Piece::Name("answer") => head.kind.answer().to_owned(),
            Piece::Name(other) => bail!("the report page has no part named {other}"),
        }
        .as_str();
    }
    Ok(html)
}

/// A template alternates between text and names in double braces.
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(template: &str) -> impl Iterator<Item = Piece<'_>> {
    template.split("{{").enumerate().flat_map(|(at, part)| {
        let (name, text) = match part.split_once("}}") {
            Some((name, text)) if at > 0 => (Some(name), text),
            _ => (None, part),
        };
        name.map(Piece::Name).into_iter().chain([Piece::Text(text)])
    })
}

fn script() -> String {
    format!("(() => {{\n\"use strict\";\n{}}})();\n", SCRIPTS.concat())
}

/// Nothing may be fetched or sent, and nothing runs but the page's own script.
fn policy(script: &str) -> String {
    let hash = |source: &str| STANDARD.encode(Sha256::digest(source.as_bytes()));
    format!(
        "default-src 'none'; img-src data:; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'",
        hash(script),
        hash(STYLE)
    )
}

fn facts(head: &PageHead, summary: &PageSummary) -> Result<String> {
    let runs = summary.comparison.iter().flat_map(|one| &one.runs);
    let confusion = summary.confusion.iter();
    let facts = Facts {
        score: match head.score {
            Score::Probability => "probability",
            Score::Logit => "logit",
            Score::Cosine => "cosine",
        },
        answer: head.kind.answer(),
        labels: &head.labels,
        runs: runs.map(|run| run.name.as_str()).collect(),
        confusion: confusion
            .map(|one| (one.truth, one.predicted, one.count))
            .collect(),
        pairs: summary
            .explanation
            .iter()
            .flat_map(|one| &one.found.pairs)
            .flat_map(|pairs| &pairs.words)
            .map(|pair| pair.map.concat())
            .collect(),
    };
    embed::json(&facts).context("cannot write the report's facts as JSON")
}

fn sections(head: &PageHead, summary: &PageSummary) -> Vec<Section> {
    let labels = &head.labels;
    let mut sections = vec![
        Section {
            id: "explanation",
            title: "Explanation",
            explanation: "Orange raises the score, blue lowers it, and a word with a dotted line \
                          has next to no part in it. Every number is in the tables.",
            content: summary
                .explanation
                .as_ref()
                .map_or_else(String::new, explanation::section),
        },
        Section {
            id: "comparison",
            title: "Comparison",
            explanation: "All runs classified the same images. Won: images that only the \
                          first-named run gets right. Lost: images that only the other run gets \
                          right. p is the probability of a split this uneven by chance.",
            content: summary
                .comparison
                .as_ref()
                .map_or_else(String::new, |one| summary::comparison(one, labels)),
        },
        Section {
            id: "retrieval",
            title: "Retrieval",
            explanation: "R@k is the share of queries with a correct hit among the first k.",
            content: summary
                .retrieval
                .as_ref()
                .map_or_else(String::new, summary::retrieval),
        },
        Section {
            id: "tables",
            title: "Details",
            explanation: "",
            content: summary.tables.iter().map(summary::texts).collect(),
        },
        Section {
            id: "curves",
            title: "Curves",
            explanation: "A vertical bar through a point is its 95% interval, unless the caption \
                          says otherwise.",
            content: summary.charts.iter().map(chart::figure).collect(),
        },
        Section {
            id: "calibration",
            title: "Calibration",
            explanation: "Of the images classified with 80% confidence, 80% should be right: bars \
                          that end below the dashed line are overconfident.",
            content: summary
                .reliability
                .as_ref()
                .map_or_else(String::new, reliability::figure),
        },
    ];
    if !summary.confusion.is_empty() {
        sections.push(confusions(summary, labels));
    }
    if !summary.classes.is_empty() {
        sections.push(Section {
            id: "classes",
            title: "Classes",
            explanation: "Precision: the share of a class's predictions that are right. Recall: \
                          the share of a class's images that are predicted correctly. F1 is their \
                          harmonic mean.",
            content: summary::classes(&summary.classes, labels),
        });
    }
    sections.retain(|section| !section.content.is_empty());
    sections
}

fn confusions(summary: &PageSummary, labels: &[String]) -> Section {
    let map = if confusion::needs_map(&summary.confusion) {
        "<div id=\"map\" hidden></div>\n"
    } else {
        ""
    };
    Section {
        id: "confusion",
        title: "Confusions",
        explanation: if map.is_empty() {
            "The darker a cell, the larger its share of the row. Select a cell to see its images."
        } else {
            "The classes with the most confusions. The darker a cell, the larger its share of the \
             row. Select a cell to see its images."
        },
        content: format!(
            "{}{map}{}",
            confusion::matrix(&summary.confusion, labels),
            confusion::worst(&summary.confusion, labels)
        ),
    }
}

fn framed(section: &Section) -> String {
    let explanation = match section.explanation {
        "" => String::new(),
        explanation => format!("<p>{explanation}</p>"),
    };
    format!(
        "<section id=\"{0}\" aria-labelledby=\"{0}-title\">\n<div class=\"margin\"><h2 id=\"{0}-title\">{1}</h2>{explanation}</div>\n<div class=\"content\">\n{2}</div>\n</section>\n",
        section.id, section.title, section.content
    )
}

fn navigation(sections: &[Section], images: usize) -> String {
    let mut links: Vec<(&str, &str)> = sections.iter().map(|one| (one.id, one.title)).collect();
    if images > 0 {
        links.push(("images", "Images"));
    }
    links.push(("about", "About"));
    let links = links.into_iter();
    links
        .map(|(id, title)| format!("<li><a href=\"#{id}\">{title}</a></li>\n"))
        .collect()
}
