//! Connections forwarded by a load balancer, which start with a PROXY protocol header.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::limit::proxy_protocol::{Header, Malformed, NextRead, Origin};

/// Reads the header without consuming any byte after it. Returns the client's address; for a health
/// check, the address of the load balancer.
///
/// # Errors
///
/// If the header is invalid or does not arrive in time.
pub(super) async fn client(
    stream: &mut TcpStream,
    balancer: SocketAddr,
    header_timeout: Duration,
) -> io::Result<SocketAddr> {
    let header = tokio::time::timeout(header_timeout, read(stream)).await;
    match header.map_err(|_| io::ErrorKind::TimedOut)?? {
        Origin::Client(address) => Ok(address),
        Origin::Peer => Ok(balancer),
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Origin> {
    let mut header = Header::default();
    let mut buffer = [0; 512];
    loop {
        let count = match header.next_read().map_err(malformed)? {
            NextRead::Nothing => return header.origin().map_err(malformed),
            NextRead::Exactly(count) => count.min(buffer.len()),
            // The length of a line is unknown, and the bytes after it belong to TLS or HTTP. So the
            // bytes are peeked first, and only those up to the end of the line are read.
            NextRead::Line(most) => {
                let most = most.min(buffer.len());
                let seen = stream
                    .peek(buffer.get_mut(..most).unwrap_or_default())
                    .await?;
                if seen == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let seen = buffer.get(..seen).unwrap_or_default();
                let end = seen.iter().position(|byte| *byte == b'\n');
                end.map_or(seen.len(), |end| end + 1)
            }
        };
        let bytes = buffer.get_mut(..count).unwrap_or_default();
        stream.read_exact(bytes).await?;
        header.push(bytes);
    }
}

fn malformed(Malformed: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY protocol header")
}
