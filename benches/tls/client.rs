//! A blocking Socket.IO client over TLS.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};

use roomcast_protocol::websocket::{self, Decoder, Opcode, Role};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::support::UPGRADE;

/// The certificate that clients trust, and whether they resume sessions.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

impl Trust {
    pub fn new(folder: &Path) -> Self {
        let pem = fs::read(folder.join("cert.pem")).expect("a certificate");
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(&pem).expect("a certificate");
        roots.add(certificate).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the versions are supported")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    pub fn without_resumption(&self) -> Self {
        self.resuming(Resumption::disabled())
    }

    /// Returns the same with an empty store of sessions.
    pub fn with_resumption(&self) -> Self {
        self.resuming(Resumption::in_memory_sessions(8))
    }

    fn resuming(&self, resumption: Resumption) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        config.resumption = resumption;
        Self(Arc::new(config))
    }
}

/// A client that has joined `/`.
pub struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    decoder: Decoder,
    input: Vec<u8>,
    start: usize,
}

impl Client {
    pub fn connect(address: SocketAddr, trust: &Trust) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP option");
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::clone(&trust.0), name).expect("a configuration");
        let mut stream = StreamOwned::new(tls, stream);
        stream
            .write_all(UPGRADE.as_bytes())
            .expect("the server reads");
        let mut input = Vec::new();
        let end = loop {
            read(&mut stream, &mut input);
            if let Some(at) = input.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
        };
        input.drain(..end);
        let limits = websocket::Limits {
            max_message: 1 << 20,
            max_fragments: 1,
        };
        let mut client = Self {
            stream,
            decoder: Decoder::new(Role::Client, limits),
            input,
            start: 0,
        };
        assert!(client.receive().starts_with(b"0{"));
        client.send("40");
        assert!(client.receive().starts_with(b"40{"));
        client
    }

    pub fn join(&mut self, room: &str) {
        self.send(&format!("420[\"join\",\"{room}\"]"));
        assert!(self.receive().starts_with(b"430["));
    }

    pub fn send(&mut self, text: &str) {
        self.send_frame(Opcode::Text, text.as_bytes());
    }

    fn send_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        let key = Some([1, 2, 3, 4]);
        websocket::encode_frame(&mut frame, websocket::Fragment::Final, opcode, payload, key);
        self.stream.write_all(&frame).expect("the server reads");
    }

    /// Closes the WebSocket, and waits until the server has closed the connection.
    pub fn close(mut self) {
        self.send_frame(Opcode::Close, &1000_u16.to_be_bytes());
        let mut rest = Vec::new();
        // A server may close without an alert.
        let _ = self.stream.read_to_end(&mut rest);
    }

    /// Returns the next text message.
    pub fn receive(&mut self) -> bytes::Bytes {
        loop {
            let mut input = &self.input[self.start..];
            let event = self.decoder.decode(&mut input).expect("valid frames");
            self.start = self.input.len() - input.len();
            match event {
                Some(websocket::Event::Text(text)) => return text,
                Some(other) => panic!("{other:?}"),
                None => {
                    self.input.clear();
                    self.start = 0;
                    read(&mut self.stream, &mut self.input);
                }
            }
        }
    }
}

fn read(stream: &mut StreamOwned<ClientConnection, TcpStream>, input: &mut Vec<u8>) {
    let mut chunk = [0; 16 * 1024];
    let n = stream.read(&mut chunk).expect("the server lives");
    assert!(n > 0, "the server closed");
    input.extend_from_slice(&chunk[..n]);
}
