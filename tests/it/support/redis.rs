//! A real Redis, and nodes that use it.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use redis::{Connection, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};

use super::{FakeClock, TempDir, TestServer, skip, wait_for, wait_until, with_fake_clock};

/// Flags of a Redis that appends every command to a file, and so keeps all its data over a restart.
pub(super) const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// A redis-server on a free port of the loopback interface. It is killed on drop.
pub struct TestRedis {
    child: Child,
    port: u16,
    args: Vec<String>,
    dir: TempDir,
}

/// Runs the scenario with a Redis that writes nothing to disk. Skips the test where there is no redis-server.
pub fn with_redis(scenario: impl FnOnce(TestRedis)) {
    with_redis_args(&[], scenario);
}

/// Runs the scenario with a Redis that keeps all its data over a restart.
pub fn with_durable_redis(scenario: impl FnOnce(TestRedis)) {
    with_redis_args(&DURABLE, scenario);
}

/// Runs the scenario with a Redis that has these arguments.
pub fn with_redis_args(args: &[&str], scenario: impl FnOnce(TestRedis)) {
    if is_redis_here() {
        scenario(TestRedis::start(args));
    }
}

/// Runs the scenario with a Redis that has a clock of its own. Skips the test where that is not possible.
pub fn with_redis_at(scenario: impl FnOnce(TestRedis, &FakeClock)) {
    if is_redis_here() {
        with_fake_clock(|clock| scenario(TestRedis::start_at(Some(&clock), &[]), &clock));
    }
}

/// Records that the test is skipped if there is no redis-server. In CI there must be one.
pub(super) fn is_redis_here() -> bool {
    let here = program().is_some();
    if !here {
        assert!(std::env::var_os("CI").is_none(), "no redis-server");
        skip("no redis-server; `make test` installs one where it may");
    }
    here
}

impl TestRedis {
    /// Starts one more Redis in a scenario that has one already.
    pub fn start_durable() -> Self {
        Self::start(&DURABLE)
    }

    pub(super) fn start(args: &[&str]) -> Self {
        Self::start_at(None, args)
    }

    fn start_at(clock: Option<&FakeClock>, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        // Another process may take the free port first: then Redis ends, and the next port is tried.
        wait_for("a redis-server starts", || {
            let (port, dir) = (free_port(), TempDir::new());
            let mut redis = Self {
                child: spawn(port, &args, &dir, clock),
                port,
                args: args.clone(),
                dir,
            };
            redis.comes_up().then_some(redis)
        })
    }

    /// Blocks until Redis replies (`true`) or has ended (`false`).
    fn comes_up(&mut self) -> bool {
        wait_for("redis-server answers or ends", || {
            if self.child.try_wait().expect("wait").is_some() {
                return Some(false);
            }
            let reply: Result<String, _> = redis::cmd("PING").query(&mut self.try_connect()?);
            // While Redis loads its files, it refuses. A Redis that asks for a password is up.
            let is_up = |why: &redis::RedisError| why.code() == Some("NOAUTH");
            reply.as_ref().err().is_none_or(is_up).then_some(true)
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

    /// Sends a command and returns the reply.
    pub fn command<T: FromRedisValue>(&self, arguments: &[&str]) -> T {
        let mut command = redis::cmd(arguments[0]);
        command.arg(&arguments[1..]);
        let mut connection = self.try_connect().expect("connect to redis");
        command.query(&mut connection).expect("a reply from redis")
    }

    /// Starts a node that uses this Redis.
    pub fn node(&self, args: &[&str]) -> TestServer {
        let url = self.url();
        TestServer::start(&[&["--redis", &url], args].concat())
    }

    /// Starts `count` nodes and waits until each knows of all.
    pub fn nodes(&self, count: usize, args: &[&str]) -> Vec<TestServer> {
        let nodes: Vec<TestServer> = (0..count).map(|_| self.node(args)).collect();
        wait_for_roster(&nodes);
        nodes
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid");
        kill_process(pid, signal).expect("kill");
    }

    /// Kills the process and waits until it is gone.
    pub fn kill(&mut self) {
        let _ended = self.child.kill();
        self.child.wait().expect("wait");
    }

    /// Starts Redis again, on the same port and with the files it has written.
    pub fn restart(&mut self) {
        self.check_appended_file();
        wait_until("redis-server starts again", || {
            self.child = spawn(self.port, &self.args, &self.dir, None);
            self.comes_up()
        });
    }
}

/// The file that `--appendonly` writes.
impl TestRedis {
    fn appended_file(&self) -> std::path::PathBuf {
        let folder = self.dir.path("appendonlydir");
        let files = std::fs::read_dir(folder).expect("appendonlydir");
        let mut paths = files.map(|file| file.expect("file").path());
        let is_appended = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".incr.aof");
        paths.find(is_appended).expect("an append-only file")
    }

    pub fn appended_bytes(&self) -> u64 {
        self.appended_file().metadata().expect("metadata").len()
    }

    /// Removes a transaction that was written in part, before the first start after a kill, as `assets/docs/cluster.md`
    /// says.
    fn check_appended_file(&self) {
        let files = self.dir.path("appendonlydir/appendonly.aof.manifest");
        if !files.exists() {
            return;
        }
        let mut command = Command::new(program().expect("a redis-server"));
        let child = command
            .arg0("redis-check-aof")
            .arg("--fix")
            .arg(files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("cannot start redis-check-aof");
        // It asks whether to cut the file. If it need not, it ends without reading.
        let _unread = child.stdin.take().expect("stdin").write_all(b"y\n");
        let out = child.wait_with_output().expect("output");
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stdout)
        );
    }

    /// Cuts the file to its first `bytes` bytes, as a disk may after a power failure.
    pub fn truncate_appended_file(&self, bytes: u64) {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(self.appended_file());
        file.expect("open").set_len(bytes).expect("truncate");
    }

    /// Cuts the file in the word that ends the first transaction after its first `bytes` bytes.
    pub fn cut_transaction_after(&self, bytes: u64) {
        let file = std::fs::read(self.appended_file()).expect("read");
        let start = bytes as usize;
        let end = file[start..].windows(4).position(|word| word == b"EXEC");
        let end = start + end.expect("a transaction");
        self.truncate_appended_file(end as u64 + 2);
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Blocks until each node knows of all.
pub(super) fn wait_for_roster(nodes: &[TestServer]) {
    for node in nodes {
        wait_until("each node knows of all", || {
            node.stats()["cluster"]["nodes"] == nodes.len()
        });
    }
}

/// Returns the name of the Redis program here. Debian's redis-tools has it as redis-check-rdb, without the service
/// that the package redis-server would start.
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

fn spawn(port: u16, args: &[String], dir: &TempDir, clock: Option<&FakeClock>) -> Child {
    let mut command = Command::new(program().expect("a redis-server"));
    if let Some(clock) = clock {
        clock.give_to(&mut command);
    }
    command
        .arg0("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--dir"])
        .arg(dir.path("."))
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("cannot start redis-server")
}

/// Returns a port of the loopback interface that was free just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
    listener.local_addr().expect("address").port()
}
