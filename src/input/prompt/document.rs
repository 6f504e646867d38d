//! The files of `--labels-file` and `--templates`: detects their format by extension or content,
//! and whether lines are numbered or quoted and the first is a header. JSON, Python literals and
//! YAML become one tree, [`Node`].

#![deny(clippy::indexing_slicing)]

use std::fmt;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::shape::ListLine;
use super::{literal, shape, yaml};
use crate::input::text_file::column::class_number;
use crate::input::text_file::{self, Table, column};

pub(super) use crate::input::text_file::shown;

/// Maximum size in bytes: a million labels of 256 bytes.
const LIMIT_BYTES: u64 = 1 << 28;

/// What a file holds.
pub(super) enum Content {
    /// JSON, JSON Lines, YAML or a Python literal.
    Node(Node),
    /// CSV, TSV and similar.
    Table(Table),
    /// One text per line; comments and blank lines are skipped.
    Lines(Vec<ListLine>),
}

/// A file's content, and notes on its format.
pub(super) struct Document {
    pub(super) content: Content,
    /// Without the file's name.
    pub(super) notes: Vec<String>,
}

impl Document {
    fn of(content: Content) -> Self {
        Self {
            content,
            notes: Vec::new(),
        }
    }

    fn guessed(content: Content, note: &str) -> Self {
        Self {
            content,
            notes: vec![note.to_owned()],
        }
    }
}

/// Whether a file may be a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tables {
    /// It may; the separator of its cells, if given.
    Read(Option<u8>),
    /// Its lines are used unchanged.
    AsLines,
}

/// Reads a file, or stdin for `-`. JSON, JSON Lines, tables and YAML are recognised by extension;
/// other files by their content.
///
/// # Errors
/// When it cannot be read, or has none of the formats; names the line.
pub(super) fn read(path: &Path, tables: Tables) -> Result<Document> {
    let text = text_file::read(path, LIMIT_BYTES)?;
    let parsed = parse(text.content, path, tables);
    let mut document = parsed.with_context(|| format!("cannot read {}", shown(path)))?;
    document.notes.extend(text.guess.map(str::to_owned));
    Ok(document)
}

/// What was guessed about a file, as one sentence.
pub(super) fn note(path: &Path, notes: &[String]) -> Option<String> {
    let said = || format!("{}: {}", shown(path), notes.join("; "));
    (!notes.is_empty()).then(said)
}

fn parse(text: String, path: &Path, tables: Tables) -> Result<Document> {
    match (text_file::extension(path).as_str(), tables) {
        ("json", _) => json(&text),
        ("jsonl" | "ndjson", _) => Ok(Document::of(Content::Node(json_lines(&text)?))),
        ("csv" | "tsv" | "tab", Tables::Read(delimiter)) => {
            // A cell of a header or label never begins like this.
            if text.trim_start().starts_with("{\"") || text.trim_start().starts_with("[{") {
                let mut found = json(&text)?;
                found.notes.push("it is read as JSON".to_owned());
                return Ok(found);
            }
            table(text, text_file::usual_separator(path), delimiter)
        }
        ("yaml" | "yml", _) => Ok(Document::of(Content::Node(yaml::parse(&text)?))),
        _ => sniffed(text, tables),
    }
}

fn table(text: String, usual: u8, delimiter: Option<u8>) -> Result<Document> {
    let table = Table::new(Box::new(Cursor::new(text.into_bytes())), usual, delimiter)?;
    Ok(Document {
        notes: table.notes().to_vec(),
        content: Content::Table(table),
    })
}

/// JSON, or several objects, one per line, which tools also call `.json`.
fn json(text: &str) -> Result<Document> {
    serde_json::from_str(text)
        .map(|node| Document::of(Content::Node(node)))
        .or_else(|error| match json_lines(text) {
            Ok(node) => Ok(Document::guessed(
                Content::Node(node),
                "it is read as JSON lines",
            )),
            Err(_) => bail!(error),
        })
}

fn json_lines(text: &str) -> Result<Node> {
    let lines = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let nodes = lines.map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| {
            let cause = text_file::json_cause(&error);
            anyhow::anyhow!("line {number} is not JSON: {cause}")
        })
    });
    nodes.collect::<Result<_>>().map(Node::List)
}

