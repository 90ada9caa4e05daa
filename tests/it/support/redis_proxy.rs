//! An address that forwards to one Redis and later to another.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::TestRedis;

/// A proxy in front of one Redis or another, as a host name is that moves to a replica after a failover.
pub struct RedisProxy {
    port: u16,
    to: Arc<Mutex<u16>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl RedisProxy {
    pub fn to(redis: &TestRedis) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind");
        let port = listener.local_addr().expect("address").port();
        let to = Arc::new(Mutex::new(redis.port()));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (target, streams) = (Arc::clone(&to), Arc::clone(&open));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut open = streams.lock().unwrap();
                let Ok(redis) = TcpStream::connect(("127.0.0.1", *target.lock().unwrap())) else {
                    continue;
                };
                for (from, into) in [(&client, &redis), (&redis, &client)] {
                    open.push(from.try_clone().expect("a second handle"));
                    forward(from, into);
                }
            }
        });
        Self { port, to, open }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Forwards new connections to another Redis and ends the present ones.
    pub fn switch_to(&self, redis: &TestRedis) {
        let mut open = self.open.lock().unwrap();
        *self.to.lock().unwrap() = redis.port();
        for stream in open.drain(..) {
            let _ended = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Copies bytes one way, on a thread of its own, until either side ends.
fn forward(from: &TcpStream, into: &TcpStream) {
    let mut from = from.try_clone().expect("a second handle");
    let mut into = into.try_clone().expect("a second handle");
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut from, &mut into);
        let _ended = into.shutdown(Shutdown::Both);
    });
}
