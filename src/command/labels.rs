//! From the arguments that name labels to what the model reads, for all commands that take labels.

use anyhow::{Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::Console;
use super::texts::Fitter;
use crate::checkpoint::digest::hexadecimal;
use crate::cli::{LabelArgs, NoneArgs, ScoreArgs};
use crate::input::prompt::{self, Class, LabelSet, Templates};
use crate::input::tokenizer::{Fitted, LongText};
use crate::model::DualEncoder;
use crate::task::class_embedding::ClassEmbeddings;
use crate::task::zero_shot::{Classifier, Score};

/// The text that an image is compared with when labels are scored one by one.
const SAYS_NOTHING: &str = "a photo";
/// What several texts that stand for none of the labels are reported as.
const NONE_LABEL: &str = "none of these";

/// The templates asked for; without any, the label as typed.
///
/// # Errors
/// When they cannot be read or used.
pub(super) fn templates(args: &LabelArgs) -> Result<Templates> {
    match &args.templates {
        Some(name) => Templates::named_or_file(name),
        None if args.template.is_empty() => Ok(Templates::none()),
        None => Templates::from_arguments(&args.template),
    }
}

/// The labels asked for; says what may be wrong with them.
///
/// # Errors
/// When there are none, or they cannot be read or used.
pub(super) fn label_set(
    args: &LabelArgs,
    templates: &Templates,
    console: &Console,
) -> Result<LabelSet> {
    let set = match &args.labels_file {
        Some(file) => prompt::labels_from_file(file, templates)?,
        None if args.labels.is_empty() => {
            bail!("no labels given; add --labels TEXT TEXT… or --labels-file FILE")
        }
        None => prompt::labels_from_arguments(&args.labels, templates)?,
    };
    for warning in &set.warnings {
        console.warn(warning);
    }
    if !set.uses_templates && *templates != Templates::none() {
        console.warn(
            "the templates are not used: every label brings complete prompts; write them as aliases \
             to have them filled in",
        );
    }
    Ok(set)
}

/// Why one label is not enough; perhaps it was meant as several.
pub(super) fn one_label(label: &str) -> String {
    let apart: Vec<_> = label.split(',').map(str::trim).collect();
    let hint = if apart.len() > 1 && apart.iter().all(|label| !label.is_empty()) {
        let quoted: Vec<_> = apart.iter().map(|label| format!("{label:?}")).collect();
        format!(
            "; labels are given apart and not with commas: --labels {}",
            quoted.join(" ")
        )
    } else {
        String::new()
    };
    format!(
        "softmax over one label is always 1; add a label, or use --score cosine or --score \
         sigmoid{hint}"
    )
}

/// What tells the texts of a run from all others: labels and prompts in their order, what stands for
/// none of them, and what becomes of long ones.
pub(super) fn sha256(labels: &LabelSet, none: Option<&NoneTexts>, long: LongText) -> String {
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
pub(super) struct NoneTexts {
    /// What they are reported as, together.
    pub(super) name: String,
    /// Whether they are a class of their own, after the labels; with [`Score::Sigmoid`] labels are
    /// compared with them, and they are not reported.
    pub(super) is_class: bool,
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
    pub(super) fn new(
        args: &ScoreArgs,
        templates: &Templates,
        labels: &LabelSet,
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
            Some(file) => prompt::labels_from_file(file, templates)?.classes,
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
pub(super) struct Texts {
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
    pub(super) fn fit(
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
    pub(super) fn classifier(&self, model: &dyn DualEncoder, score: Score) -> Result<Classifier> {
        let encode = |classes: &Vec<_>| ClassEmbeddings::encode(model, classes);
        let (scale, bias) = (model.logit_scale(), model.logit_bias());
        let none = self.none.as_ref();
        let none = none.filter(|_| !(self.yields_to_bias && bias.is_some()));
        let none = none.map(encode).transpose()?;
        Classifier::new(encode(&self.classes)?, none, scale, bias, score)
    }
}
