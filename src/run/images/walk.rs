//! What was seen besides images while the input was read.

use crate::input::paths::{Expansion, ListNotes, PassedOver};
use crate::run::Console;
use crate::run::console::counted;

/// Notes about the input, complete once it was read.
#[derive(Default)]
pub(crate) struct Walk {
    pub(super) passed_over: PassedOver,
    list_notes: ListNotes,
}

impl Walk {
    pub(super) fn of(sources: &Expansion) -> Self {
        Self {
            passed_over: sources.passed_over(),
            list_notes: sources.list_notes(),
        }
    }

    /// Says them at the end.
    pub(crate) fn report(&self, console: &Console) {
        let notes = self.list_notes.all();
        notes.iter().for_each(|note| console.note(note));
        let passed_over = &self.passed_over;
        if let Some(folders) = passed_over.system_folders() {
            console.detail(&format!("skipped {folders}"));
        }
        if let Some((count, first)) = passed_over.shards() {
            let first = first.display();
            console.note(&format!(
                "passed over {} in the folders; to read their images, pass them by name, such as {first}",
                counted(count, "archive")
            ));
        }
        match passed_over.count() {
            0 => {}
            1 => console.detail("skipped 1 file that is not an image"),
            n => console.detail(&format!("skipped {n} files that are not images")),
        }
    }
}
