//! Sends the session ticket of TLS 1.3 together with the first response.
//!
//! `rustls` has the ticket ready when the handshake ends, and would send it alone. A client uses it
//! only for its next connection, so it can wait, and a connection needs one system call and one
//! segment less.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream below TLS.
pub(super) struct DeferredTicket<S> {
    stream: S,
    state: State,
}

enum State {
    /// A ticket may be written.
    Handshake,
    /// The ticket waits for the next write.
    Deferred(Vec<u8>),
    /// Everything passes.
    Open,
}

/// The type of an encrypted record (RFC 8446, 5.2). Until the handshake ends, only a ticket or an
/// alert begins with it: the server's other messages begin with a record of another type.
const ENCRYPTED: u8 = 23;
/// The bytes of an encrypted alert, which is never deferred: header, content, type and tag.
const ALERT: usize = 5 + 2 + 1 + 16;
/// Longer tickets are sent at once.
const MAX_DEFERRED: usize = 2048;

impl<S> DeferredTicket<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self {
            stream,
            state: State::Handshake,
        }
    }

    /// Records that the handshake has ended. What is written from now on is not deferred.
    pub(super) fn end_handshake(&mut self) {
        if matches!(self.state, State::Handshake) {
            self.state = State::Open;
        }
    }
}

fn joined(slices: &[IoSlice<'_>]) -> Vec<u8> {
    slices
        .iter()
        .flat_map(|slice| slice.iter().copied())
        .collect()
}

fn is_ticket(slices: &[IoSlice<'_>], len: usize) -> bool {
    let first = slices.iter().find_map(|slice| slice.first());
    first == Some(&ENCRYPTED) && len > ALERT && len <= MAX_DEFERRED
}

impl<S: AsyncWrite + Unpin> DeferredTicket<S> {
    fn write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        match &mut self.state {
            State::Open => match slices {
                // A plain write costs the kernel less, and most writes are a single record.
                [slice] => stream.poll_write(cx, slice),
                _ => stream.poll_write_vectored(cx, slices),
            },
            State::Handshake => {
                let len = slices.iter().map(|slice| slice.len()).sum();
                if is_ticket(slices, len) {
                    self.state = State::Deferred(joined(slices));
                    return Poll::Ready(Ok(len));
                }
                let written = ready!(stream.poll_write_vectored(cx, slices))?;
                if written < len {
                    // The rest of these messages may begin with any record.
                    self.state = State::Open;
                }
                Poll::Ready(Ok(written))
            }
            State::Deferred(ticket) => {
                let mut all = Vec::with_capacity(slices.len() + 1);
                all.push(IoSlice::new(ticket));
                all.extend(slices.iter().map(|slice| IoSlice::new(slice)));
                let written = ready!(stream.poll_write_vectored(cx, &all))?;
                if written == 0 {
                    return Poll::Ready(Ok(0));
                }
                let Some(accepted) = written.checked_sub(ticket.len()) else {
                    drop(all);
                    ticket.drain(..written);
                    return self.write(cx, slices);
                };
                self.state = State::Open;
                match accepted {
                    0 => self.write(cx, slices),
                    _ => Poll::Ready(Ok(accepted)),
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for DeferredTicket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for DeferredTicket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Flushes what was written. A deferred ticket waits for the next write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker_ref;

    use super::*;

    /// The server's first messages of a handshake, which begin with a plain record.
    const FLIGHT: &[u8] = &[22; 700];
    const RESPONSE: &[u8] = &[ENCRYPTED; 300];

    /// Accepts as many bytes of each write as this list says, and then everything.
    #[derive(Default)]
    struct Peer {
        accepts: Vec<usize>,
        writes: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Peer {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut bytes = joined(slices);
            match self.accepts.pop() {
                Some(0) => return Poll::Pending,
                Some(limit) => bytes.truncate(limit),
                None => {}
            }
            let len = bytes.len();
            self.writes.push(bytes);
            Poll::Ready(Ok(len))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn ticket() -> Vec<u8> {
        let mut ticket = vec![7; 250];
        ticket[0] = ENCRYPTED;
        ticket
    }

    fn write(stream: &mut DeferredTicket<Peer>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(noop_waker_ref());
        Pin::new(stream).poll_write(&mut cx, bytes)
    }

    /// Writes everything, as TLS does, and returns the number of attempts that were not accepted.
    fn write_all(stream: &mut DeferredTicket<Peer>, mut bytes: &[u8]) -> usize {
        let mut refused = 0;
        while !bytes.is_empty() {
            match write(stream, bytes) {
                Poll::Ready(written) => bytes = &bytes[written.unwrap()..],
                Poll::Pending => refused += 1,
            }
        }
        refused
    }

    #[test]
    fn ticket_is_sent_with_the_first_response() {
        let mut stream = DeferredTicket::new(Peer::default());
        write_all(&mut stream, FLIGHT);
        write_all(&mut stream, &ticket());
        assert_eq!(stream.stream.writes, [FLIGHT]);
        stream.end_handshake();
        write_all(&mut stream, RESPONSE);
        write_all(&mut stream, RESPONSE);
        let both = [&ticket()[..], RESPONSE].concat();
        assert_eq!(stream.stream.writes, [FLIGHT, &both, RESPONSE]);
    }

    #[test]
    fn response_without_a_ticket_before_it_is_sent_at_once() {
        let mut stream = DeferredTicket::new(Peer::default());
        write_all(&mut stream, FLIGHT);
        stream.end_handshake();
        write_all(&mut stream, RESPONSE);
        assert_eq!(stream.stream.writes, [FLIGHT, RESPONSE]);
    }

    #[test]
    fn alert_during_the_handshake_is_sent_at_once() {
        let alert = [ENCRYPTED; ALERT];
        let mut stream = DeferredTicket::new(Peer::default());
        write_all(&mut stream, &alert);
        assert_eq!(stream.stream.writes, [alert]);
    }

    #[test]
    fn messages_that_are_accepted_in_parts_are_not_deferred() {
        let mut stream = DeferredTicket::new(Peer::default());
        stream.stream.accepts = vec![100];
        let flight = [FLIGHT, RESPONSE].concat();
        assert!(matches!(write(&mut stream, &flight), Poll::Ready(Ok(100))));
        write_all(&mut stream, RESPONSE);
        assert_eq!(stream.stream.writes, [&flight[..100], RESPONSE]);
    }

    #[test]
    fn every_division_of_ticket_and_response_arrives_in_order() {
        let both = [&ticket()[..], RESPONSE].concat();
        for first in 1..both.len() {
            let mut stream = DeferredTicket::new(Peer::default());
            write_all(&mut stream, &ticket());
            stream.end_handshake();
            stream.stream.accepts = vec![0, first, 0];
            assert_eq!(write_all(&mut stream, RESPONSE), 2, "{first} bytes");
            assert_eq!(stream.stream.writes.concat(), both, "{first} bytes");
        }
    }
}
