//! Encrypted connections, whose certificates are verified.

use std::sync::{Arc, Mutex};

use roomcast::{
    Ack, Config, Event, Io, Server,
    client::{Client, ClientError, ClientTls, Transports},
    metrics::Counter,
    options::PerMessageDeflate,
    service::Tls,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::suite::{next, within};

/// Starts a server for `localhost` with a self-signed certificate, and returns its port and the
/// certificate.
async fn serve() -> (u16, String) {
    let (port, certificate, _) = serve_with(Config::default()).await;
    (port, certificate)
}

async fn serve_with(config: Config) -> (u16, String, Io) {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    std::fs::write(&cert, issued.cert.pem()).unwrap();
    let io = Io::builder().config(config).namespace("/", |namespace| {
        namespace
            .on("echo", async |event: Event, value: Value| {
                event.socket.emit("echoed", &value);
                Ack(value)
            })
            .on("emit", async |event: Event, count: usize, bytes: usize| {
                for _ in 0..count {
                    event.socket.emit("emitted", "x".repeat(bytes));
                }
            })
    });
    let tls = Tls::from_files(&cert, &key).unwrap();
    let io = io.build().unwrap();
    let server = Server::new(io.clone()).tls(tls);
    let server = server.bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addrs()[0].port();
    tokio::spawn(async move {
        let _folder = folder;
        server.run().await
    });
    (port, issued.cert.pem(), io)
}

#[tokio::test]
async fn every_transport_encrypts_packets_larger_than_its_buffers() {
    let (port, certificate) = serve().await;
    for (scheme, transports) in [
        ("wss", Transports::WebSocket),
        ("https", Transports::Polling),
        ("https", Transports::Upgrade),
    ] {
        let client = Client::builder(format!("{scheme}://localhost:{port}"));
        let client = client.tls(ClientTls::roots_from_pem(certificate.as_bytes()).unwrap());
        let socket = within(client.transports(transports).connect())
            .await
            .unwrap();
        let mut echoed = socket.stream("echoed");
        for text in ["small".to_owned(), "x".repeat(400_000)] {
            let answer = socket.emit_with_ack::<String>("echo", &text);
            assert!(within(answer).await.unwrap() == text, "{transports:?}");
            assert!(next(&mut echoed).await.args.get::<String>(0).unwrap() == text);
        }
        within(socket.disconnect()).await;
    }
}

#[tokio::test]
async fn messages_are_compressed_inside_of_tls() {
    for compresses in [true, false] {
        let options = PerMessageDeflate::default().threshold(0);
        let config = Config::default().per_message_deflate(options);
        let (port, certificate, io) = serve_with(config).await;
        let mut client = Client::builder(format!("wss://localhost:{port}"));
        client = client.tls(ClientTls::roots_from_pem(certificate.as_bytes()).unwrap());
        if compresses {
            client = client.per_message_deflate(0);
        }
        let socket = within(client.connect()).await.unwrap();
        let text = "the same words again, ".repeat(1_000);
        for _ in 0..2 {
            let answer = socket.emit_with_ack::<String>("echo", &text);
            assert!(within(answer).await.unwrap() == text);
        }
        // The answers of the first echo are counted before the second is read.
        let sent = io.metrics().counter(Counter::BytesSent);
        assert_eq!(sent < 10_000, compresses, "{sent} bytes");
        within(socket.disconnect()).await;
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_or_of_another_name_is_refused() {
    let (port, certificate) = serve().await;
    let url = format!("https://localhost:{port}");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = ClientTls::roots_from_pem(other.cert.pem().as_bytes()).unwrap();
    let error = within(Client::builder(url).tls(other).connect())
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)), "{error:?}");
    let own = ClientTls::roots_from_pem(certificate.as_bytes()).unwrap();
    let client = Client::builder(format!("https://127.0.0.1:{port}")).tls(own);
    let error = within(client.connect()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn invalid_certificate_file_is_refused() {
    for pem in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    ] {
        let error = ClientTls::roots_from_pem(pem.as_bytes()).unwrap_err();
        assert!(matches!(error, ClientError::Options(_)), "{error:?}");
    }
}

/// Relays connections to a server, and returns the port and what the server has sent.
async fn record(port: u16) -> (u16, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = listener.local_addr().unwrap().port();
    let sent = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&sent);
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let forth = tokio::io::copy(&mut from_client, &mut to_server);
        let back = async {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = from_server.read(&mut chunk).await {
                sent.lock().unwrap().extend_from_slice(&chunk[..n]);
                to_client.write_all(&chunk[..n]).await.unwrap();
            }
        };
        let _ = tokio::join!(forth, back);
    });
    (relay, recorded)
}

/// Returns the lengths of the contents of these TLS records, in bytes.
fn records(mut sent: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [0x17, 3, 3, high, low, rest @ ..] = sent {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        // The type and the tag of a record of TLS 1.3.
        lengths.push(length - 17);
        sent = &rest[length..];
    }
    assert!(sent.is_empty(), "{} bytes are left", sent.len());
    lengths
}

#[tokio::test]
async fn small_packets_share_a_record_and_large_ones_fill_records() {
    const LARGEST: usize = 16 * 1024;
    let (port, certificate) = serve().await;
    let (relay, sent) = record(port).await;
    let client = Client::builder(format!("wss://localhost:{relay}"));
    let client = client.tls(ClientTls::roots_from_pem(certificate.as_bytes()).unwrap());
    let client = client.transports(Transports::WebSocket);
    let socket = within(client.connect()).await.unwrap();
    let mut emitted = socket.stream("emitted");
    for (count, bytes) in [(50, 20), (1, 20), (1, 300_000)] {
        sent.lock().unwrap().clear();
        socket.emit("emit", (count, bytes)).unwrap();
        for _ in 0..count {
            next(&mut emitted).await;
        }
        let lengths = records(&sent.lock().unwrap());
        let full = lengths.iter().filter(|length| **length == LARGEST).count();
        // A frame has at most 30 bytes besides its text. All frames of a handler are queued when
        // the first of them is written, because server and client have one thread.
        let most = count * (bytes + 30);
        assert!(lengths.iter().sum::<usize>() <= most, "{lengths:?}");
        assert_eq!(full, bytes / LARGEST, "{lengths:?}");
        assert!(lengths.len() <= full + 1, "{count} packets: {lengths:?}");
    }
    within(socket.disconnect()).await;
}
