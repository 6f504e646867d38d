//! Requests to the hub: addresses, redirects, the token, refusals, retries.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde::Deserialize;
use ureq::http::{HeaderMap, Uri};

use super::name::{check_commit, excerpt, parse_etag};
use super::{Progress, Repository, Settings, Unavailable};

/// Redirects in a row before we give up.
const HOPS: usize = 6;
/// A listing of a million files is shorter than this.
const LISTING_LIMIT_BYTES: u64 = 128 << 20;

/// What a repository holds at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// File names with `/` between folders, as the hub gave them, unchecked.
    pub files: Vec<String>,
}

/// What the hub says of one file before it is fetched; all checked.
#[derive(Debug)]
pub(super) struct RemoteFile {
    pub(super) commit: String,
    pub(super) etag: String,
    pub(super) bytes: u64,
    /// Its name, for people.
    pub(super) name: String,
    /// Where to ask for its content.
    pub(super) url: String,
}

/// A request that did not give what it should.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another try may help, after the given time if the hub named one; at
    /// most `tries` in a row.
    Passing {
        error: anyhow::Error,
        after: Option<Duration>,
        tries: u32,
    },
    /// Another try would end the same.
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

pub(super) type Answer = ureq::http::Response<ureq::Body>;

/// A connection to the endpoint, and what it is allowed to do.
pub(super) struct Client<'a> {
    agent: ureq::Agent,
    pub(super) settings: &'a Settings,
    pub(super) progress: &'a dyn Progress,
    endpoint: Uri,
}

impl<'a> Client<'a> {
    pub(super) fn new(settings: &'a Settings, progress: &'a dyn Progress) -> anyhow::Result<Self> {
        let endpoint = settings
            .endpoint
            .parse::<Uri>()
            .ok()
            .filter(|uri| origin(uri).is_some())
            .with_context(|| {
                format!(
                    "{:?} is not the address of a hub; set HF_ENDPOINT to one that starts with https://",
                    settings.endpoint
                )
            })?;
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // Followed by hand: the token must not travel along.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_recv_response(Some(settings.idle_timeout))
            .timeout_per_read(Some(settings.idle_timeout))
            .timeout_per_write(Some(settings.idle_timeout))
            .user_agent(concat!("longclip/", env!("CARGO_PKG_VERSION")))
            // Lengths and ranges are those of the file itself.
            .accept_encoding("identity");
        // A hub on this very machine is never behind a proxy.
        let config = match endpoint.host() {
            Some("localhost" | "127.0.0.1" | "[::1]") => config.proxy(None),
            _ => config,
        };
        Ok(Self {
            agent: config.build().new_agent(),
            settings,
            progress,
            endpoint,
        })
    }

    /// What the hub says of a file, without its content.
    pub(super) fn head(
        &self,
        repository: &Repository,
        revision: &str,
        file: &str,
    ) -> anyhow::Result<RemoteFile> {
        let url = resolve_url(&self.settings.endpoint, repository, revision, file);
        let subject = format!("{} ({}, revision {revision})", repository.id(), file);
        let facts = self.retrying(|| {
            let mut facts = Facts::default();
            let answer =
                self.exchange(Method::Head, &url, &subject, |headers| facts.add(headers))?;
            facts.add_own(answer.headers());
            Ok(facts)
        })?;
        let (commit, etag, bytes) = facts
            .check()
            .with_context(|| format!("the answer for {url} cannot be used"))?;
        if check_commit(revision).is_ok() && commit != revision {
            return Err(anyhow!(
                "asked for commit {revision} of {subject}, the hub answered for {commit}"
            ));
        }
        Ok(RemoteFile {
            name: file.to_owned(),
            // The very commit, so that length and hash stay true between tries.
            url: resolve_url(&self.settings.endpoint, repository, &commit, file),
            commit,
            etag,
            bytes,
        })
    }

    /// Starts to receive a file from byte `from` on. The answer is 200 (the
    /// whole file) or 206 (a part).
    pub(super) fn get(&self, remote: &RemoteFile, from: u64) -> Result<Answer, Fault> {
        let method = Method::Get {
            from: (from > 0).then_some(from),
        };
        self.exchange(method, &remote.url, &remote.name, |_| false)
    }

