//! A backend that receives the requests of a server, and responds well, badly or not at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::wait_for;

/// How the backend responds.
#[derive(Clone)]
pub enum HookBehaviour {
    /// Sends these bytes and closes the connection.
    Respond(String),
    /// Sends the bytes that the function returns.
    Decide(Arc<dyn Fn(&HookRequest) -> String + Send + Sync>),
    /// Sends these bytes, then bytes without end.
    Endless(String),
    /// Reads the request and never responds.
    Hang,
    /// Closes the connection before it has read the request.
    Close,
}

/// A request that the backend has received.
#[derive(Clone, Debug)]
pub struct HookRequest {
    pub head: String,
    pub body: Vec<u8>,
    /// True if the backend's response had the status 200.
    pub accepted: bool,
}

/// A backend on a port of the loopback interface. It stops on drop.
pub struct HookServer {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    behaviour: Mutex<HookBehaviour>,
    requests: Mutex<Vec<HookRequest>>,
    open: Mutex<Vec<TcpStream>>,
    stops: AtomicBool,
}

impl HookBehaviour {
    pub fn accept() -> Self {
        Self::status(200)
    }

    pub fn status(status: u16) -> Self {
        Self::Respond(hook_response(status, "", ""))
    }

    pub fn decide(decide: impl Fn(&HookRequest) -> String + Send + Sync + 'static) -> Self {
        Self::Decide(Arc::new(decide))
    }
}

/// Returns a response with these header lines, each with its line end.
pub fn hook_response(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Because\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

impl HookRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(header, _)| header.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

impl HookServer {
    pub fn start(behaviour: HookBehaviour) -> Self {
        Self::start_on(0, behaviour)
    }

    /// Starts on a port that a backend had before.
    pub fn start_on(port: u16, behaviour: HookBehaviour) -> Self {
        let listener = wait_for("the port of the backend is free", || {
            TcpListener::bind(("127.0.0.1", port)).ok()
        });
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            requests: Mutex::default(),
            open: Mutex::default(),
            stops: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || serve(&listener, &serving));
        Self {
            port,
            shared,
            thread: Some(thread),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Changes how later requests are responded to. Requests that hang now end.
    pub fn set(&self, behaviour: HookBehaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
        self.shared.close_open();
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<HookRequest> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for HookServer {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        self.shared.close_open();
        // Wakes the thread that accepts.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn close_open(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stops.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(stream) = stream {
            let shared = Arc::clone(shared);
            // The thread ends when the connection does, whatever the outcome.
            thread::spawn(move || respond(stream, &shared).ok());
        }
    }
}

fn respond(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let behaviour = shared.behaviour.lock().unwrap().clone();
    if matches!(behaviour, HookBehaviour::Close) {
        return Ok(());
    }
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    shared.open.lock().unwrap().push(stream.try_clone()?);
    let mut request = read_request(&mut stream)?;
    let (response, is_endless) = match &behaviour {
        HookBehaviour::Respond(response) => (response.clone(), false),
        HookBehaviour::Decide(decide) => (decide(&request), false),
        HookBehaviour::Endless(start) => (start.clone(), true),
        HookBehaviour::Hang | HookBehaviour::Close => (String::new(), false),
    };
    request.accepted = response.starts_with("HTTP/1.1 200");
    shared.requests.lock().unwrap().push(request);
    if matches!(behaviour, HookBehaviour::Hang) {
        // Ends when either side closes.
        stream.read_exact(&mut [0]).ok();
        return Ok(());
    }
    stream.write_all(response.as_bytes())?;
    if !is_endless {
        return stream.shutdown(Shutdown::Write);
    }
    loop {
        // Fails when the server closes.
        stream.write_all(&[b'x'; 16 * 1024])?;
    }
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<HookRequest> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(|_| ErrorKind::InvalidData)?;
    let mut request = HookRequest {
        head,
        body: Vec::new(),
        accepted: false,
    };
    let length = request.header("Content-Length").unwrap_or("0").parse();
    request.body = vec![0; length.map_err(|_| ErrorKind::InvalidData)?];
    stream.read_exact(&mut request.body)?;
    Ok(request)
}
