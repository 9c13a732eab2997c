//! The admin namespace `/admin`: reports refusals, faults and cluster changes, and executes admin
//! commands.
//!
//! Commands use the services of the HTTP API. The reports compare the counters and the readiness
//! once a second. Refusals therefore cost nothing extra, and a flood of them is a single event.

mod ui;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::auth::{Permission, Principal};
use crate::metrics::{Counter, Metrics};
use crate::service::api::alerts::{AlertLog, REFRESH_INTERVAL, StoredAlert};
use crate::service::api::health::Readiness;
use crate::service::api::nodes::report::Reports;
use crate::service::api::sockets::{self, Disconnect, Disconnected};
use crate::service::audit::{Audit, Requester};
use crate::service::authorization::{Access, Allowed, Blocks, LostAccess, NewBlock};
use crate::service::fault::ServiceError;
use crate::service::rules::admin::commands::{
    BlockNetwork, Blocked, Kick, Kicked, ReadStatistics, Statistics,
};
use crate::service::rules::admin::emissions::{
    ALERT, Change, NODE, NodeChange, Part, PartState, REFUSALS, RefusalCount, Refusals,
};
use crate::service::rules::event::Command;
use crate::service::rules::rooms::RoomKind;
use crate::store::Time;
use roomcast::{Io, Namespace, Socket, metrics::Counter as Library};

pub(crate) use ui::{RoomChange, UiAct, UiDisconnect, UiSocket};

/// The namespace for admins.
pub(crate) const NAMESPACE: &str = "/admin";
/// The room that all admins are in.
const ROOM: &str = RoomKind::Admin.prefix();

/// The command to enter the namespace.
#[derive(Debug)]
pub(crate) struct Enter;

impl Command for Enter {
    const PERMISSION: Option<Permission> = Some(Permission::Admin);
}

/// The admin namespace. Clones share its state.
#[derive(Clone)]
pub(crate) struct Admin(Arc<AdminInner>);

struct AdminInner {
    access: Access,
    audit: Audit,
    metrics: Arc<Metrics>,
    alerts: AlertLog,
    reports: Reports,
    /// Objects that exist only after the server is built.
    built: OnceLock<Built>,
}

struct Built {
    io: Io,
    blocks: Option<Blocks>,
    readiness: Readiness,
}

/// Something that does not work: the part, and the name of the task if it is one.
type Fault = (Part, Option<String>);

impl Admin {
    pub(crate) fn new(
        access: Access,
        audit: Audit,
        metrics: Arc<Metrics>,
        alerts: AlertLog,
    ) -> Self {
        Self(Arc::new(AdminInner {
            access,
            audit,
            reports: Reports::new(Arc::clone(&metrics)),
            metrics,
            alerts,
            built: OnceLock::new(),
        }))
    }

    /// Starts serving admins, after the server is built.
    pub(crate) fn serve(&self, io: Io, blocks: Option<Blocks>, readiness: Readiness) {
        self.0.reports.serve(readiness.clone());
        let built = Built {
            io,
            blocks,
            readiness,
        };
        // The server is built once, so the cell is empty.
        let _ = self.0.built.set(built);
    }

    /// Checks whether a principal may enter.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Denied`] if none of its roles allows it.
    pub(crate) fn may_enter(&self, by: &Arc<Principal>) -> Result<(), ServiceError> {
        self.0.access.allow(Arc::clone(by), Enter).map(drop)
    }

    /// Returns why a principal that has entered may no longer be there.
    pub(crate) fn recheck(&self, by: &Principal) -> Result<(), LostAccess> {
        self.0.access.recheck(by, Permission::Admin)
    }

    /// Sends the current faults of this server, and the stored alerts of all servers, to an admin
    /// who has connected.
    pub(crate) fn entered(&self, socket: &Socket) {
        // An admin who has already disconnected gets nothing.
        let (Ok(()), Some(built)) = (socket.join(ROOM), self.0.built.get()) else {
            return;
        };
        let node = this(&built.io);
        let faults = built.faults();
        for (part, task) in &faults {
            let fault = StoredAlert::new(&node, *part, task.clone());
            ALERT.emit_to(socket, &fault.event());
        }
        let (alerts, socket) = (self.0.alerts.clone(), socket.clone());
        tokio::spawn(async move {
            // Without the store, the faults of this server are all that is known.
            for alert in alerts.latest().await.unwrap_or_default() {
                let is_sent = *node == *alert.node
                    && alert.state == PartState::Unavailable
                    && faults.contains(&(alert.part, alert.task.clone()));
                if !is_sent {
                    ALERT.emit_to(&socket, &alert.event());
                }
            }
        });
    }