    /// Which files the repository has.
    pub(super) fn list(&self, repository: &Repository) -> anyhow::Result<Listing> {
        let url = format!(
            "{}/api/models/{}/revision/{}",
            self.settings.endpoint,
            repository.id(),
            encode(repository.revision(), "")
        );
        let subject = format!("{} (revision {})", repository.id(), repository.revision());
        let body = self.retrying(|| {
            let mut answer =
                self.exchange(Method::Get { from: None }, &url, &subject, |_| false)?;
            let body = answer.body_mut().with_config().limit(LISTING_LIMIT_BYTES);
            body.read_to_vec().map_err(|cause| broken(&url, cause))
        })?;
        let info: ModelInfo = serde_json::from_slice(&body).with_context(|| {
            format!("the answer from {url} is not the hub's listing of a model")
        })?;
        check_commit(&info.sha)?;
        Ok(Listing {
            commit: info.sha,
            files: info
                .siblings
                .into_iter()
                .map(|file| file.rfilename)
                .collect(),
        })
    }

    /// One request and the redirects after it. Ends at 200 or 206, or at a
    /// redirect whose headers `enough` accepts.
    fn exchange(
        &self,
        method: Method,
        url: &str,
        subject: &str,
        mut enough: impl FnMut(&HeaderMap) -> bool,
    ) -> Result<Answer, Fault> {
        let mut url = url.to_owned();
        for _ in 0..HOPS {
            let uri = url.parse::<Uri>().map_err(|cause| {
                Fault::Lasting(
                    anyhow!(cause).context(format!("{:?} is not an address", excerpt(&url))),
                )
            })?;
            let at_home = origin(&uri) == origin(&self.endpoint);
            let answer = self.send(method, &uri, at_home)?;
            match answer.status().as_u16() {
                200 | 206 => return Ok(answer),
                301 | 302 | 303 | 307 | 308 => {
                    if enough(answer.headers()) {
                        return Ok(answer);
                    }
                    url = next_address(&uri, &answer).map_err(Fault::Lasting)?;
                }
                _ => return Err(refusal(&answer, &url, subject, at_home)),
            }
        }
        let message = format!("more than {HOPS} redirects in a row, asking for {subject}");
        Err(Fault::Lasting(anyhow!(message)))
    }

    fn send(&self, method: Method, uri: &Uri, at_home: bool) -> Result<Answer, Fault> {
        let (mut request, range) = match method {
            Method::Head => (self.agent.head(uri), None),
            Method::Get { from } => (self.agent.get(uri), from),
        };
        if let Some(token) = self.settings.token.as_ref().filter(|_| at_home) {
            request = request.header("Authorization", format!("Bearer {}", token.secret()));
        }
        if let Some(from) = range {
            request = request.header("Range", format!("bytes={from}-"));
        }
        request
            .call()
            .map_err(|cause| broken(&uri.to_string(), cause))
    }

