//! The floors: minimal servers that wscast is compared with. They run as child processes of the benchmark.
//!
//! Both send one greeting frame on each connection, so that the load generator knows it was accepted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::frames::server_text;
use crate::servers::end_with_parent;

/// About the length of a welcome of wscast.
const GREETING_BYTES: usize = 190;

/// The first bytes that the load generator sends to [`relay`]: the number of clients, the number of rooms and the bytes
/// of a message, all little-endian.
pub(crate) type RelaySettings = [u8; 24];

pub(crate) fn relay_settings(clients: usize, rooms: usize, message_bytes: usize) -> RelaySettings {
    let mut bytes = [0; 24];
    let numbers = [clients, rooms, message_bytes];
    for (target, number) in bytes.chunks_exact_mut(8).zip(numbers) {
        target.copy_from_slice(&(number as u64).to_le_bytes());
    }
    bytes
}

/// Runs the floor of fan-out: one non-blocking `send` per client and message, and nothing else.
///
/// The first connection carries the settings and then the messages, as complete frames. The messages go to the rooms in
/// turn; client `n` is in room `n % rooms`.
pub(crate) fn relay() -> io::Result<()> {
    let listener = listen()?;
    let (mut publisher, _) = listener.accept()?;
    let mut settings = RelaySettings::default();
    publisher.read_exact(&mut settings)?;
    let [clients, rooms, message_bytes] = [0, 8, 16].map(|at| number_at(&settings, at));

    let clients = (0..clients)
        .map(|_| accept_and_greet(&listener))
        .collect::<io::Result<Vec<_>>>()?;
    let mut message = vec![0; message_bytes];
    let mut room = 0;
    while publisher.read_exact(&mut message).is_ok() {
        for client in clients.iter().skip(room).step_by(rooms) {
            send_or_wait(client, &message)?;
        }
        room = (room + 1) % rooms;
    }
    Ok(())
}

/// Runs the floor of connections: one std thread per socket, which only blocks in a read.
pub(crate) fn idle() -> io::Result<()> {
    let listener = listen()?;
    loop {
        let mut client = accept_and_greet(&listener)?;
        thread::spawn(move || client.read(&mut [0; 16]));
    }
}

fn listen() -> io::Result<TcpListener> {
    end_with_parent()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("ws://{}/", listener.local_addr()?);
    Ok(listener)
}

fn accept_and_greet(listener: &TcpListener) -> io::Result<TcpStream> {
    let (client, _) = listener.accept()?;
    client.set_nodelay(true)?;
    send_or_wait(&client, &server_text(GREETING_BYTES))?;
    Ok(client)
}

/// Sends without blocking if it can. Otherwise waits for the client, so that no bytes are lost. That does not happen
/// while the load generator keeps up.
fn send_or_wait(client: &TcpStream, message: &[u8]) -> io::Result<()> {
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

fn number_at(bytes: &RelaySettings, at: usize) -> usize {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number) as usize
}
