//! What is printed, the page and the picture with the map.

use std::io::Write as _;

use anyhow::{Context as _, Result};

use super::ExplainArgs;
use super::picture::Picture;
use crate::file::atomic::AtomicFile;
use crate::input::image::{RgbImage, to_jpeg};
use crate::output::explanation::Explanation;
use crate::output::json::Objects;
use crate::output::report::{PageExplanation, PageHead, PageKind, PageSummary, ReportWriter};
use crate::output::{Format, Score, Terminal, heatmap};
use crate::run::report::{self, number, run_facts};
use crate::run::results::{cannot_write, print as print_bytes, stdout};
use crate::run::session::Session;

/// Quality of the picture in a page.
const QUALITY: u8 = 90;

/// Prints the explanation.
pub(super) fn print(found: &Explanation, format: Format, terminal: Terminal) -> Result<()> {
    if format == Format::Table {
        let mut stdout = stdout(format);
        stdout.write_all(found.table(terminal).as_bytes())?;
        return Ok(stdout.flush()?);
    }
    let mut objects = Objects::new(format);
    let mut bytes = objects.next(found)?;
    bytes.extend_from_slice(objects.end());
    Ok(print_bytes(&bytes)?)
}

/// Writes the files that were asked for.
pub(super) fn write(
    args: &ExplainArgs,
    session: &Session,
    picture: &Picture,
    found: &Explanation,
) -> Result<()> {
    if let (Some(path), Some(regions)) = (&args.heatmap, &found.regions) {
        let file = AtomicFile::create(path)?;
        let draw = || -> Result<()> {
            let mut sink = file.sink()?;
            let RgbImage { width, pixels, .. } = &picture.shown;
            heatmap::write(&mut *sink, pixels, *width, &regions.map, regions.most())?;
            Ok(sink.flush()?)
        };
        draw().with_context(|| cannot_write(path))?;
        file.commit()?;
    }
    let Some(path) = &args.report else {
        return Ok(());
    };
    let lead = match &found.against {
        None => format!("Why “{}” has its score", found.label),
        Some(other) => format!("Why “{}” rather than “{other}”", found.label),
    };
    let head = PageHead {
        kind: PageKind::Explanation,
        title: report::title(&args.image),
        lead,
        labels: Vec::new(),
        score: Score::Cosine,
        facts: run_facts(session, Vec::new())?,
    };
    let mut notes = report::notes(&session.checkpoint.name);
    notes.extend(found.notes.iter().cloned());
    let mut figures = vec![number("Cosine with the label", found.cosine.into())];
    if let Some(other) = found.against_cosine {
        figures.push(number("Cosine with the other", other.into()));
        figures.push(number("Difference", found.score.into()));
    }
    figures.push(number(
        "Cosine with the empty text",
        found.empty_cosine.into(),
    ));
    let summary = PageSummary {
        notes,
        figures,
        explanation: Some(PageExplanation {
            found: found.clone(),
            picture: to_jpeg(&picture.shown, QUALITY)?,
            side: picture.shown.width,
        }),
        ..PageSummary::default()
    };
    ReportWriter::create(path, &head)?.finish(&summary)
}
