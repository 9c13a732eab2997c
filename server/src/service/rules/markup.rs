//! Whether a text is HTML in the one form that the sanitiser writes, seen without parsing HTML.
//!
//! What is stored has been sanitised, but by which rules? The store may have texts of a time before
//! HTML was switched on, of a server with other rules, or of somebody who has written into it. So no
//! text is trusted for where it comes from, and none has to be sanitised again for it: what goes out is
//! looked through once from its beginning to its end, and sent as it is if there is nothing in it but
//!
//! - text without `<` and `>`, in which each `&` begins one of [`REFERENCES`];
//! - `<NAME>` and `</NAME>` with a name from the list of the sanitiser, spelled exactly so, each closed in
//!   the order of opening; `<br>`;
//! - `<a href="ADDRESS" rel="…">` and `<a rel="…">`, as the sanitiser writes them, with an address
//!   that it lets through.
//!
//! Why that is enough: a parser of HTML leaves text only at `<`, and every `<` here begins one of
//! these spellings, which all parsers read alike. There are no other elements, no attributes but
//! these two, no comments, and none of these elements changes how what follows is read, as `script`,
//! `style`, `textarea`, `svg` or `math` do. So no element can come out of it that is not on the list,
//! wherever it is inserted as content and however a page nests it anew. Whatever else a text may be, it
//! is sanitised.

/// The rules of the sanitiser, as far as they can be seen in what it writes.
pub(in crate::service) struct Form<'a> {
    /// Elements that there may be.
    pub(in crate::service) tags: &'a [&'a str],
    /// Tags that there may be, opening and closing.
    pub(in crate::service) most: usize,
    /// The `rel` of every link.
    pub(in crate::service) rel: &'a str,
    /// Where a link may lead.
    pub(in crate::service) is_link: fn(&str) -> bool,
}

impl Form<'_> {
    /// Whether a text has this form.
    pub(in crate::service) fn fits(&self, text: &str) -> bool {
        self.read(text).is_some()
    }

    fn read(&self, text: &str) -> Option<()> {
        let (mut rest, mut open, mut tags) = (text, Vec::new(), 0);
        while let Some(at) = rest.find(['<', '>', '&']) {
            let (_, special) = rest.split_at(at);
            if special.starts_with('&') {
                rest = reference(special)?;
                continue;
            }
            tags += 1;
            if tags > self.most {
                return None;
            }
            let (tag, behind) = special.strip_prefix('<')?.split_once('>')?;
            rest = behind;
            if let Some(name) = tag.strip_prefix('/') {
                // Elements that overlap are nested anew by parsers, each in its own way.
                if open.pop()? != name {
                    return None;
                }
                continue;
            }
            let name = match tag.strip_prefix("a ") {
                Some(attributes) => self.link(attributes)?,
                None => tag,
            };
            if !self.tags.contains(&name) || tag == "a" {
                return None;
            }
            if name != VOID {
                open.push(name);
            }
        }
        open.is_empty().then_some(())
    }

    /// The name of the element that has these attributes, which is that of a link.
    fn link(&self, attributes: &str) -> Option<&'static str> {
        let href = attributes
            .strip_suffix('"')?
            .strip_suffix(self.rel)?
            .strip_suffix("rel=\"")?;
        if href.is_empty() {
            return Some("a");
        }
        let address = href.strip_prefix("href=\"")?.strip_suffix("\" ")?;
        // In an address the sanitiser writes of all references this one only.
        let is_plain = address
            .split('&')
            .skip(1)
            .all(|behind| behind.starts_with("amp;"));
        (is_plain && !address.contains('"') && (self.is_link)(&address.replace("&amp;", "&")))
            .then_some("a")
    }
}

/// What is behind a reference.
fn reference(text: &str) -> Option<&str> {
    REFERENCES
        .iter()
        .find_map(|reference| text.strip_prefix(reference))
}

/// How the sanitiser writes characters that have a meaning, and U+00A0.
const REFERENCES: [&str; 4] = ["&amp;", "&lt;", "&gt;", "&nbsp;"];

