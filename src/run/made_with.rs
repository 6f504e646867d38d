//! Checks that a file of embeddings, or a probe, was made with this run's model; a matrix of
//! another program does not say.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::Console;
use super::session::Session;
use crate::checkpoint::source::{Presence, Reference};
use crate::checkpoint::{hub, source};
use crate::embedding::{About, Dtype, Kind, Matrix, sidecar_of};
use crate::file::digest::hexadecimal;
use crate::input::image::Alpha;
use crate::input::paths::split_name;
use crate::run::flags::{EngineArgs, ModelArgs, ModelChoice};

/// A file that was made with a model.
#[derive(Clone, Copy)]
pub(crate) struct MadeWith<'a> {
    pub(crate) path: &'a Path,
    pub(crate) about: &'a About,
    /// What to do if no flag helps, such as `embed again`.
    pub(crate) redo: &'static str,
}

impl MadeWith<'_> {
    /// The model to use: the one given, else the file's own.
    ///
    /// # Errors
    /// When the file names another model, or one that cannot be found by name.
    pub(crate) fn model(&self, args: &EngineArgs, console: &Console) -> Result<ModelArgs> {
        let EngineArgs { choice, model, .. } = args;
        let theirs = &self.about.model;
        if *choice != ModelChoice::Default || !source::is_published(theirs) {
            self.check_name(args)?;
            return Ok(model.clone());
        }
        if !source::is_same(&model.model, theirs) {
            console.note(&format!(
                "using model {theirs}, which {} was made with; --model overrides it",
                self.path.display()
            ));
        }
        Ok(ModelArgs {
            model: theirs.clone(),
            ..model.clone()
        })
    }

    /// Fails if the model would be downloaded or is the default, and its name differs. Local files
    /// are compared by their weights instead.
    pub(crate) fn check_name(&self, args: &EngineArgs) -> Result<()> {
        let model = &args.model.model;
        let theirs = &self.about.model;
        if source::is_same(model, theirs) {
            return Ok(());
        }
        let names_another = matches!(
            source::parse(theirs),
            Ok(Reference::BuiltIn | Reference::Hub { .. })
        );
        let may_be_same = match args.choice {
            ModelChoice::Default => is_here(model) && !names_another,
            ModelChoice::Environment | ModelChoice::Flag => is_here(model) || !names_another,
        };
        ensure!(
            may_be_same,
            "{} was made with model {theirs}, but this run uses {model}; pass --model {theirs}",
            self.path.display()
        );
        Ok(())
    }

    /// Fails if the model's embeddings have another dimension.
    pub(crate) fn check_dim(&self, session: &Session) -> Result<()> {
        let about = self.about;
        let dim = session.checkpoint.architecture.embed_dim;
        ensure!(
            about.dim == dim,
            "{} was made with model {} ({} features), but this run uses {} ({dim} features); pass \
             --model {}",
            self.path.display(),
            about.model,
            about.dim,
            session.checkpoint.name,
            about.model
        );
        Ok(())
    }

    /// Fails if the model's weights, activation or heads differ. Reads all weights.
    pub(crate) fn check_model(&self, session: &Session) -> Result<()> {
        let about = self.about;
        let digest = session.weights_sha256()?;
        let way_out = match about.model == session.checkpoint.name {
            true => self.redo.to_owned(),
            false => format!("pass --model {}", about.model),
        };
        ensure!(
            about.sha256 == digest,
            "{} was made with model {} (weights {:.12}…), but this run uses {} (weights \
             {digest:.12}…); {way_out}",
            self.path.display(),
            about.model,
            about.sha256,
            session.checkpoint.name,
        );
        // How images were read changes embeddings slightly; another activation changes them
        // completely.
        let ours = session.checkpoint.activation.to_string();
        if let Some(theirs) = setting(about, "activation=").filter(|theirs| *theirs != ours) {
            bail!(
                "{} was made with activation {theirs}, but this run uses {ours}; pass --activation \
                 {theirs}, or {}",
                self.path.display(),
                self.redo
            );
        }
        let heads = session.checkpoint.heads();
        let ours = format!("{},{}", heads.image, heads.text);
        if let Some(theirs) = setting(about, "heads=").filter(|theirs| *theirs != ours) {
            bail!(
                "{} was made with {theirs} attention heads (image,text), but this run's model has \
                 {ours}; pass --heads {theirs}, or {}",
                self.path.display(),
                self.redo
            );
        }
        Ok(())
    }

    /// Fails if another file was made with another model.
    pub(crate) fn check_same(&self, other: &MadeWith<'_>) -> Result<()> {
        let (one, two) = (self.about, other.about);
        ensure!(
            one.sha256 == two.sha256 && one.dim == two.dim,
            "{} was made with model {} (weights {:.12}…, {} features) and {} with {} (weights \
             {:.12}…, {} features); embed both with the same model",
            self.path.display(),
            one.model,
            one.sha256,
            one.dim,
            other.path.display(),
            two.model,
            two.sha256,
            two.dim
        );
        ensure!(
            setting(one, "activation=") == setting(two, "activation="),
            "{} and {} were made with different activations; embed both the same way",
            self.path.display(),
            other.path.display()
        );
        // Older files do not record heads.
        let heads = [one, two].map(|about| setting(about, "heads="));
        ensure!(
            heads[0] == heads[1] || heads.contains(&None),
            "{} and {} were made with different attention heads; embed both the same way",
            self.path.display(),
            other.path.display()
        );
        Ok(())
    }

    /// Warns if another file of the same model was made with other settings, which change
    /// embeddings slightly.
    pub(crate) fn warn_difference(&self, other: &str, theirs: &About, console: &Console) {
        // The stored data type does not matter.
        let theirs = About {
            dtype: self.about.dtype,
            ..theirs.clone()
        };
        if let Some(difference) = self.about.difference(&theirs) {
            console.note(&format!(
                "{} and {other} were made with different settings ({difference}); using both",
                self.path.display()
            ));
        }
    }
}

