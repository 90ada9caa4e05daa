//! An endpoint: a TCP port, a Unix socket and its file, or a socket of the service manager.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;

use crate::socket::{Peer, Socket};

use super::accept_queue::{WAITING_TIME, lengthen_accept_queue, set_accept_timeout};
use super::inherited::InheritedSocket;

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Endpoint {
    Tcp(TcpListener),
    /// For processes of this machine.
    Unix(UnixListener, SocketFile),
    Inherited(InheritedSocket),
}

/// The file of a Unix socket; removed when dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that a file that another server created at this path is not removed.
    identity: (u64, u64),
}

impl Endpoint {
    /// Listens on a path, where a killed server may have left its file. The umask excludes users without bits in
    /// `mode` from the moment the file exists.
    pub(crate) fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale(path)?;
        // The umask is that of the whole process, but no other thread that creates files runs yet.
        let before = umask(Mode::from_raw_mode(!mode & 0o777));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener?;
        lengthen_accept_queue(&listener)?;
        set_accept_timeout(&listener)?;
        // The send buffer keeps the system's default, which is not larger than the one set for TCP.
        let identity = identity(&fs::symlink_metadata(path)?);
        let path = path.to_owned();
        Ok(Self::Unix(listener, SocketFile { path, identity }))
    }

    /// Waits until a client connects. Fails with `WouldBlock` if none did in [`WAITING_TIME`].
    pub(super) fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                // Accepted sockets inherit the time-out of the listener, on Linux.
                let socket = Socket::with_read_timeout(socket, WAITING_TIME);
                Ok((socket, Peer::tcp(peer)))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept()?;
                Ok((Socket::new(socket), Peer::Unix))
            }
            Self::Inherited(socket) => socket.accept(),
        }
    }

    /// Stops accepting, and wakes a blocked accept. The path is free at once, the port when the endpoint is dropped.
    pub(crate) fn close(&self) {
        match self {
            Self::Tcp(listener) => shut_down(listener.as_fd()),
            Self::Unix(listener, file) => {
                shut_down(listener.as_fd());
                file.remove();
            }
            Self::Inherited(socket) => socket.close(),
        }
    }
}

/// Wakes a blocked accept, on Linux.
fn shut_down(listener: BorrowedFd<'_>) {
    // Fails only if it is closed already.
    rustix::net::shutdown(listener, rustix::net::Shutdown::Read).ok();
}

impl SocketFile {
    fn remove(&self) {
        let now = fs::symlink_metadata(&self.path);
        if now.is_ok_and(|now| identity(&now) == self.identity) {
            // The file may be gone by now.
            fs::remove_file(&self.path).ok();
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Removes the file of a socket without a listener, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let why = "the file exists and is not a socket; choose another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "in use; stop the server that listens there or choose another path",
        )),
    }
}
