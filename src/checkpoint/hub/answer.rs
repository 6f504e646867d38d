//! Interpretation of responses: metadata of a file, or the reason for a failure; URLs on the hub,
//! and the redirects that may be followed.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use ureq::http::{HeaderMap, Uri};

use super::name::{check_commit, excerpt, parse_etag};
use super::pace::is_too_slow;
use super::reach::Refused;
use super::{Repository, Unavailable};

pub(super) type Response = ureq::http::Response<ureq::Body>;

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
        ureq::Error::Other(cause) if cause.is::<Refused>() => Fault::Lasting(anyhow!("{cause}")),
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

/// The fault for a body that ended too early.
pub(super) fn interrupted(message: String, cause: std::io::Error) -> Fault {
    // Each try takes a minute to find out.
    let tries = if is_too_slow(&cause) { 2 } else { u32::MAX };
    Fault::Passing {
        error: Unavailable::caused_by(message, cause),
        after: None,
        tries,
    }
}

/// The fault for an error response. Its body is not read: it is a page for people, never a file.
pub(super) fn refusal(answer: &Response, url: &str, subject: &str, at_home: bool) -> Fault {
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

/// The URL of a file's content.
pub(super) fn resolve_url(
    endpoint: &str,
    repository: &Repository,
    revision: &str,
    file: &str,
) -> String {
    let (revision, file) = (encode(revision, ""), encode(file, "/"));
    format!("{endpoint}/{}/resolve/{revision}/{file}", repository.id())
}

/// Percent-encodes all but unreserved characters and those in `keep`.
pub(super) fn encode(text: &str, keep: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ if keep.as_bytes().contains(&byte) => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Scheme, host and port: the scope of a token.
pub(super) fn origin(uri: &Uri) -> Option<(bool, String, u16)> {
    let secure = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    Some((secure, uri.host()?.to_ascii_lowercase(), port))
}

/// The target of a redirect.
pub(super) fn next_address(from: &Uri, answer: &Response) -> anyhow::Result<String> {
    let location = text(answer.headers(), "Location")
        .with_context(|| format!("{from} redirects without a Location"))?;
    let (scheme, authority) = (
        from.scheme_str().unwrap_or_default(),
        from.authority().map_or("", |authority| authority.as_str()),
    );
    let next = if location.contains("://") {
        location
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    anyhow::ensure!(
        next.starts_with("https://") || (scheme == "http" && next.starts_with("http://")),
        "{from} redirects to {:?}, which is not a secure URL; refusing to follow",
        excerpt(&next)
    );
    Ok(next)
}

/// The model page for the URL of a file or a listing.
pub(super) fn model_page(url: &str) -> String {
    let page = url.split("/resolve/").next().unwrap_or(url);
    let page = page.split("/revision/").next().unwrap_or(page);
    page.replacen("/api/models/", "/", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded() {
        let repository = Repository::new("BeichenZhang/LongCLIP-L-336px", "refs/pr/1").unwrap();
        let url = resolve_url(
            "http://h",
            &repository,
            repository.revision(),
            "a b/longclip-L@336px.pt",
        );
        assert_eq!(
            url,
            "http://h/BeichenZhang/LongCLIP-L-336px/resolve/refs%2Fpr%2F1/a%20b/longclip-L%40336px.pt"
        );
        assert_eq!(model_page(&url), "http://h/BeichenZhang/LongCLIP-L-336px");
        assert_eq!(
            model_page("http://h/api/models/a/b/revision/main"),
            "http://h/a/b"
        );
    }

    #[test]
    fn another_port_scheme_or_host_is_another_origin() {
        let home = origin(&"https://hub.example/x".parse().unwrap());
        for (address, same) in [
            ("https://HUB.example:443/y", true),
            ("https://hub.example:444/x", false),
            ("http://hub.example/x", false),
            ("https://cdn.hub.example/x", false),
            ("https://hub.example@evil.example/x", false),
        ] {
            let other = origin(&address.parse().unwrap());
            assert_eq!(other == home, same, "{address}");
        }
    }

    #[test]
    fn redirects_lead_where_they_say_but_not_to_insecure_places() {
        let cases = [
            ("https://h/a/b", "https://cdn/x", Some("https://cdn/x")),
            ("https://h/a/b", "//cdn/x", Some("https://cdn/x")),
            ("https://h:1/a/b", "/x?y=1", Some("https://h:1/x?y=1")),
            ("https://h/a/b", "c", Some("https://h/a/c")),
            ("http://h/a", "http://h/b", Some("http://h/b")),
            ("https://h/a/b", "http://h/x", None),
            ("http://h/a", "file:///etc/passwd", None),
        ];
        for (from, location, expected) in cases {
            let answer = ureq::http::Response::builder()
                .header("Location", location)
                .body(ureq::Body::builder().data(""))
                .unwrap();
            let next = next_address(&from.parse().unwrap(), &answer).ok();
            assert_eq!(next.as_deref(), expected, "{from} {location}");
        }
    }
}
