//! The files of a model on disk: the weights of a folder or file, and the configuration next to
//! them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{choice, pipeline};
use crate::checkpoint::hub::check_file_name;
use crate::file::open;

pub(super) const CONFIG: &str = "config.json";
pub(super) const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
pub(super) const PROCESSOR: &str = "processor_config.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const VOCABULARY: &str = "vocab.json";
pub(super) const MERGES: &str = "merges.txt";
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// All files next to the weights that are read.
pub(super) const COMPANIONS: [&str; 8] = [
    CONFIG,
    OPEN_CLIP_CONFIG,
    PREPROCESSOR,
    PROCESSOR,
    VOCABULARY,
    MERGES,
    TOKENIZER,
    TOKENIZER_CONFIG,
];

/// The configuration that belongs to transformers if the weights do.
const OF_TRANSFORMERS: [&str; 3] = [CONFIG, PREPROCESSOR, "processor_config.json"];

/// Maximum size of an index of shards, in bytes.
const INDEX_LIMIT_BYTES: u64 = 16 << 20;

/// The files of one model, all local.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFiles {
    /// The model name as typed.
    pub name: String,
    /// The weights: one file, or all shards of an index in name order.
    pub weights: Vec<PathBuf>,
    /// `config.json`.
    pub config: Option<PathBuf>,
    /// `open_clip_config.json`.
    pub open_clip_config: Option<PathBuf>,
    /// `preprocessor_config.json`.
    pub preprocessor: Option<PathBuf>,
    /// `processor_config.json`, which transformers 5 writes instead.
    pub processor: Option<PathBuf>,
    /// `vocab.json`.
    pub vocabulary: Option<PathBuf>,
    /// `merges.txt`.
    pub merges: Option<PathBuf>,
    /// `tokenizer.json`.
    pub tokenizer: Option<PathBuf>,
    /// `tokenizer_config.json`.
    pub tokenizer_config: Option<PathBuf>,
}

impl ModelFiles {
    /// The files of the model at `path`, which exists.
    ///
    /// In a folder (or the one that a sentence-transformers pipeline names), the best of the
    /// standard names is the model, together with everything next to it.
    ///
    /// # Errors
    /// When weights are missing, ambiguous or not readable.
    pub(super) fn find(model: &str, path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Self::of_file(model, path);
        }
        let file = path.join(choose(path)?);
        Ok(Self::with_companions(
            model,
            weights(&file)?,
            folder_of(&file),
        ))
    }

    /// A weight file is the model alone, unless it has one of the standard names
    /// (`model.safetensors`, `pytorch_model.bin`, `open_clip_*`), which show that the files next to
    /// it belong to it.
    ///
    /// # Errors
    /// When it is an index, and not all shards are there.
    pub(super) fn of_file(model: &str, file: &Path) -> Result<Self> {
        let weights = weights(file)?;
        let name = file.file_name().and_then(|name| name.to_str());
        if name.is_some_and(choice::has_companions) {
            return Ok(Self::with_companions(model, weights, folder_of(file)));
        }
        Ok(Self {
            name: model.to_owned(),
            weights,
            ..Self::default()
        })
    }

    /// The weights, together with the other files of the folder.
    fn with_companions(name: &str, weights: Vec<PathBuf>, folder: &Path) -> Self {
        let is_there = |file: &str| folder.join(file).is_file();
        let has_own = is_there(OPEN_CLIP_CONFIG);
        let is_strangers = |file: &str| {
            weights
                .iter()
                .any(|weights| is_strangers(file, weights, has_own))
        };
        let companion =
            |file: &str| (is_there(file) && !is_strangers(file)).then(|| folder.join(file));
        Self {
            name: name.to_owned(),
            config: companion(CONFIG),
            open_clip_config: companion(OPEN_CLIP_CONFIG),
            preprocessor: companion(PREPROCESSOR),
            processor: companion(PROCESSOR),
            vocabulary: companion(VOCABULARY),
            merges: companion(MERGES),
            tokenizer: companion(TOKENIZER),
            tokenizer_config: companion(TOKENIZER_CONFIG),
            weights,
        }
    }
}

/// The configuration files without which a model with this weight file is incomplete,
/// unless its publisher has none.
pub(super) fn needed_companions(file: &str) -> &'static [&'static str] {
    let name = file.rsplit('/').next().unwrap_or(file);
    if !choice::has_companions(file) {
        &[]
    } else if name.starts_with("open_clip_") {
        &[OPEN_CLIP_CONFIG]
    } else {
        &[CONFIG, PREPROCESSOR]
    }
}