/// Detects the format of a text: JSON, JSON Lines, Python, YAML, a table, or one text per line.
fn sniffed(text: String, tables: Tables) -> Result<Document> {
    let lines: Vec<(usize, &str)> = lines(&text).collect();
    if let Some(found) = braced(&text, &lines)? {
        return Ok(found);
    }
    if yaml::looks_like(&lines, &text) {
        let node = yaml::parse(&text)?;
        return Ok(Document::guessed(Content::Node(node), "it is read as YAML"));
    }
    refuse_code(&lines)?;
    if let Tables::Read(delimiter) = tables
        && let Some(separator) = separator(&lines, delimiter)
    {
        // A table has no comments; blank lines preserve the line numbers.
        let bare = |line: &str| !line.trim_start().starts_with('#');
        let rows = text.lines().map(|line| if bare(line) { line } else { "" });
        let rows = rows.collect::<Vec<_>>().join("\n");
        let mut found = table(rows, separator, Some(separator))?;
        found.notes.push("it is read as a table".to_owned());
        return Ok(found);
    }
    let mut items: Vec<ListLine> = lines
        .into_iter()
        .map(|(line, text)| ListLine {
            line,
            key: None,
            text: text.to_owned(),
        })
        .collect();
    let header = header(&mut items, tables);
    let mut notes = shape::strip_decoration(&mut items);
    notes.extend(header);
    Ok(Document {
        content: Content::Lines(items),
        notes,
    })
}

/// Drops a first line that is the name of a column, with a note. A word that may also be a label is
/// kept, with a warning.
fn header(items: &mut Vec<ListLine>, tables: Tables) -> Option<String> {
    let [first, _, ..] = items.as_slice() else {
        return None;
    };
    let name = column::key(&first.text);
    let (is_header, may_be) = match tables {
        Tables::Read(_) => (
            column::LABEL_HEADER.contains(&name.as_str()),
            column::LABEL.contains(&name.as_str()),
        ),
        Tables::AsLines => (column::TEMPLATE.contains(&name.as_str()), false),
    };
    if is_header {
        return Some(format!(
            "the first line, {:?}, was skipped as a header",
            items.remove(0).text
        ));
    }
    may_be.then(|| {
        format!(
            "the first label is {:?}; if that is a header, remove the line",
            first.text
        )
    })
}

/// The lines without surrounding white space, with their numbers from 1, without `#` comments and
/// blank lines.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = (1..).zip(text.lines().map(str::trim));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// JSON, JSON Lines or Python, if the text begins like that.
fn braced(text: &str, lines: &[(usize, &str)]) -> Result<Option<Document>> {
    let begins_each = |signs: &[char]| lines.iter().all(|(_, line)| line.starts_with(signs));
    let is_open = lines
        .first()
        .is_some_and(|(_, line)| line.ends_with(['[', '{', '(', ',']));
    let is_closed = lines.len() > 1 && text.trim_end().ends_with([']', '}']);
    let is_comment = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let comments: usize = text
        .split_inclusive('\n')
        .take_while(is_comment)
        .map(str::len)
        .sum();
    if !literal::begins(text.get(comments..).unwrap_or_default()) {
        return Ok(in_braces(text, lines));
    }
    if let Ok(node) = serde_json::from_str(text) {
        return Ok(Some(Document::guessed(
            Content::Node(node),
            "it is read as JSON",
        )));
    }
    if lines.len() > 1
        && begins_each(&['{', '[', '"'])
        && let Ok(node) = json_lines(text)
    {
        let note = "it is read as JSON lines";
        return Ok(Some(Document::guessed(Content::Node(node), note)));
    }
    match literal::parse(text) {
        Ok(node) => {
            let note = "it is read as a Python literal";
            Ok(Some(Document::guessed(Content::Node(node), note)))
        }
        Err(error) if is_open || is_closed || begins_each(&['{', '[']) => bail!(
            "it begins like JSON or Python but is neither ({error:#}); write JSON, or one text \
             per line"
        ),
        // Labels may begin with a bracket.
        Err(_) => Ok(None),
    }
}

