//! A server whose every packet comes from the test.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use crate::suite::within;

/// Accepts WebSocket connections one at a time.
pub(crate) struct Fake(TcpListener);

/// An open session.
pub(crate) struct Session(WebSocketStream<TcpStream>);

impl Fake {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Accepts the next session and sends its handshake.
    pub(crate) async fn accept(&self) -> Session {
        self.accept_with(25_000, 20_000).await
    }

    /// Accepts the next session with this ping interval and timeout, in milliseconds.
    pub(crate) async fn accept_with(&self, interval: u64, timeout: u64) -> Session {
        let (stream, _) = within(self.0.accept()).await.unwrap();
        let mut session = Session(within(accept_async(stream)).await.unwrap());
        let times = format!("\"pingInterval\":{interval},\"pingTimeout\":{timeout}");
        session
            .send(&format!(
                "0{{\"sid\":\"s\",\"upgrades\":[],{times},\"maxPayload\":1000000}}"
            ))
            .await;
        session
    }

    /// Accepts the next session and its connection to the namespace `/`.
    pub(crate) async fn connected(&self) -> Session {
        let mut session = self.accept().await;
        assert_eq!(session.next().await, "40");
        session.send("40{\"sid\":\"a\"}").await;
        session
    }
}

impl Session {
    pub(crate) async fn send(&mut self, text: &str) {
        let sent = self.0.send(Message::text(text));
        within(sent).await.unwrap();
    }

    /// Returns the next text of the client and answers pings.
    pub(crate) async fn next(&mut self) -> String {
        loop {
            match within(self.0.next()).await {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(Message::Ping(_))) => within(self.0.flush()).await.unwrap(),
                other => panic!("no text: {other:?}"),
            }
        }
    }

    /// Returns the client's next frame: its text, or the kind of a control frame. A ping is
    /// answered when the next frame is read.
    pub(crate) async fn frame(&mut self) -> String {
        match within(self.0.next()).await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            Some(Ok(Message::Ping(_))) => "ping".into(),
            Some(Ok(Message::Close(_))) => "close".into(),
            other => panic!("another frame: {other:?}"),
        }
    }

    /// Waits until the client has closed the connection, and returns the texts before.
    pub(crate) async fn end(mut self) -> Vec<String> {
        let mut texts = Vec::new();
        within(async {
            while let Some(Ok(message)) = self.0.next().await {
                if let Message::Text(text) = message {
                    texts.push(text.to_string());
                }
            }
        })
        .await;
        texts
    }
}
