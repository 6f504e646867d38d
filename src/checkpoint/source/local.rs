//! Finds a model in a local folder or file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::{ModelFiles, choice, pipeline};

/// The files of the model at `path`, which exists.
///
/// In a folder (or the one that a sentence-transformers pipeline names), the best of the standard
/// names is the model, together with everything next to it. A file given by its path is the model
/// alone, unless it has one of the standard names (`model.safetensors`, `pytorch_model.bin`,
/// `open_clip_*`), which show that the files next to it belong to it.
///
/// # Errors
/// When weights are missing, ambiguous or not readable.
pub(super) fn find(model: &str, path: &Path) -> anyhow::Result<ModelFiles> {
    if path.is_dir() {
        let chosen = choose(path)?;
        let weights = weights(&path.join(&chosen))?;
        let folder = path.join(folder_prefix(&chosen));
        return Ok(ModelFiles::with_companions(model, weights, &folder));
    }
    let weights = weights(path)?;
    let name = path.file_name().and_then(|name| name.to_str());
    if !name.is_some_and(choice::has_companions) {
        return Ok(ModelFiles::alone(model, weights));
    }
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    Ok(ModelFiles::with_companions(model, weights, folder))
}

/// The weights (or their index) in a folder, or in the one that its pipeline names.
///
/// # Errors
/// When there are none, or several of equal rank.
pub(super) fn choose(folder: &Path) -> anyhow::Result<String> {
    let inside = pipeline::clip_folder_in(folder)?;
    let folder = match inside.trim_end_matches('/') {
        "" => folder.to_owned(),
        inside => folder.join(inside),
    };
    if let Some(repository) = choice::cached_repository(&folder) {
        bail!(
            "{} is a repository's folder in the hub's cache; pass the repository's name, {repository}",
            folder.display()
        );
    }
    let place = folder.display().to_string();
    let config = folder.join(choice::CONFIG);
    let chosen = choice::choose(&names_in(&folder)?, &place, Some(&config))?;
    Ok(format!("{inside}{chosen}"))
}

/// The folder part of a file's name with its slash, or nothing.
pub(super) fn folder_prefix(file: &str) -> String {
    file.rsplit_once('/')
        .map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

/// The names of the files in a folder, and of standard weight files in its subfolders.
fn names_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let reading = || format!("cannot list {}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        // Names that are not UTF-8 cannot be known weight files.
        let name = entry.file_name().into_string();
        let Ok(name) = name else { continue };
        let path = entry.path();
        if path.is_file() {
            names.push(name);
        } else if path.is_dir() {
            names.extend(choice::deeper(folder, &name));
        }
    }
    Ok(names)
}