/// The inside of a Python list or dictionary: texts in quotes, or functions, with a comma after
/// each.
fn in_braces(text: &str, lines: &[(usize, &str)]) -> Option<Document> {
    let (_, first) = lines.first()?;
    let inner = first.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == ' ');
    let before_last = lines.get(..lines.len() - 1)?;
    let is_inside = inner.starts_with(['"', '\''])
        || first.starts_with("lambda ")
        || first.starts_with("f\"")
        || first.starts_with("f'");
    if !is_inside || !before_last.iter().all(|(_, line)| line.ends_with(',')) {
        return None;
    }
    let read = |open: char, close: char| literal::parse(&format!("{open}{text}\n{close}")).ok();
    let node = read('[', ']').or_else(|| read('{', '}'));
    // One text in quotes is a label in quotes.
    let node = node.filter(|_| lines.len() > 1 || first.starts_with("lambda "))?;
    let note = "it is read as the inside of a Python list";
    Some(Document::guessed(Content::Node(node), note))
}

/// Refuses what is neither a list of texts nor read as anything else.
fn refuse_code(lines: &[(usize, &str)]) -> Result<()> {
    let is_code =
        |line: &str| line.ends_with('{') || ["}", "},", "};", "]", "],", ")"].contains(&line);
    if let Some((number, line)) = lines.iter().find(|(_, line)| is_code(line)) {
        bail!(
            "line {number}, {line:?}, is not a label or template but part of another format; \
             write one text per line, JSON, CSV or YAML"
        );
    }
    let is_markup = |line: &str| line.starts_with('<') && line.ends_with('>');
    ensure!(
        lines.len() < 2 || !lines.iter().all(|(_, line)| is_markup(line)),
        "every line is markup in <>; write one text per line"
    );
    Ok(())
}

/// The separator of cells, if the lines are rows of a table: the given separator if a line has it;
/// a tab on every line, which texts do not contain; or what separates the column names on the first
/// line.
fn separator(lines: &[(usize, &str)], delimiter: Option<u8>) -> Option<u8> {
    if let Some(byte) = delimiter {
        let is_there = lines
            .iter()
            .any(|(_, line)| line.contains(char::from(byte)));
        return is_there.then_some(byte);
    }
    if !lines.is_empty() && lines.iter().all(|(_, line)| line.contains('\t')) {
        return Some(b'\t');
    }
    let (_, first) = lines.first()?;
    let names_columns = |byte: &u8| {
        let cells: Vec<&str> = first.split(char::from(*byte)).collect();
        let is_label = |cell: &&str| column::LABEL.contains(&column::key(cell).as_str());
        cells.len() > 1
            && cells.iter().any(is_label)
            && cells.iter().all(|cell| column::is_known(cell))
    };
    text_file::SEPARATORS
        .iter()
        .copied()
        .find(|byte| names_columns(byte))
}

/// A value as written. Maps are lists of pairs: a map would drop the first of two equal labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    /// As written, or as JSON writes it.
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Its type, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "an object",
        }
    }

    /// The text, or the digits of a number.
    pub(super) fn scalar(&self) -> Option<&str> {
        match self {
            Self::Number(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// A number without sign and fraction; `0.0`, pandas' form of 0, is accepted.
    pub(super) fn index(&self) -> Option<u64> {
        match self {
            Self::Number(text) => class_number(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        // Written with a decimal point, so that 1.0 is not the text 1.
        Ok(Node::Number(format!("{value:?}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Node::Map(pairs))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_kept_in_order() {
        let node: Node =
            serde_json::from_str(r#"{"b": 1, "a": [1.0, null, true], "b": "x"}"#).unwrap();
        let Node::Map(pairs) = node else {
            panic!("not a map");
        };
        let names: Vec<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "a", "b"]);
        assert_eq!(pairs[0].1.index(), Some(1));
        let Node::List(list) = &pairs[1].1 else {
            panic!("not a list");
        };
        assert_eq!(list[0], Node::Number("1.0".to_owned()));
        assert_eq!(list[0].index(), Some(1));
    }
}
