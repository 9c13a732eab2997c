//! Handlers that run once for every key of a user.

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use roomcast_protocol::socket::Value;

use super::table::{Answered, Begun, Bounds, Table, Ticket, Verdict};
use crate::{
    metrics::Counter,
    socket::{
        core::Event,
        dispatch::{Handler, Handling, Needs, Parameters},
        types::{AckOutcome, Answer, IntoAck, Refusal, Reply, args::read},
    },
};

/// A handler that runs once for every key of a user: who repeats an event gets the answer of the
/// first one.
///
/// `key` finds in an event what makes it the same as another one: [`field`] and [`argument`] name a
/// part of its arguments, and any function of the [`Event`] will do. `None` is an event that is the
/// same as no other one.
///
/// ```
/// use roomcast::{Ack, Event, Io, field, idempotent};
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
/// let mut io = Io::builder();
/// io.namespace("/").on_serial("order", idempotent(field("orderId"), order));
/// # io.build().unwrap();
/// ```
///
/// ```js
/// const socket = io({ retries: 3, ackTimeout: 5000 });
/// socket.emit("order", { orderId: crypto.randomUUID(), amount: 3 }, (error, amount) => {});
/// ```
///
/// - Two events are the same if namespace, user and key are: the user is the subject of the
///   [`Principal`](crate::Principal), on whichever connection; for anonymous clients it is the
///   socket. The other arguments are not compared.
/// - A repeat that comes while the first one is still at work waits for it. That one goes on when
///   its client leaves.
/// - What is remembered is the answer. An event that was refused, whose handler panicked, or whose
///   arguments did not fit has done nothing, so it may be tried again: a repeat runs.
/// - It is remembered for [`window`](Idempotent::window), in the memory of this server, and not
///   longer than there is room. What must survive that needs the key in its own store.
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

/// The key is this field of the first argument: a text, or a whole number.
pub fn field(name: &'static str) -> impl Fn(&Event) -> Option<String> + Send + Sync + 'static {
    move |event| {
        let Value::Object(mut fields) = event.args().get(0).ok()? else {
            return None;
        };
        text(fields.remove(name)?)
    }
}

/// The key is the argument at this position: a text, or a whole number.
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

/// What [`idempotent`] makes of a handler.
#[must_use = "it is a handler, to be given to `on`"]
pub struct Idempotent<K, H> {
    key: K,
    handler: H,
    bounds: Bounds,
    table: Arc<Table>,
}

impl<K, H> Idempotent<K, H> {
    /// How long an answer is remembered, from when it was given. Default 10 min.
    pub fn window(mut self, window: Duration) -> Self {
        self.bounds.window = window;
        self
    }

    /// How many answers are remembered; the oldest go first. Default 100,000.
    pub fn max_keys(mut self, keys: usize) -> Self {
        self.bounds.keys = keys;
        self
    }

    /// How many answers are remembered of one user, so that none makes room at the cost of others.
    /// Default 1,000.
    pub fn max_keys_per_user(mut self, keys: usize) -> Self {
        self.bounds.keys_of_user = keys;
        self
    }

    /// How many bytes all answers may have that are remembered; the oldest go first. Default 64 MiB.
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

/// The parameters of the handler inside, which are not taken before it is known that it runs.
#[doc(hidden)]
#[expect(unnameable_types, reason = "nobody writes it")]
#[derive(Debug)]
pub struct ByKey<M>(PhantomData<fn() -> M>);

impl<M: Parameters> Parameters for ByKey<M> {
    fn take(_: &Event) -> Result<Self, Refusal> {
        Ok(Self(PhantomData))
    }

    fn needs() -> Vec<Needs> {
        M::needs()
    }
}

/// An answer that is made once it is known where it goes.
#[doc(hidden)]
#[expect(
    unnameable_types,
    missing_debug_implementations,
    reason = "nobody writes it"
)]
pub struct Later(Box<dyn FnOnce(Reply) -> Answer>);

#[diagnostic::do_not_recommend]
impl IntoAck for Later {
    fn into_ack(self, reply: Reply) -> Answer {
        (self.0)(reply)
    }
}

fn later(answer: impl FnOnce(Reply) -> Answer + 'static) -> Later {
    Later(Box::new(answer))
}

fn refused(refusal: Refusal) -> Later {
    later(|_| Answer(AckOutcome::Refused(refusal)))
}

#[diagnostic::do_not_recommend]
impl<M, K, H> Handler<ByKey<M>> for Idempotent<K, H>
where
    M: Parameters,
    H: Handler<M, Future: Handling>,
    K: Fn(&Event) -> Option<String> + Send + Sync + 'static,
{
    type Future = BoxFuture<'static, Later>;

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
                        later(move |reply| value.into_ack(reply))
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
            Begun::First(ticket) => {
                // The answer is made under an id that is only a placeholder, and sent again under that of each who asks.
                let captured = Reply {
                    parser: event.io().config().sockets.parser,
                    nsp: event.socket.namespace_inner().name.clone(),
                    id: Some(0),
                };
                let handling = run(event);
                Box::pin(async move {
                    match handling {
                        Ok(handling) => {
                            let given = handling.await.into_ack(captured);
                            later(|reply| settle(given, ticket, reply))
                        }
                        Err(refusal) => refused(refusal),
                    }
                })
            }
            Begun::Running(mut verdict) => {
                metrics.count(Counter::EventsRepeated);
                Box::pin(async move {
                    // If the first handler fails without a verdict, its sender is dropped, which ends this wait as well.
                    let verdict = verdict.wait_for(Option::is_some).await;
                    match verdict.ok().and_then(|verdict| verdict.clone()) {
                        Some(Verdict::Answered(answered)) => {
                            later(move |reply| answer(reply, &answered))
                        }
                        Some(Verdict::Refused(refusal)) => refused(refusal),
                        None => refused(Refusal::internal().because("the first one has failed")),
                    }
                })
            }
            Begun::Done(answered) => {
                metrics.count(Counter::EventsRepeated);
                Box::pin(async move { later(move |reply| answer(reply, &answered)) })
            }
        }
    }
}

/// Remembers what a handler has answered, and gives it to who asked first.
fn settle(given: Answer, ticket: Ticket, reply: Reply) -> Answer {
    let answered = match given.0 {
        AckOutcome::Nothing => Answered::Nothing,
        AckOutcome::Frame(frame) => match read(reply.parser, &frame) {
            Ok(args) => Answered::With(args),
            Err(error) => {
                crate::throttled_log!(error, %error, "an answer of ours cannot be read back");
                Answered::Nothing
            }
        },
        AckOutcome::Refused(refusal) => {
            ticket.refuse(refusal.clone());
            return Answer(AckOutcome::Refused(refusal));
        }
    };
    let answer = answer(reply, &answered);
    ticket.answer(answered);
    answer
}

fn answer(reply: Reply, answered: &Answered) -> Answer {
    match answered {
        Answered::Nothing => Answer(AckOutcome::Nothing),
        Answered::With(args) => reply.with(args),
    }
}

/// Bytes of a key.
const MAX_KEY: usize = 256;
