//! Tests sessions over streams that are not plain TCP, such as TLS: they buffer, and their
//! readiness is only known by trying.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, BufStream, ReadBuf},
    net::TcpListener,
};

use super::*;
use crate::engine::{http::Accepted, transport::Duplex};

/// Starts a server whose connections are wrapped by `wrap`.
async fn over<S: Duplex + 'static>(
    config: Config,
    wrap: impl Fn(TcpStream) -> S + Send + 'static,
    on_message: impl Fn(&RawSession, Message) + Send + Sync + 'static,
) -> Echo {
    let RawEngine(engine) = RawEngine::new(config, on_message);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = site(&engine);
    tokio::spawn(async move {
        while let Ok((stream, address)) = listener.accept().await {
            let stream = Accepted::other(Box::new(wrap(stream)), Duration::from_secs(10));
            let peer = Peer {
                address,
                secure: true,
            };
            let pending = site.engine.connection_limiter.try_admit().unwrap();
            tokio::spawn(Arc::clone(&site).connection(stream, peer, pending));
        }
    });
    Echo { address, engine }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the endpoint requires"
)]
fn send_back(session: &RawSession, message: Message) {
    session.send(&message);
}

#[tokio::test]
async fn messages_return_whole_and_in_order() {
    let echo = over(Config::default(), BufStream::new, send_back).await;
    let mut client = echo.websocket(None).await;
    assert!(client.text().await.starts_with("0{\"sid\":\""));
    let large = format!("4{}", "x".repeat(900_000));
    for message in ["4first", &large, "4last"] {
        client.send(message).await;
    }
    for message in ["4first", &large, "4last"] {
        assert_eq!(client.text().await, message);
    }
    drop(client);
    echo.all_closed().await;
}

#[tokio::test]
async fn polling_session_upgrades_over_buffered_stream() {
    let echo = over(Config::default(), BufStream::new, send_back).await;
    let sid = echo.open().await;
    assert_eq!(echo.post(&sid, "4hello").await, (200, "ok".into()));
    assert_eq!(echo.poll(&sid).await, (200, "4hello".into()));
    let mut client = echo.websocket(Some(&sid)).await;
    client.send("2probe").await;
    assert_eq!(client.text().await, "3probe");
    assert_eq!(echo.post(&sid, "4before").await.0, 200);
    client.send("5").await;
    assert_eq!(client.text().await, "4before");
    drop(client);
    echo.all_closed().await;
}

#[tokio::test]
async fn queued_frames_are_sent_before_the_close_frame() {
    let config = Config::default().outbox_bytes(64 << 20);
    let echo = over(config, BufStream::new, |session, _| {
        let text = Message::Text(Bytes::from(vec![b'x'; 1 << 20]));
        for _ in 0..16 {
            session.send(&text);
        }
        session.close();
    })
    .await;
    let mut client = echo.websocket(None).await;
    client.text().await;
    client.send("4all of it").await;
    for _ in 0..16 {
        assert_eq!(client.text().await.len(), 1 + (1 << 20));
    }
    assert_eq!(client.close_code().await, 1000);
    drop(client);
    echo.all_closed().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_at_its_budget() {
    let echo = over(Config::default(), BufStream::new, |session, _| {
        let text = Message::Text(Bytes::from(vec![b'x'; 100_000]));
        while session.send(&text) {}
    })
    .await;
    let mut client = echo.websocket(None).await;
    client.text().await;
    client.send("4more than you can take").await;
    let closed = async {
        while echo.engine.metrics.counter(Counter::ClosedOverflow) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, closed).await.unwrap();
    while client.next().await.is_some() {}
    echo.all_closed().await;
}

#[tokio::test]
async fn client_without_pongs_times_out_while_its_stream_is_blocked() {
    let config = Config::default()
        .ping_interval(Duration::from_millis(50))
        .ping_timeout(Duration::from_millis(50))
        .close_timeout(Duration::from_millis(50))
        .outbox_bytes(64 << 20);
    let echo = over(config, BufStream::new, |session, _| {
        session.send(&Message::Text(Bytes::from(vec![b'x'; 32 << 20])));
    })
    .await;
    let mut client = echo.websocket(None).await;
    client.text().await;
    client.send("4a lot").await;
    echo.all_closed().await;
    assert_eq!(echo.engine.metrics.counter(Counter::ClosedPingTimeout), 1);
}

/// Counts the bytes that are read from it.
struct Counted {
    stream: TcpStream,
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.read
            .fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn closing_connection_reads_only_a_bounded_rest() {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let wrap = move |stream| Counted {
        stream,
        read: Arc::clone(&counted),
    };
    let echo = over(Config::default(), wrap, send_back).await;
    let refused = async || {
        let mut stream = TcpStream::connect(echo.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        stream
    };
    let closed = async || {
        let mut client = echo.websocket(None).await;
        client.send_frame(websocket::Opcode::Close, &[]).await;
        client.stream
    };
    for is_websocket in [false, true] {
        let mut stream = if is_websocket {
            closed().await
        } else {
            refused().await
        };
        let before = read.load(Ordering::Relaxed);
        let flood = async { while stream.write_all(&[b'a'; 65_536]).await.is_ok() {} };
        timeout(DEADLINE, flood).await.unwrap();
        // Input that arrived before the last bytes were sent is read in one piece.
        let backlog = read.load(Ordering::Relaxed) - before;
        assert!(backlog <= 2 * 65_536 + 4096, "{backlog}");
    }
}

/// Works until the WebSocket is established, then panics on write.
struct Faulty {
    stream: TcpStream,
    writes: usize,
}

impl AsyncRead for Faulty {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.writes += 1;
        assert!(this.writes <= 1, "the second write");
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_stream_that_panics_ends_its_own_session_only() {
    let wrap = |stream| Faulty { stream, writes: 0 };
    let echo = over(Config::default(), wrap, send_back).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        // The response to the handshake is sent with the open packet, in the first write.
        let mut client = echo.websocket(None).await;
        client.text().await;
        clients.push(client);
    }
    // All sessions may share one flusher.
    for outbox in echo.engine.sessions.all() {
        let _ = outbox.push(&Frame::text(b"hello"), Mode::Reliable);
    }
    for mut client in clients {
        assert!(client.next().await.is_none());
    }
    echo.all_closed().await;
    let mut client = echo.websocket(None).await;
    assert!(client.text().await.starts_with("0{"));
}
