use std::collections::HashMap;

use super::command::{Listener, Target};
use crate::socket::ListenerId;

/// All listeners of a socket, in call order.
#[derive(Default)]
pub(crate) struct Listeners {
    any: Vec<Listener>,
    named: HashMap<Box<str>, Vec<Listener>>,
    outgoing: Vec<Listener>,
}

impl Listeners {
    pub(crate) fn add(&mut self, listener: Listener) {
        let list = match (&listener.target, &listener.event) {
            (Target::Outgoing(_), _) => &mut self.outgoing,
            (Target::Handler(_) | Target::Stream(_), None) => &mut self.any,
            (Target::Handler(_) | Target::Stream(_), Some(event)) => {
                self.named.entry(event.clone()).or_default()
            }
        };
        if listener.is_first {
            list.insert(0, listener);
        } else {
            list.push(listener);
        }
    }

    pub(crate) fn remove(&mut self, id: ListenerId) {
        let other = |listener: &Listener| listener.id != id;
        self.any.retain(other);
        self.outgoing.retain(other);
        self.named.retain(|_, list| {
            list.retain(other);
            !list.is_empty()
        });
    }

    /// Returns the listeners for all events.
    pub(crate) fn of_any(&self) -> Vec<Target> {
        targets(&self.any)
    }

    /// Returns the listeners for this event, and removes those registered for one event only.
    pub(crate) fn take_named(&mut self, event: &str) -> Vec<Target> {
        let Some(list) = self.named.get_mut(event) else {
            return Vec::new();
        };
        let found = targets(list);
        list.retain(|listener| !listener.is_once);
        if list.is_empty() {
            self.named.remove(event);
        }
        found
    }

    /// Returns the listeners for sent events.
    pub(crate) fn of_outgoing(&self) -> Vec<Target> {
        targets(&self.outgoing)
    }
}

fn targets(list: &[Listener]) -> Vec<Target> {
    list.iter()
        .map(|listener| listener.target.clone())
        .collect()
}
