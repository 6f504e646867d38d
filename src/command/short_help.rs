//! What `-h` shows: the flags that most runs need. `--help` and the manual pages have all.

use clap::Command;

/// The flags in `-h` of the commands that have too many for one screen, by the names of their
/// fields; other arguments without a flag are shown as well. Whoever adds a flag that most users of
/// the command need lists it here.
const SHOWN: [(&str, &[&str]); 12] = [
    (
        "classify",
        &[
            "files_from",
            "labels",
            "labels_file",
            "templates",
            "none_label",
            "top_k",
            "threshold",
            "format",
            "output",
            "report",
            "model",
            "offline",
        ],
    ),
    (
        "embed",
        &[
            "files_from",
            "texts",
            "text",
            "output",
            "resume",
            "model",
            "offline",
        ],
    ),
    (
        "labels",
        &[
            "labels",
            "labels_file",
            "templates",
            "none_label",
            "output",
            "model",
            "offline",
        ],
    ),
    (
        "search",
        &[
            "image",
            "top_k",
            "threshold",
            "exclude_query",
            "format",
            "output",
            "model",
            "offline",
        ],
    ),
    (
        "probe",
        &[
            "test",
            "labels_from",
            "method",
            "l2",
            "shots",
            "templates",
            "out",
            "report",
            "format",
            "model",
            "offline",
        ],
    ),
    (
        "evaluate",
        &[
            "task",
            "labels",
            "labels_file",
            "templates",
            "compare",
            "out",
            "report",
            "min_acc",
            "format",
            "model",
            "offline",
        ],
    ),
    (
        "explain",
        &[
            "label", "against", "words", "parts", "samples", "regions", "grid", "pairs", "heatmap",
            "report", "format", "model", "offline",
        ],
    ),
    (
        "calibrate",
        &[
            "output",
            "outside",
            "labels",
            "labels_file",
            "templates",
            "none_label",
            "model",
            "offline",
        ],
    ),
    (
        "shift",
        &[
            "labels",
            "labels_file",
            "templates",
            "permutations",
            "most",
            "max_p",
            "max_drop",
            "report",
            "format",
            "model",
            "offline",
        ],
    ),
    (
        "finetune",
        &[
            "out",
            "resume",
            "model",
            "stretch",
            "offline",
            "images",
            "train",
            "rate",
            "epochs",
            "batch_size",
            "eval",
        ],
    ),
    (
        "stretch",
        &["keep", "ratio", "to", "layout", "dtype", "force", "offline"],
    ),
    (
        "bench",
        &[
            "images",
            "labels_file",
            "only",
            "format",
            "model",
            "offline",
        ],
    ),
];

/// Examples in the short help.
const EXAMPLES: usize = 2;

/// The program with short help of its long commands.
pub(super) fn shortened(program: Command) -> Command {
    SHOWN.iter().fold(program, |program, (name, shown)| {
        program.mut_subcommand(name, |command| {
            let notes = command.get_after_help().map(ToString::to_string);
            let notes = notes.unwrap_or_default();
            let command = match command.get_after_long_help() {
                Some(_) => command,
                // The long help would show the short notes.
                None => command.after_long_help(notes.clone()),
            };
            let command = command.after_help(brief(&notes));
            command.mut_args(|arg| {
                let is_shown = arg.is_positional() || shown.contains(&arg.get_id().as_str());
                arg.hide_short_help(!is_shown)
            })
        })
    })
}

/// The first examples of a help text.
fn brief(notes: &str) -> String {
    let examples = notes.lines().skip_while(|line| *line != "Examples:");
    let examples: Vec<&str> = examples.take(1 + EXAMPLES).collect();
    examples.join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::command::Cli;

    /// A screen, less a line for the next prompt and the command itself.
    const LINES: usize = 45;

    /// All commands with the names that are typed.
    fn all(command: Command, name: &str, found: &mut Vec<(String, Command)>) {
        for inner in command.get_subcommands().cloned().collect::<Vec<_>>() {
            all(
                inner.clone(),
                &format!("{name} {}", inner.get_name()),
                found,
            );
        }
        found.push((name.to_owned(), command));
    }

    #[test]
    fn the_short_help_of_every_command_fits_a_screen() {
        let mut program = shortened(Cli::command()).term_width(100);
        program.build();
        let mut commands = Vec::new();
        all(program, "longclip", &mut commands);
        assert!(commands.len() > 20);
        let mut longer = Vec::new();
        for (name, mut command) in commands {
            let help = command.render_help().to_string();
            let lines = help.trim_end().lines().count();
            if lines > LINES {
                longer.push(format!("{name} -h has {lines} lines\n{help}"));
            }
            let widest = help.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(100), "{help}");
        }
        assert!(longer.is_empty(), "{}", longer.join("\n"));
    }

    #[test]
    fn flags_that_are_listed_exist_and_only_short_help_lacks_the_others() {
        let program = Cli::command();
        for (name, shown) in SHOWN {
            let command = program.find_subcommand(name).unwrap();
            let known: BTreeSet<&str> = command
                .get_arguments()
                .map(|arg| arg.get_id().as_str())
                .collect();
            for id in shown {
                assert!(known.contains(id), "{name}: {id}");
            }
            assert!(known.len() > shown.len(), "{name} needs no list");
        }
        let mut short = shortened(program.clone());
        short.build();
        for (name, _) in SHOWN {
            let notes = program.find_subcommand(name).unwrap().get_after_help();
            let notes = notes.unwrap().to_string();
            let command = short.find_subcommand_mut(name).unwrap();
            let long = command.render_long_help().to_string();
            assert!(long.contains(notes.trim_end()), "{name}: {long}");
        }
        let mut program = shortened(program);
        program.build();
        let classify = program.find_subcommand_mut("classify").unwrap();
        let (short, long) = (classify.render_help(), classify.render_long_help());
        let (short, long) = (short.to_string(), long.to_string());
        for flag in [
            "--labels-file",
            "--model",
            "Examples:\n  longclip classify img.jpg",
        ] {
            assert!(short.contains(flag) && long.contains(flag), "{flag}");
        }
        for flag in ["--max-memory", "--heads", "--stride", "Exit status"] {
            assert!(!short.contains(flag) && long.contains(flag), "{flag}");
        }
    }
}
