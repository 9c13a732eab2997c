//! Texts that clients insert into their pages as HTML (`chat.content = "html"`).
//!
//! What is sent is sanitised before it is stored. What goes out is looked through, and sanitised
//! unless it has exactly the form of what this server's rules write ([`markup`](super::markup)): the store may have
//! texts of a time before HTML was switched on, or of a server with other rules. Only what is on the
//! lists below is let through; everything else loses its tags and stays as text, but for scripts and
//! styles, which go as a whole.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use ammonia::{Builder, UrlRelative};

use crate::config;
use crate::service::rules::content::is_http_url;
use crate::service::rules::markup::Form;
use crate::service::{fault::ServiceError, rules::content};
use crate::store::{Annotated, Message, Messages, Pin, Pinned, Quote};

/// The rules by which the texts of messages are cleaned or kept as text.
#[derive(Debug)]
pub(in crate::service) enum Rules {
    /// Nothing: they are text.
    Text,
    /// Texts are HTML and must be harmless.
    Html(Box<Html>),
}

impl Rules {
    pub(in crate::service) fn new(content: config::Content) -> Self {
        match content {
            config::Content::Text => Self::Text,
            config::Content::Html => Self::Html(Box::new(Html::new())),
        }
    }

    /// The text that is stored for one that a client has sent.
    pub(in crate::service) fn admit(
        &self,
        sent: String,
        max_chars: usize,
    ) -> Result<String, ServiceError> {
        content::check_content(&sent, max_chars)?;
        let Self::Html(html) = self else {
            return Ok(sent);
        };
        // The tags are counted before anything is parsed, since parsing is what they make
        // expensive.
        if tags(&sent) > MAX_TAGS {
            let problem = format!("has more than {MAX_TAGS} tags");
            return Err(ServiceError::invalid("content", problem));
        }
        let Some(clean) = html.settled(&sent) else {
            let problem = "is nested in a way that is read differently every time";
            return Err(ServiceError::invalid("content", problem));
        };
        if clean.is_empty() {
            return Err(ServiceError::invalid("content", "has no text"));
        }
        // Escaping makes a text longer, and it is the longer one that is stored and sent.
        if clean.chars().nth(max_chars).is_some() {
            let problem = format!("has more than {max_chars} characters as HTML");
            return Err(ServiceError::invalid("content", problem));
        }
        Ok(clean)
    }

    /// A stored message as it may be sent to clients.
    pub(in crate::service) fn show(&self, message: &Arc<Message>) -> Arc<Message> {
        match self {
            Self::Html(html) if !self.fits(message) => html.show(message),
            Self::Text | Self::Html(_) => Arc::clone(message),
        }
    }

    /// What is told of a message beside its text, as it may be sent to clients.
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

    /// A pin as it may be sent to clients.
    pub(in crate::service) fn show_pin(&self, mut pin: Pin) -> Pin {
        self.show_quote(&mut pin.message);
        pin
    }

    /// The beginning of a text that is HTML is shown without elements: it may end within one.
    fn show_quote(&self, quote: &mut Quote) {
        if let Self::Html(html) = self {
            quote.excerpt = html.plain(&quote.excerpt);
        }
    }

    /// Shows the messages of a page.
    pub(in crate::service) async fn show_all(self: &Arc<Self>, page: Messages) -> Messages {
        let is_fit = page.messages.iter().all(|message| self.fits(message));
        if is_fit {
            return page;
        }
        let bytes = page.messages.iter().map(|message| message.content.len());
        // Handing a small page to another thread costs more than cleaning it.
        if bytes.sum::<usize>() < LARGE_BYTES {
            return self.show_page(&page);
        }
        // Parsing that much takes its time, and must not hold up a thread on which others wait.
        let rules = Arc::clone(self);
        let shown = tokio::task::spawn_blocking(move || rules.show_page(&page)).await;
        shown.unwrap_or_else(|_| Messages {
            messages: Vec::new(),
            has_more: true,
        })
    }

    /// Whether a stored message may be sent as it is.
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

/// The sanitiser, and one that leaves no element.
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

    /// The text of the beginning of an HTML text, as HTML. A reference at its end that was cut is left out.
    fn plain(&self, text: &str) -> String {
        let cut = text.rfind('&').filter(|at| {
            let end = text.get(at + 1..).unwrap_or_default();
            end.chars().all(|c| c.is_ascii_alphanumeric() || c == '#')
        });
        let whole = cut.and_then(|at| text.get(..at)).unwrap_or(text);
        self.1.clean(whole).to_string()
    }

    /// The same as [`Html::clean`], for what is stored: sanitised again it stays as it is, so that
    /// a sender is acknowledged with what others will read. Taking elements out may leave others
    /// nested as no parser would nest them.
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

    /// HTML that has nothing but what is on the lists.
    fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !text.contains(['<', '>', '&']) {
            return Cow::Borrowed(text);
        }
        if tags(text) > MAX_TAGS {
            // Nobody can have sent the text as HTML, so it is shown as text.
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

/// How many tags a text may have, at most.
fn tags(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'<').count()
}

/// Text as HTML that shows it.
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

/// Where a link may lead: to a page or to a mailbox.
fn is_link(target: &str) -> bool {
    let is_mail = target
        .split_at_checked("mailto:".len())
        .is_some_and(|(scheme, rest)| {
            let is_plain = |c: char| c.is_alphanumeric() || "@.+-_%?=&,".contains(c);
            scheme.eq_ignore_ascii_case("mailto:") && rest.chars().all(is_plain)
        });
    is_mail || is_http_url(target)
}

/// Elements that stay.
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

/// The `rel` of every link.
const REL: &str = "noopener noreferrer nofollow";

/// What the sanitiser writes.
const WRITTEN: Form<'static> = Form {
    tags: &TAGS,
    most: MAX_TAGS,
    rel: REL,
    is_link,
};

/// Elements that go with what is in them.
const WITH_CONTENT: [&str; 2] = ["script", "style"];

/// Tags of one text. Formatting elements are opened again in every block that begins while they are
/// open: n of them and n blocks make n² elements.
const MAX_TAGS: usize = 250;

/// How often a text may be another one when it is sanitised again.
const ROUNDS: usize = 4;

/// From how many bytes of text on a page is sanitised on a thread of its own.
const LARGE_BYTES: usize = 32 << 10;

#[cfg(test)]
mod tests;
