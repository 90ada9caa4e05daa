//! A Redis of a test's own, and nodes that share it.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use redis::{Connection, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};

use super::{Scratch, TestServer, eventually};

/// A real redis-server on a free port of the loopback interface; dropped, it is killed.
pub struct TestRedis {
    child: Child,
    port: u16,
    args: Vec<String>,
    scratch: Scratch,
}

impl TestRedis {
    /// One that writes nothing to disk. `None` where there is no redis-server, but in CI there must be.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// One that appends every command to a file, and so has all it had when it is started again.
    pub fn start_durable() -> Option<Self> {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    pub fn start_with(args: &[&str]) -> Option<Self> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        if program().is_none() {
            assert!(std::env::var_os("CI").is_none(), "no redis-server");
            eprintln!("SKIPPED: no redis-server; `make test` installs it where it may");
            return None;
        }
        // A port that was free may be taken before Redis takes it: then it ends, and another is tried.
        eventually("a redis-server starts", || {
            let (port, scratch) = (free_port(), Scratch::new());
            let mut redis = Self {
                child: spawn(port, &args, &scratch),
                port,
                args: args.clone(),
                scratch,
            };
            redis.comes_up().then_some(Some(redis))
        })
    }

    /// Whether it answers; `false` once it has ended.
    fn comes_up(&mut self) -> bool {
        eventually("redis-server answers or ends", || {
            if self.child.try_wait().expect("wait").is_some() {
                return Some(false);
            }
            let answer: Result<String, _> = redis::cmd("PING").query(&mut self.try_connect()?);
            // While it loads what it has written, it refuses; who wants a password is up.
            let is_up = |why: &redis::RedisError| why.code() == Some("NOAUTH");
            answer.as_ref().err().is_none_or(is_up).then_some(true)
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn try_connect(&self) -> Option<Connection> {
        redis::Client::open(self.url()).ok()?.get_connection().ok()
    }

    /// What it answers to a command.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let mut connection = self.try_connect().expect("connect to redis");
        command.query(&mut connection).expect("an answer of redis")
    }

    /// A node that shares it.
    pub fn node(&self, args: &[&str]) -> TestServer {
        let url = self.url();
        TestServer::start(&[&["--redis", &url], args].concat())
    }

    /// So many nodes, each of which knows of all.
    pub fn nodes(&self, count: usize, args: &[&str]) -> Vec<TestServer> {
        let nodes: Vec<TestServer> = (0..count).map(|_| self.node(args)).collect();
        know_each_other(&nodes);
        nodes
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("kill");
    }

    /// Ends it at once, as if the power went, and waits until it has.
    pub fn kill(&mut self) {
        let _ended = self.child.kill();
        self.child.wait().expect("wait");
    }

    /// Starts it again, on the same port and with what it has written.
    pub fn start_again(&mut self) {
        eventually("redis-server starts again", || {
            self.child = spawn(self.port, &self.args, &self.scratch);
            self.comes_up().then_some(())
        });
    }
}

/// What `--appendonly` writes.
impl TestRedis {
    fn appended_file(&self) -> std::path::PathBuf {
        let folder = self.scratch.path("appendonlydir");
        let files = std::fs::read_dir(folder).expect("appendonlydir");
        let mut paths = files.map(|file| file.expect("file").path());
        let is_appended = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".incr.aof");
        paths.find(is_appended).expect("a file of commands")
    }

    pub fn appended_bytes(&self) -> u64 {
        self.appended_file().metadata().expect("metadata").len()
    }

    /// Loses its end, as a disk does whose machine loses power.
    pub fn cut_what_was_appended(&self, bytes: u64) {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(self.appended_file());
        file.expect("open").set_len(bytes).expect("cut");
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Real redis-servers that are one Redis Cluster: masters without replicas, each with a part of the slots.
pub struct TestCluster {
    pub servers: Vec<TestRedis>,
}

const SLOTS: usize = 16_384;

impl TestCluster {
    /// One whose servers have all they had when they are started again.
    pub fn start_durable() -> Option<Self> {
        Self::start(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Three masters. What one of them had is refused while it is away, and the others go on.
    pub fn start(args: &[&str]) -> Option<Self> {
        let flags = [
            "--cluster-enabled",
            "yes",
            "--cluster-require-full-coverage",
            "no",
            "--cluster-node-timeout",
            "2000",
        ];
        let flags = [&flags[..], args].concat();
        let servers: Option<Vec<_>> = (0..3).map(|_| TestRedis::start_with(&flags)).collect();
        let cluster = Self { servers: servers? };
        let first = cluster.servers[0].port().to_string();
        for (n, server) in cluster.servers.iter().enumerate() {
            let (from, to) = (cluster.first_slot(n), cluster.first_slot(n + 1) - 1);
            let range = [from.to_string(), to.to_string()];
            server.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
            server.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first]);
        }
        cluster.is_whole();
        Some(cluster)
    }

    /// Waits until every server knows of all slots.
    pub fn is_whole(&self) {
        for server in &self.servers {
            eventually("the cluster is whole", || {
                let info: String = server.ask(&["CLUSTER", "INFO"]);
                let has = |line: &str| info.contains(line);
                let is_whole = has("cluster_state:ok") && has("cluster_slots_ok:16384");
                is_whole.then_some(())
            });
        }
    }

    fn first_slot(&self, server: usize) -> usize {
        SLOTS * server / self.servers.len()
    }

    /// Which server has this room.
    pub fn server_of(&self, room: &str) -> usize {
        let slot: usize = self.servers[0].ask(&["CLUSTER", "KEYSLOT", room]);
        let servers = 0..self.servers.len();
        let mut after = servers.filter(|n| slot >= self.first_slot(*n));
        after.next_back().expect("a server")
    }

    pub fn url(&self) -> String {
        let urls: Vec<String> = self.servers.iter().map(TestRedis::url).collect();
        urls.join(",")
    }

    /// So many nodes that share it, each of which knows of all.
    pub fn nodes(&self, count: usize, args: &[&str]) -> Vec<TestServer> {
        let url = self.url();
        let start = |_| TestServer::start(&[&["--redis", &url], args].concat());
        let nodes: Vec<TestServer> = (0..count).map(start).collect();
        know_each_other(&nodes);
        nodes
    }
}

fn know_each_other(nodes: &[TestServer]) {
    for node in nodes {
        eventually("each node knows of all", || {
            (node.get_json("/stats")["cluster"]["nodes"] == nodes.len()).then_some(())
        });
    }
}

/// An address that leads to one server or another, as a name does whose server has failed over.
pub struct Detour {
    port: u16,
    to: Arc<Mutex<u16>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Detour {
    pub fn to(redis: &TestRedis) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let port = listener.local_addr().expect("address").port();
        let to = Arc::new(Mutex::new(redis.port()));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (target, streams) = (Arc::clone(&to), Arc::clone(&open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let mut open = streams.lock().unwrap();
                let Ok(far) = TcpStream::connect(("127.0.0.1", *target.lock().unwrap())) else {
                    continue;
                };
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut into) =
                        (from.try_clone().unwrap(), into.try_clone().unwrap());
                    open.push(from.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let _ended = std::io::copy(&mut from, &mut into);
                        let _ended = into.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Self { port, to, open }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Leads to another server, and ends what led to the one before.
    pub fn turn_to(&self, redis: &TestRedis) {
        let mut open = self.open.lock().unwrap();
        *self.to.lock().unwrap() = redis.port();
        for stream in open.drain(..) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The program, by the name under which there is one. Debian's redis-tools has it under another one, without
/// the service that redis-server would start.
fn program() -> Option<&'static str> {
    let answers = |name: &&str| {
        let mut command = Command::new(name);
        let version = command.arg0("redis-server").arg("--version").output();
        version.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains(" server v="))
    };
    ["redis-server", "redis-check-rdb", "valkey-server"]
        .into_iter()
        .find(|name| answers(name))
}

fn spawn(port: u16, args: &[String], scratch: &Scratch) -> Child {
    Command::new(program().expect("a redis-server"))
        .arg0("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--dir"])
        .arg(scratch.path("."))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cannot start redis-server")
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    listener.local_addr().expect("address").port()
}
