//! Reloads in the audit log.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Configured, NEW, OLD, hang_up};
use crate::guard::{Server, until};
use crate::rotation::scrape;

/// Returns the entries of reloads, the oldest first, as soon as this many have ended.
fn entries(server: &Server, count: usize) -> Vec<Value> {
    let mut entries = Vec::new();
    until(|| {
        let (status, page) = server.call("GET", "/audit?operation=reload", "admin", "");
        assert_eq!(status, 200, "{page}");
        entries.clone_from(page["entries"].as_array().unwrap());
        let ended = entries.iter().filter(|entry| entry["outcome"].is_string());
        ended.count() == count
    });
    entries.reverse();
    entries
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    assert!(!text.contains(OLD) && !text.contains(NEW), "{text}");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn reloads_are_recorded_with_keys_and_without_values() {
    const URL: &str = "https://127.0.0.1:1/canary";
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("audit.log");
    let write = |text: &str| format!("[audit]\nfile = \"{}\"\n{text}", file.display());
    let hooks = |url: &str, secret: &str| {
        format!("[webhooks]\nurl = \"{url}\"\nsecret = \"{secret}\"\nallow_private = true\n")
    };
    let server = Configured::start(&write(&hooks(URL, OLD)));
    let replaced = write(&format!("{}[chat]\npage = 91\n", hooks(URL, NEW)));
    server.reload(&replaced, &["INFO", "configuration reloaded"]);
    let mixed = write(&hooks("https://127.0.0.1:2/canary", OLD));
    let unchanged = "configuration not reloaded";
    server.reload(&mixed, &["ERROR", unchanged, "webhooks.url"]);
    let invalid = write("[chat]\npage = 0\n[limits]\nconect = \"canary\"\n");
    server.reload(&invalid, &["ERROR", unchanged, "chat.page is zero"]);

    let [applied, refused, mistaken] = entries(&server.server, 3).try_into().unwrap();
    for entry in [&applied, &refused, &mistaken] {
        assert_eq!(
            (&entry["operation"], &entry["via"]),
            (&json!("reload"), &json!("signal"))
        );
        let names = ["userId", "statedUser", "address", "connectionId"];
        assert!(
            names.iter().all(|name| entry.get(name).is_none()),
            "{entry}"
        );
        assert!(!entry["node"].as_str().unwrap().is_empty());
    }
    let of = |entry: &Value| {
        let [outcome, request, after] = ["outcome", "request", "after"].map(|key| &entry[key]);
        json!([outcome, request, after])
    };
    let request = json!({"changed": ["webhooks.secret"], "restart": ["chat.page"]});
    assert_eq!(of(&applied), json!(["done", request, null]));
    let request = json!({"changed": ["webhooks.secret"], "restart": ["webhooks.url"]});
    let reason = "keys of `webhooks` that need a restart have changed as well";
    let after = json!({"reason": reason, "keys": []});
    assert_eq!(of(&refused), json!(["refused", request, after]));
    let request = json!({"changed": [], "restart": []});
    let keys = ["chat.page", "limits.conect"];
    let after = json!({"reason": "the configuration has mistakes", "keys": keys});
    assert_eq!(of(&mistaken), json!(["refused", request, after]));

    // The file has a line before and one after each reload.
    until(|| lines(&file).len() == 6);
    let lines = lines(&file);
    for (pair, entry) in lines.chunks(2).zip([applied, refused, mistaken]) {
        assert_eq!(pair[0]["id"], entry["id"]);
        assert!(pair[0].get("outcome").is_none(), "{}", pair[0]);
        assert_eq!(pair[1], entry);
        assert!(!entry.to_string().contains("canary"), "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_that_cannot_be_recorded_are_applied_nevertheless() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("audit.log");
    let write = |token: &str| {
        let file = file.display();
        format!("[audit]\nfile = \"{file}\"\n[server]\nmetrics_token = \"{token}\"\n")
    };
    let server = Configured::start(&write(OLD));
    let binary = &server.server.binary;
    let database = rusqlite::Connection::open(server.server.folder().join("chat.db")).unwrap();
    let rename = |from: &str, to: &str| {
        let renamed = database.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}"));
        renamed.unwrap();
    };
    rename("audit", "gone");
    let reloaded = "changed=\"server.metrics_token\"";
    server.reload(&write(NEW), &["INFO", "configuration reloaded", reloaded]);
    let warned = "a reload could not be recorded and is applied nevertheless";
    binary.expect_log(&["WARN", warned]);
    let incomplete = "roomcast_audit_entries_total{result=\"incomplete\"}";
    binary.until_metric(incomplete, |count| count == 1).await;
    assert_eq!(scrape(binary, NEW).await, 200);
    // The file has it nevertheless.
    assert_eq!(lines(&file)[1]["outcome"], "done");

    rename("gone", "audit");
    hang_up(&server.server);
    let recorded = "roomcast_audit_entries_total{result=\"recorded\"}";
    binary.until_metric(recorded, |count| count == 1).await;
    tokio::task::block_in_place(|| assert_eq!(entries(&server.server, 1).len(), 1));
}