/// The element of the list that has no content and no end.
const VOID: &str = "br";

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form<'_> = Form {
        tags: &["a", "b", "br", "p"],
        most: 20,
        rel: "nofollow",
        is_link: |address| address.starts_with("https://"),
    };

    #[test]
    fn what_the_sanitiser_writes_fits() {
        for text in [
            "",
            "plain \"text\" 'as' it is; #1 = {2} \u{e4}\u{1f600}\n",
            "1 &lt; 2 &amp;&amp; 3 &gt; 2 &amp;lt;&nbsp;",
            "<b>x</b><br>y<br>",
            "<p><b>x</b> <b></b></p>",
            "<a href=\"https://a/?b=1&amp;c=2\" rel=\"nofollow\"><b>x</b></a>",
            "<a rel=\"nofollow\">x</a>",
        ] {
            assert!(FORM.fits(text), "{text}");
        }
    }

    #[test]
    fn nothing_else_fits() {
        for text in [
            // References that the sanitiser does not write, and none.
            "&",
            "& ",
            "&amp",
            "&LT;",
            "&quot;",
            "&#60;",
            "&lt",
            "a && b",
            // Tags that are none, or no more than a beginning.
            "<",
            ">",
            "1 < 2",
            "1 > 2",
            "<>",
            "</>",
            "<b",
            "<b>x</b",
            "<b>x</b><",
            // Other elements, and other spellings of these.
            "<i>x</i>",
            "<script>x</script>",
            "<B>x</B>",
            "<b >x</b>",
            "<b/>",
            "< b>x</b>",
            "<b>x</ b>",
            "<b>x</b >",
            "<b\n>x</b>",
            "<b\u{0}>x</b>",
            "<br/>",
            "<br></br>",
            "</br>",
            "<!-- x -->",
            "<!DOCTYPE html>",
            "<?xml?>",
            "<![CDATA[x]]>",
            // Elements that are not closed, not opened, or in another order.
            "<b>x",
            "x</b>",
            "<p><b>x</p></b>",
            "<b><b>x</b>",
            // Attributes.
            "<b onclick=x>x</b>",
            "<p style=\"x\">x</p>",
            "<a>x</a>",
            "<a href=\"https://a\">x</a>",
            "<a rel=\"nofollow\" href=\"https://a\">x</a>",
            "<a href='https://a' rel=\"nofollow\">x</a>",
            "<a href=https://a rel=\"nofollow\">x</a>",
            "<a href=\"https://a\"  rel=\"nofollow\">x</a>",
            "<a href=\"https://a\" x=\"y\" rel=\"nofollow\">x</a>",
            "<a href=\"https://a\" onclick=\"x\" rel=\"nofollow\">x</a>",
            "<a href=\"https://a\" rel=\"nofollow\" x>x</a>",
            "<a href=\"https://a\" rel=\"x nofollow\">x</a>",
            "<a href=\"https://a\" rel=\"\">x</a>",
            "<a href=\"\" rel=\"nofollow\">x</a>",
            "<a href=\"javascript:x\" rel=\"nofollow\">x</a>",
            "<a href=\"&#104;ttps://a\" rel=\"nofollow\">x</a>",
            "<a href=\"https://a/&quot;\" rel=\"nofollow\">x</a>",
            "<a href=\"https://a/&b\" rel=\"nofollow\">x</a>",
            "<a  rel=\"nofollow\">x</a>",
            "<a rel=\"nofollow\" >x</a>",
            "<a\trel=\"nofollow\">x</a>",
            "<a href=\"https://a/>\" rel=\"nofollow\">x</a>",
        ] {
            assert!(!FORM.fits(text), "{text}");
        }
    }

    #[test]
    fn more_tags_than_may_be_sent_do_not_fit() {
        assert!(FORM.fits(&"<b></b>".repeat(10)));
        assert!(!FORM.fits(&"<b></b>".repeat(11)));
        assert!(FORM.fits(&"<br>".repeat(20)));
        assert!(!FORM.fits(&"<br>".repeat(21)));
    }
}
