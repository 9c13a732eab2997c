//! Functions with which an application decides about requests and sessions.
//!
//! Functions that wait run in the task of the request, before any part of the session exists. They
//! are limited in time and in number. So a slow function delays only its own client.

use std::pin::Pin;

use http::HeaderMap;

use super::{error::ConnectionError, view::EngineRequest};
use crate::engine::primitives::OnStall;

/// The refusal of [`Builder::allow_request`](crate::Builder::allow_request), with a message, by
/// default `Forbidden`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    message: Box<str>,
    is_violation: bool,
}

impl Forbidden {
    /// Creates the default refusal for invalid credentials. With a [guard](crate::Builder::guard),
    /// it counts towards an automatic block of the client's address
    /// ([`AddressLimits::block_after_credentials`](crate::options::AddressLimits)).
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self {
            is_violation: true,
            ..Self::default()
        }
    }

    pub(in crate::engine) fn is_violation(&self) -> bool {
        self.is_violation
    }

    pub(in crate::engine) fn into_message(self) -> Box<str> {
        self.message
    }
}

impl Default for Forbidden {
    fn default() -> Self {
        "Forbidden".into()
    }
}

impl From<()> for Forbidden {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<&str> for Forbidden {
    fn from(message: &str) -> Self {
        Self {
            message: message.into(),
            is_violation: false,
        }
    }
}

impl From<String> for Forbidden {
    fn from(message: String) -> Self {
        message.as_str().into()
    }
}

type Decision<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type OnRequest<T, E> = Box<dyn Fn(EngineRequest) -> Decision<T, E> + Send + Sync>;
type OnError = Box<dyn Fn(&ConnectionError) + Send + Sync>;
/// Returns whether an origin is allowed.
pub(crate) type IsAllowed = dyn Fn(&str) -> bool + Send + Sync;
type OnHeaders = Box<dyn Fn(&mut HeaderMap, &EngineRequest) + Send + Sync>;

/// The functions that the application has set. Unset functions cost nothing.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) allow_request: Option<OnRequest<(), Forbidden>>,
    pub(crate) generate_id: Option<OnRequest<String, String>>,
    pub(crate) cors_origin: Option<Box<IsAllowed>>,
    pub(crate) initial_headers: Option<OnHeaders>,
    pub(crate) headers: Option<OnHeaders>,
    pub(crate) connection_error: Option<OnError>,
    pub(crate) stall: Option<OnStall>,
}

impl Hooks {
    /// Returns whether any function may use requests.
    pub(in crate::engine) fn need_requests(&self) -> bool {
        self.allow_request.is_some()
            || self.generate_id.is_some()
            || self.initial_headers.is_some()
            || self.headers.is_some()
            || self.connection_error.is_some()
    }

    /// Lets the functions add headers to a response.
    pub(in crate::engine) fn complete(
        &self,
        headers: &mut HeaderMap,
        is_initial: bool,
        request: &EngineRequest,
    ) {
        let initial = self.initial_headers.as_ref().filter(|_| is_initial);
        for hook in initial.into_iter().chain(&self.headers) {
            hook(headers, request);
        }
    }
}
