//! How many failures a run may have, and the summary that says how it ended.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use super::Outcome;
use super::images::Counts;
use super::results::{check_suffix, to_stdout, write_json};
use super::session::Session;
use crate::output::{FailureKind, json};

/// What failures do to the exit status, and where they are counted.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct FailureArgs {
    /// Exit with 0 if at most this many images fail, as a number or as a share (5%)
    #[arg(long, value_name = "N|P%", value_parser = MaxErrors::parse)]
    pub max_errors: Option<MaxErrors>,
    /// Write how the run ended to FILE as JSON; - is stdout
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// The most failures with which a run counts as a success.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum MaxErrors {
    /// As many images.
    Count(u64),
    /// A share of all images, in percent.
    Percent(f64),
}

impl MaxErrors {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "a number of images such as 10, or a share such as 0.5% is expected".to_owned();
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Count).map_err(|_| wrong()),
            Some(share) => match share.parse() {
                Ok(share) if (0.0..=100.0).contains(&share) => Ok(Self::Percent(share)),
                _ => Err(wrong()),
            },
        }
    }

    fn allows(self, failed: u64, all: u64) -> bool {
        match self {
            Self::Count(most) => failed <= most,
            Self::Percent(most) => failed as f64 * 100.0 <= most * all as f64,
        }
    }
}

/// How a run ended, for programs.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    version: &'static str,
    command: &'static str,
    images: u64,
    answered: u64,
    failed: u64,
    failed_by_kind: &'a BTreeMap<FailureKind, u64>,
    seconds: f64,
    images_per_second: f64,
    model: &'a str,
    model_sha256: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels_sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_sha256: Option<&'a str>,
    status: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
}

/// What a run was made with.
pub(crate) struct MadeBy<'a> {
    pub(crate) command: &'static str,
    pub(crate) started: Instant,
    pub(crate) session: &'a Session,
    pub(crate) labels_sha256: Option<&'a str>,
    pub(crate) probe_sha256: Option<&'a str>,
}

impl FailureArgs {
    /// Where the summary goes, if it is a file.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.summary.as_deref().filter(|path| !is_stdout(path))
    }

    /// Whether one of the flags is there.
    pub(crate) fn is_given(&self) -> bool {
        self.max_errors.is_some() || self.summary.is_some()
    }

    /// Checks where the summary goes; results go to `output`.
    ///
    /// # Errors
    /// When both are stdout, or the file would have another format's suffix.
    pub(crate) fn check(&self, output: Option<&Path>) -> Result<()> {
        let Some(path) = &self.summary else {
            return Ok(());
        };
        ensure!(
            output.is_some() || !is_stdout(path),
            "--summary - is stdout, to which the results go; name a file for one of them"
        );
        check_suffix(path, &["json"], "JSON")
    }

    /// Ends a run: writes the summary, and returns the outcome that the allowed failures give.
    ///
    /// # Errors
    /// When the summary cannot be written, or the weights cannot be read for their digest.
    pub(crate) fn end(
        &self,
        made_by: &MadeBy<'_>,
        counts: &Counts,
        outcome: Outcome,
    ) -> Result<Outcome> {
        self.end_gated(made_by, counts, outcome, |outcome| outcome)
    }

    /// The same with a gate, which sees the outcome that the allowed failures give.
    ///
    /// # Errors
    /// As [`Self::end`].
    pub(crate) fn end_gated(
        &self,
        made_by: &MadeBy<'_>,
        counts: &Counts,
        outcome: Outcome,
        gate: impl FnOnce(Outcome) -> Outcome,
    ) -> Result<Outcome> {
        let images = counts.answered + counts.failed;
        let outcome = gate(self.outcome(outcome, counts.failed, images));
        let Some(path) = &self.summary else {
            return Ok(outcome);
        };
        let seconds = made_by.started.elapsed().as_secs_f64();
        let summary = Summary {
            version: env!("CARGO_PKG_VERSION"),
            command: made_by.command,
            images,
            answered: counts.answered,
            failed: counts.failed,
            failed_by_kind: &counts.kinds,
            seconds,
            images_per_second: images as f64 / seconds,
            model: &made_by.session.checkpoint.name,
            model_sha256: made_by.session.weights_sha256()?,
            labels_sha256: made_by.labels_sha256,
            probe_sha256: made_by.probe_sha256,
            status: outcome.status(),
            signal: counts.signal,
        };
        match is_stdout(path) {
            true => to_stdout(&json::pretty(&summary)?)?,
            false => write_json(path, &summary)?,
        }
        Ok(outcome)
    }

    fn outcome(&self, outcome: Outcome, failed: u64, all: u64) -> Outcome {
        match (self.max_errors, outcome) {
            (Some(most), Outcome::SomeFailed | Outcome::NoneRead) => match most.allows(failed, all)
            {
                true => Outcome::Answered,
                false => Outcome::SomeFailed,
            },
            _ => outcome,
        }
    }
}

fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_a_share_is_read() {
        let cases = [
            ("0", Some(MaxErrors::Count(0))),
            ("12", Some(MaxErrors::Count(12))),
            ("5%", Some(MaxErrors::Percent(5.0))),
            ("0.5%", Some(MaxErrors::Percent(0.5))),
            ("100%", Some(MaxErrors::Percent(100.0))),
        ];
        for (text, expected) in cases {
            assert_eq!(MaxErrors::parse(text).ok(), expected, "{text}");
        }
        for text in ["", "-1", "0.5", "101%", "-1%", "%", "NaN%", "inf%", "ten"] {
            assert!(MaxErrors::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn failures_within_the_allowance_are_a_success() {
        use MaxErrors::{Count, Percent};
        use Outcome::{Answered, NoneRead, SomeFailed, Stopped, TryLater};
        let cases = [
            (None, SomeFailed, 1, 10, SomeFailed),
            (None, NoneRead, 10, 10, NoneRead),
            (Some(Count(0)), Answered, 0, 10, Answered),
            (Some(Count(0)), NoneRead, 10, 10, SomeFailed),
            (Some(Count(1)), SomeFailed, 1, 10, Answered),
            (Some(Count(1)), SomeFailed, 2, 10, SomeFailed),
            (Some(Percent(100.0)), NoneRead, 10, 10, Answered),
            (Some(Percent(10.0)), SomeFailed, 1, 10, Answered),
            (Some(Percent(10.0)), SomeFailed, 2, 10, SomeFailed),
            (Some(Percent(100.0)), Stopped(15), 1, 10, Stopped(15)),
            (Some(Percent(100.0)), TryLater, 0, 0, TryLater),
        ];
        for (max_errors, outcome, failed, all, expected) in cases {
            let args = FailureArgs {
                max_errors,
                summary: None,
            };
            assert_eq!(
                args.outcome(outcome, failed, all),
                expected,
                "{args:?} {outcome:?}"
            );
        }
    }
}
