//! From the arguments that name labels to what the model reads, for all commands that take labels.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::Console;
use super::texts::Fitter;
use crate::file::digest::hexadecimal;
use crate::input::prompt;
use crate::input::prompt::{Class, LabelSet, Templates};
use crate::input::tokenizer::{Fitted, LongText};
use crate::model::DualEncoder;
use crate::run::flags::{LabelArgs, NoneArgs, ScoreArgs};
use crate::task::class_embedding::ClassEmbeddings;
use crate::task::zero_shot::{Classifier, Score};

/// The text that an image is compared with when labels are scored one by one.
const SAYS_NOTHING: &str = "a photo";
/// What several texts that stand for none of the labels are reported as.
const NONE_LABEL: &str = "none of these";

/// The templates asked for; without any, the label as typed. Says what was guessed about their file.
///
/// # Errors
/// When they cannot be read or used.
pub(crate) fn templates(args: &LabelArgs, console: &Console) -> Result<Templates> {
    let templates = match &args.templates {
        Some(name) => Templates::named_or_file(name)?,
        None if args.template.is_empty() => Templates::none(),
        None => Templates::from_arguments(&args.template)?,
    };
    templates.note().iter().for_each(|note| console.note(note));
    Ok(templates)
}

/// The labels asked for; says what may be wrong with them.
///
/// # Errors
/// When there are none, or they cannot be read or used.
pub(crate) fn label_set(
    args: &LabelArgs,
    templates: &Templates,
    console: &Console,
) -> Result<LabelSet> {
    let set = match &args.labels_file {
        Some(file) => from_file(file, args.delimiter, templates, console)?,
        None if args.labels.is_empty() => {
            bail!("no labels given; add --labels TEXT TEXT… or --labels-file FILE")
        }
        None => {
            if let Some(hint) = args.labels.iter().find_map(|label| hint_apart(label)) {
                console.note(&hint);
            }
            prompt::labels_from_arguments(&args.labels, templates)?
        }
    };
    if !set.uses_templates && !templates.are_none() {
        console.warn(
            "the templates are not used: every label brings complete prompts; write them as aliases \
             to have them filled in",
        );
    }
    Ok(set)
}

/// The labels of a file; says what was guessed about it, and what may be wrong with it.
fn from_file(
    file: &Path,
    delimiter: Option<u8>,
    templates: &Templates,
    console: &Console,
) -> Result<LabelSet> {
    let set = prompt::labels_from_file(file, delimiter, templates)?;
    set.note.iter().for_each(|note| console.note(note));
    set.warnings
        .iter()
        .for_each(|warning| console.warn(warning));
    Ok(set)
}

/// Why one label is not enough; perhaps it was meant as several.
pub(crate) fn one_label(label: &str) -> String {
    let hint = match in_one(label) {
        Some(labels) => format!(
            "; labels are given apart and not with commas: --labels {}",
            labels.join(" ")
        ),
        None => String::new(),
    };
    format!(
        "softmax over one label is always 1; add a label, or use --score cosine or --score \
         sigmoid{hint}"
    )
}

/// What to say about a label that looks like several: short words with commas between them. A label
/// of whole phrases has commas of its own.
fn hint_apart(label: &str) -> Option<String> {
    let labels = in_one(label)?;
    let is_short = |label: &String| label.split_whitespace().count() <= 2;
    labels.iter().all(is_short).then(|| {
        format!(
            "the label {label:?} is taken as one; labels are given apart and not with commas: \
             --labels {}",
            labels.join(" ")
        )
    })
}

/// The labels that are written as one, each in quotes; none if it is one.
fn in_one(label: &str) -> Option<Vec<String>> {
    let sign = [',', ';', '|']
        .into_iter()
        .find(|sign| label.contains(*sign))?;
    let quoted = |label: &str| format!("{:?}", label.trim());
    let is_last = label.trim_end().strip_suffix(sign);
    let labels: Vec<&str> = is_last.unwrap_or(label).split(sign).collect();
    let are_labels = labels.iter().all(|label| !label.trim().is_empty());
    are_labels.then(|| labels.into_iter().map(quoted).collect())
}

/// What tells the texts of a run from all others: labels and prompts in their order, what stands for
/// none of them, and what becomes of long ones.
pub(crate) fn sha256(labels: &LabelSet, none: Option<&NoneTexts>, long: LongText) -> String {
    let pairs = |classes: &[Class]| -> Vec<_> {
        let pair = |class: &Class| (class.label.clone(), class.prompts.clone());
        classes.iter().map(pair).collect()
    };
    let none = none.map(|none| pairs(&none.classes));
    let all = (pairs(&labels.classes), none, format!("{long:?}"));
    let text = serde_json::to_string(&all).unwrap_or_default();
    hexadecimal(&Sha256::digest(text))
}

