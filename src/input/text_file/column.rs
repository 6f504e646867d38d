//! What the columns of tables, and the fields of JSON lines, are called by the tools that write them.

use serde_json::{Map, Value};

/// What a column with the paths of images may be called, as [`key`] writes it.
pub const PATH: &[&str] = &[
    "path",
    "image",
    "file",
    "filename",
    "filepath",
    "imagepath",
    "imagename",
    "imagefile",
    "imagefilename",
    "img",
    "imgpath",
    "imgname",
    "filepaths",
    "imageid",
];
/// What a column with labels may be called, as [`key`] writes it. A table of captions calls its
/// captions `text` or `title` as well: what a table is for decides which of these count.
pub const LABEL: &[&str] = &[
    "label",
    "labels",
    "labelname",
    "displayname",
    "class",
    "classes",
    "classname",
    "classnames",
    "category",
    "categories",
    "categoryname",
    "name",
    "species",
    "title",
    "text",
];
/// What a column with the names that a dataset gives to classes may be called, as [`key`] writes it.
pub const KEY: &[&str] = &[
    "key", "folder", "id", "classid", "labelid", "index", "idx", "wnid", "synset", "synsetid",
];
/// What a column with the part of a dataset may be called, as [`key`] writes it.
pub const PART: &[&str] = &["split", "subset", "partition"];
/// Further names by which the first row of a table is known as one that names columns.
const OTHERS: &[&str] = &[
    "alias",
    "aliases",
    "caption",
    "captions",
    "comment",
    "description",
    "longcaption",
    "prompt",
    "prompts",
    "shortcaption",
    "target",
];

/// A column's name for comparison: lower case, without blanks, underscores and hyphens.
#[must_use]
pub fn key(name: &str) -> String {
    let kept = name
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '_' | '-' | '\u{feff}'));
    kept.flat_map(char::to_lowercase).collect()
}

/// The same fields by [`key`] of their names; of two equal names the first counts.
#[must_use]
pub fn keyed(fields: Map<String, Value>) -> Map<String, Value> {
    let mut found = Map::new();
    for (name, value) in fields {
        found.entry(key(&name)).or_insert(value);
    }
    found
}

/// Whether a cell is what a tool would call a column.
#[must_use]
pub fn is_known(cell: &str) -> bool {
    let name = key(cell);
    let mut known = [PATH, LABEL, KEY, PART, OTHERS].into_iter().flatten();
    known.any(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_tools_vary_them() {
        for name in [
            "class_name",
            "Class Name",
            " CLASS-NAME ",
            "className",
            "\u{feff}classname",
        ] {
            assert_eq!(key(name), "classname");
            assert!(is_known(name));
        }
        assert!(!is_known("penguin") && !is_known(""));
        for name in [PATH, LABEL, KEY, PART, OTHERS].into_iter().flatten() {
            assert_eq!(key(name), **name);
        }
    }
}
