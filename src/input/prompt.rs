//! Labels x templates -> prompts: what the text tower reads for each class.
//!
//! A label is what the user calls a class and what the records show; a prompt is a text that stands
//! for it, an alias another name. Labels come from arguments, from a built-in set, or from a file:
//!
//! - text: one label a line, `#` comments and blank lines skipped.
//! - JSON: `{"cat": ["a photo of a cat", "a kitten"], "dog": "a dog"}` are complete prompts, read as
//!   they stand; templates apply only to classes that bring none (`"bird": []` or `"bird": null`).
//!   `{"cat": {"alias": ["kitten"], "key": "n02121808"}}` says the same as a table does.
//!   `["cat", "dog"]` are labels, as if on lines of their own; the way to write a label that begins
//!   with `#`.
//! - CSV and TSV: a header with the column `label` (or `class` or `name`) and any of `prompt` (or
//!   `description`; complete, as in JSON), `alias` (filled into the templates beside the label),
//!   `text` (filled in instead of the label) and `key` (or `folder` or `id`; what a data set calls
//!   the class). Without a header the first column holds labels and the others prompts. Rows of one
//!   label are one class.
//!
//! The label itself is filled into the templates unless all that is written of its class brings
//! complete prompts. There is no form for aliases in text files: any sign that could separate them
//! may stand in a label. The order of the classes is the order in which they were written.

mod built_in;
mod entry;
mod file;
mod json;
mod table;
mod template;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};

pub use built_in::{counts_classes, label_names, template_names};
use entry::{Entry, Written, label_set};
pub use template::Templates;

/// One class: what it is called and the texts that stand for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The text as typed; what records show.
    pub label: String,
    /// Complete prompts, at least one.
    pub prompts: Vec<String>,
    /// What a data set calls the class, such as the name of its folder.
    pub key: Option<String>,
}

/// The classes to choose from: at least one, no label and no key twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSet {
    /// In the order in which they were written.
    pub classes: Vec<Class>,
    /// Whether any prompt was made by a template.
    pub uses_templates: bool,
    /// What may be wrong with the file.
    pub warnings: Vec<String>,
}

/// The classes of `--labels`, as typed.
///
/// # Errors
/// When there are none, one is empty, or one is given twice.
pub fn labels_from_arguments(labels: &[String], templates: &Templates) -> anyhow::Result<LabelSet> {
    let entries = labels.iter().zip(1..);
    let entries = entries.map(|(label, place)| Entry::new(place, label.clone()));
    label_set(entries.collect(), Written::As("labels"), templates)
}

/// The classes of `--labels-file NAME|FILE`: a built-in set (names win over files), or a file; by its
/// extension it is JSON, CSV or TSV, any other has one label a line, and so has stdin, `-`. UTF-8
/// with or without a byte order mark, lines end in `\n` or `\r\n`.
///
/// # Errors
/// When the file cannot be read, is not UTF-8 (the line is named), is not such JSON or such a table,
/// has no labels, or has an empty label or one twice (both places are named).
pub fn labels_from_file(path: &Path, templates: &Templates) -> anyhow::Result<LabelSet> {
    if let Some(content) = path.to_str().and_then(built_in::labels) {
        return label_set(
            table::read(content, b',')?.entries,
            Written::AsTable,
            templates,
        );
    }
    let is_name = path.extension().is_none() && path.components().count() == 1;
    ensure!(
        !is_name || path.exists() || path.as_os_str() == "-",
        "no labels {path:?}: neither a built-in set ({}) nor a file",
        label_names().collect::<Vec<_>>().join(", ")
    );
    let content = file::read(path)?;
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let classes = match extension.to_str() {
        Some("json") => json::entries(&content)
            .and_then(|entries| label_set(entries, Written::As("entries"), templates)),
        Some("csv") => from_table(&content, b',', templates),
        Some("tsv") => from_table(&content, b'\t', templates),
        _ => {
            let lines = file::numbered_lines(&content);
            let entries = lines.map(|(line, label)| Entry::new(line, label.to_owned()));
            label_set(entries.collect(), Written::As("lines"), templates)
        }
    };
    classes.with_context(|| format!("cannot use the labels file {}", path.display()))
}

/// What ImageNet calls the classes that these WordNet ids name, alone (`n02099601`) or before a name
/// (`n02099601-golden_retriever`); none unless all of them are known.
pub fn wordnet_names(classes: &[String]) -> Option<Vec<String>> {
    let is_id = |name: &String| name.len() >= 9 && name.starts_with('n');
    if !classes.iter().all(is_id) {
        return None;
    }
    let content = built_in::labels("imagenet")?;
    let entries = table::read(content, b',').ok()?.entries;
    let keyed = entries
        .iter()
        .filter_map(|entry| Some((entry.key.as_deref()?, &entry.label)));
    let names: HashMap<&str, &String> = keyed.collect();
    let name = |class: &String| names.get(class.get(..9)?).map(|name| (*name).clone());
    classes.iter().map(name).collect()
}

