//! Startup of the server, and its errors.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::server::{ROOMCAST, ServerProcess};

/// Starts a server that cannot run, waits until it has ended, and returns its output.
pub(crate) fn fails(folder: &Path, variables: &[(&str, &str)]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .current_dir(folder)
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("ROOMCAST_PROFILE", "development")
        .env("XDG_STATE_HOME", folder)
        .env("NO_COLOR", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let output = [stdout, stderr].concat();
    let output = String::from_utf8(output).unwrap();
    assert!(!status.success(), "{output}");
    output
}

#[test]
fn second_server_on_a_database_file_is_refused_naming_the_first() {
    let folder = TempDir::new().unwrap();
    let first = ServerProcess::start(folder.path(), &[]);
    let by = format!("process {} at {}", first.pid(), first.address());
    for path in ["sqlite:chat.db", "sqlite:./chat.db"] {
        let output = fails(folder.path(), &[("ROOMCAST_STORE", path)]);
        assert!(output.contains(&by), "no {by} in {output}");
    }
    // Other processes can read the database at the same time.
    let export = Command::new(env!("CARGO_BIN_EXE_roomcast"))
        .args(["--store", "sqlite:chat.db", "migrate"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(export.success());
    // A killed server holds no lock.
    drop(first);
    let second = ServerProcess::start(folder.path(), &[]);
    second.terminate();
}

#[test]
fn server_on_a_disk_mounted_read_only_names_the_file_and_ends() {
    let folder = TempDir::new().unwrap();
    ServerProcess::start(folder.path(), &[]).terminate();
    // The mount belongs to a namespace of its own.
    let mount = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\"";
    let script = format!("{mount} && exec {ROOMCAST} --store sqlite:chat.db");
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script])
        .current_dir(folder.path())
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("XDG_STATE_HOME", folder.path())
        .output()
        .unwrap();
    let log = String::from_utf8([stdout, stderr].concat()).unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    let reason = "chat.db.lock: Read-only file system";
    assert!(
        log.contains("cannot open the store") && log.contains(reason),
        "{log}"
    );
}

#[test]
fn server_with_a_port_in_use_creates_no_database() {
    let folder = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = fails(folder.path(), &[("ROOMCAST_LISTEN", &address)]);
    assert!(
        output.contains(&format!("cannot listen on {address}")),
        "{output}"
    );
    let made: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(made.is_empty(), "{made:?}");
}

#[test]
fn a_default_start_warns_of_nothing_and_ends_with_the_address() {
    let folder = TempDir::new().unwrap();
    for migrations in [true, false] {
        let server = ServerProcess::start(folder.path(), &[]);
        let log = server.early_log();
        let noisy = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        assert_eq!(log.lines().find(noisy), None, "{log}");
        let lines = log
            .lines()
            .filter(|line| line.contains("V1__schema"))
            .count();
        assert_eq!(lines, usize::from(migrations), "{log}");
        assert!(!log.contains("refinery"), "{log}");
        let last = log.lines().last().unwrap();
        let end = format!("listening on http://{}", server.address());
        assert!(last.ends_with(&end), "{last}");
        server.terminate();
    }
}

#[tokio::test]
async fn log_files_do_not_grow_without_end() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log/roomcast.log");
    let variables = [
        ("ROOMCAST_LOG__FILE", log.to_str().unwrap()),
        ("ROOMCAST_LOG__FILE_BYTES", "300"),
        ("ROOMCAST_LOG__FILES", "2"),
        // It fails after it has logged the limit of open files.
        ("ROOMCAST_STORE", "sqlite:no/such/folder/chat.db"),
    ];
    for _ in 0..5 {
        fails(folder.path(), &variables);
    }
    let mut names: Vec<_> = fs::read_dir(log.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["roomcast.log", "roomcast.log.1"]);
    for name in names {
        let size = log.with_file_name(&name).metadata().unwrap().len();
        // The limit, and the line that reached it.
        assert!((1..1000).contains(&size), "{name} has {size} bytes");
    }
    let output = fails(folder.path(), &[("ROOMCAST_LOG__FILES", "0")]);
    assert!(output.contains("log.files"), "{output}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Returns a command that runs as another user, if this process has the right to do that.
pub(crate) fn as_another_user(program: &str) -> Command {
    let mut command = Command::new(program);
    if geteuid().is_root() {
        command.uid(OTHER_USER).gid(OTHER_USER);
    }
    command
}

/// Has another process lock a file, and waits until it has. The process ends with its input.
fn lock(path: &Path) -> Child {
    let mut locking = as_another_user("flock")
        .args([
            "--shared",
            path.to_str().unwrap(),
            "sh",
            "-c",
            "echo locked; cat",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = locking.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "locked\n");
    locking
}

#[test]
fn files_are_private_whatever_the_umask_and_the_files_before() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log/roomcast.log");
    let variables = [
        ("ROOMCAST_LOG__FILE", log.to_str().unwrap()),
        ("ROOMCAST_LOG__FILE_BYTES", "300"),
    ];
    let start = || {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 000; exec \"$0\"", ROOMCAST]);
        // It logs to a file, so the address is not known here.
        let mut command = command
            .current_dir(folder.path())
            .envs(variables)
            .env("ROOMCAST_LISTEN", "127.0.0.1:0")
            .env("ROOMCAST_STORE", "sqlite:chat.db")
            .env("ROOMCAST_PROFILE", "development")
            .env("XDG_STATE_HOME", folder.path())
            .spawn()
            .unwrap();
        let names = ["chat.db", "chat.db-wal", "chat.db-shm", "chat.db.lock"];
        let mut files: Vec<_> = names.map(|name| folder.path().join(name)).into();
        files.push(folder.path().join("roomcast/development.key"));
        files.push(log.clone());
        files.push(log.with_extension("log.1"));
        let begin = std::time::Instant::now();
        while !files
            .iter()
            .all(|file| file.exists() && mode(file) == 0o600)
        {
            let modes: Vec<_> = files
                .iter()
                .map(|f| (f, f.exists().then(|| mode(f))))
                .collect();
            assert!(begin.elapsed() < crate::support::DEADLINE, "{modes:?}");
            std::thread::sleep(std::time::Duration::from_millis(10)); // Poll interval.
        }
        // A killed server leaves all its files.
        command.kill().unwrap();
        command.wait().unwrap();
        files
    };
    for file in start() {
        if file.file_name().unwrap() != "development.key" {
            fs::set_permissions(file, Permissions::from_mode(0o666)).unwrap();
        }
    }
    start();
    assert_eq!(mode(log.parent().unwrap()), 0o700);
}

