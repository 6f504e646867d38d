//! The images of a run: which ones, how they are read, and a stream of their embeddings.

mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::engine::Engine;
use super::parts::{Division, Units};
use super::pipeline::{Encoded, Means, ModelSlot, Pipeline};
use super::session::Stop;
use super::{Console, Outcome, advice};
use crate::file::exhaustion;
use crate::input::image::{EXTENSIONS, looks_like_image};
use crate::input::paths::{
    self, Entry, Expansion, FilesFrom, ImageRule, ImageSource, ListSource, PathError, Separator,
};
use crate::output::FailureKind;
use crate::run::flags::ImageArgs;
pub(crate) use walk::Walk;

/// Which files of a folder are images.
pub(crate) const IMAGES: ImageRule = ImageRule {
    extensions: EXTENSIONS,
    looks_like_image,
};

/// The images that the arguments name.
pub(crate) struct Images {
    arguments: Vec<PathBuf>,
    files_from: Option<FilesFrom>,
    sources: Expansion,
    /// Folders whose images are not read, unless they are named.
    left_out: Vec<PathBuf>,
    /// Whether stdin is a tar archive.
    tar: bool,
    /// How they are shared with other processes.
    division: Option<Division>,
}

impl Images {
    /// Opens the list, if one is given; folders are walked later.
    ///
    /// # Errors
    /// When there are no images, stdin is used twice, or the list cannot be opened. `labels` are
    /// the values of `--labels`, which may include the images by mistake.
    pub(crate) fn open(args: &ImageArgs, labels: &[String]) -> Result<Self> {
        if args.images.is_empty() && args.files_from.is_none() {
            bail!("{}", advice::no_images(labels, IMAGES));
        }
        let arguments = args.images.clone();
        ensure!(
            !args.tar || arguments.iter().any(|path| path.as_os_str() == "-"),
            "--tar says that stdin is a tar archive, but stdin is not read; add -, or drop --tar: \
             a .tar that is named is read as one anyway"
        );
        let files_from = files_from(args);
        let sources = paths::expand(arguments.clone(), files_from.clone(), IMAGES)?;
        Ok(Self {
            sources: sources.stdin_is_tar(args.tar),
            arguments,
            files_from,
            left_out: Vec::new(),
            tar: args.tar,
            division: None,
        })
    }

    /// Refuses archives of images for this reason, if there is one.
    ///
    /// # Errors
    /// The reason, when an argument is one; one in a list fails when its turn comes.
    pub(crate) fn without_shards(self, why: Option<&'static str>) -> Result<Self> {
        let mut arguments = self.arguments.iter();
        let shard = arguments.find(|path| paths::is_shard(path, IMAGES));
        if let (Some(shard), Some(why)) = (shard, why) {
            bail!("{}: {why}", shard.display());
        }
        Ok(Self {
            sources: self.sources.no_shards(why),
            ..self
        })
    }

    /// Excludes `folders` inside folders that are walked: what this run writes there must not be
    /// read.
    pub(crate) fn leave_out(self, folders: Vec<PathBuf>) -> Self {
        Self {
            left_out: folders,
            ..self
        }
    }

    /// Reads the share of `division` only, if there is one.
    pub(crate) fn shared(self, division: Option<Division>) -> Self {
        Self { division, ..self }
    }

    /// Whether the arguments name exactly one image.
    pub(crate) fn single(&self) -> bool {
        match self.arguments.as_slice() {
            [path] => {
                let are_many = self.tar || path.is_dir() || paths::is_shard(path, IMAGES);
                self.files_from.is_none() && !are_many
            }
            _ => false,
        }
    }

    /// Whether a path among the arguments, or in a folder among them, is not UTF-8. The paths of a
    /// list are not known yet.
    pub(crate) fn has_odd_names(&self) -> bool {
        let found = paths::expand(self.arguments.clone(), None, IMAGES);
        found.is_ok_and(|mut found| {
            found.any(|entry| match entry.source {
                Ok(ImageSource::Path(path)) => path.to_str().is_none(),
                Ok(ImageSource::Member(member)) => member.name().to_str().is_none(),
                _ => false,
            })
        })
    }

    /// Fails if writing one of `outputs` would replace one of these images, one of `others`, or
    /// another output.
    pub(crate) fn check_outputs(
        &self,
        outputs: &[Option<&Path>],
        others: &[Option<&Path>],
    ) -> Result<()> {
        let list = match &self.files_from {
            Some(FilesFrom {
                source: ListSource::File(path),
                ..
            }) => Some(path.as_path()),
            _ => None,
        };
        let arguments = self.arguments.iter().map(|path| Some(path.as_path()));
        let inputs: Vec<_> = arguments
            .chain([list])
            .chain(others.iter().copied())
            .collect();
        advice::check_outputs(outputs, &inputs, IMAGES)
    }

