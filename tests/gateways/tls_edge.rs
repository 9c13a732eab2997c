//! A server without a proxy: redirects to TLS, and certificates from an authority.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::server::ServerProcess;
use crate::support::RawClient;
use crate::tls::{self, VARIABLES};

/// Returns the address of the redirect listener.
pub(crate) fn redirects(server: &ServerProcess) -> SocketAddr {
    let log = server.early_log();
    let line = log
        .lines()
        .find(|line| line.contains("redirect listener ready"));
    let line = line.unwrap_or_else(|| panic!("no listener in {log}"));
    let (_, address) = line.split_once("http://").unwrap();
    let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
    address[..end.unwrap_or(address.len())].parse().unwrap()
}

fn get(address: SocketAddr, host: &str, target: &str) -> String {
    let mut client = RawClient::connect(address);
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    String::from_utf8(client.take_all()).unwrap()
}

#[test]
fn plain_requests_are_redirected_to_known_names_only() {
    let folder = TempDir::new().unwrap();
    tls::issue(&folder);
    let mut variables = VARIABLES.to_vec();
    variables.extend([
        ("ROOMCAST_SERVER__TLS__REDIRECT_LISTEN", "127.0.0.1:0"),
        (
            "ROOMCAST_SERVER__TLS__NAMES",
            "chat.example,www.chat.example",
        ),
        ("ROOMCAST_SERVER__TLS__PUBLIC_PORT", "443"),
    ]);
    let server = ServerProcess::start(folder.path(), &variables);
    let address = redirects(&server);
    for host in ["chat.example", "www.chat.example", "Chat.Example:80"] {
        let answer = get(address, host, "/admin?tab=1");
        let name = host.trim_end_matches(":80").to_ascii_lowercase();
        let location = format!("location: https://{name}/admin?tab=1\r\n");
        assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
        assert!(answer.contains(&location), "{answer}");
        // Browsers ignore the header without TLS (RFC 6797, 7.2).
        assert!(!answer.contains("strict-transport"), "{answer}");
    }
    for (host, status) in [
        ("evil.example", 421),
        ("chat.example@evil.example", 400),
        ("chat.example, evil.example", 400),
        ("", 400),
    ] {
        let answer = get(address, host, "/");
        let begin = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&begin), "{host}: {answer}");
        assert!(!answer.contains("location:"), "{host}: {answer}");
    }
    // A second request in the connection is not answered.
    let request = "GET / HTTP/1.1\r\nHost: chat.example\r\n\r\n";
    let mut client = RawClient::connect(address);
    client.send(request.repeat(2));
    let answers = String::from_utf8(client.take_all()).unwrap();
    assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    // A client that sends TLS gets no answer that would be one.
    let mut client = RawClient::connect(address);
    client.send([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
    client.shutdown_write();
    assert_ne!(client.take_all().first(), Some(&0x16));
}

#[test]
fn redirects_without_certificate_or_names_are_refused() {
    let folder = TempDir::new().unwrap();
    tls::issue(&folder);
    let listen = ("ROOMCAST_SERVER__TLS__REDIRECT_LISTEN", "127.0.0.1:0");
    for (variables, part) in [
        (vec![listen], "server.tls.cert_file"),
        (vec![VARIABLES[0], VARIABLES[1], listen], "server.tls.names"),
        (
            vec![
                VARIABLES[0],
                VARIABLES[1],
                ("ROOMCAST_SERVER__TLS__NAMES", "https://a"),
            ],
            "server.tls.names",
        ),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_roomcast"));
        let command = command.arg("check-config").current_dir(folder.path());
        let output = command.envs(variables).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && text.contains(part), "{text}");
    }
}

#[cfg(feature = "acme")]
mod acme {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::port::free_port;
    use crate::support::DEADLINE;

    const NAMES: &str = "chat.example,www.chat.example";

    /// The certificate authority `pebble`, with a DNS server by which all names are this machine.
    /// Stopped on drop.
    struct Authority {
        processes: Vec<Child>,
        port: u16,
    }

