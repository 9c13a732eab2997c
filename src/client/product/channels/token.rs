use std::{fmt, pin::Pin, sync::Arc};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::ChannelError;

/// A token that allows to use a channel, for kinds with the rule `token`.
///
/// ```
/// use roomcast::client::channels::ChannelToken;
///
/// async fn fresh_token() -> Result<String, std::io::Error> {
///     Ok("token".into())
/// }
///
/// let fixed = ChannelToken::from("token");
/// let fresh = ChannelToken::with(fresh_token);
/// ```
#[derive(Clone)]
pub struct ChannelToken(Arc<Source>);

enum Source {
    Fixed(String),
    Function {
        function: Box<dyn Fn() -> TokenFuture + Send + Sync>,
        /// The token in use.
        current: Mutex<Option<String>>,
    },
}

type TokenFuture = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

impl ChannelToken {
    /// Returns a `ChannelToken` that calls a function when a token is needed: for the first request,
    /// and after a token has expired or was refused. Concurrent requests may each call it.
    ///
    /// The function must finish within the [`timeout`](super::Channel::timeout) of the request.
    pub fn with<F, R, E>(function: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: fmt::Display,
    {
        let function = move || -> TokenFuture {
            let token = function();
            Box::pin(async move { token.await.map_err(|error| error.to_string()) })
        };
        Self(Arc::new(Source::Function {
            function: Box::new(function),
            current: Mutex::default(),
        }))
    }

    /// Returns the token in use.
    pub(super) async fn get(&self, deadline: Instant) -> Result<String, ChannelError> {
        let (function, current) = match &*self.0 {
            Source::Fixed(token) => return Ok(token.clone()),
            Source::Function { function, current } => (function, current),
        };
        if let Some(token) = &*current.lock() {
            return Ok(token.clone());
        }
        let token = timeout_at(deadline, async { function().await }).await;
        let token = token.unwrap_or_else(|_| Err("the function took too long".to_owned()));
        let token = token.map_err(ChannelError::Token)?;
        *current.lock() = Some(token.clone());
        Ok(token)
    }

    /// Makes the next request get another token. Returns whether that is possible.
    pub(super) fn replace(&self) -> bool {
        match &*self.0 {
            Source::Fixed(_) => false,
            Source::Function { current, .. } => {
                *current.lock() = None;
                true
            }
        }
    }
}

impl From<String> for ChannelToken {
    fn from(token: String) -> Self {
        Self(Arc::new(Source::Fixed(token)))
    }
}

impl From<&str> for ChannelToken {
    fn from(token: &str) -> Self {
        token.to_owned().into()
    }
}

impl fmt::Debug for ChannelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token is omitted because it is secret.
        f.write_str(match *self.0 {
            Source::Fixed(_) => "ChannelToken(a text)",
            Source::Function { .. } => "ChannelToken(a function)",
        })
    }
}