/// Whether `config` next to open_clip's `weights` belongs to other weights: if open_clip's own
/// configuration is present too, only that one is theirs.
pub(super) fn is_strangers(config: &str, weights: &Path, has_open_clip_config: bool) -> bool {
    let name = weights.file_name().and_then(|name| name.to_str());
    has_open_clip_config
        && OF_TRANSFORMERS.contains(&config)
        && name.is_some_and(|name| choice::OPEN_CLIP.contains(&name))
}

/// The weights (or their index) in a folder, or in the one that its pipeline names.
///
/// # Errors
/// When there are none, or several of equal rank.
pub(super) fn choose(folder: &Path) -> Result<String> {
    let inside = pipeline::clip_folder_in(folder)?;
    let folder = match inside.trim_end_matches('/') {
        "" => folder.to_owned(),
        inside => folder.join(inside),
    };
    if let Some(repository) = cached_repository(&folder) {
        bail!(
            "{} is a repository's folder in the hub's cache; pass the repository's name, {repository}",
            folder.display()
        );
    }
    let place = folder.display().to_string();
    let config = folder.join(CONFIG);
    let chosen = choice::choose(&names_in(&folder)?, &place, Some(&config))?;
    Ok(format!("{inside}{chosen}"))
}

/// The folder part of a file's name with its slash, or nothing.
pub(super) fn folder_prefix(file: &str) -> String {
    file.rsplit_once('/')
        .map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

/// The names of the files in a folder, and of standard weight files in its subfolders.
fn names_in(folder: &Path) -> Result<Vec<String>> {
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
pub(super) fn weights(file: &Path) -> Result<Vec<PathBuf>> {
    let is_index = file
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(is_index);
    if !is_index {
        return Ok(vec![file.to_owned()]);
    }
    let folder = folder_of(file);
    let shards = shards(file)?;
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

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or_else(|| Path::new(""))
}

/// Whether the file lists shards instead of holding weights.
pub(super) fn is_index(name: &str) -> bool {
    name.ends_with(".index.json")
}

/// The repository that `folder` in the hub's cache belongs to.
pub(super) fn cached_repository(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_str()?.strip_prefix("models--")?;
    let (owner, name) = name.split_once("--")?;
    folder
        .join("snapshots")
        .is_dir()
        .then(|| format!("{owner}/{name}"))
}

/// The shards that an index names, in name order, each a plain file name.
///
/// # Errors
/// When the file is not an index, or names something outside its folder.
pub(super) fn shards(index: &Path) -> Result<Vec<String>> {
    let place = index.display();
    let content = open::bytes(index, INDEX_LIMIT_BYTES);
    let content = content.with_context(|| format!("cannot read {place}"))?;
    let content: Value = serde_json::from_slice(&content)
        .with_context(|| format!("{place} is not an index of shards: not JSON"))?;
    let map = content.get("weight_map").and_then(Value::as_object);
    let map = map.with_context(|| format!("{place} is not an index of shards: no weight_map"))?;
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        let shard = shard
            .as_str()
            .filter(|name| !name.contains('/') && check_file_name(name).is_ok())
            .with_context(|| {
                format!("{place} puts {tensor:?} into {shard}, which is not a plain file name")
            })?;
        shards.insert(shard.to_owned());
    }
    ensure!(!shards.is_empty(), "{place} does not name any shards");
    Ok(shards.into_iter().collect())
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
        let found = ModelFiles::find("typed", folder.path()).unwrap();
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
            let found = ModelFiles::find(file, &path).unwrap();
            assert_eq!(found.weights, [path], "{file}");
            assert_eq!(found.config.is_some(), has_config, "{file}");
        }
    }

    #[test]
    fn shards_come_in_order_and_none_may_be_missing() {
        let index = r#"{"weight_map":{"b":"s-2.bin","a":"s-1.bin"}}"#;
        let folder = folder_with(&[("pytorch_model.bin.index.json", index), ("s-1.bin", "")]);
        let error = ModelFiles::find("m", folder.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("s-2.bin") && error.contains("not complete"),
            "{error}"
        );
        std::fs::write(folder.path().join("s-2.bin"), "").unwrap();
        let found = ModelFiles::find("m", folder.path()).unwrap().weights;
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
        assert!(
            ModelFiles::find("m", folder.path()).is_err(),
            "the folder is missing"
        );
        std::fs::create_dir(&inside).unwrap();
        for name in ["config.json", "pytorch_model.bin"] {
            std::fs::write(inside.join(name), "").unwrap();
        }
        let found = ModelFiles::find("m", folder.path()).unwrap();
        assert_eq!(found.weights, [inside.join("pytorch_model.bin")]);
        assert_eq!(found.config, Some(inside.join("config.json")));
        std::fs::remove_file(folder.path().join("modules.json")).unwrap();
        let error = ModelFiles::find("m", folder.path())
            .unwrap_err()
            .to_string();
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
        let found = ModelFiles::find("m", folder.path()).unwrap();
        let path = |name: &str| folder.path().join(name);
        assert_eq!(found.weights, [path("open_clip_model.safetensors")]);
        assert_eq!(found.open_clip_config, Some(path("open_clip_config.json")));
        assert_eq!(found.vocabulary, Some(path("vocab.json")));
        assert_eq!((found.config, found.preprocessor), (None, None));
    }

    #[test]
    fn a_folder_without_a_clear_model_is_an_error() {
        let several = folder_with(&[("a.pt", ""), ("b.pt", "")]);
        let error = ModelFiles::find("m", several.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("a.pt, b.pt"), "{error}");
        let cached = several.path().join("models--owner--name");
        std::fs::create_dir_all(cached.join("snapshots")).unwrap();
        let error = ModelFiles::find("m", &cached).unwrap_err().to_string();
        assert!(error.ends_with("name, owner/name"), "{error}");
        std::fs::create_dir(several.path().join("model.safetensors")).unwrap();
        assert!(
            ModelFiles::find("m", several.path()).is_err(),
            "a folder is not a file of weights"
        );
    }

    #[test]
    fn configurations_of_transformers_are_strangers_to_open_clips_weights() {
        for (file, weights, has_own, expected) in [
            (CONFIG, "x/open_clip_model.safetensors", true, true),
            (CONFIG, "x/open_clip_model.safetensors", false, false),
            (CONFIG, "x/model.safetensors", true, false),
            (
                OPEN_CLIP_CONFIG,
                "x/open_clip_model.safetensors",
                true,
                false,
            ),
            (VOCABULARY, "x/open_clip_model.safetensors", true, false),
        ] {
            assert_eq!(is_strangers(file, Path::new(weights), has_own), expected);
        }
    }

    #[test]
    fn an_index_may_name_plain_files_only() {
        let cases = [
            (
                r#"{"weight_map":{"a":"2.bin","b":"1.bin","c":"2.bin"}}"#,
                Ok(["1.bin", "2.bin"]),
            ),
            (
                r#"{"weight_map":{"a":"../x.bin"}}"#,
                Err("not a plain file name"),
            ),
            (
                r#"{"weight_map":{"a":"/etc/passwd"}}"#,
                Err("not a plain file name"),
            ),
            (
                r#"{"weight_map":{"a":"sub/x.bin"}}"#,
                Err("not a plain file name"),
            ),
            (r#"{"weight_map":{"a":7}}"#, Err("not a plain file name")),
            (r#"{"weight_map":{}}"#, Err("does not name any shards")),
            (r#"{"metadata":{}}"#, Err("no weight_map")),
            ("<html>", Err("not JSON")),
        ];
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        for (content, expected) in cases {
            std::fs::write(&index, content).unwrap();
            match (shards(&index), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(error), Err(expected)) => {
                    assert!(format!("{error:#}").contains(expected), "{error:#}")
                }
                (found, _) => panic!("{content}: {found:?}"),
            }
        }
    }

    #[test]
    fn each_librarys_weights_need_its_configuration() {
        for (file, expected) in [
            ("model.safetensors", &[CONFIG, PREPROCESSOR][..]),
            ("sub/pytorch_model.bin.index.json", &[CONFIG, PREPROCESSOR]),
            ("open_clip_model.safetensors", &[OPEN_CLIP_CONFIG]),
            ("longclip-B.pt", &[]),
            ("model.safetensors/x.pt", &[]),
        ] {
            assert_eq!(needed_companions(file), expected, "{file}");
        }
    }
}
