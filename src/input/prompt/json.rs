//! Labels as JSON, or as YAML and Python literals, which are equivalent.

#![deny(clippy::indexing_slicing)]

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, Result, bail, ensure};

use super::columns::{ClassEntry, Column, Columns};
use super::document::Node;
use super::{Found, Written, shape};
use crate::input::text_file::column::{class_number, key};

/// Names under which configurations and dataset descriptions list their classes, as
/// [`crate::input::text_file::column::key`] writes them.
const NAMES: [&str; 11] = [
    "id2label",
    "idx2label",
    "label2id",
    "classtoidx",
    "idxtoclass",
    "classnames",
    "labelnames",
    "names",
    "classes",
    "labels",
    "categories",
];
/// A key that identifies the configuration of a model.
const OF_MODELS: [&str; 4] = ["modeltype", "architectures", "textconfig", "visionconfig"];
const VALUE: &str =
    "expected a prompt or a list of prompts, or an object of prompt, alias, text and key";

type Members = Vec<(String, Node)>;

/// The classes of an object or a list, in the order of the file or of their numbers:
///
/// - `{"cat": ["a cat", "a kitten"]}`: labels and prompts, or an object of prompt, alias, text and
///   key.
/// - `{"0": "cat"}`, `{"0": ["n02123045", "tabby"]}`, `{"cat": 0}`: labels by number, which is the
///   key unless there is another id.
/// - a configuration or description with one of these, or a list, under a name such as `id2label`.
/// - `["cat", "dog"]`; a list of objects with the fields of a table; pairs of id and label.
///
/// # Errors
/// When it is none of these; names the entry.
pub(super) fn entries(node: Node) -> Result<Found> {
    match node {
        Node::Map(pairs) => of_map(pairs),
        Node::List(nodes) => of_list(nodes),
        node => bail!(
            r#"it is {}, but {{"label": ["prompt", …], …}} or ["label", …] is expected"#,
            node.kind()
        ),
    }
}

fn found(entries: Vec<ClassEntry>) -> Found {
    Found::of(entries, "entries")
}

fn by_id(entries: Vec<ClassEntry>, note: Option<&str>) -> Found {
    Found {
        by_id: true,
        notes: note.map(str::to_owned).into_iter().collect(),
        ..found(entries)
    }
}

fn of_map(mut pairs: Members) -> Result<Found> {
    if let Some(place) = named_list(&pairs) {
        let (name, node) = pairs.swap_remove(place);
        let mut inner = match node {
            Node::Map(pairs) => of_numbered(&pairs)
                .or_else(|| of_numbers(&pairs))
                .with_context(|| format!("{name:?} does not give each class a number"))??,
            node => entries(node)?,
        };
        check_named(&inner.entries)?;
        inner
            .notes
            .insert(0, format!("the labels are read from {name:?}"));
        return Ok(inner);
    }
    let is_model = |(name, _): &(String, Node)| OF_MODELS.contains(&key(name).as_str());
    ensure!(
        !pairs.iter().any(is_model),
        "it is the configuration of a model, but has no id2label that names classes"
    );
    // One list per dataset looks like prompts per label, but these names are not labels.
    let of_dataset = |(name, node): &&(String, Node)| {
        let known = ["imagenet", "cifar", "mnist"];
        matches!(node, Node::List(_)) && known.iter().any(|known| key(name).starts_with(known))
    };
    if let Some((name, _)) = pairs.iter().find(of_dataset) {
        bail!(
            "{name:?} and the other names are datasets with a list of labels each; save one of \
             the lists as a file"
        );
    }
    if let Some(numbered) = of_numbered(&pairs).or_else(|| of_numbers(&pairs)) {
        return numbered;
    }
    let are_numbers =
        !pairs.is_empty() && pairs.iter().all(|(label, _)| class_number(label).is_some());
    let entries = (1..)
        .zip(pairs)
        .map(|(place, (label, node))| described(place, label, node));
    let mut found = found(entries.collect::<Result<_>>()?);
    if are_numbers {
        found
            .notes
            .push("the labels are numbers, and their values are read as prompts".to_owned());
    }
    Ok(found)
}

