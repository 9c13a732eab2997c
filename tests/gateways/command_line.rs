//! Commands for operators: the reference of all keys, reports of mistakes, exit codes, completions
//! and the manual page.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::guard::KEY;
use crate::server::{LOBBY, ROOMCAST, ServerProcess};

/// Runs a command, and returns its exit code, output and error output.
fn run(folder: &Path, arguments: &str, variables: &[(&str, &str)]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(ROOMCAST)
        .args(arguments.split(' '))
        .current_dir(folder)
        .env("ROOMCAST_STORE", "sqlite:chat.db")
        .env("ROOMCAST_LISTEN", "127.0.0.1:0")
        .env("XDG_STATE_HOME", folder)
        .env("NO_COLOR", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn commented_configuration_is_valid_without_its_comment_marks() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("roomcast.toml");
    // The file is not read, so that the command works beside a wrong configuration.
    fs::write(&path, "[").unwrap();
    let (code, text, _) = run(
        folder.path(),
        "-c roomcast.toml print-config --commented",
        &[],
    );
    assert_eq!(code, 0);
    let (mut file, mut is_unset, mut keys) = (String::new(), false, 0);
    for line in text.lines() {
        if line.starts_with("# type: ") {
            is_unset = line.ends_with("default: unset");
        }
        match line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')) {
            Some(key) if !is_unset => file.push_str(&format!("{key}\n")),
            Some(_) => {}
            None => file.push_str(&format!("{line}\n")),
        }
        keys += usize::from(
            line.starts_with("# variable: ROOMCAST_") || line.starts_with("# variable: ALLOWED_"),
        );
    }
    assert!(keys > 170, "{keys}");
    for part in [
        "[limits]\n",
        "# Maximum number of concurrent connections of the server. Default 100,000.\n\
         # type: integer; default: 100000\n\
         # variable: ROOMCAST_LIMITS__CONNECTIONS; reload: needs a restart\n\
         #connections = 100000\n",
        "# variable: ROOMCAST_LOG__LEVEL; reload: ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    fs::write(&path, &file).unwrap();
    let (code, _, errors) = run(folder.path(), "-c roomcast.toml check-config", &[]);
    assert_eq!(code, 0, "{errors}");
    let configured = run(folder.path(), "-c roomcast.toml print-config", &[]).1;
    assert_eq!(configured, run(folder.path(), "print-config", &[]).1);
    let (code, text, _) = run(folder.path(), "print-config --commented --json", &[]);
    assert_eq!((code, json(&text).as_array().unwrap().len()), (0, keys));
    let in_force = json(&run(folder.path(), "print-config --json", &[]).1);
    assert_eq!(in_force["store"]["url"], "sqlite:chat.db");
}

#[test]
fn all_mistakes_are_reported_and_exit_with_2() {
    let folder = TempDir::new().unwrap();
    let text =
        "[chat]\npage = 0\n[limits]\nconect = 5\nconnects = \"many\"\n[auth.jwt]\nsecret = 5\n";
    fs::write(folder.path().join("roomcast.toml"), text).unwrap();
    let tls = ("ROOMCAST_SERVER__TLS__CERT_FILE", "none.pem");
    let token = ("ROOMCAST_SERVER__METRICS_TOKEN", "canary canary");
    let level = ("ROOMCAST_LOG__LEVEL", "debg");
    let expected = [
        "roomcast.toml: line 4: unknown key `limits.conect`, did you mean `limits.connects`? (value 5,",
        "roomcast.toml: line 5: `limits.connects`: invalid type: string \"many\", expected u32 (value",
        "roomcast.toml: line 7: `auth.jwt.secret`: wrong type (value (hidden), expected secret text)",
        "roomcast.toml: line 2: chat.page is zero (value 0, expected integer)",
        "ROOMCAST_SERVER__TLS__CERT_FILE: server.tls needs both cert_file and key_file (value",
        "ROOMCAST_SERVER__METRICS_TOKEN: server.metrics_token must have",
        "ROOMCAST_LOG__LEVEL: log.level: `debg` is not a level",
    ];
    for command in ["check-config", "serve"] {
        let arguments = format!("-c roomcast.toml {command}");
        let (code, output, errors) = run(folder.path(), &arguments, &[tls, token, level]);
        assert_eq!((code, &*output), (2, ""), "{errors}");
        for part in expected {
            assert!(errors.contains(part), "{part}\nin\n{errors}");
        }
        assert_eq!(errors.lines().count(), expected.len(), "{errors}");
        assert!(!errors.contains("canary"), "{errors}");
    }
    let arguments = "-c roomcast.toml check-config --json";
    let (code, output, errors) = run(folder.path(), arguments, &[tls, token, level]);
    let outcome = json(&output);
    assert_eq!((code, &*errors, &outcome["valid"]), (2, "", &false.into()));
    let mistakes = outcome["mistakes"].as_array().unwrap();
    assert_eq!(mistakes.len(), expected.len());
    let unknown = &mistakes[0];
    assert_eq!(unknown["nearest"], "`limits.connects`");
    let place = &unknown["settings"][0];
    assert_eq!((&place["line"], &place["value"]), (&4.into(), &"5".into()));
    assert!(!output.contains("canary"), "{output}");
    let (code, output, _) = run(folder.path(), "check-config --connect --json", &[]);
    let outcome = json(&output);
    assert_eq!((code, &outcome["valid"]), (0, &true.into()));
    let findings = outcome["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding["subject"] == "store.url")
    );
}

#[test]
fn mistakes_in_the_file_of_variables_name_its_line() {
    let folder = TempDir::new().unwrap();
    let text = "# canary\nROOMCAST_LOG__LEVEL=debg\nROOMCAST_LIMITS__CONNECTS=many\n\
                ROOMCAST_LIMITS__CONECT=5\nROOMCAST_SERVER__METRICS_TOKEN=canary canary\n\
                ROOMCAST_CHAT__PAGE=0\nROOMCAST_SERVER__PROFILE=production\n\
                ALLOWED_ORIGINS=canary:\n";
    fs::write(folder.path().join("roomcast.env"), text).unwrap();
    // The file overrides the variables of the process.
    let process = [
        KEY,
        ("ROOMCAST_CHAT__PAGE", "1"),
        ("ROOMCAST_CHAT__BODY", "5"),
    ];
    let expected = [
        "roomcast.env: line 2: log.level: `debg` is not a level",
        "roomcast.env: line 3: `limits.connects`: invalid type: string \"many\"",
        "roomcast.env: line 4: unknown variable ROOMCAST_LIMITS__CONECT, did you mean",
        "roomcast.env: line 5: server.metrics_token must have",
        "roomcast.env: line 6: chat.page is zero (value 0, expected integer)",
        "ROOMCAST_CHAT__BODY: unknown variable ROOMCAST_CHAT__BODY",
    ];
    for command in ["check-config", "serve"] {
        let arguments = format!("--env-file roomcast.env {command}");
        let (code, output, errors) = run(folder.path(), &arguments, &process);
        assert_eq!((code, &*output), (2, ""), "{errors}");
        for part in expected {
            assert!(errors.contains(part), "{part}\nin\n{errors}");
        }
        assert!(!errors.contains("canary canary"), "{errors}");
    }
    let arguments = "--env-file roomcast.env check-config --json";
    let (_, output, _) = run(folder.path(), arguments, &process);
    let outcome = json(&output);
    let mistakes = outcome["mistakes"].as_array().unwrap();
    let places = mistakes.iter().map(|mistake| &mistake["settings"][0]);
    let of_file = places.filter(|place| place["source"] == "roomcast.env");
    let lines: BTreeSet<_> = of_file
        .map(|place| place["line"].as_u64().unwrap())
        .collect();
    assert!(
        lines.is_superset(&BTreeSet::from([2, 3, 4, 5, 6])),
        "{output}"
    );
    fs::write(folder.path().join("roomcast.env"), "PORT=canary\n").unwrap();
    let (code, _, errors) = Command::new(ROOMCAST)
        .args(["--env-file", "roomcast.env", "check-config"])
        .current_dir(folder.path())
        .output()
        .map(|output| (output.status.code(), output.stdout, output.stderr))
        .unwrap();
    let errors = String::from_utf8(errors).unwrap();
    assert_eq!(code, Some(2), "{errors}");
    let fault = "roomcast.env: line 1: `server.listen`: not a port";
    assert!(errors.contains(fault), "{errors}");
}

#[test]
fn token_refuses_roles_that_are_not_configured() {
    let folder = TempDir::new().unwrap();
    let (code, output, errors) = run(folder.path(), "token --sub ann --role coahc", &[KEY]);
    assert_eq!((code, &*output), (2, ""));
    assert!(
        errors.contains("no role `coahc` is configured; there are admin, ai,"),
        "{errors}"
    );
    let arguments = "token --sub ann --role coahc --any-role --json";
    let (code, output, _) = run(folder.path(), arguments, &[KEY]);
    assert_eq!(code, 0);
    assert_eq!(
        json(&output)["token"].as_str().unwrap().split('.').count(),
        3
    );
    assert_eq!(
        run(folder.path(), "token --sub ann --role coach", &[KEY]).0,
        0
    );
}

#[test]
fn explain_reports_its_decision_with_conditions() {
    let folder = TempDir::new().unwrap();
    // A question neither creates nor migrates a database.
    let (code, output, _) = run(folder.path(), "explain --user ann --event message", &[]);
    assert_eq!(code, 1, "{output}");
    assert!(!folder.path().join("chat.db").exists());
    ServerProcess::start(folder.path(), &[]).terminate();
    let room = "conversation:00000000-0000-0000-0000-000000000001";
    let in_room = format!("--event message --room {room}");
    let edit_in_room = format!("--event edit_message --room conversation:{LOBBY}");
    for (question, code, part) in [
        ("--event conversations", 0, "allowed: "),
        (
            "--event message",
            3,
            "refused: members of the conversation: give the room",
        ),
        ("--event edit_message", 3, "give the message"),
        (
            &in_room,
            3,
            "refused: members of the conversation: the user is not a member",
        ),
        (
            &edit_in_room,
            3,
            "only for the user's own messages: give the message",
        ),
        ("--event admin:kick", 3, "refused: none of the roles grants"),
        ("--event nothing", 3, "refused: no such event"),
    ] {
        let arguments = format!("explain --user ann {question}");
        let (found, output, errors) = run(folder.path(), &arguments, &[]);
        assert_eq!(found, code, "{question}: {output}{errors}");
        assert!(output.contains(part), "{part} in {output}");
        let (found, output, _) = run(folder.path(), &format!("{arguments} --json"), &[]);
        assert_eq!(
            (found, &json(&output)["allowed"]),
            (code, &(code == 0).into())
        );
    }
}

#[test]
fn completions_and_manual_page_name_every_command() {
    let folder = TempDir::new().unwrap();
    let (_, help, _) = run(folder.path(), "help", &[]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<_> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert!(commands.len() > 15, "{help}");
    let (code, page, _) = run(folder.path(), "man", &[]);
    assert!(code == 0 && page.contains(".TH roomcast 1"), "{page}");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, text, _) = run(folder.path(), &format!("completions {shell}"), &[]);
        assert_eq!(code, 0);
        for command in &commands {
            assert!(text.contains(command), "{command} for {shell}");
            let escaped = command.replace('-', "\\-");
            assert!(page.contains(&escaped), "{command} in {page}");
        }
    }
    let script = run(folder.path(), "completions bash", &[]).1;
    let path = folder.path().join("roomcast.bash");
    fs::write(&path, script).unwrap();
    let complete = "source roomcast.bash; COMP_WORDS=(roomcast check); COMP_CWORD=1; \
                    _roomcast roomcast check roomcast; echo ${COMPREPLY[@]}";
    let completed = Command::new("bash")
        .args(["-c", complete])
        .current_dir(folder.path())
        .output();
    let completed = String::from_utf8(completed.unwrap().stdout).unwrap();
    assert_eq!(completed.trim(), "check-config");
}

