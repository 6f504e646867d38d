//! Parses Python lists and dictionaries: `{0: 'tench', …}`, `names = ["cat", …]`, `[lambda c: f'a
//! {c}.', …]`.

#![deny(clippy::indexing_slicing)]

use anyhow::{Context as _, Result, bail, ensure};

use super::document::Node;

/// Maximum depth, more than any list of labels has.
const MAX_DEPTH: usize = 32;

/// Parses one literal, optionally after `name =`. JSON is accepted as well. Adjacent strings, which
/// Python joins, are refused: a comma is missing.
///
/// # Errors
/// Names the line.
pub(super) fn parse(text: &str) -> Result<Node> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    let parsed = parser.whole();
    parsed.with_context(|| format!("line {}", parser.line()))
}

/// Whether a text begins like such a literal.
pub(super) fn begins(text: &str) -> bool {
    let rest = after_name(text.trim_start());
    rest.starts_with(['[', '{', '('])
}

/// The text after `name =` or `name: list =`, if that is how it begins.
fn after_name(text: &str) -> &str {
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let name = text.split(|c| !is_name(c)).next().unwrap_or_default();
    let rest = text.get(name.len()..).unwrap_or_default().trim_start();
    match rest.strip_prefix('=') {
        Some(value) if !name.is_empty() && !value.starts_with('=') => value.trim_start(),
        _ => text,
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn line(&self) -> usize {
        let before = self.text.get(..self.at).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    /// Skips white space and comments.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start().len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn accept(&mut self, wanted: char) -> bool {
        self.skip();
        let is_next = self.rest().starts_with(wanted);
        if is_next {
            self.at += wanted.len_utf8();
        }
        is_next
    }

    fn whole(&mut self) -> Result<Node> {
        self.skip();
        self.at = self.text.len() - after_name(self.rest()).len();
        let node = self.value()?;
        self.accept(',');
        self.accept(';');
        self.skip();
        ensure!(self.rest().is_empty(), "unexpected text after the list");
        Ok(node)
    }

    fn value(&mut self) -> Result<Node> {
        self.skip();
        ensure!(self.depth < MAX_DEPTH, "the lists are nested too deeply");
        self.depth += 1;
        let node = match self.rest().chars().next() {
            Some('[') => self.list(']'),
            Some('(') => self.list(')'),
            Some('{') => self.braces(),
            Some('"' | '\'') => Ok(Node::Text(self.string()?)),
            Some(c) if c.is_ascii_digit() || c == '-' => Ok(self.number()),
            Some(_) => self.word(),
            None => bail!("the list does not end"),
        };
        self.depth -= 1;
        node
    }

    fn list(&mut self, end: char) -> Result<Node> {
        self.at += 1;
        let mut nodes = Vec::new();
        while !self.accept(end) {
            nodes.push(self.value()?);
            self.separator(end)?;
        }
        Ok(Node::List(nodes))
    }

    /// A dictionary, or a set.
    fn braces(&mut self) -> Result<Node> {
        self.at += 1;
        let (mut pairs, mut nodes) = (Vec::new(), Vec::new());
        while !self.accept('}') {
            let first = self.value()?;
            if self.accept(':') {
                let name = first
                    .scalar()
                    .context("a key is neither a string nor a number")?;
                pairs.push((name.to_owned(), self.value()?));
            } else {
                nodes.push(first);
            }
            self.separator('}')?;
        }
        ensure!(
            pairs.is_empty() || nodes.is_empty(),
            "some entries have keys, some have none"
        );
        Ok(if nodes.is_empty() {
            Node::Map(pairs)
        } else {
            Node::List(nodes)
        })
    }

    fn separator(&mut self, end: char) -> Result<()> {
        self.skip();
        let is_there = self.rest().starts_with(end) || self.accept(',');
        ensure!(is_there, "a comma is missing");
        Ok(())
    }

    fn number(&mut self) -> Node {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        let rest = self.rest();
        let digits = rest.split(|c| !is_part(c)).next().unwrap_or_default();
        self.at += digits.len().max(1);
        Node::Number(digits.to_owned())
    }

    /// A constant, the prefix of a string, or a function that fills a template.
    fn word(&mut self) -> Result<Node> {
        let rest = self.rest();
        let word = rest
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        let word = word.unwrap_or_default();
        self.at += word.len();
        let is_string = self.rest().starts_with(['"', '\'']);
        match word {
            "None" | "null" => Ok(Node::Null),
            "True" | "true" => Ok(Node::Bool(true)),
            "False" | "false" => Ok(Node::Bool(false)),
            "f" | "F" | "u" | "U" if is_string => Ok(Node::Text(self.string()?)),
            "lambda" => self.function(),
            _ => bail!(
                "{:?} is not a string, number, list or dictionary",
                start_of(rest)
            ),
        }
    }

    /// `lambda c: f'a photo of a {c}.'`: the text with its placeholder written as `{}`.
    fn function(&mut self) -> Result<Node> {
        self.skip();
        let rest = self.rest();
        let name = rest
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        let name = name.unwrap_or_default();
        self.at += name.len();
        ensure!(
            !name.is_empty() && self.accept(':'),
            "the function is not of the form lambda c: f\"a {{c}}.\""
        );
        match self.value()? {
            Node::Text(text) => Ok(Node::Text(text.replace(&format!("{{{name}}}"), "{}"))),
            _ => bail!("the function is not of the form lambda c: f\"a {{c}}.\""),
        }
    }

    fn string(&mut self) -> Result<String> {
        let rest = self.rest();
        let quote = rest.chars().next().unwrap_or_default();
        let triple = [quote; 3].iter().collect::<String>();
        ensure!(
            !rest.starts_with(&triple),
            "a string has triple quotes; write it with single ones"
        );
        let mut found = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => found.push(escaped(&mut chars)?),
                '\n' => bail!("a string extends over the end of the line; is a quote missing?"),
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(found);
                }
                c => found.push(c),
            }
        }
        bail!("a string does not end; is a quote missing?")
    }
}