#[test]
fn another_user_cannot_lock_the_database_and_is_named_if_it_has() {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("chat.db.lock");
    // Another program may have created a file that every user can open.
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let ended = format!("process {}", ended.id());
    fs::write(&path, format!("{ended} at 127.0.0.1:3000")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let mut locking = lock(&path);
    let output = fails(folder.path(), &[]);
    let user = geteuid().is_root().then_some(OTHER_USER);
    let user = user.unwrap_or_else(|| geteuid().as_raw());
    let holder = format!("process {} (`flock` of user {user})", locking.id());
    assert!(
        output.contains(&holder) && !output.contains(&ended),
        "no {holder} in {output}"
    );
    drop(locking.stdin.take());
    locking.wait().unwrap();

    let server = ServerProcess::start(folder.path(), &[]);
    assert_eq!(mode(&path), 0o600);
    if geteuid().is_root() {
        for file in ["chat.db", "chat.db-wal", "chat.db-shm", "chat.db.lock"] {
            let file = folder.path().join(file);
            let locked = as_another_user("flock")
                .args(["--shared", "--nonblock", file.to_str().unwrap(), "true"])
                .status()
                .unwrap();
            assert!(!locked.success(), "{file:?}");
        }
    }
    server.terminate();
}

#[test]
fn a_database_of_another_user_is_refused() {
    if !geteuid().is_root() {
        // No other user's file can be created. Testing the check of the owner needs root.
        let own = fs::metadata("/proc/self").unwrap();
        assert_eq!(
            std::os::unix::fs::MetadataExt::uid(&own),
            geteuid().as_raw()
        );
        return;
    }
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    fs::write(folder.path().join("chat.db"), "").unwrap();
    fs::set_permissions(folder.path().join("chat.db"), Permissions::from_mode(0o666)).unwrap();
    let Output { status, stdout, .. } = as_another_user(ROOMCAST)
        .current_dir(folder.path())
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("XDG_STATE_HOME", folder.path())
        .output()
        .unwrap();
    let output = String::from_utf8(stdout).unwrap();
    let owner = format!("it belongs to user 0 and this process runs as user {OTHER_USER}");
    assert!(!status.success() && output.contains(&owner), "{output}");
}

#[test]
fn a_folder_open_to_every_user_is_refused_in_production() {
    let folder = TempDir::new().unwrap();
    let below = folder.path().join("data");
    fs::create_dir(&below).unwrap();
    let log = below.join("log");
    let log = ("ROOMCAST_LOG__FILE", log.to_str().unwrap());
    let production = ("ROOMCAST_PROFILE", "production");
    fs::set_permissions(&below, Permissions::from_mode(0o777)).unwrap();
    let real = fs::canonicalize(&below).unwrap();
    let remedy = format!("run `chmod o-w {}`", real.display());
    let output = fails(&below, &[production]);
    assert!(
        output.contains("store.url") && output.contains(&remedy),
        "{output}"
    );
    let output = fails(&below, &[production, log, ("ROOMCAST_STORE", "memory:")]);
    assert!(
        output.contains("log.file") && output.contains(&remedy),
        "{output}"
    );
    assert!(fs::read_dir(&below).unwrap().next().is_none(), "{output}");
    // In development it is a warning. A user who can write to a parent folder can replace the
    // folder.
    let home = TempDir::new().unwrap();
    let state = ("XDG_STATE_HOME", home.path().to_str().unwrap());
    let server = ServerProcess::start(&below, &[state]);
    server.expect_log(&["WARN", "can replace the database", real.to_str().unwrap()]);
    server.terminate();
    fs::set_permissions(&below, Permissions::from_mode(0o1777)).unwrap();
    ServerProcess::start(&below, &[production, state]).terminate();
}

/// The user id of `nobody`.
pub(crate) const OTHER_USER: u32 = 65534;
