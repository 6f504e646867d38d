//! Templates: texts into which a label is put.

use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::{built_in, file};

/// Texts into which a label is put: at least one, each with a place for the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates(Vec<String>);

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

    /// The templates of `--templates NAME|FILE`: a built-in set (names win over files), or a file
    /// with one template a line, `#` comments and blank lines skipped.
    ///
    /// # Errors
    /// When it is neither, or the file's templates are not usable.
    pub fn named_or_file(name: &str) -> anyhow::Result<Self> {
        if let Some(content) = built_in::templates(name) {
            return Self::checked(file::lines(content));
        }
        let path = Path::new(name);
        ensure!(
            path.exists() || name == "-",
            "no templates {name:?}: neither a built-in name ({}) nor a file",
            built_in::template_names().collect::<Vec<_>>().join(", ")
        );
        let content = file::read(path)?;
        Self::checked(file::lines(&content))
            .with_context(|| format!("cannot use the templates file {}", path.display()))
    }

    /// The prompts for one label, one for each template.
    pub fn fill(&self, label: &str) -> Vec<String> {
        // The label goes in last and is not searched again: it may hold braces itself.
        let fill_one = |template: &String| template.replace("{label}", "{}").replace("{}", label);
        self.0.iter().map(fill_one).collect()
    }

    fn checked<T: Into<String>>(templates: impl IntoIterator<Item = T>) -> anyhow::Result<Self> {
        let templates: Vec<String> = templates.into_iter().map(Into::into).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn from_arguments(templates: &[&str]) -> anyhow::Result<Templates> {
        let templates: Vec<_> = templates.iter().map(|text| (*text).to_owned()).collect();
        Templates::from_arguments(&templates)
    }

    #[test]
    fn built_in_templates_are_the_published_ones() {
        let cases: [(&str, usize, &str, &str); 9] = [
            ("none", 1, "cat", "cat"),
            ("photo", 1, "a photo of a cat.", "a photo of a cat."),
            (
                "openai80",
                80,
                "a bad photo of a cat.",
                "a tattoo of the cat.",
            ),
            (
                "imagenet",
                80,
                "a bad photo of a cat.",
                "a tattoo of the cat.",
            ),
            ("openai7", 7, "itap of a cat.", "a photo of the small cat."),
            (
                "cifar10",
                18,
                "a photo of a cat.",
                "a photo of the big cat.",
            ),
            (
                "food101",
                1,
                "a photo of cat, a type of food.",
                "a photo of cat, a type of food.",
            ),
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
        for name in built_in::template_names() {
            let prompts = Templates::named_or_file(name).unwrap().fill("cat");
            assert!(
                prompts.iter().all(|prompt| prompt.contains("cat")),
                "{name}"
            );
        }
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
            let templates = from_arguments(&[template]).unwrap();
            assert_eq!(templates.fill(label), [expected]);
        }
    }

    #[test]
    fn unusable_templates_are_refused() {
        let error = |templates: &[&str]| from_arguments(templates).unwrap_err().to_string();
        assert!(error(&["a {}", "a photo"]).starts_with("template \"a photo\" has no place"));
        assert!(error(&[]).starts_with("there are no templates"));
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
}
