//! TLS of the real server.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::crypto::{CryptoProvider, ring::cipher_suite as suites};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::tungstenite::Message;

use crate::server::ServerProcess;
use crate::support::{DEADLINE, RawClient};

pub(crate) const VARIABLES: [(&str, &str); 2] = [
    ("ROOMCAST_SERVER__TLS__CERT_FILE", "cert.pem"),
    ("ROOMCAST_SERVER__TLS__KEY_FILE", "key.pem"),
];

/// Creates a certificate and key in a folder, and returns the certificate for clients to trust.
pub(crate) fn issue(folder: &TempDir) -> CertificateDer<'static> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issued = rcgen::generate_simple_self_signed(names).unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write("key.pem", issued.signing_key.serialize_pem());
    write("cert.pem", issued.cert.pem());
    issued.cert.der().clone()
}

pub(crate) fn start() -> (ServerProcess, TempDir, CertificateDer<'static>) {
    let folder = TempDir::new().unwrap();
    let trusted = issue(&folder);
    let binary = ServerProcess::start(folder.path(), &VARIABLES);
    (binary, folder, trusted)
}

async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.unwrap();
    encrypt(stream, trusted, versions, alpn).await
}

/// Connects from this local address.
async fn connect_from(local: &str, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let local = local.parse().unwrap();
    socket.bind(SocketAddr::new(local, 0)).unwrap();
    socket.connect(address).await.unwrap()
}

async fn encrypt(
    stream: TcpStream,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = rustls::crypto::ring::default_provider();
    let mut config = client(provider, trusted, versions);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    shake_hands(stream, config).await
}

