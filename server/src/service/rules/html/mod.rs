//! Sanitises message texts that clients insert into pages as HTML (`chat.content = "html"`).
//!
//! Incoming texts are sanitised before they are stored. Outgoing texts are sanitised again unless
//! they have exactly the form that this server's rules write ([`markup`]). The store
//! can hold texts from before HTML was enabled, or from a server with other rules.
//!
//! Only elements on the lists below remain. Other elements lose their tags and their text remains.
//! Scripts and styles are removed with their content.

mod markup;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use ammonia::{Builder, UrlRelative};

use crate::config;
use crate::service::rules::content::is_http_url;
use crate::service::{fault::ServiceError, rules::content};
use crate::store::{Annotated, Message, Messages, Pin, Pinned, Quote};
use markup::Form;

/// How the texts of messages are treated.
#[derive(Debug)]
pub(in crate::service) enum Rules {
    /// Plain text that is not changed.
    Text,
    /// HTML that must be harmless.
    Html(Box<Html>),
}

impl Rules {
    /// # Errors
    ///
    /// None in a build with the feature `html`.
    pub(in crate::service) fn new(content: config::Content) -> Result<Self, &'static str> {
        Ok(match content {
            config::Content::Text => Self::Text,
            config::Content::Html => Self::Html(Box::new(Html::new())),
        })
    }

    /// Returns whether texts are not changed.
    pub(in crate::service) fn is_text(&self) -> bool {
        matches!(self, Self::Text)
    }

    /// Returns the text to store for a text that a client sent.
    pub(in crate::service) fn admit(
        &self,
        sent: String,
        max_chars: usize,
    ) -> Result<String, ServiceError> {
        content::check_content(&sent, max_chars)?;
        let Self::Html(html) = self else {
            return Ok(sent);
        };
        // The tags are counted before parsing, because they make parsing expensive.
        if tags(&sent) > MAX_TAGS {
            let problem = format!("has more than {MAX_TAGS} tags");
            return Err(ServiceError::invalid("content", problem));
        }
        let Some(clean) = html.settled(&sent) else {
            let problem = "is nested ambiguously";
            return Err(ServiceError::invalid("content", problem));
        };
        if clean.is_empty() {
            return Err(ServiceError::invalid("content", "has no text"));
        }
        // The limit applies to the escaped text, because that is stored and sent.
        if clean.chars().nth(max_chars).is_some() {
            let problem = format!("has more than {max_chars} characters as HTML");
            return Err(ServiceError::invalid("content", problem));
        }
        Ok(clean)
    }

    /// Returns a stored message in the form to send to clients.
    pub(in crate::service) fn show(&self, message: &Arc<Message>) -> Arc<Message> {
        match self {
            Self::Html(html) if !self.fits(message) => html.show(message),
            Self::Text | Self::Html(_) => Arc::clone(message),
        }
    }

    /// Returns annotations of a message in the form to send to clients.
    pub(in crate::service) fn show_annotated(&self, annotated: Arc<Annotated>) -> Arc<Annotated> {
        match (self, &*annotated) {
            (
                Self::Html(_),
                Annotated::Pinned(Pinned {
                    conversation_id,
                    pin,
                }),
            ) => Arc::new(Annotated::Pinned(Pinned {
                conversation_id: *conversation_id,
                pin: self.show_pin(pin.clone()),
            })),
            _ => annotated,
        }
    }

    /// Returns a pin in the form to send to clients.
    pub(in crate::service) fn show_pin(&self, mut pin: Pin) -> Pin {
        self.show_quote(&mut pin.message);
        pin
    }

    /// Removes all elements from an excerpt of HTML, which may end inside an element.
    pub(in crate::service) fn show_quote(&self, quote: &mut Quote) {
        if let Self::Html(html) = self {
            quote.excerpt = html.plain(&quote.excerpt);
        }
    }

    /// Returns a page of messages in the form to send to clients.
    pub(in crate::service) async fn show_all(self: &Arc<Self>, page: Messages) -> Messages {
        let is_fit = page.messages.iter().all(|message| self.fits(message));
        if is_fit {
            return page;
        }
        let bytes = page.messages.iter().map(|message| message.content.len());
        // For a small page, moving the work to another thread costs more than the work itself.
        if bytes.sum::<usize>() < LARGE_BYTES {
            return self.show_page(&page);
        }
        // Parsing a large page takes long and must not block an async worker thread.
        let rules = Arc::clone(self);
        let shown = tokio::task::spawn_blocking(move || rules.show_page(&page)).await;
        shown.unwrap_or_else(|_| Messages {
            messages: Vec::new(),
            has_more: true,
        })
    }

    /// Returns whether a stored message can be sent unchanged.
    fn fits(&self, message: &Message) -> bool {
        match self {
            Self::Text => true,
            Self::Html(_) => message.reply_to.is_none() && WRITTEN.fits(&message.content),
        }
    }

    fn show_page(&self, page: &Messages) -> Messages {
        Messages {
            messages: page.messages.iter().map(|each| self.show(each)).collect(),
            has_more: page.has_more,
        }
    }
}

