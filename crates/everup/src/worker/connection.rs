//! A connection that is counted while it is open.

#[cfg(feature = "tokio")]
use super::idle::Idle;
use super::link::Link;
use std::io::{self, IoSlice, Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// A connection: `S` is the stream itself, of tokio (from `accept`) or of std (from `accept_blocking`), and this gives
/// all that it has. The primary hears when this is dropped, so that `least-connections` counts what is really open.
///
/// When the worker drains, `poll_shutdown` on a connection of HTTP/1 does nothing, unless the end was announced by
/// `connection: close`: it is closed when this is dropped, and a request that is on its way goes to another worker. That
/// needs reads and writes through this, not through what it dereferences to.
#[derive(Debug)]
pub struct Connection<S> {
    io: S,
    open: Open,
    #[cfg(feature = "tokio")]
    idle: Idle,
}

/// Counts as one open connection until it is dropped.
#[derive(Debug)]
pub struct Open {
    link: Arc<Link>,
    handed_over: bool,
    /// Nothing was read yet.
    fresh: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.link.ended(self.handed_over, self.fresh);
    }
}

impl Open {
    pub(super) fn new(link: &Arc<Link>, handed_over: bool) -> Self {
        Self {
            link: Arc::clone(link),
            handed_over,
            fresh: true,
        }
    }

    /// The app has read, or at least has the bare stream.
    fn touched(&mut self) {
        if std::mem::take(&mut self.fresh) {
            self.link.read_from();
        }
    }
}

impl<S> Connection<S> {
    pub(super) fn new(io: S, open: Open) -> Self {
        Self {
            io,
            open,
            #[cfg(feature = "tokio")]
            idle: Idle::default(),
        }
    }

    #[cfg(feature = "tokio")]
    fn draining(&self) -> bool {
        self.open.link.copies_are_held()
    }

    /// The stream, and what counts it: for libraries that want the bare thing. Keep the latter as long as the former is
    /// open; dropping it says that the connection has ended.
    #[must_use = "dropping what counts the connection says that it has ended"]
    pub fn into_parts(mut self) -> (S, Open) {
        self.open.touched();
        (self.io, self.open)
    }
}

impl<S> Deref for Connection<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.io
    }
}

impl<S> DerefMut for Connection<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.io
    }
}

impl<S: AsFd> AsFd for Connection<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<S: Read> Read for Connection<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.io.read(buffer);
        self.open.touched();
        read
    }
}

impl<S: Write> Write for Connection<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.io.write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        self.io.write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.io.flush()
    }
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use super::Connection;
    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let before = buffer.filled().len();
            let read = Pin::new(&mut self.io).poll_read(context, buffer);
            if read.is_ready() {
                self.idle.read(&buffer.filled()[before..]);
                self.open.touched();
            }
            read
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.idle.write(bytes);
            Pin::new(&mut self.io).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.io).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.draining() && self.idle.may_end_unsaid() {
                return Poll::Ready(Ok(()));
            }
            Pin::new(&mut self.io).poll_shutdown(context)
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let first = bytes.first().map_or(&[][..], |slice| slice);
            self.idle.write(first);
            Pin::new(&mut self.io).poll_write_vectored(context, bytes)
        }

        fn is_write_vectored(&self) -> bool {
            self.io.is_write_vectored()
        }
    }
}

#[cfg(feature = "hyper")]
mod hyper_io {
    use super::Connection;
    use hyper::rt::{Read, ReadBufCursor, Write};
    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// What is read at once: on the stack, as hyper's buffer is not initialised and safe code cannot lend it.
    const READ: usize = 16 * 1024;

    impl<S: AsyncRead + Unpin> Read for Connection<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            mut buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            let mut space = [0; READ];
            let room = buffer.remaining().min(READ);
            let mut read = ReadBuf::new(&mut space[..room]);
            ready!(AsyncRead::poll_read(self.as_mut(), context, &mut read))?;
            buffer.put_slice(read.filled());
            Poll::Ready(Ok(()))
        }
    }

    impl<S: AsyncWrite + Unpin> Write for Connection<S> {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            AsyncWrite::poll_write(self, context, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            AsyncWrite::poll_flush(self, context)
        }

        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            AsyncWrite::poll_shutdown(self, context)
        }

        fn is_write_vectored(&self) -> bool {
            self.io.is_write_vectored()
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            AsyncWrite::poll_write_vectored(self, context, bytes)
        }
    }
}