/// Whether an object has a list of classes, rather than being one.
fn named_list(pairs: &Members) -> Option<usize> {
    let holds_classes = |node: &Node| match node {
        Node::List(nodes) => nodes.iter().all(Node::is_text) || nodes.iter().all(is_map),
        Node::Map(pairs) => of_numbered(pairs).is_some() || of_numbers(pairs).is_some(),
        _ => false,
    };
    NAMES.iter().find_map(|wanted| {
        let is_it = |(name, node): &(String, Node)| key(name) == *wanted && holds_classes(node);
        pairs.iter().position(is_it)
    })
}

fn is_map(node: &Node) -> bool {
    matches!(node, Node::Map(_))
}

/// Refuses the placeholder names of a configuration without class names.
fn check_named(entries: &[ClassEntry]) -> Result<()> {
    let is_default = |entry: &ClassEntry| {
        let number = entry.label.strip_prefix("LABEL_");
        number.is_some_and(|number| class_number(number).is_some())
    };
    ensure!(
        entries.is_empty() || !entries.iter().all(is_default),
        "its labels are only numbered (\"LABEL_0\", …) and have no names"
    );
    Ok(())
}

/// `{"0": "cat", "1": "dog"}`, also with ids or with objects; `None` if it is something else.
fn of_numbered(pairs: &Members) -> Option<Result<Found>> {
    let numbers: Option<Vec<u64>> = pairs.iter().map(|(name, _)| class_number(name)).collect();
    let numbers = numbers.filter(|numbers| !numbers.is_empty())?;
    let mut sorted: Vec<(u64, &(String, Node))> = numbers.into_iter().zip(pairs).collect();
    sorted.sort_by_key(|(number, _)| *number);
    let entries: Option<Vec<ClassEntry>> = (1..)
        .zip(sorted)
        .map(|(place, (_, (number, node)))| match node {
            Node::Text(label) => {
                let mut entry = ClassEntry::new(place, label.clone());
                entry.key = Some(number.clone());
                Some(entry)
            }
            Node::List(pair) => with_id(place, pair),
            _ => None,
        })
        .collect();
    Some(Ok(by_id(
        entries?,
        Some("the numbers are the labels' keys, and set their order"),
    )))
}

/// A pair of id and name, such as `["n02123045", "tiger_cat"]`, in either order.
fn with_id(place: usize, pair: &[Node]) -> Option<ClassEntry> {
    let [first, second] = pair else {
        return None;
    };
    let is_id = |node: &Node| node.scalar().is_some_and(shape::is_id);
    let (id, name) = match (is_id(first), is_id(second)) {
        (true, false) => (first, second),
        (false, true) => (second, first),
        _ => return None,
    };
    let Node::Text(name) = name else {
        return None;
    };
    let mut entry = ClassEntry::new(place, name.clone());
    // Such lists write blanks as underscores, which the model would read as such.
    entry.text = name.contains('_').then(|| name.replace('_', " "));
    entry.key = id.scalar().map(str::to_owned);
    Some(entry)
}

/// `{"cat": 0, "dog": 1}`; `None` if it is something else.
fn of_numbers(pairs: &Members) -> Option<Result<Found>> {
    let mut numbered: Vec<(u64, &String)> = pairs
        .iter()
        .map(|(label, node)| Some((node.index()?, label)))
        .collect::<Option<_>>()
        .filter(|pairs: &Vec<(u64, &String)>| pairs.len() > 1 || matches!(pairs[..], [(0, _)]))?;
    numbered.sort();
    let mut seen = HashSet::new();
    let entries = (1..).zip(numbered).map(|(place, (number, label))| {
        ensure!(
            seen.insert(number),
            "the number {number} belongs to two labels"
        );
        let mut entry = ClassEntry::new(place, label.clone());
        entry.key = Some(number.to_string());
        Ok(entry)
    });
    let entries = entries.collect::<Result<Vec<_>>>();
    Some(entries.map(|entries| {
        by_id(
            entries,
            Some("the numbers are the labels' keys, and set their order"),
        )
    }))
}

