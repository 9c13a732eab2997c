//! Namespaces that are added and removed while the server runs.

use roomcast_protocol::socket::Nsp;

use super::{Broadcast, NamespaceBuilder, builder::check_name};
use crate::socket::{
    apply::TargetNamespace,
    core::{Io, Namespace},
    types::BuildError,
};

impl Io {
    /// Adds a namespace while the server runs. `define` registers its handlers and middleware, as
    /// [`Builder::namespace`](crate::Builder::namespace) does before. The leading slash may be left
    /// out. Clients can connect to it as soon as this returns.
    ///
    /// The namespace exists until it is [removed](Self::remove_namespace), whether it has clients or
    /// not. Each server of a cluster adds its own, because each has its own handlers; events reach the
    /// clients of all servers that have it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use roomcast::{Ack, Event, Io};
    /// # let mut io = Io::builder();
    /// # io.namespace("/");
    /// # let server = roomcast::testing::serve(io).await;
    /// # let io = server.io().clone();
    /// let plugin = io.add_namespace("/plugin", |namespace| {
    ///     namespace.on("double", async |_: Event, number: i32| Ack(2 * number));
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
    /// - [`BuildError::NamespaceExists`] if a namespace of this name exists, also one that was made on
    ///   demand.
    /// - [`BuildError::TooManyNamespaces`] if
    ///   [`Config::max_namespaces`](crate::Config::max_namespaces) were made on demand or added.
    /// - [`BuildError::NotBuilt`] for the [handle](crate::Builder::handle) of a server that is not built.
    /// - As [`Builder::build`](crate::Builder::build) for the name and the handlers.
    pub fn add_namespace(
        &self,
        name: &str,
        define: impl FnOnce(&mut NamespaceBuilder),
    ) -> Result<Namespace, BuildError> {
        if self.0.built.get().is_none() {
            return Err(BuildError::NotBuilt);
        }
        let name = Nsp::from(name);
        check_name(&name)?;
        let mut builder = NamespaceBuilder::new();
        define(&mut builder);
        let handlers = builder.build(|kind| self.states().has(kind))?;
        let inner = self.insert_namespace(&name, handlers)?;
        Ok(Namespace::existing(self.clone(), inner))
    }

    /// Removes a namespace from this server, and disconnects its clients from it. Their connections
    /// and their other namespaces stay. Returns `false` if there is no such namespace.
    ///
    /// Every client gets the reason `io server disconnect`, also one that is away and would have
    /// [recovered](crate::options::Recovery). A client that asks for the namespace afterwards gets
    /// `Invalid namespace`, unless a predicate of
    /// [`namespaces`](crate::Builder::namespaces) accepts the name: then the namespace is made again.
    /// A client whose middleware is still being asked gets `Invalid namespace` as well. Any namespace
    /// can be removed, also one of the builder, and can be added again with other handlers. Handles of a
    /// removed namespace reach the clients of other servers, and those of a namespace that was added
    /// again under the same name.
    ///
    /// Other servers of a cluster keep theirs: call this on each.
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
        // The name is free again before the clients are told, which may ask for it at once.
        self.unlist(&namespace);
        let members = Broadcast::new(TargetNamespace::Local(namespace.clone()));
        members.local().disconnect(false);
        self.announce_removal(&namespace);
        true
    }
}
