//! A service that executes trades behind a webhook, and may misbehave.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Instant,
};

/// What a webhook does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Reply {
    /// Answers with this status and body.
    Answer(u16, &'static str),
    /// Answers with these bytes.
    Bytes(&'static str),
    /// Keeps the connection open and sends nothing.
    Hang,
    Close,
}

/// A service that executes trades.
pub(crate) struct Hook {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    /// The time at which each request had arrived, before its answer.
    times: Arc<Mutex<Vec<Instant>>>,
    /// What it does with each request; the last entry applies to all further requests.
    plan: Arc<Mutex<Vec<Reply>>>,
    /// The connections without an answer.
    hanging: Arc<Mutex<Vec<TcpStream>>>,
}

impl Hook {
    pub(crate) fn start(plan: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hook = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            times: Arc::default(),
            plan: Arc::new(Mutex::new(plan.to_vec())),
            hanging: Arc::default(),
        };
        let (requests, plan) = (Arc::clone(&hook.requests), Arc::clone(&hook.plan));
        let (hanging, times) = (Arc::clone(&hook.hanging), Arc::clone(&hook.times));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&mut stream) else {
                    continue;
                };
                times.lock().unwrap().push(Instant::now());
                let reply = {
                    let mut plan = plan.lock().unwrap();
                    if plan.len() > 1 {
                        plan.remove(0)
                    } else {
                        plan[0]
                    }
                };
                let bytes = match reply {
                    Reply::Answer(status, body) => answer(status, body),
                    Reply::Bytes(bytes) => bytes.to_owned(),
                    Reply::Hang => {
                        hanging.lock().unwrap().push(stream);
                        requests.lock().unwrap().push(request);
                        continue;
                    }
                    Reply::Close => String::new(),
                };
                requests.lock().unwrap().push(request);
                let _ = stream.write_all(bytes.as_bytes());
            }
        });
        hook
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/trades?x=1", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn times(&self) -> Vec<Instant> {
        self.times.lock().unwrap().clone()
    }

    pub(crate) fn plan(&self, reply: Reply) {
        *self.plan.lock().unwrap() = vec![reply];
    }

    /// Closes the connections without an answer.
    pub(crate) fn let_go(&self) {
        self.hanging.lock().unwrap().clear();
    }

    /// Answers all requests without an answer.
    pub(crate) fn answer_hanging(&self, status: u16, body: &str) {
        for mut stream in self.hanging.lock().unwrap().drain(..) {
            let _ = stream.write_all(answer(status, body).as_bytes());
        }
    }
}

fn answer(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nLocation: http://127.0.0.1:1/\r\n\r\n{body}",
        body.len()
    )
}

/// Reads a request with its body, or returns `None` if the connection ends before.
fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(text);
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

pub(crate) fn header(request: &str, name: &str) -> Option<String> {
    let head = request.split("\r\n\r\n").next().unwrap();
    let found = head.lines().find_map(|line| line.strip_prefix(name));
    found.map(|value| value.trim_start_matches(": ").to_owned())
}
