//! Starts servers in processes of their own, and measures their processor time and memory.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::{SERVE, SERVE_BARE, SERVE_BARE_128, SERVE_PLAIN};

pub struct Process {
    pub name: String,
    pub address: SocketAddr,
    /// The processes that together serve, killed on drop.
    children: Vec<Child>,
}

impl Process {
    /// Starts the server of this name (see `TLS_SERVERS`), with the certificate in the folder.
    pub fn start(name: &str, folder: &Path) -> Self {
        let (address, children) = match name {
            "roomcast" => own(SERVE, folder),
            "loop" => own(SERVE_BARE, folder),
            "loop128" => own(SERVE_BARE_128, folder),
            "nginx" => nginx(folder),
            "node" => node(folder),
            other => panic!("no server {other}"),
        };
        Self {
            name: name.to_owned(),
            address,
            children,
        }
    }

    /// Returns the CPU time in seconds, user and system, of all threads of all processes.
    pub fn cpu(&self) -> f64 {
        let mut nanoseconds = 0;
        for pid in self.pids() {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
            for task in tasks.flatten() {
                let stat = fs::read_to_string(task.path().join("schedstat"));
                let stat = stat.unwrap_or_default();
                let spent = stat.split(' ').next().and_then(|text| text.parse().ok());
                nanoseconds += spent.unwrap_or(0_u64);
            }
        }
        nanoseconds as f64 / 1e9
    }

    /// Returns the resident bytes of all processes.
    pub fn resident(&self) -> usize {
        let of = |pid: u32| {
            let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("a process");
            let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
            pages.unwrap_or(0_usize) * rustix::param::page_size()
        };
        self.pids().into_iter().map(of).sum()
    }

    /// Returns the ids of the processes and of their direct children.
    fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.children.iter().map(Child::id).collect();
        for pid in pids.clone() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let children = children.unwrap_or_default();
            pids.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        pids
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for pid in self.pids() {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Starts this program as a server, and reads the address that it prints.
fn own(mode: &str, folder: &Path) -> (SocketAddr, Vec<Child>) {
    let program = std::env::current_exe().expect("this program");
    printing(Command::new(program).arg(mode).current_dir(folder))
}

fn printing(command: &mut Command) -> (SocketAddr, Vec<Child>) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut line = String::new();
    let output = child.stdout.take().expect("a pipe");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("an address");
    (line.trim().parse().expect("an address"), vec![child])
}

/// Starts nginx in front of a server without TLS.
fn nginx(folder: &Path) -> (SocketAddr, Vec<Child>) {
    let (backend, mut children) = own(SERVE_PLAIN, folder);
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let folder = folder.display();
    let config = format!(
        "worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
         events {{ worker_connections 8192; }}
         http {{
           access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
           scgi_temp_path {folder}/scgi;
           server {{
             listen {address} ssl; ssl_certificate {folder}/cert.pem;
             ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
             location / {{
               proxy_pass http://{backend}; proxy_http_version 1.1; proxy_buffering off;
               proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
               proxy_set_header Host $host; proxy_read_timeout 1h;
             }}
           }}
         }}"
    );
    let path = format!("{folder}/nginx.conf");
    fs::write(&path, config).expect("a file");
    let child = Command::new("nginx").args(["-c", &path]).spawn();
    children.push(child.expect("nginx is installed"));
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "nginx does not start"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    (address, children)
}

/// Starts a Node server with the `socket.io` that is installed in `tests/interop`.
fn node(folder: &Path) -> (SocketAddr, Vec<Child>) {
    let root = env!("CARGO_MANIFEST_DIR");
    let server = format!("{root}/benches/tls/node_server.cjs");
    printing(
        Command::new("node")
            .args([&server, root])
            .current_dir(folder),
    )
}

/// Writes a certificate and its key.
pub fn issue(folder: &Path) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let issued = issued.expect("a certificate");
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("a file");
    write("cert.pem", issued.cert.pem());
    write("key.pem", issued.signing_key.serialize_pem());
}

/// Waits two seconds, in which a server frees unused memory.
pub fn settle() {
    std::thread::sleep(Duration::from_secs(2));
}

/// Raises the soft limit of open files to the hard limit.
pub fn allow_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the limit may be raised");
}
