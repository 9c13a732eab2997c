//! Opening a session: its id, its outbox, and the driver that runs it.
//!
//! The answer that opens a WebSocket leaves together with the first frame: one write, and one
//! wake-up of the client.

use std::sync::Arc;

use bytes::Bytes;
use roomcast_protocol::{
    Frame, Sid,
    engine::{CloseReason, Open, Packet, Revision, Session, SessionConfig, Transport},
    websocket::deflate::Agreement,
};

use super::{
    driver::Driver,
    engine::{Engine, session_gauge},
    sessions::AnnouncedSession,
};
use crate::{
    engine::{
        admission::Handshake,
        outbox::{Outbox, Sink},
        primitives::{now, random_sid},
        transport::{Stream, Wire},
    },
    metrics::Counter,
};

/// A session that is about to open.
pub(in crate::engine) struct Opening {
    pub(in crate::engine) handshake: Arc<Handshake>,
    /// The id that the session will have; `None` for a random id.
    pub(in crate::engine) sid: Option<Sid>,
    pub(in crate::engine) revision: Revision,
    /// Set once the client is informed of the session.
    pub(in crate::engine) announced: Option<AnnouncedSession>,
    /// The compression that the response has promised; `None` for polling.
    pub(in crate::engine) deflate: Option<Agreement>,
}

impl Engine {
    /// Reserves the id of a session that is about to open. Returns the encoded open packet, so that
    /// it can be sent together with the upgrade response.
    pub(in crate::engine) fn announce(&self, opening: &mut Opening) -> Bytes {
        // Until the driver runs, nothing could handle requests for the session: a detached outbox
        // refuses them.
        let outbox = self.new_outbox(opening.sid, opening.revision, Sink::announced);
        let open = self.open_packet(outbox.sid(), Transport::WebSocket);
        opening.announced = Some(AnnouncedSession::new(outbox, &self.sessions));
        Frame::packet(&Packet::Open(open)).websocket().clone()
    }

    pub(in crate::engine) fn open_websocket(
        self: &Arc<Self>,
        stream: Stream,
        unread: Bytes,
        opening: Opening,
    ) -> Driver {
        let stream = self.compress(stream, opening.deflate);
        let wire = Wire::new(&stream, unread, &self.config, now());
        let outbox = match opening.announced.and_then(AnnouncedSession::into_outbox) {
            Some(outbox) => {
                outbox.lock().open(stream);
                outbox
            }
            None => {
                let sink = || Sink::websocket(stream.clone());
                let outbox = self.new_outbox(opening.sid, opening.revision, sink);
                let open = self.open_packet(outbox.sid(), Transport::WebSocket);
                // The packet is left to the first iteration of the driver, so that no flusher is
                // woken for it.
                let _ = outbox.begin_iteration();
                outbox.push_control(Frame::packet(&Packet::Open(open)));
                outbox
            }
        };
        self.open(outbox, Transport::WebSocket, opening.handshake, Some(wire))
    }

    /// Returns the stream with the compression that the response has promised.
    pub(in crate::engine) fn compress(
        &self,
        stream: Stream,
        agreement: Option<Agreement>,
    ) -> Stream {
        match agreement {
            Some(agreement) => {
                let settings = self.config.session.deflate_settings();
                stream.deflated(&agreement, &settings, &self.metrics)
            }
            None => stream,
        }
    }

    pub(in crate::engine) fn open(
        self: &Arc<Self>,
        outbox: Outbox,
        transport: Transport,
        handshake: Arc<Handshake>,
        wire: Option<Wire>,
    ) -> Driver {
        let now = now();
        let config = SessionConfig {
            ping_interval: self.config.session.ping_interval,
            ping_timeout: self.config.session.ping_timeout,
            upgrade_timeout: self.config.session.upgrade_timeout,
        };
        let session = match outbox.revision() {
            Revision::V4 => Session::server(now, transport, config),
            Revision::V3 | Revision::V3Base64 => Session::server_v3(now, transport, config),
        };
        self.metrics.count(Counter::SessionsOpened);
        self.metrics.shift(session_gauge(transport), 1);
        if self.is_draining() {
            // The draining task may have listed all sessions before this one was inserted.
            outbox.close(CloseReason::ServerShutdown);
        }
        // A polling client receives the initial packet with the open packet.
        if transport == Transport::WebSocket
            && let Some(frame) = self.initial_frame()
        {
            outbox.push_control(frame);
        }
        let permit = handshake.take_permit();
        let connection = self.application.open(outbox.clone(), handshake, now);
        Driver::new(Arc::clone(self), outbox, session, connection, wire, permit)
    }

    /// Returns the configured message that every client receives first.
    pub(in crate::engine) fn initial_frame(&self) -> Option<Frame> {
        let text = self.config.session.initial_packet.as_ref()?;
        Some(Frame::text(text.as_bytes()))
    }

    pub(in crate::engine) fn open_packet(&self, sid: Sid, transport: Transport) -> Open {
        let session = &self.config.session;
        let can_upgrade = transport == Transport::Polling
            && session.allow_upgrades
            && session.transports.contains(&Transport::WebSocket);
        let upgrades = can_upgrade.then_some(Transport::WebSocket);
        Open {
            sid: self.session_id(sid),
            upgrades: upgrades.into_iter().collect(),
            ping_interval: session.ping_interval,
            ping_timeout: session.ping_timeout,
            max_payload: session.max_payload as u64,
        }
    }

    /// Creates the outbox of a new session and inserts it into the table. If the id is already
    /// taken, a random one replaces it.
    pub(in crate::engine) fn new_outbox(
        &self,
        sid: Option<Sid>,
        revision: Revision,
        sink: impl Fn() -> Sink,
    ) -> Outbox {
        let mut sid = sid.unwrap_or_else(random_sid);
        loop {
            let outbox = Outbox::new(
                sid,
                revision,
                self.config.outbox.outbox_bytes,
                sink(),
                self.flusher(),
                Arc::clone(&self.metrics),
            );
            if self.sessions.insert(&outbox) {
                return outbox;
            }
            sid = random_sid();
        }
    }
}
