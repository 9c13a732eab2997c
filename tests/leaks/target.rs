//! The server under test, its addresses, and the connections that its clients hold.

use std::{
    fs,
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring, pki_types::ServerName,
};
use tempfile::TempDir;

use crate::support::{DEADLINE, Frame, Polling, RawClient, ServerProcess};

/// The kind of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// Clients may recover their sessions.
    Recovery,
    /// The server is mounted in axum and has one address.
    Mounted,
}

/// The server under test.
pub(crate) struct Target {
    pub(crate) server: ServerProcess,
    trust: Arc<ClientConfig>,
    _folder: TempDir,
}

impl Target {
    pub(crate) fn start(kind: Kind) -> Self {
        let folder = TempDir::new().unwrap();
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let cert = file("cert.pem", issued.cert.pem());
        let key = file("key.pem", issued.signing_key.serialize_pem());
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let trust = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();

        let mut variables = vec![("TLS_CERT", &*cert), ("TLS_KEY", &*key)];
        // Panics are part of the matrix; one line each suffices.
        variables.push(("RUST_BACKTRACE", "0"));
        match kind {
            Kind::Plain => {}
            Kind::Recovery => variables.push(("RECOVERY", "1")),
            Kind::Mounted => variables.push(("MOUNT", "nested")),
        }
        Self {
            server: ServerProcess::example_with("leaks", &variables),
            trust: Arc::new(trust),
            _folder: folder,
        }
    }

    /// Connects to the TLS address and sends nothing.
    pub(crate) fn connect_tls_port(&self) -> RawClient {
        RawClient::connect(self.address(1))
    }

    /// Connects to the address for a load balancer and sends nothing.
    pub(crate) fn connect_proxy_port(&self) -> RawClient {
        RawClient::connect(self.address(2))
    }

    /// Connects a client to `/` through TLS.
    pub(crate) fn enter_with_tls(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let stream = TcpStream::connect(self.address(1)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(Arc::clone(&self.trust), name).unwrap();
        let mut tls = StreamOwned::new(tls, stream);
        let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        tls.write_all(request.as_bytes()).unwrap();
        read_until(&mut tls, b"0{\"sid\":");
        tls.write_all(&crate::support::websocket::masked(0x81, "40"))
            .unwrap();
        read_until(&mut tls, b"40{\"sid\":");
        tls
    }

    fn address(&self, further: u16) -> SocketAddr {
        let mut address = self.server.address();
        address.set_port(address.port() + further);
        address
    }

    /// Returns the metrics, read by a client of its own.
    pub(crate) fn metrics(&self) -> String {
        let mut client = self.server.connect();
        client.open_socket();
        client.send_text(r#"420["metrics"]"#);
        let text = message(&mut client);
        // Otherwise the server would wait for its recovery.
        client.send_text("41");
        text.replace("\\n", "\n").replace("\\\"", "\"")
    }
}

fn read_until(stream: &mut impl Read, end: &[u8]) {
    let mut received = Vec::new();
    while !received.windows(end.len()).any(|part| part == end) {
        let mut chunk = [0; 1024];
        let count = stream.read(&mut chunk).unwrap();
        assert!(
            count > 0,
            "closed after {:?}",
            received.escape_ascii().to_string()
        );
        received.extend_from_slice(&chunk[..count]);
    }
}

/// Connections that stay open while their clients wait for the end.
#[derive(Default)]
pub(crate) struct HeldConnections {
    pub(crate) sockets: Vec<RawClient>,
    pub(crate) sessions: Vec<Polling>,
}

impl HeldConnections {
    /// Holds a connection.
    pub(crate) fn hold(&mut self, client: RawClient) -> &mut RawClient {
        self.sockets.push(client);
        self.sockets.last_mut().unwrap()
    }

    /// Connects a client to `/` that joins a room.
    pub(crate) fn enter(&mut self, target: &Target) -> &mut RawClient {
        self.enter_over(target.server.connect())
    }

    /// Does the same on this connection.
    pub(crate) fn enter_over(&mut self, mut client: RawClient) -> &mut RawClient {
        client.open_socket();
        client.send_text(r#"420["join","room"]"#);
        // Events to the room can arrive before the answer to the join.
        let mut answer = message(&mut client);
        while answer.ends_with(r#"["question"]"#) {
            answer = message(&mut client);
        }
        assert_eq!(answer, "430[true]");
        self.hold(client)
    }

    /// Opens a polling session in `/`.
    pub(crate) fn poll(&mut self, target: &Target) -> &Polling {
        let session = Polling::open(target.server.address(), "/socket.io/");
        assert_eq!(session.post("40").status, 200);
        assert!(session.poll().body.contains("40{\"sid\""));
        self.sessions.push(session);
        self.sessions.last().unwrap()
    }
}

/// Returns the next message that is not a ping; pings are answered.
pub(crate) fn message(client: &mut RawClient) -> String {
    match client.message() {
        Frame::Text(text) => text,
        frame => panic!("{frame:?}"),
    }
}
