//! Classification in parts: `-o DIR/`.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::ClassifyArgs;
use super::question::Question;
use crate::file::digest::sha256_of;
use crate::run::Console;
use crate::run::Outcome;
use crate::run::calibration::Calibration;
use crate::run::engine::Engine;
use crate::run::failures::MadeBy;
use crate::run::images::Images;
use crate::run::parts::{self, Division, Folder, Parts, Settings};
use crate::run::results::{Form, Results};

/// The folder for parts, if the output is one.
///
/// # Errors
/// When something else is to be written that is about all images.
pub(super) fn folder(args: &ClassifyArgs) -> Result<Option<&Path>> {
    let folder = args
        .output
        .file
        .path()
        .filter(|path| parts::is_folder(path));
    let acts = [
        (args.report.is_some(), "--report"),
        (args.sort.folder().is_some(), "--link, --copy or --move"),
        (args.tag.is_asked(), "--xmp"),
    ];
    if let Some(folder) = folder {
        Folder::check(folder)?;
        for (is_asked, flag) in acts {
            ensure!(
                !is_asked,
                "{flag} is done once for all images, but parts may be written again; name a file \
                 instead of the folder {}, or drop {flag}",
                folder.display()
            );
        }
    }
    Ok(folder)
}

/// What a run in parts has before it reads images.
pub(super) struct Parted<'a> {
    pub(super) args: &'a ClassifyArgs,
    pub(super) form: Form,
    pub(super) calibration: Option<&'a Calibration>,
    pub(super) engine: &'a Engine,
    pub(super) started: Instant,
}

impl Parted<'_> {
    /// Answers the units of a share, each in a part.
    pub(super) fn run(
        self,
        folder: &Path,
        division: Division,
        images: Images,
        question: &mut Question,
        console: &Console,
    ) -> Result<Outcome> {
        let Self {
            args, form, engine, ..
        } = self;
        let session = engine.session();
        let (labels, probe) = (question.labels_sha256(args)?, question.probe_sha256());
        let parts = Parts::open(folder, division, form.name(), self.settings(question)?)?;
        let temperature = question.temperature(args, self.calibration, session, console)?;
        let threshold = (self.calibration).and_then(|calibration| calibration.none_threshold);
        let recorder = question.recorder(&args.score, threshold);
        let score = args.score.score;
        let mut judge = None;
        let counts = parts.answer(images, engine, console, |running, path| {
            // A run whose parts are all there needs neither.
            let judge = match &mut judge {
                Some(judge) => judge,
                none => {
                    let model = engine.load(console)?;
                    session.checkpoint.unchanged()?;
                    none.insert(question.judge(model.as_ref(), session, score, temperature)?)
                }
            };
            let name = &session.checkpoint.name;
            let mut results = Results::open(Some(path), form, score, name, console)?;
            let running = running.averaged(args.frames.frames_mean);
            let counts = running.for_each(engine, console, |encoded| {
                let scores = recorder.scores(judge.as_ref(), &encoded);
                results.write(&recorder.record(encoded, scores))
            })?;
            if counts.signal.is_none() {
                results.finish()?;
            }
            Ok(counts)
        })?;
        engine.finish(console);
        let made_by = MadeBy {
            command: "classify",
            started: self.started,
            session,
            labels_sha256: labels.as_deref(),
            probe_sha256: probe.as_deref(),
        };
        args.failures
            .end(&made_by, &counts, counts.outcome(console))
    }

    /// All that the records depend on.
    fn settings(&self, question: &Question) -> Result<Settings> {
        let args = self.args;
        let session = self.engine.session();
        let mut settings = parts::settings("classify", session, &args.engine, &args.frames)?;
        settings.add("labels", question.labels_sha256(args)?.unwrap_or_default());
        settings.add("probe", question.probe_sha256().unwrap_or_default());
        settings.add(
            "none_label",
            args.score.none.none_label.as_deref().unwrap_or_default(),
        );
        settings.add("score", format!("{:?}", args.score.score).to_lowercase());
        settings.add(
            "top_k",
            args.score.top_k.map_or(String::new(), |k| k.to_string()),
        );
        let threshold = args.score.threshold;
        settings.add(
            "threshold",
            threshold.map_or(String::new(), |least| least.to_string()),
        );
        settings.add(
            "calibration",
            sha256_of(args.calibration.as_slice())?.concat(),
        );
        settings.add("options", self.form.options());
        Ok(settings)
    }
}
