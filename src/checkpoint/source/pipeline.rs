//! Folders of sentence-transformers: `modules.json` lists the modules of a pipeline and their
//! folders.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::checkpoint::hub::check_file_name;
use crate::file::open;

/// The file that lists the modules.
pub(super) const MODULES: &str = "modules.json";

/// Maximum size of the list in bytes.
const LIMIT_BYTES: u64 = 1 << 20;

/// One module of a pipeline.
#[derive(Deserialize)]
struct Module {
    /// Its folder; empty for the pipeline's own.
    #[serde(default)]
    path: String,
    /// Its Python class.
    #[serde(rename = "type")]
    class: String,
}

impl Module {
    /// The class without its package.
    fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }
}

/// The folder of a pipeline's CLIP model, with its slash, according to the list at `modules`; empty
/// if it is the pipeline's own folder, or if the pipeline has no CLIP model.
///
/// # Errors
/// When the file is not a list of modules, or another module changes CLIP's embeddings.
pub(super) fn clip_folder(modules: &Path) -> Result<String> {
    let place = modules.display();
    let reading = || format!("cannot read {place}");
    let content = open::bytes(modules, LIMIT_BYTES).with_context(reading)?;
    let list: Vec<Module> = serde_json::from_slice(&content).with_context(|| {
        format!("{place} is not a list of modules as sentence-transformers writes it")
    })?;
    let Some(clip) = list.iter().find(|module| module.name() == "CLIPModel") else {
        return Ok(String::new());
    };
    // Embeddings are normalised anyway.
    let is_harmless = |name: &str| ["CLIPModel", "Normalize"].contains(&name);
    if let Some(other) = list.iter().find(|module| !is_harmless(module.name())) {
        bail!(
            "{place} lists {} after the CLIP model, which changes its embeddings; longclip \
             supports only CLIP: pass the folder {:?} to use CLIP alone",
            other.name(),
            clip.path
        );
    }
    let path = clip.path.trim_end_matches('/');
    if path.is_empty() || path == "." {
        return Ok(String::new());
    }
    check_file_name(path).with_context(|| format!("{place} names an invalid folder"))?;
    Ok(format!("{path}/"))
}

/// The same for a folder, which need not be a pipeline.
///
/// # Errors
/// As [`clip_folder`].
pub(super) fn clip_folder_in(folder: &Path) -> Result<String> {
    let modules = folder.join(MODULES);
    if modules.is_file() {
        return clip_folder(&modules);
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_the_clip_model_is_found() {
        let clip = r#"{"idx":0,"name":"0","path":"0_CLIPModel","type":"sentence_transformers.models.CLIPModel"}"#;
        let part = |path: &str, class: &str| {
            format!(r#"{{"path":"{path}","type":"sentence_transformers.models.{class}"}}"#)
        };
        let cases = [
            (format!("[{clip}]"), Ok("0_CLIPModel/")),
            (
                format!("[{clip},{}]", part("1_Normalize", "Normalize")),
                Ok("0_CLIPModel/"),
            ),
            (format!("[{}]", part("a/b/", "CLIPModel")), Ok("a/b/")),
            (format!("[{}]", part("", "CLIPModel")), Ok("")),
            (
                format!(
                    "[{},{}]",
                    part("", "Transformer"),
                    part("1_Pooling", "Pooling")
                ),
                Ok(""),
            ),
            ("[]".to_owned(), Ok("")),
            (
                format!("[{clip},{}]", part("1_Dense", "Dense")),
                Err("lists Dense"),
            ),
            (
                format!("[{}]", part("../x", "CLIPModel")),
                Err("invalid folder"),
            ),
            (
                format!("[{}]", part("/etc", "CLIPModel")),
                Err("invalid folder"),
            ),
            (r#"{"a":1}"#.to_owned(), Err("not a list of modules")),
            ("<html>".to_owned(), Err("not a list of modules")),
        ];
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(clip_folder_in(folder.path()).unwrap(), "");
        for (content, expected) in cases {
            std::fs::write(folder.path().join(MODULES), &content).unwrap();
            match (clip_folder_in(folder.path()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{content}"),
                (Err(error), Err(expected)) => {
                    assert!(format!("{error:#}").contains(expected), "{error:#}");
                }
                (found, _) => panic!("{content}: {found:?}"),
            }
        }
    }
}
