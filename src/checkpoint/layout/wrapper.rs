//! Removal of prefixes that training programs put before every name, and of name parts that
//! PyTorch's module wrappers insert in the middle.

use anyhow::{Result, bail};

use super::{layout_of, rename};
use crate::checkpoint::Tensors;

/// Name parts inserted by wrappers of single modules, anywhere in a name.
const INSIDE: [&str; 4] = [
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
];

/// Removes the prefixes that all names share until a layout recognises the names. What shares none
/// stays unchanged, for others to describe.
///
/// # Errors
/// When a model's names have a prefix that other tensors lack; the error names both.
pub(super) fn strip(mut tensors: Tensors) -> Result<Tensors> {
    // PyTorch's AveragedModel keeps a counter next to the model that it wraps.
    tensors.retain(|name, _| name.rsplit('.').next() != Some("n_averaged"));
    let tensors = rename(tensors, without_wrappers)?;
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    if let Some(length) = shared_prefix(&names) {
        return rename(tensors, |name| Ok(name[length..].to_owned()));
    }
    if !is_known(&names, "")
        && let Some(problem) = strangers(&names)
    {
        bail!(problem);
    }
    Ok(tensors)
}

/// A name without [`INSIDE`].
fn without_wrappers(name: &str) -> Result<String> {
    let parts = name.split('.').filter(|part| !INSIDE.contains(part));
    Ok(parts.collect::<Vec<_>>().join("."))
}

/// The length of the shortest prefix, with its dot, shared by all names, that leaves names
/// known to a layout; `None` if they are known unchanged, or no prefix does that.
fn shared_prefix(names: &[&str]) -> Option<usize> {
    let found = shared_prefixes(names).find(|prefix| is_known(names, prefix))?;
    (!found.is_empty()).then_some(found.len())
}

/// The prefixes that all names share, shortest first, starting with the empty one; all others
/// include their dot.
pub(super) fn shared_prefixes<'a>(names: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let first = names.first().copied().unwrap_or_default();
    let ends = first.match_indices('.').map(|(at, _)| at + 1);
    let prefixes = std::iter::once(0).chain(ends).map(|end| &first[..end]);
    prefixes.take_while(|prefix| names.iter().all(|name| name.starts_with(prefix)))
}

/// Whether the names under `prefix` are those of a layout.
fn is_known(names: &[&str], prefix: &str) -> bool {
    layout_of(|wanted| {
        let mut rests = names.iter().filter_map(|name| name.strip_prefix(prefix));
        rests.any(wanted)
    })
    .is_some()
}

/// The error for a model under a prefix that other tensors lack.
fn strangers(names: &[&str]) -> Option<String> {
    let mut prefixes: Vec<&str> = Vec::new();
    for name in names {
        if prefixes.iter().any(|known| name.starts_with(known)) {
            continue;
        }
        let ends = name.match_indices('.').map(|(at, _)| &name[..=at]);
        prefixes.extend(ends.into_iter().find(|prefix| holds_a_model(names, prefix)));
    }
    let (&first, more) = prefixes.split_first()?;
    if !more.is_empty() {
        return Some(format!(
            "the file holds {} models, under {}; save only the one you want",
            prefixes.len(),
            quoted(&prefixes)
        ));
    }
    let others = names.iter().filter(|name| !name.starts_with(first));
    let others: Vec<&str> = others.copied().collect();
    let (count, are) = match others.len() {
        1 => ("another".to_owned(), "is"),
        count => (format!("{count} others"), "are"),
    };
    Some(format!(
        "the tensors of a model are under {first:?}, but {count} {are} not: {}; save only the \
         model, with its own state_dict()",
        quoted(&others)
    ))
}

/// Whether both towers of a model are under `prefix`, in any layout.
fn holds_a_model(names: &[&str], prefix: &str) -> bool {
    const TEXT: [&str; 3] = [
        "token_embedding.weight",
        "text.token_embedding.weight",
        "text_model.embeddings.token_embedding.weight",
    ];
    const IMAGE: [&str; 2] = [
        "visual.conv1.weight",
        "vision_model.embeddings.patch_embedding.weight",
    ];
    let has = |wanted: &[&str]| {
        let mut rests = names.iter().filter_map(|name| name.strip_prefix(prefix));
        rests.any(|rest| wanted.contains(&rest))
    };
    has(&TEXT) && has(&IMAGE)
}

