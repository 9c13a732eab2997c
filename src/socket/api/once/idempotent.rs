//! Handlers that run once per key and user.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use roomcast_protocol::socket::Value;

use super::table::{BeginOutcome, Bounds, HandlerOutcome, StoredAnswer, Table, Ticket};
use crate::{
    metrics::Counter,
    socket::{
        core::Event,
        dispatch::{Handler, HandlerFuture, Parameters, Requirement},
        types::{AckOutcome, Answer, IntoAck, Refusal, Reply, args::read},
    },
};

/// Wraps a handler so that it runs once per key and user. A repeated event receives the first
/// answer.
///
/// `key` returns the key of an event. [`field`] and [`argument`] read it from the arguments; any
/// function of the [`Event`] works. An event with the key `None` always runs the handler.
///
/// ```
/// use roomcast::{Ack, Event, Io, handler::{field, idempotent}};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     amount: u32,
/// }
///
/// async fn order(_: Event, order: Order) -> Ack<u32> {
///     Ack(order.amount)
/// }
///
/// let io = Io::builder().namespace("/", |namespace| {
///     namespace.on_serial("order", idempotent(field("orderId"), order))
/// });
/// # io.build().unwrap();
/// ```
///
/// ```js
/// const socket = io({ retries: 3, ackTimeout: 5000 });
/// socket.emit("order", { orderId: crypto.randomUUID(), amount: 3 }, (error, amount) => {});
/// ```
///
/// - Two events are equal if their namespace, user and key are equal. The user is the subject of
///   the [`Principal`](crate::Principal), on any connection. For an anonymous client it is the
///   socket. Other arguments are not compared.
/// - A repeat that arrives while the first handler is running waits for it. The first handler
///   continues if its client disconnects.
/// - Only answers are stored. If the event was refused, the handler panicked, or the arguments did
///   not match, a repeat runs the handler again.
/// - Answers are stored for [`window`](Idempotent::window), in the memory of this server, and
///   evicted earlier if there is no room. For longer guarantees, store the key in the application's
///   database.
pub fn idempotent<K, H>(key: K, handler: H) -> Idempotent<K, H>
where
    K: Fn(&Event) -> Option<String> + Send + Sync + 'static,
{
    Idempotent {
        key,
        handler,
        bounds: Bounds::default(),
        table: Arc::default(),
    }
}

/// Returns a key function for a field of the first argument: a string or an integer.
pub fn field(name: &'static str) -> impl Fn(&Event) -> Option<String> + Send + Sync + 'static {
    move |event| {
        let Value::Object(mut fields) = event.args().get(0).ok()? else {
            return None;
        };
        text(fields.remove(name)?)
    }
}

/// Returns a key function for the argument at this position: a string or an integer.
pub fn argument(position: usize) -> impl Fn(&Event) -> Option<String> + Send + Sync + 'static {
    move |event| text(event.args().get(position).ok()?)
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        Value::Number(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Binary(_)
        | Value::Array(_)
        | Value::Object(_) => None,
    }
}

/// A handler wrapped by [`idempotent`].
#[must_use = "it is a handler, to be given to `on`"]
pub struct Idempotent<K, H> {
    key: K,
    handler: H,
    bounds: Bounds,
    table: Arc<Table>,
}

impl<K, H> Idempotent<K, H> {
    /// Sets how long an answer is stored after it was sent. Default is 10 min.
    pub fn window(mut self, window: Duration) -> Self {
        self.bounds.window = window;
        self
    }

    /// Sets the maximum number of stored answers; the oldest are evicted first. Default is 100,000.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.bounds.keys = keys;
        self
    }

    /// Sets the maximum number of stored answers per user, so that no user evicts the answers of
    /// others. Default is 1,000.
    pub fn max_keys_per_user(mut self, keys: usize) -> Self {
        self.bounds.keys_of_user = keys;
        self
    }

    /// Sets the maximum size of all stored answers in bytes; the oldest are evicted first. Default
    /// is 64 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.bounds.bytes = bytes;
        self
    }
}

impl<K, H> fmt::Debug for Idempotent<K, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotent")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// The parameters of the inner handler. They are parsed only if the handler runs.
#[doc(hidden)]
#[expect(unnameable_types, reason = "users never name this type")]
#[derive(Debug)]
pub struct ByKey<M>(PhantomData<fn() -> M>);

impl<M: Parameters> Parameters for ByKey<M> {
    fn take(_: &Event) -> Result<Self, Refusal> {
        Ok(Self(PhantomData))
    }

    fn needs() -> Vec<Requirement> {
        M::needs()
    }
}