/// The character of an escape sequence.
fn escaped(chars: &mut impl Iterator<Item = (usize, char)>) -> Result<char> {
    let mut next = || chars.next().map(|(_, c)| c).unwrap_or_default();
    let digits = match next() {
        'n' => return Ok('\n'),
        't' => return Ok('\t'),
        c @ ('\\' | '"' | '\'' | '/') => return Ok(c),
        'x' => 2,
        'u' => 4,
        c => bail!("\\{c} in a string is not supported"),
    };
    let code: String = (0..digits).map(|_| next()).collect();
    let found = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
    found.with_context(|| format!("\\{code} in a string is not a character"))
}

fn start_of(text: &str) -> String {
    text.chars().take(20).take_while(|c| *c != '\n').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_in_python() {
        let cases = [
            ("['cat', \"it's\", ]", r#"["cat","it's"]"#),
            (
                "names = [\n  'cat',  # a pet\n  'dog'\n]\n",
                r#"["cat","dog"]"#,
            ),
            (
                "{0: 'tench, Tinca tinca',\n 1: \"goldfish\"}",
                r#"{"0":"tench, Tinca tinca","1":"goldfish"}"#,
            ),
            (
                "{'cat': ('a cat', 'it\\'s'), 'dog': None}",
                r#"{"cat":["a cat","it's"],"dog":null}"#,
            ),
            ("('cat', 'dog')", r#"["cat","dog"]"#),
            ("{'cat', 'dog'}", r#"["cat","dog"]"#),
            (
                "[lambda c: f'a {c}, the {c}.', f\"a {c}\", u'é\\u00e9']",
                r#"["a {}, the {}.","a {c}","éé"]"#,
            ),
            ("{\"a\": [1, -2.5, true]}", r#"{"a":[1,-2.5,true]}"#),
            ("[]", "[]"),
        ];
        for (text, expected) in cases {
            assert!(begins(text), "{text}");
            let expected: Node = serde_json::from_str(expected).unwrap();
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in ["cat", "a = b", "x == [1]", "lambda c: c"] {
            assert!(!begins(text), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_their_line() {
        let deep = "[".repeat(100_000);
        let cases = [
            ("['cat'\n 'dog']", "line 2: a comma is missing"),
            ("['cat',\n 'do", "a string does not end"),
            ("['cat\n']", "extends over the end"),
            ("['cat',", "does not end"),
            ("[os.listdir('x')]", "\"os.listdir('x')]\" is not a string"),
            ("['a'] + ['b']", "unexpected text after"),
            ("{'a': 1, 'b'}", "some have none"),
            ("['\\q']", "not supported"),
            ("['\\ud800']", "not a character"),
            ("['''a''']", "triple quotes"),
            ("[lambda: 'x']", "not of the form"),
            (&deep, "nested too deeply"),
        ];
        for (text, part) in cases {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