/// A label with its prompts, or with the fields of a table.
fn described(place: usize, label: String, node: Node) -> Result<ClassEntry> {
    let refused = |node: &Node| {
        format!(
            "entry {place}, class {label:?}: {VALUE}, found {}",
            node.kind()
        )
    };
    let mut entry = ClassEntry::new(place, label.clone());
    match node {
        Node::Null => {}
        Node::Text(prompt) => entry.prompts = vec![prompt],
        Node::List(_) => entry.prompts = texts(&node).with_context(|| refused(&node))?,
        Node::Map(fields) => {
            for (name, value) in fields {
                let texts = texts(&value).with_context(|| refused(&value))?;
                let column = Column::named(&name);
                ensure!(
                    !matches!(column, Column::Label | Column::Unknown),
                    "entry {place}, class {label:?}: {VALUE}, found {name:?}"
                );
                column.put(&mut entry, texts)?;
            }
        }
        node => bail!(refused(&node)),
    }
    Ok(entry)
}

/// A text or several; `None` if it is something else.
fn texts(node: &Node) -> Option<Vec<String>> {
    match node {
        Node::Null => Some(Vec::new()),
        Node::Text(text) | Node::Number(text) => Some(vec![text.clone()]),
        Node::List(nodes) => {
            let each = nodes.iter().map(|node| match node {
                Node::Text(text) => Some(text.clone()),
                _ => None,
            });
            each.collect()
        }
        _ => None,
    }
}

fn of_list(nodes: Vec<Node>) -> Result<Found> {
    if !nodes.is_empty() && nodes.iter().all(is_map) {
        return of_objects(nodes);
    }
    let pairs: Option<Vec<ClassEntry>> = (1..)
        .zip(&nodes)
        .map(|(place, node)| match node {
            Node::List(pair) => with_id(place, pair),
            _ => None,
        })
        .collect();
    if let Some(entries) = pairs.filter(|entries| !entries.is_empty()) {
        return Ok(by_id(entries, None));
    }
    let labels = (1..).zip(nodes).map(|(place, node)| match node {
        Node::Text(label) => Ok(ClassEntry::new(place, label)),
        node => bail!(
            "entry {place} is {}; a list must hold labels, or objects with a label each",
            node.kind()
        ),
    });
    Ok(found(labels.collect::<Result<_>>()?))
}