/// Runs a command in a terminal, and returns what it shows.
fn in_terminal(folder: &Path, arguments: &str) -> String {
    let command = format!("{ROOMCAST} --store sqlite:chat.db {arguments}");
    // `script` runs a command in a terminal.
    let shown = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(folder)
        .env("XDG_STATE_HOME", folder)
        .output()
        .unwrap();
    let text = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success(), "{arguments}: {text}");
    text
}

#[test]
fn long_commands_show_progress_on_a_terminal_only() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    let shown = in_terminal(path, "migrate");
    assert!(
        shown.contains("migrating") && shown.contains("applied "),
        "{shown}"
    );
    // The server creates the conversation.
    ServerProcess::start(path, &[]).terminate();
    for (arguments, progress, result) in [
        (
            "backup copy.db",
            &["opening", "copying", "checking"][..],
            "backed up to copy.db",
        ),
        (
            "restore --force copy.db",
            &["opening", "copying", "checking"],
            "restored to ",
        ),
        (
            &format!("export --conversation {LOBBY} --output lobby.ndjson"),
            &["exporting"],
            "0 messages",
        ),
    ] {
        let shown = in_terminal(path, arguments);
        for part in progress.iter().chain([&result]) {
            assert!(shown.contains(part), "{part} of {arguments}: {shown}");
        }
    }
    for file in ["copy.db", "lobby.ndjson", "chat.db.before-restore"] {
        fs::remove_file(path.join(file)).unwrap();
    }
    for (arguments, expected) in [
        ("migrate", ""),
        ("backup copy.db", ""),
        ("restore --force copy.db", ""),
        (
            &format!("export --conversation {LOBBY} --output lobby.ndjson"),
            "roomcast: 0 messages\n",
        ),
    ] {
        let (code, output, errors) = run(path, arguments, &[]);
        assert_eq!((code, &*errors), (0, expected), "{arguments}: {output}");
    }
    let (_, output, _) = run(path, "migrate --json", &[]);
    assert_eq!(json(&output)["applied"], Value::Array(Vec::new()));
}