    /// Tries until it works, the fault is a lasting one, or patience ends.
    fn retrying<T>(&self, mut request: impl FnMut() -> Result<T, Fault>) -> anyhow::Result<T> {
        let mut patience = Patience::default();
        loop {
            match request() {
                Ok(value) => return Ok(value),
                Err(fault) => patience.wait(self, fault, false)?,
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Head,
    Get { from: Option<u64> },
}

/// How often and how long to wait for a hub that falters.
#[derive(Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    /// Waits before the next try, or returns the error if there is to be
    /// none. A try that `gained` something starts the count anew.
    pub(super) fn wait(
        &mut self,
        client: &Client<'_>,
        fault: Fault,
        gained: bool,
    ) -> anyhow::Result<()> {
        let (error, after, tries) = match fault {
            Fault::Lasting(error) => return Err(error),
            Fault::Passing {
                error,
                after,
                tries,
            } => (error, after, tries),
        };
        let settings = client.settings;
        self.failures = if gained { 1 } else { self.failures + 1 };
        if self.failures >= settings.tries.min(tries) {
            return Err(error);
        }
        let doubled = settings.backoff * 2_u32.pow((self.failures - 1).min(10));
        let wait = after.unwrap_or(doubled).min(settings.longest_wait);
        client
            .progress
            .note(&format!("{error}; trying again in {wait:?}"));
        std::thread::sleep(wait);
        Ok(())
    }
}

/// The headers that describe a file, gathered over redirects.
#[derive(Default)]
struct Facts {
    commit: Option<String>,
    etag: Option<String>,
    bytes: Option<String>,
}

impl Facts {
    /// Takes what the hub itself says of a file that lies elsewhere (the
    /// first word counts); true when nothing is missing.
    fn add(&mut self, headers: &HeaderMap) -> bool {
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

    /// Takes what the last answer says of the file it would send itself.
    fn add_own(&mut self, headers: &HeaderMap) {
        if self.add(headers) {
            return;
        }
        self.etag = self.etag.take().or_else(|| text(headers, "ETag"));
        self.bytes = self
            .bytes
            .take()
            .or_else(|| text(headers, "Content-Length"));
    }

    fn check(self) -> anyhow::Result<(String, String, u64)> {
        let missing = |name| {
            format!("the hub did not send {name}; is HF_ENDPOINT the address of a model hub?")
        };
        let commit = self.commit.with_context(|| missing("X-Repo-Commit"))?;
        check_commit(&commit)?;
        let etag = parse_etag(&self.etag.with_context(|| missing("ETag"))?)?;
        let bytes = self.bytes.with_context(|| missing("Content-Length"))?;
        let bytes = bytes
            .parse()
            .with_context(|| format!("the hub gave {:?} as length", excerpt(&bytes)))?;
        Ok((commit, etag, bytes))
    }
}

#[derive(Deserialize)]
struct ModelInfo {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The address of a file's content.
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
fn encode(text: &str, keep: &str) -> String {
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

/// Scheme, host and port: what a token belongs to.
fn origin(uri: &Uri) -> Option<(bool, String, u16)> {
    let secure = match uri.scheme_str()? {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    Some((secure, uri.host()?.to_ascii_lowercase(), port))
}

/// Where a redirect leads.
fn next_address(from: &Uri, answer: &Answer) -> anyhow::Result<String> {
    let location = text(answer.headers(), "Location")
        .with_context(|| format!("{from} redirects without saying where to"))?;
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
        "{from} redirects to {:?}, which is not a secure address; refusing to follow",
        excerpt(&next)
    );
    Ok(next)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

/// The fault for an exchange that did not come to an answer.
fn broken(url: &str, cause: ureq::Error) -> Fault {
    let message = format!("no answer from {url}");
    match cause {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            Fault::Lasting(anyhow!(cause).context(message))
        }
        // Nobody there: one more try is enough, a person without network waits.
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Io(_) => {
            Fault::Passing {
                error: Unavailable::caused_by(message, cause),
                after: None,
                tries: 2,
            }
        }
        _ => Fault::passing(Unavailable::caused_by(message, cause)),
    }
}

/// The fault for an answer that is not the thing asked for. Its body is not
/// read: it is a page for people, never a file.
fn refusal(answer: &Answer, url: &str, subject: &str, at_home: bool) -> Fault {
    let status = answer.status().as_u16();
    let code = text(answer.headers(), "X-Error-Code").unwrap_or_default();
    let said = text(answer.headers(), "X-Error-Message")
        .map(|message| format!(" (the hub says: {})", excerpt(&message)))
        .unwrap_or_default();
    let passing = match status {
        408 | 425 | 429 | 500..=599 => true,
        // A store's signed address that ran out, or a part that it has not got.
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
            "{subject} is given only to those who accept its terms: accept them on the model's page at {}, then {login}{said}",
            model_page(url)
        ),
        (401 | 404, "RepoNotFound") | (401, _) => format!(
            "the hub knows no repository {subject} that you may read: check the name; if it is private, {login}{said}"
        ),
        (403, _) => format!(
            "the hub does not let you read {subject}; {login} with an account that may{said}"
        ),
        (404, "RevisionNotFound") => format!("the hub has no such revision: {subject}{said}"),
        (404, "EntryNotFound") => format!("the repository has no such file: {subject}{said}"),
        (404, _) => format!("status 404 from {url}: no such repository, revision or file{said}"),
        _ => format!("status {status} from {url}, asking for {subject}{said}"),
    };
    Fault::Lasting(anyhow!(message))
}

/// The page that belongs to a file's or a listing's address.
fn model_page(url: &str) -> String {
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
