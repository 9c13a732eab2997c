//! Encrypted connections, whose certificates are verified.

use roomcast::{
    Ack, Event, Io, Server,
    client::{Client, ClientError, ClientTls, Transports},
    service::Tls,
};
use serde_json::Value;

use crate::suite::{next, within};

/// Starts a server for `localhost` with a self-signed certificate, and returns its port and the
/// certificate.
async fn serve() -> (u16, String) {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    std::fs::write(&cert, issued.cert.pem()).unwrap();
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("echo", async |event: Event, value: Value| {
            event.socket.emit("echoed", &value);
            Ack(value)
        })
    });
    let tls = Tls::from_files(&cert, &key).unwrap();
    let server = Server::new(io.build().unwrap()).tls(tls);
    let server = server.bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addrs()[0].port();
    tokio::spawn(async move {
        let _folder = folder;
        server.run().await
    });
    (port, issued.cert.pem())
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
