//! Parses the command line into [`Cli`].

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};

use super::Cli;
use super::short_help::shortened;
use crate::input::image::EXTENSIONS;
use crate::output::text::{Escaping, printable};

/// Prints a usage error, or the help or version that was asked for, and gives the exit status.
///
/// Arguments can be the names of files, by a pattern of the shell, so whatever would control a
/// terminal is escaped; the colours are lost then.
pub fn report(error: &clap::Error) -> ExitCode {
    let is_hostile = |word: OsString| {
        let word = word.to_string_lossy();
        printable(&word) != word
    };
    // If there is nobody to read it, there is nowhere to say so.
    let _ = match error.use_stderr() && std::env::args_os().any(is_hostile) {
        true => Escaping(std::io::stderr()).write_all(error.render().to_string().as_bytes()),
        false => error.print(),
    };
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Parses the arguments of this process.
///
/// # Errors
/// Usage errors as clap reports them; also `--help` and `--version`, whose text is the error.
pub fn parse() -> Result<Cli, clap::Error> {
    parse_from(std::env::args_os().collect())
}

fn parse_from(words: Vec<OsString>) -> Result<Cli, clap::Error> {
    let mut command = without_variables(shortened(Cli::command()), &is_empty);
    let matches = command.try_get_matches_from_mut(&words);
    let cli = matches.and_then(|mut matches| Cli::from_arg_matches_mut(&mut matches));
    cli.map_err(|error| with_classify(error.format(&mut command), &words))
        .map_err(|error| with_variable(error, &command, &words))
}

/// Whether the environment variable of an argument is empty, which counts as not set.
fn is_empty(arg: &Arg) -> bool {
    let value = arg.get_env().and_then(std::env::var_os);
    value.is_some_and(|value| value.is_empty())
}

/// The command without the environment variables of such arguments.
fn without_variables(command: Command, of: &dyn Fn(&Arg) -> bool) -> Command {
    command
        .mut_args(|arg| match of(&arg) {
            true => arg.env(Resettable::Reset),
            false => arg,
        })
        .mut_subcommands(|inner| without_variables(inner, of))
}

/// Names the environment variable that a value that is not understood comes from.
fn with_variable(mut error: clap::Error, command: &Command, words: &[OsString]) -> clap::Error {
    let named = |error: &clap::Error| error.get(ContextKind::InvalidArg).cloned();
    let Some(ContextValue::String(flag)) = named(&error) else {
        return error;
    };
    // Arguments have their names in messages once they are built.
    let mut command = command.clone();
    command.build();
    let Some(variable) = variable_of(&command, &flag) else {
        return error;
    };
    // Without variables, the words alone have no such error.
    let mut alone = without_variables(command, &|_| true);
    let is_in_words = alone
        .try_get_matches_from_mut(words)
        .is_err_and(|other| named(&other) == named(&error));
    if !is_in_words && std::env::var_os(&variable).is_some() {
        let variable = variable.to_string_lossy();
        let tip = format!("the value is that of the environment variable {variable}");
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(vec![StyledStr::from(tip)]),
        );
    }
    error
}

/// The variable of the argument that clap calls so: `--device <DEVICE>`.
fn variable_of(command: &Command, flag: &str) -> Option<OsString> {
    let own = command.get_arguments().find(|arg| arg.to_string() == flag);
    let own = own.and_then(|arg| arg.get_env()).map(OsString::from);
    own.or_else(|| {
        let mut inner = command.get_subcommands();
        inner.find_map(|inner| variable_of(inner, flag))
    })
}

/// Suggests `classify` where an image takes the place of the subcommand.
fn with_classify(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    let invalid = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => Some(Path::new(word).exists()),
        _ => None,
    };
    // A word close to a subcommand that is not a path is a typo.
    let is_typo = error.get(ContextKind::SuggestedSubcommand).is_some() && invalid == Some(false);
    let is_subcommand = error.kind() == ErrorKind::InvalidSubcommand && !is_typo;
    let image = words.iter().skip(1).map(Path::new).find(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let is_image = extension.is_some_and(|extension| {
            let same = |known: &&str| known.eq_ignore_ascii_case(extension);
            EXTENSIONS.iter().any(same)
        });
        is_image || path.exists()
    });
    if let (true, Some(image)) = (is_subcommand, image) {
        let right = format!(
            "to classify images: longclip classify {} --labels TEXT TEXT…",
            image.display()
        );
        let right = StyledStr::from(right);
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(vec![right]),
        );
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &[&str]) -> String {
        let words = ["longclip"].iter().chain(words).map(OsString::from);
        parse_from(words.collect()).unwrap_err().to_string()
    }

    #[test]
    fn an_image_without_a_subcommand_gets_a_hint() {
        let hint = "to classify images: longclip classify x/c.PNG --labels TEXT TEXT…";
        assert!(error(&["x/c.PNG"]).contains(hint));
        assert!(error(&["-q", "x/c.PNG", "-l", "cat"]).contains(hint));
        assert!(error(&["src"]).contains("longclip classify src"));
        assert!(!error(&["clasify"]).contains("to classify images"));
        assert!(!error(&["evaluat", "."]).contains("to classify images"));
    }
}
