//! The page of `--report`, with every image and its labels.

use anyhow::Result;

use super::ClassifyArgs;
use super::question::Recorder;
use crate::output::report::{LabelScore, PageHead, PageKind, PageSummary, ReportWriter};
use crate::run::images::Counts;
use crate::run::pipeline::Encoded;
use crate::run::report::count;
use crate::run::results::shown_score;
use crate::run::session::Session;
use crate::run::{Console, report};
use crate::task::zero_shot::{ClassScore, Score};

/// Labels shown per image.
const SHOWN: usize = 5;

/// The page being written.
pub(super) struct Page {
    writer: ReportWriter,
    score: Score,
    notes: Vec<String>,
}

impl Page {
    /// Starts the page, if requested.
    pub(super) fn create(
        args: &ClassifyArgs,
        session: &Session,
        recorder: &Recorder,
    ) -> Result<Option<Self>> {
        let Some(path) = &args.report else {
            return Ok(None);
        };
        let title = match &args.images.images[..] {
            [one] => report::title(one),
            _ => "Images".to_owned(),
        };
        let head = PageHead {
            kind: PageKind::Classification,
            title,
            lead: format!("Classification with {} labels", recorder.labels.len()),
            labels: recorder
                .labels
                .iter()
                .map(|label| label.to_string())
                .collect(),
            score: shown_score(recorder.score),
            facts: report::run_facts(session, Vec::new())?,
        };
        Ok(Some(Self {
            writer: ReportWriter::create(path, &head)?,
            score: recorder.score,
            notes: report::notes(&session.checkpoint.name),
        }))
    }

    pub(super) fn image(
        &mut self,
        encoded: &Encoded,
        scores: &[ClassScore],
        uncertain: bool,
    ) -> Result<()> {
        let mut image = report::image(&encoded.name(), &encoded.outcome);
        let shown = scores.iter().take(SHOWN).map(|score| LabelScore {
            label: score.class,
            score: score.value(self.score),
        });
        image.predictions = shown.collect();
        if uncertain {
            image
                .warnings
                .push("uncertain: perhaps none of these".to_owned());
        }
        self.writer.image(&image)
    }

    /// Writes the page; after a signal under another name, since it is incomplete.
    pub(super) fn finish(self, counts: &Counts, console: &Console) -> Result<()> {
        let mut figures = vec![count("Images", counts.answered)];
        if counts.failed > 0 {
            figures.push(count("Failed", counts.failed));
        }
        let summary = PageSummary {
            notes: self.notes,
            figures,
            ..PageSummary::default()
        };
        if counts.signal.is_none() {
            return self.writer.finish(&summary);
        }
        let path = self.writer.keep_partial(&summary)?;
        console.warn(&format!(
            "stopped; the page so far is in {}",
            path.display()
        ));
        Ok(())
    }
}
