//! Where an event meets its handler: [`Catalogue::on`] takes its row and what is done with it, and
//! everything between the two happens here, once for all events.

use std::{future::ready, ptr, sync::Arc};

use futures_util::{FutureExt as _, future::Either};
use serde::{Serialize, de::DeserializeOwned};

use super::errors::tell;
use super::limits::{self, UNKNOWN};
use crate::limit::Users;
use crate::service::{
    Access, Allowed, Argument, Event, EventPolicy, Payload, ServiceError, policy,
};
use roomcast::{Ack, Args, NamespaceBuilder, Refusal, Socket, State};

/// The events of a namespace, as they are registered.
pub(super) struct Catalogue<'a> {
    namespace: &'a mut NamespaceBuilder,
    checks: Arc<EventChecks>,
    /// The events that are handled.
    served: Vec<&'static str>,
}

/// An event that its sender may send: what the handler is called with.
#[derive(Debug)]
pub(super) struct Call<T> {
    /// The socket that it came from.
    pub(super) socket: Socket,
    /// What it asks for, and who does.
    pub(super) allowed: Allowed<T>,
}

/// An async function of a call and a state: what is done with an event.
pub(super) trait Handler<T, S>: Send + Sync + 'static {
    /// The acknowledgement.
    type Fields: Serialize + Send + 'static;
    type Future: Future<Output = Result<Self::Fields, ServiceError>> + Send + 'static;

    fn handle(&self, call: Call<T>, state: State<S>) -> Self::Future;
}

impl<T, S, F, R, A> Handler<T, S> for F
where
    F: Fn(Call<T>, State<S>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<A, ServiceError>> + Send + 'static,
    A: Serialize + Send + 'static,
{
    type Fields = A;
    type Future = R;

    fn handle(&self, call: Call<T>, state: State<S>) -> R {
        self(call, state)
    }
}

impl<'a> Catalogue<'a> {
    /// A catalogue that registers the events in this namespace.
    pub(super) fn new(
        namespace: &'a mut NamespaceBuilder,
        users: Arc<Users>,
        access: Access,
    ) -> Self {
        Self {
            namespace,
            checks: Arc::new(EventChecks { users, access }),
            served: Vec::new(),
        }
    }

    /// What no row is about: who comes and who goes.
    pub(super) fn namespace(&mut self) -> &mut NamespaceBuilder {
        self.namespace
    }

    /// Says what is done with an event that its sender may send. What the handler returns is acknowledged
    /// as `{"success":true, …}`.
    ///
    /// Before it is called, the event is counted in the class of its row, whatever is in it; then its
    /// argument is read whole; then the sender must have the permission of the row.
    pub(super) fn on<T, S>(
        &mut self,
        event: &'static Event<T>,
        handler: impl Handler<T, S, Fields = T::Answer>,
    ) -> &mut Self
    where
        T: Payload,
        S: Send + Sync + 'static,
    {
        self.register(event, handler, false)
    }

    /// Registers an event that waits for those of its socket before it that were registered with
    /// this method.
    pub(super) fn on_serial<T, S>(
        &mut self,
        event: &'static Event<T>,
        handler: impl Handler<T, S, Fields = T::Answer>,
    ) -> &mut Self
    where
        T: Payload,
        S: Send + Sync + 'static,
    {
        self.register(event, handler, true)
    }

    fn register<T, S>(
        &mut self,
        event: &'static Event<T>,
        handler: impl Handler<T, S, Fields = T::Answer>,
        is_serial: bool,
    ) -> &mut Self
    where
        T: Payload,
        S: Send + Sync + 'static,
    {
        let row = event.policy();
        self.serve(row);
        let checks = Arc::clone(&self.checks);
        // No async block: it would have room for the future of the handler twice.
        let handler = move |event: roomcast::Event, state: State<S>| match checks.admit(row, event)
        {
            Ok(call) => {
                let handling = handler.handle(call, state);
                Either::Left(handling.map(|answer| Ok(done(answer?))))
            }
            Err(refusal) => Either::Right(ready(Err::<_, Refusal>(refusal))),
        };
        if is_serial {
            self.namespace.on_serial(row.event, handler);
        } else {
            self.namespace.on(row.event, handler);
        }
        self
    }

    /// Notes an event that the library handles by itself.
    pub(super) fn leave_to_library<T>(&mut self, event: &'static Event<T>) {
        self.serve(event.policy());
    }

    /// Registers what is done with all other events, and with those that fail.
    ///
    /// # Panics
    ///
    /// If an event has a row and no handler, so that no such server starts.
    pub(super) fn finish(self) {
        let unserved = self.unserved();
        assert!(unserved.is_empty(), "nobody handles {unserved:?}");
        let checks = self.checks;
        self.namespace
            .fallback(move |event: roomcast::Event| {
                let counted = limits::take(&checks.users, UNKNOWN, &event);
                ready(counted.and(Err::<(), _>(ServiceError::NotFound("no such event"))))
            })
            .on_error(tell);
    }

    /// The events that have a row and no handler.
    fn unserved(&self) -> Vec<&'static str> {
        let events = policy::events().map(|row| row.event);
        events
            .filter(|event| !self.served.contains(event))
            .collect()
    }

    /// Notes that the event of a row is handled.
    ///
    /// # Panics
    ///
    /// If the row is not in the table of events.
    fn serve(&mut self, row: &'static EventPolicy) {
        let is_listed = policy::find(row.event).is_some_and(|listed| ptr::eq(listed, row));
        assert!(is_listed, "`{}` is not in the table of events", row.event);
        self.served.push(row.event);
    }
}

