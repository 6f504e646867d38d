//! Names of table columns and JSON fields in the tools that write them.

use serde_json::{Map, Value};

/// Accepted names of a column with the paths of images, as [`key`] writes them.
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
/// Accepted names of a column with labels, as [`key`] writes them. A table of captions calls its
/// captions `text` or `title` as well: the purpose of a table decides which of these count.
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
/// Accepted names of a column with a dataset's names of the classes, as [`key`] writes them.
pub const KEY: &[&str] = &[
    "key", "folder", "id", "classid", "labelid", "index", "idx", "wnid", "synset", "synsetid",
];
/// Accepted names of a column with the split, as [`key`] writes them.
pub const PART: &[&str] = &["split", "subset", "partition"];
/// Further names by which the first row of a table is recognised as a header.
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

/// A column's name for comparison: lower case, without spaces, underscores and hyphens.
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

/// Whether a cell is a column name that tools use.
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
    fn names_are_compared_across_the_spellings_of_tools() {
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
