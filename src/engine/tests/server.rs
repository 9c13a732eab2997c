//! A server that echoes every message, and a client for it.

use super::*;

pub(super) struct Echo {
    pub(super) address: SocketAddr,
    pub(super) engine: Arc<Engine>,
}

pub(super) fn echo(config: Config) -> Echo {
    echo_with(config, |session, message| {
        session.send(&message);
    })
}

pub(super) fn echo_with(
    config: Config,
    on_message: impl Fn(&RawSession, Message) + Send + Sync + 'static,
) -> Echo {
    let RawEngine(engine) = RawEngine::new(config, on_message);
    let listener = bind(([127, 0, 0, 1], 0).into(), &Config::default()).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(site(&engine), None, Arc::new(listener)));
    Echo { address, engine }
}

/// Returns a site that serves only this engine.
pub(super) fn site(engine: &Arc<Engine>) -> Arc<Site> {
    Arc::new(Site {
        engine: Arc::clone(engine),
        raw: None,
        fallback: Fallback::default(),
    })
}

impl Echo {
    /// Returns the complete response to a request on its own connection.
    pub(super) async fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(DEADLINE, stream.read_to_end(&mut answer))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Sends one request; returns status and body.
    pub(super) async fn request(&self, method: &str, query: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} /socket.io/?{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = self.exchange(&request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    pub(super) async fn open(&self) -> String {
        let (status, body) = self.request("GET", "EIO=4&transport=polling", "").await;
        assert_eq!(status, 200);
        let (sid, _) = body[9..].split_once('"').unwrap();
        sid.to_owned()
    }

    pub(super) async fn poll(&self, sid: &str) -> (u16, String) {
        self.request("GET", &format!("EIO=4&transport=polling&sid={sid}"), "")
            .await
    }

    pub(super) async fn post(&self, sid: &str, body: &str) -> (u16, String) {
        self.request("POST", &format!("EIO=4&transport=polling&sid={sid}"), body)
            .await
    }

    pub(super) async fn websocket(&self, sid: Option<&str>) -> Client {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let sid = sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
        let head = format!(
            "GET /socket.io/?EIO=4&transport=websocket{sid} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "));
        let limits = websocket::Limits {
            max_message: 10_000_000,
            max_fragments: 100,
        };
        Client {
            stream,
            decoder: websocket::Decoder::new(websocket::Role::Client, limits),
            input: Vec::new(),
        }
    }

    pub(super) async fn all_closed(&self) {
        let closed = async {
            while self.engine.session_count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, closed).await.unwrap();
        assert_eq!(self.engine.metrics.gauge(Gauge::SessionsPolling), 0);
        assert_eq!(self.engine.metrics.gauge(Gauge::SessionsWebSocket), 0);
    }
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) decoder: websocket::Decoder,
    pub(super) input: Vec<u8>,
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.send_frame(websocket::Opcode::Text, text.as_bytes())
            .await;
    }

    pub(super) async fn send_frame(&mut self, opcode: websocket::Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        websocket::encode_frame(
            &mut frame,
            websocket::Fragment::Final,
            opcode,
            payload,
            Some([1, 2, 3, 4]),
        );
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Returns the next event, or `None` if the server closed the connection.
    pub(super) async fn next(&mut self) -> Option<websocket::Event> {
        loop {
            let mut input = &self.input[..];
            let event = self.decoder.decode(&mut input).unwrap();
            let left = input.len();
            self.input.drain(..self.input.len() - left);
            if event.is_some() {
                return event;
            }
            let read = self.stream.read_buf(&mut self.input);
            if timeout(DEADLINE, read).await.unwrap().unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(super) async fn text(&mut self) -> String {
        match self.next().await {
            Some(websocket::Event::Text(text)) => String::from_utf8(text.to_vec()).unwrap(),
            other => panic!("{other:?} instead of text"),
        }
    }

    pub(super) async fn close_code(&mut self) -> u16 {
        match self.next().await {
            Some(websocket::Event::Close(Some(frame))) => frame.code.as_u16(),
            other => panic!("{other:?} instead of a close frame"),
        }
    }
}
