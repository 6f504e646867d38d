//! Templates: texts with a placeholder for the label.

use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context, Result, bail, ensure};
use regex::{Captures, Regex};

use super::document::{self, Content, Node, Tables};
use crate::input::paths::split_name;
use crate::input::text_file::column;
use crate::input::tokenizer::LONGEST_TEXT;

/// Names of the placeholder in the programs that write templates, in lower case.
const PLACES: [&str; 14] = [
    "",
    "0",
    "c",
    "category",
    "class",
    "class_name",
    "classname",
    "cls",
    "item",
    "l",
    "label",
    "label_name",
    "name",
    "text",
];
static PLACE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\{([A-Za-z0-9_]*)\}").expect("a constant expression that the tests compile")
});

/// Texts with a placeholder for the label: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates {
    /// With `{}` for each placeholder.
    texts: Vec<String>,
    note: Option<String>,
}

impl Templates {
    /// The label unchanged, the default.
    pub fn none() -> Self {
        Self {
            texts: vec!["{}".to_owned()],
            note: None,
        }
    }

    /// Whether labels are used unchanged.
    pub(crate) fn are_none(&self) -> bool {
        self.texts == ["{}"]
    }

    /// The templates of `--template`.
    ///
    /// # Errors
    /// When there are none, or one has no placeholder such as `{}` or `{label}`.
    pub(crate) fn from_arguments(templates: &[String]) -> Result<Self> {
        Self::checked(templates.iter().map(String::as_str))
    }

    /// The templates of `--templates NAME|FILE`: a built-in set (names take precedence over files),
    /// or a file with one template per line, `#` comments and blank lines skipped, or with a list
    /// in JSON, YAML or Python. `FILE:NAME` is one list of a file that has several.
    ///
    /// # Errors
    /// When it is neither, or the file's templates are not usable.
    pub(crate) fn named_or_file(name: &str) -> Result<Self> {
        if let Some(content) = super::templates(name) {
            return Self::checked(document::lines(content).map(|(_, line)| line));
        }
        let (path, list) = split_name(Path::new(name));
        let (path, list) = (path.as_path(), list.as_deref());
        ensure!(
            path.exists() || name == "-",
            "no templates {name:?}: it is neither a built-in set ({}) nor a file",
            super::template_names().collect::<Vec<_>>().join(", ")
        );
        let document = document::read(path, Tables::AsLines)?;
        let read = || -> Result<Self> {
            let texts = match document.content {
                Content::Node(node) => of_node(node, list, name)?,
                Content::Lines(items) => {
                    ensure!(
                        list.is_none(),
                        "it has one list of templates, without a name"
                    );
                    items.into_iter().map(|item| item.text).collect()
                }
                Content::Table(_) => bail!("it is a table, which cannot hold templates"),
            };
            Self::checked(texts.iter().map(String::as_str))
        };
        let templates = read();
        let mut templates = templates
            .with_context(|| format!("cannot use the templates file {}", path.display()))?;
        templates.note = document::note(path, &document.notes);
        Ok(templates)
    }

    /// Notes on what was guessed about the file.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Fails if a template with this label in it is longer than any text, before it is filled.
    pub(crate) fn check_length(&self, label: &str) -> Result<()> {
        for template in &self.texts {
            let places = template.matches("{}").count();
            let bytes = (template.len() - 2 * places).saturating_add(places * label.len());
            ensure!(
                bytes <= LONGEST_TEXT,
                "a template with {places} placeholders makes a text of {bytes} bytes of a label of \
                 {}, too many for one text (at most {LONGEST_TEXT}); shorten it",
                label.len()
            );
        }
        Ok(())
    }

    /// The prompts for one label, one per template.
    pub fn fill(&self, label: &str) -> Vec<String> {
        // The label is inserted last and not searched again: it may contain braces itself.
        let fill_one = |template: &String| template.replace("{}", label);
        self.texts.iter().map(fill_one).collect()
    }

    fn checked<'a>(templates: impl Iterator<Item = &'a str>) -> Result<Self> {
        let texts = templates.map(with_places).collect::<Result<Vec<_>>>()?;
        ensure!(
            !texts.is_empty(),
            "there are no templates; pass at least one"
        );
        Ok(Self { texts, note: None })
    }
}

impl Default for Templates {
    fn default() -> Self {
        Self::none()
    }
}

