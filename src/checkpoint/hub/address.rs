//! URLs on the hub, and the redirects that may be followed.

use anyhow::Context as _;
use ureq::http::Uri;

use super::Repository;
use super::answer::{Answer, text};
use super::name::excerpt;

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
pub(super) fn next_address(from: &Uri, answer: &Answer) -> anyhow::Result<String> {
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
