//! Parts that the HTML reports of all commands share.

use std::path::Path;

use anyhow::Result;

use super::pipeline::Known;
use super::results::check_suffix;
use super::session::Session;
use crate::checkpoint::tiny;
use crate::output::ImageName;
use crate::output::evaluation::{ClassRow, Figures};
use crate::output::report::{
    Confused, Metric, PageImage, PageSummary, Quantity, ReliabilityDiagram,
};
use crate::run::figures::bin_rows;
use crate::task::metric::reliability::BINS;
use crate::task::metric::{Confusion, Tally};

/// The longer side of thumbnails, in pixels.
pub(crate) const THUMBNAIL: u32 = 128;

/// Fails if the name of a page has the suffix of another format.
pub(crate) fn check_page(path: Option<&Path>) -> Result<()> {
    path.map_or(Ok(()), |path| {
        check_suffix(path, &["html", "htm"], "an HTML page")
    })
}

/// Names and values for the head of a page.
pub(crate) type Facts = Vec<(String, String)>;

/// The model, the device it ran on, `more` facts and the command line.
pub(crate) fn run_facts(session: &Session, more: Vec<(&str, String)>) -> Result<Facts> {
    let mut facts = model_facts(session)?;
    let more = more.into_iter();
    facts.extend(more.map(|(name, value)| (name.to_owned(), value)));
    push_arguments(&mut facts);
    Ok(facts)
}

fn model_facts(session: &Session) -> Result<Facts> {
    let checkpoint = &session.checkpoint;
    let facts = [
        ("Model", checkpoint.name.clone()),
        ("Model SHA-256", session.weights_sha256()?.to_owned()),
        (
            "Architecture",
            format!(
                "{}, {} tokens of context",
                checkpoint.architecture.image.describe(),
                checkpoint.architecture.context_length
            ),
        ),
        (
            "Device",
            format!(
                "{} in {}",
                session.placement.device, session.placement.precision
            ),
        ),
        ("longclip", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    Ok(facts.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Adds the command line as the last fact.
pub(crate) fn push_arguments(facts: &mut Facts) {
    let words = std::env::args_os().skip(1);
    let shown = words.map(|word| {
        let word = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_alphanumeric() || "-_./=,:@+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("{word:?}")
        }
    });
    let line = shown.collect::<Vec<_>>().join(" ");
    facts.push(("Command".to_owned(), format!("longclip {line}")));
}

/// The page's heading: the last part of a path.
pub(crate) fn title(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Warnings about the model, shown before any number.
pub(crate) fn notes(model: &str) -> Vec<String> {
    match model {
        "tiny" => vec![tiny::NOTICE.to_owned()],
        _ => Vec::new(),
    }
}

/// An image without its labels.
pub(crate) fn image(image: &ImageName, outcome: &Result<Known>) -> PageImage {
    let known = outcome.as_ref().ok();
    PageImage {
        name: image.text.clone(),
        size: known.map(|known| known.size),
        thumbnail: known.and_then(|known| known.thumbnail.clone()),
        warnings: known.map_or(Vec::new(), |known| known.warnings.clone()),
        error: outcome.as_ref().err().map(|error| format!("{error:#}")),
        ..PageImage::default()
    }
}

/// The accuracy and calibration of labels for the top of the page.
pub(crate) fn headline(figures: &Figures) -> Vec<Metric> {
    vec![
        accuracy("Top-1 accuracy", figures),
        share("Mean per-class recall", figures.mean_per_class_recall),
        share("Expected calibration error", figures.ece),
    ]
}

/// A top-1 accuracy with its interval.
pub(crate) fn accuracy(name: &str, figures: &Figures) -> Metric {
    Metric {
        interval: Some(figures.acc1_interval.into()),
        ..share(name, figures.acc1)
    }
}

/// Adds the reliability diagram, all confusions and the classes to a page.
pub(crate) fn add_tally(
    summary: &mut PageSummary,
    tally: &Tally,
    classes: &[ClassRow],
) -> Result<()> {
    summary.reliability = Some(ReliabilityDiagram {
        ece: tally.reliability(BINS)?.ece,
        bins: bin_rows(tally)?,
    });
    let cell = |cell: Confusion| Confused {
        truth: cell.target,
        predicted: cell.predicted,
        count: cell.count as u64,
    };
    summary.confusion = tally.confusions().cells().map(cell).collect();
    summary.classes = classes.to_vec();
    Ok(())
}

/// A share from 0 to 1 for the top of the page.
pub(crate) fn share(name: &str, value: f64) -> Metric {
    figure(name, Quantity::Share(value))
}

/// A count for the top of the page.
pub(crate) fn count(name: &str, value: u64) -> Metric {
    figure(name, Quantity::Count(value))
}

/// A number for the top of the page.
pub(crate) fn number(name: &str, value: f64) -> Metric {
    figure(name, Quantity::Number(value))
}

fn figure(name: &str, value: Quantity) -> Metric {
    Metric {
        name: name.to_owned(),
        value,
        interval: None,
    }
}
