//! Looks up the namespace of a `CONNECT`, and creates namespaces on demand.

use std::{
    collections::hash_map::Entry,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use roomcast_protocol::socket::Nsp;

use crate::{
    adapter::NAMESPACE,
    limit::Violation,
    network::Network,
    socket::{
        core::{Built, Connect, Handlers, Io, LogKind, Predicate, namespace},
        types::{BuildError, Refusal},
    },
};

/// The synchronous result of a namespace lookup.
pub(crate) enum Lookup {
    /// The application has defined no such namespace.
    Missing,
    /// The namespace exists, or is created when the client is admitted.
    Found(Arc<Handlers>),
    /// The predicate at this position must decide first.
    Undecided(usize),
}

/// Calls a predicate. A panic counts as `false`.
fn accepts(accept: &dyn Fn(&str) -> bool, name: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| accept(name))).unwrap_or(false)
}

impl Io {
    /// Returns the number of refusals suppressed since the last log line, if a refusal may be
    /// logged now.
    pub(crate) fn may_log_refusal(&self, refusal: &Refusal) -> Option<u64> {
        self.0.refusals.permit(refusal.reason())
    }

    /// Returns the number of log lines suppressed since the last one, if a connect or disconnect of
    /// this address may be logged now.
    pub(crate) fn permit_connection_log(&self, kind: LogKind, address: IpAddr) -> Option<u64> {
        let throttle = self.0.connection_log_throttles.get(kind as usize)?;
        throttle.permit(Network::of_client(address))
    }

    /// Records a refusal as a violation of the client's address. Returns whether the address is now
    /// blocked.
    pub(crate) fn record_violation(&self, refusal: &Refusal, address: IpAddr) -> bool {
        let guard = self.guard().filter(|_| refusal.is_violation());
        guard.is_some_and(|guard| guard.violation(address, Violation::Credentials))
    }

    /// Looks up the namespace of a `CONNECT` without waiting.
    pub(crate) fn lookup_namespace(&self, name: &str) -> Lookup {
        if let Some(namespace) = self.fixed_namespace(name) {
            return Lookup::Found(Arc::clone(&namespace.handlers));
        }
        let Some(built) = self.0.built.get() else {
            return Lookup::Missing;
        };
        // No client may enter the heartbeat namespace, even if a predicate accepts it.
        if name == NAMESPACE {
            return Lookup::Missing;
        }
        if let Some(namespace) = built.made.read().get(&Nsp::from(name)) {
            // The namespace was added, or accepted earlier. Its middleware decides about each
            // client.
            return Lookup::Found(Arc::clone(&namespace.handlers));
        }
        for (position, on_demand) in built.on_demand.iter().enumerate() {
            match &on_demand.accept {
                Predicate::Now(accept) if accepts(accept, name) => {
                    return Lookup::Found(Arc::clone(&on_demand.handlers));
                }
                Predicate::Now(_) => {}
                Predicate::Async(_) => return Lookup::Undecided(position),
            }
        }
        Lookup::Missing
    }

    /// Evaluates predicates from this position on. Returns the handlers of the namespace to create.
    pub(crate) async fn decide_from(
        &self,
        position: usize,
        connect: &Connect,
    ) -> Option<Arc<Handlers>> {
        let on_demand = &self.0.built.get()?.on_demand;
        for on_demand in on_demand.iter().skip(position) {
            let accepted = match &on_demand.accept {
                Predicate::Now(accept) => accepts(accept, connect.namespace()),
                Predicate::Async(decide) => decide(connect.clone()).await,
            };
            if accepted {
                return Some(Arc::clone(&on_demand.handlers));
            }
        }
        None
    }

    /// Returns the namespace for an admitted client. Creates it if necessary.
    pub(crate) fn namespace_to_enter(
        &self,
        name: &Nsp,
        handlers: &Arc<Handlers>,
    ) -> Result<Arc<namespace::NamespaceInner>, Refusal> {
        let Some(built) = self.0.built.get() else {
            return Err(Refusal::internal());
        };
        let is_on_demand = |handlers: &Arc<Handlers>| {
            let mut all = built.on_demand.iter();
            all.any(|on_demand| Arc::ptr_eq(&on_demand.handlers, handlers))
        };
        let enter = |namespace: &Arc<namespace::NamespaceInner>| {
            // If the application removed or added a namespace of this name in the meantime, the
            // client was checked by other middleware.
            let known = &namespace.handlers;
            let may_enter =
                Arc::ptr_eq(known, handlers) || (is_on_demand(known) && is_on_demand(handlers));
            may_enter
                .then(|| Arc::clone(namespace))
                .ok_or_else(Refusal::invalid_namespace)
        };
        if let Some(namespace) = self.fixed_namespace(name.as_str()) {
            return enter(namespace);
        }
        let mut made = built.made.write();
        let full = made.len() >= built.config.sockets.max_namespaces;
        let new = match made.entry(name.clone()) {
            Entry::Occupied(entry) => return enter(entry.get()),
            Entry::Vacant(_) if !is_on_demand(handlers) => {
                return Err(Refusal::invalid_namespace());
            }
            Entry::Vacant(_) if full => return Err(Refusal::new("", "Too many namespaces")),
            Entry::Vacant(entry) => {
                let removed_when_empty = built.config.sockets.cleanup_empty_child_namespaces;
                let new = self.new_namespace(built, name, Arc::clone(handlers), removed_when_empty);
                Arc::clone(entry.insert(new))
            }
        };
        // The lock is released before the adapter is notified, because the closure acquires it
        // again.
        drop(made);
        self.announce_new(&new);
        Ok(new)
    }

    /// Adds a namespace while the server runs.
    pub(crate) fn insert_namespace(
        &self,
        name: &Nsp,
        handlers: Arc<Handlers>,
    ) -> Result<Arc<namespace::NamespaceInner>, BuildError> {
        let built = self.0.built.get().ok_or(BuildError::NotBuilt)?;
        let exists = || BuildError::NamespaceExists(name.as_str().into());
        if self.fixed_namespace(name.as_str()).is_some() {
            return Err(exists());
        }
        let mut made = built.made.write();
        let full = made.len() >= built.config.sockets.max_namespaces;
        let new = match made.entry(name.clone()) {
            Entry::Occupied(_) => return Err(exists()),
            Entry::Vacant(_) if full => return Err(BuildError::TooManyNamespaces),
            Entry::Vacant(entry) => {
                let new = self.new_namespace(built, name, handlers, false);
                Arc::clone(entry.insert(new))
            }
        };
        drop(made);
        self.announce_new(&new);
        Ok(new)
    }

    fn new_namespace(
        &self,
        built: &Built,
        name: &Nsp,
        handlers: Arc<Handlers>,
        removed_when_empty: bool,
    ) -> Arc<namespace::NamespaceInner> {
        Arc::new(namespace::NamespaceInner::new(
            self.downgrade(),
            name.clone(),
            handlers,
            removed_when_empty,
            (built.cluster.clone(), built.node.clone()),
            Arc::clone(&built.config),
            Arc::clone(&self.0.metrics),
        ))
    }

    /// Notifies the adapter and the application of a new namespace. Called without a lock held.
    fn announce_new(&self, new: &Arc<namespace::NamespaceInner>) {
        let name = &new.name;
        self.cluster()
            .namespace_changed(name, || self.has_namespace(name));
        self.notify_created(new);
    }
}
