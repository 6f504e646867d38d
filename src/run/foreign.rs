//! A matrix of another program in a run: whose embeddings it holds the user says, and what was made of it
//! is said once.

use std::path::Path;

use anyhow::{Result, ensure};

use super::Console;
use super::session::Session;
use crate::embedding::{Matrix, sidecar_of, split_array};
use crate::run::flags::ModelChoice;

/// A matrix and where it lies.
#[derive(Clone, Copy)]
pub(crate) struct Foreign<'a> {
    pub(crate) path: &'a Path,
    pub(crate) matrix: &'a Matrix,
}

impl Foreign<'_> {
    /// Fails if nobody said which model made the matrix.
    pub(crate) fn check_choice(&self, choice: ModelChoice) -> Result<()> {
        ensure!(
            choice != ModelChoice::Default,
            "{} does not say which model made it; name that model with --model ({})",
            self.path.display(),
            match self.matrix.has_names() {
                true => "longclip embed writes it down".to_owned(),
                false => format!(
                    "longclip embed writes it down, with the names of the rows, in {}",
                    self.sidecar()
                ),
            }
        );
        Ok(())
    }

    /// Fails if the model's embeddings are of another width.
    pub(crate) fn check_dim(&self, session: &Session) -> Result<()> {
        let (rows, dim) = (self.matrix.rows(), self.matrix.dim());
        let wanted = session.checkpoint.architecture.embed_dim;
        ensure!(
            dim == wanted,
            "{} has {rows} rows of {dim} numbers, and the model {} makes {wanted}; {}",
            self.path.display(),
            session.checkpoint.name,
            match rows == wanted {
                true => "transpose it, so that each row is an embedding",
                false => "name the model that made it with --model",
            }
        );
        Ok(())
    }

    /// Says what the file does not say and was done about it.
    pub(crate) fn report(&self, session: &Session, console: &Console) {
        let lengths = self.matrix.lengths();
        let mut note = format!(
            "{} does not say which model made it; taken for embeddings of {}",
            self.path.display(),
            session.checkpoint.name
        );
        if !lengths.are_one() {
            note += &format!(", normalised (lengths: {lengths})");
        }
        if !self.matrix.has_names() {
            note += &format!(
                ", rows numbered from 0 (names would be in {}: a line {{\"image\": PATH}} or \
                 {{\"text\": TEXT}} per row)",
                self.sidecar()
            );
        }
        console.note(&note);
        if let Some((count, first)) = lengths.zeros {
            console.warn(&format!(
                "{}: {count} row{} of zeros (the first is row {first}), which have no direction and are \
                 left out",
                self.path.display(),
                if count == 1 { "" } else { "s" }
            ));
        }
    }

    fn sidecar(&self) -> String {
        let (file, _) = split_array(self.path);
        sidecar_of(&file).display().to_string()
    }
}
