//! What is listened on: a TCP port, or a Unix socket and its file.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::process::umask;

use crate::socket::{Peer, Socket};

/// Send buffer of a client's socket, in bytes; the kernel counts its own overhead on top. The kernel's
/// default grows to 4 MiB: a few hundred clients that do not read would fill a small host's memory, and
/// freeing it all at once would delay everyone else.
const SOCKET_SEND_BYTES: usize = 128 * 1024;

/// A socket that accepts.
#[derive(Debug)]
pub enum Listener {
    /// On a port.
    Tcp(TcpListener),
    /// On a path, for processes of this machine.
    Unix(UnixListener, SocketFile),
}

/// The file by which a Unix socket is found; dropped, it is removed.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: what another server has put in its place since is left alone.
    identity: (u64, u64),
}

impl Listener {
    /// Listens on an address and says which, since port 0 is any that is free.
    pub fn tcp(address: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        // Accepted sockets inherit it, which saves a system call for each.
        set_socket_send_buffer_size(&listener, SOCKET_SEND_BYTES)?;
        let address = listener.local_addr()?;
        Ok((Self::Tcp(listener), address))
    }

    /// Listens on a path, where a server that was killed may have left its file. Nobody can connect for
    /// whom `mode` has no bits, not even for a moment.
    pub fn unix(path: &Path, mode: u32) -> io::Result<Self> {
        remove_stale(path)?;
        // Of the whole process, but no other thread that creates files has been started yet.
        let before = umask(Mode::from_raw_mode(!mode & 0o777));
        let bound = UnixListener::bind(path);
        umask(before);
        let listener = bound?;
        // Left at the system's size, which is no more than what TCP's is set to.
        let identity = identity(&fs::symlink_metadata(path)?);
        let path = path.to_owned();
        Ok(Self::Unix(listener, SocketFile { path, identity }))
    }

    pub(super) fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                // Small frames must not wait for each other (RFC 896); without it they only come later.
                let _unsupported = socket.set_nodelay(true);
                Ok((Socket::new(socket), Peer::Tcp(peer)))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = listener.accept()?;
                Ok((Socket::new(socket), Peer::Unix))
            }
        }
    }

    /// Accepts no more. On Linux this wakes a blocked accept; a port is free once the listener is
    /// dropped, a path at once.
    pub fn retire(&self) {
        let _already = rustix::net::shutdown(self.fd(), rustix::net::Shutdown::Read);
        if let Self::Unix(_, file) = self {
            file.remove();
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl SocketFile {
    fn remove(&self) {
        let now = fs::symlink_metadata(&self.path);
        if now.is_ok_and(|now| identity(&now) == self.identity) {
            let _gone_already = fs::remove_file(&self.path);
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

/// Removes a socket that nobody listens on, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        let why = "there is something else than a socket; name another path";
        return Err(io::Error::new(ErrorKind::AlreadyExists, why));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            ErrorKind::AddrInUse,
            "in use; stop what listens there or name another path",
        )),
    }
}