/// A list of objects with the fields of a table's columns.
fn of_objects(nodes: Vec<Node>) -> Result<Found> {
    let rows: Vec<Members> = nodes
        .into_iter()
        .filter_map(|node| match node {
            Node::Map(pairs) => Some(pairs),
            _ => None,
        })
        .collect();
    let mut names: Vec<String> = Vec::new();
    let mut place_of: HashMap<String, usize> = HashMap::new();
    let mut holds_numbers: Vec<bool> = Vec::new();
    for (name, node) in rows.iter().flatten() {
        let place = *place_of.entry(name.clone()).or_insert_with(|| {
            names.push(name.clone());
            holds_numbers.push(true);
            names.len() - 1
        });
        if let Some(holds_numbers) = holds_numbers.get_mut(place) {
            *holds_numbers &= node.scalar().and_then(class_number).is_some();
        }
    }
    let columns = Columns::named(&names, |place| holds_numbers.get(place) == Some(&true))?;
    let entry = |(number, row): (usize, Members)| -> Result<ClassEntry> {
        let mut entry = ClassEntry::new(number, String::new());
        for (name, node) in row {
            let place = place_of.get(&name).copied().unwrap_or_default();
            let column = columns.at(place);
            if column == Column::Unknown {
                continue;
            }
            let texts = texts(&node);
            let texts =
                texts.with_context(|| format!("entry {number}: {name:?} is {}", node.kind()))?;
            let put = column.put(&mut entry, texts);
            put.with_context(|| format!("entry {number}: {name:?}"))?;
        }
        ensure!(
            !entry.label.is_empty(),
            "entry {number} has no label; add it or remove the entry"
        );
        Ok(entry)
    };
    let entries = (1..).zip(rows).map(entry).collect::<Result<_>>()?;
    Ok(Found {
        entries,
        written: Written::Rows("entries"),
        by_id: false,
        warnings: columns.warnings,
        notes: columns.notes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classes as `key=label(text):prompts`, and the number of notes.
    fn read(content: &str) -> Result<(Vec<String>, usize), String> {
        let found = entries(serde_json::from_str(content).unwrap());
        let found = found.map_err(|error| format!("{error:#}"))?;
        let shown = found.entries.iter().map(|entry| {
            let key = entry
                .key
                .as_ref()
                .map_or(String::new(), |key| format!("{key}="));
            let text = entry
                .text
                .as_ref()
                .map_or(String::new(), |text| format!("({text})"));
            format!("{key}{}{text}:{}", entry.label, entry.prompts.join("/"))
        });
        Ok((shown.collect(), found.notes.len()))
    }

    #[test]
    fn classes_are_read_from_all_forms() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], usize); 19] = [
            (r#"["cat", "dog"]"#, &["cat:", "dog:"], 0),
            (r#"{"cat": ["a", "b"], "dog": "c"}"#, &["cat:a/b", "dog:c"], 0),
            (r#"{"0": "cat", "1": "dog"}"#, &["0=cat:", "1=dog:"], 1),
            (r#"{"0": "a", "10": "c", "2": "b"}"#, &["0=a:", "2=b:", "10=c:"], 1),
            (
                r#"{"0": ["n02056570", "king_penguin"], "1": ["n01847000", "drake"]}"#,
                &["n02056570=king_penguin(king penguin):", "n01847000=drake:"],
                1,
            ),
            (r#"{"0": ["zero", "a 0"], "1": ["one", "a 1"]}"#, &["0:zero/a 0", "1:one/a 1"], 1),
            (r#"{"dog": 1, "cat": 0}"#, &["0=cat:", "1=dog:"], 1),
            (
                r#"{"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}, "n": {"x": 1}}"#,
                &["0=cat:", "1=dog:"],
                2,
            ),
            (r#"{"a": 1.5, "label2id": {"cat": 0, "dog": 1}}"#, &["0=cat:", "1=dog:"], 2),
            (r#"{"nc": 2, "names": ["cat", "dog"]}"#, &["cat:", "dog:"], 1),
            (r#"{"class_to_idx": {"cat": 0, "dog": 1}}"#, &["0=cat:", "1=dog:"], 2),
            (r#"{"dataset": "pets", "classes": ["cat", "dog"]}"#, &["cat:", "dog:"], 1),
            (r#"{"images": [], "categories": [{"id": 1, "name": "cat"}]}"#, &["1=cat:"], 1),
            (
                r#"[{"label": "cat"}, {"label": "dog", "prompt": ["a", "b"]}]"#,
                &["cat:", "dog:a/b"],
                0,
            ),
            (r#"[{"id": 3, "name": "cat", "supercategory": "x"}]"#, &["3=cat:"], 0),
            (
                r#"[["n02056570", "king penguin"], ["n01847000", "drake"]]"#,
                &["n02056570=king penguin:", "n01847000=drake:"],
                0,
            ),
            (r#"[["cat", 0], ["dog", 1]]"#, &["0=cat:", "1=dog:"], 0),
            (r#"{"classes": "a class", "cat": "x"}"#, &["classes:a class", "cat:x"], 0),
            ("[]", &[], 0),
        ];
        for (content, expected, notes) in cases {
            let (found, said) = read(content).unwrap();
            assert_eq!(found, expected, "{content}");
            assert_eq!(said, notes, "{content}");
        }
    }

    #[test]
    fn other_values_are_refused() {
        #[rustfmt::skip]
        let cases = [
            (r#"{"model_type": "clip", "projection_dim": 512}"#, "no id2label"),
            (r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#, "only numbered"),
            (r#"{"cat": 1, "dog": 1}"#, "number 1 belongs to two labels"),
            (
                r#"{"a": true}"#,
                "entry 1, class \"a\": expected a prompt or a list of prompts, or an object of prompt, alias, text and key, found true or false",
            ),
            (r#"{"a": 1}"#, "found a number"),
            (
                r#"{"pets": ["a", "b"], "imagenet1k": ["tench", "goldfish"]}"#,
                "\"imagenet1k\" and the other names are datasets",
            ),
            (r#"{"a": {"b": {"c": "d"}}}"#, "found an object"),
            (r#"["cat", 1]"#, "entry 2 is a number"),
            (r#"[{"id": 1}]"#, "no column of labels (id)"),
            (r#"[{"label": ["a", "b"]}]"#, "entry 1: \"label\": one class has several"),
            (r#"[{"label": "a"}, {"prompt": "b"}]"#, "entry 2 has no label"),
            (r#""cat""#, "it is a text"),
            ("[1, 2]", "entry 1 is a number"),
        ];
        for (content, part) in cases {
            let error = read(content).unwrap_err();
            assert!(error.contains(part), "{content}: {error}");
        }
    }
}
