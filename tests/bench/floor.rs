//! What wscast is compared with: children of the benchmark that do the least the job allows.
//!
//! Both greet each connection with one frame, so that the load generator knows it was accepted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::children::end_with_parent;
use crate::frames::server_text;

/// As long as a welcome of wscast, about.
const GREETING_BYTES: usize = 190;

/// What the load generator tells [`relay`] first: clients and bytes a message, both little-endian.
pub(crate) type Announcement = [u8; 16];

pub(crate) fn announcement(clients: usize, message_bytes: usize) -> Announcement {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(clients as u64).to_le_bytes());
    bytes[8..].copy_from_slice(&(message_bytes as u64).to_le_bytes());
    bytes
}

/// The fan-out floor: one raw non-blocking `send` per client and message, and nothing else.
///
/// The first connection announces and then carries the messages, ready to be sent on as they are.
pub(crate) fn relay() -> io::Result<()> {
    let listener = listen()?;
    let (mut control, _) = listener.accept()?;
    let mut announced = Announcement::default();
    control.read_exact(&mut announced)?;
    let [clients, message_bytes] = [0, 8].map(|at| number_at(&announced, at));

    let clients = (0..clients)
        .map(|_| greeted(&listener))
        .collect::<io::Result<Vec<_>>>()?;
    let mut message = vec![0; message_bytes];
    while control.read_exact(&mut message).is_ok() {
        for client in &clients {
            send_now(client, &message)?;
        }
    }
    Ok(())
}

/// The connection floor: one std thread per socket that only blocks in a read.
pub(crate) fn idle() -> io::Result<()> {
    let listener = listen()?;
    loop {
        let mut client = greeted(&listener)?;
        thread::spawn(move || client.read(&mut [0; 16]));
    }
}

fn listen() -> io::Result<TcpListener> {
    end_with_parent()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("ws://{}/", listener.local_addr()?);
    Ok(listener)
}

fn greeted(listener: &TcpListener) -> io::Result<TcpStream> {
    let (client, _) = listener.accept()?;
    client.set_nodelay(true)?;
    send_now(&client, &server_text(GREETING_BYTES))?;
    Ok(client)
}

/// A refused or partial send waits for its client instead of losing bytes: it keeps the count honest
/// and does not happen while the load generator keeps up.
fn send_now(client: &TcpStream, message: &[u8]) -> io::Result<()> {
    let sent = match send(client, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(sent) => sent,
        Err(Errno::AGAIN) => 0,
        Err(error) => return Err(error.into()),
    };
    match &message[sent..] {
        [] => Ok(()),
        rest => (&*client).write_all(rest),
    }
}

fn number_at(bytes: &Announcement, at: usize) -> usize {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number) as usize
}
