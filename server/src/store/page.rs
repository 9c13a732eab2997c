//! Pages of messages and lists of conversations.

use std::io;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::change::{Cursor, List, ListedConversation, Message};

/// Selects messages of a conversation. All bounds are exclusive except `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "each backend must answer each form"
)]
pub enum Page {
    /// The newest messages.
    Newest,
    /// The newest messages before this `seq`.
    Before(u64),
    /// The oldest messages after this `seq`.
    After(u64),
    /// The oldest messages after one `seq`, up to and including another.
    Between {
        /// The last known `seq`.
        after: u64,
        /// The last requested `seq`.
        through: u64,
    },
}

/// One page of messages.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Page")]
pub struct Messages {
    /// Ascending by `seq`, without a gap.
    pub messages: Vec<Arc<Message>>,
    /// Whether there are more of those asked for, beyond the limit or the size of a page.
    pub has_more: bool,
}

/// Collects a page in reading order and ends it at the limit or at [`PAGE_BYTES`].
pub(super) struct PageBuilder<T> {
    items: Vec<T>,
    has_more: bool,
    limit: usize,
    bytes: usize,
}

impl<T: Serialize> PageBuilder<T> {
    /// Creates an empty page of at most `limit` items.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            items: Vec::new(),
            has_more: false,
            limit,
            bytes: 0,
        }
    }

    /// Adds an item. Returns `false` if the page is full.
    pub(super) fn push(&mut self, item: T) -> bool {
        let bytes = json_len(&item);
        let full = self.items.len() >= self.limit
            // A page has at least one item, or a very large item could never be read.
            || (!self.items.is_empty() && self.bytes + bytes > PAGE_BYTES);
        if full {
            self.has_more = true;
            return false;
        }
        self.bytes += bytes;
        self.items.push(item);
        true
    }
}

impl PageBuilder<Arc<Message>> {
    /// Returns the page. `descending` means that the newest message was pushed first.
    pub(super) fn finish(mut self, descending: bool) -> Messages {
        if descending {
            // Pages are always ascending, regardless of the direction of reading.
            self.items.reverse();
        }
        Messages {
            messages: self.items,
            has_more: self.has_more,
        }
    }
}

impl PageBuilder<ListedConversation> {
    /// Returns the list in the order of pushing. `before` is the end of the previous page.
    pub(super) fn finish(self, before: Option<Cursor>) -> List {
        let end = Cursor::after(&self.items, before);
        List {
            cursor: end.filter(|_| self.has_more),
            conversations: self.items,
            has_more: self.has_more,
        }
    }
}

impl Messages {
    /// Cuts the page at [`PAGE_BYTES`] again after its messages have grown. With `descending`,
    /// keeps the newest messages.
    pub(super) fn cut(self, descending: bool) -> Self {
        let limit = self.messages.len();
        let mut builder = PageBuilder::new(limit);
        let mut messages = self.messages;
        if descending {
            messages.reverse();
        }
        let _ = { messages }
            .into_iter()
            .all(|message| builder.push(message));
        let mut page = builder.finish(descending);
        page.has_more |= self.has_more;
        page
    }
}

impl Message {
    /// Returns the number of bytes of the message in a JSON array.
    pub(crate) fn json_len(&self) -> usize {
        json_len(self)
    }
}

/// Returns the number of bytes of an item in a JSON array.
fn json_len(item: &impl Serialize) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    // The comma after the item counts as well.
    let mut counter = Counter(1);
    serde_json::to_writer(&mut counter, item).expect("a row is JSON, and counting succeeds");
    counter.0
}

/// The size in bytes at which a page of messages ends: half of the smallest `maxPayload` in use.
pub const PAGE_BYTES: usize = 512 * 1024;