/// The checks that an event passes before its handler is called.
struct EventChecks {
    users: Arc<Users>,
    access: Access,
}

impl EventChecks {
    fn admit<T: Payload>(
        &self,
        row: &EventPolicy,
        event: roomcast::Event,
    ) -> Result<Call<T>, Refusal> {
        limits::take(&self.users, row.class, &event)?;
        let Argument(command) = only_argument(event.args())?;
        let allowed = self.access.allow(event.principal(), command)?;
        let socket = event.socket;
        Ok(Call { socket, allowed })
    }
}

/// An event has one argument, and no other that would be lost.
pub(super) fn only_argument<T: DeserializeOwned>(args: &Args) -> Result<T, Refusal> {
    if args.len() > 1 {
        let error = ServiceError::Invalid {
            field: "[1]".into(),
            problem: "is one argument too many".into(),
        };
        return Err(error.into());
    }
    Ok(args.get(0)?)
}

/// The acknowledgement of what has been done: `{"success":true, …}`.
fn done<T: Serialize>(fields: T) -> Ack<Done<T>> {
    Ack(Done {
        success: true,
        fields,
    })
}

#[derive(Serialize)]
struct Done<T> {
    success: bool,
    #[serde(flatten)]
    fields: T,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::Roles, config, service::session::REFRESH, store::Store};

    #[tokio::test]
    #[should_panic(expected = "nobody handles [\"message\", \"edit_message\", ")]
    async fn a_server_in_which_nobody_handles_an_event_does_not_start() {
        let store = config::Store {
            url: "memory:".to_owned(),
            ..config::Store::default()
        };
        let (store, _commits) = Store::open(&store, Arc::default()).await.unwrap();
        let auth = config::Auth::default();
        let roles = Roles::new(&auth.roles, 1, Arc::default()).unwrap();
        let access = Access::open(store, roles, Arc::default(), Arc::default(), &auth).await;
        let users = Users::new(&config::Limits::default(), Arc::default());
        let mut io = roomcast::Io::builder();
        let mut catalogue = Catalogue::new(io.namespace("/"), Arc::new(users), access.unwrap());
        catalogue.leave_to_library(&REFRESH);
        catalogue.finish();
    }
}
