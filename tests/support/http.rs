//! Literal HTTP/1.1 requests and responses.

use std::net::SocketAddr;

use super::RawClient;

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body with the transfer coding decoded.
    pub body: String,
}

impl Response {
    /// Returns the value of a header, named in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns status and body, for comparison with literals.
    pub fn parts(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}

/// Returns the value of a row of the metrics as text. The row is named with its labels and must
/// exist.
pub fn metric_text<'a>(metrics: &'a str, row: &str) -> &'a str {
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {row} in {metrics}"))
}

/// Returns the value of a row of the metrics that is a whole number.
pub fn metric(metrics: &str, row: &str) -> i64 {
    metric_text(metrics, row).parse().unwrap()
}

impl RawClient {
    /// Sends a GET and reads its response.
    pub fn get(&mut self, target: &str) -> Response {
        self.send_get(target);
        self.response()
    }

    /// Sends a GET without reading the response.
    pub fn send_get(&mut self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    }

    /// Sends a request with a method and a body, and reads its response.
    pub fn request(&mut self, method: &str, target: &str, body: impl AsRef<[u8]>) -> Response {
        self.send_request(method, target, body);
        self.response()
    }

    /// Sends a request with a method and a body, without reading the response.
    pub fn send_request(&mut self, method: &str, target: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.send(request);
    }

    /// Reads one response.
    pub fn response(&mut self) -> Response {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n")).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap();
        let status = status
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| status.strip_prefix("HTTP/1.0 "));
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let status = status.unwrap()[..3].parse().unwrap();
        let mut response = Response {
            status,
            headers,
            body: String::new(),
        };
        let body = if let Some(length) = response.header("content-length") {
            let length = length.parse().unwrap();
            self.take(length)
        } else if response.header("transfer-encoding") == Some("chunked") {
            self.chunks()
        } else if matches!(status, 100..=199 | 204 | 304) {
            Vec::new()
        } else {
            self.take_all()
        };
        response.body = String::from_utf8(body).unwrap();
        response
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = String::from_utf8(self.take_until(b"\r\n")).unwrap();
            let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
            body.extend(self.take(size));
            assert_eq!(self.take(2), b"\r\n");
            if size == 0 {
                return body;
            }
        }
    }
}

/// A long-polling session. Each request uses its own connection.
pub struct Polling {
    address: SocketAddr,
    /// The session id.
    pub sid: String,
    /// Target of its polling requests.
    pub target: String,
    /// Target of its upgrade.
    pub upgrade: String,
}

impl Polling {
    /// Opens a session below `path`, which is `/engine.io/` or `/socket.io/`.
    pub fn open(address: SocketAddr, path: &str) -> Self {
        let target = format!("{path}?EIO=4&transport=polling");
        let response = RawClient::connect(address).get(&target);
        assert_eq!(response.status, 200, "{response:?}");
        let sid = sid_of(&response.body).to_owned();
        Self {
            address,
            target: format!("{target}&sid={sid}"),
            upgrade: format!("{path}?EIO=4&transport=websocket&sid={sid}"),
            sid,
        }
    }

    /// Polls and waits for the answer.
    pub fn poll(&self) -> Response {
        self.start_poll().response()
    }

    /// Polls without reading the answer.
    pub fn start_poll(&self) -> RawClient {
        let mut client = RawClient::connect(self.address);
        client.send_get(&self.target);
        client
    }

    /// Sends a POST and returns its answer.
    pub fn post(&self, body: impl AsRef<[u8]>) -> Response {
        RawClient::connect(self.address).request("POST", &self.target, body)
    }

    /// Sends a close packet.
    pub fn leave(self) {
        assert_eq!(self.post("1").parts(), (200, "ok"));
    }

    /// Opens a WebSocket for this session and completes the handshake.
    pub fn attach(&self) -> RawClient {
        let mut client = RawClient::connect(self.address);
        assert_eq!(client.upgrade(&self.upgrade).status, 101);
        client
    }

    /// Upgrades to WebSocket.
    pub fn upgraded(&self) -> RawClient {
        let mut client = self.attach();
        client.send_text("2probe");
        client.expect_text("3probe");
        client.send_text("5");
        client
    }
}

/// Returns the session id of an open packet.
pub fn sid_of(open: &str) -> &str {
    let rest = open
        .strip_prefix("0{\"sid\":\"")
        .unwrap_or_else(|| panic!("not an open packet: {open}"));
    rest.split_once('"').unwrap().0
}