/// Whether a model is on this machine. A name that is not a model is reported when it is opened.
fn is_here(model: &str) -> bool {
    let presence = source::presence(model, &hub::Settings::from_env());
    !matches!(presence, Ok(Presence::Absent | Presence::Begun))
}

/// The value of a setting; `key` ends in "=".
fn setting<'a>(about: &'a About, key: &str) -> Option<&'a str> {
    let mut settings = about.settings.split(' ');
    settings.find_map(|setting| setting.strip_prefix(key))
}

/// The decoding flags that change embeddings, as text.
fn settings(args: &EngineArgs) -> String {
    let alpha = match args.decode.alpha {
        Alpha::White => "white",
        Alpha::Black => "black",
        Alpha::Drop => "drop",
    };
    let orient = if args.decode.no_orient { "no" } else { "yes" };
    let decode = if args.fast_decode { " decode=fast" } else { "" };
    format!("orient={orient} alpha={alpha}{decode}")
}

/// What the embeddings of a run's images have in common, independent of the file.
pub(crate) fn about_images(session: &Session, args: &EngineArgs) -> Result<About> {
    let recipe = session.image_recipe(&args.decoding(session))?;
    about(session, Kind::Images, &settings(args), &recipe)
}

/// The heads, if the weights alone do not determine them: stated by the user, or not 64 features
/// each.
fn heads_setting(session: &Session) -> String {
    let (checkpoint, stated) = (&session.checkpoint, session.heads_are_stated);
    let image = &checkpoint.architecture.image;
    let text = &checkpoint.architecture.text;
    let is_usual = image.head_width() == 64 && text.width == 64 * text.heads;
    match stated || !is_usual {
        true => format!(" heads={},{}", image.heads(), text.heads),
        false => String::new(),
    }
}

