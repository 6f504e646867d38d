//! Parses the subset of YAML in which lists of labels and templates are written: nested lists and
//! maps of texts, by indentation or as `[a, b]` on one line. Everything else is refused.

#![deny(clippy::indexing_slicing)]

use anyhow::{Context as _, Result, bail, ensure};

use super::document::Node;

/// Maximum depth, more than any list of labels has.
const MAX_DEPTH: usize = 32;

/// One line with content.
struct Line {
    number: usize,
    indent: usize,
    text: String,
}

/// Parses a document.
///
/// # Errors
/// Names the line that is not supported.
pub(super) fn parse(text: &str) -> Result<Node> {
    let mut lines: Vec<Line> = Vec::new();
    // Whether the last of them has a list that continues below it.
    let mut is_unfinished = false;
    for (number, line) in (1..).zip(text.lines()) {
        let content = without_comment(line).trim_end();
        let bare = content.trim_start();
        if bare.is_empty() || bare == "---" || bare == "..." || bare.starts_with('%') {
            continue;
        }
        if let Some(last) = lines.last_mut().filter(|_| is_unfinished) {
            is_unfinished = !bare.ends_with(']');
            last.text.push(' ');
            last.text.push_str(bare);
            continue;
        }
        let indent = content.len() - bare.len();
        ensure!(
            !content.get(..indent).unwrap_or_default().contains('\t'),
            "line {number} is indented by tabs, which YAML forbids; use spaces"
        );
        is_unfinished = is_open(bare);
        lines.push(Line {
            number,
            indent,
            text: bare.to_owned(),
        });
    }
    let mut parser = Parser { lines: &lines };
    let node = parser.block(0)?;
    match parser.lines.first() {
        None => Ok(node),
        Some(line) => bail!("line {} is not indented like the lines before", line.number),
    }
}

/// Whether a text is YAML rather than one label per line: a line ends in a colon and what follows
/// is indented or a list, or a list follows on the line.
pub(super) fn looks_like(lines: &[(usize, &str)], text: &str) -> bool {
    let opens = |line: &str| {
        key_and_value(line).is_some_and(|(key, value)| {
            let is_name = key
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
            is_name && (value.is_empty() || value.starts_with(['[', '{']))
        })
    };
    text.starts_with("---\n")
        || text.starts_with("---\r\n")
        || lines.iter().any(|(_, line)| opens(line))
}

/// Whether a line is an element of a list.
fn is_element(line: &Line) -> bool {
    line.text == "-" || line.text.starts_with("- ")
}

/// Whether a list begins on a line and continues below it.
fn is_open(text: &str) -> bool {
    let value = key_and_value(text).map_or(text, |(_, value)| value);
    value.starts_with('[') && !value.ends_with(']')
}

struct Parser<'a> {
    lines: &'a [Line],
}

impl<'a> Parser<'a> {
    /// The lines that are indented like the first.
    fn block(&mut self, depth: usize) -> Result<Node> {
        let Some(first) = self.lines.first() else {
            return Ok(Node::Null);
        };
        ensure!(
            depth < MAX_DEPTH,
            "line {} is nested too deeply",
            first.number
        );
        let indent = first.indent;
        if is_element(first) {
            return self.list(indent, depth);
        }
        let mut pairs = Vec::new();
        while let Some(line) = self.next_at(indent) {
            let (key, value) = key_and_value(&line.text).with_context(|| {
                format!("line {} is not YAML of the form key: value", line.number)
            })?;
            let key = name(key, line.number)?;
            let node = if value.is_empty() {
                self.nested(indent, depth)?
            } else {
                flow(value, line.number)?
            };
            pairs.push((key, node));
        }
        Ok(Node::Map(pairs))
    }

