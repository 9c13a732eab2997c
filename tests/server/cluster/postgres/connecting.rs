//! Connections to PostgreSQL: poolers, credentials and TLS.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::*;

#[test]
fn database_with_sql_ascii_encoding_is_refused() {
    sql(
        "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    let url = postgres_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    let url = format!("{server}/bytes");
    let server = Local::serve(quiet(Io::builder().adapter(Postgres::new(&url).unwrap())));
    until(|| reason(&server.io).contains("SQL_ASCII and not UTF8"));
}

/// A proxy for PostgreSQL. It forwards notifications unless it acts as a pooler.
#[derive(Clone)]
struct PoolerProxy {
    port: u16,
    is_pooler: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl PoolerProxy {
    fn start(is_pooler: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = Self {
            port: listener.local_addr().unwrap().port(),
            is_pooler: Arc::new(is_pooler.into()),
            open: Arc::default(),
        };
        let server = postgres_server::shared().port();
        let own = between.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let streams = [client.try_clone().unwrap(), server.try_clone().unwrap()];
                let mut open = own.open.lock().unwrap();
                open.extend(streams);
                let is_pooler = own.is_pooler.load(Ordering::Relaxed);
                drop(open);
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                thread::spawn(move || answer(is_pooler, server, client));
            }
        });
        between
    }

    /// Makes this a pooler or a plain proxy for new connections, and closes the others. A closing
    /// connection stays what it was: if a notification passed on it, the server would be ready for
    /// a moment, and an event sent on that connection would be lost.
    fn become_pooler(&self, is_pooler: bool) {
        let mut open = self.open.lock().unwrap();
        self.is_pooler.store(is_pooler, Ordering::Relaxed);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn url(&self) -> String {
        format!("postgres://roomcast@127.0.0.1:{}/postgres", self.port)
    }
}

fn answer(is_pooler: bool, mut from: TcpStream, mut to: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = [0; 5];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut rest = vec![0; length as usize - 4];
        from.read_exact(&mut rest)?;
        if head[0] != b'A' || !is_pooler {
            to.write_all(&[&head[..], &rest].concat())?;
        }
    }
}

#[test]
fn pooler_without_notifications_is_detected_and_events_still_sent() {
    let servers = Servers::on_postgres(1, quiet);
    let (mut client, _) = servers[0].connect();
    let url = PoolerProxy::start(true).url();
    let postgres = Postgres::new(&url).unwrap().key(&servers.key);
    let pooled = Local::serve(quiet(Io::builder().adapter(postgres)));
    let (mut own, _) = pooled.connect();
    pooled.io.emit("one", ());
    own.expect_text("42[\"one\"]");
    client.expect_text("42[\"one\"]");
    until(|| reason(&pooled.io).contains("pooler in transaction mode"));
    // An emitter only sends and subscribes to nothing.
    let postgres = Postgres::new(&url).unwrap().key(&servers.key);
    let _runtime = pooled.runtime.enter();
    let emitter = Emitter::new(postgres);
    emitter.emit("two", ()).unwrap();
    client.expect_text("42[\"two\"]");
    assert_eq!(emitter.health(), Health::Ready);
}

#[test]
fn whether_notifications_arrive_is_found_out_after_each_reconnect() {
    let servers = Servers::on_postgres(1, quiet);
    let (mut client, _) = servers[0].connect();
    let between = PoolerProxy::start(false);
    let postgres = Postgres::new(&between.url()).unwrap().key(&servers.key);
    let other = Local::serve(quiet(Io::builder().adapter(postgres)));
    until(|| other.io.adapter_health() == Some(Health::Ready));
    for _ in 0..2 {
        between.become_pooler(true);
        until(|| reason(&other.io).contains("pooler in transaction mode"));
        other.io.emit("behind a pooler", ());
        client.expect_text("42[\"behind a pooler\"]");
        between.become_pooler(false);
        until(|| other.io.adapter_health() == Some(Health::Ready));
        other.io.emit("as before", ());
        client.expect_text("42[\"as before\"]");
    }
}

#[test]
fn missing_password_or_tls_is_one_error_and_servers_connect_with_it() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    write("ca.pem", &authority.pem());
    write("server.crt", &certificate.pem());
    write("server.key", &key.serialize_pem());
    // PostgreSQL 13 stores passwords in another format by default.
    let settings = "ssl = on\npassword_encryption = 'scram-sha-256'\n";
    write("extra.conf", settings);
    write(
        "pg_hba.conf",
        "hostnossl all roomcast 127.0.0.1/32 trust\nhostssl all app 127.0.0.1/32 scram-sha-256\n",
    );
    let server = Server::start_with(folder.path());
    let schema = "CREATE ROLE app LOGIN PASSWORD 'secret'; GRANT CREATE ON SCHEMA public TO app";
    server.sql("postgres", schema);
    let port = server.port();
    let url = |user: &str, options: &str| {
        let ca = folder.path().join("ca.pem");
        format!(
            "postgres://{user}@localhost:{port}/postgres?{options}&sslrootcert={}",
            ca.display()
        )
    };
    for (url, expected) in [
        (url("app", "sslmode=verify-full"), "password missing"),
        (
            url("app:wrong", "sslmode=verify-full"),
            "password authentication failed",
        ),
        (url("app:secret", "sslmode=disable"), "no pg_hba.conf entry"),
    ] {
        let postgres = Postgres::new(&url).unwrap();
        let server = Local::serve(quiet(Io::builder().adapter(postgres)));
        until(|| reason(&server.io).contains(expected));
        assert!(!reason(&server.io).contains("secret"));
    }
    let url = url("app:secret", "sslmode=verify-full");
    let servers = Servers::serve_and_meet(2, |key| Postgres::new(&url).unwrap().key(key), quiet);
    let (mut client, _) = servers[1].connect();
    servers[0].io.emit("data", Bytes::from_static(b"x"));
    text(&mut client);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'roomcast' AND ssl AND usename = 'app'";
    assert_eq!(server.sql("postgres", encrypted), "6");
}
