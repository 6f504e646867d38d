//! Labels -> names of folders.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

/// Characters that some system does not allow in a name, or that mean something to some shell.
const FORBIDDEN: &str = "/\\:*?\"<>|";
/// Names that Windows reserves for its devices, ignoring case and extension.
const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];
/// Of the 255 bytes that most systems allow; the rest is for what is added.
const MAX_BYTES: usize = 200;

/// A name for each label: one path component, visible, valid on every system, and unique ignoring
/// case. Labels that are such names stay unchanged.
pub(super) fn folder_names(labels: &[&str]) -> Vec<String> {
    let mut taken = HashSet::with_capacity(labels.len());
    let mut free = |label: &&str| {
        let name = safe(label);
        let numbered = (2..).map(|number| format!("{name} ({number})"));
        std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| taken.insert(name.to_lowercase()))
            .unwrap_or(name)
    };
    labels.iter().map(&mut free).collect()
}

fn safe(label: &str) -> String {
    let replace = |c: char| {
        if c.is_control() || FORBIDDEN.contains(c) {
            '_'
        } else {
            c
        }
    };
    let mut name: String = label.trim().chars().map(replace).collect();
    // Windows drops dots and spaces at the end of a name.
    name.truncate(name.trim_end_matches(['.', ' ']).len());
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    if name.len() > MAX_BYTES {
        // Long labels often begin the same, so their names end in a distinguishing suffix.
        let digest = Sha256::digest(label);
        name.truncate(name.floor_char_boundary(MAX_BYTES));
        name.truncate(name.trim_end().len());
        name.push_str(&format!(
            "~{:02x}{:02x}{:02x}{:02x}",
            digest[0], digest[1], digest[2], digest[3]
        ));
    }
    if name.is_empty() || is_reserved(&name) {
        name.push('_');
    }
    name
}

fn is_reserved(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or(name)
        .trim_end()
        .to_lowercase();
    let is_port = ["com", "lpt"].iter().any(|port| {
        let number = stem.strip_prefix(port);
        number.is_some_and(|number| number.len() == 1 && number.as_bytes()[0].is_ascii_digit())
    });
    is_port || RESERVED.contains(&stem.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_safe_names_of_folders() {
        let cases = [
            ("cat", "cat"),
            ("a photo of a cat.", "a photo of a cat"),
            ("baluster / handrail", "baluster _ handrail"),
            ("../../etc", "_._.._etc"),
            ("..", "_"),
            (".hidden", "_hidden"),
            (" ", "_"),
            ("a\nb\0c\u{7f}", "a_b_c_"),
            ("C:\\x", "C__x"),
            ("con", "con_"),
            ("Aux.txt", "Aux.txt_"),
            ("com1", "com1_"),
            ("comb", "comb"),
            ("猫 ü", "猫 ü"),
            ("what?", "what_"),
        ];
        for (label, expected) in cases {
            assert_eq!(folder_names(&[label]), [expected], "{label:?}");
        }
    }

    #[test]
    fn no_two_labels_share_a_folder() {
        let labels = ["Cat", "cat", "cat (2)", "CAT.", "a/b", "a:b", "", "."];
        let expected = [
            "Cat",
            "cat (2)",
            "cat (2) (2)",
            "CAT (3)",
            "a_b",
            "a_b (2)",
            "_",
            "_ (2)",
        ];
        assert_eq!(folder_names(&labels), expected);
    }

    #[test]
    fn long_labels_are_truncated_and_stay_distinct() {
        let labels = ["é".repeat(400) + "1", "é".repeat(400) + "2"];
        let names = folder_names(&[&labels[0], &labels[1]]);
        assert!(
            names
                .iter()
                .all(|name| name.len() < 230 && name.starts_with("ééé"))
        );
        assert_ne!(names[0], names[1]);
        assert!(names[0].contains('~') && !names[1].contains('('));
    }
}
