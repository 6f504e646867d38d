//! Labels x templates -> prompts: what the text tower reads for each class.
//!
//! A label is what the user calls a class and what the records show; a prompt is a
//! text that stands for it. Labels files are one label a line, or JSON:
//!
//! - `{"cat": ["a photo of a cat", "a kitten"], "dog": "a dog"}`: these are complete
//!   prompts, read as they stand. Templates apply only to classes that bring none
//!   (`"bird": []` or `"bird": null`).
//! - `["cat", "dog"]`: labels, as if on lines of their own; the way to write a label that
//!   begins with `#`.
//!
//! The order of the classes is the order in which they were written.

mod file;

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};

/// One class: what it is called and the texts that stand for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The text as typed; what records show.
    pub label: String,
    /// Complete prompts, at least one.
    pub prompts: Vec<String>,
}

/// The classes to choose from: at least one, no label twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSet {
    /// In the order in which they were written.
    pub classes: Vec<Class>,
}

/// Texts into which a label is put: at least one, each with a place for the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates(Vec<String>);

/// What `--templates` knows by name; the files come with their licence.
const BUILT_IN: [(&str, &str); 4] = [
    ("none", "{}"),
    ("photo", include_str!("../../assets/templates/photo.txt")),
    (
        "openai80",
        include_str!("../../assets/templates/openai80.txt"),
    ),
    (
        "openai7",
        include_str!("../../assets/templates/openai7.txt"),
    ),
];

impl Templates {
    /// The label as typed, the default.
    pub fn none() -> Self {
        Self(vec!["{}".to_owned()])
    }

    /// The templates of `--template`.
    ///
    /// # Errors
    /// When there are none, or one has neither `{}` nor `{label}`.
    pub fn from_arguments(templates: &[String]) -> anyhow::Result<Self> {
        Self::checked(templates.to_vec())
    }

    /// The templates of `--templates NAME|FILE`: a built-in set (`none`, `photo`,
    /// `openai80`, `openai7`; names win over files), or a file with one template a line,
    /// `#` comments and blank lines skipped.
    ///
    /// # Errors
    /// When it is neither, or the file's templates are not usable.
    pub fn named_or_file(name: &str) -> anyhow::Result<Self> {
        if let Some((_, content)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::checked(texts(file::lines(content)));
        }
        let path = Path::new(name);
        ensure!(
            path.exists(),
            "no templates {name:?}: neither a built-in name ({}) nor a file",
            BUILT_IN.map(|(known, _)| known).join(", ")
        );
        let content = file::read(path)?;
        Self::checked(texts(file::lines(&content)))
            .with_context(|| format!("cannot use the templates file {}", path.display()))
    }

    /// The prompts for one label, one for each template.
    pub fn fill(&self, label: &str) -> Vec<String> {
        // The label goes in last and is not searched again: it may hold braces itself.
        let fill_one = |template: &String| template.replace("{label}", "{}").replace("{}", label);
        self.0.iter().map(fill_one).collect()
    }

    fn checked(templates: Vec<String>) -> anyhow::Result<Self> {
        ensure!(
            !templates.is_empty(),
            "there are no templates; give at least one"
        );
        let has_place = |template: &str| template.contains("{}") || template.contains("{label}");
        if let Some(template) = templates.iter().find(|template| !has_place(template)) {
            bail!("template {template:?} has no place for the label; write {{}} where it goes");
        }
        Ok(Self(templates))
    }
}

impl Default for Templates {
    fn default() -> Self {
        Self::none()
    }
}

/// The classes of `--labels`, as typed.
///
/// # Errors
/// When there are none, one is empty, or one is given twice.
pub fn labels_from_arguments(labels: &[String], templates: &Templates) -> anyhow::Result<LabelSet> {
    let entries = labels.iter().zip(1..).map(|(label, place)| Entry {
        place,
        label: label.clone(),
        prompts: Vec::new(),
    });
    label_set(entries.collect(), "labels", templates)
}

/// The classes of `--labels-file`; a file named `*.json` is JSON, any other has one label
/// a line. UTF-8 with or without a byte order mark, lines end in `\n` or `\r\n`.
///
/// # Errors
/// When the file cannot be read, is not UTF-8 (the line is named), is not such JSON, has
/// no labels, or has an empty label or one twice (both places are named).
pub fn labels_from_file(path: &Path, templates: &Templates) -> anyhow::Result<LabelSet> {
    let content = file::read(path)?;
    let is_json = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let classes = if is_json {
        file::json(&content).and_then(|entries| label_set(entries, "entries", templates))
    } else {
        label_set(file::lines(&content), "lines", templates)
    };
    classes.with_context(|| format!("cannot use the labels file {}", path.display()))
}

/// A class as written.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Line or position, from 1.
    place: usize,
    label: String,
    /// The class's own prompts; empty where templates apply.
    prompts: Vec<String>,
}

fn texts(entries: Vec<Entry>) -> Vec<String> {
    entries.into_iter().map(|entry| entry.label).collect()
}