    fn list(&mut self, indent: usize, depth: usize) -> Result<Node> {
        let mut nodes = Vec::new();
        // A list may be as little indented as its key is, and end where the next key begins.
        while self.lines.first().is_some_and(is_element)
            && let Some(line) = self.next_at(indent)
        {
            let item = line.text.get(1..).unwrap_or_default().trim_start();
            if item.is_empty() {
                nodes.push(self.nested(indent, depth)?);
                continue;
            }
            match key_and_value(item) {
                Some((key, value)) if !value.is_empty() => {
                    let within = indent + (line.text.len() - item.len());
                    let first = vec![(name(key, line.number)?, flow(value, line.number)?)];
                    nodes.push(self.object(first, within, depth)?);
                }
                _ => nodes.push(flow(item, line.number)?),
            }
        }
        Ok(Node::List(nodes))
    }

    /// An element `- id: 1` with the lines `  name: cat` below it.
    fn object(
        &mut self,
        mut pairs: Vec<(String, Node)>,
        indent: usize,
        depth: usize,
    ) -> Result<Node> {
        if let Some(line) = self.lines.first().filter(|line| line.indent == indent) {
            match self.block(depth + 1)? {
                Node::Map(more) => pairs.extend(more),
                _ => bail!("line {} is not YAML of the form key: value", line.number),
            }
        }
        Ok(Node::Map(pairs))
    }

    /// The value below a key: indented further, or a list at the same indentation.
    fn nested(&mut self, indent: usize, depth: usize) -> Result<Node> {
        let is_nested = self.lines.first().is_some_and(|line| {
            line.indent > indent || (line.indent == indent && is_element(line))
        });
        if is_nested {
            self.block(depth + 1)
        } else {
            Ok(Node::Null)
        }
    }

    /// The next line, if it is indented by so much.
    fn next_at(&mut self, indent: usize) -> Option<&'a Line> {
        let (first, rest) = self.lines.split_first()?;
        if first.indent != indent {
            return None;
        }
        self.lines = rest;
        Some(first)
    }
}

/// The two sides of `key: value` or `key:`; a colon within quotes, or without a space after it,
/// does not count.
fn key_and_value(text: &str) -> Option<(&str, &str)> {
    let from = match text.chars().next()? {
        quote @ ('"' | '\'') => text.get(1..)?.find(quote)? + 2,
        _ => 0,
    };
    let rest = text.get(from..)?;
    let at = match rest.find(": ") {
        Some(at) => at,
        None => rest.strip_suffix(':')?.len(),
    } + from;
    let (key, value) = text.split_at_checked(at)?;
    Some((key.trim(), value.get(1..)?.trim()))
}

/// A text, number or list on one line.
fn flow(text: &str, line: usize) -> Result<Node> {
    if !text.starts_with('[') {
        return scalar(text, line);
    }
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let inner = inner.with_context(|| format!("line {line} has a list that does not end"))?;
    let mut items = Vec::new();
    let mut rest = inner.trim();
    while !rest.is_empty() {
        let end = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let close = rest.get(1..).and_then(|rest| rest.find(quote));
                let close = close.with_context(|| format!("line {line}: a quote is missing"))?;
                let after = rest.get(close + 2..).unwrap_or_default();
                rest.len() - after.len() + after.find(',').unwrap_or(after.len())
            }
            _ => rest.find(',').unwrap_or(rest.len()),
        };
        let (item, more) = rest.split_at_checked(end).unwrap_or((rest, ""));
        items.push(scalar(item.trim(), line)?);
        rest = more.strip_prefix(',').unwrap_or_default().trim_start();
    }
    Ok(Node::List(items))
}

/// A key, without quotes.
fn name(text: &str, line: usize) -> Result<String> {
    let key = scalar(text, line)?;
    Ok(key.scalar().unwrap_or(text).to_owned())
}