/// The template with its placeholders written as `{}`.
fn with_places(template: &str) -> Result<String> {
    let is_known = |found: &Captures<'_>| {
        let name = found.get(1).map_or("", |name| name.as_str());
        PLACES.contains(&name.to_lowercase().as_str())
    };
    if let Some(unknown) = PLACE.captures_iter(template).find(|found| !is_known(found)) {
        bail!(
            "template {template:?} has {}, which is not a placeholder; write {{}} for the label",
            unknown.get(0).map_or("", |place| place.as_str())
        );
    }
    ensure!(
        !template.contains('\0'),
        "template {template:?} contains a NUL; remove it"
    );
    ensure!(
        PLACE.is_match(template),
        "template {template:?} has no placeholder for the label; write {{}} where it goes"
    );
    Ok(PLACE.replace_all(template, "{}").into_owned())
}

/// The templates of a list, of the list of that name in an object, or of its only list.
fn of_node(node: Node, list: Option<&str>, file: &str) -> Result<Vec<String>> {
    let pairs = match (node, list) {
        (Node::Map(pairs), _) => pairs,
        (_, Some(_)) => bail!("it has one list of templates, without a name"),
        (node, None) => return of_list(node),
    };
    let names = pairs
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>();
    let shown = names.join(", ");
    let is_wanted = |name: &String| match list {
        Some(list) => name == list,
        None => pairs.len() == 1 || column::TEMPLATE.contains(&column::key(name).as_str()),
    };
    match (pairs.iter().find(|(name, _)| is_wanted(name)), list) {
        (Some((_, node)), _) => of_list(node.clone()),
        (None, Some(list)) => bail!("it has no list {list:?}; it has {shown}"),
        (None, None) => bail!(
            "it has several lists, {shown}; name one, such as --templates {file}:{}, or pass a \
             file with the prompts of each label to --labels-file",
            names.first().unwrap_or(&"NAME")
        ),
    }
}

