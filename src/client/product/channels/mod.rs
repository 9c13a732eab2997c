//! Channels of the Roomcast server: events that services and clients publish under a channel's name.
//!
//! [`Socket::channel`](crate::client::Socket::channel) returns a [`Channel`], which publishes and
//! reads events. Its [`Subscription`] is a [`Stream`] of the events, in order and each once, over
//! reconnects and restarts. `docs/channels.md` in the repository describes the protocol.
//!
//! ```no_run
//! # async fn example(
//! #     socket: roomcast::client::Socket,
//! #     stored: Option<String>,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use roomcast::client::channels::ChannelItem;
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     status: String,
//! }
//!
//! let mut orders = socket.channel("orders:7:42").subscribe(stored.as_deref()).await?;
//! while let Some(item) = orders.next().await {
//!     match item {
//!         ChannelItem::Event(event) => println!("{}", event.data::<Order>()?.status),
//!         ChannelItem::Forgotten { .. } => println!("events are missing here"),
//!         ChannelItem::Ended(end) => println!("{end}"),
//!         _ => {}
//!     }
//!     // The application stores `orders.position()` and passes it to `subscribe` after a restart.
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `hub` sorts the events of a socket by their channels. `sequence` has the rules of order: which
//! events were delivered, and when the channel must be subscribed again. `subscription` sends the
//! requests.
//!
//! [`Stream`]: futures_util::Stream

mod channel;
mod error;
mod event;
mod hub;
#[cfg(test)]
mod model;
mod sequence;
mod subscription;
mod token;

pub use channel::Channel;
pub use error::ChannelError;
pub use event::{ChannelEvent, ChannelPage, ChannelPresence, ChannelUser, PageRequest};
pub use subscription::{ChannelEnd, ChannelItem, Subscription};
pub use token::ChannelToken;
