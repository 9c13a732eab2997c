//! The upgrade of a polling session: a candidate WebSocket is probed while polling continues, and
//! then becomes the transport or is dropped without affecting the session.

use std::{
    task::Context,
    time::{Duration, Instant},
};

use roomcast_protocol::{
    Frame,
    engine::{Action, Packet, Source},
    websocket::{CloseCode, Event},
};

use super::driver::Driver;
use crate::{
    engine::transport::{Flow, ReadOutcome, Stream, Wire, close_unused, pong},
    metrics::{Counter, Gauge},
};

/// Maximum time that the poll of a client that has sent a request waits for the response before it
/// is ended for the upgrade. The client counts the empty packet that ends it. The official server
/// always waits this long.
const POLL_RELEASE_DELAY: Duration = Duration::from_millis(100);

/// The WebSocket of an upgrade in progress.
pub(super) struct Candidate {
    pub(super) stream: Stream,
    pub(super) wire: Wire,
    /// When the probe was answered.
    pub(super) probed_at: Option<Instant>,
}

impl Driver {
    /// Reads the candidate, if there is one.
    pub(super) fn read_candidate(&mut self, cx: &mut Context<'_>, now: Instant) {
        // The candidate and the throttle are taken out of the driver while they are used, because
        // events modify the driver.
        let Some(mut candidate) = self.candidate.take() else {
            return;
        };
        let mut result = Ok(Action::None);
        let mut throttle = self.throttle.take();
        let Candidate { stream, wire, .. } = &mut *candidate;
        let outcome = wire.read(stream, cx, now, throttle.as_deref_mut(), |wire, event| {
            result = self.on_candidate(stream, wire, event, now);
            match result {
                Ok(Action::None | Action::Reply(_) | Action::Deliver(_)) => Flow::Continue,
                Ok(Action::Switch | Action::DropCandidate | Action::Close(_)) | Err(_) => {
                    Flow::Stop
                }
            }
        });
        self.throttle = throttle;
        if self.session.is_probed() {
            candidate.probed_at.get_or_insert(now);
        }
        let failed = match (&result, &outcome) {
            (Err(code), _) => Some(*code),
            (_, ReadOutcome::Broken(error)) => {
                self.engine.metrics.count(Counter::FrameErrors);
                tracing::debug!(session = ?self.outbox.sid(), %error, "a frame of an upgrade cannot be decoded");
                Some(error.close_code())
            }
            (Ok(Action::DropCandidate | Action::Close(_)), _) | (_, ReadOutcome::Disconnected) => {
                Some(CloseCode::NORMAL)
            }
            (Ok(_), ReadOutcome::Pending | ReadOutcome::Yield | ReadOutcome::Delayed) => {
                self.ending.as_ref().map(|_| CloseCode::NORMAL)
            }
        };
        if let Some(code) = failed {
            self.drop_candidate(&candidate, code);
        } else if matches!(result, Ok(Action::Switch)) {
            self.switch(*candidate, cx);
        } else {
            self.candidate = Some(candidate);
            self.release_late_poll(now);
            match outcome {
                ReadOutcome::Yield => cx.waker().wake_by_ref(),
                ReadOutcome::Delayed => self.delayed(now),
                ReadOutcome::Pending | ReadOutcome::Disconnected | ReadOutcome::Broken(_) => {}
            }
        }
    }

    /// Passes an event of the candidate to the state machine and answers a probe. The error is the
    /// code with which to close the candidate.
    fn on_candidate(
        &mut self,
        stream: &Stream,
        wire: &mut Wire,
        event: Event,
        now: Instant,
    ) -> Result<Action, CloseCode> {
        let packet = match event {
            Event::Text(text) => Packet::decode_text(text).map_err(|_| CloseCode::NORMAL)?,
            Event::Ping(_) if !wire.allow_ping(now) => return Err(CloseCode::POLICY_VIOLATION),
            Event::Ping(payload) => {
                // A candidate has no queue, so a partial write cannot be completed later. A
                // transport that cannot take so few bytes is no better than polling.
                write_whole(stream, pong(&payload).websocket())?;
                return Ok(Action::None);
            }
            Event::Pong(_) => return Ok(Action::None),
            Event::Binary(_) => return Err(CloseCode::NORMAL),
            Event::Close(frame) => return Err(frame.map_or(CloseCode::NORMAL, |frame| frame.code)),
        };
        let action = self.session.handle_packet(now, Source::Candidate, packet);
        let Action::Reply(packet) = action else {
            return Ok(action);
        };
        write_whole(stream, Frame::packet(&packet).websocket())?;
        Ok(Action::None)
    }

    /// Returns when a waiting poll is ended so that the client can upgrade. This is immediate if no
    /// response can be pending.
    pub(super) fn release_at(&self) -> Option<Instant> {
        let probed_at = self.candidate.as_ref()?.probed_at?;
        if !self.has_poll() {
            return None;
        }
        let delay = POLL_RELEASE_DELAY.min(self.engine.config.session.upgrade_timeout / 4);
        // A request after the probe does not move the time, so a client that sends requests
        // continuously can still upgrade.
        let release_at = self.message_at.map(|at| at.min(probed_at) + delay);
        Some(release_at.map_or(probed_at, |at| at.max(probed_at)))
    }

    /// Ends the poll for which the client waits before it upgrades, once it is due.
    pub(super) fn release_late_poll(&mut self, now: Instant) {
        if self.ending.is_none() && self.release_at().is_some_and(|at| at <= now) {
            self.release_poll();
        }
    }

    /// Closes a failed or abandoned candidate with this code; the session continues polling.
    pub(super) fn drop_candidate(&mut self, candidate: &Candidate, code: CloseCode) {
        self.session.handle_detach();
        self.engine.metrics.count(Counter::UpgradesFailed);
        close_unused(&candidate.stream, code);
    }

    /// Makes the candidate the transport. The outbox switches under its lock, so that frames keep
    /// their order.
    fn switch(&mut self, candidate: Candidate, cx: &Context<'_>) {
        let memory = self.outbox.memory();
        let pending = self.outbox.lock().switch(candidate.stream, memory);
        self.wire = Some(candidate.wire);
        self.register_heartbeat();
        let metrics = &self.engine.metrics;
        metrics.count(Counter::Upgrades);
        metrics.shift(Gauge::SessionsPolling, -1);
        metrics.shift(Gauge::SessionsWebSocket, 1);
        tracing::debug!(session = ?self.outbox.sid(), "transport upgraded to WebSocket");
        if let Some(pending) = pending {
            // The client waits for this poll or has aborted it; in both cases it stops polling.
            let _ = pending.answer_noop();
        }
        if let Some(connection) = &mut self.connection {
            connection.upgraded();
        }
        // Data that the client sent after its `5` is read in the next iteration.
        cx.waker().wake_by_ref();
    }
}

/// Writes to a transport with an empty queue. If the bytes do not fit, the error is the code with
/// which to close the transport.
fn write_whole(stream: &Stream, bytes: &[u8]) -> Result<(), CloseCode> {
    match stream.try_write(bytes) {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) | Err(_) => Err(CloseCode::NORMAL),
    }
}