/// The sanitiser, and a second one that removes all elements.
pub(in crate::service) struct Html(Builder<'static>, Builder<'static>);

impl Html {
    fn new() -> Self {
        let mut builder = Builder::empty();
        let attributes = HashMap::from([("a", HashSet::from(["href"]))]);
        builder
            .tags(HashSet::from(TAGS))
            .clean_content_tags(HashSet::from(WITH_CONTENT))
            .tag_attributes(attributes)
            .generic_attributes(HashSet::new())
            .url_schemes(HashSet::from(["http", "https", "mailto"]))
            .url_relative(UrlRelative::Deny)
            .link_rel(Some(REL))
            .attribute_filter(|_, attribute, value| {
                let is_good = attribute != "href" || is_link(value);
                is_good.then_some(Cow::Borrowed(value))
            })
            .strip_comments(true);
        let mut plain = Builder::empty();
        plain
            .clean_content_tags(HashSet::from(WITH_CONTENT))
            .strip_comments(true);
        Self(builder, plain)
    }

    fn show(&self, message: &Arc<Message>) -> Arc<Message> {
        let clean = self.clean(&message.content);
        if clean == message.content && message.reply_to.is_none() {
            return Arc::clone(message);
        }
        let reply_to = message.reply_to.clone().map(|quote| Quote {
            excerpt: self.plain(&quote.excerpt),
            ..quote
        });
        Arc::new(Message {
            content: clean.into_owned(),
            reply_to,
            ..Message::clone(message)
        })
    }

    /// Returns an excerpt of HTML without elements, still as HTML. A truncated reference at its end
    /// is removed.
    fn plain(&self, text: &str) -> String {
        let cut = text.rfind('&').filter(|at| {
            let end = text.get(at + 1..).unwrap_or_default();
            end.chars().all(|c| c.is_ascii_alphanumeric() || c == '#')
        });
        let whole = cut.and_then(|at| text.get(..at)).unwrap_or(text);
        self.1.clean(whole).to_string()
    }

    /// Sanitises a text for storage until sanitising it again changes nothing. Returns `None` if
    /// that takes too many rounds.
    ///
    /// The sender's acknowledgement then has exactly the text that other users read. One round is
    /// not always enough, because removing elements can leave invalid nesting.
    fn settled(&self, sent: &str) -> Option<String> {
        let mut clean = self.clean(sent).into_owned();
        for _ in 0..ROUNDS {
            let again = self.clean(&clean);
            if again == clean {
                return Some(clean);
            }
            clean = again.into_owned();
        }
        None
    }

    /// Sanitises HTML.
    fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !text.contains(['<', '>', '&']) {
            return Cow::Borrowed(text);
        }
        if tags(text) > MAX_TAGS {
            // A text with so many tags cannot have been accepted as HTML, so it is shown as text.
            return Cow::Owned(escape(text));
        }
        Cow::Owned(self.0.clean(text).to_string())
    }
}

impl fmt::Debug for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Html").finish_non_exhaustive()
    }
}

/// Returns an upper bound for the number of tags in a text.
fn tags(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'<').count()
}

/// Escapes a text so that HTML shows it unchanged.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Returns whether a link may point to this target: an HTTP URL or a mailbox.
fn is_link(target: &str) -> bool {
    let is_mail = target
        .split_at_checked("mailto:".len())
        .is_some_and(|(scheme, rest)| {
            let is_plain = |c: char| c.is_alphanumeric() || "@.+-_%?=&,".contains(c);
            scheme.eq_ignore_ascii_case("mailto:") && rest.chars().all(is_plain)
        });
    is_mail || is_http_url(target)
}

/// Allowed elements.
const TAGS: [&str; 18] = [
    "a",
    "b",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "i",
    "li",
    "ol",
    "p",
    "s",
    "span",
    "strong",
    "sub",
    "sup",
    "u",
    "ul",
];

/// The `rel` attribute of every link.
const REL: &str = "noopener noreferrer nofollow";

/// The form that the sanitiser writes.
const WRITTEN: Form<'static> = Form {
    tags: &TAGS,
    most: MAX_TAGS,
    rel: REL,
    is_link,
};

/// Elements that are removed with their content.
const WITH_CONTENT: [&str; 2] = ["script", "style"];

/// Maximum number of tags in a text. Parsers reopen formatting elements in every block that begins
/// while they are open: n such elements and n blocks result in n² elements.
const MAX_TAGS: usize = 250;

/// Maximum number of rounds until sanitising a text changes nothing.
const ROUNDS: usize = 4;

/// Pages with at least this many bytes of text are sanitised on a blocking thread.
const LARGE_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests;
