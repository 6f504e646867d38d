//! `longclip man`: the manual pages, from the same definitions as `--help`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use super::{Console, Outcome};
use crate::cli::Cli;

const EXAMPLES: &str = "\
Examples:
  longclip man | man -l -
  longclip man classify | man -l -
  longclip man --out ~/.local/share/man/man1

Exit status: 0 success, 2 there is no such command, or the pages cannot be written.";

/// The arguments of `longclip man`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ManArgs {
    /// Command whose page to print, such as models pull [default: longclip]
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    commands: Vec<String>,
    /// Write all pages into this folder instead
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Prints or writes manual pages.
///
/// # Errors
/// When there is no such command, or the pages cannot be written.
pub fn run(args: &ManArgs, console: &Console) -> Result<Outcome> {
    let mut program = Cli::command();
    program.build();
    if let Some(folder) = &args.out {
        let count = write_all(&program, folder)?;
        console.note(&format!("wrote {count} pages to {}", folder.display()));
        return Ok(Outcome::Answered);
    }
    let mut command = &program;
    for name in &args.commands {
        let Some(inner) = command.find_subcommand(name) else {
            bail!(
                "there is no command {:?}; run longclip --help for a list",
                args.commands.join(" ")
            );
        };
        command = inner;
    }
    let page = page(command)?;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&page).and_then(|()| stdout.flush());
    written.context("cannot write the page to stdout")?;
    Ok(Outcome::Answered)
}

/// Writes `longclip.1`, `longclip-classify.1`, …; returns how many.
fn write_all(command: &Command, folder: &Path) -> Result<usize> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let path = folder.join(format!("{}.1", file_name(command)));
    fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    let mut count = 1;
    for inner in documented(command) {
        count += write_all(inner, folder)?;
    }
    Ok(count)
}

/// The subcommands except `help`.
fn documented(command: &Command) -> impl Iterator<Item = &Command> {
    let inner = command.get_subcommands();
    inner.filter(|inner| inner.get_name() != "help" && !inner.is_hide_set())
}

/// The page's name as man takes it: `longclip-models-pull`.
fn file_name(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    name.replace(' ', "-")
}

fn page(command: &Command) -> Result<Vec<u8>> {
    // No date: it would change with every build.
    let man = Man::new(command.clone())
        .title(file_name(command).to_uppercase())
        .section("1")
        .manual("longclip");
    let mut page = Vec::new();
    man.render(&mut page)?;
    let page = String::from_utf8(page)?.replace(".SH EXTRA\n", ".SH NOTES\n");
    Ok(plain(&page).into_bytes())
}

/// In ASCII, with other characters as roff names them: it takes no UTF-8 unless told to.
fn plain(page: &str) -> String {
    let mut plain = String::with_capacity(page.len());
    for c in page.chars() {
        if c.is_ascii() {
            plain.push(c);
        } else {
            plain.push_str(&format!("\\[u{:04X}]", u32::from(c)));
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All commands with their full names.
    fn all(command: &Command, found: &mut Vec<Command>) {
        found.push(command.clone());
        for inner in documented(command) {
            all(inner, found);
        }
    }

    #[test]
    fn the_help_of_every_command_has_examples_and_tells_the_exit_status() {
        let mut program = Cli::command();
        program.build();
        let mut commands = Vec::new();
        all(&program, &mut commands);
        assert!(commands.len() > 12);
        for command in &mut commands {
            let help = command.render_long_help().to_string();
            for part in ["\nExamples:\n  ", "\nExit status: 0 "] {
                assert!(help.contains(part), "{part:?} in {help}");
            }
        }
    }
}
