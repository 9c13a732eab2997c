//! Patterns of namespace names, with parameters.

/// A list of parts between slashes, some of which are parameters.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Literal(Box<str>),
    Parameter(Box<str>),
}

impl Pattern {
    /// Parses a pattern such as `/board/{id}`.
    ///
    /// Returns `None` if braces do not enclose a whole part, a parameter name is empty or repeated,
    /// or a part contains a comma.
    pub(crate) fn parse(pattern: &str) -> Option<Self> {
        let mut parts: Vec<Part> = Vec::new();
        for part in pattern.strip_prefix('/').unwrap_or(pattern).split('/') {
            let inner = part
                .strip_prefix('{')
                .and_then(|part| part.strip_suffix('}'));
            let part = match inner {
                Some(name) => Part::Parameter(name.into()),
                None => Part::Literal(part.into()),
            };
            let (Part::Parameter(name) | Part::Literal(name)) = &part;
            let is_unnamed = name.is_empty() && inner.is_some();
            let is_twice = inner.is_some() && parts.contains(&part);
            if is_unnamed || is_twice || name.contains(['{', '}', ',']) {
                return None;
            }
            parts.push(part);
        }
        Some(Self(parts))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let Some(name) = name.strip_prefix('/') else {
            return false;
        };
        let mut values = name.split('/');
        let is_equal = |part: &Part| match (part, values.next()) {
            (Part::Literal(literal), Some(value)) => **literal == *value,
            (Part::Parameter(_), Some(value)) => !value.is_empty(),
            (_, None) => false,
        };
        self.0.iter().all(is_equal) && values.next().is_none()
    }

    /// Returns the value of a parameter in a matching name.
    pub(crate) fn param<'n>(&self, name: &'n str, param: &str) -> Option<&'n str> {
        let is_it = |part: &Part| matches!(part, Part::Parameter(name) if **name == *param);
        let position = self.0.iter().position(is_it)?;
        name.strip_prefix('/')?.split('/').nth(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_matches_names_with_all_its_parts() {
        let pattern = Pattern::parse("/board/{id}/{view}").unwrap();
        for (name, matches) in [
            ("/board/7/list", true),
            ("/board/é/-", true),
            ("/board//list", false),
            ("/board/7", false),
            ("/board/7/list/x", false),
            ("/boards/7/list", false),
            ("board/7/list", false),
            ("/", false),
        ] {
            assert_eq!(pattern.matches(name), matches, "{name}");
        }
        assert_eq!(pattern.param("/board/7/list", "id"), Some("7"));
        assert_eq!(pattern.param("/board/7/list", "view"), Some("list"));
        assert_eq!(pattern.param("/board/7/list", "board"), None);
        assert!(Pattern::parse("board/{id}").unwrap().matches("/board/1"));
    }

    #[test]
    fn malformed_patterns_are_refused() {
        for pattern in [
            "/{}", "/{a", "/a}", "/x{a}", "/{a}/{a}", "/{a}{b}", "/a,b", "/{a,b}",
        ] {
            assert!(Pattern::parse(pattern).is_none(), "{pattern}");
        }
    }
}
