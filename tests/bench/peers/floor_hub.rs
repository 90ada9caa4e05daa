//! The floor: one thread with epoll, and one raw non-blocking `send` per message and member.
//!
//! It speaks as much WebSocket as the load generator: rooms, a welcome, text frames and Close. It checks nothing.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use wscast::protocol::client_frames::{CLOSE, TEXT, server_frame};

use crate::servers::end_with_parent;

/// The accept key of the only `Sec-WebSocket-Key` that the load generator sends.
const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const WELCOME: &str = r#"{"type":"message","payload":"welcome","from":"server"}"#;

const LISTENER: u64 = u64::MAX;
const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;

/// Bytes that a member may lag behind. Messages beyond are not sent to it.
const QUEUE_BYTES_MAX: usize = 256 * 1024;

#[derive(Debug)]
struct Member {
    socket: TcpStream,
    /// `None` until the request is complete.
    room: Option<usize>,
    /// Its place in the list of the room.
    place: usize,
    /// Bytes of an incomplete request or frame.
    input: Vec<u8>,
    /// Bytes that the socket refused.
    queue: Vec<u8>,
}

struct FloorHub {
    epoll: OwnedFd,
    listener: TcpListener,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    room_names: HashMap<String, usize>,
    rooms: Vec<Vec<usize>>,
    /// The response to the upgrade request, and the welcome.
    greeting: Vec<u8>,
}

/// Serves until the process is killed.
pub(crate) fn serve(port: u16) -> io::Result<()> {
    end_with_parent()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut hub = FloorHub {
        epoll,
        listener,
        members: Vec::new(),
        free: Vec::new(),
        room_names: HashMap::new(),
        rooms: Vec::new(),
        greeting: [RESPONSE.as_bytes(), &server_frame(TEXT, WELCOME.as_bytes())].concat(),
    };
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        events.clear();
        match epoll::wait(&hub.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == LISTENER {
                hub.accept_all()?;
                continue;
            }
            let index = data as usize;
            if flags.contains(EventFlags::OUT) {
                hub.flush(index);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                hub.read(index, &mut scratch);
            }
        }
    }
}

