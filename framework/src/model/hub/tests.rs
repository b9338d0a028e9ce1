//! Fetching from a hub on this machine that can be told to misbehave.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use tempfile::TempDir;
use tiny_http::{Header, Request, Response, Server};

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A hub with one model; the fields are its faults.
#[derive(Clone, Default)]
struct Fake {
    files: BTreeMap<&'static str, Vec<u8>>,
    /// Files that are sent with one byte changed.
    spoilt: Vec<&'static str>,
    /// Large files are redirected to this address, as the hub does; empty: to another path of its own.
    redirects: Option<String>,
    /// Large files are redirected without saying where to.
    lost: bool,
    /// This file is never answered for; empty: the list of files is not.
    silent: Option<&'static str>,
    /// Answered to everything without this token.
    token: Option<&'static str>,
    /// Answer to the listing instead of the list.
    status: Option<u16>,
    log: Arc<Mutex<Vec<String>>>,
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn header(name: &str, value: &str) -> Header {
    Header::from_str(&format!("{name}: {value}")).unwrap()
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors")
}

impl Fake {
    fn model() -> Self {
        let files = [
            ("config.json", b"{}".to_vec()),
            ("tokenizer.json", b"{\"a\":1}".to_vec()),
            ("generation_config.json", b"{ }".to_vec()),
            ("model.safetensors", (0..50_000u32).flat_map(u32::to_le_bytes).collect()),
        ];
        Self { files: files.into(), ..Self::default() }
    }

    fn answer(&mut self, request: Request) {
        let value = |name: &str| {
            let found =
                request.headers().iter().find(|header| header.field.as_str().as_str().eq_ignore_ascii_case(name));
            found.map(|header| header.value.to_string())
        };
        let (range, authorization) = (value("range"), value("authorization"));
        let url = request.url().to_owned();
        self.log.lock().unwrap().push(format!("{url} {}", range.clone().unwrap_or_default()));
        let refuse = |request: Request, status: u16| request.respond(Response::empty(status)).unwrap();
        if self.token.is_some_and(|token| authorization != Some(format!("Bearer {token}"))) {
            return refuse(request, 401);
        }
        let listing =
            ["models", "datasets"].iter().any(|kind| url.starts_with(&format!("/api/{kind}/org/name/revision/")));
        if self.silent.is_some_and(|name| if name.is_empty() { listing } else { url.ends_with(name) }) {
            // Kept open and never answered.
            return std::mem::forget(request);
        }
        if listing {
            return match self.status {
                Some(status) => refuse(request, status),
                None => request.respond(Response::from_string(self.listing().to_string())).unwrap(),
            };
        }
        let found = self.files.iter().find(|(name, _)| url.ends_with(&format!("/{name}")));
        let Some((name, content)) = found else { return refuse(request, 404) };
        let mut content = content.clone();
        let mark = if is_large(name) { sha256(&content) } else { sha256(&content)[..40].to_owned() };
        let marks = [header("x-repo-commit", COMMIT), header("etag", &format!("\"{mark}\""))];
        if self.lost && is_large(name) {
            let mut answer = Response::empty(302);
            for mark in marks {
                answer.add_header(mark);
            }
            return request.respond(answer).unwrap();
        }
        if let Some(to) = self.redirects.clone().filter(|_| is_large(name) && !url.starts_with("/cdn/")) {
            let to = if to.is_empty() { format!("http://{}", value("host").unwrap()) } else { to };
            let to = format!("{to}/cdn/{name}");
            let mut answer = Response::empty(302).with_header(header("location", &to));
            for mark in marks {
                answer.add_header(mark);
            }
            return request.respond(answer).unwrap();
        }
        if self.spoilt.contains(name) {
            content[0] ^= 1;
        }
        let bounds =
            range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-')).unwrap_or(("0", ""));
        let start: usize = bounds.0.parse().unwrap();
        let end = bounds.1.parse::<usize>().map_or(content.len(), |last| last + 1).min(content.len());
        if start >= content.len() {
            return refuse(request, 416);
        }
        let span = header("content-range", &format!("bytes {start}-{}/{}", end - 1, content.len()));
        let body = content[start..end].to_vec();
        let mut answer = Response::from_data(body).with_status_code(206).with_header(span);
        for mark in marks {
            answer.add_header(mark);
        }
        request.respond(answer).unwrap();
    }

