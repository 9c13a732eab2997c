//! Builds the pages of `web/` with npm: the chat and the dashboard, which `server/src/http/page.rs`
//! embeds. Also copies the builds of the JavaScript client from the installed packages, for
//! `server/src/http/client_files.rs`. Also collects the keys of the configuration with their
//! descriptions for `server/src/cli/settings/reference.rs`.
//!
//! All files are written below `OUT_DIR`: the source tree stays unchanged, and builds with other
//! target directories or profiles do not conflict. A failed page build does not fail the build of
//! the server: a page that explains the failure is embedded instead.

#[path = "build/keys.rs"]
mod keys;

use std::{
    env,
    fmt::{self, Display, Formatter},
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder with the sources of the pages.
const WEB: &str = "../web";
/// The sources of the pages, relative to `WEB`.
const SOURCES: [&str; 10] = [
    "index.html",
    "dashboard.html",
    "package.json",
    "package-lock.json",
    "packages/client/src",
    // Declares that its modules have no side effects. Without it they are built into separate
    // files.
    "packages/client/package.json",
    "public",
    "src",
    "tsconfig.json",
    "vite.config.ts",
];

const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=BUILD_RUSTC={}", compiler());
    println!("cargo:rerun-if-changed=build/keys.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    keys::collect(&out).expect("the sources of the configuration can be read");
    if env::var_os("CARGO_FEATURE_UI").is_none() {
        return;
    }
    for source in SOURCES {
        println!("cargo:rerun-if-changed={WEB}/{source}");
    }
    let (work, page, client) = (out.join("web"), out.join("page"), out.join("client"));
    let installed = prepare(&work);
    let taken = installed.as_ref().map_or_else(
        |fault| leave_out(fault, &client),
        |()| take_client(&work, &client).or_else(|fault| leave_out(&fault.into(), &client)),
    );
    taken.expect("OUT_DIR can be written");
    let Err(fault) = installed.and_then(|()| build(&work, &page)) else {
        return;
    };
    fault.watch();
    println!("cargo:warning={fault}");
    if let Fault::Failed { output, .. } = &fault {
        for line in output {
            println!("cargo:warning={line}");
        }
    }
    explain(&fault, &page).expect("OUT_DIR can be written");
}

/// Returns the version of the compiler, such as `1.88.0`, or an empty text if it is unknown.
fn compiler() -> String {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(compiler).arg("--version").output();
    let printed = printed.map(|printed| String::from_utf8_lossy(&printed.stdout).into_owned());
    let version = printed
        .ok()
        .and_then(|text| text.split(' ').nth(1).map(str::to_owned));
    version.unwrap_or_default()
}

/// The reason why the page was not built.
enum Fault {
    /// docs.rs builds without network, and its documentation does not need the page.
    Documentation,
    NoNpm,
    Failed {
        /// The command without its options.
        command: String,
        /// The last lines of its output.
        output: Vec<String>,
    },
    Io(io::Error),
}

impl Fault {
    fn reason(&self) -> String {
        match self {
            Self::Documentation => "documentation is built without network".to_owned(),
            Self::NoNpm => {
                "npm was not found (it comes with Node.js 20.19, 22.12 or newer)".to_owned()
            }
            Self::Failed { command, .. } => format!("`{command}` failed"),
            Self::Io(error) => error.to_string(),
        }
    }

    /// Makes cargo run this script again when the fault may be fixed.
    fn watch(&self) {
        match self {
            Self::Documentation => println!("cargo:rerun-if-env-changed=DOCS_RS"),
            Self::NoNpm => {
                println!("cargo:rerun-if-env-changed=PATH");
                let path = env::var_os("PATH").unwrap_or_default();
                for folder in env::split_paths(&path).filter(|folder| folder.is_dir()) {
                    println!("cargo:rerun-if-changed={}", folder.display());
                }
            }
            // A file that never exists: this script runs again with every build.
            Self::Failed { .. } | Self::Io(_) => println!("cargo:rerun-if-changed={WEB}/.failed"),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Documentation => write!(f, "the chat page is not part of the documentation"),
            Self::NoNpm | Self::Failed { .. } | Self::Io(_) => {
                write!(f, "the chat page is left out: {}", self.reason())
            }
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Copies the sources to `work` and installs their dependencies.
fn prepare(work: &Path) -> Result<(), Fault> {
    if env::var_os("DOCS_RS").is_some() {
        return Err(Fault::Documentation);
    }
    fs::create_dir_all(work)?;
    for source in SOURCES {
        let copy = work.join(source);
        if copy.is_dir() {
            fs::remove_dir_all(&copy)?;
        }
        copy_all(&Path::new(WEB).join(source), &copy)?;
    }
    install(work)
}

/// Builds the sources in `work` into `page`.
fn build(work: &Path, page: &Path) -> Result<(), Fault> {
    let out = page.to_string_lossy();
    run(
        work,
        &["run", "build", "--", "--outDir", &out, "--emptyOutDir"],
    )?;
    // Built separately from the chat: shared scripts would split the chat into more files.
    run(work, &["run", "build:dashboard", "--", "--outDir", &out])?;
    compress(&page.join("assets"), "");
    compress(page, "index.html");
    compress(page, "dashboard.html");
    Ok(())
}

/// Installs the packages of the lock file, unless they are already installed.
fn install(work: &Path) -> Result<(), Fault> {
    let lock = fs::read(work.join("package-lock.json"))?;
    let installed = work.join("installed-lock.json");
    if fs::read(&installed).is_ok_and(|known| known == lock) && work.join("node_modules").is_dir() {
        return Ok(());
    }
    // Leaves out development dependencies. A firewall is detected within a minute.
    let quick = [
        "--omit=dev",
        "--ignore-scripts",
        "--prefer-offline",
        "--no-audit",
        "--no-fund",
    ];
    let short_timeouts = ["--fetch-retries=1", "--fetch-timeout=30000"];
    run(work, &[&["ci"][..], &quick, &short_timeouts].concat())?;
    fs::write(installed, lock)?;
    Ok(())
}

fn run(work: &Path, arguments: &[&str]) -> Result<(), Fault> {
    let output = Command::new(NPM)
        .args(arguments)
        .current_dir(work)
        .output()
        .map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                Fault::NoNpm
            } else {
                Fault::Io(error)
            }
        })?;
    if output.status.success() {
        return Ok(());
    }
    let output = [output.stdout, output.stderr].concat();
    let output = String::from_utf8_lossy(&output);
    let lines = output.lines().filter(|line| !line.trim().is_empty());
    let mut last: Vec<_> = lines.rev().take(12).map(str::to_owned).collect();
    last.reverse();
    let words = arguments.iter().take_while(|word| !word.starts_with('-'));
    Err(Fault::Failed {
        command: words.fold("npm".to_owned(), |command, word| {
            format!("{command} {word}")
        }),
        output: last,
    })
}

/// Copies the builds of the client and compresses them.
fn take_client(work: &Path, client: &Path) -> io::Result<()> {
    let package = work.join("node_modules/socket.io-client");
    renew(client)?;
    copy_all(&package.join("dist"), client)?;
    let manifest = fs::read_to_string(package.join("package.json"))?;
    let version = manifest.split_once("\"version\": \"");
    let version = version.and_then(|(_, rest)| rest.split_once('"'));
    let version = version.map_or("unknown", |(version, _)| version);
    fs::write(client.join("version"), version)?;
    compress(client, "socket.io");
    Ok(())
}

/// Compresses the files whose names begin with `begin`, and writes the results beside them. Node
/// supports the formats, so that the server needs no compression at run time. If this fails, the
/// files are served uncompressed.
fn compress(folder: &Path, begin: &str) {
    let compressed = Command::new("node")
        .args(["-e", COMPRESS])
        .arg(folder)
        .arg(begin)
        .status();
    if !compressed.is_ok_and(|status| status.success()) {
        println!(
            "cargo:warning={} is not compressed: node failed",
            folder.display()
        );
    }
}

const COMPRESS: &str = r#"
const fs = require("node:fs"), path = require("node:path"), zlib = require("node:zlib");
const [, folder, begin = ""] = process.argv;
for (const name of fs.readdirSync(folder).filter((name) => name.startsWith(begin))) {
  const file = path.join(folder, name), bytes = fs.readFileSync(file);
  fs.writeFileSync(file + ".br", zlib.brotliCompressSync(bytes));
  fs.writeFileSync(file + ".gz", zlib.gzipSync(bytes, { level: 9 }));
  fs.writeFileSync(file + ".zz", zlib.deflateSync(bytes, { level: 9 }));
}
"#;

/// Writes the reason why the client was not copied.
fn leave_out(fault: &Fault, client: &Path) -> io::Result<()> {
    renew(client)?;
    let reason = format!(
        "The Socket.IO client is not part of this server: {}.\n",
        fault.reason()
    );
    fs::write(client.join("missing.txt"), reason)
}

/// Creates an empty folder.
fn renew(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)
}

fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    if from.is_file() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_all(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Writes the page that explains the failure.
fn explain(fault: &Fault, page: &Path) -> io::Result<()> {
    renew(page)?;
    let reason = fault.to_string().replace('&', "&amp;").replace('<', "&lt;");
    fs::write(page.join("missing.css"), MISSING_STYLE)?;
    fs::write(
        page.join("index.html"),
        MISSING_PAGE.replace("REASON", &reason),
    )
}

const MISSING_PAGE: &str = r#"<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Roomcast</title>
    <link rel="stylesheet" href="/missing.css">
  </head>
  <body>
    <h1>Roomcast is running, without its chat page</h1>
    <p>Socket.IO clients can connect to this address. The page that belongs here could not be
      built together with the server (the build printed the details):</p>
    <pre>REASON</pre>
    <p>Install <a href="https://nodejs.org">Node.js</a> 20.19, 22.12 or newer with npm, then build the
      server again: <code>cargo run --release</code>.</p>
  </body>
</html>
"#;

const MISSING_STYLE: &str = "\
:root { color-scheme: light dark; }
body { max-width: 42rem; margin: 12vh auto; padding: 0 1.25rem; font: 1rem/1.5 system-ui, sans-serif; }
pre { padding: 1rem; overflow: auto; border: 1px solid; border-radius: 8px; white-space: pre-wrap; }
";
