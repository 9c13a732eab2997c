//! The HTTP API for services, on the real server.

mod audit;
mod chat;
mod drill_down;
mod emit;
mod input;
mod keys;
mod moderation;
mod replays;
mod rights;
mod sockets;

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::{KEY, signed};
use crate::server::{ROOMCAST, Server};
use crate::support::{RawClient, Response};

/// Tests send requests faster than services.
const QUICK: (&str, &str) = ("ROOMCAST_LIMITS__API_CALLS_PER_SECOND", "0");

fn start() -> Server {
    Server::with(&[KEY, QUICK])
}

/// Returns the catalogue of events, as the program prints it.
fn catalogue() -> String {
    let output = Command::new(ROOMCAST).arg("catalog").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns a token of a user with these roles.
fn token(user: &str, roles: &[&str]) -> String {
    signed(&json!({"sub": user, "roles": roles, "exp": 4_000_000_000_u64}))
}

/// A caller of the API with a token.
#[derive(Clone)]
struct Caller {
    address: SocketAddr,
    token: String,
    headers: String,
}

impl Caller {
    fn of(server: &Server, user: &str, roles: &[&str]) -> Self {
        Self::at(server.address(), user, roles)
    }

    fn at(address: SocketAddr, user: &str, roles: &[&str]) -> Self {
        Self {
            address,
            token: token(user, roles),
            headers: String::new(),
        }
    }

    fn service(server: &Server) -> Self {
        Self::of(server, "backend", &["service"])
    }

    /// Returns the same caller with a key for its requests.
    fn with_key(&self, key: &str) -> Self {
        Self {
            headers: format!("Idempotency-Key: {key}\r\n"),
            ..self.clone()
        }
    }

    /// Sends a request and returns the whole response.
    async fn send(&self, method: &str, path: &str, body: impl Into<String>) -> Response {
        let (method, path, body) = (method.to_owned(), path.to_owned(), body.into());
        let Self {
            address,
            token,
            headers,
        } = self.clone();
        let sent = tokio::task::spawn_blocking(move || {
            let mut client = RawClient::connect(address);
            client.send(format!(
                "{method} /api/v1{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
            client.response()
        });
        sent.await.unwrap()
    }

    /// Sends a request and returns status and body.
    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.send(method, path, body).await;
        let body = serde_json::from_str(&answer.body).unwrap_or_default();
        (answer.status, body)
    }

    /// Sends a request that must have this status, and returns the body.
    async fn must(&self, status: u16, method: &str, path: &str, body: Value) -> Value {
        let (got, answer) = self.call(method, path, &body).await;
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
        answer
    }

    async fn get(&self, path: &str) -> Value {
        self.must(200, "GET", path, Value::Null).await
    }

    /// Sends a request that must be refused with this status and code, and returns the error.
    async fn refused(&self, status: u16, code: &str, call: (&str, &str, Value)) -> Value {
        let (method, path, body) = call;
        let error = self.must(status, method, path, body).await["error"].clone();
        assert_eq!(error["code"], code, "{method} {path}: {error}");
        error
    }
}

/// Connects a client of a user with a token.
async fn user(server: &Server, name: &str) -> Client {
    let auth = json!({"token": token(name, &["user"])});
    server.connect(&auth).await.unwrap()
}

/// The permissions that the API requires and users do not have.
const SERVICE: [&str; 26] = [
    "api:sessions",
    "api:revocations",
    "api:blocks",
    "api:metrics",
    "api:explain",
    "api:log-level",
    "api:presence",
    "api:conversations",
    "api:messages",
    "api:emit",
    "api:sockets",
    "api:rooms",
    "api:trace",
    "api:users",
    "audit:read",
    "trades:publish",
    "signals:publish",
    "portfolio:publish",
    "prices:publish",
    "notifications:publish",
    "trades:read",
    "signals:read",
    "portfolio:read",
    "notifications:read",
    "channels:publish",
    "channels:read",
];

/// The permissions of users, which services may have as well.
const CHAT: [&str; 6] = [
    "chat:read",
    "chat:send",
    "chat:send_ai",
    "chat:manage",
    "chat:moderate",
    "chat:type",
];
