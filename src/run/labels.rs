//! Turns the label arguments into prompts that the model reads, for all commands that take labels.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::Console;
use super::texts::Fitter;
use crate::file::digest::hexadecimal;
use crate::file::{exhaustion, memory};
use crate::input::prompt::{Class, LabelSet, Templates};
use crate::input::tokenizer::{Fitted, LongText};
use crate::input::{prompt, text_file};
use crate::model::DualEncoder;
use crate::run::flags::{LabelArgs, NoneArgs};
use crate::task::embeddings::ClassEmbeddings;
use crate::task::zero_shot::{Classifier, Score};

/// The neutral prompt that labels are compared with under `--score sigmoid`.
const NEUTRAL_PROMPT: &str = "a photo";
/// The name under which background texts are reported.
const NONE_LABEL: &str = "none of these";

/// The templates given; without any, the label as typed. Reports what was guessed about their file.
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

/// The labels given; warns of likely mistakes in them.
///
/// # Errors
/// When no labels are given, or they cannot be read or used.
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
            "the templates are ignored because every label has complete prompts; write these as \
             aliases to apply the templates",
        );
    }
    Ok(set)
}

/// The labels of a file; reports what was guessed about it, and warns of likely mistakes.
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

/// The error for a single label, with a hint if it looks like several.
pub(crate) fn one_label(label: &str) -> String {
    let hint = match in_one(label) {
        Some(labels) => format!(
            "; separate labels with spaces, not commas: --labels {}",
            labels.join(" ")
        ),
        None => String::new(),
    };
    format!(
        "softmax over one label is always 1; add a label, or use --score cosine or --score \
         sigmoid{hint}"
    )
}

/// A hint for a label that looks like several: short words separated by commas. Longer phrases may
/// contain commas of their own.
fn hint_apart(label: &str) -> Option<String> {
    let labels = in_one(label)?;
    let is_short = |label: &String| label.split_whitespace().count() <= 2;
    labels.iter().all(is_short).then(|| {
        format!(
            "{label:?} is taken as one label; separate labels with spaces, not commas: --labels {}",
            labels.join(" ")
        )
    })
}

/// The labels inside one label, each in quotes; `None` if it is only one.
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

/// Digest of all that the texts of a run depend on: labels and prompts in order, the none texts,
/// and the handling of long texts.
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

/// Texts that stand for "none of the labels".
#[derive(Clone, Debug)]
pub(crate) struct NoneTexts {
    /// The name under which they are reported together.
    pub(crate) name: String,
    /// Whether they are a class of their own, after the labels; with [`Score::Sigmoid`] labels are
    /// compared with them, and they are not reported.
    pub(crate) is_class: bool,
    /// Whether the user gave none; a model with a logit bias then uses that instead.
    is_default: bool,
    classes: Vec<Class>,
}

impl NoneTexts {
    /// The texts that `args` ask for, if any. The none label is read as typed if labels are
    /// compared with it; as an extra class it is filled into the templates like the labels, and so
    /// are background texts.
    ///
    /// # Errors
    /// When a background file cannot be used, or the none label is one of the labels.
    pub(crate) fn new(
        args: &NoneArgs,
        score: Score,
        templates: &Templates,
        labels: &LabelSet,
        console: &Console,
    ) -> Result<Option<Self>> {
        let NoneArgs {
            none_label,
            background,
            background_file,
        } = args;
        let is_class = score != Score::Sigmoid;
        let is_default = none_label.is_none() && background.is_empty() && background_file.is_none();
        let none_label = match none_label {
            None if !is_class => Some(NEUTRAL_PROMPT.to_owned()),
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
            "{name:?} is both a label and the none label; choose another --none-label"
        );
        Ok(Some(Self {
            name,
            is_class,
            is_default,
            classes,
        }))
    }
}

impl NoneTexts {
    /// Texts that were encoded earlier.
    pub(crate) fn encoded(name: &str, score: Score) -> Self {
        Self {
            name: name.to_owned(),
            is_class: score != Score::Sigmoid,
            is_default: false,
            classes: Vec::new(),
        }
    }
}

/// The tokenised prompts of all classes and of the none texts.
#[derive(Clone)]
pub(crate) struct Prompts {
    classes: Vec<Vec<Fitted>>,
    none: Option<Vec<Vec<Fitted>>>,
    /// Whether a model's logit bias replaces them.
    yields_to_bias: bool,
}

/// The embeddings of all classes and of the none texts.
pub(crate) struct Encoded {
    pub(crate) classes: ClassEmbeddings,
    pub(crate) none: Option<ClassEmbeddings>,
}

impl Prompts {
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

    /// Encodes them and makes a classifier of them.
    ///
    /// # Errors
    /// When the model fails.
    pub(crate) fn classifier(&self, model: &dyn DualEncoder, score: Score) -> Result<Classifier> {
        let Encoded { classes, none } = self.encode(model)?;
        Classifier::new(
            classes,
            none,
            model.logit_scale(),
            model.logit_bias(),
            score,
        )
    }

    /// Encodes them.
    ///
    /// # Errors
    /// When the model fails.
    pub(crate) fn encode(&self, model: &dyn DualEncoder) -> Result<Encoded> {
        let classes = self
            .classes
            .len()
            .max(self.none.as_ref().map_or(0, Vec::len));
        let row = 4 * model.architecture().embed_dim;
        memory::ensure(
            classes as u64 * row as u64,
            &format!("the embeddings of {classes} labels need"),
            "use fewer labels",
        )?;
        exhaustion::doing("encoding the labels");
        let encode = |classes: &Vec<_>| ClassEmbeddings::encode(model, classes);
        let none = self.none.as_ref();
        let none = none.filter(|_| !(self.yields_to_bias && model.logit_bias().is_some()));
        Ok(Encoded {
            none: none.map(encode).transpose()?,
            classes: encode(&self.classes)?,
        })
    }
}

/// Whether a name of `--compare` is a template set: a built-in one, or a file whose lines all have
/// a placeholder for the label. If a name is both, it is a template set when labels are given.
pub(crate) fn is_template_set(name: &str, has_labels: bool) -> Result<bool> {
    let is_labels = prompt::label_names().any(|known| known == name);
    let is_templates = prompt::template_names().any(|known| known == name);
    if is_labels || is_templates {
        return Ok(is_templates && (has_labels || !is_labels));
    }
    text_file::open(Path::new(name)).with_context(|| {
        format!("cannot compare {name:?}: it is neither a built-in set nor a readable file")
    })?;
    Ok(Templates::named_or_file(name).is_ok())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn labels_joined_by_commas_get_a_hint() {
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

    #[test]
    fn a_name_of_compare_is_labels_or_templates() {
        let room = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = room.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let templates = file("t.txt", "a photo of a {}.\na drawing of a {}.\n");
        let labels = file("l.txt", "cat\ndog\n");
        // Both a label set and a template set.
        let cases = [
            ("cifar10", true, true),
            ("cifar10", false, false),
            ("openai80", false, true),
            (&templates, false, true),
            (&labels, true, false),
        ];
        for (name, has_labels, expected) in cases {
            let found = is_template_set(name, has_labels).unwrap();
            assert_eq!(found, expected, "{name}, {has_labels}");
        }
        let error = is_template_set("no such set", false).unwrap_err();
        assert!(error.to_string().contains("neither a built-in set"));
    }
}
