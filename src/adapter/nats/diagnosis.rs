//! Diagnoses whether a server that cannot be used is a NATS server at all.

use std::time::Duration;

use async_nats::ServerAddr;
use tokio::{io::AsyncReadExt as _, net::TcpStream, time::timeout};

/// Returns the fault of the first of these servers that is not a NATS server. A NATS server speaks
/// first, and begins with `INFO`, even if it continues with TLS.
pub(super) async fn find(servers: &[ServerAddr]) -> Option<String> {
    for server in servers {
        let (host, port) = (server.host(), server.port());
        let connecting = TcpStream::connect((host, port));
        let Ok(Ok(mut stream)) = timeout(DIAGNOSIS_TIMEOUT, connecting).await else {
            // The error of the client contains the reason.
            continue;
        };
        let mut greeting = [0; LONGEST];
        let read = timeout(DIAGNOSIS_TIMEOUT, stream.read(&mut greeting)).await;
        let fault = match read {
            Ok(Ok(0)) => "is not a NATS server: it closed the connection".to_owned(),
            Ok(Ok(read)) => {
                let greeting = greeting.get(..read).unwrap_or_default();
                if b"INFO ".starts_with(greeting) || greeting.starts_with(b"INFO ") {
                    continue;
                }
                let shown = greeting.escape_ascii();
                format!("is not a NATS server: it began with `{shown}` and not with `INFO`")
            }
            Ok(Err(_)) => continue,
            Err(_) => {
                let seconds = DIAGNOSIS_TIMEOUT.as_secs();
                format!("hangs or is not a NATS server: it sent nothing for {seconds} s")
            }
        };
        return Some(format!(
            "the server at {host}:{port} {fault}; check the address and the port"
        ));
    }
    None
}

/// The timeout for connecting, and for the greeting.
const DIAGNOSIS_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of bytes of the greeting that the error contains.
const LONGEST: usize = 40;

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    /// Returns the diagnosis of a server that sends this greeting, and then closes the connection
    /// if `closes`.
    async fn found(greeting: &'static [u8], closes: bool) -> Option<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(greeting).await.unwrap();
            if !closes {
                std::future::pending::<()>().await;
            }
        });
        let servers = [format!("nats://{address}").parse().unwrap()];
        let found = find(&servers).await;
        server.abort();
        found.map(|fault| fault.replace(&address.to_string(), "ADDRESS"))
    }

    #[tokio::test]
    async fn only_a_server_that_greets_with_info_counts_as_nats() {
        assert_eq!(found(b"INFO {}\r\n", false).await, None);
        for (greeting, closes, why) in [
            (
                &b"SSH-2.0-x\r\n"[..],
                false,
                "is not a NATS server: it began with `SSH-2.0-x\\r\\n` and not",
            ),
            (
                b"\x15\x03\x03",
                true,
                "is not a NATS server: it began with `\\x15\\x03\\x03` and not",
            ),
            (b"", true, "is not a NATS server: it closed the connection"),
            (
                b"",
                false,
                "hangs or is not a NATS server: it sent nothing for 2 s",
            ),
        ] {
            let fault = found(greeting, closes).await.unwrap();
            let expected = format!("the server at ADDRESS {why}");
            assert!(fault.starts_with(&expected), "{fault}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_not_judged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let servers = [format!("nats://{address}").parse().unwrap()];
        assert_eq!(find(&servers).await, None);
    }
}
