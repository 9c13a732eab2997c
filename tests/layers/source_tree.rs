//! Reads the modules of a package and resolves their imports to the defining modules.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs,
    path::{Path, PathBuf},
};

/// Submodules, and the submodules that each may import. A submodule is a folder or a file; the row
/// `.` stands for all files without a row.
pub(super) type Rules = &'static [(&'static str, &'static str)];

/// An import of one submodule by another.
pub(super) struct Arrow {
    pub(super) from: String,
    pub(super) to: String,
    /// The file and the line of the import.
    place: (String, usize),
    name: String,
}

impl fmt::Display for Arrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            name,
            place: (file, line),
        } = self;
        write!(
            f,
            "{file}:{line}: `{from}` may not import `{name}` of `{to}`"
        )
    }
}

/// All modules of a package and their imports.
pub(super) struct SourceTree {
    modules: BTreeMap<Vec<String>, Module>,
    /// Modules that exist in tests only.
    tests: Vec<Vec<String>>,
}

struct Module {
    /// Paths with their lines.
    imports: Vec<(usize, Vec<String>)>,
    /// The full paths of the names that the module has imported.
    names: HashMap<String, Vec<String>>,
}

impl SourceTree {
    /// Reads the package of a folder, and returns it with the module that the folder is.
    pub(super) fn of(folder: &str) -> (Self, Vec<String>) {
        let mut src = root().join(folder);
        while !src.join("lib.rs").exists() {
            assert!(src.pop(), "{folder} is not part of a package");
        }
        let module = root().join(folder);
        let module = segments(
            &module
                .strip_prefix(&src)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('/', "::"),
        );
        let mut files = Vec::new();
        collect(&src, &mut files);
        let read = |file: PathBuf| {
            let path = file.strip_prefix(&src).unwrap().with_extension("");
            (
                path.to_str().unwrap().to_owned(),
                fs::read_to_string(&file).unwrap(),
            )
        };
        (Self::new(files.into_iter().map(read)), module)
    }

    pub(super) fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut source_tree = Self {
            modules: BTreeMap::new(),
            tests: Vec::new(),
        };
        for (path, source) in files {
            let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
            module.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
            let code = code(&source);
            for (_, rest) in after(&code, "#[cfg(test)]") {
                let item = rest.trim_start().trim_start_matches("pub(crate) ");
                let name = item
                    .strip_prefix("mod ")
                    .and_then(|rest| rest.split_once(';'));
                if let Some((name, _)) = name.filter(|(name, _)| !name.contains('{')) {
                    source_tree.tests.push(join(&module, name));
                }
            }
            source_tree.modules.insert(module, Module::read(&code));
        }
        source_tree
    }

    pub(super) fn is_for_tests(&self, module: &[String]) -> bool {
        self.tests.iter().any(|tests| module.starts_with(tests))
    }

    /// Returns the module that defines a path used in another module, or `None` if another crate
    /// does.
    fn home(&self, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let (first, behind) = path.split_first()?;
        let (mut home, mut rest) = match first.as_str() {
            "crate" => (Vec::new(), behind),
            "self" => (from.to_vec(), behind),
            "super" => (from.to_vec(), path),
            first => {
                let child = join(from, first);
                self.modules.get(&child)?;
                (from.to_vec(), path)
            }
        };
        while let Some((name, behind)) = rest.split_first() {
            let child = join(&home, name);
            if name == "super" {
                home.pop();
            } else if self.modules.contains_key(&child) {
                home = child;
            } else {
                let meant = self
                    .modules
                    .get(&home)
                    .and_then(|module| module.names.get(name));
                let meant = meant.filter(|_| depth < 8 && home != from);
                return match meant.and_then(|path| self.home(&home, path, depth + 1)) {
                    Some(defining) => Some(defining),
                    None => Some(home),
                };
            }
            rest = behind;
        }
        Some(home)
    }

    /// Returns the imports of modules below a module, except in tests, with the modules they lead
    /// to.
    fn below(
        &self,
        module: &[String],
    ) -> impl Iterator<Item = (&Vec<String>, usize, &String, Vec<String>)> {
        let files = self.modules.iter().filter(|(file, _)| {
            file.len() > module.len() && file.starts_with(module) && !self.is_for_tests(file)
        });
        files.flat_map(move |(file, read)| {
            read.imports.iter().filter_map(move |(line, path)| {
                Some((file, *line, path.last()?, self.home(file, path, 0)?))
            })
        })
    }

    /// Returns all imports between submodules of a module.
    pub(super) fn arrows(&self, module: &[String], rules: Rules) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (file, line, name, home) in self.below(module) {
            let Some(from) = submodule(module, file, rules) else {
                continue;
            };
            if !home.starts_with(module) {
                continue;
            }
            // A name that `mod.rs` itself defines, or that cannot be resolved.
            let to = submodule(module, &home, rules).unwrap_or("mod.rs");
            if from != to {
                arrows.push(Arrow {
                    from: from.to_owned(),
                    to: to.to_owned(),
                    place: (file.join("::"), line),
                    name: name.clone(),
                });
            }
        }
        arrows
    }

    /// Returns which file below a module imports which. Modules with submodules are left out,
    /// because they import for these.
    pub(super) fn files_that_import(&self, module: &[String]) -> Vec<(String, String)> {
        let is_file = |path: &[String]| {
            path.len() > module.len()
                && path.starts_with(module)
                && !self
                    .modules
                    .keys()
                    .any(|other| other.len() > path.len() && other.starts_with(path))
        };
        let arrows = self.below(module);
        arrows
            .filter(|(file, _, _, home)| is_file(file) && is_file(home) && *file != home)
            .map(|(file, _, _, home)| (file.join("::"), home.join("::")))
            .collect()
    }
}