/// The first few names, in quotes.
fn quoted(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown = names.iter().take(SHOWN).map(|name| format!("{name:?}"));
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::container::StoredTensor;

    fn tensors(names: &[&str]) -> Tensors {
        let tensor = |name: &&str| {
            let tensor = StoredTensor::from_f32(&[1], vec![1.0]).unwrap();
            ((*name).to_owned(), tensor)
        };
        names.iter().map(tensor).collect()
    }

    fn stripped(names: &[&str]) -> Result<Vec<String>, String> {
        let found = strip(tensors(names)).map_err(|error| error.to_string())?;
        Ok(found.into_keys().collect())
    }

    #[test]
    fn any_prefix_shared_by_all_names_is_removed() {
        let openai = [
            "logit_scale",
            "token_embedding.weight",
            "visual.conv1.weight",
        ];
        let hugging_face = ["logit_scale", "text_model.x", "vision_model.y"];
        for model in [openai, hugging_face] {
            for prefix in [
                "",
                "model.",
                "net.",
                "student.",
                "module.",
                "_orig_mod.",
                "clip_model.",
                "module._orig_mod.",
                "state.model.clip.",
                "a.b-c_0.d.",
            ] {
                let names = model.map(|name| format!("{prefix}{name}"));
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                assert_eq!(stripped(&names).unwrap(), model, "{prefix}");
            }
        }
    }

    #[test]
    fn a_tower_alone_keeps_its_name() {
        for names in [
            &["text_model.a", "text_model.b"][..],
            &["visual.conv1.weight", "visual.proj"],
            &["text.ln_final.bias", "text.token_embedding.weight"],
        ] {
            assert_eq!(stripped(names).unwrap(), names);
        }
        let found = stripped(&["clip.text_model.a", "clip.text_model.b"]);
        assert_eq!(found.unwrap(), ["text_model.a", "text_model.b"]);
    }

    #[test]
    fn wrappers_of_single_modules_are_removed_anywhere() {
        let found = stripped(&[
            "token_embedding.weight",
            "visual._orig_mod.conv1.weight",
            "visual.transformer.resblocks.0._checkpoint_wrapped_module.ln_1.bias",
        ]);
        let expected = [
            "token_embedding.weight",
            "visual.conv1.weight",
            "visual.transformer.resblocks.0.ln_1.bias",
        ];
        assert_eq!(found.unwrap(), expected);
        let averaged = ["n_averaged", "module.text_model.a", "module.vision_model.b"];
        let found = stripped(&averaged).unwrap();
        assert_eq!(found, ["text_model.a", "vision_model.b"]);
        let twice = stripped(&["visual.a", "_orig_mod.visual.a"]);
        assert!(twice.unwrap_err().contains("duplicate"));
    }

    #[test]
    fn tensors_outside_a_prefix_are_named() {
        let model = |prefix: &str| {
            ["token_embedding.weight", "visual.conv1.weight"].map(|name| format!("{prefix}{name}"))
        };
        let cases: [(&[&str], &[&str], &[&str]); 3] = [
            (
                &["model."],
                &["loss.weight"],
                &["under \"model.\", but another is not: \"loss.weight\""],
            ),
            (
                &["net.clip."],
                &["head.bias", "step"],
                &["under \"net.clip.\", but 2 others are not: \"head.bias\", \"step\""],
            ),
            (
                &["student.", "teacher."],
                &[],
                &["2 models", "\"student.\", \"teacher.\""],
            ),
        ];
        for (prefixes, others, words) in cases {
            let models = prefixes.iter().flat_map(|prefix| model(prefix));
            let names: Vec<String> = models
                .chain(others.iter().map(|&name| name.into()))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let error = stripped(&names).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{word}: {error}");
            }
        }
    }

    #[test]
    fn names_that_share_nothing_known_stay() {
        for names in [
            &["backbone.blocks.0.weight", "backbone.blocks.1.weight"][..],
            &["x", "y.z"],
        ] {
            assert_eq!(stripped(names).unwrap(), names);
        }
    }
}
