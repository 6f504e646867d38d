//! The labels of a dataset's classes: where they come from, their classifier and their tally.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::class_map::class_map;
use crate::input::dataset::{LabelOrder, Matched, Matching, match_classes};
use crate::input::prompt::{LabelSet, Templates};
use crate::input::{dataset, prompt};
use crate::model::DualEncoder;
use crate::output::evaluation::LabelFacts;
use crate::run::flags::{LabelArgs, LabellingArgs, NoneArgs};
use crate::run::labels::{NoneTexts, Prompts, is_template_set};
use crate::run::session::Session;
use crate::run::texts::Fitter;
use crate::run::trained::TrainedProbe;
use crate::run::{Console, labels};
use crate::task::metric::{Classified, Tally};
use crate::task::zero_shot::{ClassScore, Classifier, Judge, Score};

/// The number of best labels that a tally counts.
const TOP: usize = 5;

/// One label set, evaluated on the dataset's images.
pub(crate) struct Labelling {
    /// Its name in comparisons.
    pub(crate) name: String,
    pub(crate) facts: LabelFacts,
    /// The labels' texts, followed by the none label.
    pub(crate) labels: Vec<String>,
    /// For each class of the dataset, the index of its label.
    pub(crate) label_of_class: Vec<usize>,
    pub(crate) tally: Tally,
    set: LabelSet,
    none: Option<NoneTexts>,
    /// The prompts, once they are fitted into the model's context.
    prompts: Option<Prompts>,
    /// What answers instead of the labels' texts.
    probe: Option<TrainedProbe>,
    judge: Option<Box<dyn Judge>>,
}

/// Where the labels of a dataset's classes come from.
#[derive(Clone, Copy)]
pub(crate) struct LabelSource<'a> {
    /// As typed. The classes of a folder are names, those of a file are texts.
    pub(crate) dataset: &'a Path,
    pub(crate) labels: &'a LabelArgs,
    pub(crate) none: &'a NoneArgs,
    pub(crate) class_map: Option<&'a Path>,
}

impl<'a> LabelSource<'a> {
    /// What the arguments say of the classes of `dataset`.
    pub(crate) fn new(dataset: &'a Path, args: &'a LabellingArgs) -> Self {
        Self {
            dataset,
            labels: &args.labels,
            none: &args.none,
            class_map: args.class_map.as_deref(),
        }
    }

    /// The labels given, else the classes' own names.
    pub(crate) fn labelling(&self, classes: &[String], console: &Console) -> Result<Labelling> {
        let names = self.names(classes, console)?;
        self.of_arguments("labels", self.labels, &names, console)
    }

    /// Each set or probe of `--compare`, else the labels given.
    pub(crate) fn compared(
        &self,
        compare: &[String],
        classes: &[String],
        console: &Console,
    ) -> Result<Vec<Labelling>> {
        let labels = self.labels;
        if compare.is_empty() {
            return Ok(vec![self.labelling(classes, console)?]);
        }
        let names = self.names(classes, console)?;
        let has_labels = !labels.labels.is_empty() || labels.labels_file.is_some();
        let one = |name: &String| {
            if Path::new(name)
                .extension()
                .is_some_and(|ending| ending == "safetensors")
            {
                let probe = TrainedProbe::read(Path::new(name), Score::Softmax)?;
                return self.of_probe(probe, classes, console);
            }
            let args = if is_template_set(name, has_labels)? {
                LabelArgs {
                    templates: Some(name.clone()),
                    template: Vec::new(),
                    ..labels.clone()
                }
            } else {
                LabelArgs {
                    labels: Vec::new(),
                    labels_file: Some(name.into()),
                    ..labels.clone()
                }
            };
            self.of_arguments(name, &args, &names, console)
                .with_context(|| format!("cannot compare {name:?}"))
        };
        compare.iter().map(one).collect()
    }

    /// The names of the classes, by which labels are matched.
    fn names(&self, classes: &[String], console: &Console) -> Result<Vec<String>> {
        match self.class_map {
            Some(file) => class_map(file, classes, console),
            None => Ok(classes.to_vec()),
        }
    }

    fn of_arguments(
        &self,
        name: &str,
        args: &LabelArgs,
        names: &[String],
        console: &Console,
    ) -> Result<Labelling> {
        let templates = labels::templates(args, console)?;
        let named = args.labels_file.is_some() || !args.labels.is_empty();
        let set = match named {
            true => labels::label_set(args, &templates, console)?,
            false => self.own_names(names, &templates, console)?,
        };
        let none = NoneTexts::new(self.none, Score::Softmax, &templates, &set, console)?;
        let mut texts: Vec<String> = set
            .classes
            .iter()
            .map(|class| class.label.clone())
            .collect();
        texts.extend(none.as_ref().map(|none| none.name.clone()));
        let matching = matching(&set, &texts);
        ensure!(
            matching.len() > 1,
            "a single label is always the best one; add labels, or --none-label for images that it \
             does not fit"
        );
        let label_of_class = match named {
            true => report_matches(match_classes(names, &matching, order(args))?, console),
            false => (0..set.classes.len()).collect(),
        };
        Ok(Labelling {
            name: name.to_owned(),
            facts: facts(args, &set, none.as_ref())?,
            tally: Tally::new(texts.len()),
            labels: texts,
            label_of_class,
            set,
            none,
            prompts: None,
            probe: None,
            judge: None,
        })
    }

