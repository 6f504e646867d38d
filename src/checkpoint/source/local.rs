//! A model in a folder or file on this machine.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::{ModelFiles, choice};

/// The files of the model at `path`, which exists.
///
/// In a folder the best of the usual names is the model, with everything
/// beside it. A file named by its path is the model alone, unless it has one
/// of the usual names (`model.safetensors`, `pytorch_model.bin`,
/// `open_clip_*`), which say that the files beside it belong to it.
///
/// # Errors
/// When weights are missing, ambiguous or not readable.
pub(super) fn find(model: &str, path: &Path) -> anyhow::Result<ModelFiles> {
    if path.is_dir() {
        let place = path.display().to_string();
        let chosen = choice::choose(&names_in(path)?, &place)?;
        let weights = weights(&path.join(chosen))?;
        return Ok(ModelFiles::with_companions(model, weights, path));
    }
    let weights = weights(path)?;
    let name = path.file_name().and_then(|name| name.to_str());
    if !name.is_some_and(choice::has_companions) {
        return Ok(ModelFiles::alone(model, weights));
    }
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    Ok(ModelFiles::with_companions(model, weights, folder))
}

/// The names of the files in a folder.
pub(super) fn names_in(folder: &Path) -> anyhow::Result<Vec<String>> {
    let reading = || format!("cannot list {}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        // Names that are not UTF-8 are no names of weights that we know.
        let name = entry.file_name().into_string();
        if let Ok(name) = name
            && entry.path().is_file()
        {
            names.push(name);
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
        "{} names the shard {}, which is not there; the download is not complete",
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
    fn a_folder_gives_its_weights_and_all_beside_them() {
        let folder = folder_with(&[
            ("model.safetensors", ""),
            ("config.json", ""),
            ("preprocessor_config.json", ""),
            ("vocab.json", ""),
            ("merges.txt", ""),
            ("tokenizer.json", ""),
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
            vocabulary: Some(path("vocab.json")),
            merges: Some(path("merges.txt")),
            tokenizer: Some(path("tokenizer.json")),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_lone_file_does_not_take_a_strangers_configuration() {
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
    fn shards_come_in_order_and_must_all_be_there() {
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
    fn a_folder_without_a_clear_model_is_an_error() {
        let several = folder_with(&[("a.pt", ""), ("b.pt", "")]);
        let error = find("m", several.path()).unwrap_err().to_string();
        assert!(error.contains("a.pt, b.pt"), "{error}");
        std::fs::create_dir(several.path().join("model.safetensors")).unwrap();
        assert!(
            find("m", several.path()).is_err(),
            "a folder is not a file of weights"
        );
    }
}
