//! Checks for common mistakes, and their messages.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::embedding::sidecar_of;
use crate::input::paths::ImageRule;

/// Fails if `path` cannot be an output file. Only looks, so it can be called long before the file
/// is written.
///
/// # Errors
/// When it is a folder, or its parent folder does not exist.
pub(crate) fn check_output(path: &Path) -> Result<()> {
    if path.is_dir() {
        bail!(
            "the output {} is a folder; name a file in it",
            path.display()
        );
    }
    match path.parent() {
        Some(folder) if folder != Path::new("") && !folder.is_dir() => bail!(
            "the folder {} of the output {} does not exist; create it first",
            folder.display(),
            path.display()
        ),
        _ => Ok(()),
    }
}

/// Fails if one of `outputs` cannot be a file, if two of them are the same, or if writing one would
/// replace one of `inputs`.
///
/// # Errors
/// Names both.
pub(crate) fn check_outputs(
    outputs: &[Option<&Path>],
    inputs: &[Option<&Path>],
    rule: ImageRule,
) -> Result<()> {
    let inputs: Vec<PathBuf> = inputs
        .iter()
        .flatten()
        .map(|&path| path.to_owned())
        .collect();
    let mut places: Vec<PathBuf> = Vec::new();
    for output in outputs.iter().copied().flatten() {
        check_output(output)?;
        check_not_an_input(output, inputs.iter(), rule)?;
        let place = output
            .canonicalize()
            .or_else(|_| std::path::absolute(output))?;
        let is_device = place.exists() && !place.is_file();
        if places.contains(&place) && !is_device {
            bail!(
                "two outputs would be written to {}; name another file for one of them",
                output.display()
            );
        }
        places.push(place);
    }
    Ok(())
}

/// Fails if writing `output` would replace one of `inputs`, an image in one of the folders among
/// them, or the file with the row names of embeddings.
///
/// # Errors
/// Names the input.
pub(crate) fn check_not_an_input<'a>(
    output: &Path,
    inputs: impl Iterator<Item = &'a PathBuf>,
    rule: ImageRule,
) -> Result<()> {
    // A file that does not exist cannot be an input.
    let Ok(target) = output.canonicalize() else {
        return Ok(());
    };
    let is_file = target.is_file();
    for input in inputs {
        if is_file && is_sidecar(&target, input) {
            bail!(
                "the output {} holds the row names of {}; choose another name so that they are not \
                 overwritten",
                output.display(),
                input.display()
            );
        }
        let Ok(found) = input.canonicalize() else {
            continue;
        };
        let within = found.is_dir() && target.starts_with(&found) && rule.takes(&target);
        if is_file && (found == target || within) {
            bail!(
                "the output {} is also an input ({}); choose another name so that it is not \
                 overwritten",
                output.display(),
                input.display()
            );
        }
    }
    Ok(())
}

/// Whether `target` is the file of row names next to the embeddings at `input`.
fn is_sidecar(target: &Path, input: &Path) -> bool {
    let suffix = input.extension().unwrap_or_default().to_string_lossy();
    ["npy", "npz", "safetensors", "parquet"].contains(&suffix.to_ascii_lowercase().as_str())
        && sidecar_of(input)
            .canonicalize()
            .is_ok_and(|sidecar| sidecar == target)
}

/// The error for a run without images, perhaps because `--labels` took them.
pub(crate) fn no_images(labels: &[String], rule: ImageRule) -> String {
    let last = labels.len().saturating_sub(1);
    let (images, rest): (Vec<_>, Vec<_>) = labels.iter().enumerate().partition(|(index, label)| {
        let path = Path::new(label);
        // Folders are often named like classes, so only one that came last counts as images.
        let is_folder = *index == last && index > &0 && path.is_dir();
        is_folder || (path.is_file() && rule.takes(path))
    });
    let Some((_, first)) = images.first() else {
        return "no image given; pass image files or folders, - for stdin, or --files-from FILE"
            .to_owned();
    };
    let kind = if Path::new(first).is_dir() {
        "a folder"
    } else {
        "an image"
    };
    let shown = |list: Vec<(usize, &String)>, quote: fn(&str) -> String| {
        let more = if list.len() > 2 { " …" } else { "" };
        let words: Vec<_> = list.iter().take(2).map(|(_, word)| quote(word)).collect();
        words.join(" ") + more
    };
    format!(
        "no image given, but the label {first:?} is {kind}; --labels takes every word after it, so \
         put images first: longclip classify {} --labels {}",
        shown(images.clone(), quoted_if_needed),
        shown(rest, |label| format!("{label:?}")),
    )
}

fn quoted_if_needed(word: &str) -> String {
    if word.contains(char::is_whitespace) {
        format!("{word:?}")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::run::images::IMAGES;

    #[test]
    fn an_output_never_replaces_an_input_or_another_output() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        fs::create_dir(at("photos")).unwrap();
        for name in ["photos/a.jpg", "photos/notes.csv", "x.npy", "x.paths.jsonl"] {
            fs::write(at(name), "x").unwrap();
        }
        let cases: [(&[&str], &[&str], &str); 11] = [
            (&["new.csv"], &["photos", "x.npy"], ""),
            (&["photos/notes.csv"], &["photos"], ""),
            (&["photos/a.jpg"], &["x.npy"], ""),
            (&["new.csv", "other.csv"], &[], ""),
            (&["photos"], &[], "is a folder; name a file in it"),
            (&["none/new.csv"], &[], "does not exist; create it first"),
            (&["photos/a.jpg"], &["photos/a.jpg"], "is also an input"),
            (&["photos/a.jpg"], &["photos"], "is also an input"),
            (&["x.paths.jsonl"], &["x.npy"], "holds the row names of"),
            (&["new.csv", "new.csv"], &[], "two outputs"),
            (&["x.npy", "photos/../x.npy"], &[], "two outputs"),
        ];
        for (outputs, inputs, part) in cases {
            let [outputs, inputs] = [outputs, inputs].map(|names| {
                let paths = names.iter().map(|name| at(name));
                paths.collect::<Vec<_>>()
            });
            let some = |paths: &'_ [PathBuf]| -> Vec<Option<PathBuf>> {
                paths.iter().cloned().map(Some).collect()
            };
            let (outputs, inputs) = (some(&outputs), some(&inputs));
            let outputs: Vec<_> = outputs.iter().map(Option::as_deref).collect();
            let inputs: Vec<_> = inputs.iter().map(Option::as_deref).collect();
            match check_outputs(&outputs, &inputs, IMAGES) {
                Ok(()) => assert_eq!(part, "", "{outputs:?} {inputs:?}"),
                Err(error) => assert!(
                    !part.is_empty() && error.to_string().contains(part),
                    "{error}"
                ),
            }
        }
    }

    #[test]
    fn images_that_labels_took_are_recognised() {
        let room = tempfile::tempdir().unwrap();
        let image = room.path().join("a b.jpg");
        fs::write(&image, "x").unwrap();
        let (image, folder) = (image.to_str().unwrap(), room.path().to_str().unwrap());
        let taken = format!("longclip classify {image:?} --labels \"cat\" \"dog\"");
        let cases = [
            (vec![], "no image given; pass image files"),
            (vec!["cat", "dog"], "no image given; pass image files"),
            (vec!["cat", image, "dog"], taken.as_str()),
            (
                vec!["cat", folder],
                "is a folder; --labels takes every word",
            ),
            // A single label may have the name of a folder.
            (vec![folder], "no image given; pass image files"),
        ];
        for (labels, part) in cases {
            let labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
            let message = no_images(&labels, IMAGES);
            assert!(message.contains(part), "{message}");
        }
    }
}
