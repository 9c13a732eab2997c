//! Where keys come from while the server runs.

use std::sync::Arc;

use parking_lot::RwLock;

use super::Keys;

/// The keys in force. They are replaced as a whole.
#[derive(Debug)]
pub(crate) struct KeyRing {
    keys: RwLock<Arc<Keys>>,
}

impl KeyRing {
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            keys: RwLock::new(Arc::new(keys)),
        }
    }

    pub(crate) fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read())
    }

    /// Looks for newer keys where that is possible. `true`: there may be some.
    pub(crate) async fn renew(&self) -> bool {
        false
    }
}