fn from_table(content: &str, delimiter: u8, templates: &Templates) -> anyhow::Result<LabelSet> {
    let table = table::read(content, delimiter)?;
    let mut set = label_set(table.entries, Written::AsTable, templates)?;
    set.warnings = table.warnings;
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// A labels file of that name and content, read with two templates.
    fn from_file(name: &str, content: &[u8]) -> Result<LabelSet, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let templates = Templates::from_arguments(&strings(&["{}", "my {label}"])).unwrap();
        labels_from_file(&path, &templates).map_err(|error| {
            assert!(format!("{error:#}").contains(&*path.to_string_lossy()));
            error.chain().last().unwrap().to_string()
        })
    }

    #[test]
    fn arguments_are_labels_as_typed() {
        let labels = |labels: &[&str]| labels_from_arguments(&strings(labels), &Templates::none());
        let set = labels(&["# 1", " a cat "]).unwrap();
        let expected = ["# 1", " a cat "].map(|label| Class {
            label: label.to_owned(),
            prompts: vec![label.to_owned()],
            key: None,
        });
        assert_eq!(set.classes, expected);
        let cases: [(&[&str], &str); 3] = [
            (&[], "there are no labels; give at least one"),
            (
                &["cat", " "],
                "label 2 is empty; remove it or write its text",
            ),
            (
                &["cat", "dog", "cat"],
                "label \"cat\" is there twice (labels 1 and 3); remove one",
            ),
        ];
        for (arguments, expected) in cases {
            assert_eq!(labels(arguments).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn labels_files_are_read() {
        let cat = ("cat", vec!["cat", "my cat"]);
        let dog = ("a dog", vec!["a dog", "my a dog"]);
        let both = vec![cat.clone(), dog.clone()];
        type Classes<'a> = Vec<(&'a str, Vec<&'a str>)>;
        let cases: &[(&str, &[u8], Classes<'_>)] = &[
            ("l.txt", b"cat\na dog\n", both.clone()),
            (
                "l.txt",
                b"\xef\xbb\xbfcat\r\n\r\n  # no\r\na dog",
                both.clone(),
            ),
            ("labels", b"# only\n\tcat \n", vec![cat.clone()]),
            ("l.txt", "é\n".as_bytes(), vec![("é", vec!["é", "my é"])]),
            ("l.json", b"[\"cat\", \"a dog\"]", both.clone()),
            ("l.JSON", b"\xef\xbb\xbf[\"cat\"]", vec![cat.clone()]),
            ("l.json", b"{\"cat\": [], \"a dog\": null}", both.clone()),
            ("l.csv", b"cat\na dog\n", both.clone()),
            ("l.csv", b"Label\r\ncat\r\n\r\n\"a dog\"", both.clone()),
            ("l.tsv", b"key\tclass\n7\tcat\n8\ta dog\n", both),
            (
                "l.json",
                b"{\"z\": [\"{} 1\", \"2\"], \"a\": \"3\"}",
                vec![("z", vec!["{} 1", "2"]), ("a", vec!["3"])],
            ),
            ("l.json", b"[\"# 1\"]", vec![("# 1", vec!["# 1", "my # 1"])]),
            (
                "l.json",
                br#"{"z": {"alias": "y", "prompt": ["a {}"], "key": "1"}, "a": {"text": "b"}}"#,
                vec![("z", vec!["y", "my y", "a {}"]), ("a", vec!["b", "my b"])],
            ),
            (
                "l.csv",
                b"# 1,a cat,\"a cat, asleep\"\nz,,\n# 1,a kitten\n",
                vec![
                    ("# 1", vec!["a cat", "a cat, asleep", "a kitten"]),
                    ("z", vec!["z", "my z"]),
                ],
            ),
            (
                "l.csv",
                b"alias,name,alias,description\nkitten,cat,tabby,\n,cat,,a {}\n,dog,,a dog\n,dog,,\n",
                vec![
                    ("cat", vec!["cat", "my cat", "kitten", "my kitten", "tabby", "my tabby", "a {}"]),
                    ("dog", vec!["dog", "my dog", "a dog"]),
                ],
            ),
            (
                "l.csv",
                b"label,text\nmissile (2),missile\n",
                vec![("missile (2)", vec!["missile", "my missile"])],
            ),
        ];
        for &(name, content, ref expected) in cases {
            let shown = String::from_utf8_lossy(content);
            let set = from_file(name, content).unwrap();
            let found = set.classes.iter().map(|class| {
                let prompts = class.prompts.iter().map(String::as_str);
                (class.label.as_str(), prompts.collect())
            });
            assert_eq!(&found.collect::<Classes<'_>>(), expected, "{shown}");
            assert_eq!(set.warnings, Vec::<String>::new());
        }
    }

    #[test]
    fn a_table_brings_keys_and_what_is_odd_about_it() {
        let set = from_file("l.csv", b"label,folder,count\ncat,n02,7\ndog,,8\n").unwrap();
        let keys: Vec<_> = set
            .classes
            .iter()
            .map(|class| class.key.as_deref())
            .collect();
        assert_eq!(keys, [Some("n02"), None]);
        assert_eq!(set.warnings.len(), 1);
        assert!(set.warnings[0].starts_with("column \"count\" is not read"));
        let text = from_file("l.csv", b"cat,7\n").unwrap();
        assert_eq!((text.uses_templates, text.warnings.len()), (false, 0));
        assert!(set.uses_templates);
    }

    #[test]
    fn built_in_labels_are_the_published_ones() {
        let set = |name: &str| labels_from_file(Path::new(name), &Templates::none()).unwrap();
        let cases = [
            ("imagenet", 1000, "tench", "toilet paper"),
            ("cifar10", 10, "airplane", "truck"),
            ("cifar100", 100, "apple", "worm"),
            ("food101", 101, "apple pie", "waffles"),
        ];
        for (name, count, first, last) in cases {
            let classes = set(name).classes;
            assert_eq!(classes.len(), count);
            assert_eq!(
                (&*classes[0].label, &*classes[count - 1].label),
                (first, last)
            );
        }
        for name in label_names() {
            assert_eq!(set(name).warnings, Vec::<String>::new(), "{name}");
            assert!(Templates::named_or_file(name).is_ok(), "{name}");
        }
        let imagenet = set("imagenet").classes;
        let second = &imagenet[744];
        assert_eq!(second.label, "missile (projectile)");
        assert_eq!(
            (&second.prompts, &imagenet[657].prompts),
            (&strings(&["missile"]), &strings(&["missile"]))
        );
        assert_eq!(second.key.as_deref(), Some("n04008634"));
        assert!(imagenet.iter().all(|class| class.key.is_some()));
        assert_eq!(
            set("fer2013").classes[5].prompts,
            ["surprised", "shocked", "spooked"]
        );
    }

    #[test]
    fn unusable_labels_files_are_refused() {
        let cases: &[(&str, &[u8], &str)] = &[
            ("l.txt", b"", "there are no labels"),
            ("l.txt", b"# none\n\n", "there are no labels"),
            (
                "l.txt",
                b"cat\n#\ncat\n",
                "label \"cat\" is there twice (lines 1 and 3)",
            ),
            ("l.txt", b"cat\nca\xff\n", "line 2 is not UTF-8"),
            ("l.txt", b"\xff\xfec\0a\0t\0", "UTF-16"),
            ("l.json", b"{}", "there are no labels"),
            (
                "l.json",
                b"{\"a\": \"x\", \"b\": [], \"a\": \"y\"}",
                "label \"a\" is there twice (entries 1 and 3)",
            ),
            (
                "l.json",
                b"{\"a\": [\"\"]}",
                "class \"a\" has an empty prompt",
            ),
            ("l.json", b"[\"a\", \"\"]", "label 2 is empty"),
            (
                "l.json",
                b"{\"a\": 1}",
                "a prompt or a list of prompts, or an object of prompt, alias, text and key at line 1 column 8",
            ),
            (
                "l.json",
                b"[\"a\",",
                "EOF while parsing a value at line 1 column 5",
            ),
            (
                "l.json",
                br#"{"a": {"promt": "x"}}"#,
                "an object of prompt, alias, text and key",
            ),
            ("l.json", br#"{"a": {"alias": " "}}"#, "an empty alias"),
            ("l.json", br#"{"a": {"text": ""}}"#, "an empty text"),
            ("l.csv", b"label\n", "there are no labels"),
            (
                "l.csv",
                b"cat\ndog\ncat\n",
                "\"cat\" is there twice (lines 1 and 3)",
            ),
            ("l.csv", b"label,prompt\ncat,a\n,b\n", "line 3 has no label"),
            (
                "l.csv",
                b"label\na cat, asleep\n",
                "line 2 has 2 cells, the header 1",
            ),
            (
                "l.csv",
                b"label,class\na,b\n",
                "more than one column of labels",
            ),
            (
                "l.csv",
                b"a,b\n\"c\nd\ne\n",
                "begins on line 2 goes over several lines",
            ),
            (
                "l.csv",
                b"key,label\n1,a\n1,b\n",
                "key \"1\" stands for both \"a\" and \"b\"",
            ),
            (
                "l.csv",
                b"key,label,alias\n1,a,x\n2,a,y\n",
                "\"a\" has two values of key (lines 2 and 3)",
            ),
        ];
        for &(name, content, expected) in cases {
            let error = from_file(name, content).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let missing = |name| {
            let error = labels_from_file(Path::new(name), &Templates::none()).unwrap_err();
            error.to_string()
        };
        assert_eq!(missing("no such file.txt"), "cannot read no such file.txt");
        let start = "no labels \"imagnet\": neither a built-in set (imagenet, aircraft, ";
        assert!(missing("imagnet").starts_with(start));
    }
}
