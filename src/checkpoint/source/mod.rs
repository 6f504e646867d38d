//! Resolves the value of `--model`: built-in, alias, path or hub repository.
//!
//! In this order: `tiny` and the aliases are themselves (write
//! `./tiny` for a file of that name); what exists on disk is a path, also if
//! it could be a repository's name; what looks like a path is one;
//! `OWNER/REPO[@REVISION][:FILE]` is on the hub, split at `:` before `@`, as are the other ways to
//! write that (`address`). Names from other programs are answered with the name here (`known`).

mod address;
mod alias;
mod choice;
mod files;
mod known;
mod pipeline;
mod remote;

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::hub::{self, Repository, check_file_name};
pub(crate) use alias::{ALIASES, Alias};
pub use files::ModelFiles;
pub(crate) use remote::{Planned, found_in_cache};

/// Where a model's weights are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one per model, and boxing would complicate every match"
)]
pub enum ModelSource {
    /// The built-in tiny checkpoint.
    BuiltIn,
    /// Local files.
    Files(ModelFiles),
}

/// A parsed model name, not yet looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `tiny`.
    BuiltIn,
    /// A local file or folder.
    Path(PathBuf),
    /// A repository on the hub, perhaps with a specific file.
    Hub {
        /// The repository and its revision.
        repository: Repository,
        /// The weight file given by the user or the alias.
        file: Option<String>,
    },
}

/// Parses a model name; accesses the disk only to see what exists.
///
/// # Errors
/// When it is neither an existing model nor a possible name; suggests the most similar alias.
pub fn parse(model: &str) -> anyhow::Result<Reference> {
    if model == "tiny" {
        return Ok(Reference::BuiltIn);
    }
    if let Some(alias) = ALIASES.iter().find(|alias| alias.name == model) {
        return Ok(Reference::Hub {
            repository: Repository::new(alias.repository, "main")?,
            file: alias.file.map(str::to_owned),
        });
    }
    if let Some(path) = existing(model) {
        return Ok(Reference::Path(path));
    }
    if let Some(reference) = address::parse(model, &hub::Settings::addresses())? {
        return Ok(reference);
    }
    if let Some(name) = known::name_here(model) {
        bail!("{model:?} is not a model name here; did you mean {name}?");
    }
    if let Some(message) = known::tagged(model) {
        bail!(message);
    }
    if let Some(reference) = parse_hub(model)? {
        return Ok(reference);
    }
    if looks_like_a_path(model) {
        bail!("there is no file or folder {model:?}; check the path given as the model");
    }
    bail!(
        "{model:?} is not a model: it is not a built-in name{}, an existing path or \
         OWNER/REPO[@REVISION][:FILE]",
        alias::nearest(model)
            .map(|name| format!(" (did you mean {name}?)"))
            .unwrap_or_default()
    )
}

/// Whether a name means the built-in model or an aliased published one, that is, one that may be
/// used because a file names it.
#[must_use]
pub(crate) fn is_published(model: &str) -> bool {
    let is_alias = |repository: &Repository, file: Option<&str>| {
        ALIASES.iter().any(|alias| {
            let same = repository.id() == alias.repository && repository.revision() == "main";
            same && (file.is_none() || file == alias.file)
        })
    };
    match parse(model) {
        Ok(Reference::BuiltIn) => true,
        Ok(Reference::Hub { repository, file }) => is_alias(&repository, file.as_deref()),
        _ => false,
    }
}

/// Whether two names mean the same model, judging by the names alone.
#[must_use]
pub(crate) fn is_same(one: &str, two: &str) -> bool {
    match (parse(one), parse(two)) {
        (
            Ok(Reference::Hub {
                repository: one, ..
            }),
            Ok(Reference::Hub {
                repository: two, ..
            }),
        ) => one == two,
        (Ok(one), Ok(two)) => one == two,
        _ => one == two,
    }
}

/// Finds the files of a model, downloading them if needed.
///
/// # Errors
/// When the name means nothing, files are missing or ambiguous, or the hub
/// fails: [`hub::is_worth_retrying`] says whether trying later may help.
pub fn resolve(
    model: &str,
    hub: &hub::Settings,
    progress: &dyn hub::Progress,
) -> anyhow::Result<ModelSource> {
    let files = match parse(model)? {
        Reference::BuiltIn => return Ok(ModelSource::BuiltIn),
        Reference::Path(path) => ModelFiles::find(model, &path)?,
        Reference::Hub { repository, file } => {
            let wanted = remote::Wanted {
                model,
                file: file.as_deref(),
            };
            remote::find(&wanted, &hub::Hub::new(hub, progress, &repository)?)?
        }
    };
    Ok(ModelSource::Files(files))
}

