//! Interpretation of responses: metadata of a file, or the reason for a failure.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ureq::http::HeaderMap;

use super::Unavailable;
use super::address::model_page;
use super::name::{check_commit, excerpt, parse_etag};

pub(super) type Answer = ureq::http::Response<ureq::Body>;

/// A failed request.
#[derive(Debug)]
pub(super) enum Fault {
    /// Worth retrying, after the given time if the hub named one; at
    /// most `tries` in a row.
    Passing {
        error: anyhow::Error,
        after: Option<Duration>,
        tries: u32,
    },
    /// Not worth retrying.
    Lasting(anyhow::Error),
}

impl Fault {
    pub(super) fn passing(error: anyhow::Error) -> Self {
        Self::Passing {
            error,
            after: None,
            tries: u32::MAX,
        }
    }
}

/// Headers that describe a file, collected across redirects.
#[derive(Default)]
pub(super) struct Facts {
    commit: Option<String>,
    etag: Option<String>,
    bytes: Option<String>,
}

impl Facts {
    /// Takes the hub's own headers for a file stored elsewhere (the
    /// first value counts); true if nothing is missing.
    pub(super) fn add(&mut self, headers: &HeaderMap) -> bool {
        for (fact, name) in [
            (&mut self.commit, "X-Repo-Commit"),
            (&mut self.etag, "X-Linked-ETag"),
            (&mut self.bytes, "X-Linked-Size"),
        ] {
            if fact.is_none() {
                *fact = text(headers, name);
            }
        }
        self.commit.is_some() && self.etag.is_some() && self.bytes.is_some()
    }

    /// Takes the headers of the last response, for the file it would send itself.
    pub(super) fn add_own(&mut self, headers: &HeaderMap) {
        if self.add(headers) {
            return;
        }
        self.etag = self.etag.take().or_else(|| text(headers, "ETag"));
        self.bytes = self
            .bytes
            .take()
            .or_else(|| text(headers, "Content-Length"));
    }

    pub(super) fn check(self) -> anyhow::Result<(String, String, u64)> {
        let missing =
            |name| format!("the hub did not send {name}; is HF_ENDPOINT the URL of a model hub?");
        let commit = self.commit.with_context(|| missing("X-Repo-Commit"))?;
        check_commit(&commit)?;
        let etag = parse_etag(&self.etag.with_context(|| missing("ETag"))?)?;
        let bytes = self.bytes.with_context(|| missing("Content-Length"))?;
        let bytes = bytes
            .parse()
            .with_context(|| format!("the hub sent the length {:?}", excerpt(&bytes)))?;
        Ok((commit, etag, bytes))
    }
}

/// A header's value, if it is plain text.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// The fault for a request without a response.
pub(super) fn broken(url: &str, cause: ureq::Error) -> Fault {
    let message = format!("no answer from {url}");
    let nobody_there = match &cause {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_) => true,
        // What is left when no connection was interrupted: refused, no route, unknown host,
        // untrusted certificate.
        ureq::Error::Io(cause) => !matches!(
            cause.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::TimedOut
        ),
        _ => false,
    };
    match cause {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            Fault::Lasting(anyhow!(cause).context(message))
        }
        ureq::Error::Io(cause) if cause.kind() == ErrorKind::InvalidData => {
            Fault::Lasting(anyhow!(cause).context(format!(
                "{message} that can be trusted; if your network uses its own certificate \
                 authority, set SSL_CERT_FILE to its PEM file"
            )))
        }
        _ if nobody_there => Fault::Passing {
            error: Unavailable::caused_by(message, cause),
            after: None,
            // Without a network, many retries would only be a long wait.
            tries: 2,
        },
        _ => Fault::passing(Unavailable::caused_by(message, cause)),
    }
}

/// The fault for an error response. Its body is not read: it is a page for people, never a file.
pub(super) fn refusal(answer: &Answer, url: &str, subject: &str, at_home: bool) -> Fault {
    let status = answer.status().as_u16();
    let code = text(answer.headers(), "X-Error-Code").unwrap_or_default();
    let said = text(answer.headers(), "X-Error-Message")
        .map(|message| format!(" (the hub says: {})", excerpt(&message)))
        .unwrap_or_default();
    let passing = match status {
        408 | 425 | 429 | 500..=599 => true,
        // An expired signed URL, or a range that the store does not have.
        401 | 403 | 416 => !at_home,
        _ => false,
    };
    if passing {
        return Fault::Passing {
            error: Unavailable::error(format!("status {status} from {url}{said}")),
            after: text(answer.headers(), "Retry-After")
                .and_then(|seconds| seconds.parse().ok())
                .map(Duration::from_secs),
            tries: u32::MAX,
        };
    }
    let login = "log in with HF_TOKEN or `hf auth login`";
    let message = match (status, code.as_str()) {
        (401 | 403, "GatedRepo") => format!(
            "{subject} requires accepting its terms: accept them on the model's page at {}, then \
             {login}{said}",
            model_page(url)
        ),
        (401 | 404, "RepoNotFound") | (401, _) => format!(
            "the hub has no repository {subject} that you can access; check the name or, if it is \
             private, {login}{said}"
        ),
        (403, _) => format!(
            "the hub denies access to {subject}; {login} with an account that has access{said}"
        ),
        (404, "RevisionNotFound") => format!("the hub has no such revision: {subject}{said}"),
        (404, "EntryNotFound") => format!("the repository has no such file: {subject}{said}"),
        (404, _) => format!("status 404 from {url}: no such repository, revision or file{said}"),
        _ => format!("status {status} from {url}, asking for {subject}{said}"),
    };
    Fault::Lasting(anyhow!(message))
}
