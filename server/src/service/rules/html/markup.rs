//! Checks without an HTML parser whether a text has the exact form that the sanitiser writes.
//!
//! The origin of a stored text proves nothing: the store can hold texts from before HTML was
//! enabled, from a server with other rules, or from another writer. Therefore every outgoing text
//! is scanned once from start to end. It is sent unchanged only if it consists of:
//!
//! - text without `<` and `>`, in which each `&` begins one of [`REFERENCES`];
//! - `<NAME>` and `</NAME>` with exactly a name from the sanitiser's list, closed in the reverse
//!   order of opening; `<br>`;
//! - `<a href="ADDRESS" rel="…">` and `<a rel="…">`, as the sanitiser writes them, with an address
//!   that it accepts.
//!
//! Every other text is sanitised.
//!
//! This check is sufficient. An HTML parser leaves text only at `<`, and every accepted `<` begins
//! one of these tags, which all parsers read alike. There are no other elements, no other
//! attributes and no comments. None of the elements changes how later text is parsed, as `script`,
//! `style`, `textarea`, `svg` or `math` do. So no element outside the list can result, wherever a
//! page inserts the text as content and however it nests it.

/// The rules of the sanitiser that are visible in its output.
pub(super) struct Form<'a> {
    /// Allowed elements.
    pub(super) tags: &'a [&'a str],
    /// Maximum number of tags, opening and closing.
    pub(super) most: usize,
    /// The required `rel` attribute of every link.
    pub(super) rel: &'a str,
    /// Returns whether a link may point to an address.
    pub(super) is_link: fn(&str) -> bool,
}

impl Form<'_> {
    /// Returns whether a text has this form.
    pub(super) fn fits(&self, text: &str) -> bool {
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
            let (tag, after) = special.strip_prefix('<')?.split_once('>')?;
            rest = after;
            if let Some(name) = tag.strip_prefix('/') {
                // Parsers nest overlapping elements differently.
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

    /// Returns `"a"`, the name of the element, if the attributes are those of a link.
    fn link(&self, attributes: &str) -> Option<&'static str> {
        let href = attributes
            .strip_suffix('"')?
            .strip_suffix(self.rel)?
            .strip_suffix("rel=\"")?;
        if href.is_empty() {
            return Some("a");
        }
        let address = href.strip_prefix("href=\"")?.strip_suffix("\" ")?;
        // `&amp;` is the only reference that the sanitiser writes in an address.
        let is_plain = address
            .split('&')
            .skip(1)
            .all(|after| after.starts_with("amp;"));
        (is_plain && !address.contains('"') && (self.is_link)(&address.replace("&amp;", "&")))
            .then_some("a")
    }
}

/// Returns the text after a leading reference.
fn reference(text: &str) -> Option<&str> {
    REFERENCES
        .iter()
        .find_map(|reference| text.strip_prefix(reference))
}

/// The references that the sanitiser writes: special characters and U+00A0.
const REFERENCES: [&str; 4] = ["&amp;", "&lt;", "&gt;", "&nbsp;"];

/// The only listed element without content and closing tag.
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
    fn sanitizer_output_fits_the_form() {
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
    fn html_the_sanitizer_never_writes_does_not_fit() {
        for text in [
            // References that the sanitiser does not write, and incomplete references.
            "&",
            "& ",
            "&amp",
            "&LT;",
            "&quot;",
            "&#60;",
            "&lt",
            "a && b",
            // Invalid or incomplete tags.
            "<",
            ">",
            "1 < 2",
            "1 > 2",
            "<>",
            "</>",
            "<b",
            "<b>x</b",
            "<b>x</b><",
            // Elements outside the list, and other spellings of listed elements.
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
            // Elements that are not closed, not opened, or closed in the wrong order.
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
    fn too_many_tags_do_not_fit() {
        assert!(FORM.fits(&"<b></b>".repeat(10)));
        assert!(!FORM.fits(&"<b></b>".repeat(11)));
        assert!(FORM.fits(&"<br>".repeat(20)));
        assert!(!FORM.fits(&"<br>".repeat(21)));
    }
}