/// Texts that stand for none of the labels.
#[derive(Clone, Debug)]
pub(crate) struct NoneTexts {
    /// What they are reported as, together.
    pub(crate) name: String,
    /// Whether they are a class of their own, after the labels; with [`Score::Sigmoid`] labels are
    /// compared with them, and they are not reported.
    pub(crate) is_class: bool,
    /// Whether the user named none: a model with a bias of its own needs them not.
    is_default: bool,
    classes: Vec<Class>,
}

impl NoneTexts {
    /// What `args` ask for, if anything. The none label is read as typed where labels are compared
    /// with it; as one more class it is filled into the templates like the labels, and so are
    /// background texts.
    ///
    /// # Errors
    /// When a background file cannot be used, or the none label is one of the labels.
    pub(crate) fn new(
        args: &ScoreArgs,
        templates: &Templates,
        labels: &LabelSet,
        console: &Console,
    ) -> Result<Option<Self>> {
        let NoneArgs {
            none_label,
            background,
            background_file,
        } = &args.none;
        let is_class = args.score != Score::Sigmoid;
        let is_default = none_label.is_none() && background.is_empty() && background_file.is_none();
        let none_label = match none_label {
            None if !is_class => Some(SAYS_NOTHING.to_owned()),
            label => label.clone(),
        };
        let as_typed = Templates::none();
        let filled = if is_class { templates } else { &as_typed };
        let own = none_label.as_slice();
        let mut classes = match own {
            [] => Vec::new(),
            own => prompt::labels_from_arguments(own, filled)?.classes,
        };
        classes.extend(match background_file {
            Some(file) => from_file(file, None, templates, console)?.classes,
            None if background.is_empty() => Vec::new(),
            None => prompt::labels_from_arguments(background, templates)?.classes,
        });
        if classes.is_empty() {
            return Ok(None);
        }
        let name = none_label.unwrap_or_else(|| NONE_LABEL.to_owned());
        let is_taken = labels.classes.iter().any(|class| class.label == name);
        ensure!(
            !(is_class && is_taken),
            "{name:?} is a label and stands for none of the labels; choose another --none-label"
        );
        Ok(Some(Self {
            name,
            is_class,
            is_default,
            classes,
        }))
    }
}

/// The prompts of all classes, and of what stands for none of them, as a model reads them.
pub(crate) struct Texts {
    classes: Vec<Vec<Fitted>>,
    none: Option<Vec<Vec<Fitted>>>,
    /// Whether a model's own bias stands for them.
    yields_to_bias: bool,
}

impl Texts {
    /// Fits them into the model's context.
    ///
    /// # Errors
    /// When a prompt is too long and that is an error; names the label.
    pub(crate) fn fit(
        labels: &LabelSet,
        none: Option<&NoneTexts>,
        fitter: &mut Fitter,
    ) -> Result<Self> {
        let mut fit_all = |classes: &[Class], kind| {
            let numbered = (1..).zip(classes);
            let fitted = numbered.map(|(number, class)| {
                let place = format!("{kind} {number}");
                let prompts = class.prompts.iter();
                prompts.map(|prompt| fitter.fit(&place, prompt)).collect()
            });
            fitted.collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            classes: fit_all(&labels.classes, "label")?,
            none: none
                .map(|none| fit_all(&none.classes, "none label"))
                .transpose()?,
            yields_to_bias: none.is_some_and(|none| none.is_default && !none.is_class),
        })
    }

    /// Encodes them.
    ///
    /// # Errors
    /// When the model cannot.
    pub(crate) fn classifier(&self, model: &dyn DualEncoder, score: Score) -> Result<Classifier> {
        let encode = |classes: &Vec<_>| ClassEmbeddings::encode(model, classes);
        let (scale, bias) = (model.logit_scale(), model.logit_bias());
        let none = self.none.as_ref();
        let none = none.filter(|_| !(self.yields_to_bias && bias.is_some()));
        let none = none.map(encode).transpose()?;
        Classifier::new(encode(&self.classes)?, none, scale, bias, score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_written_as_one_get_a_hint() {
        let cases = [
            ("cat, dog", true),
            ("cat,dog", true),
            ("cat;big dog", true),
            ("cat|dog", true),
            ("cat,", true),
            ("cat", false),
            ("a photo of a cat, asleep on a sofa", false),
            (", dog", false),
            ("cat,, dog", false),
            (",", false),
            ("", false),
        ];
        for (label, expected) in cases {
            assert_eq!(hint_apart(label).is_some(), expected, "{label:?}");
        }
        let hint = hint_apart("cat, dog").unwrap();
        assert!(hint.ends_with("--labels \"cat\" \"dog\""), "{hint}");
    }
}