impl Module {
    fn read(code: &str) -> Self {
        let (mut imports, mut names) = (Vec::new(), HashMap::new());
        let line = |at: usize| code[..at].matches('\n').count() + 1;
        let mut statements = Vec::new();
        for (start, rest) in after(code, "use ") {
            let (before, visibility) = code[..start - 4]
                .rsplit_once('\n')
                .unwrap_or(("", &code[..start - 4]));
            let is_statement = ["", "pub"].contains(&visibility.trim().split('(').next().unwrap());
            let Some(end) = rest.find(';').filter(|_| is_statement) else {
                continue;
            };
            statements.push(start - 4 - visibility.len()..start + end);
            if before.trim_end().ends_with("#[cfg(test)]") {
                continue;
            }
            for (mut path, name) in paths(&rest[..end]) {
                path.pop_if(|last| last == "self");
                let name = name.or_else(|| path.last().cloned()).unwrap_or_default();
                names.insert(name, path.clone());
                imports.push((line(start), path));
            }
        }
        for prefix in ["crate::", "super::", "self::"] {
            for (start, rest) in after(code, prefix) {
                let before = &code[..start - prefix.len()];
                let is_tail = before.ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c));
                let is_visibility = before.ends_with("pub(in ");
                if is_tail || is_visibility || statements.iter().any(|known| known.contains(&start))
                {
                    continue;
                }
                let is_path = |c: char| c.is_alphanumeric() || "_:".contains(c);
                let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
                imports.push((line(start), segments(&format!("{prefix}{}", &rest[..end]))));
            }
        }
        imports.sort();
        Self { imports, names }
    }
}

/// Returns the code of a file without comments and without tests, which are at its end
/// (`items_after_test_module`).
fn code(source: &str) -> String {
    let code: String = source
        .lines()
        .flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"])
        .collect();
    let tests = after(&code, "#[cfg(test)]").find(|(_, rest)| {
        let item = rest.trim_start();
        let open = item.find('{').filter(|_| item.starts_with("mod "));
        open.is_some_and(|open| item.find(';').is_none_or(|end| open < end))
    });
    match tests {
        Some((start, _)) => code[..start].to_owned(),
        None => code,
    }
}

/// Returns the text after each occurrence of a word, with its position.
fn after<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    code.match_indices(word).map(move |(start, _)| {
        let end = start + word.len();
        (end, &code[end..])
    })
}

/// Returns the paths of a tree of imports, with their aliases.
fn paths(tree: &str) -> Vec<(Vec<String>, Option<String>)> {
    let tree = tree.trim();
    if let Some((head, group)) = tree.split_once('{') {
        let group = group.trim_end().strip_suffix('}').unwrap_or_default();
        let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
        for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    for (path, name) in paths(&group[start..at]) {
                        found.push(([segments(head), path].concat(), name));
                    }
                    start = at + 1;
                }
                _ => {}
            }
        }
        return found;
    }
    match tree.split_once(" as ") {
        _ if tree.is_empty() => Vec::new(),
        Some((path, name)) => vec![(segments(path), Some(name.trim().to_owned()))],
        None => vec![(segments(tree), None)],
    }
}

/// Returns the submodule of `module` that contains `other`, or `None` if `other` is the module
/// itself.
pub(super) fn submodule<'a>(
    module: &[String],
    other: &[String],
    rules: &'a [(&'a str, &'a str)],
) -> Option<&'a str> {
    let entry = other.get(module.len())?;
    let row = |name: &str| {
        rules
            .iter()
            .map(|(submodule, _)| *submodule)
            .find(|submodule| *submodule == name)
    };
    row(entry).or_else(|| row("."))
}

/// Returns sets of two or more nodes that reach each other.
pub(super) fn circles(arrows: Vec<(String, String)>) -> Vec<Vec<String>> {
    let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in arrows {
        next.entry(from).or_default().insert(to);
    }
    let reach = |start: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(node) = open.pop() {
            let more = next.get(&node).into_iter().flatten();
            open.extend(more.filter(|to| seen.insert((*to).clone())).cloned());
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        next.keys().map(|node| (node, reach(node))).collect();
    let mutual = |node: &String| {
        let others = reached.get(node).into_iter().flatten();
        let both =
            others.filter(|other| reached.get(other).is_some_and(|back| back.contains(node)));
        both.cloned().collect::<Vec<_>>()
    };
    let circles: BTreeSet<Vec<String>> = next
        .keys()
        .map(mutual)
        .filter(|circle| circle.len() > 1)
        .collect();
    circles.into_iter().collect()
}

/// Returns the names of the files and folders in a folder that are modules.
pub(super) fn entries(folder: &Path) -> Vec<String> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_module = path.is_dir() || path.extension().is_some_and(|end| end == "rs");
        if is_module && !["mod", "lib", "main"].contains(&name) {
            entries.push(name.to_owned());
        }
    }
    entries.sort();
    entries
}

pub(super) fn segments(path: &str) -> Vec<String> {
    let parts = path.split("::").map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

pub(super) fn join(module: &[String], name: &str) -> Vec<String> {
    [module, &[name.trim().to_owned()]].concat()
}

pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Collects all Rust files below `directory`.
pub(super) fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
