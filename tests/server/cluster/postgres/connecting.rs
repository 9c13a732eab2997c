//! Poolers, credentials and TLS on the way to PostgreSQL.

use super::*;

#[test]
fn a_database_that_does_not_know_what_a_text_is_is_refused_with_the_reason() {
    sql(
        "CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    let url = postgres_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    let url = format!("{server}/bytes");
    let server = Local::serve(Io::builder().adapter(Postgres::new(&url).unwrap()));
    until(|| reason(&server.io).contains("SQL_ASCII and not UTF8"));
}

/// The messages of PostgreSQL go through this, but for notifications.
fn pooler(port: u16) -> u16 {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let back = |mut from: TcpStream, mut to: TcpStream| -> std::io::Result<()> {
        loop {
            let mut head = [0; 5];
            from.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut rest = vec![0; length as usize - 4];
            from.read_exact(&mut rest)?;
            if head[0] != b'A' {
                to.write_all(&[&head[..], &rest].concat())?;
            }
        }
    };
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || back(server, client));
        }
    });
    own
}

#[test]
fn a_pooler_that_delivers_no_notification_is_found_out_and_what_is_sent_arrives_all_the_same() {
    let servers = Servers::on_postgres(1, quiet);
    let (mut client, _) = servers[0].connect();
    let port = postgres_server::shared().lock().unwrap().port();
    let url = format!("postgres://roomcast@127.0.0.1:{}/postgres", pooler(port));
    let postgres = Postgres::new(&url).unwrap().key(&servers.key);
    let pooled = Local::serve(quiet(Io::builder().adapter(postgres)));
    let (mut own, _) = pooled.connect();
    pooled.io.emit("one", ());
    own.expect_text("42[\"one\"]");
    client.expect_text("42[\"one\"]");
    until(|| reason(&pooled.io).contains("pooler in transaction mode"));
    // One that only sends listens to nothing.
    let postgres = Postgres::new(&url).unwrap().key(&servers.key);
    let _runtime = pooled.runtime.enter();
    let emitter = Emitter::new(postgres);
    emitter.emit("two", ()).unwrap();
    client.expect_text("42[\"two\"]");
    assert_eq!(emitter.health(), Health::Ready);
}

#[test]
fn a_password_or_tls_that_is_missing_is_one_clear_error_and_with_it_servers_are_joined() {
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
    write("extra.conf", "ssl = on\n");
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
        (url("app:secret", "sslmode=disable"), "no encryption"),
    ] {
        let postgres = Postgres::new(&url).unwrap();
        let server = Local::serve(quiet(Io::builder().adapter(postgres)));
        until(|| reason(&server.io).contains(expected));
        assert!(!reason(&server.io).contains("secret"));
    }
    let url = url("app:secret", "sslmode=verify-full");
    let servers = Servers::that_meet(2, |key| Postgres::new(&url).unwrap().key(key), quiet);
    let (mut client, _) = servers[1].connect();
    servers[0].io.emit("data", Bytes::from_static(b"x"));
    text(&mut client);
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'roomcast' AND ssl AND usename = 'app'";
    assert_eq!(server.sql("postgres", encrypted), "6");
}
