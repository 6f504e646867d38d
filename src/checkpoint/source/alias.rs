//! Short names for the published models.

/// A published model with a short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    /// What to type.
    pub name: &'static str,
    /// `owner/name` on the hub.
    pub repository: &'static str,
    /// The weight file, if its name in the repository is not a standard one.
    pub file: Option<&'static str>,
    /// The licence that the repository gives for the weights, as an SPDX identifier; `None` if it
    /// gives none.
    pub licence: Option<&'static str>,
    /// Approximate download size in bytes.
    pub bytes: u64,
    /// The context length in tokens.
    pub context_length: usize,
    /// The image tower and its input side in pixels.
    pub architecture: &'static str,
    /// Its recommended use.
    pub good_for: &'static str,
}

/// All short names, the default first.
pub(crate) const ALIASES: &[Alias] = &[
    Alias {
        name: "longclip-b",
        repository: "BeichenZhang/LongCLIP-B",
        file: Some("longclip-B.pt"),
        licence: Some("Apache-2.0"),
        bytes: 599_000_000,
        context_length: 248,
        architecture: "ViT-B/16, 224 px",
        good_for: "long descriptions; the default",
    },
    Alias {
        name: "longclip-b-32",
        repository: "BeichenZhang/LongCLIP-B-32",
        file: Some("longclip-B-32.pt"),
        licence: Some("Apache-2.0"),
        bytes: 606_000_000,
        context_length: 248,
        architecture: "ViT-B/32, 224 px",
        good_for: "long descriptions, about four times as fast on images",
    },
    Alias {
        name: "longclip-l",
        repository: "BeichenZhang/LongCLIP-L",
        file: Some("longclip-L.pt"),
        licence: Some("Apache-2.0"),
        bytes: 1_712_000_000,
        context_length: 248,
        architecture: "ViT-L/14, 224 px",
        good_for: "long descriptions, more accurate and slower",
    },
    Alias {
        name: "longclip-l-336",
        repository: "BeichenZhang/LongCLIP-L-336px",
        file: Some("longclip-L@336px.pt"),
        licence: Some("Apache-2.0"),
        bytes: 1_713_000_000,
        context_length: 248,
        architecture: "ViT-L/14, 336 px",
        good_for: "long descriptions of fine detail; the slowest",
    },
    Alias {
        name: "clip-vit-b-32",
        repository: "openai/clip-vit-base-patch32",
        file: None,
        licence: None,
        bytes: 605_000_000,
        context_length: 77,
        architecture: "ViT-B/32, 224 px",
        good_for: "short labels, fast",
    },
    Alias {
        name: "clip-vit-b-16",
        repository: "openai/clip-vit-base-patch16",
        file: None,
        licence: None,
        bytes: 599_000_000,
        context_length: 77,
        architecture: "ViT-B/16, 224 px",
        good_for: "short labels",
    },
    Alias {
        name: "clip-vit-l-14",
        repository: "openai/clip-vit-large-patch14",
        file: None,
        licence: None,
        bytes: 1_711_000_000,
        context_length: 77,
        architecture: "ViT-L/14, 224 px",
        good_for: "short labels, more accurate and slower",
    },
    Alias {
        name: "clip-vit-l-14-336",
        repository: "openai/clip-vit-large-patch14-336",
        file: None,
        licence: None,
        bytes: 1_712_000_000,
        context_length: 77,
        architecture: "ViT-L/14, 336 px",
        good_for: "short labels and fine detail; the slowest",
    },
];

/// The name that `typed` was probably meant to be, if one is similar.
pub(super) fn nearest(typed: &str) -> Option<&'static str> {
    let typed = typed.to_lowercase();
    let names = ALIASES.iter().map(|alias| alias.name).chain(["tiny"]);
    names
        .map(|name| (edits(&typed, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= name.len() / 3)
        .map(|(_, name)| name)
}

/// The Levenshtein distance: letters to insert, delete or replace.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        for (from, to, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
        ] {
            assert_eq!(edits(from, to), expected, "{from} {to}");
            assert_eq!(edits(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn only_similar_names_are_suggested() {
        let cases = [
            ("longclip-l336", Some("longclip-l-336")),
            ("longclipb", Some("longclip-b")),
            ("tinny", Some("tiny")),
            ("resnet50", None),
        ];
        for (typed, expected) in cases {
            assert_eq!(nearest(typed), expected, "{typed}");
        }
    }

    #[test]
    fn short_names_are_distinct_and_never_look_like_paths() {
        for (index, alias) in ALIASES.iter().enumerate() {
            assert!(!alias.name.contains(['/', '.', '@', ':']));
            assert!(
                ALIASES[..index]
                    .iter()
                    .all(|other| other.name != alias.name)
            );
        }
    }
}
