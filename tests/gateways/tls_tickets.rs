//! Resumption of TLS sessions, with `openssl` as the client.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::server::ServerProcess;
use crate::tls::{self, VARIABLES};

/// Requests the liveness in a connection, with further arguments of `openssl s_client`. Returns
/// whether the session was resumed.
fn connect(address: SocketAddr, version: &str, arguments: &[&str]) -> bool {
    let mut client = Command::new("openssl")
        .args(["s_client", "-ign_eof", version, "-connect"])
        .arg(address.to_string())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client.stdin.take().unwrap().write_all(request).unwrap();
    let output = client.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("HTTP/1.1 200 "), "{text}");
    let (new, reused) = (text.contains("\nNew, "), text.contains("\nReused, "));
    assert_ne!(new, reused, "{text}");
    reused
}

fn start(certificate: &Path) -> (ServerProcess, TempDir) {
    let folder = TempDir::new().unwrap();
    for name in ["cert.pem", "key.pem"] {
        fs::copy(certificate.join(name), folder.path().join(name)).unwrap();
    }
    let server = ServerProcess::start(folder.path(), &VARIABLES);
    (server, folder)
}

#[tokio::test]
async fn session_resumes_at_another_server_with_the_same_key_only() {
    let [shared, foreign, client] = [(); 3].map(|()| TempDir::new().unwrap());
    for certificate in [&shared, &foreign] {
        tls::issue(certificate);
    }
    let [(first, _a), (second, _b)] = [(); 2].map(|()| start(shared.path()));
    let (other, _c) = start(foreign.path());
    let session = client.path().join("session");
    let session = session.to_str().unwrap();
    assert!(!connect(
        first.address(),
        "-tls1_3",
        &["-sess_out", session]
    ));
    for server in [&first, &second] {
        let address = server.address();
        assert!(connect(address, "-tls1_3", &["-sess_in", session]));
    }
    // The client is served, after a full handshake.
    assert!(!connect(other.address(), "-tls1_3", &["-sess_in", session]));
    for (server, full, resumed) in [(&first, 1, 1), (&second, 0, 1), (&other, 1, 0)] {
        let metrics = server.metrics().await;
        for (kind, count) in [("full", full), ("resumed", resumed)] {
            let row = format!("roomcast_tls_handshakes_done_total{{kind=\"{kind}\"}} {count}\n");
            assert!(metrics.contains(&row), "{row} in {metrics}");
        }
    }
    // A server that starts again resumes as well.
    first.terminate();
    let (again, _d) = start(shared.path());
    assert!(connect(again.address(), "-tls1_3", &["-sess_in", session]));
}

#[test]
fn session_of_a_replaced_key_is_not_resumed() {
    let [shared, client] = [(); 2].map(|()| TempDir::new().unwrap());
    tls::issue(&shared);
    let (server, folder) = start(shared.path());
    let session = client.path().join("session");
    let session = session.to_str().unwrap();
    assert!(!connect(
        server.address(),
        "-tls1_3",
        &["-sess_out", session]
    ));
    assert!(connect(server.address(), "-tls1_3", &["-sess_in", session]));
    tls::issue(&folder);
    server.expect_log(&["certificate reloaded"]);
    assert!(!connect(
        server.address(),
        "-tls1_3",
        &["-sess_in", session]
    ));
}

#[test]
fn tls_1_2_has_no_tickets_and_resumes_at_its_server_only() {
    let [shared, client] = [(); 2].map(|()| TempDir::new().unwrap());
    tls::issue(&shared);
    let [(first, _a), (second, _b)] = [(); 2].map(|()| start(shared.path()));
    let session = client.path().join("session");
    let session = session.to_str().unwrap();
    assert!(!connect(
        first.address(),
        "-tls1_2",
        &["-sess_out", session]
    ));
    let described = Command::new("openssl")
        .args(["sess_id", "-noout", "-text", "-in", session])
        .output()
        .unwrap();
    let described = String::from_utf8(described.stdout).unwrap();
    assert!(described.contains("TLSv1.2"), "{described}");
    assert!(!described.contains("TLS session ticket:"), "{described}");
    assert!(connect(first.address(), "-tls1_2", &["-sess_in", session]));
    assert!(!connect(
        second.address(),
        "-tls1_2",
        &["-sess_in", session]
    ));
}
