use std::{fmt, pin::Pin, sync::Arc};

use serde_json::Value;

/// The payload of a socket's `CONNECT`, for the server's authentication.
///
/// ```
/// use roomcast::client::Auth;
/// use serde_json::json;
///
/// async fn fresh_token() -> Result<String, std::io::Error> {
///     Ok("token".into())
/// }
///
/// let fixed = Auth::from(json!({"token": "secret"}));
/// let fresh = Auth::with(async || Ok::<_, std::io::Error>(json!({"token": fresh_token().await?})));
/// ```
#[derive(Clone, Default)]
pub struct Auth(pub(crate) Kind);

#[derive(Clone, Default)]
pub(crate) enum Kind {
    #[default]
    Nothing,
    Value(Value),
    Function(Arc<dyn Fn() -> AuthFuture + Send + Sync>),
}

/// The payload from a function of the application: an object, or an error message.
pub(crate) type AuthFuture = Pin<Box<dyn Future<Output = Result<Value, String>> + Send>>;

impl Auth {
    /// Returns an `Auth` that calls a function before each `CONNECT`, also after each reconnect.
    ///
    /// The returned value must be an object. The function must finish within the
    /// [`connect_timeout`](super::super::ClientBuilder::connect_timeout). If it fails, the socket
    /// emits `connect_error` with the message and stays disconnected until the application connects
    /// it again.
    pub fn with<F, R, E>(function: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Value, E>> + Send + 'static,
        E: fmt::Display,
    {
        Self(Kind::Function(Arc::new(move || {
            let made = function();
            Box::pin(async move { made.await.map_err(|error| error.to_string()) })
        })))
    }
}

/// Sends the same value each time. It must be an object.
impl From<Value> for Auth {
    fn from(value: Value) -> Self {
        Self(Kind::Value(value))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value is omitted because it is secret.
        f.write_str(match self.0 {
            Kind::Nothing => "Auth(nothing)",
            Kind::Value(_) => "Auth(a value)",
            Kind::Function(_) => "Auth(a function)",
        })
    }
}
