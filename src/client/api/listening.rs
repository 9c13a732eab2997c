use super::{
    Command, Events, Handler, Parameters, Socket,
    command::{Listener, Target},
    handler::{ContractParameters, erase},
};
use crate::{Contract as _, Handling, ListenerId, Replies, Request};

impl Socket {
    /// Calls a handler for each event of this name.
    ///
    /// A handler is an async function of the event's arguments, in the order the server sent them,
    /// and may take the [`Socket`] anywhere among them ([`Parameter`](super::Parameter)). What it
    /// returns is the acknowledgement, as on the server ([`IntoAck`](crate::IntoAck)); of several handlers for one
    /// name all are called, and the first answers. Arguments that do not fit are answered with the
    /// refusal `INVALID_PAYLOAD`, and the handler is not called.
    ///
    /// Handlers start in the order of events, and run in the task of the connection: what takes long
    /// without awaiting belongs in [`tokio::task::spawn_blocking`]. While 1,024 of them wait for
    /// something, nothing is read from the server. A panic fails the one event only.
    ///
    /// A handler that captures a handle keeps the connection for as long as it is registered; one that
    /// takes the socket as a parameter does not.
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
        handler: impl Handler<M, Future: Handling>,
    ) -> ListenerId {
        self.add(self.listener(Some(event), Target::Handler(erase(handler))))
    }

    /// Calls a handler for each typed event; see [`Contract`](crate::Contract). The contract is the
    /// first parameter, and any others may follow.
    pub fn on_contract<M: ContractParameters>(
        &self,
        handler: impl Handler<M, Future: Handling>,
    ) -> ListenerId {
        self.on(M::Contract::EVENT, handler)
    }

    /// Calls a handler for each typed event, which is acknowledged with a value of its type; see
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
        handler: impl Handler<M, Future: Handling>,
    ) -> ListenerId {
        let listener = self.listener(Some(event), Target::Handler(erase(handler)));
        self.add(listener.once())
    }

    /// Calls a handler for every event of the server, before those for its name. Its value is no
    /// acknowledgement. It may take the whole event as an [`Incoming`](super::Incoming).
    pub fn on_any<M: Parameters>(&self, handler: impl Handler<M, Future: Handling>) -> ListenerId {
        self.add(self.listener(None, Target::Handler(erase(handler))))
    }

    /// Calls a handler for every event of the server, before all others that are there now.
    pub fn prepend_any<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: Handling>,
    ) -> ListenerId {
        let listener = self.listener(None, Target::Handler(erase(handler)));
        self.add(listener.first())
    }

    /// Calls a handler for every event when it is sent to the server; not while it waits for a
    /// connection, and again when it is sent again.
    pub fn on_any_outgoing<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: Handling>,
    ) -> ListenerId {
        self.add(self.listener(None, Target::Outgoing(erase(handler))))
    }

    /// Calls a handler for every event that is sent, before all others that are there now.
    pub fn prepend_any_outgoing<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: Handling>,
    ) -> ListenerId {
        let listener = self.listener(None, Target::Outgoing(erase(handler)));
        self.add(listener.first())
    }

    /// Calls a handler no more.
    pub fn off(&self, id: ListenerId) {
        self.command(|shared| Command::Unlisten(shared, id));
    }

    /// The events of this name from now on, as a stream. One that asks for an acknowledgement can be
    /// [answered](super::Incoming::ack) if there is no handler for it.
    ///
    /// Events that nobody takes wait: while they have twice the bytes that one message may have
    /// (32 MiB unless set), nothing is read from the server, which in the end will think the client dead.
    #[must_use]
    pub fn stream(&self, event: &str) -> Events {
        self.events(Some(event))
    }

    /// All events of the server from now on, as a stream.
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
