//! Measures opening a session and joining `/`, over WebSocket and by polling, and a refused
//! connection.

#![allow(
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

mod support;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use criterion::{Criterion, criterion_group, criterion_main};
use support::Client;

fn websocket(c: &mut Criterion) {
    let address = support::serve(support::io(), 1);
    c.bench_function("connect/websocket", |b| b.iter(|| Client::connect(address)));
}

fn polling(c: &mut Criterion) {
    let address = support::serve(support::io(), 1);
    c.bench_function("connect/polling", |b| {
        b.iter(|| {
            let mut http = Http::connect(address);
            let open = http.request("GET", "", "");
            let sid = format!("&sid={}", &open[9..29]);
            assert_eq!(http.request("POST", &sid, "40"), "ok");
            assert!(http.request("GET", &sid, "").starts_with("40{"));
            assert_eq!(http.request("POST", &sid, "1"), "ok");
        });
    });
}

/// Measures how long a full server takes to refuse a connection with 503.
fn refused(c: &mut Criterion) {
    let address = support::serve(support::io_for(1), 1);
    let _held = Client::connect(address);
    c.bench_function("connect/refused", |b| {
        b.iter(|| {
            let mut stream = TcpStream::connect(address).expect("the server listens");
            stream
                .write_all(support::UPGRADE.as_bytes())
                .expect("the server reads");
            let mut status = [0; 12];
            stream.read_exact(&mut status).expect("the server answers");
            assert_eq!(&status, b"HTTP/1.1 503");
        });
    });
}

struct Http(TcpStream);

impl Http {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP option");
        Self(stream)
    }

    /// Sends a request on the kept-alive connection. Returns the body of the response.
    fn request(&mut self, method: &str, sid: &str, body: &str) -> String {
        let request = format!(
            "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0
            .write_all(request.as_bytes())
            .expect("the server reads");
        let mut answer = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let n = self.0.read(&mut chunk).expect("the server answers");
            answer.extend_from_slice(&chunk[..n]);
            let text = std::str::from_utf8(&answer).expect("text");
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .split("content-length: ")
                    .nth(1)
                    .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok())
                    .expect("a length");
                if body.len() == length {
                    return body.to_owned();
                }
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = websocket, polling, refused
}
criterion_main!(benches);