/// The files that [`resolve`] would bring into the cache, with their sizes; nothing is downloaded to
/// stay. None for a model that is not a repository.
///
/// # Errors
/// As for [`resolve`].
pub(crate) fn plan(
    model: &str,
    hub: &hub::Settings,
    progress: &dyn hub::Progress,
) -> anyhow::Result<Vec<Planned>> {
    let Reference::Hub { repository, file } = parse(model)? else {
        return Ok(Vec::new());
    };
    let wanted = remote::Wanted {
        model,
        file: file.as_deref(),
    };
    // Only the user can read or replace what is in it.
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let elsewhere = hub::Settings {
        cache: Some(folder.path().to_owned()),
        ..hub.clone()
    };
    let scratch = hub::Hub::new(&elsewhere, &hub::Silent, &repository)?;
    remote::plan(
        &wanted,
        &hub::Hub::new(hub, progress, &repository)?,
        &scratch,
    )
}

/// The files of a model if all required ones are already local;
/// never uses the network. `None` for the built-in model.
///
/// # Errors
/// When the name means nothing, or a folder's files are missing or ambiguous.
pub fn cached(model: &str, hub: &hub::Settings) -> anyhow::Result<Option<ModelFiles>> {
    match parse(model)? {
        Reference::BuiltIn => Ok(None),
        Reference::Path(path) => ModelFiles::find(model, &path).map(Some),
        Reference::Hub { repository, file } => {
            let hub = hub::Hub::new(hub, &hub::Silent, &repository)?;
            Ok(remote::in_cache(model, file.as_deref(), &hub).map(|found| found.files))
        }
    }
}

/// How much of a model is available locally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// Built in.
    BuiltIn,
    /// A file or folder of the user.
    Local(ModelFiles),
    /// Its weights are in the hub's cache.
    Cached {
        /// The files that would be used.
        files: ModelFiles,
        /// Whether loading it needs no further request.
        complete: bool,
    },
    /// Parts of its repository are in the hub's cache, but not all of its weights.
    Begun,
    /// Nothing is available.
    Absent,
}

/// Finds out how much of a model is available locally; never uses the network.
///
/// # Errors
/// When the name means nothing, a folder's files are missing or ambiguous, or no cache folder is
/// known.
pub(crate) fn presence(model: &str, hub: &hub::Settings) -> anyhow::Result<Presence> {
    let (repository, file) = match parse(model)? {
        Reference::BuiltIn => return Ok(Presence::BuiltIn),
        Reference::Path(path) => return ModelFiles::find(model, &path).map(Presence::Local),
        Reference::Hub { repository, file } => (repository, file),
    };
    let place = hub::Hub::new(hub, &hub::Silent, &repository)?;
    if let Some(found) = remote::in_cache(model, file.as_deref(), &place) {
        return Ok(Presence::Cached {
            complete: found.is_complete(),
            files: found.files,
        });
    }
    Ok(match hub::Stored::open(hub, &repository) {
        Some(stored) if stored.bytes() > 0 => Presence::Begun,
        _ => Presence::Absent,
    })
}

/// Whether a repository's name includes a revision.
#[must_use]
pub(crate) fn names_revision(model: &str) -> bool {
    let head = model.split(':').next().unwrap_or(model);
    let other = || match parse(model) {
        Ok(Reference::Hub { repository, .. }) => repository.revision() != "main",
        _ => false,
    };
    head.contains('@') || other()
}

/// The path that a name means, if it exists.
fn existing(model: &str) -> Option<PathBuf> {
    let path = PathBuf::from(model);
    if path.exists() {
        return Some(path);
    }
    // Shells do not expand the tilde in `--model=~/x`.
    let rest = path.strip_prefix("~").ok()?;
    let path = std::env::home_dir()?.join(rest);
    path.exists().then_some(path)
}

