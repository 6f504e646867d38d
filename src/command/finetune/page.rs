//! `report.html`: curves, settings, data and timings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::result::figure_name;
use super::run_folder::Record;
use super::training::duration;
use crate::output;
use crate::output::report::{
    Axis, Chart, PageHead, PageKind, PageSummary, Point, ReportWriter, Scale, Series,
};
use crate::run::report::{self, count, number};
use crate::run::session::Session;
use crate::train::log::{Log, Step};

/// Maximum number of points per curve; more steps are averaged.
const POINTS: usize = 400;

/// The page of a run: what is known before the first step.
pub(super) struct Page {
    path: PathBuf,
    head: PageHead,
    pairs: usize,
    /// The total number of steps.
    total: usize,
    notes: Vec<String>,
}

impl Page {
    pub(super) fn new(
        path: PathBuf,
        session: &Session,
        record: &Record,
        data: &str,
        total: usize,
    ) -> Result<Self> {
        let settings = record.settings.iter().map(|(name, value)| {
            let value = value.as_str().map_or(value.to_string(), str::to_owned);
            format!("{name} {value}")
        });
        let facts = vec![
            ("Data", format!("{}: {data}", record.data)),
            ("Data SHA-256", record.data_sha256.clone()),
            ("Settings", settings.collect::<Vec<_>>().join(", ")),
        ];
        Ok(Self {
            path,
            head: PageHead {
                kind: PageKind::Training,
                title: report::title(record.data.as_ref()),
                lead: format!("{} fine-tuned on {} pairs", record.model, record.pairs),
                labels: Vec::new(),
                score: output::Score::Cosine,
                facts: report::run_facts(session, facts)?,
            },
            pairs: record.pairs,
            total,
            notes: report::notes(&record.model),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the page again.
    pub(super) fn write(&self, log: &Log, seconds: f64) -> Result<()> {
        let steps: Vec<Step> = log.steps().copied().collect();
        let name = match steps.len() < self.total {
            true => format!("Steps of {}", self.total),
            false => "Steps".to_owned(),
        };
        let mut figures = vec![
            count(&name, steps.len() as u64),
            count("Pairs", self.pairs as u64),
        ];
        if let Some(losses) = log.losses() {
            let of = |which: &str| match losses.steps {
                1 => format!("Loss, {which} step"),
                n => format!("Mean loss, {which} {n} steps"),
            };
            figures.insert(0, number(&of("last"), losses.last));
            figures.insert(1, number(&of("first"), losses.first));
        }
        if let Some(last) = steps.last() {
            figures.push(number("Logit scale", last.logit_scale));
        }
        let mut charts = vec![loss(&steps), rate(&steps)];
        charts.extend(evaluations(log));
        let mut head = self.head.clone();
        head.facts.push(("Time".to_owned(), duration(seconds)));
        ReportWriter::create(&self.path, &head)?.finish(&PageSummary {
            figures,
            charts,
            notes: self.notes.clone(),
            ..PageSummary::default()
        })
    }
}

/// A curve of means over steps, to limit the number of points.
fn curve(name: &str, steps: &[Step], value: impl Fn(&Step) -> Option<f64>) -> Option<Series> {
    let together = steps.len().div_ceil(POINTS).max(1);
    let points = steps.chunks(together).filter_map(|part| {
        let values: Vec<f64> = part.iter().filter_map(&value).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (!values.is_empty()).then(|| Point::new(part[part.len() - 1].step as f64, mean))
    });
    let points: Vec<Point> = points.collect();
    (!points.is_empty()).then(|| Series::new(name, points))
}

fn loss(steps: &[Step]) -> Chart {
    let all = curve("loss", steps, |step| Some(step.loss));
    let short = curve("short captions", steps, |step| step.short_loss);
    // Without short captions, the loss is that of the long ones.
    let long = short
        .as_ref()
        .and_then(|_| curve("long captions", steps, |step| Some(step.long_loss)));
    let together = steps.len().div_ceil(POINTS).max(1);
    Chart {
        title: "Loss".to_owned(),
        caption: match together {
            1 => "Loss per step, which varies between batches.".to_owned(),
            n => format!("Each point is the mean of {n} steps."),
        },
        x: Axis::new("Step", Scale::Linear),
        y: Axis::new("Loss", Scale::Linear),
        series: [all, long, short].into_iter().flatten().collect(),
    }
}

fn rate(steps: &[Step]) -> Chart {
    let most = steps.iter().map(|step| step.rate).fold(0.0, f64::max);
    // Any unit will do for zero.
    let power = most.max(1e-300).log10().floor() as i32;
    let unit = 10f64.powi(power);
    Chart {
        title: "Learning rate".to_owned(),
        caption: format!("In units of 1e{power}."),
        x: Axis::new("Step", Scale::Linear),
        y: Axis::new(&format!("Rate, 1e{power}"), Scale::Linear),
        series: curve("rate", steps, |step| Some(step.rate / unit))
            .into_iter()
            .collect(),
    }
}

/// One chart per dataset.
fn evaluations(log: &Log) -> Vec<Chart> {
    let mut all: BTreeMap<&str, BTreeMap<&str, Vec<Point>>> = BTreeMap::new();
    for evaluation in log.evaluations() {
        for one in &evaluation.eval {
            // Ranks are not shares.
            let shares = one
                .figures
                .iter()
                .filter(|(name, _)| !name.ends_with("rank"));
            for (name, value) in shares {
                let points = all.entry(&one.data).or_default().entry(name).or_default();
                points.push(Point::new(evaluation.step as f64, *value));
            }
        }
    }
    let chart = |(data, curves): (&str, BTreeMap<&str, Vec<Point>>)| Chart {
        title: format!("Evaluation on {data}"),
        caption: "Before the first step and after each epoch.".to_owned(),
        x: Axis::new("Step", Scale::Linear),
        y: Axis::new("Share", Scale::Percent),
        series: curves
            .into_iter()
            .map(|(name, points)| Series::new(&figure_name(name), points))
            .collect(),
    };
    all.into_iter().map(chart).collect()
}