    impl Authority {
        /// Starts an authority whose challenges go to this port, and whose certificates are valid
        /// for these seconds. `folder` gets its certificate.
        fn start(folder: &Path, challenge_port: u16, validity_s: u32) -> Self {
            let [port, management, dns, fake] = [(); 4].map(|()| free_port());
            let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            fs::write(folder.join("ca.pem"), issued.cert.pem()).unwrap();
            fs::write(
                folder.join("ca-key.pem"),
                issued.signing_key.serialize_pem(),
            )
            .unwrap();
            let config = format!(
                r#"{{"pebble": {{"listenAddress": "127.0.0.1:{port}",
                "managementListenAddress": "127.0.0.1:{management}",
                "certificate": "ca.pem", "privateKey": "ca-key.pem",
                "httpPort": {challenge_port}, "tlsPort": 1, "ocspResponderURL": "",
                "externalAccountBindingRequired": false,
                "certificateValidityPeriod": {validity_s}}}}}"#
            );
            fs::write(folder.join("pebble.json"), config).unwrap();
            let start = |program: &str, arguments: &[String]| {
                Command::new(program)
                    .args(arguments)
                    .current_dir(folder)
                    // Each challenge would wait for up to 15 s.
                    .env("PEBBLE_VA_NOSLEEP", "1")
                    // By default, one of 20 nonces is refused at random, and an order in which that
                    // happens repeatedly fails for another reason than the tested one.
                    .env("PEBBLE_WFE_NONCEREJECT", "0")
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap_or_else(|error| panic!("{program} of Debian's pebble: {error}"))
            };
            let local = |port: u16| format!("127.0.0.1:{port}");
            let mut arguments = vec!["-defaultIPv6".into(), String::new()];
            for listener in ["-http01", "-https01", "-tlsalpn01"] {
                arguments.extend([listener.into(), String::new()]);
            }
            arguments.extend([
                "-dns01".into(),
                local(dns),
                "-management".into(),
                local(fake),
            ]);
            let names = start("pebble-challtestsrv", &arguments);
            let arguments = [
                "-config".into(),
                "pebble.json".into(),
                "-dnsserver".into(),
                local(dns),
            ];
            let authority = start("pebble", &arguments);
            let started = Instant::now();
            for port in [port, fake] {
                while std::net::TcpStream::connect(local(port)).is_err() {
                    assert!(
                        started.elapsed() < DEADLINE,
                        "the authority does not listen"
                    );
                    std::thread::sleep(Duration::from_millis(20)); // Poll interval.
                }
            }
            let processes = vec![names, authority];
            Self { processes, port }
        }

        fn url(&self) -> String {
            format!("https://localhost:{}/dir", self.port)
        }
    }

    impl Drop for Authority {
        fn drop(&mut self) {
            for process in &mut self.processes {
                let _ = process.kill();
                let _ = process.wait();
            }
        }
    }

    fn start(folder: &Path, url: &str, redirects: u16) -> ServerProcess {
        let redirects = format!("127.0.0.1:{redirects}");
        let variables = [
            VARIABLES[0],
            VARIABLES[1],
            ("ROOMCAST_SERVER__TLS__REDIRECT_LISTEN", &*redirects),
            ("ROOMCAST_SERVER__TLS__NAMES", NAMES),
            ("ROOMCAST_SERVER__ACME__URL", url),
            ("ROOMCAST_SERVER__ACME__ACCOUNT_FILE", "acme/account.json"),
            ("ROOMCAST_SERVER__ACME__CONTACT", "mailto:ops@chat.example"),
            ("ROOMCAST_SERVER__ACME__AGREE_TO_TERMS", "true"),
            ("ROOMCAST_SERVER__ACME__CA_FILE", "ca.pem"),
            ("ROOMCAST_SERVER__ACME__ALLOW_PRIVATE", "true"),
        ];
        ServerProcess::start(folder, &variables)
    }

    /// Returns the certificate that a client of this server gets, as a description.
    fn served(address: SocketAddr) -> String {
        let shell = format!(
            "openssl s_client -connect {address} -servername chat.example </dev/null 2>/dev/null \
             | openssl x509 -noout -issuer -serial -ext subjectAltName"
        );
        let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits for a certificate of the authority other than this one.
    fn await_certificate(address: SocketAddr, previous: &str) -> String {
        let start = Instant::now();
        loop {
            let certificate = served(address);
            if certificate.contains("Pebble Intermediate") && certificate != previous {
                return certificate;
            }
            assert!(start.elapsed() < 2 * DEADLINE, "only {certificate}");
            std::thread::sleep(Duration::from_millis(100)); // Poll interval.
        }
    }

    #[tokio::test]
    async fn certificate_is_obtained_and_renewed_without_restart() {
        let folder = TempDir::new().unwrap();
        let challenges = free_port();
        let authority = Authority::start(folder.path(), challenges, 12);
        let server = start(folder.path(), &authority.url(), challenges);
        let first = await_certificate(server.address(), "");
        for name in ["DNS:chat.example", "DNS:www.chat.example"] {
            assert!(first.contains(name), "{first}");
        }
        for path in ["cert.pem", "key.pem", "acme/account.json"] {
            let mode = fs::metadata(folder.path().join(path))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{path}");
        }
        let account = fs::read(folder.path().join("acme/account.json")).unwrap();
        // The answer to the challenge is offered during the order only.
        let answer = get(
            SocketAddr::from(([127, 0, 0, 1], challenges)),
            "chat.example",
            "/.well-known/acme-challenge/x",
        );
        assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
        let metrics = server.metrics().await;
        let expiry = metrics.lines().find_map(|line| {
            line.strip_prefix("roomcast_tls_certificate_expiry_timestamp_seconds ")
        });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let left = expiry.unwrap().parse::<i64>().unwrap() - now.unwrap().as_secs() as i64;
        assert!(left <= 12, "{left} s");

        await_certificate(server.address(), &first);
        let done = "roomcast_certificate_orders_total{result=\"done\"} ";
        let metrics = server.metrics().await;
        let count = metrics.lines().find_map(|line| line.strip_prefix(done));
        assert!(count.unwrap().parse::<u32>().unwrap() >= 2, "{metrics}");
        let same = fs::read(folder.path().join("acme/account.json")).unwrap();
        assert_eq!(same, account, "another account was created");
        // The keys are in their files only.
        let account = String::from_utf8(account).unwrap();
        let strings = account.split('"').skip(1).step_by(2);
        let mut keys: Vec<_> = strings.filter(|text| text.len() > 80).collect();
        let key = fs::read_to_string(folder.path().join("key.pem")).unwrap();
        keys.extend(key.lines().filter(|line| !line.starts_with("-----")));
        assert!(
            keys.len() > 2,
            "no key of the account, or of the certificate"
        );
        let log = [server.early_log(), &server.log()].concat();
        for key in keys {
            for (place, text) in [("the log", &log), ("metrics", &metrics)] {
                assert!(!text.contains(key), "{place} has a key");
            }
        }
        server.terminate();
    }

    #[test]
    fn server_without_its_authority_starts_and_reports_the_reason() {
        let folder = TempDir::new().unwrap();
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("ca.pem"), issued.cert.pem()).unwrap();
        let url = format!("https://localhost:{}/dir", free_port());
        let server = start(folder.path(), &url, free_port());
        server.expect_log(&["could not obtain a certificate", "cannot connect"]);
        let placeholder = served(server.address());
        assert!(placeholder.contains("DNS:chat.example"), "{placeholder}");
    }

    #[test]
    fn refused_order_keeps_the_certificate_and_reports_the_reason() {
        let folder = TempDir::new().unwrap();
        // The authority looks for the answer where nothing listens.
        let authority = Authority::start(folder.path(), free_port(), 3600);
        let server = start(folder.path(), &authority.url(), free_port());
        server.expect_log(&["could not obtain a certificate", "connection refused"]);
        assert!(served(server.address()).contains("DNS:chat.example"));
        assert!(folder.path().join("acme/account.json").exists());
    }
}