    /// The index in `labelling`, which these arguments made, of the label of each class of another
    /// dataset.
    pub(crate) fn places(
        &self,
        labelling: &Labelling,
        classes: &[String],
        console: &Console,
    ) -> Result<Vec<usize>> {
        let names = self.names(classes, console)?;
        let matching = matching(&labelling.set, &labelling.labels);
        let matched = match_classes(&names, &matching, order(self.labels))?;
        Ok(report_matches(matched, console))
    }

    /// The classes of a probe.
    pub(crate) fn of_probe(
        &self,
        probe: TrainedProbe,
        classes: &[String],
        console: &Console,
    ) -> Result<Labelling> {
        let has_none = probe.texts().is_some_and(|texts| texts.none.is_some());
        ensure!(
            !has_none,
            "{} has a none label, which images of a dataset do not have; make it without",
            probe.path().display()
        );
        let names = self.names(classes, console)?;
        let set = probe.labels();
        let matching: Vec<_> = (set.classes.iter())
            .map(|class| Matching {
                label: &class.label,
                key: class.key.as_deref(),
            })
            .collect();
        // A probe's classes are in the order of its training data, so class numbers do not refer to
        // it.
        let matched = match_classes(&names, &matching, LabelOrder::Differs("of the probe"))
            .with_context(|| format!("cannot use the classes of {}", probe.path().display()))?;
        let label_of_class = report_matches(matched, console);
        let labels: Vec<String> = (set.classes.iter())
            .map(|class| class.label.clone())
            .collect();
        Ok(Labelling {
            name: probe.path().display().to_string(),
            facts: LabelFacts {
                source: probe.path().display().to_string(),
                count: labels.len(),
                sha256: probe.sha256.clone(),
                templates: format!("{} probe", probe.method()),
            },
            tally: Tally::new(labels.len()),
            labels,
            label_of_class,
            set,
            none: None,
            prompts: None,
            probe: Some(probe),
            judge: None,
        })
    }

    /// The classes' own names as labels.
    fn own_names(
        &self,
        names: &[String],
        templates: &Templates,
        console: &Console,
    ) -> Result<LabelSet> {
        let path = self.dataset;
        let names = own_texts(names, path.is_dir(), console)?;
        prompt::labels_from_arguments(&names, templates)
            .with_context(|| format!("cannot use the classes of {} as labels", path.display()))
    }
}

/// The names by which each of `texts` is found: the labels of `set`, and perhaps the none label.
fn matching<'a>(set: &'a LabelSet, texts: &'a [String]) -> Vec<Matching<'a>> {
    let keys = set.classes.iter().map(|class| class.key.as_deref());
    let keys = keys.chain(std::iter::repeat(None));
    let all = texts.iter().zip(keys);
    all.map(|(label, key)| Matching { label, key }).collect()
}

/// Reports what was guessed about the labels.
fn report_matches(matched: Matched, console: &Console) -> Vec<usize> {
    matched.notes.iter().for_each(|note| console.note(note));
    matched.label_of_class
}

fn facts(args: &LabelArgs, set: &LabelSet, none: Option<&NoneTexts>) -> Result<LabelFacts> {
    let source = match &args.labels_file {
        Some(file) => file.display().to_string(),
        None if !args.labels.is_empty() => "--labels".to_owned(),
        None => "the dataset's classes".to_owned(),
    };
    let templates = match &args.templates {
        Some(name) => name.clone(),
        None if args.template.is_empty() => "none".to_owned(),
        None => args.template.join(" | "),
    };
    Ok(LabelFacts {
        source,
        count: set.classes.len(),
        sha256: labels::sha256(set, none, args.long.policy()?),
        templates,
    })
}

/// Whether class numbers are indices into the labels.
fn order(args: &LabelArgs) -> LabelOrder<'_> {
    let set = args.labels_file.as_deref().and_then(Path::to_str);
    match set {
        Some(set) if !prompt::counts_classes(set) => LabelOrder::Differs(set),
        _ => LabelOrder::Counts,
    }
}

