//! A matrix of embeddings from another program. The user says which model made it; what was assumed
//! about it is reported once.

use std::path::Path;

use anyhow::{Result, ensure};

use super::Console;
use super::session::Session;
use crate::embedding::{Matrix, sidecar_of};
use crate::input::paths::split_name;
use crate::run::flags::ModelChoice;

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
