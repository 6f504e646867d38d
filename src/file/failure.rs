//! Why an input failed, in a word that programs can compare: `error_kind` in records.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// A line of a list that names no input.
    Line,
    /// The file does not exist.
    Missing,
    /// The file may not be read.
    Denied,
    /// It could not be read for another reason; a folder or a device is one.
    Read,
    /// It is not an image, or of a format without a decoder.
    Format,
    /// It is larger than a limit allows.
    Limit,
    /// It is damaged or of an unusual kind.
    Decode,
    /// It was answered, but could not be moved, linked or copied to its place.
    Place,
    /// The model gave no finite answer, or the program crashed on it.
    Internal,
}

impl FailureKind {
    /// The kind that an error was given where it arose, or that the system's error says.
    pub(crate) fn of(error: &anyhow::Error) -> Option<Self> {
        let stated = error
            .chain()
            .find_map(|cause| cause.downcast_ref::<Failure>());
        let system = || {
            let mut causes = error.chain();
            causes.find_map(|cause| Self::of_io(cause.downcast_ref()?))
        };
        stated.map(|failure| failure.kind).or_else(system)
    }

    /// The kind that the system's error says.
    pub(crate) fn of_io(error: &io::Error) -> Option<Self> {
        match error.kind() {
            io::ErrorKind::NotFound => Some(Self::Missing),
            io::ErrorKind::PermissionDenied => Some(Self::Denied),
            _ => None,
        }
    }

    /// A failure of this kind.
    pub(crate) fn because(self, cause: impl Into<String>) -> Failure {
        Failure {
            kind: self,
            cause: cause.into(),
        }
    }

    /// Gives an error this kind, unless it has one.
    pub(crate) fn else_this(self, error: &anyhow::Error) -> Failure {
        let kind = Self::of(error).unwrap_or(self);
        kind.because(format!("{error:#}"))
    }
}

/// Why an input failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In a word.
    pub kind: FailureKind,
    /// In one line.
    pub cause: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.cause)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn the_kind_is_that_of_the_cause() {
        let io = |kind: io::ErrorKind| anyhow::Error::new(io::Error::from(kind));
        let limit = || anyhow::Error::new(FailureKind::Limit.because("too large"));
        let cases = [
            (io(io::ErrorKind::NotFound), Some(FailureKind::Missing)),
            (
                io(io::ErrorKind::PermissionDenied).context("cannot be read"),
                Some(FailureKind::Denied),
            ),
            (io(io::ErrorKind::UnexpectedEof), None),
            (limit().context("a.png"), Some(FailureKind::Limit)),
            (anyhow!("cut short"), None),
        ];
        for (error, expected) in cases {
            assert_eq!(FailureKind::of(&error), expected, "{error:#}");
            let kept = FailureKind::Decode.else_this(&error);
            assert_eq!(kept.kind, expected.unwrap_or(FailureKind::Decode));
            assert_eq!(kept.cause, format!("{error:#}"));
        }
        let error = Err::<(), _>(limit()).context("cannot be read").unwrap_err();
        assert_eq!(format!("{error:#}"), "cannot be read: too large");
        let name = serde_json::to_value(FailureKind::Limit).unwrap();
        assert_eq!(name, "limit");
    }
}
