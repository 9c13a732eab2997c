use super::{
    Command, Events, Handler, Parameters, Socket,
    command::{Listener, Target},
    handler::{ContractParameters, erase},
};
use crate::{
    Contract as _, Request,
    socket::{HandlerFuture, ListenerId, Replies},
};

impl Socket {
    /// Calls a handler for each event of this name.
    ///
    /// A handler is an async function of the event's arguments, in the order the server sent them.
    /// The [`Socket`] may be a parameter at any position ([`Parameter`](super::Parameter)). The
    /// return value is the acknowledgement, as on the server
    /// ([`IntoAck`](crate::handler::IntoAck)). If a name has several handlers, all are called and
    /// the first one acknowledges. If the arguments do not match, the client acknowledges with the
    /// refusal `INVALID_PAYLOAD` and does not call the handler.
    ///
    /// Handlers start in event order and run in the connection's task. Run blocking work in
    /// [`tokio::task::spawn_blocking`]. While 1,024 handlers are pending, the client does not read
    /// from the server. A panic fails only its event.
    ///
    /// A handler that captures a handle keeps the connection open while it is registered. A handler
    /// that takes the socket as a parameter does not.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), roomcast::client::ClientError> {
    /// use roomcast::{Ack, client::{Client, DisconnectReason, Socket}};
    ///
    /// let socket = Client::builder("http://localhost:3000").socket()?;
    /// socket.on("connect", async |socket: Socket| socket.emit("join", "lobby"));
    /// socket.on("disconnect", async |reason: DisconnectReason| println!("{reason}"));
    /// socket.on("said", async |who: String, text: String| println!("{who}: {text}"));
    /// socket.on("add", async |a: u32, b: u32| Ack(a + b));
    /// socket.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on<M: Parameters>(
        &self,
        event: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> ListenerId {
        self.add(self.listener(Some(event), Target::Handler(erase(handler))))
    }

    /// Calls a handler for each typed event; see [`Contract`](crate::Contract). The contract is the
    /// first parameter; other parameters may follow.
    pub fn on_contract<M: ContractParameters>(
        &self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> ListenerId {
        self.on(M::Contract::EVENT, handler)
    }

    /// Calls a handler for each typed event and acknowledges with a value of the reply type; see
    /// [`Request`].
    pub fn on_request<M>(
        &self,
        handler: impl Handler<
            M,
            Future: Future<Output: Replies<<M::Contract as Request>::Reply>> + Send + 'static,
        >,
    ) -> ListenerId
    where
        M: ContractParameters<Contract: Request>,
    {
        self.on(M::Contract::EVENT, handler)
    }

    /// Calls a handler for the next event of this name only.
    pub fn once<M: Parameters>(
        &self,
        event: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> ListenerId {
        self.add(Listener {
            is_once: true,
            ..self.listener(Some(event), Target::Handler(erase(handler)))
        })
    }

    /// Calls a handler for every event of the server, before the handlers for its name.
    ///
    /// The return value is not an acknowledgement. The handler may take the whole event as an
    /// [`Incoming`](super::Incoming).
    pub fn on_any<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> ListenerId {
        self.add(self.listener(None, Target::Handler(erase(handler))))
    }

    /// Calls a handler for every event of the server, before all handlers registered so far.
    pub fn prepend_any<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> ListenerId {
        self.add(Listener {
            is_first: true,
            ..self.listener(None, Target::Handler(erase(handler)))
        })
    }

    /// Calls a handler for every event at the moment that it is sent to the server.
    ///
    /// Events that wait for a connection are not reported until then. Repeated sends are reported
    /// again.
    pub fn on_any_outgoing<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> ListenerId {
        self.add(self.listener(None, Target::Outgoing(erase(handler))))
    }

    /// Calls a handler for every sent event, before all handlers registered so far.
    pub fn prepend_any_outgoing<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> ListenerId {
        self.add(Listener {
            is_first: true,
            ..self.listener(None, Target::Outgoing(erase(handler)))
        })
    }

    /// Removes a handler.
    pub fn off(&self, id: ListenerId) {
        self.command(|shared| Command::Unlisten(shared, id));
    }

    /// Returns a stream of future events of this name.
    ///
    /// If no handler is registered for the name, the application can
    /// [acknowledge](super::Incoming::ack) the events of the stream.
    ///
    /// Unread events are queued. The limit is twice the maximum message size, 32 MiB by default.
    /// While a queue is full, the client does not read from the server, which eventually times the
    /// client out.
    #[must_use]
    pub fn stream(&self, event: &str) -> Events {
        self.events(Some(event))
    }

    /// Returns a stream of all future events of the server.
    #[must_use]
    pub fn stream_any(&self) -> Events {
        self.events(None)
    }

    fn events(&self, event: Option<&str>) -> Events {
        let id = self.client().next_listener();
        let room = self
            .client()
            .handle()
            .settings
            .target
            .options
            .max_message
            .saturating_mul(2);
        let (events, sink) = Events::new(self.clone(), id, room);
        self.add(Listener::new(id, event, Target::Stream(sink)));
        events
    }

    fn listener(&self, event: Option<&str>, target: Target) -> Listener {
        Listener::new(self.client().next_listener(), event, target)
    }

    fn add(&self, listener: Listener) -> ListenerId {
        let id = listener.id;
        self.command(|shared| Command::Listen(shared, listener));
        id
    }
}
