//! Observes the connections of traced users and sockets.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use roomcast::{Io, Socket, SocketId, connection::EngineConnectionEvent};
use serde_json::{Map, Value, json};

use super::filter::Subject;
use super::packet::{Kind, Packet};
use super::tracer::{Detail, Tracer};

/// Records and observes all connected sockets that a tracer selects. A filter by conversation
/// or channel selects none.
pub(super) fn observe_all(tracer: &Arc<Tracer>, io: &Io) {
    if !tracer.filter.selects_sockets() {
        return;
    }
    for namespace in io.namespaces() {
        for socket in namespace.local().sockets() {
            let user = socket.principal();
            if tracer.filter.matches(&subject(&socket, &user.subject)) {
                record(
                    tracer,
                    &socket,
                    &user.subject,
                    "found",
                    opening(&socket, tracer.detail),
                );
                observe(tracer, &socket, &user.subject);
            }
        }
    }
}

/// If the tracer selects the socket, records that it connected, and observes its connection.
pub(super) fn connected(tracer: &Arc<Tracer>, socket: &Socket) {
    let user = socket.principal();
    if tracer.filter.matches(&subject(socket, &user.subject)) {
        let fields = opening(socket, tracer.detail);
        record(tracer, socket, &user.subject, "connected", fields);
        observe(tracer, socket, &user.subject);
    }
}

/// If the tracer selects the socket, records that it disconnected.
pub(super) fn disconnected(tracer: &Arc<Tracer>, socket: &Socket, reason: &str) {
    let user = socket.principal();
    if tracer.filter.matches(&subject(socket, &user.subject)) {
        let fields = object(json!({"reason": reason}));
        record(tracer, socket, &user.subject, "disconnected", fields);
        let observed = tracer.observed.lock().remove(&socket.id());
        // The connection may stay open for sockets of another user.
        if let Some((connection, listener)) = observed {
            connection.off(listener);
            for other in connection.sockets() {
                let user = other.principal();
                if other.id() != socket.id()
                    && tracer.filter.matches(&subject(&other, &user.subject))
                {
                    observe(tracer, &other, &user.subject);
                }
            }
        }
    }
}

pub(super) fn subject<'a>(socket: &Socket, user: &'a str) -> Subject<'a> {
    Subject {
        user: Some(user),
        socket: Some(socket.id()),
        conversation: None,
        channel: None,
    }
}

fn record(tracer: &Tracer, socket: &Socket, user: &str, step: &str, fields: Map<String, Value>) {
    tracer.record(&subject(socket, user), step, fields);
}

/// Returns the fields of the steps `found` and `connected`.
fn opening(socket: &Socket, detail: Detail) -> Map<String, Value> {
    let address = socket.handshake().address().ip();
    let address = match detail {
        Detail::Masked => shortened(address),
        Detail::Unmasked => address.to_string(),
    };
    object(json!({
        "namespace": socket.namespace().name(),
        "transport": socket.transport().as_str(),
        "address": address,
        "recovered": socket.recovered(),
    }))
}

fn observe(tracer: &Arc<Tracer>, socket: &Socket, user: &str) {
    let connection = socket.conn();
    {
        let observed = tracer.observed.lock();
        let is_observed = |known: &Socket| observed.contains_key(&known.id());
        // A client in several namespaces has one connection.
        if connection.sockets().iter().any(is_observed) {
            return;
        }
        if observed.len() >= MAX_OBSERVED {
            drop(observed);
            let fields = object(json!({"reason": "too many observed connections"}));
            return record(tracer, socket, user, "not_observed", fields);
        }
    }
    let observer = Observer {
        tracer: Arc::clone(tracer),
        socket: socket.id(),
        user: user.to_owned(),
        undelivered: AtomicU64::new(0),
    };
    match connection.on_event(move |event| observer.notify(event)) {
        Ok(listener) => {
            let mut observed = tracer.observed.lock();
            // A tracer that has ended has removed its observers already.
            if tracer.is_stopped() {
                drop(observed);
                connection.off(listener);
            } else {
                let former = observed.insert(socket.id(), (connection, listener));
                drop(observed);
                if let Some((connection, listener)) = former {
                    connection.off(listener);
                }
            }
        }
        Err(error) => {
            let fields = object(json!({"reason": error.to_string()}));
            record(tracer, socket, user, "not_observed", fields);
        }
    }
}

/// The observer of one connection.
struct Observer {
    tracer: Arc<Tracer>,
    socket: SocketId,
    user: String,
    /// Queued messages that were not passed to the transport yet.
    undelivered: AtomicU64,
}

impl Observer {
    fn notify(&self, event: &EngineConnectionEvent<'_>) {
        let detail = self.tracer.detail;
        let (step, fields) = match event {
            EngineConnectionEvent::Packet { data } => {
                let packet = Packet::read(data);
                let is_ack = packet.kind == Kind::Ack;
                let step = if is_ack { "confirmed" } else { "received" };
                (step, packet.fields(detail))
            }
            EngineConnectionEvent::PacketCreate { data } => {
                self.undelivered.fetch_add(1, Ordering::Relaxed);
                let packet = created(data);
                let is_ack = packet.kind == Kind::Ack;
                let step = if is_ack { "acknowledged" } else { "queued" };
                (step, packet.fields(detail))
            }
            EngineConnectionEvent::PacketDrop { data, is_overflow } => {
                let mut fields = created(data).fields(detail);
                let reason = if *is_overflow {
                    "queue overflow, the connection is closed"
                } else {
                    "slow client"
                };
                fields.insert("reason".into(), reason.into());
                ("dropped", fields)
            }
            EngineConnectionEvent::Upgrade { transport } => {
                ("upgraded", object(json!({"transport": transport.as_str()})))
            }
            EngineConnectionEvent::Drain => {
                let messages = self.undelivered.swap(0, Ordering::Relaxed);
                if messages == 0 {
                    return;
                }
                ("delivered", object(json!({"messages": messages})))
            }
            EngineConnectionEvent::Close {
                reason,
                description,
            } => {
                let undelivered = self.undelivered.load(Ordering::Relaxed);
                let fields = json!({
                    "reason": reason.as_str(),
                    "description": description,
                    "undelivered": undelivered,
                });
                ("closed", object(fields))
            }
            // Other events are not recorded.
            EngineConnectionEvent::Heartbeat | _ => return,
        };
        let subject = Subject {
            user: Some(&self.user),
            socket: Some(self.socket.clone()),
            conversation: None,
            channel: None,
        };
        self.tracer.record(&subject, step, fields);
    }
}

/// Reads an outgoing packet, which begins with its Engine.IO type.
fn created(data: &[u8]) -> Packet<'_> {
    Packet::read(data.get(1..).unwrap_or_default())
}

/// Returns an address without its host part.
fn shortened(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}::/48")
        }
    }
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(fields) = value {
        fields
    } else {
        Map::new()
    }
}

/// Maximum number of connections that a tracer observes.
const MAX_OBSERVED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shortened_to_their_network() {
        for (address, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ] {
            assert_eq!(shortened(address.parse().unwrap()), network);
        }
    }
}
