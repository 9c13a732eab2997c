//! Matches the beginnings of texts, in any case.

/// The beginning of a text or of a word in it, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::service) struct Beginning(String);

impl Beginning {
    pub(in crate::service) fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    /// Returns the text in lower case.
    pub(in crate::service) fn text(&self) -> &str {
        &self.0
    }

    /// Returns whether the value begins with the text.
    pub(in crate::service) fn begins(&self, value: &str) -> bool {
        let mut rest = value.chars().flat_map(char::to_lowercase);
        self.0.chars().all(|wanted| rest.next() == Some(wanted))
    }

    /// Returns whether the text begins the value, or one of its words, such as `Firefox/130` in
    /// `Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/130`.
    pub(in crate::service) fn begins_a_word(&self, value: &str) -> bool {
        let words = value.char_indices().filter(|(at, c)| {
            let before = value[..*at].chars().next_back();
            c.is_alphanumeric() && !before.is_some_and(char::is_alphanumeric)
        });
        self.begins(value) || words.into_iter().any(|(at, _)| self.begins(&value[at..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_beginnings_of_values_and_words_in_any_case() {
        let of = Beginning::new;
        assert!(of("FIRE").begins("firewall"));
        assert!(of("FIRE").begins_a_word("Mozilla/5.0 (X11) Gecko/20100101 Firefox/130.0"));
        assert!(!of("FIRE").begins_a_word("Campfire"));
        assert!(of("Žo").begins_a_word("Anna Žofie"));
        assert!(!of("Žo").begins("žák"));
        assert!(!of("192.0.2.7").begins("192.0.2"));
        assert!(of("192.0.2").begins("192.0.2.7"));
        // More letters in lower case than in upper case, and characters of several bytes.
        assert!(of("İ").begins("İstanbul"));
        assert!(of("日本").begins_a_word("(日本語)"));
    }
}
