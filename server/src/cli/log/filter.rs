//! Checks the log filter before the library parses it, because the library takes a misspelled level
//! for a module.

/// Checks a filter. Returns what is wrong with it.
pub(super) fn check(filter: &str) -> Result<(), String> {
    for directive in directives(filter) {
        check_directive(directive.trim())?;
    }
    Ok(())
}

/// Splits a filter at commas outside of span fields.
fn directives(filter: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    filter.split(move |c| {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn check_directive(directive: &str) -> Result<(), String> {
    // Span fields can contain an equals sign, which does not precede a level.
    let from = directive.rfind([']', '}']).unwrap_or_default();
    let (target, level) = match directive.get(from..).and_then(|rest| rest.split_once('=')) {
        Some((before, level)) => (directive.get(..from + before.len()), Some(level)),
        None => (Some(directive), None),
    };
    let target = target.unwrap_or_default();
    match level {
        None if target.contains('[') => Ok(()),
        None if is_level(target) => Ok(()),
        // A module without a level is more likely a misspelled level.
        None => Err(format!(
            "{} For a module write `{}=debug`",
            no_level(target),
            if target.is_empty() {
                "roomcast"
            } else {
                target
            }
        )),
        Some(level) if !is_level(level) => Err(no_level(level)),
        Some(_) => check_target(target),
    }
}

fn is_level(text: &str) -> bool {
    let is_name = LEVELS.iter().any(|level| text.eq_ignore_ascii_case(level));
    // The library also accepts numbers.
    is_name || matches!(text, "0" | "1" | "2" | "3" | "4" | "5")
}

fn no_level(text: &str) -> String {
    let nearest = nearest(text);
    let levels = LEVELS.join(", ");
    format!("`{text}` is not a level: there are {levels}; did you mean `{nearest}`?")
}

/// Returns the level that is most similar to a text.
fn nearest(text: &str) -> &'static str {
    let text = text.to_ascii_lowercase();
    let named = LEVELS.iter().map(|level| (*level, *level));
    let all = named.chain(OTHER_NAMES);
    let similar = all.max_by(|(one, _), (other, _)| {
        let similarity = |name| strsim::jaro_winkler(name, &text);
        similarity(one).total_cmp(&similarity(other))
    });
    similar.map_or("info", |(_, level)| level)
}

/// Refuses a module name that is similar to, but not the same as, one of this program's crates.
fn check_target(target: &str) -> Result<(), String> {
    let name = target.split([':', '[']).next().unwrap_or_default();
    let is_almost = |module: &&&str| strsim::jaro_winkler(module, name) > ALMOST;
    match MODULES.iter().find(is_almost) {
        Some(module) if !MODULES.contains(&name) => {
            Err(format!("unknown module `{name}`, did you mean `{module}`?"))
        }
        Some(_) | None => Ok(()),
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Names of levels in other programs.
const OTHER_NAMES: [(&str, &str); 9] = [
    ("none", "off"),
    ("quiet", "off"),
    ("fatal", "error"),
    ("critical", "error"),
    ("warning", "warn"),
    ("information", "info"),
    ("notice", "info"),
    ("verbose", "debug"),
    ("all", "trace"),
];
/// The crates of this program, and the target of the access log.
const MODULES: [&str; 5] = [
    "roomcast",
    "roomcast_server",
    "roomcast_protocol",
    "roomcast_loadgen",
    "roomcast_access",
];
/// The similarity above which a name counts as misspelled.
const ALMOST: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_levels_and_modules() {
        for filter in [
            "info",
            "WARN",
            "off",
            "3",
            "info,roomcast=debug",
            "info, hyper=off , roomcast_server::http=trace",
            "roomcast::engine=debug",
            "[span{id=1,name=a}]=debug,warn",
            "roomcast[span]=trace",
            "tokio_postgres=warn",
        ] {
            assert_eq!(check(filter), Ok(()), "{filter}");
        }
    }

    #[test]
    fn misspelt_level_or_module_is_refused_with_a_suggestion() {
        for (filter, nearest) in [
            ("verbos", "did you mean `debug`?"),
            ("inf", "did you mean `info`?"),
            ("warning", "did you mean `warn`?"),
            ("erorr", "did you mean `error`?"),
            ("", "`` is not a level"),
            ("info,", "`` is not a level"),
            ("info,roomcast=debg", "did you mean `debug`?"),
            ("roomcast", "`roomcast=debug`"),
            ("hyper=", "`` is not a level"),
            ("=debug=x", "`debug=x` is not a level"),
            ("info,roomcats=debug", "did you mean `roomcast`?"),
            ("[a{b=c}]=loud", "`loud` is not a level"),
        ] {
            let fault = check(filter).unwrap_err();
            assert!(fault.contains(nearest), "{filter}: {fault}");
        }
    }
}