    /// Starts reading and decoding; images are encoded by [`Running::for_each`].
    pub(crate) fn start(self, engine: &Engine, stop: Stop) -> Running {
        let (arguments, files_from) = (self.arguments.clone(), self.files_from.clone());
        // How many frames there are is not known, nor how many images a share has.
        let is_known = !engine.has_frames() && !self.tar && self.division.is_none();
        let count = move || {
            is_known
                .then(|| paths::count(&arguments, files_from.as_ref(), IMAGES))
                .flatten()
        };
        let division = self.division;
        let (sources, walk) = self.read();
        let sources: Box<dyn Iterator<Item = Entry> + Send> = match division {
            Some(division) => Box::new(Units::new(sources, division).of_share()),
            None => Box::new(sources),
        };
        Running {
            total: (!engine.is_single()).then(|| Box::new(count) as _),
            walk,
            is_share: division.is_some(),
            ..Running::start(sources, engine, stop)
        }
    }

    /// The units of the input, for a run in parts.
    ///
    /// # Errors
    /// When an image is stdin, which no later run could read again.
    pub(crate) fn units(self, division: Division) -> Result<(Units, Walk)> {
        ensure!(
            self.arguments.iter().all(|path| path.as_os_str() != "-"),
            "stdin (-) cannot be read again, so it cannot be in parts; save it to a file, or name a \
             file with --output"
        );
        let (sources, walk) = self.shared(Some(division)).read();
        Ok((Units::new(sources, division), walk))
    }

    /// The entries of the input in order; if they are shared, archives among them are not entered.
    fn read(self) -> (impl Iterator<Item = Entry> + Send + 'static, Walk) {
        let (named, left_out) = (self.arguments, self.left_out);
        let is_read = move |entry: &Entry| match &entry.source {
            Ok(ImageSource::Path(path)) => {
                !left_out.iter().any(|folder| path.starts_with(folder)) || named.contains(path)
            }
            _ => true,
        };
        let sources = self.sources.folded(self.division.is_some());
        let walk = Walk::of(&sources);
        (sources.filter(is_read), walk)
    }
}

fn files_from(images: &ImageArgs) -> Option<FilesFrom> {
    let path = images.files_from.clone()?;
    Some(FilesFrom {
        source: match path {
            path if path.as_os_str() == "-" => ListSource::Stdin,
            path => ListSource::File(path),
        },
        separator: if images.null {
            Separator::Nul
        } else {
            Separator::Line
        },
    })
}

/// Images being processed.
pub(crate) struct Running {
    pipeline: Pipeline,
    model: ModelSlot,
    stop: Stop,
    /// Whether frames are averaged.
    mean: bool,
    /// Counts the images, if progress is shown; may take a while.
    total: Option<Box<dyn FnOnce() -> Option<u64> + Send>>,
    walk: Walk,
    /// Whether other processes have the rest of the input.
    is_share: bool,
}

impl Running {
    fn start(
        sources: impl Iterator<Item = Entry> + Send + 'static,
        engine: &Engine,
        stop: Stop,
    ) -> Self {
        let model = ModelSlot::default();
        Self {
            pipeline: engine.read(sources, model.clone(), stop.clone()),
            model,
            stop,
            mean: false,
            total: None,
            walk: Walk::default(),
            is_share: false,
        }
    }

    /// Starts reading and decoding the images of a unit.
    pub(crate) fn of_unit(
        sources: impl Iterator<Item = Entry> + Send + 'static,
        engine: &Engine,
        stop: Stop,
    ) -> Self {
        Self {
            total: Some(Box::new(|| None)),
            ..Self::start(sources, engine, stop)
        }
    }

    /// Starts reading and decoding a complete list.
    pub(crate) fn of(
        sources: impl IntoIterator<
            Item = Result<ImageSource, PathError>,
            IntoIter: ExactSizeIterator + Send + 'static,
        >,
        engine: &Engine,
        stop: Stop,
    ) -> Self {
        let sources = sources.into_iter();
        let count = sources.len() as u64;
        Self {
            total: Some(Box::new(move || Some(count))),
            ..Self::start(sources.map(Entry::from), engine, stop)
        }
    }

    /// Averages the embeddings of the frames of an image if `mean`.
    pub(crate) fn averaged(self, mean: bool) -> Self {
        Self { mean, ..self }
    }

