//! Settings of the hub and its cache, from environment variables.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::file::open;

/// A user's secret; its debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token read from a variable or file; empty means none.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        // Other characters are not allowed in a header.
        let printable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        printable.then(|| Self(text.to_owned()))
    }

    pub(super) fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Token(…)")
    }
}

/// The default hub.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Settings that differ between users and tests.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The hub's address without a trailing slash.
    pub endpoint: String,
    /// The folder that holds `models--owner--name`; `None` if the home folder is unknown.
    pub cache: Option<PathBuf>,
    /// Sent to the endpoint, and only there.
    pub token: Option<Token>,
    /// A PEM file of certificate authorities to trust instead of Mozilla's: for
    /// networks whose proxy has its own authority.
    pub authorities: Option<PathBuf>,
    /// Never use the network.
    pub offline: bool,
    /// Connection timeout.
    pub connect_timeout: Duration,
    /// Timeout for silence in the middle of a response.
    pub idle_timeout: Duration,
    /// A body of which fewer bytes than this come in [`Self::rate_window`] is given up.
    pub least_bytes: u64,
    /// The time over which the rate of a body is measured.
    pub rate_window: Duration,
    /// Maximum failed tries in a row without progress.
    pub tries: u32,
    /// The wait after the first failed try, doubled with each further one.
    pub backoff: Duration,
    /// The longest wait between two tries, whatever `Retry-After` asks for.
    pub longest_wait: Duration,
    /// Maximum file size in bytes.
    pub limit_bytes: u64,
}

impl Settings {
    /// Reads `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`,
    /// `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`
    /// and `HF_HUB_OFFLINE` or else `TRANSFORMERS_OFFLINE`, with their meaning in
    /// `huggingface_hub`, and `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE`. (Proxies come from
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.)
    pub fn from_env() -> Self {
        Self::from(|name| std::env::var_os(name), std::env::home_dir())
    }

    /// Base URLs of hub pages: the endpoint's, and the default one, which people copy from their
    /// browser even if the endpoint is a mirror.
    pub(crate) fn addresses() -> [String; 2] {
        [Self::from_env().endpoint, DEFAULT_ENDPOINT.to_owned()]
    }

    /// Settings for an endpoint and a cache folder, without the environment.
    pub fn new(endpoint: &str, cache: Option<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: None,
            authorities: None,
            offline: false,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            least_bytes: 60_000,
            rate_window: Duration::from_secs(60),
            tries: 5,
            backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            // Far above any CLIP; keeps a false header from filling the disk.
            limit_bytes: 64 << 30,
        }
    }

    fn from(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| set(name).map(|value| under_home(value.into(), home.as_ref()));

        let hub_home = path("HF_HOME").or_else(|| {
            let caches = path("XDG_CACHE_HOME").or_else(|| Some(home.clone()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(hub_home.clone()?.join("hub")));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());

        let mut settings = Self::new(&endpoint, cache);
        // The first that is set counts: HF_HUB_OFFLINE=0 allows what TRANSFORMERS_OFFLINE=1
        // forbids.
        let offline = text("HF_HUB_OFFLINE").or_else(|| text("TRANSFORMERS_OFFLINE"));
        settings.offline = offline.is_some_and(|value| is_true(&value));
        settings.authorities = path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE"));
        if !text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|value| is_true(&value)) {
            let file = path("HF_TOKEN_PATH").or_else(|| Some(hub_home?.join("token")));
            settings.token = text("HF_TOKEN")
                .and_then(|token| Token::new(&token))
                .or_else(|| Token::new(&open::text(&file?, open::SETTINGS_BYTES).ok()?));
        }
        settings
    }
}

fn is_true(value: &str) -> bool {
    ["1", "true", "yes", "on"].contains(&value.trim().to_ascii_lowercase().as_str())
}

/// `~/x` and `~` with the home folder filled in; any other path unchanged.
fn under_home(path: PathBuf, home: Option<&PathBuf>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let find = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name)?;
            Some(OsString::from(found.1))
        };
        Settings::from(find, Some("/home/ada".into()))
    }

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[], "/home/ada/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/x")], "/hf/hub"),
            (&[("HF_HOME", "~/hf")], "/home/ada/hf/hub"),
            (
                &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/hf")],
                "/old",
            ),
            (
                &[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/new",
            ),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", "/hf")], "/hf/hub"),
        ];
        for (variables, expected) in cases {
            let cache = settings(variables).cache.unwrap();
            assert_eq!(cache, PathBuf::from(expected), "{variables:?}");
        }
        assert_eq!(Settings::from(|_| None, None).cache, None);
    }

    #[test]
    fn offline_endpoint_and_authorities_follow_the_environment() {
        for (value, offline) in [
            ("1", true),
            ("TRUE", true),
            ("on", true),
            ("yes", true),
            ("0", false),
            ("no", false),
        ] {
            for variable in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
                let found = settings(&[(variable, value)]).offline;
                assert_eq!(found, offline, "{variable}={value}");
            }
        }
        for (hub, transformers, offline) in [("0", "1", false), ("1", "0", true), ("", "1", true)] {
            let both = [
                ("HF_HUB_OFFLINE", hub),
                ("TRANSFORMERS_OFFLINE", transformers),
            ];
            assert_eq!(settings(&both).offline, offline, "{both:?}");
        }
        assert!(!settings(&[]).offline);
        let bundle = settings(&[
            ("SSL_CERT_FILE", "/a.pem"),
            ("REQUESTS_CA_BUNDLE", "/b.pem"),
        ]);
        assert_eq!(bundle.authorities, Some("/a.pem".into()));
        assert_eq!(settings(&[]).endpoint, "https://huggingface.co");
        assert_eq!(
            settings(&[("HF_ENDPOINT", "http://mirror/")]).endpoint,
            "http://mirror"
        );
    }

    #[test]
    fn the_token_comes_from_the_variable_or_else_a_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        std::fs::write(folder.path().join("other"), " hf_other ").unwrap();
        let home = folder.path().to_str().unwrap();
        let other = format!("{home}/other");
        let token = |variables: &[(&str, &str)]| settings(variables).token;
        assert_eq!(token(&[]), None);
        assert_eq!(token(&[("HF_HOME", home)]), Token::new("hf_file"));
        assert_eq!(
            token(&[("HF_HOME", home), ("HF_TOKEN", "hf_env")]),
            Token::new("hf_env")
        );
        assert_eq!(
            token(&[("HF_HOME", home), ("HF_TOKEN_PATH", &other)]),
            Token::new("hf_other")
        );
        assert_eq!(
            token(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]),
            None
        );
        assert_eq!(format!("{:?}", Token::new("hf_secret")), "Some(Token(…))");
        assert_eq!(Token::new("two\nlines"), None);
    }
}
