use std::{
    any::{Any, TypeId},
    sync::Arc,
};

use roomcast_protocol::socket::Value;

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateKind {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl StateKind {
    pub(crate) fn of<T: 'static>() -> Self {
        Self {
            id: TypeId::of::<T>(),
            name: std::any::type_name::<T>(),
        }
    }
}

/// Values by type. A list, because they are few.
#[derive(Clone, Default)]
pub(crate) struct States(Vec<(TypeId, Arc<dyn Any + Send + Sync>)>);

impl States {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a value. Returns the replaced value of the same type.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: Arc<T>) -> Option<Arc<T>> {
        let id = TypeId::of::<T>();
        let value: Arc<dyn Any + Send + Sync> = value;
        if let Some((_, place)) = self.0.iter_mut().find(|(known, _)| *known == id) {
            return std::mem::replace(place, value).downcast().ok();
        }
        self.0.push((id, value));
        None
    }

    /// Adds the values of another list, which replace those of the same types.
    pub(crate) fn extend(&mut self, more: Self) {
        for (id, value) in more.0 {
            match self.0.iter_mut().find(|(known, _)| *known == id) {
                Some((_, place)) => *place = value,
                None => self.0.push((id, value)),
            }
        }
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.find(TypeId::of::<T>())?.downcast_ref()
    }

    pub(crate) fn shared<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.find(TypeId::of::<T>())?).downcast().ok()
    }

    pub(crate) fn has(&self, kind: StateKind) -> bool {
        self.find(kind.id).is_some()
    }

    fn find(&self, id: TypeId) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.0
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, value)| value)
    }
}

impl std::fmt::Debug for States {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("States")
            .field("len", &self.0.len())
            .finish()
    }
}

/// The value that a socket shares with other servers. Stored among its data.
pub(crate) struct Shared(pub(crate) Value);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::States;

    #[test]
    fn value_is_found_by_type_and_replaced_by_same_type() {
        let mut states = States::default();
        assert!(states.insert(Arc::new(1_u8)).is_none());
        assert!(states.insert(Arc::new("text")).is_none());
        assert_eq!(states.get::<u8>(), Some(&1));
        assert_eq!(states.insert(Arc::new(2_u8)).as_deref(), Some(&1));
        assert_eq!(states.shared::<u8>().as_deref(), Some(&2));
        assert_eq!(states.get::<u16>(), None);
        let mut more = States::default();
        more.insert(Arc::new(3_u8));
        more.insert(Arc::new(4_u16));
        states.extend(more);
        assert_eq!(states.get::<u8>(), Some(&3));
        assert_eq!(states.get::<u16>(), Some(&4));
        assert_eq!(states.get::<&str>(), Some(&"text"));
    }
}
