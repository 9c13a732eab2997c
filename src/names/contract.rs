use roomcast_protocol::socket::Argument;
use serde::Serialize;

/// An event whose name and payload type are tied together, so that they cannot disagree.
///
/// An implementation lets [`send`](crate::Broadcast::send) omit the name.
/// [`on_contract`](crate::NamespaceBuilder::on_contract) handles incoming events the same way.
/// Servers, the clients of the modules `client` and `testing`,
/// [`RemoteSocket`](crate::broadcast::RemoteSocket) and `Emitter` have these methods too. A
/// contract with an acknowledgement is a [`Request`].
///
/// ```
/// use roomcast::{Contract, Event, Io};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Message {
///     content: String,
/// }
///
/// impl Contract for Message {
///     const EVENT: &'static str = "message";
/// }
///
/// let io = Io::builder().namespace("/", |namespace| {
///     namespace.on_contract(async |event: Event, message: Message| {
///         event.socket.broadcast().send(message);
///     })
/// });
/// # io.build()?;
/// # Ok::<(), roomcast::BuildError>(())
/// ```
///
/// The corresponding JavaScript client:
///
/// ```js
/// socket.on("message", ({ content }) => console.log(content));
/// socket.emit("message", { content: "hi" });
/// ```
///
/// A type that serialises as a tuple is sent as several arguments, any other type as one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which event it is",
    note = "implement `roomcast::Contract` for it: `const EVENT: &'static str = \"…\";`"
)]
pub trait Contract: Serialize {
    /// The name of the event.
    const EVENT: &'static str;
}

/// A [`Contract`] whose acknowledgement has a fixed type.
///
/// `request` sends it and returns the reply. [`on_request`](crate::NamespaceBuilder::on_request)
/// registers a handler, and accepts only handlers that acknowledge with `Ack<Reply>` or a `Result`
/// of it.
///
/// ```
/// use roomcast::{Ack, Contract, Event, Io, Refusal, Request};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Add {
///     a: i32,
///     b: i32,
/// }
///
/// impl Contract for Add {
///     const EVENT: &'static str = "add";
/// }
///
/// impl Request for Add {
///     type Reply = i32;
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let io = Io::builder().namespace("/", |namespace| {
///     namespace.on_request(async |_: Event, add: Add| {
///         let sum = add.a.checked_add(add.b);
///         sum.map(Ack).ok_or(Refusal::new("OVERFLOW", "too large"))
///     })
/// });
/// # let server = roomcast::testing::serve(io).await;
/// # let client = server.client().connect().await?;
/// assert_eq!(client.request(Add { a: 1, b: 2 }).await?, 3);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it is acknowledged with",
    note = "implement `roomcast::Request` for it: `type Reply = …;`"
)]
pub trait Request: Contract {
    /// The type of the acknowledgement: one value, or a tuple for several.
    type Reply: Argument;
}