fn scalar(text: &str, line: usize) -> Result<Node> {
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            let inner = inner
                .strip_suffix(quote)
                .filter(|inner| !inner.contains(quote));
            let inner = inner.filter(|inner| quote == '\'' || !inner.contains('\\'));
            let inner = inner.with_context(|| {
                format!("line {line} has quotes that are not supported; write JSON instead")
            })?;
            return Ok(Node::Text(inner.to_owned()));
        }
    }
    ensure!(
        !text.starts_with(['{', '[', '&', '*', '!', '|', '>', '@', '`', '}', ']']),
        "line {line} is YAML that is not supported ({:?}); write JSON instead",
        text.chars().take(20).collect::<String>()
    );
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Ok(match text {
        "null" | "~" | "" => Node::Null,
        text if is_number => Node::Number(text.to_owned()),
        text => Node::Text(text.to_owned()),
    })
}

/// The line before ` #`, unless that is within quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if before.is_whitespace() => return line.get(..at).unwrap_or_default(),
            // An apostrophe within a word is not a quote.
            (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_maps_are_read() {
        #[rustfmt::skip]
        let cases = [
            ("- cat\n- 'a dog'\n", r#"["cat","a dog"]"#),
            ("0: cat\n1: dog # x\n", r#"{"0":"cat","1":"dog"}"#),
            ("nc: 2\nnames:\n  0: cat\n  1: it's\n", r#"{"nc":2,"names":{"0":"cat","1":"it's"}}"#),
            ("names:\n- cat\n- dog\nval: x\n", r#"{"names":["cat","dog"],"val":"x"}"#),
            ("---\nnames: [cat, 'a, b', # x\n  \"c\"]\n", r#"{"names":["cat","a, b","c"]}"#),
            (
                "- id: 1\n  name: cat\n- id: 2\n  name: dog\n",
                r#"[{"id":1,"name":"cat"},{"id":2,"name":"dog"}]"#,
            ),
            ("cat:\n  - a cat\n  - a kitten\ndog:\n", r#"{"cat":["a cat","a kitten"],"dog":null}"#),
            ("'a: b': c: d\n", r#"{"a: b":"c: d"}"#),
            ("- \"id\": 1\n  'name': cat\n", r#"[{"id":1,"name":"cat"}]"#),
            ("null: cat\n", r#"{"null":"cat"}"#),
            ("names: [a,\n  b,\n  c]\nnc: 3\n", r#"{"names":["a","b","c"],"nc":3}"#),
        ];
        for (text, expected) in cases {
            let expected: Node = serde_json::from_str(expected).unwrap();
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn unsupported_lines_are_refused_with_their_number() {
        let cases = [
            ("a: &x 1\n", "line 1 is YAML that is not supported"),
            ("a: {b: c}\n", "line 1 is YAML that is not supported"),
            ("a: |\n  text\n", "line 1"),
            ("a:\n\t- b\n", "line 2 is indented by tabs"),
            ("a: 1\n   b: 2\n", "line 2 is not indented"),
            ("- a\nb: 1\n", "line 2 is not indented"),
            ("a: 'b\n", "line 1 has quotes"),
            ("a: [b,\n", "line 1 has a list that does not end"),
            ("a: 1\nb\n", "line 2 is not YAML"),
            ("- id: 1\n  - name\n", "line 2 is not YAML"),
        ];
        for (text, part) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let deep: String = (0..1000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .collect();
        assert!(parse(&deep).unwrap_err().to_string().contains("too deeply"));
    }

    #[test]
    fn plain_lists_do_not_look_like_yaml() {
        let looks = |text: &str| {
            let lines: Vec<_> = (1..).zip(text.lines().map(str::trim)).collect();
            looks_like(&lines, text)
        };
        for text in [
            "names:\n - cat\n",
            "names: [a, b]\n",
            "---\n- a\n",
            "a: 1\nnames:\n",
        ] {
            assert!(looks(text), "{text}");
        }
        for text in [
            "cat\ndog\n",
            "Alien: Covenant\n",
            "0: cat\n1: dog\n",
            "what is this here:\n",
            "---",
        ] {
            assert!(!looks(text), "{text}");
        }
    }
}
