//! Handlers of routes that only call a service. They stand beside the description of their route.

/// A handler that passes the command of a request to a service, and responds with the returned
/// value as JSON: `forward!(Path(user): Path<String> => market.portfolio(ReadPortfolio { user }))`.
///
/// The service is a field of [`Api`](super::api::Api). The caller needs the permission of the
/// command. After the command, the method may take the `namespace` of the chat. A function takes
/// `io` before the command.
macro_rules! forward {
    ($($of:ident($($name:tt)+): $from:ty),+ => $function:ident(io, $command:expr)) => {
        $crate::http::forwarding::handler!(at by [$($of($($name)+): $from),+]
            at.access.allow(by, $command), allowed => $function(at.io(), allowed))
    };
    ($($of:ident($($name:tt)+): $from:ty),+ =>
        $service:ident.$method:ident($command:expr $(, $namespace:ident)?)) => {
        $crate::http::forwarding::handler!(at by [$($of($($name)+): $from),+]
            at.access.allow(by, $command),
            allowed => at.$service.$method(allowed $(, &at.$namespace())?))
    };
}

/// A handler like [`forward`] for a command of clients, which the caller executes as itself.
macro_rules! serve {
    ($($of:ident($($name:tt)+): $from:ty),+ => $service:ident.$method:ident($command:expr)) => {
        $crate::http::forwarding::handler!(at by [$($of($($name)+): $from),+]
            at.access.allow_served(by, None, $command),
            allowed => at.$service.$method(allowed, None))
    };
}

macro_rules! handler {
    ($at:ident $by:ident [$($parameter:tt)+] $allow:expr, $allowed:ident => $call:expr) => {
        async |axum::extract::State($at): axum::extract::State<$crate::http::api::Api>,
               axum::Extension($by): $crate::http::api::By,
               $($parameter)+| {
            let $allowed = $allow?;
            Ok::<_, $crate::http::api::ApiError>(axum::Json($call.await?))
        }
    };
}

pub(in crate::http) use {forward, handler, serve};