    /// Closes the connections of a socket or a user.
    pub(crate) async fn kick(
        &self,
        allowed: Allowed<Kick>,
        socket: &Socket,
    ) -> Result<Kicked, ServiceError> {
        let (by, kick) = allowed.into_parts();
        let request = json!({"userId": kick.user_id, "socketId": kick.socket_id});
        let requester = Requester::of_socket(&by, socket);
        let kicking = self.kick_recorded(by, kick);
        self.recorded(requester, "admin:kick", &request, kicking)
            .await
    }

    async fn kick_recorded(
        &self,
        by: Arc<Principal>,
        Kick { user_id, socket_id }: Kick,
    ) -> Result<Kicked, ServiceError> {
        let whom = match (user_id, socket_id) {
            (Some(user), None) => Disconnect::User(user),
            (None, Some(socket)) => Disconnect::Socket(socket),
            (Some(_), Some(_)) | (None, None) => {
                let problem = "excludes socketId: exactly one of them is required";
                return Err(ServiceError::invalid("userId", problem));
            }
        };
        tracing::info!(by = by.subject, ?whom, "admin:kick");
        let allowed = self.0.access.allow(by, whom)?;
        let Disconnected {
            disconnected,
            missing,
        } = sockets::disconnect(&self.built()?.io, allowed).await?;
        Ok(Kicked {
            disconnected,
            missing,
        })
    }

    /// Blocks a network.
    pub(crate) async fn block(
        &self,
        allowed: Allowed<BlockNetwork>,
        socket: &Socket,
    ) -> Result<Blocked, ServiceError> {
        let (by, command) = allowed.into_parts();
        let request = json!({
            "cidr": command.cidr, "seconds": command.seconds, "reason": command.reason,
        });
        let requester = Requester::of_socket(&by, socket);
        let blocking = self.block_recorded(by, command);
        self.recorded(requester, "admin:block", &request, blocking)
            .await
    }

    /// Records an act before and after it is performed.
    async fn recorded<T: Serialize>(
        &self,
        requester: Requester,
        event: &str,
        request: &Value,
        act: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let begun = self
            .0
            .audit
            .begin(requester, "socket", event, (None, None), request);
        let started = begun.await?;
        let result = act.await;
        let answer = |answer: &T| serde_json::to_value(answer).unwrap_or_default();
        started.end_of(&result, answer).await;
        result
    }

    async fn block_recorded(
        &self,
        by: Arc<Principal>,
        command: BlockNetwork,
    ) -> Result<Blocked, ServiceError> {
        let new = NewBlock {
            cidr: command.cidr,
            seconds: command.seconds,
            reason: command.reason,
        };
        tracing::info!(by = by.subject, network = new.cidr, "admin:block");
        let allowed = self.0.access.allow(by, new)?;
        let blocks = self.built()?.blocks.as_ref();
        let blocks = blocks.ok_or(ServiceError::Conflict(
            "this server has no guard that could block",
        ))?;
        let block = blocks.add(allowed).await?;
        Ok(Blocked {
            id: block.id,
            cidr: block.cidr.to_string(),
            expires_at: block.expires_at.map(Time::from),
        })
    }

    /// Returns the statistics of this server.
    pub(crate) fn statistics(
        &self,
        _: Allowed<ReadStatistics>,
    ) -> Result<Statistics, ServiceError> {
        let Built { io, readiness, .. } = self.built()?;
        Ok(Statistics::of(io, &self.0.metrics, readiness))
    }

    /// Returns the reports about this server.
    pub(crate) fn reports(&self) -> Reports {
        self.0.reports.clone()
    }

