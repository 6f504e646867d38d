//! Matches the classes of a dataset to labels.

use std::collections::{HashMap, HashSet};

use anyhow::{Result, bail, ensure};

use super::class_number;
use super::names::{apart, composed, listed, numbered, plain, several_labels, split, squashed};

/// Classes that a note lists at most.
const SHOWN: usize = 5;

/// The names of a label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matching<'a> {
    /// The label's text.
    pub label: &'a str,
    /// Another name of its class, such as a WordNet id.
    pub key: Option<&'a str>,
}

/// Whether labels are in the order of the class numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelOrder<'a> {
    /// Class numbers are label indices, from 0.
    Counts,
    /// The order is not known to be that of the dataset's class numbers.
    Differs(&'a str),
}

/// The label of each class, and notes on how it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Matched {
    /// Label index of each class.
    pub label_of_class: Vec<usize>,
    /// Notes on what was guessed.
    pub notes: Vec<String>,
}

/// Finds the label of each class.
///
/// A class name matches, in this order: a label's key or text; the same ignoring case, separators
/// and compatibility characters; a key followed by a name, as in `n02099601-golden_retriever`; the
/// letters and digits of a label or key alone (`ApplyEyeMakeup`); any of these after a number
/// (`001.Penguin`); words that occur in exactly one label that matches no other class ("dandelion"
/// in "picture of a dandelion flower"). Names are compared in one Unicode normal form.
///
/// If all classes are numbers, they are the labels' texts, or their keys (`00014` is 14), or words
/// in labels, or label indices from 0.
///
/// # Errors
/// When a class has no label, or two have the same: names the classes and ways to fix it.
pub(crate) fn match_classes(
    classes: &[String],
    labels: &[Matching<'_>],
    order: LabelOrder<'_>,
) -> Result<Matched> {
    let mut found = Finding::new(labels).names(classes);
    let mut notes = Vec::new();
    let numbers: Option<Vec<u64>> = classes.iter().map(|class| class_number(class)).collect();
    let is_complete = |found: &[Option<usize>]| found.iter().all(Option::is_some);
    if let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty())
        && !found.iter().all(Option::is_some)
    {
        let words = with_words(classes, labels, &found);
        found = match is_complete(&words) {
            true => words,
            false => by_number(&numbers, classes, labels, order, &mut notes)?,
        };
    } else if !is_complete(&found) {
        let known = found.clone();
        found = with_words(classes, labels, &found);
        notes.extend(word_note(classes, labels, &known, &found));
    }
    let missing: Vec<&String> = (classes.iter().zip(&found))
        .filter_map(|(class, label)| label.is_none().then_some(class))
        .collect();
    if let Some(first) = missing.first() {
        refuse(first, missing.len(), labels)?;
    }
    let found: Vec<usize> = found.into_iter().flatten().collect();
    check_single(classes, labels, &found)?;
    Ok(Matched {
        label_of_class: found,
        notes,
    })
}