fn label_set(entries: Vec<Entry>, places: &str, templates: &Templates) -> anyhow::Result<LabelSet> {
    ensure!(
        !entries.is_empty(),
        "there are no labels; give at least one"
    );
    let mut seen = HashMap::with_capacity(entries.len());
    for Entry {
        place,
        label,
        prompts,
    } in &entries
    {
        ensure!(
            !label.trim().is_empty(),
            "label {place} is empty; remove it or write its text"
        );
        if let Some(first) = seen.insert(label.as_str(), place) {
            bail!("label {label:?} is there twice ({places} {first} and {place}); remove one");
        }
        ensure!(
            prompts.iter().all(|prompt| !prompt.trim().is_empty()),
            "class {label:?} has an empty prompt; remove it or write its text"
        );
    }
    let to_class = |entry: Entry| Class {
        prompts: if entry.prompts.is_empty() {
            templates.fill(&entry.label)
        } else {
            entry.prompts
        },
        label: entry.label,
    };
    let classes = entries.into_iter().map(to_class).collect();
    Ok(LabelSet { classes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// A labels file of that name and content, read with two templates.
    fn from_file(name: &str, content: &[u8]) -> Result<Vec<(String, Vec<String>)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let templates = Templates::from_arguments(&strings(&["{}", "my {label}"])).unwrap();
        labels_from_file(&path, &templates)
            .map(|set| {
                let pair = |class: Class| (class.label, class.prompts);
                set.classes.into_iter().map(pair).collect()
            })
            .map_err(|error| {
                assert!(format!("{error:#}").contains(&*path.to_string_lossy()));
                error.chain().last().unwrap().to_string()
            })
    }

    #[test]
    fn built_in_templates_are_the_published_ones() {
        let counts = BUILT_IN.map(|(name, _)| {
            let prompts = Templates::named_or_file(name).unwrap().fill("cat");
            assert!(
                prompts.iter().all(|prompt| prompt.contains("cat")),
                "{name}"
            );
            prompts.len()
        });
        assert_eq!(counts, [1, 1, 80, 7]);
        let filled =
            |name, index: usize| Templates::named_or_file(name).unwrap().fill("cat")[index].clone();
        assert_eq!(filled("none", 0), "cat");
        assert_eq!(filled("photo", 0), "a photo of a cat.");
        assert_eq!(filled("openai80", 0), "a bad photo of a cat.");
        assert_eq!(filled("openai80", 79), "a tattoo of the cat.");
        assert_eq!(filled("openai7", 4), "a cat in a video game.");
        let all = Templates::named_or_file("openai80").unwrap();
        let best = Templates::named_or_file("openai7").unwrap();
        assert!(best.0.iter().all(|template| all.0.contains(template)));
    }

    #[test]
    fn every_place_is_filled_and_the_label_is_left_alone() {
        let cases = [
            ("a {}.", "cat", "a cat."),
            ("{} {label} {}", "x", "x x x"),
            ("a {}", "{label}{}", "a {label}{}"),
            ("100% {{}}", "cat", "100% {cat}"),
            ("{}", " cat ", " cat "),
        ];
        for (template, label, expected) in cases {
            let templates = Templates::from_arguments(&strings(&[template])).unwrap();
            assert_eq!(templates.fill(label), [expected]);
        }
    }

    #[test]
    fn unusable_templates_are_refused() {
        let error = |templates: &[&str]| {
            Templates::from_arguments(&strings(templates))
                .unwrap_err()
                .to_string()
        };
        assert!(error(&["a {}", "a photo"]).starts_with("template \"a photo\" has no place"));
        assert!(error(&[]).starts_with("there are no templates"));
        let unknown = Templates::named_or_file("openai79")
            .unwrap_err()
            .to_string();
        assert!(
            unknown.contains("(none, photo, openai80, openai7)"),
            "{unknown}"
        );
    }

    #[test]
    fn templates_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("templates.txt");
        std::fs::write(&path, "# mine\na {}\n\nthe {label}\r\n").unwrap();
        let templates = Templates::named_or_file(path.to_str().unwrap()).unwrap();
        assert_eq!(templates.fill("cat"), ["a cat", "the cat"]);
        std::fs::write(&path, "a {}\nthe label\n").unwrap();
        let error = Templates::named_or_file(path.to_str().unwrap()).unwrap_err();
        assert!(format!("{error:#}").contains("templates.txt: template \"the label\""));
    }

    #[test]
    fn arguments_are_labels_as_typed() {
        let labels = |labels: &[&str]| labels_from_arguments(&strings(labels), &Templates::none());
        let set = labels(&["# 1", " a cat "]).unwrap();
        let expected = ["# 1", " a cat "].map(|label| Class {
            label: label.to_owned(),
            prompts: vec![label.to_owned()],
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
        let cases: [(&str, &[u8], Classes<'_>); 9] = [
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
            ("l.json", b"{\"cat\": [], \"a dog\": null}", both),
            (
                "l.json",
                b"{\"z\": [\"{} 1\", \"2\"], \"a\": \"3\"}",
                vec![("z", vec!["{} 1", "2"]), ("a", vec!["3"])],
            ),
            ("l.json", b"[\"# 1\"]", vec![("# 1", vec!["# 1", "my # 1"])]),
        ];
        for (name, content, expected) in cases {
            let expected: Vec<(String, Vec<String>)> = expected
                .into_iter()
                .map(|(label, prompts)| (label.to_owned(), strings(&prompts)))
                .collect();
            let shown = String::from_utf8_lossy(content);
            assert_eq!(from_file(name, content).unwrap(), expected, "{shown}");
        }
    }

    #[test]
    fn unusable_labels_files_are_refused() {
        let cases: [(&str, &[u8], &str); 11] = [
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
                "a prompt or a list of prompts at line 1 column 8",
            ),
            (
                "l.json",
                b"[\"a\",",
                "EOF while parsing a value at line 1 column 5",
            ),
        ];
        for (name, content, expected) in cases {
            let error = from_file(name, content).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let missing = labels_from_file(Path::new("no such file"), &Templates::none()).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read no such file");
    }
}