    /// Emits changes to admins, and takes snapshots of durations, for as long as it is polled.
    pub(crate) async fn watch(self) {
        let Ok(built) = self.built() else {
            return;
        };
        let namespace = built.io.of(NAMESPACE);
        let mut ticks = interval(EMIT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counted = self.counts(&built.io);
        let mut alerts = self.left_open(&this(&built.io)).await;
        let mut nodes = nodes(&built.io);
        // Alerts of an earlier process are refreshed at once.
        let mut refreshed: Option<Instant> = None;
        loop {
            ticks.tick().await;
            let node = this(&built.io);
            self.0.reports.update(&built.io);
            let now = self.counts(&built.io);
            emit_refusals(&namespace, &node, &counted, &now);
            counted = now;
            self.compare(&built.faults(), &mut alerts, &node, &namespace);
            if refreshed.is_none_or(|last| last.elapsed() >= REFRESH_INTERVAL) {
                self.0.alerts.refresh(alerts.values());
                refreshed = Some(Instant::now());
            }
            let now = self::nodes(&built.io);
            // Each server sees all nodes, and notifies its own admins.
            for (name, id) in &now {
                if !nodes.contains_key(name) {
                    NODE.emit(namespace.local().to(ROOM), &change(id, Change::Joined));
                }
            }
            for (name, id) in &nodes {
                if !now.contains_key(name) {
                    NODE.emit(namespace.local().to(ROOM), &change(id, Change::Left));
                }
            }
            nodes = now;
        }
    }

    /// Records that this process runs, so that the next one reports if it is killed.
    pub(crate) async fn begin(&self) {
        let Ok(built) = self.built() else {
            return;
        };
        let begun = self.0.alerts.begin(&this(&built.io)).await;
        let _ = begun.inspect_err(|error| {
            tracing::warn!(%error, "could not record the start, the next start may report no crash");
        });
    }

    /// Returns the alerts that an earlier process of this server, or of this task, has left open.
    async fn left_open(&self, node: &str) -> BTreeMap<Fault, StoredAlert> {
        let open = self.0.alerts.start(node).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not read the alerts of an earlier process");
            Vec::new()
        });
        let by_fault = |alert: StoredAlert| ((alert.part, alert.task.clone()), alert);
        open.into_iter().map(by_fault).collect()
    }

    /// Begins the alerts of new faults, and ends those whose fault has ended.
    fn compare(
        &self,
        faults: &BTreeSet<Fault>,
        alerts: &mut BTreeMap<Fault, StoredAlert>,
        node: &str,
        namespace: &Namespace,
    ) {
        // Only the server with the fault knows it, so it notifies the admins of all servers.
        let report = |alert: &StoredAlert| {
            self.0.alerts.note(alert);
            ALERT.emit(namespace.to(ROOM), &alert.event());
        };
        alerts.retain(|fault, alert| {
            let is_open = faults.contains(fault);
            if !is_open {
                alert.state = PartState::Ok;
                alert.timestamp = Time::now();
                report(alert);
            }
            is_open
        });
        for fault in faults {
            alerts.entry(fault.clone()).or_insert_with(|| {
                let (part, task) = fault.clone();
                let alert = StoredAlert::new(node, part, task);
                report(&alert);
                alert
            });
        }
    }

    /// Stores and sends alerts for as long as it is polled.
    pub(crate) async fn record_alerts(self) {
        self.0.alerts.clone().run().await;
    }

    /// Records that this server stops as it should.
    pub(crate) async fn finish(&self) {
        if let Some(built) = self.0.built.get() {
            self.0.alerts.finish(&this(&built.io)).await;
        }
    }

    /// Notifies all admins that this server is about to stop.
    pub(crate) fn draining(&self) {
        if let Some(built) = self.0.built.get() {
            let to = built.io.of(NAMESPACE).to(ROOM);
            NODE.emit(to, &change(&this(&built.io), Change::Draining));
        }
    }

    fn built(&self) -> Result<&Built, ServiceError> {
        // Admins are admitted only after the server is built.
        let built = self.0.built.get();
        built.ok_or(ServiceError::Conflict("the server is starting"))
    }

    /// Returns the refusals counted so far.
    fn counts(&self, io: &Io) -> Vec<RefusalCount> {
        let own = OWN.map(|(kind, reason, counter)| RefusalCount {
            kind,
            reason,
            count: self.0.metrics.counter(counter),
        });
        let library = LIBRARY.map(|(kind, reason, counter)| RefusalCount {
            kind,
            reason,
            count: io.metrics().counter(counter),
        });
        own.into_iter().chain(library).collect()
    }
}