/// The file itself, or the shards if it is an index of them.
pub(super) fn weights(file: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_index = file
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(choice::is_index);
    if !is_index {
        return Ok(vec![file.to_owned()]);
    }
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let shards = choice::shards(file)?;
    let paths: Vec<PathBuf> = shards.iter().map(|shard| folder.join(shard)).collect();
    let missing = paths.iter().find(|path| !path.is_file());
    ensure!(
        missing.is_none(),
        "{} names the shard {}, which is missing; the download is not complete",
        file.display(),
        missing
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    );
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn a_folder_gives_its_weights_and_the_files_next_to_them() {
        let folder = folder_with(&[
            ("model.safetensors", ""),
            ("config.json", ""),
            ("preprocessor_config.json", ""),
            ("processor_config.json", ""),
            ("vocab.json", ""),
            ("merges.txt", ""),
            ("tokenizer.json", ""),
            ("tokenizer_config.json", ""),
            ("README.md", ""),
        ]);
        let path = |name: &str| folder.path().join(name);
        let found = find("typed", folder.path()).unwrap();
        let expected = ModelFiles {
            name: "typed".into(),
            weights: vec![path("model.safetensors")],
            config: Some(path("config.json")),
            open_clip_config: None,
            preprocessor: Some(path("preprocessor_config.json")),
            processor: Some(path("processor_config.json")),
            vocabulary: Some(path("vocab.json")),
            merges: Some(path("merges.txt")),
            tokenizer: Some(path("tokenizer.json")),
            tokenizer_config: Some(path("tokenizer_config.json")),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_lone_file_does_not_take_an_unrelated_configuration() {
        let folder = folder_with(&[
            ("mine.pt", ""),
            ("model.safetensors", ""),
            ("config.json", ""),
        ]);
        for (file, has_config) in [("mine.pt", false), ("model.safetensors", true)] {
            let path = folder.path().join(file);
            let found = find(file, &path).unwrap();
            assert_eq!(found.weights, [path], "{file}");
            assert_eq!(found.config.is_some(), has_config, "{file}");
        }
    }

    #[test]
    fn shards_come_in_order_and_none_may_be_missing() {
        let index = r#"{"weight_map":{"b":"s-2.bin","a":"s-1.bin"}}"#;
        let folder = folder_with(&[("pytorch_model.bin.index.json", index), ("s-1.bin", "")]);
        let error = find("m", folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("s-2.bin") && error.contains("not complete"),
            "{error}"
        );
        std::fs::write(folder.path().join("s-2.bin"), "").unwrap();
        let found = find("m", folder.path()).unwrap().weights;
        assert_eq!(
            found,
            [folder.path().join("s-1.bin"), folder.path().join("s-2.bin")]
        );
    }

    #[test]
    fn the_clip_folder_of_a_pipeline_is_used_with_its_files() {
        let modules = r#"[{"path":"0_CLIPModel","type":"sentence_transformers.models.CLIPModel"}]"#;
        let folder = folder_with(&[("modules.json", modules), ("config.json", "")]);
        let inside = folder.path().join("0_CLIPModel");
        assert!(find("m", folder.path()).is_err(), "the folder is missing");
        std::fs::create_dir(&inside).unwrap();
        for name in ["config.json", "pytorch_model.bin"] {
            std::fs::write(inside.join(name), "").unwrap();
        }
        let found = find("m", folder.path()).unwrap();
        assert_eq!(found.weights, [inside.join("pytorch_model.bin")]);
        assert_eq!(found.config, Some(inside.join("config.json")));
        std::fs::remove_file(folder.path().join("modules.json")).unwrap();
        let error = find("m", folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("hold 0_CLIPModel/pytorch_model.bin"),
            "{error}"
        );
    }

    #[test]
    fn open_clips_weights_use_only_open_clips_configuration() {
        let folder = folder_with(&[
            ("model.safetensors", ""),
            (
                "config.json",
                r#"{"architecture":"vit_base_patch16_clip_224"}"#,
            ),
            ("preprocessor_config.json", ""),
            ("open_clip_model.safetensors", ""),
            ("open_clip_config.json", ""),
            ("vocab.json", ""),
        ]);
        let found = find("m", folder.path()).unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(found.weights, [path("open_clip_model.safetensors")]);
        assert_eq!(found.open_clip_config, Some(path("open_clip_config.json")));
        assert_eq!(found.vocabulary, Some(path("vocab.json")));
        assert_eq!((found.config, found.preprocessor), (None, None));
    }

    #[test]
    fn a_folder_without_a_clear_model_is_an_error() {
        let several = folder_with(&[("a.pt", ""), ("b.pt", "")]);
        let error = find("m", several.path()).unwrap_err().to_string();
        assert!(error.contains("a.pt, b.pt"), "{error}");
        let cached = several.path().join("models--owner--name");
        std::fs::create_dir_all(cached.join("snapshots")).unwrap();
        let error = find("m", &cached).unwrap_err().to_string();
        assert!(error.ends_with("name, owner/name"), "{error}");
        std::fs::create_dir(several.path().join("model.safetensors")).unwrap();
        assert!(
            find("m", several.path()).is_err(),
            "a folder is not a file of weights"
        );
    }
}