/// An answer that is built when its reply address is known.
#[doc(hidden)]
#[expect(
    unnameable_types,
    missing_debug_implementations,
    reason = "users never name this type"
)]
pub struct DeferredAnswer(Box<dyn FnOnce(Reply) -> Answer>);

#[diagnostic::do_not_recommend]
impl IntoAck for DeferredAnswer {
    fn into_ack(self, reply: Reply) -> Answer {
        (self.0)(reply)
    }
}

fn defer_answer(answer: impl FnOnce(Reply) -> Answer + 'static) -> DeferredAnswer {
    DeferredAnswer(Box::new(answer))
}

fn refused(refusal: Refusal) -> DeferredAnswer {
    defer_answer(|_| Answer::of(AckOutcome::Refused(refusal)))
}

#[diagnostic::do_not_recommend]
impl<M, K, H> Handler<ByKey<M>> for Idempotent<K, H>
where
    M: Parameters,
    H: Handler<M, Future: HandlerFuture>,
    K: Fn(&Event) -> Option<String> + Send + Sync + 'static,
{
    type Future = BoxFuture<'static, DeferredAnswer>;

    fn handle(&self, event: Event, _: ByKey<M>) -> Self::Future {
        let run = |event: Event| match M::take(&event) {
            Ok(parameters) => Ok(self.handler.handle(event, parameters)),
            Err(refusal) => {
                event.io().metrics().count(Counter::EventsInvalid);
                Err(refusal)
            }
        };
        let Some(key) = (self.key)(&event) else {
            let handling = run(event);
            return Box::pin(async move {
                match handling {
                    Ok(handling) => {
                        let value = handling.await;
                        defer_answer(move |reply| value.into_ack(reply))
                    }
                    Err(refusal) => refused(refusal),
                }
            });
        };
        if key.len() > MAX_KEY {
            let refusal = Refusal::new("INVALID_PAYLOAD", "the key is too long");
            return Box::pin(async { refused(refusal) });
        }
        let metrics = Arc::clone(event.io().metrics());
        match self.table.begin(&event, &key, self.bounds, &metrics) {
            BeginOutcome::First(ticket) => {
                // The answer is built with a placeholder id, and encoded again with the id of each
                // caller.
                let captured = Reply {
                    parser: event.io().config().sockets.parser,
                    nsp: event.socket.namespace_inner().name.clone(),
                    id: Some(0),
                };
                let handling = run(event);
                Box::pin(async move {
                    match handling {
                        Ok(handling) => {
                            let first = handling.await.into_ack(captured);
                            defer_answer(|reply| settle(first, ticket, reply))
                        }
                        Err(refusal) => refused(refusal),
                    }
                })
            }
            BeginOutcome::Running(mut outcome) => {
                metrics.count(Counter::EventsRepeated);
                Box::pin(async move {
                    // If the first handler fails without an outcome, its sender is dropped, which
                    // also ends this wait.
                    let outcome = outcome.wait_for(Option::is_some).await;
                    match outcome.ok().and_then(|outcome| outcome.clone()) {
                        Some(HandlerOutcome::StoredAnswer(answered)) => {
                            defer_answer(move |reply| answer(reply, &answered))
                        }
                        Some(HandlerOutcome::Refused(refusal)) => refused(refusal),
                        None => {
                            refused(Refusal::internal().because("the first request has failed"))
                        }
                    }
                })
            }
            BeginOutcome::Done(answered) => {
                metrics.count(Counter::EventsRepeated);
                Box::pin(async move { defer_answer(move |reply| answer(reply, &answered)) })
            }
        }
    }
}

/// Stores the answer of a handler, and returns it for the first caller.
fn settle(first: Answer, ticket: Ticket, reply: Reply) -> Answer {
    let answered = match first.outcome {
        AckOutcome::Nothing => StoredAnswer::Nothing,
        AckOutcome::Frame(frame) => match read(reply.parser, &frame) {
            Ok(args) => StoredAnswer::With(args),
            Err(error) => {
                crate::throttled_log!(error, %error, "could not store an acknowledgement, repeated requests get an empty one");
                StoredAnswer::Nothing
            }
        },
        AckOutcome::Refused(refusal) => {
            ticket.refuse(refusal.clone());
            return Answer {
                outcome: AckOutcome::Refused(refusal),
                kept: first.kept,
            };
        }
    };
    let mut answer = answer(reply, &answered);
    answer.kept = first.kept;
    ticket.answer(answered);
    answer
}

fn answer(reply: Reply, answered: &StoredAnswer) -> Answer {
    match answered {
        StoredAnswer::Nothing => Answer::of(AckOutcome::Nothing),
        StoredAnswer::With(args) => reply.with(args),
    }
}

/// Maximum length of a key, in bytes.
const MAX_KEY: usize = 256;
