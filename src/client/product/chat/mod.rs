//! What the chat of the Roomcast server adds to the client: messages whose text arrives in pieces.
//!
//! A [`MessageWriter`] writes one message. It reads its text from a [`Stream`], such as the answer
//! of a language model, and readers see the text grow. `docs/chat.md` in the repository describes
//! the protocol.
//!
//! ```no_run
//! # async fn example(
//! #     socket: roomcast::client::Socket,
//! #     conversation_id: &str,
//! #     words: impl futures_util::Stream<Item = String>,
//! # ) -> Result<(), roomcast::client::chat::WriteError> {
//! use roomcast::client::chat::{Appended, MessageKind, MessageWriter, NewMessage};
//!
//! let new = NewMessage::new(conversation_id).kind(MessageKind::Ai);
//! let mut writer = MessageWriter::begin(&socket, new).await?;
//! match writer.append_from(words).await? {
//!     Appended::All => writer.finish().await?,
//!     Appended::StopRequested(by) => {
//!         println!("{} wants it to stop", by.user_id);
//!         writer.abort(Some("stopped by a member")).await?
//!     }
//! };
//! # Ok(())
//! # }
//! ```
//!
//! [`Stream`]: futures_util::Stream

mod conflict;
mod error;
mod message;
mod sending;
mod text;
mod writer;

pub use error::WriteError;
pub use message::{Correction, Message, MessageKind, NewMessage, Quote, StopRequest};
pub use writer::{Appended, MessageWriter};
