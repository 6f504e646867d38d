//! A local test hub: answers like the real one, unless a fault changes the response. It uses a free
//! port and stops when dropped.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The only repository, and its only commit.
pub(crate) const REPOSITORY: &str = "owner/model";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Percent-decoded.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

impl Request {
    /// Whether it requests the content of a large file.
    pub(crate) fn is_content(&self) -> bool {
        self.method == "GET" && self.path.starts_with("/cdn/")
    }

    fn range_start(&self) -> Option<usize> {
        let range = self.range.as_deref()?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// A response. A `Content-Length` among the headers replaces the body's own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<&'static str, String>,
    pub(crate) body: Vec<u8>,
    /// How much of the body is sent before the connection breaks.
    pub(crate) cut_after: Option<usize>,
    /// The delay before the body.
    pub(crate) pause: Duration,
    /// The delay before each byte of the body.
    pub(crate) trickle: Duration,
    /// Whether the body is sent again and again, without a length.
    pub(crate) endless: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: &[u8]) -> Self {
        Self {
            status,
            body: body.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.insert(name, value.into());
        self
    }
}

/// A test's change to the correct response.
pub(crate) type Fault = dyn Fn(&Request, Reply) -> Reply + Send + Sync;

struct State {
    files: BTreeMap<String, Vec<u8>>,
    fault: Box<Fault>,
    /// The server of large files.
    store: Mutex<SocketAddr>,
    seen: Mutex<Vec<Request>>,
    stop: AtomicBool,
}

pub(crate) struct StandIn {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    pub(crate) fn honest(files: &[(&str, Vec<u8>)]) -> Self {
        Self::faulty(files, |_, reply| reply)
    }

    pub(crate) fn faulty(
        files: &[(&str, Vec<u8>)],
        fault: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let files = files.iter();
        let state = Arc::new(State {
            files: files
                .map(|(name, body)| ((*name).to_owned(), body.clone()))
                .collect(),
            fault: Box::new(fault),
            store: Mutex::new(address),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || serve(&listener, &shared));
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    /// Redirects requests for large files to another test hub.
    pub(crate) fn with_store(self, store: &Self) -> Self {
        *self.state.store.lock().unwrap() = store.address;
        self
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub(crate) fn seen(&self) -> Vec<Request> {
        self.state.seen.lock().unwrap().clone()
    }

    /// The requests for the content of large files so far.
    pub(crate) fn content_requests(&self) -> Vec<Request> {
        let mut seen = self.seen();
        seen.retain(Request::is_content);
        seen
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes up the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn serve(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        if state.stop.load(Ordering::SeqCst) {
            return;
        }
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            // A disconnecting client is not our error.
            drop(stream.and_then(|stream| answer(stream, &state)));
        });
    }
}

fn answer(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let Some(request) = read_request(&stream)? else {
        return Ok(());
    };
    state.seen.lock().unwrap().push(request.clone());
    let reply = (state.fault)(&request, honest(&request, state));
    let mut head = format!("HTTP/1.1 {} Answer\r\nConnection: close\r\n", reply.status);
    if !reply.headers.contains_key("Content-Length") && !reply.endless {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    std::thread::sleep(reply.pause);
    if request.method != "HEAD" {
        let end = reply.cut_after.unwrap_or(reply.body.len());
        let body = &reply.body[..end.min(reply.body.len())];
        send(&mut stream, body, &reply)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the client closes too: closing first could discard the response.
    std::io::copy(&mut stream.take(1 << 20), &mut std::io::sink()).map(drop)
}

fn send(stream: &mut TcpStream, body: &[u8], reply: &Reply) -> std::io::Result<()> {
    let step = if reply.trickle.is_zero() {
        body.len()
    } else {
        1
    };
    loop {
        for piece in body.chunks(step.max(1)) {
            std::thread::sleep(reply.trickle);
            stream.write_all(piece)?;
        }
        // Until the client has enough and goes away.
        if !reply.endless || body.is_empty() {
            return Ok(());
        }
    }
}

fn read_request(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Ok(None);
    };
    let mut request = Request {
        method: method.to_owned(),
        path: decode(path),
        authorization: None,
        range: None,
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "range" => request.range = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(Some(request))
}

fn decode(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The response of the real hub.
fn honest(request: &Request, state: &State) -> Reply {
    let path = request.path.as_str();
    if let Some(name) = path.strip_prefix("/cdn/") {
        return match state.files.get(name) {
            Some(body) => content(request, body).with("ETag", "\"of-the-store\""),
            None => Reply::new(404, b"no such object"),
        };
    }
    let api = format!("/api/models/{REPOSITORY}/revision/");
    let resolve = format!("/{REPOSITORY}/resolve/");
    if let Some(revision) = path.strip_prefix(&api) {
        return if is_known(revision) {
            listing(state)
        } else {
            not_found("RevisionNotFound")
        };
    }
    let Some((revision, name)) = path
        .strip_prefix(&resolve)
        .and_then(|rest| rest.split_once('/'))
    else {
        return not_found("RepoNotFound");
    };
    match state.files.get(name) {
        _ if !is_known(revision) => not_found("RevisionNotFound"),
        None => not_found("EntryNotFound").with("X-Repo-Commit", COMMIT),
        Some(body) => file(request, name, body, state).with("X-Repo-Commit", COMMIT),
    }
}

fn is_known(revision: &str) -> bool {
    ["main", "v1", COMMIT].contains(&revision)
}

fn not_found(code: &str) -> Reply {
    Reply::new(404, b"<html>Not found</html>").with("X-Error-Code", code)
}

fn listing(state: &State) -> Reply {
    let names = state.files.keys();
    let siblings: Vec<_> = names
        .map(|name| serde_json::json!({ "rfilename": name }))
        .collect();
    let info = serde_json::json!({ "id": REPOSITORY, "sha": COMMIT, "siblings": siblings });
    Reply::new(200, info.to_string().as_bytes())
}

/// Large files are in the store, small ones are sent directly.
fn file(request: &Request, name: &str, body: &[u8], state: &State) -> Reply {
    let etag = etag(name, body);
    if !is_large(name) {
        return content(request, body).with("ETag", format!("\"{etag}\""));
    }
    let store = state.store.lock().unwrap();
    Reply::new(302, b"Found")
        .with("ETag", "\"of-the-redirect\"")
        .with("X-Linked-ETag", format!("\"{etag}\""))
        .with("X-Linked-Size", body.len().to_string())
        .with("Location", format!("http://{store}/cdn/{name}"))
}

fn content(request: &Request, body: &[u8]) -> Reply {
    match request.range_start() {
        Some(from) if from < body.len() => Reply::new(206, &body[from..]).with(
            "Content-Range",
            format!("bytes {from}-{}/{}", body.len() - 1, body.len()),
        ),
        Some(_) => Reply::new(416, b"out of range"),
        None => Reply::new(200, body),
    }
}

fn is_large(name: &str) -> bool {
    [".pt", ".bin", ".safetensors"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The hash that names a file's content on the hub.
pub(crate) fn etag(name: &str, body: &[u8]) -> String {
    let hash = if is_large(name) {
        Sha256::digest(body).to_vec()
    } else {
        let blob = [format!("blob {}\0", body.len()).as_bytes(), body].concat();
        Sha1::digest(blob).to_vec()
    };
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
