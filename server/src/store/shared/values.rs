//! Values and locks that the servers of a store share, for [`roomcast::Io::values`].

#![cfg_attr(
    not(feature = "postgres"),
    allow(unused_variables, reason = "without PostgreSQL no store is shared")
)]

use std::{sync::Arc, time::Duration};

use roomcast::adapter::{
    BoxFuture,
    values::{Expected, Put, StoredValue, ValueError, ValueStore},
};

use super::SharedBackend;
#[cfg(feature = "postgres")]
use crate::store::StoreError;

/// Shared values and locks of a store; implements [`ValueStore`].
///
/// If the answer to a change is lost, the change may have been made. Its repetition then conflicts
/// with itself. Read the value again, as after any conflict.
#[derive(Clone, Debug)]
pub struct SharedValues(pub(super) SharedBackend);

#[cfg(feature = "postgres")]
fn unavailable(error: StoreError) -> ValueError {
    ValueError::Unavailable(error.to_string())
}

impl ValueStore for SharedValues {
    fn get(&self, key: &str) -> BoxFuture<Result<Option<StoredValue>, ValueError>> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                let postgres = postgres.clone();
                let key = key.to_owned();
                Box::pin(async move { postgres.value(&key).await.map_err(unavailable) })
            }
        }
    }

    fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> BoxFuture<Result<Put, ValueError>> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                let postgres = postgres.clone();
                let key = key.to_owned();
                Box::pin(async move {
                    let put = match text {
                        Some(text) => postgres.put_value(&key, expected, &text).await,
                        None => postgres.remove_value(&key, expected).await.map(Some),
                    };
                    put.map_err(unavailable)?.ok_or(ValueError::Full)
                })
            }
        }
    }

    fn lock(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> BoxFuture<Result<Option<u64>, ValueError>> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                let postgres = postgres.clone();
                let (name, holder) = (name.to_owned(), holder.to_owned());
                Box::pin(async move {
                    let locked = postgres.lock_shared(&name, &holder, lease).await;
                    locked.map_err(unavailable)
                })
            }
        }
    }

    fn renew(
        &self,
        name: &str,
        fence: u64,
        lease: Duration,
    ) -> BoxFuture<Result<bool, ValueError>> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                let postgres = postgres.clone();
                let name = name.to_owned();
                Box::pin(async move {
                    let renewed = postgres.renew_shared(&name, fence, lease).await;
                    renewed.map_err(unavailable)
                })
            }
        }
    }

    fn unlock(&self, name: &str, fence: u64) -> BoxFuture<Result<bool, ValueError>> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                let postgres = postgres.clone();
                let name = name.to_owned();
                Box::pin(async move {
                    let unlocked = postgres.unlock_shared(&name, fence).await;
                    unlocked.map_err(unavailable)
                })
            }
        }
    }
}