/// What all rows of a run have in common; `settings` is for display, `recipe` for comparison.
pub(crate) fn about(session: &Session, kind: Kind, settings: &str, recipe: &str) -> Result<About> {
    let checkpoint = &session.checkpoint;
    let device = session.placement.device.split(':').next();
    let recipe = hexadecimal(&Sha256::digest(recipe)[..4]);
    Ok(About {
        model: checkpoint.name.clone(),
        sha256: session.weights_sha256()?.to_owned(),
        precision: session.placement.precision.to_string(),
        settings: format!(
            "device={} activation={}{} {settings} recipe={recipe}",
            device.unwrap_or_default(),
            checkpoint.activation,
            heads_setting(session),
        ),
        kind,
        dim: checkpoint.architecture.embed_dim,
        dtype: Dtype::F32,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// A matrix and its path.
#[derive(Clone, Copy)]
pub(crate) struct Foreign<'a> {
    pub(crate) path: &'a Path,
    pub(crate) matrix: &'a Matrix,
}

impl Foreign<'_> {
    /// Fails unless the user named the model that made the matrix.
    pub(crate) fn check_choice(&self, choice: ModelChoice) -> Result<()> {
        ensure!(
            choice != ModelChoice::Default,
            "{} does not say which model made it; name that model with --model ({})",
            self.path.display(),
            match self.matrix.has_names() {
                true => "longclip embed records it".to_owned(),
                false => format!(
                    "longclip embed records it, and the names of the rows, in {}",
                    self.sidecar()
                ),
            }
        );
        Ok(())
    }

    /// Fails if the model's embeddings have another dimension.
    pub(crate) fn check_dim(&self, session: &Session) -> Result<()> {
        let (rows, dim) = (self.matrix.rows(), self.matrix.dim());
        let wanted = session.checkpoint.architecture.embed_dim;
        ensure!(
            dim == wanted,
            "{} has {rows} rows of {dim} numbers, but model {} makes {wanted}; {}",
            self.path.display(),
            session.checkpoint.name,
            match rows == wanted {
                true => "transpose it, so that each row is an embedding",
                false => "name the model that made it with --model",
            }
        );
        Ok(())
    }

    /// Reports what the file does not specify, and what was assumed.
    pub(crate) fn report(&self, session: &Session, console: &Console) {
        let lengths = self.matrix.lengths();
        let mut note = format!(
            "{} does not say which model made it; assuming {}",
            self.path.display(),
            session.checkpoint.name
        );
        if !lengths.are_one() {
            note += &format!(", normalised (lengths: {lengths})");
        }
        if !self.matrix.has_names() {
            note += &format!(
                ", rows numbered from 0 (to name them, write {} with a line {{\"image\": PATH}} or \
                 {{\"text\": TEXT}} per row)",
                self.sidecar()
            );
        }
        console.note(&note);
        if let Some((count, first)) = lengths.zeros {
            console.warn(&format!(
                "{}: skipped {count} row{} of zeros (first: row {first}), which have no direction",
                self.path.display(),
                if count == 1 { "" } else { "s" }
            ));
        }
    }

    fn sidecar(&self) -> String {
        let (file, _) = split_name(self.path);
        sidecar_of(&file).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(settings: &str) -> About {
        About {
            model: "m".to_owned(),
            sha256: "a".repeat(64),
            precision: "f32".to_owned(),
            settings: settings.to_owned(),
            kind: Kind::Images,
            dim: 4,
            dtype: Dtype::F32,
            version: String::new(),
        }
    }

    #[test]
    fn files_of_one_model_go_together() {
        let one = about("device=cpu activation=gelu heads=2,4 orient=yes");
        let other = About {
            sha256: "b".repeat(64),
            ..one.clone()
        };
        let wider = About {
            dim: 8,
            ..one.clone()
        };
        let cases = [
            (one.clone(), ""),
            // A difference that is only warned of.
            (about("device=cuda activation=gelu heads=2,4 orient=no"), ""),
            // Older files do not record heads.
            (about("device=cpu activation=gelu"), ""),
            (other, "embed both with the same model"),
            (wider, "8 features); embed both"),
            (
                about("activation=quick_gelu heads=2,4"),
                "different activations",
            ),
            (
                about("activation=gelu heads=4,4"),
                "different attention heads",
            ),
        ];
        for (two, part) in cases {
            let file = |about| MadeWith {
                path: Path::new("x.npy"),
                about,
                redo: "embed again",
            };
            match file(&one).check_same(&file(&two)) {
                Ok(()) => assert_eq!(part, "", "{two:?}"),
                Err(error) => assert!(
                    !part.is_empty() && error.to_string().contains(part),
                    "{error}"
                ),
            }
        }
    }
}