impl Built {
    fn faults(&self) -> BTreeSet<Fault> {
        let readiness = &self.readiness;
        let parts = [
            (Part::Store, !readiness.is_storing()),
            (Part::Adapter, readiness.adapter() == Some(false)),
            (Part::Publications, readiness.publications() == Some(false)),
        ];
        let parts = parts.into_iter().filter(|(_, fails)| *fails);
        let tasks = readiness.tasks();
        let tasks = tasks
            .iter()
            .map(|task| (Part::Task, Some(task.name.to_owned())));
        parts.map(|(part, _)| (part, None)).chain(tasks).collect()
    }
}

fn emit_refusals(namespace: &Namespace, node: &str, before: &[RefusalCount], now: &[RefusalCount]) {
    let refusals: Vec<RefusalCount> = now
        .iter()
        .zip(before)
        .map(|(now, before)| RefusalCount {
            count: now.count.saturating_sub(before.count),
            ..*now
        })
        .filter(|refused| refused.count > 0)
        .collect();
    if refusals.is_empty() {
        return;
    }
    let refusals = Refusals {
        node,
        refusals,
        timestamp: Time::now(),
    };
    REFUSALS.emit(namespace.to(ROOM), &refusals);
}

fn change(node: &str, change: Change) -> NodeChange<'_> {
    NodeChange {
        node,
        change,
        timestamp: Time::now(),
    }
}

/// Returns the servers of the cluster: the name, which is never reused, and the id.
fn nodes(io: &Io) -> BTreeMap<String, Arc<str>> {
    let nodes = io.nodes().into_iter();
    nodes.map(|node| (node.name.to_string(), node.id)).collect()
}

/// Returns the id of this server.
fn this(io: &Io) -> Arc<str> {
    let this = io.nodes().into_iter().find(|node| node.is_this);
    this.map_or_else(|| "".into(), |node| node.id)
}

/// The interval between checks.
const EMIT_INTERVAL: Duration = Duration::from_secs(1);

/// The refusals counted by the server: type, reason and counter.
const OWN: [(&str, &str, Counter); 22] = [
    ("rateLimit", "messages", Counter::LimitedMessages),
    ("rateLimit", "typing", Counter::LimitedTyping),
    ("rateLimit", "changes", Counter::LimitedChanges),
    ("rateLimit", "requests", Counter::LimitedRequests),
    ("rateLimit", "joins", Counter::LimitedJoins),
    ("rateLimit", "appends", Counter::LimitedAppends),
    ("rateLimit", "channels", Counter::LimitedChannels),
    ("rateLimit", "api", Counter::ApiLimited),
    ("permission", "no role grants it", Counter::CommandsDenied),
    ("authentication", "missing", Counter::AuthMissing),
    ("authentication", "malformed", Counter::AuthMalformed),
    ("authentication", "origin", Counter::AuthOrigin),
    ("authentication", "too long", Counter::AuthTooLong),
    ("authentication", "algorithm", Counter::AuthAlgorithm),
    ("authentication", "unknown key", Counter::AuthUnknownKey),
    ("authentication", "signature", Counter::AuthSignature),
    ("authentication", "claims", Counter::AuthClaims),
    ("authentication", "expired", Counter::AuthExpired),
    ("authentication", "revoked", Counter::AuthRevoked),
    (
        "authentication",
        "unknown session",
        Counter::AuthUnknownLogin,
    ),
    ("authentication", "unavailable", Counter::AuthUnavailable),
    ("connection", "user connections", Counter::RefusedUser),
];

/// The refusals counted by the library: type, reason and counter.
const LIBRARY: [(&str, &str, Library); 5] = [
    ("rateLimit", "flood", Library::ViolationsFlood),
    ("connection", "blocked", Library::RefusedBlocked),
    ("connection", "rate", Library::RefusedRate),
    ("connection", "address connections", Library::RefusedAddress),
    ("connection", "server connections", Library::RefusedFull),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::AuthFault;

    #[test]
    fn every_authentication_fault_is_reported_to_admins() {
        for fault in AuthFault::ALL {
            let mut refusals = OWN
                .iter()
                .filter(|(.., counter)| *counter == fault.counter());
            let (kind, ..) = refusals.next().unwrap_or_else(|| panic!("{fault}"));
            assert_eq!((*kind, refusals.count()), ("authentication", 0), "{fault}");
        }
    }
}
