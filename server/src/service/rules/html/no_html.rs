//! Replaces `html` in builds without the feature: texts are plain, and `chat.content = "html"` is
//! refused.

use std::sync::Arc;

use crate::config;
use crate::service::{fault::ServiceError, rules::content};
use crate::store::{Annotated, Message, Messages, Pin, Quote};

/// How the texts of messages are treated: as plain text that is not changed.
#[derive(Debug)]
pub(in crate::service) enum Rules {
    Text,
}

impl Rules {
    /// # Errors
    ///
    /// The reason of a refusal if the texts are HTML.
    pub(in crate::service) const fn new(content: config::Content) -> Result<Self, &'static str> {
        match content {
            config::Content::Text => Ok(Self::Text),
            config::Content::Html => {
                Err("chat.content = \"html\" needs a server that was built with the feature `html`")
            }
        }
    }

    /// Returns whether texts are not changed.
    #[expect(clippy::unused_self, reason = "the rules of HTML depend on it")]
    pub(in crate::service) const fn is_text(&self) -> bool {
        true
    }

    /// Returns the text to store for a text that a client sent.
    pub(in crate::service) fn admit(
        &self,
        sent: String,
        max_chars: usize,
    ) -> Result<String, ServiceError> {
        content::check_content(&sent, max_chars)?;
        Ok(sent)
    }

    /// Returns the message.
    pub(in crate::service) fn show(&self, message: &Arc<Message>) -> Arc<Message> {
        Arc::clone(message)
    }

    /// Returns the annotations.
    pub(in crate::service) fn show_annotated(&self, annotated: Arc<Annotated>) -> Arc<Annotated> {
        annotated
    }

    /// Returns the pin.
    pub(in crate::service) fn show_pin(&self, pin: Pin) -> Pin {
        pin
    }

    /// Leaves the excerpt as it is.
    pub(in crate::service) fn show_quote(&self, _: &mut Quote) {}

    /// Returns the page.
    pub(in crate::service) fn show_all(
        self: &Arc<Self>,
        page: Messages,
    ) -> std::future::Ready<Messages> {
        std::future::ready(page)
    }
}