    fn listing(&self) -> Value {
        let siblings = self.files.iter().map(|(name, content)| {
            let lfs = is_large(name).then(|| json!({ "sha256": sha256(content), "size": content.len() }));
            json!({ "rfilename": name, "size": content.len(), "lfs": lfs })
        });
        json!({ "sha": COMMIT, "siblings": siblings.collect::<Vec<_>>() })
    }

    /// Serves until the test process ends.
    fn serve(&self) -> String {
        let server = Server::http("127.0.0.1:0").unwrap();
        let address = format!("http://{}", server.server_addr());
        let mut fake = self.clone();
        thread::spawn(move || server.incoming_requests().for_each(|request| fake.answer(request)));
        address
    }
}

fn options(endpoint: String, cache: &TempDir) -> FetchOptions {
    let token = Some("none".into());
    FetchOptions { endpoint: Some(endpoint), cache: Some(cache.path().into()), token, ..FetchOptions::default() }
}

/// Fetches into an empty cache and expects a refusal that says all of `needles`.
fn refusal(fake: &Fake, needles: &[&str]) {
    let cache = tempfile::tempdir().unwrap();
    let message = fetch("org/name", &options(fake.serve(), &cache)).unwrap_err().to_string();
    for needle in needles {
        assert!(message.contains(needle), "wanted {needle:?} in {message:?}");
    }
}

#[test]
fn a_model_is_fetched_once_and_then_found_in_the_cache() {
    for redirects in [None, Some(String::new())] {
        let fake = Fake { redirects, ..Fake::model() };
        let cache = tempfile::tempdir().unwrap();
        let endpoint = fake.serve();
        let folder = fetch("org/name", &options(endpoint.clone(), &cache)).unwrap();
        for (name, content) in &fake.files {
            assert_eq!(&fs::read(folder.join(name)).unwrap(), content, "{name}");
        }
        assert!(!folder.join("chat_template.jinja").exists(), "optional, and the hub has none");

        fake.log.lock().unwrap().clear();
        assert_eq!(fetch("org/name", &options(endpoint, &cache)).unwrap(), folder);
        assert_eq!(fake.log.lock().unwrap().len(), 1, "only the list is asked for again");
        let offline = fetch("org/name", &options("http://127.0.0.1:1".into(), &cache));
        assert_eq!(offline.unwrap(), folder);
    }
}

#[test]
fn files_of_a_data_set_are_fetched_by_their_names_and_found_again() {
    let files = [("data/b.jsonl", b"2".to_vec()), ("data/a.jsonl", b"1".to_vec()), ("README.md", b"text".to_vec())];
    let fake = Fake { files: files.into(), ..Fake::default() };
    let cache = tempfile::tempdir().unwrap();
    let wanted = |name: &str| name.ends_with(".jsonl");
    let fetched = |endpoint: String| data::data_files_with("org/name", &wanted, &options(endpoint, &cache));
    let found = fetched(fake.serve()).unwrap();
    let read = |(name, path): &(String, PathBuf)| (name.clone(), fs::read_to_string(path).unwrap());
    let contents: Vec<(String, String)> = found.iter().map(read).collect();
    assert_eq!(contents, [("data/a.jsonl", "1"), ("data/b.jsonl", "2")].map(|(name, text)| (name.into(), text.into())));
    assert!(found[0].1.to_str().unwrap().contains("datasets--org--name"));
    assert!(fake.log.lock().unwrap().iter().any(|url| url.starts_with("/datasets/org/name/resolve/")));
    assert!(fake.log.lock().unwrap().iter().all(|url| !url.contains("README")));
    assert_eq!(fetched("http://127.0.0.1:1".into()).unwrap(), found);

    let none = |endpoint, wanted: &dyn Fn(&str) -> bool| {
        let empty = tempfile::tempdir().unwrap();
        data::data_files_with("org/name", wanted, &options(endpoint, &empty)).unwrap_err().to_string()
    };
    let message = none(fake.serve(), &|name| name.ends_with(".parquet"));
    assert!(message.contains("has no file of this kind; it has ") && message.contains("data/a.jsonl"), "{message}");
    assert!(none("http://127.0.0.1:1".into(), &wanted).contains("cannot be reached"));
    let message = data_files("no-name", &wanted).unwrap_err().to_string();
    assert!(message.contains("is no name of a data set on the hub"), "{message}");
    let outside = Fake { files: [("../x.jsonl", b"1".to_vec())].into(), ..Fake::default() };
    assert!(none(outside.serve(), &wanted).contains("has no file of this kind"));
}

#[test]
fn shards_come_from_the_index() {
    let mut fake = Fake::model();
    fake.files.remove("model.safetensors");
    fake.files.insert("model-00001-of-00002.safetensors", vec![1; 10]);
    fake.files.insert("model-00002-of-00002.safetensors", vec![2; 10]);
    let index = json!({ "weight_map": {
        "a": "model-00001-of-00002.safetensors",
        "b": "model-00002-of-00002.safetensors",
        "c": "model-00001-of-00002.safetensors",
    }});
    fake.files.insert(INDEX, index.to_string().into_bytes());
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch("org/name", &options(fake.serve(), &cache)).unwrap();
    assert_eq!(fs::read(folder.join("model-00002-of-00002.safetensors")).unwrap(), [2; 10]);

    for outside in ["../secret.safetensors", "/etc/passwd.safetensors", "a/b.safetensors", "model.bin", ""] {
        fake.files.insert(INDEX, json!({ "weight_map": { "a": outside } }).to_string().into_bytes());
        refusal(&fake, &["no safetensors file of this folder"]);
    }
    fake.files.insert(INDEX, json!({ "weight_map": { "a": "model-00009.safetensors" } }).to_string().into_bytes());
    refusal(&fake, &["has no `model-00009.safetensors`"]);
    fake.files.insert(INDEX, b"[]".to_vec());
    refusal(&fake, &["no `weight_map`"]);
}

#[test]
fn a_file_with_another_sha256_is_refused_and_removed() {
    let mut fake = Fake { spoilt: vec!["model.safetensors"], ..Fake::model() };
    let cache = tempfile::tempdir().unwrap();
    let message = fetch("org/name", &options(fake.serve(), &cache)).unwrap_err().to_string();
    assert!(message.contains("sha256") && message.contains("removed"), "{message}");
    let left = fs::read_dir(cache.path().join("models--org--name/blobs")).unwrap();
    let large = left.filter(|entry| entry.as_ref().unwrap().metadata().unwrap().len() > 100).count();
    assert_eq!(large, 0);

    fake.spoilt.clear();
    let folder = fetch("org/name", &options(fake.serve(), &cache)).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), fake.files["model.safetensors"]);
}