/// Returns the commands that have the option `--json`, from their help texts.
fn commands_with_json(folder: &Path) -> BTreeSet<String> {
    let (_, help, _) = run(folder, "help", &[]);
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != "help")
        .filter(|name| {
            run(folder, &format!("{name} --help"), &[])
                .1
                .contains("--json")
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn failures_of_commands_with_json_are_one_object_on_standard_output() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    fs::write(path.join("wrong.toml"), "[chat]\npge = 1\n").unwrap();
    fs::write(path.join("text.db"), "not a database").unwrap();
    // A port that refuses connections.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{closed}");
    let text = "--store sqlite:text.db";
    let failures = [
        ("migrate", format!("{text} migrate --json"), 1),
        ("backup", format!("{text} backup copy.db --json"), 1),
        ("restore", "restore missing.db --json".to_owned(), 1),
        ("token", "token --sub ann --role coahc --json".to_owned(), 2),
        (
            "explain",
            format!("{text} explain --user ann --event message --json"),
            1,
        ),
        ("health", format!("health {url} --json"), 1),
        ("bench", format!("bench fanout {url} --clients 0 --json"), 2),
    ];
    let all = failures.iter().map(|(command, ..)| *command);
    let all = all.chain(["check-config", "print-config"]);
    let all: BTreeSet<String> = all.map(str::to_owned).collect();
    assert_eq!(all, commands_with_json(path));
    for (_, arguments, expected) in &failures {
        let (code, output, _) = run(path, arguments, &[KEY]);
        let failure = json(&output);
        assert_eq!(
            (code, &failure["exitCode"]),
            (*expected, &(*expected).into()),
            "{arguments}: {output}"
        );
        assert!(failure["error"].as_str().is_some(), "{arguments}: {output}");
    }
    for command in ["migrate", "backup x.db", "restore x.db", "print-config"] {
        let arguments = format!("-c wrong.toml {command} --json");
        let (code, output, errors) = run(path, &arguments, &[]);
        let failure = json(&output);
        assert_eq!((code, &*errors), (2, ""), "{arguments}");
        assert_eq!(failure["exitCode"], 2, "{output}");
        assert_eq!(failure["mistakes"][0]["settings"][0]["line"], 2, "{output}");
    }
    for command in &all {
        let arguments = format!("{command} --json --no-such-option");
        let (code, output, errors) = run(path, &arguments, &[]);
        let failure = json(&output);
        assert_eq!((code, &*errors), (2, ""), "{arguments}");
        let error = failure["error"].as_str().unwrap();
        assert!(error.contains("--no-such-option"), "{output}");
    }
}
