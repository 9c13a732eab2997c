use serde::Serialize;

/// An event whose name and payload belong together, so that they cannot disagree.
///
/// Implement it for what is sent, and [`send`](crate::Broadcast::send) needs no name any more. What
/// comes in the same way is handled by
/// [`on_contract`](crate::NamespaceBuilder::on_contract).
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
/// let mut io = Io::builder();
/// io.namespace("/").on_contract(async |event: Event, message: Message| {
///     event.socket.broadcast().send(message);
/// });
/// # io.build()?;
/// # Ok::<(), roomcast::BuildError>(())
/// ```
///
/// The client's side:
///
/// ```js
/// socket.on("message", ({ content }) => console.log(content));
/// socket.emit("message", { content: "hi" });
/// ```
///
/// What serialises as a tuple is several arguments, everything else is one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say which event it is",
    note = "implement `roomcast::Contract` for it: `const EVENT: &'static str = \"…\";`"
)]
pub trait Contract: Serialize {
    /// The name of the event.
    const EVENT: &'static str;
}
