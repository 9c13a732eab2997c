//! Looks up the namespace that a client asks for, and makes namespaces that exist on demand.

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
        core::{Built, Connect, Handlers, Io, Predicate, namespace},
        types::{BuildError, Refusal},
    },
};

/// What is known at once of a namespace that a client asks for.
pub(crate) enum Lookup {
    /// The application has registered no such namespace.
    Missing,
    /// The namespace exists, or is made when the client is admitted.
    Found(Arc<Handlers>),
    /// The predicate at this position must be asked first.
    Ask(usize),
}

/// A predicate that panics accepts nothing.
fn accepts(accept: &dyn Fn(&str) -> bool, name: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| accept(name))).unwrap_or(false)
}

impl Io {
    /// Returns `Some` if a refusal may be logged now, with the number of refusals that were not
    /// logged since the last one.
    pub(crate) fn may_log_refusal(&self) -> Option<u64> {
        self.0.refusals.permit()
    }

    /// Returns `Some` if a line about a client of this address that connects or disconnects may be
    /// logged now, with the number of lines left out since the last one.
    pub(crate) fn may_log_coming(&self, address: IpAddr) -> Option<u64> {
        self.0.comings.permit(Network::of_client(address))
    }

    /// Whether a refusal is one too many of its client's address, which is shut out then.
    pub(crate) fn blame(&self, refusal: &Refusal, address: IpAddr) -> bool {
        let guard = self.guard().filter(|_| refusal.is_blamed());
        guard.is_some_and(|guard| guard.violation(address, Violation::Credentials))
    }

    /// Looks up a namespace that a client asks for, as far as can be told without waiting.
    pub(crate) fn lookup_namespace(&self, name: &str) -> Lookup {
        if let Some(namespace) = self.fixed_namespace(name) {
            return Lookup::Found(Arc::clone(&namespace.handlers));
        }
        let Some(built) = self.0.built.get() else {
            return Lookup::Missing;
        };
        // No client gets into the namespace of heartbeats, whatever a predicate says.
        if name == NAMESPACE {
            return Lookup::Missing;
        }
        if let Some(namespace) = built.made.read().get(&Nsp::from(name)) {
            // The namespace was added, or accepted once; its middleware decides about each client.
            return Lookup::Found(Arc::clone(&namespace.handlers));
        }
        for (position, on_demand) in built.on_demand.iter().enumerate() {
            match &on_demand.accept {
                Predicate::Now(accept) if accepts(accept, name) => {
                    return Lookup::Found(Arc::clone(&on_demand.handlers));
                }
                Predicate::Now(_) => {}
                Predicate::Ask(_) => return Lookup::Ask(position),
            }
        }
        Lookup::Missing
    }

    /// Asks whether a namespace is to be made for a client, from this predicate on.
    pub(crate) async fn ask_at(&self, position: usize, connect: &Connect) -> Option<Arc<Handlers>> {
        let on_demand = &self.0.built.get()?.on_demand;
        for on_demand in on_demand.iter().skip(position) {
            let accepted = match &on_demand.accept {
                Predicate::Now(accept) => accepts(accept, connect.namespace()),
                Predicate::Ask(ask) => ask(connect.clone()).await,
            };
            if accepted {
                return Some(Arc::clone(&on_demand.handlers));
            }
        }
        None
    }

    /// The namespace for a client that may enter it, made if need be.
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
            // Other middleware has asked the client than that of this namespace if the application has
            // removed or added a namespace of this name in the meantime.
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
                let goes_when_empty = built.config.sockets.cleanup_empty_child_namespaces;
                let new = self.new_namespace(built, name, Arc::clone(handlers), goes_when_empty);
                Arc::clone(entry.insert(new))
            }
        };
        // The table is let go of before the adapter hears of the change, because the closure looks into it once more.
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
        goes_when_empty: bool,
    ) -> Arc<namespace::NamespaceInner> {
        Arc::new(namespace::NamespaceInner::new(
            self.downgrade(),
            name.clone(),
            handlers,
            goes_when_empty,
            (built.cluster.clone(), built.node.clone()),
            Arc::clone(&built.config),
            Arc::clone(&self.0.metrics),
        ))
    }

    /// Tells the adapter and the application of a new namespace. Called without any lock held.
    fn announce_new(&self, new: &Arc<namespace::NamespaceInner>) {
        let name = &new.name;
        self.cluster()
            .namespace_changed(name, || self.has_namespace(name));
        self.tell_created(new);
    }
}
