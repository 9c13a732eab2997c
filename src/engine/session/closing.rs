//! Closing a session: flushes the queue and closes the transport, within a deadline.
//!
//! After both close frames, a plain TCP connection without unread bytes is closed immediately. Each
//! client that leaves thereby saves a `shutdown`, a `recv`, and a timer with its wake-up. Other
//! connections are shut down and get one second: TLS, connections that the server closes first, and
//! connections with unread bytes.

use std::{
    task::{Context, Poll},
    time::Instant,
};

use roomcast_protocol::{Frame, engine::Packet, websocket::CloseCode};

use super::{
    driver::Driver,
    ending::{End, Ending},
};
use crate::engine::{
    outbox::Control,
    primitives::now,
    transport::{MAX_DISCARDED, Stream, Wire, close_unused, send_close_frame},
};

impl Ending {
    /// Continues closing; ready when the transport is closed.
    pub(super) fn poll(
        &mut self,
        driver: &mut Driver,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<()> {
        if self.deadline <= now {
            return Poll::Ready(());
        }
        if self.take_control(driver).is_ready() {
            return Poll::Ready(());
        }
        // Only a client that stopped polling for an upgrade still has a candidate.
        driver.read_candidate(cx, now);
        if let Some(stream) = driver.outbox.stream() {
            return self.poll_websocket(driver, &stream, cx, now);
        }
        if driver.engine.is_stopped() {
            // When the server stops, a polling client cannot reconnect except on a connection it
            // already has. The same applies to a client that was about to upgrade to WebSocket.
            self.hurry(now);
        }
        self.poll_polling(driver)
    }

    fn poll_websocket(
        &mut self,
        driver: &Driver,
        stream: &Stream,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Poll<()> {
        if self.lingering.is_none() {
            let is_between_frames = || driver.outbox.lock().is_between_frames();
            let code = match self.end {
                End::Disconnected => None,
                End::Flush(code) => {
                    if driver.outbox.lock().is_blocked()
                        && driver.wait_writable(stream, cx).is_pending()
                    {
                        return Poll::Pending;
                    }
                    driver.outbox.flush_to(stream);
                    if driver.outbox.lock().is_blocked() {
                        if driver.wait_writable(stream, cx).is_ready() {
                            cx.waker().wake_by_ref();
                        }
                        return Poll::Pending;
                    }
                    if !driver.outbox.lock().is_drained() {
                        // A flusher is writing the last batch, which takes microseconds, so this
                        // task polls again instead of registering a waker.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Some(code)
                }
                // A close frame in the middle of another frame would be parsed as part of that
                // frame.
                End::Answered => is_between_frames().then_some(CloseCode::NORMAL),
                End::Closed(code) => is_between_frames().then(|| code.unwrap_or(CloseCode::NORMAL)),
            };
            let Some(code) = code else {
                return Poll::Ready(());
            };
            let has_answered = send_close_frame(stream, code);
            let is_emptied = driver.wire.as_ref().is_some_and(Wire::is_emptied);
            let is_over = matches!(self.end, End::Closed(_)) && is_emptied;
            if has_answered && is_over && stream.is_plain() {
                // Both sides have sent a close frame, so the server closes the connection (RFC
                // 6455, 7.1.1). There is no unread data that would turn the close into a reset.
                return Poll::Ready(());
            }
            stream.shutdown();
            self.hurry(now);
        }
        let left = self.lingering.get_or_insert(MAX_DISCARDED);
        if stream.discard(cx, left) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Handles the messages to the session. Ready if the session must end immediately.
    fn take_control(&mut self, driver: &mut Driver) -> Poll<()> {
        let control = driver.outbox.lock().take_control();
        for control in control {
            match control {
                Control::Poll(pending) if self.is_orderly() => {
                    driver.outbox.lock().store_poll(pending);
                }
                // Dropping these requests responds that the session is unknown.
                Control::Poll(_) | Control::PollLost | Control::Post { .. } => {}
                Control::PollAborted { id } => {
                    driver.remove_poll(id);
                }
                Control::Attach { stream, .. } => close_unused(&stream, CloseCode::NORMAL),
                // The session is already ending. A stopping server is detected by `is_stopped`, and
                // does not wait for a client that may reconnect later.
                Control::Close(_) | Control::Leave(_) => {}
                Control::Abort(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    fn poll_polling(&mut self, driver: &mut Driver) -> Poll<()> {
        let mut pending = driver.outbox.lock().take_poll();
        if pending.is_none() && self.is_orderly() {
            pending = driver.polls.pop_front();
        }
        match (self.end, pending) {
            (End::Disconnected | End::Answered | End::Closed(_), None) => Poll::Ready(()),
            // It makes no difference whether the client reads this response.
            (End::Disconnected, Some(pending)) => {
                let _ = pending.answer(&[Frame::packet(&Packet::Close)]);
                Poll::Ready(())
            }
            (End::Answered | End::Closed(_), Some(pending)) => {
                let _ = pending.answer_noop();
                Poll::Ready(())
            }
            (End::Flush(_), Some(pending)) => {
                let mut frames = driver.outbox.take_for_poll(usize::MAX);
                // Stock clients process packets in order but deliver their events a moment later,
                // so events in the same response as a close packet are lost. A stopping server
                // accepts this, because it cannot send another response.
                let is_last = frames.is_empty() || driver.engine.is_stopped();
                if is_last {
                    frames.push(Frame::packet(&Packet::Close));
                }
                let is_disconnected = !pending.answer(&frames);
                if is_last || is_disconnected {
                    return Poll::Ready(());
                }
                self.hurry(now());
                Poll::Pending
            }
            // The next poll of the client receives the end of the session.
            (End::Flush(_), None) => Poll::Pending,
        }
    }
}
