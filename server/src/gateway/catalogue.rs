//! Connects events with their handlers. [`Catalogue::on`] takes a row and its handler; everything
//! in between is implemented here, once for all events.

use std::{
    any::Any,
    future::ready,
    mem, ptr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use futures_util::{
    TryFutureExt as _,
    future::{BoxFuture, Either},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};

use super::diagnosed;
use super::errors::report_failure;
use super::hooks::HookEvent;
use super::limits::{self, UNKNOWN};
use super::moderated::recorded;
use super::traced::{EventMetadata, TracedEvent, context_of};
use crate::limit::Users;
use crate::metrics::Metrics;
use crate::metrics::diagnosis::Diagnosis;
use crate::metrics::trace::Traces;
use crate::service::audit::Audit;
use crate::service::{
    Access, Allowed, Argument, Event, EventPolicy, Hooks, Overlap, Payload, ServiceError, policy,
};
use roomcast::handler::{Answer, IntoAck, Reply};
use roomcast::{Args, NamespaceBuilder, Refusal, Socket, State};

/// Registers the events of a namespace.
pub(super) struct Catalogue {
    namespace: NamespaceBuilder,
    checks: Arc<EventChecks>,
    /// The webhooks that are notified of handled events.
    hooks: Hooks,
    traces: Traces,
    diagnosis: Diagnosis,
    /// Records the events of moderators.
    audit: Option<Audit>,
    /// The rows of all events in the namespace.
    rows: Vec<&'static EventPolicy>,
    overlap: Overlap,
    /// The events that have a handler.
    served: Vec<&'static str>,
}

/// An authorized event, as passed to its handler.
#[derive(Debug)]
pub(super) struct Call<T> {
    /// The socket that sent the event.
    pub(super) socket: Socket,
    /// The command and its sender.
    pub(super) allowed: Allowed<T>,
}

impl Catalogue {
    /// Creates a catalogue for the namespace with this name. [`finish`](Self::finish) returns it.
    pub(super) fn new(
        namespace: NamespaceBuilder,
        name: &str,
        users: Arc<Users>,
        access: Access,
        overlap: Overlap,
    ) -> Self {
        Self {
            namespace,
            checks: Arc::new(EventChecks { users, access }),
            rows: policy::events()
                .filter(|row| row.namespace() == name)
                .collect(),
            hooks: Hooks::default(),
            traces: Traces::default(),
            diagnosis: Diagnosis::default(),
            audit: None,
            overlap,
            served: Vec::new(),
        }
    }

    /// Notifies webhooks of handled events. Call this before registering events.
    pub(super) fn hook(&mut self, hooks: Hooks) {
        self.hooks = hooks;
    }

    /// Records handled events for tracers. Call this before registering events.
    pub(super) fn trace(&mut self, traces: Traces) {
        self.traces = traces;
    }

    /// Counts events and records refusals for the diagnosis. Call this before registering events.
    pub(super) fn diagnose(&mut self, diagnosis: Diagnosis) {
        self.diagnosis = diagnosis;
    }

    /// Records the events of moderators in the audit log. Call this before registering events.
    pub(super) fn audit(&mut self, audit: Audit) {
        self.audit = Some(audit);
    }

    /// Adds connection handlers, which have no row.
    pub(super) fn namespace(
        &mut self,
        define: impl FnOnce(NamespaceBuilder) -> NamespaceBuilder,
    ) -> &mut Self {
        self.namespace = define(mem::take(&mut self.namespace));
        self
    }

    /// Registers the handler of an event, an async function of a call and a state. Its return value
    /// is acknowledged as `{"success":true, …}`.
    ///
    /// Before the handler runs, the event is counted in the class of its row, regardless of its
    /// content. Then its argument is parsed completely, and the sender's permission is checked. A
    /// replaced event is unknown after the overlap.
    pub(super) fn on<T, S, R>(
        &mut self,
        event: &'static Event<T>,
        handler: impl Fn(Call<T>, State<S>) -> R + Send + Sync + 'static,
    ) -> &mut Self
    where
        T: Payload,
        S: Send + Sync + 'static,
        R: Future<Output = Result<T::Answer, ServiceError>> + Send + 'static,
    {
        // Only this closure is compiled for each payload.
        let run = move |access: &Access, event: &roomcast::Event, state: State<S>| {
            let Argument(command) = only_argument(event.args())?;
            let allowed = access.allow(event.principal(), command)?;
            let socket = event.socket.clone();
            let handling = handler(Call { socket, allowed }, state);
            let handling = handling.map_ok(|fields| Box::new(fields) as Box<dyn Fields>);
            Ok(Box::pin(handling) as Handling)
        };
        self.register(event.policy(), Box::new(run))
    }

    fn register<S>(&mut self, row: &'static EventPolicy, run: Run<S>) -> &mut Self
    where
        S: Send + Sync + 'static,
    {
        self.serve(row);
        let checks = Arc::clone(&self.checks);
        let received = received(row.event, self.checks.users.metrics());
        let mut replaced = self.rows.iter().filter_map(|other| other.replaces.as_ref());
        let replaced = replaced.find(|replaced| replaced.event == row.event);
        let end = replaced.map(|replaced| self.overlap.end(replaced));
        let hooks = Some(&self.hooks).filter(|hooks| hooks.includes(row.event));
        let hooks = hooks.cloned();
        let traces = self.traces.clone();
        let diagnosis = self.diagnosis.clone();
        let moderation = self.audit.clone().zip(row.moderates);
        let handler = move |event: roomcast::Event, state: State<S>| {
            received.fetch_add(1, Ordering::Relaxed);
            diagnosed::count(&diagnosis, &event);
            let context = context_of(&traces, &event);
            let traced = TracedEvent::begin(&traces, &event, context);
            let admitted = checks.admit(row, end, &event);
            match admitted.and_then(|()| run(&checks.access, &event, state)) {
                Ok(handling) => {
                    let handling = match &moderation {
                        Some(moderation) => recorded(moderation, row, &event, handling),
                        None => handling,
                    };
                    let hooks = hooks.as_ref();
                    let hook_event = hooks.map(|hooks| HookEvent::new(hooks, row.event, &event));
                    let handling = acknowledge(handling, hook_event, traced);
                    Either::Left(match context {
                        Some(context) => Either::Left(context.scope(traces.spans(), handling)),
                        None => Either::Right(handling),
                    })
                }
                Err(refusal) => {
                    if let Some(traced) = traced {
                        traced.end(Err(&refusal));
                    }
                    Either::Right(ready(Err(refusal)))
                }
            }
        };
        self.namespace(|namespace| {
            if row.is_serial {
                namespace.on_serial(row.event, handler)
            } else {
                namespace.on(row.event, handler)
            }
        })
    }

    /// Marks an event as handled by the library.
    pub(super) fn mark_library_handled<T>(&mut self, event: &'static Event<T>) {
        self.serve(event.policy());
    }

    /// Registers the handlers for unknown and failed events, and returns the namespace.
    ///
    /// # Panics
    ///
    /// If an event has a row but no handler, so that such a server does not start.
    pub(super) fn finish(self) -> NamespaceBuilder {
        let unserved = self.unserved();
        assert!(unserved.is_empty(), "no handler for {unserved:?}");
        let checks = self.checks;
        let metrics = Arc::clone(checks.users.metrics());
        let traces = self.traces;
        let (counted, diagnosis) = (self.diagnosis.clone(), self.diagnosis);
        self.namespace
            .fallback(move |event: roomcast::Event| {
                diagnosed::count(&counted, &event);
                let context = context_of(&traces, &event);
                let traced = TracedEvent::begin_unknown(&traces, &event, context);
                let refusal = Refusal::from(checks.unknown(&event));
                if let Some(traced) = traced {
                    traced.end(Err(&refusal));
                }
                ready(Err::<(), _>(refusal))
            })
            .on_error(move |failure| report_failure(failure, &metrics, &diagnosis))
    }

    /// Returns the events that have a row but no handler.
    fn unserved(&self) -> Vec<&'static str> {
        let events = self.rows.iter().map(|row| row.event);
        events
            .filter(|event| !self.served.contains(event))
            .collect()
    }

    /// Marks the event of a row as handled.
    ///
    /// # Panics
    ///
    /// If the row is not in the table of events.
    fn serve(&mut self, row: &'static EventPolicy) {
        let is_listed = self.rows.iter().any(|listed| ptr::eq(*listed, row));
        assert!(is_listed, "`{}` is not in the table of events", row.event);
        self.served.push(row.event);
    }
}

/// Returns the counter of an event, which is added to the metrics. There are as many rows as in the
/// catalogue, because names that only clients use have no handler.
fn received(event: &'static str, metrics: &Metrics) -> Arc<AtomicU64> {
    let counter = Arc::new(AtomicU64::new(0));
    let row = Arc::clone(&counter);
    metrics.extend(move |out| {
        let count = row.load(Ordering::Relaxed);
        out.labelled_total(RECEIVED, RECEIVED_HELP, "event", event, count);
    });
    counter
}

/// The family of the events by name.
const RECEIVED: &str = "roomcast_events_received_total";
const RECEIVED_HELP: &str = "Events of the catalogue received from clients, by name.";

/// The checks of an event before its handler runs.
struct EventChecks {
    users: Arc<Users>,
    access: Access,
}

impl EventChecks {
    /// Counts an event. Its argument and its sender are not checked yet.
    fn admit(
        &self,
        row: &EventPolicy,
        end: Option<SystemTime>,
        event: &roomcast::Event,
    ) -> Result<(), Refusal> {
        if end.is_some_and(|end| end <= SystemTime::now()) {
            return Err(self.unknown(event).into());
        }
        Ok(limits::take(&self.users, row.class, event)?)
    }

    /// Counts an unknown event and returns its error.
    fn unknown(&self, event: &roomcast::Event) -> ServiceError {
        match limits::take(&self.users, UNKNOWN, event) {
            Ok(()) => ServiceError::NotFound("no such event"),
            Err(limited) => limited,
        }
    }
}

/// Parses the argument of an event. A second argument may be the object with the trace of the
/// event. Other arguments are refused, because they would be lost.
pub(super) fn only_argument<T: DeserializeOwned>(args: &Args) -> Result<T, Refusal> {
    if args.len() > 1 && (args.len() > 2 || args.get::<EventMetadata>(1).is_err()) {
        let error = ServiceError::Invalid {
            field: "[1]".into(),
            problem: "is one argument too many".into(),
        };
        return Err(error.into());
    }
    Ok(args.get(0)?)
}

/// Parses an event, checks its sender and starts its handler, or refuses the event.
type Run<S> =
    Box<dyn Fn(&Access, &roomcast::Event, State<S>) -> Result<Handling, Refusal> + Send + Sync>;

/// The future of a handler, whatever its payload.
type Handling = BoxFuture<'static, Result<Box<dyn Fields>, ServiceError>>;

/// Waits for a handler, and notifies tracers and webhooks of its answer.
async fn acknowledge(
    handling: Handling,
    hook_event: Option<Box<HookEvent>>,
    traced: Option<Box<TracedEvent>>,
) -> Result<Acknowledgement, Refusal> {
    let handled = handling.await.map_err(Refusal::from);
    if let Some(traced) = traced {
        traced.end(handled.as_ref().map(|_| ()));
    }
    let fields = handled?;
    if let Some(hook_event) = hook_event {
        hook_event.done(&*fields);
    }
    Ok(Acknowledgement(fields))
}

/// The fields of an acknowledgement, of any type.
pub(super) trait Fields: Any + Send {
    /// Encodes the acknowledgement of a successful event: `{"success":true, …}`.
    fn encode(&self, reply: Reply) -> Answer;

    /// Returns the fields as JSON.
    fn to_json(&self) -> Box<RawValue>;
}

impl<A: Serialize + Send + 'static> Fields for A {
    fn encode(&self, reply: Reply) -> Answer {
        reply.with(Done {
            success: true,
            fields: self,
        })
    }

    fn to_json(&self) -> Box<RawValue> {
        to_raw_value(self).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

struct Acknowledgement(Box<dyn Fields>);

impl IntoAck for Acknowledgement {
    fn into_ack(self, reply: Reply) -> Answer {
        let answer = self.0.encode(reply);
        // Fields may hold something until the acknowledgement is queued.
        answer.keep(self.0)
    }
}

#[derive(Serialize)]
struct Done<'a, A> {
    success: bool,
    #[serde(flatten)]
    fields: &'a A,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::collections::BTreeMap;

    use roomcast::client::Transports;
    use roomcast::testing::TestServer;
    use serde_json::{Value, json};

    use super::*;
    use crate::service::sample::{
        ASK, ASK_EXACTLY, AskExactPrice, AskPrice, EXACT_PRICE, ExactPrice, FINAL_EXACT_PRICE,
        LAST_EXACT_PRICE, PRICE, Price,
    };
    use crate::{auth::Roles, config, service::identity::REFRESH, store::Store};

    async fn access() -> Access {
        let store = Store::in_memory().await;
        let auth = config::Auth::default();
        let roles = Roles::new(&auth.roles, 1, Arc::default()).unwrap();
        let access = Access::open(store, roles, Arc::default(), Arc::default(), &auth).await;
        access.unwrap()
    }

    fn users() -> Arc<Users> {
        Arc::new(Users::new(&config::Limits::default(), Arc::default()))
    }

    #[tokio::test]
    #[should_panic(expected = "no handler for [\"message\", \"edit_message\", ")]
    async fn a_server_without_a_handler_for_an_event_does_not_start() {
        let overlap = Overlap(Duration::ZERO);
        let namespace = NamespaceBuilder::default();
        let mut catalogue = Catalogue::new(namespace, "/", users(), access().await, overlap);
        catalogue.mark_library_handled(&REFRESH);
        let _namespace = catalogue.finish();
    }

    /// Serves two events, each of which replaces another one that is supported for `overlap`.
    async fn with_replaced_events(overlap: Duration) -> TestServer {
        let namespace = NamespaceBuilder::default();
        let overlap = Overlap(overlap);
        let mut catalogue = Catalogue::new(namespace, "/", users(), access().await, overlap);
        catalogue.rows = vec![ASK.policy(), ASK_EXACTLY.policy()];
        catalogue
            .on(&ASK, async |_: Call<AskPrice>, _: State<Overlap>| {
                Ok(Price {
                    price: "1.5".to_owned(),
                })
            })
            .on(
                &ASK_EXACTLY,
                async |call: Call<AskExactPrice>, overlap: State<Overlap>| {
                    let all_sockets = call.socket.namespace().local();
                    let price = ExactPrice { cents: 150 };
                    EXACT_PRICE.emit(*overlap, all_sockets.clone(), &price);
                    EXACT_PRICE.emit_to(*overlap, &call.socket, &price);
                    LAST_EXACT_PRICE.emit(*overlap, all_sockets.clone(), &price);
                    LAST_EXACT_PRICE.emit_to(*overlap, &call.socket, &price);
                    FINAL_EXACT_PRICE.emit(*overlap, all_sockets.clone(), &price);
                    FINAL_EXACT_PRICE.emit_to(*overlap, &call.socket, &price);
                    let (now, before) =
                        FINAL_EXACT_PRICE.emit_with_acks::<Args>(*overlap, &all_sockets, &price);
                    let socket = call.socket;
                    tokio::spawn(async move {
                        let mut confirmed = Vec::new();
                        for mut acks in before.into_iter().chain([now]) {
                            confirmed.push(matches!(acks.next().await, Some((_, Ok(_)))));
                        }
                        let price = format!("{confirmed:?}");
                        PRICE.emit_to(&socket, &Price { price });
                    });
                    Ok(price)
                },
            );
        let io = roomcast::Io::builder()
            .state(overlap)
            .namespace("/", |_| catalogue.finish());
        roomcast::testing::serve(io).await
    }

    const AGES: Duration = Duration::from_secs(100 * 366 * 86_400);

    #[tokio::test]
    async fn replaced_event_is_accepted_and_sent_with_its_successor() {
        let server = with_replaced_events(AGES).await;
        let mut ann = server.client().connect().await.unwrap();
        let old: Value = ann
            .emit_with_ack("price:ask", json!({"symbol": "ADA"}))
            .await
            .unwrap();
        assert_eq!(old, json!({"success": true, "price": "1.5"}));
        let request = json!({"symbol": "ADA", "currency": "EUR"});
        let new: Value = ann.emit_with_ack("price:ask:v2", request).await.unwrap();
        assert_eq!(new, json!({"success": true, "cents": 150}));
        let received: Value = ann.event("price:update").await.unwrap();
        assert_eq!(received, json!({"price": "1.50"}));
        let received: Value = ann.event("price:update:v2").await.unwrap();
        assert_eq!(received, json!({"cents": 150}));
    }

    /// Returns how often each price event arrived until the server reported the confirmations, and
    /// that report.
    async fn received(
        transports: Transports,
        overlap: Duration,
    ) -> (BTreeMap<String, usize>, Value) {
        let server = with_replaced_events(overlap).await;
        let client = server.client().transports(transports);
        let mut ann = client.connect().await.unwrap();
        let request = json!({"symbol": "ADA", "currency": "EUR"});
        ann.emit("price:ask:v2", request).await.unwrap();
        let (mut counts, mut confirmed) = (BTreeMap::<String, usize>::new(), None);
        // Polling clients receive conflated events after all others.
        while confirmed.is_none() || !counts.contains_key("price:last:v2") {
            let event = ann.next().await.unwrap();
            let payload: Value = event.args.get(0).unwrap();
            if event.ack.is_some() {
                ann.ack(&event, ()).await.unwrap();
            }
            let price = payload["price"].as_str().unwrap_or("1.50");
            if price.starts_with('[') {
                confirmed = Some(serde_json::from_str(price).unwrap());
                continue;
            }
            assert_eq!(price, "1.50");
            assert_eq!(payload.get("cents").is_some(), event.name.ends_with(":v2"));
            *counts.entry(event.name).or_default() += 1;
        }
        (counts, confirmed.unwrap())
    }

    #[tokio::test]
    async fn replaced_events_are_sent_in_every_delivery_and_to_all_targets() {
        let counts = |names: &[(&str, usize)]| -> BTreeMap<String, usize> {
            let names = names.iter().copied();
            names
                .map(|(name, count)| (name.to_owned(), count))
                .collect()
        };
        let (all, confirmed) = received(Transports::WebSocket, AGES).await;
        let both = [
            ("price:update", 2),
            ("price:update:v2", 2),
            ("price:last", 2),
            ("price:last:v2", 2),
            ("price:final", 3),
            ("price:final:v2", 3),
        ];
        assert_eq!((all, confirmed), (counts(&both), json!([true, true])));
        // A polling client may receive only the newest of each. The two events do not replace each
        // other.
        let (mut some, _) = received(Transports::Polling, AGES).await;
        for name in ["price:last", "price:last:v2"] {
            let count = some.insert(name.to_owned(), 2);
            assert!(matches!(count, Some(1 | 2)), "{name}: {count:?}");
        }
        assert_eq!(some, counts(&both));
        let (new, confirmed) = received(Transports::WebSocket, Duration::ZERO).await;
        let one = [
            ("price:update:v2", 2),
            ("price:last:v2", 2),
            ("price:final:v2", 3),
        ];
        assert_eq!((new, confirmed), (counts(&one), json!([true])));
    }

    #[tokio::test]
    async fn replaced_event_is_unknown_after_the_overlap() {
        let server = with_replaced_events(Duration::ZERO).await;
        let mut ann = server.client().connect().await.unwrap();
        let old: Value = ann
            .emit_with_ack("price:ask", json!({"symbol": "ADA"}))
            .await
            .unwrap();
        assert_eq!(
            old["error"],
            json!({"code": "NOT_FOUND", "message": "no such event"})
        );
        let request = json!({"symbol": "ADA", "currency": "EUR"});
        let new: Value = ann.emit_with_ack("price:ask:v2", request).await.unwrap();
        assert_eq!(new["success"], true);
        let received = ann.next().await.unwrap();
        assert_eq!(received.name, "price:update:v2");
    }
}