/// The texts of classes without labels: classes of a file as written, folder names as words.
///
/// # Errors
/// When a class consists of several labels.
fn own_texts(classes: &[String], are_folders: bool, console: &Console) -> Result<Vec<String>> {
    if let Some(names) = prompt::wordnet_names(classes) {
        return Ok(names);
    }
    dataset::check_single_labels(classes)?;
    if let (Some(first), true) = (
        classes.first(),
        classes
            .iter()
            .all(|class| dataset::class_number(class).is_some()),
    ) {
        console.warn(&format!(
            "the classes are numbers, which the model reads as texts such as {first:?}; name them \
             with --labels-file"
        ));
    }
    if !are_folders {
        return Ok(classes.to_vec());
    }
    let dataset::Texts { texts, changed } = dataset::folder_texts(classes);
    if let Some((name, text)) = changed {
        console.note(&format!(
            "folder names are read as words, such as {name:?} as {text:?}; pass --labels-file for \
             other labels"
        ));
    }
    Ok(texts)
}

impl Labelling {
    /// The same labels and texts with an empty tally.
    pub(crate) fn again(&self, name: String) -> Result<Self> {
        ensure!(
            self.probe.is_none(),
            "{} has no texts that can be cut; name labels first",
            self.name
        );
        Ok(Self {
            name,
            facts: self.facts.clone(),
            labels: self.labels.clone(),
            label_of_class: self.label_of_class.clone(),
            tally: Tally::new(self.labels.len()),
            set: self.set.clone(),
            none: self.none.clone(),
            prompts: self.prompts.clone(),
            probe: None,
            judge: None,
        })
    }

    /// What answers instead of the labels' texts, until it does.
    pub(crate) fn probe(&mut self) -> Option<&mut TrainedProbe> {
        self.probe.as_mut()
    }

    /// Fits the prompts into the model's context.
    pub(crate) fn fit(&mut self, fitter: &mut Fitter<'_>) -> Result<()> {
        self.prompts = Some(Prompts::fit(&self.set, self.none.as_ref(), fitter)?);
        Ok(())
    }

    /// Encodes the prompts, which must have been fitted.
    pub(crate) fn classifier(&self, model: &dyn DualEncoder) -> Result<Classifier> {
        let prompts = self
            .prompts
            .as_ref()
            .context("the labels are not tokenised")?;
        prompts.classifier(model, Score::Softmax)
    }

    /// Classifies with the probe, if there is one, from now on.
    pub(crate) fn answer_by_probe(&mut self, session: &Session) -> Result<()> {
        if let Some(probe) = self.probe.take() {
            self.judge = Some(probe.judge(session)?);
        }
        Ok(())
    }

    /// Classifies with these labels from now on.
    pub(crate) fn encode(&mut self, model: &dyn DualEncoder, temperature: f32) -> Result<()> {
        let classifier = self.classifier(model)?;
        self.judge = Some(Box::new(classifier.with_temperature(temperature)?));
        Ok(())
    }

    /// Counts images, given their embeddings `[n, dim]` and true classes `[n]`. Returns all labels
    /// of each, best first.
    pub(crate) fn count(
        &mut self,
        embeddings: &[f32],
        classes: &[usize],
    ) -> Result<Vec<Vec<ClassScore>>> {
        let mut tally = std::mem::replace(&mut self.tally, Tally::new(0));
        let answers = self.count_in(&mut tally, embeddings, classes);
        self.tally = tally;
        answers
    }

    /// The same into a tally of its own.
    pub(crate) fn count_in(
        &self,
        tally: &mut Tally,
        embeddings: &[f32],
        classes: &[usize],
    ) -> Result<Vec<Vec<ClassScore>>> {
        let answers = self.classify(embeddings)?;
        let mut probabilities = vec![0.0; self.labels.len()];
        for (scores, class) in answers.iter().zip(classes) {
            let target = self.label_of_class[*class];
            let top: Vec<usize> = scores.iter().take(TOP).map(|score| score.class).collect();
            for score in scores {
                probabilities[score.class] = score.probability.unwrap_or(0.0);
            }
            tally.add(target, &top, probabilities[top[0]])?;
            tally.add_probabilities(target, &probabilities)?;
        }
        Ok(answers)
    }

    /// The labels of each of `embeddings` `[n, dim]`, best first.
    pub(crate) fn classify(&self, embeddings: &[f32]) -> Result<Vec<Vec<ClassScore>>> {
        let judge = self.judge.as_ref();
        let judge = judge.context("the labels are not encoded")?;
        Ok(judge.judge(embeddings))
    }

    /// The answers with labels mapped to the dataset's classes, so that runs with different labels
    /// compare. A label without a class gets an index past the last class.
    pub(crate) fn answers_by_class(&self) -> Vec<Classified> {
        let mut class_of = vec![u32::MAX; self.labels.len()];
        for (class, &label) in (0..).zip(&self.label_of_class) {
            class_of[label] = class;
        }
        let answers = self.tally.answers().iter();
        answers
            .map(|answer| Classified {
                target: class_of[answer.target as usize],
                predicted: class_of[answer.predicted as usize],
                probability: answer.probability,
            })
            .collect()
    }
}
