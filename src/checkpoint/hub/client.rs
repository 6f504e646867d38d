//! Requests to the hub: redirects, the token, errors, retries.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use serde::Deserialize;
use ureq::http::{HeaderMap, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;

use super::answer::{
    Facts, Fault, Response, broken, encode, interrupted, next_address, origin, refusal, resolve_url,
};
use super::name::{check_commit, excerpt};
use super::pace::Paced;
use super::reach::Reach;
use super::{Progress, Repository, Settings};
use crate::file::open;

/// Maximum redirects in a row.
const HOPS: usize = 6;
/// Maximum bytes of a listing; a million files take less.
const LISTING_LIMIT_BYTES: u64 = 128 << 20;

/// The files of a repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// 40 hexadecimal digits.
    pub commit: String,
    /// File names with `/` between folders, as received from the hub, unchecked.
    pub files: Vec<String>,
}

/// Metadata of one file before it is downloaded; all validated.
#[derive(Debug)]
pub(super) struct RemoteFile {
    pub(super) commit: String,
    pub(super) etag: String,
    pub(super) bytes: u64,
    /// Its name, for messages.
    pub(super) name: String,
    /// The URL of its content.
    pub(super) url: String,
}

/// An HTTP client for the endpoint.
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
                    "{:?} is not the URL of a model hub; set HF_ENDPOINT to one that starts with \
                     https://",
                    settings.endpoint
                )
            })?;
        Ok(Self {
            agent: agent(settings, &endpoint)?,
            settings,
            progress,
            endpoint,
        })
    }

    /// The metadata of a file, without its content.
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
            .with_context(|| format!("the response for {url} is not usable"))?;
        if check_commit(revision).is_ok() && commit != revision {
            return Err(anyhow!(
                "asked for commit {revision} of {subject}, but the hub answered for {commit}"
            ));
        }
        Ok(RemoteFile {
            name: file.to_owned(),
            // The exact commit, so that length and hash stay valid between retries.
            url: resolve_url(&self.settings.endpoint, repository, &commit, file),
            commit,
            etag,
            bytes,
        })
    }

    /// Starts downloading a file from byte `from` on. The status is 200 (the
    /// whole file) or 206 (a part).
    pub(super) fn get(&self, remote: &RemoteFile, from: u64) -> Result<Response, Fault> {
        let method = Method::Get {
            from: (from > 0).then_some(from),
        };
        self.exchange(method, &remote.url, &remote.name, |_| false)
    }

    /// Lists the files of the repository.
    pub(super) fn list(&self, repository: &Repository) -> anyhow::Result<Listing> {
        let url = format!(
            "{}/api/models/{}/revision/{}",
            self.settings.endpoint,
            repository.id(),
            encode(repository.revision(), "")
        );
        let subject = format!("{} (revision {})", repository.id(), repository.revision());
        let body = self.retrying(|| {
            let answer = self.exchange(Method::Get { from: None }, &url, &subject, |_| false)?;
            let body = answer.into_body().into_with_config();
            let mut body = Paced::new(body.limit(LISTING_LIMIT_BYTES).reader(), self.settings);
            let mut bytes = Vec::new();
            let read = body.read_to_end(&mut bytes);
            read.map(|_| bytes)
                .map_err(|cause| interrupted(format!("no answer from {url}"), cause))
        })?;
        let info: ModelInfo = serde_json::from_slice(&body)
            .with_context(|| format!("the response from {url} is not a hub listing of a model"))?;
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

    /// Sends a request and follows its redirects. Ends at 200 or 206, or at a
    /// redirect whose headers `enough` accepts.
    fn exchange(
        &self,
        method: Method,
        url: &str,
        subject: &str,
        mut enough: impl FnMut(&HeaderMap) -> bool,
    ) -> Result<Response, Fault> {
        let mut url = url.to_owned();
        for _ in 0..HOPS {
            let uri = url.parse::<Uri>().map_err(|cause| {
                Fault::Lasting(anyhow!(cause).context(format!("{:?} is not a URL", excerpt(&url))))
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

    fn send(&self, method: Method, uri: &Uri, at_home: bool) -> Result<Response, Fault> {
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

    /// Tries until it works, the fault is permanent, or the retries are used up.
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

/// Connection settings: every wait has a limit, and redirects are handled by us.
fn agent(settings: &Settings, endpoint: &Uri) -> anyhow::Result<ureq::Agent> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        // Followed by our own code: the token must not be sent along.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_resolve(Some(settings.connect_timeout))
        .timeout_connect(Some(settings.connect_timeout))
        .timeout_recv_response(Some(settings.idle_timeout))
        .timeout_per_read(Some(settings.idle_timeout))
        .timeout_per_write(Some(settings.idle_timeout))
        .user_agent(concat!("longclip/", env!("CARGO_PKG_VERSION")))
        // No compression: lengths and ranges must be those of the file itself.
        .accept_encoding("identity");
    // A hub on localhost is never behind a proxy.
    let config = match endpoint.host() {
        Some("localhost" | "127.0.0.1" | "[::1]") => config.proxy(None),
        _ => config,
    };
    let config = match &settings.authorities {
        Some(file) => config.tls_config(trusting(file)?),
        None => config,
    };
    let reach = Reach::new(endpoint, DefaultResolver::default());
    Ok(ureq::Agent::with_parts(
        config.build(),
        DefaultConnector::default(),
        reach,
    ))
}

/// Trusts the authorities of a PEM file and no others.
fn trusting(file: &Path) -> anyhow::Result<TlsConfig> {
    let place = file.display();
    let hint = || {
        format!("cannot read certificates from {place}; check SSL_CERT_FILE and REQUESTS_CA_BUNDLE")
    };
    let pem = open::bytes(file, open::SETTINGS_BYTES).with_context(hint)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.with_context(hint)? {
            certificates.push(certificate);
        }
    }
    ensure!(!certificates.is_empty(), "{}: the file has none", hint());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(certificates))
        .build())
}

#[derive(Clone, Copy)]
enum Method {
    Head,
    Get { from: Option<u64> },
}

/// Retry policy for an unreliable hub.
#[derive(Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    /// Waits before the next try, or returns the error if no tries are left. A try that made
    /// progress (`gained`) resets the count.
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
            .note(&format!("{error:#}; trying again in {wait:?}"));
        std::thread::sleep(wait);
        Ok(())
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
