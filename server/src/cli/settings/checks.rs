//! Finds all mistakes that a check reports one at a time, and the settings that cause each.

use super::error::{Mistake, Place};
use super::layers::{Layers, Setting};
use crate::config::Settings;

/// Runs a check until it reports nothing new.
///
/// After each fault, the settings that cause it are reset to their defaults, so that the check
/// reaches the next one. A fault that mentions a setting that was reset is a consequence of the
/// reset, and is not reported.
pub(super) fn find(
    layers: &Layers,
    mistaken: &[Mistake],
    check: &dyn Fn(&Settings) -> Result<(), String>,
) -> Vec<Mistake> {
    let mut reset: Vec<String> = mistaken
        .iter()
        .flat_map(|mistake| &mistake.settings)
        .filter_map(|place| place.key.clone())
        .collect();
    let mut found = Vec::new();
    for _ in 0..MAX_ROUNDS {
        let Ok(settings) = layers.without(&reset) else {
            break;
        };
        let Err(fault) = check(&settings) else {
            break;
        };
        let causes = causes(layers, &reset, &fault, check);
        let is_consequence = reset.iter().any(|key| mentions(&fault, key));
        if !is_consequence {
            found.push(Mistake {
                fault,
                nearest: None,
                settings: causes.iter().map(|cause| cause.place()).collect(),
            });
        }
        if causes.is_empty() {
            break;
        }
        reset.extend(causes.iter().map(|cause| cause.key.clone()));
    }
    found
}

/// Returns the settings that cause a fault: without any of them, the check reports something else.
/// If the fault names some of them, the others only depend on those.
fn causes<'a>(
    layers: &'a Layers,
    reset: &[String],
    fault: &str,
    check: &dyn Fn(&Settings) -> Result<(), String>,
) -> Vec<&'a Setting> {
    let settings: Vec<_> = layers
        .effective()
        .filter(|setting| !reset.contains(&setting.key))
        .collect();
    let is_cause = |setting: &&Setting| {
        let mut without = reset.to_vec();
        without.push(setting.key.clone());
        let settings = layers.without(&without);
        settings.is_ok_and(|settings| check(&settings) != Err(fault.to_owned()))
    };
    let causes: Vec<_> = settings.iter().copied().filter(is_cause).collect();
    let is_named = |setting: &&Setting| {
        let path = setting.value.as_str();
        let path = path.filter(|text| text.len() >= MIN_PATH);
        mentions(fault, &setting.key) || path.is_some_and(|path| fault.contains(path))
    };
    // Two settings with the same fault are no causes each, so the text decides.
    let possible = if causes.is_empty() {
        &settings
    } else {
        &causes
    };
    let named: Vec<_> = possible.iter().copied().filter(is_named).collect();
    if named.is_empty() { causes } else { named }
}

/// Returns whether a text names a key, also without its section.
fn mentions(text: &str, key: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
    let mut words = text
        .split(|c: char| !is_name(c))
        .map(|word| word.trim_end_matches('.'));
    let last = key.rsplit('.').next().unwrap_or_default();
    words.any(|word| {
        let is_section = word.contains('.')
            && key
                .strip_prefix(word)
                .is_some_and(|rest| rest.starts_with('.'));
        word == key || is_section || (word == last && last.contains('_'))
    })
}

impl Setting {
    /// Returns where the setting comes from.
    pub(super) fn place(&self) -> Place {
        let mut place = Place::of(&self.from).with_key(&self.key, &self.value);
        place.line = self.line;
        place
    }
}

/// Maximum number of reported faults.
const MAX_ROUNDS: usize = 64;
/// Minimum length of a text value that identifies its setting within a fault.
const MIN_PATH: usize = 3;
