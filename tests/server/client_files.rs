//! The JavaScript client that the server serves.

use std::{fs, io::Read as _};

use roomcast::{Config, Io, service::ClientFiles};

use crate::{
    local::Local,
    options::{POLLING, ask, get},
    support::RawClient,
};

const FILES: [(&str, &str); 8] = [
    ("socket.io.js", "application/javascript; charset=utf-8"),
    ("socket.io.js.map", "application/json; charset=utf-8"),
    ("socket.io.min.js", "application/javascript; charset=utf-8"),
    ("socket.io.min.js.map", "application/json; charset=utf-8"),
    (
        "socket.io.esm.min.js",
        "application/javascript; charset=utf-8",
    ),
    (
        "socket.io.esm.min.js.map",
        "application/json; charset=utf-8",
    ),
    (
        "socket.io.msgpack.min.js",
        "application/javascript; charset=utf-8",
    ),
    (
        "socket.io.msgpack.min.js.map",
        "application/json; charset=utf-8",
    ),
];

/// Makes a package as npm installs it, with a version that the official client does not have, and a
/// file that was compressed in advance.
pub(crate) fn package() -> ClientFiles {
    let package = tempfile::tempdir().unwrap();
    let manifest = r#"{"name": "socket.io-client", "version": "0.98.7"}"#;
    fs::write(package.path().join("package.json"), manifest).unwrap();
    let dist = package.path().join("dist");
    fs::create_dir(&dist).unwrap();
    for (name, _) in FILES {
        let text = format!("/*!\n * Socket.IO v0.98.7\n */\n{}", name.repeat(400));
        fs::write(dist.join(name), text).unwrap();
    }
    fs::write(dist.join("version"), "not of the client").unwrap();
    let files = ClientFiles::from_package(package.path()).unwrap();
    files.file("socket.io.js.br", &b"brotli"[..])
}

fn serve_root(mut io: roomcast::Builder) -> Local {
    io = io.namespace("/", |namespace| namespace);
    Local::serve(io)
}

fn serve(config: Config) -> Local {
    serve_root(Io::builder().config(config).client_files(package()))
}

#[test]
fn answer_without_client_files_explains_the_configuration() {
    let server = serve_root(Io::builder());
    let answer = get(&server, "/socket.io/socket.io.js", "");
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("Builder::client_files"), "{answer:?}");
    let files = ClientFiles::missing("built where there is no npm");
    let server = serve_root(Io::builder().client_files(files));
    let answer = get(&server, "/socket.io/socket.io.js", "");
    assert_eq!(answer.parts(), (404, "built where there is no npm"));
}

#[test]
fn a_folder_without_a_build_is_an_error() {
    let package = tempfile::tempdir().unwrap();
    assert!(ClientFiles::from_package(package.path()).is_err());
    let manifest = package.path().join("package.json");
    fs::write(&manifest, r#"{"version": "1.0.0"}"#).unwrap();
    let error = ClientFiles::from_package(package.path()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    fs::write(&manifest, "{}").unwrap();
    assert!(ClientFiles::from_package(package.path()).is_err());
}

#[test]
fn every_client_file_is_served_with_its_type() {
    let server = serve(Config::default());
    for (name, kind) in FILES {
        let file = get(&server, &format!("/socket.io/{name}"), "");
        assert_eq!(file.status, 200, "{name}: {}", file.body);
        assert_eq!(file.header("content-type"), Some(kind), "{name}");
        assert_eq!(file.header("cache-control"), Some("public, max-age=0"));
        assert!(!file.body.is_empty());
    }
    let head = {
        let mut client = RawClient::connect(server.address());
        client
            .send("HEAD /socket.io/socket.io.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        String::from_utf8(client.take_all()).unwrap()
    };
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn unchanged_file_is_not_sent_again() {
    let server = serve(Config::default());
    let file = get(&server, "/socket.io/socket.io.js", "");
    let etag = file.header("etag").unwrap();
    let version = etag.trim_matches('"');
    assert!(
        file.body.contains(&format!("Socket.IO v{version}")),
        "{etag}"
    );
    for known in [etag.to_owned(), format!("W/{etag}")] {
        let known = format!("If-None-Match: {known}\r\n");
        let answer = get(&server, "/socket.io/socket.io.js", &known);
        assert_eq!(answer.parts(), (304, ""));
        assert_eq!(answer.header("etag"), Some(etag));
    }
    let other = get(
        &server,
        "/socket.io/socket.io.js",
        "If-None-Match: \"1.0.0\"\r\n",
    );
    assert_eq!(other.status, 200);
}

#[test]
fn files_are_sent_in_the_encoding_a_browser_takes() {
    let server = serve(Config::default());
    let whole = get(&server, "/socket.io/socket.io.js", "").body;
    for (accepted, expected) in [
        ("gzip, deflate, br", "br"),
        ("gzip, deflate", "gzip"),
        ("deflate", "deflate"),
    ] {
        let mut client = RawClient::connect(server.address());
        client.send(format!(
            "GET /socket.io/socket.io.js HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\n\r\n"
        ));
        let head = String::from_utf8(client.take_until(b"\r\n\r\n")).unwrap();
        let encoding = format!("content-encoding: {expected}\r\n");
        assert!(head.contains(&encoding), "{accepted}: {head}");
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length = length.split_once("\r\n").unwrap().0.parse().unwrap();
        let body = client.take(length);
        assert!(body.len() < whole.len() / 2);
        let mut text = String::new();
        match expected {
            "gzip" => flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text),
            "deflate" => flate2::read::ZlibDecoder::new(&body[..]).read_to_string(&mut text),
            _ => {
                assert_eq!(body, b"brotli");
                continue;
            }
        }
        .unwrap();
        assert_eq!(text, whole);
    }
}

#[test]
fn only_encodings_that_exist_are_chosen_for_a_file() {
    let server = serve(Config::default());
    for (file, accepted, expected) in [
        // Only `socket.io.js` was compressed with Brotli.
        ("socket.io.min.js", "gzip, deflate, br, zstd", Some("gzip")),
        ("socket.io.min.js", "br", None),
        ("socket.io.js", "gzip, deflate, br, zstd", Some("br")),
        ("socket.io.js", "gzip;q=0.5, br;q=0.4, zstd", Some("gzip")),
    ] {
        let mut client = RawClient::connect(server.address());
        client.send(format!(
            "GET /socket.io/{file} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accepted}\r\n\r\n"
        ));
        let head = String::from_utf8(client.take_until(b"\r\n\r\n")).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let encoding = head.split_once("content-encoding: ");
        let encoding = encoding.map(|(_, rest)| rest.split_once("\r\n").unwrap().0);
        assert_eq!(encoding, expected, "{file} {accepted}");
    }
}

#[test]
fn no_other_file_is_served() {
    let server = serve(Config::default());
    for path in [
        "/socket.io/",
        "/socket.io/socket.io.msgpack.js",
        "/socket.io/version",
        "/socket.io/socket.io.js.br",
        "/socket.io/../socket.io.js",
        "/socket.io/%2e%2e/Cargo.toml",
        "/socket.io.js",
    ] {
        let answer = get(&server, path, "");
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
    }
    let posted = ask(
        &server,
        "POST",
        "/socket.io/socket.io.js",
        "Content-Length: 0\r\n",
    );
    assert_eq!(posted.status, 405);
    assert_eq!(get(&server, POLLING, "").status, 200);
    let off = serve(Config::default().without_client_files());
    assert_eq!(get(&off, "/socket.io/socket.io.js", "").status, 404);
}
