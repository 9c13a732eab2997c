//! Users and services, for benches that have many of them in their own process.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use ring::hmac;
use roomcast::client::{Connection, Options, Transports};
use roomcast_protocol::socket::Kind;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::spawn_local, time::timeout};

use crate::binary::SECRET;

/// The maximum time for an answer, and for what is in flight at the end of a run.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects a user.
pub async fn connect(address: SocketAddr, name: &str) -> Connection {
    let options = Options {
        transports: Transports::WebSocket,
        auth: Some(json!({ "token": token(name, "user") })),
        ..Options::new(format!("http://{address}"))
    };
    Connection::open(&options).await.unwrap()
}

/// Sends a request, which must succeed.
pub async fn must(connection: &mut Connection, event: &str, payload: &Value) -> Value {
    let id = connection.request(event, &(payload,)).unwrap();
    let answer = async {
        loop {
            let packet = connection.next().await.unwrap();
            if packet.kind == Kind::Ack && packet.id == Some(id) {
                return packet.args.get::<Value>(0).unwrap();
            }
        }
    };
    let answer = timeout(DELIVERY_TIMEOUT, answer).await.unwrap();
    assert_eq!(answer["success"], true, "{event}: {answer}");
    answer
}

/// A service with a connection to the HTTP API.
pub struct Service {
    sender: http1::SendRequest<Full<Bytes>>,
    bearer: String,
}

impl Service {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        spawn_local(connection);
        let bearer = format!("Bearer {}", token("backend", "service"));
        Self { sender, bearer }
    }

    /// Adds a user to a room.
    pub async fn join(&mut self, user: &Connection, room: &str) {
        let route = format!("sockets/{}/rooms/{room}", user.id());
        self.send(Method::PUT, &route, String::new()).await;
    }

    /// Posts a request to a route below `/api/v1`, which must succeed.
    pub async fn post(&mut self, route: &str, body: String) {
        self.send(Method::POST, route, body).await;
    }

    async fn send(&mut self, method: Method, route: &str, body: String) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/{route}"))
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, &self.bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.into())
            .unwrap();
        self.sender.ready().await.unwrap();
        let answer = self.sender.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(status, 200, "{body:?}");
    }
}

/// Creates a token. A process for each user would take a minute.
fn token(user: &str, role: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let exp = jiff::Timestamp::now().as_second() + 3600;
    let claims = json!({"sub": user, "roles": [role], "exp": exp}).to_string();
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.1.as_bytes());
    let signature = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}