/// Returns the settings of a client with these algorithms.
fn client(
    provider: CryptoProvider,
    trusted: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn shake_hands(
    stream: TcpStream,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    tokio::time::timeout(DEADLINE, connecting).await.unwrap()
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

async fn get(stream: &mut TlsStream<TcpStream>, target: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = stream.read_to_string(&mut answer);
    tokio::time::timeout(DEADLINE, reading)
        .await
        .unwrap()
        .unwrap();
    answer
}

#[tokio::test]
async fn tls_1_2_and_1_3_serve_http_1_with_strict_transport_security() {
    let (binary, _folder, trusted) = start();
    for version in BOTH {
        let alpn = ["h2", "http/1.1"];
        let mut stream = connect(binary.address(), &trusted, &[version], &alpn)
            .await
            .unwrap();
        let spoken = stream.get_ref().1.alpn_protocol();
        assert_eq!(spoken, Some(&b"http/1.1"[..]));
        let answer = get(&mut stream, "/health/live").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.contains("strict-transport-security: max-age="),
            "{answer}"
        );
    }
    // A client without a common protocol is refused.
    let refused = connect(binary.address(), &trusted, &BOTH, &["h2"]).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn clients_get_aes_128_unless_they_prefer_chacha20_or_do_not_offer_it() {
    use suites::{
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 as OLD_128,
        TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 as OLD_256,
        TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 as OLD_CHACHA20, TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    let (binary, _folder, trusted) = start();
    for (version, [aes_128, aes_256, chacha20]) in [
        (&version::TLS12, [OLD_128, OLD_256, OLD_CHACHA20]),
        (
            &version::TLS13,
            [
                TLS13_AES_128_GCM_SHA256,
                TLS13_AES_256_GCM_SHA384,
                TLS13_CHACHA20_POLY1305_SHA256,
            ],
        ),
    ] {
        for (offered, expected) in [
            (vec![aes_256, aes_128, chacha20], aes_128),
            (vec![aes_256, chacha20, aes_128], aes_128),
            (vec![chacha20, aes_256, aes_128], chacha20),
            (vec![aes_256, chacha20], aes_256),
            (vec![chacha20], chacha20),
        ] {
            let provider = CryptoProvider {
                cipher_suites: offered,
                ..rustls::crypto::ring::default_provider()
            };
            let config = client(provider, &trusted, &[version]);
            let stream = TcpStream::connect(binary.address()).await.unwrap();
            let mut stream = shake_hands(stream, config).await.unwrap();
            assert_eq!(stream.get_ref().1.negotiated_cipher_suite(), Some(expected));
            let answer = get(&mut stream, "/health/live").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
}

#[tokio::test]
async fn websocket_over_tls_works_as_over_tcp() {
    let (binary, _folder, trusted) = start();
    let stream = connect(binary.address(), &trusted, &BOTH, &[])
        .await
        .unwrap();
    let url = "wss://localhost/socket.io/?EIO=4&transport=websocket";
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let mut next = async || {
        let next = tokio::time::timeout(DEADLINE, socket.next()).await;
        next.unwrap()
            .unwrap()
            .unwrap()
            .into_text()
            .unwrap()
            .to_string()
    };
    assert!(next().await.starts_with("0{"));
    socket.send(Message::text("40{}")).await.unwrap();
    let lobby = crate::server::LOBBY;
    let join = format!(r#"421["join_conversation","{lobby}"]"#);
    socket.send(Message::text(join)).await.unwrap();
    let content = "x".repeat(10_000);
    for id in 2..12 {
        let message =
            format!(r#"42{id}["message",{{"conversationId":"{lobby}","content":"{content}"}}]"#);
        socket.send(Message::text(message)).await.unwrap();
    }
    let history = format!(r#"4220["message_history",{{"conversationId":"{lobby}"}}]"#);
    let mut answered = 0;
    while answered < 10 {
        let message = tokio::time::timeout(DEADLINE, socket.next()).await;
        let text = message.unwrap().unwrap().unwrap().into_text().unwrap();
        answered += usize::from(text.starts_with("43") && text.contains(&content));
    }
    socket.send(Message::text(history)).await.unwrap();
    loop {
        let message = tokio::time::timeout(DEADLINE, socket.next()).await;
        let text = message.unwrap().unwrap().unwrap().into_text().unwrap();
        if text.starts_with("4320[") {
            assert!(text.len() > 100_000, "{}", text.len());
            break;
        }
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn new_certificate_applies_without_restart_unless_invalid() {
    let folder = TempDir::new().unwrap();
    let first = issue(&folder);
    // This client connects before, and sends nothing until the end.
    let long_timeout = ("ROOMCAST_ENGINE__HEADER_TIMEOUT", "1h");
    let binary = ServerProcess::start(folder.path(), &[VARIABLES[0], VARIABLES[1], long_timeout]);
    let mut old = connect(binary.address(), &first, &BOTH, &[]).await.unwrap();

    fs::write(folder.path().join("cert.pem"), "this is no certificate").unwrap();
    binary.expect_log(&[
        "could not load the changed certificate, the previous one stays in use",
        "cert.pem",
    ]);
    assert!(connect(binary.address(), &first, &BOTH, &[]).await.is_ok());

    let second = issue(&folder);
    let start = Instant::now();
    while connect(binary.address(), &second, &BOTH, &[])
        .await
        .is_err()
    {
        assert!(start.elapsed() < DEADLINE, "never used");
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    }
    assert!(connect(binary.address(), &first, &BOTH, &[]).await.is_err());
    // The earlier client stays connected.
    let answer = get(&mut old, "/health/live").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_new_key_without_its_certificate_is_not_used() {
    let (binary, folder, first) = start();
    let foreign = TempDir::new().unwrap();
    issue(&foreign);
    let key = folder.path().join("key.pem");
    fs::copy(foreign.path().join("key.pem"), &key).unwrap();
    binary.expect_log(&[
        "could not load the changed certificate, the previous one stays in use",
        "cert.pem",
    ]);
    assert!(connect(binary.address(), &first, &BOTH, &[]).await.is_ok());

    fs::remove_file(&key).unwrap();
    binary.expect_log(&[
        "could not load the changed certificate, the previous one stays in use",
        "key.pem",
    ]);
    assert!(connect(binary.address(), &first, &BOTH, &[]).await.is_ok());
    assert!(!binary.log().contains("PRIVATE"), "{}", binary.log());
}

/// Returns a ClientHello (RFC 5246, 7.4.1.2) that offers only this version.
fn hello(version: u8) -> Vec<u8> {
    let mut body = vec![3, version];
    body.extend([7; 32]); // Random.
    body.push(0); // No session.
    // ECDHE_ECDSA with AES_128_GCM_SHA256, ECDHE_RSA and RSA with AES_128_CBC_SHA.
    body.extend([0, 6, 0xc0, 0x2b, 0xc0, 0x13, 0x00, 0x2f]);
    body.extend([1, 0]); // No compression.
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..],  // secp256r1
        &[0, 11, 0, 2, 1, 0],             // Uncompressed points.
        &[0, 13, 0, 6, 0, 4, 4, 3, 4, 1], // ECDSA and RSA with SHA-256.
    ]
    .concat();
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    let mut record = vec![0x16, 3, 1];
    record.extend((message.len() as u16).to_be_bytes());
    record.extend(message);
    record
}

#[test]
fn versions_before_1_2_are_refused() {
    let (binary, _folder, _) = start();
    for (version, name) in [(0, "SSL 3.0"), (1, "TLS 1.0"), (2, "TLS 1.1")] {
        let mut client = RawClient::connect(binary.address());
        client.send(hello(version));
        let answer = client.take_all();
        // A fatal alert: protocol_version (RFC 8446, 6.2).
        assert_eq!(answer.first(), Some(&0x15), "{name}: {answer:?}");
        assert!(answer.ends_with(&[2, 70]), "{name}: {answer:?}");
    }
    // The same bytes with a supported version are answered by a ServerHello.
    let mut client = RawClient::connect(binary.address());
    client.send(hello(3));
    assert_eq!(client.take(6)[..2], [0x16, 3]);
}

#[tokio::test]
async fn b14_slow_handshakes_of_one_address_delay_no_other_address() {
    let folder = TempDir::new().unwrap();
    let trusted = issue(&folder);
    let mut variables = VARIABLES.to_vec();
    variables.extend([
        ("ROOMCAST_LIMITS__EXEMPT_LOOPBACK", "false"),
        ("ROOMCAST_LIMITS__CONNECTS", "0"),
    ]);
    let binary = ServerProcess::start(folder.path(), &variables);
    let address = binary.address();
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(connect_from("127.0.0.2", address).await);
    }
    // All handshakes that one address may have are in flight, and further connections of the
    // address wait.
    let start = Instant::now();
    loop {
        // A handshake of another address succeeds in the meantime.
        let stream = connect_from("127.0.0.3", address).await;
        let mut stream = encrypt(stream, &trusted, &BOTH, &[]).await.unwrap();
        get(&mut stream, "/health/live").await;
        let metrics = binary.metrics().await;
        let running = metrics
            .lines()
            .find_map(|line| line.strip_prefix("roomcast_tls_handshakes "));
        if running == Some("64") {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{running:?} handshakes");
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
    // When these end, waiting connections of the address are served.
    let own = connect_from("127.0.0.2", address).await;
    drop(slow);
    let mut own = encrypt(own, &trusted, &BOTH, &[]).await.unwrap();
    let answer = get(&mut own, "/health/live").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn b14_a_handshake_that_never_ends_is_ended() {
    let (binary, _folder, trusted) = start();
    let address = binary.address();
    let attacks: Vec<_> = [
        &b""[..],
        b"\x16\x03\x01",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\xff\xff",
    ]
    .map(|begin| {
        std::thread::spawn(move || {
            let mut client = RawClient::connect(address);
            client.send(begin);
            // At most an alert.
            assert!(client.take_all().len() < 100);
        })
    })
    .into();
    // Other clients are served in the meantime.
    let mut stream = connect(address, &trusted, &BOTH, &[]).await.unwrap();
    assert!(
        get(&mut stream, "/health/live")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
    tokio::task::spawn_blocking(move || {
        for attack in attacks {
            attack.join().unwrap();
        }
    })
    .await
    .unwrap();
    let failed = "roomcast_tls_handshakes_failed_total{reason=\"timeout\"} 3\n";
    let left = [
        "roomcast_tls_handshakes 0\n",
        "roomcast_connections 1\n",
        failed,
    ];
    let start = Instant::now();
    loop {
        let mut stream = connect(address, &trusted, &BOTH, &[]).await.unwrap();
        get(&mut stream, "/health/live").await;
        let metrics = binary.metrics().await;
        // A client sees the end of its connection before the server has released it.
        if left.iter().all(|row| metrics.contains(row)) {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

#[tokio::test]
async fn b14_a_handshake_in_records_of_one_byte_is_a_handshake() {
    let (binary, _folder, trusted) = start();
    // A relay that forwards single bytes.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relay = listener.local_addr().unwrap();
    let address = binary.address();
    let relaying = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(address).await.unwrap();
        server.set_nodelay(true).unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let back = async { tokio::io::copy(&mut from_server, &mut to_client).await };
        let forth = async {
            while let Ok(byte) = from_client.read_u8().await {
                if to_server.write_u8(byte).await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(back, forth)
    });
    let mut stream = connect(relay, &trusted, &BOTH, &[]).await.unwrap();
    let answer = get(&mut stream, "/health/live").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(stream);
    let _ = relaying.await;
}

#[test]
fn unusable_certificate_prevents_the_start() {
    let folder = TempDir::new().unwrap();
    issue(&folder);
    let foreign = TempDir::new().unwrap();
    issue(&foreign);
    let key = foreign.path().join("key.pem").display().to_string();
    let check = |variables: &[(&str, &str)]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_roomcast"));
        let command = command.arg("check-config").current_dir(folder.path());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    assert!(check(&VARIABLES).0);
    for (variables, part) in [
        (&VARIABLES[..1], "cert_file and key_file"),
        (
            &[VARIABLES[0], ("ROOMCAST_SERVER__TLS__KEY_FILE", "none.pem")],
            "none.pem",
        ),
        (
            &[VARIABLES[0], ("ROOMCAST_SERVER__TLS__KEY_FILE", "cert.pem")],
            "private key",
        ),
        (
            &[("ROOMCAST_SERVER__TLS__CERT_FILE", "key.pem"), VARIABLES[1]],
            "certificate",
        ),
        (
            &[VARIABLES[0], ("ROOMCAST_SERVER__TLS__KEY_FILE", &key)],
            "cert.pem",
        ),
    ] {
        let (works, output) = check(variables);
        assert!(!works && output.contains(part), "{part}: {output}");
        assert!(!output.contains("BEGIN"), "{output}");
    }
}