    /// Encodes each image and passes it to `take` as soon as it is ready, in input order. Prints
    /// failures, warnings and progress on stderr.
    ///
    /// # Errors
    /// Those of `take`, immediately, and when the model cannot be loaded.
    pub(crate) fn for_each(
        mut self,
        engine: &Engine,
        console: &Console,
        mut take: impl FnMut(Encoded) -> Result<()>,
    ) -> Result<Counts> {
        let _ = self.model.set(engine.load(console)?.clone());
        exhaustion::doing("reading images");
        self.stop.listen()?;
        let mut counts = Counts {
            is_share: self.is_share,
            ..Counts::default()
        };
        if let Some(total) = self.total.take() {
            console.start_progress(total);
            counts.are_many = true;
        }
        for mut encoded in Means::new(&mut self.pipeline, self.mean) {
            if let Ok(known) = &mut encoded.outcome {
                engine.warn_of_photograph(known);
            }
            counts.add(&encoded, console);
            console.around(|| take(encoded))?;
            console.advance(counts.failed);
        }
        console.end_progress();
        match self.pipeline.repeats() {
            0 => {}
            1 => console.detail("1 image repeats an earlier one and was not encoded again"),
            n => console.detail(&format!(
                "{n} images repeat earlier ones and were not encoded again"
            )),
        }
        self.walk.report(console);
        counts.signal = self.stop.signal();
        Ok(counts)
    }
}

/// How many images succeeded and failed.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// The failures by their kind.
    pub(crate) kinds: BTreeMap<FailureKind, u64>,
    /// Whether more than one image was expected.
    are_many: bool,
    /// Whether other processes have the rest of the input.
    is_share: bool,
    /// The signal that ended the run early.
    pub(crate) signal: Option<i32>,
}

impl Counts {
    /// Of a run in parts, to which [`Counts::again`] adds those of each.
    pub(crate) fn of_many() -> Self {
        Self {
            are_many: true,
            is_share: true,
            ..Self::default()
        }
    }

    /// Counts images that were answered as failed, since something that was to be done with the
    /// answer failed.
    pub(crate) fn fail(&mut self, kind: FailureKind, count: u64) {
        if count > 0 {
            self.answered = self.answered.saturating_sub(count);
            self.failed += count;
            *self.kinds.entry(kind).or_insert(0) += count;
        }
    }

    /// Adds the counts of a part, of this run or an earlier one.
    pub(crate) fn again(&mut self, answered: u64, failed: u64, kinds: &BTreeMap<FailureKind, u64>) {
        self.answered += answered;
        self.failed += failed;
        for (kind, count) in kinds {
            *self.kinds.entry(*kind).or_insert(0) += count;
        }
    }

    fn add(&mut self, encoded: &Encoded, console: &Console) {
        let image = &encoded.name().text;
        match &encoded.outcome {
            Ok(known) => {
                self.answered += 1;
                for warning in &known.warnings {
                    console.warn(&format!("{image}: {warning}"));
                }
            }
            Err(cause) => {
                self.failed += 1;
                let failure = FailureKind::Decode.else_this(cause);
                *self.kinds.entry(failure.kind).or_insert(0) += 1;
                console.failed(image, &failure.cause);
            }
        }
    }

    /// How the run ended, judging by the images; says so on a terminal.
    pub(crate) fn outcome(&self, console: &Console) -> Outcome {
        let all = self.answered + self.failed;
        if self.are_many && all > 0 {
            console.closing(all, self.failed);
        }
        match (self.signal, self.answered, self.failed) {
            (Some(signal), ..) => Outcome::Stopped(signal),
            (_, 0, 0) => {
                console.note(match self.is_share {
                    true => "no images are in this share; a smaller --part-size makes more units",
                    false => "no images found in the list or folders",
                });
                Outcome::Answered
            }
            (.., 0) => Outcome::Answered,
            (_, 0, _) => Outcome::NoneRead,
            _ => Outcome::SomeFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_is_that_of_all_images() {
        let cases = [
            (None, 0, 0, Outcome::Answered),
            (None, 2, 0, Outcome::Answered),
            (None, 2, 1, Outcome::SomeFailed),
            (None, 0, 1, Outcome::NoneRead),
            (Some(15), 2, 1, Outcome::Stopped(15)),
        ];
        for (signal, answered, failed, expected) in cases {
            let counts = Counts {
                answered,
                failed,
                signal,
                ..Counts::default()
            };
            assert_eq!(counts.outcome(&Console::silent()), expected);
        }
    }

    #[test]
    fn one_image_is_single_unless_more_may_follow() {
        let room = tempfile::tempdir().unwrap();
        let folder = room.path().to_str().unwrap();
        let list = room.path().join("list.txt");
        std::fs::write(&list, "a.jpg\n").unwrap();
        let cases = [
            (vec!["a.jpg"], None, true),
            (vec!["-"], None, true),
            (vec!["a.jpg", "b.jpg"], None, false),
            (vec![folder], None, false),
            (vec![], Some(list.clone()), false),
            (vec!["a.jpg"], Some(list), false),
        ];
        for (images, files_from, expected) in cases {
            let args = ImageArgs {
                images: images.iter().map(PathBuf::from).collect(),
                files_from,
                null: false,
                tar: false,
            };
            let opened = Images::open(&args, &[]).unwrap();
            assert_eq!(opened.single(), expected, "{args:?}");
        }
    }
}