/// Fails if a class has no label.
fn refuse(class: &str, missing: usize, labels: &[Matching<'_>]) -> Result<()> {
    let is_label = |part: &String| {
        let part = plain(part);
        labels.iter().any(|label| {
            plain(label.label) == part || label.key.is_some_and(|key| plain(key) == part)
        })
    };
    let parts = listed(class).or_else(|| split(class, ','));
    if let Some(parts) = parts.filter(|parts| parts.iter().all(is_label)) {
        several(class, &parts)?;
    }
    let more = match missing - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    bail!(
        "no label matches the class {class:?}{more}; give the labels these names, or write a \
         labels file .csv with columns label and folder; evaluate and calibrate also take \
         --class-map FILE"
    )
}

/// Fails if a class seems to be several labels in one cell, as in `penguin;sun`.
///
/// # Errors
/// Names the class and its labels.
pub(crate) fn check_single_labels(classes: &[String]) -> Result<()> {
    match several_labels(classes) {
        Some((class, parts)) => several(class, &parts),
        None => Ok(()),
    }
}

/// Fails if a class is several labels.
fn several(class: &str, parts: &[String]) -> Result<()> {
    bail!(
        "{class:?} holds several labels ({}), but an image is evaluated with one; keep one label \
         per image",
        parts.join(", ")
    )
}

/// Fails if two classes have the same label.
fn check_single(classes: &[String], labels: &[Matching<'_>], found: &[usize]) -> Result<()> {
    let mut of_label = HashMap::new();
    for (class, &label) in found.iter().enumerate() {
        if let Some(other) = of_label.insert(label, class) {
            bail!(
                "the classes {:?} and {:?} both match the label {:?}; rename one (evaluate and \
                 calibrate also take --class-map FILE)",
                classes[other],
                classes[class],
                labels[label].label
            );
        }
    }
    Ok(())
}

/// Labels by name.
struct Finding {
    exact: HashMap<String, usize>,
    keys: HashMap<String, usize>,
    plain: HashMap<String, usize>,
    plain_keys: HashMap<String, usize>,
    squashed: HashMap<String, usize>,
    squashed_keys: HashMap<String, usize>,
}

impl Finding {
    fn new(labels: &[Matching<'_>]) -> Self {
        let texts = |name: fn(&str) -> String| index(labels, |label| Some(name(label.label)));
        let keys = |name: fn(&str) -> String| index(labels, |label| label.key.map(name));
        Self {
            exact: texts(composed),
            keys: keys(composed),
            plain: texts(plain),
            plain_keys: keys(plain),
            squashed: texts(squashed),
            squashed_keys: keys(squashed),
        }
    }

    fn names(&self, classes: &[String]) -> Vec<Option<usize>> {
        let find = |class: &String| {
            let after = || self.name(numbered(class)?.1);
            self.name(class).or_else(after)
        };
        classes.iter().map(find).collect()
    }

    fn name(&self, class: &str) -> Option<usize> {
        let (exact, plain, squashed) = (composed(class), plain(class), squashed(class));
        let found = self.keys.get(&exact).or_else(|| self.exact.get(&exact));
        let found = found.or_else(|| self.plain.get(&plain));
        let found = found.or_else(|| self.keys.get(wordnet_id(class)?));
        let found = found.or_else(|| self.plain_keys.get(&plain));
        // A name without letters or digits matches nothing.
        let found = found.or_else(|| {
            let is_name = !squashed.is_empty();
            let label = self.squashed.get(&squashed);
            label
                .or_else(|| self.squashed_keys.get(&squashed))
                .filter(|_| is_name)
        });
        found.copied()
    }
}

/// The id at the start of a name like `n02099601-golden_retriever`. Keys of other forms must be the
/// whole name: `cat_food` is not `cat`.
fn wordnet_id(class: &str) -> Option<&str> {
    let (id, rest) = class.split_at_checked(9)?;
    let is_id = id.starts_with('n') && id.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    (is_id && rest.starts_with(['-', '_', ' '])).then_some(id)
}

/// Names that only one label has.
fn index(
    labels: &[Matching<'_>],
    name: impl Fn(&Matching<'_>) -> Option<String>,
) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    let mut twice = Vec::new();
    for (place, label) in labels.iter().enumerate() {
        if let Some(name) = name(label)
            && found.insert(name.clone(), place).is_some()
        {
            twice.push(name);
        }
    }
    for name in twice {
        found.remove(&name);
    }
    found
}

/// Labels of numeric classes: by text, by key, else by index.
fn by_number(
    numbers: &[u64],
    classes: &[String],
    labels: &[Matching<'_>],
    order: LabelOrder<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<Option<usize>>> {
    let number = |text: Option<&str>| text.and_then(class_number);
    let texts = index(labels, |label| {
        number(Some(label.label)).map(|n| n.to_string())
    });
    let keys = index(labels, |label| number(label.key).map(|n| n.to_string()));
    let by = |known: &HashMap<String, usize>| -> Vec<Option<usize>> {
        let find = |number: &u64| known.get(&number.to_string()).copied();
        numbers.iter().map(find).collect()
    };
    let (by_text, by_key) = (by(&texts), by(&keys));
    if by_text.iter().all(Option::is_some) {
        return Ok(by_text);
    }
    let said = |label: usize| format!("{:?} is {:?}", classes[0], labels[label].label);
    if let (true, Some(Some(first))) = (by_key.iter().all(Option::is_some), by_key.first()) {
        notes.push(format!(
            "class numbers are matched to the labels' keys: {}",
            said(*first)
        ));
        return Ok(by_key);
    }
    let (least, most) = (numbers.iter().min(), numbers.iter().max());
    let (least, most) = (least.copied().unwrap_or(0), most.copied().unwrap_or(0));
    if let LabelOrder::Differs(set) = order {
        bail!(
            "the classes are numbers ({least} to {most}), but the labels {set} may not be in the \
             order of the class numbers; use the dataset's folder names, or pass --class-map FILE"
        );
    }
    // Keys that count the labels from 1 do not rule out class numbers that count from 0.
    let counted = (0..labels.len()).all(|place| keys.get(&(place + 1).to_string()) == Some(&place));
    ensure!(
        keys.is_empty() || counted,
        "the classes are numbers ({least} to {most}), but some of them are not among the labels' \
         keys; add these to the labels file"
    );
    ensure!(
        usize::try_from(most).is_ok_and(|most| most < labels.len()),
        "the classes are numbers from {least} to {most}, but the {} labels are numbered from 0 to \
         {}; write a labels file .csv with columns label and key, or pass --class-map FILE to \
         evaluate or calibrate",
        labels.len(),
        labels.len().saturating_sub(1)
    );
    let place = |number: &u64| usize::try_from(*number).ok();
    let found: Vec<Option<usize>> = numbers.iter().map(place).collect();
    let first = found.first().copied().flatten().unwrap_or(0);
    let mut note = format!(
        "class numbers are matched to the labels in order, from 0: {}",
        said(first)
    );
    if least > 0 {
        note += "; no class is 0: if the numbers start at 1, write a labels file .csv with \
                 columns label and key";
    }
    notes.push(note);
    Ok(found)
}

/// Adds matches of the remaining classes to words in the remaining labels.
fn with_words(
    classes: &[String],
    labels: &[Matching<'_>],
    found: &[Option<usize>],
) -> Vec<Option<usize>> {
    let words = |text: &str| -> Vec<String> {
        let plain = plain(text);
        let letters = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        plain.split(' ').map(letters).collect()
    };
    let label_words: Vec<Vec<String>> = labels.iter().map(|label| words(label.label)).collect();
    let taken: HashSet<usize> = found.iter().flatten().copied().collect();
    // The remaining labels, by their words.
    let mut with_word: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, words) in label_words.iter().enumerate() {
        for word in words.iter().filter(|_| !taken.contains(&place)) {
            let places = with_word.entry(word).or_default();
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
    }
    let mut wanted: HashMap<usize, Vec<usize>> = HashMap::new();
    for (class, name) in classes.iter().enumerate() {
        if found[class].is_some() {
            continue;
        }
        let name = words(&apart(name));
        if name.iter().any(String::is_empty) {
            continue;
        }
        let holds = |label: &Vec<String>| label.windows(name.len()).any(|part| part == name);
        let with = |word: &String| with_word.get(word.as_str()).map_or(&[][..], Vec::as_slice);
        let fewest = name.iter().map(with).min_by_key(|places| places.len());
        let places = fewest.unwrap_or_default().iter().copied();
        let mut holders = places.filter(|&place| holds(&label_words[place]));
        if let (Some(only), None) = (holders.next(), holders.next()) {
            wanted.entry(only).or_default().push(class);
        }
    }
    let mut all = found.to_vec();
    for (label, classes) in wanted {
        if let [class] = classes[..] {
            all[class] = Some(label);
        }
    }
    all
}

/// The note on classes that were matched only by a word in a label.
fn word_note(
    classes: &[String],
    labels: &[Matching<'_>],
    known: &[Option<usize>],
    found: &[Option<usize>],
) -> Option<String> {
    let guesses = (classes.iter().zip(known).zip(found))
        .filter(|((_, known), _)| known.is_none())
        .filter_map(|((class, _), found)| Some((class, (*found)?)));
    let all: Vec<String> = guesses
        .map(|(class, label)| format!("{class:?} by {:?}", labels[label].label))
        .collect();
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    let shown = all
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    (!all.is_empty()).then(|| format!("classes matched by a word in a label: {shown}{more}"))
}

#[cfg(test)]
mod tests;
