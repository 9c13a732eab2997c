//! Plain requests handled without hyper receive byte for byte the responses of hyper.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
};

use super::{scripts::*, *};
use crate::{config::Cors, engine::http::Accepted};

/// A connection from which at most this many bytes can be read in one call.
struct Pieces(TcpStream, usize);

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let most = self.1;
        let mut piece = buffer.take(most);
        let read = Pin::new(&mut self.0).poll_read(cx, &mut piece);
        let bytes = piece.filled().to_vec();
        // The bytes are already in the memory of `buffer`; this marks them as filled.
        buffer.put_slice(&bytes);
        read
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// All available bytes.
const WHOLE: usize = usize::MAX;

/// The parser of a server's requests.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reader {
    Own,
    Hyper,
}

/// Starts a server that reads at most `most` bytes in one call.
async fn serving(config: Config, reader: Reader, most: usize) -> Echo {
    let RawEngine(engine) = RawEngine::new(config, |session, message| {
        session.send(&message);
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let site = site(&engine);
    tokio::spawn(async move {
        while let Ok((mut stream, address)) = listener.accept().await {
            let site = Arc::clone(&site);
            tokio::spawn(async move {
                let mut front = bytes::BytesMut::new();
                if reader == Reader::Hyper {
                    let mut first = vec![0; most.min(100_000)];
                    let Ok(len @ 1..) = stream.read(&mut first).await else {
                        return;
                    };
                    front.extend_from_slice(&first[..len]);
                }
                let write_timeout = Duration::from_secs(10);
                let mut stream = if most == WHOLE {
                    Accepted::tcp(stream, write_timeout)
                } else {
                    Accepted::other(Box::new(Pieces(stream, most)), write_timeout)
                };
                // A connection with put-back bytes is left to hyper.
                stream.put_back(front);
                let peer = Peer {
                    address,
                    secure: false,
                };
                let pending = site.engine.connection_limiter.try_admit().unwrap();
                let connection = site.connection(stream, peer, pending);
                // hyper loses the response to a malformed request if its task yields there.
                tokio::task::unconstrained(connection).await;
            });
        }
    });
    Echo { address, engine }
}

impl Echo {
    /// Sends these bytes and returns everything that the server sends until it closes the
    /// connection, without dates and random ids.
    async fn send_script(&self, script: &str) -> String {
        let sid = if script.contains("{sid}") {
            self.open().await
        } else {
            String::new()
        };
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let script = script.replace("{sid}", &sid);
        // Every character is one byte. A refused client may be unable to send the rest.
        let bytes: Vec<u8> = script.chars().map(|byte| byte as u8).collect();
        let _ = stream.write_all(&bytes).await;
        let mut received = Vec::new();
        let reading = timeout(DEADLINE, stream.read_to_end(&mut received));
        let _ = reading
            .await
            .unwrap_or_else(|_| panic!("{script:?} is not over"));
        let received = String::from_utf8_lossy(&received);
        let mut stable = String::new();
        for line in received.split_inclusive("\r\n") {
            if line.starts_with("date: ") {
                continue;
            }
            let (before, after) = line.split_once("\"sid\":\"").unwrap_or((line, ""));
            stable.push_str(before);
            stable.push_str(after.get(20..).unwrap_or_default());
        }
        stable
    }
}

async fn compare(config: &Config, scripts: &[String], most: usize) {
    let own = serving(config.clone(), Reader::Own, most).await;
    let hyper = serving(config.clone(), Reader::Hyper, most).await;
    for script in scripts {
        let (received, expected) = tokio::join!(own.send_script(script), hyper.send_script(script));
        let shown: String = script.chars().take(300).collect();
        assert_eq!(received, expected, "{most} bytes at once: {shown:?}");
        assert!(
            !received.is_empty() || shown.starts_with("PRI"),
            "no answer to {shown:?}"
        );
    }
    assert_eq!(own.engine.session_count(), hyper.engine.session_count());
}

#[tokio::test]
async fn good_requests_are_answered_as_by_hyper() {
    for most in [WHOLE, 1, 50] {
        compare(&Config::default(), &good(), most).await;
    }
}

#[tokio::test]
async fn requests_of_other_sites_are_answered_as_by_hyper() {
    let cors = Cors::default()
        .origins(["http://a.example"])
        .allow_credentials();
    for cors in [cors.clone(), cors.enforce()] {
        let config = Config::default().cors(cors).max_payload(5);
        compare(&config, &good(), WHOLE).await;
        let config = config.max_payload(Config::default().session.max_payload);
        compare(&config, &sequences(), WHOLE).await;
    }
}

#[tokio::test]
async fn unusual_requests_are_passed_to_hyper() {
    let all = odd();
    compare(&Config::default(), &all, WHOLE).await;
    compare(&Config::default(), &all, 1000).await;
    // Neither parser checks an incomplete head again.
    let has_end = |script: &String| script.contains("\n\r\n") || script.contains("\n\n");
    let short: Vec<_> = all
        .into_iter()
        .filter(|script| script.len() < 1000 && has_end(script))
        .collect();
    compare(&Config::default(), &short, 1).await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let padding = "x".repeat(40_000);
    let header = format!("X: {padding}\r\n");
    for most in [WHOLE, 1000] {
        let server = serving(Config::default(), Reader::Own, most).await;
        for script in [
            get(&format!("{OPEN}&x={padding}")),
            request("GET", OPEN, &header, ""),
            request("GET", OPEN, &"X-Y: z\r\n".repeat(10_000), ""),
        ] {
            let received = server.send_script(&script).await;
            assert!(
                received.contains("HTTP/1.1 431 Request Header"),
                "{received}"
            );
        }
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    for most in [WHOLE, 1, 77] {
        compare(&Config::default(), &sequences(), most).await;
    }
}

#[tokio::test]
async fn upgrades_are_answered_as_by_hyper() {
    for most in [WHOLE, 1, 30] {
        compare(&Config::default(), &upgrades(), most).await;
    }
}

#[tokio::test]
async fn no_bytes_precede_the_first_packet_after_an_upgrade() {
    for most in [WHOLE, 1] {
        let server = serving(Config::default(), Reader::Own, most).await;
        let script = request("GET", SOCKET, UPGRADE, &format!("{PING}{CLOSE_FRAME}"));
        let received = server.send_script(&script).await;
        let (answer, frames) = received.split_once("\r\n\r\n").unwrap();
        assert!(answer.starts_with("HTTP/1.1 101 "), "{received}");
        let (open, pong) = (frames.find("0{").unwrap(), frames.find("\u{1}x").unwrap());
        assert!(open < pong, "{received}");
        server.all_closed().await;
    }
}

/// Sends a request without waiting for the response.
async fn send(echo: &Echo, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(echo.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = String::new();
    let reading = timeout(DEADLINE, stream.read_to_string(&mut rest));
    reading.await.unwrap().unwrap();
    rest
}

/// Reads until the input ends with `end`.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = timeout(DEADLINE, stream.read_u8()).await.unwrap();
        read.push(byte.unwrap_or_else(|_| panic!("{:?}", String::from_utf8_lossy(&read))));
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_while_its_poll_waits_is_noticed() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let poll = request("GET", &SESSION.replace("{sid}", &sid), "", "");
    drop(send(&echo, &poll).await);
    echo.all_closed().await;
}

#[tokio::test]
async fn disconnect_is_noticed_despite_input_after_the_poll() {
    let waits = |outbox: &Outbox| outbox.lock().has_poll();
    let another = request("GET", "/elsewhere", "", "");
    for reader in [Reader::Own, Reader::Hyper] {
        for following in [
            "G",
            "\r\n",
            &another,
            &another.repeat(50),
            &"x".repeat(10_000),
        ] {
            for is_at_once in [true, false] {
                let echo = serving(Config::default(), reader, WHOLE).await;
                let sid = echo.open().await;
                let poll = request("GET", &SESSION.replace("{sid}", &sid), "", "");
                let now = if is_at_once { following } else { "" };
                let mut stream = send(&echo, &format!("{poll}{now}")).await;
                while !echo.engine.sessions.all().iter().any(waits) {
                    tokio::task::yield_now().await;
                }
                if !is_at_once {
                    stream.write_all(following.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(stream);
                echo.all_closed().await;
            }
        }
    }
}

#[tokio::test]
async fn request_after_a_waiting_poll_is_answered_after_it() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let poll = request("GET", &SESSION.replace("{sid}", &sid), "", "");
    let mut stream = send(&echo, &poll).await;
    for piece in [
        "GET /socket.io/?EIO=4 HTTP/1.1\r\nHost: x\r\n",
        CLOSE,
        "\r\n",
    ] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(echo.post(&sid, "4hello").await.0, 200);
    let answers = rest(&mut stream).await;
    let (first, second) = answers.split_once("4hello").unwrap();
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(
        second.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answers}"
    );
    assert!(second.contains("Transport unknown"), "{answers}");
}

/// A polling session with its two connections must cost at most 16 KiB resident. This limits a
/// connection's share for its task and its requests; the rest is the session, sockets and
/// allocators.
#[tokio::test]
async fn a_connection_that_polls_is_small() {
    let echo = echo(Config::default());
    let site = site(&echo.engine);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let accepted = async || {
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        Accepted::tcp(stream, Duration::from_secs(10))
    };
    let peer = Peer {
        address: listener.local_addr().unwrap(),
        secure: false,
    };
    let pending = || site.engine.connection_limiter.try_admit().unwrap();
    let requests = size_of_val(&site.requests(accepted().await, peer, pending()));
    let connection = Arc::clone(&site).connection(accepted().await, peer, pending());
    let connection = size_of_val(&connection);
    assert!(
        requests <= 2048 && connection <= 1536,
        "{requests} and {connection} bytes"
    );
}

#[tokio::test]
async fn heads_that_take_too_long_end_the_connection() {
    let config = Config::default().header_timeout(Duration::from_millis(250));
    let echo = echo(config);
    let timeouts = || echo.engine.metrics.counter(Counter::RejectedTimeout);
    assert_eq!(rest(&mut send(&echo, "").await).await, "");
    assert_eq!(rest(&mut send(&echo, "GET /socket.io/").await).await, "");
    assert_eq!(timeouts(), 2);
    assert_eq!(echo.engine.metrics.counter(Counter::RejectedMalformed), 0);
    drop(echo);
    // The timeout restarts with each request.
    let echo = super::echo(Config::default().header_timeout(Duration::from_secs(5)));
    let timeouts = || echo.engine.metrics.counter(Counter::RejectedTimeout);
    let mut stream = send(&echo, "").await;
    let unknown = request("GET", "/socket.io/?EIO=4", "", "");
    for _ in 0..3 {
        stream.write_all(unknown.as_bytes()).await.unwrap();
        until(&mut stream, "}").await;
    }
    assert_eq!(rest(&mut stream).await, "");
    assert_eq!(timeouts(), 1);
    assert_eq!(echo.engine.metrics.counter(Counter::RejectedMalformed), 0);
}

#[tokio::test]
async fn a_body_that_takes_too_long_ends_its_session() {
    let config = Config::default().body_timeout(Duration::from_millis(100));
    let echo = echo(config);
    let sid = echo.open().await;
    let target = SESSION.replace("{sid}", &sid);
    let half = request("POST", &target, "Content-Length: 10\r\n", "4hell");
    let answer = rest(&mut send(&echo, &half).await).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    echo.all_closed().await;
}

#[tokio::test]
async fn stopping_server_answers_polls_and_closes_idle_connections() {
    let echo = echo(Config::default());
    let sid = echo.open().await;
    let mut fresh = send(&echo, "").await;
    let mut used = send(&echo, &request("GET", "/socket.io/?EIO=4", "", "")).await;
    until(&mut used, "}").await;
    let poll = request("GET", &SESSION.replace("{sid}", &sid), "", "");
    let mut waiting = send(&echo, &poll).await;
    // This is answered after the poll has been read.
    assert_eq!(echo.post(&sid, "3").await.0, 200);
    let (_, fresh, used, waiting) = tokio::join!(
        echo.engine.shutdown(DEADLINE),
        rest(&mut fresh),
        rest(&mut used),
        rest(&mut waiting),
    );
    assert_eq!((fresh.as_str(), used.as_str()), ("", ""));
    assert!(waiting.starts_with("HTTP/1.1 200 OK\r\n"), "{waiting}");
    assert!(waiting.contains("connection: close\r\n"), "{waiting}");
}