impl FloorHub {
    fn accept_all(&mut self) -> io::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The client has gone already.
                Err(_) => continue,
            };
            socket.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.members.len());
            let data = EventData::new_u64(index as u64);
            epoll::add(&self.epoll, &socket, data, EventFlags::IN)?;
            let member = Some(Member {
                socket,
                room: None,
                place: 0,
                input: Vec::new(),
                queue: Vec::new(),
            });
            if index == self.members.len() {
                self.members.push(member);
            } else {
                self.members[index] = member;
            }
        }
    }

    fn read(&mut self, index: usize, scratch: &mut [u8]) {
        // An earlier event of the same batch may have removed it.
        let Some(member) = &mut self.members[index] else {
            return;
        };
        let read = match recv(&member.socket, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return self.remove(index),
            Ok((read, _)) => read,
            Err(Errno::AGAIN) => return,
            Err(_) => return self.remove(index),
        };
        let mut input = std::mem::take(&mut member.input);
        let rest = if input.is_empty() {
            self.parse(index, &mut scratch[..read]).to_vec()
        } else {
            input.extend_from_slice(&scratch[..read]);
            self.parse(index, &mut input).to_vec()
        };
        if let Some(member) = &mut self.members[index] {
            member.input = rest;
        }
    }

    /// Handles all complete requests and frames, and returns the rest.
    fn parse<'a>(&mut self, index: usize, mut input: &'a mut [u8]) -> &'a [u8] {
        loop {
            let Some(member) = &self.members[index] else {
                return &[];
            };
            let Some(room) = member.room else {
                let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return input;
                };
                let (head, rest) = input.split_at_mut(end + 4);
                self.join(index, head);
                input = rest;
                continue;
            };
            let Some((opcode, payload, end)) = unmask_frame(input) else {
                return input;
            };
            if opcode == CLOSE {
                let reply = server_frame(CLOSE, &input[payload]);
                self.send(index, &reply);
                self.remove(index);
                return &[];
            }
            if opcode == TEXT {
                let message = server_frame(TEXT, &input[payload]);
                for place in 0..self.rooms[room].len() {
                    self.send(self.rooms[room][place], &message);
                }
            }
            input = &mut input[end..];
        }
    }

    fn join(&mut self, index: usize, head: &[u8]) {
        let target = String::from_utf8_lossy(head);
        let target = target.split(' ').nth(1).unwrap_or_default();
        let name = target.split_once("room=").map_or("lobby", |(_, name)| name);
        let room = match self.room_names.get(name) {
            Some(room) => *room,
            None => {
                self.room_names.insert(name.to_owned(), self.rooms.len());
                self.rooms.push(Vec::new());
                self.rooms.len() - 1
            }
        };
        if let Some(member) = &mut self.members[index] {
            member.room = Some(room);
            member.place = self.rooms[room].len();
        }
        self.rooms[room].push(index);
        let greeting = std::mem::take(&mut self.greeting);
        self.send(index, &greeting);
        self.greeting = greeting;
    }

    /// Sends, or queues what the socket refuses.
    fn send(&mut self, index: usize, message: &[u8]) {
        let Some(member) = &mut self.members[index] else {
            return;
        };
        let sent = if member.queue.is_empty() {
            // After an error, the next read finds the connection closed.
            send_some(&member.socket, message).unwrap_or(message.len())
        } else if member.queue.len() + message.len() <= QUEUE_BYTES_MAX {
            0
        } else {
            message.len()
        };
        if sent < message.len() {
            member.queue.extend_from_slice(&message[sent..]);
            self.watch(index, EventFlags::IN | EventFlags::OUT);
        }
    }

    fn flush(&mut self, index: usize) {
        let Some(member) = &mut self.members[index] else {
            return;
        };
        let sent = send_some(&member.socket, &member.queue).unwrap_or(member.queue.len());
        member.queue.drain(..sent);
        if member.queue.is_empty() {
            member.queue = Vec::new();
            self.watch(index, EventFlags::IN);
        }
    }

    fn watch(&self, index: usize, flags: EventFlags) {
        if let Some(member) = &self.members[index] {
            let data = EventData::new_u64(index as u64);
            // Fails only for a socket that is not registered, and all are.
            epoll::modify(&self.epoll, &member.socket, data, flags).ok();
        }
    }

    fn remove(&mut self, index: usize) {
        let Some(member) = self.members[index].take() else {
            return;
        };
        self.free.push(index);
        if let Some(room) = member.room {
            self.rooms[room].swap_remove(member.place);
            let moved = self.rooms[room].get(member.place).copied();
            if let Some(moved) = moved.and_then(|index| self.members[index].as_mut()) {
                moved.place = member.place;
            }
        }
    }
}

fn send_some(socket: &TcpStream, bytes: &[u8]) -> Result<usize, Errno> {
    match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => Ok(0),
        sent => sent,
    }
}

/// Unmasks the first frame of a client. Returns its opcode, where its payload is and where it ends, or `None` if it is
/// incomplete.
fn unmask_frame(input: &mut [u8]) -> Option<(u8, std::ops::Range<usize>, usize)> {
    let (opcode, short) = (*input.first()? & 0x0F, *input.get(1)? & 0x7F);
    let (length, header) = match short {
        126 => {
            let bytes = input.get(2..4)?.try_into().ok()?;
            (usize::from(u16::from_be_bytes(bytes)), 4)
        }
        127 => {
            let bytes = input.get(2..10)?.try_into().ok()?;
            (u64::from_be_bytes(bytes) as usize, 10)
        }
        short => (usize::from(short), 2),
    };
    let payload = header + 4..header + 4 + length;
    let key: [u8; 4] = input.get(header..header + 4)?.try_into().ok()?;
    let bytes = input.get_mut(payload.clone())?;
    if key != [0; 4] {
        for (byte, key) in bytes.iter_mut().zip(key.iter().cycle()) {
            *byte ^= key;
        }
    }
    let end = payload.end;
    Some((opcode, payload, end))
}
