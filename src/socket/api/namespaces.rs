//! Namespaces that are added and removed while the server runs.

use roomcast_protocol::socket::Nsp;

use super::{Broadcast, NamespaceBuilder, builder::check_name};
use crate::socket::{
    apply::TargetNamespace,
    core::{Io, Namespace},
    types::BuildError,
};

impl Io {
    /// Adds a namespace while the server runs. Clients can connect to it when this returns.
    ///
    /// `define` registers its handlers and middleware, as with
    /// [`Builder::namespace`](crate::Builder::namespace). The leading slash is optional.
    ///
    /// The namespace exists until it is [removed](Self::remove_namespace), whether or not it has
    /// clients. Each server of a cluster must add it, because each has its own handlers. Events
    /// reach the clients of all servers that have the namespace.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use roomcast::{Ack, Event, Io};
    /// # let mut io = Io::builder().namespace("/", |namespace| namespace);
    /// # let server = roomcast::testing::serve(io).await;
    /// # let io = server.io().clone();
    /// let plugin = io.add_namespace("/plugin", |namespace| {
    ///     namespace.on("double", async |_: Event, number: i32| Ack(2 * number))
    /// })?;
    /// # let client = server.client().namespace("/plugin").connect().await?;
    /// # assert_eq!(client.emit_with_ack::<i32>("double", 4).await?, 8);
    /// plugin.emit("ready", ());
    /// assert!(io.remove_namespace("/plugin")); // disconnects its clients
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```js
    /// // the same on the official server
    /// io.of("/plugin").on("connection", (socket) => {
    ///   socket.on("double", (number, reply) => reply(2 * number));
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// - [`BuildError::NamespaceExists`] if a namespace of this name exists, including one created
    ///   on demand.
    /// - [`BuildError::TooManyNamespaces`] if
    ///   [`Config::max_namespaces`](crate::Config::max_namespaces) namespaces were added or created
    ///   on demand.
    /// - [`BuildError::NotBuilt`] if the server is not built yet
    ///   ([`Builder::handle`](crate::Builder::handle)).
    /// - As [`Builder::build`](crate::Builder::build) for the name and the handlers.
    pub fn add_namespace(
        &self,
        name: &str,
        define: impl FnOnce(NamespaceBuilder) -> NamespaceBuilder,
    ) -> Result<Namespace, BuildError> {
        if self.0.built.get().is_none() {
            return Err(BuildError::NotBuilt);
        }
        let name = Nsp::from(name);
        check_name(&name)?;
        let builder = define(NamespaceBuilder::default());
        let handlers = builder.build(|kind| self.states().has(kind))?;
        let inner = self.insert_namespace(&name, handlers)?;
        Ok(Namespace::existing(self.clone(), inner))
    }

    /// Removes a namespace from this server, and disconnects its clients from it. Returns `false`
    /// if it does not exist.
    ///
    /// The clients' connections and other namespaces remain. Each client receives the reason `io
    /// server disconnect`, including a recoverable client that is disconnected. Later `CONNECT`s,
    /// and those whose middleware is still running, fail with `Invalid namespace`. If a predicate
    /// of [`namespaces`](crate::Builder::namespaces) accepts the name, a later `CONNECT` creates
    /// the namespace again.
    ///
    /// Any namespace can be removed, including those of the builder, and added again with other
    /// handlers. Handles of a removed namespace reach the clients of other servers. They also reach
    /// those of a namespace that is added later under the same name.
    ///
    /// Other servers of a cluster keep the namespace, so call this on each server.
    #[expect(clippy::must_use_candidate, reason = "the result is often known")]
    pub fn remove_namespace(&self, name: &str) -> bool {
        let name = Nsp::from(name);
        let fixed = self.fixed_namespace(name.as_str()).cloned();
        let Some(namespace) = fixed.or_else(|| self.made_namespace(&name)) else {
            return false;
        };
        if !namespace.remove() {
            return false;
        }
        // The name is unlisted before the clients are notified, because they may reconnect
        // immediately.
        self.unlist(&namespace);
        let members = Broadcast::new(TargetNamespace::Local(namespace.clone()));
        members.local().disconnect();
        self.announce_removal(&namespace);
        true
    }
}
