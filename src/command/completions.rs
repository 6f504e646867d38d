//! `longclip completions`: prints shell completion scripts.

use std::io::Write as _;

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{Arg, Args, Command, CommandFactory as _};
use clap_complete::Shell;

use crate::checkpoint::source::ALIASES;
use crate::command::Cli;
use crate::input::prompt::{label_names, template_names};
use crate::run::Outcome;

const EXAMPLES: &str = "\
Examples:
  bash         longclip completions bash > ~/.local/share/bash-completion/completions/longclip
  zsh          longclip completions zsh > ~/.zfunc/_longclip, in a folder of $fpath
  fish         longclip completions fish > ~/.config/fish/completions/longclip.fish
  elvish       longclip completions elvish >> ~/.config/elvish/rc.elv
  powershell   longclip completions powershell >> $PROFILE

In bash, zsh and fish, the names of models and of built-in labels and templates are completed, and
files as well.

Exit status: 0 success, 2 unknown shell.";

/// The arguments of `longclip completions`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<Outcome> {
    let script = script(args.shell);
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(script.as_bytes())
        .and_then(|()| stdout.flush());
    written.context("cannot write the script to stdout")?;
    Ok(Outcome::Answered)
}

/// What a shell offers besides files: names that an argument takes.
#[derive(Clone, Copy)]
enum Names {
    Models,
    Labels,
    Templates,
}

impl Names {
    const ALL: [Self; 3] = [Self::Models, Self::Labels, Self::Templates];

    /// Those of an argument, by the name of its field.
    fn of(arg: &Arg) -> Option<Self> {
        match arg.get_id().as_str() {
            "model" | "name" | "names" | "input" => Some(Self::Models),
            "labels_file" | "background_file" => Some(Self::Labels),
            // Every set of labels has templates under its name.
            "templates" | "eval_templates" | "compare" => Some(Self::Templates),
            _ => None,
        }
    }

    fn list(self) -> Vec<&'static str> {
        match self {
            Self::Models => {
                let aliases = ALIASES.iter().map(|alias| alias.name);
                ["tiny"].into_iter().chain(aliases).collect()
            }
            Self::Labels => label_names().collect(),
            Self::Templates => template_names().collect(),
        }
    }
}

/// The completion script of a shell.
fn script(shell: Shell) -> String {
    let mut program = with_names(Cli::command());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "longclip", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        script = by_lines(&script);
    }
    if shell == Shell::Zsh {
        // Flags follow images, too; with two colons, zsh takes all that follows for more of them.
        script = script.replace("\n'*::", "\n'*:");
    }
    Names::ALL.into_iter().fold(script, |script, names| {
        with_files(&script, shell, &names.list())
    })
}

/// Offers what it reads, one per line: as words of the shell, names of files would be split at spaces,
/// and expanded as patterns. Also for bash 3, which has no `mapfile`.
const BASH_OFFER: &str = "\
_longclip_offer() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=(\"$line\")
    done
}

";

/// Tells bash that names of files are offered, which it then escapes.
const BASH_FILES: &str = "if [[ \"${BASH_VERSINFO[0]}\" -ge 4 ]]; then
                        compopt -o filenames
                    fi";

/// A script for bash whose offers are lines.
fn by_lines(script: &str) -> String {
    let script = script
        .replace("COMPREPLY=( $(", "COMPREPLY=($(")
        .replace(") )\n", "))\n");
    let lines = script.lines().map(|line| {
        let offered = line.trim_start().strip_prefix("COMPREPLY=($(");
        let Some(offered) = offered.and_then(|offered| offered.strip_suffix("))")) else {
            return format!("{line}\n");
        };
        let indent = " ".repeat(line.len() - line.trim_start().len());
        let files = match offered.starts_with("compgen -f") {
            true => format!("{indent}{BASH_FILES}\n"),
            false => String::new(),
        };
        format!("{indent}_longclip_offer < <({offered})\n{files}")
    });
    [BASH_OFFER.to_owned(), lines.collect()].concat()
}

/// The program, whose arguments seem to take nothing but these names: the generators know files or
/// names, not both.
fn with_names(command: Command) -> Command {
    let named = |arg: Arg| match Names::of(&arg) {
        Some(names) => arg.value_parser(PossibleValuesParser::new(names.list())),
        None => arg,
    };
    command.mut_args(named).mut_subcommands(with_names)
}

/// The script with files wherever it offers exactly these names.
fn with_files(script: &str, shell: Shell, names: &[&str]) -> String {
    let words = names.join(" ");
    match shell {
        Shell::Bash => {
            let lines = names.join("\\n");
            script.replace(
                &format!("_longclip_offer < <(compgen -W \"{words}\" -- \"${{cur}}\")"),
                &format!(
                    "_longclip_offer < <(compgen -W $'{lines}' -- \"${{cur}}\"; compgen -f -- \"${{cur}}\")
                    {BASH_FILES}"
                ),
            )
        }
        Shell::Zsh => script.replace(
            &format!(":({words})'"),
            &format!(":{{_alternative \"names\\:name\\:({words})\" \"files\\:file\\:_files\"}}'"),
        ),
        Shell::Fish => {
            let list: Vec<String> = names.iter().map(|name| format!("{name}\\t''")).collect();
            let list = list.join("\n");
            script.replace(
                &format!(" -r -f -a \"{list}\""),
                &format!(" -r -F -a \"{list}\""),
            )
        }
        _ => script.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_take_names_offer_them_and_files() {
        let mut program = Cli::command();
        program.build();
        let mut offered = Vec::new();
        for command in program.get_subcommands() {
            let named = command
                .get_arguments()
                .filter(|arg| Names::of(arg).is_some() && !arg.is_positional());
            offered.extend(named.map(|arg| format!("{} {arg}", command.get_name())));
        }
        for known in [
            "classify --model <MODEL>",
            "classify --labels-file <NAME|FILE>",
            "classify --templates <NAME|FILE>",
            "finetune --eval-templates <NAME|FILE>",
            "tokens --model <MODEL>",
        ] {
            assert!(
                offered.iter().any(|arg| arg == known),
                "{known}: {offered:?}"
            );
        }
        // Short and long flags; each place was found and changed.
        let places = |shell, mark: &str| script(shell).matches(mark).count();
        for words in ["COMPREPLY=($(", "COMPREPLY=( $("] {
            assert_eq!(places(Shell::Bash, words), 0, "they are patterns");
        }
        assert!(places(Shell::Bash, "compgen -f -- ") >= offered.len());
        assert!(places(Shell::Zsh, "{_alternative ") >= offered.len());
        assert!(places(Shell::Fish, " -r -F -a \"") >= offered.len());
        let only_names = [
            (Shell::Bash, "compgen -W \"tiny "),
            (Shell::Zsh, ":MODEL:(tiny "),
            (Shell::Fish, " -f -a \"tiny"),
        ];
        for (shell, mark) in only_names {
            assert_eq!(places(shell, mark), 0, "{shell}");
        }
    }
}