fn of_list(node: Node) -> Result<Vec<String>> {
    let kind = node.kind();
    let Node::List(nodes) = node else {
        match node {
            Node::Text(text) => return Ok(vec![text]),
            _ => bail!("it has {kind}, but a list of templates is expected"),
        }
    };
    let text = |(number, node): (usize, Node)| match node {
        Node::Text(text) => Ok(text),
        Node::Map(fields) => {
            let is_template = |(name, node): &&(String, Node)| {
                node.is_text() && column::TEMPLATE.contains(&column::key(name).as_str())
            };
            let found = fields.iter().find(is_template);
            let text = found.and_then(|(_, node)| node.scalar()).map(str::to_owned);
            text.with_context(|| format!("entry {number} has no field template"))
        }
        node => bail!("entry {number} is {}, not a template", node.kind()),
    };
    (1..).zip(nodes).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_arguments(templates: &[&str]) -> anyhow::Result<Templates> {
        let templates: Vec<_> = templates.iter().map(|text| (*text).to_owned()).collect();
        Templates::from_arguments(&templates)
    }

    #[test]
    fn built_in_templates_are_the_published_ones() {
        #[rustfmt::skip]
        let cases: [(&str, usize, &str, &str); 9] = [
            ("none", 1, "cat", "cat"),
            ("photo", 1, "a photo of a cat.", "a photo of a cat."),
            ("openai80", 80, "a bad photo of a cat.", "a tattoo of the cat."),
            ("imagenet", 80, "a bad photo of a cat.", "a tattoo of the cat."),
            ("openai7", 7, "itap of a cat.", "a photo of the small cat."),
            ("cifar10", 18, "a photo of a cat.", "a photo of the big cat."),
            ("food101", 1, "a photo of cat, a type of food.", "a photo of cat, a type of food."),
            (
                "eurosat",
                3,
                "a centered satellite photo of cat.",
                "a centered satellite photo of the cat.",
            ),
            (
                "ucf101",
                48,
                "a photo of a person cat.",
                "a demonstration of the person practicing cat.",
            ),
        ];
        for (name, count, first, last) in cases {
            let prompts = Templates::named_or_file(name).unwrap().fill("cat");
            assert_eq!(prompts.len(), count, "{name}");
            assert_eq!((&*prompts[0], &*prompts[count - 1]), (first, last));
        }
        for name in crate::input::prompt::template_names() {
            let prompts = Templates::named_or_file(name).unwrap().fill("cat");
            assert!(
                prompts.iter().all(|prompt| prompt.contains("cat")),
                "{name}"
            );
        }
        let all = Templates::named_or_file("openai80").unwrap();
        let best = Templates::named_or_file("openai7").unwrap();
        assert!(
            best.texts
                .iter()
                .all(|template| all.texts.contains(template))
        );
    }

    #[test]
    fn every_placeholder_is_filled_and_the_label_is_not_searched() {
        let cases = [
            ("a {}.", "cat", "a cat."),
            ("{} {label} {}", "x", "x x x"),
            ("a {}", "{label}{}", "a {label}{}"),
            ("100% {{}}", "cat", "100% {cat}"),
            ("{}", " cat ", " cat "),
        ];
        for (template, label, expected) in cases {
            let templates = from_arguments(&[template]).unwrap();
            assert_eq!(templates.fill(label), [expected]);
        }
    }

    #[test]
    fn unusable_templates_are_refused() {
        let error = |templates: &[&str]| from_arguments(templates).unwrap_err().to_string();
        assert!(error(&["a {}", "a photo"]).starts_with("template \"a photo\" has no placeholder"));
        assert!(error(&[]).starts_with("there are no templates"));
        assert!(error(&["a {} {adjective}"]).contains("{adjective}, which is not a placeholder"));
        let unknown = Templates::named_or_file("openai79")
            .unwrap_err()
            .to_string();
        assert!(
            unknown.contains("(none, imagenet, photo, openai80, openai7, "),
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
    fn files_of_many_forms_hold_the_same_templates() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Templates::named_or_file(path.to_str().unwrap())
        };
        #[rustfmt::skip]
        let cases = [
            ("t.json", r#"["a {}.", "the {}, x"]"#),
            ("t.txt", r#"["a {}.", "the {}, x"]"#),
            ("t.json", r#"{"cars": ["a {c}.", "the {c}, x"]}"#),
            (
                "t.json",
                r#"{"classes": ["cat"], "templates": ["a {c}.", "the {c}, x"]}"#,
            ),
            ("t.jsonl", "{\"template\": \"a {}.\"}\n{\"template\": \"the {}, x\"}\n"),
            ("t.txt", "{\"template\": \"a {}.\"}\n{\"template\": \"the {}, x\"}\n"),
            ("t.txt", "'a {}.',\n'the {}, x',\n"),
            ("t.txt", "\"a {}.\"\n\"the {}, x\"\n"),
            ("t.csv", "template\n\"a {}.\"\n\"the {}, x\"\n"),
            ("t.csv", "a {}.\nthe {}, x\n"),
            ("t.txt", "imagenet_templates = [\n    'a {}.',\n    'the {}, x',\n]\n"),
            ("t.txt", "lambda c: f'a {c}.',\nlambda c: f'the {c}, x',\n"),
            ("t.py", "t = (\n  lambda name: f\"a {name}.\",\n  lambda c: f\"the {c}, x\",\n)\n"),
            ("t.txt", "a {classname}.\nthe {CLASS}, x\n"),
            ("t.txt", "0: a {}.\n1: the {}, x\n"),
            ("t.yaml", "templates:\n  - a {}.\n  - 'the {}, x'\n"),
            ("t.txt", "- a {}.\n- the {}, x\n"),
        ];
        for (name, content) in cases {
            let templates = read(name, content).unwrap();
            assert_eq!(templates.fill("cat"), ["a cat.", "the cat, x"], "{content}");
        }
        let refused = [
            (
                r#"{"birds": ["a {c}."], "cars": ["my {c}."]}"#,
                ":birds, or pass",
            ),
            ("[1]", "entry 1 is a number"),
            (r#"["a cat"]"#, "no placeholder"),
            ("[\"a {}.\"\n\"the {}\"]", "neither"),
            ("{\n  a {}\n}\n", "neither"),
        ];
        for (content, part) in refused {
            let error = format!("{:#}", read("several.txt", content).unwrap_err());
            assert!(error.contains(part), "{content}: {error}");
        }
        read("several.json", refused[0].0).unwrap_err();
        let one = format!("{}:cars", folder.path().join("several.json").display());
        assert_eq!(
            Templates::named_or_file(&one).unwrap().fill("cat"),
            ["my cat."]
        );
        let none = format!("{}:pets", folder.path().join("several.json").display());
        let error = format!("{:#}", Templates::named_or_file(&none).unwrap_err());
        assert!(error.contains("it has birds, cars"), "{error}");
    }
}
