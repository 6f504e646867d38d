//! Which label stands for which class of a dataset.

use std::collections::HashMap;

use anyhow::{Result, bail};

/// A class's name as people write it: `golden_retriever` and `golden-retriever` become "golden
/// retriever".
#[must_use]
pub fn clean(name: &str) -> String {
    let spaced = name.replace(['_', '-'], " ");
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a label is known by.
#[derive(Clone, Copy, Debug)]
pub struct Matching<'a> {
    /// The label's text.
    pub label: &'a str,
    /// Another name of its class, such as a WordNet id.
    pub key: Option<&'a str>,
}

/// The label of each class. In this order: the class's name is a label's key or text; its cleaned
/// name is a label's, whatever the case; it begins with a key and goes on with a name, as in
/// `n02099601-golden_retriever`; its cleaned name stands, word by word, in one label only and that
/// label is nobody else's ("dandelion" in "picture of a dandelion flower").
///
/// # Errors
/// When a class has no label: names it and the ways out.
pub fn match_classes(classes: &[String], labels: &[Matching<'_>]) -> Result<Vec<usize>> {
    let exact = index(labels, |label| Some(label.label.to_owned()));
    let keys = index(labels, |label| label.key.map(str::to_owned));
    let plain = index(labels, |label| Some(clean(label.label).to_lowercase()));
    let find = |class: &String| {
        let found = keys
            .get(class.as_str())
            .or_else(|| exact.get(class.as_str()));
        let found = found.or_else(|| plain.get(clean(class).to_lowercase().as_str()));
        found.or_else(|| keys.get(wordnet_id(class)?)).copied()
    };
    let mut found: Vec<Option<usize>> = classes.iter().map(find).collect();
    if found.iter().any(Option::is_none) {
        match_words(classes, labels, &mut found);
    }
    let missing: Vec<&String> = (classes.iter().zip(&found))
        .filter_map(|(class, label)| label.is_none().then_some(class))
        .collect();
    if let Some(first) = missing.first() {
        let more = match missing.len() - 1 {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        bail!(
            "no label stands for the class {first:?}{more}; give the labels these names, or write a \
             labels file .csv with columns label and folder; evaluate and calibrate take --class-map FILE \
             as well"
        );
    }
    let found: Vec<usize> = found.into_iter().flatten().collect();
    let mut of_label = HashMap::new();
    for (class, &label) in found.iter().enumerate() {
        if let Some(other) = of_label.insert(label, class) {
            bail!(
                "the classes {:?} and {:?} would both be the label {:?}; rename one (evaluate and \
                 calibrate take --class-map FILE as well)",
                classes[other],
                classes[class],
                labels[label].label
            );
        }
    }
    Ok(found)
}

/// The id that a name like `n02099601-golden_retriever` begins with. Keys of other forms must be the
/// whole name: `cat_food` is no cat.
fn wordnet_id(class: &str) -> Option<&str> {
    let id = class.get(..9)?;
    let is_id = id.starts_with('n') && id[1..].bytes().all(|byte| byte.is_ascii_digit());
    let goes_on = class[9..].starts_with(['-', '_', ' ']);
    (is_id && goes_on).then_some(id)
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

/// Looks for the words of a class in the labels that are still free.
fn match_words(classes: &[String], labels: &[Matching<'_>], found: &mut [Option<usize>]) {
    let words = |text: &str| -> Vec<String> {
        let lower = clean(text).to_lowercase();
        let letters = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        lower.split(' ').map(letters).collect()
    };
    let label_words: Vec<Vec<String>> = labels.iter().map(|label| words(label.label)).collect();
    let mut wanted: HashMap<usize, Vec<usize>> = HashMap::new();
    for (class, name) in classes.iter().enumerate() {
        if found[class].is_some() {
            continue;
        }
        let name = words(name);
        let holds = |label: &&Vec<String>| label.windows(name.len()).any(|part| part == name);
        let free = |place: usize| !found.contains(&Some(place));
        let mut holders =
            (0..labels.len()).filter(|&place| free(place) && holds(&&label_words[place]));
        if let (Some(only), None) = (holders.next(), holders.next()) {
            wanted.entry(only).or_default().push(class);
        }
    }
    for (label, classes) in wanted {
        if let [class] = classes[..] {
            found[class] = Some(label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A label and its key.
    type Label = (&'static str, Option<&'static str>);

    fn matched(classes: &[&str], labels: &[Label]) -> Result<Vec<usize>, String> {
        let classes: Vec<String> = classes.iter().map(|&class| class.to_owned()).collect();
        let labels: Vec<_> = labels
            .iter()
            .map(|&(label, key)| Matching { label, key })
            .collect();
        match_classes(&classes, &labels).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_cleaned() {
        assert_eq!(clean("golden_retriever"), "golden retriever");
        assert_eq!(clean(" a--b_ c"), "a b c");
    }

    #[test]
    fn classes_find_their_labels() {
        let none = None;
        let cases: [(&[&str], &[Label], &[usize]); 5] = [
            (
                &["cat", "dog"],
                &[("dog", none), ("a cat", none), ("cat", none)],
                &[2, 0],
            ),
            (
                &["Golden_Retriever"],
                &[("cat", none), ("golden retriever", none)],
                &[1],
            ),
            (
                &["n02099601", "n02085620-Chihuahua"],
                &[
                    ("Chihuahua dog", Some("n02085620")),
                    ("golden retriever", Some("n02099601")),
                ],
                &[1, 0],
            ),
            (
                &["daisy", "dandelion"],
                &[
                    ("picture of a dandelion flower", none),
                    ("picture of a daisy flower", none),
                    ("a rose", none),
                ],
                &[1, 0],
            ),
            // "rat" is not in "a rattlesnake", and what is a label by its name is free for nobody else.
            (
                &["rat", "snake", "dog"],
                &[
                    ("a rattlesnake", none),
                    ("snake", none),
                    ("hot dog", none),
                    ("a rat.", none),
                ],
                &[3, 1, 2],
            ),
        ];
        for (classes, labels, expected) in cases {
            assert_eq!(matched(classes, labels).unwrap(), expected, "{classes:?}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        let cases: [(&[&str], &[Label], &str); 4] = [
            (
                &["cat_food"],
                &[("a feline", Some("cat"))],
                "no label stands for",
            ),
            (
                &["cat", "cow", "emu"],
                &[("cat", None)],
                "the class \"cow\" (and 1 more)",
            ),
            (
                &["dog"],
                &[("a dog", None), ("my dog", None)],
                "no label stands for",
            ),
            (
                &["a_cat", "a-cat"],
                &[("a cat", None)],
                "would both be the label",
            ),
        ];
        for (classes, labels, part) in cases {
            let error = matched(classes, labels).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