#[test]
fn a_file_spoilt_in_the_cache_is_fetched_again() {
    let fake = Fake::model();
    let cache = tempfile::tempdir().unwrap();
    let endpoint = fake.serve();
    let folder = fetch("org/name", &options(endpoint.clone(), &cache)).unwrap();
    let blob = folder.join("model.safetensors").canonicalize().unwrap();
    fs::write(blob, b"spoilt").unwrap();
    fetch("org/name", &options(endpoint, &cache)).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), fake.files["model.safetensors"]);
}

/// A store of one file that closes the connection in the middle of the first long answer; logs the ranges asked for.
fn breaking_store(content: Vec<u8>, log: Arc<Mutex<Vec<String>>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut breaks = true;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let range =
                head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
            let range = range.unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let start: usize = start.parse().unwrap();
            let end = end.parse::<usize>().map_or(content.len(), |last| last + 1);
            let promise = end - start;
            let sent = if breaks && promise > 1 { promise / 2 } else { promise };
            breaks &= promise == 1;
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-length: {promise}\r\ncontent-range: bytes {start}-{}/{}\r\n\
                 connection: close\r\n\r\n",
                end - 1,
                content.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&content[start..start + sent]).unwrap();
            log.lock().unwrap().push(range);
        }
    });
    address
}

#[test]
fn a_broken_transfer_is_taken_up_where_it_stopped() {
    let mut fake = Fake::model();
    let content = fake.files["model.safetensors"].clone();
    fake.redirects = Some(breaking_store(content.clone(), fake.log.clone()));
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch("org/name", &options(fake.serve(), &cache)).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), content);
    let log = fake.log.lock().unwrap();
    assert!(log.contains(&"100000-".to_owned()), "{log:?}");
}

#[test]
fn a_redirection_that_leads_nowhere_is_an_error() {
    refusal(&Fake { lost: true, ..Fake::model() }, &["model.safetensors", "cannot be followed"]);
}

/// A store that sends half of every long answer and then nothing, the connection being kept open.
fn stalling_store(content: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let probe = lines.take_while(|line| !line.is_empty()).any(|line| line.to_lowercase() == "range: bytes=0-0");
            let (promised, sent) = if probe { (1, 1) } else { (content.len(), content.len() / 2) };
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-length: {promised}\r\ncontent-range: bytes 0-{}/{}\r\n\r\n",
                promised - 1,
                content.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&content[..sent]).unwrap();
            kept.push(stream);
        }
    });
    address
}