/// `OWNER/REPO[@REVISION][:FILE]`, or nothing if it is more like a path.
fn parse_hub(model: &str) -> anyhow::Result<Option<Reference>> {
    let (head, file) = match model.split_once(':') {
        Some((head, file)) => (head, Some(file)),
        None => (model, None),
    };
    let (id, revision) = head.split_once('@').unwrap_or((head, "main"));
    let is_file = file.is_none() && choice::is_weights_name(model);
    if is_file
        || id.starts_with(['.', '/', '~'])
        || id.matches('/').count() != 1
        || id.contains('\\')
    {
        return Ok(None);
    }
    if let Some(file) = file {
        check_file_name(file)
            .with_context(|| format!("{model:?} does not name a file of a repository"))?;
    }
    Ok(Some(Reference::Hub {
        repository: Repository::new(id, revision)?,
        file: file.map(str::to_owned),
    }))
}

fn looks_like_a_path(model: &str) -> bool {
    model.contains(['/', '\\']) || model.starts_with(['.', '~']) || choice::is_weights_name(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_hub(id: &str, revision: &str, file: Option<&str>) -> Reference {
        Reference::Hub {
            repository: Repository::new(id, revision).unwrap(),
            file: file.map(str::to_owned),
        }
    }

    #[test]
    fn names_mean_what_the_table_says() {
        let long = "BeichenZhang/LongCLIP-L-336px";
        let cases = [
            ("tiny", Reference::BuiltIn),
            (
                "longclip-b",
                on_hub("BeichenZhang/LongCLIP-B", "main", Some("longclip-B.pt")),
            ),
            (
                "longclip-l-336",
                on_hub(long, "main", Some("longclip-L@336px.pt")),
            ),
            (
                "clip-vit-b-32",
                on_hub("openai/clip-vit-base-patch32", "main", None),
            ),
            ("a/b", on_hub("a/b", "main", None)),
            ("a/b@v1", on_hub("a/b", "v1", None)),
            (
                "a/b@refs/pr/3:x/y.pt",
                on_hub("a/b", "refs/pr/3", Some("x/y.pt")),
            ),
            ("a/b:c@d.pt", on_hub("a/b", "main", Some("c@d.pt"))),
            ("hf-hub:a/b@v1", on_hub("a/b", "v1", None)),
            (
                "https://huggingface.co/a/b/blob/main/x.pt",
                on_hub("a/b", "main", Some("x.pt")),
            ),
            (".", Reference::Path(".".into())),
            // A folder of this package that could be a repository's name.
            ("src/checkpoint", Reference::Path("src/checkpoint".into())),
        ];
        for (model, expected) in cases {
            assert_eq!(parse(model).unwrap(), expected, "{model}");
        }
    }

    #[test]
    fn names_of_the_same_model_are_recognised() {
        let repository = "openai/clip-vit-base-patch32";
        assert!(is_same("clip-vit-b-32", repository) && is_same("./x.pt", "./x.pt"));
        assert!(!is_same("tiny", repository) && !is_same("./x.pt", "tiny"));
        for known in [
            "tiny",
            "longclip-b",
            repository,
            "BeichenZhang/LongCLIP-B:longclip-B.pt",
        ] {
            assert!(is_published(known), "{known}");
        }
        let others = [
            "me/mine",
            "longclip-b:other.pt",
            "BeichenZhang/LongCLIP-B:other.pt",
            "./x.pt",
        ];
        for other in others {
            assert!(!is_published(other), "{other}");
        }
        assert!(!is_published(&format!("{repository}@refs/pr/1")));
    }

    #[test]
    fn what_cannot_be_a_model_says_why() {
        let cases = [
            ("longclip-n", "did you mean longclip-b?"),
            ("clip-vit-b32", "did you mean clip-vit-b-32?"),
            ("LongCLIP-B", "did you mean longclip-b?"),
            ("ViT-B/32", "did you mean clip-vit-b-32?"),
            ("ViT-B-32", "did you mean clip-vit-b-32?"),
            ("https://example.org/a/b", "not the page of a model"),
            ("something-else-entirely", "an existing path"),
            ("./nowhere", "no file or folder"),
            ("/nowhere/at/all", "no file or folder"),
            ("~/nowhere-at-all", "no file or folder"),
            ("weights.pt", "no file or folder"),
            ("models/weights.pt", "no file or folder"),
            ("a/b/c", "no file or folder"),
            ("C:\\weights.bin", "no file or folder"),
            ("a/b:../c.pt", "does not name a file of a repository"),
            ("a/b@../c", "not a revision"),
            ("a/b c", "not a repository name"),
            ("", "not a model"),
        ];
        for (model, expected) in cases {
            let error = format!("{:#}", parse(model).unwrap_err());
            assert!(error.contains(expected), "{model}: {error}");
        }
    }
}