#[test]
fn a_hub_that_falls_silent_is_given_up() {
    let patience = Some(Duration::from_millis(700));
    let stalled = |fake: &Fake, cache: &TempDir| {
        let start = std::time::Instant::now();
        let outcome = fetch("org/name", &FetchOptions { patience, ..options(fake.serve(), cache) });
        assert!(start.elapsed() < Duration::from_secs(10));
        outcome
    };
    let large = Fake::model().files["model.safetensors"].clone();
    for (fake, what) in [
        (Fake { silent: Some(""), ..Fake::model() }, "the list of files"),
        (Fake { silent: Some("tokenizer.json"), ..Fake::model() }, "tokenizer.json"),
        (Fake { redirects: Some(stalling_store(large)), ..Fake::model() }, "model.safetensors"),
    ] {
        let error = stalled(&fake, &tempfile::tempdir().unwrap()).unwrap_err().to_string();
        let said = format!("has sent nothing for 0.7 s while {what} of org/name was fetched");
        assert!(error.contains(&said) && error.contains("run the same command again"), "{error}");
    }
    // What was fetched before does for a hub that does not answer now.
    let cache = tempfile::tempdir().unwrap();
    let folder = fetch("org/name", &options(Fake::model().serve(), &cache)).unwrap();
    assert_eq!(stalled(&Fake { silent: Some(""), ..Fake::model() }, &cache).unwrap(), folder);
}

#[test]
fn a_fetched_model_is_found_by_its_name() {
    let cache = tempfile::tempdir().unwrap();
    let find = |name: &str| find_in(cache.path().into(), name);
    assert!(find("org/name").unwrap().is_none());
    let folder = fetch("org/name", &options(Fake::model().serve(), &cache)).unwrap();
    assert_eq!(find("org/name").unwrap(), Some(folder.clone()));
    for name in ["name", "org/other", "../org/name", "/", "org/", ""] {
        assert!(!is_hub_name(name) || find(name).unwrap().is_none(), "{name}");
    }
    // Another program may have fetched a part only.
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let error = find("org/name").unwrap_err().to_string();
    assert!(error.contains("no model.safetensors") && error.contains("model fetch org/name"), "{error}");
    let offline = fetch("org/name", &options("http://127.0.0.1:1".into(), &cache)).unwrap_err().to_string();
    assert!(offline.contains("cannot be reached"), "{offline}");
    fs::write(folder.join(INDEX), json!({ "weight_map": { "a": "a.safetensors" } }).to_string()).unwrap();
    let error = find("org/name").unwrap_err().to_string();
    assert!(error.contains("no a.safetensors"), "{error}");
    fs::write(folder.join("a.safetensors"), "").unwrap();
    assert_eq!(find("org/name").unwrap(), Some(folder));
}

#[test]
fn refusals_say_what_to_do() {
    let gated = Fake { token: Some("secret"), ..Fake::model() };
    refusal(&gated, &["401", "HF_TOKEN"]);
    let cache = tempfile::tempdir().unwrap();
    let with_token = FetchOptions { token: Some("secret".into()), ..options(gated.serve(), &cache) };
    fetch("org/name", &with_token).unwrap();

    refusal(&Fake { status: Some(403), ..Fake::model() }, &["403", "HF_TOKEN"]);
    refusal(&Fake { status: Some(404), ..Fake::model() }, &["404", "check the name", "revision main"]);
    refusal(&Fake { status: Some(500), ..Fake::model() }, &["500", "try again later"]);
    let mut bare = Fake::model();
    bare.files.remove("model.safetensors");
    refusal(&bare, &["only safetensors weights"]);
    bare.files.remove("tokenizer.json");
    refusal(&bare, &["has no `tokenizer.json`"]);

    let offline = fetch("org/name", &options("http://127.0.0.1:1".into(), &tempfile::tempdir().unwrap())).unwrap_err();
    assert!(offline.to_string().contains("check the network"), "{offline}");
    for name in ["name", "a/b/c", "../x", "org/..", "org/na me", ""] {
        let error = fetch(name, &FetchOptions::default()).unwrap_err().to_string();
        assert!(error.contains("ORG/NAME"), "{error}");
    }
    let revision = FetchOptions { revision: Some("../../x".into()), ..FetchOptions::default() };
    assert!(fetch("org/name", &revision).unwrap_err().to_string().contains("no revision"));
}
